/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests to the device (VIRTIO 1.3, 5.15.6), one at a time (I4), and where their answers go.
 *
 * The device controls the ten bytes of an answer: type and state_type are taken over once, and what is
 * not in the standard counts as ERROR.
 */
#include "driver/internal.h"

static bool machine_is_little(void)
{
	return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__;
}

uint16_t vd_le16_get(const uint16_t *field)
{
	uint16_t v = *field;

	return (uint16_t)(machine_is_little() ? v : v >> 8 | v << 8);
}

uint32_t vd_le32_get(const uint32_t *field)
{
	uint32_t v = *field;

	if (machine_is_little())
		return v;
	return v >> 24 | (v >> 8 & 0xff00u) | (v & 0xff00u) << 8 | v << 24;
}

uint64_t vd_le64_get(const uint64_t *field)
{
	uint64_t v = *field;
	uint32_t low = (uint32_t)v, high = (uint32_t)(v >> 32);

	if (machine_is_little())
		return v;
	return (uint64_t)vd_le32_get(&low) << 32 | vd_le32_get(&high);
}

void vd_le16_put(uint16_t *field, uint16_t value)
{
	*field = vd_le16_get(&value);
}

void vd_le64_put(uint64_t *field, uint64_t value)
{
	*field = vd_le64_get(&value);
}

/* How many whole chunks a request can be for. */
uint32_t vd_request_chunks_max(const struct vmem_driver *drv)
{
	return DRIVER_BLOCKS_MAX >> (drv->chunk_shift - drv->block_shift);
}

/* The answer to the request under way; @type and @state are of the standard. */
static void request_answer(struct vmem_driver *drv, uint16_t type, uint16_t state)
{
	enum purpose purpose = drv->request.purpose;

	drv->stats.answers[drv->request.type][type]++;
	drv->request.purpose = PURPOSE_NONE;
	if (type == VMEM_RESP_ERROR)
		vd_driver_note(drv, VMEM_DRIVER_NOTE_REFUSED, drv->request.addr,
			       (uint64_t)drv->request.nr_blocks << drv->block_shift,
			       VMEM_DRIVER_INVALID);
	switch (purpose) {
	case PURPOSE_NONE:
		break;
	case PURPOSE_UNPLUG_ALL:
		vd_start_answer(drv, type);
		break;
	case PURPOSE_LEARN:
		vd_learn_answer(drv, type, state);
		break;
	case PURPOSE_LEARN_PIECE:
		vd_learn_piece_answer(drv, type);
		break;
	case PURPOSE_PLUG:
		vd_grow_answer(drv, type);
		break;
	case PURPOSE_UNPLUG:
		vd_held_answer(drv, type);
		break;
	}
}

static void request_take(struct vmem_driver *drv, const struct vmem_resp *resp)
{
	uint16_t type = vd_le16_get(&resp->type);
	uint16_t state = vd_le16_get(&resp->state_type);

	if (type >= VMEM_RESP_TYPES)
		type = VMEM_RESP_ERROR;
	if (drv->request.type != VMEM_REQ_STATE || type != VMEM_RESP_ACK)
		state = 0;
	else if (state > VMEM_STATE_MIXED ||
		 (state == VMEM_STATE_MIXED && drv->request.nr_blocks == 1))
		type = VMEM_RESP_ERROR;
	request_answer(drv, type, state);
}

void vd_request_send_blocks(struct vmem_driver *drv, enum purpose purpose, uint16_t type,
			    uint64_t addr, uint32_t nr_blocks)
{
	struct vmem_resp resp = {.type = UINT16_MAX, .state_type = UINT16_MAX};
	struct request *request = &drv->request;
	int r;

	request->purpose = purpose;
	request->lost = false;
	request->type = type;
	request->addr = addr;
	request->nr_blocks = nr_blocks;
	request->wire = (struct vmem_req){.type = 0};
	vd_le16_put(&request->wire.type, type);
	vd_le64_put(&request->wire.addr, addr);
	vd_le16_put(&request->wire.nb_blocks, (uint16_t)nr_blocks);
	r = drv->ops->submit(drv->os, &request->wire, &resp);
	if (r == VMEM_DRIVER_OK)
		request_take(drv, &resp);
	else if (r != VMEM_DRIVER_PENDING)
		vd_driver_gone(drv);
}

void vd_request_send_run(struct vmem_driver *drv, enum purpose purpose, uint16_t type,
			 struct run run)
{
	drv->request.run = run;
	vd_request_send_blocks(drv, purpose, type, vd_chunk_addr(drv, run.first),
			       run.nr * drv->blocks_per_chunk);
}

void vmem_driver_answered(struct vmem_driver *drv, const struct vmem_resp *resp)
{
	if (drv->request.purpose == PURPOSE_NONE || drv->request.lost)
		return;
	if (resp)
		request_take(drv, resp);
	else
		vd_driver_gone(drv);
}

int vmem_driver_state(struct vmem_driver *drv, uint64_t addr, uint64_t size)
{
	int result = -1;

	if (drv->request.purpose != PURPOSE_NONE)
		return VMEM_DRIVER_BUSY;
	if (!size || addr < drv->addr || addr - drv->addr >= drv->usable_region_size ||
	    size > drv->usable_region_size - (addr - drv->addr) ||
	    ((addr | size) & (drv->block_size - 1)))
		return VMEM_DRIVER_INVALID;
	for (uint64_t left = size >> drv->block_shift; left && result != VMEM_STATE_MIXED;) {
		uint32_t nr = left < DRIVER_BLOCKS_MAX ? (uint32_t)left : DRIVER_BLOCKS_MAX;
		struct vmem_resp resp = {.type = UINT16_MAX, .state_type = UINT16_MAX};
		struct vmem_req req = {.type = 0};
		uint16_t type, state;

		vd_le16_put(&req.type, VMEM_REQ_STATE);
		vd_le64_put(&req.addr, addr);
		vd_le16_put(&req.nb_blocks, (uint16_t)nr);
		if (drv->ops->submit(drv->os, &req, &resp) != VMEM_DRIVER_OK)
			return VMEM_DRIVER_GONE;
		type = vd_le16_get(&resp.type);
		state = vd_le16_get(&resp.state_type);
		if (type == VMEM_RESP_NACK || type == VMEM_RESP_BUSY)
			return VMEM_DRIVER_BUSY;
		if (type != VMEM_RESP_ACK || state > VMEM_STATE_MIXED)
			return VMEM_DRIVER_INVALID;
		if (result < 0)
			result = state;
		else if (result != state)
			result = VMEM_STATE_MIXED;
		addr += (uint64_t)nr << drv->block_shift;
		left -= nr;
	}
	return result;
}
