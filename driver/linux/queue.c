// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * The device's configuration space and its virtqueues (VIRTIO 1.3, 5.15.2, 5.15.4, 5.15.6): ops
 * config_read(), submit() and submit_size().
 *
 * I1  A request is waited for as long as the device works. Whether it still does is looked at every
 *     EBB_MEM_LOOK_MS: a device that was taken away, or asks to be reset, does not answer any more.
 * I2  After a request without an answer no other is sent: the device may still write to its answer.
 *
 * Threads: the worker, or whoever reads a crash dump; one at a time, with the core's lock held.
 */
#include <linux/jiffies.h>
#include <linux/scatterlist.h>
#include <linux/string.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>

#include "driver/linux/compat.h"
#include "driver/linux/ebb_mem.h"

#define EBB_MEM_LOOK_MS    1000
#define EBB_MEM_READ_TRIES 1000

static bool is_working(struct ebb_mem *mem, struct virtqueue *queue)
{
	return !virtqueue_is_broken(queue) &&
	       !(mem->vdev->config->get_status(mem->vdev) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

/* Reads each field by its own width: transports allow no other access (4.2.2.2). */
static void read_fields(struct virtio_device *vdev, struct vmem_config *ret_config)
{
#define EBB_MEM_READ(field)                                                              \
	vdev->config->get(vdev, offsetof(struct vmem_config, field), &ret_config->field, \
			  sizeof(ret_config->field))
	memset(ret_config, 0, sizeof(*ret_config));
	EBB_MEM_READ(block_size);
	EBB_MEM_READ(node_id);
	EBB_MEM_READ(addr);
	EBB_MEM_READ(region_size);
	EBB_MEM_READ(usable_region_size);
	EBB_MEM_READ(plugged_size);
	EBB_MEM_READ(requested_size);
#undef EBB_MEM_READ
}

int ebb_mem_config_read(void *os, struct vmem_config *ret_config)
{
	struct ebb_mem *mem = os;
	const struct virtio_config_ops *ops = mem->vdev->config;
	unsigned int tries;

	for (tries = 0; tries < EBB_MEM_READ_TRIES; tries++) {
		u32 before = ops->generation ? ops->generation(mem->vdev) : 0;

		read_fields(mem->vdev, ret_config);
		if (!ops->generation || ops->generation(mem->vdev) == before)
			break;
	}
	if (tries == EBB_MEM_READ_TRIES || !is_working(mem, mem->queues[VMEM_QUEUE_REQUEST]))
		return VMEM_DRIVER_GONE;
	return VMEM_DRIVER_OK;
}

static void on_answer(struct virtqueue *queue)
{
	struct ebb_mem *mem = queue->vdev->priv;

	wake_up(&mem->answered);
}

int ebb_mem_queues_open(struct ebb_mem *mem)
{
	static const char *const names[VMEM_QUEUE_COUNT] = {"guest-request", "size-request"};
	unsigned int nr = virtio_has_feature(mem->vdev, VMEM_F_SIZE_REQUEST) ? 2 : 1;

	return ebb_mem_find_queues(mem->vdev, nr, mem->queues, on_answer, names);
}

/* One request of @req_bytes, and its answer of @resp_bytes. */
static int exchange(struct ebb_mem *mem, struct virtqueue *queue, void *req, unsigned int req_bytes,
		    void *resp, unsigned int resp_bytes)
{
	struct scatterlist out, in, *lists[] = {&out, &in};
	unsigned int bytes;

	if (test_bit(EBB_MEM_GONE, &mem->flags))
		return VMEM_DRIVER_GONE;
	/* No type that there is: what the device leaves unwritten is not taken for an answer. */
	memset(resp, 0xff, resp_bytes);
	sg_init_one(&out, req, req_bytes);
	sg_init_one(&in, resp, resp_bytes);
	if (virtqueue_add_sgs(queue, lists, 1, 1, mem, GFP_KERNEL) != 0 || !virtqueue_kick(queue))
		goto gone;
	while (!wait_event_timeout(mem->answered, virtqueue_get_buf(queue, &bytes),
				   msecs_to_jiffies(EBB_MEM_LOOK_MS))) {
		if (!is_working(mem, queue))
			goto gone;
	}
	return VMEM_DRIVER_OK;
gone:
	set_bit(EBB_MEM_GONE, &mem->flags); /* I2 */
	return VMEM_DRIVER_GONE;
}

int ebb_mem_submit(void *os, const struct vmem_req *req, struct vmem_resp *ret_resp)
{
	struct ebb_mem *mem = os;
	int result;

	mem->req = *req; /* the core's own may be on a stack, which no device can reach */
	result = exchange(mem, mem->queues[VMEM_QUEUE_REQUEST], &mem->req, sizeof(mem->req),
			  &mem->resp, sizeof(mem->resp));
	if (result == VMEM_DRIVER_OK)
		*ret_resp = mem->resp;
	return result;
}

int ebb_mem_submit_size(void *os, const struct vmem_size_req *req, struct vmem_size_resp *ret_resp)
{
	struct ebb_mem *mem = os;
	int result;

	mem->size_req = *req;
	result = exchange(mem, mem->queues[VMEM_QUEUE_SIZE], &mem->size_req, sizeof(mem->size_req),
			  &mem->size_resp, sizeof(mem->size_resp));
	if (result == VMEM_DRIVER_OK)
		*ret_resp = mem->size_resp;
	return result;
}
