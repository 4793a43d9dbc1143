/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shared memory of every kind that this machine has, for tests of guard/pages_file.c: a file with a
 * region in its middle, the mapping of that, and foreign content on both sides, which must stay.
 *
 * The tests are linked with --wrap for the calls that pages_file.c makes, so that they can be
 * counted and made to fail.
 */
#ifndef TESTS_UNIT_GUARD_FILE_RIG_H
#define TESTS_UNIT_GUARD_FILE_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "guard/pages.h"

/* A kind of file; block sizes from a page of it up. */
struct rig_kind {
	const char *name;
	int (*make)(void); /* a descriptor, or -1 where the machine has none */
	uint64_t page, block_size;
	bool no_userfaultfd, no_cachestat;
	const char *mechanism;
};

enum {
	RIG_MEMFD,
	RIG_MEMFD_SMALL,
	RIG_MEMFD_FENCED,
	RIG_TMPFS,
	RIG_2M,
	RIG_2M_FENCED,
	RIG_1G,
	RIG_TMPFS_HUGE,
	RIG_DISK,
	RIG_KINDS,
};

extern const struct rig_kind rig_kinds[RIG_KINDS];

struct rig {
	const struct rig_kind *kind;
	struct pages *pages;
	char *memory, *mapping;
	uint64_t block, blocks; /* bytes; number */
	uint64_t offset, size;  /* the region in the file */
	uint64_t reserved;      /* bytes of address space at mapping */
	uint64_t beside;        /* bytes that the foreign content takes */
	int fd;
};

/* False when there is no such file here. The region was full of content before. */
bool rig_start(struct rig *rig, const struct rig_kind *kind, uint64_t blocks, uint32_t max_fences);
/* Checks the foreign content. */
void rig_end(struct rig *rig);

/* Run a test on each kind but the slow one; those that are not to be had here are told. */
void rig_each(uint64_t blocks, uint32_t max_fences, void (*test)(struct rig *rig));

int rig_open(struct rig *rig, uint64_t first, uint64_t count);
int rig_close(struct rig *rig, uint64_t first, uint64_t count);
int rig_discard(struct rig *rig, uint64_t first, uint64_t count);

/* The byte at an offset of a block: -1 when it cannot be read; false when it cannot be written. */
int rig_peek(const struct rig *rig, uint64_t block, uint64_t offset);
bool rig_poke(const struct rig *rig, uint64_t block, uint64_t offset, unsigned char value);
/* None of the blocks can be reached. */
void rig_check_closed(const struct rig *rig, uint64_t first, uint64_t count);
/* Closed by the protection of address ranges? */
bool rig_fenced(const struct rig *rig);
/* Bytes that the region has of the file system. */
uint64_t rig_held(const struct rig *rig);
/* The host holds exactly that many blocks; a file system on a disk may have some for itself. */
void rig_check_held(const struct rig *rig, uint64_t blocks);
/* How many pages of the run are in the page cache; -1 when the kernel does not tell. */
long rig_cached(const struct rig *rig, uint64_t first, uint64_t count);
/* How many address ranges the region is divided into. */
unsigned int rig_ranges(const struct rig *rig);
/* How many pages of 4096 bytes are mapped in the run. */
uint64_t rig_mapped(const struct rig *rig, uint64_t first, uint64_t count);

/* ---- calls ---- */

struct rig_calls {
	unsigned int fallocates, mprotects, all; /* so far */
	unsigned int fail_at;                    /* the call (of all) that fails, from 1; 0: none */
	unsigned int fail_for;                   /* how many fail in a row */
	int error;                               /* a positive errno value */
	bool no_userfaultfd, no_cachestat;
};

extern struct rig_calls rig_calls;

/*
 * A file of a tmpfs that makes huge pages (huge=always), or makes them for mappings that were advised
 * so (huge=advise); -1 without the right to make one.
 */
int rig_make_huge_tmpfs(void);
int rig_make_advised_tmpfs(void);

/*
 * Huge pages of 2 MiB or 1 GiB for the time of a test; true when there are @pages free ones. Tests that
 * do so go one after the other: the file nr_hugepages is locked (flock(2)) meanwhile.
 */
bool rig_pool_grow(uint64_t page, unsigned int pages);
void rig_pool_restore(void);
/* Free pages that nobody has a right to. */
uint64_t rig_pool_free(uint64_t page);

#endif
