# SPDX-License-Identifier: BSD-3-Clause
"""Resizes as jobs: how each ends and what it says, over the monitor for programs and for people."""

import os
import time

import pytest

from backends import Backend, pool
from ebbvm import Machine, memory_devices
from qmp import QmpError

MIB = 1 << 20
GIB = 1 << 30
STALL_S = 5  # a guest that does nothing for so long has stopped

ONE = ["-m", "128M,maxmem=4G", *memory_devices(("1G", "64M", "2M", 0))]
# Blocks of two sizes on two nodes of 64 MiB boot memory each.
TWO = [
    "-m",
    "128M,maxmem=6G",
    "-smp",
    "2",
    "-numa",
    "node,nodeid=0,cpus=0",
    "-numa",
    "node,nodeid=1,cpus=1",
    *memory_devices(("1G", "0", "2M", 0), ("1G", "0", "64M", 1)),
]


class Vm(Machine):
    """A machine with a guest that follows, and a session of each monitor."""

    def __init__(self, folder, args=(), devices=1, append=""):
        args = [*(args or ONE)]
        append = f"test=vmem-follow devices={devices} {append}"
        super().__init__(folder, append, args, monitor=True, qmp=True)

    def __enter__(self):
        super().__enter__()
        self.console.expect("^follow: ready$")
        self.hmp = self.monitor()
        self.ctl = self.qmp()
        return self

    def order(self, line, answer):
        """Give the guest an order and wait for what it says."""
        self.type(line)
        self.console.expect(answer)

    def plugged(self, size, device=0):
        """Wait until the guest says that it has SIZE."""
        self.console.expect(rf"^follow {device} plugged={size}$")

    def sizes(self):
        return [d["data"]["size"] for d in self.ctl.execute("query-memory-devices")]

    def requested(self, device="d0"):
        path = f"/machine/peripheral/{device}"
        return self.ctl.execute("qom-get", path=path, property="requested-size")

    def resize(self, size, device="d0", **more):
        """Start a job; its id."""
        self.ctl.execute("virtio-mem-resize", device=device, size=size, **more)
        return self.ctl.wait_event("JOB_STATUS_CHANGE", {"status": "running"})["data"]["id"]

    def resize_all(self, total, **more):
        self.ctl.execute("memory-resize", total=total, **more)
        return self.ctl.wait_event("JOB_STATUS_CHANGE", {"status": "running"})["data"]["id"]

    def job(self, job):
        """JobInfo of JOB, None when there is none."""
        found = [j for j in self.ctl.execute("query-jobs") if j["id"] == job]
        assert len(found) < 2
        return found[0] if found else None

    def concluded(self, job):
        """Wait for the end of JOB; its JobInfo."""
        self.ctl.wait_event("JOB_STATUS_CHANGE", {"id": job, "status": "concluded"})
        return self.job(job)

    def statuses(self, job):
        """The statuses that were told of JOB and not waited for."""
        return [
            e["data"]["status"]
            for e in self.ctl.take_events("JOB_STATUS_CHANGE")
            if e["data"]["id"] == job
        ]


def check(info, reason, *words):
    """A job that ended for REASON, with an error that says WORDS."""
    assert info["status"] == "concluded"
    assert info["reason"] == reason, info
    for word in words:
        assert word in info["error"], info
    assert info["current-progress"] <= info["total-progress"]


def succeeded(info):
    assert info["status"] == "concluded", info
    assert "error" not in info and "reason" not in info, info
    assert info["current-progress"] == info["total-progress"], info


# ---- success ----


def test_grow_and_shrink(folder):
    """Up and down again; the events of a job come in the order of its life."""
    with Vm(folder) as vm:
        vm.ctl.execute("virtio-mem-resize", device="d0", size=512 * MIB)
        info = vm.concluded("resize-d0")
        succeeded(info)
        assert info["type"] == "virtio-mem-resize"
        assert info["total-progress"] == 448 * MIB
        assert vm.statuses("resize-d0") == ["created", "running"]
        assert vm.sizes() == [512 * MIB]
        vm.ctl.execute("job-dismiss", id="resize-d0")
        assert vm.statuses("resize-d0") == ["null"]
        assert vm.ctl.execute("query-jobs") == []
        succeeded(vm.concluded(vm.resize(0)))
        assert vm.sizes() == [0]
        # Nothing to do is done.
        info = vm.concluded(vm.resize(0))
        succeeded(info)
        assert info["total-progress"] == 0


