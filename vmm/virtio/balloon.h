/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The memory balloon: VIRTIO 1.3, 5.5 "Traditional Memory Balloon Device" (device type 5).
 *
 *     inflateq, deflateq   the driver puts pages into the balloon and takes them out again
 *     statsq               figures of the guest's memory, each time the device asks for them
 *     free_page_vq         pages that need not be carried elsewhere now (hints, for a migration)
 *     reporting_vq         pages that the guest has no use for now
 *
 * What is given up goes back to the host by gm_discard(): boot RAM, and plugged device memory too,
 * whose sizes never change by that. The owner of each region decides how; a page that is not
 * memory, or not plugged, is passed over. Memory of large host pages goes back when all of a page
 * is given.
 *
 * I1  A page's content is lost only after the device took the request that names it, and before the
 *     request is answered; that of a large host page when its last part is given, if the driver
 *     promised to tell before it uses pages again (VIRTIO_BALLOON_F_MUST_TELL_HOST), else when all
 *     of it comes in one request. After a reset of the device, and after the driver took a page
 *     out, nothing is lost by what was said before.
 * I2  Nothing is taken from the guest for a report while VIRTIO_BALLOON_F_PAGE_POISON is negotiated
 *     and poison_val is not 0: the pages keep that value.
 * I3  One turn of the loop looks at BALLOON_TURN_PAGES page numbers or segments at most, and gives
 *     back BALLOON_TURN_BYTES, or as many large host pages as these numbers were the last parts of:
 *     a longer request goes on in a later turn, with its place in the ring. The device lock is held
 *     no longer than a turn.
 * I4  Whoever is busy with a region does not keep the device waiting: after some attempts the pages
 *     stay the guest's, and are counted (discards_failed).
 * I5  At most one request for statistics is with the driver. Of a buffer BALLOON_STATS_ENTRIES_MAX
 *     entries are looked at; unknown tags are passed over.
 * I6  Memory that the device uses itself is bounded by the guest's: a bit for 4 KiB, and that only
 *     where host pages are large and some of it is in the balloon.
 * I7  A reset of the device or the machine empties the balloon (actual is 0); the target, and how
 *     often statistics are asked for, stay.
 *
 * Ownership: the caller owns the struct balloon; gm and loop outlive it.
 * Threads: queues run on the loop's thread with the device lock (virtio.h) held. The functions here
 * may be called from any thread without that lock; those that may wait for a turn of the device say
 * so.
 * The guest controls: the content of all queues, actual, poison_val, features, and their pace.
 */
#ifndef VMM_VIRTIO_BALLOON_H
#define VMM_VIRTIO_BALLOON_H

#include <stdbool.h>
#include <stdint.h>

struct balloon;
struct err;
struct gm;
struct loop;
struct virtio_device;

/* The device's feature bits (5.5.3). */
#define BALLOON_F_MUST_TELL_HOST 0
#define BALLOON_F_STATS_VQ       1
#define BALLOON_F_DEFLATE_ON_OOM 2
#define BALLOON_F_FREE_PAGE_HINT 3
#define BALLOON_F_PAGE_POISON    4
#define BALLOON_F_REPORTING      5

#define BALLOON_PAGE UINT64_C(4096) /* what page numbers count, whatever the guest's pages are */

/* I3, I5. */
#define BALLOON_TURN_BYTES        (UINT64_C(64) << 20)
#define BALLOON_TURN_PAGES        1024u
#define BALLOON_STATS_ENTRIES_MAX 128u

struct balloon_config {
	const char *id;
	uint64_t ram_bytes; /* boot RAM: what the balloon's sizes are counted from */
	bool deflate_on_oom, free_page_hint, page_poison, free_page_reporting; /* offered */
	bool packed, event_idx, indirect_desc, queue_reset;                    /* virtio.h */
	uint32_t stats_interval_s; /* balloon_set_stats_interval() */
	struct gm *gm;
	struct loop *loop;
	/*
	 * actual is not what it was. On any thread, the device lock held: must not wait. However
	 * often the guest does it: whoever is told bounds the rate. May be NULL.
	 */
	void (*changed)(void *opaque, struct balloon *balloon);
	void *opaque;
};

/* NULL and *err when memory or descriptors are out. */
struct balloon *balloon_new(const struct balloon_config *config, struct err **err);
/* Its transport must be gone. NULL is allowed. */
void balloon_free(struct balloon *balloon);

/* For the transport; lives as long as the balloon. */
struct virtio_device *balloon_device(struct balloon *balloon);

/* ---- for monitors; none of these waits ---- */

/*
 * How much of boot RAM the guest shall keep, in bytes: rounded down to pages, no more than there is
 * (as without a balloon) and no less than nothing. The driver is told soon, if and when there is
 * one.
 */
void balloon_set_target(struct balloon *balloon, uint64_t bytes);

