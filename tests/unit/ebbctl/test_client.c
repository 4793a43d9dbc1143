/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The connection: greetings of every kind, answers in any order and cut anywhere, errors, ends, and
 * what a hostile monitor may send.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "ebbctl/address.h"
#include "ebbctl/client.h"
#include "ebbctl/frame.h"
#include "ebbctl/human.h"
#include "tests/unit/ebbctl/server.h"

/* Both ends in one thread. */
struct pair {
	struct client *client;
	int fd; /* the monitor's end */
	struct err *err;
	/* what came */
	char log[1024];
};

static void pair_event(void *opaque, const char *name, const json_t *event)
{
	struct pair *pair = opaque;

	(void)event;
	strncat(pair->log, name, sizeof(pair->log) - strlen(pair->log) - 2);
	strcat(pair->log, ";");
}

static const struct client_ops pair_ops = {.event = pair_event};

static int setup(void **state)
{
	struct pair *pair = calloc(1, sizeof(*pair));
	int fds[2];

	assert_non_null(pair);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	pair->client = client_new(fds[0], "sock");
	assert_non_null(pair->client);
	client_set_ops(pair->client, &pair_ops, pair);
	pair->fd = fds[1];
	*state = pair;
	return 0;
}

static int teardown(void **state)
{
	struct pair *pair = *state;

	client_free(pair->client);
	close(pair->fd);
	err_free(pair->err);
	free(pair);
	return 0;
}

/* The monitor says @text, and the client works until it has taken it. */
static int say(struct pair *pair, const char *text, size_t size)
{
	int ret = 0;

	while (!ret && size) {
		ssize_t put = send(pair->fd, text, size, MSG_NOSIGNAL);

		if (put > 0) {
			text += put;
			size -= (size_t)put;
		} else if (errno != EAGAIN) {
			break;
		}
		ret = client_work(pair->client, &pair->err);
	}
	for (int i = 0; !ret && i < 4; i++)
		ret = client_work(pair->client, &pair->err);
	return ret;
}

static int says(struct pair *pair, const char *text)
{
	return say(pair, text, strlen(text));
}

/* What the client said since. */
static const char *heard(struct pair *pair, char buf[4096])
{
	ssize_t got = recv(pair->fd, buf, 4095, 0);

	buf[got > 0 ? got : 0] = '\0';
	return buf;
}

static void greet(struct pair *pair)
{
	char buf[4096];

	assert_int_equal(says(pair, SERVER_GREETING), 0);
	assert_string_equal(heard(pair, buf), "{\"execute\":\"qmp_capabilities\",\"id\":0}\n");
	assert_int_equal(client_state(pair->client), CLIENT_GREETING);
	assert_int_equal(says(pair, "{\"return\": {}, \"id\": 0}\r\n"), 0);
	assert_int_equal(client_state(pair->client), CLIENT_READY);
}

/* A reply into the log: "value;" or "!sentence;". */
static void note(void *opaque, const json_t *value, const struct err *err)
{
	struct pair *pair = opaque;
	char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
	size_t used = strlen(pair->log);

	assert_true(!value != !err);
	snprintf(pair->log + used, sizeof(pair->log) - used, "%s%s;", err ? "!" : "",
		 err ? err_message(err) : text);
	free(text);
}

static void test_greeting(void **state)
{
	struct pair *pair = *state;

	greet(pair);
	assert_string_equal(pair->log, "");
}

/* Cut at every byte, and byte by byte. */
static void test_pieces(void **state)
{
	static const char text[] =
		SERVER_GREETING "{\"return\": {}, \"id\": 0}\r\n"
				"{\r\n    \"event\": \"A}\\\"{\",\r\n    \"timestamp\": {}\r\n}\r\n"
				"{\"event\": \"B\"}{\"event\": \"C\"}\n\n {\"event\": \"D\"}\r\n";
	struct pair *pair;
	void *again;

	(void)state;
	for (size_t cut = 0; cut < sizeof(text); cut++) {
		setup(&again);
		pair = again;
		assert_int_equal(say(pair, text, cut), 0);
		assert_int_equal(say(pair, text + cut, sizeof(text) - 1 - cut), 0);
		assert_int_equal(client_state(pair->client), CLIENT_READY);
		assert_string_equal(pair->log, "A}\"{;B;C;D;");
		teardown(&again);
	}
	setup(&again);
	pair = again;
	for (size_t at = 0; at < sizeof(text) - 1; at++)
		assert_int_equal(say(pair, text + at, 1), 0);
	assert_string_equal(pair->log, "A}\"{;B;C;D;");
	teardown(&again);
}

