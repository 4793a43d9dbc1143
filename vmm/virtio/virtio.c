/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The virtio device core: see virtio.h for devices, virtio_transport.h for transports. This file
 * has the life of a device and its queues; the driver's registers are in virtio_regs.c.
 */
#include "vmm/virtio/virtio.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/core/loop.h"
#include "vmm/virtio/virtio_state.h"

#define VIRTIO_DEVICE_FEATURES \
	((VIRTIO_FEATURE(24) - 1) | ~(VIRTIO_FEATURE(50) - 1)) /* the device types' own bits */

void virtio_lock(struct virtio_device *vdev)
{
	pthread_mutex_lock(&vdev->lock);
}

bool virtio_try_lock(struct virtio_device *vdev)
{
	return !pthread_mutex_trylock(&vdev->lock);
}

void virtio_unlock(struct virtio_device *vdev)
{
	pthread_mutex_unlock(&vdev->lock);
}

bool virtio_driver_ready(const struct virtio_device *vdev)
{
	return (vdev->status & (VIRTIO_STATUS_DRIVER_OK | VIRTIO_STATUS_NEEDS_RESET |
				VIRTIO_STATUS_FAILED)) == VIRTIO_STATUS_DRIVER_OK;
}

/* I3. */
static bool virtio_may_run(const struct virtio_device *vdev)
{
	return virtio_driver_ready(vdev) && !vdev->paused && vdev->transport &&
	       vdev->transport->dma_allowed(vdev->transport_opaque);
}

static void virtio_config_interrupt(struct virtio_device *vdev)
{
	if (vdev->transport)
		vdev->transport->config_interrupt(vdev->transport_opaque);
}

void virtio_set_needs_reset(struct virtio_device *vdev, const char *why)
{
	bool ready = virtio_driver_ready(vdev);

	if (vdev->status & VIRTIO_STATUS_NEEDS_RESET)
		return;
	vdev->status |= VIRTIO_STATUS_NEEDS_RESET;
	vdev->broken_reason = why;
	if (vdev->status & VIRTIO_STATUS_DRIVER_OK)
		virtio_config_interrupt(vdev);
	virtio_driver_noted(vdev, ready);
}

const char *virtio_broken_reason(const struct virtio_device *vdev)
{
	return vdev->broken_reason;
}

/* Passes the result of a queue call on; a bad ring stops the device (I4). */
static int virtio_queue_result(struct virtio_device *vdev, int ret)
{
	if (ret < 0)
		virtio_set_needs_reset(vdev, ret == -EFAULT ? "a virtqueue is not in guest memory"
							    : "a virtqueue is malformed");
	return ret;
}

bool virtio_queue_pop(struct virtio_device *vdev, unsigned int index, struct vq_chain *chain)
{
	struct virtio_queue *q = &vdev->queues[index];
	int ret;

	assert(index < vdev->nr_queues);
	if (!virtio_may_run(vdev))
		return false;
	if (!q->budget) {
		q->budget_spent = true;
		return false;
	}
	ret = vq_pop(q->vq, chain);
	if (!ret) {
		/* Looks empty: ask for kicks, then look again for what came before the asking. */
		ret = vq_kick_enable(q->vq);
		if (ret > 0)
			ret = vq_kick_disable(q->vq);
		else if (!ret)
			return false;
		if (!ret)
			ret = vq_pop(q->vq, chain);
	}
	if (virtio_queue_result(vdev, ret) <= 0)
		return false;
	q->budget--;
	return true;
}

void virtio_queue_push(struct virtio_device *vdev, unsigned int index, const struct vq_chain *chain,
		       uint32_t written)
{
	assert(index < vdev->nr_queues);
	if (virtio_driver_ready(vdev))
		virtio_queue_result(vdev, vq_push(vdev->queues[index].vq, chain, written));
}

void virtio_queue_flush(struct virtio_device *vdev, unsigned int index)
{
	assert(index < vdev->nr_queues);
	if (!virtio_driver_ready(vdev) || !vdev->transport)
		return;
	if (virtio_queue_result(vdev, vq_notify_needed(vdev->queues[index].vq)) > 0)
		vdev->transport->queue_interrupt(vdev->transport_opaque, index);
}

void virtio_queue_kick(struct virtio_device *vdev, unsigned int index)
{
	uint64_t one = 1;
	ssize_t ret;

	assert(index < vdev->nr_queues);
	/* Fails only with EAGAIN, when the counter is full: the signal is pending then. */
	ret = write(vdev->queues[index].doorbell, &one, sizeof(one));
	(void)ret;
}

