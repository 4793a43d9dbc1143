/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The host bridge: its own function 00:00.0, the places of devices on its buses, reset.
 *
 * I1  Functions other than 0 of a slot are there only together with a function 0 that says so, or
 *     before there is a function 0.
 *
 * Ownership: devices belong to whoever made them and end before the host. The bridge's function is
 * the host's.
 * Threads: host->lock, see pci.h. Devices come and go while no vCPU runs.
 */
#include "vmm/pci/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define PCI_BRIDGE_VENDOR_ID 0x1b36
#define PCI_BRIDGE_DEVICE_ID 0x0008 /* generic PCI Express host bridge */
#define PCI_BRIDGE_CLASS     0x060000
#define PCI_ECAM_BUS_SIZE    MIB
#define PCI_IO_END           (64 * KIB)
#define PCI_ECAM_SIZE_MAX    (256 * MIB)

static const struct pci_device_ops pci_bridge_ops;

static int pci_host_check(const struct pci_host_config *config, struct err **err)
{
	const struct range *r = &config->ecam;

	if (!r->size || r->size > PCI_ECAM_SIZE_MAX ||
	    !num_is_aligned(r->size, PCI_ECAM_BUS_SIZE) ||
	    !num_is_aligned(r->start, PCI_ECAM_BUS_SIZE) || !range_valid(*r))
		return err_set(err, EINVAL,
			       "PCI configuration window of %#llx bytes at %#llx must be 1 to 256 "
			       "MiB at a multiple of 1 MiB",
			       (unsigned long long)r->size, (unsigned long long)r->start);
	if (!range_valid(config->window32) || !range_valid(config->window64) ||
	    (config->window32.size && range_end(config->window32) > 4 * GIB))
		return err_set(
			err, EINVAL,
			"PCI memory windows at %#llx and %#llx must not wrap, the first must "
			"end below 4 GiB",
			(unsigned long long)config->window32.start,
			(unsigned long long)config->window64.start);
	if (!range_valid(config->window_io) || range_end(config->window_io) > PCI_IO_END ||
	    (config->window_io.size && !config->pio))
		return err_set(err, EINVAL, "PCI port window of %#llx at %#llx must end at 64 KiB",
			       (unsigned long long)config->window_io.size,
			       (unsigned long long)config->window_io.start);
	if (range_overlaps(config->window32, config->window64) ||
	    range_overlaps(config->window32, *r) || range_overlaps(config->window64, *r))
		return err_set(err, EINVAL,
			       "PCI memory windows at %#llx and %#llx and configuration window at "
			       "%#llx must not overlap",
			       (unsigned long long)config->window32.start,
			       (unsigned long long)config->window64.start,
			       (unsigned long long)r->start);
	return 0;
}

static int pci_host_init_locks(struct pci_host *host, struct err **err)
{
	if (pthread_mutex_init(&host->lock, NULL))
		return err_set(err, ENOMEM, "no memory for the PCI host bridge's lock");
	if (pthread_mutex_init(&host->intx_lock, NULL)) {
		pthread_mutex_destroy(&host->lock);
		return err_set(err, ENOMEM, "no memory for the PCI host bridge's lock");
	}
	return 0;
}

static void pci_host_destroy(struct pci_host *host)
{
	pthread_mutex_destroy(&host->intx_lock);
	pthread_mutex_destroy(&host->lock);
	free(host);
}

struct pci_host *pci_host_new(const struct pci_host_config *config, struct err **err)
{
	static const struct pci_identity identity = {
		.vendor_id = PCI_BRIDGE_VENDOR_ID,
		.device_id = PCI_BRIDGE_DEVICE_ID,
		.class_code = PCI_BRIDGE_CLASS,
	};
	struct pci_place place = {0};
	struct pci_host *host;

