# SPDX-License-Identifier: BSD-3-Clause
"""Dumps of a guest's memory: what is in them, how they are begun and end, and what the guest notices."""

import mmap
import os
import resource
import struct
import subprocess

import pytest

from corefile import CoreFile
from ebbvm import Machine, memory_devices
from pattern import Pattern

MIB = 1 << 20
GIB = 1 << 30
ARENA, ARENA_BYTES = 0x2000000, 8 * MIB
RAM_BYTES = 96 * MIB
BLOCK = 2 * MIB
DEVICE_BYTES, PLUGGED = 64 * MIB, 16 * MIB
# All of it is written once, and then the guest rests.
APPEND = f"test=pattern arena={ARENA_BYTES} fill=1 rate=0"
ARGS = ["-m", f"{RAM_BYTES // MIB}M,maxmem=1G", "-smp", "2"]
ARGS += memory_devices((DEVICE_BYTES, PLUGGED, BLOCK, 0))
ELF_HEAD = b"\x7fELF"


def plugged(machine, size):
    while machine.pattern.report()["plugged"] != size:
        pass


@pytest.fixture(scope="module")
def guest(tmp_path_factory):
    """Each test leaves it as it was; the last one ends it."""
    folder = tmp_path_factory.mktemp("guest")
    with Machine(folder, APPEND, ARGS, qmp=True, monitor=True) as machine:
        machine.pattern = Pattern(machine)
        plugged(machine, PLUGGED)
        # It is written by the turn in which it came, which has ended when the guest looks at it all.
        machine.pattern.check()
        yield machine


def pattern_of(gpa):
    """What a page holds that was written once (tests/bare/test_pattern.c)."""
    x = gpa ^ 0x9E3779B97F4A7C15
    x ^= x >> 29
    x = x * 0xBF58476D1CE4E5B9 % (1 << 64)
    return struct.pack("<Q", x ^ x >> 32)


def core_of(path):
    with open(path, "rb") as file:
        return CoreFile(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def dump(qmp, path, **more):
    qmp.execute("dump-guest-memory", paging=False, protocol=f"file:{path}", **more)


def stays(qmp, status="running"):
    assert qmp.execute("query-status")["status"] == status


def resident(machine):
    with open(f"/proc/{machine.process.pid}/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS"))


class SlowDump:
    """A dump into a pipe that nobody reads until it is told to: it is under way for as long."""

    def __init__(self, qmp, **more):
        self.qmp = qmp
        self.reader, writer = os.pipe()
        qmp.call("getfd", {"fdname": "slow"}, fds=[writer])
        os.close(writer)
        arguments = {"paging": False, "protocol": "fd:slow", "detach": True, **more}
        qmp.call("dump-guest-memory", arguments)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.leave()
        return False

    def leave(self):
        if self.reader >= 0:
            os.close(self.reader)
        self.reader = -1

    def read(self):
        """All of it."""
        pieces = []
        while piece := os.read(self.reader, MIB):
            pieces.append(piece)
        return b"".join(pieces)

    def ended(self):
        return self.qmp.wait_event("DUMP_COMPLETED")["data"]


def check_content(machine, core):
    """Everything that the guest has, where it has it, and nothing else."""
    device = machine.qmp().execute("query-memory-devices")[0]["data"]
    base = device["memaddr"]
    assert device["size"] == PLUGGED
    assert core.ranges()[0] == (0, RAM_BYTES)
    plugged = [(start, size) for start, size in core.ranges() if start >= base]
    assert core.ranges() == [(0, RAM_BYTES), *plugged]
    assert sum(size for _, size in plugged) == PLUGGED
    assert all(start % BLOCK == size % BLOCK == 0 for start, size in plugged)
    assert all(start + size <= base + DEVICE_BYTES for start, size in plugged)
    pages = [ARENA + at for at in range(0, ARENA_BYTES, 4096)]
    pages += [start + at for start, size in plugged for at in range(0, size, 4096)]
    for gpa in pages:
        assert core.memory(gpa, 8) == core.memory(gpa + 4088, 8) == pattern_of(gpa), hex(gpa)
    absent = set(range(base, base + DEVICE_BYTES, BLOCK))
    absent -= {start + at for start, size in plugged for at in range(0, size, BLOCK)}
    assert len(absent) == (DEVICE_BYTES - PLUGGED) // BLOCK
    assert all(core.memory(gpa, 1) is None for gpa in absent)


