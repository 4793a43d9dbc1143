/* SPDX-License-Identifier: BSD-3-Clause */
/* Maps of pages, the form of batches, and reading pages of a machine (pages.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/err.h"
#include "channels.h"
#include "machine.h"
#include "vmm/core/fault.h"
#include "vmm/migration/cancel.h"
#include "vmm/migration/pages.h"

#define UNIT (64 * KIB)
#define MEM0 2 /* the first device's block */

/* ---- maps ---- */

static void test_map(void **state)
{
	struct block blocks[] = {{.nr_pages = 130}, {.nr_pages = 1000}};
	struct pages_map *map = pages_map_new(blocks, 2, NULL);
	bool model[1000] = {false};
	unsigned int random = 5;

	(void)state;
	assert_non_null(map);
	for (int i = 0; i < 3000; i++) {
		uint64_t first = (uint64_t)rand_r(&random) % 1000;
		uint64_t count = (uint64_t)rand_r(&random) % (1000 - first + 1) % 200, same = 1;
		bool set = rand_r(&random) % 2;

		(set ? pages_map_set : pages_map_clear)(map, 1, first, count);
		for (uint64_t p = first; p < first + count; p++)
			model[p] = set;
		while (first + same < 1000 && model[first + same] == model[first])
			same++;
		assert_int_equal(pages_map_test(map, 1, first), model[first]);
		assert_int_equal(pages_map_same(map, 1, first, 1000), same);
		assert_int_equal(pages_map_same(map, 1, first, first + 1), 1);
	}
	/* Its neighbour was not touched. */
	assert_int_equal(pages_map_same(map, 0, 0, 130), 130);
	assert_false(pages_map_test(map, 0, 0));
	pages_map_free(map);
}

/* ---- the form of batches ---- */

static const struct block packed_blocks[] = {{.ram.name = "ram.0", .nr_pages = 10},
					     {.ram.name = "mem0", .nr_pages = 100}};

static int unpack(const void *bytes, size_t size, size_t max_runs, uint64_t max_pages,
		  struct err **err)
{
	struct pages_run runs[8];
	uint64_t nr_pages;
	struct range rest;
	size_t block, nr;

	return pages_unpack_runs(packed_blocks, 2, bytes, size, max_runs, max_pages, &block, runs,
				 &nr, &nr_pages, &rest, err);
}

static void test_runs_come_back(void **state)
{
	const struct pages_run runs[] = {{0, 1}, {1, 2}, {50, 50}};
	struct pages_run got[8];
	uint8_t bytes[100];
	uint64_t nr_pages;
	struct range rest;
	size_t block, nr, size = pages_pack_runs(bytes, 1, runs, 3);

	(void)state;
	assert_int_equal(size, PAGES_HEAD_BYTES + 3 * PAGES_RUN_BYTES);
	assert_int_equal(pages_unpack_runs(packed_blocks, 2, bytes, size + 7, 8, 53, &block, got,
					   &nr, &nr_pages, &rest, NULL),
			 0);
	assert_int_equal(block, 1);
	assert_int_equal(nr, 3);
	assert_int_equal(nr_pages, 53);
	assert_int_equal(rest.start, size);
	assert_int_equal(rest.size, 7);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(got[i].first, runs[i].first);
		assert_int_equal(got[i].count, runs[i].count);
	}
}

