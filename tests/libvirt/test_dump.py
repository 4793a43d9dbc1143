# SPDX-License-Identifier: BSD-3-Clause
"""virsh dump --memory-only: a domain's memory in a file that debuggers read."""

import subprocess

from domain import MIB, Domain


def core_of(path):
    """The file, as `readelf` reads it: (address, size) of what is in it."""
    words = ["readelf", "--wide", "--file-header", "--program-headers", "--notes", path]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert not done.stderr and "CORE (Core file)" in done.stdout
    lines = [line.split() for line in done.stdout.splitlines()]
    loads = [line for line in lines if line[:1] == ["LOAD"]]
    assert done.stdout.count("NT_PRSTATUS") > 0
    assert all(line[4] == line[5] for line in loads)
    return [(int(line[3], 16), int(line[5], 16)) for line in loads]


def plugged_bytes(domain):
    return sum(device["current"] for device in domain.memory_devices().values())


def test_dumps(daemon):
    """In each way that a running domain is dumped; it goes on, with all that it had."""
    domain = Domain(daemon, "dumped", small=True).start()
    domain.resize_and_wait(0, 64 * MIB)
    for words in ((), ("--live", "--format", "elf"), ("--bypass-cache", "--verbose")):
        path = daemon.folder / f"images/core{len(words)}"
        domain.virsh("dump", "--memory-only", *words, path)
        sizes = [size for _, size in core_of(path)]
        assert sum(sizes) == (64 + plugged_bytes(domain) // MIB) * MIB
        assert domain.state() == "running"
        path.unlink()
    assert plugged_bytes(domain) == 64 * MIB
    words = domain.refused("dump", "--memory-only", "--format", "kdump-zlib", path)
    assert "unsupported dumpformat 'kdump-zlib'" in words, words
    words = domain.refused("dump", "--memory-only", daemon.folder / "nowhere/core")
    assert "No such file" in words, words
    assert domain.state() == "running"
    domain.virsh("dump", "--memory-only", "--reset", path)
    domain.expect("^follow: ready$")
    domain.virsh("dump", "--memory-only", "--crash", path)
    assert domain.virsh("domstate", "--reason").strip() == "shut off (crashed)"
