/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Hints that pages are free, while memory is sent (ram_send.h, I5): what is left out, and that nothing
 * is that was written afterwards, in whatever order hints, writes, harvests and rounds come. Built with
 * ThreadSanitizer, the last test also proves that hints need no lock.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "link.h"
#include "vmm/migration/migration.h"
#include "vmm/migration/pages.h"

#define UNIT (64 * KIB)

/* Blocks that do not end with a word of marks, and more pages than are looked at at a time. */
#define BOOT_PAGES (UINT64_C(3) * PAGES_WINDOW + 37)

static const struct machine_config config = {
	.boot_bytes = BOOT_PAGES * PAGE_BYTES,
	.device_bytes = 8 * UNIT,
	.unit_bytes = UNIT,
	.nr_devices = 1,
};

#define DEVICE MACHINE_BOOT_BLOCKS

struct pair {
	struct machine source, target;
	struct link link;
};

/* All boot memory and two units of the device have content. */
static void pair_open(struct pair *p, struct rig *rig, size_t nr_further)
{
	machine_init(&p->source, &config);
	machine_init(&p->target, &config);
	for (size_t i = 0; i < MACHINE_BOOT_BLOCKS; i++)
		machine_fill(&p->source, i, BOOT_PAGES);
	for (uint64_t unit = 2; unit < 4; unit++)
		machine_plug(&p->source, DEVICE, unit);
	machine_fill(&p->source, DEVICE, 4 * UNIT / PAGE_BYTES);
	link_open(&p->link, rig, &p->source, &p->target,
		  &(struct link_config){.nr_further = nr_further});
}

static uint64_t gpa_of(const struct machine *m, size_t block, uint64_t page)
{
	return m->blocks[block].ram.gpa.start + page * PAGE_BYTES;
}

static uint64_t hint(struct pair *p, size_t block, uint64_t page, uint64_t pages)
{
	return ram_send_hint_free(p->link.send, gpa_of(&p->source, block, page),
				  pages * PAGE_BYTES);
}

static enum ram_send_state pair_round(struct pair *p)
{
	struct err *err = NULL;
	enum ram_send_state state;

	ram_send_round(p->link.send, &state, &err);
	rig_check_no_err(&err);
	return state;
}

/* The guest is stopped. */
static void pair_finish(struct pair *p)
{
	struct err *err = NULL;

	ram_send_final(p->link.send, &err);
	rig_check_no_err(&err);
	link_end(&p->link);
	rig_check_no_err(&p->link.err);
	assert_int_equal(p->link.ret, 0);
}

static void pair_close(struct pair *p)
{
	link_close(&p->link);
	machine_done(&p->source);
	machine_done(&p->target);
}

static const char *page_of(const struct machine *m, size_t block, uint64_t page)
{
	return (const char *)m->blocks[block].ram.host + page * PAGE_BYTES;
}

static bool is_same(const struct pair *p, size_t block, uint64_t page)
{
	return !memcmp(page_of(&p->source, block, page), page_of(&p->target, block, page),
		       PAGE_BYTES);
}

static bool is_left_out(const struct pair *p, size_t block, uint64_t page)
{
	return pages_is_zero(page_of(&p->target, block, page));
}

static uint64_t hinted(const struct pair *p)
{
	struct migration_ram_info info = {0};

	ram_send_info(p->link.send, &info);
	return info.hinted;
}

/* Just the pages [first, first + pages) of the block are left out, of all there are. */
static void check_left_out(const struct pair *p, size_t block, uint64_t first, uint64_t pages)
{
	for (size_t i = 0; i < p->source.nr_blocks; i++) {
		uint64_t page = i == DEVICE ? 2 * UNIT / PAGE_BYTES : 0;
		uint64_t end = i == DEVICE ? 4 * UNIT / PAGE_BYTES : BOOT_PAGES;

		for (; page < end; page++) {
			bool out = i == block && page >= first && page < first + pages;

			if (out != is_left_out(p, i, page) || out == is_same(p, i, page))
				fail_msg("page %llu of block %zu is %s", (unsigned long long)page,
					 i, out ? "not left out" : "not there");
		}
	}
}

