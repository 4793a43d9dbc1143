/* SPDX-License-Identifier: BSD-3-Clause */
/* Following something that goes on: see attend.h for the contract. */
#include "ebbctl/attend.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "ebbctl/client.h"
#include "ebbctl/terminal.h"

#define ATTEND_TICK_BAR_MS  200
#define ATTEND_TICK_LINE_MS 1000

static uint64_t attend_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void attend_init(struct attend *a, struct client *client)
{
	const char *term = getenv("TERM");
	sigset_t set;

	*a = (struct attend){
		.client = client,
		.bar = isatty(STDOUT_FILENO) && term && strcmp(term, "dumb"),
	};
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, &a->signals_before);
	a->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

void attend_done(struct attend *a)
{
	struct signalfd_siginfo info;

	/* One that came too late has nothing to interrupt. */
	while (read(a->signals, &info, sizeof(info)) == sizeof(info))
		;
	close(a->signals);
	sigprocmask(SIG_SETMASK, &a->signals_before, NULL);
}

void attend_fail(struct attend *a, const struct err *err)
{
	a->over = true;
	if (!a->err)
		err_set(&a->err, err_code(err), "%s", err_message(err));
}

static void attend_show(struct attend *a, const struct attend_ops *ops, void *opaque)
{
	char text[ATTEND_LINE_BYTES] = "";

	/* The last column stays free: some terminals go to the next row in it. */
	ops->line(opaque, attend_now_ms(), a->bar ? terminal_columns() - 1 : 0, text, sizeof(text));
	if (!strcmp(text, a->shown))
		return;
	strcpy(a->shown, text);
	printf(a->bar ? "\r%s\033[K" : "%s\n", text);
	fflush(stdout);
}

/* Where a question was under way, that has told of the end of the connection. */
static void attend_work(struct attend *a)
{
	struct err *err = NULL;

	client_work(a->client, &err);
	if (a->err)
		err_free(err);
	else
		a->err = err;
}

void attend_run(struct attend *a, const struct attend_ops *ops, void *opaque)
{
	uint64_t tick_ms = a->bar ? ATTEND_TICK_BAR_MS : ATTEND_TICK_LINE_MS, now, next = 0;
	struct pollfd fds[2] = {{.fd = a->signals, .events = POLLIN}};
	struct signalfd_siginfo info;

	while (!a->over) {
		now = attend_now_ms();
		if (!client_pending(a->client) && (a->ask_now || now >= next)) {
			if (next)
				attend_show(a, ops, opaque);
			a->ask_now = false;
			ops->ask(opaque);
			next = now + tick_ms;
		}
		fds[1] = (struct pollfd){.fd = client_fd(a->client),
					 .events = client_poll_events(a->client)};
		if (poll(fds, 2, now < next ? (int)(next - now) : (int)tick_ms) < 0)
			continue;
		if (fds[0].revents && read(a->signals, &info, sizeof(info)) == sizeof(info))
			ops->interrupt(opaque);
		if (fds[1].revents)
			attend_work(a);
		if (a->err)
			a->over = true;
	}
	if (a->bar)
		printf("\r\033[K");
}
