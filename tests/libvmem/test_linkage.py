# SPDX-License-Identifier: BSD-3-Clause
"""What the libraries show and need: the functions of the headers, the C library."""

import re

from conftest import run

# A library that is a guest in somebody's process does none of these.
FORBIDDEN = {
    *("exit", "_exit", "quick_exit", "printf", "fprintf", "puts", "perror", "stderr", "stdout"),
    *("signal", "sigaction", "fork", "execve", "system", "setenv", "chdir", "umask"),
}


def dynamic(path, tag):
    text = run(["readelf", "-d", path])
    return re.findall(rf"\({tag}\).*?\[(.+?)\]", text)


def symbols(path, *words):
    """[(name, kind)] as nm prints them; without versions."""
    text = run(["nm", "--format=posix", *words, path])
    rows = [line.split() for line in text.splitlines() if not line.endswith(":")]
    return [(row[0].split("@")[0], row[1]) for row in rows if len(row) > 1]


def test_exports_are_the_declared_functions(installed):
    found = symbols(installed.libdir / "libvmem.so.0", "-D", "--defined-only")
    assert {name for name, kind in found if kind == "T"} == set(installed.prototypes())
    assert [name for name, kind in found if kind not in "TA"] == []


def test_exports_have_a_version(installed):
    text = run(["nm", "-D", "--defined-only", installed.libdir / "libvmem.so.0"])
    unversioned = [line for line in text.splitlines() if " T " in line and "@@VMEM_0" not in line]
    assert unversioned == []


def test_only_the_c_library_is_needed(installed):
    library = installed.libdir / "libvmem.so.0"
    assert dynamic(library, "NEEDED") == ["libc.so.6"]
    needed = run(["nm", "-D", "--undefined-only", library])
    for line in needed.splitlines():
        kind, name = line.split()[-2:]
        assert kind == "w" or "@GLIBC_" in name, f"{name} is not the C library's"


def test_it_keeps_to_itself(installed):
    found = symbols(installed.libdir / "libvmem.so.0", "-D", "--undefined-only")
    assert FORBIDDEN & {name for name, _ in found} == set()


def test_no_writable_data(installed):
    """No mutable variable at file scope: what is in .data.rel.ro is written by the linker alone."""
    text = run(["size", "-A", installed.libdir / "libvmem.a"])
    sizes = {name: int(size) for name, size in re.findall(r"^(\.\S+)\s+(\d+)", text, re.M)}
    assert sizes[".text"] > 0
    assert [name for name in (".data", ".bss", ".tdata", ".tbss") if sizes.get(name)] == []


def test_soname(installed):
    library = installed.libdir / "libvmem.so.0"
    assert dynamic(library, "SONAME") == ["libvmem.so.0"]
    assert library.resolve().name == f"libvmem.so.{installed.version}"
    assert (installed.libdir / "libvmem.so").resolve() == library.resolve()


def test_archive_globals_are_the_declared_functions(installed):
    found = symbols(installed.libdir / "libvmem.a", "--extern-only", "--defined-only")
    assert {name for name, _ in found} == set(installed.prototypes())


def test_pkg_config(installed):
    assert installed.pkg_config("--modversion") == [installed.version]
    assert installed.pkg_config("--cflags") == [f"-I{installed.prefix}/include"]
    assert installed.pkg_config("--libs") == [f"-L{installed.libdir}", "-lvmem"]
