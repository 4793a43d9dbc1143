/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Migrations against a scripted monitor: what is asked for, how one is followed to each of its ends,
 * interrupts, and a monitor that answers nonsense.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "ebbctl/args.h"
#include "ebbctl/client.h"
#include "ebbctl/migrate.h"
#include "ebbctl/watch.h"
#include "tests/unit/ebbctl/server.h"

/* What query-migrate says at the end, after two rounds that show how it gets on. */
struct script {
	const char *last;  /* JSON, with ' for "; NULL: the connection ends; "": an error */
	bool interrupt;    /* SIGINT in the third round; the fourth is the last */
	bool interrupt_ii; /* and once more when it is to be cancelled */
};

struct source {
	struct script script;
	char asked[1024];
	unsigned int queries;
	bool cancelled;
};

#define ROUND                                                                             \
	"{'status': '%s', 'total-time': 10, 'setup-time': 1, 'expected-downtime': 300, "  \
	"'cpu-throttle-percentage': 20, 'ram': {'total': 4294967296, 'remaining': %llu, " \
	"'transferred': 1048576, 'duplicate': 1000, 'normal': 200, 'page-size': 4096, "   \
	"'dirty-pages-rate': 256, 'dirty-sync-count': 3}}"

static json_t *source_json(const char *text)
{
	char *copy = strdup(text);
	json_t *value;

	for (char *at = copy; (at = strchr(at, '\'')); at++)
		*at = '"';
	value = json_loads(copy, 0, NULL);
	assert_non_null(value);
	free(copy);
	return value;
}

static json_t *source_round(struct source *s, struct server *server)
{
	unsigned int round = s->queries++;
	char text[1024];

	/* Nobody waits for the time to ask again. */
	server_event(server, "MIGRATION", json_pack("{s:s}", "status", "active"));
	if (round < 2 || (round == 2 && s->script.interrupt)) {
		snprintf(text, sizeof(text), ROUND, round ? "active" : "setup",
			 (unsigned long long)(round ? 2 * GIB : 3 * GIB));
		if (round == 2)
			kill(getpid(), SIGINT);
		return source_json(text);
	}
	if (s->script.interrupt && !s->cancelled) {
		snprintf(text, sizeof(text), ROUND, "active", (unsigned long long)GIB);
		return source_json(text);
	}
	if (!s->script.last) {
		server_hang_up(server);
		return NULL;
	}
	if (!*s->script.last) {
		server_error(server, "GenericError", "no migrations today");
		return NULL;
	}
	return source_json(s->script.last);
}

static json_t *source_answer(void *opaque, struct server *server, const char *command,
			     const json_t *args)
{
	struct source *s = opaque;
	size_t used = strlen(s->asked);
	char *text;

	if (!strcmp(command, "query-migrate"))
		return source_round(s, server);
	text = json_dumps(args, JSON_COMPACT | JSON_SORT_KEYS);
	snprintf(s->asked + used, sizeof(s->asked) - used, "%s%s\n", command, text ? text : "");
	free(text);
	if (!strcmp(command, "migrate_cancel")) {
		s->cancelled = true;
		if (s->script.interrupt_ii)
			kill(getpid(), SIGINT);
	}
	if (strstr(s->asked, "refuse")) {
		server_error(server, "GenericError", "it cannot be");
		return NULL;
	}
	return json_object();
}

/* One run of ebbctl's part behind the connection. */
struct run {
	struct source source;
	int status;
	char *out, *err;
};

