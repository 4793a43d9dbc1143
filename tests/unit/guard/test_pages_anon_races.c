/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A thread writes to and reads from memory through the kernel all the time, while it is opened,
 * closed, discarded, armed and disarmed: what is closed does not change, what is discarded holds
 * nothing, thousands of times.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "anon_rig.h"
#include "base/num.h"
#include "guard/anon.h"

#define ROUNDS 2000
#define PLACES 16 /* of a run, that are raced for */

/* A thread that writes to and reads from pages all over a run, one after the other. */
struct racer {
	const struct anon_rig *rig;
	uint64_t offset, size, stride;
	_Atomic bool stop;
	_Atomic uint64_t laps, written;
	uint64_t unread;          /* reads that failed */
	_Atomic uint64_t awaited; /* laps after which to post; 0: none */
	sem_t done;
	pthread_t thread;
};

static void *racer_run(void *opaque)
{
	struct racer *racer = opaque;
	uint64_t lap = 0;

	while (!racer->stop) {
		for (uint64_t at = 0; at < racer->size; at += racer->stride) {
			char byte;
			struct iovec local = {&byte, 1};
			struct iovec remote = {racer->rig->memory + racer->offset + at, 1};

			racer->written += rig_poke(racer->rig, racer->offset + at, 0xc3) == 0;
			racer->unread += process_vm_readv(getpid(), &local, 1, &remote, 1, 0) != 1;
		}
		racer->laps = ++lap;
		if (racer->awaited && racer->awaited <= lap) {
			racer->awaited = 0;
			sem_post(&racer->done);
		}
	}
	return NULL;
}

static void racer_start(struct racer *racer, const struct anon_rig *rig, uint64_t offset,
			uint64_t size)
{
	memset(racer, 0, sizeof(*racer));
	racer->rig = rig;
	racer->offset = offset;
	racer->size = size;
	racer->stride = num_max(PAGE, size / PLACES);
	assert_int_equal(sem_init(&racer->done, 0, 0), 0);
	assert_int_equal(pthread_create(&racer->thread, NULL, racer_run, racer), 0);
}

static void racer_stop(struct racer *racer)
{
	const struct anon *anon = container_of(racer->rig->pages, struct anon, pages);

	racer->stop = true;
	pthread_join(racer->thread, NULL);
	sem_destroy(&racer->done);
	/* Where tables have to be moved, armed blocks cannot be read for a moment when they open. */
	if (!racer->rig->pages->armed_segments || anon->fresh.discard_frees)
		assert_int_equal(racer->unread, 0);
}

/* Until the racer has been everywhere since now. */
static void racer_await_lap(struct racer *racer)
{
	racer->awaited = racer->laps + 2;
	sem_wait(&racer->done);
}

/* A run comes and goes under the racer. */
static void race_rounds(struct anon_rig *r, uint64_t offset, uint64_t size, unsigned int rounds)
{
	char *before = malloc(size);
	struct racer racer;

	assert_non_null(before);
	racer_start(&racer, r, offset, size);
	for (unsigned int i = 0; i < rounds; i++) {
		uint64_t written = racer.written;

		assert_int_equal(rig_open(r, offset, size), 0);
		racer_await_lap(&racer);
		assert_true(racer.written > written);
		assert_int_equal(rig_close(r, offset, size), 0);
		memcpy(before, r->memory + offset, size);
		racer_await_lap(&racer);
		assert_memory_equal(before, r->memory + offset, size);
		assert_int_equal(rig_discard(r, offset, size), 0);
		written = racer.written;
		racer_await_lap(&racer);
		assert_int_equal(racer.written, written);
		assert_int_equal(rig_pages(r, offset, size), 0);
		assert_true(rig_is_zero(r, offset, size));
	}
	racer_stop(&racer);
	free(before);
}

