/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest that runs before its memory is there (vmm/migration/lazy.h): threads and system calls
 * instead of vCPUs, sources that are slow or fail. test_lazy_sent.c has those that send.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vmem/guard.h>

#include "base/err.h"
#include "guard/missing.h"
#include "tests/unit/guard/held.h"
#include "tests/unit/migration/lazy_rig.h"
#include "vmm/core/fault.h"
#include "vmm/migration/cancel.h"
#include "vmm/migration/image.h"

static void check_touched(enum memory boot, enum memory device)
{
	struct toucher touchers[TOUCHERS];
	struct lazy_stats stats;
	struct world w;

	world_new(&w, boot, device, true);
	world_expect(&w);
	assert_int_equal(lazy_start(w.lazy, NULL, NULL), 0);
	for (unsigned int i = 0; i < TOUCHERS; i++) {
		touchers[i] = (struct toucher){.w = &w, .seed = i};
		pthread_create(&touchers[i].thread, NULL, touch, &touchers[i]);
	}
	for (unsigned int i = 0; i < TOUCHERS; i++) {
		pthread_join(touchers[i].thread, NULL);
		assert_int_equal(touchers[i].wrong, 0);
	}
	sem_wait(&w.done);
	assert_false(lazy_is_active(w.lazy));
	lazy_stats(w.lazy, &stats);
	assert_int_equal(stats.missing_bytes, 0);
	assert_true(stats.total_bytes > 10 * MIB && stats.total_bytes < BOOT + 5 * BLOCK);
	assert_int_equal(stats.at_once_bytes > 0, boot == DISK || device == DISK);
	assert_int_equal(stats.at_once_reason != NULL, stats.at_once_bytes > 0);
	check_all(&w);
	world_end(&w);
}

static void test_touched(void **state)
{
	(void)state;
	check_touched(ANON, ANON);
	check_touched(MEMFD, MEMFD);
	check_touched(ANON, DISK);
	check_touched(DISK, ANON);
	check_touched(DISK, DISK);
}

/* Zeros take no memory, and nothing is read for them. */
static void test_zeros(void **state)
{
	struct world w;

	(void)state;
	world_new(&w, ANON, ANON, true);
	world_expect(&w);
	assert_int_equal(lazy_start(w.lazy, NULL, NULL), 0);
	sem_wait(&w.done);
	assert_int_equal(held_pages(w.boot + 4 * MIB, 2 * MIB, false), 0);
	assert_int_equal(host_pages(&w.host, 2 * BLOCK, BLOCK), 0);
	check_all(&w);
	world_end(&w);
}

/* Memory that was something before, and that is to be there in advance. */
static void test_stale(void **state)
{
	struct world w = {.bad_page = 0};
	const struct lazy_hooks hooks = {hook_done, NULL, &w};
	const struct lazy_source source = {.next = source_next, .read = source_read};

	(void)state;
	sem_init(&w.done, 0, 0);
	for (unsigned int i = 0; i < 4; i++) {
		bool shared = i & 1, populate = i & 2;
		int fd = memory_fd(shared ? MEMFD : ANON, BOOT);
		struct lazy_block block = {.size = BOOT,
					   .page_bytes = PAGE,
					   .unit_bytes = PAGE,
					   .fd = fd,
					   .populate = populate};
		struct lazy_source of_this = source;

		of_this.opaque = &w;
		w.boot = block.memory = host_map(BOOT, fd, 0);
		memset(w.boot, 7, BOOT);
		assert_int_equal(lazy_new(&block, 1, &of_this, &hooks, &w.lazy, NULL), 0);
		assert_int_equal(lazy_expect(w.lazy, 0, 0, BOOT, NULL), 0);
		assert_int_equal(lazy_start(w.lazy, NULL, NULL), 0);
		check_pages(&w, BOOT_AT, 0, BOOT / PAGE);
		sem_wait(&w.done);
		lazy_free(w.lazy);
		check_pages(&w, BOOT_AT, 0, BOOT / PAGE);
		if (populate)
			assert_int_equal(held_pages(w.boot, BOOT, shared), BOOT / PAGE);
		munmap(w.boot, BOOT);
		if (fd >= 0)
			close(fd);
	}
}

/* ---- sources that are slow, or fail ---- */

