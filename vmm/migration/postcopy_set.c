/* SPDX-License-Identifier: BSD-3-Clause */
/* Sets of pages as they travel: see postcopy_set.h. */
#include "vmm/migration/postcopy_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/num.h"
#include "base/pack.h"

enum kind { SET_NONE, SET_ALL, SET_SOME, SET_KINDS };

static uint64_t set_bytes(uint64_t nr)
{
	return nr / 8 + (nr % 8 != 0);
}

int postcopy_set_decode(const void *bytes, size_t size, const uint64_t *block_pages,
			size_t nr_blocks, const char *what, struct postcopy_set *ret_set,
			struct err **err)
{
	struct unpack in = unpack_begin(bytes, size);
	struct postcopy_set set = {.block = unpack_u32(&in)};
	uint64_t pages;

	set.kind = unpack_u32_max(&in, SET_KINDS - 1);
	set.first = unpack_u64(&in);
	set.nr = unpack_u64(&in);
	if (set.kind == SET_SOME)
		set.bits = unpack_raw(&in, set_bytes(num_min(set.nr, POSTCOPY_SET_PAGES)));
	pages = set.block < nr_blocks ? block_pages[set.block] : 0;
	if (!unpack_ended(&in) || set.first % POSTCOPY_SET_PAGES || set.first >= pages ||
	    set.nr != num_min(POSTCOPY_SET_PAGES, pages - set.first) ||
	    (set.bits && set.nr % 8 && set.bits[set.nr / 8] >> set.nr % 8))
		return err_set(err, EINVAL, "%s names pages that cannot be", what);
	*ret_set = set;
	return 0;
}

static bool set_has(const struct postcopy_set *set, uint64_t bit)
{
	return set->bits[bit / 8] >> bit % 8 & 1;
}

/* The first bit from @bit on that is @value, or set->nr. */
static uint64_t set_find(const struct postcopy_set *set, uint64_t bit, bool value)
{
	const uint64_t same = value ? 0 : UINT64_MAX;
	uint64_t word;

	while (bit < set->nr) {
		if (bit % 64 == 0 && bit + 64 <= set->nr) {
			memcpy(&word, set->bits + bit / 8, sizeof(word));
			if (word == same) {
				bit += 64;
				continue;
			}
		}
		if (set_has(set, bit) == value)
			return bit;
		bit++;
	}
	return set->nr;
}

uint64_t postcopy_set_next(const struct postcopy_set *set, uint64_t page, uint64_t *ret_nr)
{
	uint64_t end = set->first + set->nr, from, stop;

	*ret_nr = 0;
	page = num_max(page, set->first);
	if (page >= end || set->kind == SET_NONE)
		return end;
	if (set->kind == SET_ALL) {
		*ret_nr = end - page;
		return page;
	}
	from = set_find(set, page - set->first, true);
	stop = set_find(set, from, false);
	*ret_nr = stop - from;
	return set->first + from;
}

/* Fill in the payload of one set; its size. */
static size_t set_encode(size_t block, uint64_t first, uint64_t nr, postcopy_next_fn *next,
			 void *opaque, uint8_t *bytes)
{
	uint64_t page = first, end = first + nr, run, count = 0;
	uint8_t *bits = bytes + POSTCOPY_SET_HEAD;
	uint32_t kind;

	memset(bits, 0, set_bytes(nr));
	while ((page = next(opaque, block, page, end, &run)) < end) {
		for (uint64_t bit = page - first; bit < page - first + run; bit++) {
			if (bit % 8 || bit + 8 > page - first + run) {
				bits[bit / 8] |= (uint8_t)(1u << bit % 8);
			} else {
				bits[bit / 8] = 0xff;
				bit += 7;
			}
		}
		count += run;
		page += run;
	}
	kind = count == 0 ? SET_NONE : count == nr ? SET_ALL : SET_SOME;
	bytes_put_le(bytes, 4, block);
	bytes_put_le(bytes + 4, 4, kind);
	bytes_put_le(bytes + 8, 8, first);
	bytes_put_le(bytes + 16, 8, nr);
	return POSTCOPY_SET_HEAD + (kind == SET_SOME ? set_bytes(nr) : 0);
}

int postcopy_set_emit(size_t block, uint64_t nr_pages, bool none, postcopy_next_fn *next,
		      void *next_opaque, postcopy_emit_fn *emit, void *emit_opaque,
		      struct err **err)
{
	uint8_t *bytes =
		malloc(POSTCOPY_SET_HEAD + set_bytes(num_min(nr_pages, POSTCOPY_SET_PAGES)));
	int ret = 0;

	if (!bytes)
		return err_set(err, ENOMEM, "out of memory");
	for (uint64_t first = 0; !ret && first < nr_pages; first += POSTCOPY_SET_PAGES) {
		uint64_t nr = num_min(POSTCOPY_SET_PAGES, nr_pages - first);
		size_t size = set_encode(block, first, nr, next, next_opaque, bytes);

		if (none || bytes_get_le(bytes + 4, 4) != SET_NONE)
			ret = emit(emit_opaque, bytes, size, err);
	}
	free(bytes);
	return ret;
}
