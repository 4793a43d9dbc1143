/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Plugged memory that a guest gives up by other means than the device (a balloon, reports of free
 * pages): gm_discard() over a memory device. mem.h, I9.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/num.h"
#include "tests/unit/virtio/mem_rig.h"

#define PAGE 4096

static int setup(void **state)
{
	return rig_setup(state, NULL);
}

static uint8_t *block_at(struct rig *r, uint64_t block)
{
	return r->memory + block * RIG_BLOCK;
}

static bool is_zero(const uint8_t *at, uint64_t size)
{
	for (uint64_t i = 0; i < size; i++)
		if (at[i])
			return false;
	return true;
}

static void plug(struct rig *r, uint64_t first, uint16_t count)
{
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, first, count), VMEM_RESP_ACK);
	memset(block_at(r, first), 7, count * RIG_BLOCK);
}

static uint64_t discard(struct rig *r, uint64_t offset, uint64_t size)
{
	uint64_t bytes;

	assert_int_equal(gm_discard(r->g.gm, RIG_ADDR + offset, size, &bytes), 0);
	return bytes;
}

static void check_no_violation(struct rig *r)
{
	struct virtio_mem_violations v;

	virtio_mem_violations(r->mem, &v);
	assert_int_equal(v.reads + v.writes, 0);
}

/* A page of a plugged block reads as zeros and can be written; no size is another. */
static void test_plugged_pages_come_back(void **state)
{
	struct rig *r = *state;
	uint32_t mapped, reachable;

	rig_start(r);
	plug(r, 4, 2);
	mapped = rig_mapped(r);
	reachable = rig_reachable(r);
	assert_int_equal(discard(r, 4 * RIG_BLOCK + PAGE, 2 * PAGE), 2 * PAGE);
	assert_int_equal(rig_pages(r, 4, 2), 2 * RIG_BLOCK / PAGE - 2);
	assert_true(is_zero(block_at(r, 4) + PAGE, 2 * PAGE));
	assert_int_equal(block_at(r, 4)[PAGE - 1], 7);
	assert_int_equal(block_at(r, 4)[3 * PAGE], 7);
	assert_int_equal(gm_fill(r->g.gm, RIG_ADDR + 4 * RIG_BLOCK + PAGE, 9, PAGE), 0);
	assert_int_equal(block_at(r, 4)[PAGE], 9);
	assert_int_equal(rig_plugged_bytes(r), 2 * RIG_BLOCK);
	assert_int_equal(rig_mapped(r), mapped);
	assert_int_equal(rig_reachable(r), reachable);
	check_no_violation(r);
	/* All of it, and then it is unplugged as ever. */
	assert_int_equal(discard(r, 0, RIG_SIZE), 2 * RIG_BLOCK);
	assert_int_equal(rig_pages(r, 0, RIG_BLOCKS), 0);
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 4, 2), VMEM_RESP_ACK);
	assert_int_equal(rig_plugged_bytes(r), 0);
}

/* Of an unplugged block nothing changes: it stays closed, and holds nothing. */
static void test_unplugged_blocks_stay_as_they_are(void **state)
{
	struct rig *r = *state;

	rig_start(r);
	plug(r, 4, 1);
	assert_int_equal(discard(r, 5 * RIG_BLOCK, 3 * RIG_BLOCK), 0);
	assert_int_equal(discard(r, 3 * RIG_BLOCK, RIG_BLOCK), 0);
	assert_int_equal(rig_pages(r, 5, 3), 0);
	/* Looking reads them, which maps the page of zeros. */
	assert_int_equal(rig_writable(r), 1 << 4);
	assert_int_equal(block_at(r, 4)[0], 7);
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 4, 1), VMEM_RESP_ACK);
	assert_int_equal(discard(r, 4 * RIG_BLOCK, RIG_BLOCK), 0);
	assert_int_equal(rig_reachable(r), 0);
	check_no_violation(r);
}

/* A device that works on a request is not waited for. */
static void test_a_busy_device_says_so(void **state)
{
	struct rig *r = *state;
	uint64_t bytes;

	rig_start(r);
	plug(r, 0, 1);
	virtio_lock(r->vdev);
	assert_int_equal(gm_discard(r->g.gm, RIG_ADDR, PAGE, &bytes), -EAGAIN);
	virtio_unlock(r->vdev);
	assert_int_equal(block_at(r, 0)[0], 7);
	assert_int_equal(discard(r, 0, PAGE), PAGE);
	assert_int_equal(block_at(r, 0)[0], 0);
}

struct racer {
	struct rig *r;
	atomic_bool stop;
	uint64_t freed;
};

static void *race(void *opaque)
{
	struct racer *racer = opaque;

	while (!racer->stop) {
		uint64_t bytes;
		int ret = gm_discard(racer->r->g.gm, RIG_ADDR, RIG_SIZE, &bytes);

		if (ret && ret != -EAGAIN)
			return (void *)(intptr_t)ret;
		racer->freed += bytes;
	}
	return NULL;
}

/* Plugs and unplugs go on beside it: whatever is unplugged in the end holds nothing. */
static void test_races_with_requests(void **state)
{
	struct rig *r = *state;
	struct racer racer = {.r = r};
	pthread_t thread;
	void *ret;

	rig_start(r);
	assert_int_equal(pthread_create(&thread, NULL, race, &racer), 0);
	for (unsigned int i = 0; i < 300; i++) {
		uint64_t first = i % 12;

		assert_int_equal(rig_request(r, VMEM_REQ_PLUG, first, 4), VMEM_RESP_ACK);
		assert_int_equal(gm_fill(r->g.gm, RIG_ADDR + first * RIG_BLOCK, 7, 4 * RIG_BLOCK),
				 0);
		assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, first, 4), VMEM_RESP_ACK);
		assert_int_equal(rig_pages(r, first, 4), 0);
	}
	racer.stop = true;
	pthread_join(thread, &ret);
	assert_null(ret);
	assert_int_equal(rig_plugged_bytes(r), 0);
	assert_int_equal(rig_writable(r), 0);
	check_no_violation(r);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_plugged_pages_come_back),
		TEST(test_unplugged_blocks_stay_as_they_are),
		TEST(test_a_busy_device_says_so),
		TEST(test_races_with_requests),
	};

	return cmocka_run_group_tests_name("virtio-mem: pages taken back", tests, NULL, NULL);
}
