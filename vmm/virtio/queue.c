/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Virtqueues: what both ring formats share. See queue.h for the contract, queue_ring.h for the
 * inside, queue_split.c and queue_packed.c for the formats.
 */
#include "vmm/virtio/queue.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/pack.h"
#include "vmm/virtio/queue_ring.h"

/* 2.7.5: no chain is longer in total. */
#define VQ_CHAIN_BYTES_MAX (UINT64_C(1) << 32)

struct vq *vq_new(struct gm *gm, uint16_t max_size)
{
	struct vq *vq;

	assert(max_size && max_size <= VQ_SIZE_MAX);
	vq = calloc(1, sizeof(*vq));
	if (!vq)
		return NULL;
	vq->gm = gm;
	vq->max_size = max_size;
	return vq;
}

void vq_free(struct vq *vq)
{
	free(vq);
}

struct vq_chain *vq_chain_new(const struct vq *vq)
{
	struct vq_chain *chain = calloc(1, sizeof(*chain));

	if (!chain)
		return NULL;
	chain->segments = calloc(vq->max_size, sizeof(*chain->segments));
	if (!chain->segments) {
		free(chain);
		return NULL;
	}
	chain->capacity = vq->max_size;
	return chain;
}

void vq_chain_free(struct vq_chain *chain)
{
	if (!chain)
		return;
	free(chain->segments);
	free(chain);
}

static void vq_chain_clear(struct vq_chain *chain)
{
	chain->nr_readable = 0;
	chain->nr_writable = 0;
	chain->readable_bytes = 0;
	chain->writable_bytes = 0;
}

static const struct vq_format *vq_format_of(const struct vq_layout *layout)
{
	return layout->packed ? &vq_format_packed : &vq_format_split;
}

/* 0; -EINVAL for a layout that no ring has, else -EFAULT for one that is not in guest memory. */
static int vq_check_layout(const struct vq *vq, const struct vq_layout *layout)
{
	const struct vq_format *format = vq_format_of(layout);
	uint64_t size = layout->size;
	const struct {
		struct range at;
		unsigned int align;
	} areas[] = {
		{{layout->desc_gpa, size * VIRTQ_DESC_SIZE}, VIRTQ_DESC_SIZE},
		{{layout->driver_gpa, format->driver_bytes + size * format->driver_entry_bytes},
		 format->driver_align},
		{{layout->device_gpa, format->device_bytes + size * format->device_entry_bytes},
		 format->device_align},
	};
	int ret = 0;

	if (!size || size > vq->max_size || (!format->any_size && !num_is_pow2(size)))
		return -EINVAL;
	for (unsigned int i = 0; i < ARRAY_SIZE(areas); i++) {
		if (!num_is_aligned(areas[i].at.start, areas[i].align) || !range_valid(areas[i].at))
			return -EINVAL;
		if (!gm_valid(vq->gm, areas[i].at.start, areas[i].at.size))
			ret = -EFAULT;
	}
	return ret;
}

static void vq_begin(struct vq *vq, const struct vq_layout *layout)
{
	*vq = (struct vq){
		.gm = vq->gm,
		.max_size = vq->max_size,
		.format = vq_format_of(layout),
		.layout = *layout,
		.epoch = vq->epoch,
		.avail_wrap = true,
		.used_wrap = true,
	};
}

int vq_start(struct vq *vq, const struct vq_layout *layout)
{
	int ret;

	assert(!vq->format);
	ret = vq_check_layout(vq, layout);
	if (!ret)
		vq_begin(vq, layout);
	return ret;
}

void vq_stop(struct vq *vq)
{
	vq->format = NULL;
	vq->error = 0;
	vq->epoch++;
}

bool vq_started(const struct vq *vq)
{
	return vq->format;
}

uint16_t vq_size(const struct vq *vq)
{
	return vq->format ? vq->layout.size : 0;
}

/* Nothing to do for a queue in this state? Then *ret_result is the answer. */
static bool vq_is_idle(const struct vq *vq, int *ret_result)
{
	if (vq->format && !vq->error)
		return false;
	*ret_result = vq->format ? vq->error : 0;
	return true;
}

