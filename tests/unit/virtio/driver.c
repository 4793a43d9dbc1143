/* SPDX-License-Identifier: BSD-3-Clause */
/* The driver's side of virtqueues, for tests: see driver.h. */
#include "tests/unit/virtio/driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/num.h"

enum { NEXT = 1, WRITE = 2, INDIRECT = 4, AVAIL = 1 << 7, USED = 1 << 15 };

/* Both formats: 16 bytes; split has flags and next, packed has id and flags at the end. */
struct desc {
	le64 addr;
	le32 len;
	le16 a, b;
};

void guest_init(struct guest *g)
{
	g->gm = gm_new();
	g->ram = aligned_alloc(4096, GUEST_SIZE);
	g->used = 0;
	assert_non_null(g->gm);
	assert_non_null(g->ram);
	memset(g->ram, 0, GUEST_SIZE);
	assert_int_equal(gm_add_ram(g->gm, (struct range){GUEST_BASE, GUEST_SIZE}, g->ram), 0);
}

void guest_done(struct guest *g)
{
	gm_free(g->gm);
	free(g->ram);
}

uint64_t guest_alloc(struct guest *g, uint64_t bytes, uint64_t align)
{
	uint64_t at = 0;

	assert_true(num_align_up(g->used, align, &at));
	assert_true(at + bytes <= GUEST_SIZE);
	g->used = at + bytes;
	memset(g->ram + at, 0, bytes);
	return GUEST_BASE + at;
}

void *guest_ptr(struct guest *g, uint64_t gpa)
{
	assert_true(gpa >= GUEST_BASE && gpa < GUEST_BASE + GUEST_SIZE);
	return g->ram + (gpa - GUEST_BASE);
}

static uint16_t load16(struct driver *d, uint64_t gpa)
{
	return le16toh(__atomic_load_n((uint16_t *)guest_ptr(d->g, gpa), __ATOMIC_ACQUIRE));
}

static void store16(struct driver *d, uint64_t gpa, uint16_t v)
{
	__atomic_store_n((uint16_t *)guest_ptr(d->g, gpa), htole16(v), __ATOMIC_RELEASE);
}

static void barrier(void)
{
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
#endif
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
}

static struct desc *desc_at(struct driver *d, unsigned int i)
{
	return guest_ptr(d->g, d->layout.desc_gpa + 16 * (uint64_t)i);
}

void driver_init(struct driver *d, struct guest *g, const struct vq_layout *layout)
{
	uint16_t size = layout->size;

	memset(d, 0, sizeof(*d));
	d->g = g;
	d->layout = *layout;
	d->layout.desc_gpa = guest_alloc(g, 16 * (uint64_t)size, 16);
	d->layout.driver_gpa = guest_alloc(g, layout->packed ? 4 : 6 + 2 * (uint64_t)size, 4);
	d->layout.device_gpa = guest_alloc(g, layout->packed ? 4 : 6 + 8 * (uint64_t)size, 4);
	if (layout->indirect_desc)
		d->table_gpa = guest_alloc(g, 16 * (uint64_t)size * size, 16);
	d->free = size;
	d->avail_wrap = d->used_wrap = true;
	for (uint16_t i = 0; i < size; i++)
		d->next_free[i] = (uint16_t)(i + 1);
}

/* An indirect table with the buffers, for the chain @id. Its address. */
static uint64_t write_table(struct driver *d, unsigned int id, const struct driver_buffer *buffers,
			    unsigned int n)
{
	uint64_t gpa = d->table_gpa + 16 * (uint64_t)d->layout.size * id;
	struct desc *table = guest_ptr(d->g, gpa);

	for (unsigned int i = 0; i < n; i++) {
		uint16_t flags = buffers[i].write ? WRITE : 0;

		if (!d->layout.packed && i + 1 < n)
			flags |= NEXT;
		table[i].addr = le64_make(buffers[i].gpa);
		table[i].len = le32_make(buffers[i].len);
		table[i].a = le16_make(d->layout.packed ? 0 : flags);
		table[i].b = le16_make(d->layout.packed ? flags : (uint16_t)(i + 1));
	}
	return gpa;
}

static int split_add(struct driver *d, const struct driver_buffer *buffers, unsigned int n)
{
	uint16_t head = d->first_free, at = head;

	for (unsigned int i = 0; i < n; i++) {
		uint16_t flags = buffers[i].write ? WRITE : 0;
		struct desc *desc = desc_at(d, at);

		if (i + 1 < n)
			flags |= NEXT;
		desc->addr = le64_make(buffers[i].gpa);
		desc->len = le32_make(buffers[i].len);
		desc->a = le16_make(flags);
		desc->b = le16_make(i + 1 < n ? d->next_free[at] : 0);
		at = d->next_free[at];
	}
	d->first_free = at;
	d->slots[head] = (uint16_t)n;
	return head;
}

static void split_publish(struct driver *d, uint16_t head)
{
	uint64_t ring = d->layout.driver_gpa + 4;

	store16(d, ring + 2 * (uint64_t)(d->avail % d->layout.size), head);
	d->avail++;
	store16(d, d->layout.driver_gpa + 2, d->avail);
	d->unkicked++;
}

static int packed_add(struct driver *d, const struct driver_buffer *buffers, unsigned int n,
		      uint16_t extra_flags, uint16_t id)
{
	uint16_t first = d->avail, first_flags = 0;

	for (unsigned int i = 0; i < n; i++) {
		uint16_t flags =
			(uint16_t)((buffers[i].write ? WRITE : 0) | extra_flags |
				   (i + 1 < n ? NEXT : 0) | (d->avail_wrap ? AVAIL : USED));
		struct desc *desc = desc_at(d, d->avail);

		desc->addr = le64_make(buffers[i].gpa);
		desc->len = le32_make(buffers[i].len);
		desc->a = le16_make(id);
		if (i == 0)
			first_flags = flags;
		else
			desc->b = le16_make(flags);
		d->avail++;
		if (d->avail == d->layout.size) {
			d->avail = 0;
			d->avail_wrap = !d->avail_wrap;
		}
	}
	store16(d, d->layout.desc_gpa + 16 * (uint64_t)first + 14, first_flags);
	d->unkicked = (uint16_t)(d->unkicked + n);
	d->slots[id] = (uint16_t)n;
	return id;
}