	if (pci_host_check(config, err) < 0)
		return NULL;
	host = calloc(1, sizeof(*host));
	if (!host) {
		err_set(err, ENOMEM, "no memory for the PCI host bridge");
		return NULL;
	}
	host->config = *config;
	if (pci_host_init_locks(host, err) < 0) {
		free(host);
		return NULL;
	}
	host->root.host = host;
	place.bus = &host->root;
	host->root.id = config->id;
	host->bridge = pci_device_new(&place, "pci-host", &identity, &pci_bridge_ops, NULL, err);
	if (!host->bridge) {
		pci_host_destroy(host);
		return NULL;
	}
	pci_access_init(host);
	pci_root_init(host);
	return host;
}

void pci_host_free(struct pci_host *host)
{
	if (!host)
		return;
	pci_root_done(host);
	pci_access_done(host);
	pci_device_free(host->bridge);
	pci_host_destroy(host);
}

int pci_host_assign(struct pci_host *host, struct err **err)
{
	int rc;

	pthread_mutex_lock(&host->lock);
	rc = pci_assign_all(host, err);
	pthread_mutex_unlock(&host->lock);
	return rc;
}

void pci_host_reset(struct pci_host *host)
{
	unsigned int devfn, number = 0, last = (unsigned int)(host->config.ecam.size / MIB) - 1;
	struct pci_device *dev;

	pthread_mutex_lock(&host->lock);
	host->address = 0;
	pci_root_reset(host);
	pci_assign_all(host, NULL);
	PCI_FOR_EACH(&host->root, devfn, dev)
	{
		pci_config_reset(dev, true);
		if (dev->ops->reset)
			dev->ops->reset(dev->opaque);
		if (dev->port)
			pci_port_reset(dev->port, number < last ? ++number : 0);
	}
	pthread_mutex_unlock(&host->lock);
}

struct pci_bus *pci_bus_find(struct pci_host *host, const char *id)
{
	struct pci_device *dev;
	unsigned int devfn;

	if (host->root.id && !strcmp(host->root.id, id))
		return &host->root;
	PCI_FOR_EACH(&host->root, devfn, dev)
	if (dev->port && !strcmp(dev->id, id))
		return &dev->port->bus;
	return NULL;
}

static bool pci_slot_is_empty(const struct pci_bus *bus, unsigned int slot)
{
	for (unsigned int i = 0; i < PCI_FUNCTIONS; i++)
		if (bus->functions[slot * PCI_FUNCTIONS + i])
			return false;
	return true;
}

/* The first empty slot: 0, and where that is; or the sentence. */
static int pci_place_choose(const struct pci_bus *bus, const char *id, unsigned int *ret_devfn,
			    struct err **err)
{
	unsigned int slots = bus->port ? 1 : PCI_SLOTS, slot = 0;

	while (slot < slots && !pci_slot_is_empty(bus, slot))
		slot++;
	*ret_devfn = slot * PCI_FUNCTIONS;
	if (slot < slots)
		return 0;
	if (bus->port)
		return err_set(err, ENOSPC,
			       "device '%s': PCI bus '%s' has one slot, and it is in use", id,
			       bus->id);
	return err_set(err, ENOSPC, "device '%s': all %d PCI slots are in use", id, PCI_SLOTS);
}

/* Do the functions of the slot agree on whether it may have several (I1)? */
static int pci_place_check_functions(const struct pci_place *place, const char *id,
				     struct err **err)
{
	const struct pci_bus *bus = place->bus;
	const struct pci_device *first = bus->functions[place->slot * PCI_FUNCTIONS];

	if (place->function && first &&
	    !(first->power_on[PCI_HEADER_TYPE] & PCI_HEADER_MULTIFUNCTION))
		return err_set(err, EBUSY,
			       "device '%s': PCI slot %d has the one function of '%s', which "
			       "would need multifunction=on",
			       id, place->slot, first->id);
	if (!place->function && !place->multifunction &&
	    !pci_slot_is_empty(bus, (unsigned int)place->slot))
		return err_set(err, EBUSY,
			       "device '%s': PCI slot %d has other functions already, so its "
			       "function 0 needs multifunction=on",
			       id, place->slot);
	return 0;
}

