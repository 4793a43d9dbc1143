/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which pages of 4 KiB are in a balloon, for memory of large host pages: one of those goes back to
 * the host when all of it is in.
 *
 * I1  Memory is taken where a page was added, for 1 GiB at a time, and given back by
 *     balloon_map_clear_all().
 *
 * Threads: the caller serialises.
 * The guest controls: which pages are added and removed; any number is allowed.
 */
#ifndef VMM_VIRTIO_BALLOON_MAP_H
#define VMM_VIRTIO_BALLOON_MAP_H

#include <stdbool.h>
#include <stdint.h>

struct bitmap;

/* Page numbers have 32 bits: 16 TiB, in chunks of 1 GiB. */
#define BALLOON_MAP_CHUNK_SHIFT 18
#define BALLOON_MAP_CHUNKS      (1u << (32 - BALLOON_MAP_CHUNK_SHIFT))

struct balloon_map {
	struct bitmap **chunks; /* NULL: nothing was ever added */
};

/* All zeros is an empty map. -ENOMEM: the rest of the pages is not in it. */
int balloon_map_add(struct balloon_map *map, uint64_t first, uint64_t count);
void balloon_map_remove(struct balloon_map *map, uint64_t first, uint64_t count);
/* Are all of these in? */
bool balloon_map_has(const struct balloon_map *map, uint64_t first, uint64_t count);
void balloon_map_clear_all(struct balloon_map *map);

#endif
