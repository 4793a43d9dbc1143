/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checked arithmetic, alignment, powers of two and half-open ranges over 64-bit addresses.
 *
 * I1  Everything that adds or multiplies values which a guest or a person chose goes through
 *     num_add()/num_mul() or a range function; no caller relies on wrap-around.
 * I2  A range is [start, start + size). size 0 is the empty range: it contains nothing, overlaps
 *     nothing. start + size never exceeds 2^64 - 1 in a valid range (range_valid()).
 */
#ifndef BASE_NUM_H
#define BASE_NUM_H

#include <stdbool.h>
#include <stdint.h>

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define TIB (UINT64_C(1) << 40)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#ifndef container_of
#define container_of(ptr, type, member) ((type *)((char *)(ptr) - __builtin_offsetof(type, member)))
#endif

struct range {
	uint64_t start;
	uint64_t size;
};

/* True when a + b (a * b) fits; *ret_sum (*ret_product) is written only then. */
static inline bool num_add(uint64_t a, uint64_t b, uint64_t *ret_sum)
{
	uint64_t sum;

	if (__builtin_add_overflow(a, b, &sum))
		return false;
	*ret_sum = sum;
	return true;
}

static inline bool num_mul(uint64_t a, uint64_t b, uint64_t *ret_product)
{
	uint64_t product;

	if (__builtin_mul_overflow(a, b, &product))
		return false;
	*ret_product = product;
	return true;
}

static inline bool num_is_pow2(uint64_t n)
{
	return n && !(n & (n - 1));
}

/* @align is a power of two in all of these. */
static inline bool num_is_aligned(uint64_t n, uint64_t align)
{
	return !(n & (align - 1));
}

static inline uint64_t num_align_down(uint64_t n, uint64_t align)
{
	return n & ~(align - 1);
}

/* True when @n rounded up to @align fits; *ret_aligned is written only then. */
static inline bool num_align_up(uint64_t n, uint64_t align, uint64_t *ret_aligned)
{
	uint64_t sum;

	if (!num_add(n, align - 1, &sum))
		return false;
	*ret_aligned = num_align_down(sum, align);
	return true;
}

static inline uint64_t num_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t num_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static inline bool range_valid(struct range r)
{
	uint64_t end;

	return num_add(r.start, r.size, &end);
}

/* One past the last address; only for valid ranges. */
static inline uint64_t range_end(struct range r)
{
	return r.start + r.size;
}

/* Does valid @outer contain all of @inner? @inner may be anything, also one that wraps. */
static inline bool range_contains(struct range outer, struct range inner)
{
	return inner.size && inner.start >= outer.start && inner.size <= outer.size &&
	       inner.start - outer.start <= outer.size - inner.size;
}

static inline bool range_has(struct range r, uint64_t addr)
{
	return addr >= r.start && addr - r.start < r.size;
}

/* Both ranges valid. */
static inline bool range_overlaps(struct range a, struct range b)
{
	return a.size && b.size && a.start < range_end(b) && b.start < range_end(a);
}

#endif
