# SPDX-License-Identifier: BSD-3-Clause
"""A guest that uses memory which is not plugged: what is told, and what becomes of the machine."""

import pathlib
import re
import subprocess
import time

import pytest

from ebbvm import EBB, GUEST, TIMEOUT_S, Machine

pytestmark = pytest.mark.timed

ANSWER_S = 0.1  # within which answers of the monitor must come, whatever the guest does
LINE = re.compile(
    r"^ebb: memory device 'd0': the guest (wrote|read) (\d+) bytes? at 0x([0-9a-f]+), "
    r"which is not plugged"
    r"(?: \((?:vCPU (\d+))?(?:; )?(?:(\d+) more since the last such line)?\))?(.*)$",
    re.MULTILINE,
)
STORM_S = 3


class Attacker:
    """The guest of test=attack, which takes one order at a time (tests/bare/test_attack.c)."""

    def __init__(self, machine, monitor):
        self.machine = machine
        self.monitor = monitor
        self.await_ready()

    def await_ready(self):
        self.machine.console.expect(r"^attack: ready .*\n")

    def order(self, line, verb=None):
        self.machine.type(line)
        return self.machine.console.expect(rf"^{verb or line.split()[0]}\b.*\n").group(0)

    def lay(self, layout):
        """Blocks: Plugged and filled, or Unplugged."""
        assert self.order(f"lay {layout}").startswith("lay answer=0 ")

    def violations(self):
        """(writes, reads) that the monitor counted."""
        counted = self.monitor.virtio_mem("d0")["Violations"]
        return tuple(map(int, re.fullmatch(r"(\d+) writes, (\d+) reads", counted).groups()))


def attacked(folder, extra="", smp=1, more=(), size="64M", backend="", requested=None):
    args = ["-m", "128M,maxmem=12G", "-smp", str(smp)]
    args += ["-object", f"memory-backend-ram,id=m0,size={size}{backend}"]
    device = f"virtio-mem-pci,id=d0,memdev=m0,requested-size={requested or size}"
    args += ["-device", device + extra, "-device", "virtio-rng-pci", *more]
    return Machine(folder, "test=attack", args, monitor=True)


def begin(machine):
    monitor = machine.monitor()
    return monitor, Attacker(machine, monitor)


def lines(machine):
    """(count, access, size, address, vCPU, rest) of each line about a violation."""
    return [
        (1 + int(more or 0), what, int(size), int(gpa, 16), vcpu and int(vcpu), rest)
        for what, size, gpa, vcpu, more, rest in LINE.findall(machine.errors.text)
    ]


def status(monitor):
    return monitor.run("info status").split(": ")[1].strip()


