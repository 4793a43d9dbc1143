/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is plugged, on its way to the target: changes are noted where they happen, on the threads of
 * the memory devices, and taken by the sender, which tells them in its stream ahead of every page
 * that they matter to.
 *
 * I1  A note never waits for the sender, and the memory for all of them is fixed: four
 *     bits for each device block. A block that changed several times since the sender looked is
 *     told once: as unplugged, when it is; as plugged, when it came; and as both, in this order,
 *     when it was plugged, lost its content and is plugged again.
 * I2  What was noted before notes_take() began is told by it. Together with I7 of mem.h
 *     (a block is noted before anything can be written to it) each dirty mark that was taken before
 *     notes_take() began, and is not in the told map after it, belongs to memory that is gone.
 * I3  A device block is in the told map exactly between being told as plugged and as unplugged.
 *     Boot memory always is.
 *
 * Threads: notes_changed() any; notes_told_*() and notes_take() the sender's.
 * The guest controls: what is noted, and how often. It cannot make a take longer than one walk over
 * the blocks that changed.
 */
#ifndef VMM_MIGRATION_NOTES_H
#define VMM_MIGRATION_NOTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/num.h"

struct block;
struct err;
struct notes;

/* Nothing is plugged nor told. @blocks outlives it. */
struct notes *notes_new(const struct block *blocks, size_t nr_blocks, struct err **err);
/* Ends what notes_track() began. NULL is allowed. */
void notes_free(struct notes *notes);

/* Have the memory devices of the blocks note what is plugged, and from now on each change. */
void notes_track(struct notes *notes);
void notes_untrack(struct notes *notes);

/* @offset and @size: bytes, multiples of the block's unit_bytes, inside it. */
void notes_changed(struct notes *notes, size_t block, uint64_t offset, uint64_t size, bool plugged);

/* Is there something to take? Never waits. */
bool notes_pending(const struct notes *notes);

/*
 * Have @fn called for each run that is to be told (bytes from the block's start), and take it as
 * told. Ends with the first result that is not 0, which is returned: the run is told, others wait.
 * No lock is held during the calls.
 */
int notes_take(struct notes *notes,
	       int (*fn)(void *opaque, size_t block, struct range run, bool plugged), void *opaque);

/*
 * The first told run at or after @page in the block, in pages: true, with the run from @page on, or
 * false when there is none.
 */
bool notes_told_run(const struct notes *notes, size_t block, uint64_t page, struct range *ret_run);
/* All told pages. */
uint64_t notes_told_pages(const struct notes *notes);

#endif