/* The doorbell of a queue rang; on the loop's thread. */
static void virtio_queue_run(void *opaque)
{
	struct virtio_queue *q = opaque;
	struct virtio_device *vdev = q->vdev;

	virtio_lock(vdev);
	if (virtio_may_run(vdev) && vq_started(q->vq)) {
		vdev->kicks_running++;
		q->budget = vq_size(q->vq);
		q->budget_spent = false;
		if (virtio_queue_result(vdev, vq_kick_disable(q->vq)) == 0)
			vdev->ops->queue_kick(vdev->opaque, q->index);
		virtio_queue_flush(vdev, q->index);
		/* A driver that fills the ring as fast as we empty it goes to the back (I5). */
		if (q->budget_spent)
			virtio_queue_kick(vdev, q->index);
		q->budget = 0;
		vdev->kicks_running--;
		pthread_cond_broadcast(&vdev->kick_done);
	}
	virtio_unlock(vdev);
}

void virtio_kick_all(struct virtio_device *vdev)
{
	for (unsigned int i = 0; i < vdev->nr_queues; i++)
		if (vq_started(vdev->queues[i].vq))
			virtio_queue_kick(vdev, i);
}

/* With the lock, which is released while waiting: wait until no queue_kick() is under way. */
static void virtio_wait_kicks(struct virtio_device *vdev)
{
	assert(!loop_on_thread(vdev->loop) || !vdev->kicks_running);
	while (vdev->kicks_running)
		pthread_cond_wait(&vdev->kick_done, &vdev->lock);
}

void virtio_pause(struct virtio_device *vdev)
{
	virtio_lock(vdev);
	vdev->paused = true;
	virtio_wait_kicks(vdev);
	virtio_unlock(vdev);
}

bool virtio_try_pause(struct virtio_device *vdev)
{
	bool idle;

	if (!virtio_try_lock(vdev))
		return false;
	idle = !vdev->kicks_running;
	if (idle)
		vdev->paused = true;
	virtio_unlock(vdev);
	return idle;
}

void virtio_resume(struct virtio_device *vdev)
{
	virtio_lock(vdev);
	vdev->paused = false;
	virtio_kick_all(vdev);
	virtio_unlock(vdev);
}

void virtio_config_touched_locked(struct virtio_device *vdev)
{
	vdev->config_stale = true;
}

void virtio_config_changed_locked(struct virtio_device *vdev)
{
	virtio_config_touched_locked(vdev);
	if (vdev->status & VIRTIO_STATUS_DRIVER_OK)
		virtio_config_interrupt(vdev);
	else
		vdev->config_pending = true;
}

void virtio_config_changed(struct virtio_device *vdev)
{
	virtio_lock(vdev);
	virtio_config_changed_locked(vdev);
	virtio_unlock(vdev);
}

void virtio_queue_init(struct virtio_queue *q)
{
	vq_stop(q->vq);
	q->size = q->max_size;
	q->enabled = false;
	memset(q->area, 0, sizeof(q->area));
}

void virtio_driver_noted(struct virtio_device *vdev, bool was)
{
	if (vdev->ops->driver_changed && virtio_driver_ready(vdev) != was)
		vdev->ops->driver_changed(vdev->opaque);
}

void virtio_reset_locked(struct virtio_device *vdev)
{
	bool ready = virtio_driver_ready(vdev);

	vdev->status = 0;
	vdev->driver_features = 0;
	vdev->config_pending = false;
	vdev->broken_reason = NULL;
	for (unsigned int i = 0; i < vdev->nr_queues; i++)
		virtio_queue_init(&vdev->queues[i]);
	if (vdev->transport)
		vdev->transport->reset(vdev->transport_opaque);
	if (vdev->ops->reset)
		vdev->ops->reset(vdev->opaque);
	virtio_driver_noted(vdev, ready);
}

void virtio_system_reset(struct virtio_device *vdev)
{
	virtio_lock(vdev);
	virtio_reset_locked(vdev);
	virtio_wait_kicks(vdev);
	if (vdev->ops->system_reset)
		vdev->ops->system_reset(vdev->opaque);
	virtio_unlock(vdev);
}

uint64_t virtio_features(const struct virtio_device *vdev)
{
	return vdev->status & VIRTIO_STATUS_FEATURES_OK ? vdev->driver_features : 0;
}

