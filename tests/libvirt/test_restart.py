# SPDX-License-Identifier: BSD-3-Clause
"""libvirtd ends, and its guests do not: killed and started again at every kind of moment.

EBB_SEED chooses other moments.
"""

import os
import pathlib
import random
import re
import signal
import time

import pytest

from daemon import wait_gone
from domain import MACHINES, MIB, Domain, xml_text
from ebbvm import TIMEOUT_S

SEED = int(os.environ.get("EBB_SEED", "1"))
# Within which most of what is interrupted happens.
MOMENT_S = 0.3
MOMENTS = 3
# States that a libvirtd which was killed has left behind, and the next one ends.
TRANSIENT = re.compile("starting up|saving|migrating")


def moments(count):
    """COUNT times to wait before libvirtd is killed, spread over what goes on then."""
    chance = random.Random(SEED)
    print(f"EBB_SEED={SEED}")
    for number in range(count):
        yield (number + chance.random()) * MOMENT_S / count


def restart(daemon):
    daemon.kill(signal.SIGKILL)
    daemon.start()


def settled_state(domain):
    """The state, once libvirtd found out what became of the guest; a paused one is let go on: killed
    before it noted why it had stopped the guest, libvirt takes that for its owner's wish."""
    deadline = time.monotonic() + TIMEOUT_S
    # Nothing tells of it, and no command may wait for its turn: where libvirtd finds that there is no
    # guest, nobody wakes that command up.
    while True:
        state = domain.virsh("domstate", "--reason").strip()
        there = domain.daemon.emulators() != []
        if there != state.startswith("shut off") and not TRANSIENT.search(state):
            break
        assert time.monotonic() < deadline, f"'{state}', and an emulator: {there}"
    if state.startswith("paused"):
        domain.virsh("resume")
    return domain.state()


def known(domain):
    """All that libvirt knows of DOMAIN as it runs."""
    live = domain.live()
    for controller in live.iter("controller"):
        # The name of what is not there is forgotten.
        if controller.get("model") == "none" and controller.find("alias") is not None:
            controller.remove(controller.find("alias"))
            controller.text = None
    return domain.pid, domain.sizes(), xml_text(live).split()


@pytest.mark.parametrize("signo", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_running_guests(new_daemon, signo):
    """Guests run on, and are libvirt's again: every figure, the console, sizes, the end."""
    domains = [Domain(new_daemon, name, name, small=True).start() for name in MACHINES]
    domains[0].resize_and_wait(0, 64 * MIB)
    domains[0].type("touch 0")
    domains[0].expect("^touched 0 pages=16384$")
    domains[1].virsh("suspend")
    before = [known(domain) for domain in domains]

    new_daemon.kill(signo)
    new_daemon.start()
    assert [domain.state() for domain in domains] == ["running", "paused"]
    assert [known(domain) for domain in domains] == before
    domains[1].virsh("resume")
    for domain in domains:
        domain.listen()
        domain.resize_and_wait(1, 128 * MIB)
    domains[0].type("verify 0")
    domains[0].expect("^verified 0 wrong=0$")
    domains[0].virsh("shutdown")
    new_daemon.events.expect(f"lifecycle {domains[0].name} Stopped Shutdown")
    domains[1].virsh("destroy")
    for pid, _, _ in before:
        wait_gone(pid, "ebb")


def test_resize_meanwhile(new_daemon):
    """What the guest does while there is no libvirtd is known to the next one."""
    domain = Domain(new_daemon, "grows", small=True).start()
    alias = domain.aliases()[0]
    domain.type("deaf 0")
    domain.expect("^deaf 0$")
    domain.resize(alias, 128 * MIB)
    assert domain.sizes()[alias] == (128 * MIB, 0)
    terminal = domain.live().find("devices/console").get("tty")
    new_daemon.kill(signal.SIGKILL)
    pathlib.Path(terminal).write_bytes(b"hear 0\r")
    new_daemon.start()
    domain.listen()
    domain.type("verify 0")
    domain.expect("^verified 0 wrong=0$")
    assert domain.sizes()[alias] == (128 * MIB, 128 * MIB)
    domain.resize_and_wait(0, 32 * MIB)


def test_killed_in_resize(new_daemon):
    """Killed at any moment of update-memory-device: the device has the old size or the new one."""
    domain = Domain(new_daemon, "resized", small=True).start()
    alias = domain.aliases()[0]
    size, asked = 0, {0}
    for number, wait in enumerate(moments(MOMENTS)):
        wanted = (1 + number % 2) * 96 * MIB
        command = ("--alias", alias, "--requested-size", f"{wanted}b")
        with new_daemon.spawn("update-memory-device", domain.name, *command) as virsh:
            time.sleep(wait / 10)  # no event: any moment will do
            restart(new_daemon)
            virsh.wait()
        domain.listen()
        domain.type("verify 0")
        domain.expect("^verified 0 wrong=0$")
        requested, plugged = domain.emulator_sizes()[alias]
        assert requested in (size, wanted) and plugged == requested
        # libvirt asks anew what is plugged. What it had asked for it may have forgotten.
        asked.add(wanted)
        figures = domain.memory_devices()[alias]
        assert figures["current"] == plugged and figures["requested"] in asked
        size = requested
        assert domain.state() == "running"
    domain.resize_and_wait(0, 32 * MIB)


def test_killed_in_start(new_daemon):
    """Killed at any moment of a start from when there is an emulator (before, libvirt may forget that
    there is none): a domain that runs, or one that can be started."""
    domain = Domain(new_daemon, "starts", small=True).define()
    for wait in moments(MOMENTS):
        with new_daemon.spawn("start", domain.name) as virsh:
            while not new_daemon.emulators() and virsh.poll() is None:
                pass
            time.sleep(wait)  # no event: any moment will do
            restart(new_daemon)
            virsh.wait()
        if settled_state(domain) == "shut off":
            assert new_daemon.emulators() == []
            domain.virsh("start")
        assert domain.state() == "running"
        domain.listen()
        domain.type("verify 0")
        domain.expect("^verified 0 wrong=0$")
        assert new_daemon.emulators() == [domain.pid]
        domain.virsh("destroy")


def test_killed_in_save(new_daemon):
    """Killed at any moment of a save: the guest runs on, or is in the file; it is never lost."""
    domain = Domain(new_daemon, "saved", small=True).start()
    domain.resize_and_wait(0, 256 * MIB)
    domain.type("touch 0")
    domain.expect("^touched 0 pages=65536$")
    image = new_daemon.folder / "images/saved"
    for wait in moments(MOMENTS):
        image.unlink(missing_ok=True)
        with new_daemon.spawn("save", domain.name, image) as virsh:
            time.sleep(wait)  # no event: any moment will do
            restart(new_daemon)
            virsh.wait()
        if settled_state(domain) == "shut off":
            new_daemon.virsh("restore", image)
        assert domain.state() == "running"
        domain.listen()
        domain.type("verify 0")
        domain.expect("^verified 0 wrong=0$")
