/* SPDX-License-Identifier: BSD-3-Clause */
/* Growing: which chunks and units come first, in what runs, and what follows on each failure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/unit/driver/rig.h"

static struct rig rig;

/* A region of 64 chunks in units of 8, and everything as it is by default. */
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

static void runs_from_the_lowest_address(void **state)
{
	(void)state;
	rig_start(&rig);
	rig_settle(&rig);
	rig_expect(&rig, "");
	rig_request(&rig, 20);
	rig_settle(&rig);
	rig_expect(&rig, "plug 0+20, add 0+3");
	rig_request(&rig, 64);
	rig_settle(&rig);
	rig_expect(&rig, "plug 20+4, give 20+4, plug 24+32, add 3+4, plug 56+8, add 7+1");
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_THERE);
	assert_int_equal(rig.info.adds, 3);
	assert_int_equal(rig.info.plugged_bytes, 64 * RIG_BLOCK);
	assert_int_equal(rig.info.answers[VMEM_REQ_PLUG][VMEM_RESP_ACK], 4);
	assert_int_equal(rig_noted(&rig, VMEM_DRIVER_NOTE_REACHED), 3);
}

/* Partly plugged units in use, then units in use with nothing plugged, then offline ones. */
static void what_is_there_is_filled_first(void **state)
{
	(void)state;
	start_with(32);
	rig_fault(&rig, RIG_REMOVE, 0, RIG_FOREVER, VMEM_DRIVER_BUSY);
	rig.content[0] = rig.content[8] = rig.content[9] = rig.content[10] = RIG_MOVABLE;
	rig.content[16] = rig.content[17] = RIG_MOVABLE;
	rig.content[24] = rig.content[25] = rig.content[26] = rig.content[27] = RIG_MOVABLE;
	rig_request(&rig, 12);
	rig_run(&rig);
	rig_forget(&rig);
	rig_request(&rig, 20);
	rig_run(&rig);
	rig_expect(&rig, "plug 12+4, give 12+4, plug 0+4, give 0+4, remove 2+1!");
	assert_int_equal(rig_plugged(&rig), 20);
	rig_offline(&rig, 0, 1);
	rig_request(&rig, 64);
	rig_run(&rig);
	rig_expect(&rig, "plug 16+8, give 16+8, plug 4+4, plug 32+32, add 4+4");
}

static void a_request_is_for_whole_units_if_it_must_stop(void **state)
{
	(void)state;
	rig_init(&rig, 40, 8);
	rig.config.chunk_bytes = RIG_BLOCK;
	rig.device.block_size = RIG_BLOCK / 4096;
	rig.config.run_max_bytes = UINT64_MAX;
	start_with(0);
	rig_request(&rig, 40);
	rig_settle(&rig);
	/* 65535 blocks are 15 chunks and a bit. */
	rig_expect(&rig, "plug 0+8, add 0+1, plug 8+8, add 1+1, plug 16+8, add 2+1, plug 24+8, "
			 "add 3+1, plug 32+8, add 4+1");
}

static void not_beyond_the_usable_region(void **state)
{
	(void)state;
	rig.device.usable_region_size = 13 * RIG_BLOCK;
	start_with(0);
	rig_request(&rig, 13);
	rig_settle(&rig);
	rig_expect(&rig, "plug 0+13, add 0+2");
	rig.device.usable_region_size = 30 * RIG_BLOCK;
	rig_request(&rig, 30);
	rig_settle(&rig);
	rig_expect(&rig, "plug 13+3, give 13+3, plug 16+14, add 2+2");
}

