# SPDX-License-Identifier: BSD-3-Clause
"""The installed headers: each alone, in C and in C++, without a warning."""

import subprocess

import pytest

from conftest import ROOT, run

COMPILERS = {
    "gcc-c11": ("gcc", "c", "-std=c11"),
    "gcc-gnu11": ("gcc", "c", "-std=gnu11"),
    "clang-c11": ("clang", "c", "-std=c11"),
    "clang-c17": ("clang", "c", "-std=c17"),
    "g++-c++11": ("g++", "c++", "-std=c++11"),
    "g++-c++20": ("g++", "c++", "-std=c++20"),
    "clang++-c++11": ("clang++", "c++", "-std=c++11"),
    "clang++-c++20": ("clang++", "c++", "-std=c++20"),
}
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
LIBRARY_HEADERS = ["device.h", "guard.h", "proto.h"]

USE_FROM_CPP = """
#include <cerrno>

#include <vmem/device.h>
#include <vmem/guard.h>

static int agree(void *, uint64_t, uint64_t)
{
	return 0;
}

static void changed(void *) {}

int main()
{
	vmem_host_ops ops = {};
	vmem_device_config config = {};
	vmem_device *device = nullptr;
	vmem_req req = {};
	vmem_resp resp;
	vmem_size_req want = {};
	vmem_size_resp said;
	vmem_error error;
	vmem_guard *guard = nullptr;
	vmem_guard_config nonsense = {};

	ops.grant = ops.revoke = ops.discard = agree;
	ops.config_changed = changed;
	config.region_size = config.requested_size = config.block_size = 1 << 21;
	config.size_requests = true;
	req.nb_blocks = 1; /* on the little-endian machine of the test */
	if (vmem_device_new(&config, &ops, nullptr, &device) != 0)
		return 1;
	if (vmem_device_request(device, &req, &resp) != VMEM_RESP_ACK)
		return 2;
	if (!vmem_device_plugged(device, 0, 1 << 21))
		return 3;
	if (vmem_device_import_unplug(device, 0, 1 << 21) != 0 ||
	    vmem_device_import_plug(device, 0, 1 << 21) != 0 ||
	    vmem_device_import_plug(device, 0, 1 << 21) != -EEXIST ||
	    vmem_device_import_sizes(device, 0, 0, 1 << 21) != 0)
		return 5;
	if (vmem_device_size_request(device, &want, 0, &said) != VMEM_SIZE_RESP_GRANTED ||
	    vmem_device_set_request_policy(device, 1, 0) != -EINVAL)
		return 6;
	vmem_device_free(device);
	if (vmem_guard_new(&nonsense, &guard, &error) >= 0 || !error.text[0])
		return 4;
	return 0;
}
"""


def compile_text(installed, compiler, text, *words):
    program, language, standard = COMPILERS[compiler]
    run(
        [program, standard, *WARNINGS, *installed.pkg_config("--cflags"), f"-x{language}", "-"]
        + list(words),
        input=text,
    )


def test_the_installed_headers(installed):
    assert [header.name for header in installed.headers()] == LIBRARY_HEADERS


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("header", LIBRARY_HEADERS)
def test_header_alone(installed, compiler, header):
    text = f"#include <vmem/{header}>\n#include <vmem/{header}>\n"
    compile_text(installed, compiler, text, "-fsyntax-only")


@pytest.mark.parametrize("compiler", COMPILERS)
def test_all_headers(installed, compiler):
    text = "".join(f"#include <vmem/{header}>\n" for header in reversed(LIBRARY_HEADERS))
    compile_text(installed, compiler, text, "-fsyntax-only")


@pytest.mark.parametrize("compiler", [c for c in COMPILERS if COMPILERS[c][1] == "c++"])
def test_use_from_cpp(installed, compiler, tmp_path):
    """The functions are found under their C names, and work."""
    program = tmp_path / "use"
    compile_text(installed, compiler, USE_FROM_CPP, "-o", program, *installed.pkg_config("--libs"))
    done = subprocess.run([program], env=installed.environment(), timeout=60)
    assert done.returncode == 0


def test_headers_are_the_sources(installed):
    for header in installed.headers():
        assert header.read_text() == (ROOT / "include/vmem" / header.name).read_text()
