# SPDX-License-Identifier: BSD-3-Clause
"""ebbctl with real machines: commands, the prompt, and the live view on terminals of all kinds."""

import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

from ebbvm import BUILD, TIMEOUT_S, Machine, memory_devices
from terminal import Terminal
from test_violations import attacked, begin

EBBCTL = pathlib.Path(os.environ.get("EBBCTL", BUILD / "ebbctl/ebbctl"))
MIB = 1 << 20
TWO = memory_devices(("1G", "256M", "2M", 0), ("512M", "0", "2M", 0))
SMALL = ["-m", "128M,maxmem=8G"]
# Bytes that a terminal acts on.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@pytest.fixture(scope="module", autouse=True)
def client():
    if not EBBCTL.is_file():
        pytest.exit(f"{EBBCTL} is not there: build it, or set EBBCTL", returncode=2)


class Vm(Machine):
    """A guest that follows, with a monitor of each kind."""

    def __init__(self, folder, append="", args=TWO):
        super().__init__(
            folder,
            f"test=vmem-follow devices=2 {append}",
            [*SMALL, *args],
            monitor=True,
            qmp=True,
        )
        self.socket = str(self.folder / "qmp.sock")
        self.human = str(self.folder / "monitor.sock")
        self.console.expect("^follow: ready$")

    def run(self, *words, status=0, where=None, stdin=None):
        """(stdout, stderr) of ebbctl with WORDS."""
        done = subprocess.run(
            [str(EBBCTL), where or self.socket, *words],
            capture_output=True,
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == status, f"{words}: {done}"
        assert not CONTROLS.search(done.stdout + done.stderr)
        return done.stdout, done.stderr

    def terminal(self, *words, where=None, **more):
        return Terminal([EBBCTL, where or self.socket, *words], **more)

    def sizes(self):
        devices = self.qmp().call("query-memory-devices")
        return [d["data"]["size"] // MIB for d in devices]


def fails(*words):
    """The one sentence of an ebbctl that ends badly."""
    done = subprocess.run(
        [str(EBBCTL), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 1 and not done.stdout, done
    assert done.stderr.startswith("ebbctl: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr[len("ebbctl: ") : -1]


# ---- commands ----


def test_people_and_programs(folder):
    with Vm(folder) as vm:
        assert vm.run("info", "status") == ("VM status: running\n", "")
        assert vm.run("info status")[0] == "VM status: running\n"
        assert vm.run("info status", where=vm.human)[0] == "VM status: running\n"
        listing = vm.run("info", "memory-devices")[0]
        assert listing == vm.monitor().run("info memory-devices")
        assert vm.run("info memory-devices", where=vm.human)[0] == listing
        assert vm.run("info", "nix", status=1)[1] == "ebbctl: unknown command: 'info nix'\n"
        assert "Device 'nix' not found" in vm.run("virtio-mem", "nix", "1", status=1)[1]
        assert '"status": "running"' in vm.run("qmp", "query-status")[0]
        request = '{"execute": "query-status", "id": 7}'
        assert vm.run("qmp", request)[0] == vm.run("qmp", "query-status")[0]
        assert vm.run("qmp", "qom-get", "path=d0", "property=size")[0] == f"{256 * MIB}\n"
        assert "has not been found" in vm.run("qmp", "nix", status=1)[1]
        assert "for people" in vm.run("jobs", where=vm.human, status=1)[1]
        # lines of a script: all are run, one of them fails
        script = "info status\n\ninfo nix\r\ninfo name\n"
        for where in (vm.socket, vm.human):
            out, err = vm.run(stdin=script, where=where, status=1)
            assert out == "VM status: running\n" and "info nix" in err
        vm.run("stop")
        assert vm.run("info", "status")[0] == "VM status: paused\n"
        vm.run("quit")
        assert vm.wait() == 0


def test_resize(folder):
    with Vm(folder) as vm:
        out, _ = vm.run("resize", "d0", "+256M", "--wait")
        assert out.endswith("d0: done, 512 MiB\n")
        assert vm.sizes() == [512, 0]
        assert vm.run("jobs")[0] == ""  # it was seen to its end
        out, _ = vm.run("resize", "d0", "-512M")
        job = re.fullmatch(r"d0: 0 bytes asked for, job (resize-d0-\d+)\n", out).group(1)
        vm.console.expect("^follow 0 plugged=0$")
        assert re.search(rf"^{job} +virtio-mem-resize +concluded +100 %$", vm.run("jobs")[0], re.M)
        out, _ = vm.run("resize-all", "1G", "--wait")
        assert out.endswith("memory: done, 1 GiB\n")
        assert sum(vm.sizes()) == 1024 - 128
        vm.run("resize-all", "-256M", "--wait")
        assert sum(vm.sizes()) == 1024 - 128 - 256
        # refused, and nothing is changed
        before = vm.sizes()
        for words, part in (
            (("resize", "d0", "3G"), "at most 1 GiB is allowed"),
            (("resize", "d0", "-3G"), "less than nothing"),
            (("resize", "d0", "1M"), "not a multiple of the block size"),
            (("resize", "d7", "1G"), "there are d0, d1"),
            (("resize-all", "64G"), "is possible"),
            (("resize-all", "1G", "--node", "7"), "there is no node 7"),
            (("cancel", "nix"), "there is no job 'nix'"),
        ):
            assert part in vm.run(*words, status=1)[1]
        assert vm.sizes() == before


def test_resize_that_stops(folder):
    """A guest that keeps some: the reason at the time limit, and Ctrl-C on a bar."""
    with Vm(folder, "keep=128M") as vm:
        out, err = vm.run("resize", "d0", "64M", "--wait", "--timeout", "1s", status=1)
        assert "d0: stopped at 128 MiB on the way to 64 MiB: not done after 1 s" in err, out + err
        with vm.terminal("resize", "d0", "0", "--wait") as term:
            term.expect(r"^d0  128 MiB on the way to 0 bytes  \[░+\] +0 %")
            term.type("\x03")
            assert term.wait() == 130
            text = term.screen.text
            assert "ebbctl: d0: cancelled, it stopped at 128 MiB on the way to 0 bytes" in text
            assert term.is_restored()
        jobs = vm.qmp().call("query-jobs")
        assert all(job["status"] == "concluded" for job in jobs)
        # what is cancelled is not asked for any more
        assert vm.qmp().call("qom-get", {"path": "d0", "property": "requested-size"}) == 128 * MIB


def test_migrate_on_a_terminal(folder):
    """A bar until Ctrl-C, which brings the machine back; top tells of it, too."""
    with Vm(folder) as vm:
        vm.qmp().call("migrate-set-parameters", {"max-bandwidth": 2000})
        with vm.terminal("migrate", "exec:cat > /dev/null") as term:
            term.expect(r"^exec:cat > /dev/null  [\d.]+ \w+ of 384 MiB .*%.* sent")
            with vm.terminal("top", "--interval", "100ms") as top:
                top.expect(r"^qmp.sock +running, moving \d+ %, .*boot memory 128M")
                term.type("\x03")
                assert term.wait() == 130 and term.is_restored()
                assert "cancelled; the machine stays here" in term.screen.text
                top.expect(r"^qmp.sock +running, boot memory 128M")
                top.type("q")
                assert top.wait() == 0
        assert vm.run("info", "status")[0] == "VM status: running\n"


def test_job_cancelled_by_another(folder):
    with Vm(folder, "keep=128M") as vm:
        with vm.terminal("resize", "d0", "0", "--wait") as term:
            term.expect(r"^d0 .*\[█*░+\]")
            job = vm.run("jobs")[0].splitlines()[1].split()[0]
            vm.run("cancel", job)
            assert term.wait() == 1
            assert "stopped at 128 MiB" in term.screen.text


def test_events(folder):
    with Vm(folder) as vm:
        words = [str(EBBCTL), vm.socket, "events"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as follower:
            with subprocess.Popen([*words[:-1], "wait", "stop"], stdout=subprocess.PIPE) as waiter:
                # both listen once they have been served; what comes before they cannot hear
                line = b""
                while b"d0" not in line:
                    vm.run("resize", "d0", "128M", "--wait")
                    vm.run("resize", "d0", "256M", "--wait")
                    line = follower.stdout.readline()
                stop = re.compile(rb"^20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6} STOP$", re.M)
                while waiter.poll() is None:
                    vm.run("stop")
                    vm.run("cont")
                assert waiter.returncode == 0
                assert stop.search(waiter.stdout.read())
            vm.run("quit")
            said, errors = follower.communicate(timeout=TIMEOUT_S)
            assert stop.search(said) and b" RESUME" in said and b" SHUTDOWN " in said
            assert b"the connection ended" in errors and follower.returncode == 1
        assert vm.wait() == 0


def test_places(folder):
    with Vm(folder) as vm:
        assert fails(f"{folder}/nix", "jobs") == f"{folder}/nix: there is no such file"
        assert "is a folder" in fails(folder)
        assert "no socket" in fails(str(EBBCTL), "top")
        assert "nobody listens" in fails("127.0.0.1:1", "info", "status")
        vm.run("quit")
        assert vm.wait() == 0
        assert "nobody listens there" in fails(vm.socket, "top")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            child = subprocess.Popen(
                [str(EBBCTL), f"localhost:{port}", "jobs"], stderr=subprocess.PIPE, text=True
            )
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"\x1b[2JSSH-2.0-nix\r\n")
                peer.shutdown(socket.SHUT_WR)
                _, err = child.communicate(timeout=TIMEOUT_S)
            assert child.returncode == 1
            assert "is not a monitor; it says: '\\x1b[2JSSH-2.0-nix" in err


def test_tcp(folder):
    """A name with several addresses, at one of which the monitor listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    place = f"tcp:127.0.0.1:{port},server=on,wait=off"
    with Vm(folder, args=[*TWO, "-qmp", place]) as vm:
        for where in (f"127.0.0.1:{port}", f"localhost:{port}"):
            assert vm.run("info", "status", where=where)[0] == "VM status: running\n"
            assert vm.run("top", "--count", "1", where=where)[0].count(" state=steady\n") == 2
        vm.run("quit", where=f"localhost:{port}")
        assert vm.wait() == 0
        assert "nobody listens there" in fails(f"localhost:{port}", "top")


# ---- the prompt ----


def test_prompt(folder):
    with Vm(folder) as vm, vm.terminal() as term:
        term.expect(r"^\(qemu\)$")
        # the words come from the monitor, which has answered a command after it gave them
        term.type("info name\r")
        term.expect(r"^\(qemu\) info name\n\(qemu\)")
        term.type("info statu\t")
        term.expect(r"\(qemu\) info status")
        term.type("\r")
        term.expect("^VM status: running")
        term.type("\x1b[A")
        term.expect(r"\(qemu\) info status\s*\Z")
        term.type("\x15virtio-mem d\t\t")
        term.expect(r"^d0 +d1$")
        term.type("0 128 -w\r")
        term.expect(r"\(qemu\) virtio-mem d0 128 -w")
        term.expect(r"d0: done$")
        term.expect(r"MEMORY_DEVICE_SIZE_CHANGE .*size=134217728|JOB_STATUS_CHANGE id=resize-d0")
        # an event while a line is being typed: it stands before the line
        term.type("info na")
        vm.qmp().execute("stop")
        term.expect(r" STOP\n\(qemu\) info na\s*\Z")
        term.type("me\r")
        term.expect(r"\(qemu\)\s*\Z")
        term.type("nonsense\r")
        term.expect(r"^unknown command: 'nonsense'")
        term.expect(r"\(qemu\)\s*\Z")
        term.type("\x04")
        assert term.wait() == 0 and term.is_restored()


def test_prompt_ends(folder):
    with Vm(folder) as vm:
        with vm.terminal() as term:
            term.expect(r"\(qemu\)")
            term.signal(signal.SIGTERM)
            assert term.wait() == 0 and term.is_restored()
        with vm.terminal() as asked, vm.terminal() as other:
            asked.expect(r"\(qemu\)")
            other.expect(r"\(qemu\)")
            asked.type("quit\r")
            assert asked.wait() == 0 and asked.is_restored()
            assert other.wait() == 1 and other.is_restored()
            assert "the connection ended" in other.screen.text
        assert vm.wait() == 0


def test_terminal_of_people(folder):
    with Vm(folder) as vm:
        with vm.terminal(where=vm.human) as term:
            term.expect(r"\(qemu\)")
            term.type("info statu\t\r")
            term.expect("^VM status: running")
            term.type("\x1d")
            assert term.wait() == 0 and term.is_restored()
        with vm.terminal(where=vm.human) as term:
            term.expect(r"\(qemu\)")
            term.type("quit\r")
            assert term.wait() in (0, 1) and term.is_restored()
        assert vm.wait() == 0


# ---- whoever listens ----

# What would set a window's title, ring, clear the screen, and turn the direction of writing.
EVIL = "X\x1b]0;TITLE\x07\x1b[2J\x9b31M\u202e\r\n"
EVIL_DEVICE = {
    "id": EVIL,
    "size": 1 << 30,
    "requested-size": 1 << 31,
    "max-size": 1 << 32,
    "block-size": 1 << 21,
    "memaddr": 1 << 32,
    "node": 0,
}
EVIL_JOB = {"type": EVIL, "status": "concluded", "error": EVIL}
EVIL_ANSWERS = {
    "query-memory-devices": [{"type": "virtio-mem", "data": EVIL_DEVICE}],
    "query-status": {"status": EVIL, "running": True},
    "query-virtio-mem": [{"id": EVIL, "request-status": EVIL, "explanation": EVIL}],
    "query-migrate": {"status": "failed", "error-desc": EVIL},
    "query-memdev": [{"id": EVIL}],
    "query-chardev": [{"label": EVIL}],
    "human-monitor-command": f"{EVIL} -- {EVIL}\nquit -- {EVIL}\nError: {EVIL}",
}


class EvilMonitor:
    """A monitor whose every text would do something to a terminal."""

    def __init__(self, path):
        self.socket = str(path)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.socket)
        self._listener.listen(8)
        self._job = None
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _answer(self, request):
        name, args = request["execute"], request.get("arguments", {})
        if name == "virtio-mem-resize":
            self._job = args["job-id"]
        if name == "query-jobs":
            return {"return": [{"id": self._job or EVIL, **EVIL_JOB}]}
        if name == "query-stats":
            return {"error": {"class": EVIL, "desc": EVIL}}
        return {"return": EVIL_ANSWERS.get(name, {})}

    def _serve(self, peer):
        with peer, peer.makefile("r", encoding="utf-8", newline="\n") as lines:
            try:
                self._talk(peer, lines)
            except (BrokenPipeError, ConnectionResetError):
                pass

    def _talk(self, peer, lines):
        peer.sendall(b'{"QMP": {}}\r\n')
        for line in lines:
            request = json.loads(line)
            event = {"event": EVIL, "data": {EVIL: EVIL, "list": [EVIL]}, "timestamp": {}}
            for message in ({**self._answer(request), "id": request["id"]}, event):
                peer.sendall(json.dumps(message, ensure_ascii=False).encode() + b"\r\n")


def is_clean(raw):
    """Nothing of EVIL is among the bytes that a terminal got."""
    return not any(
        part.encode() in raw for part in ("\x1b]0;", "\x07", "\x9b", "\u202e", "\x1b[2J\x9b")
    )


def test_evil_monitor(folder):
    """On a terminal and off it: what it says is seen, and does nothing."""
    with EvilMonitor(f"{folder}/evil") as evil:
        for words in (
            ("info", "status"),
            ("jobs",),
            ("qmp", "query-status"),
            ("resize", EVIL, "1G", "--wait"),
            ("resize", "nix", "1G"),
            ("migrate", "u"),
            ("wait", EVIL.lower()),
            ("top", "--count", "2", "--interval", "100ms"),
        ):
            done = subprocess.run(
                [str(EBBCTL), evil.socket, *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT_S,
                env={**os.environ, "LC_ALL": "C.UTF-8"},
                check=False,
            )
            said = done.stdout + done.stderr
            assert done.returncode in (0, 1) and b"\x1b" not in said and is_clean(said), done
            assert rb"\x1b]0;TITLE" in said or rb"\u001b]0;title" in said.lower(), done
        with Terminal([EBBCTL, evil.socket], columns=200) as term:
            term.expect(r"\(qemu\)")
            term.type("info x\r")
            term.expect(r"^X\\x1b\]0;TITLE")
            term.type("q\t\t \t\t\x15\x04")
            assert term.wait() == 0 and is_clean(term.screen.raw.replace(b"\x07", b""))
        with Terminal([EBBCTL, evil.socket, "top", "--interval", "100ms"], columns=200) as term:
            term.expect(r"^> X\\x1b\]0;TITL")
            term.expect(r"^evil +X\\x1b")
            term.type("+-\x1bOB")
            term.type("q")
            assert term.wait() == 0 and is_clean(term.screen.raw)
        with Terminal([EBBCTL, evil.socket, "resize", EVIL, "1G", "--wait"]) as term:
            assert term.wait() == 1 and is_clean(term.screen.raw)


# ---- top ----

HEADER = r"^ebbctl top: 1 machine, 2 devices, 256M of 1.5G plugged"


def rows_of(term, device):
    """The rows of DEVICE's map."""
    lines = term.screen.text.splitlines()
    heads = [i for i, line in enumerate(lines) if re.match(rf"[> ] {device} ", line)]
    rows = []
    for line in lines[heads[0] + 1 :] if heads else ():
        if not re.fullmatch(r"  [·░▒▓█.:+%#]+", line):
            break
        rows.append(line[2:])
    return "".join(rows)


def test_top(folder):
    with Vm(folder) as vm, vm.terminal("top", "--interval", "100ms") as term:
        term.expect(HEADER)
        term.expect(r"^> d0 +0 +256M +256M +1G +0 +\d+ +0 steady")
        term.until(lambda: set(rows_of(term, "d1")) == {"·"})
        cells = rows_of(term, "d0")
        full, empty = len(cells) // 4, len(cells) * 3 // 4
        assert len(cells) >= 76 and cells == "█" * full + "·" * empty
        term.type("\x1bOB")
        term.expect(r"^> d1 ")
        term.type("+")
        term.expect(r"^> d1 +0 +8M +8M +512M")
        assert vm.sizes() == [256, 8]
        term.expect(r"█")
        term.type("-")
        term.expect(r"^> d1 +0 +0 +0 +512M")
        term.type("-")
        term.expect(r"d1: it can have no less than 0 bytes")
        term.type("\x1b[A")  # as terminals send it that were told nothing
        term.expect(r"^> d0 ")
        term.type("p")
        term.expect(r"^ebbctl top: .* paused$")
        term.type("p")
        # another shape of the window, and one that is too small for anything
        for rows, columns in ((10, 40), (3, 12), (1, 1), (50, 132), (24, 80)):
            term.resize(rows, columns)
            term.expect("q" if rows == 1 else "^ebbctl top")
            assert len(term.screen.text.splitlines()) <= rows
        term.expect(HEADER)
        vm.run("stop")
        term.expect(r"^qmp.sock +paused")
        term.type("q")
        assert term.wait() == 0 and term.is_restored()


def test_top_explains(folder):
    """A guest that does not give back: where it is, and why."""
    with Vm(folder, "keep=128M") as vm:
        vm.qmp().call("qom-set", {"path": "d0", "property": "requested-size", "value": 0})
        vm.console.expect("^follow 0 plugged=134217728$")
        with vm.terminal("top", "--interval", "100ms") as term:
            term.expect(r"^> d0 +0 +128M +0 .* stuck")
            term.expect(r"^d0: stuck.*: the guest")
            term.type("q")
            assert term.wait() == 0


def test_top_violations(folder):
    """A guest touches what is not plugged: it is told at once, and counted."""
    sock = f"{folder}/programs.sock"
    with attacked(folder, more=["-qmp", f"unix:{sock},server=on,wait=off"]) as machine:
        _, attacker = begin(machine)
        attacker.lay("PU")
        with Terminal([EBBCTL, sock, "top", "--interval", "100ms"]) as term:
            term.expect(r"^> d0 .* 0 (?:steady|stuck)")
            machine.type("hit mov8")
            term.expect(r" MEMORY_DEVICE_VIOLATION\b")
            term.expect(r"^> d0 .* [1-9]\d* (?:steady|stuck)")
            term.type("q")
            assert term.wait() == 0


@pytest.mark.parametrize("locale, full", [("C.UTF-8", "█"), ("C", "#")])
@pytest.mark.parametrize("name", ["xterm", "vt100", "xterm-mono", "tmux-256color", "screen"])
def test_top_terminals(folder, name, locale, full):
    """Of many types; block characters where the locale has them, colours where the terminal has."""
    if not pathlib.Path("/usr/share/terminfo", name[0], name).exists() and not pathlib.Path(
        "/lib/terminfo", name[0], name
    ).exists():
        pytest.skip(f"this machine has no description of {name}")
    with Vm(folder) as vm:
        with vm.terminal("top", term=name, env={"LC_ALL": locale}) as term:
            term.expect(HEADER)
            term.expect(full)
            assert full == "█" or term.screen.text.isascii()
            term.type("q")
            assert term.wait() == 0 and term.is_restored()
            if name in ("vt100", "xterm-mono"):
                assert not term.screen.colours
            elif name == "xterm":
                assert term.screen.colours
        with vm.terminal("top", term=name, env={"NO_COLOR": "1"}) as term:
            term.expect(HEADER)
            term.type("q")
            assert term.wait() == 0
            assert not term.screen.colours & set(range(30, 38))


LINE = re.compile(
    r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d machine=qmp\.sock device=d0 node=0 plugged=256M "
    r"requested=256M max=1024M rate=0 requests=\d+/s violations=0 state=steady$",
    re.M,
)


@pytest.mark.parametrize("name", ["dumb", "nix-unknown"])
def test_top_without_cursor(folder, name):
    with Vm(folder) as vm:
        with vm.terminal("top", "--count", "1", term=name, columns=200) as term:
            assert term.wait() == 0 and term.is_restored()
            assert "ebbctl: top shows lines: the terminal" in term.screen.text
            assert LINE.search(term.screen.text)


def test_top_lines(folder):
    with Vm(folder) as vm:
        out, err = vm.run("top", "--count", "3", "--interval", "100ms")
        assert not err and len(LINE.findall(out)) == 3 and out.count(" device=d1 ") == 3
        # a log that goes on to the machine's end
        words = [str(EBBCTL), vm.socket, "top", "--interval", "100ms"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as log:
            assert b" device=d0 " in log.stdout.readline()
            vm.run("quit")
            assert b" device=d1 " in log.stdout.read()
            errors = log.stderr.read()
            assert b"the connection ended" in errors and errors.count(b"\n") == 1
            assert log.wait() == 1


def test_top_of_many(folder):
    """A folder: monitors for programs are shown, other sockets are not; they come and go."""
    sockets = pathlib.Path(folder) / "sockets"
    sockets.mkdir()
    first, second = pathlib.Path(folder) / "1", pathlib.Path(folder) / "2"
    first.mkdir()
    second.mkdir()
    with Vm(first) as one:
        (sockets / "one").symlink_to(one.socket)
        (sockets / "people").symlink_to(one.human)
        (sockets / "file").write_text("no socket")
        silent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        silent.bind(str(sockets / "silent"))  # as a guest's console
        silent.listen(8)
        with Terminal([EBBCTL, "top", sockets, "--interval", "100ms"]) as term:
            term.expect(r"^ebbctl top: 1 machine, 2 devices")
            assert "people" not in term.screen.text
            with silent.accept()[0] as peer:
                assert peer.recv(1) == b""  # it is left, and not tried again
            silent.settimeout(0)
            with Vm(second) as two:
                (sockets / "two").symlink_to(two.socket)
                term.expect(r"^ebbctl top: 2 machines, 4 devices")
                term.expect(r"^two +running")
                for _ in range(3):
                    term.type("\x1bOB")
                term.expect(r"^two +running.*\n.*\n?(?:.*\n)*> d1 ")
                two.run("quit")
                assert two.wait() == 0
            term.expect(r"^two +.*the connection ended|^two +.*nobody listens")
            (sockets / "two").unlink()
            term.expect(r"^ebbctl top: 1 machine, 2 devices")
            assert "silent" not in term.screen.text
            with pytest.raises(BlockingIOError):
                silent.accept()
            silent.close()
            term.type("q")
            assert term.wait() == 0 and term.is_restored()
        with Terminal([EBBCTL, "top", one.socket, one.human]) as term:
            term.expect(r"^monitor.sock .*for people listens there")
            term.expect(r"^qmp.sock +running")
            term.type("q")
            assert term.wait() == 0


def test_top_in_tmux(folder):
    """Inside of tmux, and after its window got another size."""
    if not shutil.which("tmux"):
        pytest.skip("tmux is not installed")

    def tmux(*words):
        done = subprocess.run(
            ["tmux", "-S", str(pathlib.Path(folder) / "tmux"), "-f", "/dev/null", *words],
            capture_output=True,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            timeout=TIMEOUT_S,
            check=False,
        )
        return done.stdout.decode()

    def shown(pattern):
        end = time.monotonic() + TIMEOUT_S
        while not re.search(pattern, tmux("capture-pane", "-p"), re.M):
            assert time.monotonic() < end, f"no {pattern!r} in\n" + tmux("capture-pane", "-p")
            select.select([], [], [], 0.05)

    with Vm(folder) as vm:
        command = f"'{EBBCTL}' '{vm.socket}' top --interval 100ms"
        tmux("new-session", "-d", "-x", "80", "-y", "24", command)
        try:
            shown(HEADER)
            shown(r"^  █+·*$")
            tmux("send-keys", "Down")
            shown(r"^> d1 ")
            tmux("send-keys", "+")
            shown(r"^> d1 +0 +8M +8M")
            tmux("resize-window", "-x", "60", "-y", "12")
            shown(r"^> d1 +0 +8M")
            assert vm.sizes() == [256, 8]
            tmux("send-keys", "q")
            end = time.monotonic() + TIMEOUT_S
            while tmux("list-sessions"):
                assert time.monotonic() < end, "top does not end"
                select.select([], [], [], 0.05)
        finally:
            tmux("kill-server")
