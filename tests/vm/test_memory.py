# SPDX-License-Identifier: BSD-3-Clause
"""Resizing memory devices from the monitor, with a guest that follows."""

import os

import pytest

from ebbvm import Machine, memory_devices, passed

MIB = 1 << 20
GIB = 1 << 30
# The scenario's machine; only what the guest is and where console and monitor are differ.
RFC = """-m 4G,maxmem=20G -smp sockets=2,cores=2
    -numa node,nodeid=0,cpus=0-1 -numa node,nodeid=1,cpus=2-3 -machine pc
    -object memory-backend-ram,id=mem0,size=4G,max-size=8G
    -device virtio-mem-pci,id=reg0,memdev=mem0,node=0
    -object memory-backend-ram,id=mem1,size=3G,max-size=8G
    -device virtio-mem-pci,id=reg1,memdev=mem1,node=1""".split()
ONE = ["-m", "128M,maxmem=4G", *memory_devices(("1G", "64M", "2M", 0))]
SLACK = 3 * MIB  # page tables, stacks and the like that come and go with the test


def settled(machine, device, size):
    machine.console.expect(rf"^follow {device} plugged={size}$")


def sizes(monitor):
    return [d["size"] for d in monitor.memory_devices().values()]


def test_scenario(folder):
    """The whole scenario, figure by figure."""
    with Machine(folder, "test=vmem-follow devices=2", RFC, monitor=True) as machine:
        monitor = machine.monitor()
        machine.console.expect("^follow: ready$")
        devices = monitor.memory_devices()
        assert devices == {
            "reg0": {
                "addr": 0x140000000,
                "node": 0,
                "size": 4294967296,
                "max-size": 8589934592,
                "memdev": "/objects/mem0",
            },
            "reg1": {
                "addr": 0x340000000,
                "node": 1,
                "size": 3221225472,
                "max-size": 8589934592,
                "memdev": "/objects/mem1",
            },
        }
        numa = monitor.run("info numa")
        assert numa.startswith("2 nodes\n")
        assert "node 0 cpus: 0 1\n" in numa and "node 1 cpus: 2 3\n" in numa
        assert monitor.numa_mib() == [6144, 5120]

        monitor.run("virtio-mem reg0 2048")
        settled(machine, 0, 2 * GIB)
        assert monitor.numa_mib() == [4096, 5120]

        monitor.run("virtio-mem reg0 8192")
        settled(machine, 0, 8 * GIB)
        assert monitor.numa_mib() == [10240, 5120]
        assert monitor.virtio_mem("reg0")["Request status"] == "done"

        machine.type("keep 0 164M")  # what this guest cannot give
        machine.console.expect("^limits 0 keep=171966464 ")
        monitor.run("virtio-mem reg0 0")
        settled(machine, 0, 164 * MIB)
        assert monitor.numa_mib() == [2212, 5120]
        state = monitor.wait_for(
            lambda: monitor.virtio_mem("reg0"),
            lambda s: s["Request status"] == "vm-oom",
            "the device does not say that the guest gave up",
        )
        assert state["Status"] == "ready"
        assert sizes(monitor) == [171966464, 3 * GIB]

        machine.type("keep 0 0")
        settled(machine, 0, 0)
        assert monitor.numa_mib() == [2048, 5120]
        assert monitor.virtio_mem("reg0")["Request status"] == "done"
        machine.type("quit")
        assert machine.wait() == 0
        passed(machine.console.text)


