/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sessions of the monitor for programs: what a client sees word for word, order and waiting,
 * out-of-band, descriptors, people's lines. What hostile clients do is in test_session_hostile.c.
 */
#include "tests/unit/qmp/rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"

#define GREETING                                                                          \
	"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 1, \"minor\": 2, \"major\": 7}, " \
	"\"package\": \"rig 1.0\"}, \"capabilities\": [\"oob\"]}}\r\n"
#define ERROR(class, text) "{\"error\": {\"class\": \"" class "\", \"desc\": \"" text "\"}}\r\n"
#define ERROR_ID(class, text, id) \
	"{\"error\": {\"class\": \"" class "\", \"desc\": \"" text "\"}, \"id\": " id "}\r\n"
#define PARSE_ERROR "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error, "
#define EMPTY       "{\"return\": {}}\r\n"

static void greeting_and_capabilities(void **state)
{
	struct client c = {0};

	client_open(&c, *state, false);
	assert_string_equal(c.out, GREETING);
	ASK(&c, "{\"execute\": \"nothing\"}",
	    ERROR("CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'"));
	ASK(&c, "{\"execute\": \"no-such-thing\", \"id\": 1}",
	    ERROR_ID("CommandNotFound",
		     "Expecting capabilities negotiation with 'qmp_capabilities'", "1"));
	qmp_emit(c.rig->qmp, "EMPTY", NULL);
	ASK(&c, "{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"speed\"]}}",
	    ERROR("GenericError", "Parameter 'enable[0]' does not accept value 'speed'"));
	ASK(&c, "{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enabled\": []}}",
	    ERROR("GenericError", "Parameter 'enabled' is unexpected"));
	ASK(&c, "{\"exec-oob\": \"qmp_capabilities\"}",
	    ERROR("GenericError", "QMP input member 'exec-oob' is unexpected"));
	ASK(&c,
	    "{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": []}, \"id\": \"x\"}",
	    "{\"return\": {}, \"id\": \"x\"}\r\n");
	ASK(&c, "{\"execute\": \"qmp_capabilities\"}",
	    ERROR("CommandNotFound",
		  "Capabilities negotiation is already complete, command ignored"));
	ASK(&c, "{\"execute\": \"nothing\"}", EMPTY);
	client_close(&c);
}

static void commands_that_tell_of_the_monitor(void **state)
{
	struct client c = {0};
	const char *out;
	json_t *answer;

	client_open_ready(&c, *state, false);
	ASK(&c, "{\"execute\": \"query-version\"}",
	    "{\"return\": {\"qemu\": {\"micro\": 1, \"minor\": 2, \"major\": 7}, \"package\": "
	    "\"rig 1.0\"}}\r\n");
	out = client_ask(&c, "{\"execute\": \"query-commands\"}");
	assert_non_null(strstr(out, "{\"name\": \"at-once\"}, {\"name\": \"echo\"}"));
	assert_non_null(strstr(out, "{\"name\": \"qmp_capabilities\"}"));
	assert_null(strstr(out, "reverse"));
	out = client_ask(&c, "{\"execute\": \"query-qmp-schema\"}");
	answer = json_loads(out, 0, NULL);
	assert_int_equal(schema_check(qmp_schema(c.rig->qmp), "x", "[SchemaInfo]",
				      json_object_get(answer, "return"), NULL),
			 0);
	json_decref(answer);
	client_close(&c);
}

static void ids_come_back(void **state)
{
	static const char *const ids[] = {
		"1",           "-9223372036854775808",
		"1.5",         "\"a \\\"b\\\"\"",
		"null",        "true",
		"[]",          "[1, {\"a\": null}]",
		"{\"x\": {}}", "\"\\u00E4 \\uD83D\\uDE00\"",
	};
	char ask[256], answer[256];
	struct client c = {0};

	client_open_ready(&c, *state, false);
	for (size_t i = 0; i < ARRAY_SIZE(ids); i++) {
		snprintf(ask, sizeof(ask), "{\"execute\": \"nothing\", \"id\": %s}", ids[i]);
		snprintf(answer, sizeof(answer), "{\"return\": {}, \"id\": %s}\r\n", ids[i]);
		ASK(&c, ask, answer);
		snprintf(ask, sizeof(ask),
			 "{\"id\": %s, \"execute\": \"fail\", \"arguments\": "
			 "{\"how\": \"\"}}",
			 ids[i]);
		snprintf(answer, sizeof(answer),
			 "{\"error\": {\"class\": \"GenericError\", \"desc\": \"it is broken\"}, "
			 "\"id\": %s}\r\n",
			 ids[i]);
		ASK(&c, ask, answer);
	}
	client_close(&c);
}

