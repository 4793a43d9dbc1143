/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Resizes against a scripted monitor: what is asked for, how a job is followed to each of its ends,
 * interrupts, and a monitor that answers nonsense.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "ebbctl/args.h"
#include "ebbctl/client.h"
#include "ebbctl/resize.h"
#include "ebbctl/watch.h"
#include "tests/unit/ebbctl/server.h"

enum end {
	END_WELL,
	END_BADLY,
	END_DISMISSED,
	END_HANG_UP,
	END_CANCEL,   /* interrupted once */
	END_LEAVE,    /* interrupted twice, the job does not stop */
	END_ODD_JOBS, /* the list of jobs is no list */
	END_REFUSED,  /* the job is not made */
	END_JOBS_FAIL,
};

/* A machine with two devices, of which the first is resized in steps. */
struct machine {
	enum end end;
	uint64_t size, requested;
	char asked[2048]; /* requests of note */
	char job[128];
	unsigned int queries;
	bool cancelled;
};

static json_t *machine_devices(const struct machine *m)
{
	return json_pack("[{s:s,s:{s:s,s:I,s:I,s:I,s:I,s:I,s:i}},{s:s,s:{s:s}}]", "type",
			 "virtio-mem", "data", "id", "reg0", "size", (json_int_t)m->size,
			 "requested-size", (json_int_t)m->requested, "max-size",
			 (json_int_t)(8 * GIB), "block-size", (json_int_t)(2 * MIB), "memaddr",
			 (json_int_t)(4 * GIB), "node", 0, "type", "dimm", "data", "id", "dimm0");
}

static void machine_note(struct machine *m, const char *command, const json_t *args)
{
	char *text = json_dumps(args, JSON_COMPACT | JSON_SORT_KEYS);
	size_t used = strlen(m->asked);

	snprintf(m->asked + used, sizeof(m->asked) - used, "%s%s\n", command, text ? text : "");
	free(text);
}

static json_t *machine_start(struct machine *m, struct server *server, const char *command,
			     const json_t *args)
{
	const char *job = json_string_value(json_object_get(args, "job-id"));

	machine_note(m, command, args);
	if (m->end == END_REFUSED) {
		server_error(server, "GenericError", "another resize is under way");
		return NULL;
	}
	assert_non_null(job);
	snprintf(m->job, sizeof(m->job), "%s", job);
	m->requested = (uint64_t)json_integer_value(
		json_object_get(args, !strcmp(command, "memory-resize") ? "total" : "size"));
	return json_object();
}

static json_t *machine_job(const struct machine *m, const char *status, const char *error)
{
	return json_pack("[{s:s},{s:s,s:s,s:s,s:I,s:I,s:s*}]", "id", "another", "id", m->job,
			 "type", "virtio-mem-resize", "status", status, "current-progress",
			 (json_int_t)m->size, "total-progress", (json_int_t)m->requested, "error",
			 error);
}

/* Something changed: nobody waits for the time to ask again. */
static void machine_changed(struct machine *m, struct server *server, const char *status)
{
	server_event(server, "JOB_STATUS_CHANGE",
		     json_pack("{s:s,s:s}", "id", m->job, "status", status));
}

static json_t *machine_jobs(struct machine *m, struct server *server)
{
	if (m->queries++ < 2) {
		m->size = m->requested / 4 * m->queries;
		machine_changed(m, server, "running");
		return machine_job(m, "running", NULL);
	}
	switch (m->end) {
	case END_WELL:
		m->size = m->requested;
		return machine_job(m, "concluded", NULL);
	case END_BADLY:
		return machine_job(m, "concluded", "the guest has \033[2J no more to give");
	case END_DISMISSED:
		return json_array();
	case END_HANG_UP:
		server_hang_up(server);
		return NULL;
	case END_ODD_JOBS:
		return json_pack("{s:i}", "a", 1);
	case END_JOBS_FAIL:
		server_error(server, "GenericError", "no jobs today");
		return NULL;
	case END_CANCEL:
		if (m->cancelled)
			return machine_job(m, "concluded", "it was cancelled");
		break;
	default:
		break;
	}
	/* Interrupted once, at a time when nothing else is under way. */
	if (m->queries == 3)
		kill(getpid(), SIGINT);
	return machine_job(m, m->cancelled ? "aborting" : "running", NULL);
}

