# SPDX-License-Identifier: BSD-3-Clause
"""What the monitor for programs says, beside what Debian's QEMU says to the same words.

The same machine is started under both, stopped, and the same commands are sent to both. Compared
are the shapes of the answers, the error classes of wrong uses, the answers to broken input, the
events, and what both say of commands and events in query-qmp-schema. All that differs is in the
tables of schema_cases.py, each with a reason; an entry that nothing needs any more fails a test,
too.

Without QEMU the answers are checked against the program's own schema only.
"""

import os

import pytest

import qemu
from ebbvm import Machine, memory_devices
from qmp import QmpError, QmpProtocolError, QmpTimeout, parse
from schema_cases import (
    ACTIONS,
    BROKEN,
    COMMANDS,
    DIFFERENT,
    EVENTS,
    MACHINE,
    MIB,
    OWN_PROPERTIES,
    OWN_QUERIES,
    PROPERTIES,
    QUERIES,
)
from shapes import Schema, compare_command, compare_event, compare_values

def wrong_uses(schema, command):
    """(what, arguments) that COMMAND must refuse, from what QEMU's SCHEMA says of it."""
    wrong = {"string": 1, "int": "x", "number": "x", "boolean": "x", "array": {}, "object": 1}
    members = schema.arguments(command)
    right = {}
    for member in members:
        if "default" not in member:
            kind = schema.kind(member["type"])
            right[member["name"]] = {"string": "x", "int": 1, "boolean": True}.get(kind, {})
    uses = [("extra", {**right, "nosuchargument": 1})]
    for member in members:
        name, kind = member["name"], schema.kind(member["type"])
        if "default" not in member:
            uses.append((f"no {name}", {k: v for k, v in right.items() if k != name}))
        if kind in wrong:
            uses.append((f"wrong {name}", {**right, name: wrong[kind]}))
            uses.append((f"null {name}", {**right, name: None}))
    return uses


def all_wrong_uses(schema):
    """(command, what, arguments) of all commands that SCHEMA has."""
    return [
        (command, *use)
        for command in COMMANDS
        if schema.command(command)
        for use in wrong_uses(schema, command)
    ]


def outcome(session, command, arguments=None, fd=False):
    """("return", value) or ("error", class, sentence)."""
    fds = [os.open("/dev/null", os.O_RDWR)] if fd else []
    try:
        return "return", session.call(command, arguments, fds=fds)
    except QmpError as e:
        return "error", e.error_class, e.desc
    finally:
        for number in fds:
            os.close(number)


def said(session, data):
    """All messages that come for DATA and the command after it, which ends it."""
    session.raw(data + b'\n{"execute":"query-uuid","id":"the end"}\n')
    messages = []
    while True:
        line = session.read_line()
        try:
            message = parse(line)
        except QmpProtocolError:  # QEMU repeats some numbers in a spelling that is no JSON
            message = {"no JSON": line}
        if message.get("id") == "the end":
            return messages
        messages.append(message)
        if len(messages) > 100:
            raise QmpTimeout(f"no end: {messages[:10]!r}")


class Side:
    """One monitor's answers to everything, asked once."""

    def __init__(self, machine, uses=None):
        self.greeting, self.early = self._before(machine)
        session = machine.qmp()
        self.schema = Schema(session.call("query-qmp-schema"))
        self.queries = [outcome(session, *query) for query in QUERIES]
        self.own = [outcome(session, *query) for query in OWN_QUERIES]
        self.actions = [outcome(session, *action) for action in ACTIONS]
        self.uses = uses or all_wrong_uses(self.schema)
        self.wrong = [outcome(session, use[0], use[2]) for use in self.uses]
        self.broken = [said(session, data) for data in BROKEN]
        session.close()
        self.events = self._events(machine)

    @staticmethod
    def _before(machine):
        """What a session hears before its negotiation is over."""
        session = machine.qmp(negotiate=False)
        answers = [
            outcome(session, "query-status"),
            outcome(session, "no-such-command"),
            outcome(session, "qmp_capabilities", {"enable": ["nosuch"]}),
            outcome(session, "qmp_capabilities", {"enable": "oob"}),
            outcome(session, "query-status"),
            outcome(session, "qmp_capabilities"),
            outcome(session, "query-name"),
        ]
        session.close()
        return session.greeting, answers

    @staticmethod
    def _events(machine):
        """The events of a machine whose state is changed, in their order."""
        session, events = machine.qmp(oob=True), []
        for command, event in CHANGES:
            session.call(command)
            while not events or events[-1]["event"] != event:
                events.append(session.next_event())
        assert session.closed()
        return events


