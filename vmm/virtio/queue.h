/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Virtqueues, the device's side: VIRTIO 1.3, 2.6 "Virtqueues", 2.7 "Split Virtqueues" and 2.8
 * "Packed Virtqueues", with indirect descriptors (VIRTIO_F_INDIRECT_DESC) and event suppression
 * with and without VIRTIO_F_EVENT_IDX.
 *
 *     driver                              device
 *     writes descriptors      ------->    vq_pop()    a chain: copied (address, length) segments
 *                                         vq_chain_read(), vq_chain_write()    the content
 *     sees them used          <-------    vq_push()
 *     gets an interrupt       <-------    when vq_notify_needed()
 *
 * I1  Every field of the ring is read once, into a local, and all decisions are taken on the local.
 * I2  A chain that vq_pop() returned holds at most queue-size segments and 2^32 bytes, readable
 *     segments before writable ones, and no empty segment. Its segments may lie anywhere below
 *     2^64, also outside of memory: vq_chain_read() and vq_chain_write() tell.
 * I3  At most queue-size descriptors are with the device at any time.
 * I4  A ring that breaks the rules makes vq_pop(), vq_push() and the others return -errno, now and
 *     ever after until vq_stop(): nothing of the ring is read or written any more.
 * I5  Work per call is bounded by the queue's size, whatever the ring's content.
 * I6  A chain that was popped before vq_stop() can no longer be read, written or pushed after it.
 * I7  Chains of a queue that is saved were pushed in the order in which they were popped. So those
 *     that were popped and not pushed are the last ones: they are saved as not yet taken, and the
 *     queue that is loaded pops them again. Each is answered once, by whichever machine goes on.
 *
 * Ownership: the caller owns queue and chains; the guest memory must outlive them.
 * Threads: none; the caller serialises all calls on a queue.
 * The guest controls: every byte of the rings at every instant, their addresses and size.
 */
#ifndef VMM_VIRTIO_QUEUE_H
#define VMM_VIRTIO_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gm;
struct pack;
struct unpack;
struct vq;

/* The largest queue size that a device here may offer; bounds the memory of a chain. */
#define VQ_SIZE_MAX 1024

/* What the driver set up. The addresses by the standard's names: descriptor, driver, device area.
 */
struct vq_layout {
	bool packed;
	bool event_idx;
	bool indirect_desc;
	uint16_t size;
	uint64_t desc_gpa;
	uint64_t driver_gpa;
	uint64_t device_gpa;
};

struct vq_segment {
	uint64_t gpa;
	uint32_t len;
};

/* One buffer of the driver. The device reads these fields and changes none. */
struct vq_chain {
	unsigned int nr_readable, nr_writable;
	uint64_t readable_bytes, writable_bytes;
	/* nr_readable segments that the device reads, then nr_writable that it writes */
	struct vq_segment *segments;
	/* the queue's own */
	unsigned int capacity;
	uint16_t id;    /* split: head of the chain; packed: buffer id */
	uint16_t slots; /* packed: ring descriptors that the chain takes; split: 1 */
	uint32_t epoch;
};

/* A stopped queue of at most @max_size descriptors (1..VQ_SIZE_MAX), or NULL: out of memory. */
struct vq *vq_new(struct gm *gm, uint16_t max_size);
void vq_free(struct vq *vq);

/* A chain that can hold any chain of @vq, or NULL: out of memory. */
struct vq_chain *vq_chain_new(const struct vq *vq);
void vq_chain_free(struct vq_chain *chain);

/*
 * Begin at index 0 with the ring as @layout says. -EINVAL when the size is 0, above the maximum or
 * (split) no power of two, or when an area is misaligned or reaches beyond 2^64; -EFAULT when it is
 * not wholly guest memory. The queue is stopped after failure. Only for a stopped queue.
 */
int vq_start(struct vq *vq, const struct vq_layout *layout);
/* Ends what vq_start() began; all popped chains are void (I6). For queues in any state. */
void vq_stop(struct vq *vq);
/* Between a successful vq_start() and vq_stop(), also when the ring was found bad since. */
bool vq_started(const struct vq *vq);
/* Descriptors in the ring: 0 when stopped. */
uint16_t vq_size(const struct vq *vq);

/*
 * Take the next available chain. 1: *chain is it. 0: none is available, or the queue is stopped.
 * -errno: the ring is bad (I4); *chain is empty.
 */
int vq_pop(struct vq *vq, struct vq_chain *chain);

/*
 * Give a chain back, @written bytes of its writable segments filled from the start. 0 or -errno
 * (I4); a chain from before a vq_stop() is dropped with 0.
 */
int vq_push(struct vq *vq, const struct vq_chain *chain, uint32_t written);

/*
 * After one or several vq_push(): must the driver be interrupted? 1, 0 or -errno (I4). Counts from
 * the previous call, so that one question may cover a batch of pushes.
 */
int vq_notify_needed(struct vq *vq);

/*
 * Ask the driver not to kick (a hint), and to kick again. vq_kick_enable() returns 1 when chains
 * became available meanwhile, for which no kick will come; else 0, or -errno (I4).
 */
int vq_kick_disable(struct vq *vq);
int vq_kick_enable(struct vq *vq);

/*
 * Copy [offset, offset + size) of the chain's readable (writable) bytes. -EFAULT when a segment is
 * not accessible guest memory (earlier segments may have been copied), -EINVAL when the range is
 * not inside the chain, -ESTALE when the queue was stopped since.
 */
int vq_chain_read(struct vq *vq, const struct vq_chain *chain, uint64_t offset, void *buf,
		  size_t size);
int vq_chain_write(struct vq *vq, const struct vq_chain *chain, uint64_t offset, const void *buf,
		   size_t size);

/*
 * Where a started queue stands, without its layout (I7). Changes nothing, reads no guest memory.
 */
void vq_save(const struct vq *vq, struct pack *out);
/*
 * vq_start() with @layout, then on from where the saved queue stood. Reads no guest memory, only
 * asks whether it is there; where it is not, which a driver can bring about, the ring is bad, as
 * the next access would have found (I4). -EINVAL for a layout or numbers that cannot be; the queue
 * is stopped then. Only for a stopped queue.
 */
int vq_load(struct vq *vq, const struct vq_layout *layout, struct unpack *in);

#endif
