# SPDX-License-Identifier: BSD-3-Clause
"""How a machine runs and ends: power, resets, signals, stop and cont, terminal, background."""

import fcntl
import os
import pathlib
import pty
import re
import select
import signal
import socket
import subprocess
import termios

import pytest

from ebbvm import EBB, GUEST, PROMPT, SIGNALS, TIMEOUT_S, Machine, Stream, passed, run_guest
from qmp import QmpClosed

SMALL = ["-m", "64M"]


def test_poweroff(folder):
    text = run_guest(folder, "test=none end=off", SMALL)
    assert "END" in text and "had no effect" not in text


def test_process_has_a_name(folder):
    """As far as the kernel keeps it."""
    args = SMALL + ["-name", "g,process=qemu:guest-1234"]
    with Machine(folder, "test=none end=spin", args, qmp=True) as machine:
        machine.qmp()
        comm = pathlib.Path(f"/proc/{machine.process.pid}/comm").read_text()
        assert comm == "qemu:guest-1234"[:15] + "\n"


@pytest.mark.parametrize("how", ["reset", "reset-acpi", "triple"])
def test_no_reboot(folder, how):
    text = run_guest(folder, f"test=none end={how}", SMALL + ["-no-reboot"])
    assert text.count("BARE") == 1 and "had no effect" not in text


@pytest.mark.parametrize("how", ["reset", "reset-acpi", "triple"])
def test_reset_restarts(folder, how):
    """The guest starts again, several times, as at the first start."""
    with Machine(folder, f"test=boot word=found end={how}", SMALL) as machine:
        for _ in range(4):
            machine.console.expect("BARE test=")
            done = machine.console.expect(r"^DONE passed=(\d+) failed=(\d+)$")
            assert done.group(2) == "0"
        machine.signal(signal.SIGTERM)
        assert machine.wait() == 0


def test_panic_pauses_or_ends(folder):
    """A panic ends the machine or keeps it for its post-mortem; it is never a plain power-off."""
    args = SMALL + ["-device", "pvpanic", "-action", "panic=exit-failure"]
    assert "END" in run_guest(folder, "test=none end=panic", args, status=1)


def test_panic_pause(folder):
    args = SMALL + ["-device", "pvpanic", "-action", "panic=pause"]
    with Machine(folder, "test=none end=panic", args, monitor=True) as machine:
        monitor = machine.monitor()
        machine.console.expect("^END$")
        status = monitor.wait_for(
            lambda: monitor.run("info status"), lambda s: "running" not in s, "no pause"
        )
        assert "guest-panicked" in status
        monitor.send("quit")
        assert machine.wait() == 0


@pytest.mark.parametrize("name", sorted(SIGNALS))
@pytest.mark.parametrize("end", ["halt", "spin"])
def test_signal_ends(folder, name, end):
    with Machine(folder, f"test=none end={end}", SMALL + ["-smp", "2"]) as machine:
        machine.console.expect("^END$")
        machine.signal(SIGNALS[name])
        assert machine.wait() == 0


def test_quit(folder):
    with Machine(folder, "test=none end=spin", SMALL, monitor=True) as machine:
        monitor = machine.monitor()
        machine.console.expect("^END$")
        monitor.send("quit")
        assert monitor.closed()
        assert machine.wait() == 0


def test_nothing_starts_again_behind_quit(folder):
    """Lines that came with it find a machine that has ended."""
    with Machine(folder, "test=none end=spin", SMALL, monitor=True, qmp=True) as machine:
        monitor, program = machine.monitor(), machine.qmp()
        machine.console.expect("^END$")
        monitor.send("quit\nsystem_reset\ncont\ninfo status")
        assert monitor.closed()
        assert machine.wait() == 0
        with pytest.raises(QmpClosed):
            program.wait_event("none that there is")
        assert [event["event"] for event in program.take_events()] == ["SHUTDOWN"]
        assert machine.console.text.count("BARE") == 1


def test_start_stopped(folder):
    with Machine(folder, "test=none end=off", SMALL + ["-S"], monitor=True) as machine:
        monitor = machine.monitor()
        assert "paused" in monitor.run("info status")
        assert machine.console.text == ""
        monitor.send("cont")
        assert machine.wait() == 0
        assert "END" in machine.console.text


