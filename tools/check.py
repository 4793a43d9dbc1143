#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The checks behind ./check: build, run every kind of test, count.

Usage text and options are in the shell script ./check, which has set the machine up. Each part is
a function that fills a Tally; parts share the folders below build-check/, so that one part alone
can be run. What a part printed is shown when it failed, and kept in build-check/NAME.log.

Invariant: a test that did not run is never counted as passed. A program that ends before it has
reported the tests that it planned, a part that cannot start and a result file that is missing all
count as failures.
"""

import argparse
import contextlib
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree

TOOLS = pathlib.Path(__file__).resolve().parent
ROOT = TOOLS.parent
CHECK = ROOT / "build-check"
PROGRAM = "vmm/main/ebb"
SHOWN_LINES = 60
# Longer than any command takes on two slow processors: one that hangs must not hang the rest.
COMMAND_TIMEOUT_S = {"linux": 1250, "bare": 900, "tsan": 1000, "clang": 900}
COMMAND_TIMEOUT_DEFAULT_S = 600
# Whoever waits for the result gives up a little later: what was found by then shall be told.
TOTAL_TIMEOUT_S = 1440

# -O1: compiling takes longer than what is run.
SANITIZER_OPTIONS = ("-Db_lundef=false", "-Doptimization=1")
ASAN_ENV = {
    "ASAN_OPTIONS": "detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}
# Machines with ASan and UBSan: those tests in which parts come, go and end while others use them.
SANITIZED = [
    "tests/vm/test_probe.py",
    "tests/vm/test_qmp.py",
    "tests/vm/test_hotplug.py",
    "tests/vm/test_hotplug_random.py",
    "tests/vm/test_commands_random.py",
    "tests/vm/test_resizes_random.py",
    "tests/vm/test_end_random.py",
    "tests/vm/test_migrate_storm.py",
]
# Of tests/vm, what mostly waits: for guests that shall do nothing.
PATIENT = ["tests/vm/test_resize_job.py"]
TSAN_ENV = {"TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1"}
# The unit tests of what one thread has to itself: how their names begin.
ONE_THREAD = ("base-", "cmdline-", "device-random", "driver-", "machine", "model", "qmp-")
# How a sanitizer, or an assertion that no test made, says in one line what ended the program.
LAST_WORDS = re.compile(
    r"^(?:.*runtime error: |SUMMARY: \w+Sanitizer: |FATAL: \w+Sanitizer|.*Sanitizer: CHECK failed"
    r"|.*: Assertion `).*$",
    re.M,
)

# The processes of parts that run, and whether all is to end.
RUNNING = set()
ENDING = threading.Event()
# The plain build, once it is made.
GCC_LOCK = threading.Lock()
GCC_FOLDERS = []
# What is run and waited for, but leaves processors to whom they are short for.
YIELDING = ["nice", "-n", "19"]


class PartFailed(Exception):
    """A part could not do its work; the text says why."""


class Tally:
    """What a part found. FAILED holds a line, SKIPPED (test, reason), for each test."""

    def __init__(self, name):
        self.name = name
        self.passed = 0
        self.failed = []
        self.skipped = []
        self.seconds = 0.0
        self.log = CHECK / f"{name}.log"

    def run(self, words, env=None, shown=None):
        """Run WORDS with its output in the log; returns the status. The process and what it
        started end when this is left."""
        if ENDING.is_set():
            raise PartFailed("it was ended")
        if shown:
            say(f"{self.name}: {shown}")
        with open(self.log, "ab") as log:
            log.write(f"$ {' '.join(map(str, words))}\n".encode())
            log.flush()
            process = subprocess.Popen(
                [str(word) for word in words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
            left = max(0, TOTAL_TIMEOUT_S - (time.monotonic() - BEGIN))
            limit = min(left, COMMAND_TIMEOUT_S.get(self.name, COMMAND_TIMEOUT_DEFAULT_S))
            RUNNING.add(process)
            try:
                if ENDING.is_set():
                    raise PartFailed("it was ended")
                return process.wait(limit)
            except subprocess.TimeoutExpired as late:
                raise PartFailed(f"{words[0]} did not end in {limit:.0f} s") from late
            finally:
                RUNNING.discard(process)
                end_group(process)

    def check(self, name, words, env=None, shown=None):
        """A command that is a test by itself."""
        status = self.run(words, env, shown)
        if status == 0:
            self.passed += 1
        else:
            self.failed.append(f"{name} (status {status})")
        return status == 0


def end_group(process):
    """End PROCESS, gently first so that it can tidy up."""
    for signo, seconds in ((signal.SIGINT, 20), (signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        if process.poll() is not None:
            return
        try:
            os.killpg(process.pid, signo)
            process.wait(seconds)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def say(text):
    print(f"[{time.monotonic() - BEGIN:4.0f} s] {text}", flush=True)


BEGIN = time.monotonic()


def configure(tally, name, compiler, *options):
    """Configure build-check/NAME; a warning is an error. Returns the folder."""
    folder = CHECK / name
    if not (folder / "build.ninja").exists():
        words = ["meson", "setup", "-Dwerror=true", *options, folder, ROOT]
        if tally.run(words, {"CC": compiler}, f"configuring with {compiler}"):
            raise PartFailed(f"meson setup failed for {compiler}")
    return folder


def build(tally, name, compiler, *options, before=()):
    """Configure and build build-check/NAME. Returns the folder."""
    folder = configure(tally, name, compiler, *options)
    words = [*before, "ninja", "-C", folder]
    if not tally.check(f"build with {compiler}", words, shown="building"):
        raise PartFailed(f"{compiler} does not build the tree without a warning")
    return folder


def reason_of(lines):
    """What cmocka says of a test that failed, from the LINES after it."""
    words = (re.fullmatch(r"#\s*(?!not ok)(.*\S)\s*", line) for line in lines)
    return [word[1] for word in itertools.takewhile(bool, words)]


def count_tap(text, result):
    """(passed, failed names, [(skipped name, reason)]) of a program that reports in TAP and that meson gave
    RESULT. Without any report, the program itself is the test. cmocka calls a skipped test "not
    ok", and has no place for a reason: the line before is taken for it."""
    passed, failed, skipped, planned, before = 0, [], [], 0, ""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if plan := re.fullmatch(r"1\.\.(\d+)", line):
            planned += int(plan[1])
        elif skip := re.match(r"(?:not )?ok \d+ (?:- )?# SKIP (.*)", line):
            skipped.append((skip[1], before or "it gives no reason"))
        elif test := re.match(r"(not )?ok \d+ (?:- )?(.*)", line):
            if test[1]:
                failed.append(" ".join([test[2], *reason_of(lines[number + 1 : number + 4])]))
            else:
                passed += 1
        before = "" if re.match(r"(not )?ok |1\.\.", line) else line.strip()
    missing = planned - passed - len(failed) - len(skipped)
    words = LAST_WORDS.search(text)
    why = f": {words[0].strip()}" if words else ""
    if missing > 0:
        failed.append(f"{missing} tests that did not report (meson says {result}){why}")
    elif result not in ("OK", "SKIP") and (why or not failed):
        failed.append(f"ended badly: {result}{why}")
    elif not planned and not failed:
        if result == "SKIP":
            skipped.append(("all of it", before or "it says that it cannot run here"))
        else:
            passed += 1
    return passed, failed, skipped


