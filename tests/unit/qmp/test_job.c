/* SPDX-License-Identifier: BSD-3-Clause */
/* Jobs: their life, their names, who looks at them, and how many there can be. qmp/job.h. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "qmp/job.h"

struct world {
	struct jobs *jobs;
	struct job *job;  /* the last one */
	char told[65536]; /* "id:status " for each change */
	unsigned int cancels, looks;
	uint64_t remaining; /* that a look finds */
	bool conclude_at_cancel;
	void (*on_change)(struct world *w, const char *id, enum job_status status);
	/* of the watch */
	unsigned int calls, ends;
	struct job_info last;
	bool enough;
	void (*on_watch)(struct world *w);
};

static void changed(void *opaque, const char *id, enum job_status status)
{
	struct world *w = opaque;
	size_t used = strlen(w->told);

	snprintf(w->told + used, sizeof(w->told) - used, "%s:%s ", id, job_status_name(status));
	if (w->on_change)
		w->on_change(w, id, status);
}

static void check_told(struct world *w, const char *want)
{
	assert_string_equal(w->told, want);
	w->told[0] = '\0';
}

static struct err *failure(const char *text)
{
	struct err *err = NULL;

	err_set(&err, EIO, "%s", text);
	return err;
}

static void cancel(void *opaque)
{
	struct world *w = opaque;

	w->cancels++;
	if (w->conclude_at_cancel)
		job_conclude(w->job, NULL, failure("stopped"));
}

static const struct job_ops ops = {.cancel = cancel};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	const struct jobs_config config = {.changed = changed, .opaque = w};

	assert_non_null(w);
	w->jobs = jobs_new(&config);
	assert_non_null(w->jobs);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	jobs_free(w->jobs);
	free(w);
	return 0;
}

static struct job *add(struct world *w, const char *id)
{
	w->job = job_new(w->jobs, id, "test", "test-type", &ops, w, NULL);
	assert_non_null(w->job);
	return w->job;
}

/* The list as text: "id type status current/total error details;". */
static void check_list(const struct world *w, const char *want)
{
	json_t *list = jobs_query(w->jobs), *job;
	char text[4096] = "";
	size_t i;

	assert_non_null(list);
	json_array_foreach (list, i, job) {
		const char *error = json_string_value(json_object_get(job, "error"));
		const char *why = json_string_value(json_object_get(job, "why"));
		size_t used = strlen(text);

		snprintf(text + used, sizeof(text) - used, "%s %s %s %lld/%lld %s %s;",
			 json_string_value(json_object_get(job, "id")),
			 json_string_value(json_object_get(job, "type")),
			 json_string_value(json_object_get(job, "status")),
			 json_integer_value(json_object_get(job, "current-progress")),
			 json_integer_value(json_object_get(job, "total-progress")),
			 error ? error : "-", why ? why : "-");
	}
	json_decref(list);
	assert_string_equal(text, want);
}

static size_t count(const struct world *w)
{
	json_t *list = jobs_query(w->jobs);
	size_t nr = json_array_size(list);

	json_decref(list);
	return nr;
}

static void check_refused(int ret, int want, struct err *err, const char *name)
{
	assert_int_equal(ret, want);
	assert_non_null(err);
	assert_non_null(strstr(err_message(err), name));
	err_free(err);
}

/* ---- life ---- */

static void test_success(void **state)
{
	struct world *w = *state;
	struct job *job;

	check_list(w, "");
	job = add(w, NULL);
	assert_string_equal(job_id(job), "test");
	check_list(w, "test test-type created 0/0 - -;");
	job_start(job);
	job_set_remaining(job, 100);
	check_list(w, "test test-type running 0/100 - -;");
	job_set_remaining(job, 0);
	job_conclude(job, NULL, NULL);
	check_list(w, "test test-type concluded 100/100 - -;");
	assert_int_equal(jobs_dismiss(w->jobs, "test", NULL), 0);
	check_list(w, "");
	check_told(w, "test:created test:running test:concluded test:null ");
}

static void test_failure(void **state)
{
	struct world *w = *state;
	struct job *job = add(w, "a.b-c_1");

	job_start(job);
	job_conclude(job, json_pack("{s:s, s:s}", "why", "tired", "status", "not this one"),
		     failure("it is broken"));
	check_list(w, "a.b-c_1 test-type concluded 0/0 it is broken tired;");
	check_told(w, "a.b-c_1:created a.b-c_1:running a.b-c_1:aborting a.b-c_1:concluded ");
}

