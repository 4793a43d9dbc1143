/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory whose content comes later (guard/missing.h), on every kind of memory that there is here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "guard/missing.h"
#include "tests/unit/guard/file_rig.h"
#include "tests/unit/guard/guard_rig.h"
#include "tests/unit/guard/held.h"

#define BLOCKS   8
#define BLOCK    (2 * MIB)
#define SIZE     (BLOCKS * BLOCK)
#define TOUCHERS 4
#define ANON     (-1) /* instead of a kind of file */

/* Memory that is expected, and who serves its faults. */
struct world {
	struct host host;
	struct missing *missing;
	size_t area;
	char *memory;
	int fd;
	uint64_t page;
	bool guarded;
	/* the server */
	pthread_t server;
	int stop;
	_Atomic unsigned int served;
	pthread_mutex_t
		putting; /* one at a time: pages are put twice here, with the same content */
};

struct kind {
	const char *name;
	int file; /* a rig's kind, or ANON */
	bool guarded, unprotected;
};

static const struct kind kinds[] = {
	{"anonymous", ANON, false, false},
	{"anonymous, guarded", ANON, true, false},
	{"anonymous, guard=off", ANON, true, true},
	{"memfd", RIG_MEMFD, false, false},
	{"memfd, guarded", RIG_MEMFD, true, false},
	{"memfd, guard=off", RIG_MEMFD, true, true},
	{"tmpfs, guarded", RIG_TMPFS, true, false},
	{"tmpfs with huge pages, guarded", RIG_TMPFS_HUGE, true, false},
	{"2 MiB pages", RIG_2M, false, false},
	{"2 MiB pages, guarded", RIG_2M, true, false},
};

/* The linker puts this between the code and the kernel: say that it is an old one. */
static bool old_kernel;

int __real_uname(struct utsname *name);
int __wrap_uname(struct utsname *name);

int __wrap_uname(struct utsname *name)
{
	int ret = __real_uname(name);

	if (old_kernel)
		strcpy(name->release, "6.1.0");
	return ret;
}

/* What belongs into a page of 4096 bytes; never 0. */
static uint64_t content_of(uint64_t offset)
{
	return (offset / PAGE + 1) * 0x9e3779b97f4a7c15;
}

static void content_fill(uint64_t offset, uint64_t size, char *to)
{
	for (uint64_t at = 0; at < size; at += PAGE) {
		uint64_t value = content_of(offset + at);

		for (uint64_t i = 0; i < PAGE; i += sizeof(value))
			memcpy(to + at + i, &value, sizeof(value));
	}
}

static int world_put(struct world *w, uint64_t offset, uint64_t size)
{
	char *content = malloc(size);
	int ret;

	content_fill(offset, size, content);
	pthread_mutex_lock(&w->putting);
	ret = missing_put(w->missing, w->area, offset, size, content);
	pthread_mutex_unlock(&w->putting);
	free(content);
	return ret;
}

static void *world_serve(void *opaque)
{
	struct world *w = opaque;
	struct pollfd fds[2] = {{missing_fd(w->missing), POLLIN, 0}, {w->stop, POLLIN, 0}};
	struct missing_fault fault;

	for (;;) {
		int ret;

		poll(fds, 2, -1);
		if (fds[1].revents)
			return NULL;
		while (!missing_next(w->missing, &fault)) {
			ret = world_put(w, fault.offset, w->page);
			if (ret && ret != -ENOENT)
				abort();
			w->served++;
		}
	}
}

static void world_serve_start(struct world *w)
{
	w->stop = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(pthread_create(&w->server, NULL, world_serve, w), 0);
}

static void world_serve_stop(struct world *w)
{
	eventfd_write(w->stop, 1);
	pthread_join(w->server, NULL);
	close(w->stop);
}

/* The next fault, waited for. */
static uint64_t world_fault(struct world *w)
{
	struct pollfd fd = {missing_fd(w->missing), POLLIN, 0};
	struct missing_fault fault;

	assert_int_equal(poll(&fd, 1, 10000), 1);
	assert_int_equal(missing_next(w->missing, &fault), 0);
	assert_int_equal(fault.area, w->area);
	return fault.offset;
}

