/* SPDX-License-Identifier: BSD-3-Clause */
/* Watching jobs: see watch.h for the contract. */
#include "ebbctl/watch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "ebbctl/attend.h"
#include "ebbctl/client.h"
#include "ebbctl/device.h"
#include "ebbctl/print.h"
#include "ebbctl/progress.h"
#include "ebbctl/text.h"

struct watch {
	struct attend attend;
	struct client *client;
	const char *id, *device;
	uint64_t target_bytes;
	bool gone;      /* it is in the list no more */
	bool cancelled; /* by us */
	bool left;      /* it may go on */
	char *reason;   /* clean; NULL: none was given */
	struct progress progress;
	struct progress_rate rate;
};

static const json_t *watch_find(const json_t *list, const char *id)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *job = json_array_get(list, i);
		const char *name = json_string_value(json_object_get(job, "id"));

		if (name && !strcmp(name, id))
			return job;
	}
	return NULL;
}

static char *watch_text(const json_t *job, const char *name)
{
	const char *text = json_string_value(json_object_get(job, name));

	return text ? text_clean(text, strlen(text), text_locale_utf8(), 0) : NULL;
}

static void watch_told(void *opaque, const json_t *value, const struct err *err)
{
	struct watch *w = opaque;
	const json_t *job = watch_find(value, w->id);
	const char *status = json_string_value(json_object_get(job, "status"));

	if (err) {
		attend_fail(&w->attend, err);
		return;
	}
	if (!status) {
		w->attend.over = true;
		w->gone = true;
		return;
	}
	device_number(job, "current-progress", &w->progress.done);
	device_number(job, "total-progress", &w->progress.total);
	if (!w->device && w->progress.total > 1) {
		w->progress.size_bytes = w->progress.done;
		w->progress.target_bytes = w->progress.total;
		w->progress.target_known = true;
	}
	if (strcmp(status, "concluded"))
		return;
	w->attend.over = true;
	w->reason = watch_text(job, "error");
}

static void watch_device_told(void *opaque, const json_t *value, const struct err *err)
{
	struct watch *w = opaque;
	struct device_info info;

	if (err) {
		attend_fail(&w->attend, err);
		return;
	}
	for (size_t i = 0; i < json_array_size(value); i++) {
		if (!device_info_read(json_array_get(value, i), &info) ||
		    strcmp(info.id, w->device))
			continue;
		w->progress.size_bytes = info.plugged_bytes;
		w->progress.target_bytes = w->target_bytes;
		w->progress.target_known = true;
	}
}

static void watch_event(void *opaque, const char *name, const json_t *event)
{
	struct watch *w = opaque;
	const json_t *data = json_object_get(event, "data");
	const char *id = json_string_value(json_object_get(data, "id"));

	if (!strcmp(name, "JOB_STATUS_CHANGE") && id && !strcmp(id, w->id))
		w->attend.ask_now = true;
}

static void watch_ask(void *opaque)
{
	struct watch *w = opaque;

	if (w->device)
		client_send(w->client, "query-memory-devices", NULL, watch_device_told, w);
	client_send(w->client, "query-jobs", NULL, watch_told, w);
}

static void watch_line(void *opaque, uint64_t now_ms, size_t columns, char *buf, size_t room)
{
	struct watch *w = opaque;

	progress_rate_note(&w->rate, now_ms, w->progress.done);
	w->progress.bytes_per_s = progress_rate_get(&w->rate, now_ms);
	if (w->attend.bar)
		progress_bar(&w->progress, columns, text_locale_utf8(), buf, room);
	else
		progress_line(&w->progress, buf, room);
}

static void watch_interrupt(void *opaque)
{
	struct watch *w = opaque;

	if (w->cancelled) {
		w->attend.over = true;
		w->left = true;
		return;
	}
	w->cancelled = true;
	client_send(w->client, "job-cancel", json_pack("{s:s}", "id", w->id), NULL, NULL);
}

static const struct attend_ops watch_attend_ops = {
	.ask = watch_ask,
	.line = watch_line,
	.interrupt = watch_interrupt,
};

