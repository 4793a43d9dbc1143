/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Calls that a thread of a migration has done on the main thread: everything that changes the machine,
 * and whatever monitors are told.
 *
 * I1  A caller waits for the main thread, which never waits for a caller: onmain_close() sends all
 *     away, those that wait and those that come later.
 * I2  Calls are done one at a time, in the order in which they came, and none by onmain_close() or
 *     after it.
 *
 * Threads: onmain_call() from any but the main one; the rest on the main one.
 */
#ifndef VMM_MIGRATION_ONMAIN_H
#define VMM_MIGRATION_ONMAIN_H

struct err;
struct loop;
struct onmain;

struct onmain *onmain_new(struct loop *main, struct err **err);
/* Nobody is in a call any more. NULL is allowed. */
void onmain_free(struct onmain *onmain);
void onmain_close(struct onmain *onmain);

/* 0 when @fn has run, -ECANCELED when it will not (I1). */
int onmain_call(struct onmain *onmain, void (*fn)(void *opaque), void *opaque);

#endif
