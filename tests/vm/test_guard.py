# SPDX-License-Identifier: BSD-3-Clause
"""Attacks on the guarantee: a guest that uses memory which it gave up, and the host's look at it.

Each test runs a guest that takes one order at a time (tests/bare/test_attack.c) and looks between
two orders at the host memory behind each block (hostmem.c): a block that is not plugged must hold
nothing, must read as zeros, and its plugged neighbours must keep their content. Wherever nothing is
held after an attack, the same attack on a device without guard holds memory
(test_without_guard_memory_is_taken): the measure sees it.
"""

import contextlib
import os
import pathlib
import re
import tempfile
import time

import pytest

from attacker import (
    CLOSED,
    FEW_KINDS,
    LAYOUT,
    OPEN,
    SHOTS,
    Attacker,
    attack_by_kind,
    race,
)
from ebbvm import BUILD, TIMEOUT_S, Machine
from hostmem import HostMemory, run_here

pytestmark = pytest.mark.timed

MIB = 1 << 20
GIB = 1 << 30
HOSTMEM = BUILD / "tests/vm/hostmem"
STORM_S = float(os.environ.get("EBB_STORM_SECONDS", "5"))
RACE_ROUNDS = int(os.environ.get("EBB_RACE_ROUNDS", "1000"))
# Within which an answer of the monitor must come, whatever the guest does. On a machine that has
# other work as well one in so many may be late for that.
ANSWER_S = 0.1
LATE = 200
STOP_S = 2
SLACK_BYTES = 4 * MIB  # page tables, stacks and the like that come and go

SIZES = {
    # block size: (device, slot, layout)
    "4K": ("8M", "2M", "PUPUPUU504UP|PXPXPPX504UP|512U|P510UP"),
    "64K": ("8M", "2M", "PUPUPUU24UP|PXPXPPX24UP|32U|P30UP"),
    "2M": ("64M", "16M", LAYOUT),
    "1G": ("8G", "2G", "PU|XP|2U|PU"),
}


def backend_words(kind, size, folder):
    """-object's words for memory of a kind."""
    words = {
        "ram": "memory-backend-ram",
        "ram-shared": "memory-backend-ram,share=on",
        "memfd": "memory-backend-memfd",
        "tmpfs": f"memory-backend-file,share=on,mem-path=/dev/shm/{pathlib.Path(folder).name}",
        "file": f"memory-backend-file,share=on,mem-path={folder}/memory",
        "hugetlb": "memory-backend-memfd,hugetlb=on,hugetlbsize=2M",
    }[kind]
    return ["-object", f"{words},id=m0,size={size}"]


@pytest.fixture
def huge_pages():
    """A pool of huge pages as large as the tests want it; skipped where nobody may set it."""
    pool = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
    wanted = 40
    try:
        before = int(pool.read_text())
        pool.write_text(f"{before + wanted}\n")
    except OSError as why:
        pytest.skip(f"the pool of huge pages cannot be set: {why}")
    try:
        if int(pool.read_text()) < before + wanted:
            pytest.skip(f"this host has not {wanted} huge pages to give")
        yield
    finally:
        pool.write_text(f"{before}\n")


@pytest.fixture(scope="session", autouse=True)
def looking():
    """Whether this user may look at page frames."""
    if not HOSTMEM.is_file():
        pytest.exit(f"{HOSTMEM} is not there: build it, or set EBB_BUILD", returncode=2)
    if os.geteuid() != 0:
        pytest.skip("only root may see which page frames a process holds")


class Console:
    """Of a Machine, as Attacker wants it."""

    def __init__(self, machine):
        self.type = machine.type
        self.expect = machine.console.expect

    def seen(self, pattern):
        try:
            return self.expect(pattern, 0.001)
        except AssertionError:
            return None


