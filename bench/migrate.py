#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Bytes and seconds of a migration of a stock guest, and of a start from a file, under ebb and under
QEMU in turn.

    migrate.py --ebb PROGRAM [--kernel NAME] [--rounds N] [--json FILE]

Both monitors move the same guest in the same host, over a Unix socket and with no limit of bandwidth:
1 GiB of boot memory, two processors.

    plain      it rests; there is no memory device
    unplugged  it rests; there is a device of 64 GiB of which nothing is plugged
    plugged    it rests; 2 GiB of the device are plugged, and not used
    dirty      a program changes 32 MiB of its memory all the time

Then it is saved to a file, and started from there: the time to the first word of the guest. ebb does
that with exec: as QEMU does, and with file:. The first round only warms the host's caches. Where the
host is emulated, only the ratios mean anything.
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

PACE_S = 0.1
TIMEOUT_S = 300
DIRTY_MIB = 32
APPEND = "console=ttyS0 quiet panic=-1 memhp_default_state=online_movable"
# case -> (is there a device, what of it is asked for, is memory changed)
CASES = {
    "plain": (False, 0, False),
    "unplugged": (True, 0, False),
    "plugged": (True, 2048, False),
    "dirty": (False, 0, True),
}
FIGURES = ("transferred ram", "total time", "downtime")
UNITS = ("KiB", "ms", "ms")


class Monitor:
    """A monitor of the name NAME with a guest; MORE words of the command line."""

    numbers = iter(range(1 << 30))

    def __init__(self, host, name, case, more=()):
        device, requested_mib, self.dirty = CASES[case]
        self.host, self.name = host, name
        self.socket = host.path(f"mon{next(self.numbers)}")
        words = [host.path("qemu/run" if name == "qemu" else "ebb"), "-accel", "kvm"]
        words += ["-machine", "pc", "-m", "1G,maxmem=80G", "-smp", "2", "-cpu", "host"]
        words += ["-nodefaults", "-display", "none", "-kernel", host.path("vmlinuz")]
        words += ["-initrd", host.path("initrd"), "-append", APPEND]
        words += ["-chardev", "stdio,id=serial", "-device", "isa-serial,chardev=serial"]
        words += ["-chardev", f"socket,id=mon,path={self.socket},server=on,wait=off"]
        words += ["-mon", "chardev=mon,mode=readline"]
        if device:
            words += ["-object", "memory-backend-ram,id=mem0,size=64G,reserve=off"]
            words += ["-device", "virtio-mem-pci,id=reg0,memdev=mem0,requested-size=0"]
        self.requested_mib = requested_mib
        self.process = host.spawn(name, [*words, *more])
        self.console = nest.GuestConsole(self.process)

    def hmp(self, command):
        return self.host.hmp(self.socket, command, TIMEOUT_S)

    def await_text(self, command, pattern):
        """Ask again, at one pace for both monitors, until the answer says so; the answer."""
        begin = time.monotonic()
        while not re.search(pattern, text := self.hmp(command), re.M):
            if time.monotonic() - begin > TIMEOUT_S:
                raise nest.NestTimeout(f"{self.name}: {command}: {text}")
            time.sleep(PACE_S)
        return text

    def boot(self):
        self.console.login(TIMEOUT_S)
        if self.requested_mib:
            self.hmp(f"qom-set reg0 requested-size {self.requested_mib}M")
            size = self.requested_mib << 20
            self.await_text("info memory-devices", rf"^\s+size: {size}$")
        if self.dirty:
            self.console.run(f"(dirty {DIRTY_MIB} /tmp/dirty &)")
        self.hmp("migrate_set_parameter max-bandwidth 1T")

    def migrate(self, uri):
        """{figure: value} of a migration that has completed."""
        self.hmp(f'migrate -d "{uri}"')
        text = self.await_text("info migrate", r"^Migration status: (completed|failed)")
        if "completed" not in text:
            raise nest.CommandFailed(f"{self.name}: {text}")
        return {
            figure: int(re.search(rf"^{figure}: (\d+)", text, re.M)[1]) for figure in FIGURES
        }

    def end(self):
        self.process.kill()
        self.process.wait(60)


