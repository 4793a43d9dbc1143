/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of an outgoing migration share; nobody else includes this. */
#ifndef VMM_MIGRATION_OUTGOING_INTERNAL_H
#define VMM_MIGRATION_OUTGOING_INTERNAL_H

#include <pthread.h>

#include "base/pack.h"
#include "vmm/migration/back.h"
#include "vmm/migration/outgoing.h"
#include "vmm/migration/ram_send.h"
#include "vmm/migration/record.h"
#include "vmm/vm/vm_migrate.h"

struct block;
struct cancel;
struct channel;
struct image_writer;
struct pace;
struct postcopy_send;

struct outgoing {
	struct outgoing_config config;
	struct address *address;
	struct cancel *cancel;
	struct pace *pace;
	pthread_t thread;
	bool joined;
	/* What must agree, and the machine's memory: made on the main thread. */
	struct pack description;
	struct block *blocks;
	size_t nr_blocks;

	/* The thread's; the lock guards the change of @channel. */
	struct channel *channel;
	struct channel **further; /* nr_further */
	struct record_header header;
	struct record_writer *writer; /* of @channel, unless there is an image */
	struct record_writer **further_writers;
	size_t nr_further;
	struct back *back; /* NULL: there is no way back */
	bool logging;      /* vm_dirty_start() */
	bool hinting;      /* the guest was asked what is free */
	struct pack sections;

	pthread_mutex_t lock; /* guards the following; the thread alone writes those marked T */
	pthread_cond_t changed;
	struct migration_params params;
	bool cancelled;                /* somebody wants it to end */
	bool committed;                /* T: too late for that (I1) */
	bool go_on;                    /* outgoing_continue() */
	bool postcopy;                 /* outgoing_start_postcopy() */
	bool postcopy_runs;            /* T: it has begun */
	bool running;                  /* T: the target said so, in postcopy */
	bool cut;                      /* outgoing_cut() waits for that */
	struct address *resume;        /* outgoing_resume(): the thread's when it takes it */
	struct postcopy_send *left;    /* T: what postcopy has still to send */
	uint64_t requests;             /* pages that the target wanted first */
	uint64_t precopy_bytes;        /* sent before the guest was stopped */
	struct ram_send *send;         /* T */
	struct image_writer *image;    /* T; instead of @writer */
	struct migration_ram_info ram; /* T: when there is no @send any more */
	bool has_ram;                  /* T */
	bool over;                     /* T */
	uint64_t begun_ms, setup_ms, halted_ms, downtime_ms, ended_ms; /* T; 0: not yet */
};

uint64_t outgoing_now_ms(void);

/* outgoing.c */

/* -ECANCELED when there is no main thread any more. */
int outgoing_set_status(struct outgoing *o, enum migration_status status);
int outgoing_set_status_why(struct outgoing *o, enum migration_status status, const char *why);
/* Have whatever waits for the other side come back with an error, now. */
void outgoing_disrupt(struct outgoing *o);
/* Limits that hold while the guest runs at the target. */
void outgoing_begin_postcopy_pace(struct outgoing *o);
/* The guest is given away from now on; -ECANCELED when it was cancelled before. */
int outgoing_commit(struct outgoing *o);
/* One more record, in the stream or in the image. */
int outgoing_record(struct outgoing *o, enum record_type type, uint32_t flags, const void *bytes,
		    size_t size, struct err **err);

/* outgoing_ask.c */

/*
 * Whoever asked for postcopy does not wait for more than pages that were read already, and these for no
 * limit. Nothing happens before it was asked for, or before there is a sender. The lock is held.
 */
void outgoing_hurry(struct outgoing *o);
struct ram_send_limits outgoing_limits(const struct outgoing *o, const struct migration_params *p);
/* What is known of memory by now; the lock is held. */
void outgoing_ram_info(const struct outgoing *o, struct migration_ram_info *ret_ram);
bool outgoing_can(const struct outgoing *o, enum migration_capability capability);

/* outgoing_switch.c: everything from the last round on. *ret_outcome also after a failure. */
int outgoing_switch(struct outgoing *o, enum vm_migration_outcome *ret_outcome, struct err **err);
/* Parts of it: the guest is stopped, and its parts are saved; they are sent. */
int outgoing_stop(struct outgoing *o, struct err **err);
int outgoing_send_sections(struct outgoing *o, struct err **err);
/* GO was sent, and RUNNING did not come: whose guest it is, and a sentence instead of *err. */
enum vm_migration_outcome outgoing_in_doubt(struct outgoing *o, struct err **err);

/* outgoing_postcopy.c: the same, when the guest is not to wait for its memory. */
int outgoing_postcopy(struct outgoing *o, enum vm_migration_outcome *ret_outcome, struct err **err);
extern const struct back_ops outgoing_back_ops;

/* outgoing_hints.c: have the guest say which pages are free, where that is of use. */
void outgoing_hints_begin(struct outgoing *o);
/* No more of them. Nothing happens where there were none; the same for _end(). */
void outgoing_hints_stop(struct outgoing *o);
/* The guest may use the pages again. */
void outgoing_hints_end(struct outgoing *o);

/* outgoing_image.c */
struct ram_send_sink;
/* For a file in which pages have places. */
int outgoing_image_begin(struct outgoing *o, struct err **err);
extern const struct ram_send_sink outgoing_image_sink;
/* What is plugged now, as the target is to know it before the parts. */
int outgoing_image_notes(struct outgoing *o, struct err **err);

#endif
