#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What the guarantee costs: requests, host memory, time to start; QEMU's device beside ours.

    guard.py [--build FOLDER] [--only TABLE]... [--backend NAME]... [--rounds N] [--best]
             [--json FILE]

Tables, all by default:

  requests  us per block for plug and unplug, by backend, run length and whether the guest used the
            memory. Ours: the engine and the guard with real KVM memory slots, in one process
            (vmem-bench). QEMU's: virtio-mem-pci on a stopped machine, driven through its qtest
            server (qtest.py). Requests are made in batches of which the time is taken as a whole:
            64 of one block, 8 of 64 blocks. From each time that of a batch of STATE requests of the
            same form is taken away: virtqueue, socket and process switch are not in the figures, on
            either side, but what the request does. "(slots)" is what ours spends on memory slots,
            the rest is the guard's work on pages; QEMU changes slots only with dynamic-memslots=on.
            "anon-mergeable" is memory that the host may merge, as it is by default.
  memory    host memory of a 1 TiB device, with 0 blocks and with 1 block plugged, beyond the same
            virtual machine without it, and the time until the monitor answers. The memory is what
            the kernel charges to a control group that only this process is in: its pages, page
            tables, KVM's notes about memory slots. Those are large (some 10 bytes for each page
            of a slot) where KVM has no two-dimensional paging: the table's head says so.

All figures are medians; with --best those of requests are the least of all rounds, which say more
on a machine that others use: what they add can only be more. Both run on this machine as it is;
the ratio is ours to QEMU's, below 1 is less. Nothing is installed: QEMU is the fetched one
(tools/nest/fetch.py qemu).
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / folder) for folder in ("bench", "tools/nest", "tests/vm")]

import ebbcache  # noqa: E402  (the folders are only known now)
import ebbvm  # noqa: E402
import qtest  # noqa: E402

MIB = 1 << 20
SKIPPED = 77
BUILDS = ("build", "build-check/gcc")
BLOCK_BYTES = 2 * MIB
REGION = "4G"
HUGE_POOL = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
TMPFS = pathlib.Path("/dev/shm")
PLAIN, DYNAMIC, PREALLOC = "qemu", "dynamic-memslots", "prealloc"
EXTRA = {
    PLAIN: "",
    DYNAMIC: "dynamic-memslots=on,unplugged-inaccessible=on,",
    PREALLOC: "prealloc=on,",
}
# Name -> (the library's options, QEMU's memory backend, the variants of QEMU's device beside it).
BACKENDS = {
    "anon": (["--backend", "anon"], "ram", (PLAIN, DYNAMIC)),
    "anon-mergeable": (["--backend", "anon", "--mergeable"], "ram,merge=on", (PLAIN, DYNAMIC)),
    "anon-prealloc": (["--backend", "anon", "--prealloc"], "ram", (PREALLOC,)),
    "memfd": (["--backend", "memfd"], "memfd,share=on", (PLAIN, PREALLOC)),
    "hugetlb": (
        ["--backend", "hugetlb"],
        "memfd,share=on,hugetlb=on,hugetlbsize=2M",
        (PLAIN, PREALLOC),
    ),
    "tmpfs": (["--backend", "file"], "file,share=on", (PLAIN, PREALLOC)),
}
# (name, blocks of a request, from one request to the next, requests of a batch)
PATTERNS = (
    ("1 block", 1, 1, 64),
    ("1 block, every 2nd", 1, 2, 64),
    ("64 blocks", 64, 64, 8),
)


class Skip(Exception):
    """This machine cannot do this part; the text says why."""


# ---- requests ----


def ours(args, words):
    """(facts, [(plug, unplug, state) in ns of each round]) of a run of vmem-bench."""
    argv = [str(args.build / "bench/vmem-bench"), *words, "--rounds", str(args.rounds)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode == SKIPPED:
        raise Skip(done.stderr.strip())
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)}: {done.stderr.strip()}")
    lines = done.stdout.splitlines()
    facts = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# "))
    return facts, [tuple(map(int, line.split())) for line in lines if line[0] != "#"]


