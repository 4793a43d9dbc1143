/* SPDX-License-Identifier: BSD-3-Clause */
/* Events of the monitor as they come, a line each. Exit statuses as main.c has them. */
#ifndef EBBCTL_FOLLOW_H
#define EBBCTL_FOLLOW_H

#include <stdint.h>

struct client;

/* Until the connection ends, which is an error. */
int follow_events(struct client *client);
/*
 * Until one of this name comes, at most @timeout_ms (0: no limit). Case, and - for _, do not
 * matter.
 */
int follow_wait(struct client *client, const char *name, uint64_t timeout_ms);

#endif
