/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How large the slots of memory devices are: the unit in which their memory comes to the guest's
 * address space and goes.
 *
 * Small ones leave more of a scattered device absent, and have few enough blocks that a slot can
 * always be laid anew around what is plugged in it (<vmem/guard.h>); but KVM has only so many, and
 * some have to be left over for that laying anew.
 *
 * Threads: none.
 */
#ifndef VMM_VM_MEMSLOTS_H
#define VMM_VM_MEMSLOTS_H

#include <stddef.h>
#include <stdint.h>

struct err;

struct memslots_device {
	const char *id;                   /* may be NULL */
	uint64_t size_bytes, block_bytes; /* as checked by the command line */
	uint64_t memslot_bytes;           /* as a person gave it, or 0 */
};

/*
 * The sizes for all devices, those that were given among them, to ret_bytes[]. @offered: how many
 * slots the hypervisor has in all; @in_use: for other things. -ENOSPC with a sentence when they
 * would be too many whatever is chosen; nothing was written then.
 */
int memslots_choose(const struct memslots_device *devices, size_t nr_devices, uint64_t offered,
		    uint64_t in_use, uint64_t *ret_bytes, struct err **err);

#endif
