# SPDX-License-Identifier: BSD-3-Clause
"""Machines whose guest looks after slots in which memory devices come and go, and what tests of ports and
of the flat bus do alike. A PLACE is what that guest calls a slot: a port's number, or "sN"."""

import ebbvm

MIB = 1 << 20
PATH = "/machine/peripheral/"


def machine(folder, append="", ports=2, args=(), kind="q35", **options):
    words = ["-machine", kind, "-m", "128M,maxmem=8G", *args]
    for number in range(ports):
        words += ["-device", f"pcie-root-port,id=p{number},slot={number}"]
    for number in range(3):
        words += ["-object", f"memory-backend-ram,id=m{number},size=256M"]
    append = append if "test=" in append else f"test=hotplug {append}"
    return ebbvm.Machine(folder, append, words, qmp=True, monitor=True, **options)


def memory(number=0, **more):
    """The arguments of device_add for device dN on backend mN."""
    return {"driver": "virtio-mem-pci", "id": f"d{number}", "memdev": f"m{number}", **more}


def deleted(qmp, device):
    event = qmp.wait_event("DEVICE_DELETED")
    assert event["data"] == {"device": device, "path": PATH + device}


def devices(qmp):
    return {d["data"]["id"]: d["data"] for d in qmp.execute("query-memory-devices")}


def came(vm, port):
    """(address, size) of the device that came to PORT."""
    match = vm.console.expect(rf"^hotplug {port} came addr=(0x\w+) size=(\d+) node=0$")
    return int(match.group(1), 0), int(match.group(2))


def resize(vm, qmp, port, device, size):
    qmp.execute("qom-set", path=PATH + device, property="requested-size", value=size)
    vm.console.expect(rf"^hotplug {port} plugged={size}$")


def finish(vm):
    vm.type("quit")
    assert vm.wait() == 0, vm.errors.text
    ebbvm.passed(vm.console.text)


def use_and_go(vm, qmp, place):
    """d0, which came to PLACE, gives memory, is refused while it does, is emptied, asked back and gone."""
    resize(vm, qmp, place, "d0", 64 * MIB)
    assert devices(qmp)["d0"]["size"] == 64 * MIB
    error = qmp.error("device_del", {"id": "d0"})
    assert error.error_class == "GenericError" and "64 MiB" in error.desc
    resize(vm, qmp, place, "d0", 0)
    assert qmp.execute("device_del", id="d0") == {}
    vm.console.expect(rf"^hotplug {place} asked$")
    vm.console.expect(rf"^hotplug {place} off$")
    deleted(qmp, "d0")
    assert devices(qmp) == {}


def reset_while_asked(vm, qmp, first, second):
    """d0 and d1 come to the places FIRST and SECOND, d1 gives memory; the guest is asked for d0 and does
    not answer: a reset takes it, and d1 is there as from the start."""
    for number, place in enumerate((first, second)):
        qmp.execute("device_add", **memory(number))
        came(vm, place)
    resize(vm, qmp, second, "d1", 64 * MIB)
    qmp.execute("device_del", id="d0")
    vm.console.expect(rf"^hotplug {first} asked$")
    qmp.execute("system_reset")
    deleted(qmp, "d0")
    qmp.wait_event("RESET")
    came(vm, second)
    vm.console.expect(rf"^hotplug {second} plugged={64 * MIB}$")
