# SPDX-License-Identifier: BSD-3-Clause
"""One host for all tests with stock kernels, and what to do when the host itself fails.

The program under test is $EBB (./check sets it), else build/vmm/main/ebb. The fixture "host" is a
nest.Host that lives from the first test to the last: booting an emulated host for each would take
most of the time. A test that ends with NestInfraError has said nothing about ebb: it is run again
in a new host, at most twice, and fails when that does not help. Any other failure counts at once.
"""

import os
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "demo"))
sys.path.insert(0, str(ROOT / "tools" / "nest"))

import ebbcache  # noqa: E402  (the folders are only known now)
import guests  # noqa: E402
import nest  # noqa: E402
import scenario  # noqa: E402

EBB = pathlib.Path(os.environ.get("EBB", ROOT / "build" / "vmm" / "main" / "ebb"))
ATTEMPTS = 3
# Beyond every guest's: the power button, its events, and the panic port.
MODULES = ("button", "evdev", "pvpanic_mmio")


class Keeper:
    """The host that the tests share: opened when first asked for, and anew after discard()."""

    def __init__(self, parts):
        self.parts = parts
        self._host = None

    def host(self):
        if self._host is None:
            host = nest.open_host(**self.parts)
            host.__enter__()
            self._host = host
        return self._host

    def discard(self, kind=None, error=None, trace=None):
        host, self._host = self._host, None
        if host is not None:
            host.__exit__(kind, error, trace)


@pytest.fixture(scope="session")
def keeper():
    if not EBB.is_file():
        pytest.exit(f"{EBB} is not there: build it, or set EBB", returncode=2)
    with scenario.prepared(list(ebbcache.KERNELS), EBB, MODULES) as parts:
        parts["files"][guests.VMLINUX] = ebbcache.kernel_dir(guests.NEWEST) / "vmlinux"
        keeper = Keeper(parts)
        yield keeper
        keeper.discard()


@pytest.fixture
def host(keeper):
    """The host; pytest_pyfunc_call below gives a new one when it failed."""
    return keeper


def attempt(pyfuncitem, keeper, arguments):
    """Run a test once; the host is thrown away when it fails as such."""
    try:
        pyfuncitem.obj(**{**arguments, "host": keeper.host()})
    except nest.NestInfraError as error:
        try:
            keeper.discard(type(error), error, error.__traceback__)
        except nest.NestInfraError as with_log:
            return with_log
        return error
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run a test that uses "host", again when the emulated host failed."""
    keeper = pyfuncitem.funcargs.get("host")
    if not isinstance(keeper, Keeper):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    for number in range(1, ATTEMPTS + 1):
        error = attempt(pyfuncitem, keeper, arguments)
        if error is None:
            return True
        print(f"the emulated host failed, attempt {number} of {ATTEMPTS}: {error}", file=sys.stderr)
    raise error
