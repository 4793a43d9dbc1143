/* SPDX-License-Identifier: BSD-3-Clause */
/* Loading an ELF kernel by PVH: segments, start information, and hostile files refused. */
#include "tests/unit/machine/fixture.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/machine/boot.h"

#define TEXT_GPA   0x1000000
#define TEXT_SIZE  8192
#define DATA_GPA   0x1200000
#define DATA_SIZE  4096
#define DATA_MEMSZ 20000
#define ENTRY_GPA  (TEXT_GPA + 0x100)
#define RSDP       0xE0000

/* One text segment, one data segment with a bss, two notes of which the second is the entry. */
struct image {
	Elf64_Ehdr ehdr;
	Elf64_Phdr phdr[3];
	struct {
		Elf64_Nhdr hdr;
		char name[8], desc[8];
	} other;
	struct {
		Elf64_Nhdr hdr;
		char name[4];
		uint32_t entry, zero;
	} note;
	uint8_t text[TEXT_SIZE], data[DATA_SIZE];
};

static void image_make(struct image *image)
{
	memset(image, 0, sizeof(*image));
	image->ehdr = (Elf64_Ehdr){
		.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB},
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_phoff = offsetof(struct image, phdr),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 3,
	};
	image->phdr[0] = (Elf64_Phdr){
		.p_type = PT_LOAD,
		.p_offset = offsetof(struct image, text),
		.p_vaddr = 0xFFFFFFFF81000000,
		.p_paddr = TEXT_GPA,
		.p_filesz = TEXT_SIZE,
		.p_memsz = TEXT_SIZE,
	};
	image->phdr[1] = (Elf64_Phdr){
		.p_type = PT_LOAD,
		.p_offset = offsetof(struct image, data),
		.p_paddr = DATA_GPA,
		.p_filesz = DATA_SIZE,
		.p_memsz = DATA_MEMSZ,
	};
	image->phdr[2] = (Elf64_Phdr){
		.p_type = PT_NOTE,
		.p_offset = offsetof(struct image, other),
		.p_filesz = sizeof(image->other) + sizeof(image->note),
		.p_align = 4,
	};
	image->other.hdr = (Elf64_Nhdr){.n_namesz = 6, .n_descsz = 7, .n_type = 18};
	memcpy(image->other.name, "Linux", 6);
	image->note.hdr = (Elf64_Nhdr){.n_namesz = 4, .n_descsz = 8, .n_type = 18};
	memcpy(image->note.name, "Xen", 4);
	image->note.entry = ENTRY_GPA;
	memset(image->text, 0x11, TEXT_SIZE);
	memset(image->data, 0x22, DATA_SIZE);
}

static int boot_run(struct fixture *fixture, const void *image, size_t image_size, bool initrd,
		    const char *cmdline, struct boot_cpu_state *ret_state, struct err **err)
{
	static const uint8_t initrd_bytes[5000] = {0x77};
	struct boot_config config = {
		.layout = fixture->layout,
		.kernel_fd = file_new(image, image_size),
		.initrd_fd = initrd ? file_new(initrd_bytes, sizeof(initrd_bytes)) : -1,
		.kernel_path = "/k/vmlinux",
		.initrd_path = "/k/initrd",
		.cmdline = cmdline,
		.acpi_rsdp_gpa = RSDP,
	};
	int ret = boot_load(fixture->gm, &config, ret_state, err);

	close(config.kernel_fd);
	if (initrd)
		close(config.initrd_fd);
	return ret;
}

