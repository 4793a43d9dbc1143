# SPDX-License-Identifier: BSD-3-Clause
"""Programs and people who manage a machine with a stock kernel: what they are told of its life, and
resizes as jobs by the driver that everybody has. What came of a resize is read in the guest."""

import re
import time

from guests import (
    APPEND,
    END_TIMEOUT_S,
    HOLD_DISK,
    MIB,
    NEWEST,
    await_power_button,
    machine,
    power_off,
)
from hostqmp import HostQmp

GIB = 1 << 30
NO_DRIVER = "module_blacklist=virtio_mem"
# A monitor in an emulated host, whose one processor the guest keeps busy.
ANSWER_S = 10


def events(qmp, *wanted):
    """The next events are just these: (name, data)."""
    found = [qmp.next_event() for _ in wanted]
    assert [(event["event"], event.get("data", {})) for event in found] == list(wanted)
    stamps = [tuple(event["timestamp"].values()) for event in found]
    assert stamps == sorted(stamps)


def status(qmp):
    return qmp.execute("query-status")["status"]


def job_events(job, *statuses):
    return [("JOB_STATUS_CHANGE", {"id": job, "status": status}) for status in statuses]


def nobody_resizes(qmp, vm):
    """There is a device, and no driver for it: a resize says so at once, and stays wanted."""
    qmp.execute("virtio-mem-resize", device="reg0", size=512 * MIB)
    events(qmp, *job_events("resize-reg0", "created", "running", "aborting", "concluded"))
    info = qmp.job("resize-reg0")
    assert info["reason"] == "no-driver"
    assert info["error"] == (
        "the guest has no driver for 'reg0'; the requested size stays 512 MiB"
    )
    assert (info["current-progress"], info["total-progress"]) == (0, 512 * MIB)
    request = vm.request("reg0")
    assert request["Status"] == "no-driver"
    assert request["Explanation"] == "the guest has no driver for 'reg0'"
    qmp.execute("job-dismiss", id="resize-reg0")
    events(qmp, *job_events("resize-reg0", "null"))


def test_life_in_events(host):
    """From the first instruction to the power button: each event, in order, and none beside."""
    words = ["-S", "-device", "pvpanic", "-action", "panic=pause", *HostQmp.words(host)]
    words += ["-object", "memory-backend-ram,id=mem0,size=1G"]
    words += ["-device", "virtio-mem-pci,id=reg0,memdev=mem0"]
    append = f"{APPEND} {NO_DRIVER}"
    with (
        machine(host, NEWEST, *words, memory="1G,maxmem=2G", append=append) as vm,
        HostQmp(host) as qmp,
    ):
        assert status(qmp) == "prelaunch"
        qmp.execute("cont")
        events(qmp, ("RESUME", {}))
        qmp.execute("system_reset")
        events(qmp, ("RESET", {"guest": False, "reason": "host-qmp-system-reset"}))
        vm.boot()
        qmp.execute("stop")
        assert status(qmp) == "paused"
        qmp.execute("cont")
        assert status(qmp) == "running"
        events(qmp, ("STOP", {}), ("RESUME", {}))
        nobody_resizes(qmp, vm)

        vm.process.write("reboot -f\n")
        events(qmp, ("RESET", {"guest": True, "reason": "guest-reset"}))
        vm.boot()
        vm.process.write("echo c > /proc/sysrq-trigger\n")
        events(qmp, ("GUEST_PANICKED", {"action": "pause"}), ("STOP", {}))
        assert status(qmp) == "guest-panicked"

        qmp.execute("system_reset")
        events(qmp, ("RESET", {"guest": False, "reason": "host-qmp-system-reset"}))
        qmp.execute("cont")
        events(qmp, ("RESUME", {}))
        vm.boot()
        await_power_button(vm, "poweroff -f")
        qmp.execute("system_powerdown")
        events(
            qmp,
            ("POWERDOWN", {}),
            ("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"}),
        )
        assert qmp.closed()
        assert vm.process.wait(END_TIMEOUT_S) == 0


