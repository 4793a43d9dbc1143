# SPDX-License-Identifier: BSD-3-Clause
"""Debian's own libvirt, in both of its versions, runs stock guests: all that a person does with a
domain, with what the guest and the host say beside what libvirt says."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from guests import MIB, NEWEST, OLDEST, await_power_button
from lvhost import BOOT_TIMEOUT_S, EXAMPLES, Daemon, Guest, Refused, fields

DIRTY_MIB = 16
FILL_MIB = 160
SLACK_MIB = 64  # what the guest takes and the host holds besides
MOVE_TIMEOUT_S = 240
# What a kernel says when something went wrong with its memory, its processors, or its time.
COMPLAINTS = "BUG:|Oops|lockup|stalls on|orrupt|backwards"


def look(guest):
    """What dominfo, domstats and dommemstat say is what the guest says."""
    boot = 2 * guest.CELL_MIB * MIB
    plugged = sum(guest.sizes().values())
    info = fields(guest.virsh("dominfo"))
    assert info["State"] == "running" and info["CPU(s)"] == "2"
    assert int(info["Used memory"].split()[0]) * 1024 == boot + plugged
    guest.virsh("dommemstat", "--period 1 --live")
    total = sum(guest.mem_total().values()) // 1024

    def fresh():
        stats = fields(guest.virsh("dommemstat"))
        return stats if stats.get("available") == str(total) else None

    stats = guest.await_that(fresh)
    assert stats, guest.virsh("dommemstat")
    assert int(stats["actual"]) * 1024 == boot
    free = int(guest.run("awk '$1 == \"MemFree:\" { print $2 }' /proc/meminfo"))
    assert abs(int(stats["unused"]) - free) < SLACK_MIB * 1024
    assert int(stats["rss"]) * 1024 <= boot + plugged + SLACK_MIB * MIB
    stats = fields(guest.virsh("domstats", "--state --balloon --vcpu"))
    assert stats["state.state"] == "1" and stats["vcpu.current"] == "2"
    assert int(stats["balloon.current"]) * 1024 == boot + plugged
    assert stats["balloon.available"] == str(total)
    told = guest.run("cd /sys/class/dmi/id && cat sys_vendor product_serial product_uuid")
    assert told.splitlines() == ["Ebb", guest.SERIAL, guest.virsh("domuuid")]


def resizes(guest):
    """Up and down on each node: libvirt, the guest and their sum agree. Returns what the guest has
    without devices."""
    guest.await_that(lambda: guest.sizes() == {0: 0, 1: 512 * MIB})
    guest.await_that(lambda: guest.mem_total()[1] > 512 * MIB + guest.CELL_MIB * MIB // 2)
    base = guest.mem_total()
    base[1] -= 512 * MIB
    for node, size_mib in ((0, 512), (1, 128), (0, 0), (1, 256)):
        guest.resize(f"virtiomem{node}", size_mib)
    guest.agree(base)
    assert guest.sizes() == {0: 0, 1: 256 * MIB}
    return base


def total_kib(guest):
    return int(guest.run("awk '$1 == \"MemTotal:\" { print $2 }' /proc/meminfo"))


def balloon(guest, base):
    """Boot memory that the guest gives away is the host's, and comes back; devices' is left alone."""
    boot_mib, away_mib = 2 * guest.CELL_MIB, 256
    total, sizes = sum(guest.mem_total().values()), guest.sizes()
    guest.run(f"fill {FILL_MIB} && unfill")
    held = guest.rss()
    guest.virsh("setmem", f"{boot_mib - away_mib}MiB --live")
    guest.daemon.event("balloon-change", f"{(boot_mib - away_mib) * 1024}")
    gone = (total - away_mib * MIB) // 1024
    assert guest.await_that(lambda: total_kib(guest) == gone), total_kib(guest)
    assert guest.sizes() == sizes
    guest.virsh("setmem", f"{boot_mib}MiB --live")
    assert guest.await_that(lambda: total_kib(guest) == total // 1024), total_kib(guest)
    assert guest.rss() <= held
    guest.agree(base)


def reporting(guest):
    """What the guest used and freed is the host's by itself after a moment."""
    guest.run(f"fill {FILL_MIB}")
    full = guest.rss()
    guest.run("unfill")
    wanted = full - (FILL_MIB - SLACK_MIB) * MIB
    assert guest.await_that(lambda: guest.rss() <= wanted), (full, guest.rss())


def pauses(guest):
    guest.virsh("suspend")
    guest.daemon.event("lifecycle", "Suspended")
    assert guest.state() == "paused"
    guest.console.stream.write("echo awa'ke'\n")
    assert guest.state() == "paused"
    assert b"awake" not in guest.console.stream.output
    guest.virsh("resume")
    guest.daemon.event("lifecycle", "Resumed")
    guest.console.stream.expect(rb"^awake\r?\n", BOOT_TIMEOUT_S)


