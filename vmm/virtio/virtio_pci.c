/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The PCI transport of virtio devices: VIRTIO 1.3, 4.1. See virtio_pci.h. The common configuration
 * structure is in virtio_pci_common.c.
 */
#include "vmm/virtio/virtio_pci.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "vmm/pci/pci.h"
#include "vmm/virtio/virtio_pci_state.h"

#define VIRTIO_PCI_VENDOR_ID      0x1af4
#define VIRTIO_PCI_DEVICE_ID_BASE 0x1040
#define VIRTIO_PCI_SUBSYSTEM_BASE 0x1100 /* any value from 0x40 up keeps legacy drivers off */
#define VIRTIO_PCI_REVISION_ID    1

#define VIRTIO_PCI_MSIX_BAR         1
#define VIRTIO_PCI_MSIX_BAR_SIZE    (4 * KIB)
#define VIRTIO_PCI_MSIX_PBA         0x800
#define VIRTIO_PCI_MSIX_VECTORS_MAX (VIRTIO_PCI_MSIX_PBA / 16)

#define VIRTIO_PCI_BAR      4
#define VIRTIO_PCI_BAR_SIZE (16 * KIB)
#define VIRTIO_PCI_PAGE     0x1000 /* each structure has one */
#define VIRTIO_PCI_COMMON   0x0000
#define VIRTIO_PCI_ISR      0x1000
#define VIRTIO_PCI_DEVICE   0x2000
#define VIRTIO_PCI_NOTIFY   0x3000

#define VIRTIO_PCI_NOTIFY_MULTIPLIER 4

/* Capabilities (4.1.4): cfg_type and where the fields lie. */
#define PCI_CAP_ID_VENDOR         9
#define VIRTIO_PCI_CAP_COMMON_CFG 1
#define VIRTIO_PCI_CAP_NOTIFY_CFG 2
#define VIRTIO_PCI_CAP_ISR_CFG    3
#define VIRTIO_PCI_CAP_DEVICE_CFG 4
#define VIRTIO_PCI_CAP_PCI_CFG    5

#define CAP_LEN       2
#define CAP_CFG_TYPE  3
#define CAP_BAR       4
#define CAP_OFFSET    8
#define CAP_LENGTH    12
#define CAP_SIZE      16
#define CAP_EXTRA     16 /* notify_off_multiplier, pci_cfg_data */
#define CAP_SIZE_LONG 20

_Static_assert(CAP_SIZE_LONG == VIRTIO_PCI_WINDOW_SIZE, "the window is one long capability");
_Static_assert(VIRTIO_QUEUES_MAX *VIRTIO_PCI_NOTIFY_MULTIPLIER <= VIRTIO_PCI_PAGE,
	       "all doorbells fit");

/* ---- interrupts; called by the core with the device lock held ---- */

static void virtio_pci_interrupt(struct virtio_pci *vp, uint16_t vector, uint8_t isr_bit)
{
	if (pci_msix_enabled(vp->pci)) {
		if (vector != VIRTIO_MSI_NO_VECTOR)
			pci_msix_trigger(vp->pci, vector);
		return;
	}
	vp->isr |= isr_bit;
	pci_intx_set(vp->pci, true);
}

static void virtio_pci_queue_interrupt(void *opaque, unsigned int index)
{
	struct virtio_pci *vp = opaque;

	virtio_pci_interrupt(vp, vp->queue_vector[index], VIRTIO_PCI_ISR_QUEUE);
}

/* 4.1.4.5: the configuration bit is set whatever kind of interrupt follows. */
static void virtio_pci_config_interrupt(void *opaque)
{
	struct virtio_pci *vp = opaque;

	vp->isr |= VIRTIO_PCI_ISR_CONFIG;
	virtio_pci_interrupt(vp, vp->config_vector, VIRTIO_PCI_ISR_CONFIG);
}

static bool virtio_pci_dma_allowed(void *opaque)
{
	struct virtio_pci *vp = opaque;

	return pci_bus_master(vp->pci);
}

static void virtio_pci_device_reset(void *opaque)
{
	struct virtio_pci *vp = opaque;

	vp->isr = 0;
	pci_intx_set(vp->pci, false);
	/* What they were to tell is over: the next driver unmasks its vectors and hears nothing. */
	pci_msix_clear(vp->pci);
	virtio_pci_common_reset(vp);
}

static const struct virtio_transport_ops virtio_pci_transport_ops = {
	.queue_interrupt = virtio_pci_queue_interrupt,
	.config_interrupt = virtio_pci_config_interrupt,
	.dma_allowed = virtio_pci_dma_allowed,
	.reset = virtio_pci_device_reset,
};

