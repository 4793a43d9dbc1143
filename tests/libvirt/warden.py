#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Holds a private place for one libvirtd, and ends everything in it.

    unshare --mount --uts --propagation private warden.py FOLDER

is started by daemon.py, as root in mounts and with a host name of its own (without the `unshare` where a test runs
without root), and lives as long as its standard input is open. One order a line, each a list in
JSON, with one answer a line:

    ["mount", FROM, TO]                 bind FROM over TO, here only          ["done"]
    ["hostname", NAME]                  what the host is called, here only    ["done"]
    ["kvm"]                             a /dev/kvm here that all users open   ["done"]
    ["run", ARGV, ENV, UID, GID, LOG]   run a program; daemons stay           ["ended", STATUS]

What goes wrong is answered by ["error", WHY]. Invariants:
I1. Whatever was started in here is a descendant of this process: it is their subreaper, so those
    that a daemon leaves behind become its children, and are waited for as soon as they ended.
I2. When the input ends, however whoever wrote to it ended, all of them are killed and waited for.
I3. The input is not inherited by anything that is started.
"""

import ctypes
import json
import os
import pathlib
import select
import signal
import socket
import stat
import subprocess
import sys

PR_SET_CHILD_SUBREAPER = 36
KVM_DEVICE = os.makedev(10, 232)


def answer(*words):
    print(json.dumps(words), flush=True)


def mount(*words):
    subprocess.run(["mount", *map(str, words)], stdin=subprocess.DEVNULL, check=True)


def open_kvm(place):
    """A device node that everybody may open, over the machine's own, whose mode stays."""
    place.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", place)
    node = place / "kvm"
    os.mknod(node, stat.S_IFCHR | 0o600, KVM_DEVICE)
    os.chmod(node, 0o666)
    mount("--bind", node, "/dev/kvm")


def run(argv, env, uid, gid, log):
    """The status that ARGV ends with."""
    ids = {} if uid is None else {"user": uid, "group": gid, "extra_groups": []}
    with open(log, "ab") as out:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=env,
            cwd="/",
            start_new_session=True,
            check=False,
            **ids,
        )
    return done.returncode


def children():
    """The numbers of this process's children."""
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == os.getpid():
                found.append(int(entry.name))
    return found


def reap():
    """Wait for the children that ended; false when there are none at all."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def end_all():
    """Kill children until none is left: those of a dead one become children of this process."""
    while reap():
        for pid in children():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            os.wait()
        except ChildProcessError:
            return


def obey(order, place):
    word, *rest = order
    if word == "mount":
        mount("--bind", *rest)
        answer("done")
    elif word == "hostname":
        socket.sethostname(*rest)
        answer("done")
    elif word == "kvm":
        open_kvm(place / "dev")
        answer("done")
    elif word == "run":
        answer("ended", run(*rest))
    else:
        answer("error", f"there is no order {word}")


def orders(wake):
    """Each line of the input; between two, children that ended are waited for."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(wake, select.POLLIN)
    text = b""
    while True:
        for fd, _ in poll.poll():
            if fd == wake:
                os.read(wake, 4096)
                reap()
                continue
            piece = os.read(0, 65536)
            if not piece:
                return
            text += piece
            *lines, text = text.split(b"\n")
            yield from lines


def main():
    place = pathlib.Path(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(woken)
    # Handlers, as programs started here do not inherit those.
    for signo in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signo, lambda *_: None)
    answer("done")
    try:
        for line in orders(wake):
            try:
                obey(json.loads(line), place)
            except (OSError, subprocess.CalledProcessError) as error:
                answer("error", str(error))
    finally:
        end_all()


if __name__ == "__main__":
    main()
