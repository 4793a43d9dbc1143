/* SPDX-License-Identifier: BSD-3-Clause */
/* Why a size is not reached: see explain.h for the contract. */
#include "vmm/control/explain.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "qmp/size.h"
#include "vmm/virtio/mem.h"
#include "vmm/vm/vm.h"

/* Linux adds and removes memory by parts of this size. */
#define EXPLAIN_PART_BYTES (128 * MIB)
#define EXPLAIN_PARTS_MAX  1024u

struct explain {
	const struct resize_facts *facts;
	uint64_t moved, wanted; /* bytes, since the size was asked for */
	struct resize_explanation *out;
};

const char *resize_reason_name(enum resize_reason reason)
{
	static const char *const names[RESIZE_REASONS] = {
		[RESIZE_IN_PROGRESS] = "in-progress",
		[RESIZE_NO_DRIVER] = "no-driver",
		[RESIZE_GUEST_SILENT] = "guest-silent",
		[RESIZE_GUEST_TOOK_PART] = "guest-took-part",
		[RESIZE_GUEST_GAVE_PART] = "guest-gave-part",
		[RESIZE_HOST_OUT_OF_MEMORY] = "host-out-of-memory",
		[RESIZE_HOST_FAILED] = "host-failed",
		[RESIZE_TIMEOUT] = "timeout",
		[RESIZE_CANCELLED] = "cancelled",
		[RESIZE_REPLACED] = "replaced",
		[RESIZE_DEVICE_REMOVED] = "device-removed",
		[RESIZE_MACHINE_ENDED] = "machine-ended",
	};

	return names[reason];
}

/* What has no room any more is cut. */
__attribute__((format(printf, 2, 3))) static void explain_add(struct explain *e, const char *fmt,
							      ...)
{
	size_t used = strlen(e->out->text);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(e->out->text + used, sizeof(e->out->text) - used, fmt, ap);
	va_end(ap);
}

static void explain_ago(struct explain *e, uint64_t at_ms)
{
	uint64_t s = (e->facts->stats.now_ms - num_min(at_ms, e->facts->stats.now_ms)) / 1000;

	if (s)
		explain_add(e, "%" PRIu64 " s ago", s);
	else
		explain_add(e, "less than a second ago");
}

/* "512 MiB of 1 GiB". */
static void explain_moved(struct explain *e)
{
	char moved[SIZE_TEXT_MAX], wanted[SIZE_TEXT_MAX];

	if (e->moved)
		explain_add(e, "%s of %s", size_format(e->moved, moved),
			    size_format(e->wanted, wanted));
	else
		explain_add(e, "nothing of %s", size_format(e->wanted, wanted));
}

static uint64_t explain_requests(const struct explain *e, enum virtio_mem_kind kind)
{
	uint64_t count = 0;

	for (unsigned int a = 0; a < VIRTIO_MEM_ANSWERS; a++)
		count += e->facts->stats.requests[kind].resize_answers[a];
	return count;
}

static bool explain_grows(const struct explain *e)
{
	return e->facts->info.plugged_size < e->facts->info.requested_size;
}

/* ---- hints ---- */

static void explain_refusals(struct explain *e)
{
	static const char *const steps[] = {
		[VIRTIO_MEM_NO_STEP] = "taking back memory of an earlier one",
		[VIRTIO_MEM_GRANT] = "giving the guest the memory",
		[VIRTIO_MEM_POPULATE] = "finding the memory",
		[VIRTIO_MEM_REVOKE] = "taking the memory from the guest",
		[VIRTIO_MEM_DISCARD] = "giving the memory back to the host",
	};
	const struct virtio_mem_refusal *r = &e->facts->stats.refusal;

	if (!e->facts->stats.resize_refusals)
		return;
	explain_add(e, "; the host could not do %" PRIu64 " request%s, the last %s ",
		    e->facts->stats.resize_refusals,
		    e->facts->stats.resize_refusals == 1 ? "" : "s", virtio_mem_kind_name(r->kind));
	explain_ago(e, r->at_ms);
	explain_add(e, " (%s: %s", r->answer == VIRTIO_MEM_NACK ? "NACK" : "BUSY", steps[r->step]);
	if (r->error)
		explain_add(e, ": %s", strerror(r->error));
	explain_add(e, ")");
}

/* Requests that the guest got wrong. */
static void explain_errors(struct explain *e)
{
	uint64_t errors = 0;

	for (unsigned int k = 0; k < VIRTIO_MEM_KINDS; k++)
		if (k != VIRTIO_MEM_STATE)
			errors += e->facts->stats.requests[k].resize_answers[VIRTIO_MEM_ERROR];
	if (errors)
		explain_add(e, "; %" PRIu64 " of its requests made no sense (ERROR)", errors);
}

static void explain_faults(struct explain *e)
{
	char size[SIZE_TEXT_MAX];

	if (e->facts->info.faulted_size)
		explain_add(e, "; %s of it are out of the guest's reach since the host failed",
			    size_format(e->facts->info.faulted_size, size));
}

/* Whether it looked, where it did not ask. */
static bool explain_looked(struct explain *e)
{
	if (e->facts->stats.resize_size_reads)
		explain_add(e, "it read the new size, and sent no request");
	else
		explain_add(e, "it did not even read the new size");
	return e->facts->stats.resize_size_reads;
}

/* How scattered what is plugged is. */
static void explain_places(struct explain *e)
{
	const struct resize_facts *f = e->facts;
	char text[SIZE_TEXT_MAX];

	explain_add(e, ", in %zu of %zu parts of %s", f->used_parts, f->parts,
		    size_format(f->part_bytes, text));
}

/* ---- sentences ---- */

