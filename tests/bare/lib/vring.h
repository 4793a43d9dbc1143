/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver's side of a virtqueue: VIRTIO 1.3, 2.7 (split) and 2.8 (packed).
 *
 * Chains are added one after the other and must all have come back before their descriptors are
 * used again: at most as many as fit are outstanding, which vring_add() checks. That keeps the
 * bookkeeping to two positions and still goes round the ring.
 *
 * I1  Everything a device may look at is in struct vring's memory, so that a hostile test can change
 *     any byte of it.
 * I2  With VIRTIO_F_EVENT_IDX, vring_kick() notifies only when the device asked for it, and the
 *     ring asks for an interrupt for each chain; without, interrupts are off in polling mode.
 */
#ifndef BARE_VRING_H
#define BARE_VRING_H

#include <stdbool.h>
#include <stdint.h>

#define VRING_NEXT     1u
#define VRING_WRITE    2u
#define VRING_INDIRECT 4u
#define VRING_AVAIL    0x80u /* packed */
#define VRING_USED     0x8000u
#define VRING_CHAIN    8u /* segments of a chain that vring_add() makes */

struct vring_desc {
	uint64_t addr;
	uint32_t len;
	union {
		struct {
			uint16_t flags, next;
		} split;
		struct {
			uint16_t id, flags;
		} packed;
	};
};

struct vring_used {
	uint32_t id, len;
};

struct vring_segment {
	uint64_t gpa;
	uint32_t size;
	bool write; /* by the device */
};

struct vring {
	bool packed, event_idx, indirect, interrupts;
	uint16_t size;
	/* the three parts, as the device is told */
	struct vring_desc *desc;
	uint16_t *driver; /* split: flags, idx, ring[], used_event; packed: event structure */
	uint16_t *device; /* split: flags, idx, {id, len}[], avail_event; packed: event structure */
	struct vring_desc *tables; /* an indirect table for each descriptor */
	/* where the driver is */
	uint16_t next, outstanding; /* next descriptor; descriptors in flight */
	uint16_t avail_idx, used_idx;
	uint16_t kicked_idx;
	bool avail_wrap, used_wrap;
	uint16_t chain[256]; /* descriptors of the chain with this head or id */
};

/*
 * Pages for a ring of @size (a power of two, at most 256) are taken once; a second call on the same
 * @vring starts afresh in the same memory.
 */
void vring_init(struct vring *vring, uint16_t size, bool packed, bool event_idx, bool indirect,
		bool interrupts);
/* False when the chain does not fit now. */
bool vring_add(struct vring *vring, const struct vring_segment *segments, unsigned int count);
/* Whether the device must be notified of what was added since the last call. */
bool vring_kick_needed(struct vring *vring);
/* Take one used chain; *ret_len is what the device says it wrote. */
bool vring_get(struct vring *vring, uint32_t *ret_len);
bool vring_has_used(const struct vring *vring);

#endif