static void check_plain(uint64_t block, unsigned int rounds)
{
	struct anon_rig r;

	rig_start(&r, 16 * block, block, 16 * block, 0);
	assert_int_equal(rig_open(&r, 4 * block, block), 0);
	race_rounds(&r, 8 * block, block, rounds);
	race_rounds(&r, 3 * block, 3 * block, rounds / 4);
	assert_int_equal(r.pages->armed_segments, 0);
	rig_end(&r);
}

static void test_plain(void **state)
{
	(void)state;
	check_plain(4 * KIB, ROUNDS);
	check_plain(64 * KIB, ROUNDS);
	check_plain(2 * MIB, ROUNDS / 20);
}

static void test_plain_tables_moved(void **state)
{
	(void)state;
	anon_kernel_set((struct anon_kernel){.no_table_reclaim = true});
	check_plain(64 * KIB, ROUNDS / 4);
	check_plain(2 * MIB, ROUNDS / 40);
	anon_kernel_set((struct anon_kernel){.no_table_reclaim = true, .mergeable = true});
	check_plain(2 * MIB, ROUNDS / 40);
	anon_kernel_set((struct anon_kernel){0});
}

static void check_armed(uint64_t block, unsigned int rounds)
{
	struct anon_rig r;

	rig_start(&r, 32 * block, block, 16 * block, 2);
	rig_checkerboard(&r, 0, 16);
	assert_int_equal(r.pages->armed_segments, 1);
	race_rounds(&r, 8 * block, block, rounds);
	race_rounds(&r, 4 * block, 4 * block, rounds / 4);
	assert_int_equal(r.pages->armed_segments, 1);
	rig_end(&r);
}

static void test_armed(void **state)
{
	(void)state;
	if (!rig_can_arm())
		skip();
	check_armed(4 * KIB, ROUNDS);
	check_armed(64 * KIB, ROUNDS);
	check_armed(2 * MIB, ROUNDS / 20);
}

static void test_armed_tables_moved(void **state)
{
	(void)state;
	if (!rig_can_arm())
		skip();
	anon_kernel_set((struct anon_kernel){.no_table_reclaim = true});
	check_armed(64 * KIB, ROUNDS / 4);
	check_armed(2 * MIB, ROUNDS / 20);
	anon_kernel_set((struct anon_kernel){0});
}

/* Closed blocks under attack while their segment is armed and becomes plain again. */
static void test_arming(void **state)
{
	const uint64_t block = 64 * KIB;
	unsigned int armed = 0;
	struct racer racer;
	struct anon_rig r;

	(void)state;
	if (!rig_can_arm())
		skip();
	rig_start(&r, 64 * block, block, 32 * block, 3);
	racer_start(&racer, &r, 8 * block, 8 * block);
	for (unsigned int i = 0; i < ROUNDS / 2; i++) {
		for (uint64_t k = 0; k < 6; k++)
			assert_int_equal(
				rig_open(&r, (k < 3 ? 1 + 2 * k : 17 + 2 * k) * block, block), 0);
		armed += r.pages->armed_segments;
		racer_await_lap(&racer);
		assert_int_equal(rig_pages(&r, 8 * block, 8 * block), 0);
		assert_int_equal(rig_close(&r, 0, 64 * block), 0);
		assert_int_equal(rig_discard(&r, 0, 64 * block), 0);
		assert_int_equal(r.pages->armed_segments, 0);
		assert_int_equal(rig_pages(&r, 8 * block, 8 * block), 0);
	}
	assert_int_equal(racer.written, 0);
	racer_stop(&racer);
	assert_int_equal(armed, ROUNDS / 2);
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),  cmocka_unit_test(test_plain_tables_moved),
		cmocka_unit_test(test_armed),  cmocka_unit_test(test_armed_tables_moved),
		cmocka_unit_test(test_arming),
	};

	if (!rig_can_count())
		return 77;
	return cmocka_run_group_tests_name("pages_anon_races", tests, NULL, NULL);
}