static void test_left_out(void **state)
{
	for (size_t nr_further = 0; nr_further < 3; nr_further += 2) {
		struct migration_ram_info info = {0};
		struct pair p;

		pair_open(&p, *state, nr_further);
		assert_int_equal(hint(&p, 1, 1000, 200), 200);
		/* Whoever says it again says nothing new. */
		assert_int_equal(hint(&p, 1, 1000, 200), 0);
		assert_int_equal(pair_round(&p), RAM_SEND_FITS);
		pair_finish(&p);
		check_left_out(&p, 1, 1000, 200);
		ram_send_info(p.link.send, &info);
		assert_int_equal(info.hinted, 200);
		assert_int_equal(info.normal, 2 * BOOT_PAGES + 2 * UNIT / PAGE_BYTES - 200);
		assert_int_equal(info.remaining, 0);
		pair_close(&p);
	}
}

/* Memory of a device is memory like any other. */
static void test_device_memory(void **state)
{
	struct pair p;

	pair_open(&p, *state, 0);
	/* Nothing is plugged before the third unit. */
	assert_int_equal(hint(&p, DEVICE, 0, 2 * UNIT / PAGE_BYTES + 5), 5);
	pair_round(&p);
	pair_finish(&p);
	check_left_out(&p, DEVICE, 2 * UNIT / PAGE_BYTES, 5);
	pair_close(&p);
}

/* Only pages that are hinted whole, of memory; the address and the size may be anything. */
static void test_any_range(void **state)
{
	static const struct range none[] = {
		{0, 0},
		{UINT64_MAX, 1},
		{UINT64_MAX, UINT64_MAX},
		{UINT64_MAX - PAGE_BYTES, PAGE_BYTES + 1},
		{UINT64_C(1) << 50, UINT64_MAX},
	};
	uint64_t gpa;
	struct pair p;

	pair_open(&p, *state, 0);
	gpa = gpa_of(&p.source, 1, 100);
	assert_int_equal(ram_send_hint_free(p.link.send, gpa + 1, 2 * PAGE_BYTES - 2), 0);
	assert_int_equal(ram_send_hint_free(p.link.send, gpa + 1, 2 * PAGE_BYTES - 1), 1);
	assert_int_equal(ram_send_hint_free(p.link.send, gpa, PAGE_BYTES - 1), 0);
	assert_int_equal(ram_send_hint_free(p.link.send, gpa - 5, 6 + PAGE_BYTES), 1);
	/* The rest of the block, and what is behind it. */
	gpa = gpa_of(&p.source, 1, BOOT_PAGES - 3);
	assert_int_equal(ram_send_hint_free(p.link.send, gpa, 1000 * PAGE_BYTES), 3);
	for (size_t i = 0; i < ARRAY_SIZE(none); i++)
		assert_int_equal(ram_send_hint_free(p.link.send, none[i].start, none[i].size), 0);
	assert_int_equal(hinted(&p), 5);
	/* All there is, by one hint, but what is out already. */
	assert_int_equal(ram_send_hint_free(p.link.send, 0, UINT64_MAX),
			 2 * BOOT_PAGES + 2 * UNIT / PAGE_BYTES - 5);
	pair_round(&p);
	pair_finish(&p);
	for (uint64_t page = 0; page < BOOT_PAGES; page++)
		assert_true(is_left_out(&p, 0, page) && is_left_out(&p, 1, page));
	pair_close(&p);
}

/* Written after the hint, by a CPU, by a device; and a hint that comes after the write. */
static void test_written_pages_are_sent(void **state)
{
	struct pair p;

	pair_open(&p, *state, 0);
	hint(&p, 0, 10, 3);
	machine_store(&p.source, 0, 10 * PAGE_BYTES, 0x1111);
	gm_store_release(p.source.gm, gpa_of(&p.source, 0, 11), 8, 0x2222);
	machine_store(&p.source, 0, 20 * PAGE_BYTES, 0x3333);
	gm_store_release(p.source.gm, gpa_of(&p.source, 0, 21), 8, 0x4444);
	assert_int_equal(hint(&p, 0, 20, 2), 2);
	/* A harvest in the middle of it, as an unplug makes one. */
	machine_store(&p.source, 0, 30 * PAGE_BYTES, 0x5555);
	machine_sync(&p.source);
	assert_int_equal(hint(&p, 0, 30, 2), 2);
	pair_round(&p);
	pair_finish(&p);
	for (uint64_t page = 0; page < BOOT_PAGES; page++) {
		bool out = page == 12 || page == 31;

		assert_true(out ? is_left_out(&p, 0, page) : is_same(&p, 0, page));
	}
	pair_close(&p);
}

