# SPDX-License-Identifier: BSD-3-Clause
"""What a stock kernel finds in its machine: processors and nodes, many devices, its ways to end
and to begin again, its console."""

import nest
from guests import (
    END_TIMEOUT_S,
    MIB,
    NEWEST,
    VMLINUX,
    files,
    machine,
    parse_list,
    power_off,
    read,
)


def test_topology(host):
    """Sockets, cores, threads, nodes and distances are what the command line says."""
    words = ["-smp", "sockets=2,cores=2,threads=2"]
    words += ["-numa", "node,nodeid=0,cpus=0-3", "-numa", "node,nodeid=1,cpus=4-7"]
    words += ["-numa", "dist,src=0,dst=1,val=31"]
    with machine(host, NEWEST, *words) as vm:
        vm.boot()
        assert parse_list(read(vm, "/sys/devices/system/cpu/online")) == list(range(8))
        topology = "/sys/devices/system/cpu/cpu[0-7]/topology"
        found = files(vm, f"{topology}/physical_package_id {topology}/*_siblings_list")
        for cpu in range(8):
            folder = f"/sys/devices/system/cpu/cpu{cpu}/topology"
            socket, thread = cpu // 4, cpu // 2 * 2
            assert int(found[f"{folder}/physical_package_id"]) == socket
            siblings = parse_list(found[f"{folder}/thread_siblings_list"])
            assert siblings == [thread, thread + 1]
            package = parse_list(found[f"{folder}/core_siblings_list"])
            assert package == list(range(socket * 4, socket * 4 + 4))
        nodes = files(vm, "/sys/devices/system/node/node[01]/cpulist")
        assert [parse_list(text) for text in nodes.values()] == [[0, 1, 2, 3], [4, 5, 6, 7]]
        distances = files(vm, "/sys/devices/system/node/node[01]/distance")
        assert [text.split() for text in distances.values()] == [["10", "31"], ["31", "10"]]
        flags = vm.console.run("grep -m1 ^flags /proc/cpuinfo").output.split()
        assert {"x2apic", "hypervisor"} <= set(flags)
        clock = "/sys/devices/system/clocksource/clocksource0/available_clocksource"
        assert "kvm-clock" in read(vm, clock).split()
        power_off(vm)


def test_counted_features(host):
    """A processor of features that are named one by one has these, and no others of the host's."""
    with machine(host, NEWEST, "-cpu", "kvm64,pdpe1gb=on") as vm:
        vm.boot()
        flags = set(vm.console.run("grep -m1 ^flags /proc/cpuinfo").output.split())
        assert {"lm", "sse2", "nx", "x2apic", "hypervisor", "pdpe1gb"} <= flags
        assert not {"lahf_lm", "svm", "sse4_2", "avx"} & flags
        power_off(vm)


# (node, block size, size at the start in MiB) of each device; the maximum is 1 GiB.
EIGHT = (
    (0, "2M", 128),
    (1, "4M", 256),
    (2, "8M", 384),
    (3, "16M", 512),
    (0, "32M", 256),
    (1, "64M", 128),
    (2, "128M", 256),
    (3, "256M", 512),
)


def eight_words():
    words = []
    for node in range(4):
        words += ["-numa", f"node,nodeid={node}" + (",cpus=0-1" if node == 0 else "")]
    for number, (node, block, size_mib) in enumerate(EIGHT):
        words += ["-object", f"memory-backend-ram,id=mem{number},size=1G"]
        device = f"virtio-mem-pci,id=vm{number},memdev=mem{number},node={node}"
        words += ["-device", f"{device},block-size={block},requested-size={size_mib}M"]
    return words


def eight_plugged(changes=()):
    """{node: bytes} with the sizes of EIGHT, but for CHANGES {number: MiB}."""
    nodes = {}
    for number, (node, _, size_mib) in enumerate(EIGHT):
        size_mib = dict(changes).get(number, size_mib)
        nodes[node] = nodes.get(node, 0) + size_mib * MIB
    return nodes


def await_eight(vm, base, changes=()):
    """Every device has what it was asked for, and the guest uses it."""
    for number in range(len(EIGHT)):
        assert vm.await_request(f"vm{number}") == "done"
    plugged, total = vm.await_agreement(base)
    assert plugged == eight_plugged(changes)
    assert {node: total[node] - base[node] for node in base} == plugged


