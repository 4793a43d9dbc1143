# SPDX-License-Identifier: BSD-3-Clause
"""Memory devices that come to and go from slots of a flat root bus by ACPI, and the functions of
slots: as test_hotplug.py, with a guest that does what ACPI's methods would."""

import re

import pytest

import ebbvm
from hotplugs import (
    MIB,
    PATH,
    came,
    deleted,
    devices,
    finish,
    machine,
    memory,
    reset_while_asked,
    resize,
    use_and_go,
)


def flat(folder, append="", **options):
    """A machine with a flat bus, whose guest looks after its slots; ports are on the bus, too."""
    ports = options.pop("ports", 0)
    return machine(folder, f"slots=on {append}", kind="pc", ports=ports, **options)


def ready(vm, ports=0):
    vm.console.expect("^hotplug: slots$")
    vm.console.expect(rf"^hotplug: ready ports={ports}$")


def places(qmp):
    """Where on the root bus the functions are, by id."""
    (bus,) = qmp.execute("query-pci")
    return {d["qdev_id"]: (d["slot"], d["function"]) for d in bus["devices"] if d["qdev_id"]}


@pytest.mark.parametrize("irq", ["", "irq=intx"])
def test_whole_way(folder, irq):
    """The first free slot, one by its number, and the first again; the same memory each time."""
    with flat(folder, irq) as vm:
        qmp = vm.qmp()
        ready(vm)
        regions = []
        for slot, where in ((1, {}), (30, {"addr": "0x1e"}), (1, {"bus": "pci.0"})):
            assert qmp.execute("device_add", **memory(**where)) == {}
            regions.append(came(vm, f"s{slot}"))
            assert places(qmp)["d0"] == (slot, 0)
            use_and_go(vm, qmp, f"s{slot}")
            assert "d0" not in places(qmp)
        assert len(set(regions)) == 1
        assert qmp.execute("object-del", id="m0") == {}
        finish(vm)


def test_beside_ports(folder):
    """Root ports have their own way, and their slots do not take anything else."""
    with flat(folder, ports=1) as vm:
        qmp = vm.qmp()
        ready(vm, ports=1)
        qmp.execute("device_add", **memory(0, bus="p0"))
        came(vm, 0)
        qmp.execute("device_add", **memory(1))
        came(vm, "s2")
        for where, part in (("1", "in use"), ("2", "in use"), ("0", "host bridge"), ("4.1", "4.1")):
            error = qmp.error("device_add", memory(2, bus="pci.0", addr=where))
            assert error.error_class == "GenericError" and part in error.desc, error.desc
        assert sorted(devices(qmp)) == ["d0", "d1"]
        for device, place in (("d0", 0), ("d1", "s2")):
            resize(vm, qmp, place, device, 32 * MIB)
            resize(vm, qmp, place, device, 0)
            qmp.execute("device_del", id=device)
            deleted(qmp, device)
        finish(vm)


def test_no_slot_is_left(folder):
    args = []
    for number in range(31):
        args += ["-device", f"virtio-rng-pci,id=r{number}"]
    with flat(folder, args=args) as vm:
        qmp = vm.qmp()
        ready(vm)
        error = qmp.error("device_add", memory())
        assert error.error_class == "GenericError" and "all 32 PCI slots are in use" in error.desc
        assert devices(qmp) == {}
        # One that was there from the start goes as well, where the guest gives it.
        qmp.execute("device_del", id="r6")
        finish(vm)


def test_q35_has_no_such_slots(folder):
    with machine(folder) as vm:
        qmp = vm.qmp()
        vm.console.expect("^hotplug: ready ports=2$")
        error = qmp.error("device_add", memory(bus="pcie.0"))
        assert "Bus 'pcie.0' does not support hotplugging" in error.desc
        finish(vm)


