/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Chardevs over socket pairs, files and nothing: flow control both ways, writers on other threads, what
 * is left behind, several front-ends of one.
 */
#include "tests/unit/chardev/chardev_env.h"

#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>

static void null_takes_everything(void **state)
{
	struct env *env = *state;
	struct chr_config config = base_config(CHR_NULL);
	struct chardev *chr = must_open(env->loop, &config);
	struct front f = {.room = SIZE_MAX};
	char big[100000] = {0}, *name;

	must_attach(chr, &f, &front_ops);
	assert_int_equal(chr_port_write(f.port, big, sizeof(big)), sizeof(big));
	name = chardev_filename(chr);
	assert_string_equal(name, "null");
	free(name);
	chr_port_close(f.port);
	chardev_free(chr);
}

static void second_front_end_is_refused(void **state)
{
	struct env *env = *state;
	struct chr_config config = base_config(CHR_NULL);
	struct chardev *chr = must_open(env->loop, &config);
	struct front f = {0}, g = {0};
	struct err *err = NULL;

	must_attach(chr, &f, &front_ops);
	assert_true(chardev_in_use(chr));
	assert_int_equal(chardev_attach(chr, &front_ops, &g, &g.port, &err), -EBUSY);
	assert_non_null(strstr(err_message(err), "'c0' is in use"));
	err_free(err);
	chr_port_close(f.port);
	assert_false(chardev_in_use(chr));
	must_attach(chr, &g, &front_ops);
	chr_port_close(g.port);
	chardev_free(chr);
}

static struct chardev *pair_open(struct env *env, int *ret_peer)
{
	struct chr_config config = base_config(CHR_SOCKET);
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	config.fd = fds[0];
	*ret_peer = fds[1];
	return must_open(env->loop, &config);
}

static void connected_fd_carries_both_ways(void **state)
{
	struct env *env = *state;
	struct front f = {.room = SIZE_MAX};
	char buf[16] = "";
	int peer;
	struct chardev *chr = pair_open(env, &peer);

	must_attach(chr, &f, &front_ops);
	PUMP(env->loop, f.opened == 1);
	assert_int_equal(write(peer, "hello", 5), 5);
	PUMP(env->loop, front_has(&f, "hello"));
	assert_int_equal(chr_port_write(f.port, "back", 4), 4);
	PUMP(env->loop, read_some(peer, buf, sizeof(buf)) == 4);
	assert_memory_equal(buf, "back", 4);
	close(peer);
	PUMP(env->loop, f.closed == 1);
	/* I2: nobody is there, output is dropped. */
	assert_int_equal(chr_port_write(f.port, "gone", 4), 4);
	chr_port_close(f.port);
	chardev_free(chr);
}

static void input_waits_for_room(void **state)
{
	struct env *env = *state;
	struct front f = {.room = 3};
	int peer;
	struct chardev *chr = pair_open(env, &peer);

	must_attach(chr, &f, &front_ops);
	assert_int_equal(write(peer, "abcdefgh", 8), 8);
	PUMP(env->loop, f.in_count == 3);
	/* Nothing more comes, however often the loop runs. */
	uv_run(loop_uv(env->loop), UV_RUN_NOWAIT);
	uv_run(loop_uv(env->loop), UV_RUN_NOWAIT);
	assert_int_equal(f.in_count, 3);
	f.room = 1;
	chr_port_resume(f.port);
	PUMP(env->loop, f.in_count == 4);
	f.room = SIZE_MAX;
	chr_port_resume(f.port);
	PUMP(env->loop, front_has(&f, "abcdefgh"));
	chr_port_close(f.port);
	chardev_free(chr);
	close(peer);
}

