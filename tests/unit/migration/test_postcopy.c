/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Postcopy's pieces (vmm/migration/postcopy.h): what is sent and in which order, hostile payloads, what
 * is left after a break. test_postcopy_move.c has them at work.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/num.h"
#include "vmm/migration/postcopy_set.h"

/* ---- a sender alone ---- */

static const uint64_t small[3] = {100, 0, 1000};

static struct postcopy_send *sender(void)
{
	struct postcopy_send *s;

	assert_int_equal(postcopy_send_new(small, 3, &s, NULL), 0);
	return s;
}

static void add(struct postcopy_send *s, size_t block, uint64_t page, uint64_t nr)
{
	for (; nr; page++, nr--) {
		uint64_t word = UINT64_C(1) << page % 64;

		postcopy_send_add(s, block, page - page % 64, &word, 1);
	}
}

static int want(struct postcopy_send *s, size_t block, uint64_t page, uint64_t nr)
{
	uint8_t bytes[POSTCOPY_WANT_BYTES];

	postcopy_want_encode(block, page, nr, bytes);
	return postcopy_send_want(s, bytes, sizeof(bytes), NULL);
}

static void check_next(struct postcopy_send *s, size_t block, uint64_t page, uint64_t nr,
		       bool wanted)
{
	uint64_t got_page, got_nr;
	size_t got_block;
	bool got_wanted;

	assert_true(postcopy_send_next(s, 8, &got_block, &got_page, &got_nr, &got_wanted));
	assert_int_equal(got_block, block);
	assert_int_equal(got_page, page);
	assert_int_equal(got_nr, nr);
	assert_int_equal(got_wanted, wanted);
}

static void check_nothing(struct postcopy_send *s)
{
	uint64_t page, nr;
	size_t block;
	bool wanted;

	assert_false(postcopy_send_next(s, 8, &block, &page, &nr, &wanted));
}

static void test_order(void **state)
{
	struct postcopy_send *s = sender();

	(void)state;
	check_nothing(s);
	add(s, 0, 3, 2);
	add(s, 0, 90, 10);
	add(s, 2, 500, 30);
	add(s, 2, 500, 30);
	assert_int_equal(postcopy_send_left(s), 42);
	check_next(s, 0, 3, 2, false);
	/* Wanted first, in order; then what follows; what is sent, or was none, is not sent again. */
	assert_int_equal(want(s, 2, 510, 1), 0);
	assert_int_equal(want(s, 0, 98, 2), 0);
	assert_int_equal(want(s, 2, 510, 1), 0);
	assert_int_equal(want(s, 0, 3, 1), 0);
	assert_int_equal(want(s, 0, 50, 1), 0);
	assert_true(postcopy_send_is_wanted(s));
	check_next(s, 2, 510, 1, true);
	check_next(s, 0, 98, 2, true);
	assert_false(postcopy_send_is_wanted(s));
	check_next(s, 2, 500, 8, false);
	assert_int_equal(want(s, 2, 512, 18), 0);
	assert_int_equal(want(s, 0, 90, 1), 0);
	check_next(s, 2, 512, 8, true);
	check_next(s, 2, 520, 8, true);
	check_next(s, 2, 528, 2, true);
	check_next(s, 0, 90, 1, true);
	check_next(s, 0, 91, 7, false);
	check_next(s, 2, 508, 2, false);
	check_next(s, 2, 511, 1, false);
	check_nothing(s);
	assert_int_equal(postcopy_send_left(s), 0);
	postcopy_send_free(s);
}

/* More is wanted than is kept in order: all of it is sent first, and once. */
static void test_many_wanted(void **state)
{
	static const uint64_t pages[1] = {100000};
	struct postcopy_send *s;
	uint64_t page, nr;
	size_t block;
	bool wanted;

	(void)state;
	assert_int_equal(postcopy_send_new(pages, 1, &s, NULL), 0);
	add(s, 0, 0, 100000);
	for (page = 0; page < 100000; page += 10)
		assert_int_equal(want(s, 0, 99990 - page, 2), 0);
	for (unsigned int i = 0; i < 10000; i++) {
		assert_true(postcopy_send_next(s, 100, &block, &page, &nr, &wanted));
		assert_true(wanted);
		assert_int_equal(nr, 2);
		assert_int_equal(page % 10, 0);
		if (i < 1000)
			assert_int_equal(page, 99990 - 10 * i);
	}
	assert_int_equal(postcopy_send_left(s), 80000);
	assert_true(postcopy_send_next(s, 100, &block, &page, &nr, &wanted));
	assert_false(wanted);
	assert_int_equal(nr, 8);
	postcopy_send_free(s);
}

