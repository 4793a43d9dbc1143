/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SMBIOS: the tables are found and walked as a guest does it (DSP0134, 5.2 and 6.1), by both entry
 * points, and what the structures say is what the machine is.
 */
#include "tests/unit/machine/fixture.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "vmm/machine/boot.h"
#include "vmm/machine/smbios.h"

#define STRUCTURES_MAX 512

struct machine {
	struct vm_config config;
	struct machine_layout *layout;
};

/* What was found in guest memory. */
struct found {
	const uint8_t *structures[STRUCTURES_MAX];
	size_t count, size, longest;
};

static uint64_t get(const uint8_t *at, unsigned int size)
{
	return bytes_get_le(at, size);
}

/* @nr_nodes nodes of @node_bytes, and as much device memory as there may be in @device_bytes. */
static struct machine *machine_new(unsigned int nr_nodes, uint64_t node_bytes,
				   uint64_t device_bytes)
{
	struct machine *machine = calloc(1, sizeof(*machine));
	uint64_t nodes[LAYOUT_NODES_MAX];
	const struct layout_config config = {
		.ram_bytes = nr_nodes * node_bytes,
		.maxmem_bytes = nr_nodes * node_bytes + device_bytes,
		.phys_bits = 46,
		.nr_nodes = nr_nodes,
		.node_bytes = nodes,
	};

	assert_non_null(machine);
	for (unsigned int i = 0; i < nr_nodes; i++)
		nodes[i] = node_bytes;
	assert_int_equal(layout_new(&config, &machine->layout, NULL), 0);
	machine->config.machine.name = "pc-test-1.0";
	machine->config.smp = (struct vm_smp_config){1, 1, 1, 1, 1, 1};
	for (uint8_t i = 0; i < 16; i++)
		machine->config.uuid[i] = (uint8_t)(i * 0x11);
	return machine;
}

static void machine_free(struct machine *machine)
{
	layout_free(machine->layout);
	free(machine);
}

static int machine_build(const struct machine *machine, struct smbios_image *ret_image,
			 struct err **err)
{
	const struct smbios_config config = {&machine->config, machine->layout};

	return smbios_image_build(&config, ret_image, err);
}

static void check_refused(const struct machine *machine, int code, const char *part,
			  const char *other_part)
{
	struct smbios_image image;
	struct err *err = NULL;
	int ret = machine_build(machine, &image, &err);

	assert_refused(ret, code, err, part, other_part);
}

static bool sums_to_zero(const uint8_t *bytes, size_t size)
{
	uint8_t sum = 0;

	while (size--)
		sum = (uint8_t)(sum + *bytes++);
	return !sum;
}

/* The first place of @anchor at a multiple of 16 bytes in the F segment; NULL if there is none. */
static const uint8_t *find_anchor(const uint8_t *ram, const char *anchor)
{
	for (size_t at = 0xF0000; at < 0x100000; at += 16) {
		if (!memcmp(ram + at, anchor, strlen(anchor)))
			return ram + at;
	}
	return NULL;
}

/* Number and texts of the structure at @at, which ends before @end; where the next one starts. */
static const uint8_t *walk_one(struct found *f, const uint8_t *at, const uint8_t *end)
{
	const uint8_t *start = at;

	assert_true(end - at >= 6 && at[1] >= 4 && end - at >= at[1] + 2);
	for (size_t i = 0; i < f->count; i++)
		assert_int_not_equal(get(f->structures[i] + 2, 2), get(at + 2, 2));
	assert_true(f->count < STRUCTURES_MAX);
	f->structures[f->count++] = at;
	at += at[1];
	if (!*at)
		at++;
	for (; *at; at++) {
		at += strnlen((const char *)at, (size_t)(end - at));
		assert_true(end - at >= 2);
	}
	at++;
	if ((size_t)(at - start) > f->longest)
		f->longest = (size_t)(at - start);
	assert_int_equal(smbios_structure_size(start, (size_t)(end - start)), at - start);
	return at;
}

