# SPDX-License-Identifier: BSD-3-Clause
"""The RFC's scenario as a library: one machine, its figures at each step, and what they must be.

    with nest.open_host(**host_parts(["6.12-cloud"], ebb)) as host:
        for moment in play(host, "6.12-cloud"):
            assert not moment.problems

Machine is any run of ebb in a host. play() drives the scenario's machine through its steps, and
at each step reads three sources that do not know of each other: the monitor (what it promises),
the guest's kernel (what it uses) and the host's /proc (what ebb holds). A figure that is not the
RFC's, or on which monitor and guest differ, becomes a sentence in Moment.problems; only what
keeps the scenario from going on is raised.

Nothing here waits for a fixed time: a resize is a job of the monitor that is followed to its end
("virtio-mem ID SIZE -w"), and the reading is taken once the guest's own figures stand still and agree, or a time limit has passed.
"""

import contextlib
import pathlib
import re
import shlex
import sys
import tempfile
import time
import typing

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "nest"))

import ebbcache  # noqa: E402  (the folder is only known now)
import initrd  # noqa: E402
import nest  # noqa: E402

MIB = 1 << 20
MONITOR = "monitor.sock"
IMAGE = "image"
# Memory is onlined for the kernel's own use too, as in the RFC: some of it cannot be given back.
APPEND = "console=ttyS0 quiet panic=-1 memhp_default_state=online"

# The RFC's words; only what stands in braces differs from machine to machine.
COMMAND_LINE = """
--enable-kvm -m 4G,maxmem=20G -smp sockets=2,cores=2
-numa node,nodeid=0,cpus=0-1 -numa node,nodeid=1,cpus=2-3
-machine pc -kernel {kernel} -nodefaults
-chardev stdio,id=serial -device isa-serial,chardev=serial
-append "{append}" -initrd {initrd}
-chardev socket,id=monitor,path={monitor},server,nowait -mon chardev=monitor,mode=readline
-object memory-backend-ram,id=mem0,size=4G,max-size=8G
-device virtio-mem-pci,id=reg0,memdev=mem0,node=0
-object memory-backend-ram,id=mem1,size=3G,max-size=8G
-device virtio-mem-pci,id=reg1,memdev=mem1,node=1
"""

DEVICES = {
    "reg0": {"memaddr": 0x140000000, "node": 0, "size": 4294967296, "memdev": "/objects/mem0"},
    "reg1": {"memaddr": 0x340000000, "node": 1, "size": 3221225472, "memdev": "/objects/mem1"},
}
DEVICE_MAX_SIZE = 8589934592
BOOT_NODE_MIB = 2048  # each node's half of the boot memory
CPUS = {0: [0, 1], 1: [2, 3]}
PAGE_SIZE = "2097152 bytes"

BOOT_TIMEOUT_S = 240
RESIZE_TIMEOUT_S = 240
AGREE_TIMEOUT_S = 90
READ_ATTEMPTS = 3
LOOK_EVERY_S = 0.25  # a monitor cannot be waited on: look again
STILL_S = 6  # a guest that has little left and changed nothing for so long gave what it could
STALL_S = 60  # any other may only be slow
LITTLE_MIB = 512
FILL_MIB = 512  # what the guest uses for a while, so that the host has something to get back
HOST_SLACK_MIB = 64  # what of it may stay: ebb's own memory, and pages the guest took meanwhile


def host_parts(kernels, ebb, folder, modules=()):
    """What nest.open_host() needs for guests with KERNELS; their disks are made in FOLDER and
    hold MODULES besides those of every guest."""
    files = {}
    for kernel in kernels:
        image = pathlib.Path(folder) / f"{kernel}.initrd"
        initrd.build_guest(kernel, image, modules=modules)
        files[f"{kernel}/vmlinuz"] = ebbcache.kernel_dir(kernel) / "vmlinuz"
        files[f"{kernel}/initrd"] = image
    return {"files": files, "programs": {"ebb": ebb}}


