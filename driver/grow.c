/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Growing: what to plug next, and what becomes of it.
 *
 * Units that are there already are filled first, partly plugged ones before others; then come absent
 * units, from the lowest address, as many as one request and one add() may be for. What was plugged in
 * absent units is held until add() succeeded; where it fails, less is tried at a time, and what cannot
 * be added at all is unplugged again.
 */
#include "driver/internal.h"

/* Units that may be added before too much waits to be used; 0: it does so already. */
static uint32_t grow_room_units(const struct vmem_driver *drv)
{
	uint64_t offline = vd_chunks_bytes(drv, drv->plugged_in[UNIT_OFFLINE]);
	uint64_t max = drv->config.offline_max_bytes;
	uint64_t units;

	if (!max)
		return drv->nr_units;
	if (offline >= max)
		return 0;
	units = (max - offline) >> (drv->chunk_shift + drv->unit_shift);
	return units < drv->nr_units ? (uint32_t)units + !units : drv->nr_units;
}

static bool grow_wait(struct vmem_driver *drv)
{
	drv->offline_wait = true;
	vd_driver_pause(drv, VMEM_DRIVER_BUSY);
	return true;
}

/* Unplugged chunks of the lowest unit of @class that has any below the limit. */
static struct run grow_in_class(struct vmem_driver *drv, enum unit_class class)
{
	uint32_t units = vd_chunk_unit(drv, drv->limit - 1) + 1;

	for (uint32_t u = vd_class_next(drv, class, 0, units); u < units;
	     u = vd_class_next(drv, class, u + 1, units)) {
		uint32_t end = vd_min32(vd_unit_end(drv, u), drv->limit);
		uint32_t first = vd_bits_next(drv->plugged, vd_unit_first(drv, u), end, false);

		if (first < end)
			return (struct run){
				.first = first,
				.nr = vd_bits_next(drv->plugged, first, end, true) - first,
			};
	}
	return (struct run){.nr = 0};
}

static struct run grow_in_units(struct vmem_driver *drv)
{
	static const uint8_t order[][2] = {
		{UNIT_MOVABLE_PARTLY, UNIT_IMMOVABLE_PARTLY},
		{UNIT_MOVABLE_EMPTY, UNIT_IMMOVABLE_EMPTY},
		{UNIT_OFFLINE_SOME, UNIT_OFFLINE_EMPTY},
	};

	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
		struct run a = grow_in_class(drv, (enum unit_class)order[i][0]);
		struct run b = grow_in_class(drv, (enum unit_class)order[i][1]);

		if (a.nr && (!b.nr || a.first < b.first))
			return a;
		if (b.nr)
			return b;
	}
	return (struct run){.nr = 0};
}

/* All chunks below the limit of a run of absent units, as long as @max_units allows. */
static struct run grow_absent(struct vmem_driver *drv, uint32_t max_units)
{
	uint32_t units = vd_chunk_unit(drv, drv->limit - 1) + 1;
	uint32_t u = vd_class_next(drv, UNIT_ABSENT_EMPTY, 0, units);
	uint32_t end, first;

	while (u < units && (drv->units[u].flags & UNIT_NEVER))
		u = vd_class_next(drv, UNIT_ABSENT_EMPTY, u + 1, units);
	if (u >= units)
		return (struct run){.nr = 0};
	for (end = u + 1; end < units && end - u < max_units; end++)
		if (drv->units[end].class != UNIT_ABSENT_EMPTY ||
		    (drv->units[end].flags & UNIT_NEVER))
			break;
	first = vd_unit_first(drv, u);
	return (struct run){
		.first = first,
		.nr = vd_min32(vd_unit_end(drv, end - 1), drv->limit) - first,
	};
}

static bool grow_plug(struct vmem_driver *drv, uint32_t to_go)
{
	uint32_t max = vd_min32(to_go, vd_min32(drv->plug_cap, vd_request_chunks_max(drv)));
	uint32_t room = grow_room_units(drv);
	struct run run;

	if (!drv->limit)
		return false;
	run = grow_in_units(drv);
	if (!run.nr) {
		run = grow_absent(drv, vd_min32(drv->run_max, room));
		if (run.nr && !room)
			return grow_wait(drv);
		/* A request that cannot be for all of it ends where a unit does. */
		if (run.nr > max && max < to_go && max > drv->chunks_per_unit)
			max &= ~(drv->chunks_per_unit - 1);
	}
	run.nr = vd_min32(run.nr, max);
	if (run.nr)
		vd_request_send_run(drv, PURPOSE_PLUG, VMEM_REQ_PLUG, run);
	return run.nr;
}

