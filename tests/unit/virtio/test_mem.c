/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The virtio-mem device, requests: what they do to guest memory, slots and host pages, in which
 * order, and what happens when the host fails or the driver breaks the protocol. mem.h, I1 to I3.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "tests/unit/virtio/mem_rig.h"
#include "vmm/core/bus.h"

static int setup(void **state)
{
	struct rig *r = malloc(sizeof(*r));

	assert_non_null(r);
	rig_init(r, NULL);
	rig_start(r);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	rig_done(*state);
	free(*state);
	return 0;
}

static struct vmem_device_info info_of(struct rig *r)
{
	struct vmem_device_info info;

	virtio_mem_info(r->mem, &info);
	return info;
}

static void test_plug_and_unplug(void **state)
{
	struct rig *r = *state;

	assert_int_equal(rig_reachable(r), 0);
	assert_int_equal(rig_mapped(r), 0);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 3, 2), VMEM_RESP_ACK);
	assert_int_equal(rig_reachable(r), 3u << 3);
	/* Blocks 0 to 3 and 4 to 7 are a slot each. */
	assert_int_equal(rig_mapped(r), 0xff);
	assert_int_equal(rig_plugged_bytes(r), 2 * RIG_BLOCK);
	/* Without prealloc the host gives pages when they are touched. */
	assert_int_equal(rig_pages(r, 0, RIG_BLOCKS), 0);
	assert_int_equal(gm_fill(r->g.gm, RIG_ADDR + 3 * RIG_BLOCK, 0x5a, 2 * RIG_BLOCK), 0);
	assert_int_equal(r->memory[3 * RIG_BLOCK], 0x5a);
	assert_int_equal(rig_pages(r, 0, RIG_BLOCKS), 2 * RIG_BLOCK / 4096);

	/* ACK: the block is out of reach and its memory is back in the host. */
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 3, 1), VMEM_RESP_ACK);
	assert_int_equal(rig_reachable(r), 1u << 4);
	assert_int_equal(rig_mapped(r), 0xf0);
	assert_int_equal(rig_pages(r, 3, 1), 0);
	assert_int_equal(rig_pages(r, 4, 1), RIG_BLOCK / 4096);
	assert_int_equal(r->memory[4 * RIG_BLOCK], 0x5a);

	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 3, 1), VMEM_RESP_ACK);
	assert_int_equal(r->memory[3 * RIG_BLOCK], 0);
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_ACK);
	assert_int_equal(rig_reachable(r), 0);
	assert_int_equal(rig_mapped(r), 0);
	assert_int_equal(rig_pages(r, 0, RIG_BLOCKS), 0);
	assert_int_equal(rig_plugged_bytes(r), 0);
	assert_int_equal(r->adds, r->removes);
}

static void test_state(void **state)
{
	struct rig *r = *state;

	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 2), VMEM_RESP_ACK);
	assert_int_equal(rig_request(r, VMEM_REQ_STATE, 0, 2), VMEM_RESP_ACK);
	assert_int_equal(rig_state_type(r), VMEM_STATE_PLUGGED);
	assert_int_equal(rig_request(r, VMEM_REQ_STATE, 2, 2), VMEM_RESP_ACK);
	assert_int_equal(rig_state_type(r), VMEM_STATE_UNPLUGGED);
	assert_int_equal(rig_request(r, VMEM_REQ_STATE, 1, 2), VMEM_RESP_ACK);
	assert_int_equal(rig_state_type(r), VMEM_STATE_MIXED);
}

static void test_refusals_change_nothing(void **state)
{
	const struct {
		uint16_t type;
		uint64_t first;
		uint16_t count, want;
	} bad[] = {
		{VMEM_REQ_PLUG, 0, 1, VMEM_RESP_ERROR},  /* plugged already */
		{VMEM_REQ_PLUG, 1, 0, VMEM_RESP_ERROR},  /* empty */
		{VMEM_REQ_PLUG, 15, 2, VMEM_RESP_ERROR}, /* beyond the end */
		{VMEM_REQ_PLUG, UINT64_MAX / RIG_BLOCK, 1, VMEM_RESP_ERROR},
		{VMEM_REQ_UNPLUG, 1, 1, VMEM_RESP_ERROR}, /* not plugged */
		{VMEM_REQ_STATE, 16, 1, VMEM_RESP_ERROR},
		{4, 0, 1, VMEM_RESP_ERROR},
		{0xffff, 0, 1, VMEM_RESP_ERROR},
	};
	struct rig *r = *state;

	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_ACK);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(rig_request(r, bad[i].type, bad[i].first, bad[i].count),
				 bad[i].want);
		assert_int_equal(rig_reachable(r), 1);
		assert_int_equal(rig_mapped(r), 0xf);
	}
	assert_int_equal(r->adds, 1);
	assert_int_equal(r->removes, 0);
}

