/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One channel's way out for memory: pages that are read, compressed, and written as records.
 *
 * Threads: one at a time; lane_bytes() any.
 */
#ifndef VMM_MIGRATION_RAM_SEND_LANE_H
#define VMM_MIGRATION_RAM_SEND_LANE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/migration/pages.h"

struct cancel;
struct err;
struct iovec;
struct lane;
struct pace;
struct record_writer;

/* Marked pages of one block that lie close together. */
struct lane_job {
	size_t block;
	uint64_t first;
	size_t nr_words;
	bool fresh;                      /* pages_reader_read() */
	const _Atomic bool *interrupted; /* somebody has no time for the rest; NULL: nobody */
	uint64_t words[PAGES_WINDOW / 64];
};

struct lane_config {
	struct record_writer *writer; /* NULL: batches go to reader.sink as that is */
	struct pace *pace;
	struct cancel *cancel;
	bool zstd;
	int zstd_level;
	struct pages_reader_config
		reader; /* sink and opaque are the lane's when there is a writer */
};

struct lane *lane_new(const struct lane_config *config, struct err **err);
void lane_free(struct lane *lane);
void lane_tell_zeros(struct lane *lane, bool tell);
/* What was gathered and not written is dropped. */
void lane_set_writer(struct lane *lane, struct record_writer *writer);

/* 0 or -errno with a sentence, -ECANCELED without one, in all of these. */

/*
 * Once it is interrupted no more than a batch of pages is read, and what was not is marked again as
 * written in the gm.
 */
int lane_send(struct lane *lane, const struct lane_job *job, struct err **err);
int lane_flush(struct lane *lane, struct err **err);
/* All that was sent, and then the barrier. */
int lane_round(struct lane *lane, uint64_t number, struct err **err);
/* Another record, type as in record.h; after what was sent. */
int lane_record(struct lane *lane, uint32_t type, const void *bytes, size_t size, struct err **err);

/* Bytes of all records so far. */
uint64_t lane_bytes(const struct lane *lane);

#endif