@contextlib.contextmanager
def prepared(kernels, ebb, modules=()):
    """host_parts() in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="ebb-demo-") as folder:
        yield host_parts(kernels, ebb, folder, modules)


def command_text(host, kernel, disk="initrd"):
    """The scenario's options as a person types them, with the DISK beside KERNEL."""
    return COMMAND_LINE.format(
        kernel=host.path(f"{kernel}/vmlinuz"),
        initrd=host.path(f"{kernel}/{disk}"),
        monitor=host.path(MONITOR),
        append=APPEND,
    )


def command_line(host, kernel, disk="initrd"):
    """The scenario's command line as words, program first."""
    return [host.path("ebb"), *shlex.split(command_text(host, kernel, disk))]


class Device(typing.NamedTuple):
    """One entry of "info memory-devices"."""

    memaddr: int
    node: int
    size: int
    max_size: int
    memdev: str


def parse_devices(text):
    """{id: Device} from the output of "info memory-devices"."""
    found = {}
    for part in text.split("Memory device ")[1:]:
        name = re.match(r'\[virtio-mem\]: "([^"]*)"', part)[1]
        fields = dict(re.findall(r"^  ([\w-]+): (\S+)$", part, re.M))
        found[name] = Device(
            int(fields["memaddr"], 16),
            int(fields["node"]),
            int(fields["size"]),
            int(fields["max-size"]),
            fields["memdev"],
        )
    return found


def parse_numa(text):
    """({node: size in MiB}, {node: [cpu]}) from the output of "info numa"."""
    found = re.findall(r"^node (\d+) size: (\d+) MB$", text, re.M)
    sizes = {int(node): int(size) for node, size in found}
    cpus = {
        int(n): [int(cpu) for cpu in words.split()]
        for n, words in re.findall(r"^node (\d+) cpus:([ \d]*)$", text, re.M)
    }
    if not text.startswith(f"{len(sizes)} nodes\n"):
        raise ValueError(f"info numa does not begin with the number of its nodes: {text!r}")
    return sizes, cpus


def parse_request(text):
    """The lines of "info virtio-mem ID" as a dictionary."""
    return dict(re.findall(r"^([A-Z][\w ]*): (.+)$", text, re.M))