static void test_answers(void **state)
{
	struct pair *pair = *state;
	char buf[4096];

	greet(pair);
	client_send(pair->client, "one", json_pack("{s:i}", "a", 1), note, pair);
	client_send(pair->client, "two", NULL, note, pair);
	client_send(pair->client, "three", NULL, NULL, NULL);
	assert_int_equal(client_pending(pair->client), 3);
	assert_int_equal(client_work(pair->client, &pair->err), 0);
	assert_string_equal(heard(pair, buf),
			    "{\"execute\":\"one\",\"arguments\":{\"a\":1},\"id\":1}\n"
			    "{\"execute\":\"two\",\"id\":2}\n{\"execute\":\"three\",\"id\":3}\n");
	/* in another order, with an event between, one twice, one that nobody asked for */
	assert_int_equal(says(pair, "{\"return\": 2, \"id\": 2}\n{\"event\": \"E\"}\n"
				    "{\"return\": 2, \"id\": 2}\n{\"return\": 9, \"id\": 77}\n"
				    "{\"return\": 3, \"id\": \"x\"}\n"
				    "{\"return\": [1], \"id\": 1}\n{\"return\": 0, \"id\": 3}\n"),
			 0);
	assert_string_equal(pair->log, "2;E;[1];");
	assert_int_equal(client_pending(pair->client), 0);
}

static void test_errors(void **state)
{
	static const struct {
		const char *class;
		int code;
	} rows[] = {{"CommandNotFound", ENOSYS},
		    {"DeviceNotFound", ENODEV},
		    {"DeviceNotActive", ENXIO},
		    {"GenericError", EREMOTEIO},
		    {"Odd", EREMOTEIO}};
	struct pair *pair = *state;
	char text[256];

	greet(pair);
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		struct err *err = NULL;

		snprintf(text, sizeof(text),
			 "{\"id\": %u, \"error\": {\"class\": \"%s\", \"desc\": \"it is so\"}}\n",
			 i + 1, rows[i].class);
		assert_int_equal(send(pair->fd, text, strlen(text), 0), strlen(text));
		assert_int_equal(client_call(pair->client, "x", NULL, NULL, &err), -rows[i].code);
		assert_string_equal(err_message(err), "it is so");
		err_free(err);
	}
	/* texts that are none, or that would do something to a terminal; an error without an id */
	client_send(pair->client, "x", NULL, note, pair);
	client_send(pair->client, "x", NULL, note, pair);
	client_send(pair->client, "x", NULL, note, pair);
	assert_int_equal(says(pair, "{\"id\": 6, \"error\": {}}{\"id\": 7, \"error\": "
				    "{\"desc\": \"a\\u001b[2J\\nb\"}}{\"error\": {\"desc\": 1}}"),
			 0);
	assert_string_equal(pair->log, "!it failed, and no reason was given;!a\\x1b[2J\\x0ab;"
				       "!it failed, and no reason was given;");
}

static void test_forget(void **state)
{
	struct pair *pair = *state;

	greet(pair);
	client_send(pair->client, "x", NULL, note, pair);
	client_forget(pair->client, pair);
	assert_int_equal(client_pending(pair->client), 1);
	assert_int_equal(says(pair, "{\"return\": 1, \"id\": 1}\n"), 0);
	assert_int_equal(client_pending(pair->client), 0);
	assert_string_equal(pair->log, "");
}

/* The end: every question is ended, once, and later ones at once. */
static void test_end(void **state)
{
	struct pair *pair = *state;

	greet(pair);
	client_send(pair->client, "x", NULL, note, pair);
	client_send(pair->client, "y", NULL, note, pair);
	assert_int_equal(shutdown(pair->fd, SHUT_RDWR), 0);
	while (!client_work(pair->client, &pair->err))
		;
	assert_string_equal(err_message(pair->err), "sock: the connection ended");
	assert_int_equal(client_state(pair->client), CLIENT_OVER);
	client_send(pair->client, "z", NULL, note, pair);
	assert_string_equal(pair->log, "!sock: the connection ended;!sock: the connection ended;"
				       "!sock: the connection ended;");
	assert_int_equal(client_call(pair->client, "z", NULL, NULL, NULL), -ECONNRESET);
}

/* What is said before the end counts. */
static void test_last_words(void **state)
{
	static const char words[] = "{\"return\": {}, \"id\": 1}\n{\"event\": \"SHUTDOWN\"}\n";
	struct pair *pair = *state;

	greet(pair);
	client_send(pair->client, "quit", NULL, note, pair);
	assert_int_equal(send(pair->fd, words, strlen(words), 0), strlen(words));
	assert_int_equal(shutdown(pair->fd, SHUT_RDWR), 0);
	while (!client_work(pair->client, NULL))
		;
	assert_string_equal(pair->log, "{};SHUTDOWN;");
}

