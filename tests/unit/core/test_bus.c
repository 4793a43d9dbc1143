/* SPDX-License-Identifier: BSD-3-Clause */
/* The bus: who answers (I1, I4), and removal while others are inside (I2, I3). See vmm/core/bus.h.
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

#include "vmm/core/bus.h"

struct probe {
	uint64_t value; /* what reads give */
	uint64_t offset, written;
	unsigned int size, reads, writes;
};

static uint64_t probe_read(void *opaque, uint64_t offset, unsigned int size)
{
	struct probe *p = opaque;

	p->offset = offset;
	p->size = size;
	p->reads++;
	return p->value;
}

static void probe_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	struct probe *p = opaque;

	p->offset = offset;
	p->size = size;
	p->written = value;
	p->writes++;
}

static const struct bus_ops probe_ops = {.read = probe_read, .write = probe_write};

static struct bus_region probe_region(struct probe *p, uint64_t start, uint64_t size)
{
	return (struct bus_region){
		.name = "probe", .range = {start, size}, .ops = &probe_ops, .opaque = p};
}

static void test_dispatch(void **state)
{
	struct bus *bus = bus_new();
	struct probe p = {.value = 0x1122334455667788};
	struct bus_region r = probe_region(&p, 0x1000, 0x10);
	uint64_t v;

	(void)state;
	bus_add(bus, &r);
	assert_true(bus_read(bus, 0x1008, 8, &v));
	assert_int_equal(v, 0x1122334455667788);
	assert_int_equal(p.offset, 8);
	assert_true(bus_read(bus, 0x1003, 2, &v));
	assert_int_equal(v, 0x7788);
	assert_int_equal(p.size, 2);
	assert_true(bus_write(bus, 0x100f, 1, 0xabcd));
	assert_int_equal(p.offset, 0xf);
	assert_int_equal(p.written, 0xcd);
	assert_true(bus_write(bus, 0x1000, 8, UINT64_MAX));
	assert_int_equal(p.written, UINT64_MAX);
	bus_remove(bus, &r);
	bus_remove(bus, &r);
	assert_false(bus_read(bus, 0x1000, 4, &v));
	bus_free(bus);
}

static void test_miss_reads_all_ones(void **state)
{
	struct bus *bus = bus_new();
	struct probe p = {.value = 0};
	struct bus_region low = probe_region(&p, 0x1000, 4);
	struct bus_region high = probe_region(&p, 0x1004, 4);
	struct bus_region top = probe_region(&p, UINT64_MAX - 0x10, 0x10);
	uint64_t v = 0;

	(void)state;
	bus_add(bus, &low);
	bus_add(bus, &high);
	bus_add(bus, &top);
	assert_false(bus_read(bus, 0xfff, 1, &v));
	assert_int_equal(v, 0xff);
	assert_false(bus_read(bus, 0x1008, 4, &v));
	assert_int_equal(v, 0xffffffff);
	/* Across two regions, and out of one. */
	assert_false(bus_read(bus, 0x1002, 4, &v));
	assert_false(bus_read(bus, 0x1000, 8, &v));
	assert_int_equal(v, UINT64_MAX);
	assert_false(bus_write(bus, 0x1006, 4, 1));
	/* Addresses that wrap. */
	assert_false(bus_read(bus, UINT64_MAX - 1, 8, &v));
	assert_false(bus_write(bus, UINT64_MAX, 2, 0));
	assert_int_equal(p.reads + p.writes, 0);
	assert_true(bus_read(bus, UINT64_MAX - 0x10, 8, &v));
	bus_remove(bus, &low);
	bus_remove(bus, &high);
	bus_remove(bus, &top);
	bus_free(bus);
	bus_free(NULL);
}

/* A 4-byte register with another device's byte register inside it, added in both orders. */
static void test_smallest_answers(void **state)
{
	struct bus *bus = bus_new();
	struct probe word = {.value = 1}, byte = {.value = 2}, twin = {.value = 3};
	struct bus_region word_region = probe_region(&word, 0xcf8, 4);
	struct bus_region byte_region = probe_region(&byte, 0xcf9, 1);
	struct bus_region twin_region = probe_region(&twin, 0xcf8, 4);
	unsigned int order;
	uint64_t v;

	(void)state;
	for (order = 0; order < 2; order++) {
		bus_add(bus, order ? &word_region : &byte_region);
		bus_add(bus, order ? &byte_region : &word_region);
		bus_add(bus, &twin_region);
		assert_true(bus_read(bus, 0xcf9, 1, &v));
		assert_int_equal(v, 2);
		assert_true(bus_read(bus, 0xcf8, 4, &v));
		assert_int_equal(v, 1);
		assert_true(bus_read(bus, 0xcf9, 2, &v));
		assert_int_equal(v, 1);
		bus_remove(bus, &byte_region);
		assert_true(bus_read(bus, 0xcf9, 1, &v));
		assert_int_equal(v, 1);
		/* Of equal ones, the one added first. */
		bus_remove(bus, &word_region);
		assert_true(bus_read(bus, 0xcf9, 1, &v));
		assert_int_equal(v, 3);
		bus_remove(bus, &twin_region);
	}
	bus_free(bus);
}

