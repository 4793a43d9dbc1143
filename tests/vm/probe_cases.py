# SPDX-License-Identifier: BSD-3-Clause
"""What libvirt asks an emulator before it writes a command line: data only.

Recorded from Debian 12's libvirt 9.0 and its backports' 11.3, command by command, in their order.
"""

# Options of the probe; the socket, the pidfile and the rest of them are the test's.
OPTIONS = ["-S", "-no-user-config", "-nodefaults", "-nographic"]
MACHINE = ["-machine", "none,accel=kvm:tcg"]

DEVICES = """virtio-blk-pci scsi-hd ide-hd PIIX4_PM kvm-pit ICH9-LPC virtio-balloon-pci
    virtio-balloon-ccw virtio-balloon-device pcie-root-port usb-host virtio-mem-pci""".split()
OBJECTS = ["memory-backend-file", "memory-backend-memfd", "max-x86_64-cpu"]


def devices(names):
    return [("device-list-properties", {"typename": name}) for name in names]


def objects(names):
    return [("qom-list-properties", {"typename": name}) for name in names]


LAST = [
    ("query-cpu-definitions", None),
    ("query-tpm-models", None),
    ("query-command-line-options", None),
    ("query-migrate-capabilities", None),
]


def expand(kind, name, **props):
    """The model NAME; a static expansion's result is asked for in full right behind it."""
    model = {"name": name, "props": props} if props else {"name": name}
    return ("query-cpu-model-expansion", {"type": kind, "model": model})


# A "base" has the properties of the answer before.
LAST += [
    expand("static", "host"),
    expand("full", "base"),
    expand("static", "host", migratable=False),
    expand("full", "base"),
    expand("full", "host", migratable=False, **{"hv-passthrough": True}),
]
PROBES = {
    "9.0": [
        ("query-version", None),
        ("query-target", None),
        ("query-qmp-schema", None),
        ("query-commands", None),
        ("query-kvm", None),
        ("qom-list-types", None),
        *devices(DEVICES),
        *objects(OBJECTS),
        ("query-machines", None),
        *objects(["none-machine"]),
        *LAST,
    ],
    "11.3": [
        ("query-version", None),
        ("query-target", None),
        ("query-qmp-schema", None),
        ("query-kvm", None),
        ("qom-list-types", None),
        *devices(DEVICES),
        *objects(OBJECTS),
        ("query-machines", None),
        *objects(["none-machine", "generic-pc-machine"]),
        *LAST,
    ],
}

# What is not there, and is told so in the way that the client takes.
ABSENT = {
    "virtio-blk-pci": "DeviceNotFound",
    "scsi-hd": "DeviceNotFound",
    "ide-hd": "DeviceNotFound",
    "kvm-pit": "DeviceNotFound",
    "virtio-balloon-ccw": "DeviceNotFound",
    "usb-host": "DeviceNotFound",
    "query-tpm-models": "CommandNotFound",
}
# Of those QEMU has these, and of the others it lacks these on a PC.
ABSENT_IN_QEMU = {"virtio-balloon-ccw"}

# What the client looks for in the answers, to use it or to define a domain at all.
TYPES = """virtio-mem-pci virtio-balloon-pci pcie-root-port isa-serial i8042 vmport
    virtio-rng-pci-non-transitional memory-backend-ram memory-backend-file memory-backend-memfd
    rng-random rng-builtin iothread pvpanic piix3-usb-uhci max-x86_64-cpu kvm-accel""".split()
# It probes once more where this is there, with accel=tcg.
TYPES_NOT = """tcg-accel virtio-blk-device virtio-net-device usb-host qxl VGA virtio-gpu-pci
    qemu-xhci virtio-serial-pci pc-dimm vfio-pci""".split()
PROPERTIES = {
    "virtio-mem-pci": ["prealloc", "dynamic-memslots", "memaddr", "requested-size"],
    "pcie-root-port": ["hotplug"],
    "ICH9-LPC": ["disable_s3", "disable_s4", "noreboot"],
    "PIIX4_PM": ["acpi-root-pci-hotplug", "disable_s3", "disable_s4"],
    "memory-backend-memfd": ["hugetlb", "share", "reserve"],
    "memory-backend-file": ["discard-data", "mem-path", "prealloc-threads", "reserve"],
    "max-x86_64-cpu": ["migratable"],
    "none-machine": ["memory-backend"],
    "generic-pc-machine": ["hpet", "i8042", "vmport"],
}
PARAMETERS = {
    "sandbox": ["enable", "spawn", "elevateprivileges"],
    "smp-opts": ["dies"],
    "machine": ["hpet", "mem-merge"],
    "overcommit": ["mem-lock"],
    "msg": ["timestamp"],
}
CAPABILITIES = ["events", "return-path", "auto-converge", "postcopy-ram", "multifd"]

# Options that mean nothing where there is no machine.
REFUSED = [
    ["-kernel", "/dev/null"],
    ["-append", "x"],
    ["-m", "64M"],
    ["-smp", "2"],
    ["-cpu", "host"],
    ["-numa", "node"],
    ["-object", "memory-backend-ram,id=a,size=64M"],
    ["-device", "pvpanic"],
    ["-serial", "null"],
    ["-incoming", "defer"],
    ["-metrics", "/nonexistent/metrics"],
]
