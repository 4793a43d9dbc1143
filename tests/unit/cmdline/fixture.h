/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Command lines as text: words separated by single spaces; '' is an empty word. The tests run in a
 * folder of their own with two empty files, K (a kernel) and I (an initial RAM disk).
 */
#ifndef TESTS_UNIT_CMDLINE_FIXTURE_H
#define TESTS_UNIT_CMDLINE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vmm/cmdline/cmdline.h"

struct error_row {
	const char *line;
	int code;
	const char *sentence;
};

/* For cmocka_run_group_tests(). */
int fixture_setup(void **state);
int fixture_teardown(void **state);

/* cmdline_parse() of the words of @line. */
int fixture_parse(const char *line, struct vm_config **ret_config, struct err **err);

/* The configuration of @line, which has to be right. */
struct vm_config *fixture_config(const char *line);

/* Every row fails with its code and its sentence, and leaves the result alone. */
void fixture_check_errors(const struct error_row *rows, size_t count);

#endif
