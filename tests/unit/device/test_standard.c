/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VIRTIO 1.3, 5.15: each device requirement (MUST, SHOULD) that the engine is answerable for is a
 * test of its own, with the requirement above it. Device reset never reaches the engine, and the
 * properties of memory are the host's.
 * The file is longer than others so that the list of requirements stays in one place.
 */
#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/num.h"
#include "tests/unit/device/model.h"

#define BS     (2 * MIB)
#define ADDR   UINT64_C(0x140000000)
#define BLOCKS 100
#define USABLE 70 /* the setup's usable region, in blocks */

/* 100 blocks, 60 requested, 70 usable. */
static const struct vmem_device_config standard_config = {
	.addr = ADDR,
	.region_size = BLOCKS * BS,
	.block_size = BS,
	.requested_size = 60 * BS,
	.usable_extra_bytes = 10 * BS,
	.node_id = 1,
	.has_node = true,
};

static int setup(void **state)
{
	struct model *m = malloc(sizeof(*m));

	if (!m)
		return -1;
	*state = m;
	return model_init(m, &standard_config) ? 0 : -1;
}

static int teardown(void **state)
{
	model_done(*state);
	free(*state);
	return 0;
}

/* The model checks every step; a test adds what its own requirement says. */
static uint16_t ask(struct model *m, uint16_t type, uint64_t first, uint16_t count)
{
	uint16_t answer;

	if (!model_do(m, type, first, count, &answer))
		fail_msg("%s", m->error);
	return answer;
}

static uint16_t ask_addr(struct model *m, uint16_t type, uint64_t addr, uint16_t nb_blocks)
{
	struct vmem_req req = model_req(type, addr, nb_blocks);
	uint16_t answer;

	if (!model_request(m, &req, &answer))
		fail_msg("%s", m->error);
	return answer;
}

static void resize(struct model *m, uint64_t blocks)
{
	if (!model_resize(m, blocks * BS))
		fail_msg("%s", m->error);
}

static struct vmem_config config_of(const struct model *m)
{
	struct vmem_config c;

	vmem_device_config_read(m->dev, &c);
	return c;
}

static int new_rc(struct vmem_device_config config)
{
	struct model m;
	bool made = model_init(&m, &config);

	model_done(&m);
	return made ? 0 : -1;
}

/* ---- feature bits ---- */

static void feature_acpi_pxm_offered_with_node(void **state)
{
	struct model *m = *state;

	assert_int_equal(vmem_device_features(m->dev), 1u << VMEM_F_ACPI_PXM);
	assert_int_equal(le16toh(config_of(m).node_id), 1);
}

static void feature_unplugged_inaccessible_offered_when_set(void **state)
{
	struct vmem_device_config config = standard_config;
	struct model m;

	(void)state;
	config.has_node = false;
	config.unplugged_inaccessible = true;
	assert_true(model_init(&m, &config));
	assert_int_equal(vmem_device_features(m.dev), 1u << VMEM_F_UNPLUGGED_INACCESSIBLE);
	assert_int_equal(le16toh(config_of(&m).node_id), 0);
	model_done(&m);
}

/* ---- 5.15.4 configuration layout ---- */

/* MUST NOT change block_size, node_id, addr, and region_size. */
static void config_constants_never_change(void **state)
{
	struct model *m = *state;
	struct vmem_config before = config_of(m), after;
	int rc;

	ask(m, VMEM_REQ_PLUG, 3, 20);
	resize(m, BLOCKS);
	ask(m, VMEM_REQ_UNPLUG_ALL, 0, 0);
	assert_true(model_reset(m, &rc));
	after = config_of(m);
	assert_int_equal(after.block_size, before.block_size);
	assert_int_equal(after.node_id, before.node_id);
	assert_int_equal(after.addr, before.addr);
	assert_int_equal(after.region_size, before.region_size);
	assert_int_equal(le64toh(after.block_size), BS);
	assert_int_equal(le64toh(after.addr), ADDR);
	assert_int_equal(le64toh(after.region_size), BLOCKS * BS);
}

/* MUST change plugged_size to reflect the size of plugged memory blocks. */
static void config_plugged_size_follows_blocks(void **state)
{
	struct model *m = *state;

	assert_int_equal(config_of(m).plugged_size, 0);
	ask(m, VMEM_REQ_PLUG, 10, 5);
	assert_int_equal(le64toh(config_of(m).plugged_size), 5 * BS);
	ask(m, VMEM_REQ_PLUG, 0, 1);
	assert_int_equal(le64toh(config_of(m).plugged_size), 6 * BS);
	ask(m, VMEM_REQ_UNPLUG, 11, 3);
	assert_int_equal(le64toh(config_of(m).plugged_size), 3 * BS);
}

