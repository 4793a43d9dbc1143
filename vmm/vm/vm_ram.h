/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A machine's memory as it is carried to another process: blocks with a name, and the log of what is
 * written to them.
 *
 * I1  The blocks are boot RAM in pieces of one node on one side of the hole below 4 GiB, in ascending
 *     order of address, named "ram.0", "ram.1" ..., and then the memory devices in the order in which
 *     they came, by their names. Two machines that agree (vm_state.h) have the same blocks, whatever
 *     is behind them on their hosts.
 * I2  Blocks do not come or go between vm_migration_begin() and vm_migration_end() (vm.h), nor while
 *     the machine is VM_INMIGRATE.
 * I3  Between vm_dirty_start() and vm_dirty_stop() each write to guest memory, by the guest or for it,
 *     is marked in the gm after it was done: the guest's when vm_dirty_sync() returns, all others at
 *     once.
 *
 * Threads: start and stop on the main thread, the rest from any; blocks as I2 says.
 */
#ifndef VMM_VM_VM_RAM_H
#define VMM_VM_VM_RAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/num.h"

struct err;
struct gm;
struct virtio_mem;
struct vm;

/* Inside one region of the gm. */
struct vm_ram_block {
	const char *name;
	struct range gpa;    /* multiples of 4 KiB */
	void *host;          /* gpa.size bytes: only for making pages, never a way past the gm */
	uint64_t page_bytes; /* of the host's memory: 4096, or of its huge pages */
	int fd; /* -1: private memory; else @host is a shared mapping of this file ... */
	uint64_t fd_offset;     /* ... from here on */
	bool prealloc;          /* all of it is the guest's before it is used */
	bool copy;              /* of a file that shows where a private page is dropped */
	struct virtio_mem *mem; /* NULL: boot memory */
};

size_t vm_nr_ram_blocks(const struct vm *vm);
/* Valid as long as blocks do not come or go. */
const struct vm_ram_block *vm_ram_block(const struct vm *vm, size_t index);
struct gm *vm_gm(const struct vm *vm);

/* Nothing is marked then. After a failure nothing is logged. */
int vm_dirty_start(struct vm *vm, struct err **err);
/* What the guest wrote so far is in the gm's marks when it returns. 0 or -errno. */
int vm_dirty_sync(struct vm *vm);
void vm_dirty_stop(struct vm *vm);

/*
 * For struct gm_discard, of boot memory; @opaque is the first block of the region, whose others follow
 * it on the host. What was set aside for the memory is so no longer: pages that the guest wants back have
 * to be found, as those of any process.
 */
int vm_ram_discard(void *opaque, uint64_t offset, uint64_t size, uint64_t *ret_bytes);

/*
 * Keep all memory of the process, what it has and what comes, from being swapped out, and allocate the
 * boot memory. Of a machine without memory devices. Memory that is still to be loaded cannot be
 * waited for while it is locked: of such a machine see first whether it could be, before anything is
 * loaded, and lock it when it is there.
 */
int vm_lock_memory(struct vm *vm, struct err **err);
int vm_check_lock(struct err **err);
/* Where -overcommit wants it and nothing is on its way any more; a failure is told. */
void vm_lock_loaded(struct vm *vm);

/* Hold the guest's CPUs back so many percent of the time, 0 to 99. */
void vm_throttle(struct vm *vm, unsigned int percent);

#endif
