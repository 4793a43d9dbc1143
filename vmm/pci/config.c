/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One function's configuration space: type 0 header (PCI Local Bus 3.0 section 6.1), capability
 * list (6.7), PCI Express capability of an endpoint (PCI Express 5.0 section 7.5.3).
 *
 * I1  A guest's write changes exactly the bits of write_mask, and makes those of clear_mask 0 where
 *     it writes 1.
 * I2  What depends on registers (BARs on the bus, bus mastering, MSI-X, INTx) follows within the
 *     access that changed them.
 * I3  Capabilities start at multiples of 4 and do not share a doubleword, so an access concerns one
 *     of them at most.
 *
 * Threads: host->lock is held, except while a device is being made.
 * The guest controls: register, size and value of each access, already inside one doubleword.
 */
#include "vmm/pci/internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"

#define PCI_CAP_HEADER 2 /* id, next */

uint16_t pci_config_command(const struct pci_device *dev)
{
	return (uint16_t)bytes_get_le(dev->config + PCI_COMMAND, 2);
}

/*
 * Error bits of Status stay 0: nothing here can fail in a way that they describe. I/O decoding is
 * writable where there is a BAR of ports (bar.c).
 */
void pci_config_init(struct pci_device *dev, const struct pci_identity *identity)
{
	uint8_t *reg = dev->power_on;

	bytes_put_le(reg + PCI_VENDOR_ID, 2, identity->vendor_id);
	bytes_put_le(reg + PCI_DEVICE_ID, 2, identity->device_id);
	reg[PCI_REVISION_ID] = identity->revision_id;
	bytes_put_le(reg + PCI_CLASS_CODE, 3, identity->class_code);
	if (!dev->port) {
		bytes_put_le(reg + PCI_SUBSYSTEM_VENDOR_ID, 2, identity->subsystem_vendor_id);
		bytes_put_le(reg + PCI_SUBSYSTEM_ID, 2, identity->subsystem_id);
	}
	bytes_put_le(dev->write_mask + PCI_COMMAND, 2,
		     PCI_COMMAND_MEMORY | PCI_COMMAND_BUS_MASTER | PCI_COMMAND_PARITY |
			     PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE);
	dev->write_mask[PCI_CACHE_LINE_SIZE] = 0xff;
	if (dev->has_intx) {
		reg[PCI_INTERRUPT_PIN] = (uint8_t)(dev->intx_pin + 1); /* 1: INTA */
		reg[PCI_INTERRUPT_LINE] = (uint8_t)pci_intx_gsi(dev);
		dev->write_mask[PCI_INTERRUPT_LINE] = 0xff;
	}
	dev->caps_end = PCI_HEADER_SIZE;
	memcpy(dev->config, dev->power_on, sizeof(dev->config));
}

bool pci_config_handled(const struct pci_device *dev, unsigned int reg, unsigned int size,
			struct pci_cap_access *ret_access)
{
	unsigned int i;

	for (i = 0; i < dev->cap_count; i++) {
		const struct pci_cap *cap = &dev->caps[i];
		unsigned int first = cap->offset + PCI_CAP_HEADER;
		unsigned int end = cap->offset + cap->size;

		if (!cap->handled)
			continue;
		first = reg > first ? reg : first;
		end = reg + size < end ? reg + size : end;
		if (first >= end)
			continue;
		*ret_access = (struct pci_cap_access){
			.cap = i,
			.offset = first - cap->offset,
			.size = end - first,
			.shift = 8 * (first - reg),
		};
		return true;
	}
	return false;
}

/* The @size low bytes of a doubleword. */
static uint32_t pci_value_mask(unsigned int size)
{
	return UINT32_MAX >> (8 * (4 - size));
}

