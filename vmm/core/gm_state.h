/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of guest memory: its regions. Only gm.c, gm_dirty.c and gm_discard.c include this; contract and threads
 * are in gm.h, locks in gm.c.
 */
#ifndef VMM_CORE_GM_STATE_H
#define VMM_CORE_GM_STATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/num.h"
#include "vmm/core/gm.h"

struct bitmap;
struct dirty;

struct gm_region {
	struct range gpa;
	char *host;
	struct dirty *dirty;       /* NULL: writes are not marked; guarded by gm->lock */
	struct gm_discard discard; /* fn NULL: there is no way; guarded by gm->lock */
	/* device memory only */
	bool is_device;
	uint64_t block_size;
	struct bitmap *granted; /* guarded by lock */
	pthread_rwlock_t lock;
};

struct gm {
	pthread_rwlock_t lock;
	struct gm_region **regions; /* sorted; guarded by lock, as are the next */
	size_t nregions;
	bool dirty; /* writes are marked */
	_Atomic unsigned int discard_holds;
};

/* Index of the region that contains @gpa, or nregions. gm->lock held. */
size_t gm_find_locked(const struct gm *gm, uint64_t gpa);

/*
 * With gm->lock held: for reading, or for writing in the first. Marks for a region that comes, if
 * writes are marked: 0 or -ENOMEM.
 */
int gm_dirty_add_region_locked(struct gm *gm, struct gm_region *region);
/* @offset and @size, not 0: bytes of the region that were written. */
void gm_dirty_mark_region_locked(struct gm_region *region, uint64_t offset, uint64_t size);

#endif
