# SPDX-License-Identifier: BSD-3-Clause
"""Commands at random on a running machine: every command there is, with arguments that the
machine's own schema makes, right ones and nearly right ones, by three clients. Each is answered in
the shape that the schema promises, each event has its shape, and in the end the machine is whole.

    EBB_SEED=N     the same choices again (a failure prints it)
    EBB_COMMANDS   how many (4000)
"""

import os
import random
import select

from ebbvm import Machine, memory_devices
from qmp import QmpError
from shapes import Schema
from test_qom import walk

MIB = 1 << 20
SEED = int(os.environ.get("EBB_SEED", str(random.SystemRandom().randrange(1 << 32))))
COMMANDS = int(os.environ.get("EBB_COMMANDS", "4000"))
CLIENTS = 3

# After quit there is nothing to ask; what set-action may choose ends the machine as well.
LEFT_OUT = {"quit", "set-action", "qmp_capabilities"}

ARGS = """-machine q35 -smp 2 -m 128M,maxmem=8G -no-shutdown
    -numa node,cpus=0,mem=64M -numa node,cpus=1,mem=64M
    -device pcie-root-port,id=port0 -device pcie-root-port,id=port1
    -object memory-backend-ram,id=m2,size=256M -object iothread,id=io0""".split()
ARGS += memory_devices(("1G", "64M", "2M", 0), ("512M", 0, "4M", 1))

TEXTS = """d0 d1 late m0 m1 m2 new port0 port1 pcie.0 io0 qmp j0 j1 resize-d0 null pty type addr
    size requested-size virtio-mem-pci virtio-rng-pci memory-backend-ram rng-builtin
    pc-q35-9.0-machine /machine /objects /objects/m0 /machine/peripheral/d0 /chardevs/qmp
    /machine/peripheral/d1/virtio-backend /machine/unattached/device[0] device[0] vm vcpu
    virtio-mem 0 -1 64M""".split()
URIS = ["exec:cat > /dev/null", "exec:false", "exec:cat", "tcp:127.0.0.1:1", "tcp:[::1]:0", "fd:new"]
URIS += ["unix:/nonexistent/x", "file:/nonexistent/x", "file:/dev/null", "file:/dev/fdset/1", "fd:9"]
TEXTS += ["", "x" * 300, "\u00e9", "a b", "\n"]
LINES = """help
    help info
    info
    info qtree
    info qom-tree
    info pci
    info jobs
    info stats
    info virtio-mem
    info virtio-mem-blocks d0 7
    info numa
    info memory-devices
    info chardev
    qom-list /machine
    qom-get d0 size
    qom-set d1 requested-size 64M
    virtio-mem d0 100
    virtio-mem d1 0
    memory_resize 1G
    job_cancel j0
    device_add virtio-mem-pci,id=late,memdev=m2,bus=port0
    device_add virtio-rng-pci,id=late,bus=port1
    device_del late
    object_add rng-builtin,id=new
    object_del new
    chardev-add null,id=new
    chardev-remove new
    getfd x
    migrate exec:false
    migrate_cancel
    migrate_set_parameter max-bandwidth 4k
    migrate_set_parameter max-bandwidth 0
    migrate_set_capability events on
    migrate_continue pre-switchover
    info migrate
    nothing
    stop
    cont
    \"""".split("\n")
NUMBERS = [0, 1, -1, 2, 7, 255, 4096, MIB, 2 * MIB, 64 * MIB, 100 * MIB, 256 * MIB, 1 << 30]
NUMBERS += [3 << 30, 1 << 40, (1 << 63) - 1, -(1 << 63), 5_000_000_000]
STRANGE = [None, True, 1.5, 3, "x", [], {}]
UNDER_WAY = ("setup", "active", "pre-switchover", "device", "cancelling")
# Keys of devices that the schema does not have: device_add takes any.
DEVICE_KEYS = [{}, {"memdev": "m2"}, {"memdev": "m2", "bus": "port0"}, {"addr": "1"}, {"node": 1}]


