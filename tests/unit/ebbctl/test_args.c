/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line: what each word means, and what is said of words that mean nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "ebbctl/args.h"
#include "ebbctl/human.h"
#include "ebbctl/request.h"

#define WORDS_MAX 16

/* A command line whose words stand between blanks, as argv. */
struct line {
	char text[512];
	char *argv[WORDS_MAX + 1];
	int argc;
	struct args args;
};

static int parse(struct line *line, const char *text, struct err **err)
{
	char *rest = NULL;

	snprintf(line->text, sizeof(line->text), "ebbctl %s", text);
	line->argc = 0;
	for (char *word = strtok_r(line->text, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
		line->argv[line->argc++] = word;
	line->argv[line->argc] = NULL;
	return args_parse(line->argc, line->argv, &line->args, err);
}

static const struct args *good(struct line *line, const char *text)
{
	struct err *err = NULL;

	if (parse(line, text, &err))
		fail_msg("%s: %s", text, err_message(err));
	assert_null(err);
	return &line->args;
}

/* @part stands in the sentence. */
static void bad(const char *text, const char *part)
{
	struct err *err = NULL;
	struct line line;

	assert_true(parse(&line, text, &err) < 0);
	if (!strstr(err_message(err), part))
		fail_msg("%s: '%s' is not in: %s", text, part, err_message(err));
	err_free(err);
}

static void test_commands(void **state)
{
	static const struct {
		const char *text;
		enum args_command command;
	} rows[] = {
		{"--help", ARGS_HELP},
		{"-h", ARGS_HELP},
		{"--version", ARGS_VERSION},
		{"S --help", ARGS_HELP},
		{"S resize --help", ARGS_HELP},
		{"S", ARGS_PROMPT},
		{"S info memory-devices", ARGS_HUMAN},
		{"S virtio-mem reg0 2048 -w", ARGS_HUMAN},
		{"S resize reg0 2G", ARGS_RESIZE},
		{"S resize-all 8G", ARGS_RESIZE_ALL},
		{"S migrate tcp:h:1", ARGS_MIGRATE},
		{"S migrate --detach tcp:h:1", ARGS_MIGRATE},
		{"S save file --wait", ARGS_SAVE},
		{"S jobs", ARGS_JOBS},
		{"S cancel job", ARGS_CANCEL},
		{"S qmp query-status", ARGS_QMP},
		{"S events", ARGS_EVENTS},
		{"S wait STOP", ARGS_WAIT},
		{"S top", ARGS_TOP},
		{"top S", ARGS_TOP},
		{"top A B C --count 3", ARGS_TOP},
	};
	struct line line;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		print_message("%s\n", rows[i].text);
		assert_int_equal(good(&line, rows[i].text)->command, rows[i].command);
	}
}

static void test_values(void **state)
{
	const struct args *args;
	struct line line;

	(void)state;
	args = good(&line, "S resize --wait reg0 --timeout 5m 2G");
	assert_string_equal(args->sockets[0], "S");
	assert_string_equal(args->words[0], "reg0");
	assert_int_equal(args->nr_words, 2);
	assert_true(args->wait);
	assert_int_equal(args->timeout_ms, 300000);
	assert_int_equal(args->size.change, ARGS_TO);
	assert_int_equal(args->size.bytes, 2 * GIB);
	args = good(&line, "S resize reg0 -512M");
	assert_false(args->wait);
	assert_int_equal(args->size.change, ARGS_BY_LESS);
	assert_int_equal(args->size.bytes, 512 * MIB);
	args = good(&line, "S resize reg0 +1");
	assert_int_equal(args->size.change, ARGS_BY_MORE);
	assert_int_equal(args->size.bytes, MIB);
	args = good(&line, "S resize-all 8G --node=1");
	assert_int_equal(args->node, 1);
	assert_int_equal(good(&line, "S resize-all 8G")->node, -1);
	args = good(&line, "top A --interval 250ms B --count=7");
	assert_int_equal(args->nr_sockets, 2);
	assert_string_equal(args->sockets[1], "B");
	assert_int_equal(args->interval_ms, 250);
	assert_int_equal(args->count, 7);
	args = good(&line, "S top");
	assert_int_equal(args->nr_sockets, 1);
	assert_int_equal(args->interval_ms, 1000);
	assert_int_equal(args->count, 0);
	args = good(&line, "S wait STOP --timeout 1500ms");
	assert_int_equal(args->timeout_ms, 1500);
	/* options of the monitor's own commands are the monitor's */
	args = good(&line, "S qmp x --wait");
	assert_int_equal(args->nr_words, 2);
	args = good(&line, "S info --wait");
	assert_int_equal(args->nr_words, 2);
}

static void test_mistakes(void **state)
{
	(void)state;
	bad("", "which monitor?");
	bad("--nix", "--nix: there is no such option");
	bad("S --nix", "--nix: a command is expected");
	bad("top", "top: too few words: top SOCKET...");
	bad("S resize", "resize: too few words: resize ID SIZE");
	bad("S resize reg0", "too few words");
	bad("S resize reg0 1G 2G", "too many words");
	bad("S resize reg0 2Q", "'2Q' is no size");
	bad("S resize reg0 ++2G", "'++2G' is no size");
	bad("S resize reg0 +", "'+' is no size");
	bad("S resize reg0 9999999T", "9999999T is too large");
	bad("S resize reg0 1G --nix", "--nix: there is no such option here");
	bad("S resize reg0 1G --timeout", "--timeout: a value must follow");
	bad("S resize reg0 1G --timeout 5x", "--timeout: '5x' is no time");
	bad("S resize reg0 1G --timeout 0", "--timeout: 0 is out of range");
	bad("S resize reg0 1G --timeout 1500ms", "whole seconds");
	bad("S resize reg0 1G --timeout 99999999999999999999999999h", "out of range");
	bad("S resize reg0 1G --timeout 9999999999", "out of range");
	bad("S resize reg0 1G --node 1", "--node: there is no such option here");
	bad("S resize-all 1G --node -1", "--node: '-1' is not allowed");
	bad("S resize-all +1G --node 1", "--node: +1G is not allowed for a node");
	bad("S jobs all", "jobs: too many words");
	bad("S migrate", "migrate: too few words: migrate URI [--detach]");
	bad("S save a b", "save: too many words: save FILE [--detach]");
	bad("S migrate u --wait --detach", "--wait and --detach do not go together");
	bad("S migrate u --timeout 1s", "--timeout: there is no such option here: migrate URI");
	bad("S wait", "wait: too few words");
	bad("S top --interval 99ms", "--interval: 99ms is too short");
	bad("S top --count 0", "--count: '0' is not allowed");
	bad("S top --count x", "--count: 'x' is not allowed");
	bad("S top more", "top: too many words");
	bad("S qmp", "qmp: too few words");
}

static void check_apply(const char *text, uint64_t now, uint64_t max, uint64_t wanted)
{
	struct args_size size;
	uint64_t bytes = 0;

	assert_int_equal(args_size_parse(text, &size, NULL), 0);
	assert_int_equal(args_size_apply(&size, "reg0", now, max, &bytes, NULL), 0);
	assert_true(bytes == wanted);
}

static void check_apply_bad(const char *text, uint64_t now, uint64_t max, const char *sentence)
{
	struct args_size size;
	struct err *err = NULL;
	uint64_t bytes = 77;

	assert_int_equal(args_size_parse(text, &size, NULL), 0);
	assert_int_equal(args_size_apply(&size, "reg0", now, max, &bytes, &err), -ERANGE);
	assert_string_equal(err_message(err), sentence);
	assert_int_equal(bytes, 77);
	err_free(err);
}

static void test_changes(void **state)
{
	(void)state;
	check_apply("2G", 0, 4 * GIB, 2 * GIB);
	check_apply("4G", 0, 4 * GIB, 4 * GIB);
	check_apply("0", GIB, 4 * GIB, 0);
	check_apply("+1G", GIB, 4 * GIB, 2 * GIB);
	check_apply("-1G", GIB, 4 * GIB, 0);
	check_apply_bad("-2G", GIB, 4 * GIB, "reg0: it has 1 GiB, -2G is less than nothing");
	check_apply_bad("+4G", GIB, 4 * GIB,
			"reg0: +4G is too large: at most 4 GiB is allowed, it has 1 GiB");
	check_apply_bad("8G", GIB, 4 * GIB,
			"reg0: 8G is too large: at most 4 GiB is allowed, it has 1 GiB");
	check_apply_bad("+8388607T", UINT64_MAX, INT64_MAX,
			"reg0: +8388607T is too large: at most 7.99 EiB is allowed, it has "
			"15.99 EiB");
}

static void check_request(const char *wanted, size_t nr, const char *const *words)
{
	struct err *err = NULL;
	json_t *request = NULL;
	char *text;

	if (request_parse((char *const *)words, nr, &request, &err))
		fail_msg("%s", err_message(err));
	text = json_dumps(request, JSON_COMPACT | JSON_SORT_KEYS);
	assert_string_equal(text, wanted);
	free(text);
	json_decref(request);
}

static void check_no_request(const char *part, size_t nr, const char *const *words)
{
	struct err *err = NULL;
	json_t *request = NULL;

	assert_true(request_parse((char *const *)words, nr, &request, &err) < 0);
	assert_null(request);
	if (!strstr(err_message(err), part))
		fail_msg("'%s' is not in: %s", part, err_message(err));
	err_free(err);
}

#define WORDS(...)                                                                         \
	sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *), (const char *const[]) \
	{                                                                                  \
		__VA_ARGS__                                                                \
	}