def test_progress_never_goes_back(folder):
    """A guest in small steps: whatever is read on the way only grows, up to the total."""
    with Vm(folder, append="step=4M") as vm:
        job = vm.resize(GIB)
        seen = [vm.job(job)]
        while seen[-1]["status"] == "running":
            seen.append(vm.job(job))
        succeeded(seen[-1])
        moved = [info["current-progress"] for info in seen]
        assert moved == sorted(moved)
        assert {info["total-progress"] for info in seen} == {960 * MIB}
        assert moved[-1] == 960 * MIB
        # There is something to see, on any machine that answers faster than its guest moves 1 GiB.
        assert any(0 < m < 960 * MIB for m in moved)


def test_job_id(folder):
    with Vm(folder) as vm:
        succeeded(vm.concluded(vm.resize(128 * MIB, job_id="my-job.1")))
        error = vm.ctl.error(
            "virtio-mem-resize", {"device": "d0", "size": 0, "job-id": "my-job.1"}
        )
        assert error.error_class == "GenericError" and "my-job.1" in error.desc
        assert vm.requested() == 128 * MIB
        for wanted in ("resize-d0", "resize-d0-2"):
            job = vm.resize(0)
            assert job == wanted
            succeeded(vm.concluded(job))


@pytest.mark.parametrize(
    "arguments, word",
    [
        ({"device": "d0", "size": 1}, "block size"),
        ({"device": "d0", "size": 2 * GIB}, "beyond"),
        ({"device": "d0", "size": 0, "timeout": -1}, "timeout"),
        ({"device": "d0", "size": 0, "timeout": 1 << 40}, "timeout"),
        ({"device": "d0", "size": 0, "job-id": "no id"}, "no id"),
        ({"device": "d0", "size": 0, "job-id": ""}, "''"),
    ],
)
def test_refused(folder, arguments, word):
    """One sentence, and nothing was changed."""
    with Vm(folder) as vm:
        error = vm.ctl.error("virtio-mem-resize", arguments)
        assert error.error_class == "GenericError" and word in error.desc
        assert vm.ctl.error("virtio-mem-resize", {"device": "x", "size": 0}).error_class == (
            "DeviceNotFound"
        )
        assert vm.ctl.execute("query-jobs") == []
        assert vm.requested() == 64 * MIB and vm.sizes() == [64 * MIB]


# ---- the guest takes or gives only a part ----


def test_guest_takes_part(folder):
    with Vm(folder, append="most=576M") as vm:
        job = vm.resize(GIB)
        vm.plugged(576 * MIB)
        info = vm.concluded(job)
        check(info, "guest-took-part", "took 512 MiB of 960 MiB and asks for no more")
        check(info, "guest-took-part", "the requested size stays 1 GiB")
        assert info["current-progress"] == 512 * MIB
        assert info["total-progress"] == 960 * MIB
        assert "running" not in vm.statuses(job)
        assert vm.requested() == GIB
        # The same is said where people look.
        state = vm.ctl.execute("query-virtio-mem", device="d0")[0]
        assert state["reason"] == "guest-took-part"
        assert "512 MiB of 960 MiB" in vm.hmp.virtio_mem("d0")["Explanation"]
        # It still does what it is asked, later.
        vm.order("most 0 1G", "^limits 0")
        vm.plugged(GIB)
        assert "reason" not in vm.ctl.execute("query-virtio-mem", device="d0")[0]


def test_guest_takes_nothing(folder):
    """It looked, and sent no request."""
    with Vm(folder, append="most=64M") as vm:
        info = vm.concluded(vm.resize(GIB))
        check(info, "guest-took-part", "nothing of 960 MiB", "read the new size", "no request")


def test_guest_gives_part(folder):
    with Vm(folder) as vm:
        succeeded(vm.concluded(vm.resize(GIB)))
        vm.order("keep 0 512M", "^limits 0")
        info = vm.concluded(vm.resize(0))
        check(info, "guest-gave-part", "gave back 512 MiB of 1 GiB")
        check(info, "guest-gave-part", "the other 512 MiB stay plugged", "4 of 8 parts of 128 MiB")
        check(info, "guest-gave-part", "tried 1 time", "5 s ago", "requested size stays 0 bytes")
        assert vm.sizes() == [512 * MIB] and vm.requested() == 0


def test_guest_gives_nothing(folder):
    with Vm(folder, append="keep=64M") as vm:
        info = vm.concluded(vm.resize(0))
        check(info, "guest-gave-part", "nothing of 64 MiB", "read the new size", "no request")
        assert info["current-progress"] == 0


