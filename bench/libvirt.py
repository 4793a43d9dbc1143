#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""ebb and QEMU as emulators of the same libvirt (Debian's 11.3), in the same host, in turn.

    libvirt.py --ebb PROGRAM [--bare GUEST] [--rounds N] [--guests N] [--only life|many]

life: a stock Linux guest in the q35 domain of examples/libvirt. Timed are `virsh start --console`
to the guest's first line, and `virsh update-memory-device` from 0 to 2 GiB and back to libvirt's
event that says it is done; what the emulator holds beside the guest's memory is read from its smaps
once the guest is up. The first round warms the host's caches and what the daemon knows of both
programs, and is not counted.

many: N small domains with a freestanding guest (tests/bare) that follows its devices: start them
all, resize one device of each, destroy them all; host memory is what the host has less of while
they run, their own memory included, divided by N.

Where the host is emulated, only the ratios mean anything.
"""

import argparse
import pathlib
import re
import statistics
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree

ROOT = pathlib.Path(__file__).resolve().parent.parent
for folder in ("bench", "tools/nest", "tools/demo", "tests/linux"):
    sys.path.insert(0, str(ROOT / folder))

import ebbcache  # noqa: E402  (the folders are only known now)
import footprint  # noqa: E402
import guests  # noqa: E402
import initrd  # noqa: E402
import lvhost  # noqa: E402
import nest  # noqa: E402

VERSION = "11.3"
KERNEL = guests.NEWEST
EMULATORS = {"qemu": "qemu/run", "ebb": "ebb"}
CELL_MIB = 1024  # not less than what footprint.py takes as a guest's memory
GROWN_MIB = 2048
SMALL_CELL_MIB, SMALL_SIZE_MIB, SMALL_GROWN_MIB = 32, 256, 64
TIMEOUT_S = 600


def host_files(args, tmp):
    image = f"{tmp}/initrd"
    initrd.build_guest(KERNEL, image, ("virtio_balloon",))
    return {
        "qemu": ebbcache.part_dir("qemu"),
        f"libvirt-{VERSION}": ebbcache.part_dir(f"libvirt/{VERSION}"),
        f"{KERNEL}/vmlinuz": ebbcache.kernel_dir(KERNEL) / "vmlinuz",
        f"{KERNEL}/{guests.DIRTY_DISK}": image,
        "bare-guest": args.bare,
    }


def timed(work):
    begin = time.monotonic()
    work()
    return time.monotonic() - begin


def one_life(daemon, emulator):
    """(start, grow, shrink) in seconds, and the emulator's own memory in MiB."""
    guest = lvhost.Guest(daemon, "q35", KERNEL)
    guest.devices.find("emulator").text = daemon.host.path(EMULATORS[emulator])
    lvhost.set_mib(guest.xml.find("memory"), 2 * CELL_MIB)
    for cell in guest.xml.iter("cell"):
        cell.set("memory", str(CELL_MIB))
    for device in guest.devices.iter("memory"):
        lvhost.set_mib(device.find("target/size"), 2 * GROWN_MIB)
        lvhost.set_mib(device.find("target/requested"), 0)
    guest.define()

    def start():
        guest.start()
        guest.console.ready(TIMEOUT_S)

    seconds = timed(start)
    guest.console.prompt(TIMEOUT_S)
    own, _ = footprint.own_kib(daemon.host.read_file(f"/proc/{guest.pid}/smaps").decode())
    grow = timed(lambda: guest.resize("virtiomem0", GROWN_MIB))
    shrink = timed(lambda: guest.resize("virtiomem0", 0))
    guest.virsh("destroy")
    guest.virsh("undefine")
    guest.console.stream.kill()
    return seconds, grow, shrink, own / 1024


def life(daemon, rounds):
    """Print the medians of ROUNDS rounds, and the ratios."""
    found = {name: [] for name in EMULATORS}
    for turn in range(rounds + 1):
        for name in EMULATORS:
            figures = one_life(daemon, name)
            if turn:
                found[name].append(figures)
                print(f"round {turn}: {name}", *(f"{figure:.2f}" for figure in figures), flush=True)
    report(("first line s", "grow s", "shrink s", "own MiB"), found)


