/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests of the driver: VIRTIO 1.3, 5.15.6 "Device Operation".
 *
 * I1  Every check comes before the first host call, in the standard's order: what is wrong with the
 *     request itself is ERROR, even when it could not be granted anyway.
 * I2  Checks are made in blocks relative to the region, where no sum can overflow: a run is
 * compared with what is left of the usable region, never added to an address.
 *
 * The guest controls: every byte of struct vmem_req. All paddings are ignored; UNPLUG_ALL ignores
 * everything but the type.
 */
#include "device/blocks.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/num.h"

/*
 * The request's run in blocks, if it is aligned, not empty and inside the usable region; the
 * outputs are written only then.
 */
static bool request_run(const struct vmem_device *dev, const struct vmem_req *req,
			uint64_t *ret_first, uint64_t *ret_count)
{
	uint64_t addr = le64toh(req->addr), count = le16toh(req->nb_blocks);
	uint64_t usable = vmem_shared_get(&dev->usable_region_size) >> dev->block_shift;
	uint64_t first;

	if (!count || !num_is_aligned(addr, dev->config.block_size) || addr < dev->config.addr)
		return false;
	first = (addr - dev->config.addr) >> dev->block_shift;
	if (first >= usable || count > usable - first)
		return false;
	*ret_first = first;
	*ret_count = count;
	return true;
}

static uint16_t request_plug(struct vmem_device *dev, const struct vmem_req *req)
{
	uint64_t plugged = vmem_shared_get(&dev->plugged_size);
	uint64_t requested = vmem_shared_get(&dev->requested_size);
	uint64_t first, count;

	if (!request_run(dev, req, &first, &count) || !bitmap_all_clear(dev->plugged, first, count))
		return VMEM_RESP_ERROR;
	if (plugged >= requested || count > (requested - plugged) >> dev->block_shift)
		return VMEM_RESP_NACK;
	switch (vmem_blocks_plug(dev, first, count)) {
	case 0:
		return VMEM_RESP_ACK;
	case -ENOMEM:
	case -ENOSPC:
	case -EDQUOT:
		return VMEM_RESP_NACK;
	default:
		return VMEM_RESP_BUSY;
	}
}

static uint16_t request_unplug(struct vmem_device *dev, const struct vmem_req *req)
{
	uint64_t first, count;

	if (!request_run(dev, req, &first, &count) || !bitmap_all_set(dev->plugged, first, count))
		return VMEM_RESP_ERROR;
	return vmem_blocks_unplug(dev, first, count) ? VMEM_RESP_BUSY : VMEM_RESP_ACK;
}

static uint16_t request_state(const struct vmem_device *dev, const struct vmem_req *req,
			      uint16_t *ret_state)
{
	uint64_t first, count;

	if (!request_run(dev, req, &first, &count))
		return VMEM_RESP_ERROR;
	if (bitmap_all_set(dev->plugged, first, count))
		*ret_state = VMEM_STATE_PLUGGED;
	else if (bitmap_all_clear(dev->plugged, first, count))
		*ret_state = VMEM_STATE_UNPLUGGED;
	else
		*ret_state = VMEM_STATE_MIXED;
	return VMEM_RESP_ACK;
}

uint16_t vmem_device_request(struct vmem_device *dev, const struct vmem_req *req,
			     struct vmem_resp *ret_resp)
{
	uint16_t type = le16toh(req->type), answer, state = 0;

	switch (type) {
	case VMEM_REQ_PLUG:
		answer = request_plug(dev, req);
		break;
	case VMEM_REQ_UNPLUG:
		answer = request_unplug(dev, req);
		break;
	case VMEM_REQ_UNPLUG_ALL:
		answer = vmem_blocks_unplug_all(dev) ? VMEM_RESP_BUSY : VMEM_RESP_ACK;
		break;
	case VMEM_REQ_STATE:
		answer = request_state(dev, req, &state);
		break;
	default:
		answer = VMEM_RESP_ERROR;
		break;
	}
	if (type < VMEM_REQ_TYPES)
		vmem_shared_add(&dev->answers[type][answer], 1);
	else
		vmem_shared_add(&dev->unknown_requests, 1);
	memset(ret_resp, 0, sizeof(*ret_resp));
	ret_resp->type = htole16(answer);
	ret_resp->state_type = htole16(state);
	return answer;
}
