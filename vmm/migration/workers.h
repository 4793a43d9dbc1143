/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Threads that send pages over further channels, one a channel.
 *
 * I1  Each worker does its jobs in order; a job goes to one that has room, and a barrier to each.
 * I2  After the first failure of any of them no more is done, and every call returns it.
 * I3  Room for jobs is fixed: workers_put() waits for some.
 *
 * Threads: the calls are one thread's. A worker that waits for its channel is ended by the cancel.
 */
#ifndef VMM_MIGRATION_WORKERS_H
#define VMM_MIGRATION_WORKERS_H

#include <stddef.h>
#include <stdint.h>

struct err;
struct lane;
struct lane_job;
struct workers;

/* The lanes are the workers' from now on, also when it fails; the array is not. */
struct workers *workers_new(struct lane *const *lanes, size_t nr, struct err **err);
/* After a failure, or with jobs left, the cancel was raised before. NULL is allowed. */
void workers_free(struct workers *workers);

/* 0, or the first failure: -errno with its sentence (given once), -ECANCELED without one. */
int workers_put(struct workers *workers, const struct lane_job *job, struct err **err);
/* ROUND @number on all channels, after what was put before. */
int workers_round(struct workers *workers, uint64_t number, struct err **err);
/* END on all channels. */
int workers_end(struct workers *workers, struct err **err);
/* Until all that was put has been sent. */
int workers_wait(struct workers *workers, struct err **err);

/* Bytes that they sent. Any thread. */
uint64_t workers_bytes(const struct workers *workers);

#endif
