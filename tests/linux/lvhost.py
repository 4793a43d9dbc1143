# SPDX-License-Identifier: BSD-3-Clause
"""libvirt in the host of these tests: daemons with folders of their own, driven by virsh.

    with Daemon(host, "9.0") as daemon:
        guest = Guest(daemon, "q35", guests.NEWEST)     a domain of examples/libvirt, a stock kernel
        guest.define()
        guest.start()                                   its console is guest.console
        guest.virsh("suspend")                          what virsh printed; Refused
        daemon.event("lifecycle", "Suspended Paused")   waits for what `virsh event` prints

A Daemon is one libvirtd of the fetched part libvirt/VERSION in a mount namespace of its own, with
its configuration, state, logs and sockets in a folder of the host; restart() ends the daemon alone,
its guests go on. Commands go to one virsh that stays, since programs take their time to start in an
emulated host; each is followed by a mark, and an answer with "error: ..." is Refused. A Guest may
move from one daemon to another; `daemon` is where it is.
"""

import contextlib
import os
import pathlib
import re
import shlex
import time
import xml.etree.ElementTree as ElementTree

import ebbcache
import nest
from guests import APPEND, DIRTY_DISK

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "libvirt"
TIMEOUT_S = 120
BOOT_TIMEOUT_S = 240
# In the host; qemu/run to see what a test means there.
EMULATOR = os.environ.get("EBB_LIBVIRT_EMULATOR", "ebb")
TYPE_EVERY_S = 0.5
LOOK_EVERY_S = 0.25  # a guest's own figures cannot be waited on: look again
VERSIONS = ("9.0", "11.3")
# As it is typed, which virsh shows as well, and as it is printed.
TYPED_MARK, MARK = '@"end"-of-answer@', "@end-of-answer@"

# Folders of libvirt -> below the daemon's own.
FOLDERS = {
    "/etc/libvirt": "etc",
    "/var/lib/libvirt": "lib",
    "/run/libvirt": "run",
    "/var/log/libvirt": "log",
    "/var/cache/libvirt": "cache",
}
LIBVIRTD_CONF = """\
auth_unix_rw = "none"
host_uuid = "{uuid}"
log_outputs = "{level}:file:{folder}/log/libvirtd.log"
"""
# No virtlogd, no second user in a host that has neither.
QEMU_CONF = """\
user = "root"
group = "root"
stdio_handler = "file"
"""
USERS = "libvirt-qemu:x:64055:64055::/:/bin/false\n"
GROUPS = "libvirt-qemu:x:64055:\nkvm:x:64056:\n"


class Refused(Exception):
    """virsh said no; the text is what it said."""


def prepare(host):
    """What libvirt wants to find in any host: its folders to mount on, its user, names."""
    host.check(f"mkdir -p {' '.join(FOLDERS)} /usr/share/libvirt /usr/lib/libvirt /var/lock")
    hosts = "127.0.0.1 localhost " + host.check("hostname")
    for path, lines in (("/etc/passwd", USERS), ("/etc/group", GROUPS), ("/etc/hosts", hosts)):
        first = lines.splitlines()[0]
        host.check(f"grep -qxF '{first}' {path} || cat >> {path}", stdin=lines.encode())


