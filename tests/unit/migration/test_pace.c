/* SPDX-License-Identifier: BSD-3-Clause */
/* Paces: what passes in a time, and who is woken. Time is measured, never hoped for. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/num.h"
#include "channels.h"
#include "vmm/migration/pace.h"

static void test_no_limit(void **state)
{
	struct rig *rig = *state;
	struct pace *pace = pace_new(0, NULL);
	uint64_t waited = 0;

	for (int i = 0; i < 1000; i++)
		assert_int_equal(pace_take(pace, UINT64_MAX, rig->cancel, &waited), 0);
	assert_int_equal(waited, 0);
	assert_int_equal(pace_limit(pace), 0);
	cancel_raise(rig->cancel);
	assert_int_equal(pace_take(pace, 1, rig->cancel, NULL), -ECANCELED);
	pace_free(pace);
	pace_free(NULL);
}

/*
 * Never more than the limit, the burst and one request. True when it also waited no longer than it had
 * to: what waiting is worth was let through.
 */
static bool measure_rate(struct rig *rig, uint64_t limit, uint64_t request, uint64_t total)
{
	struct pace *pace = pace_new(limit, NULL);
	int64_t from = cancel_now_ms();
	uint64_t waited = 0, passed = 0, allowed = 0;

	while (passed < total) {
		assert_int_equal(pace_take(pace, request, rig->cancel, &waited), 0);
		passed += request;
		/* the clock's own grain is a millisecond */
		allowed = limit * (uint64_t)(cancel_now_ms() - from + 1 + PACE_BURST_MS) / 1000 +
			  request;
		assert_true(passed <= allowed);
	}
	pace_free(pace);
	return waited * limit / 1000 <= total + request + limit / 10;
}

/* A host that is busy may wake anybody late, but not each time. */
static void check_rate(struct rig *rig, uint64_t limit, uint64_t request, uint64_t total)
{
	for (int tries = 0; !measure_rate(rig, limit, request, total); tries++)
		assert_true(tries < 20);
}

static void test_rate(void **state)
{
	check_rate(*state, 10 * MIB, 64 * KIB, 4 * MIB);
	check_rate(*state, 1000, 10, 200);
	check_rate(*state, 100 * MIB, 8 * MIB, 32 * MIB);
	check_rate(*state, UINT64_MAX, 1 * MIB, 64 * MIB);
	check_rate(*state, 1, 1, 1);
}

struct taker {
	struct rig *rig;
	struct pace *pace;
	uint64_t bytes;
	_Atomic int tid;
	int ret;
	uint64_t waited;
};

static void *taker_run(void *opaque)
{
	struct taker *taker = opaque;

	taker->tid = gettid();
	taker->ret = pace_take(taker->pace, taker->bytes, taker->rig->cancel, &taker->waited);
	return NULL;
}

static void join_takers(struct rig *rig, struct pace *pace, struct taker *takers,
			pthread_t *threads, size_t nr)
{
	for (size_t i = 0; i < nr; i++) {
		takers[i] = (struct taker){.rig = rig, .pace = pace, .bytes = 1};
		assert_int_equal(pthread_create(&threads[i], NULL, taker_run, &takers[i]), 0);
	}
	for (size_t i = 0; i < nr; i++) {
		while (!takers[i].tid)
			sched_yield();
		rig_wait_asleep(takers[i].tid);
	}
}

/* One byte a second, and far too many of them are owed. */
static void start_takers(struct rig *rig, struct taker *takers, pthread_t *threads, size_t nr)
{
	struct pace *pace = pace_new(1, NULL);

	assert_int_equal(pace_take(pace, GIB, rig->cancel, NULL), 0);
	join_takers(rig, pace, takers, threads, nr);
}

static void check_takers(struct taker *takers, pthread_t *threads, size_t nr, int ret)
{
	for (size_t i = 0; i < nr; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(takers[i].ret, ret);
	}
	pace_free(takers[0].pace);
}

static void test_cancel(void **state)
{
	struct rig *rig = *state;
	struct taker takers[3];
	pthread_t threads[3];

	start_takers(rig, takers, threads, 3);
	cancel_raise(rig->cancel);
	check_takers(takers, threads, 3, -ECANCELED);
}

static void test_lift(void **state)
{
	struct taker takers[3];
	pthread_t threads[3];

	start_takers(*state, takers, threads, 3);
	pace_set(takers[0].pace, 0);
	check_takers(takers, threads, 3, 0);
}

/* Nobody waits, and what was owed before is owed afterwards: no less, and no more. */
static void test_suspend(void **state)
{
	struct rig *rig = *state;
	struct taker takers[3];
	pthread_t threads[3];
	struct pace *pace;

	start_takers(rig, takers, threads, 3);
	pace = takers[0].pace;
	pace_suspend(pace, true);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(pace_take(pace, UINT64_MAX, rig->cancel, NULL), 0);
	assert_int_equal(pace_limit(pace), 1);
	pace_suspend(pace, false);
	join_takers(rig, pace, takers, threads, 3);
	/* 3 GiB a second: less than what is owed, had the large one been counted */
	pace_set(pace, 3 * GIB);
	check_takers(takers, threads, 3, 0);
}

static void test_raise(void **state)
{
	struct taker takers[3];
	pthread_t threads[3];

	start_takers(*state, takers, threads, 3);
	/* what is owed is paid at the new rate: at once */
	pace_set(takers[0].pace, UINT64_C(1) << 50);
	check_takers(takers, threads, 3, 0);
}

/* A limit that comes after there was none owes nothing of before. */
static void test_begin(void **state)
{
	struct rig *rig = *state;
	struct pace *pace = pace_new(0, NULL);
	uint64_t waited = 0;

	assert_int_equal(pace_take(pace, GIB, rig->cancel, NULL), 0);
	pace_set(pace, 1);
	assert_int_equal(pace_limit(pace), 1);
	assert_int_equal(pace_take(pace, 1, rig->cancel, &waited), 0);
	assert_int_equal(waited, 0);
	pace_free(pace);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_no_limit, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_rate, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_cancel, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_lift, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_suspend, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_raise, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(test_begin, rig_setup, rig_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
