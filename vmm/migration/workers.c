/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Threads that send pages over further channels: see workers.h for the contract.
 *
 * A worker has a ring of its own, so that barriers come at their place in each; one lock guards all
 * rings, since a job is long.
 */
#include "vmm/migration/workers.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/migration/ram_send_lane.h"
#include "vmm/migration/record.h"

#define WORKER_JOBS 4u

enum worker_kind { WORKER_PAGES, WORKER_ROUND, WORKER_END };

struct worker_job {
	enum worker_kind kind;
	uint64_t number; /* of a round */
	struct lane_job pages;
};

struct worker {
	struct workers *workers;
	struct lane *lane;
	pthread_t thread;
	bool started;
	/* guarded by the workers' lock; jobs[first % WORKER_JOBS] is being done, or the next */
	struct worker_job jobs[WORKER_JOBS];
	uint64_t first, end;
	pthread_cond_t wanted; /* there is a job, or the end */
};

struct workers {
	size_t nr;
	struct worker *all;
	size_t next; /* who gets the next job, if it has room */
	pthread_mutex_t lock;
	/* guarded by lock */
	pthread_cond_t done; /* a job is, or the first failed */
	bool leave;
	int failed; /* -errno of the first */
	struct err *err;
};

static int worker_do(struct worker *w, const struct worker_job *job, struct err **err)
{
	switch (job->kind) {
	case WORKER_PAGES:
		return lane_send(w->lane, &job->pages, err);
	case WORKER_ROUND:
		return lane_round(w->lane, job->number, err);
	case WORKER_END:
		break;
	}
	return lane_record(w->lane, RECORD_END, NULL, 0, err);
}

/* The lock is held; takes over *err. */
static void workers_fail(struct workers *ws, int ret, struct err *err)
{
	if (ws->failed) {
		err_free(err);
		return;
	}
	ws->failed = ret;
	ws->err = err;
	for (size_t i = 0; i < ws->nr; i++)
		pthread_cond_signal(&ws->all[i].wanted);
}

static void *worker_run(void *opaque)
{
	struct worker *w = opaque;
	struct workers *ws = w->workers;

	pthread_mutex_lock(&ws->lock);
	for (;;) {
		struct err *err = NULL;
		int ret;

		while (w->first == w->end && !ws->leave && !ws->failed)
			pthread_cond_wait(&w->wanted, &ws->lock);
		if (ws->leave || ws->failed)
			break;
		/* Its place is not given away while it is being done. */
		pthread_mutex_unlock(&ws->lock);
		ret = worker_do(w, &w->jobs[w->first % WORKER_JOBS], &err);
		pthread_mutex_lock(&ws->lock);
		w->first++;
		if (ret)
			workers_fail(ws, ret, err);
		pthread_cond_signal(&ws->done);
	}
	pthread_mutex_unlock(&ws->lock);
	return NULL;
}

static int worker_start(struct worker *w, size_t index)
{
	char name[16];
	int ret = -pthread_create(&w->thread, NULL, worker_run, w);

	if (ret)
		return ret;
	w->started = true;
	snprintf(name, sizeof(name), "migrate/%u", (unsigned int)(index + 1) % 256);
	pthread_setname_np(w->thread, name);
	return 0;
}

struct workers *workers_new(struct lane *const *lanes, size_t nr, struct err **err)
{
	struct workers *ws = calloc(1, sizeof(*ws));
	int ret = 0;

	if (ws)
		ws->all = calloc(nr, sizeof(*ws->all));
	if (!ws || !ws->all) {
		for (size_t i = 0; i < nr; i++)
			lane_free(lanes[i]);
		free(ws);
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&ws->lock, NULL);
	pthread_cond_init(&ws->done, NULL);
	ws->nr = nr;
	for (size_t i = 0; i < nr; i++) {
		ws->all[i].workers = ws;
		ws->all[i].lane = lanes[i];
		pthread_cond_init(&ws->all[i].wanted, NULL);
	}
	for (size_t i = 0; i < nr && !ret; i++)
		ret = worker_start(&ws->all[i], i);
	if (ret) {
		err_set(err, -ret, "cannot start a thread for each of %zu channels: %s", nr,
			strerror(-ret));
		workers_free(ws);
		return NULL;
	}
	return ws;
}

