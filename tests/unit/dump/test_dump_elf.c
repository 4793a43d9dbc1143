/* SPDX-License-Identifier: BSD-3-Clause */
/* The head of a dump: what it says is where the memory is, and what is in a vCPU. */
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/dump/dump_elf.h"
#include "vmm/kvm/vcpu.h"

#define PRSTATUS_BYTES 336u
#define STATE_BYTES    440u
#define NOTE_HEAD      (sizeof(Elf64_Nhdr) + 8)

static struct dump_elf make(const struct range *runs, size_t nr_runs,
			    const struct vcpu_registers *vcpus, unsigned int nr_vcpus)
{
	struct dump_elf elf;
	struct err *err = NULL;

	if (dump_elf_make(runs, nr_runs, vcpus, nr_vcpus, &elf, &err))
		fail_msg("%s", err_message(err));
	assert_true(num_is_aligned(elf.head_bytes, DUMP_ELF_ALIGN));
	assert_true(num_is_aligned((uintptr_t)elf.head, DUMP_ELF_ALIGN));
	return elf;
}

/* The program headers, whose number is checked. */
static const Elf64_Phdr *phdrs_of(const struct dump_elf *elf, uint64_t nr)
{
	const Elf64_Ehdr *header = elf->head;
	const Elf64_Shdr *section;

	assert_memory_equal(header->e_ident, ELFMAG, SELFMAG);
	assert_int_equal(header->e_ident[EI_CLASS], ELFCLASS64);
	assert_int_equal(header->e_ident[EI_DATA], ELFDATA2LSB);
	assert_int_equal(header->e_type, ET_CORE);
	assert_int_equal(header->e_machine, EM_X86_64);
	assert_int_equal(header->e_phentsize, sizeof(Elf64_Phdr));
	if (nr < PN_XNUM) {
		assert_int_equal(header->e_phnum, nr);
		assert_int_equal(header->e_shnum, 0);
	} else {
		assert_int_equal(header->e_phnum, PN_XNUM);
		assert_int_equal(header->e_shnum, 1);
		assert_int_equal(header->e_shentsize, sizeof(Elf64_Shdr));
		assert_int_equal(header->e_shoff, header->e_phoff + nr * sizeof(Elf64_Phdr));
		section = (const void *)((const char *)elf->head + header->e_shoff);
		assert_int_equal(section->sh_type, SHT_NULL);
		assert_int_equal(section->sh_info, nr);
	}
	return (const void *)((const char *)elf->head + header->e_phoff);
}

static void check_loads(const struct dump_elf *elf, const struct range *runs, size_t nr_runs)
{
	const Elf64_Phdr *p = phdrs_of(elf, nr_runs + 1);
	uint64_t at = elf->head_bytes;

	assert_int_equal(p->p_type, PT_NOTE);
	assert_true(p->p_offset + p->p_filesz <= elf->head_bytes);
	for (size_t i = 0; i < nr_runs; i++) {
		p++;
		assert_int_equal(p->p_type, PT_LOAD);
		assert_int_equal(p->p_paddr, runs[i].start);
		assert_int_equal(p->p_vaddr, runs[i].start);
		assert_int_equal(p->p_offset, at);
		assert_int_equal(p->p_filesz, runs[i].size);
		assert_int_equal(p->p_memsz, runs[i].size);
		at += runs[i].size;
	}
	assert_int_equal(elf->all_bytes, at);
}

static void test_runs(void **state)
{
	static const struct range runs[] = {{0, 3 * GIB}, {4 * GIB, GIB}, {UINT64_C(1) << 40, 1}};
	const struct vcpu_registers vcpus[3] = {0};
	struct dump_elf elf;

	(void)state;
	for (size_t nr = 1; nr <= ARRAY_SIZE(runs); nr++) {
		elf = make(runs, nr, vcpus, 3);
		check_loads(&elf, runs, nr);
		free(elf.head);
	}
}

/* The last number that the header can tell itself, and those beyond. */
static void test_many_runs(void **state)
{
	static const size_t numbers[] = {PN_XNUM - 2, PN_XNUM - 1, PN_XNUM, 200000};
	const struct vcpu_registers vcpu = {.regs.rip = 1};
	struct range *runs = calloc(200000, sizeof(*runs));

	(void)state;
	assert_non_null(runs);
	for (size_t i = 0; i < 200000; i++)
		runs[i] = (struct range){i * 4 * MIB, 2 * MIB};
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		struct dump_elf elf = make(runs, numbers[i], &vcpu, 1);

		check_loads(&elf, runs, numbers[i]);
		free(elf.head);
	}
	free(runs);
}

