/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtio-mem device that goes on in another machine: mem.h, virtio_mem_load_plug(), and the
 * device's part of virtio_device_save() and _load(). The target differs from the source in whatever
 * may differ: slots, guard, backend, prealloc.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <vmem/guard.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/num.h"
#include "base/pack.h"
#include "tests/unit/virtio/mem_rig.h"
#include "vmm/core/bus.h"

typedef void tweak_fn(struct virtio_mem_config *config);

/* ---- a target ---- */

static void eight_blocks(struct virtio_mem_config *config)
{
	config->device.requested_size = 8 * RIG_BLOCK;
	config->now_ms = rig_clock_ms;
}

static void other_slots(struct virtio_mem_config *config)
{
	config->device.requested_size = 0;
	config->device.usable_extra_bytes = 0;
	config->memslot_size = RIG_BLOCK;
	config->now_ms = rig_clock_ms;
}

static void one_slot_without_guard(struct virtio_mem_config *config)
{
	config->memslot_size = RIG_SIZE;
	config->guard = false;
}

static void memfd_with_prealloc(struct virtio_mem_config *config)
{
	config->fd = memfd_create("rig", MFD_CLOEXEC);
	assert_true(config->fd >= 0);
	assert_int_equal(ftruncate(config->fd, RIG_MEMORY), 0);
	assert_ptr_equal(mmap(config->memory, RIG_MEMORY, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_FIXED, config->fd, 0),
			 config->memory);
	config->device.prealloc = true;
	config->populate_threads = 1;
}

static tweak_fn *const targets[] = {NULL, other_slots, one_slot_without_guard, memfd_with_prealloc};

static struct rig *target_new(tweak_fn *tweak)
{
	struct rig *to = malloc(sizeof(*to));

	assert_non_null(to);
	rig_init(to, tweak);
	return to;
}

static void target_free(struct rig *to)
{
	int fd = to->config.fd;

	rig_done(to);
	if (fd >= 0)
		close(fd);
	free(to);
}

static int setup(void **state)
{
	int ret = rig_setup(state, eight_blocks);

	rig_start(*state);
	return ret;
}

/* ---- the way there ---- */

static void tell(void *opaque, struct virtio_mem *mem, uint64_t offset, uint64_t size, bool plugged)
{
	struct rig *to = opaque;
	struct err *err = NULL;

	(void)mem;
	if (virtio_mem_load_plug(to->mem, offset, size, plugged, &err))
		fail_msg("%s", err_message(err));
}

/* Its bytes are the caller's. */
static struct pack save(struct rig *from)
{
	struct pack out = {.failed = false};

	virtio_pause(from->vdev);
	virtio_device_save(from->vdev, &out);
	virtio_resume(from->vdev);
	assert_false(pack_failed(&out));
	return out;
}

static int load(struct rig *to, const void *bytes, size_t size, struct err **err)
{
	struct unpack in = unpack_begin(bytes, size);
	int ret = virtio_device_load(to->vdev, &in, err);

	return !ret && !unpack_ended(&in) ? err_set(err, EINVAL, "there is more") : ret;
}

/* Boot memory, and where the driver stands. */
static void move_driver(struct rig *to, const struct rig *from)
{
	memcpy(to->g.ram, from->g.ram, GUEST_SIZE);
	to->g.used = from->g.used;
	to->d = from->d;
	to->d.g = &to->g;
	to->request_gpa = from->request_gpa;
	to->answer_gpa = from->answer_gpa;
}

/* What is plugged is told, then the state; both machines are stopped. */
static void move(struct rig *to, struct rig *from)
{
	struct pack state;
	struct err *err = NULL;

	virtio_mem_stop(from->mem);
	virtio_mem_stop(to->mem);
	virtio_mem_track(from->mem, tell, to);
	virtio_mem_track(from->mem, NULL, NULL);
	state = save(from);
	move_driver(to, from);
	if (load(to, state.bytes, state.size, &err))
		fail_msg("%s", err_message(err));
	pack_done(&state);
}

static void go_on(struct rig *to)
{
	virtio_mem_cont(to->mem);
	virtio_resume(to->vdev);
	rig_turn(to);
}

