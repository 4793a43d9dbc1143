/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest memory: who may reach what (gm.h, I1 and I2), and widths (I4). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/core/gm_world.h"

/* Every way to reach [gpa, gpa + size) says whether it may, and a refused one touches nothing. */
static int nothing(void *opaque, void *host, size_t size)
{
	(void)host;
	*(uint64_t *)opaque += size;
	return 0;
}

static void check_reach(struct world *w, uint64_t gpa, uint64_t size, bool ok)
{
	int want = ok ? 0 : -EFAULT;
	uint64_t seen = 0;
	uint8_t *buf = gm_world_pages(8 * BLOCK), *before = gm_world_pages(4 * BLOCK);

	memcpy(before, w->device, 4 * BLOCK);
	memset(buf, 0xee, 8 * BLOCK);
	assert_int_equal(gm_valid(w->gm, gpa, size), ok);
	assert_int_equal(gm_access(w->gm, gpa, size, nothing, &seen), want);
	assert_int_equal(seen, ok ? size : 0);
	if (size <= 8 * BLOCK) {
		assert_int_equal(gm_read(w->gm, gpa, buf, size), want);
		if (!ok)
			assert_int_equal(buf[0], 0xee);
	}
	if (!ok && size <= 8 * BLOCK) {
		memset(buf, 0xdd, 8 * BLOCK);
		assert_int_equal(gm_write(w->gm, gpa, buf, size), -EFAULT);
		assert_int_equal(gm_fill(w->gm, gpa, 0xcc, size), -EFAULT);
		for (unsigned int i = 0; i < PAGE; i++)
			assert_int_equal(w->low[i] | w->next[i] | w->high[i], 0);
		assert_memory_equal(before, w->device, 4 * BLOCK);
	}
	free(buf);
	free(before);
}

static void test_bounds(void **state)
{
	struct world *w = *state;

	check_reach(w, LOW, PAGE, true);
	check_reach(w, LOW, 1, true);
	check_reach(w, LOW - 1, 1, false);
	check_reach(w, LOW - 1, 2, false);
	check_reach(w, 0, 1, false);
	check_reach(w, END - 1, 1, true);
	check_reach(w, END - 1, 2, false);
	check_reach(w, END, 1, false);
	check_reach(w, HOLE, 1, false);
	check_reach(w, HOLE, PAGE, false);
	/* Adjacent regions may be crossed, a hole not. */
	check_reach(w, NEXT - 1, 2, true);
	check_reach(w, LOW, 2 * PAGE, true);
	gm_grant(w->region, 0, 4 * BLOCK);
	check_reach(w, LOW, HOLE - LOW, true);
	check_reach(w, LOW, HOLE - LOW + 1, false);
	check_reach(w, LOW, END - LOW, false);
	check_reach(w, HOLE - 1, PAGE + 2, false);
	/* Sizes and addresses that wrap around. */
	check_reach(w, LOW, UINT64_MAX, false);
	check_reach(w, LOW, UINT64_MAX - LOW, false);
	check_reach(w, UINT64_MAX, 1, false);
	check_reach(w, UINT64_MAX, LOW + 2, false);
	check_reach(w, UINT64_MAX - 7, 16, false);
	check_reach(w, HIGH, UINT64_MAX - HIGH + 2, false);
}

static void test_size_zero(void **state)
{
	const uint64_t anywhere[] = {0, LOW, HOLE, DEVICE, UINT64_MAX};
	struct world *w = *state;
	uint64_t seen = 0;

	for (unsigned int i = 0; i < 5; i++) {
		assert_true(gm_valid(w->gm, anywhere[i], 0));
		assert_int_equal(gm_read(w->gm, anywhere[i], NULL, 0), 0);
		assert_int_equal(gm_write(w->gm, anywhere[i], NULL, 0), 0);
		assert_int_equal(gm_fill(w->gm, anywhere[i], 1, 0), 0);
		assert_int_equal(gm_access(w->gm, anywhere[i], 0, nothing, &seen), 0);
	}
	assert_int_equal(seen, 0);
}