/* Absent units with something plugged: hold a run of them, to be added. */
static bool grow_leftover(struct vmem_driver *drv)
{
	uint32_t first = vd_class_next(drv, UNIT_ABSENT_SOME, 0, drv->nr_units);
	uint32_t room = grow_room_units(drv);
	uint32_t end = first;

	if (first >= drv->nr_units)
		return false;
	if (!room)
		return grow_wait(drv);
	while (end < drv->nr_units && end - first < vd_min32(drv->run_max, room) &&
	       drv->units[end].class == UNIT_ABSENT_SOME)
		end++;
	vd_map_hold(drv, (struct run){
				 .first = vd_unit_first(drv, first),
				 .nr = vd_unit_first(drv, end) - vd_unit_first(drv, first),
			 });
	return true;
}

bool vd_grow_step(struct vmem_driver *drv)
{
	uint32_t want = vd_driver_want(drv);

	if (drv->add_failed && (drv->nr_plugged < want || drv->nr_class[UNIT_ABSENT_SOME])) {
		vd_driver_pause(drv, drv->add_result);
		return true;
	}
	if (grow_leftover(drv))
		return true;
	if (drv->nr_plugged >= want)
		return false;
	if (!grow_plug(drv, want - drv->nr_plugged))
		vd_driver_pause(drv, VMEM_DRIVER_NEVER);
	return true;
}

void vd_grow_answer(struct vmem_driver *drv, uint16_t type)
{
	struct run run = drv->request.run;

	switch (type) {
	case VMEM_RESP_ACK:
		vd_map_set_plugged(drv, run, true);
		drv->stats.plugged_bytes += vd_chunks_bytes(drv, run.nr);
		drv->moved = true;
		drv->plug_cap = vd_min32(drv->plug_cap * 2, drv->nr_chunks);
		if (drv->units[vd_chunk_unit(drv, run.first)].class == UNIT_ABSENT_SOME)
			vd_map_hold(drv, run);
		else
			vd_driver_give(drv, run);
		break;
	case VMEM_RESP_NACK:
		/* Another size is asked for by now, or the host has less memory than that. */
		vd_driver_config_stale(drv);
		if (run.nr > 1)
			drv->plug_cap = run.nr / 2;
		else
			vd_driver_pause(drv, VMEM_DRIVER_NOMEM);
		break;
	case VMEM_RESP_BUSY:
		vd_driver_pause(drv, VMEM_DRIVER_BUSY);
		break;
	default:
		vd_learn_begin(drv, run, false);
		vd_driver_pause(drv, VMEM_DRIVER_INVALID);
		break;
	}
}

/*
 * add() failed: units that were told to be there nevertheless are there, the others absent as before.
 * The last of those are held with what was held behind them; others wait to be held again.
 */
static void held_add_undo(struct vmem_driver *drv, struct run units)
{
	uint32_t end = units.first + units.nr, tail = end;
	uint32_t first, last;

	for (uint32_t u = units.first; u < end; u++) {
		if (!(drv->units[u].flags & UNIT_ADDING)) {
			tail = end;
			continue;
		}
		vd_unit_set_state(drv, u, UNIT_ABSENT);
		if (tail == end)
			tail = u;
	}
	if (tail == end)
		return;
	first = vd_unit_first(drv, tail);
	last = drv->held.nr ? drv->held.first + drv->held.nr : vd_unit_end(drv, end - 1);
	vd_map_hold(drv, (struct run){.first = first, .nr = last - first});
}

