/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest that runs before its memory is there (vmm/migration/lazy.h): threads and system calls
 * instead of vCPUs, sources that are slow, fail, or send.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vmem/guard.h>

#include "base/err.h"
#include "base/num.h"
#include "guard/missing.h"
#include "tests/unit/guard/guard_rig.h"
#include "tests/unit/guard/held.h"
#include "vmm/core/fault.h"
#include "vmm/migration/cancel.h"
#include "vmm/migration/image.h"
#include "vmm/migration/lazy.h"

#define BLOCK    (2 * MIB) /* of the device */
#define BOOT     (8 * MIB)
#define DEVICE   (16 * MIB)
#define BOOT_AT  0u
#define DEV_AT   1u
#define TOUCHERS 4

/* A machine: boot memory, and a device of which blocks 0 to 3 and 5 are plugged. */
struct world {
	struct host host;
	char *boot;
	int boot_fd, device_fd;
	bool boot_shared;
	struct lazy *lazy;
	struct lazy_source source;
	sem_t done, failed;
	char sentence[200];
	/* the source */
	pthread_mutex_t lock;
	sem_t asked;       /* somebody reads ... */
	sem_t *gate;       /* ... and waits for this, if it is there */
	uint64_t bad_page; /* of boot memory: reading it fails, + 1 */
	_Atomic uint64_t reads;
	/* a source that sends */
	struct {
		size_t block;
		uint64_t page, nr;
	} wants[4096];
	size_t nr_wants;
};

/* Every 8th run of 16 pages is zeros, and the 2 MiB from 4 MiB on. */
static bool has_content(uint64_t page)
{
	return page / 16 % 8 != 3 && page / 512 != 2;
}

static uint64_t content_of(size_t block, uint64_t page)
{
	return has_content(page) ? (page + 1) * 0x9e3779b97f4a7c15 + block : 0;
}

static void content_fill(size_t block, uint64_t page, uint64_t nr, void *buf)
{
	uint64_t *to = buf;

	for (uint64_t i = 0; i < nr * PAGE / 8; i++)
		to[i] = content_of(block, page + i / (PAGE / 8));
}

/* ---- the source that is asked ---- */

static uint64_t source_next(void *opaque, size_t block, uint64_t page, uint64_t end,
			    uint64_t *ret_nr)
{
	(void)opaque;
	(void)block;
	while (page < end && !has_content(page))
		page++;
	for (*ret_nr = 0; page + *ret_nr < end && has_content(page + *ret_nr);)
		++*ret_nr;
	return page;
}

static int source_read(void *opaque, size_t block, uint64_t page, uint64_t nr, void *buf,
		       struct err **err)
{
	struct world *w = opaque;

	w->reads++;
	if (w->gate) {
		sem_post(&w->asked);
		sem_wait(w->gate);
		sem_post(w->gate);
	}
	if (w->bad_page && block == BOOT_AT && page <= w->bad_page - 1 &&
	    w->bad_page - 1 < page + nr)
		return err_set(err, EINVAL, "page %llu is bad",
			       (unsigned long long)w->bad_page - 1);
	content_fill(block, page, nr, buf);
	return 0;
}

/* ---- the source that sends ---- */

static void source_want(void *opaque, size_t block, uint64_t page, uint64_t nr)
{
	struct world *w = opaque;

	pthread_mutex_lock(&w->lock);
	w->wants[w->nr_wants].block = block;
	w->wants[w->nr_wants].page = page;
	w->wants[w->nr_wants++].nr = nr;
	pthread_mutex_unlock(&w->lock);
	sem_post(&w->asked);
}

/* ---- the machine ---- */

static void hook_done(void *opaque)
{
	sem_post(&((struct world *)opaque)->done);
}

static void hook_failed(void *opaque, const char *sentence)
{
	struct world *w = opaque;

	snprintf(w->sentence, sizeof(w->sentence), "%s", sentence);
	sem_post(&w->failed);
}

enum memory { ANON, MEMFD, DISK };

