/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Units of the operating system: the ops add(), remove(), take(), give() and used(), and people who
 * online and offline units. Each op checks first that the core may call it so.
 */
#include "tests/model/model.h"

#include <stdlib.h>
#include <string.h>

static uint64_t unit_addr(const struct dev *dev, uint64_t index)
{
	return dev->config.unit_bytes ? dev->first_unit + index * dev->unit_bytes : dev->area->addr;
}

static uint64_t unit_size(const struct dev *dev)
{
	return dev->config.unit_bytes ? dev->unit_bytes : dev->device_config.region_size;
}

uint64_t units_page(const struct dev *dev, uint64_t index)
{
	return dev_page(dev, unit_addr(dev, index));
}

uint64_t units_pages(const struct dev *dev)
{
	return unit_size(dev) / dev->w->page_bytes;
}

static bool range_plugged(const struct dev *dev, uint64_t addr, uint64_t size)
{
	uint64_t bs = dev->device_config.block_size;

	for (uint64_t at = addr; at < addr + size; at += bs)
		if (!dev->truth[dev_block(dev, at)])
			return false;
	return true;
}

bool units_has_plugged(const struct dev *dev, uint64_t index)
{
	uint64_t addr = unit_addr(dev, index), bs = dev->device_config.block_size;

	for (uint64_t at = addr; at < addr + unit_size(dev); at += bs)
		if (dev->truth[dev_block(dev, at)])
			return true;
	return false;
}

static uint64_t unit_plugged_bytes(const struct dev *dev, uint64_t index)
{
	uint64_t addr = unit_addr(dev, index), bs = dev->device_config.block_size, sum = 0;

	for (uint64_t at = addr; at < addr + unit_size(dev); at += bs)
		sum += dev->truth[dev_block(dev, at)] ? bs : 0;
	return sum;
}

uint64_t units_offline_bytes(const struct dev *dev)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < dev->nr_units; i++)
		if (dev->units[i].state == UNIT_OFFLINE)
			sum += unit_plugged_bytes(dev, i);
	return sum;
}

/* Use exactly what the core lets: the header's rule for onlined(). */
static void unit_begin_use(struct dev *dev, uint64_t index)
{
	struct world *w = dev->w;
	uint64_t first = units_page(dev, index);

	for (uint64_t page = first; page < first + units_pages(dev); page++) {
		uint64_t addr = dev->area->addr + page * w->page_bytes;

		if (dev->area->pages[page] != PAGE_RECORDS &&
		    vmem_driver_usable(dev->drv, addr, w->page_bytes))
			pages_give(w, dev->area, page, 1);
	}
}

/* The system begins to know the unit: its records lie in the unit itself where they can. */
static void unit_begin(struct dev *dev, uint64_t index)
{
	uint64_t size = dev->record_pages * dev->w->page_bytes;

	dev->units[index].state = UNIT_OFFLINE;
	if (size && vmem_driver_plugged(dev->drv, unit_addr(dev, index), size))
		pages_record(dev->w, dev->area, units_page(dev, index), dev->record_pages);
}

bool units_online(struct dev *dev, uint64_t index, enum vmem_driver_use use)
{
	struct unit *unit = &dev->units[index];
	bool before = chance(dev->w, 500);

	if (unit->state != UNIT_OFFLINE)
		return false;
	unit->use = use;
	unit->state = UNIT_ONLINE;
	model_trace(dev->w, "    unit %llu of %u goes online, %s", (unsigned long long)index,
		    dev->index, use == VMEM_DRIVER_MOVABLE ? "movable" : "immovable");
	if (before)
		vmem_driver_onlined(dev->drv, unit_addr(dev, index), dev->unit_bytes, use);
	unit_begin_use(dev, index);
	if (!before)
		vmem_driver_onlined(dev->drv, unit_addr(dev, index), dev->unit_bytes, use);
	dev_news(dev);
	return true;
}

enum vmem_driver_use units_random_use(const struct dev *dev)
{
	return chance(dev->w, 500) ? VMEM_DRIVER_MOVABLE : VMEM_DRIVER_IMMOVABLE;
}

