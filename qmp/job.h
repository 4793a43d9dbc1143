/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Jobs: work that a command starts and that goes on after its answer, as clients of QMP know them
 * (query-jobs, job-cancel, job-dismiss, JOB_STATUS_CHANGE).
 *
 *	created -> running -> concluded -> null
 *	              \-> aborting -/
 *
 * A job is run by somebody else, who tells how far it is and that it is over. Here it has a name
 * and a status, is listed, cancelled and remembered.
 *
 * I1  The status only moves along the arrows, and each move is told once. aborting is passed
 *     exactly by jobs that fail or are cancelled; concluded jobs have an error exactly when they
 *     did.
 * I2  Ids are well formed (a letter, then letters, digits, '-', '.', '_'; JOB_ID_MAX characters at
 *     most) and unique among jobs that are not null.
 * I3  Jobs are bounded: JOBS_ACTIVE_MAX that are not concluded, then a new one is refused; and
 *     JOBS_CONCLUDED_MAX that are, of which the oldest is dismissed when one more comes.
 * I4  current-progress and total-progress never go down, and current never exceeds total.
 * I5  A watch is called at each change of its job, the last time when the job is concluded or when
 *     jobs_free() comes first; or until it says no.
 *
 * Ownership: whoever called job_new() owns the job until job_conclude().
 * Threads: all calls on one thread. Calls from the callbacks are allowed, but for jobs_free().
 */
#ifndef QMP_JOB_H
#define QMP_JOB_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct err;
struct job;
struct jobs;

#define JOB_ID_MAX         127u
#define JOBS_ACTIVE_MAX    64u
#define JOBS_CONCLUDED_MAX 64u
#define JOB_WATCHES_MAX    32u /* of a job */

enum job_status { JOB_CREATED, JOB_RUNNING, JOB_ABORTING, JOB_CONCLUDED, JOB_NULL };

/* QMP's spelling; static. */
const char *job_status_name(enum job_status status);

/* A job that somebody looks at; valid during a call. */
struct job_info {
	const char *id, *type;
	enum job_status status;
	uint64_t current, total; /* in whatever unit the job counts */
	const char *error;       /* NULL: none so far */
	const json_t *details;   /* of job_conclude(); or NULL */
};

struct jobs_config {
	/* A job has this status now: for JOB_STATUS_CHANGE. */
	void (*changed)(void *opaque, const char *id, enum job_status status);
	void *opaque;
};

/* NULL when memory is out. */
struct jobs *jobs_new(const struct jobs_config *config);
/* Nobody runs a job any more: those who did have called job_conclude(). NULL is allowed. */
void jobs_free(struct jobs *jobs);

/* ---- for those who run jobs ---- */

struct job_ops {
	/*
	 * End it early: job_conclude() is to follow, at once or later. Called once at most, while
	 * the job runs.
	 */
	void (*cancel)(void *opaque);
	/* Somebody asks how far it is: job_set_remaining() may be called, nothing else. May be NULL. */
	void (*look)(void *opaque);
};

/*
 * A job that is created. @id: as a person chose it, or NULL for @prefix, with a number behind it
 * where that is taken. @type is static.
 */
struct job *job_new(struct jobs *jobs, const char *id, const char *prefix, const char *type,
		    const struct job_ops *ops, void *opaque, struct err **err);
/* It never ran, and disappears. */
void job_drop(struct job *job);
const char *job_id(const struct job *job);
void job_start(struct job *job);
/*
 * @remaining of the work is left. That may grow: the total does then (I4). Who watches may run
 * commands, so that the job may be cancelled, and even be over, when this returns.
 */
void job_set_remaining(struct job *job, uint64_t remaining);
/*
 * It is over, successfully where @err is NULL; not, for one that was cancelled. @details: an object
 * whose members query-jobs shows as the job's own, or NULL. Both are taken over. The job is not the
 * caller's any more.
 */
void job_conclude(struct job *job, json_t *details, struct err *err);

/* ---- for commands ---- */

/* JobInfo list; a new reference, NULL when memory is out. */
json_t *jobs_query(struct jobs *jobs);
/* Asking a second time is no error. -ENOENT: there is no such job; -EBUSY: it is over. */
int jobs_cancel(struct jobs *jobs, const char *id, struct err **err);
/* -ENOENT: there is no such job; -EBUSY: it is not over. */
int jobs_dismiss(struct jobs *jobs, const char *id, struct err **err);
/* Call @fn with each job, in the order in which they were made, until it returns false. */
void jobs_for_each(const struct jobs *jobs, bool (*fn)(void *opaque, const struct job_info *info),
		   void *opaque);
/*
 * Have @fn called at once and at each change (I5); it returns whether it wants to be called again.
 * @info is NULL when jobs_free() came. -ENOENT, or -EBUSY when JOB_WATCHES_MAX are there; it is not
 * called then.
 */
int jobs_watch(struct jobs *jobs, const char *id,
	       bool (*fn)(void *opaque, const struct job_info *info), void *opaque,
	       struct err **err);

#endif
