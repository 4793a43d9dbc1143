# SPDX-License-Identifier: BSD-3-Clause
"""A stock kernel's own balloon driver: memory reported free, given up and taken again, of boot
memory and of a memory device's, which goes in the end. What the host holds is read in the host."""

import re
import time

from guests import MIB, NEWEST, QUICK, machine, power_off

BOOT_MIB, DEVICE_MIB, BALLOON_MIB = 512, 256, 64
FILE_MIB = 96  # kernels take movable memory first, which is the device's
FREED_MIB = 64  # of that: reports are of whole pieces of 2 MiB
LATE_MIB = 160  # what the kernel keeps of boot memory for itself
# A kernel that cannot empty a block at once, as while it reports some of it, tries later: in 50 s.
WAIT_S, LOOK_EVERY_S = 120, 0.25
WORDS = ["-object", "memory-backend-memfd,id=mem0,size=1G"]
WORDS += ["-device", f"virtio-mem-pci,id=vm0,memdev=mem0,requested-size={DEVICE_MIB}M"]
WORDS += ["-device", "virtio-balloon-pci,id=b0,free-page-reporting=on"]


def until(look, fits, what):
    """The first value of LOOK that FITS."""
    begin = time.monotonic()
    while not fits(value := look()):
        assert time.monotonic() - begin < WAIT_S, f"{what}: still {value}"
        time.sleep(LOOK_EVERY_S)
    return value


def actual_mib(vm):
    return int(re.search(r"actual=(\d+)", vm.hmp("info balloon")).group(1))


def fill(vm):
    done = vm.console.run(f"dd if=/dev/zero of=/heap/file bs=1M count={FILE_MIB} 2>/dev/null")
    assert done.status == 0, done.output


def test_memory_goes_and_comes(host):
    """The host gets what the guest has no use for, wherever it lies, and gives it again; the memory
    device counts what it counted, and meets no violation."""
    memory = f"{BOOT_MIB}M,maxmem=4G"
    with machine(host, NEWEST, *WORDS, memory=memory, append=QUICK) as vm:
        vm.boot()
        vm.await_online({0: (BOOT_MIB + DEVICE_MIB - LATE_MIB) * MIB})
        total = vm.mem_total()[0]
        assert vm.console.run("mkdir /heap && mount -t tmpfs -o size=1G none /heap").status == 0
        fill(vm)
        full = host.rss_bytes(vm.process.pid)
        assert vm.console.run("rm /heap/file").status == 0
        least = full - FREED_MIB * MIB
        until(lambda: host.rss_bytes(vm.process.pid), lambda rss: rss < least, "reports")
        # Again, and the same memory comes back.
        fill(vm)
        assert host.rss_bytes(vm.process.pid) > least + FREED_MIB // 2 * MIB
        assert vm.console.run("rm /heap/file").status == 0
        vm.hmp(f"balloon {BOOT_MIB - BALLOON_MIB}")
        until(lambda: actual_mib(vm), lambda mib: mib == BOOT_MIB - BALLOON_MIB, "the balloon")
        assert vm.mem_total()[0] == total - BALLOON_MIB * MIB
        vm.hmp(f"balloon {BOOT_MIB}")
        until(lambda: actual_mib(vm), lambda mib: mib == BOOT_MIB, "the balloon")
        assert vm.mem_total()[0] == total
        assert vm.plugged() == {0: DEVICE_MIB * MIB}
        # What was reported, filled and reported again is given up altogether.
        assert vm.hmp("virtio-mem vm0 0") == ""
        until(vm.plugged, lambda plugged: plugged == {0: 0}, "the device")
        until(vm.mem_total, lambda nodes: nodes[0] == total - DEVICE_MIB * MIB, "the guest")
        text = vm.hmp("info virtio-mem vm0")
        assert "Violations: 0 writes, 0 reads" in text, text
        power_off(vm)
