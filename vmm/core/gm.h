/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest memory: the one way in which emulated devices and loaders reach it.
 *
 * A guest address is an integer; this module turns ranges of it into copies, never into pointers
 * that callers keep. Two kinds of region: RAM, always accessible, and device memory, whose blocks
 * come and go (virtio-mem).
 *
 * I1  An access is done whole or not at all: a range that is not wholly RAM or accessible device
 *     memory gives -EFAULT and touches nothing. Adjacent regions may be crossed.
 * I2  Device memory is accessible exactly where its owner granted it (gm_grant()); it starts with
 *     nothing granted.
 * I3  When gm_revoke() returns, no access that began before it is still under way and none will
 *     succeed: the owner may take the pages away.
 * I4  2-, 4- and 8-byte accesses at their natural alignment are single-copy atomic; gm_load_acquire
 *     and gm_store_release order them as their names say (ring indices).
 * I5  Memory that the host cannot provide (a full file system behind it, a file made shorter) gives
 *     -EFAULT as well, and then the access may be done in part (fault.h).
 * I6  While writes are marked (gm_dirty_start()) each access through this module that may write
 *     marks its pages after it wrote, and before it returns.
 * I7  A discard (gm_discard()) is a write of zeros to memory that is there: where there is none, or
 *     none that was granted, nothing changes. Nobody waits for one but who changes the regions.
 *
 * Ownership: the regions' host memory belongs to whoever added them and outlives the gm.
 * Threads: everything from any thread. Adding and removing a region waits for the accesses and
 * discards that are under way; so do gm_dirty_start(), gm_dirty_stop() and what changes how to discard.
 * Nobody else waits for marks.
 * The guest controls: every address and length, and the memory's content at any instant.
 */
#ifndef VMM_GM_H
#define VMM_GM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/num.h"

struct gm;
struct gm_region;

struct gm *gm_new(void);
void gm_free(struct gm *gm);

/*
 * -EEXIST when the range overlaps another region, -EINVAL when it is empty, wraps around, or it or
 * @host is not page-aligned (I4 needs both), or @block_size is no power of two that divides it,
 * -ENOMEM.
 */
int gm_add_ram(struct gm *gm, struct range gpa, void *host);
int gm_add_device_memory(struct gm *gm, struct range gpa, void *host, uint64_t block_size,
			 struct gm_region **ret_region);

/* When it returns no access to the region is under way, and none will find it. Frees it. */
void gm_remove_device_memory(struct gm *gm, struct gm_region *region);

/* @offset and @size: in bytes from the region's start, multiples of its block_size, inside it. */
void gm_grant(struct gm_region *region, uint64_t offset, uint64_t size);
void gm_revoke(struct gm_region *region, uint64_t offset, uint64_t size);

/* Whether the whole range is accessible at this instant. */
bool gm_valid(struct gm *gm, uint64_t gpa, uint64_t size);

/* 0 or -EFAULT (I1). @size 0 is allowed and touches nothing. */
int gm_read(struct gm *gm, uint64_t gpa, void *buf, size_t size);
int gm_write(struct gm *gm, uint64_t gpa, const void *buf, size_t size);
int gm_fill(struct gm *gm, uint64_t gpa, uint8_t byte, size_t size);

/*
 * Atomic little-endian access of @size 2, 4 or 8 bytes at natural alignment; -EFAULT also when
 * misaligned. The loaded value is zero-extended.
 */
int gm_load_acquire(struct gm *gm, uint64_t gpa, unsigned int size, uint64_t *ret_value);
int gm_store_release(struct gm *gm, uint64_t gpa, unsigned int size, uint64_t value);

/*
 * Let @fn work on the host bytes of [gpa, gpa + size), in order, one or more pieces; for system
 * calls that read or write guest memory directly (read(2), getrandom(2)). The pieces stay
 * accessible during the call and not after it; a revoke waits for it, so @fn must not block, nor
 * access guest memory through this module; it may be left at any access of the piece (fault.h).
 * Returns -EFAULT before calling @fn at all when the range is not accessible, else the first
 * non-zero result of @fn, else 0. It counts as a write of the pieces that @fn was called for (I6).
 */
int gm_access(struct gm *gm, uint64_t gpa, uint64_t size,
	      int (*fn)(void *opaque, void *host, size_t size), void *opaque);
