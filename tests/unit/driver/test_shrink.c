/* SPDX-License-Identifier: BSD-3-Clause */
/* Shrinking: what is given back first, in what runs, and that nothing is given up untried. */
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

/* @map: a letter a chunk from @chunk on: "." free, "m" can be moved, "P" cannot. */
static void fill(unsigned int chunk, const char *map)
{
	for (unsigned int i = 0; map[i]; i++)
		rig.content[chunk + i] = map[i] == 'm'   ? RIG_MOVABLE
					 : map[i] == 'P' ? RIG_PINNED
							 : RIG_FREE;
}

static void unused_units_in_runs(void **state)
{
	(void)state;
	start_with(64);
	rig_request(&rig, 0);
	rig_settle(&rig);
	rig_expect(&rig, "remove 4+4, unplug 32+32, remove 0+4, unplug 0+32");
	assert_int_equal(rig.info.removes, 2);
	assert_int_equal(rig.info.unplugged_bytes, 64 * RIG_BLOCK);
}

static void unused_units_before_used_ones(void **state)
{
	(void)state;
	start_with(64);
	fill(8, "m");
	fill(40, "m");
	fill(63, "m");
	rig_request(&rig, 24);
	rig_settle(&rig);
	rig_expect(&rig,
		   "remove 6+1, unplug 48+8, remove 2+3, unplug 16+24, remove 0+1, unplug 0+8");
	assert_int_equal(rig.info.takes, 0);
}

static void movable_before_immovable(void **state)
{
	(void)state;
	for (unsigned int u = 4; u < 8; u++)
		rig.use[u] = VMEM_DRIVER_IMMOVABLE;
	start_with(64);
	rig_request(&rig, 48);
	rig_settle(&rig);
	rig_expect(&rig, "remove 2+2, unplug 16+16");
	/* What is free in immovable units goes before anything has to be moved. */
	fill(0, "mmm");
	fill(8, "mm");
	rig_request(&rig, 40);
	rig_settle(&rig);
	rig_expect(&rig, "remove 7+1, unplug 56+8");
	rig_request(&rig, 48);
	rig_settle(&rig);
	rig_online(&rig, 2, 1);
	rig_expect(&rig, "plug 16+8, add 2+1");
	rig_request(&rig, 40);
	rig_settle(&rig);
	rig_expect(&rig, "remove 2+1, unplug 16+8");
	rig_fault(&rig, RIG_ADD, 0, 1, VMEM_DRIVER_NEVER);
	rig_request(&rig, 48);
	rig_settle(&rig);
	rig_expect(&rig, "plug 16+8, add 2+1!, unplug 16+8, plug 24+8, add 3+1");
	rig_request(&rig, 40);
	rig_settle(&rig);
	rig_expect(&rig, "remove 3+1, unplug 24+8");
	rig_fault(&rig, RIG_ADD, 0, 1, VMEM_DRIVER_NEVER);
	rig_request(&rig, 48);
	rig_settle(&rig);
	rig_expect(&rig, "plug 24+8, add 3+1!, unplug 24+8, plug 56+8, add 7+1");
	fill(32, "m");
	fill(40, "m");
	fill(48, "m");
	fill(56, "m");
	rig_request(&rig, 32);
	rig_settle(&rig);
	rig_expect(&rig, "take 8+8, unplug 8+8, remove 1+1, take 0+8, unplug 0+8, remove 0+1");
	fill(32, "mmm");
	rig_request(&rig, 16);
	rig_settle(&rig);
	rig_expect(&rig, "take 56+8, unplug 56+8, remove 7+1, take 48+8, unplug 48+8, remove 6+1");
}

static void the_emptiest_first(void **state)
{
	(void)state;
	start_with(64);
	for (unsigned int u = 0; u < 8; u++)
		fill(u * 8, &"mmmmmmmm"[u % 4 * 2]);
	rig_request(&rig, 40);
	rig_settle(&rig);
	rig_expect(&rig, "take 56+8, unplug 56+8, remove 7+1, take 24+8, unplug 24+8, remove 3+1, "
			 "take 48+8, unplug 48+8, remove 6+1");
}

/* Less than a unit: from the one that is broken already, else from the emptiest. */
static void parts_from_broken_units(void **state)
{
	(void)state;
	start_with(64);
	for (unsigned int u = 0; u < 8; u++)
		fill(u * 8, u == 5 ? "m" : "mmmm");
	rig_request(&rig, 61);
	rig_settle(&rig);
	rig_expect(&rig, "take 45+3, unplug 45+3");
	rig_request(&rig, 59);
	rig_settle(&rig);
	rig_expect(&rig, "take 43+2, unplug 43+2");
	rig_request(&rig, 50);
	rig_settle(&rig);
	rig_expect(&rig, "take 40+3, unplug 40+3, remove 5+1, take 58+6, unplug 58+6");
	rig_request(&rig, 49);
	rig_settle(&rig);
	rig_expect(&rig, "take 57+1, unplug 57+1");
}

