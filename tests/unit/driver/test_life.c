/* SPDX-License-Identifier: BSD-3-Clause */
/* What a core is made of, configurations that are wrong, questions, and its end. */
#include <endian.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/driver/rig.h"

static struct rig rig;

static int setup(void **state)
{
	(void)state;
	rig_init(&rig, 64, 8);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rig_done(&rig);
	return 0;
}

static void start_with(unsigned int chunks)
{
	rig_start(&rig);
	rig_request(&rig, chunks);
	rig_settle(&rig);
	rig_forget(&rig);
}

static size_t arena_for(const struct vmem_driver_config *config, const struct vmem_config *device)
{
	struct vmem_config wire = {
		.block_size = htole64(device->block_size),
		.addr = htole64(device->addr),
		.region_size = htole64(device->region_size),
		.usable_region_size = htole64(device->usable_region_size),
		.plugged_size = htole64(device->plugged_size),
		.requested_size = htole64(device->requested_size),
	};

	return vmem_driver_arena_bytes(config, &wire);
}

/* Every field of a sound configuration out of order by itself. */
static void configurations_that_break_a_rule(void **state)
{
	static const struct {
		size_t field;
		uint64_t value;
	} devices[] = {
		{offsetof(struct vmem_config, block_size), 0},
		{offsetof(struct vmem_config, block_size), 3 * 4096},
		{offsetof(struct vmem_config, block_size), RIG_BLOCK * 2 + 1},
		{offsetof(struct vmem_config, addr), RIG_ADDR + 1},
		{offsetof(struct vmem_config, addr), UINT64_MAX - RIG_BLOCK + 1},
		{offsetof(struct vmem_config, region_size), 63 * RIG_BLOCK},
		{offsetof(struct vmem_config, region_size), UINT64_MAX - RIG_BLOCK + 1},
		{offsetof(struct vmem_config, usable_region_size), 65 * RIG_BLOCK},
		{offsetof(struct vmem_config, usable_region_size), RIG_BLOCK / 2},
		{offsetof(struct vmem_config, plugged_size), 65 * RIG_BLOCK},
		{offsetof(struct vmem_config, plugged_size), 4096},
		{offsetof(struct vmem_config, requested_size), 65 * RIG_BLOCK},
		{offsetof(struct vmem_config, requested_size), UINT64_MAX},
	};
	struct vmem_config sound = rig.device;

	(void)state;
	assert_true(arena_for(&rig.config, &sound) > 0);
	for (unsigned int i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
		struct vmem_config device = sound;

		memcpy((char *)&device + devices[i].field, &devices[i].value, sizeof(uint64_t));
		assert_int_equal(arena_for(&rig.config, &device), 0);

		/* What was sound at the start, and is not any more. */
		rig_init(&rig, 64, 8);
		start_with(20);
		rig.content[3] = RIG_MOVABLE;
		memcpy((char *)&rig.device + devices[i].field, &devices[i].value, sizeof(uint64_t));
		vmem_driver_config_changed(rig.drv);
		assert_int_equal(vmem_driver_run(rig.drv, 0), VMEM_DRIVER_IDLE);
		vmem_driver_info(rig.drv, &rig.info);
		assert_int_equal(rig.info.status, VMEM_DRIVER_ENDED);
		assert_int_equal(rig.info.online_size, 20 * RIG_BLOCK);
		assert_int_equal(rig_noted(&rig, VMEM_DRIVER_NOTE_BAD_CONFIG), 1);
		rig_expect(&rig, "");
		vmem_driver_restarted(rig.drv);
		assert_int_equal(vmem_driver_run(rig.drv, 0), VMEM_DRIVER_IDLE);
		rig_done(&rig);
		rig.arena = NULL;
	}
}

