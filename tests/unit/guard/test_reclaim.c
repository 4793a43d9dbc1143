/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pages of granted blocks that are given back to the host: guard.h, vmem_guard_reclaim() and I8,
 * for private memory, and for each kind of file that this machine has.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vmem/guard.h>

#include "base/num.h"
#include "guard/lend.h"
#include "tests/unit/guard/file_rig.h"
#include "tests/unit/guard/guard_rig.h"

/* ---- files ---- */

static int rig_reclaim(struct rig *rig, uint64_t offset, uint64_t size)
{
	return rig->pages->ops->reclaim(rig->pages, offset, size);
}

/* Write into the first and the last page of blocks [first, end). */
static void rig_write(struct rig *rig, uint64_t first, uint64_t end, unsigned char value)
{
	for (uint64_t i = first; i < end; i++) {
		assert_true(rig_poke(rig, i, 0, value));
		assert_true(rig_poke(rig, i, rig->block - 1, value));
	}
}

static void rig_check_content(const struct rig *rig, uint64_t first, uint64_t end, int value)
{
	for (uint64_t i = first; i < end; i++) {
		assert_int_equal(rig_peek(rig, i, 0), value);
		assert_int_equal(rig_peek(rig, i, rig->block - 1), value);
	}
}

/* A page goes, reads as zeros, and can be written again; its neighbours stay. */
static void pages_come_back(struct rig *rig)
{
	uint64_t page = rig->pages->page, held;

	assert_int_equal(page, rig->kind->page);
	assert_int_equal(rig_open(rig, 0, 6), 0);
	rig_write(rig, 0, 6, 7);
	held = rig_held(rig);
	/* The first page of block 1, all of block 3. */
	assert_int_equal(rig_reclaim(rig, rig->block, page), 0);
	assert_int_equal(rig_reclaim(rig, 3 * rig->block, rig->block), 0);
	assert_in_range(rig_held(rig), 0, held - rig->block);
	assert_int_equal(rig_peek(rig, 1, 0), 0);
	if (page < rig->block)
		assert_int_equal(rig_peek(rig, 1, rig->block - 1), 7);
	rig_check_content(rig, 0, 1, 7);
	rig_check_content(rig, 2, 3, 7);
	rig_check_content(rig, 3, 4, 0);
	rig_check_content(rig, 4, 6, 7);
	rig_write(rig, 0, 6, 9);
	rig_check_content(rig, 0, 6, 9);
	/* What was never open stays closed. */
	rig_check_closed(rig, 6, rig->blocks - 6);
	/* Open already: nothing changes. */
	assert_int_equal(rig_open(rig, 0, 6), 0);
	rig_check_content(rig, 0, 6, 9);
}

/* Blocks of which pages are gone are closed as any other, and whole when they are opened. */
static void blocks_are_closed_as_ever(struct rig *rig)
{
	uint64_t page = rig->pages->page;

	assert_int_equal(rig_open(rig, 0, rig->blocks), 0);
	rig_write(rig, 0, rig->blocks, 7);
	for (uint64_t i = 1; i < rig->blocks; i += 2)
		assert_int_equal(rig_reclaim(rig, i * rig->block, page), 0);
	assert_int_equal(rig_close(rig, 1, 2), 0);
	assert_int_equal(rig_discard(rig, 1, 2), 0);
	rig_check_closed(rig, 1, 2);
	rig_check_content(rig, 0, 1, 7);
	assert_int_equal(rig_peek(rig, 3, 0), 0);
	assert_int_equal(rig_open(rig, 1, 1), 0);
	rig_check_content(rig, 1, 2, 0);
	rig_check_closed(rig, 2, 1);
	assert_int_equal(rig_close(rig, 0, rig->blocks), 0);
	assert_int_equal(rig_discard(rig, 0, rig->blocks), 0);
	rig_check_closed(rig, 0, rig->blocks);
	rig_check_held(rig, 0);
	if (!rig_fenced(rig) && page == PAGE)
		assert_int_equal(rig_ranges(rig), 1);
}

