# SPDX-License-Identifier: BSD-3-Clause
"""Tests of ebb under libvirt: see README.md in this folder.

    EBB=path/to/ebb EBB_BARE=path/to/bare-guest python3 -m pytest tests/libvirt

What both versions of libvirt do by the same commands is tried with the installed one. EBB_ALL=1: with
both.
"""

import os
import pathlib
import sys
import tempfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "nest"))
# Last: there are files of the same names there.
sys.path.append(str(ROOT / "tests" / "vm"))

import ebbcache  # noqa: E402  (the folders are only known now)
import ebbvm  # noqa: E402
from daemon import EMULATOR, INSTALLED, VERSIONS, Daemon, fetched  # noqa: E402

ALL = os.environ.get("EBB_ALL") == "1"
# Of the files in which it is ebb or the guest that matters, the tests that every libvirt has.
INSTALLED_ONLY = {
    "test_actions": (),
    "test_attach": ("test_attach_and_detach", "test_config"),
    "test_many": ("test_people",),
    "test_restart": ("test_running_guests",),
    "test_user": ("test_shut_in",),
    "test_xml": ("test_console_log",),
}


def of_every_version(item):
    version = item.callspec.params.get("version") if hasattr(item, "callspec") else None
    chosen = INSTALLED_ONLY.get(item.module.__name__)
    return version in (None, INSTALLED) or chosen is None or item.originalname in chosen


def pytest_collection_modifyitems(config, items):
    """Without KVM there is no machine: skip, and say why."""
    if not ALL:
        config.hook.pytest_deselected(items=[i for i in items if not of_every_version(i)])
        items[:] = filter(of_every_version, items)
    why = ebbvm.kvm_missing()
    if why:
        for item in items:
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session", autouse=True)
def built():
    """Without the programs under test, nothing can pass or be skipped."""
    for variable, path in (("EBB", EMULATOR), ("EBB_BARE", ebbvm.GUEST)):
        if not path.is_file():
            pytest.exit(f"{path} is not there: build it, or set {variable}", returncode=2)


@pytest.fixture
def folder():
    """A folder with a short name (socket paths are limited to 107 bytes), gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="ebb-lv-", ignore_cleanup_errors=True) as name:
        yield pathlib.Path(name)


@pytest.fixture(scope="module", params=VERSIONS)
def version(request):
    """Each libvirt that ebb is for."""
    try:
        fetched(request.param)
    except ebbcache.MissingPart as missing:
        pytest.skip(str(missing))
    return request.param


@pytest.fixture(scope="module")
def shared_daemon(version):
    """A libvirtd of each version for the tests of a file: it probes its emulator but once."""
    with tempfile.TemporaryDirectory(prefix="ebb-lv-", ignore_cleanup_errors=True) as name:
        with Daemon(version, name) as daemon:
            yield daemon


@pytest.fixture
def daemon(shared_daemon):
    """That libvirtd, without any domain, before the test and after it."""
    yield shared_daemon
    shared_daemon.clear()


@pytest.fixture
def new_daemon(version, folder):
    """A libvirtd for one test alone, which may end it."""
    with Daemon(version, folder) as daemon:
        yield daemon
