/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Blocks of shared memory on every kind of file that there is here: what is closed cannot be
 * reached and holds nothing, what is open is committed, and nothing beside a run changes.
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
#include <sys/stat.h>
#include <unistd.h>

#include "base/num.h"

/* Run a test on each kind but the slow one; those that are not to be had here are told. */
static void on_each_kind(uint64_t blocks, uint32_t max_fences, void (*test)(struct rig *rig))
{
	for (unsigned int i = 0; i < rig_nr_kinds; i++) {
		const struct rig_kind *kind = &rig_kinds[i];
		struct rig rig;

		if (kind->page == GIB)
			continue;
		if (!rig_start(&rig, kind, blocks, max_fences)) {
			print_message("no %s here\n", kind->name);
			continue;
		}
		assert_string_equal(rig.pages->mechanism, kind->mechanism);
		test(&rig);
		rig_end(&rig);
	}
}

static bool fenced(const struct rig *rig)
{
	return strcmp(rig->pages->mechanism, "mprotect") == 0;
}

static void check_closed(const struct rig *rig, uint64_t first, uint64_t count)
{
	for (uint64_t b = first; b < first + count; b++) {
		assert_int_equal(rig_peek(rig, b, 0), -1);
		assert_int_equal(rig_peek(rig, b, rig->block - 1), -1);
		assert_false(rig_poke(rig, b, 0, 1));
		assert_false(rig_poke(rig, b, rig->block - 1, 1));
	}
}

static void check_fences(const struct rig *rig, unsigned int closed_runs, unsigned int open_runs)
{
	if (fenced(rig) && rig->kind->page > 4096) {
		/* Mappings of huge pages are never joined again. */
		assert_true(rig_ranges(rig) >= closed_runs + open_runs);
		assert_int_equal(rig->pages->fences, (rig_ranges(rig) - 1) / 2 + 1);
	} else {
		assert_int_equal(rig->pages->fences, fenced(rig) ? closed_runs : 0);
		assert_int_equal(rig_ranges(rig), fenced(rig) ? closed_runs + open_runs : 1);
	}
	assert_int_equal(rig->pages->armed_segments, 0);
}

/* ---- the life of a block ---- */

static void all_is_closed_at_the_start(struct rig *rig)
{
	rig_check_held(rig, 0);
	check_closed(rig, 0, rig->blocks);
	rig_check_held(rig, 0);
	check_fences(rig, 1, 0);
}

static void test_all_is_closed_at_the_start(void **state)
{
	(void)state;
	on_each_kind(8, 0, all_is_closed_at_the_start);
}

static void open_is_committed_and_empty(struct rig *rig)
{
	uint64_t last = rig->blocks - 1;

	assert_int_equal(rig_open(rig, last, 1), 0);
	rig_check_held(rig, 1);
	check_closed(rig, 0, last);
	assert_int_equal(rig_peek(rig, last, 0), 0);
	assert_int_equal(rig_peek(rig, last, rig->block - 1), 0);
	assert_true(rig_poke(rig, last, 0, 7));
	assert_true(rig_poke(rig, last, rig->block - 1, 9));
	rig_check_held(rig, 1);
	check_fences(rig, 1, 1);
	/* It is that place of the file. */
	if (rig->kind->page == 4096) {
		unsigned char byte = 0;
		uint64_t at = rig->offset + last * rig->block;

		assert_int_equal(pread(rig->fd, &byte, 1, (off_t)at), 1);
		assert_int_equal(byte, 7);
	}
}

static void test_open_is_committed_and_empty(void **state)
{
	(void)state;
	on_each_kind(8, 0, open_is_committed_and_empty);
}

