/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libFuzzer entry for PCI: what a guest (and its devices) can do to configuration space, BARs and
 * MSI-X. The input is a series of steps of eight bytes: accesses of any size to ECAM, to the ports
 * and to wherever the BARs are or were, triggers, levels, failures of the host, resets. After each
 * step the rules of vmm/pci/pci.h are checked from the outside:
 *
 *	read-only registers are what they were; a BAR is mapped only inside a window;
 *	a message arrives only while MSI-X is enabled, not function-masked, bus mastering on;
 *	a wired input is high exactly while a function that shares it asserts it;
 *	what is ejected from a slot of the root bus was told of once, and is silent.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bytes.h"
#include "vmm/pci/pci.h"
#include "vmm/pci/regs.h"

#define ECAM     UINT64_C(0xb0000000)
#define WINDOW32 UINT64_C(0xc0000000)
#define WINDOW64 UINT64_C(0x8000000000)
#define DEVICES  2
#define VECTORS  5
#define GSI      16
#define LINES    4
#define PORTS    2
#define BUSES    4 /* in ECAM */
#define SLOTS_IO 0x610
#define HOT_SLOT 8 /* of the root bus, the first input */
#define HOT      2 /* functions 0 and 5 of it */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A root port in slot 2 or 6, the next input, and what may be behind it. */
struct behind {
	struct world *world;
	struct pci_port *port;
	struct pci_device *dev; /* NULL: nothing */
	bool plugged;
	unsigned int mapped; /* BARs, as bits */
};

struct world;

/* What comes to and goes from a slot of the root bus, one function or two. */
struct hot {
	struct world *world;
	struct pci_device *dev; /* NULL: nothing */
	unsigned int mapped;    /* BARs, as bits */
};

struct world {
	struct hot hot[HOT];
	bool gone; /* ejected, and not yet removed */
	struct hv hv;
	struct bus *mmio, *pio;
	struct pci_host *host;
	struct pci_device *devs[DEVICES]; /* slots 1 and 5, which share an input */
	bool level[DEVICES];
	struct behind behind[PORTS];
	int fd; /* every message source is this eventfd */
	unsigned int sources;
	bool fail, line[LINES];
	uint64_t last_gpa;
};

static void check(bool rule)
{
	if (!rule)
		abort();
}

static void world_line_set(struct hv *hv, uint32_t gsi, bool level)
{
	struct world *w = container_of(hv, struct world, hv);

	check(gsi >= GSI && gsi < GSI + LINES && w->line[gsi - GSI] != level);
	w->line[gsi - GSI] = level;
}

static int world_msi_new(struct hv *hv, struct hv_msi *ret_msi)
{
	struct world *w = container_of(hv, struct world, hv);

	if (w->fail)
		return -EMFILE;
	w->sources++;
	*ret_msi = (struct hv_msi){.fd = w->fd};
	return 0;
}

static int world_msi_route(struct hv *hv, struct hv_msi *msi, bool enable, uint64_t address,
			   uint32_t data)
{
	struct world *w = container_of(hv, struct world, hv);

	(void)data;
	check(msi->fd == w->fd && enable && !(address & 3));
	return w->fail ? -EINVAL : 0;
}

static void world_msi_free(struct hv *hv, struct hv_msi *msi)
{
	struct world *w = container_of(hv, struct world, hv);

	check(msi->fd == w->fd && w->sources > 0);
	w->sources--;
	msi->fd = -1;
}

static const struct hv_ops world_ops = {
	.line_set = world_line_set,
	.msi_new = world_msi_new,
	.msi_route = world_msi_route,
	.msi_free = world_msi_free,
};

static void world_bar_mapped(void *opaque, unsigned int bar, bool mapped, uint64_t gpa)
{
	struct world *w = opaque;

	check(bar == 0 || bar == 2);
	check((gpa >= WINDOW32 && gpa < WINDOW32 + 64 * MIB) ||
	      (gpa >= WINDOW64 && gpa < WINDOW64 + GIB));
	if (mapped)
		w->last_gpa = gpa;
}

static uint32_t world_cap_read(void *opaque, unsigned int cap, unsigned int offset,
			       unsigned int size)
{
	(void)opaque;
	(void)cap;
	check(offset >= 2 && size >= 1 && offset + size <= 20);
	return UINT32_MAX;
}

