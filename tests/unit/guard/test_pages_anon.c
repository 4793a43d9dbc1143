/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Private anonymous memory that is closed block by block: what open and closed blocks take and give,
 * what it costs in mappings, and what becomes of segments that are too scattered.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "anon_rig.h"
#include "base/num.h"

/* Closed blocks read as zeros, hold nothing, and take nothing, whoever writes. */
static void check_closed(const struct anon_rig *r, uint64_t offset, uint64_t size)
{
	assert_true(rig_is_closed(r, offset, size));
	assert_int_equal(rig_pages(r, offset, size), 0);
	assert_true(rig_is_zero(r, offset, size));
	assert_true(rig_is_closed(r, offset, size));
	assert_int_equal(rig_pages(r, offset, size), 0);
}

static void check_life(uint64_t block)
{
	struct anon_rig r;

	rig_start(&r, 8 * block, block, 4 * block, 0);
	check_closed(&r, 0, 8 * block);
	assert_int_equal(rig_open(&r, 2 * block, 3 * block), 0);
	check_closed(&r, 0, 2 * block);
	check_closed(&r, 5 * block, 3 * block);
	assert_true(rig_is_zero(&r, 2 * block, 3 * block));
	memset(r.memory + 2 * block, 0x5a, 3 * block);
	assert_int_equal(rig_pages(&r, 2 * block, 3 * block), 3 * block / PAGE);
	assert_int_equal(r.pages->fences, 2);
	assert_int_equal(rig_mappings(&r), 3);

	/* Closed with its content, and open again with it. */
	assert_int_equal(rig_close(&r, 3 * block, block), 0);
	assert_true(rig_is_closed(&r, 3 * block, block));
	assert_int_equal(r.memory[4 * block - 1], 0x5a);
	assert_int_equal(rig_poke(&r, 3 * block - 1, 0x5a), 0);
	assert_int_equal(rig_poke(&r, 4 * block, 0x5a), 0);
	assert_int_equal(r.pages->fences, 3);
	assert_int_equal(rig_open(&r, 3 * block, block), 0);
	assert_int_equal(r.memory[3 * block], 0x5a);
	assert_int_equal(rig_poke(&r, 3 * block, 0x5a), 0);

	assert_int_equal(rig_close(&r, 3 * block, block), 0);
	assert_int_equal(rig_discard(&r, 3 * block, block), 0);
	check_closed(&r, 3 * block, block);
	for (uint64_t at = 2 * block; at < 5 * block; at += PAGE)
		assert_int_equal(r.memory[at], at / block == 3 ? 0 : 0x5a);
	assert_int_equal(rig_mappings(&r), 5);
	rig_end(&r);
}

static void test_life_of_blocks(void **state)
{
	(void)state;
	check_life(4 * KIB);
	check_life(64 * KIB);
	check_life(2 * MIB);
}

/* Of 1 GiB blocks just some pages are used: the machine need not have that much memory. */
static void test_large_blocks(void **state)
{
	struct anon_rig r;

	(void)state;
	rig_start(&r, 4 * GIB, GIB, GIB, 0);
	madvise(r.memory, 4 * GIB, MADV_NOHUGEPAGE);
	assert_int_equal(rig_open(&r, GIB, GIB), 0);
	for (uint64_t at = GIB; at < 2 * GIB; at += 128 * MIB)
		r.memory[at] = r.memory[at + 128 * MIB - 1] = 1;
	assert_int_equal(rig_pages(&r, GIB, GIB), 16);
	assert_int_equal(rig_poke(&r, GIB - 1, 1), -EFAULT);
	assert_int_equal(rig_poke(&r, 2 * GIB, 1), -EFAULT);
	assert_int_equal(rig_close(&r, GIB, GIB), 0);
	assert_int_equal(rig_poke(&r, GIB, 1), -EFAULT);
	assert_int_equal(rig_discard(&r, GIB, GIB), 0);
	assert_int_equal(rig_pages(&r, 0, 4 * GIB), 0);
	assert_int_equal(rig_open(&r, GIB, GIB), 0);
	assert_int_equal(r.memory[GIB], 0);
	rig_end(&r);
}

