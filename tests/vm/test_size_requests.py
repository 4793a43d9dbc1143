# SPDX-License-Identifier: BSD-3-Clause
"""Guests that ask for another size by themselves (guest-requests=on): what they are granted, that the
owner's word counts more, what monitors are told, and that no guest gets more out of asking badly.

    EBB_SEED=N     the same choices again (a failure prints it)
    EBB_TURNS=N    how many (60)
"""

import os
import random
import re
import time

import pytest

from ebbvm import Machine, memory_devices, passed
from migrating import Guest, capabilities, ended, live, prepare
from qmp import QmpError

MIB = 1 << 20
BLOCK = 2 * MIB
WANT = 0  # of the request's types
LOW, NORMAL, HIGH, CRITICAL = range(4)
NONE, PRESSURE, ALLOCATION, OOM, IDLE = range(5)
GRANTED, PARTLY, REFUSED, LATER, ERROR = range(5)
NO_CAUSE, LIMIT, RATE, FLOOR, HOST = range(5)
NEEDS_RESET = 0x40
DEVICE = "/machine/peripheral/d0"
APPEND = "test=vmem-size"
SEED = int(os.environ.get("EBB_SEED", str(random.SystemRandom().randrange(1 << 32))))
TURNS = int(os.environ.get("EBB_TURNS", "60"))


def args(requested="16M", more=",guest-requests=on"):
    return ["-m", "64M,maxmem=1G", *memory_devices(("512M", requested, "2M", 0), extra=more)]


class Asker:
    """The guest of MACHINE, one order after the other."""

    def __init__(self, machine, feature=1):
        self.machine = machine
        self.addr = int(machine.console.expect(r"^READY addr=(0x\w+) block=\d+\n").group(1), 0)
        if feature is not None:
            self.start(feature)

    def order(self, line, answer):
        """Numbers of the answer, by name."""
        self.machine.type(line)
        text = self.machine.console.expect(f"^{answer} (.*)\n").group(1)
        return {name: int(value, 0) for name, value in re.findall(r"(\w+)=(\w+)", text)}

    def start(self, feature=1):
        self.begun = self.order(f"start {feature}", "START")
        assert self.begun["ok"]
        return self.begun

    def ask(self, size, minimum=0, urgency=NORMAL, reason=PRESSURE, kind=WANT):
        """(type, cause, size in MiB), and the pause in self.retry_ms."""
        answer = self.order(f"ask {kind} {urgency} {reason} {size} {minimum}", "SIZE")
        assert answer["len"] == 16
        self.retry_ms = answer["retry"]
        return answer["type"], answer["cause"], answer["size"] / MIB

    def show(self):
        return self.order("show", "SHOW")

    def requested(self):
        return self.show()["requested"] / MIB

    def plug(self, offset, size):
        self.machine.type(f"plug {offset} {size}")
        return int(self.machine.console.expect(r"^ANSWER (\d+)\n").group(1))

    def quit(self):
        self.machine.type("quit")
        assert self.machine.wait() == 0, self.machine.errors.text
        passed(self.machine.console.text)


@pytest.fixture
def asker(folder):
    with Machine(folder, APPEND, args(), qmp=True, monitor=True) as machine:
        asker = Asker(machine)
        asker.qmp = machine.qmp()
        yield asker


def get(qmp, name, device="d0"):
    return qmp.execute("qom-get", path=device, property=name)


def put(qmp, name, value, device="d0"):
    return qmp.execute("qom-set", path=device, property=name, value=value)


def info(qmp):
    (device,) = qmp.execute("query-virtio-mem")
    return device


# ---- who may ask ----


def test_off_by_default(folder):
    """Then neither the feature nor the queue is there, nor anything to be told."""
    with Machine(folder, APPEND, args(more=""), qmp=True, monitor=True) as machine:
        asker, qmp = Asker(machine), machine.qmp()
        assert asker.begun == {"ok": 1, "offered": 0, "size": 0}
        assert asker.order("enable", "ENABLE") == {"size": 0, "enabled": 0}
        assert get(qmp, "vectors") == 2
        assert get(qmp, "guest-requests") is False and get(qmp, "granted-size") == 0
        assert "guest-requests" not in info(qmp)
        assert "uest request" not in machine.monitor().run("info virtio-mem d0")
        with pytest.raises(QmpError, match="takes no requests of the guest"):
            put(qmp, "request-limit", 0)
        assert asker.plug(0, 16 * MIB) == 0
        asker.quit()


