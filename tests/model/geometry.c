/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Random worlds: sizes of pages, blocks, chunks, units and regions, what the operating system can and
 * cannot do, and how a core comes and goes.
 */
#include "tests/model/model.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGES_MAX       1024
#define PAGES_MAX_LARGE 200000
/* Regions lie far apart, so that no wrong address of one device is a right one of the other. */
#define REGION_SHIFT 45

void *model_alloc(const struct world *w, uint64_t count, uint64_t size)
{
	void *memory = calloc(count ? count : 1, size);

	must(w, memory, "no memory for %llu times %llu bytes", (unsigned long long)count,
	     (unsigned long long)size);
	return memory;
}

static uint64_t align_up(uint64_t n, uint64_t align)
{
	return (n + align - 1) & ~(align - 1);
}

uint64_t dev_region_end(const struct dev *dev)
{
	return dev->device_config.addr + dev->device_config.region_size;
}

uint64_t dev_block(const struct dev *dev, uint64_t addr)
{
	return (addr - dev->device_config.addr) / dev->device_config.block_size;
}

uint64_t dev_page(const struct dev *dev, uint64_t addr)
{
	return (addr - dev->device_config.addr) / dev->w->page_bytes;
}

struct unit *dev_unit(struct dev *dev, uint64_t addr)
{
	if (addr < dev->first_unit || addr - dev->first_unit >= dev->nr_units * dev->unit_bytes)
		return NULL;
	return &dev->units[(addr - dev->first_unit) / dev->unit_bytes];
}

static void area_begin(struct world *w, struct area *area, uint64_t addr, uint64_t nr_pages)
{
	area->addr = addr;
	area->nr_pages = nr_pages;
	area->pages = model_alloc(w, nr_pages, sizeof(area->pages[0]));
	area->tags = model_alloc(w, nr_pages, sizeof(area->tags[0]));
	area->taken = model_alloc(w, nr_pages, sizeof(area->taken[0]));
	area->rooted = model_alloc(w, nr_pages, sizeof(area->rooted[0]));
	pages_forget(area);
}

static void area_end(struct area *area)
{
	free(area->pages);
	free(area->tags);
	free(area->taken);
	free(area->rooted);
}

/* What the core is told of the operating system; dev.unit_bytes and chunk_bytes are what follows. */
static void random_config(struct dev *dev)
{
	struct world *w = dev->w;
	struct vmem_driver_config *config = &dev->config;
	uint64_t bs = dev->device_config.block_size;

	if (chance(w, 600))
		config->chunk_bytes = chance(w, 200) ? bs / 2 : bs << below(w, 4);
	dev->chunk_bytes = max_u64(bs, config->chunk_bytes);
	if (!(w->with & WITH_ACCOUNTING))
		config->unit_bytes =
			chance(w, 100) ? dev->chunk_bytes / 2 : dev->chunk_bytes << below(w, 6);
	dev->unit_bytes = max_u64(dev->chunk_bytes, config->unit_bytes);
	if (chance(w, 600))
		config->run_max_bytes = dev->unit_bytes * below(w, 9) + below(w, 2) * bs;
	if (w->with & WITH_LARGE && config->unit_bytes) {
		dev->unit_bytes = dev->chunk_bytes << (8 + below(w, 6));
		config->unit_bytes = dev->unit_bytes;
		config->run_max_bytes = UINT64_MAX;
	}
	config->addr_max = UINT64_MAX;
	if (chance(w, 600)) {
		config->retry_min_ms = 1 + (uint32_t)below(w, 2000);
		config->retry_max_ms = config->retry_min_ms + 5000 + (uint32_t)below(w, 20000);
	}
	if (w->with & WITH_LIMITS && chance(w, 500))
		config->offline_max_bytes = dev->unit_bytes * (1 + below(w, 3));
	dev->add_onlines = chance(w, 500);
}

static void random_region(struct dev *dev)
{
	struct world *w = dev->w;
	struct vmem_device_config *config = &dev->device_config;
	uint64_t bs = config->block_size, most = w->with & WITH_LARGE ? PAGES_MAX_LARGE : PAGES_MAX;

	config->region_size = dev->unit_bytes * (1 + below(w, 12)) + below(w, 8) * bs;
	if (w->with & (WITH_LARGE | WITH_ACCOUNTING))
		config->region_size = bs * (1 + below(w, most / 4));
	if (w->with & WITH_LARGE)
		config->region_size += bs * 70000;
	config->region_size = min_u64(config->region_size, most * w->page_bytes / bs * bs);
	config->addr = (uint64_t)(dev->index + 1) << REGION_SHIFT;
	if (chance(w, 500))
		config->addr += bs * below(w, 2 * dev->unit_bytes / bs);
	config->usable_extra_bytes = below(w, 2) ? below(w, 20) * bs : config->region_size;
	config->prealloc = below(w, 2);
	dev->nr_blocks = config->region_size / bs;
	if (w->with & WITH_LIMITS && chance(w, 500)) {
		dev->config.addr_min = config->addr + below(w, config->region_size / 2);
		dev->config.addr_max = dev_region_end(dev) - 1 - below(w, config->region_size / 2);
	}
}

