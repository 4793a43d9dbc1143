/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Slots of the root bus that devices come to and go from while the guest runs, by ACPI (ACPI 6.4,
 * 5.6.6 "Device Object Notifications", 6.3 "Device Insertion, Removal, and Status Objects"). The
 * namespace has an object for each such slot; what its methods read and write are these registers,
 * 32 bits each and no narrower, a bit for each slot in all but the last:
 *
 *	0x0	came: something is new in the slot; reading takes them all
 *	0x4	asked: the guest is asked for what is in the slot; reading takes them all
 *	0x8	eject: writing takes what is in the slots off the bus
 *	0xc	answer: bits 4:0 a slot, bit 8: what is in it stays, that was asked for
 *
 * I1  Slot 0 and the slots of root ports and other fixed functions have no part in this: nothing
 *     comes there, and ejecting them does nothing.
 * I2  An ejected function was reset and does not answer when the guest's access is over (pci.h, I5,
 *     in the same way); it stays so until it is freed, or until a reset.
 * I3  A slot is told of as ejected or kept by the guest at most once for each write of its own.
 *
 * Threads: vCPU threads, and the one that adds and removes devices; host->lock is taken here.
 * The guest controls: every access, also for slots that nobody asked for.
 */
#include "vmm/pci/internal.h"

#include <errno.h>

#include "base/err.h"
#include "base/pack.h"

#define PCI_ROOT_CAME   0x0
#define PCI_ROOT_ASKED  0x4
#define PCI_ROOT_EJECT  0x8
#define PCI_ROOT_ANSWER 0xc

#define PCI_ROOT_ANSWER_SLOT 0x1fu
#define PCI_ROOT_ANSWER_KEPT 0x100u

static bool pci_root_has(const struct pci_host *host)
{
	return host->config.slots_port != 0;
}

/* Slots of functions that may go; or, with @fixed, of ports and others that stay. host->lock held. */
static uint32_t pci_root_used(const struct pci_host *host, bool fixed)
{
	const struct pci_device *dev;
	unsigned int devfn;
	uint32_t slots = 0;

	PCI_FOR_EACH(&host->root, devfn, dev)
	if (dev->fixed == fixed)
		slots |= 1u << devfn / PCI_FUNCTIONS;
	return slots;
}

uint32_t pci_root_slots(struct pci_host *host)
{
	uint32_t slots;

	if (!pci_root_has(host))
		return 0;
	pthread_mutex_lock(&host->lock);
	slots = ~pci_root_used(host, true) & ~1u;
	pthread_mutex_unlock(&host->lock);
	return slots;
}

/* ---- what the guest does ---- */

/* What of @slots can be ejected goes; returns those slots (I1, I2). */
static uint32_t pci_root_eject(struct pci_host *host, uint32_t slots)
{
	struct pci_device *dev;
	unsigned int devfn;

	slots &= pci_root_used(host, false) & ~pci_root_used(host, true) & ~host->gone & ~1u;
	PCI_FOR_EACH(&host->root, devfn, dev)
	if (slots >> devfn / PCI_FUNCTIONS & 1)
		pci_config_reset(dev, false);
	host->gone |= slots;
	host->came &= ~slots;
	host->asked &= ~slots;
	if (slots && host->config.ejected)
		host->config.ejected(host->config.opaque, slots);
	return slots;
}

/* As pci_port_tell_down(), without the lock. */
static void pci_root_tell_gone(struct pci_host *host, uint32_t slots)
{
	struct pci_device *dev;
	unsigned int devfn;

	PCI_FOR_EACH(&host->root, devfn, dev)
	if (slots >> devfn / PCI_FUNCTIONS & 1 && dev->ops->link_down)
		dev->ops->link_down(dev->opaque);
}

static void pci_root_answer(struct pci_host *host, uint32_t value)
{
	uint32_t slot = 1u << (value & PCI_ROOT_ANSWER_SLOT);

	if ((value & PCI_ROOT_ANSWER_KEPT) && (pci_root_used(host, false) & slot & ~host->gone) &&
	    host->config.kept)
		host->config.kept(host->config.opaque, slot);
}

static uint32_t pci_root_take(uint32_t *slots)
{
	uint32_t taken = *slots;

	*slots = 0;
	return taken;
}

