/* SPDX-License-Identifier: BSD-3-Clause */
/* Channels over pairs of sockets and pipes: whole buffers, ends, times, cancels in the midst. */
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
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/num.h"
#include "channels.h"

#define MUCH (8 * MIB) /* more than a socket or a pipe holds */

static uint8_t *pattern(size_t size)
{
	uint8_t *bytes = malloc(size);

	assert_non_null(bytes);
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(i * 31 >> 3 ^ i >> 11);
	return bytes;
}

struct job {
	struct channel *channel;
	uint8_t *bytes;
	size_t size, done;
	int ret;
};

static void *read_run(void *opaque)
{
	struct job *job = opaque;

	job->ret = channel_read(job->channel, job->bytes, job->size, -1, &job->done);
	return NULL;
}

/* In parts of all sizes, also empty ones. */
static int write_parts(struct channel *channel, uint8_t *bytes, size_t size)
{
	struct iovec iov[2000];
	size_t nr = 0, at = 0;

	while (nr < ARRAY_SIZE(iov) - 1) {
		size_t n = (nr * 7919) % 4096 & (nr % 5 ? SIZE_MAX : 0);

		iov[nr++] = (struct iovec){bytes + at, num_min(n, size - at)};
		at += iov[nr - 1].iov_len;
	}
	iov[nr++] = (struct iovec){bytes + at, size - at};
	return channel_writev(channel, iov, nr, -1);
}

static void check_much(struct channel *writer, struct channel *reader)
{
	uint8_t *out = pattern(MUCH), *in = calloc(1, MUCH);
	struct job job = {.channel = reader, .bytes = in, .size = MUCH};
	uint64_t before = channel_bytes_read(reader);
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, read_run, &job), 0);
	assert_int_equal(write_parts(writer, out, MUCH), 0);
	pthread_join(thread, NULL);
	assert_int_equal(job.ret, 0);
	assert_int_equal(job.done, MUCH);
	assert_memory_equal(in, out, MUCH);
	assert_int_equal(channel_bytes_read(reader) - before, MUCH);
	free(in);
	free(out);
}

static void test_sockets(void **state)
{
	struct channel *ends[2];
	char text[8];
	size_t done;

	rig_pair(*state, ends);
	assert_true(channel_is_duplex(ends[0]));
	assert_false(channel_is_seekable(ends[0]));
	assert_false(channel_is_command(ends[0]));
	check_much(ends[0], ends[1]);
	check_much(ends[1], ends[0]);
	assert_int_equal(channel_bytes_written(ends[0]), MUCH);
	assert_int_equal(channel_finish(ends[0], -1, NULL), 0);
	assert_int_equal(channel_read(ends[1], text, 0, -1, &done), 0);
	assert_int_equal(channel_read(ends[1], text, 1, -1, &done), -ENODATA);
	assert_int_equal(done, 0);
	/* the other way is open still */
	assert_int_equal(channel_write(ends[1], "back", 4, -1), 0);
	channel_close(ends[1]);
	assert_int_equal(channel_read(ends[0], text, 8, -1, &done), -ENODATA);
	assert_int_equal(done, 4);
	assert_memory_equal(text, "back", 4);
	channel_close(ends[0]);
	channel_close(NULL);
}

/* The flags of a descriptor that others may share are its own again afterwards. */
static void test_pipes(void **state)
{
	int ends[2], shared[2];
	struct channel *writer, *reader;
	size_t done;
	char byte;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	for (int i = 0; i < 2; i++)
		shared[i] = dup(ends[i]);
	reader = rig_reader(*state, ends[0]);
	writer = rig_writer(*state, ends[1]);
	assert_false(channel_is_duplex(writer));
	check_much(writer, reader);
	assert_true(fcntl(shared[0], F_GETFL) & O_NONBLOCK);
	assert_int_equal(channel_finish(writer, -1, NULL), 0);
	channel_close(writer);
	assert_false(fcntl(shared[1], F_GETFL) & O_NONBLOCK);
	close(shared[1]);
	assert_int_equal(channel_read(reader, &byte, 1, -1, &done), -ENODATA);
	channel_close(reader);
	assert_false(fcntl(shared[0], F_GETFL) & O_NONBLOCK);
	close(shared[0]);
}