static void walk(struct found *f, const uint8_t *ram, uint64_t gpa, uint64_t size)
{
	const uint8_t *at = ram + gpa, *end = at + size;

	*f = (struct found){.size = size};
	assert_true(gpa >= 0xF0000 && gpa + size <= 0xFF000);
	while (at < end)
		at = walk_one(f, at, end);
	assert_ptr_equal(at, end);
	assert_int_equal(f->structures[f->count - 1][0], 127);
	for (size_t i = 0; i + 1 < f->count; i++)
		assert_int_not_equal(f->structures[i][0], 127);
}

static void find64(struct found *f, const uint8_t *ram)
{
	const uint8_t *entry = find_anchor(ram, "_SM3_");

	assert_non_null(entry);
	assert_int_equal(entry[6], 24);
	assert_true(sums_to_zero(entry, 24));
	assert_int_equal(entry[7], 3);
	assert_int_equal(entry[8], 0);
	assert_int_equal(entry[10], 1);
	walk(f, ram, get(entry + 16, 8), get(entry + 12, 4));
}

static void find32(struct found *f, const uint8_t *ram)
{
	const uint8_t *entry = find_anchor(ram, "_SM_");

	assert_non_null(entry);
	assert_int_equal(entry[5], 31);
	assert_true(sums_to_zero(entry, 31));
	assert_memory_equal(entry + 16, "_DMI_", 5);
	assert_true(sums_to_zero(entry + 16, 15));
	assert_int_equal(entry[6], 2);
	assert_int_equal(entry[7], 8);
	assert_int_equal(entry[0x1E], 0x28);
	walk(f, ram, get(entry + 0x18, 4), get(entry + 0x16, 2));
	assert_int_equal(f->count, get(entry + 0x1C, 2));
	assert_int_equal(f->longest, get(entry + 8, 2));
}

/* Build, write over what was there before, and find it again as the machine's entry points allow. */
static struct fixture *place(const struct machine *machine, struct found *f)
{
	const enum vm_smbios_entry entry = machine->config.smbios.entry;
	struct fixture *fixture = fixture_new(64 * MIB);
	uint8_t *ram = fixture->low;
	struct smbios_image image, again;
	struct found other;

	assert_int_equal(machine_build(machine, &image, NULL), 0);
	assert_int_equal(machine_build(machine, &again, NULL), 0);
	assert_int_equal(image.size, again.size);
	assert_memory_equal(image.bytes, again.bytes, image.size);
	memset(ram + 0xE0000, '_', 0x20000);
	assert_int_equal(smbios_image_write(&image, fixture->gm), 0);
	assert_memory_equal(ram + 0xF0000, image.bytes, image.size);
	for (size_t at = 0xF0000 + image.size; at < 0xFF000; at++)
		assert_int_equal(ram[at], 0);
	assert_int_equal(ram[0xEFFFF], '_');
	assert_int_equal(ram[0xFF000], '_');
	if (entry != VM_SMBIOS_32)
		find64(f, ram);
	else
		assert_null(find_anchor(ram, "_SM3_"));
	if (entry != VM_SMBIOS_64)
		find32(entry == VM_SMBIOS_32 ? f : &other, ram);
	else
		assert_null(find_anchor(ram, "_SM_"));
	if (entry == VM_SMBIOS_AUTO)
		assert_memory_equal(f, &other, offsetof(struct found, longest));
	smbios_image_done(&image);
	smbios_image_done(&again);
	return fixture;
}

/* The @nth structure of @type; NULL when there is none. */
static const uint8_t *structure(const struct found *f, uint8_t type, size_t nth)
{
	for (size_t i = 0; i < f->count; i++) {
		if (f->structures[i][0] == type && !nth--)
			return f->structures[i];
	}
	return NULL;
}

static size_t count(const struct found *f, uint8_t type)
{
	size_t nr = 0;

	while (structure(f, type, nr))
		nr++;
	return nr;
}

/* The text whose number is at @offset of structure @s; "" for none. */
static const char *text(const uint8_t *s, size_t offset)
{
	const char *at = (const char *)s + s[1];

	assert_true(offset < s[1]);
	if (!s[offset])
		return "";
	for (uint8_t i = 1; i < s[offset]; i++) {
		assert_true(*at);
		at += strlen(at) + 1;
	}
	assert_true(*at);
	return at;
}

