# SPDX-License-Identifier: BSD-3-Clause
"""A target whose source sends nothing any more, and keeps the connection: its monitor answers, whatever
it is asked for, and the machine ends when it is to."""

import socket
import threading
import time

import pytest

from ebbvm import TIMEOUT_S, memory_devices
from migrating import Guest, capabilities, prepare, succeed
from pattern import Pattern

MIB = 1 << 20
APPEND = "test=pattern devices=2 arena=1M rate=4 step=8"
DEVICES = memory_devices(("64M", "32M", "2M", 0), ("64M", "16M", "1M", 0))
ARGS = ["-m", "64M,maxmem=1G", "-smp", "2", *DEVICES]
# Of a busy host; one that waits for the other side waits for ever.
ANSWER_S = TIMEOUT_S / 10


class Relay:
    """Between two sides, each way on a thread; what goes to the target stops while GATE is clear."""

    def __init__(self, listen, to):
        self.gate = threading.Event()
        self.gate.set()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(listen)
        self.socket.listen(1)
        threading.Thread(target=self.serve, args=(to,), daemon=True).start()

    def serve(self, to):
        source, _ = self.socket.accept()
        target = socket.socket(socket.AF_UNIX)
        target.connect(to)
        threading.Thread(target=self.pump, args=(target, source, None), daemon=True).start()
        self.pump(source, target, self.gate)

    @staticmethod
    def pump(source, sink, gate):
        try:
            while data := source.recv(65536):
                if gate:
                    gate.wait()
                sink.sendall(data)
        except OSError:
            pass


ORDERS = [
    ["query-pci", "query-status", "migrate-pause", "query-migrate", "stop"],
    ["stop", "query-status", "cont", "query-pci", "migrate-pause", "stop"],
    ["system_reset", "query-status", "stop", "system_powerdown", "cont"],
]


@pytest.mark.parametrize("orders", ORDERS, ids=lambda orders: orders[0])
def test_source_holds_pages_back(tmp_path, orders):
    with Guest(tmp_path, APPEND, ARGS) as guest:
        Pattern(guest.machine)
        capabilities(guest.qmp, events=True)
        params = {"max_bandwidth": MIB, "max_postcopy_bandwidth": MIB}
        target, qmp, uri = prepare(guest, "unix:HERE", {"postcopy_ram": True}, params)
        qmp.execute("migrate-incoming", uri=uri)
        relay = Relay(str(tmp_path / "relay"), uri.removeprefix("unix:"))
        guest.qmp.execute("migrate", uri=f"unix:{tmp_path}/relay")
        assert succeed(guest.qmp, "active") == "active"
        guest.qmp.execute("migrate-start-postcopy")
        assert succeed(qmp, "postcopy-active") == "postcopy-active"
        relay.gate.clear()
        for order in orders:
            began = time.monotonic()
            qmp.call(order)
            assert time.monotonic() - began < ANSWER_S, order
        qmp.execute("quit")
        assert target.wait() == 0
        relay.gate.set()