/* Empty an online unit; a result of enum vmem_driver_result. */
static int unit_end_use(struct dev *dev, uint64_t index)
{
	int rc = pages_take(dev->w, dev->area, units_page(dev, index), units_pages(dev));

	if (!rc)
		dev->units[index].state = UNIT_OFFLINE;
	return rc;
}

bool units_offline(struct dev *dev, uint64_t index)
{
	if (dev->units[index].state != UNIT_ONLINE || unit_end_use(dev, index))
		return false;
	model_trace(dev->w, "    unit %llu of %u goes offline", (unsigned long long)index,
		    dev->index);
	vmem_driver_offlined(dev->drv, unit_addr(dev, index), dev->unit_bytes);
	dev_news(dev);
	return true;
}

/* A result other than OK now and then; NEVER holds from then on. */
static int op_outcome(struct dev *dev, unsigned int permille, uint64_t page, uint64_t count)
{
	struct world *w = dev->w;

	if (w->calm || !chance(w, permille))
		return VMEM_DRIVER_OK;
	if (!chance(w, w->rates.never))
		return chance(w, 500) ? VMEM_DRIVER_BUSY : VMEM_DRIVER_NOMEM;
	page += below(w, count);
	if (dev->area->pages[page] == PAGE_NOBODYS)
		return VMEM_DRIVER_BUSY;
	dev->area->rooted[page] = true;
	return VMEM_DRIVER_NEVER;
}

static void must_be_units(struct dev *dev, const char *op, uint64_t addr, uint64_t size)
{
	struct world *w = dev->w;
	uint64_t most = max_u64(dev->config.run_max_bytes, dev->unit_bytes);

	must(w, dev->config.unit_bytes, "%s() of a system that cannot", op);
	must(w, size && !(size & (dev->unit_bytes - 1)) && !(addr & (dev->unit_bytes - 1)),
	     "%s(%#llx, %#llx) is not of units", op, (unsigned long long)addr,
	     (unsigned long long)size);
	must(w, size <= most, "%s(%#llx, %#llx) is more than %#llx", op, (unsigned long long)addr,
	     (unsigned long long)size, (unsigned long long)most);
	must(w,
	     addr >= dev->first_unit && addr - dev->first_unit < dev->nr_units * dev->unit_bytes &&
		     size <= dev->nr_units * dev->unit_bytes - (addr - dev->first_unit),
	     "%s(%#llx, %#llx) leads out of what can be used", op, (unsigned long long)addr,
	     (unsigned long long)size);
}

static int add_outcome(struct dev *dev, uint64_t first, uint64_t count)
{
	struct world *w = dev->w;

	for (uint64_t i = first; i < first + count; i++)
		if (dev->units[i].untaught)
			return VMEM_DRIVER_NEVER;
	if (w->calm || !chance(w, w->rates.add))
		return VMEM_DRIVER_OK;
	if (!chance(w, w->rates.never))
		return chance(w, 500) ? VMEM_DRIVER_BUSY : VMEM_DRIVER_NOMEM;
	dev->units[first + below(w, count)].untaught = true;
	return VMEM_DRIVER_NEVER;
}

/* A failed add() may have added some units: those of which it tells. */
static void add_partly(struct dev *dev, uint64_t first, uint64_t count)
{
	uint64_t end = first + below(dev->w, count);

	if (chance(dev->w, 700))
		return;
	for (uint64_t i = first; i < end && !dev->units[i].untaught; i++) {
		unit_begin(dev, i);
		if (chance(dev->w, 500))
			units_online(dev, i, units_random_use(dev));
		else
			vmem_driver_offlined(dev->drv, unit_addr(dev, i), dev->unit_bytes);
	}
}

/* Nothing is added while enough waits to be used. */
static void must_have_room(const struct dev *dev)
{
	uint64_t most = dev->config.offline_max_bytes;

	must(dev->w, !most || units_offline_bytes(dev) < most,
	     "units are added while %#llx is offline, and %#llx the most",
	     (unsigned long long)units_offline_bytes(dev), (unsigned long long)most);
}

