/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of memory backends share; nobody else includes this. */
#ifndef VMM_VM_MEMDEV_INTERNAL_H
#define VMM_VM_MEMDEV_INTERNAL_H

#include <stddef.h>

#include "vmm/vm/memdev.h"

#define MEMDEV_WHAT_MAX 160

/* "-object memory-backend-ram,id=mem0", or the id of plain memory. Returns @buf. */
const char *memdev_what(const struct memdev *memdev, char buf[MEMDEV_WHAT_MAX]);

/* A device's memory, or what can only become it. */
bool memdev_is_device(const struct memdev *memdev);

/* ---- memdev_file.c ---- */

/*
 * Make or open the file behind the memory: memdev->fd and fd_offset, -1 for none. @ret_private: the
 * mapping has to be private, the file is a template. What was opened is the memdev's, also after a
 * failure.
 */
int memdev_open(struct memdev *memdev, bool *ret_private, struct err **err);

/* ---- memdev_pool.c ---- */

/* Is there a pool of pages of this size? */
int memdev_pool_check(const struct memdev *memdev, struct err **err);
/* The sentence about -@code of mapping or allocating huge pages. */
int memdev_pool_failed(const struct memdev *memdev, int code, struct err **err);

/* ---- memdev_numa.c ---- */

/* Are the nodes there? */
int memdev_nodes_check(const struct memdev *memdev, struct err **err);
/* Does the file, which the memory will be a shared mapping of, take a policy? */
int memdev_nodes_check_file(const struct memdev *memdev, struct err **err);
/* 0 or -errno */
int memdev_nodes_apply(const struct memdev *memdev, void *memory, uint64_t size);
/* Can the nodes that the memory is bound to hold it? Only for a memdev that is bound. */
int memdev_nodes_check_room(const struct memdev *memdev, struct err **err);

#endif
