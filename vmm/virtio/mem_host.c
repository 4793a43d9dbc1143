/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is behind the engine of a virtio-mem device: the guard and guest memory, in the order that
 * mem.h wants (I1, I7), and the guard's memory slots.
 *
 * Threads: everything here runs with the device lock held, but virtio_mem_reclaim(), which tries to
 * get it.
 */
#include <errno.h>
#include <stdlib.h>

#include <vmem/guard.h>

#include "base/num.h"
#include "vmm/core/gm.h"
#include "vmm/core/hv.h"
#include "vmm/virtio/mem_state.h"
#include "vmm/virtio/virtio.h"

/* ---- the engine's host ---- */

/*
 * What can take as long as the host needs to find and clear memory, or to free it, is done in
 * steps, and given up between two of them when the machine is about to stop (I5). Only what the
 * request itself is for: taking it back is done whole.
 */
static int virtio_mem_in_steps(struct virtio_mem *mem, bool may_end, uint64_t offset, uint64_t size,
			       int (*fn)(struct vmem_guard *guard, uint64_t offset, uint64_t size))
{
	uint64_t step = num_max(mem->config.step_bytes, mem->config.device.block_size);
	int ret = 0;

	for (uint64_t done = 0; done < size && !ret; done += step) {
		if (done && may_end && mem_progress_stopped(&mem->progress))
			return -EINTR;
		ret = fn(mem->guard, offset + done, num_min(step, size - done));
	}
	return ret;
}

/* The first failure of a request is what it was refused for; others come while it is undone. */
static int virtio_mem_done(struct virtio_mem *mem, enum virtio_mem_step step, int ret)
{
	if (ret && !mem->failed_error) {
		mem->failed_step = step;
		mem->failed_error = -ret;
	}
	return ret;
}

/* Tell whoever tracks what is reachable (I7). */
static void virtio_mem_tell(struct virtio_mem *mem, uint64_t offset, uint64_t size, bool plugged)
{
	if (mem->track)
		mem->track(mem->track_opaque, mem, offset, size, plugged);
}

static int virtio_mem_grant(void *host, uint64_t offset, uint64_t size)
{
	struct virtio_mem *mem = host;
	int ret;

	virtio_mem_tell(mem, offset, size, true);
	ret = virtio_mem_in_steps(mem, mem->plugging, offset, size, vmem_guard_grant);
	mem->changes++;
	if (ret) {
		/*
		 * Nobody else does when it was to undo a revoke: the blocks are faulted then, and a
		 * part of them may have been granted.
		 */
		(void)vmem_guard_revoke(mem->guard, offset, size);
		virtio_mem_tell(mem, offset, size, false);
		return virtio_mem_done(mem, VIRTIO_MEM_GRANT, ret);
	}
	gm_grant(mem->gm_region, offset, size);
	/* What is given back still has its content, which nobody writes again. */
	if (!mem->plugging)
		gm_dirty_mark(mem->config.gm, mem->config.device.addr + offset, size);
	return 0;
}

static int virtio_mem_populate(void *host, uint64_t offset, uint64_t size)
{
	struct virtio_mem *mem = host;

	return virtio_mem_done(
		mem, VIRTIO_MEM_POPULATE,
		virtio_mem_in_steps(mem, mem->plugging, offset, size, vmem_guard_populate));
}

static int virtio_mem_revoke(void *host, uint64_t offset, uint64_t size)
{
	struct virtio_mem *mem = host;
	int ret;

	/*
	 * After a failure the engine grants again what is plugged; the run may hold more than that.
	 */
	gm_revoke(mem->gm_region, offset, size);
	mem->changes++;
	ret = vmem_guard_revoke(mem->guard, offset, size);
	/* Also after a failure: the run is the guest's only if it is granted again. */
	virtio_mem_tell(mem, offset, size, false);
	return virtio_mem_done(mem, VIRTIO_MEM_REVOKE, ret);
}

