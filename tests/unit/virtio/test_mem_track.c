/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who is told what is plugged (mem.h, I7): before it can be reached and after it cannot, whatever
 * the host fails at; and the pages that have to be read again.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/num.h"
#include "tests/unit/virtio/mem_rig.h"

#define PAGES (RIG_BLOCK / GM_DIRTY_PAGE)

/* Somebody who is told. */
struct told {
	struct rig *r;
	uint32_t map;                /* told as plugged: a bit each */
	unsigned int plugs, unplugs; /* calls */
	bool bad;                    /* one that came too late or too early */
};

static uint32_t blocks(uint64_t first, uint64_t count)
{
	return (uint32_t)(((UINT64_C(1) << count) - 1) << first);
}

static void hear(void *opaque, struct virtio_mem *mem, uint64_t offset, uint64_t size, bool plugged)
{
	struct told *t = opaque;
	uint32_t run = blocks(offset / RIG_BLOCK, size / RIG_BLOCK);

	t->bad |= mem != t->r->mem || offset % RIG_BLOCK || size % RIG_BLOCK || !size;
	/* Neither emulated devices nor the guest can write there, now that it is told of. */
	t->bad |= (rig_reachable(t->r) & run) || (rig_writable(t->r) & run & rig_mapped(t->r));
	t->bad |= plugged && (t->map & run);
	t->map = plugged ? t->map | run : t->map & ~run;
	t->plugs += plugged;
	t->unplugs += !plugged;
}

/* The same, but nothing is looked at. */
static void hear_quickly(void *opaque, struct virtio_mem *mem, uint64_t offset, uint64_t size,
			 bool plugged)
{
	struct told *t = opaque;
	uint32_t run = blocks(offset / RIG_BLOCK, size / RIG_BLOCK);

	(void)mem;
	t->bad |= plugged && (t->map & run);
	t->map = plugged ? t->map | run : t->map & ~run;
}

/* The first calls are for what is there. */
static void hear_first(void *opaque, struct virtio_mem *mem, uint64_t offset, uint64_t size,
		       bool plugged)
{
	struct told *t = opaque;
	uint32_t run = blocks(offset / RIG_BLOCK, size / RIG_BLOCK);

	t->bad |= mem != t->r->mem || !plugged || (rig_reachable(t->r) & run) != run;
	t->map |= run;
	t->plugs++;
}

static int setup(void **state)
{
	int ret = rig_setup(state, NULL);

	rig_start(*state);
	return ret;
}

static void check_told(const struct told *t)
{
	assert_false(t->bad);
	assert_int_equal(t->map, rig_reachable(t->r));
}

static void test_what_is_there_comes_first(void **state)
{
	struct told t = {.r = *state};

	virtio_mem_track(t.r->mem, hear_first, &t);
	assert_int_equal(t.plugs, 0);
	virtio_mem_track(t.r->mem, NULL, NULL);
	assert_int_equal(rig_request(t.r, VMEM_REQ_PLUG, 3, 2), VMEM_RESP_ACK);
	assert_int_equal(rig_request(t.r, VMEM_REQ_PLUG, 15, 1), VMEM_RESP_ACK);
	assert_int_equal(t.plugs, 0);
	virtio_mem_track(t.r->mem, hear_first, &t);
	assert_int_equal(t.plugs, 2);
	assert_int_equal(t.map, blocks(3, 2) | blocks(15, 1));
	check_told(&t);
}