def check_quick(answers, took):
    """The times of ANSWERS during something that TOOK so long. A busy host keeps everybody waiting now
    and then, whatever the monitor does; so one in a hundred may be slow, but none waits for it."""
    answers = sorted(answers)
    usual, slowest = answers[len(answers) * 99 // 100], answers[-1]
    found = f"{len(answers)} answers in {took:.3f} s: {usual:.4f} s, at most {slowest:.4f} s"
    assert len(answers) > 1 and usual < ANSWER_S and slowest < took * 3 / 4, found


def test_first_is_told_at_once(folder):
    with attacked(folder) as machine:
        monitor, attacker = begin(machine)
        attacker.lay("PU")
        device = monitor.memory_devices()["d0"]["addr"]
        fields = monitor.virtio_mem("d0")
        assert fields["Violations"] == "0 writes, 0 reads" and "Last violation" not in fields
        assert re.fullmatch(r"on \(\S+\)", fields["Guard"]), fields
        assert fields["Memory slots"] == "1"
        attacker.order("hit mov8")
        machine.errors.expect(r"^ebb: memory device 'd0'.*\n")
        count, what, size, gpa, vcpu, rest = lines(machine)[0]
        # The last access until the line was written, which may be a later one.
        assert what in ("wrote", "read") and (vcpu, rest) == (0, "") and count >= 1
        assert size in (1, 2, 4, 8) and device + 2 * 1024 * 1024 <= gpa < device + 64 * 1024 * 1024
        fields = monitor.virtio_mem("d0")
        writes, reads = attacker.violations()
        assert writes > 0 and reads >= 0
        last = re.fullmatch(
            r"(write|read) of [1248] bytes? at 0x([0-9a-f]+), vCPU 0", fields["Last violation"]
        )
        assert last and device <= int(last.group(2), 16) < device + 64 * 1024 * 1024, fields
        assert status(monitor) == "running"


def test_storm_is_told_in_few_lines(folder):
    """All processors write all the time: answers are quick, lines few, and none is uncounted."""
    with attacked(folder, smp=4) as machine:
        monitor, attacker = begin(machine)
        attacker.lay("PUPU")
        machine.type("storm")
        machine.console.expect(r"^storm: begins\n")
        start, before, answers = time.monotonic(), 0, []
        while time.monotonic() - start < STORM_S:
            begun = time.monotonic()
            assert status(monitor) == "running"
            answers.append(time.monotonic() - begun)
            now = attacker.violations()[0]
            assert now >= before
            before = now
        check_quick(answers, STORM_S)
        attacker.order("stop", verb="storm")
        took = time.monotonic() - start
        writes, reads = attacker.violations()
        assert writes > 0
        machine.type("quit")
        assert machine.wait() == 0
        told = lines(machine)
        # The end tells what was left over, so that the lines add up to what was counted.
        assert sum(line[0] for line in told) == writes + reads
        assert 2 <= len(told) <= took + 3, told
        assert all(line[4] in range(4) for line in told)


def test_last_is_told_in_time(folder):
    """What comes within the second after a line is told when that is over, without more to come."""
    with attacked(folder) as machine:
        _, attacker = begin(machine)
        attacker.lay("PU")
        attacker.order("hit mov8")
        attacker.order("hit mov8")
        writes, reads = attacker.violations()
        deadline = time.monotonic() + TIMEOUT_S
        while sum(line[0] for line in lines(machine)) < writes + reads:
            assert time.monotonic() < deadline, lines(machine)
            machine.errors.expect(r"^ebb: memory device 'd0'.*\n")
        assert sum(line[0] for line in lines(machine)) == writes + reads


def test_pause(folder):
    """Each access pauses the machine, until cont; what was written is gone."""
    with attacked(folder, ",on-violation=pause", smp=2) as machine:
        monitor, attacker = begin(machine)
        attacker.lay("PU30P")
        machine.type("hit mov8")
        pauses = 0
        while not re.search(r"^hit mov8 .*\n", machine.console.text, re.MULTILINE):
            answer = monitor.run("info status")
            if "paused" not in answer:
                continue
            assert answer == "VM status: paused\n"
            pauses += 1
            # It waits: nothing happens until cont.
            assert sum(attacker.violations()) == pauses
            monitor.run("cont")
        answer = machine.console.expect(r"^hit mov8 .* wrong=(\d+)").group(1)
        assert answer == "0"
        assert pauses == sum(attacker.violations()) > 0
        told = lines(machine)
        assert sum(line[0] for line in told) == pauses == len(told)
        assert all(line[5] == ": the machine is paused (on-violation=pause)" for line in told)
        assert status(monitor) == "running"


def test_pause_and_reset(folder):
    with attacked(folder, ",on-violation=pause") as machine:
        monitor, attacker = begin(machine)
        attacker.lay("PU")
        machine.type("hit mov8")
        monitor.wait_for(lambda: status(monitor), lambda s: s == "paused", "no pause")
        monitor.run("system_reset")
        assert status(monitor) == "paused"
        assert monitor.virtio_mem("d0")["Plugged size"] == "0 bytes"
        monitor.run("cont")
        attacker.await_ready()
        attacker.lay("P")
        assert status(monitor) == "running"


def test_shutdown(folder):
    """As if the guest had powered itself off, but for the line that tells why."""
    with attacked(folder, ",on-violation=shutdown", smp=2) as machine:
        _, attacker = begin(machine)
        attacker.lay("PU")
        machine.type("hit mov8")
        assert machine.wait() == 0
        told = lines(machine)
        assert len(told) == 1 and told[0][0] == 1
        assert told[0][5] == ": the machine is shut down (on-violation=shutdown)"


def test_shutdown_without_end(folder):
    with attacked(folder, ",on-violation=shutdown", more=["-no-shutdown"]) as machine:
        monitor, attacker = begin(machine)
        attacker.lay("PU")
        machine.type("hit mov8")
        monitor.wait_for(lambda: status(monitor), lambda s: s == "paused (shutdown)", "no end")
        assert "Resetting the Virtual Machine is required" in monitor.run("cont")
        monitor.run("system_reset")
        monitor.run("cont")
        attacker.await_ready()
        assert status(monitor) == "running"


def test_guard_off(folder):
    """Slots that are wholly unplugged are absent all the same."""
    with attacked(folder, ",guard=off,memslot-size=16M") as machine:
        monitor, attacker = begin(machine)
        attacker.lay("P")
        assert monitor.virtio_mem("d0")["Guard"] == "off"
        attacker.order("hit mov8")
        assert attacker.violations()[0] > 0


def test_answers_during_a_long_plug(folder):
    """A plug that allocates gigabytes keeps no monitor waiting."""
    size = 1024
    with attacked(
        folder, ",block-size=2M,prealloc=on", size=f"{size}M", backend=",prealloc=off"
    ) as machine:
        monitor, _ = begin(machine)
        machine.type(f"plug 0 {size // 2}")
        whole, start, answers, plugged = f"{size << 20} bytes", time.monotonic(), [], None
        commands = ("info memory-devices", "info numa", "info status", f"virtio-mem d0 {size}")
        while plugged != whole:
            times = [time.monotonic()]
            plugged = monitor.virtio_mem("d0")["Plugged size"]
            times.append(time.monotonic())
            for command in commands:
                monitor.run(command)
                times.append(time.monotonic())
            answers += [end - begun for begun, end in zip(times, times[1:])]
        check_quick(answers, time.monotonic() - start)


def test_threads(folder):
    """One for each memory device, with its name."""
    more = ["-object", "memory-backend-ram,id=m1,size=64M"]
    more += ["-device", "virtio-mem-pci,id=a-rather-long-name,memdev=m1"]
    with attacked(folder, more=more) as machine:
        begin(machine)
        tasks = pathlib.Path(f"/proc/{machine.process.pid}/task").iterdir()
        names = [(task / "comm").read_text().strip() for task in tasks]
        assert "mem/d0" in names and "mem/a-rather-lo" in names and "io" in names, names


def test_too_many_slots(folder):
    argv = [EBB, "-enable-kvm", "-nodefaults", "-display", "none", "-m", "64M,maxmem=1T"]
    argv += ["-object", "memory-backend-ram,id=m0,size=512G", "-kernel", GUEST]
    argv += ["-device", "virtio-mem-pci,id=d0,memdev=m0,memslot-size=2M"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 1
    assert re.fullmatch(
        r"ebb: -device virtio-mem-pci,id=d0: memslot-size=2 MiB makes 262144 memory slots; "
        r"KVM has \d+, of which \d+ are left for this device\n",
        done.stderr,
    ), done.stderr


@pytest.mark.parametrize("block", ["4K", "2M", "1G"])
def test_block_sizes(folder, block):
    with attacked(folder, f",block-size={block}", size="2G", requested="1G") as machine:
        monitor, _ = begin(machine)
        assert int(monitor.virtio_mem("d0")["Page size"].split()[0]) in (4096, 1 << 21, 1 << 30)
        assert status(monitor) == "running"