static void test_last_bytes_of_the_address_space(void **state)
{
	const uint64_t top = UINT64_MAX - 2 * PAGE + 1;
	struct gm *gm = gm_new();
	uint8_t *host = gm_world_pages(PAGE), byte = 7;

	(void)state;
	assert_int_equal(gm_add_ram(gm, (struct range){top + PAGE, PAGE}, host), -EINVAL);
	assert_int_equal(gm_add_ram(gm, (struct range){top, PAGE}, host), 0);
	assert_int_equal(gm_write(gm, top + PAGE - 1, &byte, 1), 0);
	assert_int_equal(host[PAGE - 1], 7);
	assert_int_equal(gm_write(gm, top + PAGE - 1, host, 2), -EFAULT);
	assert_int_equal(gm_write(gm, top, host, UINT64_MAX), -EFAULT);
	gm_free(gm);
	free(host);
}

static void test_adding(void **state)
{
	struct world *w = *state;
	const struct {
		struct range gpa;
		int want;
	} ram[] = {
		{{LOW, PAGE}, -EEXIST},
		{{LOW - PAGE, 2 * PAGE}, -EEXIST},
		{{LOW - PAGE, 64 * PAGE}, -EEXIST},
		{{HOLE - PAGE, PAGE}, -EEXIST},
		{{HOLE, 2 * PAGE}, -EEXIST},
		{{0, 0}, -EINVAL},
		{{0x100000, 0}, -EINVAL},
		{{0x100001, PAGE}, -EINVAL},
		{{0x100000, PAGE + 1}, -EINVAL},
		{{UINT64_MAX - PAGE + 1, 2 * PAGE}, -EINVAL},
		{{HOLE, PAGE}, 0},
		{{HOLE, PAGE}, -EEXIST},
	};
	struct gm_region *region = NULL;

	for (unsigned int i = 0; i < sizeof(ram) / sizeof(ram[0]); i++)
		assert_int_equal(gm_add_ram(w->gm, ram[i].gpa, w->low), ram[i].want);
	assert_true(gm_valid(w->gm, HOLE - PAGE - 1, 1) == false);
	assert_true(gm_valid(w->gm, HOLE, 2 * PAGE));
	assert_int_equal(gm_add_ram(w->gm, (struct range){0, PAGE}, w->low + 8), -EINVAL);
	/* Block sizes; and what was refused leaves no trace. */
	for (uint64_t block = 0; block <= 3 * PAGE; block += PAGE)
		assert_int_equal(gm_add_device_memory(w->gm, (struct range){0, 5 * PAGE}, w->low,
						      block == PAGE ? 5000 : block, &region),
				 -EINVAL);
	assert_int_equal(
		gm_add_device_memory(w->gm, (struct range){LOW, PAGE}, w->low, PAGE, &region),
		-EEXIST);
	assert_null(region);
	assert_false(gm_valid(w->gm, 0, 1));
	gm_free(NULL);
}

/* What was removed is nowhere; its place, and its memory, can be used again. */
static void test_removing(void **state)
{
	struct world *w = *state;
	struct gm_region *region;

	gm_grant(w->region, 0, 4 * BLOCK);
	assert_true(gm_valid(w->gm, LOW, HOLE - LOW));
	gm_remove_device_memory(w->gm, w->region);
	assert_false(gm_valid(w->gm, DEVICE, 1));
	assert_false(gm_valid(w->gm, LOW, DEVICE - LOW + 1));
	assert_true(gm_valid(w->gm, LOW, DEVICE - LOW));
	assert_true(gm_valid(w->gm, HIGH, PAGE));
	assert_int_equal(gm_add_device_memory(w->gm, (struct range){DEVICE + BLOCK, 3 * BLOCK},
					      w->device, BLOCK, &region),
			 0);
	assert_false(gm_valid(w->gm, DEVICE + BLOCK, 1));
	gm_grant(region, 0, BLOCK);
	assert_int_equal(gm_fill(w->gm, DEVICE + BLOCK, 0x5a, BLOCK), 0);
	assert_int_equal(w->device[0], 0x5a);
	assert_false(gm_valid(w->gm, DEVICE, 1));
}