static void test_requests(void **state)
{
	struct told t = {.r = *state};

	virtio_mem_track(t.r->mem, hear, &t);
	assert_int_equal(rig_request(t.r, VMEM_REQ_PLUG, 3, 2), VMEM_RESP_ACK);
	check_told(&t);
	assert_int_equal(rig_request(t.r, VMEM_REQ_PLUG, 5, 7), VMEM_RESP_ACK);
	check_told(&t);
	assert_int_equal(t.plugs, 2);
	assert_int_equal(rig_request(t.r, VMEM_REQ_UNPLUG, 4, 4), VMEM_RESP_ACK);
	check_told(&t);
	assert_int_equal(t.unplugs, 1);
	/* What changes nothing is not told. */
	assert_int_equal(rig_request(t.r, VMEM_REQ_STATE, 0, 16), VMEM_RESP_ACK);
	assert_int_equal(rig_request(t.r, VMEM_REQ_PLUG, 3, 1), VMEM_RESP_ERROR);
	assert_int_equal(t.plugs + t.unplugs, 3);
	assert_int_equal(rig_request(t.r, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_ACK);
	check_told(&t);
	assert_int_equal(t.map, 0);
	virtio_mem_track(t.r->mem, NULL, NULL);
	assert_int_equal(rig_request(t.r, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_ACK);
	assert_int_equal(t.map, 0);
}

static void test_resets(void **state)
{
	struct told t = {.r = *state};

	virtio_mem_track(t.r->mem, hear, &t);
	assert_int_equal(rig_request(t.r, VMEM_REQ_PLUG, 3, 2), VMEM_RESP_ACK);
	/* The driver's own changes no block. */
	rig_status(t.r, 0);
	check_told(&t);
	assert_int_equal(t.map, blocks(3, 2));
	virtio_system_reset(t.r->vdev);
	check_told(&t);
	assert_int_equal(t.map, 0);
}

static void test_a_failed_plug(void **state)
{
	struct told t = {.r = *state};

	virtio_mem_track(t.r->mem, hear, &t);
	t.r->add_error = -EIO;
	assert_int_equal(rig_request(t.r, VMEM_REQ_PLUG, 3, 9), VMEM_RESP_BUSY);
	assert_true(t.plugs > 0 && t.unplugs > 0);
	check_told(&t);
	assert_int_equal(t.map, 0);
}

/* The marks of a run of blocks; they are taken. */
static uint64_t take_marks(struct rig *r, uint64_t first, uint64_t count)
{
	uint64_t words[RIG_SIZE / GM_DIRTY_PAGE / 64 + 1];

	return gm_dirty_take(r->g.gm, RIG_ADDR + first * RIG_BLOCK, words,
			     (size_t)(count * PAGES / 64 + (count * PAGES % 64 != 0)));
}

/* What a failed unplug gives back is told again, and has to be read again: it kept its content. */
static void test_a_failed_unplug(void **state)
{
	struct told t = {.r = *state};

	assert_int_equal(gm_dirty_start(t.r->g.gm), 0);
	virtio_mem_track(t.r->mem, hear, &t);
	assert_int_equal(rig_request(t.r, VMEM_REQ_PLUG, 0, 12), VMEM_RESP_ACK);
	/* New blocks read as zeros on any target. */
	assert_int_equal(take_marks(t.r, 0, 16), 0);
	rig_lock_block(t.r, 6);
	assert_int_equal(rig_request(t.r, VMEM_REQ_UNPLUG, 4, 4), VMEM_RESP_BUSY);
	check_told(&t);
	assert_int_equal(t.map, blocks(0, 12));
	assert_true(t.unplugs > 0);
	assert_int_equal(gm_dirty_count(t.r->g.gm, RIG_ADDR, RIG_SIZE), 4 * PAGES);
	assert_int_equal(take_marks(t.r, 4, 4), 4 * PAGES);
	/* Of a slot that cannot be taken away. */
	t.r->remove_error = -EIO;
	assert_int_equal(rig_request(t.r, VMEM_REQ_UNPLUG, 8, 4), VMEM_RESP_BUSY);
	t.r->remove_error = 0;
	check_told(&t);
	assert_int_equal(t.map, blocks(0, 12));
	assert_int_equal(take_marks(t.r, 0, 16), 4 * PAGES);
	assert_int_equal(rig_request(t.r, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_BUSY);
	check_told(&t);
	assert_int_equal(take_marks(t.r, 0, 16), 12 * PAGES);
	rig_unlock_block(t.r, 6);
	assert_int_equal(rig_request(t.r, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_ACK);
	check_told(&t);
	assert_int_equal(t.map, 0);
	assert_int_equal(take_marks(t.r, 0, 16), 0);
}

/* Blocks that can neither be taken nor given back are out of reach, and told so (faulted). */
static void test_faulted_blocks(void **state)
{
	struct told t = {.r = *state};
	struct vmem_device_info info;

	virtio_mem_track(t.r->mem, hear_quickly, &t);
	assert_int_equal(rig_request(t.r, VMEM_REQ_PLUG, 0, 4), VMEM_RESP_ACK);
	rig_break_block(t.r, 2);
	t.r->add_error = -EIO;
	assert_int_equal(rig_request(t.r, VMEM_REQ_UNPLUG, 0, 4), VMEM_RESP_BUSY);
	t.r->add_error = 0;
	rig_mend_block(t.r, 2);
	virtio_mem_info(t.r->mem, &info);
	assert_int_equal(info.plugged_size, 4 * RIG_BLOCK);
	assert_int_equal(info.faulted_size, 4 * RIG_BLOCK);
	check_told(&t);
	assert_int_equal(t.map, 0);
	assert_int_equal(rig_request(t.r, VMEM_REQ_UNPLUG, 0, 4), VMEM_RESP_ACK);
	check_told(&t);
}

/* Whatever a driver asks for and a host fails at: what was told is what can be reached. */
static void test_any_life(void **state)
{
	struct told t = {.r = *state};
	unsigned int random = 1;

	virtio_mem_track(t.r->mem, hear, &t);
	for (unsigned int i = 0; i < 1500; i++) {
		uint16_t type = (uint16_t)(rand_r(&random) % 20 ? rand_r(&random) % 2
								: VMEM_REQ_UNPLUG_ALL);
		uint64_t first = (uint64_t)rand_r(&random) % RIG_BLOCKS;
		uint16_t count = (uint16_t)(rand_r(&random) % 6 + 1);
		uint64_t broken = rand_r(&random) % 6 ? RIG_BLOCKS
						      : first + (uint64_t)rand_r(&random) % count;

		if (broken < RIG_BLOCKS)
			rig_lock_block(t.r, broken);
		t.r->add_error = rand_r(&random) % 5 ? 0 : -EIO;
		t.r->remove_error = rand_r(&random) % 5 ? 0 : -EIO;
		if (i % 100 == 99)
			virtio_system_reset(t.r->vdev);
		else
			rig_request(t.r, type, first, count);
		if (i % 100 == 99)
			rig_start(t.r);
		t.r->add_error = t.r->remove_error = 0;
		if (broken < RIG_BLOCKS)
			rig_unlock_block(t.r, broken);
		check_told(&t);
	}
	assert_true(t.plugs > 100 && t.unplugs > 100);
}

/* ---- with threads ---- */

struct marker {
	struct told t;
	atomic_bool end;
};

/* Plugs and unplugs, again and again. */
static void *life_run(void *opaque)
{
	struct marker *m = opaque;

	while (!atomic_load(&m->end)) {
		assert_int_equal(rig_request(m->t.r, VMEM_REQ_PLUG, 0, 8), VMEM_RESP_ACK);
		assert_int_equal(rig_request(m->t.r, VMEM_REQ_UNPLUG, 2, 4), VMEM_RESP_ACK);
		assert_int_equal(rig_request(m->t.r, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_ACK);
	}
	return NULL;
}

/*
 * The first calls and the later ones are of one history: nothing is told twice or missed, whenever
 * tracking begins and ends. What is told after the end would be a write to a map that is gone.
 */
static void test_tracking_begins_and_ends_at_any_time(void **state)
{
	struct rig *r = malloc(sizeof(*r));
	struct marker m = {.t = {.r = r}};
	pthread_t life;

	(void)state;
	assert_non_null(r);
	rig_init_thread(r, NULL);
	rig_start(r);
	assert_int_equal(pthread_create(&life, NULL, life_run, &m), 0);
	for (unsigned int i = 0; i < 500; i++) {
		struct told *t = calloc(1, sizeof(*t));

		assert_non_null(t);
		t->r = r;
		virtio_mem_track(r->mem, hear_quickly, t);
		for (unsigned int n = 0; n < i % 7; n++)
			sched_yield();
		virtio_mem_track(r->mem, NULL, NULL);
		assert_false(t->bad);
		free(t);
	}
	virtio_mem_track(r->mem, hear_quickly, &m.t);
	atomic_store(&m.end, true);
	pthread_join(life, NULL);
	virtio_mem_track(r->mem, NULL, NULL);
	assert_false(m.t.bad);
	assert_int_equal(m.t.map, rig_reachable(r));
	rig_done(r);
	free(r);
}

#define RIG(fn) cmocka_unit_test_setup_teardown(fn, setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG(test_what_is_there_comes_first),
		RIG(test_requests),
		RIG(test_resets),
		RIG(test_a_failed_plug),
		RIG(test_a_failed_unplug),
		RIG(test_faulted_blocks),
		RIG(test_any_life),
		cmocka_unit_test(test_tracking_begins_and_ends_at_any_time),
	};

	return cmocka_run_group_tests_name("virtio-mem: tracking", tests, NULL, NULL);
}
