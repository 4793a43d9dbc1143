/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What is plugged, on its way to the target: see notes.h for the contract.
 *
 * For each device block four bits: is it plugged now; is it so for the target (told); did it lose
 * the content that the target has (lost: unplugged since it was told, maybe plugged again); and is
 * any of these three worth a look (changed). What there is to tell follows from the first three:
 *
 *	told, now, not lost	nothing			told, not now	unplugged
 *	told, now, lost		unplugged, plugged	not told, now	plugged
 */
#include "vmm/migration/notes.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/bitmap.h"
#include "base/err.h"
#include "vmm/migration/blocks.h"
#include "vmm/virtio/mem.h"

struct notes_block {
	struct notes *notes;
	const struct block *block;
	uint64_t nr_units;                   /* 0: boot memory; the rest is unused then */
	struct bitmap *now, *lost, *changed; /* guarded by the notes' lock */
	struct bitmap *told;                 /* the sender's */
};

struct notes {
	size_t nr;
	struct notes_block *blocks;
	_Atomic bool pending;
	_Atomic uint64_t told_pages;
	bool tracking;
	pthread_mutex_t lock; /* held for the change of one run */
};

static int notes_block_init(struct notes_block *b)
{
	if (!b->block->unit_bytes)
		return 0;
	b->nr_units = b->block->ram.gpa.size / b->block->unit_bytes;
	b->now = bitmap_new(b->nr_units);
	b->lost = bitmap_new(b->nr_units);
	b->changed = bitmap_new(b->nr_units);
	b->told = bitmap_new(b->nr_units);
	return b->now && b->lost && b->changed && b->told ? 0 : -ENOMEM;
}

struct notes *notes_new(const struct block *blocks, size_t nr, struct err **err)
{
	struct notes *n = calloc(1, sizeof(*n));

	if (!n)
		goto fail;
	pthread_mutex_init(&n->lock, NULL);
	n->blocks = calloc(nr + 1, sizeof(*n->blocks));
	if (!n->blocks)
		goto fail;
	for (size_t i = 0; i < nr; i++) {
		struct notes_block *b = &n->blocks[n->nr++];

		b->notes = n;
		b->block = &blocks[i];
		if (notes_block_init(b))
			goto fail;
		if (!b->nr_units)
			n->told_pages += b->block->nr_pages;
	}
	return n;
fail:
	notes_free(n);
	err_set(err, ENOMEM, "out of memory");
	return NULL;
}

void notes_free(struct notes *n)
{
	if (!n)
		return;
	notes_untrack(n);
	for (size_t i = 0; i < n->nr; i++) {
		bitmap_free(n->blocks[i].now);
		bitmap_free(n->blocks[i].lost);
		bitmap_free(n->blocks[i].changed);
		bitmap_free(n->blocks[i].told);
	}
	free(n->blocks);
	pthread_mutex_destroy(&n->lock);
	free(n);
}

/* The device lock is held. */
static void notes_mem_changed(void *opaque, struct virtio_mem *mem, uint64_t offset, uint64_t size,
			      bool plugged)
{
	struct notes_block *b = opaque;

	(void)mem;
	notes_changed(b->notes, (size_t)(b - b->notes->blocks), offset, size, plugged);
}

void notes_track(struct notes *n)
{
	n->tracking = true;
	for (size_t i = 0; i < n->nr; i++)
		if (n->blocks[i].block->ram.mem)
			virtio_mem_track(n->blocks[i].block->ram.mem, notes_mem_changed,
					 &n->blocks[i]);
}

void notes_untrack(struct notes *n)
{
	for (size_t i = 0; i < n->nr && n->tracking; i++)
		if (n->blocks[i].block->ram.mem)
			virtio_mem_track(n->blocks[i].block->ram.mem, NULL, NULL);
	n->tracking = false;
}

/* Those of the run that are told have lost their content. The lock is held. */
static void notes_lose(struct notes_block *b, uint64_t first, uint64_t count)
{
	uint64_t end = first + count;

	while ((first = bitmap_next_set(b->told, first, end)) < end) {
		uint64_t stop = bitmap_next_clear(b->told, first, end);

		bitmap_set(b->lost, first, stop - first);
		first = stop;
	}
}

