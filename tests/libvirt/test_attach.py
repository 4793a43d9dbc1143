# SPDX-License-Identifier: BSD-3-Clause
"""Memory devices that come and go with attach-device and detach-device, and the machines' PCI as
libvirt lays it out: root ports in all functions of a slot, a flat bus, and what is refused."""

import re
import signal
import xml.etree.ElementTree as ElementTree

import pytest

from daemon import VirshError
from domain import MACHINES, MIB, Domain, example, set_size, xml_text

SIZE = 256 * MIB
# The guest's driver of slots; a device comes to the first place that is free.
HOTPLUG = {"q35": "test=hotplug", "pc": "test=hotplug slots=on"}
READY = r"^hotplug: ready ports=\d+$"
CAME = r"^hotplug (\w+) came addr=0x\w+ size=(\d+) node=(\d+)$"


def hotplug_domain(daemon, name, machine, more="", devices=0):
    """A small domain with DEVICES memory devices; its guest looks after slots."""
    domain = Domain(daemon, name, machine, f"{HOTPLUG[machine]} {more}", small=True)
    for memory in domain.devices.findall("memory")[devices:]:
        domain.devices.remove(memory)
    return domain


def add_controllers(domain, *models):
    """PCI controllers, which libvirt gives numbers and places; the first is the root."""
    for number, model in enumerate(models):
        controller = ElementTree.SubElement(domain.devices, "controller", type="pci", model=model)
        if not number:
            controller.set("index", "0")


def memory(domain, alias="ua-more", node=0, requested=0):
    """The file of a device's XML."""
    root = example("virtio-mem")
    target = root.find("target")
    set_size(target.find("size"), SIZE)
    set_size(target.find("requested"), requested)
    target.find("node").text = str(node)
    root.find("alias").set("name", alias)
    path = domain.daemon.folder / f"{domain.name}-{alias}.xml"
    path.write_text(xml_text(root))
    path.chmod(0o644)
    return path


def run(domain):
    """Start what is defined; the guest has its drivers."""
    domain.virsh("start", "--paused")
    domain.listen()
    domain.virsh("resume")
    domain.expect(READY)
    return domain


def start(domain):
    return run(domain.define())


def came(domain):
    """The place, size and node of the device that comes next."""
    match = domain.expect(CAME)
    return match.group(1), int(match.group(2)), int(match.group(3))


def places(domain):
    """Place on the bus by id, as the emulator has it."""
    (root,) = domain.qmp("query-pci")
    found, left = {}, list(root["devices"])
    while left:
        device = left.pop()
        found[device["qdev_id"]] = (device["bus"], device["slot"], device["function"])
        left += device.get("pci_bridge", {}).get("devices", [])
    return found


def attach(domain, alias="ua-more", **figures):
    """Attach a device while the domain runs; where it came."""
    domain.virsh("attach-device", memory(domain, alias, **figures), "--live")
    place, size, _ = came(domain)
    assert size == SIZE
    return place


def live_file(domain, alias="ua-more"):
    """The file of a device's XML as libvirt has it: 11.3 compares its address in memory, too."""
    found = [
        memory
        for memory in domain.live().iter("memory")
        if memory.find("alias") is not None and memory.find("alias").get("name") == alias
    ]
    path = domain.daemon.folder / f"{domain.name}-{alias}-live.xml"
    path.write_text(xml_text(found[0]))
    return path


def removed(domain, alias="ua-more"):
    domain.daemon.events.expect(f"device-removed {domain.name} {alias}")
    assert alias not in domain.aliases()
    assert alias not in places(domain)
    assert f"mem{alias}" not in {d["id"] for d in domain.qmp("query-memdev")}