static void test_runs_that_cannot_be(void **state)
{
	static const struct {
		struct pages_run runs[2];
		size_t block, nr;
		const char *sentence;
	} bad[] = {
		{{{0, 1}}, 2, 1, "there is no block 2 of memory"},
		{{{0, 1}}, 0, 0, "0 runs of pages do not fit in"},
		{{{10, 1}}, 0, 1, "run 0 of pages is empty, out of order or outside of 'ram.0'"},
		{{{9, 2}}, 0, 1, "run 0 of pages is empty, out of order or outside of 'ram.0'"},
		{{{1, UINT32_MAX}},
		 1,
		 1,
		 "run 0 of pages is empty, out of order or outside of 'mem0'"},
		{{{UINT64_MAX, 1}},
		 1,
		 1,
		 "run 0 of pages is empty, out of order or outside of 'mem0'"},
		{{{0, 2}, {1, 1}},
		 1,
		 2,
		 "run 1 of pages is empty, out of order or outside of 'mem0'"},
		{{{0, 2}, {2, 0}},
		 1,
		 2,
		 "run 1 of pages is empty, out of order or outside of 'mem0'"},
		{{{0, 20}, {30, 21}}, 1, 2, "41 pages are too many"},
	};
	struct err *err = NULL;
	uint8_t bytes[64];
	size_t size;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		size = pages_pack_runs(bytes, bad[i].block, bad[i].runs, bad[i].nr);
		assert_int_equal(unpack(bytes, size, 8, 40, &err), -EINVAL);
		rig_check_err(&err, EINVAL, bad[i].sentence);
	}
	size = pages_pack_runs(bytes, 1, (struct pages_run[]){{0, 1}, {4, 1}}, 2);
	unpack(bytes, size, 1, 0, &err);
	rig_check_err(&err, EINVAL, "2 runs of pages do not fit in");
	unpack(bytes, size - 1, 8, 0, &err);
	rig_check_err(&err, EINVAL, "2 runs of pages do not fit in");
	unpack(bytes, 7, 8, 0, &err);
	rig_check_err(&err, EINVAL, "7 bytes are too few");
	bytes_put_le(bytes + 4, 4, UINT32_MAX);
	unpack(bytes, size, 8, 0, &err);
	rig_check_err(&err, EINVAL, "4294967295 runs of pages do not fit in");
	assert_int_equal(unpack(bytes, 0, 8, 0, NULL), -EINVAL);
}

/* ---- reading ---- */

/* What the reader gave: the target's pages as far as they were told. */
struct got {
	struct machine m;
	struct pages_map *sent;
	struct pages_reader *reader;
	struct pages_counts counts;
	size_t batches, largest, zero_runs;
	uint64_t zero_pages, pages;
	uint64_t first_words[1024]; /* of each page of one block */
};

static int got_pages(void *opaque, size_t block, const struct pages_run *runs, size_t nr_runs,
		     const void *bytes, size_t nr_pages, struct err **err)
{
	struct got *g = opaque;
	const char *at = bytes;

	(void)err;
	(void)block;
	g->batches++;
	g->pages += nr_pages;
	g->largest = (size_t)num_max(g->largest, nr_pages);
	for (size_t i = 0; i < nr_runs; i++)
		for (uint64_t p = runs[i].first; p < runs[i].first + runs[i].count; p++) {
			assert_false(pages_is_zero(at));
			memcpy(&g->first_words[p], at, 8);
			at += PAGE_BYTES;
		}
	assert_ptr_equal(at, (const char *)bytes + nr_pages * PAGE_BYTES);
	return 0;
}

static int got_zeros(void *opaque, size_t block, const struct pages_run *runs, size_t nr_runs,
		     struct err **err)
{
	struct got *g = opaque;

	(void)err;
	(void)block;
	g->zero_runs += nr_runs;
	for (size_t i = 0; i < nr_runs; i++)
		g->zero_pages += runs[i].count;
	return 0;
}

static const struct pages_sink got_sink = {.pages = got_pages, .zeros = got_zeros};

static struct got *got_new(bool shared)
{
	struct got *g = calloc(1, sizeof(*g));
	struct err *err = NULL;

	assert_non_null(g);
	machine_init(&g->m, &(struct machine_config){.boot_bytes = 1024 * PAGE_BYTES,
						     .device_bytes = 1024 * PAGE_BYTES,
						     .unit_bytes = UNIT,
						     .nr_devices = 1,
						     .shared = shared});
	assert_int_equal(gm_dirty_start(g->m.gm), 0);
	g->sent = pages_map_new(g->m.blocks, g->m.nr_blocks, &err);
	rig_check_no_err(&err);
	g->reader = pages_reader_new(&(struct pages_reader_config){.gm = g->m.gm,
								   .blocks = g->m.blocks,
								   .nr_blocks = g->m.nr_blocks,
								   .sent = g->sent,
								   .sink = &got_sink,
								   .opaque = g,
								   .counts = &g->counts},
				     &err);
	rig_check_no_err(&err);
	return g;
}

static void got_free(struct got *g)
{
	pages_reader_free(g->reader);
	pages_map_free(g->sent);
	machine_done(&g->m);
	free(g);
}