static void test_contents_cross_regions(void **state)
{
	struct world *w = *state;
	uint8_t out[64], in[64];

	for (unsigned int i = 0; i < 64; i++)
		out[i] = (uint8_t)(i + 1);
	gm_grant(w->region, 0, BLOCK);
	assert_int_equal(gm_write(w->gm, DEVICE - 32, out, 64), 0);
	assert_memory_equal(w->next + PAGE - 32, out, 32);
	assert_memory_equal(w->device, out + 32, 32);
	assert_int_equal(gm_read(w->gm, DEVICE - 32, in, 64), 0);
	assert_memory_equal(in, out, 64);
	assert_int_equal(w->device[32], 0);
	assert_int_equal(gm_fill(w->gm, NEXT - 3, 0xab, 5), 0);
	assert_int_equal(w->low[PAGE - 4], 0);
	assert_int_equal(w->low[PAGE - 3], 0xab);
	assert_int_equal(w->next[1], 0xab);
	assert_int_equal(w->next[2], 0);
	/* All three regions, and the byte order of what gm_access() sees. */
	assert_int_equal(gm_write(w->gm, NEXT - 1, out, 64), 0);
	assert_int_equal(w->low[PAGE - 1], 1);
	assert_memory_equal(w->next, out + 1, 63);
}

/* I2: exactly the granted blocks, by every sub-range of blocks. */
static void test_blocks(void **state)
{
	struct world *w = *state;

	check_reach(w, DEVICE, 1, false);
	check_reach(w, DEVICE - 1, 2, false);
	for (unsigned int map = 0; map < 16; map++) {
		gm_revoke(w->region, 0, 4 * BLOCK);
		for (unsigned int b = 0; b < 4; b++)
			if (map >> b & 1)
				gm_grant(w->region, b * BLOCK, BLOCK);
		for (unsigned int first = 0; first < 4; first++) {
			for (unsigned int end = first + 1; end <= 4; end++) {
				unsigned int mask = (1u << end) - (1u << first);
				bool ok = (map & mask) == mask;
				uint64_t gpa = DEVICE + (uint64_t)first * BLOCK;
				uint64_t size = (uint64_t)(end - first) * BLOCK;

				check_reach(w, gpa, size, ok);
				check_reach(w, gpa + 1, size - 2, ok);
			}
		}
		/* One byte beyond, in both neighbours. */
		check_reach(w, DEVICE - 1, BLOCK + 1, map & 1);
		check_reach(w, HOLE - 1, 1, map >> 3 & 1);
	}
	/* Twice is as once. */
	gm_grant(w->region, 0, 2 * BLOCK);
	gm_grant(w->region, 0, 2 * BLOCK);
	gm_revoke(w->region, 0, BLOCK);
	gm_revoke(w->region, 0, BLOCK);
	check_reach(w, DEVICE, BLOCK, false);
	check_reach(w, DEVICE + BLOCK, BLOCK, true);
	gm_grant(w->region, 0, 0);
	check_reach(w, DEVICE, BLOCK, false);
}

