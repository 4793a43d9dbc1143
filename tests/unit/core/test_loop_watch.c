/* SPDX-License-Identifier: BSD-3-Clause */
/* Watches of an event loop: loop.h, I1 and I3. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/core/loop.h"

static struct loop *thread_loop(void)
{
	struct loop *loop = loop_new_thread("test", NULL);

	assert_non_null(loop);
	return loop;
}

static void ring(int fd)
{
	uint64_t one = 1;

	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

struct watched {
	struct loop *loop;
	struct loop_watch *watch;
	int fd;
	unsigned int runs;
	atomic_bool freed;
	sem_t ran;
};

static void watched_run(void *opaque)
{
	struct watched *w = opaque;

	assert_true(loop_on_thread(w->loop));
	assert_false(atomic_load(&w->freed));
	w->runs++;
	sem_post(&w->ran);
}

static void watched_start(struct watched *w, struct loop *loop, void (*fn)(void *opaque))
{
	memset(w, 0, sizeof(*w));
	sem_init(&w->ran, 0, 0);
	w->loop = loop;
	w->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	assert_true(w->fd >= 0);
	w->watch = loop_watch_new(loop, w->fd, fn, w, NULL);
	assert_non_null(w->watch);
}

static void watched_end(struct watched *w)
{
	close(w->fd);
	sem_destroy(&w->ran);
}

static void test_watch(void **state)
{
	struct loop *loop = thread_loop();
	struct watched w;
	uint64_t count;

	(void)state;
	watched_start(&w, loop, watched_run);
	for (unsigned int i = 1; i <= 100; i++) {
		ring(w.fd);
		sem_wait(&w.ran);
		assert_int_equal(w.runs, i);
		/* The counter was cleared before the call. */
		assert_int_equal(read(w.fd, &count, sizeof(count)), -1);
	}
	loop_watch_free(w.watch);
	/* The descriptor is still the caller's, and the signals too. */
	ring(w.fd);
	assert_int_equal(read(w.fd, &count, sizeof(count)), sizeof(count));
	watched_end(&w);
	loop_watch_free(NULL);
	loop_free(loop);
}

/* I3: a watch that rings without end is freed; afterwards its owner's memory may go. */
static void *ring_on(void *arg)
{
	struct watched *w = arg;
	uint64_t one = 1;

	while (!atomic_load(&w->freed))
		assert_int_equal(write(w->fd, &one, sizeof(one)), sizeof(one));
	ring(w->fd);
	return NULL;
}

static void test_no_callback_after_watch_free(void **state)
{
	struct loop *loop = thread_loop();

	(void)state;
	for (unsigned int round = 0; round < 200; round++) {
		struct watched *w = malloc(sizeof(*w));
		pthread_t ringer;

		assert_non_null(w);
		watched_start(w, loop, watched_run);
		pthread_create(&ringer, NULL, ring_on, w);
		sem_wait(&w->ran);
		loop_watch_free(w->watch);
		atomic_store(&w->freed, true);
		pthread_join(ringer, NULL);
		watched_end(w);
		/* A late callback would use it after this. */
		memset(w, 0xff, sizeof(*w));
		free(w);
	}
	loop_free(loop);
}

/* Freed by its own callback, and by another's in the same turn of the loop. */
static void free_itself(void *opaque)
{
	struct watched *w = opaque;

	w->runs++;
	loop_watch_free(w->watch);
	atomic_store(&w->freed, true);
}

struct pair {
	struct watched w[2];
	unsigned int runs;
};

static void free_both(void *opaque)
{
	struct watched *w = opaque;
	struct pair *p = (struct pair *)(w->runs ? w - 1 : w);

	/* runs marks the second one here */
	p->runs++;
	loop_watch_free(p->w[0].watch);
	loop_watch_free(p->w[1].watch);
}

static void test_watch_free_in_callbacks(void **state)
{
	struct loop *loop = loop_new_main(NULL);
	struct pair p;
	struct watched w;

	(void)state;
	watched_start(&w, loop, free_itself);
	ring(w.fd);
	uv_run(loop_uv(loop), UV_RUN_NOWAIT);
	ring(w.fd);
	uv_run(loop_uv(loop), UV_RUN_NOWAIT);
	assert_int_equal(w.runs, 1);
	watched_end(&w);

	p.runs = 0;
	watched_start(&p.w[0], loop, free_both);
	watched_start(&p.w[1], loop, free_both);
	p.w[1].runs = 1;
	ring(p.w[0].fd);
	ring(p.w[1].fd);
	for (unsigned int i = 0; i < 3; i++)
		uv_run(loop_uv(loop), UV_RUN_NOWAIT);
	assert_int_equal(p.runs, 1);
	watched_end(&p.w[0]);
	watched_end(&p.w[1]);
	loop_free(loop);
}

static void test_watch_of_a_bad_descriptor(void **state)
{
	struct loop *loop = thread_loop();
	struct err *err = NULL;

	(void)state;
	assert_null(loop_watch_new(loop, -1, watched_run, NULL, &err));
	assert_non_null(err);
	assert_non_null(strstr(err_message(err), "cannot watch an event descriptor"));
	err_free(err);
	loop_free(loop);
}

/* Many watches on one loop, each called for its own signals only. */
static void test_settled_after_a_ring(void **state)
{
	struct loop *loop = thread_loop();
	struct watched w;

	(void)state;
	watched_start(&w, loop, watched_run);
	for (unsigned int i = 1; i <= 2000; i++) {
		ring(w.fd);
		loop_settle(loop);
		assert_int_equal(w.runs, i);
	}
	loop_watch_free(w.watch);
	watched_end(&w);
	loop_free(loop);
}

static void test_many_watches(void **state)
{
	enum { WATCHES = 100 };
	struct loop *loop = thread_loop();
	struct watched *w = calloc(WATCHES, sizeof(*w));

	(void)state;
	assert_non_null(w);
	for (unsigned int i = 0; i < WATCHES; i++)
		watched_start(&w[i], loop, watched_run);
	for (unsigned int i = 0; i < WATCHES; i += 3)
		ring(w[i].fd);
	for (unsigned int i = 0; i < WATCHES; i += 3)
		sem_wait(&w[i].ran);
	for (unsigned int i = 0; i < WATCHES; i++)
		loop_watch_free(w[i].watch);
	for (unsigned int i = 0; i < WATCHES; i++) {
		assert_int_equal(w[i].runs, i % 3 == 0);
		watched_end(&w[i]);
	}
	free(w);
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_watch),
		cmocka_unit_test(test_no_callback_after_watch_free),
		cmocka_unit_test(test_watch_free_in_callbacks),
		cmocka_unit_test(test_watch_of_a_bad_descriptor),
		cmocka_unit_test(test_settled_after_a_ring),
		cmocka_unit_test(test_many_watches),
	};

	return cmocka_run_group_tests_name("loop: watches", tests, NULL, NULL);
}
