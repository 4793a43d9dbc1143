/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Pages of a running machine: read, told from zeros, and gathered into batches; and the form in
 * which batches travel.
 *
 * I1  Memory is reached through the gm only. A page that cannot be read because its device block
 *     was just unplugged is left out and marked dirty again: it is looked at once more, or dropped
 *     with its block. One that cannot be read although it is there is an error.
 * I2  Memory of the host is not made by reading: pages that the host never provided are zeros, and
 *     are told from others without being touched (pages_host_skip()).
 * I3  A page of zeros is told only where the target's may be something else (struct pages_map
 *     "sent"), or where the reader was made to tell all.
 *
 * Payloads of the records (record.h), numbers little-endian:
 *
 *	PAGES	le32 block, le32 runs, runs * {le64 first page, le32 pages}, then the pages'
 *		bytes in the order of the runs: as they are, or with PAGES_ZSTD one zstd frame of
 *		them. 1 to PAGES_BATCH pages.
 *	ZEROS	le32 block, le32 runs, runs * {le64 first page, le32 pages}; 1 to PAGES_ZERO_RUNS
 *		runs
 *	NOTES	le32 number, number * {le32 block, le32 plugged (0 or 1), le64 offset, le64
 *		size} in bytes from the block's start; 1 to PAGES_NOTES of them
 *	ROUND	le64 number of the barrier: 1, 2, ...
 *
 * Runs ascend and do not overlap; each is of 1 page or more and inside the block.
 *
 * Threads: a reader has one; a map any.
 * The guest controls: the content of pages, also while they are read: such a page is dirty again.
 */
#ifndef VMM_MIGRATION_PAGES_H
#define VMM_MIGRATION_PAGES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/num.h"
#include "vmm/migration/blocks.h"

struct cancel;
struct err;
struct gm;

#define PAGES_WINDOW    1024u /* pages that are looked at at a time, a multiple of 64 */
#define PAGES_BATCH     256u  /* pages of one PAGES record: 1 MiB */
#define PAGES_ZERO_RUNS 1024u /* runs of one ZEROS record */
#define PAGES_NOTES     1024u /* entries of one NOTES record */

/* Flags of a PAGES record. */
#define PAGES_ZSTD 1u

#define PAGES_RUN_BYTES  12u
#define PAGES_HEAD_BYTES 8u
#define PAGES_NOTE_BYTES 24u
#define PAGES_MAX_BYTES  (PAGES_HEAD_BYTES + PAGES_BATCH * (PAGES_RUN_BYTES + PAGE_BYTES))

/* Pages of one block. */
struct pages_run {
	uint64_t first;
	uint32_t count;
};

/* ---- a bit for each page of all blocks ---- */

struct pages_map;

/* All 0; what was never set costs nothing. NULL and *err when memory is out. */
struct pages_map *pages_map_new(const struct block *blocks, size_t nr_blocks, struct err **err);
void pages_map_free(struct pages_map *map);
bool pages_map_test(const struct pages_map *map, size_t block, uint64_t page);
void pages_map_set(struct pages_map *map, size_t block, uint64_t first, uint64_t count);
void pages_map_clear(struct pages_map *map, size_t block, uint64_t first, uint64_t count);
/* Length of the run of pages from @page to @end that all have the bit of @page. */
uint64_t pages_map_same(const struct pages_map *map, size_t block, uint64_t page, uint64_t end);
/* The 64-bit words themselves, for sending them: (nr_pages + 63) / 64. */
const _Atomic uint64_t *pages_map_words(const struct pages_map *map, size_t block);

/* ---- reading ---- */

/* Where batches go. Ended by the first result that is not 0. */
struct pages_sink {
	/* @nr_pages pages with content; @bytes holds them in the order of @runs. */
	int (*pages)(void *opaque, size_t block, const struct pages_run *runs, size_t nr_runs,
		     const void *bytes, size_t nr_pages, struct err **err);
	/* Zeros now, and maybe not before; whole runs of any length. */
	int (*zeros)(void *opaque, size_t block, const struct pages_run *runs, size_t nr_runs,
		     struct err **err);
};

struct pages_reader;

/* May be read by any thread while the reader works. */
struct pages_counts {
	_Atomic uint64_t normal; /* pages with content */
	_Atomic uint64_t zero;   /* pages of zeros, told or not */
};

struct pages_reader_config {
	struct gm *gm;
	const struct block *blocks;
	size_t nr_blocks;
	/* Pages that are something else than zeros at the target; set by the reader. */
	struct pages_map *sent;
	bool tell_zeros; /* all of them */
	const struct pages_sink *sink;
	void *opaque;
	struct pages_counts *counts; /* added to */
};

struct pages_reader *pages_reader_new(const struct pages_reader_config *config, struct err **err);
void pages_reader_free(struct pages_reader *reader);
void pages_reader_tell_zeros(struct pages_reader *reader, bool tell);

/*
 * Read those pages of the block whose bit is set, bit 0 being page @first, which is behind all that
 * was read of the block since the last flush: what makes a batch full goes to the sink, the rest
 * stays with the reader. At most PAGES_WINDOW / 64 words. @fresh: the host may never have provided
 * some of them (I2). 0, what the sink returned, or -errno; *err is set.
 */
int pages_reader_read(struct pages_reader *reader, size_t block, uint64_t first,
		      const uint64_t *words, size_t nr_words, bool fresh, struct err **err);
/* All that was read goes to the sink. */
int pages_reader_flush(struct pages_reader *reader, struct err **err);
/* All that was read is forgotten. */
void pages_reader_drop(struct pages_reader *reader);

/*
 * Which of the @count pages from @first did the host ever provide? Clears the bits of others in
 * @words (bit 0: page @first), @fd being a descriptor of /proc/self/pagemap, or -1. Leaves bits of
 * which it is not sure.
 */
void pages_host_skip(const struct block *block, uint64_t first, uint64_t count, uint64_t *words,
		     int fd);

/*
 * Memory that pages are about to come to is zeros where none come (I3), also where a file that somebody
 * named had content: of boot memory nothing stays of that. 0, or -errno and *err; @cancel ends it.
 */
int pages_host_empty(struct gm *gm, const struct block *block, const struct cancel *cancel,
		     struct err **err);

/* Is the page at @host all zeros? For memory that nobody writes to. */
bool pages_is_zero(const void *host);

/* ---- the form of batches ---- */

/* Writes number and runs; returns the bytes: PAGES_HEAD_BYTES + nr_runs * PAGES_RUN_BYTES. */
size_t pages_pack_runs(void *buf, size_t block, const struct pages_run *runs, size_t nr_runs);

/*
 * Reads and checks them: @max_runs runs and @max_pages pages (0: no limit) at most. The bytes after
 * them, if any, are @ret_rest. -EINVAL with a sentence.
 */
int pages_unpack_runs(const struct block *blocks, size_t nr_blocks, const void *payload,
		      size_t size, size_t max_runs, uint64_t max_pages, size_t *ret_block,
		      struct pages_run *ret_runs, size_t *ret_nr_runs, uint64_t *ret_nr_pages,
		      struct range *ret_rest, struct err **err);

#endif
