/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Saved state: of a function, of a root port, and of the host, which has the list of what there is
 * on the buses. See pci.h.
 *
 * I1  Of a function's registers only those differ from power-on that a guest can write, or that
 *     follow from a port's slot and then agree with it. All else says that it is another device.
 * I2  What follows from registers (BARs on the bus, bus mastering, message routes, links) is not
 *     saved: it follows again, in whatever order ports and functions are loaded.
 *
 * Threads: the one that adds and removes devices, while the machine is stopped; host->lock is taken
 * here.
 * Whoever made the bytes controls all of them.
 */
#include "vmm/pci/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/pack.h"

/* "" without a name. */
#define PCI_NAME_MAX 127

struct pci_saved {
	uint8_t config[PCI_CONFIG_SIZE];
	bool intx_level;
};

/* ---- one function ---- */

static void pci_place_save(const struct pci_device *dev, struct pack *out)
{
	pack_text(out, dev->bus->id);
	pack_u8(out, (uint8_t)dev->devfn);
}

/* A name that can be put into a sentence; anything else fails @in. */
static void pci_name_load(struct unpack *in, char name[PCI_NAME_MAX + 1])
{
	unpack_text(in, name, PCI_NAME_MAX + 1);
	for (const char *c = name; *c; c++)
		if (*c < ' ' || *c > '~')
			unpack_fail(in);
}

static const char *pci_name(const struct pci_bus *bus)
{
	return bus->id ? bus->id : "";
}

static int pci_load_cut(struct err **err)
{
	return err_set(err, EINVAL,
		       "its PCI state is cut short, too long, or holds values that cannot be");
}

/* host->lock held. */
static void pci_function_save(struct pci_device *dev, struct pack *out)
{
	uint8_t config[PCI_CONFIG_SIZE];

	memcpy(config, dev->config, sizeof(config));
	config[PCI_STATUS] &= (uint8_t)~PCI_STATUS_INTERRUPT;
	pci_place_save(dev, out);
	pack_bytes(out, config, sizeof(config));
	pci_msix_save(dev, out);
	pack_bool(out, __atomic_load_n(&dev->intx_level, __ATOMIC_RELAXED));
}

static int pci_place_load(const struct pci_device *dev, struct unpack *in, struct err **err)
{
	char bus[PCI_NAME_MAX + 1];
	uint8_t devfn;

	pci_name_load(in, bus);
	devfn = unpack_u8(in);
	if (unpack_failed(in))
		return pci_load_cut(err);
	if (strcmp(bus, pci_name(dev->bus)) != 0 || devfn != dev->devfn)
		return err_set(err, EINVAL,
			       "it is function %u of slot %u on bus '%s' at the source, and "
			       "function %u of slot %u on bus '%s' here",
			       devfn % PCI_FUNCTIONS, devfn / PCI_FUNCTIONS, bus,
			       dev->devfn % PCI_FUNCTIONS, dev->devfn / PCI_FUNCTIONS,
			       pci_name(dev->bus));
	return 0;
}

/* The bits of register @reg that may differ from power-on (I1). */
static uint8_t pci_config_mask(const struct pci_device *dev, unsigned int reg)
{
	uint8_t mask = dev->write_mask[reg] | dev->clear_mask[reg];

	if (!dev->port)
		return mask;
	if (reg - dev->port->express - PCI_EXPRESS_LINK_STATUS < 2)
		mask = 0xff;
	if (reg - dev->port->express == PCI_EXPRESS_SLOT_STATUS)
		mask |= PCI_SLOT_STATUS_PRESENT;
	return mask;
}

/* host->lock held. Into @saved, but for the message table, which nothing looks at yet. */
static int pci_function_load(struct pci_device *dev, struct unpack *in, struct pci_saved *saved,
			     struct err **err)
{
	int ret = pci_place_load(dev, in, err);

