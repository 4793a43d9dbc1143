/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What must hold after every step, and of every request: the invariants of <vmem/driver.h>, seen from
 * outside.
 */
#include "tests/model/model.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

static bool ranges_overlap(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
	return a_size && b_size && a < b + b_size && b < a + a_size;
}

/* Does what is known of [addr, addr + size) wait for the core to learn it? */
static bool is_open(const struct dev *dev, uint64_t addr, uint64_t size)
{
	uint64_t open_addr, open_size;

	if (link_range(dev, &open_addr, &open_size) &&
	    ranges_overlap(addr, size, open_addr, open_size))
		return true;
	return ranges_overlap(addr, size, dev->unsure_addr, dev->unsure_size);
}

/* No page of the range is the operating system's. */
static bool range_is_left(const struct dev *dev, uint64_t addr, uint64_t size)
{
	uint64_t count = size / dev->w->page_bytes;

	return pages_count(dev->area, dev_page(dev, addr), count, PAGE_NOBODYS) == count;
}

static bool truth_is(const struct dev *dev, uint64_t addr, uint64_t size, bool plugged)
{
	uint64_t bs = dev->device_config.block_size;

	for (uint64_t at = addr; at < addr + size; at += bs)
		if (!dev->truth[dev_block(dev, at)] == plugged)
			return false;
	return true;
}

/* Units in use are filled before others are added. */
static void check_filled(struct dev *dev)
{
	uint64_t usable_end = dev->area->addr + dev->seen.usable_region_size;

	for (uint64_t i = 0; i < dev->nr_units; i++) {
		uint64_t addr = dev->first_unit + i * dev->unit_bytes;
		uint64_t end = min_u64(addr + dev->unit_bytes, usable_end);

		for (; dev->units[i].state == UNIT_ONLINE && addr + dev->chunk_bytes <= end;
		     addr += dev->chunk_bytes)
			must(dev->w,
			     is_open(dev, addr, dev->chunk_bytes) ||
				     truth_is(dev, addr, dev->chunk_bytes, true),
			     "PLUG for a new unit, and %#llx of one in use is unplugged",
			     (unsigned long long)addr);
	}
}

static void check_plug(struct dev *dev, uint64_t addr, uint64_t size)
{
	struct world *w = dev->w;
	uint64_t last = addr + size - 1;
	bool honest = !(w->with & WITH_LIAR);

	must(w, !dev->leaving, "PLUG after leave()");
	must(w, !((addr | size) & (dev->chunk_bytes - 1)), "PLUG of parts of chunks");
	must(w, dev_unit(dev, addr) && dev_unit(dev, last), "PLUG outside of all units");
	must(w, range_is_left(dev, addr, size), "PLUG of memory that is in use");
	must(w, addr >= dev->config.addr_min && last <= dev->config.addr_max,
	     "PLUG of addresses that cannot be used");
	must(w, last - dev->area->addr < dev->seen.usable_region_size,
	     "PLUG beyond the usable region");
	if (!honest)
		return;
	if (dev_unit(dev, addr)->state == UNIT_ABSENT)
		check_filled(dev);
	must(w, truth_is(dev, addr, size, false), "PLUG of what is plugged");
	must(w, host_plugged_size(dev) + size <= dev->seen.requested_size,
	     "PLUG beyond requested_size: %#llx and %#llx",
	     (unsigned long long)host_plugged_size(dev), (unsigned long long)size);
}

static void check_unplug(struct dev *dev, uint64_t addr, uint64_t size)
{
	struct world *w = dev->w;

	must(w, range_is_left(dev, addr, size), "UNPLUG of memory that is the system's");
	if (w->with & WITH_LIAR)
		return;
	must(w, truth_is(dev, addr, size, true), "UNPLUG of what is unplugged");
	for (uint64_t at = addr; at < addr + size; at += dev->device_config.block_size)
		must(w,
		     !dev_unit(dev, at) || dev_unit(dev, at)->state == UNIT_ABSENT ||
			     dev->area->taken[dev_page(dev, at)],
		     "UNPLUG of %#llx, which was not taken", (unsigned long long)at);
}

void check_request(struct dev *dev, const struct vmem_req *req)
{
	struct world *w = dev->w;
	uint16_t type = le16toh(req->type), nb = le16toh(req->nb_blocks);
	uint64_t addr = le64toh(req->addr), size = nb * dev->device_config.block_size;

	must(w, type < VMEM_REQ_TYPES, "a request of type %u", type);
	must(w,
	     !req->padding[0] && !req->padding[1] && !req->padding[2] && !req->data_padding[0] &&
		     !req->data_padding[1] && !req->data_padding[2],
	     "a request's padding is used");
	must(w, !dev->config.query_only || type == VMEM_REQ_STATE, "a request in query_only");
	if (type == VMEM_REQ_UNPLUG_ALL) {
		must(w, range_is_left(dev, dev->area->addr, dev->area->nr_pages * w->page_bytes),
		     "UNPLUG_ALL while memory is in use");
		return;
	}
	must(w, nb && !(addr & (dev->device_config.block_size - 1)),
	     "a request of %u blocks at %#llx", nb, (unsigned long long)addr);
	must(w,
	     addr >= dev->area->addr && addr < dev_region_end(dev) &&
		     size <= dev_region_end(dev) - addr,
	     "a request for %#llx, %#llx: outside of the region", (unsigned long long)addr,
	     (unsigned long long)size);
	if (type == VMEM_REQ_PLUG)
		check_plug(dev, addr, size);
	else if (type == VMEM_REQ_UNPLUG)
		check_unplug(dev, addr, size);
}

