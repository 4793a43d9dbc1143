# SPDX-License-Identifier: BSD-3-Clause
"""How fast a guest writes to its memory, as monitors measure it: of a guest that writes, that stands
still, and that moves to another process meanwhile."""

import json
import threading

import pytest

from ebbvm import TIMEOUT_S, Machine, memory_devices
from pattern import Pattern

MIB = 1 << 20
ARENA_MIB = 32
# Two CPUs: the second one writes the arena as fast as it can, the first one device memory.
APPEND = f"test=pattern arena={ARENA_MIB}M fill=1 rate=64"
ARGS = ["-m", "96M,maxmem=1G", "-smp", "2", *memory_devices(("64M", "32M", "2M", 0))]
MODES = ("page-sampling", "dirty-bitmap")


@pytest.fixture
def guest(tmp_path):
    with Machine(tmp_path, APPEND, ARGS, qmp=True, monitor=True) as machine:
        machine.pattern = Pattern(machine)
        yield machine


def start(qmp, mode=None, seconds=1, **more):
    qmp.call("calc-dirty-rate", {"calc-time": seconds, **({"mode": mode} if mode else {}), **more})


def measured(qmp):
    """Until the measurement is over: monitors tell of its state alone."""
    pause = threading.Event()
    for _ in range(int(TIMEOUT_S * 50)):
        info = qmp.execute("query-dirty-rate")
        if info["status"] != "measuring":
            return info
        pause.wait(0.02)
    raise AssertionError("it does not end")


def test_of_guests_that_write_and_do_not(guest):
    """A machine stopped meanwhile writes nothing. By samples and by the log."""
    qmp = guest.qmp()
    assert qmp.execute("query-dirty-rate") == {
        **{"status": "unstarted", "start-time": 0, "calc-time": 0, "sample-pages": 0},
        "mode": "page-sampling",
    }
    rates = {}
    for mode in MODES:
        start(qmp, mode)
        assert "under way" in qmp.error("calc-dirty-rate", {"calc-time": 1}).desc
        info = measured(qmp)
        assert (info["status"], info["mode"], info["calc-time"]) == ("measured", mode, 1)
        assert info["sample-pages"] == (512 if mode == MODES[0] else 0) and info["start-time"] > 0
        rates[mode] = info["dirty-rate"]
    # What is written once more counts once, and nothing but memory that there is.
    assert 1 <= rates["dirty-bitmap"] <= 96 + 32, rates
    assert 1 <= rates["page-sampling"] <= 96 + 32, rates
    guest.pattern.check()
    qmp.execute("stop")
    for mode in MODES:
        start(qmp, mode)
        assert measured(qmp)["dirty-rate"] == 0
    assert "Dirty rate: 0 (MB/s)\n" in qmp.human("info dirty_rate")


def test_samples_leave_memory_alone(tmp_path):
    """What the host never provided stays so, and memory that is not plugged is not touched."""
    args = ["-m", "1G,maxmem=64G", *memory_devices(("32G", "0", "2M", 0))]
    with Machine(tmp_path, "test=echo", args, qmp=True) as machine:
        qmp = machine.qmp()
        before = resident(machine)
        start(qmp, **{"sample-pages": 16384})
        assert measured(qmp)["status"] == "measured"
        assert resident(machine) - before < 32 * MIB
        assert qmp.execute("query-memory-devices")[0]["data"]["size"] == 0


def resident(machine):
    with open(f"/proc/{machine.process.pid}/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS"))


def test_migrations_come_first(guest, tmp_path):
    """The log of writes is the migration's: the measurement ends without a result, and none begins."""
    qmp = guest.qmp()
    capabilities = [{"capability": "events", "state": True}]
    qmp.execute("migrate-set-capabilities", capabilities=capabilities)
    qmp.execute("migrate-set-parameters", max_bandwidth=MIB)
    start(qmp, "dirty-bitmap", 60)
    qmp.execute("migrate", uri="exec:cat > /dev/null")
    qmp.wait_event("MIGRATION", {"status": "active"})
    assert measured(qmp)["status"] == "unstarted"
    refused = qmp.error("calc-dirty-rate", {"calc-time": 1, "mode": "dirty-bitmap"})
    assert "migration" in refused.desc
    start(qmp)
    qmp.execute("migrate-set-parameters", max_bandwidth=0)
    qmp.wait_event("MIGRATION", {"status": "completed"})
    assert measured(qmp)["status"] == "measured"
    qmp.execute("cont")
    guest.pattern.check()


def test_end_while_measuring(guest):
    qmp = guest.qmp()
    start(qmp, "dirty-bitmap", 60)
    qmp.execute("quit")
    assert guest.wait() == 0, guest.errors.text


@pytest.mark.parametrize(
    "args, sentence",
    [
        ({"calc-time": 0}, "Parameter 'calc-time' expects a value between 1 and 60"),
        ({"calc-time": 61}, "Parameter 'calc-time' expects a value between 1 and 60"),
        ({"calc-time": 1, "sample-pages": 127}, "'sample-pages' expects a value between 128"),
        ({"calc-time": 1, "mode": "dirty-ring"}, "allowed: page-sampling, dirty-bitmap"),
        ({"calc-time": 1, "mode": "dirty-bitmap", "sample-pages": 512}, "of the mode"),
    ],
)
def test_refused(tmp_path, args, sentence):
    with Machine(tmp_path, "test=echo", ["-m", "64M", "-S"], qmp=True) as machine:
        qmp = machine.qmp()
        assert sentence in qmp.error("calc-dirty-rate", args).desc, json.dumps(args)
        assert qmp.execute("query-dirty-rate")["status"] == "unstarted"


def test_people(guest):
    monitor = guest.monitor()
    said = monitor.run("info dirty_rate")
    assert said == (
        "Status: unstarted\nStart Time: 0 (ms)\nSample Pages: 0 (per GB)\nPeriod: 0 (sec)\n"
        "Mode: page-sampling\nDirty rate: (not ready)\n"
    )
    assert "info dirty_rate" in monitor.run("calc_dirty_rate 1 128")
    qmp = guest.qmp()
    assert measured(qmp)["sample-pages"] == 128
    assert "Mode: dirty-bitmap\n" not in monitor.run("info dirty_rate")
    assert "there are no rings" in monitor.run("calc_dirty_rate -r 1")