def steady_addresses():
    """The words before a command that run it without random addresses, where that is allowed:
    sanitizers of this age find no room for their memory between widely scattered mappings."""
    words = ["setarch", "-R"]
    done = subprocess.run([*words, "true"], stderr=subprocess.DEVNULL, check=False)
    return words if done.returncode == 0 else []


def meson_names(folder, suite):
    """What the meson tests of SUITE are called."""
    words = ["meson", "test", "-C", folder, "--no-rebuild", "--suite", suite, "--list"]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    return [line.rpartition(" / ")[2] for line in done.stdout.splitlines() if line]


def meson_test(tally, folder, suite, env=None, slower=4, before=(), names=()):
    """Run the meson tests of SUITE and count each test that their programs report. With NAMES, only
    those, and what they need is built first."""
    log = folder / "meson-logs" / "testlog.json"
    log.unlink(missing_ok=True)
    words = [*before, "meson", "test", "-C", folder, *(names or ["--no-rebuild"])]
    words += ["--suite", suite]
    words += ["--timeout-multiplier", str(slower), "--print-errorlogs"]
    status = tally.run(words, {"CMOCKA_MESSAGE_OUTPUT": "TAP", **(env or {})}, f"suite {suite}")
    if not log.exists():
        raise PartFailed(f"meson test wrote no results for suite {suite}")
    count = len(tally.failed)
    for line in log.read_text().splitlines():
        test = json.loads(line)
        output = (test.get("stdout") or "") + "\n" + (test.get("stderr") or "")
        passed, failed, skipped = count_tap(output, test["result"])
        tally.passed += passed
        tally.failed += [f"{test['name']}: {text}" for text in failed]
        tally.skipped += [(f"{test['name']}: {name}", why) for name, why in skipped]
    if status and len(tally.failed) == count:
        tally.failed.append(f"meson test ended with status {status}")