struct sums {
	uint64_t online, offline, held;
	uint64_t held_end, held_runs;
};

/* One chunk: the core's word, the device's, and the operating system's. */
static void check_chunk(struct dev *dev, uint64_t addr, struct sums *sums)
{
	struct world *w = dev->w;
	uint64_t size = dev->chunk_bytes;
	bool plugged = vmem_driver_plugged(dev->drv, addr, size);
	bool usable = vmem_driver_usable(dev->drv, addr, size);
	bool left = range_is_left(dev, addr, size), open = is_open(dev, addr, size);
	const struct unit *unit = dev_unit(dev, addr);

	if (!open && !(w->with & WITH_LIAR))
		must(w,
		     plugged ? truth_is(dev, addr, size, true) : truth_is(dev, addr, size, false),
		     "chunk %#llx: the core has it %s", (unsigned long long)addr,
		     plugged ? "plugged" : "unplugged");
	must(w, plugged || !usable, "chunk %#llx is unplugged and usable",
	     (unsigned long long)addr);
	must(w, left || usable, "chunk %#llx is in use and not usable", (unsigned long long)addr);
	must(w, left || unit->state != UNIT_ABSENT, "chunk %#llx is in use in no unit",
	     (unsigned long long)addr);
	if (!plugged)
		return;
	if (unit->state == UNIT_OFFLINE && usable) {
		sums->offline += size;
	} else if (unit->state == UNIT_ONLINE && usable) {
		must(w, !left, "chunk %#llx is usable in a unit in use, and left alone",
		     (unsigned long long)addr);
		sums->online += size;
	} else {
		must(w, !usable || unit->state == UNIT_ABSENT, "chunk %#llx is usable, and held",
		     (unsigned long long)addr);
		sums->held += size;
	}
}

static void check_sums(struct dev *dev, const struct sums *sums)
{
	struct world *w = dev->w;
	struct vmem_driver_info info;

	vmem_driver_info(dev->drv, &info);
	must(w, info.plugged_size == sums->online + sums->offline + sums->held,
	     "plugged_size is %#llx: %#llx are online, %#llx offline, %#llx held",
	     (unsigned long long)info.plugged_size, (unsigned long long)sums->online,
	     (unsigned long long)sums->offline, (unsigned long long)sums->held);
	must(w, info.online_size == sums->online, "online_size is %#llx, not %#llx",
	     (unsigned long long)info.online_size, (unsigned long long)sums->online);
	must(w, info.offline_size == sums->offline, "offline_size is %#llx, not %#llx",
	     (unsigned long long)info.offline_size, (unsigned long long)sums->offline);
	must(w, info.held_size == sums->held, "held_size is %#llx, not %#llx",
	     (unsigned long long)info.held_size, (unsigned long long)sums->held);
}

/* Readers take any range. */
static void check_readers(struct dev *dev)
{
	struct world *w = dev->w;
	uint64_t addr = dev->area->addr + below(w, dev->device_config.region_size + 2) - 1;
	uint64_t size = 1 + below(w, dev->device_config.region_size);
	uint64_t end = dev_region_end(dev);

	if (chance(w, 100))
		addr = model_random(&w->random);
	if (chance(w, 100))
		size = UINT64_MAX - below(w, 2) * (addr - 1);
	if (addr < dev->area->addr || addr >= end || size > end - addr) {
		must(w, !vmem_driver_usable(dev->drv, addr, size), "usable outside of the region");
		must(w, !vmem_driver_plugged(dev->drv, addr, size),
		     "plugged outside of the region");
	} else if (vmem_driver_plugged(dev->drv, addr, size)) {
		must(w, vmem_driver_plugged(dev->drv, addr + size - 1, 1), "half plugged");
	}
}

static void check_core(struct dev *dev)
{
	struct sums sums = {.online = 0};
	struct vmem_driver_info info;
	uint64_t begin, end;

	vmem_driver_info(dev->drv, &info);
	if (info.status >= VMEM_DRIVER_WORKING && info.status <= VMEM_DRIVER_WAITING)
		dev->started = true;
	/* A map is there once the start is over. */
	if (!dev->started || dev->gone || info.status == VMEM_DRIVER_ENDED)
		return;
	begin = dev->first_unit;
	end = begin + dev->nr_units * dev->unit_bytes;
	for (uint64_t addr = begin; addr < end; addr += dev->chunk_bytes)
		check_chunk(dev, addr, &sums);
	check_sums(dev, &sums);
	check_readers(dev);
}

void world_check(struct world *w)
{
	pages_check(w);
	for (unsigned int i = 0; i < w->nr_devs; i++) {
		struct dev *dev = &w->devs[i];

		if (dev->drv)
			check_core(dev);
		if (!(w->with & (WITH_LIAR | WITH_VANISHING)))
			must(w, host_plugged_size(dev) <= dev->device_config.region_size,
			     "the engine's sums are wrong");
	}
}
