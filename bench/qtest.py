# SPDX-License-Identifier: BSD-3-Clause
"""QEMU's virtio-mem device, driven without a guest: through its qtest server, on a stopped machine.

Machine starts a q35 machine that executes nothing; Device is a driver for the virtio-mem-pci device
in it: PCI configuration through the ports, a split ring in the machine's RAM, batches of requests
that are made available together and kicked once. The device processes its queue inside the write to
the notification register (ioeventfd=off), before qtest answers: so the time of that one command is
that of the whole batch and of one round trip.
"""

import base64
import os
import pathlib
import socket
import struct
import subprocess
import time

PLUG, UNPLUG, UNPLUG_ALL, STATE = range(4)
ACK = 0
TIMEOUT_S = 60

SLOT = 5
BAR_NUMBER, BAR_ADDR = 4, 0xE0000000
MEMORY_AND_MASTER = 6
CAP_VENDOR = 9
CAP_COMMON, CAP_NOTIFY, CAP_DEVICE = 1, 2, 4
STATUS_ACKNOWLEDGE, STATUS_DRIVER, STATUS_DRIVER_OK, STATUS_FEATURES_OK = 1, 2, 4, 8
F_UNPLUGGED_INACCESSIBLE, F_VERSION_1 = 1, 32
DESC_NEXT, DESC_WRITE = 1, 2

# Where things are in the machine's RAM, far from what its firmware might want.
DESC, AVAIL, USED, REQUESTS, RESPONSES = 0x1000000, 0x1002000, 0x1004000, 0x1010000, 0x1020000
RING = (DESC, RESPONSES + 0x10000 - DESC)  # all of it: where, and how many bytes
QUEUE_SIZE = 128
BATCH_MAX = QUEUE_SIZE // 2
REQUEST_BYTES, RESPONSE_BYTES = 24, 10
STEP = 32  # from one request, or response, to the next
TOUCH_BYTES = 2 << 20  # of one memset command


class QtestError(Exception):
    """QEMU ended, or answered something else than expected."""


def listener(path):
    """A listening socket for a monitor or a qtest server that QEMU is given by number."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen(1)
    return sock


class Machine:
    """A QEMU process and the connection to its qtest server; ends with the `with` block."""

    def __init__(self, program, folder, args, pass_fds=()):
        folder = pathlib.Path(folder)
        accel = ["-accel", "tcg"]
        if os.access("/dev/kvm", os.R_OK | os.W_OK):
            accel = ["-accel", "kvm", "-cpu", "host,host-phys-bits=on"]
        path = folder / "qtest.sock"
        path.unlink(missing_ok=True)
        with listener(path) as server:
            server.settimeout(TIMEOUT_S)
            self.log = open(folder / "qemu.log", "w+b")
            argv = [str(program), "-machine", "q35", *accel, "-S", "-display", "none"]
            argv += ["-nodefaults", "-qtest", f"unix:{path}", "-qtest-log", "/dev/null", *args]
            self.begin = time.monotonic()
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=subprocess.STDOUT,
                pass_fds=pass_fds,
            )
            try:
                self.socket = self._accept(server)
            except BaseException:
                self._end()
                raise
        path.unlink()
        self.socket.settimeout(TIMEOUT_S)
        self._input = self.socket.makefile("rb")

    def _accept(self, server):
        while True:
            try:
                server.settimeout(1)
                return server.accept()[0]
            except TimeoutError:
                if self.process.poll() is not None or time.monotonic() - self.begin > TIMEOUT_S:
                    raise QtestError(f"QEMU did not start: {self._said()}") from None

    def _said(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace").strip()

    def _end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._input.close()
        self.socket.close()
        self._end()

    def command(self, text):
        """The words of qtest's answer to TEXT, without the OK."""
        self.socket.sendall(text.encode() + b"\n")
        while True:
            line = self._input.readline().decode()
            if line.startswith("OK"):
                return line.split()[1:]
            if not line.startswith("IRQ "):
                raise QtestError(f"{text}: {line.strip() or self._said()}")

    def out(self, port, value):
        self.command(f"outl {port:#x} {value:#x}")

    def inl(self, port):
        return int(self.command(f"inl {port:#x}")[0], 0)

    def store(self, kind, addr, value):
        self.command(f"write{kind} {addr:#x} {value:#x}")

    def load(self, kind, addr):
        return int(self.command(f"read{kind} {addr:#x}")[0], 0)

    def store_bytes(self, addr, data):
        text = base64.b64encode(data).decode()
        self.command(f"b64write {addr:#x} {len(data):#x} {text}")

    def load_bytes(self, addr, size):
        return bytes.fromhex(self.command(f"read {addr:#x} {size:#x}")[0][2:])

    def fill(self, addr, size):
        """Write to every byte, as a guest would that uses its memory."""
        for offset in range(0, size, TOUCH_BYTES):
            self.command(f"memset {addr + offset:#x} {min(TOUCH_BYTES, size - offset):#x} 0x1")


