/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Terminals: a child process has a pseudo-terminal as standard input and output and uses the stdio
 * back-end on it; the parent types, and looks at the terminal's mode while the child runs, is
 * stopped, ends and crashes. Also the pty back-end, whose other end the test opens itself.
 */
#include "tests/unit/chardev/chardev_test.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "vmm/chardev/term.h"

struct child {
	struct front front;
	struct chardev *chr;
	struct loop *loop;
};

/* For the signal handler, in the child only. */
static struct chr_term *crash_term;

static void crash_handler(int signum)
{
	(void)signum;
	chr_term_restore(crash_term);
	_exit(42);
}

/* Another process group gets the terminal until its process is ended; then ours does again. */
static void child_go_background(void)
{
	pid_t other = fork(), keeper;

	if (!other) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setpgid(0, 0);
		for (;;)
			pause();
	}
	setpgid(other, other);
	keeper = fork();
	if (!keeper) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* Not in the foreground itself, so SIGTTOU must not stop it. */
		signal(SIGTTOU, SIG_IGN);
		while (!kill(other, 0) && waitpid(other, NULL, WNOHANG) <= 0)
			poll(NULL, 0, 5);
		tcsetpgrp(0, getpgrp());
		_exit(0);
	}
	tcsetpgrp(0, other);
	signal(SIGCHLD, SIG_IGN); /* a dead process is gone at once */
}

/* Echo; q ends, k crashes, B goes to the background. */
static void child_receive(void *opaque, const uint8_t *buf, size_t size)
{
	struct child *c = opaque;
	size_t i;

	chr_port_write(c->front.port, buf, size);
	for (i = 0; i < size; i++) {
		if (buf[i] == 'q')
			loop_stop(c->loop);
		if (buf[i] == 'k')
			raise(SIGABRT);
		if (buf[i] == 'B')
			child_go_background();
	}
}

static size_t child_can_receive(void *opaque)
{
	(void)opaque;
	return 16;
}

static void child_event(void *opaque, enum chr_event event)
{
	struct child *c = opaque;

	if (event == CHR_OPENED)
		chr_port_write(c->front.port, "ready", 5);
}

static const struct chr_ops child_ops = {
	.can_receive = child_can_receive,
	.receive = child_receive,
	.event = child_event,
};

static void child_main(int slave, bool sig)
{
	struct child c = {0};
	struct chr_config config;

	/* When the test fails, nobody stays behind. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setsid();
	ioctl(slave, TIOCSCTTY, 0);
	dup2(slave, 0);
	dup2(slave, 1);
	signal(SIGABRT, crash_handler);
	c.loop = loop_new_main(NULL);
	chr_config_init(&config);
	config.id = "tty";
	config.backend = CHR_STDIO;
	config.signal = sig;
	c.chr = chardev_new(c.loop, &config, NULL);
	if (!c.chr || chardev_attach(c.chr, &child_ops, &c, &c.front.port, NULL))
		_exit(1);
	crash_term = chardev_terminal(c.chr);
	loop_run(c.loop);
	chr_port_close(c.front.port);
	chardev_free(c.chr);
	loop_free(c.loop);
	exit(0);
}

struct terminal {
	int master, slave;
	pid_t pid;
	struct termios before;
};

static void terminal_start(struct terminal *t, bool sig)
{
	char path[64];

	t->master = posix_openpt(O_RDWR | O_NOCTTY);
	assert_true(t->master >= 0);
	assert_int_equal(grantpt(t->master) || unlockpt(t->master), 0);
	assert_int_equal(ptsname_r(t->master, path, sizeof(path)), 0);
	t->slave = open(path, O_RDWR | O_NOCTTY);
	assert_true(t->slave >= 0);
	assert_int_equal(tcgetattr(t->slave, &t->before), 0);
	t->pid = fork();
	assert_true(t->pid >= 0);
	if (!t->pid)
		child_main(t->slave, sig);
}

/* Read from the terminal until the text was seen. */
static void terminal_expect(struct terminal *t, const char *text)
{
	struct pollfd pfd = {.fd = t->master, .events = POLLIN};
	char seen[256] = "";
	size_t count = 0;
	ssize_t n;

	while (!strstr(seen, text)) {
		assert_true(count < sizeof(seen) - 1);
		assert_int_equal(poll(&pfd, 1, 10000), 1);
		n = read(t->master, seen + count, sizeof(seen) - 1 - count);
		assert_true(n > 0);
		count += (size_t)n;
	}
}

static bool terminal_is_cooked(const struct terminal *t)
{
	struct termios now;

	assert_int_equal(tcgetattr(t->slave, &now), 0);
	return now.c_lflag == t->before.c_lflag && now.c_iflag == t->before.c_iflag;
}

static void terminal_end(struct terminal *t, int want_status)
{
	int status;

	assert_int_equal(waitpid(t->pid, &status, 0), t->pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), want_status);
	assert_true(terminal_is_cooked(t));
	assert_false(fcntl(t->slave, F_GETFL) & O_NONBLOCK);
	close(t->slave);
	close(t->master);
}