/* When all was looked at, a hint leaves out nothing, of what is dirty again neither. */
static void test_too_late(void **state)
{
	struct pair p;

	pair_open(&p, *state, 0);
	pair_round(&p);
	machine_store(&p.source, 0, 10 * PAGE_BYTES, 0x1111);
	machine_sync(&p.source);
	assert_int_equal(hint(&p, 0, 0, BOOT_PAGES), 0);
	pair_round(&p);
	machine_store(&p.source, 0, 11 * PAGE_BYTES, 0x2222);
	assert_int_equal(ram_send_hint_free(p.link.send, 0, UINT64_MAX), 0);
	pair_finish(&p);
	machine_check_same(&p.source, &p.target);
	assert_int_equal(hinted(&p), 0);
	pair_close(&p);
}

/* A plugged unit that is hinted, goes and comes back has what was written to it then. */
static void test_unplugged_meanwhile(void **state)
{
	uint64_t unit_pages = UNIT / PAGE_BYTES;
	struct pair p;

	pair_open(&p, *state, 0);
	assert_int_equal(hint(&p, DEVICE, 2 * unit_pages, 2 * unit_pages), 2 * unit_pages);
	machine_unplug(&p.source, DEVICE, 2);
	machine_plug(&p.source, DEVICE, 2);
	machine_store(&p.source, DEVICE, 2 * UNIT, 0x6666);
	machine_unplug(&p.source, DEVICE, 3);
	machine_plug(&p.source, DEVICE, 5);
	machine_store(&p.source, DEVICE, 5 * UNIT, 0x7777);
	/* It came after the start: there is nothing to leave out. */
	assert_int_equal(hint(&p, DEVICE, 5 * unit_pages, unit_pages), 0);
	pair_round(&p);
	pair_finish(&p);
	machine_check_same(&p.source, &p.target);
	pair_close(&p);
}

struct left {
	uint64_t pages[MACHINE_BLOCKS_MAX];
	bool hinted; /* one of the pages was hinted */
};

static void left_add(void *opaque, size_t block, uint64_t page, const uint64_t *words,
		     size_t nr_words)
{
	struct left *left = opaque;

	for (uint64_t i = 0; i < nr_words * 64; i++) {
		if (!(words[i / 64] >> i % 64 & 1))
			continue;
		left->pages[block]++;
		left->hinted |= !block && page + i >= 50 && page + i < 60;
	}
}

/* A round that is cut short: what it did not come to is still known as dirty. */
static void test_interrupted(void **state)
{
	struct left left = {0};
	struct err *err = NULL;
	struct pair p;

	pair_open(&p, *state, 0);
	p.source.interrupt = p.link.send;
	hint(&p, 0, 50, 10);
	assert_int_equal(pair_round(&p), RAM_SEND_INTERRUPTED);
	p.source.interrupt = NULL;
	assert_int_equal(hint(&p, 0, 100, 10), 0);
	ram_send_settle(p.link.send, &err);
	rig_check_no_err(&err);
	assert_int_equal(ram_send_left(p.link.send, left_add, &left),
			 2 * BOOT_PAGES + 2 * UNIT / PAGE_BYTES - 10);
	assert_int_equal(left.pages[0], BOOT_PAGES - 10);
	assert_false(left.hinted);
	pair_close(&p);
}

/* ---- a guest that frees pages and uses them again, all the time ---- */

#define RING 64u

/* What the balloon's queue is: a page of it may be in use again before it is looked at. */
struct guest {
	struct pair *pair;
	pthread_mutex_t lock;    /* guards the following */
	uint64_t ring[RING];     /* pages of boot memory, both blocks counted through */
	unsigned int head, tail; /* read, written */
	bool free[2 * BOOT_PAGES];
	atomic_bool stop;
	atomic_ulong hints, reused;
};

