#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A monitor's own memory: what is resident beside the guest's RAM, with a booted 1 GiB guest.

    footprint.py --ebb PROGRAM [--kernel NAME]

The guest's RAM is the one mapping of 1 GiB (or more); everything else in /proc/PID/smaps that is
resident counts, shared libraries included. QEMU's pc and microvm machines run beside it in the same
host, in turn, with the same guest.
"""

import argparse
import pathlib
import re
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))
sys.path.insert(0, str(ROOT / "tools" / "nest"))

import boot  # noqa: E402  (the folders are only known now)
import ebbcache  # noqa: E402
import initrd  # noqa: E402
import nest  # noqa: E402

GUEST_KIB = 1 << 20


def own_kib(smaps):
    """Resident KiB of all mappings that are smaller than the guest's RAM, and of the others."""
    own = guest = 0
    for size, rss in re.findall(r"^Size:\s+(\d+) kB\n(?:.*\n)*?Rss:\s+(\d+) kB", smaps, re.M):
        if int(size) >= GUEST_KIB:
            guest += int(rss)
        else:
            own += int(rss)
    return own, guest


def measure(args, tmp):
    """{monitor: (own, guest)} in KiB."""
    image = f"{tmp}/initrd"
    initrd.build_guest(args.kernel, image)
    files = boot.host_files(args.kernel, "vmlinuz", image)
    found = {}
    with nest.open_host(files=files, programs={"ebb": args.ebb}) as host:
        for name, command in {**boot.MONITORS, "ebb": boot.EBB}.items():
            monitor = host.spawn(name, boot.expand(host, command))
            nest.GuestConsole(monitor).login(180)
            smaps = host.read_file(f"/proc/{monitor.pid}/smaps").decode()
            found[name] = own_kib(smaps)
            monitor.kill()
            monitor.wait(30)
    return found


def main():
    parser = argparse.ArgumentParser(description="Compare the monitors' own memory.")
    parser.add_argument("--ebb", required=True, help="the ebb program to measure")
    parser.add_argument("--kernel", default="6.12-cloud", choices=sorted(ebbcache.KERNELS))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ebb-bench-") as tmp:
        found = nest.retry_infra(lambda: measure(args, tmp))
    print(f"{'monitor':<12} {'own MiB':>8} {'guest MiB':>10}   (resident)")
    for name, (own, guest) in found.items():
        print(f"{name:<12} {own / 1024:>8.1f} {guest / 1024:>10.1f}")


if __name__ == "__main__":
    main()