/* The same for an @fn that only reads: nothing is marked. */
int gm_access_read(struct gm *gm, uint64_t gpa, uint64_t size,
		   int (*fn)(void *opaque, void *host, size_t size), void *opaque);

/*
 * ---- which pages were written to, for those who carry memory elsewhere ----
 *
 * A mark for each page of GM_DIRTY_PAGE bytes. Marks cost memory only where there were some. Whoever
 * takes a mark and then reads its page has what was written before the mark was made; if it is
 * written again there is another mark (dirty.h). Marks of a region go with it, also those of device
 * memory that is not granted, which are kept; where there is no region there are none. Several
 * threads may mark; of those who take at the same time each gets a part. Addresses and sizes are
 * multiples of GM_DIRTY_PAGE where not said otherwise.
 */
#define GM_DIRTY_PAGE UINT64_C(4096)

/* No page is marked, and from now on they are: regions that come later as well. 0 or -ENOMEM. */
int gm_dirty_start(struct gm *gm);
void gm_dirty_stop(struct gm *gm);
/* In all of the following nothing is marked when it was not started. Any range, any alignment. */
void gm_dirty_mark(struct gm *gm, uint64_t gpa, uint64_t size);
/* Bit 0 of the first word is for the page at @gpa. */
void gm_dirty_merge(struct gm *gm, uint64_t gpa, const uint64_t *words, size_t nr_words);
/*
 * Clear the marks of the nr_words * 64 pages from @gpa on; @words becomes what they were, and their
 * number is returned. Fastest when @gpa is a region's start plus a multiple of 64 pages, and for
 * multiples of 4096 pages of it.
 */
uint64_t gm_dirty_take(struct gm *gm, uint64_t gpa, uint64_t *words, size_t nr_words);
/*
 * The first marked page at @gpa or behind it that is below @end, or @end. Parts in which nothing was
 * marked cost next to no time.
 */
uint64_t gm_dirty_next(struct gm *gm, uint64_t gpa, uint64_t end);
/* How many pages of [gpa, gpa + size) are marked. */
uint64_t gm_dirty_count(struct gm *gm, uint64_t gpa, uint64_t size);

/*
 * ---- memory that the guest has no use for: its pages become the host's (balloon.h) ----
 *
 * How that is done is the owner's of a region to say; as long as it does not, nothing is discarded.
 */
struct gm_discard {
	/*
	 * The host's pages: whole ones are freed, from the region's start on. A power of two; the
	 * region's memory begins at such a page on the host.
	 */
	uint64_t page_bytes;
	/*
	 * Free the pages of [offset, offset + size) of the region, as far as they are granted: they
	 * read as zeros then, and are memory as before. *ret_bytes, 0 at the call, is how many that
	 * were, also after a failure. 0 or -errno; -EAGAIN: somebody is busy with the region, and
	 * nothing was done. Called with the regions locked: must neither wait for long nor use this
	 * module.
	 */
	int (*fn)(void *opaque, uint64_t offset, uint64_t size, uint64_t *ret_bytes);
	void *opaque;
};

/*
 * Of the region at @gpa, from now on; copied. NULL: no more, and none is under way when it returns.
 * -ENOENT: no region is there, -EINVAL: the page size is none, or does not fit the host's memory.
 */
int gm_set_discard(struct gm *gm, uint64_t gpa, const struct gm_discard *discard);

/* What [gpa, gpa + size) begins with. */
struct gm_discard_run {
	uint64_t size;       /* of the range's first part that is of one region, or of none */
	uint64_t start;      /* of the region; pages count from there */
	uint64_t page_bytes; /* 0: nothing here can be discarded */
};

/* @size is not 0, and the range does not wrap around. */
void gm_discard_look(struct gm *gm, uint64_t gpa, uint64_t size, struct gm_discard_run *ret_run);

/*
 * Discard whole pages of one region. *ret_bytes: what was, also after a failure. 0, also where nothing
 * was granted; -EFAULT: not pages of a region that can be discarded; -EBUSY: discards are held; else
 * what the region's owner says.
 */
int gm_discard(struct gm *gm, uint64_t gpa, uint64_t size, uint64_t *ret_bytes);

/*
 * Discard nothing until each hold is released: memory may be on its way in, and what is discarded would
 * come back. None is under way when gm_discard_hold() returns, which waits for accesses too; to release
 * waits for nobody.
 */
void gm_discard_hold(struct gm *gm);
void gm_discard_release(struct gm *gm);

#endif
