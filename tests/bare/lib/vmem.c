/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A small virtio-mem driver. Request and response lie at the end and the start of a page of their
 * own, so that a device that reads or writes more than it should meets other bytes.
 */
#include <stddef.h>

#include "cpu.h"
#include "mem.h"
#include "text.h"
#include "vmem.h"

#define BLOCKS_MAX 0x8000u /* of one request */

bool vmem_start(struct vmem *v)
{
	uint64_t offered = virtio_offered(&v->virtio), wanted = VMEM_PXM | VMEM_GUARDED;

	if (v->virtio.second)
		wanted |= VMEM_SIZES;
	v->virtio.second = (offered & wanted & VMEM_SIZES) != 0;
	return virtio_start(&v->virtio, offered & wanted);
}

bool vmem_open(struct vmem *v, unsigned int nth)
{
	struct pci_dev dev;

	return pci_find(VIRTIO_VENDOR, VIRTIO_DEVICE_0 + VMEM_DEVICE_ID, nth, &dev) &&
	       vmem_open_at(v, dev);
}

bool vmem_open_at(struct vmem *v, struct pci_dev dev)
{
	uint64_t pages;

	if (!virtio_open_at(&v->virtio, dev) || v->virtio.config == 0)
		return false;
	if (v->req == NULL) {
		pages = (uint64_t)mem_pages(2);
		v->req = (struct vmem_req *)(pages + MEM_PAGE_BYTES - sizeof(struct vmem_req));
		v->resp = (struct vmem_resp *)(pages + MEM_PAGE_BYTES);
	}
	v->block_size = virtio_config64(&v->virtio, offsetof(struct vmem_config, block_size));
	v->addr = virtio_config64(&v->virtio, offsetof(struct vmem_config, addr));
	v->region_size = virtio_config64(&v->virtio, offsetof(struct vmem_config, region_size));
	v->node_id = mmio_read16(v->virtio.config + offsetof(struct vmem_config, node_id));
	return vmem_start(v);
}

unsigned int vmem_open_all(struct vmem *all, unsigned int max)
{
	unsigned int n = 0;

	while (n < max && vmem_open(&all[n], n))
		n++;
	return n;
}

uint64_t vmem_usable(const struct vmem *v)
{
	return virtio_config64(&v->virtio, offsetof(struct vmem_config, usable_region_size));
}

uint64_t vmem_plugged(const struct vmem *v)
{
	return virtio_config64(&v->virtio, offsetof(struct vmem_config, plugged_size));
}

uint64_t vmem_requested(const struct vmem *v)
{
	return virtio_config64(&v->virtio, offsetof(struct vmem_config, requested_size));
}

uint16_t vmem_request(struct vmem *v, const struct vmem_req *req)
{
	const struct vring_segment segments[] = {
		{(uint64_t)v->req, sizeof(*v->req), false},
		{(uint64_t)v->resp, sizeof(*v->resp), true},
	};

	*v->req = *req;
	memset(v->resp, 0xff, sizeof(*v->resp));
	if (!virtio_do(&v->virtio, segments, 2, &v->resp_len))
		return VMEM_NO_RESP;
	return *(volatile uint16_t *)&v->resp->type;
}

uint16_t vmem_plug(struct vmem *v, uint64_t addr, uint64_t blocks)
{
	return vmem_request(v, &(struct vmem_req){.type = VMEM_REQ_PLUG,
						  .addr = addr,
						  .nb_blocks = (uint16_t)blocks});
}

uint16_t vmem_unplug(struct vmem *v, uint64_t addr, uint64_t blocks)
{
	return vmem_request(v, &(struct vmem_req){.type = VMEM_REQ_UNPLUG,
						  .addr = addr,
						  .nb_blocks = (uint16_t)blocks});
}

uint16_t vmem_unplug_all(struct vmem *v)
{
	return vmem_request(v, &(struct vmem_req){.type = VMEM_REQ_UNPLUG_ALL});
}

uint16_t vmem_state(struct vmem *v, uint64_t addr, uint64_t blocks)
{
	uint16_t type = vmem_request(v, &(struct vmem_req){.type = VMEM_REQ_STATE,
							   .addr = addr,
							   .nb_blocks = (uint16_t)blocks});

	if (type != VMEM_RESP_ACK)
		return type;
	return (uint16_t)(0x10 + *(volatile uint16_t *)&v->resp->state_type);
}

static uint16_t vmem_run(struct vmem *v, uint64_t offset, uint64_t size,
			 uint16_t (*fn)(struct vmem *v, uint64_t addr, uint64_t blocks))
{
	uint64_t blocks = size / v->block_size;

	while (blocks > 0) {
		uint64_t n = blocks < BLOCKS_MAX ? blocks : BLOCKS_MAX;
		uint16_t type = fn(v, v->addr + offset, n);

		if (type != VMEM_RESP_ACK)
			return type;
		offset += n * v->block_size;
		blocks -= n;
	}
	return VMEM_RESP_ACK;
}

uint16_t vmem_plug_bytes(struct vmem *v, uint64_t offset, uint64_t size)
{
	return vmem_run(v, offset, size, vmem_plug);
}

uint16_t vmem_unplug_bytes(struct vmem *v, uint64_t offset, uint64_t size)
{
	return vmem_run(v, offset, size, vmem_unplug);
}
