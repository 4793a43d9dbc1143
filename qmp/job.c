/* SPDX-License-Identifier: BSD-3-Clause */
/* Jobs: see job.h for the contract. */
#include "qmp/job.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "base/ptrs.h"

struct job_watch {
	bool (*fn)(void *opaque, const struct job_info *info);
	void *opaque;
};

struct job {
	struct jobs *jobs;
	char *id;
	const char *type;
	const struct job_ops *ops;
	void *opaque;
	enum job_status status;
	uint64_t concluded; /* jobs.concluded when it was over */
	uint64_t current, total;
	struct err *error;
	json_t *details;
	struct job_watch *watches[JOB_WATCHES_MAX];
	size_t nr_watches;
	/* the list, if it is there, and each call that is under way */
	unsigned int refs;
};

struct jobs {
	struct jobs_config config;
	struct job **list;
	size_t nr;
	uint64_t concluded; /* how many were over at any time */
};

const char *job_status_name(enum job_status status)
{
	switch (status) {
	case JOB_CREATED:
		return "created";
	case JOB_RUNNING:
		return "running";
	case JOB_ABORTING:
		return "aborting";
	case JOB_CONCLUDED:
		return "concluded";
	case JOB_NULL:
		break;
	}
	return "null";
}

/* ---- life ---- */

struct jobs *jobs_new(const struct jobs_config *config)
{
	struct jobs *jobs = calloc(1, sizeof(*jobs));

	if (jobs)
		jobs->config = *config;
	return jobs;
}

static void job_unref(struct job *job)
{
	if (--job->refs)
		return;
	for (size_t i = 0; i < job->nr_watches; i++)
		free(job->watches[i]);
	json_decref(job->details);
	err_free(job->error);
	free(job->id);
	free(job);
}

static struct job_info job_info(const struct job *job)
{
	return (struct job_info){
		.id = job->id,
		.type = job->type,
		/* Whoever looks at a job until it is over need not know that it was forgotten. */
		.status = job->status == JOB_NULL ? JOB_CONCLUDED : job->status,
		.current = job->current,
		.total = job->total,
		.error = job->error ? err_message(job->error) : NULL,
		.details = job->details,
	};
}

/* Call each watch; those that say no, and all of a job that is over, are gone afterwards. */
static void job_tell_watches(struct job *job, bool end)
{
	struct job_watch *watches[JOB_WATCHES_MAX];
	size_t nr = job->nr_watches;

	/* Commands that run meanwhile may add some, and end and dismiss the job. */
	memcpy(watches, job->watches, nr * sizeof(watches[0]));
	job->nr_watches = 0;
	job->refs++;
	for (size_t i = 0; i < nr; i++) {
		struct job_info info = job_info(job);
		bool more = watches[i]->fn(watches[i]->opaque, end ? NULL : &info);

		if (more && !end && job->status < JOB_CONCLUDED &&
		    job->nr_watches < JOB_WATCHES_MAX)
			job->watches[job->nr_watches++] = watches[i];
		else
			free(watches[i]);
	}
	job_unref(job);
}

static void job_set_status(struct job *job, enum job_status status)
{
	job->status = status;
	job->jobs->config.changed(job->jobs->config.opaque, job->id, status);
}

/* Out of the list; whoever uses it still may go on. */
static void job_remove(struct job *job)
{
	ptrs_remove(&job->jobs->list, &job->jobs->nr, job);
	job_unref(job);
}

static void job_dismiss(struct job *job)
{
	/* First out: what is called now may list jobs. */
	job->refs++;
	job_remove(job);
	job_set_status(job, JOB_NULL);
	job_unref(job);
}

void jobs_free(struct jobs *jobs)
{
	if (!jobs)
		return;
	while (jobs->nr) {
		struct job *job = jobs->list[0];

		job->refs++;
		job_remove(job);
		job_tell_watches(job, true);
		job_unref(job);
	}
	free(jobs->list);
	free(jobs);
}

/* ---- ids ---- */

static bool id_is_well_formed(const char *id)
{
	if (!isascii(id[0]) || !isalpha((unsigned char)id[0]) || strlen(id) > JOB_ID_MAX)
		return false;
	for (const char *c = id; *c; c++)
		if (!isascii(*c) || (!isalnum((unsigned char)*c) && !strchr("-._", *c)))
			return false;
	return true;
}

