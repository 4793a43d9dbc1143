#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Fetch what a nested run needs, without installing anything on the machine.

    fetch.py [--update] [--list] [PART...]

Parts: qemu, busybox, stress-ng, kernel/6.12-cloud, kernel/6.12-generic, kernel/6.1-cloud,
kernel/6.1-generic, headers/6.12-cloud, headers/6.1-cloud, libvirt/9.0, libvirt/11.3, or "all";
without any: what every nested run needs. A part that is already there is left alone unless
--update asks for the newest one. Headers are those of the kernel that is there; where the mirror has them no more, the kernel is
fetched anew with them.

Packages come from the Debian mirror that this machine itself uses, through an apt state of our
own (lists, archives, an empty status file) inside the cache folder: the system's own package
lists are neither needed nor changed, and no right beyond writing to the cache folder is needed.
QEMU is Debian 12's backport of version 10 with every library it needs, down to the C library;
where the mirror has no backports, Debian 12's own QEMU 7.2 is taken instead and said so. libvirt/9.0
is Debian 12's libvirt and libvirt/11.3 that of its backports, each with its libraries; how they are
started without being installed is said in libvirt_run.sh.

Two fetches at once are safe: one lock file covers the whole run, and a part appears by one
rename when it is complete. Invariants:
I1. A folder named in ebbcache.py is complete or absent.
I2. Everything half-made lives under tmp-* in the cache folder and is removed on the way out.
"""

import argparse
import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import bzimage
import ebbcache

RELEASE = "bookworm"
KEYRING = pathlib.Path("/usr/share/keyrings/debian-archive-keyring.gpg")
ARCH_LIBS = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
LIBVIRT_RUN = pathlib.Path(__file__).resolve().parent / "libvirt_run.sh"
ALL_PARTS = (
    *("busybox", "qemu", "stress-ng"),
    *("kernel/" + name for name in ebbcache.KERNELS),
    *("headers/" + name for name in ebbcache.HEADERS),
    *("libvirt/" + name for name in ebbcache.LIBVIRTS),
)


class FetchError(Exception):
    """A part could not be fetched; the text says why and what can be done."""


def say(text):
    print(f"fetch: {text}", flush=True)


def run(argv, **options):
    """Run ARGV and return its output; FetchError with its last words when it fails."""
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, **options
    )
    if done.returncode != 0:
        last = "\n".join((done.stderr + done.stdout).strip().splitlines()[-4:])
        raise FetchError(f"{argv[0]} {argv[-1]} failed with status {done.returncode}: {last}")
    return done.stdout


class Apt:
    """An apt of our own inside the cache folder, on the machine's own mirror."""

    def __init__(self, folder):
        self.folder = folder
        self.has_backports = False
        self.conf = folder / "apt.conf"
        for sub in ("lists/partial", "archives/partial", "empty"):
            (folder / sub).mkdir(parents=True, exist_ok=True)
        (folder / "status").write_text("")
        lines = ["#clear APT::Update::Post-Invoke;", "#clear APT::Update::Post-Invoke-Success;"]
        settings = {
            "Dir::State": folder,
            "Dir::State::Lists": folder / "lists",
            "Dir::State::Status": folder / "status",
            "Dir::Cache": folder,
            "Dir::Cache::archives": folder / "archives",
            "Dir::Etc::SourceList": folder / "sources.list",
            "Dir::Etc::SourceParts": folder / "empty",
            "Dir::Etc::Preferences": folder / "preferences",
            "Dir::Etc::PreferencesParts": folder / "empty",
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "root",
            "APT::Get::List-Cleanup": "true",
            "APT::Install-Recommends": "false",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        lines += [f'{key} "{value}";' for key, value in settings.items()]
        lines += ["#clear APT::Architectures;", 'APT::Architectures { "amd64"; };']
        self.conf.write_text("\n".join(lines) + "\n")
        (folder / "preferences").write_text("")

    def command(self, program, *words, cwd=None):
        """Run apt's PROGRAM (apt-get, apt-cache) with our configuration."""
        env = dict(os.environ, LC_ALL="C", DEBIAN_FRONTEND="noninteractive")
        return run([program, "-c", str(self.conf), *words], cwd=cwd, env=env)

    def update(self):
        """Read the package lists; find out what the mirror has besides the release itself.

        Kernels newer than the release's come with its security updates, QEMU's with its
        backports. Security updates that the machine's sources do not name are looked for beside
        the mirror, where Debian's own are.
        """
        main, security = system_mirrors()
        signed = f"[arch=amd64 signed-by={KEYRING}] " if KEYRING.exists() else "[arch=amd64] "
        base = f"deb {signed}{main} {RELEASE} main"
        backports = f"deb {signed}{main} {RELEASE}-backports main"
        updates = f"deb {signed}{security or main + '-security'} {RELEASE}-security main"
        say("reading Debian's package lists")
        choices = [[base, updates, backports], [base, updates]]
        if not security:
            choices += [[base, backports], [base]]
        for lines in choices:
            (self.folder / "sources.list").write_text("\n".join(lines) + "\n")
            try:
                self.command("apt-get", "update", "--error-on=any")
                break
            except FetchError:
                if lines is choices[-1]:
                    raise
        for line, name in ((updates, "security updates"), (backports, "backports")):
            if line not in lines:
                say(f"the mirror gives no {name}")
        self.has_backports = backports in lines

    def closure(self, package, release=None):
        """PACKAGE and all it depends on, as NAME=VERSION words."""
        words = ["install", "--simulate", "--yes", "--no-install-recommends", package]
        if release:
            words += ["--target-release", release]
        found = re.findall(r"^Inst (\S+) \((\S+) ", self.command("apt-get", *words), re.M)
        return [f"{name}={version}" for name, version in found]

    def download(self, words, folder):
        """Download the packages WORDS into FOLDER; return their files."""
        folder.mkdir(parents=True, exist_ok=True)
        self.command("apt-get", "download", "--quiet", *words, cwd=folder)
        return sorted(folder.glob("*.deb"))

    def depends(self, package):
        """The names of the packages that the newest PACKAGE needs by itself; [] without one."""
        text = self.command("apt-cache", "show", "--no-all-versions", package)
        match = re.search(r"^Depends: (.*)", text, re.M)
        return [word.split()[0] for word in match.group(1).split(", ")] if match else []

    def depended_image(self, meta):
        """The versioned package that the meta package META stands for."""
        for name in self.depends(meta):
            if name.startswith("linux-image-"):
                return name
        raise FetchError(f"package {meta} names no kernel image")

    def has(self, package):
        """Whether the mirror has PACKAGE."""
        return package in self.command("apt-cache", "pkgnames", package).split()


def system_mirrors():
    """The addresses of Debian and of its security updates in this machine's apt sources."""
    env = dict(os.environ, LC_ALL="C")
    text = run(["apt-get", "update", "--print-uris"], env=env)
    bases = {}
    for base, suite in re.findall(r"^'(.+)/dists/(\S+?)/(?:In)?Release'", text, re.M):
        bases.setdefault(suite, base)
    main = bases.get(RELEASE)
    for suite, base in bases.items():
        if main is None and "-" not in suite and "/" not in suite:
            main = base
    if main is None:
        raise FetchError("this machine's apt sources name no Debian mirror")
    security = next((b for s, b in bases.items() if "-security" in s or "/updates" in s), None)
    return main, security


def unpack(files, folder):
    """Unpack the packages FILES over FOLDER."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        run(["dpkg-deb", "-x", str(file), str(folder)])


def publish(made, name):
    """Put the finished folder MADE in the place of part NAME (I1)."""
    place = ebbcache.cache_dir() / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        old = pathlib.Path(tempfile.mkdtemp(prefix="tmp-old-", dir=ebbcache.cache_dir()))
        place.rename(old / "part")
        made.rename(place)
        shutil.rmtree(old)
    else:
        made.rename(place)


def fetch_busybox(apt, tmp):
    """Make the part busybox: the static binary and the names it answers to."""
    unpack(apt.download(["busybox-static"], tmp / "deb"), tmp / "root")
    made = tmp / "busybox"
    made.mkdir()
    binary = next(p for p in (tmp / "root/bin/busybox", tmp / "root/usr/bin/busybox") if p.exists())
    shutil.copy2(binary, made / "busybox")
    (made / "applets").write_text(run([str(made / "busybox"), "--list"]))
    return made


def fetch_kernel(apt, tmp, name):
    """Make the part kernel/NAME: both forms of the kernel and its modules."""
    image = apt.depended_image(ebbcache.KERNELS[name])
    say(f"kernel/{name}: {image}")
    unpack(apt.download([image], tmp / "deb"), tmp / "root")
    boot = tmp / "root/boot"
    vmlinuz = next(boot.glob("vmlinuz-*"))
    release = vmlinuz.name.removeprefix("vmlinuz-")
    modules = next(p for p in (tmp / "root/lib/modules", tmp / "root/usr/lib/modules") if p.exists())
    made = tmp / "kernel"
    made.mkdir()
    vmlinuz.rename(made / "vmlinuz")
    (modules / release).rename(made / "modules")
    (made / "release").write_text(release + "\n")
    (boot / f"config-{release}").rename(made / "config")
    (made / "vmlinux").write_bytes(bzimage.extract_vmlinux((made / "vmlinuz").read_bytes()))
    return made


def fetch_headers(apt, tmp, name):
    """Make the part headers/NAME: the kernel's headers and build programs, joined by relative
    paths. The kernel's own part is there already, see wanted_parts()."""
    release = ebbcache.release(f"kernel/{name}")
    package = f"linux-headers-{release}"
    if not apt.has(package):
        say(f"headers/{name}: the mirror has none for {release}; taking the newest kernel")
        fetch_part(apt, f"kernel/{name}")
        release = ebbcache.release(f"kernel/{name}")
        package = f"linux-headers-{release}"
    kinds = ("linux-headers-", "linux-kbuild-")
    needed = [word for word in apt.depends(package) if word.startswith(kinds)]
    say(f"headers/{name}: {package}")
    made = tmp / "headers"
    unpack(apt.download([package, *needed], tmp / "deb"), made)
    flavour = made / "usr/src" / package
    # Without the kernel's image no type data is made for a module, which would take one more tool.
    (flavour / "vmlinux").unlink(missing_ok=True)
    makefile = flavour / "Makefile"
    here = "$(dir $(lastword $(MAKEFILE_LIST)))../"
    makefile.write_text(makefile.read_text().replace("/usr/src/", here))
    (made / "build").symlink_to(flavour.relative_to(made))
    (made / "release").write_text(release + "\n")
    return made


def needed_libraries(loader, paths, program):
    """The library files that PROGRAM loads, found by the unpacked loader itself."""
    text = run([str(loader), "--inhibit-cache", "--library-path", paths, "--list", str(program)])
    if "not found" in text:
        missing = " ".join(re.findall(r"(\S+) => not found", text))
        raise FetchError(f"{program.name} needs libraries that no package brought: {missing}")
    return [pathlib.Path(p) for p in re.findall(r"=> (/\S+) ", text)]


STRESS_RUN = """#!/bin/sh
# Start the unpacked stress-ng with its own libraries, from wherever this folder is.
here=${0%/*}
exec "$here/lib/ld-linux-x86-64.so.2" --inhibit-cache --library-path "$here/lib" \\
\t"$here/bin/stress-ng" "$@"
"""

QEMU_RUN = """#!/bin/sh
# Start the unpacked QEMU with its own libraries and firmware, from wherever this folder is.
here=${0%/*}
QEMU_MODULE_DIR=$here/modules
export QEMU_MODULE_DIR
exec "$here/lib/ld-linux-x86-64.so.2" --inhibit-cache --library-path "$here/lib" \\
\t"$here/bin/qemu-system-x86_64" -L "$here/share" "$@"
"""


def assemble_program(root, made, program, others=()):
    """Copy PROGRAM of the unpacked packages ROOT, a path in them, into the folder MADE with all the
    libraries it loads, and those of the programs OTHERS, which are in MADE already."""
    libs = [root / sub for sub in ARCH_LIBS]
    paths = ":".join(str(p) for p in libs)
    loader = next(p for p in (lib / "ld-linux-x86-64.so.2" for lib in libs) if p.exists())
    for sub in ("bin", "lib"):
        (made / sub).mkdir(parents=True, exist_ok=True)
    shutil.copy2(loader, made / "lib")
    for needing in (shutil.copy2(root / program, made / "bin"), *others):
        for lib in needed_libraries(loader, paths, pathlib.Path(needing)):
            if not (made / "lib" / lib.name).exists():
                shutil.copy2(lib, made / "lib" / lib.name)


def write_run(made, text):
    """The script that starts the program in the folder MADE."""
    (made / "run").write_text(text)
    (made / "run").chmod(0o755)


def assemble_qemu(root, made):
    """Copy from the unpacked packages ROOT what QEMU runs with, into the folder MADE."""
    for sub in ("share", "modules"):
        (made / sub).mkdir(parents=True)
    modules = [
        shutil.copy2(module, made / "modules")
        for module in (root / "usr/lib/x86_64-linux-gnu/qemu").glob("accel-*.so")
    ]
    assemble_program(root, made, "usr/bin/qemu-system-x86_64", modules)
    wanted = (
        *("bios-256k.bin", "bios-microvm.bin", "qboot.rom"),
        *("kvmvapic.bin", "linuxboot_dma.bin", "pvh.bin"),
    )
    for folder in (root / "usr/share/qemu", root / "usr/share/seabios"):
        for name in wanted:
            if (folder / name).exists():
                shutil.copy2(folder / name, made / "share")
    write_run(made, QEMU_RUN)


def fetch_qemu(apt, tmp):
    """Make the part qemu: the program with all its libraries and firmware."""
    release = f"{RELEASE}-backports" if apt.has_backports else None
    if release is None:
        say("qemu: taking Debian 12's own QEMU 7.2, whose nest is only stable with one processor")
    words = apt.closure("qemu-system-x86", release)
    say(f"qemu: {len(words)} packages")
    unpack(apt.download(words, tmp / "deb"), tmp / "root")
    made = tmp / "qemu"
    assemble_qemu(tmp / "root", made)
    version = run([str(made / "run"), "--version"])
    (made / "version").write_text(re.search(r"version (\d+(\.\d+)+)", version).group(1) + "\n")
    return made


def fetch_stress_ng(apt, tmp):
    """Make the part stress-ng: the program with all its libraries."""
    words = apt.closure("stress-ng")
    say(f"stress-ng: {len(words)} packages")
    unpack(apt.download(words, tmp / "deb"), tmp / "root")
    made = tmp / "stress-ng"
    assemble_program(tmp / "root", made, "usr/bin/stress-ng")
    write_run(made, STRESS_RUN)
    run([str(made / "run"), "--version"])
    return made


LIBVIRT_PROGRAMS = ("usr/sbin/libvirtd", "usr/sbin/virtlogd", "usr/bin/virsh")
LIBVIRT_HELPERS = ("libvirt_iohelper",)


def assemble_libvirt(root, made):
    """Copy from the unpacked packages ROOT what libvirt runs with, into the folder MADE: programs,
    the driver of QEMU's guests, helpers that it starts by fixed paths, its data."""
    for sub in ("drivers", "bin"):
        (made / sub).mkdir(parents=True)
    drivers = root / "usr/lib/x86_64-linux-gnu/libvirt/connection-driver"
    shutil.copy2(drivers / "libvirt_driver_qemu.so", made / "drivers")
    main, *others = LIBVIRT_PROGRAMS
    others += [f"usr/lib/libvirt/{name}" for name in LIBVIRT_HELPERS]
    others = [shutil.copy2(root / path, made / "bin") for path in others]
    assemble_program(root, made, main, [*others, made / "drivers/libvirt_driver_qemu.so"])
    shutil.copytree(root / "usr/share/libvirt", made / "share")
    shutil.copy2(LIBVIRT_RUN, made / "run")
    for name in LIBVIRT_HELPERS:
        (made / name).symlink_to("run")


def is_backport(part):
    """Whether PART is only there with the release's backports."""
    kind, _, name = part.partition("/")
    return kind == "libvirt" and ebbcache.LIBVIRTS[name] != RELEASE


def fetch_libvirt(apt, tmp, name):
    """Make the part libvirt/NAME: daemons, client, driver, data, with all their libraries."""
    release = ebbcache.LIBVIRTS[name]
    if is_backport(f"libvirt/{name}") and not apt.has_backports:
        raise FetchError(f"libvirt/{name} comes from {release}, which the mirror does not have")
    packages = ("libvirt-daemon", "libvirt-clients")
    words = {word for package in packages for word in apt.closure(package, release)}
    versions = dict(word.split("=", 1) for word in words)
    versions["libvirt-daemon-driver-qemu"] = versions["libvirt-daemon"]
    # What is no library is for a machine that libvirt is installed on.
    words = [f"{n}={v}" for n, v in sorted(versions.items()) if n.startswith("lib")]
    say(f"libvirt/{name}: {len(words)} packages")
    unpack(apt.download(words, tmp / "deb"), tmp / "root")
    made = tmp / "libvirt"
    assemble_libvirt(tmp / "root", made)
    version = run([str(made / "run"), "virsh", "--version"]).strip()
    (made / "version").write_text(version + "\n")
    return made


@contextlib.contextmanager
def locked(folder):
    """Hold the cache's lock, waiting for another fetch to end."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another fetch to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fetch_part(apt, part):
    """Fetch PART and put it in its place."""
    say(f"{part}: fetching")
    tmp = pathlib.Path(tempfile.mkdtemp(prefix="tmp-", dir=ebbcache.cache_dir()))
    try:
        kind, _, name = part.partition("/")
        if kind == "busybox":
            made = fetch_busybox(apt, tmp)
        elif kind == "qemu":
            made = fetch_qemu(apt, tmp)
        elif kind == "stress-ng":
            made = fetch_stress_ng(apt, tmp)
        elif kind == "kernel":
            made = fetch_kernel(apt, tmp, name)
        elif kind == "libvirt":
            made = fetch_libvirt(apt, tmp, name)
        else:
            made = fetch_headers(apt, tmp, name)
        publish(made, part)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    say(f"{part}: ready")


def is_current(part):
    """Whether PART is there, and fits what it belongs to."""
    kind, _, name = part.partition("/")
    if not (ebbcache.cache_dir() / part).is_dir():
        return False
    return kind != "headers" or ebbcache.release(part) == ebbcache.release(f"kernel/{name}")


def wanted_parts(parts, update):
    """What has to be fetched so that PARTS are there, kernels before their headers."""
    needed = []
    for part in parts:
        kind, _, name = part.partition("/")
        if kind == "headers" and not (ebbcache.cache_dir() / "kernel" / name).is_dir():
            needed.append(f"kernel/{name}")
    wanted = [p for p in ALL_PARTS if (p in parts and update) or p in needed]
    return wanted + [p for p in parts if p not in wanted and not is_current(p)]


def fetch(parts, update=False, spare=False):
    """Bring PARTS into the cache; those already there only when UPDATE is set. SPARE: what the
    mirror cannot have is left out."""
    cache = ebbcache.cache_dir()
    with locked(cache):
        for stale in cache.glob("tmp-*"):
            shutil.rmtree(stale, ignore_errors=True)
        wanted = wanted_parts(parts, update)
        if not wanted:
            return
        apt = Apt(cache / "apt")
        apt.update()
        for part in wanted:
            if spare and is_backport(part) and not apt.has_backports:
                say(f"{part}: left out")
            else:
                fetch_part(apt, part)


def main():
    parser = argparse.ArgumentParser(description="Fetch what a nested run needs.")
    parser.add_argument("parts", metavar="PART", nargs="*", help=", ".join(ALL_PARTS) + " or all")
    parser.add_argument("--update", action="store_true", help="fetch the newest even if present")
    parser.add_argument("--list", action="store_true", help="say which parts are present")
    args = parser.parse_args()
    parts = list(args.parts or ebbcache.BASE_PARTS)
    everything = "all" in parts
    if everything:
        parts = list(ALL_PARTS)
    for part in parts:
        if part not in ALL_PARTS:
            parser.error(f"part {part}: must be one of {', '.join(ALL_PARTS)} or all")
    if args.list:
        for part in ALL_PARTS:
            there = (ebbcache.cache_dir() / part).is_dir()
            print(f"{part}: {'present' if there else 'absent'}")
        return 0
    try:
        fetch(parts, args.update, spare=everything)
    except (FetchError, ValueError, OSError) as error:
        print(f"fetch: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
