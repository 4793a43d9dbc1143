# SPDX-License-Identifier: BSD-3-Clause
"""Clients of the monitor for programs that are many, slow, rude or broken.

Whatever they do, the guest does not notice, other clients are answered, and what the program holds
for them is bounded. The guest counts (tests/bare/test_count.c); what it counts is compared with
itself without the storm, and in the processor time that the host gave it, so that a loaded host
changes nothing.
"""

import contextlib
import json
import os
import pathlib
import random
import select
import socket
import subprocess
import sys
import threading
import time

import pytest

from ebbvm import TIMEOUT_S, Machine, memory_devices
from qmp import Qmp, QmpClosed
from storm import CLIENTS

pytestmark = pytest.mark.timed

MIB = 1 << 20
ARGS = ["-m", "128M,maxmem=4G", *memory_devices(("256M", "0", "2M", 0))]
STORM = pathlib.Path(__file__).with_name("storm.py")
STORM_SECONDS = float(os.environ.get("EBB_STORM_SECONDS", "5"))

# The guest's turns per second of its own processor time, in the storm and without.
LEAST_RATIO = 0.5
# Of the time, how much the vCPU may neither run nor be ready to: a lock, a wait for somebody.
MOST_BLOCKED = 0.05
# The longest time that the guest did not run, whoever is to blame; a loaded host gives a processor
# back within this.
MOST_AWAY_S = 2.0
# An answer for a client that asks nicely, behind a hundred others.
MOST_ANSWER_S = 5.0
# A client whose words are not taken for so long is kept waiting.
STUCK_S = 1.0
# What the program may hold beyond its own, for one client that does its worst: a value of 16 MiB
# while it is read, taken apart or thrown away; and for a hundred, which do not all do that.
MOST_RSS_BYTES = 64 * MIB
RSS_SLACK_BYTES = 16 * MIB


class Guest:
    """The counting guest of MACHINE, over the time since the last look."""

    def __init__(self, machine):
        self.machine = machine
        machine.console.expect("^count: ready$")
        tasks = pathlib.Path(f"/proc/{machine.process.pid}/task").iterdir()
        self.task = next(t for t in tasks if "CPU 0" in (t / "comm").read_text())
        self.look()

    def look(self):
        """What happened since: turns, seconds of wall clock, of processor time, blocked, and the
        longest that the guest was away."""
        self.machine.type("report")
        pattern = r"^counted turns=(\d+) ticks=(\d+) longest=(\d+)\n"
        turns, ticks, longest = map(int, self.machine.console.expect(pattern).groups())
        now = time.monotonic()
        run, ready = map(int, (self.task / "schedstat").read_text().split()[:2])
        before, self._last = getattr(self, "_last", (now, run, ready)), (now, run, ready)
        wall = max(now - before[0], 1e-9)
        ran, delayed = (run - before[1]) / 1e9, (ready - before[2]) / 1e9
        return {
            "turns": turns,
            "wall": wall,
            "ran": ran,
            "blocked": max(0.0, wall - ran - delayed),
            "away": longest / ticks * wall if ticks else 0.0,
        }