/* While nothing comes: the calls of the main thread return, zeros are seen, blocks come and go. */
static void test_slow(void **state)
{
	struct waiter waiter, other;
	struct lazy_stats stats;
	struct world w;
	sem_t gate;

	(void)state;
	sem_init(&gate, 0, 0);
	world_new(&w, ANON, MEMFD, true);
	w.gate = &gate;
	world_expect(&w);
	assert_int_equal(lazy_start(w.lazy, NULL, NULL), 0);
	waiter_start(&other, w.boot + 4 * MIB); /* a page of zeros */
	assert_int_equal(waiter_end(&other), 0);
	waiter_start(&waiter, w.boot + 6 * MIB);
	sem_wait(&w.asked);
	sem_wait(&w.asked); /* both threads read */
	assert_true(lazy_is_active(w.lazy));
	assert_false(lazy_is_stalled(w.lazy));
	lazy_set_stalled(w.lazy, true);
	assert_true(lazy_is_stalled(w.lazy));
	lazy_stats(w.lazy, &stats);
	assert_int_equal(stats.missing_bytes, stats.total_bytes);
	assert_int_equal(waiter.result, -EINPROGRESS);
	/* A block goes, with one who waits for it. */
	waiter_start(&other, w.host.memory + BLOCK);
	assert_int_equal(vmem_guard_revoke(w.host.guard, BLOCK, BLOCK), 0);
	assert_int_equal(vmem_guard_discard(w.host.guard, BLOCK, BLOCK), 0);
	/* Before the block was empty, or after. */
	if (waiter_end(&other))
		assert_int_equal(other.result, -EFAULT);
	assert_int_equal(vmem_guard_grant(w.host.guard, BLOCK, BLOCK), 0);
	assert_int_equal(host_peek(&w.host, BLOCK), 0);
	sem_post(&gate);
	assert_int_equal(waiter_end(&waiter), (unsigned char)content_of(BOOT_AT, 6 * MIB / PAGE));
	sem_wait(&w.done);
	/* It stays zeros. */
	for (uint64_t at = BLOCK; at < 2 * BLOCK; at += PAGE)
		assert_int_equal(w.host.memory[at], 0);
	check_pages(&w, DEV_AT, 0, BLOCK / PAGE);
	check_pages(&w, BOOT_AT, 0, BOOT / PAGE);
	world_end(&w);
	sem_destroy(&gate);
}

static int read_byte(void *opaque, void *memory, size_t size)
{
	(void)size;
	*(char *)opaque = *(volatile char *)memory;
	return 0;
}

/* The guest's access fails, and so does everybody's; what was there before still is. */
static void test_failing(void **state)
{
	struct waiter waiter;
	struct world w;
	char byte;

	(void)state;
	world_new(&w, ANON, ANON, true);
	w.bad_page = 1900 + 1;
	world_expect(&w);
	assert_int_equal(lazy_start(w.lazy, NULL, NULL), 0);
	waiter_start(&waiter, w.boot + 1900 * PAGE);
	sem_wait(&w.failed);
	assert_int_equal(waiter_end(&waiter), -EFAULT);
	assert_string_equal(w.sentence, "page 1900 is bad");
	assert_false(lazy_is_active(w.lazy));
	assert_int_equal(fault_catch(read_byte, &byte, w.boot + 1900 * PAGE, PAGE), -EFAULT);
	assert_int_equal(sem_trywait(&w.done), -1);
	assert_int_equal(sem_trywait(&w.failed), -1); /* once */
	world_end(&w);
}

/* What is loaded before the start fails there. */
static void test_failing_at_once(void **state)
{
	struct err *err = NULL;
	struct world w;

	(void)state;
	world_new(&w, DISK, ANON, true);
	w.bad_page = 900 + 1;
	world_expect(&w);
	assert_int_equal(lazy_start(w.lazy, NULL, &err), -EINVAL);
	assert_string_equal(err_message(err), "page 900 is bad");
	err_free(err);
	assert_false(lazy_is_active(w.lazy));
	world_end(&w);
}

static void test_cancelled(void **state)
{
	struct cancel *cancel = cancel_new(NULL);
	struct err *err = NULL;
	struct world w;

	(void)state;
	world_new(&w, DISK, ANON, true);
	world_expect(&w);
	cancel_raise(cancel);
	assert_int_equal(lazy_start(w.lazy, cancel, &err), -ECANCELED);
	assert_null(err);
	world_end(&w);
	world_new(&w, DISK, ANON, false);
	world_expect(&w);
	assert_int_equal(lazy_expect_pages(w.lazy, BOOT_AT, 0, 10, NULL), 0);
	assert_int_equal(lazy_start(w.lazy, cancel, &err), -ECANCELED);
	assert_null(err);
	world_end(&w);
	cancel_free(cancel);
}

