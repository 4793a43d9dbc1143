# SPDX-License-Identifier: BSD-3-Clause
"""Tests of ebb with freestanding guests: see README.md in this folder.

    EBB=path/to/ebb EBB_BARE=path/to/bare-guest python3 -m pytest tests/vm
"""

import tempfile

import pytest

import ebbvm


def pytest_configure(config):
    config.addinivalue_line("markers", "timed: measures time, so it wants the machine for itself")


def pytest_collection_modifyitems(items):
    """Without KVM there is no machine: skip, and say why."""
    why = ebbvm.kvm_missing()
    if why:
        for item in items:
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session", autouse=True)
def built():
    """Without the programs under test, nothing can pass or be skipped."""
    for variable, path in (("EBB", ebbvm.EBB), ("EBB_BARE", ebbvm.GUEST)):
        if not path.is_file():
            pytest.exit(f"{path} is not there: build it, or set {variable}", returncode=2)


@pytest.fixture
def folder():
    """A folder with a short name (socket paths are limited to 107 bytes), gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="ebb-") as name:
        yield name