@contextlib.contextmanager
def attacked(
    folder, backend="ram", block="2M", extra="", rng="", smp=4, more=(), requested=None, sizes=None
):
    """A machine with one memory device, and the attacker in it; yields both."""
    size, memslot, _ = sizes or SIZES[block]
    args = ["-m", "128M,maxmem=12G", "-smp", str(smp), *backend_words(backend, size, folder)]
    device = f"virtio-mem-pci,id=d0,memdev=m0,block-size={block},memslot-size={memslot}"
    args += ["-device", f"{device},requested-size={requested or size}{extra}"]
    args += ["-device", f"virtio-rng-pci{rng}", *more]
    with Machine(folder, "test=attack", args, monitor=True) as machine:
        memory = HostMemory(run_here, machine.process.pid, HOSTMEM)
        monitor = machine.monitor()
        attacker = Attacker(Console(machine), monitor.run, memory, TIMEOUT_S)
        attacker.locate()
        yield machine, attacker
    for place in ("/dev/shm/" + pathlib.Path(folder).name, f"{folder}/memory"):
        pathlib.Path(place).unlink(missing_ok=True)


def probe(machine, attacker, kinds):
    """Try KINDS on ordinary memory until KVM gives one up; those that it knows, those not tried."""
    known = []
    for i, kind in enumerate(kinds):
        machine.type(f"probe {kind}")
        attacker.wait_for(
            lambda: f"probe {kind} " in machine.console.text
            or "internal-error" in attacker.monitor("info status"),
            f"no end of probe {kind}",
        )
        if f"probe {kind} ok\n" in machine.console.text:
            known.append(kind)
        else:
            return known, kinds[i + 1 :]
    return known, []


@pytest.fixture(scope="session")
def kinds():
    """Accesses that this machine's KVM can do on ordinary memory: where it interprets the guest, it
    does not know every instruction."""
    known, left = [], None
    with tempfile.TemporaryDirectory(prefix="ebb-") as folder:
        while left is None or left:
            with attacked(folder, smp=1) as (machine, attacker):
                more, left = probe(machine, attacker, attacker.kinds() if left is None else left)
                known += more
            (pathlib.Path(folder) / "monitor.sock").unlink()
    assert {"mov8", "stosq", "add", "push"} <= set(known)
    return known


@pytest.mark.parametrize("backend", ["ram", "ram-shared", "memfd", "tmpfs", "file"])
def test_every_access(folder, kinds, backend):
    """Stores and loads of each kind at each closed block and across each border."""
    with attacked(folder, backend) as (_, attacker):
        for kind in kinds if backend == "ram" else FEW_KINDS[1::2]:
            attack_by_kind(attacker, kind, LAYOUT)
        attacker.closed_are_zero("at the end")