	if (ret)
		return ret;
	unpack_bytes(in, saved->config, sizeof(saved->config));
	for (unsigned int i = 0; i < PCI_CONFIG_SIZE && !unpack_failed(in); i++)
		if ((saved->config[i] ^ dev->power_on[i]) & ~pci_config_mask(dev, i))
			return err_set(err, EINVAL,
				       "its configuration register %#x holds %#x at the source and "
				       "%#x here: it is another kind of device, or has other "
				       "properties",
				       i, saved->config[i], dev->power_on[i]);
	if (unpack_u16(in) != pci_msix_vectors(dev))
		unpack_fail(in);
	pci_msix_load(dev, in);
	saved->intx_level = unpack_bool(in);
	if (unpack_failed(in) || (saved->intx_level && !dev->has_intx))
		return pci_load_cut(err);
	return 0;
}

/* host->lock held. */
static void pci_function_set(struct pci_device *dev, const struct pci_saved *saved)
{
	pci_bars_unmap(dev);
	memcpy(dev->config, saved->config, sizeof(dev->config));
	pci_config_follow(dev);
	pci_intx_set(dev, saved->intx_level);
}

void pci_device_save(struct pci_device *dev, struct pack *out)
{
	pthread_mutex_lock(&dev->host->lock);
	pci_function_save(dev, out);
	pthread_mutex_unlock(&dev->host->lock);
}

int pci_device_load(struct pci_device *dev, struct unpack *in, struct err **err)
{
	struct pci_saved saved;
	int ret;

	pthread_mutex_lock(&dev->host->lock);
	ret = pci_function_load(dev, in, &saved, err);
	if (!ret)
		pci_function_set(dev, &saved);
	pthread_mutex_unlock(&dev->host->lock);
	return ret;
}

/* ---- a root port: its registers say all of its slot and link ---- */

void pci_port_save(struct pci_port *port, struct pack *out)
{
	pci_device_save(port->dev, out);
}

/* The registers are in place; the rest of the port follows. False: they do not agree. */
static bool pci_port_follow(struct pci_port *port, bool intx_level)
{
	port->plugged = pci_port_get(port, PCI_EXPRESS_SLOT_STATUS) & PCI_SLOT_STATUS_PRESENT;
	port->control = pci_port_get(port, PCI_EXPRESS_SLOT_CONTROL);
	port->link = pci_port_link_wanted(port);
	port->interrupting = pci_slot_wants_interrupt(port);
	return port->interrupting == intx_level &&
	       pci_port_get(port, PCI_EXPRESS_LINK_STATUS) == pci_port_link_status(port->link);
}

/* Does what is in the slot go with what is behind the port here? */
static int pci_port_check_slot(const struct pci_port *port, struct err **err)
{
	bool empty = pci_port_is_empty(port);

	if (port->plugged && empty)
		return err_set(err, EINVAL,
			       "there is a device in its slot at the source, and none here");
	if (!port->plugged && !empty && !port->config.hotplug)
		return err_set(err, EINVAL,
			       "its slot is empty at the source, and here there is a device in it");
	return 0;
}

/* host->lock held. */
static int pci_port_load_locked(struct pci_port *port, struct unpack *in, struct err **err)
{
	struct pci_saved saved;
	struct pci_device *dev;
	unsigned int devfn;
	int ret = pci_function_load(port->dev, in, &saved, err);

	if (ret)
		return ret;
	if (!unpack_ended(in))
		return pci_load_cut(err);
	pci_function_set(port->dev, &saved);
	if (!pci_port_follow(port, saved.intx_level))
		return err_set(err, EINVAL,
			       "its link and its interrupt do not go with what its slot's "
			       "registers say");
	ret = pci_port_check_slot(port, err);
	if (ret)
		return ret;
	PCI_FOR_EACH(&port->bus, devfn, dev)
	pci_config_follow(dev);
	if (!port->plugged && !pci_port_is_empty(port) && port->config.ejected)
		port->config.ejected(port->config.opaque);
	return 0;
}