static void terminal_is_raw_and_restored(void **state)
{
	struct terminal t;
	struct termios now;

	(void)state;
	terminal_start(&t, false);
	terminal_expect(&t, "ready");
	assert_int_equal(tcgetattr(t.slave, &now), 0);
	assert_false(now.c_lflag & (ECHO | ICANON | ISIG));
	assert_false(now.c_iflag & (ICRNL | IXON));
	assert_true(now.c_oflag & OPOST);
	assert_false(fcntl(t.slave, F_GETFL) & O_NONBLOCK);
	/* Ctrl-C, Ctrl-Z and Ctrl-S are the front-end's. */
	assert_int_equal(write(t.master, "\003\032\023a", 4), 4);
	terminal_expect(&t, "\003\032\023a");
	assert_int_equal(write(t.master, "q", 1), 1);
	terminal_end(&t, 0);
}

static void crash_restores(void **state)
{
	struct terminal t;

	(void)state;
	terminal_start(&t, false);
	terminal_expect(&t, "ready");
	assert_false(terminal_is_cooked(&t));
	assert_int_equal(write(t.master, "k", 1), 1);
	terminal_end(&t, 42);
}

static void stop_restores_and_continue_is_raw_again(void **state)
{
	struct terminal t;
	int status;

	(void)state;
	terminal_start(&t, true);
	terminal_expect(&t, "ready");
	assert_int_equal(write(t.master, "\032", 1), 1);
	assert_int_equal(waitpid(t.pid, &status, WUNTRACED), t.pid);
	assert_true(WIFSTOPPED(status));
	assert_true(terminal_is_cooked(&t));
	kill(t.pid, SIGCONT);
	/* The echo comes from the front-end now, once, and without a line's end. */
	while (terminal_is_cooked(&t))
		poll(NULL, 0, 1);
	assert_int_equal(write(t.master, "here", 4), 4);
	terminal_expect(&t, "here");
	assert_int_equal(write(t.master, "q", 1), 1);
	terminal_end(&t, 0);
}

/* The child starts in the background: neither mode nor input are touched until it is in front. */
static void background_process_leaves_the_terminal_alone(void **state)
{
	struct terminal t;
	pid_t front;

	(void)state;
	terminal_start(&t, false);
	terminal_expect(&t, "ready");
	/* A process group of its own in the child's session takes the terminal. */
	assert_int_equal(write(t.master, "B", 1), 1);
	terminal_expect(&t, "B");
	while (tcgetpgrp(t.master) == t.pid)
		poll(NULL, 0, 1);
	front = tcgetpgrp(t.master);
	assert_true(front > 0);
	assert_int_equal(write(t.master, "typed\n", 6), 6);
	/* It was not stopped for reading, and what was typed is read once it is in front again. */
	kill(front, SIGTERM);
	terminal_expect(&t, "typed");
	assert_int_equal(write(t.master, "q", 1), 1);
	terminal_end(&t, 0);
}

static void note_taken(void *opaque, const char *line)
{
	snprintf(opaque, 300, "%s", line);
}

static void pty_comes_and_goes(void **state)
{
	struct loop *loop = loop_new_main(NULL);
	struct front f = {.room = SIZE_MAX};
	struct chr_config config;
	struct chardev *chr;
	char note[300] = "", want[300], buf[16], *name;
	int fd, i;

	(void)state;
	chr_config_init(&config);
	config.id = "p0";
	config.backend = CHR_PTY;
	config.note = note_taken;
	config.opaque = note;
	chr = must_open(loop, &config);
	snprintf(want, sizeof(want), "char device redirected to %s (label p0)",
		 chardev_pty_path(chr));
	assert_string_equal(note, want);
	name = chardev_filename(chr);
	snprintf(want, sizeof(want), "pty:%s", chardev_pty_path(chr));
	assert_string_equal(name, want);
	free(name);
	must_attach(chr, &f, &front_ops);
	/* Nobody there: output is dropped, as much as comes. */
	for (i = 0; i < 1000; i++) {
		uv_run(loop_uv(loop), UV_RUN_NOWAIT);
		chr_port_write(f.port, want, sizeof(want));
	}
	PUMP(loop, f.opened == f.closed);
	assert_int_equal(chr_port_write(f.port, want, sizeof(want)), sizeof(want));
	for (i = 0; i < 2; i++) {
		int opened = f.opened;

		fd = open(chardev_pty_path(chr), O_RDWR | O_NOCTTY | O_NONBLOCK);
		assert_true(fd >= 0);
		PUMP(loop, f.opened == opened + 1);
		f.in_count = 0;
		assert_int_equal(write(fd, "in\r", 3), 3);
		PUMP(loop, front_has(&f, "in\r"));
		chr_port_write(f.port, "out\n", 4);
		PUMP(loop, read(fd, buf, sizeof(buf)) == 4);
		close(fd);
		PUMP(loop, f.closed == f.opened);
	}
	chr_port_close(f.port);
	chardev_free(chr);
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(terminal_is_raw_and_restored),
		cmocka_unit_test(crash_restores),
		cmocka_unit_test(stop_restores_and_continue_is_raw_again),
		cmocka_unit_test(background_process_leaves_the_terminal_alone),
		cmocka_unit_test(pty_comes_and_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
