# SPDX-License-Identifier: BSD-3-Clause
"""Saving, restoring and migrating: each way there is, what monitors are told meanwhile, and that a
guest whose migration fails runs on as if there had been none."""

import collections
import contextlib
import socket

import pytest

from ebbvm import TIMEOUT_S, memory_devices
from migrating import Guest, WAYS, capabilities, ended, prepare, succeed, wait_running
from pattern import Pattern
from qmp import QmpError

MIB = 1 << 20
APPEND = "test=pattern devices=2 arena=1M rate=4 step=8"
DEVICES = memory_devices(("64M", "32M", "2M", 0), ("64M", "16M", "1M", 0))
ARGS = ["-m", "64M,maxmem=1G", "-smp", "2", *DEVICES]


@pytest.fixture
def guest(tmp_path):
    with Guest(tmp_path, APPEND, ARGS) as guest:
        guest.pattern = Pattern(guest.machine)
        capabilities(guest.qmp, events=True)
        yield guest


def status(qmp):
    return qmp.execute("query-status")["status"]


def lives(guest):
    """The guest runs here, and its memory is what it made it."""
    guest.pattern.moved_to(guest.machine)
    guest.pattern.check()
    guest.pattern.runs_on()


@pytest.mark.parametrize("way", sorted(WAYS))
def test_ways(guest, way):
    before = guest.pattern.report()
    WAYS[way](guest)
    lives(guest)
    after = guest.pattern.report()
    assert after["turns"] > before["turns"] and after["requested"] == before["requested"]
    guest.pattern.end()


def statuses(qmp):
    return [event["data"]["status"] for event in qmp.take_events("MIGRATION")]


def test_what_is_told(guest):
    target, qmp, uri = prepare(guest, "unix:HERE", {}, {})
    assert status(qmp) == "inmigrate"
    with pytest.raises(QmpError):
        qmp.execute("system_reset")
    with pytest.raises(QmpError):
        qmp.execute("system_powerdown")
    with pytest.raises(QmpError):
        qmp.execute("device_del", id="d0")
    with pytest.raises(QmpError):
        qmp.execute("qom-set", path="/machine/peripheral/d0", property="requested-size", value=0)
    qmp.execute("migrate-incoming", uri=uri)
    guest.qmp.execute("migrate", uri=uri)
    assert succeed(guest.qmp) == "completed"
    wait_running(qmp)
    info = guest.qmp.execute("query-migrate")
    assert info["status"] == "completed" and info["ram"]["remaining"] == 0
    assert info["ram"]["dirty-sync-count"] >= 2 and info["total-time"] >= info["downtime"] > 0
    assert [e["event"] for e in guest.qmp.take_events() if e["event"] in ("STOP", "RESUME")] == ["STOP"]
    assert status(guest.qmp) == "postmigrate"
    for command in ("cont", "system_reset", "system_powerdown"):
        with pytest.raises(QmpError) as refused:
            guest.qmp.execute(command)
        assert "handed over" in str(refused.value)
    guest.became(target, qmp)
    lives(guest)


def test_paused_stays_paused(guest):
    guest.qmp.execute("stop")
    arrive(guest)
    assert status(guest.qmp) == "paused"
    guest.qmp.execute("cont")
    lives(guest)


def arrive(guest):
    """As migrating.live(), of a guest that does not run afterwards."""
    target, qmp, uri = prepare(guest, "unix:HERE", {}, {})
    qmp.execute("migrate-incoming", uri=uri)
    guest.qmp.execute("migrate", uri=uri)
    assert succeed(guest.qmp) == "completed"
    assert succeed(qmp) == "completed"
    guest.became(target, qmp)


def test_stopped_when_it_arrives(guest):
    """-S, or stop while it waits."""
    target, qmp, uri = prepare(guest, "unix:HERE", {}, {})
    qmp.execute("stop")
    qmp.execute("migrate-incoming", uri=uri)
    guest.qmp.execute("migrate", uri=uri)
    assert succeed(guest.qmp) == "completed" and succeed(qmp) == "completed"
    assert status(qmp) == "paused"
    qmp.execute("cont")
    guest.became(target, qmp)
    lives(guest)


