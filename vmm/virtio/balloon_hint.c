/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The balloon's hints of free pages: VIRTIO 1.3, 5.5.6.5, and what balloon.h says of them.
 *
 * I1  Numbers of commands count up and begin anew after 2^32: none is used twice as long as a
 *     driver could still have it.
 * I2  Pages count from the buffer on that has the number of the command under way, to the next
 *     buffer that has any number, or to the command's end.
 */
#include <endian.h>
#include <errno.h>
#include <stddef.h>

#include "base/num.h"
#include "vmm/core/gm.h"
#include "vmm/virtio/balloon_state.h"

/* The driver is to see another number. The device lock is held. */
static void hint_tell(struct balloon *b, uint32_t cmd_id)
{
	if (b->hint_cmd_id == cmd_id)
		return;
	b->hint_cmd_id = cmd_id;
	virtio_config_changed_locked(b->vdev);
}

static void hint_forget(struct balloon *b)
{
	b->hint = BALLOON_HINT_NONE;
	b->hint_fn = NULL;
	b->hint_opaque = NULL;
}

int balloon_hint_start(struct balloon *b, void (*fn)(void *opaque, uint64_t gpa, uint64_t size),
		       void *opaque)
{
	int ret = 0;

	virtio_lock(b->vdev);
	if (b->hint != BALLOON_HINT_NONE)
		ret = -EBUSY;
	else if (!virtio_driver_ready(b->vdev) ||
		 !virtio_has_feature(b->vdev, BALLOON_F_FREE_PAGE_HINT))
		ret = -EOPNOTSUPP;
	if (!ret) {
		b->hint = BALLOON_HINT_ASKED;
		b->hint_fn = fn;
		b->hint_opaque = opaque;
		b->hint_last_id = (uint32_t)num_max(b->hint_last_id + 1, BALLOON_CMD_ID_FIRST);
		hint_tell(b, b->hint_last_id);
	}
	virtio_unlock(b->vdev);
	return ret;
}

void balloon_hint_stop(struct balloon *b)
{
	virtio_lock(b->vdev);
	if (b->hint != BALLOON_HINT_NONE) {
		hint_forget(b);
		hint_tell(b, BALLOON_CMD_ID_STOP);
	}
	virtio_unlock(b->vdev);
}

void balloon_hint_done(struct balloon *b)
{
	virtio_lock(b->vdev);
	hint_forget(b);
	/* A driver that was never asked for anything keeps nothing. */
	if (b->hint_last_id)
		hint_tell(b, BALLOON_CMD_ID_DONE);
	virtio_unlock(b->vdev);
}

bool balloon_hint_ended(struct balloon *b)
{
	bool ended;

	virtio_lock(b->vdev);
	ended = b->hint == BALLOON_HINT_NONE || b->hint == BALLOON_HINT_ENDED;
	virtio_unlock(b->vdev);
	return ended;
}

void balloon_hint_reset(struct balloon *b)
{
	hint_forget(b);
	b->hint_cmd_id = BALLOON_CMD_ID_STOP;
	b->hint_release = false;
}

/* Whole pages of one region go to who asked. */
static int64_t hint_step(struct balloon *b, unsigned int index, uint64_t gpa, uint64_t size,
			 uint64_t most, struct balloon_count *count)
{
	struct gm_discard_run run;
	uint64_t first, end;

	(void)index;
	(void)most;
	gm_discard_look(b->gm, gpa, size, &run);
	end = num_align_down(gpa + run.size, BALLOON_PAGE);
	if (!num_align_up(gpa, BALLOON_PAGE, &first) || first >= end ||
	    !gm_valid(b->gm, first, end - first)) {
		count->ignored++;
	} else {
		count->named += end - first;
		b->hint_fn(b->hint_opaque, first, end - first);
	}
	return (int64_t)run.size;
}

/* A number says to which command the pages that follow belong. False: it cannot be read. */
static bool hint_number(struct balloon *b)
{
	const struct vq_chain *chain = b->queues[BALLOON_QUEUE_HINTS].chain;
	uint32_t cmd_id;

	if (chain->readable_bytes < sizeof(cmd_id))
		return true;
	if (vq_chain_read(virtio_queue(b->vdev, BALLOON_QUEUE_HINTS), chain, 0, &cmd_id,
			  sizeof(cmd_id)))
		return false;
	if (b->hint == BALLOON_HINT_RUNNING)
		b->hint = BALLOON_HINT_ENDED;
	else if (b->hint == BALLOON_HINT_ASKED && le32toh(cmd_id) == b->hint_cmd_id)
		b->hint = BALLOON_HINT_RUNNING;
	return true;
}

/* The chain in hand. False: not all of it. */
static bool hint_chain(struct balloon *b, struct balloon_turn *turn)
{
	struct balloon_queue *q = &b->queues[BALLOON_QUEUE_HINTS];
	struct balloon_count count = {0};
	bool done = true;

	turn->pages--;
	/* Once for a chain, which may take several turns. */
	if (!q->page && !hint_number(b)) {
		virtio_set_needs_reset(b->vdev, "a balloon's command is not in guest memory");
		return false;
	}
	q->page = 1;
	if (b->hint == BALLOON_HINT_RUNNING)
		done = balloon_walk(b, BALLOON_QUEUE_HINTS, turn, hint_step, &count);
	balloon_count_up(b, &count, &b->hinted_bytes);
	return done;
}

void balloon_kick_hints(struct balloon *b)
{
	struct balloon_turn turn = {BALLOON_TURN_BYTES, BALLOON_TURN_PAGES};

	if (b->hint_release) {
		b->hint_release = false;
		hint_tell(b, BALLOON_CMD_ID_DONE);
	}
	while (turn.pages && turn.bytes) {
		if (!balloon_take(b, BALLOON_QUEUE_HINTS))
			return;
		if (hint_chain(b, &turn))
			balloon_answer(b, BALLOON_QUEUE_HINTS);
		else if (!virtio_driver_ready(b->vdev))
			return;
	}
	balloon_again(b, BALLOON_QUEUE_HINTS);
}
