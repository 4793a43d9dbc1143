# SPDX-License-Identifier: BSD-3-Clause
"""Guests with stock kernels that use memory which they were not given, or gave up: nothing is kept,
nothing is found, the host holds nothing for it, and everybody goes on.

The attacker is a kernel module in the guest (attack/vmem_attack.c). What the host holds is read
from its /proc/PID/smaps, device by device; the sizes of the devices and of the boot memory differ,
so that each is known there by its size. Every access that leaves the guest takes its time in an
emulated host, so what is wholly unplugged is touched here and there, and only where plugged memory
borders on it page by page.
"""

import os
import struct
import time
import typing

import pytest

import attack
import nest
import scenario
from guests import (
    APPEND,
    ATTACK_DISK,
    ATTACK_DRIVER_DISK,
    END_TIMEOUT_S,
    MIB,
    NEWEST,
    OLDEST,
    QUICK,
    machine,
    power_off,
)

MEMORY_MIB = 768
STEP = 512 * 1024
STORM_S = 6
DUMP_PIECE = 64 * 1024
LOG = "ebb.log"
NO_DRIVER = "module_blacklist=virtio_mem"
# Page tables for all of a region, four times over.
TABLES_SHARE = 128
# A monitor in an emulated host, whose one processor the guest keeps busy.
ANSWER_S = 10


class Device(typing.NamedTuple):
    """A memory device of the guest; PLUGGED_MIB at the start."""

    name: str
    size_mib: int
    plugged_mib: int
    options: str = ""

    @property
    def size(self):
        return self.size_mib * MIB


# One slot that is partly plugged, and slots of which most are absent.
ONE_SLOT = Device("vm0", 1024, 128)
MANY_SLOTS = Device("vm1", 1280, 160, ",memslot-size=128M")


class Victim:
    """A machine with DEVICES whose guest has the attacking module. Leave it as a context."""

    def __init__(
        self,
        host,
        *devices,
        kernel=NEWEST,
        cpus=2,
        append=APPEND,
        memory_mib=MEMORY_MIB,
        disk=ATTACK_DISK,
    ):
        words = ["-smp", str(cpus)]
        for d in devices:
            words += ["-object", f"memory-backend-ram,id=mem-{d.name},size={d.size_mib}M"]
            device = f"virtio-mem-pci,id={d.name},memdev=mem-{d.name},block-size=2M"
            words += ["-device", f"{device},requested-size={d.plugged_mib}M{d.options}"]
        self.vm = machine(
            host,
            kernel,
            *words,
            memory=f"{memory_mib}M,maxmem=8G",
            append=append,
            disk=disk,
            log=LOG,
        )
        self.host = host
        self.devices = devices
        self.start = {}
        self.attacker = None

    def __enter__(self):
        self.vm.__enter__()
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None and not issubclass(kind, nest.NestInfraError):
            print(f"ebb said:\n{self.log()}")
        self.vm.__exit__(kind, error, trace)

    def log(self):
        return self.host.read_file(self.host.path(LOG)).decode()

    def boot(self, has_driver=True):
        """Wait for the guest, and until it uses what it was given."""
        self.vm.boot()
        self.attacker = attack.Attacker(self.vm.console)
        found = scenario.parse_devices(self.vm.hmp("info memory-devices"))
        self.start = {d.name: found[d.name].memaddr for d in self.devices}
        for d in self.devices:
            if has_driver:
                self.await_plugged(d, d.plugged_mib)

    def await_plugged(self, device, mib):
        assert self.vm.await_request(device.name) == "done"
        self.attacker.await_unused(self.start[device.name], device.size, device.size - mib * MIB)

    def resize(self, device, mib):
        """Resize and wait until the guest has followed."""
        assert self.vm.hmp(f"virtio-mem {device.name} {mib}") == ""
        self.await_plugged(device, mib)

    def held(self, device):
        return attack.memory_held(self.host, self.vm.process.pid, device.size)

    def violations(self, device):
        """How many (writes, reads) the monitor counted."""
        writes, _, reads = self.vm.request(device.name)["Violations"].partition(" writes, ")
        return int(writes), int(reads.split()[0])

    def write(self, device, step=STEP, offset=0, size=None):
        start = self.start[device.name] + offset
        return self.attacker.write(start, (size or device.size) - offset, step)

    def read(self, device, step=STEP):
        return self.attacker.read(self.start[device.name], device.size, step)

    def assert_closed(self, device, plugged_mib):
        """Attack DEVICE: nothing is kept, and the host holds what is plugged at the most."""
        before = self.violations(device)
        edge = plugged_mib * MIB
        found = [self.write(device)]
        if plugged_mib:
            found.append(self.write(device, attack.PAGE, edge - 2 * MIB, edge + 2 * MIB))
        unused = (device.size - edge) // STEP
        assert found[0] == {"stored": unused, "kept": 0}
        assert found[-1]["kept"] == 0 and found[-1]["stored"] >= min(unused, 256)
        after = self.violations(device)
        stored = sum(each["stored"] for each in found)
        assert after[0] - before[0] == stored
        assert self.read(device) == {"looked": unused, "nonzero": 0}
        assert self.held(device).resident <= edge

    def assert_lives(self):
        """The guest computes, and allocates what it has."""
        done = self.vm.console.run("fill 64 && md5sum /fill/file && unfill", 120)
        assert done.status == 0, done.output
        assert self.vm.hmp("info status") == "VM status: running\n"