static void test_reader_gone(void **state)
{
	struct channel *ends[2];
	struct err *err = NULL;
	int fds[2], ret;

	rig_pair(*state, ends);
	channel_close(ends[1]);
	ret = channel_write(ends[0], "x", 1, -1);
	assert_int_equal(ret, -ECONNRESET);
	assert_int_equal(channel_fail(ends[0], ret, "send it", &err), -ECONNRESET);
	rig_check_err_around(&err, ECONNRESET, "fd:", ": cannot send it: the connection was cut");
	assert_int_equal(channel_fail(ends[0], ret, "send it", NULL), -ECONNRESET);
	channel_close(ends[0]);

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	close(fds[0]);
	ends[0] = rig_writer(*state, fds[1]);
	ret = channel_write(ends[0], "x", 1, -1);
	assert_int_equal(ret, -ECONNRESET);
	channel_fail(ends[0], ret, "send it", &err);
	rig_check_err_around(&err, ECONNRESET, "fd:", ": cannot send it: nobody reads it any more");
	channel_close(ends[0]);
}

/* An end with bytes that nobody read is a cut, not an end in order. */
static void test_reset(void **state)
{
	struct channel *ends[2];
	char byte;

	rig_pair(*state, ends);
	assert_int_equal(channel_write(ends[0], "x", 1, -1), 0);
	channel_close(ends[1]);
	assert_int_equal(channel_read(ends[0], &byte, 1, -1, NULL), -ECONNRESET);
	channel_close(ends[0]);
}

static void test_times(void **state)
{
	struct channel *ends[2];
	uint8_t *bytes = pattern(MUCH);
	int64_t from = cancel_now_ms();
	struct err *err = NULL;
	size_t done;

	rig_pair(*state, ends);
	assert_int_equal(channel_write(ends[0], "abc", 3, -1), 0);
	assert_int_equal(channel_read(ends[1], bytes, 4, 20, &done), -ETIMEDOUT);
	assert_int_equal(done, 3);
	assert_int_equal(channel_read(ends[1], bytes, 1, 0, &done), -ETIMEDOUT);
	assert_int_equal(channel_write(ends[0], bytes, MUCH, 20), -ETIMEDOUT);
	assert_true(cancel_now_ms() - from >= 40);
	channel_fail(ends[0], -ETIMEDOUT, "send it", &err);
	rig_check_err_around(&err, ETIMEDOUT,
			     "fd:", ": cannot send it: the other side does not answer");
	channel_close(ends[0]);
	channel_close(ends[1]);
	free(bytes);
}

static void test_cancel_read(void **state)
{
	struct rig *rig = *state;
	struct channel *ends[2];
	struct err *err = NULL;
	pthread_t thread;
	char text[4];
	size_t done;

	rig_pair(rig, ends);
	assert_int_equal(channel_write(ends[0], "abc", 3, -1), 0);
	rig_cancel_sleeper(rig, &thread);
	assert_int_equal(channel_read(ends[1], text, 4, -1, &done), -ECANCELED);
	assert_int_equal(done, 3);
	pthread_join(thread, NULL);
	/* and so it stays, also where nothing would have to be waited for */
	assert_int_equal(channel_write(ends[0], "d", 1, -1), -ECANCELED);
	channel_fail(ends[0], -ECANCELED, "send it", &err);
	rig_check_err_around(&err, ECANCELED, "fd:", ": cannot send it: it was cancelled");
	channel_close(ends[0]);
	channel_close(ends[1]);
}

static void test_cancel_write(void **state)
{
	struct rig *rig = *state;
	uint8_t *bytes = pattern(MUCH);
	struct channel *writer;
	pthread_t thread;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	writer = rig_writer(rig, fds[1]);
	rig_cancel_sleeper(rig, &thread);
	assert_int_equal(channel_write(writer, bytes, MUCH, -1), -ECANCELED);
	pthread_join(thread, NULL);
	channel_close(writer);
	close(fds[0]);
	free(bytes);
}

