/* SPDX-License-Identifier: BSD-3-Clause */
/* What monitors ask of a virtio-mem device, without waiting for it: see mem.h for the contract. */
#include <errno.h>
#include <unistd.h>

#include <vmem/guard.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/virtio/mem_state.h"
#include "vmm/virtio/virtio.h"

/* Can @bytes be plugged in the device? @what names them in the sentence. */
static int virtio_mem_check_bytes(const struct virtio_mem *mem, const char *what, uint64_t bytes,
				  struct err **err)
{
	const struct vmem_device_config *c = &mem->config.device;

	if (!num_is_aligned(bytes, c->block_size))
		return err_set(err, EINVAL,
			       "%s %llu is not a multiple of the block size of '%s', %llu bytes",
			       what, (unsigned long long)bytes, mem->config.id,
			       (unsigned long long)c->block_size);
	if (bytes > c->region_size)
		return err_set(err, EINVAL, "%s %llu is beyond the size of '%s', %llu bytes", what,
			       (unsigned long long)bytes, mem->config.id,
			       (unsigned long long)c->region_size);
	return 0;
}

int virtio_mem_check_size(const struct virtio_mem *mem, uint64_t requested_size, struct err **err)
{
	return virtio_mem_check_bytes(mem, "requested size", requested_size, err);
}

/* Have the device's thread look at the size that is wanted. */
static void virtio_mem_hand_over(struct virtio_mem *mem)
{
	uint64_t one = 1;
	/* Fails only when its counter is full: the signal is pending then. */
	ssize_t n = write(mem->resize_fd, &one, sizeof(one));

	(void)n;
}

static void virtio_mem_want(struct virtio_mem *mem, uint64_t requested_size)
{
	/* In this order: nobody sees the new size together with the old time. */
	mem_progress_moved(&mem->progress);
	mem->wanted = requested_size;
	mem->asks++;
	virtio_mem_hand_over(mem);
}

int virtio_mem_resize(struct virtio_mem *mem, uint64_t requested_size, struct err **err)
{
	int ret = virtio_mem_check_size(mem, requested_size, err);

	if (!ret)
		virtio_mem_want(mem, requested_size);
	return ret;
}

void virtio_mem_resize_here(struct virtio_mem *mem)
{
	virtio_mem_want(mem, VIRTIO_MEM_HERE);
}

bool virtio_mem_resized(const struct virtio_mem *mem)
{
	return mem->wanted == VIRTIO_MEM_NOTHING;
}

uint64_t virtio_mem_asks(const struct virtio_mem *mem)
{
	return mem->asks;
}

void virtio_mem_stop(struct virtio_mem *mem)
{
	mem_progress_stop(&mem->progress);
}

void virtio_mem_cont(struct virtio_mem *mem)
{
	mem_progress_cont(&mem->progress);
	/* A size that was loaded before the source's thread had come to it. */
	if (!virtio_mem_resized(mem))
		virtio_mem_hand_over(mem);
}

void virtio_mem_info(const struct virtio_mem *mem, struct vmem_device_info *ret_info)
{
	/* Before the engine, which is told before it is nothing any more. */
	uint64_t wanted = mem->wanted;

	vmem_device_info(mem->engine, ret_info);
	if (wanted == VIRTIO_MEM_HERE)
		wanted = ret_info->plugged_size;
	if (wanted != VIRTIO_MEM_NOTHING)
		ret_info->requested_size = ret_info->owner_size = wanted;
	ret_info->request_limit = mem->size.request_limit;
	ret_info->request_rate = mem->size.request_rate;
}

static int virtio_mem_check_limit(const struct virtio_mem *mem, uint64_t limit, struct err **err)
{
	if (!mem->size.on)
		return err_set(err, EINVAL,
			       "'%s' takes no requests of the guest (guest-requests=on)",
			       mem->config.id);
	return virtio_mem_check_bytes(mem, "request limit", limit, err);
}

int virtio_mem_set_request_policy(struct virtio_mem *mem, uint64_t request_limit,
				  uint64_t request_rate, struct err **err)
{
	int ret = virtio_mem_check_limit(mem, request_limit, err);

	if (ret)
		return ret;
	mem->size.request_limit = request_limit;
	mem->size.request_rate = request_rate;
	return 0;
}

void virtio_mem_hold_size(struct virtio_mem *mem, bool hold)
{
	mem->size.held = hold;
}

void virtio_mem_stats(const struct virtio_mem *mem, struct virtio_mem_stats *ret)
{
	mem_stats_get(&mem->stats, ret);
	/* After the times that are compared with it. */
	ret->idle_ms = mem_progress_idle_ms(&mem->progress);
	ret->now_ms = mem_progress_now_ms(&mem->progress);
}

size_t virtio_mem_cells(const struct virtio_mem *mem, uint64_t *ret_bytes, size_t max,
			uint64_t *ret_cell_size)
{
	return mem_cells_get(&mem->cells, ret_bytes, max, ret_cell_size);
}

void virtio_mem_memory(const struct virtio_mem *mem, const void **ret_memory, uint64_t *ret_size)
{
	*ret_memory = mem->config.memory;
	*ret_size = mem->config.device.region_size;
}

void virtio_mem_violations(const struct virtio_mem *mem, struct virtio_mem_violations *ret)
{
	mem_absent_get(&mem->absent, ret);
}

void virtio_mem_guard_info(const struct virtio_mem *mem, struct vmem_guard_info *ret_info)
{
	vmem_guard_info(mem->guard, ret_info);
}

struct vmem_guard *virtio_mem_guard(struct virtio_mem *mem)
{
	return mem->guard;
}

bool virtio_mem_driven(const struct virtio_mem *mem)
{
	return virtio_driver_ready(mem->vdev);
}

enum virtio_mem_progress virtio_mem_progress(struct virtio_mem *mem)
{
	struct vmem_device_info info;

	virtio_mem_info(mem, &info);
	return virtio_mem_driven(mem) ? mem_progress_get(&mem->progress, &info)
				      : VIRTIO_MEM_NO_DRIVER;
}