def test_memory_returns_to_the_host(folder):
    """Unplugged memory is the host's again before the guest knows; replugged it is empty."""
    with Machine(folder, "test=vmem-follow", ONE, monitor=True) as machine:
        monitor = machine.monitor()
        machine.console.expect("^follow: ready$")
        empty = machine.rss_anon_bytes()
        for _ in range(3):
            machine.type("touch 0")
            machine.console.expect(r"^touched 0 pages=16384$")
            full = machine.rss_anon_bytes()
            assert 64 * MIB <= full - empty < 64 * MIB + SLACK
            monitor.run("virtio-mem d0 16")
            settled(machine, 0, 16 * MIB)
            left = machine.rss_anon_bytes()
            assert 48 * MIB - SLACK < full - left
            machine.type("verify 0")
            machine.console.expect("^verified 0 wrong=0$")
            monitor.run("virtio-mem d0 0")
            settled(machine, 0, 0)
            assert machine.rss_anon_bytes() - empty < SLACK
            monitor.run("virtio-mem d0 64")
            settled(machine, 0, 64 * MIB)
            machine.type("verify 0")  # nothing touched since: all zero
            machine.console.expect("^verified 0 wrong=0$")
            monitor.run("virtio-mem d0 0")
            settled(machine, 0, 0)
            assert machine.rss_anon_bytes() - empty < SLACK
            monitor.run("virtio-mem d0 64")
            settled(machine, 0, 64 * MIB)


def test_reset_returns_memory(folder):
    """A system reset unplugs everything; the restarted guest plugs up to the requested size."""
    with Machine(folder, "test=vmem-follow", ONE, monitor=True) as machine:
        monitor = machine.monitor()
        machine.console.expect("^follow: ready$")
        empty = machine.rss_anon_bytes()
        machine.type("touch 0")
        machine.console.expect("^touched 0 pages=16384$")
        monitor.run("virtio-mem d0 32")
        settled(machine, 0, 32 * MIB)
        monitor.run("system_reset")
        machine.console.expect("BARE test=")
        settled(machine, 0, 32 * MIB)
        machine.console.expect("^follow: ready$")
        assert machine.rss_anon_bytes() - empty < SLACK
        machine.type("verify 0")
        machine.console.expect("^verified 0 wrong=0$")
        assert sizes(monitor) == [32 * MIB]


def test_refusing_guest(folder):
    """A guest that keeps its memory is shown as it is, and may change its mind."""
    with Machine(folder, "test=vmem-follow keep=1G", ONE, monitor=True) as machine:
        monitor = machine.monitor()
        machine.console.expect("^follow: ready$")
        monitor.run("virtio-mem d0 0")
        machine.console.expect("^follow 0 requested=0$")
        monitor.wait_for(
            lambda: monitor.virtio_mem("d0")["Request status"],
            lambda status: status == "vm-oom",
            "no vm-oom",
        )
        assert sizes(monitor) == [64 * MIB]
        monitor.run("virtio-mem d0 64")
        assert monitor.virtio_mem("d0")["Request status"] == "done"
        monitor.run("virtio-mem d0 0")
        machine.type("keep 0 0")
        settled(machine, 0, 0)
        assert monitor.virtio_mem("d0")["Request status"] == "done"


def test_guest_that_does_not_take(folder):
    with Machine(folder, "test=vmem-follow most=64M", ONE, monitor=True) as machine:
        monitor = machine.monitor()
        machine.console.expect("^follow: ready$")
        monitor.run("virtio-mem d0 512")
        machine.console.expect(f"^follow 0 requested={512 * MIB}$")
        monitor.wait_for(
            lambda: monitor.virtio_mem("d0")["Request status"],
            lambda status: status == "vm-oom",
            "no vm-oom",
        )
        assert sizes(monitor) == [64 * MIB]


def test_no_driver(folder):
    """A guest without a driver changes nothing, and the monitor says why."""
    with Machine(folder, "test=echo", ONE, monitor=True) as machine:
        monitor = machine.monitor()
        machine.console.expect("^echo: ready$")
        monitor.run("virtio-mem d0 128")
        assert sizes(monitor) == [0]
        assert monitor.virtio_mem("d0")["Request status"] == "no-driver"


@pytest.mark.parametrize("size", ["1", "1025", "4096", "-2", "x", "1.5"])
def test_wrong_sizes(folder, size):
    """Refused with a sentence; nothing changes."""
    with Machine(folder, "test=vmem-follow", ONE, monitor=True) as machine:
        monitor = machine.monitor()
        machine.console.expect("^follow: ready$")
        assert monitor.run(f"virtio-mem d0 {size}").strip() != ""
        assert monitor.run(f"virtio-mem nosuch {size}").strip() != ""
        assert monitor.virtio_mem("d0")["Requested size"] == f"{64 * MIB} bytes"
        assert sizes(monitor) == [64 * MIB]