static void classes_of_errors(void **state)
{
	struct client c = {0};

	client_open_ready(&c, *state, false);
	ASK(&c, "{\"execute\": \"fail\", \"arguments\": {\"how\": \"device\"}}",
	    ERROR("DeviceNotFound", "Device 'x' not found"));
	ASK(&c, "{\"execute\": \"fail\", \"arguments\": {\"how\": \"inactive\"}}",
	    ERROR("DeviceNotActive", "it is not active"));
	ASK(&c, "{\"execute\": \"fail\", \"arguments\": {\"how\": \"command\"}}",
	    ERROR("CommandNotFound", "not here"));
	ASK(&c, "{\"execute\": \"fail\", \"arguments\": {\"how\": \"code\"}}",
	    ERROR("GenericError", "Device or resource busy"));
	ASK(&c, "{\"execute\": \"fail\", \"arguments\": {\"how\": \"binary\"}}",
	    ERROR("GenericError", "half ? a character"));
	client_close(&c);
}

static void messages_of_a_wrong_form(void **state)
{
	struct client c = {0};

	client_open_ready(&c, *state, false);
	ASK(&c, "[]", ERROR("GenericError", "QMP input must be a JSON object"));
	ASK(&c, "null\n", ERROR("GenericError", "QMP input must be a JSON object"));
	ASK(&c, "\"execute\"", ERROR("GenericError", "QMP input must be a JSON object"));
	ASK(&c, "{}", ERROR("GenericError", "QMP input lacks member 'execute'"));
	ASK(&c, "{\"id\": 3}", ERROR_ID("GenericError", "QMP input lacks member 'execute'", "3"));
	ASK(&c, "{\"execute\": 1, \"id\": 3}",
	    ERROR_ID("GenericError", "QMP input member 'execute' must be a string", "3"));
	ASK(&c, "{\"execute\": \"nothing\", \"arguments\": []}",
	    ERROR("GenericError", "QMP input member 'arguments' must be an object"));
	ASK(&c, "{\"execute\": \"nothing\", \"arguments\": null}",
	    ERROR("GenericError", "QMP input member 'arguments' must be an object"));
	ASK(&c, "{\"execute\": \"nothing\", \"argument\": {}}",
	    ERROR("GenericError", "QMP input member 'argument' is unexpected"));
	ASK(&c, "{\"execute\": \"nothing\", \"execute\": \"nothing\"}",
	    ERROR("GenericError", "JSON parse error, duplicate key (at byte 32)"));
	ASK(&c, "{\"execute\": \"no-such-thing\"}",
	    ERROR("CommandNotFound", "The command no-such-thing has not been found"));
	ASK(&c, "{\"execute\": \"info later\"}",
	    ERROR("CommandNotFound", "The command info later has not been found"));
	ASK(&c, "{\"execute\": \"\"}", ERROR("CommandNotFound", "The command  has not been found"));
	ASK(&c, "{\"execute\": \"nothing\", \"arguments\": {\"x\": 1}}",
	    ERROR("GenericError", "Parameter 'x' is unexpected"));
	ASK(&c, "{\"execute\": \"fail\"}", ERROR("GenericError", "Parameter 'how' is missing"));
	ASK(&c, "{\"execute\": \"fail\", \"arguments\": {\"how\": {}}}",
	    ERROR("GenericError", "Invalid parameter type for 'how', expected: string"));
	ASK(&c, "{\"execute\": \"point\", \"arguments\": {\"x\": 1}}",
	    ERROR("GenericError", "Parameter 'y' is missing"));
	ASK(&c, "{\"execute\": \"shape\", \"arguments\": {\"kind\": \"polygon\", \"points\": []}}",
	    "{\"return\": {\"kind\": \"polygon\", \"points\": []}}\r\n");
	/* Nothing of it was run, and the session goes on. */
	assert_int_equal(c.rig->runs, 1);
	ASK(&c, "{\"execute\": \"nothing\"}", EMPTY);
	client_close(&c);
}

