/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Root ports: the bridge from the root bus to one link (PCI Express 5.0, 7.5.1.3 "Type 1
 * Configuration Space Header", 7.5.3 "PCI Express Capability Structure").
 *
 * I1  port->link is: plugged, powered, neither disabled nor being reset. While it is false nothing
 *     behind the port answers; what is there was reset when it became false.
 * I2  What depends on the port's registers (BARs behind it on the MMIO bus, bus mastering) follows
 *     within the access that changed them.
 * I3  There is no I/O window: its registers are 0 and read-only, as the standard has it then.
 *
 * Threads: host->lock is held, except while a port is being made.
 * The guest controls: all writable registers.
 */
#include "vmm/pci/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"

#define PCI_PORT_VENDOR_ID 0x1b36
#define PCI_PORT_DEVICE_ID 0x000c /* generic PCI Express root port */

/* MSI-X, for the port's own interrupt: vector 0, which Interrupt Message Number 0 names. */
#define PCI_PORT_MSIX_BAR  0
#define PCI_PORT_MSIX_SIZE (4 * KIB)
#define PCI_PORT_MSIX_PBA  0x800

static const struct pci_device_ops pci_port_ops;

/* ---- registers ---- */

static unsigned int pci_port_header(const struct pci_port *port, unsigned int reg,
				    unsigned int size)
{
	return (unsigned int)bytes_get_le(port->dev->config + reg, size);
}

uint16_t pci_port_get(const struct pci_port *port, unsigned int express_reg)
{
	return (uint16_t)pci_port_header(port, port->express + express_reg, 2);
}

void pci_port_set(struct pci_port *port, unsigned int express_reg, uint16_t value)
{
	bytes_put_le(port->dev->config + port->express + express_reg, 2, value);
}

/* A window is what lies between base and limit, the latter with the MiB that it starts. */
static bool pci_window_passes(uint64_t base, uint64_t limit, struct range r)
{
	return r.start >= base && r.start <= limit && r.size - 1 <= limit - r.start;
}

static bool pci_port_memory_passes(const struct pci_port *port, struct range r)
{
	uint64_t base = pci_port_header(port, PCI_MEMORY_BASE, 2) & PCI_WINDOW_MASK;
	uint64_t limit = pci_port_header(port, PCI_MEMORY_LIMIT, 2) & PCI_WINDOW_MASK;

	return pci_window_passes(base << 16, limit << 16 | (MIB - 1), r);
}

static bool pci_port_prefetch_passes(const struct pci_port *port, struct range r)
{
	uint64_t base = pci_port_header(port, PCI_PREFETCH_BASE, 2) & PCI_WINDOW_MASK;
	uint64_t limit = pci_port_header(port, PCI_PREFETCH_LIMIT, 2) & PCI_WINDOW_MASK;

	base = base << 16 | (uint64_t)pci_port_header(port, PCI_PREFETCH_BASE_HIGH, 4) << 32;
	limit = limit << 16 | (uint64_t)pci_port_header(port, PCI_PREFETCH_LIMIT_HIGH, 4) << 32;
	return pci_window_passes(base, limit | (MIB - 1), r);
}

static void pci_port_set_window(struct pci_port *port, unsigned int base_reg, struct range window)
{
	uint8_t *config = port->dev->config + base_reg;
	/* Closed: the base is above the limit. */
	uint64_t base = window.size ? window.start >> 16 : PCI_WINDOW_MASK;
	uint64_t limit = window.size ? (range_end(window) - 1) >> 16 : 0;

	bytes_put_le(config, 2, (base & PCI_WINDOW_MASK) | (config[0] & 0xf));
	bytes_put_le(config + 2, 2, (limit & PCI_WINDOW_MASK) | (config[2] & 0xf));
	if (base_reg != PCI_PREFETCH_BASE)
		return;
	bytes_put_le(config + PCI_PREFETCH_BASE_HIGH - base_reg, 4, base >> 16);
	bytes_put_le(config + PCI_PREFETCH_LIMIT_HIGH - base_reg, 4, limit >> 16);
}

/* ---- what passes ---- */

bool pci_bus_is_up(const struct pci_bus *bus)
{
	return !bus->port || bus->port->link;
}

bool pci_bus_forwards(const struct pci_bus *bus, struct range r)
{
	const struct pci_port *port = bus->port;

	if (!port)
		return true;
	return port->link && (pci_config_command(port->dev) & PCI_COMMAND_MEMORY) &&
	       (pci_port_memory_passes(port, r) || pci_port_prefetch_passes(port, r));
}

bool pci_bus_may_master(const struct pci_bus *bus)
{
	const struct pci_port *port = bus->port;

	return !port ||
	       (port->link && (pci_config_command(port->dev) & PCI_COMMAND_BUS_MASTER) != 0);
}

/* ---- the link ---- */

bool pci_port_link_wanted(const struct pci_port *port)
{
	return port->plugged &&
	       !(pci_port_get(port, PCI_EXPRESS_SLOT_CONTROL) & PCI_SLOT_POWER_OFF) &&
	       !(pci_port_get(port, PCI_EXPRESS_LINK_CONTROL) & PCI_LINK_DISABLE) &&
	       !(pci_port_header(port, PCI_BRIDGE_CONTROL, 2) & PCI_BRIDGE_RESET);
}

uint16_t pci_port_link_status(bool link)
{
	return link ? PCI_LINK_ACTIVE | PCI_LINK_WIDTH | PCI_LINK_SPEED : 0;
}

/* Registers only; what follows from them is the caller's. */
static void pci_port_set_link(struct pci_port *port, bool link)
{
	port->link = link;
	pci_port_set(port, PCI_EXPRESS_LINK_STATUS, pci_port_link_status(link));
}

/* Reset what is behind the link that went down: here its registers. */
static void pci_port_reset_behind(struct pci_port *port)
{
	struct pci_device *dev;
	unsigned int devfn;

	PCI_FOR_EACH(&port->bus, devfn, dev)
	{
		pci_config_reset(dev, false);
		port->went_down = true;
	}
}

void pci_port_tell_down(struct pci_port *port)
{
	struct pci_device *dev;
	unsigned int devfn;

	PCI_FOR_EACH(&port->bus, devfn, dev)
	if (dev->ops->link_down)
		dev->ops->link_down(dev->opaque);
}

void pci_port_update(struct pci_port *port)
{
	bool link = pci_port_link_wanted(port);
	struct pci_device *dev;
	unsigned int devfn;

	if (link != port->link) {
		pci_port_set_link(port, link);
		if (!link)
			pci_port_reset_behind(port);
		pci_slot_note(port, PCI_SLOT_STATUS_LINK);
	}
	PCI_FOR_EACH(&port->bus, devfn, dev)
	pci_config_follow(dev);
	pci_slot_interrupt(port);
}

void pci_port_written(struct pci_port *port, unsigned int reg, unsigned int size)
{
	unsigned int control = port->express + PCI_EXPRESS_SLOT_CONTROL;

	if (reg < control + 2 && reg + size > control)
		pci_slot_command(port);
	pci_port_update(port);
}

void pci_port_reset(struct pci_port *port, unsigned int number)
{
	struct range none = {0, 0};
	struct pci_device *dev;
	unsigned int devfn;

	port->number = number;
	port->dev->config[PCI_SECONDARY_BUS] = (uint8_t)number;
	port->dev->config[PCI_SUBORDINATE_BUS] = (uint8_t)number;
	pci_port_set_window(port, PCI_MEMORY_BASE, port->assigned ? port->memory : none);
	pci_port_set_window(port, PCI_PREFETCH_BASE, port->assigned ? port->prefetch : none);
	port->plugged = !pci_port_is_empty(port);
	port->went_down = false;
	pci_slot_reset(port);
	pci_port_set_link(port, pci_port_link_wanted(port));
	PCI_FOR_EACH(&port->bus, devfn, dev)
	{
		pci_config_reset(dev, true);
		if (dev->ops->reset)
			dev->ops->reset(dev->opaque);
	}
}

/* ---- building ---- */

static void pci_port_init_header(struct pci_device *dev)
{
	uint8_t *reg = dev->power_on, *mask = dev->write_mask;

	reg[PCI_HEADER_TYPE] |= PCI_HEADER_TYPE_BRIDGE;
	reg[PCI_PREFETCH_BASE] = reg[PCI_PREFETCH_LIMIT] = PCI_PREFETCH_64BIT;
	bytes_put_le(mask + PCI_PRIMARY_BUS, 3, 0xffffff);
	bytes_put_le(mask + PCI_MEMORY_BASE, 2, PCI_WINDOW_MASK);
	bytes_put_le(mask + PCI_MEMORY_LIMIT, 2, PCI_WINDOW_MASK);
	bytes_put_le(mask + PCI_PREFETCH_BASE, 2, PCI_WINDOW_MASK);
	bytes_put_le(mask + PCI_PREFETCH_LIMIT, 2, PCI_WINDOW_MASK);
	bytes_put_le(mask + PCI_PREFETCH_BASE_HIGH, 4, UINT32_MAX);
	bytes_put_le(mask + PCI_PREFETCH_LIMIT_HIGH, 4, UINT32_MAX);
	bytes_put_le(mask + PCI_BRIDGE_CONTROL, 2,
		     PCI_BRIDGE_PARITY | PCI_BRIDGE_SERR | PCI_BRIDGE_RESET);
}

static int pci_port_add_express(struct pci_port *port, struct err **err)
{
	uint8_t bytes[PCI_EXPRESS_SIZE] = {0}, mask[PCI_EXPRESS_SIZE] = {0};
	uint8_t clear[PCI_EXPRESS_SIZE] = {0};
	unsigned int cap;
	int rc;

	bytes_put_le(bytes + PCI_EXPRESS_CAPABILITIES, 2,
		     PCI_EXPRESS_VERSION | PCI_EXPRESS_TYPE_ROOT_PORT | PCI_EXPRESS_SLOT);
	pci_express_device(bytes, mask);
	pci_express_link(bytes, mask);
	bytes_put_le(bytes + PCI_EXPRESS_LINK_CAPABILITIES, 4,
		     PCI_LINK_SPEED | PCI_LINK_WIDTH | PCI_LINK_CAP_REPORTING |
			     PCI_LINK_CAP_PORT(port->config.number));
	bytes_put_le(bytes + PCI_EXPRESS_LINK_STATUS, 2, 0);
	bytes_put_le(mask + PCI_EXPRESS_LINK_CONTROL, 2,
		     PCI_LINK_DISABLE | PCI_LINK_CLOCK | PCI_LINK_SYNCH);
	/* System errors and power management events: may be enabled, and never happen. */
	bytes_put_le(mask + PCI_EXPRESS_ROOT_CONTROL, 2, 0x000f);
	pci_slot_init(&port->config, bytes, mask, clear);
	rc = pci_add_capability(port->dev, PCI_CAP_ID_EXPRESS, bytes, sizeof(bytes), mask, false,
				&cap, err);
	if (rc)
		return rc;
	port->express = port->dev->caps[cap].offset;
	memcpy(port->dev->clear_mask + port->express, clear, sizeof(clear));
	return 0;
}

/* The buses that the configuration window has room for, the root bus among them. */
static int pci_port_check(const struct pci_port_config *config, struct err **err)
{
	const struct pci_bus *root = config->place.bus;
	unsigned int buses = (unsigned int)(root->host->config.ecam.size / MIB);
	const struct pci_device *dev;
	unsigned int devfn, nr = 2;

	if (root->port)
		return err_set(err, EINVAL, "device '%s': a root port must be on the root bus%s%s",
			       config->id, root->host->config.id ? ", " : "",
			       root->host->config.id ? root->host->config.id : "");
	if (config->slot > PCI_PORT_SLOT_MAX)
		return err_set(err, EINVAL, "device '%s': slot=%u; allowed: 0 to %u", config->id,
			       config->slot, PCI_PORT_SLOT_MAX);
	PCI_FOR_EACH(root, devfn, dev)
	nr += dev->port != NULL;
	if (nr > buses)
		return err_set(err, ENOSPC,
			       "device '%s': one root port too many, the PCI configuration window "
			       "has room for %u buses",
			       config->id, buses);
	return 0;
}

static int pci_port_init(struct pci_port *port, struct err **err)
{
	static const struct pci_identity identity = {
		.vendor_id = PCI_PORT_VENDOR_ID,
		.device_id = PCI_PORT_DEVICE_ID,
		.class_code = PCI_CLASS_PCI_BRIDGE,
		.intx = true,
	};
	int rc;

	port->dev = pci_function_new(&port->config.place, port->config.id, &identity, port,
				     &pci_port_ops, port, err);
	if (!port->dev)
		return -EINVAL;
	port->bus.id = port->config.id = port->dev->id;
	pci_port_init_header(port->dev);
	rc = pci_port_add_express(port, err);
	if (!rc)
		rc = pci_add_bar(port->dev, PCI_PORT_MSIX_BAR, PCI_PORT_MSIX_SIZE, false, false,
				 "pcie-root-port-msix", NULL, NULL, err);
	if (!rc)
		rc = pci_add_msix(port->dev, 1, PCI_PORT_MSIX_BAR, 0, PCI_PORT_MSIX_PBA, err);
	return rc;
}

struct pci_port *pci_port_new(const struct pci_port_config *config, struct err **err)
{
	struct pci_port *port;

	if (pci_port_check(config, err))
		return NULL;
	port = calloc(1, sizeof(*port));
	if (!port) {
		err_set(err, ENOMEM, "device '%s': no memory", config->id);
		return NULL;
	}
	port->config = *config;
	port->bus.host = config->place.bus->host;
	port->bus.port = port;
	if (pci_port_init(port, err)) {
		pci_port_free(port);
		return NULL;
	}
	return port;
}

void pci_port_free(struct pci_port *port)
{
	if (!port)
		return;
	pci_device_free(port->dev);
	free(port);
}

struct pci_bus *pci_port_bus(struct pci_port *port)
{
	return &port->bus;
}

bool pci_port_can_hotplug(const struct pci_port *port)
{
	return port->config.hotplug;
}

bool pci_port_is_empty(const struct pci_port *port)
{
	const struct pci_device *dev;
	unsigned int devfn;

	PCI_FOR_EACH(&port->bus, devfn, dev)
	return false;
	return true;
}
