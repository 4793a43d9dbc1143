/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Host enforcement for one memory device on Linux: which of its memory the guest can reach, and how
 * its pages come and go. The engine's struct vmem_host_ops end here.
 *
 * The region is cut into slots of one size. A slot in which nothing is granted is absent from the
 * guest's physical address space: an access there leaves the guest, and the monitor answers zeros
 * and drops writes. A slot in which anything is granted is present as a whole.
 *
 * I1  A slot is present in the guest exactly while a block of it is granted.
 * I2  When discard returns 0, the run holds no host memory at that instant, and a guest that reads
 *     it gets zeros. (A guest that writes to a revoked block of a present slot can make the host
 *     hold a page again: enforcing that is what block-level protection will add, in revoke.)
 * I3  Memory beside the given run is never touched.
 * I4  The work of a call grows with the slots of the run and with what is granted in it, not with
 *     its blocks: a run may be a whole device of terabytes.
 *
 * Ownership: the memory and the slot ops belong to the caller and outlive the guard.
 * Threads: the caller serialises; only guard_slots_present() may be called from any thread.
 */
#ifndef GUARD_GUARD_H
#define GUARD_GUARD_H

#include <stdint.h>

struct err;
struct guard;

/* The hypervisor's memory slots. @offset and @size in bytes of the region; 0 or -errno. */
struct guard_slot_ops {
	int (*add)(void *opaque, uint64_t offset, uint64_t size, uint32_t *ret_slot);
	int (*remove)(void *opaque, uint32_t slot);
};

struct guard_config {
	void *memory;          /* private anonymous, page-aligned */
	uint64_t size;         /* bytes; multiple of block_size */
	uint64_t block_size;   /* power of two, at least a page */
	uint64_t memslot_size; /* power of two, at least block_size; the last slot may be shorter */
	const struct guard_slot_ops *slot_ops;
	void *opaque;
};

int guard_new(const struct guard_config *config, struct guard **ret_guard, struct err **err);
/* Removes the slots that are present. NULL is allowed. */
void guard_free(struct guard *guard);

/*
 * The engine's host ops, on runs of blocks; all are idempotent. guard_revoke() and guard_discard()
 * take runs that hold blocks which were never granted. After a failure a part of the run may be in
 * the new state: the engine alone knows which blocks to give back, and undoes it.
 */
int guard_grant(struct guard *guard, uint64_t offset, uint64_t size);
int guard_populate(struct guard *guard, uint64_t offset, uint64_t size);
int guard_revoke(struct guard *guard, uint64_t offset, uint64_t size);
int guard_discard(struct guard *guard, uint64_t offset, uint64_t size);

/* How many slots the guest has now. */
uint32_t guard_slots_present(const struct guard *guard);

#endif
