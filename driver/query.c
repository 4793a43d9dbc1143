/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the operating system tells about units, and what it may ask at any time: both also while add() or
 * remove() is under way.
 */
#include "driver/internal.h"

/* The units that lie in [addr, addr + size) as a whole. */
static struct run units_inside(const struct vmem_driver *drv, uint64_t addr, uint64_t size)
{
	uint64_t span = vd_chunks_bytes(drv, drv->nr_chunks);
	uint64_t mask = vd_chunks_bytes(drv, drv->chunks_per_unit) - 1;
	uint8_t shift = (uint8_t)(drv->chunk_shift + drv->unit_shift);
	uint64_t end = size > UINT64_MAX - addr ? UINT64_MAX : addr + size;
	uint64_t from, to;

	if (drv->accounting || end <= drv->base || !drv->nr_units)
		return (struct run){.nr = 0};
	from = addr > drv->base ? addr - drv->base : 0;
	to = end - drv->base < span ? end - drv->base : span;
	if (from >= span)
		return (struct run){.nr = 0};
	from = (from >> shift) + !!(from & mask);
	to >>= shift;
	return (struct run){
		.first = (uint32_t)from,
		.nr = to > from ? (uint32_t)(to - from) : 0,
	};
}

/* Before the first run, units are told that were there already; later, those that were added. */
static void units_set_state(struct vmem_driver *drv, uint64_t addr, uint64_t size,
			    enum unit_state state)
{
	bool before = drv->config.resume && !drv->begun;
	struct run units = units_inside(drv, addr, size);

	for (uint32_t u = units.first; u - units.first < units.nr; u++) {
		if (vd_unit_state(&drv->units[u]) == UNIT_ABSENT) {
			if (!before)
				continue;
			drv->units[u].flags |= UNIT_KEPT;
		}
		/* Online again, it uses what is known by then; what is found later is given. */
		if (state == UNIT_OFFLINE)
			drv->units[u].flags &= (uint8_t)~UNIT_KEPT;
		drv->units[u].flags &= (uint8_t)~UNIT_ADDING;
		vd_unit_set_state(drv, u, state);
	}
}

void vmem_driver_onlined(struct vmem_driver *drv, uint64_t addr, uint64_t size,
			 enum vmem_driver_use use)
{
	units_set_state(drv, addr, size,
			use == VMEM_DRIVER_MOVABLE ? UNIT_MOVABLE : UNIT_IMMOVABLE);
	if (drv->offline_wait)
		drv->woken = true;
}

void vmem_driver_offlined(struct vmem_driver *drv, uint64_t addr, uint64_t size)
{
	units_set_state(drv, addr, size, UNIT_OFFLINE);
	if (drv->pause == PAUSE_ON && vd_shrink_to_go(drv))
		drv->woken = true;
}

/* The chunks that [addr, addr + size) lies in; .nr is 0 where it leaves the units. */
static struct run chunks_around(const struct vmem_driver *drv, uint64_t addr, uint64_t size)
{
	uint64_t span = vd_chunks_bytes(drv, drv->nr_chunks);
	uint32_t first, last;

	if (!size || addr < drv->base || addr - drv->base >= span ||
	    size > span - (addr - drv->base))
		return (struct run){.nr = 0};
	first = (uint32_t)((addr - drv->base) >> drv->chunk_shift);
	last = (uint32_t)((addr - drv->base + size - 1) >> drv->chunk_shift);
	return (struct run){.first = first, .nr = last - first + 1};
}

bool vmem_driver_plugged(const struct vmem_driver *drv, uint64_t addr, uint64_t size)
{
	struct run run = chunks_around(drv, addr, size);
	uint32_t end = run.first + run.nr;

	return run.nr && vd_bits_next(drv->plugged, run.first, end, false) == end;
}

bool vmem_driver_usable(const struct vmem_driver *drv, uint64_t addr, uint64_t size)
{
	struct run run = chunks_around(drv, addr, size), held = drv->held;

	if (held.nr && run.first < held.first + held.nr && held.first < run.first + run.nr)
		return false;
	return vmem_driver_plugged(drv, addr, size);
}

static enum vmem_driver_status driver_status(const struct vmem_driver *drv)
{
	if (drv->gone || drv->broken)
		return VMEM_DRIVER_ENDED;
	if (drv->left)
		return VMEM_DRIVER_LEFT;
	if (drv->leaving)
		return VMEM_DRIVER_LEAVING;
	if (!drv->started)
		return VMEM_DRIVER_STARTING;
	if (drv->nr_plugged == vd_driver_want(drv) && !drv->held.nr && !vd_learn_is_on(drv) &&
	    !drv->nr_class[UNIT_ABSENT_SOME])
		return VMEM_DRIVER_THERE;
	return drv->pause == PAUSE_NONE ? VMEM_DRIVER_WORKING : VMEM_DRIVER_WAITING;
}

/* Held chunks of units in @state. */
static uint32_t driver_held_in(const struct vmem_driver *drv, bool online)
{
	uint32_t end = drv->held.first + drv->held.nr, nr = 0;

	for (uint32_t from = drv->held.first; from < end;) {
		uint32_t u = vd_chunk_unit(drv, from);
		uint32_t to = vd_unit_end(drv, u) < end ? vd_unit_end(drv, u) : end;
		enum unit_state state = vd_unit_state(&drv->units[u]);

		if (state != UNIT_ABSENT && (state != UNIT_OFFLINE) == online)
			nr += vd_map_count_plugged(drv,
						   (struct run){.first = from, .nr = to - from});
		from = to;
	}
	return nr;
}

void vmem_driver_info(const struct vmem_driver *drv, struct vmem_driver_info *ret_info)
{
	uint32_t online = drv->plugged_in[UNIT_MOVABLE] + drv->plugged_in[UNIT_IMMOVABLE] -
			  driver_held_in(drv, true);
	uint32_t offline = drv->plugged_in[UNIT_OFFLINE] - driver_held_in(drv, false);

	*ret_info = drv->stats;
	ret_info->status = driver_status(drv);
	ret_info->addr = drv->addr;
	ret_info->region_size = drv->region_size;
	ret_info->block_size = drv->block_size;
	ret_info->usable_region_size = drv->usable_region_size;
	ret_info->requested_size = drv->requested_size;
	ret_info->plugged_size = vd_chunks_bytes(drv, drv->nr_plugged);
	ret_info->online_size = vd_chunks_bytes(drv, online);
	ret_info->offline_size = vd_chunks_bytes(drv, offline);
	ret_info->held_size = vd_chunks_bytes(drv, drv->nr_plugged - online - offline);
	ret_info->unit_bytes = vd_chunks_bytes(drv, drv->chunks_per_unit);
	ret_info->chunk_bytes = vd_chunks_bytes(drv, 1);
	ret_info->first_unit = drv->base;
	ret_info->nr_units = drv->nr_units;
	ret_info->retry_ms = drv->pause == PAUSE_ON ? drv->pause_ms : 0;
}
