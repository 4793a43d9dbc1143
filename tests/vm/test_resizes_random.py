# SPDX-License-Identifier: BSD-3-Clause
"""A thousand resizes in random order and size, by four clients at once over three devices, by every
way there is. Afterwards all views of the machine agree, and its memory is what it was.

    EBB_SEED=N    the same choices again (a failure prints it)
    EBB_RESIZES   how many (1000)
"""

import os
import random
import threading
import time

from ebbvm import TIMEOUT_S, Machine
from qmp import QmpError

MIB = 1 << 20
SEED = int(os.environ.get("EBB_SEED", str(random.SystemRandom().randrange(1 << 32))))
RESIZES = int(os.environ.get("EBB_RESIZES", "1000"))
CLIENTS = 4
BOOT_MIB = 192
# (size, what is asked for at the start, block size) in MiB, and the node.
DEVICES = [(512, 64, 2, 0), (256, 32, 8, 1), (1024, 128, 64, 1)]
ANSWERS = ("ack", "nack", "busy", "error", "broken")
JOB_STATUSES = {"created", "running", "aborting", "concluded", "null"}


def machine_args():
    args = ["-m", f"{BOOT_MIB}M,maxmem=4G", "-smp", "2"]
    args += ["-numa", "node,nodeid=0,cpus=0", "-numa", "node,nodeid=1,cpus=1"]
    for i, (size, requested, block, node) in enumerate(DEVICES):
        args += ["-object", f"memory-backend-ram,id=m{i},size={size}M"]
        device = f"virtio-mem-pci,id=d{i},memdev=m{i},requested-size={requested}M"
        args += ["-device", f"{device},block-size={block}M,node={node}"]
    return args


