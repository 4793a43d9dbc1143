# SPDX-License-Identifier: BSD-3-Clause
"""examples/libvmem: built with nothing but what is installed, run on this machine's KVM."""

import re
import subprocess

import pytest

from conftest import ROOT, run
from story import check_story

EXAMPLE = ROOT / "examples/libvmem"
SOURCES = [EXAMPLE / "plug.c", EXAMPLE / "vm.c"]
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror"]
VARIANTS = [("gcc", ()), ("clang", ()), ("gcc", ("--static",))]


def build(installed, tmp_path, compiler, flavour):
    program = tmp_path / "plug"
    words = [compiler, *WARNINGS, "-o", program, *SOURCES]
    words += installed.pkg_config("--cflags", "--libs", *flavour)
    run(words + (["-static"] if flavour else []))
    return program


@pytest.mark.parametrize("compiler,flavour", VARIANTS)
def test_example(installed, tmp_path, compiler, flavour):
    program = build(installed, tmp_path, compiler, flavour)
    done = subprocess.run(
        [program], env=installed.environment(), capture_output=True, text=True, timeout=60
    )
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    check_story(done.stdout)


def test_example_without_kvm(installed, tmp_path):
    """Where there is no KVM, it says so and ends with the status of a skipped test."""
    program = build(installed, tmp_path, "gcc", ())
    hide = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev && exec "$0"', program]
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("this process may not make a mount namespace")
    done = subprocess.run(
        hide, env=installed.environment(), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (77, "plug: skipped: /dev/kvm cannot be opened\n")


def test_example_is_small():
    """A reader sees all of it: the part with libvmem is one file of about 150 lines of code."""
    text = re.sub(r"/\*.*?\*/", "", (EXAMPLE / "plug.c").read_text(), flags=re.S)
    assert len([line for line in text.splitlines() if line.strip()]) <= 200
