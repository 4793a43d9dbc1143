/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The record BLOCKS: which blocks of memory the source has, in the order in which its stream numbers
 * them. The target may have them in another order.
 *
 *	le32 number, number * {text name, le64 address, le64 bytes, le64 bytes that are plugged at a time
 *	(0: boot memory)}; texts are le16 length and characters
 *
 * Threads: none. The other side controls every byte.
 */
#ifndef VMM_MIGRATION_BLOCKS_WIRE_H
#define VMM_MIGRATION_BLOCKS_WIRE_H

#include <stddef.h>

struct block;
struct err;
struct pack;

void blocks_pack(const struct block *blocks, size_t nr, struct pack *out);
/*
 * Put @blocks, the machine's own, in the order of the source. -EINVAL and a sentence that names the
 * first block that is not the same on both sides.
 */
int blocks_unpack(struct block *blocks, size_t nr, const void *bytes, size_t size,
		  struct err **err);

#endif
