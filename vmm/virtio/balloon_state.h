/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Inside of the balloon: its state. Only the files balloon*.c include this; contract, invariants
 * and threads are in balloon.h.
 *
 * Queues by number: the standard has the hints at 3 and the reports at 4. Drivers that know of just
 * one of the two (and QEMU) have it at 3, so where hints are not negotiated 3 takes reports as
 * well.
 */
#ifndef VMM_VIRTIO_BALLOON_STATE_H
#define VMM_VIRTIO_BALLOON_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "vmm/virtio/balloon.h"
#include "vmm/virtio/balloon_map.h"
#include "vmm/virtio/virtio.h"

struct loop_watch;
struct pack;
struct unpack;

enum {
	BALLOON_QUEUE_INFLATE,
	BALLOON_QUEUE_DEFLATE,
	BALLOON_QUEUE_STATS,
	BALLOON_QUEUE_HINTS,
	BALLOON_QUEUE_REPORTS,
	BALLOON_QUEUES,
};

/*
 * free_page_hint_cmd_id (5.5.6.5): numbers below the first command's have a meaning of their own.
 */
#define BALLOON_CMD_ID_STOP  0u
#define BALLOON_CMD_ID_DONE  1u
#define BALLOON_CMD_ID_FIRST 2u

/* The chain in hand of a queue, and how far it is done. Guarded by the device lock. */
struct balloon_queue {
	struct vq_chain *chain;
	bool taken;
	uint64_t page;         /* of page numbers: the next one */
	uint64_t offset;       /* of segments: bytes of `segment` that are done */
	unsigned int segment;  /* among the writable ones */
	unsigned int attempts; /* at a region that somebody is busy with */
};

/* What is left of a turn (balloon.h, I3). */
struct balloon_turn {
	uint64_t bytes;
	unsigned int pages;
};

/* What is counted when it is done, for what had to be tried again counts once. */
struct balloon_count {
	uint64_t named, discarded, failed, ignored;
};

/* A timer or an event, and who is called on the loop. */
struct balloon_wake {
	int fd;
	struct loop_watch *watch;
};

enum balloon_hint_state {
	BALLOON_HINT_NONE,
	BALLOON_HINT_ASKED,   /* the driver was told the command's number */
	BALLOON_HINT_RUNNING, /* it began */
	BALLOON_HINT_ENDED,   /* it has no more */
};

struct balloon {
	/* immutable */
	struct virtio_device *vdev;
	struct gm *gm;
	uint64_t ram_bytes;
	void (*changed)(void *opaque, struct balloon *balloon);
	void *opaque;
	struct balloon_wake apply; /* what monitors asked for is to be taken over */
	struct balloon_wake retry; /* somebody was busy */
	struct balloon_wake poll;  /* statistics are due */

	/* what monitors ask for */
	_Atomic uint32_t wanted_pages, wanted_interval_s;

	/* written with the device lock held, read without */
	_Atomic uint32_t num_pages, actual, poison_val;
	_Atomic uint64_t features; /* negotiated */
	_Atomic uint64_t inflated_bytes, deflated_bytes, reported_bytes, hinted_bytes;
	_Atomic uint64_t discarded_bytes, discards_failed, ignored_pages;

	/* guarded by the device lock */
	struct balloon_queue queues[BALLOON_QUEUES];
	struct balloon_map map;
	uint32_t interval_s;
	bool loaded;    /* what monitors asked for at the source is to be taken over */
	bool stats_due; /* to be asked for as soon as the driver's buffer is there */
	enum balloon_hint_state hint;
	uint32_t hint_cmd_id;  /* in the configuration */
	uint32_t hint_last_id; /* of the last command */
	bool hint_release;     /* loaded: the driver keeps pages for a command of the source */
	void (*hint_fn)(void *opaque, uint64_t gpa, uint64_t size);
	void *hint_opaque;

	pthread_mutex_t stats_lock; /* innermost */
	struct balloon_stats stats; /* guarded by it: values, last_update_s, updates */
};

/* ---- balloon.c ---- */

/* A turn of a queue is over before its work is: go on in another. */
void balloon_again(struct balloon *balloon, unsigned int index);
/* The next chain of the queue is in hand; false: there is none. */
bool balloon_take(struct balloon *balloon, unsigned int index);
/* The chain in hand is answered. */
void balloon_answer(struct balloon *balloon, unsigned int index);
/* Arm a timer, at least a moment from now. */
void balloon_wake_in_ms(const struct balloon_wake *wake, uint64_t ms);
void balloon_wake_never(const struct balloon_wake *wake);

/* ---- the queues; for struct virtio_device_ops.queue_kick ---- */

void balloon_kick_pages(struct balloon *balloon, unsigned int index); /* balloon_pages.c */
void balloon_kick_reports(struct balloon *balloon, unsigned int index);
void balloon_kick_stats(struct balloon *balloon); /* balloon_stats.c */
void balloon_kick_hints(struct balloon *balloon); /* balloon_hint.c */

/*
 * A step of a walk: about @most bytes of [gpa, gpa + size), which does not wrap around, for queue
 * @index. How many were done, 1 to @size, or -EAGAIN: somebody is busy.
 */
typedef int64_t balloon_step_fn(struct balloon *balloon, unsigned int index, uint64_t gpa,
				uint64_t size, uint64_t most, struct balloon_count *count);
/*
 * Step through the writable segments of the chain in hand. False: the turn is over, or somebody is
 * busy (attempts is not 0), and the chain is not done.
 */
bool balloon_walk(struct balloon *balloon, unsigned int index, struct balloon_turn *turn,
		  balloon_step_fn *fn, struct balloon_count *count);
void balloon_count_up(struct balloon *balloon, const struct balloon_count *count,
		      _Atomic uint64_t *named);

/* ---- balloon_stats.c ---- */

void balloon_stats_init(struct balloon *balloon);
/* On the loop: it is time to ask. */
void balloon_stats_poll(void *opaque);
/* Take over how often to ask. The device lock is held. */
void balloon_stats_apply(struct balloon *balloon);
void balloon_stats_reset(struct balloon *balloon);

/* ---- balloon_hint.c ---- */

void balloon_hint_reset(struct balloon *balloon);

/* ---- balloon_save.c; for struct virtio_device_ops ---- */

#define BALLOON_STATE_VERSION 1u
void balloon_save(void *opaque, struct pack *out);
int balloon_load(void *opaque, uint32_t version, struct unpack *in, struct err **err);

#endif