static void what_never_changes(void **state)
{
	static const struct {
		size_t field;
		uint64_t value;
	} changes[] = {
		{offsetof(struct vmem_config, block_size), RIG_BLOCK / 2},
		{offsetof(struct vmem_config, addr), RIG_ADDR + RIG_BLOCK},
		{offsetof(struct vmem_config, region_size), 65 * RIG_BLOCK},
		{offsetof(struct vmem_config, usable_region_size), 63 * RIG_BLOCK},
	};

	(void)state;
	for (unsigned int i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		rig_init(&rig, 64, 8);
		start_with(20);
		memcpy((char *)&rig.device + changes[i].field, &changes[i].value, sizeof(uint64_t));
		vmem_driver_config_changed(rig.drv);
		vmem_driver_run(rig.drv, 0);
		vmem_driver_info(rig.drv, &rig.info);
		assert_int_equal(rig.info.status, VMEM_DRIVER_ENDED);
		rig_done(&rig);
		rig.arena = NULL;
	}
	/* Nothing changed, or what says nothing. */
	rig_init(&rig, 64, 8);
	start_with(20);
	rig.device.node_id = 7;
	rig.device.padding[0] = 1;
	vmem_driver_config_changed(rig.drv);
	rig_settle(&rig);
	rig_expect(&rig, "");
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_THERE);
}

/* A configuration that ends the work comes while an answer is awaited: that is still put down (I1). */
static void an_answer_after_the_end(void **state)
{
	(void)state;
	start_with(8);
	rig.asynchronous = true;
	rig_request(&rig, 20);
	while (!rig.waiting)
		rig_step(&rig);
	rig.device.addr += RIG_BLOCK;
	vmem_driver_config_changed(rig.drv);
	vmem_driver_run(rig.drv, 0);
	rig.device.addr -= RIG_BLOCK;
	rig_answer(&rig);
	assert_int_equal(rig_step(&rig), VMEM_DRIVER_IDLE);
	assert_int_equal(rig.info.plugged_size, 20 * RIG_BLOCK);
	assert_int_equal(rig.info.online_size, 8 * RIG_BLOCK);
	rig_expect(&rig, "plug 8+12");
}

/* Region and units in every position to each other: never beyond either, and nothing is left out. */
static void geometry(void **state)
{
	const uint64_t bases[] = {0, RIG_ADDR, 0 - 64 * RIG_BLOCK};

	(void)state;
	for (unsigned int b = 0; b < 3; b++)
		for (uint64_t head = 0; head < 17; head++)
			for (uint64_t len = 0; len < 40; len++)
				for (uint64_t shift = 0; shift < 5; shift++) {
					struct vmem_driver_info info;
					uint64_t unit = RIG_BLOCK << shift;
					uint64_t low = bases[b] + head * RIG_BLOCK;
					uint64_t size = len * RIG_BLOCK, end, nr = 0;

					rig_init(&rig, 64, 1u << shift);
					rig.device.addr = low;
					rig.device.region_size = size;
					rig.device.usable_region_size = size;
					rig_start(&rig);
					vmem_driver_info(rig.drv, &info);
					for (uint64_t at = 0; at < size; at += RIG_BLOCK)
						nr += !((low + at) % unit) && size - at >= unit;
					assert_int_equal(info.nr_units, nr);
					end = info.first_unit + info.nr_units * unit;
					if (nr)
						assert_true(info.first_unit - low < unit &&
							    low + size - end < unit);
					rig_done(&rig);
					rig.arena = NULL;
				}
}

static void addresses_that_can_be_used(void **state)
{
	(void)state;
	rig.config.addr_min = RIG_ADDR + 9 * RIG_BLOCK;
	rig.config.addr_max = RIG_ADDR + 48 * RIG_BLOCK - 1;
	rig_start(&rig);
	assert_int_equal(rig.info.first_unit, RIG_ADDR + 16 * RIG_BLOCK);
	assert_int_equal(rig.info.nr_units, 4);
	rig.config.addr_max--;
	rig_start(&rig);
	assert_int_equal(rig.info.nr_units, 3);
	rig.config.addr_max = rig.config.addr_min - 1;
	assert_int_equal(arena_for(&rig.config, &rig.device), 0);
	rig.config.addr_min = 0;
	rig.config.addr_max = RIG_ADDR - 1;
	rig_start(&rig);
	assert_int_equal(rig.info.nr_units, 0);
	rig_request(&rig, 8);
	assert_int_not_equal(rig_run(&rig), 0);
	assert_int_equal(rig_noted(&rig, VMEM_DRIVER_NOTE_UNUSABLE), 1);
	assert_int_equal(rig.notes[0].size, 64 * RIG_BLOCK);
	rig_expect(&rig, "");
}