/* As many runs as there may be fences, and then no more: for the kinds that have runs. */
static void runs_are_bounded(struct rig *rig)
{
	uint64_t page = rig->pages->page;

	if (rig_fenced(rig) || page > PAGE)
		return;
	assert_int_equal(rig_open(rig, 0, rig->blocks), 0);
	rig_write(rig, 0, rig->blocks, 7);
	assert_int_equal(rig_reclaim(rig, 0, page), 0);
	assert_int_equal(rig_reclaim(rig, 2 * rig->block, page), 0);
	assert_int_equal(rig_reclaim(rig, 4 * rig->block, page), -ENOMEM);
	rig_check_content(rig, 4, 5, 7);
	/* One run of all three; another. */
	assert_int_equal(rig_reclaim(rig, rig->block, page), 0);
	assert_int_equal(rig_reclaim(rig, 5 * rig->block, page), 0);
	assert_int_equal(rig_reclaim(rig, 7 * rig->block, page), -ENOMEM);
	/* The first would become two: it gets its pages back. */
	assert_int_equal(rig_discard(rig, 1, 1), 0);
	rig_check_closed(rig, 1, 1);
	rig_write(rig, 0, 1, 8);
	rig_write(rig, 2, rig->blocks, 8);
	rig_check_content(rig, 0, 1, 8);
	rig_check_content(rig, 2, rig->blocks, 8);
	assert_in_range(rig_ranges(rig), 1, 5);
	assert_int_equal(rig_discard(rig, 0, rig->blocks), 0);
	rig_check_closed(rig, 0, rig->blocks);
	rig_check_held(rig, 0);
	assert_int_equal(rig_ranges(rig), 1);
	/* And all of the budget is there again. */
	assert_int_equal(rig_open(rig, 0, rig->blocks), 0);
	assert_int_equal(rig_reclaim(rig, 0, page), 0);
	assert_int_equal(rig_reclaim(rig, 2 * rig->block, page), 0);
}

/* The same for huge pages, of which no place that was divided is ever one again. */
static void places_are_bounded(struct rig *rig)
{
	if (rig_fenced(rig) || rig->pages->page == PAGE)
		return;
	assert_int_equal(rig_open(rig, 0, rig->blocks), 0);
	rig_write(rig, 0, rig->blocks, 7);
	/* Before blocks 3 and 6, and two more are left. */
	assert_int_equal(rig_reclaim(rig, 3 * rig->block, 3 * rig->block), 0);
	assert_int_equal(rig_discard(rig, 4, 1), 0);
	assert_int_equal(rig_ranges(rig), 5);
	assert_int_equal(rig_reclaim(rig, 7 * rig->block, rig->block), -ENOMEM);
	rig_check_content(rig, 6, 8, 7);
	assert_int_equal(rig_reclaim(rig, 0, 3 * rig->block), 0);
	/* Nor can a block be taken out of the middle: the others get their pages back. */
	assert_int_equal(rig_discard(rig, 1, 1), 0);
	rig_check_closed(rig, 1, 1);
	rig_check_closed(rig, 4, 1);
	assert_int_equal(rig_ranges(rig), 5);
	rig_check_held(rig, rig->blocks - 3);
	rig_write(rig, 0, 1, 8);
	rig_write(rig, 2, 4, 8);
	rig_write(rig, 5, rig->blocks, 8);
	assert_int_equal(rig_discard(rig, 0, rig->blocks), 0);
	rig_check_closed(rig, 0, rig->blocks);
	rig_check_held(rig, 0);
}

/* A hole that fails loses no more than its content; a discard that fails can be undone. */
static void failures_leave_it_open(struct rig *rig)
{
	uint64_t page = rig->pages->page;

	assert_int_equal(rig_open(rig, 0, rig->blocks), 0);
	rig_write(rig, 0, rig->blocks, 7);
	rig_calls.error = EIO;
	rig_calls.fail_for = 1;
	rig_calls.fail_at = rig_calls.all + 1;
	assert_int_equal(rig_reclaim(rig, rig->block, page), -EIO);
	rig_write(rig, 0, rig->blocks, 8);
	rig_calls.fail_at = 0;
	assert_int_equal(rig_reclaim(rig, rig->block, page), 0);
	assert_int_equal(rig_reclaim(rig, 3 * rig->block, page), 0);
	assert_int_equal(rig_close(rig, 0, 4), 0);
	rig_calls.fail_at = rig_calls.all + 1;
	assert_int_equal(rig_discard(rig, 0, 4), -EIO);
	rig_calls.fail_at = 0;
	/* The owner grants it again: all of it can be used. */
	assert_int_equal(rig_open(rig, 0, 4), 0);
	rig_write(rig, 0, rig->blocks, 9);
	rig_check_content(rig, 0, rig->blocks, 9);
	assert_int_equal(rig_close(rig, 0, rig->blocks), 0);
	assert_int_equal(rig_discard(rig, 0, rig->blocks), 0);
	rig_check_closed(rig, 0, rig->blocks);
	rig_check_held(rig, 0);
}

