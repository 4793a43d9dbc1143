#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The driver core on other processors than this one.

    cross.py FOLDER [WORLDS]

Each line of output is one check: "ok NAME" or "FAILED NAME" with the reason; the last line counts
them. Files are made in FOLDER.

  alone   the core compiles without a C library, with gcc and clang, for each processor without a
          warning, and needs nothing but itself and the four functions that compilers call
  model   the model test, with WORLDS worlds of each kind, runs on emulated processors, little- and
          big-endian
"""

import concurrent.futures
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CORE = sorted((ROOT / "driver").glob("*.c"))
MODEL = [
    *sorted((ROOT / "tests/model").glob("*.c")),
    *sorted((ROOT / "device").glob("*.c")),
    ROOT / "base/bitmap.c",
]
WARNINGS = "-Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wvla -Werror".split()
INCLUDES = [f"-I{ROOT}", f"-I{ROOT / 'include'}"]
ALONE = "-std=gnu11 -O2 -ffreestanding -nostdlib -fno-strict-aliasing -fno-stack-protector".split()
# Optimised little: compiling takes longer than running.
HOSTED = "-std=gnu11 -O1 -D_GNU_SOURCE -fno-strict-aliasing -static".split()
COMPILERS_CALL = {"memcpy", "memmove", "memset", "memcmp"}
TIMEOUT_S = 300
WORLDS_DEFAULT = 3

# Name, gcc's prefix, more words for gcc, clang's target, emulator: what is None is left out.
PROCESSORS = [
    ("x86-64", "", (), "x86_64-linux-gnu", None),
    ("i386", "", ("-m32",), "i386-linux-gnu", None),
    ("arm64", "aarch64-linux-gnu-", (), "aarch64-linux-gnu", "qemu-aarch64-static"),
    ("riscv64", "riscv64-linux-gnu-", (), "riscv64-linux-gnu", "qemu-riscv64-static"),
    ("s390x", "s390x-linux-gnu-", (), "s390x-linux-gnu", "qemu-s390x-static"),
]


def run(words):
    """What the command printed; raises RuntimeError with it when it failed."""
    done = subprocess.run(
        [str(word) for word in words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=TIMEOUT_S,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode:
        raise RuntimeError(f"status {done.returncode}\n{done.stdout[-4000:]}")
    return done.stdout


def alone(folder, compiler, prefix):
    """Compile the core with COMPILER, link it with itself, look at what it lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    objects = [folder / f"{source.stem}.o" for source in CORE]
    for source, target in zip(CORE, objects):
        run([*compiler, *ALONE, *WARNINGS, *INCLUDES, "-c", source, "-o", target])
    defined, needed = set(), set()
    for line in run([f"{prefix}nm", "--format=posix", *objects]).splitlines():
        words = line.split()
        if len(words) >= 2 and not line.endswith("]:"):
            (needed if words[1] in "Uvw" else defined).add(words[0])
    lacking = needed - defined - COMPILERS_CALL - {"_GLOBAL_OFFSET_TABLE_"}
    if lacking:
        raise RuntimeError("needs " + " ".join(sorted(lacking)))
    writable = run([f"{prefix}size", "--format=sysv", *objects])
    for line in writable.splitlines():
        words = line.split()
        if words and words[0] in (".data", ".bss") and words[1] != "0":
            raise RuntimeError(f"has {words[1]} bytes of {words[0]}")


def model(folder, gcc, emulator, worlds):
    """Build the model test without shared libraries, and let the emulator run it."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "model"
    run([*gcc, *HOSTED, *INCLUDES, *CORE, *MODEL, "-o", program])
    return run([emulator, program, str(worlds)])


def checks(folder, worlds):
    """(name, function, arguments) of each check, the longest first."""
    for name, prefix, words, _, emulator in PROCESSORS:
        if emulator:
            yield (
                f"model on {name}",
                model,
                (folder / f"model-{name}", [f"{prefix}gcc", *words], emulator, worlds),
            )
    for name, prefix, words, target, _ in PROCESSORS:
        yield f"alone on {name} with gcc", alone, (
            folder / f"gcc-{name}",
            [f"{prefix}gcc", *words],
            prefix,
        )
        yield f"alone on {name} with clang", alone, (
            folder / f"clang-{name}",
            ["clang", f"--target={target}"],
            prefix,
        )


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    worlds = int(sys.argv[2]) if len(sys.argv) > 2 else WORLDS_DEFAULT
    failed = count = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [(name, pool.submit(check, *args)) for name, check, args in checks(folder, worlds)]
        for name, job in jobs:
            count += 1
            try:
                job.result()
                print(f"ok {name}", flush=True)
            except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
                failed += 1
                print(f"FAILED {name}: {error}", flush=True)
    print(f"{count - failed} of {count} checks passed")
    return 1 if failed or not count else 0


if __name__ == "__main__":
    sys.exit(main())
