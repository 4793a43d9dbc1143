# SPDX-License-Identifier: BSD-3-Clause
"""-machine none: what programs ask before they write a command line, as both libvirts ask it.

The program is started by the words of the probe, and sent its commands one by one (probe_cases.py).
Beside the same of Debian's QEMU the answers have its form; without it they are checked against the
program's own schema, and for what the client looks for.
"""

import os
import pathlib
import select
import signal
import subprocess
import time

import pytest

import qemu
from ebbvm import EBB, TIMEOUT_S, Machine
from probe_cases import (
    ABSENT,
    ABSENT_IN_QEMU,
    CAPABILITIES,
    MACHINE,
    OPTIONS,
    PARAMETERS,
    PROBES,
    PROPERTIES,
    REFUSED,
    TYPES,
    TYPES_NOT,
)
from qmp import Qmp, QmpClosed, QmpError
from schema_cases import DIFFERENT
from shapes import Schema, compare_values
from test_schema import fits

VERSIONS = sorted(PROBES)


class Probe:
    """The program as a client starts it to ask: in the background, its pid in a file."""

    def __init__(self, folder, *words, machine=MACHINE):
        self.socket = pathlib.Path(folder, "monitor.sock")
        self.pidfile = pathlib.Path(folder, "pid")
        self.argv = [EBB, *OPTIONS, *machine, "-qmp", f"unix:{self.socket},server=on,wait=off"]
        self.argv += ["-pidfile", self.pidfile, "-daemonize", *words]
        self.pid = None

    def __enter__(self):
        done = subprocess.run(self.argv, capture_output=True, text=True, timeout=TIMEOUT_S)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        # The parent has ended: all is there.
        self.pid = int(self.pidfile.read_text())
        self.handle = os.pidfd_open(self.pid)
        return self

    def __exit__(self, *exc):
        try:
            signal.pidfd_send_signal(self.handle, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(self.handle)
        return False

    def connect(self):
        return Qmp.connect(self.socket).negotiate()

    def ended(self):
        """Wait until the process is gone."""
        return bool(select.select([self.handle], [], [], TIMEOUT_S)[0])


def replay(session, version):
    """(command, arguments, outcome) of each: ("return", value) or ("error", class)."""
    answers, last = [], None
    for command, arguments in PROBES[version]:
        sent = arguments
        if arguments and arguments.get("model") == {"name": "base"}:
            sent = {**arguments, "model": last["model"]}
        try:
            last = session.call(command, sent)
            answers.append((command, arguments, ("return", last)))
        except QmpError as e:
            answers.append((command, arguments, ("error", e.error_class)))
    return answers


def subject(command, arguments):
    return (arguments or {}).get("typename", command)


@pytest.fixture(scope="module", params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture(scope="module")
def ours(version, tmp_path_factory):
    with Probe(tmp_path_factory.mktemp("probe")) as probe, probe.connect() as session:
        return replay(session, version)


@pytest.fixture(scope="module")
def theirs(version, tmp_path_factory):
    if qemu.missing():
        pytest.skip(qemu.missing())
    folder = tmp_path_factory.mktemp("qemu")
    with qemu.Qemu(folder, ["-machine", "none,accel=tcg"]) as machine:
        return replay(machine.qmp(), version)


def answer(answers, command, typename=None):
    wanted = {"typename": typename} if typename else None
    return next(a[2][1] for a in answers if a[:2] == (command, wanted))


def names(answers, command, typename=None):
    return [item["name"] for item in answer(answers, command, typename)]


def kind_of(name):
    """The type NAME, without its width."""
    return "int" if name.rstrip("0123456789") in ("int", "uint") else name


# What is asked.


def test_each_is_answered(ours):
    """With a value, or with the refusal that the client takes for "there is none"."""
    for command, arguments, (kind, value) in ours:
        about = subject(command, arguments)
        assert (kind == "error") == (about in ABSENT), about
        if kind == "error":
            assert value == ABSENT[about]


def test_answers_follow_the_schema(ours):
    schema = Schema(answer(ours, "query-qmp-schema"))
    for command, _, (kind, value) in ours:
        if kind == "return":
            found = schema.check(value, schema.infos[command]["ret-type"], command)
            assert list(found) == []


def test_answers_have_the_reference_form(ours, theirs):
    """Whatever members QEMU's answers have ours have, of its types."""
    schema = Schema(answer(theirs, "query-qmp-schema"))
    for (command, arguments, our), (_, _, their) in zip(ours, theirs):
        about = subject(command, arguments)
        if "error" in (our[0], their[0]):
            assert our[0] == "error" or about in ABSENT_IN_QEMU, about
            continue
        found = [*schema.check(our[1], schema.infos[command]["ret-type"], command)]
        if command not in ("query-qmp-schema", "query-commands"):
            found += compare_values(our[1], their[1], command)
        for place, what in found:
            assert any(fits(key, f"{place} {what}") for key in DIFFERENT), (place, what)


def test_properties_have_the_reference_types(ours, theirs):
    for (command, arguments, our), (_, _, their) in zip(ours, theirs):
        if not command.endswith("-list-properties") or "error" in (our[0], their[0]):
            continue
        types = {p["name"]: kind_of(p["type"]) for p in their[1]}
        for prop in our[1]:
            kind = kind_of(prop["type"])
            assert kind == types.get(prop["name"], kind), (subject(command, arguments), prop)


def test_what_clients_look_for(ours, version):
    types = names(ours, "qom-list-types")
    assert set(TYPES) <= set(types) and not set(TYPES_NOT) & set(types)
    asked = [(c, a["typename"]) for c, a, _ in ours if a and "typename" in a]
    for command, name in asked:
        if name not in ABSENT:
            assert set(PROPERTIES.get(name, [])) <= set(names(ours, command, name)), name
    options = {
        o["option"]: {p["name"] for p in o["parameters"]}
        for o in answer(ours, "query-command-line-options")
    }
    for option, parameters in PARAMETERS.items():
        assert set(parameters) <= options[option], option
    capabilities = {c["capability"] for c in answer(ours, "query-migrate-capabilities")}
    assert set(CAPABILITIES) <= capabilities
    assert answer(ours, "query-kvm") == {"enabled": True, "present": True}
    assert answer(ours, "query-target") == {"arch": "x86_64"}
    number = answer(ours, "query-version")["qemu"]
    assert (number["major"], number["minor"]) >= (6, 2)
    models = names(ours, "query-cpu-definitions")
    assert models[:2] == ["host", "max"]
    assert {"kvm64", "Skylake-Server", "EPYC-Rome-v2"} <= set(models)


def test_cpu_model(ours):
    """What a host-model is made of: the same in both expansions; "invtsc" where nobody migrates."""
    models = [a[2][1]["model"] for a in ours if a[0] == "query-cpu-model-expansion"]
    assert [m["name"] for m in models] == ["base", "base", "base", "base", "host"]
    movable, again, fixed, _, _ = (m["props"] for m in models)
    assert movable == again and {"lm", "sse2", "x2apic", "sse4.1", "vendor"} <= set(movable)
    assert movable["lm"] and movable["hypervisor"] and not movable["invtsc"]
    assert {k for k in movable if movable[k] != fixed[k]} <= {"invtsc"}
    assert all(type(movable[k]) is int for k in ("family", "model", "stepping"))


def test_machines(ours):
    """Old names stay, since they are stored; a name without a version stands for one with it."""
    machines = answer(ours, "query-machines")
    stored = {m["name"]: m for m in machines}
    for kind in ("pc-i440fx", "pc-q35"):
        for version in ("3.1", "5.2", "6.2", "7.2", "8.2", "9.0", "10.0"):
            machine = stored[f"{kind}-{version}"]
            assert machine["cpu-max"] == 64 and not machine["hotpluggable-cpus"]
            assert "default-cpu-type" not in machine
    aliases = {m["alias"]: m["name"] for m in machines if "alias" in m}
    assert aliases == {"pc": "pc-i440fx-9.0", "q35": "pc-q35-9.0"}


# What there is without a machine.


def test_all_other_commands_are_refused(folder):
    """Each command, with no arguments: an answer, and one sentence from those for machines."""
    with Probe(folder) as probe, probe.connect() as session:
        refused = set()
        for command in [c["name"] for c in session.call("query-commands")]:
            if command in ("quit", "qmp_capabilities"):
                continue
            try:
                session.call(command)
            except QmpError as e:
                if "there is no machine" in e.desc:
                    refused.add(command)
        assert {"cont", "system_reset", "system_powerdown", "inject-nmi", "query-pci"} <= refused
        assert not refused & {c for c, _ in PROBES["9.0"]}
        assert session.call("query-status")["status"] == "prelaunch"
        assert session.call("query-cpus-fast") == [] and session.call("query-block") == []
        assert "there is no machine" in session.human("system_reset")
        assert "prelaunch" in session.human("info status")
        assert "has not been found: there are no disks" in session.error("blockdev-add").desc


@pytest.mark.parametrize("how", ["quit", "SIGTERM"])
def test_end(folder, how):
    """It ends when asked to, and takes its pidfile with it."""
    with Probe(folder) as probe, probe.connect() as session:
        if how == "quit":
            session.call("quit")
        else:
            signal.pidfd_send_signal(probe.handle, signal.SIGTERM)
        cause = "host-qmp-quit" if how == "quit" else "host-signal"
        session.wait_event("SHUTDOWN", {"guest": False, "reason": cause})
        assert session.closed() and probe.ended()
        assert not probe.pidfile.exists()


@pytest.mark.parametrize("words", REFUSED, ids=lambda words: words[0])
def test_options_without_meaning(words):
    argv = [EBB, *OPTIONS, *MACHINE, *words]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert f"{words[0]}: -machine none has no CPUs, memory or devices" in done.stderr


def test_without_kvm(folder):
    """A user who may not run guests is told so by query-kvm, not by a failure."""
    if os.geteuid():
        pytest.skip("only root can become somebody who may not use /dev/kvm")
    mode = os.stat("/dev/kvm")
    if mode.st_mode & 0o006:
        pytest.skip("here everybody may use /dev/kvm")
    os.chmod(folder, 0o777)
    path = pathlib.Path(folder, "monitor.sock")
    nobody = 65534
    process = subprocess.Popen(
        [EBB, *OPTIONS, *MACHINE, "-qmp", f"unix:{path},server=on,wait=on"],
        user=nobody,
        group=nobody,
        extra_groups=[],
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while not path.exists():
            assert process.poll() is None and time.monotonic() < deadline
        with Qmp.connect(path) as session:
            session.negotiate()
            assert session.call("query-kvm") == {"enabled": False, "present": True}
    finally:
        process.kill()
        process.communicate()


def test_no_second_machine(folder):
    """The same words with a machine: what is refused without one is there."""
    with Machine(folder, "test=echo", ["-machine", "pc-q35-7.2", "-m", "64M"], qmp=True) as machine:
        machine.console.expect("^echo: ready$")
        session = machine.qmp()
        assert session.call("query-status")["running"]
        session.call("inject-nmi")
        machine.console.expect("^TRAP vector=2 ")
        with pytest.raises(QmpClosed):
            while True:
                session.call("query-status")
