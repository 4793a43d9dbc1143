/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * JSON values out of bytes: in any pieces, one after another, with rubbish between them, and ones
 * that are too long, too deep, or of too many parts.
 */
#include "tests/unit/qmp/rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * What comes out of @size bytes that are given @piece at a time: values, "!" for errors, each with
 * a blank behind it. To be freed.
 */
static char *read_all(const char *buf, size_t size, size_t piece)
{
	struct qmp_stream *stream = qmp_stream_new();
	size_t used, part, count = 0;
	char *out = calloc(1, 1), *text;
	struct err *err;
	json_t *value;
	int ret;

	while (size) {
		part = size < piece ? size : piece;
		err = NULL;
		value = NULL;
		ret = qmp_stream_next(stream, buf, part, &used, &value, &err);
		assert_true(used <= part && (used || ret));
		buf += used;
		size -= used;
		if (!ret)
			continue;
		assert_int_equal(ret > 0, value != NULL);
		assert_int_equal(ret < 0, err != NULL);
		text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : strdup("!");
		if (err)
			assert_memory_equal(err_message(err), "JSON parse error, ", 18);
		out = realloc(out, count + strlen(text) + 2);
		count += (size_t)sprintf(out + count, "%s ", text);
		free(text);
		json_decref(value);
		err_free(err);
	}
	qmp_stream_free(stream);
	return out;
}

static void reads_bytes(const char *buf, size_t size, const char *expected)
{
	static const size_t pieces[] = {1, 2, 3, 7, SIZE_MAX};
	char *out;

	for (size_t i = 0; i < sizeof(pieces) / sizeof(*pieces); i++) {
		out = read_all(buf, size, pieces[i]);
		if (strcmp(out, expected))
			fail_msg("%.*s: '%s' instead of '%s'", (int)size, buf, out, expected);
		free(out);
	}
}

static void reads(const char *text, const char *expected)
{
	reads_bytes(text, strlen(text), expected);
}

static void values_end_where_they_end(void **state)
{
	(void)state;
	reads("", "");
	reads(" \t\r\n", "");
	reads("{}", "{} ");
	reads("{}{}[]", "{} {} [] ");
	reads("{\"a\": [1, {\"b\": \"}\"}]}\r\n[]", "{\"a\":[1,{\"b\":\"}\"}]} [] ");
	reads("{\n\t\"a\":\n\n1\r\n}", "{\"a\":1} ");
	reads("{\"a\": \"\\\"}\\\\\"}[]", "{\"a\":\"\\\"}\\\\\"} [] ");
	reads("{", "");
	reads("{\"a\"", "");
	/* A word or number ends where something else begins. */
	reads("1 2 true null\n", "1 2 true null ");
	reads("1{}", "1 {} ");
	reads("true", "");
	reads("\"a\"\"b\"", "\"a\" \"b\" ");
}

static void strings_stand_in_either_quotes(void **state)
{
	(void)state;
	reads("{'a': 'b'}", "{\"a\":\"b\"} ");
	reads("{'a': 'it\\'s \"so\"'}", "{\"a\":\"it's \\\"so\\\"\"} ");
	reads("{\"a\": \"it's \\' \\\"\"}", "{\"a\":\"it's ' \\\"\"} ");
	reads("{'a': '\\u0041\\n'}", "{\"a\":\"A\\n\"} ");
	reads("''", "\"\" ");
}

static void numbers(void **state)
{
	(void)state;
	reads("{\"a\": 9223372036854775807}", "{\"a\":9223372036854775807} ");
	reads("{\"a\": -9223372036854775808}", "{\"a\":-9223372036854775808} ");
	/* What fits no integer is a real number, also at the end of a value and alone. */
	reads("[9223372036854775808]", "[9.2233720368547758e18] ");
	reads("[-9223372036854775809,1]", "[-9.2233720368547758e18,1] ");
	reads("{\"a\": 10000000000000000000000 }", "{\"a\":1e22} ");
	reads("18446744073709551615\n", "1.8446744073709552e19 ");
	reads("[1e400]", "! ");
	reads("[1e2, 0.5]", "[100.0,0.5] ");
	reads("[01]", "! ");
	reads("[-]", "! ");
	reads("[+1]", "! ");
	reads("[0x10]", "! ");
	reads("[9223372036854775808x]", "! ");
	/* Digits in a string are none of this. */
	reads("[\"9223372036854775808\"]", "[\"9223372036854775808\"] ");
}

