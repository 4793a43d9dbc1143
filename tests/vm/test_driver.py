# SPDX-License-Identifier: BSD-3-Clause
"""The driver core in a guest (tests/bare/test_driver.c): the host asks for other sizes while the guest uses
its memory. What it uses stays, what it frees goes; it never touches anything else.
"""

import re

import pytest

from ebbvm import Machine, memory_devices
from migrating import Guest, asked, live, postcopy

MIB = 1 << 20
# (size, block size, what is asked for in MiB) from a page to a GiB
KINDS = [("16M", "4K", 12), ("64M", "64K", 48), ("256M", "2M", 192), ("4G", "1G", 3072)]
DEVICES = memory_devices(*[(size, "0", block, 0) for size, block, _ in KINDS])
USED = MIB


class Driver:
    """Orders for the guest, wherever it runs, and what it says of each device."""

    def __init__(self, machine):
        self.machine = machine
        self.state = {}
        machine.console.expect("^driver: ready$")

    def order(self, line, answer):
        """The numbers of the answer."""
        self.machine.type(line)
        text = self.machine.console.expect(rf"^{answer}\b(.*)\n").group(1)
        return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", text)}

    def alloc(self, device, size, run):
        return self.order(f"alloc {device} {size} {run}", "allocated")["bytes"]

    def verify(self, device):
        """How many bytes it holds; all of them as they were written."""
        answer = self.order(f"verify {device}", "verified")
        assert answer["wrong"] == 0, self.machine.console.text
        return answer["bytes"]

    def rests(self, device, status, plugged=None):
        """Wait until the driver says that it rests like this; (plugged, used)."""
        wanted = r"\d+" if plugged is None else plugged
        text = rf"^driver {device} plugged=({wanted}) used=(\d+) status={status}$"
        match = self.machine.console.expect(text)
        return int(match.group(1)), int(match.group(2))

    def there(self, device, plugged):
        return self.rests(device, "there", plugged)

    def end(self):
        self.machine.type("quit")
        assert self.machine.wait() == 0, self.machine.errors.text
        assert re.search(r"^DONE passed=\d+ failed=0$", self.machine.console.text, re.MULTILINE)


def unharmed(monitor, count):
    """Nothing was touched that was not plugged."""
    for i in range(count):
        assert monitor.virtio_mem(f"d{i}")["Violations"] == "0 writes, 0 reads"


@pytest.mark.parametrize("words", ["", "accounting=1"])
def test_memory_in_use(folder, words):
    """Grow, use, shrink as far as it goes, free, and the rest goes by itself; every block size."""
    args = ["-m", "64M,maxmem=8G", *DEVICES]
    with Machine(folder, f"test=driver devices={len(KINDS)} {words}", args, monitor=True) as machine:
        monitor, driver = machine.monitor(), Driver(machine)
        for i, (_, _, mib) in enumerate(KINDS):
            monitor.run(f"virtio-mem d{i} {mib}")
            driver.there(i, mib * MIB)
            assert driver.alloc(i, 2 * USED, 64 << 10) == 2 * USED
            used = driver.order(f"thin {i}", "thinned")["bytes"]
            assert used == USED
            monitor.run(f"virtio-mem d{i} 0")
            left, in_use = driver.rests(i, "waiting")
            assert in_use == used and used <= left < mib * MIB
            assert driver.verify(i) == used
            # In the middle of it, the host changes its mind; what is used stays.
            monitor.run(f"virtio-mem d{i} {mib}")
            driver.there(i, mib * MIB)
            assert driver.verify(i) == used
            monitor.run(f"virtio-mem d{i} 0")
            assert driver.rests(i, "waiting")[0] == left
            assert driver.order(f"free {i}", "freed")["bytes"] == used
            driver.there(i, 0)
        unharmed(monitor, len(KINDS))
        driver.end()


def test_restarts(folder):
    """A device reset changes no block, whether the driver knows them still or has to ask."""
    args = ["-m", "64M,maxmem=2G", *memory_devices(("256M", "64M", "2M", 0), ("16M", "8M", "4K", 0))]
    with Machine(folder, "test=driver devices=2", args, monitor=True) as machine:
        monitor, driver = machine.monitor(), Driver(machine)
        assert driver.alloc(0, 64 * MIB, MIB) == 64 * MIB
        driver.order("thin 0", "thinned")
        for turn in range(4):
            size = 128 if turn % 2 else 32
            monitor.run(f"virtio-mem d0 {size}")
            driver.order("restart 0", "restarted")
            assert driver.verify(0) == 32 * MIB
        # The guest may have said so before it verified.
        monitor.wait_for(
            lambda: monitor.memory_devices()["d0"]["size"], lambda n: n == 128 * MIB, "not all there"
        )
        # A driver that begins with what is there: nothing is unplugged, and all of it is known.
        driver.order("reload 0", "reloaded")
        assert driver.there(0, 128 * MIB) == (128 * MIB, 0)
        driver.alloc(1, MIB, 32 << 10)
        driver.order("thin 1", "thinned")
        monitor.run("virtio-mem d1 0")
        plugged, used = driver.rests(1, "waiting")
        assert plugged == used == MIB // 2
        driver.order("reload 1", "reloaded")
        driver.there(1, 0)
        assert monitor.virtio_mem("d1")["Request status"] == "done"
        monitor.run("system_reset")
        driver = Driver(machine)
        assert driver.alloc(0, 128 * MIB, MIB) == 128 * MIB
        unharmed(monitor, 2)
        driver.end()


def test_moves(tmp_path):
    """Resizes before, during and after moves; a request may be under way in each."""
    args = ["-m", "64M,maxmem=2G", *memory_devices(("256M", "64M", "2M", 0))]
    with Guest(tmp_path, "test=driver devices=1", args) as guest:
        driver = Driver(guest.machine)
        assert driver.alloc(0, 64 * MIB, MIB) == 64 * MIB
        driver.order("thin 0", "thinned")
        for turn, way in enumerate((live, postcopy)):
            assert asked(guest.qmp, "d0", 0 if turn % 2 else 256 * MIB)
            way(guest)
            driver.machine = guest.machine
            assert driver.verify(0) == 32 * MIB
        assert asked(guest.qmp, "d0", 16 * MIB)
        driver.order("free 0", "freed")
        driver.there(0, 16 * MIB)
        assert not guest.qmp.take_events("MEMORY_DEVICE_VIOLATION")
        driver.end()


def test_guest_asks(folder):
    """A guest of 256 MiB does a job of 512 MiB, and is back at 256 MiB: nobody touches the monitor."""
    words = "test=driver devices=1 low=32M target=128M high=128M idle=300"
    more = ",guest-requests=on,request-limit=768M"
    args = ["-m", "128M,maxmem=4G", *memory_devices(("1G", "128M", "2M", 0), extra=more)]
    with Machine(folder, words, args, monitor=True) as machine:
        driver = Driver(machine)
        empty = machine.rss_anon_bytes()
        machine.type("job 512M")
        machine.console.expect(rf"^job bytes={512 * MIB} wrong=0$")
        driver.there(0, 128 * MIB)
        assert machine.rss_anon_bytes() - empty < 160 * MIB
        sizes = re.findall(r"^driver 0 plugged=(\d+)", machine.console.text, re.MULTILINE)
        assert max(map(int, sizes)) >= 512 * MIB
        monitor = machine.monitor()
        unharmed(monitor, 1)
        assert monitor.virtio_mem("d0")["Requested size"] == f"{128 * MIB} bytes"
        driver.end()
