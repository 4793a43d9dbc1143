# SPDX-License-Identifier: BSD-3-Clause
"""The object tree: every property of every object, what can be set, and the same beside QEMU."""

import pytest

import qemu
from ebbvm import Machine, memory_devices

MIB = 1 << 20
GIB = 1 << 30

# A q35 machine with one of everything that can be in the tree; words for ebb and QEMU alike.
SAME = """-machine q35 -smp 2,sockets=2,cores=1 -object memory-backend-ram,id=ram0,size=128M
    -object memory-backend-ram,id=ram1,size=128M -m 256M,maxmem=8G,slots=2
    -numa node,nodeid=0,cpus=0,memdev=ram0 -numa node,nodeid=1,cpus=1,memdev=ram1
    -object memory-backend-ram,id=mem0,size=1G,reserve=off
    -object memory-backend-memfd,id=mem1,size=64M,share=on
    -object rng-random,id=rnd0,filename=/dev/urandom -object rng-builtin,id=rnd1
    -object iothread,id=io0 -object secret,id=sec0,data=x
    -chardev null,id=chr0 -device pcie-root-port,id=port0,addr=2,chassis=1,slot=7
    -device virtio-mem-pci,id=vm0,memdev=mem0,requested-size=64M,node=1,addr=4
    -device virtio-mem-pci,memdev=mem1,bus=port0
    -device virtio-rng-pci,id=noise,rng=rnd0,max-bytes=4096,period=1000,addr=5
    -device virtio-rng-pci,rng=rnd1,addr=6
    -device isa-serial,id=com2,chardev=chr0,index=1 -device pvpanic""".split()

VM0 = "/machine/peripheral/vm0"
BACKEND = VM0 + "/virtio-backend"

INTEGERS = {"int", "int32", "size", "uint8", "uint16", "uint32", "uint64"}
STRUCTS = {"MemorySizeConfiguration", "SMPConfiguration", "SocketAddress"}
ENUMS = {
    "OnOffAuto": {"on", "off", "auto"},
    "HostMemPolicy": {"default", "preferred", "bind", "interleave"},
    "VirtioMemViolationAction": {"deny", "pause", "shutdown"},
    "VirtioMemRequestStatus": {"done", "in-progress", "vm-oom", "host-oom", "no-driver"},
}


def fits(name, kind, value):
    """Is VALUE what a listing calls KIND?"""
    if name == "host-nodes":  # a list under the name of its items, in QEMU too
        return kind == "int" and isinstance(value, list)
    if kind == "bool":
        return isinstance(value, bool)
    if kind in INTEGERS:
        return type(value) is int and (value >= 0 or kind in ("int", "int32"))
    if kind in ENUMS:
        return value in ENUMS[kind]
    if kind in STRUCTS:
        return isinstance(value, dict)
    if kind == "X86CPUFeatureWordInfo":  # a list of them, likewise
        return all(0 <= word["features"] < 1 << 32 for word in value)
    text = kind in ("str", "string") or kind.startswith(("link<", "child<"))
    return text and isinstance(value, str)


def walk(qmp, path="/"):
    """{path: {property: (type, value)}} of PATH and all below it."""
    tree = {path: {}}
    for info in qmp.call("qom-list", {"path": path}):
        assert set(info) == {"name", "type"}, info
        name, kind = info["name"], info["type"]
        assert name not in tree[path], f"{path} has {name} twice"
        value = qmp.call("qom-get", {"path": path, "property": name})
        assert fits(name, kind, value), f"{path} {name}: {value!r} is no {kind}"
        tree[path][name] = (kind, value)
        if kind.startswith("child<"):
            assert value == path.rstrip("/") + "/" + name
            below = walk(qmp, value)
            assert kind == f"child<{below[value]['type'][1]}>"
            tree.update(below)
    return tree


