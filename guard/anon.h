/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the anonymous kind share: see pages.h and pages_anon.c.
 *
 * The region's blocks and the address ranges that the kernel keeps for them correspond exactly. A
 * segment is plain or armed:
 *
 *     plain   an open block is writable, a closed one is a fence: mprotect(PROT_READ)
 *     armed   everything is writable and registered with userfaultfd; in a closed block every
 *             page is the shared zero page, protected page by page. A block that is fenced on top of
 *             that (bit `fenced`) is read-only as well.
 *
 * I1  dirty contains open. fenced has no open block, and only blocks of armed segments.
 * I2  In an armed segment a closed block that is dirty is fenced. One that is clean and not
 *     fenced is armed. One that is clean and fenced may have lost its zero pages or their
 *     protection, or be no longer registered.
 * I3  fences and armed_runs count the maximal runs of read-only blocks and of writable blocks of
 *     armed segments; a read-only run ends where armed segments begin and end. All else is open
 *     memory of plain segments, so the region is at most 2 * (fences + armed_runs) + 1 mappings,
 *     as long as the kernel merges neighbours that are alike.
 *
 * Threads: as pages.h says. Only pages.fences and pages.armed_segments are read from elsewhere.
 */
#ifndef GUARD_ANON_H
#define GUARD_ANON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bitmap.h"
#include "guard/pages.h"

/* How page tables of closed memory are got rid of; see fresh.c. */
struct fresh {
	bool discard_frees, may_move;
	bool mergeable; /* a move costs by the page */
	char *hint;     /* where a move went last; nothing is mapped there */
};

struct anon {
	struct pages pages;
	struct bitmap *open, *dirty; /* by block: pages.h, I1 */
	struct bitmap *fenced;       /* by block */
	struct bitmap *armed;        /* by segment */
	uint32_t *fences_bound; /* by plain segment: it has no more fences, but at its borders */
	uint64_t nr_blocks, nr_segments, segment_blocks;
	uint64_t armed_runs;
	/* More runs than soft_limit, or fences in one segment, are a reason to arm the segment at
	 * hand; more than hard_limit are refused. */
	uint64_t soft_limit, hard_limit, segment_limit;
	struct fresh fresh;
	int uffd; /* -1: there is no userfaultfd */
};

/* Blocks [first, end). */
struct run {
	uint64_t first, end;
};

static inline char *anon_at(const struct anon *anon, uint64_t block)
{
	return anon->pages.config.memory + block * anon->pages.config.block_size;
}

static inline uint64_t anon_bytes(const struct anon *anon, struct run run)
{
	return (run.end - run.first) * anon->pages.config.block_size;
}

/* ---- pages_anon.c ---- */

/* mprotect() and MADV_DONTNEED of a run; 0 or -errno, after which a part may be done. */
int anon_protect(const struct anon *anon, struct run run, int protection);
int anon_drop(const struct anon *anon, struct run run);

/* ---- anon_runs.c: what is where ---- */

/* The blocks of segment @segment. */
struct run anon_segment(const struct anon *anon, uint64_t segment);
bool anon_is_armed(const struct anon *anon, uint64_t block);
bool anon_is_read_only(const struct anon *anon, uint64_t block);
/* The part of [from, end) from @from on whose segments are all armed, or all plain. */
struct run anon_stretch(const struct anon *anon, uint64_t from, uint64_t end);
/* The first run of set (clear) bits in [from, end); empty, at end, when there is none. */
struct run anon_next_set(const struct bitmap *map, uint64_t from, uint64_t end);
struct run anon_next_clear(const struct bitmap *map, uint64_t from, uint64_t end);

struct anon_count {
	uint64_t fences, armed_runs;
};

/* The runs of I3 that begin at one of the blocks first to last, both included. */
struct anon_count anon_count(const struct anon *anon, uint64_t first, uint64_t last);
/* Fences of one segment, those that go on beyond it included. */
uint64_t anon_count_segment(const struct anon *anon, uint64_t segment);

/*
 * Around a change of the bits of @run: what the counters lose, and what they get. @run may be longer
 * than what changes.
 */
struct anon_count anon_change_begin(const struct anon *anon, struct run run);
void anon_change_end(struct anon *anon, struct run run, struct anon_count before);

/* ---- armed.c: segments that are protected page by page ---- */

/* A userfaultfd that can do what is needed; -1 when there is none to be had. */
int armed_probe(void);
/*
 * Arm segment @segment, which is plain. Closed blocks are closed at any time. After a failure it is
 * plain as before, or armed with more mappings than need be.
 */
int armed_enter(struct anon *anon, uint64_t segment);
/* Make armed blocks of the run, in one armed segment, read-only as well. May be a part of it. */
int armed_fence(struct anon *anon, struct run run);
/*
 * Make clean fenced blocks of one armed segment fresh. They stay closed, clean and fenced, also
 * after a failure; they are not armed any more. Reads may fail until it returns.
 */
int armed_refresh(struct anon *anon, struct run run);
/*
 * Discard the fenced blocks of a run in one segment, and arm them again; the segment is plain
 * afterwards when nothing else in it is open or dirty. Failure to discard is returned; blocks that
 * cannot be armed stay fenced.
 */
int armed_discard(struct anon *anon, struct run run);

/* ---- fresh.c: memory as if it had never been mapped ---- */

#define FRESH_ZERO_PAGE "/sys/kernel/mm/transparent_hugepage/use_zero_page"

/* Find out what this kernel does, for a region of that size; @mergeable as pages.h says. */
void fresh_probe(uint64_t region_size, bool mergeable, struct fresh *ret_fresh);
/* Does a read of memory that was never written take none, huge pages or not? */
bool fresh_reads_are_free(void);
/*
 * Make closed, clean memory fresh, so that it can be backed by huge pages at once: no zero pages,
 * and no page tables where the kernel can be made to free them. Neither protection nor any other
 * attribute changes.
 */
int fresh_run(struct fresh *fresh, char *memory, uint64_t size);
/*
 * Make the kernel merge any two neighbouring parts of the region that are alike, however they came to
 * be, once the caller has set the protection of all of it: its pages then share one reverse map.
 * Nobody uses the region yet. Where this cannot be done there will be more mappings.
 */
void fresh_prime(char *memory, uint64_t size);

#endif
