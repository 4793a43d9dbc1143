/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The host bridge: its own function 00:00.0, the slots of the root bus, power-on addresses of BARs,
 * reset.
 *
 * I1  Power-on addresses do not overlap, are naturally aligned and inside a window; once given, a
 *     BAR keeps its own for the life of the device.
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
	host->bridge = pci_device_new(host, "pci-host", 0, &identity, &pci_bridge_ops, NULL, err);
	if (!host->bridge) {
		pci_host_destroy(host);
		return NULL;
	}
	pci_access_init(host);
	return host;
}

void pci_host_free(struct pci_host *host)
{
	if (!host)
		return;
	pci_access_done(host);
	pci_device_free(host->bridge);
	pci_host_destroy(host);
}

/* The first of the assigned BARs that overlaps @r, or NULL. */
static const struct pci_bar *pci_host_find_bar(const struct pci_host *host, struct range r)
{
	unsigned int devfn, i;

	for (devfn = 0; devfn < ARRAY_SIZE(host->root.functions); devfn++) {
		const struct pci_device *dev = host->root.functions[devfn];

		for (i = 0; dev && i < PCI_BARS; i++) {
			const struct pci_bar *bar = &dev->bars[i];

			if (bar->assigned &&
			    range_overlaps(r, (struct range){bar->power_on_gpa, bar->size}))
				return bar;
		}
	}
	return NULL;
}

/* The lowest place for @size bytes in @window; false when there is none. */
static bool pci_window_fit(const struct pci_host *host, struct range window, uint64_t size,
			   uint64_t *ret_gpa)
{
	struct range at = {window.start, size};
	const struct pci_bar *taken;

	for (;;) {
		if (!num_align_up(at.start, size, &at.start) || !range_contains(window, at))
			return false;
		taken = pci_host_find_bar(host, at);
		if (!taken)
			break;
		at.start = taken->power_on_gpa + taken->size;
	}
	*ret_gpa = at.start;
	return true;
}

static int pci_bar_assign(struct pci_device *dev, unsigned int index, struct err **err)
{
	const struct pci_host_config *config = &dev->host->config;
	struct pci_bar *bar = &dev->bars[index];

	if (!bar->size || bar->assigned)
		return 0;
	bar->assigned = (bar->is_64bit && pci_window_fit(dev->host, config->window64, bar->size,
							 &bar->power_on_gpa)) ||
			pci_window_fit(dev->host, config->window32, bar->size, &bar->power_on_gpa);
	if (bar->assigned)
		return 0;
	return err_set(err, ENOSPC,
		       "device '%s': BAR %u ('%s') needs %llu KiB, and no PCI memory window that "
		       "it can use has such a gap left (%llu KiB below 4 GiB%s)",
		       dev->id, index, bar->region.name, (unsigned long long)(bar->size / KIB),
		       (unsigned long long)(config->window32.size / KIB),
		       bar->is_64bit ? ", and the one above" : "");
}

/* host->lock held. Goes on after a failure; the first one is reported. */
static int pci_host_assign_all(struct pci_host *host, struct err **err)
{
	unsigned int devfn, i;
	int rc = 0;

	for (devfn = 0; devfn < ARRAY_SIZE(host->root.functions); devfn++) {
		struct pci_device *dev = host->root.functions[devfn];

		for (i = 0; dev && i < PCI_BARS; i++) {
			int one = pci_bar_assign(dev, i, rc ? NULL : err);

			if (!rc)
				rc = one;
		}
	}
	return rc;
}

int pci_host_assign(struct pci_host *host, struct err **err)
{
	int rc;

	pthread_mutex_lock(&host->lock);
	rc = pci_host_assign_all(host, err);
	pthread_mutex_unlock(&host->lock);
	return rc;
}

void pci_host_reset(struct pci_host *host)
{
	unsigned int devfn;

	pthread_mutex_lock(&host->lock);
	host->address = 0;
	pci_host_assign_all(host, NULL);
	for (devfn = 0; devfn < ARRAY_SIZE(host->root.functions); devfn++) {
		struct pci_device *dev = host->root.functions[devfn];

		if (!dev)
			continue;
		pci_config_reset(dev);
		if (dev->ops->reset)
			dev->ops->reset(dev->opaque);
	}
	pthread_mutex_unlock(&host->lock);
}

/* 0, and the slot; or the sentence. */
static int pci_slot_choose(const struct pci_bus *bus, const char *id, int slot,
			   unsigned int *ret_slot, struct err **err)
{
	const struct pci_device *user;
	unsigned int i;

	if (slot >= PCI_SLOTS)
		return err_set(err, EINVAL, "device '%s': PCI slot %d does not exist, 0 to %d do",
			       id, slot, PCI_SLOTS - 1);
	if (slot >= 0) {
		user = bus->functions[slot * PCI_FUNCTIONS];
		if (user)
			return err_set(err, EBUSY, "device '%s': PCI slot %d is in use by '%s'", id,
				       slot, user->id);
		*ret_slot = (unsigned int)slot;
		return 0;
	}
	for (i = 0; i < PCI_SLOTS && bus->functions[i * PCI_FUNCTIONS]; i++)
		;
	if (i == PCI_SLOTS)
		return err_set(err, ENOSPC, "device '%s': all %d PCI slots are in use", id,
			       PCI_SLOTS);
	*ret_slot = i;
	return 0;
}

struct pci_device *pci_device_new(struct pci_host *host, const char *id, int slot,
				  const struct pci_identity *identity,
				  const struct pci_device_ops *ops, void *opaque, struct err **err)
{
	struct pci_device *dev;
	unsigned int chosen = 0;

	if (pci_slot_choose(&host->root, id, slot, &chosen, err) < 0)
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
	dev->bus = &host->root;
	dev->devfn = chosen * PCI_FUNCTIONS;
	dev->ops = ops;
	dev->opaque = opaque;
	dev->has_intx = identity->intx;
	pci_config_init(dev, identity);
	if (identity->express && pci_add_express(dev, err) < 0) {
		free(dev->id);
		free(dev);
		return NULL;
	}
	pthread_mutex_lock(&host->lock);
	dev->bus->functions[dev->devfn] = dev;
	pthread_mutex_unlock(&host->lock);
	return dev;
}

void pci_device_free(struct pci_device *dev)
{
	if (!dev)
		return;
	pthread_mutex_lock(&dev->host->lock);
	pci_bars_unmap(dev);
	dev->bus->functions[dev->devfn] = NULL;
	pthread_mutex_unlock(&dev->host->lock);
	pci_intx_reset(dev);
	pci_msix_free(dev);
	free(dev->id);
	free(dev);
}

unsigned int pci_device_slot(const struct pci_device *dev)
{
	return dev->devfn / PCI_FUNCTIONS;
}

bool pci_bus_master(const struct pci_device *dev)
{
	return __atomic_load_n(&dev->bus_master, __ATOMIC_ACQUIRE);
}
