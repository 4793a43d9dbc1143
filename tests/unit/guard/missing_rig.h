/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory that is expected, of every kind that there is here, for the tests of guard/missing.h: what
 * belongs into it, a thread that serves its faults, and threads that wait for it.
 *
 * Ownership: a world is the test's, from missing_rig_on_each(); its server runs between
 * world_serve_start() and world_serve_stop().
 */
#ifndef TESTS_GUARD_MISSING_RIG_H
#define TESTS_GUARD_MISSING_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>

#include "guard/missing.h"
#include "tests/unit/guard/file_rig.h"
#include "tests/unit/guard/guard_rig.h"
#include "tests/unit/guard/held.h"

#define BLOCKS   8
#define BLOCK    (2 * MIB)
#define SIZE     (BLOCKS * BLOCK)
#define TOUCHERS 4

/* Memory that is expected, and who serves its faults. */
struct world {
	struct host host;
	struct missing *missing;
	size_t area;
	char *memory;
	int fd;
	uint64_t page;
	bool guarded;
	/* the server */
	pthread_t server;
	int stop;
	_Atomic unsigned int served;
	pthread_mutex_t
		putting; /* one at a time: pages are put twice here, with the same content */
};

/* Somebody whose system call reads at a place that is waited for. */
struct waiter {
	struct world *w;
	pthread_t thread;
	uint64_t offset;
	_Atomic int result; /* of a system call that reads there: the byte or -errno */
};

/* What belongs into a page of 4096 bytes; never 0. */
uint64_t content_of(uint64_t offset);
void content_fill(uint64_t offset, uint64_t size, char *to);

/* Put what belongs there. */
int world_put(struct world *w, uint64_t offset, uint64_t size);

/* A thread that puts each page that somebody waits for. */
void world_serve_start(struct world *w);
void world_serve_stop(struct world *w);

/* The next fault, waited for. */
uint64_t world_fault(struct world *w);

/* The thread of a WAITER whose W and OFFSET are set: it reads there once. */
void *wait_there(void *opaque);

/* It waits when this returns. */
void waiter_start(struct waiter *waiter, struct world *w, uint64_t offset);
/* What it read, or -errno, when it is through. */
int waiter_end(struct waiter *waiter);

/* TEST on each kind of memory: blocks 0 to 5 are granted, 1 to 4 of them expected. */
void missing_rig_on_each(void (*test)(struct world *w));

/* Run the COUNT TESTS, where userfaultfd is to be had; else 77, which is "skipped". */
int missing_rig_run(const char *name, const struct CMUnitTest *tests, size_t count);

#endif
