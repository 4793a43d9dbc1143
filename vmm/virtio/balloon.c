/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The memory balloon: see balloon.h. Its life, what the driver reads and writes, what monitors ask
 * for; the queues are in balloon_pages.c, balloon_stats.c and balloon_hint.c.
 */
#include "vmm/virtio/balloon.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/core/loop.h"
#include "vmm/virtio/balloon_state.h"

#define BALLOON_QUEUE_SIZE 128

/* 5.5.4 */
struct balloon_layout {
	uint32_t num_pages, actual, free_page_hint_cmd_id, poison_val;
};

/* ---- what the files of the device share ---- */

void balloon_again(struct balloon *b, unsigned int index)
{
	virtio_queue_kick(b->vdev, index);
}

bool balloon_take(struct balloon *b, unsigned int index)
{
	struct balloon_queue *q = &b->queues[index];

	if (q->taken)
		return true;
	if (!virtio_queue_pop(b->vdev, index, q->chain))
		return false;
	*q = (struct balloon_queue){.chain = q->chain, .taken = true};
	return true;
}

void balloon_answer(struct balloon *b, unsigned int index)
{
	struct balloon_queue *q = &b->queues[index];

	virtio_queue_push(b->vdev, index, q->chain, 0);
	q->taken = false;
}

void balloon_wake_in_ms(const struct balloon_wake *wake, uint64_t ms)
{
	const struct itimerspec when = {
		.it_value = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000},
	};

	/* Cannot fail with these arguments. */
	timerfd_settime(wake->fd, 0, &when, NULL);
}

void balloon_wake_never(const struct balloon_wake *wake)
{
	timerfd_settime(wake->fd, 0, &(struct itimerspec){.it_value = {0}}, NULL);
}

/* ---- the driver ---- */

static void balloon_set_actual(struct balloon *b, uint32_t actual)
{
	if (b->actual == actual)
		return;
	b->actual = actual;
	if (b->changed)
		b->changed(b->opaque, b);
}

static struct balloon_layout balloon_layout(const struct balloon *b)
{
	return (struct balloon_layout){
		.num_pages = htole32(b->num_pages),
		.actual = htole32(b->actual),
		.free_page_hint_cmd_id = htole32(b->hint_cmd_id),
		.poison_val = htole32(b->poison_val),
	};
}

static void balloon_config_read(void *opaque, uint32_t offset, void *buf, uint32_t size)
{
	const struct balloon_layout layout = balloon_layout(opaque);

	memcpy(buf, (const char *)&layout + offset, size);
}

/* Of a write the part that is of a field which is the driver's to write counts. */
static void balloon_config_write(void *opaque, uint32_t offset, const void *buf, uint32_t size)
{
	struct balloon *b = opaque;
	struct balloon_layout layout = balloon_layout(b);

	memcpy((char *)&layout + offset, buf, size);
	b->poison_val = le32toh(layout.poison_val);
	balloon_set_actual(b, le32toh(layout.actual));
}

/* Take over what monitors asked for. */
static void balloon_apply_locked(struct balloon *b)
{
	if (b->num_pages != b->wanted_pages || b->actual != b->wanted_pages) {
		/* A driver that could not do it is asked once more. */
		b->num_pages = b->wanted_pages;
		virtio_config_changed_locked(b->vdev);
	}
	balloon_stats_apply(b);
}

static void balloon_queue_kick(void *opaque, unsigned int index)
{
	struct balloon *b = opaque;

	/* The machine runs again: the driver can be told. */
	if (b->loaded)
		balloon_apply_locked(b);
	b->loaded = false;
	if (index == BALLOON_QUEUE_STATS)
		balloon_kick_stats(b);
	else if (index < BALLOON_QUEUE_STATS)
		balloon_kick_pages(b, index);
	else if (index == BALLOON_QUEUE_HINTS &&
		 virtio_has_feature(b->vdev, BALLOON_F_FREE_PAGE_HINT))
		balloon_kick_hints(b);
	else if (virtio_has_feature(b->vdev, BALLOON_F_REPORTING))
		balloon_kick_reports(b, index);
}

/* Page numbers of a request that was not answered may be noted: nobody knows which of them. */
static void balloon_queue_reset(void *opaque, unsigned int index)
{
	struct balloon *b = opaque;

	b->queues[index] = (struct balloon_queue){.chain = b->queues[index].chain};
	if (index == BALLOON_QUEUE_INFLATE)
		balloon_map_clear_all(&b->map);
	if (index == BALLOON_QUEUE_STATS)
		balloon_stats_reset(b);
}

