/* SPDX-License-Identifier: BSD-3-Clause */
/* The option grammar: texts, and the JSON that they stand for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/num.h"
#include "qmp/opts.h"

#define ALL (OPTS_JSON | OPTS_LISTS)

static void test_texts(void **state)
{
	static const struct {
		const char *text, *implied;
		unsigned int flags;
		const char *json;
	} rows[] = {
		{"a=1", NULL, 0, "{\"a\":\"1\"}"},
		{"a=1,b=2", NULL, 0, "{\"a\":\"1\",\"b\":\"2\"}"},
		{"x", "k", 0, "{\"k\":\"x\"}"},
		{"x,a=1", "k", 0, "{\"k\":\"x\",\"a\":\"1\"}"},
		{"a=1,x", "k", 0, "{\"a\":\"1\",\"x\":\"on\"}"},
		{"k=x", "k", 0, "{\"k\":\"x\"}"},
		{"x", NULL, 0, "{\"x\":\"on\"}"},
		{"server,nowait", NULL, 0, "{\"server\":\"on\",\"wait\":\"off\"}"},
		{"no", NULL, 0, "{\"no\":\"on\"}"},
		{"nok=1", NULL, 0, "{\"nok\":\"1\"}"},
		{"nofoo", NULL, OPTS_PLAIN, "{\"nofoo\":\"on\"}"},
		{"nofoo", "k", 0, "{\"k\":\"nofoo\"}"},
		{"a=x,,y", NULL, 0, "{\"a\":\"x,y\"}"},
		{"a=x,,,,y,b=1", NULL, 0, "{\"a\":\"x,,y\",\"b\":\"1\"}"},
		{"a=,,", NULL, 0, "{\"a\":\",\"}"},
		{"a=,b=", NULL, 0, "{\"a\":\"\",\"b\":\"\"}"},
		{"x,,y,b=1", "k", 0, "{\"k\":\"x,y\",\"b\":\"1\"}"},
		{"a=b=c", NULL, 0, "{\"a\":\"b=c\"}"},
		{"a=1,", NULL, 0, "{\"a\":\"1\"}"},
		{"a= 1 ", NULL, 0, "{\"a\":\" 1 \"}"},
		{",a=1", "k", 0, "{\"k\":\"\",\"a\":\"1\"}"},
		{"a=1,a=2", NULL, 0, "{\"a\":[\"1\",\"2\"]}"},
		{"a=1,a=2,a=3", NULL, 0, "{\"a\":[\"1\",\"2\",\"3\"]}"},
		{"a.0=1,a.1=2", NULL, ALL, "{\"a\":[\"1\",\"2\"]}"},
		{"a.0=1", NULL, ALL, "{\"a\":[\"1\"]}"},
		{"a.0=1", NULL, 0, "{\"a.0\":\"1\"}"},
		{"a.b=1", NULL, ALL, "{\"a.b\":\"1\"}"},
		{".0=1", NULL, ALL, "{\".0\":\"1\"}"},
		{"{\"a\":1,\"b\":[true]}", "k", ALL, "{\"a\":1,\"b\":[true]}"},
		{"{}", "k", ALL, "{}"},
		{"{", "k", 0, "{\"k\":\"{\"}"},
	};
	json_t *values;
	char *text;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct err *err = NULL;

		print_message("%s\n", rows[i].text);
		assert_int_equal(opts_parse("-x", rows[i].text, rows[i].implied, rows[i].flags,
					    &values, &err),
				 0);
		text = json_dumps(values, JSON_COMPACT);
		assert_string_equal(text, rows[i].json);
		free(text);
		json_decref(values);
	}
}

static void test_wrong(void **state)
{
	static const struct {
		const char *text, *sentence;
	} rows[] = {
		{"", "-x: the argument is empty"},
		{"=1", "-x: an item before '=' or ',' is empty; allowed: key=value,key=value,..."},
		{"a=1,=2",
		 "-x: an item before '=' or ',' is empty; allowed: key=value,key=value,..."},
		{",", "-x: an item before '=' or ',' is empty; allowed: key=value,key=value,..."},
		{"a,,b",
		 "-x: an item before '=' or ',' is empty; allowed: key=value,key=value,..."},
		{"a.1=1", "-x: a.N has to count up from 0 without holes"},
		{"a.0=1,a.2=1", "-x: a.N has to count up from 0 without holes"},
		{"a.99999999999999999999=1", "-x: a.N has to count up from 0 without holes"},
		{"{\"a\":1,\"a\":2}",
		 "-x: wrong JSON at character 10: duplicate object key near '\"a\"'"},
		{"{\"a\":1", "-x: wrong JSON at character 6: '}' expected near end of file"},
		{"{} x", "-x: wrong JSON at character 4: end of file expected near 'x'"},
	};
	json_t *values = NULL;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct err *err = NULL;

		print_message("%s\n", rows[i].text);
		assert_true(opts_parse("-x", rows[i].text, NULL, ALL, &values, &err) < 0);
		assert_null(values);
		assert_string_equal(err_message(err), rows[i].sentence);
		err_free(err);
	}
}

static bool wants_help(const char *text)
{
	json_t *values;
	bool help;

	assert_int_equal(opts_parse("-x", text, "k", 0, &values, NULL), 0);
	help = opts_wants_help(values, "k");
	json_decref(values);
	return help;
}

static void test_help(void **state)
{
	(void)state;
	assert_true(wants_help("help"));
	assert_true(wants_help("?"));
	assert_true(wants_help("x,help"));
	assert_true(wants_help("x,a=1,?"));
	assert_false(wants_help("x"));
	assert_false(wants_help("x,a=help"));
}

/* Bytes that are no text in any encoding, and every pair of special characters. */
static void test_any_bytes(void **state)
{
	static const char bytes[] = "a1,=.n{}\"\\\xff\x01";
	size_t count = sizeof(bytes) - 1;
	json_t *values;
	char text[5] = "";

	(void)state;
	for (size_t n = 0; n < count * count * count * count; n++) {
		struct err *err = NULL;

		text[0] = bytes[n % count];
		text[1] = bytes[n / count % count];
		text[2] = bytes[n / count / count % count];
		text[3] = bytes[n / count / count / count];
		for (unsigned int flags = 0; flags <= ALL; flags++) {
			if (opts_parse("-x", text, n & 1 ? "k" : NULL, flags, &values, &err) < 0) {
				assert_non_null(err);
				err_free(err);
				err = NULL;
			} else {
				assert_true(json_is_object(values));
				json_decref(values);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_wrong),
		cmocka_unit_test(test_help),
		cmocka_unit_test(test_any_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
