/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Marks of pages that were written to, for one piece of guest memory: a bit for each page, and above
 * it a bit for each group of words, so that what was never marked need not be looked at.
 *
 * I1  A mark that was made before dirty_take() began is taken by it, and one that is made while it
 *     runs is taken, or is there afterwards: none is lost. Whoever marks after writing, and reads
 *     after taking, has the last content or another mark to come.
 * I2  Nobody waits for anybody.
 * I3  Pages that were never marked cost neither memory nor, in groups of DIRTY_GROUP_PAGES, time.
 *
 * Threads: marks by any number of them at any time; dirty_take() and the readers by any, but two
 * takers share what is there.
 */
#ifndef VMM_CORE_DIRTY_H
#define VMM_CORE_DIRTY_H

#include <stdint.h>

#define DIRTY_WORD_PAGES  64u
#define DIRTY_GROUP_WORDS 64u
#define DIRTY_GROUP_PAGES (DIRTY_WORD_PAGES * DIRTY_GROUP_WORDS)

struct dirty;

/* Nothing is marked. NULL when memory, or room for its address, is out. */
struct dirty *dirty_new(uint64_t pages);
void dirty_free(struct dirty *dirty);

/* In all of these the pages from @page on, @pages of them, are there. */
void dirty_mark(struct dirty *dirty, uint64_t page, uint64_t pages);
/* Mark what @bits says of the 64 pages from @page on; 0 for those that are not there. */
void dirty_mark_bits(struct dirty *dirty, uint64_t page, uint64_t bits);
/* Clear the marks and add them to @words, @page as bit number @bit. Returns how many there were. */
uint64_t dirty_take(struct dirty *dirty, uint64_t page, uint64_t pages, uint64_t *words,
		    uint64_t bit);
/* The first one that is marked of the pages [page, end), or @end. */
uint64_t dirty_next(const struct dirty *dirty, uint64_t page, uint64_t end);
uint64_t dirty_count(const struct dirty *dirty, uint64_t page, uint64_t pages);

#endif
