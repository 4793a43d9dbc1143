/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A small driver of the memory balloon (VIRTIO 1.3, 5.5), and the memory that it is for: an arena of
 * pages, each in one of four states.
 *
 * I1  What is in a page in use is known, and checked before it is given up. What is in the others does
 *     not matter.
 * I2  A page that is hinted may be used before the device looked at the hint, as the standard allows;
 *     one in the balloon, or reported, only after the answer.
 */
#ifndef BARE_BALLOON_H
#define BARE_BALLOON_H

#include <stdbool.h>
#include <stdint.h>

#include "mem.h"
#include "virtio.h"

#define BALLOON_ID       5u
#define BALLOON_PAGES    0x10000u /* of an arena at most: 256 MiB */
#define BALLOON_C_ACTUAL 4u

enum balloon_queue {
	BALLOON_INFLATE,
	BALLOON_DEFLATE,
	BALLOON_STATS,
	BALLOON_HINTS,
	BALLOON_REPORTS,
	BALLOON_QUEUES,
};

enum page_state { PAGE_USED, PAGE_FREE, PAGE_IN_BALLOON, PAGE_HINTED, PAGE_STATES };

struct balloon {
	struct virtio virtio;
	struct vring rings[BALLOON_QUEUES];
	uint64_t doorbells[BALLOON_QUEUES];
	bool present[BALLOON_QUEUES];
	uint16_t indices[BALLOON_QUEUES];
	bool follows; /* num_pages */
	/* the arena */
	uint64_t arena;
	uint32_t pages, counts[PAGE_STATES];
	uint8_t states[BALLOON_PAGES];
	uint32_t times[BALLOON_PAGES]; /* of pages in use: how often they were written */
	/* pages that were not what they should be; of these those that were empty */
	uint64_t wrong, empty;
	uint64_t stats_answers;
	/* commands of hints that were followed; hinted pages that were used before the end */
	uint64_t rounds, reused;
	/* the hints under way */
	uint32_t hint_id, hint_page;
	bool hint_runs;
	/* a page each that the device is told of */
	uint32_t *numbers, *words;
	void *stats;
};

/* All of the arena is written, and in use; the device is found. */
bool balloon_open(struct balloon *b, uint64_t arena, uint64_t size);
/* Reset and start, with these features of the device's own. */
bool balloon_start(struct balloon *b, uint64_t features);
/* The same with the features of the last time; what was in the balloon is free. */
bool balloon_restart(struct balloon *b);

/* ---- pages ---- */

uint64_t balloon_gpa(const struct balloon *b, uint32_t page);
void balloon_set(struct balloon *b, uint32_t page, enum page_state state);
/* Written once more. */
void balloon_use_page(struct balloon *b, uint32_t page);
/* One in use; what is wrong is printed. */
void balloon_check_page(struct balloon *b, uint32_t page);
/* The next page of this state at or after @page; the arena's number of pages when there is none. */
uint32_t balloon_find(const struct balloon *b, uint32_t page, enum page_state state);

/* Pages of any memory, as if they were written for the @time-th time. */
void balloon_write_page(uint64_t gpa, uint64_t time);
/* Is it what was written? *ret_zero: it is empty instead. */
bool balloon_read_page(uint64_t gpa, uint64_t time, bool *ret_zero);

/* ---- one step of each; true: there is more to do ---- */

/* From the free pages into the balloon, or out of it, towards num_pages. */
bool balloon_follow(struct balloon *b);
/*
 * A few runs of free pages are hinted, if that is wanted. Nobody waits for answers.
 */
bool balloon_hint(struct balloon *b);
/* Statistics, when the device asked for them. */
void balloon_tell_stats(struct balloon *b);
/* Report all free pages; how many. */
uint32_t balloon_report(struct balloon *b);

/* ---- raw ---- */

/* Add a chain and ring the bell. False when it does not fit. */
bool balloon_add(struct balloon *b, unsigned int q, const struct vring_segment *segments,
		 unsigned int count);
/* Until all that was added was answered. */
bool balloon_settle(struct balloon *b, unsigned int q);
/* Both. */
bool balloon_do(struct balloon *b, unsigned int q, const struct vring_segment *segments,
		unsigned int count);
/* Tell of the first @count numbers. */
bool balloon_numbers(struct balloon *b, unsigned int q, uint32_t count);
void balloon_config(const struct balloon *b, unsigned int offset, uint32_t value);

#endif
