/* SPDX-License-Identifier: BSD-3-Clause */
/* Loading a bzImage: what the guest finds, the same at each reset, and hostile files refused. */
#include "tests/unit/machine/fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <asm/bootparam.h>

#include "base/bytes.h"
#include "vmm/machine/boot.h"

#define SETUP_SECTS   3
#define KERNEL_OFFSET ((SETUP_SECTS + 1) * 512)
#define KERNEL_SIZE   (64 * 1024)
#define IMAGE_SIZE    (KERNEL_OFFSET + KERNEL_SIZE)
#define PREF_ADDRESS  0x1000000
#define INIT_SIZE     (8 * MIB)
#define ZERO_PAGE     0x7000
#define RSDP          0xE0000

struct image {
	uint8_t bytes[IMAGE_SIZE];
};

static struct setup_header *image_header(struct image *image)
{
	return (struct setup_header *)(image->bytes + 0x1F1);
}

/* A bzImage as Linux 6.x makes them, with recognisable bytes for a kernel. */
static void image_make(struct image *image)
{
	struct setup_header *hdr = image_header(image);
	size_t i;

	memset(image, 0xEE, sizeof(*image));
	*hdr = (struct setup_header){
		.setup_sects = SETUP_SECTS,
		.syssize = KERNEL_SIZE / 16,
		.boot_flag = 0xAA55,
		.jump = 0x6AEB, /* over the header, to 0x26C */
		.header = 0x53726448,
		.version = 0x020F,
		.loadflags = LOADED_HIGH,
		.initrd_addr_max = 0x7FFFFFFF,
		.kernel_alignment = 0x200000,
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64 | XLF_CAN_BE_LOADED_ABOVE_4G,
		.cmdline_size = 2047,
		.pref_address = PREF_ADDRESS,
		.init_size = INIT_SIZE,
		.setup_data = 0x1234,
	};
	for (i = 0; i < KERNEL_SIZE; i++)
		image->bytes[KERNEL_OFFSET + i] = (uint8_t)(i * 7 >> 3);
}

