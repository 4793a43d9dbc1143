/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The virtio-mem device against the clock: how far a resize got, drivers that ask for what the host
 * has not, and stops while a plug is under way. mem.h, I5; mem_progress.h; mem_pace.h.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/virtio/mem_rig.h"

static void with_clock(struct virtio_mem_config *config)
{
	config->now_ms = rig_clock_ms;
	config->device.requested_size = 4 * RIG_BLOCK;
}

static int setup(void **state)
{
	return rig_setup(state, with_clock);
}

/* ---- progress ---- */

static void check_progress(struct rig *r, const char *want)
{
	assert_string_equal(virtio_mem_progress_name(virtio_mem_progress(r->mem)), want);
}

static void test_progress(void **state)
{
	struct rig *r = *state;

	check_progress(r, "no-driver");
	rig_now_ms += 10 * VIRTIO_MEM_STALL_MS;
	check_progress(r, "no-driver");
	rig_negotiate(r, RIG_FEATURES);
	check_progress(r, "no-driver");
	rig_start(r);
	check_progress(r, "in-progress");
	rig_now_ms += VIRTIO_MEM_STALL_MS - 1;
	check_progress(r, "in-progress");
	rig_now_ms += 1;
	check_progress(r, "vm-oom");
	/* It starts again; asking for the state of blocks is no move. */
	assert_int_equal(rig_request(r, VMEM_REQ_STATE, 0, 1), VMEM_RESP_ACK);
	check_progress(r, "vm-oom");
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 2), VMEM_RESP_ACK);
	check_progress(r, "in-progress");
	rig_now_ms += VIRTIO_MEM_STALL_MS;
	check_progress(r, "vm-oom");
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 2, 2), VMEM_RESP_ACK);
	check_progress(r, "done");
	rig_now_ms += VIRTIO_MEM_STALL_MS;
	check_progress(r, "done");
	/* A new size counts from the call on, also while the loop did not come to it. */
	assert_int_equal(virtio_mem_resize(r->mem, RIG_BLOCK, NULL), 0);
	check_progress(r, "in-progress");
	rig_turn(r);
	rig_now_ms += VIRTIO_MEM_STALL_MS;
	check_progress(r, "vm-oom");
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 1, 3), VMEM_RESP_ACK);
	check_progress(r, "done");
	/* The driver goes, fails, or must reset. */
	rig_status(r, 0);
	check_progress(r, "no-driver");
	rig_start(r);
	check_progress(r, "done");
	rig_status(r, 15 | VIRTIO_STATUS_FAILED);
	check_progress(r, "no-driver");
	rig_start(r);
	virtio_lock(r->vdev);
	virtio_set_needs_reset(r->vdev, "test");
	virtio_unlock(r->vdev);
	check_progress(r, "no-driver");
}

/* While the machine is stopped, its guest is not one that gave up; before that it may have been. */
static void test_progress_of_a_stopped_machine(void **state)
{
	struct rig *r = *state;

	rig_start(r);
	assert_int_equal(virtio_mem_resize(r->mem, 4 * RIG_BLOCK, NULL), 0);
	rig_turn(r);
	rig_now_ms += VIRTIO_MEM_STALL_MS - 1;
	virtio_mem_stop(r->mem);
	rig_now_ms += 10 * VIRTIO_MEM_STALL_MS;
	virtio_mem_stop(r->mem);
	check_progress(r, "in-progress");
	virtio_mem_cont(r->mem);
	virtio_mem_cont(r->mem);
	check_progress(r, "in-progress");
	rig_now_ms += 1;
	check_progress(r, "vm-oom");
	virtio_mem_stop(r->mem);
	check_progress(r, "vm-oom");
	/* A size asked for meanwhile has all its time when the machine goes on. */
	assert_int_equal(virtio_mem_resize(r->mem, 2 * RIG_BLOCK, NULL), 0);
	rig_now_ms += 10 * VIRTIO_MEM_STALL_MS;
	virtio_mem_cont(r->mem);
	rig_now_ms += VIRTIO_MEM_STALL_MS - 1;
	check_progress(r, "in-progress");
	rig_now_ms += 1;
	check_progress(r, "vm-oom");
}

static void with_clock_and_prealloc(struct virtio_mem_config *config)
{
	with_clock(config);
	config->device.prealloc = true;
}

