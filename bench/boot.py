#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Time from exec to the guest's first userspace line, several monitors in the same host in turn.

    boot.py [--kernel NAME] [--image vmlinuz|vmlinux] [--rounds N] [--ebb PROGRAM]
            [--monitor NAME=COMMAND]... [--json FILE]

Without --monitor: QEMU's microvm and pc machines, and ebb when its program is given. microvm comes
twice, as it is and with the clock that it lacks by default: a stock kernel spends seconds looking
for one, and a monitor that has a clock should not win by that alone. In a COMMAND,
{dir} is the host's folder (the fetched QEMU is {dir}/qemu/run, ebb {dir}/ebb) and {boot} the common
words: -kernel, -initrd and -append. Every monitor has to put the guest's first serial port on its
standard streams.

Each round starts every monitor once, in turn, so that a slow moment of the machine hits all alike;
the first round only warms the host's caches and is not counted. The table gives the medians and
their ratio to each of QEMU's machines (or, with --monitor, to the first). Where the host is emulated, only ratios mean anything.
"""

import argparse
import json
import pathlib
import shlex
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools" / "nest"))

import ebbcache  # noqa: E402  (the folder is only known now)
import initrd  # noqa: E402
import nest  # noqa: E402

FIRST_LINE_TIMEOUT_S = 180
APPEND = "console=ttyS0 quiet panic=-1"
QEMU = (
    "{dir}/qemu/run -accel kvm -cpu host -m 1G -smp 1 -nodefaults -no-user-config "
    "-display none -no-reboot "
)
MONITORS = {
    "microvm": QEMU + "-machine microvm -serial stdio {boot}",
    "microvm-rtc": QEMU + "-machine microvm,rtc=on -serial stdio {boot}",
    "pc": QEMU + "-machine pc -serial stdio {boot}",
}
EBB = (
    "{dir}/ebb --enable-kvm -m 1G -smp 1 -machine pc -nodefaults -display none -no-reboot "
    "-chardev stdio,id=serial -device isa-serial,chardev=serial {boot}"
)


def boot_once(host, name, words):
    """Start a monitor, wait for its guest's first line, end it; returns the seconds."""
    begin = time.monotonic()
    monitor = host.spawn(name, words)
    nest.GuestConsole(monitor).ready(FIRST_LINE_TIMEOUT_S)
    seconds = time.monotonic() - begin
    monitor.kill()
    monitor.wait(30)
    return seconds


def expand(host, command):
    """The words of a COMMAND with {dir} and {boot} filled in."""
    boot = ["-kernel", host.path("kernel"), "-initrd", host.path("initrd"), "-append", APPEND]
    words = []
    for word in shlex.split(command):
        words += boot if word == "{boot}" else [word.replace("{dir}", host.dir)]
    return words


def measure(host, commands, rounds):
    """Run ROUNDS rounds after a warming one: {name: [seconds...]}."""
    times = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            seconds = boot_once(host, name, expand(host, command))
            if turn:
                times[name].append(seconds)
                print(f"round {turn}: {name} {seconds:.2f} s", flush=True)
    return times


def host_files(kernel, image, initrd_path):
    """What a host needs for the monitors here: QEMU, the kernel's IMAGE, a guest's disk."""
    return {
        "qemu": ebbcache.part_dir("qemu"),
        "kernel": ebbcache.kernel_dir(kernel) / image,
        "initrd": initrd_path,
    }


def report(times):
    """Print the table of medians and ratios."""
    medians = {name: statistics.median(values) for name, values in times.items()}
    bases = [name for name in medians if name in MONITORS] or list(medians)[:1]
    heads = "".join(f" {'to ' + base:>14}" for base in bases)
    print(f"{'monitor':<12} {'median s':>9} {'min':>7} {'max':>7}{heads}")
    for name, median in medians.items():
        low, high = min(times[name]), max(times[name])
        ratios = "".join(f" {median / medians[base]:>14.2f}" for base in bases)
        print(f"{name:<12} {median:>9.2f} {low:>7.2f} {high:>7.2f}{ratios}")


def run(args, commands, tmp):
    """Boot a host with what the monitors need and measure in it."""
    image = f"{tmp}/initrd"
    initrd.build_guest(args.kernel, image)
    files = host_files(args.kernel, args.image, image)
    programs = {"ebb": args.ebb} if args.ebb else {}
    with nest.open_host(files=files, programs=programs) as host:
        return measure(host, commands, args.rounds)


def main():
    parser = argparse.ArgumentParser(description="Compare boot times of monitors.")
    parser.add_argument("--kernel", default="6.12-cloud", choices=sorted(ebbcache.KERNELS))
    parser.add_argument("--image", default="vmlinuz", choices=("vmlinuz", "vmlinux"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ebb", help="the ebb program to measure")
    parser.add_argument("--monitor", action="append", type=initrd.pair, default=[])
    parser.add_argument("--json", help="write all times to this file")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds {args.rounds}: must be at least 1")
    commands = dict(args.monitor) or dict(MONITORS)
    if args.ebb and not args.monitor:
        commands["ebb"] = EBB
    with tempfile.TemporaryDirectory(prefix="ebb-bench-") as tmp:
        times = nest.retry_infra(lambda: run(args, commands, tmp))
    report(times)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(times, indent=1) + "\n")


if __name__ == "__main__":
    main()
