/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Wired interrupts: PCI Local Bus 3.0 section 2.2.6 and the bits of 6.2.2 and 6.2.3.
 *
 * I1  An input of the interrupt controller is high exactly while at least one function asserts it
 *     (host->intx_count), however many share it.
 * I2  A function asserts its input while its device asks for it and neither COMMAND.INTx Disable
 *     nor MSI-X Enable is set. Status.Interrupt shows the device's wish alone.
 *
 * Threads: everything here is under host->intx_lock, also the call to the hypervisor, so that
 * levels reach it in the order in which they were set.
 */
#include "vmm/pci/internal.h"

/*
 * Each slot's pins begin at another line. On its way through a bridge a pin moves on by the number of
 * the slot that it comes from (PCI Express 5.0, 2.2.8.1), as it does on the root bus.
 */
static unsigned int pci_intx_line(const struct pci_device *dev)
{
	unsigned int line = dev->devfn / PCI_FUNCTIONS + dev->intx_pin;

	if (dev->bus->port)
		line += dev->bus->port->dev->devfn / PCI_FUNCTIONS;
	return line % PCI_INTX_LINES;
}

uint32_t pci_intx_gsi(const struct pci_device *dev)
{
	return dev->host->config.intx_gsi + pci_intx_line(dev);
}

/* Make I1 and I2 true for @dev. host->intx_lock held. */
static void pci_intx_drive(struct pci_device *dev)
{
	unsigned int *count = &dev->host->intx_count[pci_intx_line(dev)];
	bool asserted = dev->intx_level && !dev->intx_blocked;

	if (asserted == dev->intx_asserted)
		return;
	dev->intx_asserted = asserted;
	if (asserted && (*count)++ == 0)
		hv_line_set(dev->host->config.hv, pci_intx_gsi(dev), true);
	if (!asserted && --*count == 0)
		hv_line_set(dev->host->config.hv, pci_intx_gsi(dev), false);
}

void pci_intx_set(struct pci_device *dev, bool level)
{
	if (!dev->has_intx)
		return;
	pthread_mutex_lock(&dev->host->intx_lock);
	__atomic_store_n(&dev->intx_level, level, __ATOMIC_RELAXED);
	pci_intx_drive(dev);
	pthread_mutex_unlock(&dev->host->intx_lock);
}

void pci_intx_update(struct pci_device *dev)
{
	bool blocked =
		(pci_config_command(dev) & PCI_COMMAND_INTX_DISABLE) || pci_msix_enabled(dev);

	pthread_mutex_lock(&dev->host->intx_lock);
	dev->intx_blocked = blocked;
	pci_intx_drive(dev);
	pthread_mutex_unlock(&dev->host->intx_lock);
}

void pci_intx_reset(struct pci_device *dev)
{
	pci_intx_set(dev, false);
}
