/* SPDX-License-Identifier: BSD-3-Clause */
/* Calls on the main thread: see onmain.h for the contract. */
#include "vmm/migration/onmain.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/core/loop.h"

/* On its caller's stack, in the queue until it was done or sent away. */
struct onmain_request {
	struct onmain_request *next;
	void (*fn)(void *opaque);
	void *opaque;
	bool done;
};

struct onmain {
	int fd;
	struct loop_watch *watch;
	pthread_mutex_t lock; /* guards the following */
	pthread_cond_t changed;
	struct onmain_request *first, **last;
	bool closed;
};

static struct onmain_request *onmain_take(struct onmain *onmain)
{
	struct onmain_request *request;

	pthread_mutex_lock(&onmain->lock);
	request = onmain->first;
	if (request) {
		onmain->first = request->next;
		if (!onmain->first)
			onmain->last = &onmain->first;
	}
	pthread_mutex_unlock(&onmain->lock);
	return request;
}

static void onmain_run(void *opaque)
{
	struct onmain *onmain = opaque;
	struct onmain_request *request;

	for (;;) {
		request = onmain_take(onmain);
		if (!request)
			return;
		request->fn(request->opaque);
		pthread_mutex_lock(&onmain->lock);
		request->done = true;
		pthread_cond_broadcast(&onmain->changed);
		pthread_mutex_unlock(&onmain->lock);
	}
}

struct onmain *onmain_new(struct loop *main, struct err **err)
{
	struct onmain *onmain = calloc(1, sizeof(*onmain));

	if (!onmain) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&onmain->lock, NULL);
	pthread_cond_init(&onmain->changed, NULL);
	onmain->last = &onmain->first;
	onmain->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (onmain->fd < 0)
		err_set(err, errno, "cannot create an event descriptor: %s", strerror(errno));
	else
		onmain->watch = loop_watch_new(main, onmain->fd, onmain_run, onmain, err);
	if (!onmain->watch) {
		onmain_free(onmain);
		return NULL;
	}
	return onmain;
}

void onmain_free(struct onmain *onmain)
{
	if (!onmain)
		return;
	loop_watch_free(onmain->watch);
	/* Closing -1 is harmless. */
	close(onmain->fd);
	pthread_cond_destroy(&onmain->changed);
	pthread_mutex_destroy(&onmain->lock);
	free(onmain);
}

void onmain_close(struct onmain *onmain)
{
	pthread_mutex_lock(&onmain->lock);
	onmain->closed = true;
	onmain->first = NULL;
	onmain->last = &onmain->first;
	pthread_cond_broadcast(&onmain->changed);
	pthread_mutex_unlock(&onmain->lock);
}

int onmain_call(struct onmain *onmain, void (*fn)(void *opaque), void *opaque)
{
	struct onmain_request request = {.fn = fn, .opaque = opaque};
	uint64_t one = 1;
	ssize_t n;

	pthread_mutex_lock(&onmain->lock);
	if (!onmain->closed) {
		*onmain->last = &request;
		onmain->last = &request.next;
		/* Refused only when the counter is full, and then the main thread is awake anyway. */
		n = write(onmain->fd, &one, sizeof(one));
		(void)n;
	}
	while (!onmain->closed && !request.done)
		pthread_cond_wait(&onmain->changed, &onmain->lock);
	pthread_mutex_unlock(&onmain->lock);
	return request.done ? 0 : -ECANCELED;
}
