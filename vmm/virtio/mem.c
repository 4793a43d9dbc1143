/* SPDX-License-Identifier: BSD-3-Clause */
/* The virtio-mem device: see mem.h for the contract. VIRTIO 1.3, 5.15. */
#include "vmm/virtio/mem.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <vmem/guard.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/core/bus.h"
#include "vmm/core/gm.h"
#include "vmm/core/hv.h"
#include "vmm/core/loop.h"
#include "vmm/virtio/mem_state.h"
#include "vmm/virtio/virtio.h"

#define VIRTIO_MEM_QUEUE_SIZE      128
#define VIRTIO_MEM_SIZE_QUEUE_SIZE 16
#define VIRTIO_MEM_PAGE_BYTES      4096
#define VIRTIO_MEM_STEP_BYTES      (1 * GIB) /* cleared in less than a second by any host */

/* ---- violations ---- */

static void virtio_mem_violation_seen(void *opaque)
{
	struct virtio_mem *mem = opaque;

	if (mem->config.violation)
		mem->config.violation(mem->config.opaque, mem);
}

int virtio_mem_refine(struct virtio_mem *mem, uint64_t gpa, uint64_t size, uint64_t *ret_changes)
{
	const struct vmem_device_config *c = &mem->config.device;
	uint64_t start = c->addr, end = c->addr + c->region_size, gpa_end;
	int ret = 0;

	if (gpa != UINT64_MAX) {
		if (num_add(gpa, size, &gpa_end))
			end = num_min(end, gpa_end);
		start = num_max(start, gpa);
	}
	virtio_lock(mem->vdev);
	if (start < end && !mem_progress_stopped(&mem->progress))
		ret = vmem_guard_refine(mem->guard, start - c->addr, end - start);
	/* Nothing is said about a block by what was not looked at. */
	if (ret > 0 || mem_progress_stopped(&mem->progress))
		mem->changes++;
	*ret_changes = mem->changes;
	virtio_unlock(mem->vdev);
	return ret;
}

/* ---- the virtio device ---- */

static void virtio_mem_config_read(void *opaque, uint32_t offset, void *buf, uint32_t size)
{
	struct virtio_mem *mem = opaque;
	struct vmem_config config;

	vmem_device_config_read(mem->engine, &config);
	memcpy(buf, (const char *)&config + offset, size);
	if (offset < sizeof(config) && offset + size > offsetof(struct vmem_config, requested_size))
		mem_stats_size_read(&mem->stats);
}

static bool virtio_mem_features_ok(void *opaque, uint64_t features)
{
	struct virtio_mem *mem = opaque;
	bool inaccessible = features & VIRTIO_FEATURE(VMEM_F_UNPLUGGED_INACCESSIBLE);

	if (mem->config.require_inaccessible && !inaccessible)
		return false;
	mem_absent_count_reads(&mem->absent, inaccessible);
	return true;
}

/* Changes no block (VIRTIO 1.3, 5.15.5.2), but the next driver may promise less. */
static void virtio_mem_reset(void *opaque)
{
	struct virtio_mem *mem = opaque;

	mem_absent_count_reads(&mem->absent, false);
	mem_pace_clear(&mem->pace);
	mem_size_reset(mem);
}

void virtio_mem_changed(struct virtio_mem *mem)
{
	if (mem->config.changed)
		mem->config.changed(mem->config.opaque, mem);
}

static void virtio_mem_driver_changed(void *opaque)
{
	struct virtio_mem *mem = opaque;

	mem_progress_moved(&mem->progress);
	virtio_mem_changed(mem);
}

static uint64_t virtio_mem_failures(const struct vmem_device_info *info)
{
	return info->host_failures + info->host_faults;
}

