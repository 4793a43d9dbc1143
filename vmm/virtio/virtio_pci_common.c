/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The common configuration structure of the PCI transport: VIRTIO 1.3, 4.1.4.3. All functions run
 * with the device lock held.
 *
 * Reads have no side effects, so one of any width gives the bytes of whatever fields it covers. A
 * write must have the width of its field; each half of a 64-bit field may be written alone. Others
 * are ignored.
 */
#include "base/bytes.h"
#include "base/num.h"
#include "vmm/virtio/virtio_pci_state.h"

enum common_field {
	DEVICE_FEATURE_SELECT,
	DEVICE_FEATURE,
	DRIVER_FEATURE_SELECT,
	DRIVER_FEATURE,
	CONFIG_MSIX_VECTOR,
	NUM_QUEUES,
	DEVICE_STATUS,
	CONFIG_GENERATION,
	QUEUE_SELECT,
	QUEUE_SIZE,
	QUEUE_MSIX_VECTOR,
	QUEUE_ENABLE,
	QUEUE_NOTIFY_OFF,
	QUEUE_DESC,
	QUEUE_DRIVER,
	QUEUE_DEVICE,
	QUEUE_NOTIFY_DATA,
	QUEUE_RESET,
};

static const struct {
	uint8_t offset;
	uint8_t size;
} common_fields[] = {
	[DEVICE_FEATURE_SELECT] = {0, 4}, [DEVICE_FEATURE] = {4, 4},
	[DRIVER_FEATURE_SELECT] = {8, 4}, [DRIVER_FEATURE] = {12, 4},
	[CONFIG_MSIX_VECTOR] = {16, 2},   [NUM_QUEUES] = {18, 2},
	[DEVICE_STATUS] = {20, 1},        [CONFIG_GENERATION] = {21, 1},
	[QUEUE_SELECT] = {22, 2},         [QUEUE_SIZE] = {24, 2},
	[QUEUE_MSIX_VECTOR] = {26, 2},    [QUEUE_ENABLE] = {28, 2},
	[QUEUE_NOTIFY_OFF] = {30, 2},     [QUEUE_DESC] = {32, 8},
	[QUEUE_DRIVER] = {40, 8},         [QUEUE_DEVICE] = {48, 8},
	[QUEUE_NOTIFY_DATA] = {56, 2},    [QUEUE_RESET] = {58, 2},
};

void virtio_pci_common_reset(struct virtio_pci *vp)
{
	vp->device_feature_select = 0;
	vp->driver_feature_select = 0;
	vp->queue_select = 0;
	vp->config_vector = VIRTIO_MSI_NO_VECTOR;
	for (unsigned int i = 0; i < ARRAY_SIZE(vp->queue_vector); i++)
		vp->queue_vector[i] = VIRTIO_MSI_NO_VECTOR;
}

/* The selected queue's vector, or NULL without such a queue. */
static uint16_t *common_queue_vector(struct virtio_pci *vp)
{
	return vp->queue_select < virtio_nr_queues(vp->vdev) ? &vp->queue_vector[vp->queue_select]
							     : NULL;
}

static uint64_t common_get(struct virtio_pci *vp, enum common_field field)
{
	const uint16_t *vector = common_queue_vector(vp);

	switch (field) {
	case DEVICE_FEATURE_SELECT:
		return vp->device_feature_select;
	case DEVICE_FEATURE:
		return virtio_offered_features(vp->vdev, vp->device_feature_select);
	case DRIVER_FEATURE_SELECT:
		return vp->driver_feature_select;
	case DRIVER_FEATURE:
		return virtio_driver_features(vp->vdev, vp->driver_feature_select);
	case CONFIG_MSIX_VECTOR:
		return vp->config_vector;
	case NUM_QUEUES:
		return virtio_nr_queues(vp->vdev);
	case DEVICE_STATUS:
		return virtio_status(vp->vdev);
	case CONFIG_GENERATION:
		return virtio_config_generation(vp->vdev);
	case QUEUE_SELECT:
		return vp->queue_select;
	case QUEUE_SIZE:
		return virtio_queue_size(vp->vdev, vp->queue_select);
	case QUEUE_MSIX_VECTOR:
		return vector ? *vector : VIRTIO_MSI_NO_VECTOR;
	case QUEUE_ENABLE:
		return virtio_queue_enabled(vp->vdev, vp->queue_select);
	case QUEUE_NOTIFY_OFF:
		return vector ? vp->queue_select : 0;
	case QUEUE_DESC:
		return virtio_queue_address(vp->vdev, vp->queue_select, VIRTIO_AREA_DESC);
	case QUEUE_DRIVER:
		return virtio_queue_address(vp->vdev, vp->queue_select, VIRTIO_AREA_DRIVER);
	case QUEUE_DEVICE:
		return virtio_queue_address(vp->vdev, vp->queue_select, VIRTIO_AREA_DEVICE);
	case QUEUE_NOTIFY_DATA: /* VIRTIO_F_NOTIF_CONFIG_DATA is not offered */
	case QUEUE_RESET:       /* a reset is finished before the write that asked for it is */
		break;
	}
	return 0;
}

