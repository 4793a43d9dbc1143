# SPDX-License-Identifier: BSD-3-Clause
"""Memory backends: where guest memory comes from, what the host holds for it and when, and what a
guest and a person are told when the host has not enough.

What is held is read from the host: blocks of the backend's file, or anonymous memory of the process.
What the tests need of the host they set up themselves (backends.py).
"""

import os
import pathlib
import re
import resource
import subprocess

import pytest

from backends import GIB, KIB, MIB, NAMES, PAGES, Backend
from backends import backend_of, backends, memory_group, mounted, pool
from corefile import CoreFile
from ebbvm import EBB, GUEST, Machine, passed, run_guest

MEM = ["-m", "128M,maxmem=16G"]
BOOT_TEST = "test=boot word=found"
SLACK = 3 * MIB  # page tables, stacks and the like that come and go with the test
DEVICE = "virtio-mem-pci,id=d0,memdev=m0,requested-size=64M,block-size=2M"


def settled(machine, device, size):
    machine.console.expect(rf"^follow {device} plugged={size}$")


def wait_status(monitor, device, wanted):
    return monitor.wait_for(
        lambda: monitor.virtio_mem(device)["Request status"],
        lambda status: status == wanted,
        f"{device} does not come to say {wanted}",
    )


@pytest.mark.parametrize("name", [*NAMES, "hugetlb-2M", "hugetlbfs"])
def test_memory_comes_and_goes(folder, name):
    """What is plugged is memory, empty at first; what is unplugged is the host's again."""
    with backend_of(name, folder) as backend:
        args = [*MEM, *backend.args("128M"), "-device", DEVICE]
        with Machine(folder, "test=vmem-follow", args, monitor=True) as machine:
            monitor = machine.monitor()
            machine.console.expect("^follow: ready$")
            # Anonymous memory is counted with the rest of the process.
            empty = 0 if backend.name else backend.held(machine)
            for _ in range(2):
                if backend.at_plug:
                    assert 64 * MIB <= backend.held(machine) < 64 * MIB + SLACK
                machine.type("verify 0")
                machine.console.expect("^verified 0 wrong=0$")
                machine.type("touch 0")
                machine.console.expect("^touched 0 pages=16384$")
                assert 64 * MIB <= backend.held(machine) - empty < 64 * MIB + SLACK
                monitor.run("virtio-mem d0 16")
                settled(machine, 0, 16 * MIB)
                assert 16 * MIB <= backend.held(machine) - empty < 16 * MIB + SLACK
                machine.type("verify 0")
                machine.console.expect("^verified 0 wrong=0$")
                monitor.run("virtio-mem d0 0")
                settled(machine, 0, 0)
                assert backend.held(machine) - empty < SLACK
                monitor.run("virtio-mem d0 64")
                settled(machine, 0, 64 * MIB)
            monitor.run("system_reset")
            machine.console.expect("BARE test=")
            machine.console.expect("^follow: ready$")
            machine.type("verify 0")
            machine.console.expect("^verified 0 wrong=0$")
            machine.type("quit")
            assert machine.wait() == 0
            passed(machine.console.text)


@pytest.mark.parametrize("test", ["vmem-requests", "vmem-memory", "vmem-dma", "vmem-storm rounds=4"])
@pytest.mark.parametrize("name", [*NAMES, "hugetlb-2M"])
def test_guest(folder, name, test):
    """Every kind of request, memory, DMA."""
    with backend_of(name, folder) as backend:
        args = [*MEM, *backend.args("128M"), "-device", DEVICE, "-device", "virtio-rng-pci"]
        passed(run_guest(folder, f"test={test}", args))


@pytest.mark.parametrize(
    "name, guard", [("ram", "on"), ("memfd-private", "on"), ("memfd", "off"), ("folder", "off")]
)
def test_unplugged_is_zero(folder, name, guard):
    """For a driver that was not told to keep away."""
    with backend_of(name, folder) as backend:
        device = f"{DEVICE},unplugged-inaccessible=off,guard={guard}"
        args = [*MEM, *backend.args("128M"), "-device", device]
        passed(run_guest(folder, "test=vmem-memory read_unplugged=1", args))


