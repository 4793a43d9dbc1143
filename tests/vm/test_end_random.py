# SPDX-License-Identifier: BSD-3-Clause
"""The end of a machine at any moment: while jobs run, people wait, devices come and go, memory is
counted and clients are in the middle of a line. It ends well, tells so, and leaves nothing behind.

    EBB_SEED=N   the same choices again (a failure prints it)
    EBB_ENDS     how many machines (24)
"""

import json
import os
import random
import socket
import threading
import time

import pytest

from ebbvm import SIGNALS, TIMEOUT_S, Machine

SEED = int(os.environ.get("EBB_SEED", str(random.SystemRandom().randrange(1 << 32))))
ENDS = int(os.environ.get("EBB_ENDS", "24"))
# None ends by itself, also if it finds what it did not expect after a reset.
GUESTS = {
    "follow": "test=vmem-follow end=spin",
    "stuck": "test=vmem-follow most=64M end=spin",
    "slots": "test=hotplug end=spin",
    "idle": "test=none end=spin",
}
ARGS = """-machine q35 -smp 2 -m 128M,maxmem=8G
    -device pcie-root-port,id=p0 -device pcie-root-port,id=p1
    -object memory-backend-ram,id=m0,size=256M -object memory-backend-ram,id=m1,size=256M
    -device virtio-mem-pci,id=d0,memdev=m0,requested-size=64M""".split()


def program(command, **arguments):
    named = {name.replace("_", "-"): value for name, value in arguments.items()}
    return json.dumps({"execute": command, "arguments": named}).encode() + b"\n"


def person(line):
    return program("human-monitor-command", command_line=line)


DEVICE = {"driver": "virtio-mem-pci", "id": "d1", "memdev": "m1", "bus": "p0"}
SAYS = [
    program("virtio-mem-resize", device="d0", size=256 << 20),
    program("virtio-mem-resize", device="d0", size=0, timeout=1),
    program("memory-resize", total=300 << 20, job_id="all"),
    program("job-cancel", id="all"),
    program("job-dismiss", id="all"),
    program("qom-set", path="/machine/peripheral/d0", property="requested-size", value=1 << 27),
    program("device_add", **DEVICE),
    program("device_add", **DEVICE, **{"requested-size": 1 << 27}),
    program("device_del", id="d1"),
    program("object-del", id="m1"),
    program("object-add", **{"qom-type": "memory-backend-ram", "id": "m1", "size": 1 << 28}),
    program("chardev-add", id="c0", backend={"type": "pty", "data": {}}),
    program("chardev-remove", id="c0"),
    program("query-stats", target="virtio-mem"),
    program("query-memory-devices"),
    program("system_reset"),
    program("stop"),
    program("cont"),
    person("virtio-mem d0 128 -w"),
    person("memory_resize 200 -w"),
    person("info qtree"),
    program("migrate", uri="exec:cat > /dev/null"),
    program("migrate", uri="exec:sleep 100"),
    program("migrate", uri="tcp:127.0.0.1:1"),
    program("migrate_cancel"),
    program("migrate-set-parameters", max_bandwidth=4096),
    program("migrate-set-parameters", max_bandwidth=0),
    program("query-migrate"),
    person("migrate exec:false"),
    b'{"execute": "query-stat',
]
TYPES = [
    b"virtio-mem d0 192 -w\n",
    b"virtio-mem d0 0 -w\n",
    b"memory_resize 256 -w\n",
    b"\x03",
    b"info virtio-mem d0\n",
    b"device_del d1\n",
    b"device_add virtio-mem-pci,id=d1,memdev=m1\n",
    b'migrate "exec:cat > /dev/null"\n',
    b"migrate_cancel\n",
    b"info j\t",
]
SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


class Client(threading.Thread):
    """Says this and that and reads little of what it is answered, until the machine is gone."""

    def __init__(self, path, seed, says, greeting=b"", again=False):
        super().__init__()
        self._path, self._says, self._greeting = path, says, greeting
        self._again = again
        self._rng = random.Random(seed)
        self.start()

    def run(self):
        try:
            while True:
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                    sock.settimeout(TIMEOUT_S)
                    sock.connect(str(self._path))
                    self._talk(sock)
        except OSError:
            return  # the machine is gone, and with it the connection

    def _talk(self, sock):
        sock.sendall(self._greeting)
        while True:
            sock.sendall(self._rng.choice(self._says))
            if self._rng.random() < 0.5:
                sock.recv(65536)
            if self._again or self._rng.random() < 0.02:
                return


def end(machine, rng):
    """Ask for the end in one of the ways that there are."""
    way = rng.choice(["program", "person", *SIGNALS])
    if way == "program":
        machine.qmp().send("quit")
    elif way == "person":
        machine.monitor().send("quit")
    else:
        machine.signal(SIGNALS[way])


@pytest.mark.parametrize("number", range(ENDS))
def test_end_at_any_moment(folder, number):
    rng = random.Random(f"{SEED} {number}")
    guest = rng.choice(sorted(GUESTS))
    path = {name: f"{folder}/{name}.sock" for name in ("qmp", "monitor", "metrics")}
    args = [*ARGS, "-metrics", path["metrics"]]
    greeting = program("qmp_capabilities", enable=["oob"])
    clients = []
    print(f"EBB_SEED={SEED}, machine {number}: {guest}")
    with Machine(folder, GUESTS[guest], args, monitor=True, qmp=True) as machine:
        watcher = machine.qmp()  # is answered: the machine is there
        try:
            for _ in range(3):
                clients.append(Client(path["qmp"], rng.random(), SAYS, greeting))
            for _ in range(2):
                clients.append(Client(path["monitor"], rng.random(), TYPES))
            clients.append(Client(path["metrics"], rng.random(), [SCRAPE], again=True))
            time.sleep(rng.choice([0, 0.02, 0.1, 0.3]))
            end(machine, rng)
            assert machine.wait() == 0, machine.errors.text
        finally:
            machine.process.kill()
            for client in clients:
                client.join()
        assert watcher.closed()
        assert not os.path.exists(path["metrics"])
