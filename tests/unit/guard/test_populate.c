/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Faulting memory in: all of a run and nothing beside it, by any number of threads, with a look at
 * what the host has left before each piece; and every way in which the kernel declines.
 *
 * Linked with --wrap: the calls of the code come here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/num.h"
#include "guard/pages.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

#define PAGE 4096
#define STEP (8 * MIB) /* in one call of the kernel at most */

/* ---- the calls ---- */

static struct {
	_Atomic unsigned int advises, checks, threads, open_signals;
	_Atomic uint64_t advised; /* bytes */
	_Atomic uint64_t longest; /* of one call, in bytes */
	uint64_t check[64];       /* what was asked for, in order */
	unsigned int fail_advise, fail_for, fail_check, fail_thread; /* from 1; 0: none */
	int error;
	bool pretend; /* nothing is faulted in */
	pthread_t self;
} calls;

int __real_madvise(void *memory, size_t size, int advice);
int __wrap_madvise(void *memory, size_t size, int advice);
int __wrap_headroom_check(uint64_t size);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
			  void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
			  void *arg);

int __wrap_madvise(void *memory, size_t size, int advice)
{
	unsigned int n = ++calls.advises;
	sigset_t blocked;

	pthread_sigmask(SIG_SETMASK, NULL, &blocked);
	if (!pthread_equal(pthread_self(), calls.self) && !sigismember(&blocked, SIGALRM))
		calls.open_signals++;
	if (calls.fail_advise && n >= calls.fail_advise && n - calls.fail_advise < calls.fail_for) {
		errno = calls.error;
		return -1;
	}
	calls.advised += size;
	/* What another thread says at the same time is as long. */
	if (size > calls.longest)
		calls.longest = size;
	return calls.pretend ? 0 : __real_madvise(memory, size, advice);
}

int __wrap_headroom_check(uint64_t size)
{
	unsigned int n = ++calls.checks;

	if (n <= ARRAY_SIZE(calls.check))
		calls.check[n - 1] = size;
	return n == calls.fail_check ? -ENOMEM : 0;
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
			  void *arg)
{
	if (++calls.threads == calls.fail_thread)
		return EAGAIN;
	return __real_pthread_create(thread, attr, run, arg);
}

static void calls_start(void)
{
	memset(&calls, 0, sizeof(calls));
	calls.self = pthread_self();
}

static void calls_fail(unsigned int at, unsigned int times, int error)
{
	calls_start();
	calls.pretend = true;
	calls.fail_advise = at;
	calls.fail_for = times;
	calls.error = error;
}

/* ---- memory ---- */

