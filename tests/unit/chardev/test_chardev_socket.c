/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Chardevs over unix and TCP sockets: clients that come, go, connect again, wait, do not read, close
 * half, or bring descriptors; paths that cannot be; what is left behind.
 */
#include "tests/unit/chardev/chardev_env.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/resource.h>

static void unix_server_takes_one_at_a_time(void **state)
{
	struct env *env = *state;
	struct chr_config config = base_config(CHR_SOCKET);
	struct front f = {.room = SIZE_MAX};
	struct chardev *chr;
	char want[160], *name;
	int a, b;

	config.path = env->path;
	config.server = true;
	chr = must_open(env->loop, &config);
	must_attach(chr, &f, &front_ops);
	name = chardev_filename(chr);
	snprintf(want, sizeof(want), "disconnected:unix:%s,server=on", env->path);
	assert_string_equal(name, want);
	free(name);
	a = unix_connect(env->path);
	PUMP(env->loop, f.opened == 1);
	b = unix_connect(env->path); /* waits */
	assert_int_equal(write(b, "B", 1), 1);
	assert_int_equal(write(a, "A", 1), 1);
	PUMP(env->loop, front_has(&f, "A"));
	close(a);
	PUMP(env->loop, front_has(&f, "AB"));
	assert_int_equal(f.opened, 2);
	assert_int_equal(f.closed, 1);
	chr_port_close(f.port);
	chardev_free(chr);
	assert_int_equal(access(env->path, F_OK), -1);
	close(b);
}

static void stale_socket_is_replaced_other_files_are_not(void **state)
{
	struct env *env = *state;
	struct chr_config config = base_config(CHR_SOCKET);
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct chardev *chr;
	struct err *err = NULL;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(un.sun_path, env->path);
	assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	close(fd);
	config.path = env->path;
	config.server = true;
	chr = must_open(env->loop, &config);
	close(unix_connect(env->path));
	chardev_free(chr);
	assert_int_equal(access(env->path, F_OK), -1);

	close(open(env->path, O_CREAT | O_WRONLY, 0600));
	assert_null(chardev_new(env->loop, &config, &err));
	assert_non_null(strstr(err_message(err), "exists and is not a socket"));
	err_free(err);
	assert_int_equal(access(env->path, F_OK), 0);
}

static void paths_that_cannot_be(void **state)
{
	struct env *env = *state;
	struct chr_config config = base_config(CHR_SOCKET);
	struct err *err = NULL;
	char path[200];

	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	config.path = path;
	config.server = true;
	assert_null(chardev_new(env->loop, &config, &err));
	assert_non_null(strstr(err_message(err), "at most 107 bytes"));
	err_free(err);
	err = NULL;
	config.path = env->path;
	config.server = false;
	assert_null(chardev_new(env->loop, &config, &err));
	assert_non_null(strstr(err_message(err), "cannot connect"));
	err_free(err);
	err = NULL;
	config.path = NULL;
	assert_null(chardev_new(env->loop, &config, &err));
	assert_non_null(strstr(err_message(err), "needs path=, port= or fd="));
	err_free(err);
	err = NULL;
	config.fd = open("/dev/null", O_RDWR);
	assert_null(chardev_new(env->loop, &config, &err));
	assert_non_null(strstr(err_message(err), "not a stream socket"));
	err_free(err);
}

static void inherited_listener_and_tcp(void **state)
{
	struct env *env = *state;
	struct chr_config config = base_config(CHR_SOCKET);
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct front f = {.room = SIZE_MAX}, g = {.room = SIZE_MAX};
	struct chardev *server, *client;
	struct err *err = NULL;
	socklen_t size = sizeof(in);
	char port[16];
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(listen(fd, 1), 0);
	getsockname(fd, (struct sockaddr *)&in, &size);
	config.fd = dup(fd);
	assert_null(chardev_new(env->loop, &config, &err));
	assert_non_null(strstr(err_message(err), "it needs server=on"));
	err_free(err);
	config.fd = fd;
	config.server = true;
	server = must_open(env->loop, &config);
	must_attach(server, &f, &front_ops);

	config = base_config(CHR_SOCKET);
	snprintf(port, sizeof(port), "%u", ntohs(in.sin_port));
	config.host = "127.0.0.1";
	config.port = port;
	config.nodelay = true;
	client = must_open(env->loop, &config);
	must_attach(client, &g, &front_ops);
	PUMP(env->loop, f.opened && g.opened);
	chr_port_write(g.port, "ping", 4);
	PUMP(env->loop, front_has(&f, "ping"));
	chr_port_close(g.port);
	chardev_free(client);
	PUMP(env->loop, f.closed == 1);
	chr_port_close(f.port);
	chardev_free(server);
}