class Machine:
    """A run of ebb with the words ARGV in HOST; its end is certain when the with statement ends."""

    def __init__(self, host, argv, monitor=MONITOR):
        self.host = host
        self.argv = argv
        self.socket = host.path(monitor)
        self.process = None
        self.console = None

    def __enter__(self):
        self.process = self.host.spawn("ebb", self.argv)
        self.console = nest.GuestConsole(self.process)
        return self

    def __exit__(self, kind, error, trace):
        if kind is not None and issubclass(kind, nest.NestInfraError):
            return  # nothing can be asked of the host any more
        if not self.process.ended:
            self.process.kill()
            self.process.wait(60)
        self.host.run(f"rm -f '{self.socket}'")

    def boot(self):
        """Wait for the guest's shell; returns the seconds to its first userspace line."""
        begin = time.monotonic()
        self.console.ready(BOOT_TIMEOUT_S)
        seconds = time.monotonic() - begin
        self.console.prompt(BOOT_TIMEOUT_S)
        return seconds

    def hmp(self, command):
        """What the human monitor prints for COMMAND."""
        return self.host.hmp(self.socket, command, timeout=60)

    def await_running(self, timeout=BOOT_TIMEOUT_S):
        """Wait until the guest runs: a machine that is loaded from an image."""
        begin = time.monotonic()
        while True:
            with contextlib.suppress(nest.CommandFailed, nest.StreamEnded):
                if "VM status: running" in self.hmp("info status"):
                    return
            if self.process.ended:
                raise nest.CommandFailed("ebb ended instead of starting from the image")
            if time.monotonic() - begin > timeout:
                raise nest.NestTimeout(f"the machine did not run after {timeout} s")
            time.sleep(LOOK_EVERY_S)

    def request(self, device):
        return parse_request(self.hmp(f"info virtio-mem {device}"))

    def resize(self, device, size_mib, progress=None):
        """Ask for another size, as a person who waits for it, and follow the job to its end. Returns
        the command and the monitor's last words, which tell how it ended."""
        command = f"virtio-mem {device} {size_mib} -w"

        def watch(line):
            if progress and " moved (" in line:
                progress(line)

        text = self.host.hmp(self.socket, command, RESIZE_TIMEOUT_S, watch)
        end = text.strip().splitlines()[-1]
        if not re.match(r"(?:Error: )?resize-\S+: ", end):
            raise nest.CommandFailed(f"the monitor does not take '{command}': {end}")
        return command, end

    def plugged(self):
        """{node: plugged bytes} as the monitor says, over all devices."""
        nodes = {}
        for device in parse_devices(self.hmp("info memory-devices")).values():
            nodes[device.node] = nodes.get(device.node, 0) + device.size
        return nodes

    def mem_total(self):
        """{node: MemTotal in bytes} as the guest says."""
        return {node: fields["MemTotal"] for node, fields in self.console.meminfo().items()}

    def await_request(self, device, timeout=RESIZE_TIMEOUT_S, progress=None):
        """Wait until the last resize of DEVICE is done; returns its status then, or the status
        that it had kept, without a change in size, for as long as patience() has."""
        begin = still = time.monotonic()
        last = None
        while True:
            request = self.request(device)
            now = time.monotonic()
            state = (request["Request status"], request["Plugged size"])
            if state != last:
                last, still = state, now
                if progress:
                    progress(f"{device}: {mib(request['Plugged size'])} MB")
            stopped = state[0] != "in-progress" and now - still > patience(request)
            if state[0] == "done" or stopped:
                return state[0]
            if now - begin > timeout:
                raise nest.NestTimeout(f"{device} was still {state[0]} after {timeout} s")
            time.sleep(LOOK_EVERY_S)

    def await_agreement(self, base, timeout=AGREE_TIMEOUT_S):
        """Wait until the guest has BASE (bytes of each node) and what the monitor calls plugged.

        Returns ({node: plugged}, {node: MemTotal}); after the time limit the last pair, agreeing
        or not. The guest brings memory into use a moment after it was plugged.
        """
        begin = time.monotonic()
        while True:
            plugged = self.plugged()
            total = self.mem_total()
            agree = all(total.get(n, 0) - base[n] == plugged.get(n, 0) for n in base)
            if agree and plugged == self.plugged():
                return plugged, total
            if time.monotonic() - begin > timeout:
                return plugged, total

    def await_online(self, nodes, timeout=BOOT_TIMEOUT_S):
        """Wait until the guest uses all that is plugged at the start: NODES maps a node to the
        least MemTotal (bytes) that shows it."""
        begin = time.monotonic()
        while True:
            total = self.mem_total()
            if all(total.get(node, 0) >= least for node, least in nodes.items()):
                return total
            if time.monotonic() - begin > timeout:
                raise nest.NestTimeout(f"the guest's nodes have {total} after {timeout} s")


def little_left(request):
    """Whether a guest that shrinks has nearly nothing left."""
    return mib(request["Requested size"]) < mib(request["Plugged size"]) <= LITTLE_MIB


def patience(request):
    """How many seconds a guest may stand still before it is taken to have stopped."""
    return STILL_S if little_left(request) else STALL_S


def mib(text):
    """The leading number of TEXT, a size in bytes, in MiB."""
    return int(text.split()[0]) // MIB


