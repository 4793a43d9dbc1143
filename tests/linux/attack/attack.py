# SPDX-License-Identifier: BSD-3-Clause
"""Drive vmem_attack in a guest, and see in the host what memory the guest's device holds.

    disk = attack.guest_files("6.12-cloud", folder)     more files for initrd.build_guest()
    attacker = attack.Attacker(console)                 loads the module
    attacker.write(start, size)                         -> {"stored": pages, "kept": pages}
    attack.memory_held(host, pid, size)                 -> Held

What is held is read from the host's /proc/PID/smaps, never from the monitor. A device's memory is
found there by what every monitor here gives to guest memory and to nothing else (it is not copied
by fork, flag "dc") and by its size, which must not be that of anything else in the machine; it may
be cut into any number of mappings that lie side by side.
"""

import pathlib
import re
import sys
import time
import typing

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "tools" / "nest"))

import built  # noqa: E402  (the folder is only known now)
import ebbcache  # noqa: E402
import initrd  # noqa: E402

MIB = 1 << 20
PAGE = 4096
PROC = "/proc/vmem_attack"
MODULE = "attack/vmem_attack.ko"
SECOND_KERNEL = "second/vmlinuz"
SECOND_INITRD = "second/initrd"
# An access that leaves the guest goes through the monitor, in an emulated host.
ACCESS_S = 0.001
TIMEOUT_S = 60
ONLINE_TIMEOUT_S = 120
LOOK_EVERY_S = 0.25  # nothing tells when a guest changed its mind: look again


def guest_files(kernel, folder=None, driver=None):
    """{name in the guest: file here}: the module and, with a FOLDER to make its disk in, all that
    is needed to start the same kernel a second time, with DRIVER if it is not to have its own."""
    files = {MODULE: built.module(kernel, HERE)}
    if folder is not None:
        image = pathlib.Path(folder) / f"{kernel}.second"
        initrd.build_guest(kernel, image, files=dict(files), driver=driver)
        files[SECOND_KERNEL] = ebbcache.kernel_dir(kernel) / "vmlinuz"
        files[SECOND_INITRD] = image
        files["bin/kexec_load"] = built.program(HERE / "kexec_load.c")
    return files


class AttackFailed(Exception):
    """The module could not do what it was told: nothing is said about the device."""


class Attacker:
    """The module in the guest at CONSOLE. Sizes are in bytes, results as the module gives them."""

    def __init__(self, console):
        self.console = console
        self._storm_s = 0
        self._run(f"insmod /{MODULE}", 60)

    def _run(self, command, timeout):
        done = self.console.run(command, timeout)
        if done.status != 0:
            raise AttackFailed(f"'{command}' ended with status {done.status}: {done.output}")
        return done.output

    def command(self, name, start, size, step):
        """The module's command NAME, given time for each access that it may do."""
        return self._result(name, start, start + size, step, TIMEOUT_S + 2 * size / step * ACCESS_S)

    def _result(self, name, start, end, last, timeout):
        line = f"{name} {start} {end} {last}"
        return parse(self._run(f"echo {line} >{PROC} && cat {PROC}", timeout))

    def await_unused(self, start, size, unused, timeout=ONLINE_TIMEOUT_S):
        """Wait until the guest's kernel uses all of the range but UNUSED bytes: it brings memory
        into use a moment after it was plugged."""
        begin = time.monotonic()
        while True:
            found = self.command("count", start, size, PAGE)["unused"] * PAGE
            if found == unused:
                return
            if time.monotonic() - begin > timeout:
                raise AttackFailed(f"the guest leaves {found} bytes unused, not {unused}")
            time.sleep(LOOK_EVERY_S)

    def write(self, start, size, step=PAGE):
        """Store at every STEP bytes that the guest's kernel does not use, then read back."""
        return self.command("write", start, size, step)

    def check(self, start, size, step=PAGE):
        """Whether what the last write() stored is there."""
        return self.command("check", start, size, step)

    def read(self, start, size, step=PAGE):
        return self.command("read", start, size, step)

    def start_storm(self, start, size, seconds):
        """Begin a storm on every processor; await_storm() returns what came of it."""
        self._run(f"echo storm {start} {start + size} {seconds} >{PROC} & storm=$!", TIMEOUT_S)
        self._storm_s = seconds

    def await_storm(self):
        return parse(self._run(f"wait $storm && cat {PROC}", TIMEOUT_S + self._storm_s))


def parse(text):
    """The module's lines, name and value."""
    return {name: int(value) for name, value in re.findall(r"^(\w+) (\d+)$", text, re.M)}


class Held(typing.NamedTuple):
    """What the host holds of one region, in bytes."""

    resident: int
    huge: int  # of it, in huge pages
    mappings: int


class Mapping(typing.NamedTuple):
    start: int
    end: int
    fields: typing.Dict[str, int]  # bytes
    flags: typing.List[str]


def parse_smaps(text):
    """The mappings of a process, in order."""
    found = []
    for part in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", text, flags=re.M):
        head = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", part)
        if head:
            sizes = re.findall(r"^(\w+): +(\d+) kB$", part, re.M)
            flags = re.search(r"^VmFlags: (.*)$", part, re.M)
            found.append(
                Mapping(
                    int(head[1], 16),
                    int(head[2], 16),
                    {name: int(kib) * 1024 for name, kib in sizes},
                    flags[1].split() if flags else [],
                )
            )
    return found


def find_region(mappings, size):
    """The mappings side by side that are the one region of SIZE bytes of guest memory."""
    runs = []
    for mapping in mappings:
        if "dc" not in mapping.flags:
            continue
        if runs and runs[-1][-1].end == mapping.start:
            runs[-1].append(mapping)
        else:
            runs.append([mapping])
    fitting = [run for run in runs if run[-1].end - run[0].start == size]
    if len(fitting) != 1:
        sizes = [(run[-1].end - run[0].start) // MIB for run in runs]
        raise ValueError(f"guest memory in the host is {sizes} MiB, not {size // MIB} MiB once")
    return fitting[0]


def memory_held(host, pid, size):
    """What the host holds for the one region of SIZE bytes of the monitor PID."""
    region = find_region(parse_smaps(host.read_file(f"/proc/{pid}/smaps").decode()), size)
    return Held(
        sum(mapping.fields["Rss"] for mapping in region),
        sum(mapping.fields["AnonHugePages"] for mapping in region),
        len(region),
    )


def page_tables(host, pid):
    """Bytes of the monitor's own page tables in the host."""
    status = host.read_file(f"/proc/{pid}/status").decode()
    return int(re.search(r"^VmPTE:\s+(\d+) kB", status, re.M)[1]) * 1024
