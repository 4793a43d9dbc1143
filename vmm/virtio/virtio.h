/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The part that all virtio devices share: VIRTIO 1.3, 2.1 "Device Status Field" to 2.5 "Device
 * Configuration Space", 3.1 "Device Initialization", 6 "Reserved Feature Bits".
 *
 *     device (mem, rng ...)  --- struct virtio_device_ops --->  virtio core  --- queue.h --->  rings
 *     transport (PCI)    --- registers, virtio_transport.h --->  virtio core
 *
 * I1  The driver's features are frozen by FEATURES_OK, which is refused unless they are a subset of
 *     the offered ones, contain VIRTIO_F_VERSION_1 and satisfy the device.
 * I2  Status bits are only added; the one way back is a write of 0, which is a reset.
 * I3  No buffer is taken before DRIVER_OK, after a reset, while the VM is paused, or while the
 *     transport forbids DMA; no interrupt is sent before DRIVER_OK or after a reset.
 * I4  A bad ring or a call of virtio_set_needs_reset() stops all queues of the device until the
 *     driver resets it. It never ends the monitor.
 * I5  One wake-up of a queue handles at most queue-size chains; what is left waits for the next
 *     turn of the loop, so that a busy device does not starve others on it.
 * I6  When the driver reads the status as 0 after a reset, its rings and buffers are no longer
 *     accessed. virtio_pause(), virtio_system_reset() and virtio_device_free() moreover wait for a
 *     queue_kick() that is under way.
 * I7  A queue that needs a feature is absent, as one beyond the last, unless that was negotiated.
 *
 * Ownership: the device owns its struct virtio_device; gm and loop outlive it.
 *
 * Threads and locks: each device has one mutex, the device lock. Registers (vCPU threads), queues
 * (the loop's thread) and calls of monitors take it; all ops run with it held. A device's own state
 * is guarded by it. Lock order: PCI host lock, device lock, interrupt and guest memory locks; the
 * main loop's own data are not locked by any of these, so events to monitors go by loop_post().
 * ops->queue_kick(), and no other, may release the lock with virtio_unlock() for lengthy work and
 * take it again: the device may have been reset meanwhile, then the chain that it holds is void
 * (queue.h, I6).
 *
 * The guest controls: all register values, the time of each access, and the rings.
 */
#ifndef VMM_VIRTIO_VIRTIO_H
#define VMM_VIRTIO_VIRTIO_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/virtio/queue.h"

struct err;
struct gm;
struct loop;
struct pack;
struct unpack;
struct virtio_device;

#define VIRTIO_QUEUES_MAX 64

/* Device types (section 5). */
#define VIRTIO_ID_ENTROPY 4
#define VIRTIO_ID_BALLOON 5
#define VIRTIO_ID_MEM     24

/* Device-independent feature bits (section 6). */
#define VIRTIO_F_INDIRECT_DESC     28
#define VIRTIO_F_EVENT_IDX         29
#define VIRTIO_F_VERSION_1         32
#define VIRTIO_F_ACCESS_PLATFORM   33
#define VIRTIO_F_RING_PACKED       34
#define VIRTIO_F_IN_ORDER          35
#define VIRTIO_F_ORDER_PLATFORM    36
#define VIRTIO_F_SR_IOV            37
#define VIRTIO_F_NOTIFICATION_DATA 38
#define VIRTIO_F_RING_RESET        40

#define VIRTIO_FEATURE(bit) (UINT64_C(1) << (bit))

/* All with the device lock held, and none may wait for a vCPU. NULL where not said otherwise. */
struct virtio_device_ops {
	/*
	 * Read or write [offset, offset + size) of the configuration space; inside config_size.
	 * config_read must fill all of @buf. Mandatory when config_size is not 0; a NULL
	 * config_write drops writes.
	 */
	void (*config_read)(void *opaque, uint32_t offset, void *buf, uint32_t size);
	void (*config_write)(void *opaque, uint32_t offset, const void *buf, uint32_t size);
	/* Are these driver features, already a subset of the offered ones, acceptable? */
	bool (*features_ok)(void *opaque, uint64_t features);
	/* The driver is ready; queues run from now on. */
	void (*driver_ok)(void *opaque);
	/* virtio_driver_ready() is not what it was. */
	void (*driver_changed)(void *opaque);
	/*
	 * Queue @index may have chains, on the loop's thread: take them with virtio_queue_pop()
	 * until it returns false. A handler that stops earlier is not woken up for what it left and
	 * calls virtio_queue_kick() when it wants to go on. Mandatory.
	 */
	void (*queue_kick)(void *opaque, unsigned int index);
	/* Forget all chains of one queue (VIRTIO_F_RING_RESET); none may be touched afterwards. */
	void (*queue_reset)(void *opaque, unsigned int index);
	/*
	 * The driver reset the device: forget all chains, back to the state before negotiation.
	 * What the standard keeps over a device reset (plugged memory) stays.
	 */
	void (*reset)(void *opaque);
	/* The machine was reset: after reset(), back to power-on. */
	void (*system_reset)(void *opaque);
	/*
	 * What the device itself has to keep, with a version of its own (1 and up; 0: nothing, and
	 * both are NULL). A chain that it took and did not push yet is no part of that: it is saved
	 * as not taken, and must be the last one taken (queue.h, I7). load() runs on a device that
	 * no driver has found yet, after features_ok() said yes to the driver's features and before
	 * driver_changed(); its sentence is without the device's name, -EINVAL for content that
	 * cannot be. @version is 1 to state_version. Neither waits nor touches a queue.
	 */
	uint32_t state_version;
	void (*save)(void *opaque, struct pack *out);
	int (*load)(void *opaque, uint32_t version, struct unpack *in, struct err **err);
};

/* What a device is; copied. */
struct virtio_device_config {
	const char *id;     /* for messages */
	uint16_t device_id; /* VIRTIO_ID_... */
	uint64_t features;  /* offered; the device's own bits only (0 to 23, 50 to 63) */
	uint32_t config_size;
	unsigned int nr_queues;      /* 1..VIRTIO_QUEUES_MAX */
	const uint16_t *queue_sizes; /* the offered size of each, a power of two <= VQ_SIZE_MAX */
	/* for each the features without which it is not there; NULL: all are, always */
	const uint64_t *queue_features;
	bool packed, event_idx, indirect_desc, queue_reset; /* offer these ring features */
	struct gm *gm;
	struct loop *loop;
};

/* The ring features that are offered unless a person says otherwise: all but packed. */
#define VIRTIO_RING_DEFAULTS .event_idx = true, .indirect_desc = true, .queue_reset = true

/* NULL and *err when memory or descriptors are out. */
struct virtio_device *virtio_device_new(const struct virtio_device_config *config,
					const struct virtio_device_ops *ops, void *opaque,
					struct err **err);
/* Its transport must be gone. No op runs after it returned. NULL is allowed. */
void virtio_device_free(struct virtio_device *vdev);

const char *virtio_device_name(const struct virtio_device *vdev); /* config.id */
uint16_t virtio_device_type(const struct virtio_device *vdev);

/* ---- for devices and monitors, from any thread, without the device lock ---- */

void virtio_lock(struct virtio_device *vdev);
/* Without waiting: false, and not held, when somebody has it. */
bool virtio_try_lock(struct virtio_device *vdev);
void virtio_unlock(struct virtio_device *vdev);

/*
 * The VM stops: when this returns no queue is being processed and none will be until resume. Not
 * from the device's own loop; the same for virtio_system_reset().
 */
void virtio_pause(struct virtio_device *vdev);
/*
 * The same without waiting: false, and nothing done, when a queue is being processed, as one is that
 * waits for memory.
 */
bool virtio_try_pause(struct virtio_device *vdev);
/* The VM goes on: all queues are looked at again. */
void virtio_resume(struct virtio_device *vdev);

/* The machine is being reset; all vCPUs are stopped. Device reset, then ops->system_reset(). */
void virtio_system_reset(struct virtio_device *vdev);

/*
 * What the driver sees and has set up, where its queues stand, and the device's own part
 * (ops->save). For transports, whose state it is a part of. The device is paused. Changes nothing,
 * and touches no guest memory.
 */
void virtio_device_save(struct virtio_device *vdev, struct pack *out);
/*
 * On a device that no driver has found yet, its transport's registers loaded. It is paused from
 * here on: virtio_resume() has all queues looked at. No guest memory is read. -EINVAL and the
 * sentence, without the device's name, for what cannot be or what this device does not offer; the
 * device must then be reset or freed.
 */
int virtio_device_load(struct virtio_device *vdev, struct unpack *in, struct err **err);

/* The configuration changed: takes the lock around virtio_config_changed_locked(). */
void virtio_config_changed(struct virtio_device *vdev);

/* ---- for devices, with the device lock held ---- */

/*
 * The content of the configuration space changed: a new config_generation and an interrupt (at
 * DRIVER_OK, when the driver is not that far). Change it under the same hold of the lock, so that
 * the driver never sees old and new mixed under one generation. Never waits.
 */
void virtio_config_changed_locked(struct virtio_device *vdev);
/* The same without the interrupt, for changes that the standard does not announce. */
void virtio_config_touched_locked(struct virtio_device *vdev);

/* A driver is there (DRIVER_OK) and the device works (no reset needed). Also without the lock. */
bool virtio_driver_ready(const struct virtio_device *vdev);
/* The negotiated features; 0 before FEATURES_OK. */
uint64_t virtio_features(const struct virtio_device *vdev);
bool virtio_has_feature(const struct virtio_device *vdev, unsigned int bit);

/* For vq_chain_new(), vq_chain_read(), vq_chain_write(). */
struct vq *virtio_queue(struct virtio_device *vdev, unsigned int index);

/*
 * Take the next chain; only inside ops->queue_kick(), for the queue it was called for. False: there
 * is none now; ops->queue_kick() is called when there is. Also false for whatever I3 to I5 say.
 */
bool virtio_queue_pop(struct virtio_device *vdev, unsigned int index, struct vq_chain *chain);
/*
 * Give a chain back. The interrupt, when one is needed, follows after ops->queue_kick() returned or
 * with virtio_queue_flush(). A void chain is dropped.
 */
void virtio_queue_push(struct virtio_device *vdev, unsigned int index, const struct vq_chain *chain,
		       uint32_t written);
/* Interrupt the driver if it wants it; only needed for pushes outside ops->queue_kick(). */
void virtio_queue_flush(struct virtio_device *vdev, unsigned int index);
/* Have ops->queue_kick() called soon on the loop's thread. Also without the lock. */
void virtio_queue_kick(struct virtio_device *vdev, unsigned int index);

/*
 * The driver broke the protocol beyond what a reply can say (@why: for the trace, a static string):
 * DEVICE_NEEDS_RESET, with a configuration interrupt (I4).
 */
void virtio_set_needs_reset(struct virtio_device *vdev, const char *why);
/* The first @why since the last reset, or NULL. */
const char *virtio_broken_reason(const struct virtio_device *vdev);

#endif