static uint64_t pci_root_read(void *opaque, uint64_t offset, unsigned int size)
{
	struct pci_host *host = opaque;
	uint32_t value = 0;

	if (size != 4)
		return UINT64_MAX;
	pthread_mutex_lock(&host->lock);
	if (offset == PCI_ROOT_CAME)
		value = pci_root_take(&host->came);
	else if (offset == PCI_ROOT_ASKED)
		value = pci_root_take(&host->asked);
	pthread_mutex_unlock(&host->lock);
	return value;
}

static void pci_root_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pci_host *host = opaque;
	uint32_t gone = 0;

	if (size != 4)
		return;
	pthread_mutex_lock(&host->lock);
	if (offset == PCI_ROOT_EJECT)
		gone = pci_root_eject(host, (uint32_t)value);
	else if (offset == PCI_ROOT_ANSWER)
		pci_root_answer(host, (uint32_t)value);
	pthread_mutex_unlock(&host->lock);
	pci_root_tell_gone(host, gone);
}

static const struct bus_ops pci_root_ops = {
	.read = pci_root_read,
	.write = pci_root_write,
};

void pci_root_init(struct pci_host *host)
{
	if (!pci_root_has(host))
		return;
	host->slots_region = (struct bus_region){
		.name = "pci-slots",
		.range = {host->config.slots_port, PCI_ROOT_SIZE},
		.ops = &pci_root_ops,
		.opaque = host,
	};
	bus_add(host->config.pio, &host->slots_region);
}

void pci_root_done(struct pci_host *host)
{
	if (pci_root_has(host))
		bus_remove(host->config.pio, &host->slots_region);
}

/* ---- what the owner does ---- */

/* Note @dev's slot in @slots of its host, and tell the guest. */
static void pci_root_notify(struct pci_device *dev, uint32_t *slots)
{
	struct pci_host *host = dev->host;

	pthread_mutex_lock(&host->lock);
	*slots |= 1u << dev->devfn / PCI_FUNCTIONS;
	pthread_mutex_unlock(&host->lock);
	host->config.notify(host->config.opaque);
}

static int pci_root_check(const struct pci_device *dev, struct err **err)
{
	if (!pci_root_has(dev->host))
		return err_set(err, ENOTSUP, "Bus '%s' does not support hotplugging",
			       dev->host->root.id ? dev->host->root.id : "");
	return 0;
}

int pci_root_plug(struct pci_device *dev, struct err **err)
{
	int rc = pci_root_check(dev, err);

	if (!rc)
		pci_root_notify(dev, &dev->host->came);
	return rc;
}

int pci_root_request_unplug(struct pci_device *dev, struct err **err)
{
	int rc = pci_root_check(dev, err);

	if (!rc)
		pci_root_notify(dev, &dev->host->asked);
	return rc;
}

void pci_root_freed(struct pci_device *dev)
{
	unsigned int slot = dev->devfn / PCI_FUNCTIONS;
	struct pci_host *host = dev->host;

	if (pci_root_used(host, false) >> slot & 1)
		return;
	host->came &= ~(1u << slot);
	host->asked &= ~(1u << slot);
	host->gone &= ~(1u << slot);
}

void pci_root_reset(struct pci_host *host)
{
	host->came = host->asked = host->gone = 0;
}

/* ---- saved state ---- */

void pci_root_save(const struct pci_host *host, struct pack *out)
{
	pack_u32(out, host->came);
	pack_u32(out, host->asked);
	pack_u32(out, host->gone);
}

int pci_root_load(struct pci_host *host, struct unpack *in, struct err **err)
{
	uint32_t came = unpack_u32(in), asked = unpack_u32(in), gone = unpack_u32(in);
	uint32_t may = pci_root_has(host) ? ~pci_root_used(host, true) & ~1u : 0;

	if (unpack_failed(in) || ((came | asked | gone) & ~may) ||
	    (gone & ~pci_root_used(host, false)))
		return err_set(err, EINVAL,
			       "what its guest was told of the slots of the root bus does not go "
			       "with what is in them here");
	host->came = came;
	host->asked = asked;
	host->gone = gone;
	if (gone && host->config.ejected)
		host->config.ejected(host->config.opaque, gone);
	return 0;
}
