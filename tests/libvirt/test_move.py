# SPDX-License-Identifier: BSD-3-Clause
"""Guests that are saved, restored and migrated by libvirt, with sizes that change on the way: between
two hosts of one machine, one with libvirt 9.0, the other with 11.3.

I1. The guest (tests/bare/test_pattern.c) knows what must be in its memory, and is asked after each
    move; what it finds wrong is told as it is found.
I2. After each move that fails, and each libvirtd that is killed, the guest runs on exactly one side.
"""

import contextlib
import copy
import os
import re
import signal
import socket
import tempfile
import threading

import pytest

from daemon import Daemon
from domain import MIB, Domain
from ebbvm import TIMEOUT_S
from pattern import Pattern

OLD, NEW = "9.0", "11.3"
PATTERN = "test=pattern devices=2 arena=1M rate=4 step=8"
# More than a slow connection carries, again and again.
BUSY = "test=pattern devices=2 arena=4M fill=1 rate=64 step=8"
SLOW = ("--bandwidth", "1")
REACH = "tcp://127.0.0.1"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="two hosts take root")


@pytest.fixture(scope="module")
def hosts():
    """version -> a libvirtd on a host of its own. The older one compresses what it saves."""
    with contextlib.ExitStack() as stack:
        daemons = {}
        for version, conf in ((OLD, {"save_image_format": "gzip"}), (NEW, {})):
            folder = tempfile.TemporaryDirectory(prefix="ebb-lv-", ignore_cleanup_errors=True)
            daemon = Daemon(version, stack.enter_context(folder), qemu_conf=conf)
            daemons[version] = stack.enter_context(daemon)
        yield daemons


@pytest.fixture
def old(hosts):
    yield hosts[OLD]
    hosts[OLD].clear()


@pytest.fixture
def new(hosts):
    yield hosts[NEW]
    hosts[NEW].clear()


@pytest.fixture
def both(old, new):
    return old, new


class Guest:
    """A guest that writes all the time, wherever it is: `domain` is where."""

    def __init__(self, daemon, name, machine="q35", append=PATTERN, change=None):
        self.domain = Domain(daemon, name, machine, append, small=True)
        requested = self.domain.devices.findall("memory/target/requested")
        requested[1].text = str(2 * MIB)
        if change:
            change(self.domain.xml)
        self.domain.start(ready=None)
        self.pattern = Pattern(self)

    # What a Pattern talks to.

    @property
    def console(self):
        return self.domain

    def type(self, line):
        self.domain.type(line)

    @property
    def daemon(self):
        return self.domain.daemon

    def at(self, daemon):
        """It is DAEMON's now."""
        self.domain = copy.copy(self.domain)
        self.domain.daemon = daemon
        return self.again()

    def again(self):
        """It has another console."""
        self.domain.listen()
        return self

    def lives(self):
        """It runs here, its memory is what it made it, and sizes are what they shall be."""
        assert self.domain.state() == "running"
        self.pattern.check()
        self.pattern.runs_on()
        # What the emulator told meanwhile waits for the end of a job.
        wait(lambda: self.domain.known_sizes() == self.domain.emulator_sizes())

    def follows(self):
        """It has what it was asked to have."""
        event = rf"memory-device-size {self.domain.name} \S+ \d+"
        while any(d["current"] != d["requested"] for d in self.domain.memory_devices().values()):
            self.daemon.events.expect(event)

    def ask(self, *sizes):
        """Ask its devices to have SIZES."""
        for alias, size in zip(self.domain.aliases(), sizes):
            self.domain.resize(alias, size)

    # Its moves.

    def words(self, to, *words, reach=REACH):
        """The words by which virsh moves it."""
        more = ["--migrateuri", reach] if reach else []
        return ["migrate", self.domain.name, peer(to), "--live", *words, *more]

    def migrate(self, to, *words, **options):
        self.daemon.virsh(*self.words(to, *words, **options))
        return self.at(to)

    @contextlib.contextmanager
    def moving(self, to, *words):
        """It is on its way TO, and does not arrive."""
        with self.daemon.spawn(*self.words(to, *SLOW, *words)) as process:
            self.daemon.events.expect(f"migration-iteration {self.domain.name} 1")
            yield process


def wait(done):
    """Until DONE(): of states that no event tells of."""
    pause = threading.Event()
    for _ in range(int(TIMEOUT_S * 20)):
        if done():
            return
        pause.wait(0.05)
    raise AssertionError("it does not come to that")


def peer(daemon):
    return f"qemu+unix:///system?socket={daemon.socket}"


def active(daemon):
    return daemon.names("--state-running", "--state-paused", "--state-other")


# Files.


