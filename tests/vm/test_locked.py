# SPDX-License-Identifier: BSD-3-Clause
"""Memory that is not swapped out: -overcommit mem-lock=on."""

import pathlib
import re
import resource
import select
import subprocess
import time

import pytest

import ebbvm
import migrating
from pattern import Pattern
from qmp import QmpError

MIB = 1 << 20
LOCKED = ["-overcommit", "mem-lock=on"]
SANDBOX = ["-sandbox", "on,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
APPEND = "test=pattern devices=0 arena=1M rate=4 step=8"


def held_bytes(machine):
    """(locked, resident) of the process."""
    status = pathlib.Path(f"/proc/{machine.process.pid}/status").read_text()
    kib = (re.search(rf"(?m)^{name}:\s+(\d+) kB$", status).group(1) for name in ("VmLck", "VmRSS"))
    return tuple(int(n) * 1024 for n in kib)


@pytest.mark.parametrize("backend", ["ram", "memfd"])
def test_boot_memory(folder, backend):
    """All of it is there and locked before the guest runs, and no more than it."""
    args = ["-m", "64M", "-object", f"memory-backend-{backend},id=ram,size=64M"]
    args += ["-machine", "pc,memory-backend=ram", "-S", *LOCKED, *SANDBOX]
    with ebbvm.Machine(folder, "test=none", args, qmp=True) as machine:
        qmp = machine.qmp()
        locked, resident = held_bytes(machine)
        assert locked >= resident >= 64 * MIB
        assert resident < 64 * MIB + 64 * MIB
        qmp.execute("object-add", **{"qom-type": "memory-backend-ram", "id": "m", "size": 64 * MIB})
        with pytest.raises(QmpError) as refused:
            qmp.execute("device_add", driver="virtio-mem-pci", id="d", memdev="m")
        assert "mem-lock=on" in str(refused.value)
        qmp.execute("cont")
        assert machine.wait() == 0, machine.errors.text


@pytest.mark.parametrize("way", ["postcopy", "image"])
def test_moves(tmp_path, way):
    """Memory that comes later is locked, too."""
    with migrating.Guest(tmp_path, APPEND, ["-m", "64M", *LOCKED]) as guest:
        pattern = Pattern(guest.machine)
        migrating.capabilities(guest.qmp, events=True)
        migrating.WAYS[way](guest)
        pattern.moved_to(guest.machine)
        pattern.check()
        pattern.runs_on()
        # The last of it may still be on its way.
        deadline = time.monotonic() + ebbvm.TIMEOUT_S
        while (held := held_bytes(guest.machine))[0] < held[1]:
            assert time.monotonic() < deadline, held
            select.select([], [], [], 0.02)
        pattern.end()


def test_limit():
    """Without the right to lock as much one sentence says what to do."""
    argv = ["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock", str(ebbvm.EBB)]
    argv += ["-nodefaults", "-kernel", str(ebbvm.GUEST), "-append", "test=none", *LOCKED]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=ebbvm.TIMEOUT_S,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_MEMLOCK, (MIB, MIB)),
    )
    assert done.returncode == 1 and done.stderr == (
        "ebb: -overcommit mem-lock=on: cannot lock the machine's memory: Cannot allocate memory; the "
        "limit is 1024 KiB (ulimit -l; with libvirt, <memtune><hard_limit>)\n"
    )
