/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest memory: which pages are marked as written (gm.h, I6). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/core/gm_world.h"

/* From a page below all memory to one behind it; one word has bits for all of it. */
#define FIRST    (LOW - PAGE)
#define BIT(gpa) (UINT64_C(1) << ((gpa)-FIRST) / PAGE)

/* The marks there are, as bits; they stay. */
static uint64_t marks(struct world *w)
{
	uint64_t bits = 0, gpa = FIRST;

	while ((gpa = gm_dirty_next(w->gm, gpa, END + PAGE)) < END + PAGE) {
		bits |= BIT(gpa);
		gpa += PAGE;
	}
	assert_int_equal(gm_dirty_count(w->gm, 0, UINT64_MAX), __builtin_popcountll(bits));
	return bits;
}

static uint64_t take(struct world *w)
{
	uint64_t word = 1, seen = marks(w);

	assert_int_equal(gm_dirty_take(w->gm, FIRST, &word, 1), __builtin_popcountll(seen));
	assert_int_equal(word, seen);
	assert_int_equal(marks(w), 0);
	return word;
}

static int started_setup(void **state)
{
	struct world *w;

	gm_world_setup(state);
	w = *state;
	gm_grant(w->region, 0, 4 * BLOCK);
	return gm_dirty_start(w->gm);
}

#define STARTED(fn) cmocka_unit_test_setup_teardown(fn, started_setup, gm_world_teardown)

static int touch(void *opaque, void *host, size_t size)
{
	(void)size;
	*(uint8_t *)host = 1;
	return opaque ? *(int *)opaque : 0;
}

static void test_every_kind_of_write(void **state)
{
	struct world *w = *state;
	uint8_t buf[2 * PAGE] = {0};

	assert_int_equal(gm_write(w->gm, LOW + 5, buf, 1), 0);
	assert_int_equal(take(w), BIT(LOW));
	/* Over the end of one region, to the first byte of the next. */
	assert_int_equal(gm_write(w->gm, NEXT + PAGE - 1, buf, 2), 0);
	assert_int_equal(take(w), BIT(NEXT) | BIT(DEVICE));
	assert_int_equal(gm_write(w->gm, DEVICE + PAGE, buf, PAGE), 0);
	assert_int_equal(take(w), BIT(DEVICE + PAGE));
	assert_int_equal(gm_write(w->gm, DEVICE + PAGE + 1, buf, PAGE), 0);
	assert_int_equal(take(w), BIT(DEVICE + PAGE) | BIT(DEVICE + 2 * PAGE));
	assert_int_equal(gm_fill(w->gm, LOW, 1, HOLE - LOW), 0);
	assert_int_equal(take(w), BIT(HOLE) - BIT(LOW));
	assert_int_equal(gm_store_release(w->gm, HIGH + 8, 8, 1), 0);
	assert_int_equal(take(w), BIT(HIGH));
	assert_int_equal(gm_access(w->gm, LOW, PAGE + 1, touch, NULL), 0);
	assert_int_equal(take(w), BIT(LOW) | BIT(NEXT));
}

static void test_what_is_no_write(void **state)
{
	struct world *w = *state;
	uint8_t buf[2 * PAGE] = {0};
	uint64_t value;

	assert_int_equal(gm_read(w->gm, LOW, buf, PAGE), 0);
	assert_int_equal(gm_load_acquire(w->gm, LOW, 4, &value), 0);
	assert_true(gm_valid(w->gm, LOW, HOLE - LOW));
	assert_int_equal(gm_write(w->gm, LOW, buf, 0), 0);
	gm_dirty_mark(w->gm, LOW, 0);
	/* Refused: they wrote nothing (I1). */
	assert_int_equal(gm_write(w->gm, HOLE - 1, buf, 2), -EFAULT);
	assert_int_equal(gm_store_release(w->gm, LOW + 1, 4, 1), -EFAULT);
	gm_revoke(w->region, 0, BLOCK);
	assert_int_equal(gm_fill(w->gm, NEXT, 0, PAGE + 1), -EFAULT);
	assert_int_equal(marks(w), 0);
}

/* Whoever gives up in the middle may have written up to there. */
static void test_a_part_of_an_access(void **state)
{
	struct world *w = *state;
	int ret = -EIO;

	assert_int_equal(gm_access(w->gm, LOW, 2 * PAGE + 1, touch, &ret), -EIO);
	assert_int_equal(take(w), BIT(LOW));
}

static void test_start_and_stop(void **state)
{
	struct world *w = *state;
	uint64_t word = UINT64_MAX;

	gm_dirty_mark(w->gm, LOW, PAGE);
	assert_int_equal(gm_dirty_start(w->gm), 0);
	assert_int_equal(marks(w), 0);
	gm_dirty_mark(w->gm, LOW, PAGE);
	gm_dirty_stop(w->gm);
	assert_int_equal(marks(w), 0);
	gm_dirty_mark(w->gm, LOW, PAGE);
	assert_int_equal(gm_fill(w->gm, LOW, 1, PAGE), 0);
	word = 2;
	gm_dirty_merge(w->gm, FIRST, &word, 1);
	assert_int_equal(gm_dirty_take(w->gm, FIRST, &word, 1), 0);
	assert_int_equal(word, 0);
	gm_dirty_stop(w->gm);
	assert_int_equal(gm_dirty_start(w->gm), 0);
	assert_int_equal(marks(w), 0);
}

