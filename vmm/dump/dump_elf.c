/* SPDX-License-Identifier: BSD-3-Clause */
/* The head of a dump in ELF: see dump_elf.h. */
#include "vmm/dump/dump_elf.h"

#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/pack.h"
#include "vmm/kvm/vcpu.h"

#define NOTE_NAME_BYTES 8u /* "CORE" and "QEMU" with their 0, padded */

/* struct elf_prstatus of Linux for x86-64, of which a machine knows the thread and its registers. */
#define PRSTATUS_BYTES          336u
#define PRSTATUS_BEFORE_PID     32u
#define PRSTATUS_BEFORE_REGS    76u
#define PRSTATUS_AFTER_REGS     8u
#define PRSTATUS_NO_SYSTEM_CALL UINT64_MAX /* orig_rax */

#define MACHINE_STATE_BYTES   440u
#define MACHINE_STATE_VERSION 1u

/* ---- notes ---- */

static void elf_pack_zeros(struct pack *out, size_t size)
{
	while (size--)
		pack_u8(out, 0);
}

static void elf_pack_note(struct pack *out, const char *name, uint32_t type, uint32_t size)
{
	char padded[NOTE_NAME_BYTES] = {0};

	memcpy(padded, name, strlen(name));
	pack_u32(out, (uint32_t)strlen(name) + 1);
	pack_u32(out, size);
	pack_u32(out, type);
	pack_bytes(out, padded, sizeof(padded));
}

static void elf_pack_prstatus(struct pack *out, const struct vcpu_registers *v, unsigned int index)
{
	const struct kvm_regs *r = &v->regs;
	const struct kvm_sregs *s = &v->sregs;
	/* The order of struct user_regs_struct. */
	const uint64_t regs[] = {
		r->r15,         r->r14,         r->r13,         r->r12,
		r->rbp,         r->rbx,         r->r11,         r->r10,
		r->r9,          r->r8,          r->rax,         r->rcx,
		r->rdx,         r->rsi,         r->rdi,         PRSTATUS_NO_SYSTEM_CALL,
		r->rip,         s->cs.selector, r->rflags,      r->rsp,
		s->ss.selector, s->fs.base,     s->gs.base,     s->ds.selector,
		s->es.selector, s->fs.selector, s->gs.selector,
	};

	elf_pack_note(out, "CORE", NT_PRSTATUS, PRSTATUS_BYTES);
	elf_pack_zeros(out, PRSTATUS_BEFORE_PID);
	/* Threads count from 1: 0 is none. */
	pack_u32(out, index + 1);
	elf_pack_zeros(out, PRSTATUS_BEFORE_REGS);
	for (size_t i = 0; i < ARRAY_SIZE(regs); i++)
		pack_u64(out, regs[i]);
	elf_pack_zeros(out, PRSTATUS_AFTER_REGS);
}

/* Flags as the second word of a descriptor has them. */
static void elf_pack_segment(struct pack *out, const struct kvm_segment *s)
{
	uint32_t flags = (uint32_t)s->type << 8 | (uint32_t)s->s << 12 | (uint32_t)s->dpl << 13 |
			 (uint32_t)s->present << 15 | (uint32_t)s->avl << 20 |
			 (uint32_t)s->l << 21 | (uint32_t)s->db << 22 | (uint32_t)s->g << 23;

	pack_u32(out, s->selector);
	pack_u32(out, s->limit);
	pack_u32(out, flags);
	pack_u32(out, 0);
	pack_u64(out, s->base);
}

static void elf_pack_table(struct pack *out, const struct kvm_dtable *table)
{
	pack_u32(out, 0);
	pack_u32(out, table->limit);
	pack_u32(out, 0);
	pack_u32(out, 0);
	pack_u64(out, table->base);
}

static void elf_pack_machine_state(struct pack *out, const struct vcpu_registers *v)
{
	const struct kvm_regs *r = &v->regs;
	const struct kvm_sregs *s = &v->sregs;
	const uint64_t regs[] = {r->rax, r->rbx, r->rcx, r->rdx, r->rsi, r->rdi,
				 r->rsp, r->rbp, r->r8,  r->r9,  r->r10, r->r11,
				 r->r12, r->r13, r->r14, r->r15, r->rip, r->rflags};
	const struct kvm_segment *const segments[] = {&s->cs, &s->ds, &s->es,  &s->fs,
						      &s->gs, &s->ss, &s->ldt, &s->tr};
	const uint64_t controls[] = {s->cr0, 0, s->cr2, s->cr3, s->cr4};

	elf_pack_note(out, "QEMU", 0, MACHINE_STATE_BYTES);
	pack_u32(out, MACHINE_STATE_VERSION);
	pack_u32(out, MACHINE_STATE_BYTES);
	for (size_t i = 0; i < ARRAY_SIZE(regs); i++)
		pack_u64(out, regs[i]);
	for (size_t i = 0; i < ARRAY_SIZE(segments); i++)
		elf_pack_segment(out, segments[i]);
	elf_pack_table(out, &s->gdt);
	elf_pack_table(out, &s->idt);
	for (size_t i = 0; i < ARRAY_SIZE(controls); i++)
		pack_u64(out, controls[i]);
	pack_u64(out, v->kernel_gs_base);
}

