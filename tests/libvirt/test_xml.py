# SPDX-License-Identifier: BSD-3-Clause
"""What a domain's XML may ask for besides its life: with an effect, without one, or refused by a
sentence that names the thing. tests/unit/cmdline/test_managed.c has the command lines of it all."""

import re
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


SYSINFO = """
<sysinfo type='smbios'>
  <bios>
    <entry name='vendor'>V</entry><entry name='version'>1.0</entry>
    <entry name='date'>01/02/2003</entry><entry name='release'>4.5</entry>
  </bios>
  <system>
    <entry name='manufacturer'>M, and m</entry><entry name='product'>P</entry>
    <entry name='version'>7</entry><entry name='serial'>S-1</entry>
    <entry name='uuid'>{uuid}</entry>
    <entry name='sku'>K</entry><entry name='family'>F</entry>
  </system>
  <baseBoard>
    <entry name='manufacturer'>B</entry><entry name='product'>one</entry>
    <entry name='version'>8</entry><entry name='serial'>S-2</entry>
    <entry name='asset'>A</entry><entry name='location'>L</entry>
  </baseBoard>
  <chassis>
    <entry name='manufacturer'>C</entry><entry name='version'>9</entry>
    <entry name='serial'>S-3</entry><entry name='asset'>D</entry><entry name='sku'>E</entry>
  </chassis>
  <oemStrings><entry>io.systemd.credential:a=b</entry><entry>two, words</entry></oemStrings>
</sysinfo>"""


def test_usb(daemon):
    """libvirt gives a domain on a flat bus a USB controller, unasked, and the guest finds it there;
    what is to be connected to it is named."""
    domain = Domain(daemon, "usb", "pc", append="test=pci end=spin", small=True)
    put(domain, "devices", "<rng model='virtio'><backend model='builtin'/></rng>")
    domain.start(ready=None)
    domain.expect(r"^END$")
    told = domain.text
    controller = domain.live().find("devices/controller[@type='usb']")
    assert controller.get("model") == "piix3-uhci"
    assert controller.find("address").get("slot") == "0x01"
    assert "pci 0:1.2 id 0x70208086 class 0xc0300" in told and "FAIL" not in told
    domain.virsh("destroy")
    put(domain, "devices", "<input type='tablet' bus='usb'/>")
    domain.define()
    said = domain.refused("start")
    assert "-device usb-tablet: nothing can be connected to USB ports" in said, said


@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_smbios(daemon, machine):
    """The guest reads what the domain says of itself, and its UUID in any case."""
    domain = Domain(daemon, "smbios", machine, append="test=smbios", small=True)
    uuid = domain.xml.find("uuid").text
    domain.xml.find("os").append(ElementTree.fromstring("<smbios mode='sysinfo'/>"))
    domain.xml.append(ElementTree.fromstring(SYSINFO.format(uuid=uuid)))
    domain.start(ready=None)
    told = domain.expect(r"^smbios entry (?s:.*?)^END$").group(0)
    assert f"smbios uuid {uuid}\n" in told and "FAIL" not in told
    texts = [
        *((0, text) for text in ("V", "1.0", "01/02/2003")),
        *((1, text) for text in ("M, and m", "P", "7", "S-1", "K", "F")),
        *((2, text) for text in ("B", "one", "8", "S-2", "A", "L")),
        *((3, text) for text in ("C", "9", "S-3", "D", "E")),
        *((11, text) for text in ("io.systemd.credential:a=b", "two, words")),
    ]
    kinds = {kind for kind, _ in texts}
    found = re.findall(r"^smbios text (\d+) (.*)$", told, re.MULTILINE)
    assert [(int(kind), text) for kind, text in found if int(kind) in kinds] == texts


def test_smbios_without(daemon):
    domain = Domain(daemon, "smbios", "q35", append="test=smbios", small=True)
    domain.start(ready=None)
    told = domain.expect(r"^smbios entry (?s:.*?)^END$").group(0)
    assert f"smbios uuid {domain.xml.find('uuid').text}\n" in told and "FAIL" not in told


@pytest.mark.parametrize(
    ("place", "xml", "words"),
    [
        ("devices", "<disk type='file' device='disk'><source file='/dev/null'/>"
         "<target dev='vda' bus='virtio'/></disk>", "there are no disks in this version"),
        ("devices", "<interface type='ethernet'><model type='virtio'/></interface>", "network"),
        ("devices", "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/>"
         "</channel>", "there are no virtio consoles and no channels in this version"),
        ("os", "<bootmenu enable='yes'/>", "there is no firmware to show one"),
        (".", "<clock offset='utc'><timer name='rtc' track='guest'/></clock>", "clock=vm"),
    ],
)
def test_refused(daemon, place, xml, words):
    domain = Domain(daemon, "xml", "q35", small=True)
    put(domain, place, xml)
    domain.define()
    said = domain.refused("start")
    assert words in said, said
