/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One machine that top looks at: its connection, asked round by round, and what it said.
 *
 * I1  A round begins only when all answers of the one before have come: a slow machine is asked
 *     less often, and holds up nobody else.
 * I2  A connection that ended or failed is tried again every TOP_RETRY_MS, as long as something may
 *     come to listen there; what is no monitor for programs is not tried again.
 *
 * Ownership: the caller's; struct top_machine inside is for looking at.
 * Threads: one. Nothing here waits.
 */
#ifndef EBBCTL_TOP_LINK_H
#define EBBCTL_TOP_LINK_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct pollfd;
struct top_link;
struct top_machine;

#define TOP_RETRY_MS 2000
#define TOP_GUESS_MS 2000

struct top_link_ops {
	/* Something to tell a person, clean. */
	void (*say)(void *opaque, const char *text);
};

/*
 * @where is looked up once; @label names the machine. @guess: nobody said that it is a monitor;
 * then it is one when it greets within TOP_GUESS_MS, and else is let alone (I2).
 */
int top_link_new(const char *where, const char *label, bool guess, const struct top_link_ops *ops,
		 void *opaque, struct top_link **ret_link, struct err **err);
/* NULL is allowed. */
void top_link_free(struct top_link *link);

struct top_machine *top_link_machine(const struct top_link *link);
const char *top_link_where(const struct top_link *link);
/* It was once connected, and its greeting was right. */
bool top_link_was_ready(const struct top_link *link);
/* It is not a monitor for programs. */
bool top_link_is_other(const struct top_link *link);
/* There is no connection, and none is under way. */
bool top_link_is_down(const struct top_link *link);
/* Nothing is to be waited for: all that was asked has been answered. */
bool top_link_is_idle(const struct top_link *link);

/* What to poll(); fd -1 when there is nothing. */
void top_link_poll(const struct top_link *link, struct pollfd *ret_pfd);
void top_link_work(struct top_link *link, uint64_t now_ms);
/* Time has passed: connect, or give up connecting. */
void top_link_tick(struct top_link *link, uint64_t now_ms);
/* Begin a round, if one may (I1). Maps shall have @cells cells. */
void top_link_ask(struct top_link *link, size_t cells);
/* Ask the guest for another size of the device @id. */
void top_link_resize(struct top_link *link, const char *id, uint64_t bytes);

#endif
