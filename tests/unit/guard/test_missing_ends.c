/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory whose content comes later (guard/missing.h), and goes before: blocks that are unplugged and
 * plugged meanwhile, ends while somebody waits, and while somebody begins to.
 */
#include "tests/unit/guard/missing_rig.h"

#include <errno.h>
#include <semaphore.h>
#include <time.h>

/* ---- blocks come and go ---- */

static void check_unplug(struct world *w)
{
	struct vmem_guard *guard = w->host.guard;
	struct waiter waiter, other;

	if (!w->guarded)
		return;
	waiter_start(&waiter, w, 2 * BLOCK);
	waiter_start(&other, w, 4 * BLOCK);
	/* Between revoke and discard its content may still come, and the block be taken back. */
	assert_int_equal(vmem_guard_revoke(guard, BLOCK, 2 * BLOCK), 0);
	assert_int_equal(vmem_guard_grant(guard, BLOCK, 2 * BLOCK), 0);
	assert_int_equal(world_put(w, 2 * BLOCK, w->page), 0);
	assert_int_equal(waiter_end(&waiter), (unsigned char)content_of(2 * BLOCK));
	/* Now one waits, and the block goes. */
	waiter_start(&waiter, w, BLOCK);
	assert_int_equal(vmem_guard_revoke(guard, BLOCK, 2 * BLOCK), 0);
	assert_int_equal(vmem_guard_discard(guard, BLOCK, 2 * BLOCK), 0);
	waiter_end(&waiter);
	assert_int_equal(world_put(w, BLOCK, 2 * BLOCK), -ENOENT);
	assert_false(missing_is_expected(w->missing, w->area, BLOCK, w->page));
	if (!w->host.config.unprotected) {
		assert_int_equal(host_poke(&w->host, BLOCK), -EFAULT);
		assert_int_equal(host_pages(&w->host, BLOCK, 2 * BLOCK), 0);
	}
	/* Plugged again it is ordinary. */
	assert_int_equal(vmem_guard_grant(guard, BLOCK, BLOCK), 0);
	assert_int_equal(host_peek(&w->host, BLOCK), 0);
	assert_int_equal(host_poke(&w->host, BLOCK), 0);
	/* The rest goes on. */
	assert_int_equal(world_put(w, 3 * BLOCK, 2 * BLOCK), 0);
	assert_int_equal(waiter_end(&other), (unsigned char)content_of(4 * BLOCK));
	assert_int_equal(missing_settle(w->missing, w->area, 0, SIZE), 0);
}

static void test_unplug(void **state)
{
	(void)state;
	missing_rig_on_each(check_unplug);
}

/* Blocks come and go while pages are put and touched: nobody is stuck, nothing is left behind. */
static void check_churn(struct world *w)
{
	struct vmem_guard *guard = w->host.guard;
	struct waiter waiter;

	if (!w->guarded || w->host.config.unprotected)
		return;
	world_serve_start(w);
	for (unsigned int i = 0; i < 40; i++) {
		uint64_t block = (1 + i % 4) * BLOCK;

		waiter = (struct waiter){.w = w, .offset = block + i % 7 * PAGE};
		pthread_create(&waiter.thread, NULL, wait_there, &waiter);
		assert_int_equal(vmem_guard_revoke(guard, block, BLOCK), 0);
		assert_int_equal(vmem_guard_discard(guard, block, BLOCK), 0);
		assert_int_equal(host_pages(&w->host, block, BLOCK), 0);
		waiter_end(&waiter);
		assert_int_equal(host_poke(&w->host, block), -EFAULT);
		assert_int_equal(vmem_guard_grant(guard, block, BLOCK), 0);
		assert_int_equal(missing_expect(w->missing, w->area, block, BLOCK), 0);
	}
	world_serve_stop(w);
}

static void test_churn(void **state)
{
	(void)state;
	missing_rig_on_each(check_churn);
}

/* ---- the end ---- */

static void check_free_with_waiter(struct world *w)
{
	struct waiter waiter, other;

	waiter_start(&waiter, w, 2 * BLOCK);
	waiter_start(&other, w, 4 * BLOCK);
	missing_free(w->missing);
	w->missing = NULL;
	assert_int_equal(waiter_end(&waiter), 0);
	assert_int_equal(waiter_end(&other), 0);
}

