/* SPDX-License-Identifier: BSD-3-Clause */
/* Packed numbers: see pack.h. */
#include "base/pack.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/num.h"

/* ---- writing ---- */

/* Room for @size more bytes; NULL when the writer failed. */
static uint8_t *pack_room(struct pack *p, size_t size)
{
	uint64_t wanted, room = p->room ? p->room : 64;
	uint8_t *bytes;

	if (p->failed)
		return NULL;
	if (!num_add(p->size, size, &wanted) || wanted > SIZE_MAX / 2) {
		p->failed = true;
		return NULL;
	}
	while (room < wanted)
		room *= 2;
	if (room != p->room) {
		bytes = realloc(p->bytes, room);
		if (!bytes) {
			p->failed = true;
			return NULL;
		}
		p->bytes = bytes;
		p->room = room;
	}
	bytes = p->bytes + p->size;
	p->size = wanted;
	return bytes;
}

static void pack_le(struct pack *p, unsigned int size, uint64_t value)
{
	uint8_t *at = pack_room(p, size);

	if (at)
		bytes_put_le(at, size, value);
}

void pack_u8(struct pack *p, uint8_t value)
{
	pack_le(p, 1, value);
}

void pack_u16(struct pack *p, uint16_t value)
{
	pack_le(p, 2, value);
}

void pack_u32(struct pack *p, uint32_t value)
{
	pack_le(p, 4, value);
}

void pack_u64(struct pack *p, uint64_t value)
{
	pack_le(p, 8, value);
}

void pack_bool(struct pack *p, bool value)
{
	pack_le(p, 1, value);
}

void pack_bytes(struct pack *p, const void *bytes, size_t size)
{
	uint8_t *at = pack_room(p, size);

	if (at && size)
		memcpy(at, bytes, size);
}

void pack_text(struct pack *p, const char *text)
{
	size_t length = text ? strlen(text) : 0;

	if (length > PACK_TEXT_MAX) {
		p->failed = true;
		return;
	}
	pack_u16(p, (uint16_t)length);
	pack_bytes(p, text, length);
}

bool pack_failed(const struct pack *p)
{
	return p->failed;
}

void pack_done(struct pack *p)
{
	free(p->bytes);
	*p = (struct pack){.failed = false};
}

/* ---- reading ---- */

struct unpack unpack_begin(const void *bytes, size_t size)
{
	return (struct unpack){.at = bytes, .left = size};
}

const void *unpack_raw(struct unpack *u, size_t size)
{
	const uint8_t *at = u->at;

	if (u->failed || size > u->left) {
		u->failed = true;
		return NULL;
	}
	u->at += size;
	u->left -= size;
	return at;
}

static uint64_t unpack_le(struct unpack *u, unsigned int size)
{
	const void *at = unpack_raw(u, size);

	return at ? bytes_get_le(at, size) : 0;
}

static uint64_t unpack_le_max(struct unpack *u, unsigned int size, uint64_t max)
{
	uint64_t value = unpack_le(u, size);

	if (value <= max)
		return value;
	u->failed = true;
	return 0;
}

uint8_t unpack_u8(struct unpack *u)
{
	return (uint8_t)unpack_le(u, 1);
}

uint16_t unpack_u16(struct unpack *u)
{
	return (uint16_t)unpack_le(u, 2);
}

uint32_t unpack_u32(struct unpack *u)
{
	return (uint32_t)unpack_le(u, 4);
}

uint64_t unpack_u64(struct unpack *u)
{
	return unpack_le(u, 8);
}

bool unpack_bool(struct unpack *u)
{
	return unpack_le_max(u, 1, 1);
}

uint8_t unpack_u8_max(struct unpack *u, uint8_t max)
{
	return (uint8_t)unpack_le_max(u, 1, max);
}

uint16_t unpack_u16_max(struct unpack *u, uint16_t max)
{
	return (uint16_t)unpack_le_max(u, 2, max);
}

uint32_t unpack_u32_max(struct unpack *u, uint32_t max)
{
	return (uint32_t)unpack_le_max(u, 4, max);
}

uint64_t unpack_u64_max(struct unpack *u, uint64_t max)
{
	return unpack_le_max(u, 8, max);
}

void unpack_bytes(struct unpack *u, void *ret, size_t size)
{
	const void *at = unpack_raw(u, size);

	if (at && size)
		memcpy(ret, at, size);
	else
		memset(ret, 0, size);
}

void unpack_text(struct unpack *u, char *buf, size_t size)
{
	size_t length = unpack_u16_max(u, PACK_TEXT_MAX);
	const char *at = length < size ? unpack_raw(u, length) : NULL;

	buf[0] = 0;
	if (!at || memchr(at, 0, length)) {
		u->failed = true;
		return;
	}
	memcpy(buf, at, length);
	buf[length] = 0;
}

void unpack_fail(struct unpack *u)
{
	u->failed = true;
}

bool unpack_failed(const struct unpack *u)
{
	return u->failed;
}

bool unpack_ended(const struct unpack *u)
{
	return !u->failed && !u->left;
}
