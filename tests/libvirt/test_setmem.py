# SPDX-License-Identifier: BSD-3-Clause
"""The balloon that libvirt adds to every domain: setmem, and what the guest tells of its memory."""

import time

from domain import MIB, Domain
from ebbvm import TIMEOUT_S

RAM = 64 * MIB
ARENA = 16 * MIB
TAKEN = 8 * MIB
PAGE = 4096
GUEST = f"test=balloon arena={ARENA} compact=1"


def test_setmem(daemon):
    """Memory goes and comes back; guest, ebb and libvirt have the same figure."""
    domain = Domain(daemon, "filled", "q35", GUEST, small=True)
    domain.start("^balloon: ready ")
    domain.type(f"free {ARENA // PAGE}")
    domain.expect(f"^freed {ARENA // PAGE}$")
    for left, pages in ((RAM - TAKEN, TAKEN // PAGE), (RAM, 0)):
        domain.virsh("setmem", f"{left}b", "--live")
        daemon.events.expect(f"balloon {domain.name} {left >> 10}")
        domain.type("state")
        domain.expect(f"^state used=0 free={(ARENA // PAGE) - pages} balloon={pages} ")
        assert domain.balloon_stats()["actual"] == left >> 10
        assert f"Used memory:    {left >> 10} KiB" in domain.virsh("dominfo")
        assert domain.qmp("query-balloon")["actual"] == left
    domain.type(f"use {ARENA // PAGE}")
    domain.expect(f"^used {ARENA // PAGE}$")
    domain.type("check")
    domain.expect(f"^checked pages={ARENA // PAGE} wrong=0 ")
    # More than it has is the owner's mistake, and libvirt's answer.
    assert "higher than max memory" in domain.refused("setmem", "16GiB", "--live")


def test_statistics(daemon):
    """With a period, dommemstat has the guest's own figures."""
    domain = Domain(daemon, "tells", append=GUEST, small=True).start("^balloon: ready ")
    domain.type("free 64")
    domain.expect("^freed 64$")
    # The guest gives figures when it starts; from now on also when it is asked, once a second.
    first = domain.balloon_stats().get("last_update", 0)
    domain.virsh("dommemstat", "--period", 1, "--live")
    deadline = time.monotonic() + TIMEOUT_S
    while domain.balloon_stats()["last_update"] <= first + 1:
        assert time.monotonic() < deadline, domain.virsh("dommemstat")
    stats = domain.balloon_stats()
    assert stats["unused"] == 64 * PAGE >> 10 and stats["available"] == ARENA >> 10
    assert int(domain.stats("--balloon")["balloon.unused"]) == stats["unused"]
