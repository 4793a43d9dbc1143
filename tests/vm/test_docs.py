#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The examples in docs/monitor.md are answered as they are shown there.

    python3 tests/vm/test_docs.py --write     put what is said now in the place of what is shown

The document is one long session with one machine, the one of its first block of options; only the
guest is another. Its blocks, by the word behind the fence:

    sh        not run, but for the first one: the machine's command line
    qmp       a session: "-> " is sent, "<- " is to come; lines that begin otherwise go on with the
              message before them. Events that are not shown may come as well
    hmp       lines after the prompt "(qemu) " are typed, the others are to come
    console   lines after "$ " are run by a shell in the machine's folder
    python    a program that has to run there

Shown and said are the same but for numbers, and for the time in an event's timestamp. Blocks of
programs that are not installed are skipped.
"""

import json
import os
import pathlib
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time

import pytest

from ebbvm import BUILD, ROOT, TIMEOUT_S, Machine, Monitor
from qmp import Qmp, matches, parse

DOCUMENT = ROOT / "docs" / "monitor.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KINDS = ("qmp", "hmp", "console", "python")
WIDTH = 98
PATH = f"{BUILD / 'ebbctl'}:{os.environ['PATH']}"
# Options of the document's machine that stand for its guest; the freestanding one has its own.
GUEST_OPTIONS = ("-kernel", "-initrd", "-append")
# It gives back all but what a guest that does something would keep.
GUEST_WORDS = "test=vmem-follow devices=2 step=128M keep=512M"


class Block:
    """A fenced block: its KIND, TEXT, and where the text is in the document."""

    def __init__(self, match):
        self.kind, self.text = match.groups()
        self.start, self.end = match.span(2)


def blocks_of(text):
    return [Block(match) for match in FENCE.finditer(text)]


def examples():
    return [b for b in blocks_of(DOCUMENT.read_text()) if b.kind in KINDS]


def machine_options():
    """The options of the document's machine, without program and guest."""
    first = next(b for b in blocks_of(DOCUMENT.read_text()) if b.kind == "sh")
    words = shlex.split(first.text.replace("\\\n", " "))[1:]
    options = []
    while words:
        word = words.pop(0)
        if word in GUEST_OPTIONS:
            words.pop(0)
        elif word != "-nographic":
            options.append(word)
    return options


# Messages of a qmp block.


def messages(text):
    """[(direction, text)] of a block."""
    found = []
    for line in text.splitlines():
        if line[:3] in ("-> ", "<- "):
            found.append([line[:2], line[3:]])
        else:
            found[-1][1] += " " + line.strip()
    return [tuple(entry) for entry in found]


def show_message(direction, value):
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    # Break at spaces between members, never inside of strings' words.
    lines = textwrap.wrap(text, WIDTH - 3, break_long_words=False, break_on_hyphens=False)
    return f"{direction} " + "\n   ".join(lines) + "\n"


def next_event(qmp, shown):
    """The event of that name whose text members are those that are SHOWN."""
    data = {k: v for k, v in shown.get("data", {}).items() if isinstance(v, str)}
    while True:
        message = qmp.next_event()
        if message["event"] == shown["event"] and matches(message.get("data", {}), data):
            return message


class Sessions:
    """Sessions with the document's machine, whose sockets are in FOLDER."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def settle(self):
        """Wait until the guest has done what it can, as a reader would."""
        deadline = time.monotonic() + TIMEOUT_S
        with Qmp.connect(self.folder / "vm.qmp") as qmp:
            qmp.negotiate()
            while any(d["request-status"] == "in-progress" for d in qmp.call("query-virtio-mem")):
                assert time.monotonic() < deadline, "the guest does not follow"
                time.sleep(0.01)

    def run(self, block):
        """What is said now in the place of BLOCK's text, or what went wrong."""
        self.settle()
        try:
            return getattr(self, "run_" + block.kind)(block.text)
        except (AssertionError, OSError) as e:
            return f"{type(e).__name__}: {e}\n"

    def run_qmp(self, text):
        entries, said = messages(text), ""
        with Qmp.connect(self.folder / "vm.qmp", greet=False) as qmp:
            first = parse(qmp.read_line())
            if entries[0][0] == "<-":
                said += show_message("<-", first)
                entries.pop(0)
            else:
                qmp.negotiate()
            for direction, entry in entries:
                if direction == "->":
                    qmp.raw(entry.encode() + b"\n")
                    said += show_message("->", entry)
                elif "event" in (shown := json.loads(entry)):
                    said += show_message("<-", next_event(qmp, shown))
                else:
                    said += show_message("<-", self.answer(qmp))
        return said

    @staticmethod
    def answer(qmp):
        while True:
            message = qmp.read_message()
            if "event" not in message:
                return message
            qmp.events.append(message)

    def run_hmp(self, text):
        said = ""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(str(self.folder / "vm.hmp"))
            monitor = Monitor(sock)
            for line in text.splitlines():
                if line.startswith("(qemu) "):
                    said += f"{line}\n{monitor.run(line[7:])}"
        return said

    def run_console(self, text):
        said = ""
        for line in text.splitlines():
            if line.startswith("$ "):
                output = self.process(["sh", "-c", line[2:]])
                said += f"{line}\n{output}"
                said += "" if said.endswith("\n") else "\n"
        return said

    def run_python(self, text):
        assert "memaddr" in self.process([sys.executable, "-c", text])
        return text

    def process(self, words):
        """What a program prints that ends well."""
        done = subprocess.run(
            words,
            cwd=self.folder,
            env={**os.environ, "PATH": PATH},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
        )
        output = done.stdout.decode().replace("\r", "")
        assert done.returncode == 0, f"status {done.returncode}: {output}"
        return output


