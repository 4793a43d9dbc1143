/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the parts of missing.h know of each other: missing.c has areas and runs, missing_content.c
 * what is in them.
 */
#ifndef GUARD_MISSING_INTERNAL_H
#define GUARD_MISSING_INTERNAL_H

#include <errno.h>
#include <pthread.h>
#include <sys/ioctl.h>

#include "base/bitmap.h"
#include "guard/missing.h"

struct area {
	struct missing *missing;
	struct missing_area c;   /* guard: changed with the lock held for writing */
	struct bitmap *expected; /* by unit; the same */
	char *twin;              /* shared memory: a second mapping of it, else NULL */
};

struct missing {
	int uffd;
	bool shared;           /* the kernel can do it for shared memory */
	bool merge;            /* private memory may have huge pages */
	bool move;             /* pages of private memory can be moved */
	pthread_rwlock_t lock; /* for reading: what is expected stays so */
	/* changed with the lock held for writing */
	struct area **areas;
	size_t nr_areas;
	bool failed; /* what has not come never will */
};

static inline int missing_ioctl(const struct missing *m, unsigned long request, void *argument)
{
	return ioctl(m->uffd, request, argument) < 0 ? -errno : 0;
}

/* Pages [offset, offset + size) of the area: who waits for them looks again. */
void missing_wake(const struct missing *m, const struct area *area, uint64_t offset, uint64_t size);
/*
 * The next part of [*offset, end) that is expected: *offset is where it starts, the result where it
 * ends; both @end when there is none. The lock is held.
 */
uint64_t missing_part(const struct area *area, uint64_t *offset, uint64_t end);

#endif