int driver_add(struct driver *d, const struct driver_buffer *buffers, unsigned int n, bool indirect)
{
	struct driver_buffer table;
	uint16_t id = d->first_free;
	unsigned int slots = indirect ? 1 : n;

	if (slots > d->free)
		return -1;
	if (d->layout.packed)
		for (id = 0; d->slots[id]; id++)
			;
	if (indirect) {
		table = (struct driver_buffer){write_table(d, id, buffers, n), 16 * n, false};
		buffers = &table;
	}
	d->free -= slots;
	if (d->layout.packed)
		return packed_add(d, buffers, slots, indirect ? INDIRECT : 0, id);
	split_add(d, buffers, slots);
	if (indirect)
		desc_at(d, id)->a = le16_make(INDIRECT);
	split_publish(d, id);
	return id;
}

static bool passed(uint16_t event, uint16_t now, uint16_t before)
{
	return (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}

static bool packed_kick_needed(struct driver *d, uint16_t added)
{
	uint32_t v = le32toh(__atomic_load_n((uint32_t *)guest_ptr(d->g, d->layout.device_gpa),
					     __ATOMIC_ACQUIRE));
	uint16_t event = v & 0x7fff;

	if ((v >> 16 & 3) != 2)
		return (v >> 16 & 3) == 0;
	if ((bool)(v & 0x8000) != d->avail_wrap)
		event = (uint16_t)(event - d->layout.size);
	return passed(event, d->avail, (uint16_t)(d->avail - added));
}

bool driver_kick_needed(struct driver *d)
{
	uint16_t added = d->unkicked;

	d->unkicked = 0;
	barrier();
	if (d->layout.packed)
		return packed_kick_needed(d, added);
	if (d->layout.event_idx)
		return passed(load16(d, d->layout.device_gpa + 4 + 8 * (uint64_t)d->layout.size),
			      d->avail, (uint16_t)(d->avail - added));
	return !(load16(d, d->layout.device_gpa) & 1);
}

static bool split_get_used(struct driver *d, uint16_t *ret_id, uint32_t *ret_len)
{
	struct {
		le32 id, len;
	} elem;

	if (load16(d, d->layout.device_gpa + 2) == d->used)
		return false;
	memcpy(&elem,
	       guest_ptr(d->g, d->layout.device_gpa + 4 + 8 * (d->used % (uint64_t)d->layout.size)),
	       8);
	d->used++;
	assert_true(le32_get(elem.id) < d->layout.size);
	*ret_id = (uint16_t)le32_get(elem.id);
	*ret_len = le32_get(elem.len);
	return true;
}

static bool packed_get_used(struct driver *d, uint16_t *ret_id, uint32_t *ret_len)
{
	uint16_t flags = load16(d, d->layout.desc_gpa + 16 * (uint64_t)d->used + 14);
	struct desc *desc = desc_at(d, d->used);

	if (!!(flags & AVAIL) != d->used_wrap || !!(flags & USED) != d->used_wrap)
		return false;
	*ret_id = le16_get(desc->a);
	assert_true(*ret_id < d->layout.size && d->slots[*ret_id]);
	*ret_len = flags & WRITE ? le32_get(desc->len) : 0;
	d->used = (uint16_t)(d->used + d->slots[*ret_id]);
	if (d->used >= d->layout.size) {
		d->used = (uint16_t)(d->used - d->layout.size);
		d->used_wrap = !d->used_wrap;
	}
	return true;
}

bool driver_get_used(struct driver *d, uint16_t *ret_id, uint32_t *ret_len)
{
	uint16_t last;

	if (!(d->layout.packed ? packed_get_used : split_get_used)(d, ret_id, ret_len))
		return false;
	assert_true(d->slots[*ret_id]);
	d->free += d->slots[*ret_id];
	if (!d->layout.packed) {
		/* The chain's descriptors are still linked to each other; put them in front. */
		last = *ret_id;
		for (unsigned int i = 1; i < d->slots[*ret_id]; i++)
			last = le16_get(desc_at(d, last)->b);
		d->next_free[last] = d->first_free;
		d->first_free = *ret_id;
	}
	d->slots[*ret_id] = 0;
	return true;
}

void driver_interrupts(struct driver *d, bool on, uint16_t later)
{
	uint16_t event = (uint16_t)(d->used + later);
	bool wrap = d->used_wrap;
	uint32_t v = on ? 0 : 1;

	if (d->layout.packed) {
		if (on && d->layout.event_idx) {
			if (event >= d->layout.size) {
				event = (uint16_t)(event - d->layout.size);
				wrap = !wrap;
			}
			v = 2u << 16 | event | (wrap ? 0x8000u : 0);
		} else {
			v <<= 16;
		}
		__atomic_store_n((uint32_t *)guest_ptr(d->g, d->layout.driver_gpa), htole32(v),
				 __ATOMIC_RELEASE);
	} else if (d->layout.event_idx) {
		/* Off: a point that is a long way ahead. */
		store16(d, d->layout.driver_gpa + 4 + 2 * (uint64_t)d->layout.size,
			on ? event : (uint16_t)(d->used + 0x8000));
	} else {
		store16(d, d->layout.driver_gpa, (uint16_t)v);
	}
	barrier();
}