def test_content(guest, tmp_path):
    """By a path, waited for: the guest stands still meanwhile, and goes on. Its readers read it."""
    qmp = guest.qmp()
    path = tmp_path / "core, with=comma"
    assert qmp.execute("query-dump") == {"status": "none", "completed": 0, "total": 0}
    dump(qmp, path)
    whole = {"status": "completed", "completed": RAM_BYTES + PLUGGED, "total": RAM_BYTES + PLUGGED}
    assert qmp.execute("query-dump") == whole
    assert qmp.wait_event("DUMP_COMPLETED")["data"] == {"result": whole}
    names = [event["event"] for event in qmp.take_events()]
    assert [name for name in names if name in ("STOP", "RESUME")] == ["STOP", "RESUME"]
    stays(qmp)
    core = core_of(path)
    check_content(guest, core)
    assert len(core.threads) == 2
    for thread, machine in zip(core.threads, core.machines):
        assert thread["rip"] == machine["rip"] and core.memory(thread["rip"], 1) is not None
        assert machine["cr0"] & 0x80000001 == 0x80000001 and machine["cr4"] & 0x20
        assert core.memory(machine["cr3"] & ~0xFFF, 4096) is not None
    # What nobody wrote takes no room.
    held = os.stat(path).st_blocks * 512
    assert ARENA_BYTES + PLUGGED < held < ARENA_BYTES + PLUGGED + 8 * MIB
    read = subprocess.run(["readelf", "-h", "-l", "-n", path], capture_output=True, text=True)
    assert (read.returncode, read.stderr) == (0, "") and read.stdout.count("NT_PRSTATUS") == 2
    guest.pattern.check()
    guest.pattern.runs_on()


def test_a_part(guest, tmp_path):
    """begin and length, which need not be pages; where there is nothing it says so."""
    qmp = guest.qmp()
    begin, length = ARENA + 100, 3 * MIB + 5000
    dump(qmp, tmp_path / "whole")
    dump(qmp, tmp_path / "part", begin=begin, length=length)
    whole, part = core_of(tmp_path / "whole"), core_of(tmp_path / "part")
    assert part.ranges() == [(begin, length)]
    assert part.memory(begin, length) == whole.memory(begin, length)
    path = tmp_path / "none"
    arguments = {"paging": False, "protocol": f"file:{path}", "begin": 1 << 40, "length": 4096}
    assert "has no memory at these addresses" in qmp.error("dump-guest-memory", arguments).desc
    assert path.stat().st_size == 0
    assert qmp.execute("query-dump")["status"] == "failed"
    guest.pattern.check()


def test_under_way(guest, tmp_path):
    """Into a pipe that is full: what is refused meanwhile, and what waits. What comes out is whole."""
    qmp, other = guest.qmp(), guest.qmp()
    with SlowDump(qmp) as slow:
        qmp.wait_event("STOP")
        stays(other, "save-vm")
        info = other.execute("query-dump")
        assert info["status"] == "active" and info["completed"] < info["total"]
        (job,) = other.execute("query-jobs")
        assert (job["type"], job["status"]) == ("dump-guest-memory", "running")
        again = {"paging": False, "protocol": f"file:{tmp_path / 'again'}"}
        for command, arguments, words in (
            ("dump-guest-memory", again, "a dump of memory is under way already"),
            ("migrate", {"uri": f"file:{tmp_path / 'image'}"}, "memory is being written to a dump"),
            ("cont", {}, "memory is being written to a dump"),
            ("system_reset", {}, "memory is being written to a dump"),
            ("device_del", {"id": "d0"}, "memory is being written to a dump"),
        ):
            assert words in other.error(command, arguments).desc
        assert not (tmp_path / "again").exists()
        # The owner may ask for another size: the guest hears of it afterwards.
        path = "/machine/peripheral/d0"
        other.execute("qom-set", path=path, property="requested-size", value=PLUGGED + 4 * BLOCK)
        device = other.execute("query-memory-devices")[0]["data"]
        assert device["requested-size"] == PLUGGED + 4 * BLOCK and device["size"] == PLUGGED
        core = CoreFile(slow.read())
        assert sum(size for _, size in core.ranges()) == RAM_BYTES + PLUGGED
        assert core.memory(ARENA, 8) == pattern_of(ARENA)
        result = slow.ended()["result"]
        assert result["status"] == "completed" and result["completed"] == info["total"]
    qmp.wait_event("RESUME")
    plugged(guest, PLUGGED + 4 * BLOCK)
    qmp.execute("qom-set", path=path, property="requested-size", value=PLUGGED)
    plugged(guest, PLUGGED)
    guest.pattern.check()


def test_stop_meanwhile(guest):
    """A guest that is to be stopped does not go on afterwards."""
    qmp = guest.qmp()
    with SlowDump(qmp) as slow:
        qmp.execute("stop")
        CoreFile(slow.read())
        slow.ended()
    stays(qmp, "paused")
    qmp.execute("cont")
    guest.pattern.check()


@pytest.mark.parametrize("how", ["reader leaves", "cancel"])
def test_ends_early(guest, how):
    """The guest goes on as it was, and everybody is told why."""
    qmp = guest.qmp()
    with SlowDump(qmp) as slow:
        if how == "cancel":
            qmp.execute("job-cancel", id=qmp.execute("query-jobs")[0]["id"])
        else:
            slow.leave()
        told = slow.ended()
    assert told["result"]["status"] == "failed" == qmp.execute("query-dump")["status"]
    assert ("cancelled" if how == "cancel" else "nobody reads it any more") in told["error"]
    assert told["error"] in guest.monitor().run("info dump")
    stays(qmp)
    guest.pattern.check()


