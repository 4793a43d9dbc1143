# SPDX-License-Identifier: BSD-3-Clause
"""Machines for the tests with stock kernels, and a look into their guests."""

import nest
import scenario

MIB = scenario.MIB
NEWEST = "6.12-cloud"
OLDEST = "6.1-cloud"
# The disk with the attacking module, beside each kernel.
ATTACK_DISK = "attack"
# The same with our driver instead of the kernel's, beside the newest kernel.
ATTACK_DRIVER_DISK = "attack-driver"
# The disk with the program "hold" (hold.c), beside the newest kernel.
HOLD_DISK = "hold"
# The disk with the program "dirty" (dirty.c), beside each of MOVED.
DIRTY_DISK = "dirty"
MOVED = (NEWEST, OLDEST)
# The disk with the driver ebb_mem instead of the kernel's, with stress-ng, hold, and what a second
# kernel needs, beside each of DRIVEN.
DRIVER_DISK = "driver"
DRIVEN = (NEWEST, OLDEST)
# The disk with ebb_mem and nothing else.
ASKING_DISK = "asking"
QEMU = "qemu/run"
# Its ELF image, in the host's folder.
VMLINUX = f"{NEWEST}/vmlinux"
# Memory that only movable pages use can always be given back.
APPEND = "console=ttyS0 quiet panic=-1 memhp_default_state=online_movable"
# Debian's kernels clear what they allocate, and so each block of 128 MiB before they give it back:
# the host has to find memory for what was never used. Seconds, in an emulated host.
QUICK = f"{APPEND} init_on_alloc=0"
END_TIMEOUT_S = 120


def machine(
    host,
    kernel,
    *words,
    memory="1G",
    append=APPEND,
    disk="initrd",
    log=None,
    monitor=scenario.MONITOR,
    accel="kvm",
    program="ebb",
):
    """A run of ebb with KERNEL, its serial port on the standard streams, a MONITOR and WORDS. With
    LOG, what ebb itself says goes to that file in the host, not between what the guest says.
    PROGRAM, another monitor in the host, is given the same command line."""
    argv = [host.path(program), "-accel", accel, "-m", memory, "-machine", "pc", "-nodefaults"]
    argv += ["-kernel", host.path(f"{kernel}/vmlinuz"), "-initrd", host.path(f"{kernel}/{disk}")]
    argv += ["-append", append]
    argv += ["-chardev", "stdio,id=serial", "-device", "isa-serial,chardev=serial"]
    argv += ["-chardev", f"socket,id=mon,path={host.path(monitor)},server=on,wait=off"]
    argv += ["-mon", "chardev=mon,mode=readline", *words]
    return scenario.Machine(host, nest.with_log(argv, host.path(log)) if log else argv, monitor)


def power_off(vm):
    """The guest powers the machine off: ebb's status must say so."""
    vm.process.write("poweroff -f\n")
    assert vm.process.wait(END_TIMEOUT_S) == 0


def await_power_button(vm, command):
    """The guest's shell listens for the power button and runs COMMAND when the input layer says that
    it was pressed."""
    devices = read(vm, "/proc/bus/input/devices").split("\n\n")
    button = next(text for text in devices if 'N: Name="Power Button"' in text)
    event = next(word for word in button.split() if word.startswith("event"))
    # A time stamp of 16 bytes, then EV_KEY (1), KEY_POWER (116), pressed (1) in 32 bits.
    key = 'hexdump -v -s 16 -n 8 -e "4/2 \\"%u \\"" /tmp/key'
    wait = f"exec 3< /dev/input/{event}; dd bs=24 count=1 <&3 >/tmp/key 2>/dev/null; "
    wait += f'[ "$(echo $({key}))" = "1 116 1 0" ] && {command}'
    done = vm.console.run(
        f"sh -c '{wait}' & key=$!; "
        f"until ls -l /proc/$key/fd | grep -q /dev/input/{event}; do :; done"
    )
    assert done.status == 0, done.output


def read(vm, path):
    """The content of a file in the guest."""
    done = vm.console.run(f"cat {path}")
    assert done.status == 0, done.output
    return done.output.strip()


def files(vm, pattern):
    """{path: content} of the files in the guest that PATTERN matches."""
    done = vm.console.run(f"grep -H . {pattern}")
    assert done.status == 0, done.output
    return dict(line.split(":", 1) for line in done.output.splitlines())


def parse_list(text):
    """The numbers in a list like 0-2,5."""
    found = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
