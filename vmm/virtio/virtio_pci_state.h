/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of the PCI transport. Only virtio_pci*.c include this; contract, invariants and locks are
 * in virtio_pci.h.
 */
#ifndef VMM_VIRTIO_VIRTIO_PCI_STATE_H
#define VMM_VIRTIO_VIRTIO_PCI_STATE_H

#include <pthread.h>

#include "vmm/virtio/virtio_transport.h"

#define VIRTIO_MSI_NO_VECTOR 0xffff

/* struct virtio_pci_common_cfg up to queue_reset. */
#define VIRTIO_PCI_COMMON_SIZE 60

#define VIRTIO_PCI_WINDOW_SIZE 20

#define VIRTIO_PCI_ISR_QUEUE  1
#define VIRTIO_PCI_ISR_CONFIG 2

struct virtio_pci {
	/* immutable */
	struct virtio_device *vdev;
	struct pci_device *pci;
	struct hv *hv;
	unsigned int vectors;
	unsigned int window_cap;
	/* guarded by the device lock */
	uint32_t device_feature_select, driver_feature_select;
	uint16_t queue_select;
	uint16_t config_vector;
	uint16_t queue_vector[VIRTIO_QUEUES_MAX];
	uint8_t isr;
	/* guarded by the PCI host's lock */
	uint64_t doorbells; /* bit n: queue n's is registered with the hypervisor */
	/* guarded by window_lock, which comes before the device lock, while vCPUs run */
	pthread_mutex_t window_lock;
	uint8_t window[VIRTIO_PCI_WINDOW_SIZE];
};

/* May the driver write this byte of the window? */
bool virtio_pci_window_writable(unsigned int offset);

/* All with the device lock held, or before the device is on the bus. */
void virtio_pci_common_reset(struct virtio_pci *vp);
/* Any access within the page of the structure; @size 1, 2, 4 or 8. */
uint64_t virtio_pci_common_read(struct virtio_pci *vp, unsigned int offset, unsigned int size);
void virtio_pci_common_write(struct virtio_pci *vp, unsigned int offset, unsigned int size,
			     uint64_t value);

#endif