def theirs(device, pattern, touch, rounds):
    """The same of QEMU's device."""
    _, run, stride, count = pattern
    step = stride * device.block_size
    batch = {
        kind: [(kind, device.addr + i * step, run) for i in range(count)]
        for kind in (qtest.PLUG, qtest.UNPLUG, qtest.STATE)
    }
    times = []
    for turn in range(rounds + 1):
        state = device.batch_ns(batch[qtest.STATE])
        plug = device.batch_ns(batch[qtest.PLUG])
        if touch:
            for i in range(count):
                device.machine.fill(device.addr + i * step, run * device.block_size)
        unplug = device.batch_ns(batch[qtest.UNPLUG])
        if turn:
            times.append((plug, unplug, state))
    return times


def per_block(args, times, pattern):
    """(plug, unplug) in us per block: what is beyond the STATE batch."""
    _, run, _, count = pattern
    of_all = min if args.best else statistics.median
    plugs, unplugs, states = (of_all(each) for each in zip(*times))
    return (plugs - states) / 1000 / run / count, (unplugs - states) / 1000 / run / count


@contextlib.contextmanager
def huge_pages(count):
    """COUNT more 2 MiB pages in the host's pool than there are, while this is entered."""
    before = int(HUGE_POOL.read_text()) if HUGE_POOL.exists() else 0
    try:
        HUGE_POOL.write_text(str(before + count))
    except OSError as error:
        raise Skip(f"the pool of huge pages cannot be set: {error.strerror}") from error
    try:
        if int(HUGE_POOL.read_text()) < before + count:
            raise Skip(f"the host has not {count} free huge pages")
        yield
    finally:
        HUGE_POOL.write_text(str(max(0, int(HUGE_POOL.read_text()) - count)))


@contextlib.contextmanager
def backing(name):
    """What a backend needs: yields (words for vmem-bench, keys for QEMU's backend)."""
    if name == "hugetlb":
        with huge_pages(max(run * count for _, run, _, count in PATTERNS) + 64):
            yield [], ""
    elif name == "tmpfs":
        with tempfile.TemporaryDirectory(prefix="ebb-bench-", dir=TMPFS) as folder:
            yield ["--path", f"{folder}/ours"], f",mem-path={folder}/qemu"
    else:
        yield [], ""


def qemu_device(args, stack, folder, backend, variant, more):
    """A driver for a new QEMU's device, all of which the guest may plug."""
    place = pathlib.Path(folder) / variant
    place.mkdir()
    memory = f"memory-backend-{backend},id=mem0,size={REGION},reserve=off{more}"
    words = ["-m", "1G,maxmem=32G", "-object", memory]
    words += ["-device", f"virtio-mem-pci,memdev=mem0,requested-size={REGION},block-size=2M,"]
    words[-1] += EXTRA[variant] + qtest.Device.ARGS
    return qtest.Device(stack.enter_context(qtest.Machine(args.qemu, place, words)))


def measure_backend(args, name):
    """(facts, {(pattern, touched): {program: (plug, unplug)}}) of one backend."""
    words, backend, variants = BACKENDS[name]
    prealloc = "--prealloc" in words
    rows, facts = {}, {}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ebb-bench-"))
        own, more = stack.enter_context(backing(name))
        devices = {
            variant: qemu_device(args, stack, folder, backend, variant, more)
            for variant in variants
        }
        for pattern in PATTERNS:
            title, run, stride, count = pattern
            size = ["--run", str(run), "--stride", str(stride), "--requests", str(count)]
            for touch in (True,) if prealloc else (False, True):
                asked = words + own + size + (["--touch"] if touch else [])
                facts, times = ours(args, asked)
                row = {"ebb": per_block(args, times, pattern)}
                pages = per_block(args, ours(args, [*asked, "--no-slots"])[1], pattern)
                row["slots"] = tuple(both - alone for both, alone in zip(row["ebb"], pages))
                for variant, device in devices.items():
                    times = theirs(device, pattern, touch, args.rounds)
                    row[variant] = per_block(args, times, pattern)
                rows[title, touch] = row
    return facts, rows