/* I2: what is not mapped leaves the guest and comes here. */
static void test_absent_memory(void **state)
{
	struct rig *r = *state;
	uint64_t value = 42;

	assert_true(bus_write(r->mmio, RIG_ADDR + 8, 8, UINT64_MAX));
	assert_true(bus_read(r->mmio, RIG_ADDR + 8, 8, &value));
	assert_int_equal(value, 0);
	value = 42;
	assert_true(bus_read(r->mmio, RIG_ADDR + RIG_SIZE - 1, 1, &value));
	assert_int_equal(value, 0);
	assert_false(bus_read(r->mmio, RIG_ADDR + RIG_SIZE, 1, &value));
	assert_false(bus_read(r->mmio, RIG_ADDR - 1, 1, &value));
	assert_int_equal(rig_pages(r, 0, RIG_BLOCKS), 0);
}

/* ---- the host fails ---- */

static void test_slot_cannot_be_added(void **state)
{
	struct rig *r = *state;

	r->add_error = -ENOSPC;
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_NACK);
	r->add_error = -EIO;
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_BUSY);
	assert_int_equal(rig_reachable(r), 0);
	assert_int_equal(rig_mapped(r), 0);
	assert_int_equal(info_of(r).host_failures, 2);
	r->add_error = 0;
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_ACK);
	/* A slot that is there already needs no call that could fail. */
	r->add_error = -EIO;
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 1, 1), VMEM_RESP_ACK);
	/* One that is, one that is not: nothing of the run stays. */
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 3, 2), VMEM_RESP_BUSY);
	assert_int_equal(rig_reachable(r), 3);
	assert_int_equal(rig_mapped(r), 0xf);
}

static void test_slot_cannot_be_removed(void **state)
{
	struct rig *r = *state;

	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 2, 4), VMEM_RESP_ACK);
	assert_int_equal(gm_fill(r->g.gm, RIG_ADDR + 2 * RIG_BLOCK, 0x5a, 4 * RIG_BLOCK), 0);
	r->remove_error = -EIO;
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 2, 4), VMEM_RESP_BUSY);
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_BUSY);
	/* All as before, content too, and exactly the plugged blocks within reach. */
	assert_int_equal(rig_reachable(r), 0xfu << 2);
	assert_int_equal(rig_mapped(r), 0xff);
	assert_int_equal(rig_plugged_bytes(r), 4 * RIG_BLOCK);
	assert_int_equal(r->memory[2 * RIG_BLOCK], 0x5a);
	assert_int_equal(r->memory[6 * RIG_BLOCK - 1], 0x5a);
	assert_int_equal(info_of(r).host_failures, 2);
	r->remove_error = 0;
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 2, 4), VMEM_RESP_ACK);
	assert_int_equal(rig_mapped(r), 0);
	assert_int_equal(rig_pages(r, 0, RIG_BLOCKS), 0);
}

static void test_discard_fails(void **state)
{
	struct rig *r = *state;

	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 4), VMEM_RESP_ACK);
	rig_lock_block(r, 1);
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 0, 4), VMEM_RESP_BUSY);
	assert_int_equal(rig_plugged_bytes(r), 4 * RIG_BLOCK);
	assert_int_equal(rig_reachable(r), 0xf);
	assert_int_equal(rig_mapped(r), 0xf);
	rig_unlock_block(r, 1);
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 0, 4), VMEM_RESP_ACK);
	assert_int_equal(rig_reachable(r), 0);
}

/* An unplug that fails and cannot be undone: plugged in name, but nobody reaches the blocks. */
static void test_faulted_blocks_are_out_of_reach(void **state)
{
	struct rig *r = *state;

	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 8), VMEM_RESP_ACK);
	rig_lock_block(r, 1);
	r->add_error = -ENOMEM;
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 0, 4), VMEM_RESP_BUSY);
	assert_int_equal(info_of(r).host_faults, 1);
	assert_int_equal(info_of(r).faulted_size, 4 * RIG_BLOCK);
	assert_int_equal(rig_plugged_bytes(r), 8 * RIG_BLOCK);
	assert_int_equal(rig_reachable(r), 0xf0);
	assert_int_equal(rig_mapped(r), 0xf0);
	rig_unlock_block(r, 1);
	r->add_error = 0;
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 0, 4), VMEM_RESP_ACK);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 4), VMEM_RESP_ACK);
	assert_int_equal(rig_reachable(r), 0xff);
}