/* Without any option: what is always there, and nothing else. */
static void test_defaults(void **state)
{
	static const uint8_t uuid[] = {0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66,
				       0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF};
	static const uint8_t types[] = {1, 3, 4, 16, 17, 19, 32, 127};
	struct machine *machine = machine_new(1, GIB, 0);
	const uint8_t *s;
	struct fixture *fixture;
	struct found f;

	(void)state;
	fixture = place(machine, &f);
	assert_int_equal(f.count, ARRAY_SIZE(types));
	for (size_t i = 0; i < f.count; i++)
		assert_int_equal(f.structures[i][0], types[i]);
	s = structure(&f, 1, 0);
	assert_int_equal(s[1], 0x1B);
	assert_string_equal(text(s, 4), "Ebb");
	assert_string_equal(text(s, 5), "pc-test-1.0");
	assert_memory_equal(s + 8, uuid, sizeof(uuid));
	for (size_t at = 6; at <= 7; at++)
		assert_string_equal(text(s, at), "");
	assert_string_equal(text(structure(&f, 3, 0), 4), "Ebb");
	assert_string_equal(text(structure(&f, 4, 0), 4), "CPU 0");
	assert_string_equal(text(structure(&f, 17, 0), 0x10), "DIMM 0");
	fixture_free(fixture);
	machine_free(machine);
}

static char *const oem[] = {"one", "two, and more", "three\n"};

static void give(struct vm_smbios_config *smbios)
{
	*smbios = (struct vm_smbios_config){
		.given = 1 << 0 | 1 << 2,
		.bios = {.vendor = "FV",
			 .version = "F1",
			 .date = "01/02/2003",
			 .has_release = true,
			 .release_major = 4,
			 .release_minor = 5,
			 .uefi = true},
		.system = {"SM", "SP", "SV", "SS", "SK", "SF"},
		.board = {"BM", "BP", "BV", "BS", "BA", "BL"},
		.chassis = {"CM", "CV", "CS", "CA", "CK"},
		.processor = {"socket", "PM", "PV", "PS", "PA", "PP", 3000, 2000,
			      0x1122334455667788},
		.memory = {"stick", "MB", "MM", "MS", "MA", "MP", 3200},
		.oem = (char **)oem,
		.nr_oem = ARRAY_SIZE(oem),
	};
}

static void check_texts(const struct found *f, uint8_t type, size_t nth, const char *offsets,
			const char *const *texts)
{
	const uint8_t *s = structure(f, type, nth);

	assert_non_null(s);
	for (; *offsets; offsets++, texts++)
		assert_string_equal(text(s, (uint8_t)*offsets), *texts);
}

#define TEXTS(...)            \
	(const char *const[]) \
	{                     \
		__VA_ARGS__   \
	}

/* With all options: each text where it belongs. */
static void test_all_given(void **state)
{
	struct machine *machine = machine_new(1, GIB, 0);
	struct fixture *fixture;
	const uint8_t *s;
	struct found f;

	(void)state;
	give(&machine->config.smbios);
	fixture = place(machine, &f);
	assert_int_equal(f.count, 11);
	check_texts(&f, 0, 0, "\x04\x05\x08", TEXTS("FV", "F1", "01/02/2003"));
	s = structure(&f, 0, 0);
	assert_int_equal(s[1], 0x18);
	assert_int_equal(s[0x13], 0x1C); /* a virtual machine, UEFI */
	assert_memory_equal(s + 0x14, "\x04\x05\xFF\xFF", 4);
	check_texts(&f, 1, 0, "\x04\x05\x06\x07\x19\x1A",
		    TEXTS("SM", "SP", "SV", "SS", "SK", "SF"));
	check_texts(&f, 2, 0, "\x04\x05\x06\x07\x08\x0A",
		    TEXTS("BM", "BP", "BV", "BS", "BA", "BL"));
	s = structure(&f, 2, 0);
	assert_int_equal(get(s + 0x0B, 2), get(structure(&f, 3, 0) + 2, 2));
	check_texts(&f, 3, 0, "\x04\x06\x07\x08\x15", TEXTS("CM", "CV", "CS", "CA", "CK"));
	check_texts(&f, 4, 0, "\x04\x07\x10\x20\x21\x22",
		    TEXTS("socket 0", "PM", "PV", "PS", "PA", "PP"));
	s = structure(&f, 4, 0);
	assert_int_equal(get(s + 8, 8), 0x1122334455667788);
	assert_int_equal(get(s + 0x14, 2), 3000);
	assert_int_equal(get(s + 0x16, 2), 2000);
	check_texts(&f, 17, 0, "\x10\x11\x17\x18\x19\x1A",
		    TEXTS("stick 0", "MB", "MM", "MS", "MA", "MP"));
	assert_int_equal(get(structure(&f, 17, 0) + 0x15, 2), 3200);
	s = structure(&f, 11, 0);
	assert_int_equal(s[4], ARRAY_SIZE(oem));
	assert_memory_equal(s + 5, "one\0two, and more\0three\n\0", 26);
	fixture_free(fixture);
	machine_free(machine);
}