static json_t *machine_answer(void *opaque, struct server *server, const char *command,
			      const json_t *args)
{
	struct machine *m = opaque;

	if (!strcmp(command, "query-memory-devices"))
		return machine_devices(m);
	if (!strcmp(command, "query-memory-size-summary"))
		return json_pack("{s:I}", "base-memory", (json_int_t)GIB);
	if (!strcmp(command, "virtio-mem-resize") || !strcmp(command, "memory-resize"))
		return machine_start(m, server, command, args);
	if (!strcmp(command, "query-jobs"))
		return machine_jobs(m, server);
	machine_note(m, command, args);
	if (!strcmp(command, "job-cancel")) {
		m->cancelled = true;
		if (m->end == END_LEAVE)
			kill(getpid(), SIGINT);
		machine_changed(m, server, "aborting");
	}
	return json_object();
}

/* One run of ebbctl's part behind the connection. */
struct run {
	struct machine machine;
	int status;
	char *out, *err;
};

static void run_args(struct run *run, enum end end, const struct args *args)
{
	const struct server_script script = {machine_answer, &run->machine};
	struct capture captured[2];
	struct server *server;
	struct client *client;
	int fd;

	run->machine = (struct machine){.end = end, .size = GIB, .requested = GIB};
	server = server_start(&script, &fd);
	client = client_new(fd, "sock");
	while (client_state(client) == CLIENT_GREETING)
		assert_int_equal(client_wait(client, -1, NULL), 0);
	capture_begin(&captured[0], 1);
	capture_begin(&captured[1], 2);
	run->status = args->command == ARGS_RESIZE ? resize_device(client, args)
						   : resize_all(client, args);
	run->err = capture_end(&captured[1]);
	run->out = capture_end(&captured[0]);
	client_free(client);
	server_stop(server);
}

static void run_resize(struct run *run, enum end end, const char *size, bool wait)
{
	char id[] = "reg0", *words[] = {id};
	struct args args = {.command = ARGS_RESIZE,
			    .words = words,
			    .nr_words = 1,
			    .node = -1,
			    .wait = wait,
			    .timeout_ms = wait ? 30000 : 0};

	assert_int_equal(args_size_parse(size, &args.size, NULL), 0);
	run_args(run, end, &args);
}

static void run_done(struct run *run)
{
	free(run->out);
	free(run->err);
}

static void has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("'%s' is not in: %s", part, text);
}

static void test_start(void **state)
{
	struct run run;
	char wanted[256];

	(void)state;
	run_resize(&run, END_WELL, "+1G", false);
	assert_int_equal(run.status, 0);
	snprintf(wanted, sizeof(wanted), "reg0: 2 GiB asked for, job resize-reg0-%d\n", getpid());
	assert_string_equal(run.out, wanted);
	snprintf(wanted, sizeof(wanted),
		 "virtio-mem-resize{\"device\":\"reg0\",\"job-id\":\"resize-reg0-%d\",\"size\":%"
		 "llu}\n",
		 getpid(), (unsigned long long)(2 * GIB));
	assert_string_equal(run.machine.asked, wanted);
	run_done(&run);
	run_resize(&run, END_REFUSED, "4G", true);
	assert_int_equal(run.status, 1);
	assert_string_equal(run.err, "ebbctl: another resize is under way\n");
	run_done(&run);
	run_resize(&run, END_WELL, "9G", true);
	assert_int_equal(run.status, 1);
	assert_string_equal(
		run.err, "ebbctl: reg0: 9G is too large: at most 8 GiB is allowed, it has 1 GiB\n");
	assert_string_equal(run.machine.asked, "");
	run_done(&run);
}

static void test_no_device(void **state)
{
	char id[] = "dimm0", *words[] = {id};
	struct args args = {.command = ARGS_RESIZE, .words = words, .nr_words = 1, .node = -1};
	struct run run;

	(void)state;
	run_args(&run, END_WELL, &args);
	assert_int_equal(run.status, 1);
	assert_string_equal(run.err, "ebbctl: there is no memory device 'dimm0': there are reg0\n");
	run_done(&run);
}

static void test_well(void **state)
{
	struct run run;

	(void)state;
	run_resize(&run, END_WELL, "4G", true);
	assert_int_equal(run.status, 0);
	has(run.out, "reg0: 1 GiB of 4 GiB, 25 %");
	has(run.out, "reg0: done, 4 GiB\n");
	assert_string_equal(run.err, "");
	has(run.machine.asked, "\"timeout\":30}");
	has(run.machine.asked, "job-dismiss{\"id\":\"resize-reg0-");
	run_done(&run);
}

