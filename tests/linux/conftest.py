# SPDX-License-Identifier: BSD-3-Clause
"""One host for all tests with stock kernels, and what to do when the host itself fails.

The program under test is $EBB (./check sets it), else build/vmm/main/ebb; its client is in the same
build folder. The fixture "host" is a
nest.Host that lives from the first test to the last: booting an emulated host for each would take
most of the time. "old_host" is an emulated host with the older kernel, for the last tests; only
one host is up at a time. A test that ends with NestInfraError has said nothing about ebb: it is run
again in a new host, at most twice, and fails when that does not help. Any other failure counts at
once.
"""

import contextlib
import os
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "demo"))
sys.path.insert(0, str(ROOT / "tools" / "nest"))

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "attack"))
# Last: tests there have names of tests here.
sys.path.append(str(ROOT / "tests" / "vm"))

import attack  # noqa: E402  (the folders are only known now)
import built  # noqa: E402
import ebbcache  # noqa: E402
import initrd  # noqa: E402
import guests  # noqa: E402
import nest  # noqa: E402
import scenario  # noqa: E402

EBB = pathlib.Path(os.environ.get("EBB", ROOT / "build" / "vmm" / "main" / "ebb"))
EBBCTL = EBB.parents[2] / "ebbctl" / "ebbctl"
ATTEMPTS = 3
# Beyond every guest's: the power button, its events, and the panic port.
MODULES = ("button", "evdev", "pvpanic_mmio", "virtio_balloon")


class Keeper:
    """The host that the tests share: opened when first asked for, and anew after discard()."""

    def __init__(self, parts, opener=nest.open_host):
        self.parts = parts
        self.opener = opener
        self._host = None

    def host(self):
        if self._host is None:
            host = self.opener(**self.parts)
            host.__enter__()
            self._host = host
        return self._host

    def discard(self, kind=None, error=None, trace=None):
        host, self._host = self._host, None
        if host is not None:
            host.__exit__(kind, error, trace)


def add_attackers(files, folder):
    """A disk with the module, and what a second kernel needs, for each kernel that has headers."""
    for kernel in ebbcache.HEADERS:
        image = folder / f"{kernel}.attack"
        initrd.build_guest(kernel, image, files=attack.guest_files(kernel, folder))
        files[f"{kernel}/{guests.ATTACK_DISK}"] = image


def add_attacked_driver(files, folder):
    """The attackers' disk for the newest kernel, with our driver in both of its kernels."""
    kernel = guests.NEWEST
    driver = built.driver_module(kernel)
    image = folder / f"{kernel}.attack-driver"
    (folder / "ours").mkdir()
    more = attack.guest_files(kernel, folder / "ours", driver)
    initrd.build_guest(kernel, image, files=more, driver=driver)
    files[f"{kernel}/{guests.ATTACK_DRIVER_DISK}"] = image


def add_holder(files, folder):
    """A disk with the program that holds memory of the kernel."""
    image = folder / "hold"
    program = built.program(HERE / "hold.c")
    initrd.build_guest(guests.NEWEST, image, MODULES, {"bin/hold": program})
    files[f"{guests.NEWEST}/{guests.HOLD_DISK}"] = image


def add_dirtier(files, folder):
    """A disk with the program that changes memory all the time."""
    program = built.program(HERE / "dirty.c")
    for kernel in guests.MOVED:
        image = folder / f"{kernel}.dirty"
        initrd.build_guest(kernel, image, MODULES, {"bin/dirty": program})
        files[f"{kernel}/{guests.DIRTY_DISK}"] = image


def add_drivers(files, folder):
    """A disk with our driver, a second one for a second kernel, and what uses memory."""
    files["qemu"] = ebbcache.part_dir("qemu")
    programs = {
        "bin/kexec_load": built.program(HERE / "attack" / "kexec_load.c"),
        "bin/hold": built.program(HERE / "hold.c"),
        "stress-ng": ebbcache.part_dir("stress-ng"),
    }
    for kernel in guests.DRIVEN:
        driver = built.driver_module(kernel)
        second, image = folder / f"{kernel}.driver2", folder / f"{kernel}.driver"
        initrd.build_guest(kernel, second, driver=driver)
        again = {
            attack.SECOND_KERNEL: ebbcache.kernel_dir(kernel) / "vmlinuz",
            attack.SECOND_INITRD: second,
        }
        initrd.build_guest(kernel, image, files={**programs, **again}, driver=driver)
        files[f"{kernel}/{guests.DRIVER_DISK}"] = image
        files[f"{kernel}/{guests.ASKING_DISK}"] = second


def add_libvirt(files):
    """Each version of libvirt that was fetched: the mirror may not have the newer one."""
    for version in ebbcache.LIBVIRTS:
        with contextlib.suppress(ebbcache.MissingPart):
            files[f"libvirt-{version}"] = ebbcache.part_dir(f"libvirt/{version}")


@pytest.fixture(scope="session")
def keeper(tmp_path_factory):
    for program in (EBB, EBBCTL):
        if not program.is_file():
            pytest.exit(f"{program} is not there: build it, or set EBB", returncode=2)
    with scenario.prepared(list(ebbcache.KERNELS), EBB, MODULES) as parts:
        parts["programs"]["ebbctl"] = EBBCTL
        parts["files"][guests.VMLINUX] = ebbcache.kernel_dir(guests.NEWEST) / "vmlinux"
        folder = tmp_path_factory.mktemp("disks")
        add_attackers(parts["files"], folder)
        add_attacked_driver(parts["files"], folder)
        add_holder(parts["files"], folder)
        add_dirtier(parts["files"], folder)
        add_drivers(parts["files"], folder)
        add_libvirt(parts["files"])
        keeper = Keeper(parts)
        yield keeper
        keeper.discard()


@pytest.fixture
def host(keeper):
    """The host; pytest_pyfunc_call below gives a new one when it failed."""
    return keeper


@pytest.fixture(scope="session")
def old_keeper(keeper):
    old = Keeper({**keeper.parts, "kernel": guests.OLDEST}, nest.Nest)
    yield old
    old.discard()


@pytest.fixture
def old_host(keeper, old_keeper):
    """An emulated host with the older kernel, also where this machine can run guests itself."""
    keeper.discard()
    return old_keeper


def pytest_collection_modifyitems(items):
    """The tests in the old host come last: then each host is opened only once."""
    items.sort(key=lambda item: "old_host" in getattr(item, "fixturenames", ()))


def attempt(pyfuncitem, name, keeper, arguments):
    """Run a test once; the host is thrown away when it fails as such."""
    try:
        pyfuncitem.obj(**{**arguments, name: keeper.host()})
    except ebbcache.MissingPart as missing:
        pytest.skip(str(missing))
    except nest.NestInfraError as error:
        try:
            keeper.discard(type(error), error, error.__traceback__)
        except nest.NestInfraError as with_log:
            return with_log
        return error
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run a test that uses a host, again when the emulated host failed."""
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    keepers = [name for name, value in arguments.items() if isinstance(value, Keeper)]
    if not keepers:
        return None
    for number in range(1, ATTEMPTS + 1):
        error = attempt(pyfuncitem, keepers[0], arguments[keepers[0]], arguments)
        if error is None:
            return True
        print(f"the emulated host failed, attempt {number} of {ATTEMPTS}: {error}", file=sys.stderr)
    raise error