def test_whole_tree(folder):
    """Each property can be read and has its type, each link leads to an object of its kind."""
    with Machine(folder, "test=echo", SAME, qmp=True) as vm:
        qmp = vm.qmp()
        tree = walk(qmp)
        types = {t["name"]: t for t in qmp.call("qom-list-types", {"abstract": True})}
        links = 0
        for path, properties in tree.items():
            own = properties["type"][1]
            assert own in types and not types[own].get("abstract"), own
            listed = {
                p["name"]: p["type"] for p in qmp.call("qom-list-properties", {"typename": own})
            }
            for name, (kind, value) in properties.items():
                if not kind.startswith("child<"):
                    assert listed[name] == kind
                if kind.startswith("link<") and value:
                    wanted = kind[len("link<") : -1]
                    ancestor = tree[value]["type"][1]
                    while ancestor != wanted:
                        ancestor = types[ancestor]["parent"]
                    links += 1
            assert qmp.call("qom-list", {"path": path + "/"}) == qmp.call(
                "qom-list", {"path": path}
            )
        assert links >= 12
        assert {p for p in tree if p.startswith("/objects/")} == {
            "/objects/" + name
            for name in ("ram0", "ram1", "mem0", "mem1", "rnd0", "rnd1", "io0", "sec0")
        }
        # What other commands call an object is where it is.
        paths = {cpu["qom-path"] for cpu in qmp.execute("query-cpus-fast")}
        assert paths == {p for p in tree if tree[p]["type"][1] == "host-x86_64-cpu"}
        assert {c["label"] for c in qmp.execute("query-chardev")} == {
            p.rsplit("/", 1)[1] for p in tree if p.startswith("/chardevs/")
        }
        assert {m["id"] for m in qmp.execute("query-memdev")} <= {
            p.rsplit("/", 1)[1] for p in tree if p.startswith("/objects/")
        }
        inside = qmp.execute("query-virtio-mem")
        assert {d["qom-path"] for d in inside} == {
            p for p in tree if tree[p]["type"][1] == "virtio-mem"
        }
        for device in inside:
            own = tree[device["qom-path"]]
            assert own["request-status"][1] == device["request-status"]
            assert own["request-explanation"][1] == device.get("explanation", "")
            assert own["requested-size"][1] == device["requested-size"]
            assert own["region-size"][1] == device["max-size"]
        for device in qmp.execute("query-memory-devices"):
            assert device["data"]["memdev"] in tree


def test_tree_for_people(folder):
    """The lines of info qom-tree are the tree, those of info qtree have all devices and buses."""
    with Machine(folder, "test=echo", SAME, qmp=True) as vm:
        qmp = vm.qmp()
        tree = walk(qmp)
        stack, shown = [], {}
        for line in qmp.human("info qom-tree").splitlines():
            depth = (len(line) - len(line.lstrip())) // 2
            name, kind = line.strip().lstrip("/").split(" ")
            stack[depth:] = [name]
            shown["/" + "/".join(stack)] = kind.strip("()")
        assert shown == {
            path: p["type"][1] for path, p in tree.items() if (path + "/").startswith("/machine/")
        }
        devices = qmp.human("info qtree")
        for path, properties in tree.items():
            own = properties["type"][1]
            if path.startswith("/machine/peripheral/") and path.count("/") == 3:
                assert f'dev: {own}, id "{path.rsplit("/", 1)[1]}"\n' in devices
            elif path.startswith("/machine/peripheral-anon/") and path.count("/") == 3:
                assert f'dev: {own}, id ""\n' in devices
        assert "bus: port0\n" in devices and "bus: pcie.0\n" in devices


def test_requested_size(folder):
    """Set on either object of the device, the size is the guest's and events tell."""
    args = ["-m", "128M,maxmem=4G", *memory_devices(("1G", "64M", "2M", 0))]
    d0 = "/machine/peripheral/d0"
    with Machine(folder, "test=vmem-follow", args, qmp=True) as vm:
        qmp = vm.qmp()
        vm.console.expect("^follow: ready$")
        ways = [
            (d0, 128 * MIB),
            (d0 + "/virtio-backend", 16 * MIB),
            ("d0", 256 * MIB),
            (d0, 0),
        ]
        for path, size in ways:
            value = {"path": path, "property": "requested-size", "value": size}
            assert qmp.call("qom-set", value) == {}
            vm.console.expect(rf"^follow 0 plugged={size}$")
            event = qmp.wait_event("MEMORY_DEVICE_SIZE_CHANGE", {"id": "d0", "size": size})
            assert event["data"]["qom-path"] == d0 + "/virtio-backend"
            for object_ in (d0, d0 + "/virtio-backend"):
                for name in ("size", "requested-size"):
                    assert qmp.call("qom-get", {"path": object_, "property": name}) == size
            get = {"path": d0, "property": "request-status"}
            assert qmp.call("qom-get", get) == "done"
        assert qmp.human(f"qom-set {d0} requested-size 32M") == ""
        vm.console.expect(rf"^follow 0 plugged={32 * MIB}$")
        assert qmp.human(f"qom-get {d0} requested-size") == f"{32 * MIB}\n"
        vm.type("quit")
        assert vm.wait() == 0