static void test_atomics(void **state)
{
	struct world *w = *state;
	const unsigned int sizes[] = {2, 4, 8};
	const uint64_t values[] = {0xf2f1, 0xf4f3f2f1, 0xf8f7f6f5f4f3f2f1};
	uint64_t value;

	for (unsigned int i = 0; i < 8; i++)
		w->low[i] = (uint8_t)(0xf1 + i);
	for (unsigned int i = 0; i < 3; i++) {
		unsigned int size = sizes[i];

		value = UINT64_MAX;
		assert_int_equal(gm_load_acquire(w->gm, LOW, size, &value), 0);
		assert_int_equal(value, values[i]);
		for (unsigned int off = 1; off < size; off++) {
			value = 42;
			assert_int_equal(gm_load_acquire(w->gm, LOW + off, size, &value), -EFAULT);
			assert_int_equal(value, 42);
			assert_int_equal(gm_store_release(w->gm, LOW + off, size, 0), -EFAULT);
		}
		value = 42;
		assert_int_equal(gm_load_acquire(w->gm, DEVICE, size, &value), -EFAULT);
		assert_int_equal(gm_load_acquire(w->gm, HOLE, size, &value), -EFAULT);
		assert_int_equal(gm_load_acquire(w->gm, UINT64_MAX - size + 1, size, &value),
				 -EFAULT);
		assert_int_equal(gm_store_release(w->gm, DEVICE, size, 1), -EFAULT);
		assert_int_equal(value, 42);
		/* Stores write their width and nothing more. */
		memset(w->next, 0xee, 16);
		assert_int_equal(gm_store_release(w->gm, NEXT + 8, size, 0x1122334455667788), 0);
		assert_int_equal(w->next[8], 0x88);
		assert_int_equal(w->next[7], 0xee);
		assert_int_equal(w->next[8 + size - 1], 0x88 - 0x11 * (size - 1));
		if (size < 8)
			assert_int_equal(w->next[8 + size], 0xee);
	}
	for (unsigned int size = 0; size <= 16; size++) {
		if (size == 2 || size == 4 || size == 8)
			continue;
		assert_int_equal(gm_load_acquire(w->gm, LOW, size, &value), -EFAULT);
		assert_int_equal(gm_store_release(w->gm, LOW, size, 0), -EFAULT);
	}
}

struct pieces {
	void *host[8];
	size_t size[8];
	unsigned int n, stop_at;
};

static int piece(void *opaque, void *host, size_t size)
{
	struct pieces *p = opaque;

	p->host[p->n] = host;
	p->size[p->n] = size;
	return ++p->n == p->stop_at ? 99 : 0;
}

static void test_access_pieces(void **state)
{
	struct world *w = *state;
	struct pieces p = {.n = 0};

	gm_grant(w->region, 0, 2 * BLOCK);
	assert_int_equal(gm_access(w->gm, LOW + 16, DEVICE + BLOCK + 1 - (LOW + 16), piece, &p), 0);
	assert_int_equal(p.n, 3);
	assert_ptr_equal(p.host[0], w->low + 16);
	assert_int_equal(p.size[0], PAGE - 16);
	assert_ptr_equal(p.host[1], w->next);
	assert_int_equal(p.size[1], PAGE);
	assert_ptr_equal(p.host[2], w->device);
	assert_int_equal(p.size[2], BLOCK + 1);
	/* The first result that is not 0 ends it, and nothing stays locked. */
	p = (struct pieces){.stop_at = 2};
	assert_int_equal(gm_access(w->gm, LOW, DEVICE + 1 - LOW, piece, &p), 99);
	assert_int_equal(p.n, 2);
	gm_revoke(w->region, 0, 4 * BLOCK);
	p = (struct pieces){.n = 0};
	assert_int_equal(gm_access(w->gm, LOW, DEVICE + 1 - LOW, piece, &p), -EFAULT);
	assert_int_equal(p.n, 0);
	gm_grant(w->region, 0, BLOCK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_bounds),
		TEST(test_size_zero),
		cmocka_unit_test(test_last_bytes_of_the_address_space),
		TEST(test_adding),
		TEST(test_removing),
		TEST(test_contents_cross_regions),
		TEST(test_blocks),
		TEST(test_atomics),
		TEST(test_access_pieces),
	};

	return cmocka_run_group_tests_name("gm", tests, NULL, NULL);
}
