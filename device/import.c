/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Taking over the state of another device: vmem_device_import_plug() and those that follow it in
 * include/vmem/device.h. Nothing here trusts its arguments: they may come from anywhere.
 */
#include "device/blocks.h"

#include <errno.h>

#include "base/num.h"

/* The run in blocks; outputs are written when it returns 0. */
static int import_run(const struct vmem_device *dev, uint64_t offset, uint64_t size,
		      uint64_t *ret_first, uint64_t *ret_count)
{
	if (!size || !num_is_aligned(offset | size, dev->config.block_size))
		return -EINVAL;
	if (!range_contains((struct range){0, dev->config.region_size},
			    (struct range){offset, size}))
		return -ERANGE;
	*ret_first = offset >> dev->block_shift;
	*ret_count = size >> dev->block_shift;
	return 0;
}

int vmem_device_import_plug(struct vmem_device *dev, uint64_t offset, uint64_t size)
{
	uint64_t usable = vmem_shared_get(&dev->usable_region_size), first, count;
	int rc = import_run(dev, offset, size, &first, &count);

	if (rc)
		return rc;
	if (!bitmap_all_clear(dev->plugged, first, count))
		return -EEXIST;
	/* Before the blocks are there: every plugged block lies below it at any time (I3). */
	vmem_shared_set(&dev->usable_region_size, num_max(usable, offset + size));
	rc = vmem_blocks_plug(dev, first, count);
	if (rc)
		vmem_shared_set(&dev->usable_region_size, usable);
	return rc;
}

int vmem_device_import_unplug(struct vmem_device *dev, uint64_t offset, uint64_t size)
{
	uint64_t first, count;
	int rc = import_run(dev, offset, size, &first, &count);

	return rc ? rc : vmem_blocks_unplug_any(dev, first, count);
}

int vmem_device_import_sizes(struct vmem_device *dev, uint64_t owner_size, uint64_t requested_size,
			     uint64_t usable_region_size)
{
	uint64_t usable = vmem_shared_get(&dev->usable_region_size) >> dev->block_shift;
	uint64_t first = usable_region_size >> dev->block_shift;

	if (!num_is_aligned(owner_size | requested_size | usable_region_size,
			    dev->config.block_size))
		return -EINVAL;
	if (owner_size > requested_size || requested_size > usable_region_size ||
	    usable_region_size > dev->config.region_size)
		return -ERANGE;
	if (first < usable && !bitmap_all_clear(dev->plugged, first, usable - first))
		return -EEXIST;
	vmem_shared_set(&dev->usable_region_size, usable_region_size);
	vmem_shared_set(&dev->requested_size, requested_size);
	vmem_shared_set(&dev->owner_size, owner_size);
	return 0;
}
