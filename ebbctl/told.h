/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a migration is, as query-migrate tells of it.
 *
 * I1  Figures are what the monitor said, each at least 0; what it did not say, or what cannot be, is
 *     0. done_bytes is total_bytes at most.
 *
 * Threads: none.
 */
#ifndef EBBCTL_TOLD_H
#define EBBCTL_TOLD_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define TOLD_STATUS_MAX 32

struct told {
	char status[TOLD_STATUS_MAX]; /* "none" where nothing was said; as it came */
	const char *why;              /* as it came, the answer's; NULL: nothing was said */
	bool has_memory;              /* these are known */
	uint64_t done_bytes, total_bytes;
	uint64_t sent_bytes;
	uint64_t moved_bytes; /* memory that was sent, counted as often as it was */
	uint64_t passes;
	uint64_t dirty_bytes; /* that the guest writes in a second */
	uint64_t throttle;    /* percent */
	uint64_t downtime_ms, total_ms;
};

void told_read(const json_t *value, struct told *ret_told);
/* Does it not get on any more by itself? */
bool told_is_over(const struct told *told);

#endif