static void answers_are_plain_ascii_on_a_line(void **state)
{
	struct client c = {0}, p = {0};

	client_open_ready(&c, *state, false);
	ASK(&c, "{\"execute\": \"echo\", \"arguments\": {\"text\": \"\xc3\xa4\\n\\u0001\"}}",
	    "{\"return\": {\"text\": \"\\u00E4\\n\\u0001\"}}\r\n");
	ASK(&c, "{\"execute\": \"silent\"}", "");
	ASK(&c, "{\"execute\": \"at-once\"}", "{\"return\": {\"at\": 1}}\r\n");
	client_close(&c);

	client_open(&p, *state, true);
	client_clear(&p);
	ASK(&p, "{\"execute\": \"qmp_capabilities\", \"id\": [1]}",
	    "{\r\n    \"return\": {},\r\n    \"id\": [\r\n        1\r\n    ]\r\n}\r\n");
	client_close(&p);
}

static void commands_in_any_pieces(void **state)
{
	static const char text[] = "{\"execute\": \"qmp_capabilities\"}\r\n"
				   "{\"execute\":\n\"nothing\",\r\n\"id\": 1}"
				   "{'execute':'echo','arguments':{'text':'}'}}";
	struct client c = {0};

	client_open(&c, *state, false);
	client_clear(&c);
	for (size_t i = 0; i + 1 < sizeof(text); i++)
		assert_int_equal(client_send(&c, text + i, 1), 1);
	assert_string_equal(c.out, EMPTY "{\"return\": {}, \"id\": 1}\r\n"
					 "{\"return\": {\"text\": \"}\"}}\r\n");
	client_close(&c);
}

static void rubbish_is_answered_and_reading_goes_on(void **state)
{
	/* Each is answered by one error. */
	static const char *const rubbish[] = {
		"{]\n",
		"{\xff",
		"{\x01",
		"{'bad \xff",
		"{\"execute\": \"nonexistent\", \"id\": \"\n",
		"%%p\n",
		"}\n",
		"\xff",
		"{\"a\" 1}",
		"GET\n",
		"{\"\\u0000\": 1}",
		"['\xc3']",
	};
	struct client c = {0};

	client_open_ready(&c, *state, false);
	for (size_t i = 0; i < ARRAY_SIZE(rubbish); i++) {
		const char *out = client_ask(&c, rubbish[i]);

		assert_memory_equal(out, PARSE_ERROR, strlen(PARSE_ERROR));
		assert_ptr_equal(strstr(out, "\r\n"), out + strlen(out) - 2);
		ASK(&c, "{\"execute\": \"nothing\"}", EMPTY);
	}
	client_close(&c);
}

static void one_command_runs_at_a_time(void **state)
{
	struct client c = {0};
	struct rig *rig = *state;
	struct err *err = NULL;

	client_open_ready(&c, rig, false);
	ASK(&c,
	    "{\"execute\": \"later\", \"id\": 1}{\"execute\": \"later\", \"id\": 2}"
	    "{\"execute\": \"nothing\", \"id\": 3}{]\n{\"execute\": \"nothing\", \"id\": 4}",
	    "");
	assert_int_equal(rig->nr_pending, 1);
	assert_true(qmp_session_busy(c.session));
	assert_true(qmp_session_room(c.session) > 0);
	client_clear(&c);
	rig_end(rig, json_pack("{s:i}", "n", 1), NULL);
	assert_string_equal(c.out, "{\"return\": {\"n\": 1}, \"id\": 1}\r\n");
	assert_int_equal(rig->nr_pending, 1);
	client_clear(&c);
	err_set(&err, 0x70, "it came to nothing");
	rig_end(rig, NULL, err);
	/* Errors of form keep their place, too. */
	assert_string_equal(
		c.out,
		ERROR_ID(
			"GenericError", "it came to nothing",
			"2") "{\"return\": {}, \"id\": 3}\r\n" ERROR("GenericError",
								     "JSON parse error, brackets "
								     "do not match") "{\"return\": "
										     "{}, \"id\": "
										     "4}\r\n");
	assert_false(qmp_session_busy(c.session));
	client_close(&c);
}