def report(heads, found):
    medians = {name: [statistics.median(v) for v in zip(*rows)] for name, rows in found.items()}
    ratios = [ebb / qemu for ebb, qemu in zip(medians["ebb"], medians["qemu"])]
    print(f"{'':<8}" + "".join(f"{head:>14}" for head in heads))
    for name, row in (*medians.items(), ("ratio", ratios)):
        print(f"{name:<8}" + "".join(f"{figure:>14.2f}" for figure in row), flush=True)


def small_domain(host, name, emulator):
    """The XML of a small domain with a guest that follows its devices."""
    root = ElementTree.parse(lvhost.EXAMPLES / "pc.xml").getroot()
    root.find("name").text = name
    lvhost.set_mib(root.find("memory"), 2 * SMALL_CELL_MIB)
    lvhost.set_mib(root.find("maxMemory"), 1024)
    for cell in root.iter("cell"):
        cell.set("unit", "MiB")
        cell.set("memory", str(SMALL_CELL_MIB))
    for device in root.iterfind("devices/memory"):
        lvhost.set_mib(device.find("target/size"), SMALL_SIZE_MIB)
        lvhost.set_mib(device.find("target/requested"), 0)
    system = root.find("os")
    system.remove(system.find("initrd"))
    system.find("kernel").text = host.path("bare-guest")
    # It ticks slowly: all share one processor.
    system.find("cmdline").text = "test=vmem-follow devices=2 tick=1000"
    root.find("devices/emulator").text = host.path(EMULATORS[emulator])
    return root


def available_mib(host):
    text = host.read_file("/proc/meminfo").decode()
    return int(re.search(r"MemAvailable:\s+(\d+)", text)[1]) / 1024


def many(daemon, count):
    """Print what COUNT domains take with each emulator."""
    host, found = daemon.host, {}
    for emulator in EMULATORS:
        names = [f"{emulator}-{number}" for number in range(count)]
        for name in names:
            path = host.path("small.xml")
            host.write_file(path, ElementTree.tostring(small_domain(host, name, emulator)))
            daemon.virsh(f"define {path}")
        before = available_mib(host)

        def each(command, *words):
            for name in names:
                daemon.virsh(f"{command} {name} {' '.join(words)}", TIMEOUT_S)

        def resize():
            daemon.events.take()
            size = f"--requested-size {SMALL_GROWN_MIB}MiB"
            each("update-memory-device", "--alias virtiomem0", size, "--live")
            said = rf"size: {SMALL_GROWN_MIB * 1024}\s"
            for _ in names:
                daemon.event("memory-device-size-change", rf"alias: virtiomem0\s+{said}", TIMEOUT_S)

        start = timed(lambda: each("start"))
        held = (before - available_mib(host)) / count
        grow = timed(resize)
        end = timed(lambda: each("destroy"))
        each("undefine")
        found[emulator] = [(start, grow, end, held)]
    print(f"{count} domains")
    report(("start s", "resize s", "destroy s", "MiB each"), found)


def measure(args, tmp):
    with nest.open_host(files=host_files(args, tmp), programs={"ebb": args.ebb}) as host:
        with lvhost.Daemon(host, VERSION) as daemon:
            if args.only != "many":
                life(daemon, args.rounds)
            if args.only != "life":
                many(daemon, args.guests)


def main():
    parser = argparse.ArgumentParser(description="Compare emulators under libvirt.")
    parser.add_argument("--ebb", required=True, help="the ebb program to measure")
    parser.add_argument("--bare", help="the freestanding guest (else that of EBB's build)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--guests", type=int, default=50)
    parser.add_argument("--only", choices=("life", "many"))
    args = parser.parse_args()
    if args.rounds < 1 or args.guests < 1:
        parser.error("--rounds and --guests must be at least 1")
    args.bare = args.bare or pathlib.Path(args.ebb).resolve().parents[2] / "tests/bare/bare-guest"
    with tempfile.TemporaryDirectory(prefix="ebb-bench-") as tmp:
        nest.retry_infra(lambda: measure(args, tmp))


if __name__ == "__main__":
    main()