void notes_changed(struct notes *n, size_t block, uint64_t offset, uint64_t size, bool plugged)
{
	struct notes_block *b = &n->blocks[block];
	uint64_t unit = b->block->unit_bytes, first, count;

	assert(block < n->nr && unit && num_is_aligned(offset | size, unit));
	first = offset / unit;
	count = size / unit;
	pthread_mutex_lock(&n->lock);
	if (plugged) {
		bitmap_set(b->now, first, count);
	} else {
		bitmap_clear(b->now, first, count);
		notes_lose(b, first, count);
	}
	bitmap_set(b->changed, first, count);
	atomic_store(&n->pending, true);
	pthread_mutex_unlock(&n->lock);
}

bool notes_pending(const struct notes *n)
{
	return atomic_load(&n->pending);
}

static uint64_t notes_same(const struct bitmap *map, uint64_t first, uint64_t end)
{
	return bitmap_test(map, first) ? bitmap_next_clear(map, first, end)
				       : bitmap_next_set(map, first, end);
}

/* What a run has to be told. */
struct notes_news {
	struct range units;
	bool gone, came;
};

/* Takes the first changed run at or after @from of which the same is to be told; false: no more. */
static bool notes_take_run(struct notes *n, struct notes_block *b, uint64_t from,
			   struct notes_news *ret)
{
	uint64_t first, end;

	pthread_mutex_lock(&n->lock);
	first = bitmap_next_set(b->changed, from, b->nr_units);
	if (first == b->nr_units) {
		pthread_mutex_unlock(&n->lock);
		return false;
	}
	end = bitmap_next_clear(b->changed, first, b->nr_units);
	end = notes_same(b->now, first, end);
	end = notes_same(b->lost, first, end);
	end = notes_same(b->told, first, end);
	ret->units = (struct range){first, end - first};
	ret->gone = bitmap_test(b->lost, first);
	ret->came = bitmap_test(b->now, first) && (ret->gone || !bitmap_test(b->told, first));
	bitmap_clear(b->changed, first, end - first);
	bitmap_clear(b->lost, first, end - first);
	if (ret->came)
		bitmap_set(b->told, first, end - first);
	else if (ret->gone)
		bitmap_clear(b->told, first, end - first);
	pthread_mutex_unlock(&n->lock);
	return true;
}

static int notes_tell(struct notes *n, struct notes_block *b, const struct notes_news *news,
		      int (*fn)(void *opaque, size_t block, struct range run, bool plugged),
		      void *opaque)
{
	uint64_t unit = b->block->unit_bytes, pages = news->units.size * (unit / PAGE_BYTES);
	struct range run = {news->units.start * unit, news->units.size * unit};
	size_t block = (size_t)(b - n->blocks);
	int ret = 0;

	if (news->gone && !news->came)
		n->told_pages -= pages;
	if (news->came && !news->gone)
		n->told_pages += pages;
	if (news->gone)
		ret = fn(opaque, block, run, false);
	if (news->came && !ret)
		ret = fn(opaque, block, run, true);
	return ret;
}

int notes_take(struct notes *n,
	       int (*fn)(void *opaque, size_t block, struct range run, bool plugged), void *opaque)
{
	/* Before the walk: what is noted during it may be behind it. */
	if (!atomic_exchange(&n->pending, false))
		return 0;
	for (size_t i = 0; i < n->nr; i++) {
		struct notes_block *b = &n->blocks[i];
		struct notes_news news;
		uint64_t from = 0;

		while (b->nr_units && notes_take_run(n, b, from, &news)) {
			int ret = notes_tell(n, b, &news, fn, opaque);

			if (ret) {
				atomic_store(&n->pending, true);
				return ret;
			}
			from = range_end(news.units);
		}
	}
	return 0;
}

bool notes_told_run(const struct notes *n, size_t block, uint64_t page, struct range *ret_run)
{
	const struct notes_block *b = &n->blocks[block];
	uint64_t per_unit, first, end;

	if (page >= b->block->nr_pages)
		return false;
	if (!b->nr_units) {
		*ret_run = (struct range){page, b->block->nr_pages - page};
		return true;
	}
	per_unit = b->block->unit_bytes / PAGE_BYTES;
	first = bitmap_next_set(b->told, page / per_unit, b->nr_units);
	if (first == b->nr_units)
		return false;
	end = bitmap_next_clear(b->told, first, b->nr_units);
	ret_run->start = num_max(page, first * per_unit);
	ret_run->size = end * per_unit - ret_run->start;
	return true;
}

uint64_t notes_told_pages(const struct notes *n)
{
	return atomic_load(&n->told_pages);
}