static void waiting_commands_are_bounded(void **state)
{
	struct client c = {0};
	struct rig *rig = *state;
	char text[64];
	unsigned int sent = 0;

	client_open_ready(&c, rig, false);
	ASK(&c, "{\"execute\": \"later\"}", "");
	while (qmp_session_room(c.session)) {
		snprintf(text, sizeof(text), "{\"execute\": \"nothing\", \"id\": %u}", sent++);
		client_send(&c, text, strlen(text));
	}
	assert_int_equal(sent, QMP_QUEUE_MAX);
	assert_int_equal(c.resumes, 0);
	client_clear(&c);
	rig_end(rig, NULL, NULL);
	assert_int_equal(c.resumes, 1);
	assert_true(qmp_session_room(c.session) > 0);
	for (sent = 0; sent < QMP_QUEUE_MAX; sent++) {
		snprintf(text, sizeof(text), "\"id\": %u}", sent);
		assert_non_null(strstr(c.out, text));
	}
	client_close(&c);
}

static void urgent_commands_pass_what_waits(void **state)
{
	struct client c = {0};
	struct rig *rig = *state;

	client_open_ready(&c, rig, true);
	ASK(&c, "{\"execute\": \"later\", \"id\": 1}{\"execute\": \"nothing\", \"id\": 2}", "");
	ASK(&c, "{\"exec-oob\": \"urgent\", \"arguments\": {\"n\": 5}, \"id\": 3}",
	    "{\"return\": {\"n\": 5}, \"id\": 3}\r\n");
	ASK(&c, "{\"exec-oob\": \"nothing\", \"id\": 4}",
	    ERROR_ID("GenericError", "The command nothing does not support OOB", "4"));
	ASK(&c, "{\"exec-oob\": \"no-such-thing\"}",
	    ERROR("CommandNotFound", "The command no-such-thing has not been found"));
	ASK(&c, "{\"exec-oob\": \"urgent\", \"arguments\": {\"n\": \"\"}}",
	    ERROR("GenericError", "Invalid parameter type for 'n', expected: integer"));
	/* One that ends the command which the others wait for. */
	ASK(&c, "{\"exec-oob\": \"finish\", \"id\": 5}",
	    "{\"return\": {}, \"id\": 1}\r\n{\"return\": {}, \"id\": 5}\r\n"
	    "{\"return\": {}, \"id\": 2}\r\n");
	ASK(&c, "{\"execute\": \"urgent\", \"id\": 6}", "{\"return\": {}, \"id\": 6}\r\n");
	ASK(&c, "{\"execute\": \"urgent\", \"exec-oob\": \"urgent\"}",
	    ERROR("GenericError", "QMP input member 'exec-oob' clashes with 'execute'"));
	client_close(&c);

	client_open_ready(&c, rig, false);
	ASK(&c, "{\"exec-oob\": \"urgent\"}",
	    ERROR("GenericError", "QMP input member 'exec-oob' is unexpected"));
	client_close(&c);
}

static unsigned int count_lines(const struct client *c)
{
	unsigned int count = 0;

	for (size_t i = 0; i < c->count; i++)
		count += c->out[i] == '\n';
	return count;
}

/* Who asks much at once has its turn in each round of the loop, and the others theirs. */
static void sessions_take_turns(void **state)
{
	static const char ask[] = "{\"execute\": \"nothing\"}",
			  schema[] = "{\"execute\": \"query-qmp-schema\"}";
	struct client a = {0}, b = {0}, d = {0};
	char text[16000], *at = text;
	unsigned int rounds = 0;

	client_open_ready(&a, *state, false);
	client_open_ready(&b, *state, false);
	client_open_ready(&d, *state, false);
	for (unsigned int i = 0; i < 500; i++)
		at = stpcpy(at, ask);
	qmp_session_input(a.session, text, (size_t)(at - text));
	assert_int_equal(qmp_session_room(a.session), 0);
	assert_in_range(count_lines(&a), 1, 100);
	at = text;
	for (unsigned int i = 0; i < 100; i++)
		at = stpcpy(at, schema);
	qmp_session_input(b.session, text, (size_t)(at - text));
	assert_in_range(count_lines(&b), 1, 20);
	ASK(&d, ask, EMPTY);
	while (qmp_session_busy(a.session) || qmp_session_busy(b.session)) {
		uv_run(&a.rig->uv, UV_RUN_NOWAIT);
		assert_true(++rounds < 200);
	}
	assert_true(rounds > 5);
	assert_int_equal(count_lines(&a), 500);
	assert_int_equal(count_lines(&b), 100);
	assert_int_equal(a.resumes, 1);
	client_close(&a);
	client_close(&b);
	client_close(&d);
}

