# SPDX-License-Identifier: BSD-3-Clause
"""The guest whose memory changes all the time (tests/bare/test_pattern.c), wherever it runs now.

I1. A Pattern belongs to the guest, not to a process: moved_to() follows it to another machine.
I2. Nothing is wrong: every report and every check is looked at.
"""

import re
import threading

FIGURES = re.compile(r"(\w+)=(\d+)")


class Pattern:
    """Talks to the guest on MACHINE's console."""

    def __init__(self, machine, fresh=True):
        self.machine = machine
        if fresh:
            machine.console.expect(r"^pattern: ready$")

    def moved_to(self, machine):
        self.machine = machine
        return self

    def _ask(self, order, answer, timeout=None):
        self.machine.type(order)
        line = self.machine.console.expect(rf"^{answer} .*\n", timeout).group(0)
        figures = {name: int(value) for name, value in FIGURES.findall(line)}
        assert figures.get("wrong", 0) == 0, self.machine.console.text
        return figures

    def report(self):
        """{turns, written, others, wrong, plugged, requested}"""
        return self._ask("report", "pattern")

    def check(self, timeout=None):
        """The guest looks at all of its memory; how many pages that are."""
        return self._ask("check", "checked", timeout)["pages"]

    def rate(self, pages):
        """How much it writes: 0 is a guest that rests."""
        self.machine.type(f"rate {pages}")
        self.machine.console.expect(rf"^rates {pages}$")

    def runs_on(self):
        """It makes turns."""
        before = self.report()["turns"]
        while self.report()["turns"] == before:
            pass

    def end(self):
        self.machine.type("quit")
        assert self.machine.wait() == 0, self.machine.errors.text
        assert re.search(r"^DONE passed=\d+ failed=0$", self.machine.console.text, re.MULTILINE)


class ResizeLoop:
    """Asks for other sizes of a device again and again, by a function that asks one monitor: which one
    that is may change on the way. Use as a context; a size that is refused ends the test, unless the
    function says otherwise by returning False."""

    def __init__(self, resize, sizes, pause_s=0.02):
        self.asked = 0
        self._resize, self._sizes, self._pause_s = resize, list(sizes), pause_s
        self._stop = threading.Event()
        self._error = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        try:
            while not self._stop.wait(self._pause_s):
                size = self._sizes[self.asked % len(self._sizes)]
                if self._resize(size) is not False:
                    self.asked += 1
        except Exception as error:  # pylint: disable=broad-except  (told by __exit__)
            self._error = error

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._stop.set()
        self._thread.join()
        if self._error and exc[0] is None:
            raise self._error
        return False