/* A whole unit where one is to be had; what is pinned stays, all around it goes. */
static void each_chunk_is_tried_before_it_is_stuck(void **state)
{
	(void)state;
	start_with(64);
	for (unsigned int u = 0; u < 8; u++)
		fill(u * 8, u == 2 ? "m" : "mmPmmmmm");
	rig_request(&rig, 0);
	assert_int_equal(rig_run(&rig), 1000);
	assert_int_equal(rig_plugged(&rig), 7);
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_WAITING);
	assert_int_equal(rig_noted(&rig, VMEM_DRIVER_NOTE_STUCK), 1);
	for (unsigned int c = 0; c < 64; c++)
		assert_int_equal(rig.has[c], c % 8 == 2 && c / 8 != 2);
	rig_forget(&rig);
	rig.now_ms += 1000;
	assert_int_equal(rig_run(&rig), 2000);
	rig_expect(&rig, "take 58+1!, take 50+1!, take 42+1!, take 34+1!, take 26+1!, take 10+1!, "
			 "take 2+1!");
	fill(2, "m");
	fill(10, ".");
	rig.now_ms += 2000;
	assert_int_not_equal(rig_run(&rig), 0);
	rig_expect(&rig, "remove 1+1, unplug 10+1, take 58+1!, take 50+1!, take 42+1!, take 34+1!, "
			 "take 26+1!, take 2+1, unplug 2+1, remove 0+1");
	for (unsigned int u = 0; u < 8; u++)
		fill(u * 8, "........");
	vmem_driver_retry(rig.drv);
	rig_settle(&rig);
	rig_expect(&rig, "remove 4+4, unplug 58+1, unplug 50+1, unplug 42+1, unplug 34+1, "
			 "remove 3+1, unplug 26+1");
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_THERE);
}

/* The exact way through a unit: halves, then more at a time; neighbours in one request. */
static void a_unit_is_broken_in_few_steps(void **state)
{
	(void)state;
	rig_init(&rig, 64, 32);
	start_with(64);
	fill(0, "PPPPPPPPPPPPPPPPPPPPPPPPPPPPPPPP");
	fill(32, "P...............P..m............");
	rig_request(&rig, 44);
	rig_run(&rig);
	rig_expect(&rig, "take 44+20!, take 54+10, take 44+10!, take 49+5, take 44+5!, take 47+2!, "
			 "take 48+1!, unplug 49+15, take 47+1, take 46+1, take 44+2, take 43+1, "
			 "unplug 43+5");
}

static uint64_t slow_used(void *os, uint64_t addr, uint64_t size)
{
	(void)os;
	(void)addr;
	(void)size;
	rig.now_ms += 500;
	return 1;
}

/* Trying everything takes long: it is not done more than half of the time. */
static void a_pause_as_long_as_the_trying(void **state)
{
	(void)state;
	rig.ops.used = slow_used;
	start_with(64);
	for (unsigned int c = 0; c < 64; c++)
		rig.content[c] = RIG_PINNED;
	rig_request(&rig, 0);
	assert_int_equal(rig_run(&rig), 4000);
	rig.now_ms += 4000;
	assert_int_equal(rig_run(&rig), 8000);
	/* Not where a device does not answer as it should. */
	rig_fault(&rig, RIG_UNPLUG, 0, 1, VMEM_RESP_BUSY);
	rig.content[0] = RIG_FREE;
	vmem_driver_retry(rig.drv);
	assert_int_equal(rig_run(&rig), 1000);
}

/* A run of unused units that cannot be removed as a run: one by one, and then chunk by chunk. */
static void a_run_that_cannot_be_removed(void **state)
{
	(void)state;
	start_with(32);
	rig_fault(&rig, RIG_REMOVE, 0, 2, VMEM_DRIVER_BUSY);
	rig_request(&rig, 0);
	rig_settle(&rig);
	rig_expect(&rig,
		   "remove 0+4!, remove 3+1!, remove 2+1, unplug 16+8, remove 1+1, unplug 8+8, "
		   "remove 0+1, unplug 0+8, take 24+8, unplug 24+8, remove 3+1");
}

