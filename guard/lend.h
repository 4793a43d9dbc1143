/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Open runs of a guard's memory whose faults are somebody else's for a while (missing.h).
 *
 * I1  What is lent is open. Before a discard empties it, the borrower gives it back.
 * I2  As long as a run is lent no segment becomes armed: registering or unregistering a segment must not
 *     meet a run of somebody else. Fences stand in, up to their limit.
 *
 * Threads: guard_borrow() and guard_lend() as the guard's calls, so serialised with them.
 * guard_take_back() from any thread: the borrower's lock is held, which its drop() takes as well.
 */
#ifndef GUARD_LEND_H
#define GUARD_LEND_H

#include <stdint.h>

struct vmem_guard;

struct guard_borrower {
	/* The run is going to be discarded: give back all that is lent of it. 0 or -errno: not possible. */
	int (*drop)(void *opaque, uint64_t offset, uint64_t size);
	/* The guard is being freed; nothing is lent. */
	void (*gone)(void *opaque);
	void *opaque;
};

/* NULL: no more; nothing is lent then. -EBUSY when there is another one. */
int guard_borrow(struct vmem_guard *guard, const struct guard_borrower *borrower);
/* -EOPNOTSUPP: it is not open as a whole, or protected page by page. */
int guard_lend(struct vmem_guard *guard, uint64_t offset, uint64_t size);
/* The borrower has unregistered it, and all that the guard committed is there. */
int guard_take_back(struct vmem_guard *guard, uint64_t offset, uint64_t size);

#endif
