#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""docs/libvirt.md: its commands are answered as they are shown there, and its domain is the example.

    python3 tests/libvirt/test_docs.py --write      put what is said now in the place of what is shown

The commands after "$ " are one session, run by a shell beside the files of examples/libvirt, where
virsh is that of a libvirtd of the test's own. Shown and said are the same but for numbers and spaces.
Between two commands the guest, which is the freestanding one, does what it was asked for.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "tools/nest")]
    sys.path.append(str(ROOT / "tests/vm"))

from daemon import INSTALLED, Daemon
from domain import EXAMPLES, Domain, example, xml_text
from ebbvm import TIMEOUT_S

DOCUMENT = ROOT / "docs/libvirt.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
INSTALLED_PATH = "/usr/local/bin/ebb"
EXAMPLE = "q35"


def comparable(text):
    return re.sub(r"\d+(\.\d+)?", "N", " ".join(text.split()))


class Session:
    """A shell's session with the domain of the document."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.domain = Domain(daemon, f"ebb-{EXAMPLE}", EXAMPLE)
        self.folder = daemon.folder / "session"
        self.folder.mkdir()
        self.domain.write().rename(self.folder / f"{EXAMPLE}.xml")
        (self.folder / "virtio-mem.xml").write_text(xml_text(example("virtio-mem")))
        virsh = self.folder / "virsh"
        virsh.write_text(f'#!/bin/sh\nexec /usr/bin/virsh -c {shlex.quote(daemon.uri)} "$@"\n')
        virsh.chmod(0o755)

    def settle(self, command):
        """What COMMAND asked the guest for is there, and known to libvirt."""
        if "start" in command:
            self.domain.listen()
            self.domain.expect("^follow: ready$")
            self.domain.type("verify 0")
            self.domain.expect("^verified 0 ")
        if "update-memory-device" in command:
            for alias, device in self.domain.memory_devices().items():
                self.domain.wait_told(alias, device["requested"])

    def run(self, command):
        """What COMMAND printed, with the paths of the document."""
        done = subprocess.run(
            command.replace(INSTALLED_PATH, str(self.daemon.emulator)),
            shell=True,
            cwd=self.folder,
            env={**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}", "LC_ALL": "C"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}"
        self.settle(command)
        return done.stdout.replace(str(self.daemon.emulator), INSTALLED_PATH).strip("\n")


def example_text():
    """The example's file without its comments."""
    lines = (EXAMPLES / f"{EXAMPLE}.xml").read_text().splitlines()
    return "".join(f"{line}\n" for line in lines if not line.startswith("<!--"))


def played(session, text):
    """A block of commands with what they print now."""
    parts = []
    for command in re.findall(r"^\$ (.*)$", text, re.M):
        said = session.run(command)
        parts.append(f"$ {command}\n" + (f"{said}\n" if said else ""))
    return "".join(parts)


def test_document(folder):
    with Daemon(INSTALLED, folder) as daemon:
        session = Session(daemon)
        for kind, text in FENCE.findall(DOCUMENT.read_text()):
            if kind == "xml":
                assert text == example_text()
            elif kind == "console":
                assert comparable(played(session, text)) == comparable(text)


def write():
    with tempfile.TemporaryDirectory(prefix="ebb-lv-") as folder:
        with Daemon(INSTALLED, folder) as daemon:
            session = Session(daemon)

            def new(match):
                kind, text = match.groups()
                text = {
                    "xml": lambda _: example_text(),
                    "console": lambda text: played(session, text),
                }.get(kind, str)(text)
                return f"```{kind}\n{text}```"

            DOCUMENT.write_text(FENCE.sub(new, DOCUMENT.read_text()))


if __name__ == "__main__" and sys.argv[1:] == ["--write"]:
    write()
