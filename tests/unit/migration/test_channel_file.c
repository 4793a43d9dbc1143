/* SPDX-License-Identifier: BSD-3-Clause */
/* Channels of files: places, offsets, who else may use them, and what is no plain file. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "channels.h"

static struct channel *accept_only(const struct rig *rig, const char *uri)
{
	struct err *err = NULL;
	struct channel_listener *l = rig_listen(rig, uri, &err);
	struct channel *channel = NULL, *none = NULL;

	rig_check_no_err(&err);
	assert_int_equal(channel_nr_sockets(l), 0);
	assert_string_equal(channel_listener_name(l), uri);
	assert_int_equal(channel_accept(l, 8, -1, &channel, &err), 0);
	assert_int_equal(channel_accept(l, 8, -1, &none, &err), -ENODATA);
	assert_null(err);
	channel_listener_free(l);
	return channel;
}

static struct channel *connect_to(const struct rig *rig, const char *uri)
{
	struct err *err = NULL;
	struct channel *channel = rig_connect(rig, uri, &err);

	rig_check_no_err(&err);
	assert_string_equal(channel_name(channel), uri);
	return channel;
}

static void check_content(const char *path, const char *content, size_t size)
{
	char text[64];
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(read(fd, text, sizeof(text)), size);
	assert_memory_equal(text, content, size);
	close(fd);
}

static void put_content(const char *path, const char *content)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, content, strlen(content)), strlen(content));
	close(fd);
}

static void test_stream(void **state)
{
	const char *path = rig_path(*state, "image");
	struct channel *ch;
	uint64_t size;
	struct stat st;
	char uri[160], text[8];
	size_t done;

	snprintf(uri, sizeof(uri), "file:%s", path);
	ch = connect_to(*state, uri);
	assert_true(channel_is_seekable(ch));
	assert_false(channel_is_duplex(ch));
	assert_int_equal(channel_write(ch, "abc", 3, -1), 0);
	assert_int_equal(channel_write(ch, "def", 3, 0), 0);
	assert_int_equal(channel_size(ch, &size), 0);
	assert_int_equal(size, 6);
	assert_int_equal(channel_finish(ch, -1, NULL), 0);
	channel_close(ch);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	ch = accept_only(*state, uri);
	assert_int_equal(channel_peek(ch, text, 2, -1, &done), 0);
	assert_memory_equal(text, "ab", 2);
	assert_int_equal(channel_read(ch, text, 4, -1, &done), 0);
	assert_memory_equal(text, "abcd", 4);
	/* places are not touched by, and do not touch, where reading stands */
	assert_int_equal(channel_pread(ch, text, 2, 1), 0);
	assert_memory_equal(text, "bc", 2);
	assert_int_equal(channel_read(ch, text, 8, -1, &done), -ENODATA);
	assert_int_equal(done, 2);
	assert_memory_equal(text, "ef", 2);
	channel_close(ch);
	/* a second time there is nothing of the first */
	ch = connect_to(*state, uri);
	assert_int_equal(channel_write(ch, "x", 1, -1), 0);
	channel_close(ch);
	check_content(path, "x", 1);
}

static void test_offset(void **state)
{
	const char *path = rig_path(*state, "image");
	struct iovec iov[2] = {{"AB", 2}, {"C", 1}};
	struct channel *ch;
	uint64_t size;
	char uri[160], text[4];
	size_t done;

	put_content(path, "header, and what is behind it");
	snprintf(uri, sizeof(uri), "file:%s,offset=6", path);
	ch = connect_to(*state, uri);
	assert_int_equal(channel_base(ch), 6);
	assert_int_equal(channel_pwritev(ch, iov, 2, 2), 0);
	assert_int_equal(channel_write(ch, "ab", 2, -1), 0);
	assert_int_equal(channel_size(ch, &size), 0);
	assert_int_equal(size, 5);
	assert_int_equal(channel_bytes_written(ch), 5);
	assert_int_equal(channel_finish(ch, -1, NULL), 0);
	channel_close(ch);
	check_content(path, "headerabABC", 11);
	ch = accept_only(*state, uri);
	assert_int_equal(channel_read(ch, text, 4, -1, &done), 0);
	assert_memory_equal(text, "abAB", 4);
	assert_int_equal(channel_pread(ch, text, 1, 4), 0);
	assert_memory_equal(text, "C", 1);
	assert_int_equal(channel_pread(ch, text, 1, 5), -ENODATA);
	assert_int_equal(channel_pread(ch, text, 1, INT64_MAX - 6), -EFBIG);
	assert_int_equal(channel_pread(ch, text, 1, UINT64_MAX), -EFBIG);
	channel_close(ch);
	/* beyond its end there is nothing */
	snprintf(uri, sizeof(uri), "file:%s,offset=100", path);
	ch = accept_only(*state, uri);
	assert_int_equal(channel_size(ch, &size), 0);
	assert_int_equal(size, 0);
	assert_int_equal(channel_read(ch, text, 1, -1, &done), -ENODATA);
	channel_close(ch);
}

