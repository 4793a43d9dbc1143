/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two bits a page. Runs are walked a word of 64 pages at a time; no compiler built-in that a C runtime
 * would have to bring is used.
 */
#include "driver/bare/pages.h"

#define WORD_BITS 64u

static uint64_t pages_words(uint64_t pages)
{
	return (pages + WORD_BITS - 1) / WORD_BITS;
}

/* The bits of word @word that stand for pages [first, end). */
static uint64_t pages_mask(uint64_t word, uint64_t first, uint64_t end)
{
	uint64_t mask = ~UINT64_C(0);

	if (first > word * WORD_BITS)
		mask &= mask << (first - word * WORD_BITS);
	if (end < (word + 1) * WORD_BITS)
		mask &= ~UINT64_C(0) >> ((word + 1) * WORD_BITS - end);
	return mask;
}

static void pages_set(uint64_t *map, uint64_t first, uint64_t end, bool set)
{
	for (uint64_t word = first / WORD_BITS; word < pages_words(end); word++) {
		uint64_t mask = pages_mask(word, first, end);

		map[word] = set ? map[word] | mask : map[word] & ~mask;
	}
}

static uint64_t pages_popcount(uint64_t x)
{
	x -= x >> 1 & UINT64_C(0x5555555555555555);
	x = (x & UINT64_C(0x3333333333333333)) + (x >> 2 & UINT64_C(0x3333333333333333));
	x = (x + (x >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
	return x * UINT64_C(0x0101010101010101) >> 56;
}

/* Which bit is the lowest of a word that has one. */
static uint64_t pages_lowest(uint64_t x)
{
	return pages_popcount((x & (0 - x)) - 1);
}

/* The first page of [first, end) that is free, or with @free false is not; @end without one. */
static uint64_t pages_next(const struct vmem_pages *p, uint64_t first, uint64_t end, bool free)
{
	for (uint64_t word = first / WORD_BITS; word < pages_words(end); word++) {
		uint64_t bits = free ? p->free[word] : ~p->free[word];

		bits &= pages_mask(word, first, end);
		if (bits != 0)
			return word * WORD_BITS + pages_lowest(bits);
	}
	return end;
}

/* The run in pages; false unless it is one of the region. */
static bool pages_run(const struct vmem_pages *p, uint64_t addr, uint64_t size, uint64_t *ret_first,
		      uint64_t *ret_end)
{
	uint64_t offset = addr - p->addr, page_mask = (UINT64_C(1) << p->page_shift) - 1;
	uint64_t region = p->pages << p->page_shift;

	if (addr < p->addr || offset > region || size > region - offset || size == 0 ||
	    ((offset | size) & page_mask) != 0)
		return false;
	*ret_first = offset >> p->page_shift;
	*ret_end = (offset + size) >> p->page_shift;
	return true;
}

size_t vmem_pages_bytes(uint64_t region_bytes, uint64_t page_bytes)
{
	uint64_t words = pages_words(region_bytes / page_bytes);

	return (size_t)(words * 2 * sizeof(uint64_t));
}

void vmem_pages_init(struct vmem_pages *pages, uint64_t addr, uint64_t region_bytes,
		     uint64_t page_bytes, void *memory)
{
	uint64_t nr = region_bytes / page_bytes;

	*pages = (struct vmem_pages){
		.addr = addr,
		.pages = nr,
		.page_shift = (uint32_t)pages_lowest(page_bytes),
		.there = memory,
		.free = (uint64_t *)memory + pages_words(nr),
		.first_free = nr,
	};
	for (uint64_t word = 0; word < pages_words(nr); word++)
		pages->there[word] = pages->free[word] = 0;
}

void vmem_pages_put(struct vmem_pages *pages, uint64_t addr, uint64_t size)
{
	uint64_t first, end;

	if (!pages_run(pages, addr, size, &first, &end))
		return;
	pages_set(pages->there, first, end, true);
	pages_set(pages->free, first, end, true);
	pages->there_bytes += size;
	pages->free_bytes += size;
	if (pages->first_free > first)
		pages->first_free = first;
}

static void pages_remove(struct vmem_pages *p, uint64_t first, uint64_t end, uint64_t bytes)
{
	pages_set(p->there, first, end, false);
	pages_set(p->free, first, end, false);
	p->there_bytes -= bytes;
	p->free_bytes -= bytes;
}

bool vmem_pages_take(struct vmem_pages *pages, uint64_t addr, uint64_t size)
{
	uint64_t first, end;

	if (!pages_run(pages, addr, size, &first, &end) ||
	    pages_next(pages, first, end, false) != end)
		return false;
	pages_remove(pages, first, end, size);
	return true;
}

/* How many pages of [first, end) are there, or with @used are in use. */
static uint64_t pages_count(const struct vmem_pages *p, uint64_t first, uint64_t end, bool used)
{
	uint64_t count = 0;

	for (uint64_t word = first / WORD_BITS; word < pages_words(end); word++) {
		uint64_t bits = p->there[word] & pages_mask(word, first, end);

		count += pages_popcount(used ? bits & ~p->free[word] : bits);
	}
	return count;
}

bool vmem_pages_take_there(struct vmem_pages *pages, uint64_t addr, uint64_t size)
{
	uint64_t first, end;

	if (!pages_run(pages, addr, size, &first, &end) || pages_count(pages, first, end, true))
		return false;
	pages_remove(pages, first, end, pages_count(pages, first, end, false) << pages->page_shift);
	return true;
}

uint64_t vmem_pages_used(const struct vmem_pages *pages, uint64_t addr, uint64_t size)
{
	uint64_t first, end;

	if (!pages_run(pages, addr, size, &first, &end))
		return 0;
	return pages_count(pages, first, end, true) << pages->page_shift;
}

uint64_t vmem_pages_alloc(struct vmem_pages *pages, uint64_t size)
{
	uint64_t page_mask = (UINT64_C(1) << pages->page_shift) - 1, first, end;
	uint64_t wanted = size >> pages->page_shift;

	wanted += (size & page_mask) != 0;
	if (wanted == 0 || wanted << pages->page_shift > pages->free_bytes || wanted > pages->pages)
		return 0;
	first = pages_next(pages, pages->first_free, pages->pages, true);
	pages->first_free = first;
	while (wanted <= pages->pages - first) {
		end = pages_next(pages, first, first + wanted, false);
		if (end == first + wanted) {
			pages_set(pages->free, first, end, false);
			pages->free_bytes -= wanted << pages->page_shift;
			return pages->addr + (first << pages->page_shift);
		}
		first = pages_next(pages, end, pages->pages, true);
	}
	return 0;
}

bool vmem_pages_free(struct vmem_pages *pages, uint64_t addr, uint64_t size)
{
	uint64_t page_mask = (UINT64_C(1) << pages->page_shift) - 1, first, end;

	/* an allocation is whole pages, whatever was asked for */
	if (size > UINT64_MAX - page_mask)
		return false;
	size = (size + page_mask) & ~page_mask;
	if (!pages_run(pages, addr, size, &first, &end) ||
	    pages_count(pages, first, end, true) != end - first)
		return false;
	pages_set(pages->free, first, end, true);
	pages->free_bytes += size;
	if (pages->first_free > first)
		pages->first_free = first;
	return true;
}
