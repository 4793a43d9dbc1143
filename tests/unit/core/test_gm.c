/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest memory: who may reach what (gm.h, I1 and I2), widths and orders (I4), and revocation while
 * others are inside (I3). Built with ThreadSanitizer, the tests with threads prove their orders.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/core/gm.h"

#define PAGE 4096

/* RAM of two pages that touch, device memory of four blocks that touches them, a hole, RAM. */
#define LOW    UINT64_C(0x10000)
#define NEXT   (LOW + PAGE)
#define DEVICE (NEXT + PAGE)
#define BLOCK  (2 * PAGE)
#define HOLE   (DEVICE + 4 * BLOCK)
#define HIGH   (HOLE + PAGE)
#define END    (HIGH + PAGE)

struct world {
	struct gm *gm;
	uint8_t *low, *next, *device, *high;
	struct gm_region *region;
};

static uint8_t *pages(uint64_t bytes)
{
	uint8_t *p = aligned_alloc(PAGE, bytes);

	assert_non_null(p);
	memset(p, 0, bytes);
	return p;
}

static int setup(void **state)
{
	struct world *w = malloc(sizeof(*w));

	assert_non_null(w);
	w->gm = gm_new();
	assert_non_null(w->gm);
	w->low = pages(PAGE);
	w->next = pages(PAGE);
	w->device = pages(4 * BLOCK);
	w->high = pages(PAGE);
	/* Not in the order of their addresses. */
	assert_int_equal(gm_add_ram(w->gm, (struct range){HIGH, PAGE}, w->high), 0);
	assert_int_equal(gm_add_ram(w->gm, (struct range){LOW, PAGE}, w->low), 0);
	assert_int_equal(gm_add_device_memory(w->gm, (struct range){DEVICE, 4 * BLOCK}, w->device,
					      BLOCK, &w->region),
			 0);
	assert_int_equal(gm_add_ram(w->gm, (struct range){NEXT, PAGE}, w->next), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	gm_free(w->gm);
	free(w->low);
	free(w->next);
	free(w->device);
	free(w->high);
	free(w);
	return 0;
}

/* Every way to reach [gpa, gpa + size) says whether it may, and a refused one touches nothing. */
static int nothing(void *opaque, void *host, size_t size)
{
	(void)host;
	*(uint64_t *)opaque += size;
	return 0;
}

static void check_reach(struct world *w, uint64_t gpa, uint64_t size, bool ok)
{
	int want = ok ? 0 : -EFAULT;
	uint64_t seen = 0;
	uint8_t *buf = pages(8 * BLOCK), *before = pages(4 * BLOCK);

	memcpy(before, w->device, 4 * BLOCK);
	memset(buf, 0xee, 8 * BLOCK);
	assert_int_equal(gm_valid(w->gm, gpa, size), ok);
	assert_int_equal(gm_access(w->gm, gpa, size, nothing, &seen), want);
	assert_int_equal(seen, ok ? size : 0);
	if (size <= 8 * BLOCK) {
		assert_int_equal(gm_read(w->gm, gpa, buf, size), want);
		if (!ok)
			assert_int_equal(buf[0], 0xee);
	}
	if (!ok && size <= 8 * BLOCK) {
		memset(buf, 0xdd, 8 * BLOCK);
		assert_int_equal(gm_write(w->gm, gpa, buf, size), -EFAULT);
		assert_int_equal(gm_fill(w->gm, gpa, 0xcc, size), -EFAULT);
		for (unsigned int i = 0; i < PAGE; i++)
			assert_int_equal(w->low[i] | w->next[i] | w->high[i], 0);
		assert_memory_equal(before, w->device, 4 * BLOCK);
	}
	free(buf);
	free(before);
}

static void test_bounds(void **state)
{
	struct world *w = *state;

	check_reach(w, LOW, PAGE, true);
	check_reach(w, LOW, 1, true);
	check_reach(w, LOW - 1, 1, false);
	check_reach(w, LOW - 1, 2, false);
	check_reach(w, 0, 1, false);
	check_reach(w, END - 1, 1, true);
	check_reach(w, END - 1, 2, false);
	check_reach(w, END, 1, false);
	check_reach(w, HOLE, 1, false);
	check_reach(w, HOLE, PAGE, false);
	/* Adjacent regions may be crossed, a hole not. */
	check_reach(w, NEXT - 1, 2, true);
	check_reach(w, LOW, 2 * PAGE, true);
	gm_grant(w->region, 0, 4 * BLOCK);
	check_reach(w, LOW, HOLE - LOW, true);
	check_reach(w, LOW, HOLE - LOW + 1, false);
	check_reach(w, LOW, END - LOW, false);
	check_reach(w, HOLE - 1, PAGE + 2, false);
	/* Sizes and addresses that wrap around. */
	check_reach(w, LOW, UINT64_MAX, false);
	check_reach(w, LOW, UINT64_MAX - LOW, false);
	check_reach(w, UINT64_MAX, 1, false);
	check_reach(w, UINT64_MAX, LOW + 2, false);
	check_reach(w, UINT64_MAX - 7, 16, false);
	check_reach(w, HIGH, UINT64_MAX - HIGH + 2, false);
}

static void test_size_zero(void **state)
{
	const uint64_t anywhere[] = {0, LOW, HOLE, DEVICE, UINT64_MAX};
	struct world *w = *state;
	uint64_t seen = 0;

	for (unsigned int i = 0; i < 5; i++) {
		assert_true(gm_valid(w->gm, anywhere[i], 0));
		assert_int_equal(gm_read(w->gm, anywhere[i], NULL, 0), 0);
		assert_int_equal(gm_write(w->gm, anywhere[i], NULL, 0), 0);
		assert_int_equal(gm_fill(w->gm, anywhere[i], 1, 0), 0);
		assert_int_equal(gm_access(w->gm, anywhere[i], 0, nothing, &seen), 0);
	}
	assert_int_equal(seen, 0);
}

static void test_last_bytes_of_the_address_space(void **state)
{
	const uint64_t top = UINT64_MAX - 2 * PAGE + 1;
	struct gm *gm = gm_new();
	uint8_t *host = pages(PAGE), byte = 7;

	(void)state;
	assert_int_equal(gm_add_ram(gm, (struct range){top + PAGE, PAGE}, host), -EINVAL);
	assert_int_equal(gm_add_ram(gm, (struct range){top, PAGE}, host), 0);
	assert_int_equal(gm_write(gm, top + PAGE - 1, &byte, 1), 0);
	assert_int_equal(host[PAGE - 1], 7);
	assert_int_equal(gm_write(gm, top + PAGE - 1, host, 2), -EFAULT);
	assert_int_equal(gm_write(gm, top, host, UINT64_MAX), -EFAULT);
	gm_free(gm);
	free(host);
}

static void test_adding(void **state)
{
	struct world *w = *state;
	const struct {
		struct range gpa;
		int want;
	} ram[] = {
		{{LOW, PAGE}, -EEXIST},
		{{LOW - PAGE, 2 * PAGE}, -EEXIST},
		{{LOW - PAGE, 64 * PAGE}, -EEXIST},
		{{HOLE - PAGE, PAGE}, -EEXIST},
		{{HOLE, 2 * PAGE}, -EEXIST},
		{{0, 0}, -EINVAL},
		{{0x100000, 0}, -EINVAL},
		{{0x100001, PAGE}, -EINVAL},
		{{0x100000, PAGE + 1}, -EINVAL},
		{{UINT64_MAX - PAGE + 1, 2 * PAGE}, -EINVAL},
		{{HOLE, PAGE}, 0},
		{{HOLE, PAGE}, -EEXIST},
	};
	struct gm_region *region = NULL;

	for (unsigned int i = 0; i < sizeof(ram) / sizeof(ram[0]); i++)
		assert_int_equal(gm_add_ram(w->gm, ram[i].gpa, w->low), ram[i].want);
	assert_true(gm_valid(w->gm, HOLE - PAGE - 1, 1) == false);
	assert_true(gm_valid(w->gm, HOLE, 2 * PAGE));
	assert_int_equal(gm_add_ram(w->gm, (struct range){0, PAGE}, w->low + 8), -EINVAL);
	/* Block sizes; and what was refused leaves no trace. */
	for (uint64_t block = 0; block <= 3 * PAGE; block += PAGE)
		assert_int_equal(gm_add_device_memory(w->gm, (struct range){0, 5 * PAGE}, w->low,
						      block == PAGE ? 5000 : block, &region),
				 -EINVAL);
	assert_int_equal(
		gm_add_device_memory(w->gm, (struct range){LOW, PAGE}, w->low, PAGE, &region),
		-EEXIST);
	assert_null(region);
	assert_false(gm_valid(w->gm, 0, 1));
	gm_free(NULL);
}

static void test_contents_cross_regions(void **state)
{
	struct world *w = *state;
	uint8_t out[64], in[64];

	for (unsigned int i = 0; i < 64; i++)
		out[i] = (uint8_t)(i + 1);
	gm_grant(w->region, 0, BLOCK);
	assert_int_equal(gm_write(w->gm, DEVICE - 32, out, 64), 0);
	assert_memory_equal(w->next + PAGE - 32, out, 32);
	assert_memory_equal(w->device, out + 32, 32);
	assert_int_equal(gm_read(w->gm, DEVICE - 32, in, 64), 0);
	assert_memory_equal(in, out, 64);
	assert_int_equal(w->device[32], 0);
	assert_int_equal(gm_fill(w->gm, NEXT - 3, 0xab, 5), 0);
	assert_int_equal(w->low[PAGE - 4], 0);
	assert_int_equal(w->low[PAGE - 3], 0xab);
	assert_int_equal(w->next[1], 0xab);
	assert_int_equal(w->next[2], 0);
	/* All three regions, and the byte order of what gm_access() sees. */
	assert_int_equal(gm_write(w->gm, NEXT - 1, out, 64), 0);
	assert_int_equal(w->low[PAGE - 1], 1);
	assert_memory_equal(w->next, out + 1, 63);
}

/* I2: exactly the granted blocks, by every sub-range of blocks. */
static void test_blocks(void **state)
{
	struct world *w = *state;

	check_reach(w, DEVICE, 1, false);
	check_reach(w, DEVICE - 1, 2, false);
	for (unsigned int map = 0; map < 16; map++) {
		gm_revoke(w->region, 0, 4 * BLOCK);
		for (unsigned int b = 0; b < 4; b++)
			if (map >> b & 1)
				gm_grant(w->region, b * BLOCK, BLOCK);
		for (unsigned int first = 0; first < 4; first++) {
			for (unsigned int end = first + 1; end <= 4; end++) {
				unsigned int mask = (1u << end) - (1u << first);
				bool ok = (map & mask) == mask;
				uint64_t gpa = DEVICE + (uint64_t)first * BLOCK;
				uint64_t size = (uint64_t)(end - first) * BLOCK;

				check_reach(w, gpa, size, ok);
				check_reach(w, gpa + 1, size - 2, ok);
			}
		}
		/* One byte beyond, in both neighbours. */
		check_reach(w, DEVICE - 1, BLOCK + 1, map & 1);
		check_reach(w, HOLE - 1, 1, map >> 3 & 1);
	}
	/* Twice is as once. */
	gm_grant(w->region, 0, 2 * BLOCK);
	gm_grant(w->region, 0, 2 * BLOCK);
	gm_revoke(w->region, 0, BLOCK);
	gm_revoke(w->region, 0, BLOCK);
	check_reach(w, DEVICE, BLOCK, false);
	check_reach(w, DEVICE + BLOCK, BLOCK, true);
	gm_grant(w->region, 0, 0);
	check_reach(w, DEVICE, BLOCK, false);
}

static void test_atomics(void **state)
{
	struct world *w = *state;
	const unsigned int sizes[] = {2, 4, 8};
	const uint64_t values[] = {0xf2f1, 0xf4f3f2f1, 0xf8f7f6f5f4f3f2f1};
	uint64_t value;

	for (unsigned int i = 0; i < 8; i++)
		w->low[i] = (uint8_t)(0xf1 + i);
	for (unsigned int i = 0; i < 3; i++) {
		unsigned int size = sizes[i];

		value = UINT64_MAX;
		assert_int_equal(gm_load_acquire(w->gm, LOW, size, &value), 0);
		assert_int_equal(value, values[i]);
		for (unsigned int off = 1; off < size; off++) {
			value = 42;
			assert_int_equal(gm_load_acquire(w->gm, LOW + off, size, &value), -EFAULT);
			assert_int_equal(value, 42);
			assert_int_equal(gm_store_release(w->gm, LOW + off, size, 0), -EFAULT);
		}
		value = 42;
		assert_int_equal(gm_load_acquire(w->gm, DEVICE, size, &value), -EFAULT);
		assert_int_equal(gm_load_acquire(w->gm, HOLE, size, &value), -EFAULT);
		assert_int_equal(gm_load_acquire(w->gm, UINT64_MAX - size + 1, size, &value),
				 -EFAULT);
		assert_int_equal(gm_store_release(w->gm, DEVICE, size, 1), -EFAULT);
		assert_int_equal(value, 42);
		/* Stores write their width and nothing more. */
		memset(w->next, 0xee, 16);
		assert_int_equal(gm_store_release(w->gm, NEXT + 8, size, 0x1122334455667788), 0);
		assert_int_equal(w->next[8], 0x88);
		assert_int_equal(w->next[7], 0xee);
		assert_int_equal(w->next[8 + size - 1], 0x88 - 0x11 * (size - 1));
		if (size < 8)
			assert_int_equal(w->next[8 + size], 0xee);
	}
	for (unsigned int size = 0; size <= 16; size++) {
		if (size == 2 || size == 4 || size == 8)
			continue;
		assert_int_equal(gm_load_acquire(w->gm, LOW, size, &value), -EFAULT);
		assert_int_equal(gm_store_release(w->gm, LOW, size, 0), -EFAULT);
	}
}

struct pieces {
	void *host[8];
	size_t size[8];
	unsigned int n, stop_at;
};

static int piece(void *opaque, void *host, size_t size)
{
	struct pieces *p = opaque;

	p->host[p->n] = host;
	p->size[p->n] = size;
	return ++p->n == p->stop_at ? 99 : 0;
}

static void test_access_pieces(void **state)
{
	struct world *w = *state;
	struct pieces p = {.n = 0};

	gm_grant(w->region, 0, 2 * BLOCK);
	assert_int_equal(gm_access(w->gm, LOW + 16, DEVICE + BLOCK + 1 - (LOW + 16), piece, &p), 0);
	assert_int_equal(p.n, 3);
	assert_ptr_equal(p.host[0], w->low + 16);
	assert_int_equal(p.size[0], PAGE - 16);
	assert_ptr_equal(p.host[1], w->next);
	assert_int_equal(p.size[1], PAGE);
	assert_ptr_equal(p.host[2], w->device);
	assert_int_equal(p.size[2], BLOCK + 1);
	/* The first result that is not 0 ends it, and nothing stays locked. */
	p = (struct pieces){.stop_at = 2};
	assert_int_equal(gm_access(w->gm, LOW, DEVICE + 1 - LOW, piece, &p), 99);
	assert_int_equal(p.n, 2);
	gm_revoke(w->region, 0, 4 * BLOCK);
	p = (struct pieces){.n = 0};
	assert_int_equal(gm_access(w->gm, LOW, DEVICE + 1 - LOW, piece, &p), -EFAULT);
	assert_int_equal(p.n, 0);
	gm_grant(w->region, 0, BLOCK);
}

/* ---- threads ---- */

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
	for (unsigned int round = 0; round < ROUNDS; round++) {
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

	/* Gives the revoke every chance to return too early. */
	for (unsigned int i = 0; i < 1000; i++)
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

	(void)host;
	(void)size;
	/* Leave only when another one came in, or when it cannot because a writer waits. */
	for (unsigned int i = 0; i < 2000 && atomic_load(&r->entered) == mine + 1; i++)
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

/* Release and acquire: who sees the index sees what was written before it. */
static void *producer(void *arg)
{
	struct world *w = arg;

	for (uint64_t i = 1; i <= 10000; i++) {
		uint64_t ack = 0;
		uint8_t data[64];

		memset(data, (int)(i & 0xff), sizeof(data));
		gm_write(w->gm, NEXT + 64, data, sizeof(data));
		gm_store_release(w->gm, NEXT, 4, i);
		do {
			gm_load_acquire(w->gm, NEXT + 8, 4, &ack);
			if (ack != i)
				sched_yield();
		} while (ack != i);
	}
	return NULL;
}

static void test_release_and_acquire(void **state)
{
	struct world *w = *state;
	pthread_t thread;

	pthread_create(&thread, NULL, producer, w);
	for (uint64_t i = 1; i <= 10000; i++) {
		uint64_t seen = 0;
		uint8_t data[64];

		while (gm_load_acquire(w->gm, NEXT, 4, &seen) == 0 && seen != i)
			sched_yield();
		assert_int_equal(gm_read(w->gm, NEXT + 64, data, sizeof(data)), 0);
		assert_int_equal(data[0], i & 0xff);
		assert_int_equal(data[63], i & 0xff);
		gm_store_release(w->gm, NEXT + 8, 4, i);
	}
	pthread_join(thread, NULL);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_bounds),
		TEST(test_size_zero),
		cmocka_unit_test(test_last_bytes_of_the_address_space),
		TEST(test_adding),
		TEST(test_contents_cross_regions),
		TEST(test_blocks),
		TEST(test_atomics),
		TEST(test_access_pieces),
		TEST(test_revoke_waits_for_accesses),
		TEST(test_revoke_waits_for_a_long_access),
		TEST(test_busy_readers_do_not_starve_a_revoke),
		TEST(test_no_torn_values),
		TEST(test_release_and_acquire),
	};

	return cmocka_run_group_tests_name("gm", tests, NULL, NULL);
}