def print_backend(name, facts, rows):
    variants = BACKENDS[name][2]
    heads = "".join(f" {variant:>17} {'ratio':>6}" for variant in variants)
    print(f"\n{name}: mechanism {facts['mechanism']}, memory slots {facts['memslots']}")
    print(f"{'us per block':<38} {'ebb':>8} {'(slots)':>8}{heads}")
    for number, operation in enumerate(("plug", "unplug")):
        for (title, touch), row in rows.items():
            used = "used" if touch else "unused"
            figures = {program: both[number] for program, both in row.items()}
            text = f"{operation:<7} {title:<20} {used:<9} {figures['ebb']:>8.2f}"
            text += f" {figures['slots']:>8.2f}"
            for variant in variants:
                ratio = figures["ebb"] / figures[variant] if figures[variant] > 0 else float("nan")
                text += f" {figures[variant]:>17.2f} {ratio:>6.2f}"
            print(text, flush=True)


def table_requests(args):
    which = "best" if args.best else "median"
    print(f"== requests: {which} of {args.rounds} rounds, 2 MiB blocks")
    found = {}
    for name in args.backend or BACKENDS:
        try:
            facts, rows = measure_backend(args, name)
        except Skip as reason:
            print(f"\n{name}: skipped: {reason}", flush=True)
            continue
        print_backend(name, facts, rows)
        found[name] = {
            f"{title}, {'used' if touch else 'unused'}": row for (title, touch), row in rows.items()
        }
    return found


# ---- memory, and the time to start ----


class MemoryGroup:
    """A memory control group of our own, version 1 or 2; where none can be made, no figures."""

    ROOT = pathlib.Path("/sys/fs/cgroup")

    def __init__(self):
        self._home = self._folder = None
        for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "memory":
                home = self.ROOT / "memory" / path[1:]
                self._make(home, home, "usage_in_bytes")
            elif not controllers:
                # Of version 2 only groups without processes can have others below: the root is.
                control = self.ROOT / "cgroup.subtree_control"
                if control.exists() and "memory" in control.read_text().split():
                    self._make(self.ROOT / path[1:], self.ROOT, "current")

    def _make(self, home, parent, figure):
        folder = parent / f"ebb-bench-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            return
        self._home, self._folder, self._figure = home, folder, folder / f"memory.{figure}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._folder:
            # A process that ended is charged for until the kernel has swept up behind it.
            deadline = time.monotonic() + 10
            while True:
                try:
                    return self._folder.rmdir()
                except OSError:
                    if time.monotonic() > deadline:
                        raise

    @contextlib.contextmanager
    def members(self):
        """Processes started while this is entered are in the group."""
        if self._folder:
            (self._folder / "cgroup.procs").write_text(str(os.getpid()))
        try:
            yield
        finally:
            if self._folder:
                (self._home / "cgroup.procs").write_text(str(os.getpid()))

    def held(self):
        """Bytes, or None."""
        return int(self._figure.read_text()) if self._folder else None


def status_bytes(pid):
    """Resident memory, counted exactly, and page tables of a process."""
    found = {}
    for file, key in (("smaps_rollup", "Rss"), ("status", "VmPTE")):
        text = pathlib.Path(f"/proc/{pid}/{file}").read_text()
        found[key] = int(re.search(rf"^{key}:\s+(\d+) kB$", text, re.M)[1]) << 10
    return found


class Sample:
    """What a process holds now."""

    def __init__(self, group, pid):
        self.figures = {**status_bytes(pid), "held": group.held()}

    def beyond(self, base):
        return {
            key: None if value is None else value - base.figures[key]
            for key, value in self.figures.items()
        }


def answering(sock):
    """Wait until a monitor answers at the listening SOCK."""
    with socket_to(sock) as client:
        return ebbvm.Monitor(client).run("info memory-devices")


