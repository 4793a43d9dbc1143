#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The demo behind ./demo: build, fetch, and play the RFC's scenario for a person to see.

Usage text and options are in the shell script ./demo, which has set the machine up.

Ending it at any moment (Ctrl-C, a closed terminal, kill) leaves the terminal as it was, no
process, and no file but the build folder and the cache: every resource belongs to a with
statement, and signals arrive as exceptions in the main thread.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent / "nest"))

import ebbcache  # noqa: E402  (the folders are only known now)
import nest  # noqa: E402
import play  # noqa: E402
import scenario  # noqa: E402

BUILD = ROOT / "build"
PROGRAM = "vmm/main/ebb"
MONITOR_WIDTH, GUEST_WIDTH = 43, 21
# Lines that fit stay as the monitor wrote them.
KEPT = {"drop_whitespace": False, "break_on_hyphens": False, "subsequent_indent": "    "}


class DemoFailed(Exception):
    """The demo cannot go on; the text says why."""


class Screen:
    """Lines for the person. On a terminal the last line may show what is under way."""

    def __init__(self):
        self.begin = time.monotonic()
        self.live = sys.stdout.isatty()
        self.pending = False

    def line(self, text=""):
        if self.pending:
            sys.stdout.write("\r\x1b[K")
            self.pending = False
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def stage(self, text):
        """A line of progress, with the time since the start."""
        self.line(f"[{time.monotonic() - self.begin:4.0f} s] {text}")

    def progress(self, text):
        """What is under way; replaced by whatever comes next."""
        if self.live:
            columns = shutil.get_terminal_size().columns
            sys.stdout.write(f"\r\x1b[K  ... {text}"[: columns + 3])
            sys.stdout.flush()
            self.pending = True


@contextlib.contextmanager
def child(words, **options):
    """A process that has ended when the with statement ends."""
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()


