# SPDX-License-Identifier: BSD-3-Clause
"""Devices behind PCI Express root ports and in slots of a flat bus, with Debian's own kernels: there from
the start, and coming and going while the guest runs."""

import json
import os

from guests import MIB, NEWEST, QUICK, machine, power_off, read

ROOT_PORT = "0x1b36 0x000c"
VIRTIO_MEM = "0x1af4 0x1058"


def port(number, slot, function, *, more=False):
    """A root port as libvirt writes it."""
    text = f"pcie-root-port,port={8 + number},chassis={1 + number},id=pci.{1 + number},bus=pcie.0"
    return ["-device", f"{text}{',multifunction=on' if more else ''},addr=0x{slot:x}.0x{function:x}"]


def pci_devices(vm):
    """{address: "vendor device"} of what the guest has found."""
    done = vm.console.run(
        "cd /sys/bus/pci/devices && for d in *; do echo $d $(cat $d/vendor $d/device); done"
    )
    assert done.status == 0, done.output
    return dict(line.split(" ", 1) for line in done.output.splitlines())


def test_there_from_the_start(host):
    """Ports that share a slot, devices behind them, an empty one: every device is where the command
    line says, works, and does so again after a reset."""
    words = ["-machine", "q35", *port(0, 1, 0, more=True), *port(1, 1, 1), *port(2, 3, 0)]
    words += ["-object", "memory-backend-ram,id=mem0,size=1G"]
    words += ["-device", "virtio-mem-pci,id=vm0,memdev=mem0,requested-size=512M,bus=pci.2"]
    words += ["-device", "virtio-rng-pci,bus=pci.1,addr=0x0"]
    with machine(host, NEWEST, *words, memory="1G,maxmem=2G") as vm:
        for start in range(2):
            vm.boot()
            found = pci_devices(vm)
            assert [at for at in found if found[at] == ROOT_PORT] == [
                "0000:00:01.0",
                "0000:00:01.1",
                "0000:00:03.0",
            ]
            assert found["0000:02:00.0"] == VIRTIO_MEM
            assert found["0000:01:00.0"] == "0x1af4 0x1044"
            assert vm.await_request("vm0") == "done"
            assert vm.plugged() == {0: 512 * MIB}
            assert read(vm, "/sys/class/misc/hw_random/rng_current").startswith("virtio_rng")
            if start == 0:
                vm.process.write("reboot -f\n")
        power_off(vm)


class Events:
    """A monitor for programs of the machine, for what it tells by itself."""

    SOCKET = "qmp"
    TIMEOUT_S = 120

    def __init__(self, host):
        self.stream = host.connect(host.path(self.SOCKET))
        self.stream.expect(rb'"QMP"', self.TIMEOUT_S)
        self.stream.write('{"execute": "qmp_capabilities"}\n')
        self.stream.expect(rb'"return": *\{\}', self.TIMEOUT_S)

    @classmethod
    def words(cls, host):
        return ["-qmp", f"unix:{host.path(cls.SOCKET)},server=on,wait=off"]

    def await_deleted(self, device):
        """The data of the next DEVICE_DELETED, which must be DEVICE's."""
        found = self.stream.expect(rb'[^\n]*"DEVICE_DELETED"[^\n]*', self.TIMEOUT_S)
        data = json.loads(found.group())["data"]
        assert data == {"device": device, "path": f"/machine/peripheral/{device}"}


def guest_waits(vm, condition):
    """The guest's shell runs until CONDITION is true."""
    done = vm.console.run(f"until {condition}; do sleep 0.1; done", Events.TIMEOUT_S)
    assert done.status == 0, done.output


def numa_words(host):
    words = ["-machine", "q35", "-numa", "node,nodeid=0,cpus=0", "-numa", "node,nodeid=1"]
    words += [*port(0, 1, 0, more=True), *port(1, 1, 1), *Events.words(host)]
    for number in range(2):
        words += ["-object", f"memory-backend-ram,id=mem{number},size=1G"]
    return words


def settle(vm, base, node, size_mib):
    """Resize vm0; the guest and the monitor agree on where its memory is."""
    assert vm.hmp(f"virtio-mem vm0 {size_mib}") == ""
    assert vm.await_request("vm0") == "done"
    plugged, total = vm.await_agreement(base)
    assert plugged[node] == size_mib * MIB
    assert total[node] - base[node] == size_mib * MIB


# Device of which node, where it is put, the bus that it comes to. With EBB_ALL=1 again and again.
COMINGS = [(1, "", 1), (0, ",bus=pci.2", 2), (1, ",bus=pci.1,addr=0", 1)]


