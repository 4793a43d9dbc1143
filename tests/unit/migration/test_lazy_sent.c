/* SPDX-License-Identifier: BSD-3-Clause */
/* A guest that runs before its memory is there (vmm/migration/lazy.h), which a source sends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <vmem/guard.h>

#include "base/err.h"
#include "guard/missing.h"
#include "tests/unit/migration/lazy_rig.h"

static void test_bad_runs(void **state)
{
	struct err *err = NULL;
	struct world w;

	(void)state;
	world_new(&w, ANON, ANON, false);
	world_expect(&w);
	assert_int_equal(lazy_expect(w.lazy, DEV_AT, 6 * BLOCK, 3 * BLOCK, &err), -EINVAL);
	err_free(err);
	assert_int_equal(lazy_expect(w.lazy, DEV_AT, BLOCK, BLOCK, NULL), -EEXIST);
	assert_int_equal(lazy_expect(w.lazy, BOOT_AT, 100, PAGE, NULL), -EINVAL);
	/* Not plugged. */
	assert_int_equal(lazy_expect_pages(w.lazy, DEV_AT, 4 * BLOCK / PAGE - 1, 2, NULL), -EINVAL);
	assert_int_equal(lazy_expect_pages(w.lazy, DEV_AT, 4 * BLOCK / PAGE, 1, NULL), -EINVAL);
	assert_int_equal(lazy_put(w.lazy, 2, 0, 1, NULL, NULL), -EINVAL);
	assert_int_equal(lazy_put(w.lazy, BOOT_AT, BOOT / PAGE, 1, NULL, NULL), -EINVAL);
	assert_int_equal(lazy_put(w.lazy, BOOT_AT, 0, UINT64_MAX, NULL, NULL), -EINVAL);
	world_end(&w);
}

/* ---- a source that sends ---- */

static void put(struct world *w, size_t block, uint64_t page, uint64_t nr)
{
	char *buf = malloc(nr * PAGE);

	content_fill(block, page, nr, buf);
	assert_int_equal(lazy_put(w->lazy, block, page, nr, buf, NULL), 0);
	free(buf);
}

/* What came before is there, what was changed since comes anew. */
static void check_sent(enum memory boot, enum memory device)
{
	struct toucher touchers[TOUCHERS];
	uint64_t nr, page;
	struct world w;

	world_new(&w, boot, device, false);
	for (uint64_t i = 0; i < BOOT / PAGE; i++) {
		content_fill(BOOT_AT, i, 1, world_at(&w, BOOT_AT, i));
		content_fill(DEV_AT, i, 1, world_at(&w, DEV_AT, i));
	}
	content_fill(DEV_AT, 5 * BLOCK / PAGE, BLOCK / PAGE,
		     world_at(&w, DEV_AT, 5 * BLOCK / PAGE));
	for (uint64_t i = 0; i < 20; i++) {
		memset(world_at(&w, BOOT_AT, 50 * i), 9, 3 * PAGE);
		memset(world_at(&w, DEV_AT, 60 * i), 9, 7 * PAGE);
	}
	world_expect(&w);
	for (uint64_t i = 0; i < 20; i++) {
		assert_int_equal(lazy_expect_pages(w.lazy, BOOT_AT, 50 * i, 3, NULL), 0);
		assert_int_equal(lazy_expect_pages(w.lazy, DEV_AT, 60 * i, 7, NULL), 0);
	}
	assert_int_equal(lazy_next_missing(w.lazy, DEV_AT, 8, 200, &nr), 60);
	assert_int_equal(nr, 7);
	assert_int_equal(lazy_start(w.lazy, NULL, NULL), 0);
	for (unsigned int i = 0; i < TOUCHERS; i++) {
		touchers[i] = (struct toucher){.w = &w, .seed = i};
		pthread_create(&touchers[i].thread, NULL, touch, &touchers[i]);
	}
	/* What is wanted first; then, without being wanted, the rest. */
	for (unsigned int i = 0; i < 10; i++) {
		sem_wait(&w.asked);
		pthread_mutex_lock(&w.lock);
		put(&w, w.wants[i].block, w.wants[i].page, w.wants[i].nr);
		pthread_mutex_unlock(&w.lock);
	}
	for (size_t block = 0; block < 2; block++)
		while ((page = lazy_next_missing(w.lazy, block, 0, BOOT / PAGE, &nr)) < BOOT / PAGE)
			put(&w, block, page, nr);
	for (unsigned int i = 0; i < TOUCHERS; i++) {
		pthread_join(touchers[i].thread, NULL);
		assert_int_equal(touchers[i].wrong, 0);
	}
	sem_wait(&w.done);
	/* What comes twice changes nothing. */
	w.boot[0] = 1;
	put(&w, BOOT_AT, 0, 1);
	assert_int_equal(w.boot[0], 1);
	content_fill(BOOT_AT, 0, 1, w.boot);
	check_all(&w);
	world_end(&w);
}

