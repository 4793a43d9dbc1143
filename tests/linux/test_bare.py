# SPDX-License-Identifier: BSD-3-Clause
"""The attacks of tests/vm/test_guard.py under a KVM that runs the guest on the processor.

There a store to a closed block in a slot that is present does not leave the guest by itself: KVM
fails, the slot is laid anew while all processors are out of the guest, and the store is done again.
The guest, its orders and the look at the host's memory are those of tests/vm.
"""

import os
import pathlib
import re
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "vm"))  # last: some names are in both folders

import nest  # noqa: E402  (conftest.py has made the folders known)
import scenario  # noqa: E402
from attacker import (  # noqa: E402
    CLOSED,
    FEW_KINDS,
    LAYOUT,
    OPEN,
    SHOTS,
    Attacker,
    attack_by_kind,
    race,
)
from hostmem import HostMemory  # noqa: E402

EBB = pathlib.Path(os.environ.get("EBB", ROOT / "build" / "vmm" / "main" / "ebb"))
BUILD = pathlib.Path(os.environ.get("EBB_BUILD", EBB.parents[2]))
TIMEOUT_S = 60
STORM_S = float(os.environ.get("EBB_STORM_SECONDS", "5"))
RACE_ROUNDS = int(os.environ.get("EBB_RACE_ROUNDS", "100"))
HANG_S = 1  # how long a guest that gets nowhere is watched
SLACK_BYTES = 4 << 20


class Console:
    """The guest's serial port, as Attacker wants it."""

    def __init__(self, process):
        self._process = process

    def type(self, line):
        self._process.write(line + "\n")

    def expect(self, pattern, timeout):
        found = self._process.expect(pattern.replace(r"\n", r"\r?\n"), timeout)
        return re.search(pattern, found.group(0).decode().replace("\r", ""), re.MULTILINE)

    def seen(self, pattern):
        try:
            return self.expect(pattern, 0.001)
        except nest.NestTimeout:
            return None


def bring(host, name, path):
    """A program of the build into the host, once."""
    there = host.path(name)
    if host.run(f"test -x {there}").status != 0:
        host.write_file(there, path.read_bytes())
        host.check(f"chmod 755 {there}")
    return there


BACKENDS = {
    "ram": "memory-backend-ram",
    "memfd": "memory-backend-memfd",
    "hugetlb": "memory-backend-memfd,hugetlb=on,hugetlbsize=2M",
}


class Attacked(scenario.Machine):
    """A machine with the guest of test=attack and one memory device, and its attacker."""

    def __init__(
        self, host, backend="ram", block="2M", size="64M", memslot="16M", smp=2, extra="", rng=""
    ):
        self.errors_path = host.path("ebb.errors")
        guest = bring(host, "bare-guest", BUILD / "tests/bare/bare-guest")
        self._hostmem = bring(host, "hostmem", BUILD / "tests/vm/hostmem")
        monitor = host.path(scenario.MONITOR)
        # What ebb says is kept apart from what the guest prints.
        argv = ["sh", "-c", f'exec "$@" 2> {self.errors_path}', "sh"]
        argv += [host.path("ebb"), "-accel", "kvm", "-m", "128M,maxmem=4G", "-smp", str(smp)]
        argv += ["-nodefaults", "-kernel", guest, "-append", "test=attack"]
        argv += ["-chardev", "stdio,id=serial", "-device", "isa-serial,chardev=serial"]
        argv += ["-chardev", f"socket,id=mon,path={monitor},server=on,wait=off"]
        argv += ["-mon", "chardev=mon,mode=readline"]
        argv += ["-object", f"{BACKENDS[backend]},id=m0,size={size}"]
        device = f"virtio-mem-pci,id=d0,memdev=m0,block-size={block},memslot-size={memslot}"
        argv += ["-device", f"{device},requested-size={size}{extra}"]
        argv += ["-device", f"virtio-rng-pci{rng}"]
        super().__init__(host, argv)

    def __enter__(self):
        super().__enter__()
        try:
            memory = HostMemory(self._look, self.process.pid, self._hostmem)
            self.attacker = Attacker(Console(self.process), self.hmp, memory, TIMEOUT_S)
            self.attacker.locate()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None and not issubclass(kind, nest.NestInfraError):
            print(f"ebb says:\n{self.errors()}\nthe guest:\n{self.process.output.decode()}")
        super().__exit__(kind, error, trace)
        if kind is None or not issubclass(kind, nest.NestInfraError):
            self.host.run(f"rm -f {self.errors_path}")

    def _look(self, words):
        return self.host.check(" ".join(words), TIMEOUT_S)

    def errors(self):
        return self.host.check(f"cat {self.errors_path}")


