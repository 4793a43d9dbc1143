# SPDX-License-Identifier: BSD-3-Clause
"""The RFC's scenario, and resizing in general, with Debian's own kernels as guests.

A resize is done by the guest's stock driver; what came of it is read where the guest's kernel
shows it, never from the monitor alone.
"""

import itertools
import os

import pytest

import scenario
from guests import DRIVER_DISK, MIB, NEWEST, OLDEST, machine, power_off

ALL = os.environ.get("EBB_ALL") == "1"


# With EBB_ALL=1 both kernels, with their own driver and with ours.
PLAYED = itertools.product((NEWEST, OLDEST), ("initrd", DRIVER_DISK)) if ALL else [(NEWEST, "initrd")]


@pytest.mark.parametrize("kernel, disk", PLAYED)
def test_scenario(host, kernel, disk):
    """Every step of the RFC, with its command line and its figures."""
    moments = list(scenario.play(host, kernel, disk=disk))
    assert [moment.step.number for moment in moments] == [2, 3, 4, 5, 6]
    for moment in moments:
        print(f"step {moment.step.number}: {moment.seconds:.1f} s, {moment.node_mib}")
    assert [problem for moment in moments for problem in moment.problems] == []


@pytest.mark.parametrize("kernel", ["6.12-generic", "6.1-generic"] if ALL else ["6.12-generic"])
def test_generic_kernel_resize_keeps_data(host, kernel):
    """One vCPU, the generic kernel: grow, use the new memory, shrink. Nothing is lost."""
    device = "virtio-mem-pci,id=vm0,memdev=mem0,node=0,requested-size=512M"
    words = ["-object", "memory-backend-ram,id=mem0,size=4G", "-device", device]
    with machine(host, kernel, *words, memory="1G,maxmem=8G") as vm:
        vm.boot()
        assert vm.await_request("vm0") == "done"
        base = vm.mem_total()[0] - 512 * MIB
        made = vm.console.run("dd if=/dev/urandom of=/fill/file bs=1M count=32", 120)
        assert made.status == 0, made.output
        before = vm.console.run("md5sum /fill/file", 120).output
        for size_mib in (1536, 384, 768, 0):
            assert vm.hmp(f"virtio-mem vm0 {size_mib}") == ""
            assert vm.await_request("vm0") == "done"
            plugged, total = vm.await_agreement({0: base})
            assert (plugged[0], total[0] - base) == (size_mib * MIB, size_mib * MIB)
        assert vm.console.run("md5sum /fill/file", 120).output == before
        power_off(vm)