/* 0, and where on its bus the device will be; or the sentence. */
static int pci_place_check(const struct pci_place *place, const char *id, unsigned int *ret_devfn,
			   struct err **err)
{
	const struct pci_bus *bus = place->bus;
	int last = bus->port ? 0 : PCI_SLOTS - 1;
	const struct pci_device *user;

	if (place->slot < 0)
		return pci_place_choose(bus, id, ret_devfn, err);
	if (place->slot > last && bus->port)
		return err_set(err, EINVAL,
			       "device '%s': PCI slot %d does not exist on bus '%s', 0 does", id,
			       place->slot, bus->id);
	if (place->slot > last)
		return err_set(err, EINVAL, "device '%s': PCI slot %d does not exist, 0 to %d do",
			       id, place->slot, last);
	if (place->function >= PCI_FUNCTIONS)
		return err_set(err, EINVAL, "device '%s': function %u does not exist, 0 to %d do",
			       id, place->function, PCI_FUNCTIONS - 1);
	*ret_devfn = (unsigned int)place->slot * PCI_FUNCTIONS + place->function;
	user = bus->functions[*ret_devfn];
	if (user && place->function)
		return err_set(err, EBUSY,
			       "device '%s': function %u of PCI slot %d is in use by '%s'", id,
			       place->function, place->slot, user->id);
	if (user)
		return err_set(err, EBUSY, "device '%s': PCI slot %d is in use by '%s'", id,
			       place->slot, user->id);
	return pci_place_check_functions(place, id, err);
}

struct pci_device *pci_function_new(const struct pci_place *place, const char *id,
				    const struct pci_identity *identity, struct pci_port *port,
				    const struct pci_device_ops *ops, void *opaque,
				    struct err **err)
{
	struct pci_host *host = place->bus->host;
	struct pci_device *dev;
	unsigned int devfn = 0;

	if (pci_place_check(place, id, &devfn, err))
		return NULL;
	dev = calloc(1, sizeof(*dev));
	if (dev)
		dev->id = strdup(id);
	if (!dev || !dev->id) {
		free(dev);
		err_set(err, ENOMEM, "device '%s': no memory", id);
		return NULL;
	}
	dev->host = host;
	dev->bus = place->bus;
	dev->devfn = devfn;
	dev->port = port;
	dev->ops = ops;
	dev->opaque = opaque;
	dev->has_intx = identity->intx;
	dev->intx_pin = identity->intx_pin % PCI_INTX_LINES;
	dev->fixed = port || identity->fixed;
	if (place->multifunction || place->function)
		dev->power_on[PCI_HEADER_TYPE] = PCI_HEADER_MULTIFUNCTION;
	pci_config_init(dev, identity);
	pthread_mutex_lock(&host->lock);
	dev->bus->functions[devfn] = dev;
	pthread_mutex_unlock(&host->lock);
	return dev;
}

struct pci_device *pci_device_new(const struct pci_place *place, const char *id,
				  const struct pci_identity *identity,
				  const struct pci_device_ops *ops, void *opaque, struct err **err)
{
	struct pci_device *dev = pci_function_new(place, id, identity, NULL, ops, opaque, err);

	if (dev && identity->express && pci_add_express(dev, err)) {
		pci_device_free(dev);
		return NULL;
	}
	return dev;
}

void pci_device_free(struct pci_device *dev)
{
	struct pci_port *above;

	if (!dev)
		return;
	above = dev->bus->port;
	pthread_mutex_lock(&dev->host->lock);
	pci_bars_unmap(dev);
	dev->bus->functions[dev->devfn] = NULL;
	if (!above)
		pci_root_freed(dev);
	else if (pci_port_is_empty(above))
		pci_slot_emptied(above);
	pthread_mutex_unlock(&dev->host->lock);
	pci_intx_reset(dev);
	pci_msix_free(dev);
	free(dev->id);
	free(dev);
}

bool pci_bus_master(const struct pci_device *dev)
{
	return __atomic_load_n(&dev->bus_master, __ATOMIC_ACQUIRE);
}
