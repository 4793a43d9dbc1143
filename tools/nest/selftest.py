#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Prove the nest with QEMU itself as the inner monitor.

    selftest.py [KERNEL...]         default: 6.12-cloud and 6.1-cloud

For each kernel: a stock guest with two NUMA nodes and two virtio-mem devices boots under KVM in
the emulated host, grows by 4 GiB and shrinks by 1 GiB; what its nodes say must follow. Prints the
times. Then an emulated host is made to panic, to hang and to lose its test: the first two must be
told apart from a failure of what runs in it, the last must end it. Not part of the tests of ebb: it is for whoever changes the nest.
"""

import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time

import ebbcache
import initrd
import nest

GIB = 1 << 30
MONITOR = "monitor.sock"
APPEND = "console=ttyS0 quiet panic=-1 memhp_default_state=online_movable"


def qemu_command(host, kernel):
    """QEMU in today's spelling of the scenario, two devices of 8 GiB."""
    words = [host.path("qemu/run"), "-accel", "kvm", "-cpu", "host", "-m", "2G,maxmem=20G"]
    words += ["-machine", "pc", "-nodefaults", "-display", "none", "-no-reboot"]
    words += ["-smp", "2,sockets=2,cores=1"]
    for node in (0, 1):
        words += ["-object", f"memory-backend-ram,id=ram{node},size=1G"]
        words += ["-numa", f"node,nodeid={node},cpus={node},memdev=ram{node}"]
        words += ["-object", f"memory-backend-ram,id=mem{node},size=8G,reserve=off"]
        device = f"virtio-mem-pci,id=reg{node},memdev=mem{node},node={node},requested-size=0"
        words += ["-device", device]
    words += ["-chardev", "stdio,id=serial", "-device", "isa-serial,chardev=serial"]
    words += ["-chardev", f"socket,id=mon,path={host.path(MONITOR)},server=on,wait=off"]
    words += ["-mon", "chardev=mon,mode=readline"]
    words += ["-kernel", host.path(f"{kernel}/vmlinuz"), "-initrd", host.path(f"{kernel}/initrd")]
    return words + ["-append", APPEND]


def await_memory(guest, node, wanted, timeout=120):
    """Wait until NODE has WANTED(bytes); returns the seconds it took.

    The guest's own clock of events is its console: each look is a command there.
    """
    begin = time.monotonic()
    while True:
        total = guest.meminfo()[node]["MemTotal"]
        if wanted(total):
            return time.monotonic() - begin
        if time.monotonic() - begin > timeout:
            raise nest.NestTimeout(f"node {node} has {total >> 20} MiB after {timeout} s")


def exercise(host, kernel):
    """Boot KERNEL under the inner QEMU, grow and shrink it."""
    begin = time.monotonic()
    inner = host.spawn("qemu", qemu_command(host, kernel))
    guest = nest.GuestConsole(inner)
    guest.ready(180)
    booted = time.monotonic() - begin
    guest.prompt(60)
    sock = host.path(MONITOR)
    before = guest.meminfo()
    host.hmp(sock, "qom-set reg0 requested-size 4G")
    grown = await_memory(guest, 0, lambda total: total == before[0]["MemTotal"] + 4 * GIB)
    host.hmp(sock, "qom-set reg0 requested-size 3G")
    shrunk = await_memory(guest, 0, lambda total: total == before[0]["MemTotal"] + 3 * GIB)
    after = guest.meminfo()
    if after[1]["MemTotal"] != before[1]["MemTotal"]:
        raise nest.CommandFailed("node 1 changed although only node 0 was resized")
    release = guest.run("uname -r").output.strip()
    guest.stream.write("poweroff -f\n")
    status = inner.wait(60)
    if status != 0:
        raise nest.CommandFailed(f"QEMU ended with status {status}")
    print(
        f"{kernel} ({release}): first line {booted:.1f} s, +4 GiB {grown:.1f} s, "
        f"-1 GiB {shrunk:.1f} s",
        flush=True,
    )


def once(kernel, tmp):
    """One emulated host with one guest kernel."""
    folder = ebbcache.kernel_dir(kernel)
    image = f"{tmp}/{kernel}.img"
    initrd.build_guest(kernel, image)
    files = {
        "qemu": ebbcache.part_dir("qemu"),
        f"{kernel}/vmlinuz": folder / "vmlinuz",
        f"{kernel}/initrd": image,
    }
    with nest.open_host(files=files) as host:
        print(f"the host booted in {host.boot_seconds:.1f} s", flush=True)
        exercise(host, kernel)


def expect_infra(name, harm, reason):
    """HARM(host) must end in a NestInfraError whose text holds REASON, with the log kept."""
    try:
        with nest.Nest() as host:
            harm(host)
    except nest.NestInfraError as error:
        log = re.search(r"kept in (\S+);", str(error))
        if reason not in str(error) or not log:
            raise nest.CommandFailed(f"{name}: told as: {error}") from error
        os.unlink(log.group(1))
        print(f"{name}: told as: {str(error).splitlines()[0]}", flush=True)
        return
    raise nest.CommandFailed(f"{name} was not noticed")


def panic(host):
    host.run("echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger", 60)


def hang(host):
    os.kill(host.machine_pid, signal.SIGSTOP)
    host.link.ping(3)


def check_lost():
    """An emulated host must end when the process that uses it is killed."""
    code = "import nest, time; h = nest.Nest().start(); print(h.machine_pid, flush=True); input()"
    here = os.path.dirname(os.path.abspath(__file__))
    user = subprocess.Popen(
        [sys.executable, "-c", code], cwd=here, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    machine = os.pidfd_open(int(user.stdout.readline()))
    user.kill()
    user.communicate()
    ended, _, _ = select.select([machine], [], [], 30)
    os.close(machine)
    if not ended:
        raise nest.CommandFailed("the emulated host outlived the process that used it")
    print("a killed user: the emulated host ended", flush=True)


def main():
    kernels = sys.argv[1:] or ["6.12-cloud", "6.1-cloud"]
    with tempfile.TemporaryDirectory(prefix="ebb-selftest-") as tmp:
        for kernel in kernels:
            nest.retry_infra(lambda kernel=kernel: once(kernel, tmp))
    expect_infra("a panic", panic, "panicked")
    expect_infra("a hang", hang, "did not answer")
    check_lost()
    print(f"{len(kernels) + 3} passed, 0 failed")


if __name__ == "__main__":
    main()
