/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest memory with threads: revocation while others are inside (gm.h, I3), and orders (I4). Built
 * with ThreadSanitizer, these tests prove that accesses are over when gm_revoke() returned.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/unit/core/gm_world.h"

/* On a host that is busy a round may take as long as its threads wait for a processor. */
#define RACE_NS UINT64_C(3000000000)
/* How long one thread leaves it to others to come in between. */
#define CHANCE_NS UINT64_C(30000000)

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

struct worker {
	struct world *w;
	pthread_t thread;
	atomic_bool *stop;
	atomic_uint *started;
	unsigned int number;
	unsigned long done, refused;
};

/* Reads and writes a page of its own in the device's first block, again and again. */
static void *worker_run(void *arg)
{
	struct worker *me = arg;
	uint64_t gpa = DEVICE + (uint64_t)me->number * 512;
	uint8_t in[512], out[512];

	memset(out, 0x40 + (int)me->number, sizeof(out));
	atomic_fetch_add(me->started, 1);
	while (!atomic_load(me->stop)) {
		if (gm_write(me->w->gm, gpa, out, sizeof(out)))
			me->refused++;
		else
			me->done++;
		if (gm_read(me->w->gm, gpa, in, sizeof(in)) == 0)
			assert_int_equal(in[0], in[511]);
	}
	return NULL;
}

/*
 * I3: between a revoke and the next grant the memory is the owner's alone. The owner writes it with
 * plain stores, which ThreadSanitizer would report against an access that is still under way, and
 * finds its own bytes there afterwards.
 */
static void test_revoke_waits_for_accesses(void **state)
{
	enum { WORKERS = 3, ROUNDS = 3000 };
	uint64_t end = now_ns() + RACE_NS;
	struct worker worker[WORKERS];
	struct world *w = *state;
	atomic_bool stop = false;
	atomic_uint started = 0;
	unsigned long done = 0;

	for (unsigned int i = 0; i < WORKERS; i++) {
		worker[i] =
			(struct worker){.w = w, .stop = &stop, .started = &started, .number = i};
		assert_int_equal(pthread_create(&worker[i].thread, NULL, worker_run, &worker[i]),
				 0);
	}
	while (atomic_load(&started) < WORKERS)
		sched_yield();
	for (unsigned int round = 0; round < ROUNDS && now_ns() < end; round++) {
		gm_grant(w->region, 0, BLOCK);
		sched_yield();
		gm_revoke(w->region, 0, BLOCK);
		memset(w->device, 0, WORKERS * 512);
		for (unsigned int i = 0; i < 50; i++)
			for (unsigned int at = 0; at < WORKERS * 512; at += 64)
				assert_int_equal(((volatile uint8_t *)w->device)[at], 0);
	}
	/* Every worker gets through once it may. */
	gm_grant(w->region, 0, BLOCK);
	atomic_store(&stop, true);
	for (unsigned int i = 0; i < WORKERS; i++) {
		pthread_join(worker[i].thread, NULL);
		done += worker[i].done + worker[i].refused;
	}
	assert_true(done > 0);
}

/*
 * Regions come and go while others access what stays and what is about to go; the removed region's
 * memory is the owner's alone at once. So do marks of what was written.
 */
