/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who follows a migration by the monitors: events, its job, people who wait. The migration itself is made
 * up (migrate_rig.h).
 */
#include "tests/unit/control/migrate_rig.h"

#define EVENTS (1u << MIGRATION_CAP_EVENTS)

/* ---- events ---- */

static void test_events(void **state)
{
	rig_set_status(*state, MIGRATION_SETUP, NULL);
	rig_pass(*state, 1);
	rig_events(*state, "");
	*rig_capabilities(*state) = EVENTS;
	rig_set_status(*state, MIGRATION_ACTIVE, NULL);
	rig_pass(*state, 2);
	rig_set_status(*state, MIGRATION_COMPLETED, NULL);
	rig_events(*state, "MIGRATION {'status': 'active'}\n"
			   "MIGRATION_PASS {'pass': 2}\n"
			   "MIGRATION {'status': 'completed'}\n");
}

/* ---- the job ---- */

static void test_job(void **state)
{
	struct migration_info info = rig_half;

	rig_ask(*state, "migrate", "{'uri': 'u'}", "{}");
	rig_events(*state, "JOB_STATUS_CHANGE {'id': 'migrate', 'status': 'created'}\n"
			   "JOB_STATUS_CHANGE {'id': 'migrate', 'status': 'running'}\n");
	rig_set(*state, &rig_half);
	rig_ask(*state, "query-jobs", "{}",
		"[{'id': 'migrate', 'type': 'migrate', 'status': 'running',"
		" 'current-progress': 67108864, 'total-progress': 134217728}]");
	/* What the guest wrote again comes on top. */
	info.ram.remaining = 96 << 20;
	rig_set(*state, &info);
	rig_ask(*state, "query-jobs", "{}",
		"[{'id': 'migrate', 'type': 'migrate', 'status': 'running',"
		" 'current-progress': 67108864, 'total-progress': 167772160}]");
	info.status = MIGRATION_COMPLETED;
	info.ram.remaining = 0;
	rig_set(*state, &info);
	rig_events(*state, "JOB_STATUS_CHANGE {'id': 'migrate', 'status': 'concluded'}\n");
	rig_ask(*state, "query-jobs", "{}",
		"[{'id': 'migrate', 'type': 'migrate', 'status': 'concluded',"
		" 'current-progress': 167772160, 'total-progress': 167772160}]");
	/* The next one takes its place. */
	rig_ask(*state, "migrate", "{'uri': 'u'}", "{}");
	rig_events(*state, "JOB_STATUS_CHANGE {'id': 'migrate', 'status': 'null'}\n"
			   "JOB_STATUS_CHANGE {'id': 'migrate', 'status': 'created'}\n"
			   "JOB_STATUS_CHANGE {'id': 'migrate', 'status': 'running'}\n");
	rig_set_status(*state, MIGRATION_FAILED, NULL);
	rig_ask(*state, "query-jobs", "{}",
		"[{'id': 'migrate', 'type': 'migrate', 'status': 'concluded',"
		" 'current-progress': 0, 'total-progress': 0, 'error': 'the migration failed'}]");
	rig_ask(*state, "job-dismiss", "{'id': 'migrate'}", "{}");
	rig_ask(*state, "query-jobs", "{}", "[]");
}

static void test_job_cancel(void **state)
{
	rig_ask(*state, "migrate", "{'uri': 'u'}", "{}");
	rig_set(*state, &rig_half);
	rig_events(*state, "JOB_STATUS_CHANGE {'id': 'migrate', 'status': 'created'}\n"
			   "JOB_STATUS_CHANGE {'id': 'migrate', 'status': 'running'}\n");
	rig_ask(*state, "job-cancel", "{'id': 'migrate'}", "{}");
	assert_string_equal(rig_called(*state), "cancel");
	rig_set_status(*state, MIGRATION_CANCELLING, NULL);
	rig_set_status(*state, MIGRATION_CANCELLED, NULL);
	rig_events(*state, "JOB_STATUS_CHANGE {'id': 'migrate', 'status': 'aborting'}\n"
			   "JOB_STATUS_CHANGE {'id': 'migrate', 'status': 'concluded'}\n");
	rig_ask(*state, "query-jobs", "{}",
		"[{'id': 'migrate', 'type': 'migrate', 'status': 'concluded',"
		" 'current-progress': 67108864, 'total-progress': 134217728,"
		" 'error': 'the migration was cancelled'}]");
	/* By the migration's own command. */
	rig_ask(*state, "migrate", "{'uri': 'u'}", "{}");
	rig_ask(*state, "migrate_cancel", "{}", "{}");
	rig_set(*state, &rig_half);
	rig_set_status(*state, MIGRATION_CANCELLED, NULL);
	rig_events(*state, "JOB_STATUS_CHANGE {'id': 'migrate', 'status': 'null'}\n"
			   "JOB_STATUS_CHANGE {'id': 'migrate', 'status': 'created'}\n"
			   "JOB_STATUS_CHANGE {'id': 'migrate', 'status': 'running'}\n"
			   "JOB_STATUS_CHANGE {'id': 'migrate', 'status': 'aborting'}\n"
			   "JOB_STATUS_CHANGE {'id': 'migrate', 'status': 'concluded'}\n");
}

/* Asked too late: the guest is elsewhere. */
static void test_job_cancel_late(void **state)
{
	rig_ask(*state, "migrate", "{'uri': 'u'}", "{}");
	rig_set(*state, &rig_half);
	rig_ask(*state, "job-cancel", "{'id': 'migrate'}", "{}");
	rig_set_status(*state, MIGRATION_COMPLETED, NULL);
	rig_ask(*state, "query-jobs", "{}",
		"[{'id': 'migrate', 'type': 'migrate', 'status': 'concluded',"
		" 'current-progress': 67108864, 'total-progress': 134217728,"
		" 'error': 'it was too late to cancel the migration: it is completed'}]");
}

