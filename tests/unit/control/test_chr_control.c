/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Monitors for programs on real chardevs: clients that ask much and read slowly, that never read,
 * that send descriptors, and that leave (or say no more) while their command runs.
 */
#include "tests/unit/chardev/chardev_test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "qmp/command.h"
#include "qmp/qmp.h"
#include "vmm/chardev/monitor.h"

#define HELLO     "{\"execute\": \"qmp_capabilities\"}\n"
#define EMPTY     "{\"return\": {}}\r\n"
#define BIG_BYTES 100000

struct env {
	struct loop *loop;
	struct qmp *qmp;
	struct chardev *chr;
	struct chr_monitor *monitor;
	struct command_call *pending;
	unsigned int bigs, unwanted;
	char dir[64];
	char path[128];
};

static int big_run(struct command_call *call, const json_t *args, json_t **ret_value,
		   struct err **err)
{
	struct env *env = command_ctx(call);
	static char text[BIG_BYTES];

	(void)args;
	(void)err;
	memset(text, 'x', sizeof(text));
	env->bigs++;
	*ret_value = json_stringn(text, sizeof(text));
	return 0;
}

static void later_unwanted(struct command_call *call, void *opaque)
{
	struct env *env = opaque;

	(void)call;
	env->unwanted++;
}

static int later_run(struct command_call *call, const json_t *args, json_t **ret_value,
		     struct err **err)
{
	struct env *env = command_ctx(call);

	(void)args;
	(void)ret_value;
	(void)err;
	env->pending = call;
	command_on_unwanted(call, later_unwanted, env);
	command_printf(call, "wait\n");
	return COMMAND_PENDING;
}

/* Tells the size of the file whose descriptor came along. */
static int take_run(struct command_call *call, const json_t *args, json_t **ret_value,
		    struct err **err)
{
	int fd = command_take_fd(call);
	off_t size;

	(void)args;
	if (fd < 0)
		return err_set(err, EINVAL, "no descriptor came along");
	size = lseek(fd, 0, SEEK_END);
	close(fd);
	if (size < 0)
		return -errno;
	*ret_value = json_integer(size);
	return 0;
}

static const struct command commands[] = {
	{.name = "big", .returns = "str", .run = big_run},
	{.name = "later", .human = "later", .run = later_run},
	{.name = "take", .returns = "int", .run = take_run},
	{0},
};
static const struct qmp_event events[] = {{.name = "NEWS", .data = "text:str"}, {0}};
static const struct qmp_module module = {.commands = commands, .events = events};
static const struct qmp_module *const modules[] = {&module, NULL};

static int env_setup(void **state)
{
	struct env *env = calloc(1, sizeof(*env));
	struct qmp_config config = {
		.modules = modules, .ctx = env, .package = "test", .prompt = "(test) "};
	struct chr_config chr;

	strcpy(env->dir, "/tmp/control-test-XXXXXX");
	assert_non_null(mkdtemp(env->dir));
	snprintf(env->path, sizeof(env->path), "%s/m", env->dir);
	env->loop = loop_new_main(NULL);
	config.uv = loop_uv(env->loop);
	env->qmp = qmp_new(&config, NULL);
	assert_non_null(env->qmp);
	chr_config_init(&chr);
	chr.id = "mon";
	chr.backend = CHR_SOCKET;
	chr.path = env->path;
	chr.server = true;
	chr.wait = false;
	env->chr = must_open(env->loop, &chr);
	env->monitor = chr_monitor_new_control(env->chr, env->qmp, false, NULL);
	assert_non_null(env->monitor);
	*state = env;
	return 0;
}

static int env_teardown(void **state)
{
	struct env *env = *state;

	chr_monitor_free(env->monitor);
	if (env->pending)
		command_done(env->pending, NULL, NULL);
	chardev_free(env->chr);
	qmp_free(env->qmp);
	loop_free(env->loop);
	assert_int_equal(rmdir(env->dir), 0);
	free(env);
	return 0;
}

static int dial(const struct env *env)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(un.sun_path, env->path);
	assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	return fd;
}

struct reader {
	int fd;
	char text[4096]; /* the end of what came */
	size_t count;
	size_t total, lines;
	bool end;
};

/* Take at most @size bytes of what came; whether the text now ends like that. */
static bool reads_some(struct reader *r, size_t size, const char *ending)
{
	char buf[65536];
	ssize_t n = recv(r->fd, buf, num_min(size, sizeof(buf)), MSG_DONTWAIT);
	size_t keep;

	for (ssize_t i = 0; i < n; i++) {
		r->lines += buf[i] == '\n';
		if (r->count == sizeof(r->text) - 1) {
			keep = r->count / 2;
			memmove(r->text, r->text + r->count - keep, keep);
			r->count = keep;
		}
		r->text[r->count++] = buf[i];
	}
	r->total += n > 0 ? (size_t)n : 0;
	r->end |= n == 0 || (n < 0 && errno == ECONNRESET);
	r->text[r->count] = '\0';
	size = strlen(ending);
	return r->count >= size && !strcmp(r->text + r->count - size, ending);
}

