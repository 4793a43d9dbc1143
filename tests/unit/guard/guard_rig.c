/* SPDX-License-Identifier: BSD-3-Clause */
/* See guard_rig.h. */
#include "tests/unit/guard/guard_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/guard/held.h"

static bool host_fails(struct host *h)
{
	h->calls++;
	return h->fail_at && h->calls >= h->fail_at && h->calls - h->fail_at <= h->fail_more;
}

static int host_add(void *opaque, uint64_t offset, uint64_t size, uint32_t *ret_slot)
{
	struct host *h = opaque;
	uint32_t free_slot = SLOTS;

	if (host_fails(h))
		return h->error;
	assert_true(size > 0 && offset + size <= h->config.size);
	for (uint32_t i = SLOTS; i-- > 0;) {
		assert_false(range_overlaps(h->slot[i], (struct range){offset, size}));
		if (!h->slot[i].size)
			free_slot = i;
	}
	assert_true(free_slot < SLOTS);
	h->slot[free_slot] = (struct range){offset, size};
	h->adds++;
	*ret_slot = free_slot;
	return 0;
}

static int host_remove(void *opaque, uint32_t slot)
{
	struct host *h = opaque;

	if (host_fails(h))
		return h->error;
	assert_true(slot < SLOTS && h->slot[slot].size);
	h->slot[slot].size = 0;
	h->removes++;
	return 0;
}

static int host_replace(void *opaque, const uint32_t *old, size_t nr_old,
			struct vmem_guard_slot *fresh, size_t nr_fresh)
{
	struct host *h = opaque;

	if (h->lose_slots) {
		for (size_t i = 0; i < nr_old; i++)
			h->slot[old[i]].size = 0;
		return -ENOTRECOVERABLE;
	}
	if (host_fails(h))
		return h->error;
	h->replaces++;
	for (size_t i = 0; i < nr_old; i++) {
		assert_true(old[i] < SLOTS && h->slot[old[i]].size);
		h->slot[old[i]].size = 0;
	}
	for (size_t i = 0; i < nr_fresh; i++) {
		unsigned int calls = h->calls, adds = h->adds, fail_at = h->fail_at;

		h->fail_at = 0;
		assert_int_equal(host_add(h, fresh[i].offset, fresh[i].size, &fresh[i].slot), 0);
		h->calls = calls;
		h->adds = adds;
		h->fail_at = fail_at;
	}
	return 0;
}

const struct vmem_guard_ops host_ops = {
	.slot_add = host_add, .slot_remove = host_remove, .slots_replace = host_replace};
const struct vmem_guard_ops host_ops_without_replace = {.slot_add = host_add,
							.slot_remove = host_remove};

int host_start_on(struct host *h, const struct vmem_guard_config *config)
{
	int ret;

	memset(h, 0, sizeof(*h));
	h->error = -ENOSPC;
	h->memory = config->memory;
	h->config = *config;
	h->config.ops = &host_ops;
	h->config.opaque = h;
	ret = vmem_guard_new(&h->config, &h->guard, NULL);
	if (!ret)
		assert_int_equal(pipe2(h->pipe, O_CLOEXEC), 0);
	return ret;
}

void host_start(struct host *h, uint64_t size, uint64_t block, uint64_t memslot)
{
	const struct vmem_guard_config config = {
		.memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
		.size = size,
		.block_size = block,
		.memslot_size = memslot,
		.fd = -1,
	};

	assert_true(config.memory != MAP_FAILED);
	assert_int_equal(host_start_on(h, &config), 0);
}

void host_end(struct host *h)
{
	h->fail_at = 0;
	vmem_guard_free(h->guard);
	for (uint32_t i = 0; i < SLOTS; i++)
		assert_int_equal(h->slot[i].size, 0);
	munmap(h->memory, h->config.size);
	close(h->pipe[0]);
	close(h->pipe[1]);
}

void *host_map(uint64_t size, int fd, uint64_t fd_offset)
{
	const uint64_t align = 2 * MIB;
	char *room = mmap(NULL, size + align, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t head = -(uintptr_t)room & (align - 1);
	int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;

	assert_true(room != MAP_FAILED);
	if (head)
		munmap(room, head);
	room += head;
	munmap(room + size, align - head);
	assert_true(mmap(room, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED | MAP_NORESERVE, fd,
			 (off_t)fd_offset) == room);
	/* A kernel without huge pages says no. */
	(void)madvise(room, size, MADV_HUGEPAGE);
	return room;
}

bool host_has(const struct host *h, uint64_t offset, uint64_t size)
{
	for (uint32_t i = 0; i < SLOTS; i++)
		if (h->slot[i].size == size && h->slot[i].start == offset)
			return true;
	return false;
}

uint64_t host_covered(const struct host *h, uint64_t offset, uint64_t size)
{
	uint64_t covered = 0;

	for (uint32_t i = 0; i < SLOTS; i++) {
		uint64_t first = num_max(h->slot[i].start, offset);
		uint64_t end = num_min(h->slot[i].start + h->slot[i].size, offset + size);

		covered += end > first ? end - first : 0;
	}
	return covered;
}

unsigned int host_slots(const struct host *h)
{
	unsigned int n = 0;

	for (uint32_t i = 0; i < SLOTS; i++)
		n += h->slot[i].size != 0;
	return n;
}

void check_memslots(const struct host *h)
{
	struct vmem_guard_info info;

	vmem_guard_info(h->guard, &info);
	assert_int_equal(info.memslots, host_slots(h));
}

void check_count(const struct host *h, unsigned int present)
{
	struct vmem_guard_info info;

	check_memslots(h);
	vmem_guard_info(h->guard, &info);
	assert_int_equal(info.slots_present, present);
}

uint64_t host_pages(const struct host *h, uint64_t offset, uint64_t size)
{
	return held_pages(h->memory + offset, size, h->config.fd >= 0);
}

int host_poke(const struct host *h, uint64_t offset)
{
	char byte = 0x77;
	int ret;

	assert_int_equal(write(h->pipe[1], &byte, 1), 1);
	if (read(h->pipe[0], h->memory + offset, 1) == 1)
		return 0;
	ret = -errno;
	assert_int_equal(read(h->pipe[0], &byte, 1), 1);
	return ret;
}

int host_peek(const struct host *h, uint64_t offset)
{
	unsigned char byte;

	if (write(h->pipe[1], h->memory + offset, 1) < 0)
		return -errno;
	assert_int_equal(read(h->pipe[0], &byte, 1), 1);
	return byte;
}