static int units_add(void *os, uint64_t addr, uint64_t size)
{
	struct dev *dev = os;
	struct world *w = dev->w;
	uint64_t first, count;
	int rc;

	must_be_units(dev, "add", addr, size);
	must_have_room(dev);
	op_begin(dev, "add", true);
	model_trace(w, "  %u: add %#llx, %#llx", dev->index, (unsigned long long)addr,
		    (unsigned long long)size);
	first = (addr - dev->first_unit) / dev->unit_bytes;
	count = size / dev->unit_bytes;
	for (uint64_t i = first; i < first + count; i++) {
		must(w, dev->units[i].state == UNIT_ABSENT, "unit %llu is added and was there",
		     (unsigned long long)i);
		must(w, units_has_plugged(dev, i),
		     "unit %llu is added and nothing is plugged in it", (unsigned long long)i);
	}
	rc = add_outcome(dev, first, count);
	dev->heavy++;
	for (uint64_t i = first; i < first + count && !rc; i++) {
		unit_begin(dev, i);
		if (dev->add_onlines)
			units_online(dev, i, units_random_use(dev));
	}
	if (rc)
		add_partly(dev, first, count);
	model_trace(w, "  %u: add %#llx: %d", dev->index, (unsigned long long)addr, rc);
	dev->fruitless += rc != 0;
	op_end(dev);
	return rc;
}

/* Undo what a failed remove() has offlined, or leave some of it offline: both are told. */
static void remove_undo(struct dev *dev, uint64_t first, uint64_t end, const bool *was_online)
{
	for (uint64_t i = first; i < end; i++) {
		if (!was_online[i - first])
			continue;
		vmem_driver_offlined(dev->drv, unit_addr(dev, i), dev->unit_bytes);
		if (chance(dev->w, 700))
			units_online(dev, i, dev->units[i].use);
	}
}

static int remove_units(struct dev *dev, uint64_t first, uint64_t count)
{
	struct world *w = dev->w;
	bool *was_online = model_alloc(w, count, sizeof(bool));
	int rc = VMEM_DRIVER_OK;
	uint64_t i;

	for (i = first; i < first + count && !rc; i++) {
		must(w, dev->units[i].state != UNIT_ABSENT, "unit %llu is removed and not there",
		     (unsigned long long)i);
		if (dev->units[i].state == UNIT_OFFLINE)
			continue;
		rc = op_outcome(dev, w->rates.remove, units_page(dev, i), units_pages(dev));
		if (!rc)
			rc = unit_end_use(dev, i);
		was_online[i - first] = !rc;
	}
	if (rc) {
		remove_undo(dev, first, i, was_online);
	} else {
		for (i = first; i < first + count; i++) {
			if (was_online[i - first] && chance(w, 500))
				vmem_driver_offlined(dev->drv, unit_addr(dev, i), dev->unit_bytes);
			dev->units[i].state = UNIT_ABSENT;
			pages_unrecord(w, dev->area, units_page(dev, i), dev->record_pages);
			memset(&dev->area->taken[units_page(dev, i)], false, units_pages(dev));
		}
	}
	free(was_online);
	return rc;
}

static int units_remove(void *os, uint64_t addr, uint64_t size)
{
	struct dev *dev = os;
	struct world *w = dev->w;
	int rc;

	must_be_units(dev, "remove", addr, size);
	op_begin(dev, "remove", true);
	model_trace(w, "  %u: remove %#llx, %#llx", dev->index, (unsigned long long)addr,
		    (unsigned long long)size);
	rc = remove_units(dev, (addr - dev->first_unit) / dev->unit_bytes, size / dev->unit_bytes);
	dev->heavy++;
	model_trace(w, "  %u: remove %#llx: %d", dev->index, (unsigned long long)addr, rc);
	dev->fruitless += rc != 0;
	op_end(dev);
	return rc;
}