class Device:
    """A driver for the virtio-mem-pci device in PCI slot 5 of MACHINE."""

    ARGS = f"bus=pcie.0,addr={SLOT},ioeventfd=off"

    def __init__(self, machine):
        self.machine = machine
        self._index = 0
        self._find_capabilities()
        self._start()
        base = self._device
        load = self.machine.load
        self.block_size, self.addr = load("q", base), load("q", base + 16)

    def _config_addr(self, offset):
        self.machine.out(0xCF8, 0x80000000 | SLOT << 11 | offset & 0xFC)

    def _config_read(self, offset, size):
        self._config_addr(offset)
        value = self.machine.inl(0xCFC) >> (offset & 3) * 8
        return value & (1 << size * 8) - 1

    def _config_write(self, offset, value):
        self._config_addr(offset)
        self.machine.out(0xCFC, value)

    def _find_capabilities(self):
        bar = 0x10 + 4 * BAR_NUMBER
        self._config_write(bar, BAR_ADDR)
        self._config_write(bar + 4, 0)
        self._config_write(4, MEMORY_AND_MASTER)
        places = {}
        at = self._config_read(0x34, 1)
        while at:
            kind, bar = self._config_read(at + 3, 1), self._config_read(at + 4, 1)
            if self._config_read(at, 1) == CAP_VENDOR and bar == BAR_NUMBER:
                places[kind] = BAR_ADDR + self._config_read(at + 8, 4)
                if kind == CAP_NOTIFY:
                    multiplier = self._config_read(at + 16, 4)
            at = self._config_read(at + 1, 1)
        self._common, self._device = places[CAP_COMMON], places[CAP_DEVICE]
        self._notify = places[CAP_NOTIFY]
        self._notify_multiplier = multiplier

    def _start(self):
        m, common = self.machine, self._common
        status = STATUS_ACKNOWLEDGE | STATUS_DRIVER
        m.store("b", common + 20, 0)
        m.store("b", common + 20, status)
        m.store("l", common, 0)
        offered = m.load("l", common + 4)
        m.store("l", common + 8, 0)
        m.store("l", common + 12, offered & 1 << F_UNPLUGGED_INACCESSIBLE)
        m.store("l", common + 8, 1)
        m.store("l", common + 12, 1 << F_VERSION_1 - 32)
        status |= STATUS_FEATURES_OK
        m.store("b", common + 20, status)
        if not m.load("b", common + 20) & STATUS_FEATURES_OK:
            raise QtestError("the device refused the features")
        m.store("w", common + 22, 0)
        m.store("w", common + 24, QUEUE_SIZE)
        for offset, addr in ((32, DESC), (40, AVAIL), (48, USED)):
            m.store("q", common + offset, addr)
        self._notify += m.load("w", common + 30) * self._notify_multiplier
        chains = b""
        for i in range(BATCH_MAX):
            request, response = REQUESTS + i * STEP, RESPONSES + i * STEP
            chains += struct.pack("<QIHH", request, REQUEST_BYTES, DESC_NEXT, 2 * i + 1)
            chains += struct.pack("<QIHH", response, RESPONSE_BYTES, DESC_WRITE, 0)
        m.store_bytes(DESC, chains)
        m.store_bytes(AVAIL, struct.pack("<HH", 1, 0) + bytes(2 * QUEUE_SIZE))
        m.store_bytes(USED, bytes(4 + 8 * QUEUE_SIZE))
        m.store("w", common + 28, 1)
        m.store("b", common + 20, status | STATUS_DRIVER_OK)

    def batch_ns(self, requests):
        """Nanoseconds from the kick to the answer that all REQUESTS, (type, address, blocks), are
        done; each must be acknowledged."""
        m, count = self.machine, len(requests)
        data = b"".join(
            struct.pack("<H6xQH6x", *request).ljust(STEP, b"\0") for request in requests
        )
        m.store_bytes(REQUESTS, data)
        m.store_bytes(RESPONSES, b"\xff" * (STEP * count))
        for i in range(count):
            m.store("w", AVAIL + 4 + 2 * ((self._index + i) % QUEUE_SIZE), 2 * i)
        self._index = self._index + count & 0xFFFF
        m.store("w", AVAIL + 2, self._index)
        kick = f"writew {self._notify:#x} 0x0"
        begin = time.perf_counter_ns()
        m.command(kick)
        elapsed = time.perf_counter_ns() - begin
        if m.load("w", USED + 2) != self._index:
            raise QtestError(f"the device did not use {count} requests within its kick")
        answers = m.load_bytes(RESPONSES, STEP * count)
        for i in range(count):
            (answer,) = struct.unpack_from("<H", answers, i * STEP)
            if answer != ACK:
                raise QtestError(f"request {i}, {requests[i]}, was answered {answer}")
        return elapsed