/* What boot_load() is called with; files are closed by boot_run(). */
static int boot_run(struct fixture *fixture, const struct image *image, size_t image_size,
		    const uint8_t *initrd, size_t initrd_size, const char *cmdline,
		    struct boot_cpu_state *ret_state, struct err **err)
{
	struct boot_config config = {
		.layout = fixture->layout,
		.kernel_fd = file_new(image, image_size),
		.initrd_fd = initrd ? file_new(initrd, initrd_size) : -1,
		.kernel_path = "/k/vmlinuz",
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

static void read_params(const struct fixture *fixture, struct boot_params *params)
{
	assert_int_equal(gm_read(fixture->gm, ZERO_PAGE, params, sizeof(*params)), 0);
}

static void check_kernel_at(const struct fixture *fixture, const struct image *image, uint64_t gpa)
{
	static uint8_t bytes[KERNEL_SIZE];

	assert_int_equal(gm_read(fixture->gm, gpa, bytes, sizeof(bytes)), 0);
	assert_memory_equal(bytes, image->bytes + KERNEL_OFFSET, sizeof(bytes));
}

/* Ascending, apart, RAM wholly in RAM and free of what is reserved. */
static void check_e820(const struct fixture *fixture, const struct boot_params *params)
{
	uint64_t ram = 0, end = 0;
	unsigned int i;
	bool acpi = false, ecam = false;

	assert_true(params->e820_entries >= 5);
	for (i = 0; i < params->e820_entries; i++) {
		const struct boot_e820_entry *entry = &params->e820_table[i];
		struct range gpa = {entry->addr, entry->size};

		assert_true(gpa.size && gpa.start >= end);
		end = range_end(gpa);
		if (entry->type == 1) {
			ram += gpa.size;
			assert_true(range_contains(fixture->layout->low_ram, gpa) ||
				    range_contains(fixture->layout->high_ram, gpa));
			assert_false(range_overlaps(gpa, (struct range){0xA0000, 0x60000}));
			continue;
		}
		assert_int_equal(entry->type, 2);
		acpi = acpi || range_contains(gpa, (struct range){0xE0000, 0x20000});
		ecam = ecam || range_contains(gpa, fixture->layout->ecam);
	}
	assert_true(acpi && ecam);
	/* All but the 384 KiB below 1 MiB and the EBDA's 1 KiB. */
	assert_int_equal(ram, fixture->layout->ram_bytes - 385 * KIB);
}

/* The page tables, walked by hand, map @gpa to itself. */
static void check_mapped(const struct fixture *fixture, uint64_t pml4, uint64_t gpa)
{
	uint64_t entry = fixture_read(fixture, pml4 + (gpa >> 39 & 511) * 8, 8);

	assert_int_equal(entry & 0x83, 3);
	entry = fixture_read(fixture, (entry & ~UINT64_C(0xFFF)) + (gpa >> 30 & 511) * 8, 8);
	assert_int_equal(entry & 0x83, 3);
	entry = fixture_read(fixture, (entry & ~UINT64_C(0xFFF)) + (gpa >> 21 & 511) * 8, 8);
	assert_int_equal(entry & 0x83, 0x83);
	assert_int_equal(entry & ~UINT64_C(0xFFF), gpa & ~UINT64_C(0x1FFFFF));
}

static void test_boot(void **state)
{
	static struct image image;
	uint8_t initrd[10000];
	struct fixture *fixture = fixture_new(5 * GIB);
	struct boot_cpu_state cpu;
	struct boot_params params;
	char text[32] = {0};
	uint64_t at;

	(void)state;
	image_make(&image);
	memset(initrd, 0x5A, sizeof(initrd));
	assert_int_equal(boot_run(fixture, &image, sizeof(image), initrd, sizeof(initrd),
				  "console=ttyS0", &cpu, NULL),
			 0);
	assert_true(cpu.long_mode);
	assert_int_equal(cpu.entry_gpa, PREF_ADDRESS + 0x200);
	assert_int_equal(cpu.info_gpa, ZERO_PAGE);
	check_kernel_at(fixture, &image, PREF_ADDRESS);

	read_params(fixture, &params);
	assert_int_equal(params.hdr.type_of_loader, 0xFF);
	assert_int_equal(params.hdr.setup_data, 0);
	assert_int_equal(params.hdr.init_size, INIT_SIZE);
	assert_int_equal(params.sentinel, 0);
	assert_int_equal(params.acpi_rsdp_addr, RSDP);
	assert_int_equal(params.hdr.cmd_line_ptr, 0x20000);
	/* Nothing of the file's real-mode part that is not header. */
	for (at = 0x26C; at < 0x2D0; at++)
		assert_int_equal(((uint8_t *)&params)[at], 0);
	check_e820(fixture, &params);
	assert_int_equal(gm_read(fixture->gm, 0x20000, text, sizeof(text)), 0);
	assert_string_equal(text, "console=ttyS0");

	assert_int_equal(params.ext_ramdisk_image, 0);
	assert_int_equal(params.hdr.ramdisk_size, sizeof(initrd));
	/* As high as the header's limit, 2 GiB, allows. */
	assert_int_equal(params.hdr.ramdisk_image, 2 * GIB - 3 * 4096);
	for (at = 0; at < sizeof(initrd); at += 999)
		assert_int_equal(fixture_read(fixture, params.hdr.ramdisk_image + at, 1), 0x5A);

	check_mapped(fixture, cpu.pml4_gpa, 0);
	check_mapped(fixture, cpu.pml4_gpa, PREF_ADDRESS);
	check_mapped(fixture, cpu.pml4_gpa, 4 * GIB - 1);
	fixture_free(fixture);
}

static void test_cpu_state(void **state)
{
	const struct boot_cpu_state cpu = {true, 0x1000200, 0x7000, 0x9000, 0x1000, 0x9000};
	const struct boot_cpu_state pvh = {false, 0x1000400, 0x2000, 0x9000, 0x1000, 0};
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	(void)state;
	memset(&sregs, 0xFF, sizeof(sregs));
	sregs.apic_base = 0xFEE00900;
	boot_cpu_apply(&cpu, &regs, &sregs);
	assert_int_equal(regs.rip, 0x1000200);
	assert_int_equal(regs.rsi, 0x7000);
	assert_int_equal(regs.rbx, 0);
	assert_int_equal(regs.rflags, 2);
	assert_int_equal(sregs.cs.selector, 0x10);
	assert_int_equal(sregs.cs.l, 1);
	assert_int_equal(sregs.cs.db, 0);
	assert_int_equal(sregs.ds.selector, 0x18);
	assert_int_equal(sregs.ss.limit, 0xFFFFFFFF);
	assert_int_equal(sregs.tr.type, 11);
	assert_int_equal(sregs.tr.s, 0);
	assert_int_equal(sregs.cr0, 0x80000031);
	assert_int_equal(sregs.cr3, 0x9000);
	assert_int_equal(sregs.cr4, 0x20);
	assert_int_equal(sregs.efer, 0x500);
	assert_int_equal(sregs.idt.limit, 0);
	assert_int_equal(sregs.apic_base, 0xFEE00900);

	boot_cpu_apply(&pvh, &regs, &sregs);
	assert_int_equal(regs.rbx, 0x2000);
	assert_int_equal(regs.rsi, 0);
	assert_int_equal(sregs.cs.l, 0);
	assert_int_equal(sregs.cs.db, 1);
	assert_int_equal(sregs.cs.limit, 0xFFFFFFFF);
	assert_int_equal(sregs.cs.base, 0);
	assert_int_equal(sregs.cr0, 0x11);
	assert_int_equal(sregs.cr4, 0);
	assert_int_equal(sregs.efer, 0);
}

/* A reset loads over what the guest left behind and gives the same start. */
static void test_again(void **state)
{
	/* mov dx, 0xCF9; mov al, 6; out dx, al; hlt; jmp to the hlt */
	static const uint8_t reset_vector[] = {0xBA, 0xF9, 0x0C, 0xB0, 0x06,
					       0xEE, 0xF4, 0xEB, 0xFD};
	static struct image image;
	static uint8_t first[0x100000], second[0x100000];
	static uint8_t initrd[5000];
	struct fixture *fixture = fixture_new(64 * MIB);
	struct boot_cpu_state cpu, cpu2;

	(void)state;
	image_make(&image);
	assert_int_equal(boot_run(fixture, &image, sizeof(image), initrd, sizeof(initrd), "quiet",
				  &cpu, NULL),
			 0);
	assert_int_equal(gm_read(fixture->gm, 0, first, 0xA0000), 0);
	memset(fixture->low, 0xA5, 64 * MIB);
	assert_int_equal(boot_run(fixture, &image, sizeof(image), initrd, sizeof(initrd), "quiet",
				  &cpu2, NULL),
			 0);
	assert_int_equal(gm_read(fixture->gm, 0, second, 0xA0000), 0);
	assert_memory_equal(&cpu, &cpu2, sizeof(cpu));
	assert_memory_equal(first + 0x7000, second + 0x7000, 0x1000);
	assert_memory_equal(first + 0x9000, second + 0x9000, 0x6000); /* page tables */
	assert_memory_equal(first + 0x1000, second + 0x1000, 40);
	assert_string_equal((char *)second + 0x20000, "quiet");
	assert_memory_equal((char *)fixture->low + 0xFFFF0, reset_vector, sizeof(reset_vector));
	check_kernel_at(fixture, &image, PREF_ADDRESS);
	fixture_free(fixture);
}

static void test_placement(void **state)
{
	static struct image image;
	static uint8_t initrd[3 * 4096];
	struct fixture *fixture = fixture_new(16 * MIB);
	struct boot_cpu_state cpu;
	struct boot_params params;
	struct err *err = NULL;
	uint64_t at;
	int ret;

	(void)state;
	/* The preferred address is beyond RAM: the lowest aligned one. */
	image_make(&image);
	assert_int_equal(
		boot_run(fixture, &image, sizeof(image), initrd, sizeof(initrd), "", &cpu, NULL),
		0);
	assert_int_equal(cpu.entry_gpa, 0x200200);
	read_params(fixture, &params);
	assert_int_equal(params.hdr.code32_start, 0x200000);
	assert_int_equal(params.hdr.ramdisk_image, 16 * MIB - sizeof(initrd));

	/* A kernel up to the end of RAM leaves room only below it. */
	image_header(&image)->init_size = 14 * MIB;
	assert_int_equal(
		boot_run(fixture, &image, sizeof(image), initrd, sizeof(initrd), "", &cpu, NULL),
		0);
	read_params(fixture, &params);
	assert_int_equal(params.hdr.ramdisk_image, 2 * MIB - sizeof(initrd));

	image_header(&image)->init_size = 14 * MIB + 1;
	ret = boot_run(fixture, &image, sizeof(image), NULL, 0, "", &cpu, &err);
	assert_refused(ret, EFBIG, err, "/k/vmlinuz", "16 MiB of boot memory");
	image_make(&image);
	image_header(&image)->relocatable_kernel = 0;
	err = NULL;
	ret = boot_run(fixture, &image, sizeof(image), NULL, 0, "", &cpu, &err);
	assert_refused(ret, EFBIG, err, "/k/vmlinuz", "address of its own");
	fixture_free(fixture);

	/* No room below 4 GiB: above it, if the kernel says that it may. */
	fixture = fixture_new(4 * GIB);
	image_make(&image);
	image_header(&image)->pref_address = 0x100000;
	image_header(&image)->init_size = (uint32_t)(3 * GIB - MIB);
	assert_int_equal(
		boot_run(fixture, &image, sizeof(image), initrd, sizeof(initrd), "", &cpu, NULL),
		0);
	read_params(fixture, &params);
	at = params.hdr.ramdisk_image | (uint64_t)params.ext_ramdisk_image << 32;
	assert_int_equal(at, 5 * GIB - sizeof(initrd));
	image_header(&image)->xloadflags = XLF_KERNEL_64;
	err = NULL;
	ret = boot_run(fixture, &image, sizeof(image), initrd, sizeof(initrd), "", &cpu, &err);
	assert_refused(ret, EFBIG, err, "/k/initrd", "does not fit");
	fixture_free(fixture);
}

static void test_command_line(void **state)
{
	static struct image image;
	static char line[70000];
	struct fixture *fixture = fixture_new(64 * MIB);
	struct boot_cpu_state cpu;
	struct err *err = NULL;
	int ret;

	(void)state;
	image_make(&image);
	memset(line, 'x', 2047);
	assert_int_equal(boot_run(fixture, &image, sizeof(image), NULL, 0, line, &cpu, NULL), 0);
	line[2047] = 'x';
	ret = boot_run(fixture, &image, sizeof(image), NULL, 0, line, &cpu, &err);
	assert_refused(ret, EINVAL, err, "-append", "at most 2047");
	/* A header may promise more than there is room for. */
	image_header(&image)->cmdline_size = UINT32_MAX;
	memset(line, 'x', 66000);
	err = NULL;
	ret = boot_run(fixture, &image, sizeof(image), NULL, 0, line, &cpu, &err);
	assert_refused(ret, EINVAL, err, "-append", "at most 65535");
	fixture_free(fixture);
}

static void test_refused(void **state)
{
	static const struct {
		unsigned int offset, size;
		uint64_t value;
		const char *part;
	} cases[] = {
		{0x1FE, 2, 0, "neither a Linux bzImage nor an ELF"},
		{0x202, 4, 0x12345678, "neither a Linux bzImage nor an ELF"},
		{0x206, 2, 0x020B, "2.12"},
		{0x201, 1, 0x20, "2.12"},
		{0x211, 1, 0, "64-bit entry"},
		{0x236, 2, 0, "64-bit entry"},
		{0x1F4, 4, 0, "names no kernel"},
		{0x1F4, 4, 0x20, "names no kernel"},
		{0x1F4, 4, KERNEL_SIZE / 16 + 1, "cut off"},
		{0x1F4, 4, UINT32_MAX, "cut off"},
		{0x1F1, 1, 255, "cut off"},
		{0x260, 4, UINT32_MAX, "does not fit"},
	};
	static struct image image;
	struct fixture *fixture = fixture_new(64 * MIB);
	struct boot_cpu_state cpu;
	struct err *err = NULL;
	size_t i;
	int ret;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		image_make(&image);
		bytes_put_le(image.bytes + cases[i].offset, cases[i].size, cases[i].value);
		err = NULL;
		ret = boot_run(fixture, &image, sizeof(image), NULL, 0, "", &cpu, &err);
		assert_refused(ret, strstr(cases[i].part, "fit") ? EFBIG : EINVAL, err,
			       "/k/vmlinuz", cases[i].part);
	}
	/* An address that cannot be used is only a preference; an alignment is needed then. */
	image_make(&image);
	image_header(&image)->pref_address = UINT64_MAX - 4095;
	assert_int_equal(boot_run(fixture, &image, sizeof(image), NULL, 0, "", &cpu, NULL), 0);
	assert_int_equal(cpu.entry_gpa, 0x200200);
	image_header(&image)->kernel_alignment = 0x30000;
	err = NULL;
	ret = boot_run(fixture, &image, sizeof(image), NULL, 0, "", &cpu, &err);
	assert_refused(ret, EINVAL, err, "/k/vmlinuz", "power of two");
	fixture_free(fixture);
}

static void test_cut_files(void **state)
{
	static struct image image;
	struct fixture *fixture = fixture_new(64 * MIB);
	struct boot_config config = {.layout = fixture->layout, .initrd_fd = -1};
	struct boot_cpu_state cpu;
	struct err *err = NULL;
	int ret, fds[2];
	size_t size;

	(void)state;
	image_make(&image);
	for (size = 0; size < IMAGE_SIZE; size += size < 1024 ? 17 : 4099) {
		err = NULL;
		ret = boot_run(fixture, &image, size, NULL, 0, "", &cpu, &err);
		assert_refused(ret, EINVAL, err, "/k/vmlinuz", "");
	}
	err = NULL;
	ret = boot_run(fixture, &image, IMAGE_SIZE, image.bytes, 0, "", &cpu, &err);
	assert_refused(ret, EINVAL, err, "/k/initrd", "empty");

	assert_int_equal(pipe(fds), 0);
	config.kernel_fd = fds[0];
	config.kernel_path = "/k/pipe";
	err = NULL;
	ret = boot_load(fixture->gm, &config, &cpu, &err);
	assert_refused(ret, EINVAL, err, "/k/pipe", "regular file");
	close(fds[0]);
	close(fds[1]);
	err = NULL;
	ret = boot_load(fixture->gm, &config, &cpu, &err);
	assert_refused(ret, EBADF, err, "/k/pipe", "");
	fixture_free(fixture);
}

/* Random damage to the header: refused with a sentence, or loaded inside RAM. */
static void test_damaged(void **state)
{
	static struct image image;
	static uint8_t initrd[4096];
	struct fixture *fixture = fixture_new(64 * MIB);
	unsigned int round, loaded = 0, refused = 0;

	(void)state;
	srandom(1);
	for (round = 0; round < 3000; round++) {
		struct boot_cpu_state cpu = {0};
		struct boot_params params;
		struct err *err = NULL;
		struct range rd, kernel;
		unsigned int i, hits = 1 + (unsigned int)random() % 4;

		image_make(&image);
		for (i = 0; i < hits; i++)
			image.bytes[0x1F1 + (unsigned int)random() % 0x7B] = (uint8_t)random();
		if (boot_run(fixture, &image, sizeof(image), initrd, sizeof(initrd), "a b c", &cpu,
			     &err)) {
			assert_true(strlen(err_message(err)) > 20);
			assert_int_equal(cpu.entry_gpa, 0);
			err_free(err);
			refused++;
			continue;
		}
		assert_null(err);
		read_params(fixture, &params);
		rd = (struct range){params.hdr.ramdisk_image, params.hdr.ramdisk_size};
		kernel =
			(struct range){cpu.entry_gpa - 0x200, num_max(params.hdr.init_size, 0x201)};
		assert_true(kernel.start >= MIB && rd.start >= MIB);
		assert_true(range_contains(fixture->layout->low_ram, kernel));
		assert_true(range_contains(fixture->layout->low_ram, rd));
		assert_false(range_overlaps(kernel, rd));
		loaded++;
	}
	assert_true(loaded > 100 && refused > 100);
	fixture_free(fixture);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_boot),         cmocka_unit_test(test_cpu_state),
		cmocka_unit_test(test_again),        cmocka_unit_test(test_placement),
		cmocka_unit_test(test_command_line), cmocka_unit_test(test_refused),
		cmocka_unit_test(test_cut_files),    cmocka_unit_test(test_damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
