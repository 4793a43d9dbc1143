/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The memory of a guest that stands still (vm_dump.h), as a dump holds it.
 *
 * I1  It is what the guest can reach: boot memory and what is plugged of memory devices, in ascending
 *     order of address; what is not plugged is neither in it nor touched. Runs are as long as they can
 *     be: none begins where another one ends.
 * I2  To read it makes no memory: pages that the host never provided are told as zeros and left alone,
 *     where the host can tell (pages_host_skip()).
 *
 * Threads: made on the main thread after vm_dump_halt(), read by one thread before vm_dump_end().
 * The guest controls its content, and which blocks are plugged.
 */
#ifndef VMM_DUMP_MEMORY_H
#define VMM_DUMP_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "base/num.h"

struct dump_memory;
struct err;
struct vm;

/* How much is read at a time. */
#define DUMP_MEMORY_PIECE MIB

/* What of it is in @filter; NULL: all. NULL and *err when memory is out. */
struct dump_memory *dump_memory_new(struct vm *vm, const struct range *filter, struct err **err);
/* NULL is allowed. */
void dump_memory_free(struct dump_memory *memory);

const struct range *dump_memory_runs(const struct dump_memory *memory, size_t *ret_nr);
uint64_t dump_memory_bytes(const struct dump_memory *memory);

/*
 * Call @fn with all of it in order, at most DUMP_MEMORY_PIECE at a time: @position counts its bytes
 * from 0, and @bytes NULL stands for zeros. Ended by the first result that is not 0. That, 0, or
 * -errno of what the host could not do; *err is set.
 */
int dump_memory_read(const struct dump_memory *memory,
		     int (*fn)(void *opaque, uint64_t position, const void *bytes, size_t size,
			       struct err **err),
		     void *opaque, struct err **err);

#endif