def test_a_guest_that_was_not_let_go_returns(guest):
    """Whoever started the target with -S has not run the guest there: it may go on at the source."""
    target, qmp, uri = prepare(guest, "unix:HERE", {}, {})
    qmp.execute("stop")
    qmp.execute("migrate-incoming", uri=uri)
    guest.qmp.execute("migrate", uri=uri)
    assert succeed(guest.qmp) == "completed" and succeed(qmp) == "completed"
    assert status(guest.qmp) == "postmigrate"
    target.process.kill()
    target.process.wait(TIMEOUT_S)
    guest.qmp.execute("cont")
    lives(guest)


@pytest.mark.parametrize("way", ["let go", "stopped later", "postcopy"])
def test_a_guest_that_was_given_away_does_not_return(guest, way):
    """What the target was told while it waits counts, not what is done there later. In postcopy some of
    its memory is there alone, held or not."""
    caps, params = ({"postcopy_ram": True}, {"max_bandwidth": 1}) if way == "postcopy" else ({}, {})
    target, qmp, uri = prepare(guest, "unix:HERE", caps, params)
    if way != "stopped later":
        qmp.execute("stop")
    if way == "let go":
        qmp.execute("cont")
    qmp.execute("migrate-incoming", uri=uri)
    guest.qmp.execute("migrate", uri=uri)
    if way == "postcopy":
        assert succeed(guest.qmp, "active") == "active"
        guest.qmp.execute("migrate-start-postcopy")
    assert succeed(guest.qmp) == "completed" and succeed(qmp) == "completed"
    if way == "postcopy":
        assert status(qmp) == "paused"
    else:
        wait_running(qmp)
    qmp.execute("stop")
    target.process.kill()
    target.process.wait(TIMEOUT_S)
    assert "handed over" in guest.qmp.error("cont").desc
    assert status(guest.qmp) == "postmigrate"


def test_saved_machine_goes_on(guest, tmp_path):
    guest.qmp.execute("migrate", uri=f"exec:cat > {tmp_path}/state")
    assert succeed(guest.qmp) == "completed"
    assert status(guest.qmp) == "postmigrate"
    guest.qmp.execute("cont")
    lives(guest)
    # once more, over the same file
    guest.qmp.execute("migrate", uri=f"exec:cat > {tmp_path}/state")
    assert succeed(guest.qmp) == "completed"


def test_pause_before_switchover(guest):
    caps = {"pause_before_switchover": True}
    target, qmp, uri = prepare(guest, "unix:HERE", caps, {})
    qmp.execute("migrate-incoming", uri=uri)
    guest.qmp.execute("migrate", uri=uri)
    assert succeed(guest.qmp, "pre-switchover") == "pre-switchover"
    assert status(guest.qmp) == "finish-migrate"
    with pytest.raises(QmpError):
        guest.qmp.execute("migrate-continue", state="device")
    guest.qmp.execute("migrate-continue", state="pre-switchover")
    assert succeed(guest.qmp) == "completed"
    wait_running(qmp)
    guest.became(target, qmp)
    lives(guest)


def test_cancelled_before_switchover(guest):
    target, qmp, uri = prepare(guest, "unix:HERE", {"pause_before_switchover": True}, {})
    qmp.execute("migrate-incoming", uri=uri)
    guest.qmp.execute("migrate", uri=uri)
    assert succeed(guest.qmp, "pre-switchover") == "pre-switchover"
    guest.qmp.execute("migrate_cancel")
    assert ended(guest.qmp) == "cancelled"
    assert target.wait() == 1
    assert status(guest.qmp) == "running"
    lives(guest)


