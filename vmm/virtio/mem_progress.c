/* SPDX-License-Identifier: BSD-3-Clause */
/* How far a resize got: see mem_progress.h for the contract. */
#include "vmm/virtio/mem_progress.h"

#include <time.h>

static uint64_t mem_progress_clock_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void mem_progress_init(struct mem_progress *p, uint64_t (*now_ms)(void))
{
	*p = (struct mem_progress){.now_ms = now_ms ? now_ms : mem_progress_clock_ms};
}

uint64_t mem_progress_now_ms(const struct mem_progress *p)
{
	uint64_t since = p->stopped_since_ms;

	return (since ? since : p->now_ms()) - p->stopped_total_ms;
}

void mem_progress_moved(struct mem_progress *p)
{
	p->moved_ms = mem_progress_now_ms(p);
}

void mem_progress_answered(struct mem_progress *p, bool plug, bool refused)
{
	/* Drivers may ask for what the host has not again and again, at once. */
	if (!refused || !p->host_refused)
		mem_progress_moved(p);
	if (plug)
		p->host_refused = refused;
}

void mem_progress_reset(struct mem_progress *p)
{
	p->host_refused = false;
}

void mem_progress_stop(struct mem_progress *p)
{
	if (!p->stopped_since_ms)
		p->stopped_since_ms = p->now_ms();
}

void mem_progress_cont(struct mem_progress *p)
{
	uint64_t since = p->stopped_since_ms;

	if (!since)
		return;
	p->stopped_total_ms += p->now_ms() - since;
	p->stopped_since_ms = 0;
}

bool mem_progress_stopped(const struct mem_progress *p)
{
	return p->stopped_since_ms;
}

uint64_t mem_progress_idle_ms(const struct mem_progress *p)
{
	/* Before the clock, which is then never behind it. */
	uint64_t moved_ms = p->moved_ms;

	return mem_progress_now_ms(p) - moved_ms;
}

enum virtio_mem_progress mem_progress_get(const struct mem_progress *p,
					  const struct vmem_device_info *info)
{
	if (info->plugged_size == info->requested_size)
		return VIRTIO_MEM_DONE;
	if (mem_progress_idle_ms(p) < VIRTIO_MEM_STALL_MS)
		return VIRTIO_MEM_IN_PROGRESS;
	return p->host_refused && info->plugged_size < info->requested_size ? VIRTIO_MEM_HOST_OOM
									    : VIRTIO_MEM_VM_OOM;
}

const char *virtio_mem_progress_name(enum virtio_mem_progress progress)
{
	switch (progress) {
	case VIRTIO_MEM_DONE:
		return "done";
	case VIRTIO_MEM_IN_PROGRESS:
		return "in-progress";
	case VIRTIO_MEM_VM_OOM:
		return "vm-oom";
	case VIRTIO_MEM_HOST_OOM:
		return "host-oom";
	case VIRTIO_MEM_NO_DRIVER:
		break;
	}
	return "no-driver";
}
