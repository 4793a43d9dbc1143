# SPDX-License-Identifier: BSD-3-Clause
"""The installed manual pages: well formed, complete, and as the headers have it."""

import re
import shlex
import subprocess

import pytest

from conftest import COMMENT, ROOT, run, words_of

PAGES = sorted(path.name for path in (ROOT / "docs/man").glob("*.[37]"))


def page_text(installed, name):
    return (installed.prefix / f"share/man/man{name[-1]}" / name).read_text()


def synopsis(text):
    """{function: its declaration} of a page's SYNOPSIS."""
    found = {}
    kind = name = None
    arguments = []
    for line in re.search(r"^\.Sh SYNOPSIS\n(.*?)^\.Sh ", text, re.M | re.S)[1].splitlines():
        macro, *words = shlex.split(line.lstrip("."))
        if macro == "Ft":
            kind = " ".join(words)
        elif macro == "Fo":
            name, arguments = words[0], []
        elif macro == "Fa":
            arguments += words
        elif macro == "Fn":
            found[words[0]] = words_of(f"{kind} {words[0]}({', '.join(words[1:])});")
        elif macro == "Fc":
            found[name] = words_of(f"{kind} {name}({', '.join(arguments)});")
    return found


def test_pages_are_installed(installed):
    names = {path.name for section in (3, 7) for path in installed.man(section)}
    assert set(PAGES) <= names
    assert len(PAGES) > 5


@pytest.mark.parametrize("name", PAGES)
def test_mandoc_lint(installed, name):
    path = installed.prefix / f"share/man/man{name[-1]}" / name
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", path], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", PAGES)
def test_groff(installed, name):
    path = installed.prefix / f"share/man/man{name[-1]}" / name
    done = subprocess.run(
        ["groff", "-mandoc", "-ww", "-Tutf8", path], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    plain = re.sub(".\x08", "", done.stdout)
    assert "\nNAME\n" in plain and "\nSEE ALSO\n" in plain


def test_every_function_has_a_page(installed):
    """By its own name; a link leads to a page that names it."""
    for name in installed.prototypes():
        text = page_text(installed, f"{name}.3")
        if link := re.fullmatch(r"\.so (man3/\S+)\n", text):
            text = (installed.prefix / "share/man" / link[1]).read_text()
        assert re.search(rf"^\.Nm {name}\b", text, re.M), f"no page names {name}"


def test_synopses_are_the_headers(installed):
    found = {}
    for name in PAGES:
        if name.endswith(".3"):
            found |= synopsis(page_text(installed, name))
    assert found == installed.prototypes()


def test_every_field_is_explained(installed):
    pages = "".join(page_text(installed, name) for name in PAGES)
    fields = 0
    for header in installed.headers():
        text = COMMENT.sub("", header.read_text())
        for body in re.findall(r"^struct \w+ \{\n(.*?)^\};", text, re.M | re.S):
            for name in re.findall(r"\(\*(\w+)\)\(|(\w+)(?:\[[^;]*\])?(?=[,;])", body):
                name = name[0] or name[1]
                if re.search(rf"\(\*\w+\)\([^;]*\b{name}\b", body):
                    continue
                fields += 1
                assert re.search(rf"^\.(It|Fa)\b.*\b{name}\b", pages, re.M), f"no page has {name}"
    assert fields > 40


def test_references_lead_somewhere(installed):
    there = {(path.stem, path.suffix[1:]) for s in (3, 7) for path in installed.man(s)}
    for name in PAGES:
        for page, section in re.findall(r"^\.Xr (\S+) (\d)", page_text(installed, name), re.M):
            assert section == "2" or (page, section) in there, f"{name}: {page}({section})"


def test_the_overview_s_program(installed, tmp_path):
    """The program in libvmem(7), as it stands there."""
    text = page_text(installed, "libvmem.7")
    code = re.search(r"^\.Bd -literal -offset indent\n(.*?)^\.Ed", text, re.M | re.S)[1]
    source, program = tmp_path / "overview.c", tmp_path / "overview"
    source.write_text(code.replace("\\e", "\\"))
    words = ["gcc", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-o", program, source]
    run(words + installed.pkg_config("--cflags", "--libs"))
    assert run([program], env=installed.environment()) == "plugged 4 MiB\n"
