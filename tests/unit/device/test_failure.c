/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A failure at every host call in turn, and at every pair of calls so that undoing fails as well.
 * After each the model checks the invariants of <vmem/device.h>; here it is checked that nothing
 * changed, or that what the failure left behind stays out of use and is cured later (I5).
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "base/num.h"
#include "tests/unit/device/model.h"

#define BS        (2 * MIB)
#define BLOCKS    96
#define CALLS_MAX 16 /* more than any step here makes */

enum action { PLUG, UNPLUG, UNPLUG_ALL, RESET, ACTIONS };

static const int errnos[] = {ENOMEM, ENOSPC, EDQUOT, EIO, EBUSY, EFAULT};

static void must(const struct model *m, bool ok)
{
	if (!ok)
		fail_msg("%s", m->error);
}

static uint16_t ask(struct model *m, uint16_t type, uint64_t first, uint16_t count)
{
	uint16_t answer;

	must(m, model_do(m, type, first, count, &answer));
	return answer;
}

static struct vmem_device_info info_of(const struct model *m)
{
	struct vmem_device_info info;

	vmem_device_info(m->dev, &info);
	return info;
}

/* Three plugged runs with data: 4-7, 20-35, 70-71; 58 more may be plugged. */
static void prepare(struct model *m, bool prealloc)
{
	const struct vmem_device_config config = {
		.addr = UINT64_C(0x140000000),
		.region_size = BLOCKS * BS,
		.block_size = BS,
		.requested_size = 80 * BS,
		.usable_extra_bytes = BLOCKS * BS,
		.prealloc = prealloc,
	};

	must(m, model_init(m, &config));
	assert_int_equal(ask(m, VMEM_REQ_PLUG, 4, 4), VMEM_RESP_ACK);
	assert_int_equal(ask(m, VMEM_REQ_PLUG, 20, 16), VMEM_RESP_ACK);
	assert_int_equal(ask(m, VMEM_REQ_PLUG, 70, 2), VMEM_RESP_ACK);
	for (uint32_t b = 0; b < BLOCKS; b++)
		model_guest_write(m, b, 100 + b);
}

/* The action's answer; for a reset, ACK or BUSY by its result. */
static uint16_t act(struct model *m, enum action action)
{
	int rc;

	switch (action) {
	case PLUG:
		return ask(m, VMEM_REQ_PLUG, 40, 10);
	case UNPLUG:
		return ask(m, VMEM_REQ_UNPLUG, 22, 8);
	case UNPLUG_ALL:
		return ask(m, VMEM_REQ_UNPLUG_ALL, 0, 0);
	default:
		must(m, model_reset(m, &rc));
		return rc ? VMEM_RESP_BUSY : VMEM_RESP_ACK;
	}
}

static void arm(struct model *m, uint64_t calls, int code, enum model_partial partial)
{
	m->fail_calls = calls;
	m->fail_errno = code;
	m->partial = partial;
}