/* False where there is no such memory here. Blocks 0 to 5 are granted, 1 to 4 of them expected. */
static bool world_start(struct world *w, const struct kind *kind)
{
	struct missing_area area = {.size = SIZE, .unit_bytes = BLOCK};
	struct vmem_guard_config config = {.size = SIZE,
					   .block_size = BLOCK,
					   .memslot_size = 2 * BLOCK,
					   .unprotected = kind->unprotected};
	int fd = -1;

	memset(w, 0, sizeof(*w));
	w->page = PAGE;
	if (kind->file >= 0) {
		w->page = rig_kinds[kind->file].page;
		if (w->page > PAGE && !rig_pool_grow(w->page, (unsigned int)(SIZE / w->page)))
			return false;
		fd = rig_kinds[kind->file].make();
		if (fd < 0)
			return false;
		assert_int_equal(ftruncate(fd, SIZE), 0);
	}
	w->fd = fd;
	w->memory = host_map(SIZE, fd, 0);
	w->guarded = kind->guarded;
	if (kind->guarded) {
		config.memory = w->memory;
		config.fd = fd;
		assert_int_equal(host_start_on(&w->host, &config), 0);
		assert_int_equal(vmem_guard_grant(w->host.guard, 0, 6 * BLOCK), 0);
		area.guard = w->host.guard;
	}
	area.memory = w->memory;
	area.fd = fd;
	area.page_bytes = w->page;
	assert_int_equal(missing_new(&w->missing, NULL), 0);
	assert_int_equal(missing_add(w->missing, &area, &w->area), 0);
	assert_int_equal(missing_expect(w->missing, w->area, BLOCK, 4 * BLOCK), 0);
	return true;
}

static void world_end(struct world *w)
{
	missing_free(w->missing);
	if (w->guarded)
		host_end(&w->host);
	else
		munmap(w->memory, SIZE);
	if (w->fd >= 0)
		close(w->fd);
}

static void on_each(void (*test)(struct world *w))
{
	struct world w;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (!world_start(&w, &kinds[i])) {
			print_message("not to be had here: %s\n", kinds[i].name);
			continue;
		}
		test(&w);
		world_end(&w);
	}
}

/* ---- touching while it comes ---- */

struct toucher {
	struct world *w;
	pthread_t thread;
	unsigned int seed, wrong;
};

static void *touch(void *opaque)
{
	struct toucher *t = opaque;

	for (unsigned int i = 0; i < 600; i++) {
		uint64_t offset = BLOCK + (uint64_t)rand_r(&t->seed) % (4 * BLOCK / PAGE) * PAGE;
		uint64_t *at = (uint64_t *)(t->w->memory + offset) +
			       (uint64_t)rand_r(&t->seed) % (PAGE / 8);

		t->wrong += __atomic_load_n(at, __ATOMIC_RELAXED) != content_of(offset);
		/* A write of what is there already; others may touch the same. */
		__atomic_store_n(at, content_of(offset), __ATOMIC_RELAXED);
	}
	return NULL;
}

static void check_content(const struct world *w)
{
	for (uint64_t at = BLOCK; at < 5 * BLOCK; at += PAGE) {
		const uint64_t *words = (const uint64_t *)(w->memory + at);

		for (unsigned int i = 0; i < PAGE / 8; i++)
			if (words[i] != content_of(at))
				fail_msg("page at %llx is wrong", (unsigned long long)at);
	}
}

static void check_touched(struct world *w)
{
	struct toucher touchers[TOUCHERS];

	world_serve_start(w);
	for (unsigned int i = 0; i < TOUCHERS; i++) {
		touchers[i] = (struct toucher){.w = w, .seed = i};
		pthread_create(&touchers[i].thread, NULL, touch, &touchers[i]);
	}
	/* All the rest, in pieces that are partly there. */
	for (uint64_t at = BLOCK; at < 5 * BLOCK; at += BLOCK / 2)
		if (w->page == PAGE || at % BLOCK == 0)
			assert_int_equal(world_put(w, at, num_max(BLOCK / 2, w->page)), 0);
	for (unsigned int i = 0; i < TOUCHERS; i++) {
		pthread_join(touchers[i].thread, NULL);
		assert_int_equal(touchers[i].wrong, 0);
	}
	for (uint64_t at = BLOCK; at < 5 * BLOCK; at += BLOCK)
		missing_merge(w->missing, w->area, at);
	check_content(w);
	assert_true(missing_is_expected(w->missing, w->area, BLOCK, 4 * BLOCK));
	assert_int_equal(missing_settle(w->missing, w->area, 0, SIZE), 0);
	assert_false(missing_is_expected(w->missing, w->area, BLOCK, BLOCK));
	world_serve_stop(w);
	check_content(w);
	if (!w->guarded || w->host.config.unprotected)
		return;
	/* The guard has it back. */
	assert_int_equal(vmem_guard_revoke(w->host.guard, 2 * BLOCK, 2 * BLOCK), 0);
	assert_int_equal(vmem_guard_discard(w->host.guard, 2 * BLOCK, 2 * BLOCK), 0);
	assert_int_equal(host_poke(&w->host, 3 * BLOCK), -EFAULT);
	assert_int_equal(host_poke(&w->host, 7 * BLOCK), -EFAULT);
	assert_int_equal(host_pages(&w->host, 2 * BLOCK, 2 * BLOCK), 0);
	assert_int_equal(host_poke(&w->host, BLOCK), 0);
	assert_int_equal(vmem_guard_grant(w->host.guard, 3 * BLOCK, BLOCK), 0);
	assert_int_equal(host_peek(&w->host, 3 * BLOCK), 0);
}

