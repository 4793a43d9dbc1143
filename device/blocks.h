/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside the device engine: its state, and the steps that change blocks in the host and in the map.
 *
 * device.c makes, resizes and reads the device; request.c decides requests, size.c those for another
 * size; import.c takes over what another device had; blocks.c alone calls grant, populate, revoke and discard, and alone changes the
 * maps. The invariants are device.h's.
 *
 * Blocks are counted from the start of the region. Functions here take runs that were checked: not
 * empty, inside the usable region, all unplugged (plug) or all plugged (unplug).
 *
 * Shared fields: those marked "shared" are read by vmem_device_info() on any thread, and written
 * only by the caller's serialised calls. They are atomic so that no read is torn, and relaxed
 * because no field is used to reach other data: each is a number that is true by itself.
 */
#ifndef DEVICE_BLOCKS_H
#define DEVICE_BLOCKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <vmem/device.h>

#include "base/bitmap.h"

/* How much and how often size requests may be granted at this moment: size.c. */
struct vmem_size_pace {
	uint64_t credit;      /* bytes; nothing without a rate */
	uint64_t credit_ms;   /* when it was brought up to date; 0: never, it is full */
	uint64_t second_ms;   /* when the second began in which requests are counted */
	unsigned int nr;      /* of requests in it */
	uint16_t credit_rest; /* thousandths of a byte */
};

struct vmem_device {
	/* immutable after vmem_device_new() */
	struct vmem_device_config config;
	const struct vmem_host_ops *ops;
	void *host;
	unsigned int block_shift;

	/* guarded by the caller's serialisation */
	struct bitmap *plugged;
	struct bitmap *faulted; /* a subset of plugged */
	uint64_t stray_first;   /* the run of strays, in blocks; none while stray_count is 0 */
	uint64_t stray_count;
	struct vmem_size_pace size_pace;

	/* shared */
	_Atomic uint64_t usable_region_size;
	_Atomic uint64_t plugged_size;
	_Atomic uint64_t requested_size;
	_Atomic uint64_t owner_size;
	_Atomic uint64_t request_limit;
	_Atomic uint64_t request_rate;
	_Atomic uint64_t faulted_size;
	_Atomic uint64_t stray_size;
	_Atomic uint64_t answers[VMEM_REQ_TYPES][VMEM_RESP_TYPES];
	_Atomic uint64_t unknown_requests;
	_Atomic uint64_t size_answers[VMEM_SIZE_RESP_TYPES];
	_Atomic uint64_t host_failures;
	_Atomic uint64_t host_faults;
};

/* The shared fields are only touched through these. The one writer makes a plain add enough. */
static inline uint64_t vmem_shared_get(const _Atomic uint64_t *field)
{
	return atomic_load_explicit(field, memory_order_relaxed);
}

static inline void vmem_shared_set(_Atomic uint64_t *field, uint64_t value)
{
	atomic_store_explicit(field, value, memory_order_relaxed);
}

static inline void vmem_shared_add(_Atomic uint64_t *field, uint64_t value)
{
	vmem_shared_set(field, vmem_shared_get(field) + value);
}

/*
 * What usable_region_size must be for @requested_size: nothing for 0, else the slack added, rounded
 * up to a block, at most the region. A multiple of block_size, at least @requested_size.
 */
uint64_t vmem_device_usable_needed(const struct vmem_device *dev, uint64_t requested_size);

/*
 * Set what the guest is asked for, at most region_size: grows usable_region_size as needed. True when
 * the guest has something to be told.
 */
bool vmem_device_request_size(struct vmem_device *dev, uint64_t requested_size);

/*
 * Plug the run. 0 after commit; -errno of the host when the map is unchanged: undone, or the run is
 * the stray now. -EBUSY without another host call while an earlier stray cannot be taken back.
 */
int vmem_blocks_plug(struct vmem_device *dev, uint64_t first, uint64_t count);

/* Unplug the run. 0 after commit; -errno when it is plugged as before: undone, or faulted now. */
int vmem_blocks_unplug(struct vmem_device *dev, uint64_t first, uint64_t count);

/* The same for a run that may hold any blocks of the region: those that are plugged. */
int vmem_blocks_unplug_any(struct vmem_device *dev, uint64_t first, uint64_t count);

/*
 * Unplug every block and shrink usable_region_size to what requested_size needs. 0 after commit;
 * -errno when every block is as before: undone, or runs of them are faulted now.
 */
int vmem_blocks_unplug_all(struct vmem_device *dev);

/* See vmem_device_system_reset(); notifies of plugged_size only. */
int vmem_blocks_reset(struct vmem_device *dev);

/* Try to take the stray back from the guest, if there is one. 0 when none is left. */
int vmem_blocks_retake_stray(struct vmem_device *dev);

#endif
