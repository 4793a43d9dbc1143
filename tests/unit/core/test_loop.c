/* SPDX-License-Identifier: BSD-3-Clause */
/* Event loops: whose thread runs what, in which order, and what is left at the end. loop.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "vmm/core/loop.h"

static struct loop *thread_loop(void)
{
	struct loop *loop = loop_new_thread("test", NULL);

	assert_non_null(loop);
	return loop;
}

struct note {
	struct loop *loop;
	pthread_t thread;
	unsigned int runs;
	bool on_thread;
};

static void take_note(void *opaque)
{
	struct note *n = opaque;

	n->thread = pthread_self();
	n->on_thread = loop_on_thread(n->loop);
	n->runs++;
}

static void test_call_from_elsewhere(void **state)
{
	struct note n = {.loop = thread_loop()};
	char name[16];

	(void)state;
	assert_false(loop_on_thread(n.loop));
	for (unsigned int i = 1; i <= 1000; i++) {
		/* Done when it returns: no lock here, and ThreadSanitizer agrees. */
		loop_call(n.loop, take_note, &n);
		assert_int_equal(n.runs, i);
		assert_true(n.on_thread);
		assert_false(pthread_equal(n.thread, pthread_self()));
	}
	assert_int_equal(pthread_getname_np(n.thread, name, sizeof(name)), 0);
	assert_string_equal(name, "test");
	loop_free(n.loop);
}

static void call_inside(void *opaque)
{
	struct note *n = opaque;

	loop_call(n->loop, take_note, n);
	assert_int_equal(n->runs, 1);
}

static void test_call_on_the_thread_runs_at_once(void **state)
{
	struct note n = {.loop = thread_loop()};
	struct note m = {.loop = loop_new_main(NULL)};

	(void)state;
	loop_call(n.loop, call_inside, &n);
	assert_int_equal(n.runs, 1);
	loop_free(n.loop);
	/* The main loop is this thread's, also while it does not run. */
	assert_true(loop_on_thread(m.loop));
	loop_call(m.loop, take_note, &m);
	assert_int_equal(m.runs, 1);
	loop_free(m.loop);
}

/* ---- posts ---- */

struct order {
	struct loop *loop;
	unsigned int next, nested;
	sem_t done;
};

struct order_job {
	struct order *order;
	unsigned int number;
};

static void order_run(void *opaque)
{
	struct order_job *job = opaque;

	assert_int_equal(job->number, job->order->next);
	job->order->next++;
	free(job);
}

static void order_done(void *opaque)
{
	sem_post(opaque);
}

static void order_post(struct order *order, unsigned int number)
{
	struct order_job *job = malloc(sizeof(*job));

	assert_non_null(job);
	*job = (struct order_job){order, number};
	assert_int_equal(loop_post(order->loop, order_run, job), 0);
}

static void test_posts_run_in_order(void **state)
{
	struct order o = {.loop = thread_loop()};

	(void)state;
	sem_init(&o.done, 0, 0);
	for (unsigned int i = 0; i < 5000; i++)
		order_post(&o, i);
	loop_post(o.loop, order_done, &o.done);
	sem_wait(&o.done);
	assert_int_equal(o.next, 5000);
	/* A call comes after the posts before it. */
	for (unsigned int i = 5000; i < 5100; i++)
		order_post(&o, i);
	loop_call(o.loop, order_done, &o.done);
	assert_int_equal(o.next, 5100);
	sem_destroy(&o.done);
	loop_free(o.loop);
}

static void nest(void *opaque)
{
	struct order *o = opaque;

	if (++o->nested < 100)
		assert_int_equal(loop_post(o->loop, nest, o), 0);
	else
		sem_post(&o->done);
}

static void test_posts_by_posts(void **state)
{
	struct order o = {.loop = thread_loop()};

	(void)state;
	sem_init(&o.done, 0, 0);
	/* A post on the loop's own thread does not run inside its caller. */
	loop_post(o.loop, nest, &o);
	sem_wait(&o.done);
	assert_int_equal(o.nested, 100);
	sem_destroy(&o.done);
	loop_free(o.loop);
}

static void post_and_look(void *opaque)
{
	struct note *n = opaque;

	assert_int_equal(loop_post(n->loop, take_note, n), 0);
	assert_int_equal(n->runs, 0);
}

static void test_post_does_not_run_at_once(void **state)
{
	struct note n = {.loop = thread_loop()};

	(void)state;
	loop_call(n.loop, post_and_look, &n);
	loop_free(n.loop);
	assert_int_equal(n.runs, 1);
}

/* What the loop did not come to is run by loop_free(), and what that posts too. */
static void test_late_posts_still_run(void **state)
{
	struct order o = {.loop = loop_new_main(NULL)};

	(void)state;
	sem_init(&o.done, 0, 0);
	for (unsigned int i = 0; i < 10; i++)
		order_post(&o, i);
	loop_post(o.loop, nest, &o);
	loop_free(o.loop);
	assert_int_equal(o.next, 10);
	assert_int_equal(o.nested, 100);
	sem_destroy(&o.done);
	loop_free(NULL);
}