static int held_call_add(struct vmem_driver *drv, struct run units)
{
	uint32_t end = units.first + units.nr;
	struct run run = {
		.first = vd_unit_first(drv, units.first),
		.nr = vd_unit_first(drv, end) - vd_unit_first(drv, units.first),
	};
	int r;

	vd_map_unhold(drv, run.first + run.nr);
	for (uint32_t u = units.first; u < end; u++) {
		vd_unit_set_state(drv, u, UNIT_OFFLINE);
		drv->units[u].flags |= UNIT_ADDING;
	}
	r = drv->ops->add(drv->os, vd_chunk_addr(drv, run.first), vd_chunks_bytes(drv, run.nr));
	if (r != VMEM_DRIVER_OK)
		held_add_undo(drv, units);
	for (uint32_t u = units.first; u < end; u++)
		drv->units[u].flags &= (uint8_t)~UNIT_ADDING;
	return r;
}

/* One call of add() for the first held units, for as many of them as may succeed. */
static void held_add(struct vmem_driver *drv)
{
	struct run held = drv->held;
	uint32_t first = vd_chunk_unit(drv, held.first);
	uint32_t last = vd_chunk_unit(drv, held.first + held.nr - 1);
	uint32_t nr = 1;
	int r;

	/* Other units may have gone offline since these were plugged. */
	if (!grow_room_units(drv)) {
		grow_wait(drv);
		return;
	}
	while (first + nr <= last && nr < drv->add_cap &&
	       drv->units[first + nr].class == UNIT_ABSENT_SOME &&
	       !(drv->units[first + nr].flags & UNIT_NEVER))
		nr++;
	r = held_call_add(drv, (struct run){.first = first, .nr = nr});
	if (r == VMEM_DRIVER_OK) {
		drv->stats.adds++;
		drv->add_cap = vd_min32(drv->add_cap * 2, drv->run_max);
		return;
	}
	drv->stats.add_failures++;
	if (nr > 1) {
		drv->add_cap = nr / 2;
		return;
	}
	vd_driver_note(drv, VMEM_DRIVER_NOTE_ADD_FAILED,
		       vd_chunk_addr(drv, vd_unit_first(drv, first)),
		       vd_chunks_bytes(drv, drv->chunks_per_unit), r);
	if (vd_unit_state(&drv->units[first]) != UNIT_ABSENT)
		return;
	if (r == VMEM_DRIVER_NEVER) {
		drv->units[first].flags |= UNIT_NEVER;
		return;
	}
	drv->add_failed = true;
	drv->add_result = r;
}

/*
 * What cannot be added, or is too much, is unplugged, from the end; the rest is added, or given back to
 * the unit that it was taken from.
 */
void vd_held_step(struct vmem_driver *drv)
{
	struct run held = drv->held;
	uint32_t u = vd_chunk_unit(drv, held.first);
	bool absent = vd_unit_state(&drv->units[u]) == UNIT_ABSENT;
	uint32_t end = held.first + held.nr;
	uint32_t to_go = vd_min32(vd_shrink_to_go(drv), drv->nr_held);
	struct run run;

	if (absent && (drv->units[u].flags & UNIT_NEVER)) {
		end = vd_min32(end, vd_unit_end(drv, u));
		to_go = held.nr;
	} else if (absent && drv->add_failed) {
		to_go = held.nr;
	}
	if (!to_go && absent) {
		held_add(drv);
		return;
	}
	if (!to_go) {
		vd_map_unhold(drv, end);
		vd_driver_give(drv, held);
		return;
	}
	run = vd_map_last_plugged(drv, held.first, end);
	to_go = vd_min32(to_go, vd_request_chunks_max(drv));
	if (run.nr > to_go) {
		run.first += run.nr - to_go;
		run.nr = to_go;
	}
	vd_request_send_run(drv, PURPOSE_UNPLUG, VMEM_REQ_UNPLUG, run);
}

void vd_held_answer(struct vmem_driver *drv, uint16_t type)
{
	struct run run = drv->request.run;

	switch (type) {
	case VMEM_RESP_ACK:
		vd_map_set_plugged(drv, run, false);
		drv->stats.unplugged_bytes += vd_chunks_bytes(drv, run.nr);
		drv->moved = true;
		break;
	case VMEM_RESP_NACK:
	case VMEM_RESP_BUSY:
		vd_driver_pause(drv, VMEM_DRIVER_BUSY);
		break;
	default:
		vd_learn_begin(drv, run, false);
		vd_driver_pause(drv, VMEM_DRIVER_INVALID);
		break;
	}
}
