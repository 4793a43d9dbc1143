/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * MSI-X: PCI Local Bus 3.0 section 6.8.2.
 *
 * I1  A vector is active while MSI-X is enabled, COMMAND.Bus Master set, and neither the function
 *     nor the vector masked. Only an active vector signals its message source.
 * I2  A pending vector is not active, or the host could not route it; then every later trigger,
 *     table write and control change tries again.
 * I3  What a message source is routed to is what the table entry held when it was last active.
 *     Masking does not take the route off: nothing signals the source then, and a message that is
 *     already on its way reaches the address that was valid when it was sent.
 * I4  A message source is made when its vector is first active, and ended by reset and free:
 *     vectors that a guest does not use cost nothing.
 *
 * Threads: msix->lock guards everything but the geometry. It is a leaf, apart from the hypervisor's
 * own locks; triggers hold it while they signal, so that none slips past a mask that was set.
 * The guest controls: the table, the control register and bus mastering; the PBA it only reads.
 */
#include "vmm/pci/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/pack.h"

struct pci_msix_vector {
	uint8_t entry[PCI_MSIX_ENTRY_SIZE]; /* as the guest reads it */
	bool pending;
	bool routed; /* msi delivers routed_address, routed_data */
	uint64_t routed_address;
	uint32_t routed_data;
	struct hv_msi msi; /* fd -1: not made yet */
};

struct pci_msix {
	/* Immutable. */
	unsigned int vectors;
	unsigned int bar;
	struct range table, pba; /* within the BAR */
	unsigned int control;    /* configuration offset of Message Control */

	pthread_mutex_t lock;
	bool enabled; /* also read atomically without the lock */
	bool blocked; /* function masked, or bus mastering off */
	struct pci_msix_vector *vector;
};

/* I1. Lock held. */
static bool pci_msix_is_active(const struct pci_msix *msix, const struct pci_msix_vector *v)
{
	return msix->enabled && !msix->blocked &&
	       !(v->entry[PCI_MSIX_ENTRY_CONTROL] & PCI_MSIX_ENTRY_MASKED);
}

/* Route the vector to what its entry holds. On failure it is not routed. Lock held. */
static int pci_msix_route(struct pci_device *dev, struct pci_msix_vector *v)
{
	struct hv *hv = dev->host->config.hv;
	uint64_t address = bytes_get_le(v->entry + PCI_MSIX_ENTRY_ADDRESS_LOW, 8);
	uint32_t data = (uint32_t)bytes_get_le(v->entry + PCI_MSIX_ENTRY_DATA, 4);
	int rc;

	if (v->routed && v->routed_address == address && v->routed_data == data)
		return 0;
	v->routed = false;
	if (v->msi.fd < 0) {
		rc = hv->ops->msi_new(hv, &v->msi);
		if (rc < 0) {
			v->msi.fd = -1;
			return rc;
		}
	}
	rc = hv->ops->msi_route(hv, &v->msi, true, address, data);
	if (rc < 0)
		return rc;
	v->routed = true;
	v->routed_address = address;
	v->routed_data = data;
	return 0;
}

/* Something about the vector changed: route it and deliver what is pending, if it may. Lock held.
 */
static void pci_msix_refresh(struct pci_device *dev, struct pci_msix_vector *v)
{
	if (!pci_msix_is_active(dev->msix, v) || pci_msix_route(dev, v) < 0 || !v->pending)
		return;
	v->pending = false;
	hv_msi_trigger(&v->msi);
}

void pci_msix_trigger(struct pci_device *dev, unsigned int vector)
{
	struct pci_msix *msix = dev->msix;

	if (!msix || vector >= msix->vectors)
		return;
	pthread_mutex_lock(&msix->lock);
	if (msix->enabled) {
		msix->vector[vector].pending = true;
		pci_msix_refresh(dev, &msix->vector[vector]);
	}
	pthread_mutex_unlock(&msix->lock);
}

void pci_msix_clear(struct pci_device *dev)
{
	struct pci_msix *msix = dev->msix;

	if (!msix)
		return;
	pthread_mutex_lock(&msix->lock);
	for (unsigned int i = 0; i < msix->vectors; i++)
		msix->vector[i].pending = false;
	pthread_mutex_unlock(&msix->lock);
}

bool pci_msix_enabled(struct pci_device *dev)
{
	return dev->msix && __atomic_load_n(&dev->msix->enabled, __ATOMIC_ACQUIRE);
}

void pci_msix_update(struct pci_device *dev)
{
	struct pci_msix *msix = dev->msix;
	unsigned int control, i;
	bool enabled, blocked;

	if (!msix)
		return;
	control = (unsigned int)bytes_get_le(dev->config + msix->control, 2);
	enabled = control & PCI_MSIX_CONTROL_ENABLE;
	blocked = (control & PCI_MSIX_CONTROL_FUNCTION_MASK) || !pci_bus_master(dev);

	pthread_mutex_lock(&msix->lock);
	if (enabled != msix->enabled || blocked != msix->blocked) {
		__atomic_store_n(&msix->enabled, enabled, __ATOMIC_RELEASE);
		msix->blocked = blocked;
		for (i = 0; i < msix->vectors; i++)
			pci_msix_refresh(dev, &msix->vector[i]);
	}
	pthread_mutex_unlock(&msix->lock);
}