static void test_sent(void **state)
{
	(void)state;
	check_sent(ANON, ANON);
	check_sent(MEMFD, MEMFD);
	check_sent(ANON, MEMFD);
}

/* What cannot be waited for is asked for before the start, which waits for it. */
static void *start(void *opaque)
{
	struct world *w = opaque;

	return (void *)(intptr_t)lazy_start(w->lazy, NULL, NULL);
}

static void test_sent_at_once(void **state)
{
	pthread_t thread;
	struct world w;
	void *ret;

	(void)state;
	world_new(&w, DISK, ANON, false);
	world_expect(&w);
	assert_int_equal(lazy_expect_pages(w.lazy, BOOT_AT, 700, 20, NULL), 0);
	assert_int_equal(lazy_expect_pages(w.lazy, DEV_AT, 1, 2, NULL), 0);
	pthread_create(&thread, NULL, start, &w);
	sem_wait(&w.asked);
	assert_int_equal(w.wants[0].block, BOOT_AT);
	assert_int_equal(w.wants[0].page, 700);
	assert_int_equal(w.wants[0].nr, 20);
	put(&w, BOOT_AT, 700, 5);
	assert_false(lazy_is_active(w.lazy));
	put(&w, BOOT_AT, 690, 40);
	pthread_join(thread, &ret);
	assert_ptr_equal(ret, NULL);
	assert_true(lazy_is_active(w.lazy));
	check_pages(&w, BOOT_AT, 700, 20);
	put(&w, DEV_AT, 0, 10);
	sem_wait(&w.done);
	check_pages(&w, DEV_AT, 1, 2);
	world_end(&w);
}

/* After a break what was wanted is wanted again. */
static void test_want_again(void **state)
{
	struct waiter waiter;
	struct world w;

	(void)state;
	world_new(&w, ANON, ANON, false);
	world_expect(&w);
	assert_int_equal(lazy_expect_pages(w.lazy, BOOT_AT, 100, 50, NULL), 0);
	assert_int_equal(lazy_start(w.lazy, NULL, NULL), 0);
	waiter_start(&waiter, world_at(&w, BOOT_AT, 120));
	sem_wait(&w.asked);
	assert_int_equal(w.wants[0].page, 120);
	lazy_set_stalled(w.lazy, true);
	lazy_set_stalled(w.lazy, false);
	lazy_want_again(w.lazy);
	sem_wait(&w.asked);
	assert_int_equal(w.wants[1].block, BOOT_AT);
	assert_int_equal(w.wants[1].page, 120);
	assert_int_equal(w.wants[1].nr, 1);
	put(&w, BOOT_AT, 100, 50);
	assert_int_equal(waiter_end(&waiter), (unsigned char)content_of(BOOT_AT, 120));
	sem_wait(&w.done);
	world_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bad_runs),
		cmocka_unit_test(test_sent),
		cmocka_unit_test(test_sent_at_once),
		cmocka_unit_test(test_want_again),
	};
	struct missing *missing;
	struct vmem_error error;

	if (missing_new(&missing, &error)) {
		print_message("%s\n", error.text);
		return 77;
	}
	missing_free(missing);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