/* Runs that are open, closed or discarded already, in part or as a whole. */
static void test_again(void **state)
{
	const uint64_t block = 64 * KIB;
	struct anon_rig r;

	(void)state;
	rig_start(&r, 16 * block, block, 4 * block, 0);
	assert_int_equal(rig_close(&r, 0, 16 * block), 0);
	assert_int_equal(rig_discard(&r, 0, 16 * block), 0);
	assert_int_equal(rig_open(&r, 4 * block, 4 * block), 0);
	memset(r.memory + 4 * block, 7, 4 * block);
	/* Open blocks keep their content when more is opened, or closed ones are discarded. */
	assert_int_equal(rig_open(&r, 2 * block, 10 * block), 0);
	assert_int_equal(rig_discard(&r, 0, 16 * block), 0);
	for (uint64_t i = 2; i < 12; i++)
		assert_int_equal(r.memory[i * block], i >= 4 && i < 8 ? 7 : 0);
	assert_int_equal(rig_close(&r, 0, 6 * block), 0);
	assert_int_equal(rig_close(&r, 0, 6 * block), 0);
	/* What is closed and not discarded comes back with content, the rest fresh. */
	assert_int_equal(rig_open(&r, 0, 16 * block), 0);
	for (uint64_t i = 0; i < 16; i++)
		assert_int_equal(r.memory[i * block], i >= 4 && i < 8 ? 7 : 0);
	assert_int_equal(r.pages->fences, 0);
	assert_int_equal(rig_mappings(&r), 1);
	assert_int_equal(rig_open(&r, 0, 0), 0);
	assert_int_equal(rig_close(&r, 0, 0), 0);
	assert_int_equal(rig_discard(&r, 0, 0), 0);
	rig_end(&r);
}

/* In an order in which hardly ever two neighbours follow each other. */
static void test_mappings_merge_again(void **state)
{
	enum { BLOCKS = 1024 };
	const uint64_t block = 2 * MIB;
	struct anon_rig r;

	(void)state;
	rig_start(&r, BLOCKS * block, block, BLOCKS * block, 0);
	assert_int_equal(r.mappings, 1);
	madvise(r.memory, BLOCKS * block, MADV_NOHUGEPAGE);
	for (unsigned int step = 0; step < 2; step++) {
		for (uint64_t i = 0; i < BLOCKS; i++) {
			uint64_t at = (i * 373 + step) % BLOCKS;

			if (at % 2 == 1)
				continue;
			assert_int_equal(rig_open(&r, at * block, block), 0);
			r.memory[at * block] = 1;
		}
		assert_int_equal(r.pages->fences, BLOCKS / 2);
		assert_int_equal(rig_mappings(&r), BLOCKS);
		if (step)
			assert_int_equal(rig_open(&r, 0, BLOCKS * block), 0);
		for (uint64_t i = 0; i < BLOCKS; i++) {
			uint64_t at = i * 373 % BLOCKS;

			assert_int_equal(rig_close(&r, at * block, block), 0);
			assert_int_equal(rig_discard(&r, at * block, block), 0);
		}
		assert_int_equal(r.pages->fences, 1);
		assert_int_equal(rig_mappings(&r), 1);
	}
	assert_int_equal(r.pages->armed_segments, 0);
	rig_end(&r);
}

/* ---- armed segments ---- */

static void test_short_of_fences_arms(void **state)
{
	const uint64_t block = 64 * KIB, segment = 16 * block;
	struct anon_rig r;

	(void)state;
	if (!rig_can_arm())
		skip();
	rig_start(&r, 4 * segment, block, segment, 5);
	rig_checkerboard(&r, 16, 8);
	assert_int_equal(r.pages->armed_segments, 0);
	rig_checkerboard(&r, 24, 8);
	assert_int_equal(r.pages->armed_segments, 1);
	/* Fences on both sides of the armed one, and no more than three mappings for its blocks. */
	assert_int_equal(r.pages->fences, 2);
	assert_int_equal(rig_mappings(&r), 3);
	for (uint64_t i = 16; i < 32; i++) {
		if (i % 2 == 0) {
			check_closed(&r, i * block, block);
			continue;
		}
		memset(r.memory + i * block, (int)i, block);
		assert_int_equal(rig_poke(&r, i * block, (uint8_t)i), 0);
	}
	/* In an armed segment blocks come and go, and keep their content where they should. */
	assert_int_equal(rig_close(&r, 17 * block, block), 0);
	assert_true(rig_is_closed(&r, 17 * block, block));
	assert_int_equal(r.memory[17 * block], 17);
	assert_int_equal(rig_open(&r, 16 * block, 2 * block), 0);
	assert_int_equal(rig_mappings(&r), 3);
	assert_int_equal(r.memory[17 * block], 17);
	assert_int_equal(rig_poke(&r, 17 * block, 17), 0);
	assert_int_equal(rig_poke(&r, 16 * block, 16), 0);
	assert_int_equal(rig_close(&r, 16 * block, 3 * block), 0);
	assert_int_equal(rig_discard(&r, 16 * block, 3 * block), 0);
	check_closed(&r, 16 * block, 3 * block);
	assert_int_equal(r.memory[19 * block], 19);
	assert_int_equal(rig_poke(&r, 19 * block, 19), 0);
	assert_int_equal(rig_mappings(&r), 3);
	/* With its last open block gone it is plain again. */
	assert_int_equal(rig_close(&r, segment, segment), 0);
	assert_int_equal(r.pages->armed_segments, 1);
	assert_int_equal(rig_discard(&r, segment, segment), 0);
	assert_int_equal(r.pages->armed_segments, 0);
	assert_int_equal(r.pages->fences, 1);
	assert_int_equal(rig_mappings(&r), 1);
	check_closed(&r, 0, 4 * segment);
	rig_end(&r);
}

