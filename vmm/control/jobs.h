/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Waiting for a job, for commands of people: progress is shown as it comes, the end with its
 * reason.
 *
 * Threads: the main loop's only.
 */
#ifndef VMM_CONTROL_JOBS_H
#define VMM_CONTROL_JOBS_H

struct command_call;
struct err;

/*
 * Finish @call when job @id is over, as that went. Returns what a handler is to return. A client
 * that leaves, or types Ctrl-C, does not wait any more; the job goes on.
 */
int control_job_wait(struct command_call *call, const char *id, struct err **err);

#endif