def needs(block):
    """Programs that a console block runs and that are not there."""
    if block.kind != "console":
        return []
    words = [line[2:].split("|") for line in block.text.splitlines() if line.startswith("$ ")]
    programs = {part.split()[0] for parts in words for part in parts}
    return sorted(p for p in programs - {"printf", "echo"} if not shutil.which(p, path=PATH))


def play(folder):
    """[(block, what is said now or None)] of all examples, in one machine."""
    here = os.getcwd()
    os.chdir(folder)  # the document's paths are relative
    try:
        with Machine(folder, GUEST_WORDS, machine_options()) as machine:
            machine.console.expect("^follow: ready\n")
            sessions = Sessions(folder)
            return [(b, None if needs(b) else sessions.run(b)) for b in examples()]
    finally:
        os.chdir(here)


# Comparing.


def same_shape(shown, said):
    """Are two values the same but for numbers?"""
    if isinstance(shown, dict) and isinstance(said, dict):
        return shown.keys() == said.keys() and all(same_shape(v, said[k]) for k, v in shown.items())
    if isinstance(shown, list) and isinstance(said, list):
        return len(shown) == len(said) and all(map(same_shape, shown, said))
    if isinstance(shown, str) and isinstance(said, str):
        return same_text(shown, said)
    if isinstance(shown, (bool, type(None))) or isinstance(said, (bool, type(None))):
        return shown is said
    return type(shown) is type(said)


def plain(text):
    """TEXT without numbers, the width of columns, and what the host's kernel decides."""
    text = re.sub(r"^Guard: on \(.*\)$", "Guard: on", text, flags=re.MULTILINE)
    return re.sub(r"[ \t]+", " ", re.sub(r"\d+(\.\d+)?", "0", text))


def same_text(shown, said):
    return plain(shown) == plain(said)


def agree(block, said):
    if block.kind != "qmp":
        return same_text(block.text, said)
    shown, now = messages(block.text), messages(said)
    return len(shown) == len(now) and all(
        a[0] == b[0] and same_shape(json.loads(a[1]), json.loads(b[1])) for a, b in zip(shown, now)
    )


EXAMPLES = examples()


def example_name(index):
    block = EXAMPLES[index]
    line = DOCUMENT.read_text()[: block.start].count("\n") + 1
    return f"{block.kind} in line {line}"


@pytest.fixture(scope="module")
def played():
    with tempfile.TemporaryDirectory(prefix="ebb-") as folder:
        return play(folder)


@pytest.mark.parametrize("index", range(len(EXAMPLES)), ids=example_name)
def test_example(played, index):
    block, said = played[index]
    if said is None:
        pytest.skip(f"not installed: {', '.join(needs(block))}")
    assert agree(block, said), f"said now:\n{said}\nshown:\n{block.text}"


def test_each_kind_is_there():
    assert {block.kind for block in EXAMPLES} == set(KINDS)


def write():
    """Replace the examples by what is said now."""
    with tempfile.TemporaryDirectory(prefix="ebb-") as folder:
        found = play(folder)
    text = DOCUMENT.read_text()
    for block, said in reversed(found):
        if said is not None:
            text = text[: block.start] + said + text[block.end :]
    DOCUMENT.write_text(text)


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(__doc__)
    write()
