/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Little-endian fields: wrapper types that cannot be mixed up with host integers, and loads and
 * stores at any alignment. VIRTIO and PCI are little-endian whatever the host is.
 */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

typedef struct {
	uint16_t raw;
} le16;
typedef struct {
	uint32_t raw;
} le32;
typedef struct {
	uint64_t raw;
} le64;

static inline uint16_t le16_get(le16 v)
{
	return le16toh(v.raw);
}
static inline uint32_t le32_get(le32 v)
{
	return le32toh(v.raw);
}
static inline uint64_t le64_get(le64 v)
{
	return le64toh(v.raw);
}
static inline le16 le16_make(uint16_t v)
{
	return (le16){htole16(v)};
}
static inline le32 le32_make(uint32_t v)
{
	return (le32){htole32(v)};
}
static inline le64 le64_make(uint64_t v)
{
	return (le64){htole64(v)};
}

/* Read the low @size bytes (1 to 8) at @p as a little-endian number; and the reverse. */
static inline uint64_t bytes_get_le(const void *p, unsigned int size)
{
	uint64_t v = 0;

	memcpy(&v, p, size);
	return le64toh(v);
}

static inline void bytes_put_le(void *p, unsigned int size, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, size);
}

#endif
