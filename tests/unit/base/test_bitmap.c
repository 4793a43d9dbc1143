/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The bitmap against an array of bools: every range of small maps, and random ranges of larger ones.
 * EBB_TEST_SEED repeats a random run; a failure prints its seed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <cmocka.h>

#include "base/bitmap.h"

#define NBITS_MAX 300

struct naive {
	uint64_t nbits;
	bool bit[NBITS_MAX];
};

static uint64_t naive_next(const struct naive *n, uint64_t from, uint64_t end, bool value)
{
	while (from < end && n->bit[from] != value)
		from++;
	return from < end ? from : end;
}

/* Every question about [first, end); false when an answer differs. */
static bool same(const struct bitmap *map, const struct naive *n, uint64_t first, uint64_t end)
{
	uint64_t set = 0;

	for (uint64_t b = first; b < end; b++) {
		set += n->bit[b];
		if (bitmap_test(map, b) != n->bit[b])
			return false;
	}
	return bitmap_count(map, first, end - first) == set &&
	       bitmap_all_set(map, first, end - first) == (set == end - first) &&
	       bitmap_all_clear(map, first, end - first) == (set == 0) &&
	       bitmap_next_set(map, first, end) == naive_next(n, first, end, true) &&
	       bitmap_next_clear(map, first, end) == naive_next(n, first, end, false);
}

static void change(struct bitmap *map, struct naive *n, uint64_t first, uint64_t end, bool value)
{
	if (value)
		bitmap_set(map, first, end - first);
	else
		bitmap_clear(map, first, end - first);
	memset(n->bit + first, value, end - first);
}

/* Every range set in an empty map and cleared in a full one, around the word's edges. */
static void every_range(void **state)
{
	static const uint64_t sizes[] = {0, 1, 63, 64, 65, 127, 128, 129};

	(void)state;
	for (unsigned int i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (int value = 0; value < 2; value++)
			for (uint64_t first = 0; first <= sizes[i]; first++)
				for (uint64_t end = first; end <= sizes[i]; end++) {
					struct naive n = {.nbits = sizes[i]};
					struct bitmap *map = bitmap_new(sizes[i]);

					assert_non_null(map);
					change(map, &n, 0, sizes[i], !value);
					change(map, &n, first, end, value);
					assert_true(same(map, &n, 0, sizes[i]));
					assert_true(same(map, &n, first, end));
					bitmap_free(map);
				}
}

static uint64_t random_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	return *state ^= *state << 17;
}

static void random_ranges(void **state)
{
	const char *text = getenv("EBB_TEST_SEED");
	struct naive n = {.nbits = NBITS_MAX};
	struct bitmap *map = bitmap_new(NBITS_MAX);
	uint64_t seed, rnd;

	(void)state;
	assert_non_null(map);
	assert_int_equal(getrandom(&seed, sizeof(seed), 0), sizeof(seed));
	if (text)
		seed = strtoull(text, NULL, 0);
	rnd = seed | 1; /* this generator stays at 0 */
	for (unsigned int step = 0; step < 200000; step++) {
		uint64_t first = random_next(&rnd) % (NBITS_MAX + 1);
		uint64_t end = first + random_next(&rnd) % (NBITS_MAX + 1 - first);

		change(map, &n, first, end, random_next(&rnd) & 1);
		first = random_next(&rnd) % (NBITS_MAX + 1);
		end = first + random_next(&rnd) % (NBITS_MAX + 1 - first);
		if (!same(map, &n, first, end))
			fail_msg("EBB_TEST_SEED=%#llx, step %u", (unsigned long long)seed, step);
	}
	assert_true(same(map, &n, 0, NBITS_MAX));
	bitmap_free(map);
}

/* A search never looks beyond its end, nor before its start. */
static void search_keeps_to_its_range(void **state)
{
	struct bitmap *map = bitmap_new(256);

	(void)state;
	assert_non_null(map);
	bitmap_set(map, 10, 1);
	bitmap_set(map, 200, 1);
	assert_int_equal(bitmap_next_set(map, 11, 200), 200);
	assert_int_equal(bitmap_next_set(map, 11, 199), 199);
	assert_int_equal(bitmap_next_set(map, 11, 256), 200);
	assert_int_equal(bitmap_next_set(map, 201, 256), 256);
	assert_int_equal(bitmap_next_set(map, 256, 256), 256);
	assert_int_equal(bitmap_next_clear(map, 10, 11), 11);
	bitmap_free(map);
}

