/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Host enforcement for one memory device on Linux: a guest cannot reuse memory that it gave up,
 * block by block. The engine's struct vmem_host_ops end here. docs/guarantee.md tells the whole.
 *
 * Two levels. The region is cut into slots of one size: a slot in which nothing is granted is absent
 * from the guest's physical address space, so that an access there leaves the guest, and neither
 * page tables nor anything else of it exists. Inside a slot that is present, blocks that are not
 * granted are closed in the monitor's own address space, for everybody: the guest (KVM's accesses
 * fail with EFAULT), system calls that are given such an address (EFAULT) and the monitor itself (a
 * signal; it must go through an accessor that knows what is granted).
 *
 *                              a block that is not granted
 *     private anonymous memory   reads give zeros and hold no page, writes fail
 *     shared memory, files       reads and writes fail; the file has a hole there
 *
 * I1  A slot is present in the guest exactly while a block of it is granted.
 * I2  When revoke returns 0, no access through the guest's page tables or to the monitor's mapping
 *     changes the run any more, whatever races with it. When discard returns 0 after that, the run
 *     holds no host memory (but page tables), and holds none until it is granted again: there is no
 *     instant at which a page could come back.
 *     Exception, for files: revoke may leave it to discard to close the run, in one step.
 * I3  Memory beside the given run is never touched, nor is its protection.
 * I4  The work of a call grows with the slots of the run and with what was granted in it, not with
 *     its blocks: a run may be a whole device of terabytes. The same holds for the guard's memory.
 * I5  A block that is granted after a discard is as if it had never been closed: it reads as zeros,
 *     can be backed by a huge page at once, and has the attributes (madvise(2), mbind(2)) that its
 *     owner gave to the memory: the mapping is never replaced.
 * I6  A call that fails may have done a part of its work, as <vmem/device.h> allows: the engine
 *     undoes it with the opposite call. What was not granted stays closed. Blocks that were revoked
 *     but not discarded keep their content, and have it when they are granted again.
 * I7  vmem_guard_populate(), and vmem_guard_grant() for files, fail with -ENOMEM or -ENOSPC before
 *     the host would have to kill somebody for the memory: limits of control groups and the host's
 *     free memory are looked at first.
 * I8  vmem_guard_reclaim() changes neither what is granted nor what is closed: it takes pages of
 *     granted blocks, which come back, as zeros, when they are touched. The host may be out of
 *     memory then (I7 is about what is granted, not about what was given back), as it may be
 *     wherever private memory is touched for the first time.
 *
 * Ownership: the memory, the file and what is behind the ops belong to the caller and outlive the
 * guard. The guard sets the protection of the memory from vmem_guard_new() on; after
 * vmem_guard_free() the memory may be unmapped, or used for a new guard.
 * Threads: the caller serialises; vmem_guard_info() may be called from any thread at any time.
 * The guest controls: which blocks come and go (through the engine), and when it touches what.
 */
#ifndef VMEM_GUARD_H
#define VMEM_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default) /* what a shared libvmem exports */

struct vmem_guard;

/* Why something failed, for a person: one sentence without a full stop. */
struct vmem_error {
	char text[256];
};

/* A run of the region that is to be, or is, a memory slot of the hypervisor. */
struct vmem_guard_slot {
	uint64_t offset, size; /* bytes of the region */
	uint32_t slot;         /* the hypervisor's number; an output */
};

struct vmem_guard_ops {
	/*
	 * The hypervisor's memory slots; 0 or -errno. After slot_remove() returned 0 no vCPU reaches
	 * the memory; a failure leaves the slot as it was.
	 */
	int (*slot_add)(void *opaque, uint64_t offset, uint64_t size, uint32_t *ret_slot);
	int (*slot_remove)(void *opaque, uint32_t slot);
	/*
	 * Replace @old by @fresh (which cover a part of it; may be none) so that no vCPU sees
	 * anything between: none is inside the guest meanwhile. On failure the old ones are there
	 * again; -ENOTRECOVERABLE when even that failed and none of either is there. May be NULL:
	 * then vmem_guard_refine() is not to be had.
	 */
	int (*slots_replace)(void *opaque, const uint32_t *old, size_t nr_old,
			     struct vmem_guard_slot *fresh, size_t nr_fresh);
};