static struct job *jobs_find(const struct jobs *jobs, const char *id)
{
	for (size_t i = 0; i < jobs->nr; i++)
		if (!strcmp(jobs->list[i]->id, id))
			return jobs->list[i];
	return NULL;
}

/*
 * An id that nobody has: the prefix, if it can be one, or that with a number. NULL: out of memory.
 */
static char *jobs_make_id(const struct jobs *jobs, const char *prefix)
{
	char id[JOB_ID_MAX + 1];

	if (strlen(prefix) > JOB_ID_MAX - 8 || !id_is_well_formed(prefix))
		prefix = "job";
	snprintf(id, sizeof(id), "%s", prefix);
	/* Ends: there is one number more than there are jobs. */
	for (unsigned int n = 2; jobs_find(jobs, id); n++)
		snprintf(id, sizeof(id), "%s-%u", prefix, n);
	return strdup(id);
}

static int jobs_check_new(const struct jobs *jobs, const char *id, struct err **err)
{
	unsigned int active = 0;

	for (size_t i = 0; i < jobs->nr; i++)
		active += jobs->list[i]->status < JOB_CONCLUDED;
	if (active >= JOBS_ACTIVE_MAX)
		return err_set(err, EBUSY,
			       "there are %u jobs that are not over; no more can be had", active);
	if (!id)
		return 0;
	if (!id_is_well_formed(id))
		return err_set(err, EINVAL,
			       "job id '%s' is not allowed; it begins with a letter, and letters, "
			       "digits, '-', '.' and '_' follow, %u characters at most",
			       id, JOB_ID_MAX);
	if (jobs_find(jobs, id))
		return err_set(err, EEXIST, "there is a job '%s' already", id);
	return 0;
}

/* ---- for those who run jobs ---- */

