# SPDX-License-Identifier: BSD-3-Clause
"""The guest of test=attack as an object: orders to it, and the host's look at what it holds.

    attacker = Attacker(console, monitor, memory)   once the machine was started
    attacker.lay("PUX|8U")           blocks: Plugged and filled, Unplugged for ever, plugged, filled
                                     and unplugged again (X); a number repeats, "|" says nothing
    attacker.order("hit mov8")       {"blocks": 2, "borders": 1, "faults": 0, "wrong": 0}
    attacker.closed_hold_nothing("after hit mov8")

CONSOLE has type(line), expect(pattern, timeout) -> match of text, and seen(pattern) -> the same or
None, without waiting; MONITOR is a function from a
command to its answer; MEMORY is a HostMemory.

I1. Attacker knows by itself which blocks are open, from the orders that it gave; it does not ask
    the device.
"""

import re
import time

MARK = 0x5EED0FACE0FF1CE5
ORDER_TIMEOUT_S = 60
LOOK_EVERY_S = 0.5
# Slots of 8 blocks: two partly plugged ones, with blocks that never were and that were; one absent
# between them and another; borders of all kinds, between blocks and between slots.
LAYOUT = "PUPUPUUP|PXPXPPXP|8U|P6UP"
OPEN = 2
# Never plugged, and plugged before, in a slot that is partly plugged; in an absent one.
CLOSED = (1, 9, 18)
# Of all accesses (attack_cpu.c) those that differ most, for the tests that have much else to vary.
FEW_KINDS = ("mov1", "mov8", "stosq", "xchg8", "add", "push", "read8", "copy")
# Of what the processor does, that which KVM cannot let leave the guest, or that no guest survives.
SHOTS = ("sidt", "fxsave", "cmpxchg16", "fetch", "jmp", "frame", "idt", "cr3", "cr3-open")
# What a monitor may be asked at any time; {} is the device.
MONITOR_COMMANDS = [
    "info status",
    "info virtio-mem {}",
    "info memory-devices",
    "info numa",
    "help",
    "virtio-mem {} 62",
    "virtio-mem {} 64",
]


def parse_layout(text):
    """One letter for each block."""
    return "".join(
        letter * int(count or 1) for count, letter in re.findall(r"(\d*)([PUX])", text)
    )


