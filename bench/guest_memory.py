#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What replugged memory is like for a guest: speed and huge pages, with the guard on and off.

    guest_memory.py --ebb PROGRAM [--kernel NAME] [--host-kernel NAME] [--mib N] [--rounds N]

One stock guest with 512 MiB of boot memory grows by N MiB, fills them, gives all back, grows again;
then a program takes most of that memory and measures streaming and random reads and writes, and the
host is asked how much of the device's memory is backed by huge pages. So for ebb with guard=on and
guard=off and for QEMU, in the same host, in turn; printed are medians and their ratios. Where the
host is emulated, only the ratios mean anything.
"""

import argparse
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))
sys.path.insert(0, str(ROOT / "tools" / "nest"))

import ebbcache  # noqa: E402  (the folders are only known now)
import initrd  # noqa: E402
import nest  # noqa: E402
import resize  # noqa: E402

BOOT_MIB = 512
FIGURES = ("touch", "stream-write", "stream-read", "random-write", "random-read")
APPEND = "console=ttyS0 quiet panic=-1 memhp_default_state=online_movable"


def command(host, name, mib):
    """The command line of the monitor NAME, with its monitor's socket."""
    guard = {"ebb on": ",guard=on", "ebb off": ",guard=off", "qemu": ""}[name]
    program = host.path("qemu/run") if name == "qemu" else host.path("ebb")
    words = [program, "-accel", "kvm", "-machine", "pc", "-m", f"{BOOT_MIB}M,maxmem=16G"]
    words += ["-cpu", "host", "-nodefaults", "-display", "none", "-no-reboot"]
    words += ["-object", f"memory-backend-ram,id=mem0,size={mib}M,reserve=off"]
    words += ["-device", f"virtio-mem-pci,id=reg0,memdev=mem0,requested-size=0{guard}"]
    words += ["-chardev", "stdio,id=serial", "-device", "isa-serial,chardev=serial"]
    words += ["-kernel", host.path("vmlinuz"), "-initrd", host.path("initrd"), "-append", APPEND]
    words += ["-chardev", f"socket,id=mon,path={host.path('mon.sock')},server=on,wait=off"]
    return words + ["-mon", "chardev=mon,mode=readline"]


def resize_to(host, name, mib):
    """Ask for MIB MiB and wait until the guest has just that."""
    kind = "qemu" if name == "qemu" else "ebb"
    sock = host.path("mon.sock")
    word = f"qom-set reg0 requested-size {mib}M" if kind == "qemu" else f"virtio-mem reg0 {mib}M"
    host.hmp(sock, word)
    begin = time.monotonic()
    while time.monotonic() - begin < resize.RESIZE_TIMEOUT_S:
        text = host.hmp(sock, "info memory-devices")
        if int(re.search(r"^\s+size: (\d+)$", text, re.M).group(1)) == mib << 20:
            return
    raise nest.NestTimeout(f"{name}: not at {mib} MiB: {text}")


def huge_share(smaps, mib):
    """(resident MiB, share of them in huge pages) of the guest's memory.

    A device's memory may be in pieces that adjoin each other, and boot memory may adjoin it:
    anonymous neighbours are joined, and what is then as large as the device counts.
    """
    regions = []
    pattern = r"^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ 00:00 0 *\n((?:\w+:.*\n)+)"
    for start, end, body in re.findall(pattern, smaps, re.M):
        start, end = int(start, 16), int(end, 16)
        rss = int(re.search(r"^Rss:\s+(\d+)", body, re.M).group(1))
        huge = int(re.search(r"^AnonHugePages:\s+(\d+)", body, re.M).group(1))
        if regions and regions[-1]["end"] == start:
            regions[-1]["end"] = end
            regions[-1]["rss"] += rss
            regions[-1]["huge"] += huge
        else:
            regions.append({"start": start, "end": end, "rss": rss, "huge": huge})
    found = [r for r in regions if r["end"] - r["start"] >= mib << 20]
    rss, huge = sum(r["rss"] for r in found), sum(r["huge"] for r in found)
    return rss >> 10, huge / rss if rss else 0.0


