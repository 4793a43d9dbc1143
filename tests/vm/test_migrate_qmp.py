# SPDX-License-Identifier: BSD-3-Clause
"""What monitors say of migrations, beside what Debian's QEMU says in the same states; every way in
which programs and people use the commands, rightly and wrongly; and what libvirt does.

That a guest arrives whole is test_migrate.py's.
"""

import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import threading

import pytest

import qemu
from ebbvm import BUILD, TIMEOUT_S, Machine, Monitor, memory_devices
from qmp import Qmp, QmpError
from shapes import Schema, compare_values
from test_human import layout

MIB = 1 << 20
SLOW = 2000  # bytes a second: such a migration is under way until it is cancelled
ENDS = ("completed", "failed", "cancelled")
# Lines of "info migrate" that are there if their figure is not 0.
IF_ANY = re.compile(r"dirty pages rate|postcopy request count|(precopy|downtime|postcopy) ram")


def capabilities(qmp, **on):
    states = [{"capability": n.replace("_", "-"), "state": s} for n, s in on.items()]
    qmp.execute("migrate-set-capabilities", capabilities=states)


def parameters(qmp, **values):
    qmp.execute("migrate-set-parameters", **values)


def wait_status(qmp, *statuses):
    """Wait for an event MIGRATION of one of STATUSES; which one it is."""
    event = qmp.wait_event("MIGRATION", lambda data: data["status"] in statuses)
    return event["data"]["status"]


def begin(qmp, uri, **more):
    """Begin a migration whose end is told by events; what was told before is forgotten."""
    capabilities(qmp, events=True)
    qmp.take_events()
    qmp.execute("migrate", uri=uri, **more)


def migrate(qmp, uri, **more):
    begin(qmp, uri, **more)
    return wait_status(qmp, *ENDS)


def active(qmp, uri, **more):
    """Begin a migration that does not end by itself."""
    parameters(qmp, max_bandwidth=SLOW)
    begin(qmp, uri, **more)
    assert wait_status(qmp, "active", *ENDS) == "active"
    wait(lambda: qmp.execute("query-migrate").get("ram", {"total": 0})["total"])


def cancel(qmp):
    qmp.execute("migrate_cancel")
    assert wait_status(qmp, *ENDS) == "cancelled"


def wait(done):
    """Until DONE(); monitors tell of states, not of changes."""
    pause = threading.Event()
    for _ in range(int(TIMEOUT_S * 50)):
        if done():
            return
        pause.wait(0.02)
    raise AssertionError("it does not come to that")


# The states that a migration goes through, in both programs.


class Look:
    """What a session was told at one moment."""

    def __init__(self, qmp):
        self.info = qmp.execute("query-migrate")
        self.human = qmp.human("info migrate")
        self.run = qmp.execute("query-status")
        self.run_human = qmp.human("info status")


def told(qmp):
    """The events so far: of run states and migrations, and the passes."""
    names, passes = [], []
    for event in qmp.take_events():
        if event["event"] in ("STOP", "RESUME"):
            names.append(event["event"])
        elif event["event"] == "MIGRATION":
            names.append(event["data"]["status"])
        elif event["event"] == "MIGRATION_PASS":
            passes.append(event["data"]["pass"])
    return names, passes


def settle(qmp, status):
    """Until the machine is STATUS and takes commands about migrations: QEMU tells the end of one
    before that, and breaks when the next begins before it has let go of the last."""
    wait(lambda: qmp.execute("query-status")["status"] == status)
    if "query-yank" in (c["name"] for c in qmp.execute("query-commands")):
        wait(lambda: {"type": "migration"} not in qmp.execute("query-yank"))


