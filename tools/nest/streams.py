# SPDX-License-Identifier: BSD-3-Clause
"""The test's end of the relay's channel: numbered streams over one socket (see relay.c).

Threads: one reads frames and hands them to their streams, one sends a ping now and then. All
state is guarded by Link.changed; every wait is a wait on it, so nothing polls. A link that
failed stays failed, and every call on it or its streams raises NestInfraError from then on.
"""

import re
import struct
import threading
import time

FRAME_MAX = 32 * 1024
HEADER = struct.Struct("<BII")
PING_EVERY_S = 15
HANG_AFTER_S = 120


class NestInfraError(Exception):
    """The emulated host itself failed (panic, hang, end): nothing is said about what ran in it."""


class NestTimeout(Exception):
    """What runs in the host did not do in time what was awaited; the host itself answers."""


class StreamEnded(Exception):
    """A process or connection ended before it showed what was awaited."""


def tail(data, lines=15):
    """The last LINES lines of DATA (bytes), as text."""
    return "\n".join(data.decode(errors="replace").replace("\r", "").splitlines()[-lines:])


class Stream:
    """A process in the host, or a connection to a socket there."""

    def __init__(self, link, number, name):
        self.link = link
        self.number = number
        self.name = name
        self.pid = None  # None until it started
        self.output = b""  # all of it
        self.status = None  # None while it lives
        self.error = None  # the error number when it could not be started
        self._mark = 0  # how much of output was consumed
        self._watcher = None

    def write(self, data):
        """Give DATA (text or bytes) to its input."""
        if isinstance(data, str):
            data = data.encode()
        for at in range(0, len(data), FRAME_MAX):
            self.link.send("W", self.number, data[at : at + FRAME_MAX])

    def close_input(self):
        """End its input once all of it was taken."""
        self.link.send("E", self.number)

    def kill(self, signo=9):
        """Send a signal to its process group; close it when it is a connection."""
        self.link.send("K", self.number, bytes([signo]))

    def resize(self, rows, columns):
        """Tell its terminal the size of the person's."""
        self.link.send("Z", self.number, struct.pack("<HH", rows, columns))

    @property
    def ended(self):
        return self.status is not None or self.error is not None

    def started(self, timeout):
        """Wait until it runs or is connected; OSError when that failed."""
        with self.link.changed:
            self.link.wait(lambda: self.pid is not None or self.error is not None, timeout, self)
            if self.error is not None:
                raise OSError(self.error, f"{self.name} could not be started")
        return self

    def wait(self, timeout):
        """Wait for its end and return its status, as a shell would report it."""
        with self.link.changed:
            self.link.wait(lambda: self.ended, timeout, self)
            if self.error is not None:
                raise OSError(self.error, f"{self.name} failed")
            return self.status

    def expect(self, pattern, timeout):
        """Wait for the regular expression PATTERN in the output that was not consumed yet.

        Consumes up to its end and returns the match (of bytes). Raises StreamEnded when the
        stream ends without it and NestTimeout when it does not come in time.
        """
        if isinstance(pattern, str):
            pattern = pattern.encode()
        compiled = re.compile(pattern, re.M)
        found = None

        def look():
            nonlocal found
            found = compiled.search(self.output, self._mark)
            return found is not None or self.ended

        with self.link.changed:
            self.link.wait(look, timeout, self, f"to see {pattern!r}")
            if found is None:
                raise StreamEnded(
                    f"{self.name} ended with status {self.status} before it showed {pattern!r}; "
                    f"its last lines:\n{tail(self.output)}"
                )
            self._mark = found.end()
            return found

    def take_mark(self):
        """How much of the output was consumed."""
        return self._mark

    def take(self):
        """Consume and return the output that was not consumed yet."""
        with self.link.changed:
            fresh = self.output[self._mark :]
            self._mark = len(self.output)
            return fresh

    def attach(self, watcher):
        """Call WATCHER(bytes) with what was not consumed and then with all that comes; called
        with empty bytes at the end. None detaches. It runs on the link's thread."""
        with self.link.changed:
            self._watcher = watcher
            if watcher is not None:
                fresh = self.take()
                if fresh:
                    watcher(fresh)
                if self.ended:
                    watcher(b"")

    def receive(self, kind, data):
        """Take a frame. Called by the link, with its lock held."""
        if kind == "S":
            (self.pid,) = struct.unpack("<I", data)
        elif kind == "O":
            self.output += data
            if self._watcher is not None:
                self._mark = len(self.output)
                self._watcher(data)
        elif kind == "X":
            (self.status,) = struct.unpack("<I", data)
        elif kind == "F":
            (self.error,) = struct.unpack("<I", data)
        if self.ended and self._watcher is not None:
            self._watcher(b"")