uint32_t pci_config_read(struct pci_device *dev, unsigned int reg, unsigned int size)
{
	if (reg >= PCI_CONFIG_SIZE)
		return 0;
	dev->config[PCI_STATUS] &= (uint8_t)~PCI_STATUS_INTERRUPT;
	if (__atomic_load_n(&dev->intx_level, __ATOMIC_RELAXED))
		dev->config[PCI_STATUS] |= PCI_STATUS_INTERRUPT;

	return (uint32_t)bytes_get_le(dev->config + reg, size);
}

uint32_t pci_cap_read(struct pci_device *dev, const struct pci_cap_access *access, uint32_t value)
{
	uint32_t mask = pci_value_mask(access->size), bytes;

	if (!dev->ops->cap_read)
		return value;
	bytes = dev->ops->cap_read(dev->opaque, access->cap, access->offset, access->size);
	return (value & ~(mask << access->shift)) | (bytes & mask) << access->shift;
}

void pci_cap_write(struct pci_device *dev, const struct pci_cap_access *access, uint32_t value)
{
	/* What the access has besides is read-only: header, or padding after the end. */
	dev->ops->cap_write(dev->opaque, access->cap, access->offset, access->size,
			    value >> access->shift & pci_value_mask(access->size));
}

void pci_config_follow(struct pci_device *dev)
{
	bool master =
		(pci_config_command(dev) & PCI_COMMAND_BUS_MASTER) && pci_bus_may_master(dev->bus);

	__atomic_store_n(&dev->bus_master, master, __ATOMIC_RELEASE);
	pci_bars_update(dev);
	pci_msix_update(dev);
	pci_intx_update(dev);
}

void pci_config_write(struct pci_device *dev, unsigned int reg, unsigned int size, uint32_t value)
{
	unsigned int i;
	bool changed = false;

	if (reg >= PCI_CONFIG_SIZE)
		return;
	for (i = 0; i < size; i++) {
		uint8_t mask = dev->write_mask[reg + i];
		uint8_t old = dev->config[reg + i];
		uint8_t written = (uint8_t)(value >> (8 * i));
		uint8_t byte = (uint8_t)((old & ~mask & ~(written & dev->clear_mask[reg + i])) |
					 (written & mask));

		dev->config[reg + i] = byte;
		changed |= byte != old;
	}
	if (changed)
		pci_config_follow(dev);
	/* Also when nothing changed: a write may be a command. */
	if (dev->port)
		pci_port_written(dev->port, reg, size);
}

void pci_config_reset(struct pci_device *dev, bool addresses)
{
	unsigned int i;

	pci_bars_unmap(dev);
	memcpy(dev->config, dev->power_on, sizeof(dev->config));
	for (i = 0; i < PCI_BARS; i++) {
		const struct pci_bar *bar = &dev->bars[i];
		uint8_t *reg = dev->config + PCI_BAR0 + 4 * i;

		if (!bar->size || !bar->assigned || !addresses)
			continue;
		/* The low bits are flags, and 0 in an aligned address. */
		bytes_put_le(reg, 4, bytes_get_le(reg, 4) | (uint32_t)bar->power_on_gpa);
		if (bar->is_64bit)
			bytes_put_le(reg + 4, 4, bar->power_on_gpa >> 32);
	}
	pci_msix_reset(dev);
	pci_intx_reset(dev);
	pci_config_follow(dev);
}

void pci_add_register(struct pci_device *dev, unsigned int reg, unsigned int size, uint32_t value,
		      uint32_t write_mask, uint32_t clear_mask)
{
	assert(size >= 1 && size <= 4 && reg + size <= PCI_CONFIG_SIZE && !dev->cap_count);
	bytes_put_le(dev->power_on + reg, size, value);
	bytes_put_le(dev->write_mask + reg, size, write_mask);
	bytes_put_le(dev->clear_mask + reg, size, clear_mask);
	memcpy(dev->config, dev->power_on, sizeof(dev->config));
}

