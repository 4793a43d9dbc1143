/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Shrinking: what to give back next.
 *
 *  1  units in which nothing is plugged any more are removed
 *  2  what is plugged in absent units
 *  3  offline units
 *  4  units in use of which nothing is used, as runs of whole units; movable ones first
 *  5  the emptiest units: movable before immovable, broken ones before whole ones; of whole ones all or
 *     nothing, as long as a whole one is to go
 *  6  whole units are broken: the emptiest first
 *
 * each from the highest address down at equal rank. From the first four nothing needs to be moved. A
 * unit is broken by taking chunks from its end, as many at a time as succeed: halved on failure, down to
 * one; doubled after successes. Neighbours are taken before any of them is unplugged, in one request.
 *
 * Nothing is given up before each chunk of each unit in use was tried by itself (M5).
 */
#include "driver/internal.h"

uint32_t vd_shrink_to_go(const struct vmem_driver *drv)
{
	uint32_t want = vd_driver_want(drv);

	return drv->nr_plugged > want ? drv->nr_plugged - want : 0;
}

/* One call of remove(); what was plugged in the units is held afterwards. False: they are still there. */
static bool shrink_remove(struct vmem_driver *drv, uint32_t first, uint32_t nr)
{
	struct run run = {
		.first = vd_unit_first(drv, first),
		.nr = vd_unit_first(drv, first + nr) - vd_unit_first(drv, first),
	};
	int r;

	r = drv->ops->remove(drv->os, vd_chunk_addr(drv, run.first), vd_chunks_bytes(drv, run.nr));
	if (r != VMEM_DRIVER_OK) {
		drv->stats.remove_failures++;
		if (nr == 1)
			drv->units[first].flags |= UNIT_TRIED_REMOVE;
		else
			drv->remove_above = first;
		return false;
	}
	drv->stats.removes++;
	for (uint32_t u = first; u < first + nr; u++) {
		drv->units[u].flags = 0;
		vd_unit_set_state(drv, u, UNIT_ABSENT);
	}
	vd_map_hold(drv, run);
	return true;
}

static uint32_t shrink_run_max(const struct vmem_driver *drv, uint32_t top)
{
	return top >= drv->remove_above ? 1 : drv->run_max;
}

/* The highest unit of @class that was not tried yet in this round, plus 1; 0 if none. */
static uint32_t shrink_untried(struct vmem_driver *drv, enum unit_class class, uint8_t flags)
{
	uint32_t u = vd_class_last(drv, class, drv->nr_units);

	while (u && (drv->units[u - 1].flags & flags))
		u = vd_class_last(drv, class, u - 1);
	return u;
}

bool vd_shrink_tidy(struct vmem_driver *drv)
{
	static const uint8_t classes[] = {UNIT_OFFLINE_EMPTY, UNIT_MOVABLE_EMPTY,
					  UNIT_IMMOVABLE_EMPTY};

	if (drv->accounting)
		return false;
	for (size_t i = 0; i < sizeof(classes); i++) {
		uint32_t u = shrink_untried(drv, (enum unit_class)classes[i], UNIT_TRIED_REMOVE);

		if (u) {
			shrink_remove(drv, u - 1, 1);
			return true;
		}
	}
	return false;
}

static bool shrink_absent(struct vmem_driver *drv)
{
	uint32_t end = vd_class_last(drv, UNIT_ABSENT_SOME, drv->nr_units);
	uint32_t first = end;

	if (!end)
		return false;
	while (first && end - first < drv->run_max &&
	       drv->units[first - 1].class == UNIT_ABSENT_SOME)
		first--;
	vd_map_hold(drv, (struct run){
				 .first = vd_unit_first(drv, first),
				 .nr = vd_unit_first(drv, end) - vd_unit_first(drv, first),
			 });
	return true;
}

/* A unit is removed also if less than what is plugged in it is to go: the rest is added again. */
static bool shrink_offline(struct vmem_driver *drv, uint32_t to_go)
{
	uint32_t end = shrink_untried(drv, UNIT_OFFLINE_SOME, UNIT_TRIED_REMOVE);
	uint32_t first, sum;

	if (!end)
		return false;
	first = end - 1;
	sum = drv->units[first].nr_plugged;
	while (first && end - first < shrink_run_max(drv, end - 1)) {
		const struct unit *unit = &drv->units[first - 1];

		if (unit->class != UNIT_OFFLINE_SOME || (unit->flags & UNIT_TRIED_REMOVE) ||
		    sum + unit->nr_plugged > to_go)
			break;
		first--;
		sum += unit->nr_plugged;
	}
	shrink_remove(drv, first, end - first);
	return true;
}