def test_save_and_restore(new):
    """The file is as large as the guest's content, and can be looked into. The guest goes on from it,
    on its way to the sizes that it was asked for; from one that was cut off it does not, and both stay
    as they are."""
    guest = Guest(new, "saved")
    guest.ask(6 * MIB, 4 * MIB)
    file, cut = new.folder / "images/saved", new.folder / "images/cut"
    guest.domain.virsh("save", file)
    new.events.expect("lifecycle saved Stopped Saved")
    assert new.names() == ["saved"] and active(new) == []
    assert file.stat().st_size < 48 * MIB  # what it has written, of 64 MiB and 512 MiB
    assert "<name>saved</name>" in new.virsh("save-image-dumpxml", file)
    state = file.read_bytes()
    cut.write_bytes(state[: len(state) - 3000])
    said = new.refused("restore", cut)
    assert "was cut off" in said, said
    assert active(new) == [] and cut.read_bytes() == state[: len(state) - 3000]
    new.virsh("restore", file)
    new.events.expect("lifecycle saved Started Restored")
    guest.again()
    guest.follows()
    guest.lives()
    assert [s[1] for s in guest.domain.sizes().values()] == [6 * MIB, 4 * MIB]
    assert file.read_bytes() == state


def test_managed_save(old):
    """Compressed, with the cache passed by; started from it, then saved once more, edited, and dropped."""
    guest = Guest(old, "kept")
    guest.domain.virsh("managedsave", "--bypass-cache", "--verbose")
    assert "Managed save:   yes" in guest.domain.virsh("dominfo")
    guest.domain.virsh("start")
    guest.again().lives()
    assert "Managed save:   no" in guest.domain.virsh("dominfo")
    figures = guest.domain.virsh("domjobinfo", "--completed")
    assert re.search(r"^Job type: +Completed", figures, re.M), figures
    assert re.search(r"^Memory remaining: +0", figures, re.M), figures
    guest.domain.virsh("managedsave", "--paused")
    text = guest.domain.virsh("managedsave-dumpxml")
    assert "<on_crash>destroy</on_crash>" in text
    edited = old.folder / "edited.xml"
    edited.write_text(text.replace("<on_crash>destroy", "<on_crash>preserve"))
    guest.domain.virsh("managedsave-define", edited)
    guest.domain.virsh("start")
    assert guest.domain.state() == "paused"
    assert guest.domain.live().find("on_crash").text == "preserve"
    guest.domain.virsh("resume")
    guest.again().lives()
    guest.domain.virsh("managedsave")
    guest.domain.virsh("managedsave-remove")


def test_unprivileged_user(folder):
    """What an unprivileged user has is saved and restored, too."""
    with Daemon(OLD, folder, session=True) as host:
        guest = Guest(host, "mine")
        file = host.home / "saved"
        guest.domain.virsh("save", file)
        host.virsh("restore", file)
        guest.again().lives()


@pytest.mark.parametrize("end", ("abort", "kill"))
def test_save_that_ends_early(new, end):
    """Nobody takes what is saved; the saving is aborted, or libvirtd is killed. The guest goes on."""
    guest = Guest(new, "stuck", append=BUSY)
    pipe = new.folder / f"images/{end}"
    os.mkfifo(pipe)
    # Somebody has to be there, so that it can be opened.
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with new.spawn("save", "stuck", pipe) as process:
        new.events.expect("lifecycle stuck Suspended Paused")
        wait(lambda: "Unbounded" in guest.domain.virsh("domjobinfo"))
        if end == "abort":
            guest.domain.virsh("domjobabort")
            os.close(reader)  # what carries it there goes with it
        else:
            new.kill(signal.SIGKILL)
            os.close(reader)
            new.start()
        assert process.wait(TIMEOUT_S) != 0
    wait(lambda: guest.domain.state() == "running")
    guest.again().lives()


def test_snapshot_of_memory(new):
    """Taken from a guest that runs on, and gone back to; what takes disks is refused with a sentence."""
    guest = Guest(new, "shot")
    file = new.folder / "images/shot.mem"
    guest.domain.virsh("snapshot-create-as", "one", "--memspec", f"{file},snapshot=external")
    guest.lives()
    guest.domain.virsh("snapshot-delete", "one", "--metadata")
    for words, sentence in (
        ((), "disk"),
        (("--disk-only",), "nothing selected for snapshot"),
    ):
        assert sentence in guest.domain.refused("snapshot-create-as", "two", *words)
    guest.domain.virsh("destroy")
    new.virsh("restore", file)
    guest.again().lives()


# Other hosts.

WAYS = (
    (),
    ("--p2p", "--auto-converge", "--auto-converge-initial", "30"),
    ("--p2p", "--tunnelled"),
    ("--parallel", "--parallel-connections", "3", "--undefinesource", "--persistent"),
    ("--postcopy", "--postcopy-after-precopy", "--timeout", "60", "--timeout-suspend"),
)


@needs_root
def test_there_and_back(both):
    """In each way that virsh offers, from 9.0 to 11.3 and back, with sizes that change on the way."""
    here, there = both
    guest = Guest(here, "goes")
    sizes = [(2 * MIB, 6 * MIB), (6 * MIB, 2 * MIB)]
    for way in WAYS:
        guest.ask(*sizes[0])
        guest.migrate(there, *way, reach=None if "--tunnelled" in way else REACH)
        assert active(here) == [] and active(there) == ["goes"]
        guest.follows()
        guest.lives()
        here, there = there, here
        sizes.reverse()