static void world_cap_write(void *opaque, unsigned int cap, unsigned int offset, unsigned int size,
			    uint32_t value)
{
	(void)opaque;
	(void)cap;
	check(offset >= 2 && size >= 1 && offset + size <= 20);
	check(size == 4 || !(value >> (8 * size)));
}

static const struct pci_device_ops device_ops = {
	.bar_mapped = world_bar_mapped,
	.cap_read = world_cap_read,
	.cap_write = world_cap_write,
};

static void behind_bar_mapped(void *opaque, unsigned int bar, bool mapped, uint64_t gpa)
{
	struct behind *b = opaque;

	world_bar_mapped(b->world, bar, mapped, gpa);
	check((b->mapped >> bar & 1) != mapped);
	b->mapped ^= 1u << bar;
	check(!mapped || (b->dev && b->plugged));
}

static void behind_link_down(void *opaque)
{
	struct behind *b = opaque;

	check(b->dev && !b->mapped && !pci_bus_master(b->dev));
}

static void behind_ejected(void *opaque)
{
	struct behind *b = opaque;

	check(b->dev && b->plugged);
	b->plugged = false;
}

static const struct pci_device_ops behind_ops = {
	.bar_mapped = behind_bar_mapped,
	.link_down = behind_link_down,
};

static const struct pci_identity identity = {
	.vendor_id = 0x1af4,
	.device_id = 0x1058,
	.express = true,
	.intx = true,
};

static unsigned int world_slot(unsigned int i)
{
	return 1 + 4 * i;
}

static void hot_bar_mapped(void *opaque, unsigned int bar, bool mapped, uint64_t gpa)
{
	struct hot *h = opaque;

	world_bar_mapped(h->world, bar, mapped, gpa);
	check((h->mapped >> bar & 1) != mapped && (!mapped || !h->world->gone));
	h->mapped ^= 1u << bar;
}

static void hot_gone(void *opaque)
{
	struct hot *h = opaque;

	check(h->world->gone && !h->mapped && !pci_bus_master(h->dev));
}

static const struct pci_device_ops hot_ops = {
	.bar_mapped = hot_bar_mapped,
	.link_down = hot_gone,
};

static void hot_notify(void *opaque)
{
	struct world *w = opaque;

	check(w->hot[0].dev);
}

static void hot_ejected(void *opaque, uint32_t slots)
{
	struct world *w = opaque;

	check(slots == 1u << HOT_SLOT && w->hot[0].dev && !w->gone);
	w->gone = true;
}

static void hot_kept(void *opaque, uint32_t slots)
{
	struct world *w = opaque;

	check(slots && !(slots & (slots - 1)));
	check(slots != 1u << HOT_SLOT || (w->hot[0].dev && !w->gone));
}

static void hot_add(struct world *w, unsigned int i)
{
	const struct pci_place place = {pci_host_root(w->host), HOT_SLOT, 5 * i, true};
	struct hot *h = &w->hot[i];

	h->dev = pci_device_new(&place, "h", &identity, &hot_ops, h, NULL);
	check(h->dev && !pci_add_bar(h->dev, 0, 64 * KIB, true, true, "a", NULL, NULL, NULL) &&
	      !pci_add_msix(h->dev, VECTORS, 0, 0, 0x800, NULL));
}

static void hot_remove(struct world *w)
{
	for (unsigned int i = 0; i < HOT; i++) {
		struct pci_device *dev = w->hot[i].dev;

		pci_device_free(dev);
		w->hot[i].dev = NULL;
		check(!w->hot[i].mapped);
	}
	w->gone = false;
}

/* The owner's part, as behind_step(). */
static void hot_step(struct world *w, unsigned int what)
{
	if (w->gone || (w->hot[0].dev && what % 8 == 0)) {
		hot_remove(w);
	} else if (!w->hot[0].dev) {
		for (unsigned int i = 0; i < 1 + what % HOT; i++)
			hot_add(w, i);
		check(!pci_root_plug(w->hot[0].dev, NULL));
	} else {
		check(!pci_root_request_unplug(w->hot[0].dev, NULL));
	}
}

