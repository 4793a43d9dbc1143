# SPDX-License-Identifier: BSD-3-Clause
"""Compile what runs in hosts and guests: static programs, and modules for their kernels.

    program(source)          -> the static binary of one C file
    module(kernel, folder)   -> the module that FOLDER (a Makefile and sources) makes for guest
                                kernel NAME, built against Debian's headers of just that kernel
    driver_module(kernel)    -> the same of our driver, ebb_mem

Results are kept in the cache's work folder, named by what they were made from: sources, compiler
and kernel. They appear by one rename, so two builders at once do no harm.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import tempfile

import ebbcache

ROOT = pathlib.Path(__file__).resolve().parents[2]
DRIVER = ROOT / "driver" / "linux"
PROGRAM_WORDS = ("-std=gnu11", "-D_GNU_SOURCE", "-O2", "-static")


class BuildFailed(Exception):
    """A compiler did not take it; the text holds its words."""


def digest(words, sources):
    """A name for what is made from WORDS and the files SOURCES."""
    seen = hashlib.sha256("\0".join(words).encode())
    for source in sources:
        seen.update(source.name.encode() + b"\0" + source.read_bytes())
    return seen.hexdigest()[:16]


def run(words):
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        raise BuildFailed(f"{' '.join(words)} failed:\n{done.stdout.strip()}")


def program(source):
    """The static binary of the C file SOURCE."""
    source = pathlib.Path(source)
    compiler = [*os.environ.get("CC", "cc").split(), *PROGRAM_WORDS]
    binary = ebbcache.work_dir() / f"{source.stem}-{digest(compiler, [source])}"
    if not binary.exists():
        with tempfile.TemporaryDirectory(dir=ebbcache.work_dir()) as tmp:
            made = pathlib.Path(tmp) / source.stem
            run([*compiler, "-o", str(made), str(source)])
            made.rename(binary)
    return binary


def module(kernel, folder):
    """The one module that FOLDER makes for guest kernel NAME, without its debugging data."""
    sources = sorted(p for p in pathlib.Path(folder).iterdir() if p.suffix == ".c")
    sources.append(pathlib.Path(folder) / "Makefile")

    def lay_out(tmp):
        for source in sources:
            shutil.copy2(source, tmp)

    return made_module(kernel, folder, sources, lay_out)


def driver_module(kernel):
    """The module ebb_mem for guest kernel NAME."""
    sources = [p for p in DRIVER.rglob("*") if p.is_file()]
    sources += [p for p in DRIVER.parent.iterdir() if p.suffix in (".c", ".h")]
    sources += [ROOT / "include" / "vmem" / name for name in ("driver.h", "proto.h")]

    def lay_out(tmp):
        run(["make", "-s", "-C", str(DRIVER), "dist", f"OUT={tmp}"])

    return made_module(kernel, DRIVER, sorted(sources), lay_out)


def made_module(kernel, folder, sources, lay_out):
    """The module for guest kernel NAME made of SOURCES, which LAY_OUT(folder) copies."""
    headers = ebbcache.headers_dir(kernel)
    release = (headers / "release").read_text().strip()
    words = ["make", "-s", "-C", str(headers / "build"), "modules"]
    kept = ebbcache.work_dir() / f"module-{release}-{digest([release], sources)}.ko"
    if kept.exists():
        return kept
    with tempfile.TemporaryDirectory(dir=ebbcache.work_dir()) as tmp:
        lay_out(tmp)
        run([*words, f"M={tmp}"])
        made = list(pathlib.Path(tmp).glob("*.ko"))
        if len(made) != 1:
            raise BuildFailed(f"{folder} makes {len(made)} modules for {release}, not one")
        run(["strip", "--strip-debug", str(made[0])])
        made[0].rename(kept)
    return kept