class Daemon:
    """One libvirtd, see above. LEVEL is that of its log: 1 for all, 3 for warnings."""

    def __init__(self, host, version, level=3):
        self.host, self.version, self.level = host, version, level
        self.folder = host.path(f"lv{version}")
        self.program = host.path(f"libvirt-{version}/run")
        self.socket = f"{self.folder}/run/libvirt-sock"
        self.uri = f"qemu:///system?socket={self.socket}"
        self.process = self.shell = self.events = None

    def __enter__(self):
        if self.host.run(f"test -x {self.program}").status:
            raise ebbcache.MissingPart(f"libvirt/{self.version} could not be fetched")
        prepare(self.host)
        folder = self.folder
        self.host.check(f"mkdir -p {' '.join(f'{folder}/{name}' for name in FOLDERS.values())}")
        # Two of the same number are the same machine, which nothing is moved to.
        uuid = f"00000000-0000-4000-8000-{VERSIONS.index(self.version) + 1:012d}"
        conf = LIBVIRTD_CONF.format(uuid=uuid, level=self.level, folder=folder)
        self.host.write_file(f"{folder}/etc/libvirtd.conf", conf.encode())
        self.host.write_file(f"{folder}/etc/qemu.conf", QEMU_CONF.encode())
        self.start()
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None and issubclass(kind, nest.NestInfraError):
            return
        if kind is not None:
            print(self.last_words())
        with contextlib.suppress(nest.StreamEnded, nest.NestTimeout, Refused):
            for name in self.virsh("list --name").split():
                self.virsh(f"destroy {name}")
        self.stop(9)
        self.host.run(f"rm -rf {self.folder}")

    def last_words(self):
        """The end of the daemon's log and of its guests', for whoever looks into a failure."""
        logs = f"{self.folder}/log/libvirtd.log {self.folder}/log/qemu/*.log"
        return self.host.run(f"tail -n 12 {logs} | cut -c 1-600").output

    def start(self):
        mounts = "".join(
            f"mount --bind {self.folder}/{name} {place} && " for place, name in FOLDERS.items()
        )
        words = [self.program, "libvirtd", "-f", f"{self.folder}/etc/libvirtd.conf"]
        words += ["-p", f"{self.folder}/run/libvirtd.pid"]
        script = f"{mounts} exec {shlex.join(words)}"
        name = f"libvirtd {self.version}"
        self.process = self.host.spawn(name, ["unshare", "-m", "sh", "-c", script])
        self.host.connect(self.socket, TIMEOUT_S).kill()
        self.shell = self.another_virsh()
        self.events = self.another_virsh("event", "--all", "--loop")
        self.virsh("list")

    def stop(self, signo=15):
        """End the daemon alone."""
        for stream in (self.events, self.shell):
            stream.kill()
        self.process.kill(signo)
        self.process.wait(TIMEOUT_S)

    def restart(self, signo=15):
        self.stop(signo)
        self.start()

    def another_virsh(self, *words, pty=False):
        """One more virsh, with a command of its own or for commands."""
        words = [self.program, "virsh", "-q", "-c", self.uri, *words]
        return self.host.spawn(f"virsh {self.version}", words, pty=pty)

    def virsh(self, command, timeout=TIMEOUT_S):
        """What virsh printed for COMMAND."""
        self.shell.take()
        self.shell.write(f"{command}\necho {TYPED_MARK}\n")
        begin = self.shell.take_mark()
        end = self.shell.expect(MARK, timeout)
        text = self.shell.output[begin : end.start()].decode(errors="replace")
        lines = [line.replace("virsh # ", "").strip() for line in text.splitlines()]
        typed = (command, f"echo {TYPED_MARK}", "")
        text = "\n".join(line for line in lines if line not in typed)
        if "error: " in text:
            raise Refused(f"virsh {self.version}, '{command}': {text}")
        return text

    def event(self, kind, detail="", timeout=TIMEOUT_S):
        """Wait for the next event of KIND that says DETAIL, a regular expression."""
        return self.events.expect(rf"event '{kind}' for domain '[^']*':\s+{detail}", timeout)


def fields(text):
    """The lines "name value", "name: value" and "name=value" of an answer as a dictionary."""
    found = {}
    for line in text.splitlines():
        separator = r"\s*[:=]\s*" if re.search("[:=]", line) else r"\s+"
        name, *value = re.split(separator, line.strip(), maxsplit=1)
        found[name] = "".join(value)
    return found


def set_mib(element, size_mib):
    element.set("unit", "MiB")
    element.text = str(size_mib)


