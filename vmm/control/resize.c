/* SPDX-License-Identifier: BSD-3-Clause */
/* Resizes as jobs: see resize.h for the contract. The commands are in resize_commands.c. */
#include "vmm/control/resize.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "base/ptrs.h"
#include "qmp/job.h"
#include "qmp/size.h"
#include "vmm/control/explain.h"
#include "vmm/control/internal.h"
#include "vmm/core/loop.h"
#include "vmm/virtio/mem.h"

/* One device of a resize. */
struct resize_part {
	const struct vm_memory_device *device; /* NULL: it is gone */
	char *name;
	uint64_t target;
	bool driver_seen; /* there was a driver at some time */
	bool was_reset;   /* the machine was reset, and no driver was there since */
};

struct resize {
	struct resizer *resizer;
	struct job *job;
	struct resize_part *parts;
	size_t nr;
	uint64_t timeout_ms; /* 0: none */
	uint64_t start_ms;   /* of the resizer's clock */
	bool cancelled;
};

/* Enough for some devices; the sentences about others are cut. */
#define RESIZE_WHY_MAX 4096

struct resizer {
	struct control *control;
	uv_timer_t timer;
	struct resize **list;
	size_t nr;
	/* A clock that stands still while the machine is stopped. */
	bool running;
	uint64_t since_ms; /* of the host's clock, while it runs */
	uint64_t past_ms;  /* before that */
};

/* ---- time ---- */

static uint64_t resizer_now_ms(const struct resizer *r)
{
	uint64_t now_ms = uv_hrtime() / 1000000;

	return r->past_ms + (r->running ? now_ms - r->since_ms : 0);
}

/*
 * At each stop and cont, and before the clock is needed: the first start of a machine is not told.
 */
static void resizer_sync(struct resizer *r)
{
	r->past_ms = resizer_now_ms(r);
	r->since_ms = uv_hrtime() / 1000000;
	r->running = vm_state(r->control->vm) == VM_RUNNING;
}

/* ---- how far a device is ---- */

enum part_state { PART_DONE, PART_BUSY, PART_STUCK, PART_REPLACED, PART_GONE };

/* How long a driver that went may stay away. */
static uint64_t part_patience_ms(const struct resize_part *p)
{
	if (!p->driver_seen)
		return 0;
	return p->was_reset ? RESIZE_BOOT_MS : VIRTIO_MEM_STALL_MS;
}

/* Also where nobody could be told that it went, for lack of memory. */
static bool part_is_there(const struct resize_part *p, const struct vm *vm)
{
	for (size_t i = 0; i < vm_nr_memory_devices(vm); i++)
		if (vm_memory_device(vm, i) == p->device)
			return true;
	return false;
}

/* *ret_left: bytes to move. *ret_wait_ms: of a busy part, when it could be stuck. */
static enum part_state part_look(struct resize_part *p, const struct vm *vm, uint64_t *ret_left,
				 uint64_t *ret_wait_ms)
{
	enum virtio_mem_progress progress;
	struct virtio_mem_stats stats;
	struct vmem_device_info info;
	uint64_t patience_ms;

	*ret_left = 0;
	*ret_wait_ms = 0;
	if (!part_is_there(p, vm)) {
		p->device = NULL;
		return PART_GONE;
	}
	progress = virtio_mem_progress(p->device->mem);
	virtio_mem_info(p->device->mem, &info);
	*ret_left = num_max(info.plugged_size, p->target) - num_min(info.plugged_size, p->target);
	if (info.requested_size != p->target)
		return PART_REPLACED;
	if (!*ret_left)
		return PART_DONE;
	if (progress != VIRTIO_MEM_NO_DRIVER) {
		p->driver_seen = true;
		p->was_reset = false;
		if (progress == VIRTIO_MEM_VM_OOM || progress == VIRTIO_MEM_HOST_OOM)
			return PART_STUCK;
	}
	virtio_mem_stats(p->device->mem, &stats);
	patience_ms = progress == VIRTIO_MEM_NO_DRIVER ? part_patience_ms(p) : VIRTIO_MEM_STALL_MS;
	/* What is not stalled by now is in a millisecond at the earliest. */
	if (stats.idle_ms < patience_ms)
		*ret_wait_ms = patience_ms - stats.idle_ms;
	else if (progress != VIRTIO_MEM_NO_DRIVER)
		*ret_wait_ms = 1;
	return *ret_wait_ms ? PART_BUSY : PART_STUCK;
}

/* The guest's own requests, while the resize is under way (I1). */
static void resize_hold(const struct resize *resize, bool hold)
{
	for (size_t i = 0; i < resize->nr; i++) {
		const struct resize_part *p = &resize->parts[i];

		if (p->device && part_is_there(p, resize->resizer->control->vm))
			virtio_mem_hold_size(p->device->mem, hold);
	}
}

