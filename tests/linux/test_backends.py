# SPDX-License-Identifier: BSD-3-Clause
"""A stock kernel on memory of every kind at once: boot memory of huge pages, and devices on private
memory, a memfd, huge pages of a pool, and a file. What the host holds is read in the host."""

import contextlib
import time

import pytest
import scenario

from guests import MIB, NEWEST, QUICK, machine, power_off

POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB"
BOOT_MIB = 512
STATUS_TIMEOUT_S = 120
# (options of the backend, name of its file in the host, "": private)
DEVICES = (
    ("ram", ""),
    ("memfd", "/memfd:mem1"),
    ("memfd,hugetlb=on,hugetlbsize=2M,reserve=off", "/memfd:mem2"),
    ("file,mem-path=/tmp", "/tmp/"),
)
HUGE = 2  # of these
SMALL_MIB, LARGE_MIB = 128, 256
# Pages of 2 MiB: the boot memory's, and for the small size but not for the large one.
PAGES = (BOOT_MIB + SMALL_MIB + 64) // 2


def pool_number(host, name):
    return int(host.check(f"cat {POOL}/{name}"))


@contextlib.contextmanager
def pool(host, pages):
    """That many huge pages in the host."""
    if host.run(f"test -w {POOL}/nr_hugepages").status:
        pytest.skip("the host has no pool of 2 MiB pages that can be set here")
    before = pool_number(host, "nr_hugepages")
    try:
        host.check(f"echo {before + pages} > {POOL}/nr_hugepages")
        if pool_number(host, "free_hugepages") < pages:
            pytest.skip(f"the host cannot set aside {pages} huge pages")
        yield
    finally:
        host.check(f"echo {before} > {POOL}/nr_hugepages")


def held(host, pid, name):
    """Bytes of a backend's file that the host holds."""
    found = host.check(
        f"for f in /proc/{pid}/fd/*; do case $(readlink $f) in {name}*) stat -L -c %b $f;; esac; done"
    )
    return sum(int(blocks) * 512 for blocks in found.split())


def words():
    found = ["-object", f"memory-backend-memfd,id=boot,size={BOOT_MIB}M,hugetlb=on,prealloc=on"]
    found += ["-machine", "memory-backend=boot"]
    for number, (options, _) in enumerate(DEVICES):
        kind, _, rest = options.partition(",")
        rest = f",{rest}" if rest else ""
        found += ["-object", f"memory-backend-{kind},id=mem{number},size=1G{rest}"]
        device = f"virtio-mem-pci,id=vm{number},memdev=mem{number},block-size=2M"
        found += ["-device", f"{device},requested-size={SMALL_MIB}M"]
    return found


def resize(vm, number, size_mib):
    assert vm.hmp(f"virtio-mem vm{number} {size_mib}") == ""
    return vm.await_request(f"vm{number}")


def await_status(vm, number, status):
    """Wait until the monitor says that the device's resize is in this way."""
    begin = time.monotonic()
    while (found := vm.request(f"vm{number}")["Request status"]) != status:
        assert time.monotonic() - begin < STATUS_TIMEOUT_S, found
        time.sleep(scenario.LOOK_EVERY_S)


def check_held(host, vm, wanted_mib):
    """Files hold what is plugged, and nothing else."""
    for number, (_, name) in enumerate(DEVICES):
        if name:
            assert held(host, vm.process.pid, name) == wanted_mib[number] * MIB, name


def test_every_backend_at_once(host):
    sizes = [SMALL_MIB] * len(DEVICES)
    memory = f"{BOOT_MIB}M,maxmem=8G"
    with (
        pool(host, PAGES),
        machine(host, NEWEST, *words(), memory=memory, append=QUICK) as vm,
    ):
        vm.boot()
        for number in range(len(DEVICES)):
            assert vm.await_request(f"vm{number}") == "done"
        total = vm.await_online({0: (sum(sizes) + BOOT_MIB // 2) * MIB})
        base = {0: total[0] - sum(sizes) * MIB}
        check_held(host, vm, sizes)

        for number in range(len(DEVICES)):
            if number != HUGE:
                assert resize(vm, number, LARGE_MIB) == "done"
                sizes[number] = LARGE_MIB
        plugged, total = vm.await_agreement(base)
        assert plugged[0] == total[0] - base[0] == sum(sizes) * MIB
        check_held(host, vm, sizes)

        # The pool has not so many pages: the guest is told, keeps what it has, and goes on.
        assert vm.hmp(f"virtio-mem vm{HUGE} {LARGE_MIB}") == ""
        await_status(vm, HUGE, "host-oom")
        # It asks on and on, but that costs it next to nothing.
        idle = vm.console.run("cut -d' ' -f2 /proc/uptime; sleep 2; cut -d' ' -f2 /proc/uptime")
        first, second = (float(seconds) for seconds in idle.output.split())
        assert second - first > 1, idle.output
        made = vm.console.run("dd if=/dev/urandom of=/fill/file bs=1M count=24", 120)
        assert made.status == 0, made.output
        before = vm.console.run("md5sum /fill/file", 120).output
        host.check(f"echo {PAGES + LARGE_MIB // 2} > {POOL}/nr_hugepages")
        assert resize(vm, HUGE, 0) == "done"
        assert resize(vm, HUGE, LARGE_MIB) == "done"
        sizes[HUGE] = LARGE_MIB
        check_held(host, vm, sizes)
        assert vm.console.run("md5sum /fill/file", 120).output == before

        assert vm.console.run("rm /fill/file").status == 0
        for number in range(len(DEVICES)):
            assert resize(vm, number, 0) == "done"
        check_held(host, vm, [0] * len(DEVICES))
        assert pool_number(host, "nr_hugepages") - pool_number(host, "free_hugepages") == (
            BOOT_MIB // 2
        )
        power_off(vm)
