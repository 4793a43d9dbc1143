# SPDX-License-Identifier: BSD-3-Clause
"""Memory devices that several clients plug, resize and unplug in random order, with resets and
stops in between, behind ports or, on machine pc, in slots of the root bus as well. Whatever each was
told, in the end all views agree, and nothing is left over.

    EBB_SEED=N    the same choices again (a failure prints it)
    EBB_HOTPLUGS  how many turns (600)
"""

import os
import pathlib
import random
import threading
import time

from ebbvm import TIMEOUT_S, Machine, passed
from qmp import QmpError

MIB = 1 << 20
SEED = int(os.environ.get("EBB_SEED", str(random.SystemRandom().randrange(1 << 32))))
TURNS = int(os.environ.get("EBB_HOTPLUGS", "600"))
KIND, APPEND = random.Random(SEED).choice([("q35", ""), ("pc", " slots=on")])
CLIENTS = 3
PORTS = 3
BACKENDS = 4
SIZE_MIB = 128
BLOCK_MIB = 2
# What may be said no to, by the words of the refusal: another client, or the guest, was faster.
REFUSALS = (
    "no root port is free",
    "in use",
    "Duplicate",
    "given twice",
    "not found",
    "there is no object",
    "memory plugged",
    "again",
    "busy",
    "job",
    "is gone",
)


def machine_args():
    args = ["-machine", KIND, "-m", "128M,maxmem=4G", "-smp", "1"]
    for number in range(PORTS):
        args += ["-device", f"pcie-root-port,id=p{number},slot={number}"]
    for number in range(BACKENDS):
        args += ["-object", f"memory-backend-ram,id=m{number},size={SIZE_MIB}M"]
    return args


class Client:
    """Does what its random numbers say; it is refused only what others made impossible."""

    def __init__(self, machine, number, turns):
        self.qmp = machine.qmp()
        self.rng = random.Random(f"{SEED} {number}")
        self.turns = turns
        self.done = {}
        self.failed = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        try:
            for _ in range(self.turns):
                way = self.rng.choice(WAYS)
                try:
                    way(self, f"d{self.rng.randrange(BACKENDS)}")
                    self.done[way.__name__] = self.done.get(way.__name__, 0) + 1
                except QmpError as e:
                    assert any(words in e.desc for words in REFUSALS), e.desc
                # Some are overtaken before the guest sees them, others are followed.
                time.sleep(self.rng.choice([0, 0, 0.01, 0.03]))
        except Exception as e:  # whatever it is, it is what the test is to see
            self.failed = e

    def add(self, device):
        values = {"driver": "virtio-mem-pci", "id": device, "memdev": f"m{device[1:]}"}
        if self.rng.random() < 0.3:
            values["bus"] = f"p{self.rng.randrange(PORTS)}"
        if self.rng.random() < 0.3:
            values["requested-size"] = self._size()
        self.qmp.execute("device_add", **values)

    def delete(self, device):
        if self.rng.random() < 0.7:
            self._set(device, 0)
        self.qmp.execute("device_del", id=device)

    def resize(self, device):
        self._set(device, self._size())

    def job(self, device):
        size = self._size()
        self.qmp.execute("virtio-mem-resize", device=device, size=size)

    def look(self, device):
        self.qmp.execute("query-memory-devices")
        self.qmp.execute("query-pci")
        self.qmp.execute("query-jobs")
        self.qmp.execute("qom-get", path=f"/machine/peripheral/{device}", property="size")

    def swap(self, device):
        """The backend goes and comes back, if nobody uses it."""
        name = f"m{device[1:]}"
        self.qmp.execute("object-del", id=name)
        add_backend(self.qmp, name)

    def disturb(self, _):
        if self.rng.random() < 0.3:
            self.qmp.execute("system_reset")
        else:
            self.qmp.execute("stop")
            self.qmp.execute("cont")

    def _set(self, device, size):
        path = f"/machine/peripheral/{device}"
        self.qmp.execute("qom-set", path=path, property="requested-size", value=size)

    def _size(self):
        return self.rng.randrange(SIZE_MIB // BLOCK_MIB + 1) * BLOCK_MIB * MIB


WAYS = [Client.add] * 5 + [Client.delete] * 4 + [Client.resize] * 3 + [Client.job, Client.swap]
WAYS += [Client.look] * 2 + [Client.disturb]


def add_backend(qmp, name):
    values = {"qom-type": "memory-backend-ram", "id": name, "size": SIZE_MIB * MIB}
    qmp.execute("object-add", **values)


def held(machine):
    process = pathlib.Path(f"/proc/{machine.process.pid}")
    return [len(list((process / part).iterdir())) for part in ("fd", "task")]


def settle(machine, qmp):
    """Take everything out: asked of the guest first, and what is left by a reset."""
    qmp.execute("cont")
    for job in qmp.execute("query-jobs"):
        if job["status"] == "running":
            qmp.execute("job-cancel", id=job["id"])
    for device in qmp.execute("query-memory-devices"):
        path = f"/machine/peripheral/{device['data']['id']}"
        qmp.execute("qom-set", path=path, property="requested-size", value=0)
    monitor = machine.monitor()
    monitor.wait_for(
        lambda: [d["data"]["size"] for d in qmp.execute("query-memory-devices")],
        lambda sizes: not any(sizes),
        "memory that is left",
    )
    for device in qmp.execute("query-memory-devices"):
        try:
            qmp.execute("device_del", id=device["data"]["id"])
        except QmpError as e:  # asked for before, or it has just gone
            assert "again" in e.desc or "not found" in e.desc or "busy" in e.desc, e.desc
    qmp.execute("system_reset")
    monitor.wait_for(lambda: spoken_to(machine), bool, "a guest that listens")


def spoken_to(machine):
    """Speak to the guest, which may still start: does it, or did it, answer?"""
    machine.type("hello")
    return "order not understood: hello" in machine.console.text


def test_random_hotplugs(folder):
    print(f"EBB_SEED={SEED}")
    append = f"test=hotplug{APPEND}"
    with Machine(folder, append, machine_args(), monitor=True, qmp=True) as machine:
        machine.console.expect("^hotplug: ready")
        qmp = machine.qmp()
        before = held(machine)
        clients = [Client(machine, i, TURNS // CLIENTS) for i in range(CLIENTS)]
        for client in clients:
            client.thread.join(10 * TIMEOUT_S)
            assert not client.thread.is_alive(), f"client hangs; EBB_SEED={SEED}"
        failures = [c.failed for c in clients if c.failed]
        assert not failures, f"EBB_SEED={SEED}: {failures}"
        done = {name: sum(c.done.get(name, 0) for c in clients) for name in ("add", "delete")}
        assert all(done.values()), done
        settle(machine, qmp)
        assert qmp.execute("query-memory-devices") == []
        assert qmp.execute("query-memory-size-summary")["plugged-memory"] == 0
        for client in clients:
            client.qmp.close()
        machine.monitor().wait_for(
            lambda: held(machine), lambda now: now[1] <= before[1], "threads that are left"
        )
        machine.type("quit")
        assert machine.wait() == 0, machine.errors.text
        passed(machine.console.text)
