/* SPDX-License-Identifier: BSD-3-Clause */
/* Memory that is expected: see missing_rig.h. */
#include "tests/unit/guard/missing_rig.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define ANON (-1) /* instead of a kind of file */

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

uint64_t content_of(uint64_t offset)
{
	return (offset / PAGE + 1) * 0x9e3779b97f4a7c15;
}

void content_fill(uint64_t offset, uint64_t size, char *to)
{
	for (uint64_t at = 0; at < size; at += PAGE) {
		uint64_t value = content_of(offset + at);

		for (uint64_t i = 0; i < PAGE; i += sizeof(value))
			memcpy(to + at + i, &value, sizeof(value));
	}
}

int world_put(struct world *w, uint64_t offset, uint64_t size)
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

void world_serve_start(struct world *w)
{
	w->stop = eventfd(0, EFD_CLOEXEC);
	assert_int_equal(pthread_create(&w->server, NULL, world_serve, w), 0);
}

void world_serve_stop(struct world *w)
{
	eventfd_write(w->stop, 1);
	pthread_join(w->server, NULL);
	close(w->stop);
}

uint64_t world_fault(struct world *w)
{
	struct pollfd fd = {missing_fd(w->missing), POLLIN, 0};
	struct missing_fault fault;

	assert_int_equal(poll(&fd, 1, 10000), 1);
	assert_int_equal(missing_next(w->missing, &fault), 0);
	assert_int_equal(fault.area, w->area);
	return fault.offset;
}

void *wait_there(void *opaque)
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

void waiter_start(struct waiter *waiter, struct world *w, uint64_t offset)
{
	*waiter = (struct waiter){.w = w, .offset = offset, .result = -EINPROGRESS};
	pthread_create(&waiter->thread, NULL, wait_there, waiter);
	assert_int_equal(world_fault(w), num_align_down(offset, w->page));
}

int waiter_end(struct waiter *waiter)
{
	pthread_join(waiter->thread, NULL);
	return waiter->result;
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

void missing_rig_on_each(void (*test)(struct world *w))
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

static int restore(void **state)
{
	(void)state;
	rig_pool_restore();
	return 0;
}

int missing_rig_run(const char *name, const struct CMUnitTest *tests, size_t count)
{
	struct missing *missing;
	struct vmem_error error;

	if (missing_new(&missing, &error)) {
		print_message("%s\n", error.text);
		return 77;
	}
	missing_free(missing);
	return _cmocka_run_group_tests(name, tests, count, NULL, restore);
}
