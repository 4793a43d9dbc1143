/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How fast memory is sent and how fast the guest makes it dirty again: the figures for people, when
 * the rest fits into the downtime, and how much the guest is held back (auto-converge).
 *
 * I1  The pace that estimates rest on is that of pages with content, as they were actually sent; a
 *     stretch with next to none of them says nothing about it. Before there was one it is the
 *     limit's.
 * I2  The guest is held back when in two rounds one after the other it made more than
 *     throttle_trigger_threshold percent of what was sent dirty again, and more each two further
 *     ones.
 *
 * Threads: the sender's, but for rate_info() and the two after it: any.
 */
#ifndef VMM_MIGRATION_RAM_SEND_RATE_H
#define VMM_MIGRATION_RAM_SEND_RATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/migration/ram_send.h"

/* Sums since the start. */
struct rate_sums {
	uint64_t ms;
	uint64_t bytes;  /* sent */
	uint64_t normal; /* pages */
	uint64_t zero;
};

/* Start from all zeros. Times are of cancel_now_ms(). */
struct rate {
	/* for any thread */
	_Atomic uint64_t remaining_pages, syncs, dirty_per_s, pages_per_s, bytes_per_s;
	_Atomic uint64_t normal_per_s; /* bytes of pages with content; 0: not known */
	_Atomic unsigned int throttle;
	/* the sender's */
	struct rate_sums tick, round;
	uint64_t sync_ms, round_normal;
	unsigned int outpaced; /* rounds in a row */
};

/* A round begins, in which @pages are marked. */
void rate_begin(struct rate *rate, const struct rate_sums *now, uint64_t pages);
/* @pages marks were taken. */
void rate_taken(struct rate *rate, uint64_t pages);
/* Often: figures are brought up to date once they have something to tell. */
void rate_tick(struct rate *rate, const struct rate_sums *now);
/* The round is over, all of it sent. */
void rate_end(struct rate *rate, const struct rate_sums *now);
/* The harvest after it found @pages dirty. */
void rate_synced(struct rate *rate, uint64_t now_ms, uint64_t pages);

uint64_t rate_expected_ms(const struct rate *rate, const struct ram_send_limits *limits);
bool rate_fits(const struct rate *rate, const struct ram_send_limits *limits);

/* After rate_synced(), when it does not fit: how much the guest is to be held back from now on. */
unsigned int rate_throttle(struct rate *rate, const struct ram_send_limits *limits,
			   uint64_t dirty_pages);

#endif
