# SPDX-License-Identifier: BSD-3-Clause
"""Where fetched parts are kept, and how to find them.

The cache folder is $EBB_CACHE, else ~/.cache/ebb. fetch.py alone writes to it; every other
program only reads. A part is a folder that appears by one rename when it is complete, so a
reader needs no lock:

    kernel/NAME/        vmlinuz, vmlinux, release, modules/ (the tree of /lib/modules/RELEASE)
    headers/NAME/       release, build/ (make -C build M=FOLDER makes modules for that release)
    qemu/               run (start this), bin/, lib/, share/, version
    busybox/            busybox, applets
    stress-ng/          run (start this), bin/, lib/
    libvirt/NAME/       run (start this, see libvirt_run.sh), bin/, lib/, drivers/, share/, version,
                        helpers as links to run; NAME is one of LIBVIRTS
    work/               things made from the parts (relay), named by what they were made from

Any other NAME is one of KERNELS. A part that is missing is reported as MissingPart, whose text names the
command that fetches it.
"""

import os
import pathlib

# Name of a guest kernel -> the Debian package that always depends on the newest one of its kind.
KERNELS = {
    "6.12-cloud": "linux-image-6.12-cloud-amd64",
    "6.12-generic": "linux-image-6.12-amd64",
    "6.1-cloud": "linux-image-cloud-amd64",
    "6.1-generic": "linux-image-amd64",
}

# Those that modules are compiled for.
HEADERS = ("6.12-cloud", "6.1-cloud")

# Name of a libvirt -> the release that it comes from.
LIBVIRTS = {"9.0": "bookworm", "11.3": "bookworm-backports"}

# The kernel that the emulated host runs, and the parts that every nested run needs.
HOST_KERNEL = "6.12-cloud"
BASE_PARTS = ("busybox", "qemu", "kernel/" + HOST_KERNEL)


class MissingPart(Exception):
    """A part is not in the cache yet."""


def cache_dir():
    """The cache folder; it need not exist."""
    chosen = os.environ.get("EBB_CACHE")
    return pathlib.Path(chosen) if chosen else pathlib.Path.home() / ".cache" / "ebb"


def part_dir(name):
    """The folder of part NAME (for example "qemu" or "kernel/6.1-cloud")."""
    folder = cache_dir() / name
    if not folder.is_dir():
        raise MissingPart(f"{name} is not in {cache_dir()}: run tools/nest/fetch.py {name}")
    return folder


def kernel_dir(name):
    """The folder of guest kernel NAME, one of KERNELS."""
    if name not in KERNELS:
        raise ValueError(f"kernel {name}: must be one of {', '.join(KERNELS)}")
    return part_dir("kernel/" + name)


def release(part):
    """The kernel release that PART (kernel/NAME, headers/NAME) is of, or None without it."""
    file = cache_dir() / part / "release"
    return file.read_text().strip() if file.exists() else None


def headers_dir(name):
    """The folder of the headers of guest kernel NAME, one of HEADERS."""
    if name not in HEADERS:
        raise ValueError(f"headers of kernel {name}: must be one of {', '.join(HEADERS)}")
    folder = part_dir("headers/" + name)
    have, wanted = release("headers/" + name), release("kernel/" + name)
    if have != wanted:
        raise MissingPart(
            f"headers/{name} is of {have}, kernel/{name} is {wanted}: "
            f"run tools/nest/fetch.py headers/{name}"
        )
    return folder


def work_dir():
    """The folder for things made from the parts; created when needed."""
    folder = cache_dir() / "work"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
