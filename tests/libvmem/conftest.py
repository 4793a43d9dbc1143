# SPDX-License-Identifier: BSD-3-Clause
"""libvmem as somebody else finds it: installed from a build into a folder of its own.

The build is $EBB_BUILD; it is not changed. Nothing here uses a header, library or page of the
sources: what the tests compile sees the installed tree through pkg-config alone.
"""

import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
COMMENT = re.compile(r"/\*.*?\*/", re.S)
PROTOTYPE = re.compile(r"^[a-z][\w \n\t]*?[ *]\(?(vmem_\w+)\([^;{]*\);", re.M)


def run(words, **options):
    """Run WORDS; its output, or an assertion with what it said."""
    words = [str(word) for word in words]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, **options)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


def words_of(text):
    """TEXT with all white space alike, and none where it means nothing."""
    return re.sub(r"\s*([(),;*])\s*", r"\1", re.sub(r"\s+", " ", text)).strip()


class Installed:
    """The installed tree."""

    def __init__(self, build, folder):
        self.folder = folder
        self.version = re.search(r"version: '(.+)'", (ROOT / "meson.build").read_text())[1]
        run(["meson", "install", "-C", build, "--no-rebuild", "--destdir", folder])
        self.pc = next(folder.rglob("libvmem.pc"))
        self.libdir = self.pc.parents[1]
        self.prefix = folder / self.variable("prefix").lstrip("/")

    def variable(self, name):
        return re.search(rf"^{name}=(.+)$", self.pc.read_text(), re.M)[1]

    def environment(self):
        return {
            **os.environ,
            "PKG_CONFIG_LIBDIR": str(self.pc.parent),
            "PKG_CONFIG_SYSROOT_DIR": str(self.folder),
            "LD_LIBRARY_PATH": str(self.libdir),
        }

    def pkg_config(self, *words):
        return run(["pkg-config", *words, "libvmem"], env=self.environment()).split()

    def headers(self):
        return sorted((self.prefix / "include/vmem").iterdir())

    def prototypes(self):
        """{function: its declaration} of all installed headers."""
        found = {}
        for header in self.headers():
            text = COMMENT.sub("", header.read_text())
            for match in PROTOTYPE.finditer(text):
                found[match[1]] = words_of(match[0])
        assert len(found) > 10
        return found

    def man(self, section):
        return sorted((self.prefix / f"share/man/man{section}").glob(f"*.{section}"))


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    build = os.environ.get("EBB_BUILD")
    assert build, "EBB_BUILD names no build folder"
    return Installed(build, tmp_path_factory.mktemp("installed"))