static void test_regions_come_and_go_under_accesses(void **state)
{
	enum { WORKERS = 2, ROUNDS = 300 };
	uint64_t end = now_ns() + RACE_NS;
	struct worker worker[WORKERS];
	struct world *w = *state;
	atomic_bool stop = false;
	atomic_uint started = 0;
	uint64_t marks;

	for (unsigned int i = 0; i < WORKERS; i++) {
		worker[i] =
			(struct worker){.w = w, .stop = &stop, .started = &started, .number = i};
		assert_int_equal(pthread_create(&worker[i].thread, NULL, worker_run, &worker[i]),
				 0);
	}
	while (atomic_load(&started) < WORKERS)
		sched_yield();
	for (unsigned int round = 0; round < ROUNDS && now_ns() < end; round++) {
		struct gm_region *last;

		gm_remove_device_memory(w->gm, w->region);
		memset(w->device, 0, WORKERS * 512);
		assert_int_equal(gm_add_device_memory(w->gm, (struct range){DEVICE, 3 * BLOCK},
						      w->device, BLOCK, &w->region),
				 0);
		assert_int_equal(gm_add_device_memory(w->gm,
						      (struct range){DEVICE + 3 * BLOCK, BLOCK},
						      w->device + 3 * BLOCK, BLOCK, &last),
				 0);
		gm_grant(w->region, 0, BLOCK);
		if (round % 4 == 0)
			assert_int_equal(gm_dirty_start(w->gm), 0);
		sched_yield();
		gm_remove_device_memory(w->gm, last);
		gm_dirty_take(w->gm, DEVICE, &marks, 1);
		assert_int_equal(marks & ~UINT64_C(1), 0);
		if (round % 4 == 3)
			gm_dirty_stop(w->gm);
	}
	atomic_store(&stop, true);
	for (unsigned int i = 0; i < WORKERS; i++)
		pthread_join(worker[i].thread, NULL);
}

struct long_access {
	struct world *w;
	sem_t inside, leave;
	atomic_bool left;
	int ret;
};

static int stay_inside(void *opaque, void *host, size_t size)
{
	struct long_access *a = opaque;

	(void)size;
	sem_post(&a->inside);
	sem_wait(&a->leave);
	*(uint8_t *)host = 0x77;
	atomic_store(&a->left, true);
	return 0;
}

static void *long_access_run(void *arg)
{
	struct long_access *a = arg;

	a->ret = gm_access(a->w->gm, NEXT, DEVICE + BLOCK - NEXT, stay_inside, a);
	return NULL;
}

static void *let_leave(void *arg)
{
	struct long_access *a = arg;

	uint64_t end = now_ns() + CHANCE_NS;

	/* Gives the revoke every chance to return too early. */
	for (unsigned int i = 0; i < 1000 && now_ns() < end; i++)
		sched_yield();
	sem_post(&a->leave);
	sem_post(&a->leave);
	return NULL;
}

static void test_revoke_waits_for_a_long_access(void **state)
{
	struct world *w = *state;
	struct long_access a = {.w = w};
	pthread_t inside, helper;

	sem_init(&a.inside, 0, 0);
	sem_init(&a.leave, 0, 0);
	gm_grant(w->region, 0, 4 * BLOCK);
	pthread_create(&inside, NULL, long_access_run, &a);
	sem_wait(&a.inside);
	pthread_create(&helper, NULL, let_leave, &a);
	/* Of another block: it may wait or not. Of its block: it waits. */
	gm_revoke(w->region, 0, BLOCK);
	assert_true(atomic_load(&a.left));
	assert_int_equal(w->next[0], 0x77);
	assert_false(gm_valid(w->gm, DEVICE, 1));
	pthread_join(inside, NULL);
	pthread_join(helper, NULL);
	assert_int_equal(a.ret, 0);
	sem_destroy(&a.inside);
	sem_destroy(&a.leave);
}

/* Readers that overlap without a gap: one always holds the region when another lets go. */
struct relay {
	struct world *w;
	atomic_uint entered;
	atomic_bool stop;
};

static int relay_inside(void *opaque, void *host, size_t size)
{
	struct relay *r = opaque;
	unsigned int mine = atomic_fetch_add(&r->entered, 1);
	uint64_t end = now_ns() + CHANCE_NS;

	(void)host;
	(void)size;
	/* Leave only when another one came in, or when it cannot because a writer waits. */
	for (unsigned int i = 0; i < 2000 && atomic_load(&r->entered) == mine + 1 && now_ns() < end;
	     i++)
		sched_yield();
	return 0;
}

static void *relay_run(void *arg)
{
	struct relay *r = arg;

	while (!atomic_load(&r->stop))
		gm_access(r->w->gm, DEVICE, 1, relay_inside, r);
	return NULL;
}