@pytest.mark.parametrize("slot", [1, 31])
def test_guest_keeps_it(folder, slot):
    """By the object's _OST; the last slot is one like the others."""
    with flat(folder, "answer=keep") as vm:
        qmp = vm.qmp()
        ready(vm)
        qmp.execute("device_add", **memory(addr=f"{slot:#x}"))
        came(vm, f"s{slot}")
        for _ in range(3):
            qmp.execute("device_del", id="d0")
            event = qmp.wait_event("DEVICE_UNPLUG_GUEST_ERROR")
            assert event["data"] == {"device": "d0", "path": PATH + "d0"}
        assert list(devices(qmp)) == ["d0"] and not qmp.take_events("DEVICE_DELETED")
        finish(vm)


def test_devices_of_the_bus_stay(folder):
    """Where that was asked for: no registers for the guest, and behind a port all is as ever."""
    args = ["-global", "PIIX4_PM.acpi-root-pci-hotplug=off", "-device", "virtio-rng-pci,id=r0"]
    args += ["-device", "piix3-usb-uhci,id=usb"]
    with machine(folder, "", kind="pc", ports=1, args=args) as vm:
        qmp = vm.qmp()
        vm.console.expect("^hotplug: ready ports=1$")
        error = qmp.error("device_add", memory(0, bus="pci.0"))
        assert "Bus 'pci.0' does not support hotplugging" in error.desc
        assert "stays while the machine" in qmp.error("device_del", {"id": "r0"}).desc
        assert "'usb' is a piix3-usb-uhci" in qmp.error("device_del", {"id": "usb"}).desc
        qmp.execute("device_add", **memory())
        came(vm, 0)
        resize(vm, qmp, 0, "d0", 64 * MIB)
        finish(vm)


def test_guest_takes_it_out(folder):
    """Nobody asked, and its memory is in use: it is the host's again."""
    with flat(folder) as vm:
        qmp = vm.qmp()
        ready(vm)
        for number in range(2):
            qmp.execute("device_add", **memory(number, prealloc=True))
            came(vm, f"s{number + 1}")
        before = vm.rss_anon_bytes()
        resize(vm, qmp, "s1", "d0", 64 * MIB)
        resize(vm, qmp, "s2", "d1", 32 * MIB)
        vm.type("off s1")
        deleted(qmp, "d0")
        assert vm.rss_anon_bytes() < before + 48 * MIB
        assert {name: d["size"] for name, d in devices(qmp).items()} == {"d1": 32 * MIB}
        qmp.execute("device_add", **memory(0))
        came(vm, "s1")
        resize(vm, qmp, "s1", "d0", 128 * MIB)
        finish(vm)


def test_reset_ends_the_waiting(folder):
    with flat(folder, "answer=ignore") as vm:
        qmp = vm.qmp()
        ready(vm)
        reset_while_asked(vm, qmp, "s1", "s2")
        vm.console.expect("^hotplug: ready ports=0$")
        qmp.execute("device_add", **memory())
        came(vm, "s1")
        finish(vm)


@pytest.mark.parametrize("when", ["prelaunch", "paused"])
def test_plugged_into_a_stopped_machine(folder, when):
    with flat(folder, args=["-S"]) as vm:
        qmp = vm.qmp()
        if when == "paused":
            qmp.execute("cont")
            ready(vm)
            qmp.execute("stop")
        qmp.execute("device_add", **memory(**{"requested-size": 64 * MIB}))
        qmp.execute("cont")
        came(vm, "s1")
        vm.console.expect(rf"^hotplug s1 plugged={64 * MIB}$")
        resize(vm, qmp, "s1", "d0", 0)
        qmp.execute("stop")
        qmp.execute("device_del", id="d0")
        assert list(devices(qmp)) == ["d0"]
        qmp.execute("cont")
        deleted(qmp, "d0")
        finish(vm)


