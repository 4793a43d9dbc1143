/* SPDX-License-Identifier: BSD-3-Clause */
/* Which pages are in a balloon: see balloon_map.h. */
#include "vmm/virtio/balloon_map.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bitmap.h"
#include "base/num.h"

#define CHUNK_PAGES (UINT64_C(1) << BALLOON_MAP_CHUNK_SHIFT)

/* The part of [first, first + count) that is in the chunk of its first page: how many pages. */
static uint64_t map_part(uint64_t first, uint64_t count)
{
	return num_min(count, CHUNK_PAGES - first % CHUNK_PAGES);
}

/* NULL: nothing of it was added, or it is beyond all page numbers. */
static struct bitmap *map_chunk(const struct balloon_map *map, uint64_t page)
{
	uint64_t chunk = page / CHUNK_PAGES;

	return map->chunks && chunk < BALLOON_MAP_CHUNKS ? map->chunks[chunk] : NULL;
}

int balloon_map_add(struct balloon_map *map, uint64_t first, uint64_t count)
{
	uint64_t part;

	if (!map->chunks)
		map->chunks = calloc(BALLOON_MAP_CHUNKS, sizeof(*map->chunks));
	if (!map->chunks)
		return -ENOMEM;
	for (; count; first += part, count -= part) {
		uint64_t chunk = first / CHUNK_PAGES;

		part = map_part(first, count);
		if (chunk >= BALLOON_MAP_CHUNKS)
			return -ENOMEM;
		if (!map->chunks[chunk])
			map->chunks[chunk] = bitmap_new(CHUNK_PAGES);
		if (!map->chunks[chunk])
			return -ENOMEM;
		bitmap_set(map->chunks[chunk], first % CHUNK_PAGES, part);
	}
	return 0;
}

void balloon_map_remove(struct balloon_map *map, uint64_t first, uint64_t count)
{
	uint64_t part;

	for (; count; first += part, count -= part) {
		struct bitmap *chunk = map_chunk(map, first);

		part = map_part(first, count);
		if (chunk)
			bitmap_clear(chunk, first % CHUNK_PAGES, part);
	}
}

bool balloon_map_has(const struct balloon_map *map, uint64_t first, uint64_t count)
{
	uint64_t part;

	for (; count; first += part, count -= part) {
		const struct bitmap *chunk = map_chunk(map, first);

		part = map_part(first, count);
		if (!chunk || !bitmap_all_set(chunk, first % CHUNK_PAGES, part))
			return false;
	}
	return true;
}

void balloon_map_clear_all(struct balloon_map *map)
{
	for (unsigned int i = 0; map->chunks && i < BALLOON_MAP_CHUNKS; i++)
		bitmap_free(map->chunks[i]);
	free(map->chunks);
	map->chunks = NULL;
}