@pytest.mark.parametrize("block", ["4K", "64K"])
@pytest.mark.parametrize("name", ["ram", "memfd", "file"])
def test_small_blocks(folder, name, block):
    with backend_of(name, folder) as backend:
        device = f"virtio-mem-pci,id=d0,memdev=m0,requested-size=8M,block-size={block}"
        args = [*MEM, *backend.args("32M"), "-device", device]
        passed(run_guest(folder, "test=vmem-memory", args))
        passed(run_guest(folder, "test=vmem-requests", args))


def test_gigantic_pages(folder):
    """A block that is one page of 1 GiB."""
    with pool(GIB, 1):
        backend = Backend("memfd,hugetlb=on,hugetlbsize=1G", "/memfd:m0", GIB)
        device = "virtio-mem-pci,id=d0,memdev=m0,requested-size=1G,block-size=1G"
        args = [*MEM, *backend.args("4G"), "-device", device]
        with Machine(folder, "test=vmem-follow", args, monitor=True) as machine:
            monitor = machine.monitor()
            machine.console.expect("^follow: ready$")
            assert backend.held(machine) == GIB
            assert monitor.memory_devices()["d0"]["addr"] % GIB == 0
            monitor.run("virtio-mem d0 2048")
            wait_status(monitor, "d0", "host-oom")
            assert monitor.memory_devices()["d0"]["size"] == GIB
            monitor.run("virtio-mem d0 0")
            settled(machine, 0, 0)
            assert backend.held(machine) == 0
            monitor.run("virtio-mem d0 1024")
            settled(machine, 0, GIB)


def test_all_at_once(folder):
    """Pages of different sizes, private, shared and on disk, for the devices of one guest."""
    with pool(2 * MIB, PAGES):
        kinds = [
            (Backend("ram", at_plug=False), "4K"),
            (Backend("memfd", "/memfd:m1"), "2M"),
            (Backend("memfd,hugetlb=on,hugetlbsize=2M,reserve=off", "/memfd:m2"), "2M"),
            (Backend(f"file,mem-path={folder}", folder), "1M"),
            (Backend("file,mem-path=/dev/shm", "/dev/shm/"), "4M"),
        ]
        args = list(MEM)
        for i, (backend, block) in enumerate(kinds):
            args += backend.args("256M", i)
            args += ["-device", f"virtio-mem-pci,id=d{i},memdev=m{i},block-size={block}"]
        append = f"test=vmem-follow devices={len(kinds)}"
        with Machine(folder, append, args, monitor=True) as machine:
            monitor = machine.monitor()
            machine.console.expect("^follow: ready$")
            empty = machine.rss_anon_bytes()
            for size in (64, 16, 128, 0, 32):
                for i in range(len(kinds)):
                    monitor.run(f"virtio-mem d{i} {size}")
                monitor.wait_for(
                    lambda: [d["size"] for d in monitor.memory_devices().values()],
                    lambda sizes, n=size: sizes == [n * MIB] * len(kinds),
                    f"not all {size}",
                )
                for i, (backend, _) in enumerate(kinds):
                    machine.type(f"touch {i}")
                    machine.console.expect(f"^touched {i} pages={size * MIB // 4096}$")
                    held = backend.held(machine) - (0 if backend.name else empty)
                    assert size * MIB <= held < size * MIB + SLACK, backend.options
            for i in range(len(kinds)):
                machine.type(f"verify {i}")
                machine.console.expect(f"^verified {i} wrong=0$")
            machine.type("quit")
            assert machine.wait() == 0
            passed(machine.console.text)


# ---- the host has not enough ----


