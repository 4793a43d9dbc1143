# SPDX-License-Identifier: BSD-3-Clause
"""Stock kernels that are moved while they work: a program changes memory and checks it all the time,
the guest's memory grows and shrinks meanwhile, and it does so after the move as before."""

import contextlib
import re
import time

import nest
from guests import DIRTY_DISK, MIB, NEWEST, QUICK, machine, power_off
from hostqmp import HostQmp
from migrating import CAPS, PARAMS, UNLIMITED, capabilities, ended, succeed
from qmp import QmpClosed

MOVE_TIMEOUT_S = 240
DIRTY_MIB = 24
# What a kernel says when something went wrong with its memory, its processors, or its time.
COMPLAINTS = "BUG:|Oops|lockup|stalls on|orrupt|backwards"
WORDS = ["-object", "memory-backend-ram,id=mem0,size=2G"]
WORDS += ["-device", "virtio-mem-pci,id=reg0,memdev=mem0,requested-size=256M"]
WORDS += ["-smp", "2", "-device", "virtio-rng-pci"]
WORDS += ["-device", "virtio-balloon-pci,free-page-hint=on"]


class Moving:
    """A guest whose programs change DIRTY_MIB of memory each, all the time, and the machines that it is
    in."""

    def __init__(self, host, kernel, stack, accel="kvm", words=WORDS, programs=1):
        self.host, self.kernel, self.stack = host, kernel, stack
        self.accel, self.words, self.programs = accel, words, programs
        self.number = 0
        self.vm = self.qmp = None
        self.vm, self.qmp = self.another()
        self.vm.boot()
        assert self.vm.await_request("reg0") == "done"
        self.base = self.vm.mem_total()[0] - self.plugged()
        for number in range(programs):
            done = self.vm.console.run(f"dirty {DIRTY_MIB} /tmp/dirty{number} & echo $! >> /tmp/pids")
            assert done.status == 0, done.output
        self.boot_id = self.boot()

    def boot(self):
        return self.vm.console.run("cat /proc/sys/kernel/random/boot_id").output

    def plugged(self):
        return self.vm.plugged()[0]

    def another(self, *more):
        """One more machine of the same command line, and its monitor for programs."""
        self.number += 1
        monitor, socket = f"mon{self.number}.sock", f"qmp{self.number}.sock"
        vm = machine(
            self.host,
            self.kernel,
            *self.words,
            *more,
            *HostQmp.words(self.host, socket),
            memory="512M,maxmem=4G",
            # Else a kernel writes zeros to all of its free memory before it hints that it is free.
            append=QUICK,
            disk=DIRTY_DISK,
            monitor=monitor,
            accel=self.accel,
        )
        vm = self.stack.enter_context(vm)
        try:
            qmp = self.stack.enter_context(HostQmp(self.host, socket=socket))
        except OSError as error:
            raise AssertionError(f"ebb is not there: {vm.process.output!r}") from error
        return vm, qmp

    def arrived(self, vm, qmp):
        """The guest runs there now, and is the same one."""
        try:
            if qmp.execute("query-status")["status"] != "running":
                qmp.wait_event("RESUME", timeout=MOVE_TIMEOUT_S)
        except QmpClosed as error:
            raise AssertionError(f"it did not arrive: {vm.process.output!r}") from error
        before, self.vm, self.qmp = (self.vm, self.qmp), vm, qmp
        with contextlib.suppress(nest.StreamEnded):
            before[0].hmp("quit")
        assert before[0].process.wait(60) == 0
        assert self.boot() == self.boot_id

    def resize(self, size_mib):
        """Ask for it and do not wait."""
        path = "/machine/peripheral/reg0"
        self.qmp.execute(
            "qom-set", path=path, property="requested-size", value=size_mib * MIB
        )

    def settle(self, size_mib):
        """Monitor and guest agree on the size that was asked for."""
        assert self.vm.await_request("reg0") == "done"
        plugged, total = self.vm.await_agreement({0: self.base})
        assert (plugged[0], total[0] - self.base) == (size_mib * MIB, size_mib * MIB)

    def live(self, caps=None, params=None, postcopy=False, during=None):
        target, qmp = self.another("-incoming", "defer")
        uri = f"unix:{self.host.path('way')}"
        caps = {**CAPS, "postcopy_ram": postcopy, **(caps or {})}
        for monitor in (self.qmp, qmp):
            capabilities(monitor, **caps)
            monitor.execute("migrate-set-parameters", **{**PARAMS, **(params or {})})
            monitor.take_events("MIGRATION")
        qmp.execute("migrate-incoming", uri=uri)
        self.qmp.execute("migrate", uri=uri)
        if during:
            during()
        if postcopy:
            succeed(self.qmp, "active", timeout=MOVE_TIMEOUT_S)
            self.qmp.execute("migrate-start-postcopy")
        succeed(self.qmp, timeout=MOVE_TIMEOUT_S)
        self.arrived(target, qmp)

    def await_hints(self):
        """Until free pages were left out; what is left is sent as fast as can be."""
        deadline = time.monotonic() + MOVE_TIMEOUT_S
        while not self.qmp.execute("query-migrate").get("ram", {}).get("hinted"):
            assert time.monotonic() < deadline, self.qmp.execute("query-migrate")
            time.sleep(0.1)
        self.qmp.execute("migrate-set-parameters", max_bandwidth=UNLIMITED)

    def saved(self, save, load):
        file = self.host.path("state")
        capabilities(self.qmp, **CAPS)
        self.qmp.execute("migrate-set-parameters", **PARAMS)
        self.qmp.take_events("MIGRATION")
        self.qmp.execute("migrate", uri=save.replace("FILE", file))
        succeed(self.qmp, timeout=MOVE_TIMEOUT_S)
        self.arrived(*self.another("-incoming", load.replace("FILE", file)))
        self.host.run(f"rm -f {file}")

    def finish(self):
        """Nothing that the programs wrote was lost, time never went back, and the guest ends as guests
        do."""
        done = self.vm.console.run("kill $(cat /tmp/pids); wait; cat /tmp/dirty*", MOVE_TIMEOUT_S)
        found = re.findall(r"rounds=(\d+) wrong=(\d+) back=(\d+)", done.output)
        assert len(found) == self.programs, done.output
        for rounds, wrong, back in found:
            assert int(rounds) > 0 and (wrong, back) == ("0", "0"), done.output
        log = self.vm.console.run(f"dmesg | grep -E -A 30 '{COMPLAINTS}'").output
        assert log.strip() == "", log
        power_off(self.vm)


