# SPDX-License-Identifier: BSD-3-Clause
"""Memory devices that come and go behind root ports, with a guest that drives the ports itself."""

import pathlib
import select
import time

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
from qmp import QmpError

UNPLUG_WAIT_S = 5


@pytest.mark.parametrize("kind", ["q35", "pc"])
@pytest.mark.parametrize("irq", ["", "irq=intx", "port-irq=intx"])
def test_whole_way(folder, kind, irq):
    """Plugged, used, shrunk, asked back, gone: and the same memory again on the other port. With
    messages, and with the pins of devices behind ports or of the ports."""
    with machine(folder, irq, kind=kind) as vm:
        qmp = vm.qmp()
        vm.console.expect("^hotplug: ready ports=2$")
        places = []
        for port in (0, 1, 0):
            assert qmp.execute("device_add", **memory(bus=f"p{port}", node=0)) == {}
            places.append(came(vm, port))
            assert devices(qmp)["d0"]["memaddr"] == places[-1][0]
            use_and_go(vm, qmp, port)
            assert qmp.error("device_del", {"id": "d0"}).error_class == "DeviceNotFound"
        assert len(set(places)) == 1 and places[0][1] == 256 * MIB
        # What it used is free.
        assert qmp.execute("object-del", id="m0") == {}
        finish(vm)


def test_ports_are_chosen_and_run_out(folder):
    """Without bus= the first free port; none left is refused, and so is the root bus."""
    with machine(folder) as vm:
        qmp = vm.qmp()
        monitor = vm.monitor()
        vm.console.expect("^hotplug: ready ports=2$")
        assert monitor.run("device_add virtio-mem-pci,id=d0,memdev=m0") == ""
        came(vm, 0)
        assert qmp.execute("device_add", **memory(1)) == {}
        came(vm, 1)
        refused = (
            (memory(2), "root port"),
            (memory(2, bus="p0"), "in use"),
            (memory(2, bus="pcie.0"), "pcie.0"),
            (memory(2, bus="nowhere"), "nowhere"),
            (memory(2, bus="p1", addr="1"), "addr"),
            (memory(0), "d0"),
            ({"driver": "pcie-root-port", "id": "p9"}, "virtio-mem-pci"),
            ({"driver": "nothing"}, "nothing"),
        )
        before = devices(qmp)
        for values, part in refused:
            error = qmp.error("device_add", values)
            assert error.error_class == "GenericError" and part in error.desc, error.desc
        assert devices(qmp) == before
        for port in ("p0", "pcie.0"):
            wanted = "GenericError" if port == "p0" else "DeviceNotFound"
            assert qmp.error("device_del", {"id": port}).error_class == wanted
        # After a failure everything is as free as before.
        qmp.execute("device_del", id="d1")
        deleted(qmp, "d1")
        refused = ({"memdev": "m0"}, {"memaddr": 4096}, {"node": 9}, {"memslot-size": 3 * MIB})
        for wrong in refused:
            name = next(iter(wrong))
            part = "in use" if name == "memdev" else name
            assert part in qmp.error("device_add", memory(2, bus="p1", **wrong)).desc
        assert list(devices(qmp)) == ["d0"]
        assert qmp.execute("device_add", **memory(2, bus="p1")) == {}
        came(vm, 1)
        finish(vm)


def test_fixed_port(folder):
    """Behind a port with hotplug=off, and on the root bus, devices stay."""
    args = ["-device", "pcie-root-port,id=fixed,hotplug=off,slot=9"]
    args += ["-device", "pcie-root-port,id=bare,hotplug=off,slot=10"]
    args += ["-device", "virtio-rng-pci,id=r0,bus=fixed", "-device", "virtio-rng-pci,id=r1"]
    with machine(folder, ports=1, args=args) as vm:
        qmp = vm.qmp()
        vm.console.expect("^hotplug: ready ports=1$")
        for device in ("r0", "r1"):
            error = qmp.error("device_del", {"id": device})
            assert error.error_class == "GenericError" and device in error.desc
        error = qmp.error("device_add", memory(bus="bare"))
        assert error.error_class == "GenericError" and "bare" in error.desc
        qmp.execute("device_add", **memory())
        came(vm, 0)
        finish(vm)