/* Keep the map for people in step with what a request or a reset did to the engine's. */
static void virtio_mem_map(struct virtio_mem *mem, const struct vmem_req *req,
			   const struct vmem_device_info *before,
			   const struct vmem_device_info *after)
{
	uint64_t offset = le64toh(req->addr) - before->addr;

	/* Faulted blocks do not count, whichever they are. */
	if (before->faulted_size || after->faulted_size)
		mem_cells_rebuild(&mem->cells, mem->engine);
	else if (after->plugged_size > before->plugged_size)
		mem_cells_add(&mem->cells, offset, after->plugged_size - before->plugged_size);
	else if (after->plugged_size == before->plugged_size)
		return;
	else if (le16toh(req->type) == VMEM_REQ_UNPLUG)
		mem_cells_sub(&mem->cells, offset, before->plugged_size - after->plugged_size);
	else
		mem_cells_clear(&mem->cells);
}

/* Note what the answer says about the progress of a resize, and what it changed. */
static void virtio_mem_note(struct virtio_mem *mem, const struct vmem_req *req, uint16_t answer,
			    const struct vmem_device_info *before,
			    const struct vmem_device_info *after)
{
	uint16_t type = le16toh(req->type);
	bool refused = answer == VMEM_RESP_NACK &&
		       virtio_mem_failures(after) != virtio_mem_failures(before);

	if (refused || answer == VMEM_RESP_BUSY)
		mem_stats_refused(&mem->stats, mem_stats_kind(type), (enum virtio_mem_answer)answer,
				  mem->failed_step, mem->failed_error,
				  mem_progress_now_ms(&mem->progress));
	if (type == VMEM_REQ_STATE)
		return;
	virtio_mem_map(mem, req, before, after);
	mem_progress_answered(&mem->progress, type == VMEM_REQ_PLUG, refused);
	mem_pace_answered(&mem->pace, refused);
	/* UNPLUG_ALL shrinks it without a notification. */
	if (after->usable_region_size != before->usable_region_size)
		virtio_config_touched_locked(mem->vdev);
}

static uint64_t virtio_mem_plugged(const struct virtio_mem *mem)
{
	struct vmem_device_info info;

	vmem_device_info(mem->engine, &info);
	return info.plugged_size;
}

bool virtio_mem_has_room(const struct virtio_mem *mem, const struct vq_chain *chain, uint64_t size)
{
	for (unsigned int i = 0; i < chain->nr_writable && size; i++) {
		const struct vq_segment *s = &chain->segments[chain->nr_readable + i];
		uint64_t part = num_min(size, s->len);

		if (!gm_valid(mem->config.gm, s->gpa, part))
			return false;
		size -= part;
	}
	return !size;
}

/* Copy the request of the chain; NULL, or why there cannot be an answer. */
static const char *virtio_mem_read(struct virtio_mem *mem, struct vmem_req *ret_req)
{
	struct vq *vq = virtio_queue(mem->vdev, VMEM_QUEUE_REQUEST);

	if (mem->chain->readable_bytes < sizeof(*ret_req) ||
	    mem->chain->writable_bytes < sizeof(struct vmem_resp))
		return "virtio-mem request with missing bytes";
	if (vq_chain_read(vq, mem->chain, 0, ret_req, sizeof(*ret_req)))
		return "virtio-mem request outside of memory";
	if (!virtio_mem_has_room(mem, mem->chain, sizeof(struct vmem_resp)))
		return "virtio-mem answer outside of memory";
	return NULL;
}

/* Returns like virtio_mem_read(). */
static const char *virtio_mem_answer(struct virtio_mem *mem, const struct vmem_req *req,
				     enum virtio_mem_answer *ret_answer)
{
	struct vmem_device_info before, after;
	struct vmem_resp resp;
	uint16_t answer;

