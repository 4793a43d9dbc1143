/* SPDX-License-Identifier: BSD-3-Clause */
/* What is counted of a memory device: see stats.h and figures.h for the contract. */
#include <stdio.h>

#include "vmm/control/figures.h"
#include "vmm/control/stats.h"
#include "vmm/vm/vm.h"

void control_mem_sample(const struct vm_memory_device *device, struct mem_sample *ret)
{
	virtio_mem_info(device->mem, &ret->info);
	virtio_mem_stats(device->mem, &ret->stats);
	virtio_mem_violations(device->mem, &ret->violations);
	virtio_mem_guard_info(device->mem, &ret->guard);
	virtio_mem_size_stats(device->mem, &ret->size);
}

static void stats_scalar(const struct figure_visit *v, const char *name, const char *type,
			 const char *unit, uint64_t value)
{
	const struct figure figure = {
		.name = name, .type = type, .unit = unit, .values = &value, .nr = 1};

	v->fn(v->opaque, &figure);
}

static void stats_requests(const struct figure_visit *v, const struct virtio_mem_requests *r,
			   enum virtio_mem_kind kind)
{
	struct figure figure = {
		.type = "log2-histogram",
		.unit = "seconds",
		.base = 10,
		.exponent = -6,
		.values = r->latency,
		.nr = VIRTIO_MEM_BUCKETS,
		.is_list = true,
	};
	char name[64];

	for (unsigned int a = 0; a < VIRTIO_MEM_ANSWERS; a++) {
		snprintf(name, sizeof(name), "%s-%s", virtio_mem_kind_name(kind),
			 virtio_mem_answer_name(a));
		stats_scalar(v, name, "cumulative", NULL, r->answers[a]);
	}
	snprintf(name, sizeof(name), "%s-latency", virtio_mem_kind_name(kind));
	figure.name = name;
	v->fn(v->opaque, &figure);
}

static void stats_size_scalar(const struct figure_visit *v, const char *what, const char *name,
			      uint64_t value)
{
	char text[64];

	snprintf(text, sizeof(text), "size-%s%s", what, name);
	stats_scalar(v, text, "cumulative", NULL, value);
}

/* What the guest asked for by itself: each request is counted by answer, by urgency and by reason. */
static void stats_size_requests(const struct figure_visit *v, const struct virtio_mem_size_stats *s)
{
	uint64_t answers[VIRTIO_MEM_SIZE_ANSWERS] = {0}, urgencies[VMEM_SIZE_URGENCIES] = {0};
	uint64_t reasons[VMEM_SIZE_REASONS] = {0};

	for (unsigned int a = 0; a < VIRTIO_MEM_SIZE_ANSWERS; a++) {
		for (unsigned int u = 0; u < VMEM_SIZE_URGENCIES; u++) {
			for (unsigned int r = 0; r < VMEM_SIZE_REASONS; r++) {
				answers[a] += s->requests[a][u][r];
				urgencies[u] += s->requests[a][u][r];
				reasons[r] += s->requests[a][u][r];
			}
		}
	}
	for (unsigned int a = 0; a < VIRTIO_MEM_SIZE_ANSWERS; a++)
		stats_size_scalar(v, "", virtio_mem_size_answer_name(a), answers[a]);
	stats_size_scalar(v, "", "error", s->errors);
	stats_size_scalar(v, "", "broken", s->broken);
	for (unsigned int u = 0; u < VMEM_SIZE_URGENCIES; u++)
		stats_size_scalar(v, "urgency-", virtio_mem_size_urgency_name(u), urgencies[u]);
	for (unsigned int r = 0; r < VMEM_SIZE_REASONS; r++)
		stats_size_scalar(v, "reason-", virtio_mem_size_reason_name(r), reasons[r]);
	stats_scalar(v, "size-granted-bytes", "cumulative", "bytes", s->granted_bytes);
	stats_scalar(v, "size-offered-bytes", "cumulative", "bytes", s->offered_bytes);
}

void control_mem_figures(const struct mem_sample *s, const struct figure_visit *v)
{
	stats_scalar(v, "plugged-size", "instant", "bytes", s->info.plugged_size);
	stats_scalar(v, "requested-size", "instant", "bytes", s->info.requested_size);
	stats_scalar(v, "usable-size", "instant", "bytes", s->info.usable_region_size);
	stats_scalar(v, "max-size", "instant", "bytes", s->info.region_size);
	stats_scalar(v, "faulted-size", "instant", "bytes", s->info.faulted_size);
	stats_scalar(v, "plug-bytes", "cumulative", "bytes", s->stats.plugged_bytes);
	stats_scalar(v, "unplug-bytes", "cumulative", "bytes", s->stats.unplugged_bytes);
	stats_scalar(v, "reset-bytes", "cumulative", "bytes", s->stats.reset_bytes);
	for (unsigned int k = 0; k < VIRTIO_MEM_KINDS; k++)
		stats_requests(v, &s->stats.requests[k], k);
	stats_scalar(v, "host-refusals", "cumulative", NULL, s->stats.refusals);
	stats_scalar(v, "violation-writes", "cumulative", NULL, s->violations.writes);
	stats_scalar(v, "violation-reads", "cumulative", NULL, s->violations.reads);
	stats_scalar(v, "memory-slots", "instant", NULL, s->guard.memslots);
	if (!s->size.on)
		return;
	stats_scalar(v, "owner-size", "instant", "bytes", s->info.owner_size);
	stats_scalar(v, "request-limit", "instant", "bytes", s->info.request_limit);
	stats_scalar(v, "request-rate", "instant", "bytes", s->info.request_rate);
	stats_size_requests(v, &s->size);
}