def comes_and_goes(guest, base):
    """A device comes while the guest runs, gives it memory, and leaves once it is empty."""
    more = ElementTree.parse(EXAMPLES / "virtio-mem.xml").getroot()
    node = int(more.find("target/node").text)
    alias = more.find("alias").get("name")
    before = guest.sizes()
    path = guest.file("device.xml", more)
    guest.virsh("attach-device", f"{path} --live")
    guest.daemon.event("device-added")
    guest.resize(alias, 384)
    guest.agree(base)
    assert guest.sizes()[node] == before[node] + 384 * MIB
    with pytest.raises(Refused):
        guest.virsh("detach-device-alias", f"{alias} --live")
    guest.resize(alias, 0)
    guest.virsh("detach-device-alias", f"{alias} --live")
    guest.daemon.event("device-removed", alias)
    assert guest.sizes() == before
    guest.agree(base)


def begins_again(guest):
    """By the guest's own doing."""
    await_power_button(guest, "poweroff -f")
    guest.virsh("reboot", "--mode acpi")
    guest.boot()
    assert guest.state() == "running"


def shuts_down(guest):
    await_power_button(guest, "poweroff -f")
    guest.virsh("shutdown")
    guest.daemon.event("lifecycle", "Stopped")
    assert guest.state() == "shut off"


def panics(guest):
    """What on_crash says is done: it stays for whoever looks, and begins again when it is reset."""
    guest.virsh("set-lifecycle-action", "crash preserve --live")
    guest.console.stream.write("echo c > /proc/sysrq-trigger\n")
    guest.daemon.event("lifecycle", "Crashed")
    assert guest.state() == "crashed"
    guest.virsh("reset")
    guest.virsh("resume")
    guest.boot()


def test_life(host):
    with Daemon(host, "11.3") as daemon:
        guest = Guest(daemon, "pc", NEWEST)
        guest.define()
        guest.start()
        guest.boot()
        base = resizes(guest)
        look(guest)
        balloon(guest, base)
        reporting(guest)
        pauses(guest)
        begins_again(guest)
        panics(guest)
        shuts_down(guest)


def works(guest):
    """A program of the guest changes memory from now on and checks it."""
    guest.run(f"dirty {DIRTY_MIB} /tmp/dirty & echo $! > /tmp/pid")


def worked(guest):
    """Nothing that it wrote was lost, time never went back, and the kernel has no complaint."""
    told = guest.run("kill $(cat /tmp/pid); wait; cat /tmp/dirty")
    rounds, wrong, back = re.search(r"rounds=(\d+) wrong=(\d+) back=(\d+)", told).groups()
    assert int(rounds) > 0 and (wrong, back) == ("0", "0"), told
    assert guest.console.run(f"dmesg | grep -E '{COMPLAINTS}'").output == ""


def boot_id(guest):
    return guest.run("cat /proc/sys/kernel/random/boot_id")


def sleeps(guest, file):
    """Into a file of its owner's choice and out of it, and into libvirt's own."""
    guest.virsh("save", file)
    assert guest.state() == "shut off"
    guest.daemon.virsh(f"restore {file}")
    guest.open_console()
    guest.virsh("managedsave")
    assert guest.state() == "shut off"
    guest.virsh("start")
    guest.open_console()


def moves(guest, target, words=""):
    """It goes to the daemon TARGET while it runs; nothing of it stays behind."""
    source = guest.daemon
    uri = target.uri.replace("qemu:", "qemu+unix:")
    guest.virsh("migrate", f"{uri} tcp://127.0.0.1 --live --persistent {words}", MOVE_TIMEOUT_S)
    assert guest.state() == "shut off"
    assert guest.name not in source.virsh("list --name")
    guest.daemon = target
    target.event("lifecycle", "Resumed")
    assert guest.state() == "running"
    guest.open_console()


def test_moves(host):
    """A guest that works all the time: its daemon is killed and comes back, it sleeps in files, and
    it moves to the other version of libvirt and back, by precopy and by postcopy."""
    with Daemon(host, "9.0") as old, Daemon(host, "11.3") as new:
        guest = Guest(old, "q35", OLDEST)
        guest.define()
        guest.start()
        guest.boot()
        base = resizes(guest)
        comes_and_goes(guest, base)
        works(guest)
        boot = boot_id(guest)
        old.restart(9)
        guest.open_console()
        guest.resize("virtiomem0", 256)
        sleeps(guest, host.path("saved"))
        guest.resize("virtiomem0", 128)
        moves(guest, new)
        guest.resize("virtiomem1", 384)
        moves(guest, old, "--postcopy --postcopy-after-precopy")
        assert boot_id(guest) == boot
        guest.resize("virtiomem0", 64)
        guest.agree(base)
        worked(guest)
        shuts_down(guest)
