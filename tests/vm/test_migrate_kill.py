# SPDX-License-Identifier: BSD-3-Clause
"""One of the two processes of a migration is killed at any moment of it: there is one guest afterwards,
whole, in the one that is left, or there is none because it was in the one that was killed. Never two.

EBB_KILLS: how many of each side. EBB_SEED: the moments, printed by a run that fails."""

import contextlib
import os
import random
import signal
import time

import pytest
from ebbvm import memory_devices
from migrating import Guest, ended, live, prepare
from pattern import Pattern
from qmp import QmpClosed, QmpError, QmpTimeout

MIB = 1 << 20
KILLS = int(os.environ.get("EBB_KILLS", "25"))
SEED = int(os.environ.get("EBB_SEED", str(random.SystemRandom().randrange(1 << 32))))
APPEND = "test=pattern arena=4M fill=1 rate=4 step=8"
ARGS = ["-m", "48M,maxmem=512M", *memory_devices(("32M", "8M", "1M", 0))]
# So that a migration takes long enough for a moment to be chosen.
BANDWIDTH = 24 * MIB


def begin(guest):
    """A migration under way: the other machine, its monitor."""
    target, qmp, uri = prepare(guest, "unix:HERE", {}, {"max_bandwidth": BANDWIDTH})
    qmp.execute("migrate-incoming", uri=uri)
    guest.qmp.execute("migrate", uri=uri)
    return target, qmp


def strike(machine, moment_s):
    """Kill it at that moment: there is no event for a moment nobody expects."""
    time.sleep(moment_s)
    machine.signal(signal.SIGKILL)
    assert machine.process.wait() == -signal.SIGKILL


def usual_s(guest, pattern):
    """How long a migration takes."""
    began = time.monotonic()
    live(guest, params={"max_bandwidth": BANDWIDTH})
    pattern.moved_to(guest.machine).check()
    return time.monotonic() - began


@contextlib.contextmanager
def machines(folder):
    with Guest(folder, APPEND, ARGS) as guest:
        yield guest, Pattern(guest.machine)


def moments(rng, longest_s):
    """One in each part of the way, in any order."""
    chosen = [(part + rng.random()) * longest_s / KILLS for part in range(KILLS)]
    rng.shuffle(chosen)
    return chosen


def test_target_is_killed(tmp_path):
    print(f"EBB_SEED={SEED}")
    rng = random.Random(SEED)
    survived = 0
    with machines(tmp_path) as (guest, pattern):
        longest_s = usual_s(guest, pattern)
        for number, moment_s in enumerate(moments(rng, longest_s)):
            print(f"kill {number} after {moment_s:.3f} s")
            target, _ = begin(guest)
            strike(target, moment_s)
            if ended(guest.qmp) == "failed":
                assert guest.qmp.execute("query-status")["status"] == "running"
                assert guest.qmp.execute("query-migrate")["error-desc"]
                pattern.check()
                survived += 1
                continue
            # It had gone over: that guest is dead, and this one does not come back to life.
            assert guest.qmp.execute("query-status") == {
                "running": False,
                "singlestep": False,
                "status": "postmigrate",
            }
            guest.machine.process.kill()
            guest.machine.process.wait()
            guest.machine = guest.new()
            guest.qmp = guest.machine.qmp()
            pattern = Pattern(guest.machine)
        pattern.check()
    assert survived > 0


def survivor(target, qmp):
    """The machine that is left ended by itself, with a sentence, or still waits for a source that never
    came, or runs the guest: whether it does."""
    try:
        while (state := qmp.execute("query-status")["status"]) == "inmigrate":
            if "socket-address" in qmp.execute("query-migrate"):
                return False
            with contextlib.suppress(QmpTimeout):
                qmp.wait_event("RESUME", timeout=0.2)
        assert state == "running"
        return True
    except (QmpClosed, ConnectionError):
        assert target.wait() == 1
        sentences = target.errors.text.splitlines()
        assert len(sentences) == 1, target.errors.text
        return False


def test_source_is_killed(tmp_path):
    print(f"EBB_SEED={SEED}")
    rng = random.Random(SEED + 1)
    ended_with_it = 0
    with machines(tmp_path) as (guest, pattern):
        longest_s = usual_s(guest, pattern)
    for number, moment_s in enumerate(moments(rng, longest_s)):
        print(f"kill {number} after {moment_s:.3f} s")
        folder = tmp_path / f"round{number}"
        folder.mkdir()
        with machines(folder) as (guest, pattern):
            target, qmp = begin(guest)
            strike(guest.machine, moment_s)
            if survivor(target, qmp):
                pattern.moved_to(target).check()
                pattern.runs_on()
            else:
                ended_with_it += 1
    assert ended_with_it > 0


@pytest.mark.parametrize("way", ["exec:cat > FILE", "file:FILE"])
def test_saving_is_killed(tmp_path, way):
    """A file that was not finished is no machine."""
    rng = random.Random(SEED + 2)
    file = tmp_path / "state"
    with machines(tmp_path) as (guest, _):
        # It takes seconds.
        guest.qmp.execute("migrate-set-parameters", max_bandwidth=MIB)
        guest.qmp.execute("migrate", uri=way.replace("FILE", str(file)))
        strike(guest.machine, rng.uniform(0, 0.5))
        file.touch()
        target = guest.new("-incoming", f"file:{file}")
        assert target.wait() == 1
        assert str(file) in target.errors.text
        assert len(target.errors.text.splitlines()) == 1


def test_refused_again(tmp_path):
    """Whoever handed its guest over does not run it again."""
    with machines(tmp_path) as (guest, pattern):
        target, qmp = begin(guest)
        assert ended(guest.qmp) == "completed"
        error = guest.qmp.error("cont")
        assert isinstance(error, QmpError) and "another" in str(error)
        pattern.moved_to(target).check()
        guest.became(target, qmp)
