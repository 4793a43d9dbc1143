#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""How long monitor commands take while memory is resized, and what the monitor itself costs.

    control.py --build FOLDER [--gib N] [--rounds N] [--only PART]... [--json FILE]

latency   a freestanding guest goes from 0 to N GiB and back, in steps of 128 MiB as a Linux driver
          does, over and over; meanwhile one client sends each command in turn and waits for its
          answer. Times are those of the client, from send to the last byte. Once with nothing
          going on, once with memory that the host gives when it is touched, once with memory that
          is allocated when it is plugged (prealloc=on), once with memory that the guest wrote to
          before it gives it back.
cost      query-status as fast as one client can: one at a time, and 64 sent ahead; beside QEMU's
          monitor of the same host, where qemu-system-x86_64 is installed (a machine that executes
          nothing, under both). What a client that only listens costs in memory.

Where KVM interprets guest code, the guest is slow and the monitor is not: latencies still mean what
they say.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "vm"))

GIB = 1 << 30
MIB = 1 << 20
STEP = "128M"
SMALL_MIB = 64
COMMANDS = {
    "query-status": None,
    "query-memory-devices": None,
    "qom-get": {"path": "/machine/peripheral/d0", "property": "size"},
}
RESIZE = "virtio-mem-resize"
AIM_P99_MS = 20
COST_COMMANDS = 20000
AHEAD = 64
IDLE_CLIENTS = 200
QEMU_ARGS = ["-machine", "q35", "-accel", "tcg", "-m", "128M"]


def percentile(values, part):
    """The value that PART of all are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


class Clock:
    """Times of commands, by name."""

    def __init__(self):
        self.times = {}

    def call(self, qmp, command, arguments=None):
        begin = time.perf_counter()
        value = qmp.call(command, arguments)
        self.times.setdefault(command, []).append(time.perf_counter() - begin)
        return value

    def summary(self):
        """{command: (count, p50, p99, max)}, in milliseconds."""
        return {
            name: (
                len(times),
                *(1000 * percentile(times, part) for part in (0.5, 0.99)),
                1000 * max(times),
            )
            for name, times in self.times.items()
        }


def machine_args(ebbvm, gib, prealloc):
    """A large device and a small one, for commands that resize something themselves."""
    extra = f",prealloc={'on' if prealloc else 'off'}"
    args = ["-m", f"128M,maxmem={gib + 8}G"]
    args += ebbvm.memory_devices((f"{gib}G", "0", "2M", 0), extra=extra)
    args += ["-object", f"memory-backend-ram,id=m1,size={2 * SMALL_MIB}M"]
    return args + ["-device", "virtio-mem-pci,id=d1,memdev=m1,requested-size=0,block-size=2M"]


def jobs_done(qmp):
    """End with the jobs that are over; True when none is left."""
    jobs = qmp.call("query-jobs")
    for job in jobs:
        if job["status"] == "concluded":
            qmp.call("job-dismiss", {"id": job["id"]})
    return all(job["status"] == "concluded" for job in jobs)


def sample(clock, qmp, turn):
    """Each command once."""
    for command, arguments in COMMANDS.items():
        clock.call(qmp, command, arguments)
    if jobs_done(qmp):
        size = SMALL_MIB * MIB * (1 + turn % 2)
        clock.call(qmp, RESIZE, {"device": "d1", "size": size})


def resize_and_sample(clock, qmp, size):
    """Ask for SIZE of the large device, and for all else until the guest has it; how long."""
    begin, turn = time.monotonic(), 0
    qmp.call("qom-set", {"path": "d0", "property": "requested-size", "value": size})
    while True:
        sample(clock, qmp, turn)
        turn += 1
        devices = qmp.call("query-memory-devices")
        if next(d["data"]["size"] for d in devices if d["data"]["id"] == "d0") == size:
            return time.monotonic() - begin


def latency(ebbvm, args, prealloc, touch):
    """(latencies at rest, during resizes, seconds from 0 to N GiB) of one machine."""
    rest, busy, grown = Clock(), Clock(), []
    words = f"test=vmem-follow devices=2 step={STEP}"
    with tempfile.TemporaryDirectory(prefix="ebb-") as folder:
        options = machine_args(ebbvm, args.gib, prealloc)
        with ebbvm.Machine(folder, words, options, qmp=True) as machine:
            machine.console.expect("^follow: ready$")
            qmp = machine.qmp()
            for turn in range(1000):
                sample(rest, qmp, turn)
            for _ in range(args.rounds):
                grown.append(resize_and_sample(busy, qmp, args.gib * GIB))
                if touch:
                    machine.type("touch 0")
                    machine.console.expect(r"^touched 0 ", timeout=600)
                resize_and_sample(busy, qmp, 0)
    return rest.summary(), busy.summary(), statistics.median(grown)


def rate(qmp, ahead):
    """query-status per second, with AHEAD of them sent before the first answer is read."""
    begin = time.perf_counter()
    for _ in range(COST_COMMANDS // ahead):
        for number in [qmp.send("query-status") for _ in range(ahead)]:
            qmp.answer(number)
    return COST_COMMANDS // ahead * ahead / (time.perf_counter() - begin)


def own_seconds(pid):
    """Processor time of the process so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def costs(machine, rounds):
    """(per second one at a time, per second ahead, microseconds of processor time each)."""
    qmp, single, ahead = machine.qmp(), [], []
    rate(qmp, 1)
    before = own_seconds(machine.process.pid)
    for _ in range(rounds):
        single.append(rate(qmp, 1))
        ahead.append(rate(qmp, AHEAD))
    used = own_seconds(machine.process.pid) - before
    qmp.close()
    each = 1e6 * used / (2 * rounds * COST_COMMANDS)
    return statistics.median(single), statistics.median(ahead), each


