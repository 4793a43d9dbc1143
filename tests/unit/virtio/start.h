/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a driver starts a device, register by register (VIRTIO 1.3, 3.1.1): what tests and fuzz targets
 * do alike, whatever their rings look like.
 *
 * Locks: the caller holds the device's.
 */
#ifndef TESTS_UNIT_VIRTIO_START_H
#define TESTS_UNIT_VIRTIO_START_H

#include <stdint.h>

#include "vmm/virtio/virtio.h"
#include "vmm/virtio/virtio_transport.h"

/* What a driver writes to the status register, one after the other. */
enum {
	START_FOUND = VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER,
	START_AGREED = START_FOUND | VIRTIO_STATUS_FEATURES_OK,
	START_DONE = START_AGREED | VIRTIO_STATUS_DRIVER_OK,
};

/* A device that was reset, up to FEATURES_OK, which the device may refuse. */
static inline void start_features(struct virtio_device *vdev, uint64_t features)
{
	virtio_set_status(vdev, START_FOUND);
	virtio_set_driver_features(vdev, 0, (uint32_t)features);
	virtio_set_driver_features(vdev, 1, (uint32_t)(features >> 32));
	virtio_set_status(vdev, START_AGREED);
}

/* A queue of the addresses and the size in @layout. */
static inline void start_queue(struct virtio_device *vdev, unsigned int index,
			       const struct vq_layout *layout)
{
	virtio_queue_set_size(vdev, index, layout->size);
	virtio_queue_set_address(vdev, index, VIRTIO_AREA_DESC, layout->desc_gpa);
	virtio_queue_set_address(vdev, index, VIRTIO_AREA_DRIVER, layout->driver_gpa);
	virtio_queue_set_address(vdev, index, VIRTIO_AREA_DEVICE, layout->device_gpa);
	virtio_queue_enable(vdev, index);
}

#endif
