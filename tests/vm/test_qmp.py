# SPDX-License-Identifier: BSD-3-Clause
"""The monitor for programs on running machines: what each command tells, which events come when,
several clients, descriptors that are sent along."""

import os
import pathlib

import pytest

from ebbvm import Machine
from qmp import QmpClosed

MIB = 1 << 20
SMALL = ["-m", "64M"]
PATH = "/machine/peripheral/{}/virtio-backend"


def machine(folder, append="test=echo", args=(), monitor=False):
    memory = [] if "-m" in args else SMALL
    return Machine(folder, append, [*memory, *args], monitor, qmp=True)


def threads(vm):
    """Host thread id -> name."""
    tasks = pathlib.Path(f"/proc/{vm.process.pid}/task")
    return {int(task.name): (task / "comm").read_text().strip() for task in tasks.iterdir()}


# What is told.


def test_identity(folder):
    uuid = "01234567-89ab-cdef-0123-456789abcdef"
    with machine(folder, args=["-name", "guest=here", "-uuid", uuid]) as vm:
        qmp = vm.qmp()
        assert qmp.execute("query-name") == {"name": "here"}
        assert qmp.execute("query-uuid") == {"UUID": uuid}
        assert qmp.execute("query-kvm") == {"enabled": True, "present": True}
        assert qmp.execute("query-target") == {"arch": "x86_64"}
        assert qmp.execute("query-current-machine") == {"wakeup-suspend-support": False}
        assert qmp.execute("query-version")["package"] == qmp.greeting["version"]["package"]
        assert qmp.human("info name") == "here\n"
        assert qmp.human("info uuid") == uuid + "\n"
        assert qmp.human("info kvm") == "kvm support: enabled\n"


def test_no_name_no_uuid(folder):
    with machine(folder) as vm:
        qmp = vm.qmp()
        assert qmp.execute("query-name") == {}
        assert qmp.execute("query-uuid") == {"UUID": "00000000-0000-0000-0000-000000000000"}
        assert qmp.human("info name") == ""


def test_machines(folder):
    """Each type once, one of them the default, and what is not there is not offered."""
    with machine(folder) as vm:
        machines = vm.qmp().execute("query-machines")
        aliases = [m["alias"] for m in machines if "alias" in m]
        names = [m["name"] for m in machines] + aliases
        assert len(set(names)) == len(names) and "none" in names
        assert sorted(aliases) == ["pc", "q35"]
        assert [m["alias"] for m in machines if m.get("is-default")] == ["pc"]
        for old in ("pc-i440fx-5.2", "pc-q35-7.2", "pc-q35-9.0", "pc-i440fx-10.0"):
            assert old in names
        for m in machines:
            assert m["cpu-max"] > 0 and not m["hotpluggable-cpus"] and "default-cpu-type" not in m


