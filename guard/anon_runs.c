/* SPDX-License-Identifier: BSD-3-Clause */
/* Which blocks are what, and how many mappings that makes: see anon.h. */
#include "base/num.h"
#include "guard/anon.h"

struct run anon_segment(const struct anon *anon, uint64_t segment)
{
	uint64_t first = segment * anon->segment_blocks;

	return (struct run){first, num_min(first + anon->segment_blocks, anon->nr_blocks)};
}

bool anon_is_armed(const struct anon *anon, uint64_t block)
{
	return bitmap_test(anon->armed, block / anon->segment_blocks);
}

bool anon_is_read_only(const struct anon *anon, uint64_t block)
{
	return anon_is_armed(anon, block) ? bitmap_test(anon->fenced, block)
					  : !bitmap_test(anon->open, block);
}

struct run anon_stretch(const struct anon *anon, uint64_t from, uint64_t end)
{
	uint64_t segment = from / anon->segment_blocks;
	uint64_t next = anon_is_armed(anon, from)
				? bitmap_next_clear(anon->armed, segment, anon->nr_segments)
				: bitmap_next_set(anon->armed, segment, anon->nr_segments);

	return (struct run){from, num_min(end, next * anon->segment_blocks)};
}

struct run anon_next_set(const struct bitmap *map, uint64_t from, uint64_t end)
{
	uint64_t first = bitmap_next_set(map, from, end);

	return (struct run){first, bitmap_next_clear(map, first, end)};
}

struct run anon_next_clear(const struct bitmap *map, uint64_t from, uint64_t end)
{
	uint64_t first = bitmap_next_clear(map, from, end);

	return (struct run){first, bitmap_next_set(map, first, end)};
}

/* The block behind those from @at on that are in one mapping with it, or @end. */
static uint64_t anon_mapping_end(const struct anon *anon, uint64_t at, uint64_t end)
{
	const struct bitmap *map = anon_is_armed(anon, at) ? anon->fenced : anon->open;

	end = anon_stretch(anon, at, end).end;
	return bitmap_test(map, at) ? bitmap_next_clear(map, at, end)
				    : bitmap_next_set(map, at, end);
}

struct anon_count anon_count(const struct anon *anon, uint64_t first, uint64_t last)
{
	uint64_t end = num_min(last + 1, anon->nr_blocks);
	struct anon_count count = {0, 0};

	for (uint64_t at = first; at < end; at = anon_mapping_end(anon, at, end)) {
		bool armed = anon_is_armed(anon, at), read_only = anon_is_read_only(anon, at);

		if (at && anon_is_armed(anon, at - 1) == armed &&
		    anon_is_read_only(anon, at - 1) == read_only)
			continue;
		count.fences += read_only;
		count.armed_runs += armed && !read_only;
	}
	return count;
}

uint64_t anon_count_segment(const struct anon *anon, uint64_t segment)
{
	struct run run = anon_segment(anon, segment);

	return anon_is_read_only(anon, run.first) +
	       anon_count(anon, run.first + 1, run.end - 1).fences;
}

struct anon_count anon_change_begin(const struct anon *anon, struct run run)
{
	return anon_count(anon, run.first, run.end);
}

void anon_change_end(struct anon *anon, struct run run, struct anon_count before)
{
	struct anon_count after = anon_count(anon, run.first, run.end);

	anon->armed_runs += after.armed_runs - before.armed_runs;
	anon->pages.fences += (uint32_t)(after.fences - before.fences);
}
