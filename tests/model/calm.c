/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The calm after a storm: nothing fails any more, nobody uses or frees memory, answers come. The core
 * must come to rest, within a bounded number of calls, at requested_size or as near to it as what the
 * operating system uses allows.
 */
#include "tests/model/model.h"

/* Pauses without any progress in the world, after which a core has had its chance. */
#define CALM_PAUSES 4

static uint64_t dev_chunks(const struct dev *dev)
{
	return dev->nr_units * dev->unit_bytes / dev->chunk_bytes;
}

/* Chunks that can be plugged: in the usable region, in units that can be added. */
static uint64_t chunks_to_have(struct dev *dev)
{
	struct vmem_device_info info;
	uint64_t end, count = 0;

	vmem_device_info(dev->engine, &info);
	end = info.addr + info.usable_region_size;
	for (uint64_t i = 0; i < dev_chunks(dev); i++) {
		uint64_t addr = dev->first_unit + i * dev->chunk_bytes;
		const struct unit *unit = dev_unit(dev, addr);

		count += addr + dev->chunk_bytes <= end &&
			 !(unit->untaught && unit->state == UNIT_ABSENT);
	}
	return min_u64(count, info.requested_size / dev->chunk_bytes);
}

static bool chunk_is_plugged(const struct dev *dev, uint64_t addr)
{
	return dev->truth[dev_block(dev, addr)] != 0;
}

static uint64_t unit_chunks(const struct dev *dev, uint64_t unit)
{
	uint64_t addr = dev->first_unit + unit * dev->unit_bytes, count = 0;

	for (uint64_t at = addr; at < addr + dev->unit_bytes; at += dev->chunk_bytes)
		count += chunk_is_plugged(dev, at);
	return count;
}

/* Could the operating system give this plugged chunk, or its unit, when @excess chunks are to go? */
static bool could_give(struct dev *dev, uint64_t addr, uint64_t excess)
{
	const struct world *w = dev->w;
	const struct area *area = dev->area;
	uint64_t index = (addr - dev->first_unit) / dev->unit_bytes;
	uint64_t page = dev_page(dev, addr), count = dev->chunk_bytes / w->page_bytes;
	enum unit_state state = dev->units[index].state;

	if (state == UNIT_ABSENT)
		return true;
	if (state == UNIT_ONLINE && !pages_count(area, page, count, PAGE_RECORDS))
		return pages_can_take(w, area, page, count);
	/* The unit goes as a whole. */
	return unit_chunks(dev, index) <= excess &&
	       (state == UNIT_OFFLINE ||
		pages_can_take(w, area, units_page(dev, index), units_pages(dev)));
}

/* @goal: the chunks that should be plugged. */
static void check_result(struct dev *dev, uint64_t goal)
{
	struct world *w = dev->w;
	struct vmem_driver_info info;
	uint64_t plugged = 0;

	vmem_driver_info(dev->drv, &info);
	for (uint64_t i = 0; i < dev->nr_units; i++)
		plugged += unit_chunks(dev, i);
	must(w, info.plugged_size == plugged * dev->chunk_bytes, "plugged_size is wrong at rest");
	model_trace(w, "device %u: calm, %llu chunks of %llu", dev->index,
		    (unsigned long long)plugged, (unsigned long long)goal);
	must(w, plugged >= goal, "%llu chunks are plugged, and %llu could be (status %d)",
	     (unsigned long long)plugged, (unsigned long long)goal, (int)info.status);
	for (uint64_t i = 0; i < dev_chunks(dev) && plugged > goal; i++) {
		uint64_t addr = dev->first_unit + i * dev->chunk_bytes;

		must(w, !chunk_is_plugged(dev, addr) || !could_give(dev, addr, plugged - goal),
		     "%llu chunks are plugged, not %llu, and %#llx could go (unit %llu, state %d)",
		     (unsigned long long)plugged, (unsigned long long)goal,
		     (unsigned long long)addr,
		     (unsigned long long)((addr - dev->first_unit) / dev->unit_bytes),
		     (int)dev_unit(dev, addr)->state);
	}
	for (uint64_t i = 0; i < dev->nr_units && dev->config.unit_bytes; i++)
		must(w, dev->units[i].state == UNIT_ABSENT || unit_chunks(dev, i),
		     "unit %llu is still there, and empty", (unsigned long long)i);
}