/* "" is none, also in the place of what the machine has by itself. */
static void test_empty(void **state)
{
	struct machine *machine = machine_new(1, GIB, 0);
	struct fixture *fixture;
	struct found f;

	(void)state;
	machine->config.smbios.given = 1 << 1 | 1 << 2;
	machine->config.smbios.system = (struct vm_smbios_system){
		.manufacturer = (char *)"", .product = (char *)"", .serial = (char *)"S"};
	fixture = place(machine, &f);
	check_texts(&f, 1, 0, "\x04\x05\x07", TEXTS("", "", "S"));
	assert_int_equal(structure(&f, 1, 0)[7], 1);
	check_texts(&f, 2, 0, "\x04\x05\x06\x0A", TEXTS("Ebb", "pc-test-1.0", "", ""));
	fixture_free(fixture);
	machine_free(machine);
}

static void test_entry_points(void **state)
{
	struct machine *machine = machine_new(1, GIB, 0);
	struct found f;

	(void)state;
	for (unsigned int i = VM_SMBIOS_AUTO; i <= VM_SMBIOS_64; i++) {
		machine->config.smbios.entry = (enum vm_smbios_entry)i;
		fixture_free(place(machine, &f));
	}
	machine_free(machine);
}

/* One structure a socket; sockets fill up in the order of CPUs. */
static void test_processors(void **state)
{
	static const struct {
		struct vm_smp_config smp;
		struct {
			uint8_t status, cores, enabled, threads;
		} sockets[4];
	} cases[] = {
		{{1, 1, 1, 1, 1, 1}, {{0x41, 1, 1, 1}}},
		{{8, 8, 1, 1, 4, 2}, {{0x41, 4, 4, 8}}},
		{{8, 8, 2, 2, 1, 2}, {{0x41, 2, 2, 4}, {0x41, 2, 2, 4}}},
		{{5, 12, 3, 1, 2, 2}, {{0x41, 2, 2, 4}, {0x41, 2, 1, 4}, {0, 2, 0, 4}}},
		{{64, 64, 4, 1, 16, 1},
		 {{0x41, 16, 16, 16}, {0x41, 16, 16, 16}, {0x41, 16, 16, 16}, {0x41, 16, 16, 16}}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct machine *machine = machine_new(1, GIB, 0);
		struct fixture *fixture;
		struct found f;

		machine->config.smp = cases[i].smp;
		fixture = place(machine, &f);
		assert_int_equal(count(&f, 4), cases[i].smp.sockets);
		for (size_t j = 0; j < cases[i].smp.sockets; j++) {
			const uint8_t *s = structure(&f, 4, j);

			assert_int_equal(s[1], 0x30);
			assert_int_equal(s[0x18], cases[i].sockets[j].status);
			assert_int_equal(s[0x23], cases[i].sockets[j].cores);
			assert_int_equal(s[0x24], cases[i].sockets[j].enabled);
			assert_int_equal(s[0x25], cases[i].sockets[j].threads);
			assert_int_equal(get(s + 0x2A, 2), cases[i].sockets[j].cores);
			assert_int_equal(get(s + 0x2E, 2), cases[i].sockets[j].threads);
		}
		fixture_free(fixture);
		machine_free(machine);
	}
}

/* What the array may hold, in bytes, by its short or its long field. */
static uint64_t array_bytes(const uint8_t *s)
{
	assert_int_equal(s[1], 0x17);
	if (get(s + 7, 4) == 0x80000000)
		return get(s + 0x0F, 8);
	assert_int_equal(get(s + 0x0F, 8), 0);
	return get(s + 7, 4) * KIB;
}

static uint64_t memory_mib(const uint8_t *s)
{
	assert_int_equal(s[1], 0x28);
	if (get(s + 0x0C, 2) == 0x7FFF)
		return get(s + 0x1C, 4);
	assert_int_equal(get(s + 0x1C, 4), 0);
	return get(s + 0x0C, 2);
}

static struct range memory_range(const uint8_t *s)
{
	uint64_t start, last;

	assert_int_equal(s[1], 0x1F);
	if (get(s + 4, 4) == 0xFFFFFFFF) {
		start = get(s + 0x0F, 8);
		last = get(s + 0x17, 8);
	} else {
		start = get(s + 4, 4) * KIB;
		last = get(s + 8, 4) * KIB + KIB - 1;
	}
	return (struct range){start, last + 1 - start};
}

/* Boot memory by nodes and by addresses, and all that there may be, on both sides of each limit. */
static void test_memory(void **state)
{
	static const struct {
		unsigned int nr_nodes;
		uint64_t node_bytes, device_bytes;
	} cases[] = {
		{1, 64 * MIB, 0},
		{1, 2 * MIB + 4096, 0},
		{1, 3 * GIB, 0},
		{2, 2 * GIB, 12 * GIB},
		{1, 32 * GIB - MIB, 0},
		{1, 32 * GIB - 2 * MIB, 0},
		{1, 32 * GIB, 2016 * GIB},
		{1, GIB, 2047 * GIB - 1 * GIB},
		{1, GIB, 2047 * GIB},
		{4, 256 * GIB, 0},
		{1, 5 * 1024 * GIB, 0},
		{64, GIB, 64 * GIB},
		{3, 100 * MIB + 4096, GIB},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const uint64_t ram = cases[i].nr_nodes * cases[i].node_bytes;
		struct machine *machine =
			machine_new(cases[i].nr_nodes, cases[i].node_bytes, cases[i].device_bytes);
		uint64_t in_ranges = 0;
		struct fixture *fixture;
		const uint8_t *array;
		struct found f;

		fixture = place(machine, &f);
		array = structure(&f, 16, 0);
		assert_int_equal(array_bytes(array), ram + cases[i].device_bytes);
		assert_int_equal(get(array + 0x0D, 2), cases[i].nr_nodes);
		assert_int_equal(count(&f, 17), cases[i].nr_nodes);
		for (size_t n = 0; n < cases[i].nr_nodes; n++) {
			const uint8_t *s = structure(&f, 17, n);

			assert_int_equal(memory_mib(s), (cases[i].node_bytes + MIB - 1) / MIB);
			assert_int_equal(get(s + 4, 2), get(array + 2, 2));
		}
		assert_int_equal(count(&f, 19), machine->layout->high_ram.size ? 2 : 1);
		for (size_t n = 0; n < count(&f, 19); n++) {
			const struct range should =
				n ? machine->layout->high_ram : machine->layout->low_ram;
			const struct range is = memory_range(structure(&f, 19, n));

			assert_int_equal(is.start, should.start);
			assert_int_equal(is.size, should.size);
			in_ranges += is.size;
		}
		assert_int_equal(in_ranges, ram);
		fixture_free(fixture);
		machine_free(machine);
	}
}

/* A file's structures take the place of the machine's own of their type; others are just there. */
static void test_files(void **state)
{
	static const uint8_t system[] = {1, 8, 0x77, 0x01, 0, 0, 0, 1, 'm', 'i', 'n', 'e', 0, 0};
	static const uint8_t own[] = {200, 4, 0x78, 0x01, 0, 0};
	struct vm_smbios_file files[] = {
		{(char *)"a", (uint8_t *)system, sizeof(system)},
		{(char *)"b", (uint8_t *)own, sizeof(own)},
	};
	struct machine *machine = machine_new(1, GIB, 0);
	struct fixture *fixture;
	struct found f;

	(void)state;
	machine->config.smbios.files = files;
	machine->config.smbios.nr_files = ARRAY_SIZE(files);
	fixture = place(machine, &f);
	assert_int_equal(f.count, 9);
	assert_int_equal(count(&f, 1), 1);
	assert_string_equal(text(structure(&f, 1, 0), 7), "mine");
	assert_memory_equal(structure(&f, 200, 0), own, sizeof(own));
	fixture_free(fixture);

	/* Twice the same; that of the chassis; that of the end. */
	files[1] = files[0];
	check_refused(machine, EEXIST, "file=a", "handle 0x0177 is another structure's");
	for (unsigned int i = 0; i < 2; i++) {
		const uint8_t taken[] = {201, 4, 0x00, i ? 0x7F : 0x03, 0, 0};

		files[1] = (struct vm_smbios_file){(char *)"c", (uint8_t *)taken, sizeof(taken)};
		check_refused(machine, EEXIST, "file=c", i ? "handle 0x7f00" : "handle 0x0300");
	}
	machine_free(machine);
}

/* The most that there is room for, and one byte more. */
static void test_room(void **state)
{
	struct machine *machine = machine_new(64, GIB, 0);
	struct vm_smbios_config *smbios = &machine->config.smbios;
	const size_t room = BOOT_SMBIOS_SIZE - SMBIOS_STRUCTURES;
	char *text = calloc(1, BOOT_SMBIOS_SIZE);
	struct fixture *fixture;
	struct found f;

	(void)state;
	assert_non_null(text);
	machine->config.smp = (struct vm_smp_config){64, 64, 64, 1, 1, 1};
	smbios->oem = &text;
	smbios->nr_oem = 1;
	text[0] = 'x';
	fixture = place(machine, &f);
	memset(text, 'x', room - f.size + 1);
	fixture_free(fixture);
	fixture = place(machine, &f);
	assert_int_equal(f.size, room);
	fixture_free(fixture);
	text[room - f.size + strlen(text)] = 'x';
	check_refused(machine, EFBIG, "-smbios", "61377 bytes, and there is room for 61376");
	free(text);
	machine_free(machine);
}

static void test_structure_size(void **state)
{
	static const struct {
		uint8_t bytes[12];
		size_t size, whole;
	} cases[] = {
		{{1, 4, 0, 0, 0, 0}, 6, 6},       {{1, 4, 0, 0, 0, 0, 9, 9}, 8, 6},
		{{1, 4, 0, 0, 'a', 0, 0}, 7, 7},  {{1, 4, 0, 0, 'a', 0, 'b', 0, 0}, 9, 9},
		{{1, 6, 0, 0, 0, 0, 0, 0}, 8, 8}, {{1, 4, 0, 0, 0}, 5, 0},
		{{1, 4, 0, 0, 'a', 0}, 6, 0},     {{1, 4, 0}, 3, 0},
		{{1, 3, 0, 0, 0, 0}, 6, 0},       {{1, 6, 0, 0, 0, 0}, 6, 0},
		{{1, 255, 0, 0, 0, 0}, 6, 0},     {{0}, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		/* Exactly as large, so that a look beyond it is seen. */
		uint8_t *bytes = malloc(cases[i].size ? cases[i].size : 1);

		assert_non_null(bytes);
		memcpy(bytes, cases[i].bytes, cases[i].size);
		assert_int_equal(smbios_structure_size(bytes, cases[i].size), cases[i].whole);
		free(bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),       cmocka_unit_test(test_all_given),
		cmocka_unit_test(test_empty),          cmocka_unit_test(test_entry_points),
		cmocka_unit_test(test_processors),     cmocka_unit_test(test_memory),
		cmocka_unit_test(test_files),          cmocka_unit_test(test_room),
		cmocka_unit_test(test_structure_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