def test_no_room(guest, tmp_path):
    """A file that may not be as large, and a disk that is full: said so, and nothing stays behind."""
    qmp = guest.qmp()
    path = tmp_path / "core"
    unlimited = resource.RLIM_INFINITY
    resource.prlimit(guest.process.pid, resource.RLIMIT_FSIZE, (MIB, unlimited))
    arguments = {"paging": False, "protocol": f"file:{path}"}
    refused = qmp.error("dump-guest-memory", arguments)
    assert refused.desc == f"file:{path}: cannot write the dump: File too large"
    assert path.stat().st_size == 0
    assert qmp.wait_event("DUMP_COMPLETED")["data"]["error"] == refused.desc
    resource.prlimit(guest.process.pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
    arguments["protocol"] = "file:/dev/full"
    refused = qmp.error("dump-guest-memory", arguments)
    assert refused.desc == "file:/dev/full: cannot write the dump: No space left on device"
    stays(qmp)
    guest.pattern.check()


def test_refused(guest, tmp_path):
    """Nothing happens to the guest."""
    qmp = guest.qmp()
    path = f"file:{tmp_path / 'core'}"
    for more, words in (
        ({"paging": True}, "Parameter 'paging' cannot be true"),
        ({"format": "kdump-zlib"}, "allowed: elf"),
        ({"begin": 0}, "Parameter 'length' is missing"),
        ({"length": 4096}, "Parameter 'begin' is missing"),
        ({"begin": -1, "length": 1}, "'begin' expects an address"),
        ({"begin": 0, "length": 0}, "'length' expects a number of bytes"),
        ({"protocol": "tcp:localhost:1"}, "allowed: file:PATH, fd:NAME"),
        ({"protocol": "file:"}, "allowed: file:PATH, fd:NAME"),
        ({"protocol": "fd:nobody"}, "nobody"),
        ({"protocol": f"file:{tmp_path}"}, "Is a directory"),
        ({"protocol": "file:/nowhere/core", "detach": True}, "No such file or directory"),
    ):
        refused = qmp.error("dump-guest-memory", {"paging": False, "protocol": path, **more})
        assert refused.error_class == "GenericError" and words in refused.desc, more
    assert not (tmp_path / "core").exists()
    assert not [e for e in qmp.take_events() if e["event"] in ("STOP", "DUMP_COMPLETED")]
    assert qmp.execute("query-dump-guest-memory-capability") == {"formats": ["elf"]}
    qmp.execute("migrate-set-parameters", max_bandwidth=MIB)
    qmp.execute("migrate", uri=f"file:{tmp_path / 'image'}")
    arguments = {"paging": False, "protocol": path}
    assert "migration" in qmp.error("dump-guest-memory", arguments).desc
    qmp.execute("migrate_cancel")
    while qmp.execute("query-migrate")["status"] != "cancelled":
        pass


def test_people(guest, tmp_path):
    monitor = guest.monitor()
    assert monitor.run(f"dump-guest-memory {tmp_path / 'core'}") == ""
    assert monitor.run("info dump") == "Status: completed\n"
    check_content(guest, core_of(tmp_path / "core"))
    qmp = guest.qmp()
    monitor.run(f"dump-guest-memory -d {tmp_path / 'part'} 0x2000000 0x1000")
    qmp_part = qmp.execute("query-dump")
    while qmp_part["status"] == "active":
        qmp_part = qmp.execute("query-dump")
    assert core_of(tmp_path / "part").ranges() == [(ARENA, 4096)]
    assert "No such file" in monitor.run("dump-guest-memory /nowhere/core")
    assert "only format" in monitor.run("dump-guest-memory -z /nowhere/core")
    guest.pattern.check()


def test_of_a_guest_that_stands_still(tmp_path):
    """It stays in the state it is in, also before its first instruction; and makes no memory."""
    args = ["-m", "1G,maxmem=64G", "-S", "-sandbox", "on"]
    args += memory_devices(("32G", "0", "2M", 0))
    with Machine(tmp_path, "test=echo", args, qmp=True) as machine:
        qmp = machine.qmp()
        before = resident(machine)
        dump(qmp, tmp_path / "core")
        assert resident(machine) - before < 16 * MIB
        stays(qmp, "prelaunch")
        assert not qmp.take_events("STOP")
        assert os.stat(tmp_path / "core").st_blocks * 512 < 8 * MIB
        core = core_of(tmp_path / "core")
        assert core.ranges() == [(0, GIB)] and len(core.threads) == 1
        qmp.execute("quit")
        assert machine.wait() == 0


def test_end_meanwhile(guest):
    qmp = guest.qmp()
    with SlowDump(qmp):
        qmp.execute("quit")
        assert guest.wait() == 0, guest.errors.text