/* Somebody else cannot have its faults: they would meet holes. */
static void holes_are_not_lent(struct rig *rig)
{
	bool loose = !rig_fenced(rig);
	int lent;

	assert_int_equal(rig_open(rig, 0, 4), 0);
	lent = rig->pages->ops->lend(rig->pages, 0, rig->block);
	if (!lent)
		assert_int_equal(rig->pages->ops->take_back(rig->pages, 0, rig->block), 0);
	assert_int_equal(rig_reclaim(rig, 0, rig->pages->page), 0);
	if (loose)
		assert_int_equal(rig->pages->ops->lend(rig->pages, 0, 2 * rig->block), -EOPNOTSUPP);
}

static void test_pages_of_files_come_back(void **state)
{
	(void)state;
	rig_each(8, 64, pages_come_back);
}

static void test_blocks_of_files_are_closed_as_ever(void **state)
{
	(void)state;
	rig_each(8, 64, blocks_are_closed_as_ever);
}

static void test_runs_are_bounded(void **state)
{
	(void)state;
	rig_each(8, 2, runs_are_bounded);
	rig_each(8, 2, places_are_bounded);
}

static void test_failures(void **state)
{
	(void)state;
	rig_each(6, 64, failures_leave_it_open);
}

static void test_holes_are_not_lent(void **state)
{
	(void)state;
	rig_each(4, 64, holes_are_not_lent);
}

/* ---- the guard, over private memory ---- */

static uint64_t reclaim(struct host *h, uint64_t offset, uint64_t size)
{
	uint64_t bytes = 1;

	assert_int_equal(vmem_guard_reclaim(h->guard, offset, size, &bytes), 0);
	return bytes;
}

/* Granted pages go and come back; slots, and what is closed, stay. */
static void test_granted_pages_come_back(void **state)
{
	struct vmem_guard_info before, after;
	struct host h;

	(void)state;
	host_start(&h, 8 * MIB, MIB, 4 * MIB);
	assert_int_equal(vmem_guard_grant(h.guard, MIB, 2 * MIB), 0);
	memset(h.memory + MIB, 7, 2 * MIB);
	vmem_guard_info(h.guard, &before);
	assert_int_equal(reclaim(&h, MIB + 4 * PAGE, 8 * PAGE), 8 * PAGE);
	assert_int_equal(host_pages(&h, MIB + 4 * PAGE, 8 * PAGE), 0);
	assert_int_equal(host_pages(&h, MIB, 2 * MIB), 2 * MIB / PAGE - 8);
	assert_int_equal(host_peek(&h, MIB + 4 * PAGE), 0);
	assert_int_equal(host_peek(&h, MIB + 3 * PAGE), 7);
	assert_int_equal(host_peek(&h, MIB + 12 * PAGE), 7);
	assert_int_equal(host_poke(&h, MIB + 4 * PAGE), 0);
	/* Over everything: what is not granted has no part in it. */
	assert_int_equal(reclaim(&h, 0, 8 * MIB), 2 * MIB);
	assert_int_equal(host_pages(&h, 0, 8 * MIB), 0);
	assert_int_equal(host_poke(&h, 0), -EFAULT);
	assert_int_equal(host_poke(&h, 3 * MIB), -EFAULT);
	assert_int_equal(host_poke(&h, MIB), 0);
	assert_int_equal(reclaim(&h, 4 * MIB, 4 * MIB), 0);
	vmem_guard_info(h.guard, &after);
	assert_memory_equal(&before, &after, sizeof(before));
	check_count(&h, 1);
	assert_int_equal(vmem_guard_revoke(h.guard, 0, 8 * MIB), 0);
	assert_int_equal(vmem_guard_discard(h.guard, 0, 8 * MIB), 0);
	host_end(&h);
}

/* Between revoke and discard a block keeps its content, and nobody takes it. */
static void test_revoked_blocks_keep_their_content(void **state)
{
	struct host h;

	(void)state;
	host_start(&h, 4 * MIB, MIB, 4 * MIB);
	assert_int_equal(vmem_guard_grant(h.guard, 0, 4 * MIB), 0);
	memset(h.memory, 7, 4 * MIB);
	assert_int_equal(vmem_guard_revoke(h.guard, MIB, MIB), 0);
	assert_int_equal(reclaim(&h, 0, 4 * MIB), 3 * MIB);
	assert_int_equal(vmem_guard_grant(h.guard, MIB, MIB), 0);
	assert_int_equal(host_peek(&h, MIB), 7);
	assert_int_equal(host_peek(&h, 2 * MIB), 0);
	host_end(&h);
}