/* A snapshot; each field is current by itself. Counters are since balloon_new(), in bytes. */
struct balloon_info {
	uint64_t ram_bytes;
	uint64_t target_bytes;      /* the last target, rounded; ram_bytes if there was none */
	uint64_t actual_bytes;      /* boot RAM that is not in the balloon, by the driver's word */
	uint32_t num_pages, actual; /* in units of BALLOON_PAGE, in the balloon: wanted, and are */
	uint64_t features;          /* negotiated; 0: none yet */
	bool driven;                /* a driver works with the device */
	uint32_t poison_val;
	uint64_t inflated_bytes, deflated_bytes; /* memory that the driver put in, took out */
	uint64_t reported_bytes, hinted_bytes;   /* memory that it named on the other queues */
	uint64_t discarded_bytes;                /* of what was put in or reported: given back */
	uint64_t discards_failed;                /* times that memory could not be given back */
	uint64_t ignored_pages;                  /* page numbers and segments that are no memory */
};

void balloon_info(const struct balloon *balloon, struct balloon_info *ret_info);

/* ---- statistics ---- */

/* Their tags (5.5.6.4): up to HTLB_PGFAIL the standard's, then those that Linux has added. */
enum balloon_stat {
	BALLOON_STAT_SWAP_IN,
	BALLOON_STAT_SWAP_OUT,
	BALLOON_STAT_MAJFLT,
	BALLOON_STAT_MINFLT,
	BALLOON_STAT_MEMFREE,
	BALLOON_STAT_MEMTOT,
	BALLOON_STAT_AVAIL,
	BALLOON_STAT_CACHES,
	BALLOON_STAT_HTLB_PGALLOC,
	BALLOON_STAT_HTLB_PGFAIL,
	BALLOON_STAT_OOM_KILL,
	BALLOON_STAT_ALLOC_STALL,
	BALLOON_STAT_ASYNC_SCAN,
	BALLOON_STAT_DIRECT_SCAN,
	BALLOON_STAT_ASYNC_RECLAIM,
	BALLOON_STAT_DIRECT_RECLAIM,
	BALLOON_STATS,
};

/* The spelling of monitors: "stat-swap-in", "stat-total-memory" ... */
const char *balloon_stat_name(enum balloon_stat stat);

#define BALLOON_STAT_UNKNOWN UINT64_MAX /* the guest did not say */

struct balloon_stats {
	uint64_t values[BALLOON_STATS];
	uint64_t last_update_s; /* of the clock of the day; 0: there was none */
	uint64_t updates;       /* how often the guest gave them */
	uint32_t interval_s;    /* how often it is asked; 0: never */
	bool supported;         /* the driver accepted VIRTIO_BALLOON_F_STATS_VQ */
};

/*
 * All figures of one update, consistent. The driver gives the first ones by itself when it starts,
 * others only when it is asked.
 */
void balloon_stats(struct balloon *balloon, struct balloon_stats *ret_stats);
/*
 * Ask for statistics, from now on and @seconds after each answer; 0: no more. The first time is at
 * once when they were not asked for before.
 */
void balloon_set_stats_interval(struct balloon *balloon, uint32_t seconds);

/* ---- hints, for those who carry memory elsewhere ---- */

/*
 * Ask the driver for pages whose content is of no use now, by a command of a new number. @fn is
 * called for each piece that it names for this command, with the device lock held, on the loop's
 * thread: it must not wait. Pieces are whole pages of 4 KiB inside one region of the gm, accessible
 * at that instant; they may come more than once, or in any order.
 *
 * What is written to a hinted page later overrides the hint. So a hint is about what was known of
 * written pages when this was called, and @fn may clear marks in a copy of what had been written
 * till then, and in that only: begin after such a copy was taken (gm_dirty_take()), and end, by
 * balloon_hint_stop(), before the next is. What nobody has looked at since the hints were asked for
 * may be left out likewise.
 *
 * 0; -EBUSY when a command is under way, -EOPNOTSUPP when no driver is there that accepted
 * VIRTIO_BALLOON_F_FREE_PAGE_HINT. A reset ends the command without a word. May wait for a turn.
 */
int balloon_hint_start(struct balloon *balloon,
		       void (*fn)(void *opaque, uint64_t gpa, uint64_t size), void *opaque);
/*
 * VIRTIO_BALLOON_CMD_ID_STOP: no more of this command. When it returns no call of its @fn is under
 * way and none will come. The driver keeps the pages until another command, or until it is told
 * that all is done. No-op when there is no command. May wait for a turn.
 */
void balloon_hint_stop(struct balloon *balloon);
/* VIRTIO_BALLOON_CMD_ID_DONE: the same, and the driver may use the pages. */
void balloon_hint_done(struct balloon *balloon);

/* Has the driver named all that it could for the command under way, or is there none? */
bool balloon_hint_ended(struct balloon *balloon);

#endif
