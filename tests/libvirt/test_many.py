# SPDX-License-Identifier: BSD-3-Clause
"""Many guests, many resizes, many people at once.

EBB_SEED and EBB_RESIZES (200) choose other resizes, EBB_GUESTS (50) how many guests there are.
"""

import concurrent.futures
import os
import random
import re

import pytest

from daemon import INSTALLED, VirshError, wait_gone
from domain import MACHINES, MIB, Domain

SEED = int(os.environ.get("EBB_SEED", "1"))
RESIZES = int(os.environ.get("EBB_RESIZES", "200"))
GUESTS = int(os.environ.get("EBB_GUESTS", "50"))
PEOPLE = 4
REGION = 256 * MIB
BLOCK = 2 * MIB
SWITCHES = ("suspend", "resume")


def at_once(what, domains):
    """WHAT of each domain, by several people; what they got, in the order of DOMAINS."""
    with concurrent.futures.ThreadPoolExecutor(PEOPLE) as people:
        return list(people.map(what, domains))


@pytest.mark.parametrize("version", [INSTALLED], indirect=True)
def test_guests(daemon):
    """All started, all resized at once, each with what it was asked for; all ended, nothing left."""
    domains = [
        Domain(daemon, f"guest{number}", MACHINES[number % 2], small=True)
        for number in range(GUESTS)
    ]
    at_once(lambda domain: domain.define().virsh("start"), domains)
    assert len(daemon.names("--state-running")) == GUESTS
    pids = [domain.pid for domain in domains]
    assert sorted(daemon.emulators()) == sorted(pids)

    sizes = [(1 + number % 60) * BLOCK for number in range(GUESTS)]
    at_once(lambda n: domains[n].resize("virtiomem0", sizes[n]), range(GUESTS))
    for domain, size in zip(domains, sizes):
        domain.wait_told("virtiomem0", size)
    found = at_once(lambda domain: domain.sizes()["virtiomem0"], domains)
    assert found == [(size, size) for size in sizes]

    at_once(lambda domain: domain.virsh("destroy"), domains)
    assert daemon.names("--state-running") == []
    for pid in pids:
        wait_gone(pid, "ebb")


def test_resizes(daemon):
    """Two devices to and fro, by one person who types: after each the guest, ebb and libvirt agree."""
    chance = random.Random(SEED)
    print(f"EBB_SEED={SEED}")
    domain = Domain(daemon, "restless", "q35", small=True).start()
    sizes = {alias: 0 for alias in domain.aliases()}
    with daemon.shell() as domain.shell:
        for _ in range(RESIZES):
            index, alias = chance.choice(list(enumerate(sizes)))
            size = chance.randrange(REGION // BLOCK + 1) * BLOCK
            domain.resize(alias, size)
            if size != sizes[alias]:
                domain.expect(f"^follow {index} plugged={size}$")
            sizes[alias] = size
            domain.wait_told(alias, size)
            assert domain.sizes() == {name: (had, had) for name, had in sizes.items()}
    domain.type("touch 0")
    domain.expect(f"^touched 0 pages={sizes['virtiomem0'] // 4096}$")


def test_people(daemon):
    """Several at one domain: each is answered, and the domain stays whole."""
    domain = Domain(daemon, "wanted", small=True).start()
    commands = [
        ("update-memory-device", "--alias", "virtiomem0", "--requested-size", "64MiB"),
        ("update-memory-device", "--alias", "virtiomem1", "--requested-size", "32MiB"),
        ("update-memory-device", "--alias", "virtiomem0", "--requested-size", "128MiB"),
        ("dominfo",),
        ("domstats",),
        ("dommemstat",),
        *((switch,) for switch in SWITCHES),
        ("dumpxml",),
        ("reset",),
    ]
    people = random.Random(SEED).choices(commands, k=PEOPLE * 15)

    def ask(words):
        """False where the answer is that it is as wished already."""
        try:
            domain.virsh(*words)
        except VirshError as error:
            assert re.search("is already running|is not running", error.words), error
            return False
        return True

    answers = at_once(ask, people)
    assert all(done for done, words in zip(answers, people) if words[0] not in SWITCHES)
    if domain.state() == "paused":
        domain.virsh("resume")
    domain.virsh("reset")
    domain.resize("virtiomem0", 16 * MIB)
    domain.wait_told("virtiomem0", 16 * MIB)
    domain.type("verify 0")
    domain.expect("^verified 0 wrong=0$")


def test_new_build(daemon):
    """The emulator is replaced under guests that run: they go on, the next start is the new one's."""
    old = Domain(daemon, "old", small=True).start()
    program = daemon.emulator.read_bytes()
    new = daemon.emulator.with_name("new")
    # Another file, as an installation makes one; a byte behind its end makes it another build.
    new.write_bytes(program + b"\n")
    new.chmod(0o755)
    new.replace(daemon.emulator)
    assert os.readlink(f"/proc/{old.pid}/exe").endswith(" (deleted)")
    old.resize_and_wait(0, 64 * MIB)
    later = Domain(daemon, "later", small=True).start()
    later.resize_and_wait(0, 32 * MIB)
    old.resize_and_wait(0, 0)
    old.virsh("shutdown")
    daemon.events.expect("lifecycle old Stopped Shutdown")
    assert os.readlink(f"/proc/{later.pid}/exe") == str(daemon.emulator)
