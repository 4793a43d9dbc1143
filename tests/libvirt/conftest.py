# SPDX-License-Identifier: BSD-3-Clause
"""Tests of ebb under libvirt: see README.md in this folder.

    EBB=path/to/ebb EBB_BARE=path/to/bare-guest python3 -m pytest tests/libvirt
"""

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
from daemon import EMULATOR, VERSIONS, Daemon, fetched  # noqa: E402


def pytest_collection_modifyitems(items):
    """Without KVM there is no machine: skip, and say why."""
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