static bool balloon_features_ok(void *opaque, uint64_t features)
{
	struct balloon *b = opaque;

	b->features = features;
	return true;
}

/* The driver, and with it what it knew of, is gone: all pages are the guest's (I7). */
static void balloon_reset(void *opaque)
{
	struct balloon *b = opaque;

	for (unsigned int i = 0; i < BALLOON_QUEUES; i++)
		balloon_queue_reset(b, i);
	balloon_hint_reset(b);
	b->poison_val = 0;
	b->features = 0;
	balloon_set_actual(b, 0);
}

static const struct virtio_device_ops balloon_ops = {
	.config_read = balloon_config_read,
	.config_write = balloon_config_write,
	.features_ok = balloon_features_ok,
	.queue_kick = balloon_queue_kick,
	.queue_reset = balloon_queue_reset,
	.reset = balloon_reset,
	.state_version = BALLOON_STATE_VERSION,
	.save = balloon_save,
	.load = balloon_load,
};

/* ---- monitors ---- */

/* Have the loop look at what is wanted. */
static void balloon_ask(const struct balloon *b)
{
	uint64_t one = 1;
	ssize_t ret = write(b->apply.fd, &one, sizeof(one));

	/* Fails only when the counter is full: the loop is on its way then. */
	(void)ret;
}

static void balloon_apply(void *opaque)
{
	struct balloon *b = opaque;

	virtio_lock(b->vdev);
	balloon_apply_locked(b);
	virtio_unlock(b->vdev);
}

void balloon_set_target(struct balloon *b, uint64_t bytes)
{
	uint64_t taken = b->ram_bytes - num_min(bytes, b->ram_bytes);

	/* The guest keeps no more than that, and a page in parts is no page. */
	taken = num_min(taken / BALLOON_PAGE + (taken % BALLOON_PAGE != 0),
			b->ram_bytes / BALLOON_PAGE);
	b->wanted_pages = (uint32_t)num_min(taken, UINT32_MAX);
	balloon_ask(b);
}

void balloon_set_stats_interval(struct balloon *b, uint32_t seconds)
{
	b->wanted_interval_s = seconds;
	balloon_ask(b);
}

void balloon_info(const struct balloon *b, struct balloon_info *ret)
{
	uint64_t actual = b->actual;

	*ret = (struct balloon_info){
		.ram_bytes = b->ram_bytes,
		.target_bytes = b->ram_bytes - b->wanted_pages * BALLOON_PAGE,
		.actual_bytes = b->ram_bytes - num_min(actual * BALLOON_PAGE, b->ram_bytes),
		.num_pages = b->num_pages,
		.actual = (uint32_t)actual,
		.features = b->features,
		.driven = virtio_driver_ready(b->vdev),
		.poison_val = b->poison_val,
		.inflated_bytes = b->inflated_bytes,
		.deflated_bytes = b->deflated_bytes,
		.reported_bytes = b->reported_bytes,
		.hinted_bytes = b->hinted_bytes,
		.discarded_bytes = b->discarded_bytes,
		.discards_failed = b->discards_failed,
		.ignored_pages = b->ignored_pages,
	};
}

/* ---- life ---- */

/* On the loop: go on with what waits for somebody. */
static void balloon_retry(void *opaque)
{
	struct balloon *b = opaque;

	virtio_lock(b->vdev);
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++)
		if (b->queues[i].attempts)
			balloon_again(b, i);
	virtio_unlock(b->vdev);
}

static uint64_t balloon_features(const struct balloon_config *c)
{
	return VIRTIO_FEATURE(BALLOON_F_MUST_TELL_HOST) | VIRTIO_FEATURE(BALLOON_F_STATS_VQ) |
	       (uint64_t)c->deflate_on_oom << BALLOON_F_DEFLATE_ON_OOM |
	       (uint64_t)c->free_page_hint << BALLOON_F_FREE_PAGE_HINT |
	       (uint64_t)c->page_poison << BALLOON_F_PAGE_POISON |
	       (uint64_t)c->free_page_reporting << BALLOON_F_REPORTING;
}

