/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The saved state of a virtio device: what its driver set up and sees, where its queues stand, and
 * the device's own part as one piece with a version and a size. See virtio.h.
 *
 * I1  What is loaded satisfies everything that holds for a device whose registers a driver wrote:
 *     status bits in their order, features that the device offers and accepts, queues that run
 *     exactly where they may.
 * I2  Loading asks where guest memory is and reads none of it. A queue whose memory is gone is
 *     loaded as the bad ring that the next access would have found: a driver that gives its own
 *     rings away must not be able to keep its machine where it is.
 * I3  A chain that the device held is taken again after loading (queue.h, I7).
 *
 * Threads: the device lock is held while the state is read or made.
 * Whoever made the bytes controls all of them.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "base/pack.h"
#include "vmm/virtio/virtio_state.h"

/* ---- save ---- */

static void virtio_save_queue(const struct virtio_queue *q, struct pack *out)
{
	pack_u16(out, q->size);
	pack_bool(out, q->enabled);
	for (unsigned int i = 0; i < ARRAY_SIZE(q->area); i++)
		pack_u64(out, q->area[i]);
	pack_bool(out, vq_started(q->vq));
	if (vq_started(q->vq))
		vq_save(q->vq, out);
}

/* Version, size, content. */
static void virtio_save_part(const struct virtio_device *vdev, struct pack *out)
{
	struct pack part = {.failed = false};

	if (vdev->ops->state_version)
		vdev->ops->save(vdev->opaque, &part);
	pack_u32(out, vdev->ops->state_version);
	pack_u64(out, part.size);
	pack_bytes(out, part.bytes, part.size);
	if (pack_failed(&part))
		out->failed = true;
	pack_done(&part);
}

void virtio_device_save(struct virtio_device *vdev, struct pack *out)
{
	virtio_lock(vdev);
	assert(!vdev->kicks_running);
	pack_u8(out, vdev->status);
	pack_u64(out, vdev->driver_features);
	pack_u8(out, vdev->config_generation);
	pack_bool(out, vdev->config_stale);
	pack_bool(out, vdev->config_pending);
	pack_text(out, vdev->broken_reason);
	pack_u32(out, vdev->nr_queues);
	for (unsigned int i = 0; i < vdev->nr_queues; i++)
		virtio_save_queue(&vdev->queues[i], out);
	virtio_save_part(vdev, out);
	virtio_unlock(vdev);
}

/* ---- load ---- */

static int virtio_load_cut(struct err **err)
{
	return err_set(err, EINVAL, "its state is cut short or holds values that cannot be");
}

/* Are there only bits that exist, each with those that come before it? */
static bool virtio_status_possible(uint8_t status)
{
	if (status & ~(VIRTIO_STATUS_BY_DRIVER | VIRTIO_STATUS_NEEDS_RESET))
		return false;
	if ((status & VIRTIO_STATUS_FEATURES_OK) && !(status & VIRTIO_STATUS_DRIVER))
		return false;
	return !(status & VIRTIO_STATUS_DRIVER_OK) || (status & VIRTIO_STATUS_FEATURES_OK);
}

/* A sentence of ours, which a terminal may be shown. */
static bool virtio_reason_possible(const struct virtio_device *vdev, uint8_t status)
{
	for (const char *c = vdev->loaded_reason; *c; c++)
		if (*c < ' ' || *c > '~')
			return false;
	return !!(status & VIRTIO_STATUS_NEEDS_RESET) == !!vdev->loaded_reason[0];
}