class Words:
    """Random values of the schema's types."""

    def __init__(self, schema, rng):
        self.infos = schema.infos
        self.rng = rng

    def value(self, name, depth=0):
        info = self.infos[name]
        if depth and self.rng.random() < 0.03:
            return self.rng.choice(STRANGE)
        return getattr(self, "_" + info["meta-type"])(info, depth + 1)

    def _builtin(self, info, depth):
        kinds = {"string": TEXTS, "boolean": [False, True], "null": [None], "value": STRANGE}
        return self.rng.choice(kinds.get(info["json-type"], NUMBERS))

    def _enum(self, info, depth):
        return self.rng.choice([m["name"] for m in info["members"]])

    def _array(self, info, depth):
        return [self.value(info["element-type"], depth) for _ in range(self.rng.randrange(3))]

    def _alternate(self, info, depth):
        return self.value(self.rng.choice(info["members"])["type"], depth)

    def _object(self, info, depth):
        value = {}
        for member in info["members"]:
            if self.rng.random() < (0.6 if "default" in member else 0.02):
                continue
            value[member["name"]] = self.value(member["type"], depth)
        for variant in info.get("variants", ()):
            if variant["case"] == value.get(info["tag"]):
                value = {**self._object(self.infos[variant["type"]], depth), **value}
        return value

    def arguments(self, command):
        if command == "human-monitor-command" and self.rng.random() < 0.9:
            return {"command-line": self.rng.choice(LINES)}
        arguments = self.value(self.infos[command]["arg-type"])
        if "uri" in arguments:
            arguments["uri"] = self.rng.choice(URIS)
        if command == "device_add":
            arguments.update(self.rng.choice(DEVICE_KEYS))
        return arguments


def harmless(command, arguments):
    """Not what makes files where the test is run."""
    text = str(arguments).replace("'", '"')
    return command != "chardev-add" or ('"file"' not in text and '"logfile"' not in text)


def take_events(client, schema, counts):
    """Read what has come to a session, and look at its shape."""
    while select.select([client.sock], [], [], 0)[0]:
        event = client.read_message()
        assert "event" in event, f"an answer to no command: {event!r}"
        client.events.append(event)
    for event in client.take_events():
        info = schema.infos[event["event"]]
        findings = schema.check(event.get("data", {}), info["arg-type"], event["event"])
        assert not findings, (event, findings)
        counts[event["event"]] = counts.get(event["event"], 0) + 1


def test_commands_at_random(folder):
    print(f"EBB_SEED={SEED}")
    rng = random.Random(SEED)
    answered, refused, events = set(), set(), {}
    with Machine(folder, "test=vmem-follow devices=2", ARGS, qmp=True) as vm:
        clients = [vm.qmp() for _ in range(CLIENTS)]
        schema = Schema(clients[0].call("query-qmp-schema"))
        words = Words(schema, rng)
        commands = sorted(schema.names("command") - LEFT_OUT)
        for _ in range(COMMANDS):
            client, command = rng.choice(clients), rng.choice(commands)
            arguments = words.arguments(command)
            if not harmless(command, arguments):
                continue
            try:
                value = client.call(command, arguments)
                findings = schema.check(value, schema.infos[command]["ret-type"], command)
                assert not findings, (command, arguments, value, findings)
                answered.add(command)
            except QmpError:
                refused.add(command)
            for each in clients:
                take_events(each, schema, events)
        # Nearly every command went well at some time; what needs a descriptor cannot.
        assert len(answered) > len(commands) * 2 // 3, sorted(set(commands) - answered)
        assert len(refused) > len(commands) // 3 and len(events) >= 4
        # The machine is whole: reset, it has both devices, which are resized as they should be.
        client = clients[0]
        client.execute("migrate_cancel")
        while client.execute("query-migrate").get("status", "none") in UNDER_WAY:
            select.select([client.sock], [], [], 0.02)
        client.execute("system_reset")
        client.execute("cont")
        tree = walk(client)
        for device in ("/machine/peripheral/d0", "/machine/peripheral/d1"):
            assert tree[device]["type"][1] == "virtio-mem-pci"
        known = {d["data"].get("id") for d in client.execute("query-memory-devices")}
        assert {"d0", "d1"} <= known
        client.execute("stop")
        # This guest switches off when it finds one device more.
        assert client.execute("query-status")["status"] in ("paused", "shutdown")
        vm.signal(15)
        assert vm.wait() == 0, vm.errors.text