	vmem_device_info(mem->engine, &before);
	mem->plugging = le16toh(req->type) == VMEM_REQ_PLUG;
	mem->unplugging = !mem->plugging;
	mem->failed_step = VIRTIO_MEM_NO_STEP;
	mem->failed_error = 0;
	answer = vmem_device_request(mem->engine, req, &resp);
	mem->plugging = mem->unplugging = false;
	vmem_device_info(mem->engine, &after);
	virtio_mem_note(mem, req, answer, &before, &after);
	*ret_answer = (enum virtio_mem_answer)answer;
	if (vq_chain_write(virtio_queue(mem->vdev, VMEM_QUEUE_REQUEST), mem->chain, 0, &resp,
			   sizeof(resp)))
		return "virtio-mem request that unplugs its answer";
	return NULL;
}

static void virtio_mem_handle(struct virtio_mem *mem)
{
	uint64_t start_ns = mem_stats_clock_ns(), plugged = virtio_mem_plugged(mem);
	enum virtio_mem_kind kind = VIRTIO_MEM_OTHER;
	enum virtio_mem_answer answer = VIRTIO_MEM_BROKEN;
	struct vmem_req req;
	const char *broken = virtio_mem_read(mem, &req);

	if (!broken) {
		kind = mem_stats_kind(le16toh(req.type));
		broken = virtio_mem_answer(mem, &req, &answer);
	}
	mem_stats_answered(&mem->stats, kind, broken ? VIRTIO_MEM_BROKEN : answer,
			   mem_stats_clock_ns() - start_ns, mem_progress_now_ms(&mem->progress),
			   plugged, virtio_mem_plugged(mem));
	if (broken)
		virtio_set_needs_reset(mem->vdev, broken);
	else
		virtio_queue_push(mem->vdev, VMEM_QUEUE_REQUEST, mem->chain,
				  sizeof(struct vmem_resp));
	if (kind != VIRTIO_MEM_STATE)
		virtio_mem_changed(mem);
}

static void virtio_mem_queue_kick(void *opaque, unsigned int index)
{
	struct virtio_mem *mem = opaque;

	if (index == VMEM_QUEUE_SIZE) {
		mem_size_kick(mem);
		return;
	}
	while (!mem->pace.waiting && virtio_queue_pop(mem->vdev, index, mem->chain))
		virtio_mem_handle(mem);
}

/* On the loop: requests that waited for their pace are taken up. */
static void virtio_mem_go_on(void *opaque)
{
	struct virtio_mem *mem = opaque;

	virtio_lock(mem->vdev);
	mem_pace_over(&mem->pace);
	virtio_unlock(mem->vdev);
	virtio_queue_kick(mem->vdev, VMEM_QUEUE_REQUEST);
}

static void virtio_mem_system_reset(void *opaque)
{
	struct virtio_mem *mem = opaque;
	uint64_t before = virtio_mem_plugged(mem), here = VIRTIO_MEM_HERE;

	/* What is plugged was asked for before the reset, which is to keep the size. */
	if (mem->wanted == here) {
		vmem_device_resize(mem->engine, before);
		atomic_compare_exchange_strong(&mem->wanted, &here, VIRTIO_MEM_NOTHING);
	}
	/* Blocks that the host could not take back stay plugged; the next driver unplugs them. */
	vmem_device_system_reset(mem->engine);
	mem_cells_rebuild(&mem->cells, mem->engine);
	mem_stats_reset(&mem->stats, before - virtio_mem_plugged(mem));
	mem_progress_reset(&mem->progress);
	mem_progress_moved(&mem->progress);
	virtio_mem_changed(mem);
}

#define VIRTIO_MEM_OPS                                                                    \
	.config_read = virtio_mem_config_read, .features_ok = virtio_mem_features_ok,     \
	.driver_changed = virtio_mem_driver_changed, .queue_kick = virtio_mem_queue_kick, \
	.reset = virtio_mem_reset, .system_reset = virtio_mem_system_reset,               \
	.save = virtio_mem_save, .load = virtio_mem_load

static const struct virtio_device_ops virtio_mem_ops = {
	VIRTIO_MEM_OPS,
	.state_version = VIRTIO_MEM_STATE_VERSION,
};

