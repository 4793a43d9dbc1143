/* SPDX-License-Identifier: BSD-3-Clause */
/* Marks of pages: against an array of flags (dirty.h), what they cost (I3), and with threads (I1). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/num.h"
#include "vmm/core/dirty.h"

/* splitmix64 */
static uint64_t random_next(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* Some groups, and one that is cut short in the middle of a word. */
#define PAGES (3 * DIRTY_GROUP_PAGES + 5 * DIRTY_WORD_PAGES + 7)

struct pair {
	struct dirty *dirty;
	bool model[PAGES];
	uint64_t random;
};

static int setup(void **state)
{
	struct pair *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	p->dirty = dirty_new(PAGES);
	assert_non_null(p->dirty);
	p->random = 1;
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct pair *p = *state;

	dirty_free(p->dirty);
	free(p);
	return 0;
}

/* A range of pages, often one that begins or ends where words or groups do. */
static void pair_range(struct pair *p, uint64_t *ret_page, uint64_t *ret_pages)
{
	static const uint64_t steps[] = {1, DIRTY_WORD_PAGES, DIRTY_GROUP_PAGES};
	uint64_t from = num_align_down(random_next(&p->random) % (PAGES + 1),
				       steps[random_next(&p->random) % ARRAY_SIZE(steps)]);
	uint64_t size = random_next(&p->random) % (random_next(&p->random) % 8 ? 200 : PAGES);
	uint64_t end = from + size;

	if (random_next(&p->random) % 2)
		end = num_align_down(end, steps[random_next(&p->random) % ARRAY_SIZE(steps)]);
	end = num_min(num_max(end, from), PAGES);
	*ret_page = from;
	*ret_pages = end - from;
}

static void check_take(struct pair *p, uint64_t page, uint64_t pages)
{
	uint64_t bit = random_next(&p->random) % 200, taken = 0;
	size_t nr_words = (size_t)((bit + pages) / 64 + 1);
	uint64_t *words = calloc(nr_words, sizeof(*words));

	assert_non_null(words);
	for (uint64_t i = 0; i < pages; i++)
		taken += p->model[page + i];
	assert_int_equal(dirty_take(p->dirty, page, pages, words, bit), taken);
	for (uint64_t i = 0; i < nr_words * 64; i++) {
		bool marked = words[i / 64] >> i % 64 & 1;

		if (i < bit || i >= bit + pages) {
			assert_false(marked);
		} else {
			assert_int_equal(marked, p->model[page + i - bit]);
			p->model[page + i - bit] = false;
		}
	}
	free(words);
}

static void check_bits(struct pair *p, uint64_t page)
{
	uint64_t bits = random_next(&p->random) & random_next(&p->random);

	if (page >= PAGES)
		return;
	if (PAGES - page < 64)
		bits &= ~(~UINT64_C(0) << (PAGES - page));
	dirty_mark_bits(p->dirty, page, bits);
	for (uint64_t i = 0; i < 64 && page + i < PAGES; i++)
		p->model[page + i] |= bits >> i & 1;
}

static void check_look(struct pair *p, uint64_t page, uint64_t pages)
{
	uint64_t count = 0, first = page + pages;

	for (uint64_t i = pages; i-- > 0;) {
		count += p->model[page + i];
		if (p->model[page + i])
			first = page + i;
	}
	assert_int_equal(dirty_count(p->dirty, page, pages), count);
	assert_int_equal(dirty_next(p->dirty, page, page + pages), first);
}

static void test_random(void **state)
{
	struct pair *p = *state;

	for (unsigned int step = 0; step < 6000; step++) {
		uint64_t page, pages;

		pair_range(p, &page, &pages);
		switch (random_next(&p->random) % 6) {
		case 0:
			dirty_mark(p->dirty, page, pages);
			memset(&p->model[page], true, pages);
			break;
		case 1:
		case 2:
			check_bits(p, page);
			break;
		case 3:
			check_take(p, page, pages);
			break;
		default:
			check_look(p, page, pages);
			break;
		}
	}
	check_look(p, 0, PAGES);
	check_take(p, 0, PAGES);
	assert_int_equal(dirty_next(p->dirty, 0, PAGES), PAGES);
}

static uint64_t minor_faults(void)
{
	struct rusage usage;

	assert_int_equal(getrusage(RUSAGE_THREAD, &usage), 0);
	return (uint64_t)usage.ru_minflt;
}

/* I3: a TiB in which three pages were written costs as many pages, and those of the bits above. */
static void test_clean_pages_cost_nothing(void **state)
{
	const uint64_t pages = TIB / 4096, at[] = {5, pages / 2 + 77, pages - 1};
	uint64_t before = minor_faults(), page = 0, word[1];
	struct dirty *d = dirty_new(pages);

	(void)state;
	assert_non_null(d);
	assert_int_equal(dirty_next(d, 0, pages), pages);
	assert_int_equal(dirty_count(d, 0, pages), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(at); i++)
		dirty_mark(d, at[i], 1);
	assert_int_equal(dirty_count(d, 0, pages), ARRAY_SIZE(at));
	for (unsigned int i = 0; i < ARRAY_SIZE(at); i++, page++) {
		page = dirty_next(d, page, pages);
		assert_int_equal(page, at[i]);
		word[0] = 0;
		assert_int_equal(dirty_take(d, page, 1, word, 3), 1);
		assert_int_equal(word[0], 8);
	}
	assert_int_equal(dirty_next(d, 0, pages), pages);
	dirty_free(d);
	/* All words would be 8192 pages; sanitizers touch some of their own. */
	assert_true(minor_faults() - before < 500);
}

/* Few pages, so that marks meet takes: two in one word, one in another, one in another group. */
static const uint64_t race_pages[] = {3, 4, DIRTY_WORD_PAGES, DIRTY_GROUP_PAGES};
#define RACE_PAGES  (2 * DIRTY_GROUP_PAGES)
#define RACE_ROUNDS 30000u
/* On a host that is busy a round may take as long as its threads wait for a processor. */
#define RACE_NS UINT64_C(2000000000)
/* The round in which the writers end. */
#define RACE_END UINT32_MAX

struct race {
	struct dirty *dirty;
	/* of each race page, by whom it was written */
	_Atomic uint32_t memory[ARRAY_SIZE(race_pages)][2];
	uint32_t seen[ARRAY_SIZE(race_pages)][2];
	atomic_uint round; /* the last one that began, or RACE_END */
	atomic_uint ready; /* how often a writer was done with one */
};

static uint32_t race_read(const struct race *r, unsigned int i, unsigned int writer)
{
	return atomic_load_explicit(&r->memory[i][writer], memory_order_relaxed);
}

/* Take, then read. */
static void race_take(struct race *r, uint64_t page, uint64_t pages)
{
	uint64_t words[RACE_PAGES / 64 + 1] = {0};

	dirty_take(r->dirty, page, pages, words, 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(race_pages); i++) {
		uint64_t bit = race_pages[i] - page;

		if (race_pages[i] < page || bit >= pages || !(words[bit / 64] >> bit % 64 & 1))
			continue;
		r->seen[i][0] = race_read(r, i, 0);
		r->seen[i][1] = race_read(r, i, 1);
	}
}

/* Take what is left: every page was seen as it was written last. */
static void race_check(struct race *r)
{
	uint64_t page;

	while ((page = dirty_next(r->dirty, 0, RACE_PAGES)) < RACE_PAGES)
		race_take(r, page, 1);
	for (unsigned int i = 0; i < ARRAY_SIZE(race_pages); i++) {
		assert_int_equal(r->seen[i][0], race_read(r, i, 0));
		assert_int_equal(r->seen[i][1], race_read(r, i, 1));
	}
}

struct writer {
	struct race *race;
	pthread_t thread;
	unsigned int number;
	uint64_t random;
};

/* In each round, write and then mark, some times. */
static void *writer_run(void *arg)
{
	struct writer *w = arg;
	struct race *r = w->race;

	for (unsigned int round = 1;; round++) {
		uint64_t times = random_next(&w->random) % 4 + 1;

		while (atomic_load(&r->round) < round)
			sched_yield();
		if (atomic_load(&r->round) == RACE_END)
			break;
		while (times--) {
			unsigned int i =
				(unsigned int)(random_next(&w->random) % ARRAY_SIZE(race_pages));

			/* Plain stores, which a processor may have others see late. */
			atomic_store_explicit(&r->memory[i][w->number],
					      race_read(r, i, w->number) + 1, memory_order_relaxed);
			if (times % 2)
				dirty_mark(r->dirty, race_pages[i], 1);
			else
				dirty_mark_bits(r->dirty, race_pages[i], 1);
		}
		atomic_fetch_add(&r->ready, 1);
	}
	return NULL;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* I1: nothing that was written is missed by who takes and reads until no marks are left. */
static void check_race(unsigned int writers)
{
	struct race *r = calloc(1, sizeof(*r));
	uint64_t end = now_ns() + RACE_NS;
	struct writer writer[2];

	assert_non_null(r);
	r->dirty = dirty_new(RACE_PAGES);
	assert_non_null(r->dirty);
	for (unsigned int i = 0; i < writers; i++) {
		writer[i] = (struct writer){.race = r, .number = i, .random = i + 1};
		assert_int_equal(pthread_create(&writer[i].thread, NULL, writer_run, &writer[i]),
				 0);
	}
	for (unsigned int round = 1; round <= RACE_ROUNDS && now_ns() < end; round++) {
		atomic_store(&r->round, round);
		do {
			race_take(r, 0, round % 3 ? RACE_PAGES : DIRTY_GROUP_PAGES / 2);
			if (round % 2)
				sched_yield();
		} while (atomic_load(&r->ready) < round * writers);
		race_check(r);
	}
	atomic_store(&r->round, RACE_END);
	for (unsigned int i = 0; i < writers; i++)
		pthread_join(writer[i].thread, NULL);
	dirty_free(r->dirty);
	free(r);
}

static void test_no_mark_is_lost(void **state)
{
	(void)state;
	check_race(1);
	check_race(2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_random, setup, teardown),
		cmocka_unit_test(test_clean_pages_cost_nothing),
		cmocka_unit_test(test_no_mark_is_lost),
	};

	return cmocka_run_group_tests_name("dirty", tests, NULL, NULL);
}
