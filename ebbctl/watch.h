/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A job of the monitor, watched until it is over: with a bar where stdout is a terminal, with a
 * line now and then elsewhere.
 *
 * I1  The first interrupt (SIGINT) cancels the job, whose end is waited for; the second leaves it.
 * I2  A job that was seen to its end is dismissed.
 */
#ifndef EBBCTL_WATCH_H
#define EBBCTL_WATCH_H

#include <stdint.h>

struct client;

/* Exit status of what was interrupted. */
#define WATCH_INTERRUPTED 130

/*
 * @id: the job's; @what: clean, it starts lines; @device: whose size to show, or NULL: then what is
 * moved is. @target_bytes: what was asked for. Exit status.
 */
int watch_job(struct client *client, const char *id, const char *what, const char *device,
	      uint64_t target_bytes);

/* A table of all jobs; or cancel one. Exit status. */
int watch_print_jobs(struct client *client);
int watch_cancel_job(struct client *client, const char *id);

#endif
