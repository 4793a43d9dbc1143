/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Human monitors on real chardevs: several clients on one socket, a script that pipes its commands
 * in and leaves, a client that never reads, and a terminal shared with a serial port.
 */
#include "tests/unit/chardev/chardev_test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "qmp/monitor/hmp.h"
#include "vmm/chardev/monitor.h"

struct env {
	struct loop *loop;
	struct hmp *hmp;
	struct hmp_call *pending;
	char dir[64];
	char path[128];
};

static int status_run(struct hmp_call *call, const json_t *args, struct err **err)
{
	(void)args;
	(void)err;
	hmp_printf(call, "VM status: running\n");
	return 0;
}

static int later_run(struct hmp_call *call, const json_t *args, struct err **err)
{
	struct env *env = hmp_call_ctx(call);

	(void)args;
	(void)err;
	env->pending = call;
	return HMP_PENDING;
}

static int flood_run(struct hmp_call *call, const json_t *args, struct err **err)
{
	int i;

	(void)args;
	(void)err;
	for (i = 0; i < 20000; i++)
		hmp_printf(call, "%0200d\n", i);
	return 0;
}

static const struct hmp_command commands[] = {
	{.name = "status", .help = "state", .run = status_run},
	{.name = "later", .help = "later", .run = later_run},
	{.name = "flood", .help = "flood", .run = flood_run},
	{.name = NULL},
};

static int env_setup(void **state)
{
	struct env *env = calloc(1, sizeof(*env));
	const struct hmp_config config = {commands, "ebb monitor", "(qemu) ", env};

	strcpy(env->dir, "/tmp/monitor-test-XXXXXX");
	assert_non_null(mkdtemp(env->dir));
	snprintf(env->path, sizeof(env->path), "%s/m", env->dir);
	env->loop = loop_new_main(NULL);
	env->hmp = hmp_new(&config);
	*state = env;
	return 0;
}

static int env_teardown(void **state)
{
	struct env *env = *state;

	hmp_free(env->hmp);
	loop_free(env->loop);
	assert_int_equal(rmdir(env->dir), 0);
	free(env);
	return 0;
}

static struct chardev *open_server(struct env *env)
{
	struct chr_config config;

	chr_config_init(&config);
	config.id = "mon";
	config.backend = CHR_SOCKET;
	config.path = env->path;
	config.server = true;
	config.wait = false;
	return must_open(env->loop, &config);
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
	char text[4096];
	size_t count;
	bool end;
};

/* Take what came; whether the text now ends like that. */
static bool reads(struct reader *r, const char *ending)
{
	size_t size = strlen(ending);
	ssize_t n = recv(r->fd, r->text + r->count, sizeof(r->text) - 1 - r->count, MSG_DONTWAIT);

	if (n > 0)
		r->count += (size_t)n;
	r->end |= n == 0;
	r->text[r->count] = '\0';
	return r->count >= size && !strcmp(r->text + r->count - size, ending);
}

