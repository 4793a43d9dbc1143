# SPDX-License-Identifier: BSD-3-Clause
"""A domain's life, as people lead it with virsh."""

import pytest

from domain import GIB, MACHINES, MIB, Domain

ONE = 1 * GIB


@pytest.mark.parametrize("machine", MACHINES)
def test_life(daemon, machine):
    """Start, sizes up and down until guest, libvirt and ebb agree; stop, go on, end."""
    domain = Domain(daemon, f"life-{machine}", machine).start()
    events = daemon.events
    events.expect(f"lifecycle {domain.name} Started Booted")
    assert domain.state() == "running"