static void test_touched(void **state)
{
	(void)state;
	on_each(check_touched);
}

/* ---- one who waits ---- */

struct waiter {
	struct world *w;
	pthread_t thread;
	uint64_t offset;
	_Atomic int result; /* of a system call that reads there: the byte or -errno */
};

static void *wait_there(void *opaque)
{
	struct waiter *waiter = opaque;
	unsigned char byte = 0;
	int pipes[2];

	if (pipe(pipes) < 0)
		abort();
	waiter->result = write(pipes[1], waiter->w->memory + waiter->offset, 1) == 1 ? 0 : -errno;
	if (!waiter->result && read(pipes[0], &byte, 1) == 1)
		waiter->result = byte;
	close(pipes[0]);
	close(pipes[1]);
	return NULL;
}

/* It waits when this returns. */
static void waiter_start(struct waiter *waiter, struct world *w, uint64_t offset)
{
	*waiter = (struct waiter){.w = w, .offset = offset, .result = -EINPROGRESS};
	pthread_create(&waiter->thread, NULL, wait_there, waiter);
	assert_int_equal(world_fault(w), num_align_down(offset, w->page));
}

static int waiter_end(struct waiter *waiter)
{
	pthread_join(waiter->thread, NULL);
	return waiter->result;
}

static void check_one_page(struct world *w)
{
	struct waiter waiter;
	char *other = calloc(1, 2 * MIB);

	/* Its content, and that comes once. */
	waiter_start(&waiter, w, 2 * BLOCK);
	assert_int_equal(world_put(w, 2 * BLOCK, w->page), 0);
	assert_int_equal(waiter_end(&waiter), (unsigned char)content_of(2 * BLOCK));
	if (w->fd < 0)
		assert_int_equal(missing_put(w->missing, w->area, 2 * BLOCK, w->page, other), 0);
	assert_int_equal(w->memory[2 * BLOCK], (char)content_of(2 * BLOCK));
	/* Zeros. */
	waiter_start(&waiter, w, 3 * BLOCK);
	assert_int_equal(missing_put_zeros(w->missing, w->area, 3 * BLOCK, w->page), 0);
	assert_int_equal(waiter_end(&waiter), 0);
	/* Forgotten, it is waited for again. */
	assert_int_equal(missing_forget(w->missing, w->area, 2 * BLOCK, w->page), 0);
	waiter_start(&waiter, w, 2 * BLOCK);
	memset(other, 7, 2 * MIB);
	assert_int_equal(missing_put(w->missing, w->area, 2 * BLOCK, w->page, other), 0);
	assert_int_equal(waiter_end(&waiter), 7);
	/* Beside what is expected there is nothing to put. */
	assert_int_equal(missing_put(w->missing, w->area, 0, w->page, other), -ENOENT);
	assert_int_equal(missing_put(w->missing, w->area, 5 * BLOCK - w->page, 2 * w->page, other),
			 -ENOENT);
	assert_int_equal(w->memory[5 * BLOCK - 1], 7);
	assert_int_equal(w->memory[5 * BLOCK], 0);
	assert_int_equal(missing_forget(w->missing, w->area, 0, w->page), -ENOENT);
	assert_int_equal(missing_expect(w->missing, w->area, BLOCK, BLOCK), -EEXIST);
	free(other);
}

static void test_one_page(void **state)
{
	(void)state;
	on_each(check_one_page);
}