/* A range of whole chunks in one unit that is online, all plugged. */
static uint64_t must_be_chunks(struct dev *dev, const char *op, uint64_t addr, uint64_t size)
{
	struct world *w = dev->w;
	const struct area *area = dev->area;

	must(w, size && !((addr | size) & (dev->chunk_bytes - 1)),
	     "%s(%#llx, %#llx) is not of chunks", op, (unsigned long long)addr,
	     (unsigned long long)size);
	must(w,
	     addr >= area->addr && addr < dev_region_end(dev) && size <= dev_region_end(dev) - addr,
	     "%s(%#llx, %#llx) leads out of the region", op, (unsigned long long)addr,
	     (unsigned long long)size);
	must(w, dev_unit(dev, addr) && dev_unit(dev, addr) == dev_unit(dev, addr + size - 1),
	     "%s(%#llx, %#llx) is not in one unit", op, (unsigned long long)addr,
	     (unsigned long long)size);
	must(w, dev_unit(dev, addr)->state == UNIT_ONLINE,
	     "%s(%#llx, %#llx): the unit is not online", op, (unsigned long long)addr,
	     (unsigned long long)size);
	must(w, range_plugged(dev, addr, size), "%s(%#llx, %#llx): not all of it is plugged", op,
	     (unsigned long long)addr, (unsigned long long)size);
	return dev_page(dev, addr);
}

static int units_take(void *os, uint64_t addr, uint64_t size)
{
	struct dev *dev = os;
	struct world *w = dev->w;
	uint64_t page = must_be_chunks(dev, "take", addr, size), count = size / w->page_bytes;
	int rc;

	op_begin(dev, "take", false);
	must(w, !pages_count(dev->area, page, count, PAGE_NOBODYS),
	     "take(%#llx, %#llx): not all of it is the system's", (unsigned long long)addr,
	     (unsigned long long)size);
	rc = op_outcome(dev, w->rates.take, page, count);
	if (pages_count(dev->area, page, count, PAGE_RECORDS))
		rc = VMEM_DRIVER_NEVER;
	if (!rc)
		rc = pages_take(w, dev->area, page, count);
	if (!rc)
		memset(&dev->area->taken[page], true, count);
	dev->heavy++;
	model_trace(w, "  %u: take %#llx, %#llx: %d", dev->index, (unsigned long long)addr,
		    (unsigned long long)size, rc);
	dev->fruitless += rc != 0;
	op_end(dev);
	return rc;
}

static void units_give(void *os, uint64_t addr, uint64_t size)
{
	struct dev *dev = os;
	uint64_t page = must_be_chunks(dev, "give", addr, size);

	op_begin(dev, "give", false);
	model_trace(dev->w, "  %u: give %#llx, %#llx", dev->index, (unsigned long long)addr,
		    (unsigned long long)size);
	pages_give(dev->w, dev->area, page, size / dev->w->page_bytes);
	memset(&dev->area->taken[page], false, size / dev->w->page_bytes);
	dev->gives++;
	op_end(dev);
}

/* Exact when it is 0; else an estimate. */
static uint64_t units_used(void *os, uint64_t addr, uint64_t size)
{
	struct dev *dev = os;
	struct world *w = dev->w;
	struct unit *unit = dev_unit(dev, addr);
	uint64_t page = dev_page(dev, addr), count = size / w->page_bytes, used;

	must(w, !dev->op, "used() while %s() runs", dev->op ? dev->op : "");
	must(w, unit && unit->state == UNIT_ONLINE && unit == dev_unit(dev, addr + size - 1),
	     "used(%#llx, %#llx) is not of a unit that is online", (unsigned long long)addr,
	     (unsigned long long)size);
	used = pages_count(dev->area, page, count, PAGE_MOVABLE) +
	       pages_count(dev->area, page, count, PAGE_IMMOVABLE);
	if (used && chance(w, 100))
		used = 1 + below(w, count);
	return used * w->page_bytes;
}

void units_set_ops(struct dev *dev)
{
	if (dev->config.unit_bytes) {
		dev->ops.add = units_add;
		dev->ops.remove = units_remove;
	}
	dev->ops.take = units_take;
	dev->ops.give = units_give;
	dev->ops.used = chance(dev->w, 850) ? units_used : NULL;
}
