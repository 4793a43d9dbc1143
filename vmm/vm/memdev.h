/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Host memory for guests: what -object memory-backend-ram makes.
 *
 * I1  Memory is reserved address space until it is touched, unless prealloc or reserve say more.
 * I2  Each mapping is aligned to 2 MiB, so that transparent huge pages fit guest huge pages.
 *
 * Threads: none.
 */
#ifndef VMM_VM_MEMDEV_H
#define VMM_VM_MEMDEV_H

#include <stdint.h>

#include "vmm/cmdline/config.h"

struct err;

struct memdev {
	const char *id; /* for messages */
	void *memory;
	uint64_t size;
};

/*
 * Map memory. @config NULL: plain memory of @size for @id; else the config's own size and
 * attributes. @dump off leaves it out of core dumps.
 */
int memdev_map(struct memdev *memdev, const char *id, uint64_t size,
	       const struct vm_memdev_config *config, bool merge, bool dump, struct err **err);
/* No-op for one that was never mapped. */
void memdev_unmap(struct memdev *memdev);

#endif
