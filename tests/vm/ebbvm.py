# SPDX-License-Identifier: BSD-3-Clause
"""Start ebb with a guest, listen to its console, talk to its monitor, look at its process.

I1. Whatever Machine started is ended and waited for when its `with` block ends, by its own pid.
I2. Waits are for events (output, a connection, the end of the process) and have a time limit;
    a failure shows the console's text so far.
I3. Everything a machine makes (sockets, pid files) lies in the folder that it was given.
"""

import fcntl
import os
import pathlib
import re
import select
import shlex
import signal
import socket
import subprocess
import threading
import time

from qmp import Qmp

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("EBB_BUILD", ROOT / "build"))
EBB = pathlib.Path(os.environ.get("EBB", BUILD / "vmm/main/ebb"))
GUEST = pathlib.Path(os.environ.get("EBB_BARE", BUILD / "tests/bare/bare-guest"))
# Everything takes less than a second on an idle machine; builders are not always idle.
TIMEOUT_S = float(os.environ.get("EBB_TIMEOUT", "60"))

# Options that every machine gets besides: "-sandbox on,spawn=deny" for one.
EXTRA = shlex.split(os.environ.get("EBB_EXTRA", ""))

KVM_GET_API_VERSION = 0xAE00
PROMPT = b"(qemu) "
ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def kvm_missing():
    """Why no KVM guest can run here; None when one can."""
    try:
        fd = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except OSError as e:
        return f"/dev/kvm cannot be opened: {e.strerror}"
    try:
        version = fcntl.ioctl(fd, KVM_GET_API_VERSION, 0)
    except OSError as e:
        return f"/dev/kvm is not KVM: {e.strerror}"
    finally:
        os.close(fd)
    return None if version == 12 else f"/dev/kvm speaks version {version}, not 12"


class Stream:
    """Text that arrives from a file descriptor, collected by a thread of its own."""

    def __init__(self, fd):
        self._fd = fd
        self._cond = threading.Condition()
        self._text = ""
        self._at = 0  # where expect() looks next
        self._closed = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        while True:
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # a pty whose other side is gone
                data = b""
            with self._cond:
                if not data:
                    self._closed = True
                self._text += data.decode("utf-8", "replace").replace("\r", "")
                self._cond.notify_all()
            if not data:
                return

    @property
    def text(self):
        with self._cond:
            return self._text

    def expect(self, pattern, timeout=None):
        """The match of PATTERN in what came after the previous match; AssertionError without."""
        regex = re.compile(pattern, re.MULTILINE)
        deadline = time.monotonic() + (timeout or TIMEOUT_S)
        with self._cond:
            while True:
                match = regex.search(self._text, self._at)
                if match:
                    self._at = match.end()
                    return match
                left = deadline - time.monotonic()
                if self._closed or left <= 0:
                    why = "the output ended" if self._closed else "time is up"
                    raise AssertionError(f"no {pattern!r}: {why}; output:\n{self._text}")
                self._cond.wait(left)

    def finish(self):
        """All text, once the other side is closed."""
        self._thread.join(TIMEOUT_S)
        return self.text


