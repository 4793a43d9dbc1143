/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest for the virtio tests: some memory behind the real guest memory module, and the driver's
 * side of both ring formats, written from VIRTIO 1.3, 2.7.13 and 2.8.21, independently of the
 * device's side. It obeys every rule; hostile tests write to the rings themselves.
 *
 * Threads: one thread drives a queue; the device may run on another at the same time.
 */
#ifndef TESTS_UNIT_VIRTIO_DRIVER_H
#define TESTS_UNIT_VIRTIO_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/gm.h"
#include "vmm/virtio/queue.h"

#define GUEST_BASE 0x100000
#define GUEST_SIZE (4 * MIB)

struct guest {
	struct gm *gm;
	uint8_t *ram;
	uint64_t used; /* bytes handed out by guest_alloc() */
};

void guest_init(struct guest *g);
void guest_done(struct guest *g);
/* Zeroed guest memory; fails the test when it is out. */
uint64_t guest_alloc(struct guest *g, uint64_t bytes, uint64_t align);
void *guest_ptr(struct guest *g, uint64_t gpa);

#define DRIVER_SIZE_MAX VQ_SIZE_MAX

struct driver_buffer {
	uint64_t gpa;
	uint32_t len;
	bool write;
};

struct driver {
	struct guest *g;
	struct vq_layout layout;
	unsigned int free;                   /* descriptors */
	uint16_t slots[DRIVER_SIZE_MAX];     /* by id: descriptors of the chain; 0: id is free */
	uint16_t next_free[DRIVER_SIZE_MAX]; /* split: links of the free descriptors */
	uint16_t first_free;
	uint16_t avail, used; /* split: free-running; packed: offsets */
	bool avail_wrap, used_wrap;
	uint16_t
		unkicked; /* packed: descriptors, split: chains made available since the last kick */
	uint64_t table_gpa; /* indirect tables: one of layout.size descriptors for each id */
};

/* Lay out a ring of @layout's size, format and features in @g; fills in the addresses. */
void driver_init(struct driver *d, struct guest *g, const struct vq_layout *layout);

/*
 * Make a chain available. Its id, or -1 when there is no room: @n descriptors, or one when
 * @indirect.
 */
int driver_add(struct driver *d, const struct driver_buffer *buffers, unsigned int n,
	       bool indirect);
/* After driver_add(): does the device want a kick? Counts from the last call. */
bool driver_kick_needed(struct driver *d);
/* Take a used chain: true, with its id and length. */
bool driver_get_used(struct driver *d, uint16_t *ret_id, uint32_t *ret_len);
/* Ask for an interrupt at the next used chain (event_idx: @later chains after that), or for none. */
void driver_interrupts(struct driver *d, bool on, uint16_t later);

#endif
