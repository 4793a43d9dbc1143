#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Our guest driver, ebb_mem, against the kernel's own, virtio_mem, in the same guest, in turn.

    driver.py --ebb PROGRAM [--monitor ebb|qemu] [--kernel NAME] [--gib N] [--fill MIB] [--rounds N]
              [--case NAME]... [--json FILE]

One host, one image, one processor, 2 GiB of boot memory, a device of N GiB. Each case boots the
guest with one driver, then with the other:

    idle       0 -> N GiB -> 0, nothing else going on; then once more beside a program that notes
               when it does not get to run (stall.c)
    movable    memory as it is after a while of use (fragment.c), all of it movable: N GiB -> 0
    kernel     the same where the kernel may use the new memory too: some of it cannot be given back

Times are from asking until the monitor says that the guest is there; where it does not get there,
until the last change. "peak" is the host memory that the shrink itself took at most: Debian's
kernels clear what a driver takes out of use page by page, and so have it made. Where the host is
emulated, only the ratios mean anything.
"""

import argparse
import json
import pathlib
import re
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools" / "nest"))

import built  # noqa: E402  (the folder is only known now)
import ebbcache  # noqa: E402
import initrd  # noqa: E402
import nest  # noqa: E402

MIB, GIB = 1 << 20, 1 << 30
PACE_S = 0.05
STILL_S = 10  # nothing changed for so long: the guest gave what it could
RESIZE_TIMEOUT_S = 240
KEEP = 16  # one page in so many is left by fragment.c
DRIVERS = ("virtio_mem", "ebb_mem")
CASES = ("idle", "movable", "kernel")
STALL = r"seconds ([\d.]+) lost ([\d.]+) longest ([\d.]+) over10ms (\d+)"


class Run:
    """A guest with one of the drivers, nothing plugged. Leave it as a context."""

    def __init__(self, host, args, driver, online):
        self.host = host
        self.sock = host.path("monitor.sock")
        append = f"console=ttyS0 quiet panic=-1 memhp_default_state={online}"
        stock = driver == DRIVERS[0]
        append += f" module_blacklist={DRIVERS[1]}" if stock else ""
        words = [host.path({"ebb": "ebb", "qemu": "qemu/run"}[args.monitor]), "-accel", "kvm"]
        words += ["-machine", "pc", "-m", "2G,maxmem=34G", "-cpu", "host", "-nodefaults"]
        words += ["-display", "none", "-no-reboot", "-chardev", "stdio,id=serial"]
        words += ["-device", "isa-serial,chardev=serial", "-kernel", host.path("vmlinuz")]
        words += ["-initrd", host.path("initrd"), "-append", append]
        words += ["-object", f"memory-backend-ram,id=mem0,size={args.gib}G,reserve=off"]
        words += ["-device", "virtio-mem-pci,id=reg0,memdev=mem0,requested-size=0"]
        words += ["-chardev", f"socket,id=mon,path={self.sock},server=on,wait=off"]
        self.monitor = host.spawn("monitor", [*words, "-mon", "chardev=mon,mode=readline"])
        self.guest = nest.GuestConsole(self.monitor)
        self.guest.login(180)
        if stock:
            self.run(f"insmod /{initrd.STOCK_DRIVER}")
        if f"{driver} " not in self.run("lsmod"):
            raise nest.CommandFailed(f"the guest does not have {driver}")

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None and issubclass(kind, nest.NestInfraError):
            return  # nothing can be asked of the host any more
        self.monitor.kill()
        self.monitor.wait(60)

    def run(self, command, timeout=60):
        done = self.guest.run(command, timeout)
        if done.status != 0:
            raise nest.CommandFailed(f"{command}: {done.output}")
        return done.output

    def size(self):
        text = self.host.hmp(self.sock, "info memory-devices")
        return int(re.search(r"^\s+size: (\d+)$", text, re.M).group(1))

    def resize(self, size):
        """(seconds, what is plugged then, how far the host's memory for the guest rose)"""
        pid = self.monitor.pid
        before = self.host.rss_bytes(pid)
        self.host.write_file(f"/proc/{pid}/clear_refs", b"5")  # the highest is to be the present
        begin = changed = time.monotonic()
        self.host.hmp(self.sock, f"qom-set reg0 requested-size {size // MIB}M")
        last = None
        while last != size and time.monotonic() - changed < STILL_S:
            # At the same pace for both: each look takes of the host's one processor.
            time.sleep(PACE_S)
            now = self.size()
            if now != last:
                last, changed = now, time.monotonic()
            if changed - begin > RESIZE_TIMEOUT_S:
                raise nest.NestTimeout(f"{last // MIB} MiB instead of {size // MIB}, and no end")
        status = self.host.read_file(f"/proc/{pid}/status").decode()
        peak = int(re.search(r"^VmHWM:\s+(\d+)", status, re.M).group(1)) * 1024
        return changed - begin, last, max(0, peak - before)


def idle(run, args):
    """Grow and shrink twice."""
    found = {}
    found["grow s"], size, _ = run.resize(args.gib * GIB)
    if size != args.gib * GIB:
        raise nest.CommandFailed(f"the guest took {size // MIB} MiB only")
    found["shrink s"], left, peak = run.resize(0)
    found["left MiB"], found["peak MiB"] = left // MIB, peak // MIB
    run.run("stall /tmp/stall & stall=$!")
    for size in (args.gib * GIB, 0):
        run.resize(size)
    text = run.run("kill $stall; wait $stall; cat /tmp/stall")
    _, lost, longest, _ = re.search(STALL, text).groups()
    found["lost s"], found["longest stall ms"] = float(lost), float(longest)
    return found


def fragmented(run, args):
    """Grow, use the memory for a while, shrink."""
    run.resize(args.gib * GIB)
    run.run("mkdir /frag && mount -t ramfs frag /frag")
    run.run(
        f"fragment {args.fill} {KEEP} /frag >/tmp/said 2>&1 & "
        "until grep -q fragment /tmp/said; do sleep 1; done; cat /tmp/said; ! grep -q : /tmp/said",
        900,
    )
    found = {}
    found["shrink s"], left, peak = run.resize(0)
    found["left MiB"], found["peak MiB"] = left // MIB, peak // MIB
    return found


def one(host, args, case, driver):
    online = "online" if case == "kernel" else "online_movable"
    with Run(host, args, driver, online) as run:
        return idle(run, args) if case == "idle" else fragmented(run, args)


def measure(args, tmp):
    """All rounds in one host: {(case, driver): [{figure: value}...]}."""
    programs = {f"bin/{n}": built.program(ROOT / "bench" / f"{n}.c") for n in ("stall", "fragment")}
    driver = args.module or built.driver_module(args.kernel)
    initrd.build_guest(args.kernel, f"{tmp}/initrd", files=programs, driver=driver)
    files = {
        "qemu": ebbcache.part_dir("qemu"),
        "vmlinuz": ebbcache.kernel_dir(args.kernel) / "vmlinuz",
        "initrd": f"{tmp}/initrd",
    }
    found = {(case, driver): [] for case in args.case for driver in args.drivers}
    with nest.open_host(files=files, programs={"ebb": args.ebb}, memory="12G") as host:
        for turn in range(args.rounds):
            for case in args.case:
                # Nobody is always the first.
                for driver in args.drivers[:: 1 if turn % 2 == 0 else -1]:
                    figures = one(host, args, case, driver)
                    found[case, driver].append(figures)
                    words = ", ".join(f"{k} {v:.2f}" for k, v in figures.items())
                    print(f"round {turn + 1}: {case}: {driver}: {words}", flush=True)
    return found


def report(found, args):
    """Print medians and the ratios of ebb_mem to virtio_mem."""
    print(f"{'':<26}" + "".join(f"{d:>12}" for d in args.drivers) + f"{'ratio':>8}   (medians)")
    for case in args.case:
        for figure in found[case, args.drivers[0]][0]:
            values = [
                statistics.median(r[figure] for r in found[case, d]) for d in args.drivers
            ]
            ratio = f"{values[-1] / values[0]:>8.2f}" if values[0] else f"{'':>8}"
            shown = "".join(f"{v:>12.2f}" for v in values)
            print(f"{case + ': ' + figure:<26}{shown}{ratio}")


def main():
    parser = argparse.ArgumentParser(description="Compare two drivers of virtio-mem in a guest.")
    parser.add_argument("--ebb", required=True, help="the ebb program")
    parser.add_argument("--monitor", default="ebb", choices=("ebb", "qemu"))
    parser.add_argument("--kernel", default="6.12-cloud", choices=sorted(ebbcache.HEADERS))
    parser.add_argument("--module", help="the module ebb_mem, instead of building it")
    parser.add_argument("--gib", type=int, default=8)
    parser.add_argument("--fill", type=int, default=3072, help="MiB to use before a shrink")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument("--driver", action="append", dest="drivers", choices=DRIVERS)
    parser.add_argument("--json", help="write all figures to this file")
    args = parser.parse_args()
    if args.rounds < 1 or not 1 <= args.gib <= 32 or not 64 <= args.fill <= args.gib * 1024:
        parser.error("--rounds must be at least 1, --gib 1 to 32, --fill 64 to all of the device")
    args.case = args.case or list(CASES)
    args.drivers = args.drivers or list(DRIVERS)
    with tempfile.TemporaryDirectory(prefix="ebb-bench-") as tmp:
        found = nest.retry_infra(lambda: measure(args, tmp))
    report(found, args)
    if args.json:
        rows = {f"{case} {driver}": rounds for (case, driver), rounds in found.items()}
        pathlib.Path(args.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
