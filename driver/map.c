/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Units and chunks of the driver core: what is plugged, what is held, in which state each unit is, and
 * the counters over them (M1 to M3 in internal.h).
 *
 * Bits are searched by words. Compilers' own words for counting bits are avoided: where a processor
 * lacks the instruction they call into a library that is not there.
 */
#include "driver/internal.h"

static uint32_t word_low(uint64_t word)
{
	uint32_t bit = 0;

	for (uint32_t half = DRIVER_WORD_BITS / 2; half; half /= 2)
		if (!(word & ((UINT64_C(1) << half) - 1))) {
			word >>= half;
			bit += half;
		}
	return bit;
}

static uint32_t word_high(uint64_t word)
{
	uint32_t bit = 0;

	for (uint32_t half = DRIVER_WORD_BITS / 2; half; half /= 2)
		if (word >> half) {
			word >>= half;
			bit += half;
		}
	return bit;
}

static uint32_t word_count(uint64_t word)
{
	word -= word >> 1 & UINT64_C(0x5555555555555555);
	word = (word & UINT64_C(0x3333333333333333)) + (word >> 2 & UINT64_C(0x3333333333333333));
	word = (word + (word >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
	return (uint32_t)(word * UINT64_C(0x0101010101010101) >> 56);
}

/* The bits of word @w that lie in [from, end). */
static uint64_t word_mask(uint32_t w, uint32_t from, uint32_t end)
{
	uint32_t base = w * DRIVER_WORD_BITS;
	uint64_t mask = ~UINT64_C(0);

	if (from > base)
		mask &= ~UINT64_C(0) << (from - base);
	if (end - base < DRIVER_WORD_BITS)
		mask &= ~(~UINT64_C(0) << (end - base));
	return mask;
}

uint32_t vd_bits_next(const uint64_t *words, uint32_t from, uint32_t end, bool value)
{
	if (from >= end)
		return end;
	for (uint32_t w = from / DRIVER_WORD_BITS; w <= (end - 1) / DRIVER_WORD_BITS; w++) {
		uint64_t word = (value ? words[w] : ~words[w]) & word_mask(w, from, end);

		if (word)
			return w * DRIVER_WORD_BITS + word_low(word);
	}
	return end;
}

uint32_t vd_bits_last(const uint64_t *words, uint32_t from, uint32_t end, bool value)
{
	if (from >= end)
		return from;
	for (uint32_t w = (end - 1) / DRIVER_WORD_BITS + 1; w-- > from / DRIVER_WORD_BITS;) {
		uint64_t word = (value ? words[w] : ~words[w]) & word_mask(w, from, end);

		if (word)
			return w * DRIVER_WORD_BITS + word_high(word) + 1;
	}
	return from;
}

void vd_bits_set(uint64_t *words, uint32_t first, uint32_t nr, bool value)
{
	if (!nr)
		return;
	for (uint32_t w = first / DRIVER_WORD_BITS; w <= (first + nr - 1) / DRIVER_WORD_BITS; w++) {
		uint64_t mask = word_mask(w, first, first + nr);

		words[w] = value ? words[w] | mask : words[w] & ~mask;
	}
}

static uint32_t bits_count(const uint64_t *words, uint32_t from, uint32_t end)
{
	uint32_t count = 0;

	if (from >= end)
		return 0;
	for (uint32_t w = from / DRIVER_WORD_BITS; w <= (end - 1) / DRIVER_WORD_BITS; w++)
		count += word_count(words[w] & word_mask(w, from, end));
	return count;
}

uint64_t vd_chunk_addr(const struct vmem_driver *drv, uint32_t chunk)
{
	return drv->base + ((uint64_t)chunk << drv->chunk_shift);
}

uint64_t vd_chunks_bytes(const struct vmem_driver *drv, uint32_t nr)
{
	return (uint64_t)nr << drv->chunk_shift;
}

uint32_t vd_chunk_unit(const struct vmem_driver *drv, uint32_t chunk)
{
	return chunk >> drv->unit_shift;
}

uint32_t vd_unit_first(const struct vmem_driver *drv, uint32_t unit)
{
	return unit * drv->chunks_per_unit;
}

uint32_t vd_unit_end(const struct vmem_driver *drv, uint32_t unit)
{
	return (unit + 1) * drv->chunks_per_unit;
}

enum unit_state vd_unit_state(const struct unit *unit)
{
	static const uint8_t states[UNIT_CLASSES] = {
		[UNIT_ABSENT_EMPTY] = UNIT_ABSENT,        [UNIT_ABSENT_SOME] = UNIT_ABSENT,
		[UNIT_OFFLINE_EMPTY] = UNIT_OFFLINE,      [UNIT_OFFLINE_SOME] = UNIT_OFFLINE,
		[UNIT_MOVABLE_EMPTY] = UNIT_MOVABLE,      [UNIT_MOVABLE_PARTLY] = UNIT_MOVABLE,
		[UNIT_MOVABLE_FULL] = UNIT_MOVABLE,       [UNIT_IMMOVABLE_EMPTY] = UNIT_IMMOVABLE,
		[UNIT_IMMOVABLE_PARTLY] = UNIT_IMMOVABLE, [UNIT_IMMOVABLE_FULL] = UNIT_IMMOVABLE,
	};

	return (enum unit_state)states[unit->class];
}

bool vd_unit_is_online(const struct unit *unit)
{
	return vd_unit_state(unit) >= UNIT_MOVABLE;
}

static uint8_t unit_class_of(const struct vmem_driver *drv, enum unit_state state, uint32_t nr)
{
	uint32_t fill = !nr ? 0 : nr < drv->chunks_per_unit ? 1 : 2;

	switch (state) {
	case UNIT_ABSENT:
		return nr ? UNIT_ABSENT_SOME : UNIT_ABSENT_EMPTY;
	case UNIT_OFFLINE:
		return nr ? UNIT_OFFLINE_SOME : UNIT_OFFLINE_EMPTY;
	case UNIT_MOVABLE:
		return (uint8_t)(UNIT_MOVABLE_EMPTY + fill);
	case UNIT_IMMOVABLE:
	case UNIT_STATES:
		break;
	}
	return (uint8_t)(UNIT_IMMOVABLE_EMPTY + fill);
}

/* The one place where a unit changes (M1, M2). */
static void unit_update(struct vmem_driver *drv, uint32_t u, enum unit_state state, uint32_t nr)
{
	struct unit *unit = &drv->units[u];
	uint8_t class = unit_class_of(drv, state, nr);

	drv->plugged_in[vd_unit_state(unit)] -= unit->nr_plugged;
	drv->plugged_in[state] += nr;
	drv->nr_plugged = drv->nr_plugged - unit->nr_plugged + nr;
	unit->nr_plugged = nr;
	if (class == unit->class)
		return;
	if (!--drv->nr_class[unit->class]) {
		drv->class_low[unit->class] = drv->nr_units;
		drv->class_high[unit->class] = 0;
	}
	unit->class = class;
	drv->nr_class[class]++;
	if (u < drv->class_low[class])
		drv->class_low[class] = u;
	if (u >= drv->class_high[class])
		drv->class_high[class] = u + 1;
}

void vd_map_init(struct vmem_driver *drv)
{
	for (uint32_t c = 0; c < UNIT_CLASSES; c++)
		drv->class_low[c] = drv->nr_units;
	drv->nr_class[UNIT_ABSENT_EMPTY] = drv->nr_units;
	drv->class_low[UNIT_ABSENT_EMPTY] = 0;
	drv->class_high[UNIT_ABSENT_EMPTY] = drv->nr_units;
	for (uint32_t u = 0; u < drv->nr_units; u++)
		drv->units[u].used = UNIT_USED_UNKNOWN;
}

void vd_unit_set_state(struct vmem_driver *drv, uint32_t unit, enum unit_state state)
{
	unit_update(drv, unit, state, drv->units[unit].nr_plugged);
}

void vd_map_set_plugged(struct vmem_driver *drv, struct run run, bool plugged)
{
	uint32_t end = run.first + run.nr;

	for (uint32_t from = run.first; from < end;) {
		uint32_t u = vd_chunk_unit(drv, from);
		uint32_t to = vd_unit_end(drv, u) < end ? vd_unit_end(drv, u) : end;
		uint32_t before = bits_count(drv->plugged, from, to);
		uint32_t nr = drv->units[u].nr_plugged - before;

		vd_bits_set(drv->plugged, from, to - from, plugged);
		unit_update(drv, u, vd_unit_state(&drv->units[u]), plugged ? nr + (to - from) : nr);
		from = to;
	}
	if (drv->held.nr)
		vd_map_hold(drv, drv->held);
}

struct run vd_map_last_plugged(const struct vmem_driver *drv, uint32_t from, uint32_t end)
{
	uint32_t last = vd_bits_last(drv->plugged, from, end, true);
	uint32_t first = vd_bits_last(drv->plugged, from, last, false);

	return (struct run){.first = first, .nr = last - first};
}

uint32_t vd_map_count_plugged(const struct vmem_driver *drv, struct run run)
{
	return bits_count(drv->plugged, run.first, run.first + run.nr);
}

bool vd_run_has(struct run run, uint32_t chunk)
{
	return chunk >= run.first && chunk - run.first < run.nr;
}

void vd_map_hold(struct vmem_driver *drv, struct run run)
{
	uint32_t end = vd_bits_last(drv->plugged, run.first, run.first + run.nr, true);
	uint32_t first = vd_bits_next(drv->plugged, run.first, end, true);

	drv->held = (struct run){.first = first, .nr = end - first};
	drv->nr_held = vd_map_count_plugged(drv, drv->held);
}

void vd_map_unhold(struct vmem_driver *drv, uint32_t to)
{
	uint32_t end = drv->held.first + drv->held.nr;

	if (to > end)
		to = end;
	vd_map_hold(drv, (struct run){.first = to, .nr = end - to});
}

uint32_t vd_class_next(struct vmem_driver *drv, enum unit_class class, uint32_t from, uint32_t end)
{
	uint32_t u = from > drv->class_low[class] ? from : drv->class_low[class];
	uint32_t high = drv->class_high[class] < end ? drv->class_high[class] : end;

	while (u < high && drv->units[u].class != class)
		u++;
	if (from <= drv->class_low[class] && u < high)
		drv->class_low[class] = u;
	return u < high ? u : end;
}

uint32_t vd_class_last(struct vmem_driver *drv, enum unit_class class, uint32_t end)
{
	uint32_t u = end < drv->class_high[class] ? end : drv->class_high[class];

	while (u > drv->class_low[class] && drv->units[u - 1].class != class)
		u--;
	if (u <= drv->class_low[class])
		return 0;
	if (end >= drv->class_high[class])
		drv->class_high[class] = u;
	return u;
}
