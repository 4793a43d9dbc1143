/* SPDX-License-Identifier: BSD-3-Clause */
/* When violations are told: the first at once, then one event a second, and none is lost. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "vmm/vm/violations.h"

/* The main thread makes an event at @now_ms; how many violations it tells of, or 0: none. */
static uint64_t tell(struct violations *v, uint64_t now_ms, uint64_t writes, uint64_t reads)
{
	uint64_t new_writes, new_reads;

	violations_begin(v);
	if (!violations_end(v, now_ms, writes, reads, &new_writes, &new_reads))
		return 0;
	return new_writes + new_reads;
}

static void test_pace(void **state)
{
	struct violations v = {0};

	(void)state;
	assert_int_equal(violations_wait_ms(&v, 5), UINT64_MAX);
	/* The first: at once, whatever the clock says. */
	assert_true(violations_note(&v));
	assert_false(violations_note(&v));
	assert_int_equal(violations_wait_ms(&v, 5), 0);
	assert_int_equal(tell(&v, 5, 2, 0), 2);
	assert_int_equal(violations_wait_ms(&v, 5), UINT64_MAX);
	/* More of them wait until the second is over, and wake the main thread once. */
	assert_true(violations_note(&v));
	assert_int_equal(violations_wait_ms(&v, 5), 1000);
	assert_false(violations_note(&v));
	assert_int_equal(violations_wait_ms(&v, 1004), 1);
	assert_int_equal(violations_wait_ms(&v, 1005), 0);
	assert_int_equal(violations_wait_ms(&v, 9999), 0);
	assert_int_equal(tell(&v, 1005, 3, 1), 2);
	/* After a second's peace at once again. */
	assert_int_equal(violations_wait_ms(&v, 2005), UINT64_MAX);
	assert_true(violations_note(&v));
	assert_int_equal(violations_wait_ms(&v, 2005), 0);
	assert_int_equal(tell(&v, 2005, 3, 2), 1);
}

/* What was counted before it was noted is told once. */
static void test_told_before(void **state)
{
	uint64_t writes, reads;
	struct violations v = {0};

	(void)state;
	violations_note(&v);
	violations_begin(&v);
	/* A vCPU counts, then notes, then the counts are read. */
	assert_true(violations_note(&v));
	assert_true(violations_end(&v, 0, 2, 7, &writes, &reads));
	assert_int_equal(writes, 2);
	assert_int_equal(reads, 7);
	assert_int_equal(violations_wait_ms(&v, 0), 1000);
	assert_int_equal(tell(&v, 1000, 2, 7), 0);
	/* Which was no event. */
	assert_true(violations_note(&v));
	assert_int_equal(violations_wait_ms(&v, 1001), 0);
}

#define VCPUS  3
#define ROUNDS 200000

struct storm {
	struct violations v;
	_Atomic uint64_t count, wakes;
};

static void *storm_run(void *arg)
{
	struct storm *s = arg;

	for (unsigned int i = 0; i < ROUNDS; i++) {
		s->count++;
		if (violations_note(&s->v))
			s->wakes++;
	}
	return NULL;
}

/* The main thread looks only when it was woken: all are told, with few wake-ups. */
static void test_none_is_lost(void **state)
{
	uint64_t told = 0, events = 0, seen = 0, now_ms = 0;
	pthread_t threads[VCPUS];
	struct storm s = {0};

	(void)state;
	for (unsigned int i = 0; i < VCPUS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, storm_run, &s), 0);
	while (told < VCPUS * ROUNDS) {
		uint64_t writes, reads;

		if (s.wakes == seen)
			continue;
		seen++;
		now_ms += violations_wait_ms(&s.v, now_ms);
		violations_begin(&s.v);
		if (!violations_end(&s.v, now_ms, s.count, 0, &writes, &reads))
			continue;
		told += writes;
		events++;
	}
	for (unsigned int i = 0; i < VCPUS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(told, VCPUS * ROUNDS);
	assert_true(events >= 1 && s.wakes <= seen + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pace),
		cmocka_unit_test(test_told_before),
		cmocka_unit_test(test_none_is_lost),
	};

	return cmocka_run_group_tests_name("violations", tests, NULL, NULL);
}
