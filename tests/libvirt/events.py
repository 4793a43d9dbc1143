# SPDX-License-Identifier: BSD-3-Clause
"""What a libvirtd tells of its domains, as lines of text that can be waited for.

    lifecycle NAME Started Booted
    memory-device-size NAME ALIAS BYTES
    balloon NAME KIB
    device-added NAME ALIAS         device-removed NAME ALIAS       device-stays NAME ALIAS
    reboot NAME                     job NAME                        watchdog NAME ACTION
    migration-iteration NAME PASS

Threads: one runs libvirt's event loop for all connections of this process; whoever waits does so on
a condition. A line is there before expect() can miss it: events are asked for in the constructor.
"""

import re
import threading
import time

import libvirt

from ebbvm import TIMEOUT_S

# The words that virsh has for them; of a detail without words the number is told.
LIFECYCLE = {
    libvirt.VIR_DOMAIN_EVENT_DEFINED: ("Defined", "Added Updated Renamed Snapshot"),
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: ("Undefined", "Removed Renamed"),
    libvirt.VIR_DOMAIN_EVENT_STARTED: ("Started", "Booted Migrated Restored Snapshot Event-wakeup"),
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: (
        "Suspended",
        "Paused Migrated I/O-Error Watchdog Restored Snapshot API-error Post-copy "
        "Post-copy-Error",
    ),
    libvirt.VIR_DOMAIN_EVENT_RESUMED: (
        "Resumed",
        "Unpaused Migrated Snapshot Post-copy Post-copy-Error",
    ),
    libvirt.VIR_DOMAIN_EVENT_STOPPED: (
        "Stopped",
        "Shutdown Destroyed Crashed Migrated Saved Failed Snapshot",
    ),
    libvirt.VIR_DOMAIN_EVENT_SHUTDOWN: ("Shutdown", "Finished Guest-request Host-request"),
    libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: ("PMSuspended", "Memory Disk"),
    libvirt.VIR_DOMAIN_EVENT_CRASHED: ("Crashed", "Panicked Crashloaded"),
}
LOOP_LOCK = threading.Lock()
LOOP = []


def loop_start():
    """Libvirt's event loop, once a process; before the first connection is opened."""
    with LOOP_LOCK:
        if LOOP:
            return
        libvirt.virEventRegisterDefaultImpl()
        libvirt.registerErrorHandler(lambda *_: None, None)  # errors are raised as well

        def run():
            while True:
                libvirt.virEventRunDefaultImpl()

        LOOP.append(threading.Thread(target=run, daemon=True))
        LOOP[0].start()


def lifecycle_words(event, detail):
    name, details = LIFECYCLE.get(event, (str(event), ""))
    words = details.split()
    return f"{name} {words[detail] if detail < len(words) else detail}"


class Events:
    """The events of the libvirtd at URI, from now on."""

    def __init__(self, uri):
        loop_start()
        self._cond = threading.Condition()
        self._lines = []
        self._waiting = []  # those of them that expect() has not seen
        self._connection = libvirt.open(uri)
        self._ids = []
        self._on(libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, "lifecycle", lifecycle_words)
        self._on(libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, "reboot")
        self._on(libvirt.VIR_DOMAIN_EVENT_ID_WATCHDOG, "watchdog")
        self._on(libvirt.VIR_DOMAIN_EVENT_ID_BALLOON_CHANGE, "balloon")
        self._on(libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, "device-added")
        self._on(libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, "device-removed")
        self._on(libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, "device-stays")
        self._on(libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, "job", lambda *_: "")
        self._on(libvirt.VIR_DOMAIN_EVENT_ID_MEMORY_DEVICE_SIZE_CHANGE, "memory-device-size")
        self._on(libvirt.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION, "migration-iteration")

    def _on(self, number, name, words=lambda *details: " ".join(map(str, details))):
        def came(_connection, domain, *details):
            line = f"{name} {domain.name()} {words(*details[:-1])}".rstrip()
            with self._cond:
                self._lines.append(line)
                self._waiting.append(line)
                self._cond.notify_all()

        self._ids.append(self._connection.domainEventRegisterAny(None, number, came, None))

    @property
    def lines(self):
        """All there were."""
        with self._cond:
            return list(self._lines)

    def mark(self):
        """Let expect() look at nothing that came before."""
        with self._cond:
            self._waiting.clear()

    def expect(self, pattern, timeout=None):
        """The match of PATTERN with a whole line; each line that came since mark() matches once."""
        deadline = time.monotonic() + (timeout or TIMEOUT_S)
        with self._cond:
            while True:
                for number, line in enumerate(self._waiting):
                    match = re.fullmatch(pattern, line)
                    if match:
                        del self._waiting[number]
                        return match
                left = deadline - time.monotonic()
                if left <= 0:
                    told = "\n".join(self._lines)
                    raise AssertionError(f"no event {pattern!r}; there were:\n{told}")
                self._cond.wait(left)

    def close(self):
        try:
            for number in self._ids:
                self._connection.domainEventDeregisterAny(number)
            self._connection.close()
        except libvirt.libvirtError:
            pass  # the daemon is gone
