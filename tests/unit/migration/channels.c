/* SPDX-License-Identifier: BSD-3-Clause */
/* Channels for tests: see channels.h. */
#include "channels.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static int rig_count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int nr = 0;

	assert_non_null(dir);
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

int rig_setup(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	rig->nr_fds = rig_count_fds();
	rig->cancel = cancel_new(NULL);
	assert_non_null(rig->cancel);
	strcpy(rig->folder, "/tmp/ebb-channels-XXXXXX");
	assert_non_null(mkdtemp(rig->folder));
	*state = rig;
	return 0;
}

int rig_teardown(void **state)
{
	struct rig *rig = *state;
	DIR *dir = opendir(rig->folder);
	struct dirent *entry;

	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			assert_int_equal(unlinkat(dirfd(dir), entry->d_name, 0), 0);
	closedir(dir);
	assert_int_equal(rmdir(rig->folder), 0);
	cancel_free(rig->cancel);
	assert_int_equal(rig_count_fds(), rig->nr_fds);
	assert_true(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
	free(rig);
	return 0;
}

const char *rig_path(const struct rig *rig, const char *name)
{
	static char paths[4][128];
	static unsigned int next;
	char *path = paths[next++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", rig->folder, name);
	return path;
}

struct address *rig_address(const char *fmt, ...)
{
	struct address *address = NULL;
	struct err *err = NULL;
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	address_parse(text, &address, &err);
	rig_check_no_err(&err);
	return address;
}

struct address *rig_address_fd(int fd)
{
	struct address *address = rig_address("fd:%d", fd);

	address->fd = fd;
	return address;
}

struct channel *rig_writer(const struct rig *rig, int fd)
{
	struct address *address = rig_address_fd(fd);
	struct channel *channel = NULL;
	struct err *err = NULL;

	channel_connect(address, rig->cancel, &channel, &err);
	rig_check_no_err(&err);
	address_free(address);
	return channel;
}

struct channel *rig_reader(const struct rig *rig, int fd)
{
	struct address *address = rig_address_fd(fd);
	struct channel_listener *listener = NULL;
	struct channel *channel = NULL;
	struct err *err = NULL;

	channel_listen(address, rig->cancel, &listener, &err);
	rig_check_no_err(&err);
	assert_int_equal(channel_accept(listener, 1, -1, &channel, &err), 0);
	channel_listener_free(listener);
	address_free(address);
	return channel;
}

void rig_pair(const struct rig *rig, struct channel *ret_ends[2])
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	ret_ends[0] = rig_writer(rig, fds[0]);
	ret_ends[1] = rig_reader(rig, fds[1]);
}

struct channel *rig_connect(const struct rig *rig, const char *uri, struct err **err)
{
	struct address *address = rig_address("%s", uri);
	struct channel *channel = NULL;

	channel_connect(address, rig->cancel, &channel, err);
	address_free(address);
	return channel;
}

struct channel_listener *rig_listen(const struct rig *rig, const char *uri, struct err **err)
{
	struct address *address = rig_address("%s", uri);
	struct channel_listener *listener = NULL;

	channel_listen(address, rig->cancel, &listener, err);
	address_free(address);
	return listener;
}

int rig_port(const struct channel_listener *listener, size_t i)
{
	struct address_socket s;

	assert_int_equal(channel_socket(listener, i, &s), 0);
	assert_int_equal(s.type, ADDRESS_SOCKET_INET);
	return atoi(s.port);
}

void rig_check_err(struct err **err, int code, const char *sentence)
{
	assert_non_null(*err);
	assert_string_equal(err_message(*err), sentence);
	assert_int_equal(err_code(*err), code);
	err_free(*err);
	*err = NULL;
}

void rig_check_err_around(struct err **err, int code, const char *start, const char *end)
{
	const char *text;

	assert_non_null(*err);
	text = err_message(*err);
	if (strncmp(text, start, strlen(start)) || strlen(text) < strlen(start) + strlen(end) ||
	    strcmp(text + strlen(text) - strlen(end), end))
		fail_msg("'%s' is not '%s...%s'", text, start, end);
	assert_int_equal(err_code(*err), code);
	err_free(*err);
	*err = NULL;
}

void rig_check_no_err(struct err **err)
{
	if (*err)
		fail_msg("%s", err_message(*err));
}

void rig_wait_asleep(int tid)
{
	char path[64], line[256];
	const char *state;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	do {
		FILE *file = fopen(path, "r");

		sched_yield();
		assert_non_null(file);
		assert_non_null(fgets(line, sizeof(line), file));
		fclose(file);
		state = strrchr(line, ')');
	} while (state[2] != 'S');
}

struct sleeper {
	struct rig *rig;
	int tid;
};

static void *rig_cancel_run(void *opaque)
{
	struct sleeper *sleeper = opaque;

	rig_wait_asleep(sleeper->tid);
	cancel_raise(sleeper->rig->cancel);
	free(sleeper);
	return NULL;
}

void rig_cancel_sleeper(struct rig *rig, pthread_t *ret_thread)
{
	struct sleeper *sleeper = malloc(sizeof(*sleeper));

	assert_non_null(sleeper);
	*sleeper = (struct sleeper){rig, gettid()};
	assert_int_equal(pthread_create(ret_thread, NULL, rig_cancel_run, sleeper), 0);
}