/* One segment is scattered beyond what mappings are worth: others keep their fences. */
static void test_one_scattered_segment_arms(void **state)
{
	struct anon_rig r;

	(void)state;
	if (!rig_can_arm())
		skip();
	rig_start(&r, 8 * MIB, PAGE, 2 * MIB, 10000);
	rig_checkerboard(&r, 0, 20);
	assert_int_equal(r.pages->armed_segments, 0);
	assert_int_equal(r.pages->fences, 11);
	rig_checkerboard(&r, 512, 512);
	assert_int_equal(r.pages->armed_segments, 1);
	assert_int_equal(r.pages->fences, 12);
	for (uint64_t i = 512; i < 1024; i += 2)
		check_closed(&r, i * PAGE, PAGE);
	/* Closed one by one, with the last one it is plain. */
	for (uint64_t i = 513; i < 1024; i += 2) {
		r.memory[i * PAGE] = 1;
		assert_int_equal(r.pages->armed_segments, 1);
		assert_int_equal(rig_close(&r, i * PAGE, PAGE), 0);
		assert_int_equal(rig_discard(&r, i * PAGE, PAGE), 0);
		check_closed(&r, i * PAGE, PAGE);
	}
	assert_int_equal(r.pages->armed_segments, 0);
	rig_end(&r);
}

/* Blocks that are closed but not discarded yet when their segment is armed. */
static void test_arming_keeps_content(void **state)
{
	const uint64_t block = 64 * KIB;
	struct anon_rig r;

	(void)state;
	if (!rig_can_arm())
		skip();
	rig_start(&r, 64 * block, block, 32 * block, 3);
	assert_int_equal(rig_open(&r, 4 * block, 8 * block), 0);
	memset(r.memory + 4 * block, 0x3c, 8 * block);
	assert_int_equal(rig_close(&r, 6 * block, 2 * block), 0);
	assert_int_equal(r.pages->armed_segments, 0);
	assert_int_equal(rig_open(&r, 14 * block, block), 0);
	assert_int_equal(r.pages->armed_segments, 1);
	assert_true(rig_is_closed(&r, 6 * block, 2 * block));
	assert_int_equal(rig_pages(&r, 6 * block, 2 * block), 2 * block / PAGE);
	check_closed(&r, 0, 4 * block);
	check_closed(&r, 12 * block, 2 * block);
	check_closed(&r, 15 * block, 49 * block);
	/* One of them is opened again, the other goes. */
	assert_int_equal(rig_open(&r, 6 * block, block), 0);
	assert_int_equal(rig_discard(&r, 6 * block, 2 * block), 0);
	check_closed(&r, 7 * block, block);
	for (uint64_t i = 4; i < 12; i++) {
		assert_int_equal(r.memory[i * block], i == 7 ? 0 : 0x3c);
		assert_int_equal(rig_poke(&r, i * block, 0x3c), i == 7 ? -EFAULT : 0);
	}
	rig_end(&r);
}

