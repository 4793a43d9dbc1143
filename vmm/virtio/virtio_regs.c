/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The virtio device core, the driver's side: status, feature negotiation, configuration space and
 * queue setup. See virtio_transport.h. All functions run with the device lock held.
 */
#include <errno.h>
#include <string.h>

#include "base/num.h"
#include "vmm/virtio/virtio_state.h"

unsigned int virtio_nr_queues(const struct virtio_device *vdev)
{
	return vdev->nr_queues;
}

uint32_t virtio_config_size(const struct virtio_device *vdev)
{
	return vdev->config_size;
}

int virtio_queue_doorbell(const struct virtio_device *vdev, unsigned int index)
{
	return vdev->queues[index].doorbell;
}

uint32_t virtio_offered_features(const struct virtio_device *vdev, uint32_t select)
{
	return select < 2 ? (uint32_t)(vdev->offered_features >> (32 * select)) : 0;
}

uint32_t virtio_driver_features(const struct virtio_device *vdev, uint32_t select)
{
	return select < 2 ? (uint32_t)(vdev->driver_features >> (32 * select)) : 0;
}

void virtio_set_driver_features(struct virtio_device *vdev, uint32_t select, uint32_t value)
{
	if (select >= 2 || (vdev->status & VIRTIO_STATUS_FEATURES_OK))
		return;
	vdev->driver_features &= ~(UINT64_C(0xffffffff) << (32 * select));
	vdev->driver_features |= (uint64_t)value << (32 * select);
}

uint8_t virtio_status(const struct virtio_device *vdev)
{
	return vdev->status;
}

bool virtio_features_acceptable(struct virtio_device *vdev)
{
	uint64_t features = vdev->driver_features;

	if ((features & ~vdev->offered_features) ||
	    !(features & VIRTIO_FEATURE(VIRTIO_F_VERSION_1)))
		return false;
	return !vdev->ops->features_ok || vdev->ops->features_ok(vdev->opaque, features);
}

struct vq_layout virtio_queue_layout(const struct virtio_queue *q)
{
	const struct virtio_device *vdev = q->vdev;

	return (struct vq_layout){
		.packed = virtio_has_feature(vdev, VIRTIO_F_RING_PACKED),
		.event_idx = virtio_has_feature(vdev, VIRTIO_F_EVENT_IDX),
		.indirect_desc = virtio_has_feature(vdev, VIRTIO_F_INDIRECT_DESC),
		.size = q->size,
		.desc_gpa = q->area[VIRTIO_AREA_DESC],
		.driver_gpa = q->area[VIRTIO_AREA_DRIVER],
		.device_gpa = q->area[VIRTIO_AREA_DEVICE],
	};
}

/* Start a queue that is enabled, with DRIVER_OK set. A bad layout is the driver's fault: I4. */
static void virtio_queue_start(struct virtio_queue *q)
{
	struct vq_layout layout = virtio_queue_layout(q);
	int ret = vq_start(q->vq, &layout);

	if (ret)
		virtio_set_needs_reset(q->vdev, ret == -EFAULT
							? "a virtqueue is not in guest memory"
							: "a virtqueue is misplaced");
}

static void virtio_start(struct virtio_device *vdev)
{
	for (unsigned int i = 0; i < vdev->nr_queues; i++)
		if (vdev->queues[i].enabled)
			virtio_queue_start(&vdev->queues[i]);
	if (!virtio_driver_ready(vdev))
		return;
	if (vdev->ops->driver_ok)
		vdev->ops->driver_ok(vdev->opaque);
	if (vdev->config_pending && vdev->transport)
		vdev->transport->config_interrupt(vdev->transport_opaque);
	vdev->config_pending = false;
	/* Buffers may have been made available before DRIVER_OK, where kicks are not allowed. */
	virtio_kick_all(vdev);
}

void virtio_set_status(struct virtio_device *vdev, uint8_t value)
{
	uint8_t old = vdev->status & VIRTIO_STATUS_BY_DRIVER;
	bool ready = virtio_driver_ready(vdev);
	uint8_t added;

	if (!value) {
		virtio_reset_locked(vdev);
		return;
	}
	value &= VIRTIO_STATUS_BY_DRIVER;
	if (old & ~value)
		return;
	added = (uint8_t)(value & ~old);
	if ((added & VIRTIO_STATUS_FEATURES_OK) &&
	    (!(value & VIRTIO_STATUS_DRIVER) || !virtio_features_acceptable(vdev)))
		added &= (uint8_t)~VIRTIO_STATUS_FEATURES_OK;
	if (!((old | added) & VIRTIO_STATUS_FEATURES_OK))
		added &= (uint8_t)~VIRTIO_STATUS_DRIVER_OK;
	vdev->status |= added;
	if (added & VIRTIO_STATUS_DRIVER_OK)
		virtio_start(vdev);
	virtio_driver_noted(vdev, ready);
}