@pytest.mark.parametrize("backend", ["ram", "memfd"])
def test_every_access(host, backend):
    """Stores and loads of each kind at each closed block and across each border. Each meets a slot
    that is not laid anew yet."""
    with Attacked(host, backend) as vm:
        for kind in vm.attacker.kinds() if backend == "ram" else FEW_KINDS[:5]:
            attack_by_kind(vm.attacker, kind, LAYOUT)
        vm.attacker.closed_are_zero("at the end")
        vm.attacker.open_hold("at the end")


@pytest.mark.parametrize("backend", ["ram", "memfd"])
def test_small_blocks(host, backend):
    with Attacked(host, backend, "4K", "8M", "2M") as vm:
        for kind in FEW_KINDS:
            attack_by_kind(vm.attacker, kind, "PUPUPUU504UP|PXPXPPX504UP|512U|P510UP")


def test_huge_pages(host):
    pool = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
    host.check(f"echo 40 > {pool}; test $(cat {pool}) = 40")
    try:
        with Attacked(host, "hugetlb") as vm:
            for kind in FEW_KINDS:
                attack_by_kind(vm.attacker, kind, LAYOUT)
                assert vm.attacker.held().file_bytes == len(vm.attacker.open) << 21
            vm.attacker.unplug_all()
            assert vm.attacker.held().file_bytes == 0
    finally:
        host.run(f"echo 0 > {pool}")