static void elf_pack_notes(struct pack *out, const struct vcpu_registers *vcpus,
			   unsigned int nr_vcpus)
{
	for (unsigned int i = 0; i < nr_vcpus; i++)
		elf_pack_prstatus(out, &vcpus[i], i);
	for (unsigned int i = 0; i < nr_vcpus; i++)
		elf_pack_machine_state(out, &vcpus[i]);
}

/* ---- headers ---- */

/* Where things are; struct members of <elf.h> are in the order of the bytes, as is this processor. */
struct elf_places {
	uint64_t nr_phdrs, notes, notes_bytes, memory;
	bool many; /* I2 */
};

static void elf_pack_header(struct pack *out, const struct elf_places *places)
{
	const uint64_t behind = sizeof(Elf64_Ehdr) + places->nr_phdrs * sizeof(Elf64_Phdr);
	const Elf64_Ehdr header = {
		.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT,
			    ELFOSABI_NONE},
		.e_type = ET_CORE,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_phoff = sizeof(Elf64_Ehdr),
		.e_shoff = places->many ? behind : 0,
		.e_ehsize = sizeof(Elf64_Ehdr),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = places->many ? PN_XNUM : (uint16_t)places->nr_phdrs,
		.e_shentsize = places->many ? sizeof(Elf64_Shdr) : 0,
		.e_shnum = places->many,
	};

	pack_bytes(out, &header, sizeof(header));
}

static void elf_pack_phdrs(struct pack *out, const struct elf_places *places,
			   const struct range *runs, size_t nr_runs)
{
	const Elf64_Phdr notes = {
		.p_type = PT_NOTE,
		.p_offset = places->notes,
		.p_filesz = places->notes_bytes,
		.p_memsz = places->notes_bytes,
	};
	uint64_t at = places->memory;

	pack_bytes(out, &notes, sizeof(notes));
	for (size_t i = 0; i < nr_runs; i++) {
		const Elf64_Phdr load = {
			.p_type = PT_LOAD,
			.p_offset = at,
			.p_vaddr = runs[i].start,
			.p_paddr = runs[i].start,
			.p_filesz = runs[i].size,
			.p_memsz = runs[i].size,
		};

		pack_bytes(out, &load, sizeof(load));
		at += runs[i].size;
	}
}

static int elf_places_find(struct elf_places *places, const struct range *runs, size_t nr_runs,
			   unsigned int nr_vcpus, uint64_t *ret_all)
{
	const uint64_t note_bytes = (uint64_t)2 * (3 * sizeof(uint32_t) + NOTE_NAME_BYTES) +
				    PRSTATUS_BYTES + MACHINE_STATE_BYTES;

	places->nr_phdrs = nr_runs + 1;
	places->many = places->nr_phdrs >= PN_XNUM;
	/* What sh_info can tell. */
	if (places->nr_phdrs > UINT32_MAX)
		return -EFBIG;
	places->notes = sizeof(Elf64_Ehdr) + places->nr_phdrs * sizeof(Elf64_Phdr) +
			places->many * sizeof(Elf64_Shdr);
	places->notes_bytes = nr_vcpus * note_bytes;
	if (!num_align_up(places->notes + places->notes_bytes, DUMP_ELF_ALIGN, &places->memory))
		return -EFBIG;
	*ret_all = places->memory;
	for (size_t i = 0; i < nr_runs; i++)
		if (!num_add(*ret_all, runs[i].size, ret_all))
			return -EFBIG;
	return *ret_all > INT64_MAX ? -EFBIG : 0;
}

int dump_elf_make(const struct range *runs, size_t nr_runs, const struct vcpu_registers *vcpus,
		  unsigned int nr_vcpus, struct dump_elf *ret_elf, struct err **err)
{
	struct elf_places places;
	struct pack out = {0};
	int ret = elf_places_find(&places, runs, nr_runs, nr_vcpus, &ret_elf->all_bytes);

	if (ret)
		return err_set(err, -ret, "no file can hold as much memory");
	elf_pack_header(&out, &places);
	elf_pack_phdrs(&out, &places, runs, nr_runs);
	if (places.many) {
		const Elf64_Shdr number = {.sh_info = (uint32_t)places.nr_phdrs};

		pack_bytes(&out, &number, sizeof(number));
	}
	elf_pack_notes(&out, vcpus, nr_vcpus);
	ret_elf->head = pack_failed(&out) ? NULL : aligned_alloc(DUMP_ELF_ALIGN, places.memory);
	ret_elf->head_bytes = places.memory;
	if (ret_elf->head) {
		memset(ret_elf->head, 0, places.memory);
		memcpy(ret_elf->head, out.bytes, out.size);
	}
	pack_done(&out);
	return ret_elf->head ? 0 : err_set(err, ENOMEM, "out of memory");
}
