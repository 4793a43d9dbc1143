/* SPDX-License-Identifier: BSD-3-Clause */
/* Metrics as text: see metrics_text.h for the contract. */
#include "vmm/control/metrics_text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"

/* ---- lines ---- */

void metrics_text_head(FILE *f, const char *name, const char *type, const char *help)
{
	fprintf(f, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void text_quoted(FILE *f, const char *value)
{
	fputc('"', f);
	for (; *value; value++) {
		if (*value == '\n')
			fputs("\\n", f);
		else if (*value == '"' || *value == '\\')
			fprintf(f, "\\%c", *value);
		else
			fputc(*value, f);
	}
	fputc('"', f);
}

/* name{device="reg0",node="0" ; the caller goes on. */
static void text_device(FILE *f, const char *name, const char *suffix,
			const struct metrics_device *d)
{
	fprintf(f, "%s%s{device=", name, suffix);
	text_quoted(f, d->name);
	fprintf(f, ",node=\"%u\"", d->node);
}

/* ---- figures that each device has one of ---- */

struct text_figure {
	const char *name, *type, *help;
	uint64_t (*get)(const struct metrics_device *d);
};

static uint64_t get_plugged(const struct metrics_device *d)
{
	return d->sample.info.plugged_size;
}

static uint64_t get_requested(const struct metrics_device *d)
{
	return d->sample.info.requested_size;
}

static uint64_t get_usable(const struct metrics_device *d)
{
	return d->sample.info.usable_region_size;
}

static uint64_t get_region(const struct metrics_device *d)
{
	return d->sample.info.region_size;
}

static uint64_t get_block(const struct metrics_device *d)
{
	return d->sample.info.block_size;
}

static uint64_t get_faulted(const struct metrics_device *d)
{
	return d->sample.info.faulted_size;
}

static uint64_t get_driven(const struct metrics_device *d)
{
	return d->driven;
}

static uint64_t get_memslots(const struct metrics_device *d)
{
	return d->sample.guard.memslots;
}

static uint64_t get_plug_bytes(const struct metrics_device *d)
{
	return d->sample.stats.plugged_bytes;
}

static uint64_t get_unplug_bytes(const struct metrics_device *d)
{
	return d->sample.stats.unplugged_bytes;
}

static uint64_t get_reset_bytes(const struct metrics_device *d)
{
	return d->sample.stats.reset_bytes;
}

static uint64_t get_refusals(const struct metrics_device *d)
{
	return d->sample.stats.refusals;
}

static const struct text_figure text_figures[] = {
	{"ebb_memory_device_plugged_bytes", "gauge", "Memory that the guest has of the device.",
	 get_plugged},
	{"ebb_memory_device_requested_bytes", "gauge", "Memory that the guest is asked to have.",
	 get_requested},
	{"ebb_memory_device_usable_bytes", "gauge", "Part of the region that the guest may use.",
	 get_usable},
	{"ebb_memory_device_region_bytes", "gauge", "Memory that the guest can have at most.",
	 get_region},
	{"ebb_memory_device_block_bytes", "gauge", "Size of a block.", get_block},
	{"ebb_memory_device_faulted_bytes", "gauge",
	 "Plugged memory that the guest cannot reach since the host failed.", get_faulted},
	{"ebb_memory_device_driver_ready", "gauge", "Whether the guest has a driver at work.",
	 get_driven},
	{"ebb_memory_device_memory_slots", "gauge", "Memory slots of the hypervisor in use.",
	 get_memslots},
	{"ebb_memory_device_plug_bytes_total", "counter", "Memory plugged by requests.",
	 get_plug_bytes},
	{"ebb_memory_device_unplug_bytes_total", "counter", "Memory unplugged by requests.",
	 get_unplug_bytes},
	{"ebb_memory_device_reset_bytes_total", "counter",
	 "Memory unplugged by resets of the machine.", get_reset_bytes},
	{"ebb_memory_device_host_refusals_total", "counter", "Requests that the host could not do.",
	 get_refusals},
};

/* @size: only of devices that take size requests. */
static void text_figures_of(FILE *f, const struct metrics_world *w,
			    const struct text_figure *figures, size_t nr, bool size)
{
	for (size_t i = 0; i < nr; i++) {
		const struct text_figure *figure = &figures[i];

		metrics_text_head(f, figure->name, figure->type, figure->help);
		for (size_t j = 0; j < w->nr_devices; j++) {
			if (size && !w->devices[j].sample.size.on)
				continue;
			text_device(f, figure->name, "", &w->devices[j]);
			fprintf(f, "} %" PRIu64 "\n", figure->get(&w->devices[j]));
		}
	}
}

/* ---- figures with labels of their own ---- */

/* One of the values is 1, the others are 0. */
static void text_progress(FILE *f, const struct metrics_world *w)
{
	const char *name = "ebb_memory_device_request_status";

	metrics_text_head(f, name, "gauge",
			  "How far the last resize got: 1 for the status it has.");
	for (size_t i = 0; i < w->nr_devices; i++) {
		for (enum virtio_mem_progress p = VIRTIO_MEM_DONE; p <= VIRTIO_MEM_NO_DRIVER; p++) {
			text_device(f, name, "", &w->devices[i]);
			fprintf(f, ",status=\"%s\"} %d\n", virtio_mem_progress_name(p),
				w->devices[i].progress == p);
		}
	}
}

static void text_held(FILE *f, const struct metrics_world *w)
{
	const char *bytes = "ebb_memory_device_resident_bytes";
	const char *age = "ebb_memory_device_resident_age_seconds";

	metrics_text_head(f, bytes, "gauge", "Host memory that the device holds, as last counted.");
	for (size_t i = 0; i < w->nr_devices; i++) {
		if (!w->devices[i].held_known)
			continue;
		text_device(f, bytes, "", &w->devices[i]);
		fprintf(f, "} %" PRIu64 "\n", w->devices[i].held_bytes);
	}
	metrics_text_head(f, age, "gauge", "How long ago the oldest part of that was counted.");
	for (size_t i = 0; i < w->nr_devices; i++) {
		if (!w->devices[i].held_known)
			continue;
		text_device(f, age, "", &w->devices[i]);
		fprintf(f, "} %" PRIu64 ".%03u\n", w->devices[i].held_age_ms / 1000,
			(unsigned int)(w->devices[i].held_age_ms % 1000));
	}
}

static void text_requests(FILE *f, const struct metrics_world *w)
{
	const char *name = "ebb_memory_device_requests_total";

	metrics_text_head(f, name, "counter", "Requests of the guest's driver.");
	for (size_t i = 0; i < w->nr_devices; i++) {
		const struct virtio_mem_stats *s = &w->devices[i].sample.stats;

		for (unsigned int k = 0; k < VIRTIO_MEM_KINDS; k++) {
			for (unsigned int a = 0; a < VIRTIO_MEM_ANSWERS; a++) {
				text_device(f, name, "", &w->devices[i]);
				fprintf(f, ",request=\"%s\",answer=\"%s\"} %" PRIu64 "\n",
					virtio_mem_kind_name(k), virtio_mem_answer_name(a),
					s->requests[k].answers[a]);
			}
		}
	}
}

/* Microseconds as seconds, with as many digits as it needs. */
static void text_seconds(FILE *f, uint64_t us)
{
	unsigned int digits = 6;
	uint64_t rest = us % 1000000;

	fprintf(f, "%" PRIu64, us / 1000000);
	if (!rest)
		return;
	for (; rest % 10 == 0; rest /= 10)
		digits--;
	fprintf(f, ".%0*" PRIu64, (int)digits, rest);
}

static void text_latency(FILE *f, const char *name, const struct metrics_device *d,
			 enum virtio_mem_kind kind)
{
	const struct virtio_mem_requests *r = &d->sample.stats.requests[kind];
	uint64_t count = 0;

	for (unsigned int b = 0; b < VIRTIO_MEM_BUCKETS; b++) {
		count += r->latency[b];
		text_device(f, name, "_bucket", d);
		fprintf(f, ",request=\"%s\",le=\"", virtio_mem_kind_name(kind));
		if (b < VIRTIO_MEM_BUCKETS - 1)
			text_seconds(f, UINT64_C(1) << b);
		else
			fprintf(f, "+Inf");
		fprintf(f, "\"} %" PRIu64 "\n", count);
	}
	text_device(f, name, "_sum", d);
	fprintf(f, ",request=\"%s\"} %" PRIu64 ".%09" PRIu64 "\n", virtio_mem_kind_name(kind),
		r->latency_ns / 1000000000, r->latency_ns % 1000000000);
	text_device(f, name, "_count", d);
	fprintf(f, ",request=\"%s\"} %" PRIu64 "\n", virtio_mem_kind_name(kind), count);
}

static void text_latencies(FILE *f, const struct metrics_world *w)
{
	const char *name = "ebb_memory_device_request_duration_seconds";

	metrics_text_head(f, name, "histogram",
			  "Time from taking a request from the queue to giving its answer.");
	for (size_t i = 0; i < w->nr_devices; i++)
		for (unsigned int k = 0; k < VIRTIO_MEM_KINDS; k++)
			text_latency(f, name, &w->devices[i], k);
}

static void text_violations(FILE *f, const struct metrics_world *w)
{
	const char *name = "ebb_memory_device_violations_total";

	metrics_text_head(f, name, "counter",
			  "Accesses of the guest to memory that is not plugged.");
	for (size_t i = 0; i < w->nr_devices; i++) {
		const struct virtio_mem_violations *v = &w->devices[i].sample.violations;

		text_device(f, name, "", &w->devices[i]);
		fprintf(f, ",access=\"write\"} %" PRIu64 "\n", v->writes);
		text_device(f, name, "", &w->devices[i]);
		fprintf(f, ",access=\"read\"} %" PRIu64 "\n", v->reads);
	}
}

/* ---- size requests, of devices that take them ---- */

static bool text_any_size(const struct metrics_world *w)
{
	for (size_t i = 0; i < w->nr_devices; i++)
		if (w->devices[i].sample.size.on)
			return true;
	return false;
}

static uint64_t get_owner(const struct metrics_device *d)
{
	return d->sample.info.owner_size;
}

static uint64_t get_request_limit(const struct metrics_device *d)
{
	return d->sample.info.request_limit;
}

static uint64_t get_request_rate(const struct metrics_device *d)
{
	return d->sample.info.request_rate;
}

static uint64_t get_granted_bytes(const struct metrics_device *d)
{
	return d->sample.size.granted_bytes;
}

static uint64_t get_offered_bytes(const struct metrics_device *d)
{
	return d->sample.size.offered_bytes;
}

static const struct text_figure text_size_figures[] = {
	{"ebb_memory_device_owner_bytes", "gauge",
	 "Memory that the guest is asked to have without what it was granted.", get_owner},
	{"ebb_memory_device_request_limit_bytes", "gauge",
	 "Memory up to which the guest is granted what it asks for.", get_request_limit},
	{"ebb_memory_device_request_rate_bytes_per_second", "gauge",
	 "How much more the guest is granted in a second, 0 for no limit.", get_request_rate},
	{"ebb_memory_device_granted_bytes_total", "counter",
	 "Memory granted when the guest asked for more.", get_granted_bytes},
	{"ebb_memory_device_offered_bytes_total", "counter",
	 "Memory that the guest offered and was asked for then.", get_offered_bytes},
};

/* The samples of one device: of combinations that occurred. */
static void text_size_samples(FILE *f, const char *name, const struct metrics_device *d)
{
	const struct virtio_mem_size_stats *s = &d->sample.size;

	for (unsigned int a = 0; a < VIRTIO_MEM_SIZE_ANSWERS; a++) {
		for (unsigned int u = 0; u < VMEM_SIZE_URGENCIES; u++) {
			for (unsigned int r = 0; r < VMEM_SIZE_REASONS; r++) {
				if (!s->requests[a][u][r])
					continue;
				text_device(f, name, "", d);
				fprintf(f,
					",answer=\"%s\",urgency=\"%s\",reason=\"%s\"} %" PRIu64
					"\n",
					virtio_mem_size_answer_name(a),
					virtio_mem_size_urgency_name(u),
					virtio_mem_size_reason_name(r), s->requests[a][u][r]);
			}
		}
	}
	text_device(f, name, "", d);
	fprintf(f, ",answer=\"error\"} %" PRIu64 "\n", s->errors);
	text_device(f, name, "", d);
	fprintf(f, ",answer=\"broken\"} %" PRIu64 "\n", s->broken);
}

static void text_size_requests(FILE *f, const struct metrics_world *w)
{
	const char *name = "ebb_memory_device_size_requests_total";

	if (!text_any_size(w))
		return;
	text_figures_of(f, w, text_size_figures, ARRAY_SIZE(text_size_figures), true);
	metrics_text_head(f, name, "counter", "Requests of the guest for another size.");
	for (size_t i = 0; i < w->nr_devices; i++)
		if (w->devices[i].sample.size.on)
			text_size_samples(f, name, &w->devices[i]);
}

/* ---- the machine ---- */

static void text_machine(FILE *f, const struct metrics_world *w)
{
	metrics_text_head(f, "ebb_build_info", "gauge", "What runs here.");
	fprintf(f, "ebb_build_info{version=");
	text_quoted(f, w->version);
	fprintf(f, "} 1\n");
	metrics_text_head(f, "ebb_guest_info", "gauge", "Whose machine it is.");
	fprintf(f, "ebb_guest_info{name=");
	text_quoted(f, w->guest_name ? w->guest_name : "");
	fprintf(f, "} 1\n");
	metrics_text_head(f, "ebb_vm_state", "gauge", "The run state: 1 for the one it is in.");
	for (enum vm_state s = VM_PRELAUNCH; s <= VM_POSTMIGRATE; s++)
		fprintf(f, "ebb_vm_state{state=\"%s\"} %d\n", vm_state_name(s), w->state == s);
	metrics_text_head(f, "ebb_vcpus", "gauge", "Virtual CPUs.");
	fprintf(f, "ebb_vcpus %u\n", w->nr_cpus);
	metrics_text_head(f, "ebb_boot_memory_bytes", "gauge", "Memory that the guest always has.");
	for (unsigned int n = 0; n < w->nr_nodes; n++)
		fprintf(f, "ebb_boot_memory_bytes{node=\"%u\"} %" PRIu64 "\n", n,
			w->node_boot_bytes[n]);
	metrics_text_head(f, "process_resident_memory_bytes", "gauge",
			  "Resident memory size in bytes.");
	fprintf(f, "process_resident_memory_bytes %" PRIu64 "\n", w->resident_bytes);
}

/* ---- the migration ---- */

struct text_move {
	const char *name, *type, *help;
	uint64_t (*get)(const struct migration_info *info);
};

static uint64_t get_incoming(const struct migration_info *info)
{
	return info->incoming;
}

static uint64_t get_transferred(const struct migration_info *info)
{
	return info->ram.transferred;
}

static uint64_t get_remaining(const struct migration_info *info)
{
	return info->ram.remaining;
}

static uint64_t get_memory(const struct migration_info *info)
{
	return info->ram.total;
}

static uint64_t get_passes(const struct migration_info *info)
{
	return info->ram.dirty_sync_count;
}

static uint64_t get_dirty(const struct migration_info *info)
{
	return info->ram.dirty_pages_rate * info->ram.page_size;
}

static uint64_t get_hinted(const struct migration_info *info)
{
	return info->ram.hinted * info->ram.page_size;
}

static uint64_t get_throttle(const struct migration_info *info)
{
	return info->cpu_throttle_percentage;
}

static const struct text_move text_moves[] = {
	{"ebb_migration_incoming", "gauge", "Whether the last migration comes here.", get_incoming},
	{"ebb_migration_transferred_bytes", "gauge", "What the last migration has sent.",
	 get_transferred},
	{"ebb_migration_remaining_bytes", "gauge", "Memory that is still to be sent.",
	 get_remaining},
	{"ebb_migration_memory_bytes", "gauge", "Memory that there is to send.", get_memory},
	{"ebb_migration_passes", "gauge", "Passes over memory.", get_passes},
	{"ebb_migration_dirty_bytes_per_second", "gauge", "How fast the guest writes to memory.",
	 get_dirty},
	{"ebb_migration_hinted_bytes", "gauge",
	 "Memory that was left out since the guest said that it is free.", get_hinted},
	{"ebb_migration_throttle_percent", "gauge", "By how much the guest's CPUs are slowed down.",
	 get_throttle},
};

static void text_milliseconds(FILE *f, const char *name, const char *help, uint64_t ms)
{
	metrics_text_head(f, name, "gauge", help);
	fprintf(f, "%s %" PRIu64 ".%03u\n", name, ms / 1000, (unsigned int)(ms % 1000));
}

/* One of the statuses is 1. Figures are there once there was a migration that had some. */
static void text_migration(FILE *f, const struct migration_info *info)
{
	const char *name = "ebb_migration_status";

	metrics_text_head(f, name, "gauge", "How the last migration is: 1 for the status it has.");
	for (enum migration_status s = MIGRATION_NONE; s <= MIGRATION_DEVICE; s++)
		fprintf(f, "%s{status=\"%s\"} %d\n", name, migration_status_name(s),
			info->status == s);
	if (info->status == MIGRATION_NONE)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(text_moves); i++) {
		metrics_text_head(f, text_moves[i].name, text_moves[i].type, text_moves[i].help);
		fprintf(f, "%s %" PRIu64 "\n", text_moves[i].name, text_moves[i].get(info));
	}
	text_milliseconds(f, "ebb_migration_duration_seconds", "How long it has taken.",
			  info->total_time_ms);
	if (info->status == MIGRATION_COMPLETED && !info->incoming)
		text_milliseconds(f, "ebb_migration_downtime_seconds",
				  "How long the guest stood still for it.", info->downtime_ms);
}

int metrics_text(const struct metrics_world *world, char **ret_text, size_t *ret_size)
{
	char *text = NULL;
	bool failed;
	FILE *f = open_memstream(&text, ret_size);

	if (!f)
		return -ENOMEM;
	text_machine(f, world);
	text_migration(f, world->migration);
	text_figures_of(f, world, text_figures, ARRAY_SIZE(text_figures), false);
	text_progress(f, world);
	text_held(f, world);
	text_requests(f, world);
	text_latencies(f, world);
	text_violations(f, world);
	text_size_requests(f, world);
	if (world->balloon)
		metrics_text_balloon(f, world->balloon);
	failed = ferror(f);
	failed |= fclose(f) != 0;
	if (failed) {
		free(text);
		return -ENOMEM;
	}
	*ret_text = text;
	return 0;
}