static void say(struct reader *r, const char *text)
{
	assert_int_equal(send(r->fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void several_clients_at_once(void **state)
{
	struct env *env = *state;
	struct chardev *chr = open_server(env);
	struct chr_monitor *mon = chr_monitor_new(chr, env->hmp, NULL);
	struct reader a = {.fd = dial(env)}, b = {.fd = dial(env)};

	assert_non_null(mon);
	PUMP(env->loop, reads(&a, "ebb monitor\r\n(qemu) "));
	PUMP(env->loop, reads(&b, "ebb monitor\r\n(qemu) "));
	say(&a, "later\nstatus\n");
	PUMP(env->loop, env->pending != NULL);
	say(&b, "status\n");
	PUMP(env->loop, reads(&b, "(qemu) status\r\nVM status: running\r\n(qemu) "));
	assert_false(reads(&a, "running\r\n(qemu) "));
	hmp_done(env->pending, NULL);
	PUMP(env->loop, reads(&a, "(qemu) status\r\nVM status: running\r\n(qemu) "));
	close(a.fd);
	say(&b, "\tstatus\n");
	PUMP(env->loop, reads(&b, "status\r\nVM status: running\r\n(qemu) "));
	chr_monitor_free(mon);
	PUMP(env->loop, (reads(&b, ""), b.end));
	chardev_free(chr);
	close(b.fd);
}

/* echo ... | socat - UNIX:...: everything is answered, then the connection ends. */
static void script_that_leaves_gets_its_answers(void **state)
{
	struct env *env = *state;
	struct chardev *chr = open_server(env);
	struct chr_monitor *mon = chr_monitor_new(chr, env->hmp, NULL);
	struct reader a = {.fd = dial(env)};

	say(&a, "status\nlater\nstatus\n");
	shutdown(a.fd, SHUT_WR);
	PUMP(env->loop, env->pending != NULL);
	hmp_done(env->pending, NULL);
	PUMP(env->loop, (reads(&a, ""), a.end));
	assert_string_equal(a.text, "ebb monitor\r\n"
				    "(qemu) status\r\nVM status: running\r\n"
				    "(qemu) later\r\n"
				    "(qemu) status\r\nVM status: running\r\n(qemu) ");
	close(a.fd);
	chr_monitor_free(mon);
	chardev_free(chr);
}

static void client_that_does_not_read_is_disconnected(void **state)
{
	struct env *env = *state;
	struct chardev *chr = open_server(env);
	struct chr_monitor *mon = chr_monitor_new(chr, env->hmp, NULL);
	struct reader a = {.fd = dial(env)}, b = {.fd = dial(env)};

	PUMP(env->loop, reads(&b, "(qemu) "));
	say(&a, "flood\n");
	/* It is cut off though it reads nothing: its end can no longer be written to. */
	PUMP(env->loop, send(a.fd, "\n", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno == EPIPE);
	say(&b, "status\n");
	PUMP(env->loop, reads(&b, "VM status: running\r\n(qemu) "));
	close(a.fd);
	close(b.fd);
	chr_monitor_free(mon);
	chardev_free(chr);
}

static void client_leaves_while_its_command_runs(void **state)
{
	struct env *env = *state;
	struct chardev *chr = open_server(env);
	struct chr_monitor *mon = chr_monitor_new(chr, env->hmp, NULL);
	struct reader a = {.fd = dial(env)};

	say(&a, "later\n");
	PUMP(env->loop, env->pending != NULL);
	close(a.fd);
	chr_monitor_free(mon);
	chardev_free(chr);
	hmp_printf(env->pending, "to nobody\n");
	hmp_done(env->pending, NULL);
}

static void monitor_shares_a_mux_with_a_serial_port(void **state)
{
	struct env *env = *state;
	struct chr_config config;
	struct chr_monitor *mon;
	struct front serial = {.room = SIZE_MAX};
	struct chardev *chr;
	struct reader a = {0};
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	chr_config_init(&config);
	config.id = "mux";
	config.backend = CHR_SOCKET;
	config.fd = fds[0];
	config.mux = true;
	a.fd = fds[1];
	chr = must_open(env->loop, &config);
	assert_false(chardev_listens(chr));
	mon = chr_monitor_new(chr, env->hmp, NULL);
	assert_non_null(mon);
	must_attach(chr, &serial, &front_ops);
	chr_port_focus(serial.port);
	PUMP(env->loop, serial.opened);
	chr_port_write(serial.port, "login:", 6);
	say(&a, "root\n");
	PUMP(env->loop, front_has(&serial, "root\n"));
	PUMP(env->loop, reads(&a, "login:"));
	assert_string_equal(a.text, "login:"); /* the greeting is held back */
	say(&a, "\001cstatus\n");
	PUMP(env->loop, reads(&a, "(qemu) status\r\nVM status: running\r\n(qemu) "));
	assert_non_null(strstr(a.text, "login:ebb monitor\r\n(qemu) \r\n(qemu) status"));
	say(&a, "\001cx");
	PUMP(env->loop, front_has(&serial, "root\nx"));
	chr_monitor_free(mon);
	chr_port_close(serial.port);
	chardev_free(chr);
	close(a.fd);
}

static void monitor_needs_a_free_chardev(void **state)
{
	struct env *env = *state;
	struct chardev *chr = open_server(env);
	struct chr_monitor *mon = chr_monitor_new(chr, env->hmp, NULL);
	struct err *err = NULL;

	assert_null(chr_monitor_new(chr, env->hmp, &err));
	assert_non_null(strstr(err_message(err), "'mon' is in use"));
	err_free(err);
	chr_monitor_free(mon);
	chardev_free(chr);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, env_setup, env_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(several_clients_at_once),
		T(script_that_leaves_gets_its_answers),
		T(client_that_does_not_read_is_disconnected),
		T(client_leaves_while_its_command_runs),
		T(monitor_shares_a_mux_with_a_serial_port),
		T(monitor_needs_a_free_chardev),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
