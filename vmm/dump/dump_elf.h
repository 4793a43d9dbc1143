/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The head of a dump in ELF: what comes before the memory. An ET_CORE file for x86-64 (System V ABI,
 * AMD64 supplement) as crash(8), gdb(1) and readelf(1) read those of virtual machines:
 *
 *	ELF header | program headers | [one section header] | notes | padding | memory, run after run
 *
 * The first program header is the PT_NOTE, the others are PT_LOADs, one for each run of memory, whose
 * addresses are physical ones. For each vCPU there is a note NT_PRSTATUS of "CORE", in their order, and
 * then one of "QEMU" (type 0), which holds what only a machine has: segments with their bases, tables,
 * control registers. A page that the file has as a hole is one of zeros.
 *
 * I1  Memory begins at a multiple of DUMP_ELF_ALIGN.
 * I2  With 65535 program headers or more e_phnum is PN_XNUM, and the number in sh_info of the only
 *     section header.
 *
 * Threads: none.
 */
#ifndef VMM_DUMP_DUMP_ELF_H
#define VMM_DUMP_DUMP_ELF_H

#include <stddef.h>
#include <stdint.h>

#include "base/num.h"

struct err;
struct vcpu_registers;

#define DUMP_ELF_ALIGN UINT64_C(4096)

struct dump_elf {
	void *head;         /* aligned to DUMP_ELF_ALIGN; for the caller to free() */
	size_t head_bytes;  /* memory begins here */
	uint64_t all_bytes; /* of the file */
};

/* @runs ascend; none is empty. 0, -ENOMEM, or -EFBIG for what no file can hold. */
int dump_elf_make(const struct range *runs, size_t nr_runs, const struct vcpu_registers *vcpus,
		  unsigned int nr_vcpus, struct dump_elf *ret_elf, struct err **err);

#endif
