# SPDX-License-Identifier: BSD-3-Clause
"""The memory balloon with a guest that knows what is in each of its pages (tests/bare/test_balloon.c):
what the host gets back and gives again, statistics, reports, hints in migrations, beside memory
devices, after resets, and under attack.
"""

import contextlib
import re
import select
import time

import pytest

from backends import backend_of
from ebbvm import TIMEOUT_S, Machine
from migrating import UNLIMITED, Guest, ended, live, postcopy, prepare, saved, succeed
from migrating import wait_running
from qmp import QmpError

MIB = 1 << 20
PAGE = 4096
RAM = 64 * MIB
ARENA = 16 * MIB
PAGES = ARENA // PAGE
SLACK = 2 * MIB  # what the process itself may take or give meanwhile
DEVICE = "virtio-balloon-pci,id=b0"
BALLOON = "/machine/peripheral/b0"
ACK, INFLATE, DEFLATE, REPORT = 0, 0, 1, 4
BLOCK = 2 * MIB


class Balloon:
    """Orders for the guest, wherever it runs now, and questions to its monitor."""

    def __init__(self, machine, qmp):
        self.machine, self.qmp = machine, qmp
        self.ready()

    def ready(self):
        self.machine.console.expect(r"^balloon: ready features=0x[0-9a-f]+$")

    def moved_to(self, guest):
        self.machine, self.qmp = guest.machine, guest.qmp

    def order(self, line, answer):
        """The numbers of the answer: those with a name, or the one without."""
        self.machine.type(line)
        text = self.machine.console.expect(rf"^{answer}\b(.*)\n").group(1)
        named = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", text)}
        return named or int(text)

    def state(self):
        state = self.order("state", "state")
        assert state["wrong"] == 0, self.machine.console.text
        return state

    def check(self):
        """The guest looks at all that it uses; how many pages that are."""
        answer = self.order("check", "checked")
        assert answer["wrong"] == 0, self.machine.console.text
        return answer["pages"]

    def free(self, pages=PAGES):
        assert self.order(f"free {pages}", "freed") == pages

    def use(self, pages=PAGES):
        assert self.order(f"use {pages}", "used") == pages

    def verify(self, gpa, pages):
        answer = self.order(f"verify {gpa:#x} {pages}", "verified")
        return answer["wrong"], answer["zero"]

    def raw(self, queue, gpa, pages):
        return self.order(f"raw {queue} {gpa:#x} {pages}", "raw")["answered"]

    def info(self):
        return self.qmp.execute("query-balloon")["actual"]

    def get(self, name):
        return self.qmp.execute("qom-get", path=BALLOON, property=name)

    def set_interval(self, seconds):
        name = "guest-stats-polling-interval"
        self.qmp.execute("qom-set", path=BALLOON, property=name, value=seconds)

    def has(self, size):
        """Wait until the guest has it; events come once a second only."""
        until(self.info, lambda actual: actual == size, f"a size of {size}")

    def resize(self, size):
        self.qmp.execute("balloon", value=size)
        self.has(size)

    def end(self):
        self.machine.type("quit")
        assert self.machine.wait() == 0, self.machine.errors.text
        assert re.search(r"^DONE passed=\d+ failed=0$", self.machine.console.text, re.MULTILINE)


