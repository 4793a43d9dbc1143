/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Numbers, bytes and texts packed one after the other, little-endian and without gaps: the content
 * of saved state. The reader knows what comes; nothing in the bytes says so.
 *
 * I1  A writer that ran out of memory stays failed: it takes no more, and pack_failed() says so at
 *     the end. So does a reader that was asked for more than there is, or found what it must not:
 *     it gives zeros from then on.
 * I2  A reader never looks beyond the bytes that it was given, and allocates nothing.
 *
 * Threads: none; the caller serialises.
 * The other side of a stream controls every byte that is read: each number that is used as an index,
 * a size or a choice is read with its bound.
 */
#ifndef BASE_PACK_H
#define BASE_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Start from all zeros. */
struct pack {
	uint8_t *bytes;
	size_t size, room;
	bool failed;
};

void pack_u8(struct pack *p, uint8_t value);
void pack_u16(struct pack *p, uint16_t value);
void pack_u32(struct pack *p, uint32_t value);
void pack_u64(struct pack *p, uint64_t value);
void pack_bool(struct pack *p, bool value);
void pack_bytes(struct pack *p, const void *bytes, size_t size);
/* Length and characters; NULL is packed as "". At most PACK_TEXT_MAX, longer ones fail the writer. */
#define PACK_TEXT_MAX 1023u
void pack_text(struct pack *p, const char *text);
bool pack_failed(const struct pack *p);
/* Ends what it holds; all zeros afterwards. */
void pack_done(struct pack *p);

struct unpack {
	const uint8_t *at;
	size_t left;
	bool failed;
};

struct unpack unpack_begin(const void *bytes, size_t size);
uint8_t unpack_u8(struct unpack *u);
uint16_t unpack_u16(struct unpack *u);
uint32_t unpack_u32(struct unpack *u);
uint64_t unpack_u64(struct unpack *u);
/* 0 or 1; anything else fails it. */
bool unpack_bool(struct unpack *u);
/* A number that is at most @max; another one fails it, and 0 is returned. */
uint8_t unpack_u8_max(struct unpack *u, uint8_t max);
uint16_t unpack_u16_max(struct unpack *u, uint16_t max);
uint32_t unpack_u32_max(struct unpack *u, uint32_t max);
uint64_t unpack_u64_max(struct unpack *u, uint64_t max);
/* @ret is filled in completely, with zeros after a failure. */
void unpack_bytes(struct unpack *u, void *ret, size_t size);
/* The next @size bytes where they lie, NULL after a failure. */
const void *unpack_raw(struct unpack *u, size_t size);
/* A text without a 0 inside, ended with one in @buf: "" after a failure. */
void unpack_text(struct unpack *u, char *buf, size_t size);
/* Have it fail: what was read cannot be. */
void unpack_fail(struct unpack *u);
bool unpack_failed(const struct unpack *u);
/* All was read, and nothing failed. */
bool unpack_ended(const struct unpack *u);

#endif