static void output_is_bounded_and_resumes(void **state)
{
	struct env *env = *state;
	struct front f = {.room = SIZE_MAX};
	static uint8_t block[65536];
	uint8_t buf[4096];
	size_t taken, total = 0, got = 0, n, i;
	int peer;
	struct chardev *chr = pair_open(env, &peer);

	must_attach(chr, &f, &front_ops);
	PUMP(env->loop, f.opened == 1);
	/* Fill the socket, the stream's buffer and the ring. */
	for (;;) {
		for (i = 0; i < sizeof(block); i++)
			block[i] = (uint8_t)((total + i) % 251);
		taken = chr_port_write(f.port, block, sizeof(block));
		total += taken;
		if (!taken)
			break;
		for (i = 0; i < 4; i++)
			uv_run(loop_uv(env->loop), UV_RUN_NOWAIT);
	}
	assert_int_equal(f.writable > 0 ? f.in_count : 0, 0);
	f.writable = 0;
	assert_int_equal(chr_port_write(f.port, block, 1), 0);
	while (got < total) {
		n = read_some(peer, (char *)buf, sizeof(buf));
		for (i = 0; i < n; i++)
			assert_int_equal(buf[i], (got + i) % 251);
		got += n;
		if (!n)
			uv_run(loop_uv(env->loop), UV_RUN_ONCE);
	}
	PUMP(env->loop, f.writable == 1);
	assert_int_equal(chr_port_write(f.port, block, 1), 1);
	close(peer);
	chr_port_close(f.port);
	chardev_free(chr);
}

struct writer {
	struct chr_port *port;
	size_t total;
	bool done;
};

