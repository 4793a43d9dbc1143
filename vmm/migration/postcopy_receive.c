/* SPDX-License-Identifier: BSD-3-Clause */
/* The target's side of postcopy, around lazy.h: see postcopy.h for the contract. */
#include "base/bytes.h"
#include "base/num.h"
#include "vmm/migration/lazy.h"
#include "vmm/migration/postcopy_set.h"

int postcopy_receive_list(struct lazy *lazy, const uint64_t *block_pages, size_t nr_blocks,
			  const void *bytes, size_t size, struct err **err)
{
	struct postcopy_set set;
	uint64_t end, at, nr;
	int ret = postcopy_set_decode(bytes, size, block_pages, nr_blocks,
				      "what the source has left", &set, err);

	if (ret)
		return ret;
	end = set.first + set.nr;
	for (at = set.first; !ret && (at = postcopy_set_next(&set, at, &nr)) < end; at += nr)
		ret = lazy_expect_pages(lazy, set.block, at, nr, err);
	return ret;
}

static uint64_t receive_next(void *opaque, size_t block, uint64_t page, uint64_t end,
			     uint64_t *ret_nr)
{
	return lazy_next_missing(opaque, block, page, end, ret_nr);
}

int postcopy_receive_have(struct lazy *lazy, const uint64_t *block_pages, size_t nr_blocks,
			  postcopy_emit_fn *emit, void *opaque, struct err **err)
{
	int ret = 0;

	for (size_t i = 0; !ret && i < nr_blocks; i++)
		ret = postcopy_set_emit(i, block_pages[i], true, receive_next, lazy, emit, opaque,
					err);
	return ret;
}

void postcopy_want_encode(size_t block, uint64_t page, uint64_t nr,
			  uint8_t bytes[POSTCOPY_WANT_BYTES])
{
	bytes_put_le(bytes, 4, block);
	bytes_put_le(bytes + 4, 8, page);
	bytes_put_le(bytes + 12, 8, nr);
}
