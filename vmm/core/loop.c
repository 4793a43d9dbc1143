/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Event loops: see loop.h for the contract.
 *
 * Calls from other threads go through one queue per loop, guarded by its lock, and one uv_async_t.
 * Handles of libuv are created, closed and freed on the loop's thread only; loop_watch_free() from
 * elsewhere is a loop_call(), which is what makes I3 true.
 */
#include "vmm/core/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"

struct loop_job {
	struct loop_job *next;
	void (*fn)(void *opaque);
	void *opaque;
	bool *done; /* loop_call(): where to say so, guarded by the loop's lock; else NULL */
};

struct loop {
	uv_loop_t uv;
	uv_async_t wake;
	pthread_t thread; /* the thread that runs it */
	bool has_thread;  /* it is ours to join */
	pid_t thread_id;  /* of a thread that is ours */
	pthread_mutex_t lock;
	pthread_cond_t job_done;
	struct loop_job *first, **last; /* guarded by lock */
	bool stopping;                  /* guarded by lock */
	char name[16];
};

struct loop_watch {
	struct loop *loop;
	uv_poll_t poll;
	int fd;
	void (*fn)(void *opaque);
	void *opaque;
};

/* Run what was queued when it started; jobs queued by jobs wait for the next wake-up. */
static void loop_run_jobs(uv_async_t *wake)
{
	struct loop *loop = wake->data;
	struct loop_job *job;
	bool stopping;

	pthread_mutex_lock(&loop->lock);
	job = loop->first;
	loop->first = NULL;
	loop->last = &loop->first;
	stopping = loop->stopping;
	pthread_mutex_unlock(&loop->lock);

	while (job) {
		struct loop_job *next = job->next;

		job->fn(job->opaque);
		if (job->done) {
			pthread_mutex_lock(&loop->lock);
			*job->done = true;
			pthread_cond_broadcast(&loop->job_done);
			pthread_mutex_unlock(&loop->lock);
		} else {
			free(job);
		}
		job = next;
	}
	if (stopping)
		uv_stop(&loop->uv);
}

static struct loop *loop_new(const char *name, struct err **err)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int ret;

	if (!loop) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	strncpy(loop->name, name, sizeof(loop->name) - 1);
	loop->last = &loop->first;
	ret = uv_loop_init(&loop->uv);
	if (ret) {
		err_set(err, -ret, "cannot create an event loop: %s", uv_strerror(ret));
		free(loop);
		return NULL;
	}
	ret = uv_async_init(&loop->uv, &loop->wake, loop_run_jobs);
	if (ret) {
		err_set(err, -ret, "cannot create an event loop: %s", uv_strerror(ret));
		uv_loop_close(&loop->uv);
		free(loop);
		return NULL;
	}
	loop->wake.data = loop;
	pthread_mutex_init(&loop->lock, NULL);
	pthread_cond_init(&loop->job_done, NULL);
	return loop;
}