CHANGES = [
    ("cont", "RESUME"),
    ("stop", "STOP"),
    ("system_reset", "RESET"),
    ("cont", "RESUME"),
    ("system_powerdown", "POWERDOWN"),
    ("quit", "SHUTDOWN"),
]


# What is found on one side or between two: lists of (place, what), see shapes.py.


def place_of(call):
    command, arguments = call[0], call[1]
    words = [str(v) for v in arguments.values() if not isinstance(v, dict)]
    return " ".join([command, *words])


def found_in_answer(call, ours, theirs):
    """In one answer of ours: beside theirs, by their schema."""
    command, place = call[0], place_of(call)
    our, their = ours[1], theirs[1]
    kinds = [side[0] if side[0] == "return" else side[1] for side in (our, their)]
    if kinds[0] != kinds[1]:
        return [(place, f"gives {kinds[0]}, not {kinds[1]}")]
    if kinds[0] != "return":
        return []
    found = ours[0].check(our[1], ours[0].infos[command]["ret-type"], f"own schema: {command}")
    if theirs[0].command(command):
        found += theirs[0].check(our[1], theirs[0].infos[command]["ret-type"], command)
        found += compare_values(our[1], their[1], command)
    return found


def found_in_answers(calls, our_answers, their_answers, ours, theirs):
    found = []
    for call, our, their in zip(calls, our_answers, their_answers):
        found += found_in_answer(call, (ours.schema, our), (theirs.schema, their))
    return found


def messages_of(messages):
    """What matters of answers to broken input: values and ids, of errors class and id only; the
    same error several times in a row counts once."""
    short = []
    for message in messages:
        if "error" in message:
            message = {**message, "error": message["error"]["class"]}
        if not short or short[-1] != message or "return" in message:
            short.append(message)
    return short


def found_in_broken(data, ours, theirs):
    if messages_of(ours) == messages_of(theirs):
        return []
    return [(f"input {data!r}", f"gives {messages_of(ours)!r}, not {messages_of(theirs)!r}")]


def properties(side, query):
    return {p["name"]: p["type"] for p in side.queries[QUERIES.index(query)][1]}


def found_in_properties(ours, theirs, query):
    our, their = properties(ours, query), properties(theirs, query)
    names = sorted(our.keys() & their.keys())
    return [(f"property {n}", f"type {our[n]}") for n in names if our[n] != their[n]]


def unexplained(found):
    """FOUND without what DIFFERENT has."""
    return [f"{place} {what}" for place, what in found if not explanations(place, what)]


def explanations(place, what):
    return [key for key in DIFFERENT if fits(key, f"{place} {what}")]


def fits(pattern, text):
    """Is TEXT the PATTERN, in which "*" stands for anything?"""
    first, *rest = pattern.split("*")
    if not text.startswith(first):
        return False
    at = len(first)
    for part in rest:
        at = text.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return at == len(text) or pattern.endswith("*")


# The two sides.


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    if qemu.missing():
        pytest.skip(qemu.missing())
    folder = tmp_path_factory.mktemp("qemu")
    with qemu.Qemu(folder, [*MACHINE, "-accel", "tcg"]) as machine:
        return Side(machine)


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """Asked the same as the other side, when that is there."""
    uses = None
    if not qemu.missing():
        folder = tmp_path_factory.mktemp("qemu")
        with qemu.Qemu(folder, ["-machine", "none", "-accel", "tcg"]) as machine:
            schema = Schema(machine.qmp().call("query-qmp-schema"))
            uses = all_wrong_uses(schema)
    folder = tmp_path_factory.mktemp("ebb")
    with Machine(folder, "test=echo", [*MACHINE, "-S"], qmp=True) as machine:
        return Side(machine, uses)


# The tests.