/* ---- BAR 4 ---- */

static uint64_t virtio_pci_isr_read(struct virtio_pci *vp, uint64_t offset)
{
	uint8_t isr = vp->isr;

	if (offset)
		return 0;
	vp->isr = 0;
	pci_intx_set(vp->pci, false);
	return isr;
}

static uint64_t virtio_pci_bar_read(void *opaque, uint64_t offset, unsigned int size)
{
	struct virtio_pci *vp = opaque;
	uint64_t at = offset % VIRTIO_PCI_PAGE, value = 0;
	uint8_t bytes[8];

	virtio_lock(vp->vdev);
	switch (offset - at) {
	case VIRTIO_PCI_COMMON:
		value = virtio_pci_common_read(vp, (unsigned int)at, size);
		break;
	case VIRTIO_PCI_ISR:
		value = virtio_pci_isr_read(vp, at);
		break;
	case VIRTIO_PCI_DEVICE:
		virtio_config_read(vp->vdev, (uint32_t)at, bytes, size);
		value = bytes_get_le(bytes, size);
		break;
	default: /* doorbells */
		break;
	}
	virtio_unlock(vp->vdev);
	return value;
}

static void virtio_pci_bar_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	struct virtio_pci *vp = opaque;
	uint64_t at = offset % VIRTIO_PCI_PAGE;
	uint8_t bytes[8];

	if (offset >= VIRTIO_PCI_NOTIFY) {
		/* A doorbell that the hypervisor did not take: same eventfd, same path. */
		if (at / VIRTIO_PCI_NOTIFY_MULTIPLIER < virtio_nr_queues(vp->vdev))
			virtio_queue_kick(vp->vdev,
					  (unsigned int)(at / VIRTIO_PCI_NOTIFY_MULTIPLIER));
		return;
	}
	virtio_lock(vp->vdev);
	if (offset - at == VIRTIO_PCI_COMMON) {
		virtio_pci_common_write(vp, (unsigned int)at, size, value);
	} else if (offset - at == VIRTIO_PCI_DEVICE) {
		bytes_put_le(bytes, size, value);
		virtio_config_write(vp->vdev, (uint32_t)at, bytes, size);
	}
	virtio_unlock(vp->vdev);
}

static const struct bus_ops virtio_pci_bar_ops = {
	.read = virtio_pci_bar_read,
	.write = virtio_pci_bar_write,
};

/*
 * I1; with the PCI host's lock, which guards vp->doorbells. A doorbell that cannot be registered
 * leaves the guest by an MMIO exit instead: slower, and otherwise the same.
 */
static void virtio_pci_bar_mapped(void *opaque, unsigned int bar, bool mapped, uint64_t gpa)
{
	struct virtio_pci *vp = opaque;

	if (bar != VIRTIO_PCI_BAR)
		return;
	for (unsigned int i = 0; i < virtio_nr_queues(vp->vdev); i++) {
		uint64_t at = gpa + VIRTIO_PCI_NOTIFY + i * VIRTIO_PCI_NOTIFY_MULTIPLIER;
		int fd = virtio_queue_doorbell(vp->vdev, i);
		uint64_t bit = UINT64_C(1) << i;

		if (mapped && vp->hv->ops->doorbell_add(vp->hv, at, 0, fd) == 0)
			vp->doorbells |= bit;
		if (!mapped && (vp->doorbells & bit)) {
			vp->hv->ops->doorbell_remove(vp->hv, at, 0, fd);
			vp->doorbells &= ~bit;
		}
	}
}

/* ---- the window in configuration space (4.1.4.9); the PCI host's lock guards vp->window ---- */

/* Where the window points, if that is within BAR 4: else it reads as 0 and ignores writes. */
static bool virtio_pci_window_target(const struct virtio_pci *vp, uint64_t *ret_offset,
				     unsigned int *ret_size)
{
	uint64_t offset = bytes_get_le(vp->window + CAP_OFFSET, 4);
	uint64_t size = bytes_get_le(vp->window + CAP_LENGTH, 4);

	if (vp->window[CAP_BAR] != VIRTIO_PCI_BAR || (size != 1 && size != 2 && size != 4) ||
	    offset % size || offset + size > VIRTIO_PCI_BAR_SIZE)
		return false;
	*ret_offset = offset;
	*ret_size = (unsigned int)size;
	return true;
}

