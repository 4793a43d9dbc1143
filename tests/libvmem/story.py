# SPDX-License-Identifier: BSD-3-Clause
"""What examples/libvmem says, run by run of its guest, on any KVM."""

import re

NUMBER = 0x12345678


def check_story(text):
    """What the example says, run by run of its guest."""
    print(text)
    assert [int(n, 16) for n in re.findall(r"read 0x(\w+) from block 0", text)] == [0, NUMBER, 0]
    assert [int(n, 16) for n in re.findall(r"read 0x(\w+) from block 1", text)] == [0, 0, 0]
    before, plugged, after = (int(n) for n in re.findall(r"held for the device: (-?\d+)", text))
    assert before == 0 and after == 0
    assert plugged in (4, 2048)
    answers = re.findall(r"(\w+plug|plug) block 0: (\w+)", text)
    assert answers == [("plug", "ACK"), ("unplug", "ACK")]
    assert "the guest is asked to use 2048 KiB" in text
    # Block 1 is never plugged: each write there was stopped. Block 0 once in three runs was not.
    assert text.count("a write of 0x40200000 was stopped") == 3
    assert text.count("a write of 0x40000000 was stopped") == 2
    assert f"block 0 holds {NUMBER:#x}" in text and "block 0 is out of reach" in text
