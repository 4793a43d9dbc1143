# SPDX-License-Identifier: BSD-3-Clause
"""A domain's life, as people lead it with virsh."""

import os
import signal
import xml.etree.ElementTree as ElementTree

import pytest

from domain import GIB, MACHINES, MIB, Domain

# What the example's domains have: RAM of two cells, and two devices of 4 GiB.
RAM = 2 * GIB
DEVICES = 8 * GIB


def fields(text):
    """`Name: value` lines as a dictionary."""
    pairs = (line.split(":", 1) for line in text.splitlines() if ":" in line)
    return {name: value.strip() for name, value in pairs}


@pytest.mark.parametrize("machine", MACHINES)
def test_life(daemon, machine):
    """From define to undefine; console, sizes, figures, and what is told of each step."""
    domain = Domain(daemon, f"life-{machine}", machine)
    domain.define()
    assert domain.state() == "shut off"
    domain.start()
    assert domain.state() == "running"
    assert domain.aliases() == ["virtiomem0", "virtiomem1"]
    assert domain.sizes() == {"virtiomem0": (0, 0), "virtiomem1": (512 * MIB, 512 * MIB)}

    domain.resize_and_wait(0, 3 * GIB)
    domain.resize_and_wait(1, 0)
    domain.resize_and_wait(0, 2 * MIB)
    domain.type("touch 0")
    domain.expect("^touched 0 pages=512$")

    info = fields(domain.virsh("dominfo"))
    assert info["State"] == "running" and info["CPU(s)"] == "2"
    assert info["Max memory"] == f"{(RAM + DEVICES) >> 10} KiB"
    # What is plugged counts, what is not in the balloon does, too.
    assert info["Used memory"] == f"{(RAM + 2 * MIB) >> 10} KiB"
    stats = domain.stats()
    assert stats["state.state"] == "1" and stats["vcpu.current"] == "2"
    assert stats["vcpu.0.state"] == stats["vcpu.1.state"] == "1"
    assert int(stats["balloon.current"]) == (RAM + 2 * MIB) >> 10
    assert int(stats["balloon.maximum"]) == (RAM + DEVICES) >> 10
    assert int(stats["cpu.time"]) > 0
    assert int(domain.balloon_stats()["rss"]) >= 2048
    assert domain.balloon_stats()["actual"] == RAM >> 10

    domain.virsh("suspend")
    assert domain.state() == "paused"
    domain.type("touch 0")
    domain.virsh("resume")
    domain.expect("^touched 0 pages=512$")

    pid = domain.pid
    domain.virsh("reset")
    domain.expect("^BARE ")
    domain.expect("^follow: ready$")
    domain.wait_told("virtiomem0", 2 * MIB)
    assert domain.sizes() == {"virtiomem0": (2 * MIB, 2 * MIB), "virtiomem1": (0, 0)}
    domain.virsh("reboot")
    domain.expect("^follow: button$")
    domain.expect("^BARE ")
    domain.expect("^follow: ready$")
    assert domain.pid == pid

    domain.virsh("shutdown")
    domain.expect("^follow: button$")
    daemon.events.expect(f"lifecycle {domain.name} Stopped Shutdown")
    assert domain.state() == "shut off"
    domain.virsh("undefine")
    daemon.events.expect(f"lifecycle {domain.name} Undefined Removed")
    told = domain.told("lifecycle")
    assert set(told[: told.index("Started Booted")]) <= {"Defined Added", "Defined Updated"}
    assert told[told.index("Started Booted") :] == [
        "Started Booted",
        *("Suspended Paused", "Resumed Unpaused"),  # to listen from its first word on
        *("Suspended Paused", "Resumed Unpaused"),
        "Shutdown Guest-request",
        "Stopped Shutdown",
        "Undefined Removed",
    ]
    assert domain.told("reboot")


def test_plain_start(daemon):
    """`virsh start` alone; then `create` of a domain that is not kept, and `destroy` of both."""
    kept = Domain(daemon, "kept", small=True).define()
    kept.virsh("start")
    kept.listen()
    kept.expect("^follow: ready$")
    kept.type("verify 0")
    kept.expect("^verified 0 wrong=0$")
    passing = Domain(daemon, "passing", "q35", small=True)
    daemon.virsh("create", passing.write())
    assert sorted(daemon.names("--state-running")) == ["kept", "passing"]
    for domain in (kept, passing):
        domain.virsh("destroy")
        daemon.events.expect(f"lifecycle {domain.name} Stopped Destroyed")
    assert daemon.names() == ["kept"]