def quiet(words):
    """Run WORDS; show what it said only when it fails."""
    with child(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        output = process.communicate()[0]
    if process.returncode:
        sys.stdout.write(output)
        raise DemoFailed(f"{' '.join(words)} failed with status {process.returncode}")


def build(screen):
    """Build ebb; returns its path. A folder that is configured already is taken as it is."""
    if not (BUILD / "build.ninja").exists():
        quiet(["meson", "setup", "--buildtype=release", str(BUILD), str(ROOT)])
    quiet(["ninja", "-C", str(BUILD), PROGRAM])
    version = subprocess.run(
        [str(BUILD / PROGRAM), "--version"], capture_output=True, text=True, check=True
    )
    screen.stage(f"built {version.stdout.splitlines()[0]}")
    return BUILD / PROGRAM


def prepare(screen, kernel):
    """Fetch what is missing while ebb is built; returns ebb's path."""
    parts = ["busybox", f"kernel/{kernel}"]
    if nested():
        parts += ebbcache.BASE_PARTS
    parts = list(dict.fromkeys(parts))
    missing = [p for p in parts if not (ebbcache.cache_dir() / p).is_dir()]
    if missing:
        screen.stage(f"building, and fetching {', '.join(missing)} meanwhile")
    else:
        screen.stage("building")
    fetch = [sys.executable, "-B", str(HERE.parent / "nest" / "fetch.py"), *parts]
    with child(fetch) as fetcher:
        program = build(screen)
        if fetcher.wait() != 0:
            raise DemoFailed("fetching failed, see above; nothing else can be shown without it")
    return program


def nested():
    """Whether the guest will run in an emulated host (see nest.open_host)."""
    chosen = os.environ.get("EBB_NEST")
    return not nest.host_kvm_can_run_linux() if chosen is None else chosen != "0"


def show_command(screen, host, kernel):
    """The command line, in the lines of the RFC."""
    lines = [host.path("ebb"), *scenario.command_text(host, kernel).strip().splitlines()]
    screen.line()
    for line in lines[:-1]:
        screen.line(f"  {line} \\")
    screen.line(f"  {lines[-1]}")


def show_moment(screen, moment):
    """The three sources side by side, and the verdict."""
    monitor = []
    for command, text in moment.shown:
        monitor.append(f"(monitor) {command}")
        for line in text.rstrip("\n").split("\n"):
            monitor += textwrap.wrap(line, MONITOR_WIDTH - 1, **KEPT) or [""]
    guest = []
    for node, total in sorted(moment.guest_mib.items()):
        guest += [f"node {node}:", f"{total:9.1f} MB MemTotal"]
        guest += [f"{moment.guest_plugged_mib[node]:9.1f} MB plugged"]
    held = ["ebb's RSS:", f"{moment.rss_bytes / scenario.MIB:8.1f} MB"]
    screen.line()
    screen.line(f"Step {moment.step.number}: {moment.step.title}   ({moment.seconds:.1f} s)")
    screen.line()
    rows = [["the monitor says", "the guest says", "the host holds"]]
    rows.append(["-" * (MONITOR_WIDTH - 2), "-" * (GUEST_WIDTH - 2), "-" * 14])
    for i in range(max(len(monitor), len(guest), len(held))):
        rows.append([column[i] if i < len(column) else "" for column in (monitor, guest, held)])
    for left, middle, right in rows:
        screen.line(f"  {left:{MONITOR_WIDTH}}{middle:{GUEST_WIDTH}}{right}".rstrip())
    screen.line()
    for note in moment.notes:
        screen.line(f"  note: {note}")
    for problem in moment.problems:
        screen.line(f"  WRONG: {problem}")
    if not moment.problems:
        screen.line("  as in the RFC")


def show_table(screen, moments, kernel, host):
    """All of it on one screen."""
    screen.line()
    screen.line(f"The RFC's scenario, guest kernel {kernel}, sizes in MB, node 0 / node 1")
    screen.line()
    head = ("step", "monitor", "guest, plugged", "RSS", "the RFC's", "")
    form = "  {:<31}{:>14}{:>17}{:>7}{:>15}  {}"
    screen.line(form.format(*head))
    for moment in moments:
        step = moment.step
        figures = [f"{step.number} {step.title}"]
        figures.append(" / ".join(str(moment.node_mib.get(n)) for n in scenario.CPUS))
        plugged = [f"{moment.guest_plugged_mib.get(n, 0):.0f}" for n in scenario.CPUS]
        figures.append(" / ".join(plugged))
        figures.append(f"{moment.rss_bytes // scenario.MIB}")
        rfc = "2212" if step.left else str(step.nodes[0])
        figures.append(f"{rfc} / {step.nodes[1]}")
        screen.line(form.format(*figures, "WRONG" if moment.problems else "ok"))
    screen.line()
    for moment in moments:
        if moment.step.left:
            notes = "; ".join([f"request status {moment.request.get('Request status')}", *moment.notes])
            screen.line(f"  Step {moment.step.number}: {notes}.")
    if isinstance(host, nest.Nest):
        screen.line("  KVM: in an emulated host. Times there are no measure of speed.")
    else:
        screen.line("  KVM: this machine's.")


def run_scenario(screen, kernel, program):
    """One run of the scenario; returns whether every figure is right."""
    moments = []
    with scenario.prepared([kernel], program) as parts:
        if nested():
            screen.stage("this machine's KVM cannot run stock guests: starting an emulated host")
        with nest.open_host(**parts) as host:
            if nested():
                screen.stage(f"the emulated host is up, with KVM ({host.boot_seconds:.0f} s)")
            screen.stage(f"booting Debian's {kernel} kernel under ebb:")
            show_command(screen, host, kernel)
            screen.line()
            for moment in scenario.play(host, kernel, screen.progress, screen.stage):
                moments.append(moment)
                show_moment(screen, moment)
            show_table(screen, moments, kernel, host)
    screen.line()
    right = not any(moment.problems for moment in moments)
    if right:
        screen.stage("every figure is the RFC's")
    else:
        screen.stage("some figures are NOT the RFC's: see WRONG above")
    return right


def run_play(screen, kernel, program):
    """Leave the person at the guest's shell and the monitor's prompt."""
    with scenario.prepared([kernel], program) as parts:
        if nested():
            screen.stage("this machine's KVM cannot run stock guests: starting an emulated host")
        with nest.open_host(**parts) as host:
            screen.stage("the guest boots; try there: meminfo, fill 512, unfill, poweroff -f")
            screen.line("         and at the monitor: info numa, info memory-devices,")
            screen.line("         info virtio-mem reg0, virtio-mem reg0 2048 -w, help, quit")
            # At a terminal, Ctrl-C would end ebb; here it is for the guest's shell.
            typed = scenario.command_line(host, kernel)
            command = [w.replace("stdio,id=serial", "stdio,id=serial,signal=off") for w in typed]
            return play.play(host, command, scenario.MONITOR) == 0


def parse(words):
    parser = argparse.ArgumentParser(prog="./demo", add_help=False, allow_abbrev=False)
    parser.add_argument("--play", action="store_true")
    parser.add_argument("--kernel", default="6.12-cloud", choices=sorted(ebbcache.KERNELS))
    return parser.parse_args(words)


def raise_exit(signo, _frame):
    raise SystemExit(128 + signo)


def main():
    args = parse(sys.argv[1:])
    if args.play and not (sys.stdin.isatty() and sys.stdout.isatty()):
        print("./demo --play: needs a terminal", file=sys.stderr)
        return 2
    for signo in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signo, raise_exit)
    screen = Screen()
    try:
        program = prepare(screen, args.kernel)
        work = run_play if args.play else run_scenario
        return 0 if nest.retry_infra(lambda: work(screen, args.kernel, program)) else 1
    except nest.NestInfraError as error:
        screen.line(f"demo: the emulated host failed, which says nothing about ebb: {error}")
    except (
        *(nest.NestTimeout, nest.StreamEnded, nest.CommandFailed, DemoFailed),
        *(ebbcache.MissingPart, OSError, ValueError),
    ) as error:
        screen.line(f"demo: {error}")
    except KeyboardInterrupt:
        screen.line("demo: ended")
        return 130
    return 1


if __name__ == "__main__":
    sys.exit(main())