static void test_boot(void **state)
{
	static struct image image;
	struct fixture *fixture = fixture_new(5 * GIB);
	struct boot_cpu_state cpu;
	uint64_t info, map, at, ram = 0, end = 0;
	char text[32] = {0};
	unsigned int i, nr;

	(void)state;
	image_make(&image);
	/* Whatever was there before: the bss must be zero. */
	memset((char *)fixture->low + DATA_GPA, 0xFF, 65536);
	assert_int_equal(boot_run(fixture, &image, sizeof(image), true, "quiet", &cpu, NULL), 0);
	assert_false(cpu.long_mode);
	assert_int_equal(cpu.entry_gpa, ENTRY_GPA);
	assert_int_equal(fixture_read(fixture, TEXT_GPA, 8), 0x1111111111111111);
	assert_int_equal(fixture_read(fixture, TEXT_GPA + TEXT_SIZE - 1, 1), 0x11);
	assert_int_equal(fixture_read(fixture, DATA_GPA + DATA_SIZE - 1, 1), 0x22);
	for (at = DATA_SIZE; at < DATA_MEMSZ; at++)
		assert_int_equal(fixture_read(fixture, DATA_GPA + at, 1), 0);
	assert_int_equal(fixture_read(fixture, DATA_GPA + DATA_MEMSZ, 1), 0xFF);

	info = cpu.info_gpa;
	assert_int_equal(fixture_read(fixture, info, 4), 0x336EC578);
	assert_int_equal(fixture_read(fixture, info + 4, 4), 1);
	assert_int_equal(fixture_read(fixture, info + 12, 4), 1);
	assert_int_equal(fixture_read(fixture, info + 32, 8), RSDP);
	assert_int_equal(
		gm_read(fixture->gm, fixture_read(fixture, info + 24, 8), text, sizeof(text)), 0);
	assert_string_equal(text, "quiet");
	at = fixture_read(fixture, info + 16, 8);
	assert_int_equal(fixture_read(fixture, at + 8, 8), 5000);
	at = fixture_read(fixture, at, 8);
	assert_int_equal(at, 3 * GIB - 8192);
	assert_int_equal(fixture_read(fixture, at, 1), 0x77);

	map = fixture_read(fixture, info + 40, 8);
	nr = (unsigned int)fixture_read(fixture, info + 48, 4);
	for (i = 0; i < nr; i++, map += 24) {
		assert_true(fixture_read(fixture, map, 8) >= end);
		end = fixture_read(fixture, map, 8) + fixture_read(fixture, map + 8, 8);
		if (fixture_read(fixture, map + 16, 4) == 1)
			ram += fixture_read(fixture, map + 8, 8);
	}
	assert_int_equal(ram, 5 * GIB - 385 * KIB);
	fixture_free(fixture);
}

static void test_no_initrd(void **state)
{
	static struct image image;
	struct fixture *fixture = fixture_new(64 * MIB);
	struct boot_cpu_state cpu;
	static char line[2049];
	struct err *err = NULL;
	int ret;

	(void)state;
	image_make(&image);
	/* A description of 4 bytes is as good, and one without any command line. */
	image.note.hdr.n_descsz = 4;
	image.note.zero = UINT32_MAX;
	image.phdr[2].p_filesz -= 4;
	assert_int_equal(boot_run(fixture, &image, sizeof(image), false, NULL, &cpu, NULL), 0);
	assert_int_equal(cpu.entry_gpa, ENTRY_GPA);
	assert_int_equal(fixture_read(fixture, cpu.info_gpa + 12, 4), 0);
	assert_int_equal(fixture_read(fixture, cpu.info_gpa + 16, 8), 0);
	memset(line, 'x', 2048);
	ret = boot_run(fixture, &image, sizeof(image), false, line, &cpu, &err);
	assert_refused(ret, EINVAL, err, "-append", "at most 2047");
	fixture_free(fixture);
}

static void damage_class(struct image *image)
{
	image->ehdr.e_ident[EI_CLASS] = ELFCLASS32;
}
static void damage_machine(struct image *image)
{
	image->ehdr.e_machine = EM_AARCH64;
}
static void damage_phentsize(struct image *image)
{
	image->ehdr.e_phentsize = 32;
}
static void damage_phnum(struct image *image)
{
	image->ehdr.e_phnum = 0xFFFF;
}
static void damage_phoff(struct image *image)
{
	image->ehdr.e_phoff = UINT64_MAX - 8;
}
static void damage_note_name(struct image *image)
{
	image->note.name[0] = 'Y';
}
static void damage_note_type(struct image *image)
{
	image->phdr[2].p_type = PT_NULL;
}
static void damage_note_length(struct image *image)
{
	image->other.hdr.n_descsz = UINT32_MAX;
}
static void damage_note_name_length(struct image *image)
{
	image->other.hdr.n_namesz = UINT32_MAX;
}
static void damage_note_offset(struct image *image)
{
	image->phdr[2].p_offset = UINT64_MAX - 16;
}
static void damage_note_size(struct image *image)
{
	image->phdr[2].p_filesz = UINT64_MAX;
}
static void damage_segment_offset(struct image *image)
{
	image->phdr[0].p_offset = UINT64_MAX - 4096;
}
static void damage_segment_filesz(struct image *image)
{
	image->phdr[1].p_filesz = image->phdr[1].p_memsz = UINT64_MAX;
}
static void damage_segment_order(struct image *image)
{
	image->phdr[1].p_memsz = DATA_SIZE - 1;
}
static void damage_segment_memsz(struct image *image)
{
	image->phdr[1].p_memsz = UINT64_MAX - DATA_GPA + 2;
}
static void damage_segment_low(struct image *image)
{
	image->phdr[1].p_paddr = 0x7000;
}
static void damage_segment_high(struct image *image)
{
	image->phdr[1].p_paddr = 64 * MIB - DATA_SIZE;
}
static void damage_entry(struct image *image)
{
	image->note.entry = TEXT_GPA + TEXT_SIZE;
}
static void damage_entry_wide(struct image *image)
{
	image->note.zero = 1;
}