static void test_freed_with_questions(void **state)
{
	struct pair *pair = *state;
	int fd = dup(pair->fd);

	greet(pair);
	client_send(pair->client, "x", NULL, note, pair);
	client_free(pair->client);
	assert_string_equal(pair->log, "!sock: the connection ended;");
	pair->client = client_new(fd, "sock");
	assert_non_null(pair->client);
}

/* Greetings that are none. @part of the sentence. */
static void check_no_monitor(const char *text, size_t size, bool end, const char *part)
{
	struct pair *pair;
	void *state;
	int ret;

	setup(&state);
	pair = state;
	ret = say(pair, text, size);
	if (end)
		shutdown(pair->fd, SHUT_RDWR);
	for (int i = 0; !ret && i < 1000; i++)
		ret = client_work(pair->client, &pair->err);
	assert_true(ret < 0);
	if (!strstr(err_message(pair->err), part))
		fail_msg("'%s' is not in: %s", part, err_message(pair->err));
	assert_int_equal(client_state(pair->client), CLIENT_OVER);
	teardown(&state);
}

static void test_no_monitor(void **state)
{
	static char much[CLIENT_BANNER_BYTES + 10];

	(void)state;
	memset(much, 'x', sizeof(much));
#define NO(text, end, part) check_no_monitor(text, sizeof(text) - 1, end, part)
	NO("", true, "is not a monitor: it ended the connection without a greeting");
	NO("{\"QM", true, "it ended the connection without a greeting");
	NO("SSH-2.0-x\r\n", true, "is not a monitor; it says: 'SSH-2.0-x\\x0d\\x0a'");
	NO("{\"hello\": 1}\r\n", false, "is not a monitor; it says: '{\"hello\": 1}'");
	NO("{\"QMP\": 1}\r\n", false, "is not a monitor");
	NO("{]", false, "the monitor sent what is no JSON");
	NO("\033[2J\007\0", true, "it says: '\\x1b[2J\\x07\\x00'");
	check_no_monitor(much, sizeof(much), false, "xxx...'");
	NO(SERVER_GREETING "{\"error\": {\"desc\": \"no\"}}", false,
	   "the monitor takes no commands: no");
#undef NO
}

/* After the greeting: what is no message ends the connection with a sentence. */
static void test_nonsense(void **state)
{
	static const struct {
		const char *text, *part;
	} rows[] = {
		{"hello", "what is no JSON: 'hello'"},
		{"{\"return\": }", "what is no JSON"},
		{"[1]", "what is no JSON"},
		{"{\"a\": 1}", "neither answer nor event"},
		{"{}", "neither answer nor event"},
		{"{\"event\": 1}", "neither answer nor event"},
		{"{\"return\": \"\xFF\"}", "what is no JSON"},
		{"{\"return\": 99999999999999999999}", "what is no JSON"},
		{"{\"return\": \"\\u0000\"}", "what is no JSON"},
		{"{\"return\": 1]}", "what is no JSON"},
	};
	struct pair *pair;
	void *again;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		setup(&again);
		pair = again;
		greet(pair);
		assert_true(says(pair, rows[i].text) < 0);
		if (!strstr(err_message(pair->err), rows[i].part))
			fail_msg("'%s' is not in: %s", rows[i].part, err_message(pair->err));
		teardown(&again);
	}
}

/* Depth and size are bounded. */
static void test_too_much(void **state)
{
	struct pair *pair = *state;
	size_t size = 1024 * 1024;
	char *text = malloc(size);
	int ret = 0;

	assert_non_null(text);
	greet(pair);
	memset(text, '[', size);
	memcpy(text, "{\"return\":", 10);
	for (size_t i = 0; !ret && i < 2 * CLIENT_MESSAGE_BYTES / size; i++) {
		ret = say(pair, text, size);
		memset(text, '[', 10);
	}
	assert_int_equal(ret, -EPROTO);
	assert_non_null(strstr(err_message(pair->err), "more than the 16 MiB allowed"));
	free(text);
}

static void test_too_deep(void **state)
{
	struct pair *pair = *state;
	char *text = malloc(200020);

	assert_non_null(text);
	greet(pair);
	memset(text + 10, '[', 100000);
	memset(text + 100010, ']', 100000);
	memcpy(text, "{\"return\":", 10);
	text[200010] = '}';
	assert_true(say(pair, text, 200011) < 0);
	assert_non_null(strstr(err_message(pair->err), "what is no JSON"));
	free(text);
}

