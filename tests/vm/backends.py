# SPDX-License-Identifier: BSD-3-Clause
"""Memory backends for tests, and what the host needs for some of them.

    with backend_of(name, folder) as backend:       one of NAMES, "hugetlb-2M" or "hugetlbfs"
        args = backend.args("128M")                 -object ... of id m0
        backend.held(machine)                       bytes of the host's that it holds now

    with pool(page, pages), mounted(...), memory_group(...)

I1. What is changed of the host (pools, mounts, control groups) is put back when it is left; where
    this user may not change it, the test is skipped with the reason.
"""

import contextlib
import fcntl
import os
import pathlib
import subprocess

import pytest

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
PAGES = 80  # huge pages that a test may need
POOLS = pathlib.Path("/sys/kernel/mm/hugepages")


# ---- the host ----


@contextlib.contextmanager
def pool(page, pages):
    """Let PAGES more huge pages of PAGE bytes be free."""
    file = POOLS / f"hugepages-{page // KIB}kB" / "nr_hugepages"
    if not os.access(file, os.W_OK):
        pytest.skip(f"this user cannot write to {file}, or the host has no such pages")
    with open(file, "r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        before = int(file.read_text())
        try:
            file.write_text(str(before + pages))
            if int(file.read_text()) < before + pages:
                pytest.skip(f"the host cannot set aside {pages} pages of {page // KIB} KiB now")
            yield file
        finally:
            file.write_text(str(before))


@contextlib.contextmanager
def mounted(kind, folder, options):
    """A file system of its own at FOLDER."""
    folder.mkdir()
    words = ["mount", "-t", kind, "-o", options, "ebb-test", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        folder.rmdir()
        pytest.skip(f"this user cannot mount a {kind}: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


@contextlib.contextmanager
def memory_group(limit):
    """A control group below this process's, with LIMIT bytes; its list of processes."""
    own = dict(line.split(":", 2)[1:] for line in open("/proc/self/cgroup").read().splitlines())
    if "memory" in own:
        folder = pathlib.Path("/sys/fs/cgroup/memory" + own["memory"])
        limit_name = "memory.limit_in_bytes"
    else:
        folder = pathlib.Path("/sys/fs/cgroup" + own.get("", "/"))
        limit_name = "memory.max"
    group = folder / f"ebb-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as why:
        pytest.skip(f"no control group can be made in {folder}: {why.strerror}")
    try:
        try:
            (group / limit_name).write_text(str(limit))
        except OSError as why:
            pytest.skip(f"memory cannot be limited in {group}: {why.strerror}")
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


# ---- backends ----


class Backend:
    """OPTIONS of an object for SIZE bytes, and how to see what it holds."""

    def __init__(self, options, name=None, page=4 * KIB, at_plug=True, flags=()):
        self.options = options
        self.name = name  # of the file, as /proc/PID/fd shows it; None: anonymous
        self.page = page
        self.at_plug = at_plug  # held from plug on, touched or not
        self.flags = flags

    def args(self, size, index=0):
        kind, _, rest = self.options.partition(",")
        return ["-object", f"memory-backend-{kind},id=m{index},size={size}{',' * bool(rest)}{rest}"]

    def held(self, machine):
        """Bytes of host memory, or of disk, behind it."""
        if self.name is None:
            return machine.rss_anon_bytes()
        return sum(
            os.stat(link).st_blocks * 512
            for link in pathlib.Path(f"/proc/{machine.process.pid}/fd").iterdir()
            if os.readlink(link).startswith(self.name)
        )


def backends(folder):
    """Those that every host can have."""
    return {
        "ram": Backend("ram", at_plug=False),
        "ram-shared": Backend("ram,share=on", "/memfd:m0"),
        "memfd": Backend("memfd", "/memfd:m0"),
        "memfd-private": Backend("memfd,share=off", at_plug=False),
        "memfd-unsealed": Backend("memfd,seal=off", "/memfd:m0"),
        "tmpfs-folder": Backend("file,mem-path=/dev/shm", "/dev/shm/"),
        "file": Backend(f"file,mem-path={folder}/file,share=on", f"{folder}/file"),
        "file-offset": Backend(
            f"file,mem-path={folder}/file,share=on,offset=64K", f"{folder}/file"
        ),
        "file-unnamed": Backend(f"file,mem-path={folder}/file", folder),
        "folder": Backend(f"file,mem-path={folder}", folder),
    }


NAMES = list(backends("x"))


@contextlib.contextmanager
def backend_of(name, folder):
    """One of the above, or one that needs the host to be set up."""
    if name == "hugetlb-2M":
        with pool(2 * MIB, PAGES):
            yield Backend("memfd,hugetlb=on,hugetlbsize=2M", "/memfd:m0", 2 * MIB)
    elif name == "hugetlbfs":
        place = pathlib.Path(folder) / "huge"
        with pool(2 * MIB, PAGES), mounted("hugetlbfs", place, "pagesize=2M"):
            yield Backend(f"file,mem-path={place}", str(place), 2 * MIB)
    else:
        yield backends(folder)[name]
