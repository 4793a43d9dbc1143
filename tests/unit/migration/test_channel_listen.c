/* SPDX-License-Identifier: BSD-3-Clause */
/* Listening and connecting: addresses, ports, UNIX sockets, and clients of all kinds. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "channels.h"

static struct channel_listener *listen_on(struct rig *rig, const char *fmt, ...)
{
	struct channel_listener *l;
	struct err *err = NULL;
	char uri[160];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(uri, sizeof(uri), fmt, ap);
	va_end(ap);
	l = rig_listen(rig, uri, &err);
	rig_check_no_err(&err);
	return l;
}

static struct channel *connect_to(struct rig *rig, const char *fmt, ...)
{
	struct channel *ch;
	struct err *err = NULL;
	char uri[160];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(uri, sizeof(uri), fmt, ap);
	va_end(ap);
	ch = rig_connect(rig, uri, &err);
	rig_check_no_err(&err);
	return ch;
}

/* The next client's first four bytes are @text. */
static struct channel *accept_as(struct channel_listener *l, const char *text)
{
	struct err *err = NULL;
	struct channel *ch = NULL;
	char buf[5] = "";
	size_t done;

	channel_accept(l, 4, -1, &ch, &err);
	rig_check_no_err(&err);
	assert_non_null(ch);
	assert_int_equal(channel_peek(ch, buf, 4, -1, &done), 0);
	assert_string_equal(buf, text);
	return ch;
}

static void check_talk(struct channel *one, struct channel *other)
{
	char buf[8];
	size_t done;

	assert_int_equal(channel_write(one, "ping", 4, -1), 0);
	assert_int_equal(channel_write(other, "pong", 4, -1), 0);
	assert_int_equal(channel_read(one, buf, 4, -1, &done), 0);
	assert_memory_equal(buf, "pong", 4);
	assert_int_equal(channel_read(other, buf, 4, -1, &done), 0);
	assert_memory_equal(buf, "ping", 4);
	assert_int_equal(channel_finish(one, -1, NULL), 0);
	assert_int_equal(channel_read(other, buf, 1, -1, &done), -ENODATA);
	channel_close(one);
	channel_close(other);
}

/* Somebody who connects there is accepted, and both can talk. */
static void check_client_at(struct rig *rig, struct channel_listener *l, const char *uri)
{
	struct channel *one = connect_to(rig, "%s", uri), *other;
	char buf[4];

	assert_int_equal(channel_write(one, "begi", 4, -1), 0);
	other = accept_as(l, "begi");
	assert_true(channel_is_duplex(other));
	assert_string_equal(channel_name(other), channel_listener_name(l));
	assert_int_equal(channel_read(other, buf, 4, -1, NULL), 0);
	check_talk(one, other);
}

static void check_client(struct rig *rig, struct channel_listener *l, const char *host, int port)
{
	char uri[160];

	snprintf(uri, sizeof(uri), "tcp:%s:%d", host, port);
	check_client_at(rig, l, uri);
}

static void check_refused(struct rig *rig, const char *host, int port)
{
	struct err *err = NULL;
	char uri[160];

	snprintf(uri, sizeof(uri), "tcp:%s:%d", host, port);
	assert_null(rig_connect(rig, uri, &err));
	rig_check_err_around(&err, ECONNREFUSED, uri, ": cannot connect: Connection refused");
}

static void check_socket(struct channel_listener *l, size_t i, const char *host, bool ipv4,
			 bool ipv6)
{
	struct address_socket s;

	assert_int_equal(channel_socket(l, i, &s), 0);
	assert_int_equal(s.type, ADDRESS_SOCKET_INET);
	assert_string_equal(s.host, host);
	assert_int_equal(s.ipv4, ipv4);
	assert_int_equal(s.ipv6, ipv6);
}

/* "any", in its spellings: one socket, which both families reach. */
static void test_any(void **state)
{
	static const char *const any[] = {"tcp::0", "tcp:[::]:0", "tcp::0,ipv4,ipv6"};

	for (size_t i = 0; i < 3; i++) {
		struct channel_listener *l = listen_on(*state, "%s", any[i]);

		assert_int_equal(channel_nr_sockets(l), 1);
		check_socket(l, 0, "::", true, true);
		check_client(*state, l, "127.0.0.1", rig_port(l, 0));
		check_client(*state, l, "[::1]", rig_port(l, 0));
		check_client(*state, l, "localhost", rig_port(l, 0));
		check_client(*state, l, "", rig_port(l, 0));
		channel_listener_free(l);
	}
}