/* Random bytes and damaged messages: a sentence or nothing, never worse. */
static void test_random(void **state)
{
	static const char message[] = "{\"event\": \"A\", \"data\": {\"a\": [1, \"\\u001b\"]}}\r\n"
				      "{\"return\": {\"x\": null}, \"id\": 1}\r\n";
	unsigned int seed = 1;
	void *again;

	(void)state;
	for (int round = 0; round < 2000; round++) {
		char text[sizeof(message)];
		struct pair *pair;

		setup(&again);
		pair = again;
		memcpy(text, message, sizeof(text));
		for (int i = 0; i < 1 + round % 4; i++)
			text[rand_r(&seed) % (sizeof(text) - 1)] = (char)rand_r(&seed);
		if (round % 3)
			greet(pair);
		if (client_state(pair->client) == CLIENT_READY)
			client_send(pair->client, "x", NULL, note, pair);
		if (say(pair, text, sizeof(text) - 1))
			assert_non_null(pair->err);
		teardown(&again);
	}
}

/* ---- the monitor for people ---- */

static void test_human(void **state)
{
	static const char answer[] = "i\033[Kin\033[K\033[Dinfo\033[K\r\nVM: \033[1mrun\r\n(qemu) ";
	struct pair *pair = *state;
	char buf[4096], *text = NULL;
	size_t size = 0;

	assert_int_equal(says(pair, "ebb 1 monitor - type 'help'\r\n(qe"), 0);
	assert_int_equal(client_state(pair->client), CLIENT_GREETING);
	assert_int_equal(says(pair, "mu) "), 0);
	assert_int_equal(client_state(pair->client), CLIENT_HUMAN);
	assert_string_equal(client_text(pair->client, &size),
			    "ebb 1 monitor - type 'help'\r\n(qemu) ");
	/* echo as line editors write it, the answer, the prompt */
	assert_int_equal(send(pair->fd, answer, strlen(answer), 0), strlen(answer));
	client_send(pair->client, "x", NULL, note, pair);
	assert_int_equal(human_call(pair->client, "info", &text, &size, &pair->err), 0);
	assert_int_equal(size, 9);
	assert_memory_equal(text, "VM: run\r\n", 9);
	assert_string_equal(heard(pair, buf), "info\n");
	assert_string_equal(pair->log, "!sock: the connection ended;");
	free(text);
	assert_int_equal(human_call(pair->client, "a\nb", &text, &size, &pair->err), -EINVAL);
}

/* ---- places ---- */

static void check_no_place(const char *where, const char *part)
{
	struct address *address = NULL;
	struct err *err = NULL;
	int ret = address_new(where, &address, &err);

	if (!ret)
		ret = address_connect(address, 1000, 0, &err);
	assert_true(ret < 0);
	if (!strstr(err_message(err), part))
		fail_msg("'%s' is not in: %s", part, err_message(err));
	err_free(err);
	address_free(address);
}

static void test_places(void **state)
{
	char folder[] = "/tmp/ebbctl-XXXXXX", path[64], longer[200];
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct address *address;
	int fd, listener;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/sock", folder);
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	check_no_place("", "'' is no place");
	check_no_place(path, "there is no such file");
	check_no_place(folder, "is a folder: name a socket in it");
	check_no_place(longer, "at most 107 bytes, not 199");
	check_no_place("host:0", "there is no such file");
	check_no_place("host:65536", "there is no such file");
	check_no_place("/a:1", "there is no such file");
	check_no_place("127.0.0.1:1", "127.0.0.1:1: nobody listens there");
	check_no_place("[::1", "there is no such file");
	listener = open(path, O_CREAT | O_WRONLY, 0600);
	check_no_place(path, "is a file, but no socket");
	close(listener);
	unlink(path);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	assert_int_equal(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	check_no_place(path, "nobody listens there");
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(address_new(path, &address, NULL), 0);
	fd = address_connect(address, 0, 0, NULL);
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	close(fd);
	address_free(address);
	close(listener);
	unlink(path);
	rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_greeting, setup, teardown),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test_setup_teardown(test_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forget, setup, teardown),
		cmocka_unit_test_setup_teardown(test_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_last_words, setup, teardown),
		cmocka_unit_test_setup_teardown(test_freed_with_questions, setup, teardown),
		cmocka_unit_test(test_no_monitor),
		cmocka_unit_test(test_nonsense),
		cmocka_unit_test_setup_teardown(test_too_much, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_deep, setup, teardown),
		cmocka_unit_test(test_random),
		cmocka_unit_test_setup_teardown(test_human, setup, teardown),
		cmocka_unit_test(test_places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
