/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The PCI transport of virtio devices, modern only: VIRTIO 1.3, 4.1 "Virtio Over PCI Bus".
 *
 *     BAR 1, 4 KiB, 32-bit            MSI-X table and pending bits
 *     BAR 4, 16 KiB, 64-bit prefetch  0x0000 common configuration, 0x1000 ISR status,
 *                                     0x2000 device configuration, 0x3000 notifications
 *
 * Each queue has a doorbell of 4 bytes at 0x3000 + 4 * queue index that the hypervisor turns into
 * an eventfd without leaving the kernel; a store that comes as an MMIO exit all the same does the
 * same.
 *
 * I1  A doorbell is registered exactly while BAR 4 is mapped, at the address where it is mapped.
 * I2  A vector that the driver asked for is stored only if the device has it; the driver reads back
 *     VIRTIO_MSI_NO_VECTOR otherwise. An event without a vector sends nothing while MSI-X is on.
 * I3  With MSI-X off, an event sets its bit in the ISR status and asserts INTA#, until the driver
 *     reads the ISR status or resets the device.
 * I4  Without bus mastering no queue is processed.
 *
 * Ownership: the caller owns device and PCI host; both outlive the transport.
 * Threads: register accesses take the device lock (virtio.h); virtio_pci_new() and
 * virtio_pci_free() are called while no vCPU runs.
 * The guest controls: BAR addresses, MSI-X, all registers.
 */
#ifndef VMM_VIRTIO_VIRTIO_PCI_H
#define VMM_VIRTIO_VIRTIO_PCI_H

#include <stdint.h>

#include "vmm/pci/pci.h"

struct err;
struct hv;
struct pack;
struct unpack;
struct virtio_device;
struct virtio_pci;

/* The class code of devices that have none of their own (PCI_CLASS_OTHERS). */
#define VIRTIO_PCI_CLASS_OTHER 0x00ff00

/* One vector for each queue and one for configuration changes. */
#define VIRTIO_PCI_VECTORS_AUTO UINT32_MAX

struct virtio_pci_config {
	struct pci_place place;
	struct hv *hv;
	uint32_t class_code; /* 24 bits */
	uint32_t vectors;    /* MSI-X vectors, 0 for INTx only, or VIRTIO_PCI_VECTORS_AUTO */
};

/*
 * Puts the device on the bus: before a pci_host_reset() or, on a port's bus, pci_port_plug(). NULL
 * and *err on failure.
 */
struct virtio_pci *virtio_pci_new(const struct virtio_pci_config *config,
				  struct virtio_device *vdev, struct err **err);
/* NULL is allowed. */
void virtio_pci_free(struct virtio_pci *vp);

/*
 * A virtio device whole: its function on the bus, the transport's registers, the core and the
 * device's own part. While the machine is stopped and the device paused; see virtio_device_save()
 * and virtio_device_load(), and pci_device_load() for what must have been loaded before.
 */
#define VIRTIO_PCI_STATE_VERSION 1u
void virtio_pci_save(struct virtio_pci *vp, struct pack *out);
int virtio_pci_load(struct virtio_pci *vp, uint32_t version, struct unpack *in, struct err **err);

/* Its place on the bus, for listings. */
struct pci_device *virtio_pci_device(const struct virtio_pci *vp);

#endif
