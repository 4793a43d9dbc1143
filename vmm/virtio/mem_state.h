/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of the virtio-mem device: its state. Only mem.c, mem_host.c, mem_monitor.c, mem_save.c and
 * mem_size.c include this; contract, invariants and locks are in mem.h.
 */
#ifndef VMM_VIRTIO_MEM_STATE_H
#define VMM_VIRTIO_MEM_STATE_H

#include <stdatomic.h>

#include "vmm/virtio/mem_absent.h"
#include "vmm/virtio/mem_cells.h"
#include "vmm/virtio/mem_pace.h"
#include "vmm/virtio/mem_progress.h"
#include "vmm/virtio/mem_size.h"
#include "vmm/virtio/mem_stats.h"

struct gm_region;
struct pack;
struct unpack;
struct vmem_guard;
struct vmem_guard_ops;
struct vq_chain;

/*
 * virtio_mem.wanted: nothing that the device's thread has not come to; and what is plugged when it
 * comes to it. No size is that large.
 */
#define VIRTIO_MEM_NOTHING UINT64_MAX
#define VIRTIO_MEM_HERE    (UINT64_MAX - 1)

struct virtio_mem {
	struct virtio_mem_config config; /* immutable; id belongs to vdev */
	struct virtio_device *vdev;
	struct vmem_device *engine; /* guarded by the device lock */
	struct vmem_guard *guard;   /* guarded by the device lock */
	struct gm_region *gm_region;
	/*
	 * how often something about the closed blocks may have changed; guarded by the device lock
	 */
	uint64_t changes;
	struct mem_absent absent;  /* what answers for absent slots (I2) */
	struct vq_chain *chain;    /* the loop's */
	struct loop_watch *resize; /* calls virtio_mem_apply() */
	int resize_fd;
	/* what the owner asked for and the engine was not told yet; or one of the above */
	_Atomic uint64_t wanted;
	_Atomic uint64_t asks; /* how often the owner did */
	struct mem_progress progress;
	struct mem_pace pace; /* of refusals for that; guarded by the device lock */
	struct mem_stats stats;
	struct mem_cells cells;
	struct mem_size size; /* requests for another size */
	/* guarded by the device lock: */
	bool plugging, unplugging;        /* a PLUG request, or one to unplug, is under way */
	enum virtio_mem_step failed_step; /* of the request under way */
	int failed_error;                 /* 0: none failed */
	/* virtio_mem_track(): NULL, or who is told */
	void (*track)(void *opaque, struct virtio_mem *mem, uint64_t offset, uint64_t size,
		      bool plugged);
	void *track_opaque;
};

/* What is behind engine and guard; the opaque of both is the struct virtio_mem. */
extern const struct vmem_host_ops virtio_mem_host_ops;
extern const struct vmem_guard_ops virtio_mem_guard_ops;

/*
 * For struct gm_discard; @opaque is the struct virtio_mem. Plugged memory that a guest gave up by other
 * means than this device; -EAGAIN when a request is under way.
 */
int virtio_mem_reclaim(void *opaque, uint64_t offset, uint64_t size, uint64_t *ret_bytes);

/* Tell config.changed. The device lock is held. */
void virtio_mem_changed(struct virtio_mem *mem);
/* Another size is asked for: what was plugged then. The device lock is held. */
void virtio_mem_size_changed(struct virtio_mem *mem, uint64_t plugged_size);
/* Can the first @size bytes of the chain's writable segments be written? */
bool virtio_mem_has_room(const struct virtio_mem *mem, const struct vq_chain *chain, uint64_t size);

/* For struct virtio_device_ops. The second is of devices that take size requests. */
#define VIRTIO_MEM_STATE_VERSION      1u
#define VIRTIO_MEM_STATE_VERSION_SIZE 2u
void virtio_mem_save(void *opaque, struct pack *out);
int virtio_mem_load(void *opaque, uint32_t version, struct unpack *in, struct err **err);

#endif
