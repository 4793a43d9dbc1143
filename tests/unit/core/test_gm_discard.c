/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest memory: pages that are given back to the host (gm.h, I7). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "tests/unit/core/gm_world.h"

/* An owner: what it was asked, and what it is to say. */
struct owner {
	uint8_t *host;
	int calls, ret;
	uint64_t offset, size;
};

static int owner_discard(void *opaque, uint64_t offset, uint64_t size, uint64_t *ret_bytes)
{
	struct owner *o = opaque;

	o->calls++;
	o->offset = offset;
	o->size = size;
	assert_int_equal(*ret_bytes, 0);
	if (o->ret)
		return o->ret;
	memset(o->host + offset, 0, size);
	*ret_bytes = size;
	return 0;
}

static struct gm_discard discard_of(struct owner *o, uint64_t page_bytes)
{
	return (struct gm_discard){page_bytes, owner_discard, o};
}

static void test_pages_are_the_owners_to_free(void **state)
{
	struct world *w = *state;
	struct owner o = {.host = w->device};
	struct gm_discard d = discard_of(&o, PAGE);
	uint64_t bytes = 1;

	assert_int_equal(gm_set_discard(w->gm, DEVICE + BLOCK, &d), 0);
	memset(w->device, 7, 4 * BLOCK);
	assert_int_equal(gm_discard(w->gm, DEVICE + PAGE, 2 * PAGE, &bytes), 0);
	assert_int_equal(bytes, 2 * PAGE);
	assert_int_equal(o.calls, 1);
	assert_int_equal(o.offset, PAGE);
	assert_int_equal(o.size, 2 * PAGE);
	assert_int_equal(w->device[PAGE - 1], 7);
	assert_int_equal(w->device[PAGE], 0);
	assert_int_equal(w->device[3 * PAGE], 7);
	assert_int_equal(gm_discard(w->gm, DEVICE, 0, &bytes), 0);
	assert_int_equal(o.calls, 1);
}

