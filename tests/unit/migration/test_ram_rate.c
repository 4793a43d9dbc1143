/* SPDX-License-Identifier: BSD-3-Clause */
/* Figures, estimates and auto-converge (ram_send_rate.h), on a clock of their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vmm/migration/ram_send_rate.h"

static const struct ram_send_limits limits = {
	.downtime_limit_ms = 300,
	.auto_converge = true,
	.throttle_trigger_threshold = 50,
	.cpu_throttle_initial = 20,
	.cpu_throttle_increment = 10,
	.max_cpu_throttle = 99,
};

/* A round of @normal pages with content and @zero others that takes @ms; then @dirty pages are. */
static void round_of(struct rate *r, struct rate_sums *now, uint64_t ms, uint64_t normal,
		     uint64_t zero, uint64_t dirty)
{
	rate_begin(r, now, normal + zero);
	rate_taken(r, normal + zero);
	now->ms += ms;
	now->normal += normal;
	now->zero += zero;
	now->bytes += normal * (PAGE_BYTES + 1);
	rate_tick(r, now);
	rate_end(r, now);
	rate_synced(r, now->ms, dirty);
}

static void test_figures(void **state)
{
	struct rate_sums now = {.ms = 5000};
	struct rate r = {0};

	(void)state;
	round_of(&r, &now, 2000, 20000, 80000, 3000);
	assert_int_equal(r.syncs, 1);
	assert_int_equal(r.remaining_pages, 3000);
	assert_int_equal(r.pages_per_s, 50000);
	assert_int_equal(r.bytes_per_s, 10000 * (PAGE_BYTES + 1));
	assert_int_equal(r.dirty_per_s, 1500);
	/* 3000 of 10000 pages a second. */
	assert_int_equal(rate_expected_ms(&r, &limits), 300);
	assert_true(rate_fits(&r, &limits));
	rate_synced(&r, now.ms + 10, 3010);
	assert_false(rate_fits(&r, &limits));
	rate_taken(&r, 5000);
	assert_int_equal(r.remaining_pages, 0);
}

/* A round of next to nothing, however long or short, says nothing about the pace. */
static void test_small_rounds_say_nothing(void **state)
{
	struct rate_sums now = {.ms = 1};
	struct rate r = {0};

	(void)state;
	round_of(&r, &now, 1000, 10000, 0, 100);
	assert_int_equal(r.normal_per_s, 10000 * PAGE_BYTES);
	round_of(&r, &now, 5000, 255, 1000000, 100);
	assert_int_equal(r.normal_per_s, 10000 * PAGE_BYTES);
	round_of(&r, &now, 0, 100, 0, 100);
	assert_int_equal(r.normal_per_s, 10000 * PAGE_BYTES);
	round_of(&r, &now, 2000, 256, 0, 100);
	assert_int_equal(r.normal_per_s, 128 * PAGE_BYTES);
}

static void test_before_anything_is_known(void **state)
{
	struct ram_send_limits slow = limits;
	struct rate r = {.remaining_pages = 2560}; /* 10 MiB */

	(void)state;
	slow.max_bandwidth = 10 * MIB;
	assert_int_equal(rate_expected_ms(&r, &slow), 1000);
	assert_int_equal(rate_expected_ms(&r, &limits), 9);
}

static void test_the_guest_is_held_back(void **state)
{
	struct rate_sums now = {.ms = 1};
	struct rate r = {0};
	unsigned int want[] = {0,  20, 20, 30, 30, 40, 40, 50, 50, 60,
			       60, 70, 70, 80, 80, 90, 90, 99, 99, 99};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		round_of(&r, &now, 1000, 10000, 0, 5001);
		assert_int_equal(rate_throttle(&r, &limits, 5001), want[i]);
		assert_int_equal(r.throttle, want[i]);
	}
	/* Never less while it lasts, but not more either when it keeps up. */
	for (int i = 0; i < 4; i++) {
		round_of(&r, &now, 1000, 10000, 0, 5000);
		assert_int_equal(rate_throttle(&r, &limits, 5000), 99);
	}
}

static void test_two_rounds_in_a_row(void **state)
{
	struct ram_send_limits off = limits;
	struct rate_sums now = {.ms = 1};
	struct rate r = {0};

	(void)state;
	off.auto_converge = false;
	for (int i = 0; i < 6; i++) {
		uint64_t dirty = i % 2 ? 5000 : 9999;

		round_of(&r, &now, 1000, 10000, 0, dirty);
		assert_int_equal(rate_throttle(&r, &limits, dirty), 0);
	}
	for (int i = 0; i < 6; i++) {
		round_of(&r, &now, 1000, 10000, 0, 9999);
		assert_int_equal(rate_throttle(&r, &off, 9999), 0);
	}
}

/* Slow at the end: a step is no larger than what makes the guest slow enough. */
static void test_tailslow(void **state)
{
	struct ram_send_limits slow = limits;
	struct rate_sums now = {.ms = 1};
	struct rate r = {.throttle = 60};

	(void)state;
	slow.cpu_throttle_tailslow = true;
	for (int i = 0; i < 2; i++) {
		round_of(&r, &now, 1000, 10000, 0, 5500);
		rate_throttle(&r, &slow, 5500);
	}
	/* It runs 40 of 100; 5000 of 5500 would do: 36. */
	assert_int_equal(r.throttle, 64);
	for (int i = 0; i < 2; i++) {
		round_of(&r, &now, 1000, 10000, 0, 20000);
		rate_throttle(&r, &slow, 20000);
	}
	assert_int_equal(r.throttle, 74);
	for (int i = 0; i < 2; i++) {
		round_of(&r, &now, 1000, 10000, 0, 5001);
		rate_throttle(&r, &slow, 5001);
	}
	assert_int_equal(r.throttle, 75);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_figures),
		cmocka_unit_test(test_small_rounds_say_nothing),
		cmocka_unit_test(test_before_anything_is_known),
		cmocka_unit_test(test_the_guest_is_held_back),
		cmocka_unit_test(test_two_rounds_in_a_row),
		cmocka_unit_test(test_tailslow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