def socket_to(path):
    client = qtest.socket.socket(qtest.socket.AF_UNIX)
    client.settimeout(qtest.TIMEOUT_S)
    client.connect(str(path))
    return client


def monitor_words(listener):
    return [
        *("-chardev", f"socket,id=monitor,fd={listener.fileno()},server=on,wait=off"),
        *("-mon", "chardev=monitor,mode=readline"),
    ]


def device_words(size, more=""):
    memory = f"memory-backend-ram,id=mem0,size={size},reserve=off"
    return ["-object", memory, "-device", f"virtio-mem-pci,id=d0,memdev=mem0,{more}"]


def qemu_life(args, group, folder, size, extra):
    """(seconds to start, samples after the start, a plug of one block, its use)."""
    path = folder / "monitor.sock"
    words = ["-m", "1G,maxmem=20T"]
    if size:
        words += device_words(size, f"requested-size=2M,block-size=2M,{extra}{qtest.Device.ARGS}")
    with qtest.listener(path) as listener, contextlib.ExitStack() as stack:
        with group.members():
            machine = qtest.Machine(
                args.qemu, folder, words + monitor_words(listener), (listener.fileno(),)
            )
            stack.enter_context(machine)
        answering(path)
        seconds = time.monotonic() - machine.begin
        pid = machine.process.pid
        machine.fill(*qtest.RING)  # the machine's own memory, not the device's
        samples = [Sample(group, pid)]
        if size:
            device = qtest.Device(machine)
            device.batch_ns([(qtest.PLUG, device.addr, 1)])
            samples.append(Sample(group, pid))
            machine.fill(device.addr, BLOCK_BYTES)
            samples.append(Sample(group, pid))
    path.unlink()
    return seconds, samples


def ebb_life(args, group, folder, size, _extra):
    """The same of ebb, with the freestanding guest that follows requested-size."""
    path = folder / "monitor.sock"
    words = [str(args.build / "vmm/main/ebb"), "-enable-kvm", "-display", "none", "-nodefaults"]
    words += ["-m", "1G,maxmem=20T", "-chardev", "stdio,id=serial,signal=off"]
    words += ["-device", "isa-serial,chardev=serial"]
    words += ["-kernel", str(args.build / "tests/bare/bare-guest")]
    words += ["-append", f"test=vmem-follow devices={1 if size else 0}"]
    if size:
        words += device_words(size, "requested-size=0,block-size=2M")
    with qtest.listener(path) as listener, contextlib.ExitStack() as stack:
        with group.members():
            begin = time.monotonic()
            process = subprocess.Popen(
                words + monitor_words(listener),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(listener.fileno(),),
            )
            stack.enter_context(process)
            stack.callback(process.kill)
        answering(path)
        seconds = time.monotonic() - begin
        console = ebbvm.Stream(process.stdout.fileno())
        console.expect("^follow: ready$")
        samples = [Sample(group, process.pid)]
        if size:
            with socket_to(path) as client:
                ebbvm.Monitor(client).run("virtio-mem d0 2")
            console.expect(f"^follow 0 plugged={BLOCK_BYTES}$")
            samples.append(Sample(group, process.pid))
            process.stdin.write(b"touch 0\n")
            process.stdin.flush()
            console.expect("^touched 0 pages=512$")
            samples.append(Sample(group, process.pid))
    path.unlink()
    return seconds, samples


# Name -> (how it lives, more about the device, the device's sizes). QEMU's plain device wants
# metadata for all of its memory slot from the start, of which no machine has enough for 16 TiB.
LIVES = {
    "ebb": (ebb_life, "", ("1G", "1T", "16T")),
    "qemu": (qemu_life, "", ("1G", "1T")),
    "qemu dynamic-memslots=on": (qemu_life, EXTRA[DYNAMIC], ("1G", "1T", "16T")),
}
SIZES = ("1G", "1T", "16T")


