# SPDX-License-Identifier: BSD-3-Clause
"""The freestanding guest that knows its memory (tests/vm/pattern.py), and the ways to move it
(tests/vm/migrating.py), with machines in a host."""

import itertools
import re
import shlex

import migrating
import nest
from hostqmp import HostQmp

TIMEOUT_S = 120


class HostPath:
    """A path below the host's folder, as far as moves need paths."""

    def __init__(self, host, name):
        self._host, self.name = host, name

    def __truediv__(self, name):
        return HostPath(self._host, f"{self.name}/{name}")

    def __str__(self):
        return self._host.path(self.name)

    def mkdir(self):
        self._host.check(f"mkdir {self}")

    def unlink(self):
        self._host.check(f"rm {self}")


class Console:
    """The guest's serial port, as Pattern wants it."""

    def __init__(self, process):
        self._process = process

    @property
    def text(self):
        return self._process.output.decode(errors="replace").replace("\r", "")

    def expect(self, pattern, timeout=None):
        pattern = re.sub(r"\$$", r"\r?$", pattern.replace(r"\n", r"\r?\n"))
        found = self._process.expect(pattern, timeout or TIMEOUT_S).group(0)
        return re.match(r"(?s).*", found.decode().replace("\r", ""))


class Errors:
    """What ebb said."""

    def __init__(self, host, path):
        self._host, self._path = host, path

    @property
    def text(self):
        return self._host.check(f"cat {self._path}")


class Machine:
    """A run of ebb in the host, in FOLDER, with a freestanding guest."""

    def __init__(self, host, folder, guest, append, args):
        self.host, self.folder = host, folder
        self.errors = Errors(host, folder / "errors")
        self._sessions = []
        argv = [host.path("ebb"), "-nodefaults", "-kernel", guest, "-append", append]
        argv += ["-chardev", "stdio,id=serial,signal=off", "-device", "isa-serial,chardev=serial"]
        argv += ["-qmp", f"unix:{folder / 'qmp.sock'},server=on,wait=off", *args]
        self.argv = argv
        self.process = host.spawn(str(folder), nest.with_log(argv, folder / "errors"))
        self.console = Console(self.process)

    def __exit__(self, kind, error, trace):
        if kind is not None and issubclass(kind, nest.NestInfraError):
            return
        for session in self._sessions:
            session.close()
        if not self.process.ended:
            self.process.kill()
            self.process.wait(TIMEOUT_S)
        if kind is not None:
            print(f"command line: {shlex.join(self.argv)}\nstatus: {self.process.status}")
            print(f"errors:\n{self.errors.text}\nconsole:\n{self.console.text}")
        self.host.run(f"rm -r {self.folder}")

    def qmp(self):
        self._sessions.append(HostQmp(self.host, socket=(self.folder / "qmp.sock").name))
        return self._sessions[-1]

    def type(self, line):
        self.process.write(line + "\n")

    def wait(self, timeout=None):
        return self.process.wait(timeout or TIMEOUT_S)


class Guest(migrating.Guest):
    """One guest on its way through many machines of HOST."""

    _folders = itertools.count()

    def __init__(self, host, guest, append, args):
        self.host, self._guest = host, guest
        folder = HostPath(host, f"moves{next(self._folders)}")
        folder.mkdir()
        super().__init__(folder, append, args)

    def new(self, *more):
        folder = self.folder / f"m{next(self._numbers)}"
        folder.mkdir()
        args = [*self.args, *more]
        self._machines.append(Machine(self.host, folder, self._guest, self.append, args))
        return self._machines[-1]

    def __exit__(self, kind, error, trace):
        super().__exit__(kind, error, trace)
        if kind is None or not issubclass(kind, nest.NestInfraError):
            self.host.run(f"rm -r {self.folder}")
