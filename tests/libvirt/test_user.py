# SPDX-License-Identifier: BSD-3-Clause
"""Guests of a user without rights, shut in as libvirt shuts in: a /dev of their own, no capabilities,
no more system calls than they need."""

import os
import pathlib
import re
import tempfile

import pytest

from daemon import USER, USER_ID, Daemon
from domain import MIB, Domain

FILTERED = "2"  # of Seccomp: in a process's status


CONF = {
    "system": {"namespaces": ["mount"], "max_processes": 64, "max_files": 1024},
    "session": {},
}


@pytest.fixture(scope="module", params=list(CONF))
def user_daemon(request, version):
    """libvirtd of the system that starts guests as another user, and one that is that user's."""
    if os.geteuid() != 0:
        pytest.skip("only root can start something as another user")
    session = request.param == "session"
    options = {"session": True} if session else {"user": USER}
    conf = {"seccomp_sandbox": 1, **CONF[request.param]}
    with tempfile.TemporaryDirectory(prefix="ebb-lv-", ignore_cleanup_errors=True) as folder:
        with Daemon(version, folder, qemu_conf=conf, **options) as daemon:
            yield daemon
            daemon.clear()


def status(pid, task=None):
    path = pathlib.Path(f"/proc/{pid}/task/{task}/status" if task else f"/proc/{pid}/status")
    return dict(re.findall(r"(?m)^(\w+):\s*(.*)$", path.read_text()))


def test_shut_in(user_daemon):
    """It lives like any other, and its process may do nothing else."""
    domain = Domain(user_daemon, "user", "q35", small=True).start()
    domain.resize_and_wait(0, 64 * MIB)
    domain.resize_and_wait(0, 2 * MIB)
    domain.type("touch 0")
    domain.expect("^touched 0 pages=512$")
    pid = domain.pid
    for task in os.listdir(f"/proc/{pid}/task"):
        of = status(pid, task)
        assert of["Uid"].split() == of["Gid"].split() == [str(USER_ID)] * 4
        assert int(of["CapEff"], 16) == int(of["CapPrm"], 16) == 0
        assert (of["Seccomp"], of["NoNewPrivs"]) == (FILTERED, "1"), of
    if not user_daemon.session:
        here, there = (os.stat(f"/proc/{of}/ns/mnt").st_ino for of in ("self", pid))
        assert here != there
        limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"(?m)^Max open files +102\d +102\d ", limits), limits
    # The guarantee needs no rights.
    text = domain.virsh("qemu-monitor-command", "--hmp", "info virtio-mem virtiomem0")
    assert re.search(r"(?m)^Guard: on \(mprotect\+userfaultfd\)", text), text
    domain.virsh("suspend")
    domain.virsh("resume")
    domain.virsh("reset")
    domain.expect("^follow: ready$")
    assert domain.emulator_sizes()["virtiomem0"] == (2 * MIB, 2 * MIB)
    place = user_daemon.home if user_daemon.session else user_daemon.folder / "images"
    domain.virsh("save", place / "state")
    assert domain.state() == "shut off"
    user_daemon.virsh("restore", place / "state")
    domain.listen()
    domain.resize_and_wait(0, 16 * MIB)
    domain.virsh("shutdown")
    user_daemon.events.expect("lifecycle user Stopped Shutdown")
    said = [line for line in user_daemon.guest_log("user").splitlines() if " ebb: " in line]
    assert [line for line in said if "terminating on signal" not in line] == []
