#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""How soon a guest runs that was saved, natively: from the start of ebb to its first instruction, and
to its first answer.

    restore.py --build FOLDER [--mib N] [--rounds N] [--json FILE]

A freestanding guest that wrote to N MiB (900) of its boot memory is saved as an image (file:) and as a
stream (exec:cat >), and started again from each in turn; the files lie in the host's page cache. "runs"
is the RESUME event, "answers" when the guest has answered on its console. An image is read further
while the guest runs.
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

KINDS = {"image": ("file:FILE", "file:FILE"), "stream": ("exec:cat > FILE", "exec:cat FILE")}
FIGURES = ("runs", "answers")


def save(guest, uri):
    from migrating import CAPS, PARAMS, capabilities, succeed

    capabilities(guest.qmp, **CAPS)
    guest.qmp.execute("migrate-set-parameters", **PARAMS)
    guest.qmp.take_events("MIGRATION")
    guest.qmp.execute("migrate", uri=uri)
    succeed(guest.qmp)
    guest.qmp.execute("cont")


def start(guest, uri):
    """{figure: milliseconds} of one start."""
    begin = time.monotonic()
    with guest.new("-incoming", uri) as machine:
        qmp = machine.qmp()
        if qmp.execute("query-status")["status"] != "running":
            qmp.wait_event("RESUME")
        runs = time.monotonic() - begin
        machine.type("report")
        machine.console.expect(r"^pattern turns=.*\n")
        answers = time.monotonic() - begin
        qmp.execute("quit")
        machine.wait()
    return {name: value * 1000 for name, value in zip(FIGURES, (runs, answers))}


def measure(args):
    from migrating import Guest
    from pattern import Pattern

    found = {kind: [] for kind in KINDS}
    append = f"test=pattern devices=0 arena={args.mib}M fill=1 rate=0"
    with tempfile.TemporaryDirectory(prefix="ebb-bench-", dir=args.folder) as folder:
        with Guest(pathlib.Path(folder), append, ["-m", f"{args.mib + 64}M"]) as guest:
            Pattern(guest.machine)
            files = {kind: f"{folder}/{kind}" for kind in KINDS}
            for kind, (uri, _) in KINDS.items():
                save(guest, uri.replace("FILE", files[kind]))
            for turn in range(args.rounds + 1):
                for kind, (_, uri) in KINDS.items():
                    figures = start(guest, uri.replace("FILE", files[kind]))
                    if turn:
                        found[kind].append(figures)
                        shown = ", ".join(f"{k} {v:.0f} ms" for k, v in figures.items())
                        print(f"round {turn}: {kind}: {shown}", flush=True)
    return found


def report(found):
    print(f"{'from':<10}" + "".join(f"{name + ', ms':>14}" for name in FIGURES))
    for kind, rounds in found.items():
        medians = [statistics.median(r[name] for r in rounds) for name in FIGURES]
        print(f"{kind:<10}" + "".join(f"{value:>14.0f}" for value in medians))


def main():
    parser = argparse.ArgumentParser(description="Time starts from saved machines.")
    parser.add_argument("--build", required=True, help="the build folder")
    parser.add_argument("--mib", type=int, default=900, help="memory that the guest wrote to")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="where the files lie")
    parser.add_argument("--json", help="write all figures to this file")
    args = parser.parse_args()
    if args.rounds < 1 or not 1 <= args.mib <= 960:
        parser.error("--rounds must be at least 1, --mib between 1 and 960")
    os.environ["EBB_BUILD"] = args.build
    found = measure(args)
    report(found)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
