/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How far the last resize of a memory device got, from outside the guest: enum virtio_mem_progress.
 * Inside of the virtio-mem device.
 *
 * I1  No time passes while the machine is stopped: a guest that cannot run has not given up.
 * I2  Only a refusal for want of host memory, with nothing since that the guest could have, is
 *     "host-oom"; a driver that asks on and on for it does not count as working.
 *
 * Threads: mem_progress_stop() and _cont() on one, where mem_progress_get() and _idle_ms() are
 * called too; the others on any. None waits.
 */
#ifndef VMM_VIRTIO_MEM_PROGRESS_H
#define VMM_VIRTIO_MEM_PROGRESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/virtio/mem.h"

struct mem_progress {
	uint64_t (*now_ms)(void);
	_Atomic uint64_t moved_ms; /* when guest or monitor last did something about the size */
	_Atomic uint64_t stopped_since_ms; /* 0 while the machine runs */
	_Atomic uint64_t stopped_total_ms; /* by all stops that are over */
	_Atomic bool host_refused; /* the last plug request was refused for want of host memory */
};

/* @now_ms: a clock; NULL: the monotonic one. */
void mem_progress_init(struct mem_progress *p, uint64_t (*now_ms)(void));

/* Guest or monitor did something about the size. */
void mem_progress_moved(struct mem_progress *p);
/* A request that may change blocks was answered; @refused: the host had no memory for it. */
void mem_progress_answered(struct mem_progress *p, bool plug, bool refused);
/* The machine was reset. */
void mem_progress_reset(struct mem_progress *p);

void mem_progress_stop(struct mem_progress *p);
void mem_progress_cont(struct mem_progress *p);
bool mem_progress_stopped(const struct mem_progress *p);

/* The clock, which stands still while the machine is stopped. */
uint64_t mem_progress_now_ms(const struct mem_progress *p);
/* Since guest or monitor last did something about the size. */
uint64_t mem_progress_idle_ms(const struct mem_progress *p);

/* Of a device that a driver works with; @info was taken before. */
enum virtio_mem_progress mem_progress_get(const struct mem_progress *p,
					  const struct vmem_device_info *info);

#endif