/* Everything can be given back in the end, and then nothing is left in the host. */
static void check_cured(struct model *m)
{
	assert_int_equal(ask(m, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_ACK);
	for (uint64_t b = 0; b < BLOCKS; b++) {
		assert_false(m->host[b].granted);
		assert_int_equal(m->host[b].content, MODEL_NONE);
	}
	assert_int_equal(info_of(m).faulted_size, 0);
	assert_int_equal(info_of(m).stray_size, 0);
	assert_int_equal(ask(m, VMEM_REQ_PLUG, 0, 80), VMEM_RESP_ACK);
}

static unsigned int calls_of(enum action action, bool prealloc)
{
	struct model m;

	prepare(&m, prealloc);
	assert_int_equal(act(&m, action), VMEM_RESP_ACK);
	model_done(&m);
	return m.calls;
}

static uint16_t answer_to(enum action action, int code)
{
	if (action == RESET)
		return VMEM_RESP_ACK; /* the second way, run by run, works */
	if (action == PLUG && (code == ENOMEM || code == ENOSPC || code == EDQUOT))
		return VMEM_RESP_NACK;
	return VMEM_RESP_BUSY;
}

static void fail_one(enum action action, bool prealloc, unsigned int call, int code,
		     enum model_partial partial)
{
	struct model m, before;

	prepare(&m, prealloc);
	before = m;
	arm(&m, UINT64_C(1) << call, code, partial);
	assert_int_equal(act(&m, action), answer_to(action, code));
	assert_int_equal(m.failed, 1);
	assert_int_equal(info_of(&m).host_failures, 1);
	assert_int_equal(info_of(&m).host_faults, 0);
	for (uint64_t b = 0; action != RESET && b < BLOCKS; b++) {
		assert_int_equal(m.plugged[b], before.plugged[b]);
		assert_int_equal(m.host[b].granted, before.host[b].granted);
		if (!m.discarded[b])
			assert_int_equal(m.host[b].content, before.host[b].content);
	}
	assert_int_equal(act(&m, action), VMEM_RESP_ACK);
	check_cured(&m);
	model_done(&m);
}

static void every_single_failure_is_undone(void **state)
{
	unsigned int tried = 0;

	(void)state;
	for (int action = 0; action < ACTIONS; action++)
		for (int prealloc = 0; prealloc < 2; prealloc++) {
			unsigned int calls = calls_of((enum action)action, prealloc);

			assert_int_equal(calls, action != PLUG ? 2 : 1 + prealloc);
			for (unsigned int call = 0; call < calls; call++)
				for (unsigned int e = 0; e < ARRAY_SIZE(errnos); e++)
					for (int p = 0; p < MODEL_PARTIALS; p++, tried++)
						fail_one((enum action)action, prealloc, call,
							 errnos[e], (enum model_partial)p);
		}
	assert_int_equal(tried, 15 * 6 * 3);
}

/* Returns whether both armed calls were reached. */
static bool fail_two(enum action action, bool prealloc, unsigned int first, unsigned int second,
		     enum model_partial partial)
{
	struct vmem_device_info info;
	struct model m;
	bool reached;

	prepare(&m, prealloc);
	arm(&m, UINT64_C(1) << first | UINT64_C(1) << second, EIO, partial);
	act(&m, action);
	reached = m.failed == 2;
	info = info_of(&m);
	if (!reached) {
		model_done(&m);
		return false;
	}
	if (action != RESET) {
		/* The second failure hit the undoing: it is counted, and something is left. */
		assert_int_equal(info.host_failures, 0);
		assert_int_equal(info.host_faults, 1);
		assert_int_equal(info.stray_size, action == PLUG ? 10 * BS : 0);
		assert_int_equal(info.faulted_size != 0, action != PLUG);
	}
	assert_int_equal(act(&m, action), VMEM_RESP_ACK);
	assert_int_equal(info_of(&m).stray_size, 0);
	check_cured(&m);
	model_done(&m);
	return true;
}

static void every_failed_undo_is_kept_apart_and_cured(void **state)
{
	(void)state;
	for (int action = 0; action < ACTIONS; action++) {
		unsigned int reached = 0;

		for (unsigned int a = 0; a < CALLS_MAX; a++)
			for (unsigned int b = a + 1; b < CALLS_MAX; b++)
				for (int p = 0; p < MODEL_PARTIALS; p++) {
					reached += fail_two((enum action)action, false, a, b,
							    (enum model_partial)p);
					reached += fail_two((enum action)action, true, a, b,
							    (enum model_partial)p);
				}
		assert_true(reached >= 12);
	}
}

/* Every set of failing calls among the first eight, three times in a row, then cured. */
static void every_set_of_failures_is_cured(void **state)
{
	(void)state;
	for (int action = 0; action < ACTIONS; action++)
		for (uint64_t set = 0; set < 256; set++)
			for (int p = 0; p < MODEL_PARTIALS; p++) {
				struct model m;

				prepare(&m, true);
				for (int i = 0; i < 3; i++) {
					arm(&m, set, ENOMEM, (enum model_partial)p);
					act(&m, (enum action)action);
				}
				check_cured(&m);
				model_done(&m);
			}
}

/* What of the host's errors are an answer about memory, and what only "not now". */
static void errors_of_the_host_choose_the_answer(void **state)
{
	static const struct {
		int code;
		uint16_t answer;
	} table[] = {
		{ENOMEM, VMEM_RESP_NACK}, {ENOSPC, VMEM_RESP_NACK}, {EDQUOT, VMEM_RESP_NACK},
		{EIO, VMEM_RESP_BUSY},    {EAGAIN, VMEM_RESP_BUSY}, {EPERM, VMEM_RESP_BUSY},
	};
	struct model m;

	(void)state;
	prepare(&m, true);
	for (unsigned int i = 0; i < ARRAY_SIZE(table); i++)
		for (unsigned int call = 0; call < 2; call++) {
			arm(&m, UINT64_C(1) << call, table[i].code, MODEL_NOTHING);
			assert_int_equal(ask(&m, VMEM_REQ_PLUG, 40, 1), table[i].answer);
		}
	/* Out of memory while unplugging is no reason to refuse for good. */
	arm(&m, 1, ENOMEM, MODEL_NOTHING);
	assert_int_equal(ask(&m, VMEM_REQ_UNPLUG, 20, 1), VMEM_RESP_BUSY);
	model_done(&m);
}

/* Leaves blocks 40 to 49 stray: granted, and written by the guest. */
static void make_stray(struct model *m)
{
	prepare(m, true);
	arm(m, 1u << 1 | 1u << 2, ENOMEM, MODEL_NOTHING); /* populate, then revoke */
	assert_int_equal(act(m, PLUG), VMEM_RESP_NACK);
	assert_int_equal(info_of(m).stray_size, 10 * BS);
	model_guest_write(m, 45, 4711);
	assert_int_equal(m->host[45].content, 4711);
}

static void stray_is_not_plugged_and_bars_plug(void **state)
{
	struct model m;

	(void)state;
	make_stray(&m);
	assert_false(vmem_device_plugged(m.dev, m.config.addr + 45 * BS, 1));
	/* Elsewhere and at the same place: no more memory while the host cannot take this back. */
	arm(&m, 1, EIO, MODEL_NOTHING);
	assert_int_equal(ask(&m, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_BUSY);
	assert_int_equal(m.calls, 1);
	arm(&m, 1, ENOMEM, MODEL_NOTHING);
	assert_int_equal(ask(&m, VMEM_REQ_PLUG, 40, 10), VMEM_RESP_BUSY);
	arm(&m, 1, EIO, MODEL_NOTHING);
	assert_int_equal(ask(&m, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_BUSY);
	/* Wrong and refused requests cost the host nothing. */
	assert_int_equal(ask(&m, VMEM_REQ_PLUG, 4, 1), VMEM_RESP_ERROR);
	assert_int_equal(ask(&m, VMEM_REQ_PLUG, 0, 96), VMEM_RESP_ERROR);
	assert_int_equal(m.calls, 0);
	/* The host is able again: what the guest wrote is gone (the model checks it). */
	assert_int_equal(ask(&m, VMEM_REQ_PLUG, 40, 10), VMEM_RESP_ACK);
	assert_int_equal(info_of(&m).stray_size, 0);
	check_cured(&m);
	model_done(&m);
}

static void stray_does_not_bar_unplug(void **state)
{
	struct model m;

	(void)state;
	make_stray(&m);
	arm(&m, 1, EIO, MODEL_NOTHING);
	assert_int_equal(ask(&m, VMEM_REQ_UNPLUG, 20, 4), VMEM_RESP_ACK);
	assert_int_equal(info_of(&m).stray_size, 10 * BS);
	assert_int_equal(ask(&m, VMEM_REQ_UNPLUG, 24, 4), VMEM_RESP_ACK);
	assert_int_equal(info_of(&m).stray_size, 0);
	check_cured(&m);
	model_done(&m);
}

static void stray_is_taken_back_by_resize_and_reset(void **state)
{
	struct model m;
	int rc;

	(void)state;
	make_stray(&m);
	must(&m, model_resize(&m, 80 * BS));
	assert_int_equal(info_of(&m).stray_size, 0);
	model_done(&m);

	make_stray(&m);
	arm(&m, 1, EIO, MODEL_NOTHING);
	must(&m, model_reset(&m, &rc));
	assert_int_equal(rc, -EIO);
	assert_int_equal(info_of(&m).plugged_size, 0);
	must(&m, model_reset(&m, &rc));
	assert_int_equal(rc, 0);
	check_cured(&m);
	model_done(&m);
}

/* Leaves blocks 22 to 29 faulted: plugged and revoked. */
static void make_faulted(struct model *m)
{
	prepare(m, false);
	arm(m, 1u << 1 | 1u << 2, EIO, MODEL_NOTHING); /* discard, then grant */
	assert_int_equal(act(m, UNPLUG), VMEM_RESP_BUSY);
	assert_int_equal(info_of(m).faulted_size, 8 * BS);
	assert_false(m->host[22].granted);
}

static void faulted_counts_as_plugged_but_is_not_usable(void **state)
{
	struct model m;
	uint64_t gpa;

	(void)state;
	make_faulted(&m);
	gpa = m.config.addr;
	assert_int_equal(info_of(&m).plugged_size, 22 * BS);
	assert_true(vmem_device_plugged(m.dev, gpa + 20 * BS, 2 * BS));
	assert_false(vmem_device_plugged(m.dev, gpa + 20 * BS, 2 * BS + 1));
	assert_false(vmem_device_plugged(m.dev, gpa + 29 * BS, BS));
	assert_true(vmem_device_plugged(m.dev, gpa + 30 * BS, 6 * BS));
	assert_int_equal(ask(&m, VMEM_REQ_PLUG, 22, 8), VMEM_RESP_ERROR);
	model_done(&m);
}

static void faulted_ends_with_a_later_unplug(void **state)
{
	struct model m;

	(void)state;
	make_faulted(&m);
	/* A run that is faulted in part only. */
	assert_int_equal(ask(&m, VMEM_REQ_UNPLUG, 20, 4), VMEM_RESP_ACK);
	assert_int_equal(info_of(&m).faulted_size, 6 * BS);
	assert_int_equal(ask(&m, VMEM_REQ_UNPLUG, 24, 12), VMEM_RESP_ACK);
	assert_int_equal(info_of(&m).faulted_size, 0);
	assert_int_equal(ask(&m, VMEM_REQ_PLUG, 20, 16), VMEM_RESP_ACK);
	assert_true(vmem_device_plugged(m.dev, m.config.addr + 20 * BS, 16 * BS));
	check_cured(&m);
	model_done(&m);
}

/* A later unplug that fails, but is undone, gives the guest all of its run. */
static void faulted_ends_with_a_later_undo(void **state)
{
	struct model m;

	(void)state;
	make_faulted(&m);
	arm(&m, 1u << 1, EIO, MODEL_NOTHING);
	assert_int_equal(ask(&m, VMEM_REQ_UNPLUG, 20, 16), VMEM_RESP_BUSY);
	assert_int_equal(info_of(&m).faulted_size, 0);
	assert_true(vmem_device_plugged(m.dev, m.config.addr + 20 * BS, 16 * BS));
	check_cured(&m);
	model_done(&m);
}

/* UNPLUG ALL that fails: runs that cannot be granted again are faulted, the others work. */
static void unplug_all_faults_only_what_it_cannot_restore(void **state)
{
	struct model m;

	(void)state;
	prepare(&m, false);
	arm(&m, 1u << 1 | 1u << 3, EIO, MODEL_NOTHING); /* discard; the second of three grants */
	assert_int_equal(act(&m, UNPLUG_ALL), VMEM_RESP_BUSY);
	assert_int_equal(info_of(&m).faulted_size, 16 * BS);
	assert_int_equal(info_of(&m).plugged_size, 22 * BS);
	assert_true(vmem_device_plugged(m.dev, m.config.addr + 4 * BS, 4 * BS));
	assert_false(vmem_device_plugged(m.dev, m.config.addr + 20 * BS, 1));
	assert_true(vmem_device_plugged(m.dev, m.config.addr + 70 * BS, 2 * BS));
	assert_int_equal(info_of(&m).usable_region_size, BLOCKS * BS);
	check_cured(&m);
	model_done(&m);
}

/* A reset unplugs what it can: the run that the host keeps holding stays plugged and usable. */
static void reset_keeps_only_what_the_host_keeps(void **state)
{
	struct model m;
	int rc;

	(void)state;
	prepare(&m, false);
	must(&m, model_resize(&m, 0));
	/* All at once; run 4-7 works (2 calls); run 20-35 fails; its grant and run 70-71 work. */
	arm(&m, 1u << 0 | 1u << 3, EBUSY, MODEL_NOTHING);
	must(&m, model_reset(&m, &rc));
	assert_int_equal(rc, -EBUSY);
	assert_int_equal(info_of(&m).plugged_size, 16 * BS);
	assert_int_equal(info_of(&m).usable_region_size, 36 * BS);
	assert_true(vmem_device_plugged(m.dev, m.config.addr + 20 * BS, 16 * BS));
	assert_int_equal(m.config_changes, 1);
	must(&m, model_reset(&m, &rc));
	assert_int_equal(rc, 0);
	assert_int_equal(info_of(&m).usable_region_size, 0);
	model_done(&m);
}

/* Of several errors a reset returns the first that kept a run plugged. */
static void reset_returns_the_first_error(void **state)
{
	struct model m;
	int rc;

	(void)state;
	prepare(&m, false);
	/* All at once; the revoke of run 4-7; that of run 20-35, after the grant of the first. */
	arm(&m, 1u << 0 | 1u << 1 | 1u << 3, EIO, MODEL_NOTHING);
	m.fail_errnos = (const int[]){EAGAIN, EIO, EBUSY};
	must(&m, model_reset(&m, &rc));
	assert_int_equal(rc, -EIO);
	assert_int_equal(info_of(&m).plugged_size, 20 * BS);
	assert_int_equal(info_of(&m).host_failures, 1);
	model_done(&m);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_single_failure_is_undone),
		cmocka_unit_test(every_failed_undo_is_kept_apart_and_cured),
		cmocka_unit_test(every_set_of_failures_is_cured),
		cmocka_unit_test(errors_of_the_host_choose_the_answer),
		cmocka_unit_test(stray_is_not_plugged_and_bars_plug),
		cmocka_unit_test(stray_does_not_bar_unplug),
		cmocka_unit_test(stray_is_taken_back_by_resize_and_reset),
		cmocka_unit_test(faulted_counts_as_plugged_but_is_not_usable),
		cmocka_unit_test(faulted_ends_with_a_later_unplug),
		cmocka_unit_test(faulted_ends_with_a_later_undo),
		cmocka_unit_test(unplug_all_faults_only_what_it_cannot_restore),
		cmocka_unit_test(reset_keeps_only_what_the_host_keeps),
		cmocka_unit_test(reset_returns_the_first_error),
	};

	return cmocka_run_group_tests_name("device: host failures", tests, NULL, NULL);
}