@pytest.mark.parametrize("machine", MACHINES)
def test_attach_and_detach(daemon, machine):
    """Attached, used, asked back while in use, shrunk, detached; and the next in its place."""
    domain = start(hotplug_domain(daemon, f"attach-{machine}", machine, devices=1))
    before = domain.memory_devices()
    domain.virsh("attach-device", memory(domain, node=1, requested=64 * MIB), "--live")
    place, size, node = came(domain)
    assert (size, node) == (SIZE, 1)
    domain.expect(rf"^hotplug {place} plugged={64 * MIB}$")
    daemon.events.expect(f"memory-device-size {domain.name} ua-more {64 << 10}")
    assert domain.sizes()["ua-more"] == (64 * MIB, 64 * MIB)

    said = domain.refused("detach-device", live_file(domain), "--live")
    assert "64 MiB" in said and "requested-size to 0" in said, said
    assert domain.sizes()["ua-more"] == (64 * MIB, 64 * MIB)
    domain.resize("ua-more", 0)
    domain.expect(rf"^hotplug {place} plugged=0$")
    domain.virsh("detach-device", live_file(domain), "--live")
    domain.expect(rf"^hotplug {place} off$")
    removed(domain)
    assert domain.memory_devices() == before
    assert attach(domain, "ua-next") == place


@pytest.mark.parametrize("machine", MACHINES)
def test_guest_keeps_it(daemon, machine):
    """virsh says so, and the device is there and works."""
    domain = hotplug_domain(daemon, f"keep-{machine}", machine, "answer=keep", devices=1)
    place = attach(start(domain))
    said = domain.refused("detach-device", live_file(domain), "--live")
    assert "rejected by the guest" in said, said
    daemon.events.expect(f"device-stays {domain.name} ua-more")
    domain.resize("ua-more", 64 * MIB)
    domain.expect(rf"^hotplug {place} plugged={64 * MIB}$")
    assert domain.sizes()["ua-more"] == (64 * MIB, 64 * MIB)


def test_guest_gives_it_later(daemon):
    """virsh waits for a while only; what comes of it is told when it comes."""
    domain = hotplug_domain(daemon, "later", "pc", "answer=ignore", devices=1)
    place = attach(start(domain))
    domain.virsh("detach-device", live_file(domain), "--live")
    assert "ua-more" in domain.aliases()
    domain.type(f"off {place}")
    removed(domain)


@pytest.mark.parametrize("machine", MACHINES)
def test_config(daemon, machine):
    """Kept for the next start, alone or with what runs; where there is no port for it yet, libvirt
    adds one, which its next device finds free."""
    domain = hotplug_domain(daemon, f"config-{machine}", machine).define()
    domain.virsh("attach-device", memory(domain), "--config")
    run(domain)
    assert domain.aliases() == ["ua-more"]
    domain.virsh("detach-device", live_file(domain), "--live")
    removed(domain)
    domain.virsh("detach-device", memory(domain), "--config")
    attach(domain, "ua-other")
    domain.virsh("attach-device", memory(domain, "ua-other"), "--config")
    domain.virsh("destroy")
    run(domain)
    assert domain.aliases() == ["ua-other"]


def test_libvirtd_between(new_daemon):
    """A libvirtd that was killed knows the device that came before, lets it go, and knows that."""
    domain = start(hotplug_domain(new_daemon, "between", "q35", devices=1))
    place = attach(domain, requested=64 * MIB)
    domain.expect(rf"^hotplug {place} plugged={64 * MIB}$")
    again(domain)
    assert domain.sizes()["ua-more"] == (64 * MIB, 64 * MIB)
    new_daemon.events.mark()
    domain.resize("ua-more", 0)
    new_daemon.events.expect(f"memory-device-size {domain.name} ua-more 0")
    domain.virsh("detach-device", live_file(domain), "--live")
    removed(domain)
    again(domain)
    assert "ua-more" not in domain.aliases()
    attach(domain)


def again(domain):
    """libvirtd is killed and started; the guest and its console go on."""
    domain.daemon.kill(signal.SIGKILL)
    domain.daemon.start()
    assert domain.state() == "running"
    domain.listen()


def test_functions_of_slots(daemon):
    """Root ports in all functions of a slot, as libvirt places them, and devices behind them."""
    domain = hotplug_domain(daemon, "functions", "q35")
    add_controllers(domain, "pcie-root", *["pcie-root-port"] * 14)
    start(domain)
    ports = [place for name, place in places(domain).items() if name.startswith("pci.")]
    slots = sorted({slot for _, slot, _ in ports})
    assert len(ports) == 14 and len(slots) == 2
    assert {f for _, slot, f in ports if slot == slots[0]} == set(range(8))
    for number, bus in enumerate((3, 8, 14)):
        file = memory(domain, f"ua-m{number}")
        root = ElementTree.parse(file)
        address = {"type": "pci", "bus": f"{bus:#04x}", "slot": "0x00", "function": "0x0"}
        ElementTree.SubElement(root.getroot(), "address", address)
        root.write(file)
        domain.virsh("attach-device", file, "--live")
        came(domain)
        assert places(domain)[f"ua-m{number}"] == (bus, 0, 0)
    for number in range(3):
        domain.virsh("detach-device", live_file(domain, f"ua-m{number}"), "--live")
        removed(domain, f"ua-m{number}")


