/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A loop and a folder for each chardev test, and the other end of a chardev: connecting, and looking at
 * what came without waiting for it.
 */
#ifndef TESTS_CHARDEV_ENV_H
#define TESTS_CHARDEV_ENV_H

#include "tests/unit/chardev/chardev_test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct env {
	struct loop *loop;
	char dir[64];
	char path[128];
};

static inline int env_setup(void **state)
{
	struct env *env = calloc(1, sizeof(*env));

	strcpy(env->dir, "/tmp/chardev-test-XXXXXX");
	assert_non_null(mkdtemp(env->dir));
	snprintf(env->path, sizeof(env->path), "%s/it", env->dir);
	env->loop = loop_new_main(NULL);
	assert_non_null(env->loop);
	*state = env;
	return 0;
}

static inline int env_teardown(void **state)
{
	struct env *env = *state;

	loop_free(env->loop);
	unlink(env->path);
	assert_int_equal(rmdir(env->dir), 0); /* nothing else may be left */
	free(env);
	return 0;
}

static inline struct chr_config base_config(enum chr_backend backend)
{
	struct chr_config config;

	chr_config_init(&config);
	config.backend = backend;
	config.id = "c0";
	config.wait = false;
	return config;
}

static inline int unix_connect(const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(un.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	return fd;
}

/* Read what is there now, without waiting. */
static inline size_t read_some(int fd, char *buf, size_t size)
{
	ssize_t n = recv(fd, buf, size, MSG_DONTWAIT);

	return n > 0 ? (size_t)n : 0;
}

static inline bool at_end(int fd)
{
	char c;

	return recv(fd, &c, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, env_setup, env_teardown)

#endif
