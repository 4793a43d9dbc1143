/* SPDX-License-Identifier: BSD-3-Clause */
/* Moving and saving a machine: see migrate.h. */
#include "ebbctl/migrate.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "ebbctl/args.h"
#include "ebbctl/attend.h"
#include "ebbctl/client.h"
#include "ebbctl/print.h"
#include "ebbctl/progress.h"
#include "ebbctl/text.h"
#include "ebbctl/told.h"
#include "ebbctl/watch.h"

/* In a narrower window there is nothing behind the bar. */
#define MIGRATE_COLUMNS_FULL 72
#define MIGRATE_EXTRA_BYTES  256

struct migrate {
	struct attend attend;
	struct client *client;
	bool saved;     /* to a file */
	bool cancelled; /* by us */
	bool left;      /* it goes on */
	struct told told;
	char *reason; /* clean; NULL: none was given */
	struct progress progress;
	struct progress_rate rate;
};

/* ---- what is told ---- */

static void migrate_told(void *opaque, const json_t *value, const struct err *err)
{
	struct migrate *m = opaque;

	if (err) {
		attend_fail(&m->attend, err);
		return;
	}
	told_read(value, &m->told);
	if (m->told.has_memory) {
		m->progress.total = m->progress.target_bytes = m->told.total_bytes;
		m->progress.done = m->progress.size_bytes = m->told.done_bytes;
		m->progress.target_known = true;
	}
	m->attend.over = m->attend.over || told_is_over(&m->told);
	if (m->attend.over && m->told.why && !m->reason)
		m->reason = text_clean(m->told.why, strlen(m->told.why), text_locale_utf8(), 0);
}

/* Events of migrations come only where somebody switched them on. */
static void migrate_event(void *opaque, const char *name, const json_t *event)
{
	struct migrate *m = opaque;

	(void)event;
	if (!strcmp(name, "MIGRATION") || !strcmp(name, "JOB_STATUS_CHANGE"))
		m->attend.ask_now = true;
}

/* ---- showing it ---- */

/* ", 800 MiB sent, pass 3, 1.5 MiB/s written, slowed by 20 %" */
static void migrate_extra(const struct migrate *m, char *buf, size_t room)
{
	char size[TEXT_SIZE_MAX];
	char *clean;
	int used;

	used = snprintf(buf, room, ", %s sent", text_size(m->told.sent_bytes, size));
	if (m->told.passes > 1)
		used += snprintf(buf + used, room - (size_t)used, ", pass %llu",
				 (unsigned long long)m->told.passes);
	if (m->told.dirty_bytes)
		used += snprintf(buf + used, room - (size_t)used, ", %s/s written",
				 text_size(m->told.dirty_bytes, size));
	if (m->told.throttle)
		used += snprintf(buf + used, room - (size_t)used, ", slowed by %llu %%",
				 (unsigned long long)m->told.throttle);
	if (strcmp(m->told.status, "active")) {
		clean = text_clean(m->told.status, strlen(m->told.status), text_locale_utf8(), 0);
		snprintf(buf + used, room - (size_t)used, ", %.40s", clean ? clean : "");
		free(clean);
	}
}

static void migrate_line(void *opaque, uint64_t now_ms, size_t columns, char *buf, size_t room)
{
	char extra[MIGRATE_EXTRA_BYTES] = "";
	struct migrate *m = opaque;
	size_t used;

	/* How fast memory goes, not its bytes on the way: memory is what is left to do. */
	if (m->told.has_memory)
		progress_rate_note(&m->rate, now_ms, m->told.moved_bytes);
	m->progress.bytes_per_s = progress_rate_get(&m->rate, now_ms);
	if (!m->attend.bar || columns >= MIGRATE_COLUMNS_FULL)
		migrate_extra(m, extra, sizeof(extra));
	if (m->attend.bar)
		progress_bar(&m->progress, columns - num_min(text_columns(extra), columns / 2),
			     text_locale_utf8(), buf, room);
	else
		progress_line(&m->progress, buf, room);
	used = strlen(buf);
	snprintf(buf + used, room - used, "%s", extra);
	if (m->attend.bar)
		buf[text_fit(buf, columns)] = '\0';
}