static void test_job_paused(void **state)
{
	rig_ask(*state, "migrate", "{'uri': 'u'}", "{}");
	rig_set(*state, &rig_half);
	rig_set_status(*state, MIGRATION_POSTCOPY_PAUSED, "the connection broke");
	rig_ask(*state, "query-migrate", "{}",
		"{'status': 'postcopy-paused', 'total-time': 0, 'setup-time': 0,"
		" 'error-desc': 'the connection broke'}");
	rig_ask(*state, "migrate", "{'uri': 'u', 'resume': true}", "{}");
	rig_ask(*state, "query-jobs", "{}",
		"[{'id': 'migrate', 'type': 'migrate', 'status': 'running',"
		" 'current-progress': 67108864, 'total-progress': 134217728}]");
	rig_events(*state, "JOB_STATUS_CHANGE {'id': 'migrate', 'status': 'created'}\n"
			   "JOB_STATUS_CHANGE {'id': 'migrate', 'status': 'running'}\n");
}

static void test_job_end_of_machine(void **state)
{
	rig_ask(*state, "migrate", "{'uri': 'u'}", "{}");
	rig_set(*state, &rig_half);
	rig_events(*state, "JOB_STATUS_CHANGE {'id': 'migrate', 'status': 'created'}\n"
			   "JOB_STATUS_CHANGE {'id': 'migrate', 'status': 'running'}\n");
	rig_end(*state);
	rig_events(*state, "JOB_STATUS_CHANGE {'id': 'migrate', 'status': 'aborting'}\n"
			   "JOB_STATUS_CHANGE {'id': 'migrate', 'status': 'concluded'}\n");
}

/* An incoming one is nobody's job. */
static void test_job_incoming(void **state)
{
	const struct migration_info info = {.status = MIGRATION_ACTIVE, .incoming = true};

	rig_ask(*state, "migrate-incoming", "{'uri': 'u'}", "{}");
	rig_set(*state, &info);
	rig_ask(*state, "query-jobs", "{}", "[]");
	rig_events(*state, "");
}

/* ---- people who wait ---- */

static void test_wait(void **state)
{
	struct migration_info info = rig_half;

	rig_type(*state, "migrate tcp:h:1\n");
	rig_sees(*state, "migrate tcp:h:1\n");
	info.status = MIGRATION_COMPLETED;
	info.ram.remaining = 0;
	rig_set(*state, &info);
	/* What is typed ahead runs when the loop turns, not where the end was told. */
	rig_type(*state, "migrate_cancel\n");
	assert_string_equal(rig_called(*state), "start tcp:h:1");
	rig_turn(*state);
	assert_string_equal(rig_called(*state), "cancel");
	rig_sees(*state, "Completed 100 %\r\n> ");
}

static void test_wait_failure(void **state)
{
	rig_type(*state, "migrate tcp:h:1\n");
	rig_set_status(*state, MIGRATION_FAILED, "nobody listens");
	/* Another one begins before the first one's end is told. */
	rig_ask(*state, "migrate", "{'uri': 'u'}", "{}");
	rig_set_status(*state, MIGRATION_ACTIVE, NULL);
	rig_turn(*state);
	rig_sees(*state, "Error: nobody listens\n> ");
	rig_type(*state, "migrate tcp:h:1\n");
	rig_set_status(*state, MIGRATION_CANCELLED, NULL);
	rig_turn(*state);
	rig_sees(*state, "Migration status: cancelled\n> ");
	rig_type(*state, "migrate tcp:h:1\n");
	rig_set(*state, &rig_half);
	rig_set_status(*state, MIGRATION_PRE_SWITCHOVER, NULL);
	rig_turn(*state);
	rig_sees(*state, "Migration status: pre-switchover\n> ");
}

/* Ctrl-C ends the waiting alone. */
static void test_wait_interrupted(void **state)
{
	rig_type(*state, "migrate tcp:h:1\n\x03");
	rig_sees(*state, "> ");
	assert_string_equal(rig_called(*state), "start tcp:h:1");
	rig_set(*state, &rig_half);
	rig_set_status(*state, MIGRATION_FAILED, "later");
	rig_turn(*state);
	rig_type(*state, "migrate tcp:h:2\n");
	rig_set_status(*state, MIGRATION_SETUP, NULL);
	rig_set_status(*state, MIGRATION_FAILED, "told to nobody");
	/* The end is known and not told yet. */
	rig_leave(*state);
	rig_turn(*state);
}

static void test_wait_end_of_machine(void **state)
{
	rig_type(*state, "migrate tcp:h:1\n");
	rig_set(*state, &rig_half);
	rig_end(*state);
}

/* Over a program's session nobody could cancel it meanwhile. */
static void test_wait_not_for_programs(void **state)
{
	rig_prints(*state, "migrate tcp:h:1",
		   "The migration goes on by itself: nobody can wait for it here; 'info migrate' "
		   "tells how it gets on\n");
	assert_string_equal(rig_called(*state), "start tcp:h:1");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_events),
		TEST(test_job),
		TEST(test_job_cancel),
		TEST(test_job_cancel_late),
		TEST(test_job_paused),
		TEST(test_job_end_of_machine),
		TEST(test_job_incoming),
		TEST(test_wait),
		TEST(test_wait_failure),
		TEST(test_wait_interrupted),
		TEST(test_wait_end_of_machine),
		TEST(test_wait_not_for_programs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