def ask_until_taken(qmp, device):
    """Ask for DEVICE as soon as it may be asked for again; the seconds that it took. It is a state
    that ends with time: there is nothing to wait for."""
    begin = time.monotonic()
    while True:
        try:
            qmp.execute("device_del", id=device)
            return time.monotonic() - begin
        except QmpError as error:
            assert "again" in error.desc
        assert time.monotonic() - begin < ebbvm.TIMEOUT_S
        select.select([], [], [], 0.05)


def test_asked_again(folder):
    """A guest that does not answer is not asked again at once, for it would take that for a no; but
    it is later."""
    with machine(folder, "answer=ignore") as vm:
        qmp = vm.qmp()
        vm.console.expect("^hotplug: ready")
        qmp.execute("device_add", **memory())
        came(vm, 0)
        asked = time.monotonic()
        qmp.execute("device_del", id="d0")
        vm.console.expect("^hotplug 0 asked$")
        error = qmp.error("device_del", {"id": "d0"})
        assert error.error_class == "GenericError" and "again" in error.desc
        ask_until_taken(qmp, "d0")
        assert time.monotonic() - asked >= UNPLUG_WAIT_S
        vm.console.expect("^hotplug 0 asked$")
        assert list(devices(qmp)) == ["d0"]
        vm.type("off 0")
        deleted(qmp, "d0")
        finish(vm)


def test_guest_is_busy(folder):
    """While the slot's power indicator blinks a request would call off the one before."""
    with machine(folder, "answer=blink") as vm:
        qmp = vm.qmp()
        vm.console.expect("^hotplug: ready")
        qmp.execute("device_add", **memory())
        came(vm, 0)
        qmp.execute("device_del", id="d0")
        vm.console.expect("^hotplug 0 blinks$")
        assert "again" in qmp.error("device_del", {"id": "d0"}).desc
        vm.type("off 0")
        deleted(qmp, "d0")
        finish(vm)


def test_guest_keeps_it(folder):
    """A guest that says no is heard, and may be asked again at once."""
    with machine(folder, "answer=keep") as vm:
        qmp = vm.qmp()
        vm.console.expect("^hotplug: ready")
        qmp.execute("device_add", **memory())
        came(vm, 0)
        for _ in range(3):
            qmp.execute("device_del", id="d0")
            event = qmp.wait_event("DEVICE_UNPLUG_GUEST_ERROR")
            assert event["data"] == {"device": "d0", "path": PATH + "d0"}
        qmp.execute("system_reset")
        came(vm, 0)
        assert list(devices(qmp)) == ["d0"] and not qmp.take_events("DEVICE_DELETED")
        finish(vm)


def test_guest_takes_it_out(folder):
    """Nobody asked, and its memory is in use: it is the host's again, and the guest's loss."""
    with machine(folder) as vm:
        qmp = vm.qmp()
        vm.console.expect("^hotplug: ready")
        for number in range(2):
            qmp.execute("device_add", **memory(number, prealloc=True))
            came(vm, number)
        resize(vm, qmp, 1, "d1", 32 * MIB)
        before = vm.rss_anon_bytes()
        resize(vm, qmp, 0, "d0", 64 * MIB)
        assert vm.rss_anon_bytes() >= before + 64 * MIB
        vm.type("off 0")
        deleted(qmp, "d0")
        assert vm.rss_anon_bytes() < before + 16 * MIB
        assert {name: d["size"] for name, d in devices(qmp).items()} == {"d1": 32 * MIB}
        summary = qmp.execute("query-memory-size-summary")
        assert summary["plugged-memory"] == 32 * MIB
        # The other one works as before, and so does the next on the same memory.
        resize(vm, qmp, 1, "d1", 96 * MIB)
        qmp.execute("device_add", **memory(0))
        came(vm, 0)
        resize(vm, qmp, 0, "d0", 128 * MIB)
        finish(vm)


