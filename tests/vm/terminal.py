# SPDX-License-Identifier: BSD-3-Clause
"""A program on a terminal of its own: keys in, and what a person would see out.

    with Terminal(["ebbctl", sock, "top"], rows=24, columns=80) as term:
        term.expect(r"reg0 .* steady")
        term.type("q")
        assert term.wait() == 0

I1. The program is ended and waited for, by its own pid, when the `with` block ends.
I2. Waits are for what the screen shows and have a time limit; a failure shows the screen.
I3. The screen knows what a description of xterm says that programs send; a sequence that it does
    not know is an error, not skipped.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import unicodedata

TIMEOUT_S = float(os.environ.get("EBB_TIMEOUT", "60"))

CSI = re.compile(r"\x1b\[([?>!]?)([0-9;]*)([@-~])")
# Character sets, keypad modes, titles: nothing that is seen.
UNSEEN = re.compile(r"\x1b(?:[()][A-Z0-9]|[=>78]|\][^\x07]*\x07)")
UNFINISHED = re.compile(r"\x1b(?:\[[?>!]?[0-9;]*|[()]|\][^\x07]*)?\Z")


class Screen:
    """Rows of characters, drawn on by what a program writes."""

    def __init__(self, rows, columns):
        self.raw = b""
        self.colours = set()
        self.resize(rows, columns)
        self._rest = ""

    def resize(self, rows, columns):
        self.rows, self.columns = rows, columns
        self.lines = [[" "] * columns for _ in range(rows)]
        self.y = self.x = 0
        self._scrolled = (0, rows - 1)

    @property
    def text(self):
        return "\n".join("".join(line).rstrip() for line in self.lines)

    def feed(self, data):
        self.raw += data
        text = self._rest + data.decode("utf-8", "replace")
        cut = UNFINISHED.search(text)
        self._rest = text[cut.start() :] if cut else ""
        text = text[: cut.start()] if cut else text
        at = 0
        while at < len(text):
            if text[at] != "\x1b":
                self._put(text[at])
                at += 1
                continue
            unseen = UNSEEN.match(text, at)
            match = unseen or CSI.match(text, at)
            if text.startswith("\x1bM", at):
                self._up()
                at += 2
                continue
            assert match, f"an unknown sequence: {text[at:at + 20]!r}"
            if not unseen:
                self._control(*match.groups())
            at = match.end()

    def _scroll(self):
        top, bottom = self._scrolled
        del self.lines[top]
        self.lines.insert(bottom, [" "] * self.columns)

    def _up(self):
        if self.y == self._scrolled[0]:
            del self.lines[self._scrolled[1]]
            self.lines.insert(self._scrolled[0], [" "] * self.columns)
        else:
            self.y = max(self.y - 1, 0)

    def _down(self):
        if self.y == self._scrolled[1]:
            self._scroll()
        else:
            self.y = min(self.y + 1, self.rows - 1)

    def _put(self, char):
        if char == "\r":
            self.x = 0
        elif char == "\n":
            self._down()
        elif char == "\b":
            self.x = max(self.x - 1, 0)
        elif char == "\t":
            self.x = min(self.x // 8 * 8 + 8, self.columns - 1)
        elif char in "\a\x0e\x0f\x00":
            pass  # a bell, other character sets, padding
        else:
            assert unicodedata.category(char) != "Cc", f"control character {char!r}"
            if self.x == self.columns:
                self.x = 0
                self._down()
            self.lines[self.y][self.x] = char
            self.x += 1

    def _erase(self, first, last):
        """From cell FIRST to cell LAST, (y, x) each, LAST not included."""
        for y in range(first[0], last[0] + 1):
            begin = first[1] if y == first[0] else 0
            end = last[1] if y == last[0] else self.columns
            self.lines[y][begin:end] = [" "] * (end - begin)

    def _control(self, private, numbers, final):
        args = [int(n) if n else 0 for n in numbers.split(";")]
        count = max(args[0], 1)
        here = (self.y, min(self.x, self.columns - 1))
        if private or final in "tlhr":
            if final == "r":
                end = args[1] if len(args) > 1 and args[1] else self.rows
                self._scrolled = (count - 1, end - 1)
                self.y = self.x = 0
            return
        if final == "m":
            self.colours.update(n for n in args if 30 <= n < 50)
        elif final in "Hf":
            self.y = min(count, self.rows) - 1
            self.x = min(max(args[1], 1) if len(args) > 1 else 1, self.columns) - 1
        elif final == "A":
            self.y = max(self.y - count, 0)
        elif final == "B":
            self.y = min(self.y + count, self.rows - 1)
        elif final == "C":
            self.x = min(self.x + count, self.columns - 1)
        elif final == "D":
            self.x = max(here[1] - count, 0)
        elif final == "G":
            self.x = min(count, self.columns) - 1
        elif final == "d":
            self.y = min(count, self.rows) - 1
        elif final == "J":
            self._erase((0, 0) if args[0] else here, (self.rows - 1, self.columns))
            assert args[0] in (0, 2, 3), f"erase {args}"
        elif final == "K":
            begin = (self.y, 0) if args[0] else here
            self._erase(begin, (self.y, here[1] + 1 if args[0] == 1 else self.columns))
        elif final == "X":
            self._erase(here, (self.y, min(here[1] + count, self.columns)))
        elif final == "P":
            line = self.lines[self.y]
            del line[here[1] : here[1] + count]
            line += [" "] * (self.columns - len(line))
        elif final == "@":
            line = self.lines[self.y]
            line[here[1] : here[1]] = [" "] * count
            del line[self.columns :]
        elif final == "L":
            for _ in range(count):
                del self.lines[self._scrolled[1]]
                self.lines.insert(self.y, [" "] * self.columns)
        elif final == "M":
            for _ in range(count):
                del self.lines[self.y]
                self.lines.insert(self._scrolled[1], [" "] * self.columns)
        elif final == "S":
            for _ in range(count):
                self._scroll()
        elif final == "T":
            for _ in range(count):
                del self.lines[self._scrolled[1]]
                self.lines.insert(self._scrolled[0], [" "] * self.columns)
        elif final == "b":
            for _ in range(count):
                self._put(self.lines[self.y][self.x - 1])
        else:
            raise AssertionError(f"an unknown sequence: CSI {numbers}{final}")


class Terminal:
    """A process whose terminal is a Screen."""

    def __init__(self, argv, rows=24, columns=80, term="xterm", env=None):
        self.screen = Screen(rows, columns)
        self._fd, slave = pty.openpty()
        self._set_size(rows, columns)
        self._slave = slave
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            [str(word) for word in argv],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "LC_ALL": "C.UTF-8", "TERM": term, **(env or {})},
        )

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if exc[0] is not None:
            print(f"the screen:\n{self.screen.text}\nwritten last: {self.screen.raw[-2000:]!r}")
        os.close(self._slave)
        os.close(self._fd)
        return False

    def _set_size(self, rows, columns):
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, rows, columns):
        """The window gets another size; the program is told as a window would."""
        self.screen.resize(rows, columns)
        self._set_size(rows, columns)

    def type(self, text):
        os.write(self._fd, text.encode())

    def read(self, timeout):
        """Show what is written within TIMEOUT seconds; False: there is nothing."""
        if not select.select([self._fd], [], [], timeout)[0]:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:
            return False
        self.screen.feed(data)
        return bool(data)

    def expect(self, pattern, timeout=None):
        """Wait until the screen matches PATTERN."""
        regex = re.compile(pattern, re.MULTILINE)
        end = time.monotonic() + (timeout or TIMEOUT_S)
        while True:
            match = regex.search(self.screen.text)
            if match:
                return match
            left = end - time.monotonic()
            over = self.process.poll() is not None
            if not self.read(0 if over else max(min(left, 0.2), 0)) and (over or left <= 0):
                raise AssertionError(
                    f"no {pattern!r} on the screen:\n{self.screen.text}\n"
                    f"(status {self.process.poll()})"
                )

    def until(self, wanted):
        """Wait until WANTED(), of what the screen shows."""
        end = time.monotonic() + TIMEOUT_S
        while not wanted():
            assert time.monotonic() < end, f"this does not come:\n{self.screen.text}"
            self.read(0.2)

    def signal(self, number=signal.SIGINT):
        self.process.send_signal(number)

    def wait(self, timeout=None):
        """The exit status, after everything it wrote was shown."""
        end = time.monotonic() + (timeout or TIMEOUT_S)
        while self.process.poll() is None:
            if time.monotonic() > end:
                raise AssertionError(f"it does not end; the screen:\n{self.screen.text}")
            self.read(0.05)
        while self.read(0):
            pass
        return self.process.returncode

    def is_restored(self):
        """Is the terminal set up as it was before the program came?"""
        return termios.tcgetattr(self._slave) == self.before
