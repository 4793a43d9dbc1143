/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Base address registers: PCI Local Bus 3.0 section 6.2.5.
 *
 * I1  bar->mapped is true exactly while the BAR's region is on its bus (MMIO, or that of ports), at
 *     region.range.
 * I2  A BAR is mapped only wholly inside one of the host bridge's windows, and behind a port in one
 *     of that: a guest can lay it over other BARs, but never over memory, the interrupt controllers
 *     or other registers.
 * I3  Sizing needs no code: address bits below the size are not in the write mask.
 *
 * Threads: registers and mapping under host->lock; the handlers at the end run without it.
 * The guest controls: every address, and the moment at which it changes.
 */
#include "vmm/pci/internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"

#define PCI_BAR_SIZE_MIN   (4 * KIB)
#define PCI_IO_SIZE_MIN    4
#define PCI_IO_SIZE_MAX    256 /* PCI 3.0, 6.2.5.1 */
#define PCI_BAR32_SIZE_MAX (2 * GIB)

uint64_t pci_bar_address(const struct pci_device *dev, unsigned int bar)
{
	unsigned int size = dev->bars[bar].is_64bit ? 8 : 4;
	uint64_t flags = dev->bars[bar].is_io ? PCI_BAR_IO_FLAGS : PCI_BAR_FLAGS;

	return bytes_get_le(dev->config + PCI_BAR0 + 4 * bar, size) & ~flags;
}

static struct bus *pci_bar_bus(const struct pci_bar *bar)
{
	const struct pci_host_config *config = &bar->dev->host->config;

	return bar->is_io ? config->pio : config->mmio;
}

static void pci_bar_notify(struct pci_device *dev, unsigned int bar, bool mapped)
{
	if (dev->ops->bar_mapped)
		dev->ops->bar_mapped(dev->opaque, bar, mapped, dev->bars[bar].region.range.start);
}

static void pci_bar_unmap(struct pci_device *dev, unsigned int bar)
{
	if (!dev->bars[bar].mapped)
		return;
	pci_bar_notify(dev, bar, false);
	bus_remove(pci_bar_bus(&dev->bars[bar]), &dev->bars[bar].region);
	dev->bars[bar].mapped = false;
}

static void pci_bar_map(struct pci_device *dev, unsigned int bar, uint64_t gpa)
{
	dev->bars[bar].region.range.start = gpa;
	dev->bars[bar].mapped = true;
	bus_add(pci_bar_bus(&dev->bars[bar]), &dev->bars[bar].region);
	pci_bar_notify(dev, bar, true);
}

/* Does COMMAND have it decoded, at a place where it may be? */
static bool pci_bar_wanted(const struct pci_bar *bar, struct range at)
{
	const struct pci_host_config *config = &bar->dev->host->config;
	uint16_t command = pci_config_command(bar->dev);

	if (bar->is_io)
		return (command & PCI_COMMAND_IO) && range_contains(config->window_io, at);
	return (command & PCI_COMMAND_MEMORY) &&
	       (range_contains(config->window32, at) || range_contains(config->window64, at)) &&
	       pci_bus_forwards(bar->dev->bus, at);
}

void pci_bars_update(struct pci_device *dev)
{
	unsigned int i;

	for (i = 0; i < PCI_BARS; i++) {
		struct pci_bar *bar = &dev->bars[i];
		struct range at = {0, bar->size};
		bool wanted;

		if (!bar->size)
			continue;
		at.start = pci_bar_address(dev, i);
		wanted = pci_bar_wanted(bar, at);
		if (bar->mapped && (!wanted || bar->region.range.start != at.start))
			pci_bar_unmap(dev, i);
		if (wanted && !bar->mapped)
			pci_bar_map(dev, i, at.start);
	}
}

void pci_bars_unmap(struct pci_device *dev)
{
	unsigned int i;

	for (i = 0; i < PCI_BARS; i++)
		pci_bar_unmap(dev, i);
}

static uint64_t pci_bar_read(void *opaque, uint64_t offset, unsigned int size)
{
	struct pci_bar *bar = opaque;
	uint64_t value;

	if (pci_msix_bar_read(bar->dev, (unsigned int)(bar - bar->dev->bars), offset, size, &value))
		return value;
	return bar->ops ? bar->ops->read(bar->opaque, offset, size) : 0;
}

