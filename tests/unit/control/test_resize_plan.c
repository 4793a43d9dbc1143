/* SPDX-License-Identifier: BSD-3-Clause */
/* Spreading a size over memory devices: vmm/control/resize_plan.h. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/num.h"
#include "vmm/control/resize_plan.h"

#define SLOTS_MAX 4

static void check(struct resize_slot *slots, size_t nr, uint64_t size, const uint64_t *want)
{
	uint64_t near = 0;

	assert_int_equal(resize_plan(slots, nr, size, &near), 0);
	for (size_t i = 0; i < nr; i++)
		assert_int_equal(slots[i].target, want[i]);
}

static void test_one_device(void **state)
{
	struct resize_slot slot = {GIB, 4 * GIB, 2 * MIB, true, 0};
	uint64_t near = 0;

	(void)state;
	check(&slot, 1, 3 * GIB, (uint64_t[]){3 * GIB});
	check(&slot, 1, 0, (uint64_t[]){0});
	check(&slot, 1, GIB, (uint64_t[]){GIB});
	check(&slot, 1, 4 * GIB, (uint64_t[]){4 * GIB});
	assert_int_equal(resize_plan(&slot, 1, 4 * GIB + 2 * MIB, &near), -ERANGE);
	assert_int_equal(resize_plan(&slot, 1, 3 * GIB + MIB, &near), -EINVAL);
	assert_int_equal(near, 3 * GIB);
	assert_int_equal(slot.target, GIB);
	assert_int_equal(resize_plan(&slot, 1, MIB, &near), -EINVAL);
	assert_int_equal(near, 2 * MIB);
}

static void test_no_device(void **state)
{
	uint64_t near = 0;

	(void)state;
	assert_int_equal(resize_plan(NULL, 0, 0, &near), 0);
	assert_int_equal(resize_plan(NULL, 0, MIB, &near), -ERANGE);
}

static void test_in_proportion(void **state)
{
	struct resize_slot slots[] = {
		{4 * GIB, 8 * GIB, 2 * MIB, true, 0},
		{2 * GIB, 8 * GIB, 2 * MIB, true, 0},
	};

	(void)state;
	/* 4 and 6 GiB of room take 5 GiB as 2 and 3. */
	check(slots, 2, 11 * GIB, (uint64_t[]){6 * GIB, 5 * GIB});
	/* 4 and 2 GiB give 3 GiB as 2 and 1. */
	check(slots, 2, 3 * GIB, (uint64_t[]){2 * GIB, GIB});
	check(slots, 2, 16 * GIB, (uint64_t[]){8 * GIB, 8 * GIB});
	check(slots, 2, 0, (uint64_t[]){0, 0});
	/* One block has only one place, the first. */
	check(slots, 2, 6 * GIB + 2 * MIB, (uint64_t[]){4 * GIB + 2 * MIB, 2 * GIB});
}

/* Also where each device by itself would have a share in another's last block. */
static void test_block_sizes(void **state)
{
	struct resize_slot slots[] = {
		{0, 100 * MIB, 2 * MIB, true, 0},
		{0, 256 * MIB, 128 * MIB, true, 0},
	};
	uint64_t near = 0;

	(void)state;
	check(slots, 2, 316 * MIB, (uint64_t[]){60 * MIB, 256 * MIB});
	check(slots, 2, 50 * MIB, (uint64_t[]){50 * MIB, 0});
	assert_int_equal(resize_plan(slots, 2, 120 * MIB, &near), -EINVAL);
	assert_int_equal(near, 100 * MIB);
	assert_int_equal(slots[0].target, 0);
}

static void test_devices_without_a_driver(void **state)
{
	struct resize_slot slots[] = {
		{0, 4 * GIB, 2 * MIB, false, 0},
		{GIB, 4 * GIB, 2 * MIB, true, 0},
	};

	(void)state;
	check(slots, 2, 4 * GIB, (uint64_t[]){0, 4 * GIB});
	check(slots, 2, 0, (uint64_t[]){0, 0});
	/* The one with a driver does not suffice: 4 and 3 GiB of room. */
	check(slots, 2, 8 * GIB, (uint64_t[]){4 * GIB, 4 * GIB});
	slots[1].driven = false;
	check(slots, 2, 2 * GIB, (uint64_t[]){586 * MIB, 2 * GIB - 586 * MIB});
}

/* Whatever is possible with some choice of blocks is done, exactly, and what is not is refused. */
static bool reachable(const struct resize_slot *slots, size_t nr, uint64_t size)
{
	if (!nr)
		return !size;
	for (uint64_t take = 0; take <= slots[0].max && take <= size; take += slots[0].block)
		if (reachable(slots + 1, nr - 1, size - take))
			return true;
	return false;
}

static void check_invariants(const struct resize_slot *slots, size_t nr, uint64_t size)
{
	uint64_t before = 0, after = 0;

	for (size_t i = 0; i < nr; i++) {
		before += slots[i].size;
		after += slots[i].target;
		assert_true(slots[i].target <= slots[i].max);
		assert_int_equal(slots[i].target % slots[i].block, 0);
	}
	assert_int_equal(after, size);
	for (size_t i = 0; i < nr; i++) {
		assert_true(size <= before || slots[i].target >= slots[i].size);
		assert_true(size >= before || slots[i].target <= slots[i].size);
	}
}

/* Is there a choice of blocks that brings the devices to @size, none of them the wrong way? */
static bool movable(const struct resize_slot *slots, size_t nr, uint64_t size)
{
	struct resize_slot rooms[SLOTS_MAX];
	uint64_t now = 0;

	for (size_t i = 0; i < nr; i++)
		now += slots[i].size;
	for (size_t i = 0; i < nr; i++) {
		rooms[i] = slots[i];
		rooms[i].max = size > now ? slots[i].max - slots[i].size : slots[i].size;
	}
	return reachable(rooms, nr, size > now ? size - now : now - size);
}

static void test_random(void **state)
{
	unsigned int done = 0, refused = 0;
	unsigned int seed = 1;

	(void)state;
	for (unsigned int round = 0; round < 20000; round++) {
		struct resize_slot slots[SLOTS_MAX];
		size_t nr = 1 + (size_t)rand_r(&seed) % SLOTS_MAX;
		uint64_t max = 0, size, near = UINT64_MAX;

		for (size_t i = 0; i < nr; i++) {
			uint64_t block = UINT64_C(1) << rand_r(&seed) % 4;
			uint64_t blocks = (uint64_t)rand_r(&seed) % 6;

			slots[i] = (struct resize_slot){
				.size = block * ((uint64_t)rand_r(&seed) % (blocks + 1)),
				.max = block * blocks,
				.block = block,
				.driven = rand_r(&seed) % 4 != 0,
			};
			max += slots[i].max;
		}
		size = (uint64_t)rand_r(&seed) % (max + 2);
		switch (resize_plan(slots, nr, size, &near)) {
		case 0:
			check_invariants(slots, nr, size);
			done++;
			break;
		case -ERANGE:
			assert_true(size > max);
			break;
		case -EINVAL:
			assert_false(movable(slots, nr, size));
			assert_true(movable(slots, nr, near));
			refused++;
			break;
		default:
			fail();
		}
	}
	assert_true(done > 1000 && refused > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_device),
		cmocka_unit_test(test_no_device),
		cmocka_unit_test(test_in_proportion),
		cmocka_unit_test(test_block_sizes),
		cmocka_unit_test(test_devices_without_a_driver),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests_name("resize plan", tests, NULL, NULL);
}