static unsigned int open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void stop_and_post(void *opaque)
{
	struct note *n = opaque;

	loop_stop(n->loop);
	loop_post(n->loop, take_note, n);
}

/* Late posts that stop the loop do not keep it from closing everything. */
static void test_free_closes_all(void **state)
{
	unsigned int before;

	(void)state;
	/* libuv keeps some of its own from the first loop on. */
	loop_free(thread_loop());
	before = open_descriptors();
	for (unsigned int i = 0; i < 4; i++) {
		struct note n = {.loop = i & 1 ? loop_new_main(NULL) : thread_loop()};

		if (i & 2)
			loop_post(n.loop, stop_and_post, &n);
		loop_post(n.loop, stop_and_post, &n);
		loop_free(n.loop);
		assert_int_equal(n.runs, 1 + (i >> 1));
		assert_int_equal(open_descriptors(), before);
	}
}

/* ---- many threads ---- */

struct crowd {
	struct loop *loop;
	unsigned int calls, posts; /* the loop's thread's alone: no lock (I1) */
	bool busy;
};

static void crowd_work(struct crowd *c, unsigned int *count)
{
	assert_true(loop_on_thread(c->loop));
	assert_false(c->busy);
	c->busy = true;
	(*count)++;
	c->busy = false;
}

static void crowd_call(void *opaque)
{
	crowd_work(opaque, &((struct crowd *)opaque)->calls);
}

static void crowd_post(void *opaque)
{
	crowd_work(opaque, &((struct crowd *)opaque)->posts);
}

static void *crowd_run(void *arg)
{
	struct crowd *c = arg;

	for (unsigned int i = 0; i < 500; i++) {
		loop_call(c->loop, crowd_call, c);
		assert_int_equal(loop_post(c->loop, crowd_post, c), 0);
	}
	return NULL;
}

static void test_many_threads(void **state)
{
	struct crowd c = {.loop = thread_loop()};
	pthread_t thread[8];

	(void)state;
	for (unsigned int i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, crowd_run, &c), 0);
	for (unsigned int i = 0; i < 8; i++)
		pthread_join(thread[i], NULL);
	loop_free(c.loop);
	assert_int_equal(c.calls, 4000);
	assert_int_equal(c.posts, 4000);
}

/* ---- running and stopping the main loop ---- */

static void stop_it(void *opaque)
{
	loop_stop(opaque);
}

static void *stop_from_a_thread(void *arg)
{
	loop_stop(arg);
	return NULL;
}

static void test_main_loop_stops(void **state)
{
	struct loop *loop = loop_new_main(NULL);
	struct note n = {.loop = loop};
	pthread_t thread;

	(void)state;
	/* By a callback, and again; before it runs; from another thread. */
	for (unsigned int i = 1; i <= 3; i++) {
		loop_post(loop, take_note, &n);
		loop_post(loop, stop_it, loop);
		loop_run(loop);
		assert_int_equal(n.runs, i);
	}
	loop_stop(loop);
	loop_run(loop);
	pthread_create(&thread, NULL, stop_from_a_thread, loop);
	loop_run(loop);
	pthread_join(thread, NULL);
	assert_int_equal(n.runs, 3);
	loop_free(loop);
}

/* A loop that was stopped once runs on until the next stop, whatever wakes it up. */
struct again {
	struct loop *loop;
	unsigned int left;
};

static void again_run(void *opaque)
{
	struct again *a = opaque;

	if (--a->left)
		loop_post(a->loop, again_run, a);
	else
		loop_stop(a->loop);
}

static void test_main_loop_runs_again(void **state)
{
	struct again a = {.loop = loop_new_main(NULL), .left = 5};

	(void)state;
	loop_stop(a.loop);
	loop_run(a.loop);
	loop_post(a.loop, again_run, &a);
	loop_run(a.loop);
	assert_int_equal(a.left, 0);
	loop_free(a.loop);
}

static void *call_the_main_loop(void *arg)
{
	struct note *n = arg;

	loop_call(n->loop, take_note, n);
	loop_stop(n->loop);
	return NULL;
}

static void test_call_into_the_main_loop(void **state)
{
	struct note n = {.loop = loop_new_main(NULL)};
	pthread_t thread;

	(void)state;
	pthread_create(&thread, NULL, call_the_main_loop, &n);
	loop_run(n.loop);
	pthread_join(thread, NULL);
	assert_int_equal(n.runs, 1);
	assert_true(pthread_equal(n.thread, pthread_self()));
	loop_free(n.loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_call_from_elsewhere),
		cmocka_unit_test(test_call_on_the_thread_runs_at_once),
		cmocka_unit_test(test_posts_run_in_order),
		cmocka_unit_test(test_posts_by_posts),
		cmocka_unit_test(test_post_does_not_run_at_once),
		cmocka_unit_test(test_late_posts_still_run),
		cmocka_unit_test(test_free_closes_all),
		cmocka_unit_test(test_many_threads),
		cmocka_unit_test(test_main_loop_stops),
		cmocka_unit_test(test_main_loop_runs_again),
		cmocka_unit_test(test_call_into_the_main_loop),
	};

	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