def test_functions(folder):
    """Root ports in all functions of two slots, as managers write them, each with its own bus and
    windows; the pins of a slot's ports are one."""
    args = []
    for number in range(14):
        more = ",multifunction=on" if number % 8 == 0 else ""
        args += ["-device"]
        args += [
            f"pcie-root-port,port={8 + number},chassis={number + 1},id=pci.{number + 1},"
            f"bus=pcie.0,addr={1 + number // 8:#x}.{number % 8:#x}{more}"
        ]
    with machine(folder, "port-irq=intx", ports=0, args=args) as vm:
        qmp = vm.qmp()
        vm.console.expect("^hotplug: ready ports=14$")
        (bus,) = qmp.execute("query-pci")
        ports = [d for d in bus["devices"] if d["qdev_id"]]
        assert [(d["qdev_id"], d["slot"], d["function"]) for d in ports] == [
            (f"pci.{n + 1}", 1 + n // 8, n % 8) for n in range(14)
        ]
        bridges = [d["pci_bridge"]["bus"] for d in ports]
        assert [b["secondary"] for b in bridges] == list(range(1, 15))
        ends = sorted(
            (b[part]["base"], b[part]["limit"])
            for b in bridges
            for part in ("memory_range", "prefetchable_range")
        )
        assert all(a[1] < b[0] for a, b in zip(ends, ends[1:]))
        for number, port in enumerate((2, 7, 13)):
            qmp.execute("device_add", **memory(number, bus=f"pci.{port + 1}", addr="0x0"))
            came(vm, port)
            resize(vm, qmp, port, f"d{number}", 64 * MIB)
        for number, port in enumerate((2, 7, 13)):
            resize(vm, qmp, port, f"d{number}", 0)
            qmp.execute("device_del", id=f"d{number}")
            vm.console.expect(rf"^hotplug {port} off$")
            deleted(qmp, f"d{number}")
        finish(vm)


def test_devices_share_a_slot(folder):
    """On the root bus, in any order, and behind a port. They stay, or the guest takes out all."""
    args = ["-device", "virtio-rng-pci,id=r1,addr=3.1"]
    args += ["-device", "virtio-rng-pci,id=r0,addr=0x3,multifunction=on"]
    args += ["-device", "pcie-root-port,id=p0,addr=4"]
    args += ["-device", "virtio-mem-pci,id=b0,memdev=m0,bus=p0,multifunction=on"]
    args += ["-device", "virtio-rng-pci,id=b5,bus=p0,addr=0.5"]
    with flat(folder, args=args) as vm:
        qmp = vm.qmp()
        came(vm, 0)
        vm.console.expect("^hotplug: ready ports=1$")
        assert places(qmp) == {"r0": (3, 0), "r1": (3, 1), "p0": (4, 0)}
        text = vm.monitor().run("info pci")
        assert re.search(r"Bus  1, device   0, function 5:", text)
        for device in ("r0", "r1", "b0", "b5"):
            error = qmp.error("device_del", {"id": device})
            assert error.error_class == "GenericError" and "shares its slot" in error.desc
        error = qmp.error("device_add", memory(1, bus="p0", addr="0.6"))
        assert "0.6" in error.desc
        resize(vm, qmp, 0, "b0", 64 * MIB)
        vm.type("off 0")
        gone = [qmp.wait_event("DEVICE_DELETED")["data"]["device"] for _ in range(2)]
        assert sorted(gone) == ["b0", "b5"]
        assert devices(qmp) == {}
        qmp.execute("device_add", **memory(1, bus="p0"))
        came(vm, 0)
        finish(vm)


@pytest.mark.parametrize("test", ["pci"])
def test_functions_answer(folder, test):
    """Configuration space of every function by both ways, as any guest looks for them."""
    words = ["-machine", "q35", "-m", "128M", "-device", "virtio-rng-pci,addr=3,multifunction=on"]
    words += ["-device", "virtio-rng-pci,addr=3.7"]
    with ebbvm.Machine(folder, f"test={test}", words) as vm:
        assert vm.wait() == 0, vm.errors.text
        ebbvm.passed(vm.console.text)
        assert re.search(r"^pci 0:3\.7 id 0x10441af4", vm.console.text, re.M)