MORE = (
    "<memoryBacking><source type='memfd'/><access mode='shared'/><discard/></memoryBacking>",
    "<iothreads>1</iothreads>",
    "<features><acpi/><apic/><pae/><vmport state='off'/></features>",
    "<clock offset='utc'><timer name='rtc' tickpolicy='catchup'/><timer name='hpet' present='no'/>"
    "</clock>",
    "<pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='no'/></pm>",
)
# The host's own, which users without rights have no say in.
TUNING = (
    "<cputune><shares>512</shares><vcpupin vcpu='0' cpuset='0'/><emulatorpin cpuset='0'/></cputune>",
    "<numatune><memory mode='strict' nodeset='0'/></numatune>",
)
MORE_DEVICES = (
    "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
    "<panic model='isa'/>",
    "<serial type='pty'><target port='0'/></serial>",
    "<serial type='file'><source path='{folder}/images/serial'/><target port='1'/></serial>",
)


@pytest.mark.parametrize("machine", MACHINES)
def test_more(daemon, machine):
    """What tools that write domains write besides."""
    domain = Domain(daemon, f"more-{machine}", machine, small=True)
    for text in MORE if daemon.session else (*MORE, *TUNING):
        part = ElementTree.fromstring(text)
        for old in domain.xml.findall(part.tag):
            domain.xml.remove(old)
        domain.xml.append(part)
    for text in MORE_DEVICES:
        domain.devices.append(ElementTree.fromstring(text.format(folder=daemon.folder)))
    domain.start()
    domain.resize_and_wait(0, 64 * MIB)
    domain.type("touch 0")
    domain.expect("^touched 0 pages=16384$")
    assert int(domain.qmp("query-iothreads")[0]["thread-id"]) > 0
    assert daemon.session or os.sched_getaffinity(domain.pid) == {0}
    domain.virsh("destroy")


@pytest.mark.parametrize("mode", ["maximum", "host-model", None])
def test_cpu(daemon, mode):
    """Other processors than the host's own; a domain without NUMA cells and memory devices."""
    domain = Domain(daemon, f"cpu-{mode}", "q35", "test=cpus cpus=2", small=True)
    domain.xml.remove(domain.xml.find("cpu"))
    domain.xml.remove(domain.xml.find("maxMemory"))
    for memory in domain.devices.findall("memory"):
        domain.devices.remove(memory)
    if mode:
        ElementTree.SubElement(domain.xml, "cpu", mode=mode)
    domain.start(r"^DONE passed=\d+ failed=0$")


def test_console(daemon):
    """`virsh console` on a terminal: what is typed reaches the guest, its answer comes back."""
    domain = Domain(daemon, "talk", append="test=echo", small=True).define()
    domain.virsh("start", "--paused")
    with daemon.terminal("console", domain.name) as terminal:
        terminal.expect(r"^Escape character is \^\]")
        domain.virsh("resume")
        terminal.expect("^echo: ready$")
        terminal.type("some words")
        terminal.expect("^echo: some words$")
        terminal.type("quit")
        terminal.expect("^END$")
    daemon.events.expect(f"lifecycle {domain.name} Stopped Shutdown")


def test_event_command(daemon):
    """`virsh event` tells people what the binding tells programs."""
    domain = Domain(daemon, "told", small=True).start()
    alias = domain.aliases()[0]
    with daemon.terminal("event", "--domain", domain.name, "--all", "--loop") as terminal:
        # It does not say from when on it listens.
        while "Suspended Paused" not in terminal.text:
            domain.virsh("suspend")
            domain.virsh("resume")
        domain.resize(alias, 64 * MIB)
        terminal.expect(f"event 'memory-device-size-change' for domain '?told'?:\n.*{alias}")
        domain.virsh("reset")
        terminal.expect("event 'reboot' for domain '?told'?")
        domain.expect("^follow: ready$")
        domain.virsh("shutdown")
        terminal.expect("event 'lifecycle' for domain '?told'?: Stopped Shutdown")


def test_autostart(new_daemon):
    """A domain with autostart is there after the host was started."""
    domain = Domain(new_daemon, "always", small=True).define()
    domain.virsh("autostart")
    assert fields(domain.virsh("dominfo"))["Autostart"] == "enable"
    new_daemon.kill(signal.SIGTERM)
    new_daemon.host_starts()
    new_daemon.start()
    domain.listen()
    domain.expect("^follow: ready$")
    domain.type("verify 0")
    domain.expect("^verified 0 wrong=0$")
    assert domain.state() == "running"