def test_stop_cont(folder):
    """A stopped guest does not answer; what was typed meanwhile arrives afterwards."""
    with Machine(folder, "test=echo", SMALL, monitor=True) as machine:
        monitor = machine.monitor()
        machine.console.expect("^echo: ready$")
        for turn in range(5):
            monitor.run("stop")
            assert "paused" in monitor.run("info status")
            machine.type(f"turn {turn}")
            assert "paused" in monitor.run("info status")
            assert f"echo: turn {turn}" not in machine.console.text
            monitor.run("cont")
            assert "running" in monitor.run("info status")
            machine.console.expect(f"^echo: turn {turn}$")
        monitor.run("cont")
        machine.type("quit")
        assert machine.wait() == 0
        passed(machine.console.text)


def test_system_reset(folder):
    with Machine(folder, "test=echo", SMALL + ["-smp", "2"], monitor=True) as machine:
        monitor = machine.monitor()
        for _ in range(3):
            machine.console.expect("^echo: ready$")
            monitor.run("system_reset")
        machine.console.expect("^echo: ready$")
        machine.type("quit")
        assert machine.wait() == 0


def test_system_powerdown(folder):
    """The guest is told by the power button's interrupt and does what it likes: here, power off."""
    with Machine(folder, "test=powerbutton", SMALL, monitor=True) as machine:
        monitor = machine.monitor()
        machine.console.expect("^powerbutton: ready$")
        monitor.run("system_powerdown")
        assert machine.wait() == 0
        passed(machine.console.text)


def test_powerdown_is_a_request(folder):
    with Machine(folder, "test=echo", SMALL, monitor=True) as machine:
        monitor = machine.monitor()
        machine.console.expect("^echo: ready$")
        monitor.run("system_powerdown")
        assert "running" in monitor.run("info status")
        machine.type("still here")
        machine.console.expect("^echo: still here$")


def test_several_clients(folder):
    with Machine(folder, "test=echo", SMALL, monitor=True) as machine:
        monitors = [machine.monitor() for _ in range(4)]
        for monitor in monitors:
            assert "running" in monitor.run("info status")
        monitors[0].run("stop")
        for monitor in monitors:
            assert "paused" in monitor.run("info status")
        monitors[1].close()
        monitors[2].run("cont")
        assert "running" in monitors[3].run("info status")
        assert "running" in machine.monitor().run("info status")


def test_monitor_by_path(folder):
    """The socket is made by ebb and removed with it."""
    path = pathlib.Path(folder, "hmp.sock")
    args = SMALL + ["-chardev", f"socket,id=mon,path={path},server=on,wait=off"]
    with Machine(folder, "test=echo", args + ["-mon", "chardev=mon"]) as machine:
        machine.console.expect("^echo: ready$")  # sockets exist before the guest runs
        path.rename(pathlib.Path(folder, "monitor.sock"))
        assert "running" in machine.monitor().run("info status")
        pathlib.Path(folder, "monitor.sock").rename(path)
        machine.type("quit")
        assert machine.wait() == 0
        assert not path.exists()


def test_unknown_command(folder):
    with Machine(folder, "test=echo", SMALL, monitor=True) as machine:
        monitor = machine.monitor()
        for command in ("no-such-command", "info no-such-thing", "virtio-mem", "virtio-mem a b"):
            assert monitor.run(command).strip() != "", command
        assert "running" in monitor.run("info status")


def test_help(folder):
    with Machine(folder, "test=echo", SMALL, monitor=True) as machine:
        text = machine.monitor().run("help")
        for command in ("info", "stop", "cont", "system_reset", "system_powerdown", "quit"):
            assert re.search(rf"^{command}\b", text, re.MULTILINE), command
        assert "virtio-mem" in text


