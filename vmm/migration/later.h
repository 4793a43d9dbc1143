/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An incoming machine whose memory comes after it: struct lazy over the blocks of the machine, and
 * what the machine and the main thread have to do with it until all is there.
 *
 * I1  From later_expect() to the end the machine knows that its memory arrives (vm_migrate.h, I4); at
 *     the end the owner's ended() is called, on the main thread, from the loop.
 * I2  Memory that fails to come stops the machine for good, and a sentence on standard error says
 *     why.
 *
 * Threads: later_new(), later_free() and the hooks of the machine on the main one; later_expect() and
 * later_start() on the incoming one; later_lazy() any.
 */
#ifndef VMM_MIGRATION_LATER_H
#define VMM_MIGRATION_LATER_H

#include <stddef.h>

#include "vmm/migration/lazy.h"

struct block;
struct cancel;
struct err;
struct later;
struct loop;
struct onmain;
struct vm;

struct later_config {
	struct vm *vm;
	struct loop *main;
	struct onmain *onmain;
	void (*ended)(void *opaque); /* nothing is missing any more */
	void *opaque;
};

struct later *later_new(const struct later_config *config, struct err **err);
/* Whoever waits for memory goes on with an error, unless all is there. NULL is allowed. */
void later_free(struct later *later);

/*
 * The guest's memory is boot memory and what is plugged now; its content comes from @source. Without
 * a later_start() after it the machine must not run.
 */
int later_expect(struct later *later, const struct block *blocks, size_t nr_blocks,
		 const struct lazy_source *source, struct err **err);
/* lazy_start(). */
int later_start(struct later *later, struct cancel *cancel, struct err **err);
/* NULL before later_expect(). */
struct lazy *later_lazy(struct later *later);

#endif