static void test_hostile_wants(void **state)
{
	struct postcopy_send *s = sender();
	uint8_t bytes[POSTCOPY_WANT_BYTES + 1];

	(void)state;
	add(s, 2, 0, 1000);
	assert_int_equal(want(s, 3, 0, 1), -EINVAL);
	assert_int_equal(want(s, UINT32_MAX, 0, 1), -EINVAL);
	assert_int_equal(want(s, 1, 0, 1), -EINVAL);
	assert_int_equal(want(s, 2, 1000, 1), -EINVAL);
	assert_int_equal(want(s, 2, 999, 2), -EINVAL);
	assert_int_equal(want(s, 2, 1, UINT64_MAX), -EINVAL);
	assert_int_equal(want(s, 2, UINT64_MAX, 2), -EINVAL);
	assert_int_equal(want(s, 2, 5, 0), -EINVAL);
	postcopy_want_encode(2, 0, 1, bytes);
	assert_int_equal(postcopy_send_want(s, bytes, sizeof(bytes), NULL), -EINVAL);
	assert_int_equal(postcopy_send_want(s, bytes, sizeof(bytes) - 2, NULL), -EINVAL);
	assert_int_equal(postcopy_send_want(s, bytes, 0, NULL), -EINVAL);
	assert_false(postcopy_send_is_wanted(s));
	postcopy_send_free(s);
}

/* ---- sets ---- */

#define SETS 8

struct sets {
	uint8_t bytes[SETS][POSTCOPY_SET_HEAD + 256];
	size_t size[SETS], nr;
};

static int keep_set(void *opaque, const void *bytes, size_t size, struct err **err)
{
	struct sets *sets = opaque;

	(void)err;
	assert_true(sets->nr < SETS && size <= sizeof(sets->bytes[0]));
	memcpy(sets->bytes[sets->nr], bytes, size);
	sets->size[sets->nr++] = size;
	return 0;
}

static int fail_to_send(void *opaque, const void *bytes, size_t size, struct err **err)
{
	(void)opaque;
	(void)bytes;
	(void)size;
	return err_set(err, EPIPE, "gone");
}

static int decode(const void *bytes, size_t size, struct postcopy_set *set)
{
	struct err *err = NULL;
	int ret = postcopy_set_decode(bytes, size, small, 3, "it", set, &err);

	if (ret)
		assert_string_equal(err_message(err), "it names pages that cannot be");
	err_free(err);
	return ret;
}

static void test_sets(void **state)
{
	struct postcopy_send *s = sender();
	struct sets sets = {.nr = 0};
	struct postcopy_set set;
	struct err *err = NULL;
	uint64_t nr;

	(void)state;
	/* There is one at least. */
	assert_int_equal(postcopy_send_list(s, keep_set, &sets, NULL), 0);
	assert_int_equal(sets.nr, 1);
	assert_int_equal(decode(sets.bytes[0], sets.size[0], &set), 0);
	assert_int_equal(postcopy_set_next(&set, 0, &nr), 100);
	assert_int_equal(nr, 0);
	sets.nr = 0;
	add(s, 0, 0, 100);
	add(s, 2, 7, 1);
	add(s, 2, 64, 130);
	add(s, 2, 999, 1);
	assert_int_equal(postcopy_send_list(s, keep_set, &sets, NULL), 0);
	assert_int_equal(sets.nr, 2);
	assert_int_equal(decode(sets.bytes[0], sets.size[0], &set), 0);
	assert_int_equal(sets.size[0], POSTCOPY_SET_HEAD);
	assert_int_equal(postcopy_set_next(&set, 30, &nr), 30);
	assert_int_equal(nr, 70);
	assert_int_equal(decode(sets.bytes[1], sets.size[1], &set), 0);
	assert_int_equal(set.block, 2);
	assert_int_equal(postcopy_set_next(&set, 0, &nr), 7);
	assert_int_equal(nr, 1);
	assert_int_equal(postcopy_set_next(&set, 8, &nr), 64);
	assert_int_equal(nr, 130);
	assert_int_equal(postcopy_set_next(&set, 194, &nr), 999);
	assert_int_equal(nr, 1);
	assert_int_equal(postcopy_set_next(&set, 1000, &nr), 1000);
	assert_int_equal(nr, 0);
	assert_int_equal(postcopy_send_list(s, fail_to_send, NULL, &err), -EPIPE);
	assert_string_equal(err_message(err), "gone");
	err_free(err);
	postcopy_send_free(s);
}

