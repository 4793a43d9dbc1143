/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Addresses at power-on, as firmware would assign them: BARs, and the windows of root ports.
 *
 * I1  Power-on addresses on one bus do not overlap, are naturally aligned, and inside a window of
 *     the host bridge or of the port above; once given, a BAR and a port's windows keep their own
 *     for the life of the device.
 * I2  A port's windows hold the BARs behind it, and are not smaller than what was asked to be kept
 *     for devices that come later; they start and end at multiples of 1 MiB.
 *
 * Threads: host->lock is held. Nothing in here comes from the guest.
 */
#include "vmm/pci/internal.h"

#include <errno.h>

#include "base/err.h"

#define PCI_WINDOW_UNIT MIB
/* Room for devices that come later. */
#define PCI_MEMORY_RESERVE         (2 * MIB)
#define PCI_PREFETCH_RESERVE       (32 * MIB)
#define PCI_PREFETCH_RESERVE_PARTS 256 /* of window64: as many ports as there are buses */

/* Does anything that was assigned on @bus overlap @r, of ports with @io? Then *ret_end is its end. */
static bool pci_bus_taken(const struct pci_bus *bus, bool io, struct range r, uint64_t *ret_end)
{
	const struct pci_device *dev;
	unsigned int devfn, i;

	PCI_FOR_EACH(bus, devfn, dev)
	{
		struct range taken[PCI_BARS + 2] = {{0, 0}};

		for (i = 0; i < PCI_BARS; i++)
			if (dev->bars[i].assigned && dev->bars[i].is_io == io)
				taken[i] = (struct range){dev->bars[i].power_on_gpa,
							  dev->bars[i].size};
		if (dev->port && dev->port->assigned && !io) {
			taken[PCI_BARS] = dev->port->memory;
			taken[PCI_BARS + 1] = dev->port->prefetch;
		}
		for (i = 0; i < ARRAY_SIZE(taken); i++) {
			if (!range_overlaps(r, taken[i]))
				continue;
			*ret_end = range_end(taken[i]);
			return true;
		}
	}
	return false;
}

/* The lowest place for @size bytes in @window; false when there is none. */
static bool pci_window_fit(const struct pci_bus *bus, bool io, struct range window, uint64_t size,
			   uint64_t align, uint64_t *ret_gpa)
{
	struct range at = {window.start, size};

	do {
		if (!num_align_up(at.start, align, &at.start) || !range_contains(window, at))
			return false;
		*ret_gpa = at.start;
	} while (pci_bus_taken(bus, io, at, &at.start));
	return true;
}

/* A 64-bit address may lie above 4 GiB; behind a port only that of a prefetchable BAR. */
static bool pci_bar_is_high(const struct pci_device *dev, unsigned int index)
{
	return dev->bars[index].is_64bit &&
	       (!dev->bus->port ||
		(dev->power_on[PCI_BAR0 + 4 * index] & PCI_BAR_PREFETCHABLE) != 0);
}

static int pci_io_bar_assign(struct pci_device *dev, unsigned int index, struct err **err)
{
	struct pci_bar *bar = &dev->bars[index];
	struct range all = dev->host->config.window_io, window = {PCI_IO_FIRST, 0};

	if (range_end(all) > PCI_IO_FIRST)
		window.size = range_end(all) - PCI_IO_FIRST;
	bar->assigned =
		pci_window_fit(dev->bus, true, window, bar->size, bar->size, &bar->power_on_gpa);
	if (bar->assigned)
		return 0;
	return err_set(err, ENOSPC,
		       "device '%s': BAR %u ('%s') needs %llu ports, and none are left", dev->id,
		       index, bar->region.name, (unsigned long long)bar->size);
}

static int pci_bar_assign(struct pci_device *dev, unsigned int index, struct err **err)
{
	const struct pci_host_config *config = &dev->host->config;
	const struct pci_port *port = dev->bus->port;
	struct range low = port ? port->memory : config->window32;
	struct range high = port ? port->prefetch : config->window64;
	struct pci_bar *bar = &dev->bars[index];
	bool is_high = pci_bar_is_high(dev, index);

	if (!bar->size || bar->assigned)
		return 0;
	if (bar->is_io)
		return pci_io_bar_assign(dev, index, err);
	bar->assigned =
		(is_high &&
		 pci_window_fit(dev->bus, false, high, bar->size, bar->size, &bar->power_on_gpa)) ||
		pci_window_fit(dev->bus, false, low, bar->size, bar->size, &bar->power_on_gpa);
	if (bar->assigned)
		return 0;
	return err_set(err, ENOSPC,
		       "device '%s': BAR %u ('%s') needs %llu KiB, and no PCI memory window that "
		       "it can use has such a gap left (%llu KiB below 4 GiB%s)",
		       dev->id, index, bar->region.name, (unsigned long long)(bar->size / KIB),
		       (unsigned long long)(low.size / KIB), is_high ? ", and the one above" : "");
}

