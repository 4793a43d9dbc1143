#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Time for a stock guest to grow and to shrink by virtio-mem, under ebb and under QEMU in turn.

    resize.py --ebb PROGRAM [--kernel NAME] [--gib N] [--rounds N] [--json FILE]

Both monitors run the same guest in the same host: 2 GiB of boot memory, one device of N GiB that
starts with 0, the upstream driver. A round boots each monitor once, asks for N GiB, waits until its
monitor says that the guest has them, asks for 0 and waits again. The first round only warms the
host's caches. Where the host is emulated, only the ratios mean anything.
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

import ebbcache  # noqa: E402  (the folder is only known now)
import initrd  # noqa: E402
import nest  # noqa: E402

GIB = 1 << 30
PACE_S = 0.1
RESIZE_TIMEOUT_S = 180
# Movable memory, so that all of it can be given back.
APPEND = "console=ttyS0 quiet panic=-1 memhp_default_state=online_movable"


def common(host):
    """What both monitors are given, in the spelling that both know."""
    words = ["-machine", "pc", "-m", "2G,maxmem=34G", "-smp", "2", "-cpu", "host", "-nodefaults"]
    words += ["-display", "none", "-no-reboot", "-chardev", "stdio,id=serial"]
    words += ["-device", "isa-serial,chardev=serial", "-kernel", host.path("vmlinuz")]
    return words + ["-initrd", host.path("initrd"), "-append", APPEND]


def commands(host, gib):
    """The two monitors' command lines, but for the monitor's socket."""
    device = "virtio-mem-pci,id=reg0,memdev=mem0,requested-size=0"
    backend = f"memory-backend-ram,id=mem0,size={gib}G"
    memory = ["-object", backend + ",reserve=off", "-device", device]
    return {
        "qemu": [host.path("qemu/run"), "-accel", "kvm", *common(host), *memory],
        "ebb": [host.path("ebb"), "-accel", "kvm", *common(host), *memory],
    }


def ask(host, sock, name, gib):
    """Ask for another size in the monitor's own words."""
    if name == "ebb":
        host.hmp(sock, f"virtio-mem reg0 {gib}G")
    else:
        host.hmp(sock, f"qom-set reg0 requested-size {gib}G")


def resize(host, sock, name, gib):
    """Seconds from asking until the monitor says that the guest has just this much."""
    begin = time.monotonic()
    ask(host, sock, name, gib)
    while True:
        # At the same pace for both: whoever answers faster is not asked more often, which would
        # take more of the host's one processor from its guest.
        time.sleep(PACE_S)
        text = host.hmp(sock, "info memory-devices")
        seconds = time.monotonic() - begin
        size = int(re.search(r"^\s+size: (\d+)$", text, re.M).group(1))
        if size == gib * GIB:
            return seconds
        if seconds > RESIZE_TIMEOUT_S:
            raise nest.NestTimeout(f"{name}: {size >> 20} MiB of {gib} GiB after {seconds:.0f} s")


def one_round(host, name, words, gib):
    """Boot, grow, shrink, end; returns (grow, shrink) in seconds."""
    sock = host.path(f"{name}.sock")
    words = words + ["-chardev", f"socket,id=mon,path={sock},server=on,wait=off"]
    monitor = host.spawn(name, [*words, "-mon", "chardev=mon,mode=readline"])
    guest = nest.GuestConsole(monitor)
    guest.login(180)
    times = resize(host, sock, name, gib), resize(host, sock, name, 0)
    monitor.kill()
    monitor.wait(30)
    return times


def measure(args, tmp):
    """All rounds in one host: {monitor: [(grow, shrink)...]}."""
    image = f"{tmp}/initrd"
    initrd.build_guest(args.kernel, image)
    files = {
        "qemu": ebbcache.part_dir("qemu"),
        "vmlinuz": ebbcache.kernel_dir(args.kernel) / "vmlinuz",
        "initrd": image,
    }
    times = {"qemu": [], "ebb": []}
    with nest.open_host(files=files, programs={"ebb": args.ebb}) as host:
        for turn in range(args.rounds + 1):
            for name, words in commands(host, args.gib).items():
                grow, shrink = one_round(host, name, words, args.gib)
                if turn:
                    times[name].append((grow, shrink))
                    print(f"round {turn}: {name} grow {grow:.2f} s, shrink {shrink:.2f} s", flush=True)
    return times


def report(times, gib):
    """Print medians and the ratios of ebb to QEMU."""
    medians = {name: [statistics.median(t) for t in zip(*rounds)] for name, rounds in times.items()}
    print(f"{'monitor':<8} {f'0 -> {gib} GiB':>12} {f'{gib} GiB -> 0':>12}   (median seconds)")
    for name, (grow, shrink) in medians.items():
        print(f"{name:<8} {grow:>12.2f} {shrink:>12.2f}")
    ratios = [e / q for e, q in zip(medians["ebb"], medians["qemu"])]
    print(f"{'ratio':<8} {ratios[0]:>12.2f} {ratios[1]:>12.2f}")


def main():
    parser = argparse.ArgumentParser(description="Compare resizes by virtio-mem.")
    parser.add_argument("--ebb", required=True, help="the ebb program to measure")
    parser.add_argument("--kernel", default="6.12-cloud", choices=sorted(ebbcache.KERNELS))
    parser.add_argument("--gib", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="write all times to this file")
    args = parser.parse_args()
    if args.rounds < 1 or not 1 <= args.gib <= 32:
        parser.error("--rounds must be at least 1, --gib between 1 and 32")
    with tempfile.TemporaryDirectory(prefix="ebb-bench-") as tmp:
        times = nest.retry_infra(lambda: measure(args, tmp))
    report(times, args.gib)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(times, indent=1) + "\n")


if __name__ == "__main__":
    main()