static void client_connects_again(void **state)
{
	struct env *env = *state;
	struct chr_config config = base_config(CHR_SOCKET);
	struct front f = {.room = SIZE_MAX}, g = {.room = SIZE_MAX};
	struct chardev *server, *client;

	config.path = env->path;
	config.server = true;
	server = must_open(env->loop, &config);
	must_attach(server, &f, &front_ops);
	config.server = false;
	config.reconnect_s = 1;
	client = must_open(env->loop, &config);
	must_attach(client, &g, &front_ops);
	PUMP(env->loop, g.opened == 1 && f.opened == 1);
	chr_port_close(f.port);
	chardev_free(server);
	PUMP(env->loop, g.closed == 1);
	config.server = true;
	config.reconnect_s = 0;
	server = must_open(env->loop, &config);
	must_attach(server, &f, &front_ops);
	PUMP(env->loop, g.opened == 2 && f.opened == 2);
	chr_port_close(g.port);
	chardev_free(client);
	chr_port_close(f.port);
	chardev_free(server);
}

/* Without a descriptor for it a client waits, and the loop does not run round and round for it. */
static void client_waits_for_a_descriptor(void **state)
{
	struct env *env = *state;
	struct chr_config config = base_config(CHR_SOCKET);
	struct front f = {.room = SIZE_MAX};
	struct rlimit before, none;
	struct chardev *chr;
	bool expired = false;
	uv_timer_t timer = {.data = &expired};
	int peer, turns = 0;

	config.path = env->path;
	config.server = true;
	chr = must_open(env->loop, &config);
	must_attach(chr, &f, &front_ops);
	uv_timer_init(loop_uv(env->loop), &timer);
	uv_run(loop_uv(env->loop), UV_RUN_NOWAIT);
	peer = unix_connect(env->path);
	getrlimit(RLIMIT_NOFILE, &before);
	none = before;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	uv_update_time(loop_uv(env->loop));
	uv_timer_start(&timer, pump_expired, 250, 0);
	for (; !expired && turns < 1000; turns++)
		uv_run(loop_uv(env->loop), UV_RUN_ONCE);
	setrlimit(RLIMIT_NOFILE, &before);
	uv_close((uv_handle_t *)&timer, NULL);
	assert_int_equal(f.opened, 0);
	assert_in_range(turns, 1, 100);
	PUMP(env->loop, f.opened == 1);
	close(peer);
	chr_port_close(f.port);
	chardev_free(chr);
}

struct served {
	struct front fronts[40];
	int count;
	int refuse_after;
};

static void *served_new(void *opaque, struct chr_port *port)
{
	struct served *s = opaque;
	struct front *f;

	if (s->count == s->refuse_after)
		return NULL;
	f = &s->fronts[s->count++];
	f->room = SIZE_MAX;
	f->port = port;
	chr_port_write(port, "hi\n", 3);
	return f;
}

static const struct chr_server_ops served_ops = {&front_ops, served_new};

static void several_clients_are_served(void **state)
{
	struct env *env = *state;
	struct chr_config config = base_config(CHR_SOCKET);
	struct served *s = calloc(1, sizeof(*s));
	struct chardev *chr;
	char buf[16];
	int a, b, c;

	s->refuse_after = 2;
	config.path = env->path;
	config.server = true;
	chr = must_open(env->loop, &config);
	assert_int_equal(chardev_serve(chr, &served_ops, s, NULL), 0);
	a = unix_connect(env->path);
	b = unix_connect(env->path);
	PUMP(env->loop, s->count == 2 && s->fronts[1].opened);
	assert_int_equal(write(a, "A", 1), 1);
	assert_int_equal(write(b, "BB", 2), 2);
	PUMP(env->loop, front_has(&s->fronts[0], "A") && front_has(&s->fronts[1], "BB"));
	PUMP(env->loop, read_some(b, buf, sizeof(buf)) == 3);
	c = unix_connect(env->path); /* refused by the front-end */
	PUMP(env->loop, at_end(c));
	close(b);
	PUMP(env->loop, s->fronts[1].closed == 1);
	chr_port_close(s->fronts[1].port);
	assert_int_equal(write(a, "A", 1), 1);
	PUMP(env->loop, front_has(&s->fronts[0], "AA"));
	/* Disconnected by the front-end, after its last words. */
	PUMP(env->loop, read_some(a, buf, sizeof(buf)) == 3);
	chr_port_write(s->fronts[0].port, "bye", 3);
	chr_port_close(s->fronts[0].port);
	PUMP(env->loop, read_some(a, buf, sizeof(buf)) == 3);
	PUMP(env->loop, at_end(a));
	chardev_unserve(chr);
	chardev_free(chr);
	close(a);
	close(c);
	free(s);
}

