#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A hundred clients of one monitor for programs, of every kind, at once.

    storm.py SOCKET

prints "storm: begins" once each of a hundred clients had its first turn, goes on until its input
ends, and then prints one JSON object: how many turns each kind had, and what went wrong.

Kinds. Those that behave must be answered to the letter:
    talkers       ask for this and that, resize nothing
    slow readers  take a few bytes at a time
    pipeliners    many commands before the first answer is read
    comers        connect, and go at any point of the greeting
The others may be answered or disconnected, and come again:
    garblers      random bytes, broken JSON, half UTF-8
    mutes         ask for much and never read
    halves        say something and shut one direction down
"""

import json
import random
import socket
import sys
import threading
import time

from qmp import Qmp

CLIENTS = {
    "talkers": 40,
    "slow readers": 10,
    "pipeliners": 10,
    "comers": 10,
    "garblers": 15,
    "mutes": 5,
    "halves": 10,
}
PIECES = [
    *(b"{", b"}", b"[", b"]", b'"', b"\\", b"'", b":", b",", b"\n", b"\r\n", b"\0", b"\xff"),
    *(b"\xc3", b"\xf0\x9f", b"\xed\xa0\x80", b"\\ud83d", b"1e999", b"-", b"null", b"tru"),
    *(b'{"execute":"query-status"}', b'{"execute":"qmp_capabilities"}', b'{"execute":"nosuch"}'),
    *(b'{"exec-oob":"query-status","id":1}', b'{"execute":{"a":[1,2,{}]}}', b"[" * 2000),
    b'{"execute":"qom-get","arguments":{"path":"\xc3\xa9","property":3}}',
]
QUESTIONS = [
    ("query-status", None),
    ("query-memory-devices", None),
    ("query-cpus-fast", None),
    ("qom-list", {"path": "/machine/peripheral"}),
    ("query-pci", None),
    ("query-qmp-schema", None),
    ("human-monitor-command", {"command-line": "info memory-devices"}),
]
# After each turn, so that a hundred clients leave something of two processors to a guest.
PAUSE_S = 0.05


class Storm:
    """All clients and what became of them."""

    def __init__(self, path):
        self.path = path
        self.stop = threading.Event()
        self.standing = threading.Semaphore(0)
        self.lock = threading.Lock()
        self.turns = dict.fromkeys(CLIENTS, 0)
        self.wrong = []

    def connect(self):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(60)
        sock.connect(self.path)
        return sock

    def client(self, kind, number):
        """The life of one: its turns, over and over, on connections of its own choice."""
        one = getattr(self, kind.replace(" ", "_"))(random.Random(number))
        first = True
        try:
            for _ in one:
                with self.lock:
                    self.turns[kind] += 1
                if first:
                    self.standing.release()
                    first = False
                if self.stop.wait(PAUSE_S):
                    break
        except Exception as e:  # whatever it is, it is what the test is to see
            with self.lock:
                self.wrong.append(f"{kind}: {type(e).__name__}: {e}"[:500])
        finally:
            one.close()
            if first:
                self.standing.release()

    def run(self):
        threads = [
            threading.Thread(target=self.client, args=(kind, number), daemon=True)
            for kind, count in CLIENTS.items()
            for number in range(count)
        ]
        for thread in threads:
            thread.start()
        for _ in threads:
            self.standing.acquire()
        print("storm: begins", flush=True)
        begin = time.monotonic()
        sys.stdin.read()
        self.stop.set()
        for thread in threads:
            thread.join(60)
            if thread.is_alive():
                self.wrong.append("a client does not come back")
        seconds = time.monotonic() - begin
        print(json.dumps({"turns": self.turns, "wrong": self.wrong, "seconds": seconds}))

    # Clients: generators, a turn each.

    def talkers(self, rng):
        with Qmp.connect(self.path) as qmp:
            qmp.negotiate()
            while True:
                # The long answers now and then only.
                index = min(int(rng.expovariate(1)), len(QUESTIONS) - 1)
                qmp.call(*QUESTIONS[index])
                qmp.take_events()
                yield

    def slow_readers(self, rng):
        with Qmp.connect(self.path) as qmp:
            qmp.negotiate()
            while True:
                number = qmp.send("query-pci")
                text = b""
                while not text.endswith(b"\n"):
                    try:
                        text += qmp.sock.recv(rng.randint(1, 64))
                    except BlockingIOError:
                        pass
                    yield
                if json.loads(text)["id"] != number:
                    raise AssertionError(f"{number}: {text!r}")

    def pipeliners(self, _rng):
        with Qmp.connect(self.path) as qmp:
            qmp.negotiate()
            while True:
                numbers = [qmp.send("query-status") for _ in range(64)]
                for number in numbers:
                    if not isinstance(qmp.answer(number)["running"], bool):
                        raise AssertionError("no status")
                yield

    def comers(self, rng):
        while True:
            with self.connect() as sock:
                if rng.random() < 0.5:
                    sock.recv(rng.randint(1, 300))
                if rng.random() < 0.5:
                    sock.sendall(b'{"execute":"qmp_capabilities"}' * rng.randint(1, 3))
            yield

    def garblers(self, rng):
        while True:
            with self.connect() as sock:
                for _ in range(rng.randint(1, 50)):
                    if rng.random() < 0.2:
                        data = rng.randbytes(rng.randint(1, 5000))
                    else:
                        data = b"".join(rng.choices(PIECES, k=rng.randint(1, 30)))
                    try:
                        sock.sendall(data)
                        sock.settimeout(0.001)
                        sock.recv(1 << 20)
                    except TimeoutError:
                        pass
                    except ConnectionError:
                        break
                    sock.settimeout(60)
                    yield
            yield

    def mutes(self, _rng):
        while True:
            with self.connect() as sock:
                sock.sendall(b'{"execute":"qmp_capabilities"}')
                sock.setblocking(False)
                yield
                while True:
                    try:
                        sock.send(b'{"execute":"query-qmp-schema"}\n')
                    except BlockingIOError:
                        pass
                    except ConnectionError:
                        break
                    yield

    def halves(self, rng):
        while True:
            with self.connect() as sock:
                try:
                    sock.sendall(b'{"execute":"qmp_capabilities"}{"execute":"query-pci"}')
                    sock.shutdown(rng.choice([socket.SHUT_RD, socket.SHUT_WR]))
                    yield
                    while sock.recv(65536):
                        pass
                except ConnectionError:
                    pass
            yield


if __name__ == "__main__":
    Storm(sys.argv[1]).run()
