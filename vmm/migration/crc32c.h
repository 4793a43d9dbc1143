/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * CRC-32C (Castagnoli, RFC 3720 appendix B.4): by the processor where it can, by tables elsewhere.
 * Threads: any.
 */
#ifndef VMM_MIGRATION_CRC32C_H
#define VMM_MIGRATION_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continue @crc, which starts as 0: crc32c(crc32c(0, a), b) is that of a followed by b. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t size);
/* The same by tables, whatever the processor can. */
uint32_t crc32c_tables(uint32_t crc, const void *bytes, size_t size);

#endif