int pci_port_load(struct pci_port *port, uint32_t version, struct unpack *in, struct err **err)
{
	int ret;

	if (version != PCI_PORT_STATE_VERSION)
		return err_set(err, EINVAL, "its state is of version %u, and %u is known here",
			       version, PCI_PORT_STATE_VERSION);
	pthread_mutex_lock(&port->bus.host->lock);
	ret = pci_port_load_locked(port, in, err);
	pthread_mutex_unlock(&port->bus.host->lock);
	return ret;
}

/* ---- the host ---- */

/* All functions, each port's behind it. host->lock held. */
struct pci_list {
	struct pci_device **devs;
	bool *seen; /* at the source, too */
	size_t nr;
};

static void pci_list_bus(struct pci_list *list, struct pci_bus *bus)
{
	struct pci_device *dev;
	unsigned int devfn;

	PCI_FOR_EACH(bus, devfn, dev)
	{
		if (list->devs)
			list->devs[list->nr] = dev;
		list->nr++;
		if (dev->port)
			pci_list_bus(list, &dev->port->bus);
	}
}

static bool pci_list_init(struct pci_list *list, struct pci_host *host)
{
	*list = (struct pci_list){.nr = 0};
	pci_list_bus(list, &host->root);
	list->devs = calloc(list->nr, sizeof(*list->devs));
	list->seen = calloc(list->nr, sizeof(*list->seen));
	if (!list->devs || !list->seen)
		return false;
	list->nr = 0;
	pci_list_bus(list, &host->root);
	return true;
}

static void pci_list_done(struct pci_list *list)
{
	free(list->devs);
	free(list->seen);
}

static void pci_kind(const struct pci_device *dev, uint16_t *ret_vendor, uint16_t *ret_device)
{
	*ret_vendor = (uint16_t)bytes_get_le(dev->power_on + PCI_VENDOR_ID, 2);
	*ret_device = (uint16_t)bytes_get_le(dev->power_on + PCI_DEVICE_ID, 2);
}

static void pci_range_save(struct range r, struct pack *out)
{
	pack_u64(out, r.start);
	pack_u64(out, r.size);
}

void pci_host_save(struct pci_host *host, struct pack *out)
{
	uint16_t vendor, device;
	struct pci_list list;

	pthread_mutex_lock(&host->lock);
	if (pci_list_init(&list, host)) {
		pci_range_save(host->config.ecam, out);
		pci_range_save(host->config.window32, out);
		pci_range_save(host->config.window64, out);
		pack_u32(out, (uint32_t)list.nr);
		for (size_t i = 0; i < list.nr; i++) {
			pci_kind(list.devs[i], &vendor, &device);
			pci_place_save(list.devs[i], out);
			pack_text(out, list.devs[i]->id);
			pack_u16(out, vendor);
			pack_u16(out, device);
		}
		pack_u32(out, host->address);
		pci_function_save(host->bridge, out);
		pci_root_save(host, out);
	} else {
		out->failed = true;
	}
	pci_list_done(&list);
	pthread_mutex_unlock(&host->lock);
}

static int pci_range_load(struct range own, const char *what, struct unpack *in, struct err **err)
{
	struct range r = {unpack_u64(in), 0};

	r.size = unpack_u64(in);
	if (unpack_failed(in))
		return pci_load_cut(err);
	if (r.start != own.start || r.size != own.size)
		return err_set(err, EINVAL,
			       "%s has %#llx bytes at %#llx at the source, and %#llx bytes at "
			       "%#llx here",
			       what, (unsigned long long)r.size, (unsigned long long)r.start,
			       (unsigned long long)own.size, (unsigned long long)own.start);
	return 0;
}