static void explain_stuck_grow(struct explain *e)
{
	bool tried = explain_requests(e, VIRTIO_MEM_PLUG);

	explain_add(e, "the guest took ");
	explain_moved(e);
	if (e->facts->progress == VIRTIO_MEM_HOST_OOM) {
		e->out->reason = RESIZE_HOST_OUT_OF_MEMORY;
		explain_add(e, ": the host has no memory for the rest");
		explain_refusals(e);
		return;
	}
	e->out->reason = RESIZE_GUEST_TOOK_PART;
	if (tried) {
		explain_add(e, " and asks for no more: its last plug request came ");
		explain_ago(e, e->facts->stats.requests[VIRTIO_MEM_PLUG].last_ms);
		if (!e->moved && e->facts->stats.resize_refusals)
			e->out->reason = RESIZE_HOST_FAILED;
	} else {
		explain_add(e, ": ");
		if (!explain_looked(e))
			e->out->reason = RESIZE_GUEST_SILENT;
	}
	explain_refusals(e);
	explain_errors(e);
}

static void explain_stuck_shrink(struct explain *e)
{
	uint64_t tries =
		explain_requests(e, VIRTIO_MEM_UNPLUG) + explain_requests(e, VIRTIO_MEM_UNPLUG_ALL);
	uint64_t last_ms = num_max(e->facts->stats.requests[VIRTIO_MEM_UNPLUG].last_ms,
				   e->facts->stats.requests[VIRTIO_MEM_UNPLUG_ALL].last_ms);
	char rest[SIZE_TEXT_MAX];

	e->out->reason = RESIZE_GUEST_GAVE_PART;
	explain_add(e, "the guest gave back ");
	explain_moved(e);
	explain_add(e, "; the other %s stay plugged",
		    size_format(e->facts->info.plugged_size - e->facts->info.requested_size, rest));
	explain_places(e);
	explain_add(e, ": ");
	if (tries) {
		explain_add(e, "it tried %" PRIu64 " time%s, at last ", tries,
			    tries == 1 ? "" : "s");
		explain_ago(e, last_ms);
		if (!e->moved && e->facts->stats.resize_refusals)
			e->out->reason = RESIZE_HOST_FAILED;
		else
			explain_add(e, "; for memory that it cannot empty it does not ask");
	} else if (!explain_looked(e)) {
		e->out->reason = RESIZE_GUEST_SILENT;
	} else {
		explain_add(e, ": no block of it can be emptied, or it takes longer");
	}
	explain_refusals(e);
	explain_errors(e);
	explain_faults(e);
}

static void explain_progress(struct explain *e)
{
	e->out->reason = RESIZE_IN_PROGRESS;
	explain_add(e, "the guest %s ", explain_grows(e) ? "took" : "gave back");
	explain_moved(e);
	explain_add(e, " so far");
	explain_refusals(e);
}

/* After a reset a guest begins anew: what it had before does not count. */
static void explain_measure(struct explain *e)
{
	uint64_t start = e->facts->stats.resize_plugged_size, now = e->facts->info.plugged_size;

	if (explain_grows(e)) {
		start = num_min(start, now);
		e->moved = now - start;
		e->wanted = e->facts->info.requested_size - start;
	} else {
		start = num_max(start, now);
		e->moved = start - now;
		e->wanted = start - e->facts->info.requested_size;
	}
}

/* Whose wish it is. */
static void explain_granted(struct explain *e)
{
	uint64_t granted = e->facts->info.requested_size - e->facts->info.owner_size;
	char size[SIZE_TEXT_MAX];

	if (granted)
		explain_add(e, "; %s of the requested size were granted at the guest's own request",
			    size_format(granted, size));
}

bool resize_explain(const struct resize_facts *facts, struct resize_explanation *ret)
{
	struct explain e = {.facts = facts, .out = ret};

	if (facts->info.plugged_size == facts->info.requested_size)
		return false;
	ret->text[0] = '\0';
	explain_measure(&e);
	if (facts->progress == VIRTIO_MEM_NO_DRIVER) {
		ret->reason = RESIZE_NO_DRIVER;
		explain_add(&e, "the guest has no driver for '%s'", facts->name);
	} else if (facts->progress == VIRTIO_MEM_IN_PROGRESS ||
		   facts->progress == VIRTIO_MEM_DONE) {
		explain_progress(&e);
	} else if (explain_grows(&e)) {
		explain_stuck_grow(&e);
	} else {
		explain_stuck_shrink(&e);
	}
	explain_granted(&e);
	if (!facts->running)
		explain_add(&e, "; the machine is stopped");
	return true;
}

/* ---- facts ---- */

static void explain_count_parts(const struct virtio_mem *mem, struct resize_facts *facts)
{
	uint64_t bytes[EXPLAIN_PARTS_MAX], cell_size;
	size_t nr = virtio_mem_cells(mem, bytes, EXPLAIN_PARTS_MAX, &cell_size);
	size_t per_part = (size_t)num_max(EXPLAIN_PART_BYTES / cell_size, 1);

	facts->part_bytes = cell_size * per_part;
	for (size_t i = 0; i < nr; i += per_part) {
		uint64_t part = 0;

		for (size_t j = i; j < nr && j < i + per_part; j++)
			part += bytes[j];
		facts->used_parts += part != 0;
		facts->parts++;
	}
}

bool control_mem_explain(const struct vm *vm, const struct vm_memory_device *device,
			 struct resize_explanation *ret)
{
	struct resize_facts facts = {
		.name = device->id ? device->id : device->memdev_id,
		.progress = virtio_mem_progress(device->mem),
		.running = vm_state(vm) == VM_RUNNING,
	};

	virtio_mem_info(device->mem, &facts.info);
	virtio_mem_stats(device->mem, &facts.stats);
	explain_count_parts(device->mem, &facts);
	return resize_explain(&facts, ret);
}