/* Parts of a page, in any order, are seen when it is shown. */
static void check_parts(struct world *w)
{
	struct waiter waiter;
	char *content;

	if (w->fd < 0)
		return;
	content = malloc(BLOCK);
	content_fill(2 * BLOCK, BLOCK, content);
	waiter_start(&waiter, w, 2 * BLOCK + 1);
	for (uint64_t at = BLOCK; at > 0; at -= PAGE)
		assert_int_equal(missing_write(w->missing, w->area, 2 * BLOCK + at - PAGE, PAGE,
					       content + at - PAGE),
				 0);
	assert_int_equal(waiter.result, -EINPROGRESS);
	assert_int_equal(missing_show(w->missing, w->area, 2 * BLOCK, BLOCK), 0);
	assert_int_equal(waiter_end(&waiter), (unsigned char)content[1]);
	assert_memory_equal(w->memory + 2 * BLOCK, content, BLOCK);
	assert_int_equal(missing_write(w->missing, w->area, 0, PAGE, content), -ENOENT);
	free(content);
}

static void test_parts(void **state)
{
	(void)state;
	on_each(check_parts);
}

/* What is moved there is there, but where something was before; the stage is empty afterwards. */
static void check_moved(struct world *w)
{
	char *stage = missing_stage_new(w->missing, BLOCK);
	struct waiter waiter;

	assert_non_null(stage);
	missing_stage_place(w->missing, w->area, 2 * BLOCK, stage, BLOCK);
	for (unsigned int round = 0; round < 2; round++) {
		uint64_t at = (2 + round) * BLOCK;

		if (round && w->page == PAGE) {
			assert_int_equal(missing_put_zeros(w->missing, w->area, at + PAGE, PAGE),
					 0);
			w->memory[at + PAGE] = 7;
		}
		content_fill(at, BLOCK, stage);
		waiter_start(&waiter, w, at + BLOCK - 1);
		assert_int_equal(missing_move(w->missing, w->area, at, BLOCK, stage), 0);
		assert_int_equal(waiter_end(&waiter), w->memory[at + BLOCK - 1] & 0xff);
		assert_int_equal(held_pages(stage, BLOCK, false), 0);
		if (round && w->page == PAGE && w->fd < 0) {
			assert_int_equal(w->memory[at + PAGE], 7);
			assert_int_equal(w->memory[at + PAGE + 1], 0);
		}
		if (round && w->page == PAGE)
			content_fill(at + PAGE, PAGE, w->memory + at + PAGE);
		for (uint64_t page = at; page < at + BLOCK; page += PAGE)
			assert_int_equal(*(uint64_t *)(void *)(w->memory + page), content_of(page));
	}
	/* Partly beside what is expected. */
	content_fill(4 * BLOCK, BLOCK, stage);
	assert_int_equal(missing_settle(w->missing, w->area, 4 * BLOCK, BLOCK), 0);
	assert_int_equal(missing_move(w->missing, w->area, 4 * BLOCK, BLOCK, stage), -ENOENT);
	assert_int_equal(held_pages(stage, BLOCK, false), 0);
	munmap(stage, BLOCK);
}

static void test_moved(void **state)
{
	(void)state;
	on_each(check_moved);
	/* Where nothing is moved it is copied. */
	old_kernel = true;
	on_each(check_moved);
	old_kernel = false;
}

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
	on_each(check_unplug);
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
	on_each(check_churn);
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
	on_each(check_free_with_waiter);
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
	on_each(check_fail);
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
	on_each(check_late);
}

/* ---- what cannot be ---- */

static void test_scattered(void **state)
{
	struct vmem_guard_config config = {
		.size = SIZE, .fd = -1, .block_size = PAGE, .memslot_size = SIZE, .max_fences = 16};
	struct missing_area area = {.size = SIZE, .fd = -1, .page_bytes = PAGE, .unit_bytes = PAGE};
	struct vmem_guard_info info;
	struct missing *missing;
	struct host h;
	size_t index;

	(void)state;
	area.memory = config.memory = host_map(SIZE, -1, 0);
	assert_int_equal(host_start_on(&h, &config), 0);
	area.guard = h.guard;
	assert_int_equal(missing_new(&missing, NULL), 0);
	assert_int_equal(missing_add(missing, &area, &index), 0);
	/* With something lent no segment becomes armed, fences are refused in the end. */
	assert_int_equal(vmem_guard_grant(h.guard, 0, PAGE), 0);
	assert_int_equal(missing_expect(missing, index, 0, PAGE), 0);
	for (uint64_t i = 1; i < 256; i++)
		if (vmem_guard_grant(h.guard, 2 * i * PAGE, PAGE))
			break;
		else
			assert_true(i < 255);
	vmem_guard_info(h.guard, &info);
	assert_int_equal(info.armed_segments, 0);
	/* A closed block cannot be expected. */
	assert_int_equal(missing_expect(missing, index, PAGE, PAGE), -EOPNOTSUPP);
	assert_int_equal(missing_settle(missing, index, 0, PAGE), 0);
	/* Now it does; and then nothing there can be expected. */
	for (uint64_t i = 1; i < 256; i++)
		assert_int_equal(vmem_guard_grant(h.guard, 2 * i * PAGE, PAGE), 0);
	vmem_guard_info(h.guard, &info);
	if (info.armed_segments) {
		assert_int_equal(missing_expect(missing, index, 0, PAGE), -EOPNOTSUPP);
		assert_int_equal(host_poke(&h, 0), 0);
		assert_int_equal(host_poke(&h, PAGE), -EFAULT);
	}
	missing_free(missing);
	host_end(&h);
}

