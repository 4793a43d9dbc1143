# SPDX-License-Identifier: BSD-3-Clause
"""What the human monitor prints, beside what Debian's QEMU prints of the same machine: the same
lines but for numbers, names that differ with the machine, and their order where it means nothing.
"""

import re

import pytest

import qemu
from ebbvm import Machine

MACHINE = """-name layout -uuid 01234567-89ab-cdef-0123-456789abcdef -machine q35
    -m 256M,maxmem=4G -smp 2,maxcpus=4,sockets=2,cores=2
    -object memory-backend-ram,id=ram0,size=128M -object memory-backend-ram,id=ram1,size=128M
    -numa node,nodeid=0,cpus=0-1,memdev=ram0 -numa node,nodeid=1,cpus=2-3,memdev=ram1
    -object memory-backend-ram,id=mem0,size=1G -object memory-backend-ram,id=mem1,size=64M
    -device virtio-mem-pci,id=reg0,memdev=mem0,requested-size=64M,node=1
    -device virtio-mem-pci,id=reg1,memdev=mem1,node=0
    -object iothread,id=thread0 -chardev null,id=null0""".split()

# In the order in which they are typed.
LINES = """info status
info name
info uuid
info kvm
info cpus
info numa
info memdev
info memory-devices
info memory_size_summary
info iothreads
info chardev
info hotpluggable-cpus
info balloon
info block
info blockstats
info nosuchthing
nosuchcommand
info migrate
info migrate_parameters
migrate_set_parameter max-bandwidth 100
migrate_set_parameter downtime-limit 500
migrate_set_parameter multifd-compression zstd
migrate_set_parameter cpu-throttle-tailslow on
migrate_set_parameter xbzrle-cache-size 1M
info migrate_parameters
migrate_set_capability events on
migrate_cancel
stop
qom-list /machine/peripheral
qom-get reg0 size
qom-get reg0 block-size
qom-get reg0 memdev
qom-get reg0 nosuch
qom-get nosuch size
qom-set reg0 requested-size 128M
qom-get reg0 requested-size
device_del nosuch
qom-list /objects""".splitlines()

# Parts of lines that are no layout: (what they look like, what stands for them).
NAMES = [
    (r"\w+-x86_64-cpu", "cpu"),
    (r"0x[0-9a-f]+|\d+", "0"),
    (r"filename=.*", "filename="),
    (r"^(qmp|serial|null0): ", "chardev: "),
    (r"(en|dis)abled", "enabled or disabled"),
]


def layout(text):
    """The kinds of lines of TEXT."""
    for pattern, name in NAMES:
        text = re.sub(pattern, name, text, flags=re.MULTILINE)
    return set(text.splitlines())


def typed(machine):
    session = machine.qmp()
    return {line: session.human(line) for line in LINES}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    if qemu.missing():
        pytest.skip(qemu.missing())
    with qemu.Qemu(tmp_path_factory.mktemp("qemu"), [*MACHINE, "-accel", "tcg"]) as machine:
        return typed(machine)


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ebb")
    with Machine(folder, "test=echo", [*MACHINE, "-S"], qmp=True) as machine:
        return typed(machine)


@pytest.mark.parametrize("line", LINES)
def test_layout(ours, theirs, line):
    assert layout(ours[line]) == layout(theirs[line]), f"{ours[line]}\nnot\n{theirs[line]}"


def test_error_does_not_end_it(ours):
    assert ours["nosuchcommand"] == "unknown command: 'nosuchcommand'\n"


def test_same_for_people(folder):
    """A person at a terminal sees what human-monitor-command gives."""
    with Machine(folder, "test=echo", [*MACHINE, "-S"], monitor=True, qmp=True) as machine:
        session, monitor = machine.qmp(), machine.monitor()
        for line in LINES:
            assert monitor.run(line) == session.human(line), line
