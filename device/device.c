/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Making, resizing, resetting and reading the device: VIRTIO 1.3, 5.15.4 (configuration) and 5.15.5
 * (initialization). The contract, with its invariants, is include/vmem/device.h.
 */
#include "device/blocks.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

#define DEVICE_BLOCK_SIZE_MIN 4096

uint64_t vmem_device_usable_needed(const struct vmem_device *dev, uint64_t requested_size)
{
	uint64_t needed;

	if (!requested_size)
		return 0;
	if (!num_add(requested_size, dev->config.usable_extra_bytes, &needed) ||
	    !num_align_up(needed, dev->config.block_size, &needed))
		return dev->config.region_size;
	return num_min(needed, dev->config.region_size);
}

static bool device_config_valid(const struct vmem_device_config *config)
{
	uint64_t end;

	return num_is_pow2(config->block_size) && config->block_size >= DEVICE_BLOCK_SIZE_MIN &&
	       num_is_aligned(config->addr, config->block_size) &&
	       num_is_aligned(config->region_size, config->block_size) &&
	       num_is_aligned(config->requested_size, config->block_size) &&
	       config->requested_size <= config->region_size &&
	       num_is_aligned(config->request_limit, config->block_size) &&
	       config->request_limit <= config->region_size &&
	       (config->size_requests || !(config->request_limit | config->request_rate)) &&
	       num_add(config->addr, config->region_size, &end);
}

int vmem_device_new(const struct vmem_device_config *config, const struct vmem_host_ops *ops,
		    void *host, struct vmem_device **ret_dev)
{
	struct vmem_device *dev;
	uint64_t nblocks;

	if (!device_config_valid(config))
		return -EINVAL;
	if (!ops->grant || !ops->revoke || !ops->discard || !ops->config_changed ||
	    (config->prealloc && !ops->populate))
		return -EINVAL;
	dev = calloc(1, sizeof(*dev));
	if (!dev)
		return -ENOMEM;
	dev->config = *config;
	dev->ops = ops;
	dev->host = host;
	dev->block_shift = (unsigned int)__builtin_ctzll(config->block_size);
	nblocks = config->region_size >> dev->block_shift;
	dev->plugged = bitmap_new(nblocks);
	/* Made now, so that recording a failure of the host cannot fail itself. */
	dev->faulted = bitmap_new(nblocks);
	if (!dev->plugged || !dev->faulted) {
		vmem_device_free(dev);
		return -ENOMEM;
	}
	vmem_shared_set(&dev->owner_size, config->requested_size);
	(void)vmem_device_request_size(dev, config->requested_size);
	if (config->size_requests)
		(void)vmem_device_set_request_policy(
			dev, config->request_limit ? config->request_limit : config->region_size,
			config->request_rate);
	*ret_dev = dev;
	return 0;
}

void vmem_device_free(struct vmem_device *dev)
{
	if (!dev)
		return;
	bitmap_free(dev->faulted);
	bitmap_free(dev->plugged);
	free(dev);
}

uint64_t vmem_device_features(const struct vmem_device *dev)
{
	uint64_t features = 0;

	if (dev->config.has_node)
		features |= UINT64_C(1) << VMEM_F_ACPI_PXM;
	if (dev->config.unplugged_inaccessible)
		features |= UINT64_C(1) << VMEM_F_UNPLUGGED_INACCESSIBLE;
	if (dev->config.size_requests)
		features |= UINT64_C(1) << VMEM_F_SIZE_REQUEST;
	return features;
}

void vmem_device_config_read(const struct vmem_device *dev, struct vmem_config *ret_config)
{
	memset(ret_config, 0, sizeof(*ret_config));
	ret_config->block_size = htole64(dev->config.block_size);
	if (dev->config.has_node)
		ret_config->node_id = htole16(dev->config.node_id);
	ret_config->addr = htole64(dev->config.addr);
	ret_config->region_size = htole64(dev->config.region_size);
	ret_config->usable_region_size = htole64(vmem_shared_get(&dev->usable_region_size));
	ret_config->plugged_size = htole64(vmem_shared_get(&dev->plugged_size));
	ret_config->requested_size = htole64(vmem_shared_get(&dev->requested_size));
}

bool vmem_device_request_size(struct vmem_device *dev, uint64_t requested_size)
{
	uint64_t usable = vmem_shared_get(&dev->usable_region_size);
	uint64_t needed = vmem_device_usable_needed(dev, requested_size);

	/* An imported usable region may have less slack than this device would give. */
	if (requested_size == vmem_shared_get(&dev->requested_size) && needed <= usable)
		return false;
	vmem_shared_set(&dev->usable_region_size, num_max(usable, needed));
	vmem_shared_set(&dev->requested_size, requested_size);
	return true;
}

