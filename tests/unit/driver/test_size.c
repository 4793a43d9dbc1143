/* SPDX-License-Identifier: BSD-3-Clause */
/* The size policy: when memory is asked for and offered, and what follows on each answer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/unit/driver/rig.h"

static struct rig rig;

/* 16 of 64 chunks; less than 4 is too little, 8 is right, more than 12 for five seconds too much. */
static int setup(void **state)
{
	(void)state;
	rig_init(&rig, 64, 8);
	rig.config.size_policy = (struct vmem_driver_size_policy){
		.on = true,
		.low_bytes = 4 * RIG_BLOCK,
		.target_bytes = 8 * RIG_BLOCK,
		.high_bytes = 12 * RIG_BLOCK,
		.idle_ms = 5000,
	};
	rig_start(&rig);
	rig_request(&rig, 16);
	rig_settle(&rig);
	rig_forget(&rig);
	rig.now_ms = 100000;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rig_done(&rig);
	return 0;
}

/* So many chunks are available, @after_ms later. */
static bool available(uint64_t after_ms, unsigned int chunks, uint16_t urgency)
{
	rig.now_ms += after_ms;
	return vmem_driver_available(rig.drv, rig.now_ms, chunks * RIG_BLOCK, urgency,
				     VMEM_SIZE_REASON_PRESSURE);
}

static void enough(void **state)
{
	(void)state;
	assert_false(available(0, 4, VMEM_SIZE_URGENCY_CRITICAL));
	assert_false(available(10000, 12, VMEM_SIZE_URGENCY_CRITICAL));
	assert_int_equal(rig_run(&rig), 0);
	rig_expect(&rig, "");
}

static void asking(void **state)
{
	(void)state;
	assert_true(available(0, 3, VMEM_SIZE_URGENCY_NORMAL));
	assert_int_equal(rig_run(&rig), 0);
	rig_expect(&rig, "size 21, plug 16+5, add 2+1");
	assert_int_equal(rig.last_size_req.type, VMEM_SIZE_REQ_WANT);
	assert_int_equal(rig.last_size_req.urgency, VMEM_SIZE_URGENCY_NORMAL);
	assert_int_equal(rig.last_size_req.reason, VMEM_SIZE_REASON_PRESSURE);
	assert_int_equal(rig.last_size_req.min_size, 0);
	assert_int_equal(rig_noted(&rig, VMEM_DRIVER_NOTE_SIZE_ASKED), 1);
	assert_int_equal(rig.info.size_answers[VMEM_SIZE_RESP_GRANTED], 1);
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_THERE);
}

/* What requested_size promises is not asked for again. */
static void what_is_on_its_way_counts(void **state)
{
	(void)state;
	rig_fault(&rig, RIG_PLUG, 0, RIG_FOREVER, VMEM_RESP_BUSY);
	assert_true(available(0, 3, VMEM_SIZE_URGENCY_NORMAL));
	rig_run(&rig);
	assert_false(available(2000, 3, VMEM_SIZE_URGENCY_CRITICAL));
	assert_true(available(2000, 2, VMEM_SIZE_URGENCY_CRITICAL));
	rig_run(&rig);
	assert_int_equal(rig.device.requested_size, 22 * RIG_BLOCK);
}

/* As much as the rate allows for now: the rest is asked for when the device said. */
static void more_later(void **state)
{
	(void)state;
	rig.size_resp.type = VMEM_SIZE_RESP_PARTLY;
	rig.size_resp.cause = VMEM_SIZE_CAUSE_RATE;
	rig.size_resp.retry_ms = 3000;
	assert_true(available(0, 3, VMEM_SIZE_URGENCY_NORMAL));
	rig_run(&rig);
	assert_false(available(2999, 3, VMEM_SIZE_URGENCY_CRITICAL));
	assert_true(available(1, 3, VMEM_SIZE_URGENCY_NORMAL));
	rig.size_resp.type = VMEM_SIZE_RESP_GRANTED;
	rig_run(&rig);
	assert_true(available(1000, 3, VMEM_SIZE_URGENCY_NORMAL));
}

static void not_too_often(void **state)
{
	(void)state;
	rig.size_resp.type = VMEM_SIZE_RESP_PARTLY;
	assert_true(available(0, 3, VMEM_SIZE_URGENCY_NORMAL));
	rig_run(&rig);
	assert_false(available(999, 2, VMEM_SIZE_URGENCY_NORMAL));
	assert_true(available(0, 2, VMEM_SIZE_URGENCY_HIGH));
	rig_run(&rig);
	assert_false(available(500, 2, VMEM_SIZE_URGENCY_HIGH));
	assert_true(available(500, 2, VMEM_SIZE_URGENCY_LOW));
	rig_run(&rig);
	rig_expect(&rig, "size 21, size 22, size 22");
}