def test_not_accepted(asker):
    """A driver that does not know of it has one queue, whatever it tries."""
    assert asker.start(0) == {"ok": 1, "offered": 1, "size": 0}
    assert asker.order("enable", "ENABLE") == {"size": 0, "enabled": 0}
    assert asker.plug(0, 16 * MIB) == 0
    assert info(asker.qmp)["guest-requests"]["requests"] == 0
    assert get(asker.qmp, "vectors") == 3
    asker.quit()


# ---- answers ----


def test_grants(asker):
    qmp = asker.qmp
    put(qmp, "request-limit", 128 * MIB)
    before = asker.show()["interrupts"]
    assert asker.ask(64 * MIB) == (GRANTED, NO_CAUSE, 64)
    # The guest takes interrupts between two orders, if it has time then.
    shown = asker.machine.monitor().wait_for(
        asker.show, lambda shown: shown["interrupts"] > before, "a configuration interrupt"
    )
    assert shown["requested"] == 64 * MIB and shown["usable"] >= 64 * MIB
    assert get(qmp, "requested-size") == 64 * MIB and get(qmp, "granted-size") == 48 * MIB
    assert asker.plug(0, 64 * MIB) == 0
    assert asker.ask(256 * MIB, 129 * MIB) == (REFUSED, LIMIT, 64)
    assert asker.ask(256 * MIB, 128 * MIB) == (PARTLY, LIMIT, 128)
    assert asker.ask(256 * MIB) == (REFUSED, LIMIT, 128)
    assert asker.ask(128 * MIB, urgency=CRITICAL, reason=OOM) == (GRANTED, NO_CAUSE, 128)
    assert asker.ask(32 * MIB, urgency=LOW, reason=IDLE) == (GRANTED, NO_CAUSE, 32)
    assert asker.ask(2 * MIB, urgency=LOW, reason=IDLE) == (PARTLY, FLOOR, 16)
    assert asker.ask(0, urgency=LOW, reason=IDLE) == (REFUSED, FLOOR, 16)
    # What is plugged beyond it is the guest's to give back.
    assert asker.show()["plugged"] == 64 * MIB
    event = qmp.wait_event("MEMORY_DEVICE_SIZE_REQUEST", {"requests": 8})["data"]
    last = {"wanted-size": 0, "requested-size": 16 * MIB, "urgency": "low", "reason": "idle"}
    last |= {"answer": "refused", "cause": "floor"}
    path = f"{DEVICE}/virtio-backend"
    assert event == {**last, "id": "d0", "qom-path": path, "requests": 8}
    told = info(qmp)["guest-requests"]
    assert told["last"].pop("age-ms") >= 0
    assert told == {
        "limit": 128 * MIB,
        "rate": 0,
        "granted-size": 0,
        "requests": 8,
        "last": last,
    }
    lines = asker.machine.monitor().virtio_mem("d0")
    assert lines["Guest requests"] == "up to 134217728 bytes"
    assert lines["Granted to the guest"] == "0 bytes"
    assert lines["Last guest request"].startswith("0 bytes (low, reason idle): refused (floor), ")
    asker.quit()


WRONG = [
    (1, 0, 0, BLOCK, 0),  # no such type
    (0xFFFF, 0, 0, BLOCK, 0),
    (WANT, 4, 0, BLOCK, 0),
    (WANT, 0, 5, BLOCK, 0),
    (WANT, 0, 0, BLOCK + 1, 0),
    (WANT, 0, 0, 514 * MIB, 0),
    (WANT, 0, 0, 1 << 63, 0),
    (WANT, 0, 0, BLOCK, BLOCK + 1),
]


def test_nonsense(asker):
    """It is answered ERROR, changes nothing, and costs the others nothing."""
    for kind, urgency, reason, size, minimum in WRONG[:4]:
        assert asker.ask(size, minimum, urgency, reason, kind) == (ERROR, NO_CAUSE, 16)
    assert asker.ask(20 * MIB) == (GRANTED, NO_CAUSE, 20)
    for kind, urgency, reason, size, minimum in WRONG[4:]:
        assert asker.ask(size, minimum, urgency, reason, kind) == (ERROR, NO_CAUSE, 20)
    (stats,) = asker.qmp.execute("query-stats", target="virtio-mem")
    stats = {s["name"]: s["value"] for s in stats["stats"]}
    assert stats["size-error"] == 8 and stats["size-granted"] == 1 and stats["size-broken"] == 0
    assert stats["size-urgency-normal"] == stats["size-reason-pressure"] == 1
    assert stats["size-granted-bytes"] == 4 * MIB and stats["owner-size"] == 16 * MIB
    names = asker.qmp.execute("query-stats-schemas", provider="virtio-mem")[0]["stats"]
    assert [s["name"] for s in names] == [*stats]
    asker.quit()