def pytest(tally, paths, build_folder, more_env=None, before=(), chosen=()):
    """Run the pytest tests in PATHS (folders, files), of them those CHOSEN by options, and count them."""
    results = CHECK / f"{tally.name}.xml"
    results.unlink(missing_ok=True)
    env = {
        "EBB": str(build_folder / PROGRAM),
        "EBB_BUILD": str(build_folder),
        "EBB_BARE": str(build_folder / "tests/bare/bare-guest"),
        "PYTHONDONTWRITEBYTECODE": "1",
        **(more_env or {}),
    }
    words = [*before, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", "-rs"]
    words += ["--tb=short", f"--junitxml={results}", *chosen, *(ROOT / path for path in paths)]
    shown = paths[0] if len(paths) == 1 else f"{len(paths)} files of {paths[0].rpartition('/')[0]}"
    status = tally.run(words, env, f"{shown}, log in {tally.log.relative_to(ROOT)}")
    if not results.exists():
        raise PartFailed(f"pytest wrote no results for {shown} (status {status})")
    before = len(tally.failed)
    for case in xml.etree.ElementTree.parse(results).iter("testcase"):
        name = case.get("name")
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            tally.failed.append(name)
        elif skip is not None:
            tally.skipped.append((name, skip.get("message")))
        else:
            tally.passed += 1
    if status and len(tally.failed) == before:
        tally.failed.append(f"pytest ended with status {status}")


def gcc_build(tally):
    """The folder of the plain build, which the first part that needs it brings up to date."""
    with GCC_LOCK:
        if not GCC_FOLDERS:
            GCC_FOLDERS.append(build(tally, "gcc", "gcc"))
    return GCC_FOLDERS[0]


def part_gcc(tally):
    meson_test(tally, gcc_build(tally), "unit")


def part_clang(tally):
    """clang with ASan and UBSan, which also builds the fuzz targets: a short run of each; and some
    machines. Building and unit tests take what time others leave."""
    folder = build(
        tally,
        "clang",
        "clang",
        *("-Db_sanitize=address,undefined", *SANITIZER_OPTIONS, "-Dfuzz=true"),
        before=YIELDING,
    )
    meson_test(tally, folder, "unit", ASAN_ENV, 10, [*YIELDING, *steady_addresses()])
    meson_test(tally, folder, "fuzz", ASAN_ENV, 4, steady_addresses())
    pytest(tally, SANITIZED, folder, {**ASAN_ENV, "EBB_TIMEOUT": "120"}, steady_addresses())


def part_tsan(tally):
    """clang with TSan: the unit tests of what several threads use. It takes what time others leave."""
    folder = configure(tally, "tsan", "clang", "-Db_sanitize=thread", *SANITIZER_OPTIONS)
    names = [name for name in meson_names(folder, "unit") if not name.startswith(ONE_THREAD)]
    if not names:
        raise PartFailed("meson names no unit tests")
    meson_test(tally, folder, "unit", TSAN_ENV, 10, [*YIELDING, *steady_addresses()], names)


def checks_of(tally, script, *words):
    """Run SCRIPT, which prints "ok NAME" or "FAILED NAME" for each of its checks, and count them."""
    before = tally.log.stat().st_size if tally.log.exists() else 0
    status = tally.run([sys.executable, "-B", script, *words], shown=script.name)
    text = tally.log.read_text()[before:]
    tally.passed += len(re.findall(r"^ok ", text, re.M))
    tally.failed += re.findall(r"^FAILED (.*)$", text, re.M)
    if status and not tally.failed:
        tally.failed.append(f"{script.name} ended with status {status}")


def part_arrows(tally):
    checks_of(tally, ROOT / "tests/arrows.py", gcc_build(tally))


def part_cross(tally):
    checks_of(tally, ROOT / "tests/model/cross.py", CHECK / "cross")


def part_lib(tally):
    pytest(tally, ["tests/libvmem"], gcc_build(tally))


def part_timed(tally):
    pytest(tally, ["tests/vm"], gcc_build(tally), chosen=["-m", "timed"])


def part_bare(tally):
    chosen = ["-m", "not timed", *(f"--ignore={ROOT / path}" for path in PATIENT)]
    pytest(tally, ["tests/vm"], gcc_build(tally), chosen=chosen)


def part_patient(tally):
    pytest(tally, PATIENT, gcc_build(tally))


def fetch(tally, what):
    """What is there already is left alone."""
    words = [sys.executable, "-B", TOOLS / "nest/fetch.py", what]
    if tally.run(words, shown=f"fetching {what}"):
        raise PartFailed(f"fetching {what} failed")


def part_libvirt(tally):
    folder = gcc_build(tally)
    fetch(tally, FETCHED["libvirt"])
    pytest(tally, ["tests/libvirt"], folder)


def part_linux(tally):
    folder = gcc_build(tally)
    fetch(tally, FETCHED["linux"])
    pytest(tally, ["tests/linux"], folder)


PARTS = {
    "gcc": part_gcc,
    "arrows": part_arrows,
    "lib": part_lib,
    "timed": part_timed,
    "cross": part_cross,
    "bare": part_bare,
    "patient": part_patient,
    "libvirt": part_libvirt,
    "clang": part_clang,
    "tsan": part_tsan,
    "linux": part_linux,
}
SLOW_PARTS = ("linux",)
# Rows of parts that run beside each other, each in its order: a machine within an emulated machine
# keeps one processor busy and has patience, another row keeps none. What measures time runs before,
# alone.
BESIDE = (
    ("linux",),
    ("patient", "tsan", "clang"),
    ("gcc", "cross", "bare", "libvirt"),
)
# What parts have fetched before: fetching goes on while the first parts build.
FETCHED = {"linux": "all", "libvirt": "libvirt/11.3"}


def run_part(name):
    """Run a part; whatever goes wrong in it is a failure of that part."""
    tally = Tally(name)
    tally.log.unlink(missing_ok=True)
    begin = time.monotonic()
    try:
        PARTS[name](tally)
        if not tally.passed and not tally.failed and not tally.skipped:
            tally.failed.append("no test was found")
    except (PartFailed, OSError) as error:
        tally.failed.append(str(error))
    tally.seconds = time.monotonic() - begin
    say(f"{name}: {counted(tally.passed, tally.failed, tally.skipped)}")
    if tally.failed and tally.log.exists():
        print(f"----- the end of {tally.log.relative_to(ROOT)}")
        lines = tally.log.read_text(errors="replace").splitlines()
        print("\n".join(lines[-SHOWN_LINES:]))
        print("-----", flush=True)
    return tally


def fetch_for(names):
    """Fetch what the parts called NAMES need. Whatever goes wrong here is their failure: they fetch
    what is not there."""
    tally = Tally("fetch")
    tally.log.unlink(missing_ok=True)
    with contextlib.suppress(PartFailed, OSError):
        for name in names:
            if name in FETCHED:
                fetch(tally, FETCHED[name])


def run_parts(names):
    """Run the parts called NAMES, in the order of PARTS; the tallies."""
    rows = [[name for name in row if name in names] for row in BESIDE]
    alone = [name for name in names if name not in sum(rows, [])]
    tallies = {}

    def run(row):
        for name in row:
            tallies[name] = run_part(name)

    fetching = threading.Thread(target=fetch_for, args=[names if alone else []])
    threads = [fetching, *(threading.Thread(target=run, args=[row]) for row in rows[:-1])]
    try:
        fetching.start()
        run([name for name in alone if name != "timed"])
        fetching.join()
        run([name for name in alone if name == "timed"])
        for thread in threads[1:]:
            thread.start()
        run(rows[-1])
    except BaseException:
        ENDING.set()
        for process in list(RUNNING):
            end_group(process)
        raise
    finally:
        for thread in threads:
            if thread.ident:
                thread.join()
    return [tallies[name] for name in names]


def counted(passed, failed, skipped):
    text = f"{passed} passed, {len(failed)} failed"
    return f"{text}, {len(skipped)} skipped" if skipped else text


def summary(tallies):
    """Print what was found; returns the exit status."""
    print("\nSummary")
    for tally in tallies:
        result = counted(tally.passed, tally.failed, tally.skipped)
        print(f"  {tally.name:8} {tally.seconds:6.0f} s  {result}")
        for text in tally.failed:
            print(f"             FAILED {text}")
        for reason in dict.fromkeys(why for _, why in tally.skipped):
            names = [name for name, why in tally.skipped if why == reason]
            what = names[0] if len(names) == 1 else f"{len(names)} tests"
            print(f"             skipped {what}: {reason}")
    passed = sum(tally.passed for tally in tallies)
    failed = [text for tally in tallies for text in tally.failed]
    skipped = [entry for tally in tallies for entry in tally.skipped]
    print(f"\n{counted(passed, failed, skipped)}", flush=True)
    return 1 if failed or not passed else 0


def raise_exit(signo, _frame):
    raise SystemExit(128 + signo)


def main():
    parser = argparse.ArgumentParser(prog="./check", add_help=False, allow_abbrev=False)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--only", action="append", choices=list(PARTS), default=[])
    args = parser.parse_args()
    names = [n for n in PARTS if n in (args.only or PARTS) and not (args.fast and n in SLOW_PARTS)]
    if not names:
        parser.error("nothing is left to check")
    for signo in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signo, raise_exit)
    CHECK.mkdir(exist_ok=True)
    try:
        return summary(run_parts(names))
    except KeyboardInterrupt:
        say("ended")
        return 130


if __name__ == "__main__":
    sys.exit(main())