static void not_what_cannot_be_added(void **state)
{
	(void)state;
	rig.device.addr = RIG_ADDR + 3 * RIG_BLOCK;
	rig.config.addr_max = RIG_ADDR + 43 * RIG_BLOCK;
	start_with(0);
	assert_int_equal(rig.info.first_unit, RIG_ADDR + 8 * RIG_BLOCK);
	assert_int_equal(rig.info.nr_units, 4);
	assert_int_equal(rig_noted(&rig, VMEM_DRIVER_NOTE_UNUSABLE), 2);
	assert_int_equal(rig.notes[0].addr, rig.device.addr);
	assert_int_equal(rig.notes[0].size, 5 * RIG_BLOCK);
	assert_int_equal(rig.notes[1].addr, RIG_ADDR + 40 * RIG_BLOCK);
	assert_int_equal(rig.notes[1].size, 27 * RIG_BLOCK);
	rig_request(&rig, 64);
	assert_int_equal(rig_run(&rig), 1000);
	rig_expect(&rig, "plug 0+32, add 0+4");
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_WAITING);
	assert_int_equal(rig_noted(&rig, VMEM_DRIVER_NOTE_STUCK), 1);
	assert_int_equal(rig.notes[rig.nr_notes - 1].result, VMEM_DRIVER_NEVER);
}

/* Halves, down to one unit; then what could not be added is unplugged. */
static void adding_less_where_all_is_too_much(void **state)
{
	(void)state;
	start_with(0);
	rig_fault(&rig, RIG_ADD, 0, 2, VMEM_DRIVER_NOMEM);
	rig_request(&rig, 32);
	rig_settle(&rig);
	rig_expect(&rig, "plug 0+32, add 0+4!, add 0+2!, add 0+1, add 1+2, add 3+1");
	rig_fault(&rig, RIG_ADD, 0, 3, VMEM_DRIVER_NOMEM);
	rig_request(&rig, 64);
	assert_int_equal(rig_run(&rig), 1000);
	rig_expect(&rig, "plug 32+32, add 4+4!, add 4+2!, add 4+1!, unplug 32+32");
	assert_int_equal(rig_noted(&rig, VMEM_DRIVER_NOTE_ADD_FAILED), 1);
	assert_int_equal(rig.info.add_failures, 5);
	assert_int_equal(rig_noted(&rig, VMEM_DRIVER_NOTE_STUCK), 1);
	assert_int_equal(rig.notes[rig.nr_notes - 1].result, VMEM_DRIVER_NOMEM);
	rig_fault(&rig, RIG_ADD, 2, 1, VMEM_DRIVER_NOMEM);
	rig.now_ms += 1000;
	rig_settle(&rig);
	rig_expect(&rig, "plug 32+32, add 4+4");
}

static void adding_in_part(void **state)
{
	(void)state;
	start_with(0);
	rig.add_parts = 3;
	rig_fault(&rig, RIG_ADD, 0, 1, VMEM_DRIVER_NOMEM);
	rig_request(&rig, 32);
	rig_settle(&rig);
	rig_expect(&rig, "plug 0+32, add 0+4!, add 3+1");
	rig.stay_offline = true;
	rig.add_parts = 1;
	rig_fault(&rig, RIG_ADD, 0, 2, VMEM_DRIVER_NOMEM);
	rig_request(&rig, 64);
	rig_settle(&rig);
	rig_expect(&rig, "plug 32+32, add 4+4!, add 5+2!, add 6+1, add 7+1");
}

static void a_unit_that_can_never_be_added(void **state)
{
	(void)state;
	start_with(0);
	rig_fault(&rig, RIG_ADD, 0, 3, VMEM_DRIVER_NEVER);
	rig_request(&rig, 32);
	rig_settle(&rig);
	rig_expect(&rig, "plug 0+32, add 0+4!, add 0+2!, add 0+1!, unplug 0+8, add 1+1, add 2+2, "
			 "plug 32+8, add 4+1");
	vmem_driver_retry(rig.drv);
	rig_request(&rig, 40);
	rig_settle(&rig);
	rig_expect(&rig, "plug 0+8, add 0+1");
}

