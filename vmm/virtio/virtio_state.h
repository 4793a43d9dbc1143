/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of the virtio core: the state of a device. Only virtio.c, virtio_regs.c and virtio_save.c
 * include this; contract, invariants and locks are in virtio.h.
 */
#ifndef VMM_VIRTIO_VIRTIO_STATE_H
#define VMM_VIRTIO_VIRTIO_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "vmm/virtio/virtio_transport.h"

#define VIRTIO_REASON_MAX 127

struct loop_watch;

struct virtio_queue {
	/* immutable */
	struct virtio_device *vdev;
	unsigned int index;
	uint16_t max_size;
	uint64_t features; /* without which it is not there */
	int doorbell;
	struct loop_watch *watch;
	/* guarded by the device lock */
	struct vq *vq; /* started exactly while enabled and DRIVER_OK, unless its layout was bad */
	uint16_t size;
	bool enabled;
	uint64_t area[3];    /* by enum virtio_queue_area */
	unsigned int budget; /* chains that this wake-up may still take (I5) */
	bool budget_spent;   /* it wanted more */
};

struct virtio_device {
	/* immutable */
	char *id;
	uint16_t device_id;
	uint32_t config_size;
	uint64_t offered_features;
	struct loop *loop;
	const struct virtio_device_ops *ops;
	void *opaque;
	unsigned int nr_queues;

	pthread_mutex_t lock; /* the device lock */
	/* guarded by lock */
	pthread_cond_t kick_done;   /* kicks_running went down */
	unsigned int kicks_running; /* ops->queue_kick() calls under way */
	const struct virtio_transport_ops *transport;
	void *transport_opaque;
	_Atomic uint8_t status; /* may be read without the lock */
	uint64_t driver_features;
	uint8_t config_generation;
	bool config_stale;   /* changed since it was last read: the next read is a new generation */
	bool config_pending; /* an interrupt is due at DRIVER_OK */
	bool paused;
	const char *broken_reason;
	char loaded_reason[VIRTIO_REASON_MAX + 1]; /* what broken_reason may point to */

	struct virtio_queue queues[];
};

/* All with the device lock held. */
void virtio_reset_locked(struct virtio_device *vdev);
/* Back to how the driver finds a queue after a device reset. */
void virtio_queue_init(struct virtio_queue *q);
void virtio_kick_all(struct virtio_device *vdev);
/* After a change of the status; @was: virtio_driver_ready() before. */
void virtio_driver_noted(struct virtio_device *vdev, bool was);
/* Do the driver's features satisfy I1? ops->features_ok() is asked. */
bool virtio_features_acceptable(struct virtio_device *vdev);
/* Is the queue there, with the features that the driver accepted? */
bool virtio_queue_exists(const struct virtio_queue *q);
/* As the driver set the queue up, with the negotiated features. */
struct vq_layout virtio_queue_layout(const struct virtio_queue *q);
/* The bits of the status that a driver sets. */
#define VIRTIO_STATUS_BY_DRIVER                                                       \
	(VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER | VIRTIO_STATUS_DRIVER_OK | \
	 VIRTIO_STATUS_FEATURES_OK | VIRTIO_STATUS_FAILED)

#endif