/* Whole units, or chunks, in what can be used of the region. */
static void find_units(struct dev *dev)
{
	uint64_t granule = dev->config.unit_bytes ? dev->unit_bytes : dev->chunk_bytes;
	uint64_t begin = max_u64(dev->device_config.addr, dev->config.addr_min);
	uint64_t end = min_u64(dev_region_end(dev) - 1, dev->config.addr_max) + 1;

	dev->first_unit = align_up(begin, granule);
	end &= ~(granule - 1);
	dev->nr_units = end > dev->first_unit ? (end - dev->first_unit) / granule : 0;
	if (!dev->config.unit_bytes) {
		dev->unit_bytes = dev->nr_units * dev->chunk_bytes;
		dev->nr_units = dev->nr_units != 0;
	}
	dev->units = model_alloc(dev->w, dev->nr_units, sizeof(dev->units[0]));
	if (!dev->config.unit_bytes && dev->nr_units)
		dev->units[0] = (struct unit){UNIT_ONLINE, VMEM_DRIVER_IMMOVABLE, false};
}

static void dev_begin(struct world *w, unsigned int index)
{
	struct dev *dev = &w->devs[index];
	uint64_t bs = max_u64(w->page_bytes << below(w, 3), 4096);

	if (w->with & WITH_LARGE)
		bs = w->page_bytes;
	dev->w = w;
	dev->index = index;
	dev->device_config.block_size = bs;
	random_config(dev);
	random_region(dev);
	find_units(dev);
	dev->truth = model_alloc(w, dev->nr_blocks, sizeof(dev->truth[0]));
	dev->area = &w->areas[index + 1];
	dev->area->dev = dev;
	area_begin(w, dev->area, dev->device_config.addr, dev->nr_blocks * (bs / w->page_bytes));
	if (dev->config.unit_bytes && chance(w, 300)) {
		dev->record_pages = 1 + below(w, 2 * dev->chunk_bytes / w->page_bytes);
		dev->record_pages = min_u64(dev->record_pages, dev->unit_bytes / w->page_bytes - 1);
	}
	if (w->with & WITH_SIZES) {
		dev->device_config.size_requests = true;
		dev->device_config.request_limit = below(w, dev->nr_blocks + 1) * bs;
		dev->device_config.request_rate = chance(w, 500) ? below(w, 20) * bs : 0;
		sizes_random_policy(w, dev, &dev->config.size_policy);
	}
	link_set_ops(dev);
	units_set_ops(dev);
	host_begin(dev, below(w, dev->nr_blocks + 1) * bs);
	dev_start(dev, chance(w, 500));
}

static void dev_trace(const struct dev *dev)
{
	model_trace(
		dev->w,
		"device %u: %#llx, region %#llx, block %#llx, chunk %#llx, unit %#llx, %llu units "
		"from %#llx, run %#llx, offline at most %#llx, page %#llx, records %llu",
		dev->index, (unsigned long long)dev->device_config.addr,
		(unsigned long long)dev->device_config.region_size,
		(unsigned long long)dev->device_config.block_size,
		(unsigned long long)dev->chunk_bytes, (unsigned long long)dev->unit_bytes,
		(unsigned long long)dev->nr_units, (unsigned long long)dev->first_unit,
		(unsigned long long)dev->config.run_max_bytes,
		(unsigned long long)dev->config.offline_max_bytes,
		(unsigned long long)dev->w->page_bytes, (unsigned long long)dev->record_pages);
}

void world_begin(struct world *w, uint64_t seed, unsigned int with)
{
	static const unsigned int page_shifts[] = {12, 12, 16, 21, 27};

	w->seed = seed;
	w->random = seed;
	w->with = with;
	w->page_bytes = UINT64_C(1) << page_shifts[below(w, 5)];
	w->nr_devs = with & WITH_TWO ? 2 : 1;
	w->nr_areas = w->nr_devs + 1;
	area_begin(w, &w->areas[0], 0, 16 + below(w, with & WITH_LARGE ? 2000 : 600));
	for (unsigned int i = 0; i < w->nr_devs; i++) {
		dev_begin(w, i);
		dev_trace(&w->devs[i]);
	}
}

void world_end(struct world *w)
{
	for (unsigned int i = 0; i < w->nr_devs; i++) {
		struct dev *dev = &w->devs[i];

		dev_stop(dev);
		host_end(dev);
		free(dev->units);
		free(dev->truth);
	}
	for (unsigned int i = 0; i < w->nr_areas; i++)
		area_end(&w->areas[i]);
}

