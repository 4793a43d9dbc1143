/* SPDX-License-Identifier: BSD-3-Clause */
/* The job of a migration, and people who wait for it to be over: see migrate.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "qmp/job.h"
#include "vmm/control/migrate.h"

/* How often somebody who waits is told how far it is. */
#define MIGRATE_TICK_MS 1000

/* ---- the job ---- */

static void migrate_job_cancel(void *opaque)
{
	struct migrate *m = opaque;

	m->cancelled = true;
	migration_cancel(m->migration);
}

/* How much is left. */
static void migrate_job_count(struct migrate *m, const struct migration_info *info)
{
	if (!info->has_ram || !info->ram.total)
		return;
	if (!m->counted)
		job_set_remaining(m->job, info->ram.total);
	m->counted = true;
	job_set_remaining(m->job, num_min(info->ram.remaining, info->ram.total));
}

static void migrate_job_look(void *opaque)
{
	struct migrate *m = opaque;
	struct migration_info info;

	migration_info(m->migration, &info);
	migrate_job_count(m, &info);
}

static const struct job_ops migrate_job_ops = {
	.cancel = migrate_job_cancel,
	.look = migrate_job_look,
};

/* The job of the one before; there is one at most. */
static bool migrate_job_find_old(void *opaque, const struct job_info *info)
{
	char *id = opaque;

	if (strcmp(info->type, "migrate") || info->status != JOB_CONCLUDED)
		return true;
	snprintf(id, JOB_ID_MAX + 1, "%s", info->id);
	return false;
}

void migrate_job_start(struct migrate *m, bool resume)
{
	struct jobs *jobs = m->control->jobs;
	char old[JOB_ID_MAX + 1] = "";

	if (resume && m->job)
		return;
	jobs_for_each(jobs, migrate_job_find_old, old);
	if (*old)
		jobs_dismiss(jobs, old, NULL);
	m->counted = false;
	m->cancelled = false;
	m->job = job_new(jobs, NULL, "migrate", "migrate", &migrate_job_ops, m, NULL);
	if (m->job)
		job_start(m->job);
}

static void migrate_job_conclude(struct migrate *m, struct err *err)
{
	struct job *job = m->job;

	m->job = NULL;
	job_conclude(job, NULL, err);
}

void migrate_job_follow(struct migrate *m)
{
	struct migration_info info;
	struct err *err = NULL;

	if (!m->job)
		return;
	migration_info(m->migration, &info);
	migrate_job_count(m, &info);
	switch (info.status) {
	case MIGRATION_COMPLETED:
		if (m->cancelled)
			err_set(&err, EBUSY,
				"it was too late to cancel the migration: it is completed");
		migrate_job_conclude(m, err);
		break;
	case MIGRATION_CANCELLED:
		err_set(&err, ECANCELED, "the migration was cancelled");
		migrate_job_conclude(m, err);
		break;
	case MIGRATION_FAILED:
		err = migrate_why(&info);
		if (!err)
			err_set(&err, EIO, "the migration failed");
		migrate_job_conclude(m, err);
		break;
	default:
		break;
	}
}

void migrate_job_end(struct migrate *m)
{
	struct err *err = NULL;

	if (!m->job)
		return;
	err_set(&err, ESHUTDOWN, "the machine ended");
	migrate_job_conclude(m, err);
}

/* ---- people who wait ---- */

static void migrate_wait_finish(struct migrate *m, struct err *err)
{
	struct command_call *call = m->waiting;

	m->waiting = NULL;
	uv_timer_stop(&m->timer);
	command_done(call, NULL, err);
}

static void migrate_wait_show(struct migrate *m)
{
	struct migration_info info;
	uint64_t left;

	migration_info(m->migration, &info);
	if (!info.has_ram || !info.ram.total)
		return;
	left = num_min(info.ram.remaining, info.ram.total);
	command_printf(
		m->waiting, "Completed %u %%\r",
		(unsigned int)((unsigned __int128)(info.ram.total - left) * 100 / info.ram.total));
	m->shown = true;
}

static void migrate_wait_tick(uv_timer_t *timer)
{
	struct migrate *m = timer->data;
	struct err *err = m->end_err;

	if (!m->ended) {
		migrate_wait_show(m);
		uv_timer_start(timer, migrate_wait_tick, MIGRATE_TICK_MS, 0);
		return;
	}
	m->end_err = NULL;
	if (m->shown)
		command_printf(m->waiting, "\n");
	if (!err && m->end_status != MIGRATION_COMPLETED)
		command_printf(m->waiting, "Migration status: %s\n",
			       migration_status_name(m->end_status));
	migrate_wait_finish(m, err);
}

/* Is it over, or will it not be before somebody does something? */
static bool migrate_wait_is_over(enum migration_status status)
{
	return !migration_status_is_active(status) || status == MIGRATION_PRE_SWITCHOVER ||
	       status == MIGRATION_POSTCOPY_PAUSED;
}

void migrate_wait_follow(struct migrate *m)
{
	struct migration_info info;

	if (!m->waiting || m->ended)
		return;
	migration_info(m->migration, &info);
	if (!migrate_wait_is_over(info.status))
		return;
	m->ended = true;
	m->end_status = info.status;
	m->end_err = migrate_why(&info);
	migrate_wait_show(m);
	uv_timer_start(&m->timer, migrate_wait_tick, 0, 0);
}

/* The migration goes on. */
static void migrate_wait_unwanted(struct command_call *call, void *opaque)
{
	struct migrate *m = opaque;

	(void)call;
	err_free(m->end_err);
	m->end_err = NULL;
	migrate_wait_finish(m, NULL);
}

int migrate_wait(struct migrate *m, struct command_call *call)
{
	/* Of the one before, whose end has not been told yet. */
	if (m->waiting)
		return 0;
	m->waiting = call;
	m->ended = false;
	m->shown = false;
	command_on_unwanted(call, migrate_wait_unwanted, m);
	uv_timer_start(&m->timer, migrate_wait_tick, MIGRATE_TICK_MS, 0);
	return COMMAND_PENDING;
}