static int virtio_mem_discard(void *host, uint64_t offset, uint64_t size)
{
	struct virtio_mem *mem = host;

	mem->changes++;
	return virtio_mem_done(
		mem, VIRTIO_MEM_DISCARD,
		virtio_mem_in_steps(mem, mem->unplugging, offset, size, vmem_guard_discard));
}

/* Nothing that the engine knows of changes, nor does what is reachable. */
int virtio_mem_reclaim(void *opaque, uint64_t offset, uint64_t size, uint64_t *ret_bytes)
{
	struct virtio_mem *mem = opaque;
	int ret;

	if (!virtio_try_lock(mem->vdev))
		return -EAGAIN;
	ret = vmem_guard_reclaim(mem->guard, offset, size, ret_bytes);
	virtio_unlock(mem->vdev);
	return ret;
}

static void virtio_mem_config_changed(void *host)
{
	struct virtio_mem *mem = host;

	virtio_config_changed_locked(mem->vdev);
}

static void virtio_mem_plugged_changed(void *host)
{
	struct virtio_mem *mem = host;

	virtio_config_touched_locked(mem->vdev);
}

const struct vmem_host_ops virtio_mem_host_ops = {
	.grant = virtio_mem_grant,
	.populate = virtio_mem_populate,
	.revoke = virtio_mem_revoke,
	.discard = virtio_mem_discard,
	.config_changed = virtio_mem_config_changed,
	.plugged_changed = virtio_mem_plugged_changed,
	.size_wanted = mem_size_wanted,
};

/* ---- the guard's slots ---- */

static int virtio_mem_slot_add(void *opaque, uint64_t offset, uint64_t size, uint32_t *ret_slot)
{
	struct virtio_mem *mem = opaque;
	struct hv *hv = mem->config.hv;
	struct range gpa = {mem->config.device.addr + offset, size};

	return hv->ops->slot_add(hv, gpa, (char *)mem->config.memory + offset, false, ret_slot);
}

static int virtio_mem_slot_remove(void *opaque, uint32_t slot)
{
	struct virtio_mem *mem = opaque;
	struct hv *hv = mem->config.hv;

	return hv->ops->slot_remove(hv, slot);
}

static int virtio_mem_slots_replace(void *opaque, const uint32_t *old, size_t nr_old,
				    struct vmem_guard_slot *fresh, size_t nr_fresh)
{
	struct virtio_mem *mem = opaque;
	const struct virtio_mem_config *c = &mem->config;
	struct hv_slot *slots = calloc(nr_fresh + 1, sizeof(*slots));
	int ret;

	if (!slots)
		return -ENOMEM;
	for (size_t i = 0; i < nr_fresh; i++) {
		slots[i].gpa = (struct range){c->device.addr + fresh[i].offset, fresh[i].size};
		slots[i].host = (char *)c->memory + fresh[i].offset;
	}
	ret = c->hv->ops->slots_replace(c->hv, old, nr_old, slots, nr_fresh);
	for (size_t i = 0; i < nr_fresh && !ret; i++)
		fresh[i].slot = slots[i].slot;
	free(slots);
	return ret;
}

const struct vmem_guard_ops virtio_mem_guard_ops = {
	.slot_add = virtio_mem_slot_add,
	.slot_remove = virtio_mem_slot_remove,
	.slots_replace = virtio_mem_slots_replace,
};

/* ---- tracking ---- */

static int virtio_mem_tell_plugged(void *opaque, uint64_t offset, uint64_t size)
{
	virtio_mem_tell(opaque, offset, size, true);
	return 0;
}

void virtio_mem_track(struct virtio_mem *mem,
		      void (*fn)(void *opaque, struct virtio_mem *mem, uint64_t offset,
				 uint64_t size, bool plugged),
		      void *opaque)
{
	virtio_lock(mem->vdev);
	mem->track = fn;
	mem->track_opaque = opaque;
	vmem_device_for_each_plugged(mem->engine, virtio_mem_tell_plugged, mem);
	virtio_unlock(mem->vdev);
}