static void test_requests(void **state)
{
	(void)state;
	check_request("{\"arguments\":{},\"execute\":\"query-status\"}", WORDS("query-status"));
	check_request(
		"{\"arguments\":{\"a\":\"x\",\"b\":1,\"c\":true,\"d\":[1],\"e\":\"\","
		"\"f\":\"1G\",\"g\":\"1\",\"h\":\"a=b\"},\"execute\":\"x\"}",
		WORDS("x", "a=x", "b=1", "c=true", "d=[1]", "e=", "f=1G", "g=\"1\"", "h=a=b"));
	check_request("{\"execute\":\"x\"}", WORDS(" {\"execute\": \"x\"}"));
	check_request("{\"exec-oob\":\"x\"}", WORDS("{\"exec-oob\": \"x\"}"));
	check_no_request("the request is no JSON at column", WORDS("{\"execute\""));
	check_no_request("the request has no command", WORDS("{\"a\": 1}"));
	check_no_request("nothing may follow a request: 'a=1'",
			 WORDS("{\"execute\": \"x\"}", "a=1"));
	check_no_request("'b' is not KEY=VALUE", WORDS("x", "b"));
	check_no_request("'=b' is not KEY=VALUE", WORDS("x", "=b"));
	check_no_request("'a' is given twice", WORDS("x", "a=1", "a=2"));
	check_no_request("is not UTF-8 text", WORDS("x", "a=\xFF"));
	check_no_request("is not UTF-8 text", WORDS("\xFF"));
}

static void check_line(const char *wanted, size_t nr, const char *const *words)
{
	char *line = human_line((char *const *)words, nr);

	assert_string_equal(line, wanted);
	free(line);
}

static void test_lines(void **state)
{
	(void)state;
	check_line("info status", WORDS("info status"));
	check_line("info status", WORDS("info", "status"));
	check_line("a \"b c\" \"\" \"d\\\"e\" f\\g", WORDS("a", "b c", "", "d\"e", "f\\g"));
	check_line("a \"b\\n\\\\ c\"", WORDS("a", "b\n\\ c"));
	assert_true(human_is_quit("quit"));
	assert_true(human_is_quit(" q "));
	assert_false(human_is_quit("quits"));
	assert_false(human_is_quit("qui"));
	assert_false(human_is_quit(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commands), cmocka_unit_test(test_values),
		cmocka_unit_test(test_mistakes), cmocka_unit_test(test_changes),
		cmocka_unit_test(test_requests), cmocka_unit_test(test_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