static int memory_fd(enum memory memory, uint64_t size)
{
	char path[] = "/var/tmp/lazy-XXXXXX";
	int fd = -1;

	if (memory == MEMFD) {
		fd = memfd_create("lazy", MFD_CLOEXEC);
	} else if (memory == DISK) {
		fd = mkostemp(path, O_CLOEXEC);
		unlink(path);
	}
	if (memory != ANON)
		assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

static void world_expect(struct world *w)
{
	assert_int_equal(lazy_expect(w->lazy, BOOT_AT, 0, BOOT, NULL), 0);
	assert_int_equal(lazy_expect(w->lazy, DEV_AT, 0, 4 * BLOCK, NULL), 0);
	assert_int_equal(lazy_expect(w->lazy, DEV_AT, 5 * BLOCK, BLOCK, NULL), 0);
}

static void world_new(struct world *w, enum memory boot, enum memory device, bool asked)
{
	struct vmem_guard_config guard = {
		.size = DEVICE, .block_size = BLOCK, .memslot_size = 2 * BLOCK};
	struct lazy_block blocks[2] = {
		{.size = BOOT, .page_bytes = PAGE, .unit_bytes = PAGE},
		{.size = DEVICE, .page_bytes = PAGE, .unit_bytes = BLOCK},
	};
	const struct lazy_hooks hooks = {hook_done, hook_failed, w};

	memset(w, 0, sizeof(*w));
	fault_init();
	sem_init(&w->done, 0, 0);
	sem_init(&w->failed, 0, 0);
	sem_init(&w->asked, 0, 0);
	pthread_mutex_init(&w->lock, NULL);
	w->boot_fd = memory_fd(boot, BOOT);
	w->device_fd = memory_fd(device, DEVICE);
	w->boot = host_map(BOOT, w->boot_fd, 0);
	guard.memory = host_map(DEVICE, w->device_fd, 0);
	guard.fd = w->device_fd;
	assert_int_equal(host_start_on(&w->host, &guard), 0);
	assert_int_equal(vmem_guard_grant(w->host.guard, 0, 4 * BLOCK), 0);
	assert_int_equal(vmem_guard_grant(w->host.guard, 5 * BLOCK, BLOCK), 0);
	blocks[0].memory = w->boot;
	blocks[0].fd = w->boot_fd;
	blocks[1].memory = w->host.memory;
	blocks[1].fd = w->device_fd;
	blocks[1].guard = w->host.guard;
	w->source.opaque = w;
	if (asked) {
		w->source.next = source_next;
		w->source.read = source_read;
	} else {
		w->source.want = source_want;
	}
	assert_int_equal(lazy_new(blocks, 2, &w->source, &hooks, &w->lazy, NULL), 0);
}

static void world_end(struct world *w)
{
	lazy_free(w->lazy);
	host_end(&w->host);
	munmap(w->boot, BOOT);
	if (w->boot_fd >= 0)
		close(w->boot_fd);
	if (w->device_fd >= 0)
		close(w->device_fd);
	sem_destroy(&w->done);
	sem_destroy(&w->failed);
	sem_destroy(&w->asked);
	pthread_mutex_destroy(&w->lock);
}

static char *world_at(const struct world *w, size_t block, uint64_t page)
{
	return (block == BOOT_AT ? w->boot : w->host.memory) + page * PAGE;
}

static void check_pages(const struct world *w, size_t block, uint64_t page, uint64_t nr)
{
	uint64_t expected[PAGE / 8];

	for (; nr; page++, nr--) {
		content_fill(block, page, 1, expected);
		if (memcmp(world_at(w, block, page), expected, PAGE) != 0)
			fail_msg("block %zu page %llu is wrong", block, (unsigned long long)page);
	}
}

static void check_all(const struct world *w)
{
	check_pages(w, BOOT_AT, 0, BOOT / PAGE);
	check_pages(w, DEV_AT, 0, 4 * BLOCK / PAGE);
	check_pages(w, DEV_AT, 5 * BLOCK / PAGE, BLOCK / PAGE);
	assert_int_equal(host_poke(&w->host, 4 * BLOCK), -EFAULT);
	assert_int_equal(host_poke(&w->host, 6 * BLOCK), -EFAULT);
}

/* ---- threads that touch ---- */

struct toucher {
	struct world *w;
	pthread_t thread;
	unsigned int seed, wrong;
};

static void *touch(void *opaque)
{
	struct toucher *t = opaque;

	for (unsigned int i = 0; i < 500; i++) {
		size_t block = (size_t)rand_r(&t->seed) % 2;
		uint64_t page = (uint64_t)rand_r(&t->seed) % (BOOT / PAGE);
		volatile uint64_t *at = (volatile uint64_t *)world_at(t->w, block, page);

		t->wrong += at[i % 512] != content_of(block, page);
		at[i % 512] = content_of(block, page);
	}
	return NULL;
}

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

struct waiter {
	char *at;
	pthread_t thread;
	_Atomic int result; /* of a system call that reads there: the byte or -errno */
};

static void *wait_there(void *opaque)
{
	struct waiter *waiter = opaque;
	unsigned char byte = 0;
	int pipes[2];

	if (pipe(pipes) < 0)
		abort();
	waiter->result = write(pipes[1], waiter->at, 1) == 1 ? 0 : -errno;
	if (!waiter->result && read(pipes[0], &byte, 1) == 1)
		waiter->result = byte;
	close(pipes[0]);
	close(pipes[1]);
	return NULL;
}

static void waiter_start(struct waiter *waiter, char *at)
{
	*waiter = (struct waiter){.at = at, .result = -EINPROGRESS};
	pthread_create(&waiter->thread, NULL, wait_there, waiter);
}

static int waiter_end(struct waiter *waiter)
{
	pthread_join(waiter->thread, NULL);
	return waiter->result;
}

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
		cmocka_unit_test(test_touched),    cmocka_unit_test(test_zeros),
		cmocka_unit_test(test_stale),      cmocka_unit_test(test_slow),
		cmocka_unit_test(test_failing),    cmocka_unit_test(test_failing_at_once),
		cmocka_unit_test(test_cancelled),  cmocka_unit_test(test_abort),
		cmocka_unit_test(test_bad_runs),   cmocka_unit_test(test_without_right),
		cmocka_unit_test(test_sent),       cmocka_unit_test(test_sent_at_once),
		cmocka_unit_test(test_want_again), cmocka_unit_test(test_image),
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