static uint32_t virtio_pci_cap_read(void *opaque, unsigned int cap, unsigned int offset,
				    unsigned int size)
{
	struct virtio_pci *vp = opaque;
	unsigned int bar_size;
	uint64_t bar_offset;
	uint32_t value;

	if (cap != vp->window_cap || offset + size > VIRTIO_PCI_WINDOW_SIZE)
		return 0;
	pthread_mutex_lock(&vp->window_lock);
	if (offset >= CAP_EXTRA) {
		memset(vp->window + CAP_EXTRA, 0, 4);
		if (virtio_pci_window_target(vp, &bar_offset, &bar_size))
			bytes_put_le(vp->window + CAP_EXTRA, bar_size,
				     virtio_pci_bar_read(vp, bar_offset, bar_size));
	}
	value = (uint32_t)bytes_get_le(vp->window + offset, size);
	pthread_mutex_unlock(&vp->window_lock);
	return value;
}

/* Bar, offset, length and pci_cfg_data. */
bool virtio_pci_window_writable(unsigned int offset)
{
	return offset == CAP_BAR || offset >= CAP_OFFSET;
}

static void virtio_pci_cap_write(void *opaque, unsigned int cap, unsigned int offset,
				 unsigned int size, uint32_t value)
{
	struct virtio_pci *vp = opaque;
	unsigned int bar_size;
	uint64_t bar_offset;

	if (cap != vp->window_cap || offset + size > VIRTIO_PCI_WINDOW_SIZE)
		return;
	pthread_mutex_lock(&vp->window_lock);
	for (unsigned int i = offset; i < offset + size; i++)
		if (virtio_pci_window_writable(i))
			vp->window[i] = (uint8_t)(value >> (8 * (i - offset)));
	if (offset >= CAP_EXTRA && virtio_pci_window_target(vp, &bar_offset, &bar_size))
		virtio_pci_bar_write(vp, bar_offset, bar_size,
				     bytes_get_le(vp->window + CAP_EXTRA, bar_size));
	pthread_mutex_unlock(&vp->window_lock);
}

static void virtio_pci_window_reset(struct virtio_pci *vp)
{
	pthread_mutex_lock(&vp->window_lock);
	memset(vp->window, 0, sizeof(vp->window));
	vp->window[CAP_LEN] = CAP_SIZE_LONG;
	vp->window[CAP_CFG_TYPE] = VIRTIO_PCI_CAP_PCI_CFG;
	pthread_mutex_unlock(&vp->window_lock);
}

static void virtio_pci_system_reset(void *opaque)
{
	struct virtio_pci *vp = opaque;

	virtio_pci_window_reset(vp);
	virtio_system_reset(vp->vdev);
}

/* As a write of 0 to the device status: nothing is waited for, and plugged memory stays. */
static void virtio_pci_link_down(void *opaque)
{
	struct virtio_pci *vp = opaque;

	virtio_pci_window_reset(vp);
	virtio_lock(vp->vdev);
	virtio_set_status(vp->vdev, 0);
	virtio_unlock(vp->vdev);
}

static const struct pci_device_ops virtio_pci_device_ops = {
	.bar_mapped = virtio_pci_bar_mapped,
	.cap_read = virtio_pci_cap_read,
	.cap_write = virtio_pci_cap_write,
	.reset = virtio_pci_system_reset,
	.link_down = virtio_pci_link_down,
};

/* ---- construction ---- */

static int virtio_pci_add_structure(struct virtio_pci *vp, uint8_t cfg_type, uint32_t offset,
				    uint32_t length, struct err **err)
{
	unsigned int size = cfg_type == VIRTIO_PCI_CAP_NOTIFY_CFG ? CAP_SIZE_LONG : CAP_SIZE;
	uint8_t bytes[CAP_SIZE_LONG] = {
		[CAP_LEN] = (uint8_t)size,
		[CAP_CFG_TYPE] = cfg_type,
		[CAP_BAR] = VIRTIO_PCI_BAR,
	};

	bytes_put_le(bytes + CAP_OFFSET, 4, offset);
	bytes_put_le(bytes + CAP_LENGTH, 4, length);
	bytes_put_le(bytes + CAP_EXTRA, 4, VIRTIO_PCI_NOTIFY_MULTIPLIER);
	return pci_add_capability(vp->pci, PCI_CAP_ID_VENDOR, bytes, size, NULL, false, NULL, err);
}