def test_device_that_came_later(folder):
    """A device that is plugged is in the tree, tells so, and leaves it at a reset."""
    args = ["-machine", "q35", "-m", "128M,maxmem=4G", "-device", "pcie-root-port,id=port0"]
    args += ["-object", "memory-backend-ram,id=m0,size=256M"]
    late = "/machine/peripheral/late"
    with Machine(folder, "test=echo", args, qmp=True) as vm:
        qmp = vm.qmp()
        before = walk(qmp)
        assert late not in before
        qmp.execute("device_add", driver="virtio-mem-pci", id="late", memdev="m0", bus="port0")
        tree = walk(qmp)
        assert set(tree) - set(before) == {late, late + "/virtio-backend", late + "/virtio-bus"}
        assert tree[late]["hotplugged"] == ("bool", True)
        assert tree[late]["hotpluggable"] == ("bool", True)
        assert tree[late]["parent_bus"] == ("link<bus>", "/machine/peripheral/port0/port0")
        assert tree["/machine/peripheral/port0"]["hotplugged"] == ("bool", False)
        qmp.execute("device_del", id=late)
        qmp.execute("system_reset")
        assert qmp.wait_event("DEVICE_DELETED")["data"] == {"device": "late", "path": late}
        error = qmp.error("qom-list", {"path": late})
        assert error.error_class == "DeviceNotFound"
        assert walk(qmp) == before


# What is refused, with the class and what the sentence has in it.
REFUSED = [
    ("qom-list", {"path": "/nope"}, "DeviceNotFound", "Device '/nope' not found"),
    ("qom-list", {"path": "device[0]"}, "GenericError", "Path 'device[0]' is ambiguous"),
    ("qom-get", {"path": "/nope", "property": "x"}, "DeviceNotFound", "Device '/nope'"),
    ("qom-get", {"path": VM0, "property": "x"}, "GenericError", "'virtio-mem-pci.x' not found"),
    ("qom-set", {"path": VM0, "property": "x", "value": 1}, "GenericError", "not found"),
    ("qom-set", {"path": "/no", "property": "x", "value": 1}, "DeviceNotFound", "not found"),
    ("qom-set", {"path": VM0, "property": "size", "value": 1}, "GenericError", "not writable"),
    ("qom-set", {"path": VM0, "property": "type", "value": "x"}, "GenericError", "not writable"),
    ("qom-set", {"path": VM0, "property": "node", "value": 0}, "GenericError", "after it was re"),
    ("qom-set", {"path": VM0, "property": "memdev", "value": ""}, "GenericError", "after it was"),
    (
        "qom-set",
        {"path": "/objects/mem0", "property": "size", "value": 1},
        "GenericError",
        "no longer be set",
    ),
    *[
        (
            "qom-set",
            {"path": VM0, "property": "requested-size", "value": value},
            "GenericError",
            "requested",
        )
        for value in (1, -1, 1.5, True, None, "64M", [], {}, 2 * GIB, 1 << 62)
    ],
    ("device-list-properties", {"typename": "no"}, "DeviceNotFound", "Device 'no' not found"),
    ("device-list-properties", {"typename": "device"}, "GenericError", "non-abstract"),
    ("device-list-properties", {"typename": "secret"}, "GenericError", "non-abstract"),
    ("query-command-line-options", {"option": "no"}, "GenericError", "invalid option name: no"),
]


