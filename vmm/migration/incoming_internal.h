/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of an incoming migration share; nobody else includes this. */
#ifndef VMM_MIGRATION_INCOMING_INTERNAL_H
#define VMM_MIGRATION_INCOMING_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>

#include "vmm/migration/incoming.h"
#include "vmm/migration/record.h"

struct block;
struct cancel;
struct channel;
struct channel_listener;
struct image;
struct later;
struct ram_receive;

/* What may come next. */
enum incoming_step {
	INCOMING_MACHINE, /* the record MACHINE */
	INCOMING_BLOCKS,  /* the record BLOCKS */
	INCOMING_MEMORY,  /* memory, or the first part */
	INCOMING_PARTS,   /* parts, or END */
	INCOMING_ENDED,
};

struct incoming {
	struct incoming_config config;
	struct address *address;
	struct cancel *cancel;
	struct channel_listener *listener;
	pthread_t thread;
	bool joined;
	char listening[MIGRATION_LISTENING_MAX]; /* never changes once it was told */

	/* The thread's, as is @listener. */
	struct channel *channel;
	struct record_header header;
	struct record_reader *reader;
	struct record_writer *writer; /* of the way back; NULL: there is none */
	struct channel **further;     /* nr_further */
	struct record_reader **further_readers;
	size_t nr_further;
	struct block *blocks; /* in the order of the source */
	size_t nr_blocks;
	struct ram_receive *receive;
	enum incoming_step step;
	bool answer; /* the source waits for READY */

	/* Of an image: they stay, as does the channel, until all memory was read. */
	struct later *later;
	struct image *image;
	bool completed, memory_ended; /* the main thread's */
};

/* incoming_load.c: do what one record says; INCOMING_ENDED after END. */
int incoming_load(struct incoming *in, const struct record *record, struct err **err);

/* incoming_image.c: all of it but the memory's content. */
int incoming_image(struct incoming *in, struct err **err);

/* incoming.c: put the channel's name in front, as other sentences have it. Returns @ret. */
int incoming_blame(const struct incoming *in, int ret, struct err **err);

#endif