/* ---- following it ---- */

static void migrate_ask(void *opaque)
{
	struct migrate *m = opaque;

	client_send(m->client, "query-migrate", NULL, migrate_told, m);
}

static void migrate_interrupt(void *opaque)
{
	struct migrate *m = opaque;

	if (m->cancelled) {
		m->attend.over = true;
		m->left = true;
		return;
	}
	m->cancelled = true;
	client_send(m->client, "migrate_cancel", NULL, NULL, NULL);
}

/* What became of it. Exit status. */
static int migrate_report(const struct migrate *m)
{
	const char *what = m->progress.what;
	char sent[TEXT_SIZE_MAX];

	if (m->attend.err)
		return print_err(m->attend.err);
	fflush(stdout);
	if (m->left) {
		fprintf(stderr, "ebbctl: %s: left at %u %%; the migration goes on\n", what,
			progress_percent(m->progress.done, m->progress.total));
		return WATCH_INTERRUPTED;
	}
	if (!strcmp(m->told.status, "completed")) {
		printf("%s: %s, %s in %llu.%llu s, stopped for %llu ms\n", what,
		       m->saved ? "saved" : "moved", text_size(m->told.sent_bytes, sent),
		       (unsigned long long)(m->told.total_ms / 1000),
		       (unsigned long long)(m->told.total_ms % 1000 / 100),
		       (unsigned long long)m->told.downtime_ms);
		return print_flush();
	}
	if (!strcmp(m->told.status, "cancelled")) {
		fprintf(stderr, "ebbctl: %s: cancelled; the machine stays here\n", what);
		return m->cancelled ? WATCH_INTERRUPTED : 1;
	}
	fprintf(stderr, "ebbctl: %s: %s: %s\n", what,
		strcmp(m->told.status, "failed") ? "paused, migrate -r goes on" : "failed",
		m->reason ? m->reason : "the monitor does not say why");
	return 1;
}

static const struct attend_ops migrate_attend_ops = {
	.ask = migrate_ask,
	.line = migrate_line,
	.interrupt = migrate_interrupt,
};

static int migrate_follow(struct client *client, const char *what, bool saved)
{
	static const struct client_ops ops = {.event = migrate_event};
	struct migrate m = {
		.client = client, .saved = saved, .progress = {.what = what, .total = 1}};
	int status;

	attend_init(&m.attend, client);
	client_set_ops(client, &ops, &m);
	attend_run(&m.attend, &migrate_attend_ops, &m);
	client_set_ops(client, NULL, NULL);
	client_forget(client, &m);
	status = migrate_report(&m);
	free(m.reason);
	attend_done(&m.attend);
	return status;
}

/* @what names it to the person. */
static int migrate_start(struct client *client, const char *uri, const char *what, bool saved,
			 bool detach)
{
	struct err *err = NULL;
	char *clean;
	int status;

	if (client_call(client, "migrate", json_pack("{s:s}", "uri", uri), NULL, &err))
		return print_err(err);
	clean = text_clean(what, strlen(what), text_locale_utf8(), 0);
	if (detach) {
		printf("%s: the migration has begun\n", clean ? clean : "");
		status = print_flush();
	} else {
		status = migrate_follow(client, clean ? clean : "", saved);
	}
	free(clean);
	return status;
}

int migrate_run(struct client *client, const struct args *args)
{
	return migrate_start(client, args->words[0], args->words[0], false, args->detach);
}

int migrate_save(struct client *client, const struct args *args)
{
	const char *path = args->words[0];
	struct err *err = NULL;
	char *folder = NULL, *uri = NULL;
	int status, ret = 0;

	if (*path != '/') {
		folder = getcwd(NULL, 0);
		if (!folder)
			ret = err_set(&err, errno, "the folder that we are in has no name: %s",
				      strerror(errno));
	}
	if (!ret &&
	    asprintf(&uri, "file:%s%s%s", folder ? folder : "", folder ? "/" : "", path) < 0)
		ret = err_set(&err, ENOMEM, "out of memory");
	status = ret ? print_err(err) : migrate_start(client, uri, path, true, args->detach);
	free(folder);
	free(uri);
	return status;
}