def test_rate(asker):
    put(asker.qmp, "request-rate", 256 << 10)
    # A block at least, and eight seconds for the next one.
    assert asker.ask(64 * MIB) == (PARTLY, RATE, 18)
    assert asker.ask(64 * MIB) == (LATER, RATE, 18)
    assert 0 < asker.retry_ms <= 8000
    put(asker.qmp, "request-rate", 8 * MIB)
    assert asker.ask(64 * MIB, 64 * MIB) == (REFUSED, RATE, 18)  # more than any second brings
    assert asker.ask(64 * MIB) == (PARTLY, RATE, 26)
    assert 0 < asker.retry_ms <= 1000
    time.sleep(asker.retry_ms / 1000)
    assert asker.ask(34 * MIB, 34 * MIB) == (GRANTED, NO_CAUSE, 34)
    # Memory that is offered is taken at once.
    assert asker.ask(16 * MIB) == (GRANTED, NO_CAUSE, 16)
    # Ten requests a second, whatever they are.
    asker.machine.monitor().wait_for(
        lambda: asker.ask(16 * MIB)[:2], lambda answer: answer == (LATER, RATE), "one too many"
    )
    assert 0 < asker.retry_ms <= 1000
    asker.quit()


# ---- the owner ----


def test_owner_wins(asker):
    qmp = asker.qmp
    assert asker.ask(64 * MIB)[0] == GRANTED
    put(qmp, "requested-size", 32 * MIB)
    assert get(qmp, "requested-size") == 32 * MIB and get(qmp, "granted-size") == 0
    asker.machine.monitor().wait_for(asker.requested, lambda mib: mib == 32, "the owner's size")
    # The same size again takes back what was granted as well.
    assert asker.ask(64 * MIB)[0] == GRANTED
    asker.machine.monitor().run("virtio-mem d0 32")
    assert get(qmp, "requested-size") == 32 * MIB
    asker.machine.monitor().wait_for(asker.requested, lambda mib: mib == 32, "the owner's size")
    # With no limit left nothing is granted, and nothing is taken either.
    assert asker.ask(64 * MIB)[0] == GRANTED
    put(qmp, "request-limit", 0)
    assert asker.ask(66 * MIB) == (REFUSED, LIMIT, 64)
    assert get(qmp, "request-limit") == 0 and get(qmp, "requested-size") == 64 * MIB
    for value, why in ((MIB, "not a multiple of the block size"), (514 * MIB, "beyond the size")):
        with pytest.raises(QmpError, match=why):
            put(qmp, "request-limit", value)
    asker.quit()


def test_job(asker):
    """Until a job is over the guest is granted nothing, and the job ends as it would have."""
    qmp = asker.qmp
    assert asker.ask(64 * MIB)[0] == GRANTED
    qmp.execute("virtio-mem-resize", **{"device": "d0", "size": 32 * MIB, "job-id": "job"})
    assert asker.ask(64 * MIB) == (LATER, HOST, 32)
    assert asker.retry_ms > 0
    assert asker.ask(8 * MIB) == (REFUSED, FLOOR, 32)
    assert asker.plug(0, 32 * MIB) == 0
    qmp.wait_event("JOB_STATUS_CHANGE", {"id": "job", "status": "concluded"})
    (job,) = qmp.execute("query-jobs")
    assert "error" not in job, job
    assert asker.ask(64 * MIB) == (GRANTED, NO_CAUSE, 64)
    assert "were granted at the guest's own request" in info(qmp)["explanation"]
    # One that is cancelled: what is plugged is the owner's size then.
    args = {"device": "d0", "size": 48 * MIB, "job-id": "another"}
    qmp.execute("virtio-mem-resize", **args)
    assert asker.ask(64 * MIB)[:2] == (LATER, HOST)
    qmp.execute("job-cancel", id="another")
    qmp.wait_event("JOB_STATUS_CHANGE", {"id": "another", "status": "concluded"})
    assert asker.ask(0) == (REFUSED, FLOOR, 32)
    assert asker.ask(34 * MIB)[0] == GRANTED
    asker.quit()


