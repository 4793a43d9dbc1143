# SPDX-License-Identifier: BSD-3-Clause
"""What host memory stands behind a guest's memory, block by block: the program hostmem, asked.

    memory = HostMemory(run, pid)           RUN(argv) gives what a program printed, in pid's host
    address = memory.find(word)             the page that begins with WORD: where a guest put it
    held = memory.held(address, size, block)
    held.pages(7)                           pages behind block 7
    held.zero_pages                         where the page of zeros is mapped: nobody's memory

I1. What is behind an address is found by content that the guest wrote, so that nothing is assumed
    of how the monitor lays out its memory.
"""

import re
import subprocess
import typing

PAGE = 4096


class Counts(typing.NamedTuple):
    """Pages; see hostmem.c."""

    mapped: int
    cached: int
    allocated: int


class Held(typing.NamedTuple):
    blocks: dict  # index: Counts; only of those that hold anything
    total: Counts
    zero_pages: int
    file_bytes: int

    def pages(self, index):
        """Each page counts once, whether mapped, in the page cache or in the file system."""
        return max(self.blocks.get(index, (0, 0, 0)))

    def tell(self, index):
        counts = self.blocks.get(index, Counts(0, 0, 0))
        return ", ".join(f"{n} {name}" for name, n in counts._asdict().items() if n) or "nothing"


class HostMemory:
    def __init__(self, run, pid, program):
        self._run = run
        self._pid = pid
        self._program = str(program)

    def _ask(self, *words):
        return self._run([self._program, str(self._pid), *(str(word) for word in words)])

    def find(self, word):
        """The address of the one page that begins with WORD."""
        found = self._ask("find", f"{word:#x}").split()
        assert len(found) == 1, f"{word:#x} is at the start of {len(found)} pages: {found}"
        return int(found[0], 0)

    def held(self, address, size, block):
        text = self._ask("held", f"{address:#x}", size, block)
        blocks = {
            int(index): Counts(int(mapped), int(cached), int(allocated))
            for index, mapped, cached, allocated in re.findall(
                r"^block (\d+) mapped (\d+) cached (\d+) allocated (\d+)$", text, re.MULTILINE
            )
        }
        total = re.search(
            r"^total mapped (\d+) cached (\d+) allocated (\d+) zero (\d+) file (\d+)$",
            text,
            re.MULTILINE,
        )
        assert total, f"hostmem said no total: {text!r}"
        mapped, cached, allocated, zero, file_bytes = map(int, total.groups())
        return Held(blocks, Counts(mapped, cached, allocated), zero, file_bytes)


def run_here(argv):
    """On this machine; a failure shows what the program said."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr.strip()}"
    return done.stdout
