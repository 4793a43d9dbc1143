/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which pages of guest memory were written to: gm.h, I6 and the functions that follow there. The
 * marks themselves are dirty.h's; here is where they belong to.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/num.h"
#include "vmm/core/dirty.h"
#include "vmm/core/gm.h"
#include "vmm/core/gm_state.h"

#define WORD_BITS 64

int gm_dirty_add_region_locked(struct gm *gm, struct gm_region *r)
{
	if (!gm->dirty)
		return 0;
	r->dirty = dirty_new(r->gpa.size / GM_DIRTY_PAGE);
	return r->dirty ? 0 : -ENOMEM;
}

static void gm_dirty_stop_locked(struct gm *gm)
{
	for (size_t i = 0; i < gm->nregions; i++) {
		dirty_free(gm->regions[i]->dirty);
		gm->regions[i]->dirty = NULL;
	}
	gm->dirty = false;
}

int gm_dirty_start(struct gm *gm)
{
	int ret = 0;

	pthread_rwlock_wrlock(&gm->lock);
	gm_dirty_stop_locked(gm);
	gm->dirty = true;
	for (size_t i = 0; i < gm->nregions && !ret; i++)
		ret = gm_dirty_add_region_locked(gm, gm->regions[i]);
	if (ret)
		gm_dirty_stop_locked(gm);
	pthread_rwlock_unlock(&gm->lock);
	return ret;
}

void gm_dirty_stop(struct gm *gm)
{
	pthread_rwlock_wrlock(&gm->lock);
	gm_dirty_stop_locked(gm);
	pthread_rwlock_unlock(&gm->lock);
}

void gm_dirty_mark_region_locked(struct gm_region *r, uint64_t offset, uint64_t size)
{
	uint64_t first = offset / GM_DIRTY_PAGE, last = (offset + size - 1) / GM_DIRTY_PAGE;

	if (r->dirty)
		dirty_mark(r->dirty, first, last - first + 1);
}

/* A part of a range that lies in a region which has marks. */
struct gm_part {
	struct gm_region *region;
	uint64_t page, pages; /* of the region */
	uint64_t at;          /* bytes from the start of the range; of its first page */
};

/*
 * Step through the parts of [gpa, gpa + size), which does not wrap around, in ascending order; *@i
 * is 0 at first. Pages that lie in it partly count. gm->lock held.
 */
static bool gm_next_part(const struct gm *gm, uint64_t gpa, uint64_t size, size_t *i,
			 struct gm_part *ret_part)
{
	uint64_t end = gpa + size;

	for (; *i < gm->nregions; ++*i) {
		struct gm_region *r = gm->regions[*i];
		uint64_t start = num_max(gpa, r->gpa.start);
		uint64_t stop = num_min(end, range_end(r->gpa));

		if (start >= stop || !r->dirty)
			continue;
		ret_part->region = r;
		ret_part->page = (start - r->gpa.start) / GM_DIRTY_PAGE;
		ret_part->pages = (stop - r->gpa.start - 1) / GM_DIRTY_PAGE - ret_part->page + 1;
		ret_part->at = start - gpa;
		++*i;
		return true;
	}
	return false;
}

/* The size up to which a range does not wrap around. */
static uint64_t gm_clip(uint64_t gpa, uint64_t size)
{
	return num_min(size, UINT64_MAX - gpa);
}

void gm_dirty_mark(struct gm *gm, uint64_t gpa, uint64_t size)
{
	struct gm_part part;
	size_t i = 0;

	size = gm_clip(gpa, size);
	pthread_rwlock_rdlock(&gm->lock);
	while (gm_next_part(gm, gpa, size, &i, &part))
		dirty_mark(part.region->dirty, part.page, part.pages);
	pthread_rwlock_unlock(&gm->lock);
}

/* The words' bits [bit, bit + 64), as far as they are below @end. */
static uint64_t gm_words_get(const uint64_t *words, uint64_t bit, uint64_t end)
{
	uint64_t shift = bit % WORD_BITS, bits = words[bit / WORD_BITS] >> shift;

	if (shift && end > (bit / WORD_BITS + 1) * WORD_BITS)
		bits |= words[bit / WORD_BITS + 1] << (WORD_BITS - shift);
	return end - bit < WORD_BITS ? bits & ~(~UINT64_C(0) << (end - bit)) : bits;
}

/* Not more than a range that does not wrap around has pages. */
static uint64_t gm_words_size(uint64_t gpa, size_t nr_words)
{
	uint64_t size;

	if (!num_mul(nr_words, WORD_BITS * GM_DIRTY_PAGE, &size))
		size = UINT64_MAX;
	return gm_clip(gpa, size);
}

void gm_dirty_merge(struct gm *gm, uint64_t gpa, const uint64_t *words, size_t nr_words)
{
	struct gm_part part;
	size_t i = 0;

	assert(num_is_aligned(gpa, GM_DIRTY_PAGE));
	pthread_rwlock_rdlock(&gm->lock);
	while (gm_next_part(gm, gpa, gm_words_size(gpa, nr_words), &i, &part)) {
		uint64_t first = part.at / GM_DIRTY_PAGE, end = first + part.pages;

		for (uint64_t bit = first; bit < end; bit += WORD_BITS) {
			uint64_t bits = gm_words_get(words, bit, end);

			if (bits)
				dirty_mark_bits(part.region->dirty, part.page + (bit - first),
						bits);
		}
	}
	pthread_rwlock_unlock(&gm->lock);
}

uint64_t gm_dirty_take(struct gm *gm, uint64_t gpa, uint64_t *words, size_t nr_words)
{
	struct gm_part part;
	uint64_t taken = 0;
	size_t i = 0;

	assert(num_is_aligned(gpa, GM_DIRTY_PAGE));
	memset(words, 0, nr_words * sizeof(*words));
	pthread_rwlock_rdlock(&gm->lock);
	while (gm_next_part(gm, gpa, gm_words_size(gpa, nr_words), &i, &part))
		taken += dirty_take(part.region->dirty, part.page, part.pages, words,
				    part.at / GM_DIRTY_PAGE);
	pthread_rwlock_unlock(&gm->lock);
	return taken;
}

uint64_t gm_dirty_next(struct gm *gm, uint64_t gpa, uint64_t end)
{
	uint64_t found = end;
	struct gm_part part;
	size_t i = 0;

	if (gpa >= end)
		return end;
	assert(num_is_aligned(gpa, GM_DIRTY_PAGE));
	pthread_rwlock_rdlock(&gm->lock);
	while (found == end && gm_next_part(gm, gpa, end - gpa, &i, &part)) {
		uint64_t stop = part.page + part.pages;
		uint64_t page = dirty_next(part.region->dirty, part.page, stop);

		if (page < stop)
			found = part.region->gpa.start + page * GM_DIRTY_PAGE;
	}
	pthread_rwlock_unlock(&gm->lock);
	return found;
}

uint64_t gm_dirty_count(struct gm *gm, uint64_t gpa, uint64_t size)
{
	struct gm_part part;
	uint64_t count = 0;
	size_t i = 0;

	size = gm_clip(gpa, size);
	pthread_rwlock_rdlock(&gm->lock);
	while (gm_next_part(gm, gpa, size, &i, &part))
		count += dirty_count(part.region->dirty, part.page, part.pages);
	pthread_rwlock_unlock(&gm->lock);
	return count;
}