static void test_one_family(void **state)
{
	struct channel_listener *l = listen_on(*state, "tcp::0,ipv4");

	check_socket(l, 0, "0.0.0.0", true, false);
	check_client(*state, l, "127.0.0.1", rig_port(l, 0));
	check_refused(*state, "[::1]", rig_port(l, 0));
	channel_listener_free(l);
	l = listen_on(*state, "tcp::0,ipv6");
	check_socket(l, 0, "::", false, true);
	check_client(*state, l, "[::1]", rig_port(l, 0));
	check_refused(*state, "127.0.0.1", rig_port(l, 0));
	channel_listener_free(l);
	l = listen_on(*state, "tcp:127.0.0.1:0");
	check_socket(l, 0, "127.0.0.1", true, false);
	check_client(*state, l, "127.0.0.1", rig_port(l, 0));
	channel_listener_free(l);
}

/* All addresses of a name, on one port. */
static void test_name(void **state)
{
	struct channel_listener *l = listen_on(*state, "tcp:localhost:0");

	for (size_t i = 0; i < channel_nr_sockets(l); i++) {
		struct address_socket s;

		assert_int_equal(rig_port(l, i), rig_port(l, 0));
		assert_int_equal(channel_socket(l, i, &s), 0);
		check_client(*state, l, s.ipv6 ? "[::1]" : "127.0.0.1", rig_port(l, i));
	}
	channel_listener_free(l);
}

/* A port is free again at once, and taken by one at a time. */
static void test_port(void **state)
{
	struct channel_listener *l = listen_on(*state, "tcp:127.0.0.1:0"), *none;
	int port = rig_port(l, 0);
	struct err *err = NULL;
	char uri[64];

	snprintf(uri, sizeof(uri), "tcp:127.0.0.1:%d", port);
	none = rig_listen(*state, uri, &err);
	assert_null(none);
	rig_check_err_around(&err, EADDRINUSE, uri, ": cannot listen: Address already in use");
	check_client(*state, l, "127.0.0.1", port);
	channel_listener_free(l);
	l = listen_on(*state, "%s", uri);
	channel_listener_free(l);
	check_refused(*state, "127.0.0.1", port);
}

#define LABEL \
	"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" /* 64: one too many */

static void test_bad_names(void **state)
{
	static const char cannot[] = "tcp:" LABEL ".invalid:1: cannot look up the host: ";
	struct err *err = NULL;

	assert_null(rig_connect(*state, "tcp:" LABEL ".invalid:1", &err));
	rig_check_err_around(&err, EHOSTUNREACH, cannot, "");
	assert_null(rig_listen(*state, "tcp:" LABEL ".invalid:1", &err));
	rig_check_err_around(&err, EHOSTUNREACH, cannot, "");
	assert_null(rig_listen(*state, "tcp:127.0.0.1:no-such-service", &err));
	rig_check_err(&err, EINVAL,
		      "tcp:127.0.0.1:no-such-service: there is no service 'no-such-service'; "
		      "allowed: a number");
	/* TEST-NET-1: no address of this host */
	assert_null(rig_listen(*state, "tcp:192.0.2.1:0", &err));
	rig_check_err(&err, EADDRNOTAVAIL,
		      "tcp:192.0.2.1:0: cannot listen: Cannot assign requested address");
}

static void test_unix(void **state)
{
	struct rig *rig = *state;
	const char *path = rig_path(rig, "socket");
	struct channel_listener *l, *next;
	struct address_socket s;
	struct stat st;
	char uri[160];

	snprintf(uri, sizeof(uri), "unix:%s", path);
	l = listen_on(rig, "%s", uri);
	assert_int_equal(channel_socket(l, 0, &s), 0);
	assert_int_equal(s.type, ADDRESS_SOCKET_UNIX);
	assert_string_equal(s.text, path);
	check_client_at(rig, l, uri);
	/* one that took its place is not removed with it */
	next = listen_on(rig, "%s", uri);
	channel_listener_free(l);
	check_client_at(rig, next, uri);
	channel_listener_free(next);
	assert_int_equal(lstat(path, &st), -1);
}