static void check_same(struct rig *to, struct rig *from)
{
	struct vmem_config config[2];
	struct vmem_device_info a, b;
	uint64_t cells[2][RIG_BLOCKS], size;

	assert_int_equal(rig_config(from, &config[0]), rig_config(to, &config[1]));
	assert_memory_equal(&config[0], &config[1], sizeof(config[0]));
	virtio_mem_info(from->mem, &a);
	virtio_mem_info(to->mem, &b);
	assert_int_equal(a.requested_size, b.requested_size);
	assert_int_equal(b.faulted_size, 0);
	assert_int_equal(virtio_mem_cells(to->mem, cells[1], RIG_BLOCKS, &size), RIG_BLOCKS);
	if (a.faulted_size)
		return;
	assert_int_equal(rig_reachable(from), rig_reachable(to));
	virtio_mem_cells(from->mem, cells[0], RIG_BLOCKS, &size);
	assert_memory_equal(cells[0], cells[1], sizeof(cells[0]));
}

/* ---- a life ---- */

static void random_life(struct rig *r, unsigned int *random, unsigned int steps)
{
	for (unsigned int i = 0; i < steps; i++) {
		uint16_t type = (uint16_t)(rand_r(random) % 3 ? VMEM_REQ_PLUG : VMEM_REQ_UNPLUG);
		uint64_t size = (uint64_t)rand_r(random) % (RIG_BLOCKS + 1) * RIG_BLOCK;

		if (rand_r(random) % 16 == 0)
			type = VMEM_REQ_UNPLUG_ALL;
		if (rand_r(random) % 8 == 0) {
			assert_int_equal(virtio_mem_resize(r->mem, size, NULL), 0);
			rig_turn(r);
		}
		rig_request(r, type, (uint64_t)rand_r(random) % RIG_BLOCKS,
			    (uint16_t)(rand_r(random) % 4 + 1));
	}
}

/* What the guest has on the target is what it had, and its driver works on. */
static void test_any_state_goes_on_anywhere(void **state)
{
	struct rig *from = *state;
	unsigned int random = 1;

	for (unsigned int round = 0; round < 60; round++) {
		struct rig *to = target_new(targets[round % ARRAY_SIZE(targets)]);

		random_life(from, &random, 1 + round % 7);
		move(to, from);
		check_same(to, from);
		assert_int_equal(rig_pages(to, 0, RIG_BLOCKS) > 0,
				 to->config.device.prealloc && rig_reachable(to));
		if (to->config.guard && to->config.fd < 0)
			assert_int_equal(rig_writable(to), rig_reachable(to));
		go_on(to);
		virtio_mem_cont(from->mem);
		for (unsigned int i = 0; i < 10; i++) {
			uint16_t type = (uint16_t)(i % 3 ? VMEM_REQ_PLUG : VMEM_REQ_UNPLUG);
			uint64_t first = (uint64_t)rand_r(&random) % RIG_BLOCKS;

			assert_int_equal(rig_request(to, type, first, 2),
					 rig_request(from, type, first, 2));
			check_same(to, from);
		}
		target_free(to);
	}
}

/* ---- times and figures ---- */

/* The guest just runs: it has not given up, and nobody refused it anything. */
static void test_what_is_reported_right_after(void **state)
{
	struct rig *from = *state, *to = target_new(other_slots);
	struct virtio_mem_stats stats;
	struct virtio_mem_violations violations;
	struct vmem_guard_info guard;

	assert_int_equal(rig_request(from, VMEM_REQ_PLUG, 0, 4), VMEM_RESP_ACK);
	rig_now_ms += 2 * VIRTIO_MEM_STALL_MS;
	assert_int_equal(virtio_mem_progress(from->mem), VIRTIO_MEM_VM_OOM);
	move(to, from);
	rig_now_ms += 100 * VIRTIO_MEM_STALL_MS;
	assert_true(virtio_mem_driven(to->mem));
	go_on(to);
	assert_int_equal(virtio_mem_progress(to->mem), VIRTIO_MEM_IN_PROGRESS);
	virtio_mem_stats(to->mem, &stats);
	assert_int_equal(stats.idle_ms, 0);
	assert_int_equal(stats.resize_plugged_size, 4 * RIG_BLOCK);
	assert_int_equal(stats.plugged_bytes + stats.unplugged_bytes + stats.reset_bytes, 0);
	assert_int_equal(stats.requests[VIRTIO_MEM_PLUG].answers[VIRTIO_MEM_ACK], 0);
	virtio_mem_violations(to->mem, &violations);
	assert_int_equal(violations.reads + violations.writes, 0);
	virtio_mem_guard_info(to->mem, &guard);
	assert_int_equal(guard.slots_present, 4);
	rig_now_ms += 2 * VIRTIO_MEM_STALL_MS;
	assert_int_equal(virtio_mem_progress(to->mem), VIRTIO_MEM_VM_OOM);
	target_free(to);
}

