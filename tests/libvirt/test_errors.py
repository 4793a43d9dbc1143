# SPDX-License-Identifier: BSD-3-Clause
"""What ebb does not have, and what nobody can have: virsh says which, and nothing is left of it."""

import pathlib
import re
import xml.etree.ElementTree as ElementTree

import pytest

from domain import MIB, QEMU, Domain

pytestmark = pytest.mark.skipif(QEMU, reason="QEMU has these devices")

MEMORY = (
    "<memory model='virtio-mem'><target><size unit='{}'>{}</size><node>{}</node>"
    "<block unit='MiB'>{}</block><requested unit='MiB'>{}</requested></target></memory>"
)
# A part of a domain -> what virsh says of it, at define or at start.
REFUSED = {
    "disk": (
        "<disk type='file' device='disk'><source file='{disk}'/><target dev='vda' bus='virtio'/>"
        "</disk>",
        "there are no disks in this version",
    ),
    "cdrom": ("<disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>", "ide-cd"),
    "network": (
        "<interface type='user'><model type='virtio'/></interface>",
        "there is no network in this version|network backend is not supported",
    ),
    "conventional": (
        "<watchdog model='i6300esb' action='reset'/>",
        "-device pcie-pci-bridge: there are no bridges .* such as a network card or a watchdog",
    ),
    "device-of-host": (
        "<hostdev mode='subsystem' type='pci'><source><address domain='0' bus='0' slot='1' "
        "function='0'/></source></hostdev>",
        "passthrough of host PCI devices",
    ),
    "graphics": ("<graphics type='vnc' port='-1' autoport='yes'/>", "video model"),
    "video": ("<video><model type='virtio'/></video>", "does not support video model 'virtio'"),
    "usb": ("<input type='tablet' bus='usb'/>", "USB (bus )?is disabled"),
    "sound": ("<sound model='ich9'/>", "audio controller"),
    "folder": (
        "<filesystem type='mount'><source dir='/tmp'/><target dir='x'/></filesystem>",
        "no folders of the host are shared in this version",
    ),
    "channel": (
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>",
        "-device virtio-serial-pci: .*no channels in this version",
    ),
    "dimm": (
        "<memory model='dimm'><target><size unit='MiB'>128</size><node>0</node></target></memory>",
        "memory hotplug isn't supported",
    ),
    "block-size": (MEMORY.format("MiB", 256, 0, 3, 0), "block size must be a power of two"),
    "small-blocks": (MEMORY.format("MiB", 256, 0, 1, 0), "must be at least 2048KiB"),
    "requested": (MEMORY.format("MiB", 256, 0, 2, 512), "requested size must be smaller"),
    "odd": (MEMORY.format("MiB", 256, 0, 2, 3), "multiple of block size"),
    "max-memory": (MEMORY.format("GiB", 8, 0, 2, 0), "maximum memory size must be equal or greater"),
    "node": (MEMORY.format("MiB", 256, 7, 2, 0), "guest node '7'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(daemon, what):
    """One sentence names the thing, and no process stays."""
    text, said = REFUSED[what]
    disk = daemon.folder / "images/disk"
    disk.write_bytes(bytes(MIB))
    domain = Domain(daemon, what, "q35", small=True)
    part = ElementTree.fromstring(text.format(disk=disk))
    domain.devices.append(part)
    words = domain.refusal()
    assert re.search(said, words), words
    assert daemon.emulators() == []
    assert domain.name not in daemon.names("--state-running")


def test_updates(daemon):
    """Sizes that a running domain cannot have; it has what it had."""
    domain = Domain(daemon, "asked", small=True).start()
    before = domain.sizes()
    command = ("update-memory-device", "--alias", "virtiomem0", "--requested-size")
    for size, said in (
        ("512MiB", "requested size must be smaller than or equal"),
        ("3MiB", "multiple of block size"),
    ):
        words = domain.refused(*command, size)
        assert re.search(said, words), words
    words = domain.refused("update-memory-device", "--alias", "none", "--requested-size", "2MiB")
    assert "no memory device found" in words, words
    words = domain.refused("setvcpus", 3, "--live")
    assert re.search("greater than max allowable vcpus", words), words
    assert domain.sizes() == before and domain.state() == "running"


def test_no_kernel(daemon):
    """A kernel that is not there, and one that is none."""
    domain = Domain(daemon, "empty", small=True)
    kernel = domain.xml.find("os/kernel")
    kernel.text = str(daemon.folder / "images/none")
    words = domain.refusal()
    assert re.search("images/none'?: (No such file|cannot)", words), words
    pathlib.Path(kernel.text).write_bytes(b"no kernel")
    words = domain.refusal()
    assert re.search("images/none", words), words