def test_hotplug_waits(guest):
    _, qmp, uri = prepare(guest, "unix:HERE", {}, {"max_bandwidth": MIB})
    qmp.execute("migrate-incoming", uri=uri)
    guest.qmp.execute("migrate", uri=uri)
    assert succeed(guest.qmp, "active") == "active"
    for command, arguments in (
        ("device_add", {"driver": "virtio-rng-pci", "id": "r0"}),
        ("device_del", {"id": "d0"}),
        ("migrate", {"uri": uri}),
    ):
        with pytest.raises(QmpError) as refused:
            guest.qmp.execute(command, **arguments)
        assert "migration" in str(refused.value)
    guest.qmp.execute("migrate_cancel")
    assert ended(guest.qmp) == "cancelled"


# ---- failures ----

DIFFERENT = {
    "CPUs": (["-smp", "1"], "the number of CPUs is 2 at the source, and 1 here"),
    "memory": (["-m", "32M,maxmem=1G"], "boot memory is 64 MiB at the source, and 32 MiB here"),
    "device": (["-device", "virtio-rng-pci,id=r0"], "'r0' here, and the source has none"),
    "kind": (["-machine", "q35"], "the kind of machine is pc at the source, and q35 here"),
}


@pytest.mark.parametrize("what", sorted(DIFFERENT))
def test_other_machine(guest, what, tmp_path):
    more, sentence = DIFFERENT[what]
    target = guest.new(*more, "-incoming", f"unix:{tmp_path}/way")
    target.qmp()  # it listens
    guest.qmp.execute("migrate", uri=f"unix:{tmp_path}/way")
    assert ended(guest.qmp) == "failed"
    assert target.wait() == 1
    lines = target.errors.text.strip().splitlines()
    assert len(lines) == 1 and sentence in lines[0], lines
    assert sentence in guest.qmp.execute("query-migrate")["error-desc"]
    assert status(guest.qmp) == "running"
    lives(guest)