static void content_stays_until_discard(struct rig *rig)
{
	assert_int_equal(rig_open(rig, 0, 1), 0);
	assert_true(rig_poke(rig, 0, 5, 42));
	for (int i = 0; i < 2; i++)
		assert_int_equal(rig_close(rig, 0, 1), 0);
	rig_check_held(rig, 1);
	if (fenced(rig))
		check_closed(rig, 0, 1);
	for (int i = 0; i < 2; i++)
		assert_int_equal(rig_open(rig, 0, 1), 0);
	assert_int_equal(rig_peek(rig, 0, 5), 42);
	assert_int_equal(rig_close(rig, 0, 1), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(rig_discard(rig, 0, 1), 0);
	rig_check_held(rig, 0);
	check_closed(rig, 0, 1);
	rig_check_held(rig, 0);
	assert_int_equal(rig_open(rig, 0, 1), 0);
	assert_int_equal(rig_peek(rig, 0, 5), 0);
}

static void test_content_stays_until_discard(void **state)
{
	(void)state;
	on_each_kind(3, 0, content_stays_until_discard);
}

static void test_pages_of_1_gib(void **state)
{
	struct rig rig;

	(void)state;
	if (!rig_start(&rig, &rig_kinds[6], 2, 0))
		skip();
	all_is_closed_at_the_start(&rig);
	content_stays_until_discard(&rig);
	rig_end(&rig);
}

/* Runs that are in the wanted state in parts. */
static void mixed_runs(struct rig *rig)
{
	uint64_t n = rig->blocks;

	for (uint64_t b = 1; b < n; b += 3) {
		assert_int_equal(rig_open(rig, b, 1), 0);
		assert_true(rig_poke(rig, b, 1, (unsigned char)b));
	}
	assert_int_equal(rig_close(rig, 1, 1), 0);
	assert_int_equal(rig_open(rig, 0, n), 0);
	rig_check_held(rig, n);
	check_fences(rig, 0, 1);
	for (uint64_t b = 0; b < n; b++) {
		assert_int_equal(rig_peek(rig, b, 1), b % 3 == 1 ? b : 0);
		assert_true(rig_poke(rig, b, 1, 1));
	}
	assert_int_equal(rig_close(rig, 0, 2), 0);
	assert_int_equal(rig_close(rig, 0, n), 0);
	assert_int_equal(rig_discard(rig, n - 1, 1), 0);
	rig_check_held(rig, n - 1);
	assert_int_equal(rig_discard(rig, 0, n), 0);
	rig_check_held(rig, 0);
	check_closed(rig, 0, n);
	check_fences(rig, 1, 0);
}

static void test_mixed_runs(void **state)
{
	(void)state;
	on_each_kind(10, 0, mixed_runs);
}

static void populate_maps(struct rig *rig)
{
	uint64_t n = rig->blocks, pages = rig->block / 4096;

	assert_int_equal(rig_open(rig, 0, n - 1), 0);
	assert_int_equal(rig_mapped(rig, 0, n), 0);
	assert_int_equal(rig->pages->ops->populate(rig->pages, 0, (n - 1) * rig->block), 0);
	assert_int_equal(rig_mapped(rig, 0, n), (n - 1) * pages);
	rig_check_held(rig, n - 1);
	/* What is closed is not made up. */
	assert_true(rig->pages->ops->populate(rig->pages, 0, rig->size) < 0);
	rig_check_held(rig, n - 1);
	assert_int_equal(rig_mapped(rig, n - 1, 1), 0);
	assert_int_equal(rig_close(rig, 0, n), 0);
	assert_int_equal(rig_discard(rig, 0, n), 0);
	assert_int_equal(rig_mapped(rig, 0, n), 0);
	rig_check_held(rig, 0);
}

static void test_populate_maps(void **state)
{
	(void)state;
	if (!pages_populate_supported())
		skip();
	on_each_kind(4, 0, populate_maps);
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
	check_closed(rig, 0, 1);
	assert_int_equal(rig_peek(rig, 1, 0), 1);
	rig_check_held(rig, 1);
}

static void test_locked_memory(void **state)
{
	(void)state;
	on_each_kind(2, 0, locked_memory);
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

/* ---- fences ---- */

static void fences_are_counted(struct rig *rig)
{
	uint64_t n = rig->blocks;
	unsigned int open = 0;

	for (uint64_t b = 1; b < n - 1; b += 2) {
		assert_int_equal(rig_open(rig, b, 1), 0);
		open++;
		check_fences(rig, open + 1, open);
	}
	assert_int_equal(rig_open(rig, 0, 1), 0);
	check_fences(rig, open, open);
	assert_int_equal(rig_open(rig, 2, 3), 0);
	check_fences(rig, open - 2, open - 2);
	assert_int_equal(rig_close(rig, 3, 1), 0);
	check_fences(rig, open - 1, open - 1);
	assert_int_equal(rig_close(rig, 0, n), 0);
	check_fences(rig, 1, 0);
}

static void test_fences_are_counted(void **state)
{
	(void)state;
	on_each_kind(12, 0, fences_are_counted);
}

/* Too many is refused before anything is done, both ways; fewer is always to be had. */
static void fences_are_bounded(struct rig *rig)
{
	uint64_t n = rig->blocks;

	if (!fenced(rig) || rig->kind->page > 4096)
		return;
	assert_int_equal(rig_open(rig, 1, 1), 0);
	assert_int_equal(rig_open(rig, 3, 1), 0);
	check_fences(rig, 3, 2);
	assert_int_equal(rig_open(rig, 5, 1), -ENOMEM);
	check_fences(rig, 3, 2);
	rig_check_held(rig, 2);
	check_closed(rig, 5, 1);
	assert_int_equal(rig_open(rig, 4, n - 4), 0);
	check_fences(rig, 2, 2);
	assert_int_equal(rig_close(rig, 5, 1), 0);
	assert_int_equal(rig_close(rig, 7, 1), -ENOMEM);
	check_fences(rig, 3, 3);
	assert_int_equal(rig_peek(rig, 7, 0), 0);
	assert_int_equal(rig_open(rig, 2, 1), 0);
	assert_int_equal(rig_close(rig, 7, 1), 0);
	check_fences(rig, 3, 3);
}

static void test_fences_are_bounded(void **state)
{
	(void)state;
	on_each_kind(10, 3, fences_are_bounded);
}

/* Mappings of huge pages: a place that was once divided counts, and only once. */
static void test_fences_of_huge_pages(void **state)
{
	struct rig rig;

	(void)state;
	if (!rig_start(&rig, &rig_kinds[5], 10, 3))
		skip();
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(rig_open(&rig, 2, 1), 0);
		assert_int_equal(rig_open(&rig, 6, 1), 0);
		check_fences(&rig, 3, 2);
		assert_int_equal(rig_open(&rig, 8, 1), -ENOMEM);
		rig_check_held(&rig, 2);
		assert_int_equal(rig_close(&rig, 2, 5), 0);
		assert_int_equal(rig_discard(&rig, 2, 5), 0);
		check_fences(&rig, 1, 0);
	}
	rig_end(&rig);
}

/* ---- what it costs ---- */

/* A device of 1 TiB: the calls and their number follow what was open. */
static void test_size_costs_nothing(void **state)
{
	const uint64_t size = TIB, block = 2 * MIB;
	struct vmem_error error;
	struct pages_config c = {.size = size, .block_size = block, .segment_size = GIB};
	struct pages *pages;
	struct stat st;

	(void)state;
	memset(&rig_calls, 0, sizeof(rig_calls));
	c.fd = memfd_create("large", MFD_CLOEXEC);
	assert_true(c.fd >= 0);
	assert_int_equal(ftruncate(c.fd, (off_t)size), 0);
	c.memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, c.fd, 0);
	assert_true(c.memory != MAP_FAILED);
	assert_int_equal(pages_file_new(&c, &pages, &error), 0);
	assert_true(rig_calls.fallocates <= 6);
	rig_calls.fallocates = rig_calls.mprotects = 0;
	assert_int_equal(pages->ops->close(pages, 0, size), 0);
	assert_int_equal(pages->ops->discard(pages, 0, size), 0);
	assert_int_equal(rig_calls.fallocates, 0);
	for (unsigned int i = 0; i < 8; i++)
		assert_int_equal(pages->ops->open(pages, i * (size / 8), block), 0);
	assert_int_equal(rig_calls.fallocates, 8);
	assert_int_equal(pages->ops->close(pages, 0, size), 0);
	assert_int_equal(pages->ops->discard(pages, 0, size), 0);
	assert_int_equal(rig_calls.fallocates, 9);
	assert_int_equal(rig_calls.mprotects, 0);
	assert_int_equal(fstat(c.fd, &st), 0);
	assert_int_equal(st.st_blocks, 0);
	/* More than any host has is refused at once, and nothing is there. */
	assert_int_equal(pages->ops->open(pages, 0, size), -ENOMEM);
	assert_int_equal(rig_calls.fallocates, 9);
	pages->ops->free(pages);
	munmap(c.memory, size);
	close(c.fd);
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
	for (unsigned int i = 0; i < rig_nr_kinds; i++) {
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
	assert_true(rig_start(&rig, &rig_kinds[0], 2, 0));
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
	if (!rig_start(&rig, &rig_kinds[4], blocks, 0))
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
	check_closed(&rig, 1, blocks - 1);
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
		cmocka_unit_test(test_all_is_closed_at_the_start),
		cmocka_unit_test(test_open_is_committed_and_empty),
		cmocka_unit_test(test_content_stays_until_discard),
		cmocka_unit_test(test_pages_of_1_gib),
		cmocka_unit_test(test_mixed_runs),
		cmocka_unit_test(test_populate_maps),
		cmocka_unit_test(test_locked_memory),
		cmocka_unit_test(test_huge_pages_are_kept),
		cmocka_unit_test(test_fences_are_counted),
		cmocka_unit_test(test_fences_are_bounded),
		cmocka_unit_test(test_fences_of_huge_pages),
		cmocka_unit_test(test_size_costs_nothing),
		cmocka_unit_test(test_a_file_that_is_cut),
		cmocka_unit_test(test_file_size_limit),
		cmocka_unit_test(test_huge_page_pool_runs_dry),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	rig_pool_restore();
	return failed;
}
