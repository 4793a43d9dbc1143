/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Blocks of shared memory and what else the host does with it: huge pages, swap and locked memory,
 * files that somebody else cuts, limits, and pools that run dry.
 */
#include "tests/unit/guard/file_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/num.h"

#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21 /* Linux 5.4 */
#endif

/* Swap that all of the host uses, in KiB. */
static unsigned long swap_used(void)
{
	FILE *f = fopen("/proc/meminfo", "r");
	unsigned long total = 0, unused = 0;
	char line[128];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		sscanf(line, "SwapTotal: %lu", &total);
		sscanf(line, "SwapFree: %lu", &unused);
	}
	fclose(f);
	return total - unused;
}

static void locked_memory(struct rig *rig)
{
	/* Huge pages of a pool are never swapped: the kernel does not lock, but touches them. */
	if (rig->kind->page > 4096)
		return;
	if (mlock2(rig->memory, rig->size, MLOCK_ONFAULT) < 0) {
		print_message("%s: memory cannot be locked here: %s\n", rig->kind->name,
			      strerror(errno));
		return;
	}
	assert_int_equal(rig_open(rig, 0, 2), 0);
	assert_true(rig_poke(rig, 0, 0, 1));
	assert_true(rig_poke(rig, 1, 0, 1));
	assert_int_equal(rig_close(rig, 0, 1), 0);
	assert_int_equal(rig_discard(rig, 0, 1), 0);
	rig_check_held(rig, 1);
	rig_check_closed(rig, 0, 1);
	assert_int_equal(rig_peek(rig, 1, 0), 1);
	rig_check_held(rig, 1);
}

static void test_locked_memory(void **state)
{
	(void)state;
	rig_each(2, 0, locked_memory);
}

/* Where there is swap: a page that is swapped out is not a hole, and goes with its block. */
static void swapped_memory(struct rig *rig)
{
	uint64_t before;

	if (rig->kind->page > 4096 || strcmp(rig->kind->name, "disk") == 0)
		return;
	assert_int_equal(rig_open(rig, 0, 2), 0);
	for (uint64_t b = 0; b < 2; b++)
		for (uint64_t at = 0; at < rig->block; at += 4096)
			assert_true(rig_poke(rig, b, at, 6));
	before = swap_used();
	assert_int_equal(madvise(rig->memory, 2 * rig->block, MADV_PAGEOUT), 0);
	if (swap_used() == before)
		print_message("%s: nothing was swapped out\n", rig->kind->name);
	rig_check_held(rig, 2);
	assert_int_equal(rig_peek(rig, 0, 0), 6);
	assert_int_equal(rig_peek(rig, 0, rig->block - 4096), 6);
	assert_int_equal(madvise(rig->memory, 2 * rig->block, MADV_PAGEOUT), 0);
	assert_int_equal(rig_close(rig, 1, 1), 0);
	assert_int_equal(rig_discard(rig, 1, 1), 0);
	rig_check_held(rig, 1);
	rig_check_closed(rig, 1, 1);
	assert_int_equal(rig_peek(rig, 0, 4096), 6);
	assert_int_equal(rig_open(rig, 1, 1), 0);
	assert_int_equal(rig_peek(rig, 1, 0), 0);
}

static void test_swapped_memory(void **state)
{
	(void)state;
	rig_each(2, 0, swapped_memory);
}

/* KiB of the region that are mapped as huge pages of 2 MiB. */
static unsigned long huge_kib(const char *memory, uint64_t size)
{
	unsigned long start, end, kib = 0, some;
	FILE *f = fopen("/proc/self/smaps", "r");
	bool inside = false;
	char line[512];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx", &start, &end) == 2)
			inside = start >= (uintptr_t)memory && end <= (uintptr_t)memory + size;
		else if (inside && sscanf(line, "ShmemPmdMapped: %lu", &some) == 1)
			kib += some;
	}
	fclose(f);
	return kib;
}

