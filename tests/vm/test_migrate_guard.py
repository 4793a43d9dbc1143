# SPDX-License-Identifier: BSD-3-Clause
"""Attacks on the guarantee by a guest that moves: what it gave up is out of its reach, and holds no
memory of the host's, in the process it leaves and in the one it comes to, before, during and after
every kind of move; and what was never plugged costs nothing."""

import contextlib
import os
import pathlib
import time

import pytest

import migrating
from attacker import CLOSED, LAYOUT, MARK, Attacker
from ebbvm import BUILD, TIMEOUT_S, memory_devices
from hostmem import HostMemory, run_here
from migrating import UNLIMITED, Guest, capabilities, ended, prepare, succeed, wait_running

MIB = 1 << 20
HOSTMEM = BUILD / "tests/vm/hostmem"
ARGS = ["-m", "64M,maxmem=1G", "-smp", "2"]
DEVICE = "virtio-mem-pci,id=d0,memdev=m0,block-size=2M,memslot-size=16M,requested-size=64M"
KINDS = ("mov8", "stosq", "copy")
WAYS = {
    "ram": ["unix", "postcopy", "image", "parallel", "exec", "cancelled"],
    "memfd": ["unix", "postcopy", "image"],
}
LOOKS = 5
# Of it all, that which is the same for a device of any size.
FEW_MIB = 1


@pytest.fixture(autouse=True)
def looking():
    """Whether this user may look at page frames."""
    if not HOSTMEM.is_file():
        pytest.exit(f"{HOSTMEM} is not there: build it, or set EBB_BUILD", returncode=2)
    if os.geteuid() != 0:
        pytest.skip("only root may see which page frames a process holds")


class Console:
    """Of the machine that the guest is in, as Attacker wants it."""

    def __init__(self, machine):
        self.type = machine.type
        self.expect = machine.console.expect


def look_at(machine):
    memory = HostMemory(run_here, machine.process.pid, HOSTMEM)
    memory.pid = machine.process.pid
    return memory


def mapped_at(memory):
    """Where the region that a memfd stands behind begins, of which block 0 is open and block 1 is not:
    whatever else has the file mapped maps more of it."""
    maps = pathlib.Path(f"/proc/{memory.pid}/maps").read_text().splitlines()
    places = [
        tuple(int(number, 16) for number in line.split()[0].split("-"))
        for line in maps
        if "/memfd:" in line and line.split()[2] == "00000000"
    ]
    return min(places, key=lambda place: place[1] - place[0])[0]


class Moving(Guest):
    """An attacker on its way; the process that it left is looked at before it ends."""

    def __init__(self, folder, backend):
        memory = f"memory-backend-{backend},id=m0,size=64M"
        super().__init__(folder, "test=attack", [*ARGS, "-object", memory, "-device", DEVICE])
        self.backend = backend
        self.attacker = Attacker(
            Console(self.machine), self.human, look_at(self.machine), TIMEOUT_S
        )
        self.attacker.locate()

    def human(self, command):
        return self.qmp.human(command)

    def became(self, machine, qmp):
        self.attacker.closed_hold_nothing("in the process that the guest left")
        super().became(machine, qmp)
        self.follow()

    def follow(self):
        """The attacker's eyes and hands go to the machine that the guest is in."""
        self.attacker.console = Console(self.machine)
        self.attacker.memory = look_at(self.machine)
        self.attacker.base = None

    def find(self, block):
        """Where the region is in the process that MEMORY looks at: a file's mapping, or by the mark in
        BLOCK, of which there may be a copy as long as it is on its way."""
        deadline = time.monotonic() + TIMEOUT_S
        if self.backend == "memfd":
            self.attacker.base = mapped_at(self.attacker.memory)
            return
        while True:
            try:
                at = self.attacker.memory.find(MARK)
                self.attacker.base = at - block * self.attacker.block
                return
            except AssertionError:
                if time.monotonic() > deadline:
                    raise

    def locate(self):
        """The same, of a guest that takes orders."""
        block = min(self.attacker.open)
        self.attacker.order(f"mark {block} {MARK:#x}")
        self.find(block)
        self.attacker.order(f"fill {block} 1")


@contextlib.contextmanager
def moving(folder, backend):
    with Moving(folder, backend) as guest:
        capabilities(guest.qmp, events=True)
        guest.attacker.lay(LAYOUT)
        yield guest, guest.attacker


def attack(attacker, when):
    for kind in KINDS:
        answer = attacker.order(f"hit {kind}")
        assert answer["blocks"] > 0 and answer["wrong"] == 0 and answer["faults"] == 0, answer
        attacker.open_hold(f"after hit {kind} {when}")
    for block in CLOSED:
        assert attacker.order(f"walk {block}")["read"] in ("fault", "zero")
    attacker.closed_are_zero(when)
    attacker.open_hold(f"at the end {when}")
    attacker.open_kept(when)


@pytest.mark.parametrize("backend", ["ram", "memfd"])
def test_attack_before_and_after(tmp_path, backend):
    """What was attacked here is attacked there, whichever way the guest came; and what is plugged
    and unplugged afterwards too."""
    with moving(tmp_path, backend) as (guest, attacker):
        attack(attacker, "where it began")
        for way in WAYS[backend]:
            migrating.WAYS[way](guest)
            guest.locate()
            attacker.open_hold(f"by {way}, untouched")
            attack(attacker, f"by {way}")
            # Something else is closed in each process.
            attacker.unplug(0)
            attacker.closed_hold_nothing(f"by {way}, after an unplug")
            attacker.closed_are_zero(f"by {way}, after an unplug")
            attacker.plug(0)
            attacker.order("fill 0 1")
            attack(attacker, f"by {way}, after a plug")


