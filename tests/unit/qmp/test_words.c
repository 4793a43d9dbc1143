/* SPDX-License-Identifier: BSD-3-Clause */
/* Lists of names: whole ones, beginnings, and what may stand anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "qmp/words.h"

static void test_whole_names(void **state)
{
	(void)state;
	assert_true(words_have("a bc d", "a"));
	assert_true(words_have("a bc d", "bc"));
	assert_true(words_have("a bc d", "d"));
	assert_false(words_have("a bc d", "b"));
	assert_false(words_have("a bc d", "bcd"));
	assert_false(words_have("a bc d", "a bc"));
	assert_false(words_have("a bc d", ""));
	assert_false(words_have("", "a"));
}

static void test_beginnings(void **state)
{
	(void)state;
	assert_true(words_match("usb- tpm", "usb-tablet"));
	assert_true(words_match("usb- tpm", "tpm"));
	assert_false(words_match("usb- tpm", "usb"));
	assert_false(words_match("usb- tpm", "a-tpm"));
	assert_false(words_match("usb- tpm", ""));
	assert_false(words_match("", "usb"));
	assert_true(words_match("tpm *-uhci", "piix3-uhci-2"));
	assert_true(words_match("*-uhci tpm", "tpm-x"));
	assert_false(words_match("*-uhci tpm", "*-uhc"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole_names),
		cmocka_unit_test(test_beginnings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