def test_reset(asker):
    """A reset of the device keeps what was granted, one of the machine does not."""
    assert asker.ask(64 * MIB)[0] == GRANTED
    asker.start()
    assert asker.requested() == 64
    asker.machine.type("reset")
    asker.qmp.wait_event("RESET")
    assert get(asker.qmp, "requested-size") == 16 * MIB
    asker = Asker(asker.machine)
    assert asker.requested() == 16
    asker.quit()


def test_any_order(asker):
    """Whatever guest and owner do one after the other: the guest has the owner's size and what it was
    granted since, and no more than both bounds allow."""
    rng = random.Random(SEED)
    qmp, owner, limit = asker.qmp, 16, 512
    for turn in range(TURNS):
        before = get(qmp, "requested-size") // MIB
        assert before >= owner, (SEED, turn)
        what = rng.randrange(8)
        if what == 0:
            owner = rng.randrange(0, 257, 2)
            put(qmp, "requested-size", owner * MIB)
        elif what == 1:
            limit = rng.randrange(0, 513, 2)
            put(qmp, "request-limit", limit * MIB)
        elif what == 2:
            # It is concluded where the guest is: it plugs nothing, so there is nothing.
            args = {"device": "d0", "size": 2 * MIB, "job-id": f"job{turn}"}
            qmp.execute("virtio-mem-resize", **args)
            assert asker.ask(512 * MIB)[0] != GRANTED, (SEED, turn)
            qmp.execute("job-cancel", id=args["job-id"])
            qmp.wait_event("JOB_STATUS_CHANGE", {"id": args["job-id"], "status": "concluded"})
            owner = 0
        elif what == 3:
            asker.start()
            assert get(qmp, "requested-size") // MIB == before, (SEED, turn)
        else:
            size = rng.randrange(0, 513, 2)
            answer, _, told = asker.ask(size * MIB)
            assert get(qmp, "requested-size") == told * MIB, (SEED, turn)
            if answer == GRANTED:
                assert told == size, (SEED, turn)
            low, high = sorted((before, size))
            assert low <= told <= max(high, owner), (SEED, turn)
            assert told <= max(before, limit), (SEED, turn)
        assert get(qmp, "requested-size") - get(qmp, "granted-size") == owner * MIB, (SEED, turn)
    put(qmp, "requested-size", 32 * MIB)
    assert asker.plug(0, 32 * MIB) == 0
    asker.quit()


# ---- guests that ask badly ----


def test_malformed(asker):
    """What cannot be answered stops the device until it is reset, as on the other queue."""
    nowhere = asker.addr + 256 * MIB
    chains = [(23, 16, 0), (24, 15, 0), (24, 0, 0), (0, 16, 0), (24, 16, nowhere)]
    chains += [(24, 16, 1 << 52)]
    for readable, writable, gpa in chains:
        status = asker.order(f"chain {readable} {writable} {gpa}", "CHAIN")["status"]
        assert status & NEEDS_RESET, (readable, writable, gpa)
        asker.start()
    # More room than it takes is not looked at.
    assert not asker.order("chain 4096 4096 0", "CHAIN")["status"] & NEEDS_RESET
    asker.start()
    assert asker.ask(64 * MIB)[0] == GRANTED
    (stats,) = asker.qmp.execute("query-stats", target="virtio-mem")
    stats = {s["name"]: s["value"] for s in stats["stats"]}
    assert stats["size-broken"] == len(chains)
    asker.quit()


@pytest.mark.parametrize("ring", ["split", "packed"])
def test_both_queues(folder, ring):
    """Requests on both queues at once are all answered; each is of the size when it comes."""
    more = f"{APPEND} ring={ring} event_idx=1 indirect=1"
    with Machine(folder, more, args(more=",guest-requests=on,packed=on")) as machine:
        asker = Asker(machine)
        for i in range(1, 9):
            machine.type(f"both {(i - 1) * BLOCK} {BLOCK} {(16 + 2 * i) * MIB}")
            answer = machine.console.expect(r"^BOTH (\d+) type=(\d+) size=(\d+)\n")
            assert answer.group(1) == "0" and int(answer.group(2)) == GRANTED
        assert asker.show()["plugged"] == 16 * MIB and asker.requested() == 32
        asker.quit()