def test_moves(host):
    """Precopy while memory grows, without what is free; into a file and out of it while memory shrinks;
    postcopy; and all of it can be changed afterwards as before. (Through a program: test_scenario.py.)"""
    with contextlib.ExitStack() as stack:
        guest = Moving(host, NEWEST, stack)

        def grow():
            guest.resize(768)
            guest.await_hints()

        guest.live(params={"max_bandwidth": 2 * MIB}, during=grow)
        guest.settle(768)
        guest.resize(384)
        guest.saved("file:FILE", "file:FILE")
        guest.settle(384)
        guest.live(postcopy=True)
        guest.resize(512)
        guest.settle(512)
        guest.resize(0)
        guest.settle(0)
        guest.finish()


def test_parallel_and_cancelled(host):
    """Several connections and zstd; called off, and tried again."""
    with contextlib.ExitStack() as stack:
        guest = Moving(host, NEWEST, stack)
        target, _ = guest.another("-incoming", f"unix:{host.path('nobody')}")
        capabilities(guest.qmp, events=True)
        guest.qmp.execute("migrate-set-parameters", max_bandwidth=MIB)
        guest.qmp.execute("migrate", uri=f"unix:{host.path('nobody')}")
        assert succeed(guest.qmp, "active") == "active"
        guest.qmp.execute("migrate_cancel")
        assert ended(guest.qmp) == "cancelled"
        assert target.process.wait(60) == 1
        guest.live(
            caps={"multifd": True},
            params={"multifd_channels": 2, "multifd_compression": "zstd"},
            during=lambda: guest.resize(512),
        )
        guest.settle(512)
        guest.finish()