@pytest.mark.parametrize("size", [0, GIB])
def test_guest_is_silent(folder, size):
    """It does not even look."""
    with Vm(folder) as vm:
        vm.order("deaf 0", "^deaf 0$")
        start = time.monotonic()
        info = vm.concluded(vm.resize(size))
        assert time.monotonic() - start >= STALL_S
        check(info, "guest-silent", "did not even read the new size")


# ---- drivers ----


def test_no_driver(folder):
    """Nobody is waited for."""
    with Vm(folder) as vm:
        vm.order("leave 0", "^left 0$")
        start = time.monotonic()
        info = vm.concluded(vm.resize(GIB))
        assert time.monotonic() - start < STALL_S
        check(info, "no-driver", "the guest has no driver for 'd0'", "stays 1 GiB")


def test_driver_goes(folder):
    """It has some seconds to come back."""
    with Vm(folder, append="most=512M") as vm:
        job = vm.resize(GIB)
        vm.plugged(512 * MIB)
        vm.order("leave 0", "^left 0$")
        check(vm.concluded(job), "no-driver", "no driver for 'd0'")
        vm.order("return 0", "^returned 0$")
        job = vm.resize(768 * MIB)
        vm.order("leave 0", "^left 0$")
        vm.order("return 0", "^returned 0$")
        vm.order("most 0 1G", "^limits 0")
        succeeded(vm.concluded(job))


# ---- the host ----


def test_host_has_no_memory(folder):
    """Half of what is asked for is there."""
    with pool(2 * MIB, 64) as file:
        backend = Backend("memfd,hugetlb=on,hugetlbsize=2M,reserve=off", "/memfd:m0", 2 * MIB)
        free = int((file.parent / "free_hugepages").read_text()) * 2 * MIB
        if free > 2 * GIB:
            pytest.skip("the host has more huge pages than the test can use")
        device = "virtio-mem-pci,id=d0,memdev=m0,block-size=2M"
        args = ["-m", "128M,maxmem=6G", *backend.args("4G"), "-device", device]
        with Vm(folder, args) as vm:
            info = vm.concluded(vm.resize(free + 64 * MIB))
            check(info, "host-out-of-memory", "the host has no memory", "NACK")
            assert vm.sizes()[0] <= free
            refusals = vm.ctl.execute(
                "query-stats",
                target="virtio-mem",
                providers=[{"provider": "virtio-mem", "names": ["host-refusals", "plug-nack"]}],
            )[0]["stats"]
            assert all(s["value"] > 0 for s in refusals) and len(refusals) == 2


# ---- ends before the end ----


def test_cancel(folder):
    """It stops where it is, and stays there."""
    with Vm(folder, append="most=512M") as vm:
        job = vm.resize(GIB)
        vm.plugged(512 * MIB)
        vm.ctl.execute("job-cancel", id=job)
        info = vm.concluded(job)
        check(info, "cancelled", "'d0' stays at 512 MiB of 1 GiB")
        assert vm.statuses(job) == ["created", "aborting"]
        assert vm.requested() == 512 * MIB
        vm.order("most 0 1G", "^limits 0")
        vm.order("touch 0", f"^touched 0 pages={512 * MIB // 4096}$")
        assert vm.sizes() == [512 * MIB]
        error = vm.ctl.error("job-cancel", {"id": job})
        assert error.error_class == "GenericError" and "concluded" in error.desc
        assert vm.ctl.error("job-cancel", {"id": "nosuch"}).error_class == "GenericError"
        assert vm.ctl.error("job-dismiss", {"id": "nosuch"}).error_class == "GenericError"


def test_cancel_under_way(folder):
    """A guest in small steps, whose requests are under way at any time."""
    with Vm(folder, append="step=2M") as vm:
        for turn in range(20):
            size = GIB if turn % 2 == 0 else 0
            job = vm.resize(size)
            if turn < 2:
                vm.ctl.wait_event("MEMORY_DEVICE_SIZE_CHANGE")
            try:
                vm.ctl.execute("job-cancel", id=job)
            except QmpError as e:
                assert "concluded" in e.desc
                succeeded(vm.job(job))
                continue
            check(vm.concluded(job), "cancelled")
            # What is plugged at the end is what is asked for: nothing moves any more.
            assert vm.requested() == vm.sizes()[0]
            state = vm.ctl.execute("query-virtio-mem", device="d0")[0]
            assert state["request-status"] == "done"
        vm.order("verify 0", "^verified 0 wrong=0$")


