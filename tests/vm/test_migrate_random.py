# SPDX-License-Identifier: BSD-3-Clause
"""A guest that knows what must be in its memory goes from machine to machine, by every way there is,
while somebody changes the sizes of its memory devices all the time: nothing is lost, nothing is wrong.

EBB_MOVES: how many moves. EBB_SEED: the order of them, printed by a run that fails."""

import os
import random
import threading

import pytest
from ebbvm import memory_devices
from migrating import WAYS, Guest, asked
from pattern import Pattern, ResizeLoop

MIB = 1 << 20
MOVES = int(os.environ.get("EBB_MOVES", "100"))
SEED = int(os.environ.get("EBB_SEED", str(random.SystemRandom().randrange(1 << 32))))
SIZES = [32 * MIB, 0, 64 * MIB, 6 * MIB, 48 * MIB, 16 * MIB, 62 * MIB, 2 * MIB]
APPEND = "test=pattern devices=2 arena=8M rate=8 step=8"
# How much of the moves each kind of memory behind the devices gets.
BACKENDS = {"ram": 0.7, "memfd": 0.3}


def arguments(backend):
    devices = memory_devices(("64M", "16M", "1M", 0), ("64M", "8M", "2M", 0))
    devices = [a.replace("memory-backend-ram", f"memory-backend-{backend}") for a in devices]
    return ["-m", "64M,maxmem=1G", "-smp", "2", *devices]


class Current:
    """A monitor of its own for the resize loop, on whichever machine the guest is in."""

    def __init__(self, guest):
        self._guest, self._lock = guest, threading.Lock()
        self._qmp, self._of = None, None

    def resize(self, size):
        with self._lock:
            machine = self._guest.machine
            if self._of is not machine:
                self._qmp, self._of = machine.qmp(), machine
            done = asked(self._qmp, "d0", size)
            self._qmp.take_events()
            return done

    def let_go(self):
        with self._lock:
            self._qmp, self._of = None, None


@pytest.mark.parametrize("backend", BACKENDS)
def test_moves_in_a_resize_loop(tmp_path, backend):
    rng = random.Random(SEED)
    print(f"EBB_SEED={SEED}")
    moves = max(len(WAYS), round(MOVES * BACKENDS[backend]))
    ways = [*WAYS] + rng.choices([*WAYS], k=moves - len(WAYS))
    rng.shuffle(ways)
    with Guest(tmp_path, APPEND, arguments(backend)) as guest:
        pattern = Pattern(guest.machine)
        current = Current(guest)
        with ResizeLoop(current.resize, SIZES) as loop:
            for number, way in enumerate(ways):
                print(f"move {number}: {way}")
                WAYS[way](guest)
                pattern.moved_to(guest.machine)
                if number % 4 == 0:
                    assert asked(guest.qmp, "d1", rng.choice(SIZES))
                pattern.report()
                if number % 5 == 0:
                    pattern.check()
        assert loop.asked >= moves
        assert pattern.check() > 0
        pattern.runs_on()
        assert not guest.qmp.take_events("MEMORY_DEVICE_VIOLATION")
        pattern.end()


# What is behind the devices, and how closed blocks are kept closed there.
HOSTS = {
    "anonymous": ("memory-backend-ram", ""),
    "memfd": ("memory-backend-memfd", ""),
    "no guard": ("memory-backend-ram", ",guard=off"),
    "small slots": ("memory-backend-ram", ",memslot-size=4M"),
    "prealloc": ("memory-backend-ram", ",prealloc=on"),
}


@pytest.mark.parametrize("way", ["unix", "exec", "image", "postcopy"])
def test_hosts_that_differ(tmp_path, way):
    """Memory of another kind, kept by other means: the guest need not know."""
    plain = arguments("ram")
    with Guest(tmp_path, APPEND, plain) as guest:
        pattern = Pattern(guest.machine)
        for backend, more in (*HOSTS.values(), HOSTS["anonymous"]):
            words = [word.replace("memory-backend-ram", backend) for word in plain]
            guest.args = [w + more if w.startswith("virtio-mem-pci") else w for w in words]
            for size in (48 * MIB, 24 * MIB):
                assert asked(guest.qmp, "d0", size)
                pattern.report()
            WAYS[way](guest)
            pattern.moved_to(guest.machine).check()
        pattern.end()
