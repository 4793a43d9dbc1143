/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The packed ring: VIRTIO 1.3, 2.8 "Packed Virtqueues". Descriptor area: the ring, which both sides
 * write. Driver and device area: one event suppression structure of 4 bytes each.
 *
 * A descriptor is available when its AVAIL flag equals our wrap counter and its USED flag does not.
 * The flags of a chain's first descriptor are the synchronisation point: loaded with acquire before
 * the rest of the chain is read, stored with release after the rest of a used descriptor.
 */
#include <errno.h>

#include "vmm/virtio/queue_ring.h"

#define RING_EVENT_FLAGS_ENABLE  0
#define RING_EVENT_FLAGS_DISABLE 1
#define RING_EVENT_FLAGS_DESC    2
#define RING_EVENT_FLAGS_MASK    3

#define RING_EVENT_WRAP 0x8000

/* Where things lie in a descriptor. */
#define PACKED_LEN   8
#define PACKED_FLAGS 14

static uint64_t packed_desc_gpa(const struct vq *vq, uint16_t index)
{
	return vq->layout.desc_gpa + (uint64_t)index * VIRTQ_DESC_SIZE;
}

/* Move a ring position on by @slots (at most the size) and flip its wrap counter at the end. */
static void packed_advance(const struct vq *vq, uint16_t *index, bool *wrap, unsigned int slots)
{
	unsigned int next = *index + slots;

	if (next >= vq->layout.size) {
		next -= vq->layout.size;
		*wrap = !*wrap;
	}
	*index = (uint16_t)next;
}

/* 1 and the flags when the next descriptor is available, else 0 or -EFAULT. */
static int packed_peek(struct vq *vq, uint16_t *ret_flags)
{
	uint64_t flags;
	int ret;

	ret = gm_load_acquire(vq->gm, packed_desc_gpa(vq, vq->next_avail) + PACKED_FLAGS, 2,
			      &flags);
	if (ret)
		return ret;
	if (!!(flags & VIRTQ_DESC_F_AVAIL) != vq->avail_wrap ||
	    !!(flags & VIRTQ_DESC_F_USED) == vq->avail_wrap)
		return 0;
	*ret_flags = (uint16_t)flags;
	return 1;
}

static int packed_available(struct vq *vq)
{
	uint16_t flags;

	return packed_peek(vq, &flags);
}

/* All descriptors of an indirect table belong to the chain, in order; only WRITE counts (2.8.7). */
static int packed_walk_indirect(const struct vq *vq, const struct vq_desc *desc,
				struct vq_chain *chain)
{
	unsigned int steps = 0;
	struct vq_table table;
	struct vq_desc entry;
	int ret;

	ret = vq_table_init(&table, vq, le64_get(desc->addr), le32_get(desc->len));
	for (uint32_t i = 0; !ret && i < table.entries; i++) {
		ret = vq_table_get(&table, i, &entry);
		if (!ret)
			ret = vq_chain_add(vq, chain, &steps, le64_get(entry.addr),
					   le32_get(entry.len),
					   le16_get(entry.second) & VIRTQ_DESC_F_WRITE);
	}
	return ret;
}

/*
 * Collect the chain whose first descriptor has @flags, which were loaded once and are not read
 * again. The driver owns size - in_flight descriptors; a longer chain reaches into ours.
 */
static int packed_walk(struct vq *vq, uint16_t flags, struct vq_chain *chain)
{
	unsigned int slots = 0, steps = 0, free_slots = vq->layout.size - vq->in_flight;
	uint16_t index = vq->next_avail;
	bool wrap = vq->avail_wrap;
	struct vq_desc desc;
	int ret;

	do {
		if (slots >= free_slots)
			return -EOVERFLOW;
		ret = gm_read(vq->gm, packed_desc_gpa(vq, index), &desc, sizeof(desc));
		if (ret)
			return ret;
		if (slots)
			flags = le16_get(desc.second);
		if (flags & VIRTQ_DESC_F_INDIRECT) {
			/* A list is of one kind: an indirect descriptor stands alone. */
			if (slots || (flags & VIRTQ_DESC_F_NEXT))
				return -EINVAL;
			ret = packed_walk_indirect(vq, &desc, chain);
		} else {
			ret = vq_chain_add(vq, chain, &steps, le64_get(desc.addr),
					   le32_get(desc.len), flags & VIRTQ_DESC_F_WRITE);
		}
		if (ret)
			return ret;
		slots++;
		packed_advance(vq, &index, &wrap, 1);
	} while (flags & VIRTQ_DESC_F_NEXT);

	chain->id = le16_get(desc.first);
	chain->slots = (uint16_t)slots;
	vq->next_avail = index;
	vq->avail_wrap = wrap;
	return 1;
}