static int virtio_pci_add_capabilities(struct virtio_pci *vp, struct err **err)
{
	uint32_t config_size = virtio_config_size(vp->vdev);
	int ret;

	ret = virtio_pci_add_structure(vp, VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_PCI_COMMON,
				       VIRTIO_PCI_COMMON_SIZE, err);
	if (!ret)
		ret = virtio_pci_add_structure(vp, VIRTIO_PCI_CAP_ISR_CFG, VIRTIO_PCI_ISR, 1, err);
	if (!ret && config_size)
		ret = virtio_pci_add_structure(vp, VIRTIO_PCI_CAP_DEVICE_CFG, VIRTIO_PCI_DEVICE,
					       config_size, err);
	if (!ret)
		ret = virtio_pci_add_structure(
			vp, VIRTIO_PCI_CAP_NOTIFY_CFG, VIRTIO_PCI_NOTIFY,
			virtio_nr_queues(vp->vdev) * VIRTIO_PCI_NOTIFY_MULTIPLIER, err);
	virtio_pci_window_reset(vp);
	if (!ret)
		ret = pci_add_capability(vp->pci, PCI_CAP_ID_VENDOR, vp->window, sizeof(vp->window),
					 NULL, true, &vp->window_cap, err);
	return ret;
}

static int virtio_pci_add_bars(struct virtio_pci *vp, struct err **err)
{
	int ret;

	ret = pci_add_bar(vp->pci, VIRTIO_PCI_BAR, VIRTIO_PCI_BAR_SIZE, true, true, "virtio-pci",
			  &virtio_pci_bar_ops, vp, err);
	if (ret || !vp->vectors)
		return ret;
	ret = pci_add_bar(vp->pci, VIRTIO_PCI_MSIX_BAR, VIRTIO_PCI_MSIX_BAR_SIZE, false, false,
			  "virtio-pci-msix", NULL, NULL, err);
	if (ret)
		return ret;
	return pci_add_msix(vp->pci, vp->vectors, VIRTIO_PCI_MSIX_BAR, 0, VIRTIO_PCI_MSIX_PBA, err);
}

static int virtio_pci_init(struct virtio_pci *vp, const struct virtio_pci_config *config,
			   struct err **err)
{
	uint16_t type = virtio_device_type(vp->vdev);
	struct pci_identity identity = {
		.vendor_id = VIRTIO_PCI_VENDOR_ID,
		.device_id = (uint16_t)(VIRTIO_PCI_DEVICE_ID_BASE + type),
		.subsystem_vendor_id = VIRTIO_PCI_VENDOR_ID,
		.subsystem_id = VIRTIO_PCI_SUBSYSTEM_BASE,
		.revision_id = VIRTIO_PCI_REVISION_ID,
		.class_code = config->class_code,
		/* Behind a link it must have one; on the root bus it would say nothing. */
		.express = pci_bus_port(config->place.bus) != NULL,
		.intx = true,
	};
	int ret;

	vp->vectors = config->vectors == VIRTIO_PCI_VECTORS_AUTO ? virtio_nr_queues(vp->vdev) + 1
								 : config->vectors;
	if (vp->vectors > VIRTIO_PCI_MSIX_VECTORS_MAX)
		return err_set(
			err, EINVAL, "device '%s': vectors=%u is too many, 0 to %d are allowed",
			virtio_device_name(vp->vdev), vp->vectors, VIRTIO_PCI_MSIX_VECTORS_MAX);
	vp->pci = pci_device_new(&config->place, virtio_device_name(vp->vdev), &identity,
				 &virtio_pci_device_ops, vp, err);
	if (!vp->pci)
		return -EINVAL;
	virtio_pci_common_reset(vp);
	ret = virtio_pci_add_bars(vp, err);
	if (!ret)
		ret = virtio_pci_add_capabilities(vp, err);
	return ret;
}

struct virtio_pci *virtio_pci_new(const struct virtio_pci_config *config,
				  struct virtio_device *vdev, struct err **err)
{
	struct virtio_pci *vp;

	assert(virtio_config_size(vdev) <= VIRTIO_PCI_PAGE);
	vp = calloc(1, sizeof(*vp));
	if (!vp) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	vp->vdev = vdev;
	vp->hv = config->hv;
	pthread_mutex_init(&vp->window_lock, NULL);
	if (virtio_pci_init(vp, config, err)) {
		pci_device_free(vp->pci);
		pthread_mutex_destroy(&vp->window_lock);
		free(vp);
		return NULL;
	}
	virtio_attach(vdev, &virtio_pci_transport_ops, vp);
	return vp;
}

void virtio_pci_free(struct virtio_pci *vp)
{
	if (!vp)
		return;
	virtio_attach(vp->vdev, NULL, NULL);
	pci_device_free(vp->pci);
	pthread_mutex_destroy(&vp->window_lock);
	free(vp);
}

struct pci_device *virtio_pci_device(const struct virtio_pci *vp)
{
	return vp->pci;
}
