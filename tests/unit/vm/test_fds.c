/* SPDX-License-Identifier: BSD-3-Clause */
/* Descriptors that were handed over: none is lost, none is closed twice. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/vm/fds.h"

#define OPEN_MAX_TRIED 1024

static unsigned int open_count(void)
{
	unsigned int count = 0;

	for (int fd = 0; fd < OPEN_MAX_TRIED; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* What is there before a test is there after it. */
static int setup(void **state)
{
	static unsigned int before;

	before = open_count();
	*state = &before;
	return 0;
}

static int teardown(void **state)
{
	const unsigned int *before = *state;

	return open_count() == *before ? 0 : -1;
}

static int null_open(int flags)
{
	int fd = open("/dev/null", flags);

	assert_true(fd >= 0);
	return fd;
}

static void check_error(int ret, struct err **err, int code, const char *sentence)
{
	assert_string_equal(err_message(*err), sentence);
	assert_int_equal(err_code(*err), code);
	assert_int_equal(ret, -code);
	err_free(*err);
	*err = NULL;
}

static void check_sets(const struct fds *fds, const char *expected)
{
	json_t *sets = fds_sets(fds);
	char *text = json_dumps(sets, JSON_COMPACT | JSON_SORT_KEYS);

	assert_string_equal(text, expected);
	free(text);
	json_decref(sets);
}

static int64_t add(struct fds *fds, int64_t set, int fd, const char *opaque)
{
	int64_t given = -1;

	assert_int_equal(
		fds_set_add(fds, "add-fd", set < 0 ? NULL : &set, fd, opaque, &given, NULL), 0);
	return given;
}