def check_host_oom(folder, backend, most, give, device=DEVICE):
    """At most MOST of the memory that is asked for can be had: the guest goes on with less, and gets
    64 MiB once GIVE() was called."""
    args = [*MEM, *backend.args("4G"), "-device", device]
    with Machine(folder, "test=vmem-follow", args, monitor=True) as machine:
        monitor = machine.monitor()
        machine.console.expect("^follow: ready$")
        wait_status(monitor, "d0", "host-oom")
        got = monitor.memory_devices()["d0"]["size"]
        assert got <= most
        machine.type("touch 0")
        machine.console.expect(f"^touched 0 pages={got // 4096}$")
        machine.type("verify 0")
        machine.console.expect("^verified 0 wrong=0$")
        monitor.run("virtio-mem d0 0")
        monitor.wait_for(
            lambda: monitor.memory_devices()["d0"]["size"], lambda size: size == 0, "not 0"
        )
        give()
        monitor.run("virtio-mem d0 64")
        settled(machine, 0, 64 * MIB)
        machine.type("touch 0")
        machine.console.expect("^touched 0 pages=16384$")
        machine.type("quit")
        assert machine.wait() == 0
        passed(machine.console.text)


@pytest.mark.parametrize("prealloc", ["off", "on"])
def test_pool_is_empty(folder, prealloc):
    """Huge pages are there when the guest is told so, or it is told no."""
    with pool(2 * MIB, 8) as file:
        backend = Backend("memfd,hugetlb=on,hugetlbsize=2M", "/memfd:m0", 2 * MIB)
        free = int((file.parent / "free_hugepages").read_text()) * 2  # MiB
        if free > 2048:
            pytest.skip("the host has more huge pages than the test can use")
        more = int(file.read_text()) + 32
        check_host_oom(
            folder,
            backend,
            free * MIB,
            lambda: file.write_text(str(more)),
            f"{DEVICE},prealloc={prealloc}".replace("=64M", f"={free + 64}M"),
        )


def test_file_system_is_full(folder):
    place = pathlib.Path(folder) / "small"
    with mounted("tmpfs", place, "size=32M"):
        words = ["mount", "-o", "remount,size=256M", str(place)]
        check_host_oom(
            folder,
            Backend(f"file,mem-path={place}", str(place)),
            32 * MIB,
            lambda: subprocess.run(words, check=True),
        )


@pytest.mark.parametrize("name", ["ram", "ram-shared", "memfd"])
def test_control_group(folder, name):
    """With prealloc=on, and with files, nobody has to be killed for memory that was promised."""
    backend = backends(folder)[name]
    device = f"{DEVICE},prealloc=on".replace("requested-size=64M", "requested-size=0")
    with memory_group(96 * MIB) as processes:
        args = ["-m", "32M,maxmem=1G", *backend.args("512M"), "-device", device]
        with Machine(folder, "test=vmem-follow", args, monitor=True) as machine:
            monitor = machine.monitor()
            machine.console.expect("^follow: ready$")
            processes.write_text(str(machine.process.pid))
            monitor.run("virtio-mem d0 256")
            wait_status(monitor, "d0", "host-oom")
            got = monitor.memory_devices()["d0"]["size"]
            assert got <= 96 * MIB
            monitor.run("virtio-mem d0 32")
            settled(machine, 0, 32 * MIB)
            machine.type("touch 0")
            machine.console.expect("^touched 0 pages=8192$")
            monitor.run("virtio-mem d0 0")
            settled(machine, 0, 0)
            machine.type("quit")
            assert machine.wait() == 0
            passed(machine.console.text)


def test_locked_address_space(folder):
    """16 TiB of private memory are only addresses; without room for those ebb does not start."""
    args = ["-m", "128M,maxmem=17T", *Backend("ram").args("16T")]
    args += ["-device", "virtio-mem-pci,id=d0,memdev=m0,requested-size=64M"]
    with Machine(folder, "test=vmem-follow", args, monitor=True) as machine:
        machine.console.expect("^follow: ready$")
        monitor = machine.monitor()
        assert monitor.memory_devices()["d0"]["max-size"] == 16 << 40
        assert machine.rss_anon_bytes() < 64 * MIB
    assert refusal(folder, args, resource.RLIMIT_AS, 8 * GIB) == (
        "ebb: -object memory-backend-ram,id=m0: the host cannot map its 17592186044416 bytes: "
        "Cannot allocate memory"
    )


# ---- attributes ----