static void offline_units(void **state)
{
	(void)state;
	rig.stay_offline = true;
	start_with(60);
	rig_request(&rig, 41);
	rig_settle(&rig);
	rig_expect(&rig, "remove 6+2, unplug 48+12, remove 5+1, unplug 41+7, add 5+1");
	rig_online(&rig, 0, 5);
	rig_fault(&rig, RIG_REMOVE, 0, 1, VMEM_DRIVER_BUSY);
	rig_request(&rig, 33);
	rig_settle(&rig);
	rig_expect(&rig, "remove 5+1!, remove 4+1, unplug 32+8");
	rig_request(&rig, 0);
	rig_settle(&rig);
	rig_expect(&rig, "remove 5+1, unplug 40+1, remove 0+4, unplug 0+32");
}

/* Where the system keeps its records in a unit's first chunks, those go with the unit alone. */
static void the_first_chunks_of_a_unit_go_last(void **state)
{
	(void)state;
	rig.head = 1;
	start_with(24);
	fill(1, ".m");
	fill(9, ".m");
	fill(17, "mm.m");
	rig_request(&rig, 8);
	rig_settle(&rig);
	rig_expect(&rig, "take 8+8!, take 9+7, take 8+1!, remove 1+1, unplug 8+8, take 1+7, "
			 "take 0+1!, remove 0+1, unplug 0+8");
	rig_request(&rig, 4);
	rig_settle(&rig);
	rig_expect(&rig, "take 20+4, unplug 20+4");
	rig_request(&rig, 1);
	rig_settle(&rig);
	rig_expect(&rig, "take 17+3, unplug 17+3");
	rig_request(&rig, 0);
	rig_settle(&rig);
	rig_expect(&rig, "remove 2+1, unplug 16+1");
}

/* What turned out to be plugged in units that are absent goes first, with nothing to take. */
static void what_nobody_has(void **state)
{
	(void)state;
	start_with(8);
	rig.disagrees = true;
	memset(rig.plugged + 16, true, 4);
	memset(rig.plugged + 24, true, 2);
	rig.device.plugged_size = 14 * RIG_BLOCK;
	rig_request(&rig, 40);
	rig_run(&rig);
	rig_expect(&rig, "plug 8+32");
	rig.now_ms += 1000;
	while (rig.info.plugged_size != 14 * RIG_BLOCK)
		rig_step(&rig);
	rig_request(&rig, 5);
	rig.disagrees = false;
	rig_forget(&rig);
	rig_settle(&rig);
	rig_expect(&rig, "state 26+4, state 30+8, state 38+2, unplug 24+2, unplug 16+4, take 5+3, "
			 "unplug 5+3");
}

/* Removing what is left of a unit is tried again after a pause, also where the size is reached. */
static void empty_units_are_removed_later(void **state)
{
	(void)state;
	start_with(16);
	fill(0, "m");
	fill(8, "m");
	rig_fault(&rig, RIG_REMOVE, 0, 1, VMEM_DRIVER_BUSY);
	rig_request(&rig, 8);
	assert_int_equal(rig_run(&rig), 1000);
	rig_expect(&rig, "take 8+8, unplug 8+8, remove 1+1!");
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_THERE);
	assert_int_equal(rig.info.retry_ms, 1000);
	rig.now_ms += 1000;
	assert_int_equal(rig_run(&rig), 0);
	rig_expect(&rig, "remove 1+1");
	assert_int_equal(rig_noted(&rig, VMEM_DRIVER_NOTE_REACHED), 2);
	assert_int_equal(rig_noted(&rig, VMEM_DRIVER_NOTE_STUCK), 0);
}

/* The size grows again while chunks are taken, and while the request for them waits. */
static void what_was_taken_is_given_back(void **state)
{
	(void)state;
	start_with(8);
	fill(0, "m");
	rig_fault(&rig, RIG_UNPLUG, 0, 1, VMEM_RESP_BUSY);
	rig_request(&rig, 4);
	assert_int_equal(rig_run(&rig), 1000);
	rig_expect(&rig, "take 4+4, unplug 4+4!");
	rig_request(&rig, 6);
	rig_settle(&rig);
	rig_expect(&rig, "unplug 6+2, give 4+2");
	rig_fault(&rig, RIG_UNPLUG, 0, 1, VMEM_RESP_BUSY);
	rig_request(&rig, 0);
	rig_run(&rig);
	rig_expect(&rig, "take 0+6, unplug 0+6!");
	rig_request(&rig, 16);
	rig_settle(&rig);
	rig_expect(&rig, "give 0+6, plug 6+2, give 6+2, plug 8+8, add 1+1");
}