def test_eight_devices_and_a_reset(host):
    """Eight devices of different block sizes on four nodes; what was asked for comes back by
    itself after the monitor resets the machine. (After the guest reboots: test_hotplug.py.)"""
    with machine(host, NEWEST, *eight_words(), "-smp", "2", memory="2G,maxmem=16G") as vm:
        vm.boot()
        for number in range(len(EIGHT)):
            assert vm.await_request(f"vm{number}") == "done"
        plugged = vm.plugged()
        assert plugged == eight_plugged()
        total = vm.await_online({node: plugged[node] + 256 * MIB for node in plugged})
        base = {node: total[node] - plugged[node] for node in plugged}
        changes = {0: 512, 7: 256}
        for number, size_mib in changes.items():
            assert vm.hmp(f"virtio-mem vm{number} {size_mib}") == ""
        await_eight(vm, base, changes)

        assert vm.hmp("system_reset") == ""
        vm.boot()
        await_online_again(vm, changes)
        power_off(vm)


def await_online_again(vm, changes):
    """After a reset the devices have again what they were last asked for, and the guest uses it.
    (Its share of the boot memory may differ by what the kernel itself took at this boot.)"""
    for number in range(len(EIGHT)):
        assert vm.await_request(f"vm{number}") == "done"
    plugged = vm.plugged()
    assert plugged == eight_plugged(changes)
    vm.await_online({node: plugged[node] + 256 * MIB for node in plugged})


def test_vmlinux_by_pvh_with_packed_rings_and_entropy(host):
    """The ELF image starts by its PVH entry; the stock drivers use packed rings and get bytes. Its
    reset ends the machine where that is asked for."""
    words = ["-no-reboot", "-kernel", host.path(VMLINUX), "-device", "virtio-rng-pci,packed=on"]
    words += ["-object", "memory-backend-ram,id=mem0,size=1G"]
    words += ["-device", "virtio-mem-pci,id=vm0,memdev=mem0,requested-size=512M,packed=on"]
    with machine(host, NEWEST, *words, memory="1G,maxmem=2G") as vm:
        vm.boot()
        assert vm.await_request("vm0") == "done"
        assert vm.plugged() == {0: 512 * MIB}
        current = "/sys/class/misc/hw_random/rng_current"
        assert read(vm, current).startswith("virtio_rng")
        done = vm.console.run("dd if=/dev/hwrng bs=4096 count=4 2>/dev/null | gzip -c | wc -c")
        assert int(done.output) > 4 * 4096
        vm.process.write("reboot -f\n")
        assert vm.process.wait(END_TIMEOUT_S) == 0


def test_console_is_interactive(host):
    """A person types at the guest's shell: erasing, interrupting, long lines; stop and cont. A guest
    that panics says so through the panic port, before it would reboot."""
    words = ["-device", "pvpanic", "-action", "panic=exit-failure"]
    with machine(host, NEWEST, *words) as vm:
        vm.boot()
        vm.process.write("echo type\x7f\x7fed\n")
        vm.process.expect(rb"^tyed\r?\n", 60)
        vm.process.expect(nest.PROMPT, 60)

        vm.process.write("echo run'ning'; cat\n")
        vm.process.expect(rb"^running\r?\n", 60)
        vm.process.write("\x03")
        vm.process.expect(nest.PROMPT, 60)
        assert vm.console.run("true").status == 0

        word = "0123456789abcdef" * 48  # far longer than the serial port's FIFO
        assert vm.console.run(f"echo {word}").output == f"{word}\n"
        assert vm.console.run("seq 1 400").output == "".join(f"{n}\n" for n in range(1, 401))

        assert vm.hmp("stop") == ""
        assert vm.hmp("info status") == "VM status: paused\n"
        vm.process.write("echo awa'ke'\n")
        assert vm.hmp("info status") == "VM status: paused\n"
        assert b"awake" not in vm.process.output
        assert vm.hmp("cont") == ""
        vm.process.expect(rb"^awake\r?\n", 60)

        assert vm.hmp("info status") == "VM status: running\n"
        vm.process.write("echo c > /proc/sysrq-trigger\n")
        assert vm.process.wait(END_TIMEOUT_S) == 1
        assert b"ebb: the guest panicked" in vm.process.output
