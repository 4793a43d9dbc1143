/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Each op fails at each of its calls in each way, once and several times in a row, with answers at once
 * and PENDING: what the device asks for is reached all the same, and all invariants hold at every step.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/unit/driver/rig.h"

static struct rig rig;
static bool lost_but_done;

struct way {
	enum rig_op op;
	int result;
};

static const struct way ways[] = {
	{RIG_PLUG, VMEM_RESP_NACK},       {RIG_PLUG, VMEM_RESP_BUSY},
	{RIG_PLUG, VMEM_RESP_ERROR},      {RIG_PLUG, 4711},
	{RIG_UNPLUG, VMEM_RESP_NACK},     {RIG_UNPLUG, VMEM_RESP_BUSY},
	{RIG_UNPLUG, VMEM_RESP_ERROR},    {RIG_UNPLUG_ALL, VMEM_RESP_NACK},
	{RIG_UNPLUG_ALL, VMEM_RESP_BUSY}, {RIG_UNPLUG_ALL, VMEM_RESP_ERROR},
	{RIG_STATE, VMEM_RESP_NACK},      {RIG_STATE, VMEM_RESP_BUSY},
	{RIG_STATE, VMEM_RESP_ERROR},     {RIG_ADD, VMEM_DRIVER_BUSY},
	{RIG_ADD, VMEM_DRIVER_NOMEM},     {RIG_ADD, VMEM_DRIVER_NEVER},
	{RIG_REMOVE, VMEM_DRIVER_BUSY},   {RIG_REMOVE, VMEM_DRIVER_NOMEM},
	{RIG_REMOVE, VMEM_DRIVER_NEVER},  {RIG_TAKE, VMEM_DRIVER_BUSY},
	{RIG_TAKE, VMEM_DRIVER_NOMEM},    {RIG_TAKE, VMEM_DRIVER_NEVER},
};

/* The device is gone within a request, comes back, and may have done it or not. */
static const struct way losses[] = {
	{RIG_PLUG, VMEM_DRIVER_GONE},
	{RIG_UNPLUG, VMEM_DRIVER_GONE},
	{RIG_UNPLUG_ALL, VMEM_DRIVER_GONE},
	{RIG_STATE, VMEM_DRIVER_GONE},
};

/* More pauses than any row of faults is long. */
#define PAUSES_MAX 40

static void settle_with_losses(void)
{
	for (unsigned int i = 0; i < PAUSES_MAX; i++) {
		uint64_t pause = rig_run(&rig);

		rig.now_ms += pause;
		if (rig_status(&rig) == VMEM_DRIVER_ENDED)
			vmem_driver_restarted(rig.drv);
		else if (!pause)
			break;
	}
}

static void go(unsigned int chunks)
{
	rig_request(&rig, chunks);
	settle_with_losses();
	/* What could never be added may be by now. */
	for (unsigned int i = 0; i < 4 && rig_plugged(&rig) != chunks; i++) {
		vmem_driver_retry(rig.drv);
		settle_with_losses();
	}
	rig_check(&rig);
	assert_int_equal(rig_plugged(&rig), chunks);
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_THERE);
	assert_int_equal(rig.info.held_size, 0);
}

/* Grow, use memory, shrink by whole units, chunks and in part, with a fault on the way. */
static bool scenario(const struct way *way, unsigned int after, unsigned int times, bool resume,
		     bool asynchronous, bool offline)
{
	bool reached;

	rig_init(&rig, 64, 8);
	rig.asynchronous = asynchronous;
	rig.stay_offline = offline;
	rig.config.resume = resume;
	rig.lost_but_done = lost_but_done;
	for (unsigned int i = 4; i < 9; i++)
		rig.plugged[i] = true;
	rig.device.plugged_size = 5 * RIG_BLOCK;
	rig_fault(&rig, way->op, after, times, way->result);
	rig_start(&rig);
	go(20);
	go(45);
	for (unsigned int c = 0; c < 45; c += 7)
		rig.content[c] = RIG_MOVABLE;
	go(21);
	go(18);
	go(40);
	if (offline)
		for (unsigned int u = 0; u < 8; u++)
			if (rig.unit[u] == RIG_OFFLINE)
				rig_online(&rig, u, 1);
	go(17);
	go(0);
	for (unsigned int u = 0; u < 8; u++)
		assert_int_equal(rig.unit[u], RIG_ABSENT);
	reached = !rig.fault[way->op].times;
	rig_done(&rig);
	return reached;
}

static void sweep(const struct way *way, unsigned int times)
{
	for (unsigned int kind = 0; kind < 8; kind++) {
		unsigned int after = 0;

		while (scenario(way, after, times, kind & 1, kind & 2, kind & 4))
			after++;
	}
}

static void each_call_fails_once(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		sweep(&ways[i], 1);
}

static void each_call_fails_several_times(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		for (unsigned int times = 2; times < 12; times += 3)
			sweep(&ways[i], times);
}

static void the_device_is_lost_at_each_request(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < sizeof(losses) / sizeof(losses[0]); i++) {
		sweep(&losses[i], 1);
		lost_but_done = true;
		sweep(&losses[i], 1);
		lost_but_done = false;
		sweep(&losses[i], 3);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_call_fails_once),
		cmocka_unit_test(each_call_fails_several_times),
		cmocka_unit_test(the_device_is_lost_at_each_request),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