static bool is_reached(struct dev *dev)
{
	uint64_t plugged = 0;

	for (uint64_t i = 0; i < dev->nr_units; i++)
		plugged += unit_chunks(dev, i);
	return plugged == chunks_to_have(dev);
}

/* Everything that waits outside of the core is done. False: there was nothing. */
static bool settle(struct dev *dev, bool online)
{
	bool did = false;

	if (dev->interrupt) {
		dev_deliver_interrupt(dev);
		did = true;
	}
	did |= link_process(dev) || link_deliver(dev);
	if (dev->w->with & WITH_SIZES)
		did |= sizes_process(dev) || sizes_deliver(dev);
	for (uint64_t i = 0; i < dev->nr_units && online && dev->config.unit_bytes; i++)
		if (units_online(dev, i, units_random_use(dev))) {
			dev->next_run_ms = dev->w->now_ms;
			did = true;
		}
	return did;
}

static uint64_t world_moved(const struct world *w)
{
	uint64_t moved = 0;

	for (unsigned int i = 0; i < w->nr_devs; i++) {
		struct vmem_driver_info info;

		if (!w->devs[i].drv)
			continue;
		vmem_driver_info(w->devs[i].drv, &info);
		moved += info.plugged_bytes + info.unplugged_bytes + info.adds + info.removes;
	}
	return moved;
}

/* One round: all that can be done now. Returns when the next may come: UINT64_MAX, never. */
static uint64_t calm_round(struct world *w, bool online, uint64_t *patience)
{
	uint64_t next;
	bool again;

	do {
		again = false;
		next = UINT64_MAX;
		for (unsigned int i = 0; i < w->nr_devs; i++) {
			struct dev *dev = &w->devs[i];

			again |= settle(dev, online);
			if (!dev->drv)
				continue;
			if (dev->next_run_ms <= w->now_ms) {
				w->step++;
				must(w, (*patience)--, "the core finds no rest");
				again |= dev_run(dev) == VMEM_DRIVER_NOW;
				dev->pauses += dev->next_run_ms > w->now_ms;
				if (!(w->with & WITH_LARGE))
					world_check(w);
			}
			again |= dev->link.state != LINK_IDLE ||
				 dev->size_link.state != LINK_IDLE || dev->interrupt;
			next = min_u64(next, dev->next_run_ms);
		}
	} while (again);
	return next;
}

/* Is every core at rest, or does it only repeat itself? After progress they have new chances. */
static bool is_calm(struct world *w, uint64_t *moved)
{
	bool progress = world_moved(w) != *moved, calm = true;

	if (progress)
		w->moved_ms = w->now_ms;
	*moved = world_moved(w);
	for (unsigned int i = 0; i < w->nr_devs; i++) {
		struct dev *dev = &w->devs[i];

		if (progress)
			dev->pauses = 0;
		calm &= !dev->drv || dev->next_run_ms == UINT64_MAX || dev->pauses >= CALM_PAUSES;
	}
	return calm;
}

static void calm_down(struct world *w, bool online)
{
	uint64_t patience = 2000, moved = world_moved(w), next;

	for (unsigned int i = 0; i < w->nr_devs; i++) {
		w->devs[i].pauses = 0;
		patience += 60 * (w->devs[i].nr_units + dev_chunks(&w->devs[i]));
	}
	while (next = calm_round(w, online, &patience), !is_calm(w, &moved)) {
		must(w, next > w->now_ms, "the core wants to be called again, and has no work");
		world_pass(w, next - w->now_ms);
	}
}

