/* SPDX-License-Identifier: BSD-3-Clause */
/* The way back of a migration: what a target says, in its order and out of it, and how it ends. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "channels.h"
#include "vmm/migration/back.h"

static const struct record_header header = {.session = UINT64_C(0x1122334455667788)};

/* A target at the other end of a way back. */
struct target {
	struct rig *rig;
	struct channel *ends[2]; /* the source's, the target's */
	struct back *back;
	struct record_writer *writer;
};

static int setup(void **state)
{
	const struct record_header there = {RECORD_FLAG_RETURN, header.session, 0, 0};
	struct target *t = calloc(1, sizeof(*t));
	void *rig;

	assert_non_null(t);
	assert_int_equal(rig_setup(&rig), 0);
	t->rig = rig;
	rig_pair(t->rig, t->ends);
	t->writer = record_writer_new(t->ends[1], &there, NULL);
	assert_non_null(t->writer);
	t->back = back_new(t->ends[0], &header, t->rig->cancel, NULL, NULL, NULL);
	assert_non_null(t->back);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct target *t = *state;
	void *rig = t->rig;

	cancel_raise(t->rig->cancel);
	back_free(t->back);
	record_writer_free(t->writer);
	channel_close(t->ends[0]);
	channel_close(t->ends[1]);
	free(t);
	return rig_teardown(&rig);
}

static void say(struct target *t, enum record_type type, uint32_t flags)
{
	assert_int_equal(record_write_bytes(t->writer, type, flags, NULL, 0, NULL), 0);
}

/* Up to where the guest is given away. */
static void say_ready(struct target *t)
{
	say(t, RECORD_READY, 0);
	assert_int_equal(back_wait(t->back, RECORD_READY, -1, NULL), 0);
	back_expect_running(t->back);
}

/* The way back ended because of what was said, and says so. */
static void check_refused(struct target *t, enum record_type type, const char *what)
{
	struct err *err = NULL;

	assert_int_equal(back_wait(t->back, type, -1, &err), -EIO);
	assert_non_null(strstr(err_message(err), what));
	err_free(err);
	assert_int_equal(back_wait_end(t->back, -1), BACK_BROKEN);
}

static void test_running(void **state)
{
	struct target *t = *state;

	say_ready(t);
	say(t, RECORD_RUNNING, 0);
	assert_int_equal(back_wait(t->back, RECORD_RUNNING, -1, NULL), 0);
	assert_false(back_held(t->back));
	assert_int_equal(channel_finish(t->ends[1], -1, NULL), 0);
	assert_int_equal(back_wait_end(t->back, -1), BACK_CLOSED);
}

/* Somebody at the target has still to let the guest go on. */
static void test_held(void **state)
{
	struct target *t = *state;

	assert_false(back_held(t->back));
	say_ready(t);
	say(t, RECORD_RUNNING, RECORD_RUNNING_HELD);
	assert_int_equal(back_wait(t->back, RECORD_RUNNING, -1, NULL), 0);
	assert_true(back_held(t->back));
	assert_int_equal(back_wait_end(t->back, 0), BACK_OPEN);
}

static void test_running_before_go(void **state)
{
	struct target *t = *state;

	say(t, RECORD_READY, 0);
	say(t, RECORD_RUNNING, 0);
	check_refused(t, RECORD_RUNNING, "record 1 (RUNNING) does not belong there");
	assert_false(back_came(t->back, RECORD_RUNNING));
}

/* Flags are part of what a record means: one that is not known is not passed over. */
static void test_unknown_flags(void **state)
{
	struct target *t = *state;

	say_ready(t);
	say(t, RECORD_RUNNING, RECORD_RUNNING_HELD << 1);
	check_refused(t, RECORD_RUNNING, "unknown flags in record 1 (RUNNING)");
	assert_false(back_came(t->back, RECORD_RUNNING));
	assert_false(back_held(t->back));
}

static void test_flags_of_others(void **state)
{
	struct target *t = *state;

	say(t, RECORD_READY, RECORD_RUNNING_HELD);
	check_refused(t, RECORD_READY, "unknown flags in record 0 (READY)");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_running, setup, teardown),
		cmocka_unit_test_setup_teardown(test_held, setup, teardown),
		cmocka_unit_test_setup_teardown(test_running_before_go, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unknown_flags, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flags_of_others, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