static void test_unix_bad(void **state)
{
	struct rig *rig = *state;
	const char *path = rig_path(rig, "socket");
	char uri[160], sentence[256];
	struct err *err = NULL;

	snprintf(uri, sizeof(uri), "unix:%s", path);
	assert_null(rig_connect(rig, uri, &err));
	snprintf(sentence, sizeof(sentence), "%s: cannot connect: No such file or directory", uri);
	rig_check_err(&err, ENOENT, sentence);
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	assert_null(rig_connect(rig, uri, &err));
	snprintf(sentence, sizeof(sentence), "%s: cannot connect: Connection refused", uri);
	rig_check_err(&err, ECONNREFUSED, sentence);
	assert_null(rig_listen(rig, uri, &err));
	snprintf(sentence, sizeof(sentence), "%s: there is something that is no socket", uri);
	rig_check_err(&err, EEXIST, sentence);
	assert_null(rig_listen(rig, "unix:/none/socket", &err));
	rig_check_err(&err, ENOENT,
		      "unix:/none/socket: cannot make the socket: No such file or directory");
}

/* ---- clients ---- */

static void send_text(struct channel *ch, const char *text)
{
	assert_int_equal(channel_write(ch, text, strlen(text), -1), 0);
}

static void check_dropped(struct channel *ch)
{
	char byte;

	assert_int_equal(channel_read(ch, &byte, 1, 0, NULL), -ENODATA);
	channel_close(ch);
}

static void check_waits(struct channel *ch)
{
	char byte;

	assert_int_equal(channel_read(ch, &byte, 1, 0, NULL), -ETIMEDOUT);
	channel_close(ch);
}

/* Silent ones delay nobody; when they are too many those go who came first. */
static void test_silent(void **state)
{
	struct rig *rig = *state;
	struct channel_listener *l = listen_on(rig, "tcp:127.0.0.1:0");
	struct channel *silent[CHANNEL_CLIENTS_MAX + 4], *real;
	int port = rig_port(l, 0);

	for (size_t i = 0; i < CHANNEL_CLIENTS_MAX + 4; i++)
		silent[i] = connect_to(rig, "tcp:127.0.0.1:%d", port);
	send_text(silent[10], "ab");
	real = connect_to(rig, "tcp:127.0.0.1:%d", port);
	send_text(real, "real");
	channel_close(accept_as(l, "real"));
	channel_close(real);
	for (size_t i = 0; i < 5; i++)
		check_dropped(silent[i]);
	/* who begins late is there as well */
	send_text(silent[10], "cd");
	channel_close(accept_as(l, "abcd"));
	channel_close(silent[10]);
	for (size_t i = 5; i < CHANNEL_CLIENTS_MAX + 4; i++)
		if (i != 10)
			check_waits(silent[i]);
	channel_listener_free(l);
}

/* Whoever is silent for too long is dropped, and who sends something later than that as well. */
static void test_silent_too_long(void **state)
{
	struct rig *rig = *state;
	struct channel_listener *l = listen_on(rig, "tcp:127.0.0.1:0");
	struct channel *silent = connect_to(rig, "tcp:127.0.0.1:%d", rig_port(l, 0)), *none;
	struct err *err = NULL;
	char byte;

	channel_listener_set_silent_ms(l, 20);
	send_text(silent, "abc");
	assert_int_equal(channel_accept(l, 4, 100, &none, &err), -ETIMEDOUT);
	assert_null(err);
	assert_true(channel_read(silent, &byte, 1, -1, NULL) < 0);
	channel_close(silent);
	channel_listener_free(l);
}

/* Who ends without a byte is passed over, who ends after some is not. */
static void test_short(void **state)
{
	struct rig *rig = *state;
	struct channel_listener *l = listen_on(rig, "tcp:127.0.0.1:0");
	struct channel *ch = NULL;
	struct err *err = NULL;
	int port = rig_port(l, 0);
	char text[5];
	size_t done;

	channel_close(connect_to(rig, "tcp:127.0.0.1:%d", port));
	assert_int_equal(channel_accept(l, 4, 20, &ch, &err), -ETIMEDOUT);
	ch = connect_to(rig, "tcp:127.0.0.1:%d", port);
	send_text(ch, "ab");
	channel_close(ch);
	assert_int_equal(channel_accept(l, 4, -1, &ch, &err), 0);
	assert_int_equal(channel_peek(ch, text, 4, -1, &done), 0);
	assert_int_equal(done, 2);
	assert_int_equal(channel_read(ch, text, 4, -1, &done), -ENODATA);
	assert_int_equal(done, 2);
	channel_close(ch);
	channel_listener_free(l);
}

struct drip {
	struct rig *rig;
	int port;
};

