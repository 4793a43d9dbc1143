/* SPDX-License-Identifier: BSD-3-Clause */
/* Lines on standard error: what stands in them, and that a guest's never wait for a reader. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmm/cmdline/config.h"
#include "vmm/vm/report.h"

struct errors {
	int before, in; /* the real standard error; where what is written now comes out */
	char text[4 * 65536];
};

static int setup(void **state)
{
	struct errors *e = calloc(1, sizeof(*e));
	int fds[2];

	assert_non_null(e);
	assert_int_equal(pipe(fds), 0);
	e->before = dup(STDERR_FILENO);
	e->in = fds[0];
	assert_int_equal(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
	close(fds[1]);
	fcntl(e->in, F_SETFL, O_NONBLOCK);
	*state = e;
	return 0;
}

static int teardown(void **state)
{
	struct errors *e = *state;

	dup2(e->before, STDERR_FILENO);
	close(e->before);
	close(e->in);
	free(e);
	return 0;
}

/* All that was written since the last call. */
static const char *taken(struct errors *e)
{
	size_t len = 0;
	ssize_t n;

	while ((n = read(e->in, e->text + len, sizeof(e->text) - 1 - len)) > 0)
		len += (size_t)n;
	e->text[len] = '\0';
	return e->text;
}

static void test_lines(void **state)
{
	struct vm_config config = {.name = (char *)"web"};
	struct errors *e = *state;

	report(NULL, "one %d", 1);
	assert_true(report_guest(NULL, "two %s", "2"));
	report(&config, "three");
	assert_string_equal(taken(e), "ebb: one 1\nebb: two 2\nebb: three\n");
	config.msg_guest_name = true;
	assert_true(report_guest(&config, "four"));
	assert_string_equal(taken(e), "web ebb: four\n");
	config.msg_timestamp = true;
	report(&config, "five");
	/* 2026-01-31T12:00:00.000000Z */
	taken(e);
	assert_int_equal(strspn(e->text, "0123456789-:.TZ"), 27);
	assert_string_equal(e->text + 27, " web ebb: five\n");
	config.name = NULL;
	assert_true(report_guest(&config, "six"));
	assert_string_equal(taken(e) + 27, " ebb: six\n");
}

/* Cut, with its end as a line. */
static void test_long(void **state)
{
	char text[20000];
	struct vm_config config = {.name = text, .msg_guest_name = true};
	struct errors *e = *state;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	report(NULL, "%s", text);
	taken(e);
	assert_int_equal(strcspn(e->text, "\n") + 1, strlen(e->text));
	assert_true(strlen(e->text) > 8000);
	assert_true(report_guest(NULL, "%s", text));
	taken(e);
	assert_int_equal(strcspn(e->text, "\n") + 1, strlen(e->text));
	assert_true(strlen(e->text) <= PIPE_BUF && strlen(e->text) > PIPE_BUF - 8);
	assert_true(report_guest(&config, "the end"));
	assert_non_null(strstr(taken(e), "x ebb: the end\n"));
}

/* Nobody reads: lines are dropped as a whole, and the caller goes on. */
static void test_full(void **state)
{
	struct errors *e = *state;
	unsigned int written = 0, lines = 0;

	while (report_guest(NULL, "line"))
		written++;
	assert_true(written > 100);
	assert_false(report_guest(NULL, "line"));
	for (const char *p = taken(e); *p; p += strlen("ebb: line\n"), lines++)
		assert_memory_equal(p, "ebb: line\n", strlen("ebb: line\n"));
	assert_int_equal(lines, written);
	assert_true(report_guest(NULL, "again"));
	assert_string_equal(taken(e), "ebb: again\n");
}

static void test_nobody(void **state)
{
	(void)state;
	close(STDERR_FILENO);
	report(NULL, "to nobody");
	assert_false(report_guest(NULL, "to nobody"));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_lines),
		TEST(test_long),
		TEST(test_full),
		TEST(test_nobody),
	};

	return cmocka_run_group_tests_name("report", tests, NULL, NULL);
}