def cost(ebbvm, qemu, args):
    """{monitor: costs}, and bytes for an idle client of ebb."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="ebb-") as folder:
        with ebbvm.Machine(folder, "test=echo", ["-m", "128M", "-S"], qmp=True) as machine:
            found["ebb"] = costs(machine, args.rounds)
            before = machine.rss_anon_bytes()
            for _ in range(IDLE_CLIENTS):
                machine.qmp()
            idle = (machine.rss_anon_bytes() - before) / IDLE_CLIENTS
        if not qemu.missing():
            with qemu.Qemu(folder, QEMU_ARGS) as machine:
                found["qemu"] = costs(machine, args.rounds)
    return found, idle


def print_latency(name, summary):
    for command, (count, p50, p99, most) in summary.items():
        print(f"{name:<26} {command:<22} {count:>7} {p50:>8.3f} {p99:>8.3f} {most:>8.3f}")


def run_latency(ebbvm, args, results):
    print(f"{'milliseconds':<26} {'command':<22} {'times':>7} {'p50':>8} {'p99':>8} {'max':>8}")
    kinds = {
        f"{args.gib} GiB": (False, False),
        f"{args.gib} GiB, prealloc": (True, False),
        f"{args.gib} GiB, touched": (False, True),
    }
    worst = 0
    for kind, (prealloc, touch) in kinds.items():
        rest, busy, seconds = latency(ebbvm, args, prealloc, touch)
        if not results:
            print_latency("at rest", rest)
        print_latency(kind, busy)
        print(f"{'':<26} (0 to {args.gib} GiB in {seconds:.2f} s, median)", flush=True)
        results[kind] = {"rest": rest, "busy": busy, "seconds": seconds}
        worst = max([worst, *(p99 for _, _, p99, _ in busy.values())])
    met = "met" if worst < AIM_P99_MS else "missed"
    print(f"largest p99 {worst:.3f} ms; aim {AIM_P99_MS} ms: {met}")


def run_cost(ebbvm, qemu, args, results):
    found, idle = cost(ebbvm, qemu, args)
    print(f"{'query-status':<26} {'one by one':>12} {f'{AHEAD} ahead':>12} {'CPU each':>12}")
    for name, (single, ahead, each) in found.items():
        print(f"{name:<26} {single:>10.0f}/s {ahead:>10.0f}/s {each:>9.1f} us")
    if "qemu" in found:
        ratios = [e / q for e, q in zip(found["ebb"], found["qemu"])]
        print(f"{'ebb / QEMU':<26} {ratios[0]:>12.2f} {ratios[1]:>12.2f} {ratios[2]:>12.2f}")
    else:
        print(f"(no QEMU beside it: {qemu.missing()})")
    print(f"memory for a client that only listens: {idle / 1024:.1f} KiB")
    results["cost"] = {**found, "idle client bytes": idle}


def main():
    parser = argparse.ArgumentParser(description="Measure the control plane.")
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build", help="build folder")
    parser.add_argument("--gib", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=("latency", "cost"), default=[])
    parser.add_argument("--json", type=pathlib.Path, help="write all figures to this file")
    args = parser.parse_args()
    if args.rounds < 1 or not 1 <= args.gib <= 256:
        parser.error("--rounds must be at least 1, --gib between 1 and 256")
    os.environ["EBB_BUILD"] = str(args.build.resolve())
    import ebbvm  # pylint: disable=import-outside-toplevel  (it reads EBB_BUILD)
    import qemu  # pylint: disable=import-outside-toplevel

    if ebbvm.kvm_missing():
        parser.exit(1, f"control.py: {ebbvm.kvm_missing()}\n")
    results = {}
    parts = args.only or ["latency", "cost"]
    if "latency" in parts:
        run_latency(ebbvm, args, results)
    if "cost" in parts:
        run_cost(ebbvm, qemu, args, results)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
