/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a guest reaches configuration space: the memory-mapped window (ECAM, PCI Express 5.0 section
 * 7.2.2) and the ports 0xCF8 and 0xCFC (PCI Local Bus 3.0 section 3.2.2.3.2).
 *
 * I1  An access that does not lie in one aligned doubleword, or whose function does not exist,
 *     reads as all ones and is dropped when written. The bridge makes no requests that cross one.
 * I2  A request for a bus behind a port reaches what is there while the port's link is up (pci.h,
 *     I5 and I6).
 * I3  Only 4-byte accesses at 0xCF8 touch the address register. Narrower ones there are other
 *     devices' ports: whoever has one adds a region of its own to the bus, which is smaller than
 *     the bridge's and therefore answers (the reset control register at 0xCF9).
 *
 * Threads: vCPU threads; host->lock is taken here.
 * The guest controls: everything.
 */
#include "vmm/pci/internal.h"

#define PCI_PORT_ADDRESS 0xcf8
#define PCI_PORT_DATA    0xcfc

#define PCI_ALL_ONES UINT32_MAX

/*
 * The bus that requests for @number end on, if anything can answer there. What a port claims with
 * its subordinate bus number beyond its secondary bus ends behind it, where no bridge is.
 */
static struct pci_bus *pci_bus_route(struct pci_host *host, unsigned int number)
{
	struct pci_device *dev;
	unsigned int devfn;

	if (number == 0)
		return &host->root;
	PCI_FOR_EACH(&host->root, devfn, dev)
	{
		if (!dev->port || number < dev->config[PCI_SECONDARY_BUS] ||
		    number > dev->config[PCI_SUBORDINATE_BUS])
			continue;
		if (number != dev->config[PCI_SECONDARY_BUS] || !dev->port->link)
			return NULL;
		return &dev->port->bus;
	}
	return NULL;
}

/* Does the access lie in one aligned doubleword (I1)? */
static bool pci_access_valid(unsigned int reg, unsigned int size)
{
	return size && (reg & 3) + size <= 4;
}

static struct pci_device *pci_function_find(struct pci_host *host, unsigned int bus_number,
					    unsigned int devfn)
{
	struct pci_bus *bus = pci_bus_route(host, bus_number);

	return bus ? bus->functions[devfn & 0xff] : NULL;
}

/* host->lock held. */
static uint32_t pci_access_read(struct pci_host *host, unsigned int bus_number, unsigned int devfn,
				unsigned int reg, unsigned int size)
{
	struct pci_device *dev = pci_function_find(host, bus_number, devfn);

	if (!dev || !pci_access_valid(reg, size))
		return PCI_ALL_ONES;
	return pci_config_read(dev, reg, size);
}

/* host->lock held. */
static void pci_access_write(struct pci_host *host, unsigned int bus_number, unsigned int devfn,
			     unsigned int reg, unsigned int size, uint32_t value)
{
	struct pci_device *dev = pci_function_find(host, bus_number, devfn);

	if (dev && pci_access_valid(reg, size))
		pci_config_write(dev, reg, size, value);
}

static uint64_t pci_ecam_read(void *opaque, uint64_t offset, unsigned int size)
{
	struct pci_host *host = opaque;
	uint32_t value;

	if (size > 4)
		return UINT64_MAX;
	pthread_mutex_lock(&host->lock);
	value = pci_access_read(host, (unsigned int)(offset >> 20), (offset >> 12) & 0xff,
				offset & 0xfff, size);
	pthread_mutex_unlock(&host->lock);
	return value;
}

static void pci_ecam_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pci_host *host = opaque;

	if (size > 4)
		return;
	pthread_mutex_lock(&host->lock);
	pci_access_write(host, (unsigned int)(offset >> 20), (offset >> 12) & 0xff, offset & 0xfff,
			 size, (uint32_t)value);
	pthread_mutex_unlock(&host->lock);
}

static const struct bus_ops pci_ecam_ops = {
	.read = pci_ecam_read,
	.write = pci_ecam_write,
};

static uint64_t pci_address_read(void *opaque, uint64_t offset, unsigned int size)
{
	struct pci_host *host = opaque;
	uint32_t value;

	(void)offset;
	if (size != 4)
		return PCI_ALL_ONES;
	pthread_mutex_lock(&host->lock);
	value = host->address;
	pthread_mutex_unlock(&host->lock);
	return value;
}

static void pci_address_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pci_host *host = opaque;

	(void)offset;
	if (size != 4)
		return;
	pthread_mutex_lock(&host->lock);
	host->address = (uint32_t)value & PCI_ADDRESS_MASK;
	pthread_mutex_unlock(&host->lock);
}

static const struct bus_ops pci_address_ops = {
	.read = pci_address_read,
	.write = pci_address_write,
};

static uint64_t pci_data_read(void *opaque, uint64_t offset, unsigned int size)
{
	struct pci_host *host = opaque;
	uint32_t value = PCI_ALL_ONES;

	pthread_mutex_lock(&host->lock);
	if (host->address & PCI_ADDRESS_ENABLE)
		value = pci_access_read(host, host->address >> 16 & 0xff, host->address >> 8 & 0xff,
					(host->address & 0xfc) + (unsigned int)offset, size);
	pthread_mutex_unlock(&host->lock);
	return value;
}

static void pci_data_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pci_host *host = opaque;

	pthread_mutex_lock(&host->lock);
	if (host->address & PCI_ADDRESS_ENABLE)
		pci_access_write(host, host->address >> 16 & 0xff, host->address >> 8 & 0xff,
				 (host->address & 0xfc) + (unsigned int)offset, size,
				 (uint32_t)value);
	pthread_mutex_unlock(&host->lock);
}

static const struct bus_ops pci_data_ops = {
	.read = pci_data_read,
	.write = pci_data_write,
};

static void pci_region_add(struct pci_host *host, struct bus *bus, struct bus_region *region,
			   const char *name, struct range range, const struct bus_ops *ops)
{
	region->name = name;
	region->range = range;
	region->ops = ops;
	region->opaque = host;
	bus_add(bus, region);
}

void pci_access_init(struct pci_host *host)
{
	const struct pci_host_config *config = &host->config;

	pci_region_add(host, config->mmio, &host->ecam_region, "pci-ecam", config->ecam,
		       &pci_ecam_ops);
	if (!config->pio)
		return;
	pci_region_add(host, config->pio, &host->address_region, "pci-address",
		       (struct range){PCI_PORT_ADDRESS, 4}, &pci_address_ops);
	pci_region_add(host, config->pio, &host->data_region, "pci-data",
		       (struct range){PCI_PORT_DATA, 4}, &pci_data_ops);
}

void pci_access_done(struct pci_host *host)
{
	bus_remove(host->config.mmio, &host->ecam_region);
	if (!host->config.pio)
		return;
	bus_remove(host->config.pio, &host->address_region);
	bus_remove(host->config.pio, &host->data_region);
}
