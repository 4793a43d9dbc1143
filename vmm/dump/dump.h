/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A machine's memory and vCPUs written to a file that debuggers read: the face of the room for
 * monitors. QMP's dump-guest-memory, query-dump. dump_elf.h has the form, memory.h what is in it, target.h
 * where it goes.
 *
 * I1  One dump at a time. What dump_info() tells is about the last one.
 * I2  The guest stands still (vm_dump.h) from when its target was opened until all is written, and goes
 *     on then if it ran; also after a failure, of which the sentence says why. It need not wait until
 *     the disk has it all.
 * I3  What a dump holds is of one moment: nothing changes it, neither the guest nor a size for a memory
 *     device. What is not plugged is not in it. It is written without making memory for the guest.
 * I4  A file that holds a part of a dump does not pass for one: its head comes last, where the target
 *     lets it.
 * I5  Calls return at once; nothing on the main thread waits for the target. Hooks are called on the main
 *     thread, and from no call of this face.
 *
 * Threads: everything on the main thread; a dump is written by a thread "dump".
 */
#ifndef VMM_DUMP_DUMP_H
#define VMM_DUMP_DUMP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/num.h"

struct dump;
struct err;
struct loop;
struct vm;

/* QMP's DumpStatus. */
enum dump_status { DUMP_NONE, DUMP_ACTIVE, DUMP_COMPLETED, DUMP_FAILED };

struct dump_request {
	const char *protocol; /* "file:PATH" or "fd:NAME" */
	bool has_filter;
	struct range filter; /* of guest addresses: no others are in it */
};

struct dump_info {
	enum dump_status status;
	uint64_t completed, total; /* bytes of memory */
	/* A sentence; of DUMP_FAILED. Until the next dump. */
	const char *error;
};

struct dump_hooks {
	/* The target is open and the guest stands still. */
	void (*begun)(void *opaque);
	/* It is over, begun or not. */
	void (*ended)(void *opaque);
};

/* For the life of a machine; @main is its loop. The machine must not be freed before. */
struct dump *dump_new(struct vm *vm, struct loop *main, const struct dump_hooks *hooks,
		      void *opaque, struct err **err);
/* Cancels what is under way and waits until it has ended; no hook is called. NULL is allowed. */
void dump_free(struct dump *d);

/* A failure has changed nothing. */
int dump_start(struct dump *d, const struct dump_request *request, struct err **err);
/* It fails soon. Nothing happens without one. */
void dump_cancel(struct dump *d);
void dump_info(const struct dump *d, struct dump_info *ret_info);

#endif