@pytest.mark.parametrize("block", ["4K", "64K", "1G"])
@pytest.mark.parametrize("backend", ["ram", "memfd"])
def test_block_sizes(folder, backend, block):
    with attacked(folder, backend, block) as (_, attacker):
        # What is committed of files is filled with zeros, which takes its time for GiB.
        for kind in FEW_KINDS[:2] if (backend, block) == ("memfd", "1G") else FEW_KINDS:
            attack_by_kind(attacker, kind, SIZES[block][2])
        attacker.closed_are_zero("at the end", max(attacker.block // 64, 512))


def test_huge_pages(folder, huge_pages):
    with attacked(folder, "hugetlb") as (_, attacker):
        for kind in FEW_KINDS:
            attack_by_kind(attacker, kind, LAYOUT)
            held = attacker.held()
            assert held.file_bytes == len(attacker.open) * attacker.block, held
        attacker.unplug_all()
        assert attacker.held().file_bytes == 0


@pytest.mark.parametrize("backend", ["ram", "memfd", "file"])
def test_reading_takes_nothing(folder, backend):
    """All closed memory is read, much of it in every word: zeros, and no page for them."""
    with attacked(folder, backend) as (_, attacker):
        attacker.lay(LAYOUT)
        attacker.closed_are_zero("page by page")
        attacker.open_hold("after reading each page")
        for block in CLOSED:
            attacker.closed_are_zero(f"block {block} on and on", 64, block, 1)
        attacker.open_hold("after reading on and on")
        attacker.open_kept("after reading")


@pytest.mark.parametrize("backend", ["ram", "memfd"])
def test_page_tables(folder, backend):
    """Page tables in closed blocks are walked and lead nowhere; so do those that were unplugged."""
    with attacked(folder, backend) as (_, attacker):
        attacker.lay(LAYOUT)
        for block in CLOSED:
            answer = attacker.order(f"walk {block}")
            # KVM may take the fault of the walk for the access itself, which then reads zeros.
            assert answer["read"] in ("fault", "zero"), f"walk {block}: {answer}"
            attacker.open_hold(f"after a page walk in block {block}")
        answer = attacker.order(f"walk {OPEN}")
        attacker.open.discard(OPEN)
        # KVM without hardware may keep what it knew of a table, as a processor may until a flush.
        assert answer["open"] == 1 and answer["before"] == "secret", answer
        assert answer["read"] in ("fault", "zero", "secret"), answer
        attacker.open_hold("after a page walk in a block that was unplugged")
        attacker.open_kept("after page walks")


# How long a guest that gets nowhere is watched before it counts as hanging.
HANG_S = 0.3


@pytest.mark.parametrize("how", SHOTS)
@pytest.mark.parametrize("backend", ["ram", "memfd"])
def test_what_a_guest_may_not_survive(folder, backend, how):
    """The guest goes on, restarts, stops or hangs: that is its own affair. It holds nothing, the
    monitor answers, and a reset brings the guest back."""
    # A fetch goes from the closed block into the open one behind it.
    blocks = {"cr3-open": [OPEN], "fetch": [1, 9, 23]}.get(how, CLOSED)
    blocks = blocks if backend == "ram" else blocks[:1]
    with attacked(folder, backend, smp=2) as (_, attacker):
        for block in blocks:
            attacker.lay(LAYOUT)
            if how == "cr3-open":
                attacker.open.discard(block)
            end = attacker.shoot(how, block, HANG_S)
            attacker.closed_hold_nothing(f"after {how} in block {block}: the guest {end}")
            attacker.monitor("system_reset")
            attacker.monitor("cont")
            attacker.await_ready()
            attacker.closed_hold_nothing(f"after the reset that followed {how}")
        attacker.lay(LAYOUT)
        attacker.open_hold("at the end")
        attacker.open_kept("at the end")


def in_time(took):
    """Of the monitor's answers hardly one was late, and none by much."""
    late = [f"{t:.3f}" for t in took if t >= ANSWER_S]
    assert len(late) <= len(took) // LATE, f"of {len(took)} answers some took {late} s"
    assert max(took) < 10 * ANSWER_S, f"an answer took {max(took):.3f} s"


@pytest.mark.parametrize("backend", ["ram", "memfd"])
def test_storm(folder, backend):
    """Every processor stores into closed blocks as fast as it can: the monitor answers, the host's
    memory stays, and standard error is not flooded."""
    seconds = STORM_S if backend == "ram" else min(STORM_S, 2)
    with attacked(folder, backend) as (machine, attacker):
        attacker.lay(LAYOUT)
        attacker.storm()
        lines = machine.errors.text.count("\n")
        rss = machine.rss_anon_bytes()
        took = attacker.watch_storm(seconds)
        assert machine.rss_anon_bytes() - rss < SLACK_BYTES
        told = machine.errors.text.count("\n") - lines
        answer = attacker.order("enough", "storm")
        print(f"{answer['writes']} stores, answers in {max(took) * 1000:.1f} ms at most")
        assert answer["writes"] > 200 * seconds
        in_time(took)
        assert seconds // 2 <= told <= seconds + 2, f"{told} lines:\n{machine.errors.text}"
        attacker.open_hold("after the storm")
        attacker.open_kept("after the storm")
        assert attacker.violations()[0] >= answer["writes"]


def test_monitor_while_slots_are_laid_anew(folder):
    """A race in a slot of many runs: it is laid anew all the time, with the processors out of the
    guest. The monitor answers. A stop has to wait for the laying anew that is under way."""
    with attacked(folder, block="64K", sizes=("64M", "32M", None)) as (machine, attacker):
        assert attacker.order("checker 0 512")["answer"] == 0
        # The block that comes and goes is not looked at here.
        attacker.open = set(range(0, 512, 2)) | {1}
        machine.type("race 1 1000000 0")
        in_time(attacker.watch_storm(2))
        for _ in range(10):
            begin = time.monotonic()
            attacker.monitor("stop")
            assert time.monotonic() - begin < STOP_S
            attacker.monitor("cont")
        attacker.monitor("system_reset")
        attacker.await_ready()
        attacker.closed_hold_nothing("after a reset")


def test_reset_in_a_storm(folder):
    """Reset by the monitor while all processors attack: everything is closed again, and empty."""
    with attacked(folder) as (_, attacker):
        for _ in range(5):
            attacker.lay(LAYOUT)
            attacker.storm()
            attacker.monitor("system_reset")
            attacker.await_ready()
            attacker.closed_hold_nothing("after a reset")
            attacker.closed_are_zero("after a reset")
            attacker.closed_hold_nothing("after reading all of it")


@pytest.mark.parametrize("smp, backend", [(2, "ram"), (4, "ram"), (2, "memfd"), (2, "file")])
def test_race(folder, smp, backend):
    """The other processors store into a block that one plugs and unplugs, over and over: what they
    store never outlives an unplug, nor does a page of it."""
    rounds = RACE_ROUNDS if (smp, backend) == (2, "ram") else RACE_ROUNDS // 10
    with attacked(folder, backend, smp=smp) as (_, attacker):
        attacker.lay("PUP")
        race(attacker, "race", 1, rounds, rounds // 20)


@pytest.mark.parametrize("backend", ["ram", "memfd"])
def test_race_absent_slot(folder, backend):
    """The same with a block that is alone in its slot, which comes and goes with it."""
    with attacked(folder, backend, smp=2) as (_, attacker):
        attacker.lay("7UP|8U")
        race(attacker, "race", 8, RACE_ROUNDS // 5, RACE_ROUNDS // 50)


def test_race_small_blocks(folder):
    with attacked(folder, block="4K", smp=2) as (_, attacker):
        attacker.lay("PUP")
        race(attacker, "race", 1, RACE_ROUNDS // 5, RACE_ROUNDS // 50)


@pytest.mark.parametrize("backend", ["ram", "memfd"])
def test_race_page_walk(folder, backend):
    """Page tables are walked, with accessed and dirty bits to set, while their block goes."""
    with attacked(folder, backend, smp=2) as (_, attacker):
        attacker.lay("PUP")
        race(attacker, "race-walk", 1, RACE_ROUNDS // 10, RACE_ROUNDS // 50)


RING_PARTS = ["desc", "avail", "used", "indirect"]
OWN_PARTS = ["desc", "avail", "used", "request", "response"]


def expect_word(attacker, order, *wanted):
    """The device's end of the attack, and nothing held."""
    answer = attacker.order(order)[""]
    assert answer and answer[0] in wanted, f"{order}: {answer}"
    attacker.closed_hold_nothing(f"after {order}")


@pytest.mark.parametrize("backend", ["ram", "memfd", "file"])
def test_devices_as_hands(folder, backend):
    """Buffers, rings and tables in closed blocks stop the device that is told to use them."""
    with attacked(folder, backend) as (_, attacker):
        attacker.lay(LAYOUT)
        for block in CLOSED:
            for offset, size in ((0, 512), (4000, 512), (0, attacker.block)):
                expect_word(attacker, f"dma {block} {offset} {size}", "needs-reset")
            for part in RING_PARTS:
                expect_word(attacker, f"ring {part} {block}", "needs-reset")
            for part in OWN_PARTS:
                expect_word(attacker, f"own {part} {block}", "needs-reset")
            expect_word(attacker, f"msix {block}", "used")
        for block in (0, 1, 15, 23):  # across borders between open and closed
            expect_word(attacker, f"dma {block} {attacker.block - 256} 512", "needs-reset")
        attacker.open_hold("after all")
        attacker.open_kept("after all")


@pytest.mark.parametrize("backend", ["ram", "memfd"])
def test_unplug_under_a_device(folder, backend):
    """Blocks go while a device has its rings or buffers in them."""
    with attacked(folder, backend, rng=",max-bytes=512,period=200") as (_, attacker):
        for part in RING_PARTS:
            attacker.lay(LAYOUT)
            attacker.open.discard(OPEN)
            expect_word(attacker, f"ring-flight {part} {OPEN}", "needs-reset")
        attacker.lay(LAYOUT)
        attacker.open.discard(OPEN)
        expect_word(attacker, f"dma-flight {OPEN}", "needs-reset")
        for part in OWN_PARTS:
            attacker.lay(LAYOUT)
            attacker.open.discard(OPEN)
            # Only what is written after the block went cannot be done any more; where the device
            # looks for another request, that fails too, before or after the guest saw the answer.
            wanted = {"used": ["needs-reset"], "response": ["needs-reset"], "request": ["used"]}
            ends = wanted.get(part, ["used", "needs-reset"])
            expect_word(attacker, f"own-flight {part} {OPEN}", *ends)
        attacker.open_kept("after all")


@pytest.mark.parametrize("backend", ["ram", "memfd"])
def test_memory_that_kvm_writes(folder, backend):
    """The guest's clock, stolen time and the like, kept in closed blocks, take no page."""
    with attacked(folder, backend) as (_, attacker):
        attacker.lay(LAYOUT)
        for block in CLOSED:
            attacker.order(f"msr {block}")
            attacker.order("pause")
            attacker.closed_hold_nothing(f"while KVM writes to block {block}")
            attacker.order("msr-off")
        answer = attacker.order(f"msr {OPEN}")
        print(answer)
        attacker.order("pause")
        attacker.unplug(OPEN)
        attacker.order("pause")
        attacker.closed_hold_nothing("after the block of the clock went")
        attacker.order("msr-off")
        attacker.open_kept("after all")


def test_unplug_all(folder):
    with attacked(folder) as (_, attacker):
        for kind in FEW_KINDS:
            attacker.lay("32P")
            attacker.open_hold("before UNPLUG_ALL")
            attacker.unplug_all()
            answer = attacker.order(f"hit {kind}")
            assert (answer["blocks"], answer["wrong"], answer["faults"]) == (32, 0, 0), answer
            attacker.closed_hold_nothing(f"{kind} after UNPLUG_ALL")


def test_reset_leaves_nothing(folder):
    """After a reset nothing is plugged and nothing of before can be read."""
    with attacked(folder) as (_, attacker):
        attacker.lay("32P")
        attacker.monitor("system_reset")
        attacker.await_ready()
        attacker.closed_hold_nothing("after a reset")
        attacker.closed_are_zero("after a reset", 512)
        assert attacker.order("hit mov8")["wrong"] == 0
        attacker.closed_hold_nothing("after stores")
        attacker.plug(0, 32)
        attacker.order("fill 3 1")
        attacker.unplug(3)
        attacker.closed_hold_nothing("at the end")


@pytest.mark.parametrize("memslot", ["2M", "4M", "64M", "1G"])
def test_memslot_sizes(folder, memslot):
    """Slots of one block and of more than the device; the same attack."""
    with attacked(folder, sizes=("64M", memslot, None)) as (_, attacker):
        for kind in FEW_KINDS:
            attack_by_kind(attacker, kind, LAYOUT)


@pytest.mark.parametrize("backend", ["ram", "memfd", "file"])
def test_scattered(folder, backend):
    """Hundreds of runs in one slot: every second block."""
    with attacked(folder, backend, "64K", smp=2, sizes=("64M", "32M", None)) as (_, attacker):
        assert attacker.order("checker 0 1024")["answer"] == 0
        attacker.open = set(range(0, 1024, 2))
        for kind in FEW_KINDS[1:4]:
            answer = attacker.order(f"hit {kind}")
            assert (answer["borders"], answer["wrong"], answer["faults"]) == (1023, 0, 0), answer
            attacker.open_hold(f"after {kind}")
            attacker.open_kept(f"after {kind}")
        race(attacker, "race", 1, RACE_ROUNDS // 50, RACE_ROUNDS // 100)


def test_scattered_beyond_what_can_be_kept_apart(folder):
    """So many runs in a slot that it cannot be laid anew. Where KVM needs that, the guest is
    paused, and told of; in no case is a page held."""
    with attacked(folder, block="4K", sizes=("16M", "16M", None)) as (machine, attacker):
        assert attacker.order("checker 0 4096")["answer"] == 0
        attacker.open = set(range(0, 4096, 2))
        machine.type("hit add")
        attacker.wait_for(
            lambda: "hit add " in machine.console.text
            or "running" not in attacker.monitor("info status"),
            "neither done nor stopped",
        )
        attacker.open_hold("after it")
        if "hit add " not in machine.console.text:
            assert "too scattered" in machine.errors.text, machine.errors.text
        attacker.monitor("system_reset")
        attacker.monitor("cont")
        attacker.await_ready()
        attacker.lay("PUP")
        attacker.open_hold("after a reset")


def test_pause(folder):
    """on-violation=pause: the machine stops, says why, and goes on when it is told to."""
    with attacked(folder, extra=",on-violation=pause") as (machine, attacker):
        attacker.lay("PUP")
        before = machine.errors.text
        machine.type("hit mov1")
        pauses = 0
        while "hit mov1 " not in machine.console.text:
            if "paused" in attacker.monitor("info status"):
                attacker.closed_hold_nothing("while paused")
                pauses += 1
                attacker.monitor("cont")
        assert pauses > 0
        assert "d0" in machine.errors.text[len(before) :]
        attacker.open_hold("at the end")
        attacker.open_kept("at the end")


def test_shutdown(folder):
    """on-violation=shutdown: the machine ends, and a line tells why."""
    with attacked(folder, extra=",on-violation=shutdown") as (machine, attacker):
        attacker.lay("PUP")
        machine.type("hit mov1")
        assert machine.wait() == 0
        assert "d0" in machine.errors.text


def test_counters(folder):
    """The monitor counts what was tried, and tells of the last one."""
    with attacked(folder) as (machine, attacker):
        attacker.lay("PUP")
        writes, reads = attacker.violations()
        assert (writes, reads) == (0, 0)
        closed = attacker.order("hit mov1")["blocks"]
        writes, _ = attacker.violations()
        # three in each block, one at each border's closed side at least
        assert writes >= 3 * closed
        attacker.order("hit mov1")
        assert attacker.violations()[0] >= writes + 3 * closed
        assert re.search(r"\bd0\b.*0x[0-9a-f]+", machine.errors.text)


@pytest.mark.parametrize("backend", ["ram", "memfd"])
def test_without_guard_memory_is_taken(folder, backend):
    """The same attacks on a device that is not guarded: what these tests look at tells of them."""
    with attacked(folder, backend, extra=",guard=off") as (_, attacker):
        for kind in ("mov8", "stosq", "push"):
            attacker.lay(LAYOUT)
            attacker.order(f"hit {kind}")
            held = attacker.held()
            taken = [i for i in held.blocks if i not in attacker.open]
            # every closed block of the slots that are there, none of the one that is absent
            slots = {i // 8 for i in attacker.open}
            present = [i for i in range(attacker.blocks) if i // 8 in slots]
            assert sorted(taken) == [i for i in present if i not in attacker.open], held
