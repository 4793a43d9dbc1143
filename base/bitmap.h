/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A fixed-size bitmap with range operations; the state of memory blocks is kept in these.
 *
 * I1  Bits at and beyond nbits are always 0.
 * I2  Range arguments must lie in [0, nbits]: a caller's error, asserted.
 * I3  What was never set, or cleared wholesale, costs next to nothing to search, count and clear:
 *     work grows with the parts that are in use.
 *
 * Memory: allocated with calloc(), so a large, mostly empty bitmap costs no host pages until used.
 * Threads: none; the owner serialises.
 */
#ifndef BASE_BITMAP_H
#define BASE_BITMAP_H

#include <stdbool.h>
#include <stdint.h>

struct bitmap;

/* All bits 0. NULL when memory is out. @nbits may be 0. */
struct bitmap *bitmap_new(uint64_t nbits);
void bitmap_free(struct bitmap *map);

uint64_t bitmap_size(const struct bitmap *map);
bool bitmap_test(const struct bitmap *map, uint64_t bit);
void bitmap_set(struct bitmap *map, uint64_t first, uint64_t count);
void bitmap_clear(struct bitmap *map, uint64_t first, uint64_t count);

/* True for an empty range. */
bool bitmap_all_set(const struct bitmap *map, uint64_t first, uint64_t count);
bool bitmap_all_clear(const struct bitmap *map, uint64_t first, uint64_t count);

/* Index of the first set (clear) bit in [from, end), or @end. */
uint64_t bitmap_next_set(const struct bitmap *map, uint64_t from, uint64_t end);
uint64_t bitmap_next_clear(const struct bitmap *map, uint64_t from, uint64_t end);

/* Number of set bits in the range. */
uint64_t bitmap_count(const struct bitmap *map, uint64_t first, uint64_t count);

#endif