class Resizes:
    """A machine with a device on each of two nodes, and what the guest had of them at first."""

    BOOT_MIB = 512  # of each node
    MAX_MIB = {"reg0": 4096, "reg1": 2048}

    def __init__(self, host, vm, qmp):
        self.host, self.vm, self.qmp = host, vm, qmp
        self.base = vm.mem_total()

    @classmethod
    def words(cls, host):
        words = ["-smp", "2", "-numa", "node,nodeid=0,cpus=0", "-numa", "node,nodeid=1,cpus=1"]
        for node, (name, mib) in enumerate(cls.MAX_MIB.items()):
            words += ["-object", f"memory-backend-ram,id=mem{node},size={mib}M"]
            words += ["-device", f"virtio-mem-pci,id={name},memdev=mem{node},node={node}"]
        return words + HostQmp.words(host)

    def start(self, size_mib, device="reg0", **more):
        """Begin a job; its id."""
        self.qmp.execute("virtio-mem-resize", device=device, size=size_mib * MIB, **more)
        created = self.qmp.wait_event("JOB_STATUS_CHANGE", {"status": "running"})
        return created["data"]["id"]

    def sizes(self):
        found = self.qmp.execute("query-memory-devices")
        return {each["data"]["id"]: each["data"]["size"] for each in found}

    def requested(self, device):
        path = f"/machine/peripheral/{device}"
        return self.qmp.execute("qom-get", path=path, property="requested-size")

    def agree(self, *sizes_mib):
        """The devices have these sizes, and the guest's nodes have just that much more memory than
        at first."""
        plugged, total = self.vm.await_agreement(self.base)
        assert {node: total[node] - self.base[node] for node in total} == plugged
        assert list(self.sizes().values()) == list(plugged.values())
        assert [size // MIB for size in plugged.values()] == list(sizes_mib)

    def ebbctl(self, words):
        """What the client prints, in the host; it must end well."""
        socket = self.host.path(HostQmp.SOCKET)
        return self.host.check(f"{self.host.path('ebbctl')} {words.format(socket)}", 120)


def succeeded(info):
    assert "error" not in info and info["status"] == "concluded", info
    assert info["current-progress"] == info["total-progress"], info


def watch(qmp, job):
    """Look at JOB until it is over; its progress as it was seen, and how long a question took
    meanwhile, in seconds."""
    seen, took = [qmp.job(job)], []
    while seen[-1]["status"] == "running":
        begin = time.monotonic()
        assert qmp.execute("query-status")["running"]
        took.append(time.monotonic() - begin)
        seen.append(qmp.job(job))
    return seen, sorted(took)


def latency(took):
    median, last = took[len(took) // 2], took[-1]
    return f"{1000 * median:.1f} ms, at most {1000 * last:.1f} ms ({len(took)} times)"


def grow_watched(run):
    """0 to 4 GiB as a job: its progress only grows, and others are answered meanwhile."""
    idle = []
    for _ in range(20):
        begin = time.monotonic()
        status(run.qmp)
        idle.append(time.monotonic() - begin)
    seen, took = watch(run.qmp, job := run.start(4096))
    print(f"query-status through the relay: {latency(sorted(idle))}")
    print(f"query-status while 4 GiB are plugged: {latency(took)}")
    assert took[-1] < ANSWER_S
    moved = [info["current-progress"] for info in seen]
    assert moved == sorted(moved) and any(0 < bytes < 4 * GIB for bytes in moved)
    assert {info["total-progress"] for info in seen} == {4 * GIB}
    succeeded(run.qmp.concluded(job))
    run.agree(4096, 0)
    told = run.qmp.take_events("MEMORY_DEVICE_SIZE_CHANGE")
    assert {event["data"]["id"] for event in told} == {"reg0"}
    assert 0 < told[0]["data"]["size"] <= told[-1]["data"]["size"] <= 4 * GIB


def begin_to_shrink(run, device):
    """A job that takes all of DEVICE, and got something. (A guest that had no time for long, since
    its host is busy, ends a job: then it is asked again.)"""
    full = run.sizes()[device]
    run.qmp.take_events("MEMORY_DEVICE_SIZE_CHANGE")
    for _ in range(5):
        job = run.start(0, device)
        run.qmp.wait_event("MEMORY_DEVICE_SIZE_CHANGE", lambda data: data["size"] < full)
        info = run.qmp.job(job)
        if info["status"] == "running":
            return job
        run.qmp.concluded(job)
    raise AssertionError(info)


def shrink_cancelled(run):
    """A shrink stops where it is, and nothing moves after that."""
    job = begin_to_shrink(run, "reg0")
    run.qmp.execute("job-cancel", id=job)
    info = run.qmp.concluded(job)
    size = run.sizes()["reg0"]
    assert 0 < size < 4 * GIB
    assert info["reason"] == "cancelled" and "'reg0' stays at " in info["error"]
    assert info["total-progress"] - info["current-progress"] == size
    assert run.requested("reg0") == size
    assert run.vm.await_request("reg0") == "done"
    run.agree(size // MIB, 0)
    return size // MIB


def resize_all(run, size_mib):
    """The whole machine, then one node: the guest's nodes are what was asked for."""
    room = run.MAX_MIB["reg0"] - size_mib
    total_mib = 2 * run.BOOT_MIB + size_mib + room // 4 * 2
    run.qmp.execute("memory-resize", total=total_mib * MIB, job_id="all")
    info = run.qmp.concluded("all")
    succeeded(info)
    assert info["type"] == "memory-resize"
    sizes = [size // MIB for size in run.sizes().values()]
    assert sum(sizes) == total_mib - 2 * run.BOOT_MIB
    assert sizes[0] > size_mib and sizes[1] > 0
    run.agree(*sizes)
    run.qmp.execute("memory-resize", total=(run.BOOT_MIB + 768) * MIB, node=1, job_id="one")
    succeeded(run.qmp.concluded("one"))
    run.agree(sizes[0], 768)


def people_resize(run):
    """The same by hand: at the human monitor, and with the client."""
    text = run.vm.hmp("virtio-mem reg1 1024 -w")
    lines = text.splitlines()
    assert all(re.fullmatch(r"resize-reg1: .* moved \(\d+ %\)", line) for line in lines[:-1]), text
    assert len(lines) > 1 and lines[-1] == "resize-reg1: done"
    text = run.ebbctl("{} resize reg1 +512M --wait")
    assert text.splitlines()[-1] == "reg1: done, 1.5 GiB"
    assert run.qmp.execute("query-jobs") == []
    sizes = {name: size // MIB for name, size in run.sizes().items()}
    lines = run.ebbctl("top {} --count 2 --interval 1s").splitlines()
    assert len(lines) == 4
    for line, name in zip(lines, ("reg0", "reg1") * 2):
        assert f"device={name} " in line and f" plugged={sizes[name]}M " in line, line
        assert f" requested={sizes[name]}M " in line and " state=steady" in line, line


def test_resizes(host):
    """Grow, cancel, spread over nodes, by programs and by people."""
    with (
        machine(host, NEWEST, *Resizes.words(host), memory="1G,maxmem=8G") as vm,
        HostQmp(host) as qmp,
    ):
        vm.boot()
        run = Resizes(host, vm, qmp)
        grow_watched(run)
        resize_all(run, shrink_cancelled(run))
        people_resize(run)
        assert qmp.execute("query-jobs") == []
        power_off(vm)


HELD_MIB = 192
GIVEN = re.compile(
    r"the guest gave back (\d+) MiB of \S+ .iB; the other (\d+) MiB stay plugged, in (\d+) of 16 "
    r"parts of 128 MiB: it tried (\d+) times?, at last \d+ s ago; for memory that it cannot empty "
    r"it does not ask"
)


def parts_used(run, device):
    """How many parts of 128 MiB have memory that is plugged."""
    blocks = run.qmp.execute("query-virtio-mem-blocks", device=device, cells=16)
    assert blocks["cell-size"] == 128 * MIB
    return sum(1 for cell in blocks["cells"] if cell)


def shrink_stuck(run):
    """The guest's kernel keeps some of it: how much, and that the driver does not ask for it. What
    is left, in MiB."""
    info = run.qmp.concluded(begin_to_shrink(run, "reg1"))
    assert info["reason"] == "guest-gave-part"
    total_mib = info["total-progress"] // MIB
    given, left, _, _ = (int(number) for number in GIVEN.match(info["error"]).groups())
    assert given + left == total_mib and info["current-progress"] == given * MIB
    assert info["error"].endswith("; the requested size stays 0 bytes")
    # A guest may go on after it stood still for long.
    assert run.vm.await_request("reg1") == "vm-oom"
    left_mib = run.sizes()["reg1"] // MIB
    assert HELD_MIB <= left_mib <= left
    assert run.requested("reg1") == 0
    told = GIVEN.fullmatch(run.vm.request("reg1")["Explanation"])
    given, left, parts, tries = (int(number) for number in told.groups())
    assert (given, left) == (total_mib - left_mib, left_mib)
    assert parts == parts_used(run, "reg1") and tries > 0
    run.agree(0, left_mib)
    return left_mib


def test_stuck_shrink(host):
    """A kernel keeps memory of its own in a device: what is told of it is what the guest says, and
    all that was free is given back. Once it is free, the next request gets it."""
    append = APPEND.replace("online_movable", "online_kernel")
    words = Resizes.words(host)
    with (
        machine(
            host, NEWEST, *words, memory="1G,maxmem=8G", append=append, disk=HOLD_DISK
        ) as vm,
        HostQmp(host) as qmp,
    ):
        vm.boot()
        run = Resizes(host, vm, qmp)
        succeeded(qmp.concluded(run.start(1024, "reg1")))
        run.agree(0, 1024)
        done = vm.console.run(
            f"taskset 2 hold {HELD_MIB} > /tmp/held & hold=$!; "
            "until grep -q held /tmp/held; do :; done",
            END_TIMEOUT_S,
        )
        assert done.status == 0, done.output
        left_mib = shrink_stuck(run)

        info = qmp.concluded(run.start(0, "reg1", timeout=2))
        assert info["reason"] == "timeout"
        assert info["error"].startswith("not done after 2 s: the guest gave back ")
        assert vm.console.run("kill $hold").status == 0
        run.start(0, "reg1")
        most = (left_mib - HELD_MIB // 2) * MIB
        qmp.wait_event("MEMORY_DEVICE_SIZE_CHANGE", lambda data: data["size"] <= most)
        power_off(vm)