@pytest.mark.timed
@pytest.mark.parametrize("kind", [WANT, 7])
def test_flood(asker, kind):
    """A guest that asks without end is answered slowly, and is in nobody's way."""
    begun = time.monotonic()
    asker.machine.type(f"flood {kind} {64 * MIB}")
    if kind == WANT:
        asker.qmp.wait_event("MEMORY_DEVICE_SIZE_REQUEST")
    slowest = 0
    while time.monotonic() < begun + 1:
        start = time.monotonic()
        info(asker.qmp)
        slowest = max(slowest, time.monotonic() - start)
    assert slowest < 1
    # The owner is heard meanwhile; the guest may be granted more right after.
    put(asker.qmp, "requested-size", 32 * MIB)
    assert get(asker.qmp, "requested-size") >= 32 * MIB
    asker.machine.type("start 1")
    answers = int(asker.machine.console.expect(r"^FLOOD answers=(\d+)\n").group(1))
    seconds = time.monotonic() - begun
    assert 0 < answers < 40 * (seconds + 1)
    assert len(asker.qmp.take_events("MEMORY_DEVICE_SIZE_REQUEST")) <= seconds + 1
    asker.machine.console.expect(r"^START ok=1 ")
    assert asker.plug(0, 32 * MIB) == 0
    asker.quit()


# ---- machines that move ----


def test_grants_move(tmp_path):
    """Grants go along; from then on the bounds of the target count."""
    with Guest(tmp_path, APPEND, args(more=",guest-requests=on,request-limit=128M")) as guest:
        asker = Asker(guest.machine)
        assert asker.ask(96 * MIB)[0] == GRANTED
        guest.args = args(more=",guest-requests=on,request-limit=64M,request-rate=4M")
        capabilities(guest.qmp, events=True)
        live(guest)
        asker.machine = guest.machine
        assert get(guest.qmp, "requested-size") == 96 * MIB
        assert get(guest.qmp, "granted-size") == 80 * MIB
        assert asker.requested() == 96
        assert asker.ask(98 * MIB) == (REFUSED, LIMIT, 96)
        assert asker.ask(0) == (PARTLY, FLOOR, 16)
        assert asker.ask(64 * MIB) == (PARTLY, RATE, 20)
        put(guest.qmp, "requested-size", 32 * MIB)
        assert get(guest.qmp, "granted-size") == 0
        live(guest)
        asker.machine = guest.machine
        assert asker.requested() == 32
        asker.quit()


@pytest.mark.parametrize("here", [True, False])
def test_must_agree(tmp_path, here):
    """A target that has the queue, or has it not, is another machine."""
    on, off = args(), args(more="")
    with Guest(tmp_path, APPEND, off if here else on) as guest:
        Asker(guest.machine, None)
        guest.args = on if here else off
        capabilities(guest.qmp, events=True)
        target, qmp, uri = prepare(guest, "unix:HERE", {}, {})
        qmp.execute("migrate-incoming", uri=uri)
        guest.qmp.execute("migrate", uri=uri)
        assert ended(guest.qmp) == "failed"
        why = guest.qmp.execute("query-migrate")["error-desc"]
        assert "the guest-requests queue of memory device 'd0' is on" in why, why
        assert target.wait() == 1
        assert guest.qmp.execute("query-status")["status"] == "running"


def test_device_add(folder):
    """A device that comes later has the same properties, and the same mistakes are refused."""
    more = ["-m", "64M,maxmem=1G", "-machine", "q35", "-device", "pcie-root-port,id=port0"]
    more += ["-object", "memory-backend-ram,id=m0,size=64M"]
    with Machine(folder, "test=none end=halt", more, qmp=True) as machine:
        machine.console.expect("^END$")
        qmp = machine.qmp()
        device = {"driver": "virtio-mem-pci", "id": "d0", "memdev": "m0", "bus": "port0"}
        for wrong, why in (
            ({"request-rate": 1}, "request-rate needs guest-requests=on"),
            ({"guest-requests": True, "request-limit": MIB}, "not a multiple of block-size"),
            ({"guest-requests": True, "request-limit": 128 * MIB}, "exceeds the size of m0"),
        ):
            with pytest.raises(QmpError, match=why):
                qmp.execute("device_add", **device, **wrong)
        right = {"guest-requests": True, "request-limit": 32 * MIB, "request-rate": MIB}
        qmp.execute("device_add", **device, **right)
        assert {name: get(qmp, name) for name in right} == right