static void behind_add(struct behind *b)
{
	const struct pci_place place = {.bus = pci_port_bus(b->port), .slot = -1};

	b->dev = pci_device_new(&place, "b", &identity, &behind_ops, b, NULL);
	check(b->dev && !pci_add_bar(b->dev, 0, 64 * KIB, true, true, "a", NULL, NULL, NULL) &&
	      !pci_add_bar(b->dev, 2, 4 * KIB, false, false, "b", NULL, NULL, NULL) &&
	      !pci_add_msix(b->dev, VECTORS, 2, 0, 0x800, NULL));
}

static void behind_remove(struct behind *b)
{
	struct pci_device *dev = b->dev;

	pci_device_free(dev);
	b->dev = NULL;
	b->plugged = false;
	check(!b->mapped);
}

static void behind_open(struct world *w, unsigned int i)
{
	struct behind *b = &w->behind[i];
	const struct pci_port_config config = {
		.id = "p",
		.place = {.bus = pci_host_root(w->host), .slot = 2 + 4 * (int)i},
		.hotplug = true,
		.memory_reserve = UINT64_MAX,
		.prefetch_reserve = UINT64_MAX,
		.ejected = behind_ejected,
		.opaque = b,
	};

	b->world = w;
	b->port = pci_port_new(&config, NULL);
	check(b->port);
}

/* The owner's part: put something in, ask for it back, take out what was given up, or just take it. */
static void behind_step(struct behind *b, unsigned int what)
{
	if (b->dev && !b->plugged) {
		behind_remove(b);
	} else if (!b->dev) {
		behind_add(b);
		b->plugged = true;
		check(!pci_port_plug(b->port, NULL));
	} else if (what % 8 == 0) {
		behind_remove(b);
	} else {
		(void)pci_port_request_unplug(b->port, NULL);
	}
}

static void world_open(struct world *w)
{
	static const uint8_t bytes[20] = {0};
	struct pci_host_config config = {
		.hv = &w->hv,
		.ecam = {ECAM, BUSES * MIB},
		.window32 = {WINDOW32, 64 * MIB},
		.window64 = {WINDOW64, GIB},
		.intx_gsi = GSI,
		.slots_port = SLOTS_IO,
		.notify = hot_notify,
		.ejected = hot_ejected,
		.kept = hot_kept,
		.opaque = w,
	};
	unsigned int i;

	for (i = 0; i < HOT; i++)
		w->hot[i].world = w;
	w->hv.ops = &world_ops;
	w->fd = eventfd(0, EFD_NONBLOCK);
	config.mmio = w->mmio = bus_new();
	config.pio = w->pio = bus_new();
	w->host = pci_host_new(&config, NULL);
	check(w->fd >= 0 && w->host);
	for (i = 0; i < DEVICES; i++) {
		struct pci_place place = {.bus = pci_host_root(w->host),
					  .slot = (int)world_slot(i)};
		struct pci_device *dev;

		dev = pci_device_new(&place, "d", &identity, &device_ops, w, NULL);
		check(dev && !pci_add_bar(dev, 0, 64 * KIB, true, true, "a", NULL, NULL, NULL) &&
		      !pci_add_bar(dev, 2, 4 * KIB, false, false, "b", NULL, NULL, NULL) &&
		      !pci_add_msix(dev, VECTORS, 2, 0, 0x800, NULL) &&
		      !pci_add_capability(dev, 9, bytes, sizeof(bytes), NULL, true, NULL, NULL));
		w->devs[i] = dev;
	}
	for (i = 0; i < PORTS; i++)
		behind_open(w, i);
	behind_add(&w->behind[0]);
	w->behind[0].plugged = true;
	check(!pci_host_assign(w->host, NULL));
	pci_host_reset(w->host);
}

static void world_close(struct world *w)
{
	unsigned int i;

	hot_remove(w);
	for (i = 0; i < DEVICES; i++)
		pci_device_free(w->devs[i]);
	for (i = 0; i < PORTS; i++) {
		pci_device_free(w->behind[i].dev);
		pci_port_free(w->behind[i].port);
	}
	check(!w->sources);
	for (i = 0; i < LINES; i++)
		check(!w->line[i]);
	pci_host_free(w->host);
	bus_free(w->mmio);
	bus_free(w->pio);
	close(w->fd);
}