def test_devices_share_a_slot(daemon):
    """As functions of one slot; they come and go with the machine only."""
    domain = hotplug_domain(daemon, "shared", "pc")
    for function in range(2):
        rng = ElementTree.SubElement(domain.devices, "rng", model="virtio")
        ElementTree.SubElement(rng, "backend", model="random").text = "/dev/urandom"
        address = {"type": "pci", "slot": "0x09", "function": f"{function}"}
        if not function:
            address["multifunction"] = "on"
        ElementTree.SubElement(rng, "address", address)
    start(domain)
    assert {places(domain)[f"rng{n}"] for n in range(2)} == {(0, 9, 0), (0, 9, 1)}
    said = domain.refused("detach-device-alias", "rng0")
    assert "multifunction" in said, said


def test_no_place_is_left(daemon):
    """libvirt's words where no port is free; where a port has no hot-plug, it is not taken."""
    domain = hotplug_domain(daemon, "full", "q35")
    ElementTree.SubElement(domain.devices, "memballoon", model="none")
    add_controllers(domain, "pcie-root", "pcie-root-port", "pcie-root-port")
    port = domain.devices.findall("controller")[-1]
    ElementTree.SubElement(port, "target", hotplug="off")
    start(domain)
    attach(domain)
    said = domain.refused("attach-device", memory(domain, "ua-next"), "--live")
    assert "No more available PCI slots" in said, said
    assert domain.aliases() == ["ua-more"]
    assert [d["data"]["id"] for d in domain.qmp("query-memory-devices")] == ["ua-more"]


def test_nothing_comes_to_the_bus(daemon):
    """Where the domain says so of its root bus."""
    domain = hotplug_domain(daemon, "stays", "pc")
    ElementTree.SubElement(domain.devices, "memballoon", model="none")
    root = ElementTree.SubElement(
        domain.devices, "controller", type="pci", index="0", model="pci-root"
    )
    ElementTree.SubElement(root, "target", hotplug="off")
    start(domain)
    said = domain.refused("attach-device", memory(domain, "ua-next"), "--live")
    assert "slot" in said or "hotplug" in said, said
    assert domain.aliases() == []


@pytest.mark.parametrize(
    "machine, model",
    [
        ("q35", "dmi-to-pci-bridge"),
        ("q35", "pcie-to-pci-bridge"),
        ("q35", "pcie-switch-upstream-port"),
        ("q35", "pcie-expander-bus"),
        ("pc", "pci-bridge"),
        ("pc", "pci-expander-bus"),
    ],
)
def test_other_bridges(daemon, machine, model):
    """There are none; the one who asks for one learns which."""
    domain = hotplug_domain(daemon, model, machine)
    above = ["pcie-root", "pcie-root-port"] if machine == "q35" else ["pci-root"]
    add_controllers(domain, *above, model)
    try:
        domain.define()
        said = domain.refused("start")
    except VirshError as error:
        said = error.words
    assert re.search(f"not supported by this QEMU|no device {model}|no bridges to", said), said


@pytest.mark.parametrize("machine", MACHINES)
def test_other_devices(daemon, machine):
    """What cannot come while the machine runs is refused, and nothing of it stays behind."""
    domain = start(hotplug_domain(daemon, f"other-{machine}", machine, devices=1))
    file = domain.daemon.folder / "other.xml"
    for xml in (
        "<memballoon model='virtio'/>",
        "<controller type='usb' model='qemu-xhci'/>",
        "<disk type='file'><source file='/dev/null'/><target dev='vdb' bus='virtio'/></disk>",
        "<interface type='user'><model type='virtio'/></interface>",
        "<memory model='dimm'><target><size unit='MiB'>256</size><node>0</node></target></memory>",
    ):
        file.write_text(xml)
        said = domain.refused("attach-device", file, "--live")
        assert re.search("not supported|isn't supported|No more|has not been found", said), said
    attach(domain)