class Link:
    """The channel to a relay. SOCK is a connected socket, owned by the link."""

    def __init__(self, sock):
        self.sock = sock
        self.changed = threading.Condition(threading.RLock())
        self.failure = None  # the reason, once failed
        self.closed = False
        self._greeted = False
        self._streams = {}
        self._next = 1
        self._last_heard = time.monotonic()
        self._sending = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._read_loop, daemon=True, name="relay-read"),
            threading.Thread(target=self._ping_loop, daemon=True, name="relay-ping"),
        ]
        for thread in self._threads:
            thread.start()

    def fail(self, reason):
        """Mark the link as failed for REASON (the first one counts) and wake every wait."""
        with self.changed:
            if self.failure is None and not self.closed:
                self.failure = reason
            self.changed.notify_all()

    def close(self):
        """End the channel and the threads."""
        with self.changed:
            self.closed = True
        self._stop.set()
        try:
            self.sock.shutdown(2)
        except OSError:
            pass  # the other end is gone already
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        self.sock.close()

    def wait(self, done, timeout, stream=None, purpose=""):
        """Wait until DONE() holds; the lock is held by the caller. Raises as documented above."""
        deadline = time.monotonic() + timeout
        while not done():
            if self.failure is not None:
                raise NestInfraError(self.failure)
            left = deadline - time.monotonic()
            if left <= 0:
                what = f"{stream.name} {purpose}".strip() if stream else "the host"
                last = f"; its last lines:\n{tail(stream.output)}" if stream else ""
                raise NestTimeout(f"waited {timeout:g} s for {what}{last}")
            self.changed.wait(left)

    def greeted(self, timeout):
        """Wait for the relay's hello."""
        with self.changed:
            self.wait(lambda: self._greeted, timeout)

    def ping(self, timeout):
        """Ask the relay for a sign of life; NestInfraError when it gives none."""
        with self.changed:
            before = self._last_heard
        self.send("P", 0)
        try:
            with self.changed:
                self.wait(lambda: self._last_heard > before, timeout)
        except NestTimeout as late:
            self.fail(f"the host did not answer for {timeout:g} s")
            raise NestInfraError(self.failure) from late

    def open(self, kind, payload, name):
        """Make a stream of KIND (R or C) with its first frame's PAYLOAD."""
        if len(payload) > FRAME_MAX:
            raise ValueError(f"{name}: the command is longer than {FRAME_MAX} bytes")
        with self.changed:
            stream = Stream(self, self._next, name)
            self._streams[self._next] = stream
            self._next += 1
        self.send(kind, stream.number, payload)
        return stream

    def send(self, kind, number, payload=b""):
        """Send one frame. Never called with the lock held: the relay may have to be read first."""
        if self.failure is not None:
            raise NestInfraError(self.failure)
        try:
            with self._sending:
                self.sock.sendall(HEADER.pack(ord(kind), number, len(payload)) + payload)
        except OSError as error:
            self.fail(f"the channel to the host broke ({error.strerror})")
            raise NestInfraError(self.failure) from error

    def _read_exact(self, count):
        parts = []
        while count:
            part = self.sock.recv(count)
            if not part:
                return None
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def _read_loop(self):
        try:
            while True:
                head = self._read_exact(HEADER.size)
                if head is None:
                    break
                kind, number, length = HEADER.unpack(head)
                data = self._read_exact(length) if length else b""
                if data is None:
                    break
                self._dispatch(chr(kind), number, data)
        except OSError:
            pass  # reported below like any other end
        self.fail("the channel to the host ended")

    def _dispatch(self, kind, number, data):
        with self.changed:
            self._last_heard = time.monotonic()
            if kind == "H":
                self._greeted = True
            stream = self._streams.get(number)
            if stream is not None:
                stream.receive(kind, data)
                if stream.ended:
                    del self._streams[number]
            self.changed.notify_all()

    def _ping_loop(self):
        while not self._stop.wait(PING_EVERY_S):
            with self.changed:
                if self.failure is not None:
                    return
                if not self._greeted:
                    continue
                silent = time.monotonic() - self._last_heard
            if silent > HANG_AFTER_S:
                self.fail(f"the host did not answer for {silent:.0f} s")
                return
            try:
                self.send("P", 0)
            except NestInfraError:
                return