def region(machine, size):
    """The mappings of a run of addresses that has SIZE bytes: dictionaries of smaps' fields."""
    runs, end = [], None
    for line in pathlib.Path(f"/proc/{machine.process.pid}/smaps").read_text().splitlines():
        head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)$", line)
        if head:
            start = int(head.group(1), 16)
            if start != end:
                runs.append([])
            end = int(head.group(2), 16)
            runs[-1].append({"start": start, "size": end - start, "perms": head.group(3)})
        else:
            key, _, value = line.partition(":")
            runs[-1][-1][key] = value.strip()
    for run in runs:
        for first in range(len(run)):  # others may adjoin
            found, left = [], size
            while left > 0 and first + len(found) < len(run):
                found.append(run[first + len(found)])
                left -= found[-1]["size"]
            if left == 0:
                return found
    raise AssertionError(f"no mappings of {size} bytes together")


def policies(machine, parts):
    """NUMA policies of mappings that start where PARTS do."""
    starts = {f"{p['start']:x}".zfill(8) for p in parts}
    text = pathlib.Path(f"/proc/{machine.process.pid}/numa_maps").read_text()
    lines = (line.split() for line in text.splitlines())
    return {words[1] for words in lines if words[0] in starts}


ODD = 3 * GIB + 6 * MIB  # no other run of addresses is so long


@pytest.mark.parametrize("name", ["ram", "memfd", "hugetlb-2M"])
def test_attributes_survive_replug(folder, name):
    """Policy, core dumps, fork and huge pages are as they were for the first page."""
    if not pathlib.Path("/proc/self/numa_maps").exists():
        pytest.skip("the host's kernel has no NUMA policies")
    with backend_of(name, folder) as backend:
        backend.options += ",policy=bind,host-nodes=0,dump=off,merge=on"
        args = [*MEM, *backend.args(ODD), "-device", DEVICE]
        with Machine(folder, "test=vmem-follow", args, monitor=True) as machine:
            monitor = machine.monitor()
            machine.console.expect("^follow: ready$")
            for size in (64, 2, 32, 0, 64):
                monitor.run(f"virtio-mem d0 {size}")
                monitor.wait_for(
                    lambda: monitor.memory_devices()["d0"]["size"],
                    lambda got, n=size: got == n * MIB,
                    f"not {size}",
                )
                machine.type("touch 0")
                machine.console.expect(f"^touched 0 pages={size * MIB // 4096}$")
                parts = region(machine, ODD)
                assert policies(machine, parts) == {"bind:0"}
                for part in parts:
                    flags = part["VmFlags"].split()
                    assert "dd" in flags and "dc" in flags, part
                    if backend.page == 4 * KIB:
                        assert "hg" in flags, part
                    if name == "ram" and pathlib.Path("/sys/kernel/mm/ksm").exists():
                        assert "mg" in flags, part
                    assert part["KernelPageSize"] == f"{backend.page // KIB} kB"


BOOT = ODD % GIB + 128 * MIB


@pytest.mark.parametrize("name", [*NAMES, "hugetlb-2M", "hugetlbfs"])
def test_boot_memory(folder, name):
    """Boot memory of every kind, with and without prealloc; the content of a named file stays."""
    with backend_of(name, folder) as backend:
        args = ["-m", f"{BOOT}B", *backend.args(BOOT), "-machine", "memory-backend=m0"]
        passed(run_guest(folder, BOOT_TEST, args))
        args[3] += ",prealloc=on,prealloc-threads=2"
        with Machine(folder, "test=echo", args, monitor=True) as machine:
            machine.console.expect("^echo: ready$")
            parts = region(machine, BOOT)
            assert {p["KernelPageSize"] for p in parts} == {f"{backend.page // KIB} kB"}
            if backend.page == 4 * KIB:
                assert sum(int(p["Rss"].split()[0]) for p in parts) * KIB == BOOT
            if backend.name:
                assert backend.held(machine) >= BOOT
            assert "share: " in machine.monitor().run("info memdev")
        named = pathlib.Path(folder) / "file"
        if "share=on" in backend.options and named.exists():
            assert named.stat().st_size == BOOT + (64 * KIB if "offset" in backend.options else 0)
            assert b"BARE" in named.read_bytes()