/* Passes a format's answer on; remembers a bad ring (I4). */
static int vq_result(struct vq *vq, int ret)
{
	if (ret < 0)
		vq->error = ret;
	return ret;
}

int vq_pop(struct vq *vq, struct vq_chain *chain)
{
	int ret;

	assert(chain->capacity >= vq->max_size);
	vq_chain_clear(chain);
	if (vq_is_idle(vq, &ret))
		return ret;
	ret = vq_result(vq, vq->format->pop(vq, chain));
	if (ret <= 0) {
		vq_chain_clear(chain);
		return ret;
	}
	chain->epoch = vq->epoch;
	vq->in_flight += chain->slots;
	assert(vq->in_flight <= vq->layout.size);
	return 1;
}

int vq_push(struct vq *vq, const struct vq_chain *chain, uint32_t written)
{
	int ret;

	if (chain->epoch != vq->epoch)
		return 0;
	if (vq_is_idle(vq, &ret))
		return ret;
	assert(written <= chain->writable_bytes);
	assert(vq->in_flight >= chain->slots);
	ret = vq_result(vq, vq->format->push(vq, chain, written));
	if (ret)
		return ret;
	vq->in_flight -= chain->slots;
	vq->unsignalled += chain->slots;
	return 0;
}

int vq_notify_needed(struct vq *vq)
{
	int ret;

	if (vq_is_idle(vq, &ret))
		return ret;
	if (!vq->unsignalled)
		return 0;
	/* The used index or flags were stored; the driver's wish is loaded next. */
	vq_full_barrier();
	ret = vq_result(vq, vq->format->notify_needed(vq));
	vq->unsignalled = 0;
	return ret;
}

int vq_kick_disable(struct vq *vq)
{
	int ret;

	if (vq_is_idle(vq, &ret))
		return ret;
	if (vq->kicks_off)
		return 0;
	vq->kicks_off = true;
	return vq_result(vq, vq->format->kick_disable(vq));
}

int vq_kick_enable(struct vq *vq)
{
	int ret;

	if (vq_is_idle(vq, &ret))
		return ret;
	ret = vq->format->kick_enable(vq);
	vq->kicks_off = false;
	if (ret)
		return vq_result(vq, ret);
	/* The wish for kicks was stored; a chain that came before it was seen is loaded next. */
	vq_full_barrier();
	return vq_result(vq, vq->format->available(vq));
}

int vq_chain_add(const struct vq *vq, struct vq_chain *chain, unsigned int *steps, uint64_t gpa,
		 uint32_t len, bool writable)
{
	uint64_t *bytes = writable ? &chain->writable_bytes : &chain->readable_bytes;

	if (*steps >= vq->layout.size)
		return -E2BIG;
	++*steps;
	if (!writable && chain->nr_writable)
		return -EINVAL;
	if (!range_valid((struct range){gpa, len}))
		return -EINVAL;
	if (!len)
		return 0;
	if (chain->readable_bytes + chain->writable_bytes + len > VQ_CHAIN_BYTES_MAX)
		return -E2BIG;
	chain->segments[chain->nr_readable + chain->nr_writable] = (struct vq_segment){gpa, len};
	*bytes += len;
	if (writable)
		chain->nr_writable++;
	else
		chain->nr_readable++;
	return 0;
}

int vq_table_init(struct vq_table *table, const struct vq *vq, uint64_t gpa, uint32_t len)
{
	if (!vq->layout.indirect_desc || !len || len % VIRTQ_DESC_SIZE ||
	    !range_valid((struct range){gpa, len}))
		return -EINVAL;
	table->gm = vq->gm;
	table->gpa = gpa;
	table->entries = len / VIRTQ_DESC_SIZE;
	table->step = ARRAY_SIZE(table->window);
	table->first = 0;
	table->count = 0;
	return 0;
}