/* MUST set usable_region_size to requested_size or greater. */
static void config_usable_covers_requested(void **state)
{
	struct model *m = *state;

	for (uint64_t blocks = 0; blocks <= BLOCKS; blocks++) {
		resize(m, blocks);
		assert_true(le64toh(config_of(m).usable_region_size) >= blocks * BS);
	}
	assert_int_equal(le64toh(config_of(m).usable_region_size), BLOCKS * BS);
}

/* MUST set block_size to a power of two. */
static void config_block_size_is_power_of_two(void **state)
{
	struct vmem_device_config config = standard_config;

	(void)state;
	config.addr = 0;
	config.requested_size = 0;
	config.block_size = 3 * MIB;
	config.region_size = 30 * MIB;
	assert_int_equal(new_rc(config), -1);
	config.block_size = 0;
	assert_int_equal(vmem_device_new(&config, NULL, NULL, NULL), -EINVAL);
	config.block_size = 4 * MIB;
	config.region_size = 40 * MIB;
	assert_int_equal(new_rc(config), 0);
}

/* MUST set addr, region_size, usable_region_size, plugged_size, requested_size to multiples. */
static void config_sizes_are_multiples(void **state)
{
	struct vmem_device_config config = standard_config;
	struct model *m = *state;

	config.addr += BS / 2;
	assert_int_equal(new_rc(config), -1);
	config = standard_config;
	config.region_size += 4096;
	assert_int_equal(new_rc(config), -1);
	config = standard_config;
	config.requested_size -= 4096;
	assert_int_equal(new_rc(config), -1);
	assert_int_equal(vmem_device_resize(m->dev, 5 * BS + 4096), -EINVAL);

	/* Slack that is no multiple is rounded up. */
	config = standard_config;
	config.usable_extra_bytes = 4096;
	assert_int_equal(new_rc(config), 0);
	{
		struct model other;

		assert_true(model_init(&other, &config));
		assert_int_equal(le64toh(config_of(&other).usable_region_size), 61 * BS);
		model_done(&other);
	}
}