static uint32_t bdf_get(struct world *w, unsigned int at, unsigned int reg)
{
	uint64_t value = 0;

	check(bus_read(w->mmio, ECAM + ((uint64_t)at << 12) + reg, 4, &value));
	return (uint32_t)value;
}

static uint32_t config_get(struct world *w, unsigned int i, unsigned int reg)
{
	return bdf_get(w, world_slot(i) << 3, reg);
}

/* Registers of a port that no guest changes, and what follows from its slot. */
static bool behind_check(struct world *w, unsigned int i)
{
	struct behind *b = &w->behind[i];
	unsigned int at = (2 + 4 * i) << 3;
	uint32_t slot = bdf_get(w, at, 0x58), control = bdf_get(w, at, 0x7c) >> 16;
	bool link = bdf_get(w, at, 0x50) >> 16 & PCI_LINK_ACTIVE;

	check(bdf_get(w, at, 0) == 0x000c1b36);
	check(bdf_get(w, at, PCI_HEADER_TYPE & ~3u) >> 16 == PCI_HEADER_TYPE_BRIDGE);
	check(!(bdf_get(w, at, PCI_IO_BASE) & 0xffff) && bdf_get(w, at, 0x54) == 0x5b);
	check((bdf_get(w, at, PCI_PREFETCH_BASE) & 0x000f000f) == 0x00010001);
	check((slot >> 16 & PCI_SLOT_STATUS_PRESENT) == (b->plugged ? PCI_SLOT_STATUS_PRESENT : 0));
	check(!link || (b->plugged && !(slot & PCI_SLOT_POWER_OFF)));
	check(link || !b->mapped);
	return (control & PCI_MSIX_CONTROL_ENABLE) && (bdf_get(w, at, 4) & PCI_COMMAND_BUS_MASTER);
}

/* What each bus shows: the device of the one port whose number it is, or nothing. */
static void buses_check(struct world *w)
{
	unsigned int bus;

	for (bus = 1; bus < BUSES; bus++) {
		uint32_t id = bdf_get(w, bus << 8, 0);

		check(id == UINT32_MAX ||
		      (id == 0x10581af4 && (w->behind[0].plugged || w->behind[1].plugged)));
		check(bdf_get(w, bus << 8 | 1, 0) == UINT32_MAX);
		check(bdf_get(w, bus << 8 | 8, 0) == UINT32_MAX);
	}
}

/* The slot's functions answer while they are there; whether a message may have come from them. */
static bool hot_check(struct world *w)
{
	bool may_deliver = false;

	for (unsigned int i = 0; i < HOT; i++) {
		struct pci_device *dev = w->hot[i].dev;
		uint32_t id = bdf_get(w, HOT_SLOT << 3 | 5 * i, 0);

		check(id == (dev && !w->gone ? 0x10581af4 : UINT32_MAX));
		check(!w->gone || !w->hot[i].mapped);
		may_deliver |= dev && pci_msix_enabled(dev);
	}
	return may_deliver;
}

/* A message may have come from behind a port. */
static bool behind_may_deliver(struct world *w)
{
	return hot_check(w) || (w->behind[0].dev && pci_msix_enabled(w->behind[0].dev)) ||
	       (w->behind[1].dev && pci_msix_enabled(w->behind[1].dev));
}

/* Offset of Message Control's doubleword: behind the PCI Express capability. */
#define MSIX_CAP (PCI_HEADER_SIZE + PCI_EXPRESS_SIZE)

