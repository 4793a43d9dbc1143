/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory that was closed and is opened again is backed by huge pages at once, as if it had never been
 * protected: whatever its blocks held before, and whatever was read while they were closed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "anon_rig.h"
#include "base/num.h"

enum { BLOCKS = 32 };
#define BLOCK (2 * MIB)
#define SIZE  (BLOCKS * BLOCK)

/* How the blocks of a pattern go one after the other. */
enum pattern { PATTERN_ALL, PATTERN_SINGLE, PATTERN_EVEN, PATTERN_PAIRS };

static void start(struct anon_rig *r, uint32_t max_fences)
{
	rig_start(r, SIZE, BLOCK, 16 * BLOCK, max_fences);
	assert_int_equal(madvise(r->memory, SIZE, MADV_HUGEPAGE), 0);
}

static void touch(const struct anon_rig *r, uint64_t offset, uint64_t size)
{
	for (uint64_t at = offset; at < offset + size; at += PAGE)
		r->memory[at] = 1;
}

/* Open and touch, or close and discard, each run of the pattern. */
static void do_pattern(struct anon_rig *r, enum pattern pattern, bool plug)
{
	uint64_t step = pattern == PATTERN_ALL ? BLOCKS : pattern == PATTERN_PAIRS ? 4 : 2;
	uint64_t count = pattern == PATTERN_ALL ? BLOCKS : pattern == PATTERN_PAIRS ? 2 : 1;

	if (pattern == PATTERN_SINGLE)
		step = 1;
	for (uint64_t i = 0; i < BLOCKS; i += step) {
		if (plug) {
			assert_int_equal(rig_open(r, i * BLOCK, count * BLOCK), 0);
			touch(r, i * BLOCK, count * BLOCK);
		} else {
			assert_int_equal(rig_close(r, i * BLOCK, count * BLOCK), 0);
			assert_int_equal(rig_discard(r, i * BLOCK, count * BLOCK), 0);
		}
	}
}

static uint64_t pattern_bytes(enum pattern pattern)
{
	return pattern == PATTERN_ALL || pattern == PATTERN_SINGLE ? SIZE : SIZE / 2;
}

/* What the same memory gets that was never protected; 0 where there are no huge pages. */
static uint64_t huge_without_guard(void)
{
	struct anon_rig r;
	uint64_t huge;

	start(&r, 0);
	assert_int_equal(rig_open(&r, 0, SIZE), 0);
	touch(&r, 0, SIZE);
	huge = rig_huge_bytes(&r);
	rig_end(&r);
	return huge;
}

/* Blocks of the pattern are opened for the @round-th time: all of it is in huge pages. */
static void check_huge(const struct anon_rig *r, enum pattern pattern, const char *what)
{
	if (rig_huge_bytes(r) < pattern_bytes(pattern))
		fail_msg("%s, pattern %d: %llu of %llu MiB in huge pages", what, pattern,
			 (unsigned long long)(rig_huge_bytes(r) / MIB),
			 (unsigned long long)(pattern_bytes(pattern) / MIB));
}

static void check_replug(uint32_t max_fences)
{
	struct anon_rig r;

	for (enum pattern pattern = PATTERN_ALL; pattern <= PATTERN_PAIRS; pattern++) {
		start(&r, max_fences);
		do_pattern(&r, pattern, true);
		check_huge(&r, pattern, "plugged");
		do_pattern(&r, pattern, false);
		assert_int_equal(rig_huge_bytes(&r), 0);
		do_pattern(&r, pattern, true);
		check_huge(&r, pattern, "plugged again");

		/* Closed memory that is read, in every page. */
		do_pattern(&r, pattern, false);
		assert_true(rig_is_zero(&r, 0, SIZE));
		do_pattern(&r, pattern, true);
		check_huge(&r, pattern, "read while closed");

		/* Pages one by one, in and out of the block. */
		do_pattern(&r, pattern, false);
		assert_int_equal(madvise(r.memory, SIZE, MADV_NOHUGEPAGE), 0);
		do_pattern(&r, pattern, true);
		assert_int_equal(rig_huge_bytes(&r), 0);
		do_pattern(&r, pattern, false);
		assert_true(rig_is_zero(&r, 0, SIZE));
		assert_int_equal(madvise(r.memory, SIZE, MADV_HUGEPAGE), 0);
		do_pattern(&r, pattern, true);
		check_huge(&r, pattern, "small pages before");

		/* The rest, next to what is open. */
		assert_int_equal(rig_open(&r, 0, SIZE), 0);
		touch(&r, 0, SIZE);
		check_huge(&r, PATTERN_ALL, "the rest");
		rig_end(&r);
	}
}

