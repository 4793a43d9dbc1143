/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The balloon's statistics: VIRTIO 1.3, 5.5.6.4, and balloon.h, I5.
 *
 * The driver's buffer is kept until the next statistics are due, and answered then: that is the
 * question. The next buffer is the reply, so there is no question as long as none is in hand.
 */
#include <endian.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include "base/num.h"
#include "vmm/virtio/balloon_state.h"

/* An entry as the driver writes it. */
struct stat_entry {
	uint16_t tag;
	uint64_t val;
} __attribute__((packed));

_Static_assert(sizeof(struct stat_entry) == 10, "struct virtio_balloon_stat");

#define SECOND_MS UINT64_C(1000)

const char *balloon_stat_name(enum balloon_stat stat)
{
	static const char *const names[] = {
		[BALLOON_STAT_SWAP_IN] = "stat-swap-in",
		[BALLOON_STAT_SWAP_OUT] = "stat-swap-out",
		[BALLOON_STAT_MAJFLT] = "stat-major-faults",
		[BALLOON_STAT_MINFLT] = "stat-minor-faults",
		[BALLOON_STAT_MEMFREE] = "stat-free-memory",
		[BALLOON_STAT_MEMTOT] = "stat-total-memory",
		[BALLOON_STAT_AVAIL] = "stat-available-memory",
		[BALLOON_STAT_CACHES] = "stat-disk-caches",
		[BALLOON_STAT_HTLB_PGALLOC] = "stat-htlb-pgalloc",
		[BALLOON_STAT_HTLB_PGFAIL] = "stat-htlb-pgfail",
		[BALLOON_STAT_OOM_KILL] = "stat-oom-kill",
		[BALLOON_STAT_ALLOC_STALL] = "stat-alloc-stall",
		[BALLOON_STAT_ASYNC_SCAN] = "stat-async-scan",
		[BALLOON_STAT_DIRECT_SCAN] = "stat-direct-scan",
		[BALLOON_STAT_ASYNC_RECLAIM] = "stat-async-reclaim",
		[BALLOON_STAT_DIRECT_RECLAIM] = "stat-direct-reclaim",
	};

	_Static_assert(ARRAY_SIZE(names) == BALLOON_STATS, "a name for each");
	return names[stat];
}

static void stats_clear(struct balloon_stats *stats)
{
	for (size_t i = 0; i < BALLOON_STATS; i++)
		stats->values[i] = BALLOON_STAT_UNKNOWN;
}

void balloon_stats_init(struct balloon *b)
{
	stats_clear(&b->stats);
}

void balloon_stats(struct balloon *b, struct balloon_stats *ret)
{
	pthread_mutex_lock(&b->stats_lock);
	*ret = b->stats;
	pthread_mutex_unlock(&b->stats_lock);
	ret->interval_s = b->wanted_interval_s;
	ret->supported = b->features & VIRTIO_FEATURE(BALLOON_F_STATS_VQ);
}

/*
 * Take the figures out of the buffer in hand; what it does not have is unknown. False: it is bad.
 */
static bool stats_receive(struct balloon *b)
{
	const struct vq_chain *chain = b->queues[BALLOON_QUEUE_STATS].chain;
	struct stat_entry entries[BALLOON_STATS_ENTRIES_MAX];
	struct balloon_stats stats;
	size_t nr = (size_t)num_min(chain->readable_bytes / sizeof(entries[0]),
				    BALLOON_STATS_ENTRIES_MAX);
	struct timespec now = {0};

	if (vq_chain_read(virtio_queue(b->vdev, BALLOON_QUEUE_STATS), chain, 0, entries,
			  nr * sizeof(entries[0])))
		return false;
	stats_clear(&stats);
	for (size_t i = 0; i < nr; i++) {
		uint16_t tag = le16toh(entries[i].tag);

		if (tag < BALLOON_STATS)
			stats.values[tag] = le64toh(entries[i].val);
	}
	clock_gettime(CLOCK_REALTIME, &now);
	pthread_mutex_lock(&b->stats_lock);
	memcpy(b->stats.values, stats.values, sizeof(stats.values));
	b->stats.last_update_s = (uint64_t)now.tv_sec;
	b->stats.updates++;
	pthread_mutex_unlock(&b->stats_lock);
	return true;
}

void balloon_kick_stats(struct balloon *b)
{
	struct balloon_queue *q = &b->queues[BALLOON_QUEUE_STATS];

	if (q->taken && b->stats_due)
		balloon_answer(b, BALLOON_QUEUE_STATS);
	if (q->taken || !balloon_take(b, BALLOON_QUEUE_STATS))
		return;
	/* Whether it was asked for or not, these are the figures of now. */
	b->stats_due = false;
	if (!stats_receive(b))
		virtio_set_needs_reset(b->vdev, "a balloon's statistics are not in guest memory");
	else if (b->interval_s)
		balloon_wake_in_ms(&b->poll, b->interval_s * SECOND_MS);
}

/* Ask as soon as the machine runs and the driver's buffer is there. The device lock is held. */
static void stats_ask(struct balloon *b)
{
	b->stats_due = true;
	virtio_queue_kick(b->vdev, BALLOON_QUEUE_STATS);
}

void balloon_stats_poll(void *opaque)
{
	struct balloon *b = opaque;

	virtio_lock(b->vdev);
	if (b->interval_s)
		stats_ask(b);
	virtio_unlock(b->vdev);
}

void balloon_stats_apply(struct balloon *b)
{
	uint32_t before = b->interval_s, now = b->wanted_interval_s;

	if (now == before)
		return;
	b->interval_s = now;
	if (!now) {
		b->stats_due = false;
		balloon_wake_never(&b->poll);
	} else if (!before) {
		stats_ask(b);
	} else if (!b->stats_due) {
		balloon_wake_in_ms(&b->poll, now * SECOND_MS);
	}
}

void balloon_stats_reset(struct balloon *b)
{
	b->stats_due = false;
	balloon_wake_never(&b->poll);
}
