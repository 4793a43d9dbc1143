/* SPDX-License-Identifier: BSD-3-Clause */
/* The sizes of memory slots: see memslots.h for the contract. */
#include "vmm/vm/memslots.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>

#include "base/err.h"
#include "base/num.h"
#include "qmp/size.h"

/*
 * Large enough that a slot's coming and going does not matter, small enough to be mostly absent and
 * cheap: without two-dimensional paging KVM keeps 2.5 MiB for a slot of 1 GiB.
 */
#define MEMSLOT_BYTES_MAX (256 * MIB)
#define MEMSLOT_BYTES_MIN (2 * MIB)
/* In so many blocks there are at most half as many runs, which the guard can still lay anew. */
#define MEMSLOT_BLOCKS 512
/* One part in so many of the hypervisor's slots is left over for slots in many pieces. */
#define MEMSLOTS_RESERVE 4

static uint64_t memslots_of(const struct memslots_device *d, uint64_t memslot_bytes)
{
	return d->size_bytes / memslot_bytes + (d->size_bytes % memslot_bytes != 0);
}

/* Slots that devices with a given size make; the others need one each. */
static int memslots_check(const struct memslots_device *devices, size_t nr_devices, uint64_t budget,
			  uint64_t offered, struct err **err)
{
	uint64_t left = budget;
	char size[SIZE_TEXT_MAX];

	for (int given = 0; given < 2; given++) {
		for (size_t i = 0; i < nr_devices; i++) {
			const struct memslots_device *d = &devices[i];
			uint64_t needed;

			if (given != (d->memslot_bytes != 0))
				continue;
			needed = given ? memslots_of(d, d->memslot_bytes) : 1;
			if (needed <= left) {
				left -= needed;
				continue;
			}
			if (!given)
				return err_set(err, ENOSPC,
					       "-device virtio-mem-pci: KVM has %" PRIu64
					       " memory slots, too few for so many memory devices",
					       offered);
			return err_set(err, ENOSPC,
				       "-device virtio-mem-pci%s%s: memslot-size=%s makes %" PRIu64
				       " memory slots; KVM has %" PRIu64 ", of which %" PRIu64
				       " are left for this device",
				       d->id ? ",id=" : "", d->id ? d->id : "",
				       size_format(d->memslot_bytes, size), needed, offered, left);
		}
	}
	return 0;
}

/* The index of the device that has most slots among those whose size is chosen here. */
static size_t memslots_finest(const struct memslots_device *devices, const uint64_t *bytes,
			      size_t nr_devices)
{
	size_t finest = 0;
	uint64_t most = 0;

	for (size_t i = 0; i < nr_devices; i++) {
		if (devices[i].memslot_bytes || memslots_of(&devices[i], bytes[i]) <= most)
			continue;
		finest = i;
		most = memslots_of(&devices[i], bytes[i]);
	}
	return finest;
}

int memslots_choose(const struct memslots_device *devices, size_t nr_devices, uint64_t offered,
		    uint64_t in_use, uint64_t *ret_bytes, struct err **err)
{
	uint64_t kept = offered / MEMSLOTS_RESERVE + in_use;
	uint64_t budget = offered > kept ? offered - kept : 0;
	uint64_t total = 0;
	int ret = memslots_check(devices, nr_devices, budget, offered, err);

	if (ret)
		return ret;
	for (size_t i = 0; i < nr_devices; i++) {
		const struct memslots_device *d = &devices[i];
		uint64_t bytes = num_min(d->block_bytes, MEMSLOT_BYTES_MAX) * MEMSLOT_BLOCKS;

		bytes = num_max(num_min(bytes, MEMSLOT_BYTES_MAX), MEMSLOT_BYTES_MIN);
		ret_bytes[i] = d->memslot_bytes ? d->memslot_bytes : num_max(bytes, d->block_bytes);
		total += memslots_of(d, ret_bytes[i]);
	}
	/* Ends: with a slot each they are few enough. */
	while (total > budget) {
		size_t i = memslots_finest(devices, ret_bytes, nr_devices);

		total -= memslots_of(&devices[i], ret_bytes[i]);
		ret_bytes[i] *= 2;
		total += memslots_of(&devices[i], ret_bytes[i]);
	}
	return 0;
}