/* All of a device whose segments are all armed goes in one step: no fence for each run of it. */
static void test_unplug_all_of_armed_segments(void **state)
{
	enum { SEGMENTS = 8, BLOCKS = 64 };
	struct anon_rig r;

	(void)state;
	if (!rig_can_arm())
		skip();
	rig_start(&r, SEGMENTS * BLOCKS * PAGE, PAGE, BLOCKS * PAGE, 4);
	rig_checkerboard(&r, 0, SEGMENTS * BLOCKS);
	assert_int_equal(r.pages->armed_segments, SEGMENTS);
	assert_int_equal(rig_mappings(&r), 1);
	/* Nearly all: the first and the last segment keep a block. */
	assert_int_equal(rig_close(&r, 4 * PAGE, (SEGMENTS * BLOCKS - 8) * PAGE), 0);
	assert_true(rig_mappings(&r) <= 5);
	assert_true(rig_is_closed(&r, 4 * PAGE, (SEGMENTS * BLOCKS - 8) * PAGE));
	assert_int_equal(rig_discard(&r, 4 * PAGE, (SEGMENTS * BLOCKS - 8) * PAGE), 0);
	assert_int_equal(r.pages->armed_segments, 2);
	check_closed(&r, 4 * PAGE, (SEGMENTS * BLOCKS - 8) * PAGE);
	assert_int_equal(rig_poke(&r, PAGE, 1), 0);
	rig_end(&r);
}

/* ---- limits ---- */

/* One fence more than there may be is refused, before anything was changed. */
static void test_without_userfaultfd(void **state)
{
	const uint64_t block = 64 * KIB;
	const struct anon_kernel before = anon_kernel_get();
	struct anon_kernel kernel = before;
	struct anon_rig r;

	(void)state;
	kernel.no_userfaultfd = true;
	anon_kernel_set(kernel);
	rig_start(&r, 32 * block, block, 8 * block, 4);
	assert_string_equal(r.pages->mechanism, "mprotect");
	/* Fences at 0, 4 to 8, 12 and from 16 on. */
	assert_int_equal(rig_open(&r, 4 * block, 12 * block), 0);
	memset(r.memory + 4 * block, 1, 12 * block);
	assert_int_equal(rig_close(&r, 6 * block, block), 0);
	assert_int_equal(rig_close(&r, 8 * block, block), 0);
	assert_int_equal(r.pages->fences, 4);
	assert_int_equal(rig_close(&r, 10 * block, 2 * block), -ENOMEM);
	assert_int_equal(rig_open(&r, 20 * block, block), -ENOMEM);
	assert_int_equal(rig_poke(&r, 10 * block, 1), 0);
	assert_int_equal(rig_poke(&r, 11 * block, 1), 0);
	check_closed(&r, 16 * block, 16 * block);
	/* What takes no further one goes on: a fence grows, shrinks, moves. */
	assert_int_equal(rig_close(&r, 7 * block, block), 0);
	assert_int_equal(r.pages->fences, 3);
	assert_int_equal(rig_close(&r, 10 * block, 2 * block), 0);
	assert_int_equal(rig_open(&r, 16 * block, 2 * block), 0);
	assert_int_equal(r.pages->fences, 4);
	anon_kernel_set(before);
	rig_end(&r);
}

/* A guest that scatters over all segments comes to an end, and can go back from there. */
static void test_mappings_are_bounded(void **state)
{
	enum { SEGMENTS = 512, BUDGET = 8 };
	const uint64_t segment = 16 * PAGE;
	unsigned int refused = 0;
	struct anon_rig r;

	(void)state;
	rig_start(&r, SEGMENTS * segment, PAGE, segment, BUDGET);
	for (uint64_t i = 0; i < SEGMENTS; i += 2) {
		int ret = rig_open(&r, i * segment + 4 * PAGE, PAGE);

		assert_true(ret == 0 || ret == -ENOMEM);
		assert_int_equal(rig_poke(&r, i * segment + 4 * PAGE, 1), ret ? -EFAULT : 0);
		refused += ret != 0;
	}
	assert_in_range(refused, 1, SEGMENTS);
	assert_true(rig_mappings(&r) <= 2 * (BUDGET + BUDGET / 2 + 64) + 1);
	/* Closing what is open takes no room. */
	for (uint64_t i = 0; i < SEGMENTS; i += 2)
		assert_int_equal(rig_close(&r, i * segment + 4 * PAGE, PAGE), 0);
	assert_int_equal(rig_discard(&r, 0, SEGMENTS * segment), 0);
	assert_int_equal(rig_open(&r, 300 * segment, segment), 0);
	rig_end(&r);
}

