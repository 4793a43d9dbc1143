/* SPDX-License-Identifier: BSD-3-Clause */
/* What holds after every step: the engine's own account, its map and its host's blocks are the model's. */
#include "tests/unit/device/model_internal.h"

#include <endian.h>
#include <string.h>

uint64_t model_plugged_blocks(const struct model *m)
{
	uint64_t n = 0;

	for (uint64_t b = 0; b < m->nblocks; b++)
		n += m->plugged[b];
	return n;
}

struct block_map {
	bool block[MODEL_BLOCKS_MAX];
	uint64_t end;
	const struct model *m;
	bool bad;
};

static int map_collect(void *opaque, uint64_t offset, uint64_t size)
{
	struct block_map *u = opaque;
	uint64_t bs = u->m->config.block_size, first = offset / bs, count = size / bs;

	/* Ascending, maximal, whole blocks. */
	if (offset % bs || size % bs || !size || first + count > u->m->nblocks ||
	    (u->end && first <= u->end))
		u->bad = true;
	else
		memset(u->block + first, true, count);
	u->end = first + count;
	return 0;
}

bool model_state_plugged(struct model *m, uint64_t block)
{
	struct vmem_req req =
		model_req(VMEM_REQ_STATE, m->config.addr + block * m->config.block_size, 1);
	struct vmem_resp resp;
	uint16_t answer;

	answer = vmem_device_request(m->dev, &req, &resp);
	m->answers[VMEM_REQ_STATE][answer]++;
	return answer == VMEM_RESP_ACK && le16toh(resp.state_type) == VMEM_STATE_PLUGGED;
}

static bool check_block(struct model *m, const struct vmem_device_info *info, uint64_t b,
			bool usable, uint64_t *faulted)
{
	const struct model_block *host = &m->host[b];
	bool in_stray = b >= m->stray.first && b - m->stray.first < m->stray.count;
	unsigned long long n = b;

	if (usable && (!m->plugged[b] || !host->granted))
		return model_wrong(m, "block %llu is said usable, but plugged %d, granted %d", n,
				   m->plugged[b], host->granted);
	if (!m->plugged[b]) {
		if (!in_stray && (host->granted || host->content != MODEL_NONE))
			return model_wrong(m, "block %llu is unplugged, but granted %d, content %u",
					   n, host->granted, host->content);
		return true;
	}
	if (b >= m->usable_blocks)
		return model_wrong(m, "block %llu is plugged outside the usable region", n);
	if (m->discarded[b])
		m->content[b] = host->content;
	if (host->content != m->content[b])
		return model_wrong(m, "block %llu holds %u instead of %u", n, host->content,
				   m->content[b]);
	if (usable)
		return true;
	++*faulted;
	if (!info->host_faults)
		return model_wrong(m, "block %llu is faulted, but no fault was counted", n);
	return model_state_plugged(m, b) ||
	       model_wrong(m, "STATE does not say that block %llu is plugged", n);
}

static bool check_config(struct model *m, const struct vmem_device_info *info)
{
	uint64_t bs = m->config.block_size;
	struct vmem_config c;

	vmem_device_config_read(m->dev, &c);
	if (le64toh(c.block_size) != bs || le64toh(c.addr) != m->config.addr ||
	    le64toh(c.region_size) != m->config.region_size ||
	    le16toh(c.node_id) != (m->config.has_node ? m->config.node_id : 0))
		return model_wrong(m, "a constant of the configuration changed");
	if (info->block_size != bs || info->addr != m->config.addr ||
	    info->region_size != m->config.region_size || info->node_id != m->config.node_id)
		return model_wrong(m, "a constant of the info changed");
	if (le64toh(c.usable_region_size) != info->usable_region_size ||
	    le64toh(c.plugged_size) != info->plugged_size ||
	    le64toh(c.requested_size) != info->requested_size)
		return model_wrong(m, "configuration and info differ");
	if (info->usable_region_size != m->usable_blocks * bs)
		return model_wrong(m, "usable_region_size is %llu blocks instead of %llu",
				   (unsigned long long)(info->usable_region_size / bs),
				   (unsigned long long)m->usable_blocks);
	if (info->requested_size != m->requested_blocks * bs)
		return model_wrong(m, "requested_size is %llu blocks instead of %llu",
				   (unsigned long long)(info->requested_size / bs),
				   (unsigned long long)m->requested_blocks);
	if (info->owner_size != m->owner_blocks * bs || info->owner_size > info->requested_size)
		return model_wrong(m, "owner_size is not what its owner said");
	if (info->request_limit != m->size.limit_blocks * bs || info->request_rate != m->size.rate)
		return model_wrong(m, "the bounds of size requests are not what was said");
	if (info->plugged_size != model_plugged_blocks(m) * bs)
		return model_wrong(m, "plugged_size is %llu blocks instead of %llu",
				   (unsigned long long)(info->plugged_size / bs),
				   (unsigned long long)model_plugged_blocks(m));
	if (info->requested_size > info->usable_region_size ||
	    info->usable_region_size > info->region_size)
		return model_wrong(m, "requested <= usable <= region does not hold");
	return true;
}

bool model_check_all(struct model *m)
{
	struct block_map usable = {.m = m}, faults = {.m = m};
	struct vmem_device_info info;
	uint64_t faulted = 0;

	if (m->error[0])
		return false;
	vmem_device_info(m->dev, &info);
	if (!check_config(m, &info))
		return false;
	if (memcmp(info.answers, m->answers, sizeof(info.answers)) ||
	    info.unknown_requests != m->unknown ||
	    memcmp(info.size_answers, m->size.answers, sizeof(info.size_answers)))
		return model_wrong(m, "the answers are not counted right");
	vmem_device_for_each_plugged(m->dev, map_collect, &usable);
	vmem_device_for_each_faulted(m->dev, map_collect, &faults);
	if (usable.bad || faults.bad)
		return model_wrong(m, "runs are not maximal, ascending and inside the region");
	if (info.stray_size != m->stray.count * m->config.block_size)
		return model_wrong(m, "stray_size is %llu instead of %llu blocks",
				   (unsigned long long)(info.stray_size / m->config.block_size),
				   (unsigned long long)m->stray.count);
	for (uint64_t b = 0; b < m->nblocks; b++) {
		if (!check_block(m, &info, b, usable.block[b], &faulted))
			return false;
		if (faults.block[b] != (m->plugged[b] && !usable.block[b]))
			return model_wrong(m, "block %llu: plugged %d, usable %d, faulted %d",
					   (unsigned long long)b, m->plugged[b], usable.block[b],
					   faults.block[b]);
	}
	if (info.faulted_size != faulted * m->config.block_size)
		return model_wrong(m, "faulted_size is %llu instead of %llu blocks",
				   (unsigned long long)(info.faulted_size / m->config.block_size),
				   (unsigned long long)faulted);
	return true;
}