def test_refusals(folder):
    """All errors, and that nothing is changed by them."""
    with Machine(folder, "test=echo", SAME, qmp=True) as vm:
        qmp = vm.qmp()
        before = walk(qmp)
        for command, arguments, error_class, desc in REFUSED:
            error = qmp.error(command, arguments)
            assert error.error_class == error_class, (command, arguments)
            assert desc in error.desc, (command, arguments, error.desc)
        assert qmp.call("qom-list-properties", {"typename": "no"}) == []
        assert walk(qmp) == before


# ---- beside QEMU ----

# Properties of QEMU's objects that are not here, and why. "x-" ones are nobody's business.
MISSING = {
    "acpi-index": "there is no firmware that names network cards",
    "aer": "there is no error reporting to be had",
    "any_layout": "of devices before VIRTIO 1",
    "baudbase": "the clock of the serial port is that of every PC",
    "bus-reserve": "accepted, and without effect",
    "disable-acs": "there is no peer-to-peer traffic",
    "events": "all events that there are",
    "failover_pair_id": "there is no network",
    "io-reserve": "accepted, and without effect",
    "ioeventfd": "doorbells always are",
    "migrate-extra": "of versions of a migration stream",
    "modern-pio-notify": "there are no I/O ports",
    "notify_on_empty": "of devices before VIRTIO 1",
    "opened": "deprecated",
    "power_controller_present": "slots always have one",
    "pref32-reserve": "prefetchable BARs are 64 bits wide",
    "prealloc-context": "there are no thread contexts",
    "queue_reset": "not offered",
    "rombar": "there are no option ROMs",
    "romfile": "there are no option ROMs",
    "romsize": "there are no option ROMs",
    "use-disabled-flag": "of versions of a migration stream",
    "use-started": "of versions of a migration stream",
    "virtio-pci-bus-master-bug-migration": "of versions of a migration stream",
    "serial": "a serial port is one object, not two",
    "wakeup": "there is no suspend",
    "aer_log_max": "there is no error reporting to be had",
    "iv": "nothing takes a secret, it is forgotten",
    "keyid": "nothing takes a secret, it is forgotten",
    "format": "nothing takes a secret, it is forgotten",
    "file": "nothing takes a secret, it is forgotten",
    "data": "nothing takes a secret, it is forgotten",
    "loaded": "nothing takes a secret, it is forgotten",
    "poll-max-ns": "nothing polls",
    "poll-grow": "nothing polls",
    "poll-shrink": "nothing polls",
    "aio-max-batch": "there are no disks",
    "thread-pool-min": "there are no disks",
    "thread-pool-max": "there are no disks",
}
# Properties whose value is another there, and why.
OTHER_VALUE = {
    "parent_bus": "there is no ISA bridge",
    "disable-legacy": "devices speak VIRTIO 1 only, and say so",
    "prealloc-threads": "QEMU takes one for each CPU",
    "unplugged-inaccessible": "QEMU shows what auto came to",
    "mem-reserve": "chosen: the largest number that there is, which is another in 63 bits",
    "pref64-reserve": "chosen: the largest number that there is, which is another in 63 bits",
}
OBJECTS = [
    VM0,
    BACKEND,
    "/machine/peripheral-anon/device[0]",
    "/machine/peripheral/noise",
    "/machine/peripheral/noise/virtio-backend",
    "/machine/peripheral/port0",
    "/machine/peripheral/com2",
    "/machine/peripheral-anon/device[2]",
    "/objects/mem0",
    "/objects/mem1",
    "/objects/rnd0",
    "/objects/rnd1",
    "/objects/io0",
    "/objects/sec0",
    "/chardevs/chr0",
]

reference = pytest.mark.skipif(bool(qemu.missing()), reason=str(qemu.missing()))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A session with each, of the same machine; neither runs."""
    folder = tmp_path_factory.mktemp("both")
    with qemu.Qemu(folder, [*SAME, "-accel", "tcg"]) as other:
        with Machine(folder, "test=echo", ["-S", *SAME], qmp=True, console=False) as vm:
            yield vm.qmp(), other.qmp()


def wanted(name, kind):
    """Is it a property that a client could look for?"""
    return not name.startswith(("x-", "legacy-")) and kind != "child<memory-region>"


def compare_object(both, path, needed):
    """All that QEMU's object at PATH has: the same name, type and value, or a reason."""
    ours, theirs = (
        {p["name"]: p["type"] for p in q.call("qom-list", {"path": path})} for q in both
    )
    for name, kind in theirs.items():
        if not wanted(name, kind):
            continue
        if name not in ours:
            assert name in MISSING, f"{path} has no {name} ({kind})"
            needed.add(name)
            continue
        assert ours[name] == kind, f"{path} {name}: {ours[name]}, not {kind}"
        value, other = (q.call("qom-get", {"path": path, "property": name}) for q in both)
        assert type(value) is type(other), f"{path} {name}: {value!r}, not {other!r}"
        if value != other:
            assert name in OTHER_VALUE, f"{path} {name}: {value!r}, not {other!r}"
            needed.add(name)