static void answers_that_say_no(void **state)
{
	struct vmem_driver_size_policy policy = rig.config.size_policy;

	(void)state;
	rig.size_resp.type = VMEM_SIZE_RESP_LATER;
	rig.size_resp.retry_ms = 4000;
	assert_true(available(0, 3, VMEM_SIZE_URGENCY_NORMAL));
	rig_run(&rig);
	assert_false(available(3999, 1, VMEM_SIZE_URGENCY_CRITICAL));
	rig.size_resp.type = VMEM_SIZE_RESP_REFUSED;
	rig.size_resp.retry_ms = 0;
	assert_true(available(1, 3, VMEM_SIZE_URGENCY_NORMAL));
	rig_run(&rig);
	rig_expect(&rig, "size 21, size 21");
	/* As much is not asked for again for a while, less is. */
	assert_false(available(2000, 3, VMEM_SIZE_URGENCY_CRITICAL));
	assert_false(available(2000, 1, VMEM_SIZE_URGENCY_CRITICAL));
	policy.target_bytes = 7 * RIG_BLOCK;
	assert_int_equal(vmem_driver_set_size_policy(rig.drv, &policy), VMEM_DRIVER_OK);
	assert_true(available(2000, 3, VMEM_SIZE_URGENCY_CRITICAL));
	assert_int_equal(vmem_driver_set_size_policy(rig.drv, &rig.config.size_policy),
			 VMEM_DRIVER_OK);
	rig.size_resp.type = VMEM_SIZE_RESP_ERROR;
	assert_true(available(300000, 3, VMEM_SIZE_URGENCY_NORMAL));
	rig_run(&rig);
	assert_false(available(2000, 3, VMEM_SIZE_URGENCY_CRITICAL));
	assert_int_equal(rig.info.size_answers[VMEM_SIZE_RESP_LATER], 1);
	assert_int_equal(rig.info.size_answers[VMEM_SIZE_RESP_REFUSED], 1);
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_THERE);
}

/* A device that says "later" for days, or what is no answer, is asked again in a while. */
static void answers_that_are_not_trusted(void **state)
{
	(void)state;
	rig.size_resp.type = VMEM_SIZE_RESP_LATER;
	rig.size_resp.retry_ms = UINT32_MAX;
	assert_true(available(0, 3, VMEM_SIZE_URGENCY_NORMAL));
	rig_run(&rig);
	assert_true(available(300000, 3, VMEM_SIZE_URGENCY_NORMAL));
	rig.size_resp.type = 4711;
	rig_run(&rig);
	assert_int_equal(rig.info.size_answers[VMEM_SIZE_RESP_ERROR], 1);
	assert_true(available(300000, 3, VMEM_SIZE_URGENCY_NORMAL));
	rig_fault(&rig, RIG_SIZE, 0, 1, VMEM_DRIVER_GONE);
	rig_run(&rig);
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_ENDED);
	assert_false(available(300000, 3, VMEM_SIZE_URGENCY_NORMAL));
}

static void offering(void **state)
{
	(void)state;
	assert_false(available(0, 13, VMEM_SIZE_URGENCY_NORMAL));
	assert_false(available(4999, 13, VMEM_SIZE_URGENCY_NORMAL));
	assert_false(available(0, 12, VMEM_SIZE_URGENCY_NORMAL));
	assert_false(available(1, 13, VMEM_SIZE_URGENCY_NORMAL));
	assert_false(available(4999, 13, VMEM_SIZE_URGENCY_NORMAL));
	assert_true(available(1, 14, VMEM_SIZE_URGENCY_NORMAL));
	assert_int_equal(rig_run(&rig), 0);
	rig_expect(&rig, "size 10, take 10+6, unplug 10+6");
	assert_int_equal(rig.last_size_req.urgency, VMEM_SIZE_URGENCY_LOW);
	assert_int_equal(rig.last_size_req.reason, VMEM_SIZE_REASON_IDLE);
	assert_false(available(2000, 100, VMEM_SIZE_URGENCY_NORMAL));
	assert_true(available(5000, 100, VMEM_SIZE_URGENCY_NORMAL));
	assert_int_equal(rig_run(&rig), 0);
	assert_int_equal(rig_plugged(&rig), 0);
}

static void offers_that_are_refused(void **state)
{
	(void)state;
	rig.size_resp.type = VMEM_SIZE_RESP_REFUSED;
	rig.size_resp.cause = VMEM_SIZE_CAUSE_FLOOR;
	available(0, 14, 0);
	assert_true(available(5000, 14, 0));
	rig_run(&rig);
	assert_false(available(6000, 14, 0));
	assert_false(available(6000, 15, 0));
	/* Asking is another matter. */
	assert_true(available(1000, 3, VMEM_SIZE_URGENCY_NORMAL));
	rig_run(&rig);
	rig_expect(&rig, "size 10, size 21");
	assert_false(available(6000, 14, 0));
	assert_true(available(300000, 14, 0));
}