static void test_what_is_no_page_of_one_region_is_left_alone(void **state)
{
	struct world *w = *state;
	struct owner o = {.host = w->low};
	struct gm_discard d = discard_of(&o, PAGE);
	const struct {
		uint64_t gpa, size;
	} bad[] = {
		{LOW + 1, PAGE},         /* not aligned */
		{LOW, PAGE - 1},         /* not whole */
		{LOW, 2 * PAGE},         /* goes on in the next region */
		{NEXT, PAGE},            /* whose owner has no way */
		{HOLE, PAGE},            /* no memory */
		{UINT64_MAX - 4095, 64}, /* nor here */
		{LOW, UINT64_MAX - 4095},
	};
	uint64_t bytes;

	assert_int_equal(gm_set_discard(w->gm, LOW, &d), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(gm_discard(w->gm, bad[i].gpa, bad[i].size, &bytes), -EFAULT);
	assert_int_equal(o.calls, 0);
	assert_int_equal(gm_discard(w->gm, LOW, PAGE, &bytes), 0);
	assert_int_equal(gm_set_discard(w->gm, LOW, NULL), 0);
	assert_int_equal(gm_discard(w->gm, LOW, PAGE, &bytes), -EFAULT);
	assert_int_equal(o.calls, 1);
}

static void test_sizes_of_pages_are_checked(void **state)
{
	struct world *w = *state;
	struct owner o = {.host = w->low};
	struct gm_discard half = discard_of(&o, PAGE / 2), odd = discard_of(&o, 3 * PAGE);
	struct gm_discard large = discard_of(&o, UINT64_C(1) << 40), ok = discard_of(&o, PAGE);

	assert_int_equal(gm_set_discard(w->gm, LOW, &half), -EINVAL);
	assert_int_equal(gm_set_discard(w->gm, LOW, &odd), -EINVAL);
	assert_int_equal(gm_set_discard(w->gm, LOW, &large), -EINVAL);
	assert_int_equal(gm_set_discard(w->gm, HOLE, &ok), -ENOENT);
}

static void test_a_range_is_looked_at_piece_by_piece(void **state)
{
	struct world *w = *state;
	struct owner o = {.host = w->device};
	struct gm_discard d = discard_of(&o, PAGE);
	struct gm_discard_run run;

	assert_int_equal(gm_set_discard(w->gm, DEVICE, &d), 0);
	gm_discard_look(w->gm, LOW - PAGE, END, &run);
	assert_int_equal(run.size, PAGE);
	assert_int_equal(run.page_bytes, 0);
	gm_discard_look(w->gm, LOW, END, &run);
	assert_int_equal(run.size, PAGE);
	assert_int_equal(run.page_bytes, 0);
	gm_discard_look(w->gm, DEVICE + PAGE, END, &run);
	assert_int_equal(run.size, 4 * BLOCK - PAGE);
	assert_int_equal(run.start, DEVICE);
	assert_int_equal(run.page_bytes, PAGE);
	gm_discard_look(w->gm, DEVICE + PAGE, 10, &run);
	assert_int_equal(run.size, 10);
	gm_discard_look(w->gm, END, UINT64_MAX - END, &run);
	assert_int_equal(run.size, UINT64_MAX - END);
	assert_int_equal(run.page_bytes, 0);
}

static void test_what_is_discarded_counts_as_written(void **state)
{
	struct world *w = *state;
	struct owner o = {.host = w->device};
	struct gm_discard d = discard_of(&o, PAGE);
	uint64_t bytes;

	assert_int_equal(gm_set_discard(w->gm, DEVICE, &d), 0);
	assert_int_equal(gm_dirty_start(w->gm), 0);
	assert_int_equal(gm_discard(w->gm, DEVICE + BLOCK, PAGE, &bytes), 0);
	assert_int_equal(gm_dirty_count(w->gm, 0, UINT64_MAX), 1);
	assert_int_equal(gm_dirty_count(w->gm, DEVICE + BLOCK, PAGE), 1);
	/* Nothing was done. */
	o.ret = -EAGAIN;
	assert_int_equal(gm_discard(w->gm, DEVICE, PAGE, &bytes), -EAGAIN);
	assert_int_equal(gm_dirty_count(w->gm, 0, UINT64_MAX), 1);
	/* Something may have been. */
	o.ret = -EIO;
	assert_int_equal(gm_discard(w->gm, DEVICE, PAGE, &bytes), -EIO);
	assert_int_equal(gm_dirty_count(w->gm, 0, UINT64_MAX), 2);
	gm_dirty_stop(w->gm);
}

static void test_holds_are_counted(void **state)
{
	struct world *w = *state;
	struct owner o = {.host = w->low};
	struct gm_discard d = discard_of(&o, PAGE);
	uint64_t bytes;

	assert_int_equal(gm_set_discard(w->gm, LOW, &d), 0);
	gm_discard_hold(w->gm);
	gm_discard_hold(w->gm);
	assert_int_equal(gm_discard(w->gm, LOW, PAGE, &bytes), -EBUSY);
	gm_discard_release(w->gm);
	assert_int_equal(gm_discard(w->gm, LOW, PAGE, &bytes), -EBUSY);
	gm_discard_release(w->gm);
	assert_int_equal(o.calls, 0);
	assert_int_equal(gm_discard(w->gm, LOW, PAGE, &bytes), 0);
}

/* An owner that is in the middle of it until it is told to end. */
struct slow {
	atomic_bool inside, go;
};

static int slow_discard(void *opaque, uint64_t offset, uint64_t size, uint64_t *ret_bytes)
{
	struct slow *s = opaque;

	(void)offset;
	s->inside = true;
	while (!s->go)
		;
	*ret_bytes = size;
	return 0;
}

static void *slow_thread(void *opaque)
{
	struct world *w = opaque;
	uint64_t bytes;

	gm_discard(w->gm, DEVICE, PAGE, &bytes);
	return NULL;
}

static void *let_go(void *opaque)
{
	struct slow *s = opaque;

	s->go = true;
	return NULL;
}

static void test_a_hold_waits_for_what_is_under_way(void **state)
{
	struct world *w = *state;
	struct slow slow = {false, false};
	struct gm_discard d = {PAGE, slow_discard, &slow};
	pthread_t thread, ender;
	uint64_t bytes;

	assert_int_equal(gm_set_discard(w->gm, DEVICE, &d), 0);
	assert_int_equal(pthread_create(&thread, NULL, slow_thread, w), 0);
	while (!slow.inside)
		;
	/* Accesses do not wait for it. */
	assert_int_equal(gm_fill(w->gm, LOW, 1, PAGE), 0);
	assert_int_equal(pthread_create(&ender, NULL, let_go, &slow), 0);
	gm_discard_hold(w->gm);
	assert_true(slow.go);
	pthread_join(ender, NULL);
	pthread_join(thread, NULL);
	assert_int_equal(gm_discard(w->gm, DEVICE, PAGE, &bytes), -EBUSY);
	gm_discard_release(w->gm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_pages_are_the_owners_to_free),
		TEST(test_what_is_no_page_of_one_region_is_left_alone),
		TEST(test_sizes_of_pages_are_checked),
		TEST(test_a_range_is_looked_at_piece_by_piece),
		TEST(test_what_is_discarded_counts_as_written),
		TEST(test_holds_are_counted),
		TEST(test_a_hold_waits_for_what_is_under_way),
	};

	return cmocka_run_group_tests_name("gm-discard", tests, NULL, NULL);
}