/* A vector that the device does not have maps to none, which the driver reads back (I2). */
static uint16_t common_check_vector(const struct virtio_pci *vp, uint64_t value)
{
	return value < vp->vectors ? (uint16_t)value : VIRTIO_MSI_NO_VECTOR;
}

static void common_set_address(struct virtio_pci *vp, enum virtio_queue_area area, uint64_t gpa)
{
	virtio_queue_set_address(vp->vdev, vp->queue_select, area, gpa);
}

static void common_set(struct virtio_pci *vp, enum common_field field, uint64_t value)
{
	uint16_t *vector = common_queue_vector(vp);

	switch (field) {
	case DEVICE_FEATURE_SELECT:
		vp->device_feature_select = (uint32_t)value;
		break;
	case DRIVER_FEATURE_SELECT:
		vp->driver_feature_select = (uint32_t)value;
		break;
	case DRIVER_FEATURE:
		virtio_set_driver_features(vp->vdev, vp->driver_feature_select, (uint32_t)value);
		break;
	case CONFIG_MSIX_VECTOR:
		vp->config_vector = common_check_vector(vp, value);
		break;
	case DEVICE_STATUS:
		virtio_set_status(vp->vdev, (uint8_t)value);
		break;
	case QUEUE_SELECT:
		vp->queue_select = (uint16_t)value;
		break;
	case QUEUE_SIZE:
		virtio_queue_set_size(vp->vdev, vp->queue_select, (uint16_t)value);
		break;
	case QUEUE_MSIX_VECTOR:
		if (vector)
			*vector = common_check_vector(vp, value);
		break;
	case QUEUE_ENABLE:
		if (value == 1)
			virtio_queue_enable(vp->vdev, vp->queue_select);
		break;
	case QUEUE_DESC:
		common_set_address(vp, VIRTIO_AREA_DESC, value);
		break;
	case QUEUE_DRIVER:
		common_set_address(vp, VIRTIO_AREA_DRIVER, value);
		break;
	case QUEUE_DEVICE:
		common_set_address(vp, VIRTIO_AREA_DEVICE, value);
		break;
	case QUEUE_RESET:
		if (value == 1 && virtio_queue_reset(vp->vdev, vp->queue_select) && vector)
			*vector = VIRTIO_MSI_NO_VECTOR;
		break;
	case DEVICE_FEATURE: /* these are the driver's to read */
	case NUM_QUEUES:
	case CONFIG_GENERATION:
	case QUEUE_NOTIFY_OFF:
	case QUEUE_NOTIFY_DATA:
		break;
	}
}

/* What an access of @size bytes carries. */
static uint64_t common_mask(unsigned int size)
{
	return UINT64_MAX >> (64 - 8 * size);
}

uint64_t virtio_pci_common_read(struct virtio_pci *vp, unsigned int offset, unsigned int size)
{
	uint64_t value = 0;

	for (unsigned int f = 0; f < ARRAY_SIZE(common_fields); f++) {
		unsigned int start = common_fields[f].offset, bytes = common_fields[f].size;
		uint64_t field;

		if (start >= offset + size || start + bytes <= offset)
			continue;
		field = common_get(vp, (enum common_field)f);
		value |= start >= offset ? field << (8 * (start - offset))
					 : field >> (8 * (offset - start));
	}
	return value & common_mask(size);
}

void virtio_pci_common_write(struct virtio_pci *vp, unsigned int offset, unsigned int size,
			     uint64_t value)
{
	value &= common_mask(size);
	for (unsigned int f = 0; f < ARRAY_SIZE(common_fields); f++) {
		unsigned int start = common_fields[f].offset;
		unsigned int shift = 8 * (offset - start);
		uint64_t old;

		if (offset == start && size == common_fields[f].size) {
			common_set(vp, (enum common_field)f, value);
			return;
		}
		if (common_fields[f].size == 8 && size == 4 &&
		    (offset == start || offset == start + 4)) {
			old = common_get(vp, (enum common_field)f);
			old &= ~(UINT64_C(0xffffffff) << shift);
			common_set(vp, (enum common_field)f, old | value << shift);
			return;
		}
	}
}
