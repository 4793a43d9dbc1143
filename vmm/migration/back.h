/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The way back of a migration, at the source: a thread of its own that hears what the target says,
 * whatever the sender is doing.
 *
 *	READY	all is loaded		RUNNING	the guest is about to run there, or (held) would, but
 *						waits for somebody to let it go on
 *	FAILED	a sentence: it gives up. The sender's cancel is raised, unless RUNNING came before
 *	WANT, HAVE, DONE		postcopy
 *
 * I1  How it ended is known exactly (enum back_end): whether the guest may go on here depends on it.
 * I2  READY and RUNNING come once each, in this order; RUNNING only after back_expect_running().
 *
 * Threads: back_new() and back_free() one; the rest any. ops are called on the thread of the way back.
 * The target controls what comes and when.
 */
#ifndef VMM_MIGRATION_BACK_H
#define VMM_MIGRATION_BACK_H

#include <stdbool.h>
#include <stddef.h>

#include "vmm/migration/record.h"

struct back;
struct cancel;
struct channel;
struct err;

struct back_ops {
	/* May be NULL: such a record is the target's mistake. Not 0: it ends with that. */
	int (*want)(void *opaque, const void *bytes, size_t size, struct err **err);
	int (*have)(void *opaque, const void *bytes, size_t size, struct err **err);
	/* READY, RUNNING or DONE came, or it has ended. May be NULL. */
	void (*changed)(void *opaque);
	/* It has ended; before changed(). May be NULL. */
	void (*ended)(void *opaque);
};

enum back_end {
	BACK_OPEN,
	BACK_CLOSED, /* the target closed it in order: it has ended, or is ending */
	BACK_RESET,  /* it was cut: the target has ended, or the network cut it */
	BACK_BROKEN, /* anything else: it timed out, or what came made no sense */
	BACK_FAILED, /* the target gave up, and said why */
};

/* @expect: the header of the way there. All must outlive it. */
struct back *back_new(struct channel *channel, const struct record_header *expect,
		      struct cancel *cancel, const struct back_ops *ops, void *opaque,
		      struct err **err);
/* The cancel was raised, or the channel's other side has ended. NULL is allowed. */
void back_free(struct back *back);

/* From now on RUNNING may come: before the record that brings it about is sent. */
void back_expect_running(struct back *back);
/*
 * Wait until @type came (READY, RUNNING, DONE). 0; -ETIMEDOUT, without a sentence; -ECANCELED, also
 * without one; -EIO with a sentence when the way back ended before.
 */
int back_wait(struct back *back, enum record_type type, int timeout_ms, struct err **err);
/* Did @type come (READY, RUNNING, DONE)? */
bool back_came(struct back *back, enum record_type type);
/* RUNNING came: does the guest wait there for somebody to let it go on? */
bool back_held(struct back *back);
/* Wait at most so long for its end. */
enum back_end back_wait_end(struct back *back, int timeout_ms);
/* Why it ended: the target's words, or what was wrong; a copy for the caller to free(), or NULL. */
char *back_why(struct back *back);

#endif