static int balloon_init_virtio(struct balloon *b, const struct balloon_config *c, struct err **err)
{
	static const uint16_t sizes[BALLOON_QUEUES] = {
		BALLOON_QUEUE_SIZE, BALLOON_QUEUE_SIZE, BALLOON_QUEUE_SIZE,
		BALLOON_QUEUE_SIZE, BALLOON_QUEUE_SIZE,
	};
	const uint64_t hints = VIRTIO_FEATURE(BALLOON_F_FREE_PAGE_HINT);
	const uint64_t reports = VIRTIO_FEATURE(BALLOON_F_REPORTING);
	/* Queue 3 may be either's (balloon_state.h), and is there for whoever uses it. */
	const uint64_t features[BALLOON_QUEUES] = {
		[BALLOON_QUEUE_STATS] = VIRTIO_FEATURE(BALLOON_F_STATS_VQ),
		[BALLOON_QUEUE_HINTS] = c->free_page_hint && c->free_page_reporting ? 0
					: c->free_page_hint                         ? hints
										    : reports,
		[BALLOON_QUEUE_REPORTS] = reports,
	};
	const struct virtio_device_config device = {
		.id = c->id,
		.device_id = VIRTIO_ID_BALLOON,
		.features = balloon_features(c),
		.config_size = sizeof(struct balloon_layout),
		.nr_queues = c->free_page_reporting ? BALLOON_QUEUES
			     : c->free_page_hint    ? BALLOON_QUEUE_HINTS + 1
						    : BALLOON_QUEUE_STATS + 1,
		.queue_sizes = sizes,
		.queue_features = features,
		.packed = c->packed,
		.event_idx = c->event_idx,
		.indirect_desc = c->indirect_desc,
		.queue_reset = c->queue_reset,
		.gm = c->gm,
		.loop = c->loop,
	};

	b->vdev = virtio_device_new(&device, &balloon_ops, b, err);
	if (!b->vdev)
		return -EIO;
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++) {
		/* All queues are of one size. */
		b->queues[i].chain = vq_chain_new(virtio_queue(b->vdev, BALLOON_QUEUE_INFLATE));
		if (!b->queues[i].chain)
			return err_set(err, ENOMEM, "out of memory");
	}
	return 0;
}

/* @fd: a new event or timer, or -1 and errno. */
static int balloon_init_wake(struct balloon *b, const struct balloon_config *c,
			     struct balloon_wake *wake, int fd, void (*fn)(void *opaque),
			     struct err **err)
{
	if (fd < 0)
		return err_set(err, errno, "device '%s': cannot create a timer or an event: %s",
			       c->id, strerror(errno));
	wake->fd = fd;
	wake->watch = loop_watch_new(c->loop, fd, fn, b, err);
	return wake->watch ? 0 : -EIO;
}

static void balloon_end_wake(struct balloon_wake *wake)
{
	/* Waits for its callback. */
	loop_watch_free(wake->watch);
	if (wake->fd >= 0)
		close(wake->fd);
}

static int balloon_init(struct balloon *b, const struct balloon_config *c, struct err **err)
{
	int ret = balloon_init_virtio(b, c, err);

	if (!ret)
		ret = balloon_init_wake(b, c, &b->apply, eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
					balloon_apply, err);
	if (!ret)
		ret = balloon_init_wake(b, c, &b->retry,
					timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC),
					balloon_retry, err);
	if (!ret)
		ret = balloon_init_wake(b, c, &b->poll,
					timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC),
					balloon_stats_poll, err);
	return ret;
}

struct balloon *balloon_new(const struct balloon_config *config, struct err **err)
{
	struct balloon *b = calloc(1, sizeof(*b));

	if (!b) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&b->stats_lock, NULL);
	b->gm = config->gm;
	b->ram_bytes = config->ram_bytes;
	b->changed = config->changed;
	b->opaque = config->opaque;
	b->apply.fd = b->retry.fd = b->poll.fd = -1;
	balloon_stats_init(b);
	if (balloon_init(b, config, err)) {
		balloon_free(b);
		return NULL;
	}
	if (config->stats_interval_s)
		balloon_set_stats_interval(b, config->stats_interval_s);
	return b;
}

void balloon_free(struct balloon *b)
{
	if (!b)
		return;
	balloon_end_wake(&b->apply);
	balloon_end_wake(&b->retry);
	balloon_end_wake(&b->poll);
	virtio_device_free(b->vdev);
	for (unsigned int i = 0; i < BALLOON_QUEUES; i++)
		vq_chain_free(b->queues[i].chain);
	balloon_map_clear_all(&b->map);
	pthread_mutex_destroy(&b->stats_lock);
	free(b);
}

struct virtio_device *balloon_device(struct balloon *b)
{
	return b->vdev;
}
