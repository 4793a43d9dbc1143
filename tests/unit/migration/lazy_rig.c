/* SPDX-License-Identifier: BSD-3-Clause */
/* See lazy_rig.h. */
#include "tests/unit/migration/lazy_rig.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vmem/guard.h>

#include "base/err.h"
#include "vmm/core/fault.h"

bool has_content(uint64_t page)
{
	return page / 16 % 8 != 3 && page / 512 != 2;
}

uint64_t content_of(size_t block, uint64_t page)
{
	return has_content(page) ? (page + 1) * 0x9e3779b97f4a7c15 + block : 0;
}

void content_fill(size_t block, uint64_t page, uint64_t nr, void *buf)
{
	uint64_t *to = buf;

	for (uint64_t i = 0; i < nr * PAGE / 8; i++)
		to[i] = content_of(block, page + i / (PAGE / 8));
}

/* ---- the source that is asked ---- */

uint64_t source_next(void *opaque, size_t block, uint64_t page, uint64_t end, uint64_t *ret_nr)
{
	(void)opaque;
	(void)block;
	while (page < end && !has_content(page))
		page++;
	for (*ret_nr = 0; page + *ret_nr < end && has_content(page + *ret_nr);)
		++*ret_nr;
	return page;
}

int source_read(void *opaque, size_t block, uint64_t page, uint64_t nr, void *buf, struct err **err)
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

void hook_done(void *opaque)
{
	sem_post(&((struct world *)opaque)->done);
}

void hook_failed(void *opaque, const char *sentence)
{
	struct world *w = opaque;

	snprintf(w->sentence, sizeof(w->sentence), "%s", sentence);
	sem_post(&w->failed);
}

int memory_fd(enum memory memory, uint64_t size)
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

void world_expect(struct world *w)
{
	assert_int_equal(lazy_expect(w->lazy, BOOT_AT, 0, BOOT, NULL), 0);
	assert_int_equal(lazy_expect(w->lazy, DEV_AT, 0, 4 * BLOCK, NULL), 0);
	assert_int_equal(lazy_expect(w->lazy, DEV_AT, 5 * BLOCK, BLOCK, NULL), 0);
}

void world_new(struct world *w, enum memory boot, enum memory device, bool asked)
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

void world_end(struct world *w)
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

char *world_at(const struct world *w, size_t block, uint64_t page)
{
	return (block == BOOT_AT ? w->boot : w->host.memory) + page * PAGE;
}

void check_pages(const struct world *w, size_t block, uint64_t page, uint64_t nr)
{
	uint64_t expected[PAGE / 8];

	for (; nr; page++, nr--) {
		content_fill(block, page, 1, expected);
		if (memcmp(world_at(w, block, page), expected, PAGE) != 0)
			fail_msg("block %zu page %llu is wrong", block, (unsigned long long)page);
	}
}

void check_all(const struct world *w)
{
	check_pages(w, BOOT_AT, 0, BOOT / PAGE);
	check_pages(w, DEV_AT, 0, 4 * BLOCK / PAGE);
	check_pages(w, DEV_AT, 5 * BLOCK / PAGE, BLOCK / PAGE);
	assert_int_equal(host_poke(&w->host, 4 * BLOCK), -EFAULT);
	assert_int_equal(host_poke(&w->host, 6 * BLOCK), -EFAULT);
}

/* ---- threads that touch ---- */

void *touch(void *opaque)
{
	struct toucher *t = opaque;

	for (unsigned int i = 0; i < 500; i++) {
		size_t block = (size_t)rand_r(&t->seed) % 2;
		uint64_t page = (uint64_t)rand_r(&t->seed) % (BOOT / PAGE);
		uint64_t *at = (uint64_t *)world_at(t->w, block, page) + i % 512;

		/* Others may touch the same. */
		t->wrong += __atomic_load_n(at, __ATOMIC_RELAXED) != content_of(block, page);
		__atomic_store_n(at, content_of(block, page), __ATOMIC_RELAXED);
	}
	return NULL;
}

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

void waiter_start(struct waiter *waiter, char *at)
{
	*waiter = (struct waiter){.at = at, .result = -EINPROGRESS};
	pthread_create(&waiter->thread, NULL, wait_there, waiter);
}

int waiter_end(struct waiter *waiter)
{
	pthread_join(waiter->thread, NULL);
	return waiter->result;
}