@reference
def test_properties_beside_qemu(both):
    needed = set()
    for path in OBJECTS:
        compare_object(both, path, needed)
    unneeded = (set(MISSING) | set(OTHER_VALUE)) - needed
    assert not unneeded, "reasons that nothing needs any more"


@reference
@pytest.mark.parametrize(
    "name", ["virtio-mem-pci", "virtio-rng-pci", "pcie-root-port", "isa-serial", "pvpanic"]
)
def test_device_properties_beside_qemu(both, name):
    """What can be said of a device: names, types and defaults."""
    ours, theirs = (
        {p["name"]: p for p in q.call("device-list-properties", {"typename": name})} for q in both
    )
    for prop, info in theirs.items():
        if not wanted(prop, info["type"]) or prop in MISSING and prop not in ours:
            continue
        assert ours[prop]["type"] == info["type"], prop
        if "default-value" in info and "default-value" in ours[prop]:
            same = ours[prop]["default-value"] == info["default-value"]
            assert same or prop in OTHER_VALUE, prop


@reference
@pytest.mark.parametrize(
    "name", ["memory-backend", "memory-backend-ram", "memory-backend-memfd", "memory-backend-file"]
)
def test_backend_properties_beside_qemu(both, name):
    ours, theirs = (
        {p["name"]: p["type"] for p in q.call("qom-list-properties", {"typename": name})}
        for q in both
    )
    for prop, kind in theirs.items():
        if wanted(prop, kind) and prop not in MISSING:
            assert ours[prop] == kind, prop


@reference
def test_types_beside_qemu(both):
    """Every class that has a namesake in QEMU has the same ancestors, and is as abstract."""
    ours, theirs = (
        {t["name"]: t for t in q.call("qom-list-types", {"abstract": True})} for q in both
    )
    machines = {t["name"] for t in both[0].call("qom-list-types", {"implements": "machine"})}
    cpus = {t["name"] for t in both[0].call("qom-list-types", {"implements": "cpu"})}
    assert set(ours) - set(theirs) <= machines | cpus  # those of later versions
    for name, info in ours.items():
        if name in theirs:
            assert info == theirs[name] or name in machines, name


@reference
def test_options_beside_qemu(both):
    """Parameters of options that both have are of the same type."""
    ours, theirs = (
        {
            o["option"]: {p["name"]: p for p in o["parameters"]}
            for o in q.execute("query-command-line-options")
        }
        for q in both
    )
    assert set(ours) <= set(theirs)
    same = 0
    for option, parameters in ours.items():
        for name in set(parameters) & set(theirs[option]):
            if (option, name) == ("chardev", "fd"):
                continue  # there it may be the name that getfd gave
            assert parameters[name]["type"] == theirs[option][name]["type"], (option, name)
            same += 1
    assert same > 40


@reference
@pytest.mark.parametrize(
    "line",
    [
        "qom-list",
        "qom-list /nope",
        "qom-get /nope x",
        f"qom-get {VM0} node",
        f"qom-get {VM0} memdev",
        f"qom-get {VM0} nope",
        f"qom-set {VM0} requested-size 128M",
        f"qom-set -j {VM0} requested-size 134217728",
        f"qom-set {VM0} nope 1",
        "info qom-tree /nope",
        "qom-get /objects/mem0 reserve",
    ],
)
def test_lines_beside_qemu(both, line):
    """What people are shown is the same, byte for byte."""
    ours, theirs = (q.human(line) for q in both)
    assert ours == theirs