static int packed_pop(struct vq *vq, struct vq_chain *chain)
{
	uint16_t flags;
	int ret;

	ret = packed_peek(vq, &flags);
	return ret <= 0 ? ret : packed_walk(vq, flags, chain);
}

static int packed_push(struct vq *vq, const struct vq_chain *chain, uint32_t written)
{
	uint64_t gpa = packed_desc_gpa(vq, vq->next_used);
	struct {
		le32 len;
		le16 id;
	} used = {le32_make(written), le16_make(chain->id)};
	uint16_t flags = written ? VIRTQ_DESC_F_WRITE : 0;
	int ret;

	if (vq->used_wrap)
		flags |= VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;
	ret = gm_write(vq->gm, gpa + PACKED_LEN, &used, sizeof(used.len) + sizeof(used.id));
	if (!ret)
		ret = gm_store_release(vq->gm, gpa + PACKED_FLAGS, 2, flags);
	if (ret)
		return ret;
	packed_advance(vq, &vq->next_used, &vq->used_wrap, chain->slots);
	return 0;
}

/*
 * The driver names a descriptor by offset and wrap counter. Seen from next_used, one with the other
 * wrap counter lies a lap behind; with that taken off, all are points on one line modulo 2^16.
 */
static int packed_notify_needed(struct vq *vq)
{
	uint16_t event, old;
	uint64_t value;
	int ret;

	ret = gm_load_acquire(vq->gm, vq->layout.driver_gpa, 4, &value);
	if (ret)
		return ret;
	switch (value >> 16 & RING_EVENT_FLAGS_MASK) {
	case RING_EVENT_FLAGS_DISABLE:
		return 0;
	case RING_EVENT_FLAGS_DESC:
		if (vq->layout.event_idx)
			break;
		return 1;
	default:
		return 1;
	}
	if (vq->unsignalled > vq->layout.size)
		return 1;
	event = (uint16_t)(value & ~RING_EVENT_WRAP);
	if (!!(value & RING_EVENT_WRAP) != vq->used_wrap)
		event = (uint16_t)(event - vq->layout.size);
	old = (uint16_t)(vq->next_used - vq->unsignalled);
	return vq_event_passed(event, vq->next_used, old);
}

/* Both fields of the structure change in one store, so the driver never sees a mixture. */
static int packed_kick_set(struct vq *vq, uint16_t desc, uint16_t flags)
{
	return gm_store_release(vq->gm, vq->layout.device_gpa, 4, (uint32_t)flags << 16 | desc);
}

static int packed_kick_disable(struct vq *vq)
{
	return packed_kick_set(vq, 0, RING_EVENT_FLAGS_DISABLE);
}

static int packed_kick_enable(struct vq *vq)
{
	if (!vq->layout.event_idx)
		return packed_kick_set(vq, 0, RING_EVENT_FLAGS_ENABLE);
	return packed_kick_set(vq,
			       (uint16_t)(vq->next_avail | (vq->avail_wrap ? RING_EVENT_WRAP : 0)),
			       RING_EVENT_FLAGS_DESC);
}

const struct vq_format vq_format_packed = {
	.driver_bytes = 4,
	.driver_align = 4,
	.device_bytes = 4,
	.device_align = 4,
	.any_size = true,
	.pop = packed_pop,
	.push = packed_push,
	.notify_needed = packed_notify_needed,
	.kick_disable = packed_kick_disable,
	.kick_enable = packed_kick_enable,
	.available = packed_available,
};