def move(host, name, case):
    """The figures of one migration."""
    way = host.path("way")
    source = Monitor(host, name, case)
    source.boot()
    target = Monitor(host, name, case, ["-incoming", f"unix:{way}"])
    target.hmp("info status")
    figures = source.migrate(f"unix:{way}")
    target.await_text("info status", r"running")
    for monitor in (source, target):
        monitor.end()
    host.run(f"rm -f {way}")
    return figures


def restore(host, name, scheme):
    """Milliseconds from the start of a monitor to the first word of the guest in the file."""
    file = host.path("state")
    source = Monitor(host, name, "plain")
    source.boot()
    source.console.run("(while :; do echo tick; usleep 20000; done &)")
    source.migrate(f"exec:cat > {file}" if scheme == "exec" else f"file:{file}")
    source.end()
    begin = time.monotonic()
    target = Monitor(
        host, name, "plain", ["-incoming", f"exec:cat {file}" if scheme == "exec" else f"file:{file}"]
    )
    target.process.expect("tick", TIMEOUT_S)
    took = (time.monotonic() - begin) * 1000
    target.end()
    host.run(f"rm -f {file}")
    return took


def measure(args, tmp):
    """{monitor: {case: [figures]}} of all rounds, in one host."""
    image = f"{tmp}/initrd"
    program = built.program(ROOT / "tests" / "linux" / "dirty.c")
    initrd.build_guest(args.kernel, image, (), {"bin/dirty": program})
    files = {
        "qemu": ebbcache.part_dir("qemu"),
        "vmlinuz": ebbcache.kernel_dir(args.kernel) / "vmlinuz",
        "initrd": image,
    }
    found = {"qemu": {}, "ebb": {}}
    with nest.open_host(files=files, programs={"ebb": args.ebb}) as host:
        for turn in range(args.rounds + 1):
            for name, cases in found.items():
                figures = {case: move(host, name, case) for case in CASES}
                for scheme in ("exec", "file") if name == "ebb" else ("exec",):
                    figures[f"restore {scheme}"] = {"start": restore(host, name, scheme)}
                for case, values in figures.items():
                    print(f"round {turn}: {name} {case}: {values}", flush=True)
                    if turn:
                        cases.setdefault(case, []).append(values)
    return found


def median(found, name, case, figure):
    return statistics.median(values[figure] for values in found[name][case])


def report(found):
    """Medians, and what ebb takes of what QEMU takes."""
    print(f"{'case':<14}{'figure':<18}{'QEMU':>12}{'ebb':>12}{'ratio':>8}")
    for case in CASES:
        for figure, unit in zip(FIGURES, UNITS):
            qemu, ebb = (median(found, name, case, figure) for name in ("qemu", "ebb"))
            ratio = f"{ebb / qemu:.2f}" if qemu else "-"
            print(f"{case:<14}{figure + ', ' + unit:<22}{qemu:>8.0f}{ebb:>12.0f}{ratio:>8}")
    qemu = median(found, "qemu", "restore exec", "start")
    for scheme in ("exec", "file"):
        ebb = median(found, "ebb", f"restore {scheme}", "start")
        figures = f"{qemu:>8.0f}{ebb:>12.0f}{ebb / qemu:>8.2f}"
        print(f"{'restore ' + scheme:<14}{'first word, ms':<22}{figures}")
    for name in found:
        more = [
            median(found, name, "unplugged", figure) - median(found, name, "plain", figure)
            for figure in FIGURES[:2]
        ]
        print(f"{name}: 64 GiB unplugged take {more[0]:.0f} KiB and {more[1]:.0f} ms more")


def main():
    parser = argparse.ArgumentParser(description="Compare migrations.")
    parser.add_argument("--ebb", required=True, help="the ebb program to measure")
    parser.add_argument("--kernel", default="6.12-cloud", choices=sorted(ebbcache.KERNELS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="write all figures to this file")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    with tempfile.TemporaryDirectory(prefix="ebb-bench-") as tmp:
        found = nest.retry_infra(lambda: measure(args, tmp))
    report(found)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