static void with_prealloc(struct virtio_mem_config *config)
{
	config->device.prealloc = true;
}

/* ACK: the pages are there. NACK: nothing changed, not even a page. */
static void test_prealloc(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, with_prealloc);
	rig_start(&r);
	assert_int_equal(rig_request(&r, VMEM_REQ_PLUG, 1, 2), VMEM_RESP_ACK);
	assert_int_equal(rig_pages(&r, 0, RIG_BLOCKS), 2 * RIG_BLOCK / 4096);
	assert_int_equal(rig_pages(&r, 1, 2), 2 * RIG_BLOCK / 4096);
	rig_break_block(&r, 6);
	assert_int_equal(rig_request(&r, VMEM_REQ_PLUG, 4, 4), VMEM_RESP_NACK);
	assert_int_equal(rig_reachable(&r), 3u << 1);
	rig_mend_block(&r, 6);
	/* The undoing failed as well, at the hole: what is left over is taken back first. */
	assert_int_equal(rig_request(&r, VMEM_REQ_PLUG, 4, 4), VMEM_RESP_ACK);
	assert_int_equal(rig_reachable(&r), 3u << 1 | 0xfu << 4);
	assert_int_equal(rig_pages(&r, 4, 4), 4 * RIG_BLOCK / 4096);
	rig_done(&r);
}

/* ---- the driver breaks the protocol ---- */

static void check_broken(struct rig *r, const char *why)
{
	assert_true(rig_get_status(r) & VIRTIO_STATUS_NEEDS_RESET);
	if (!strstr(virtio_broken_reason(r->vdev), why))
		fail_msg("'%s' is not '%s'", virtio_broken_reason(r->vdev), why);
	assert_int_equal(virtio_mem_progress(r->mem), VIRTIO_MEM_NO_DRIVER);
}

struct breach {
	struct driver_buffer buffers[3];
	unsigned int n;
	const char *why;
};

static void check_breach(struct rig *r, const struct breach *b)
{
	unsigned int irqs = atomic_load(&r->config_irqs);
	uint32_t len;

	rig_start(r);
	rig_put_request(r, r->request_gpa, VMEM_REQ_PLUG, 0, 1);
	assert_false(rig_offer(r, b->buffers, b->n, &len));
	check_broken(r, b->why);
	assert_int_equal(atomic_load(&r->config_irqs), irqs + 1);
	assert_int_equal(rig_plugged_bytes(r), 0);
	assert_int_equal(rig_mapped(r), 0);
	/* Nothing more is done until a reset. */
	virtio_queue_kick(r->vdev, 0);
	rig_turn(r);
	assert_int_equal(rig_plugged_bytes(r), 0);
	rig_start(r);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_ACK);
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 0, 1), VMEM_RESP_ACK);
}

static void test_breaches(void **state)
{
	struct rig *r = *state;
	const uint64_t req = r->request_gpa, resp = r->answer_gpa;
	const uint64_t unplugged = RIG_ADDR + RIG_BLOCK, edge = GUEST_BASE + GUEST_SIZE;
	const struct breach breaches[] = {
		{{{req, 23, false}, {resp, 10, true}}, 2, "missing bytes"},
		{{{req, 1, false}, {resp, 10, true}}, 2, "missing bytes"},
		{{{resp, 10, true}}, 1, "missing bytes"},
		{{{req, 24, false}}, 1, "missing bytes"},
		{{{req, 24, false}, {resp, 9, true}}, 2, "missing bytes"},
		{{{req, 24, false}, {resp, 1, true}}, 2, "missing bytes"},
		{{{unplugged, 24, false}, {resp, 10, true}}, 2, "request outside of memory"},
		{{{edge - 23, 24, false}, {resp, 10, true}}, 2, "request outside of memory"},
		{{{req, 20, false}, {0, 4, false}, {resp, 10, true}}, 3, "request outside"},
		{{{req, 24, false}, {unplugged, 10, true}}, 2, "answer outside of memory"},
		{{{req, 24, false}, {edge - 9, 10, true}}, 2, "answer outside of memory"},
		{{{req, 24, false}, {resp, 9, true}, {edge, 1, true}}, 3, "answer outside"},
		{{{req, 24, false}, {UINT64_MAX - 4, 10, true}}, 2, "malformed"},
		/* Where the request would plug, had it been carried out. */
		{{{req, 24, false}, {RIG_ADDR, 10, true}}, 2, "answer outside of memory"},
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(breaches); i++)
		check_breach(r, &breaches[i]);
}

