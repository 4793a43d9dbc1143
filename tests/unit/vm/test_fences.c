/* SPDX-License-Identifier: BSD-3-Clause */
/* How memory devices share the host's mappings, those from the start and those that come later. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vmm/vm/fences.h"

#define MANY 12

static double sum(const uint32_t *parts, size_t nr)
{
	double all = 0;

	for (size_t i = 0; i < nr; i++)
		all += 1.0 / parts[i];
	return all;
}

static void test_at_start(void **state)
{
	(void)state;
	assert_int_equal(fences_at_start(0, false), 1);
	assert_int_equal(fences_at_start(0, true), 1);
	assert_int_equal(fences_at_start(3, false), 3);
	/* Half is kept for those that come. */
	assert_int_equal(fences_at_start(1, true), 2);
	assert_int_equal(fences_at_start(3, true), 6);
}

/* Each gets half of what is left, until a part would be too small. */
static void test_later(void **state)
{
	uint32_t parts[MANY] = {0};
	size_t nr;

	(void)state;
	assert_int_equal(fences_later(parts, 0), 2);
	parts[0] = fences_at_start(1, true);
	for (nr = 1; nr < MANY; nr++) {
		parts[nr] = fences_later(parts, nr);
		assert_true(parts[nr] >= parts[nr - 1] && parts[nr] <= FENCES_MAX);
		if (nr < 10)
			assert_true(sum(parts, nr + 1) <= 1.0);
	}
	assert_int_equal(parts[1], 4);
	assert_int_equal(parts[2], 8);
	assert_int_equal(parts[MANY - 1], FENCES_MAX);
	/* What a device that left had goes to the next. */
	parts[1] = parts[2];
	assert_int_equal(fences_later(parts, 2), 6);
}

/* Where nothing was kept. */
static void test_all_is_taken(void **state)
{
	const uint32_t parts[] = {1, 2, 2};

	(void)state;
	assert_int_equal(fences_later(parts, 1), FENCES_MAX);
	assert_int_equal(fences_later(parts, 3), FENCES_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_at_start),
		cmocka_unit_test(test_later),
		cmocka_unit_test(test_all_is_taken),
	};

	return cmocka_run_group_tests_name("fences", tests, NULL, NULL);
}