static void run_to(struct run *run, const struct script *script, char *where, bool save,
		   bool detach)
{
	const struct server_script answers = {source_answer, &run->source};
	const struct args args = {.words = &where, .nr_words = 1, .detach = detach};
	struct capture captured[2];
	struct server *server;
	struct client *client;
	int fd;

	run->source = (struct source){.script = *script};
	server = server_start(&answers, &fd);
	client = client_new(fd, "sock");
	while (client_state(client) == CLIENT_GREETING)
		assert_int_equal(client_wait(client, -1, NULL), 0);
	capture_begin(&captured[0], 1);
	capture_begin(&captured[1], 2);
	run->status = save ? migrate_save(client, &args) : migrate_run(client, &args);
	run->err = capture_end(&captured[1]);
	run->out = capture_end(&captured[0]);
	client_free(client);
	server_stop(server);
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

static const struct script well = {
	.last = "{'status': 'completed', 'total-time': 3210, 'downtime': 12, 'ram': {'total': "
		"4294967296, 'remaining': 0, 'transferred': 3145728}}",
};

static void test_well(void **state)
{
	char where[] = "tcp:h:1";
	struct run run;

	(void)state;
	run_to(&run, &well, where, false, false);
	assert_int_equal(run.status, 0);
	has(run.source.asked, "migrate{\"uri\":\"tcp:h:1\"}");
	has(run.out,
	    "tcp:h:1: 1 GiB of 4 GiB, 25 %, 1 MiB sent, pass 3, 1 MiB/s written, slowed by "
	    "20 %, setup\n");
	has(run.out,
	    "tcp:h:1: 2 GiB of 4 GiB, 50 %, 1 MiB sent, pass 3, 1 MiB/s written, slowed by "
	    "20 %\n");
	has(run.out, "tcp:h:1: moved, 3 MiB in 3.2 s, stopped for 12 ms\n");
	assert_string_equal(run.err, "");
	run_done(&run);
}

static void test_detached(void **state)
{
	char where[] = "tcp:h:1";
	struct run run;

	(void)state;
	run_to(&run, &well, where, false, true);
	assert_int_equal(run.status, 0);
	assert_int_equal(run.source.queries, 0);
	assert_string_equal(run.out, "tcp:h:1: the migration has begun\n");
	run_done(&run);
}

/* A file's name is one of the folder that we are in, not of the machine's. */
static void test_save(void **state)
{
	char relative[] = "a b", absolute[] = "/x/y", wanted[600];
	char *here = getcwd(NULL, 0);
	struct run run;

	(void)state;
	run_to(&run, &well, relative, true, false);
	assert_int_equal(run.status, 0);
	snprintf(wanted, sizeof(wanted), "migrate{\"uri\":\"file:%s/a b\"}", here);
	has(run.source.asked, wanted);
	has(run.out, "a b: saved, 3 MiB in 3.2 s, stopped for 12 ms\n");
	run_done(&run);
	run_to(&run, &well, absolute, true, false);
	has(run.source.asked, "migrate{\"uri\":\"file:/x/y\"}");
	run_done(&run);
	free(here);
}

static void test_ends(void **state)
{
	static const struct {
		struct script script;
		int status;
		const char *err;
		bool cancelled;
	} rows[] = {
		{{.last = "{'status': 'failed', 'error-desc': 'the other side \\u001b[2J is "
			  "gone'}"},
		 1,
		 "ebbctl: tcp:h:1: failed: the other side \\x1b[2J is gone\n",
		 false},
		{{.last = "{'status': 'failed'}"},
		 1,
		 "ebbctl: tcp:h:1: failed: the monitor does not say why\n",
		 false},
		{{.last = "{'status': 'postcopy-paused', 'error-desc': 'cut'}"},
		 1,
		 "ebbctl: tcp:h:1: paused, migrate -r goes on: cut\n",
		 false},
		{{.last = "{'status': 'cancelled'}"},
		 1,
		 "ebbctl: tcp:h:1: cancelled; the machine stays here\n",
		 false},
		{{.last = NULL}, 1, "ebbctl: sock: the connection ended\n", false},
		{{.last = ""}, 1, "ebbctl: no migrations today\n", false},
		{{.last = "{'status': 'cancelled'}", .interrupt = true},
		 WATCH_INTERRUPTED,
		 "ebbctl: tcp:h:1: cancelled; the machine stays here\n",
		 true},
		/* It was too late. */
		{{.last = "{'status': 'completed'}", .interrupt = true}, 0, "", true},
		{{.last = "{'status': 'cancelling'}", .interrupt = true, .interrupt_ii = true},
		 WATCH_INTERRUPTED,
		 "ebbctl: tcp:h:1: left at ",
		 true},
	};
	char where[] = "tcp:h:1";

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct run run;

		run_to(&run, &rows[i].script, where, false, false);
		/* How far it is when it is left depends on who is quicker. */
		if (rows[i].script.interrupt_ii) {
			assert_memory_equal(run.err, rows[i].err, strlen(rows[i].err));
			assert_non_null(strstr(run.err, " %; the migration goes on\n"));
		} else {
			assert_string_equal(run.err, rows[i].err);
		}
		assert_int_equal(run.status, rows[i].status);
		assert_int_equal(!!strstr(run.source.asked, "migrate_cancel"), rows[i].cancelled);
		run_done(&run);
	}
}

static void test_refused(void **state)
{
	char where[] = "refuse:\033[2J";
	struct run run;

	(void)state;
	run_to(&run, &well, where, false, false);
	assert_int_equal(run.status, 1);
	assert_string_equal(run.err, "ebbctl: it cannot be\n");
	assert_int_equal(run.source.queries, 0);
	run_done(&run);
}

/* What is not of the shape that it should have is not shown. */
static void test_nonsense(void **state)
{
	static const char *const lasts[] = {
		"{'status': 'completed', 'ram': 7, 'total-time': -1, 'downtime': 'x'}",
		"{'status': 'completed', 'ram': {'total': 0, 'remaining': 9223372036854775807}}",
		"{'status': 'completed', 'ram': {'total': 1, 'remaining': 0, 'page-size': "
		"9223372036854775807, 'normal': 9223372036854775807, 'duplicate': 1, "
		"'dirty-pages-rate': 9223372036854775807}, 'error-desc': 'not now'}",
	};
	char where[] = "u";

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lasts); i++) {
		const struct script script = {.last = lasts[i]};
		struct run run;

		run_to(&run, &script, where, false, false);
		assert_int_equal(run.status, 0);
		has(run.out, "u: moved, ");
		run_done(&run);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_well),    cmocka_unit_test(test_detached),
		cmocka_unit_test(test_save),    cmocka_unit_test(test_ends),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_nonsense),
	};

	setlocale(LC_CTYPE, "C.UTF-8");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
