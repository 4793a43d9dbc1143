/* SPDX-License-Identifier: BSD-3-Clause */
/* The sizes of memory slots: the defaults, many devices, and what a person asks too much of. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/vm/memslots.h"

#define OFFERED 32764
#define LEFT    (OFFERED - OFFERED / 4) /* after the reserve */

static void test_defaults(void **state)
{
	static const struct {
		uint64_t size, block, given, want;
	} rows[] = {
		{8 * GIB, 2 * MIB, 0, 256 * MIB},
		{2 * MIB, 2 * MIB, 0, 256 * MIB},
		{8 * GIB, 4096, 0, 2 * MIB},
		{8 * GIB, 64 * KIB, 0, 32 * MIB},
		{8 * GIB, 512 * KIB, 0, 256 * MIB},
		{4 * TIB, 2 * MIB, 0, 256 * MIB},
		{8 * GIB, GIB, 0, GIB},
		{64 * GIB, 16 * GIB, 0, 16 * GIB},
		{16 * TIB, 2 * MIB, 0, GIB},
		/* More than KVM has slots for: as much larger as is needed. */
		{24 * TIB, 2 * MIB, 0, 2 * GIB},
		{64 * TIB, 2 * MIB, 0, 4 * GIB},
		{TIB, 4096, 0, 64 * MIB},
		{UINT64_C(4096) * TIB, 4096, 0, 256 * GIB},
		{8 * GIB, 2 * MIB, 2 * MIB, 2 * MIB},
		{8 * GIB, 4096, TIB, TIB},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct memslots_device d = {"m", rows[i].size, rows[i].block, rows[i].given};
		uint64_t bytes = 0;

		assert_int_equal(memslots_choose(&d, 1, OFFERED, 2, &bytes, NULL), 0);
		assert_int_equal(bytes, rows[i].want);
	}
	assert_int_equal(memslots_choose(NULL, 0, 0, 9, NULL, NULL), 0);
}

/* The last one that fits, and the first that does not. */
static void test_border(void **state)
{
	struct memslots_device d = {NULL, (LEFT - 2) * GIB, 2 * MIB, 0};
	uint64_t bytes;

	(void)state;
	assert_int_equal(memslots_choose(&d, 1, OFFERED, 2, &bytes, NULL), 0);
	assert_int_equal(bytes, GIB);
	d.size_bytes += 2 * MIB;
	assert_int_equal(memslots_choose(&d, 1, OFFERED, 2, &bytes, NULL), 0);
	assert_int_equal(bytes, 2 * GIB);
	d.size_bytes -= 2 * MIB;
	assert_int_equal(memslots_choose(&d, 1, OFFERED, 3, &bytes, NULL), 0);
	assert_int_equal(bytes, 2 * GIB);
	/* On a kernel that has few. */
	d.size_bytes = TIB;
	assert_int_equal(memslots_choose(&d, 1, 509, 2, &bytes, NULL), 0);
	assert_int_equal(bytes, 4 * GIB);
}

/* Those that make most of them grow; what a person gave stays. */
static void test_devices_together(void **state)
{
	const struct memslots_device devices[] = {
		{"a", 16 * TIB, 2 * MIB, 0},
		{"b", 16 * GIB, 2 * MIB, 2 * MIB},
		{"c", 16 * TIB, 2 * MIB, 0},
		{"d", 4 * GIB, 2 * MIB, 0},
	};
	uint64_t bytes[4];

	(void)state;
	assert_int_equal(memslots_choose(devices, 4, OFFERED, 2, bytes, NULL), 0);
	/* 4096, 8192, 8192 and 16 slots: with one doubling less they would be 21 too many. */
	assert_int_equal(bytes[0], 4 * GIB);
	assert_int_equal(bytes[1], 2 * MIB);
	assert_int_equal(bytes[2], 2 * GIB);
	assert_int_equal(bytes[3], 256 * MIB);
}

static void check_error(const struct memslots_device *devices, size_t nr, uint64_t offered,
			const char *want)
{
	uint64_t bytes[4] = {1, 1, 1, 1};
	struct err *err = NULL;

	assert_int_equal(memslots_choose(devices, nr, offered, 2, bytes, &err), -ENOSPC);
	assert_string_equal(err_message(err), want);
	assert_true(bytes[0] == 1 && bytes[3] == 1);
	err_free(err);
}

static void test_too_many(void **state)
{
	struct memslots_device devices[] = {
		{"a", 40 * GIB, 2 * MIB, 2 * MIB},
		{"b", 32 * GIB, 2 * MIB, 4 * MIB},
		{NULL, GIB, 2 * MIB, 2 * MIB},
		{"d", 8 * GIB, 2 * MIB, 0},
	};

	(void)state;
	/* 20480, 8192 and 512 slots. */
	check_error(devices, 3, OFFERED,
		    "-device virtio-mem-pci,id=b: memslot-size=4 MiB makes 8192 memory slots; KVM "
		    "has 32764, of which 4091 are left for this device");
	devices[1].size_bytes = 4091 * 4 * MIB;
	check_error(devices, 3, OFFERED,
		    "-device virtio-mem-pci: memslot-size=2 MiB makes 512 memory slots; KVM has "
		    "32764, of which 0 are left for this device");
	/* One for each of the others has to be left. */
	devices[2] = devices[3];
	check_error(devices, 4, OFFERED,
		    "-device virtio-mem-pci,id=b: memslot-size=4 MiB makes 4091 memory slots; KVM "
		    "has 32764, of which 4089 are left for this device");
	devices[2].memslot_bytes = GIB;
	check_error(&devices[2], 2, 4,
		    "-device virtio-mem-pci,id=d: memslot-size=1 GiB makes 8 memory slots; KVM has "
		    "4, of which 0 are left for this device");
	devices[2].memslot_bytes = 0;
	check_error(&devices[2], 2, 4,
		    "-device virtio-mem-pci: KVM has 4 memory slots, too few for so many memory "
		    "devices");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_border),
		cmocka_unit_test(test_devices_together),
		cmocka_unit_test(test_too_many),
	};

	return cmocka_run_group_tests_name("memslots", tests, NULL, NULL);
}