/* ---- the end ---- */

static void resize_free(struct resize *resize)
{
	for (size_t i = 0; i < resize->nr; i++)
		free(resize->parts[i].name);
	free(resize->parts);
	free(resize);
}

/* The job is over; @err (NULL: it went well) is taken over. */
static void resize_end(struct resize *resize, enum resize_reason reason, struct err *err)
{
	json_t *details = NULL;

	ptrs_remove(&resize->resizer->list, &resize->resizer->nr, resize);
	resize_hold(resize, false);
	if (err)
		details = json_pack("{s:s}", "reason", resize_reason_name(reason));
	job_conclude(resize->job, details, err);
	resize_free(resize);
}

/* "reg0: why; reg1: why", or why, where there is one device only. */
static enum resize_reason resize_why(const struct resize *resize, char *buf, size_t size)
{
	enum resize_reason reason = RESIZE_IN_PROGRESS;
	const char *between = "";

	buf[0] = '\0';
	for (size_t i = 0; i < resize->nr; i++) {
		const struct resize_part *p = &resize->parts[i];
		struct resize_explanation why;
		size_t used = strlen(buf);

		if (!p->device ||
		    !control_mem_explain(resize->resizer->control->vm, p->device, &why))
			continue;
		/* The first that is not just slow speaks for all. */
		if (reason == RESIZE_IN_PROGRESS)
			reason = why.reason;
		if (resize->nr > 1)
			snprintf(buf + used, size - used, "%s%s: %s", between, p->name, why.text);
		else
			snprintf(buf + used, size - used, "%s", why.text);
		between = "; ";
	}
	return reason;
}

/* No device does anything any more, or time is up. The requested sizes stay. */
static void resize_end_stuck(struct resize *resize, bool timeout)
{
	char why[RESIZE_WHY_MAX], size[SIZE_TEXT_MAX];
	enum resize_reason reason = resize_why(resize, why, sizeof(why));
	struct err *err = NULL;

	if (resize->nr == 1)
		err_set(&err, ETIMEDOUT, "%s; the requested size stays %s", why,
			size_format(resize->parts[0].target, size));
	else
		err_set(&err, ETIMEDOUT, "%s; the requested sizes stay", why);
	if (timeout) {
		reason = RESIZE_TIMEOUT;
		err_prefix(&err, "not done after %" PRIu64 " s", resize->timeout_ms / 1000);
	}
	resize_end(resize, reason, err);
}

static void resize_end_cancelled(struct resize *resize)
{
	char why[RESIZE_WHY_MAX] = "";
	struct err *err = NULL;

	for (size_t i = 0; i < resize->nr; i++) {
		const struct resize_part *p = &resize->parts[i];
		char now[SIZE_TEXT_MAX], target[SIZE_TEXT_MAX];
		size_t used = strlen(why);
		struct vmem_device_info info;

		if (!p->device)
			continue;
		virtio_mem_info(p->device->mem, &info);
		snprintf(why + used, sizeof(why) - used, "%s'%s' stays at %s of %s",
			 used ? ", " : "", p->name, size_format(info.plugged_size, now),
			 size_format(p->target, target));
	}
	err_set(&err, ECANCELED, "cancelled: %s", why);
	resize_end(resize, RESIZE_CANCELLED, err);
}

static void resize_end_replaced(struct resize *resize, const struct resize_part *p)
{
	char now[SIZE_TEXT_MAX], target[SIZE_TEXT_MAX];
	struct vmem_device_info info;
	struct err *err = NULL;

	virtio_mem_info(p->device->mem, &info);
	err_set(&err, EBUSY, "another size was asked for: '%s' shall have %s instead of %s",
		p->name, size_format(info.requested_size, now), size_format(p->target, target));
	resize_end(resize, RESIZE_REPLACED, err);
}

static void resize_end_gone(struct resize *resize, const struct resize_part *p)
{
	struct err *err = NULL;

	err_set(&err, ENXIO, "'%s' was removed", p->name);
	resize_end(resize, RESIZE_DEVICE_REMOVED, err);
}

/* ---- looking ---- */

/* What all parts together are. */
struct resize_state {
	unsigned int count[PART_GONE + 1];
	const struct resize_part *last[PART_GONE + 1];
	uint64_t left_bytes;
	uint64_t wait_ms; /* UINT64_MAX: for nothing but a change */
	bool applied;     /* each device came to the last size that was asked for */
};

static void resize_look(struct resize *resize, struct resize_state *ret)
{
	*ret = (struct resize_state){.wait_ms = UINT64_MAX, .applied = true};
	for (size_t i = 0; i < resize->nr; i++) {
		struct resize_part *p = &resize->parts[i];
		uint64_t left, wait_ms;
		enum part_state state = part_look(p, resize->resizer->control->vm, &left, &wait_ms);

		ret->count[state]++;
		ret->last[state] = p;
		ret->left_bytes += left;
		if (state == PART_BUSY)
			ret->wait_ms = num_min(ret->wait_ms, wait_ms);
		if (p->device && !virtio_mem_resized(p->device->mem))
			ret->applied = false;
	}
}