static void test_dropped(void **state)
{
	struct world *w = *state;

	job_drop(add(w, NULL));
	check_list(w, "");
	check_told(w, "test:created test:null ");
}

static void test_progress_never_goes_back(void **state)
{
	struct world *w = *state;
	struct job *job = add(w, NULL);

	job_start(job);
	job_set_remaining(job, 100);
	job_set_remaining(job, 40);
	check_list(w, "test test-type running 60/100 - -;");
	job_set_remaining(job, 70);
	check_list(w, "test test-type running 60/130 - -;");
	job_set_remaining(job, 70);
	job_set_remaining(job, 10);
	check_list(w, "test test-type running 120/130 - -;");
	job_set_remaining(job, UINT64_MAX);
	check_list(w, "test test-type running 120/9223372036854775807 - -;");
	job_conclude(job, NULL, NULL);
}

/* ---- cancel and dismiss ---- */

static void test_cancel(void **state)
{
	struct world *w = *state;
	struct err *err = NULL;
	struct job *job = add(w, "j");
	int ret = jobs_cancel(w->jobs, "j", &err);

	check_refused(ret, -EBUSY, err, "'j' is created");
	job_start(job);
	assert_int_equal(jobs_cancel(w->jobs, "j", NULL), 0);
	assert_int_equal(jobs_cancel(w->jobs, "j", NULL), 0);
	assert_int_equal(w->cancels, 1);
	check_list(w, "j test-type aborting 0/0 - -;");
	err = NULL;
	ret = jobs_dismiss(w->jobs, "j", &err);
	check_refused(ret, -EBUSY, err, "'j' is aborting");
	job_conclude(job, NULL, failure("cancelled at 3"));
	check_list(w, "j test-type concluded 0/0 cancelled at 3 -;");
	err = NULL;
	ret = jobs_cancel(w->jobs, "j", &err);
	check_refused(ret, -EBUSY, err, "'j' is concluded");
	err = NULL;
	ret = jobs_cancel(w->jobs, "k", &err);
	check_refused(ret, -ENOENT, err, "'k'");
	err = NULL;
	ret = jobs_dismiss(w->jobs, "k", &err);
	check_refused(ret, -ENOENT, err, "'k'");
	assert_int_equal(jobs_dismiss(w->jobs, "j", NULL), 0);
	check_told(w, "j:created j:running j:aborting j:concluded j:null ");
}

static void test_cancel_that_ends_it_at_once(void **state)
{
	struct world *w = *state;

	w->conclude_at_cancel = true;
	job_start(add(w, "j"));
	assert_int_equal(jobs_cancel(w->jobs, "j", NULL), 0);
	check_list(w, "j test-type concluded 0/0 stopped -;");
}

/* Nobody is told that a cancelled job was a success. */
static void test_cancelled_jobs_have_an_error(void **state)
{
	struct world *w = *state;

	job_start(add(w, "j"));
	assert_int_equal(jobs_cancel(w->jobs, "j", NULL), 0);
	job_conclude(w->job, NULL, NULL);
	check_list(w, "j test-type concluded 0/0 the job was cancelled -;");
}

/* ---- ids ---- */

static void test_ids(void **state)
{
	static const char *const bad[] = {"",    "1a",       "-a",        "a b",
					  "a/b", "\xc3\xa4", "a\xc3\xa4", "#"};
	struct world *w = *state;
	char longest[JOB_ID_MAX + 2];
	struct job *job;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err *err = NULL;

		job = job_new(w->jobs, bad[i], "test", "t", &ops, w, &err);
		assert_null(job);
		check_refused(-err_code(err), -EINVAL, err, bad[i]);
	}
	memset(longest, 'x', sizeof(longest));
	longest[JOB_ID_MAX + 1] = '\0';
	assert_null(job_new(w->jobs, longest, "test", "t", &ops, w, NULL));
	longest[JOB_ID_MAX] = '\0';
	assert_int_equal(count(w), 0);
	assert_string_equal(job_id(add(w, longest)), longest);
}

