/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Page tables that grow on demand: a table for each GiB that is used, so that building them costs
 * nothing on hosts that interpret every instruction.
 */
#include "console.h"
#include "cpu.h"
#include "mem.h"
#include "power.h"
#include "text.h"

#define MEM_TABLES 96u /* page directories and their directories beyond the first 4 GiB */
#define PTE_TABLE  0x3ull
#define PTE_LEAF   0x83ull
#define PTE_ADDR   0x000ffffffffff000ull

extern uint64_t page_pml4[512];
extern uint8_t guest_end[];

static uint64_t mem_tables[MEM_TABLES][512] __attribute__((aligned(4096)));
static unsigned int mem_tables_used;
static uint64_t mem_pool_next;

/* The table that @entry points at, made if there is none. */
static uint64_t *mem_table(uint64_t *entry)
{
	if ((*entry & 1) == 0) {
		if (mem_tables_used == MEM_TABLES)
			power_die("mem: no page table left");
		*entry = (uint64_t)mem_tables[mem_tables_used++] | PTE_TABLE;
	}
	return (uint64_t *)(*entry & PTE_ADDR);
}

void mem_map(uint64_t gpa, uint64_t size)
{
	uint64_t end = gpa + size;

	for (gpa &= ~(MEM_LARGE_BYTES - 1); gpa < end; gpa += MEM_LARGE_BYTES) {
		uint64_t *pdpt, *pd;

		if (gpa < 0x100000000ull)
			continue;
		pdpt = mem_table(&page_pml4[gpa >> 39 & 511]);
		pd = mem_table(&pdpt[gpa >> 30 & 511]);
		pd[gpa >> 21 & 511] = gpa | PTE_LEAF;
	}
	/* what becomes present is cached by no processor before */
}

void mem_unmap(uint64_t gpa, uint64_t size)
{
	uint64_t end = (gpa + size) & ~(MEM_LARGE_BYTES - 1);

	for (gpa = MEM_ALIGN(gpa, MEM_LARGE_BYTES); gpa < end; gpa += MEM_LARGE_BYTES) {
		uint64_t *pdpt = mem_table(&page_pml4[gpa >> 39 & 511]);
		uint64_t *pd = mem_table(&pdpt[gpa >> 30 & 511]);

		pd[gpa >> 21 & 511] = 0;
	}
	cpu_flush_tlb();
}

void *mem_pages(size_t count)
{
	uint64_t pages;

	if (mem_pool_next == 0)
		mem_pool_next = MEM_ALIGN((uint64_t)guest_end, MEM_PAGE_BYTES);
	pages = mem_pool_next;
	if (count * MEM_PAGE_BYTES > MEM_POOL_END - pages)
		power_die("mem: no page left");
	mem_pool_next += count * MEM_PAGE_BYTES;
	memset((void *)pages, 0, count * MEM_PAGE_BYTES);
	return (void *)pages;
}