static void world_check(struct world *w)
{
	bool may_deliver = false, shared = false;
	uint64_t count;
	unsigned int i;

	for (i = 0; i < DEVICES; i++) {
		uint32_t command = config_get(w, i, PCI_COMMAND);
		uint32_t control = config_get(w, i, MSIX_CAP) >> 16;
		bool enabled = control & PCI_MSIX_CONTROL_ENABLE;

		check(config_get(w, i, 0) == 0x10581af4);
		check(config_get(w, i, PCI_CAPABILITIES) == PCI_HEADER_SIZE);
		check((command & ~0x0546u) == (w->level[i] ? 0x00180000u : 0x00100000u));
		check((control & 0x3fff) == VECTORS - 1);
		check((config_get(w, i, PCI_BAR0) & 0xffff) == 0xc);
		check(pci_msix_enabled(w->devs[i]) == enabled);
		may_deliver |= enabled && !(control & PCI_MSIX_CONTROL_FUNCTION_MASK) &&
			       (command & PCI_COMMAND_BUS_MASTER);
		shared |= w->level[i] && !enabled && !(command & PCI_COMMAND_INTX_DISABLE);
	}
	check(w->line[1] == shared);
	buses_check(w);
	for (i = 0; i < PORTS; i++)
		may_deliver |= behind_check(w, i);
	may_deliver |= behind_may_deliver(w);
	if (read(w->fd, &count, sizeof(count)) == sizeof(count))
		check(may_deliver);
}

/* The registers of the root bus's slots: of all slots but those of the devices that stay. */
static void slots_step(struct world *w, uint64_t at, unsigned int size, uint64_t value)
{
	uint64_t result;

	if (at & 0x10)
		bus_read(w->pio, SLOTS_IO + (at & 0xf), size, &result);
	else
		bus_write(w->pio, SLOTS_IO + (at & 0xf), size,
			  (at & 0xf) == 8 ? value & ~(UINT64_C(1) << 1 | UINT64_C(1) << 5) : value);
}

/* byte 0: what; 1: size and device; 2-3: place; 4-7: value. */
static void world_step(struct world *w, const uint8_t step[8])
{
	unsigned int size = 1u << (step[1] & 3);
	unsigned int i = step[1] >> 2 & 1;
	uint64_t at = bytes_get_le(step + 2, 2);
	uint64_t value = bytes_get_le(step + 4, 4);
	uint64_t result;

	if (step[1] & 0x80)
		value |= value << 32;
	switch (step[0] % 16) {
	case 0:
	case 1:
	case 2:
		bus_write(w->mmio, ECAM + ((uint64_t)world_slot(i) << 15) + (at & 0xff), size,
			  value);
		break;
	case 3:
		bus_write(w->mmio, ECAM + (at << 4) + (step[1] >> 4), size, value);
		break;
	case 4:
		bus_read(w->mmio, ECAM + (at << 4) + (step[1] >> 4), size, &result);
		break;
	case 5:
		if (step[1] & 0x40)
			slots_step(w, at, size, value);
		else
			bus_write(w->pio, 0xcf8 + (at & 7), size, value);
		break;
	case 6:
		bus_write(w->mmio, w->last_gpa + (at & 0xfff), size, value);
		break;
	case 7:
		bus_read(w->mmio, w->last_gpa + (at & 0xfff), size, &result);
		break;
	case 8:
		pci_msix_trigger(w->devs[i], at % (VECTORS + 1));
		break;
	case 9:
		w->level[i] = value & 1;
		pci_intx_set(w->devs[i], w->level[i]);
		break;
	case 10:
		w->fail = value & 1;
		break;
	case 11:
	case 12:
		/* A port's registers; those of the slot more often. */
		at = at & 0x100 ? 0x58 + (at & 3) : at & 0xff;
		bus_write(w->mmio, ECAM + ((uint64_t)(2 + 4 * i) << 15) + at, size, value);
		break;
	case 13:
		bus_write(w->mmio, ECAM + (1 + (uint64_t)i) * MIB + (at & 0xff), size, value);
		break;
	case 14:
		if (step[1] & 0x40)
			hot_step(w, step[4]);
		else
			behind_step(&w->behind[i], step[4]);
		break;
	default:
		if (value % 8)
			break;
		for (i = 0; i < PORTS; i++)
			if (w->behind[i].dev && !w->behind[i].plugged)
				behind_remove(&w->behind[i]);
		if (w->gone)
			hot_remove(w);
		pci_host_reset(w->host);
		memset(w->level, 0, sizeof(w->level));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w = {.last_gpa = WINDOW32};

	world_open(&w);
	for (; size >= 8; data += 8, size -= 8) {
		world_step(&w, data);
		world_check(&w);
	}
	world_close(&w);
	return 0;
}