static void guest_write(struct guest *g, uint64_t page, uint64_t value)
{
	struct machine *m = &g->pair->source;
	size_t block = (size_t)(page / BOOT_PAGES);

	page %= BOOT_PAGES;
	/* Either kind of writer. */
	if (value % 2)
		machine_store(m, block, page * PAGE_BYTES, value);
	else
		gm_store_release(m->gm, gpa_of(m, block, page), 8, value);
}

static void *guest_run(void *opaque)
{
	struct guest *g = opaque;
	uint64_t x = 88172645463325252u;

	while (!atomic_load(&g->stop)) {
		uint64_t page;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		page = (x >> 20) % (2 * BOOT_PAGES);
		pthread_mutex_lock(&g->lock);
		if (!g->free[page] && g->tail - g->head < RING) {
			g->free[page] = true;
			g->ring[g->tail++ % RING] = page;
		} else {
			atomic_fetch_add(&g->reused, g->free[page]);
			g->free[page] = false;
		}
		pthread_mutex_unlock(&g->lock);
		/* What is not free has its last content at the target in the end. */
		if (!g->free[page])
			guest_write(g, page, x);
	}
	return NULL;
}

static void *guest_hints(void *opaque)
{
	struct guest *g = opaque;

	while (!atomic_load(&g->stop)) {
		uint64_t page = 0;
		bool any;

		pthread_mutex_lock(&g->lock);
		any = g->head != g->tail;
		if (any)
			page = g->ring[g->head++ % RING];
		pthread_mutex_unlock(&g->lock);
		if (any) {
			hint(g->pair, (size_t)(page / BOOT_PAGES), page % BOOT_PAGES, 1);
			atomic_fetch_add(&g->hints, 1);
		} else {
			sched_yield();
		}
	}
	return NULL;
}

static void guest_wait(struct guest *g, unsigned long more)
{
	unsigned long hints = atomic_load(&g->hints), reused = atomic_load(&g->reused);

	while (atomic_load(&g->hints) - hints < more || atomic_load(&g->reused) - reused < more)
		sched_yield();
}

static void guest_check(const struct guest *g)
{
	const struct pair *p = g->pair;

	for (uint64_t page = 0; page < 2 * BOOT_PAGES; page++) {
		size_t block = (size_t)(page / BOOT_PAGES);

		if (!g->free[page] && !is_same(p, block, page % BOOT_PAGES))
			fail_msg("page %llu of block %zu is not what was written last",
				 (unsigned long long)(page % BOOT_PAGES), block);
	}
}

static void guest_migrates(struct rig *rig, size_t nr_further, unsigned int rounds)
{
	struct guest *g = test_calloc(1, sizeof(*g));
	pthread_t runs, hints;
	struct pair p;

	pair_open(&p, rig, nr_further);
	g->pair = &p;
	pthread_mutex_init(&g->lock, NULL);
	assert_int_equal(pthread_create(&runs, NULL, guest_run, g), 0);
	assert_int_equal(pthread_create(&hints, NULL, guest_hints, g), 0);
	guest_wait(g, 200);
	for (unsigned int i = 0; i < rounds; i++) {
		pair_round(&p);
		guest_wait(g, 20);
	}
	atomic_store(&g->stop, true);
	pthread_join(runs, NULL);
	pthread_join(hints, NULL);
	pair_finish(&p);
	guest_check(g);
	assert_true(hinted(&p) > 0);
	pair_close(&p);
	pthread_mutex_destroy(&g->lock);
	test_free(g);
}

static void test_guest_runs(void **state)
{
	for (unsigned int i = 0; i < (MACHINE_WITH_TSAN ? 5 : 20); i++)
		guest_migrates(*state, i % 3, 1 + i % 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_left_out, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_device_memory, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_any_range, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_written_pages_are_sent, rig_setup,
						rig_teardown),
		cmocka_unit_test_setup_teardown(test_too_late, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_unplugged_meanwhile, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_interrupted, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_guest_runs, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
