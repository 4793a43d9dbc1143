/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The end of a wait, from another thread: everything in this room that may block looks at one of
 * these as well, and comes back with -ECANCELED.
 *
 * I1  Once raised it stays so.
 *
 * Ownership: its maker frees it, after everything that was given it. Threads: any.
 */
#ifndef VMM_MIGRATION_CANCEL_H
#define VMM_MIGRATION_CANCEL_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct cancel;

struct cancel *cancel_new(struct err **err);
/* NULL is allowed. */
void cancel_free(struct cancel *cancel);

void cancel_raise(struct cancel *cancel);
bool cancel_raised(const struct cancel *cancel);
/* Readable from cancel_raise() on, for poll(2); not to be read from. */
int cancel_fd(const struct cancel *cancel);

/*
 * Wait until @fd has one of @events, or something is wrong with it, until @deadline_ms (of
 * cancel_now_ms(); -1: none). @fd -1: the time only. 0, -ECANCELED, -ETIMEDOUT or -errno.
 */
int cancel_poll(const struct cancel *cancel, int fd, short events, int64_t deadline_ms);
/* Monotonic milliseconds. */
int64_t cancel_now_ms(void);
/* What @timeout_ms (-1: none) from now makes. */
int64_t cancel_deadline(int timeout_ms);
/* What is left until then, as poll(2) takes it. */
int cancel_left_ms(int64_t deadline_ms);

#endif