static void arguments_that_are_wrong(void **state)
{
	struct vmem_driver *drv = NULL;
	struct vmem_driver_config config = rig.config;
	struct vmem_driver_ops ops = rig.ops;
	size_t bytes = arena_for(&rig.config, &rig.device);
	char *arena = aligned_alloc(16, bytes + 16);

	(void)state;
	assert_non_null(arena);
	assert_int_equal(bytes % 16, 0);
	assert_int_equal(vmem_driver_init(arena, bytes - 1, &config, &ops, &rig, &drv),
			 VMEM_DRIVER_NOMEM);
	assert_int_equal(vmem_driver_init(arena + 8, bytes, &config, &ops, &rig, &drv),
			 VMEM_DRIVER_INVALID);
	rig_fault(&rig, RIG_CONFIG, 0, 1, VMEM_DRIVER_GONE);
	assert_int_equal(vmem_driver_init(arena, bytes, &config, &ops, &rig, &drv),
			 VMEM_DRIVER_GONE);
	ops.remove = NULL;
	assert_int_equal(vmem_driver_init(arena, bytes, &config, &ops, &rig, &drv),
			 VMEM_DRIVER_INVALID);
	config.unit_bytes = 3 * RIG_BLOCK;
	assert_int_equal(vmem_driver_init(arena, bytes, &config, &rig.ops, &rig, &drv),
			 VMEM_DRIVER_INVALID);
	config = rig.config;
	config.chunk_bytes = 3 * RIG_BLOCK;
	assert_int_equal(arena_for(&config, &rig.device), 0);
	config = rig.config;
	config.size_policy = (struct vmem_driver_size_policy){
		.on = true, .low_bytes = 2, .target_bytes = 1, .high_bytes = 3};
	assert_int_equal(arena_for(&config, &rig.device), 0);
	assert_null(drv);
	free(arena);
	/* Chunks of more blocks than a request can be for; more chunks than the core counts. */
	config = rig.config;
	rig.device.block_size = 32;
	config.chunk_bytes = config.unit_bytes;
	assert_int_equal(arena_for(&config, &rig.device), 0);
	rig.device.block_size = 1;
	rig.device.region_size = UINT64_C(1) << 40;
	config = (struct vmem_driver_config){.unit_bytes = 4096, .addr_max = UINT64_MAX};
	assert_int_equal(arena_for(&config, &rig.device), 0);
}

static void what_may_be_used(void **state)
{
	(void)state;
	start_with(12);
	assert_true(vmem_driver_usable(rig.drv, RIG_ADDR, 12 * RIG_BLOCK));
	assert_true(vmem_driver_usable(rig.drv, RIG_ADDR + 5, 1));
	assert_true(vmem_driver_usable(rig.drv, RIG_ADDR + 12 * RIG_BLOCK - 1, 1));
	assert_false(vmem_driver_usable(rig.drv, RIG_ADDR + 12 * RIG_BLOCK - 1, 2));
	assert_false(vmem_driver_usable(rig.drv, RIG_ADDR - 1, 2));
	assert_false(vmem_driver_usable(rig.drv, RIG_ADDR, 0));
	assert_false(vmem_driver_usable(rig.drv, RIG_ADDR + 63 * RIG_BLOCK, UINT64_MAX));
	assert_false(vmem_driver_usable(rig.drv, UINT64_MAX, 1));
	assert_false(vmem_driver_plugged(rig.drv, RIG_ADDR + 64 * RIG_BLOCK, 1));
	/* Ranges that hold no unit as a whole change nothing. */
	vmem_driver_offlined(rig.drv, RIG_ADDR + 1, 8 * RIG_BLOCK);
	vmem_driver_offlined(rig.drv, 0, RIG_ADDR);
	vmem_driver_offlined(rig.drv, RIG_ADDR + 64 * RIG_BLOCK, UINT64_MAX);
	vmem_driver_offlined(rig.drv, UINT64_MAX, UINT64_MAX);
	rig_check(&rig);
	assert_int_equal(rig.info.offline_size, 0);
	vmem_driver_offlined(rig.drv, 0, UINT64_MAX);
	vmem_driver_info(rig.drv, &rig.info);
	assert_int_equal(rig.info.offline_size, 12 * RIG_BLOCK);
	vmem_driver_onlined(rig.drv, RIG_ADDR - 1, 16 * RIG_BLOCK + 1, VMEM_DRIVER_MOVABLE);
	rig_check(&rig);
	assert_int_equal(rig.info.online_size, 12 * RIG_BLOCK);
}