def test_machine_names_work(folder):
    """Whatever is told as a machine's name can be asked for."""
    with machine(folder, args=["-S"]) as vm:
        machines = vm.qmp().execute("query-machines")
    # The first and the last of both kinds, and those that have another name.
    names = [m["name"] for m in machines if m["name"] != "none"]
    names = [names[0], names[-1], names[len(names) // 2 - 1], names[len(names) // 2]]
    for m in machines:
        names += [m["name"], m["alias"]] if "alias" in m else []
    for name in dict.fromkeys(names):
        own = pathlib.Path(folder, name)
        own.mkdir()
        with machine(own, args=["-S", "-machine", name]) as vm:
            assert vm.qmp().execute("query-status")["status"] == "prelaunch"


def test_cpus(folder):
    """Topology and nodes of each CPU, and threads that the host knows by these numbers."""
    args = ["-m", "64M", "-smp", "4,sockets=2,cores=1,threads=2"]
    args += ["-numa", "node,cpus=0-1", "-numa", "node,cpus=2-3"]
    with machine(folder, args=args) as vm:
        qmp = vm.qmp()
        cpus = qmp.execute("query-cpus-fast")
        assert [cpu["cpu-index"] for cpu in cpus] == [0, 1, 2, 3]
        assert [cpu["props"] for cpu in cpus] == [
            {"socket-id": s, "core-id": 0, "thread-id": t, "node-id": s}
            for s in (0, 1)
            for t in (0, 1)
        ]
        named = threads(vm)
        assert len({cpu["thread-id"] for cpu in cpus}) == 4
        assert all(cpu["thread-id"] in named and cpu["target"] == "x86_64" for cpu in cpus)
        assert len({cpu["qom-path"] for cpu in cpus}) == 4
        places = qmp.execute("query-hotpluggable-cpus")
        assert {p["qom-path"]: p["props"] for p in places} == {
            cpu["qom-path"]: cpu["props"] for cpu in cpus
        }
        types = {d["typename"] for d in qmp.execute("query-cpu-definitions")}
        assert {p["type"] for p in places} < types
        lines = qmp.human("info cpus").splitlines()
        assert lines[0] == f"* CPU #0: thread_id={cpus[0]['thread-id']}" and len(lines) == 4


def test_cpus_without_nodes(folder):
    with machine(folder, args=["-smp", "2,dies=2"]) as vm:
        props = [cpu["props"] for cpu in vm.qmp().execute("query-cpus-fast")]
        assert props == [
            {"socket-id": 0, "die-id": d, "core-id": 0, "thread-id": 0} for d in (0, 1)
        ]


def test_memory(folder):
    """What a guest that follows has, in all the places that tell it."""
    args = ["-m", "128M,maxmem=4G", "-object", "memory-backend-ram,id=m0,size=256M"]
    args += ["-device", "virtio-mem-pci,id=d0,memdev=m0,requested-size=64M,block-size=2M"]
    with machine(folder, "test=vmem-follow", args) as vm:
        qmp = vm.qmp()
        vm.console.expect("^follow: ready$")
        assert qmp.execute("query-memory-size-summary") == {
            "base-memory": 128 * MIB,
            "plugged-memory": 64 * MIB,
        }
        (device,) = qmp.execute("query-memory-devices")
        assert device["type"] == "virtio-mem"
        address = device["data"].pop("memaddr")
        assert device["data"] == {
            "id": "d0",
            "memdev": "/objects/m0",
            "node": 0,
            "requested-size": 64 * MIB,
            "size": 64 * MIB,
            "max-size": 256 * MIB,
            "block-size": 2 * MIB,
        }
        assert address % (2 * MIB) == 0 and address >= 128 * MIB
        (backend,) = qmp.execute("query-memdev")
        assert backend["id"] == "m0" and backend["size"] == 256 * MIB
        assert backend["host-nodes"] == [] and backend["policy"] == "default"
        (inside,) = qmp.execute("query-virtio-mem")
        assert inside == qmp.execute("query-virtio-mem", device="d0")[0]
        assert inside["request-status"] == "done" and inside["status"] == "ready"
        assert inside["size"] == inside["requested-size"] == 64 * MIB
        assert inside["violations"] == {"writes": 0, "reads": 0} and inside["guard"]["enabled"]
        assert inside["qom-path"] == PATH.format("d0")
        assert qmp.error("query-virtio-mem", {"device": "d1"}).error_class == "DeviceNotFound"


def test_iothreads_and_chardevs(folder):
    args = ["-object", "iothread,id=t0", "-chardev", "null,id=n0", "-chardev", "pty,id=p0"]
    with machine(folder, args=args) as vm:
        qmp = vm.qmp()
        (thread,) = qmp.execute("query-iothreads")
        assert thread["id"] == "t0" and threads(vm)[thread["thread-id"]] == "io"
        chardevs = {c["label"]: c for c in qmp.execute("query-chardev")}
        assert set(chardevs) == {"serial", "qmp", "n0", "p0"}
        assert chardevs["serial"]["frontend-open"] and chardevs["qmp"]["frontend-open"]
        assert chardevs["n0"] == {"label": "n0", "filename": "null", "frontend-open": False}
        kind, path = chardevs["p0"]["filename"].split(":")
        assert kind == "pty" and os.path.exists(path)


def test_nothing_of_that(folder):
    with machine(folder) as vm:
        qmp = vm.qmp()
        for command in ("query-block", "query-blockstats", "query-named-block-nodes"):
            assert qmp.execute(command) == []
        assert qmp.error("query-balloon").error_class == "DeviceNotActive"
        assert qmp.error("query-nothing").error_class == "CommandNotFound"
        assert qmp.human("info block") == "" and "balloon" in qmp.human("info balloon")


def test_pci(folder):
    """The guest gave numbers to the buses and addresses to what it uses."""
    args = ["-machine", "q35", "-m", "64M,maxmem=2G", "-device", "pcie-root-port,id=p0,addr=3"]
    args += ["-object", "memory-backend-ram,id=m0,size=64M"]
    args += ["-device", "virtio-mem-pci,id=d0,memdev=m0,bus=p0", "-device", "virtio-rng-pci"]
    with machine(folder, "test=pci end=spin", args) as vm:
        vm.console.expect("^END$")
        qmp = vm.qmp()
        (root,) = qmp.execute("query-pci")
        devices = {d["qdev_id"] or d["class_info"].get("desc", "rng"): d for d in root["devices"]}
        assert set(devices) == {"Host bridge", "p0", "rng"} and root["bus"] == 0
        port = devices["p0"]
        assert (port["slot"], port["function"], port["class_info"]["class"]) == (3, 0, 0x604)
        (mem,) = port["pci_bridge"]["devices"]
        assert mem["bus"] == port["pci_bridge"]["bus"]["secondary"] > 0
        assert mem["qdev_id"] == "d0" and mem["id"]["vendor"] == 0x1AF4
        window = port["pci_bridge"]["bus"]["prefetchable_range"]
        for region in mem["regions"]:
            assert region["type"] == "memory" and region["size"] > 0
            if region["prefetch"] and region["address"] != -1:
                assert window["base"] <= region["address"]
                assert region["address"] + region["size"] - 1 <= window["limit"]
        text = qmp.human("info pci")
        assert text.startswith("  Bus  0, device   0, function 0:\n    Host bridge: PCI device ")
        assert '      id "d0"\n' in text and f"secondary bus {mem['bus']}." in text


# Run state and its events.


def test_stop_and_cont(folder):
    with machine(folder) as vm:
        vm.console.expect("^echo: ready$")
        qmp = vm.qmp()
        running = {"running": True, "singlestep": False, "status": "running"}
        paused = {"running": False, "singlestep": False, "status": "paused"}
        assert qmp.execute("query-status") == running
        for _ in range(3):
            assert qmp.execute("stop") == {} and qmp.execute("query-status") == paused
            assert qmp.human("info status") == "VM status: paused\n"
            assert qmp.execute("cont") == {} and qmp.execute("query-status") == running
        for _ in range(2):  # what is so already is no event
            qmp.execute("cont")
        assert [e["event"] for e in qmp.take_events()] == ["STOP", "RESUME"] * 3
        vm.type("still here")
        vm.console.expect("^echo: still here$")


def test_start_stopped(folder):
    with machine(folder, "test=none", ["-S"]) as vm:
        qmp = vm.qmp()
        assert qmp.execute("query-status")["status"] == "prelaunch"
        qmp.execute("cont")
        qmp.wait_event("RESUME")
        data = qmp.wait_event("SHUTDOWN")["data"]
        assert data == {"guest": True, "reason": "guest-shutdown"}
        assert vm.wait() == 0


def test_reset(folder):
    with machine(folder) as vm:
        vm.console.expect("^echo: ready$")
        qmp = vm.qmp()
        qmp.execute("system_reset")
        data = qmp.wait_event("RESET")["data"]
        assert data == {"guest": False, "reason": "host-qmp-system-reset"}
        vm.console.expect("^echo: ready$")


def test_guest_reset(folder):
    with machine(folder, "test=none end=reset", ["-S"]) as vm:
        qmp = vm.qmp()
        qmp.execute("cont")
        for _ in range(2):
            assert qmp.wait_event("RESET")["data"] == {"guest": True, "reason": "guest-reset"}
        qmp.execute("set-action", reboot="shutdown")
        assert qmp.wait_event("SHUTDOWN")["data"]["reason"] == "guest-reset"
        assert vm.wait() == 0


def test_powerdown(folder):
    """With -no-shutdown the machine stays, off, until a reset."""
    with machine(folder, "test=powerbutton", ["-no-shutdown"]) as vm:
        vm.console.expect("^powerbutton: ready$")
        qmp = vm.qmp()
        qmp.execute("system_powerdown")
        qmp.wait_event("POWERDOWN")
        data = qmp.wait_event("SHUTDOWN")["data"]
        assert data == {"guest": True, "reason": "guest-shutdown"}
        qmp.wait_event("STOP")
        assert qmp.execute("query-status")["status"] == "shutdown"
        assert "eset" in qmp.error("cont").desc
        qmp.execute("system_reset")
        qmp.execute("cont")
        vm.console.expect("^powerbutton: ready$")


def test_quit(folder):
    """The answer, the event, the end; also for who did not ask."""
    with machine(folder) as vm:
        vm.console.expect("^echo: ready$")
        asking, other = vm.qmp(), vm.qmp()
        assert asking.execute("quit") == {} and not asking.events
        for qmp in (asking, other):
            data = qmp.wait_event("SHUTDOWN")["data"]
            assert data == {"guest": False, "reason": "host-qmp-quit"}
            with pytest.raises(QmpClosed):
                qmp.read_line()
        assert vm.wait() == 0


def test_signal(folder):
    with machine(folder) as vm:
        qmp = vm.qmp()
        vm.process.terminate()
        assert qmp.wait_event("SHUTDOWN")["data"] == {"guest": False, "reason": "host-signal"}
        assert qmp.closed() and vm.wait() == 0


@pytest.mark.parametrize(
    "action,told,status",
    [("pause", "pause", "guest-panicked"), ("none", "run", "running")],
)
def test_panic(folder, action, told, status):
    with machine(folder, "test=none end=panic", ["-S", "-device", "pvpanic"]) as vm:
        qmp = vm.qmp()
        qmp.execute("set-action", panic=action)
        qmp.execute("cont")
        assert qmp.wait_event("GUEST_PANICKED")["data"] == {"action": told}
        assert qmp.execute("query-status")["status"] == status
        assert bool(qmp.take_events("STOP")) == (status != "running")


def test_panic_ends(folder):
    args = ["-S", "-device", "pvpanic", "-action", "panic=exit-failure"]
    with machine(folder, "test=none end=panic", args) as vm:
        qmp = vm.qmp()
        qmp.execute("cont")
        assert qmp.wait_event("GUEST_PANICKED")["data"] == {"action": "poweroff"}
        assert qmp.wait_event("SHUTDOWN")["data"] == {"guest": True, "reason": "guest-panic"}
        assert vm.wait() == 1


def test_crash_loaded(folder):
    with machine(folder, "test=none end=crash", ["-S", "-device", "pvpanic"]) as vm:
        qmp = vm.qmp()
        qmp.execute("cont")
        assert qmp.wait_event("GUEST_CRASHLOADED")["data"] == {"action": "run"}
        assert qmp.execute("query-status")["running"]


@pytest.mark.parametrize(
    "end, event, line",
    [("panics", "GUEST_PANICKED", "panicked"), ("crashes", "GUEST_CRASHLOADED", "crashed")],
)
def test_guest_that_tells_without_end(folder, end, event, line):
    """It fills neither the log nor what programs read: it is heard once a second."""
    args = ["-S", "-device", "pvpanic", "-action", "panic=none"]
    with machine(folder, f"test=none end={end}", args) as vm:
        qmp = vm.qmp()
        qmp.execute("cont")
        stamps = [qmp.wait_event(event)["timestamp"] for _ in range(3)]
        seconds = [stamp["seconds"] + stamp["microseconds"] / 1e6 for stamp in stamps]
        assert seconds[2] - seconds[0] > 1.8
        assert qmp.execute("query-status")["running"]
        qmp.send("quit")
        assert vm.wait() == 0
        # One more may have come before the end.
        assert 3 <= vm.errors.text.count(line) <= 4 + len(qmp.take_events(event))


def test_set_action_is_whole(folder):
    """One member that is wrong, and nothing is set."""
    with machine(folder, "test=none end=reset", ["-S", "-no-reboot"]) as vm:
        qmp = vm.qmp()
        qmp.error("set-action", {"reboot": "reset", "panic": "no-such-action"})
        qmp.execute("cont")
        assert qmp.wait_event("SHUTDOWN")["data"]["reason"] == "guest-reset"


# Memory devices' events.


def test_size_change(folder):
    """The first change is told at once, the last one at the end, few in between."""
    args = ["-m", "128M,maxmem=4G", "-object", "memory-backend-ram,id=m0,size=256M"]
    args += ["-device", "virtio-mem-pci,id=d0,memdev=m0,requested-size=0,block-size=2M"]
    with machine(folder, "test=vmem-follow", args, monitor=True) as vm:
        vm.console.expect("^follow: ready$")
        qmp, person = vm.qmp(), vm.monitor()
        for size in (256, 128, 0):
            person.run(f"virtio-mem d0 {size}")
            event = qmp.wait_event("MEMORY_DEVICE_SIZE_CHANGE", {"size": size * MIB})
            assert event["data"] == {
                "id": "d0",
                "size": size * MIB,
                "qom-path": PATH.format("d0"),
            }
            assert len(qmp.take_events("MEMORY_DEVICE_SIZE_CHANGE")) <= 2


def test_reset_takes_memory(folder):
    """Told like any other change; afterwards the guest asks for its memory again."""
    args = ["-m", "128M,maxmem=4G", "-object", "memory-backend-ram,id=m0,size=64M"]
    args += ["-device", "virtio-mem-pci,id=d0,memdev=m0,requested-size=64M,block-size=2M"]
    with machine(folder, "test=vmem-follow", [*args, "-S"]) as vm:
        qmp = vm.qmp()
        qmp.execute("cont")
        vm.console.expect("^follow: ready$")
        qmp.wait_event("MEMORY_DEVICE_SIZE_CHANGE", {"size": 64 * MIB})
        qmp.execute("stop")
        qmp.execute("system_reset")
        qmp.wait_event("MEMORY_DEVICE_SIZE_CHANGE", {"id": "d0", "size": 0})
        assert qmp.execute("query-memory-size-summary")["plugged-memory"] == 0
        qmp.execute("cont")
        qmp.wait_event("MEMORY_DEVICE_SIZE_CHANGE", {"id": "d0", "size": 64 * MIB})


def test_violation(folder):
    args = ["-m", "128M,maxmem=12G", "-object", "memory-backend-ram,id=m0,size=64M"]
    args += ["-device", "virtio-mem-pci,id=d0,memdev=m0,requested-size=64M"]
    args += ["-device", "virtio-rng-pci"]
    with machine(folder, "test=attack", args) as vm:
        vm.console.expect(r"^attack: ready .*\n")
        qmp = vm.qmp()
        for order in ("lay PU", "hit mov8"):
            vm.type(order)
            vm.console.expect(rf"^{order.split()[0]}\b.*\n")
        data = qmp.wait_event("MEMORY_DEVICE_VIOLATION", {"id": "d0"})["data"]
        (inside,) = qmp.execute("query-virtio-mem", device="d0")
        assert data["qom-path"] == PATH.format("d0") == inside["qom-path"]
        assert data["action"] == "deny" and data["cpu-index"] == 0 and data["size"] in (1, 2, 4, 8)
        assert 1 <= data["writes"] + data["reads"]
        assert data["writes"] <= inside["violations"]["writes"]
        assert set(inside["violations"]["last"]) == {"address", "size", "write", "cpu-index"}
        assert qmp.execute("query-status")["running"]


# Clients.


def test_two_clients(folder):
    """Both see what one does; one that leaves changes nothing for the other."""
    with machine(folder) as vm:
        vm.console.expect("^echo: ready$")
        one, two = vm.qmp(), vm.qmp()
        one.execute("stop")
        assert two.wait_event("STOP") == one.wait_event("STOP")
        assert two.execute("query-status")["status"] == "paused"
        one.close()
        two.execute("cont")
        two.wait_event("RESUME")
        assert vm.qmp().execute("query-status")["running"]


def test_human_monitor_command(folder):
    with machine(folder) as vm:
        qmp = vm.qmp()
        assert qmp.human("info status") == "VM status: running\n"
        assert qmp.human("stop") == "" and qmp.wait_event("STOP")
        assert "no-such-thing" in qmp.human("no-such-thing")
        assert "cpu-index" in qmp.error(
            "human-monitor-command", {"command-line": "info status", "cpu-index": 1}
        ).desc
        # what it starts does not end with it
        assert "query" not in qmp.human("help") and "system_reset" in qmp.human("help")


def test_person_and_program(folder):
    with machine(folder, monitor=True) as vm:
        person, qmp = vm.monitor(), vm.qmp()
        vm.console.expect("^echo: ready$")
        person.run("stop")
        qmp.wait_event("STOP")
        qmp.execute("cont")
        assert person.run("info status") == "VM status: running\n"
        person.send("quit")
        assert qmp.wait_event("SHUTDOWN")["data"]["reason"] == "host-qmp-quit"
        assert person.closed() and vm.wait() == 0


# Parts that come and go.


def refused(qmp, command, error_class="GenericError", fds=(), **arguments):
    """The sentence of a command that must be refused."""
    error = qmp.error(command, {k.replace("_", "-"): v for k, v in arguments.items()}, fds=fds)
    assert error.error_class == error_class, error
    return error.desc


def test_objects(folder):
    with machine(folder) as vm:
        qmp = vm.qmp()
        ram = {"qom_type": "memory-backend-ram", "size": 64 * MIB}
        assert qmp.execute("object-add", id="m0", **ram) == {}
        qmp.execute("object-add", id="m1", share=True, policy="default", host_nodes=[], **ram)
        qmp.execute("object-add", id="r0", qom_type="rng-builtin")
        assert {m["id"]: m["share"] for m in qmp.execute("query-memdev")} == {
            "m0": False,
            "m1": True,
        }
        for wrong in ("m0", "r0"):
            assert wrong in refused(qmp, "object-add", id=wrong, **ram)
        assert "size" in refused(qmp, "object-add", qom_type="memory-backend-ram", id="m2")
        assert "nosuch" in refused(qmp, "object-add", qom_type="nosuch", id="m2")
        assert "block" in refused(qmp, "object-add", id="m2", block=1, **ram)
        assert "m2" in refused(qmp, "object-del", id="m2")
        for name in ("m0", "m1", "r0"):
            assert qmp.execute("object-del", id=name) == {}
        assert qmp.execute("query-memdev") == []


def test_objects_by_people(folder):
    with machine(folder) as vm:
        qmp = vm.qmp()
        assert qmp.human("object_add memory-backend-ram,id=m0,size=64M,share=on") == ""
        (m0,) = qmp.execute("query-memdev")
        assert (m0["id"], m0["size"], m0["share"]) == ("m0", 64 * MIB, True)
        assert "nosuch" in qmp.human("object_add memory-backend-ram,id=m1,size=64M,nosuch=1")
        assert qmp.human("object_del m0") == "" and qmp.execute("query-memdev") == []
        assert qmp.human("chardev-add null,id=n0") == ""
        path = qmp.human("chardev-add pty,id=p0").split()[-1]
        assert f"p0: filename=pty:{path}\n" in qmp.human("info chardev")
        assert qmp.human("chardev-remove n0") == qmp.human("chardev-remove p0") == ""


PORT = ["-machine", "q35", "-m", "64M,maxmem=4G", "-device", "pcie-root-port,id=p0,chassis=1"]


def test_device(folder):
    """A device comes, with whatever keys it takes, and leaves: at a reset, with this guest."""
    with machine(folder, args=PORT) as vm:
        vm.console.expect("^echo: ready$")
        qmp = vm.qmp()
        qmp.execute("object-add", qom_type="memory-backend-ram", id="m0", size=64 * MIB)
        assert "m9" in refused(qmp, "device_add", driver="virtio-mem-pci", id="d0", memdev="m9")
        keys = {"driver": "virtio-mem-pci", "id": "d0", "memdev": "m0", "bus": "p0"}
        assert "nosuch" in refused(qmp, "device_add", nosuch=1, **keys)
        assert qmp.execute("query-memory-devices") == []
        assert qmp.call("device_add", {**keys, "block-size": 4 * MIB, "node": 0}) == {}
        (device,) = qmp.execute("query-memory-devices")
        assert device["data"]["id"] == "d0" and device["data"]["block-size"] == 4 * MIB
        assert "m0" in refused(qmp, "object-del", id="m0")
        refused(qmp, "device_add", **keys)
        assert "d9" in refused(qmp, "device_del", "DeviceNotFound", id="d9")
        assert qmp.execute("device_del", id="/machine/peripheral/d0") == {}
        qmp.execute("system_reset")
        deleted = qmp.wait_event("DEVICE_DELETED")["data"]
        assert deleted == {"device": "d0", "path": "/machine/peripheral/d0"}
        assert qmp.execute("query-memory-devices") == []
        assert qmp.execute("object-del", id="m0") == {}
        vm.console.expect("^echo: ready$")


def test_device_by_people(folder):
    with machine(folder, args=PORT) as vm:
        qmp = vm.qmp()
        assert qmp.human("object_add memory-backend-ram,id=m0,size=64M") == ""
        assert qmp.human("device_add virtio-mem-pci,id=d0,memdev=m0") == ""
        assert 'Memory device [virtio-mem]: "d0"' in qmp.human("info memory-devices")
        assert qmp.human("device_del d0") == "" and "d9" in qmp.human("device_del d9")
        qmp.execute("system_reset")
        qmp.wait_event("DEVICE_DELETED", {"device": "d0"})
        assert qmp.human("info memory-devices") == ""


def test_chardevs(folder):
    with machine(folder) as vm:
        qmp = vm.qmp()
        null, pty = {"type": "null", "data": {}}, {"type": "pty", "data": {}}
        assert qmp.execute("chardev-add", id="n0", backend=null) == {}
        path = qmp.execute("chardev-add", id="p0", backend=pty)["pty"]
        assert os.path.exists(path)
        unix = {"type": "unix", "data": {"path": f"{folder}/s0"}}
        socket = {"type": "socket", "data": {"addr": unix}}
        assert qmp.execute("chardev-add", id="s0", backend=socket) == {}
        assert os.path.exists(f"{folder}/s0")
        files = {c["label"]: c["filename"] for c in qmp.execute("query-chardev")}
        assert files["n0"] == "null" and files["p0"] == f"pty:{path}"
        assert files["s0"] == f"disconnected:unix:{folder}/s0,server=on"
        assert "n0" in refused(qmp, "chardev-add", id="n0", backend=null)
        assert "nosuch" in refused(qmp, "chardev-add", id="n1", backend={"type": "nosuch"})
        for busy in ("serial", "qmp", "nosuch"):
            assert busy in refused(qmp, "chardev-remove", id=busy)
        for name in ("n0", "p0", "s0"):
            assert qmp.execute("chardev-remove", id=name) == {}
        assert {c["label"] for c in qmp.execute("query-chardev")} == {"serial", "qmp"}
        assert not os.path.exists(f"{folder}/s0")


def descriptors(vm, path):
    """How many of the process's descriptors are of the file PATH."""
    folder = pathlib.Path(f"/proc/{vm.process.pid}/fd")
    return [os.readlink(fd) for fd in folder.iterdir() if fd.is_symlink()].count(str(path))


def test_descriptors(folder):
    """They are kept as often as was asked for, and closed when nothing keeps them."""
    path = pathlib.Path(folder).resolve() / "file"
    with machine(folder, monitor=True) as vm, open(path, "w+b") as file:
        qmp, fd = vm.qmp(), file.fileno()
        assert "SCM_RIGHTS" in refused(qmp, "getfd", fdname="a")
        assert qmp.call("getfd", {"fdname": "a"}, fds=[fd]) == {}
        assert qmp.call("getfd", {"fdname": "b"}, fds=[fd]) == {}
        assert qmp.call("getfd", {"fdname": "a"}, fds=[fd]) == {}  # in place of the first one
        assert descriptors(vm, path) == 2
        assert qmp.execute("closefd", fdname="a") == {} and descriptors(vm, path) == 1
        assert "a" in refused(qmp, "closefd", fdname="a")
        refused(qmp, "getfd", fds=[fd], fdname="0")
        assert descriptors(vm, path) == 1
        added = qmp.call("add-fd", {"opaque": "text"}, fds=[fd])
        again = qmp.call("add-fd", {"fdset-id": added["fdset-id"]}, fds=[fd])
        assert again["fdset-id"] == added["fdset-id"] and again["fd"] != added["fd"]
        (fdset,) = qmp.execute("query-fdsets")
        assert fdset["fdset-id"] == added["fdset-id"]
        assert {f["fd"]: f.get("opaque") for f in fdset["fds"]} == {
            added["fd"]: "text",
            again["fd"]: None,
        }
        qmp.execute("remove-fd", fdset_id=added["fdset-id"], fd=again["fd"])
        assert descriptors(vm, path) == 2
        qmp.execute("remove-fd", fdset_id=added["fdset-id"])
        assert qmp.execute("query-fdsets") == [] and descriptors(vm, path) == 1
        refused(qmp, "remove-fd", fdset_id=added["fdset-id"])
        # one that no command took is nobody's
        qmp.call("query-status", fds=[fd])
        assert qmp.execute("closefd", fdname="b") == {}
        qmp.execute("query-status")
        assert descriptors(vm, path) == 0


def test_fdset_is_a_path(folder):
    """What a set holds is what a character device opens."""
    path = pathlib.Path(folder) / "out"
    with machine(folder) as vm, open(path, "w+b") as file:
        qmp = vm.qmp()
        number = qmp.call("add-fd", {}, fds=[file.fileno()])["fdset-id"]
        backend = {"type": "file", "data": {"out": f"/dev/fdset/{number}"}}
        assert qmp.execute("chardev-add", id="f0", backend=backend) == {}
        assert descriptors(vm, path.resolve()) == 2
        qmp.execute("remove-fd", fdset_id=number)
        qmp.execute("chardev-remove", id="f0")
        qmp.execute("query-status")  # by now it is closed, too
        assert descriptors(vm, path.resolve()) == 0