static void check_bad_set(const struct sets *good, unsigned int at, unsigned int size,
			  uint64_t value)
{
	struct sets bad = *good;
	struct postcopy_set set;

	bytes_put_le(bad.bytes[0] + at, size, value);
	assert_int_equal(decode(bad.bytes[0], bad.size[0], &set), -EINVAL);
}

static void test_hostile_sets(void **state)
{
	struct postcopy_send *s = sender();
	struct sets sets = {.nr = 0};
	struct postcopy_set set;

	(void)state;
	add(s, 0, 5, 2);
	assert_int_equal(postcopy_send_list(s, keep_set, &sets, NULL), 0);
	assert_int_equal(decode(sets.bytes[0], sets.size[0], &set), 0);
	check_bad_set(&sets, 0, 4, 1);
	check_bad_set(&sets, 0, 4, 2);
	check_bad_set(&sets, 0, 4, 3);
	check_bad_set(&sets, 0, 4, UINT32_MAX);
	check_bad_set(&sets, 4, 4, 0);
	check_bad_set(&sets, 4, 4, 3);
	check_bad_set(&sets, 8, 8, 1);
	check_bad_set(&sets, 8, 8, POSTCOPY_SET_PAGES);
	check_bad_set(&sets, 16, 8, 99);
	check_bad_set(&sets, 16, 8, 101);
	check_bad_set(&sets, 16, 8, 0);
	check_bad_set(&sets, 16, 8, UINT64_MAX);
	check_bad_set(&sets, POSTCOPY_SET_HEAD + 12, 1, 0x10);
	for (size_t size = 0; size < sets.size[0]; size++)
		assert_int_equal(decode(sets.bytes[0], size, &set), -EINVAL);
	assert_int_equal(decode(sets.bytes[0], sets.size[0] + 1, &set), -EINVAL);
	postcopy_send_free(s);
}

/* ---- recovery of a sender alone ---- */

/* A HAVE payload of a block of @small: it lacks one page, or none (@page UINT64_MAX). */
static uint64_t lack_next(void *opaque, size_t block, uint64_t page, uint64_t end, uint64_t *ret_nr)
{
	uint64_t lacks = *(const uint64_t *)opaque;

	(void)block;
	*ret_nr = page <= lacks && lacks < end;
	return *ret_nr ? lacks : end;
}

struct telling {
	struct postcopy_send *s;
	int ret;
};

static int tell(void *opaque, const void *bytes, size_t size, struct err **err)
{
	struct telling *telling = opaque;

	(void)err;
	telling->ret = postcopy_send_have(telling->s, bytes, size, NULL);
	return 0;
}

static int have(struct postcopy_send *s, size_t block, uint64_t lacks)
{
	struct telling telling = {s, 0};

	assert_int_equal(postcopy_set_emit(block, small[block], true, lack_next, &lacks, tell,
					   &telling, NULL),
			 0);
	return telling.ret;
}

static void test_have(void **state)
{
	struct postcopy_send *s = sender();

	(void)state;
	add(s, 0, 5, 2);
	add(s, 2, 40, 3);
	assert_int_equal(have(s, 0, 5), -EINVAL); /* nobody asked */
	check_next(s, 0, 5, 2, false);
	check_next(s, 2, 40, 3, false);
	assert_int_equal(want(s, 2, 40, 1), 0);
	postcopy_send_recover(s);
	check_nothing(s);
	assert_int_equal(postcopy_send_recovered(s, NULL), -EINVAL);
	assert_int_equal(have(s, 2, 40), -EINVAL); /* out of turn */
	assert_int_equal(have(s, 0, 7), -EINVAL);  /* it had that before */
	assert_int_equal(have(s, 0, 6), 0);
	assert_int_equal(postcopy_send_recovered(s, NULL), -EINVAL);
	assert_int_equal(have(s, 2, 41), 0);
	assert_int_equal(have(s, 2, 41), -EINVAL);
	assert_int_equal(postcopy_send_recovered(s, NULL), 0);
	assert_int_equal(postcopy_send_left(s), 2);
	assert_int_equal(want(s, 2, 41, 1), 0);
	check_next(s, 2, 41, 1, true);
	check_next(s, 0, 6, 1, false);
	check_nothing(s);
	/* Again, and everything came. */
	postcopy_send_recover(s);
	assert_int_equal(have(s, 0, UINT64_MAX), 0);
	assert_int_equal(have(s, 2, UINT64_MAX), 0);
	assert_int_equal(postcopy_send_recovered(s, NULL), 0);
	check_nothing(s);
	postcopy_send_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),         cmocka_unit_test(test_many_wanted),
		cmocka_unit_test(test_hostile_wants), cmocka_unit_test(test_sets),
		cmocka_unit_test(test_hostile_sets),  cmocka_unit_test(test_have),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