static void questions_alone(void **state)
{
	(void)state;
	rig.config.query_only = true;
	rig.device.block_size = 4096;
	rig.config.chunk_bytes = RIG_BLOCK;
	memset(rig.plugged + 512, true, 512);
	memset(rig.plugged + 10240, true, 2048);
	rig.device.plugged_size = 2560 * 4096;
	rig.device.usable_region_size = 40 * RIG_BLOCK;
	rig_start(&rig);
	assert_int_equal(rig_run(&rig), 0);
	rig_expect(&rig, "");
	assert_int_equal(vmem_driver_state(rig.drv, RIG_ADDR, 512 * 4096), VMEM_STATE_UNPLUGGED);
	assert_int_equal(vmem_driver_state(rig.drv, RIG_ADDR + RIG_BLOCK, RIG_BLOCK),
			 VMEM_STATE_PLUGGED);
	assert_int_equal(vmem_driver_state(rig.drv, RIG_ADDR, 513 * 4096), VMEM_STATE_MIXED);
	assert_int_equal(vmem_driver_state(rig.drv, RIG_ADDR, 40 * RIG_BLOCK), VMEM_STATE_MIXED);
	rig_expect(&rig, "state 0+1, state 1+1, state 0.0+513, state 0+40");
	assert_int_equal(vmem_driver_state(rig.drv, RIG_ADDR, 41 * RIG_BLOCK), VMEM_DRIVER_INVALID);
	assert_int_equal(vmem_driver_state(rig.drv, RIG_ADDR, 0), VMEM_DRIVER_INVALID);
	assert_int_equal(vmem_driver_state(rig.drv, RIG_ADDR - 4096, 8192), VMEM_DRIVER_INVALID);
	assert_int_equal(vmem_driver_state(rig.drv, RIG_ADDR, 100), VMEM_DRIVER_INVALID);
	assert_int_equal(vmem_driver_state(rig.drv, RIG_ADDR + 4096, UINT64_MAX - 4095),
			 VMEM_DRIVER_INVALID);
	rig_fault(&rig, RIG_STATE, 0, 1, VMEM_RESP_BUSY);
	assert_int_equal(vmem_driver_state(rig.drv, RIG_ADDR, 4096), VMEM_DRIVER_BUSY);
	rig_fault(&rig, RIG_STATE, 0, 1, VMEM_RESP_ERROR);
	assert_int_equal(vmem_driver_state(rig.drv, RIG_ADDR, 4096), VMEM_DRIVER_INVALID);
	rig_fault(&rig, RIG_STATE, 0, 1, VMEM_DRIVER_GONE);
	assert_int_equal(vmem_driver_state(rig.drv, RIG_ADDR, 4096), VMEM_DRIVER_GONE);
}

/* No question while a request is under way; a device that is gone is told once. */
static void questions_meanwhile(void **state)
{
	(void)state;
	rig.asynchronous = true;
	rig_start(&rig);
	rig_request(&rig, 16);
	while (!rig.waiting)
		rig_step(&rig);
	assert_int_equal(vmem_driver_state(rig.drv, RIG_ADDR, RIG_BLOCK), VMEM_DRIVER_BUSY);
	rig_fault(&rig, RIG_CONFIG, 0, 1, VMEM_DRIVER_GONE);
	vmem_driver_config_changed(rig.drv);
	rig_step(&rig);
	vmem_driver_answered(rig.drv, NULL);
	assert_int_equal(rig_noted(&rig, VMEM_DRIVER_NOTE_GONE), 1);
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_ENDED);
}

/* More blocks than one STATE request can be for. */
static void long_questions(void **state)
{
	(void)state;
	rig_init(&rig, 40, 8);
	rig.config.query_only = true;
	rig.device.block_size = 512;
	rig.config.chunk_bytes = RIG_BLOCK;
	rig_start(&rig);
	assert_int_equal(vmem_driver_state(rig.drv, RIG_ADDR, 40 * RIG_BLOCK),
			 VMEM_STATE_UNPLUGGED);
	rig.plugged[40 * 4096 - 1] = true;
	assert_int_equal(vmem_driver_state(rig.drv, RIG_ADDR, 40 * RIG_BLOCK), VMEM_STATE_MIXED);
	memset(rig.plugged, true, 40 * 4096);
	assert_int_equal(vmem_driver_state(rig.drv, RIG_ADDR, 40 * RIG_BLOCK), VMEM_STATE_PLUGGED);
	memset(rig.plugged, false, 65535);
	assert_int_equal(vmem_driver_state(rig.drv, RIG_ADDR, 40 * RIG_BLOCK), VMEM_STATE_MIXED);
}

