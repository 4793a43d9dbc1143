/* SPDX-License-Identifier: BSD-3-Clause */
/* What the parts of ram_send.h share. */
#ifndef VMM_MIGRATION_RAM_SEND_INTERNAL_H
#define VMM_MIGRATION_RAM_SEND_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/migration/pages.h"
#include "vmm/migration/ram_send.h"
#include "vmm/migration/ram_send_rate.h"

struct dirty;
struct lane;
struct workers;

struct ram_send {
	struct ram_send_config config; /* but for limits */
	struct notes *notes;
	struct pages_map *sent;
	struct pages_counts counts;
	struct lane *lane;       /* the main channel's */
	struct workers *workers; /* NULL: there are no further channels */
	uint64_t barriers;       /* that were sent */
	bool fresh;              /* not all was looked at once */
	struct dirty *
		*first;  /* of each block: what was there at the start, and is to be looked at */
	bool first_over; /* none of that is left */
	_Atomic uint64_t hinted; /* pages that were left out */
	uint64_t hinted_known;   /* of them those that the figures know of */
	struct rate rate;
	_Atomic bool interrupted;
	bool final; /* all has to be sent, whoever interrupts */
	uint8_t notes_bytes[4 + PAGES_NOTES * PAGES_NOTE_BYTES];
	pthread_mutex_t lock;
	struct ram_send_limits limits; /* guarded by lock */
};

/* Tell what was noted. */
int ram_send_tell(struct ram_send *send, struct err **err);
/* Harvest, and tell what was plugged before; *ret_pages: how many told pages are marked. */
int ram_send_sync(struct ram_send *send, uint64_t *ret_pages, struct err **err);
/*
 * Take the marks of @count pages of the block (PAGES_WINDOW at most, bit 0 is @first), of both kinds;
 * bits up to whole words are cleared. Returns how many pages there were.
 */
uint64_t ram_send_take(struct ram_send *send, size_t block, uint64_t first, uint64_t count,
		       uint64_t *words);
uint64_t ram_send_gpa(const struct ram_send *send, size_t block, uint64_t page);
/* What was sent so far. */
void ram_send_sums(const struct ram_send *send, struct rate_sums *ret);
/* ram_send_first.c: the marks of what was there at the start; ranges are in pages of the block. */
int ram_send_first_init(struct ram_send *send, struct err **err);
/* Also after a failure. */
void ram_send_first_done(struct ram_send *send);
void ram_send_first_mark(struct ram_send *send, size_t block, struct range pages);
uint64_t ram_send_first_count(const struct ram_send *send, size_t block, struct range pages);
/* The first marked page of [page, end), or @end. */
uint64_t ram_send_first_next(const struct ram_send *send, size_t block, uint64_t page,
			     uint64_t end);
/* Clear them and add them to @words, bit 0 for page @first. */
void ram_send_first_take(struct ram_send *send, size_t block, uint64_t first, uint64_t count,
			 uint64_t *words);
/* The first pass is over: what it did not come to is marked as if it were written now. */
void ram_send_first_end(struct ram_send *send);

/* END on each further channel, and all of it sent. */
int ram_send_end_further(struct ram_send *send, struct err **err);

#endif