@contextlib.contextmanager
def storming(path, result):
    """A hundred clients around the block; their report goes into RESULT."""
    process = subprocess.Popen(
        [sys.executable, "-B", str(STORM), str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "storm: begins\n"
        yield
        out, _ = process.communicate("", timeout=2 * TIMEOUT_S)
        result.update(json.loads(out))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def descriptors(machine):
    return len(os.listdir(f"/proc/{machine.process.pid}/fd"))


@pytest.fixture
def counting(folder):
    """A machine whose guest counts, and a client that behaves."""
    with Machine(folder, "test=count", ARGS, qmp=True) as machine:
        machine.guest = Guest(machine)
        machine.good = machine.qmp()
        machine.path = machine.folder / "qmp.sock"
        machine.rss = machine.rss_anon_bytes()
        machine.descriptors = descriptors(machine)
        yield machine
        # Whatever happened: the machine is as it was.
        assert machine.good.execute("query-status")["running"] is True
        assert machine.qmp().execute("query-status")["running"] is True
        machine.type("quit")
        machine.console.expect(r"^DONE passed=\d+ failed=0$")
        assert machine.wait() == 0, machine.errors.text


def settle(machine, slack=RSS_SLACK_BYTES):
    """All that was held for clients that are gone is given back."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        machine.good.execute("query-status")  # a turn of the program's loop
        if descriptors(machine) <= machine.descriptors:
            if machine.rss_anon_bytes() <= machine.rss + slack:
                return
        if time.monotonic() > deadline:
            more = machine.rss_anon_bytes() - machine.rss
            raise AssertionError(f"{descriptors(machine)} descriptors, {more} bytes more")


def test_hundred_clients(counting):
    """All kinds at once; see storm.py."""
    machine, answers, result = counting, [], {}
    time.sleep(STORM_SECONDS / 2)  # the guest's time is what is measured
    quiet = machine.guest.look()
    with storming(machine.path, result):
        machine.guest.look()
        end = time.monotonic() + STORM_SECONDS
        while time.monotonic() < end:
            begin = time.monotonic()
            machine.good.execute("query-memory-devices")
            answers.append(time.monotonic() - begin)
            time.sleep(0.005)  # one who asks nicely
            assert machine.rss_anon_bytes() < machine.rss + MOST_RSS_BYTES
        stormy = machine.guest.look()
    rates = [look["turns"] / look["ran"] for look in (quiet, stormy)]
    print(f"quiet {quiet}\nstormy {stormy}\n{result}")
    print(f"answers: {len(answers)}, longest {max(answers):.3f} s; turns {rates[1] / rates[0]:.2f}")
    assert result["wrong"] == []
    assert all(result["turns"][kind] >= count for kind, count in CLIENTS.items())
    assert max(answers) < MOST_ANSWER_S
    assert rates[1] > LEAST_RATIO * rates[0]
    assert stormy["blocked"] < MOST_BLOCKED * stormy["wall"]
    assert stormy["away"] < MOST_AWAY_S
    settle(machine)


def repeated(piece, total_bytes):
    """PIECE over and over, in large pieces."""
    large = piece * max(1, MIB // len(piece))
    for _ in range(total_bytes // len(large)):
        yield large


def numbered(text, total_bytes):
    """TEXT with other numbers in it, over and over."""
    size, number = 0, 0
    while size < total_bytes:
        data = b"".join(text % n for n in range(number, number + 50000))
        number += 50000
        size += len(data)
        yield data


def opened(opening, pieces):
    yield opening
    yield from pieces


# What a client says, and whether it reads what it is told. All of it is more than a value may have.
RUDE = {
    "lists in lists": (lambda: repeated(b"[", 1024 * MIB), True),
    "objects in objects": (lambda: repeated(b'{"a":', 256 * MIB), True),
    "lists in lists, unread": (lambda: repeated(b"[", 1024 * MIB), False),
    "a string without end": (lambda: opened(b'"', repeated(b"a", 256 * MIB)), True),
    "escapes without end": (lambda: opened(b'"', repeated(b"\\u00e9", 256 * MIB)), True),
    "a name without end": (lambda: opened(b'{"', repeated(b"a", 256 * MIB)), True),
    "a number without end": (lambda: repeated(b"1", 256 * MIB), True),
    "a word without end": (lambda: repeated(b"x", 256 * MIB), True),
    "space without end": (lambda: repeated(b" ", 256 * MIB), True),
    "lines without end": (lambda: repeated(b"\r\n", 256 * MIB), True),
    "a list without end": (lambda: opened(b"[0", repeated(b",0", 256 * MIB)), True),
    "lists without end": (lambda: opened(b"[[]", repeated(b",[]", 256 * MIB)), True),
    "members without end": (lambda: opened(b'{"a":0', numbered(b',"%d":0', 128 * MIB)), True),
    "arguments without end": (
        lambda: opened(
            b'{"execute":"qmp_capabilities"}{"execute":"query-status","arguments":{"a":0',
            numbered(b',"%d":[]', 128 * MIB),
        ),
        True,
    ),
    "0xff": (lambda: repeated(b"\xff", MIB), True),
    "0xff, unread": (lambda: repeated(b"\xff", 64 * MIB), False),
    "half of UTF-8": (lambda: repeated(b'"\xf0\x9f\n', 4 * MIB), True),
    "zeros": (lambda: repeated(b"\0", MIB), True),
    "commands before negotiation": (lambda: repeated(b'{"execute":"stop"}', 8 * MIB), True),
    "noise": (lambda: (random.Random(1).randbytes(MIB) for _ in range(8)), True),
}


def feed(sock, pieces, read, watch):
    """Send all PIECES while reading or not, and WATCH() after each. What came of it."""
    sock.setblocking(False)
    for piece in pieces:
        view = memoryview(piece)
        begin = time.monotonic()
        while view:
            try:
                while read and sock.recv(MIB):
                    pass
            except BlockingIOError:
                pass
            except ConnectionError:
                return "disconnected"
            try:
                view = view[sock.send(view) :]
                begin = time.monotonic()
            except BlockingIOError:
                waits = time.monotonic() - begin
                assert not read or waits < TIMEOUT_S, "neither taken nor disconnected"
                if waits > STUCK_S:
                    watch()
                    return "kept waiting"
                select.select([sock] if read else [], [sock], [], STUCK_S)
            except ConnectionError:
                return "disconnected"
        watch()
    return "taken"


@pytest.mark.parametrize("name", RUDE)
def test_rude_client(counting, name):
    """Answered, kept waiting while it does not listen, or disconnected; bounded; and nobody else
    waits."""
    machine = counting
    pieces, read = RUDE[name]
    worst = {"rss": 0, "answer": 0.0}

    def watch():
        begin = time.monotonic()
        machine.good.execute("query-status")
        worst["answer"] = max(worst["answer"], time.monotonic() - begin)
        worst["rss"] = max(worst["rss"], machine.rss_anon_bytes() - machine.rss)
        assert worst["rss"] < MOST_RSS_BYTES, f"{worst['rss'] >> 20} MiB"
        assert worst["answer"] < MOST_ANSWER_S

    with Qmp.connect(machine.path) as qmp:
        end = feed(qmp.sock, pieces(), read, watch)
    print(f"{end}, at most {worst['rss'] >> 20} MiB, {worst['answer']:.3f} s")
    settle(machine)
    away = machine.guest.look()
    assert away["blocked"] < MOST_BLOCKED * away["wall"] + 0.05
    assert away["away"] < MOST_AWAY_S


def test_client_that_never_reads(counting):
    """It is heard no longer, after a bounded amount of answers; when it reads, all of them are
    there."""
    machine, sent, held = counting, 0, 0
    line = b'{"execute":"query-qmp-schema"}\n'
    with Qmp.connect(machine.path) as qmp:
        qmp.raw(b'{"execute":"qmp_capabilities"}\n')
        while select.select([], [qmp.sock], [], STUCK_S)[1]:
            try:
                sent += qmp.sock.send(line[sent % len(line) :])
            except BlockingIOError:
                continue
            machine.good.execute("query-status")
            held = max(held, machine.rss_anon_bytes() - machine.rss)
            assert held < RSS_SLACK_BYTES, f"{held >> 20} MiB"
            assert sent < 1000 * MIB, "all of it is taken"
        assert qmp.read_message() == {"return": {}}
        for _ in range(sent // len(line)):
            assert len(qmp.read_message()["return"]) > 100
    settle(machine)


def test_listener_that_never_reads(counting):
    """Nor does one that only leaves its events unread hold up who makes them."""
    machine = counting
    mute = machine.qmp()
    deadline = time.monotonic() + 2 * TIMEOUT_S
    while descriptors(machine) > machine.descriptors:
        for _ in range(100):
            machine.good.execute("stop")
            machine.good.execute("cont")
        machine.good.take_events()
        assert machine.rss_anon_bytes() - machine.rss < RSS_SLACK_BYTES
        assert time.monotonic() < deadline, "it is still connected"
    assert mute.closed()
    settle(machine)


def test_pipelined(counting):
    """Ten thousand commands before the first answer is looked at, answered in their order."""
    qmp, count = counting.qmp(), 10000
    commands = ["query-status", "query-name", "no-such-command", "qom-list-types"]
    lines = [
        json.dumps({"execute": commands[i % len(commands)], "id": i}).encode() for i in range(count)
    ]
    # From a thread: an answer that is not taken is a reason to take no more commands.
    sender = threading.Thread(target=qmp.raw, args=(b"\n".join(lines) + b"\n",))
    sender.start()
    for i in range(count):
        message = qmp.read_message(what=f"answer {i}")
        assert message["id"] == i
        assert ("error" in message) == (i % len(commands) == 2)
    sender.join()
    qmp.close()
    settle(counting)


def test_one_byte_at_a_time(counting):
    with Qmp.connect(counting.path) as qmp:
        text = b'{"execute":"qmp_capabilities","id":"\xc3\xa9\\u00e9\\\\"}'
        text += b'{"execute":"query-status"}'
        for byte in text:
            qmp.raw(bytes([byte]))
        assert qmp.read_message() == {"return": {}, "id": "éé\\"}
        assert qmp.read_message()["return"]["running"] is True


def test_large_id(counting):
    """It comes back as it was."""
    with Qmp.connect(counting.path) as qmp:
        name = {"text": "é\"\\\u2028😀" * 10000, "list": [[], {}, None, 1, -1, 0.5, True] * 1000}
        qmp.raw(json.dumps({"execute": "qmp_capabilities", "id": name}).encode())
        assert qmp.read_message() == {"return": {}, "id": name}


def test_half_closed(counting):
    """Whoever says all and only listens hears all answers, then the end."""
    with Qmp.connect(counting.path) as qmp:
        qmp.raw(b'{"execute":"qmp_capabilities"}' + b'{"execute":"query-pci","id":1}' * 8)
        qmp.sock.shutdown(socket.SHUT_WR)
        assert qmp.read_message() == {"return": {}}
        for _ in range(8):
            assert qmp.read_message()["id"] == 1
        with pytest.raises(QmpClosed):
            qmp.read_message()
    settle(counting)


def test_deaf(counting):
    """Whoever cannot hear is disconnected."""
    with Qmp.connect(counting.path) as qmp:
        qmp.sock.shutdown(socket.SHUT_RD)
        qmp.raw(b'{"execute":"qmp_capabilities"}')
        settle(counting)


def test_come_and_go(counting):
    """Thousands of connections, of which nothing is left."""
    machine = counting
    for turn in range(2000):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(TIMEOUT_S)
            sock.connect(str(machine.path))
            if turn % 3 == 1:
                sock.sendall(b'{"execute":"qmp_capabilities"}{"execute":"quer')
            elif turn % 3 == 2:
                sock.recv(10)
    settle(machine)


def test_descriptors(counting):
    """A client that sends descriptors nobody asked for: few are kept, none for long."""
    machine = counting
    with Qmp.connect(machine.path) as qmp:
        qmp.negotiate()
        null = os.open("/dev/null", os.O_RDWR)
        try:
            for _ in range(500):
                qmp.send_fd(b" ", *[null] * 16)
                qmp.execute("query-status")
                assert descriptors(machine) < machine.descriptors + 64
            qmp.call("query-status", fds=[null])
            qmp.call("getfd", {"fdname": "kept"}, fds=[null])
            qmp.call("closefd", {"fdname": "kept"})
        finally:
            os.close(null)
    settle(machine)


def test_idle_clients(counting):
    """Two hundred that only listen cost little, and all hear of what happens."""
    machine = counting
    idle = [machine.qmp() for _ in range(200)]
    each = (machine.rss_anon_bytes() - machine.rss) / len(idle)
    print(f"{each / 1024:.1f} KiB each")
    assert each < 128 * 1024
    machine.good.execute("stop")
    machine.good.execute("cont")
    for session in idle:
        assert session.next_event()["event"] == "STOP"
        assert session.next_event()["event"] == "RESUME"
        session.close()
    settle(machine)
