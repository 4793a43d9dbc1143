#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Build initial RAM disks: the guest's, and the emulated host's.

    initrd.py --kernel NAME --out FILE [--module NAME...] [--file PATH=SOURCE...] [--driver FILE]

The guest's disk holds busybox, the kernel modules for the virtio devices with everything they
depend on, and an init that says "ebb-guest: ready" as the guest's first userspace line, loads the
modules and then runs a shell on the console (prompt PROMPT). Besides busybox it knows

    meminfo         one line per NUMA node: node0 MemTotal 9904 kB MemFree 9607 kB MemUsed 297 kB
    fill MIB        take MIB mebibytes of memory and keep them (a file in a RAM disk)
    unfill          give them back

With a driver of its own, a module that takes the place of the kernel's virtio_mem, the latter is on
the disk (STOCK_DRIVER), but not loaded; the other is DRIVER.

The host's disk holds busybox, KVM's modules and the relay as first process, plus the files that a
test brings. Both are cpio archives ("newc"), not compressed: an emulated processor unpacks
slower than it copies.
"""

import argparse
import lzma
import os
import pathlib
import re
import stat
import subprocess
import sys

import ebbcache

READY = "ebb-guest: ready"
PROMPT = "ebb-guest# "
GUEST_MODULES = ("virtio_pci", "virtio_mem", "virtio_rng")
DRIVER = "modules/driver.ko"
STOCK_DRIVER = "modules/virtio_mem.ko"
HOST_MODULES = ("kvm_amd", "virtio_console", "virtio_pci")

GUEST_INIT = f"""#!/bin/sh
echo "{READY}"
export PATH=/bin HOME=/root TERM=${{TERM:-vt100}}
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts
mount -t devpts pts /dev/pts
mount -t tmpfs -o size=0 fill /fill
hostname ebb-guest
for module in $(cat /modules/order); do
\tinsmod /modules/$module
done
export PS1='{PROMPT}'
cd /root
while :; do
\tsetsid cttyhack sh
done
"""

MEMINFO = """#!/bin/sh
for node in /sys/devices/system/node/node[0-9]*; do
\tawk '$3 ~ /^Mem(Total|Free|Used):/ { sub(":", "", $3); line = line " " $3 " " $4 " kB" }
\t     END { print "node" $2 line }' "$node/meminfo"
done
"""

FILL = """#!/bin/sh
# Take memory: a file in a RAM disk, which nothing can move to the disk.
exec dd if=/dev/zero of=/fill/file bs=1M count="${1:?MiB}" 2>/dev/null
"""

HOST_INIT = """#!/bin/sh
export PATH=/bin HOME=/root TERM=vt100
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=666 pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs tmp /tmp
hostname ebb-nest
ip link set lo up
for module in $(cat /modules/order); do
\tinsmod /modules/$module
done
echo 1 > /proc/sys/vm/overcommit_memory
cd /ebb
exec relay /dev/vport0p1
"""


class Archive:
    """A cpio archive ("newc") written to an open file; folders are added as paths need them."""

    def __init__(self, out):
        self.out = out
        self.inode = 0
        self.folders = set()

    def _entry(self, name, mode, size, rdev=(0, 0)):
        self.inode += 1
        raw = name.encode() + b"\0"
        fields = (self.inode, mode, 0, 0, 1, 0, size, 0, 0, *rdev, len(raw), 0)
        head = b"070701" + b"".join(b"%08X" % f for f in fields) + raw
        self.out.write(head + b"\0" * (-len(head) % 4))

    def folder(self, name):
        name = name.strip("/")
        if not name or name in self.folders:
            return
        self.folder(os.path.dirname(name))
        self.folders.add(name)
        self._entry(name, stat.S_IFDIR | 0o755, 0)

    def data(self, name, content, mode=0o644):
        self.folder(os.path.dirname(name))
        if isinstance(content, str):
            content = content.encode()
        self._entry(name.strip("/"), stat.S_IFREG | mode, len(content))
        self.out.write(content + b"\0" * (-len(content) % 4))

    def symlink(self, name, target):
        self.folder(os.path.dirname(name))
        raw = target.encode()
        self._entry(name.strip("/"), stat.S_IFLNK | 0o777, len(raw))
        self.out.write(raw + b"\0" * (-len(raw) % 4))

    def device(self, name, major, minor):
        self.folder(os.path.dirname(name))
        self._entry(name.strip("/"), stat.S_IFCHR | 0o600, 0, (major, minor))

    def path(self, name, source):
        """Add the file or the whole folder SOURCE as NAME."""
        source = pathlib.Path(source)
        if source.is_dir():
            self.folder(name)
            for child in sorted(source.iterdir()):
                self.path(f"{name}/{child.name}", child)
        else:
            mode = 0o755 if os.access(source, os.X_OK) else 0o644
            self.data(name, source.read_bytes(), mode)

    def close(self):
        self._entry("TRAILER!!!", 0, 0)
        self.out.write(b"\0" * (-self.out.tell() % 512))


def module_files(kernel):
    """Every module of the kernel: its name with underscores -> its file."""
    found = {}
    for file in (ebbcache.kernel_dir(kernel) / "modules" / "kernel").rglob("*.ko*"):
        found[file.name.split(".ko")[0].replace("-", "_")] = file
    return found


def module_content(file):
    """The module itself, unpacked."""
    raw = file.read_bytes()
    return lzma.decompress(raw) if file.suffix == ".xz" else raw


def resolve_modules(kernel, names):
    """The modules NAMES and all they need, as (name, content) in the order to load them.

    A name that is no module of this kernel is taken as built in, which modules.builtin confirms
    for whatever is not.
    """
    files = module_files(kernel)
    listing = ebbcache.kernel_dir(kernel) / "modules" / "modules.builtin"
    builtin = {
        pathlib.Path(line).stem.replace("-", "_") for line in listing.read_text().splitlines()
    }
    order = {}

    def add(name):
        name = name.replace("-", "_")
        if name in order or name in builtin:
            return
        if name not in files:
            raise ValueError(f"kernel {kernel} has no module {name}")
        content = module_content(files[name])
        needs = re.search(rb"(?:^|\0)depends=([^\0]*)\0", content)
        for needed in (needs.group(1).decode() if needs else "").split(","):
            if needed:
                add(needed)
        order[name] = content

    for name in names:
        add(name)
    return list(order.items())


def add_base(archive, kernel, modules, init, driver=None):
    """What both disks have: busybox, modules and their order, init, mount points. DRIVER is loaded
    instead of the kernel's own."""
    busybox = ebbcache.part_dir("busybox")
    archive.device("dev/console", 5, 1)
    archive.data("bin/busybox", (busybox / "busybox").read_bytes(), 0o755)
    for applet in (busybox / "applets").read_text().split():
        if applet != "busybox":
            archive.symlink(f"bin/{applet}", "busybox")
    order = []
    for name, content in resolve_modules(kernel, modules):
        archive.data(f"modules/{name}.ko", content)
        if driver and STOCK_DRIVER.endswith(f"/{name}.ko"):
            archive.path(DRIVER, driver)
            name = pathlib.Path(DRIVER).stem
        order.append(f"{name}.ko\n")
    archive.data("modules/order", "".join(order))
    archive.data("init", init, 0o755)
    for folder in ("proc", "sys", "root", "tmp", "etc", "var"):
        archive.folder(folder)
    archive.data("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
    archive.data("etc/group", "root:x:0:\n")


def build_guest(kernel, out, modules=(), files=None, driver=None):
    """Write the guest's disk for kernel NAME to the path OUT.

    MODULES are loaded besides GUEST_MODULES; FILES maps names in the guest to files here. DRIVER is
    a module's file.
    """
    with open(out, "wb") as file:
        archive = Archive(file)
        add_base(archive, kernel, (*GUEST_MODULES, *modules), GUEST_INIT, driver)
        archive.folder("fill")
        archive.data("bin/meminfo", MEMINFO, 0o755)
        archive.data("bin/fill", FILL, 0o755)
        archive.data("bin/unfill", "#!/bin/sh\nexec rm -f /fill/file\n", 0o755)
        for name, source in (files or {}).items():
            archive.path(name, source)
        archive.close()


def library_closure(program):
    """The libraries PROGRAM loads, as absolute paths, its loader among them."""
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    if "not found" in done.stdout:
        raise ValueError(f"{program} needs libraries that are not installed: {done.stdout.strip()}")
    return re.findall(r"(?:=> |^\s*)(/\S+) \(0x", done.stdout, re.M)


def build_host(out, relay, files=None, programs=None, modules=(), kernel=ebbcache.HOST_KERNEL):
    """Write the emulated host's disk for kernel NAME to the path OUT.

    RELAY is the relay's binary. FILES maps names below /ebb to files or folders here; PROGRAMS
    likewise, for programs that also need their libraries, which keep their own paths.
    """
    with open(out, "wb") as file:
        archive = Archive(file)
        add_base(archive, kernel, (*HOST_MODULES, *modules), HOST_INIT)
        archive.path("bin/relay", relay)
        archive.folder("ebb")
        libraries = {}
        for name, source in (programs or {}).items():
            archive.path(f"ebb/{name}", source)
            for library in library_closure(source):
                libraries[library] = True
        for library in libraries:
            archive.data(library, pathlib.Path(library).read_bytes(), 0o755)
        for name, source in (files or {}).items():
            archive.path(f"ebb/{name}", source)
        archive.close()


def pair(text):
    name, equals, source = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text}: must be PATH=SOURCE")
    return name, source


def main():
    parser = argparse.ArgumentParser(description="Build a guest's initial RAM disk.")
    parser.add_argument("--kernel", required=True, choices=sorted(ebbcache.KERNELS))
    parser.add_argument("--out", required=True, help="the file to write")
    parser.add_argument("--module", action="append", default=[], help="one more module to load")
    parser.add_argument("--file", action="append", type=pair, default=[], metavar="PATH=SOURCE")
    parser.add_argument("--driver", help="a module to load instead of the kernel's virtio_mem")
    args = parser.parse_args()
    try:
        build_guest(args.kernel, args.out, args.module, dict(args.file), args.driver)
    except (ebbcache.MissingPart, ValueError, OSError) as error:
        print(f"initrd: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
