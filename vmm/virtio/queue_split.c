/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The split ring: VIRTIO 1.3, 2.7 "Split Virtqueues". Descriptor area: the descriptor table. Driver
 * area: the available ring. Device area: the used ring.
 *
 *     available: flags  idx  ring[size]        used_event      2 bytes each
 *     used:      flags  idx  ring[size] of 8   avail_event     2 bytes each but the ring
 *
 * Indices run freely modulo 2^16 and are the synchronisation points: the driver's idx is loaded
 * with acquire before the ring entries and descriptors that it publishes, ours is stored with
 * release after the used element.
 */
#include <errno.h>

#include "vmm/virtio/queue_ring.h"

#define VIRTQ_AVAIL_F_NO_INTERRUPT 1
#define VIRTQ_USED_F_NO_NOTIFY     1

#define SPLIT_FLAGS 0
#define SPLIT_IDX   2
#define SPLIT_RING  4

struct split_used_elem {
	le32 id;
	le32 len;
};

static uint64_t split_used_event_gpa(const struct vq *vq)
{
	return vq->layout.driver_gpa + SPLIT_RING + 2 * (uint64_t)vq->layout.size;
}

static uint64_t split_avail_event_gpa(const struct vq *vq)
{
	return vq->layout.device_gpa + SPLIT_RING +
	       sizeof(struct split_used_elem) * (uint64_t)vq->layout.size;
}

/*
 * 1: there are chains to take; 0: none; -errno. The driver's index may be ahead of ours by the
 * descriptors that are not with us already, at most: it cannot have reused those.
 */
static int split_available(struct vq *vq)
{
	uint64_t idx;
	int ret;

	ret = gm_load_acquire(vq->gm, vq->layout.driver_gpa + SPLIT_IDX, 2, &idx);
	if (ret)
		return ret;
	if ((uint16_t)(idx - vq->next_avail) > vq->layout.size - vq->in_flight)
		return -EOVERFLOW;
	vq->seen_avail = (uint16_t)idx;
	return vq->seen_avail != vq->next_avail;
}

/*
 * Walk from @index of @table to the end of the chain. Ends for any content: every round adds a step
 * and vq_chain_add() bounds them, but for an indirect descriptor, which is followed at most once.
 */
static int split_walk(const struct vq *vq, struct vq_table *table, uint32_t index,
		      struct vq_chain *chain)
{
	bool in_indirect = false;
	unsigned int steps = 0;
	struct vq_desc desc;
	uint16_t flags;
	int ret;

	for (;;) {
		if (index >= table->entries)
			return -EINVAL;
		ret = vq_table_get(table, index, &desc);
		if (ret)
			return ret;
		flags = le16_get(desc.first);
		if (flags & VIRTQ_DESC_F_INDIRECT) {
			if (in_indirect || (flags & VIRTQ_DESC_F_NEXT))
				return -EINVAL;
			ret = vq_table_init(table, vq, le64_get(desc.addr), le32_get(desc.len));
			if (ret)
				return ret;
			in_indirect = true;
			index = 0;
			continue;
		}
		ret = vq_chain_add(vq, chain, &steps, le64_get(desc.addr), le32_get(desc.len),
				   flags & VIRTQ_DESC_F_WRITE);
		if (ret || !(flags & VIRTQ_DESC_F_NEXT))
			return ret;
		index = le16_get(desc.second);
	}
}

static int split_pop(struct vq *vq, struct vq_chain *chain)
{
	struct vq_table table = {
		.gm = vq->gm, .gpa = vq->layout.desc_gpa, .entries = vq->layout.size, .step = 1};
	uint16_t slot = vq->next_avail & (uint16_t)(vq->layout.size - 1);
	le16 head;
	int ret;

	/* Chains up to seen_avail were published by an index that was loaded with acquire. */
	if (vq->seen_avail == vq->next_avail) {
		ret = split_available(vq);
		if (ret <= 0)
			return ret;
	}
	ret = gm_read(vq->gm, vq->layout.driver_gpa + SPLIT_RING + 2 * (uint64_t)slot, &head,
		      sizeof(head));
	if (!ret)
		ret = split_walk(vq, &table, le16_get(head), chain);
	if (ret)
		return ret;
	chain->id = le16_get(head);
	chain->slots = 1;
	vq->next_avail++;
	return 1;
}

static int split_push(struct vq *vq, const struct vq_chain *chain, uint32_t written)
{
	uint16_t slot = vq->next_used & (uint16_t)(vq->layout.size - 1);
	struct split_used_elem elem = {.id = le32_make(chain->id), .len = le32_make(written)};
	int ret;

	ret = gm_write(vq->gm, vq->layout.device_gpa + SPLIT_RING + sizeof(elem) * (uint64_t)slot,
		       &elem, sizeof(elem));
	if (ret)
		return ret;
	vq->next_used++;
	return gm_store_release(vq->gm, vq->layout.device_gpa + SPLIT_IDX, 2, vq->next_used);
}

static int split_notify_needed(struct vq *vq)
{
	uint64_t value;
	int ret;

	if (!vq->layout.event_idx) {
		ret = gm_load_acquire(vq->gm, vq->layout.driver_gpa + SPLIT_FLAGS, 2, &value);
		return ret ? ret : !(value & VIRTQ_AVAIL_F_NO_INTERRUPT);
	}
	ret = gm_load_acquire(vq->gm, split_used_event_gpa(vq), 2, &value);
	if (ret)
		return ret;
	/* More than a whole ring since the last question: some index was certainly passed. */
	if (vq->unsignalled > vq->layout.size)
		return 1;
	return vq_event_passed((uint16_t)value, vq->next_used,
			       (uint16_t)(vq->next_used - vq->unsignalled));
}

/* With event indices the driver kicks when it passes avail_event: not moving it is enough. */
static int split_kick_disable(struct vq *vq)
{
	if (vq->layout.event_idx)
		return 0;
	return gm_store_release(vq->gm, vq->layout.device_gpa + SPLIT_FLAGS, 2,
				VIRTQ_USED_F_NO_NOTIFY);
}

static int split_kick_enable(struct vq *vq)
{
	if (vq->layout.event_idx)
		return gm_store_release(vq->gm, split_avail_event_gpa(vq), 2, vq->next_avail);
	return gm_store_release(vq->gm, vq->layout.device_gpa + SPLIT_FLAGS, 2, 0);
}

const struct vq_format vq_format_split = {
	.driver_bytes = 6,
	.driver_entry_bytes = 2,
	.driver_align = 2,
	.device_bytes = 6,
	.device_entry_bytes = sizeof(struct split_used_elem),
	.device_align = 4,
	.pop = split_pop,
	.push = split_push,
	.notify_needed = split_notify_needed,
	.kick_disable = split_kick_disable,
	.kick_enable = split_kick_enable,
	.available = split_available,
};
