# SPDX-License-Identifier: BSD-3-Clause
"""QEMU's monitor as a reference: a QEMU that executes no guest, to ask what ebb is asked.

I1. A Qemu is ended and waited for when its `with` block ends, by its own pid.
I2. Only Debian 12's version is a reference; with any other there is a reason not to compare.
"""

import functools
import os
import pathlib
import shutil
import socket
import subprocess

from qmp import Qmp

PROGRAM = os.environ.get("EBB_QEMU") or shutil.which("qemu-system-x86_64")
VERSION = (7, 2)


@functools.cache
def missing():
    """Why there is nothing to compare with; None when there is."""
    if not PROGRAM:
        return "qemu-system-x86_64 is not installed (Debian package qemu-system-x86)"
    try:
        text = subprocess.run(
            [PROGRAM, "--version"], capture_output=True, text=True, timeout=60, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as e:
        return f"{PROGRAM} does not run: {e}"
    wanted = ".".join(map(str, VERSION))
    if f"version {wanted}." not in text:
        return f"{PROGRAM} is not version {wanted} but says {text.splitlines()[0]!r}"
    return None


class Qemu:
    """A QEMU process with a monitor for programs, and its CPUs stopped."""

    def __init__(self, folder, args):
        self.path = pathlib.Path(folder) / "qemu.sock"
        self._sessions = []
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.path))
            listener.listen(128)
            argv = [PROGRAM, "-S", "-display", "none", "-nodefaults", "-no-user-config"]
            argv += ["-chardev", f"socket,id=qmp,fd={listener.fileno()},server=on,wait=off"]
            argv += ["-mon", "chardev=qmp,mode=control", *map(str, args)]
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[listener.fileno()],
            )

    def qmp(self, oob=False, negotiate=True):
        """A new session; QEMU serves one at a time."""
        self._sessions.append(Qmp.connect(self.path))
        return self._sessions[-1].negotiate(oob) if negotiate else self._sessions[-1]

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for session in self._sessions:
            session.close()
        self.process.kill()
        _, errors = self.process.communicate()
        if exc[0] is not None:
            print(f"QEMU's errors:\n{errors.decode(errors='replace')}")
        return False
