/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The beginning, and finding out what is plugged: VIRTIO 1.3, 5.15.5 "Device Initialization" and 5.15.6.6
 * "STATE request".
 *
 * What an earlier driver left plugged is unplugged by UNPLUG_ALL, or kept with config.resume. STATE is
 * asked of as many blocks as one request may be for, half as many while the answer is MIXED, and twice
 * as many after another answer: as many requests as there are runs, times the logarithm of their size.
 *
 * The same is done for the blocks of one request whose answer was ERROR, or did not come.
 */
#include "driver/internal.h"

/* Not done: to be tried again after a pause. */
static void learn_pause(struct vmem_driver *drv, uint16_t type)
{
	vd_driver_pause(drv, type == VMEM_RESP_ERROR ? VMEM_DRIVER_INVALID : VMEM_DRIVER_BUSY);
}

static void start_done(struct vmem_driver *drv)
{
	uint64_t found = vd_chunks_bytes(drv, drv->nr_plugged);
	uint64_t plugged = drv->device_plugged_size;

	drv->started = true;
	/* From now on there is no difference between these units and others. */
	for (uint32_t u = 0; u < drv->nr_units; u++)
		drv->units[u].flags &= (uint8_t)~UNIT_KEPT;
	drv->foreign_size = drv->config.resume && plugged > found ? plugged - found : 0;
	vd_driver_note(drv, VMEM_DRIVER_NOTE_STARTED, drv->base, found, VMEM_DRIVER_OK);
}

void vd_start_step(struct vmem_driver *drv)
{
	if (!drv->device_plugged_size || drv->learn.start) {
		start_done(drv);
	} else if (drv->config.resume) {
		vd_learn_begin(drv, (struct run){.first = 0, .nr = drv->limit}, true);
	} else {
		vd_request_send_blocks(drv, PURPOSE_UNPLUG_ALL, VMEM_REQ_UNPLUG_ALL, 0, 0);
	}
}

void vd_start_answer(struct vmem_driver *drv, uint16_t type)
{
	if (type != VMEM_RESP_ACK) {
		learn_pause(drv, type);
		return;
	}
	vd_driver_note(drv, VMEM_DRIVER_NOTE_UNPLUG_ALL, drv->addr, drv->device_plugged_size,
		       VMEM_DRIVER_OK);
	drv->device_plugged_size = 0;
	vd_driver_config_stale(drv);
}

void vd_learn_begin(struct vmem_driver *drv, struct run run, bool start)
{
	drv->learn = (struct learn){
		.addr = vd_chunk_addr(drv, run.first),
		.end = vd_chunk_addr(drv, run.first + run.nr),
		.step = DRIVER_BLOCKS_POW,
		.start = start,
	};
}

bool vd_learn_is_on(const struct vmem_driver *drv)
{
	return drv->learn.addr != drv->learn.end;
}

static uint32_t learn_chunk(const struct vmem_driver *drv)
{
	return (uint32_t)((drv->learn.addr - drv->base) >> drv->chunk_shift);
}

/* Blocks of the chunk that learn.addr lies in, from there on. */
static uint32_t learn_chunk_rest(const struct vmem_driver *drv)
{
	uint64_t into = (drv->learn.addr - drv->base) >> drv->block_shift;

	return drv->blocks_per_chunk - (uint32_t)(into & (drv->blocks_per_chunk - 1));
}

void vd_learn_step(struct vmem_driver *drv)
{
	struct learn *learn = &drv->learn;
	uint64_t left = (learn->end - learn->addr) >> drv->block_shift;
	uint32_t rest = learn_chunk_rest(drv);
	uint32_t nr = learn->step;

	if (learn->piece) {
		vd_request_send_blocks(drv, PURPOSE_LEARN_PIECE, VMEM_REQ_UNPLUG, learn->addr,
				       learn->piece);
		return;
	}
	if (nr < drv->blocks_per_chunk || rest < drv->blocks_per_chunk)
		nr = nr < rest ? nr : rest;
	if (nr > left)
		nr = (uint32_t)left;
	vd_request_send_blocks(drv, PURPOSE_LEARN, VMEM_REQ_STATE, learn->addr, nr);
}

/* What was found at the start is used at once by those units that are online, but were not before. */
static void learn_give(struct vmem_driver *drv, struct run run)
{
	uint32_t end = run.first + run.nr;

	for (uint32_t from = run.first; from < end;) {
		uint32_t u = vd_chunk_unit(drv, from);
		uint32_t to = vd_unit_end(drv, u) < end ? vd_unit_end(drv, u) : end;

		if (!drv->learn.start || !(drv->units[u].flags & UNIT_KEPT))
			vd_driver_give(drv, (struct run){.first = from, .nr = to - from});
		from = to;
	}
}

static void learn_found(struct vmem_driver *drv, struct run run, bool plugged)
{
	bool held = drv->held.nr && vd_run_has(drv->held, run.first);

	vd_map_set_plugged(drv, run, plugged);
	if (plugged && !held)
		learn_give(drv, run);
}

/* Goes on behind @nr blocks; the end of it all, if nothing is left to be found. */
static void learn_advance(struct vmem_driver *drv, uint32_t nr)
{
	struct learn *learn = &drv->learn;

	learn->addr += (uint64_t)nr << drv->block_shift;
	if (learn->step < DRIVER_BLOCKS_POW)
		learn->step *= 2;
	/* Pieces are only of a chunk that was found to be mixed. */
	if (learn->step < drv->blocks_per_chunk && learn_chunk_rest(drv) == drv->blocks_per_chunk)
		learn->step = drv->blocks_per_chunk;
	if (learn->start && vd_chunks_bytes(drv, drv->nr_plugged) >= drv->device_plugged_size)
		learn->addr = learn->end;
	if (learn->addr == learn->end)
		vd_driver_config_stale(drv);
}

void vd_learn_answer(struct vmem_driver *drv, uint16_t type, uint16_t state)
{
	struct learn *learn = &drv->learn;
	uint32_t nr = drv->request.nr_blocks;
	bool piece = nr < drv->blocks_per_chunk;
	uint32_t half = nr / 2;
	struct run run = {
		.first = learn_chunk(drv),
		.nr = piece ? 1 : nr >> (drv->chunk_shift - drv->block_shift),
	};

	if (type != VMEM_RESP_ACK) {
		learn_pause(drv, type);
	} else if (state == VMEM_STATE_MIXED) {
		if (nr > drv->blocks_per_chunk)
			half &= ~(drv->blocks_per_chunk - 1);
		learn->step = half ? half : 1;
	} else if (piece && state == VMEM_STATE_PLUGGED) {
		learn->piece = nr;
	} else {
		/* A chunk of which a part is unplugged is unplugged as a whole in the end. */
		learn_found(drv, run, state == VMEM_STATE_PLUGGED);
		learn_advance(drv, nr);
	}
}

void vd_learn_piece_answer(struct vmem_driver *drv, uint16_t type)
{
	struct learn *learn = &drv->learn;
	uint32_t nr = learn->piece;

	/* After an error it is asked about again. */
	if (type == VMEM_RESP_ACK || type == VMEM_RESP_ERROR)
		learn->piece = 0;
	if (type != VMEM_RESP_ACK) {
		learn_pause(drv, type);
		return;
	}
	vd_map_set_plugged(drv, (struct run){.first = learn_chunk(drv), .nr = 1}, false);
	learn_advance(drv, nr);
}