/* Where it came to. Exit status. */
static int watch_report(struct watch *w)
{
	struct progress *p = &w->progress;
	char target[TEXT_SIZE_MAX], where[PROGRESS_SIZES_MAX];
	const char *reason = w->reason ? w->reason : "the job was dismissed by somebody else";

	if (w->attend.err)
		return print_err(w->attend.err);
	if (!w->reason && !w->gone && !w->left) {
		printf("%s: done, %s\n", p->what, text_size(w->target_bytes, target));
		return print_flush();
	}
	if (w->device && p->target_known)
		progress_sizes(p->size_bytes, w->target_bytes, where);
	else
		snprintf(where, sizeof(where), "%u %% of the way to %s",
			 progress_percent(p->done, p->total), text_size(w->target_bytes, target));
	fflush(stdout);
	if (w->left)
		fprintf(stderr, "ebbctl: %s: left at %s; the job %s goes on\n", p->what, where,
			w->id);
	else if (w->cancelled)
		fprintf(stderr, "ebbctl: %s: cancelled, it stopped at %s\n", p->what, where);
	else
		fprintf(stderr, "ebbctl: %s: stopped at %s: %s\n", p->what, where, reason);
	return w->left || w->cancelled ? WATCH_INTERRUPTED : 1;
}

int watch_job(struct client *client, const char *id, const char *what, const char *device,
	      uint64_t target_bytes)
{
	static const struct client_ops ops = {.event = watch_event};
	struct watch w = {.client = client,
			  .id = id,
			  .device = device,
			  .target_bytes = target_bytes,
			  .progress = {.what = what, .total = 1}};
	json_t *list = NULL;
	int status;

	attend_init(&w.attend, client);
	client_set_ops(client, &ops, &w);
	attend_run(&w.attend, &watch_attend_ops, &w);
	client_set_ops(client, NULL, NULL);
	client_forget(client, &w);
	if (!w.attend.err && !w.left && device &&
	    !client_call(client, "query-memory-devices", NULL, &list, NULL))
		watch_device_told(&w, list, NULL);
	if (!w.attend.err && !w.left && !w.gone)
		client_call(client, "job-dismiss", json_pack("{s:s}", "id", id), NULL, NULL);
	json_decref(list);
	status = watch_report(&w);
	free(w.reason);
	attend_done(&w.attend);
	return status;
}

/* "60 %", or nothing for a job that does not count. */
static void watch_print_progress(const json_t *job)
{
	uint64_t done = 0, total = 0;

	device_number(job, "current-progress", &done);
	device_number(job, "total-progress", &total);
	if (total)
		printf(" %8u %%", progress_percent(done, total));
	else
		printf(" %10s", "-");
}

static void watch_print(const json_t *job)
{
	char *id = watch_text(job, "id"), *type = watch_text(job, "type");
	char *status = watch_text(job, "status"), *error = watch_text(job, "error");

	printf("%-24s %-18s %-10s", id ? id : "-", type ? type : "-", status ? status : "-");
	watch_print_progress(job);
	printf("%s%s\n", error ? "  " : "", error ? error : "");
	free(id);
	free(type);
	free(status);
	free(error);
}

int watch_print_jobs(struct client *client)
{
	struct err *err = NULL;
	json_t *list = NULL;

	if (client_call(client, "query-jobs", NULL, &list, &err))
		return print_err(err);
	if (json_array_size(list))
		printf("%-24s %-18s %-10s %10s  %s\n", "JOB", "TYPE", "STATUS", "PROGRESS",
		       "STOPPED BECAUSE");
	for (size_t i = 0; i < json_array_size(list); i++)
		watch_print(json_array_get(list, i));
	json_decref(list);
	return print_flush();
}

int watch_cancel_job(struct client *client, const char *id)
{
	struct err *err = NULL;

	if (client_call(client, "job-cancel", json_pack("{s:s}", "id", id), NULL, &err))
		return print_err(err);
	return 0;
}