class Step(typing.NamedTuple):
    """A step of the scenario. LEFT: the size that stays is the guest's choice."""

    number: int
    title: str
    target_mib: typing.Optional[int]  # what reg0 is asked for
    nodes: typing.Dict[int, int]  # MiB that "info numa" must show (at least, with LEFT)
    shows: typing.Tuple[str, ...]  # monitor commands a person wants to see here
    left: bool = False


INFO = ("info numa", "info memory-devices")
STEPS = (
    Step(2, "start with 4G + 3G plugged", None, {0: 6144, 1: 5120}, INFO),
    Step(3, "virtio-mem reg0 2048", 2048, {0: 4096, 1: 5120}, ("info numa",)),
    Step(4, "virtio-mem reg0 8192", 8192, {0: 10240, 1: 5120}, ("info numa",)),
    Step(5, "virtio-mem reg0 0", 0, {0: 2048, 1: 5120}, INFO, left=True),
    Step(6, "migrate, start from the image", None, {0: 2048, 1: 5120}, INFO, left=True),
)


class Moment(typing.NamedTuple):
    """What the three sources said after a step."""

    step: Step
    seconds: float
    shown: typing.List[typing.Tuple[str, str]]  # (monitor command, its output)
    node_mib: typing.Dict[int, int]  # the monitor: info numa
    guest_mib: typing.Dict[int, float]  # the guest: MemTotal
    guest_plugged_mib: typing.Dict[int, float]  # the guest: MemTotal beyond boot memory
    request: typing.Dict[str, str]  # the monitor: info virtio-mem reg0
    rss_bytes: int  # the host: RSS of ebb
    notes: typing.List[str]
    problems: typing.List[str]