static void not_more_than_may_wait_offline(void **state)
{
	(void)state;
	rig.config.offline_max_bytes = 16 * RIG_BLOCK;
	rig.stay_offline = true;
	start_with(0);
	rig_request(&rig, 48);
	assert_int_not_equal(rig_run(&rig), 0);
	rig_expect(&rig, "plug 0+16, add 0+2");
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_WAITING);
	assert_int_equal(rig.info.offline_size, 16 * RIG_BLOCK);
	rig_online(&rig, 0, 1);
	rig_run(&rig);
	rig_expect(&rig, "plug 16+8, add 2+1");
	rig_online(&rig, 1, 2);
	rig_run(&rig);
	rig_expect(&rig, "plug 24+16, add 3+2");
	rig_online(&rig, 3, 2);
	rig_settle(&rig);
	rig_expect(&rig, "plug 40+8, add 5+1");
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_THERE);
}

/* Units go offline between a plug and its add; and what an error left in absent units waits likewise. */
static void more_is_offline_meanwhile(void **state)
{
	(void)state;
	rig.config.offline_max_bytes = 16 * RIG_BLOCK;
	rig.asynchronous = true;
	start_with(16);
	rig_request(&rig, 24);
	while (!rig.waiting)
		rig_step(&rig);
	rig_offline(&rig, 0, 2);
	rig_run(&rig);
	rig_expect(&rig, "plug 16+8");
	assert_int_equal(rig.info.held_size, 8 * RIG_BLOCK);
	rig_online(&rig, 0, 1);
	rig_run(&rig);
	rig_expect(&rig, "add 2+1");
	rig_online(&rig, 1, 1);

	rig.disagrees = true;
	rig.plugged[30] = true;
	rig.device.plugged_size += RIG_BLOCK;
	rig_request(&rig, 32);
	rig_run(&rig);
	rig.now_ms += 1000;
	while (rig.info.plugged_size != 25 * RIG_BLOCK) {
		rig_answer(&rig);
		rig_step(&rig);
	}
	rig.disagrees = false;
	rig_offline(&rig, 0, 2);
	rig_run(&rig);
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_WAITING);
	rig_forget(&rig);
	rig_online(&rig, 0, 2);
	rig_run(&rig);
	rig_expect(&rig, "add 3+1, plug 24+6, give 24+6, plug 31+1, give 31+1");
}

/* The host has less memory than it asks for: what there is is taken, then a pause. */
static void a_host_without_memory(void **state)
{
	(void)state;
	start_with(0);
	rig_fault(&rig, RIG_PLUG, 0, 2, VMEM_RESP_NACK);
	rig_request(&rig, 16);
	rig_settle(&rig);
	rig_expect(&rig, "plug 0+16!, plug 0+8!, plug 0+4, add 0+1, plug 4+4, give 4+4, "
			 "plug 8+8, add 1+1");
	rig_fault(&rig, RIG_PLUG, 0, RIG_FOREVER, VMEM_RESP_NACK);
	rig_request(&rig, 20);
	assert_int_equal(rig_run(&rig), 1000);
	rig_expect(&rig, "plug 16+4!, plug 16+2!, plug 16+1!");
	rig.now_ms += 999;
	assert_int_equal(rig_run(&rig), 1);
	rig_expect(&rig, "");
	rig.now_ms += 1;
	assert_int_equal(rig_run(&rig), 2000);
	rig.now_ms += 2000;
	assert_int_equal(rig_run(&rig), 4000);
	rig_fault(&rig, RIG_PLUG, 0, 0, 0);
	vmem_driver_retry(rig.drv);
	rig_forget(&rig);
	rig_settle(&rig);
	rig_expect(&rig, "plug 16+4, add 2+1");
	rig_fault(&rig, RIG_PLUG, 0, 4, VMEM_RESP_BUSY);
	rig_request(&rig, 64);
	assert_int_equal(rig_run(&rig), 1000);
	rig.now_ms += 1000;
	assert_int_equal(rig_run(&rig), 2000);
	vmem_driver_retry(rig.drv);
	assert_int_equal(rig_run(&rig), 1000);
	rig_request(&rig, 63);
	assert_int_equal(rig_run(&rig), 1000);
}

static void a_refusal_because_the_size_is_another_by_now(void **state)
{
	(void)state;
	start_with(0);
	rig_request(&rig, 32);
	rig_fault(&rig, RIG_PLUG, 0, 1, VMEM_RESP_NACK);
	rig_step(&rig);
	rig.device.requested_size = 8 * RIG_BLOCK;
	rig_settle(&rig);
	rig_expect(&rig, "plug 0+32!, plug 0+8, add 0+1");
}