def call_name(call):
    return place_of(call).replace("/machine/peripheral/", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_command_is_there(ours, name):
    assert ours.schema.command(name)


@pytest.mark.parametrize("name", EVENTS)
def test_event_is_there(ours, name):
    assert name in ours.schema.names("event")


@pytest.mark.parametrize("query", QUERIES + OWN_QUERIES, ids=call_name)
def test_own_schema(ours, query):
    """An answer is what the program's own schema says."""
    answers = ours.queries + ours.own
    answer = answers[(QUERIES + OWN_QUERIES).index(query)]
    assert answer[0] == "return", answer
    assert ours.schema.check(answer[1], ours.schema.infos[query[0]]["ret-type"], query[0]) == []


def test_schema_is_closed(ours):
    """All that the schema refers to is there, and all that is there is referred to."""
    infos, used = ours.schema.infos, set()
    todo = sorted(ours.schema.names("command") | ours.schema.names("event"))
    while todo:
        info = infos[todo.pop()]
        names = {info[k] for k in ("arg-type", "ret-type", "element-type") if k in info}
        if info["meta-type"] in ("object", "alternate"):
            names |= {m["type"] for m in info["members"]}
            names |= {v["type"] for v in info.get("variants", [])}
        todo += names - used
        used |= names
    assert used | ours.schema.names("command") | ours.schema.names("event") == infos.keys()


def test_schema_and_command_list_agree(ours):
    listed = ours.queries[QUERIES.index(("query-commands", {}))][1]
    assert {entry["name"] for entry in listed} == ours.schema.names("command")
    assert len(listed) == len(ours.schema.names("command"))


@pytest.mark.parametrize("index", range(len(QUERIES)), ids=map(call_name, QUERIES))
def test_answer(ours, theirs, index):
    our, their = ours.queries[index], theirs.queries[index]
    found = found_in_answer(QUERIES[index], (ours.schema, our), (theirs.schema, their))
    assert unexplained(found) == []


def test_answers_of_pc(ours, theirs, tmp_path_factory):
    """The other type of machine, which has no slots for PCI Express, tells the same of itself."""
    words = [word.replace(",bus=port0", "").replace("q35", "pc") for word in MACHINE]
    ports = [i for i, word in enumerate(words) if word.startswith("pcie-root-port")]
    words = [word for i, word in enumerate(words) if i not in ports and i + 1 not in ports]
    answers = []
    with Machine(tmp_path_factory.mktemp("ebb"), "test=echo", [*words, "-S"], qmp=True) as machine:
        session = machine.qmp()
        answers.append([outcome(session, *query) for query in QUERIES])
    with qemu.Qemu(tmp_path_factory.mktemp("qemu"), [*words, "-accel", "tcg"]) as machine:
        session = machine.qmp()
        answers.append([outcome(session, *query) for query in QUERIES])
    assert unexplained(found_in_answers(QUERIES, *answers, ours, theirs)) == []


@pytest.mark.parametrize("index", range(len(ACTIONS)), ids=map(call_name, ACTIONS))
def test_action(ours, theirs, index):
    our, their = ours.actions[index], theirs.actions[index]
    found = found_in_answer(ACTIONS[index], (ours.schema, our), (theirs.schema, their))
    assert unexplained(found) == [], our


@pytest.mark.parametrize("name", COMMANDS)
def test_wrong_use(ours, theirs, name):
    """Arguments that are missing, too many or of another type."""
    assert ours.uses == theirs.uses
    for use, our, their in zip(ours.uses, ours.wrong, theirs.wrong):
        if use[0] == name:
            assert our[0] == "error", use
            assert our[1] == their[1] or explanations(f"{name} {use[1]}", our[1]), (use, our)


@pytest.mark.parametrize("index", range(len(BROKEN)), ids=map(repr, BROKEN))
def test_broken_input(ours, theirs, index):
    our, their = ours.broken[index], theirs.broken[index]
    assert not any("no JSON" in message for message in our)
    assert unexplained(found_in_broken(BROKEN[index], our, their)) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_command_schema(ours, theirs, name):
    assert unexplained(compare_command(ours.schema, theirs.schema, name)) == []


def test_all_is_compared(ours, theirs):
    """Each command that both know is one of those above."""
    both = ours.schema.names("command") & theirs.schema.names("command")
    assert both - set(COMMANDS) == set()


def test_event_schemas(ours, theirs):
    """Of each event that both know."""
    both = ours.schema.names("event") & theirs.schema.names("event")
    assert both >= set(EVENTS)
    for name in sorted(both):
        assert unexplained(compare_event(ours.schema, theirs.schema, name)) == []


@pytest.mark.parametrize("query", PROPERTIES, ids=call_name)
def test_property_types(ours, theirs, query):
    """Properties of the same name are of the same type, and what ours has besides is known."""
    our, their = properties(ours, query), properties(theirs, query)
    assert our.keys() - their.keys() <= OWN_PROPERTIES
    assert unexplained(found_in_properties(ours, theirs, query)) == []


def test_before_negotiation(ours, theirs):
    assert [a[:2] for a in ours.early] == [a[:2] for a in theirs.early]


def test_greeting(ours, theirs):
    assert ours.greeting["capabilities"] == theirs.greeting["capabilities"]
    numbers = [side.greeting["version"]["qemu"] for side in (ours, theirs)]
    assert numbers[0]["major"] == numbers[1]["major"]
    assert numbers[0]["minor"] == numbers[1]["minor"]
    assert ours.greeting["version"]["package"].startswith("ebb ")
    assert ours.queries[0][1] == ours.greeting["version"]


def test_events(ours, theirs):
    """The same events with the same data, in the same order, as both schemas say."""
    sides = [[(e["event"], e.get("data")) for e in side.events] for side in (ours, theirs)]
    assert sides[0] == sides[1]
    for event in ours.events:
        for schema in (ours.schema, theirs.schema):
            kind = schema.infos[event["event"]]["arg-type"]
            assert schema.check(event.get("data", {}), kind, event["event"]) == []


def test_events_of_resizes(ours, theirs, folder):
    """A resize tells what both schemas say, its job as well as its device."""
    args = ["-m", "128M,maxmem=4G", *memory_devices(("256M", "0", "2M", 0))]
    with Machine(folder, "test=vmem-follow", args, qmp=True) as machine:
        machine.console.expect("^follow: ready\n")
        session = machine.qmp()
        for size, job in ((64 * MIB, "one"), (0, "two")):
            resize = {"device": "d0", "size": size, "job-id": job}
            session.call("virtio-mem-resize", resize)
            session.wait_event("MEMORY_DEVICE_SIZE_CHANGE", {"size": size})
            done = session.wait_event("JOB_STATUS_CHANGE", {"id": job, "status": "concluded"})
            answer = session.call("query-jobs")
            session.call("job-dismiss", {"id": job})
            gone = session.wait_event("JOB_STATUS_CHANGE", {"id": job, "status": "null"})
            for event in (*session.take_events(), done, gone):
                name = event["event"]
                for schema in (ours.schema, theirs.schema):
                    kind = schema.infos[name]["arg-type"]
                    assert schema.check(event["data"], kind, name) == []
            kind = ours.schema.infos["query-jobs"]["ret-type"]
            assert ours.schema.check(answer, kind, "query-jobs") == []
            kind = theirs.schema.infos["query-jobs"]["ret-type"]
            assert unexplained(theirs.schema.check(answer, kind, "query-jobs gives")) == []


def test_table_is_needed(ours, theirs):
    """Each entry of DIFFERENT explains something that is still so."""
    found = found_in_answers(QUERIES, ours.queries, theirs.queries, ours, theirs)
    found += found_in_answers(ACTIONS, ours.actions, theirs.actions, ours, theirs)
    for broken in zip(BROKEN, ours.broken, theirs.broken):
        found += found_in_broken(*broken)
    for name in COMMANDS:
        found += compare_command(ours.schema, theirs.schema, name)
    for name in ours.schema.names("event") & theirs.schema.names("event"):
        found += compare_event(ours.schema, theirs.schema, name)
    for query in PROPERTIES:
        found += found_in_properties(ours, theirs, query)
    for use, our, their in zip(ours.uses, ours.wrong, theirs.wrong):
        if our[:2] != their[:2]:
            found.append((f"{use[0]} {use[1]}", our[1]))
    needed = {key for place, what in found for key in explanations(place, what)}
    assert DIFFERENT.keys() - needed == set()