/* Reads of what is not there count for a driver that promised to do none, as before. */
static void test_the_driver_s_promise_is_kept(void **state)
{
	struct rig *from = *state;
	struct virtio_mem_violations violations;
	uint64_t value;

	for (unsigned int promised = 0; promised < 2; promised++) {
		struct rig *to = target_new(NULL);

		rig_negotiate(from, promised ? RIG_FEATURES : VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
		move(to, from);
		bus_read(to->mmio, RIG_ADDR, 4, &value);
		virtio_mem_violations(to->mem, &violations);
		assert_int_equal(violations.reads, promised);
		target_free(to);
	}
}

/* A size that the source's thread had not come to is asked for on the target, once it runs. */
static void test_a_size_on_its_way(void **state)
{
	struct rig *from = *state;
	struct vmem_device_info info;
	struct vmem_config config;

	assert_int_equal(rig_request(from, VMEM_REQ_PLUG, 0, 4), VMEM_RESP_ACK);
	for (unsigned int here = 0; here < 2; here++) {
		struct rig *to = target_new(NULL);
		uint64_t wanted = (here ? 4 : 12) * RIG_BLOCK;

		if (here)
			virtio_mem_resize_here(from->mem);
		else
			assert_int_equal(virtio_mem_resize(from->mem, wanted, NULL), 0);
		move(to, from);
		rig_turn(to);
		virtio_mem_info(to->mem, &info);
		assert_int_equal(info.requested_size, wanted);
		assert_false(virtio_mem_resized(to->mem));
		rig_config(to, &config);
		assert_int_equal(le64toh(config.requested_size), 8 * RIG_BLOCK);
		assert_int_equal(to->config_irqs, 0);
		go_on(to);
		assert_true(virtio_mem_resized(to->mem));
		rig_config(to, &config);
		assert_int_equal(le64toh(config.requested_size), wanted);
		assert_int_equal(to->config_irqs, 1);
		target_free(to);
	}
}

/* A machine that was not asked for anything is not, either. */
static void test_nothing_is_asked_again(void **state)
{
	struct rig *from = *state, *to = target_new(other_slots);

	move(to, from);
	go_on(to);
	assert_int_equal(to->config_irqs, 0);
	target_free(to);
}

/* ---- faulted blocks ---- */

static void test_faulted_blocks_come_as_zeros(void **state)
{
	struct rig *from = *state, *to = target_new(memfd_with_prealloc);
	struct vmem_device_info info;

	assert_int_equal(rig_request(from, VMEM_REQ_PLUG, 0, 6), VMEM_RESP_ACK);
	rig_break_block(from, 2);
	from->add_error = -EIO;
	assert_int_equal(rig_request(from, VMEM_REQ_UNPLUG, 0, 4), VMEM_RESP_BUSY);
	from->add_error = 0;
	rig_mend_block(from, 2);
	virtio_mem_info(from->mem, &info);
	assert_int_equal(info.faulted_size, 4 * RIG_BLOCK);
	move(to, from);
	check_same(to, from);
	go_on(to);
	virtio_mem_info(to->mem, &info);
	assert_int_equal(info.plugged_size, 6 * RIG_BLOCK);
	assert_int_equal(rig_reachable(to), 0x3f);
	assert_int_equal(rig_request(to, VMEM_REQ_STATE, 0, 6), VMEM_RESP_ACK);
	assert_int_equal(rig_state_type(to), VMEM_STATE_PLUGGED);
	assert_int_equal(rig_request(to, VMEM_REQ_UNPLUG, 0, 6), VMEM_RESP_ACK);
	assert_int_equal(rig_request(from, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_ACK);
	target_free(to);
}

/* ---- what is refused ---- */

static void other_addr(struct virtio_mem_config *config)
{
	config->device.addr = RIG_ADDR + GIB;
}

static void other_size(struct virtio_mem_config *config)
{
	config->device.region_size = RIG_SIZE - RIG_BLOCK;
	config->device.requested_size = 0;
}

static void other_block_size(struct virtio_mem_config *config)
{
	config->device.block_size = 2 * RIG_BLOCK;
}

static void a_node(struct virtio_mem_config *config)
{
	config->device.has_node = true;
	config->device.node_id = 1;
}

static void another_node(struct virtio_mem_config *config)
{
	config->device.has_node = true;
	config->device.node_id = 2;
}

static void not_inaccessible(struct virtio_mem_config *config)
{
	config->device.unplugged_inaccessible = false;
}

static void required_inaccessible(struct virtio_mem_config *config)
{
	config->require_inaccessible = true;
}

/* Both are fresh: no driver's features can be what differs. */
static void check_differs(tweak_fn *there, tweak_fn *here, const char *sentence)
{
	struct rig *from = target_new(there), *to = target_new(here);
	struct pack state = save(from);
	struct err *err = NULL;

	assert_int_equal(load(to, state.bytes, state.size, &err), -EINVAL);
	assert_string_equal(err_message(err), sentence);
	err_free(err);
	pack_done(&state);
	target_free(from);
	target_free(to);
}

static void test_what_differs_is_named(void **state)
{
	(void)state;
	check_differs(NULL, other_addr,
		      "its memaddr is 0x140000000 at the source, and 0x180000000 here");
	check_differs(NULL, other_size, "its size is 1048576 at the source, and 983040 here");
	check_differs(other_block_size, NULL,
		      "its block-size is 131072 at the source, and 65536 here");
	check_differs(NULL, a_node, "it has no node at the source, and one here");
	check_differs(a_node, NULL, "it has a node at the source, and none here");
	check_differs(a_node, another_node, "its node is 1 at the source, and 2 here");
	check_differs(NULL, not_inaccessible,
		      "its unplugged-inaccessible is auto at the source, and off here");
	check_differs(NULL, required_inaccessible,
		      "its unplugged-inaccessible is auto at the source, and on here");
}

static void check_refused_run(struct rig *to, uint64_t offset, uint64_t size, bool plugged, int ret,
			      const char *sentence)
{
	struct vmem_device_info before, after;
	struct err *err = NULL;

	virtio_mem_info(to->mem, &before);
	assert_int_equal(virtio_mem_load_plug(to->mem, offset, size, plugged, &err), ret);
	assert_string_equal(err_message(err), sentence);
	err_free(err);
	virtio_mem_info(to->mem, &after);
	assert_int_equal(before.plugged_size, after.plugged_size);
}

static void test_runs_that_cannot_be(void **state)
{
	struct rig *to = target_new(NULL);

	(void)state;
	assert_int_equal(virtio_mem_load_plug(to->mem, RIG_BLOCK, 2 * RIG_BLOCK, true, NULL), 0);
	check_refused_run(to, 0, 0, true, -EINVAL,
			  "0 bytes at 0 of its memory are not a run of blocks of 65536 bytes");
	check_refused_run(to, 4096, RIG_BLOCK, false, -EINVAL,
			  "65536 bytes at 4096 of its memory are not a run of blocks of 65536 "
			  "bytes");
	check_refused_run(to, RIG_SIZE, RIG_BLOCK, true, -EINVAL,
			  "65536 bytes at 1048576 are beyond its size, 1048576 bytes");
	check_refused_run(
		to, 0 - RIG_BLOCK, 2 * RIG_BLOCK, false, -EINVAL,
		"131072 bytes at 18446744073709486080 are beyond its size, 1048576 bytes");
	check_refused_run(to, 0, 2 * RIG_BLOCK, true, -EINVAL,
			  "some of the 131072 bytes at 0 of its memory are plugged already");
	to->add_error = -ENOSPC;
	check_refused_run(to, 8 * RIG_BLOCK, RIG_BLOCK, true, -ENOSPC,
			  "65536 bytes at 524288 of its memory cannot be plugged: No space left on "
			  "device");
	to->add_error = 0;
	rig_lock_block(to, 1);
	check_refused_run(to, 0, RIG_SIZE, false, -EINVAL,
			  "1048576 bytes at 0 of its memory cannot be unplugged: Invalid argument");
	rig_unlock_block(to, 1);
	assert_int_equal(virtio_mem_load_plug(to->mem, 0, RIG_SIZE, false, NULL), 0);
	assert_int_equal(rig_plugged_bytes(to), 0);
	target_free(to);
}

/* A block more or less than was told, or another one. */
static void test_blocks_that_were_not_told(void **state)
{
	static const struct {
		uint64_t first, count;
		const char *sentence;
	} told[] = {
		{0, 0,
		 "its state has other blocks plugged than were told before it: 131072 bytes, and 0 "
		 "bytes were"},
		{3, 1,
		 "its state has other blocks plugged than were told before it: 131072 bytes, and "
		 "65536 bytes were"},
		{3, 3,
		 "its state has other blocks plugged than were told before it: 131072 bytes, and "
		 "196608 bytes were"},
		{4, 2,
		 "its state has other blocks plugged than were told before it: 131072 bytes, and "
		 "131072 bytes were"},
	};
	struct rig *from = *state;
	struct pack bytes;

	assert_int_equal(rig_request(from, VMEM_REQ_PLUG, 3, 2), VMEM_RESP_ACK);
	bytes = save(from);
	for (unsigned int i = 0; i < ARRAY_SIZE(told); i++) {
		struct rig *to = target_new(NULL);
		struct err *err = NULL;

		move_driver(to, from);
		if (told[i].count)
			tell(to, NULL, told[i].first * RIG_BLOCK, told[i].count * RIG_BLOCK, true);
		assert_int_equal(load(to, bytes.bytes, bytes.size, &err), -EINVAL);
		assert_string_equal(err_message(err), told[i].sentence);
		err_free(err);
		target_free(to);
	}
	pack_done(&bytes);
}

/* Load bytes that came from anywhere: whatever comes of it, the device holds together. */
static int load_anything(const struct rig *from, const uint8_t *bytes, size_t size)
{
	struct rig *to = target_new(other_slots);
	struct vmem_device_info info;
	struct err *err = NULL;
	int ret;

	move_driver(to, from);
	tell(to, NULL, 3 * RIG_BLOCK, 2 * RIG_BLOCK, true);
	ret = load(to, bytes, size, &err);
	assert_int_equal(!!ret, !!err);
	err_free(err);
	virtio_mem_info(to->mem, &info);
	assert_true(info.requested_size <= RIG_SIZE);
	assert_true(info.usable_region_size <= RIG_SIZE);
	assert_true(num_is_aligned(info.requested_size | info.usable_region_size, RIG_BLOCK));
	assert_int_equal(info.plugged_size,
			 (uint64_t)__builtin_popcount(rig_reachable(to)) * RIG_BLOCK);
	if (!ret)
		go_on(to);
	target_free(to);
	return ret;
}

/* Where the device's own part begins: with its address. */
static size_t part_start(const struct pack *bytes)
{
	uint64_t addr = htole64(RIG_ADDR);
	const uint8_t *at = memmem(bytes->bytes, bytes->size, &addr, sizeof(addr));

	assert_non_null(at);
	return (size_t)(at - bytes->bytes);
}

static void test_cut_and_garbled_states(void **state)
{
	struct rig *from = *state;
	unsigned int loaded = 0;
	struct pack bytes;

	assert_int_equal(rig_request(from, VMEM_REQ_PLUG, 3, 2), VMEM_RESP_ACK);
	bytes = save(from);
	assert_int_equal(load_anything(from, bytes.bytes, bytes.size), 0);
	for (size_t size = part_start(&bytes); size < bytes.size; size++)
		assert_int_equal(load_anything(from, bytes.bytes, size), -EINVAL);
	for (size_t at = part_start(&bytes); at < bytes.size; at++) {
		static const uint8_t changes[] = {0x01, 0x80, 0xff};
		uint8_t change = changes[at % ARRAY_SIZE(changes)];

		bytes.bytes[at] ^= change;
		loaded += !load_anything(from, bytes.bytes, bytes.size);
		bytes.bytes[at] ^= change;
	}
	/* Some numbers are as good as others; most are not. */
	assert_true(loaded > 0 && loaded < bytes.size);
	pack_done(&bytes);
}

#define RIG(fn) cmocka_unit_test_setup_teardown(fn, setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG(test_any_state_goes_on_anywhere),
		RIG(test_what_is_reported_right_after),
		RIG(test_the_driver_s_promise_is_kept),
		RIG(test_a_size_on_its_way),
		RIG(test_nothing_is_asked_again),
		RIG(test_faulted_blocks_come_as_zeros),
		cmocka_unit_test(test_what_differs_is_named),
		cmocka_unit_test(test_runs_that_cannot_be),
		RIG(test_blocks_that_were_not_told),
		RIG(test_cut_and_garbled_states),
	};

	return cmocka_run_group_tests_name("virtio-mem: saved state", tests, NULL, NULL);
}
