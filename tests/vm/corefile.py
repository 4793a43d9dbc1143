# SPDX-License-Identifier: BSD-3-Clause
"""A dump of a machine's memory as its readers find it: ELF, parsed strictly and from the standard."""

import struct

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
PROGRAM = struct.Struct("<IIQQQQQQ")
SECTION = struct.Struct("<IIQQQQIIQQ")
NOTE = struct.Struct("<III")
ET_CORE, EM_X86_64, PT_LOAD, PT_NOTE, PN_XNUM, NT_PRSTATUS = 4, 62, 1, 4, 0xFFFF, 1
PRSTATUS_BYTES, PRSTATUS_PID, PRSTATUS_REGS = 336, 32, 112
REGS = (
    "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss "
    "fs_base gs_base ds es fs gs"
).split()
MACHINE_BYTES, MACHINE_RIP, MACHINE_CR = 440, 8 + 16 * 8, 8 + 18 * 8 + 10 * 24


class CoreFile:
    """`loads`: (address, size, offset) in their order; `threads`: registers of each vCPU;
    `machines`: {rip, cr0, cr3, cr4} of each."""

    def __init__(self, data):
        self.data = data
        header = HEADER.unpack_from(data)
        ident, kind, machine, version, _, phoff, shoff = header[:7]
        ehsize, phentsize, phnum, shentsize, shnum, shstrndx = header[8:]
        assert ident == b"\x7fELF\x02\x01\x01" + bytes(9)
        assert (kind, machine, version) == (ET_CORE, EM_X86_64, 1)
        assert (ehsize, phentsize, shstrndx) == (HEADER.size, PROGRAM.size, 0)
        if phnum == PN_XNUM:
            assert (shnum, shentsize) == (1, SECTION.size)
            phnum = SECTION.unpack_from(data, shoff)[7]
            assert phnum >= PN_XNUM
        else:
            assert (shoff, shnum) == (0, 0)
        programs = [PROGRAM.unpack_from(data, phoff + i * PROGRAM.size) for i in range(phnum)]
        assert [p[0] for p in programs] == [PT_NOTE] + [PT_LOAD] * (phnum - 1)
        self.loads = []
        end = 0
        place = None
        for _, _, offset, vaddr, paddr, filesz, memsz, _ in programs[1:]:
            assert vaddr == paddr and filesz == memsz > 0
            assert paddr > end or not self.loads, "runs ascend, and are as long as they can be"
            assert offset == place or place is None
            self.loads.append((paddr, memsz, offset))
            end, place = paddr + memsz, offset + filesz
        assert place == len(data) and self.loads[0][2] % 4096 == 0
        self._notes(data[programs[0][2] : programs[0][2] + programs[0][5]])

    def _notes(self, data):
        self.threads, self.machines = [], []
        while data:
            namesz, descsz, kind = NOTE.unpack_from(data)
            name = data[NOTE.size : NOTE.size + namesz]
            at = NOTE.size + (namesz + 3) // 4 * 4
            desc, data = data[at : at + descsz], data[at + (descsz + 3) // 4 * 4 :]
            assert len(desc) == descsz
            if (name, kind) == (b"CORE\0", NT_PRSTATUS):
                assert descsz == PRSTATUS_BYTES and not self.machines
                assert struct.unpack_from("<I", desc, PRSTATUS_PID)[0] == len(self.threads) + 1
                values = struct.unpack_from(f"<{len(REGS)}Q", desc, PRSTATUS_REGS)
                self.threads.append(dict(zip(REGS, values)))
            else:
                assert (name, kind, descsz) == (b"QEMU\0", 0, MACHINE_BYTES)
                assert struct.unpack_from("<II", desc) == (1, MACHINE_BYTES)
                crs = struct.unpack_from("<5Q", desc, MACHINE_CR)
                rip = struct.unpack_from("<Q", desc, MACHINE_RIP)[0]
                self.machines.append({"rip": rip, "cr0": crs[0], "cr3": crs[3], "cr4": crs[4]})
        assert len(self.threads) == len(self.machines)

    def ranges(self):
        return [(start, size) for start, size, _ in self.loads]

    def memory(self, gpa, size):
        """What is at GPA; None where the dump has nothing."""
        for start, length, offset in self.loads:
            if start <= gpa and gpa + size <= start + length:
                return self.data[offset + gpa - start : offset + gpa - start + size]
        return None
