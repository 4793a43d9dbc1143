/* SPDX-License-Identifier: BSD-3-Clause */
/* Maps of pages, and the form of batches: see pages.h for the contract. */
#include "vmm/migration/pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"
#include "base/err.h"

/* ---- a bit for each page ---- */

struct pages_map {
	_Atomic uint64_t *words; /* of all blocks, one after the other */
	size_t bytes;
	uint64_t *at; /* the first word of each block */
};

struct pages_map *pages_map_new(const struct block *blocks, size_t nr, struct err **err)
{
	struct pages_map *map = calloc(1, sizeof(*map));
	uint64_t words = 0;

	if (!map)
		goto fail;
	map->words = MAP_FAILED;
	map->at = calloc(nr + 1, sizeof(*map->at));
	if (!map->at)
		goto fail;
	for (size_t i = 0; i < nr; i++) {
		map->at[i] = words;
		words += (blocks[i].nr_pages + 63) / 64;
	}
	map->bytes = num_max(words, 1) * 8;
	map->words = mmap(NULL, map->bytes, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map->words == MAP_FAILED)
		goto fail;
	return map;
fail:
	pages_map_free(map);
	err_set(err, ENOMEM, "out of memory");
	return NULL;
}

void pages_map_free(struct pages_map *map)
{
	if (!map)
		return;
	if (map->words != MAP_FAILED)
		munmap(map->words, map->bytes);
	free(map->at);
	free(map);
}

const _Atomic uint64_t *pages_map_words(const struct pages_map *map, size_t block)
{
	return map->words + map->at[block];
}

bool pages_map_test(const struct pages_map *map, size_t block, uint64_t page)
{
	return pages_map_words(map, block)[page / 64] >> (page % 64) & 1;
}

/* Bits of the word of @page that stand for pages of [page, end). */
static uint64_t pages_map_mask(uint64_t page, uint64_t end)
{
	uint64_t count = num_min(end - page, 64 - page % 64);

	return (count == 64 ? UINT64_MAX : (UINT64_C(1) << count) - 1) << page % 64;
}

void pages_map_set(struct pages_map *map, size_t block, uint64_t first, uint64_t count)
{
	_Atomic uint64_t *words = map->words + map->at[block];

	for (uint64_t page = first, end = first + count; page < end; page = (page | 63) + 1)
		words[page / 64] |= pages_map_mask(page, end);
}

void pages_map_clear(struct pages_map *map, size_t block, uint64_t first, uint64_t count)
{
	_Atomic uint64_t *words = map->words + map->at[block];

	/* What was never set is not touched, so that it stays no memory at all. */
	for (uint64_t page = first, end = first + count; page < end; page = (page | 63) + 1)
		if (words[page / 64])
			words[page / 64] &= ~pages_map_mask(page, end);
}

uint64_t pages_map_same(const struct pages_map *map, size_t block, uint64_t page, uint64_t end)
{
	const _Atomic uint64_t *words = pages_map_words(map, block);
	uint64_t first = page, flip = pages_map_test(map, block, page) ? UINT64_MAX : 0;

	for (; page < end; page = (page | 63) + 1) {
		uint64_t other = (words[page / 64] ^ flip) & pages_map_mask(page, end);

		if (other)
			return (page & ~UINT64_C(63)) + (unsigned int)__builtin_ctzll(other) -
			       first;
	}
	return end - first;
}

/* ---- the form of batches ---- */

size_t pages_pack_runs(void *buf, size_t block, const struct pages_run *runs, size_t nr_runs)
{
	uint8_t *at = buf;

	bytes_put_le(at, 4, block);
	bytes_put_le(at + 4, 4, nr_runs);
	at += PAGES_HEAD_BYTES;
	for (size_t i = 0; i < nr_runs; i++, at += PAGES_RUN_BYTES) {
		bytes_put_le(at, 8, runs[i].first);
		bytes_put_le(at + 8, 4, runs[i].count);
	}
	return (size_t)(at - (uint8_t *)buf);
}

/* The next run after page @*end, which becomes the page behind it. */
static bool pages_unpack_run(const uint8_t *at, uint64_t nr_pages, uint64_t *end,
			     struct pages_run *ret_run)
{
	uint64_t first = bytes_get_le(at, 8), count = bytes_get_le(at + 8, 4);

	if (!count || first < *end || first >= nr_pages || count > nr_pages - first)
		return false;
	*ret_run = (struct pages_run){first, (uint32_t)count};
	*end = first + count;
	return true;
}

int pages_unpack_runs(const struct block *blocks, size_t nr_blocks, const void *payload,
		      size_t size, size_t max_runs, uint64_t max_pages, size_t *ret_block,
		      struct pages_run *ret_runs, size_t *ret_nr_runs, uint64_t *ret_nr_pages,
		      struct range *ret_rest, struct err **err)
{
	const uint8_t *at = payload;
	uint64_t block, nr_runs, pages = 0, end = 0;

	if (size < PAGES_HEAD_BYTES)
		return err_set(err, EINVAL, "%zu bytes are too few", size);
	block = bytes_get_le(at, 4);
	nr_runs = bytes_get_le(at + 4, 4);
	if (block >= nr_blocks)
		return err_set(err, EINVAL, "there is no block %llu of memory",
			       (unsigned long long)block);
	if (!nr_runs || nr_runs > max_runs || size - PAGES_HEAD_BYTES < nr_runs * PAGES_RUN_BYTES)
		return err_set(err, EINVAL, "%llu runs of pages do not fit in",
			       (unsigned long long)nr_runs);
	at += PAGES_HEAD_BYTES;
	for (uint64_t i = 0; i < nr_runs; i++, at += PAGES_RUN_BYTES) {
		if (!pages_unpack_run(at, blocks[block].nr_pages, &end, &ret_runs[i]))
			return err_set(err, EINVAL,
				       "run %llu of pages is empty, out of order or outside of "
				       "'%s'",
				       (unsigned long long)i, blocks[block].ram.name);
		pages += ret_runs[i].count;
	}
	if (max_pages && pages > max_pages)
		return err_set(err, EINVAL, "%llu pages are too many", (unsigned long long)pages);
	*ret_block = (size_t)block;
	*ret_nr_runs = (size_t)nr_runs;
	*ret_nr_pages = pages;
	ret_rest->start = (uint64_t)(at - (const uint8_t *)payload);
	ret_rest->size = size - ret_rest->start;
	return 0;
}