void workers_free(struct workers *ws)
{
	if (!ws)
		return;
	pthread_mutex_lock(&ws->lock);
	ws->leave = true;
	for (size_t i = 0; i < ws->nr; i++)
		pthread_cond_signal(&ws->all[i].wanted);
	pthread_mutex_unlock(&ws->lock);
	for (size_t i = 0; i < ws->nr; i++) {
		if (ws->all[i].started)
			pthread_join(ws->all[i].thread, NULL);
		pthread_cond_destroy(&ws->all[i].wanted);
		lane_free(ws->all[i].lane);
	}
	pthread_cond_destroy(&ws->done);
	pthread_mutex_destroy(&ws->lock);
	err_free(ws->err);
	free(ws->all);
	free(ws);
}

/* The lock is held. */
static int workers_failed(struct workers *ws, struct err **err)
{
	if (ws->failed && err) {
		*err = ws->err;
		ws->err = NULL;
	}
	return ws->failed;
}

static bool worker_has_room(const struct worker *w)
{
	return w->end - w->first < WORKER_JOBS;
}

static void worker_put(struct worker *w, const struct worker_job *job)
{
	w->jobs[w->end++ % WORKER_JOBS] = *job;
	pthread_cond_signal(&w->wanted);
}

/* One that has room, those before which others had their turn first; NULL: none. Lock held. */
static struct worker *workers_find(struct workers *ws)
{
	for (size_t i = 0; i < ws->nr; i++) {
		struct worker *w = &ws->all[(ws->next + i) % ws->nr];

		if (worker_has_room(w)) {
			ws->next = (ws->next + i + 1) % ws->nr;
			return w;
		}
	}
	return NULL;
}

int workers_put(struct workers *ws, const struct lane_job *job, struct err **err)
{
	struct worker_job it = {.kind = WORKER_PAGES, .pages = *job};
	struct worker *w;
	int ret;

	pthread_mutex_lock(&ws->lock);
	while (!ws->failed && !(w = workers_find(ws)))
		pthread_cond_wait(&ws->done, &ws->lock);
	ret = workers_failed(ws, err);
	if (!ret)
		worker_put(w, &it);
	pthread_mutex_unlock(&ws->lock);
	return ret;
}

/* To each of them. */
static int workers_put_all(struct workers *ws, const struct worker_job *job, struct err **err)
{
	int ret;

	pthread_mutex_lock(&ws->lock);
	for (size_t i = 0; i < ws->nr && !ws->failed; i++) {
		while (!ws->failed && !worker_has_room(&ws->all[i]))
			pthread_cond_wait(&ws->done, &ws->lock);
		if (!ws->failed)
			worker_put(&ws->all[i], job);
	}
	ret = workers_failed(ws, err);
	pthread_mutex_unlock(&ws->lock);
	return ret;
}

int workers_round(struct workers *ws, uint64_t number, struct err **err)
{
	return workers_put_all(ws, &(struct worker_job){.kind = WORKER_ROUND, .number = number},
			       err);
}

int workers_end(struct workers *ws, struct err **err)
{
	return workers_put_all(ws, &(struct worker_job){.kind = WORKER_END}, err);
}

int workers_wait(struct workers *ws, struct err **err)
{
	int ret;

	pthread_mutex_lock(&ws->lock);
	for (size_t i = 0; i < ws->nr; i++)
		while (!ws->failed && ws->all[i].first != ws->all[i].end)
			pthread_cond_wait(&ws->done, &ws->lock);
	ret = workers_failed(ws, err);
	pthread_mutex_unlock(&ws->lock);
	return ret;
}

uint64_t workers_bytes(const struct workers *ws)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < ws->nr; i++)
		bytes += lane_bytes(ws->all[i].lane);
	return bytes;
}
