/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of the queue: the state that both ring formats share, and what a format implements.
 * Contract and invariants are in queue.h. Only queue*.c include this.
 *
 * Formats report a bad ring by a negative return; queue.c remembers it (I4) and calls them no more.
 */
#ifndef VMM_VIRTIO_QUEUE_RING_H
#define VMM_VIRTIO_QUEUE_RING_H

#include <stdatomic.h>

#include "base/bytes.h"
#include "base/num.h"
#include "vmm/core/gm.h"
#include "vmm/virtio/queue.h"

/* Descriptor flags; AVAIL and USED exist in packed rings only. */
#define VIRTQ_DESC_F_NEXT     0x0001
#define VIRTQ_DESC_F_WRITE    0x0002
#define VIRTQ_DESC_F_INDIRECT 0x0004
#define VIRTQ_DESC_F_AVAIL    0x0080
#define VIRTQ_DESC_F_USED     0x8000

#define VIRTQ_DESC_SIZE 16

/*
 * A descriptor, copied from guest memory. Split: flags, next. Packed: id, flags. @first and @second
 * are the two 16-bit fields in the order in which they lie in memory.
 */
struct vq_desc {
	le64 addr;
	le32 len;
	le16 first;
	le16 second;
};
_Static_assert(sizeof(struct vq_desc) == VIRTQ_DESC_SIZE, "the standard's descriptor");

struct vq_format;

struct vq {
	struct gm *gm;
	uint16_t max_size;
	const struct vq_format *format; /* NULL: stopped */
	struct vq_layout layout;
	int error;      /* the ring is bad: what vq_pop() returns */
	uint32_t epoch; /* counts vq_stop() */
	/* Where the next chain is taken and the next used one is put: split, free-running
	 * indices; packed, offsets into the ring with their wrap counters. */
	uint16_t next_avail, next_used;
	bool avail_wrap, used_wrap;
	uint16_t seen_avail;      /* split: the driver's index when last read */
	unsigned int in_flight;   /* descriptors (split: chains) popped and not pushed; I3 */
	unsigned int unsignalled; /* ... pushed since vq_notify_needed() */
	bool kicks_off;           /* the driver was asked not to kick */
};

struct vq_format {
	/* Bytes and alignment of the driver and the device area. */
	uint64_t driver_bytes, device_bytes; /* without the part that grows with the size */
	unsigned int driver_entry_bytes, device_entry_bytes;
	unsigned int driver_align, device_align;
	bool any_size; /* the size need not be a power of two */
	int (*pop)(struct vq *vq, struct vq_chain *chain);
	int (*push)(struct vq *vq, const struct vq_chain *chain, uint32_t written);
	int (*notify_needed)(struct vq *vq);
	int (*kick_disable)(struct vq *vq);
	/* Only asks the driver; vq_kick_enable() then calls available(). */
	int (*kick_enable)(struct vq *vq);
	int (*available)(struct vq *vq);
};

extern const struct vq_format vq_format_split;
extern const struct vq_format vq_format_packed;

/*
 * Append one descriptor's buffer to @chain. -E2BIG beyond queue-size descriptors (counted in
 * @steps) or 2^32 bytes; -EINVAL for readable after writable or an address that wraps.
 */
int vq_chain_add(const struct vq *vq, struct vq_chain *chain, unsigned int *steps, uint64_t gpa,
		 uint32_t len, bool writable);

/*
 * A table of descriptors in guest memory, read through a small window so that each descriptor is
 * copied once and a sequential walk of an indirect table costs few copies. Of the ring itself only
 * the descriptors of the chain may be read, one by one: the driver may be writing the others.
 */
struct vq_table {
	struct gm *gm;
	uint64_t gpa;
	uint32_t entries;
	uint32_t step;         /* how many are read at once, at most */
	uint32_t first, count; /* what the window holds */
	struct vq_desc window[16];
};

/*
 * @table becomes the indirect table that a descriptor points to; -EINVAL when
 * VIRTIO_F_INDIRECT_DESC was not negotiated or @len is 0 or no multiple of 16 or the table wraps.
 */
int vq_table_init(struct vq_table *table, const struct vq *vq, uint64_t gpa, uint32_t len);
/* @index below entries. 0 or -EFAULT. */
int vq_table_get(struct vq_table *table, uint32_t index, struct vq_desc *ret_desc);

/*
 * A store to guest memory before, a load from it after: nothing weaker than a full barrier orders
 * them, on x86 neither. Its counterpart is the driver's barrier between the mirrored store and load
 * (index, then event), so that at least one side sees the other's store.
 */
static inline void vq_full_barrier(void)
{
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
#endif
	atomic_thread_fence(memory_order_seq_cst);
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
}

/* Did an index that moved from @old_idx to @new_idx pass @event? All modulo 2^16. */
static inline bool vq_event_passed(uint16_t event, uint16_t new_idx, uint16_t old_idx)
{
	return (uint16_t)(new_idx - event - 1) < (uint16_t)(new_idx - old_idx);
}

#endif