def reads_hold_nothing(victim):
    """A guest that only reads, as it does before all else: zeros, and not one page of the host."""
    tables = attack.page_tables(victim.host, victim.vm.process.pid)
    before = victim.held(ONE_SLOT)
    start = victim.start[ONE_SLOT.name] + 64 * MIB
    found = victim.attacker.read(start, 80 * MIB)
    assert found == {"looked": 16 * MIB // attack.PAGE, "nonzero": 0}
    assert victim.read(ONE_SLOT)["nonzero"] == 0
    after = victim.held(ONE_SLOT)
    assert after.resident <= max(before.resident, ONE_SLOT.plugged_mib * MIB)
    grown = attack.page_tables(victim.host, victim.vm.process.pid) - tables
    assert grown <= ONE_SLOT.size // TABLES_SHARE


def test_reads_attacks_and_resizes(host):
    """All of two devices, first read, then attacked at every size they go through; the driver is
    unbound and bound again; the guest reboots."""
    with Victim(host, ONE_SLOT, MANY_SLOTS, append=QUICK) as victim:
        victim.boot()
        reads_hold_nothing(victim)
        tables = attack.page_tables(host, victim.vm.process.pid)
        for sizes in ((ONE_SLOT.plugged_mib, MANY_SLOTS.plugged_mib), (512, 64), (0, 0)):
            for device, mib in zip(victim.devices, sizes):
                victim.resize(device, mib)
                victim.assert_closed(device, mib)
            victim.assert_lives()
        assert [victim.held(device).resident for device in victim.devices] == [0, 0]
        grown = attack.page_tables(host, victim.vm.process.pid) - tables
        assert grown <= sum(device.size for device in victim.devices) // TABLES_SHARE

        driver = "/sys/bus/virtio/drivers/virtio_mem"
        names = victim.vm.console.run(f"cd {driver} && echo virtio* && cd").output.split()
        assert len(names) == 2
        for action in ("unbind", "bind"):
            for name in names:
                done = victim.vm.console.run(f"echo {name} >{driver}/{action}")
                assert done.status == 0, done.output
            if action == "unbind":
                for device in victim.devices:
                    victim.assert_closed(device, 0)
        victim.resize(ONE_SLOT, 256)
        victim.assert_closed(ONE_SLOT, 256)
        victim.resize(ONE_SLOT, ONE_SLOT.plugged_mib)
        victim.resize(MANY_SLOTS, MANY_SLOTS.plugged_mib)

        victim.vm.process.write("reboot -f\n")
        victim.boot()
        for device in victim.devices:
            victim.assert_closed(device, device.plugged_mib)
        power_off(victim.vm)


def test_storm_while_shrinking(host):
    """Every processor attacks as fast as it can, while the guest gives memory up and the monitor is
    asked all the time."""
    with Victim(host, ONE_SLOT) as victim:
        victim.boot()
        begin = time.monotonic()
        victim.attacker.start_storm(victim.start[ONE_SLOT.name], ONE_SLOT.size, STORM_S)
        assert victim.vm.hmp(f"virtio-mem {ONE_SLOT.name} 0") == ""
        answers = []
        while time.monotonic() - begin < STORM_S:
            asked = time.monotonic()
            assert "Plugged size" in victim.vm.hmp(f"info virtio-mem {ONE_SLOT.name}")
            answers.append(time.monotonic() - asked)
        found = victim.attacker.await_storm()
        print(f"{found}, {len(answers)} answers, the slowest after {max(answers):.3f} s")
        assert found["processors"] == 2 and found["stored"] > 100
        assert victim.violations(ONE_SLOT)[0] >= found["stored"]
        assert len(answers) >= STORM_S and max(answers) < ANSWER_S
        lines = [line for line in victim.log().splitlines() if "which is not plugged" in line]
        assert 1 <= len(lines) <= time.monotonic() - begin + 1
        victim.await_plugged(ONE_SLOT, 0)
        assert victim.held(ONE_SLOT).resident == 0
        victim.assert_closed(ONE_SLOT, 0)
        victim.assert_lives()
        power_off(victim.vm)


def test_pause_on_violation(host):
    """on-violation=pause: the first store stops the machine; the next begins with cont."""
    device = ONE_SLOT._replace(options=",on-violation=pause")
    with Victim(host, device) as victim:
        victim.boot()
        start = victim.start[device.name] + device.size - MIB
        command = f"echo write {start} {start + 8} 8 >{attack.PROC}; echo 'do'ne\n"
        victim.vm.process.write(command)
        await_paused(victim.vm)
        assert victim.violations(device) == (1, 0)
        assert victim.vm.hmp("cont") == ""
        await_paused(victim.vm)  # it read back what it had stored
        assert victim.violations(device) == (1, 1)
        assert victim.vm.hmp("cont") == ""
        victim.vm.process.expect(rb"^done\r?\n", END_TIMEOUT_S)
        victim.vm.process.expect(nest.PROMPT, END_TIMEOUT_S)
        assert victim.held(device).resident <= device.plugged_mib * MIB
        power_off(victim.vm)


def await_paused(vm):
    begin = time.monotonic()
    while not vm.hmp("info status").startswith("VM status: paused"):
        assert time.monotonic() - begin < END_TIMEOUT_S, "the machine did not stop"
        time.sleep(scenario.LOOK_EVERY_S)


def test_no_driver(host):
    """A guest without the driver has its boot memory, and nothing of the device."""
    with Victim(host, ONE_SLOT, append=f"{APPEND} {NO_DRIVER}") as victim:
        victim.boot(has_driver=False)
        assert victim.vm.request(ONE_SLOT.name)["Plugged size"] == "0 bytes"
        victim.assert_closed(ONE_SLOT, 0)
        assert victim.held(ONE_SLOT).resident == 0
        power_off(victim.vm)


def second_kernel(how, words):
    """The command that loads the second kernel for now ("run") or for a crash."""
    return f"kexec_load {how} /{attack.SECOND_KERNEL} /{attack.SECOND_INITRD} '{words}'"


def test_kexec(host):
    """A second kernel, started by the first, that knows nothing of the device: it can use what was
    plugged, to the page, and nothing else."""
    with Victim(host, ONE_SLOT) as victim:
        victim.boot()
        victim.vm.process.write(second_kernel("run", f"{APPEND} {NO_DRIVER}") + "\n")
        victim.boot(has_driver=False)
        plugged = ONE_SLOT.plugged_mib * MIB
        assert victim.vm.request(ONE_SLOT.name)["Plugged size"] == f"{plugged} bytes"
        found = victim.write(ONE_SLOT)
        assert found == {"stored": ONE_SLOT.size // STEP, "kept": plugged // STEP}
        assert victim.read(ONE_SLOT)["nonzero"] == plugged // STEP
        assert victim.held(ONE_SLOT).resident <= plugged
        victim.assert_lives()
        power_off(victim.vm)


# The second kernel's words, its disk. Without any driver only with EBB_ALL=1.
DUMPS = {
    "stock driver": ("nr_cpus=1", ATTACK_DISK),
    "our driver": ("nr_cpus=1", ATTACK_DRIVER_DISK),
}
if os.environ.get("EBB_ALL") == "1":
    DUMPS["no driver"] = (NO_DRIVER, ATTACK_DISK)


@pytest.mark.parametrize("words, disk", DUMPS.values(), ids=DUMPS)
def test_crash_dump(host, words, disk):
    """The guest crashes; a kernel that it had loaded for this dumps what the first one took for
    memory of the device, plugged or not: the dump is whole, with zeros where nothing was plugged.

    A memory block of the guest's kernel is 128 MiB, so with 2 MiB plugged the dump holds 126 MiB
    that are not: a driver in the second kernel leaves them out, without one they are read.
    """
    device = ONE_SLOT._replace(plugged_mib=2)
    append = f"{APPEND} crashkernel=224M"
    with Victim(host, device, append=append, memory_mib=1152, disk=disk) as victim:
        victim.boot()
        done = victim.vm.console.run(second_kernel("crash", f"{APPEND} {words}"), 120)
        assert done.status == 0, done.output
        victim.vm.process.write("echo c >/proc/sysrq-trigger\n")
        victim.vm.boot()
        start = victim.start[device.name]
        offset, size = find_dumped(victim.vm.console, start)
        assert size == 128 * MIB
        offset += 2 * MIB
        size -= 2 * MIB
        part = f"bs={DUMP_PIECE} skip={offset} count={size} iflag=skip_bytes,count_bytes"
        dump = f"dd if=/proc/vmcore {part} 2>/tmp/read | tr -d '\\0' | wc -c; cat /tmp/read"
        done = victim.vm.console.run(dump, END_TIMEOUT_S)
        assert done.output.split()[0] == "0"
        assert f"\n{size // DUMP_PIECE}+0 records out\n" in done.output
        if words != NO_DRIVER:
            assert victim.violations(device) == (0, 0)
        assert victim.held(device).resident <= device.plugged_mib * MIB
        power_off(victim.vm)


def find_dumped(console, start):
    """Where in /proc/vmcore the memory at START is: (offset, size)."""
    done = console.run("head -c 4096 /proc/vmcore | hexdump -v -e '1/1 \"%02x\"'")
    raw = bytes.fromhex(done.output.strip())
    table, count = struct.unpack_from("<Q", raw, 32)[0], struct.unpack_from("<H", raw, 56)[0]
    for at in range(table, table + count * 56, 56):
        kind, _, offset, _, paddr, size = struct.unpack_from("<IIQQQQ", raw, at)
        if kind == 1 and paddr <= start < paddr + size:
            return offset + start - paddr, paddr + size - start
    raise AssertionError(f"the dump has no memory at {start:#x}")


def test_huge_pages(host):
    """Memory that comes back after it was given up and attacked is as huge as it ever was."""
    with Victim(host, ONE_SLOT) as victim:
        victim.boot()
        for mib in (256, 384):
            victim.resize(ONE_SLOT, mib)
            done = victim.vm.console.run(f"fill {mib} && unfill", 180)
            assert done.status == 0, done.output
            held = victim.held(ONE_SLOT)
            print(f"{mib} MiB plugged: {held}")
            assert mib * MIB * 0.95 <= held.resident <= mib * MIB
            assert held.huge >= held.resident * 0.99
            victim.assert_closed(ONE_SLOT, mib)
            victim.resize(ONE_SLOT, 0)
            assert victim.held(ONE_SLOT).resident == 0
        boot = attack.memory_held(host, victim.vm.process.pid, MEMORY_MIB * MIB)
        print(f"boot memory: {boot}")
        assert held.huge / held.resident >= boot.huge / boot.resident
        power_off(victim.vm)


def test_old_host(old_host):
    """A host whose kernel cannot write-protect what is not there yet (6.1), with a guest as old."""
    with Victim(old_host, ONE_SLOT, MANY_SLOTS, kernel=OLDEST) as victim:
        victim.boot()
        assert victim.vm.request(ONE_SLOT.name)["Guard"] == "on (mprotect)"
        for device in victim.devices:
            victim.assert_closed(device, device.plugged_mib)
        for _ in range(2):
            victim.resize(ONE_SLOT, 512)
            assert victim.vm.console.run("fill 384 && unfill", END_TIMEOUT_S).status == 0
            held = victim.held(ONE_SLOT)
            print(held)
            assert 128 * MIB <= held.resident <= 512 * MIB and held.huge >= held.resident * 0.99
            victim.resize(ONE_SLOT, 0)
            assert victim.held(ONE_SLOT).resident == 0
            victim.assert_closed(ONE_SLOT, 0)
        victim.assert_lives()
        power_off(victim.vm)
