/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The steps that change memory blocks: VIRTIO 1.3, 5.15.6.
 *
 * Every change is: host calls in the order of I4, then commit; or host calls, then undo. What the
 * host is left with when undoing fails is recorded as faulted (plugged blocks) or stray (unplugged
 * ones) before anything is answered (I5). The contract of each function is in blocks.h.
 */
#include "device/blocks.h"

#include <errno.h>

#include "base/num.h"

static uint64_t blocks_to_bytes(const struct vmem_device *dev, uint64_t blocks)
{
	return blocks << dev->block_shift;
}

static uint64_t blocks_usable(const struct vmem_device *dev)
{
	return vmem_shared_get(&dev->usable_region_size) >> dev->block_shift;
}

/* Make the run unplugged in the host. Idempotent; the state in between is unknown on failure. */
static int blocks_take(struct vmem_device *dev, uint64_t first, uint64_t count)
{
	uint64_t offset = blocks_to_bytes(dev, first), size = blocks_to_bytes(dev, count);
	int rc = dev->ops->revoke(dev->host, offset, size);

	return rc ? rc : dev->ops->discard(dev->host, offset, size);
}

static void blocks_count_failure(struct vmem_device *dev, bool undone)
{
	vmem_shared_add(undone ? &dev->host_failures : &dev->host_faults, 1);
}

/* Mark plugged blocks of the run faulted or not; faulted_size follows. */
static void blocks_set_faulted(struct vmem_device *dev, uint64_t first, uint64_t count,
			       bool faulted)
{
	uint64_t size = vmem_shared_get(&dev->faulted_size);

	if (!size && !faulted)
		return;
	size -= blocks_to_bytes(dev, bitmap_count(dev->faulted, first, count));
	if (faulted) {
		bitmap_set(dev->faulted, first, count);
		size += blocks_to_bytes(dev, count);
	} else {
		bitmap_clear(dev->faulted, first, count);
	}
	vmem_shared_set(&dev->faulted_size, size);
}

static void blocks_set_stray(struct vmem_device *dev, uint64_t first, uint64_t count)
{
	dev->stray_first = first;
	dev->stray_count = count;
	vmem_shared_set(&dev->stray_size, blocks_to_bytes(dev, count));
}

static void blocks_plugged_changed(struct vmem_device *dev)
{
	if (dev->ops->plugged_changed)
		dev->ops->plugged_changed(dev->host);
}

/* Commit: the map and the counts, for a run that was wholly the other way. Cannot fail. */
static void blocks_commit_plug(struct vmem_device *dev, uint64_t first, uint64_t count)
{
	bitmap_set(dev->plugged, first, count);
	vmem_shared_add(&dev->plugged_size, blocks_to_bytes(dev, count));
}

static void blocks_commit_unplug(struct vmem_device *dev, uint64_t first, uint64_t count)
{
	blocks_set_faulted(dev, first, count, false);
	bitmap_clear(dev->plugged, first, count);
	vmem_shared_set(&dev->plugged_size,
			vmem_shared_get(&dev->plugged_size) - blocks_to_bytes(dev, count));
}

/*
 * Undo a failed unplug of a plugged run: the guest may use it again, or it is faulted. A run that
 * was faulted before is usable again when this succeeds: the host then agrees with the map.
 */
static bool blocks_undo_unplug(struct vmem_device *dev, uint64_t first, uint64_t count)
{
	int rc = dev->ops->grant(dev->host, blocks_to_bytes(dev, first),
				 blocks_to_bytes(dev, count));

	blocks_set_faulted(dev, first, count, rc != 0);
	return rc == 0;
}

/* The next run of plugged blocks in [from, end); false when there is none. */
static bool blocks_next_run(const struct vmem_device *dev, uint64_t from, uint64_t end,
			    uint64_t *ret_first, uint64_t *ret_count)
{
	uint64_t first = bitmap_next_set(dev->plugged, from, end);

	if (first == end)
		return false;
	*ret_first = first;
	*ret_count = bitmap_next_clear(dev->plugged, first, end) - first;
	return true;
}

int vmem_blocks_retake_stray(struct vmem_device *dev)
{
	int rc;

	if (!dev->stray_count)
		return 0;
	rc = blocks_take(dev, dev->stray_first, dev->stray_count);
	if (!rc)
		blocks_set_stray(dev, 0, 0);
	return rc;
}