/* Ends that are none, with what is said and whether the job is dismissed. */
static void test_ends(void **state)
{
	static const struct {
		enum end end;
		int status;
		const char *err;
		bool cancelled, dismissed;
	} rows[] = {
		{END_BADLY, 1,
		 "ebbctl: reg0: stopped at 2 GiB of 4 GiB: the guest has \\x1b[2J no more to "
		 "give\n",
		 false, true},
		{END_DISMISSED, 1,
		 "ebbctl: reg0: stopped at 2 GiB of 4 GiB: the job was dismissed by somebody "
		 "else\n",
		 false, false},
		{END_ODD_JOBS, 1,
		 "ebbctl: reg0: stopped at 2 GiB of 4 GiB: the job was dismissed by somebody "
		 "else\n",
		 false, false},
		{END_HANG_UP, 1, "ebbctl: sock: the connection ended\n", false, false},
		{END_JOBS_FAIL, 1, "ebbctl: no jobs today\n", false, false},
		{END_CANCEL, WATCH_INTERRUPTED,
		 "ebbctl: reg0: cancelled, it stopped at 2 GiB of 4 GiB\n", true, true},
		{END_LEAVE, WATCH_INTERRUPTED, "ebbctl: reg0: left at 2 GiB of 4 GiB; the job ",
		 true, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct run run;

		run_resize(&run, rows[i].end, "4G", true);
		assert_int_equal(run.status, rows[i].status);
		has(run.err, rows[i].err);
		assert_null(strstr(run.out, "done"));
		assert_int_equal(!!strstr(run.machine.asked, "job-cancel"), rows[i].cancelled);
		assert_int_equal(!!strstr(run.machine.asked, "job-dismiss"), rows[i].dismissed);
		run_done(&run);
	}
}

static void test_all(void **state)
{
	struct args args = {.command = ARGS_RESIZE_ALL, .node = 1, .wait = true};
	struct run run;

	(void)state;
	assert_int_equal(args_size_parse("8G", &args.size, NULL), 0);
	run_args(&run, END_WELL, &args);
	assert_int_equal(run.status, 0);
	has(run.machine.asked, "memory-resize{\"job-id\":\"memory-resize-");
	has(run.machine.asked, "\"node\":1,\"total\":8589934592}");
	has(run.out, "memory of node 1: 2 GiB of 8 GiB, 25 %");
	has(run.out, "memory of node 1: done, 8 GiB\n");
	run_done(&run);
	args.node = -1;
	assert_int_equal(args_size_parse("+1G", &args.size, NULL), 0);
	run_args(&run, END_BADLY, &args);
	assert_int_equal(run.status, 1);
	/* boot memory, what was asked for before, and 1 GiB */
	has(run.machine.asked, "\"total\":3221225472}");
	has(run.err, "ebbctl: memory: stopped at 50 % of the way to 3 GiB: the guest has");
	run_done(&run);
}

/* ---- lists ---- */

static json_t *jobs_answer(void *opaque, struct server *server, const char *command,
			   const json_t *args)
{
	(void)opaque;
	(void)args;
	if (!strcmp(command, "query-jobs"))
		return json_loads(
			"[{\"id\": \"a\\u001b\", \"type\": \"t\", \"status\": \"running\", "
			"\"current-progress\": 1, \"total-progress\": 2}, {\"id\": \"b\", "
			"\"status\": \"concluded\", \"error\": \"why\"}, 7]",
			0, NULL);
	server_error(server, "GenericError", "no such job");
	return NULL;
}

static void test_lists(void **state)
{
	const struct server_script script = {jobs_answer, NULL};
	struct capture captured[2];
	struct server *server;
	struct client *client;
	char *out, *err;
	int fd, status[2];

	(void)state;
	server = server_start(&script, &fd);
	client = client_new(fd, "sock");
	while (client_state(client) == CLIENT_GREETING)
		assert_int_equal(client_wait(client, -1, NULL), 0);
	capture_begin(&captured[0], 1);
	capture_begin(&captured[1], 2);
	status[0] = watch_print_jobs(client);
	status[1] = watch_cancel_job(client, "x");
	err = capture_end(&captured[1]);
	out = capture_end(&captured[0]);
	client_free(client);
	server_stop(server);
	assert_int_equal(status[0], 0);
	assert_int_equal(status[1], 1);
	has(out, "a\\x1b ");
	has(out, "running          50 %\n");
	has(out, "concluded           -  why\n");
	assert_string_equal(err, "ebbctl: no such job\n");
	free(out);
	free(err);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_start), cmocka_unit_test(test_no_device),
		cmocka_unit_test(test_well),  cmocka_unit_test(test_ends),
		cmocka_unit_test(test_all),   cmocka_unit_test(test_lists),
	};

	setlocale(LC_CTYPE, "C.UTF-8");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