static int virtio_load_driver(struct virtio_device *vdev, struct unpack *in, struct err **err)
{
	uint8_t status = unpack_u8(in);
	uint64_t beyond;

	vdev->driver_features = unpack_u64(in);
	vdev->config_generation = unpack_u8(in);
	vdev->config_stale = unpack_bool(in);
	vdev->config_pending = unpack_bool(in);
	unpack_text(in, vdev->loaded_reason, sizeof(vdev->loaded_reason));
	if (unpack_failed(in) || !virtio_status_possible(status) ||
	    !virtio_reason_possible(vdev, status) ||
	    (vdev->config_pending && (status & VIRTIO_STATUS_DRIVER_OK)))
		return virtio_load_cut(err);
	vdev->status = status;
	vdev->broken_reason = vdev->loaded_reason[0] ? vdev->loaded_reason : NULL;
	if (!(status & VIRTIO_STATUS_FEATURES_OK))
		return 0;
	beyond = vdev->driver_features & ~vdev->offered_features;
	if (beyond)
		return err_set(err, EINVAL,
			       "its driver uses feature bit %d, which the device does not offer "
			       "here",
			       __builtin_ctzll(beyond));
	if (!virtio_features_acceptable(vdev))
		return err_set(err, EINVAL,
			       "its driver agreed on features %#llx, which the device does not "
			       "accept here",
			       (unsigned long long)vdev->driver_features);
	return 0;
}

/* May a queue be in this state, whose registers are loaded? */
static bool virtio_queue_possible(const struct virtio_queue *q, bool started)
{
	const struct virtio_device *vdev = q->vdev;

	if (!q->size || q->size > q->max_size || (q->enabled && !virtio_queue_exists(q)))
		return false;
	if (started)
		return q->enabled && (vdev->status & VIRTIO_STATUS_DRIVER_OK);
	/* One that is enabled would run. */
	return !q->enabled || !virtio_driver_ready(vdev);
}

static int virtio_load_queue(struct virtio_queue *q, struct unpack *in, struct err **err)
{
	struct vq_layout layout;
	bool started;

	q->size = unpack_u16(in);
	q->enabled = unpack_bool(in);
	for (unsigned int i = 0; i < ARRAY_SIZE(q->area); i++)
		q->area[i] = unpack_u64(in);
	started = unpack_bool(in);
	layout = virtio_queue_layout(q);
	if (unpack_failed(in))
		return virtio_load_cut(err);
	if (!virtio_queue_possible(q, started) || (started && vq_load(q->vq, &layout, in)))
		return err_set(err, EINVAL,
			       "queue %u is in a state that cannot be, or too large for the device "
			       "here",
			       q->index);
	return 0;
}

static int virtio_load_queues(struct virtio_device *vdev, struct unpack *in, struct err **err)
{
	uint32_t nr = unpack_u32(in);
	int ret = 0;

	if (!unpack_failed(in) && nr != vdev->nr_queues)
		return err_set(err, EINVAL, "it has %u queues at the source and %u here", nr,
			       vdev->nr_queues);
	for (unsigned int i = 0; i < vdev->nr_queues && !ret; i++)
		ret = virtio_load_queue(&vdev->queues[i], in, err);
	return ret;
}

static int virtio_load_part(struct virtio_device *vdev, struct unpack *in, struct err **err)
{
	uint32_t version = unpack_u32(in);
	uint64_t size = unpack_u64_max(in, SIZE_MAX);
	const void *bytes = unpack_raw(in, (size_t)size);
	struct unpack part;
	int ret;

	if (!bytes)
		return virtio_load_cut(err);
	if (version > vdev->ops->state_version || (!version && vdev->ops->state_version))
		return err_set(err, EINVAL,
			       "the device's state is of version %u, and up to %u is known here",
			       version, vdev->ops->state_version);
	part = unpack_begin(bytes, (size_t)size);
	ret = version ? vdev->ops->load(vdev->opaque, version, &part, err) : 0;
	return !ret && !unpack_ended(&part) ? virtio_load_cut(err) : ret;
}

int virtio_device_load(struct virtio_device *vdev, struct unpack *in, struct err **err)
{
	int ret;

	virtio_pause(vdev);
	virtio_lock(vdev);
	ret = vdev->status ? err_set(err, EINVAL, "it has a driver here already") : 0;
	if (!ret)
		ret = virtio_load_driver(vdev, in, err);
	if (!ret)
		ret = virtio_load_queues(vdev, in, err);
	if (!ret)
		ret = virtio_load_part(vdev, in, err);
	if (!ret)
		virtio_driver_noted(vdev, false);
	virtio_unlock(vdev);
	return ret;
}