static const struct virtio_device_ops virtio_mem_size_ops = {
	VIRTIO_MEM_OPS,
	.state_version = VIRTIO_MEM_STATE_VERSION_SIZE,
};

void virtio_mem_size_changed(struct virtio_mem *mem, uint64_t plugged_size)
{
	mem_progress_moved(&mem->progress);
	mem_stats_resized(&mem->stats, mem_progress_now_ms(&mem->progress), plugged_size);
	if (mem_pace_clear(&mem->pace))
		virtio_queue_kick(mem->vdev, VMEM_QUEUE_REQUEST);
}

/* On the loop: bring the engine to what is wanted now, however many calls asked for it. */
static void virtio_mem_apply(void *opaque)
{
	struct virtio_mem *mem = opaque;
	struct vmem_device_info before;
	uint64_t wanted, size;

	virtio_lock(mem->vdev);
	wanted = mem->wanted;
	if (wanted == VIRTIO_MEM_NOTHING)
		goto done; /* an earlier turn came to it already */
	vmem_device_info(mem->engine, &before);
	size = wanted == VIRTIO_MEM_HERE ? before.plugged_size : wanted;
	/* Cannot fail: virtio_mem_resize() checked what the engine checks. */
	vmem_device_resize(mem->engine, size);
	/* A driver that could not do it and waits for a better time is asked once more. */
	if (size == before.requested_size && size != before.plugged_size)
		virtio_config_changed_locked(mem->vdev);
	virtio_mem_size_changed(mem, before.plugged_size);
	/* Unless another size was asked for this very moment: that has a turn of its own. */
	atomic_compare_exchange_strong(&mem->wanted, &wanted, VIRTIO_MEM_NOTHING);
	virtio_mem_changed(mem);
done:
	virtio_unlock(mem->vdev);
}

static int virtio_mem_make_virtio(struct virtio_mem *mem, struct err **err)
{
	const struct virtio_mem_config *c = &mem->config;
	static const uint16_t queue_sizes[] = {
		[VMEM_QUEUE_REQUEST] = VIRTIO_MEM_QUEUE_SIZE,
		[VMEM_QUEUE_SIZE] = VIRTIO_MEM_SIZE_QUEUE_SIZE,
	};
	static const uint64_t queue_features[] = {
		[VMEM_QUEUE_SIZE] = VIRTIO_FEATURE(VMEM_F_SIZE_REQUEST),
	};
	const struct virtio_device_config config = {
		.id = c->id,
		.device_id = VIRTIO_ID_MEM,
		.features = vmem_device_features(mem->engine),
		.config_size = sizeof(struct vmem_config),
		.nr_queues = mem->size.on ? VMEM_QUEUE_COUNT : 1,
		.queue_sizes = queue_sizes,
		.queue_features = queue_features,
		.packed = c->packed,
		.event_idx = c->event_idx,
		.indirect_desc = c->indirect_desc,
		.queue_reset = true,
		.gm = c->gm,
		.loop = c->loop,
	};

	mem->vdev = virtio_device_new(
		&config, mem->size.on ? &virtio_mem_size_ops : &virtio_mem_ops, mem, err);
	if (!mem->vdev)
		return -EIO;
	mem->chain = vq_chain_new(virtio_queue(mem->vdev, VMEM_QUEUE_REQUEST));
	if (!mem->chain)
		return err_set(err, ENOMEM, "out of memory");
	mem->resize_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (mem->resize_fd < 0)
		return err_set(err, errno, "cannot create an event descriptor for '%s': %s", c->id,
			       strerror(errno));
	mem->resize = loop_watch_new(c->loop, mem->resize_fd, virtio_mem_apply, mem, err);
	return mem->resize ? mem_pace_init(&mem->pace, c->loop, virtio_mem_go_on, mem, err) : -EIO;
}

