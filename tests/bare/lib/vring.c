/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Both kinds of virtqueue.
 */
#include <stddef.h>

#include "cpu.h"
#include "mem.h"
#include "power.h"
#include "text.h"
#include "vring.h"

#define AVAIL_NO_INTERRUPT 1u
#define USED_NO_NOTIFY     1u
#define EVENT_ENABLE       0u
#define EVENT_DISABLE      1u
#define EVENT_DESC         2u
#define SIZE_MAX_RING      256u
#define RING_PAGES         3u

static uint16_t load16(const uint16_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void store16(uint16_t *p, uint16_t value)
{
	__atomic_store_n(p, value, __ATOMIC_RELEASE);
}

static uint16_t *vring_used_event(struct vring *vring)
{
	return &vring->driver[2 + vring->size];
}

static const uint16_t *vring_avail_event(const struct vring *vring)
{
	return &vring->device[2 + vring->size * 4];
}

void vring_init(struct vring *vring, uint16_t size, bool packed, bool event_idx, bool indirect,
		bool interrupts)
{
	struct vring_desc *desc = vring->desc, *tables = vring->tables;

	if (size == 0 || size > SIZE_MAX_RING)
		power_die("vring: size");
	if (desc == NULL) {
		desc = mem_pages(RING_PAGES);
		tables = mem_pages(SIZE_MAX_RING * VRING_CHAIN * sizeof(*tables) / MEM_PAGE_BYTES);
	}
	memset(vring, 0, sizeof(*vring));
	memset(desc, 0, RING_PAGES * MEM_PAGE_BYTES);
	vring->packed = packed;
	vring->event_idx = event_idx;
	vring->indirect = indirect;
	vring->interrupts = interrupts;
	vring->size = size;
	vring->desc = desc;
	vring->driver = (uint16_t *)((uint64_t)desc + MEM_PAGE_BYTES);
	vring->device = (uint16_t *)((uint64_t)desc + 2 * MEM_PAGE_BYTES);
	vring->tables = tables;
	vring->avail_wrap = true;
	vring->used_wrap = true;
	if (packed)
		vring->driver[1] = (uint16_t)(interrupts ? EVENT_ENABLE : EVENT_DISABLE);
	else if (!event_idx)
		vring->driver[0] = (uint16_t)(interrupts ? 0 : AVAIL_NO_INTERRUPT);
}

static uint16_t packed_flags(bool wrap, uint16_t flags)
{
	return (uint16_t)(flags | (wrap ? VRING_AVAIL : VRING_USED));
}

/* Fill the indirect table that belongs to descriptor @head; gives its one segment. */
static struct vring_segment vring_fill_table(struct vring *vring, uint16_t head,
					     const struct vring_segment *segments,
					     unsigned int count)
{
	struct vring_desc *table = &vring->tables[head * VRING_CHAIN];

	for (unsigned int i = 0; i < count; i++) {
		uint16_t write = segments[i].write ? VRING_WRITE : 0;

		table[i].addr = segments[i].gpa;
		table[i].len = segments[i].size;
		if (vring->packed) {
			table[i].packed.id = 0;
			table[i].packed.flags = write;
		} else {
			table[i].split.flags = (uint16_t)(write | (i + 1 < count ? VRING_NEXT : 0));
			table[i].split.next = (uint16_t)(i + 1);
		}
	}
	return (struct vring_segment){(uint64_t)table, (uint32_t)(count * sizeof(*table)), false};
}

static void vring_add_split(struct vring *vring, const struct vring_segment *segments,
			    unsigned int count, uint16_t extra)
{
	unsigned int mask = vring->size - 1u;
	uint16_t head = (uint16_t)(vring->next & mask);

	for (unsigned int i = 0; i < count; i++) {
		unsigned int at = (vring->next + i) & mask;
		struct vring_desc *desc = &vring->desc[at];

		desc->addr = segments[i].gpa;
		desc->len = segments[i].size;
		desc->split.flags = (uint16_t)(extra | (segments[i].write ? VRING_WRITE : 0) |
					       (i + 1 < count ? VRING_NEXT : 0));
		desc->split.next = (uint16_t)((at + 1) & mask);
	}
	vring->next = (uint16_t)(vring->next + count);
	vring->chain[head] = (uint16_t)count;
	vring->driver[2 + (vring->avail_idx & mask)] = head;
	vring->avail_idx++;
	store16(&vring->driver[1], vring->avail_idx);
}

static void vring_add_packed(struct vring *vring, const struct vring_segment *segments,
			     unsigned int count, uint16_t extra)
{
	struct vring_desc *first = &vring->desc[vring->next];
	uint16_t id = vring->next, first_flags = 0;

	for (unsigned int i = 0; i < count; i++) {
		struct vring_desc *desc = &vring->desc[vring->next];
		uint16_t flags =
			packed_flags(vring->avail_wrap,
				     (uint16_t)(extra | (segments[i].write ? VRING_WRITE : 0) |
						(i + 1 < count ? VRING_NEXT : 0)));

		desc->addr = segments[i].gpa;
		desc->len = segments[i].size;
		desc->packed.id = id;
		if (i == 0)
			first_flags = flags;
		else
			desc->packed.flags = flags;
		if (++vring->next == vring->size) {
			vring->next = 0;
			vring->avail_wrap = !vring->avail_wrap;
		}
	}
	vring->chain[id] = (uint16_t)count;
	vring->avail_idx = (uint16_t)(vring->avail_idx + count);
	store16(&first->packed.flags, first_flags);
}

bool vring_add(struct vring *vring, const struct vring_segment *segments, unsigned int count)
{
	struct vring_segment table;
	uint16_t extra = 0;

	if (count == 0 || count > VRING_CHAIN)
		power_die("vring: chain");
	if ((vring->indirect ? 1 : count) > (unsigned int)(vring->size - vring->outstanding))
		return false;
	if (vring->indirect) {
		uint16_t head =
			vring->packed ? vring->next : vring->next & (uint16_t)(vring->size - 1);

		table = vring_fill_table(vring, head, segments, count);
		segments = &table;
		count = 1;
		extra = VRING_INDIRECT;
	}
	vring->outstanding = (uint16_t)(vring->outstanding + count);
	if (vring->packed)
		vring_add_packed(vring, segments, count, extra);
	else
		vring_add_split(vring, segments, count, extra);
	return true;
}

/* Did the position go over @event on the way from @from to @to? (2.7.7.2) */
static bool vring_passed(uint16_t event, uint16_t to, uint16_t from)
{
	return (uint16_t)(to - event - 1) < (uint16_t)(to - from);
}

static bool vring_kick_needed_packed(const struct vring *vring, uint16_t added)
{
	uint16_t off_wrap = load16(&vring->device[0]), flags = load16(&vring->device[1]) & 3;
	uint16_t event = off_wrap & 0x7fff, at = vring->next;

	if (flags != EVENT_DESC)
		return flags == EVENT_ENABLE;
	if ((off_wrap >> 15 != 0) != vring->avail_wrap)
		event = (uint16_t)(event - vring->size);
	return vring_passed(event, at, (uint16_t)(at - added));
}

bool vring_kick_needed(struct vring *vring)
{
	uint16_t from = vring->kicked_idx;

	vring->kicked_idx = vring->avail_idx;
	cpu_fence();
	if (vring->packed)
		return vring_kick_needed_packed(vring, (uint16_t)(vring->avail_idx - from));
	if (vring->event_idx)
		return vring_passed(load16(vring_avail_event(vring)), vring->avail_idx, from);
	return (load16(&vring->device[0]) & USED_NO_NOTIFY) == 0;
}

bool vring_has_used(const struct vring *vring)
{
	uint16_t flags;

	if (!vring->packed)
		return load16(&vring->device[1]) != vring->used_idx;
	flags = load16(&vring->desc[vring->used_idx].packed.flags);
	return ((flags & VRING_AVAIL) != 0) == vring->used_wrap &&
	       ((flags & VRING_USED) != 0) == vring->used_wrap;
}

static void vring_get_split(struct vring *vring, uint32_t *ret_id, uint32_t *ret_len)
{
	struct vring_used *ring = (struct vring_used *)&vring->device[2];
	struct vring_used *used = &ring[vring->used_idx & (vring->size - 1)];

	*ret_id = used->id;
	*ret_len = used->len;
	vring->used_idx++;
	if (vring->event_idx && vring->interrupts)
		store16(vring_used_event(vring), vring->used_idx);
}

static void vring_get_packed(struct vring *vring, uint32_t *ret_id, uint32_t *ret_len)
{
	struct vring_desc *desc = &vring->desc[vring->used_idx];
	uint16_t id = desc->packed.id;

	*ret_id = id;
	*ret_len = desc->len;
	vring->used_idx = (uint16_t)(vring->used_idx + (id < vring->size ? vring->chain[id] : 0));
	if (vring->used_idx >= vring->size) {
		vring->used_idx = (uint16_t)(vring->used_idx - vring->size);
		vring->used_wrap = !vring->used_wrap;
	}
	if (vring->event_idx && vring->interrupts) {
		vring->driver[0] = (uint16_t)(vring->used_idx | (vring->used_wrap ? 0x8000 : 0));
		store16(&vring->driver[1], EVENT_DESC);
	}
}

bool vring_get(struct vring *vring, uint32_t *ret_len)
{
	uint32_t id;

	if (!vring_has_used(vring))
		return false;
	if (vring->packed)
		vring_get_packed(vring, &id, ret_len);
	else
		vring_get_split(vring, &id, ret_len);
	cpu_fence();
	if (id >= vring->size || vring->chain[id] == 0)
		power_die("vring: the device used a chain that was not available");
	vring->outstanding = (uint16_t)(vring->outstanding - vring->chain[id]);
	vring->chain[id] = 0;
	return true;
}
