# SPDX-License-Identifier: BSD-3-Clause
"""What a domain's XML may ask for besides its life: with an effect, without one, or refused by a
sentence that names the thing. tests/unit/cmdline/test_managed.c has the command lines of it all."""

import xml.etree.ElementTree as ElementTree

import pytest

from domain import Domain


def put(domain, place, xml):
    """XML, some elements, into PLACE of the domain ("." is itself), in the place of what was there."""
    parent = domain.xml.find(place)
    for element in ElementTree.fromstring(f"<all>{xml}</all>"):
        old = parent.find(element.tag)
        if old is not None and place != "devices":
            parent.remove(old)
        parent.append(element)


def test_console_log(daemon):
    """A copy of all that the guest says, whoever listens."""
    log = daemon.folder / "images/console.log"
    domain = Domain(daemon, "logged", "q35", append="test=none", small=True)
    ElementTree.SubElement(domain.xml.find("devices/console"), "log").set("file", str(log))
    domain.define()
    domain.virsh("start")
    daemon.events.expect("lifecycle logged Stopped Shutdown")
    assert "BARE test=none\n" in log.read_text().replace("\r", "")
    assert log.read_text().rstrip().endswith("END")


TAKEN = [
    (".", "<iothreads>2</iothreads><cputune><shares>1024</shares></cputune>"),
    (".", "<pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='no'/></pm>"),
    (
        ".",
        "<memoryBacking><nosharepages/><source type='memfd'/><access mode='shared'/>"
        "<allocation mode='immediate'/></memoryBacking>",
    ),
    ("features", "<pmu state='off'/><vmport state='off'/>"),
    ("os", "<bootmenu enable='no'/><bios rebootTimeout='5000'/>"),
    (
        "devices",
        "<rng model='virtio'><rate bytes='1024' period='1000'/>"
        "<backend model='random'>/dev/urandom</backend></rng><panic model='isa'/>"
        "<video><model type='none'/></video><audio id='1' type='none'/>",
    ),
]
CLOCKS = [
    "<clock offset='absolute' start='1700000000'/>",
    "<clock offset='variable' adjustment='3600' basis='utc'><timer name='rtc' tickpolicy='catchup'/>"
    "<timer name='pit' tickpolicy='delay'/><timer name='hpet' present='no'/></clock>",
]


@pytest.mark.parametrize("clock", CLOCKS)
def test_taken(daemon, clock):
    domain = Domain(daemon, "xml", "q35", append="test=none", small=True)
    for place, xml in [*TAKEN, (".", clock)]:
        put(domain, place, xml)
    domain.start(ready="^END$")


@pytest.mark.parametrize(
    ("place", "xml", "words"),
    [
        ("devices", "<disk type='file' device='disk'><source file='/dev/null'/>"
         "<target dev='vda' bus='virtio'/></disk>", "there are no disks in this version"),
        ("devices", "<interface type='ethernet'><model type='virtio'/></interface>", "network"),
        ("devices", "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/>"
         "</channel>", "there are no virtio consoles and no channels in this version"),
        ("os", "<bootmenu enable='yes'/>", "there is no firmware to show one"),
        ("os", "<smbios mode='sysinfo'/>", "SMBIOS"),
        (".", "<clock offset='utc'><timer name='rtc' track='guest'/></clock>", "clock=vm"),
    ],
)
def test_refused(daemon, place, xml, words):
    domain = Domain(daemon, "xml", "q35", small=True)
    put(domain, place, xml)
    if "smbios" in xml:
        info = "<sysinfo type='smbios'><system><entry name='serial'>1</entry></system></sysinfo>"
        domain.xml.append(ElementTree.fromstring(info))
    domain.define()
    said = domain.refused("start")
    assert words in said, said
