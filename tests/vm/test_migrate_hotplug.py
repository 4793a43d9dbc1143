# SPDX-License-Identifier: BSD-3-Clause
"""A guest is moved in the middle of a plug or an unplug: what it was about to be told it is told in
the other process, once, and what it does then counts there."""

import pathlib

import pytest

import ebbvm
from migrating import MIB, UNLIMITED, Guest, ended, live, prepare, succeed

PATH = "/machine/peripheral/"
# A device behind the first port, or in the first free slot of the root bus; as the guest calls it.
PORT = {"place": "0", "bus": "p0"}
SLOT = {"place": "s3", "bus": "pci.0"}
WIRES = pytest.mark.parametrize(
    "append, where",
    [("", PORT), ("irq=intx", PORT), ("port-irq=intx", PORT), ("slots=on", SLOT)],
)


def guest_of(folder, append):
    words = ["-m", "128M,maxmem=8G", "-object", "memory-backend-ram,id=m0,size=256M"]
    for number in range(2):
        words += ["-device", f"pcie-root-port,id=p{number},slot={number}"]
    guest = Guest(pathlib.Path(folder), f"test=hotplug {append}", words)
    guest.machine.console.expect("^hotplug: ready ports=2$")
    return guest


def plug(guest, where=PORT):
    """Into the machine; the ones that its guest moves to have it from the start."""
    guest.qmp.execute(
        "device_add", driver="virtio-mem-pci", id="d0", memdev="m0", bus=where["bus"]
    )
    guest.args += ["-device", f"virtio-mem-pci,id=d0,memdev=m0,bus={where['bus']}"]


def move_stopped(guest):
    """To another process, where it goes on."""
    target, qmp, uri = prepare(guest, "unix:HERE", {}, {"max_bandwidth": UNLIMITED})
    qmp.execute("migrate-incoming", uri=uri)
    guest.qmp.execute("migrate", uri=uri)
    succeed(guest.qmp)
    succeed(qmp)
    assert qmp.execute("query-status")["status"] == "paused"
    guest.became(target, qmp)
    qmp.execute("cont")


def came(guest, where=PORT):
    place = where["place"]
    guest.machine.console.expect(rf"^hotplug {place} came addr=0x\w+ size=268435456 node=0$")


def resize(guest, size, where=PORT):
    guest.qmp.execute("qom-set", path=PATH + "d0", property="requested-size", value=size)
    guest.machine.console.expect(rf"^hotplug {where['place']} plugged={size}$")


def deleted(guest):
    event = guest.qmp.wait_event("DEVICE_DELETED")
    assert event["data"] == {"device": "d0", "path": PATH + "d0"}
    assert guest.qmp.execute("query-memory-devices") == []


def finish(guest):
    guest.machine.type("quit")
    assert guest.machine.wait() == 0, guest.machine.errors.text
    ebbvm.passed(guest.machine.console.text)


@WIRES
def test_plugged_and_asked_back_while_stopped(folder, append, where):
    """The guest has not looked at its slot yet when it moves: neither when a device came, nor when
    it is asked for it."""
    with guest_of(folder, append) as guest:
        guest.qmp.execute("stop")
        plug(guest, where)
        move_stopped(guest)
        came(guest, where)
        resize(guest, 64 * MIB, where)
        live(guest)
        resize(guest, 0, where)
        guest.qmp.execute("stop")
        guest.qmp.execute("device_del", id="d0")
        move_stopped(guest)
        guest.machine.console.expect(f"^hotplug {where['place']} asked$")
        guest.machine.console.expect(f"^hotplug {where['place']} off$")
        deleted(guest)
        finish(guest)


def test_moves_while_it_makes_up_its_mind(folder):
    """The slot's power indicator blinks; then the guest gives the device up, and that is known
    where it runs. A device comes to the same slot again, and stays over a reset."""
    with guest_of(folder, "answer=blink") as guest:
        plug(guest)
        came(guest)
        guest.qmp.execute("device_del", id="d0")
        guest.machine.console.expect("^hotplug 0 blinks$")
        live(guest)
        assert "again" in guest.qmp.error("device_del", {"id": "d0"}).desc
        guest.machine.type("off 0")
        guest.machine.console.expect("^hotplug 0 off$")
        deleted(guest)
        del guest.args[-2:]
        live(guest)
        plug(guest)
        came(guest)
        resize(guest, 32 * MIB)
        live(guest)
        guest.qmp.execute("system_reset")
        came(guest)
        finish(guest)


@pytest.mark.parametrize("append, where", [("", PORT), ("slots=on", SLOT)])
def test_reset_after_it_was_given_up(folder, append, where):
    """A device that the guest gave up waits for the migration's end to go. A guest that starts anew
    in between finds it, has memory of it again, and keeps that."""
    with guest_of(folder, append) as guest:
        plug(guest, where)
        came(guest, where)
        _, qmp, uri = prepare(guest, "unix:HERE", {}, {"max_bandwidth": MIB})
        qmp.execute("migrate-incoming", uri=uri)
        guest.qmp.execute("migrate", uri=uri)
        ended(guest.qmp, "active")
        guest.machine.type(f"off {where['place']}")
        guest.machine.console.expect(f"^hotplug {where['place']} off$")
        guest.qmp.execute("system_reset")
        came(guest, where)
        resize(guest, 64 * MIB, where)
        guest.qmp.execute("migrate_cancel")
        assert ended(guest.qmp) == "cancelled"
        resize(guest, 32 * MIB, where)
        assert not guest.qmp.take_events("DEVICE_DELETED")
        (device,) = guest.qmp.execute("query-memory-devices")
        assert device["data"]["size"] == 32 * MIB
        finish(guest)


@pytest.mark.parametrize("bus", [None, "p1"])
def test_devices_that_are_not_the_same(folder, bus):
    """A device that is missing, or in another slot, is named; the guest goes on where it was."""
    with guest_of(folder, "") as guest:
        plug(guest)
        came(guest)
        words = guest.args[-2:]
        del guest.args[-2:]
        if bus:
            guest.args += [words[0], words[1].replace("bus=p0", f"bus={bus}")]
        target, qmp, uri = prepare(guest, "unix:HERE", {}, {})
        qmp.execute("migrate-incoming", uri=uri)
        guest.qmp.execute("migrate", uri=uri)
        assert ended(guest.qmp) == "failed"
        assert target.wait() == 1
        assert "bus 'p0', slot 0, function 0" in target.errors.text, target.errors.text
        assert "virtio-mem-pci 'd0' at the source" in target.errors.text
        assert guest.qmp.execute("query-status")["status"] == "running"
        resize(guest, 32 * MIB)
        finish(guest)
