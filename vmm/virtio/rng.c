/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The entropy device: see rng.h.
 *
 * The limit is a quota that a timer refills. The timer runs only after something was taken from the
 * quota, so an idle device wakes nobody up.
 */
#include "vmm/virtio/rng.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "base/pack.h"
#include "vmm/core/loop.h"
#include "vmm/virtio/virtio.h"

#define RNG_QUEUE      0
#define RNG_QUEUE_SIZE 8

#define RNG_STATE_VERSION 1u

struct rng {
	/* immutable */
	struct virtio_device *vdev;
	uint64_t max_bytes;
	uint32_t period_ms;
	int timer; /* timerfd, or -1: not limited */
	struct loop_watch *timer_watch;
	/* guarded by the device lock */
	struct vq_chain *chain;
	bool chain_waits; /* chain was taken and waits for quota */
	uint64_t quota;
	bool timer_runs;
};

/*
 * Fill the first @bytes of the chain. False when that is impossible; the device needs a reset then
 * (memory that is not there), or the host gave no randomness, which does not happen after boot.
 */
static bool rng_fill(struct rng *rng, const struct vq_chain *chain, uint64_t bytes)
{
	struct vq *vq = virtio_queue(rng->vdev, RNG_QUEUE);
	char buf[4096];

	for (uint64_t done = 0; done < bytes;) {
		size_t part = (size_t)num_min(bytes - done, sizeof(buf));
		ssize_t got = getrandom(buf, part, GRND_NONBLOCK);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			virtio_set_needs_reset(rng->vdev, "the host has no random numbers");
			return false;
		}
		if (vq_chain_write(vq, chain, done, buf, (size_t)got)) {
			virtio_set_needs_reset(rng->vdev, "a buffer is not in guest memory");
			return false;
		}
		done += (uint64_t)got;
	}
	return true;
}

/* Begin a period that lasts @left_ms more (at least 1), if none is running. */
static void rng_timer_start(struct rng *rng, uint32_t left_ms)
{
	struct itimerspec when = {
		.it_value = {.tv_sec = left_ms / 1000, .tv_nsec = (long)(left_ms % 1000) * 1000000},
	};

	if (rng->timer < 0 || rng->timer_runs)
		return;
	/* Cannot fail with these arguments. */
	timerfd_settime(rng->timer, 0, &when, NULL);
	rng->timer_runs = true;
}

/* Answer the chain in hand. False: not now, for want of quota, or not at all. */
static bool rng_answer(struct rng *rng)
{
	uint64_t bytes = num_min(rng->chain->writable_bytes, RNG_REQUEST_BYTES_MAX);

	if (bytes && !rng->quota)
		return false;
	bytes = num_min(bytes, rng->quota);
	if (!rng_fill(rng, rng->chain, bytes))
		return false;
	virtio_queue_push(rng->vdev, RNG_QUEUE, rng->chain, (uint32_t)bytes);
	rng->chain_waits = false;
	if (rng->timer >= 0)
		rng->quota -= bytes;
	if (bytes)
		rng_timer_start(rng, rng->period_ms);
	return true;
}

static void rng_queue_kick(void *opaque, unsigned int index)
{
	struct rng *rng = opaque;

	if (rng->chain_waits && !rng_answer(rng))
		return;
	while (virtio_queue_pop(rng->vdev, index, rng->chain)) {
		rng->chain_waits = true;
		if (!rng_answer(rng))
			return;
	}
}

static void rng_period_ended(void *opaque)
{
	struct rng *rng = opaque;

	virtio_lock(rng->vdev);
	rng->timer_runs = false;
	rng->quota = rng->max_bytes;
	if (rng->chain_waits)
		virtio_queue_kick(rng->vdev, RNG_QUEUE);
	virtio_unlock(rng->vdev);
}

static void rng_forget_chain(void *opaque)
{
	struct rng *rng = opaque;

	rng->chain_waits = false;
}

static void rng_queue_reset(void *opaque, unsigned int index)
{
	(void)index;
	rng_forget_chain(opaque);
}

/* What is left of the period; 0: none is running, or it ends now. */
static uint32_t rng_timer_left_ms(const struct rng *rng)
{
	struct itimerspec left = {.it_value = {0, 0}};

	if (rng->timer_runs)
		timerfd_gettime(rng->timer, &left);
	return (uint32_t)(left.it_value.tv_sec * 1000 + left.it_value.tv_nsec / 1000000);
}

