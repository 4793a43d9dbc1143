/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What answers in a memory device's region where its memory is not in the guest, and counts who
 * came there. Inside of the virtio-mem device; struct virtio_mem_violation (mem.h) says what
 * counts.
 *
 * I1  A read gives zeros, a write is dropped, whatever happens elsewhere.
 * I2  An access linearises where the hypervisor found no memory for it. It counts, and is dropped,
 *     also when its block was plugged before it came here: a request that plugs is answered only
 *     after the memory is there, so an access of a driver that waited for the answer never comes.
 *     Nothing is asked about blocks, and no lock is taken: a vCPU waits for nobody.
 * I3  The last violation is one word, so that it is always one that took place.
 *
 * Threads: the handlers on any number of vCPUs' threads; mem_absent_get() and
 * mem_absent_count_reads() on any thread.
 * The guest controls: address, size and pace of accesses.
 */
#ifndef VMM_VIRTIO_MEM_ABSENT_H
#define VMM_VIRTIO_MEM_ABSENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/core/bus.h"
#include "vmm/virtio/mem.h"

/* The largest region: more than any guest can address. */
#define MEM_ABSENT_BYTES_MAX (UINT64_C(1) << 52)

struct mem_absent {
	/* immutable */
	struct bus_region region;
	struct hv *hv;
	void (*seen)(void *opaque);
	void *opaque;

	_Atomic bool count_reads;
	_Atomic uint64_t writes, reads;
	_Atomic uint64_t last; /* see mem_absent.c */
};

/*
 * Fill in @absent, whose region the caller then puts on a bus; gpa.size is MEM_ABSENT_BYTES_MAX at
 * most. @seen is called after each violation.
 */
void mem_absent_init(struct mem_absent *absent, struct range gpa, struct hv *hv,
		     void (*seen)(void *opaque), void *opaque);
/* Whether reads count; off at first. */
void mem_absent_count_reads(struct mem_absent *absent, bool on);
void mem_absent_get(const struct mem_absent *absent, struct virtio_mem_violations *ret);

#endif