static int virtio_mem_init(struct virtio_mem *mem, struct err **err)
{
	const struct virtio_mem_config *c = &mem->config;
	const struct vmem_guard_config guard = {
		.memory = c->memory,
		.size = c->device.region_size,
		.block_size = c->device.block_size,
		.memslot_size = c->memslot_size,
		.fd = c->fd,
		.fd_offset = c->fd_offset,
		.unprotected = !c->guard,
		.populate_threads = c->device.prealloc ? c->populate_threads : 0,
		.nr_guards = c->nr_guards,
		.mergeable = c->mergeable,
		.ops = &virtio_mem_guard_ops,
		.opaque = mem,
	};
	const struct gm_discard discard = {
		.page_bytes = c->page_bytes ? c->page_bytes : VIRTIO_MEM_PAGE_BYTES,
		.fn = virtio_mem_reclaim,
		.opaque = mem,
	};
	struct range gpa = {c->device.addr, c->device.region_size};
	struct vmem_error error;
	int ret;

	ret = vmem_device_new(&c->device, &virtio_mem_host_ops, mem, &mem->engine);
	if (ret)
		return err_set(err, -ret, "its address, sizes and block size do not fit: %s",
			       strerror(-ret));
	if (gpa.size > MEM_ABSENT_BYTES_MAX)
		return err_set(err, EINVAL, "its memory is more than a guest can address");
	mem_absent_init(&mem->absent, gpa, c->hv, virtio_mem_violation_seen, mem);
	mem_stats_resized(&mem->stats, mem_progress_now_ms(&mem->progress), 0);
	if (mem_cells_init(&mem->cells, c->device.region_size, c->device.block_size))
		return err_set(err, ENOMEM, "out of memory");
	ret = vmem_guard_new(&guard, &mem->guard, &error);
	if (ret)
		return err_set(err, -ret, "%s", error.text);
	ret = gm_add_device_memory(c->gm, gpa, c->memory, c->device.block_size, &mem->gm_region);
	if (ret)
		return err_set(err, -ret, "its memory cannot be placed: %s", strerror(-ret));
	ret = virtio_mem_make_virtio(mem, err);
	if (!ret)
		ret = mem_size_init(mem, err);
	if (ret)
		return ret;
	ret = gm_set_discard(c->gm, gpa.start, &discard);
	if (ret)
		return err_set(err, -ret, "its memory does not begin at a page of it");
	bus_add(c->mmio, &mem->absent.region);
	return 0;
}

struct virtio_mem *virtio_mem_new(const struct virtio_mem_config *config, struct err **err)
{
	struct virtio_mem *mem = calloc(1, sizeof(*mem));

	if (!mem) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	mem->config = *config;
	mem->wanted = VIRTIO_MEM_NOTHING;
	mem_size_prepare(mem);
	mem_progress_init(&mem->progress, config->now_ms);
	if (!mem->config.step_bytes)
		mem->config.step_bytes = VIRTIO_MEM_STEP_BYTES;
	mem->resize_fd = mem->pace.fd = -1;
	if (virtio_mem_init(mem, err)) {
		virtio_mem_free(mem);
		return NULL;
	}
	return mem;
}

void virtio_mem_free(struct virtio_mem *mem)
{
	if (!mem)
		return;
	bus_remove(mem->config.mmio, &mem->absent.region);
	/* Waits for one that is under way. */
	if (mem->gm_region)
		gm_set_discard(mem->config.gm, mem->config.device.addr, NULL);
	loop_watch_free(mem->resize);
	mem_pace_done(&mem->pace);
	mem_pace_done(&mem->size.pace);
	if (mem->resize_fd >= 0)
		close(mem->resize_fd);
	virtio_device_free(mem->vdev);
	mem_size_done(mem);
	vq_chain_free(mem->chain);
	if (mem->gm_region)
		gm_remove_device_memory(mem->config.gm, mem->gm_region);
	vmem_guard_free(mem->guard);
	vmem_device_free(mem->engine);
	mem_cells_done(&mem->cells);
	free(mem);
}

struct virtio_device *virtio_mem_device(struct virtio_mem *mem)
{
	return mem->vdev;
}