class Monitor:
    """A client of the human monitor on a connected socket."""

    def __init__(self, sock):
        self._sock = sock
        self._sock.settimeout(TIMEOUT_S)
        self.banner = self._until_prompt()

    def _until_prompt(self):
        data = b""
        while not ESCAPES.sub(b"", data).endswith(PROMPT):
            piece = self._sock.recv(65536)
            if not piece:
                raise ConnectionError(f"monitor closed the connection after {data!r}")
            data += piece
        return ESCAPES.sub(b"", data)[: -len(PROMPT)].decode().replace("\r", "")

    def send(self, command):
        """Without waiting for an answer (quit has none)."""
        self._sock.sendall(command.encode() + b"\n")

    def run(self, command):
        """The answer to COMMAND, without the echo of the line."""
        self.send(command)
        return self.answer()

    def answer(self):
        """The answer to a command that was sent."""
        answer = self._until_prompt()
        return answer.split("\n", 1)[1] if "\n" in answer else ""

    def interrupt(self):
        """Type Ctrl-C; what came until the prompt."""
        self._sock.sendall(b"\x03")
        return self._until_prompt()

    def closed(self):
        """Wait until the other side ends the connection."""
        while True:
            try:
                if not self._sock.recv(65536):
                    return True
            except ConnectionResetError:
                return True

    def close(self):
        self._sock.close()

    # The figures that tests look at.

    def memory_devices(self):
        """id -> {addr, node, size, max-size, memdev}, in the order of the listing."""
        devices = {}
        for part in self.run("info memory-devices").split("Memory device ")[1:]:
            head, *lines = part.splitlines()
            fields = dict(line.strip().split(": ", 1) for line in lines if ": " in line)
            fields["addr"] = fields.get("memaddr") or fields.get("addr")
            name = re.search(r'"([^"]*)"', head).group(1)
            devices[name] = {
                "addr": int(fields["addr"], 0),
                "node": int(fields["node"]),
                "size": int(fields["size"]),
                "max-size": int(fields["max-size"]),
                "memdev": fields["memdev"],
            }
        return devices

    def numa_mib(self):
        """Sizes of the nodes in MiB."""
        text = self.run("info numa")
        sizes = re.findall(r"^node (\d+) size: (\d+) MB$", text, re.MULTILINE)
        assert [int(n) for n, _ in sizes] == list(range(len(sizes))), text
        return [int(size) for _, size in sizes]

    def virtio_mem(self, device):
        """Fields of `info virtio-mem DEVICE`."""
        text = self.run(f"info virtio-mem {device}")
        return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)

    def wait_for(self, ask, wanted, what):
        """Ask again until WANTED(ASK()); the monitor tells of states, not of changes."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            answer = ask()
            if wanted(answer):
                return answer
            assert time.monotonic() < deadline, f"{what}: last answer {answer!r}"
            select.select([], [], [], 0.02)


class Machine:
    """One ebb process. Arguments beyond MACHINE's defaults come from the test."""

    def __init__(
        self,
        folder,
        append="",
        args=(),
        monitor=False,
        console=True,
        kernel=True,
        qmp=False,
        fds=(),
    ):
        """FDS: descriptors that the process inherits under their numbers."""
        self.folder = pathlib.Path(folder)
        self._sockets = []
        self._fds = [*fds]
        argv = [str(EBB), "-enable-kvm", "-display", "none", "-nodefaults"]
        if console:
            argv += ["-chardev", "stdio,id=serial,signal=off"]
            argv += ["-device", "isa-serial,chardev=serial"]
        if kernel:
            argv += ["-kernel", str(GUEST), "-append", append]
        if monitor:
            listener = self._listen("monitor.sock")
            argv += ["-chardev", f"socket,id=monitor,fd={listener.fileno()},server=on,wait=off"]
            argv += ["-mon", "chardev=monitor,mode=readline"]
        if qmp:
            listener = self._listen("qmp.sock")
            argv += ["-chardev", f"socket,id=qmp,fd={listener.fileno()},server=on,wait=off"]
            argv += ["-mon", "chardev=qmp,mode=control"]
        argv += [*(str(a) for a in args), *EXTRA]
        self.argv = argv
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=self._fds,
        )
        for sock in self._sockets:
            sock.close()  # ebb's copy is the one that listens
        self.console = Stream(self.process.stdout.fileno())
        self.errors = Stream(self.process.stderr.fileno())
        self._monitors = []

    def _listen(self, name):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(str(self.folder / name))
        sock.listen(128)
        self._sockets.append(sock)
        self._fds.append(sock.fileno())
        return sock

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for monitor in self._monitors:
            monitor.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.console.finish()
        self.errors.finish()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                pipe.close()
            except BrokenPipeError:
                pass
        if exc[0] is not None:
            print(f"command line: {' '.join(self.argv)}")
            print(f"status: {self.process.returncode}\nerrors:\n{self.errors.text}")
            print(f"console:\n{self.console.text}")
        return False

    def monitor(self):
        """A new client of the monitor."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(TIMEOUT_S)
        sock.connect(str(self.folder / "monitor.sock"))
        self._monitors.append(Monitor(sock))
        return self._monitors[-1]

    def qmp(self, oob=False, negotiate=True):
        """A new session of the monitor for programs (of a machine with qmp=True)."""
        self._monitors.append(Qmp.connect(self.folder / "qmp.sock"))
        return self._monitors[-1].negotiate(oob) if negotiate else self._monitors[-1]

    def type(self, line):
        """A line for the guest's console."""
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=None):
        """The exit status (negative: the signal that ended it)."""
        try:
            status = self.process.wait(timeout or TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"ebb does not end; console:\n{self.console.text}") from None
        self.console.finish()
        self.errors.finish()
        return status

    def rss_anon_bytes(self):
        """Anonymous memory that the process holds now."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"^RssAnon:\s+(\d+) kB$", status, re.MULTILINE).group(1)) * 1024


def passed(text):
    """Check the guest's report: every check passed, and there was at least one."""
    failed = re.findall(r"^FAIL .*$", text, re.MULTILINE)
    assert not failed, "\n".join(failed) + f"\nconsole:\n{text}"
    done = re.search(r"^DONE passed=(\d+) failed=(\d+)$", text, re.MULTILINE)
    assert done, f"the guest did not finish; console:\n{text}"
    assert int(done.group(1)) > 0 and done.group(2) == "0", done.group(0)


def run_guest(folder, append, args=(), status=0):
    """Run a guest to its end; its console's text."""
    with Machine(folder, append, args) as machine:
        assert machine.wait() == status, machine.errors.text
        return machine.console.text


def memory_devices(*sizes, extra=""):
    """Options for memory devices d0, d1, ... of SIZES: (max, requested, block, node)."""
    args = []
    for i, (size, requested, block, node) in enumerate(sizes):
        args += ["-object", f"memory-backend-ram,id=m{i},size={size}"]
        args += [
            "-device",
            f"virtio-mem-pci,id=d{i},memdev=m{i},requested-size={requested},"
            f"block-size={block},node={node}{extra}",
        ]
    return args


SIGNALS = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT, "SIGHUP": signal.SIGHUP}