/* From a multiple of 2 MiB on. */
static char *memory_new(uint64_t size)
{
	char *memory = mmap(NULL, size + 2 * MIB, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t before;

	assert_true(memory != MAP_FAILED);
	before = -(uintptr_t)memory & (2 * MIB - 1);
	munmap(memory + before + size, 2 * MIB - before);
	if (before)
		munmap(memory, before);
	memory += before;
	__real_madvise(memory, size, MADV_NOHUGEPAGE);
	return memory;
}

/* Pages that are there. */
static uint64_t present(const char *memory, uint64_t size)
{
	FILE *f = fopen("/proc/self/pagemap", "rb");
	uint64_t entry, pages = 0;

	assert_non_null(f);
	assert_int_equal(fseek(f, (long)((uintptr_t)memory / PAGE * sizeof(entry)), SEEK_SET), 0);
	for (uint64_t i = 0; i < size / PAGE; i++) {
		assert_int_equal(fread(&entry, sizeof(entry), 1, f), 1);
		pages += entry >> 63;
	}
	fclose(f);
	return pages;
}

static void need_kernel(void)
{
	if (__real_madvise(NULL, 0, MADV_POPULATE_WRITE) < 0) {
		print_message("this kernel has no MADV_POPULATE_WRITE\n");
		skip();
	}
}

static void test_all_of_the_run_and_no_more(void **state)
{
	static const struct {
		uint64_t offset, size;
		unsigned int threads;
	} runs[] = {
		{0, 16 * MIB, 1},
		{PAGE, 16 * MIB - 2 * PAGE, 3},
		{3 * PAGE, 7 * MIB, 2},
		{MIB, 2 * MIB, 64},
		{2 * MIB - PAGE, 2 * PAGE, 4},
		{5 * MIB, 9 * MIB + PAGE, 8},
		{PAGE, PAGE, 0},
		{0, 0, 4},
	};

	(void)state;
	need_kernel();
	for (unsigned int i = 0; i < ARRAY_SIZE(runs); i++) {
		char *memory = memory_new(16 * MIB);
		uint64_t end = runs[i].offset + runs[i].size;

		calls_start();
		assert_int_equal(
			pages_populate_run(memory + runs[i].offset, runs[i].size, runs[i].threads),
			0);
		assert_int_equal(present(memory + runs[i].offset, runs[i].size),
				 runs[i].size / PAGE);
		assert_int_equal(present(memory, runs[i].offset), 0);
		assert_int_equal(present(memory + end, 16 * MIB - end), 0);
		assert_int_equal(calls.advised, runs[i].size);
		assert_true(calls.threads < num_max(runs[i].threads, 1));
		assert_int_equal(calls.open_signals, 0);
		munmap(memory, 16 * MIB);
	}
}

/* One thread is the caller; a thread that cannot be had is done without. */
static void test_threads(void **state)
{
	char *memory = memory_new(64 * MIB);

	(void)state;
	need_kernel();
	calls_start();
	assert_int_equal(pages_populate_run(memory, 8 * MIB, 1), 0);
	assert_int_equal(calls.threads, 0);
	for (unsigned int fail = 0; fail < 5; fail++) {
		__real_madvise(memory, 64 * MIB, MADV_DONTNEED);
		calls_start();
		calls.fail_thread = fail;
		assert_int_equal(pages_populate_run(memory, 64 * MIB, 4), 0);
		assert_int_equal(present(memory, 64 * MIB), 64 * MIB / PAGE);
		assert_int_equal(calls.threads, fail > 0 && fail < 4 ? fail : 3);
		assert_int_equal(calls.open_signals, 0);
	}
	munmap(memory, 64 * MIB);
}

/* Before each piece of 256 MiB there is a look at what is left for it. */
static void test_pieces(void **state)
{
	char *memory = memory_new(2 * GIB);

	(void)state;
	calls_start();
	calls.pretend = true;
	assert_int_equal(pages_populate_run(memory, GIB + 3 * PAGE, 1), 0);
	assert_int_equal(calls.advised, GIB + 3 * PAGE);
	assert_int_equal(calls.advises, GIB / STEP + 1);
	assert_int_equal(calls.longest, STEP);
	assert_int_equal(calls.checks, 6);
	assert_int_equal(calls.check[0], GIB + 3 * PAGE);
	assert_int_equal(calls.check[1], 256 * MIB);
	assert_true(calls.check[calls.checks - 1] < 256 * MIB);
	/* Four at once: what is looked for is what all of them are about to take. */
	calls_start();
	calls.pretend = true;
	assert_int_equal(pages_populate_run(memory, 2 * GIB, 4), 0);
	assert_int_equal(calls.advised, 2 * GIB);
	assert_int_equal(calls.advises, 2 * GIB / STEP);
	assert_int_equal(calls.longest, STEP);
	assert_int_equal(calls.check[0], 2 * GIB);
	assert_int_equal(calls.check[1], 256 * MIB);
	/* Memory that is there needs page tables alone. */
	calls_start();
	calls.pretend = true;
	assert_int_equal(pages_map_run(memory, GIB, 1), 0);
	assert_in_range(calls.check[0], GIB / 512, GIB / 512 + GIB / 512 / 256);
	munmap(memory, 2 * GIB);
}

static void test_nothing_left(void **state)
{
	char *memory = memory_new(2 * GIB);

	(void)state;
	for (unsigned int fail = 1; fail < 6; fail++) {
		calls_start();
		calls.pretend = true;
		calls.fail_check = fail;
		assert_int_equal(pages_populate_run(memory, 2 * GIB, 1), -ENOMEM);
		assert_int_equal(calls.checks, fail);
		assert_int_equal(calls.advises, fail > 1 ? (fail - 2) * 256 * MIB / STEP : 0);
	}
	munmap(memory, 2 * GIB);
}

static void test_errors(void **state)
{
	static const struct {
		int error, result;
		unsigned int times, advises;
	} cases[] = {
		{EINTR, 0, 3, GIB / STEP + 3},
		{EAGAIN, 0, 3, GIB / STEP + 3},
		{EAGAIN, -ENOMEM, UINT32_MAX, 1002},
		{EFAULT, -ENOMEM, 1, 2},
		{EHWPOISON, -ENOMEM, 1, 2},
		{ENOMEM, -ENOMEM, 1, 2},
		{EINVAL, -EINVAL, 1, 2},
		{EPERM, -EPERM, 1, 2},
	};
	char *memory = memory_new(GIB);

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		calls_fail(2, cases[i].times, cases[i].error);
		assert_int_equal(pages_populate_run(memory, GIB, 1), cases[i].result);
		assert_int_equal(calls.advises, cases[i].advises);
	}
	munmap(memory, GIB);
}

/* When one thread fails the others do not go on to the end. */
static void test_all_threads_stop(void **state)
{
	const uint64_t size = TIB;
	char *memory =
		mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	(void)state;
	assert_true(memory != MAP_FAILED);
	calls_fail(9, UINT32_MAX, EFAULT);
	assert_int_equal(pages_populate_run(memory, size, 4), -ENOMEM);
	/* Eight were done, and each thread failed once at most. */
	assert_in_range(calls.advises, 9, 12);
	munmap(memory, size);
}

/* Huge pages that are not there are no signal. */
static void test_no_huge_pages(void **state)
{
	char *memory =
		mmap(NULL, 4 * GIB, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_HUGETLB | 30 << 26, -1, 0);

	(void)state;
	need_kernel();
	if (memory == MAP_FAILED) {
		print_message("no pages of 1 GiB here\n");
		skip();
	}
	calls_start();
	assert_int_equal(pages_populate_run(memory, 4 * GIB, 2), -ENOMEM);
	munmap(memory, 4 * GIB);
}

static void test_supported(void **state)
{
	(void)state;
	calls_start();
	assert_int_equal(pages_populate_supported(),
			 __real_madvise(NULL, 0, MADV_POPULATE_WRITE) == 0);
	calls_fail(1, 1, EINVAL);
	assert_false(pages_populate_supported());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_of_the_run_and_no_more),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_nothing_left),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_all_threads_stop),
		cmocka_unit_test(test_no_huge_pages),
		cmocka_unit_test(test_supported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