/* A region whose handler moves it, as a device does whose own register holds its address. */
struct mover {
	struct bus *bus;
	struct bus_region region;
};

static void mover_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	struct mover *m = opaque;

	(void)offset;
	(void)size;
	bus_remove(m->bus, &m->region);
	m->region.range.start = value;
	bus_add(m->bus, &m->region);
}

static const struct bus_ops mover_ops = {.read = probe_read, .write = mover_write};

static void test_handler_moves_own_region(void **state)
{
	struct mover m = {.region = {.name = "mover", .range = {0x1000, 8}, .ops = &mover_ops}};

	(void)state;
	m.bus = bus_new();
	m.region.opaque = &m;
	bus_add(m.bus, &m.region);
	assert_true(bus_write(m.bus, 0x1000, 8, 0x2000));
	assert_false(bus_write(m.bus, 0x1000, 8, 0x3000));
	assert_true(bus_write(m.bus, 0x2000, 8, 0x3000));
	assert_int_equal(m.region.range.start, 0x3000);
	bus_remove(m.bus, &m.region);
	bus_free(m.bus);
}

/* The outer region's handler reaches the inner one over the bus, whose handler removes the outer.
 */
static void nest_outer_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	struct mover *outer = opaque;

	(void)offset;
	assert_true(bus_write(outer->bus, 0x2000, size, value));
	/* The frames are this thread's again: a second removal of its own region works, too. */
	bus_add(outer->bus, &outer->region);
	bus_remove(outer->bus, &outer->region);
}

static void nest_inner_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	struct mover *outer = opaque;

	(void)offset;
	(void)size;
	(void)value;
	bus_remove(outer->bus, &outer->region);
}

static void test_nested_removal(void **state)
{
	static const struct bus_ops outer_ops = {.read = probe_read, .write = nest_outer_write};
	static const struct bus_ops inner_ops = {.read = probe_read, .write = nest_inner_write};
	struct mover outer = {.region = {.range = {0x1000, 8}, .ops = &outer_ops}};
	struct bus_region inner = {.range = {0x2000, 8}, .ops = &inner_ops, .opaque = &outer};

	(void)state;
	outer.bus = bus_new();
	outer.region.opaque = &outer;
	bus_add(outer.bus, &outer.region);
	bus_add(outer.bus, &inner);
	assert_true(bus_write(outer.bus, 0x1000, 4, 0));
	assert_false(bus_write(outer.bus, 0x1000, 4, 0));
	assert_int_equal(outer.region.users, 0);
	bus_remove(outer.bus, &inner);
	bus_free(outer.bus);
}

/* A handler that stays inside until it is let go. */
struct holder {
	struct bus *bus;
	struct bus_region region;
	sem_t entered, leave;
	atomic_bool removed; /* bus_remove() returned */
	bool removed_while_inside;
};

static uint64_t holder_read(void *opaque, uint64_t offset, unsigned int size)
{
	struct holder *h = opaque;

	(void)offset;
	(void)size;
	sem_post(&h->entered);
	while (sem_wait(&h->leave))
		;
	h->removed_while_inside = atomic_load(&h->removed);
	return 0;
}

/* Does not block: tells whether the region is on the bus. */
static void holder_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	(void)opaque;
	(void)offset;
	(void)size;
	(void)value;
}

static const struct bus_ops holder_ops = {.read = holder_read, .write = holder_write};

static void *holder_reader(void *opaque)
{
	struct holder *h = opaque;
	uint64_t v;

	return bus_read(h->bus, 0x1000, 4, &v) ? h : NULL;
}

static void *holder_remover(void *opaque)
{
	struct holder *h = opaque;

	bus_remove(h->bus, &h->region);
	atomic_store(&h->removed, true);
	return NULL;
}