class Client:
    """Resizes what its random numbers say; a refusal is all right where it is one of a job's."""

    def __init__(self, machine, number, resizes):
        self.qmp = machine.qmp()
        self.rng = random.Random(f"{SEED} {number}")
        self.resizes = resizes
        self.refused = 0
        self.failed = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        try:
            for _ in range(self.resizes):
                self._turn()
                self._check_events()
                # Some are overtaken before the guest sees them, others are followed.
                time.sleep(self.rng.choice([0, 0, 0.01, 0.05]))
        except Exception as e:  # whatever it is, it is what the test is to see
            self.failed = e

    def _turn(self):
        rng = self.rng
        index = rng.randrange(len(DEVICES))
        size, _, block, _ = DEVICES[index]
        target = rng.randrange(size // block + 1) * block
        ways = [self._property, self._property, self._human, self._job, self._job, self._whole]
        try:
            rng.choice(ways)(f"d{index}", target)
        except QmpError as e:
            assert e.error_class == "GenericError" and "job" in e.desc, e
            self.refused += 1
        if rng.random() < 0.2:
            self._tidy()

    def _property(self, device, mib):
        path = self.rng.choice([device, f"/machine/peripheral/{device}"])
        value = {"path": path, "property": "requested-size", "value": mib * MIB}
        assert self.qmp.call("qom-set", value) == {}

    def _human(self, device, mib):
        assert self.qmp.human(f"virtio-mem {device} {mib}") == ""

    def _job(self, device, mib):
        arguments = {"device": device, "size": mib * MIB}
        if self.rng.random() < 0.3:
            arguments["timeout"] = self.rng.randint(1, 60)
        assert self.qmp.call("virtio-mem-resize", arguments) == {}

    def _whole(self, _device, _mib):
        """The machine's memory, or a node's: what fits the largest block is always possible."""
        node = self.rng.choice([None, 0, 1])
        devices = [d for d in DEVICES if node in (None, d[3])]
        boot = BOOT_MIB if node is None else BOOT_MIB // 2
        extra = self.rng.randrange(sum(d[0] for d in devices) // 64 + 1) * 64
        arguments = {"total": (boot + extra) * MIB}
        if node is not None:
            arguments["node"] = node
        assert self.qmp.call("memory-resize", arguments) == {}

    def _tidy(self):
        """Cancel or dismiss somebody's job."""
        jobs = self.qmp.call("query-jobs")
        assert all(job["status"] in JOB_STATUSES for job in jobs), jobs
        assert all(job["current-progress"] <= job["total-progress"] for job in jobs), jobs
        assert len({job["id"] for job in jobs}) == len(jobs)
        for job in jobs:
            command = "job-dismiss" if job["status"] == "concluded" else "job-cancel"
            try:
                self.qmp.call(command, {"id": job["id"]})
            except QmpError as e:  # somebody else was faster
                assert e.error_class == "GenericError", e

    def _check_events(self):
        for event in self.qmp.take_events("JOB_STATUS_CHANGE"):
            assert event["data"]["status"] in JOB_STATUSES
        for event in self.qmp.take_events("MEMORY_DEVICE_SIZE_CHANGE"):
            index = int(event["data"]["id"][1:])
            assert event["data"]["qom-path"] == f"/machine/peripheral/d{index}/virtio-backend"
            assert event["data"]["size"] % (DEVICES[index][2] * MIB) == 0
        assert not self.qmp.events, list(self.qmp.events)


def until(ask, wanted, what):
    """Ask again until WANTED(ASK())."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        answer = ask()
        if wanted(answer):
            return answer
        assert time.monotonic() < deadline, f"{what}: last answer {answer!r}"
        time.sleep(0.01)


def devices_of(qmp):
    return {d["data"]["id"]: d["data"] for d in qmp.call("query-memory-devices")}


def at_rest(qmp):
    """Nothing is under way: {device: size}, once every device has what was asked for."""
    until(
        lambda: qmp.call("query-jobs"),
        lambda jobs: all(job["status"] == "concluded" for job in jobs),
        "jobs that do not end",
    )
    devices = until(
        lambda: devices_of(qmp),
        lambda devices: all(d["size"] == d["requested-size"] for d in devices.values()),
        "a guest that does not follow",
    )
    return {name: d["size"] for name, d in devices.items()}


def stats(qmp, device):
    """The device's figures of query-stats, by name."""
    answer = qmp.call("query-stats", {"target": "virtio-mem"})
    for entry in answer:
        if entry["qom-path"] == f"/machine/peripheral/{device}/virtio-backend":
            return {stat["name"]: stat["value"] for stat in entry["stats"]}
    raise AssertionError(f"nothing of {device} in {answer!r}")


def guest_sizes(text):
    """What the guest said last of each device."""
    sizes = {}
    for line in text.splitlines():
        words = line.split()
        if line.startswith("follow ") and len(words) == 3 and words[2].startswith("plugged="):
            sizes[f"d{words[1]}"] = int(words[2].partition("=")[2])
    return sizes


def check_views(machine, qmp, sizes):
    """Everybody who can be asked says SIZES."""
    monitor = machine.monitor()
    by_hand = monitor.memory_devices()
    for name, size in sizes.items():
        assert qmp.call("qom-get", {"path": name, "property": "size"}) == size
        assert qmp.call("qom-get", {"path": name, "property": "requested-size"}) == size
        assert by_hand[name]["size"] == size
        shown = monitor.virtio_mem(name)
        assert shown["Requested size"] == f"{size} bytes" and shown["Request status"] == "done"
        figures = stats(qmp, name)
        assert figures["plugged-size"] == figures["requested-size"] == size
        moved = figures["plug-bytes"] - figures["unplug-bytes"] - figures["reset-bytes"]
        assert moved == size
        assert sum(figures["plug-latency"]) == sum(figures[f"plug-{a}"] for a in ANSWERS)
        blocks = qmp.call("query-virtio-mem-blocks", {"device": name})
        assert sum(blocks["cells"]) == size
        assert len(blocks["cells"]) * blocks["cell-size"] >= blocks["region-size"]
    summary = qmp.call("query-memory-size-summary")
    assert summary == {"base-memory": BOOT_MIB * MIB, "plugged-memory": sum(sizes.values())}
    nodes = [BOOT_MIB // 2] * 2
    for i, (_, _, _, node) in enumerate(DEVICES):
        nodes[node] += sizes[f"d{i}"] // MIB
    assert monitor.numa_mib() == nodes
    until(
        lambda: guest_sizes(machine.console.text),
        lambda seen: seen == sizes,
        f"the guest does not say {sizes}",
    )


def check_memory(machine):
    """Every page of the guest holds what it wrote there, or zeros."""
    for i in range(len(DEVICES)):
        machine.type(f"verify {i}")
        machine.console.expect(f"^verified {i} wrong=0\n")


def test_random_resizes(folder):
    print(f"EBB_SEED={SEED}")
    words = f"test=vmem-follow devices={len(DEVICES)}"
    with Machine(folder, words, machine_args(), monitor=True, qmp=True) as machine:
        machine.console.expect("^follow: ready\n")
        qmp = machine.qmp()
        for i in range(len(DEVICES)):
            machine.type(f"touch {i}")
            machine.console.expect(f"^touched {i} ")
        clients = [Client(machine, number, RESIZES // CLIENTS) for number in range(CLIENTS)]
        for client in clients:
            client.thread.join()
        print(f"refused: {[client.refused for client in clients]}")
        assert [client.failed for client in clients] == [None] * CLIENTS
        # A refusal is for a job that still runs: not the rule.
        assert sum(client.refused for client in clients) < RESIZES / 2

        sizes = at_rest(qmp)
        check_views(machine, qmp, sizes)
        check_memory(machine)
        # And everything still works: all of it, and nothing of it.
        most = {f"d{i}": device[0] * MIB for i, device in enumerate(DEVICES)}
        for wanted in (most, dict.fromkeys(sizes, 0)):
            for name, size in wanted.items():
                qmp.call("qom-set", {"path": name, "property": "requested-size", "value": size})
            assert at_rest(qmp) == wanted
            check_views(machine, qmp, wanted)
            check_memory(machine)
        machine.type("quit")
        assert machine.wait() == 0