def load(guest, path):
    """The one line that a process which loads PATH ends with."""
    target = guest.new("-incoming", f"exec:cat {path}")
    assert target.wait() == 1
    lines = target.errors.text.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_streams_that_are_none(guest, tmp_path):
    whole, bad = tmp_path / "whole", tmp_path / "bad"
    guest.qmp.execute("stop")
    guest.qmp.execute("migrate", uri=f"exec:cat > {whole}")
    assert succeed(guest.qmp) == "completed"
    data = whole.read_bytes()
    seen = set()
    for what, content in {
        "empty": b"",
        "foreign": b"QEVM" + data[4:],
        "short header": data[:20],
        "cut": data[: len(data) // 2],
        "without its end": data[:-16],
        "a bit": data[:5000] + bytes([data[5000] ^ 1]) + data[5001:],
        "the last bit": data[:-1] + bytes([data[-1] ^ 1]),
    }.items():
        bad.write_bytes(content)
        line = load(guest, bad)
        assert str(bad) in line, (what, line)
        seen.add(line)
    assert len(seen) >= 5, seen


def seen(qmp, at_once=50):
    """The states of a machine up to its end; some questions are on their way at any time."""
    asked, states = collections.deque(), set()
    with contextlib.suppress(ConnectionError):
        while True:
            asked.append(qmp.send("query-status"))
            if len(asked) > at_once:
                states.add(qmp.answer(asked.popleft())["status"])
    with contextlib.suppress(ConnectionError):
        while asked:
            states.add(qmp.answer(asked.popleft())["status"])
    return states


def test_who_never_came_is_waited_for(guest):
    """A machine whose guest cannot be loaded is in no other state up to its end."""
    for _ in range(5):
        target, qmp, uri = prepare(guest, "unix:HERE", {}, {})
        qmp.execute("migrate-incoming", uri=uri)
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(uri.removeprefix("unix:"))
            peer.sendall(bytes(64))
            assert seen(qmp) <= {"inmigrate"}
        assert target.wait() == 1


@pytest.mark.parametrize(
    "uri, why",
    [
        ("unix:{}/nobody", "nobody"),
        ("tcp:127.0.0.1:1", "refused"),
        ("exec:exit 3", "3"),
        ("file:{}/none/file", "none/file"),
    ],
)
def test_nobody_takes_it(guest, uri, why, tmp_path):
    guest.qmp.execute("migrate", uri=uri.format(tmp_path))
    assert ended(guest.qmp) == "failed"
    assert why in guest.qmp.execute("query-migrate")["error-desc"]
    assert status(guest.qmp) == "running"
    lives(guest)


def test_target_dies(guest):
    target, qmp, uri = prepare(guest, "unix:HERE", {}, {"max_bandwidth": MIB})
    qmp.execute("migrate-incoming", uri=uri)
    guest.qmp.execute("migrate", uri=uri)
    assert succeed(guest.qmp, "active") == "active"
    target.process.kill()
    assert ended(guest.qmp) == "failed"
    assert status(guest.qmp) == "running"
    lives(guest)


def test_source_dies(guest):
    target, qmp, uri = prepare(guest, "unix:HERE", {}, {"max_bandwidth": MIB})
    qmp.execute("migrate-incoming", uri=uri)
    guest.qmp.execute("migrate", uri=uri)
    assert succeed(guest.qmp, "active") == "active"
    guest.machine.process.kill()
    assert target.wait() == 1
    assert len(target.errors.text.strip().splitlines()) == 1


def test_quit_meanwhile(guest):
    """Either side ends at once and in order, whatever it was doing."""
    target, qmp, uri = prepare(guest, "unix:HERE", {}, {"max_bandwidth": MIB})
    qmp.execute("migrate-incoming", uri=uri)
    guest.qmp.execute("migrate", uri=uri)
    assert succeed(guest.qmp, "active") == "active"
    guest.qmp.execute("quit")
    assert guest.machine.wait() == 0
    assert target.wait() == 1
    waiting = guest.new("-incoming", f"unix:{target.folder}/way2").qmp()
    waiting.execute("quit")


def test_unknown_uri(guest):
    for uri in ("ftp:somewhere", "defer", "exec:", "tcp:nowhere"):
        with pytest.raises(QmpError):
            guest.qmp.execute("migrate", uri=uri)
    lives(guest)


def test_reset_afterwards(guest):
    """The machine that took the guest over boots it like any other."""
    WAYS["unix"](guest)
    guest.qmp.execute("system_reset")
    guest.pattern = Pattern(guest.machine)
    lives(guest)


# ---- postcopy ----


def postcopy_paused(guest, cut):
    """A guest whose memory is on its way when the connection is cut, by the monitor at index CUT of
    (source, target); (target, its monitor)."""
    # What nobody asks for stays behind until then.
    params = {"max_bandwidth": MIB, "max_postcopy_bandwidth": 65536}
    target, qmp, uri = prepare(guest, "unix:HERE", {"postcopy_ram": True}, params)
    qmp.execute("migrate-incoming", uri=uri)
    guest.qmp.execute("migrate", uri=uri)
    assert succeed(guest.qmp, "active") == "active"
    guest.qmp.execute("migrate-start-postcopy")
    for monitor in (guest.qmp, qmp):
        assert succeed(monitor, "postcopy-active") == "postcopy-active"
    assert status(qmp) == "running"
    (guest.qmp, qmp)[cut].execute("migrate-pause")
    for monitor in (guest.qmp, qmp):
        assert succeed(monitor, "postcopy-paused") == "postcopy-paused"
        assert monitor.execute("query-migrate")["error-desc"]
    return target, qmp


def test_postcopy_does_not_wait(guest):
    """However slow memory may be sent: the guest goes on over there before more of it is."""
    target, qmp, uri = prepare(guest, "unix:HERE", {"postcopy_ram": True}, {"max_bandwidth": 1})
    qmp.execute("migrate-incoming", uri=uri)
    guest.qmp.execute("migrate", uri=uri)
    assert succeed(guest.qmp, "active") == "active"
    guest.qmp.execute("migrate-start-postcopy")
    # It is too late for that, whatever it is.
    guest.qmp.execute("migrate-set-parameters", max_bandwidth=2)
    assert succeed(guest.qmp) == "completed" and succeed(qmp) == "completed"
    # One batch was under way, and one was read; what tells of zeros is small.
    ram = guest.qmp.execute("query-migrate")["ram"]
    assert ram["precopy-bytes"] < 3 * MIB, ram
    wait_running(qmp)
    guest.became(target, qmp)
    lives(guest)


@pytest.mark.parametrize("cut", [0, 1])
def test_postcopy_goes_on_after_a_cut(guest, cut):
    target, qmp = postcopy_paused(guest, cut)
    with pytest.raises(QmpError):
        guest.qmp.execute("cont")
    guest.qmp.execute("migrate_cancel")
    assert guest.qmp.execute("query-migrate")["status"] == "postcopy-paused"
    # nobody is there yet
    again = f"unix:{target.folder}/again"
    guest.qmp.execute("migrate", uri=again, resume=True)
    assert succeed(guest.qmp, "postcopy-paused") == "postcopy-paused"
    qmp.execute("migrate-recover", uri=again)
    for monitor in (guest.qmp, qmp):
        monitor.execute("migrate-set-parameters", max_postcopy_bandwidth=0)
    guest.qmp.execute("migrate", uri=again, resume=True)
    assert succeed(guest.qmp) == "completed" and succeed(qmp) == "completed"
    guest.became(target, qmp)
    lives(guest)


def test_postcopy_paused_ends(guest):
    """Both sides of a broken migration end when they are asked to."""
    target, qmp = postcopy_paused(guest, 0)
    qmp.execute("stop")
    qmp.execute("quit")
    assert target.wait() == 0
    guest.qmp.execute("quit")
    assert guest.machine.wait() == 0


def test_postcopy_needs_both(guest):
    """A target that was not told of postcopy refuses a source that may want it."""
    target, qmp, uri = prepare(guest, "unix:HERE", {}, {})
    capabilities(guest.qmp, postcopy_ram=True)
    qmp.execute("migrate-incoming", uri=uri)
    guest.qmp.execute("migrate", uri=uri)
    assert ended(guest.qmp) == "failed"
    assert target.wait() == 1
    assert "postcopy-ram" in target.errors.text
    assert "postcopy-ram" in guest.qmp.execute("query-migrate")["error-desc"]
    lives(guest)


def test_reset_while_memory_comes(guest):
    """A reset waits for the memory that it writes to."""
    params = {"max_bandwidth": MIB, "max_postcopy_bandwidth": 8 * MIB}
    target, qmp, uri = prepare(guest, "unix:HERE", {"postcopy_ram": True}, params)
    qmp.execute("migrate-incoming", uri=uri)
    guest.qmp.execute("migrate", uri=uri)
    assert succeed(guest.qmp, "active") == "active"
    guest.qmp.execute("migrate-start-postcopy")
    assert succeed(qmp, "postcopy-active") == "postcopy-active"
    qmp.execute("system_reset")
    guest.qmp.execute("migrate-set-parameters", max_postcopy_bandwidth=0)
    assert succeed(guest.qmp) == "completed"
    qmp.wait_event("RESET")
    guest.became(target, qmp)
    guest.pattern = Pattern(guest.machine)
    lives(guest)


def test_release_ram(guest):
    """Memory that another process has is the host's again."""
    caps = {"postcopy_ram": True, "release_ram": True}
    target, qmp, uri = prepare(guest, "unix:HERE", caps, {"max_bandwidth": MIB})
    guest.pattern.check()
    before = guest.machine.rss_anon_bytes()
    qmp.execute("migrate-incoming", uri=uri)
    guest.qmp.execute("migrate", uri=uri)
    assert succeed(guest.qmp, "active") == "active"
    guest.qmp.execute("migrate-start-postcopy")
    assert succeed(guest.qmp) == "completed"
    assert guest.machine.rss_anon_bytes() < before - 16 * MIB
    wait_running(qmp)
    guest.became(target, qmp)
    lives(guest)
