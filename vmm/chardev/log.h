/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A chardev's log: a copy in a file, or a pipe, of all that its front-ends write, whether anybody is at
 * the other end or not.
 *
 * I1  What the log cannot take its chardev does not take: nothing is missing in it, and who writes too
 *     fast waits as for any slow other end. It is bounded as a port's output is.
 * I2  What cannot be written (a full disk, a pipe whose reader left) is missing in it, and holds up
 *     nobody; a disk that has room again has what comes then.
 *
 * Threads: chr_log_put() from any, the rest on the loop's. Its lock is a leaf: a port's may be held.
 */
#ifndef VMM_CHARDEV_LOG_H
#define VMM_CHARDEV_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chardev;
struct chr_log;
struct err;

/* @fd is taken, also on failure. */
int chr_log_new(struct chardev *chr, int fd, struct chr_log **ret_log, struct err **err);
/* Writes what there is until @deadline_ms. NULL is allowed. */
void chr_log_free(struct chr_log *log, uint64_t deadline_ms);
/* How many of the bytes were taken: all of them where there is no log (any more). */
size_t chr_log_put(struct chr_log *log, const void *buf, size_t size);
/* Is a write that was cut short still without room? False where there is no log. */
bool chr_log_is_full(struct chr_log *log);
/* The service round's part: have written what there is. */
void chr_log_service(struct chr_log *log);

#endif
