/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands at the other end: what they get, how they end, and that none is left. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/num.h"
#include "channels.h"

static struct channel *run(struct rig *rig, bool to_write, const char *fmt, ...)
{
	struct channel_listener *l;
	struct channel *channel = NULL;
	struct err *err = NULL;
	char uri[512] = "exec:";
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(uri + 5, sizeof(uri) - 5, fmt, ap);
	va_end(ap);
	if (to_write) {
		channel = rig_connect(rig, uri, &err);
		rig_check_no_err(&err);
		return channel;
	}
	l = rig_listen(rig, uri, &err);
	rig_check_no_err(&err);
	assert_int_equal(channel_accept(l, 8, -1, &channel, &err), 0);
	channel_listener_free(l);
	return channel;
}

static void check_read(struct channel *ch, const char *text)
{
	char buf[512];
	size_t done;

	assert_int_equal(channel_read(ch, buf, sizeof(buf) - 1, -1, &done), -ENODATA);
	buf[done] = 0;
	assert_string_equal(buf, text);
}

/* There and back: all of it is there when the command has ended. */
static void test_copy(void **state)
{
	struct rig *rig = *state;
	size_t size = 4 * MIB, done;
	uint8_t *out = malloc(size), *in = malloc(size);
	struct err *err = NULL;
	struct channel *ch;

	for (size_t i = 0; i < size; i++)
		out[i] = (uint8_t)(i ^ i >> 9);
	ch = run(rig, true, "gzip -1 > %s", rig_path(rig, "image.gz"));
	assert_true(channel_is_command(ch));
	assert_false(channel_is_duplex(ch));
	assert_int_equal(channel_write(ch, out, size, -1), 0);
	assert_int_equal(channel_finish(ch, -1, &err), 0);
	channel_close(ch);
	ch = run(rig, false, " gzip -dc %s", rig_path(rig, "image.gz"));
	assert_int_equal(channel_read(ch, in, size, -1, &done), 0);
	assert_memory_equal(in, out, size);
	check_read(ch, "");
	channel_close(ch);
	free(in);
	free(out);
}

/* It sees no descriptor of ours, also none that is open over exec, and no signal is blocked. */
static void test_surroundings(void **state)
{
	struct rig *rig = *state;
	int leak = open("/dev/null", O_RDONLY);
	sigset_t signals, before;
	struct channel *ch;

	sigfillset(&signals);
	pthread_sigmask(SIG_BLOCK, &signals, &before);
	/* 32 and up are the C library's own */
	ch = run(rig, false,
		 "ls /proc/$$/fd; readlink /proc/$$/fd/0; grep SigBlk /proc/self/status; "
		 "ign=0x$(sed -n 's/SigIgn:.//p' /proc/self/status); echo $((ign & 0x7fffffff)); "
		 "test $(cut -d' ' -f5 /proc/$$/stat) = $$ && echo leader");
	check_read(ch, "0\n1\n2\n/dev/null\nSigBlk:\t0000000000000000\n0\nleader\n");
	channel_close(ch);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	ch = run(rig, true, "(ls /proc/$$/fd; cat) > %s", rig_path(rig, "out"));
	assert_int_equal(channel_finish(ch, -1, NULL), 0);
	channel_close(ch);
	ch = run(rig, false, "tr '\\n' ' ' < %s", rig_path(rig, "out"));
	check_read(ch, "0 1 2 ");
	channel_close(ch);
	close(leak);
}

static void test_status(void **state)
{
	struct err *err = NULL;
	struct channel *ch = run(*state, true, "cat > /dev/null; exit 3");

	assert_int_equal(channel_write(ch, "x", 1, -1), 0);
	assert_int_equal(channel_finish(ch, -1, &err), -EIO);
	rig_check_err(&err, EIO, "exec:cat > /dev/null; exit 3: the command ended with status 3");
	channel_close(ch);
	ch = run(*state, true, "kill -TERM $$");
	assert_int_equal(channel_finish(ch, -1, &err), -EIO);
	rig_check_err(&err, EIO, "exec:kill -TERM $$: the command was ended by signal 15 (TERM)");
	channel_close(ch);
}

/* A command that does not read to the end says why itself. */
static void test_early_end(void **state)
{
	uint8_t *bytes = calloc(1, 4 * MIB);
	struct err *err = NULL;
	struct channel *ch = run(*state, true, "exit 7");
	char byte;
	int ret = channel_write(ch, bytes, 4 * MIB, -1);

	assert_int_equal(ret, -ECONNRESET);
	assert_int_equal(channel_fail(ch, ret, "send it", &err), -ECONNRESET);
	rig_check_err(&err, ECONNRESET,
		      "exec:exit 7: cannot send it: the command ended with status 7");
	/* and once more: it is known still */
	channel_fail(ch, ret, "send it", &err);
	rig_check_err(&err, ECONNRESET,
		      "exec:exit 7: cannot send it: the command ended with status 7");
	channel_close(ch);
	ch = run(*state, false, "exit 127");
	ret = channel_read(ch, &byte, 1, -1, NULL);
	channel_fail(ch, ret, "read it", &err);
	rig_check_err(&err, ENODATA,
		      "exec:exit 127: cannot read it: the command ended with status 127");
	channel_close(ch);
	free(bytes);
}

static pid_t read_pid(struct channel *ch)
{
	char text[16];
	size_t n = 0;

	do {
		assert_int_equal(channel_read(ch, text + n, 1, -1, NULL), 0);
	} while (text[n++] != '\n');
	return (pid_t)atoi(text);
}

/* It ends, with all that it started, when the channel is closed. */
static void test_killed(void **state)
{
	struct channel *ch = run(*state, false, "trap '' TERM; sleep 1000 & echo $!; wait");
	struct pollfd pfd = {.fd = (int)syscall(SYS_pidfd_open, read_pid(ch), 0), .events = POLLIN};

	assert_true(pfd.fd >= 0);
	assert_int_equal(poll(&pfd, 1, 0), 0);
	channel_close(ch);
	assert_int_equal(poll(&pfd, 1, 10000), 1);
	close(pfd.fd);
}

static void test_cancel(void **state)
{
	struct rig *rig = *state;
	struct channel *ch = run(rig, true, "sleep 1000");
	struct err *err = NULL;
	pthread_t thread;

	rig_cancel_sleeper(rig, &thread);
	assert_int_equal(channel_finish(ch, -1, &err), -ECANCELED);
	rig_check_err(&err, ECANCELED,
		      "exec:sleep 1000: cannot wait for the command's end: it was cancelled");
	pthread_join(thread, NULL);
	channel_close(ch);
}

static void test_no_end(void **state)
{
	struct channel *ch = run(*state, true, "sleep 1000");
	struct err *err = NULL;

	assert_int_equal(channel_finish(ch, 20, &err), -ETIMEDOUT);
	rig_check_err(&err, ETIMEDOUT, "exec:sleep 1000: the command does not end");
	channel_close(ch);
}

/* A listener whose command nobody accepted ends it, too. */
static void test_unaccepted(void **state)
{
	struct err *err = NULL;
	struct channel_listener *l = rig_listen(*state, "exec:sleep 1000", &err);

	rig_check_no_err(&err);
	channel_listener_free(l);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_copy),      TEST(test_surroundings), TEST(test_status),
		TEST(test_early_end), TEST(test_killed),       TEST(test_cancel),
		TEST(test_no_end),    TEST(test_unaccepted),
	};

	/* What whoever started this ignores, commands would, too: a job in the background SIGQUIT. */
	for (int i = 1; i < SIGRTMIN; i++)
		signal(i, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