def until(ask, wanted, what):
    """The monitor tells of states, not of changes."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        answer = ask()
        if wanted(answer):
            return answer
        assert time.monotonic() < deadline, f"{what}: last answer {answer!r}"
        select.select([], [], [], 0.02)


@contextlib.contextmanager
def balloon_of(folder, words="", options="", args=("-m", "64M")):
    argv = [*args, "-device", f"{DEVICE}{options}"]
    with Machine(folder, f"test=balloon {words}", argv, qmp=True) as machine:
        yield Balloon(machine, machine.qmp())


# ---- sizes ----


@pytest.mark.parametrize(
    "name, ring",
    [("ram", "split"), ("memfd", "packed"), ("file", "split"), ("hugetlb-2M", "split")],
)
def test_memory_goes_and_comes(folder, name, ring):
    """What is put into the balloon is the host's, by the host's own count, and comes back empty."""
    with backend_of(name, folder) as backend:
        args = ["-m", "64M", *backend.args("64M"), "-machine", "memory-backend=m0"]
        packed = ",packed=on" if ring == "packed" else ""
        with balloon_of(folder, f"ring={ring}", packed, args) as b:
            full = backend.held(b.machine)
            b.resize(RAM)
            b.free()
            for _ in range(1 + (name == "ram")):
                b.resize(RAM - ARENA)
                assert backend.held(b.machine) <= full - ARENA + SLACK
                assert b.state()["balloon"] == PAGES
                b.resize(RAM)
                assert b.state()["balloon"] == 0
                # free memory of the guest's that nobody touched
                assert backend.held(b.machine) <= full - ARENA + SLACK
                b.use()
                assert backend.held(b.machine) >= full - SLACK
                assert b.check() == PAGES
                b.free()
            b.end()


def test_sizes(folder):
    """Of pages, within what there is; what the guest cannot do it does as far as it can."""
    with balloon_of(folder) as b:
        assert b.info() == RAM
        assert b.qmp.human("info balloon") == "balloon: actual=64\n"
        b.free(100)
        b.resize(RAM - 50 * PAGE)
        assert b.qmp.human("info balloon") == "balloon: actual=63\n"
        b.qmp.wait_event("BALLOON_CHANGE", {"actual": RAM - 50 * PAGE})
        b.qmp.execute("balloon", value=1)
        b.has(RAM - 100 * PAGE)
        assert b.qmp.human("balloon 64") == ""
        b.has(RAM)
        b.qmp.wait_event("BALLOON_CHANGE", {"actual": RAM})
        b.qmp.execute("balloon", value=RAM + 10 * MIB)
        for wrong in (0, -1, -MIB):
            error = b.qmp.error("balloon", {"value": wrong})
            assert error.error_class == "GenericError" and "'target'" in error.desc
        assert "argument" in b.qmp.human("balloon x") or "size" in b.qmp.human("balloon x")
        assert b.check() == PAGES - 100 and b.info() == RAM
        b.end()


def test_without_device(folder):
    with Machine(folder, "test=echo", ["-m", "32M"], qmp=True) as machine:
        qmp = machine.qmp()
        for command, arguments in (("query-balloon", {}), ("balloon", {"value": MIB})):
            assert qmp.error(command, arguments).error_class == "DeviceNotActive"
        assert "No balloon device" in qmp.human("info balloon")
        assert "No balloon device" in qmp.human("balloon 10")


# ---- statistics ----


def test_statistics(folder):
    """The guest is asked as often as a person says, on either node, and says what it knows."""
    with balloon_of(folder) as b:
        assert b.get("guest-stats-polling-interval") == 0
        b.free(256)
        b.set_interval(1)
        assert b.get("guest-stats-polling-interval") == 1
        before = b.state()["stats"]
        stats = until(
            lambda: b.get("guest-stats"),
            lambda value: value["stats"].get("stat-free-memory") == 256 * PAGE,
            "statistics of what is free",
        )
        assert stats["stats"]["stat-total-memory"] == ARENA
        assert stats["stats"]["stat-swap-in"] >= 0 and stats["stats"]["stat-major-faults"] == 0
        assert "stat-disk-caches" not in stats["stats"]
        assert abs(stats["last-update"] - time.time()) < TIMEOUT_S
        until(lambda: b.state()["stats"], lambda n: n >= before + 2, "asked again")
        inner = b.qmp.execute("qom-get", path=f"{BALLOON}/virtio-backend", property="guest-stats")
        assert inner["stats"]["stat-total-memory"] == ARENA
        b.set_interval(0)
        for wrong in (-1, 1 << 32, "1", True):
            with pytest.raises(QmpError, match="guest-stats-polling-interval"):
                b.set_interval(wrong)
        assert b.get("guest-stats-polling-interval") == 0
        with pytest.raises(QmpError, match="not writable"):
            b.qmp.execute("qom-set", path=BALLOON, property="guest-stats", value=1)
        children = b.qmp.execute("qom-list", path="/machine/peripheral")
        assert {"name": "b0", "type": "child<virtio-balloon-pci>"} in children
        b.end()


# ---- reports ----


@pytest.mark.parametrize("words", ["features=0x27 compact=1", "features=0x27"])
def test_reports(folder, words):
    """What is free goes back to the host; the guest uses it again without a word."""
    with balloon_of(folder, words, ",free-page-reporting=on,free-page-hint=on") as b:
        full = b.machine.rss_anon_bytes()
        b.free()
        for _ in range(2):
            assert b.order("report", "reported")["pages"] == PAGES
            assert b.machine.rss_anon_bytes() <= full - ARENA + SLACK
            b.use()
            assert b.check() == PAGES
            b.free()
        assert b.info() == RAM
        b.end()


@pytest.mark.parametrize("poison, kept", [("0", False), ("0xaa", True)])
def test_reports_of_poisoned_pages(folder, poison, kept):
    """A guest that says what its free pages are full of finds them so."""
    with balloon_of(folder, f"poison={poison}", ",free-page-reporting=on") as b:
        b.order(f"fill {32 * MIB:#x} {PAGES}", "filled")
        assert b.raw(REPORT, 32 * MIB, PAGES) == 1
        assert b.verify(32 * MIB, PAGES) == ((0, 0) if kept else (PAGES, PAGES))
        b.machine.signal(15)
        assert b.machine.wait() == 0


# ---- beside memory devices ----


@pytest.mark.parametrize("kind", ["ram", "memfd"])
def test_device_memory(folder, kind):
    """Pages of plugged blocks go and come back; sizes, other blocks and the guard know nothing of it."""
    args = ["-m", "64M,maxmem=1G", "-object", f"memory-backend-{kind},id=m0,size=64M"]
    args += ["-device", "virtio-mem-pci,id=d0,memdev=m0,requested-size=32M,block-size=2M"]
    with balloon_of(folder, "", ",free-page-reporting=on", args) as b:
        base = b.qmp.execute("query-memory-devices")[0]["data"]["memaddr"]
        block = BLOCK // PAGE
        assert b.order(f"plug 0 {4 * BLOCK}", "answer") == ACK
        assert b.order(f"fill {base:#x} {4 * block}", "filled") == 4 * block
        # the second half of the first block and all of the second; and a page of the third
        assert b.raw(INFLATE, base + BLOCK // 2, block // 2 + block) > 0
        assert b.raw(REPORT, base + 2 * BLOCK, 1) == 1
        gone = block // 2 + block + 1
        assert b.verify(base, 4 * block) == (gone, gone)
        b.order(f"fill {base:#x} {4 * block}", "filled")
        assert b.verify(base, 4 * block) == (0, 0)
        # a block that is gone, one that goes with pages in the balloon, and what is no memory at all
        assert b.raw(INFLATE, base + BLOCK, block) > 0
        assert b.order(f"unplug {BLOCK} {2 * BLOCK}", "answer") == ACK
        for queue in (INFLATE, DEFLATE, REPORT):
            assert b.raw(queue, base + 2 * BLOCK, block) > 0
            assert b.raw(queue, base + 100 * BLOCK, 1) > 0
        # from a plugged block into one that is not
        assert b.raw(REPORT, base + BLOCK - PAGE, 2) == 1
        assert b.verify(base, block - 1) == (0, 0)
        assert b.verify(base + 3 * BLOCK, block) == (0, 0)
        device = b.qmp.execute("query-virtio-mem")[0]
        assert device["size"] == 2 * BLOCK
        assert device["violations"] == {"writes": 0, "reads": 0}
        # plugged again it is empty, and closed it is closed
        assert b.order(f"plug {BLOCK} {BLOCK}", "answer") == ACK
        assert b.verify(base + BLOCK, block) == (block, block)
        b.order(f"fill {base + 2 * BLOCK:#x} 1", "filled")
        assert b.verify(base + 2 * BLOCK, 1) == (1, 1)
        assert b.qmp.execute("query-virtio-mem")[0]["violations"]["writes"] == 2
        assert b.check() == PAGES
        b.end()


@pytest.mark.parametrize("kind", ["ram", "memfd"])
def test_blocks_that_go_meanwhile(folder, kind):
    """Who works on a block that is unplugged does nothing to it, nor to its neighbour."""
    args = ["-m", "64M,maxmem=1G", "-object", f"memory-backend-{kind},id=m0,size=64M"]
    args += ["-device", "virtio-mem-pci,id=d0,memdev=m0,requested-size=32M,block-size=2M"]
    with balloon_of(folder, "", ",free-page-reporting=on", args) as b:
        base = b.qmp.execute("query-memory-devices")[0]["data"]["memaddr"]
        assert b.order(f"plug {BLOCK} {BLOCK}", "answer") == ACK
        b.order(f"fill {base + BLOCK:#x} {BLOCK // PAGE}", "filled")
        assert b.order("race 25", "raced")["wrong"] == 0
        assert b.verify(base + BLOCK, BLOCK // PAGE) == (0, 0)
        device = b.qmp.execute("query-virtio-mem")[0]
        assert device["size"] == BLOCK
        assert device["violations"] == {"writes": 0, "reads": 0}
        assert b.check() == PAGES
        b.end()


# ---- resets ----


def test_reset(folder):
    """The balloon is empty, all memory is there, and the target is what it was."""
    with balloon_of(folder) as b:
        b.free(1000)
        b.resize(RAM - 1000 * PAGE)
        b.qmp.execute("system_reset")
        b.ready()
        assert b.info() == RAM
        assert b.check() == PAGES
        # it is asked for the same again
        b.free(1000)
        b.has(RAM - 1000 * PAGE)
        assert b.check() == PAGES - 1000
        b.end()


# ---- moves ----


WAYS = {
    "live": live,
    "postcopy": postcopy,
    "image": lambda guest: saved(guest, "file:FILE", "file:FILE"),
    "stream": lambda guest: saved(guest, "exec:cat > FILE", "exec: cat FILE"),
}


@contextlib.contextmanager
def guest_of(path, words="", options=",free-page-hint=on,free-page-reporting=on"):
    args = ["-m", "64M", "-device", f"{DEVICE}{options}"]
    with Guest(path, f"test=balloon {words}", args) as guest:
        yield guest, Balloon(guest.machine, guest.qmp)


def test_moves(tmp_path):
    """What is in the balloon stays in it, the guest is asked as before, and everything goes on."""
    with guest_of(tmp_path) as (guest, b):
        b.free(2000)
        b.resize(RAM - 1000 * PAGE)
        b.set_interval(1)
        for way in WAYS.values():
            way(guest)
            b.moved_to(guest)
            assert b.info() == RAM - 1000 * PAGE
            assert b.get("guest-stats-polling-interval") == 1
            state = until(b.state, lambda s: s["hinted"] == 0, "nothing is hinted any more")
            assert (state["balloon"], state["free"]) == (1000, 1000)
            assert b.check() == PAGES - 2000
            assert b.order("report", "reported")["pages"] == 1000
            b.resize(RAM - 1500 * PAGE)
            b.resize(RAM - 1000 * PAGE)
        b.resize(RAM)
        b.end()


HINTED = ["-m", "96M", "-device", f"{DEVICE},free-page-hint=on"]
SLOW = {"max_bandwidth": 5 * MIB}  # there is time to hint before all was looked at


@contextlib.contextmanager
def hinting_guest(path):
    """One with free memory at the end of a larger arena, which is looked at last."""
    with Guest(path, f"test=balloon arena={2 * ARENA}", HINTED) as guest:
        b = Balloon(guest.machine, guest.qmp)
        b.free()
        yield guest, b


def hinted(qmp):
    return qmp.execute("query-migrate").get("ram", {}).get("hinted", 0)


def begin(guest, b, caps, rounds, least=100):
    """A migration that is slow until pages are hinted, and left out; (target, its monitor)."""
    target, qmp, uri = prepare(guest, "unix:HERE", caps, SLOW)
    qmp.execute("migrate-incoming", uri=uri)
    guest.qmp.execute("migrate", uri=uri)
    until(b.state, lambda s: s["rounds"] == rounds and s["hinted"] > 0, "hints")
    until(lambda: hinted(guest.qmp), lambda pages: pages >= least, "pages that are left out")
    return target, qmp


# Several connections have so much ahead of them that hints come too late for this little memory.
@pytest.mark.parametrize("multifd, rate, least", [(False, 0, 100), (False, 64, 100), (True, 64, 0)])
def test_hints(tmp_path, multifd, rate, least):
    """Free pages are left out; what the guest uses is all there, also if it wrote all the time."""
    with hinting_guest(tmp_path) as (guest, b):
        b.order(f"rate {rate}", "rates")
        target, qmp = begin(guest, b, {"multifd": multifd}, 1, least)
        guest.qmp.execute("migrate-set-parameters", **{"max-bandwidth": UNLIMITED})
        assert ended(guest.qmp) == "completed"
        wait_running(qmp)
        assert least <= hinted(guest.qmp) <= 2 * PAGES
        guest.became(target, qmp)
        b.moved_to(guest)
        b.order("rate 0", "rates")
        until(b.state, lambda s: s["hinted"] == 0, "the guest's pages are its own again")
        state = b.state()
        assert b.check() == state["used"]
        b.use(state["free"])
        assert b.check() == 2 * PAGES
        b.end()


def test_no_hints(tmp_path):
    """Not where pages that were left out could be missed: in postcopy, for files."""
    with guest_of(tmp_path) as (guest, b):
        b.free(PAGES // 2)
        for way in ("postcopy", "image", "stream"):
            WAYS[way](guest)
            b.moved_to(guest)
            assert b.state()["rounds"] == 0
            assert b.check() == PAGES // 2
        b.end()


def test_hints_of_a_migration_that_ends(tmp_path):
    """The guest has its pages back, with nothing lost, and the next migration starts afresh."""
    with hinting_guest(tmp_path) as (guest, b):
        b.order("rate 16", "rates")
        for turn in range(1, 3):
            target, _ = begin(guest, b, {}, turn)
            guest.qmp.execute("migrate_cancel")
            assert ended(guest.qmp) == "cancelled"
            assert target.wait() == 1
            until(b.state, lambda s: s["hinted"] == 0, "the guest's pages are its own again")
        b.order("rate 0", "rates")
        b.check()
        live(guest)
        b.moved_to(guest)
        assert b.check() == b.state()["used"]
        b.end()


def test_while_memory_arrives(tmp_path):
    """What the guest gives up while its memory is still on the way is not given back, nor lost."""
    with guest_of(tmp_path) as (guest, b):
        slow = {"max_bandwidth": 2 * MIB, "max_postcopy_bandwidth": 2 * MIB}
        target, qmp, uri = prepare(guest, "unix:HERE", {"postcopy_ram": True}, slow)
        b.free(PAGES // 2)
        qmp.execute("migrate-incoming", uri=uri)
        guest.qmp.execute("migrate", uri=uri)
        assert succeed(guest.qmp, "active") == "active"
        guest.qmp.execute("migrate-start-postcopy")
        assert succeed(guest.qmp, "postcopy-active") == "postcopy-active"
        wait_running(qmp)
        b.machine, b.qmp = target, qmp
        assert b.order("report", "reported")["pages"] == PAGES // 2
        b.resize(RAM - 100 * PAGE)
        b.use(16)
        assert guest.qmp.execute("query-migrate")["status"] == "postcopy-active"
        guest.qmp.execute("migrate-set-parameters", **{"max-postcopy-bandwidth": 0})
        succeed(guest.qmp)
        guest.became(target, qmp)
        assert b.check() == PAGES // 2 + 16
        b.use(PAGES // 2 - 116)
        # now it is
        held = b.machine.rss_anon_bytes()
        b.free(PAGES // 2)
        b.order("report", "reported")
        assert b.machine.rss_anon_bytes() <= held - ARENA // 2 + SLACK
        b.resize(RAM)
        assert b.check() == PAGES // 2 - 100
        b.end()


# ---- attacks ----


@pytest.mark.parametrize("words", ["", "ring=packed features=0x3e"])
def test_attack(folder, words):
    """Whatever a guest sends, it is the one who loses by it; the device starts again."""
    options = ",free-page-reporting=on,free-page-hint=on" + ",packed=on" * ("packed" in words)
    with balloon_of(folder, words, options) as b:
        b.qmp.execute("balloon", value=RAM - MIB)
        assert 0 < b.order("attack 80", "attacked")["broken"] <= 80
        assert b.qmp.execute("query-status")["status"] == "running"
        assert b.check() == PAGES
        b.free()
        b.resize(RAM - ARENA)
        b.resize(RAM)
        assert b.order("report", "reported")["pages"] == PAGES
        b.use()
        assert b.check() == PAGES
        b.end()


def test_events_are_few(folder):
    """However often the guest says another size, its monitor hears of it once a second."""
    with balloon_of(folder) as b:
        b.free()
        started = time.monotonic()
        for turn in range(12):
            b.qmp.execute("balloon", value=RAM - (turn % 2) * ARENA)
            wanted = (turn % 2) * PAGES
            until(b.state, lambda s: s["balloon"] == wanted, "in the balloon")
        heard = len(b.qmp.take_events("BALLOON_CHANGE"))
        assert 1 <= heard <= time.monotonic() - started + 2
        b.end()
