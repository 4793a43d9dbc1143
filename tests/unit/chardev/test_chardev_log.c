/* SPDX-License-Identifier: BSD-3-Clause */
/* The log of a chardev: all that its front-end writes, no less and no more, at the log's own pace. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/chardev/chardev_test.h"

#define PIECE_BYTES 1000
#define TOTAL_BYTES (5 * CHR_OUT_LIMIT_BYTES)

struct env {
	struct loop *loop;
	char path[64];
};

static int env_setup(void **state)
{
	struct env *env = calloc(1, sizeof(*env));
	int fd;

	env->loop = loop_new_main(NULL);
	snprintf(env->path, sizeof(env->path), "/tmp/chardev-log-XXXXXX");
	fd = mkstemp(env->path);
	assert_true(env->loop && fd >= 0);
	close(fd);
	*state = env;
	return 0;
}

static int env_teardown(void **state)
{
	struct env *env = *state;

	loop_free(env->loop);
	unlink(env->path);
	free(env);
	return 0;
}

static struct chr_config logged(enum chr_backend backend, int log_fd)
{
	struct chr_config config;

	chr_config_init(&config);
	config.backend = backend;
	config.id = "c";
	config.log_fd = log_fd;
	assert_true(log_fd >= 0);
	return config;
}

/* The byte at @offset of what is written: no two neighbouring pieces are alike. */
static uint8_t byte_at(size_t offset)
{
	return (uint8_t)(offset * 7 + offset / 251);
}

/* Write from @at on until no more is taken or @total is there; where it ends. */
static size_t write_on(struct front *f, size_t at, size_t total)
{
	uint8_t piece[PIECE_BYTES];

	while (at < total) {
		size_t n = num_min(sizeof(piece), total - at), taken;

		for (size_t i = 0; i < n; i++)
			piece[i] = byte_at(at + i);
		taken = chr_port_write(f->port, piece, n);
		at += taken;
		if (taken < n)
			break;
	}
	return at;
}

static void expect_file(const char *path, size_t size)
{
	FILE *in = fopen(path, "r");
	struct stat st;

	assert_non_null(in);
	assert_int_equal(fstat(fileno(in), &st), 0);
	assert_int_equal(st.st_size, size);
	for (size_t i = 0; i < size; i++) {
		if (fgetc(in) != byte_at(i))
			fail_msg("byte %zu of the log is another", i);
	}
	fclose(in);
}

/* Nobody is at the other end, and a log has it all. */
static void all_is_logged(void **state)
{
	struct env *env = *state;
	struct chr_config config = logged(CHR_NULL, open(env->path, O_WRONLY | O_CLOEXEC));
	struct front f = {0};
	struct chardev *chr = must_open(env->loop, &config);
	size_t at = 0;
	int seen;

	must_attach(chr, &f, &front_ops);
	for (;;) {
		seen = f.writable;
		at = write_on(&f, at, TOTAL_BYTES);
		if (at == TOTAL_BYTES)
			break;
		PUMP(env->loop, f.writable > seen);
	}
	chr_port_close(f.port);
	chardev_free(chr);
	expect_file(env->path, TOTAL_BYTES);
}

/* What a slow other end did not take is not in the log either. */
static void no_more_is_logged_than_taken(void **state)
{
	struct env *env = *state;
	struct chr_config config = logged(CHR_SOCKET, open(env->path, O_WRONLY | O_CLOEXEC));
	struct front f = {0};
	struct chardev *chr;
	size_t at = 0, got = 0;
	uint8_t buf[4096];
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	config.fd = fds[0];
	chr = must_open(env->loop, &config);
	must_attach(chr, &f, &front_ops);
	PUMP(env->loop, f.opened == 1);
	while (at < TOTAL_BYTES) {
		int seen = f.writable;
		size_t end = at;
		ssize_t n;

		at = write_on(&f, at, TOTAL_BYTES);
		while (at < TOTAL_BYTES && f.writable == seen && end == at)
			uv_run(loop_uv(env->loop), UV_RUN_NOWAIT);
		while ((n = recv(fds[1], buf, sizeof(buf), MSG_DONTWAIT)) > 0)
			for (ssize_t i = 0; i < n; i++, got++)
				assert_int_equal(buf[i], byte_at(got));
		uv_run(loop_uv(env->loop), UV_RUN_NOWAIT);
	}
	chr_port_close(f.port);
	chardev_free(chr);
	close(fds[1]);
	expect_file(env->path, TOTAL_BYTES);
}

/* A reader of the log that is slow holds up who writes, for so long. */
static void slow_log(void **state)
{
	struct env *env = *state;
	struct front f = {0};
	struct chr_config config;
	struct chardev *chr;
	uint8_t buf[4096];
	size_t at, more, got = 0;
	ssize_t n;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	config = logged(CHR_NULL, fds[1]);
	chr = must_open(env->loop, &config);
	must_attach(chr, &f, &front_ops);
	at = write_on(&f, 0, TOTAL_BYTES);
	assert_in_range(at, CHR_OUT_LIMIT_BYTES, TOTAL_BYTES - 1);
	/* into the pipe goes what fits, and then nothing more */
	do {
		more = at;
		for (int i = 0; i < 100; i++)
			uv_run(loop_uv(env->loop), UV_RUN_NOWAIT);
		at = write_on(&f, at, TOTAL_BYTES);
	} while (at > more);
	assert_true(at < TOTAL_BYTES);
	f.writable = 0;
	while (at < TOTAL_BYTES || got < TOTAL_BYTES) {
		while ((n = read(fds[0], buf, sizeof(buf))) > 0)
			for (ssize_t i = 0; i < n; i++, got++)
				assert_int_equal(buf[i], byte_at(got));
		uv_run(loop_uv(env->loop), UV_RUN_NOWAIT);
		at = write_on(&f, at, TOTAL_BYTES);
	}
	assert_true(f.writable > 0);
	chr_port_close(f.port);
	chardev_free(chr);
	close(fds[0]);
}

/* The front-end goes on without. */
static void log_that_fails(void **state)
{
	struct env *env = *state;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	close(fds[0]);
	for (int i = 0; i < 2; i++) {
		int fd = i ? fds[1] : open("/dev/full", O_WRONLY | O_CLOEXEC);
		struct chr_config config = logged(CHR_NULL, fd);
		struct front f = {0};
		struct chardev *chr = must_open(env->loop, &config);
		size_t at = 0;

		must_attach(chr, &f, &front_ops);
		while (at < TOTAL_BYTES) {
			at = write_on(&f, at, TOTAL_BYTES);
			PUMP(env->loop, at == TOTAL_BYTES || f.writable > 0);
			f.writable = 0;
		}
		chr_port_close(f.port);
		chardev_free(chr);
	}
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, env_setup, env_teardown)
	const struct CMUnitTest tests[] = {
		T(all_is_logged),
		T(no_more_is_logged_than_taken),
		T(slow_log),
		T(log_that_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
