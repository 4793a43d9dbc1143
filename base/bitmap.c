/* SPDX-License-Identifier: BSD-3-Clause */
/* A fixed-size bitmap with range operations: see bitmap.h for the contract. */
#include "base/bitmap.h"

#include <assert.h>
#include <stdlib.h>

#include "base/num.h"

#define WORD_BITS   64
#define GROUP_WORDS 512

struct bitmap {
	uint64_t nbits, nwords;
	uint64_t *words;
	/* By group of words: false when all of them are 0, so that nobody needs to look (I3). */
	bool *used;
};

struct bitmap *bitmap_new(uint64_t nbits)
{
	struct bitmap *map = calloc(1, sizeof(*map));

	if (!map)
		return NULL;
	map->nbits = nbits;
	map->nwords = nbits / WORD_BITS + 1;
	if (map->nwords <= SIZE_MAX / sizeof(uint64_t)) {
		map->words = calloc((size_t)map->nwords, sizeof(uint64_t));
		map->used = calloc((size_t)(map->nwords / GROUP_WORDS + 1), sizeof(bool));
	}
	if (!map->words || !map->used) {
		bitmap_free(map);
		return NULL;
	}
	return map;
}

void bitmap_free(struct bitmap *map)
{
	if (!map)
		return;
	free(map->used);
	free(map->words);
	free(map);
}

uint64_t bitmap_size(const struct bitmap *map)
{
	return map->nbits;
}

static void bitmap_check(const struct bitmap *map, uint64_t first, uint64_t count)
{
	assert(first <= map->nbits && count <= map->nbits - first);
	(void)map;
	(void)first;
	(void)count;
}

bool bitmap_test(const struct bitmap *map, uint64_t bit)
{
	bitmap_check(map, bit, 1);
	return map->words[bit / WORD_BITS] >> (bit % WORD_BITS) & 1;
}

/* The bits of word @w that lie in [first, end). */
static uint64_t bitmap_mask(uint64_t w, uint64_t first, uint64_t end)
{
	uint64_t base = w * WORD_BITS;
	uint64_t mask = ~UINT64_C(0);

	if (first > base)
		mask &= ~UINT64_C(0) << (first - base);
	if (end < base + WORD_BITS)
		mask &= ~(~UINT64_C(0) << (end - base));
	return mask;
}

/* @w itself when its group is used, else the first word of the next used group, or nwords. */
static uint64_t bitmap_used_word(const struct bitmap *map, uint64_t w)
{
	uint64_t group = w / GROUP_WORDS;

	if (map->used[group])
		return w;
	do
		group++;
	while (group * GROUP_WORDS < map->nwords && !map->used[group]);
	return group * GROUP_WORDS < map->nwords ? group * GROUP_WORDS : map->nwords;
}

void bitmap_set(struct bitmap *map, uint64_t first, uint64_t count)
{
	uint64_t end = first + count, w;

	bitmap_check(map, first, count);
	if (!count)
		return;
	for (w = first / WORD_BITS; w <= (end - 1) / WORD_BITS; w++) {
		map->used[w / GROUP_WORDS] = true;
		map->words[w] |= bitmap_mask(w, first, end);
	}
}

void bitmap_clear(struct bitmap *map, uint64_t first, uint64_t count)
{
	uint64_t end = first + count, last, w;

	bitmap_check(map, first, count);
	if (!count)
		return;
	last = (end - 1) / WORD_BITS;
	for (w = bitmap_used_word(map, first / WORD_BITS); w <= last;
	     w = bitmap_used_word(map, w + 1)) {
		uint64_t group = w / GROUP_WORDS * GROUP_WORDS;

		map->words[w] &= ~bitmap_mask(w, first, end);
		if (w == group + GROUP_WORDS - 1 && first <= group * WORD_BITS &&
		    end >= (group + GROUP_WORDS) * WORD_BITS)
			map->used[w / GROUP_WORDS] = false;
	}
}

uint64_t bitmap_next_set(const struct bitmap *map, uint64_t from, uint64_t end)
{
	uint64_t last, w;

	assert(end <= map->nbits);
	if (from >= end)
		return end;
	last = (end - 1) / WORD_BITS;
	for (w = bitmap_used_word(map, from / WORD_BITS); w <= last;
	     w = bitmap_used_word(map, w + 1)) {
		uint64_t word = map->words[w] & bitmap_mask(w, from, end);

		if (word)
			return w * WORD_BITS + (uint64_t)__builtin_ctzll(word);
	}
	return end;
}

uint64_t bitmap_next_clear(const struct bitmap *map, uint64_t from, uint64_t end)
{
	uint64_t w;

	assert(end <= map->nbits);
	if (from >= end)
		return end;
	for (w = from / WORD_BITS; w <= (end - 1) / WORD_BITS; w++) {
		uint64_t word = ~map->words[w] & bitmap_mask(w, from, end);

		if (word)
			return w * WORD_BITS + (uint64_t)__builtin_ctzll(word);
	}
	return end;
}

bool bitmap_all_set(const struct bitmap *map, uint64_t first, uint64_t count)
{
	bitmap_check(map, first, count);
	return bitmap_next_clear(map, first, first + count) == first + count;
}

bool bitmap_all_clear(const struct bitmap *map, uint64_t first, uint64_t count)
{
	bitmap_check(map, first, count);
	return bitmap_next_set(map, first, first + count) == first + count;
}

uint64_t bitmap_count(const struct bitmap *map, uint64_t first, uint64_t count)
{
	uint64_t end = first + count, total = 0, last, w;

	bitmap_check(map, first, count);
	if (!count)
		return 0;
	last = (end - 1) / WORD_BITS;
	for (w = bitmap_used_word(map, first / WORD_BITS); w <= last;
	     w = bitmap_used_word(map, w + 1))
		total += (uint64_t)__builtin_popcountll(map->words[w] & bitmap_mask(w, first, end));
	return total;
}