static void a_busy_device(void **state)
{
	(void)state;
	rig.config.retry_min_ms = 10;
	rig.config.retry_max_ms = 50;
	start_with(0);
	rig_fault(&rig, RIG_PLUG, 0, 5, VMEM_RESP_BUSY);
	rig_request(&rig, 8);
	for (unsigned int i = 0; i < 5; i++) {
		static const uint64_t pauses[] = {10, 20, 40, 50, 50};

		assert_int_equal(rig_run(&rig), pauses[i]);
		assert_int_equal(rig_status(&rig), VMEM_DRIVER_WAITING);
		assert_int_equal(rig.info.retry_ms, pauses[i]);
		rig.now_ms += pauses[i];
	}
	assert_int_equal(rig_run(&rig), 0);
	rig_expect(&rig,
		   "plug 0+8!, plug 0+8!, plug 0+8!, plug 0+8!, plug 0+8!, plug 0+8, add 0+1");
	assert_int_equal(rig_noted(&rig, VMEM_DRIVER_NOTE_STUCK), 1);
}

/* The map and the device disagree: the blocks of the request are asked about, nothing is sent twice. */
static void an_error(void **state)
{
	(void)state;
	start_with(0);
	rig.disagrees = true;
	rig.plugged[3] = rig.plugged[4] = true;
	rig.device.plugged_size = 2 * RIG_BLOCK;
	rig_request(&rig, 16);
	assert_int_equal(rig_run(&rig), 1000);
	rig_expect(&rig, "plug 0+16");
	assert_int_equal(rig_noted(&rig, VMEM_DRIVER_NOTE_REFUSED), 1);
	assert_int_equal(rig.notes[rig.nr_notes - 2].request, VMEM_REQ_PLUG);
	rig_settle(&rig);
	rig_expect(&rig, "state 0+16, state 0+8, state 0+4, state 0+2, state 2+4, state 2+2, "
			 "state 2+1, state 3+2, state 5+4, state 9+7, add 0+1, plug 0+3, give 0+3, "
			 "plug 5+3, give 5+3, plug 8+8, add 1+1");
	assert_int_equal(rig_plugged(&rig), 16);
	rig.disagrees = false;
	rig_check(&rig);
}

static void a_device_that_answers_nonsense(void **state)
{
	(void)state;
	start_with(0);
	rig_fault(&rig, RIG_PLUG, 0, 1, 77);
	rig_request(&rig, 8);
	rig_settle(&rig);
	rig_expect(&rig, "plug 0+8!, state 0+8, plug 0+8, add 0+1");
	assert_int_equal(rig.info.answers[VMEM_REQ_PLUG][VMEM_RESP_ERROR], 1);
	rig_fault(&rig, RIG_PLUG, 0, 1, VMEM_RESP_ERROR);
	rig_fault(&rig, RIG_STATE, 0, 2, VMEM_RESP_ERROR);
	rig_request(&rig, 16);
	rig_settle(&rig);
	rig_expect(&rig, "plug 8+8!, state 8+8!, state 8+8!, state 8+8, plug 8+8, add 1+1");
}

/* A size that comes while a request is under way, and one between a plug and its add. */
static void another_size_meanwhile(void **state)
{
	(void)state;
	rig.asynchronous = true;
	start_with(0);
	rig_request(&rig, 32);
	rig_step(&rig);
	assert_true(rig.waiting);
	rig_answer(&rig);
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_WORKING);
	assert_int_equal(rig.info.held_size, 32 * RIG_BLOCK);
	assert_false(vmem_driver_usable(rig.drv, RIG_ADDR, RIG_BLOCK));
	assert_true(vmem_driver_plugged(rig.drv, RIG_ADDR, RIG_BLOCK));
	rig_request(&rig, 12);
	rig_settle(&rig);
	rig_expect(&rig, "plug 0+32, unplug 12+20, add 0+2");
	rig_request(&rig, 20);
	rig_step(&rig);
	rig_offline(&rig, 1, 1);
	rig_settle(&rig);
	rig_expect(&rig, "plug 12+4, plug 16+4, add 2+1");
	rig_online(&rig, 1, 1);
	rig_check(&rig);
}