@pytest.mark.parametrize("backend", ["ram", "memfd"])
def test_races(host, backend):
    """A processor stores, or walks page tables, in a block that the other plugs and unplugs."""
    with Attacked(host, backend) as vm:
        vm.attacker.lay("PUP")
        race(vm.attacker, "race", 1, RACE_ROUNDS, RACE_ROUNDS // 10)
        race(vm.attacker, "race-walk", 1, RACE_ROUNDS // 4, RACE_ROUNDS // 20)
        vm.attacker.lay("7UP|8U")  # alone in its slot
        race(vm.attacker, "race", 8, RACE_ROUNDS // 2, RACE_ROUNDS // 10)


def test_race_of_four(host):
    with Attacked(host, smp=4) as vm:
        vm.attacker.lay("PUP")
        race(vm.attacker, "race", 1, RACE_ROUNDS // 4, RACE_ROUNDS // 20)


def test_storm(host):
    """Every processor stores into closed blocks: the monitor answers, nothing is held. (How fast it
    answers says nothing here: the host's processors may be emulated.)"""
    with Attacked(host, smp=4) as vm:
        attacker = vm.attacker
        attacker.lay(LAYOUT)
        rss = host.rss_bytes(vm.process.pid)
        began = time.monotonic()
        attacker.storm()
        took = attacker.watch_storm(STORM_S)
        assert host.rss_bytes(vm.process.pid) - rss < SLACK_BYTES
        answer = attacker.order("enough", "storm")
        told = vm.errors().count("which is not plugged")
        lasted = time.monotonic() - began
        print(f"{answer['writes']} stores, {len(took)} answers, {max(took):.3f} s at most")
        assert answer["writes"] > 1000
        # One a second, by the emulated host's clock: that may run faster than ours for a while.
        assert 1 <= told <= lasted * 2 + 1, vm.errors()
        assert attacker.violations()[0] >= answer["writes"]
        attacker.open_hold("after the storm")
        attacker.open_kept("after the storm")


def test_reset_in_a_storm(host):
    with Attacked(host) as vm:
        for _ in range(3):
            vm.attacker.lay(LAYOUT)
            vm.attacker.storm()
            vm.attacker.monitor("system_reset")
            vm.attacker.await_ready()
            vm.attacker.closed_hold_nothing("after a reset")
            vm.attacker.closed_are_zero("after a reset")
            vm.attacker.closed_hold_nothing("after reading all of it")


@pytest.mark.parametrize("backend", ["ram", "memfd"])
def test_processor_as_hand(host, backend):
    """Page tables in closed blocks; then what a guest may not survive, with a reset after each."""
    with Attacked(host, backend) as vm:
        attacker = vm.attacker
        for block in (*CLOSED, OPEN):
            attacker.lay(LAYOUT)
            answer = attacker.order(f"walk {block}")
            attacker.open.discard(block)
            # A store may reach the page only by what a processor remembers of an open block.
            wanted = ("fault", "zero", "secret") if block == OPEN else ("fault", "zero")
            assert answer["read"] in wanted, f"walk {block}: {answer}"
            attacker.open_hold(f"after a page walk in block {block}")
            attacker.open_kept(f"after a page walk in block {block}")
        for how in SHOTS if backend == "ram" else ("fetch", "jmp", "frame", "cr3-open"):
            block = {"cr3-open": OPEN}.get(how, 1)
            attacker.lay(LAYOUT)
            if how == "cr3-open":
                attacker.open.discard(block)
            end = attacker.shoot(how, block, HANG_S)
            print(f"{how}: the guest {end}")
            attacker.closed_hold_nothing(f"after {how}: the guest {end}")
            attacker.monitor("system_reset")
            attacker.monitor("cont")
            attacker.await_ready()
            attacker.closed_hold_nothing(f"after the reset that followed {how}")


def expect_word(attacker, order, *wanted):
    answer = attacker.order(order)[""]
    assert answer and answer[0] in wanted, f"{order}: {answer}"
    attacker.closed_hold_nothing(f"after {order}")


def test_devices_and_kvm_as_hands(host):
    """Buffers, rings, requests, interrupt messages in closed blocks, and what KVM itself writes."""
    with Attacked(host, rng=",max-bytes=512,period=500") as vm:
        attacker = vm.attacker
        attacker.lay(LAYOUT)
        for block in CLOSED:
            expect_word(attacker, f"dma {block} 0 512", "needs-reset")
            expect_word(attacker, f"own response {block}", "needs-reset")
            expect_word(attacker, f"msix {block}", "used")
            attacker.order(f"msr {block}")
            attacker.order("pause")
            attacker.closed_hold_nothing(f"while KVM writes to block {block}")
            attacker.order("msr-off")
        for part in ("desc", "avail", "used", "indirect"):
            expect_word(attacker, f"ring {part} {CLOSED[0]}", "needs-reset")
        attacker.order(f"msr {OPEN}")
        attacker.unplug(OPEN)
        attacker.order("pause")
        attacker.closed_hold_nothing("after the block of the clock went")
        attacker.order("msr-off")
        for order in ("dma-flight", "ring-flight used"):
            attacker.lay(LAYOUT)
            attacker.open.discard(OPEN)
            expect_word(attacker, f"{order} {OPEN}", "needs-reset")
        attacker.open_kept("after all")


def test_scattered(host):
    """Every second block: as many runs as are still laid anew in a slot, and then more: there the
    guest is paused, and told of."""
    with Attacked(host, block="64K", size="128M", memslot="64M") as vm:
        attacker = vm.attacker
        assert attacker.order("checker 0 512")["answer"] == 0
        attacker.open = set(range(0, 512, 2))
        for kind in ("mov8", "add"):
            answer = attacker.order(f"hit {kind}")
            assert (answer["borders"], answer["wrong"], answer["faults"]) == (511, 0, 0), answer
            attacker.open_hold(f"after {kind}")
            attacker.open_kept(f"after {kind}")
        race(attacker, "race", 1, RACE_ROUNDS // 10, RACE_ROUNDS // 20)
        assert attacker.order("checker 0 1024")["answer"] == 0
        attacker.open = set(range(0, 1024, 2))
        attacker.console.type("hit mov8")
        attacker.wait_for(lambda: "paused" in attacker.monitor("info status"), "not paused")
        attacker.open_hold("while paused")
        assert "too scattered" in vm.errors()
        attacker.monitor("system_reset")
        attacker.monitor("cont")
        attacker.await_ready()
        attacker.lay("PUP")
        attacker.open_hold("after a reset")


def test_pause(host):
    with Attacked(host, extra=",on-violation=pause") as vm:
        attacker = vm.attacker
        attacker.lay("PU30P")
        attacker.console.type("hit mov1")
        pauses = 0
        while not attacker.console.seen(r"^hit mov1 .*\n"):
            if "paused" in attacker.monitor("info status"):
                attacker.closed_hold_nothing("while paused")
                pauses += 1
                attacker.monitor("cont")
        assert pauses > 0 and "on-violation=pause" in vm.errors()
        attacker.open_hold("at the end")
        attacker.open_kept("at the end")


def test_shutdown(host):
    with Attacked(host, extra=",on-violation=shutdown") as vm:
        vm.attacker.lay("PUP")
        vm.attacker.console.type("hit mov1")
        assert vm.process.wait(TIMEOUT_S) == 0
        assert "on-violation=shutdown" in vm.errors()


@pytest.mark.parametrize("backend", ["ram", "memfd"])
def test_without_guard_memory_is_taken(host, backend):
    """The control: each closed block of a slot that is there takes memory."""
    with Attacked(host, backend, extra=",guard=off") as vm:
        vm.attacker.lay(LAYOUT)
        vm.attacker.order("hit mov8")
        held = vm.attacker.held()
        slots = {i // 8 for i in vm.attacker.open}
        closed = [i for i in range(32) if i // 8 in slots and i not in vm.attacker.open]
        assert sorted(i for i in held.blocks if i not in vm.attacker.open) == closed, held


def test_older_kernel(old_host):
    """A host whose kernel has other means, and frees no page tables by itself."""
    for backend in ("ram", "memfd"):
        with Attacked(old_host, backend) as vm:
            for kind in FEW_KINDS:
                attack_by_kind(vm.attacker, kind, LAYOUT)
            vm.attacker.lay("PUP")
            race(vm.attacker, "race", 1, RACE_ROUNDS // 2, RACE_ROUNDS // 10)
