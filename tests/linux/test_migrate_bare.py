# SPDX-License-Identifier: BSD-3-Clause
"""The moves of tests/vm/test_migrate_random.py under a KVM that runs the guest on the processor: there
pages are noted as written by page faults, and by rings; timers and clocks are real.

EBB_MOVES: how many moves. EBB_SEED: the order of them, printed by a run that fails. EBB_ALL=1: bitmaps
also under the newer kernel."""

import os
import random

import pytest

from baremoves import Guest
from migrating import WAYS, asked
from pattern import Pattern, ResizeLoop
from test_bare import BUILD, bring
from test_migrate_random import APPEND, SEED, SIZES, Current, arguments

MOVES = int(os.environ.get("EBB_MOVES", "0"))
# An emulated host answers slowly; the guest is to come somewhere, too.
PAUSE_S = 0.1


def moves(host, accel, backend, ways):
    """By each of WAYS, and more of them if that is asked for, in a resize loop."""
    rng = random.Random(SEED)
    print(f"EBB_SEED={SEED}")
    ways = [*ways] + rng.choices(ways, k=max(0, MOVES - len(ways)))
    rng.shuffle(ways)
    bare = bring(host, "bare-guest", BUILD / "tests/bare/bare-guest")
    with Guest(host, bare, APPEND, ["-accel", accel, *arguments(backend)]) as guest:
        pattern = Pattern(guest.machine)
        current = Current(guest)
        with ResizeLoop(current.resize, SIZES, PAUSE_S):
            for way in ways:
                print(f"move {guest.moves}: {way}")
                WAYS[way](guest)
                pattern.moved_to(guest.machine)
                assert asked(guest.qmp, "d1", rng.choice(SIZES))
                pattern.check()
        pattern.runs_on()
        assert not guest.qmp.take_events("MEMORY_DEVICE_VIOLATION")
        pattern.end()


RINGS = ("kvm,dirty-ring-size=1024", "memfd")
KINDS = [("kvm", "ram"), RINGS] if os.environ.get("EBB_ALL") == "1" else [RINGS]


@pytest.mark.parametrize("accel, backend", KINDS)
def test_every_way(host, accel, backend):
    moves(host, accel, backend, [*WAYS])


def test_older_kernel(old_host):
    """A host whose userfaultfd can do less, with bitmaps: where memory comes later, and where not."""
    moves(old_host, "kvm", "ram", ["unix", "postcopy", "image"])
