# SPDX-License-Identifier: BSD-3-Clause
"""The guest's half: our driver, ebb_mem, with Debian's kernels, under ebb and under QEMU; with
EBB_ALL=1 also the stock driver, every pair of kernel and monitor, all of a life with each, and many
more resizes. (The RFC's scenario with our driver: test_scenario.py.)

What is plugged is what the monitor says, what came of it is read in the guest, and whether memory
is what it was is told by programs that look.
"""

import os
import random
import time

import pytest

import initrd
from drivers import BLOCKS, EBB_MEM, LOOK_EVERY_S, MEMORY_MIB, MIB, REGION_MIB, STOCK, Guest
from guests import APPEND, ASKING_DISK, NEWEST, OLDEST, machine, power_off

ALL = os.environ.get("EBB_ALL") == "1"
RESIZES = 200 if ALL else 12
LOAD = "--vm 2 --vm-bytes 256M --mmap 1 --mmap-bytes 96M --fork 1"
GIVEN_MIB, NEEDED_MIB = 768, 1024  # of the device, and of all that the guest has then
HELD_MIB = 840  # more than the boot memory
LEFT_MIB = 128  # what a kernel may sit in for good, of memory that was its own
FOLLOW_S = 3 if ALL else 1  # how long a random resize is watched

MATRIX = [(k, d, m) for k in (NEWEST, OLDEST) for d in (EBB_MEM, STOCK) for m in ("ebb", "qemu")]
SHORT = [(NEWEST, EBB_MEM, "ebb"), (OLDEST, EBB_MEM, "ebb"), (NEWEST, EBB_MEM, "qemu")]
COMBINATIONS = MATRIX if ALL else SHORT


def combined(name, combinations):
    """A mark: the arguments kernel, driver, monitor."""
    ids = ["-".join(words) for words in combinations]
    return pytest.mark.parametrize("kernel, driver, monitor", combinations, ids=ids)


def keeps_data(guest):
    """Grow, use the new memory, shrink: nothing is lost."""
    guest.resize(1536)
    guest.run("dd if=/dev/urandom of=/fill/file bs=1M count=32", 120)
    before = guest.run("md5sum /fill/file", 120)
    for mib in (REGION_MIB, 130, 258, 0):
        guest.resize(mib)
    assert guest.run("md5sum /fill/file", 120) == before
    guest.run("unfill")


def reloads(guest):
    """The driver gives everything back when it is unloaded, and comes to the same size when it is
    loaded again. (The stock driver cannot give back: it is unloaded without memory.)"""
    guest.resize(0 if guest.driver == STOCK else 384)
    guest.run(f"rmmod {guest.driver}", 120)
    guest.agree(0)
    guest.ask(256)
    guest.load()
    assert guest.follow(256, 60)[-1] == 256 * MIB
    guest.agree(256)