/* Scattered blocks, protected page by page where the kernel can do that. */
static void test_armed_segments(void **state)
{
	enum { BLOCKS = 4096 };
	struct vmem_guard_info before, after;
	struct host h;

	(void)state;
	host_start(&h, (uint64_t)BLOCKS * PAGE, PAGE, (uint64_t)BLOCKS * PAGE);
	assert_int_equal(vmem_guard_grant(h.guard, 0, (uint64_t)BLOCKS * PAGE), 0);
	for (uint64_t i = 0; i < BLOCKS; i += 2) {
		assert_int_equal(vmem_guard_revoke(h.guard, i * PAGE, PAGE), 0);
		assert_int_equal(vmem_guard_discard(h.guard, i * PAGE, PAGE), 0);
		h.memory[(i + 1) * PAGE] = 7;
	}
	vmem_guard_info(h.guard, &before);
	if (strchr(before.mechanism, '+'))
		assert_int_equal(before.armed_segments, 1);
	assert_int_equal(reclaim(&h, 100 * PAGE, 1000 * PAGE), 500 * PAGE);
	assert_int_equal(host_pages(&h, 100 * PAGE, 1000 * PAGE), 0);
	assert_int_equal(host_pages(&h, 0, (uint64_t)BLOCKS * PAGE), BLOCKS / 2 - 500);
	for (uint64_t i = 0; i < BLOCKS; i += 2) {
		bool taken = i >= 100 && i < 1100;

		assert_int_equal(host_poke(&h, i * PAGE), -EFAULT);
		assert_int_equal(host_peek(&h, (i + 1) * PAGE), taken ? 0 : 7);
		assert_int_equal(host_poke(&h, (i + 1) * PAGE), 0);
	}
	vmem_guard_info(h.guard, &after);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_int_equal(vmem_guard_revoke(h.guard, 0, (uint64_t)BLOCKS * PAGE), 0);
	assert_int_equal(vmem_guard_discard(h.guard, 0, (uint64_t)BLOCKS * PAGE), 0);
	assert_int_equal(host_pages(&h, 0, (uint64_t)BLOCKS * PAGE), 0);
	host_end(&h);
}

static int drop_nothing(void *opaque, uint64_t offset, uint64_t size)
{
	(void)opaque;
	(void)offset;
	(void)size;
	return 0;
}

static void test_what_is_refused(void **state)
{
	const struct guard_borrower borrower = {.drop = drop_nothing};
	const struct range bad[] = {
		{PAGE, 0},
		{1, PAGE},
		{0, PAGE + 1},
		{4 * MIB, PAGE},
		{0, 5 * MIB},
		{UINT64_MAX - 4095, PAGE},
		{PAGE, UINT64_MAX - 4095},
	};
	uint64_t bytes;
	struct host h;

	(void)state;
	host_start(&h, 4 * MIB, MIB, 4 * MIB);
	assert_int_equal(vmem_guard_grant(h.guard, 0, 4 * MIB), 0);
	h.memory[0] = 7;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(vmem_guard_reclaim(h.guard, bad[i].start, bad[i].size, &bytes),
				 -EINVAL);
	/* Content that is on its way would come back. */
	assert_int_equal(guard_borrow(h.guard, &borrower), 0);
	assert_int_equal(vmem_guard_reclaim(h.guard, 0, PAGE, &bytes), -EBUSY);
	assert_int_equal(bytes, 0);
	assert_int_equal(h.memory[0], 7);
	assert_int_equal(guard_borrow(h.guard, NULL), 0);
	assert_int_equal(reclaim(&h, 0, PAGE), PAGE);
	host_end(&h);
}

/* Without protection only granted blocks are taken as well. */
static void test_unprotected(void **state)
{
	struct vmem_guard_config config = {.size = 4 * MIB,
					   .block_size = MIB,
					   .memslot_size = 4 * MIB,
					   .fd = -1,
					   .unprotected = true};
	struct host h;

	(void)state;
	config.memory = host_map(config.size, -1, 0);
	assert_int_equal(host_start_on(&h, &config), 0);
	assert_int_equal(vmem_guard_grant(h.guard, MIB, MIB), 0);
	memset(h.memory, 7, 4 * MIB);
	assert_int_equal(reclaim(&h, 0, 4 * MIB), MIB);
	assert_int_equal(host_peek(&h, 0), 7);
	assert_int_equal(host_peek(&h, MIB), 0);
	assert_int_equal(host_peek(&h, 2 * MIB), 7);
	host_end(&h);
}

static int restore(void **state)
{
	(void)state;
	rig_pool_restore();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages_of_files_come_back),
		cmocka_unit_test(test_blocks_of_files_are_closed_as_ever),
		cmocka_unit_test(test_runs_are_bounded),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_holes_are_not_lent),
		cmocka_unit_test(test_granted_pages_come_back),
		cmocka_unit_test(test_revoked_blocks_keep_their_content),
		cmocka_unit_test(test_armed_segments),
		cmocka_unit_test(test_what_is_refused),
		cmocka_unit_test(test_unprotected),
	};

	return cmocka_run_group_tests_name("guard: pages taken back", tests, NULL, restore);
}