/* The machine ends while somebody waits. */
static void test_abort(void **state)
{
	struct waiter waiter, other;
	struct world w;
	sem_t gate;

	(void)state;
	sem_init(&gate, 0, 0);
	world_new(&w, ANON, ANON, true);
	w.gate = &gate;
	world_expect(&w);
	assert_int_equal(lazy_start(w.lazy, NULL, NULL), 0);
	waiter_start(&waiter, w.boot);
	waiter_start(&other, w.host.memory + 3 * BLOCK);
	sem_wait(&w.asked);
	lazy_abort(w.lazy);
	assert_int_equal(waiter_end(&waiter), -EFAULT);
	assert_int_equal(waiter_end(&other), -EFAULT);
	assert_int_equal(sem_trywait(&w.failed), -1);
	sem_post(&gate);
	world_end(&w);
	sem_destroy(&gate);
}

/* A process without the right to a userfaultfd: everything is loaded at once, and why is known. */
static int run_without_right(void)
{
	struct lazy_stats stats;
	struct missing *missing;
	struct vmem_error error;
	struct world w;

	if (setgid(65534) || setuid(65534))
		return 2;
	if (!missing_new(&missing, &error))
		return 77;
	if (!strstr(error.text, "vm.unprivileged_userfaultfd"))
		return 3;
	world_new(&w, ANON, MEMFD, true);
	memset(w.boot, 7, 5 * MIB); /* it may have been something before */
	world_expect(&w);
	assert_int_equal(lazy_start(w.lazy, NULL, NULL), 0);
	check_all(&w);
	sem_wait(&w.done);
	lazy_stats(w.lazy, &stats);
	assert_string_equal(stats.at_once_reason, error.text);
	assert_int_equal(stats.missing_bytes, 0);
	assert_int_equal(stats.at_once_bytes, stats.total_bytes);
	world_end(&w);
	return 0;
}

static void test_without_right(void **state)
{
	int status;
	pid_t child;

	(void)state;
	if (getuid())
		skip();
	child = fork();
	assert_true(child >= 0);
	if (!child)
		_exit(run_without_right());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip(); /* everybody may have one */
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- an image ---- */

static void test_image(void **state)
{
	const uint64_t bytes[2] = {BOOT, DEVICE};
	struct image_writer *writer;
	struct image *image;
	struct world w;
	char buf[PAGE];
	int fd = memfd_create("image", MFD_CLOEXEC);

	(void)state;
	assert_int_equal(image_writer_new(fd, 0, "image", 1, bytes, 2, &writer, NULL), 0);
	for (size_t block = 0; block < 2; block++)
		for (uint64_t page = 0; page < bytes[block] / PAGE; page++) {
			content_fill(block, page, 1, buf);
			if (has_content(page))
				assert_int_equal(
					image_write_pages(writer, block, page, 1, buf, NULL), 0);
		}
	assert_int_equal(image_writer_finish(writer, NULL), 0);
	image_writer_free(writer);
	assert_int_equal(image_open(fd, 0, "image", &image, NULL), 0);
	world_new(&w, ANON, MEMFD, true);
	/* The machine again, with the image as its source. */
	lazy_free(w.lazy);
	{
		const struct lazy_block blocks[2] = {
			{.memory = w.boot,
			 .size = BOOT,
			 .page_bytes = PAGE,
			 .fd = -1,
			 .unit_bytes = PAGE},
			{.memory = w.host.memory,
			 .size = DEVICE,
			 .page_bytes = PAGE,
			 .fd = w.device_fd,
			 .unit_bytes = BLOCK,
			 .guard = w.host.guard},
		};
		const struct lazy_source source = lazy_source_of_image(image);
		const struct lazy_hooks hooks = {hook_done, hook_failed, &w};

		assert_int_equal(lazy_new(blocks, 2, &source, &hooks, &w.lazy, NULL), 0);
	}
	world_expect(&w);
	assert_int_equal(lazy_start(w.lazy, NULL, NULL), 0);
	check_all(&w);
	sem_wait(&w.done);
	check_all(&w);
	world_end(&w);
	image_close(image);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_touched),       cmocka_unit_test(test_zeros),
		cmocka_unit_test(test_stale),         cmocka_unit_test(test_slow),
		cmocka_unit_test(test_failing),       cmocka_unit_test(test_failing_at_once),
		cmocka_unit_test(test_cancelled),     cmocka_unit_test(test_abort),
		cmocka_unit_test(test_without_right), cmocka_unit_test(test_image),
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
