/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Numbers and sizes as people write them: "4096", "0x1000", "4K", "1.5G".
 *
 * I1  Nothing is rounded up and nothing wraps: what does not fit 64 bits is an error.
 * I2  The locale plays no part.
 */
#ifndef QMP_SIZE_H
#define QMP_SIZE_H

#include <stdint.h>

#define SIZE_TEXT_MAX 32

/*
 * Decimal, or hexadecimal after "0x"; nothing may stand before or after. 0 and *ret_value, -EINVAL
 * when it is no number, -ERANGE when it exceeds 64 bits.
 */
int size_parse_number(const char *text, uint64_t *ret_value);

/*
 * A size in bytes: a number with a unit B, K, M, G, T or P (powers of 1024, either case). A decimal
 * number may have a fraction, which is cut to whole bytes. Without a unit the number counts
 * @unit_bytes. Hexadecimal numbers take no fraction and no B. Results as above.
 */
int size_parse(const char *text, uint64_t unit_bytes, uint64_t *ret_bytes);

/* "4 GiB", "1536 MiB", "4097 bytes": exact, in the largest unit that divides it. Returns @buf. */
const char *size_format(uint64_t bytes, char buf[SIZE_TEXT_MAX]);

#endif