static void pci_bar_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pci_bar *bar = opaque;

	if (pci_msix_bar_write(bar->dev, (unsigned int)(bar - bar->dev->bars), offset, size, value))
		return;
	if (bar->ops)
		bar->ops->write(bar->opaque, offset, size, value);
}

static const struct bus_ops pci_bar_ops = {
	.read = pci_bar_read,
	.write = pci_bar_write,
};

/* Is register @bar neither a BAR nor the upper half of one? A bridge has two. */
static bool pci_bar_is_free(const struct pci_device *dev, unsigned int bar)
{
	return bar < (dev->port ? PCI_BRIDGE_BARS : PCI_BARS) && !dev->bars[bar].size &&
	       (bar == 0 || !dev->bars[bar - 1].is_64bit);
}

/* The checked BAR, with its bits of the register. */
static void pci_bar_init(struct pci_device *dev, unsigned int bar, const struct pci_bar *init,
			 const char *name, uint8_t flags)
{
	unsigned int offset = PCI_BAR0 + 4 * bar;
	struct pci_bar *b = &dev->bars[bar];

	*b = *init;
	b->dev = dev;
	b->region = (struct bus_region){
		.name = name, .range = {0, b->size}, .ops = &pci_bar_ops, .opaque = b};
	dev->power_on[offset] = flags;
	bytes_put_le(dev->write_mask + offset, b->is_64bit ? 8 : 4, ~(b->size - 1));
	memcpy(dev->config, dev->power_on, sizeof(dev->config));
}

int pci_add_bar(struct pci_device *dev, unsigned int bar, uint64_t size, bool is_64bit,
		bool prefetchable, const char *name, const struct bus_ops *ops, void *opaque,
		struct err **err)
{
	uint8_t flags = (uint8_t)((is_64bit ? PCI_BAR_64BIT : 0) |
				  (prefetchable ? PCI_BAR_PREFETCHABLE : 0));
	const struct pci_bar init = {
		.size = size, .is_64bit = is_64bit, .ops = ops, .opaque = opaque};

	if (!pci_bar_is_free(dev, bar) || (is_64bit && !pci_bar_is_free(dev, bar + 1)))
		return err_set(err, EINVAL, "device '%s': BAR %u ('%s') is not free", dev->id, bar,
			       name);
	if (!num_is_pow2(size) || size < PCI_BAR_SIZE_MIN ||
	    (!is_64bit && size > PCI_BAR32_SIZE_MAX))
		return err_set(err, EINVAL,
			       "device '%s': BAR %u ('%s') of %#llx bytes must be a power of two "
			       "from 4 KiB up%s",
			       dev->id, bar, name, (unsigned long long)size,
			       is_64bit ? "" : " to 2 GiB");
	pci_bar_init(dev, bar, &init, name, flags);
	return 0;
}

int pci_add_io_bar(struct pci_device *dev, unsigned int bar, uint64_t size, const char *name,
		   const struct bus_ops *ops, void *opaque, struct err **err)
{
	const struct pci_bar init = {.size = size, .is_io = true, .ops = ops, .opaque = opaque};

	if (!pci_bar_is_free(dev, bar) || dev->bus->port)
		return err_set(err, EINVAL, "device '%s': BAR %u ('%s') is not free%s", dev->id,
			       bar, name,
			       dev->bus->port ? ", and a root port passes no ports on" : "");
	if (!num_is_pow2(size) || size < PCI_IO_SIZE_MIN || size > PCI_IO_SIZE_MAX)
		return err_set(err, EINVAL,
			       "device '%s': BAR %u ('%s') of %llu ports must be a power of two "
			       "from %d to %d",
			       dev->id, bar, name, (unsigned long long)size, PCI_IO_SIZE_MIN,
			       PCI_IO_SIZE_MAX);
	pci_bar_init(dev, bar, &init, name, PCI_BAR_IO);
	bytes_put_le(dev->write_mask + PCI_COMMAND, 2,
		     bytes_get_le(dev->write_mask + PCI_COMMAND, 2) | PCI_COMMAND_IO);
	return 0;
}
