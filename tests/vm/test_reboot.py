# SPDX-License-Identifier: BSD-3-Clause
"""Reboots, again and again, while sizes change: every memory that the new guest sees can be used, and
nothing else is held for it."""

from ebbvm import Machine, memory_devices
from pattern import Pattern, ResizeLoop

MIB = 1 << 20
REBOOTS = 200
SIZES = [64 * MIB, 0, 128 * MIB, 10 * MIB, 96 * MIB, 32 * MIB]
GUEST = "test=pattern devices=2 arena=1M rate=4 step=8"
DEVICES = memory_devices(("128M", "64M", "2M", 0), ("128M", "32M", "1M", 0))


def resize(qmp, device, size):
    qmp.execute("qom-set", path=f"/machine/peripheral/{device}", property="requested-size", value=size)


def plugged(qmp):
    return {d["data"]["id"]: d["data"] for d in qmp.execute("query-memory-devices")}


def settle(machine, qmp):
    """Both devices have what they are asked for."""
    while any(d["size"] != d["requested-size"] for d in plugged(qmp).values()):
        qmp.wait_event("MEMORY_DEVICE_SIZE_CHANGE")


def test_reboots_in_a_resize_loop(tmp_path):
    args = ["-m", "64M,maxmem=1G", "-smp", "2", *DEVICES]
    with Machine(tmp_path, GUEST, args, monitor=True, qmp=True) as machine:
        qmp, other = machine.qmp(), machine.qmp()
        pattern = Pattern(machine)
        pid = machine.process.pid
        with ResizeLoop(lambda size: resize(other, "d0", size), SIZES) as first:
            for number in range(REBOOTS):
                if number % 8 == 0:
                    resize(qmp, "d1", SIZES[number // 8 % len(SIZES)])
                if number % 16 == 0:
                    pattern.report()
                qmp.execute("system_reset")
                machine.console.expect(r"^pattern: ready$")
        assert first.asked > REBOOTS / 20
        for device, size in (("d0", 48 * MIB), ("d1", 16 * MIB)):
            resize(qmp, device, size)
        settle(machine, qmp)
        pattern.check()
        report = pattern.report()
        assert report["plugged"] == 64 * MIB
        assert machine.process.pid == pid and machine.process.poll() is None
        held = machine.rss_anon_bytes()
        assert held < (64 + 64 + 16) * MIB, f"{held >> 20} MiB are held for 64 + 64"
        assert not qmp.take_events("MEMORY_DEVICE_VIOLATION")
        pattern.end()