/* The host has no memory; @fault: nor can it undo the plug. */
static void check_host_oom(bool fault)
{
	struct vmem_device_info info;
	struct rig r;

	rig_init(&r, with_clock_and_prealloc);
	rig_start(&r);
	/* Populating a hole fails, and so does discarding it. */
	if (fault)
		rig_break_block(&r, 0);
	else
		r.add_error = -ENOMEM;
	assert_int_equal(rig_request(&r, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_NACK);
	virtio_mem_info(r.mem, &info);
	assert_int_equal(info.host_faults, fault);
	assert_int_equal(info.host_failures, !fault);
	check_progress(&r, "in-progress");
	rig_now_ms += VIRTIO_MEM_STALL_MS;
	check_progress(&r, "host-oom");
	/* A driver that asks again and again gets no further. */
	if (!fault)
		assert_int_equal(rig_request(&r, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_NACK);
	check_progress(&r, "host-oom");
	if (fault)
		rig_mend_block(&r, 0);
	r.add_error = 0;
	assert_int_equal(rig_request(&r, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_ACK);
	rig_now_ms += VIRTIO_MEM_STALL_MS;
	check_progress(&r, "vm-oom");
	/* Asking for less than the guest has is the guest's to do, whatever was refused before. */
	r.add_error = -ENOMEM;
	assert_int_equal(rig_request(&r, VMEM_REQ_PLUG, 4, 1), VMEM_RESP_NACK);
	assert_int_equal(virtio_mem_resize(r.mem, 0, NULL), 0);
	rig_now_ms += VIRTIO_MEM_STALL_MS;
	check_progress(&r, "vm-oom");
	/* A refusal that is not for want of memory. */
	r.add_error = 0;
	rig_turn(&r);
	assert_int_equal(rig_request(&r, VMEM_REQ_PLUG, 1, 1), VMEM_RESP_NACK);
	assert_int_equal(virtio_mem_resize(r.mem, 4 * RIG_BLOCK, NULL), 0);
	rig_turn(&r);
	rig_now_ms += VIRTIO_MEM_STALL_MS;
	check_progress(&r, "vm-oom");
	rig_done(&r);
}

static void test_host_oom(void **state)
{
	(void)state;
	check_host_oom(false);
	check_host_oom(true);
}

/* ---- stops ---- */

static void with_steps(struct virtio_mem_config *config)
{
	config->step_bytes = RIG_BLOCK;
	config->device.prealloc = true;
}

static void stop_machine(struct rig *r)
{
	virtio_mem_stop(r->mem);
}

/* A stop while a plug is under way ends the plug, with nothing changed; cont lets it be had. */
static void test_stop_ends_a_plug(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, with_steps);
	rig_start(&r);
	assert_int_equal(rig_request(&r, VMEM_REQ_PLUG, 12, 1), VMEM_RESP_ACK);
	r.on_add = stop_machine;
	assert_int_equal(rig_request(&r, VMEM_REQ_PLUG, 0, 8), VMEM_RESP_BUSY);
	assert_int_equal(r.adds, 2);
	assert_int_equal(rig_reachable(&r), 1u << 12);
	assert_int_equal(rig_mapped(&r), 0xf000);
	assert_int_equal(rig_pages(&r, 0, 12), 0);
	assert_int_equal(rig_plugged_bytes(&r), RIG_BLOCK);
	/* What is done in one step is done. */
	assert_int_equal(rig_request(&r, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_ACK);
	r.on_add = NULL;
	virtio_mem_cont(r.mem);
	assert_int_equal(rig_request(&r, VMEM_REQ_PLUG, 1, 7), VMEM_RESP_ACK);
	assert_int_equal(rig_reachable(&r), 0x10ff);
	assert_int_equal(rig_pages(&r, 0, 8), 8 * RIG_BLOCK / 4096);
	rig_done(&r);
}

/*
 * A stop while an unplug is under way ends the unplug: all blocks are as before, but for content that
 * their driver had given up.
 */
static void test_stop_ends_an_unplug(void **state)
{
	const uint16_t types[] = {VMEM_REQ_UNPLUG, VMEM_REQ_UNPLUG_ALL};
	struct rig r;

	(void)state;
	rig_init(&r, with_steps);
	rig_start(&r);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		uint16_t count = types[i] == VMEM_REQ_UNPLUG ? 8 : 0;

		assert_int_equal(rig_request(&r, VMEM_REQ_PLUG, 0, 8), VMEM_RESP_ACK);
		virtio_mem_stop(r.mem);
		assert_int_equal(rig_request(&r, types[i], 0, count), VMEM_RESP_BUSY);
		/* The first step was done. */
		assert_int_equal(rig_pages(&r, 0, 8), 7 * RIG_BLOCK / 4096);
		assert_int_equal(rig_reachable(&r), 0xff);
		assert_int_equal(rig_writable(&r), 0xff);
		assert_int_equal(rig_mapped(&r), 0xff);
		assert_int_equal(rig_plugged_bytes(&r), 8 * RIG_BLOCK);
		virtio_mem_cont(r.mem);
		assert_int_equal(rig_request(&r, types[i], 0, count), VMEM_RESP_ACK);
		assert_int_equal(rig_reachable(&r), 0);
		assert_int_equal(rig_pages(&r, 0, 8), 0);
	}
	rig_done(&r);
}

/* A reset is done whole, and so is taking a request back. */
static void test_stop_ends_nothing_else(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, with_steps);
	rig_start(&r);
	assert_int_equal(rig_request(&r, VMEM_REQ_PLUG, 0, 8), VMEM_RESP_ACK);
	virtio_mem_stop(r.mem);
	r.remove_error = -EIO;
	assert_int_equal(rig_request(&r, VMEM_REQ_UNPLUG, 0, 8), VMEM_RESP_BUSY);
	assert_int_equal(rig_reachable(&r), 0xff);
	virtio_system_reset(r.vdev);
	assert_int_equal(rig_reachable(&r), 0xff);
	assert_int_equal(rig_writable(&r), 0xff);
	r.remove_error = 0;
	virtio_system_reset(r.vdev);
	assert_int_equal(rig_reachable(&r), 0);
	assert_int_equal(rig_mapped(&r), 0);
	rig_done(&r);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_progress),
		TEST(test_progress_of_a_stopped_machine),
		cmocka_unit_test(test_host_oom),
		cmocka_unit_test(test_stop_ends_a_plug),
		cmocka_unit_test(test_stop_ends_an_unplug),
		cmocka_unit_test(test_stop_ends_nothing_else),
	};

	return cmocka_run_group_tests_name("virtio-mem progress", tests, NULL, NULL);
}