def test_timeout(folder):
    """It counts from the command on, also for a guest that is not stuck."""
    with Vm(folder, append="most=64M") as vm:
        start = time.monotonic()
        job = vm.resize(GIB, timeout=3)
        vm.order("most 0 512M", "^limits 0")
        vm.plugged(512 * MIB)
        info = vm.concluded(job)
        assert 3 <= time.monotonic() - start
        check(info, "timeout", "not done after 3 s", "took 448 MiB", "requested size stays 1 GiB")


def test_another_size(folder):
    """Whoever asks for it, and however."""
    with Vm(folder, append="most=512M") as vm:
        job = vm.resize(GIB)
        vm.plugged(512 * MIB)
        error = vm.ctl.error("virtio-mem-resize", {"device": "d0", "size": 0})
        assert error.error_class == "GenericError" and job in error.desc
        assert vm.requested() == GIB
        vm.ctl.execute(
            "qom-set",
            path="/machine/peripheral/d0",
            property="requested-size",
            value=256 * MIB,
        )
        check(vm.concluded(job), "replaced", "256 MiB instead of 1 GiB")
        vm.plugged(256 * MIB)
        job = vm.resize(GIB)
        vm.plugged(512 * MIB)
        vm.hmp.run("virtio-mem d0 0")
        check(vm.concluded(job), "replaced", "0 bytes instead of 1 GiB")


# ---- what happens to the machine meanwhile ----


def test_stopped_machine(folder):
    """While it is stopped nothing stalls, and no timeout comes."""
    with Vm(folder, append="most=64M") as vm:
        job = vm.resize(GIB, timeout=4)
        vm.ctl.execute("stop")
        start = time.monotonic()
        # An event that comes after the time in which a running guest would have stalled.
        with pytest.raises(AssertionError):
            vm.ctl.wait_event("JOB_STATUS_CHANGE", {"status": "concluded"}, STALL_S + 1.5)
        assert time.monotonic() - start > STALL_S + 1
        assert vm.job(job)["status"] == "running"
        explanation = vm.ctl.execute("query-virtio-mem", device="d0")[0]["explanation"]
        assert "the machine is stopped" in explanation
        vm.ctl.execute("cont")
        vm.order("most 0 1G", "^limits 0")
        succeeded(vm.concluded(job))


def test_cancel_while_stopped(folder):
    with Vm(folder, append="most=512M") as vm:
        job = vm.resize(GIB)
        vm.plugged(512 * MIB)
        vm.ctl.execute("stop")
        vm.ctl.execute("job-cancel", id=job)
        check(vm.concluded(job), "cancelled", "stays at 512 MiB")
        assert vm.requested() == 512 * MIB


def test_reset(folder):
    """All blocks go; the job goes on with the guest that comes then."""
    with Vm(folder, append="most=512M") as vm:
        job = vm.resize(GIB)
        vm.plugged(512 * MIB)
        before = vm.job(job)
        vm.ctl.execute("system_reset")
        vm.console.expect("BARE test=")
        vm.plugged(512 * MIB)
        after = vm.job(job)
        assert after["status"] == "running"
        assert after["current-progress"] >= before["current-progress"]
        # What was lost has to be moved again.
        assert after["total-progress"] > before["total-progress"]
        vm.console.expect("^follow: ready$")
        vm.order("most 0 1G", "^limits 0")
        succeeded(vm.concluded(job))
        assert vm.sizes() == [GIB]


def test_device_is_removed(folder):
    """The guest gives the device up, which it was to plug memory of."""
    args = ["-machine", "q35", "-m", "128M,maxmem=4G", "-device", "pcie-root-port,id=p0,slot=0"]
    args += ["-object", "memory-backend-ram,id=m0,size=256M"]
    with Machine(folder, "test=hotplug follow=0", args, qmp=True) as machine:
        qmp = machine.qmp()
        machine.console.expect("^hotplug: ready ports=1$")
        qmp.execute("device_add", driver="virtio-mem-pci", id="d0", memdev="m0", bus="p0")
        machine.console.expect("^hotplug 0 came ")
        qmp.execute("virtio-mem-resize", device="d0", size=64 * MIB)
        machine.type("off 0")
        qmp.wait_event("DEVICE_DELETED")
        qmp.wait_event("JOB_STATUS_CHANGE", {"id": "resize-d0", "status": "concluded"})
        check(qmp.execute("query-jobs")[0], "device-removed", "'d0' was removed")
        assert qmp.error("virtio-mem-resize", {"device": "d0", "size": 0}).error_class == (
            "DeviceNotFound"
        )