class Guest:
    """A domain of examples/libvirt, MACHINE, with a stock KERNEL; smaller, and with what these
    tests look at besides: a panic device, free page reporting. `xml` may be changed before define()."""

    CELL_MIB, SIZE_MIB = 384, 1024
    SERIAL = "serial 0123, of <sysinfo>"

    def __init__(self, daemon, machine, kernel, append=APPEND):
        self.daemon, self.host, self.name = daemon, daemon.host, f"{machine}-guest"
        self.console = None
        self.xml = ElementTree.parse(EXAMPLES / f"{machine}.xml").getroot()
        self.xml.find("name").text = self.name
        system = self.xml.find("os")
        system.find("kernel").text = self.host.path(f"{kernel}/vmlinuz")
        system.find("initrd").text = self.host.path(f"{kernel}/{DIRTY_DISK}")
        system.find("cmdline").text = append
        self.devices = self.xml.find("devices")
        self.devices.find("emulator").text = self.host.path(EMULATOR)
        set_mib(self.xml.find("memory"), 2 * self.CELL_MIB)
        for cell in self.xml.iter("cell"):
            cell.set("unit", "MiB")
            cell.set("memory", str(self.CELL_MIB))
        for device in self.devices.iter("memory"):
            set_mib(device.find("target/size"), self.SIZE_MIB)
        ElementTree.SubElement(self.devices, "panic", model="isa")
        ElementTree.SubElement(system, "smbios", mode="sysinfo")
        said = ElementTree.SubElement(self.xml, "sysinfo", type="smbios")
        entry = ElementTree.SubElement(ElementTree.SubElement(said, "system"), "entry", name="serial")
        entry.text = self.SERIAL
        reporting = {"model": "virtio", "freePageReporting": "on"}
        ElementTree.SubElement(self.devices, "memballoon", reporting)

    def file(self, name, element):
        """The path in the host of a file that holds ELEMENT."""
        path = self.host.path(name)
        self.host.write_file(path, ElementTree.tostring(element))
        return path

    def virsh(self, command, words="", timeout=TIMEOUT_S):
        """`virsh COMMAND NAME WORDS`."""
        return self.daemon.virsh(f"{command} {self.name} {words}".strip(), timeout)

    def define(self):
        self.daemon.virsh(f"define {self.file('guest.xml', self.xml)}")

    # Its console.

    def start(self):
        """Start it, or go on where managedsave left it, with a person at the console."""
        self.attend("start", self.name, "--console")

    def open_console(self):
        """Somebody comes to the console of a guest that is at its shell, and types until it
        answers: virsh forgets what is typed before it is connected."""
        self.attend("console", self.name)

        def answers():
            self.console.stream.write("\n")
            with contextlib.suppress(nest.NestTimeout):
                return self.console.stream.expect(nest.PROMPT, TYPE_EVERY_S)

        assert self.await_that(answers, BOOT_TIMEOUT_S), self.console.stream.output

    def boot(self, timeout=BOOT_TIMEOUT_S):
        """Wait for the guest's shell."""
        self.console.ready(timeout)
        self.console.prompt(timeout)

    def attend(self, *words):
        """A person with a terminal, in place of the one before."""
        if self.console:
            self.console.stream.kill()
        self.console = nest.GuestConsole(self.daemon.another_virsh(*words, pty=True))

    def run(self, command, timeout=TIMEOUT_S):
        """What COMMAND printed in the guest, where it must succeed."""
        done = self.console.run(command, timeout)
        assert done.status == 0, done.output
        return done.output

    def mem_total(self):
        """{node: MemTotal in bytes} as the guest says."""
        return {node: found["MemTotal"] for node, found in self.console.meminfo().items()}

    # Its memory.

    @property
    def pid(self):
        return int(self.host.read_file(f"{self.daemon.folder}/run/qemu/{self.name}.pid"))

    def rss(self):
        return self.host.rss_bytes(self.pid)

    def state(self):
        return self.virsh("domstate")

    def resize(self, alias, size_mib):
        """Ask for it, as a person does, and wait for what libvirt tells when the guest did it."""
        said = rf"alias: {alias}\s+size: {size_mib * 1024}\s"
        words = f"--alias {alias} --requested-size {size_mib}MiB --live"
        self.virsh("update-memory-device", words)
        self.daemon.event("memory-device-size-change", said)

    def sizes(self):
        """{node: bytes} that libvirt calls plugged, by node."""
        root = ElementTree.fromstring(self.virsh("dumpxml"))
        found = {}
        for target in root.iterfind("devices/memory/target"):
            node, current = int(target.find("node").text), target.find("current")
            assert current.get("unit") == "KiB"
            found[node] = found.get(node, 0) + int(current.text) * 1024
        return found

    def await_that(self, holds, timeout=TIMEOUT_S):
        """Look until HOLDS() gives what is no false, and return that; the last time counts."""
        begin = time.monotonic()
        while not (found := holds()) and time.monotonic() - begin < timeout:
            time.sleep(LOOK_EVERY_S)
        return found

    def agree(self, base):
        """The guest has BASE (bytes of each node) and what libvirt calls plugged, and no more."""

        def same():
            total, sizes = self.mem_total(), self.sizes()
            return {n: total[n] - base[n] for n in base} == {n: sizes.get(n, 0) for n in base}

        assert self.await_that(same), (self.mem_total(), base, self.sizes())