def states(machine, folder):
    """{name: Look or events} of a machine that is stopped and not migrated yet."""
    qmp, seen = machine.qmp(), {}
    seen["schema"] = Schema(qmp.execute("query-qmp-schema"))
    seen["none"] = Look(qmp)
    capabilities(qmp, events=True)
    qmp.execute("cont")
    qmp.wait_event("RESUME")
    qmp.execute("migrate", uri=f"exec:cat > {folder}/saved")
    last = qmp.wait_event("MIGRATION", {"status": "completed"})
    qmp.events.append(last)
    seen["events completed"] = told(qmp)
    settle(qmp, "postmigrate")
    seen["completed"] = Look(qmp)
    qmp.execute("cont")
    qmp.wait_event("RESUME")
    qmp.execute("migrate", uri="exec:false")
    qmp.wait_event("MIGRATION", {"status": "failed"})
    settle(qmp, "running")
    seen["failed"] = Look(qmp)
    active(qmp, "exec:cat > /dev/null")
    seen["active"] = Look(qmp)
    seen["refused"] = [
        qmp.error("migrate", {"uri": "exec:true"}).error_class,
        qmp.error("migrate-set-capabilities", {"capabilities": [
            {"capability": "events", "state": True}]}).error_class,
        qmp.error("migrate-continue", {"state": "device"}).error_class,
        qmp.error("migrate-start-postcopy").error_class,
        qmp.error("migrate-pause").error_class,
    ]
    parameters(qmp, downtime_limit=200)
    cancel(qmp)
    settle(qmp, "running")
    seen["cancelled"] = Look(qmp)
    capabilities(qmp, pause_before_switchover=True)
    parameters(qmp, max_bandwidth=1 << 40)
    begin(qmp, f"exec:cat > {folder}/saved")
    qmp.wait_event("MIGRATION", {"status": "pre-switchover"})
    seen["pre-switchover"] = Look(qmp)
    seen["refused in pre-switchover"] = [
        qmp.error("cont").error_class,
        qmp.error("migrate-continue", {"state": "device"}).error_class,
    ]
    qmp.take_events()
    qmp.execute("migrate-continue", state="pre-switchover")
    last = qmp.wait_event("MIGRATION", {"status": "completed"})
    qmp.events.append(last)
    seen["events after pre-switchover"] = told(qmp)
    return seen


def incoming_states(machine, folder):
    """The same of a machine that was started with "-incoming defer -S"."""
    qmp, seen = machine.qmp(), {}
    capabilities(qmp, events=True)
    seen["deferred"] = Look(qmp)
    seen["refused while deferred"] = [
        qmp.error("migrate", {"uri": "exec:true"}).error_class,
        qmp.error("migrate-incoming", {"uri": "nowhere"}).error_class,
        qmp.error("migrate-incoming", {"uri": "fd:nosuch"}).error_class,
        qmp.error("migrate-recover", {"uri": "unix:x"}).error_class,
    ]
    qmp.execute("cont")
    qmp.execute("stop")
    qmp.execute("migrate_cancel")
    qmp.take_events()
    qmp.execute("migrate-incoming", uri=f"exec:cat {folder}/saved")
    last = qmp.wait_event("MIGRATION", {"status": "completed"})
    qmp.events.append(last)
    seen["events loaded"] = told(qmp)
    settle(qmp, "paused")
    seen["loaded"] = Look(qmp)
    seen["refused when loaded"] = [qmp.error("migrate-incoming", {"uri": "tcp::0"}).error_class]
    return seen


def listening_states(machine):
    qmp = machine.qmp()
    qmp.execute("migrate-incoming", uri="tcp:127.0.0.1:0")
    return {
        "listening": Look(qmp),
        "refused while listening": [
            qmp.error("migrate-incoming", {"uri": "tcp:127.0.0.1:0"}).error_class
        ],
    }


MACHINE = ["-machine", "q35", "-m", "128M", "-name", "moved"]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    if qemu.missing():
        pytest.skip(qemu.missing())
    folders = [tmp_path_factory.mktemp("qemu") for _ in range(3)]
    args = [*MACHINE, "-accel", "tcg"]
    with qemu.Qemu(folders[0], args) as machine:
        seen = states(machine, folders[0])
    with qemu.Qemu(folders[1], [*args, "-incoming", "defer"]) as machine:
        seen |= incoming_states(machine, folders[0])
    with qemu.Qemu(folders[2], [*args, "-incoming", "defer"]) as machine:
        return seen | listening_states(machine)


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    folders = [tmp_path_factory.mktemp("ebb") for _ in range(3)]
    args = [*MACHINE, "-S"]
    with Machine(folders[0], "test=echo", args, qmp=True) as machine:
        seen = states(machine, folders[0])
    with Machine(folders[1], "test=echo", [*args, "-incoming", "defer"], qmp=True) as machine:
        seen |= incoming_states(machine, folders[0])
    with Machine(folders[2], "test=echo", [*args, "-incoming", "defer"], qmp=True) as machine:
        return seen | listening_states(machine)


LOOKS = "none completed failed active cancelled pre-switchover deferred loaded listening".split()


@pytest.mark.parametrize("name", LOOKS)
def test_info(ours, theirs, name):
    """The same members in the same state, of the types of both schemas."""
    our, their = ours[name].info, theirs[name].info
    for schema in (ours["schema"], theirs["schema"]):
        kind = schema.infos["query-migrate"]["ret-type"]
        assert schema.check(our, kind, "query-migrate") == []
    # A real number that is whole is written without a point.
    found = {f for f in compare_values(our, their, "query-migrate") if f[0][-5:] != ".mbps"}
    assert not found
    assert our.keys() == their.keys()
    assert our.get("status") == their.get("status")


