/* SPDX-License-Identifier: BSD-3-Clause */
/* Jobs: the commands about them. What jobs are is said in qmp/job.h. */
#include "vmm/control/jobs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "qmp/job.h"
#include "qmp/size.h"
#include "vmm/control/answer.h"
#include "vmm/control/explain.h"
#include "vmm/control/internal.h"

/* ---- waiting ---- */

/* A line is shown when so much more of a hundred is done. */
#define WAIT_STEP_PERCENT 10

struct job_wait {
	struct jobs *jobs;
	struct command_call *call; /* NULL: it is finished */
	unsigned int shown;        /* percent; more than 100: none yet */
};

static unsigned int job_percent(const struct job_info *info)
{
	if (!info->total)
		return 0;
	return (unsigned int)((unsigned __int128)info->current * 100 / info->total);
}

static void job_wait_show(struct job_wait *wait, const struct job_info *info)
{
	char current[SIZE_TEXT_MAX], total[SIZE_TEXT_MAX];
	unsigned int percent = job_percent(info);

	if (wait->shown <= 100 && percent < wait->shown + WAIT_STEP_PERCENT)
		return;
	wait->shown = percent - percent % WAIT_STEP_PERCENT;
	command_printf(wait->call, "%s: %s of %s moved (%u %%)\n", info->id,
		       size_format(info->current, current), size_format(info->total, total),
		       percent);
}

static void job_wait_finish(struct job_wait *wait, struct err *err)
{
	struct command_call *call = wait->call;

	wait->call = NULL;
	command_done(call, NULL, err);
}

static bool job_wait_watch(void *opaque, const struct job_info *info)
{
	struct job_wait *wait = opaque;
	bool over = !info || info->status == JOB_CONCLUDED;
	struct err *err = NULL;

	if (wait->call && info && !info->error)
		job_wait_show(wait, info);
	if (wait->call && over) {
		if (info && info->error)
			err_set(&err, ECANCELED, "%s: %s", info->id, info->error);
		else if (info)
			command_printf(wait->call, "%s: done\n", info->id);
		job_wait_finish(wait, err);
		/* Who waited has seen what came of it. */
		if (info)
			jobs_dismiss(wait->jobs, info->id, NULL);
	}
	if (wait->call && !over)
		return true;
	free(wait);
	return false;
}

/* The watch goes when it is called the next time. */
static void job_wait_unwanted(struct command_call *call, void *opaque)
{
	(void)call;
	job_wait_finish(opaque, NULL);
}

int control_job_wait(struct command_call *call, const char *id, struct err **err)
{
	const struct control *control = command_ctx(call);
	struct job_wait *wait = calloc(1, sizeof(*wait));
	int ret;

	if (!wait)
		return err_set(err, ENOMEM, "out of memory");
	wait->jobs = control->jobs;
	wait->call = call;
	wait->shown = UINT32_MAX;
	ret = jobs_watch(control->jobs, id, job_wait_watch, wait, err);
	if (ret) {
		free(wait);
		return ret;
	}
	/* A job that was made just now is never over already: wait is still there. */
	command_on_unwanted(call, job_wait_unwanted, wait);
	return COMMAND_PENDING;
}

/* ---- commands ---- */

static struct jobs *jobs_of(struct command_call *call)
{
	const struct control *control = command_ctx(call);

	return control->jobs;
}

static int jobs_run_query(struct command_call *call, const json_t *args, json_t **ret_value,
			  struct err **err)
{
	(void)args;
	return control_answer(jobs_query(jobs_of(call)), ret_value, err);
}

static int jobs_run_cancel(struct command_call *call, const json_t *args, json_t **ret_value,
			   struct err **err)
{
	(void)ret_value;
	return jobs_cancel(jobs_of(call), control_text(args, "id"), err);
}

static int jobs_run_dismiss(struct command_call *call, const json_t *args, json_t **ret_value,
			    struct err **err)
{
	(void)ret_value;
	return jobs_dismiss(jobs_of(call), control_text(args, "id"), err);
}

static void jobs_print(struct command_call *call, const json_t *jobs)
{
	char current[SIZE_TEXT_MAX], total[SIZE_TEXT_MAX];
	const json_t *job;
	size_t i;

	if (!json_array_size(jobs))
		command_printf(call, "There are no jobs\n");
	json_array_foreach (jobs, i, job) {
		command_printf(call, "%s: type %s, %s, %s of %s moved\n", control_text(job, "id"),
			       control_text(job, "type"), control_text(job, "status"),
			       size_format(control_number(job, "current-progress"), current),
			       size_format(control_number(job, "total-progress"), total));
		if (json_object_get(job, "error"))
			command_printf(call, "    %s\n", control_text(job, "error"));
	}
}

static bool jobs_complete_one(void *opaque, const struct job_info *info)
{
	hmp_words_add(opaque, info->id);
	return true;
}

static void jobs_complete(void *ctx, unsigned int index, struct hmp_words *words)
{
	const struct control *control = ctx;

	if (index == 0)
		jobs_for_each(control->jobs, jobs_complete_one, words);
}

/* ---- the module ---- */

static const struct command jobs_commands[] = {
	{
		.name = "query-jobs",
		.human = "info jobs",
		.returns = "[JobInfo]",
		.help = "show the jobs, also those that are over",
		.flags = COMMAND_BARE,
		.run = jobs_run_query,
		.print = jobs_print,
	},
	{
		.name = "job-cancel",
		.human = "job_cancel",
		.args = "id:str",
		.human_args = "id:s",
		.params = "id",
		.help = "end a job where it is",
		.run = jobs_run_cancel,
		.complete = jobs_complete,
	},
	{
		.name = "job-dismiss",
		.human = "job_dismiss",
		.args = "id:str",
		.human_args = "id:s",
		.params = "id",
		.help = "forget a job that is over",
		.run = jobs_run_dismiss,
		.complete = jobs_complete,
	},
	{.name = NULL},
};

static const struct qmp_type jobs_types[] = {
	{
		.name = "JobType",
		.kind = QMP_ENUM,
		.members = "virtio-mem-resize memory-resize migrate dump-guest-memory",
	},
	{
		.name = "JobStatus",
		.kind = QMP_ENUM,
		.members = "created running aborting concluded null",
	},
	{
		.name = "JobInfo",
		.kind = QMP_STRUCT,
		.members = "id:str type:JobType status:JobStatus current-progress:int "
			   "total-progress:int *error:str *reason:ResizeReason",
	},
	{.name = "ResizeReason", .kind = QMP_ENUM, .members = RESIZE_REASON_NAMES},
	{.name = NULL},
};

static const struct qmp_event jobs_events[] = {
	{.name = "JOB_STATUS_CHANGE", .data = "id:str status:JobStatus"},
	{.name = NULL},
};

const struct qmp_module control_jobs_module = {jobs_commands, jobs_types, jobs_events};
