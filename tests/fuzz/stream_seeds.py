#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Seeds of fuzz_stream.c: whole migrations of its little machine, in the form of its input.

    stream_seeds.py FOLDER
"""

import pathlib
import struct
import sys

MACHINE, BLOCKS, NOTES, PAGES, ZEROS, ROUND, SECTION, ADVISE, RUN, END, GO = range(1, 12)
STREAM, HEADER, FURTHER, DUPLEX, RESET, IMAGE, POSTCOPY, RECOVER = (1 << i for i in range(8))
ON_FURTHER, OWN, ZSTD, DAMAGED = 1, 2, 4, 8
PAGE = 4096


def record(kind, payload=b"", flags=0, pages=0, how=0):
    return struct.pack("<BBBBH", kind, flags, pages, how, len(payload)) + payload


def text(value):
    return struct.pack("<H", len(value)) + value.encode()


def notes(*runs):
    """(block, plugged, first page, pages) each."""
    body = b"".join(struct.pack("<IIQQ", b, on, at * PAGE, n * PAGE) for b, on, at, n in runs)
    return record(NOTES, struct.pack("<I", len(runs)) + body)


def runs(block, *pairs):
    return struct.pack("<II", block, len(pairs)) + b"".join(struct.pack("<QI", *pair) for pair in pairs)


def barrier(number, how=0):
    return record(ROUND, struct.pack("<Q", number), how=how)


def section(name, ident, data):
    return record(SECTION, text(name) + text(ident) + struct.pack("<I", 1) + data)


BEGIN = record(MACHINE, how=OWN) + record(BLOCKS, how=OWN)
PLUG = notes((1, 1, 0, 8), (2, 1, 4, 4))
STATE = section("cpu", "0", b"abc") + section("rtc", "", b"\1\2")
MEMORY = (
    record(PAGES, runs(0, (0, 1), (5, 2)), pages=3)
    + record(PAGES, runs(1, (2, 3)), flags=1, pages=3, how=ZSTD)
    + barrier(2)
    + notes((1, 0, 0, 4))
    + barrier(3)
    + record(ZEROS, runs(0, (0, 2), (6, 26)))
)
LEFT = (
    record(RUN, struct.pack("<IIQQI", 0, 2, 0, 32, 0xF0))
    + record(RUN, struct.pack("<IIQQ", 1, 0, 0, 32))
    + STATE
    + record(END, flags=1)
    + record(PAGES, runs(0, (4, 2)), pages=2)
    + record(GO)
)
REST = record(ZEROS, runs(0, (6, 2))) + record(END)
SEEDS = {
    "file": bytes([0]) + BEGIN + PLUG + barrier(1) + MEMORY + STATE + record(END),
    "socket": bytes([DUPLEX]) + BEGIN + STATE + record(END, flags=1) + record(GO),
    "further": bytes([DUPLEX | FURTHER])
    + BEGIN
    + PLUG
    + barrier(1)
    + barrier(1, ON_FURTHER)
    + record(PAGES, runs(2, (4, 2)), pages=2, how=ON_FURTHER)
    + record(PAGES, runs(0, (1, 1)), pages=1)
    + record(END, how=ON_FURTHER)
    + STATE
    + record(END, flags=1)
    + record(GO),
    "reset": bytes([DUPLEX | RESET]) + BEGIN + STATE + record(END, flags=1),
    "damaged": bytes([0]) + BEGIN + record(ROUND, struct.pack("<Q", 1), how=DAMAGED),
    "bytes": bytes([STREAM | HEADER])
    + b"EBBSTATE"
    + struct.pack("<IIQIII", 1, 0, 0x0123456789ABCDEF, 0, 0, 0)
    + struct.pack("<IIII", MACHINE, 0, 0, 0),
    "image": bytes([IMAGE])
    + BEGIN
    + PLUG
    + record(PAGES, bytes([0, 1, 2, 9]))
    + record(PAGES, bytes([1, 3]))
    + STATE
    + record(END)
    + record(0, b"\2\0\1")
    + record(0, b"\3\0\0", how=OWN),
    "postcopy": bytes([DUPLEX | POSTCOPY]) + BEGIN + record(ADVISE) + PLUG + LEFT + REST,
    "recover": bytes([DUPLEX | POSTCOPY | RECOVER])
    + BEGIN
    + record(ADVISE)
    + LEFT
    + record(ZEROS, runs(0, (6, 2)), how=ON_FURTHER)
    + record(END, how=ON_FURTHER),
    "qemu": bytes([STREAM]) + b"QEVM" + struct.pack(">II", 3, 7),
}


def main():
    for name, seed in SEEDS.items():
        (pathlib.Path(sys.argv[1]) / f"stream-{name}").write_bytes(seed)


if __name__ == "__main__":
    main()