class Play:
    """The scenario on MACHINE, which is up; STACK ends the one that it moves to."""

    def __init__(self, machine, progress, stack):
        self.machine = machine
        self.progress = progress
        self.stack = stack
        self.base = {}  # {node: MemTotal without what devices plugged}
        self.rss_before_shrink = None

    def rss(self):
        return self.machine.host.rss_bytes(self.machine.process.pid)

    def start(self):
        """The guest has used all that was plugged: its boot memory is the rest (step 2)."""
        self.progress("the guest plugs what it starts with")
        for device in DEVICES:
            self.machine.await_request(device, progress=self.progress)
        plugged = self.machine.plugged()
        # Less than the kernel's own share of the boot memory may be missing, no memory block.
        least = {n: plugged[n] + (BOOT_NODE_MIB - 512) * MIB for n in CPUS}
        total = self.machine.await_online(least)
        while total != (again := self.machine.mem_total()):
            total = again
        self.base = {n: total[n] - plugged[n] for n in CPUS}

    def resize(self, step):
        """Returns what Machine.resize() does. In a host that is slow itself a guest may do nothing
        for so long that the job is over: it is asked again, as long as it moves."""
        last = moved = None
        while True:
            said = self.machine.resize("reg0", step.target_mib, self.progress)
            request = self.machine.request("reg0")
            now = time.monotonic()
            if request["Plugged size"] != last:
                last, moved = request["Plugged size"], now
            stopped = little_left(request) or now - moved > STALL_S
            if request["Request status"] == "done" or stopped:
                return said

    def read(self, step, said):
        """What monitor and guest say, all of it between two changes of the guest's memory; SAID is
        what the monitor said before."""
        commands = (*step.shows, "info virtio-mem reg0")
        for _ in range(READ_ATTEMPTS):
            plugged, total = self.machine.await_agreement(self.base)
            shown = said + [(command, self.machine.hmp(command)) for command in commands]
            if plugged == self.machine.plugged():
                break
        return plugged, total, shown

    def moment(self, step, begin, said, notes):
        """Read everything after STEP."""
        plugged, total, shown = self.read(step, said)
        seconds = time.monotonic() - begin
        texts = dict(shown)
        sizes, cpus = parse_numa(texts["info numa"])
        moment = Moment(
            step=step,
            seconds=seconds,
            shown=shown,
            node_mib=sizes,
            guest_mib={n: size / MIB for n, size in total.items()},
            guest_plugged_mib={n: (size - self.base.get(n, 0)) / MIB for n, size in total.items()},
            request=parse_request(texts["info virtio-mem reg0"]),
            rss_bytes=self.rss(),
            notes=notes,
            problems=[],
        )
        moment.problems.extend(judge(moment, cpus, plugged, self.base))
        if step.number == 2:
            moment.problems.extend(judge_devices(parse_devices(texts["info memory-devices"])))
        return moment

    def use_memory(self):
        """Let the guest use memory of node 0 and free it again: the host still holds it then."""
        self.progress(f"the guest uses {FILL_MIB} MB for a moment")
        done = self.machine.console.run(f"taskset 1 fill {FILL_MIB} && unfill", 180)
        if done.status != 0:
            raise nest.CommandFailed(f"the guest could not use {FILL_MIB} MB: {done.output}")
        self.rss_before_shrink = self.rss()
        return f"the guest used {FILL_MIB} MB and freed them"

    def migrate(self):
        """Send the machine away and begin again from the image, with the same command line and one word
        more. Returns the commands with what the monitor said, and notes for a person."""
        source, image = self.machine, self.machine.host.path(IMAGE)
        boot = source.console.run("cat /proc/sys/kernel/random/boot_id").output
        command = f'migrate "exec: cat > {image}"'
        self.progress(command)
        said = source.host.hmp(source.socket, command, RESIZE_TIMEOUT_S, self.progress)
        info = source.hmp("info migrate")
        sent = re.search(r"^transferred ram: (\d+) kbytes$", info, re.M)
        if "Migration status: completed" not in info or not sent:
            raise nest.CommandFailed(f"the machine was not saved: {said}\n{info}")
        with contextlib.suppress(nest.StreamEnded):
            source.hmp("quit")
        if source.process.wait(60) != 0:
            raise nest.CommandFailed("ebb did not end well after it had saved its machine")
        more = ["-incoming", f"exec: cat {image}"]
        self.progress(f'the same command line with {more[0]} "{more[1]}"')
        self.machine = self.stack.enter_context(Machine(source.host, [*source.argv, *more]))
        self.machine.await_running()
        if self.machine.console.run("cat /proc/sys/kernel/random/boot_id").output != boot:
            raise nest.CommandFailed("another guest came out of the image")
        source.host.run(f"rm -f '{image}'")
        notes = [f"{int(sent[1]) // 1024} MB of memory were sent; -incoming \"exec: cat IMAGE\""]
        # The percentages overwrite each other on a terminal.
        last = "".join(said.strip().rpartition("Completed")[1:])
        return [(command.replace(image, "IMAGE"), last)], notes

    def judge_return(self, moment):
        """What the guest gave back is the host's again."""
        now = moment.rss_bytes
        returned = (self.rss_before_shrink - now) // MIB
        if returned < FILL_MIB - HOST_SLACK_MIB:
            yield f"the host got only {returned} MB back of the {FILL_MIB} MB that the guest used"

    def steps(self):
        before = None
        for step in STEPS:
            begin = time.monotonic()
            said, notes = [], []
            if step.number == 2:
                self.start()
            elif step.number == 6:
                said, notes = self.migrate()
            else:
                said.append(self.resize(step))
            if step.number == 4:
                seconds = time.monotonic() - begin
                notes.append(self.use_memory())
                begin = time.monotonic() - seconds
            moment = self.moment(step, begin, said, notes)
            if step.number == 5:
                moment.problems.extend(self.judge_return(moment))
                notes.append(explain_left(moment))
            if step.number == 6:
                moment.problems.extend(judge_same(before, moment))
            before = moment
            yield moment