/* What is read, or written, is not written by anybody else; several may read. */
static void test_in_use(void **state)
{
	const char *path = rig_path(*state, "image");
	struct channel *one, *two;
	struct err *err = NULL;
	char uri[160], sentence[256];

	put_content(path, "old");
	snprintf(uri, sizeof(uri), "file:%s", path);
	one = accept_only(*state, uri);
	two = accept_only(*state, uri);
	assert_null(rig_connect(*state, uri, &err));
	snprintf(sentence, sizeof(sentence), "%s: the file is in use", uri);
	rig_check_err(&err, EBUSY, sentence);
	channel_close(one);
	channel_close(two);
	check_content(path, "old", 3);
	one = connect_to(*state, uri);
	assert_null(rig_connect(*state, uri, &err));
	rig_check_err(&err, EBUSY, sentence);
	assert_null(rig_listen(*state, uri, &err));
	snprintf(sentence, sizeof(sentence), "%s: the file is in use: it is being written", uri);
	rig_check_err(&err, EBUSY, sentence);
	channel_close(one);
}

/* A descriptor's file begins where it stands, and goes on behind what was written. */
static void test_descriptor(void **state)
{
	const char *path = rig_path(*state, "image");
	int fd, shared;
	struct channel *ch;
	char text[4];

	put_content(path, "12345678");
	fd = open(path, O_RDWR | O_CLOEXEC);
	shared = dup(fd);
	lseek(fd, 2, SEEK_SET);
	ch = rig_writer(*state, fd);
	assert_true(channel_is_seekable(ch));
	assert_int_equal(channel_base(ch), 2);
	assert_int_equal(channel_write(ch, "ab", 2, -1), 0);
	assert_int_equal(channel_finish(ch, -1, NULL), 0);
	channel_close(ch);
	assert_int_equal(lseek(shared, 0, SEEK_CUR), 4);
	assert_false(fcntl(shared, F_GETFL) & O_NONBLOCK);
	close(shared);
	check_content(path, "12ab5678", 8);
	/* where all is appended there are no places */
	ch = rig_writer(*state, open(path, O_RDWR | O_APPEND | O_CLOEXEC));
	assert_false(channel_is_seekable(ch));
	assert_int_equal(channel_pread(ch, text, 1, 0), -ESPIPE);
	assert_int_equal(channel_size(ch, &(uint64_t){0}), -ESPIPE);
	assert_int_equal(channel_write(ch, "9", 1, -1), 0);
	channel_close(ch);
	check_content(path, "12ab56789", 9);
}

static void test_full(void **state)
{
	struct err *err = NULL;
	struct channel *ch = connect_to(*state, "file:/dev/full");
	int ret = channel_write(ch, "x", 1, -1);

	assert_int_equal(ret, -ENOSPC);
	channel_fail(ch, ret, "write the state", &err);
	rig_check_err(&err, ENOSPC,
		      "file:/dev/full: cannot write the state: No space left on device");
	channel_close(ch);
}

/* A limit of the host's ends the writing, not the program. */
static void test_limit(void **state)
{
	struct iovec iov = {"0123456789", 10};
	struct channel *ch;
	char uri[160];

	snprintf(uri, sizeof(uri), "file:%s", rig_path(*state, "image"));
	ch = connect_to(*state, uri);
	assert_int_equal(channel_pwritev(ch, &iov, 1, INT64_MAX - 9), -EFBIG);
	iov = (struct iovec){"0123456789", 10};
	assert_true(channel_pwritev(ch, &iov, 1, INT64_MAX - 10) < 0);
	channel_close(ch);
}

static void test_bad(void **state)
{
	struct err *err = NULL;
	char uri[160], sentence[256];

	assert_null(rig_connect(*state, "file:/none/image", &err));
	rig_check_err(&err, ENOENT, "file:/none/image: cannot open it: No such file or directory");
	assert_null(rig_listen(*state, "file:/none/image", &err));
	rig_check_err(&err, ENOENT, "file:/none/image: cannot open it: No such file or directory");
	assert_null(rig_connect(*state, "file:/", &err));
	rig_check_err(&err, EISDIR, "file:/: cannot open it: Is a directory");
	assert_null(rig_listen(*state, "file:/", &err));
	rig_check_err(&err, EISDIR, "file:/: that is a folder; allowed: a file");
	snprintf(uri, sizeof(uri), "file:%s", rig_path(*state, "pipe"));
	assert_int_equal(mkfifo(rig_path(*state, "pipe"), 0600), 0);
	assert_null(rig_connect(*state, uri, &err));
	snprintf(sentence, sizeof(sentence), "%s: cannot open it: nobody reads from it", uri);
	rig_check_err(&err, ENXIO, sentence);
}

static void *write_late(void *opaque)
{
	struct rig *rig = opaque;
	int fd;

	rig_wait_asleep(getpid());
	fd = open(rig_path(rig, "pipe"), O_WRONLY | O_CLOEXEC);
	assert_int_equal(write(fd, "late", 4), 4);
	close(fd);
	return NULL;
}

/* A named pipe whose writer comes later has not ended. */
static void test_named_pipe(void **state)
{
	struct channel *ch;
	pthread_t thread;
	char uri[160], text[8];
	size_t done;

	assert_int_equal(mkfifo(rig_path(*state, "pipe"), 0600), 0);
	snprintf(uri, sizeof(uri), "file:%s", rig_path(*state, "pipe"));
	ch = accept_only(*state, uri);
	assert_false(channel_is_seekable(ch));
	assert_int_equal(channel_read(ch, text, 1, 0, &done), -ETIMEDOUT);
	assert_int_equal(pthread_create(&thread, NULL, write_late, *state), 0);
	assert_int_equal(channel_read(ch, text, 8, -1, &done), -ENODATA);
	assert_int_equal(done, 4);
	pthread_join(thread, NULL);
	channel_close(ch);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_stream), TEST(test_offset), TEST(test_in_use), TEST(test_descriptor),
		TEST(test_full),   TEST(test_limit),  TEST(test_bad),    TEST(test_named_pipe),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