/* End it if it is over. Else when to look again. */
static bool resize_is_over(struct resize *resize, uint64_t *ret_wait_ms)
{
	uint64_t passed_ms = resizer_now_ms(resize->resizer) - resize->start_ms;
	struct resize_state s;

	resize_look(resize, &s);
	if (!resize->cancelled)
		job_set_remaining(resize->job, s.left_bytes);
	*ret_wait_ms = s.wait_ms;
	/* It may have been cancelled by somebody who was told of the progress. */
	if (resize->cancelled && !s.applied) {
		*ret_wait_ms = UINT64_MAX;
		return false;
	}
	if (resize->cancelled) {
		resize_end_cancelled(resize);
	} else if (s.count[PART_GONE]) {
		resize_end_gone(resize, s.last[PART_GONE]);
	} else if (s.count[PART_REPLACED]) {
		resize_end_replaced(resize, s.last[PART_REPLACED]);
	} else if (s.count[PART_DONE] == resize->nr) {
		resize_end(resize, RESIZE_IN_PROGRESS, NULL);
	} else if (!s.count[PART_BUSY]) {
		resize_end_stuck(resize, false);
	} else if (resize->timeout_ms && passed_ms >= resize->timeout_ms) {
		resize_end_stuck(resize, true);
	} else {
		if (resize->timeout_ms)
			*ret_wait_ms = num_min(*ret_wait_ms, resize->timeout_ms - passed_ms);
		return false;
	}
	return true;
}

/*
 * Not from where something happens, but here: the end of a job may run commands, and those must not
 * find the machine in the middle of a change.
 */
static void resizer_look(uv_timer_t *timer)
{
	struct resizer *r = timer->data;
	uint64_t wait_ms = UINT64_MAX;

	resizer_sync(r);
	/* Resizes that are made meanwhile come at the end, and set the timer as well. */
	for (size_t i = 0; i < r->nr;) {
		uint64_t one_ms;

		if (resize_is_over(r->list[i], &one_ms))
			continue;
		wait_ms = num_min(wait_ms, one_ms);
		i++;
	}
	if (uv_is_active((uv_handle_t *)timer))
		return;
	if (r->running && wait_ms != UINT64_MAX)
		uv_timer_start(timer, resizer_look, wait_ms, 0);
}

/* Look at all of it soon. */
static void resizer_kick(struct resizer *r)
{
	if (r->nr)
		uv_timer_start(&r->timer, resizer_look, 0, 0);
}

/* ---- what happens to the machine ---- */

static void resizer_each_part(struct resizer *r,
			      void (*fn)(struct resize_part *part, const struct vm_event *event),
			      const struct vm_event *event)
{
	for (size_t i = 0; i < r->nr; i++)
		for (size_t j = 0; j < r->list[i]->nr; j++)
			fn(&r->list[i]->parts[j], event);
}

static void part_on_reset(struct resize_part *p, const struct vm_event *event)
{
	(void)event;
	p->was_reset = true;
}

/* The device is not looked at any more. */
static void part_on_deleted(struct resize_part *p, const struct vm_event *event)
{
	if (p->device && (event->memory_device == p->device ||
			  (event->id && p->device->id && !strcmp(event->id, p->name))))
		p->device = NULL;
}

void control_resize_event(struct control *control, const struct vm_event *event)
{
	struct resizer *r = control->resizer;

	switch (event->type) {
	case VM_EVENT_STOP:
	case VM_EVENT_RESUME:
		resizer_sync(r);
		break;
	case VM_EVENT_RESET:
		resizer_each_part(r, part_on_reset, event);
		break;
	case VM_EVENT_DEVICE_DELETED:
		resizer_each_part(r, part_on_deleted, event);
		break;
	case VM_EVENT_MEMORY_DEVICE:
		break;
	default:
		return;
	}
	resizer_kick(r);
}

/* ---- starting ---- */

/* Have every device stop where it is; the job ends when they did (I4). */
static void resize_cancel(void *opaque)
{
	struct resize *resize = opaque;

	resize->cancelled = true;
	for (size_t i = 0; i < resize->nr; i++) {
		const struct resize_part *p = &resize->parts[i];
		struct vmem_device_info info;

		if (!p->device)
			continue;
		virtio_mem_info(p->device->mem, &info);
		/* Not one that somebody else asked for another size. */
		if (info.requested_size == p->target)
			virtio_mem_resize_here(p->device->mem);
	}
	resizer_kick(resize->resizer);
}