def measure_life(args, life, extra, sizes):
    """{size: {"start": s, "0 blocks": {...}, ...}} of one monitor; size "none": no device."""
    found = {}
    for size in (None, *sizes):
        lives = []
        for turn in range(args.rounds + 1):
            with tempfile.TemporaryDirectory(prefix="ebb-bench-") as folder, MemoryGroup() as group:
                one = life(args, group, pathlib.Path(folder), size, extra)
            # The first one only makes the host read the program.
            if turn:
                lives.append(one)
        lives.sort(key=lambda one: one[1][-1].figures["held"] or one[1][-1].figures["Rss"])
        seconds = statistics.median(one[0] for one in lives)
        samples = lives[len(lives) // 2][1]
        if size is None:
            base = samples[0]
        names = ("0 blocks", "1 block", "1 block, used")
        found[size or "none"] = {
            "start": seconds,
            **{name: sample.beyond(base) for name, sample in zip(names, samples)},
        }
    return found


def two_dimensional_paging():
    """What KVM says, or that it says nothing."""
    file = pathlib.Path("/sys/module/kvm/parameters/tdp_mmu")
    return {"Y": "yes", "N": "no"}.get(file.read_text().strip()) if file.exists() else "not known"


def mib(value):
    return f"{'-':>9}" if value is None else f"{value / MIB:>9.2f}"


def table_memory(args):
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        print("== memory: skipped: /dev/kvm cannot be opened")
        return {}
    print(f"\n== memory: MiB beyond the same machine without the device; median of {args.rounds}")
    print("held: charged to the process's control group; with 1 block, used: 2 MiB are the guest's")
    print(f"KVM with two-dimensional paging: {two_dimensional_paging()}")
    print(f"{'monitor':<25} {'device':<7} {'state':<14} {'held':>9} {'Rss':>9} {'VmPTE':>9}")
    found = {}
    for name, (life, extra, sizes) in LIVES.items():
        found[name] = measure_life(args, life, extra, sizes)
        for size in sizes:
            for state in ("0 blocks", "1 block", "1 block, used"):
                row = found[name][size][state]
                figures = " ".join(mib(row[key]) for key in ("held", "Rss", "VmPTE"))
                print(f"{name:<25} {size:<7} {state:<14} {figures}", flush=True)
    print("\n== start: seconds until the monitor answers, by the size of the device")
    print(f"{'monitor':<25} " + " ".join(f"{size:>9}" for size in ("none", *SIZES)) + "  1T/none")
    for name, row in found.items():
        times = {size: one["start"] for size, one in row.items()}
        text = " ".join(
            f"{times[size]:>9.4f}" if size in times else f"{'-':>9}" for size in ("none", *SIZES)
        )
        print(f"{name:<25} {text} {times['1T'] / times['none']:>8.2f}")
    return found


TABLES = {"requests": table_requests, "memory": table_memory}


def find_build(chosen):
    """The build folder with the programs to measure."""
    for folder in [chosen] if chosen else [ROOT / name for name in BUILDS]:
        if (folder / "bench/vmem-bench").exists():
            return folder.resolve()
    where = chosen or " or ".join(BUILDS)
    raise SystemExit(f"guard.py: {where} holds no vmem-bench: meson setup build && ninja -C build")


def main():
    parser = argparse.ArgumentParser(description="Measure what the guarantee costs.")
    parser.add_argument("--build", type=pathlib.Path, help="the build folder, build by default")
    parser.add_argument("--only", action="append", choices=TABLES, default=[])
    parser.add_argument("--backend", action="append", choices=BACKENDS, default=[])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--best", action="store_true", help="the least of all rounds")
    parser.add_argument("--json", help="write all figures to this file")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds {args.rounds}: must be at least 1")
    args.build = find_build(args.build)
    args.qemu = ebbcache.part_dir("qemu") / "run"
    chosen = [name for name in TABLES if not args.only or name in args.only]
    found = {name: TABLES[name](args) for name in chosen}
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