/* At rest nothing is done, however often the core is called. */
static void check_rest(struct dev *dev)
{
	struct world *w = dev->w;
	struct vmem_driver_info info;

	vmem_driver_info(dev->drv, &info);
	if (info.status != VMEM_DRIVER_THERE && info.status != VMEM_DRIVER_LEFT)
		return;
	if (dev->config.size_policy.on && w->with & WITH_SIZES)
		return;
	for (unsigned int i = 0; i < 3; i++) {
		uint64_t ms = dev_run(dev);

		must(w, ms == VMEM_DRIVER_IDLE && !dev->heavy && !dev->config_reads,
		     "the core is busy with nothing: %lld ms, %u pieces", (long long)ms,
		     dev->heavy);
		world_pass(w, 500000);
	}
}

static void check_all(struct world *w)
{
	for (unsigned int i = 0; i < w->nr_devs; i++) {
		struct dev *dev = &w->devs[i];
		struct vmem_driver_info info;

		if (!dev->drv)
			continue;
		vmem_driver_info(dev->drv, &info);
		if (dev->config.query_only)
			continue;
		must(w, !dev->leaving || info.status == VMEM_DRIVER_LEFT,
		     "the core does not leave");
		/* One that left during the storm need not try again. */
		if (!dev->leaving)
			check_result(dev, chunks_to_have(dev));
		else if (dev->left_in_calm)
			check_result(dev, 0);
		check_rest(dev);
	}
}

/* Every device works, with a core that wants to. */
static void calm_begin(struct world *w)
{
	w->calm = true;
	w->rates.pending = chance(w, 500) ? w->rates.pending : 0;
	for (unsigned int i = 0; i < w->nr_devs; i++) {
		struct dev *dev = &w->devs[i];

		dev->left_in_calm = false;
		if (dev->gone || dev->ended || dev->config.query_only)
			dev_replace(dev);
		else if (!dev->drv)
			dev_start(dev, false);
		if (dev->drv && chance(w, 500)) {
			vmem_driver_retry(dev->drv);
			dev->next_run_ms = w->now_ms;
		}
	}
}

/* Unload drivers while nothing fails: what can be given back is, and the next one starts. */
static void calm_reload(struct world *w)
{
	for (unsigned int i = 0; i < w->nr_devs; i++) {
		struct dev *dev = &w->devs[i];

		if (!dev->drv || dev->leaving)
			continue;
		model_trace(w, "device %u: leave", dev->index);
		dev->leaving = dev->left_in_calm = true;
		vmem_driver_leave(dev->drv);
		dev->next_run_ms = w->now_ms;
	}
	calm_down(w, false);
	check_all(w);
	for (unsigned int i = 0; i < w->nr_devs; i++)
		if (w->devs[i].drv)
			dev_reload(&w->devs[i]);
}

/*
 * Ask for other sizes. What can be reached is reached at once, without a pause: nothing fails, and nobody
 * else makes room or takes it.
 */
static void calm_resize(struct world *w, bool to_nothing, bool online)
{
	uint64_t begin_ms = w->moved_ms = w->now_ms;
	bool changed = true;

	for (unsigned int i = 0; i < w->nr_devs; i++) {
		struct dev *dev = &w->devs[i];
		struct vmem_device_info info;
		uint64_t blocks = to_nothing ? 0 : below(w, dev->nr_blocks + 1);

		vmem_device_info(dev->engine, &info);
		changed &= info.requested_size != blocks * dev->device_config.block_size;
		host_resize(dev, blocks * dev->device_config.block_size);
	}
	calm_down(w, online);
	check_all(w);
	if (!changed || w->nr_devs > 1 || w->with & WITH_SIZES || w->devs[0].leaving ||
	    !w->devs[0].drv)
		return;
	must(w, w->moved_ms == begin_ms || !is_reached(&w->devs[0]),
	     "what can be done took %llu ms", (unsigned long long)(w->moved_ms - begin_ms));
}

void world_calm(struct world *w)
{
	calm_begin(w);
	model_trace(w, "calm");
	calm_down(w, true);
	check_all(w);
	calm_resize(w, false, true);
	/* Down to nothing, now and then with all memory free. */
	if (chance(w, 500))
		pages_drop(w, UINT64_MAX);
	calm_resize(w, true, chance(w, 500));
	if (chance(w, 300))
		calm_reload(w);
}