int vq_table_get(struct vq_table *table, uint32_t index, struct vq_desc *ret_desc)
{
	if (index < table->first || index - table->first >= table->count) {
		uint32_t count = (uint32_t)num_min(table->step, table->entries - index);
		int ret = gm_read(table->gm, table->gpa + (uint64_t)index * VIRTQ_DESC_SIZE,
				  table->window, count * sizeof(table->window[0]));

		if (ret)
			return ret;
		table->first = index;
		table->count = count;
	}
	*ret_desc = table->window[index - table->first];
	return 0;
}

/* Copy between @buf and bytes [offset, offset + size) of @nr segments; range checked by callers. */
static int vq_segments_copy(struct vq *vq, const struct vq_segment *segments, unsigned int nr,
			    uint64_t offset, char *buf, size_t size, bool to_guest)
{
	for (unsigned int i = 0; i < nr && size; i++) {
		size_t part;
		uint64_t gpa;
		int ret;

		if (offset >= segments[i].len) {
			offset -= segments[i].len;
			continue;
		}
		part = (size_t)num_min(segments[i].len - offset, size);
		gpa = segments[i].gpa + offset;
		ret = to_guest ? gm_write(vq->gm, gpa, buf, part) : gm_read(vq->gm, gpa, buf, part);
		if (ret)
			return ret;
		buf += part;
		size -= part;
		offset = 0;
	}
	return 0;
}

/* May [offset, offset + size) of a part with @total bytes be accessed? 0 or the answer. */
static int vq_chain_check(const struct vq *vq, const struct vq_chain *chain, uint64_t total,
			  uint64_t offset, size_t size)
{
	uint64_t end;

	if (chain->epoch != vq->epoch || !vq->format)
		return -ESTALE;
	if (vq->error)
		return vq->error;
	return num_add(offset, size, &end) && end <= total ? 0 : -EINVAL;
}

int vq_chain_read(struct vq *vq, const struct vq_chain *chain, uint64_t offset, void *buf,
		  size_t size)
{
	int ret = vq_chain_check(vq, chain, chain->readable_bytes, offset, size);

	if (ret)
		return ret;
	return vq_segments_copy(vq, chain->segments, chain->nr_readable, offset, buf, size, false);
}

int vq_chain_write(struct vq *vq, const struct vq_chain *chain, uint64_t offset, const void *buf,
		   size_t size)
{
	int ret = vq_chain_check(vq, chain, chain->writable_bytes, offset, size);

	if (ret)
		return ret;
	/* The cast only serves the shared loop, which does not write to buf in this direction. */
	return vq_segments_copy(vq, chain->segments + chain->nr_readable, chain->nr_writable,
				offset, (char *)buf, size, true);
}

/*
 * Popped chains take descriptors in order and pushed ones give them back in the same (I7): without
 * those in flight, the next chain to take is where the next used one goes.
 */
void vq_save(const struct vq *vq, struct pack *out)
{
	assert(vq->format);
	pack_u16(out, vq->next_used);
	pack_bool(out, vq->used_wrap);
	/* More than a whole ring is as good as any number above that. */
	pack_u32(out, (uint32_t)num_min(vq->unsignalled, vq->layout.size + 1u));
	pack_bool(out, vq->kicks_off);
	pack_bool(out, vq->error);
}

int vq_load(struct vq *vq, const struct vq_layout *layout, struct unpack *in)
{
	uint16_t next = unpack_u16(in);
	bool wrap = unpack_bool(in);
	uint32_t unsignalled = unpack_u32_max(in, layout->size + 1u);
	bool kicks_off = unpack_bool(in), bad = unpack_bool(in);
	int ret;

	assert(!vq->format);
	if (unpack_failed(in) || (layout->packed ? next >= layout->size : !wrap))
		return -EINVAL;
	ret = vq_check_layout(vq, layout);
	if (ret == -EINVAL)
		return ret;
	vq_begin(vq, layout);
	vq->next_avail = vq->next_used = vq->seen_avail = next;
	vq->avail_wrap = vq->used_wrap = wrap;
	vq->unsignalled = unsignalled;
	vq->kicks_off = kicks_off;
	vq->error = bad ? -EINVAL : ret;
	return 0;
}
