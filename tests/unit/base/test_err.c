/* SPDX-License-Identifier: BSD-3-Clause */
/* Errors that a person reads: stored once, prefixed, freed; nothing wanted, nothing stored. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"

static void set_stores_code_and_sentence(void **state)
{
	struct err *err = NULL;

	(void)state;
	assert_int_equal(err_set(&err, EINVAL, "size=%d: must be at least %s", 7, "4K"), -EINVAL);
	assert_non_null(err);
	assert_int_equal(err_code(err), EINVAL);
	assert_string_equal(err_message(err), "size=7: must be at least 4K");
	err_free(err);
}

static void null_wants_nothing(void **state)
{
	(void)state;
	assert_int_equal(err_set(NULL, ENOENT, "not %s", "stored"), -ENOENT);
	assert_int_equal(err_prefix(NULL, "x"), -EINVAL);
}

static void no_error(void **state)
{
	struct err *err = NULL;

	(void)state;
	assert_int_equal(err_prefix(&err, "x"), -EINVAL);
	assert_null(err);
	assert_non_null(err_message(NULL));
	assert_int_equal(err_code(NULL), 0);
	err_free(NULL);
}

static void prefixes_stack(void **state)
{
	struct err *err = NULL;

	(void)state;
	err_set(&err, ENOSPC, "no room");
	assert_int_equal(err_prefix(&err, "mem%d", 0), -ENOSPC);
	assert_int_equal(err_prefix(&err, "-object %s", "memory-backend-ram"), -ENOSPC);
	assert_string_equal(err_message(err), "-object memory-backend-ram: mem0: no room");
	assert_int_equal(err_code(err), ENOSPC);
	err_free(err);
}

static void long_sentences_are_whole(void **state)
{
	char text[5000];
	struct err *err = NULL;

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	err_set(&err, EIO, "%s!", text);
	assert_int_equal(strlen(err_message(err)), sizeof(text));
	assert_int_equal(err_message(err)[sizeof(text) - 1], '!');
	err_free(err);
}

/* Text of a person that looks like a format is only text. */
static void formats_in_arguments_are_text(void **state)
{
	struct err *err = NULL;

	(void)state;
	err_set(&err, EINVAL, "%s", "100%n%s");
	err_prefix(&err, "%s", "%d");
	assert_string_equal(err_message(err), "%d: 100%n%s");
	err_free(err);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(set_stores_code_and_sentence),
		cmocka_unit_test(null_wants_nothing),
		cmocka_unit_test(no_error),
		cmocka_unit_test(prefixes_stack),
		cmocka_unit_test(long_sentences_are_whole),
		cmocka_unit_test(formats_in_arguments_are_text),
	};

	return cmocka_run_group_tests_name("base: err", tests, NULL, NULL);
}