def migrate_layout(text):
    text = re.sub(r"\(.*\)", "(why)", text)
    text = "\n".join(line for line in text.splitlines() if not IF_ANY.match(line))
    return layout(re.sub(r"\d+\.\d+", "0", text))


@pytest.mark.parametrize("name", LOOKS)
def test_info_for_people(ours, theirs, name):
    assert migrate_layout(ours[name].human) == migrate_layout(theirs[name].human)


@pytest.mark.parametrize("name", LOOKS)
def test_run_state(ours, theirs, name):
    assert ours[name].run == theirs[name].run
    assert ours[name].run_human == theirs[name].run_human


REFUSED = ["refused", "refused in pre-switchover", "refused while deferred", "refused when loaded"]


@pytest.mark.parametrize("name", [*REFUSED, "refused while listening"])
def test_refused(ours, theirs, name):
    assert ours[name] == theirs[name]


@pytest.mark.parametrize("name", ["completed", "after pre-switchover", "loaded"])
def test_events(ours, theirs, name):
    """The same in the same order; passes are counted one by one."""
    names, passes = ours["events " + name]
    assert names == theirs["events " + name][0]
    assert passes == [passes[0] + i for i in range(len(passes))]
    assert passes or name != "completed"


def test_figures(ours):
    """They fit each other."""
    info = ours["completed"].info
    ram = info["ram"]
    assert ram["remaining"] == 0 and ram["total"] == 128 * MIB and ram["page-size"] == 4096
    assert (ram["duplicate"] + ram["normal"]) * 4096 >= ram["total"]
    assert ram["normal"] * 4096 == ram["normal-bytes"] <= ram["transferred"]
    assert ram["precopy-bytes"] + ram["downtime-bytes"] == ram["transferred"]
    assert info["setup-time"] <= info["total-time"] and info["downtime"] <= info["total-time"]


# Programs.


@pytest.fixture(name="folder")
def path_of_folder(folder):
    return pathlib.Path(folder)


@pytest.fixture
def machine(folder):
    with Machine(folder, "test=echo", ["-m", "64M"], monitor=True, qmp=True) as machine:
        yield machine


@pytest.fixture
def slow(machine):
    """A session whose machine is being migrated, slowly."""
    qmp = machine.qmp()
    active(qmp, "exec:cat > /dev/null")
    return qmp


def test_no_events_unless_asked(machine):
    qmp = machine.qmp()
    qmp.execute("migrate", uri="exec:cat > /dev/null")
    wait(lambda: qmp.execute("query-migrate")["status"] == "completed")
    assert {e["event"] for e in qmp.take_events()} == {"JOB_STATUS_CHANGE", "STOP"}


def test_all_sessions_see_it(machine, slow):
    other = machine.qmp(oob=True)
    assert other.execute("query-migrate")["status"] == "active"
    other.execute("migrate_cancel")
    assert wait_status(slow, *ENDS) == "cancelled"
    assert wait_status(other, *ENDS) == "cancelled"


def test_out_of_band(machine):
    """These two may be sent past commands that wait; here there is nothing to be done."""
    qmp = machine.qmp(oob=True)
    assert "postcopy" in qmp.error("migrate-pause", oob=True).desc
    assert "postcopy" in qmp.error("migrate-recover", {"uri": "unix:x"}, oob=True).desc
    assert "OOB" in qmp.error("migrate_cancel", oob=True).desc
    assert "OOB" in qmp.error("migrate", {"uri": "exec:true"}, oob=True).desc
    assert qmp.execute("query-migrate") == {}


def test_job(slow):
    wait(lambda: slow.execute("query-jobs")[0]["current-progress"] > 0)
    job = next(iter(slow.execute("query-jobs")))
    assert job["id"] == job["type"] == "migrate" and job["status"] == "running"
    assert job["current-progress"] <= job["total-progress"]
    assert "is running" in slow.error("job-dismiss", {"id": "migrate"}).desc
    slow.execute("job-cancel", id="migrate")
    slow.wait_event("JOB_STATUS_CHANGE", {"id": "migrate", "status": "aborting"})
    slow.wait_event("JOB_STATUS_CHANGE", {"id": "migrate", "status": "concluded"})
    assert slow.execute("query-migrate") == {"status": "cancelled"}
    assert slow.execute("query-status")["running"]
    job = next(iter(slow.execute("query-jobs")))
    assert job["error"] == "the migration was cancelled"


