/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How far a resize is, in one line of text: a bar where there is a terminal, words elsewhere.
 *
 * I1  Figures follow from what was noted; rate and time left are of the last PROGRESS_WINDOW_MS.
 *
 * Threads: none; the owner's.
 */
#ifndef EBBCTL_PROGRESS_H
#define EBBCTL_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROGRESS_WINDOW_MS 3000
#define PROGRESS_SAMPLES   32

/* A quantity over the last seconds. */
struct progress_rate {
	struct {
		uint64_t ms;
		uint64_t value;
	} samples[PROGRESS_SAMPLES]; /* oldest first */
	size_t count;
};

/* @ms never goes back. A value noted less than a part of the window later replaces the last. */
void progress_rate_note(struct progress_rate *rate, uint64_t ms, uint64_t value);
/* By how much it changed in a second. 0 until there are two values. */
int64_t progress_rate_get(const struct progress_rate *rate, uint64_t ms);

struct progress {
	const char *what; /* clean */
	uint64_t done, total;
	/* Sizes to show; target_known: both are. */
	uint64_t size_bytes, target_bytes;
	bool target_known;
	int64_t bytes_per_s;
};

#define PROGRESS_SIZES_MAX 96

/* "1.2 GiB of 2 GiB"; "1 GiB on the way to 512 MiB" where there is more than there shall be. */
const char *progress_sizes(uint64_t bytes, uint64_t target_bytes, char buf[PROGRESS_SIZES_MAX]);
/* 0 to 100; 100 only when all is done. */
unsigned int progress_percent(uint64_t done, uint64_t total);
/*
 * "reg0  1.2 GiB of 2 GiB  [######....]  60 %  350 MiB/s  3 s left" of at most @columns columns:
 * the bar gives way first. Returns @buf.
 */
const char *progress_bar(const struct progress *p, size_t columns, bool utf8, char *buf,
			 size_t room);
/* "reg0: 1.2 GiB of 2 GiB, 60 %, 350 MiB/s". Returns @buf. */
const char *progress_line(const struct progress *p, char *buf, size_t room);

#endif