/* A file on a disk, shared or private; and a private mapping of memory that is in a file. */
static void test_other_files(void **state)
{
	static const struct {
		unsigned int kind;
		int flags;
	} others[] = {{RIG_DISK, MAP_SHARED}, {RIG_DISK, MAP_PRIVATE}, {RIG_MEMFD, MAP_PRIVATE}};
	struct missing_area area = {.size = BLOCK, .page_bytes = PAGE, .unit_bytes = PAGE};
	struct missing *missing;
	size_t index;

	(void)state;
	assert_int_equal(missing_new(&missing, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		int fd = rig_kinds[others[i].kind].make();

		if (fd < 0)
			continue;
		assert_int_equal(ftruncate(fd, BLOCK), 0);
		area.memory = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, others[i].flags, fd, 0);
		assert_true(area.memory != MAP_FAILED);
		area.fd = others[i].flags == MAP_SHARED ? fd : -1;
		assert_int_equal(missing_add(missing, &area, &index), -EOPNOTSUPP);
		munmap(area.memory, BLOCK);
		close(fd);
	}
	missing_free(missing);
}

/* A guard that is freed when nothing of it is open is forgotten; and has one borrower at most. */
static void test_guard_goes(void **state)
{
	struct missing_area area = {
		.size = SIZE, .fd = -1, .page_bytes = PAGE, .unit_bytes = BLOCK};
	struct missing *missing, *second;
	struct host h;
	size_t index;

	(void)state;
	host_start(&h, SIZE, BLOCK, 2 * BLOCK);
	area.memory = h.memory;
	area.guard = h.guard;
	assert_int_equal(missing_new(&missing, NULL), 0);
	assert_int_equal(missing_new(&second, NULL), 0);
	assert_int_equal(missing_add(missing, &area, &index), 0);
	assert_int_equal(missing_add(second, &area, &index), -EBUSY);
	missing_free(second);
	assert_int_equal(vmem_guard_grant(h.guard, 0, BLOCK), 0);
	assert_int_equal(missing_expect(missing, index, 0, BLOCK), 0);
	assert_int_equal(vmem_guard_revoke(h.guard, 0, BLOCK), 0);
	assert_int_equal(vmem_guard_discard(h.guard, 0, BLOCK), 0);
	host_end(&h);
	missing_free(missing);
}

static void test_no_userfaultfd(void **state)
{
	struct missing *missing;
	struct vmem_error error;

	(void)state;
	rig_calls.no_userfaultfd = true;
	assert_int_equal(missing_new(&missing, &error), -EOPNOTSUPP);
	assert_non_null(strstr(error.text, "Linux"));
	rig_calls.no_userfaultfd = false;
}

static int restore(void **state)
{
	(void)state;
	rig_pool_restore();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_touched),
		cmocka_unit_test(test_one_page),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_moved),
		cmocka_unit_test(test_unplug),
		cmocka_unit_test(test_churn),
		cmocka_unit_test(test_free_with_waiter),
		cmocka_unit_test(test_fail),
		cmocka_unit_test(test_late),
		cmocka_unit_test(test_scattered),
		cmocka_unit_test(test_other_files),
		cmocka_unit_test(test_guard_goes),
		cmocka_unit_test(test_no_userfaultfd),
	};
	struct missing *missing;
	struct vmem_error error;

	if (missing_new(&missing, &error)) {
		print_message("%s\n", error.text);
		return 77;
	}
	missing_free(missing);
	return cmocka_run_group_tests(tests, NULL, restore);
}
