/* SPDX-License-Identifier: BSD-3-Clause */
/* Numbers and sizes: what is one, what is not, and how they are shown. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/num.h"
#include "qmp/size.h"

static void test_sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t unit, bytes;
	} rows[] = {
		{"0", 1, 0},
		{"1", 1, 1},
		{"1", MIB, MIB},
		{"1B", MIB, 1},
		{"1b", MIB, 1},
		{"1k", 1, KIB},
		{"1K", MIB, KIB},
		{"1m", 1, MIB},
		{"1M", 1, MIB},
		{"4G", 1, 4 * GIB},
		{"4g", 1, 4 * GIB},
		{"1t", 1, TIB},
		{"1P", 1, 1024 * TIB},
		{"0x10", 1, 16},
		{"0X10", KIB, 16 * KIB},
		{"0x10K", 1, 16 * KIB},
		{"0xfG", 1, 15 * GIB},
		{"1.5G", 1, 1536 * MIB},
		{"0.5", MIB, MIB / 2},
		{"0.25K", 1, 256},
		{"1.0", 1, 1},
		{"0.1K", 1, 102},
		{"1.000000000000000000001G", 1, GIB},
		{"0.999999999999999999999999P", 1, (UINT64_C(1) << 50) - 1},
		{"007", 1, 7},
		{"18446744073709551615", 1, UINT64_MAX},
		{"0xffffffffffffffff", 1, UINT64_MAX},
		{"16383P", 1, UINT64_C(16383) << 50},
	};
	uint64_t bytes;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		print_message("%s\n", rows[i].text);
		bytes = ~rows[i].bytes;
		assert_int_equal(size_parse(rows[i].text, rows[i].unit, &bytes), 0);
		assert_true(bytes == rows[i].bytes);
	}
}

static void test_no_sizes(void **state)
{
	static const struct {
		const char *text;
		int ret;
	} rows[] = {
		{"", -EINVAL},
		{" 1", -EINVAL},
		{"1 ", -EINVAL},
		{"+1", -EINVAL},
		{"-1", -EINVAL},
		{"K", -EINVAL},
		{"1KB", -EINVAL},
		{"1KiB", -EINVAL},
		{"1E", -EINVAL},
		{"1.", -EINVAL},
		{".5", -EINVAL},
		{"1.G", -EINVAL},
		{"1.5.5", -EINVAL},
		{"0x", -EINVAL},
		{"0xG", -EINVAL},
		{"0x1.5", -EINVAL},
		{"1,5", -EINVAL},
		{"1e3", -EINVAL},
		{"nan", -EINVAL},
		{"inf", -EINVAL},
		{"\xff", -EINVAL},
		{"1\n", -EINVAL},
		{"16384P", -ERANGE},
		{"18446744073709551616", -ERANGE},
		{"0x10000000000000000", -ERANGE},
		{"18446744073709551615K", -ERANGE},
	};
	uint64_t bytes = 77;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		print_message("%s\n", rows[i].text);
		assert_int_equal(size_parse(rows[i].text, 1, &bytes), rows[i].ret);
		assert_int_equal(bytes, 77);
	}
}

static void test_numbers(void **state)
{
	uint64_t n = 77;

	(void)state;
	assert_int_equal(size_parse_number("12", &n), 0);
	assert_int_equal(n, 12);
	assert_int_equal(size_parse_number("0x1F", &n), 0);
	assert_int_equal(n, 31);
	assert_int_equal(size_parse_number("1K", &n), -EINVAL);
	assert_int_equal(size_parse_number("1.0", &n), -EINVAL);
	assert_int_equal(size_parse_number("", &n), -EINVAL);
	assert_int_equal(size_parse_number("99999999999999999999", &n), -ERANGE);
	assert_int_equal(n, 31);
}

static void test_format(void **state)
{
	char buf[SIZE_TEXT_MAX];

	(void)state;
	assert_string_equal(size_format(0, buf), "0 bytes");
	assert_string_equal(size_format(1023, buf), "1023 bytes");
	assert_string_equal(size_format(4096, buf), "4 KiB");
	assert_string_equal(size_format(4097, buf), "4097 bytes");
	assert_string_equal(size_format(1536 * MIB, buf), "1536 MiB");
	assert_string_equal(size_format(20 * GIB, buf), "20 GiB");
	assert_string_equal(size_format(TIB, buf), "1 TiB");
	assert_string_equal(size_format(UINT64_MAX, buf), "18446744073709551615 bytes");
	assert_string_equal(size_format(UINT64_C(1) << 63, buf), "8388608 TiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_no_sizes),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_format),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
