/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Between the virtio core and a transport (PCI now): the registers that every transport offers in a
 * form of its own, and what the core asks a transport for.
 *
 * All functions here but virtio_attach() are called with the device lock held (virtio_lock()). They
 * take values straight from the guest and check them.
 *
 * The guest controls: every argument that comes out of a register write.
 */
#ifndef VMM_VIRTIO_VIRTIO_TRANSPORT_H
#define VMM_VIRTIO_VIRTIO_TRANSPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/virtio/virtio.h"

/* Device status bits (2.1). */
#define VIRTIO_STATUS_ACKNOWLEDGE 0x01
#define VIRTIO_STATUS_DRIVER      0x02
#define VIRTIO_STATUS_DRIVER_OK   0x04
#define VIRTIO_STATUS_FEATURES_OK 0x08
#define VIRTIO_STATUS_NEEDS_RESET 0x40
#define VIRTIO_STATUS_FAILED      0x80

/* Called by the core with the device lock held; they never wait. */
struct virtio_transport_ops {
	void (*queue_interrupt)(void *opaque, unsigned int index);
	void (*config_interrupt)(void *opaque);
	/* May the device access guest memory? */
	bool (*dma_allowed)(void *opaque);
	/* The device is being reset: forget vectors and pending interrupts. */
	void (*reset)(void *opaque);
};

/* NULL @ops detaches; then nothing is sent and no DMA is done. Takes the device lock. */
void virtio_attach(struct virtio_device *vdev, const struct virtio_transport_ops *ops,
		   void *opaque);

unsigned int virtio_nr_queues(const struct virtio_device *vdev);
uint32_t virtio_config_size(const struct virtio_device *vdev);
/* Immutable, so also without the lock: an eventfd whose signal means "queue @index has buffers";
 * lives as long as the device. */
int virtio_queue_doorbell(const struct virtio_device *vdev, unsigned int index);

/* Features, 32 bits at a time; @select above 1 reads as 0 and ignores writes. */
uint32_t virtio_offered_features(const struct virtio_device *vdev, uint32_t select);
uint32_t virtio_driver_features(const struct virtio_device *vdev, uint32_t select);
/* Ignored after FEATURES_OK. */
void virtio_set_driver_features(struct virtio_device *vdev, uint32_t select, uint32_t value);

uint8_t virtio_status(const struct virtio_device *vdev);
/* 0 resets. A value that would take bits back is ignored, as are steps out of order. */
void virtio_set_status(struct virtio_device *vdev, uint8_t value);

uint8_t virtio_config_generation(const struct virtio_device *vdev);
/* Bytes outside of the configuration space read as 0 and ignore writes. */
void virtio_config_read(struct virtio_device *vdev, uint32_t offset, void *buf, uint32_t size);
void virtio_config_write(struct virtio_device *vdev, uint32_t offset, const void *buf,
			 uint32_t size);

/* The driver's view of a queue. The addresses by the standard's names. */
enum virtio_queue_area { VIRTIO_AREA_DESC, VIRTIO_AREA_DRIVER, VIRTIO_AREA_DEVICE };

/* @index may be anything: an absent queue reads as 0 and ignores writes. */
uint16_t virtio_queue_size(const struct virtio_device *vdev, unsigned int index);
bool virtio_queue_enabled(const struct virtio_device *vdev, unsigned int index);
uint64_t virtio_queue_address(const struct virtio_device *vdev, unsigned int index,
			      enum virtio_queue_area area);
/* These three are ignored while the queue is enabled. */
void virtio_queue_set_size(struct virtio_device *vdev, unsigned int index, uint16_t size);
void virtio_queue_set_address(struct virtio_device *vdev, unsigned int index,
			      enum virtio_queue_area area, uint64_t gpa);
void virtio_queue_enable(struct virtio_device *vdev, unsigned int index);
/* Ignored (false) without VIRTIO_F_RING_RESET. Done when it returns. */
bool virtio_queue_reset(struct virtio_device *vdev, unsigned int index);

#endif