/* Huge pages for memory that asked for them are there, and are there again after each plug. */
static void huge_pages_are_kept(bool no_userfaultfd)
{
	struct pages_config c = {.size = 16 * MIB, .block_size = 2 * MIB, .segment_size = GIB};
	struct pages *pages;
	char *room, *memory;

	c.fd = rig_make_advised_tmpfs();
	if (c.fd < 0)
		skip();
	assert_int_equal(ftruncate(c.fd, (off_t)c.size), 0);
	room = mmap(NULL, c.size + 2 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(room != MAP_FAILED);
	memory = room + (-(uintptr_t)room & (2 * MIB - 1));
	assert_true(mmap(memory, c.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, c.fd, 0) ==
		    memory);
	assert_int_equal(madvise(memory, c.size, MADV_HUGEPAGE), 0);
	c.memory = memory;
	memset(&rig_calls, 0, sizeof(rig_calls));
	rig_calls.no_userfaultfd = no_userfaultfd;
	assert_int_equal(pages_file_new(&c, &pages, NULL), 0);
	for (unsigned int round = 0; round < 3; round++) {
		/* By blocks that are not neighbours, then all. */
		for (uint64_t at = 0; at < c.size; at += 4 * MIB) {
			assert_int_equal(pages->ops->open(pages, at, 2 * MIB), 0);
			memset(memory + at, 1, 2 * MIB);
		}
		assert_int_equal(huge_kib(memory, c.size), c.size / 2 / KIB);
		assert_int_equal(pages->ops->open(pages, 0, c.size), 0);
		for (uint64_t at = 0; at < c.size; at += 2 * MIB) {
			assert_int_equal(memory[at + 5], at % (4 * MIB) == 0);
			memset(memory + at, 1, 2 * MIB);
		}
		assert_int_equal(huge_kib(memory, c.size), c.size / KIB);
		assert_int_equal(pages->ops->close(pages, 0, c.size), 0);
		assert_int_equal(pages->ops->discard(pages, 0, c.size), 0);
		assert_int_equal(huge_kib(memory, c.size), 0);
	}
	pages->ops->free(pages);
	munmap(room, c.size + 2 * MIB);
	close(c.fd);
}

static void test_huge_pages_are_kept(void **state)
{
	(void)state;
	if (!pages_populate_supported())
		skip();
	huge_pages_are_kept(false);
	huge_pages_are_kept(true);
}

/* A fault in an open block brings nothing of the closed ones beside it into the page cache. */
static void test_no_reading_ahead(void **state)
{
	struct rig rig;

	(void)state;
	if (!rig_start(&rig, &rig_kinds[RIG_DISK], 64, 0)) {
		print_message("no disk here\n");
		skip();
	}
	if (rig_cached(&rig, 0, 64) < 0) {
		print_message("this kernel does not tell what is in the page cache\n");
		rig_end(&rig);
		skip();
	}
	assert_int_equal(rig_open(&rig, 30, 2), 0);
	for (uint64_t at = 0; at < rig.block; at += 4096)
		assert_int_equal(rig_peek(&rig, 31, at), 0);
	assert_true(rig_poke(&rig, 30, 0, 1));
	assert_true(rig_cached(&rig, 30, 2) >= (long)(rig.block / 4096) + 1);
	assert_int_equal(rig_cached(&rig, 0, 30), 0);
	assert_int_equal(rig_cached(&rig, 32, 32), 0);
	rig_end(&rig);
}

/* ---- somebody else ---- */

static void a_file_that_is_cut(struct rig *rig)
{
	assert_int_equal(rig_open(rig, 0, 2), 0);
	assert_true(rig_poke(rig, 0, 0, 1));
	assert_int_equal(ftruncate(rig->fd, (off_t)rig->offset), 0);
	assert_int_equal(rig_peek(rig, 0, 0), -1);
	assert_false(rig_poke(rig, 1, 0, 1));
	assert_int_equal(rig_close(rig, 0, 1), 0);
	assert_int_equal(rig_discard(rig, 0, 1), 0);
	/* Opening makes the file long enough again. */
	assert_int_equal(rig_open(rig, 0, 1), 0);
	assert_int_equal(rig_peek(rig, 0, 0), 0);
	assert_true(rig_poke(rig, 0, rig->block - 1, 1));
	/* For rig_end(). */
	assert_int_equal(rig_close(rig, 0, 2), 0);
	assert_int_equal(rig_discard(rig, 0, 2), 0);
}

static void test_a_file_that_is_cut(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < RIG_KINDS; i++) {
		struct rig rig;

		if (!rig_start(&rig, &rig_kinds[i], 2, 0))
			continue;
		a_file_that_is_cut(&rig);
		rig.pages->ops->free(rig.pages);
		munmap(rig.mapping, rig.reserved);
		close(rig.fd);
	}
}