/* How much of a unit in use is used, as well as can be known. */
static uint32_t shrink_sample(struct vmem_driver *drv, uint32_t u, uint32_t *budget)
{
	struct unit *unit = &drv->units[u];
	uint64_t used;

	if (!drv->ops->used || drv->accounting || !*budget)
		return unit->used;
	--*budget;
	used = drv->ops->used(drv->os, vd_chunk_addr(drv, vd_unit_first(drv, u)),
			      vd_chunks_bytes(drv, drv->chunks_per_unit));
	used = (used >> UNIT_USED_SHIFT) + !!(used & ((1u << UNIT_USED_SHIFT) - 1));
	unit->used = used < UNIT_USED_UNKNOWN ? (uint32_t)used : UNIT_USED_UNKNOWN - 1;
	return unit->used;
}

/* Can unit @u be removed together with units in which @sum chunks are plugged, with nothing to move? */
static bool shrink_is_free(struct vmem_driver *drv, uint32_t u, uint32_t room, uint32_t *budget)
{
	enum unit_state use = drv->stage == SHRINK_MOVABLE_FREE ? UNIT_MOVABLE : UNIT_IMMOVABLE;
	const struct unit *unit = &drv->units[u];

	if (vd_unit_state(unit) != use || !unit->nr_plugged || unit->nr_plugged > room ||
	    (unit->flags & UNIT_TRIED_REMOVE))
		return false;
	return shrink_sample(drv, u, budget) == 0;
}

/* Remove the next run of unused units, or look at some more units. False: there are none. */
static bool shrink_free(struct vmem_driver *drv, uint32_t to_go)
{
	uint32_t budget = DRIVER_SAMPLES_MAX;
	uint32_t first = 0, nr = 0, sum = 0;

	if (drv->accounting || !drv->ops->used)
		return false;
	while (drv->stage_unit && budget) {
		uint32_t u = drv->stage_unit - 1;

		if (nr && nr == shrink_run_max(drv, first + nr - 1))
			break;
		drv->stage_unit = u;
		if (shrink_is_free(drv, u, to_go - sum, &budget)) {
			first = u;
			nr++;
			sum += drv->units[u].nr_plugged;
		} else if (nr) {
			break;
		}
	}
	if (nr) {
		/* What could not be removed as a run is looked at again, one by one. */
		if (!shrink_remove(drv, first, nr) && nr > 1)
			drv->stage_unit = first + nr;
		return true;
	}
	return drv->stage_unit;
}

static bool shrink_stages(struct vmem_driver *drv, uint32_t to_go)
{
	while (drv->stage != SHRINK_USED) {
		if (shrink_free(drv, to_go))
			return true;
		drv->stage =
			drv->stage == SHRINK_MOVABLE_FREE ? SHRINK_IMMOVABLE_FREE : SHRINK_USED;
		drv->stage_unit = drv->nr_units;
		drv->remove_above = drv->nr_units;
	}
	return false;
}

/*
 * Of a unit in use among those to take from: smaller is sooner. RANK_IMMOVABLE is added to the others;
 * what must be broken comes after all else.
 */
enum shrink_rank {
	RANK_PARTLY = 0,
	RANK_WHOLE = 1,
	RANK_IMMOVABLE = 2,
	RANK_BREAKING = 4,
	RANK_NONE = 8,
};

static uint32_t shrink_rank(const struct vmem_driver *drv, const struct unit *unit, uint32_t to_go)
{
	uint32_t rank = RANK_PARTLY;

	if (!vd_unit_is_online(unit) || !unit->nr_plugged || (unit->flags & UNIT_TRIED_ALL))
		return RANK_NONE;
	if (unit->nr_plugged == drv->chunks_per_unit)
		rank = (unit->flags & UNIT_TRIED_WHOLE) || drv->chunks_per_unit > to_go
			       ? RANK_BREAKING
			       : RANK_WHOLE;
	return vd_unit_state(unit) == UNIT_IMMOVABLE ? rank + RANK_IMMOVABLE : rank;
}

/* The unit to take from next, plus 1, and its rank; 0 if none. */
static uint32_t shrink_choose(struct vmem_driver *drv, uint32_t to_go, uint32_t *ret_rank)
{
	uint32_t budget = DRIVER_SAMPLES_MAX;
	uint32_t best = 0, best_used = 0;

	*ret_rank = RANK_NONE - 1;
	for (uint32_t u = drv->nr_units; u-- > 0;) {
		const struct unit *unit = &drv->units[u];
		uint32_t rank = shrink_rank(drv, unit, to_go);
		uint32_t used;

		if (rank > *ret_rank)
			continue;
		used = unit->used == UNIT_USED_UNKNOWN ? shrink_sample(drv, u, &budget)
						       : unit->used;
		if (!best || rank < *ret_rank || used < best_used) {
			best = u + 1;
			*ret_rank = rank;
			best_used = used;
		}
	}
	return best;
}

