#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What it costs the host to take 1 GiB into a balloon, beside QEMU.

    balloon.py [--build FOLDER] [--qemu PROGRAM] [--rounds N] [--json FILE]

    neighbours    page numbers that follow each other, 256 a request as Linux makes them
    scattered     every second page: nothing can be given back together

Ours is the device with its rings, in a process without a guest (tests/unit/virtio/bench_balloon.c).
QEMU's is virtio-balloon-pci on a stopped machine, driven through its qtest server; its time has one
round trip of that in it for each 128 MiB. The memory was written to before. Milliseconds for 1 GiB,
the best of the rounds; only the ratios mean something on another machine.
"""

import argparse
import json
import pathlib
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import qtest  # noqa: E402  (the folder is only known now)

PAGE, MIB, GIB = 4096, 1 << 20, 1 << 30
NUMBERS = 256  # in a request
BASE, BYTES = 128 * MIB, 128 * MIB  # of QEMU's memory; as much at a time
CASES = {"neighbours": 1, "scattered": 2}
BENCH = "tests/unit/virtio/bench_balloon"
INFLATE = 0
F_VERSION_1 = 1 << 0  # in the second word


class Balloon(qtest.Device):
    """A driver for the inflate queue alone."""

    ARGS = f"virtio-balloon-pci,bus=pcie.0,addr={qtest.SLOT},disable-legacy=on"

    def _start(self):
        m, common = self.machine, self._common
        status = qtest.STATUS_ACKNOWLEDGE | qtest.STATUS_DRIVER
        m.store("b", common + 20, 0)
        m.store("b", common + 20, status)
        for select, features in ((0, 0), (1, F_VERSION_1)):
            m.store("l", common + 8, select)
            m.store("l", common + 12, features)
        m.store("b", common + 20, status | qtest.STATUS_FEATURES_OK)
        m.store("w", common + 22, INFLATE)
        m.store("w", common + 24, qtest.QUEUE_SIZE)
        m.store("q", common + 32, qtest.DESC)
        m.store("q", common + 40, qtest.AVAIL)
        m.store("q", common + 48, qtest.USED)
        m.store("w", common + 28, 1)
        offset = m.load("w", common + 30) * self._notify_multiplier
        self._doorbell = self._notify + offset
        m.store("b", common + 20, status | qtest.STATUS_FEATURES_OK | qtest.STATUS_DRIVER_OK)

    def __init__(self, machine):
        self.machine = machine
        self._index = 0
        self._find_capabilities()
        self._start()
        size = NUMBERS * 4
        places = (qtest.REQUESTS + i * size for i in range(qtest.QUEUE_SIZE))
        ring = b"".join(struct.pack("<QIHH", place, size, 0, 0) for place in places)
        machine.store_bytes(qtest.DESC, ring)
        order = struct.pack(f"<{qtest.QUEUE_SIZE}H", *range(qtest.QUEUE_SIZE))
        machine.store_bytes(qtest.AVAIL + 4, order)

    def take_ns(self, pages):
        """The time that a ring full of requests for PAGES takes."""
        m = self.machine
        m.store_bytes(qtest.REQUESTS, struct.pack(f"<{len(pages)}I", *pages))
        self._index = self._index + len(pages) // NUMBERS & 0xFFFF
        m.store("w", qtest.AVAIL + 2, self._index)
        begin = time.monotonic_ns()
        m.store("w", self._doorbell, INFLATE)
        while m.load("w", qtest.USED + 2) != self._index:
            pass
        return time.monotonic_ns() - begin


def theirs(args):
    found = {}
    words = ["-m", "1G", "-device", Balloon.ARGS]
    with tempfile.TemporaryDirectory() as folder, qtest.Machine(args.qemu, folder, words) as m:
        device = Balloon(m)
        for name, stride in CASES.items():
            times = []
            for _ in range(args.rounds):
                m.fill(BASE, BYTES * stride)
                first = BASE // PAGE
                pages = range(first, first + BYTES * stride // PAGE, stride)
                times.append(device.take_ns(pages) * (GIB // BYTES) / 1e6)
            found[name] = min(times)
    return found


def ours(args):
    argv = [str(args.build / BENCH)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=True)
    lines = (line.split() for line in done.stdout.splitlines())
    return {words[0]: float(words[1]) for words in lines if words and words[0] in CASES}


def main():
    parser = argparse.ArgumentParser(description="Measure what a balloon costs the host.")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--qemu", default="qemu-system-x86_64")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", help="write all figures to this file")
    args = parser.parse_args()
    if not (args.build / BENCH).exists():
        raise SystemExit(f"balloon.py: {args.build} holds no {BENCH}: ninja -C {args.build}")
    found = {"ebb": ours(args), "qemu": theirs(args)}
    print(f"{'1 GiB, ms':12} {'ebb':>8} {'QEMU':>8} {'ratio':>7}")
    for name in CASES:
        a, b = found["ebb"][name], found["qemu"][name]
        print(f"{name:12} {a:8.0f} {b:8.0f} {a / b:7.2f}")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