def test_reset_ends_the_waiting(folder):
    """What the guest was asked for is gone after a reset; what it has is there as from the start."""
    with machine(folder, "answer=ignore") as vm:
        qmp = vm.qmp()
        vm.console.expect("^hotplug: ready")
        reset_while_asked(vm, qmp, 0, 1)
        vm.console.expect("^hotplug: ready ports=2$")
        assert list(devices(qmp)) == ["d1"]
        qmp.execute("device_add", **memory())
        came(vm, 0)
        # One that is wanted again stays.
        qmp.execute("device_del", id="d0")
        vm.console.expect("^hotplug 0 asked$")
        resize(vm, qmp, 0, "d0", 32 * MIB)
        qmp.execute("system_reset")
        came(vm, 0)
        assert list(devices(qmp)) == ["d1", "d0"]
        finish(vm)


@pytest.mark.parametrize("when", ["prelaunch", "paused"])
def test_plugged_into_a_stopped_machine(folder, when):
    with machine(folder, args=["-S"]) as vm:
        qmp = vm.qmp()
        if when == "paused":
            qmp.execute("cont")
            vm.console.expect("^hotplug: ready")
            qmp.execute("stop")
        qmp.execute("device_add", **memory(**{"requested-size": 64 * MIB}))
        assert qmp.execute("query-status")["status"] == when
        assert devices(qmp)["d0"]["requested-size"] == 64 * MIB
        qmp.execute("cont")
        came(vm, 0)
        vm.console.expect(rf"^hotplug 0 plugged={64 * MIB}$")
        resize(vm, qmp, 0, "d0", 0)
        qmp.execute("stop")
        qmp.execute("device_del", id="d0")
        assert list(devices(qmp)) == ["d0"]
        qmp.execute("cont")
        deleted(qmp, "d0")
        finish(vm)


def test_no_driver(folder):
    """A guest that never looks at its ports: what it has no power for goes without it."""
    with machine(folder, "test=echo") as vm:
        qmp = vm.qmp()
        vm.console.expect("^echo: ready$")
        for values in (memory(), {"driver": "virtio-rng-pci", "id": "r0", "bus": "p1"}):
            qmp.execute("device_add", **values)
            qmp.execute("device_del", id=values["id"])
            deleted(qmp, values["id"])
        assert devices(qmp) == {}
        # With power, after a reset, it stays until it is given up or the next reset.
        qmp.execute("device_add", **memory())
        qmp.execute("system_reset")
        vm.console.expect("^echo: ready$")
        qmp.execute("device_del", id="d0")
        assert list(devices(qmp)) == ["d0"]
        assert "again" in qmp.error("device_del", {"id": "d0"}).desc
        qmp.execute("system_reset")
        deleted(qmp, "d0")
        assert devices(qmp) == {}


def test_a_balloon(folder):
    """There is one at most; it goes without power, and with power at a reset."""
    with machine(folder, "test=echo") as vm:
        qmp = vm.qmp()
        vm.console.expect("^echo: ready$")
        for power in (False, True):
            assert qmp.error("query-balloon").error_class == "DeviceNotActive"
            qmp.execute("device_add", driver="virtio-balloon-pci", id="b0", bus="p0")
            assert qmp.execute("query-balloon") == {"actual": 128 * MIB}
            another = {"driver": "virtio-balloon-pci", "id": "b1", "bus": "p1"}
            assert "one already" in qmp.error("device_add", another).desc
            qmp.execute("balloon", value=64 * MIB)
            if power:
                qmp.execute("system_reset")
                vm.console.expect("^echo: ready$")
            qmp.execute("device_del", id="b0")
            if power:
                qmp.execute("system_reset")
            deleted(qmp, "b0")


def test_many_times(folder):
    """Nothing is left over: descriptors, threads and memory are as before."""
    with machine(folder, ports=1) as vm:
        qmp = vm.qmp()
        vm.console.expect("^hotplug: ready")
        held = []
        for turn in range(12):
            qmp.execute("device_add", **memory())
            came(vm, 0)
            resize(vm, qmp, 0, "d0", 32 * MIB)
            resize(vm, qmp, 0, "d0", 0)
            qmp.execute("device_del", id="d0")
            deleted(qmp, "d0")
            process = pathlib.Path(f"/proc/{vm.process.pid}")
            held.append([len(list((process / part).iterdir())) for part in ("fd", "task")])
        assert held[2:] == held[1:-1], held
        finish(vm)