static void loop_close_handle(uv_handle_t *handle, void *arg)
{
	(void)arg;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

static void loop_destroy(struct loop *loop)
{
	uv_walk(&loop->uv, loop_close_handle, NULL);
	/* A stop that a late post asked for would make it return before all is closed. */
	while (uv_run(&loop->uv, UV_RUN_DEFAULT))
		;
	uv_loop_close(&loop->uv);
	pthread_cond_destroy(&loop->job_done);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

struct loop *loop_new_main(struct err **err)
{
	struct loop *loop = loop_new("main", err);

	if (loop)
		loop->thread = pthread_self();
	return loop;
}

static void *loop_thread(void *arg)
{
	struct loop *loop = arg;

	pthread_setname_np(pthread_self(), loop->name);
	uv_run(&loop->uv, UV_RUN_DEFAULT);
	return NULL;
}

static void loop_note_thread(void *opaque)
{
	struct loop *loop = opaque;

	loop->thread_id = gettid();
}

struct loop *loop_new_thread(const char *name, struct err **err)
{
	struct loop *loop = loop_new(name, err);
	int ret;

	if (!loop)
		return NULL;
	ret = pthread_create(&loop->thread, NULL, loop_thread, loop);
	if (ret) {
		err_set(err, ret, "cannot start the thread '%s': %s", name, strerror(ret));
		loop->thread = pthread_self();
		loop_destroy(loop);
		return NULL;
	}
	loop->has_thread = true;
	loop_call(loop, loop_note_thread, loop);
	return loop;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	if (loop->has_thread) {
		loop_stop(loop);
		pthread_join(loop->thread, NULL);
		loop->thread = pthread_self();
		loop->has_thread = false;
	}
	/* Posts that arrived too late still run, so that nothing they own is lost. */
	loop->stopping = false;
	while (loop->first)
		loop_run_jobs(&loop->wake);
	loop_destroy(loop);
}

void loop_run(struct loop *loop)
{
	uv_run(&loop->uv, UV_RUN_DEFAULT);
	pthread_mutex_lock(&loop->lock);
	loop->stopping = false;
	pthread_mutex_unlock(&loop->lock);
}

void loop_stop(struct loop *loop)
{
	pthread_mutex_lock(&loop->lock);
	loop->stopping = true;
	pthread_mutex_unlock(&loop->lock);
	uv_async_send(&loop->wake);
}

bool loop_on_thread(const struct loop *loop)
{
	return pthread_equal(pthread_self(), loop->thread);
}

pid_t loop_thread_id(const struct loop *loop)
{
	return loop->thread_id;
}

uv_loop_t *loop_uv(struct loop *loop)
{
	return &loop->uv;
}

static void loop_enqueue(struct loop *loop, struct loop_job *job)
{
	pthread_mutex_lock(&loop->lock);
	*loop->last = job;
	loop->last = &job->next;
	pthread_mutex_unlock(&loop->lock);
	uv_async_send(&loop->wake);
}

void loop_call(struct loop *loop, void (*fn)(void *opaque), void *opaque)
{
	bool done = false;
	struct loop_job job = {.fn = fn, .opaque = opaque, .done = &done};

	if (loop_on_thread(loop)) {
		fn(opaque);
		return;
	}
	loop_enqueue(loop, &job);
	pthread_mutex_lock(&loop->lock);
	while (!done)
		pthread_cond_wait(&loop->job_done, &loop->lock);
	pthread_mutex_unlock(&loop->lock);
}

int loop_post(struct loop *loop, void (*fn)(void *opaque), void *opaque)
{
	struct loop_job *job = calloc(1, sizeof(*job));

	if (!job)
		return -ENOMEM;
	job->fn = fn;
	job->opaque = opaque;
	loop_enqueue(loop, job);
	return 0;
}

static void loop_nothing(void *opaque)
{
	(void)opaque;
}

void loop_settle(struct loop *loop)
{
	/* What one wait of the loop returns is done in any order; all of it before the next wait. */
	loop_call(loop, loop_nothing, NULL);
	loop_call(loop, loop_nothing, NULL);
}

static void loop_watch_event(uv_poll_t *poll, int status, int events)
{
	struct loop_watch *watch = poll->data;
	uint64_t count;

	(void)events;
	if (status < 0)
		return;
	/* EAGAIN: somebody else took the signal. */
	if (read(watch->fd, &count, sizeof(count)) != sizeof(count))
		return;
	watch->fn(watch->opaque);
}

struct loop_watch_start {
	struct loop_watch *watch;
	int ret;
	bool closing; /* libuv frees the watch */
};

static void loop_watch_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void loop_watch_start(void *opaque)
{
	struct loop_watch_start *start = opaque;
	struct loop_watch *watch = start->watch;

	start->ret = uv_poll_init(&watch->loop->uv, &watch->poll, watch->fd);
	if (start->ret)
		return;
	watch->poll.data = watch;
	start->ret = uv_poll_start(&watch->poll, UV_READABLE, loop_watch_event);
	if (start->ret) {
		start->closing = true;
		uv_close((uv_handle_t *)&watch->poll, loop_watch_closed);
	}
}

struct loop_watch *loop_watch_new(struct loop *loop, int fd, void (*fn)(void *opaque), void *opaque,
				  struct err **err)
{
	struct loop_watch *watch = calloc(1, sizeof(*watch));
	struct loop_watch_start start = {.watch = watch};

	if (!watch) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	watch->loop = loop;
	watch->fd = fd;
	watch->fn = fn;
	watch->opaque = opaque;
	loop_call(loop, loop_watch_start, &start);
	if (start.ret) {
		err_set(err, -start.ret, "cannot watch an event descriptor: %s",
			uv_strerror(start.ret));
		if (!start.closing)
			free(watch);
		return NULL;
	}
	return watch;
}

static void loop_watch_close(void *opaque)
{
	struct loop_watch *watch = opaque;

	uv_close((uv_handle_t *)&watch->poll, loop_watch_closed);
}

void loop_watch_free(struct loop_watch *watch)
{
	if (watch)
		loop_call(watch->loop, loop_watch_close, watch);
}
