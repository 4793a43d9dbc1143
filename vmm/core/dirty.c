/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Marks of pages: see dirty.h for the contract.
 *
 * A mark sets the bit of its page and then that of the group; a taker clears the group's and then the
 * pages'. All four are sequentially consistent: whoever marks either sees the group's bit cleared and
 * sets it again, or the taker sees the page's. Setting the page's bit is a write also where it is set
 * already: a mere look could come before the memory that was written is seen by others.
 */
#include "vmm/core/dirty.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/num.h"

struct dirty {
	/* immutable; memory that is not touched is not there */
	uint64_t pages;
	size_t nr_words, nr_tops;
	_Atomic uint64_t *words; /* a bit for each page */
	_Atomic uint64_t *tops;  /* a bit for each group of words: one of them may not be 0 */
};

static void *dirty_map(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		return NULL;
	/* One mark is to cost a small page; where there are no huge ones this fails. */
	(void)madvise(memory, bytes, MADV_NOHUGEPAGE);
	return memory;
}

struct dirty *dirty_new(uint64_t pages)
{
	struct dirty *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->pages = pages;
	d->nr_words = (size_t)(pages / DIRTY_WORD_PAGES + 1);
	d->nr_tops = d->nr_words / (DIRTY_GROUP_WORDS * 64) + 1;
	d->words = dirty_map(d->nr_words * sizeof(*d->words));
	d->tops = dirty_map(d->nr_tops * sizeof(*d->tops));
	if (!d->words || !d->tops) {
		dirty_free(d);
		return NULL;
	}
	return d;
}

void dirty_free(struct dirty *d)
{
	if (!d)
		return;
	if (d->words)
		munmap(d->words, d->nr_words * sizeof(*d->words));
	if (d->tops)
		munmap(d->tops, d->nr_tops * sizeof(*d->tops));
	free(d);
}

static void dirty_check(const struct dirty *d, uint64_t page, uint64_t pages)
{
	assert(page <= d->pages && pages <= d->pages - page);
	(void)d;
	(void)page;
	(void)pages;
}

/* The pages of word @w that lie in [page, end). */
static uint64_t dirty_mask(uint64_t w, uint64_t page, uint64_t end)
{
	uint64_t base = w * DIRTY_WORD_PAGES, mask = ~UINT64_C(0);

	if (page > base)
		mask &= ~UINT64_C(0) << (page - base);
	if (end < base + DIRTY_WORD_PAGES)
		mask &= ~(~UINT64_C(0) << (end - base));
	return mask;
}

static void dirty_set(struct dirty *d, uint64_t w, uint64_t bits)
{
	uint64_t group = w / DIRTY_GROUP_WORDS, top = UINT64_C(1) << group % 64;

	atomic_fetch_or(&d->words[w], bits);
	if (!(atomic_load(&d->tops[group / 64]) & top))
		atomic_fetch_or(&d->tops[group / 64], top);
}

void dirty_mark(struct dirty *d, uint64_t page, uint64_t pages)
{
	uint64_t end = page + pages;

	dirty_check(d, page, pages);
	if (!pages)
		return;
	for (uint64_t w = page / DIRTY_WORD_PAGES; w <= (end - 1) / DIRTY_WORD_PAGES; w++)
		dirty_set(d, w, dirty_mask(w, page, end));
}

void dirty_mark_bits(struct dirty *d, uint64_t page, uint64_t bits)
{
	uint64_t w = page / DIRTY_WORD_PAGES, shift = page % DIRTY_WORD_PAGES;

	if (bits << shift)
		dirty_set(d, w, bits << shift);
	if (shift && bits >> (DIRTY_WORD_PAGES - shift))
		dirty_set(d, w + 1, bits >> (DIRTY_WORD_PAGES - shift));
}

