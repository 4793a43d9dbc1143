/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a memory device's driver asked for and how long the answers took: struct virtio_mem_stats
 * (mem.h). Inside of the virtio-mem device.
 *
 * I1  The work and the memory for a request are constant, whatever the guest sends and how often.
 * I2  Readers wait for nobody and nobody waits for them: each figure is an atomic by itself. A set
 *     of figures that is read while a request is answered may have one of them newer than another.
 * I3  A latency is counted before the answer it belongs to, so that a histogram read later never
 *     has fewer entries than there were answers.
 *
 * Threads: writers hold the device lock, so there is one at a time; mem_stats_get() on any thread.
 * The guest controls: kind, number and pace of requests.
 */
#ifndef VMM_VIRTIO_MEM_STATS_H
#define VMM_VIRTIO_MEM_STATS_H

#include <stdatomic.h>
#include <stdint.h>

#include "vmm/virtio/mem.h"

struct mem_stats {
	_Atomic uint64_t answers[VIRTIO_MEM_KINDS][VIRTIO_MEM_ANSWERS];
	_Atomic uint64_t latency[VIRTIO_MEM_KINDS][VIRTIO_MEM_BUCKETS];
	_Atomic uint64_t latency_ns[VIRTIO_MEM_KINDS];
	_Atomic uint64_t last_ms[VIRTIO_MEM_KINDS];
	_Atomic uint64_t plugged_bytes, unplugged_bytes, reset_bytes;
	_Atomic uint64_t size_reads;
	_Atomic uint64_t refusals, refusal, refusal_ms; /* refusal: see mem_stats.c */
	/* as it was when the last size was asked for */
	_Atomic uint64_t resize_ms, resize_plugged_size;
	_Atomic uint64_t old_answers[VIRTIO_MEM_KINDS][VIRTIO_MEM_ANSWERS];
	_Atomic uint64_t old_size_reads, old_refusals;
};

/* The kind of a request by its type (VMEM_REQ_...). */
enum virtio_mem_kind mem_stats_kind(uint16_t type);
/* In which bucket of a histogram @ns is counted. */
unsigned int mem_stats_bucket(uint64_t ns);

/* The clock of latencies. */
uint64_t mem_stats_clock_ns(void);

/*
 * A request was answered, or (VIRTIO_MEM_BROKEN) will never be, at @now_ms, after @ns. @before and
 * @after: plugged_size.
 */
void mem_stats_answered(struct mem_stats *s, enum virtio_mem_kind kind,
			enum virtio_mem_answer answer, uint64_t ns, uint64_t now_ms,
			uint64_t before, uint64_t after);
/* The host could not do what that request was for; @error is positive. */
void mem_stats_refused(struct mem_stats *s, enum virtio_mem_kind kind,
		       enum virtio_mem_answer answer, enum virtio_mem_step step, int error,
		       uint64_t now_ms);
/* The machine was reset, which took @bytes. */
void mem_stats_reset(struct mem_stats *s, uint64_t bytes);
/* The driver read requested_size. */
void mem_stats_size_read(struct mem_stats *s);
/* The guest is asked for another size. */
void mem_stats_resized(struct mem_stats *s, uint64_t now_ms, uint64_t plugged_size);

/* All but now_ms and idle_ms. */
void mem_stats_get(const struct mem_stats *s, struct virtio_mem_stats *ret);

#endif
