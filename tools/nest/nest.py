#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A host that runs stock Linux guests under real KVM, also where this machine's KVM cannot.

Nest starts an emulated machine (QEMU, TCG, AMD SVM) with a stock Debian kernel in which KVM
works; Direct is this machine itself. Both are a Host with the same calls, so a test is written
once:

    import nest
    with nest.open_host(files={"vmlinuz": path}, programs={"ebb": "build/ebb"}) as host:
        host.run("ls -l /dev/kvm")                   -> Result(status=0, output="...")
        host.check("uname -r")                       -> output; CommandFailed unless status 0
        ebb = host.spawn("ebb", [host.path("ebb"), "-kernel", host.path("vmlinuz"), ...])
        guest = nest.GuestConsole(ebb)               the guest's serial port on its stdio
        guest.login(timeout=120)                     awaits "ebb-guest: ready" and the prompt
        guest.run("uname -r")                        -> Result
        guest.meminfo()                              -> {0: {"MemTotal": bytes, ...}, ...}
        host.hmp(host.path("monitor"), "info numa")  -> what the human monitor printed
        host.rss_bytes(ebb.pid)
        ebb.kill(15); ebb.wait(10)                   -> status (128+N when a signal ended it)

FILES and PROGRAMS map names to files (FILES: also folders) on this machine; host.path(NAME) is
the path of NAME in the host, host.dir the folder they are in and where commands start; sockets
and other results may be made there too. Programs come with their libraries.

A process has its own session and is a Stream (streams.py): write, close_input, kill, wait,
expect(pattern, timeout), take, attach, output, status, pid. stdin="null" ends its input at once,
pty=True gives it a terminal, otherwise its standard input stays open until close_input. Output
and errors come in one stream. host.connect(path) is a Stream to a unix socket.
host.console_write(name, data) and host.console_expect(name, pattern, timeout) do the same by name.

Exceptions: NestInfraError: the emulated host panicked, hung or ended (retry_infra tries again, at
most twice; the text names the console log that was kept). NestTimeout, StreamEnded, CommandFailed,
OSError: the thing under test did it; never tried again.

As a program:  nest.py --shell [--file NAME=PATH] [--program NAME=PATH]   a shell in the host
               nest.py --play [...] [--monitor SOCKET] -- COMMAND...      see play.py

$EBB_NEST_SMP and $EBB_NEST_CPU replace the emulated host's number of processors (1) and their
model, $EBB_NEST_KERNEL its kernel (6.12-cloud; any name in ebbcache.KERNELS). With two processors,
guests of any monitor fail now and then in ways that look like their own fault (a triple fault, a
lost interrupt), most of all when they print much; with one they have not been seen to. A model with
few features is emulated about twice as fast as "max".

Nothing is left behind: the emulated machine dies with the process that started it (it is told by
the kernel, and its first process powers it off when the channel ends), and its disk image is
removed as soon as it has booted.
"""

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import typing

import built
import ebbcache
import initrd
from streams import Link, NestInfraError, NestTimeout, StreamEnded, tail

HERE = pathlib.Path(__file__).resolve().parent
PANIC = re.compile(rb"Kernel panic|corrupted stack end|BUG: unable to handle|Oops:")
PROMPT = re.escape(initrd.PROMPT)
MONITOR_PROMPT = r"\((?:ebb|qemu)\) "
BOOT_TIMEOUT_S = 120
# With what KVM needs and no more: see the docstring.
CPU = "qemu64,svm=on,npt=on,pdpe1gb=on"
KERNEL_WORDS = (
    "console=ttyS0 quiet loglevel=4 panic=-1 mitigations=off nokaslr audit=0 nowatchdog "
    "no_timer_check tsc=reliable random.trust_cpu=on"
)


class CommandFailed(Exception):
    """A command that had to succeed did not."""


class Result(typing.NamedTuple):
    status: int
    output: str


def build_relay():
    """The relay's static binary."""
    return built.program(HERE / "relay.c")


def with_log(argv, path):
    """ARGV with its error output in the file PATH of the host; its process number stays."""
    return ["sh", "-c", 'exec 2>"$0" "$@"', path, *argv]


