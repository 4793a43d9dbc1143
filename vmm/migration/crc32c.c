/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * CRC-32C: see crc32c.h.
 *
 * Tables: eight bytes at a time, crc_bytes[k][b] being what byte b does to the sum k bytes later.
 * The processor's instruction takes eight bytes too, but each waits for the one before it: three
 * strands of CRC_STRAND bytes run side by side, and are joined by what CRC_STRAND zero bytes do to
 * a sum, crc_skips[k] for byte k of it. Both are linear: a row follows from what its eight single
 * bits do, which are the figures below.
 */
#include "vmm/migration/crc32c.h"

#include "base/bytes.h"

#define CRC_STRAND 1024u

#define CRC_BIT(b, n, r) ((b) >> (n)&1 ? UINT32_C(r) : 0)
#define CRC_1(b, r0, r1, r2, r3, r4, r5, r6, r7)                                         \
	(CRC_BIT(b, 0, r0) ^ CRC_BIT(b, 1, r1) ^ CRC_BIT(b, 2, r2) ^ CRC_BIT(b, 3, r3) ^ \
	 CRC_BIT(b, 4, r4) ^ CRC_BIT(b, 5, r5) ^ CRC_BIT(b, 6, r6) ^ CRC_BIT(b, 7, r7))
#define CRC_4(b, ...)                                                                    \
	CRC_1(b, __VA_ARGS__), CRC_1((b) + 1, __VA_ARGS__), CRC_1((b) + 2, __VA_ARGS__), \
		CRC_1((b) + 3, __VA_ARGS__)
#define CRC_16(b, ...)                                                                   \
	CRC_4(b, __VA_ARGS__), CRC_4((b) + 4, __VA_ARGS__), CRC_4((b) + 8, __VA_ARGS__), \
		CRC_4((b) + 12, __VA_ARGS__)
#define CRC_64(b, ...)                                                                        \
	CRC_16(b, __VA_ARGS__), CRC_16((b) + 16, __VA_ARGS__), CRC_16((b) + 32, __VA_ARGS__), \
		CRC_16((b) + 48, __VA_ARGS__)
#define CRC_TABLE(...)                                                                     \
	{                                                                                  \
		CRC_64(0, __VA_ARGS__), CRC_64(64, __VA_ARGS__), CRC_64(128, __VA_ARGS__), \
			CRC_64(192, __VA_ARGS__)                                           \
	}

static const uint32_t crc_bytes[8][256] = {
	CRC_TABLE(0xf26b8303, 0xe13b70f7, 0xc79a971f, 0x8ad958cf, 0x105ec76f, 0x20bd8ede,
		  0x417b1dbc, 0x82f63b78),
	CRC_TABLE(0x13a29877, 0x274530ee, 0x4e8a61dc, 0x9d14c3b8, 0x3fc5f181, 0x7f8be302,
		  0xff17c604, 0xfbc3faf9),
	CRC_TABLE(0xa541927e, 0x4f6f520d, 0x9edea41a, 0x38513ec5, 0x70a27d8a, 0xe144fb14,
		  0xc76580d9, 0x8b277743),
	CRC_TABLE(0xdd45aab8, 0xbf672381, 0x7b2231f3, 0xf64463e6, 0xe964b13d, 0xd725148b,
		  0xaba65fe7, 0x52a0c93f),
	CRC_TABLE(0x38116fac, 0x7022df58, 0xe045beb0, 0xc5670b91, 0x8f2261d3, 0x1ba8b557,
		  0x37516aae, 0x6ea2d55c),
	CRC_TABLE(0xef306b19, 0xdb8ca0c3, 0xb2f53777, 0x6006181f, 0xc00c303e, 0x85f4168d,
		  0x0e045beb, 0x1c08b7d6),
	CRC_TABLE(0x68032cc8, 0xd0065990, 0xa5e0c5d1, 0x4e2dfd53, 0x9c5bfaa6, 0x3d5b83bd,
		  0x7ab7077a, 0xf56e0ef4),
	CRC_TABLE(0x493c7d27, 0x9278fa4e, 0x211d826d, 0x423b04da, 0x847609b4, 0x0d006599,
		  0x1a00cb32, 0x34019664),
};

#ifdef __x86_64__
static const uint32_t crc_skips[4][256] = {
	CRC_TABLE(0xfe314258, 0xf98ef241, 0xf6f19273, 0xe80f5217, 0xd5f2d2df, 0xae09d34f,
		  0x59ffd06f, 0xb3ffa0de),
	CRC_TABLE(0x6213374d, 0xc4266e9a, 0x8da0abc5, 0x1ead217b, 0x3d5a42f6, 0x7ab485ec,
		  0xf5690bd8, 0xef3e6141),
	CRC_TABLE(0xdb90b473, 0xb2cd1e17, 0x60764adf, 0xc0ec95be, 0x84355d8d, 0x0d86cdeb,
		  0x1b0d9bd6, 0x361b37ac),
	CRC_TABLE(0x6c366f58, 0xd86cdeb0, 0xb535cb91, 0x6f87e1d3, 0xdf0fc3a6, 0xbbf3f1bd,
		  0x720b958b, 0xe4172b16),
};
#endif
/* Sums are kept as the polynomial has them: inverted at both ends by the callers. */

static uint32_t crc_by_tables(uint32_t crc, const uint8_t *at, size_t size)
{
	for (; size >= 8; size -= 8, at += 8) {
		uint64_t v = bytes_get_le(at, 8) ^ crc;

		crc = 0;
		for (unsigned int k = 0; k < 8; k++)
			crc ^= crc_bytes[7 - k][v >> 8 * k & 0xff];
	}
	while (size--)
		crc = crc >> 8 ^ crc_bytes[0][(crc ^ *at++) & 0xff];
	return crc;
}

#ifdef __x86_64__
static uint32_t crc_skip(uint32_t crc)
{
	return crc_skips[0][crc & 0xff] ^ crc_skips[1][crc >> 8 & 0xff] ^
	       crc_skips[2][crc >> 16 & 0xff] ^ crc_skips[3][crc >> 24];
}

__attribute__((target("sse4.2"))) static uint32_t crc_by_processor(uint32_t crc, const uint8_t *at,
								   size_t size)
{
	uint64_t a = crc;

	for (; size >= 3 * CRC_STRAND; size -= 3 * CRC_STRAND, at += 3 * CRC_STRAND) {
		uint64_t b = 0, c = 0;

		for (unsigned int i = 0; i < CRC_STRAND; i += 8) {
			a = __builtin_ia32_crc32di(a, bytes_get_le(at + i, 8));
			b = __builtin_ia32_crc32di(b, bytes_get_le(at + CRC_STRAND + i, 8));
			c = __builtin_ia32_crc32di(c, bytes_get_le(at + 2 * CRC_STRAND + i, 8));
		}
		b ^= crc_skip((uint32_t)a);
		a = c ^ crc_skip((uint32_t)b);
	}
	for (; size >= 8; size -= 8, at += 8)
		a = __builtin_ia32_crc32di(a, bytes_get_le(at, 8));
	while (size--)
		a = __builtin_ia32_crc32qi((uint32_t)a, *at++);
	return (uint32_t)a;
}
#endif

uint32_t crc32c_tables(uint32_t crc, const void *bytes, size_t size)
{
	return ~crc_by_tables(~crc, bytes, size);
}

uint32_t crc32c(uint32_t crc, const void *bytes, size_t size)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("sse4.2"))
		return ~crc_by_processor(~crc, bytes, size);
#endif
	return crc32c_tables(crc, bytes, size);
}