/* RLIMIT_FSIZE: an error, and the signal that comes with it ends nobody. */
static void test_file_size_limit(void **state)
{
	struct rlimit before, small;
	sigset_t xfsz, pending;
	struct rig rig;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	assert_true(rig_start(&rig, &rig_kinds[RIG_MEMFD], 2, 0));
	small = (struct rlimit){rig.offset + rig.block, before.rlim_max};
	assert_int_equal(ftruncate(rig.fd, (off_t)rig.offset), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(rig_open(&rig, 1, 1), -EFBIG);
	assert_int_equal(rig_open(&rig, 0, 1), 0);
	/* One that was pending stays so. */
	sigemptyset(&xfsz);
	sigaddset(&xfsz, SIGXFSZ);
	assert_int_equal(sigprocmask(SIG_BLOCK, &xfsz, NULL), 0);
	assert_int_equal(raise(SIGXFSZ), 0);
	assert_int_equal(rig_open(&rig, 1, 1), -EFBIG);
	assert_int_equal(sigpending(&pending), 0);
	assert_true(sigismember(&pending, SIGXFSZ));
	assert_int_equal(sigtimedwait(&xfsz, NULL, &(struct timespec){0, 0}), SIGXFSZ);
	assert_int_equal(sigprocmask(SIG_UNBLOCK, &xfsz, NULL), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	rig.pages->ops->free(rig.pages);
	munmap(rig.mapping, rig.reserved);
	close(rig.fd);
}

/* A pool of huge pages that runs dry in the middle of a run: everything is as before. */
static void test_huge_page_pool_runs_dry(void **state)
{
	uint64_t blocks = 8, spare;
	struct rig rig;
	char *hog = MAP_FAILED;

	(void)state;
	if (!rig_start(&rig, &rig_kinds[RIG_2M], blocks, 0))
		skip();
	/* All of them are gone but two. */
	spare = rig_pool_free(2 * MIB);
	assert_true(spare >= 2);
	hog = mmap(NULL, (spare - 2) * 2 * MIB + 2 * MIB, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
	assert_true(hog != MAP_FAILED);
	munmap(hog + (spare - 2) * 2 * MIB, 2 * MIB);
	assert_int_equal(rig_open(&rig, 0, 1), 0);
	assert_true(rig_poke(&rig, 0, 3, 3));
	assert_int_equal(rig_open(&rig, 0, 4), -ENOSPC);
	rig_check_held(&rig, 1);
	rig_check_closed(&rig, 1, blocks - 1);
	assert_int_equal(rig_peek(&rig, 0, 3), 3);
	assert_int_equal(rig_open(&rig, 0, 2), 0);
	rig_check_held(&rig, 2);
	munmap(hog, (spare - 2) * 2 * MIB);
	assert_int_equal(rig_open(&rig, 0, blocks), 0);
	rig_end(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_locked_memory),
		cmocka_unit_test(test_swapped_memory),
		cmocka_unit_test(test_huge_pages_are_kept),
		cmocka_unit_test(test_no_reading_ahead),
		cmocka_unit_test(test_a_file_that_is_cut),
		cmocka_unit_test(test_file_size_limit),
		cmocka_unit_test(test_huge_page_pool_runs_dry),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	rig_pool_restore();
	return failed;
}
