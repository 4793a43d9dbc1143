/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory whose content comes later (guard/missing.h): how it comes, page by page, in parts and moved,
 * while others touch it; and what cannot be expected.
 */
#include "tests/unit/guard/missing_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

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
	missing_rig_on_each(check_touched);
}

/* ---- one who waits ---- */

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
	missing_rig_on_each(check_one_page);
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
	missing_rig_on_each(check_parts);
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
	missing_rig_on_each(check_moved);
	/* Where nothing is moved it is copied. */
	old_kernel = true;
	missing_rig_on_each(check_moved);
	old_kernel = false;
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_touched),    cmocka_unit_test(test_one_page),
		cmocka_unit_test(test_parts),      cmocka_unit_test(test_moved),
		cmocka_unit_test(test_scattered),  cmocka_unit_test(test_other_files),
		cmocka_unit_test(test_guard_goes), cmocka_unit_test(test_no_userfaultfd),
	};

	return missing_rig_run("missing", tests, ARRAY_SIZE(tests));
}