static void *drip_run(void *opaque)
{
	const struct drip *drip = opaque;
	struct channel *ch = connect_to(drip->rig, "tcp:127.0.0.1:%d", drip->port);

	for (int i = 0; i < 4; i++) {
		rig_wait_asleep(getpid());
		assert_int_equal(channel_write(ch, &"drip"[i], 1, -1), 0);
	}
	return ch;
}

static void test_drip(void **state)
{
	struct channel_listener *l = listen_on(*state, "tcp:127.0.0.1:0");
	struct drip drip = {*state, rig_port(l, 0)};
	pthread_t thread;
	void *client;

	assert_int_equal(pthread_create(&thread, NULL, drip_run, &drip), 0);
	channel_close(accept_as(l, "drip"));
	pthread_join(thread, &client);
	channel_close(client);
	channel_listener_free(l);
}

static void test_cancel(void **state)
{
	struct rig *rig = *state;
	struct channel_listener *l = listen_on(rig, "tcp:127.0.0.1:0");
	struct channel *silent = connect_to(rig, "tcp:127.0.0.1:%d", rig_port(l, 0)), *none;
	struct err *err = NULL;
	pthread_t thread;

	rig_cancel_sleeper(rig, &thread);
	assert_int_equal(channel_accept(l, 4, -1, &none, &err), -ECANCELED);
	assert_null(err);
	pthread_join(thread, NULL);
	channel_close(silent);
	channel_listener_free(l);
}

/* Without a descriptor for a client it waits; with one again the client is there. */
static void test_no_descriptor(void **state)
{
	struct rig *rig = *state;
	struct channel_listener *l = listen_on(rig, "tcp:127.0.0.1:0");
	struct channel *real = connect_to(rig, "tcp:127.0.0.1:%d", rig_port(l, 0)), *none;
	struct rlimit before, limit;
	struct err *err = NULL;
	int64_t cpu;

	send_text(real, "real");
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	limit = before;
	limit.rlim_cur = (rlim_t)channel_fd(real) + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	cpu = clock();
	assert_int_equal(channel_accept(l, 4, 300, &none, &err), -ETIMEDOUT);
	/* it rests meanwhile */
	assert_true(clock() - cpu < CLOCKS_PER_SEC / 10);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	channel_close(accept_as(l, "real"));
	channel_close(real);
	channel_listener_free(l);
}

/* ---- connecting that takes long ---- */

/* A queue of one, which is full. */
static int fill_queue(int fd, const struct sockaddr *name, socklen_t size, int *ret_client)
{
	assert_int_equal(bind(fd, name, size), 0);
	assert_int_equal(listen(fd, 0), 0);
	*ret_client = socket(name->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return fd;
}

static void check_connect_cancelled(struct rig *rig, const char *uri)
{
	char sentence[256];
	struct err *err = NULL;
	pthread_t thread;

	rig_cancel_sleeper(rig, &thread);
	assert_null(rig_connect(rig, uri, &err));
	snprintf(sentence, sizeof(sentence), "%s: cannot connect: it was cancelled", uri);
	rig_check_err(&err, ECANCELED, sentence);
	pthread_join(thread, NULL);
}

static void test_unix_queue(void **state)
{
	struct rig *rig = *state;
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	const char *path = rig_path(rig, "socket");
	int client, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char uri[160];

	strcpy(un.sun_path, path);
	fill_queue(fd, (struct sockaddr *)&un, sizeof(un), &client);
	assert_int_equal(connect(client, (struct sockaddr *)&un, sizeof(un)), 0);
	snprintf(uri, sizeof(uri), "unix:%s", path);
	check_connect_cancelled(rig, uri);
	close(client);
	close(fd);
}

static void test_tcp_queue(void **state)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int client, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof(in);
	char uri[64];

	fill_queue(fd, (struct sockaddr *)&in, sizeof(in), &client);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &size), 0);
	assert_int_equal(connect(client, (struct sockaddr *)&in, sizeof(in)), 0);
	snprintf(uri, sizeof(uri), "tcp:127.0.0.1:%d", ntohs(in.sin_port));
	check_connect_cancelled(*state, uri);
	close(client);
	close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_any),           TEST(test_one_family), TEST(test_name),
		TEST(test_port),          TEST(test_bad_names),  TEST(test_unix),
		TEST(test_unix_bad),      TEST(test_silent),     TEST(test_silent_too_long),
		TEST(test_short),         TEST(test_drip),       TEST(test_cancel),
		TEST(test_no_descriptor), TEST(test_unix_queue), TEST(test_tcp_queue),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