def test_mem_path(folder):
    """-mem-path and -mem-prealloc are another spelling of a file backend."""
    args = ["-m", f"{BOOT}B", "-mem-path", folder, "-mem-prealloc"]
    with Machine(folder, "test=echo", args, monitor=True) as machine:
        machine.console.expect("^echo: ready$")
        assert Backend("", folder).held(machine) >= BOOT
        answer = machine.monitor().run("info memdev")
        assert answer.startswith("memory backend: pc.ram\n") and "  prealloc: true\n" in answer
    assert sorted(os.listdir(folder)) == ["monitor.sock"]


def test_template(folder):
    """share=off and a file with content: boot memory starts with a copy."""
    file = pathlib.Path(folder) / "file"
    with open(file, "wb") as out:
        out.truncate(128 * MIB)
        out.seek(64 * MIB)
        out.write(b"template")
    args = ["-m", "128M", *Backend(f"file,mem-path={file}").args("128M")]
    passed(run_guest(folder, BOOT_TEST, [*args, "-machine", "memory-backend=m0"]))
    content = file.read_bytes()
    assert content[64 * MIB : 64 * MIB + 8] == b"template"
    assert content.count(0) == 128 * MIB - 8


def test_template_is_carried(folder):
    """What nobody touched of such a copy is the file's, in a dump and in a machine that is saved."""
    file, core, image = (pathlib.Path(folder) / name for name in ("file", "core", "image"))
    with open(file, "wb") as out:
        out.truncate(128 * MIB)
        out.seek(64 * MIB)
        out.write(b"template")
    args = ["-m", "128M", "-S", *Backend(f"file,mem-path={file}").args("128M")]
    with Machine(folder, "test=echo", [*args, "-machine", "memory-backend=m0"], qmp=True) as machine:
        qmp = machine.qmp()
        qmp.execute("dump-guest-memory", paging=False, protocol=f"file:{core}")
        qmp.execute("migrate", uri=f"file:{image}")
        while (status := qmp.execute("query-migrate")["status"]) != "completed":
            assert status != "failed"
    assert CoreFile(core.read_bytes()).memory(64 * MIB, 9) == b"template\0"
    assert b"template" in image.read_bytes()


