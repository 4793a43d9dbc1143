/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A network that dies, and one that is only slow: in a network namespace of the test's own, whose
 * loopback can be taken down. Without the right to have one it is skipped.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/num.h"
#include "channels.h"

#define DEAD_MS 400 /* a few tries of the kernel's */

static void set_network(bool up)
{
	struct ifreq ifr = {.ifr_name = "lo", .ifr_flags = up ? IFF_UP | IFF_RUNNING : 0};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &ifr), 0);
	close(fd);
}

static void make_pair(struct rig *rig, struct channel *ret_ends[2])
{
	struct err *err = NULL;
	struct channel_listener *l = rig_listen(rig, "tcp:127.0.0.1:0", &err);
	char uri[64];

	rig_check_no_err(&err);
	snprintf(uri, sizeof(uri), "tcp:127.0.0.1:%d", rig_port(l, 0));
	ret_ends[0] = rig_connect(rig, uri, &err);
	rig_check_no_err(&err);
	assert_int_equal(channel_write(ret_ends[0], "x", 1, -1), 0);
	assert_int_equal(channel_accept(l, 1, -1, &ret_ends[1], &err), 0);
	channel_listener_free(l);
	for (int i = 0; i < 2; i++)
		channel_set_dead_ms(ret_ends[i], DEAD_MS);
}

/* Whoever has sent something that was not confirmed knows it, writing or reading. */
static void test_dead(void **state)
{
	struct channel *ends[2];
	uint8_t *bytes = calloc(1, 16 * MIB);
	int64_t from;
	char text[2];

	set_network(true);
	make_pair(*state, ends);
	set_network(false);
	from = cancel_now_ms();
	assert_int_equal(channel_write(ends[1], "y", 1, -1), 0);
	assert_int_equal(channel_write(ends[0], bytes, 16 * MIB, -1), -ETIMEDOUT);
	assert_true(cancel_now_ms() - from >= DEAD_MS);
	assert_int_equal(channel_read(ends[1], text, 2, -1, NULL), -ETIMEDOUT);
	channel_close(ends[0]);
	channel_close(ends[1]);
	free(bytes);
}

struct writer {
	struct channel *channel;
	uint8_t *bytes;
	_Atomic int tid;
	_Atomic int ret;
};

static void *writer_run(void *opaque)
{
	struct writer *writer = opaque;

	writer->tid = gettid();
	writer->ret = channel_write(writer->channel, writer->bytes, 16 * MIB, -1);
	return NULL;
}

/* Whoever only takes nothing for a long time is not dead. */
static void test_busy(void **state)
{
	struct writer writer = {.bytes = calloc(1, 16 * MIB), .ret = 1};
	uint8_t *bytes = malloc(16 * MIB);
	struct channel *ends[2];
	pthread_t thread;
	char byte;

	set_network(true);
	make_pair(*state, ends);
	writer.channel = ends[0];
	assert_int_equal(pthread_create(&thread, NULL, writer_run, &writer), 0);
	while (!writer.tid)
		sched_yield();
	rig_wait_asleep(writer.tid);
	/* meanwhile nothing comes the other way: a wait of that time */
	assert_int_equal(channel_read(ends[0], &byte, 1, 4 * DEAD_MS, NULL), -ETIMEDOUT);
	assert_int_equal(writer.ret, 1);
	assert_int_equal(channel_read(ends[1], bytes, 16 * MIB, -1, NULL), 0);
	pthread_join(thread, NULL);
	assert_int_equal(writer.ret, 0);
	channel_close(ends[0]);
	channel_close(ends[1]);
	free(writer.bytes);
	free(bytes);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(test_dead), TEST(test_busy)};

	if (unshare(CLONE_NEWNET) && unshare(CLONE_NEWUSER | CLONE_NEWNET)) {
		puts("skipped: no right to a network namespace");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
