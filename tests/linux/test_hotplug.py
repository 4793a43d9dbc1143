# SPDX-License-Identifier: BSD-3-Clause
"""Devices behind PCI Express root ports, with Debian's own kernels: there from the start, and coming
and going while the guest runs."""

from guests import MIB, NEWEST, machine, power_off, read

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
