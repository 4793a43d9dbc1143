/* SPDX-License-Identifier: BSD-3-Clause */
/* Guest memory that the host cannot provide: accesses fail, nothing ends; other faults do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/core/gm_world.h"
#include "vmm/core/fault.h"

#define THREADS 4
#define ROUNDS  2000

/* Guest memory of a file of two pages, the second of which is cut off. */
struct half {
	struct gm *gm;
	char *memory;
	int fd;
	struct gm_region *region;
};

static void half_init(struct half *h)
{
	fault_init(); /* cmocka takes the signal anew for each test */
	h->fd = memfd_create("half", MFD_CLOEXEC);
	assert_true(h->fd >= 0);
	assert_int_equal(ftruncate(h->fd, 2 * BLOCK), 0);
	h->memory = mmap(NULL, 2 * BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, h->fd, 0);
	assert_ptr_not_equal(h->memory, MAP_FAILED);
	h->gm = gm_new();
	assert_non_null(h->gm);
	assert_int_equal(gm_add_device_memory(h->gm, (struct range){LOW, 2 * BLOCK}, h->memory,
					      BLOCK, &h->region),
			 0);
	gm_grant(h->region, 0, 2 * BLOCK);
	assert_int_equal(ftruncate(h->fd, BLOCK), 0);
}

static void half_done(struct half *h)
{
	gm_free(h->gm);
	munmap(h->memory, 2 * BLOCK);
	close(h->fd);
}

static void check_missing(struct half *h)
{
	uint64_t value = 7;
	char buf[64] = "x";

	assert_int_equal(gm_read(h->gm, LOW + BLOCK, buf, sizeof(buf)), -EFAULT);
	assert_int_equal(gm_read(h->gm, LOW + BLOCK, buf, 8), -EFAULT);
	assert_int_equal(gm_write(h->gm, LOW + BLOCK, buf, sizeof(buf)), -EFAULT);
	assert_int_equal(gm_write(h->gm, LOW + BLOCK, buf, 2), -EFAULT);
	assert_int_equal(gm_read(h->gm, LOW + BLOCK - 8, buf, 16), -EFAULT);
	/* From behind what other threads look at meanwhile: a part may be done. */
	assert_int_equal(gm_fill(h->gm, LOW + 64, 1, 2 * BLOCK - 64), -EFAULT);
	assert_int_equal(gm_load_acquire(h->gm, LOW + BLOCK, 8, &value), -EFAULT);
	assert_int_equal(gm_store_release(h->gm, LOW + BLOCK, 4, 1), -EFAULT);
	assert_int_equal(value, 7);
}

static void check_there(struct half *h)
{
	uint64_t value = 0;

	assert_int_equal(gm_store_release(h->gm, LOW + 8, 8, 42), 0);
	assert_int_equal(gm_load_acquire(h->gm, LOW + 8, 8, &value), 0);
	assert_int_equal(value, 42);
}

static void test_missing_page(void **state)
{
	struct half h;

	(void)state;
	half_init(&h);
	check_missing(&h);
	check_there(&h);
	/* No access is left behind that a revoke would wait for. */
	gm_revoke(h.region, 0, 2 * BLOCK);
	gm_grant(h.region, 0, 2 * BLOCK);
	assert_int_equal(ftruncate(h.fd, 2 * BLOCK), 0);
	assert_int_equal(gm_fill(h.gm, LOW, 1, 2 * BLOCK), 0);
	half_done(&h);
}

static void *access_often(void *opaque)
{
	for (int i = 0; i < ROUNDS; i++) {
		check_missing(opaque);
		check_there(opaque);
	}
	return NULL;
}

static void test_threads(void **state)
{
	pthread_t threads[THREADS];
	struct half h;

	(void)state;
	half_init(&h);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, access_often, &h), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	half_done(&h);
}

static int touch_another(void *opaque, void *memory, size_t size)
{
	(void)memory;
	(void)size;
	*(volatile char *)opaque = 1;
	return 0;
}

/* How a child ends that does @what, with the default action before ours. */
static int end_of_child(void (*what)(struct half *h), struct half *h)
{
	const struct rlimit no_core = {0, 0};
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (!child) {
		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGBUS, SIG_DFL);
		signal(SIGSEGV, SIG_DFL);
		fault_init();
		what(h);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void touch_outside(struct half *h)
{
	*(volatile char *)(h->memory + BLOCK) = 1;
}

static void touch_another_inside(struct half *h)
{
	fault_catch(touch_another, h->memory + BLOCK, h->memory, BLOCK);
}

static void send_signal(struct half *h)
{
	(void)h;
	kill(getpid(), SIGBUS);
}

static void touch_inside(struct half *h)
{
	char byte;

	if (gm_read(h->gm, LOW + BLOCK, &byte, 1) != -EFAULT)
		_exit(1);
}

/* What is not guest memory, or not touched by an access to it, ends the process as ever. */
static void test_other_faults(void **state)
{
	struct half h;

	(void)state;
	half_init(&h);
	assert_int_equal(end_of_child(touch_outside, &h), SIGBUS);
	assert_int_equal(end_of_child(touch_another_inside, &h), SIGBUS);
	assert_int_equal(end_of_child(send_signal, &h), SIGBUS);
	assert_int_equal(end_of_child(touch_inside, &h), 0);
	half_done(&h);
}

static void touch_protected(struct half *h)
{
	*(volatile char *)h->memory = 1;
}

/* Memory that nobody may touch any more: the same. */
static void test_protected(void **state)
{
	struct half h;
	char byte = 7;

	(void)state;
	half_init(&h);
	assert_int_equal(mprotect(h.memory, BLOCK, PROT_NONE), 0);
	assert_int_equal(gm_read(h.gm, LOW, &byte, 1), -EFAULT);
	assert_int_equal(gm_write(h.gm, LOW, &byte, 1), -EFAULT);
	assert_int_equal(end_of_child(touch_protected, &h), SIGSEGV);
	assert_int_equal(mprotect(h.memory, BLOCK, PROT_READ | PROT_WRITE), 0);
	check_there(&h);
	half_done(&h);
}

#if defined(__SANITIZE_THREAD__)
#define WITH_TSAN true
#elif defined(__has_feature)
#define WITH_TSAN __has_feature(thread_sanitizer)
#else
#define WITH_TSAN false
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_missing_page),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_other_faults),
		cmocka_unit_test(test_protected),
	};

	if (WITH_TSAN) {
		print_message(
			"the thread sanitizer calls handlers in one of its own, which cannot be "
			"left by a jump\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