class Host:
    """What Nest and Direct have in common: all calls go through the relay."""

    def __init__(self):
        self.link = None
        self.dir = None
        self.names = {}
        self._processes = {}
        self._monitors = {}

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *failure):
        self.close()

    def start(self):
        raise NotImplementedError

    def close(self):
        raise NotImplementedError

    def path(self, name):
        """The path in the host of NAME below the host's folder."""
        return f"{self.dir}/{name}"

    def spawn(self, name, argv, stdin="pipe", pty=False):
        """Start ARGV in the host and return its Stream, also known by NAME."""
        payload = bytes([1 if pty else 0]) + b"".join(str(a).encode() + b"\0" for a in argv)
        stream = self.link.open("R", payload, name)
        if stdin == "null":
            stream.close_input()
        self._processes[name] = stream
        return stream.started(30)

    def connect(self, path, timeout=10, name=None):
        """Connect to the unix socket PATH in the host, waiting up to TIMEOUT for it to listen."""
        payload = struct.pack("<I", int(timeout * 1000)) + str(path).encode()
        return self.link.open("C", payload, name or f"socket {path}").started(timeout + 30)

    def run(self, command, timeout=60, stdin=None):
        """Run the shell command COMMAND in the host and return its Result."""
        stream = self.link.open("R", b"\0sh\0-c\0" + command.encode() + b"\0", f"'{command}'")
        if stdin is not None:
            stream.write(stdin)
        stream.close_input()
        try:
            status = stream.wait(timeout)
        except NestTimeout:
            stream.kill()
            self.link.ping(60)
            raise
        return Result(status, stream.output.decode(errors="replace"))

    def check(self, command, timeout=60, stdin=None):
        """Run COMMAND and return its output; CommandFailed unless it ends with status 0."""
        done = self.run(command, timeout, stdin)
        if done.status != 0:
            raise CommandFailed(f"'{command}' ended with status {done.status}: {done.output}")
        return done.output

    def read_file(self, path, timeout=60):
        """The content of a file in the host."""
        stream = self.link.open("R", b"\0cat\0" + str(path).encode() + b"\0", f"cat {path}")
        stream.close_input()
        if stream.wait(timeout) != 0:
            raise CommandFailed(f"reading {path}: {stream.output.decode(errors='replace').strip()}")
        return stream.output

    def write_file(self, path, data, timeout=60):
        """Make or replace a file in the host."""
        self.check(f"cat > '{path}'", timeout, stdin=data)

    def console_write(self, name, data):
        """Give DATA to the input of the process NAME."""
        self._processes[name].write(data)

    def console_expect(self, name, pattern, timeout):
        """Wait for PATTERN in the output of the process NAME."""
        return self._processes[name].expect(pattern, timeout)

    def hmp(self, path, command, timeout=30, watch=None):
        """Give COMMAND to the human monitor on socket PATH and return what it printed.

        The connection is made once and kept, as a person would keep it. WATCH(line) is called with
        each line as it comes; TIMEOUT is for each then.
        """
        stream = self._monitors.get(path)
        if stream is None or stream.ended:
            stream = self.connect(path, timeout)
            stream.expect(MONITOR_PROMPT, timeout)
            self._monitors[path] = stream
        stream.take()
        before = stream.take_mark()
        stream.write(command + "\n")
        pattern = rf"^(.*)\n|{MONITOR_PROMPT}" if watch else MONITOR_PROMPT
        while (found := stream.expect(pattern, timeout)).group().endswith(b"\n"):
            watch(found[1].decode(errors="replace").strip())
        return clean_monitor(stream.output[before:], command)

    def rss_bytes(self, pid):
        """The resident memory of process PID, shared memory included."""
        status = self.read_file(f"/proc/{pid}/status").decode()
        return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.M).group(1)) * 1024


def clean_monitor(raw, command):
    """A monitor's answer without terminal sequences, the echo of COMMAND and the prompt."""
    text = re.sub(rb"\x1b\[[0-9;]*[A-Za-z]", b"", raw).decode(errors="replace")
    text = text.replace("\r", "")
    text = text[: re.search(MONITOR_PROMPT, text).start()]
    first, newline, rest = text.partition("\n")
    return rest if newline and first.endswith(command.strip()) else text