/* The first word from @w to @last in a group of which something was marked; @last + 1: none is. */
static uint64_t dirty_used(const struct dirty *d, uint64_t w, uint64_t last)
{
	uint64_t group = w / DIRTY_GROUP_WORDS, last_group = last / DIRTY_GROUP_WORDS;

	while (w <= last) {
		uint64_t tops = atomic_load(&d->tops[group / 64]) >> group % 64;

		if (tops & 1)
			return w;
		group = tops ? group + (uint64_t)__builtin_ctzll(tops) : (group / 64 + 1) * 64;
		if (group > last_group)
			break;
		w = group * DIRTY_GROUP_WORDS;
	}
	return last + 1;
}

/* Add what a word says to @words, from number @bit on. */
static void dirty_add_words(uint64_t *words, uint64_t bit, uint64_t bits)
{
	uint64_t shift = bit % 64;

	words[bit / 64] |= bits << shift;
	if (shift && bits >> (64 - shift))
		words[bit / 64 + 1] |= bits >> (64 - shift);
}

/* Are all pages of the group in [page, end)? */
static bool dirty_group_inside(const struct dirty *d, uint64_t group, uint64_t page, uint64_t end)
{
	uint64_t base = group * DIRTY_GROUP_PAGES;

	return base >= page && num_min(base + DIRTY_GROUP_PAGES, d->pages) <= end;
}

uint64_t dirty_take(struct dirty *d, uint64_t page, uint64_t pages, uint64_t *words, uint64_t bit)
{
	uint64_t end = page + pages, last, w, taken = 0;

	dirty_check(d, page, pages);
	if (!pages)
		return 0;
	last = (end - 1) / DIRTY_WORD_PAGES;
	w = dirty_used(d, page / DIRTY_WORD_PAGES, last);
	while (w <= last) {
		uint64_t group = w / DIRTY_GROUP_WORDS;
		uint64_t stop = num_min((group + 1) * DIRTY_GROUP_WORDS, last + 1);

		/* Before its words are looked at: what is marked from now on sets it again. */
		if (dirty_group_inside(d, group, page, end))
			atomic_fetch_and(&d->tops[group / 64], ~(UINT64_C(1) << group % 64));
		for (; w < stop; w++) {
			uint64_t mask = dirty_mask(w, page, end), base = w * DIRTY_WORD_PAGES;
			uint64_t bits;

			if (!(atomic_load(&d->words[w]) & mask))
				continue;
			bits = atomic_fetch_and(&d->words[w], ~mask) & mask;
			taken += (uint64_t)__builtin_popcountll(bits);
			if (base < page)
				dirty_add_words(words, bit, bits >> (page - base));
			else
				dirty_add_words(words, bit + (base - page), bits);
		}
		w = dirty_used(d, w, last);
	}
	return taken;
}

uint64_t dirty_next(const struct dirty *d, uint64_t page, uint64_t end)
{
	uint64_t last;

	if (page >= end)
		return end;
	dirty_check(d, page, end - page);
	last = (end - 1) / DIRTY_WORD_PAGES;
	for (uint64_t w = dirty_used(d, page / DIRTY_WORD_PAGES, last); w <= last;
	     w = dirty_used(d, w + 1, last)) {
		uint64_t bits = atomic_load(&d->words[w]) & dirty_mask(w, page, end);

		if (bits)
			return w * DIRTY_WORD_PAGES + (uint64_t)__builtin_ctzll(bits);
	}
	return end;
}

uint64_t dirty_count(const struct dirty *d, uint64_t page, uint64_t pages)
{
	uint64_t end = page + pages, last, count = 0;

	dirty_check(d, page, pages);
	if (!pages)
		return 0;
	last = (end - 1) / DIRTY_WORD_PAGES;
	for (uint64_t w = dirty_used(d, page / DIRTY_WORD_PAGES, last); w <= last;
	     w = dirty_used(d, w + 1, last))
		count += (uint64_t)__builtin_popcountll(atomic_load(&d->words[w]) &
							dirty_mask(w, page, end));
	return count;
}