/* Read all pages of a block of 1024. */
static void got_read(struct got *g, size_t block, bool fresh)
{
	uint64_t words[PAGES_WINDOW / 64];
	struct err *err = NULL;

	memset(words, 0xff, sizeof(words));
	pages_reader_read(g->reader, block, 0, words, ARRAY_SIZE(words), fresh, &err);
	rig_check_no_err(&err);
	pages_reader_flush(g->reader, &err);
	rig_check_no_err(&err);
}

static void store(struct got *g, size_t block, uint64_t page, uint64_t at, uint64_t value)
{
	assert_true(machine_store(&g->m, block, page * PAGE_BYTES + at, value));
}

static void check_what_the_host_has_not_stays_so(bool shared)
{
	struct got *g = got_new(shared);

	store(g, 1, 3, 0, 33);
	store(g, 1, 4, 4088, 44);
	store(g, 1, 1023, 8, 0); /* there, but zeros */
	assert_int_equal(machine_held_pages(&g->m, 1), 3);
	got_read(g, 1, true);
	assert_int_equal(machine_held_pages(&g->m, 1), 3);
	assert_int_equal(g->pages, 2);
	assert_int_equal(g->first_words[3], 33);
	assert_int_equal(g->zero_runs, 0);
	assert_int_equal(g->counts.normal, 2);
	assert_int_equal(g->counts.zero, 1022);
	got_free(g);
}

static void test_what_the_host_has_not_stays_so(void **state)
{
	(void)state;
	check_what_the_host_has_not_stays_so(false);
	check_what_the_host_has_not_stays_so(true);
}

/* Where pages come to: nothing is left of the file, and nothing is made that was zeros. */
static void check_emptied(struct got *g)
{
	struct cancel *cancel;
	struct err *err = NULL;
	uint64_t value;

	cancel = cancel_new(&err);
	rig_check_no_err(&err);
	assert_int_equal(pages_host_empty(g->m.gm, &g->m.blocks[1], cancel, &err), 0);
	memcpy(&value, (char *)g->m.blocks[1].ram.host + 3 * PAGE_BYTES, sizeof(value));
	assert_int_equal(value, 0);
	assert_int_equal(gm_dirty_next(g->m.gm, g->m.blocks[1].ram.gpa.start,
				       range_end(g->m.blocks[1].ram.gpa)),
			 g->m.blocks[1].ram.gpa.start + 3 * PAGE_BYTES);
	cancel_raise(cancel);
	assert_int_equal(pages_host_empty(g->m.gm, &g->m.blocks[1], cancel, &err), -ECANCELED);
	err_free(err);
	cancel_free(cancel);
}

