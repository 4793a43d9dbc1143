/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sets of pages as they travel: payloads of POSTCOPY_RUN (the pages that are left) and HAVE (those
 * that the target lacks).
 *
 *	le32 block, le32 kind (0: none, 1: all, 2: some), le64 first page, le64 pages; some: a bit for each
 *	of these, from the lowest of the first byte on, rest 0. First is a multiple of POSTCOPY_SET_PAGES,
 *	and there are so many, or as many as the block has from there on.
 *
 * The other side controls every byte: decoding checks all of it.
 */
#ifndef VMM_MIGRATION_POSTCOPY_SET_H
#define VMM_MIGRATION_POSTCOPY_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/migration/postcopy.h"

#define POSTCOPY_SET_PAGES (UINT64_C(1) << 24)
#define POSTCOPY_SET_HEAD  24u

struct postcopy_set {
	size_t block;
	uint64_t first, nr;
	uint32_t kind;
	const uint8_t *bits;
};

/* -EINVAL with a sentence that begins with @what. */
int postcopy_set_decode(const void *bytes, size_t size, const uint64_t *block_pages,
			size_t nr_blocks, const char *what, struct postcopy_set *ret_set,
			struct err **err);
/* The first page of the set from @page on; *ret_nr: how many follow, 0 when there is none. */
uint64_t postcopy_set_next(const struct postcopy_set *set, uint64_t page, uint64_t *ret_nr);

/* As lazy_next_missing(), of one block. */
typedef uint64_t postcopy_next_fn(void *opaque, size_t block, uint64_t page, uint64_t end,
				  uint64_t *ret_nr);

/* All sets of a block; with @none also those that are empty. */
int postcopy_set_emit(size_t block, uint64_t nr_pages, bool none, postcopy_next_fn *next,
		      void *next_opaque, postcopy_emit_fn *emit, void *emit_opaque,
		      struct err **err);

#endif
