# SPDX-License-Identifier: BSD-3-Clause
"""libvmem's example monitor under a KVM that runs its guests on the processor: there a write to a
closed block makes KVM_RUN fail, and vmem_guard_refine() turns it into an exit with an address."""

import subprocess
import sys

from conftest import EBB, ROOT

sys.path.insert(0, str(ROOT / "tests" / "libvmem"))

from story import check_story  # noqa: E402  (the folder is only known now)

EXAMPLE = ROOT / "examples" / "libvmem"


def test_example(host, tmp_path):
    program = tmp_path / "plug"
    words = ["gcc", "-static", "-o", program, EXAMPLE / "plug.c", EXAMPLE / "vm.c"]
    words += ["-I", ROOT / "include", EBB.parents[2] / "libvmem" / "libvmem.a"]
    subprocess.run(words, check=True, timeout=60)
    place = f"{host.dir}/example-plug"
    host.write_file(place, program.read_bytes())
    done = host.run(f"chmod +x {place} && {place} && rm {place}")
    assert done.status == 0, done.output
    check_story(done.output)
    # Closed for reads as well, once the slot was laid anew: that is what refining does.
    assert done.output.count("a read of 0x40200000 was stopped") == 3
