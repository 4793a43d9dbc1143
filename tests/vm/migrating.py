# SPDX-License-Identifier: BSD-3-Clause
"""Move the guest of one Machine into another, by each way there is.

I1. A way either returns the machine that the guest runs in now, after the one it left has ended, or
    fails the test: nothing is tried twice.
I2. All that a way makes lies in a folder of its own.
"""

import itertools

from ebbvm import TIMEOUT_S, Machine
from qmp import QmpError

MIB = 1 << 20
UNLIMITED = 1 << 40
# A machine keeps what it was told when it came, so all of it is told again.
CAPS = {"events": True, "multifd": False, "postcopy_ram": False}
PARAMS = {"max_bandwidth": UNLIMITED, "multifd_channels": 2, "multifd_compression": "none"}
ENDS = ("completed", "failed", "cancelled")


class Guest:
    """One guest on its way through many machines of one command line, in FOLDER (a path)."""

    def __init__(self, folder, append, args):
        self.folder, self.append, self.args = folder, append, [str(a) for a in args]
        self._numbers = itertools.count()
        self._machines = []
        self.machine = self.new()
        self.qmp = self.machine.qmp()
        self.moves = 0

    def new(self, *more):
        """One more process of the same command line, and MORE."""
        folder = self.folder / f"m{next(self._numbers)}"
        folder.mkdir()
        machine = Machine(folder, self.append, [*self.args, *more], qmp=True)
        self._machines.append(machine)
        return machine

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for machine in self._machines:
            machine.__exit__(*exc)
        return False

    def became(self, machine, qmp):
        """The guest runs in MACHINE now; the one before ends."""
        before, old = self.machine, self.qmp
        self.machine, self.qmp = machine, qmp
        self.moves += 1
        old.execute("quit")
        assert before.wait() == 0, before.errors.text
        self._machines.remove(before)
        before.__exit__(None, None, None)


def capabilities(qmp, **on):
    states = [{"capability": name.replace("_", "-"), "state": on[name]} for name in on]
    qmp.execute("migrate-set-capabilities", capabilities=states)


def ended(qmp, *more, timeout=None):
    """Wait for the last MIGRATION event of a migration (or one of MORE); its status."""
    wanted = (*ENDS, *more)
    event = qmp.wait_event("MIGRATION", lambda data: data["status"] in wanted, timeout)
    return event["data"]["status"]


def succeed(qmp, *more, timeout=None):
    status = ended(qmp, *more, timeout=timeout)
    assert status not in ("failed", "cancelled"), qmp.execute("query-migrate")
    return status


def wait_running(qmp):
    """The machine that was incoming runs."""
    if qmp.execute("query-status")["status"] != "running":
        qmp.wait_event("RESUME")
    assert qmp.execute("query-status")["status"] == "running"


def prepare(guest, uri, caps, params):
    """A machine that waits at URI ("HERE": a socket of its own), and its monitor."""
    target = guest.new("-incoming", "defer")
    qmp = target.qmp()
    uri = uri.replace("HERE", str(target.folder / "way"))
    for monitor in (guest.qmp, qmp):
        capabilities(monitor, **{**CAPS, **caps})
        monitor.execute("migrate-set-parameters", **{**PARAMS, **params})
        monitor.take_events("MIGRATION")
    return target, qmp, uri


def live(guest, uri="unix:HERE", caps=None, params=None):
    """Precopy to a process that waits."""
    target, qmp, uri = prepare(guest, uri, caps or {}, params or {})
    qmp.execute("migrate-incoming", uri=uri)
    if uri.endswith(":0"):
        uri = "tcp:127.0.0.1:" + qmp.execute("query-migrate")["socket-address"][0]["port"]
    guest.qmp.execute("migrate", uri=uri)
    succeed(guest.qmp)
    wait_running(qmp)
    guest.became(target, qmp)


def parallel(guest, channels=2, compression="zstd"):
    """Precopy over several connections."""
    params = {"multifd_channels": channels, "multifd_compression": compression}
    live(guest, caps={"multifd": True}, params=params)


def postcopy(guest, uri="unix:HERE"):
    """The guest runs in the other process before its memory is there."""
    target, qmp, uri = prepare(
        guest, uri, {"postcopy_ram": True}, {"max_bandwidth": 2 * MIB, "max_postcopy_bandwidth": 0}
    )
    qmp.execute("migrate-incoming", uri=uri)
    guest.qmp.execute("migrate", uri=uri)
    assert succeed(guest.qmp, "active") == "active"
    guest.qmp.execute("migrate-start-postcopy")
    succeed(guest.qmp)
    succeed(qmp)
    wait_running(qmp)
    guest.became(target, qmp)


def saved(guest, save, load):
    """Into a file and out of it: SAVE and LOAD are URIs with FILE in them."""
    file = guest.folder / f"state{guest.moves}"
    capabilities(guest.qmp, **CAPS)
    guest.qmp.execute("migrate-set-parameters", **PARAMS)
    guest.qmp.take_events("MIGRATION")
    guest.qmp.execute("migrate", uri=save.replace("FILE", str(file)))
    succeed(guest.qmp)
    target = guest.new("-incoming", load.replace("FILE", str(file)))
    qmp = target.qmp()
    wait_running(qmp)
    guest.became(target, qmp)
    file.unlink()


def cancelled(guest):
    """A migration that is called off: the guest stays where it is."""
    target, qmp, uri = prepare(guest, "unix:HERE", {}, {"max_bandwidth": MIB})
    qmp.execute("migrate-incoming", uri=uri)
    guest.qmp.execute("migrate", uri=uri)
    assert succeed(guest.qmp, "active") == "active"
    guest.qmp.execute("migrate_cancel")
    assert ended(guest.qmp) == "cancelled"
    assert target.wait() == 1
    assert guest.qmp.execute("query-status")["status"] == "running"


WAYS = {
    "unix": live,
    "tcp": lambda guest: live(guest, "tcp:127.0.0.1:0"),
    "zstd": lambda guest: live(guest, params={"multifd_compression": "zstd"}),
    "parallel": parallel,
    "postcopy": postcopy,
    "exec": lambda guest: saved(guest, "exec:cat > FILE", "exec: cat FILE"),
    "image": lambda guest: saved(guest, "file:FILE", "file:FILE"),
    "cancelled": cancelled,
}


def asked(qmp, device, size):
    """Ask for another size of DEVICE; False when the machine cannot have one now."""
    path = f"/machine/peripheral/{device}"
    try:
        qmp.execute("qom-set", path=path, property="requested-size", value=size)
    except (QmpError, ConnectionError):
        return False
    return True


__all__ = ["Guest", "WAYS", "TIMEOUT_S", "asked", "live", "postcopy", "saved", "parallel"]
