/* SPDX-License-Identifier: BSD-3-Clause */
/* Checked arithmetic and ranges at the ends of 64 bits; small ranges against counting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/num.h"

#define MAX UINT64_MAX

static void add_and_mul_refuse_overflow(void **state)
{
	uint64_t out = 42;

	(void)state;
	assert_false(num_add(MAX, 1, &out));
	assert_false(num_add(1, MAX, &out));
	assert_false(num_mul(MAX, 2, &out));
	assert_false(num_mul(UINT64_C(1) << 32, UINT64_C(1) << 32, &out));
	assert_int_equal(out, 42);
	assert_true(num_add(MAX - 1, 1, &out));
	assert_int_equal(out, MAX);
	assert_true(num_mul(MAX, 1, &out));
	assert_int_equal(out, MAX);
	assert_true(num_mul(MAX, 0, &out));
	assert_int_equal(out, 0);
	assert_true(num_mul((UINT64_C(1) << 32) - 1, (UINT64_C(1) << 32) + 1, &out));
	assert_int_equal(out, MAX);
}

static void powers_of_two(void **state)
{
	(void)state;
	assert_false(num_is_pow2(0));
	for (unsigned int bit = 0; bit < 64; bit++) {
		assert_true(num_is_pow2(UINT64_C(1) << bit));
		if (bit > 1) {
			assert_false(num_is_pow2((UINT64_C(1) << bit) - 1));
			assert_false(num_is_pow2((UINT64_C(1) << bit) + 1));
		}
	}
}

static void alignment(void **state)
{
	uint64_t out = 42;

	(void)state;
	assert_true(num_is_aligned(0, 4096));
	assert_true(num_is_aligned(MAX, 1));
	assert_false(num_is_aligned(4095, 4096));
	assert_int_equal(num_align_down(8191, 4096), 4096);
	assert_int_equal(num_align_down(MAX, 4096), MAX - 4095);
	assert_false(num_align_up(MAX, 4096, &out));
	assert_false(num_align_up(MAX - 4094, 4096, &out));
	assert_int_equal(out, 42);
	assert_true(num_align_up(MAX - 4095, 4096, &out));
	assert_int_equal(out, MAX - 4095);
	assert_true(num_align_up(0, 4096, &out));
	assert_int_equal(out, 0);
	assert_true(num_align_up(1, 4096, &out));
	assert_int_equal(out, 4096);
	assert_true(num_align_up(MAX, 1, &out));
	assert_int_equal(out, MAX);
}

static void min_and_max(void **state)
{
	(void)state;
	assert_int_equal(num_min(1, MAX), 1);
	assert_int_equal(num_min(MAX, 1), 1);
	assert_int_equal(num_max(1, MAX), MAX);
	assert_int_equal(num_max(MAX, 1), MAX);
}

static void ranges_at_the_end(void **state)
{
	const struct range all = {0, MAX}, top = {MAX - 10, 10};

	(void)state;
	assert_true(range_valid(all));
	assert_true(range_valid(top));
	assert_false(range_valid((struct range){MAX - 10, 11}));
	assert_false(range_valid((struct range){MAX, MAX}));
	assert_int_equal(range_end(top), MAX);
	assert_true(range_contains(all, top));
	/* A range that wraps is inside of nothing. */
	assert_false(range_contains(all, (struct range){MAX - 10, 20}));
	assert_false(range_contains(top, (struct range){MAX - 10, MAX}));
	assert_false(range_contains(top, (struct range){MAX, 1}));
	assert_true(range_has(top, MAX - 1));
	assert_false(range_has(top, MAX));
	assert_false(range_has(top, MAX - 11));
	assert_false(range_overlaps(top, (struct range){0, MAX - 10}));
	assert_true(range_overlaps(top, (struct range){0, MAX - 9}));
}

/* Every pair of ranges in [0, 8), against counting what they share. */
static void ranges_against_counting(void **state)
{
	(void)state;
	for (unsigned int code = 0; code < 8 * 8 * 8 * 8; code++) {
		struct range a = {code & 7, code >> 3 & 7}, b = {code >> 6 & 7, code >> 9 & 7};
		uint64_t shared = 0;

		for (uint64_t x = 0; x < 16; x++) {
			bool in_a = x >= a.start && x < a.start + a.size;
			bool in_b = x >= b.start && x < b.start + b.size;

			shared += in_a && in_b;
			assert_int_equal(range_has(a, x), in_a);
		}
		assert_int_equal(range_overlaps(a, b), shared != 0);
		assert_int_equal(range_contains(a, b), b.size && shared == b.size);
	}
}

static void container(void **state)
{
	struct outer {
		int first;
		uint64_t member;
	} outer = {0, 0};

	(void)state;
	assert_ptr_equal(container_of(&outer.member, struct outer, member), &outer);
	assert_int_equal(ARRAY_SIZE(((int[7]){0})), 7);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(add_and_mul_refuse_overflow),
		cmocka_unit_test(powers_of_two),
		cmocka_unit_test(alignment),
		cmocka_unit_test(min_and_max),
		cmocka_unit_test(ranges_at_the_end),
		cmocka_unit_test(ranges_against_counting),
		cmocka_unit_test(container),
	};

	return cmocka_run_group_tests_name("base: num", tests, NULL, NULL);
}
