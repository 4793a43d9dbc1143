# SPDX-License-Identifier: BSD-3-Clause
"""A strict client of the monitor for programs (QMP), for tests.

    with Qmp.connect(path) as qmp:
        qmp.negotiate()
        qmp.execute("qom-set", path="/machine/peripheral/d0", property="requested-size", value=0)
        qmp.wait_event("MEMORY_DEVICE_SIZE_CHANGE", {"id": "d0"})

I1. Every message is checked in full: one line that ends in CR LF, JSON without double keys or
    NaN, exactly the members that its kind has. What is wrong with one is a QmpProtocolError.
I2. execute() has an id of its own in every command and takes only the answer that carries it.
I3. Waits have a time limit; events that nobody waited for yet are kept, in their order.
"""

import array
import collections
import json
import os
import select
import socket
import time

TIMEOUT_S = float(os.environ.get("EBB_TIMEOUT", "60"))

ERROR_CLASSES = {
    "GenericError",
    "CommandNotFound",
    "DeviceNotActive",
    "DeviceNotFound",
    "KVMMissingCap",
}
LINE_MAX = 64 << 20


class QmpError(Exception):
    """The monitor refused a command."""

    def __init__(self, command, error):
        self.error_class, self.desc = error["class"], error["desc"]
        super().__init__(f"{command}: {self.error_class}: {self.desc}")


class QmpProtocolError(AssertionError):
    """The monitor said something that is no QMP."""


class QmpTimeout(AssertionError):
    """What was waited for did not come."""


class QmpClosed(ConnectionError):
    """The monitor ended the connection."""


def unique(pairs):
    """An object of PAIRS; a name that is there twice is an error."""
    value = dict(pairs)
    if len(value) != len(pairs):
        raise QmpProtocolError(f"double names in {pairs!r}")
    return value


def no_constant(name):
    raise QmpProtocolError(f"{name} is no JSON")


def parse(line):
    """The object that LINE (bytes, with its end) is."""
    if not line.endswith(b"\r\n"):
        raise QmpProtocolError(f"a line does not end in CR LF: {line[-80:]!r}")
    try:
        text = line[:-2].decode("utf-8")
        value = json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
    except ValueError as e:
        raise QmpProtocolError(f"no JSON ({e}): {line[:200]!r}") from None
    if not isinstance(value, dict):
        raise QmpProtocolError(f"no object: {line[:200]!r}")
    return value


def members(value, needed, allowed=()):
    """Check that VALUE is an object with all of NEEDED and nothing beyond ALLOWED."""
    if not isinstance(value, dict):
        raise QmpProtocolError(f"no object: {value!r}")
    if not set(needed) <= set(value) <= set(needed) | set(allowed):
        raise QmpProtocolError(f"members of {value!r}: {sorted(needed)} wanted")


def is_int(value, least=0):
    return type(value) is int and value >= least  # a bool is none


def check_event(message):
    members(message, ("event", "timestamp"), ("data",))
    members(message["timestamp"], ("seconds", "microseconds"))
    stamp = message["timestamp"]
    if not is_int(stamp["seconds"], -1) or not is_int(stamp["microseconds"], -1):
        raise QmpProtocolError(f"timestamp {stamp!r}")
    if stamp["microseconds"] >= 1000000 or not isinstance(message["event"], str):
        raise QmpProtocolError(f"event {message!r}")
    if not isinstance(message.get("data", {}), dict):
        raise QmpProtocolError(f"data of {message!r}")


def check_error(message):
    members(message, ("error",), ("id",))
    members(message["error"], ("class", "desc"))
    if message["error"]["class"] not in ERROR_CLASSES:
        raise QmpProtocolError(f"error class {message['error']['class']!r}")
    if not isinstance(message["error"]["desc"], str) or not message["error"]["desc"]:
        raise QmpProtocolError(f"error without a description: {message!r}")


def check_greeting(message):
    members(message, ("QMP",))
    members(message["QMP"], ("version", "capabilities"))
    version = message["QMP"]["version"]
    members(version, ("qemu", "package"))
    members(version["qemu"], ("major", "minor", "micro"))
    if not all(is_int(number) for number in version["qemu"].values()):
        raise QmpProtocolError(f"version {version!r}")
    capabilities = message["QMP"]["capabilities"]
    if not isinstance(capabilities, list) or not all(isinstance(c, str) for c in capabilities):
        raise QmpProtocolError(f"capabilities {capabilities!r}")