int pci_add_capability(struct pci_device *dev, uint8_t id, const void *bytes, unsigned int size,
		       const void *write_mask, bool handled, unsigned int *ret_cap,
		       struct err **err)
{
	unsigned int offset = dev->caps_end;
	unsigned int room = (size + 3) & ~3u;
	uint8_t *link = &dev->power_on[PCI_CAPABILITIES];
	struct pci_cap *cap;

	if (size < PCI_CAP_HEADER || size > PCI_CONFIG_SIZE || room > PCI_CONFIG_SIZE - offset)
		return err_set(err, ENOSPC,
			       "device '%s': a capability of %u bytes does not fit, %u are left",
			       dev->id, size, PCI_CONFIG_SIZE - offset);
	if (dev->cap_count)
		link = &dev->power_on[dev->caps[dev->cap_count - 1].offset + 1];
	*link = (uint8_t)offset;
	dev->power_on[PCI_STATUS] |= PCI_STATUS_CAPABILITIES;

	memcpy(dev->power_on + offset, bytes, size);
	dev->power_on[offset] = id;
	dev->power_on[offset + 1] = 0;
	if (write_mask)
		memcpy(dev->write_mask + offset, write_mask, size);
	memset(dev->write_mask + offset, 0, PCI_CAP_HEADER);

	cap = &dev->caps[dev->cap_count];
	*cap = (struct pci_cap){(uint8_t)offset, (uint8_t)size, handled};
	if (ret_cap)
		*ret_cap = dev->cap_count;
	dev->cap_count++;
	dev->caps_end = offset + room;
	memcpy(dev->config, dev->power_on, sizeof(dev->config));
	return 0;
}

void pci_express_device(uint8_t *bytes, uint8_t *mask)
{
	/* Payloads of 128 bytes; role-based error reporting, which is required. */
	bytes_put_le(bytes + PCI_EXPRESS_DEVICE_CAPABILITIES, 4, 0x00008000);
	/* Defaults: relaxed ordering, no snoop, read requests of 512 bytes. */
	bytes_put_le(bytes + PCI_EXPRESS_DEVICE_CONTROL, 2, 0x2810);
	/* Those, and the four error reporting enables. */
	bytes_put_le(mask + PCI_EXPRESS_DEVICE_CONTROL, 2, 0x781f);
}

void pci_express_link(uint8_t *bytes, uint8_t *mask)
{
	bytes_put_le(bytes + PCI_EXPRESS_LINK_CAPABILITIES, 4, PCI_LINK_SPEED | PCI_LINK_WIDTH);
	bytes_put_le(mask + PCI_EXPRESS_LINK_CONTROL, 2, PCI_LINK_CLOCK | PCI_LINK_SYNCH);
	bytes_put_le(bytes + PCI_EXPRESS_LINK_STATUS, 2, PCI_LINK_SPEED | PCI_LINK_WIDTH);
	bytes_put_le(bytes + PCI_EXPRESS_LINK_CAPABILITIES_2, 4, PCI_LINK_2_SPEEDS);
	bytes_put_le(bytes + PCI_EXPRESS_LINK_CONTROL_2, 2, PCI_LINK_SPEED);
}

/*
 * A root complex integrated endpoint has neither link nor slot: of the version 2 layout only the
 * device registers are implemented, the others are 0.
 */
int pci_add_express(struct pci_device *dev, struct err **err)
{
	uint8_t bytes[PCI_EXPRESS_SIZE] = {0};
	uint8_t mask[PCI_EXPRESS_SIZE] = {0};
	bool behind_link = dev->bus->port;

	bytes_put_le(bytes + PCI_EXPRESS_CAPABILITIES, 2,
		     PCI_EXPRESS_VERSION |
			     (behind_link ? PCI_EXPRESS_TYPE_ENDPOINT : PCI_EXPRESS_TYPE_ROOT_END));
	pci_express_device(bytes, mask);
	if (behind_link)
		pci_express_link(bytes, mask);
	return pci_add_capability(dev, PCI_CAP_ID_EXPRESS, bytes, sizeof(bytes), mask, false, NULL,
				  err);
}