/* The message source goes; entry and pending bit are as at power-on. */
static void pci_msix_vector_reset(struct pci_device *dev, struct pci_msix_vector *v)
{
	struct hv *hv = dev->host->config.hv;

	if (v->msi.fd >= 0)
		hv->ops->msi_free(hv, &v->msi);
	memset(v, 0, sizeof(*v));
	v->entry[PCI_MSIX_ENTRY_CONTROL] = PCI_MSIX_ENTRY_MASKED;
	v->msi.fd = -1;
}

void pci_msix_reset(struct pci_device *dev)
{
	struct pci_msix *msix = dev->msix;
	unsigned int i;

	if (!msix)
		return;
	pthread_mutex_lock(&msix->lock);
	__atomic_store_n(&msix->enabled, false, __ATOMIC_RELEASE);
	msix->blocked = true;
	for (i = 0; i < msix->vectors; i++)
		pci_msix_vector_reset(dev, &msix->vector[i]);
	pthread_mutex_unlock(&msix->lock);
}

void pci_msix_free(struct pci_device *dev)
{
	struct pci_msix *msix = dev->msix;

	if (!msix)
		return;
	pci_msix_reset(dev);
	dev->msix = NULL;
	pthread_mutex_destroy(&msix->lock);
	free(msix->vector);
	free(msix);
}

/* Byte @index of the PBA. Lock held. */
static uint8_t pci_msix_pba_byte(const struct pci_msix *msix, uint64_t index)
{
	unsigned int byte = 0, i;

	for (i = 0; i < 8 && index * 8 + i < msix->vectors; i++)
		byte |= (unsigned int)msix->vector[index * 8 + i].pending << i;
	return (uint8_t)byte;
}

bool pci_msix_bar_read(struct pci_device *dev, unsigned int bar, uint64_t offset, unsigned int size,
		       uint64_t *ret_value)
{
	struct pci_msix *msix = dev->msix;
	struct range access = {offset, size};
	uint8_t bytes[8] = {0};
	bool is_table;
	unsigned int i;

	if (!msix || bar != msix->bar)
		return false;
	is_table = range_contains(msix->table, access);
	if (!is_table && !range_contains(msix->pba, access))
		return false;

	pthread_mutex_lock(&msix->lock);
	for (i = 0; i < size; i++) {
		uint64_t at = offset + i - (is_table ? msix->table.start : msix->pba.start);

		bytes[i] = is_table ? msix->vector[at / PCI_MSIX_ENTRY_SIZE]
					      .entry[at % PCI_MSIX_ENTRY_SIZE]
				    : pci_msix_pba_byte(msix, at);
	}
	pthread_mutex_unlock(&msix->lock);
	*ret_value = bytes_get_le(bytes, size);
	return true;
}

/* One doubleword of an entry. Reserved bits stay 0. Lock held. */
static void pci_msix_entry_write(struct pci_msix_vector *v, unsigned int field, uint32_t value)
{
	if (field == PCI_MSIX_ENTRY_ADDRESS_LOW)
		value &= ~UINT32_C(3);
	if (field == PCI_MSIX_ENTRY_CONTROL)
		value &= PCI_MSIX_ENTRY_MASKED;
	bytes_put_le(v->entry + field, 4, value);
}

/*
 * The standard allows aligned accesses of 4 and 8 bytes only; other writes are dropped. Both halves
 * of an 8-byte write take effect together.
 */
bool pci_msix_bar_write(struct pci_device *dev, unsigned int bar, uint64_t offset,
			unsigned int size, uint64_t value)
{
	struct pci_msix *msix = dev->msix;
	struct range access = {offset, size};
	struct pci_msix_vector *v;
	unsigned int field;

	if (!msix || bar != msix->bar)
		return false;
	if (range_contains(msix->pba, access))
		return true;
	if (!range_contains(msix->table, access))
		return false;
	if (size < 4 || !num_is_aligned(offset, size))
		return true;

	v = &msix->vector[(offset - msix->table.start) / PCI_MSIX_ENTRY_SIZE];
	field = (offset - msix->table.start) % PCI_MSIX_ENTRY_SIZE;
	pthread_mutex_lock(&msix->lock);
	pci_msix_entry_write(v, field, (uint32_t)value);
	if (size == 8)
		pci_msix_entry_write(v, field + 4, (uint32_t)(value >> 32));
	pci_msix_refresh(dev, v);
	pthread_mutex_unlock(&msix->lock);
	return true;
}

/* @table and @pba lie in the BAR, aligned, and do not overlap. */
static int pci_msix_check(const struct pci_device *dev, unsigned int vectors, unsigned int bar,
			  struct range table, struct range pba, struct err **err)
{
	struct range whole = {0, bar < PCI_BARS ? dev->bars[bar].size : 0};