static void test_remove_waits(void **state)
{
	struct holder h = {.region = {.range = {0x1000, 4}, .ops = &holder_ops}};
	pthread_t reader, remover;
	unsigned int i;
	void *answered;

	(void)state;
	h.bus = bus_new();
	h.region.opaque = &h;
	sem_init(&h.entered, 0, 0);
	sem_init(&h.leave, 0, 0);
	bus_add(h.bus, &h.region);
	pthread_create(&reader, NULL, holder_reader, &h);
	while (sem_wait(&h.entered))
		;
	pthread_create(&remover, NULL, holder_remover, &h);
	/* Once writes are not answered any more, the remover has nothing to do but wait. */
	while (bus_write(h.bus, 0x1000, 4, 0))
		sched_yield();
	for (i = 0; i < 200; i++)
		sched_yield();
	sem_post(&h.leave);
	pthread_join(reader, &answered);
	pthread_join(remover, NULL);
	assert_ptr_equal(answered, &h);
	assert_false(h.removed_while_inside);
	assert_true(atomic_load(&h.removed));
	sem_destroy(&h.entered);
	sem_destroy(&h.leave);
	bus_free(h.bus);
}

/* Two threads inside one handler take the region off at once. */
struct pair {
	struct bus *bus;
	struct bus_region region;
	pthread_barrier_t inside;
};

static void pair_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pair *p = opaque;

	(void)offset;
	(void)size;
	(void)value;
	pthread_barrier_wait(&p->inside);
	bus_remove(p->bus, &p->region);
}

static void *pair_thread(void *opaque)
{
	struct pair *p = opaque;

	return bus_write(p->bus, 0x1000, 4, 0) ? p : NULL;
}

static void test_both_inside_remove(void **state)
{
	static const struct bus_ops ops = {.read = probe_read, .write = pair_write};
	struct pair p = {.region = {.range = {0x1000, 4}, .ops = &ops}};
	unsigned int round;

	(void)state;
	p.bus = bus_new();
	p.region.opaque = &p;
	pthread_barrier_init(&p.inside, NULL, 2);
	for (round = 0; round < 200; round++) {
		pthread_t threads[2];
		void *answered[2];

		bus_add(p.bus, &p.region);
		pthread_create(&threads[0], NULL, pair_thread, &p);
		pthread_create(&threads[1], NULL, pair_thread, &p);
		pthread_join(threads[0], &answered[0]);
		pthread_join(threads[1], &answered[1]);
		assert_ptr_equal(answered[0], &p);
		assert_ptr_equal(answered[1], &p);
		assert_int_equal(p.region.users, 0);
		assert_false(bus_write(p.bus, 0x1000, 8, 0));
	}
	pthread_barrier_destroy(&p.inside);
	bus_free(p.bus);
}

#define STORM_READERS 3
#define STORM_MOVES   5000
#define STORM_HITS    2000

/* Readers hammer two places while the region moves between them and is unusable in between. */
struct storm {
	struct bus *bus;
	struct bus_region region;
	int usable; /* plain on purpose: a handler that runs too late is also a data race */
	atomic_uint bad, hits;
	atomic_bool stop;
};

static uint64_t storm_read(void *opaque, uint64_t offset, unsigned int size)
{
	struct storm *s = opaque;

	(void)size;
	if (!s->usable || offset != 0)
		atomic_fetch_add(&s->bad, 1);
	atomic_fetch_add(&s->hits, 1);
	return 0;
}

static void *storm_reader(void *opaque)
{
	struct storm *s = opaque;
	uint64_t v;

	while (!atomic_load(&s->stop)) {
		bus_read(s->bus, 0x1000, 4, &v);
		bus_read(s->bus, 0x2000, 4, &v);
	}
	return NULL;
}

static void test_no_handler_after_removal(void **state)
{
	static const struct bus_ops ops = {.read = storm_read, .write = probe_write};
	struct storm s = {.region = {.range = {0x1000, 4}, .ops = &ops}};
	pthread_t readers[STORM_READERS];
	unsigned int i;

	(void)state;
	s.bus = bus_new();
	s.region.opaque = &s;
	for (i = 0; i < STORM_READERS; i++)
		pthread_create(&readers[i], NULL, storm_reader, &s);
	for (i = 0; i < STORM_MOVES || atomic_load(&s.hits) < STORM_HITS; i++) {
		s.region.range.start = i & 1 ? 0x1000 : 0x2000;
		s.usable = 1;
		bus_add(s.bus, &s.region);
		bus_remove(s.bus, &s.region);
		s.usable = 0;
	}
	atomic_store(&s.stop, true);
	for (i = 0; i < STORM_READERS; i++)
		pthread_join(readers[i], NULL);
	assert_int_equal(atomic_load(&s.bad), 0);
	assert_int_equal(s.region.users, 0);
	bus_free(s.bus);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dispatch),
		cmocka_unit_test(test_miss_reads_all_ones),
		cmocka_unit_test(test_smallest_answers),
		cmocka_unit_test(test_handler_moves_own_region),
		cmocka_unit_test(test_nested_removal),
		cmocka_unit_test(test_remove_waits),
		cmocka_unit_test(test_both_inside_remove),
		cmocka_unit_test(test_no_handler_after_removal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
