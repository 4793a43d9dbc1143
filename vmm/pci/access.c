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
 * I4  A device's own handlers run without host->lock: they wait for the device, which may wait for
 *     much (memory that is plugged, or is still to come), and the lock is wanted by monitors.
 *
 * Threads: vCPU threads; host->lock is taken here. A function that was found is there as long as the
 * access lasts: devices go while no vCPU runs.
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

	devfn &= 0xff;
	if (!bus || (bus == &host->root && host->gone >> devfn / PCI_FUNCTIONS & 1))
		return NULL;
	return bus->functions[devfn];
}

static uint32_t pci_access_read(struct pci_host *host, unsigned int bus_number, unsigned int devfn,
				unsigned int reg, unsigned int size)
{
	struct pci_cap_access access;
	struct pci_device *dev;
	uint32_t value;
	bool handled;

	if (!pci_access_valid(reg, size))
		return PCI_ALL_ONES;
	pthread_mutex_lock(&host->lock);
	dev = pci_function_find(host, bus_number, devfn);
	handled = dev && pci_config_handled(dev, reg, size, &access);
	value = dev ? pci_config_read(dev, reg, size) : PCI_ALL_ONES;
	pthread_mutex_unlock(&host->lock);
	return handled ? pci_cap_read(dev, &access, value) : value;
}

static void pci_access_write(struct pci_host *host, unsigned int bus_number, unsigned int devfn,
			     unsigned int reg, unsigned int size, uint32_t value)
{
	struct pci_cap_access access;
	struct pci_device *dev;
	bool handled, went_down = false;

	if (!pci_access_valid(reg, size))
		return;
	pthread_mutex_lock(&host->lock);
	dev = pci_function_find(host, bus_number, devfn);
	handled = dev && dev->ops->cap_write && pci_config_handled(dev, reg, size, &access);
	if (dev && !handled)
		pci_config_write(dev, reg, size, value);
	if (dev && dev->port) {
		went_down = dev->port->went_down;
		dev->port->went_down = false;
	}
	pthread_mutex_unlock(&host->lock);
	if (handled)
		pci_cap_write(dev, &access, value);
	if (went_down)
		pci_port_tell_down(dev->port);
}

static uint64_t pci_ecam_read(void *opaque, uint64_t offset, unsigned int size)
{
	struct pci_host *host = opaque;

	if (size > 4)
		return UINT64_MAX;
	return pci_access_read(host, (unsigned int)(offset >> 20), (offset >> 12) & 0xff,
			       offset & 0xfff, size);
}

static void pci_ecam_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pci_host *host = opaque;

	if (size > 4)
		return;
	pci_access_write(host, (unsigned int)(offset >> 20), (offset >> 12) & 0xff, offset & 0xfff,
			 size, (uint32_t)value);
}

static const struct bus_ops pci_ecam_ops = {
	.read = pci_ecam_read,
	.write = pci_ecam_write,
};

static uint32_t pci_address(struct pci_host *host)
{
	uint32_t address;

	pthread_mutex_lock(&host->lock);
	address = host->address;
	pthread_mutex_unlock(&host->lock);
	return address;
}

static uint64_t pci_address_read(void *opaque, uint64_t offset, unsigned int size)
{
	(void)offset;
	return size == 4 ? pci_address(opaque) : PCI_ALL_ONES;
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
	uint32_t address = pci_address(host);

	if (!(address & PCI_ADDRESS_ENABLE))
		return PCI_ALL_ONES;
	return pci_access_read(host, address >> 16 & 0xff, address >> 8 & 0xff,
			       (address & 0xfc) + (unsigned int)offset, size);
}

static void pci_data_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pci_host *host = opaque;
	uint32_t address = pci_address(host);

	if (address & PCI_ADDRESS_ENABLE)
		pci_access_write(host, address >> 16 & 0xff, address >> 8 & 0xff,
				 (address & 0xfc) + (unsigned int)offset, size, (uint32_t)value);
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