def test_quit(folder):
    """A job, and somebody who waits for it, do not keep a machine from its end."""
    with Vm(folder, append="most=512M") as vm:
        vm.hmp.send("virtio-mem d0 1024 -w")
        vm.plugged(512 * MIB)
        vm.ctl.send("quit")
        assert vm.wait() == 0


# ---- the whole machine ----


def test_memory_resize(folder):
    """In proportion to room, and to what is there; boot memory is a part of it."""
    with Vm(folder, TWO, devices=2) as vm:
        job = vm.resize_all(128 * MIB + GIB)
        info = vm.concluded(job)
        succeeded(info)
        assert info["type"] == "memory-resize" and info["total-progress"] == GIB
        assert vm.sizes() == [512 * MIB, 512 * MIB]
        # Node 1 by itself: nothing of node 0 moves.
        info = vm.concluded(vm.resize_all(64 * MIB + 128 * MIB, node=1))
        succeeded(info)
        assert info["total-progress"] == 384 * MIB
        assert vm.sizes() == [512 * MIB, 128 * MIB]
        # 640 MiB of 4 : 1 become 320.
        succeeded(vm.concluded(vm.resize_all(128 * MIB + 320 * MIB)))
        assert vm.sizes() == [256 * MIB, 64 * MIB]
        # Room of 768 and 960 MiB: nothing goes from one device to the other.
        succeeded(vm.concluded(vm.resize_all(128 * MIB + 2 * GIB)))
        assert vm.sizes() == [GIB, GIB]
        succeeded(vm.concluded(vm.resize_all(128 * MIB)))
        assert vm.sizes() == [0, 0]
        # Only the device with small blocks can do it exactly.
        succeeded(vm.concluded(vm.resize_all(128 * MIB + 30 * MIB)))
        assert vm.sizes() == [30 * MIB, 0]


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"total": 127 * MIB}, ["between 128 MiB and 2176 MiB"]),
        ({"total": 2178 * MIB}, ["between 128 MiB and 2176 MiB"]),
        ({"total": 2 * GIB, "node": 0}, ["node 0", "between 64 MiB and 1088 MiB"]),
        ({"total": 129 * MIB}, ["block sizes", "128 MiB"]),
        ({"total": 96 * MIB, "node": 1}, ["node 1", "block sizes", "64 MiB"]),
        ({"total": GIB, "node": 2}, ["no node 2", "0 to 1"]),
        ({"total": GIB, "node": -1}, ["negative"]),
    ],
)
def test_memory_resize_refused(folder, arguments, words):
    with Vm(folder, TWO, devices=2) as vm:
        error = vm.ctl.error("memory-resize", arguments)
        assert error.error_class == "GenericError"
        assert all(word in error.desc for word in words), error.desc
        assert vm.ctl.execute("query-jobs") == []
        assert vm.requested("d0") == vm.requested("d1") == 0


def test_memory_resize_of_parts(folder):
    """One device does as it is asked, the other one does not: both are named."""
    with Vm(folder, TWO, devices=2) as vm:
        vm.order("most 1 64M", "^limits 1")
        info = vm.concluded(vm.resize_all(128 * MIB + GIB))
        check(info, "guest-took-part", "d1: the guest took 64 MiB of 512 MiB", "sizes stay")
        assert "d0" not in info["error"]
        assert info["current-progress"] == 576 * MIB and info["total-progress"] == GIB
        # A device that nobody drives keeps its size, while the other has room enough.
        vm.order("leave 1", "^left 1$")
        succeeded(vm.concluded(vm.resize_all(128 * MIB + 768 * MIB)))
        assert vm.sizes() == [704 * MIB, 64 * MIB]
        check(vm.concluded(vm.resize_all(128 * MIB + 1536 * MIB)), "no-driver", "d1: the guest has")