static void client_that_does_not_read_waits(void **state)
{
	struct client c = {0};

	client_open_ready(&c, *state, false);
	c.stalled = true;
	ASK(&c, "{\"execute\": \"nothing\"}{\"execute\": \"nothing\"}", "");
	assert_int_equal(c.rig->runs, 0);
	assert_int_equal(qmp_session_room(c.session), 0);
	assert_true(qmp_session_busy(c.session));
	c.stalled = false;
	qmp_session_writable(c.session);
	assert_string_equal(c.out, EMPTY EMPTY);
	assert_int_equal(c.resumes, 1);
	client_close(&c);
}

static void client_leaves_while_its_command_runs(void **state)
{
	struct rig *rig = *state;
	struct client c = {0};
	struct err *err = NULL;

	client_open_ready(&c, rig, false);
	client_ask(&c, "{\"execute\": \"later\"}{\"execute\": \"nothing\"}");
	client_close(&c);
	assert_int_equal(rig->unwanted, 1);
	assert_false(command_is_wanted(rig->pending[0]));
	assert_int_equal(command_take_fd(rig->pending[0]), -1);
	command_printf(rig->pending[0], "to nobody");
	err_set(&err, 1, "never seen");
	rig_end(rig, NULL, err);
	assert_int_equal(rig->runs, 1);

	/* It may be ended from the very notice. */
	rig->end_unwanted = true;
	client_open_ready(&c, rig, false);
	client_ask(&c, "{\"execute\": \"later\"}{\"execute\": \"nothing\"}");
	client_close(&c);
	assert_int_equal(rig->nr_pending, 0);
	assert_int_equal(rig->unwanted, 2);
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* Send a text with @count descriptors; the last one is returned. */
static int send_fds(struct client *c, const char *text, unsigned int count)
{
	int fd = -1;

	while (count--)
		c->fds[c->nr_fds++] = fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	client_clear(c);
	client_send(c, text, strlen(text));
	return fd;
}

static void descriptors_belong_to_their_bytes(void **state)
{
	struct client c = {0};
	struct rig *rig = *state;
	int fd;

	client_open_ready(&c, rig, false);
	fd = send_fds(&c, "{\"execute\": \"take\", \"arguments\": {\"count\": 5}}", 2);
	assert_string_equal(c.out, "{\"return\": 2}\r\n");
	assert_false(is_open(fd));
	/* What a command leaves is closed when it ends; */
	fd = send_fds(&c, "{\"execute\": \"nothing\"}", 1);
	assert_false(is_open(fd));
	/* also one that is refused; */
	fd = send_fds(&c, "{\"execute\": \"no-such-thing\"}", 1);
	assert_false(is_open(fd));
	/* one that came while bytes after the command were under way lasts for the next. */
	fd = send_fds(&c, "{\"execute\": \"nothing\"}\r\n", 1);
	assert_true(is_open(fd));
	ASK(&c, "{\"execute\": \"take\", \"arguments\": {\"count\": 5}}", "{\"return\": 1}\r\n");
	assert_false(is_open(fd));
	/* It is not for a command that came before it, though that ends later. */
	client_ask(&c, "{\"execute\": \"later\"}");
	fd = send_fds(&c, "{\"execute\": \"take\", \"arguments\": {\"count\": 5}}", 1);
	assert_int_equal(command_take_fd(rig->pending[0]), -1);
	client_clear(&c);
	rig_end(rig, NULL, NULL);
	assert_string_equal(c.out, EMPTY "{\"return\": 1}\r\n");
	assert_false(is_open(fd));
	/* There is room for some only. */
	fd = send_fds(&c, "{\"execute\": \"take\", \"arguments\": {\"count\": 64}}", 20);
	assert_string_equal(c.out, "{\"return\": 16}\r\n");
	assert_false(is_open(fd));
	fd = send_fds(&c, " ", 1);
	assert_true(is_open(fd));
	client_close(&c);
	assert_false(is_open(fd));
}

static void human_lines(void **state)
{
	struct client c = {0};
	struct rig *rig = *state;

	client_open_ready(&c, rig, true);
	ASK(&c,
	    "{\"execute\": \"human-monitor-command\", \"arguments\": "
	    "{\"command-line\": \"info reverse abc\"}}",
	    "{\"return\": \"cba\\n\"}\r\n");
	ASK(&c, "{\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": \"\"}}",
	    "{\"return\": \"\"}\r\n");
	ASK(&c,
	    "{\"execute\": \"human-monitor-command\", \"arguments\": "
	    "{\"command-line\": \"fail x\"}}",
	    "{\"return\": \"Error: it is broken\\n\"}\r\n");
	ASK(&c,
	    "{\"execute\": \"human-monitor-command\", \"arguments\": "
	    "{\"command-line\": \"no_such_thing\"}}",
	    "{\"return\": \"unknown command: 'no_such_thing'\\n\"}\r\n");
	ASK(&c,
	    "{\"execute\": \"human-monitor-command\", \"arguments\": "
	    "{\"command-line\": \"info later\"}, \"id\": 1}{\"execute\": \"nothing\"}",
	    "");
	assert_int_equal(rig->nr_pending, 1);
	client_clear(&c);
	rig_end(rig, NULL, NULL);
	assert_string_equal(c.out, "{\"return\": \"wait\\ndone\\n\", \"id\": 1}\r\n" EMPTY);

	/* The client leaves while the line runs. */
	client_ask(&c, "{\"execute\": \"human-monitor-command\", \"arguments\": "
		       "{\"command-line\": \"info later\"}}");
	client_close(&c);
	assert_int_equal(rig->unwanted, 1);
	rig_end(rig, NULL, NULL);
	rig->end_unwanted = true;
	client_open_ready(&c, rig, true);
	client_ask(&c, "{\"execute\": \"human-monitor-command\", \"arguments\": "
		       "{\"command-line\": \"info later\"}}");
	client_close(&c);
	assert_int_equal(rig->nr_pending, 0);
	assert_int_equal(rig->unwanted, 2);
}

/* What a command of another program's is not there for is told, where it is known. */
static void missing_commands_have_a_reason(void **state)
{
	struct client c = {0};

	client_open_ready(&c, *state, false);
	ASK(&c, "{\"execute\": \"disk-add\"}",
	    ERROR("CommandNotFound",
		  "The command disk-add has not been found: there are no disks"));
	ASK(&c, "{\"execute\": \"diskless\"}",
	    ERROR("CommandNotFound", "The command diskless has not been found"));
	client_close(&c);
}

/* Only what needs none is run, for programs and for people; what is asked wrongly is told first. */
static void without_a_machine(void **state)
{
	struct rig *rig = *state;
	struct client c = {0}, person = {0};

	client_open_ready(&c, rig, false);
	ASK(&c, "{\"execute\": \"echo\", \"arguments\": {\"int\": 3}}",
	    "{\"return\": {\"int\": 3}}\r\n");
	assert_non_null(strstr(client_ask(&c, "{\"execute\": \"query-commands\"}"), "\"take\""));
	ASK(&c, "{\"execute\": \"take\", \"arguments\": {\"count\": 1}}",
	    ERROR("GenericError", "there is no machine"));
	assert_non_null(strstr(client_ask(&c, "{\"execute\": \"take\"}"), "count"));
	assert_int_equal(rig->runs, 1);
	client_close(&c);
	client_open_human(&person, rig);
	assert_non_null(strstr(client_ask(&person, "info reverse word\n"), "there is no machine"));
	client_close(&person);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(greeting_and_capabilities),
		T(commands_that_tell_of_the_monitor),
		T(ids_come_back),
		T(classes_of_errors),
		T(messages_of_a_wrong_form),
		T(answers_are_plain_ascii_on_a_line),
		T(commands_in_any_pieces),
		T(rubbish_is_answered_and_reading_goes_on),
		T(one_command_runs_at_a_time),
		T(waiting_commands_are_bounded),
		T(urgent_commands_pass_what_waits),
		T(sessions_take_turns),
		T(client_that_does_not_read_waits),
		T(client_leaves_while_its_command_runs),
		T(descriptors_belong_to_their_bytes),
		T(human_lines),
		T(missing_commands_have_a_reason),
		cmocka_unit_test_setup_teardown(without_a_machine, rig_setup_bare, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