def judge(moment, cpus, plugged, base):
    """Sentences about what is wrong with the sizes of a moment."""
    step = moment.step
    if cpus != CPUS:
        yield f"info numa shows CPUs {cpus}, not {CPUS}"
    for node, wanted in step.nodes.items():
        shown = moment.node_mib.get(node)
        if step.left and node == 0:
            limit = STEPS[2].nodes[0] // 2
            if shown is None or not wanted <= shown < limit:
                yield f"node 0 has {shown} MB, not between {wanted} and {limit} MB"
        elif shown != wanted:
            yield f"node {node} has {shown} MB, not {wanted} MB"
    for node in CPUS:
        says = moment.node_mib.get(node, 0) - BOOT_NODE_MIB
        if says != plugged.get(node, 0) // MIB:
            yield f"info numa and info memory-devices differ on node {node}"
        if moment.guest_plugged_mib.get(node) != plugged.get(node, 0) / MIB:
            yield (
                f"node {node}: the guest uses {moment.guest_plugged_mib.get(node):.0f} MB of its "
                f"devices, the monitor says {plugged.get(node, 0) // MIB} MB"
            )
        if not 0 <= BOOT_NODE_MIB * MIB - base[node] < 512 * MIB:
            yield f"node {node}: the guest has {base[node] // MIB} MB of its boot memory"
    yield from judge_request(moment, plugged)


def judge_same(before, moment):
    """Sentences about what is not as it was before the machine was moved."""
    for command in INFO:
        was, now = dict(before.shown)[command], dict(moment.shown)[command]
        if was != now:
            yield f"{command} shows {now!r}, not {was!r} as before"
    if before.guest_mib != moment.guest_mib:
        yield f"the guest has {moment.guest_mib} MB, not {before.guest_mib} as before"


def judge_request(moment, plugged):
    """Sentences about "info virtio-mem reg0"."""
    request = moment.request
    statuses = ["vm-oom"] if moment.step.left and plugged[0] else ["done"]
    if moment.step.number == 6 and plugged[0]:
        statuses.append("in-progress")  # the guest has only just arrived, and may try again
    wanted = {"Status": ["ready"], "Request status": statuses, "Page size": [PAGE_SIZE]}
    for field, values in wanted.items():
        if request.get(field) not in values:
            yield (
                f"info virtio-mem reg0 shows {field}: {request.get(field)}, "
                f"not {' or '.join(values)}"
            )


def judge_devices(devices):
    """Sentences about "info memory-devices" at the start."""
    for name, wanted in DEVICES.items():
        expected = Device(max_size=DEVICE_MAX_SIZE, **wanted)
        if devices.get(name) != expected:
            yield f"info memory-devices shows {name} as {devices.get(name)}, not {expected}"
    if len(devices) != len(DEVICES):
        yield f"info memory-devices shows {len(devices)} devices, not {len(DEVICES)}"


def explain_left(moment):
    """What step 5 showed, in words."""
    left = moment.node_mib[0] - BOOT_NODE_MIB
    if left:
        return f"the guest could not give {left} MB back (in the RFC: 164 MB)"
    return "this guest gave everything back (the RFC's kept 164 MB)"


def silent(_text):
    """A progress that shows nothing."""


def play(host, kernel, progress=silent, ready=silent, disk="initrd"):
    """Play the scenario in HOST and yield a Moment for each step.

    PROGRESS gets short texts while something takes its time, READY one when the guest is up. DISK
    is the guest's, beside its kernel in the host.
    """
    with contextlib.ExitStack() as stack:
        machine = stack.enter_context(Machine(host, command_line(host, kernel, disk)))
        progress("the guest boots")
        seconds = machine.boot()
        release = machine.console.run("uname -r").output.strip()
        ready(f"Linux {release} is up; its first line came after {seconds:.1f} s")
        played = Play(machine, progress, stack)
        yield from played.steps()
        progress("the guest powers off")
        played.machine.process.write("poweroff -f\n")
        status = played.machine.process.wait(120)
        if status != 0:
            raise nest.CommandFailed(f"ebb ended with status {status} after a power-off, not 0")
