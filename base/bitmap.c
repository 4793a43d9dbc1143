/* SPDX-License-Identifier: BSD-3-Clause */
/* A fixed-size bitmap with range operations: see bitmap.h for the contract. */
#include "base/bitmap.h"

#include <assert.h>
#include <stdlib.h>

#include "base/num.h"

#define WORD_BITS 64

struct bitmap {
	uint64_t nbits;
	uint64_t *words;
};

struct bitmap *bitmap_new(uint64_t nbits)
{
	uint64_t nwords = nbits / WORD_BITS + 1;
	struct bitmap *map = malloc(sizeof(*map));

	if (!map)
		return NULL;
	map->nbits = nbits;
	map->words = nwords <= SIZE_MAX / sizeof(uint64_t)
			     ? calloc((size_t)nwords, sizeof(uint64_t))
			     : NULL;
	if (!map->words) {
		free(map);
		return NULL;
	}
	return map;
}

void bitmap_free(struct bitmap *map)
{
	if (!map)
		return;
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

void bitmap_set(struct bitmap *map, uint64_t first, uint64_t count)
{
	uint64_t end = first + count, w;

	bitmap_check(map, first, count);
	if (!count)
		return;
	for (w = first / WORD_BITS; w <= (end - 1) / WORD_BITS; w++)
		map->words[w] |= bitmap_mask(w, first, end);
}

void bitmap_clear(struct bitmap *map, uint64_t first, uint64_t count)
{
	uint64_t end = first + count, w;

	bitmap_check(map, first, count);
	if (!count)
		return;
	for (w = first / WORD_BITS; w <= (end - 1) / WORD_BITS; w++)
		map->words[w] &= ~bitmap_mask(w, first, end);
}

/* First bit in [from, end) whose value is @value, or @end. */
static uint64_t bitmap_next(const struct bitmap *map, uint64_t from, uint64_t end, bool value)
{
	uint64_t w;

	assert(end <= map->nbits);
	if (from >= end)
		return end;
	for (w = from / WORD_BITS; w <= (end - 1) / WORD_BITS; w++) {
		uint64_t word = value ? map->words[w] : ~map->words[w];

		word &= bitmap_mask(w, from, end);
		if (word)
			return w * WORD_BITS + (uint64_t)__builtin_ctzll(word);
	}
	return end;
}

uint64_t bitmap_next_set(const struct bitmap *map, uint64_t from, uint64_t end)
{
	return bitmap_next(map, from, end, true);
}

uint64_t bitmap_next_clear(const struct bitmap *map, uint64_t from, uint64_t end)
{
	return bitmap_next(map, from, end, false);
}

bool bitmap_all_set(const struct bitmap *map, uint64_t first, uint64_t count)
{
	bitmap_check(map, first, count);
	return bitmap_next(map, first, first + count, false) == first + count;
}

bool bitmap_all_clear(const struct bitmap *map, uint64_t first, uint64_t count)
{
	bitmap_check(map, first, count);
	return bitmap_next(map, first, first + count, true) == first + count;
}

uint64_t bitmap_count(const struct bitmap *map, uint64_t first, uint64_t count)
{
	uint64_t end = first + count, total = 0, w;

	bitmap_check(map, first, count);
	if (!count)
		return 0;
	for (w = first / WORD_BITS; w <= (end - 1) / WORD_BITS; w++)
		total += (uint64_t)__builtin_popcountll(map->words[w] & bitmap_mask(w, first, end));
	return total;
}
