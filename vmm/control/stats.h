/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The figures of one memory device, taken at one time, for those who tell them: stats.c to programs
 * and people, metrics_text.c to scrapers.
 *
 * Threads: the main loop's only. Nothing here waits.
 */
#ifndef VMM_CONTROL_STATS_H
#define VMM_CONTROL_STATS_H

#include <jansson.h>

#include <vmem/guard.h>

#include "vmm/virtio/mem.h"

struct figure_visit;
struct vm;
struct vm_memory_device;

struct mem_sample {
	struct vmem_device_info info;
	struct virtio_mem_stats stats;
	struct virtio_mem_violations violations;
	struct vmem_guard_info guard;
	struct virtio_mem_size_stats size;
};

void control_mem_sample(const struct vm_memory_device *device, struct mem_sample *ret);
/* For query-stats (figures.h); those of size requests where they are taken. */
void control_mem_figures(const struct mem_sample *sample, const struct figure_visit *visit);

/* Where the device is in the object tree: a string, or NULL. In query_virtio_mem.c. */
json_t *control_mem_path(const struct vm *vm, const struct vm_memory_device *device);

#endif