static const struct job_ops resize_job_ops = {.cancel = resize_cancel};

static const char *resize_device_name(const struct vm_memory_device *d)
{
	return d->id ? d->id : d->memdev_id;
}

/* The resize that a device is in; or NULL. */
static const struct resize *resizer_find(const struct resizer *r, const struct vm_memory_device *d)
{
	for (size_t i = 0; i < r->nr; i++)
		for (size_t j = 0; j < r->list[i]->nr; j++)
			if (r->list[i]->parts[j].device == d)
				return r->list[i];
	return NULL;
}

static struct resize *resize_new(struct resizer *r, const struct resize_target *targets, size_t nr,
				 uint64_t timeout_ms)
{
	struct resize *resize = calloc(1, sizeof(*resize));

	if (!resize)
		return NULL;
	resize->resizer = r;
	resize->timeout_ms = timeout_ms;
	resize->start_ms = resizer_now_ms(r);
	resize->parts = calloc(nr + 1, sizeof(*resize->parts));
	for (; resize->parts && resize->nr < nr; resize->nr++) {
		struct resize_part *p = &resize->parts[resize->nr];

		p->device = targets[resize->nr].device;
		p->target = targets[resize->nr].size;
		p->name = strdup(resize_device_name(p->device));
		if (!p->name)
			break;
	}
	if (resize->nr == nr && resize->parts && !ptrs_add(&r->list, &r->nr, resize))
		return resize;
	resize_free(resize);
	return NULL;
}

/* All sizes, or none: what virtio_mem_resize() would refuse is refused before. */
static int resize_check(const struct resizer *r, const struct resize_target *targets, size_t nr,
			struct err **err)
{
	for (size_t i = 0; i < nr; i++) {
		const struct resize *other = resizer_find(r, targets[i].device);
		int ret = virtio_mem_check_size(targets[i].device->mem, targets[i].size, err);

		if (ret)
			return ret;
		if (other)
			return err_set(err, EBUSY,
				       "'%s' is being resized by job '%s'; cancel that, or wait",
				       resize_device_name(targets[i].device), job_id(other->job));
	}
	return 0;
}

int control_resize_start(struct control *control, const struct resize_target *targets, size_t nr,
			 const struct resize_options *options, const char **ret_id,
			 struct err **err)
{
	struct resizer *r = control->resizer;
	struct resize *resize;
	struct resize_state s;
	int ret = vm_check_resize(control->vm, err);

	if (!ret)
		ret = resize_check(r, targets, nr, err);
	if (ret)
		return ret;
	resizer_sync(r);
	resize = resize_new(r, targets, nr, options->timeout_ms);
	if (!resize)
		return err_set(err, ENOMEM, "out of memory");
	resize->job = job_new(control->jobs, options->job_id, options->prefix, options->type,
			      &resize_job_ops, resize, err);
	if (!resize->job) {
		ptrs_remove(&r->list, &r->nr, resize);
		resize_free(resize);
		return -EINVAL;
	}
	/* All that is to be done: a guest may be quick once it is asked. */
	resize_look(resize, &s);
	resize_hold(resize, true);
	for (size_t i = 0; i < nr; i++)
		virtio_mem_resize(targets[i].device->mem, targets[i].size, NULL);
	job_start(resize->job);
	job_set_remaining(resize->job, s.left_bytes);
	*ret_id = job_id(resize->job);
	resizer_kick(r);
	return 0;
}

/* ---- life ---- */

static void control_job_changed(void *opaque, const char *id, enum job_status status)
{
	control_emit(opaque, "JOB_STATUS_CHANGE",
		     json_pack("{s:s, s:s}", "id", id, "status", job_status_name(status)));
}

int control_resize_init(struct control *control, struct err **err)
{
	const struct jobs_config jobs = {.changed = control_job_changed, .opaque = control};
	struct resizer *r = calloc(1, sizeof(*r));

	control->jobs = jobs_new(&jobs);
	if (!control->jobs || !r) {
		free(r);
		return err_set(err, ENOMEM, "out of memory");
	}
	r->control = control;
	uv_timer_init(loop_uv(control->main), &r->timer);
	r->timer.data = r;
	resizer_sync(r);
	control->resizer = r;
	return 0;
}

static void resizer_closed(uv_handle_t *handle)
{
	struct resizer *r = handle->data;

	free(r->list);
	free(r);
}

void control_resize_done(struct control *control)
{
	struct resizer *r = control->resizer;

	while (r && r->nr) {
		struct err *err = NULL;

		err_set(&err, ESHUTDOWN, "the machine ended");
		resize_end(r->list[0], RESIZE_MACHINE_ENDED, err);
	}
	jobs_free(control->jobs);
	control->jobs = NULL;
	control->resizer = NULL;
	if (r)
		uv_close((uv_handle_t *)&r->timer, resizer_closed);
}