/* Looking ahead takes nothing away, at any split between what was seen and what was not. */
static void test_peek(void **state)
{
	for (size_t seen = 1; seen <= 8; seen++) {
		struct channel *ends[2];
		char text[9] = "";
		size_t done;

		rig_pair(*state, ends);
		assert_int_equal(channel_write(ends[0], "abcdefgh", 8, -1), 0);
		assert_int_equal(channel_peek(ends[1], text, seen, -1, &done), 0);
		assert_int_equal(done, seen);
		assert_memory_equal(text, "abcdefgh", seen);
		assert_int_equal(channel_read(ends[1], text, 3, -1, &done), 0);
		assert_int_equal(channel_read(ends[1], text + 3, 5, -1, &done), 0);
		assert_string_equal(text, "abcdefgh");
		channel_close(ends[0]);
		channel_close(ends[1]);
	}
}

static void test_peek_short(void **state)
{
	struct channel *ends[2];
	char text[8] = "";
	size_t done;

	rig_pair(*state, ends);
	assert_int_equal(channel_write(ends[0], "abc", 3, -1), 0);
	assert_int_equal(channel_peek(ends[1], text, 8, 0, &done), -ETIMEDOUT);
	channel_close(ends[0]);
	assert_int_equal(channel_peek(ends[1], text, 8, -1, &done), 0);
	assert_int_equal(done, 3);
	assert_int_equal(channel_read(ends[1], text, 8, -1, &done), -ENODATA);
	assert_int_equal(done, 3);
	channel_close(ends[1]);
}

static int connect_fd(struct rig *rig, int fd, struct err **err)
{
	struct address *a = rig_address_fd(fd);
	struct channel *channel = NULL;
	int ret = channel_connect(a, rig->cancel, &channel, err);

	channel_close(channel);
	address_free(a);
	return ret;
}

static void test_bad_descriptors(void **state)
{
	struct rig *rig = *state;
	struct err *err = NULL;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(connect_fd(rig, fds[0], &err), -EBADF);
	rig_check_err_around(&err, EBADF, "fd:", ": the descriptor cannot be written to");
	close(fds[1]);
	assert_int_equal(connect_fd(rig, socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), &err),
			 -EINVAL);
	rig_check_err_around(
		&err, EINVAL, "fd:",
		": the descriptor is another kind of socket; allowed: a connected stream "
		"socket, a pipe, a file");
	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(listen(fds[0], 1), 0);
	assert_int_equal(connect_fd(rig, fds[0], &err), -EINVAL);
	rig_check_err_around(
		&err, EINVAL, "fd:",
		": the descriptor is a socket that listens; allowed: a connected stream "
		"socket, a pipe, a file");
	assert_int_equal(connect_fd(rig, open("/", O_RDONLY | O_CLOEXEC), &err), -EISDIR);
	rig_check_err_around(&err, EISDIR, "fd:", ": that is a folder; allowed: a file");
	assert_int_equal(connect_fd(rig, -1, &err), -EBUSY);
	rig_check_err(&err, EBUSY, "fd:-1: the descriptor was used already");
}

static void test_no_place(void **state)
{
	struct err *err = NULL;

	assert_null(rig_connect(*state, "defer", &err));
	rig_check_err(&err, EINVAL, "defer: there is no place in it to migrate to or from");
	assert_null(rig_listen(*state, "defer", &err));
	rig_check_err(&err, EINVAL, "defer: there is no place in it to migrate to or from");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sockets),         TEST(test_pipes),    TEST(test_reader_gone),
		TEST(test_reset),           TEST(test_times),    TEST(test_cancel_read),
		TEST(test_cancel_write),    TEST(test_peek),     TEST(test_peek_short),
		TEST(test_bad_descriptors), TEST(test_no_place),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