/* A private copy of a file: what nobody touched is not zeros, but the file's. */
static void test_a_copy_of_a_file_is_read(void **state)
{
	const uint64_t value = 77, size = 1024 * PAGE_BYTES;
	struct got *g = got_new(false);
	struct vm_ram_block *ram = &g->m.blocks[1].ram;
	int fd = memfd_create("file", MFD_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(pwrite(fd, &value, sizeof(value), 3 * PAGE_BYTES), sizeof(value));
	assert_ptr_equal(
		mmap(ram->host, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0),
		ram->host);
	close(fd);
	ram->copy = true;
	got_read(g, 1, true);
	assert_int_equal(g->pages, 1);
	assert_int_equal(g->first_words[3], value);
	assert_int_equal(g->counts.zero, 1023);
	check_emptied(g);
	got_free(g);
}

static void test_zeros_are_told_where_something_was(void **state)
{
	struct got *g = got_new(false);

	(void)state;
	for (uint64_t p = 10; p < 20; p++)
		store(g, 1, p, 0, p);
	got_read(g, 1, true);
	assert_int_equal(g->pages, 10);
	/* Zeros again: told once, in runs. */
	for (uint64_t p = 12; p < 18; p++)
		store(g, 1, p, 0, 0);
	got_read(g, 1, false);
	assert_int_equal(g->pages, 14);
	assert_int_equal(g->zero_runs, 1);
	assert_int_equal(g->zero_pages, 6);
	got_read(g, 1, false);
	assert_int_equal(g->zero_pages, 6);
	/* All of them, where that is wanted, and in order with those that the host has not. */
	pages_reader_tell_zeros(g->reader, true);
	got_read(g, 1, true);
	assert_int_equal(g->zero_pages, 6 + 1020);
	assert_int_equal(g->zero_runs, 1 + 3);
	got_free(g);
}

static void test_batches_are_full_and_no_larger(void **state)
{
	struct got *g = got_new(false);

	(void)state;
	for (uint64_t p = 0; p < 1024; p++)
		if (p % 3)
			store(g, 1, p, p % 512 * 8, p);
	got_read(g, 1, true);
	assert_int_equal(g->pages, 682);
	assert_int_equal(g->largest, PAGES_BATCH);
	assert_int_equal(g->batches, 3);
	got_free(g);
}

/* Zeros in many places: more runs than one telling holds. */
static void test_many_runs_of_zeros(void **state)
{
	struct got *g = got_new(false);
	struct err *err = NULL;
	uint64_t even[PAGES_WINDOW / 64];

	(void)state;
	memset(even, 0x55, sizeof(even));
	pages_reader_tell_zeros(g->reader, true);
	for (int i = 0; i < 3; i++)
		assert_int_equal(
			pages_reader_read(g->reader, 1, 0, even, ARRAY_SIZE(even), true, &err), 0);
	assert_int_equal(g->zero_runs, PAGES_ZERO_RUNS);
	pages_reader_drop(g->reader);
	pages_reader_flush(g->reader, &err);
	assert_int_equal(g->zero_runs, PAGES_ZERO_RUNS);
	got_free(g);
}

static void test_what_is_unplugged_is_left_out_and_marked(void **state)
{
	struct got *g = got_new(false);
	const uint64_t per_unit = UNIT / PAGE_BYTES;

	(void)state;
	for (uint64_t u = 0; u < 1024 / per_unit; u++)
		machine_plug(&g->m, MEM0, u);
	for (uint64_t p = 0; p < 1024; p++)
		store(g, MEM0, p, 16, p + 1);
	machine_unplug(&g->m, MEM0, 7);
	machine_unplug(&g->m, MEM0, 63);
	got_read(g, MEM0, false);
	assert_int_equal(g->pages, 1024 - 2 * per_unit);
	assert_int_equal(gm_dirty_count(g->m.gm, 4 * GIB, 1024 * PAGE_BYTES), 2 * per_unit);
	assert_int_equal(gm_dirty_next(g->m.gm, 4 * GIB, 5 * GIB), 4 * GIB + 7 * UNIT);
	got_free(g);
}

/* A file that somebody made shorter. */
static void test_memory_that_the_host_does_not_provide(void **state)
{
	uint64_t words[] = {UINT64_MAX};
	struct err *err = NULL;
	struct got *g;

	(void)state;
	if (MACHINE_WITH_TSAN)
		skip(); /* its signal handlers cannot be left by a jump (test_fault.c) */
	fault_init();
	g = got_new(true);
	for (uint64_t p = 0; p < 64; p++)
		store(g, 1, p, 0, p + 1);
	assert_int_equal(ftruncate(g->m.blocks[1].ram.fd,
				   (off_t)(g->m.blocks[1].ram.fd_offset + 60 * PAGE_BYTES)),
			 0);
	assert_int_equal(pages_reader_read(g->reader, 1, 0, words, 1, false, &err), -EIO);
	rig_check_err(&err, EIO, "the host does not provide page 0x43c000 of memory 'ram.1'");
	/* What is before it was read. */
	assert_int_equal(pages_reader_flush(g->reader, &err), 0);
	assert_int_equal(g->pages, 60);
	assert_int_equal(g->first_words[59], 60);
	got_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map),
		cmocka_unit_test(test_runs_come_back),
		cmocka_unit_test(test_runs_that_cannot_be),
		cmocka_unit_test(test_what_the_host_has_not_stays_so),
		cmocka_unit_test(test_a_copy_of_a_file_is_read),
		cmocka_unit_test(test_zeros_are_told_where_something_was),
		cmocka_unit_test(test_batches_are_full_and_no_larger),
		cmocka_unit_test(test_many_runs_of_zeros),
		cmocka_unit_test(test_what_is_unplugged_is_left_out_and_marked),
		cmocka_unit_test(test_memory_that_the_host_does_not_provide),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
