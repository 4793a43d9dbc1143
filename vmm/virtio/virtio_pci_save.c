/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The saved state of a virtio device on PCI: its function, the transport's registers, then the
 * device (virtio_save.c). See virtio_pci.h.
 *
 * I1  A vector is loaded only if the device has it; of the window, only what a driver may write
 *     differs from how the device began.
 *
 * Threads: the one that adds and removes devices, the machine stopped.
 * Whoever made the bytes controls all of them.
 */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/pack.h"
#include "vmm/virtio/virtio_pci.h"
#include "vmm/virtio/virtio_pci_state.h"

void virtio_pci_save(struct virtio_pci *vp, struct pack *out)
{
	pci_device_save(vp->pci, out);
	virtio_lock(vp->vdev);
	pack_u32(out, vp->device_feature_select);
	pack_u32(out, vp->driver_feature_select);
	pack_u16(out, vp->queue_select);
	pack_u8(out, vp->isr);
	pack_bytes(out, vp->window, sizeof(vp->window));
	pack_u16(out, vp->config_vector);
	pack_u16(out, (uint16_t)virtio_nr_queues(vp->vdev));
	for (unsigned int i = 0; i < virtio_nr_queues(vp->vdev); i++)
		pack_u16(out, vp->queue_vector[i]);
	virtio_unlock(vp->vdev);
	virtio_device_save(vp->vdev, out);
}

static uint16_t virtio_pci_load_vector(const struct virtio_pci *vp, struct unpack *in)
{
	uint16_t vector = unpack_u16(in);

	if (vector != VIRTIO_MSI_NO_VECTOR && vector >= vp->vectors)
		unpack_fail(in);
	return vector;
}

static void virtio_pci_load_window(struct virtio_pci *vp, struct unpack *in)
{
	uint8_t window[VIRTIO_PCI_WINDOW_SIZE];

	unpack_bytes(in, window, sizeof(window));
	for (unsigned int i = 0; i < sizeof(window); i++)
		if (!virtio_pci_window_writable(i) && window[i] != vp->window[i])
			unpack_fail(in);
	if (!unpack_failed(in))
		memcpy(vp->window, window, sizeof(window));
}

/* With the device lock held. */
static void virtio_pci_load_registers(struct virtio_pci *vp, struct unpack *in)
{
	unsigned int nr = virtio_nr_queues(vp->vdev);

	vp->device_feature_select = unpack_u32(in);
	vp->driver_feature_select = unpack_u32(in);
	vp->queue_select = unpack_u16(in);
	vp->isr = unpack_u8_max(in, VIRTIO_PCI_ISR_QUEUE | VIRTIO_PCI_ISR_CONFIG);
	virtio_pci_load_window(vp, in);
	vp->config_vector = virtio_pci_load_vector(vp, in);
	if (unpack_u16(in) != nr)
		unpack_fail(in);
	for (unsigned int i = 0; i < nr; i++)
		vp->queue_vector[i] = virtio_pci_load_vector(vp, in);
}

int virtio_pci_load(struct virtio_pci *vp, uint32_t version, struct unpack *in, struct err **err)
{
	int ret;

	if (version != VIRTIO_PCI_STATE_VERSION)
		return err_set(err, EINVAL, "its state is of version %u, and %u is known here",
			       version, VIRTIO_PCI_STATE_VERSION);
	ret = pci_device_load(vp->pci, in, err);
	if (ret)
		return ret;
	virtio_lock(vp->vdev);
	virtio_pci_load_registers(vp, in);
	virtio_unlock(vp->vdev);
	if (unpack_failed(in))
		return err_set(err, EINVAL,
			       "the registers of its transport are cut short or cannot be");
	ret = virtio_device_load(vp->vdev, in, err);
	if (!ret && !unpack_ended(in))
		return err_set(err, EINVAL, "its state is longer than it should be");
	return ret;
}