static void limits(void **state)
{
	struct vmem_driver_size_policy policy = rig.config.size_policy;

	(void)state;
	policy.max_bytes = 18 * RIG_BLOCK + 5;
	policy.interval_ms = 1;
	assert_int_equal(vmem_driver_set_size_policy(rig.drv, &policy), VMEM_DRIVER_OK);
	assert_true(available(0, 0, VMEM_SIZE_URGENCY_NORMAL));
	rig_run(&rig);
	assert_false(available(2, 0, VMEM_SIZE_URGENCY_NORMAL));
	policy.max_bytes = 0;
	policy.target_bytes = policy.high_bytes = UINT64_MAX;
	assert_int_equal(vmem_driver_set_size_policy(rig.drv, &policy), VMEM_DRIVER_OK);
	assert_true(available(2, 0, VMEM_SIZE_URGENCY_NORMAL));
	rig_run(&rig);
	rig_expect(&rig, "size 18, plug 16+2, add 2+1, size 64, plug 18+6, give 18+6, plug 24+32, "
			 "add 3+4, plug 56+8, add 7+1");
	policy.low_bytes = UINT64_MAX;
	policy.high_bytes = UINT64_MAX - 1;
	assert_int_equal(vmem_driver_set_size_policy(rig.drv, &policy), VMEM_DRIVER_INVALID);
	policy.on = false;
	assert_int_equal(vmem_driver_set_size_policy(rig.drv, &policy), VMEM_DRIVER_OK);
	assert_false(available(2, 0, VMEM_SIZE_URGENCY_NORMAL));
}

/* Both queues at once; the size asked for comes while memory is on its way already. */
static void pending(void **state)
{
	(void)state;
	rig.asynchronous = true;
	rig_request(&rig, 18);
	while (!rig.waiting)
		rig_step(&rig);
	assert_true(available(0, 3, VMEM_SIZE_URGENCY_NORMAL));
	rig_step(&rig);
	assert_true(rig.size_waiting);
	assert_false(available(5000, 0, VMEM_SIZE_URGENCY_CRITICAL));
	rig_settle(&rig);
	rig_expect(&rig, "plug 16+2, size 21, add 2+1, plug 18+3, give 18+3");
	/* The device is gone meanwhile, and comes back: that request is forgotten. */
	assert_true(available(5000, 0, VMEM_SIZE_URGENCY_NORMAL));
	rig_step(&rig);
	vmem_driver_size_answered(rig.drv, NULL);
	rig.size_waiting = false;
	assert_int_equal(rig_status(&rig), VMEM_DRIVER_ENDED);
	vmem_driver_restarted(rig.drv);
	rig_settle(&rig);
	assert_true(available(5000, 0, VMEM_SIZE_URGENCY_NORMAL));
	vmem_driver_size_answered(rig.drv, NULL);
	rig_settle(&rig);
	rig_expect(&rig, "size 29, plug 21+3, give 21+3, plug 24+5, add 3+1");
}

/* Nothing is asked before the start, at the end, or of a device that has no such queue. */
static void nobody_to_ask(void **state)
{
	(void)state;
	vmem_driver_leave(rig.drv);
	assert_false(available(0, 0, VMEM_SIZE_URGENCY_CRITICAL));
	rig_settle(&rig);
	assert_false(available(0, 0, VMEM_SIZE_URGENCY_CRITICAL));
	rig_start(&rig);
	assert_false(available(0, 0, VMEM_SIZE_URGENCY_CRITICAL));
	rig.ops.submit_size = NULL;
	memset(rig.unit, 0, sizeof(rig.unit));
	memset(rig.has, 0, sizeof(rig.has));
	rig_start(&rig);
	rig_settle(&rig);
	assert_false(available(0, 0, VMEM_SIZE_URGENCY_CRITICAL));
}

/* What was to be asked for has become what is asked for already, or less. */
static void another_size_before_it_was_sent(void **state)
{
	(void)state;
	assert_true(available(0, 3, VMEM_SIZE_URGENCY_NORMAL));
	rig_request(&rig, 21);
	rig_settle(&rig);
	rig_expect(&rig, "plug 16+5, add 2+1");
	assert_true(available(2000, 3, VMEM_SIZE_URGENCY_NORMAL));
	rig_request(&rig, 40);
	rig_settle(&rig);
	rig_expect(&rig, "plug 21+3, give 21+3, plug 24+16, add 3+2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(enough, setup, teardown),
		cmocka_unit_test_setup_teardown(asking, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_on_its_way_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(more_later, setup, teardown),
		cmocka_unit_test_setup_teardown(not_too_often, setup, teardown),
		cmocka_unit_test_setup_teardown(answers_that_say_no, setup, teardown),
		cmocka_unit_test_setup_teardown(answers_that_are_not_trusted, setup, teardown),
		cmocka_unit_test_setup_teardown(offering, setup, teardown),
		cmocka_unit_test_setup_teardown(offers_that_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(limits, setup, teardown),
		cmocka_unit_test_setup_teardown(pending, setup, teardown),
		cmocka_unit_test_setup_teardown(nobody_to_ask, setup, teardown),
		cmocka_unit_test_setup_teardown(another_size_before_it_was_sent, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
