# SPDX-License-Identifier: BSD-3-Clause
"""The guest's own tests of its machine, each in a machine made for it."""

import datetime
import re

import pytest

from ebbvm import Machine, memory_devices, passed, run_guest

RNG = ["-device", "virtio-rng-pci,id=rng0,packed=on"]
MEM = ["-m", "128M,maxmem=4G", *memory_devices(("256M", "32M", "2M", 0), extra=",packed=on")]
RINGS = ["", "event_idx=1", "indirect=1", "event_idx=1 indirect=1", "queue_size=4"]
RINGS = RINGS + [f"ring=packed {r}".strip() for r in RINGS]
# Eight devices, block sizes from a page to 128 MiB, on three nodes in no order.
EIGHT = [
    ("16M", "8M", "4K", 0),
    ("64M", "32M", "64K", 2),
    ("64M", "32M", "1M", 1),
    ("256M", "64M", "2M", 0),
    ("256M", "128M", "4M", 2),
    ("512M", "256M", "16M", 1),
    ("1G", "512M", "64M", 1),
    ("2G", "1G", "128M", 0),
]
EIGHT_ARGS = ["-m", "192M,maxmem=8G", "-smp", "3"]
for node in range(3):
    EIGHT_ARGS += ["-numa", f"node,nodeid={node},cpus={node}"]
EIGHT_ARGS += memory_devices(*EIGHT)


@pytest.mark.parametrize("ram_mib", [32, 256, 3072, 4096])
def test_boot(folder, ram_mib):
    text = run_guest(folder, f"test=boot word=found ram={ram_mib}M", ["-m", f"{ram_mib}M"])
    passed(text)


def test_boot_initrd(folder):
    content = bytes(i * 7 % 251 for i in range(70001))
    initrd = f"{folder}/initrd"
    with open(initrd, "wb") as file:
        file.write(content)
    words = f"word=found initrd_size={len(content)} initrd_sum={sum(content)}"
    passed(run_guest(folder, f"test=boot {words}", ["-m", "64M", "-initrd", initrd]))


def test_boot_long_command_line(folder):
    words = " ".join(f"filler{i}=x" for i in range(120))
    passed(run_guest(folder, f"test=boot {words} word=found", ["-m", "64M"]))


@pytest.mark.parametrize("sockets,cores,threads", [(1, 1, 1), (2, 2, 1), (2, 3, 1), (2, 2, 2)])
def test_cpus(folder, sockets, cores, threads):
    n = sockets * cores * threads
    smp = f"{n},sockets={sockets},cores={cores},threads={threads}"
    words = f"test=cpus cpus={n} sockets={sockets} cores={cores} threads={threads}"
    passed(run_guest(folder, words, ["-m", "128M", "-smp", smp]))


def test_cpus_most(folder):
    args = ["-m", "128M", "-smp", "64,sockets=4,cores=16"]
    passed(run_guest(folder, "test=cpus cpus=64 sockets=4 cores=16", args))


def test_acpi(folder):
    passed(run_guest(folder, "test=acpi ram=128M", ["-m", "128M"]))


def test_acpi_nodes(folder):
    """Every memory device's region is a hot-pluggable range of its node; RAM is split evenly."""
    text = run_guest(folder, "test=acpi cpus=3 nodes=3 ram=192M", EIGHT_ARGS)
    passed(text)
    ranges = [
        (int(base, 16), int(size, 16), int(node), hotplug == "1")
        for base, size, node, hotplug in re.findall(
            r"^srat (0x\w+) size (0x\w+) node (\d+) hotplug ([01])$", text, re.MULTILINE
        )
    ]
    ram = [sum(s for _, s, n, hot in ranges if n == node and not hot) for node in range(3)]
    assert ram == [64 << 20] * 3
    hot = [(size, node) for _, size, node, hot in ranges if hot]
    for size, _, _, node in EIGHT:
        unit = {"K": 10, "M": 20, "G": 30}[size[-1]]
        assert (int(size[:-1]) << unit, node) in hot, f"no range for {size} on node {node}"


def smbios(text):
    """What a guest printed of its tables: [(type, [texts])], UUID."""
    found = []
    for line in re.findall(r"^smbios (.*)$", text, re.MULTILINE):
        what, kind, *words = line.split(" ")
        if what == "type":
            found.append((int(kind), []))
        elif what == "text":
            assert found[-1][0] == int(kind)
            found[-1][1].append(" ".join(words))
    uuids = re.findall(r"^smbios uuid (.*)$", text, re.MULTILINE)
    assert len(uuids) == 1
    return found, uuids[0]


UUID = "00112233-4455-6677-8899-aabbccddeeff"


def test_smbios(folder):
    """What is there without being asked for: the machine's UUID, its processors and its memory."""
    args = ["-m", "64M,maxmem=4G", "-smp", "2,sockets=2", "-uuid", UUID, "-machine", "q35"]
    text = run_guest(folder, "test=smbios", args)
    passed(text)
    assert re.findall(r"^smbios entry (.*)$", text, re.MULTILINE) == [
        "64 version 3.0",
        "32 version 2.8",
    ]
    assert smbios(text) == (
        [
            (1, ["Ebb", "pc-q35-9.0"]),
            (3, ["Ebb"]),
            (4, ["CPU 0", "Ebb"]),
            (4, ["CPU 1", "Ebb"]),
            (16, []),
            (17, ["DIMM 0", "Ebb"]),
            (19, []),
            (32, []),
            (127, []),
        ],
        UUID,
    )