class Nest(Host):
    """An emulated host. Use it in a with statement, or call start and close."""

    def __init__(
        self,
        files=None,
        programs=None,
        memory="8G",
        smp=None,
        phys_bits=None,
        cpu=None,
        modules=(),
        kernel=None,
    ):
        super().__init__()
        self.kernel = kernel or os.environ.get("EBB_NEST_KERNEL") or ebbcache.HOST_KERNEL
        self.cpu = cpu or os.environ.get("EBB_NEST_CPU") or CPU
        self.dir = "/ebb"
        self.files = dict(files or {})
        self.programs = dict(programs or {})
        self.memory = memory
        self.smp = smp
        self.phys_bits = phys_bits
        self.modules = modules
        self.boot_seconds = None
        self._machine = None
        self._reader = None
        self._last_words = ""
        self._log = None

    def start(self):
        """Boot the emulated host and wait for its relay."""
        relay = build_relay()
        self._log = tempfile.TemporaryFile()
        begin = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="ebb-nest-") as tmp:
            image = os.path.join(tmp, "initrd")
            initrd.build_host(
                image, relay, self.files, self.programs, self.modules, self.kernel
            )
            self._launch(image)
            try:
                self.link.greeted(BOOT_TIMEOUT_S)
            except NestTimeout as late:
                self.link.fail(f"the emulated host did not boot in {BOOT_TIMEOUT_S} s")
                raise NestInfraError(self.link.failure) from late
        self.boot_seconds = time.monotonic() - begin
        return self

    def _arguments(self, image, channel):
        kernel = ebbcache.kernel_dir(self.kernel)
        smp = self.smp or int(os.environ.get("EBB_NEST_SMP", "1"))
        cpu = self.cpu + (f",phys-bits={self.phys_bits}" if self.phys_bits else "")
        return [
            *("setpriv", "--pdeathsig", "KILL"),
            str(ebbcache.part_dir("qemu") / "run"),
            *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
            *("-machine", "pc", "-accel", "tcg,thread=multi", "-cpu", cpu),
            *("-smp", str(smp), "-m", self.memory),
            *("-kernel", str(kernel / "vmlinux"), "-initrd", image, "-append", KERNEL_WORDS),
            *("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"),
            *("-chardev", f"socket,id=relay,fd={channel}"),
            *("-device", "virtio-serial-pci,max_ports=2"),
            *("-device", "virtserialport,nr=1,chardev=relay,name=relay"),
        ]

    def _launch(self, image):
        ours, theirs = socket.socketpair()
        with theirs:
            self._machine = subprocess.Popen(
                self._arguments(image, theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.link = Link(ours)
        self._reader = threading.Thread(target=self._read_console, daemon=True, name="nest-console")
        self._reader.start()

    def _read_console(self):
        """Keep the console's output; a panic or the machine's end fails the link."""
        recent = b""
        for chunk in iter(lambda: self._machine.stdout.read1(65536), b""):
            self._log.write(chunk)
            recent = recent[-4096:] + chunk
            if PANIC.search(recent) and self.link.failure is None:
                self.link.fail("the emulated host's kernel panicked")
        self.link.fail("the emulated host ended by itself")

    @property
    def machine_pid(self):
        """The process number of the emulated machine."""
        return self._machine.pid

    def console_log(self):
        """What the emulated host's own console showed so far."""
        self._log.flush()
        return os.pread(self._log.fileno(), 1 << 24, 0)

    def keep_log(self):
        """Keep the console log in $EBB_NEST_LOGS (else the cache folder's logs/): its path."""
        chosen = os.environ.get("EBB_NEST_LOGS")
        folder = pathlib.Path(chosen) if chosen else ebbcache.cache_dir() / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix="nest-", suffix=".log")
        with open(handle, "wb") as file:
            file.write(self.console_log())
        return name

    def __exit__(self, kind, error, trace):
        reason = self.link.failure if self.link else None
        self.close()
        if reason is not None and isinstance(error, NestInfraError):
            raise NestInfraError(f"{reason}; {self._last_words}") from error

    def __enter__(self):
        try:
            return self.start()
        except NestInfraError as error:
            self.close()
            raise NestInfraError(f"{error}; {self._last_words}") from error
        except BaseException:
            self.close()
            raise

    def close(self):
        """End the emulated host. Its console log is kept when it had failed."""
        failed = self.link is not None and self.link.failure is not None
        if self._machine is not None:
            self._machine.kill()
            self._machine.wait()
            self._reader.join()
            self._machine.stdout.close()
            self._machine = None
        if self.link is not None:
            self.link.close()
            self.link = None
        if self._log is not None:
            if failed:
                last = tail(self.console_log())
                self._last_words = f"console log kept in {self.keep_log()}; it ends:\n{last}"
            self._log.close()
            self._log = None


class Direct(Host):
    """This machine itself, with the calls of Nest."""

    def __init__(self, files=None, programs=None, **_nest_only):
        super().__init__()
        self.files = {**(files or {}), **(programs or {})}
        self.boot_seconds = 0.0
        self._relay = None

    def start(self):
        """Make the folder with the files and start a relay in it."""
        self.dir = tempfile.mkdtemp(prefix="ebb-host-")
        for name, source in self.files.items():
            place = pathlib.Path(self.dir) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(pathlib.Path(source).resolve())
        ours, theirs = socket.socketpair()
        with theirs:
            self._relay = subprocess.Popen(
                [str(build_relay()), f"fd:{theirs.fileno()}"],
                stdin=subprocess.DEVNULL,
                cwd=self.dir,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.link = Link(ours)
        self.link.greeted(BOOT_TIMEOUT_S)
        return self

    def close(self):
        """End every process that was started, and remove the folder."""
        if self.link is not None:
            self.link.close()
            self.link = None
        if self._relay is not None:
            self._relay.wait()
            self._relay = None
        if self.dir is not None:
            shutil.rmtree(self.dir)
            self.dir = None


class GuestConsole:
    """The guest of initrd.py at the other end of STREAM (its serial port)."""

    def __init__(self, stream):
        self.stream = stream
        self._count = 0

    def ready(self, timeout):
        """Wait for the guest's first userspace line."""
        self.stream.expect(initrd.READY, timeout)

    def prompt(self, timeout):
        """Wait for the guest's shell, and keep the kernel's messages off the console."""
        self.stream.expect(PROMPT, timeout)
        self.run("dmesg -n 1", timeout)

    def login(self, timeout):
        """Wait for the first userspace line and the shell."""
        self.ready(timeout)
        self.prompt(timeout)

    def run(self, command, timeout=60):
        """Run a shell command in the guest and return its Result."""
        self._count += 1
        mark = f"@{self._count}"
        # The quotes keep the echo of what is typed here from looking like what is awaited.
        self.stream.write(f'echo "@"{mark}; {command}; echo "@"{mark}=$?\n')
        self.stream.expect(f"@{mark}\r?\n", timeout)
        begin = self.stream.take_mark()
        done = self.stream.expect(rf"@{mark}=(\d+)\r?\n", timeout)
        output = self.stream.output[begin : done.start()].decode(errors="replace")
        self.stream.expect(PROMPT, timeout)
        return Result(int(done.group(1)), output.replace("\r", ""))

    def meminfo(self, timeout=60):
        """What the guest says of its nodes: {0: {"MemTotal": bytes, "MemFree": bytes, ...}}."""
        nodes = {}
        for line in self.run("meminfo", timeout).output.splitlines():
            words = line.split()
            if words and re.fullmatch(r"node\d+", words[0]):
                pairs = zip(words[1::3], words[2::3])
                nodes[int(words[0][4:])] = {k: int(v) * 1024 for k, v in pairs if v.isdigit()}
        return nodes


def host_kvm_can_run_linux():
    """Whether this machine's KVM runs stock guests: it has svm or vmx, and /dev/kvm opens."""
    flags = re.search(r"^flags\s*:(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    if not flags or not {"svm", "vmx"} & set(flags.group(1).split()):
        return False
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def open_host(**options):
    """Direct where this machine's KVM runs stock guests, else Nest. $EBB_NEST=1 or 0 decides."""
    chosen = os.environ.get("EBB_NEST")
    direct = host_kvm_can_run_linux() if chosen is None else chosen == "0"
    return Direct(**options) if direct else Nest(**options)


def retry_infra(work, attempts=3):
    """Return WORK(); try again, up to ATTEMPTS in all, when the emulated host itself failed."""
    for attempt in range(1, attempts + 1):
        try:
            return work()
        except NestInfraError as error:
            print(f"nest: attempt {attempt} of {attempts}: {error}", file=sys.stderr, flush=True)
            if attempt == attempts:
                raise
    raise ValueError("attempts must be at least 1")


def main():
    import play  # a person's terminal is the program's business only

    parser = argparse.ArgumentParser(description="Work in a host that runs stock guests on KVM.")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--shell", action="store_true", help="a shell in the host")
    mode.add_argument("--play", action="store_true", help="a monitor's guest and its prompt")
    parser.add_argument("--file", action="append", type=initrd.pair, default=[])
    parser.add_argument("--program", action="append", type=initrd.pair, default=[])
    parser.add_argument("--memory", default="8G", help="memory of the emulated host")
    parser.add_argument("--monitor", help="the monitor's socket, below the host's folder")
    parser.add_argument("command", nargs="*", help="with --play: what to run")
    args = parser.parse_args()
    if args.play and not args.command:
        parser.error("--play needs a command after --")
    options = {"files": dict(args.file), "programs": dict(args.program), "memory": args.memory}
    try:
        with open_host(**options) as host:
            if args.shell:
                return play.shell(host)
            return play.play(host, args.command, args.monitor)
    except (NestInfraError, NestTimeout, StreamEnded, ebbcache.MissingPart, OSError) as error:
        print(f"nest: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
