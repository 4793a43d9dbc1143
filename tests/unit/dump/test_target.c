/* SPDX-License-Identifier: BSD-3-Clause */
/* Where a dump goes: holes, what was there before, and what is left of one that came to nothing. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/num.h"
#include "tests/unit/migration/channels.h"
#include "vmm/dump/target.h"

#define PART (64 * KIB)

static struct dump_target *open_uri(struct rig *rig, const char *path)
{
	struct address *address = rig_address("file:%s", path);
	struct dump_target *target = NULL;
	struct err *err = NULL;

	dump_target_open(address, rig->cancel, &target, &err);
	rig_check_no_err(&err);
	address_free(address);
	return target;
}

static struct dump_target *open_fd(struct rig *rig, int fd)
{
	struct address *address = rig_address_fd(fd);
	struct dump_target *target = NULL;
	struct err *err = NULL;

	dump_target_open(address, rig->cancel, &target, &err);
	rig_check_no_err(&err);
	address_free(address);
	return target;
}

static void put(struct dump_target *target, uint64_t position, int byte)
{
	char bytes[PART];
	struct err *err = NULL;

	memset(bytes, byte, sizeof(bytes));
	dump_target_write(target, position, byte ? bytes : NULL, sizeof(bytes), &err);
	rig_check_no_err(&err);
}

static void check_part(int fd, uint64_t position, int byte)
{
	char bytes[PART], should[PART];

	memset(should, byte, sizeof(should));
	assert_int_equal(pread(fd, bytes, sizeof(bytes), (off_t)position), sizeof(bytes));
	assert_memory_equal(bytes, should, sizeof(bytes));
}

/* Of a file that was long before nothing is left but the dump, whose zeros take no room. */
static void test_holes(void **state)
{
	struct rig *rig = *state;
	const char *path = rig_path(rig, "core");
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct dump_target *target;
	struct err *err = NULL;
	struct stat st;

	assert_int_equal(posix_fallocate(fd, 0, 100 * PART), 0);
	target = open_uri(rig, path);
	assert_false(dump_target_is_stream(target));
	put(target, PART, 0);
	put(target, 2 * PART, 'b');
	put(target, 3 * PART, 0);
	put(target, 0, 'a');
	dump_target_finish(target, 4 * PART, &err);
	rig_check_no_err(&err);
	dump_target_close(target);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 4 * PART);
	assert_true((uint64_t)st.st_blocks * 512 < 3 * PART);
	check_part(fd, 0, 'a');
	check_part(fd, PART, 0);
	check_part(fd, 2 * PART, 'b');
	check_part(fd, 3 * PART, 0);
	close(fd);
}

/* A descriptor's file begins where it stands; what was behind that is overwritten, or stays. */
static void test_overwrites(void **state)
{
	struct rig *rig = *state;
	int fd = open(rig_path(rig, "old"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct dump_target *target;
	struct err *err = NULL;
	char old[PART];
	struct stat st;

	memset(old, 'o', sizeof(old));
	for (unsigned int i = 0; i < 6; i++)
		assert_int_equal(write(fd, old, sizeof(old)), sizeof(old));
	assert_int_equal(lseek(fd, PART, SEEK_SET), PART);
	target = open_fd(rig, dup(fd));
	put(target, 0, 'a');
	put(target, PART, 0);
	dump_target_finish(target, 2 * PART, &err);
	rig_check_no_err(&err);
	dump_target_close(target);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 6 * PART);
	check_part(fd, 0, 'o');
	check_part(fd, PART, 'a');
	check_part(fd, 2 * PART, 0);
	check_part(fd, 3 * PART, 'o');
	close(fd);
}

/* One that was not finished takes no room; also where the file may not grow. */
static void test_unfinished(void **state)
{
	struct rig *rig = *state;
	const char *path = rig_path(rig, "part");
	struct dump_target *target = open_uri(rig, path);
	struct rlimit before, limit;
	struct err *err = NULL;
	char byte = 1;
	struct stat st;

	put(target, 0, 'a');
	getrlimit(RLIMIT_FSIZE, &before);
	limit = (struct rlimit){2 * PART, before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	put(target, PART, 'b');
	assert_int_equal(dump_target_write(target, 2 * PART, &byte, 1, &err), -EFBIG);
	rig_check_err_around(&err, EFBIG, "file:", ": cannot write the dump: File too large");
	assert_int_equal(dump_target_finish(target, 4 * PART, &err), -EFBIG);
	rig_check_err_around(&err, EFBIG, "file:", "as long as the dump: File too large");
	setrlimit(RLIMIT_FSIZE, &before);
	dump_target_close(target);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 0);
}

static void test_streams(void **state)
{
	struct rig *rig = *state;
	struct dump_target *target;
	struct err *err = NULL;
	char bytes[64];
	int ends[2];

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	target = open_fd(rig, ends[1]);
	assert_true(dump_target_is_stream(target));
	dump_target_write(target, 0, "head", 4, &err);
	dump_target_write(target, 4, NULL, 8, &err);
	rig_check_no_err(&err);
	assert_int_equal(read(ends[0], bytes, sizeof(bytes)), 12);
	assert_memory_equal(bytes, "head\0\0\0\0\0\0\0", 12);
	close(ends[0]);
	assert_int_equal(dump_target_write(target, 12, "x", 1, &err), -ECONNRESET);
	rig_check_err_around(&err, ECONNRESET, "fd:", "nobody reads it any more");
	cancel_raise(rig->cancel);
	assert_int_equal(dump_target_write(target, 12, "x", 1, &err), -ECANCELED);
	rig_check_err_around(&err, ECANCELED, "fd:", "it was cancelled");
	dump_target_close(target);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_holes),
		T(test_overwrites),
		T(test_unfinished),
		T(test_streams),
	};

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