/* The blocks of a segment that was armed, while it is and afterwards. */
static void check_armed(void)
{
	struct anon_rig r;

	start(&r, 4);
	rig_checkerboard(&r, 0, BLOCKS);
	assert_int_equal(r.pages->armed_segments, 2);
	for (unsigned int round = 0; round < 3; round++) {
		for (uint64_t i = 0; i < BLOCKS; i += 2) {
			assert_int_equal(rig_open(&r, i * BLOCK, BLOCK), 0);
			touch(&r, i * BLOCK, BLOCK);
		}
		check_huge(&r, PATTERN_EVEN, "armed");
		for (uint64_t i = 0; i < BLOCKS; i += 2) {
			assert_int_equal(rig_close(&r, i * BLOCK, BLOCK), 0);
			assert_int_equal(rig_discard(&r, i * BLOCK, BLOCK), 0);
			assert_true(rig_is_closed(&r, i * BLOCK, BLOCK));
			assert_true(rig_is_zero(&r, i * BLOCK, BLOCK));
		}
		assert_int_equal(rig_huge_bytes(&r), 0);
	}
	assert_int_equal(rig_close(&r, 0, SIZE), 0);
	assert_int_equal(rig_discard(&r, 0, SIZE), 0);
	assert_int_equal(r.pages->armed_segments, 0);
	do_pattern(&r, PATTERN_ALL, true);
	check_huge(&r, PATTERN_ALL, "armed before");
	rig_end(&r);
}

/* A huge page of which a part was closed, while a part of it is armed and all of it again. */
static void check_parts(void)
{
	const uint64_t block = 64 * KIB;
	struct anon_rig r;

	rig_start(&r, 16 * MIB, block, 8 * MIB, 3);
	assert_int_equal(madvise(r.memory, 16 * MIB, MADV_HUGEPAGE), 0);
	for (unsigned int round = 0; round < 3; round++) {
		assert_int_equal(rig_open(&r, 0, 16 * MIB), 0);
		touch(&r, 0, 16 * MIB);
		assert_int_equal(rig_huge_bytes(&r), 16 * MIB);
		for (uint64_t i = 0; i < 128; i += 2) {
			assert_int_equal(rig_close(&r, i * block, block), 0);
			assert_int_equal(rig_discard(&r, i * block, block), 0);
		}
		for (uint64_t i = 0; i < 128; i++)
			assert_int_equal(rig_poke(&r, i * block, 1) == 0, i % 2);
		assert_int_equal(rig_close(&r, 0, 16 * MIB), 0);
		assert_int_equal(rig_discard(&r, 0, 16 * MIB), 0);
		assert_int_equal(rig_pages(&r, 0, 16 * MIB), 0);
	}
	rig_end(&r);
}

static void check_all(void)
{
	if (huge_without_guard() < SIZE) {
		print_message("this machine gives no huge pages on demand\n");
		skip();
	}
	check_replug(0);
	if (!rig_can_arm())
		return;
	check_replug(2);
	check_armed();
	check_parts();
}

static void test_kernel_frees_tables(void **state)
{
	(void)state;
	check_all();
}

static void test_tables_moved(void **state)
{
	(void)state;
	anon_kernel_set((struct anon_kernel){.no_table_reclaim = true});
	check_all();
	anon_kernel_set((struct anon_kernel){0});
}

static void test_mergeable_tables_moved(void **state)
{
	(void)state;
	anon_kernel_set((struct anon_kernel){.no_table_reclaim = true, .mergeable = true});
	check_all();
	anon_kernel_set((struct anon_kernel){0});
}

/* Blocks that a read of closed memory maps by small pages look like those that have a page table. */
static void check_moved(struct anon_rig *r, uint64_t first, uint64_t count)
{
	char *at = r->memory + first * BLOCK;

	if (count)
		assert_int_equal(madvise(at, count * BLOCK, MADV_NOHUGEPAGE), 0);
	anon_moved_bytes();
	assert_int_equal(rig_open(r, 0, SIZE), 0);
	assert_int_equal(anon_moved_bytes(), count * BLOCK);
	if (count)
		assert_int_equal(madvise(at, count * BLOCK, MADV_HUGEPAGE), 0);
	touch(r, 0, SIZE);
	check_huge(r, PATTERN_ALL, "some tables moved");
	do_pattern(r, PATTERN_ALL, false);
}

/* In mergeable memory a move costs by the page: only tables that are there are moved. */
static void test_only_tables_are_moved(void **state)
{
	struct anon_rig r;

	(void)state;
	if (huge_without_guard() < SIZE)
		skip();
	anon_kernel_set((struct anon_kernel){.no_table_reclaim = true, .mergeable = true});
	start(&r, 0);
	/* One page was used to make it one mapping, and may have left a table. */
	assert_int_equal(rig_open(&r, 0, BLOCK), 0);
	assert_int_equal(rig_close(&r, 0, BLOCK), 0);
	assert_int_equal(rig_discard(&r, 0, BLOCK), 0);
	check_moved(&r, 0, 0); /* never used */
	check_moved(&r, 0, 0); /* used in huge pages */
	assert_true(rig_is_zero(&r, 0, SIZE));
	check_moved(&r, 0, 0); /* read */
	check_moved(&r, 5, 1);
	check_moved(&r, BLOCKS - 1, 1);
	check_moved(&r, 0, BLOCKS);
	rig_end(&r);
	anon_kernel_set((struct anon_kernel){0});
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kernel_frees_tables),
		cmocka_unit_test(test_tables_moved),
		cmocka_unit_test(test_mergeable_tables_moved),
		cmocka_unit_test(test_only_tables_are_moved),
	};

	if (!rig_can_count())
		return 77;
	return cmocka_run_group_tests_name("pages_anon_huge", tests, NULL, NULL);
}