static void test_sets(void **state)
{
	struct fds *fds = fds_new();
	int64_t fd;
	int a, b, c, d;
	char text[256];

	(void)state;
	check_sets(fds, "[]");
	assert_int_equal(add(fds, 7, a = null_open(O_RDWR), NULL), 7);
	assert_int_equal(add(fds, -1, b = null_open(O_RDWR), "x:y"), 0);
	assert_int_equal(add(fds, 1, c = null_open(O_RDWR), "\xff"), 1);
	assert_int_equal(add(fds, 0, d = null_open(O_RDONLY), ""), 0);
	/* A name is in no set. */
	assert_int_equal(fds_name(fds, "getfd", "n", null_open(O_RDWR), NULL), 0);
	snprintf(text, sizeof(text),
		 "[{\"fds\":[{\"fd\":%d,\"opaque\":\"x:y\"},{\"fd\":%d,\"opaque\":\"\"}],"
		 "\"fdset-id\":0},{\"fds\":[{\"fd\":%d}],\"fdset-id\":1},"
		 "{\"fds\":[{\"fd\":%d}],\"fdset-id\":7}]",
		 b, d, c, a);
	check_sets(fds, text);
	assert_true(fcntl(a, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(add(fds, -1, null_open(O_RDWR), NULL), 2);
	/* One of a set, all of a set, the last of a set: the number is free again. */
	fd = b;
	assert_int_equal(fds_set_remove(fds, "remove-fd", 0, &fd, NULL), 0);
	assert_int_equal(fcntl(b, F_GETFD), -1);
	assert_int_equal(fds_set_remove(fds, "remove-fd", 1, NULL, NULL), 0);
	assert_int_equal(fds_set_remove(fds, "remove-fd", 2, NULL, NULL), 0);
	snprintf(text, sizeof(text),
		 "[{\"fds\":[{\"fd\":%d,\"opaque\":\"\"}],\"fdset-id\":0},"
		 "{\"fds\":[{\"fd\":%d}],\"fdset-id\":7}]",
		 d, a);
	check_sets(fds, text);
	assert_int_equal(add(fds, -1, null_open(O_RDWR), NULL), 1);
	fds_free(fds);
	assert_int_equal(fcntl(a, F_GETFD), -1);
}

static void test_set_errors(void **state)
{
	struct fds *fds = fds_new();
	char text[FDS_TEXT_MAX + 2];
	int64_t set = -1, given, fd = 5000;
	struct err *err = NULL;
	int ret;

	(void)state;
	ret = fds_set_add(fds, "add-fd", &set, null_open(O_RDWR), NULL, &given, &err);
	check_error(ret, &err, EINVAL, "add-fd: fdset-id=-1 is not possible; allowed: 0 and more");
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	set = 1;
	ret = fds_set_add(fds, "add-fd", &set, null_open(O_RDWR), text, &given, &err);
	check_error(ret, &err, EINVAL,
		    "add-fd: 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...' is too long; allowed: 255 "
		    "bytes");
	ret = fds_set_add(fds, "add-fd", &set, 5000, NULL, &given, &err);
	check_error(ret, &err, EBADF, "add-fd: the descriptor is not open");
	ret = fds_set_remove(fds, "remove-fd", 1, NULL, &err);
	check_error(ret, &err, ENOENT, "remove-fd: there is no set 1");
	add(fds, 1, null_open(O_RDONLY), NULL);
	ret = fds_set_remove(fds, "remove-fd", 1, &fd, &err);
	check_error(ret, &err, ENOENT, "remove-fd: there is no descriptor 5000 in set 1");
	/* Names have no number that could be asked for. */
	assert_int_equal(fds_name(fds, "getfd", "n", null_open(O_RDWR), NULL), 0);
	ret = fds_set_remove(fds, "remove-fd", -1, NULL, &err);
	check_error(ret, &err, ENOENT, "remove-fd: there is no set -1");
	fds_free(fds);
}

static void test_open(void **state)
{
	struct fds *fds = fds_new();
	struct err *err = NULL;
	struct stat a, b;
	int fd, ret, pipes[2];

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(fstat(pipes[1], &a), 0);
	add(fds, 3, pipes[0], NULL);
	ret = fds_set_open(fds, "-chardev", 3, &fd, &err);
	check_error(ret, &err, ENOENT,
		    "-chardev: there is no descriptor that can be written to in set 3");
	add(fds, 3, pipes[1], NULL);
	assert_int_equal(fds_set_open(fds, "-chardev", 3, &fd, NULL), 0);
	assert_int_not_equal(fd, pipes[1]);
	/* It outlives the set. */
	assert_int_equal(fds_set_remove(fds, "remove-fd", 3, NULL, NULL), 0);
	assert_int_equal(fstat(fd, &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	ret = fds_set_open(fds, "-chardev", -1, &fd, &err);
	check_error(ret, &err, ENOENT,
		    "-chardev: there is no descriptor that can be written to in set -1");
	fds_free(fds);
}

static void test_names(void **state)
{
	static const char *const bad[] = {"", "7", "7up"};
	struct fds *fds = fds_new();
	struct err *err = NULL;
	int a = null_open(O_RDWR), b = null_open(O_RDWR), fd, ret;

	(void)state;
	assert_int_equal(fds_name(fds, "getfd", "migrate", a, NULL), 0);
	/* The name's older one goes. */
	assert_int_equal(fds_name(fds, "getfd", "migrate", b, NULL), 0);
	assert_int_equal(fcntl(a, F_GETFD), -1);
	assert_int_equal(fds_name(fds, "getfd", "other", null_open(O_RDWR), NULL), 0);
	assert_int_equal(fds_take(fds, "closefd", "migrate", &fd, NULL), 0);
	assert_int_equal(fd, b);
	close(fd);
	ret = fds_take(fds, "closefd", "migrate", &fd, &err);
	check_error(ret, &err, ENOENT, "closefd: there is no descriptor of the name migrate");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char sentence[128];

		ret = fds_name(fds, "getfd", bad[i], null_open(O_RDWR), &err);
		snprintf(sentence, sizeof(sentence),
			 "getfd: fdname=%s is not possible; allowed: a name that does not start "
			 "with a digit",
			 bad[i]);
		check_error(ret, &err, EINVAL, sentence);
	}
	/* A remark is no name. */
	add(fds, 0, null_open(O_RDWR), "remark");
	ret = fds_take(fds, "closefd", "remark", &fd, &err);
	check_error(ret, &err, ENOENT, "closefd: there is no descriptor of the name remark");
	fds_free(fds);
}

static void test_limit(void **state)
{
	struct fds *fds = fds_new();
	struct err *err = NULL;
	int64_t set = 0, given;
	int ret;

	(void)state;
	for (unsigned int i = 0; i < FDS_MAX; i++) {
		char name[16];

		snprintf(name, sizeof(name), "n%u", i);
		if (i % 2)
			add(fds, FDS_MAX - i, null_open(O_RDWR), NULL);
		else
			assert_int_equal(fds_name(fds, "getfd", name, null_open(O_RDWR), NULL), 0);
	}
	ret = fds_set_add(fds, "add-fd", &set, null_open(O_RDWR), NULL, &given, &err);
	check_error(ret, &err, EMFILE, "add-fd: there are too many descriptors; allowed: 256");
	ret = fds_name(fds, "getfd", "m", null_open(O_RDWR), &err);
	check_error(ret, &err, EMFILE, "getfd: there are too many descriptors; allowed: 256");
	/* In the place of another there is room. */
	assert_int_equal(fds_name(fds, "getfd", "n0", null_open(O_RDWR), NULL), 0);
	fds_free(fds);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sets),  TEST(test_set_errors), TEST(test_open),
		TEST(test_names), TEST(test_limit),
	};

	return cmocka_run_group_tests_name("fds", tests, NULL, NULL);
}
