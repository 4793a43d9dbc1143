/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Figures of top as short texts: in columns, and as lines for logs.
 *
 * Threads: any.
 */
#ifndef EBBCTL_TOP_TEXT_H
#define EBBCTL_TOP_TEXT_H

#include <stdint.h>

struct top_device;
struct top_machine;

#define TOP_TEXT_MAX 64

/* "1.5G", "99.9M", "512M": three digits, or the whole number; cut. Returns @buf. */
const char *top_size_text(uint64_t bytes, char buf[TOP_TEXT_MAX]);
/* "+350M/s", "0". Returns @buf. */
const char *top_rate_text(int64_t bytes_per_s, char buf[TOP_TEXT_MAX]);
/* "steady", "growing 50 %". Returns @buf. */
const char *top_state_text(const struct top_device *device, uint64_t now_ms,
			   char buf[TOP_TEXT_MAX]);
/* A whole figure, or "-" for what is not known. Returns @buf. */
const char *top_count_text(uint64_t count, int known, char buf[TOP_TEXT_MAX]);

/*
 * A device as one line of key=value for logs, "machine=... device=... plugged=2048M ..."; sizes are
 * exact. A new string, NULL when memory is out.
 */
char *top_line(const struct top_machine *machine, const struct top_device *device, uint64_t now_ms);
/* "moving 45 %, +350M/s, pass 2", of a machine that is. Returns @buf. top_move.c */
#define TOP_MOVE_TEXT_MAX 128
const char *top_move_text(const struct top_machine *machine, uint64_t now_ms,
			  char buf[TOP_MOVE_TEXT_MAX]);
/* A line for logs of it; and of a machine that has no devices to tell of. */
char *top_move_line(const struct top_machine *machine, uint64_t now_ms);
char *top_problem_line(const struct top_machine *machine);

#endif
