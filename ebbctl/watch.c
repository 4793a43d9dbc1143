/* SPDX-License-Identifier: BSD-3-Clause */
/* Watching jobs: see watch.h for the contract. */
#include "ebbctl/watch.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "ebbctl/client.h"
#include "ebbctl/device.h"
#include "ebbctl/print.h"
#include "ebbctl/progress.h"
#include "ebbctl/terminal.h"
#include "ebbctl/text.h"

#define WATCH_TICK_BAR_MS  200
#define WATCH_TICK_LINE_MS 1000
#define WATCH_BAR_BYTES    1024

struct watch {
	struct client *client;
	const char *id, *device;
	uint64_t target_bytes;
	bool bar;
	bool over;
	bool gone;      /* it is in the list no more */
	bool cancelled; /* by us */
	bool left;      /* it may go on */
	bool ask_now;
	char *reason;    /* clean; NULL: none was given */
	struct err *err; /* the connection's, or of a question */
	struct progress progress;
	struct progress_rate rate;
	char shown[WATCH_BAR_BYTES];
};

static uint64_t watch_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

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

static void watch_failed(struct watch *w, const struct err *err)
{
	w->over = true;
	if (!w->err)
		err_set(&w->err, err_code(err), "%s", err_message(err));
}

static void watch_told(void *opaque, const json_t *value, const struct err *err)
{
	struct watch *w = opaque;
	const json_t *job = watch_find(value, w->id);
	const char *status = json_string_value(json_object_get(job, "status"));

	if (err) {
		watch_failed(w, err);
		return;
	}
	if (!status) {
		w->over = true;
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
	w->over = true;
	w->reason = watch_text(job, "error");
}

static void watch_device_told(void *opaque, const json_t *value, const struct err *err)
{
	struct watch *w = opaque;
	struct device_info info;

	if (err) {
		watch_failed(w, err);
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
		w->ask_now = true;
}

static void watch_ask(struct watch *w)
{
	w->ask_now = false;
	if (w->device)
		client_send(w->client, "query-memory-devices", NULL, watch_device_told, w);
	client_send(w->client, "query-jobs", NULL, watch_told, w);
}

static void watch_show(struct watch *w)
{
	char text[WATCH_BAR_BYTES];
	uint64_t now = watch_now_ms();

	progress_rate_note(&w->rate, now, w->progress.done);
	w->progress.bytes_per_s = progress_rate_get(&w->rate, now);
	/* The last column stays free: some terminals go to the next row in it. */
	if (w->bar)
		progress_bar(&w->progress, terminal_columns() - 1, text_locale_utf8(), text,
			     sizeof(text));
	else
		progress_line(&w->progress, text, sizeof(text));
	if (!strcmp(text, w->shown))
		return;
	strcpy(w->shown, text);
	printf(w->bar ? "\r%s\033[K" : "%s\n", text);
	fflush(stdout);
}

static void watch_interrupt(struct watch *w)
{
	if (w->cancelled) {
		w->over = true;
		w->left = true;
		return;
	}
	w->cancelled = true;
	client_send(w->client, "job-cancel", json_pack("{s:s}", "id", w->id), NULL, NULL);
}

/* Where a question was under way, that has told of the end of the connection. */
static void watch_work(struct watch *w)
{
	struct err *err = NULL;

	client_work(w->client, &err);
	if (w->err)
		err_free(err);
	else
		w->err = err;
}

/* Until the job is over, or left. @signals: a signalfd. */
static void watch_loop(struct watch *w, int signals)
{
	uint64_t tick_ms = w->bar ? WATCH_TICK_BAR_MS : WATCH_TICK_LINE_MS, now, next = 0;
	struct pollfd fds[2] = {{.fd = signals, .events = POLLIN}};
	struct signalfd_siginfo info;

	while (!w->over) {
		now = watch_now_ms();
		if (!client_pending(w->client) && (w->ask_now || now >= next)) {
			if (next)
				watch_show(w);
			watch_ask(w);
			next = now + tick_ms;
		}
		fds[1] = (struct pollfd){.fd = client_fd(w->client),
					 .events = client_poll_events(w->client)};
		if (poll(fds, 2, now < next ? (int)(next - now) : (int)tick_ms) < 0)
			continue;
		if (fds[0].revents && read(signals, &info, sizeof(info)) == sizeof(info))
			watch_interrupt(w);
		if (fds[1].revents)
			watch_work(w);
		if (w->err)
			w->over = true;
	}
}

/* Where it came to. Exit status. */
static int watch_report(struct watch *w)
{
	struct progress *p = &w->progress;
	char target[TEXT_SIZE_MAX], where[PROGRESS_SIZES_MAX];
	const char *reason = w->reason ? w->reason : "the job was dismissed by somebody else";

	if (w->err)
		return print_err(w->err);
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

static bool watch_wants_bar(void)
{
	const char *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && term && strcmp(term, "dumb");
}

int watch_job(struct client *client, const char *id, const char *what, const char *device,
	      uint64_t target_bytes)
{
	static const struct client_ops ops = {.event = watch_event};
	struct watch w = {.client = client,
			  .id = id,
			  .device = device,
			  .bar = watch_wants_bar(),
			  .target_bytes = target_bytes,
			  .progress = {.what = what, .total = 1}};
	json_t *list = NULL;
	struct signalfd_siginfo info;
	sigset_t set, before;
	int signals, status;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, &before);
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	client_set_ops(client, &ops, &w);
	watch_loop(&w, signals);
	client_set_ops(client, NULL, NULL);
	client_forget(client, &w);
	if (!w.err && !w.left && device &&
	    !client_call(client, "query-memory-devices", NULL, &list, NULL))
		watch_device_told(&w, list, NULL);
	if (!w.err && !w.left && !w.gone)
		client_call(client, "job-dismiss", json_pack("{s:s}", "id", id), NULL, NULL);
	json_decref(list);
	if (w.bar)
		printf("\r\033[K");
	status = watch_report(&w);
	free(w.reason);
	/* One that came too late has nothing to interrupt. */
	while (read(signals, &info, sizeof(info)) == sizeof(info))
		;
	close(signals);
	sigprocmask(SIG_SETMASK, &before, NULL);
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