/* One entry of the source's list: mark ours, or say how it differs. */
static int pci_list_load_one(struct pci_list *list, struct unpack *in, struct err **err)
{
	char bus[PCI_NAME_MAX + 1], id[PCI_NAME_MAX + 1];
	uint16_t vendor, device, own_vendor, own_device;
	uint8_t devfn;
	size_t i = 0;

	pci_name_load(in, bus);
	devfn = unpack_u8(in);
	pci_name_load(in, id);
	vendor = unpack_u16(in);
	device = unpack_u16(in);
	while (i < list->nr &&
	       (list->devs[i]->devfn != devfn || strcmp(pci_name(list->devs[i]->bus), bus) != 0))
		i++;
	if (unpack_failed(in) || (i < list->nr && list->seen[i]))
		return pci_load_cut(err);
	if (i == list->nr)
		return err_set(err, EINVAL,
			       "function %u of slot %u on bus '%s' is '%s' (%04x:%04x) at the "
			       "source, and nothing here",
			       devfn % PCI_FUNCTIONS, devfn / PCI_FUNCTIONS, bus, id, vendor,
			       device);
	list->seen[i] = true;
	pci_kind(list->devs[i], &own_vendor, &own_device);
	if (vendor == own_vendor && device == own_device)
		return 0;
	return err_set(err, EINVAL,
		       "function %u of slot %u on bus '%s' is '%s' (%04x:%04x) at the source, and "
		       "'%s' (%04x:%04x) here",
		       devfn % PCI_FUNCTIONS, devfn / PCI_FUNCTIONS, bus, id, vendor, device,
		       list->devs[i]->id, own_vendor, own_device);
}

/* host->lock held. */
static int pci_list_load(struct pci_list *list, struct unpack *in, struct err **err)
{
	uint32_t nr = unpack_u32(in);
	int ret = unpack_failed(in) ? pci_load_cut(err) : 0;

	for (uint32_t i = 0; i < nr && !ret; i++)
		ret = pci_list_load_one(list, in, err);
	for (size_t i = 0; i < list->nr && !ret; i++) {
		const struct pci_device *dev = list->devs[i];

		if (!list->seen[i])
			ret = err_set(err, EINVAL,
				      "function %u of slot %u on bus '%s' is '%s' here, and "
				      "nothing at the source",
				      dev->devfn % PCI_FUNCTIONS, dev->devfn / PCI_FUNCTIONS,
				      pci_name(dev->bus), dev->id);
	}
	return ret;
}

/* host->lock held. */
static int pci_host_load_locked(struct pci_host *host, struct pci_list *list, uint32_t version,
				struct unpack *in, struct err **err)
{
	struct pci_saved saved;
	uint32_t address;
	int ret;

	ret = pci_range_load(host->config.ecam, "the PCI configuration window", in, err);
	if (!ret)
		ret = pci_range_load(host->config.window32, "the PCI window below 4 GiB", in, err);
	if (!ret)
		ret = pci_range_load(host->config.window64, "the PCI window above 4 GiB", in, err);
	if (!ret)
		ret = pci_list_load(list, in, err);
	if (ret)
		return ret;
	address = unpack_u32(in);
	ret = pci_function_load(host->bridge, in, &saved, err);
	if (!ret && version > 1)
		ret = pci_root_load(host, in, err);
	if (ret)
		return ret;
	if (!unpack_ended(in) || (address & ~PCI_ADDRESS_MASK))
		return pci_load_cut(err);
	host->address = address;
	pci_function_set(host->bridge, &saved);
	return 0;
}

int pci_host_load(struct pci_host *host, uint32_t version, struct unpack *in, struct err **err)
{
	struct pci_list list;
	int ret;

	if (!version || version > PCI_HOST_STATE_VERSION)
		return err_set(err, EINVAL, "its state is of version %u, and %u is known here",
			       version, PCI_HOST_STATE_VERSION);
	pthread_mutex_lock(&host->lock);
	if (pci_list_init(&list, host))
		ret = pci_host_load_locked(host, &list, version, in, err);
	else
		ret = err_set(err, ENOMEM, "out of memory");
	pci_list_done(&list);
	pthread_mutex_unlock(&host->lock);
	return ret;
}