struct vmem_guard_config {
	void *memory;          /* page-aligned (of the backing's page size) */
	uint64_t size;         /* bytes; multiple of block_size */
	uint64_t block_size;   /* power of two, at least a page of the backing */
	uint64_t memslot_size; /* power of two, at least block_size; the last slot may be shorter */
	int fd;             /* -1: private anonymous memory; else a shared mapping of this file */
	uint64_t fd_offset; /* where in the file the memory starts */
	bool unprotected;   /* slots only: closes no block of a present slot (no I2, I5) */
	/* of vmem_guard_populate(); 0: it is not going to be called, so need not be possible */
	unsigned int populate_threads;
	/*
	 * How many runs of closed blocks may be kept apart by the protection of address ranges, which
	 * is cheapest, before other means are used; 0: a quarter of the process's vm.max_map_count,
	 * divided by nr_guards. The guard makes little more than three times as many mappings.
	 */
	uint32_t max_fences;
	uint32_t nr_guards; /* of the process, this one included; 0 is 1 */
	/* The memory was given to madvise(MADV_MERGEABLE); not saying so costs time, nothing else. */
	bool mergeable;
	const struct vmem_guard_ops *ops;
	void *opaque;
};

/*
 * All blocks are closed, and discarded, when it returns 0. -EINVAL when the sizes do not fit
 * each other; -EOPNOTSUPP when this kernel or file system cannot do what the guard needs (the text
 * names what and where it can be had); else -errno of what failed. @ret_error may be NULL.
 */
int vmem_guard_new(const struct vmem_guard_config *config, struct vmem_guard **ret_guard,
		   struct vmem_error *ret_error);
/* Removes the slots that are present. NULL is allowed. */
void vmem_guard_free(struct vmem_guard *guard);

/*
 * The engine's host ops, on runs of blocks; all are idempotent, and fit struct vmem_host_ops.
 * revoke and discard take runs that hold blocks which were never granted. 0 or -errno: -ENOMEM or
 * -ENOSPC when the host has not the memory.
 */
int vmem_guard_grant(struct vmem_guard *guard, uint64_t offset, uint64_t size);
int vmem_guard_populate(struct vmem_guard *guard, uint64_t offset, uint64_t size);
int vmem_guard_revoke(struct vmem_guard *guard, uint64_t offset, uint64_t size);
int vmem_guard_discard(struct vmem_guard *guard, uint64_t offset, uint64_t size);

/*
 * The guest has no use for the content of [offset, offset + size), whole pages of the backing (a
 * balloon, free page reporting): free the host's pages of what of it is granted. That reads as zeros
 * then, and is granted as before (I8). What is not granted stays as it is. *ret_bytes: how much was
 * freed, also after a failure. -EINVAL: not pages of the region; -EBUSY: content of the region is
 * still on its way; -ENOMEM: this would cut the memory into too many mappings; else -errno.
 */
int vmem_guard_reclaim(struct vmem_guard *guard, uint64_t offset, uint64_t size,
		       uint64_t *ret_bytes);

/*
 * A vCPU met a closed block in a present slot (KVM_RUN failed with EFAULT). Lay the slots that
 * touch [offset, offset + size) anew, so that only what is granted is in the guest: the access, done
 * again, then leaves the guest with its address and data, as from an absent slot. Where the kernel
 * does not tell the address, the run is the whole region. Returns how many slots were laid anew: 0
 * means that none of them holds a closed block. -ENOSPC when the hypervisor has not slots enough for
 * so many runs, -EOPNOTSUPP without ops.slots_replace, or its -errno; slots that were done stay so.
 */
int vmem_guard_refine(struct vmem_guard *guard, uint64_t offset, uint64_t size);

/* A snapshot; each field is current by itself. */
struct vmem_guard_info {
	const char *mechanism;   /* "none", "mprotect", "mprotect+userfaultfd" or "userfaultfd" */
	uint32_t slots_present;  /* in which something is granted */
	uint32_t memslots;       /* the hypervisor's; more than slots_present after refining */
	uint32_t fences;         /* runs kept apart by protection */
	uint32_t armed_segments; /* slots whose closed blocks are write-protected page by page */
	uint64_t refinements;    /* slots laid anew by vmem_guard_refine() so far */
};

void vmem_guard_info(const struct vmem_guard *guard, struct vmem_guard_info *ret_info);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