static void test_ids_are_unique(void **state)
{
	struct world *w = *state;
	struct err *err = NULL;
	struct job *job;

	assert_string_equal(job_id(add(w, NULL)), "test");
	assert_string_equal(job_id(add(w, NULL)), "test-2");
	assert_string_equal(job_id(add(w, "test-3")), "test-3");
	assert_string_equal(job_id(add(w, NULL)), "test-4");
	job = job_new(w->jobs, "test-2", "test", "t", &ops, w, &err);
	assert_null(job);
	check_refused(-err_code(err), -EEXIST, err, "'test-2'");
	/* A prefix that cannot be an id, as those of devices may. */
	job = job_new(w->jobs, NULL, "7 of 9", "t", &ops, w, NULL);
	assert_string_equal(job_id(job), "job");
	/* Also while it is over; not when it is gone. */
	job_start(w->job);
	job_conclude(w->job, NULL, NULL);
	assert_null(job_new(w->jobs, "test-4", "test", "t", &ops, w, NULL));
	assert_int_equal(jobs_dismiss(w->jobs, "test-4", NULL), 0);
	assert_string_equal(job_id(add(w, "test-4")), "test-4");
}

/* ---- how many ---- */

static void test_bounded(void **state)
{
	struct world *w = *state;
	struct job *jobs[JOBS_ACTIVE_MAX];
	char id[32];

	for (unsigned int round = 0; round < 3; round++) {
		for (unsigned int i = 0; i < JOBS_ACTIVE_MAX; i++) {
			snprintf(id, sizeof(id), "r%u-%u", round, i);
			jobs[i] = add(w, id);
			job_start(jobs[i]);
		}
		assert_null(job_new(w->jobs, NULL, "test", "t", &ops, w, NULL));
		/* In another order than that in which they came. */
		for (unsigned int i = JOBS_ACTIVE_MAX; i-- > 0;)
			job_conclude(jobs[i], NULL, NULL);
		assert_int_equal(count(w), JOBS_CONCLUDED_MAX);
	}
	w->told[0] = '\0';
	job_start(add(w, "one"));
	job_conclude(w->job, NULL, NULL);
	/* What was over first goes first. */
	snprintf(id, sizeof(id), "r2-%u", JOBS_ACTIVE_MAX - 1);
	assert_int_equal(jobs_dismiss(w->jobs, id, NULL), -ENOENT);
	assert_int_equal(jobs_dismiss(w->jobs, "r2-0", NULL), 0);
	check_told(w, "one:created one:running one:concluded r2-63:null r2-0:null ");
}

/* ---- watches ---- */

static bool watch(void *opaque, const struct job_info *info)
{
	struct world *w = opaque;

	w->calls++;
	if (!info) {
		w->ends++;
		return true;
	}
	w->last = *info;
	if (w->on_watch)
		w->on_watch(w);
	return !w->enough;
}

static void look(void *opaque)
{
	struct world *w = opaque;

	w->looks++;
	job_set_remaining(w->job, w->remaining);
}

static const struct job_ops looking_ops = {.cancel = cancel, .look = look};

/* Somebody who watches dismisses another job. */
static void dismiss_first(struct world *w)
{
	jobs_dismiss(w->jobs, "first", NULL);
}

/* Those that run are asked whenever somebody asks for the list. */
static void test_look(void **state)
{
	struct world *w = *state;

	job_start(add(w, "first"));
	job_conclude(w->job, NULL, NULL);
	w->job = job_new(w->jobs, "asked", "test", "test-type", &looking_ops, w, NULL);
	check_list(w, "first test-type concluded 0/0 - -;asked test-type created 0/0 - -;");
	assert_int_equal(w->looks, 0);
	job_start(w->job);
	w->remaining = 10;
	check_list(w, "first test-type concluded 0/0 - -;asked test-type running 0/10 - -;");
	w->remaining = 4;
	w->on_watch = dismiss_first;
	assert_int_equal(jobs_watch(w->jobs, "asked", watch, w, NULL), 0);
	check_list(w, "asked test-type running 6/10 - -;");
	jobs_cancel(w->jobs, "asked", NULL);
	w->remaining = 3;
	check_list(w, "asked test-type aborting 7/10 - -;");
	assert_int_equal(w->looks, 3);
	job_conclude(w->job, NULL, failure("over"));
	check_list(w, "asked test-type concluded 7/10 over -;");
	assert_int_equal(w->looks, 3);
}