/* The one breach that is seen too late: the request takes away what its answer lies in. */
static void test_unplug_of_its_own_answer(void **state)
{
	struct rig *r = *state;
	const struct driver_buffer buffers[] = {
		{r->request_gpa, 24, false},
		{RIG_ADDR + RIG_BLOCK, 10, true},
	};
	uint32_t len;

	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 3), VMEM_RESP_ACK);
	/* In plugged memory an answer is welcome. */
	rig_put_request(r, r->request_gpa, VMEM_REQ_UNPLUG, 2, 1);
	memset(r->memory + RIG_BLOCK, 0xff, 16);
	assert_true(rig_offer(r, buffers, 2, &len));
	assert_int_equal(r->memory[RIG_BLOCK], VMEM_RESP_ACK);
	assert_int_equal(r->memory[RIG_BLOCK + 9], 0);
	assert_int_equal(r->memory[RIG_BLOCK + 10], 0xff);
	rig_put_request(r, r->request_gpa, VMEM_REQ_UNPLUG, 0, 2);
	assert_false(rig_offer(r, buffers, 2, &len));
	check_broken(r, "unplugs its answer");
	assert_int_equal(rig_reachable(r), 0);
	assert_int_equal(rig_pages(r, 0, RIG_BLOCKS), 0);
}

/* In pieces, and with more bytes than needed. */
static void test_framing(void **state)
{
	struct rig *r = *state;
	uint8_t *resp = guest_ptr(&r->g, guest_alloc(&r->g, 64, 8));
	const uint64_t resp_gpa = GUEST_BASE + (uint64_t)(resp - r->g.ram);
	const struct driver_buffer pieces[] = {
		{r->request_gpa, 3, false},
		{r->request_gpa + 3, 14, false},
		{r->request_gpa + 17, 7, false},
		{resp_gpa + 20, 1, true},
		{resp_gpa, 9, true},
	};
	const struct driver_buffer large[] = {
		{r->request_gpa, 40, false},
		{resp_gpa, 64, true},
	};
	uint32_t len;

	rig_put_request(r, r->request_gpa, VMEM_REQ_PLUG, 0, 1);
	memset(resp, 0xee, 64);
	assert_true(rig_offer(r, pieces, 5, &len));
	assert_int_equal(len, 10);
	assert_int_equal(resp[20], VMEM_RESP_ACK);
	assert_int_equal(resp[8], 0);
	assert_int_equal(resp[9], 0xee);
	assert_int_equal(rig_reachable(r), 1);

	rig_put_request(r, r->request_gpa, VMEM_REQ_STATE, 0, 1);
	memset(resp, 0xee, 64);
	assert_true(rig_offer(r, large, 2, &len));
	assert_int_equal(len, 10);
	assert_int_equal(resp[9], 0);
	assert_int_equal(resp[10], 0xee);
}

/* Several requests in the ring at once are done in order, with one wake-up. */
static void test_batch(void **state)
{
	struct rig *r = *state;
	uint64_t gpa[6], answer[6];
	uint32_t len;
	uint16_t id;

	for (unsigned int i = 0; i < 6; i++) {
		struct driver_buffer b[2];

		gpa[i] = guest_alloc(&r->g, 24, 8);
		answer[i] = guest_alloc(&r->g, 10, 8);
		b[0] = (struct driver_buffer){gpa[i], 24, false};
		b[1] = (struct driver_buffer){answer[i], 10, true};
		/* Plug, unplug, plug the same block again. */
		rig_put_request(r, gpa[i], i & 1 ? VMEM_REQ_UNPLUG : VMEM_REQ_PLUG, 5, 1);
		assert_true(driver_add(&r->d, b, 2, false) >= 0);
	}
	virtio_queue_kick(r->vdev, 0);
	rig_turn(r);
	for (unsigned int i = 0; i < 6; i++) {
		assert_true(driver_get_used(&r->d, &id, &len));
		assert_int_equal(*(uint8_t *)guest_ptr(&r->g, answer[i]), VMEM_RESP_ACK);
	}
	assert_int_equal(rig_reachable(r), 0);
	assert_int_equal(r->adds, 3);
	assert_int_equal(r->removes, 3);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_plug_and_unplug),
		TEST(test_state),
		TEST(test_refusals_change_nothing),
		TEST(test_absent_memory),
		TEST(test_slot_cannot_be_added),
		TEST(test_slot_cannot_be_removed),
		TEST(test_discard_fails),
		TEST(test_faulted_blocks_are_out_of_reach),
		cmocka_unit_test(test_prealloc),
		TEST(test_breaches),
		TEST(test_unplug_of_its_own_answer),
		TEST(test_framing),
		TEST(test_batch),
	};

	return cmocka_run_group_tests_name("virtio-mem", tests, NULL, NULL);
}