static bool shrink_used(struct vmem_driver *drv, uint32_t to_go)
{
	struct taking *taking = &drv->taking;
	uint32_t rank, u = shrink_choose(drv, to_go, &rank);

	if (!u)
		return false;
	u--;
	*taking = (struct taking){
		.on = true,
		.whole = rank < RANK_BREAKING && (rank & RANK_WHOLE),
		.unit = u,
		.end = vd_unit_end(drv, u),
		.head = drv->head,
		.limit = drv->chunks_per_unit,
	};
	/* All of it at once was tried already. */
	if ((drv->units[u].flags & UNIT_TRIED_WHOLE) && taking->limit > 1)
		taking->limit /= 2;
	return true;
}

/* One call of take(); what was taken is held afterwards, next to what was held before. */
static int taking_take(struct vmem_driver *drv, struct run run)
{
	uint32_t end = drv->held.nr ? drv->held.first + drv->held.nr : run.first + run.nr;
	int r;

	r = drv->ops->take(drv->os, vd_chunk_addr(drv, run.first), vd_chunks_bytes(drv, run.nr));
	if (r == VMEM_DRIVER_OK) {
		drv->stats.takes++;
		vd_map_hold(drv, (struct run){.first = run.first, .nr = end - run.first});
	} else {
		drv->stats.take_failures++;
	}
	return r;
}

/*
 * All chunks at once. Where take() will never give the first ones, the others, and then remove(): how
 * many those are is remembered, for they are as many in each unit.
 */
static void taking_whole(struct vmem_driver *drv)
{
	struct taking *taking = &drv->taking;
	struct run run = {
		.first = vd_unit_first(drv, taking->unit) + taking->head,
		.nr = drv->chunks_per_unit - taking->head,
	};
	int r = taking_take(drv, run);

	if (r == VMEM_DRIVER_OK) {
		drv->head = taking->head;
		taking->whole = false;
		taking->end = run.first;
		taking->limit = taking->head;
	} else if (r == VMEM_DRIVER_NEVER && taking->head * 2 + 1 <= drv->chunks_per_unit / 2) {
		taking->head = taking->head ? taking->head * 2 : 1;
	} else {
		drv->units[taking->unit].flags |= UNIT_TRIED_WHOLE;
		taking->on = false;
	}
}

/* The last run of plugged chunks that were not tried yet. */
static struct run taking_rest(const struct vmem_driver *drv)
{
	return vd_map_last_plugged(drv, vd_unit_first(drv, drv->taking.unit), drv->taking.end);
}

/* All chunks were tried. What is left may be what goes with the unit alone. */
static void taking_finish(struct vmem_driver *drv, uint32_t to_go)
{
	uint32_t u = drv->taking.unit;
	struct unit *unit = &drv->units[u];

	drv->taking.on = false;
	unit->flags |= UNIT_TRIED_ALL;
	if (drv->taking.nr_never && !drv->accounting && !(unit->flags & UNIT_TRIED_REMOVE) &&
	    unit->nr_plugged == drv->nr_held + drv->taking.nr_never && unit->nr_plugged <= to_go)
		shrink_remove(drv, u, 1);
}

static void taking_step(struct vmem_driver *drv, uint32_t to_go)
{
	struct taking *taking = &drv->taking;
	struct run run = taking_rest(drv);
	uint32_t nr = vd_min32(vd_min32(run.nr, taking->limit), to_go - drv->nr_held);
	int r;

	if (taking->whole) {
		taking_whole(drv);
		return;
	}
	if (!run.nr) {
		taking_finish(drv, to_go);
		return;
	}
	run = (struct run){.first = run.first + run.nr - nr, .nr = nr};
	r = taking_take(drv, run);
	if (r == VMEM_DRIVER_OK) {
		taking->end = run.first;
		if (++taking->wins > 1)
			taking->limit = vd_min32(taking->limit * 2, drv->chunks_per_unit);
		return;
	}
	taking->wins = 0;
	if (nr > 1) {
		taking->limit = nr / 2;
		return;
	}
	taking->end = run.first;
	if (r == VMEM_DRIVER_NEVER)
		taking->nr_never++;
}

/* A unit that went offline meanwhile is not taken from; nor more than is to go. */
static bool taking_is_on(const struct vmem_driver *drv)
{
	return drv->taking.on && vd_unit_is_online(&drv->units[drv->taking.unit]) &&
	       vd_shrink_to_go(drv) > drv->nr_held;
}

bool vd_shrink_collects(const struct vmem_driver *drv)
{
	struct run run;

	if (!taking_is_on(drv) || drv->taking.whole)
		return false;
	run = taking_rest(drv);
	return !run.nr || run.first + run.nr == drv->held.first;
}

bool vd_shrink_step(struct vmem_driver *drv)
{
	uint32_t to_go = vd_shrink_to_go(drv);

	if (!taking_is_on(drv))
		drv->taking.on = false;
	if (!drv->taking.on) {
		if (vd_shrink_tidy(drv) || shrink_absent(drv) || shrink_offline(drv, to_go) ||
		    shrink_stages(drv, to_go))
			return true;
		if (!shrink_used(drv, to_go))
			return false;
	}
	taking_step(drv, to_go);
	return true;
}