static void rubbish_is_told_once(void **state)
{
	(void)state;
	reads("{\"a\" 1}[]", "! [] ");
	reads("{\"a\": 1,}[]", "! [] ");
	reads("{\"a\": x}[]", "! [] ");
	reads("{\"a\": 1, \"a\": 2}[]", "! [] ");
	reads("GET / HTTP/1.1\r\n{}", "! ! ! {} ");
	reads("}\n{}", "! {} ");
	reads("}}}]]],:\n{}", "! {} ");
	reads("{]\n{}", "! {} ");
	reads("[}{}", "! {} ");
	reads("tru\n{}", "! {} ");
	reads("\x7f\n{}", "! {} ");
	reads("{\"a\": \x80}\n{}", "! {} ");
	reads("\xc3\xa4\n{}", "! {} ");
	/* A brace begins a value, the line's end does not end it. */
	reads("[1, \x80, {\n}{}", "! {} {} ");
	/* The line's end in a string is its end, too. */
	reads("{\"a\n{}", "! {} ");
	reads("{\"a\tb\": 1}\n{}", "! {} ");
	reads("{\"a\\\n{}", "! {} ");
	reads("{\"a\\\x80\n{}", "! {} ");
	reads("{\"\\x\"}{}", "! {} ");
	reads("{\"a\": \"\\ud800\"}{}", "! {} ");
	reads("{\"a\": \"\\u0000\"}{}", "! {} ");
	reads("{\"\\u0000\": 1}{}", "! {} ");
}

static void any_stream_can_be_brought_to_a_known_state(void **state)
{
	static const char *const before[] = {
		"",    "{",  "[[[", "{\"a", "{\"a\\",      "{'a",
		"tru", "12", "}",   "\x80", "{\"a\": 1, ", "'",
	};
	static const char resets[] = {'\0', '\x01', '\x1b', '\xfe', '\xff'};
	char buf[64], *out;
	size_t size;

	(void)state;
	for (size_t i = 0; i < sizeof(before) / sizeof(*before); i++) {
		for (size_t j = 0; j < sizeof(resets); j++) {
			size = strlen(before[i]);
			memcpy(buf, before[i], size);
			buf[size++] = resets[j];
			memcpy(buf + size, "[7]", 3);
			out = read_all(buf, size + 3, 1);
			assert_true(strlen(out) >= 4);
			assert_string_equal(out + strlen(out) - 4, "[7] ");
			free(out);
		}
	}
	reads_bytes("{\"a\": \0}\n{}", 11, "! ! {} ");
}

static void utf8_is_strict(void **state)
{
	(void)state;
	reads("[\"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80\"]",
	      "[\"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80\"] ");
	reads("[\"\xc3\"]{}", "! {} ");
	reads("[\"\xe2\x82\"]{}", "! {} ");
	reads("[\"\xc0\xaf\"]{}", "! {} ");
	reads("[\"\xed\xa0\x80\"]{}", "! {} ");
	reads("[\"\xf5\x80\x80\x80\"]{}", "! {} ");
	reads("[\"\x80\"]{}", "! {} ");
}

static void depth_is_bounded(void **state)
{
	size_t size = 200000;
	char *text = malloc(size + 3), *out;

	(void)state;
	for (size_t i = 0; i < QMP_DEPTH_MAX; i++) {
		text[i] = '[';
		text[2 * QMP_DEPTH_MAX - 1 - i] = ']';
	}
	out = read_all(text, 2 * QMP_DEPTH_MAX, SIZE_MAX);
	assert_int_equal(strlen(out), 2 * QMP_DEPTH_MAX + 1);
	free(out);
	memset(text, '[', size);
	memcpy(text + size, "\n{}", 3);
	reads_bytes(text, size + 3, "! {} ");
	free(text);
}

