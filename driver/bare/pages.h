/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs of pages in a memory device's region: what a kernel allocates from memory that comes and goes.
 *
 * A page is there or not; one that is there is free or in use. Two bits a page, lowest address first,
 * so that what is in use gathers at the start of the region and its end empties.
 *
 * I1  A free page is there; a page that is not there is neither free nor in use.
 * I2  Only free pages go: vmem_pages_take() takes a run as a whole or changes nothing.
 * I3  No page's content is read or written.
 *
 * Threads: the caller serialises all calls.
 */
#ifndef DRIVER_BARE_PAGES_H
#define DRIVER_BARE_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vmem_pages {
	uint64_t addr, pages; /* of the region; pages that it has */
	uint32_t page_shift;
	uint64_t *there, *free; /* a bit a page */
	uint64_t first_free;    /* no page before this one is free */
	uint64_t there_bytes, free_bytes;
};

/* How much memory the bits need, a multiple of 16. @page_bytes is a power of two. */
size_t vmem_pages_bytes(uint64_t region_bytes, uint64_t page_bytes);
/* No page is there. @memory, of vmem_pages_bytes(), stays the caller's. */
void vmem_pages_init(struct vmem_pages *pages, uint64_t addr, uint64_t region_bytes,
		     uint64_t page_bytes, void *memory);

/* Pages come, free; none of them was there. [addr, addr + size) are whole pages of the region. */
void vmem_pages_put(struct vmem_pages *pages, uint64_t addr, uint64_t size);
/* Pages go; false, and nothing changed, unless all of them are free. */
bool vmem_pages_take(struct vmem_pages *pages, uint64_t addr, uint64_t size);
/* The same for those of a run that are there: false unless none of it is in use. */
bool vmem_pages_take_there(struct vmem_pages *pages, uint64_t addr, uint64_t size);
/* Bytes of a run that are in use. */
uint64_t vmem_pages_used(const struct vmem_pages *pages, uint64_t addr, uint64_t size);

/* The lowest run of free pages of at least @size bytes becomes used; 0 when there is none. */
uint64_t vmem_pages_alloc(struct vmem_pages *pages, uint64_t size);
/* @size as it was allocated, or pages of it. False, and nothing changed, unless all are in use. */
bool vmem_pages_free(struct vmem_pages *pages, uint64_t addr, uint64_t size);

#endif