/* Does the core have the units where they must be? A liar may have talked it into others. */
static bool dev_agrees(struct dev *dev)
{
	struct vmem_driver_info info;
	bool agrees;

	vmem_driver_info(dev->drv, &info);
	agrees = info.addr == dev->device_config.addr &&
		 info.block_size == dev->device_config.block_size &&
		 info.region_size == dev->device_config.region_size;
	if (!agrees && dev->w->with & WITH_LIAR)
		return false;
	must(dev->w, agrees, "the core has read another device");
	must(dev->w, info.chunk_bytes == dev->chunk_bytes, "chunks are of %#llx, not %#llx",
	     (unsigned long long)info.chunk_bytes, (unsigned long long)dev->chunk_bytes);
	must(dev->w, !dev->config.unit_bytes || info.unit_bytes == dev->unit_bytes,
	     "units are of %#llx, not %#llx", (unsigned long long)info.unit_bytes,
	     (unsigned long long)dev->unit_bytes);
	must(dev->w,
	     info.nr_units == dev->nr_units &&
		     (!info.nr_units || info.first_unit == dev->first_unit),
	     "%llu units from %#llx on, not %llu from %#llx", (unsigned long long)info.nr_units,
	     (unsigned long long)info.first_unit, (unsigned long long)dev->nr_units,
	     (unsigned long long)dev->first_unit);
	return true;
}

/* Tell a new core of the units that are there since before it. */
static void tell_units(struct dev *dev)
{
	for (uint64_t i = 0; i < dev->nr_units && dev->config.unit_bytes; i++) {
		uint64_t addr = dev->first_unit + i * dev->unit_bytes;

		if (dev->units[i].state == UNIT_ONLINE)
			vmem_driver_onlined(dev->drv, addr, dev->unit_bytes, dev->units[i].use);
		else if (dev->units[i].state == UNIT_OFFLINE)
			vmem_driver_offlined(dev->drv, addr, dev->unit_bytes);
	}
}

bool dev_start(struct dev *dev, bool resume)
{
	struct world *w = dev->w;
	struct vmem_config device;
	size_t bytes;
	int rc;

	dev->config.resume = resume;
	dev->interrupt = false;
	dev->call = CALL_INIT;
	if (dev->ops.config_read(dev, &device) != VMEM_DRIVER_OK)
		memset(&device, 0, sizeof(device));
	bytes = vmem_driver_arena_bytes(&dev->config, &device);
	must(w, bytes || !dev->nr_units || w->with & WITH_LIAR || dev->gone,
	     "no arena is large enough");
	if (bytes && bytes < UINT64_C(1) << 26) {
		dev->arena = model_alloc(w, 1, bytes);
		memset(dev->arena, 0xa5, bytes);
		must(w,
		     vmem_driver_init(dev->arena, bytes - 16, &dev->config, &dev->ops, dev,
				      &dev->drv) != VMEM_DRIVER_OK ||
			     w->with & WITH_LIAR,
		     "a core lives in less than it asked for");
		rc = vmem_driver_init(dev->arena, bytes, &dev->config, &dev->ops, dev, &dev->drv);
		must(w, rc == VMEM_DRIVER_OK || w->with & WITH_LIAR || dev->gone,
		     "a core cannot be made: %d", rc);
		if (rc)
			dev->drv = NULL;
	}
	dev->call = CALL_NONE;
	model_trace(w, "device %u: %s core, %zu bytes%s", dev->index, dev->drv ? "a" : "no", bytes,
		    resume ? ", resuming" : "");
	if (!dev->drv || !dev_agrees(dev)) {
		dev_stop(dev);
		return false;
	}
	dev->next_run_ms = w->now_ms;
	tell_units(dev);
	return true;
}

void dev_stop(struct dev *dev)
{
	free(dev->arena);
	dev->arena = NULL;
	dev->drv = NULL;
	dev->started = dev->leaving = dev->ended = dev->interrupt = false;
	dev->unsure_size = 0;
	dev->broken_config = false;
	dev->fruitless = 0;
	dev->next_run_ms = UINT64_MAX;
	dev->link.state = LINK_IDLE;
	memset(&dev->size_link, 0, sizeof(dev->size_link));
}

static void dev_forget(struct dev *dev)
{
	dev_stop(dev);
	dev->config.query_only = false;
	pages_forget(dev->area);
	for (uint64_t i = 0; i < dev->nr_units && dev->config.unit_bytes; i++)
		dev->units[i] = (struct unit){UNIT_ABSENT, VMEM_DRIVER_MOVABLE, false};
}

void dev_replace(struct dev *dev)
{
	model_trace(dev->w, "device %u: another one in its place", dev->index);
	dev_forget(dev);
	host_end(dev);
	dev->gone = false;
	memset(dev->truth, 0, dev->nr_blocks);
	host_begin(dev, below(dev->w, dev->nr_blocks + 1) * dev->device_config.block_size);
	dev_start(dev, chance(dev->w, 500));
}

void world_forget(struct world *w)
{
	pages_forget(&w->areas[0]);
	for (unsigned int i = 0; i < w->nr_devs; i++)
		dev_forget(&w->devs[i]);
}
