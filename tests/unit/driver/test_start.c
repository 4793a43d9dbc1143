/* SPDX-License-Identifier: BSD-3-Clause */
/* The beginning: UNPLUG_ALL, or what is plugged already is found out; a device that comes back. */
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

static void plug_blocks(unsigned int first, unsigned int nr)
{
	for (unsigned int b = first; b < first + nr; b++)
		rig.plugged[b] = true;
	rig.device.plugged_size += nr * rig.device.block_size;
	rig.device.requested_size += nr * rig.device.block_size;
}

static void what_was_plugged_is_unplugged(void **state)
{
	(void)state;
	plug_blocks(3, 9);
	rig_start(&rig);
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_STARTING);
	rig_fault(&rig, RIG_UNPLUG_ALL, 0, 2, VMEM_RESP_BUSY);
	assert_int_equal(rig_run(&rig), 1000);
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_STARTING);
	assert_int_equal(rig.info.retry_ms, 1000);
	rig_settle(&rig);
	rig_expect(&rig, "unplug-all!, unplug-all!, unplug-all, plug 0+9, add 0+2");
	assert_int_equal(rig_noted(&rig, VMEM_DRIVER_NOTE_UNPLUG_ALL), 1);
	assert_int_equal(rig_noted(&rig, VMEM_DRIVER_NOTE_STARTED), 1);
}

/* UNPLUG_ALL alone may make the usable region smaller. */
static void the_usable_region_shrinks_at_the_start(void **state)
{
	(void)state;
	plug_blocks(40, 8);
	rig_start(&rig);
	rig.asynchronous = true;
	rig_step(&rig);
	assert_true(rig.waiting);
	rig_answer(&rig);
	rig.device.usable_region_size = 16 * RIG_BLOCK;
	rig_settle(&rig);
	rig_expect(&rig, "unplug-all, plug 0+8, add 0+1");
	rig.device.usable_region_size = 12 * RIG_BLOCK;
	vmem_driver_config_changed(rig.drv);
	rig_settle(&rig);
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_ENDED);
}

static void what_was_plugged_is_kept(void **state)
{
	(void)state;
	rig.config.resume = true;
	plug_blocks(2, 3);
	plug_blocks(8, 8);
	plug_blocks(30, 20);
	rig_start(&rig);
	rig_fault(&rig, RIG_STATE, 3, 1, VMEM_RESP_BUSY);
	rig_settle(&rig);
	assert_int_equal(rig_plugged(&rig), 31);
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_THERE);
	assert_int_equal(rig.info.online_size, 31 * RIG_BLOCK);
	assert_int_equal(rig.info.answers[VMEM_REQ_UNPLUG][VMEM_RESP_ACK], 0);
	assert_int_equal(rig.info.answers[VMEM_REQ_PLUG][VMEM_RESP_ACK], 0);
	assert_true(rig.info.answers[VMEM_REQ_STATE][VMEM_RESP_ACK] < 40);
	/* All was found: nobody asks for the rest. */
	assert_null(strstr(rig.words, "state 50"));
	assert_non_null(strstr(rig.words, "add 0+2, add 3+4"));
	rig_forget(&rig);
	rig_request(&rig, 0);
	rig_settle(&rig);
	assert_int_equal(rig_plugged(&rig), 0);
}

/* The system has units from before: it goes on using what is plugged in them, and is given nothing. */
static void units_that_were_there(void **state)
{
	(void)state;
	rig.config.resume = true;
	plug_blocks(0, 12);
	plug_blocks(16, 8);
	rig_start(&rig);
	vmem_driver_onlined(rig.drv, RIG_ADDR, 16 * RIG_BLOCK, VMEM_DRIVER_MOVABLE);
	vmem_driver_offlined(rig.drv, RIG_ADDR + 16 * RIG_BLOCK, 8 * RIG_BLOCK);
	assert_false(vmem_driver_usable(rig.drv, RIG_ADDR, RIG_BLOCK));
	while (!rig_noted(&rig, VMEM_DRIVER_NOTE_STARTED))
		vmem_driver_run(rig.drv, 0);
	assert_null(strstr(rig.words, "give"));
	assert_true(vmem_driver_usable(rig.drv, RIG_ADDR, 12 * RIG_BLOCK));
	for (unsigned int c = 0; c < 12; c++)
		rig.has[c] = true;
	rig.unit[0] = rig.unit[1] = RIG_ONLINE;
	rig.unit[2] = RIG_OFFLINE;
	rig_check(&rig);
	rig_forget(&rig);
	rig_request(&rig, 8);
	rig_settle(&rig);
	rig_expect(&rig, "remove 2+1, unplug 16+8, remove 1+1, unplug 8+4");
	/* Later, only units that were added are taken notice of. */
	vmem_driver_onlined(rig.drv, RIG_ADDR + 32 * RIG_BLOCK, 8 * RIG_BLOCK, VMEM_DRIVER_MOVABLE);
	rig_request(&rig, 16);
	rig_settle(&rig);
	rig_expect(&rig, "plug 8+8, add 1+1");
}

/* A chunk of which only a part is plugged cannot be used: that part is unplugged. */
static void parts_of_chunks(void **state)
{
	(void)state;
	rig.device.block_size = RIG_BLOCK / 8;
	rig.config.chunk_bytes = RIG_BLOCK;
	rig.config.resume = true;
	plug_blocks(3, 2);   /* chunk 0 */
	plug_blocks(7, 10);  /* chunk 0, all of 1, 2 */
	plug_blocks(23, 1);  /* chunk 2 */
	plug_blocks(24, 16); /* chunks 3 and 4 */
	rig_fault(&rig, RIG_UNPLUG, 1, 1, VMEM_RESP_BUSY);
	rig_start(&rig);
	rig_settle(&rig);
	assert_int_equal(rig_plugged(&rig), 3);
	assert_int_equal(rig.info.plugged_size, 3 * RIG_BLOCK);
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_THERE);
	for (unsigned int b = 0; b < 64; b++)
		assert_int_equal(rig.plugged[b], (b >= 8 && b < 16) || (b >= 24 && b < 40) ||
							 (b < 8 && rig.has[0]) ||
							 (b >= 16 && b < 24 && rig.has[2]));
}