static void test_refused(void **state)
{
	static const struct {
		void (*damage)(struct image *image);
		int code;
		const char *part;
	} cases[] = {
		{damage_class, EINVAL, "not one for x86-64"},
		{damage_machine, EINVAL, "not one for x86-64"},
		{damage_phentsize, EINVAL, "program headers"},
		{damage_phnum, EINVAL, "program headers"},
		{damage_phoff, EINVAL, "program headers are outside"},
		{damage_note_name, EINVAL, "without a PVH entry note"},
		{damage_note_type, EINVAL, "without a PVH entry note"},
		{damage_note_length, EINVAL, "longer than its segment"},
		{damage_note_name_length, EINVAL, "longer than its segment"},
		{damage_note_offset, EINVAL, "notes are outside"},
		{damage_note_size, EINVAL, "notes are outside"},
		{damage_segment_offset, EINVAL, "segment is outside the file"},
		{damage_segment_filesz, EINVAL, "segment is outside the file"},
		{damage_segment_order, EINVAL, "segment is outside the file"},
		{damage_segment_memsz, EFBIG, "boot memory for kernels"},
		{damage_segment_low, EFBIG, "boot memory for kernels"},
		{damage_segment_high, EFBIG, "boot memory for kernels"},
		{damage_entry, EINVAL, "entry point is outside"},
		{damage_entry_wide, EINVAL, "entry point is outside"},
	};
	static struct image image;
	struct fixture *fixture = fixture_new(64 * MIB);
	struct boot_cpu_state cpu;
	size_t i, size;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err *err = NULL;
		int ret;

		image_make(&image);
		cases[i].damage(&image);
		ret = boot_run(fixture, &image, sizeof(image), true, "", &cpu, &err);
		assert_refused(ret, cases[i].code, err, "/k/vmlinux", cases[i].part);
	}
	image_make(&image);
	for (size = 4; size < sizeof(image); size += size < 512 ? 7 : 777) {
		struct err *err = NULL;
		int ret = boot_run(fixture, &image, size, true, "", &cpu, &err);

		assert_refused(ret, EINVAL, err, "/k/vmlinux", "broken or cut off");
	}
	fixture_free(fixture);
}

/* Random damage to headers and notes: refused with a sentence, or started inside RAM. */
static void test_damaged(void **state)
{
	static struct image image;
	struct fixture *fixture = fixture_new(64 * MIB);
	unsigned int round, i, loaded = 0, refused = 0;

	(void)state;
	srandom(1);
	for (round = 0; round < 3000; round++) {
		struct boot_cpu_state cpu = {0};
		struct err *err = NULL;

		image_make(&image);
		for (i = 0; i <= round % 4; i++)
			((uint8_t *)&image)[4 + (unsigned int)random() %
							(offsetof(struct image, text) - 4)] =
				(uint8_t)random();
		if (boot_run(fixture, &image, sizeof(image), true, "a", &cpu, &err)) {
			assert_true(strlen(err_message(err)) > 20);
			err_free(err);
			refused++;
			continue;
		}
		assert_null(err);
		assert_true(cpu.entry_gpa >= MIB && cpu.entry_gpa < 64 * MIB);
		loaded++;
	}
	assert_true(loaded > 100 && refused > 100);
	fixture_free(fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_boot),
		cmocka_unit_test(test_no_initrd),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
