/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where in a memory device's region memory is plugged, for people to look at: bytes per cell.
 * Inside of the virtio-mem device.
 *
 * The engine's map of blocks is guarded by the device lock, which a long plug holds. So the figures
 * are kept a second time, coarser: the region is cut into MEM_CELLS_MAX cells at most, each a power
 * of two of blocks.
 *
 * I1  After each change of blocks a cell holds the bytes of its blocks that are plugged and in the
 *     guest's reach (not faulted: <vmem/device.h>, I5). Each cell is current by itself.
 * I2  Reading takes time for MEM_CELLS_MAX cells, whatever the size of the region, and no lock.
 *
 * Threads: mem_cells_add(), mem_cells_sub(), mem_cells_clear() and mem_cells_rebuild() with the
 * device lock held; mem_cells_get() on any thread.
 */
#ifndef VMM_VIRTIO_MEM_CELLS_H
#define VMM_VIRTIO_MEM_CELLS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct vmem_device;

#define MEM_CELLS_MAX 4096u

struct mem_cells {
	/* immutable */
	uint64_t region_size;
	unsigned int shift; /* of a cell's size */
	size_t nr;
	_Atomic uint64_t *bytes;
};

/* All empty. 0 or -ENOMEM; mem_cells_done() in both cases. */
int mem_cells_init(struct mem_cells *cells, uint64_t region_size, uint64_t block_size);
void mem_cells_done(struct mem_cells *cells);

/* Blocks of the run became plugged, all of them; or unplugged. */
void mem_cells_add(struct mem_cells *cells, uint64_t offset, uint64_t size);
void mem_cells_sub(struct mem_cells *cells, uint64_t offset, uint64_t size);
void mem_cells_clear(struct mem_cells *cells);
/* As the engine has it. No reader sees a cell emptier than before and after. */
void mem_cells_rebuild(struct mem_cells *cells, const struct vmem_device *engine);

/*
 * Fill in @max cells at most (1 or more), each a power of two of bytes that covers at least one
 * cell of ours. Returns how many there are.
 */
size_t mem_cells_get(const struct mem_cells *cells, uint64_t *ret_bytes, size_t max,
		     uint64_t *ret_cell_size);

#endif
