/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Following something that goes on at the monitor until it is over: questions at intervals, one line
 * of text that tells how it gets on, interrupts.
 *
 * I1  Nothing is asked while an answer is due.
 * I2  Where stdout is a terminal the line is drawn over and over; elsewhere a line is printed when it
 *     is another one, once a second at most.
 * I3  From attend_init() to attend_done() SIGINT does nothing but have interrupt() called, where
 *     attend_run() runs.
 *
 * Threads: one.
 */
#ifndef EBBCTL_ATTEND_H
#define EBBCTL_ATTEND_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct client;
struct err;

#define ATTEND_LINE_BYTES 1024

struct attend {
	struct client *client;
	bool bar;        /* draw the line over and over */
	bool over;       /* set by the owner */
	bool ask_now;    /* likewise: do not wait for the interval */
	struct err *err; /* the connection's, or of a question; the owner's to free */
	char shown[ATTEND_LINE_BYTES];
	int signals; /* a signalfd */
	sigset_t signals_before;
};

struct attend_ops {
	/* Send the questions; an answer may set over. */
	void (*ask)(void *opaque);
	/* The line, at most @room bytes and, for a terminal, @columns columns. */
	void (*line)(void *opaque, uint64_t now_ms, size_t columns, char *buf, size_t room);
	void (*interrupt)(void *opaque);
};

void attend_init(struct attend *a, struct client *client);
void attend_done(struct attend *a);
/* Until it is over, or the connection is. Removes the line from a terminal at the end. */
void attend_run(struct attend *a, const struct attend_ops *ops, void *opaque);
/* A question failed: it is over. The first reason is kept. */
void attend_fail(struct attend *a, const struct err *err);

#endif