def test_memory_resize_is_one_at_a_time(folder):
    with Vm(folder, TWO, devices=2, append="most=64M") as vm:
        job = vm.resize_all(128 * MIB + GIB)
        vm.hmp.wait_for(vm.sizes, lambda s: s == [64 * MIB] * 2, "not both took what they can")
        for command, arguments in (
            ("memory-resize", {"total": 128 * MIB}),
            ("virtio-mem-resize", {"device": "d1", "size": 0}),
        ):
            error = vm.ctl.error(command, arguments)
            assert error.error_class == "GenericError" and job in error.desc
        vm.ctl.execute("job-cancel", id=job)
        check(vm.concluded(job), "cancelled", "'d0' stays at 64 MiB", "'d1' stays at 64 MiB")
        assert vm.requested("d0") == vm.requested("d1") == 64 * MIB


def test_memory_resize_without_devices(folder):
    args = ["-m", "128M"]
    with Machine(folder, "test=echo", args, qmp=True) as machine:
        machine.console.expect("^echo: ready$")
        error = machine.qmp().error("memory-resize", {"total": 128 * MIB})
        assert error.error_class == "GenericError" and "no memory device" in error.desc


# ---- people ----


def test_people_wait(folder):
    """The line that says how far it is, and the one that says how it ended."""
    with Vm(folder, append="step=16M") as vm:
        text = vm.hmp.run("virtio-mem d0 1024 -w")
        assert text.startswith("resize-d0: 0 bytes of 960 MiB moved (0 %)\n")
        assert text.endswith("960 MiB of 960 MiB moved (100 %)\nresize-d0: done\n")
        assert vm.sizes() == [GIB]
        vm.order("keep 0 512M", "^limits 0")
        text = vm.hmp.run("virtio-mem -w d0 0")
        assert "Error: resize-d0: the guest gave back 512 MiB of 1 GiB" in text
        # What somebody waited for is told, and forgotten.
        assert vm.hmp.run("info jobs") == "There are no jobs\n"
        vm.ctl.execute("virtio-mem-resize", device="d0", size=512 * MIB)
        vm.concluded("resize-d0")
        text = vm.hmp.run("info jobs")
        assert "resize-d0: type virtio-mem-resize, concluded, 0 bytes of 0 bytes moved\n" in text
        vm.hmp.run("job_dismiss resize-d0")
        assert "resize-d0:" not in vm.hmp.run("info jobs")
        vm.order("keep 0 0", "^limits 0")
        assert vm.hmp.run("virtio-mem d0 0") == ""
        vm.plugged(0)
        assert "done" in vm.hmp.run("memory_resize 256 -w")
        assert vm.sizes() == [128 * MIB]
        assert "between" in vm.hmp.run("memory_resize 64 0 -w")


def test_people_do_not_wait(folder):
    with Vm(folder) as vm:
        assert vm.hmp.run("virtio-mem d0 128") == ""
        vm.plugged(128 * MIB)
        assert vm.hmp.run("memory_resize 160") == ""
        succeeded(vm.concluded("resize-memory"))
        assert vm.sizes() == [32 * MIB]


def test_job_outlives_who_waits(folder):
    """A client that leaves cancels nothing."""
    with Vm(folder, append="most=512M") as vm:
        other = vm.monitor()
        other.send("virtio-mem d0 1024 -w")
        vm.plugged(512 * MIB)
        other.close()
        vm.order("most 0 1G", "^limits 0")
        succeeded(vm.concluded("resize-d0"))
        assert vm.sizes() == [GIB]


def test_ctrl_c_ends_the_waiting(folder):
    """And nothing else: the prompt comes back, the resize goes on."""
    with Vm(folder, append="most=512M") as vm:
        vm.hmp.send("virtio-mem d0 1024 -w")
        vm.plugged(512 * MIB)
        assert "done" not in vm.hmp.interrupt()
        assert "resize-d0: type virtio-mem-resize, running" in vm.hmp.run("info jobs")
        vm.order("most 0 1G", "^limits 0")
        succeeded(vm.concluded("resize-d0"))
        assert "running" in vm.hmp.run("info status")


def test_others_while_one_waits(folder):
    """They are told that they cannot have it, and no connection is lost at the end."""
    with Vm(folder, append="most=512M") as vm:
        sessions = [vm.monitor() for _ in range(8)]
        sessions[0].send("virtio-mem d0 1024 -w")
        vm.plugged(512 * MIB)
        for session in sessions[1:]:
            assert "is being resized" in session.run("virtio-mem d0 0 -w")
        before = len(os.listdir(f"/proc/{vm.process.pid}/fd"))
        vm.hmp.run("job_cancel resize-d0")
        assert "cancelled: 'd0' stays at 512 MiB of 1 GiB" in sessions[0].answer()
        assert len(os.listdir(f"/proc/{vm.process.pid}/fd")) == before
