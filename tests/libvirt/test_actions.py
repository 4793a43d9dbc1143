# SPDX-License-Identifier: BSD-3-Clause
"""What follows when a guest powers off, reboots or crashes: <on_poweroff>, <on_reboot>, <on_crash>."""

import xml.etree.ElementTree as ElementTree

import pytest

from domain import Domain


def domain_that(daemon, end, **actions):
    """A domain whose guest ends itself as END says, with ACTIONS for it; it has a panic device."""
    domain = Domain(daemon, f"end-{end}", append=f"test=none end={end}", small=True)
    for name, action in actions.items():
        domain.xml.find(name).text = action
    ElementTree.SubElement(domain.devices, "panic").set("model", "isa")
    return domain.start(ready=None)


def reason(domain):
    return domain.virsh("domstate", "--reason").strip()


def runs_again(domain):
    """It starts over, twice, without having been gone."""
    pid = domain.pid
    for _ in range(3):
        domain.expect("^BARE ")
    assert domain.pid == pid
    domain.virsh("destroy")


@pytest.mark.parametrize(
    ("end", "action", "why", "event"),
    [
        ("panic", {"on_crash": "destroy"}, "crashed", "Stopped Crashed"),
        ("off", {"on_poweroff": "destroy"}, "shutdown", "Stopped Shutdown"),
        ("reset", {"on_reboot": "destroy"}, "shutdown", "Stopped Shutdown"),
    ],
)
def test_ends(daemon, end, action, why, event):
    domain = domain_that(daemon, end, **action)
    daemon.events.expect(f"lifecycle {domain.name} {event}")
    assert reason(domain) == f"shut off ({why})"


@pytest.mark.parametrize(
    ("end", "action", "event"),
    [
        ("panic", {"on_crash": "restart"}, "Crashed Panicked"),
        ("off", {"on_poweroff": "restart"}, None),
        ("reset", {"on_reboot": "restart"}, None),
    ],
)
def test_starts_over(daemon, end, action, event):
    domain = domain_that(daemon, end, **action)
    runs_again(domain)
    if end == "reset":
        daemon.events.expect(f"reboot {domain.name}")
    if event:
        daemon.events.expect(f"lifecycle {domain.name} {event}")


def test_crashed_stays(daemon):
    """With preserve it can be looked at, and be reset."""
    domain = domain_that(daemon, "panic", on_crash="preserve")
    daemon.events.expect(f"lifecycle {domain.name} Crashed Panicked")
    assert reason(domain) == "crashed (panicked)"
    assert domain.qmp("query-status")["status"] == "guest-panicked"
    domain.virsh("reset")
    domain.virsh("destroy")
    assert reason(domain) == "shut off (destroyed)"


def test_core_dump(daemon):
    """A guest that crashed is in a file of libvirt's folder for dumps."""
    domain = domain_that(daemon, "panic", on_crash="coredump-destroy")
    daemon.events.expect(f"lifecycle {domain.name} Stopped Crashed")
    assert reason(domain) == "shut off (crashed)"
    (path,) = (daemon.folder / "lib/qemu/dump").glob(f"*-{domain.name}-*")
    with open(path, "rb") as file:
        assert file.read(4) == b"\x7fELF"
    path.unlink()


def test_core_dump_and_restart(daemon):
    """It is dumped each time, into files whose names may be the same."""
    domain = domain_that(daemon, "panic", on_crash="coredump-restart")
    for _ in range(2):
        domain.expect("^BARE ")
    assert domain.qmp("query-dump")["status"] in ("active", "completed")
    runs_again(domain)