static void test_free_with_waiter(void **state)
{
	(void)state;
	missing_rig_on_each(check_free_with_waiter);
}

static void check_fail(struct world *w)
{
	struct waiter waiter, other;

	waiter_start(&waiter, w, 2 * BLOCK);
	waiter_start(&other, w, 4 * BLOCK);
	assert_int_equal(missing_fail(w->missing), 0);
	assert_int_equal(waiter_end(&waiter), -EFAULT);
	assert_int_equal(waiter_end(&other), -EFAULT);
	/* Later, too; and nothing comes any more. */
	waiter = (struct waiter){.w = w, .offset = 3 * BLOCK};
	wait_there(&waiter);
	assert_int_equal(waiter.result, -EFAULT);
	assert_int_equal(world_put(w, 2 * BLOCK, w->page), -ENOENT);
	assert_int_equal(missing_settle(w->missing, w->area, 0, SIZE), 0);
	wait_there(&waiter);
	assert_int_equal(waiter.result, -EFAULT);
	/* What was not expected is as ever. */
	waiter.offset = 0;
	wait_there(&waiter);
	assert_int_equal(waiter.result, 0);
	if (!w->guarded || w->host.config.unprotected)
		return;
	assert_int_equal(vmem_guard_revoke(w->host.guard, BLOCK, 4 * BLOCK), 0);
	assert_int_equal(vmem_guard_discard(w->host.guard, BLOCK, 4 * BLOCK), 0);
	assert_int_equal(host_poke(&w->host, 2 * BLOCK), -EFAULT);
}

static void test_fail(void **state)
{
	(void)state;
	missing_rig_on_each(check_fail);
}

/* ---- the end, while somebody begins to wait ---- */

#define ENDINGS 1000

/* Threads that touch a page whenever the gate is opened. */
struct late {
	struct world *w;
	pthread_barrier_t gate;
	sem_t came;
};

static void *come_late(void *opaque)
{
	struct late *late = opaque;

	for (unsigned int i = 0; i < ENDINGS; i++) {
		pthread_barrier_wait(&late->gate);
		(void)*(volatile char *)(late->w->memory + BLOCK + i % 4 * late->w->page);
		sem_post(&late->came);
	}
	return NULL;
}

static void check_late(struct world *w)
{
	struct late late = {.w = w};
	pthread_t threads[TOUCHERS];
	struct timespec deadline;

	pthread_barrier_init(&late.gate, NULL, TOUCHERS + 1);
	sem_init(&late.came, 0, 0);
	for (unsigned int i = 0; i < TOUCHERS; i++)
		pthread_create(&threads[i], NULL, come_late, &late);
	for (unsigned int i = 0; i < ENDINGS; i++) {
		pthread_barrier_wait(&late.gate);
		assert_int_equal(missing_settle(w->missing, w->area, BLOCK, 4 * BLOCK), 0);
		clock_gettime(CLOCK_REALTIME, &deadline);
		deadline.tv_sec += 20;
		for (unsigned int came = 0; came < TOUCHERS; came++)
			assert_int_equal(sem_timedwait(&late.came, &deadline), 0);
		assert_int_equal(missing_expect(w->missing, w->area, BLOCK, 4 * BLOCK), 0);
		assert_int_equal(missing_forget(w->missing, w->area, BLOCK, 4 * BLOCK), 0);
	}
	for (unsigned int i = 0; i < TOUCHERS; i++)
		pthread_join(threads[i], NULL);
	sem_destroy(&late.came);
	pthread_barrier_destroy(&late.gate);
}

/* Nobody is left waiting. */
static void test_late(void **state)
{
	(void)state;
	missing_rig_on_each(check_late);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unplug),
		cmocka_unit_test(test_churn),
		cmocka_unit_test(test_free_with_waiter),
		cmocka_unit_test(test_fail),
		cmocka_unit_test(test_late),
	};

	return missing_rig_run("missing_ends", tests, ARRAY_SIZE(tests));
}
