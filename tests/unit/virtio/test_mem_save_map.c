/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The map of blocks in the state of a virtio-mem device: any pattern is there again on the target, in
 * few bytes where blocks lie together.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/num.h"
#include "base/pack.h"
#include "tests/unit/virtio/mem_rig.h"

#define MANY_BLOCKS (RIG_MEMORY / 4096 - 3)

static void many_blocks(struct virtio_mem_config *config)
{
	config->device.block_size = 4096;
	config->device.region_size = MANY_BLOCKS * 4096;
	config->device.requested_size = 0;
	config->memslot_size = RIG_MEMORY;
}

struct same {
	struct virtio_mem *to;
	uint64_t bytes;
};

/* There and back: plugged there, and told again here at once. */
static void tell_same(void *opaque, struct virtio_mem *mem, uint64_t offset, uint64_t size,
		      bool plugged)
{
	struct same *same = opaque;

	(void)mem;
	assert_true(plugged);
	assert_int_equal(virtio_mem_load_plug(same->to, offset, size, true, NULL), 0);
	same->bytes += size;
}

/* Returns the size of the state. */
static size_t move_many(struct rig *from)
{
	struct pack state = {.failed = false};
	struct same same;
	struct vmem_device_info info;
	struct err *err = NULL;
	struct unpack in;
	struct rig to;
	size_t size;

	rig_init(&to, many_blocks);
	same = (struct same){.to = to.mem};
	virtio_mem_track(from->mem, tell_same, &same);
	virtio_mem_track(from->mem, NULL, NULL);
	virtio_device_save(from->vdev, &state);
	assert_false(pack_failed(&state));
	size = state.size;
	in = unpack_begin(state.bytes, size);
	if (virtio_device_load(to.vdev, &in, &err))
		fail_msg("%s", err_message(err));
	assert_true(unpack_ended(&in));
	pack_done(&state);
	virtio_mem_info(to.mem, &info);
	assert_int_equal(info.plugged_size, same.bytes);
	virtio_mem_info(from->mem, &info);
	assert_int_equal(info.plugged_size, same.bytes);
	rig_done(&to);
	return size;
}

static void plug_blocks(struct rig *r, uint64_t first, uint64_t count)
{
	assert_int_equal(virtio_mem_load_plug(r->mem, first * 4096, count * 4096, true, NULL), 0);
}

/* A map takes few bytes where blocks lie together, and a bit for each at most. */
static void test_maps_of_many_blocks(void **state)
{
	struct rig *from = *state;
	size_t empty = move_many(from), size;

	assert_true(empty < 500);
	plug_blocks(from, 0, MANY_BLOCKS);
	assert_int_equal(move_many(from), empty);
	assert_int_equal(virtio_mem_load_plug(from->mem, 0, MANY_BLOCKS * 4096, false, NULL), 0);
	/* Chunks of all kinds, runs over the ends of chunks, and the last block. */
	plug_blocks(from, 5, 1);
	plug_blocks(from, 500, 13);
	plug_blocks(from, 1024, 1024);
	plug_blocks(from, 2559, 2);
	plug_blocks(from, MANY_BLOCKS - 1, 1);
	size = move_many(from);
	assert_true(size > empty && size < empty + MANY_BLOCKS / 8);
	for (uint64_t block = 0; block < 500; block += 2)
		if (block != 5)
			plug_blocks(from, block, 1);
	for (uint64_t block = 2562; block < MANY_BLOCKS - 2; block += 2)
		plug_blocks(from, block, 1);
	size = move_many(from);
	assert_true(size < empty + MANY_BLOCKS / 8 + 100);
}

static int setup(void **state)
{
	return rig_setup(state, many_blocks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_maps_of_many_blocks, setup, rig_teardown),
	};

	return cmocka_run_group_tests_name("virtio-mem: map of blocks", tests, NULL, NULL);
}
