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
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/num.h"

static void check_fences(const struct rig *rig, unsigned int closed_runs, unsigned int open_runs)
{
	if (rig_fenced(rig) && rig->kind->page > 4096) {
		/* Mappings of huge pages are never joined again. */
		assert_true(rig_ranges(rig) >= closed_runs + open_runs);
		assert_int_equal(rig->pages->fences, (rig_ranges(rig) - 1) / 2 + 1);
	} else {
		assert_int_equal(rig->pages->fences, rig_fenced(rig) ? closed_runs : 0);
		assert_int_equal(rig_ranges(rig), rig_fenced(rig) ? closed_runs + open_runs : 1);
	}
	assert_int_equal(rig->pages->armed_segments, 0);
}

/* ---- the life of a block ---- */

static void all_is_closed_at_the_start(struct rig *rig)
{
	rig_check_held(rig, 0);
	rig_check_closed(rig, 0, rig->blocks);
	rig_check_held(rig, 0);
	check_fences(rig, 1, 0);
}

static void test_all_is_closed_at_the_start(void **state)
{
	(void)state;
	rig_each(8, 0, all_is_closed_at_the_start);
}

static void open_is_committed_and_empty(struct rig *rig)
{
	uint64_t last = rig->blocks - 1;

	assert_int_equal(rig_open(rig, last, 1), 0);
	rig_check_held(rig, 1);
	rig_check_closed(rig, 0, last);
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
	rig_each(8, 0, open_is_committed_and_empty);
}

static void content_stays_until_discard(struct rig *rig)
{
	assert_int_equal(rig_open(rig, 0, 1), 0);
	assert_true(rig_poke(rig, 0, 5, 42));
	for (int i = 0; i < 2; i++)
		assert_int_equal(rig_close(rig, 0, 1), 0);
	rig_check_held(rig, 1);
	if (rig_fenced(rig))
		rig_check_closed(rig, 0, 1);
	for (int i = 0; i < 2; i++)
		assert_int_equal(rig_open(rig, 0, 1), 0);
	assert_int_equal(rig_peek(rig, 0, 5), 42);
	assert_int_equal(rig_close(rig, 0, 1), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(rig_discard(rig, 0, 1), 0);
	rig_check_held(rig, 0);
	rig_check_closed(rig, 0, 1);
	rig_check_held(rig, 0);
	assert_int_equal(rig_open(rig, 0, 1), 0);
	assert_int_equal(rig_peek(rig, 0, 5), 0);
}

static void test_content_stays_until_discard(void **state)
{
	(void)state;
	rig_each(3, 0, content_stays_until_discard);
}

static void test_pages_of_1_gib(void **state)
{
	struct rig rig;

	(void)state;
	if (!rig_start(&rig, &rig_kinds[RIG_1G], 2, 0))
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
	rig_check_closed(rig, 0, n);
	check_fences(rig, 1, 0);
}

static void test_mixed_runs(void **state)
{
	(void)state;
	rig_each(10, 0, mixed_runs);
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
	rig_each(4, 0, populate_maps);
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
	rig_each(12, 0, fences_are_counted);
}

/* Too many is refused before anything is done, both ways; fewer is always to be had. */
static void fences_are_bounded(struct rig *rig)
{
	uint64_t n = rig->blocks;

	if (!rig_fenced(rig) || rig->kind->page > 4096)
		return;
	assert_int_equal(rig_open(rig, 1, 1), 0);
	assert_int_equal(rig_open(rig, 3, 1), 0);
	check_fences(rig, 3, 2);
	assert_int_equal(rig_open(rig, 5, 1), -ENOMEM);
	check_fences(rig, 3, 2);
	rig_check_held(rig, 2);
	rig_check_closed(rig, 5, 1);
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
	rig_each(10, 3, fences_are_bounded);
}

/* Mappings of huge pages: a place that was once divided counts, and only once. */
static void test_fences_of_huge_pages(void **state)
{
	struct rig rig;

	(void)state;
	if (!rig_start(&rig, &rig_kinds[RIG_2M_FENCED], 10, 3))
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_is_closed_at_the_start),
		cmocka_unit_test(test_open_is_committed_and_empty),
		cmocka_unit_test(test_content_stays_until_discard),
		cmocka_unit_test(test_pages_of_1_gib),
		cmocka_unit_test(test_mixed_runs),
		cmocka_unit_test(test_populate_maps),
		cmocka_unit_test(test_fences_are_counted),
		cmocka_unit_test(test_fences_are_bounded),
		cmocka_unit_test(test_fences_of_huge_pages),
		cmocka_unit_test(test_size_costs_nothing),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);

	rig_pool_restore();
	return failed;
}
