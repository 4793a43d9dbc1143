/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a size for several memory devices together is spread over them.
 *
 * I1  Memory never moves from one device to another: when there is to be more no device shrinks,
 *     when there is to be less none grows.
 * I2  What comes is spread in proportion to the devices' room, what goes in proportion to what they
 *     have: they become full, or empty, together, and so NUMA nodes keep their balance. Where block
 *     sizes leave something over, devices with large blocks come first, then those named first.
 * I3  Devices that nobody drives are left as they are, unless the others do not suffice.
 * I4  The sum of the targets is exactly the size that was asked for; where block sizes do not allow
 *     it, it is refused.
 *
 * Threads: none.
 */
#ifndef VMM_CONTROL_RESIZE_PLAN_H
#define VMM_CONTROL_RESIZE_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct resize_slot {
	uint64_t size, max; /* plugged, and at most; multiples of block */
	uint64_t block;     /* a power of two */
	bool driven;        /* the guest has a driver for it */
	uint64_t target;    /* the result */
};

/*
 * Fill in the targets. 0; -ERANGE: @size is more than all devices' max; -EINVAL: block sizes do not
 * allow it, *ret_near is the next size, on the side of the present one, that they do; -ENOMEM.
 * After failures the targets are the present sizes.
 */
int resize_plan(struct resize_slot *slots, size_t nr, uint64_t size, uint64_t *ret_near);

#endif