static void a_block_larger_than_a_unit(void **state)
{
	(void)state;
	rig.config.unit_bytes = RIG_BLOCK / 4;
	rig.config.chunk_bytes = RIG_BLOCK / 8;
	rig.config.run_max_bytes = 0;
	start_with(0);
	assert_int_equal(rig.info.unit_bytes, RIG_BLOCK);
	assert_int_equal(rig.info.chunk_bytes, RIG_BLOCK);
	rig_request(&rig, 2);
	rig_settle(&rig);
	rig_expect(&rig, "plug 0+1, add 0+1, plug 1+1, add 1+1");
}

static void a_block_smaller_than_a_chunk(void **state)
{
	(void)state;
	rig.device.block_size = RIG_BLOCK / 4;
	rig.config.chunk_bytes = RIG_BLOCK;
	start_with(0);
	rig.device.requested_size = 2 * RIG_BLOCK + RIG_BLOCK / 2;
	vmem_driver_config_changed(rig.drv);
	rig_settle(&rig);
	rig_expect(&rig, "plug 0+2, add 0+1");
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_THERE);
}

/* It cannot add memory: the region is one unit that is there. */
static void accounting_only(void **state)
{
	(void)state;
	rig_init(&rig, 50, 0);
	rig.ops.add = NULL;
	rig.ops.remove = NULL;
	rig.ops.used = NULL;
	start_with(0);
	rig_request(&rig, 20);
	rig_settle(&rig);
	rig_expect(&rig, "plug 0+20, give 0+20");
	rig.content[15] = RIG_PINNED;
	rig_request(&rig, 3);
	assert_int_equal(rig_run(&rig), 0);
	rig_expect(&rig, "take 3+17!, take 12+8!, take 16+4, take 12+4!, take 14+2!, take 15+1!, "
			 "unplug 16+4, take 14+1, take 13+1, take 11+2, take 7+4, take 2+5, "
			 "unplug 2+13");
	assert_int_equal(rig_plugged(&rig), 3);
	rig_request(&rig, 50);
	rig_settle(&rig);
	assert_int_equal(rig_plugged(&rig), 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(runs_from_the_lowest_address, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_there_is_filled_first, setup, teardown),
		cmocka_unit_test_setup_teardown(a_request_is_for_whole_units_if_it_must_stop, setup,
						teardown),
		cmocka_unit_test_setup_teardown(not_beyond_the_usable_region, setup, teardown),
		cmocka_unit_test_setup_teardown(not_what_cannot_be_added, setup, teardown),
		cmocka_unit_test_setup_teardown(adding_less_where_all_is_too_much, setup, teardown),
		cmocka_unit_test_setup_teardown(adding_in_part, setup, teardown),
		cmocka_unit_test_setup_teardown(a_unit_that_can_never_be_added, setup, teardown),
		cmocka_unit_test_setup_teardown(not_more_than_may_wait_offline, setup, teardown),
		cmocka_unit_test_setup_teardown(more_is_offline_meanwhile, setup, teardown),
		cmocka_unit_test_setup_teardown(a_host_without_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(a_refusal_because_the_size_is_another_by_now, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_busy_device, setup, teardown),
		cmocka_unit_test_setup_teardown(an_error, setup, teardown),
		cmocka_unit_test_setup_teardown(a_device_that_answers_nonsense, setup, teardown),
		cmocka_unit_test_setup_teardown(another_size_meanwhile, setup, teardown),
		cmocka_unit_test_setup_teardown(a_block_larger_than_a_unit, setup, teardown),
		cmocka_unit_test_setup_teardown(a_block_smaller_than_a_chunk, setup, teardown),
		cmocka_unit_test_setup_teardown(accounting_only, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
