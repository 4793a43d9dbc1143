/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of an incoming migration share; nobody else includes this. */
#ifndef VMM_MIGRATION_INCOMING_INTERNAL_H
#define VMM_MIGRATION_INCOMING_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>

#include "base/pack.h"
#include "vmm/migration/incoming.h"
#include "vmm/migration/record.h"

struct block;
struct cancel;
struct channel;
struct channel_listener;
struct err;
struct image;
struct later;
struct ram_receive;

/* What may come next. */
enum incoming_step {
	INCOMING_MACHINE, /* the record MACHINE */
	INCOMING_BLOCKS,  /* the record BLOCKS */
	INCOMING_MEMORY,  /* memory, or the first part */
	INCOMING_PARTS,   /* parts, or END */
	INCOMING_LIST,    /* what postcopy sends later, parts, or END */
	INCOMING_PAGES,   /* postcopy: memory, GO, END */
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

	_Atomic uint32_t capabilities;

	/* The thread's, as is @listener. */
	struct channel *channel;
	struct record_header header;
	struct record_reader *reader;
	struct record_writer *writer; /* of the way back; NULL: there is none; under back_lock */
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

	/* Of postcopy (incoming_postcopy.c). */
	bool advised;         /* the source may want it */
	struct pack sections; /* until they are loaded, each behind its size */
	pthread_t runner;
	bool runner_joined;
	pthread_mutex_t back_lock; /* a record at a time; guards the change of @writer */
	pthread_mutex_t lock;      /* guards the following, and the change of @channel */
	pthread_cond_t changed;
	bool closing; /* everything ends */
	bool go;      /* the source said it */
	bool broken;  /* the connection did before the guest ran */
	bool decided; /* the runner has ended, or the guest runs: */
	bool running;
	struct err *run_err;              /* why it does not */
	struct channel_listener *recover; /* incoming_recover() */
};

/* incoming_load.c: do what one record says; INCOMING_ENDED after END. */
int incoming_load(struct incoming *in, const struct record *record, struct err **err);
/* One part, on the main thread; and the check that none is missing. */
int incoming_load_part(struct incoming *in, const struct record *record, struct err **err);
int incoming_check_parts(struct incoming *in, struct err **err);

/* incoming_postcopy.c: records of postcopy. */
int incoming_advise(struct incoming *in, struct err **err);
int incoming_list(struct incoming *in, const struct record *record, struct err **err);
int incoming_keep_part(struct incoming *in, const struct record *record, struct err **err);
/* All parts are there: the guest is about to run, by a thread of its own. */
int incoming_run_early(struct incoming *in, const struct record *record, struct err **err);
void incoming_go(struct incoming *in);
/* END: nothing is missing, and the source is told so. */
int incoming_finish(struct incoming *in, const struct record *record, struct err **err);
/*
 * The way from the source failed while pages came, as *err says: 0 when there is another one, with
 * *err ended; else it is over, and *err says why.
 */
int incoming_broken(struct incoming *in, struct err **err);
/* Whatever is under way of it ends. */
void incoming_end_runner(struct incoming *in);

/* incoming.c */

/* One short record on the way back. -ENOTCONN without a sentence: there is none. */
int incoming_say(struct incoming *in, enum record_type type, uint32_t flags, const void *bytes,
		 size_t size, struct err **err);
/* Tell the source why this is the end, if it still listens. */
void incoming_last_words(struct incoming *in, const struct err *err);
int incoming_set_status(struct incoming *in, enum migration_status status, const char *error);

/* incoming_image.c: all of it but the memory's content. */
int incoming_image(struct incoming *in, struct err **err);

/* incoming.c: put the channel's name in front, as other sentences have it. Returns @ret. */
int incoming_blame(const struct incoming *in, int ret, struct err **err);

#endif
