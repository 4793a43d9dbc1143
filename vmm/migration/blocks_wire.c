/* SPDX-License-Identifier: BSD-3-Clause */
/* The record BLOCKS: see blocks_wire.h. */
#include "vmm/migration/blocks_wire.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/err.h"
#include "base/pack.h"
#include "vmm/migration/blocks.h"

void blocks_pack(const struct block *blocks, size_t nr, struct pack *out)
{
	pack_u32(out, (uint32_t)nr);
	for (size_t i = 0; i < nr; i++) {
		const struct block *b = &blocks[i];

		pack_text(out, b->ram.name);
		pack_u64(out, b->ram.gpa.start);
		pack_u64(out, b->ram.gpa.size);
		pack_u64(out, b->unit_bytes);
	}
}

/* Swap the block of this name to its place among those that were not found yet. */
static int blocks_find(struct block *blocks, size_t nr, size_t place, const char *name,
		       struct err **err)
{
	for (size_t i = place; i < nr; i++) {
		struct block found = blocks[i];

		if (strcmp(found.ram.name, name))
			continue;
		blocks[i] = blocks[place];
		blocks[place] = found;
		return 0;
	}
	return err_set(err, EINVAL,
		       "this machine has no block of memory as the source's number %zu", place);
}

int blocks_unpack(struct block *blocks, size_t nr, const void *bytes, size_t size, struct err **err)
{
	struct unpack in = unpack_begin(bytes, size);
	uint32_t count = unpack_u32(&in);
	char name[PACK_TEXT_MAX + 1];

	if (!unpack_failed(&in) && count != nr)
		return err_set(err, EINVAL,
			       "the source has %u blocks of memory, and this machine %zu", count,
			       nr);
	for (size_t i = 0; i < nr && !unpack_failed(&in); i++) {
		uint64_t gpa, bytes_there, unit;
		const struct block *b = &blocks[i];
		int ret;

		unpack_text(&in, name, sizeof(name));
		gpa = unpack_u64(&in);
		bytes_there = unpack_u64(&in);
		unit = unpack_u64(&in);
		if (unpack_failed(&in))
			break;
		ret = blocks_find(blocks, nr, i, name, err);
		if (ret)
			return ret;
		if (gpa != b->ram.gpa.start || bytes_there != b->ram.gpa.size ||
		    unit != b->unit_bytes)
			return err_set(err, EINVAL,
				       "memory '%s' has %" PRIu64 " bytes at 0x%" PRIx64
				       " in blocks of %" PRIu64 " at the source, and %" PRIu64
				       " bytes at 0x%" PRIx64 " in blocks of %" PRIu64 " here",
				       b->ram.name, bytes_there, gpa, unit, b->ram.gpa.size,
				       b->ram.gpa.start, b->unit_bytes);
	}
	if (!unpack_ended(&in))
		return err_set(err, EINVAL, "the list of blocks of memory is damaged");
	return 0;
}
