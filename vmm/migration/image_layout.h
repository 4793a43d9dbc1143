/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where things are in an image; see image.h. Numbers are little-endian, positions count from the image's
 * start.
 *
 *	0	the record header, then le64 position of the index, le64 its size, le32 its crc, le32 crc
 *		of these 20 bytes, which goes on from the record header's own
 *	place p (0 ...)  IMAGE_CHUNK_BYTES at (p + 1) * IMAGE_CHUNK_BYTES
 *	index	behind the last place:
 *		le32 blocks; for each: le64 bytes, le64 chunks; for each of these, ascending:
 *			le64 which chunk of the block, le64 place, 64 bytes: a bit for each page that has
 *			content, from the lowest of the first byte on, then a le32 crc for each such page
 *		le32 records; for each: le32 type, le32 flags, le32 size, payload
 */
#ifndef VMM_MIGRATION_IMAGE_LAYOUT_H
#define VMM_MIGRATION_IMAGE_LAYOUT_H

#include <stdint.h>

#include "vmm/migration/image.h"

#define IMAGE_HEAD_EXTRA    24u /* behind the record header */
#define IMAGE_HEAD_BYTES    (RECORD_HEADER_BYTES + IMAGE_HEAD_EXTRA)
#define IMAGE_CHUNK_PAGES   (IMAGE_CHUNK_BYTES / IMAGE_PAGE_BYTES)
#define IMAGE_PRESENT_BYTES (IMAGE_CHUNK_PAGES / 8)
#define IMAGE_CHUNK_HEAD    (16u + IMAGE_PRESENT_BYTES)
#define IMAGE_BLOCK_HEAD    16u
#define IMAGE_RECORD_HEAD   12u

static inline uint64_t image_place_position(uint64_t place)
{
	return (place + 1) * IMAGE_CHUNK_BYTES;
}

/* Chunks that a block of so many bytes has. */
static inline uint64_t image_chunks(uint64_t bytes)
{
	return bytes / IMAGE_CHUNK_BYTES + (bytes % IMAGE_CHUNK_BYTES != 0);
}

#endif
