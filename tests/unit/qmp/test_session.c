/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sessions of the monitor for programs: what a client sees word for word, order and waiting,
 * out-of-band, descriptors, and clients that send nonsense, do not read, or leave at any moment.
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

static void thousands_of_commands_at_once(void **state)
{
	struct client c = {0};
	struct rig *rig = *state;
	const unsigned int count = 20000;
	char *text = malloc(64 * (size_t)count), *at = text;
	unsigned int laters = 0;
	const char *line;

	client_open_ready(&c, rig, false);
	client_clear(&c);
	for (unsigned int i = 0; i < count; i++)
		at += sprintf(at, "{\"execute\": \"%s\", \"id\": %u}\r\n",
			      i % 1000 == 999 ? "later" : "nothing", i);
	for (char *from = text; from < at;) {
		from += client_send(&c, from, (size_t)(at - from));
		if (rig->nr_pending) {
			rig_end(rig, NULL, NULL);
			laters++;
		}
	}
	while (rig->nr_pending) {
		rig_end(rig, NULL, NULL);
		laters++;
	}
	assert_int_equal(laters, count / 1000);
	line = c.out;
	for (unsigned int i = 0; i < count; i++) {
		at = text + sprintf(text, "{\"return\": {}, \"id\": %u}\r\n", i);
		assert_memory_equal(line, text, (size_t)(at - text));
		line += at - text;
	}
	assert_int_equal(*line, '\0');
	free(text);
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

/* A session's life, into a client that takes @limit bytes. Returns whether it took all. */
static bool limited_life(struct rig *rig, size_t limit, bool free_on_drop)
{
	static const char text[] =
		"{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"oob\"]}}"
		"{\"execute\": \"echo\", \"arguments\": {\"text\": \"some text\"}, \"id\": 1}{]\n"
		"{\"execute\": \"emit\", \"arguments\": {\"name\": \"PLAIN\"}}"
		"{\"execute\": \"later\"}{\"execute\": \"nothing\"}{\"exec-oob\": \"urgent\"}";
	struct client c = {.limit = limit, .free_on_drop = free_on_drop};
	bool dropped;

	client_open(&c, rig, false);
	if (!c.session) {
		assert_int_equal(c.drops, 0);
		client_close(&c);
		return false;
	}
	client_send(&c, text, sizeof(text) - 1);
	qmp_emit(rig->qmp, "PLAIN", json_pack("{s:i}", "n", 2));
	if (rig->nr_pending)
		rig_end(rig, NULL, NULL);
	dropped = c.drops > 0;
	assert_true(c.drops <= 1);
	if (dropped && !free_on_drop) {
		assert_int_equal(qmp_session_room(c.session), 0);
		assert_false(qmp_session_busy(c.session));
	}
	client_close(&c);
	return !dropped;
}

static void output_may_end_at_any_byte(void **state)
{
	struct rig *rig = *state;
	unsigned int lives = 0;

	for (int free_on_drop = 0; free_on_drop < 2; free_on_drop++)
		for (size_t limit = 1; !limited_life(rig, limit, free_on_drop); limit++)
			lives++;
	assert_true(lives > 800);
	assert_int_equal(rig->nr_pending, 0);
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

static void sessions_are_freed_from_inside(void **state)
{
	struct rig *rig = *state;
	struct client a = {0}, b = {0};

	client_open_ready(&a, rig, true);
	client_open_ready(&b, rig, true);
	rig->leaver = &a;
	client_ask(&a, "{\"execute\": \"leave\"}{\"execute\": \"nothing\"}");
	assert_null(a.session);
	assert_int_equal(a.count, 0);
	assert_int_equal(rig->runs, 0);

	/* Another's, while a command of it is pending and more wait. */
	client_open_ready(&a, rig, true);
	client_ask(&a, "{\"execute\": \"later\"}{\"execute\": \"nothing\"}");
	rig->leaver = &a;
	ASK(&b, "{\"execute\": \"leave\"}", EMPTY);
	assert_int_equal(rig->unwanted, 1);
	rig_end(rig, NULL, NULL);

	/* Out-of-band, over a pending one of the same session. */
	client_open_ready(&a, rig, true);
	client_ask(&a, "{\"execute\": \"later\"}");
	rig->leaver = &a;
	client_ask(&a, "{\"exec-oob\": \"leave\"}{\"execute\": \"nothing\"}");
	assert_null(a.session);
	rig_end(rig, NULL, NULL);
	client_close(&b);
	qmp_session_free(NULL);
	qmp_free(NULL);
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

static void huge_messages(void **state)
{
	struct client c = {0};
	size_t size = 4 * 1024 * 1024;
	char *text = malloc(size + 64);

	client_open_ready(&c, *state, false);
	memset(text, 'x', size + 64);
	memcpy(text, "{\"execute\": \"", 13);
	memcpy(text + size, "\"}", 2);
	assert_int_equal(client_send(&c, text, size + 2), size + 2);
	assert_non_null(strstr(c.out, "CommandNotFound"));
	assert_true(c.count < 500);
	client_clear(&c);
	/* An id of that size comes back. */
	memset(text, 'x', size + 64);
	memcpy(text, "{\"execute\": \"nothing\", \"id\": \"", 30);
	memcpy(text + size, "\"}", 2);
	client_send(&c, text, size + 2);
	assert_true(c.count > size - 64);
	client_clear(&c);
	/* So does one as deep as is allowed. */
	memcpy(text, "{\"execute\": \"nothing\", \"id\": ", 29);
	memset(text + 29, '[', QMP_DEPTH_MAX - 1);
	memset(text + 29 + QMP_DEPTH_MAX - 1, ']', QMP_DEPTH_MAX - 1);
	text[29 + 2 * (QMP_DEPTH_MAX - 1)] = '}';
	client_send(&c, text, 30 + 2 * (QMP_DEPTH_MAX - 1));
	assert_int_equal(c.count,
			 strlen("{\"return\": {}, \"id\": }\r\n") + 2 * (QMP_DEPTH_MAX - 1));
	free(text);
	client_close(&c);
}

/* JSON's memory: fails after so many allocations, once or from then on; -1: never. */
static long allocations_left = -1;
static bool allocations_fail_once;
static unsigned int allocations_failed;

static void *failing_malloc(size_t size)
{
	if (allocations_left > 0) {
		allocations_left--;
	} else if (!allocations_left) {
		allocations_failed++;
		if (allocations_fail_once)
			allocations_left = -1;
		return NULL;
	}
	return malloc(size);
}

json_t *__real_json_loadb(const char *buffer, size_t size, size_t flags, json_error_t *error);
json_t *__wrap_json_loadb(const char *buffer, size_t size, size_t flags, json_error_t *error);

/*
 * The library's own parser does not survive a failing allocation (2.14 crashes): it fails as a whole
 * here.
 */
json_t *__wrap_json_loadb(const char *buffer, size_t size, size_t flags, json_error_t *error)
{
	long left = allocations_left;
	json_t *value = failing_malloc(1);

	if (!value) {
		*error = (json_error_t){.position = 0};
		error->text[JSON_ERROR_TEXT_LENGTH - 1] = json_error_out_of_memory;
		return NULL;
	}
	free(value);
	allocations_left = -1;
	value = __real_json_loadb(buffer, size, flags, error);
	allocations_left = left > 0 ? left - 1 : left;
	return value;
}

static void life_without_memory(struct rig *rig)
{
	static const char text[] =
		"{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"oob\"]}}"
		"{\"execute\": \"echo\", \"arguments\": {\"text\": \"t\", \"any\": [1]}, \"id\": "
		"{}}"
		"{]\n{\"execute\": \"emit\", \"arguments\": {\"name\": \"KEYED\", \"data\": "
		"{\"id\": 1}}}{\"execute\": \"query-commands\"}{\"execute\": \"query-version\"}"
		"{\"execute\": \"query-qmp-schema\"}{\"execute\": \"at-once\"}"
		"{\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": "
		"\"echo -f a 1 2\"}}{\"execute\": \"fail\", \"arguments\": {\"how\": \"device\"}}"
		"{\"execute\": \"later\", \"id\": 1}{\"execute\": \"nothing\"}"
		"{\"exec-oob\": \"urgent\", \"id\": 1}";
	struct client c = {.free_on_drop = true}, person = {.free_on_drop = true};

	client_open(&c, rig, false);
	if (c.session)
		client_send(&c, text, sizeof(text) - 1);
	qmp_emit(rig->qmp, "KEYED", json_pack("{s:i}", "id", 1));
	qmp_emit(rig->qmp, "PLAIN", NULL);
	while (rig->nr_pending)
		rig_end(rig, json_pack("{s:i}", "n", 1), NULL);
	client_close(&c);
	client_open_human(&person, rig);
	if (person.human)
		client_send(&person, "echo a 1\ninfo reverse x\nhelp\nfail x\n", 36);
	client_close(&person);
}

static void json_runs_out_of_memory(void **state)
{
	struct rig *rig = *state;
	unsigned int failed;

	json_set_alloc_funcs(failing_malloc, free);
	for (int once = 0; once < 2; once++) {
		for (long left = 0;; left += once ? 1 : 1 + left / 50) {
			failed = allocations_failed;
			allocations_left = left;
			allocations_fail_once = once;
			life_without_memory(rig);
			allocations_left = -1;
			if (allocations_failed == failed)
				break;
		}
	}
	assert_true(allocations_failed > 1000);
	json_set_alloc_funcs(malloc, free);
}

static void random_commands_and_rubbish(void **state)
{
	static const char *const pieces[] = {
		"{\"execute\": \"later\", \"id\": 1}",
		"{\"execute\": \"nothing\"}",
		"{\"execute\":",
		"\"echo\"",
		"}",
		"{\"exec-oob\": \"finish\"}",
		"{\"exec-oob\": \"urgent\"}",
		"\n",
		"\xff",
		"{\"execute\": \"emit\", \"arguments\": {\"name\": \"SLOW\"}}",
		"[[",
		"\"",
		"'",
		"\\",
		"{\"execute\": \"leave\"}",
		"{\"exec-oob\": \"leave\"}",
		" , \"arguments\": {}",
	};
	struct rig *rig = *state;
	struct client c[3] = {{0}};
	unsigned int seed = 7;

	for (int round = 0; round < 50000; round++) {
		struct client *one = &c[rand_r(&seed) % 3];
		const char *piece = pieces[(size_t)rand_r(&seed) % ARRAY_SIZE(pieces)];

		if (!one->session) {
			*one = (struct client){.stalled = false};
			client_open_ready(one, rig, rand_r(&seed) % 2);
		}
		rig->leaver = rand_r(&seed) % 8 ? NULL : &c[rand_r(&seed) % 3];
		rig->end_unwanted = rand_r(&seed) % 2;
		client_send(one, piece, strlen(piece));
		if (rig->nr_pending && rand_r(&seed) % 4 == 0)
			rig_end(rig, NULL, NULL);
		if (one->session && rand_r(&seed) % 64 == 0)
			client_close(one);
		client_clear(one);
	}
	for (int i = 0; i < 3; i++)
		client_close(&c[i]);
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
		T(thousands_of_commands_at_once),
		T(urgent_commands_pass_what_waits),
		T(client_that_does_not_read_waits),
		T(output_may_end_at_any_byte),
		T(client_leaves_while_its_command_runs),
		T(sessions_are_freed_from_inside),
		T(descriptors_belong_to_their_bytes),
		T(human_lines),
		T(huge_messages),
		T(json_runs_out_of_memory),
		T(random_commands_and_rubbish),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