def test_jobs_do_not_pile_up(machine):
    """A client that knows nothing of jobs leaves one at most."""
    qmp = machine.qmp()
    for _ in range(5):
        assert migrate(qmp, "exec:false") == "failed"
    assert [job["id"] for job in qmp.execute("query-jobs")] == ["migrate"]
    assert "exec:false" in next(iter(qmp.execute("query-jobs")))["error"]


def test_job_whose_name_is_taken(folder):
    args = ["-m", "64M,maxmem=1G", *memory_devices(("64M", "0", "2M", 0)), "-S"]
    with Machine(folder, "test=echo", args, qmp=True) as machine:
        qmp = machine.qmp()
        qmp.call("virtio-mem-resize", {"device": "d0", "size": 2 * MIB, "job-id": "migrate"})
        active(qmp, "exec:cat > /dev/null")
        jobs = {job["id"]: job["type"] for job in qmp.execute("query-jobs")}
        assert jobs["migrate-2"] == "migrate"
        cancel(qmp)


def test_parameters_meanwhile(slow):
    """What is too slow is made fast."""
    parameters(slow, max_bandwidth=0)
    assert wait_status(slow, *ENDS) == "completed"


WRITER = "test=pattern devices=2 arena=1M rate=4 step=8"
WRITER_ARGS = ["-m", "64M,maxmem=1G", "-smp", "2"]
WRITER_ARGS += memory_devices(("64M", "32M", "2M", 0), ("64M", "16M", "1M", 0))