	if (dev->msix)
		return err_set(err, EEXIST, "device '%s' has MSI-X already", dev->id);
	if (!vectors || vectors > PCI_MSIX_VECTORS_MAX)
		return err_set(err, EINVAL,
			       "device '%s': %u MSI-X vectors, but 1 to %u are allowed", dev->id,
			       vectors, PCI_MSIX_VECTORS_MAX);
	if (!range_contains(whole, table) || !range_contains(whole, pba) ||
	    !num_is_aligned(table.start, 8) || !num_is_aligned(pba.start, 8) ||
	    range_overlaps(table, pba))
		return err_set(
			err, EINVAL,
			"device '%s': MSI-X table at %#llx and pending bits at %#llx must lie "
			"in BAR %u, apart from each other, at multiples of 8",
			dev->id, (unsigned long long)table.start, (unsigned long long)pba.start,
			bar);
	return 0;
}

static struct pci_msix *pci_msix_new(unsigned int vectors)
{
	struct pci_msix *msix = calloc(1, sizeof(*msix));
	unsigned int i;

	if (!msix)
		return NULL;
	msix->vector = calloc(vectors, sizeof(*msix->vector));
	if (!msix->vector || pthread_mutex_init(&msix->lock, NULL)) {
		free(msix->vector);
		free(msix);
		return NULL;
	}
	msix->vectors = vectors;
	msix->blocked = true;
	for (i = 0; i < vectors; i++) {
		msix->vector[i].entry[PCI_MSIX_ENTRY_CONTROL] = PCI_MSIX_ENTRY_MASKED;
		msix->vector[i].msi.fd = -1;
	}
	return msix;
}

int pci_add_msix(struct pci_device *dev, unsigned int vectors, unsigned int bar,
		 uint32_t table_offset, uint32_t pba_offset, struct err **err)
{
	struct range table = {table_offset, (uint64_t)vectors * PCI_MSIX_ENTRY_SIZE};
	struct range pba = {pba_offset, ((uint64_t)vectors + 63) / 64 * 8};
	uint8_t bytes[PCI_MSIX_SIZE] = {0};
	uint8_t mask[PCI_MSIX_SIZE] = {0};
	struct pci_msix *msix;
	unsigned int cap;
	int rc;

	rc = pci_msix_check(dev, vectors, bar, table, pba, err);
	if (rc < 0)
		return rc;
	msix = pci_msix_new(vectors);
	if (!msix)
		return err_set(err, ENOMEM, "device '%s': no memory for %u MSI-X vectors", dev->id,
			       vectors);
	bytes_put_le(bytes + PCI_MSIX_CONTROL, 2, vectors - 1);
	bytes_put_le(bytes + PCI_MSIX_TABLE, 4, table_offset | bar);
	bytes_put_le(bytes + PCI_MSIX_PBA, 4, pba_offset | bar);
	bytes_put_le(mask + PCI_MSIX_CONTROL, 2,
		     PCI_MSIX_CONTROL_FUNCTION_MASK | PCI_MSIX_CONTROL_ENABLE);
	rc = pci_add_capability(dev, PCI_CAP_ID_MSIX, bytes, sizeof(bytes), mask, false, &cap, err);
	if (rc < 0) {
		pthread_mutex_destroy(&msix->lock);
		free(msix->vector);
		free(msix);
		return rc;
	}
	msix->bar = bar;
	msix->table = table;
	msix->pba = pba;
	msix->control = dev->caps[cap].offset + PCI_MSIX_CONTROL;
	dev->msix = msix;
	return 0;
}

/* ---- saved state ---- */

unsigned int pci_msix_vectors(const struct pci_device *dev)
{
	return dev->msix ? dev->msix->vectors : 0;
}

void pci_msix_save(struct pci_device *dev, struct pack *out)
{
	struct pci_msix *msix = dev->msix;

	pack_u16(out, (uint16_t)pci_msix_vectors(dev));
	if (!msix)
		return;
	pthread_mutex_lock(&msix->lock);
	for (unsigned int i = 0; i < msix->vectors; i++) {
		pack_bytes(out, msix->vector[i].entry, PCI_MSIX_ENTRY_SIZE);
		pack_bool(out, msix->vector[i].pending);
	}
	pthread_mutex_unlock(&msix->lock);
}

void pci_msix_load(struct pci_device *dev, struct unpack *in)
{
	struct pci_msix *msix = dev->msix;

	if (!msix)
		return;
	pthread_mutex_lock(&msix->lock);
	for (unsigned int i = 0; i < msix->vectors && !unpack_failed(in); i++) {
		struct pci_msix_vector *v = &msix->vector[i];
		uint8_t entry[PCI_MSIX_ENTRY_SIZE];

		unpack_bytes(in, entry, sizeof(entry));
		v->pending = unpack_bool(in);
		/* As a guest would have written them: reserved bits are 0. */
		for (unsigned int field = 0; field < sizeof(entry); field += 4)
			pci_msix_entry_write(v, field, (uint32_t)bytes_get_le(entry + field, 4));
		if (memcmp(entry, v->entry, sizeof(entry)) != 0)
			unpack_fail(in);
	}
	pthread_mutex_unlock(&msix->lock);
}
