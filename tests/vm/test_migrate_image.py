# SPDX-License-Identifier: BSD-3-Clause
"""Machines in files that are cut, changed, or do not fit: no guest runs with memory that is not its own,
and one that could not be saved runs on."""

import os
import resource
import struct
import time

import pytest

from ebbvm import TIMEOUT_S, memory_devices
from migrating import Guest, capabilities, ended, succeed, wait_running
from pattern import Pattern
from qmp import QmpError

MIB = 1 << 20
PAGE = 4096
APPEND = "test=pattern devices=1 arena=1M rate=4 step=8"
ARGS = ["-usb", "-m", "64M,maxmem=1G", *memory_devices(("64M", "32M", "2M", 0))]


@pytest.fixture
def guest(tmp_path):
    with Guest(tmp_path, APPEND, ARGS) as guest:
        guest.pattern = Pattern(guest.machine)
        capabilities(guest.qmp, events=True)
        yield guest


@pytest.fixture
def image(guest, tmp_path):
    """A file the guest was saved to; the guest is stopped."""
    file = tmp_path / "image"
    guest.qmp.execute("stop")
    guest.qmp.execute("migrate", uri=f"file:{file}")
    assert succeed(guest.qmp) == "completed"
    return file


def index_of(file):
    """Where the index begins; pages are before it."""
    with open(file, "rb") as image:
        image.seek(36)
        return struct.unpack("<Q", image.read(8))[0]


def damage(file):
    """A bit of every page that the file has."""
    end = index_of(file)
    with open(file, "r+b") as image:
        for at in range(2 * MIB, end, PAGE):
            image.seek(at + at // PAGE % PAGE)
            byte = image.read(1)
            image.seek(-1, os.SEEK_CUR)
            image.write(bytes([byte[0] ^ 4]))


def test_cut(guest, image):
    size, index = image.stat().st_size, index_of(image)
    for length in (size - 1, index + 5, index - 1, 2 * MIB, PAGE, 50, 0):
        os.truncate(image, length)
        target = guest.new("-incoming", f"file:{image}")
        assert target.wait() == 1
        (line,) = target.errors.text.strip().splitlines()
        assert str(image) in line


def test_index_changed(guest, image):
    index = index_of(image)
    with open(image, "r+b") as file:
        file.seek(index + 40)
        byte = file.read(1)
        file.seek(index + 40)
        file.write(bytes([byte[0] ^ 1]))
    target = guest.new("-incoming", f"file:{image}")
    assert target.wait() == 1
    (line,) = target.errors.text.strip().splitlines()
    assert str(image) in line and "checksum" in line


@pytest.mark.parametrize("stopped", [True, False])
def test_page_changed(guest, image, stopped):
    """The guest executes nothing of what came to it instead, and cannot be made to."""
    if not stopped:
        guest.qmp.execute("cont")
        wait_running(guest.qmp)
        guest.qmp.execute("migrate", uri=f"file:{image}")
        assert succeed(guest.qmp) == "completed"
    damage(image)
    target = guest.new("-incoming", f"file:{image}")
    qmp = target.qmp()
    target.errors.expect("wrong checksum")
    state = "paused" if stopped else "internal-error"
    deadline = time.monotonic() + TIMEOUT_S
    while qmp.execute("query-status")["status"] != state:
        assert time.monotonic() < deadline
    for command in ("cont", "system_reset"):
        with pytest.raises(QmpError) as refused:
            qmp.execute(command)
        assert "did not come" in str(refused.value)
    with pytest.raises(QmpError):
        qmp.execute("migrate", uri="exec:cat > /dev/null")
    assert target.console.text == ""
    qmp.execute("quit")
    assert target.wait() == 0


def test_again_in_the_same_file(guest, image):
    """What was behind it in a larger file does not stay."""
    large = 1024 * MIB
    os.truncate(image, large)
    guest.qmp.execute("cont")
    wait_running(guest.qmp)
    guest.qmp.execute("migrate", uri=f"file:{image}")
    assert succeed(guest.qmp) == "completed"
    assert image.stat().st_size < large
    target = guest.new("-incoming", f"file:{image}")
    qmp = target.qmp()
    wait_running(qmp)
    guest.became(target, qmp)
    guest.pattern.moved_to(target)
    guest.pattern.check()


def test_no_room(guest, tmp_path):
    """The file may not become as large: the guest runs on, and what there is is no image."""
    file = tmp_path / "image"
    pid = guest.machine.process.pid
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (3 * MIB, 3 * MIB))
    guest.qmp.execute("migrate", uri=f"file:{file}")
    assert ended(guest.qmp) == "failed"
    desc = guest.qmp.execute("query-migrate")["error-desc"]
    assert "File too large" in desc and str(file) in desc
    assert guest.qmp.execute("query-status")["status"] == "running"
    guest.pattern.check()
    guest.pattern.runs_on()
    target = guest.new("-incoming", f"file:{file}")
    assert target.wait() == 1
    (line,) = target.errors.text.strip().splitlines()
    assert str(file) in line and "not complete" in line