uint8_t virtio_config_generation(const struct virtio_device *vdev)
{
	return vdev->config_generation;
}

/* Cut [offset, offset + *size) to the configuration space. */
static bool virtio_config_clip(const struct virtio_device *vdev, uint32_t offset, uint32_t *size)
{
	if (offset >= vdev->config_size)
		return false;
	*size = (uint32_t)num_min(*size, vdev->config_size - offset);
	return *size;
}

/*
 * The generation moves when a changed configuration is read, not when it changes: counting each
 * change could bring the 8-bit value around to where it was between two reads of the driver.
 */
void virtio_config_read(struct virtio_device *vdev, uint32_t offset, void *buf, uint32_t size)
{
	memset(buf, 0, size);
	if (!virtio_config_clip(vdev, offset, &size))
		return;
	if (vdev->config_stale) {
		vdev->config_stale = false;
		vdev->config_generation++;
	}
	vdev->ops->config_read(vdev->opaque, offset, buf, size);
}

void virtio_config_write(struct virtio_device *vdev, uint32_t offset, const void *buf,
			 uint32_t size)
{
	if (vdev->ops->config_write && virtio_config_clip(vdev, offset, &size))
		vdev->ops->config_write(vdev->opaque, offset, buf, size);
}

bool virtio_queue_exists(const struct virtio_queue *q)
{
	return !(q->features & ~virtio_features(q->vdev));
}

static const struct virtio_queue *virtio_queue_find(const struct virtio_device *vdev,
						    unsigned int index)
{
	if (index >= vdev->nr_queues || !virtio_queue_exists(&vdev->queues[index]))
		return NULL;
	return &vdev->queues[index];
}

/* The queue, if the driver may configure it now. */
static struct virtio_queue *virtio_queue_find_idle(struct virtio_device *vdev, unsigned int index)
{
	if (!virtio_queue_find(vdev, index) || vdev->queues[index].enabled)
		return NULL;
	return &vdev->queues[index];
}

uint16_t virtio_queue_size(const struct virtio_device *vdev, unsigned int index)
{
	const struct virtio_queue *q = virtio_queue_find(vdev, index);

	return q ? q->size : 0;
}

bool virtio_queue_enabled(const struct virtio_device *vdev, unsigned int index)
{
	const struct virtio_queue *q = virtio_queue_find(vdev, index);

	return q && q->enabled;
}

uint64_t virtio_queue_address(const struct virtio_device *vdev, unsigned int index,
			      enum virtio_queue_area area)
{
	const struct virtio_queue *q = virtio_queue_find(vdev, index);

	return q ? q->area[area] : 0;
}

void virtio_queue_set_size(struct virtio_device *vdev, unsigned int index, uint16_t size)
{
	struct virtio_queue *q = virtio_queue_find_idle(vdev, index);

	if (!q || !size || size > q->max_size)
		return;
	if (num_is_pow2(size) || virtio_has_feature(vdev, VIRTIO_F_RING_PACKED))
		q->size = size;
}

void virtio_queue_set_address(struct virtio_device *vdev, unsigned int index,
			      enum virtio_queue_area area, uint64_t gpa)
{
	struct virtio_queue *q = virtio_queue_find_idle(vdev, index);

	if (q)
		q->area[area] = gpa;
}

void virtio_queue_enable(struct virtio_device *vdev, unsigned int index)
{
	struct virtio_queue *q = virtio_queue_find_idle(vdev, index);

	if (!q)
		return;
	q->enabled = true;
	if (!virtio_driver_ready(vdev))
		return;
	virtio_queue_start(q);
	if (vq_started(q->vq))
		virtio_queue_kick(vdev, index);
}

bool virtio_queue_reset(struct virtio_device *vdev, unsigned int index)
{
	if (!virtio_queue_find(vdev, index) || !virtio_has_feature(vdev, VIRTIO_F_RING_RESET))
		return false;
	virtio_queue_init(&vdev->queues[index]);
	if (vdev->ops->queue_reset)
		vdev->ops->queue_reset(vdev->opaque, index);
	return true;
}