def test_eight_devices(folder):
    """Block sizes from a page to 128 MiB on two nodes, resized at once, over and over."""
    blocks = ["4K", "64K", "512K", "2M", "8M", "32M", "64M", "128M"]
    args = ["-m", "128M,maxmem=6G", "-smp", "2"]
    args += ["-numa", "node,nodeid=0,cpus=0", "-numa", "node,nodeid=1,cpus=1"]
    args += memory_devices(*[("512M", "128M", b, i % 2) for i, b in enumerate(blocks)])
    with Machine(folder, "test=vmem-follow devices=8", args, monitor=True) as machine:
        monitor = machine.monitor()
        machine.console.expect("^follow: ready$")
        assert sizes(monitor) == [128 * MIB] * 8
        assert monitor.numa_mib() == [64 + 4 * 128] * 2
        for size in (512, 0, 256, 384):
            for i in range(8):
                monitor.run(f"virtio-mem d{i} {size}")
            monitor.wait_for(
                lambda: sizes(monitor), lambda s, n=size: s == [n * MIB] * 8, f"not all {size}"
            )
            assert monitor.numa_mib() == [64 + 4 * size] * 2
        machine.type("quit")
        assert machine.wait() == 0
        passed(machine.console.text)


def test_monitor_answers_in_a_storm(folder):
    """A guest that does nothing but send requests does not keep the monitor from its work."""
    args = ["-m", "128M,maxmem=4G", *memory_devices(("256M", "64M", "2M", 0))]
    with Machine(folder, "test=vmem-storm rounds=0", args, monitor=True) as machine:
        monitor = machine.monitor()
        machine.console.expect("^storm: begins$")
        for turn in range(50):
            assert "running" in monitor.run("info status")
            monitor.run(f"virtio-mem d0 {64 + 2 * (turn % 8)}")
        monitor.run("stop")
        assert "paused" in monitor.run("info status")
        monitor.run("cont")
        machine.type("")
        assert machine.wait() == 0
        passed(machine.console.text)


def test_resize_while_stopped(folder):
    """A new size is noted at once and followed when the guest runs again."""
    with Machine(folder, "test=vmem-follow", ONE, monitor=True) as machine:
        monitor = machine.monitor()
        machine.console.expect("^follow: ready$")
        monitor.run("stop")
        monitor.run("virtio-mem d0 256")
        assert monitor.virtio_mem("d0")["Requested size"] == f"{256 * MIB} bytes"
        assert sizes(monitor) == [64 * MIB]
        monitor.run("cont")
        settled(machine, 0, 256 * MIB)


def test_many_resizes(folder):
    """Faster than the guest follows: it ends at the last one."""
    with Machine(folder, "test=vmem-follow", ONE, monitor=True) as machine:
        monitor = machine.monitor()
        machine.console.expect("^follow: ready$")
        for turn in range(200):
            monitor.run(f"virtio-mem d0 {turn * 2 % 1024}")
        monitor.run("virtio-mem d0 700")
        settled(machine, 0, 700 * MIB)
        assert sizes(monitor) == [700 * MIB]


def test_no_descriptors_leak(folder):
    with Machine(folder, "test=vmem-follow", ONE, monitor=True) as machine:
        monitor = machine.monitor()
        machine.console.expect("^follow: ready$")
        before = len(os.listdir(f"/proc/{machine.process.pid}/fd"))
        for turn in range(10):
            monitor.run(f"virtio-mem d0 {(turn % 2) * 512}")
            settled(machine, 0, (turn % 2) * 512 * MIB)
            monitor.run("system_reset")
            machine.console.expect("^follow: ready$")
        assert len(os.listdir(f"/proc/{machine.process.pid}/fd")) == before
