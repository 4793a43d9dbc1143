/* SPDX-License-Identifier: BSD-3-Clause */
/* Plugged bytes per part of the region: see mem_cells.h for the contract. */
#include "vmm/virtio/mem_cells.h"

#include <errno.h>
#include <stdlib.h>

#include <vmem/device.h>

#include "base/num.h"

static size_t cells_needed(uint64_t region_size, unsigned int shift)
{
	return region_size ? (size_t)((region_size - 1) >> shift) + 1 : 0;
}

int mem_cells_init(struct mem_cells *cells, uint64_t region_size, uint64_t block_size)
{
	unsigned int shift = (unsigned int)__builtin_ctzll(block_size);

	while (cells_needed(region_size, shift) > MEM_CELLS_MAX)
		shift++;
	*cells = (struct mem_cells){
		.region_size = region_size,
		.shift = shift,
		.nr = cells_needed(region_size, shift),
	};
	cells->bytes = calloc(cells->nr + 1, sizeof(*cells->bytes));
	return cells->bytes ? 0 : -ENOMEM;
}

void mem_cells_done(struct mem_cells *cells)
{
	free(cells->bytes);
	*cells = (struct mem_cells){.bytes = NULL};
}

static uint64_t cell_get(const struct mem_cells *cells, size_t i)
{
	return atomic_load_explicit(&cells->bytes[i], memory_order_relaxed);
}

static void cell_set(struct mem_cells *cells, size_t i, uint64_t bytes)
{
	atomic_store_explicit(&cells->bytes[i], bytes, memory_order_relaxed);
}

/* Sums modulo 2^64, so that taking away is adding as well. */
static void cells_change(struct mem_cells *cells, uint64_t offset, uint64_t size, bool add)
{
	while (size) {
		size_t i = (size_t)(offset >> cells->shift);
		uint64_t end = (uint64_t)(i + 1) << cells->shift;
		uint64_t part = num_min(size, end - offset);

		cell_set(cells, i, cell_get(cells, i) + (add ? part : 0 - part));
		offset += part;
		size -= part;
	}
}

void mem_cells_add(struct mem_cells *cells, uint64_t offset, uint64_t size)
{
	cells_change(cells, offset, size, true);
}

void mem_cells_sub(struct mem_cells *cells, uint64_t offset, uint64_t size)
{
	cells_change(cells, offset, size, false);
}

void mem_cells_clear(struct mem_cells *cells)
{
	for (size_t i = 0; i < cells->nr; i++)
		cell_set(cells, i, 0);
}

/* The cell that is being filled in; those below have their values. */
struct cells_rebuild {
	struct mem_cells *cells;
	size_t at;
	uint64_t bytes;
};

static void cells_rebuild_until(struct cells_rebuild *r, size_t cell)
{
	while (r->at < cell) {
		cell_set(r->cells, r->at++, r->bytes);
		r->bytes = 0;
	}
}

static int cells_rebuild_run(void *opaque, uint64_t offset, uint64_t size)
{
	struct cells_rebuild *r = opaque;
	unsigned int shift = r->cells->shift;

	while (size) {
		size_t i = (size_t)(offset >> shift);
		uint64_t part = num_min(size, ((uint64_t)(i + 1) << shift) - offset);

		cells_rebuild_until(r, i);
		r->bytes += part;
		offset += part;
		size -= part;
	}
	return 0;
}

void mem_cells_rebuild(struct mem_cells *cells, const struct vmem_device *engine)
{
	struct cells_rebuild r = {.cells = cells};

	vmem_device_for_each_plugged(engine, cells_rebuild_run, &r);
	cells_rebuild_until(&r, cells->nr);
}

size_t mem_cells_get(const struct mem_cells *cells, uint64_t *ret_bytes, size_t max,
		     uint64_t *ret_cell_size)
{
	unsigned int shift = cells->shift;
	size_t nr;

	while (cells_needed(cells->region_size, shift) > max)
		shift++;
	nr = cells_needed(cells->region_size, shift);
	for (size_t i = 0; i < nr; i++)
		ret_bytes[i] = 0;
	for (size_t i = 0; i < cells->nr; i++)
		ret_bytes[i >> (shift - cells->shift)] += cell_get(cells, i);
	*ret_cell_size = UINT64_C(1) << shift;
	return nr;
}