class Session:
    """The messages of one session; how its bytes come and go is a subclass's: raw, read_line,
    send_fd and close."""

    def __init__(self, greet=True, timeout=None):
        self.timeout = timeout or TIMEOUT_S
        self.events = collections.deque()
        self._answers = {}
        self._next_id = 0
        self.greeting = self.read_greeting() if greet else None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
        return False

    def raw(self, data, timeout=None):
        """Send bytes as they are."""
        raise NotImplementedError

    def send_fd(self, data, *fds):
        """Send bytes with file descriptors beside them."""
        raise NotImplementedError

    def read_line(self, timeout=None, what="reading"):
        """The next line, with its end."""
        raise NotImplementedError

    def close(self):
        raise NotImplementedError

    def read_greeting(self):
        """The first message of a session, checked."""
        message = parse(self.read_line(what="greeting"))
        check_greeting(message)
        return message["QMP"]

    def read_message(self, timeout=None, what="reading"):
        """The next message: an answer or an event, checked, taken from the stream."""
        message = parse(self.read_line(timeout, what))
        if "event" in message:
            check_event(message)
        elif "error" in message:
            check_error(message)
        else:
            members(message, ("return",), ("id",))
        return message

    def _read(self, what, deadline):
        """Put the next message where it is looked for."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise QmpTimeout(f"{what}: nothing in time; kept events {list(self.events)!r}")
        message = self.read_message(left, what)
        if "event" in message:
            self.events.append(message)
            return
        number = message.get("id")
        if not is_int(number) or number >= self._next_id or number in self._answers:
            raise QmpProtocolError(f"an answer to no command: {message!r}")
        self._answers[number] = message

    def send(self, command, arguments=None, oob=False, fds=()):
        """Send COMMAND without waiting; the number for answer()."""
        number = self._next_id
        self._next_id += 1
        message = {"exec-oob" if oob else "execute": command, "id": number}
        if arguments is not None:
            message["arguments"] = arguments
        data = json.dumps(message).encode() + b"\n"
        if fds:
            self.send_fd(data, *fds)
        else:
            self.raw(data)
        return number

    def answer(self, number, command="command", timeout=None):
        """The value that command NUMBER gave; QmpError when it was refused."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while number not in self._answers:
            self._read(command, deadline)
        message = self._answers.pop(number)
        if "error" in message:
            raise QmpError(command, message["error"])
        return message["return"]

    def call(self, command, arguments=None, oob=False, fds=(), timeout=None):
        """execute() with the arguments as an object, or none at all."""
        return self.answer(self.send(command, arguments, oob, fds), command, timeout)

    def execute(self, command, **arguments):
        """The value that COMMAND gives; a "_" in an argument's name stands for a "-"."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        return self.call(command, named or None)

    def negotiate(self, oob=False):
        """Leave the negotiation mode; the session itself, for chains."""
        answer = self.call("qmp_capabilities", {"enable": ["oob"]} if oob else None)
        if answer != {}:
            raise QmpProtocolError(f"qmp_capabilities gave {answer!r}")
        return self

    def human(self, line):
        """What the human monitor prints for LINE."""
        return self.call("human-monitor-command", {"command-line": line}).replace("\r", "")

    def error(self, command, arguments=None, **kwargs):
        """The QmpError of a command that must be refused."""
        try:
            value = self.call(command, arguments, **kwargs)
        except QmpError as e:
            return e
        raise AssertionError(f"{command} {arguments!r} was not refused but gave {value!r}")

    def wait_event(self, name, match=None, timeout=None):
        """The first event NAME, kept or to come, with what MATCH says: members and values of its
        data, or a function of the data. It is taken from the queue; those before it stay."""
        deadline = time.monotonic() + (timeout or self.timeout)
        seen = 0
        while True:
            while seen < len(self.events):
                event = self.events[seen]
                if event["event"] == name and matches(event.get("data", {}), match):
                    del self.events[seen]
                    return event
                seen += 1
            self._read(f"event {name} {match if match else ''}", deadline)

    def next_event(self, timeout=None):
        """The oldest event, kept or to come."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while not self.events:
            self._read("any event", deadline)
        return self.events.popleft()

    def take_events(self, name=None):
        """The kept events (of that NAME), which are kept no longer."""
        taken = [e for e in self.events if name in (None, e["event"])]
        self.events = collections.deque(e for e in self.events if name not in (None, e["event"]))
        return taken

    def closed(self, timeout=None):
        """Wait until the monitor ends the connection; what it said till then is dropped."""
        try:
            while True:
                self.read_line(timeout, "end of the connection")
        except QmpClosed:
            return True


class Qmp(Session):
    """A session on the connected socket SOCK, which is its own."""

    def __init__(self, sock, greet=True, timeout=None):
        self.sock = sock
        self.sock.setblocking(False)
        self._input = bytearray()
        self._searched = 0
        super().__init__(greet, timeout)

    @classmethod
    def connect(cls, path, **kwargs):
        """A new session on the unix socket PATH."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(TIMEOUT_S)
            sock.connect(str(path))
            return cls(sock, **kwargs)
        except BaseException:
            sock.close()
            raise

    def close(self):
        self.sock.close()

    def _wait(self, what, deadline, read=True):
        left = deadline - time.monotonic()
        sets = ([self.sock], []) if read else ([], [self.sock])
        if left <= 0 or not any(select.select(*sets, [], left)):
            raise QmpTimeout(f"{what}: nothing in time; kept events {list(self.events)!r}")

    def raw(self, data, timeout=None):
        deadline = time.monotonic() + (timeout or self.timeout)
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                self._wait("sending", deadline, read=False)

    def send_fd(self, data, *fds):
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))
        sent = self.sock.sendmsg([data], [rights])
        self.raw(data[sent:])

    def read_line(self, timeout=None, what="reading"):
        deadline = time.monotonic() + (timeout or self.timeout)
        while True:
            at = self._input.find(b"\n", self._searched)
            if at >= 0:
                line = bytes(self._input[: at + 1])
                del self._input[: at + 1]
                self._searched = 0
                return line
            self._searched = len(self._input)
            if self._searched > LINE_MAX:
                raise QmpProtocolError("a line without end")
            try:
                data = self.sock.recv(1 << 20)
            except BlockingIOError:
                self._wait(what, deadline)
                continue
            except ConnectionResetError:
                data = b""
            if not data:
                raise QmpClosed(f"{what}: closed by the monitor after {bytes(self._input)!r}")
            self._input += data


def matches(data, match):
    if match is None:
        return True
    if callable(match):
        return match(data)
    return all(name in data and data[name] == value for name, value in match.items())
