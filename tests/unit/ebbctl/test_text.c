/* SPDX-License-Identifier: BSD-3-Clause */
/* Clean text, whatever came in; sizes, times, rates and bars as people read them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "ebbctl/progress.h"
#include "ebbctl/text.h"

static void check_clean(const char *text, bool utf8, unsigned int flags, const char *wanted)
{
	char *clean = text_clean(text, strlen(text), utf8, flags);

	assert_non_null(clean);
	assert_string_equal(clean, wanted);
	free(clean);
}

static void test_clean(void **state)
{
	(void)state;
	check_clean("reg0", true, 0, "reg0");
	check_clean("a\033[2Jb", true, 0, "a\\x1b[2Jb");
	check_clean("\a\b\177", true, 0, "\\x07\\x08\\x7f");
	check_clean("a\r\nb\tc\rd\n", true, TEXT_LINES, "a\nb\tc\\x0dd\n");
	check_clean("a\nb\t", true, 0, "a\\x0ab\\x09");
	check_clean("gr\xC3\xB6\xC3\x9F", true, 0, "gr\xC3\xB6\xC3\x9F");
	check_clean("gr\xC3\xB6\xC3\x9F", false, 0, "gr??");
	/* C1 control characters, also where a byte alone is one */
	check_clean("\xC2\x9B"
		    "31m",
		    true, 0, "\\u009b31m");
	check_clean("\x9B"
		    "31m",
		    true, 0, "\\x9b31m");
	/* the other direction, invisible ones, a byte order mark, a tag */
	check_clean("\xE2\x80\xAE", true, 0, "\\u202e");
	check_clean("\xE2\x80\x8B", false, 0, "\\u200b");
	check_clean("\xEF\xBB\xBF", true, 0, "\\ufeff");
	check_clean("\xF3\xA0\x80\x81", true, 0, "\\U000e0001");
	/* no UTF-8: too long, a surrogate, beyond the last character, cut */
	check_clean("\xC0\x80", true, 0, "\\xc0\\x80");
	check_clean("\xED\xA0\x80", true, 0, "\\xed\\xa0\\x80");
	check_clean("\xF4\x90\x80\x80", true, 0, "\\xf4\\x90\\x80\\x80");
	check_clean("\xE2\x82", true, 0, "\\xe2\\x82");
	check_clean("\xFF\xFE", true, 0, "\\xff\\xfe");
}

/* Every pair of bytes: nothing that a terminal could act on comes through. */
static void test_clean_all(void **state)
{
	(void)state;
	for (unsigned int pair = 0; pair < 0x10000; pair++) {
		const char text[2] = {(char)(pair >> 8), (char)pair};
		char *clean = text_clean(text, 2, pair & 1, 0);
		size_t size = strlen(clean), at = 0;
		uint32_t c;

		for (; at < size; at += text_next(clean + at, size - at, &c)) {
			text_next(clean + at, size - at, &c);
			assert_true(c >= 0x20 && c != 0x7F && c != UINT32_MAX);
			assert_false(c >= 0x80 && c < 0xA0);
		}
		free(clean);
	}
}

/* A JSON text stays the same value, whatever its strings hold. */
static void test_clean_json(void **state)
{
	static const char *const texts[] = {
		"plain",
		"\177",
		"\xC2\x9B",
		"\xE2\x80\xAE",
		"\xF3\xA0\x80\x81",
		"gr\xC3\xB6\xC3\x9F",
		"a\033b\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		json_t *value = json_pack("{s:s}", "a", texts[i]), *again;
		char *json = json_dumps(value, JSON_INDENT(2));
		char *clean = text_clean_json(json, strlen(json));
		char *plain = text_clean(clean, strlen(clean), true, TEXT_LINES);

		assert_string_equal(clean, plain);
		again = json_loads(clean, 0, NULL);
		assert_true(json_equal(value, again));
		json_decref(value);
		json_decref(again);
		free(json);
		free(clean);
		free(plain);
	}
}