def test_postcopy_as_monitors_tell_it(folder):
    """Begun, cut, waited for elsewhere, resumed by a person: one migration, one job."""
    (folder / "target").mkdir()
    waiting = [*WRITER_ARGS, "-incoming", "defer"]
    with (
        Machine(folder, WRITER, WRITER_ARGS, monitor=True, qmp=True) as machine,
        Machine(folder / "target", WRITER, waiting, qmp=True) as target,
    ):
        machine.console.expect("^pattern: ready$")
        source, there = machine.qmp(), target.qmp(oob=True)
        for qmp in (source, there):
            capabilities(qmp, events=True, postcopy_ram=True)
        parameters(source, max_bandwidth=8 * MIB, max_postcopy_bandwidth=MIB // 8)
        there.execute("migrate-incoming", uri=f"unix:{folder}/way")
        source.execute("migrate", uri=f"unix:{folder}/way")
        assert wait_status(source, "active", *ENDS) == "active"
        source.execute("migrate-start-postcopy")
        assert wait_status(source, "postcopy-active", *ENDS) == "postcopy-active"
        wait(lambda: there.execute("query-status")["running"])
        assert source.execute("query-migrate")["ram"]["remaining"] > 0
        assert there.execute("query-migrate") == {"status": "postcopy-active"}
        there.call("migrate-pause", oob=True)
        assert wait_status(source, "postcopy-paused", *ENDS) == "postcopy-paused"
        wait(lambda: there.execute("query-migrate")["status"] == "postcopy-paused")
        assert "error-desc" in source.execute("query-migrate")
        assert "Migration status: postcopy-paused (" in source.human("info migrate")
        assert [job["status"] for job in source.execute("query-jobs")] == ["running"]
        there.call("migrate-recover", {"uri": "tcp:127.0.0.1:0"}, oob=True)
        address = there.execute("query-migrate")["socket-address"][0]
        parameters(source, max_postcopy_bandwidth=0)
        assert machine.monitor().run(f"migrate -d -r tcp:127.0.0.1:{address['port']}") == ""
        assert wait_status(source, "completed", "failed") == "completed"
        assert wait_status(there, "completed", "failed") == "completed"
        assert [job["status"] for job in source.execute("query-jobs")] == ["concluded"]
        ram = source.execute("query-migrate")["ram"]
        assert ram["precopy-bytes"] + ram["postcopy-bytes"] == ram["transferred"]
        assert "socket-address" not in there.execute("query-migrate")
        assert there.execute("query-status")["running"]


# Descriptors.


class Reader:
    """All that comes out of a pipe, read by a thread."""

    def __init__(self):
        self._read, self.write = os.pipe()
        self.data = b""
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        with open(self._read, "rb") as pipe:
            self.data = pipe.read()

    def finish(self):
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive()
        return self.data


def save_as_libvirt(qmp):
    """The commands by which it saves: the guest is stopped, the state goes to a pipe that was sent
    along; what came out of that."""
    offered = {c["capability"] for c in qmp.execute("query-migrate-capabilities")}
    known = {"events", "xbzrle", "auto-converge", "return-path", "multifd", "postcopy-ram"}
    capabilities(qmp, **{n.replace("-", "_"): n == "events" for n in known & offered})
    before = qmp.execute("query-migrate-parameters")
    qmp.execute("stop")
    qmp.call("migrate-set-parameters", {"max-bandwidth": 9223372036853727232})
    reader = Reader()
    qmp.call("getfd", {"fdname": "migrate"}, fds=[reader.write])
    os.close(reader.write)
    qmp.take_events("MIGRATION")
    qmp.call("migrate", {"detach": True, "uri": "fd:migrate"})
    assert wait_status(qmp, *ENDS) == "completed"
    info = qmp.execute("query-migrate")
    assert info["status"] == "completed" and info["ram"]["total"] and "downtime" in info
    # It has used the descriptor up.
    assert "migrate" in qmp.error("closefd", {"fdname": "migrate"}).desc
    qmp.call("migrate-set-parameters", before)
    assert qmp.execute("query-migrate-parameters") == before
    return reader.finish()


def test_libvirt_saves_and_restores(folder, machine):
    qmp = machine.qmp()
    state = save_as_libvirt(qmp)
    assert qmp.execute("query-status")["status"] == "postmigrate"
    assert isinstance(qmp.execute("query-jobs"), list)
    qmp.execute("quit")
    path = folder / "state"
    path.write_bytes(state)
    (folder / "restored").mkdir()
    with open(path, "rb") as file:
        args = ["-m", "64M", "-S", "-incoming", "defer"]
        fd = file.fileno()
        with Machine(folder / "restored", "test=echo", args, qmp=True, fds=[fd]) as machine:
            qmp = machine.qmp()
            capabilities(qmp, events=True)
            assert qmp.execute("query-status")["status"] == "inmigrate"
            qmp.execute("migrate-incoming", uri=f"fd:{fd}")
            assert wait_status(qmp, *ENDS) == "completed"
            assert qmp.execute("query-migrate")["status"] == "completed"
            assert qmp.execute("query-status")["status"] == "paused"
            qmp.execute("cont")
            qmp.wait_event("RESUME")
            assert qmp.execute("query-status")["running"]


def test_libvirt_migrates(folder, machine):
    """The target listens before it answers, on both stacks with one address; both sides tell."""
    (folder / "target").mkdir()
    args = ["-m", "64M", "-S", "-incoming", "defer"]
    with Machine(folder / "target", "test=echo", args, qmp=True) as target:
        source, there = machine.qmp(), target.qmp()
        for qmp in (source, there):
            capabilities(qmp, events=True, return_path=True)
        there.execute("migrate-incoming", uri="tcp:[::]:0")
        address = there.execute("query-migrate")["socket-address"][0]
        source.execute("migrate", uri=f"tcp:127.0.0.1:{address['port']}", detach=True)
        assert wait_status(source, *ENDS) == "completed"
        assert wait_status(there, *ENDS) == "completed"
        assert source.execute("query-migrate")["ram"]["remaining"] == 0
        assert there.execute("query-status")["status"] == "paused"
        there.execute("cont")
        assert source.execute("query-status")["status"] == "postmigrate"


def test_libvirt_hears_of_setup_first(folder, machine):
    """Whoever follows events alone takes a machine for one without a migration until then."""
    (folder / "target").mkdir()
    with Machine(folder / "target", "test=echo", ["-m", "64M", "-incoming", "defer"], qmp=True) as m:
        for qmp, command in ((m.qmp(), "migrate-incoming"), (machine.qmp(), "migrate")):
            capabilities(qmp, events=True)
            qmp.take_events()
            qmp.execute(command, uri=f"unix:{folder}/way")
            # No more was read than up to the answer.
            told = [e["data"]["status"] for e in qmp.events if e["event"] == "MIGRATION"]
            assert told[:1] == ["setup"], told
        assert wait_status(qmp, *ENDS) == "completed"


def test_libvirt_aborts(slow):
    """It cancels, waits for the status, and puts the parameters back."""
    slow.execute("migrate_cancel")
    wait(lambda: slow.execute("query-migrate")["status"] == "cancelled")
    parameters(slow, max_bandwidth=128 * MIB, downtime_limit=300)
    assert slow.execute("query-status")["running"]


def test_fd_by_name(folder, machine):
    """A file; and a name whose descriptor was closed."""
    qmp = machine.qmp()
    with open(folder / "state", "wb") as file:
        qmp.call("getfd", {"fdname": "f"}, fds=[file.fileno()])
    assert migrate(qmp, "fd:f") == "completed"
    assert (folder / "state").stat().st_size > 0
    assert "f" in qmp.error("migrate", {"uri": "fd:f"}).desc
    with open("/dev/null", "wb") as file:
        qmp.call("getfd", {"fdname": "g"}, fds=[file.fileno()])
    qmp.execute("closefd", fdname="g")
    assert "g" in qmp.error("migrate", {"uri": "fd:g"}).desc


def test_fd_that_cannot_be_written(machine):
    """The machine runs on."""
    qmp = machine.qmp()
    with open("/dev/zero", "rb") as file:
        qmp.call("getfd", {"fdname": "r"}, fds=[file.fileno()])
    capabilities(qmp, events=True)
    try:
        qmp.execute("migrate", uri="fd:r")
    except QmpError as e:
        assert "fd:r" in e.desc
    else:
        assert wait_status(qmp, *ENDS) == "failed"
    assert qmp.execute("query-status")["running"]


def test_fdset(folder, machine):
    qmp = machine.qmp()
    with open(folder / "state", "w+b") as file:
        qmp.call("add-fd", {"fdset-id": 5}, fds=[file.fileno()])
    assert migrate(qmp, "file:/dev/fdset/5") == "completed"
    assert (folder / "state").stat().st_size > 0
    qmp.call("remove-fd", {"fdset-id": 5})
    assert "5" in qmp.error("migrate", {"uri": "file:/dev/fdset/5"}).desc


# What is wrong with a command line.


@pytest.mark.parametrize(
    "uri, sentence",
    [
        ("nowhere", "-incoming: 'nowhere' is no place to load a machine from"),
        ("tcp:", "tcp:: there is no port in it"),
        ("unix:/nonexistent/x", "unix:/nonexistent/x: cannot make the socket"),
        ("fd:999", "fd:999: no descriptor of this number was handed over"),
        ("file:/nonexistent/x", "file:/nonexistent/x: "),
        ("exec:true", "exec:true: "),
        ("exec:head -c 100000 /dev/urandom", "exec:head -c 100000 /dev/urandom is no state"),
    ],
)
def test_incoming_that_cannot_be(folder, uri, sentence):
    """One line that tells it, and status 1."""
    with Machine(folder, "test=echo", ["-m", "64M", "-incoming", uri]) as machine:
        assert machine.wait() == 1
        assert sentence in machine.errors.text
        assert machine.errors.text.count("\n") == 1, machine.errors.text
        assert machine.console.text == ""


# People.


def test_people_wait(machine, folder):
    monitor = machine.monitor()
    answer = monitor.run(f'migrate "exec:cat > {folder}/state"')
    assert answer in ("", "Completed 100 %\r\n", "Completed 100 %\n"), answer
    assert monitor.run("info status") == "VM status: paused (postmigrate)\n"
    assert "Migration status: completed\n" in monitor.run("info migrate")
    monitor.run("cont")
    failed = monitor.run("migrate exec:false")
    assert re.search(r"^Error: exec:false: .*$", failed, re.MULTILINE), failed
    assert monitor.run("info status") == "VM status: running\n"


def test_people_need_not_wait(machine):
    """With -d; and Ctrl-C ends the waiting alone."""
    monitor, qmp = machine.monitor(), machine.qmp()
    monitor.run(f"migrate_set_parameter max-bandwidth {SLOW}B")
    assert monitor.run('migrate -d "exec:cat > /dev/null"') == ""
    assert "Error: " in monitor.run("migrate exec:true")
    monitor.run("migrate_cancel")
    wait(lambda: qmp.execute("query-migrate")["status"] == "cancelled")
    monitor.send('migrate "exec:cat > /dev/null"')
    wait(lambda: qmp.execute("query-migrate")["status"] == "active")
    monitor.interrupt()
    assert qmp.execute("query-migrate")["status"] == "active"
    assert "migrate: type migrate, running, " in monitor.run("info jobs")
    monitor.run("job_cancel migrate")
    wait(lambda: qmp.execute("query-migrate")["status"] == "cancelled")


def test_people_who_leave(machine):
    monitor, qmp = machine.monitor(), machine.qmp()
    parameters(qmp, max_bandwidth=SLOW)
    monitor.send('migrate "exec:cat > /dev/null"')
    wait(lambda: qmp.execute("query-migrate").get("status") == "active")
    monitor.close()
    assert qmp.execute("query-migrate")["status"] == "active"
    capabilities_refused = qmp.error("migrate-set-capabilities", {"capabilities": []})
    assert "under way" in capabilities_refused.desc
    qmp.execute("migrate_cancel")
    wait(lambda: qmp.execute("query-migrate")["status"] == "cancelled")
    assert machine.monitor().run("info status") == "VM status: running\n"


def test_lines_of_programs_do_not_wait(machine):
    """human-monitor-command: the session that would have to cancel it is the one that waits."""
    qmp = machine.qmp()
    parameters(qmp, max_bandwidth=SLOW)
    assert "goes on by itself" in qmp.human('migrate "exec:cat > /dev/null"')
    assert qmp.execute("query-migrate")["status"] in ("setup", "active")
    assert qmp.human("migrate_cancel") == ""


@pytest.mark.parametrize(
    "line, answer",
    [
        ("migrate", "migrate: argument 'uri' is missing"),
        ("migrate -x u", "migrate: there is no option -x"),
        ("migrate nowhere", "Error: 'nowhere' is no place"),
        ("migrate -b exec:true", "Error: there are no disks"),
        ("migrate -r exec:true", "Error: there is no migration in postcopy"),
        ("migrate_incoming exec:true", "Error: "),
        ("migrate_recover exec:true", "Error: "),
        ("migrate_pause", "Error: "),
        ("migrate_continue pre-switchover", "Error: "),
        ("migrate_continue x", "Error: Parameter 'state' does not accept value 'x'"),
        ("migrate_start_postcopy", "Error: "),
        ("migrate_set_capability x on", "Error: Parameter 'capability' does not accept value 'x'"),
        ("migrate_set_capability events x", "migrate_set_capability: "),
        ("migrate_set_parameter x 1", "Error: there is no parameter 'x'"),
        ("migrate_set_parameter max-bandwidth x", "Error: "),
    ],
)
def test_lines_that_are_wrong(machine, line, answer):
    said = machine.qmp().human(line)
    assert said.startswith(answer) or answer.endswith(": ") and answer[:-2] in said, said


# Rude clients and peers.


def test_uris_of_nonsense(machine):
    """Anything is a URI; what is none is refused, and nothing is left of it."""
    qmp, dice = machine.qmp(), random.Random(5)
    names = ["tcp:", "unix:", "fd:", "file:/nonexistent/", "exec", "defer", "x:"]
    tails = ["", ":", "[", "]:1", "[::", ",", ",offset=", "%", "\x1b[2J", "\x7f", "é", "/", "-1"]
    for _ in range(300):
        uri = dice.choice(names) + "".join(dice.choice(tails) for _ in range(dice.randrange(4)))
        uri += "a" * dice.choice([0, 0, 0, 107, 108, 5000])
        try:
            qmp.call("migrate", {"uri": uri})
        except QmpError:
            continue
        wait(lambda: qmp.execute("query-migrate")["status"] in ENDS)
        qmp.execute("cont")
    info = qmp.execute("query-migrate")
    assert "\x1b" not in json.dumps(info, ensure_ascii=False)
    assert qmp.execute("query-status")["running"]
    for leftover in machine.folder.glob("*"):
        assert leftover.is_socket(), leftover


def test_begun_and_cancelled_at_once(machine):
    """As fast as commands can be sent ahead; each is answered, and the guest runs."""
    qmp = machine.qmp()
    parameters(qmp, max_bandwidth=SLOW)
    for _ in range(20):
        numbers = [
            qmp.send("migrate", {"uri": "exec:cat > /dev/null"}),
            qmp.send("query-migrate"),
            qmp.send("migrate_cancel"),
            qmp.send("migrate_cancel"),
            qmp.send("query-jobs"),
        ]
        for number in numbers:
            qmp.answer(number)
        wait(lambda: qmp.execute("query-migrate")["status"] == "cancelled")
    assert qmp.execute("query-status")["running"]
    assert [job["type"] for job in qmp.execute("query-jobs")] == ["migrate"]


class Listener:
    """A peer on a Unix socket that takes one connection and does as it is told: ACT(connection)."""

    def __init__(self, path, act):
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.bind(str(path))
        self._sock.listen(1)
        self._act = act
        self.taken, self.leave = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        with self._sock, self._sock.accept()[0] as connection:
            self.taken.set()
            try:
                self._act(connection)
            except OSError:
                pass  # the other side has left
            self.leave.wait(TIMEOUT_S)

    def finish(self):
        self.leave.set()
        self._thread.join(TIMEOUT_S)


PEERS = {
    "silent": lambda connection: None,
    "garbage": lambda connection: connection.sendall(os.urandom(100000)),
    "gone": lambda connection: connection.shutdown(socket.SHUT_RDWR),
    "echo": lambda connection: [connection.sendall(connection.recv(4096)) for _ in range(50)],
}


@pytest.mark.parametrize("peer", PEERS)
def test_rude_peers(machine, folder, peer):
    """The guest runs on, monitors answer, the migration can be cancelled if it has not failed."""
    listener = Listener(folder / "peer", PEERS[peer])
    qmp = machine.qmp()
    parameters(qmp, max_bandwidth=SLOW)
    begin(qmp, f"unix:{folder}/peer")
    assert listener.taken.wait(TIMEOUT_S)
    wait(lambda: qmp.execute("query-migrate")["status"] in ("active", *ENDS))
    qmp.execute("migrate_cancel")
    assert wait_status(qmp, *ENDS) in ("failed", "cancelled")
    listener.finish()
    assert qmp.execute("query-status")["running"]


@pytest.mark.parametrize("number", [None, signal.SIGTERM])
def test_end_while_migrating(machine, slow, number):
    """Orderly, and soon."""
    if number:
        machine.signal(number)
    else:
        slow.execute("quit")
    assert machine.wait() == 0


def test_sessions_that_flood(machine, slow):
    """Many questions about a migration under way."""
    sessions = [machine.qmp() for _ in range(8)]
    numbers = [[s.send("query-migrate") for _ in range(100)] for s in sessions]
    for session, mine in zip(sessions, numbers):
        assert all(session.answer(n)["status"] == "active" for n in mine)
    cancel(slow)


# ebbctl and metrics.


def ebbctl(machine, *words, **kwargs):
    return subprocess.Popen(
        [BUILD / "ebbctl/ebbctl", machine.folder / "qmp.sock", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def finish(process):
    out, errors = process.communicate(timeout=TIMEOUT_S)
    return process.returncode, out, errors


def test_ebbctl_saves(machine, folder):
    status, out, errors = finish(ebbctl(machine, "save", "state", cwd=folder))
    assert (status, errors) == (0, "")
    assert re.search(r"^state: saved, .* in \d+\.\d s, stopped for \d+ ms$", out, re.MULTILINE), out
    assert (folder / "state").stat().st_size > 0
    assert machine.qmp().execute("query-status")["status"] == "postmigrate"


def test_ebbctl_fails(machine):
    status, _, errors = finish(ebbctl(machine, "migrate", "unix:/nonexistent/x"))
    assert status == 1
    assert errors == (
        "ebbctl: unix:/nonexistent/x: failed: unix:/nonexistent/x: cannot connect: "
        "No such file or directory\n"
    )
    status, _, errors = finish(ebbctl(machine, "migrate", "nowhere"))
    assert status == 1 and errors.startswith("ebbctl: 'nowhere' is no place")


def test_ebbctl_interrupted(machine):
    qmp = machine.qmp()
    parameters(qmp, max_bandwidth=SLOW)
    process = ebbctl(machine, "migrate", "exec:cat > /dev/null")
    assert "exec:cat > /dev/null: " in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    status, _, errors = finish(process)
    assert status == 130 and "cancelled; the machine stays here" in errors
    assert qmp.execute("query-migrate")["status"] == "cancelled"
    assert qmp.execute("query-status")["running"]


def test_ebbctl_detached(machine):
    parameters(machine.qmp(), max_bandwidth=SLOW)
    status, out, _ = finish(ebbctl(machine, "migrate", "--detach", "exec:cat > /dev/null"))
    assert (status, out) == (0, "exec:cat > /dev/null: the migration has begun\n")
    top = [BUILD / "ebbctl/ebbctl", "top", machine.folder / "qmp.sock"]
    top += ["--count", "2", "--interval", "100ms"]
    out = subprocess.check_output(top, text=True, timeout=TIMEOUT_S)
    assert re.search(r" migration=active progress=\d+% memory=67108864 sent=\d+ ", out), out
    assert "migrate" in finish(ebbctl(machine, "jobs"))[1]
    assert finish(ebbctl(machine, "cancel", "migrate"))[0] == 0


def metrics(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(TIMEOUT_S)
        sock.connect(str(path))
        sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        return sock.makefile().read()


def test_metrics(folder):
    args = ["-m", "64M", "-metrics", f"{folder}/metrics"]
    with Machine(folder, "test=echo", args, qmp=True) as machine:
        qmp = machine.qmp()
        assert 'ebb_migration_status{status="none"} 1\n' in metrics(folder / "metrics")
        assert migrate(qmp, "exec:cat > /dev/null") == "completed"
        text = metrics(folder / "metrics")
        ram = qmp.execute("query-migrate")["ram"]
        assert 'ebb_migration_status{status="completed"} 1\n' in text
        assert 'ebb_vm_state{state="postmigrate"} 1\n' in text
        assert f"ebb_migration_transferred_bytes {ram['transferred']}\n" in text
        assert "ebb_migration_remaining_bytes 0\n" in text
        assert "ebb_migration_downtime_seconds 0." in text