static void test_marks_come_and_go_with_regions(void **state)
{
	struct world *w = *state;

	gm_dirty_mark(w->gm, 0, UINT64_MAX);
	assert_int_equal(marks(w), (BIT(HOLE) - BIT(LOW)) | BIT(HIGH));
	gm_revoke(w->region, 0, 4 * BLOCK);
	assert_int_equal(marks(w), (BIT(HOLE) - BIT(LOW)) | BIT(HIGH));
	gm_remove_device_memory(w->gm, w->region);
	assert_int_equal(marks(w), BIT(LOW) | BIT(NEXT) | BIT(HIGH));
	assert_int_equal(gm_add_device_memory(w->gm, (struct range){DEVICE, 4 * BLOCK}, w->device,
					      BLOCK, &w->region),
			 0);
	assert_int_equal(take(w), BIT(LOW) | BIT(NEXT) | BIT(HIGH));
	gm_grant(w->region, 0, BLOCK);
	assert_int_equal(gm_fill(w->gm, DEVICE, 1, 1), 0);
	assert_int_equal(take(w), BIT(DEVICE));
}

static void test_any_range_is_marked(void **state)
{
	struct world *w = *state;

	gm_dirty_mark(w->gm, HOLE - 1, 1);
	assert_int_equal(take(w), BIT(HOLE - PAGE));
	gm_dirty_mark(w->gm, HOLE, PAGE);
	assert_int_equal(take(w), 0);
	gm_dirty_mark(w->gm, HOLE - 1, PAGE + 2);
	assert_int_equal(take(w), BIT(HOLE - PAGE) | BIT(HIGH));
	gm_dirty_mark(w->gm, HIGH + 17, UINT64_MAX);
	assert_int_equal(take(w), BIT(HIGH));
	gm_dirty_mark(w->gm, UINT64_MAX, UINT64_MAX);
	assert_int_equal(take(w), 0);
	/* A page counts when it is touched. */
	gm_dirty_mark(w->gm, NEXT, 2 * PAGE);
	assert_int_equal(gm_dirty_count(w->gm, NEXT + PAGE - 1, 2), 2);
	assert_int_equal(gm_dirty_count(w->gm, LOW, PAGE + 1), 1);
	assert_int_equal(gm_dirty_next(w->gm, LOW, NEXT), NEXT);
	assert_int_equal(gm_dirty_next(w->gm, NEXT, NEXT), NEXT);
	assert_int_equal(gm_dirty_next(w->gm, NEXT + PAGE, HOLE), NEXT + PAGE);
}

/* Words that begin anywhere, over regions and holes; what is no memory falls out. */
static void test_merge_and_take_at_any_place(void **state)
{
	const uint64_t all = (BIT(HOLE) - BIT(LOW)) | BIT(HIGH);
	struct world *w = *state;
	uint64_t words[3];

	for (uint64_t shift = 0; shift <= FIRST / PAGE; shift++) {
		uint64_t want = UINT64_C(0x5555555555555555) << shift % 2, gpa;
		unsigned int at = (unsigned int)(shift % 64);

		gpa = FIRST - shift * PAGE;
		memset(words, 0, sizeof(words));
		words[shift / 64] = want << at;
		words[shift / 64 + 1] = at ? want >> (64 - at) : 0;
		gm_dirty_merge(w->gm, gpa, words, shift / 64 + 2);
		assert_int_equal(marks(w), want & all);
		assert_int_equal(gm_dirty_take(w->gm, gpa, words, shift / 64 + 2),
				 __builtin_popcountll(want & all));
		assert_int_equal(words[shift / 64], (want & all) << at);
		assert_int_equal(words[shift / 64 + 1], at ? (want & all) >> (64 - at) : 0);
		assert_int_equal(marks(w), 0);
	}
	/* From the middle of a region on. */
	memset(words, 0xff, sizeof(words));
	gm_dirty_merge(w->gm, DEVICE + 3 * PAGE, words, 1);
	assert_int_equal(marks(w), (BIT(HOLE) - BIT(DEVICE + 3 * PAGE)) | BIT(HIGH));
	assert_int_equal(gm_dirty_take(w->gm, DEVICE + 5 * PAGE, words, 1), 4);
	assert_int_equal(words[0], 7 | 1 << 4);
	assert_int_equal(marks(w), BIT(DEVICE + 3 * PAGE) | BIT(DEVICE + 4 * PAGE));
	/* To the end of all addresses. */
	gm_dirty_merge(w->gm, UINT64_MAX - PAGE + 1, words, 3);
	assert_int_equal(gm_dirty_take(w->gm, UINT64_MAX - PAGE + 1, words, 3), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		STARTED(test_every_kind_of_write),
		STARTED(test_what_is_no_write),
		STARTED(test_a_part_of_an_access),
		STARTED(test_start_and_stop),
		STARTED(test_marks_come_and_go_with_regions),
		STARTED(test_any_range_is_marked),
		STARTED(test_merge_and_take_at_any_place),
	};

	return cmocka_run_group_tests_name("gm: written pages", tests, NULL, NULL);
}