static void rng_save(void *opaque, struct pack *out)
{
	const struct rng *rng = opaque;

	pack_u64(out, rng->quota);
	pack_u32(out, rng_timer_left_ms(rng));
}

static int rng_load(void *opaque, uint32_t version, struct unpack *in, struct err **err)
{
	struct rng *rng = opaque;
	uint64_t quota = unpack_u64(in);
	uint32_t left_ms = unpack_u32(in);

	(void)version;
	if (unpack_failed(in) || quota > INT64_MAX)
		return err_set(err, EINVAL, "its quota is cut short or cannot be");
	rng->quota = num_min(quota, rng->max_bytes);
	left_ms = (uint32_t)num_min(left_ms, rng->period_ms);
	/* Also a quota that the source had not begun to fill up: it must not stay what it is. */
	if (left_ms || rng->quota < rng->max_bytes)
		rng_timer_start(rng, left_ms ? left_ms : 1);
	if (rng->timer < 0)
		rng->quota = rng->max_bytes;
	return 0;
}

static const struct virtio_device_ops rng_ops = {
	.queue_kick = rng_queue_kick,
	.queue_reset = rng_queue_reset,
	.reset = rng_forget_chain,
	.state_version = RNG_STATE_VERSION,
	.save = rng_save,
	.load = rng_load,
};

static int rng_check(const struct rng_config *config, struct err **err)
{
	if (!config->max_bytes || config->max_bytes > INT64_MAX)
		return err_set(err, EINVAL,
			       "device '%s': max-bytes=%" PRIu64
			       " is out of range, 1 to 2^63 - 1 are allowed",
			       config->id, config->max_bytes);
	if (!config->period_ms)
		return err_set(err, EINVAL,
			       "device '%s': period=0 is out of range, 1 to 2^32 - 1 milliseconds "
			       "are allowed",
			       config->id);
	return 0;
}

static int rng_init_timer(struct rng *rng, const struct rng_config *config, struct err **err)
{
	if (rng->max_bytes == RNG_MAX_BYTES_DEFAULT)
		return 0;
	rng->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (rng->timer < 0)
		return err_set(err, errno, "device '%s': cannot create a timer: %s", config->id,
			       strerror(errno));
	rng->timer_watch = loop_watch_new(config->loop, rng->timer, rng_period_ended, rng, err);
	return rng->timer_watch ? 0 : -EIO;
}

static int rng_init(struct rng *rng, const struct rng_config *config, struct err **err)
{
	const uint16_t queue_sizes[] = {RNG_QUEUE_SIZE};
	struct virtio_device_config device = {
		.id = config->id,
		.device_id = VIRTIO_ID_ENTROPY,
		.nr_queues = ARRAY_SIZE(queue_sizes),
		.queue_sizes = queue_sizes,
		.packed = config->packed,
		.event_idx = config->event_idx,
		.indirect_desc = config->indirect_desc,
		.queue_reset = config->queue_reset,
		.gm = config->gm,
		.loop = config->loop,
	};

	rng->vdev = virtio_device_new(&device, &rng_ops, rng, err);
	if (!rng->vdev)
		return -EIO;
	rng->chain = vq_chain_new(virtio_queue(rng->vdev, RNG_QUEUE));
	if (!rng->chain)
		return err_set(err, ENOMEM, "out of memory");
	return rng_init_timer(rng, config, err);
}

struct rng *rng_new(const struct rng_config *config, struct err **err)
{
	struct rng *rng;

	if (rng_check(config, err))
		return NULL;
	rng = calloc(1, sizeof(*rng));
	if (!rng) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	rng->timer = -1;
	rng->max_bytes = config->max_bytes;
	rng->quota = config->max_bytes;
	rng->period_ms = config->period_ms;
	if (rng_init(rng, config, err)) {
		rng_free(rng);
		return NULL;
	}
	return rng;
}

void rng_free(struct rng *rng)
{
	if (!rng)
		return;
	loop_watch_free(rng->timer_watch);
	if (rng->timer >= 0)
		close(rng->timer);
	virtio_device_free(rng->vdev);
	vq_chain_free(rng->chain);
	free(rng);
}

struct virtio_device *rng_device(struct rng *rng)
{
	return rng->vdev;
}
