/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One migration of this machine to somewhere else, from its first connection to its end: a thread
 * "migration" that does it step by step.
 *
 *	connect -> what must agree -> rounds over memory -> stop the guest, save its parts -> the rest of
 *	memory -> parts -> END -> READY, GO, RUNNING (where there is a way back) -> the end
 *
 * I1  Whose guest it is: this process's until GO was sent (without a way back: until all has been
 *     written and is where it belongs). From then on the other side's, with one exception: it ended
 *     without having said RUNNING, so it never started the guest. Where that cannot be told the guest
 *     stays stopped here, and the sentence says so.
 *     A guest that waits at the other side for somebody to let it go on (-S) is not run there by
 *     this: whoever has both monitors may let it go on here instead, where it is VM_POSTMIGRATE,
 *     when the target has ended before it was let go. Neither side can see to that, and none of them
 *     goes on by itself.
 * I2  Until then any failure, and outgoing_cancel(), leave the machine as it was.
 * I3  Everything that was made for it (connections, commands, threads, the log of writes) is gone when
 *     its last status is told.
 *
 * Threads: all calls on the main one, which never waits but in outgoing_free(). Hooks are called on the
 * main one, from the loop.
 */
#ifndef VMM_MIGRATION_OUTGOING_H
#define VMM_MIGRATION_OUTGOING_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/migration/migration.h"

struct address;
struct err;
struct onmain;
struct outgoing;

struct outgoing_config {
	struct vm *vm;
	struct onmain *onmain;
	uint32_t capabilities;
	struct migration_params params;
	/* Its status is another one; after the last one it is over. @error: of MIGRATION_FAILED and
	 * MIGRATION_POSTCOPY_PAUSED, else NULL. */
	void (*status)(void *opaque, enum migration_status status, const char *error);
	void (*pass)(void *opaque, uint64_t pass);
	void *opaque;
};

/*
 * Takes @address over, also when it fails. It is MIGRATION_SETUP then, which the hook is not told; all
 * others come from the loop.
 */
int outgoing_start(const struct outgoing_config *config, struct address *address,
		   struct outgoing **ret_outgoing, struct err **err);
/* Ends it first, whatever it was doing; onmain_close() came before unless it is over. Accepts NULL. */
void outgoing_free(struct outgoing *o);

/* False when it is too late: the guest is, or may be, the other side's. */
bool outgoing_cancel(struct outgoing *o);
/* Go on from MIGRATION_PRE_SWITCHOVER. */
void outgoing_continue(struct outgoing *o);
/* Was it begun with MIGRATION_CAP_POSTCOPY_RAM? */
bool outgoing_can_postcopy(const struct outgoing *o);
/* With that: stop the guest soon, and let it go on at the target. */
void outgoing_start_postcopy(struct outgoing *o);
/* Cut its connection; of one that is in postcopy. */
void outgoing_cut(struct outgoing *o);
/* Of one that is MIGRATION_POSTCOPY_PAUSED: connect there. Takes @address over. */
void outgoing_resume(struct outgoing *o, struct address *address);
void outgoing_set_params(struct outgoing *o, const struct migration_params *params);
/* All but status, incoming, error and sockets. */
void outgoing_info(struct outgoing *o, struct migration_info *ret_info);

#endif