@pytest.mark.parametrize("share", ["on", "off"])
def test_content_makes_room(folder, share):
    """A guest that comes finds its own memory, whatever was in the file that is for it."""
    file, way, core = (pathlib.Path(folder) / name for name in ("file", "way", "core"))
    for name in ("from", "to"):
        (pathlib.Path(folder) / name).mkdir()
    file.write_bytes(b"leftover" * (64 * MIB // 8))
    args = ["-m", "64M", "-S"]
    to = [*Backend(f"file,mem-path={file},share={share}").args("64M")]
    to += ["-machine", "memory-backend=m0", "-incoming", f"unix:{way}"]
    with (
        Machine(f"{folder}/from", "test=echo", args, qmp=True) as source,
        Machine(f"{folder}/to", "test=echo", [*args, *to], qmp=True) as target,
    ):
        qmp = target.qmp()
        source.qmp().execute("migrate", uri=f"unix:{way}")
        while qmp.execute("query-status")["status"] == "inmigrate":
            assert qmp.execute("query-migrate").get("status") != "failed"
        qmp.execute("dump-guest-memory", paging=False, protocol=f"file:{core}")
    assert b"leftover" not in core.read_bytes()
    assert share == "on" or file.read_bytes() == b"leftover" * (64 * MIB // 8)


def test_info_memdev(folder):
    """The listing that clients of this kind of monitor parse."""
    args = [*MEM, *Backend("ram,merge=off,prealloc=on").args("64M")]
    args += ["-device", "virtio-mem-pci,memdev=m0"]
    args += Backend("memfd,reserve=off,dump=off,policy=interleave,host-nodes=0").args("1G", 1)
    args += ["-device", "virtio-mem-pci,memdev=m1"]
    if not pathlib.Path("/proc/self/numa_maps").exists():
        pytest.skip("the host's kernel has no NUMA policies")
    with Machine(folder, "test=echo", args, monitor=True) as machine:
        machine.console.expect("^echo: ready$")
        assert machine.monitor().run("info memdev") == (
            "memory backend: m0\n  size:  67108864\n  merge: false\n  dump: true\n"
            "  prealloc: true\n  share: false\n  reserve: true\n  policy: default\n"
            "  host nodes: \n"
            "memory backend: m1\n  size:  1073741824\n  merge: true\n  dump: false\n"
            "  prealloc: false\n  share: true\n  reserve: false\n  policy: interleave\n"
            "  host nodes: 0\n\n"
        )


# ---- refusals ----


def refusal(folder, args, limit=None, value=None):
    """What ebb says when it does not start."""

    def prepare():
        if limit is not None:
            resource.setrlimit(limit, (value, value))

    argv = [str(EBB), "-nodefaults", "-display", "none", "-kernel", str(GUEST), *map(str, args)]
    done = subprocess.run(
        argv, capture_output=True, text=True, cwd=folder, preexec_fn=prepare, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.rstrip("\n")


def test_boot_pool_is_too_small(folder):
    with pool(2 * MIB, 4) as file:
        args = ["-m", "1T", *Backend("memfd,hugetlb=on,hugetlbsize=2M").args("1T")]
        said = refusal(folder, [*args, "-machine", "memory-backend=m0"])
        assert re.fullmatch(
            "ebb: -object memory-backend-memfd,id=m0: needs 524288 huge pages of 2 MiB, but the "
            rf"host has \d+ that are free; it gets more by writing their number to {file}",
            said,
        )


def test_boot_prealloc_is_too_much(folder):
    args = ["-m", "4T", *Backend("memfd,prealloc=on").args("4T")]
    said = refusal(folder, [*args, "-machine", "memory-backend=m0"])
    assert re.fullmatch(
        "ebb: -object memory-backend-memfd,id=m0: the host cannot preallocate its 4398046511104 "
        r"bytes: it has \d+ [MGT]iB left for this process",
        said,
    )


def test_boot_memory_runs_out(folder):
    """A file system that is full is an error of what is done then, and no end of the monitor."""
    place = pathlib.Path(folder) / "small"
    with mounted("tmpfs", place, "size=64K"):
        args = ["-m", "128M", *Backend(f"file,mem-path={place},reserve=off").args("128M")]
        said = refusal(folder, [*args, "-machine", "memory-backend=m0"])
        assert said == (
            f"ebb: -kernel '{GUEST}' cannot be loaded: the host has not all of the boot memory"
        )


def test_file_with_content(folder):
    file = pathlib.Path(folder) / "file"
    file.write_bytes(b"x" * 8192)
    args = [*MEM, *Backend(f"file,mem-path={file}").args("128M"), "-device", DEVICE]
    assert refusal(folder, args) == (
        f"ebb: -object memory-backend-file,id=m0: mem-path={file} has content, which a memory "
        "device cannot start with; allowed: share=on, which drops it, or a file without"
    )
    assert file.read_bytes() == b"x" * 8192


def test_no_such_node(folder):
    if not pathlib.Path("/proc/self/numa_maps").exists():
        pytest.skip("the host's kernel has no NUMA policies")
    args = [*MEM, *Backend("ram,policy=bind,host-nodes=127").args("128M"), "-device", DEVICE]
    assert refusal(folder, args).startswith(
        "ebb: -object memory-backend-ram,id=m0: host-nodes=127: the host has no memory on such a "
        "node; allowed: 0"
    )


def test_small_blocks_of_large_pages(folder):
    args = [*MEM, *Backend("memfd,hugetlb=on,hugetlbsize=2M").args("128M")]
    said = refusal(folder, [*args, "-device", DEVICE.replace("2M", "1M")])
    assert said == (
        "ebb: -device virtio-mem-pci,id=d0: block-size (1 MiB) is less than a page of m0 (2 MiB)"
    )