static void a_unit_goes_offline_while_it_is_taken_from(void **state)
{
	(void)state;
	rig.asynchronous = true;
	start_with(16);
	fill(0, "mmPmmmmm");
	fill(8, "mmPmmmmm");
	rig_request(&rig, 1);
	for (unsigned int i = 0; !rig.waiting; i++) {
		assert_true(i < 1000);
		rig_step(&rig);
	}
	rig_expect(&rig, "take 8+8!, take 0+8!, take 12+4, take 8+4!, take 10+2!, take 11+1, "
			 "take 10+1!");
	rig_offline(&rig, 1, 1);
	rig_settle(&rig);
	rig_expect(&rig, "unplug 11+5, remove 1+1, unplug 8+3, take 4+4, take 1+3!, take 3+1, "
			 "take 2+1!, unplug 3+5, take 1+1, take 0+1, unplug 0+2");
}

/* No step looks at more units than it may; no unit is looked at twice for nothing. */
static void looking_is_bounded(void **state)
{
	(void)state;
	rig_init(&rig, 2000, 2);
	start_with(2000);
	for (unsigned int c = 0; c < 2000; c++)
		rig.content[c] = c % 2 ? RIG_PINNED : RIG_MOVABLE;
	rig_request(&rig, 0);
	assert_int_not_equal(rig_run(&rig), 0);
	assert_int_equal(rig_plugged(&rig), 1000);
	assert_true(rig.samples_step_max <= 32);
	assert_true(rig.samples <= 2000);
}

/* The core knows nothing of use: whole units are taken, the highest first. */
static void without_used(void **state)
{
	(void)state;
	rig.ops.used = NULL;
	start_with(32);
	rig_request(&rig, 12);
	rig_settle(&rig);
	rig_expect(&rig, "take 24+8, unplug 24+8, remove 3+1, take 16+8, unplug 16+8, remove 2+1, "
			 "take 12+4, unplug 12+4");
}

/* Somebody takes a unit offline: what could not be given back can be now. */
static void a_unit_goes_offline_in_a_pause(void **state)
{
	(void)state;
	start_with(16);
	fill(0, "PPPPPPPP");
	fill(8, "PPPPPPPP");
	rig_request(&rig, 0);
	assert_int_equal(rig_run(&rig), 1000);
	rig_forget(&rig);
	rig_offline(&rig, 1, 1);
	assert_int_not_equal(rig_run(&rig), 0);
	assert_int_equal(rig_plugged(&rig), 8);
	assert_non_null(strstr(rig.words, "remove 1+1, unplug 8+8, "));
}

/* More chunks than one request can be for. */
static void small_blocks(void **state)
{
	(void)state;
	rig.device.block_size = RIG_BLOCK / 4096;
	rig.config.chunk_bytes = RIG_BLOCK;
	rig_init(&rig, 40, 8);
	rig.device.block_size = RIG_BLOCK / 4096;
	rig.config.chunk_bytes = RIG_BLOCK;
	start_with(40);
	rig_request(&rig, 4);
	rig_settle(&rig);
	rig_expect(&rig,
		   "remove 1+4, unplug 25+15, unplug 10+15, unplug 8+2, take 4+4, unplug 4+4");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(unused_units_in_runs, setup, teardown),
		cmocka_unit_test_setup_teardown(unused_units_before_used_ones, setup, teardown),
		cmocka_unit_test_setup_teardown(movable_before_immovable, setup, teardown),
		cmocka_unit_test_setup_teardown(the_emptiest_first, setup, teardown),
		cmocka_unit_test_setup_teardown(parts_from_broken_units, setup, teardown),
		cmocka_unit_test_setup_teardown(each_chunk_is_tried_before_it_is_stuck, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_unit_is_broken_in_few_steps, setup, teardown),
		cmocka_unit_test_setup_teardown(a_pause_as_long_as_the_trying, setup, teardown),
		cmocka_unit_test_setup_teardown(a_run_that_cannot_be_removed, setup, teardown),
		cmocka_unit_test_setup_teardown(offline_units, setup, teardown),
		cmocka_unit_test_setup_teardown(the_first_chunks_of_a_unit_go_last, setup,
						teardown),
		cmocka_unit_test_setup_teardown(what_nobody_has, setup, teardown),
		cmocka_unit_test_setup_teardown(empty_units_are_removed_later, setup, teardown),
		cmocka_unit_test_setup_teardown(what_was_taken_is_given_back, setup, teardown),
		cmocka_unit_test_setup_teardown(a_unit_goes_offline_while_it_is_taken_from, setup,
						teardown),
		cmocka_unit_test_setup_teardown(looking_is_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(without_used, setup, teardown),
		cmocka_unit_test_setup_teardown(a_unit_goes_offline_in_a_pause, setup, teardown),
		cmocka_unit_test_setup_teardown(small_blocks, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
