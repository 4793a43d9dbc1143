# SPDX-License-Identifier: BSD-3-Clause
"""A virsh that stays, as people sit at it.

Shell runs many commands over one connection. Each is followed by an `echo` of a number, which is the
end of the command's output; what virsh says of a failure comes before it, as errors and output are one
pipe. Terminal runs one command on a terminal of its own, for what wants one.
"""

import itertools
import os
import pty
import re
import shlex
import subprocess

from ebbvm import TIMEOUT_S, Stream

PROMPT = "virsh [#>] "


class Terminal:
    def __init__(self, argv):
        self._master, slave = pty.openpty()
        with open(slave, "r+b", buffering=0) as terminal:
            self._process = subprocess.Popen(
                argv,
                stdin=terminal,
                stdout=terminal,
                stderr=terminal,
                env={**os.environ, "LC_ALL": "C"},
                start_new_session=True,
            )
        self._stream = Stream(self._master)
        self.expect = self._stream.expect

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        self._stream.finish()
        os.close(self._master)

    @property
    def text(self):
        return self._stream.text

    def type(self, line):
        os.write(self._master, line.encode() + b"\r")


class Shell:
    def __init__(self, argv):
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C", "TERM": "dumb", "COLUMNS": "4096"},
        )
        self._text = Stream(self._process.stdout.fileno())
        self._numbers = itertools.count(1)
        self._text.expect(f"^{PROMPT}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        try:
            self._process.wait(TIMEOUT_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._text.finish()
            self._process.stdout.close()

    def virsh(self, *words, timeout=None):
        """What virsh said to WORDS; AssertionError when it failed."""
        mark = f"end-of-{next(self._numbers)}"
        begin = len(self._text.text)
        command = shlex.join(map(str, words))
        self._process.stdin.write(f"{command}\necho {mark}\n".encode())
        self._process.stdin.flush()
        self._text.expect(f"^{mark}{PROMPT}", timeout)
        # virsh repeats what is typed, behind its prompt, and ends no line after an echo.
        lines = self._text.text[begin:].partition(f"\n{mark}")[0].splitlines()
        said = "\n".join(line for line in lines[1:] if not re.match(PROMPT, line)).strip()
        assert not re.search(r"^error: ", said, re.M), f"virsh {command}: {said}"
        return said