def resumes(guest):
    """Memory that the kernel sits in stays when the driver is unloaded; the next load finds it,
    uses it on, and gives it back when it is free."""
    guest.resize(0)
    guest.run(f"echo online_kernel > {BLOCKS}/auto_online_blocks")
    guest.resize(512)
    guest.run(
        f"ulimit -n {3 * HELD_MIB}; hold {HELD_MIB} > /tmp/held 2>&1 & hold=$!; "
        "until grep hold /tmp/held || grep held /tmp/held; do :; done; grep -q held /tmp/held",
        120,
    )
    guest.run(f"rmmod {guest.driver}", 120)
    left = guest.plugged()
    assert 0 < left <= 512 * MIB
    guest.agree(left // MIB)
    guest.load()
    assert guest.follow(512, 60)[-1] == 512 * MIB
    guest.agree(512)
    guest.run("kill $hold; wait $hold; true")
    guest.ask(0)
    guest.await_most(LEFT_MIB)


def keeps_what_it_needs(guest):
    """Asked for memory that it cannot do without, the guest gives what it can spare, and no program
    is ended for it; the rest follows when it is free."""
    guest.resize(GIVEN_MIB)
    guest.run(f"fill {NEEDED_MIB}", 120)
    guest.ask(0)
    left = guest.await_still()
    print(f"{NEEDED_MIB} MiB in use: {left // MIB} MiB stay")
    assert (NEEDED_MIB - MEMORY_MIB) * MIB < left < GIVEN_MIB * MIB
    assert int(guest.run("stat -c %s /fill/file")) == NEEDED_MIB * MIB
    assert guest.vm.console.run("dmesg | grep -iE 'out of memory|oom-kill'").output.strip() == ""
    guest.run("unfill")
    guest.resize(0)


def random_resizes(guest, count, seed):
    """Whatever is asked for, the guest never has more than that or what it had, it mostly gets
    there, and its load finds nothing wrong."""
    print(f"seed {seed}")
    chosen = random.Random(seed)
    guest.resize(512)
    guest.start_load(LOAD)
    reached = 0
    for _ in range(count):
        mib = chosen.randrange(0, REGION_MIB + 1, 2)
        before = guest.plugged()
        guest.ask(mib)
        seen = guest.follow(mib, FOLLOW_S)
        assert max(seen) <= max(before, mib * MIB), f"{before} -> {mib} MiB: {seen}"
        reached += seen[-1] == mib * MIB
    guest.end_load()
    print(f"{count} resizes, {reached} there in {FOLLOW_S} s")
    assert reached > count // 4
    guest.resize(REGION_MIB)
    guest.resize(0)


@combined("life", COMBINATIONS)
def test_life(host, kernel, driver, monitor):
    """All that a driver goes through in one guest."""
    with Guest(host, kernel, driver, monitor) as guest:
        guest.boot()
        guest.resize(386)
        keeps_data(guest)
        reloads(guest)
        full = ALL or (kernel, monitor) == (NEWEST, "ebb")
        random_resizes(guest, RESIZES if full else RESIZES // 2, 7)
        if driver == EBB_MEM and full:
            keeps_what_it_needs(guest)
        if driver == EBB_MEM and (ALL or monitor == "ebb"):
            resumes(guest)
        if full:
            guest.second_kernel(514)
            guest.resize(0)
        guest.finish()


class Asking:
    """A guest with little memory of its own, which may ask for more. What is added holds its own
    struct pages, or there would be no place for them. Leave it as a context."""

    MEMORY_MIB, SLOWLY_MIB, JOB_MIB = 256, 320, 1280
    GROUP = "/sys/bus/virtio/drivers/ebb_mem/virtio*/size_policy"
    RETURN_S = 120

    def __init__(self, host, kernel):
        words = ["-object", f"memory-backend-ram,id=mem0,size={self.JOB_MIB + 512}M", "-device"]
        words += ["virtio-mem-pci,id=reg0,memdev=mem0,guest-requests=on"]
        memory = f"{self.MEMORY_MIB}M,maxmem=4G"
        append = f"{APPEND} memory_hotplug.memmap_on_memory=1"
        self.vm = machine(host, kernel, *words, memory=memory, append=append, disk=ASKING_DISK)

    def __enter__(self):
        self.vm.__enter__()
        self.vm.boot()
        return self

    def __exit__(self, *failure):
        self.vm.__exit__(*failure)

    def run(self, command, timeout=60):
        done = self.vm.console.run(command, timeout)
        assert done.status == 0, done.output
        return done.output

    def await_plugged(self, mib):
        begin = time.monotonic()
        while self.vm.plugged()[0] != mib * MIB:
            assert time.monotonic() - begin < self.RETURN_S, self.run(f"grep . {self.GROUP}/*")
            time.sleep(LOOK_EVERY_S)


@pytest.mark.parametrize("kernel", [NEWEST, OLDEST] if ALL else [NEWEST])
def test_asking(host, kernel):
    """A guest of 256 MiB does a job of five times as much, and is back at 256 MiB afterwards: nobody
    asked the monitor for anything, and nobody in the guest was killed for memory."""
    with Asking(host, kernel) as guest:
        vm = guest.vm
        before = vm.mem_total()[0]
        assert before < guest.MEMORY_MIB * MIB and vm.plugged()[0] == 0
        guest.run(f"rmmod ebb_mem && insmod /{initrd.DRIVER} size_requests=1")
        guest.run(f"cd {guest.GROUP} && echo 1000 > idle_ms && echo 100 > look_ms; cd")
        # It takes its first memory no faster than a program does that has something to do.
        slowly = f"dd if=/dev/urandom of=/fill/file bs=1M count={guest.SLOWLY_MIB}"
        rest = f"dd if=/dev/zero bs=1M count={guest.JOB_MIB - guest.SLOWLY_MIB} >>/fill/file"
        guest.run(f"{slowly} && {rest}", 240)
        assert vm.plugged()[0] >= (guest.JOB_MIB - guest.MEMORY_MIB) * MIB
        assert int(guest.run("stat -c %s /fill/file")) == guest.JOB_MIB * MIB
        guest.run("unfill")
        guest.await_plugged(0)
        assert vm.mem_total()[0] == before
        assert vm.console.run("dmesg | grep -iE 'out of memory|oom-kill'").output.strip() == ""
        power_off(vm)