static void *writer_main(void *arg)
{
	struct writer *w = arg;
	uint8_t buf[1000];
	size_t sent = 0, i, n;

	while (sent < w->total) {
		n = num_min(sizeof(buf), w->total - sent);
		for (i = 0; i < n; i++)
			buf[i] = (uint8_t)((sent + i) % 251);
		sent += chr_port_write(w->port, buf, n);
		chr_port_resume(w->port);
	}
	__atomic_store_n(&w->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void another_thread_writes(void **state)
{
	struct env *env = *state;
	struct front f = {.room = SIZE_MAX};
	struct writer w = {.total = 2000000};
	pthread_t thread;
	uint8_t buf[8192];
	size_t got = 0, n, i;
	int peer;
	struct chardev *chr = pair_open(env, &peer);

	must_attach(chr, &f, &front_ops);
	PUMP(env->loop, f.opened == 1);
	w.port = f.port;
	assert_int_equal(pthread_create(&thread, NULL, writer_main, &w), 0);
	while (got < w.total) {
		n = read_some(peer, (char *)buf, sizeof(buf));
		for (i = 0; i < n; i++)
			assert_int_equal(buf[i], (got + i) % 251);
		got += n;
		uv_run(loop_uv(env->loop), UV_RUN_NOWAIT);
	}
	pthread_join(thread, NULL);
	assert_true(w.done);
	close(peer);
	chr_port_close(f.port);
	chardev_free(chr);
}

static void what_is_left_is_sent_at_the_end(void **state)
{
	struct env *env = *state;
	struct front f = {.room = SIZE_MAX};
	char buf[16];
	int peer;
	struct chardev *chr = pair_open(env, &peer);

	must_attach(chr, &f, &front_ops);
	chr_port_write(f.port, "last words", 10);
	chr_port_close(f.port);
	chardev_free(chr);
	assert_int_equal(read_some(peer, buf, sizeof(buf)), 10);
	close(peer);
}

static size_t file_size(const char *path)
{
	struct stat st;

	return stat(path, &st) ? 0 : (size_t)st.st_size;
}

static void file_is_written_and_appended(void **state)
{
	struct env *env = *state;
	struct chr_config config = base_config(CHR_FILE);
	struct front f = {0};
	struct writer w = {.total = 300000};
	struct chardev *chr;
	struct err *err = NULL;
	pthread_t thread;

	config.path = env->path;
	chr = must_open(env->loop, &config);
	must_attach(chr, &f, &front_ops);
	PUMP(env->loop, f.opened == 1);
	w.port = f.port;
	assert_int_equal(pthread_create(&thread, NULL, writer_main, &w), 0);
	PUMP(env->loop, __atomic_load_n(&w.done, __ATOMIC_ACQUIRE));
	pthread_join(thread, NULL);
	chr_port_close(f.port);
	chardev_free(chr);
	assert_int_equal(file_size(env->path), w.total);

	config.append = true;
	memset(&f, 0, sizeof(f));
	chr = must_open(env->loop, &config);
	must_attach(chr, &f, &front_ops);
	chr_port_write(f.port, "more", 4);
	chr_port_close(f.port);
	chardev_free(chr);
	assert_int_equal(file_size(env->path), w.total + 4);

	config.path = env->dir;
	assert_null(chardev_new(env->loop, &config, &err));
	assert_non_null(strstr(err_message(err), "cannot open"));
	err_free(err);
	err = NULL;
	config.mux = true;
	assert_null(chardev_new(env->loop, &config, &err));
	assert_non_null(strstr(err_message(err), "mux=on needs a back-end with a keyboard"));
	err_free(err);
}

static void full_disk_does_not_stop_the_front_end(void **state)
{
	struct env *env = *state;
	struct chr_config config = base_config(CHR_FILE);
	struct front f = {0};
	struct writer w = {.total = 300000};
	struct chardev *chr;
	pthread_t thread;

	config.path = "/dev/full";
	config.append = true;
	chr = must_open(env->loop, &config);
	must_attach(chr, &f, &front_ops);
	PUMP(env->loop, f.opened == 1);
	w.port = f.port;
	assert_int_equal(pthread_create(&thread, NULL, writer_main, &w), 0);
	PUMP(env->loop, __atomic_load_n(&w.done, __ATOMIC_ACQUIRE));
	pthread_join(thread, NULL);
	chr_port_close(f.port);
	chardev_free(chr);
}

static void quit_typed(void *opaque)
{
	++*(int *)opaque;
}

static void mux_switches_and_holds_back(void **state)
{
	struct env *env = *state;
	struct chr_config config = base_config(CHR_SOCKET);
	struct chr_ops held = front_ops;
	struct front serial = {.room = 2}, monitor = {.room = SIZE_MAX};
	struct chardev *chr;
	int fds[2], quits = 0;
	char buf[512];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	config.fd = fds[0];
	config.mux = true;
	config.quit = quit_typed;
	config.opaque = &quits;
	chr = must_open(env->loop, &config);
	held.hold_unfocused = true;
	must_attach(chr, &serial, &front_ops);
	must_attach(chr, &monitor, &held);
	PUMP(env->loop, serial.opened && monitor.opened);
	assert_int_equal(serial.focus_in, 1);

	/* The guest takes two bytes only; Ctrl-A c still works, and the rest waits for the guest. */
	assert_int_equal(write(fds[1], "abcd\001ccmd\n", 10), 10);
	PUMP(env->loop, front_has(&monitor, "cmd\n"));
	PUMP(env->loop, front_has(&serial, "ab"));
	assert_int_equal(serial.focus_out, 1);
	assert_int_equal(monitor.focus_in, 1);
	assert_int_equal(write(fds[1], "\001c", 2), 2);
	PUMP(env->loop, serial.focus_in == 2);
	serial.room = SIZE_MAX;
	chr_port_resume(serial.port);
	PUMP(env->loop, front_has(&serial, "abcd"));

	/* The monitor's output is kept until it has the keyboard. */
	chr_port_write(monitor.port, "M", 1);
	chr_port_write(serial.port, "S", 1);
	PUMP(env->loop, read_some(fds[1], buf, sizeof(buf)) == 1);
	assert_int_equal(buf[0], 'S');
	chr_port_focus(monitor.port);
	PUMP(env->loop, read_some(fds[1], buf, sizeof(buf)) == 1);
	assert_int_equal(buf[0], 'M');
	chr_port_focus(serial.port);

	assert_int_equal(write(fds[1], "\001b\001\001\001h\001z\001x", 10), 10);
	PUMP(env->loop, quits == 1);
	assert_int_equal(serial.breaks, 1);
	assert_true(front_has(&serial, "abcd\001"));
	buf[0] = '\0';
	PUMP(env->loop, read_some(fds[1], buf, sizeof(buf)) > 0);
	assert_non_null(memmem(buf, sizeof(buf), "Ctrl-A c", 8));

	/* The focus goes on when its owner leaves. */
	chr_port_close(serial.port);
	assert_int_equal(write(fds[1], "!", 1), 1);
	PUMP(env->loop, front_has(&monitor, "cmd\n!"));
	chr_port_close(monitor.port);
	chardev_free(chr);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(null_takes_everything),
		T(second_front_end_is_refused),
		T(connected_fd_carries_both_ways),
		T(input_waits_for_room),
		T(output_is_bounded_and_resumes),
		T(another_thread_writes),
		T(what_is_left_is_sent_at_the_end),
		T(file_is_written_and_appended),
		T(full_disk_does_not_stop_the_front_end),
		T(mux_switches_and_holds_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
