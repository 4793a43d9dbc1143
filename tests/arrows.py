#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Check that the rooms keep their arrows.

    arrows.py [BUILD-FOLDER]

Each line of output is one check: "ok NAME" or "FAILED NAME" with what breaks it; the last line
counts them. Without BUILD-FOLDER only the sources are looked at; with it, so are the symbols that
the libraries of libvmem's rooms need (a build without sanitizers: those bring their own).

  includes   a room includes only the rooms it may; a quoted include is a path from the root
  system     rooms without system calls include only headers of the C language
  knowledge  what only one room may know is named in no other
  symbols    objects of rooms without system calls need nothing but each other and these functions
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', re.M)

# A room -> the rooms it may include, besides itself. "vmem" are the public headers.
ARROWS = {
    "base": (),
    "include": ("vmem",),
    "device": ("base", "vmem"),
    "guard": ("base", "vmem"),
    "driver": ("vmem",),
    "driver/linux": ("driver", "vmem"),
    "driver/bare": ("driver", "vmem"),
    "qmp": ("base",),
    "ebbctl": ("base", "qmp"),
    "vmm": ("qmp", "device", "guard", "base", "vmem"),
    "bench": ("base", "vmem"),
    "examples": ("vmem",),
}
# Rooms of programs that stand for themselves: their quoted includes lie beside the file.
APART_ROOMS = ("examples",)
SILENT_ROOMS = ("base", "device", "include", "driver", "driver/bare")
C_HEADERS = {
    *("assert.h", "ctype.h", "endian.h", "errno.h", "inttypes.h", "limits.h", "stdalign.h"),
    *("stdarg.h", "stdatomic.h", "stdbool.h", "stddef.h", "stdint.h", "stdio.h", "stdlib.h"),
    "string.h",
}
# Of a room that stands without a C library, the only ones.
BARE_HEADERS = {room: {"stdbool.h", "stddef.h", "stdint.h"} for room in ("driver", "driver/bare")}
# A header that is one room's business -> that room.
KNOWLEDGE = {
    "linux/userfaultfd.h": "guard",
    "jansson.h": ("qmp", "vmm", "ebbctl"),
    "curses.h": "ebbctl",
}
# Headers that the build makes.
GENERATED = ("dsdt.hex", "slots.hex")
# What an object without system calls may ask of the C library and of the compiler's own.
ALLOWED_SYMBOLS = {
    *("malloc", "calloc", "realloc", "reallocarray", "free"),
    *("memcpy", "memmove", "memset", "memcmp", "memchr", "strlen", "strcmp", "strncmp", "strchr", "strdup"),
    *("snprintf", "vsnprintf", "vasprintf", "abort", "__assert_fail", "__popcountdi2"),
    *("__stack_chk_fail", "_GLOBAL_OFFSET_TABLE_"),
    *("__snprintf_chk", "__vsnprintf_chk", "__memcpy_chk", "__memset_chk"),
}
# What compilers call by themselves, and so all that an object without a C library may need.
BARE_SYMBOLS = {"memcpy", "memmove", "memset", "memcmp"}


def sources(room):
    """The C files of ROOM without those of rooms within it, sorted."""
    inner = [ROOT / other for other in ARROWS if other.startswith(f"{room}/")]
    files = [p for p in (ROOT / room).rglob("*") if p.suffix in (".c", ".h", ".S")]
    return sorted(p for p in files if not any(p.is_relative_to(folder) for folder in inner))


def includes(file):
    """(line number, quoted, path) of every include in FILE."""
    text = file.read_text()
    for match in INCLUDE.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, match[1] == '"', match[2]


def room_of(path, quoted):
    """The room an include leads to; None for a system header."""
    if path.startswith("vmem/"):
        return "vmem"
    if not quoted:
        return None
    inner = [room for room in ARROWS if "/" in room and path.startswith(f"{room}/")]
    return inner[0] if inner else path.split("/")[0]


def check_includes(room):
    allowed = {room, *ARROWS[room]}
    for file in sources(room):
        for line, quoted, path in includes(file):
            where = f"{file.relative_to(ROOT)}:{line}"
            target = room_of(path, quoted)
            if target is None or path in GENERATED:
                continue
            if room in APART_ROOMS and quoted and (file.parent / path).is_file():
                continue
            if target == "vmem":
                if quoted or not (ROOT / "include" / path).is_file():
                    yield f"{where}: {path} is no public header, or not in angle brackets"
            elif not (ROOT / path).is_file():
                yield f"{where}: {path} is not a path from the root"
            if target not in allowed:
                yield f"{where}: {room} must not include {path}"


def check_system(room):
    for file in sources(room):
        for line, quoted, path in includes(file):
            if room_of(path, quoted) is None and path not in BARE_HEADERS.get(room, C_HEADERS):
                yield f"{file.relative_to(ROOT)}:{line}: {room} makes no system calls: no {path}"


def check_knowledge():
    for room in ARROWS:
        for file in sources(room):
            for line, _, path in includes(file):
                owner = KNOWLEDGE.get(path, room)
                if room not in (owner if isinstance(owner, tuple) else (owner,)):
                    yield f"{file.relative_to(ROOT)}:{line}: {path} is not the business of {room}"


def symbols(archive):
    """(defined, needed) symbols of ARCHIVE; needed maps a name to the object that needs it."""
    words = ["nm", "--format=posix", str(archive)]
    text = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    defined, needed, member = set(), {}, archive.name
    for line in text.splitlines():
        if line.endswith("]:"):
            member = line.rstrip(":")
            continue
        name, kind = line.split()[:2]
        if kind in "Uvw":
            needed.setdefault(name, member)
        else:
            defined.add(name)
    return defined, needed


def functions_of(header):
    """What HEADER declares."""
    return set(re.findall(r"^[a-z].*?\b(\w+)\(", header.read_text(), re.M))


def check_symbols(build, rooms, allowed=ALLOWED_SYMBOLS):
    defined, needed = set(), {}
    for room in rooms:
        archives = sorted((build / room).glob("*.a"))
        if not archives:
            yield f"{build / room} holds no library: build first"
        for archive in archives:
            some_defined, some_needed = symbols(archive)
            defined |= some_defined
            needed.update(some_needed)
    for name, member in sorted(needed.items()):
        if name not in defined | allowed:
            yield f"{pathlib.Path(member).name} needs {name}"


def main():
    checks = {}
    for room in ARROWS:
        if sources(room):
            checks[f"includes {room}"] = check_includes(room)
    for room in SILENT_ROOMS:
        checks[f"system {room}"] = check_system(room)
    checks["knowledge"] = check_knowledge()
    if len(sys.argv) > 1:
        build = pathlib.Path(sys.argv[1])
        checks["symbols base"] = check_symbols(build, ("base",))
        checks["symbols libvmem"] = check_symbols(build, ("base", "device"))
        checks["symbols driver"] = check_symbols(build, ("driver",), BARE_SYMBOLS)
        checks["symbols driver/bare"] = check_symbols(build, ("driver", "driver/bare"), BARE_SYMBOLS)
        skeleton = "examples/driver-skeleton"
        allowed = BARE_SYMBOLS | functions_of(ROOT / skeleton / "kernel.h")
        checks["symbols driver-skeleton"] = check_symbols(build, ("driver", skeleton), allowed)
    failed = 0
    for name, findings in checks.items():
        broken = list(findings)
        failed += bool(broken)
        print(f"{'FAILED' if broken else 'ok'} {name}")
        for text in broken:
            print(f"    {text}")
    print(f"{len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
