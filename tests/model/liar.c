/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A device that says anything. What it was asked to unplug has lost its content at once, whatever it
 * answers; what it said to be plugged is what the operating system may use (dev.truth).
 */
#include "tests/model/model.h"

#include <endian.h>
#include <string.h>

static uint64_t any_size(struct dev *dev)
{
	uint64_t bs = dev->device_config.block_size;

	return below(dev->w, dev->nr_blocks + 1) * bs;
}

/* A number that hurts. */
static uint64_t any_number(struct dev *dev)
{
	struct world *w = dev->w;

	switch (below(w, 6)) {
	case 0:
		return 0;
	case 1:
		return UINT64_MAX - below(w, 2) * (dev->device_config.block_size - 1);
	case 2:
		return UINT64_C(1) << below(w, 64);
	case 3:
		return any_size(dev) + below(w, 3) - 1;
	case 4:
		return model_random(&w->random);
	default:
		return dev->device_config.region_size + dev->device_config.block_size;
	}
}

/* One field breaks a rule, or several do. */
static void break_config(struct dev *dev, struct vmem_config *config)
{
	uint64_t *const fields[] = {&config->block_size,   &config->addr,
				    &config->region_size,  &config->usable_region_size,
				    &config->plugged_size, &config->requested_size};

	/* A device that is another one, sound by itself. */
	if (chance(dev->w, 400)) {
		*fields[below(dev->w, 3)] += dev->device_config.block_size;
		return;
	}
	do
		*fields[below(dev->w, 6)] = any_number(dev);
	while (chance(dev->w, 200));
}

/* Does it break a rule of the standard, or differ in what never changes? */
static bool config_is_broken(const struct dev *dev, const struct vmem_config *config)
{
	uint64_t sizes = config->usable_region_size | config->plugged_size | config->requested_size;

	return config->block_size != dev->device_config.block_size ||
	       config->addr != dev->device_config.addr ||
	       config->region_size != dev->device_config.region_size ||
	       sizes & (config->block_size - 1) ||
	       config->usable_region_size > config->region_size ||
	       config->requested_size > config->usable_region_size;
}

void liar_config(struct dev *dev, struct vmem_config *ret_config)
{
	struct world *w = dev->w;
	struct vmem_config *lie = &dev->lie;

	if (!lie->block_size || chance(w, 300)) {
		lie->block_size = dev->device_config.block_size;
		lie->addr = dev->device_config.addr;
		lie->region_size = dev->device_config.region_size;
		lie->requested_size = any_size(dev);
		lie->usable_region_size = max_u64(any_size(dev), lie->requested_size);
		lie->plugged_size = min_u64(any_size(dev), lie->usable_region_size);
	}
	*ret_config = *lie;
	if (chance(w, dev->call == CALL_INIT ? 150 : 6))
		break_config(dev, ret_config);
	dev->broken_config |= dev->call == CALL_RUN && config_is_broken(dev, ret_config);
	ret_config->block_size = htole64(ret_config->block_size);
	ret_config->addr = htole64(ret_config->addr);
	ret_config->region_size = htole64(ret_config->region_size);
	ret_config->usable_region_size = htole64(ret_config->usable_region_size);
	ret_config->plugged_size = htole64(ret_config->plugged_size);
	ret_config->requested_size = htole64(ret_config->requested_size);
	ret_config->node_id = (uint16_t)model_random(&w->random);
	memset(ret_config->padding, (int)below(w, 256), sizeof(ret_config->padding));
}

/* Is nothing of the block the operating system's? */
static bool block_is_left(const struct dev *dev, uint64_t block)
{
	uint64_t ppb = dev->device_config.block_size / dev->w->page_bytes;

	return pages_count(dev->area, block * ppb, ppb, PAGE_NOBODYS) == ppb;
}

static void told(struct dev *dev, uint64_t first, uint64_t count, bool plugged)
{
	for (uint64_t block = first; block < first + count; block++)
		if (plugged || block_is_left(dev, block))
			dev->truth[block] = plugged;
}

static void forget_content(struct dev *dev, uint64_t first, uint64_t count)
{
	uint64_t ppb = dev->device_config.block_size / dev->w->page_bytes;

	memset(&dev->host->content[first * ppb], 0, count * ppb * sizeof(dev->host->content[0]));
}

void liar_answer(struct dev *dev, const struct vmem_req *req, struct vmem_resp *ret_resp)
{
	struct world *w = dev->w;
	uint64_t first = dev_block(dev, le64toh(req->addr)), count = le16toh(req->nb_blocks);
	uint16_t type = le16toh(req->type), answer = VMEM_RESP_ACK, state;

	if (chance(w, 300))
		answer = (uint16_t)(chance(w, 900) ? below(w, VMEM_RESP_TYPES)
						   : model_random(&w->random));
	state = (uint16_t)(chance(w, 900) ? below(w, 3) : model_random(&w->random));
	memset(ret_resp, (int)below(w, 256), sizeof(*ret_resp));
	ret_resp->type = htole16(answer);
	ret_resp->state_type = htole16(state);
	if (type == VMEM_REQ_UNPLUG_ALL) {
		first = 0;
		count = dev->nr_blocks;
	}
	if (type == VMEM_REQ_UNPLUG || type == VMEM_REQ_UNPLUG_ALL)
		forget_content(dev, first, count);
	if (answer != VMEM_RESP_ACK)
		return;
	if (type == VMEM_REQ_STATE && state <= VMEM_STATE_UNPLUGGED)
		told(dev, first, count, state == VMEM_STATE_PLUGGED);
	else if (type != VMEM_REQ_STATE)
		told(dev, first, count, type == VMEM_REQ_PLUG);
}
