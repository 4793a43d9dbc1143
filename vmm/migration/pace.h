/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Not faster than so many bytes a second: a token bucket over the monotonic clock, shared by all
 * channels of a migration.
 *
 * I1  In any stretch of time T no more than limit * (T + PACE_BURST_MS) bytes, and the one request
 *     that is larger than that, are let through.
 * I2  Nobody waits on after the limit was raised or lifted, or the cancel raised.
 * I3  While it is suspended nobody waits, and nothing counts as sent.
 *
 * Threads: any.
 */
#ifndef VMM_MIGRATION_PACE_H
#define VMM_MIGRATION_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct cancel;
struct err;
struct pace;

#define PACE_BURST_MS 50

/* 0: no limit. */
struct pace *pace_new(uint64_t bytes_per_s, struct err **err);
/* NULL is allowed. Nobody waits in it any more. */
void pace_free(struct pace *pace);
void pace_set(struct pace *pace, uint64_t bytes_per_s);
uint64_t pace_limit(const struct pace *pace);
/* What is sent goes nowhere any more (@suspended), or somewhere again. The limit stays. */
void pace_suspend(struct pace *pace, bool suspended);
/*
 * Wait until @bytes may be sent, and count them as sent. 0 or -ECANCELED. Milliseconds that it
 * waited are added to *ret_waited_ms (NULL allowed): a migration whose pace is its limit.
 */
int pace_take(struct pace *pace, uint64_t bytes, const struct cancel *cancel,
	      uint64_t *ret_waited_ms);

#endif