/* What lies outside of what can be used is not the driver's, but counts for the device. */
static void blocks_out_of_reach(void **state)
{
	(void)state;
	rig.config.resume = true;
	rig.config.addr_min = RIG_ADDR + 8 * RIG_BLOCK;
	plug_blocks(2, 3);
	plug_blocks(8, 4);
	rig_start(&rig);
	rig_settle(&rig);
	assert_int_equal(rig.info.plugged_size, 4 * RIG_BLOCK);
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_THERE);
	rig_forget(&rig);
	rig.device.requested_size = 11 * RIG_BLOCK;
	vmem_driver_config_changed(rig.drv);
	rig_settle(&rig);
	rig_expect(&rig, "plug 4+4, give 4+4");
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_THERE);
}

static void nothing_is_usable_yet(void **state)
{
	(void)state;
	rig.config.resume = true;
	rig.device.usable_region_size = 0;
	rig_start(&rig);
	rig_settle(&rig);
	rig_expect(&rig, "");
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_THERE);
	rig.device.usable_region_size = 8 * RIG_BLOCK;
	rig_request(&rig, 3);
	rig_settle(&rig);
	rig_expect(&rig, "plug 0+3, add 0+1");
}

/* A device is reset while a request is under way: what became of it is asked, it is not sent blindly. */
static void a_device_comes_back(void **state)
{
	(void)state;
	rig_start(&rig);
	rig.asynchronous = true;
	rig_request(&rig, 16);
	while (!rig.waiting)
		rig_step(&rig);
	vmem_driver_answered(rig.drv, NULL);
	rig.waiting = false;
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_ENDED);
	assert_int_equal(rig.info.held_size, 16 * RIG_BLOCK);
	assert_int_equal(rig_step(&rig), VMEM_DRIVER_IDLE);
	vmem_driver_restarted(rig.drv);
	rig_settle(&rig);
	rig_expect(&rig, "state 0+16, plug 0+16, add 0+2");
	assert_int_equal(rig_noted(&rig, VMEM_DRIVER_NOTE_GONE), 1);

	rig.content[0] = rig.content[8] = RIG_MOVABLE;
	rig_request(&rig, 12);
	while (!rig.waiting)
		rig_step(&rig);
	/* It was done, and the answer was lost with the reset, of which nobody told before. */
	memset(rig.plugged + 12, false, 4);
	rig.device.plugged_size = 12 * RIG_BLOCK;
	rig.waiting = false;
	vmem_driver_restarted(rig.drv);
	rig_settle(&rig);
	rig_expect(&rig, "take 12+4, state 12+4");
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_THERE);
	vmem_driver_answered(rig.drv, &(struct vmem_resp){.type = 0});
	rig_check(&rig);
}

static void nothing_left_of_a_request_that_was_lost(void **state)
{
	(void)state;
	rig_start(&rig);
	rig_request(&rig, 4);
	rig_fault(&rig, RIG_PLUG, 0, 1, VMEM_DRIVER_GONE);
	rig_settle(&rig);
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_ENDED);
	assert_false(vmem_driver_usable(rig.drv, RIG_ADDR, RIG_BLOCK));
	rig_fault(&rig, RIG_CONFIG, 0, 1, VMEM_DRIVER_GONE);
	vmem_driver_restarted(rig.drv);
	rig_settle(&rig);
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_ENDED);
	vmem_driver_restarted(rig.drv);
	rig_settle(&rig);
	rig_expect(&rig, "plug 0+4!, state 0+4, plug 0+4, add 0+1");
}

static void accounting_only_resumes(void **state)
{
	(void)state;
	rig_init(&rig, 20, 0);
	rig.ops.add = NULL;
	rig.ops.remove = NULL;
	rig.config.resume = true;
	plug_blocks(4, 4);
	rig_start(&rig);
	rig_settle(&rig);
	assert_non_null(strstr(rig.words, "give 4+"));
	assert_int_equal(rig.info.online_size, 4 * RIG_BLOCK);
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_THERE);
	/* Nobody looks at the whole region, nor removes it. */
	rig_forget(&rig);
	rig_request(&rig, 0);
	rig_settle(&rig);
	rig_expect(&rig, "take 4+4, unplug 4+4");
	assert_int_equal(rig.samples, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_was_plugged_is_unplugged, setup, teardown),
		cmocka_unit_test_setup_teardown(the_usable_region_shrinks_at_the_start, setup,
						teardown),
		cmocka_unit_test_setup_teardown(what_was_plugged_is_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(units_that_were_there, setup, teardown),
		cmocka_unit_test_setup_teardown(parts_of_chunks, setup, teardown),
		cmocka_unit_test_setup_teardown(blocks_out_of_reach, setup, teardown),
		cmocka_unit_test_setup_teardown(nothing_is_usable_yet, setup, teardown),
		cmocka_unit_test_setup_teardown(a_device_comes_back, setup, teardown),
		cmocka_unit_test_setup_teardown(nothing_left_of_a_request_that_was_lost, setup,
						teardown),
		cmocka_unit_test_setup_teardown(accounting_only_resumes, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