/* One note, and the place of the next. */
static const uint8_t *check_note(const uint8_t *at, const char *name, uint32_t type, uint32_t size,
				 const uint8_t **ret_desc)
{
	const Elf64_Nhdr *note = (const void *)at;

	assert_int_equal(note->n_namesz, strlen(name) + 1);
	assert_int_equal(note->n_descsz, size);
	assert_int_equal(note->n_type, type);
	assert_string_equal((const char *)(note + 1), name);
	*ret_desc = at + NOTE_HEAD;
	return at + NOTE_HEAD + size;
}

static uint64_t word(const uint8_t *at, size_t offset)
{
	uint64_t value;

	memcpy(&value, at + offset, sizeof(value));
	return value;
}

static void test_notes(void **state)
{
	static const struct range run = {0, MIB};
	struct vcpu_registers vcpus[2] = {0};
	const uint8_t *at, *desc;
	struct dump_elf elf;

	(void)state;
	for (unsigned int i = 0; i < 2; i++) {
		vcpus[i].regs.r15 = 15 + i;
		vcpus[i].regs.rax = 100 + i;
		vcpus[i].regs.rip = 0xffffffff81000000 + i;
		vcpus[i].regs.rsp = 0x7000 + i;
		vcpus[i].sregs.cs = (struct kvm_segment){.selector = 0x10,
							 .limit = 0xffffffff,
							 .type = 11,
							 .present = 1,
							 .s = 1,
							 .l = 1,
							 .g = 1};
		vcpus[i].sregs.gs = (struct kvm_segment){.selector = 0x2b, .base = 0x1000 + i};
		vcpus[i].sregs.idt =
			(struct kvm_dtable){.base = 0xfffffe0000000000, .limit = 0xfff};
		vcpus[i].sregs.cr3 = 0x2000 + i;
		vcpus[i].kernel_gs_base = 0x3000 + i;
	}
	elf = make(&run, 1, vcpus, 2);
	at = (const uint8_t *)elf.head + phdrs_of(&elf, 2)->p_offset;
	for (unsigned int i = 0; i < 2; i++) {
		at = check_note(at, "CORE", NT_PRSTATUS, PRSTATUS_BYTES, &desc);
		assert_int_equal((uint32_t)word(desc, 32), i + 1);
		assert_int_equal(word(desc, 112), 15 + i);
		assert_int_equal(word(desc, 112 + 10 * 8), 100 + i);
		assert_int_equal(word(desc, 112 + 16 * 8), vcpus[i].regs.rip);
		assert_int_equal(word(desc, 112 + 17 * 8), 0x10);
		assert_int_equal(word(desc, 112 + 19 * 8), 0x7000 + i);
		assert_int_equal(word(desc, 112 + 22 * 8), 0x1000 + i);
		assert_int_equal(word(desc, 112 + 26 * 8), 0x2b);
	}
	for (unsigned int i = 0; i < 2; i++) {
		at = check_note(at, "QEMU", 0, STATE_BYTES, &desc);
		assert_int_equal(word(desc, 0), 1 | (uint64_t)STATE_BYTES << 32);
		assert_int_equal(word(desc, 8), 100 + i);
		assert_int_equal(word(desc, 8 + 16 * 8), vcpus[i].regs.rip);
		/* cs: selector and limit, flags, base */
		assert_int_equal(word(desc, 152), 0x10 | UINT64_C(0xffffffff) << 32);
		assert_int_equal(word(desc, 160), 0xa09b00);
		assert_int_equal(word(desc, 152 + 4 * 24 + 16), 0x1000 + i);
		assert_int_equal(word(desc, 152 + 9 * 24 + 16), 0xfffffe0000000000);
		assert_int_equal(word(desc, 152 + 10 * 24 + 3 * 8), 0x2000 + i);
		assert_int_equal(word(desc, STATE_BYTES - 8), 0x3000 + i);
	}
	assert_ptr_equal(at, (const uint8_t *)elf.head + phdrs_of(&elf, 2)->p_offset +
				     phdrs_of(&elf, 2)->p_filesz);
	free(elf.head);
}

static void test_too_large(void **state)
{
	const struct range runs[] = {{0, INT64_MAX - MIB}, {INT64_MAX, MIB}};
	const struct vcpu_registers vcpu = {.regs.rip = 1};
	struct dump_elf elf;
	struct err *err = NULL;

	(void)state;
	assert_int_equal(dump_elf_make(runs, 2, &vcpu, 1, &elf, &err), -EFBIG);
	assert_string_equal(err_message(err), "no file can hold as much memory");
	err_free(err);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_many_runs),
		cmocka_unit_test(test_notes),
		cmocka_unit_test(test_too_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
