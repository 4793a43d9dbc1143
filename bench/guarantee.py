#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""All figures of the guarantee, one table after the other; see docs/guarantee.md.

    guarantee.py [--build FOLDER] [--quick]

Runs guard.py (what requests, memory and start cost, beside QEMU's device), guest_memory.py (what
replugged memory is like for a guest, with the guard on and off) and attack.py (how much a guest
takes of what it gave up). --quick takes fewer rounds. Ends with status 1 when one of them failed.
"""

import argparse
import pathlib
import subprocess
import sys

BENCH = pathlib.Path(__file__).resolve().parent
BUILDS = ("build", "build-check/gcc")


def find_build(given):
    """The folder of a build with ebb and the benchmark's own program in it."""
    for folder in [given] if given else [BENCH.parent / name for name in BUILDS]:
        if (pathlib.Path(folder) / "vmm/main/ebb").exists():
            return pathlib.Path(folder).resolve()
    sys.exit("guarantee.py: no build with ebb in it: run ./demo or ./check, or give --build FOLDER")


def main():
    parser = argparse.ArgumentParser(description="Take all figures of the guarantee.")
    parser.add_argument("--build", help="a build's folder; default: build or build-check/gcc")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    args = parser.parse_args()
    build = find_build(args.build)
    ebb = ["--ebb", str(build / "vmm/main/ebb")]
    rounds = ["--rounds", "1"] if args.quick else []
    failed = []
    for name, words in (
        ("guard.py", ["--build", str(build), *rounds]),
        ("guest_memory.py", [*ebb, *rounds]),
        ("attack.py", ebb),
    ):
        print(f"==== {name}", flush=True)
        if subprocess.run([BENCH / name, *words], check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"guarantee.py: failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