def test_come_and_go(host):
    """A memory device comes while the guest runs, gives the node that it is of memory, and leaves
    when it has none. Other devices do not notice."""
    words = numa_words(host)
    with machine(host, NEWEST, *words, memory="2G,maxmem=8G", append=QUICK) as vm:
        vm.boot()
        events = Events(host)
        for node, given, bus in COMINGS if os.environ.get("EBB_ALL") == "1" else COMINGS[:1]:
            address = f"0000:0{bus}:00.0"
            base = vm.mem_total()
            added = f"virtio-mem-pci,id=vm0,memdev=mem0,node={node}{given}"
            assert vm.hmp(f"device_add {added}") == ""
            guest_waits(vm, f"test -e /sys/bus/pci/devices/{address}/driver")
            assert pci_devices(vm)[address] == VIRTIO_MEM
            settle(vm, base, node, 512)
            assert "512 MiB" in vm.hmp("device_del vm0")
            settle(vm, base, node, 0)
            assert vm.hmp("device_del vm0") == ""
            assert "again" in vm.hmp("device_del vm0")
            events.await_deleted("vm0")
            assert vm.hmp("info memory-devices") == ""
            guest_waits(vm, f"! test -e /sys/bus/pci/devices/{address}")
        power_off(vm)


def test_stays_over_a_reset(host):
    """What came later is there after a reset as from the start, on its node. Another kind of device
    comes beside it, and goes as the guest's administrator wants."""
    with machine(host, NEWEST, *numa_words(host), memory="2G,maxmem=8G", append=QUICK) as vm:
        vm.boot()
        events = Events(host)
        base = vm.mem_total()
        added = "virtio-mem-pci,id=vm0,memdev=mem0,node=1,requested-size=512M,bus=pci.2"
        assert vm.hmp(f"device_add {added}") == ""
        guest_waits(vm, "test -e /sys/bus/pci/devices/0000:02:00.0/driver")
        settle(vm, base, 1, 512)
        vm.process.write("reboot -f\n")
        vm.boot()
        assert pci_devices(vm)["0000:02:00.0"] == VIRTIO_MEM
        assert vm.await_request("vm0") == "done"
        assert vm.plugged() == {1: 512 * MIB}
        # Of the boot memory the kernel itself may have taken a little more or less this time.
        base = vm.await_online({1: base[1] + 448 * MIB})
        base[1] -= 512 * MIB
        assert vm.hmp("device_add virtio-rng-pci,id=rng0") == ""
        guest_waits(vm, "grep -q virtio_rng /sys/class/misc/hw_random/rng_available")
        done = vm.console.run("echo 0 > /sys/bus/pci/slots/0/power")
        assert done.status == 0, done.output
        events.await_deleted("rng0")
        guest_waits(vm, "! test -e /sys/bus/pci/devices/0000:01:00.0")
        settle(vm, base, 1, 0)
        power_off(vm)


def test_slots_of_a_flat_bus(host):
    """On machine pc devices come to and go from the bus by ACPI: into the first free slot and into one
    with a number, as the monitor asks and as the guest's administrator wants, and over a reset."""
    words = ["-machine", "pc", "-device", "virtio-rng-pci", *Events.words(host)]
    words += ["-object", "memory-backend-ram,id=mem0,size=1G"]
    with machine(host, NEWEST, *words, memory="2G,maxmem=8G", append=QUICK) as vm:
        vm.boot()
        events = Events(host)
        for given, slot in (("", "02"), (",bus=pci.0,addr=0x1d", "1d")):
            address = f"0000:00:{slot}.0"
            base = vm.mem_total()
            assert vm.hmp(f"device_add virtio-mem-pci,id=vm0,memdev=mem0{given}") == ""
            guest_waits(vm, f"test -e /sys/bus/pci/devices/{address}/driver")
            assert pci_devices(vm)[address] == VIRTIO_MEM
            settle(vm, base, 0, 512)
            assert "device_del" in vm.hmp("device_del vm0")
            settle(vm, base, 0, 0)
            assert vm.hmp("device_del vm0") == ""
            events.await_deleted("vm0")
            guest_waits(vm, f"! test -e /sys/bus/pci/devices/{address}")
        for ask in ("device_del", "power off"):
            assert vm.hmp("device_add virtio-rng-pci,id=rng1,addr=5") == ""
            guest_waits(vm, "test -e /sys/bus/pci/devices/0000:00:05.0/driver")
            if ask == "device_del":
                assert vm.hmp("device_del rng1") == ""
            else:
                done = vm.console.run("echo 0 > /sys/bus/pci/slots/5/power")
                assert done.status == 0, done.output
            events.await_deleted("rng1")
            guest_waits(vm, "! test -e /sys/bus/pci/devices/0000:00:05.0")
        assert vm.hmp("device_add virtio-mem-pci,id=vm0,memdev=mem0,requested-size=512M") == ""
        vm.process.write("reboot -f\n")
        vm.boot()
        assert pci_devices(vm)["0000:00:02.0"] == VIRTIO_MEM
        assert vm.await_request("vm0") == "done"
        assert vm.plugged() == {0: 512 * MIB}
        power_off(vm)
