/* SPDX-License-Identifier: BSD-3-Clause */
/* Host enforcement for one memory device on Linux: see guard.h for the contract. */
#include "guard/guard.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bitmap.h"
#include "base/err.h"
#include "base/num.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

struct guard_slot {
	uint64_t nr_granted; /* blocks */
	uint32_t slot;       /* the hypervisor's number, while nr_granted is not 0 */
};

struct guard {
	struct guard_config config;
	struct bitmap *granted; /* by block */
	struct guard_slot *slots;
	uint64_t nr_slots;
	_Atomic uint32_t nr_present;
};

/* A run is done in pieces that end where a slot ends. */
struct guard_piece {
	struct guard_slot *slot;
	uint64_t slot_offset, slot_size; /* of the whole slot, bytes */
	uint64_t block, nr_blocks;       /* of the run inside it */
	uint64_t next;                   /* offset behind the piece */
};

static struct guard_piece guard_piece_at(const struct guard *guard, uint64_t offset, uint64_t end)
{
	const struct guard_config *c = &guard->config;
	struct guard_piece p;
	uint64_t index = offset / c->memslot_size;

	p.slot = &guard->slots[index];
	p.slot_offset = index * c->memslot_size;
	p.slot_size = num_min(c->memslot_size, c->size - p.slot_offset);
	p.next = num_min(end, p.slot_offset + p.slot_size);
	p.block = offset / c->block_size;
	p.nr_blocks = (p.next - offset) / c->block_size;
	return p;
}

/*
 * How many blocks of the piece are granted. Slots that are absent, or wholly inside the run, are
 * not looked into, so that the cost of a run over everything grows with the slots, not the blocks.
 */
static uint64_t guard_piece_granted(const struct guard *guard, const struct guard_piece *p)
{
	if (!p->slot->nr_granted || p->nr_blocks == p->slot_size / guard->config.block_size)
		return p->slot->nr_granted;
	return bitmap_count(guard->granted, p->block, p->nr_blocks);
}

int guard_new(const struct guard_config *config, struct guard **ret_guard, struct err **err)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct guard *guard;

	if (!num_is_pow2(config->block_size) || config->block_size < page ||
	    !num_is_pow2(config->memslot_size) || config->memslot_size < config->block_size ||
	    !num_is_aligned(config->size, config->block_size) ||
	    !num_is_aligned((uintptr_t)config->memory, page))
		return err_set(err, EINVAL, "the memory device's sizes do not fit each other");
	guard = calloc(1, sizeof(*guard));
	if (!guard)
		return err_set(err, ENOMEM, "out of memory");
	guard->config = *config;
	guard->nr_slots =
		config->size / config->memslot_size + (config->size % config->memslot_size != 0);
	guard->granted = bitmap_new(config->size / config->block_size);
	guard->slots = calloc(guard->nr_slots + 1, sizeof(*guard->slots));
	if (!guard->granted || !guard->slots) {
		guard_free(guard);
		return err_set(err, ENOMEM, "out of memory");
	}
	*ret_guard = guard;
	return 0;
}

void guard_free(struct guard *guard)
{
	if (!guard)
		return;
	for (uint64_t i = 0; guard->slots && i < guard->nr_slots; i++)
		if (guard->slots[i].nr_granted)
			guard->config.slot_ops->remove(guard->config.opaque, guard->slots[i].slot);
	free(guard->slots);
	bitmap_free(guard->granted);
	free(guard);
}

int guard_grant(struct guard *guard, uint64_t offset, uint64_t size)
{
	const struct guard_config *c = &guard->config;
	uint64_t end = offset + size;

	while (offset < end) {
		struct guard_piece p = guard_piece_at(guard, offset, end);
		uint64_t granted = guard_piece_granted(guard, &p);

		if (!p.slot->nr_granted) {
			int ret = c->slot_ops->add(c->opaque, p.slot_offset, p.slot_size,
						   &p.slot->slot);

			if (ret)
				return ret;
			guard->nr_present++;
		}
		p.slot->nr_granted += p.nr_blocks - granted;
		bitmap_set(guard->granted, p.block, p.nr_blocks);
		offset = p.next;
	}
	return 0;
}

int guard_revoke(struct guard *guard, uint64_t offset, uint64_t size)
{
	const struct guard_config *c = &guard->config;
	uint64_t end = offset + size;

	while (offset < end) {
		struct guard_piece p = guard_piece_at(guard, offset, end);
		uint64_t granted = guard_piece_granted(guard, &p);

		offset = p.next;
		if (!granted)
			continue;
		if (p.slot->nr_granted == granted) {
			int ret = c->slot_ops->remove(c->opaque, p.slot->slot);

			if (ret)
				return ret;
			guard->nr_present--;
		}
		p.slot->nr_granted -= granted;
		bitmap_clear(guard->granted, p.block, p.nr_blocks);
	}
	return 0;
}

/* The advice for the run; only a signal makes it try again: everything else is the caller's. */
static int guard_advise(struct guard *guard, uint64_t offset, uint64_t size, int advice)
{
	char *at = (char *)guard->config.memory + offset;

	while (madvise(at, size, advice) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

int guard_populate(struct guard *guard, uint64_t offset, uint64_t size)
{
	int ret = guard_advise(guard, offset, size, MADV_POPULATE_WRITE);

	/* A touch would be a SIGBUS: there is no page to be had, of huge pages in the first place. */
	return ret == -EFAULT ? -ENOMEM : ret;
}

int guard_discard(struct guard *guard, uint64_t offset, uint64_t size)
{
	return guard_advise(guard, offset, size, MADV_DONTNEED);
}

uint32_t guard_slots_present(const struct guard *guard)
{
	return guard->nr_present;
}