/* MUST set region_size to 0 or greater: an empty device works, and refuses every run. */
static void config_region_size_may_be_zero(void **state)
{
	struct vmem_device_config config = standard_config;
	struct model m;

	(void)state;
	config.region_size = 0;
	config.requested_size = 0;
	assert_true(model_init(&m, &config));
	assert_int_equal(ask(&m, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_ERROR);
	assert_int_equal(ask(&m, VMEM_REQ_STATE, 0, 1), VMEM_RESP_ERROR);
	assert_int_equal(ask(&m, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_ACK);
	model_done(&m);
}

/* MUST NOT shrink usable_region_size, except when processing UNPLUG ALL, or during system reset. */
static void config_usable_never_shrinks_on_resize(void **state)
{
	struct model *m = *state;

	resize(m, 5);
	assert_int_equal(le64toh(config_of(m).usable_region_size), USABLE * BS);
	resize(m, 0);
	assert_int_equal(le64toh(config_of(m).usable_region_size), USABLE * BS);
	ask(m, VMEM_REQ_PLUG, 0, 1);
	assert_int_equal(le64toh(config_of(m).usable_region_size), USABLE * BS);
}

/* MUST send a configuration update notification when changing usable_region_size or requested_size.
 */
static void config_notification_on_resize(void **state)
{
	struct model *m = *state;

	resize(m, 61); /* both change */
	assert_int_equal(m->config_changes, 1);
	resize(m, 10); /* requested_size alone */
	assert_int_equal(m->config_changes, 1);
	resize(m, 10); /* nothing */
	assert_int_equal(m->config_changes, 0);
}

/* The same for a system reset, which is no UNPLUG ALL. */
static void config_notification_on_system_reset(void **state)
{
	struct model *m = *state;
	int rc;

	resize(m, 10);
	assert_true(model_reset(m, &rc));
	assert_int_equal(m->config_changes, 1);
	assert_int_equal(le64toh(config_of(m).usable_region_size), 20 * BS);
	assert_true(model_reset(m, &rc));
	assert_int_equal(m->config_changes, 0);
}

/* ... except when processing an UNPLUG ALL request. */
static void config_no_notification_on_unplug_all(void **state)
{
	struct model *m = *state;

	resize(m, 10);
	ask(m, VMEM_REQ_UNPLUG_ALL, 0, 0);
	assert_int_equal(le64toh(config_of(m).usable_region_size), 20 * BS);
	assert_int_equal(m->config_changes, 0);
}

/* SHOULD NOT send a configuration update notification when changing plugged_size. */
static void config_no_notification_on_plugged_size(void **state)
{
	struct model *m = *state;

	ask(m, VMEM_REQ_PLUG, 0, 8);
	assert_int_equal(m->config_changes, 0);
	assert_int_equal(m->plugged_changes, 1);
	ask(m, VMEM_REQ_UNPLUG, 0, 8);
	assert_int_equal(m->config_changes, 0);
	assert_int_equal(m->plugged_changes, 1);
}

/* ---- 5.15.6 device operation ---- */

/* MUST NOT modify memory or memory properties of plugged memory blocks. */
static void plugged_memory_is_never_modified(void **state)
{
	struct model *m = *state;

	ask(m, VMEM_REQ_PLUG, 8, 16);
	for (uint32_t b = 8; b < 24; b++)
		model_guest_write(m, b, 1000 + b);
	ask(m, VMEM_REQ_PLUG, 0, 8);
	ask(m, VMEM_REQ_PLUG, 24, 8);
	ask(m, VMEM_REQ_PLUG, 8, 16); /* an error */
	ask(m, VMEM_REQ_UNPLUG, 0, 8);
	ask(m, VMEM_REQ_UNPLUG, 24, 8);
	ask(m, VMEM_REQ_UNPLUG, 20, 8); /* an error */
	ask(m, VMEM_REQ_STATE, 8, 16);
	resize(m, 0);
	for (uint32_t b = 8; b < 24; b++)
		assert_int_equal(m->host[b].content, 1000 + b);
}

/* MUST allow the driver to read and write memory of plugged memory blocks. */
static void plugged_memory_is_granted_before_the_answer(void **state)
{
	struct model *m = *state;

	ask(m, VMEM_REQ_PLUG, 30, 4);
	for (uint64_t b = 0; b < BLOCKS; b++)
		assert_int_equal(m->host[b].granted, b >= 30 && b < 34);
	assert_true(vmem_device_plugged(m->dev, ADDR + 30 * BS, 4 * BS));
}

/* SHOULD unplug all memory blocks during system resets. */
static void system_reset_unplugs_everything(void **state)
{
	struct model *m = *state;
	int rc;

	ask(m, VMEM_REQ_PLUG, 0, 8);
	ask(m, VMEM_REQ_PLUG, 20, 8);
	model_guest_write(m, 21, 77);
	assert_true(model_reset(m, &rc));
	assert_int_equal(rc, 0);
	assert_int_equal(config_of(m).plugged_size, 0);
	assert_int_equal(le64toh(config_of(m).requested_size), 60 * BS);
	for (uint64_t b = 0; b < BLOCKS; b++) {
		assert_false(m->host[b].granted);
		assert_int_equal(m->host[b].content, MODEL_NONE);
	}
}

/* Unknown request types. */
static void unknown_type_is_error(void **state)
{
	struct model *m = *state;
	struct vmem_device_info info;

	assert_int_equal(ask(m, 4, 0, 1), VMEM_RESP_ERROR);
	assert_int_equal(ask(m, 0xffff, 0, 1), VMEM_RESP_ERROR);
	assert_int_equal(ask(m, 0x0100, 0, 1), VMEM_RESP_ERROR); /* PLUG, but for one byte */
	vmem_device_info(m->dev, &info);
	assert_int_equal(info.unknown_requests, 3);
}

/* MUST ignore anything except the request type and the request-specific data; and its padding. */
static void padding_is_ignored(void **state)
{
	struct model *m = *state;
	static const uint16_t types[] = {VMEM_REQ_PLUG, VMEM_REQ_STATE, VMEM_REQ_UNPLUG};

	for (unsigned int i = 0; i < ARRAY_SIZE(types); i++) {
		struct vmem_req req = model_req(types[i], ADDR, 4);
		uint16_t answer;

		memset(req.padding, 0xff, sizeof(req.padding));
		memset(req.data_padding, 0x77, sizeof(req.data_padding));
		assert_true(model_request(m, &req, &answer));
		assert_int_equal(answer, VMEM_RESP_ACK);
	}
}

/*
 * MUST reject with ERROR if addr is not aligned, if nb_blocks is not greater than 0, or if any
 * block outside of the usable region is covered: one test for each type and reason.
 */
static void prepare_for(struct model *m, uint16_t type)
{
	if (type == VMEM_REQ_UNPLUG) {
		ask(m, VMEM_REQ_PLUG, 0, 2);
		ask(m, VMEM_REQ_PLUG, USABLE - 2, 2);
	}
}

static void check_unaligned(struct model *m, uint16_t type)
{
	prepare_for(m, type);
	assert_int_equal(ask_addr(m, type, ADDR + 1, 1), VMEM_RESP_ERROR);
	assert_int_equal(ask_addr(m, type, ADDR + 4096, 1), VMEM_RESP_ERROR);
	assert_int_equal(ask_addr(m, type, ADDR + BS / 2, 1), VMEM_RESP_ERROR);
	assert_int_equal(ask_addr(m, type, ADDR - 1, 1), VMEM_RESP_ERROR);
	assert_int_equal(ask_addr(m, type, ADDR, 1), VMEM_RESP_ACK);
}

static void check_no_blocks(struct model *m, uint16_t type)
{
	prepare_for(m, type);
	assert_int_equal(ask(m, type, 0, 0), VMEM_RESP_ERROR);
	assert_int_equal(ask(m, type, USABLE, 0), VMEM_RESP_ERROR);
}

static void check_outside(struct model *m, uint16_t type)
{
	prepare_for(m, type);
	assert_int_equal(ask_addr(m, type, ADDR - BS, 1), VMEM_RESP_ERROR);
	assert_int_equal(ask_addr(m, type, ADDR - BS, 2), VMEM_RESP_ERROR);
	assert_int_equal(ask_addr(m, type, 0, 1), VMEM_RESP_ERROR);
	assert_int_equal(ask(m, type, USABLE, 1), VMEM_RESP_ERROR);
	assert_int_equal(ask(m, type, USABLE - 1, 2), VMEM_RESP_ERROR);
	assert_int_equal(ask(m, type, BLOCKS - 1, 1), VMEM_RESP_ERROR);
	assert_int_equal(ask(m, type, BLOCKS, 1), VMEM_RESP_ERROR);
	assert_int_equal(ask(m, type, 0, 65535), VMEM_RESP_ERROR);
	assert_int_equal(ask_addr(m, type, -BS, 1), VMEM_RESP_ERROR);
	assert_int_equal(ask_addr(m, type, -BS, 65535), VMEM_RESP_ERROR);
	assert_int_equal(ask(m, type, USABLE - 2, 2), VMEM_RESP_ACK);
}

#define REJECTS(name, type, check)     \
	static void name(void **state) \
	{                              \
		check(*state, type);   \
	}
REJECTS(plug_unaligned_is_error, VMEM_REQ_PLUG, check_unaligned)
REJECTS(plug_no_blocks_is_error, VMEM_REQ_PLUG, check_no_blocks)
REJECTS(plug_outside_usable_is_error, VMEM_REQ_PLUG, check_outside)
REJECTS(unplug_unaligned_is_error, VMEM_REQ_UNPLUG, check_unaligned)
REJECTS(unplug_no_blocks_is_error, VMEM_REQ_UNPLUG, check_no_blocks)
REJECTS(unplug_outside_usable_is_error, VMEM_REQ_UNPLUG, check_outside)
REJECTS(state_unaligned_is_error, VMEM_REQ_STATE, check_unaligned)
REJECTS(state_no_blocks_is_error, VMEM_REQ_STATE, check_no_blocks)
REJECTS(state_outside_usable_is_error, VMEM_REQ_STATE, check_outside)

/* PLUG: MUST reject with ERROR if any block covered by the request is already plugged. */
static void plug_already_plugged_is_error(void **state)
{
	struct model *m = *state;

	ask(m, VMEM_REQ_PLUG, 10, 4);
	assert_int_equal(ask(m, VMEM_REQ_PLUG, 10, 4), VMEM_RESP_ERROR);
	assert_int_equal(ask(m, VMEM_REQ_PLUG, 8, 3), VMEM_RESP_ERROR);
	assert_int_equal(ask(m, VMEM_REQ_PLUG, 13, 3), VMEM_RESP_ERROR);
	assert_int_equal(ask(m, VMEM_REQ_PLUG, 9, 6), VMEM_RESP_ERROR);
	assert_int_equal(le64toh(config_of(m).plugged_size), 4 * BS);
}

/* PLUG: MUST acknowledge with ACK in case all blocks were plugged, and reflect it in plugged_size.
 */
static void plug_success_is_ack(void **state)
{
	struct model *m = *state;

	assert_int_equal(ask(m, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_ACK);
	assert_int_equal(ask(m, VMEM_REQ_PLUG, 1, 59), VMEM_RESP_ACK);
	assert_int_equal(le64toh(config_of(m).plugged_size), 60 * BS);
}

/* 5.15: once plugged_size has reached requested_size, plugging is rejected: NACK, never ERROR. */
static void plug_beyond_requested_is_nack(void **state)
{
	struct model *m = *state;

	assert_int_equal(ask(m, VMEM_REQ_PLUG, 0, 61), VMEM_RESP_NACK);
	assert_int_equal(ask(m, VMEM_REQ_PLUG, 0, 60), VMEM_RESP_ACK);
	assert_int_equal(ask(m, VMEM_REQ_PLUG, 60, 1), VMEM_RESP_NACK);
	resize(m, 20); /* plugged_size is now greater */
	assert_int_equal(ask(m, VMEM_REQ_PLUG, 60, 1), VMEM_RESP_NACK);
	resize(m, 61);
	assert_int_equal(ask(m, VMEM_REQ_PLUG, 60, 1), VMEM_RESP_ACK);
	/* What is wrong in itself stays an error. */
	assert_int_equal(ask(m, VMEM_REQ_PLUG, 60, 1), VMEM_RESP_ERROR);
	assert_int_equal(ask(m, VMEM_REQ_PLUG, 71, 1), VMEM_RESP_ERROR);
}

/* UNPLUG: MUST reject with ERROR if any block covered by the request is already unplugged. */
static void unplug_already_unplugged_is_error(void **state)
{
	struct model *m = *state;

	assert_int_equal(ask(m, VMEM_REQ_UNPLUG, 10, 1), VMEM_RESP_ERROR);
	ask(m, VMEM_REQ_PLUG, 10, 4);
	assert_int_equal(ask(m, VMEM_REQ_UNPLUG, 9, 2), VMEM_RESP_ERROR);
	assert_int_equal(ask(m, VMEM_REQ_UNPLUG, 13, 2), VMEM_RESP_ERROR);
	assert_int_equal(ask(m, VMEM_REQ_UNPLUG, 9, 6), VMEM_RESP_ERROR);
	assert_int_equal(le64toh(config_of(m).plugged_size), 4 * BS);
}

/* UNPLUG: MUST acknowledge with ACK in case all were unplugged, and reflect it in plugged_size. */
static void unplug_success_is_ack(void **state)
{
	struct model *m = *state;

	ask(m, VMEM_REQ_PLUG, 10, 4);
	assert_int_equal(ask(m, VMEM_REQ_UNPLUG, 11, 2), VMEM_RESP_ACK);
	assert_int_equal(le64toh(config_of(m).plugged_size), 2 * BS);
	assert_false(m->host[11].granted);
	assert_true(m->host[10].granted);
}

/* UNPLUG ALL: MUST ignore any data in a request except the request type. */
static void unplug_all_ignores_data(void **state)
{
	struct model *m = *state;

	ask(m, VMEM_REQ_PLUG, 10, 4);
	assert_int_equal(ask_addr(m, VMEM_REQ_UNPLUG_ALL, 0xdeadbeef, 0xffff), VMEM_RESP_ACK);
	assert_int_equal(config_of(m).plugged_size, 0);
}

/* UNPLUG ALL: MUST ACK when all were unplugged; MUST then set plugged_size to 0. */
static void unplug_all_unplugs_everything(void **state)
{
	struct model *m = *state;

	for (uint64_t b = 0; b < 60; b += 2)
		ask(m, VMEM_REQ_PLUG, b, 1);
	assert_int_equal(ask(m, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_ACK);
	assert_int_equal(m->calls, 2);
	assert_int_equal(config_of(m).plugged_size, 0);
	assert_int_equal(ask(m, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_ACK);
	assert_int_equal(m->calls, 0);
}

/* UNPLUG ALL: MAY modify usable_region_size before responding with ACK: to what is requested. */
static void unplug_all_shrinks_usable(void **state)
{
	struct model *m = *state;

	resize(m, 0);
	ask(m, VMEM_REQ_UNPLUG_ALL, 0, 0);
	assert_int_equal(config_of(m).usable_region_size, 0);
	assert_int_equal(ask(m, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_ERROR);
	resize(m, 1);
	assert_int_equal(le64toh(config_of(m).usable_region_size), 11 * BS);
	assert_int_equal(ask(m, VMEM_REQ_PLUG, 10, 1), VMEM_RESP_ACK);
}

static uint16_t state_of(struct model *m, uint64_t first, uint16_t count)
{
	struct vmem_req req = model_req(VMEM_REQ_STATE, ADDR + first * BS, count);
	struct vmem_resp resp;

	assert_int_equal(vmem_device_request(m->dev, &req, &resp), VMEM_RESP_ACK);
	assert_int_equal(le16toh(resp.type), VMEM_RESP_ACK);
	m->answers[VMEM_REQ_STATE][VMEM_RESP_ACK]++; /* asked behind the model's back */
	return le16toh(resp.state_type);
}

/* STATE: MUST say PLUGGED if all requested memory blocks are plugged. */
static void state_plugged(void **state)
{
	ask(*state, VMEM_REQ_PLUG, 10, 4);
	ask(*state, VMEM_REQ_PLUG, 14, 4);
	assert_int_equal(state_of(*state, 10, 1), VMEM_STATE_PLUGGED);
	assert_int_equal(state_of(*state, 10, 8), VMEM_STATE_PLUGGED);
}

/* STATE: MUST say UNPLUGGED if all requested memory blocks are unplugged. */
static void state_unplugged(void **state)
{
	assert_int_equal(state_of(*state, 0, USABLE), VMEM_STATE_UNPLUGGED);
	ask(*state, VMEM_REQ_PLUG, 10, 4);
	assert_int_equal(state_of(*state, 0, 10), VMEM_STATE_UNPLUGGED);
	assert_int_equal(state_of(*state, 14, USABLE - 14), VMEM_STATE_UNPLUGGED);
}

/* STATE: otherwise MUST say MIXED. */
static void state_mixed(void **state)
{
	ask(*state, VMEM_REQ_PLUG, 10, 4);
	assert_int_equal(state_of(*state, 9, 2), VMEM_STATE_MIXED);
	assert_int_equal(state_of(*state, 13, 2), VMEM_STATE_MIXED);
	assert_int_equal(state_of(*state, 0, USABLE), VMEM_STATE_MIXED);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		TEST(feature_acpi_pxm_offered_with_node),
		TEST(feature_unplugged_inaccessible_offered_when_set),
		TEST(config_constants_never_change),
		TEST(config_plugged_size_follows_blocks),
		TEST(config_usable_covers_requested),
		TEST(config_block_size_is_power_of_two),
		TEST(config_sizes_are_multiples),
		TEST(config_region_size_may_be_zero),
		TEST(config_usable_never_shrinks_on_resize),
		TEST(config_notification_on_resize),
		TEST(config_notification_on_system_reset),
		TEST(config_no_notification_on_unplug_all),
		TEST(config_no_notification_on_plugged_size),
		TEST(plugged_memory_is_never_modified),
		TEST(plugged_memory_is_granted_before_the_answer),
		TEST(system_reset_unplugs_everything),
		TEST(unknown_type_is_error),
		TEST(padding_is_ignored),
		TEST(plug_unaligned_is_error),
		TEST(plug_no_blocks_is_error),
		TEST(plug_outside_usable_is_error),
		TEST(plug_already_plugged_is_error),
		TEST(plug_success_is_ack),
		TEST(plug_beyond_requested_is_nack),
		TEST(unplug_unaligned_is_error),
		TEST(unplug_no_blocks_is_error),
		TEST(unplug_outside_usable_is_error),
		TEST(unplug_already_unplugged_is_error),
		TEST(unplug_success_is_ack),
		TEST(unplug_all_ignores_data),
		TEST(unplug_all_unplugs_everything),
		TEST(unplug_all_shrinks_usable),
		TEST(state_unaligned_is_error),
		TEST(state_no_blocks_is_error),
		TEST(state_outside_usable_is_error),
		TEST(state_plugged),
		TEST(state_unplugged),
		TEST(state_mixed),
	};

	return cmocka_run_group_tests_name("device: VIRTIO 5.15", tests, NULL, NULL);
}
