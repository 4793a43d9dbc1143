/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The way of a machine into this process: a thread "incoming" that reads what an outgoing migration
 * sent, and puts it into a machine that waits (VM_INMIGRATE).
 *
 * I1  The guest runs here when all of its state was loaded and, where the source waits for answers,
 *     the source said GO and RUNNING was sent: never before, and never when RUNNING could not be sent
 *     unless the source has ended in order.
 * I2  The first thing that is wrong is kept, as one sentence; the source is told it where that can
 *     be, and the machine never runs.
 *
 * Threads: calls on the main one, which waits in incoming_free() only. The hook is called there too,
 * from the loop.
 * The other side controls every byte; whoever can connect is the other side.
 */
#ifndef VMM_MIGRATION_INCOMING_H
#define VMM_MIGRATION_INCOMING_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/migration/migration.h"

struct address;
struct err;
struct incoming;
struct loop;
struct onmain;

struct incoming_config {
	struct vm *vm;
	struct loop *main;
	struct onmain *onmain;
	uint32_t capabilities;
	/* From MIGRATION_ACTIVE on. @error: of MIGRATION_FAILED, else NULL. After MIGRATION_COMPLETED
	 * and MIGRATION_FAILED it is over. */
	void (*status)(void *opaque, enum migration_status status, const char *error);
	void *opaque;
};

/* Who is to connect can, when it returns. Takes @address over, also when it fails. */
int incoming_start(const struct incoming_config *config, struct address *address,
		   struct incoming **ret_incoming, struct err **err);
/* Ends it first, whatever it was doing; onmain_close() came before unless it is over. Accepts NULL. */
void incoming_free(struct incoming *in);

/* Other ones, for a source that did not come yet. */
void incoming_set_capabilities(struct incoming *in, uint32_t capabilities);
/* Cut its connection; of one that is in postcopy. */
void incoming_cut(struct incoming *in);
/*
 * Of one that is MIGRATION_POSTCOPY_PAUSED: wait there for the source, which can connect when it returns.
 * Takes @address over, also when it fails.
 */
int incoming_recover(struct incoming *in, struct address *address, struct err **err);

/* Where the source is waited for, as an address; "" for what cannot be connected to. */
const char *incoming_listening(const struct incoming *in);
/* It has come. On the main thread, like what begins to wait for it. */
void incoming_connected(struct incoming *in);

#endif