/* The process may not have more writable memory: the block stays closed, nothing else changes. */
static void test_limit_of_the_process(void **state)
{
	const uint64_t block = 64 * MIB;
	struct rlimit before, limit;
	struct anon_rig r;

	(void)state;
	rig_start(&r, 4 * block, block, block, 0);
	assert_int_equal(rig_open(&r, 0, block), 0);
	r.memory[0] = 9;
	assert_int_equal(getrlimit(RLIMIT_DATA, &before), 0);
	limit = before;
	limit.rlim_cur = rig_status_bytes("VmData") + 8 * MIB;
	assert_int_equal(setrlimit(RLIMIT_DATA, &limit), 0);
	assert_int_equal(rig_open(&r, 2 * block, block), -ENOMEM);
	assert_int_equal(setrlimit(RLIMIT_DATA, &before), 0);
	assert_int_equal(rig_poke(&r, 2 * block, 1), -EFAULT);
	assert_int_equal(rig_poke(&r, 3 * block - 1, 1), -EFAULT);
	assert_int_equal(r.memory[0], 9);
	assert_int_equal(rig_open(&r, 2 * block, block), 0);
	assert_int_equal(rig_poke(&r, 2 * block, 1), 0);
	rig_end(&r);
}

/* Reads would take memory where there is no huge zero page: no protection, and a word on it. */
static void test_no_huge_zero_page(void **state)
{
	struct pages_config config = {
		.block_size = PAGE, .segment_size = PAGE, .size = PAGE, .fd = -1};
	struct vmem_error error = {""};
	const struct anon_kernel before = anon_kernel_get();
	struct pages *pages = NULL;

	(void)state;
	anon_kernel_set((struct anon_kernel){.no_huge_zero_page = true});
	assert_int_equal(pages_anon_new(&config, &pages, &error), -EOPNOTSUPP);
	anon_kernel_set(before);
	assert_null(pages);
	assert_non_null(strstr(error.text, "transparent_hugepage/use_zero_page"));
}

/* 16 TiB of which hardly anything is used, and all of it taken back again and again. */
static void test_a_huge_region(void **state)
{
	const uint64_t size = 16 * TIB;
	uint64_t memory, tables;
	struct anon_rig r;
	char *room = mmap(NULL, size + 4 * MIB, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	(void)state;
	if (room == MAP_FAILED) {
		print_message("this process may not have 16 TiB of addresses\n");
		skip();
	}
	munmap(room, size + 4 * MIB);
	memory = rig_status_bytes("VmRSS");
	tables = rig_status_bytes("VmPTE");
	rig_start(&r, size, 4 * KIB, GIB, 0);
	for (unsigned int i = 0; i < 100; i++) {
		uint64_t at = i * 37 * (GIB + 12 * KIB);

		assert_int_equal(rig_open(&r, at, 4 * KIB), 0);
		assert_int_equal(rig_open(&r, size - 4 * KIB, 4 * KIB), 0);
		r.memory[at] = r.memory[size - 1] = 1;
		assert_int_equal(rig_poke(&r, at + 4 * KIB, 1), -EFAULT);
		assert_int_equal(rig_close(&r, 0, size), 0);
		assert_int_equal(rig_discard(&r, 0, size), 0);
		assert_int_equal(r.memory[at] | r.memory[size - 1], 0);
		assert_int_equal(rig_poke(&r, at, 1), -EFAULT);
	}
	/* Reading left the zero page and tables here and there. */
	assert_int_equal(rig_discard(&r, 0, size), 0);
	assert_true(rig_status_bytes("VmRSS") < memory + 4 * MIB);
	assert_true(rig_status_bytes("VmPTE") < tables + 4 * MIB);
	rig_end(&r);
}

/* ---- both ways to get rid of page tables ---- */

static int without_table_reclaim(void **state)
{
	(void)state;
	anon_kernel_set((struct anon_kernel){.no_table_reclaim = true});
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life_of_blocks),
		cmocka_unit_test(test_large_blocks),
		cmocka_unit_test(test_again),
		cmocka_unit_test(test_mappings_merge_again),
		cmocka_unit_test(test_short_of_fences_arms),
		cmocka_unit_test(test_one_scattered_segment_arms),
		cmocka_unit_test(test_arming_keeps_content),
		cmocka_unit_test(test_unplug_all_of_armed_segments),
		cmocka_unit_test(test_without_userfaultfd),
		cmocka_unit_test(test_mappings_are_bounded),
		cmocka_unit_test(test_limit_of_the_process),
		cmocka_unit_test(test_no_huge_zero_page),
		cmocka_unit_test(test_a_huge_region),
	};

	if (!rig_can_count())
		return 77;
	return cmocka_run_group_tests_name("pages_anon", tests, NULL, NULL) +
	       cmocka_run_group_tests_name("pages_anon_moving_tables", tests, without_table_reclaim,
					   NULL);
}