@pytest.mark.parametrize("entry", ["32", "64"])
def test_smbios_given(folder, entry):
    """All that is given arrives, and the same after a reset, also where the guest wrote over it."""
    with open(f"{folder}/oem", "w", encoding="ascii") as file:
        file.write("out of a file")
    with open(f"{folder}/raw", "wb") as file:
        file.write(b"\xc8\x05\x34\x12\x07structure\0\0")
    args = ["-m", "64M", "-machine", f"pc,smbios-entry-point-type={entry}"]
    for words in (
        "type=0,vendor=V,version=1.0,date=01/02/2003,release=4.5",
        f"type=1,manufacturer=M,,m,product=P q,version=,serial=S,uuid={UUID},sku=K,family=F",
        "type=2,product=one",
        "type=2,location=L",
        "type=3,asset=A",
        f"type=11,value=first,value=sec ond,path={folder}/oem",
        "type=17,loc_pfx=slot",
        f"file={folder}/raw",
    ):
        args += ["-smbios", words]
    with Machine(folder, "test=smbios scribble=1 end=reset", args) as machine:
        both = [
            machine.console.expect(r"^BARE (?s:.*?)^DONE [^\n]*\n").group(0) for _ in range(2)
        ]
    assert both[0] == both[1]
    passed(both[0])
    assert re.findall(r"^smbios entry (\d+)", both[0], re.MULTILINE) == [entry]
    found, uuid = smbios(both[0])
    assert uuid == UUID
    for structure in (
        (0, ["V", "1.0", "01/02/2003"]),
        (1, ["M,m", "P q", "S", "K", "F"]),
        (2, ["Ebb", "one", "L"]),
        (3, ["Ebb", "A"]),
        (11, ["first", "sec ond", "out of a file"]),
        (17, ["slot 0", "Ebb"]),
        (200, ["structure"]),
    ):
        assert structure in found


def test_pci(folder):
    passed(run_guest(folder, "test=pci", MEM + RNG + ["-usb"]))


def test_serial(folder):
    passed(run_guest(folder, "test=serial", ["-m", "64M"]))


def test_timer(folder):
    passed(run_guest(folder, "test=timer", ["-m", "64M"]))


def test_rtc(folder):
    text = run_guest(folder, "test=rtc", ["-m", "64M"])
    passed(text)
    shown = re.search(r"^rtc (.*)$", text, re.MULTILINE).group(1)
    guest = datetime.datetime.strptime(shown, "%Y-%m-%d %H:%M:%S")
    host = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    assert abs((host - guest).total_seconds()) < 60


def test_echo(folder):
    """What is typed arrives, also when it comes faster than the guest takes it."""
    with Machine(folder, "test=echo", ["-m", "64M"]) as machine:
        machine.console.expect("^echo: ready$")
        lines = [f"line {i} " + "x" * (i % 40) for i in range(200)]
        for line in lines:
            machine.type(line)
        for line in lines:
            machine.console.expect(f"^echo: {line}$")
        machine.type("quit")
        assert machine.wait() == 0
        passed(machine.console.text)


@pytest.mark.parametrize("ring", RINGS)
def test_rng(folder, ring):
    passed(run_guest(folder, f"test=rng {ring}", ["-m", "64M"] + RNG))


@pytest.mark.parametrize("irq", ["poll", "intx"])
def test_rng_interrupts(folder, irq):
    passed(run_guest(folder, f"test=rng irq={irq}", ["-m", "64M"] + RNG))


def test_device_without_id(folder):
    passed(run_guest(folder, "test=rng", ["-m", "64M", "-device", "virtio-rng-pci"]))


@pytest.mark.parametrize("test", ["vmem-config", "vmem-requests", "vmem-memory"])
def test_one_device(folder, test):
    passed(run_guest(folder, f"test={test}", MEM))


@pytest.mark.parametrize("test", ["vmem-config", "vmem-requests", "vmem-memory", "vmem-storm"])
def test_eight_devices(folder, test):
    passed(run_guest(folder, f"test={test} devices=8", EIGHT_ARGS))


@pytest.mark.parametrize("ring", RINGS + ["irq=poll", "irq=intx"])
def test_requests_rings(folder, ring):
    passed(run_guest(folder, f"test=vmem-requests {ring}", MEM))


def test_read_unplugged(folder):
    """Without VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE a driver may read what it does not own."""
    args = ["-m", "128M,maxmem=4G"]
    args += memory_devices(("256M", "32M", "2M", 0), extra=",unplugged-inaccessible=off")
    text = run_guest(folder, "test=vmem-memory read_unplugged=1", args)
    passed(text)
    assert "PASS memory-unplugged-zero" in text


def test_dma(folder):
    passed(run_guest(folder, "test=vmem-dma", MEM + RNG))


@pytest.mark.parametrize("ring", RINGS)
def test_storm(folder, ring):
    passed(run_guest(folder, f"test=vmem-storm rounds=8 {ring}", MEM))


@pytest.mark.parametrize(
    "ring", ["", "indirect=1", "ring=packed", "ring=packed indirect=1", "irq=poll"]
)
def test_malformed_rings(folder, ring):
    passed(run_guest(folder, f"test=rings {ring}", MEM))


def test_trap_is_reported(folder):
    """The guest's own safety net: an exception is a failed test, never a silent end."""
    text = run_guest(folder, "test=trap", ["-m", "64M"])
    assert "TRAP vector=6" in text and "FAIL trap" in text
    with pytest.raises(AssertionError, match="FAIL trap"):
        passed(text)