int vmem_device_resize(struct vmem_device *dev, uint64_t requested_size)
{
	if (!num_is_aligned(requested_size, dev->config.block_size))
		return -EINVAL;
	if (requested_size > dev->config.region_size)
		return -ERANGE;
	(void)vmem_blocks_retake_stray(dev);
	vmem_shared_set(&dev->owner_size, requested_size);
	if (vmem_device_request_size(dev, requested_size))
		dev->ops->config_changed(dev->host);
	return 0;
}

int vmem_device_system_reset(struct vmem_device *dev)
{
	uint64_t usable = vmem_shared_get(&dev->usable_region_size);
	uint64_t requested = vmem_shared_get(&dev->requested_size);
	uint64_t owner = vmem_shared_get(&dev->owner_size);
	int rc;

	vmem_shared_set(&dev->requested_size, owner);
	rc = vmem_blocks_reset(dev);
	if (vmem_shared_get(&dev->usable_region_size) != usable || owner != requested)
		dev->ops->config_changed(dev->host);
	return rc;
}

bool vmem_device_plugged(const struct vmem_device *dev, uint64_t gpa, uint64_t size)
{
	struct range region = {dev->config.addr, dev->config.region_size};
	uint64_t first, last, count;

	if (!range_contains(region, (struct range){gpa, size}))
		return false;
	first = (gpa - dev->config.addr) >> dev->block_shift;
	last = (gpa - dev->config.addr + size - 1) >> dev->block_shift;
	count = last - first + 1;
	return bitmap_all_set(dev->plugged, first, count) &&
	       bitmap_all_clear(dev->faulted, first, count);
}

int vmem_device_for_each_plugged(const struct vmem_device *dev,
				 int (*fn)(void *opaque, uint64_t offset, uint64_t size),
				 void *opaque)
{
	uint64_t end = vmem_shared_get(&dev->usable_region_size) >> dev->block_shift;
	uint64_t pos = 0, stop;
	int rc;

	while ((pos = bitmap_next_set(dev->plugged, pos, end)) < end) {
		stop = bitmap_next_clear(dev->plugged, pos, end);
		/* Inside a plugged run, visit what is between faulted blocks. */
		while (pos < stop) {
			uint64_t fault = bitmap_next_set(dev->faulted, pos, stop);

			if (fault > pos) {
				rc = fn(opaque, pos << dev->block_shift,
					(fault - pos) << dev->block_shift);
				if (rc)
					return rc;
			}
			pos = bitmap_next_clear(dev->faulted, fault, stop);
		}
	}
	return 0;
}

int vmem_device_for_each_faulted(const struct vmem_device *dev,
				 int (*fn)(void *opaque, uint64_t offset, uint64_t size),
				 void *opaque)
{
	uint64_t end = vmem_shared_get(&dev->usable_region_size) >> dev->block_shift;
	uint64_t pos = 0, stop;
	int rc = 0;

	for (; !rc && (pos = bitmap_next_set(dev->faulted, pos, end)) < end; pos = stop) {
		stop = bitmap_next_clear(dev->faulted, pos, end);
		rc = fn(opaque, pos << dev->block_shift, (stop - pos) << dev->block_shift);
	}
	return rc;
}

void vmem_device_info(const struct vmem_device *dev, struct vmem_device_info *ret_info)
{
	unsigned int type, answer;

	*ret_info = (struct vmem_device_info){
		.addr = dev->config.addr,
		.region_size = dev->config.region_size,
		.block_size = dev->config.block_size,
		.usable_region_size = vmem_shared_get(&dev->usable_region_size),
		.plugged_size = vmem_shared_get(&dev->plugged_size),
		.requested_size = vmem_shared_get(&dev->requested_size),
		.owner_size = vmem_shared_get(&dev->owner_size),
		.request_limit = vmem_shared_get(&dev->request_limit),
		.request_rate = vmem_shared_get(&dev->request_rate),
		.node_id = dev->config.node_id,
		.unknown_requests = vmem_shared_get(&dev->unknown_requests),
		.host_failures = vmem_shared_get(&dev->host_failures),
		.host_faults = vmem_shared_get(&dev->host_faults),
		.faulted_size = vmem_shared_get(&dev->faulted_size),
		.stray_size = vmem_shared_get(&dev->stray_size),
	};
	for (type = 0; type < VMEM_REQ_TYPES; type++)
		for (answer = 0; answer < VMEM_RESP_TYPES; answer++)
			ret_info->answers[type][answer] =
				vmem_shared_get(&dev->answers[type][answer]);
	for (answer = 0; answer < VMEM_SIZE_RESP_TYPES; answer++)
		ret_info->size_answers[answer] = vmem_shared_get(&dev->size_answers[answer]);
}