static void empty_and_null(void **state)
{
	struct bitmap *map = bitmap_new(0);

	(void)state;
	assert_non_null(map);
	assert_int_equal(bitmap_size(map), 0);
	assert_true(bitmap_all_set(map, 0, 0));
	assert_true(bitmap_all_clear(map, 0, 0));
	assert_int_equal(bitmap_count(map, 0, 0), 0);
	assert_int_equal(bitmap_next_set(map, 0, 0), 0);
	bitmap_free(map);
	bitmap_free(NULL);
}

/* Terabits: what was never set, and what was cleared wholesale, is not walked through (I3). */
static void huge_and_sparse(void **state)
{
	const uint64_t nbits = UINT64_C(1) << 35, far = nbits - 3;
	struct bitmap *map = bitmap_new(nbits);

	(void)state;
	if (!map)
		skip(); /* no address space for 4 GiB of zeros */
	for (unsigned int i = 0; i < 20; i++) {
		assert_true(bitmap_all_clear(map, 0, nbits));
		bitmap_set(map, far, 2);
		bitmap_set(map, 70000, 40000);
		assert_int_equal(bitmap_next_set(map, 0, nbits), 70000);
		assert_int_equal(bitmap_next_set(map, 110000, nbits), far);
		assert_int_equal(bitmap_next_set(map, far + 2, nbits), nbits);
		assert_int_equal(bitmap_count(map, 0, nbits), 40002);
		assert_int_equal(bitmap_next_clear(map, 70000, nbits), 110000);
		bitmap_clear(map, 0, nbits - 2);
		assert_int_equal(bitmap_next_set(map, 0, nbits), nbits - 2);
		bitmap_clear(map, 1, nbits - 1);
	}
	bitmap_free(map);
}

/* Sets and clears around the edges of the parts that are remembered as empty. */
static void parts(void **state)
{
	const uint64_t nbits = 4 * 32768 + 100;
	const uint64_t edges[] = {0,     1,     32704, 32767, 32768,  32769,  32832,
				  65535, 65536, 98303, 98304, 131071, 131072, nbits};
	const unsigned int n = sizeof(edges) / sizeof(edges[0]);
	struct bitmap *map = bitmap_new(nbits);

	(void)state;
	assert_non_null(map);
	for (unsigned int i = 0; i < n; i++) {
		for (unsigned int j = i + 1; j < n; j++) {
			uint64_t first = edges[i], count = edges[j] - edges[i];

			bitmap_set(map, 0, nbits);
			bitmap_clear(map, first, count);
			assert_true(bitmap_all_clear(map, first, count));
			assert_int_equal(bitmap_count(map, 0, nbits), nbits - count);
			assert_true(bitmap_all_set(map, 0, first));
			assert_true(bitmap_all_set(map, edges[j], nbits - edges[j]));
			assert_int_equal(bitmap_next_set(map, first, nbits), edges[j]);
			bitmap_clear(map, 0, nbits);
			bitmap_set(map, first, count);
			assert_int_equal(bitmap_next_set(map, 0, nbits), first);
			assert_int_equal(bitmap_count(map, 0, nbits), count);
			assert_true(bitmap_all_clear(map, 0, first));
			assert_true(bitmap_all_clear(map, edges[j], nbits - edges[j]));
			bitmap_clear(map, 0, nbits);
			assert_true(bitmap_all_clear(map, 0, nbits));
		}
	}
	bitmap_free(map);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_range),
		cmocka_unit_test(random_ranges),
		cmocka_unit_test(search_keeps_to_its_range),
		cmocka_unit_test(empty_and_null),
		cmocka_unit_test(huge_and_sparse),
		cmocka_unit_test(parts),
	};

	return cmocka_run_group_tests_name("base: bitmap", tests, NULL, NULL);
}