bool virtio_has_feature(const struct virtio_device *vdev, unsigned int bit)
{
	return virtio_features(vdev) & VIRTIO_FEATURE(bit);
}

struct vq *virtio_queue(struct virtio_device *vdev, unsigned int index)
{
	assert(index < vdev->nr_queues);
	return vdev->queues[index].vq;
}

const char *virtio_device_name(const struct virtio_device *vdev)
{
	return vdev->id;
}

uint16_t virtio_device_type(const struct virtio_device *vdev)
{
	return vdev->device_id;
}

void virtio_attach(struct virtio_device *vdev, const struct virtio_transport_ops *ops, void *opaque)
{
	virtio_lock(vdev);
	vdev->transport = ops;
	vdev->transport_opaque = opaque;
	virtio_unlock(vdev);
}

static uint64_t virtio_ring_features(const struct virtio_device_config *config)
{
	return VIRTIO_FEATURE(VIRTIO_F_VERSION_1) |
	       (config->packed ? VIRTIO_FEATURE(VIRTIO_F_RING_PACKED) : 0) |
	       (config->event_idx ? VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX) : 0) |
	       (config->indirect_desc ? VIRTIO_FEATURE(VIRTIO_F_INDIRECT_DESC) : 0) |
	       (config->queue_reset ? VIRTIO_FEATURE(VIRTIO_F_RING_RESET) : 0);
}

static int virtio_queue_new(struct virtio_device *vdev, unsigned int index,
			    const struct virtio_device_config *config, struct err **err)
{
	struct virtio_queue *q = &vdev->queues[index];
	uint16_t max_size = config->queue_sizes[index];
	int fd;

	assert(num_is_pow2(max_size) && max_size <= VQ_SIZE_MAX);
	q->vdev = vdev;
	q->index = index;
	q->max_size = max_size;
	q->features = config->queue_features ? config->queue_features[index] : 0;
	q->vq = vq_new(config->gm, max_size);
	if (!q->vq)
		return err_set(err, ENOMEM, "out of memory");
	fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (fd < 0)
		return err_set(err, errno, "cannot create a doorbell for device '%s': %s", vdev->id,
			       strerror(errno));
	q->doorbell = fd;
	q->watch = loop_watch_new(vdev->loop, fd, virtio_queue_run, q, err);
	if (!q->watch)
		return -EIO;
	virtio_queue_init(q);
	return 0;
}

struct virtio_device *virtio_device_new(const struct virtio_device_config *config,
					const struct virtio_device_ops *ops, void *opaque,
					struct err **err)
{
	struct virtio_device *vdev;

	assert(config->nr_queues && config->nr_queues <= VIRTIO_QUEUES_MAX);
	assert(!(config->features & ~VIRTIO_DEVICE_FEATURES));
	vdev = calloc(1, sizeof(*vdev) + config->nr_queues * sizeof(vdev->queues[0]));
	if (vdev)
		vdev->id = strdup(config->id);
	if (!vdev || !vdev->id) {
		free(vdev);
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&vdev->lock, NULL);
	pthread_cond_init(&vdev->kick_done, NULL);
	vdev->device_id = config->device_id;
	vdev->config_size = config->config_size;
	vdev->offered_features = config->features | virtio_ring_features(config);
	vdev->loop = config->loop;
	vdev->ops = ops;
	vdev->opaque = opaque;
	vdev->nr_queues = config->nr_queues;
	for (unsigned int i = 0; i < vdev->nr_queues; i++)
		vdev->queues[i].doorbell = -1;
	for (unsigned int i = 0; i < vdev->nr_queues; i++) {
		if (virtio_queue_new(vdev, i, config, err)) {
			virtio_device_free(vdev);
			return NULL;
		}
	}
	return vdev;
}

void virtio_device_free(struct virtio_device *vdev)
{
	if (!vdev)
		return;
	assert(!vdev->transport);
	for (unsigned int i = 0; i < vdev->nr_queues; i++) {
		struct virtio_queue *q = &vdev->queues[i];

		/* Waits for its callback; without the lock, which that takes. */
		loop_watch_free(q->watch);
		if (q->doorbell >= 0)
			close(q->doorbell);
		vq_free(q->vq);
	}
	pthread_cond_destroy(&vdev->kick_done);
	pthread_mutex_destroy(&vdev->lock);
	free(vdev->id);
	free(vdev);
}