static bool reads(struct reader *r, const char *ending)
{
	return reads_some(r, SIZE_MAX, ending);
}

static void say(struct reader *r, const char *text)
{
	assert_int_equal(send(r->fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void reader_open(struct reader *r, struct env *env)
{
	*r = (struct reader){.fd = dial(env)};
	say(r, HELLO);
	PUMP(env->loop, reads(r, EMPTY));
}

static void several_programs_at_once(void **state)
{
	struct env *env = *state;
	struct reader a, b;

	reader_open(&a, env);
	reader_open(&b, env);
	say(&a, "{\"execute\": \"later\", \"id\": 1}");
	PUMP(env->loop, env->pending != NULL);
	say(&b, "{\"execute\": \"query-version\"}");
	PUMP(env->loop, reads(&b, "\"package\": \"test\"}}\r\n"));
	qmp_emit(env->qmp, "NEWS", json_pack("{s:s}", "text", "t"));
	PUMP(env->loop, reads(&a, "\"data\": {\"text\": \"t\"}}\r\n"));
	PUMP(env->loop, reads(&b, "\"data\": {\"text\": \"t\"}}\r\n"));
	command_done(env->pending, NULL, NULL);
	env->pending = NULL;
	PUMP(env->loop, reads(&a, "{\"return\": {}, \"id\": 1}\r\n"));
	close(a.fd);
	close(b.fd);
}

/* 50 MB are asked for in one go: they come at the pace at which they are read. */
static void who_asks_much_is_answered_as_it_reads(void **state)
{
	struct env *env = *state;
	const unsigned int count = 500;
	char text[500 * 20], *at = text;
	uint64_t deadline_ns;
	struct reader a, b;

	reader_open(&a, env);
	reader_open(&b, env);
	for (unsigned int i = 0; i < count; i++)
		at += sprintf(at, "{\"execute\": \"big\"}");
	say(&a, text);
	say(&b, "{\"execute\": \"query-version\"}");
	PUMP(env->loop, reads(&b, "\"package\": \"test\"}}\r\n"));
	/* Only a little is made ahead of the reader. */
	assert_true(env->bigs < 20);
	a.lines = 0;
	deadline_ns = uv_hrtime() + UINT64_C(30000000000);
	while (a.lines < count) {
		assert_true(uv_hrtime() < deadline_ns);
		reads_some(&a, 50000, "");
		uv_run(loop_uv(env->loop), UV_RUN_NOWAIT);
	}
	assert_false(a.end);
	assert_true(a.total > (size_t)count * BIG_BYTES);
	say(&a, "{\"execute\": \"qmp_capabilities\", \"id\": 7}");
	PUMP(env->loop, reads(&a, "\"id\": 7}\r\n"));
	close(a.fd);
	close(b.fd);
}

static void who_never_reads_is_disconnected(void **state)
{
	struct env *env = *state;
	struct reader a, b;
	char text[1000];

	reader_open(&a, env);
	reader_open(&b, env);
	memset(text, 'n', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	for (int i = 0; i < 8000; i++) {
		qmp_emit(env->qmp, "NEWS", json_pack("{s:s}", "text", text));
		uv_run(loop_uv(env->loop), UV_RUN_NOWAIT);
		reads(&b, "");
	}
	PUMP(env->loop, send(a.fd, "\n", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EPIPE);
	say(&b, "{\"execute\": \"qmp_capabilities\", \"id\": 7}");
	PUMP(env->loop, reads(&b, "\"id\": 7}\r\n"));
	assert_int_equal(b.lines, 8000 + 3);
	close(a.fd);
	close(b.fd);
}

/* Send a text with a descriptor. */
static void say_with(struct reader *r, const char *text, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.bytes = {0}};
	struct iovec iov = {(char *)text, strlen(text)};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	assert_int_equal(sendmsg(r->fd, &msg, MSG_NOSIGNAL), strlen(text));
}

static unsigned int open_files(void)
{
	unsigned int count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void descriptors_come_along(void **state)
{
	struct env *env = *state;
	int fd = memfd_create("x", MFD_CLOEXEC);
	unsigned int files;
	struct reader a;

	assert_int_equal(ftruncate(fd, 12345), 0);
	reader_open(&a, env);
	files = open_files();
	say_with(&a, "{\"execute\": \"take\"}\r\n", fd);
	PUMP(env->loop, reads(&a, "{\"return\": 12345}\r\n"));
	say(&a, "{\"execute\": \"take\"}\r\n");
	PUMP(env->loop, reads(&a, "no descriptor came along\"}}\r\n"));
	/* Behind a command that waits, in one go with it. */
	say(&a, "{\"execute\": \"later\"}");
	say_with(&a, "{\"execute\": \"take\"}", fd);
	PUMP(env->loop, env->pending != NULL);
	command_done(env->pending, NULL, NULL);
	env->pending = NULL;
	PUMP(env->loop, reads(&a, EMPTY "{\"return\": 12345}\r\n"));
	/* What nobody takes does not pile up. */
	for (int i = 0; i < 40; i++)
		say_with(&a, "{\"execute\": \"query-commands\"}", fd);
	say(&a, "{\"execute\": \"qmp_capabilities\", \"id\": 7}");
	PUMP(env->loop, reads(&a, "\"id\": 7}\r\n"));
	assert_int_equal(open_files(), files);
	close(a.fd);
	close(fd);
}

/* printf ... | nc -U: what was asked is answered, then the connection ends. */
static void who_says_no_more_gets_its_answers(void **state)
{
	struct env *env = *state;
	struct reader a;

	reader_open(&a, env);
	say(&a,
	    "{\"execute\": \"later\", \"id\": 1}{\"execute\": \"qmp_capabilities\", \"id\": 2}");
	shutdown(a.fd, SHUT_WR);
	PUMP(env->loop, env->pending != NULL);
	for (int i = 0; i < 20; i++)
		uv_run(loop_uv(env->loop), UV_RUN_NOWAIT);
	assert_int_equal(env->unwanted, 0);
	command_done(env->pending, NULL, NULL);
	env->pending = NULL;
	PUMP(env->loop, (reads(&a, ""), a.end));
	assert_non_null(strstr(a.text, "{\"return\": {}, \"id\": 1}\r\n"));
	assert_true(reads(&a, "\"id\": 2}\r\n"));
	close(a.fd);
}

static void who_leaves_is_not_waited_for(void **state)
{
	struct env *env = *state;
	struct reader a;

	/* At once, */
	reader_open(&a, env);
	say(&a, "{\"execute\": \"later\"}");
	PUMP(env->loop, env->pending != NULL);
	close(a.fd);
	PUMP(env->loop, env->unwanted == 1);
	command_done(env->pending, NULL, NULL);
	env->pending = NULL;
	/* or after it said that it says no more. */
	reader_open(&a, env);
	say(&a, "{\"execute\": \"later\"}");
	shutdown(a.fd, SHUT_WR);
	PUMP(env->loop, env->pending != NULL);
	for (int i = 0; i < 20; i++)
		uv_run(loop_uv(env->loop), UV_RUN_NOWAIT);
	assert_int_equal(env->unwanted, 1);
	close(a.fd);
	PUMP(env->loop, env->unwanted == 2);
}

/* A person's Ctrl-C is seen while the command runs. */
static void control_c_over_a_socket(void **state)
{
	struct env *env = *state;
	struct reader a;

	chr_monitor_free(env->monitor);
	env->monitor = chr_monitor_new(env->chr, qmp_human(env->qmp), NULL);
	assert_non_null(env->monitor);
	a = (struct reader){.fd = dial(env)};
	PUMP(env->loop, reads(&a, "(test) "));
	say(&a, "later\n");
	PUMP(env->loop, reads(&a, "wait\r\n"));
	say(&a, "\003");
	PUMP(env->loop, reads(&a, "^C\r\n(test) "));
	assert_int_equal(env->unwanted, 1);
	close(a.fd);
}

/* Not a socket that listens: one client, in several lines each. */
static void one_program_on_a_connection(void **state)
{
	struct env *env = *state;
	struct chr_config config;
	struct chr_monitor *monitor;
	struct chardev *chr;
	struct reader a = {0};
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	chr_config_init(&config);
	config.id = "one";
	config.backend = CHR_SOCKET;
	config.fd = fds[0];
	a.fd = fds[1];
	chr = must_open(env->loop, &config);
	monitor = chr_monitor_new_control(chr, env->qmp, true, NULL);
	assert_non_null(monitor);
	PUMP(env->loop, reads(&a, "    }\r\n}\r\n"));
	say(&a, HELLO);
	PUMP(env->loop, reads(&a, "{\r\n    \"return\": {}\r\n}\r\n"));
	say_with(&a, "{\"execute\": \"take\"}", fds[1]);
	PUMP(env->loop, reads(&a, "\"desc\": \"Illegal seek\"\r\n    }\r\n}\r\n"));
	chr_monitor_free(monitor);
	chardev_free(chr);
	close(a.fd);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, env_setup, env_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(several_programs_at_once),          T(who_asks_much_is_answered_as_it_reads),
		T(who_never_reads_is_disconnected),   T(descriptors_come_along),
		T(who_says_no_more_gets_its_answers), T(who_leaves_is_not_waited_for),
		T(control_c_over_a_socket),           T(one_program_on_a_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
