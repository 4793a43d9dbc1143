/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Size requests of a memory device's driver (VMEM_F_SIZE_REQUEST, docs/virtio-mem.md): the second
 * virtqueue, its pace, and what there is to tell of it. Inside of the virtio-mem device.
 *
 * I1  The work and the memory for a request are constant, whatever the guest sends and how often.
 * I2  A driver that goes on asking when it was told to wait, or asks what makes no sense, is answered
 *     slowly: once a second in the end (mem_pace.h). Any other answer ends that.
 * I3  While the owner's word is held (virtio_mem_hold_size()) the guest is granted nothing.
 * I4  Without the feature there is no second queue, and nothing here is ever called by a guest.
 *
 * Threads: requests are handled on the loop's thread with the device lock held. What is told is read
 * on any thread: counters are atomics by themselves, the last request is one piece behind a lock of
 * its own, held for the time of a copy.
 * The guest controls: content, number and pace of requests.
 */
#ifndef VMM_VIRTIO_MEM_SIZE_H
#define VMM_VIRTIO_MEM_SIZE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/virtio/mem.h"
#include "vmm/virtio/mem_pace.h"

struct vq_chain;

struct mem_size {
	bool on;                                      /* immutable */
	struct vq_chain *chain;                       /* the loop's */
	struct mem_pace pace;                         /* guarded by the device lock */
	_Atomic uint64_t request_limit, request_rate; /* as last said by the owner */
	_Atomic bool held;                            /* virtio_mem_hold_size() */
	/* what is told */
	_Atomic uint64_t requests[VIRTIO_MEM_SIZE_ANSWERS][VMEM_SIZE_URGENCIES][VMEM_SIZE_REASONS];
	_Atomic uint64_t errors, broken;
	_Atomic uint64_t granted_bytes, offered_bytes;
	pthread_mutex_t last_lock;
	/* guarded by last_lock: */
	uint64_t total; /* of requests that made sense */
	struct virtio_mem_size_request last;
};

/* Of a device that has its configuration only, before anything that can fail. */
void mem_size_prepare(struct virtio_mem *mem);
/* With its virtqueues. */
int mem_size_init(struct virtio_mem *mem, struct err **err);
/* After mem_size_prepare(); the virtqueues are gone, and mem_pace_done() was called before that. */
void mem_size_done(struct virtio_mem *mem);

/* Take up requests, as virtio_device_ops.queue_kick() says. */
void mem_size_kick(struct virtio_mem *mem);
/* The driver reset the device. */
void mem_size_reset(struct virtio_mem *mem);

/* struct vmem_host_ops.size_wanted() */
uint64_t mem_size_wanted(void *host, const struct vmem_size_want *want);

#endif