def test_pidfile_and_daemonize(folder):
    """The parent returns when the machine runs; the rest goes on alone and cleans up."""
    pid_path = pathlib.Path(folder, "pid")
    ours, theirs = socket.socketpair()
    argv = [EBB, "-enable-kvm", "-nodefaults", "-display", "none", "-m", "64M", "-daemonize"]
    argv += ["-pidfile", pid_path, "-chardev", f"socket,id=s,fd={theirs.fileno()}"]
    argv += ["-device", "isa-serial,chardev=s", "-kernel", GUEST, "-append", "test=none end=halt"]
    with ours, theirs:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
            pass_fds=[theirs.fileno()],
        )
        assert done.returncode == 0, done.stderr
        pid = int(pid_path.read_text())
        watch = os.pidfd_open(pid)
        try:
            assert os.readlink(f"/proc/{pid}/exe") == str(EBB.resolve())
            assert os.getsid(pid) != os.getsid(0)
            Stream(os.dup(ours.fileno())).expect("^END$")
        finally:
            end_daemon(watch)
        assert not pid_path.exists()


def end_daemon(watch):
    """Terminate the process of the descriptor WATCH, with force when it does not go by itself."""
    try:
        signal.pidfd_send_signal(watch, signal.SIGTERM)
        assert select.select([watch], [], [], TIMEOUT_S)[0], "the daemon does not end"
    finally:
        try:
            signal.pidfd_send_signal(watch, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(watch)


def test_daemonize_removes_relative_names(folder):
    """Names relative to the folder where it was started are removed from there, at the earliest
    moment at which somebody can ask for it."""
    argv = [EBB.resolve(), "-enable-kvm", "-nodefaults", "-display", "none", "-m", "64M"]
    argv += ["-daemonize", "-pidfile", "pid", "-monitor", "unix:mon,server=on,wait=off"]
    argv += ["-kernel", GUEST, "-append", "test=none end=halt"]
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    names = {"pid", "mon"}
    assert names <= set(os.listdir(folder))
    end_daemon(os.pidfd_open(int(pathlib.Path(folder, "pid").read_text())))
    assert not names & set(os.listdir(folder))


def test_daemonize_failure_is_reported(folder):
    argv = [EBB, "-enable-kvm", "-nodefaults", "-display", "none", "-m", "64M", "-daemonize"]
    argv += ["-kernel", f"{folder}/no-such-kernel"]
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 1
    assert b"no-such-kernel" in done.stderr


def test_failed_start_can_be_heard_of(folder):
    """Who passed a listening socket is not refused by it: it meets an end, and knows why to ask."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as caller:
        listener.bind(f"{folder}/sock")
        listener.listen()
        fd = listener.fileno()
        argv = [EBB, "-chardev", f"socket,id=m,fd={fd},server=on,wait=off", "-qmp", "chardev:m"]
        with subprocess.Popen([*argv, "-kernel", folder], pass_fds=[fd], stderr=-1) as process:
            listener.close()
            assert b"is a directory" in process.stderr.readline()
            caller.connect(f"{folder}/sock")
            with pytest.raises(ConnectionResetError):
                caller.recv(1)
            assert process.wait(TIMEOUT_S) == 1


@pytest.mark.parametrize("how", ["poweroff", "SIGTERM", "SIGHUP"])
def test_terminal_restored(folder, how):
    """The terminal is raw while the guest runs and as before afterwards."""
    parent, child = pty.openpty()
    try:
        before = termios.tcgetattr(child)
        argv = [EBB, "-enable-kvm", "-nodefaults", "-display", "none", "-m", "64M"]
        argv += ["-chardev", "stdio,id=s,signal=off", "-device", "isa-serial,chardev=s"]
        argv += ["-kernel", GUEST, "-append", "test=echo"]
        process = subprocess.Popen(
            argv, stdin=child, stdout=child, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            console = Stream(os.dup(parent))
            console.expect("^echo: ready$")
            raw = termios.tcgetattr(child)
            assert not raw[3] & (termios.ICANON | termios.ECHO)
            if how == "poweroff":
                os.write(parent, b"quit\n")
            else:
                process.send_signal(SIGNALS[how])
            assert process.wait(TIMEOUT_S) == 0
            assert termios.tcgetattr(child) == before
            flags = fcntl.fcntl(child, fcntl.F_GETFL)
            assert not flags & os.O_NONBLOCK, "the terminal was left non-blocking"
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
    finally:
        os.close(child)
        os.close(parent)


def test_prompt_is_the_usual_one(folder):
    """Scripts wait for it."""
    with Machine(folder, "test=echo", SMALL, monitor=True) as machine:
        assert PROMPT == b"(qemu) " and "monitor" in machine.monitor().banner
