/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Receiving memory: what ram_send.h sends, put into a machine that has not run yet.
 *
 * I1  Each record is checked whole before anything of it is done; each number has its bound, and no
 *     record makes more work than its block has pages, nor takes memory that it does not bring.
 * I2  Pages go into boot memory and plugged blocks only; anything else is the stream's mistake, and
 *     a sentence.
 * I3  Zeros never cost memory of the host: where nothing was written nothing is done.
 * I4  Barriers: what a channel brought after ROUND n is looked at when all channels brought ROUND
 *     n, and what came before was done.
 *
 * Ownership: blocks and readers are the caller's, and outlive it.
 * Threads: one, the incoming; a thread each for the further channels.
 * The other side controls every byte and when it comes.
 */
#ifndef VMM_MIGRATION_RAM_RECEIVE_H
#define VMM_MIGRATION_RAM_RECEIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/migration/blocks.h"

struct err;
struct gm;
struct pages_map;
struct pages_sink;
struct ram_receive;
struct record;
struct record_reader;

struct ram_receive_config {
	struct gm *gm;
	const struct block *blocks;
	size_t nr_blocks;
	/* Further channels that will be given; 0 to RAM_RECEIVE_CHANNELS_MAX. */
	size_t nr_further;
	/*
	 * A further channel failed, and the main one should not be waited for any more. On any
	 * thread; must not call back. May be NULL. ram_receive_error() tells why.
	 */
	void (*failed)(void *opaque);
	/* Plug or unplug at the device. NULL: virtio_mem_load_plug() of the block's device. */
	int (*plug)(void *opaque, size_t block, uint64_t offset, uint64_t size, bool plugged,
		    struct err **err);
	void *opaque;
};

#define RAM_RECEIVE_CHANNELS_MAX 255u

struct ram_receive *ram_receive_new(const struct ram_receive_config *config, struct err **err);
/*
 * Ends the threads of further channels, whose cancel must have been raised unless they came to
 * their end. NULL is allowed.
 */
void ram_receive_free(struct ram_receive *receive);

/*
 * Read further channel @index, 1 to nr_further, on a thread of its own; its header was read. Pages
 * begin to arrive at once. All of them are there before the main channel's first record.
 */
int ram_receive_channel(struct ram_receive *receive, size_t index, struct record_reader *reader,
			struct err **err);

/* Is a record of this type (record.h) for ram_receive_record()? */
bool ram_receive_takes(uint32_t type);
/*
 * A record of the main channel, read by @reader (NULL: none is known, in sentences). Waits at
 * barriers for the other channels. 0 or -errno with a sentence; -ECANCELED without one when a
 * further channel failed (ram_receive_error()).
 */
int ram_receive_record(struct ram_receive *receive, const struct record_reader *reader,
		       const struct record *record, struct err **err);
/* The main channel came to its END: waits for those of all others. */
int ram_receive_end(struct ram_receive *receive, struct err **err);
/*
 * The first failure of a further channel, told once: -errno with its sentence (-ECANCELED without
 * one); 0 when there is none.
 */
int ram_receive_error(struct ram_receive *receive, struct err **err);

/*
 * From now on pages and zeros of the main channel are handed to @sink, whether they are plugged or
 * not, instead of being written to memory: others put them there, for a guest that runs.
 * ram_receive_written() stays as it is.
 */
void ram_receive_hand_over(struct ram_receive *receive, const struct pages_sink *sink,
			   void *opaque);

/* Pages that something was written to. */
struct pages_map *ram_receive_written(const struct ram_receive *receive);

#endif