static void test_escapes(void **state)
{
	static const struct {
		const char *text, *wanted;
	} rows[] = {
		{"abc", "abc"},          {"\033[2J\033[Ha\033[1;31mb\033[0m", "ab"},
		{"a\033[3Db\033", "ab"}, {"a\033[", "a"},
		{"a\033[12", "a"},       {"a\033Mb", "ab"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char text[64];
		size_t size;

		strcpy(text, rows[i].text);
		size = text_strip_escapes(text, strlen(text));
		assert_int_equal(size, strlen(rows[i].wanted));
		assert_memory_equal(text, rows[i].wanted, size);
	}
}

static void test_fit(void **state)
{
	(void)state;
	assert_int_equal(text_columns("abc"), 3);
	assert_int_equal(text_columns("gr\xC3\xB6\xC3\x9F"), 4);
	/* two columns each */
	assert_int_equal(text_columns("\xE6\xBC\xA2\xE5\xAD\x97"), 4);
	assert_int_equal(text_fit("abc", 2), 2);
	assert_int_equal(text_fit("abc", 9), 3);
	assert_int_equal(text_fit("\xE6\xBC\xA2\xE5\xAD\x97", 3), 3);
	assert_int_equal(text_fit("abc", 0), 0);
}

static void test_sizes(void **state)
{
	char buf[TEXT_SIZE_MAX];

	(void)state;
	assert_string_equal(text_size(0, buf), "0 bytes");
	assert_string_equal(text_size(1023, buf), "1023 bytes");
	assert_string_equal(text_size(1024, buf), "1 KiB");
	assert_string_equal(text_size(1536 * MIB, buf), "1.5 GiB");
	assert_string_equal(text_size(2 * GIB, buf), "2 GiB");
	assert_string_equal(text_size(2 * GIB - 1, buf), "1.99 GiB");
	assert_string_equal(text_size(GIB + 11 * MIB, buf), "1.01 GiB");
	assert_string_equal(text_size(20 * TIB, buf), "20 TiB");
	assert_string_equal(text_size(UINT64_MAX, buf), "15.99 EiB");
	assert_string_equal(text_seconds(0, buf), "0 s");
	assert_string_equal(text_seconds(59, buf), "59 s");
	assert_string_equal(text_seconds(125, buf), "2 min 5 s");
	assert_string_equal(text_seconds(12000, buf), "3 h 20 min");
}

static void test_rate(void **state)
{
	struct progress_rate rate = {0};

	(void)state;
	assert_int_equal(progress_rate_get(&rate, 0), 0);
	progress_rate_note(&rate, 1000, 100);
	assert_int_equal(progress_rate_get(&rate, 2000), 0);
	progress_rate_note(&rate, 2000, 300);
	assert_int_equal(progress_rate_get(&rate, 2000), 200);
	progress_rate_note(&rate, 3000, 100);
	assert_int_equal(progress_rate_get(&rate, 3000), 0);
	/* what is older than the window does not count */
	progress_rate_note(&rate, 4000, 0);
	progress_rate_note(&rate, 5000, 0);
	assert_int_equal(progress_rate_get(&rate, 5000), -100);
	progress_rate_note(&rate, 60000, 0);
	progress_rate_note(&rate, 64000, 0);
	assert_int_equal(progress_rate_get(&rate, 64000), 0);
	/* many notes in no time; the extremes of the type */
	memset(&rate, 0, sizeof(rate));
	for (unsigned int i = 0; i < 10000; i++)
		progress_rate_note(&rate, 100 + i, i);
	assert_true(rate.count <= PROGRESS_SAMPLES);
	assert_int_equal(progress_rate_get(&rate, 100 + 9999), 1000);
	progress_rate_note(&rate, 200000, UINT64_MAX / 4);
	assert_true(progress_rate_get(&rate, 200000) > 0);
}

static void test_percent(void **state)
{
	(void)state;
	assert_int_equal(progress_percent(0, 0), 100);
	assert_int_equal(progress_percent(0, 10), 0);
	assert_int_equal(progress_percent(5, 10), 50);
	assert_int_equal(progress_percent(9999, 10000), 99);
	assert_int_equal(progress_percent(10, 10), 100);
	assert_int_equal(progress_percent(11, 10), 100);
	assert_int_equal(progress_percent(UINT64_MAX - 1, UINT64_MAX), 99);
}

static void test_bar(void **state)
{
	struct progress p = {.what = "reg0",
			     .done = GIB,
			     .total = 2 * GIB,
			     .size_bytes = 3 * GIB,
			     .target_bytes = 4 * GIB,
			     .target_known = true,
			     .bytes_per_s = (int64_t)(512 * MIB)};
	char buf[1024];

	(void)state;
	assert_string_equal(progress_bar(&p, 79, false, buf, sizeof(buf)),
			    "reg0  3 GiB of 4 GiB  [#############..............]   50 %  "
			    "512 MiB/s  2 s left");
	assert_int_equal(text_columns(buf), 79);
	progress_bar(&p, 79, true, buf, sizeof(buf));
	assert_int_equal(text_columns(buf), 79);
	assert_non_null(strstr(buf, "█░"));
	/* the bar gives way, then the rest */
	assert_string_equal(progress_bar(&p, 55, false, buf, sizeof(buf)),
			    "reg0  3 GiB of 4 GiB   50 %  512 MiB/s  2 s left");
	assert_string_equal(progress_bar(&p, 10, false, buf, sizeof(buf)), "reg0  3 Gi");
	assert_string_equal(progress_bar(&p, 0, false, buf, sizeof(buf)), "");
	for (size_t columns = 0; columns < 300; columns++)
		assert_true(text_columns(progress_bar(&p, columns, true, buf, sizeof(buf))) <=
			    columns);
	assert_string_equal(progress_line(&p, buf, sizeof(buf)),
			    "reg0: 3 GiB of 4 GiB, 50 %, 512 MiB/s");
	p.target_bytes = GIB;
	assert_string_equal(progress_line(&p, buf, sizeof(buf)),
			    "reg0: 3 GiB on the way to 1 GiB, 50 %, 512 MiB/s");
	p.target_known = false;
	p.bytes_per_s = 0;
	assert_string_equal(progress_line(&p, buf, sizeof(buf)), "reg0: 50 %");
	p.done = p.total;
	assert_string_equal(progress_bar(&p, 30, false, buf, sizeof(buf)),
			    "reg0  [###############]  100 %");
	p.total = p.done = 0;
	assert_string_equal(progress_line(&p, buf, sizeof(buf)), "reg0: 100 %");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clean),      cmocka_unit_test(test_clean_all),
		cmocka_unit_test(test_clean_json), cmocka_unit_test(test_escapes),
		cmocka_unit_test(test_fit),        cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_rate),       cmocka_unit_test(test_percent),
		cmocka_unit_test(test_bar),
	};

	setlocale(LC_CTYPE, "C.UTF-8");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