def one_round(host, name, mib):
    """Boot, grow, fill, shrink, grow, measure: {figure: value}."""
    monitor = host.spawn(name, command(host, name, mib))
    guest = nest.GuestConsole(monitor)
    guest.login(180)
    use = mib * 3 // 4
    resize_to(host, name, mib)
    filled = guest.run(f"memload {use} 1", 600)
    assert filled.status == 0, filled.output
    resize_to(host, name, 0)
    resize_to(host, name, mib)
    done = guest.run(f"memload {use}", 600)
    assert done.status == 0, done.output
    found = {k: float(v) for k, v in re.findall(r"^([\w-]+) ([\d.]+)$", done.output, re.M)}
    smaps = host.read_file(f"/proc/{monitor.pid}/smaps").decode()
    found["resident"], found["huge"] = huge_share(smaps, mib)
    monitor.kill()
    monitor.wait(30)
    return found


def measure(args, tmp):
    """All rounds in one host: {monitor: [{figure: value}...]}."""
    subprocess.run(
        ["cc", "-O2", "-static", "-o", f"{tmp}/memload", str(ROOT / "bench" / "memload.c")],
        check=True,
    )
    initrd.build_guest(args.kernel, f"{tmp}/initrd", files={"bin/memload": f"{tmp}/memload"})
    files = {
        "qemu": ebbcache.part_dir("qemu"),
        "vmlinuz": ebbcache.kernel_dir(args.kernel) / "vmlinuz",
        "initrd": f"{tmp}/initrd",
    }
    found = {"ebb on": [], "ebb off": [], "qemu": []}
    options = {"kernel": args.host_kernel} if args.host_kernel else {}
    with nest.open_host(files=files, programs={"ebb": args.ebb}, **options) as host:
        print(host.check("uname -r").strip(), "in the host", flush=True)
        for turn in range(args.rounds):
            for name, rounds in found.items():
                rounds.append(one_round(host, name, args.mib))
                print(f"round {turn + 1}: {name}: {rounds[-1]}", flush=True)
    return found


def report(found):
    """Print medians and the ratios to guard=off and to QEMU."""
    names = list(found)
    medians = {
        n: {f: statistics.median(r[f] for r in found[n]) for f in (*FIGURES, "resident", "huge")}
        for n in names
    }
    print(f"{'':<14}" + "".join(f"{n:>12}" for n in names) + f"{'on/off':>10}{'on/qemu':>10}")
    for figure in FIGURES:
        values = [medians[n][figure] for n in names]
        ratios = f"{values[0] / values[1]:>10.3f}{values[0] / values[2]:>10.3f}"
        print(f"{figure:<14}" + "".join(f"{v:>12.2f}" for v in values) + ratios)
    print(f"{'resident MiB':<14}" + "".join(f"{medians[n]['resident']:>12.0f}" for n in names))
    print(f"{'huge pages':<14}" + "".join(f"{medians[n]['huge']:>12.1%}" for n in names))


def main():
    parser = argparse.ArgumentParser(description="Compare replugged memory as a guest sees it.")
    parser.add_argument("--ebb", required=True, help="the ebb program to measure")
    parser.add_argument("--kernel", default="6.12-cloud", choices=sorted(ebbcache.KERNELS))
    parser.add_argument("--host-kernel", choices=sorted(ebbcache.KERNELS))
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if args.rounds < 1 or args.mib < 256:
        parser.error("--rounds must be at least 1, --mib at least 256")
    with tempfile.TemporaryDirectory(prefix="ebb-bench-") as tmp:
        found = nest.retry_infra(lambda: measure(args, tmp))
    report(found)


if __name__ == "__main__":
    main()
