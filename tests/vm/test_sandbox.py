# SPDX-License-Identifier: BSD-3-Clause
"""Machines that are shut in (-sandbox): all that they do goes on, and nothing else does.

The rest of these tests can be run with every machine shut in:

    EBB_EXTRA="-sandbox on,spawn=deny" python3 -m pytest tests/vm
"""

import pathlib
import re
import socket

import pytest

import ebbvm
import hotplugs
import migrating
from pattern import Pattern
from qmp import QmpError

MIB = 1 << 20
WORDS = "obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
SANDBOX = ["-sandbox", f"on,{WORDS}"]
APPEND = "test=pattern devices=1 arena=1M rate=4 step=8"
ARGS = ["-m", "64M,maxmem=1G", "-smp", "2", "-name", "shut-in,debug-threads=on"]
ARGS += ebbvm.memory_devices(("64M", "32M", "2M", 0))
FILTERED = "2"  # of Seccomp: in a thread's status


@pytest.fixture
def guest(tmp_path):
    with migrating.Guest(tmp_path, APPEND, [*ARGS, *SANDBOX]) as guest:
        guest.pattern = Pattern(guest.machine)
        migrating.capabilities(guest.qmp, events=True)
        yield guest


def test_all_threads(guest):
    names = set()
    for task in pathlib.Path(f"/proc/{guest.machine.process.pid}/task").iterdir():
        status = dict(re.findall(r"(?m)^(\w+):\s*(.*)$", (task / "status").read_text()))
        names.add(status["Name"])
        assert (status["Seccomp"], status["NoNewPrivs"]) == (FILTERED, "1"), status
    assert {"CPU 0/KVM", "CPU 1/KVM", "io", "mem/d0"} <= names
    guest.pattern.end()


@pytest.mark.parametrize("way", ["tcp", "postcopy", "image"])
def test_moves(guest, way):
    migrating.WAYS[way](guest)
    guest.pattern.moved_to(guest.machine)
    guest.pattern.check()
    guest.pattern.runs_on()
    guest.pattern.end()


def test_no_commands(guest, tmp_path):
    made = tmp_path / "made"
    with pytest.raises(QmpError) as refused:
        guest.qmp.execute("migrate", uri=f"exec:cat > {made}")
    assert "-sandbox spawn=deny lets this machine start no command" in str(refused.value)
    assert not made.exists()
    guest.pattern.runs_on()
    guest.pattern.end()


def test_commands(tmp_path):
    """With spawn=allow there are, and they are shut in as well."""
    seen = tmp_path / "seen"
    with migrating.Guest(tmp_path, APPEND, [*ARGS, "-sandbox", "on"]) as guest:
        pattern = Pattern(guest.machine)
        save = f"exec:grep ^Seccomp: /proc/self/status > {seen}; gzip -1 > FILE"
        migrating.saved(guest, save, "exec:gzip -dc FILE")
        pattern.moved_to(guest.machine)
        pattern.check()
        pattern.end()
    assert seen.read_text().split() == ["Seccomp:", FILTERED]


def test_devices_come_and_go(folder):
    with hotplugs.machine(folder, args=SANDBOX) as vm:
        qmp = vm.qmp()
        qmp.execute("device_add", **hotplugs.memory(bus="p0"))
        hotplugs.came(vm, 0)
        hotplugs.resize(vm, qmp, 0, "d0", 64 * MIB)
        hotplugs.resize(vm, qmp, 0, "d0", 0)
        qmp.execute("device_del", id="d0")
        hotplugs.deleted(qmp, "d0")
        qmp.execute("object-del", id="m0")
        qmp.execute("chardev-add", id="c", backend={"type": "pty", "data": {}})
        qmp.execute("chardev-remove", id="c")
        hotplugs.finish(vm)


def test_metrics(folder):
    path = pathlib.Path(folder) / "metrics"
    with ebbvm.Machine(folder, "test=pattern", [*SANDBOX, "-metrics", path], qmp=True) as vm:
        qmp = vm.qmp()
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(ebbvm.TIMEOUT_S)
            client.connect(str(path))
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            answer = b""
            while piece := client.recv(65536):
                answer += piece
        assert b" 200 " in answer.split(b"\r\n")[0] and b"ebb_" in answer
        qmp.execute("quit")
        assert vm.wait() == 0, vm.errors.text
