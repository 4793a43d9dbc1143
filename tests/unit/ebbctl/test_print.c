/* SPDX-License-Identifier: BSD-3-Clause */
/* What is printed: events in a line, JSON, people's answers and their errors, hostile texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/num.h"
#include "ebbctl/client.h"
#include "ebbctl/follow.h"
#include "ebbctl/print.h"
#include "tests/unit/ebbctl/server.h"

static void check_event(const char *json, const char *wanted)
{
	json_t *event = json_loads(json, 0, NULL);
	char *line;

	assert_non_null(event);
	line = print_event_line(json_string_value(json_object_get(event, "event")), event);
	assert_string_equal(line, wanted);
	free(line);
	json_decref(event);
}

#define WHEN "\"timestamp\": {\"seconds\": 1700000000, \"microseconds\": 42}"

static void test_events(void **state)
{
	(void)state;
	check_event("{\"event\": \"STOP\", " WHEN "}", "2023-11-14 22:13:20.000042 STOP");
	check_event(
		"{\"event\": \"E\", " WHEN ", \"data\": {\"id\": \"reg0\", \"size\": 12, "
		"\"write\": true, \"x\": null, \"l\": [1, {\"a\": 2}], \"t\": \"a b\", \"e\": "
		"\"\"}}",
		"2023-11-14 22:13:20.000042 E id=reg0 size=12 write=true x=null l=[1,{\"a\":2}] "
		"t=\"a b\" e=\"\"");
	check_event("{\"event\": \"E\\u001b[2J\\n\", " WHEN ", \"data\": {\"k\\u0007\": "
		    "\"v\\u009b\", \"w\": \"a\\u001b b\"}}",
		    "2023-11-14 22:13:20.000042 E\\x1b[2J\\x0a k\\x07=v\\u009b w=\"a\\u001B b\"");
	check_event("{\"event\": \"E\", \"timestamp\": {\"seconds\": 9223372036854775807, "
		    "\"microseconds\": 0}}",
		    "(at no time) E");
	check_event("{\"event\": \"E\", \"timestamp\": {\"seconds\": 1, \"microseconds\": -1}}",
		    "(at no time) E");
	check_event("{\"event\": \"E\", \"timestamp\": 7, \"data\": 8}", "(at no time) E");
}

static void check_human(const char *text, int status, const char *out, const char *err)
{
	struct capture captured[2];
	char *texts[2];
	int got;

	capture_begin(&captured[0], 1);
	capture_begin(&captured[1], 2);
	got = print_human(text, strlen(text));
	texts[1] = capture_end(&captured[1]);
	texts[0] = capture_end(&captured[0]);
	assert_int_equal(got, status);
	assert_string_equal(texts[0], out);
	assert_string_equal(texts[1], err);
	free(texts[0]);
	free(texts[1]);
}

static void test_human(void **state)
{
	(void)state;
	check_human("", 0, "", "");
	check_human("VM status: running\r\n", 0, "VM status: running\n", "");
	check_human("no line end", 0, "no line end\n", "");
	check_human("a\r\n\r\nb\r\n", 0, "a\n\nb\n", "");
	check_human("Error: it is so\r\n", 1, "", "ebbctl: it is so\n");
	check_human("reg0: 10 %\nError: late\n", 1, "reg0: 10 %\n", "ebbctl: late\n");
	check_human("unknown command: 'x'\r\n", 1, "", "ebbctl: unknown command: 'x'\n");
	check_human("x: argument 'a' is missing\r\nTry \"help x\" for more information\r\n", 1, "",
		    "ebbctl: x: argument 'a' is missing\nTry \"help x\" for more information\n");
	check_human("a\033[2Jb\rc\n", 0, "a\\x1b[2Jb\\x0dc\n", "");
	check_human("Error: a\033[2Jb\n", 1, "", "ebbctl: a\\x1b[2Jb\n");
}

static void test_json(void **state)
{
	struct capture captured;
	json_t *value = json_loads("{\"b\": [1, \"\\u007f\\u009b\"], \"a\": {}}", 0, NULL);
	char *text;
	int status;

	(void)state;
	capture_begin(&captured, 1);
	status = print_json(value);
	text = capture_end(&captured);
	assert_int_equal(status, 0);
	assert_string_equal(
		text, "{\n  \"b\": [\n    1,\n    \"\\u007f\\u009b\"\n  ],\n  \"a\": {}\n}\n");
	free(text);
	json_decref(value);
}

/* ---- waiting for events ---- */

struct events {
	bool schema;      /* it has one */
	const char *sent; /* an event after the first question; NULL: none */
	bool hang_up;
};

static json_t *events_answer(void *opaque, struct server *server, const char *command,
			     const json_t *args)
{
	const struct events *events = opaque;

	(void)args;
	assert_string_equal(command, "query-qmp-schema");
	if (!events->schema)
		server_error(server, "CommandNotFound", "there is none");
	else
		server_write(server,
			     "{\"return\": [{\"name\": \"STOP\", \"meta-type\": \"event\"}, "
			     "{\"name\": \"WAKE_UP\", \"meta-type\": \"event\"}, "
			     "{\"name\": \"NIX\", \"meta-type\": \"command\"}, 7], "
			     "\"id\": 1}\n");
	server_event(server, "OTHER", json_object());
	if (events->sent)
		server_event(server, events->sent, json_pack("{s:i}", "a", 1));
	if (events->hang_up)
		server_hang_up(server);
	return NULL;
}

#define STAMP "1970-01-01 00:00:01.000002 "

static void check_wait(struct events events, const char *name, uint64_t timeout_ms, int status,
		       const char *out, const char *err)
{
	const struct server_script script = {events_answer, &events};
	struct capture captured[2];
	struct server *server;
	struct client *client;
	char *texts[2];
	int fd, got;

	server = server_start(&script, &fd);
	client = client_new(fd, "sock");
	while (client_state(client) == CLIENT_GREETING)
		assert_int_equal(client_wait(client, -1, NULL), 0);
	capture_begin(&captured[0], 1);
	capture_begin(&captured[1], 2);
	got = follow_wait(client, name, timeout_ms);
	texts[1] = capture_end(&captured[1]);
	texts[0] = capture_end(&captured[0]);
	client_free(client);
	server_stop(server);
	assert_int_equal(got, status);
	assert_string_equal(texts[0], out);
	assert_string_equal(texts[1], err);
	free(texts[0]);
	free(texts[1]);
}

static void test_wait(void **state)
{
	(void)state;
	check_wait((struct events){.schema = true, .sent = "STOP"}, "STOP", 0, 0,
		   STAMP "STOP a=1\n", "");
	check_wait((struct events){.schema = true, .sent = "WAKE_UP"}, "wake-up", 60000, 0,
		   STAMP "WAKE_UP a=1\n", "");
	check_wait((struct events){.sent = "STOP", .hang_up = true}, "stop", 0, 0,
		   STAMP "STOP a=1\n", "");
	check_wait((struct events){.schema = true}, "nix", 0, 1, "",
		   "ebbctl: there is no event 'NIX'; there are: STOP WAKE_UP\n");
	check_wait((struct events){.schema = true}, "STOP", 50, 1, "",
		   "ebbctl: no event STOP in 0.05 s\n");
	check_wait((struct events){.hang_up = true}, "STOP", 0, 1, "",
		   "ebbctl: sock: the connection ended\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_human),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_wait),
	};

	setenv("TZ", "UTC", 1);
	tzset();
	setlocale(LC_CTYPE, "C.UTF-8");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
