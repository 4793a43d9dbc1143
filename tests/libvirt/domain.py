# SPDX-License-Identifier: BSD-3-Clause
"""Domains of the tests: the XML files of examples/libvirt, with a freestanding guest in them.

Of the example only what depends on the machine and the guest is changed: name, emulator, kernel and
its command line. With small=True also the sizes, for those who run many.
"""

import json
import pathlib
import re
import uuid
import xml.etree.ElementTree as ElementTree

from daemon import EMULATOR, VirshError

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples/libvirt"
MACHINES = ("pc", "q35")
MIB = 1 << 20
GIB = 1 << 30
# QEMU as the emulator, to see what a test means: its guests are emulated, too.
QEMU = "qemu" in EMULATOR.name
# It wakes up by itself now and then, in case that an interrupt is lost: seldom, as there are many.
FOLLOW = "test=vmem-follow devices=2 button=1 tick=1000"


def example(name):
    return ElementTree.parse(EXAMPLES / f"{name}.xml").getroot()


def xml_text(element):
    return ElementTree.tostring(element, encoding="unicode")


def set_size(element, size):
    element.set("unit", "bytes")
    element.text = str(size)


def make_small(root):
    """The same domain with little of everything."""
    set_size(root.find("maxMemory"), 4 * GIB)
    set_size(root.find("memory"), 64 * MIB)
    for cell in root.iter("cell"):
        cell.set("memory", "32")
        cell.set("unit", "MiB")
    for target in root.iter("target"):
        if target.find("size") is not None:
            set_size(target.find("size"), 256 * MIB)
            set_size(target.find("requested"), 0)


class Domain:
    """Domain NAME of DAEMON, as it is to be defined; `xml` may be changed before."""

    def __init__(self, daemon, name, machine="pc", append=FOLLOW, small=False):
        self.daemon = daemon
        self.name = name
        self.xml = example(machine)
        self.shell = None
        self._console = None
        self.xml.find("name").text = name
        ElementTree.SubElement(self.xml, "uuid").text = str(uuid.uuid4())
        if QEMU:
            self.xml.set("type", "qemu")
            self.xml.find("cpu").set("mode", "maximum")
        system = self.xml.find("os")
        system.find("kernel").text = str(daemon.guest)
        system.remove(system.find("initrd"))
        system.find("cmdline").text = append
        self.xml.find("devices/emulator").text = str(daemon.emulator)
        if small:
            make_small(self.xml)

    @property
    def devices(self):
        return self.xml.find("devices")

    def virsh(self, command, *words, **options):
        """`virsh COMMAND NAME WORDS`, by `shell` where that is set."""
        if self.shell:
            return self.shell.virsh(command, self.name, *words, **options)
        return self.daemon.virsh(command, self.name, *words, **options)

    def refused(self, command, *words, **options):
        return self.daemon.refused(command, self.name, *words, **options)

    # Its life.

    def write(self):
        """The file of the XML."""
        path = self.daemon.folder / f"{self.name}.xml"
        path.write_text(xml_text(self.xml))
        path.chmod(0o644)
        return path

    def define(self):
        self.daemon.virsh("define", self.write())
        return self

    def refusal(self):
        """What virsh says of it: at define, or else at start."""
        try:
            self.define()
        except VirshError as error:
            return error.words
        return self.refused("start")

    def start(self, ready="^follow: ready$"):
        """Define and start it, listen to its console from its first word on, and wait for READY."""
        self.define()
        self.virsh("start", "--paused")
        self.listen()
        self.virsh("resume")
        if ready:
            self.expect(ready)
        return self

    def listen(self):
        """Open the console, anew where it was open."""
        self._console = self.daemon.console(self.name)
        return self._console

    def expect(self, pattern, timeout=None):
        return self._console.expect(pattern, timeout)

    def type(self, line):
        self._console.type(line)

    @property
    def text(self):
        return self._console.text

    # What is known of it.

    @property
    def pid(self):
        return self.daemon.guest_pid(self.name)

    def state(self):
        return self.virsh("domstate").strip()

    def live(self):
        """The XML of the domain as it runs."""
        return ElementTree.fromstring(self.virsh("dumpxml"))

    def memory_devices(self):
        """alias -> {size, requested, current, block, node}, sizes in bytes."""
        devices = {}
        for memory in self.live().iter("memory"):
            if memory.get("model") != "virtio-mem":
                continue
            target = memory.find("target")
            figures = {
                name: int(target.find(name).text) << 10
                for name in ("size", "requested", "current", "block")
                if target.find(name) is not None
            }
            figures["node"] = int(target.find("node").text)
            devices[memory.find("alias").get("name")] = figures
        return devices

    def aliases(self):
        return list(self.memory_devices())

    def qmp(self, command, **arguments):
        """What the emulator's monitor returns for COMMAND."""
        text = json.dumps({"execute": command, **({"arguments": arguments} if arguments else {})})
        answer = json.loads(self.virsh("qemu-monitor-command", text))
        assert "return" in answer, answer
        return answer["return"]

    def emulator_sizes(self):
        """alias -> (requested, plugged) as the emulator has it."""
        devices = (device["data"] for device in self.qmp("query-memory-devices"))
        return {d["id"]: (d["requested-size"], d["size"]) for d in devices}

    def known_sizes(self):
        """The same as libvirt has it."""
        devices = self.memory_devices().items()
        return {alias: (figures["requested"], figures["current"]) for alias, figures in devices}

    def sizes(self):
        """What both have."""
        known = self.known_sizes()
        emulator = self.emulator_sizes()
        assert known == emulator, f"libvirt says {known}, the emulator {emulator}"
        return known

    def wait_told(self, alias, size):
        """Until libvirt knows that SIZE is plugged: it is told a moment later."""
        while self.memory_devices()[alias]["current"] != size:
            self.daemon.events.expect(f"memory-device-size {self.name} {alias} .*")

    def resize(self, alias, size):
        words = ("--alias", alias, "--requested-size", f"{size}b")
        return self.virsh("update-memory-device", *words)

    def resize_and_wait(self, index, size):
        """Give device INDEX another size; then guest, libvirt and ebb have it."""
        alias = self.aliases()[index]
        self.daemon.events.mark()
        self.resize(alias, size)
        self.expect(f"^follow {index} plugged={size}$")
        self.wait_told(alias, size)
        assert self.sizes()[alias] == (size, size)

    def stats(self, *words):
        """`domstats` as name -> value."""
        text = self.virsh("domstats", *words)
        return dict(re.findall(r"^\s+(\S+?)=(.*)$", text, re.M))

    def balloon_stats(self):
        """`dommemstat` as name -> number."""
        text = self.virsh("dommemstat")
        return {name: int(n) for name, n in re.findall(r"^(\S+) (\d+)$", text, re.M)}

    def told(self, kind):
        """The words of each event of KIND that libvirt told of it, in turn."""
        begin = f"{kind} {self.name}"
        lines = self.daemon.events.lines
        return [line[len(begin) :].strip() for line in lines if f"{line} ".startswith(f"{begin} ")]