int vmem_blocks_plug(struct vmem_device *dev, uint64_t first, uint64_t count)
{
	uint64_t offset = blocks_to_bytes(dev, first), size = blocks_to_bytes(dev, count);
	int rc;

	/* With a stray left the guest could collect memory beyond requested_size, failure by
	 * failure. */
	if (vmem_blocks_retake_stray(dev))
		return -EBUSY;
	rc = dev->ops->grant(dev->host, offset, size);
	if (!rc && dev->config.prealloc)
		rc = dev->ops->populate(dev->host, offset, size);
	if (rc) {
		bool undone = blocks_take(dev, first, count) == 0;

		if (!undone)
			blocks_set_stray(dev, first, count);
		blocks_count_failure(dev, undone);
		return rc;
	}
	blocks_commit_plug(dev, first, count);
	blocks_plugged_changed(dev);
	return 0;
}

int vmem_blocks_unplug(struct vmem_device *dev, uint64_t first, uint64_t count)
{
	int rc;

	/* A stray does not stand in the way of giving more back: only try. */
	(void)vmem_blocks_retake_stray(dev);
	rc = blocks_take(dev, first, count);
	if (rc) {
		blocks_count_failure(dev, blocks_undo_unplug(dev, first, count));
		return rc;
	}
	blocks_commit_unplug(dev, first, count);
	blocks_plugged_changed(dev);
	return 0;
}

/* Commit: what is plugged of [pos, end), run by run so that untouched parts of the map stay so. */
static void blocks_commit_unplug_runs(struct vmem_device *dev, uint64_t pos, uint64_t end)
{
	uint64_t first, count;

	for (; blocks_next_run(dev, pos, end, &first, &count); pos = first + count)
		blocks_commit_unplug(dev, first, count);
}

/* Undo a failed unplug of what is plugged of [pos, end); counts the failure. */
static void blocks_undo_unplug_runs(struct vmem_device *dev, uint64_t pos, uint64_t end)
{
	uint64_t first, count;
	bool undone = true;

	for (; blocks_next_run(dev, pos, end, &first, &count); pos = first + count)
		undone &= blocks_undo_unplug(dev, first, count);
	blocks_count_failure(dev, undone);
}

int vmem_blocks_unplug_any(struct vmem_device *dev, uint64_t first, uint64_t count)
{
	int rc;

	(void)vmem_blocks_retake_stray(dev);
	if (bitmap_all_clear(dev->plugged, first, count))
		return 0;
	rc = blocks_take(dev, first, count);
	if (rc) {
		blocks_undo_unplug_runs(dev, first, first + count);
		return rc;
	}
	blocks_commit_unplug_runs(dev, first, first + count);
	blocks_plugged_changed(dev);
	return 0;
}

int vmem_blocks_unplug_all(struct vmem_device *dev)
{
	bool had_plugged = vmem_shared_get(&dev->plugged_size) != 0;
	int rc = vmem_blocks_retake_stray(dev);

	if (rc)
		return rc;
	if (had_plugged)
		rc = blocks_take(dev, 0, blocks_usable(dev));
	if (rc) {
		blocks_undo_unplug_runs(dev, 0, blocks_usable(dev));
		return rc;
	}
	if (had_plugged)
		blocks_commit_unplug_runs(dev, 0, blocks_usable(dev));
	vmem_shared_set(&dev->usable_region_size,
			vmem_device_usable_needed(dev, vmem_shared_get(&dev->requested_size)));
	if (had_plugged)
		blocks_plugged_changed(dev);
	return 0;
}

/*
 * Unplug run by run what can be unplugged, after taking all at once failed; nothing was undone yet.
 * The first error that left a run plugged, else 0. *ret_end becomes the end of the last such run.
 */
static int blocks_reset_runs(struct vmem_device *dev, uint64_t *ret_end)
{
	uint64_t pos = 0, end = blocks_usable(dev), first, count;
	bool undone = true;
	int first_rc = 0;

	for (; blocks_next_run(dev, pos, end, &first, &count); pos = first + count) {
		int rc = blocks_take(dev, first, count);

		if (!rc) {
			blocks_commit_unplug(dev, first, count);
			continue;
		}
		undone &= blocks_undo_unplug(dev, first, count);
		*ret_end = first + count;
		if (!first_rc)
			first_rc = rc;
	}
	blocks_count_failure(dev, undone);
	return first_rc;
}

int vmem_blocks_reset(struct vmem_device *dev)
{
	uint64_t before = vmem_shared_get(&dev->plugged_size), end = 0, needed;
	int stray_rc = vmem_blocks_retake_stray(dev), rc = 0;

	if (before) {
		if (blocks_take(dev, 0, blocks_usable(dev)) == 0)
			blocks_commit_unplug_runs(dev, 0, blocks_usable(dev));
		else
			rc = blocks_reset_runs(dev, &end);
	}
	needed = vmem_device_usable_needed(dev, vmem_shared_get(&dev->requested_size));
	vmem_shared_set(&dev->usable_region_size, num_max(needed, blocks_to_bytes(dev, end)));
	if (vmem_shared_get(&dev->plugged_size) != before)
		blocks_plugged_changed(dev);
	return stray_rc ? stray_rc : rc;
}
