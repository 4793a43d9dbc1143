#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What a guest can take of the memory that it was not given, under ebb and under QEMU.

    attack.py --ebb PROGRAM [--kernel NAME] [--gib N] [--step BYTES] [--monitor NAME...]
              [--json FILE]

The same stock guest in the same host under each monitor: a device of N GiB of which the guest got
PLUGGED_MIB, and a kernel module that stores to every page of the rest, as to ordinary memory. Then
the device is resized to 0. The columns:

    attacked    MiB that the guest's kernel knows are not plugged, and the module stored to
    kept        of them, MiB that held what was stored when read back after all of them
    held        MiB of the device's memory that the host holds then, beyond what is plugged
    after 0     MiB that it holds after the resize to 0, and
    kept        MiB in which the guest still finds what it stored
    told        what the monitor said meanwhile: of the device's size, and of the attack

What is held is read from the host's /proc/PID/smaps. Nothing here is a time, so an emulated host
serves as well as any; but a store that the monitor stops takes some tenths of a millisecond there,
which makes minutes for every page. With --step, one store each BYTES counts for as much; what the
host holds is then less than could be taken.
"""

import argparse
import json
import pathlib
import re
import sys
import tempfile
import time
import typing

ROOT = pathlib.Path(__file__).resolve().parent.parent
for room in ("tools/nest", "tools/demo", "tests/linux/attack"):
    sys.path.insert(0, str(ROOT / room))

import attack  # noqa: E402  (the folders are only known now)
import ebbcache  # noqa: E402
import initrd  # noqa: E402
import nest  # noqa: E402
import scenario  # noqa: E402

MIB = 1 << 20
PLUGGED_MIB = 2
RESIZE_TIMEOUT_S = 180
APPEND = "console=ttyS0 quiet panic=-1 memhp_default_state=online_movable"
MONITORS = {
    "ebb guard=on": ("ebb", ",guard=on"),
    "ebb guard=off": ("ebb", ",guard=off"),
    "QEMU dynamic-memslots=off": ("qemu/run", ",dynamic-memslots=off"),
    "QEMU dynamic-memslots=on": ("qemu/run", ",dynamic-memslots=on,unplugged-inaccessible=on"),
}


class Found(typing.NamedTuple):
    """A row of the table; MiB, but for what the monitor told."""

    attacked: float
    kept: float
    held: float
    held_after: float
    kept_after: float
    size_told: float
    violations: typing.Optional[int]


def words(host, monitor, gib):
    """The monitor's command line. Boot memory has a size that the device's memory has not."""
    program, option = MONITORS[monitor]
    found = [host.path(program), "-accel", "kvm", "-cpu", "host", "-machine", "pc", "-smp", "2"]
    found += ["-m", f"768M,maxmem={gib + 2}G", "-nodefaults", "-display", "none", "-no-reboot"]
    found += ["-chardev", "stdio,id=serial", "-device", "isa-serial,chardev=serial"]
    found += ["-chardev", f"socket,id=mon,path={host.path('mon')},server=on,wait=off"]
    found += ["-mon", "chardev=mon,mode=readline"]
    found += ["-object", f"memory-backend-ram,id=mem0,size={gib}G,reserve=off"]
    device = f"virtio-mem-pci,id=reg0,memdev=mem0,block-size=2M,requested-size={PLUGGED_MIB}M"
    found += ["-device", device + option, "-append", APPEND]
    return found + ["-kernel", host.path("vmlinuz"), "-initrd", host.path("initrd")]


def device(host):
    """The device as "info memory-devices" has it."""
    return scenario.parse_devices(host.hmp(host.path("mon"), "info memory-devices"))["reg0"]


def await_size(host, size):
    """Wait until the monitor says that SIZE bytes are plugged."""
    begin = time.monotonic()
    while device(host).size != size:
        if time.monotonic() - begin > RESIZE_TIMEOUT_S:
            raise nest.NestTimeout(f"the device has {device(host).size} bytes, not {size}")
        time.sleep(scenario.LOOK_EVERY_S)


def violations(host, monitor):
    """How many writes the monitor counted, or None when it does not count."""
    if MONITORS[monitor][0] != "ebb":
        return None
    text = host.hmp(host.path("mon"), "info virtio-mem reg0")
    match = re.search(r"^Violations: (\d+) writes", text, re.M)
    return int(match[1]) if match else None


def attack_one(host, monitor, gib, step):
    """Boot, attack, resize to 0; returns a Found."""
    size = gib << 30
    step_mib = step / MIB
    process = host.spawn(monitor, nest.with_log(words(host, monitor, gib), host.path("log")))
    guest = nest.GuestConsole(process)
    guest.login(240)
    await_size(host, PLUGGED_MIB * MIB)
    start = device(host).memaddr
    attacker = attack.Attacker(guest)
    attacker.await_unused(start, size, size - PLUGGED_MIB * MIB)
    written = attacker.write(start, size, step)
    held = attack.memory_held(host, process.pid, size).resident - PLUGGED_MIB * MIB
    told = device(host).size
    host.hmp(
        host.path("mon"),
        "virtio-mem reg0 0" if MONITORS[monitor][0] == "ebb" else "qom-set reg0 requested-size 0",
    )
    await_size(host, 0)
    attacker.await_unused(start, size, size)
    after = attack.memory_held(host, process.pid, size).resident
    kept_after = attacker.check(start, size, step)["kept"]
    found = Found(
        written["stored"] * step_mib,
        written["kept"] * step_mib,
        max(held, 0) / MIB,
        after / MIB,
        kept_after * step_mib,
        told / MIB,
        violations(host, monitor),
    )
    process.kill()
    process.wait(60)
    host.run(f"rm -f '{host.path('mon')}'")
    return found


def measure(args, tmp):
    """{monitor: Found}, all in one host."""
    image = f"{tmp}/initrd"
    initrd.build_guest(args.kernel, image, files=attack.guest_files(args.kernel))
    files = {
        "qemu": ebbcache.part_dir("qemu"),
        "vmlinuz": ebbcache.kernel_dir(args.kernel) / "vmlinuz",
        "initrd": image,
    }
    found = {}
    with nest.open_host(files=files, programs={"ebb": args.ebb}) as host:
        for monitor in args.monitor or MONITORS:
            begin = time.monotonic()
            found[monitor] = attack_one(host, monitor, args.gib, args.step)
            print(f"{monitor}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
    return found


def report(found, gib):
    """Print the table."""
    print(f"{PLUGGED_MIB} MiB of {gib} GiB plugged; all figures in MiB")
    print(f"{'':<28} {'':>8} {'---- attacked ----':>18} {'-- after 0 --':>17}")
    heads = ("attacked", "kept", "held", "held", "kept")
    print(f"{'monitor':<28}" + "".join(f" {head:>8}" for head in heads) + "   told")
    for monitor, row in found.items():
        figures = (row.attacked, row.kept, row.held, row.held_after, row.kept_after)
        told = f"size {row.size_told:.0f}"
        if row.violations is not None:
            told += f", {row.violations} stores seen"
        print(f"{monitor:<28}" + "".join(f" {figure:>8.1f}" for figure in figures) + f"   {told}")


def main():
    parser = argparse.ArgumentParser(description="Compare what a guest can take.")
    parser.add_argument("--ebb", required=True, help="the ebb program to attack")
    parser.add_argument("--kernel", default="6.12-cloud", choices=ebbcache.HEADERS)
    parser.add_argument("--gib", type=int, default=1, help="size of the device")
    parser.add_argument("--step", type=int, default=attack.PAGE, help="bytes; 4096 is every page")
    parser.add_argument("--monitor", action="append", choices=list(MONITORS))
    parser.add_argument("--json", help="write all figures to this file")
    args = parser.parse_args()
    if not 1 <= args.gib <= 4:
        parser.error("--gib must be between 1 and 4")
    if args.step % attack.PAGE or not attack.PAGE <= args.step <= PLUGGED_MIB * MIB:
        parser.error(f"--step {args.step}: must be a multiple of {attack.PAGE}, at most 2 MiB")
    with tempfile.TemporaryDirectory(prefix="ebb-bench-") as tmp:
        found = nest.retry_infra(lambda: measure(args, tmp))
    report(found, args.gib)
    if args.json:
        rows = {monitor: row._asdict() for monitor, row in found.items()}
        pathlib.Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
