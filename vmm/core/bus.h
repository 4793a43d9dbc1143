/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An address space of emulated registers: MMIO or port I/O, dispatched from vCPU exits.
 *
 * I1  An access that lies wholly inside one region goes to that region's ops; every other access
 *     reads as all ones and is dropped when written, as on a PC bus.
 * I2  A handler is called without the bus's lock held, so it may move or remove regions, its own
 *     too.
 * I3  bus_remove() returns only when no vCPU is inside the region's handlers, except the caller's
 *     own.
 * I4  Where regions overlap, the smallest one that wholly contains the access answers; of equal
 *     ones the one added first. So a register inside another's (port 0xCF9 in the PCI address
 *     register 0xCF8..0xCFB) works whatever the order of adding.
 *
 * Threads: all calls from any thread. Handlers run on the vCPU's thread, several at a time: a
 * device locks itself. The owner of a region serialises bus_add() and bus_remove() of it.
 *
 * Deadlock rule, which follows from I3: whoever calls bus_remove() with a lock held must know that
 * no handler of that region takes this lock. PCI therefore removes BARs with the host bridge's lock
 * held, which configuration accesses take and BAR handlers never do; two vCPUs that move the same
 * BAR meet at that lock, outside the BAR's handlers. For the same reason a handler removes no
 * region but its own and those whose handlers remove none.
 *
 * The guest controls: address, size (1, 2, 4 or 8) and data of each access.
 */
#ifndef VMM_BUS_H
#define VMM_BUS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/num.h"

struct bus;

struct bus_ops {
	/* @offset is relative to the region's start; offset + size is inside it. */
	uint64_t (*read)(void *opaque, uint64_t offset, unsigned int size);
	void (*write)(void *opaque, uint64_t offset, unsigned int size, uint64_t value);
};

/* Filled in by the owner, who keeps it alive and unchanged while it is on a bus. */
struct bus_region {
	const char *name;
	struct range range;
	const struct bus_ops *ops;
	void *opaque;
	/* the bus's own */
	struct bus_region *next;
	unsigned int users;
	bool added;
};

/* NULL when memory or thread-specific keys are out. */
struct bus *bus_new(void);
/* No region may be in use any more. Accepts NULL. */
void bus_free(struct bus *bus);

/* The region must be valid and non-empty (asserted); it may overlap others (I4). */
void bus_add(struct bus *bus, struct bus_region *region);
/*
 * No-op for a region that is not on the bus. The region may be freed or changed afterwards, but
 * when the caller is inside one of its handlers (I3), only after that handler returned.
 */
void bus_remove(struct bus *bus, struct bus_region *region);

/*
 * Return false when nothing answered (I1); *ret_value is all ones then. Only the low @size bytes
 * are ever set in *ret_value, and handlers see only those of @value.
 */
bool bus_read(struct bus *bus, uint64_t addr, unsigned int size, uint64_t *ret_value);
bool bus_write(struct bus *bus, uint64_t addr, unsigned int size, uint64_t value);

#endif