struct job *job_new(struct jobs *jobs, const char *id, const char *prefix, const char *type,
		    const struct job_ops *ops, void *opaque, struct err **err)
{
	struct job *job;

	if (jobs_check_new(jobs, id, err))
		return NULL;
	job = calloc(1, sizeof(*job));
	if (job)
		job->id = id ? strdup(id) : jobs_make_id(jobs, prefix);
	if (!job || !job->id || ptrs_add(&jobs->list, &jobs->nr, job)) {
		if (job)
			free(job->id);
		free(job);
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	job->jobs = jobs;
	job->type = type;
	job->ops = ops;
	job->opaque = opaque;
	job->refs = 1;
	job_set_status(job, JOB_CREATED);
	return job;
}

void job_drop(struct job *job)
{
	assert(job->status == JOB_CREATED);
	job_dismiss(job);
}

const char *job_id(const struct job *job)
{
	return job->id;
}

void job_start(struct job *job)
{
	assert(job->status == JOB_CREATED);
	job_set_status(job, JOB_RUNNING);
	job_tell_watches(job, false);
}

void job_set_remaining(struct job *job, uint64_t remaining)
{
	uint64_t current = job->current, total = job->total;

	if (remaining > total - current)
		job->total = remaining > UINT64_MAX - current ? UINT64_MAX : current + remaining;
	else
		job->current = total - remaining;
	if (job->current != current || job->total != total)
		job_tell_watches(job, false);
}

/* The oldest of too many that are over. */
static void jobs_forget(struct jobs *jobs)
{
	struct job *oldest = NULL;
	unsigned int concluded = 0;

	for (size_t i = 0; i < jobs->nr; i++) {
		if (jobs->list[i]->status != JOB_CONCLUDED)
			continue;
		concluded++;
		if (!oldest || jobs->list[i]->concluded < oldest->concluded)
			oldest = jobs->list[i];
	}
	if (concluded > JOBS_CONCLUDED_MAX)
		job_dismiss(oldest);
}

void job_conclude(struct job *job, json_t *details, struct err *err)
{
	struct jobs *jobs = job->jobs;

	assert(job->status == JOB_RUNNING || job->status == JOB_ABORTING);
	if (!err && job->status == JOB_ABORTING)
		err_set(&err, ECANCELED, "the job was cancelled");
	job->refs++;
	job->details = details;
	job->error = err;
	if (err && job->status == JOB_RUNNING)
		job_set_status(job, JOB_ABORTING);
	job->concluded = ++jobs->concluded;
	job_set_status(job, JOB_CONCLUDED);
	job_tell_watches(job, false);
	jobs_forget(jobs);
	job_unref(job);
}

/* ---- for commands ---- */

static json_t *job_json(const struct job *job)
{
	json_t *json = json_pack("{s:s, s:s, s:s, s:I, s:I}", "id", job->id, "type", job->type,
				 "status", job_status_name(job->status), "current-progress",
				 (json_int_t)num_min(job->current, INT64_MAX), "total-progress",
				 (json_int_t)num_min(job->total, INT64_MAX));
	int ret = json ? 0 : -1;

	if (!ret && job->error)
		ret = json_object_set_new(json, "error", json_string(err_message(job->error)));
	if (!ret && job->details)
		ret = json_object_update_missing(json, job->details);
	if (ret) {
		json_decref(json);
		return NULL;
	}
	return json;
}

/* Who watches may run commands meanwhile, so that jobs come and go. */
static void jobs_look(struct jobs *jobs)
{
	for (size_t i = 0; i < jobs->nr; i++) {
		struct job *job = jobs->list[i];

		if (!job->ops->look || (job->status != JOB_RUNNING && job->status != JOB_ABORTING))
			continue;
		job->refs++;
		job->ops->look(job->opaque);
		job_unref(job);
	}
}

json_t *jobs_query(struct jobs *jobs)
{
	json_t *list = json_array();

	jobs_look(jobs);
	for (size_t i = 0; list && i < jobs->nr; i++) {
		if (json_array_append_new(list, job_json(jobs->list[i]))) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static struct job *jobs_get(const struct jobs *jobs, const char *id, struct err **err)
{
	struct job *job = jobs_find(jobs, id);

	if (!job)
		err_set(err, ENOENT, "there is no job '%s'", id);
	return job;
}

int jobs_cancel(struct jobs *jobs, const char *id, struct err **err)
{
	struct job *job = jobs_get(jobs, id, err);

	if (!job)
		return -ENOENT;
	if (job->status == JOB_ABORTING)
		return 0;
	if (job->status != JOB_RUNNING)
		return err_set(err, EBUSY, "job '%s' is %s; only one that runs can be cancelled",
			       id, job_status_name(job->status));
	job->refs++;
	job_set_status(job, JOB_ABORTING);
	job->ops->cancel(job->opaque);
	job_unref(job);
	return 0;
}

int jobs_dismiss(struct jobs *jobs, const char *id, struct err **err)
{
	struct job *job = jobs_get(jobs, id, err);

	if (!job)
		return -ENOENT;
	if (job->status != JOB_CONCLUDED)
		return err_set(err, EBUSY, "job '%s' is %s; only one that is over can be dismissed",
			       id, job_status_name(job->status));
	job_dismiss(job);
	return 0;
}

void jobs_for_each(const struct jobs *jobs, bool (*fn)(void *opaque, const struct job_info *info),
		   void *opaque)
{
	for (size_t i = 0; i < jobs->nr; i++) {
		struct job_info info = job_info(jobs->list[i]);

		if (!fn(opaque, &info))
			return;
	}
}

int jobs_watch(struct jobs *jobs, const char *id,
	       bool (*fn)(void *opaque, const struct job_info *info), void *opaque,
	       struct err **err)
{
	struct job *job = jobs_get(jobs, id, err);
	struct job_watch *watch;
	struct job_info info;

	if (!job)
		return -ENOENT;
	/* Those whose clients have left say so. */
	if (job->nr_watches == JOB_WATCHES_MAX)
		job_tell_watches(job, false);
	if (job->nr_watches == JOB_WATCHES_MAX)
		return err_set(err, EBUSY, "%u clients wait for job '%s' already", JOB_WATCHES_MAX,
			       id);
	watch = malloc(sizeof(*watch));
	if (!watch)
		return err_set(err, ENOMEM, "out of memory");
	*watch = (struct job_watch){.fn = fn, .opaque = opaque};
	info = job_info(job);
	job->refs++;
	if (fn(opaque, &info) && job->status < JOB_CONCLUDED && job->nr_watches < JOB_WATCHES_MAX)
		job->watches[job->nr_watches++] = watch;
	else
		free(watch);
	job_unref(job);
	return 0;
}
