/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is on the buses, for monitors. See pci.h.
 *
 * Threads: that of the one who adds and removes devices; registers are read under host->lock.
 */
#include "vmm/pci/internal.h"

struct pci_bus *pci_host_root(struct pci_host *host)
{
	return &host->root;
}

struct pci_device *pci_bus_device(const struct pci_bus *bus, unsigned int devfn)
{
	return devfn < ARRAY_SIZE(bus->functions) ? bus->functions[devfn] : NULL;
}

struct pci_port *pci_bus_port(const struct pci_bus *bus)
{
	return bus->port;
}

const char *pci_bus_id(const struct pci_bus *bus)
{
	return bus->id;
}

unsigned int pci_bus_number(const struct pci_bus *bus)
{
	return bus->port ? pci_device_config(bus->port->dev, PCI_SECONDARY_BUS, 1) : 0;
}

const char *pci_device_id(const struct pci_device *dev)
{
	return dev->id;
}

struct pci_bus *pci_device_bus(const struct pci_device *dev)
{
	return dev->bus;
}

unsigned int pci_device_slot(const struct pci_device *dev)
{
	return dev->devfn / PCI_FUNCTIONS;
}

unsigned int pci_device_function(const struct pci_device *dev)
{
	return dev->devfn % PCI_FUNCTIONS;
}

struct pci_port *pci_device_port(const struct pci_device *dev)
{
	return dev->port;
}

struct pci_device *pci_port_device(const struct pci_port *port)
{
	return port->dev;
}

uint32_t pci_device_config(struct pci_device *dev, unsigned int reg, unsigned int size)
{
	uint32_t value;

	pthread_mutex_lock(&dev->host->lock);
	value = pci_config_read(dev, reg, size);
	pthread_mutex_unlock(&dev->host->lock);
	return value;
}

bool pci_device_bar(struct pci_device *dev, unsigned int bar, struct pci_bar_info *ret_info)
{
	if (bar >= PCI_BARS || !dev->bars[bar].size)
		return false;
	pthread_mutex_lock(&dev->host->lock);
	*ret_info = (struct pci_bar_info){
		.gpa = {pci_bar_address(dev, bar), dev->bars[bar].size},
		.mapped = dev->bars[bar].mapped,
		.is_64bit = dev->bars[bar].is_64bit,
		.prefetchable = !dev->bars[bar].is_io &&
				(dev->config[PCI_BAR0 + 4 * bar] & PCI_BAR_PREFETCHABLE),
		.is_io = dev->bars[bar].is_io,
	};
	pthread_mutex_unlock(&dev->host->lock);
	return true;
}
