# SPDX-License-Identifier: BSD-3-Clause
"""bench/vmem_bench.c: that its rounds run, not what they cost; and how it answers mistakes."""

import os
import pathlib
import subprocess

import pytest

BACKENDS = {
    "anon": [],
    "anon, scattered": ["--stride", "3"],
    "anon, prealloc": ["--prealloc"],
    "anon, unprotected": ["--unprotected"],
    "anon, no slots": ["--no-slots", "--run", "5"],
    "memfd": ["--backend", "memfd"],
    "file": ["--backend", "file", "--path", "{tmp}/file"],
}
MISTAKES = {
    "--backend none": "--backend none: must be anon, memfd, hugetlb or file (with --path)",
    "--rounds 0": "--rounds 0: must be a number from 1 to 4294967295",
    "--run 2 --stride 1": "--stride: must be at least --run",
    "--memslot 3": "--memslot: must be a power of two, at least 2",
    "more": "more: unknown argument",
}


def bench(*words):
    program = pathlib.Path(os.environ["EBB_BUILD"]) / "bench/vmem-bench"
    return subprocess.run([program, *words], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("name", BACKENDS)
def test_rounds(name, tmp_path):
    words = [word.format(tmp=tmp_path) for word in BACKENDS[name]]
    done = bench(*words, "--requests", "3", "--rounds", "2", "--touch")
    if done.returncode == 77:
        pytest.skip(done.stderr.strip())
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    facts = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# "))
    assert (facts["mechanism"] == "none") == ("unprotected" in name)
    if "no slots" in name:
        assert facts["memslots"] == "none"
    rounds = [list(map(int, line.split())) for line in lines if not line.startswith("# ")]
    assert len(rounds) == 2
    assert all(len(times) == 3 and min(times) > 0 for times in rounds)


@pytest.mark.parametrize("words", MISTAKES)
def test_mistakes(words):
    done = bench(*words.split())
    assert (done.returncode, done.stderr) == (1, f"vmem-bench: {MISTAKES[words]}\n")