/* With a lock that prefers readers this test does not end. */
static void test_busy_readers_do_not_starve_a_revoke(void **state)
{
	struct world *w = *state;
	struct relay r = {.w = w};
	pthread_t thread[3];

	gm_grant(w->region, 0, BLOCK);
	for (unsigned int i = 0; i < 3; i++)
		pthread_create(&thread[i], NULL, relay_run, &r);
	while (atomic_load(&r.entered) < 10)
		sched_yield();
	for (unsigned int i = 0; i < 20; i++) {
		gm_revoke(w->region, 0, BLOCK);
		gm_grant(w->region, 0, BLOCK);
	}
	atomic_store(&r.stop, true);
	for (unsigned int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
}

/* I4: values of 2, 4 and 8 bytes are never seen half written, by gm_read() and gm_write() too. */
struct torn {
	struct world *w;
	unsigned int size;
	bool plain; /* gm_read() and gm_write() */
	atomic_bool stop;
};

static void *torn_write(void *arg)
{
	struct torn *t = arg;
	uint64_t value = 0;

	while (!atomic_load(&t->stop)) {
		value = ~value;
		if (t->plain)
			gm_write(t->w->gm, LOW + 64, &value, t->size);
		else
			gm_store_release(t->w->gm, LOW + 64, t->size, value);
	}
	return NULL;
}

static void test_no_torn_values(void **state)
{
	struct world *w = *state;

	for (unsigned int size = 2; size <= 8; size *= 2) {
		for (unsigned int plain = 0; plain < 2; plain++) {
			struct torn t = {.w = w, .size = size, .plain = plain};
			uint64_t all = size == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * size) - 1;
			pthread_t thread;

			memset(w->low + 64, 0, 8);
			pthread_create(&thread, NULL, torn_write, &t);
			for (unsigned int i = 0; i < 20000; i++) {
				uint64_t v = 0;

				if (plain)
					assert_int_equal(gm_read(w->gm, LOW + 64, &v, size), 0);
				else
					assert_int_equal(gm_load_acquire(w->gm, LOW + 64, size, &v),
							 0);
				assert_true(v == 0 || v == all);
			}
			atomic_store(&t.stop, true);
			pthread_join(thread, NULL);
		}
	}
}

/* What is answered last. */
#define ENOUGH UINT32_MAX

/* Release and acquire: who sees the index sees what was written before it. */
static void *producer(void *arg)
{
	struct world *w = arg;

	for (uint64_t i = 1;; i++) {
		uint64_t ack = 0;
		uint8_t data[64];

		memset(data, (int)(i & 0xff), sizeof(data));
		gm_write(w->gm, NEXT + 64, data, sizeof(data));
		gm_store_release(w->gm, NEXT, 4, i);
		do {
			gm_load_acquire(w->gm, NEXT + 8, 4, &ack);
			if (ack == ENOUGH)
				return NULL;
			if (ack != i)
				sched_yield();
		} while (ack != i);
	}
}

static void test_release_and_acquire(void **state)
{
	uint64_t end = now_ns() + RACE_NS;
	struct world *w = *state;
	pthread_t thread;

	pthread_create(&thread, NULL, producer, w);
	for (uint64_t i = 1, ack = 0; ack != ENOUGH; i++) {
		uint64_t seen = 0;
		uint8_t data[64];

		while (gm_load_acquire(w->gm, NEXT, 4, &seen) == 0 && seen != i)
			sched_yield();
		assert_int_equal(gm_read(w->gm, NEXT + 64, data, sizeof(data)), 0);
		assert_int_equal(data[0], i & 0xff);
		assert_int_equal(data[63], i & 0xff);
		ack = i == 10000 || now_ns() > end ? ENOUGH : i;
		gm_store_release(w->gm, NEXT + 8, 4, ack);
	}
	pthread_join(thread, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_revoke_waits_for_accesses),
		TEST(test_regions_come_and_go_under_accesses),
		TEST(test_revoke_waits_for_a_long_access),
		TEST(test_busy_readers_do_not_starve_a_revoke),
		TEST(test_no_torn_values),
		TEST(test_release_and_acquire),
	};

	return cmocka_run_group_tests_name("gm: threads", tests, NULL, NULL);
}