static void test_watch(void **state)
{
	struct world *w = *state;
	struct job *job = add(w, "j");

	job_start(job);
	assert_int_equal(jobs_watch(w->jobs, "k", watch, w, NULL), -ENOENT);
	assert_int_equal(jobs_watch(w->jobs, "j", watch, w, NULL), 0);
	assert_int_equal(w->calls, 1);
	job_set_remaining(job, 10);
	assert_int_equal(w->calls, 2);
	job_set_remaining(job, 10);
	assert_int_equal(w->calls, 2);
	job_set_remaining(job, 4);
	assert_int_equal(w->last.current, 6);
	assert_int_equal(w->last.total, 10);
	assert_int_equal(w->calls, 3);
	job_conclude(job, NULL, failure("no"));
	assert_int_equal(w->calls, 4);
	assert_int_equal(w->last.status, JOB_CONCLUDED);
	assert_string_equal(w->last.error, "no");
	/* Who comes later is told once. */
	assert_int_equal(jobs_watch(w->jobs, "j", watch, w, NULL), 0);
	assert_int_equal(w->calls, 5);
	assert_int_equal(jobs_dismiss(w->jobs, "j", NULL), 0);
	assert_int_equal(w->calls, 5);
}

static void test_watch_that_has_enough(void **state)
{
	struct world *w = *state;
	struct job *job = add(w, "j");

	job_start(job);
	assert_int_equal(jobs_watch(w->jobs, "j", watch, w, NULL), 0);
	w->enough = true;
	job_set_remaining(job, 10);
	assert_int_equal(w->calls, 2);
	job_set_remaining(job, 9);
	assert_int_equal(w->calls, 2);
	job_conclude(job, NULL, NULL);
	assert_int_equal(w->calls, 2);
}

static void test_watches_are_bounded(void **state)
{
	struct world *w = *state;
	struct job *job = add(w, "j");

	job_start(job);
	for (unsigned int i = 0; i < JOB_WATCHES_MAX; i++)
		assert_int_equal(jobs_watch(w->jobs, "j", watch, w, NULL), 0);
	assert_int_equal(jobs_watch(w->jobs, "j", watch, w, NULL), -EBUSY);
	/* Those that left make room. */
	w->enough = true;
	assert_int_equal(jobs_watch(w->jobs, "j", watch, w, NULL), 0);
	w->calls = 0;
	job_conclude(job, NULL, NULL);
	assert_int_equal(w->calls, 0);
}

static void test_watches_end_with_the_jobs(void **state)
{
	struct world *w = *state;
	const struct jobs_config config = {.changed = changed, .opaque = w};

	job_start(add(w, "j"));
	assert_int_equal(jobs_watch(w->jobs, "j", watch, w, NULL), 0);
	jobs_free(w->jobs);
	assert_int_equal(w->ends, 1);
	w->jobs = jobs_new(&config);
	assert_non_null(w->jobs);
}

/* A watch runs the next command, which cancels, dismisses and watches. */
static void cancel_in_watch(struct world *w)
{
	if (w->last.current == 5)
		jobs_cancel(w->jobs, "j", NULL);
	if (w->last.status == JOB_CONCLUDED)
		jobs_dismiss(w->jobs, "j", NULL);
}

static void test_commands_in_a_watch(void **state)
{
	struct world *w = *state;
	struct job *job = add(w, "j");

	w->conclude_at_cancel = true;
	w->on_watch = cancel_in_watch;
	job_start(job);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(jobs_watch(w->jobs, "j", watch, w, NULL), 0);
	job_set_remaining(job, 10);
	w->calls = 0;
	/* The first sees 5 and cancels, which ends it; then each of the three is told of the end. */
	job_set_remaining(job, 5);
	assert_int_equal(w->calls, 3);
	assert_int_equal(w->last.status, JOB_CONCLUDED);
	check_list(w, "");
	check_told(w, "j:created j:running j:aborting j:concluded j:null ");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_success),
		TEST(test_failure),
		TEST(test_dropped),
		TEST(test_progress_never_goes_back),
		TEST(test_cancel),
		TEST(test_cancel_that_ends_it_at_once),
		TEST(test_cancelled_jobs_have_an_error),
		TEST(test_ids),
		TEST(test_ids_are_unique),
		TEST(test_bounded),
		TEST(test_watch),
		TEST(test_look),
		TEST(test_watch_that_has_enough),
		TEST(test_watches_are_bounded),
		TEST(test_watches_end_with_the_jobs),
		TEST(test_commands_in_a_watch),
	};

	return cmocka_run_group_tests_name("jobs", tests, NULL, NULL);
}