class Attacker:
    def __init__(self, console, monitor, memory, timeout=ORDER_TIMEOUT_S, device="d0"):
        self.console = console
        self.monitor = monitor
        self.memory = memory
        self.timeout = timeout
        self.device = device
        self.base = None  # of the region, in the monitor's memory
        self.open = set()
        self.await_ready()

    def await_ready(self):
        """The guest has started, or restarted: nothing is plugged."""
        ready = self.console.expect(
            r"^attack: ready block=(\d+) blocks=(\d+) cpus=(\d+)\n", self.timeout
        )
        self.block, self.blocks, self.cpus = map(int, ready.groups())
        self.open = set()

    def order(self, line, verb=None, timeout=None):
        """Give an order; the answer's words, KEY=NUMBER as a dictionary and others under ""."""
        verb = verb or line.split()[0]
        self.console.type(line)
        answer = self.console.expect(
            rf"^(?:{re.escape(verb)}(| .*)|(attack|FAIL|TRAP)\b.*)\n", timeout or self.timeout
        )
        assert answer.group(2) is None, f"{line!r} was answered by {answer.group(0)!r}"
        return self.words(answer.group(1))

    @staticmethod
    def words(text):
        fields = {"": []}
        for word in text.split():
            key, equals, value = word.partition("=")
            if equals:
                fields[key] = int(value, 0) if re.fullmatch(r"\d+|0x[0-9a-f]+", value) else value
            else:
                fields[""].append(word)
        return fields

    def wait_for(self, is_so, what):
        """Until IS_SO(): the monitor tells of states, not of changes."""
        deadline = time.monotonic() + self.timeout
        while not is_so():
            assert time.monotonic() < deadline, what
            time.sleep(0.01)

    def lay(self, layout):
        letters = parse_layout(layout)
        self.open = set()
        answer = self.order(f"lay {layout}")
        self.open = {i for i, letter in enumerate(letters) if letter == "P"}
        plugged = len(self.open) * self.block
        assert answer == {"": [], "answer": 0, "plugged": plugged}, f"lay {layout}: {answer}"

    def plug(self, first, count=1):
        assert self.order(f"plug {first} {count}")["answer"] == 0
        self.open |= set(range(first, first + count))

    def unplug(self, first, count=1):
        assert self.order(f"unplug {first} {count}")["answer"] == 0
        self.open -= set(range(first, first + count))

    def unplug_all(self):
        assert self.order("unplug-all")["answer"] == 0
        self.open = set()

    def locate(self):
        """Find the region in the monitor's memory, by a word that the guest writes."""
        self.lay("P")
        self.order(f"mark 0 {MARK:#x}")
        self.base = self.memory.find(MARK)
        self.order("fill 0 1")

    def held(self):
        return self.memory.held(self.base, self.blocks * self.block, self.block)

    def closed_hold_nothing(self, when):
        """No closed block has a page of the host behind it, each open and filled one has."""
        held = self.held()
        wrong = [
            f"block {i} is closed and holds {held.tell(i)}"
            for i in sorted(held.blocks)
            if i not in self.open
        ]
        assert not wrong, f"{when}:\n" + "\n".join(wrong[:20]) + f"\n({len(wrong)} blocks in all)"
        return held

    def open_hold(self, when):
        """Each open block, which were all filled, has pages: the measure can see some."""
        held = self.closed_hold_nothing(when)
        missing = [i for i in sorted(self.open) if not held.pages(i)]
        assert not missing, f"{when}: nothing behind the filled blocks {missing}"
        return held

    def open_kept(self, when):
        answer = self.order("check")
        assert answer["blocks"] == len(self.open) and answer["wrong"] == 0, f"{when}: {answer}"

    def shoot(self, how, block, hang_s):
        """Order "shot", and wait for what becomes of the guest."""
        self.console.type(f"shot {how} {block}")
        deadline = time.monotonic() + hang_s
        while time.monotonic() < deadline:
            if self.console.seen(rf"^shot {how} survived\n"):
                return "goes on"
            if self.console.seen(r"^attack: ready .*\n"):
                self.open = set()
                return "restarted"
            status = self.monitor("info status")
            if "running" not in status:
                return f"stopped, {status.strip()}"
        return "hangs"

    def storm(self):
        """Every processor stores into closed blocks from now on, until order("enough", "storm")."""
        self.console.type("storm")
        self.console.expect(r"^storm: begins\n", self.timeout)

    def watch_storm(self, seconds):
        """Ask the monitor this and that for so long, and look at the host's memory again and again;
        how long each answer took."""
        took, begin, looks = [], time.monotonic(), 0
        while time.monotonic() - begin < seconds:
            for command in MONITOR_COMMANDS:
                asked = time.monotonic()
                self.monitor(command.format(self.device))
                took.append(time.monotonic() - asked)
            if time.monotonic() - begin > LOOK_EVERY_S * looks:
                looks += 1
                self.closed_hold_nothing(f"{time.monotonic() - begin:.1f} s into the storm")
        return took

    def closed_are_zero(self, when, stride=4096, first=0, count=None):
        """The guest reads them in such steps, or only those of a run."""
        count = self.blocks - first if count is None else count
        answer = self.order(f"zeros {stride} {first} {count}")
        closed = len(set(range(first, first + count)) - self.open)
        assert answer["blocks"] == closed and answer["wrong"] == 0, f"{when}: {answer}"

    def kinds(self):
        """Names of all accesses that this processor says it knows."""
        return self.order("kinds")[""]

    def violations(self):
        """(writes, reads) that the monitor counted."""
        text = self.monitor(f"info virtio-mem {self.device}")
        found = re.search(r"^Violations: (\d+) writes, (\d+) reads", text, re.MULTILINE)
        assert found, f"no violations are counted in {text!r}"
        return int(found.group(1)), int(found.group(2))


def attack_by_kind(attacker, kind, layout):
    """One kind of access against a fresh layout: nothing is left of it."""
    attacker.lay(layout)
    attacker.open_hold(f"before hit {kind}")
    answer = attacker.order(f"hit {kind}")
    assert answer["blocks"] > 0 and answer["borders"] > 0, answer
    assert answer["wrong"] == 0 and answer["faults"] == 0, f"hit {kind}: {answer}"
    attacker.open_hold(f"after hit {kind}")
    attacker.open_kept(f"after hit {kind}")


def race(attacker, order, block, rounds, look):
    """Run a race, and look at the host's memory whenever the guest waits for that."""
    attacker.console.type(f"{order} {block} {rounds} {look}")
    attacker.open.discard(block)
    looks = 0
    while True:
        found = attacker.console.expect(
            rf"^(?:race look (\d+)|{order} (rounds=.*)|FAIL.*|TRAP.*)\n", attacker.timeout
        )
        if found.group(1) is None:
            break
        attacker.closed_hold_nothing(f"round {found.group(1)} of the {order}")
        looks += 1
        attacker.console.type("on")
    assert found.group(2), found.group(0)
    answer = attacker.words(found.group(2))
    print(f"{order}: {found.group(2)}")
    assert answer["rounds"] == rounds and answer["answers"] == 0, answer
    assert answer["stale"] == 0, f"content of before: {answer}"
    assert answer["lost"] == 0, f"an open block lost content: {answer}"
    assert answer["kept"] > 0, f"nobody ever stored into the block: {answer}"
    assert looks == rounds // look
    attacker.open_hold(f"after the {order}")
    attacker.open_kept(f"after the {order}")