@needs_root
def test_flat_bus(both):
    """`pc` moves as well, also while it is paused, and under another name."""
    here, there = both
    guest = Guest(here, "flat", "pc")
    guest.domain.virsh("suspend")
    guest.migrate(there)
    assert guest.domain.state() == "paused"
    guest.domain.virsh("resume")
    guest.lives()
    here.virsh("undefine", "flat")
    there.virsh(*guest.words(here, "--dname", "other"))
    guest.domain.name = "other"
    guest.at(here).lives()


@needs_root
def test_offline(both):
    """The definition alone."""
    here, there = both
    Domain(here, "still", small=True).define()
    here.virsh("migrate", "still", peer(there), "--offline", "--persistent")
    assert there.names() == ["still"] and active(there) == []


@needs_root
def test_refused(both):
    """What is not there is said, and the guest runs on."""
    here, there = both
    guest = Guest(here, "stays")
    for words, sentence in (
        (("--compressed",), "xbzrle"),
        (("--tls",), "tls-creds-x509"),
        (("--rdma-pin-all",), "rdma-pin-all"),
    ):
        assert sentence in here.refused(*guest.words(there, *words))
        assert active(here) == ["stays"] and active(there) == []
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        said = here.refused(*guest.words(there, reach=f"tcp://127.0.0.1:{port}"))
    assert "Address already in use" in said, said
    guest.lives()


@needs_root
def test_postcopy(both):
    """A guest that writes faster than it can be sent goes on over there, and its memory follows."""
    here, there = both
    guest = Guest(here, "early", append=BUSY)
    # So slow that libvirt sees it before it is over.
    with guest.moving(there, "--postcopy", "--postcopy-bandwidth", "1") as process:
        assert "Unbounded" in guest.domain.virsh("domjobinfo")
        guest.domain.virsh("migrate-postcopy")
        there.events.expect("lifecycle early Resumed Post-copy")
        guest.domain.virsh("migrate-setspeed", "64", "--postcopy")
        assert process.wait(TIMEOUT_S) == 0, process.stdout.read()
    assert active(here) == []
    guest.at(there).lives()


@needs_root
def test_postcopy_cut_and_resumed(both):
    """The guest waits for memory that does not come, until it does."""
    there, here = both
    guest = Guest(here, "cut", append=BUSY)
    with guest.moving(there, "--postcopy", "--postcopy-bandwidth", "1") as process:
        guest.domain.virsh("migrate-postcopy")
        there.events.expect("lifecycle cut Resumed Post-copy")
        guest.domain.virsh("domjobabort", "--postcopy")
        assert process.wait(TIMEOUT_S) != 0
    here.events.expect("lifecycle cut Suspended Post-copy-Error")
    wait(lambda: "(post-copy failed)" in there.virsh("domstate", "cut", "--reason"))
    resume = ("--postcopy", "--postcopy-resume", "--postcopy-bandwidth", "64")
    here.virsh(*guest.words(there, *resume))
    assert active(here) == []
    guest.at(there).lives()


@needs_root
def test_ended_early(both):
    """The emulator over there is killed, then one migration is aborted; then it moves as if there had been
    none."""
    here, there = both
    guest = Guest(here, "back", append=BUSY)
    with guest.moving(there) as process:
        os.kill(there.guest_pid("back"), signal.SIGKILL)
        assert process.wait(TIMEOUT_S) != 0
    wait(lambda: active(there) == [])
    guest.lives()
    with guest.moving(there) as process:
        guest.domain.virsh("migrate-setmaxdowntime", "1")
        guest.domain.virsh("domjobabort")
        assert process.wait(TIMEOUT_S) != 0
    assert active(there) == []
    guest.lives()
    guest.pattern.rate(0)
    guest.migrate(there).lives()


@needs_root
@pytest.mark.parametrize("side", ("source", "target"))
def test_libvirtd_killed(both, side):
    """While the guest is on its way; it stays."""
    here, there = both if side == "source" else reversed(both)
    guest = Guest(here, "torn", append=BUSY)
    with guest.moving(there) as process:
        killed = here if side == "source" else there
        killed.kill(signal.SIGKILL)
        if side == "target":
            # It arrives, and nobody lets it go on there.
            guest.domain.virsh("migrate-setspeed", "1000")
        assert process.wait(TIMEOUT_S) != 0
        killed.start()
    wait(lambda: active(there) == [])
    wait(lambda: guest.domain.state() == "running")
    guest.again().lives()


def test_dirty_rate(old):
    guest = Guest(old, "busy", append=BUSY)
    for mode in ("page-sampling", "dirty-bitmap"):
        guest.domain.virsh("domdirtyrate-calc", "--seconds", "1", "--mode", mode)
        wait(lambda: guest.domain.stats("--dirtyrate")["dirtyrate.calc_status"] == "2")
        figures = guest.domain.stats("--dirtyrate")
        assert figures["dirtyrate.calc_mode"] == mode
        assert int(figures["dirtyrate.megabytes_per_second"]) >= 1, figures