static void leaving(void **state)
{
	(void)state;
	start_with(32);
	rig.content[2] = RIG_PINNED;
	rig.content[9] = RIG_MOVABLE;
	vmem_driver_leave(rig.drv);
	vmem_driver_leave(rig.drv);
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_LEAVING);
	assert_int_equal(rig_run(&rig), 0);
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_LEFT);
	assert_int_equal(rig_plugged(&rig), 1);
	assert_int_equal(rig.info.online_size, RIG_BLOCK);
	rig_request(&rig, 64);
	vmem_driver_retry(rig.drv);
	vmem_driver_restarted(rig.drv);
	rig_forget(&rig);
	assert_int_equal(rig_run(&rig), 0);
	rig_expect(&rig, "");
}

/* A device that never lets go does not keep the driver; what was taken for it is given back. */
static void leaving_a_device_that_holds_on(void **state)
{
	(void)state;
	start_with(16);
	rig.content[2] = RIG_MOVABLE;
	rig.content[10] = RIG_MOVABLE;
	rig_fault(&rig, RIG_UNPLUG, 0, RIG_FOREVER, VMEM_RESP_BUSY);
	vmem_driver_leave(rig.drv);
	rig_settle(&rig);
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_LEFT);
	assert_int_equal(rig.info.online_size, 16 * RIG_BLOCK);
	rig_expect(&rig, "take 8+8, unplug 8+8!, unplug 8+8!, unplug 8+8!, unplug 8+8!, "
			 "unplug 8+8!, give 8+8");
}

static void leaving_in_the_middle(void **state)
{
	(void)state;
	rig.asynchronous = true;
	rig_start(&rig);
	rig_request(&rig, 16);
	while (!rig.waiting)
		rig_step(&rig);
	vmem_driver_leave(rig.drv);
	rig_settle(&rig);
	rig_expect(&rig, "plug 0+16, unplug 0+16");
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_LEFT);
	rig_done(&rig);
	rig.arena = NULL;
	/* The device is gone: nobody waits for it. */
	rig_init(&rig, 64, 8);
	start_with(16);
	rig_fault(&rig, RIG_UNPLUG, 0, 1, VMEM_DRIVER_GONE);
	vmem_driver_leave(rig.drv);
	assert_int_equal(rig_run(&rig), 0);
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_ENDED);
}

static void notes_have_names(void **state)
{
	(void)state;
	for (int k = 0; k < VMEM_DRIVER_NOTE_KINDS; k++)
		for (int l = 0; l < k; l++)
			assert_string_not_equal(
				vmem_driver_note_name((enum vmem_driver_note_kind)k),
				vmem_driver_note_name((enum vmem_driver_note_kind)l));
	assert_string_equal(vmem_driver_note_name(VMEM_DRIVER_NOTE_KINDS), "unknown");
	rig.ops.note = NULL;
	start_with(16);
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_THERE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(configurations_that_break_a_rule, setup, teardown),
		cmocka_unit_test_setup_teardown(what_never_changes, setup, teardown),
		cmocka_unit_test_setup_teardown(an_answer_after_the_end, setup, teardown),
		cmocka_unit_test_setup_teardown(geometry, setup, teardown),
		cmocka_unit_test_setup_teardown(addresses_that_can_be_used, setup, teardown),
		cmocka_unit_test_setup_teardown(arguments_that_are_wrong, setup, teardown),
		cmocka_unit_test_setup_teardown(what_may_be_used, setup, teardown),
		cmocka_unit_test_setup_teardown(questions_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(questions_meanwhile, setup, teardown),
		cmocka_unit_test_setup_teardown(long_questions, setup, teardown),
		cmocka_unit_test_setup_teardown(leaving, setup, teardown),
		cmocka_unit_test_setup_teardown(leaving_a_device_that_holds_on, setup, teardown),
		cmocka_unit_test_setup_teardown(leaving_in_the_middle, setup, teardown),
		cmocka_unit_test_setup_teardown(notes_have_names, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