/* What the BARs on a port's bus need of one of its windows. */
static void pci_window_need(const struct pci_bus *bus, bool high, uint64_t *ret_size,
			    uint64_t *ret_align)
{
	const struct pci_device *dev;
	unsigned int devfn, i;

	*ret_size = 0;
	*ret_align = PCI_WINDOW_UNIT;
	PCI_FOR_EACH(bus, devfn, dev)
	{
		for (i = 0; i < PCI_BARS; i++) {
			uint64_t size = dev->bars[i].size;

			if (pci_bar_is_high(dev, i) != high)
				continue;
			/* At the largest BAR's alignment, in descending order, none has a gap. */
			if (!num_add(*ret_size, size, ret_size))
				*ret_size = UINT64_MAX;
			*ret_align = num_max(*ret_align, size);
		}
	}
}

/* Place one window of @port in @within. An empty one needs no place. */
static int pci_window_assign(const struct pci_port *port, bool high, uint64_t reserve,
			     struct range within, struct range *ret_window, struct err **err)
{
	struct range window = {0, 0};
	uint64_t align;

	pci_window_need(&port->bus, high, &window.size, &align);
	window.size = num_max(window.size, reserve);
	if (window.size &&
	    (!num_align_up(window.size, PCI_WINDOW_UNIT, &window.size) ||
	     !pci_window_fit(port->dev->bus, false, within, window.size, align, &window.start)))
		return err_set(err, ENOSPC,
			       "device '%s': no %llu MiB are left for its window %s 4 GiB, where "
			       "the host bridge has %llu MiB",
			       port->dev->id, (unsigned long long)(window.size / MIB),
			       high ? "above" : "below", (unsigned long long)(within.size / MIB));
	*ret_window = window;
	return 0;
}

static uint64_t pci_prefetch_reserve(const struct pci_host_config *config)
{
	uint64_t size = PCI_PREFETCH_RESERVE;

	while (size > PCI_WINDOW_UNIT && size > config->window64.size / PCI_PREFETCH_RESERVE_PARTS)
		size /= 2;
	return size;
}

/* Both windows or none. */
static int pci_port_assign(struct pci_port *port, struct err **err)
{
	const struct pci_host_config *config = &port->dev->host->config;
	uint64_t memory = port->config.memory_reserve, prefetch = port->config.prefetch_reserve;
	int rc;

	if (port->assigned)
		return 0;
	if (memory == UINT64_MAX)
		memory = port->config.hotplug ? PCI_MEMORY_RESERVE : 0;
	if (prefetch == UINT64_MAX)
		prefetch = port->config.hotplug ? pci_prefetch_reserve(config) : 0;
	rc = pci_window_assign(port, false, memory, config->window32, &port->memory, err);
	if (!rc)
		rc = pci_window_assign(port, true, prefetch, config->window64, &port->prefetch,
				       err);
	port->assigned = !rc;
	return rc;
}

/* The largest BAR on @bus that is still to be tried, marked in @tried; false when there is none. */
static bool pci_bar_largest(const struct pci_bus *bus, uint8_t *tried, struct pci_device **ret_dev,
			    unsigned int *ret_bar)
{
	struct pci_device *dev;
	unsigned int devfn, i, found = 0;
	uint64_t size = 0;

	PCI_FOR_EACH(bus, devfn, dev)
	{
		for (i = 0; i < PCI_BARS; i++) {
			if (dev->bars[i].size <= size || tried[devfn] >> i & 1)
				continue;
			size = dev->bars[i].size;
			found = devfn;
			*ret_dev = dev;
			*ret_bar = i;
		}
	}
	if (size)
		tried[found] |= (uint8_t)(1u << *ret_bar);
	return size;
}

static void pci_keep_first(int *rc, int one)
{
	if (!*rc)
		*rc = one;
}

/* Windows of a port that has none yet, and what is behind it. */
static int pci_assign_behind(struct pci_port *port, struct err **err)
{
	uint8_t tried[PCI_SLOTS * PCI_FUNCTIONS] = {0};
	struct pci_device *dev;
	unsigned int bar;
	int rc = pci_port_assign(port, err);

	while (port->assigned && pci_bar_largest(&port->bus, tried, &dev, &bar))
		pci_keep_first(&rc, pci_bar_assign(dev, bar, rc ? NULL : err));
	return rc;
}

int pci_assign_all(struct pci_host *host, struct err **err)
{
	struct pci_device *dev;
	unsigned int devfn, i;
	int rc = 0;

	PCI_FOR_EACH(&host->root, devfn, dev)
	{
		for (i = 0; i < PCI_BARS; i++)
			pci_keep_first(&rc, pci_bar_assign(dev, i, rc ? NULL : err));
		if (dev->port)
			pci_keep_first(&rc, pci_assign_behind(dev->port, rc ? NULL : err));
	}
	return rc;
}