def over(qmp):
    """The migration came to its end, which is the right one."""
    status = qmp.execute("query-migrate")["status"]
    assert status not in ("failed", "cancelled"), qmp.execute("query-migrate")
    return status == "completed"


def storming(guest, caps, params):
    """A guest that stores into closed blocks on its way to another process, which it has begun."""
    attacker = guest.attacker
    attacker.order(f"mark 0 {MARK:#x}")
    target, qmp, uri = prepare(guest, "unix:HERE", caps, params)
    qmp.execute("migrate-incoming", uri=uri)
    attacker.storm()
    guest.qmp.execute("migrate", uri=uri)
    assert succeed(guest.qmp, "active") == "active"
    return target, qmp


def enough(guest):
    """The storm ends, and what was open is what it was."""
    answer = guest.attacker.order("enough", "storm")
    assert answer["writes"] > 0
    guest.attacker.order("fill 0 1")
    guest.attacker.open_hold("after the storm")
    guest.attacker.open_kept("after the storm")
    guest.attacker.closed_are_zero("after the storm")


@pytest.mark.parametrize("backend", ["ram", "memfd"])
def test_storm_during_precopy(tmp_path, backend):
    with moving(tmp_path, backend) as (guest, attacker):
        target, qmp = storming(guest, {}, {"max_bandwidth": MIB})
        for look in range(LOOKS):
            assert not over(guest.qmp)
            attacker.closed_hold_nothing(f"while it is sent, look {look}")
        guest.qmp.execute("migrate-set-parameters", max_bandwidth=UNLIMITED)
        assert succeed(guest.qmp) == "completed"
        wait_running(qmp)
        guest.became(target, qmp)
        guest.find(0)
        attacker.closed_hold_nothing("in the storm that went on there")
        enough(guest)


@pytest.mark.parametrize("backend", ["ram", "memfd"])
def test_storm_during_postcopy(tmp_path, backend):
    """Closed blocks stay closed while those beside them are waited for."""
    with moving(tmp_path, backend) as (guest, attacker):
        params = {"max_bandwidth": MIB, "max_postcopy_bandwidth": 8 * MIB}
        target, qmp = storming(guest, {"postcopy_ram": True}, params)
        guest.qmp.execute("migrate-start-postcopy")
        assert succeed(qmp, "postcopy-active") == "postcopy-active"
        attacker.closed_hold_nothing("at the source, which still has memory to send")
        source, attacker.memory = (attacker.memory, attacker.base), look_at(target)
        guest.find(0)
        there = attacker.base
        # What it waits for comes all the same.
        guest.qmp.execute("migrate-set-parameters", max_postcopy_bandwidth=1)
        for look in range(LOOKS):
            assert not over(guest.qmp)
            attacker.closed_hold_nothing(f"while pages come, look {look}")
        guest.qmp.execute("migrate-set-parameters", max_postcopy_bandwidth=0)
        assert succeed(guest.qmp) == "completed" and succeed(qmp) == "completed"
        attacker.closed_hold_nothing("after the last page")
        attacker.memory, attacker.base = source
        guest.became(target, qmp)
        attacker.base = there
        enough(guest)


@pytest.mark.parametrize("backend", ["ram", "memfd"])
def test_storm_while_an_image_is_read(tmp_path, backend):
    with moving(tmp_path, backend) as (guest, attacker):
        attacker.order(f"mark 0 {MARK:#x}")
        attacker.storm()
        file = tmp_path / "image"
        guest.qmp.execute("migrate", uri=f"file:{file}")
        assert ended(guest.qmp) == "completed"
        attacker.closed_hold_nothing("in the process that saved it")
        target = guest.new("-incoming", f"file:{file}")
        qmp = target.qmp()
        wait_running(qmp)
        guest.became(target, qmp)
        guest.find(0)
        for look in range(LOOKS):
            attacker.closed_hold_nothing(f"look {look} after it runs again")
        enough(guest)


# ---- what was never plugged ----


def bytes_used(path):
    return pathlib.Path(path).stat().st_blocks * 512


def cost(folder, size):
    """Of moving a machine with a device of SIZE of which nothing is plugged: bytes on the way, bytes of
    an image, and anonymous memory of both processes."""
    folder.mkdir()
    image = folder / "image"
    args = ["-S", "-m", "64M,maxmem=128G", *memory_devices((size, "0", "2M", 0))]
    with Guest(folder, "test=attack", args) as guest:
        capabilities(guest.qmp, events=True)
        guest.qmp.execute("migrate", uri=f"file:{image}")
        assert ended(guest.qmp) == "completed"
        guest.qmp.execute("cont")
        guest.machine.console.expect(r"^attack: ready .*\n")
        guest.qmp.execute("stop")
        target, qmp, uri = prepare(guest, "unix:HERE", {}, {})
        qmp.execute("migrate-incoming", uri=uri)
        guest.qmp.execute("migrate", uri=uri)
        assert succeed(guest.qmp) == "completed" and succeed(qmp) == "completed"
        sent = guest.qmp.execute("query-migrate")["ram"]["transferred"]
        return sent, bytes_used(image), guest.machine.rss_anon_bytes(), target.rss_anon_bytes()


def test_what_was_never_plugged_costs_nothing(tmp_path):
    small = cost(tmp_path / "small", "64M")
    large = cost(tmp_path / "large", "64G")
    for what, a, b in zip(("sent", "saved", "source", "target"), small, large, strict=True):
        assert b - a < FEW_MIB * MIB, f"{what}: {a} bytes with 64 MiB, {b} with 64 GiB"