static void parts_are_bounded(void **state)
{
	size_t size = 2 * QMP_TOKENS_MAX + 2;
	char *text = malloc(size), *out;

	(void)state;
	text[0] = '[';
	for (size_t i = 1; i < size; i += 2) {
		text[i] = '1';
		text[i + 1 < size ? i + 1 : i] = ',';
	}
	out = read_all(text, size, SIZE_MAX);
	assert_string_equal(out, "! ");
	free(out);
	free(text);
}

static void length_is_bounded(void **state)
{
	struct qmp_stream *stream = qmp_stream_new();
	static char piece[65536];
	struct err *err = NULL;
	json_t *value = NULL;
	size_t used, sent = 1;
	int ret;

	(void)state;
	memset(piece, 'x', sizeof(piece));
	assert_int_equal(qmp_stream_next(stream, "\"", 1, &used, &value, &err), 0);
	do {
		ret = qmp_stream_next(stream, piece, sizeof(piece), &used, &value, &err);
		sent += used;
	} while (!ret && sent < 2 * (size_t)QMP_INPUT_BYTES);
	assert_int_equal(ret, -E2BIG);
	assert_int_equal(sent, (size_t)QMP_INPUT_BYTES + 1);
	assert_string_equal(err_message(err), "JSON parse error, the value is longer than 16 MiB");
	err_free(err);
	assert_int_equal(qmp_stream_next(stream, "\n[]", 3, &used, &value, &err), 1);
	json_decref(value);
	qmp_stream_free(stream);
	qmp_stream_free(NULL);
}

/* A value as long as is allowed is one. */
static void long_strings_are_read(void **state)
{
	size_t size = 8 * 1024 * 1024;
	char *text = malloc(size);
	struct qmp_stream *stream = qmp_stream_new();
	json_t *value = NULL;
	size_t used;

	(void)state;
	memset(text, 'y', size);
	text[0] = '\'';
	text[size - 1] = '\'';
	assert_int_equal(qmp_stream_next(stream, text, size, &used, &value, NULL), 1);
	assert_int_equal(json_string_length(value), size - 2);
	json_decref(value);
	qmp_stream_free(stream);
	free(text);
}

/* Whatever comes, all of it is read, and a value after a reset is found. */
static void random_bytes(void **state)
{
	static const char alphabet[] = "{}[],:\"'\\ 01.etrufalsn\n\x80\xff\x01u";
	unsigned int seed = 1;
	char buf[512], *out;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		size_t size = (size_t)rand_r(&seed) % 400;

		for (size_t i = 0; i < size; i++)
			buf[i] = rand_r(&seed) % 4
					 ? alphabet[(size_t)rand_r(&seed) % (sizeof(alphabet) - 1)]
					 : (char)rand_r(&seed);
		memcpy(buf + size, "\xff[42]", 5);
		out = read_all(buf, size + 5, 1 + (size_t)rand_r(&seed) % 50);
		assert_true(strlen(out) >= 5);
		assert_string_equal(out + strlen(out) - 5, "[42] ");
		free(out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_end_where_they_end),
		cmocka_unit_test(strings_stand_in_either_quotes),
		cmocka_unit_test(numbers),
		cmocka_unit_test(rubbish_is_told_once),
		cmocka_unit_test(any_stream_can_be_brought_to_a_known_state),
		cmocka_unit_test(utf8_is_strict),
		cmocka_unit_test(depth_is_bounded),
		cmocka_unit_test(parts_are_bounded),
		cmocka_unit_test(length_is_bounded),
		cmocka_unit_test(long_strings_are_read),
		cmocka_unit_test(random_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