static void client_that_never_reads_is_let_go(void **state)
{
	struct env *env = *state;
	struct chr_config config = base_config(CHR_SOCKET);
	struct served *s = calloc(1, sizeof(*s));
	struct chardev *chr;
	static char block[65536];
	int a, i;

	s->refuse_after = 40;
	config.path = env->path;
	config.server = true;
	chr = must_open(env->loop, &config);
	assert_int_equal(chardev_serve(chr, &served_ops, s, NULL), 0);
	a = unix_connect(env->path);
	PUMP(env->loop, s->count == 1);
	for (i = 0; i < 50; i++) {
		chr_port_write(s->fronts[0].port, block, sizeof(block));
		uv_run(loop_uv(env->loop), UV_RUN_NOWAIT);
	}
	assert_int_equal(chr_port_write(s->fronts[0].port, block, 1), 0);
	chr_port_close(s->fronts[0].port);
	/* It does not read, and is cut off all the same: a write fails then. */
	PUMP(env->loop, send(a, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EPIPE);
	chardev_free(chr);
	close(a);
	free(s);
}

static void half_closed_client_gets_its_answer(void **state)
{
	struct env *env = *state;
	struct chr_config config = base_config(CHR_SOCKET);
	struct front f = {.room = SIZE_MAX};
	struct chardev *chr;
	char buf[4096];
	size_t got = 0;
	int a;

	config.path = env->path;
	config.server = true;
	chr = must_open(env->loop, &config);
	must_attach(chr, &f, &front_ops);
	a = unix_connect(env->path);
	assert_int_equal(write(a, "q", 1), 1);
	PUMP(env->loop, front_has(&f, "q"));
	memset(buf, 'r', sizeof(buf));
	chr_port_write(f.port, buf, sizeof(buf));
	shutdown(a, SHUT_WR);
	PUMP(env->loop, (got += read_some(a, buf, sizeof(buf))) == sizeof(buf) && f.closed);
	assert_true(at_end(a));
	chr_port_close(f.port);
	chardev_free(chr);
	close(a);
}

static void descriptors_are_received(void **state)
{
	struct env *env = *state;
	struct chr_config config = base_config(CHR_SOCKET);
	struct served *s = calloc(1, sizeof(*s));
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec iov = {(void *)"x", 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	struct chardev *chr;
	int a, i, fds[2], got;
	char c;

	s->refuse_after = 40;
	config.path = env->path;
	config.server = true;
	chr = must_open(env->loop, &config);
	assert_int_equal(chardev_serve(chr, &served_ops, s, NULL), 0);
	a = unix_connect(env->path);
	assert_int_equal(pipe(fds), 0);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fds[1], sizeof(int));
	for (i = 0; i < 20; i++) /* more than are kept */
		assert_int_equal(sendmsg(a, &msg, 0), 1);
	PUMP(env->loop, s->count == 1 && s->fronts[0].in_count == 20);
	close(fds[1]);
	for (i = 0; i < 16; i++) {
		got = chr_port_take_fd(s->fronts[0].port);
		assert_true(got >= 0);
		assert_int_equal(write(got, "y", 1), 1);
		close(got);
	}
	assert_int_equal(chr_port_take_fd(s->fronts[0].port), -1);
	for (i = 0; i < 16; i++)
		assert_int_equal(read(fds[0], &c, 1), 1);
	assert_int_equal(read(fds[0], &c, 1), 0); /* no copy is left open */
	close(fds[0]);
	close(a);
	PUMP(env->loop, s->fronts[0].closed);
	chr_port_close(s->fronts[0].port);
	chardev_free(chr);
	free(s);
}

static void *late_client(void *arg)
{
	return (void *)(intptr_t)unix_connect(arg);
}

struct note {
	struct env *env;
	pthread_t thread;
	char line[300];
};

/* The chardev listens by the time that it says so. */
static void note_connects(void *opaque, const char *line)
{
	struct note *note = opaque;

	snprintf(note->line, sizeof(note->line), "%s", line);
	assert_int_equal(pthread_create(&note->thread, NULL, late_client, note->env->path), 0);
}

static void server_waits_for_its_first_client(void **state)
{
	struct env *env = *state;
	struct chr_config config = base_config(CHR_SOCKET);
	struct note note = {.env = env};
	struct front f = {.room = SIZE_MAX};
	struct chardev *chr;
	void *fd;

	config.path = env->path;
	config.server = true;
	config.wait = true;
	config.note = note_connects;
	config.opaque = &note;
	chr = must_open(env->loop, &config);
	pthread_join(note.thread, &fd);
	assert_non_null(strstr(note.line, "waiting for connection on: unix:"));
	must_attach(chr, &f, &front_ops);
	PUMP(env->loop, f.opened == 1);
	close((int)(intptr_t)fd);
	chr_port_close(f.port);
	chardev_free(chr);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(unix_server_takes_one_at_a_time),
		T(stale_socket_is_replaced_other_files_are_not),
		T(paths_that_cannot_be),
		T(inherited_listener_and_tcp),
		T(client_connects_again),
		T(client_waits_for_a_descriptor),
		T(several_clients_are_served),
		T(client_that_never_reads_is_let_go),
		T(half_closed_client_gets_its_answer),
		T(descriptors_are_received),
		T(server_waits_for_its_first_client),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
