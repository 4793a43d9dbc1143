// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * Pages of units that are online: ops take(), give() and used(), and what I1 of the header says.
 *
 * I1  A page that is kept from the page allocator is the same whether it was never given to it or was
 *     taken back: PageOffline(), not PageReserved(), one reference, not managed. So give() need not
 *     know which, and what an earlier load of the module left is taken over as it is.
 *
 * Threads: the core's lock is held, or the caller is about to online or offline the memory block and
 * the notifier holds it for him.
 */
#include <linux/gfp.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/page-flags.h>
#include <linux/sizes.h>
#include <linux/swap.h>

#include "driver/linux/compat.h"
#include "driver/linux/ebb_mem.h"

/* What is in use in the movable zone may be on its way out: it is tried again. */
#define EBB_MEM_TAKE_TRIES 3
/* A page of 1 GiB has 18. */
#define EBB_MEM_HUGE_ORDER_MAX 24

/* From here on nobody looks into the pages, /proc/kcore included. */
static void mark_kept(unsigned long pfn, unsigned long nr_pages)
{
	unsigned long end = pfn + nr_pages;

	page_offline_begin();
	for (; pfn < end; pfn++) {
		if (PageReserved(pfn_to_page(pfn)))
			ClearPageReserved(pfn_to_page(pfn));
		__SetPageOffline(pfn_to_page(pfn));
	}
	page_offline_end();
}

static void put_online(struct page *page, unsigned int order)
{
#if !EBB_MEM_BORN_OFFLINE
	unsigned long i;

	for (i = 0; i < 1ul << order; i++) {
		if (PageOffline(page + i))
			__ClearPageOffline(page + i);
	}
#endif
	generic_online_page(page, order);
}

/* The largest naturally aligned piece that begins at @pfn and ends at @end at the latest. */
static unsigned int piece_order(unsigned long pfn, unsigned long end)
{
	unsigned int order = EBB_MEM_ORDER_MAX;

	while (order > 0 && (!IS_ALIGNED(pfn, 1ul << order) || end - pfn < 1ul << order))
		order--;
	return order;
}

static void count_added(struct ebb_mem *mem, unsigned long nr_pages)
{
	atomic_long_add(nr_pages, &mem->pressure.added_pages);
	wake_up(&mem->pressure.added);
}

/* Pages of one memory block, or of one that is going online. */
static void give_pages(struct ebb_mem *mem, u64 addr, u64 size)
{
	unsigned long pfn = PHYS_PFN(addr), end = PHYS_PFN(addr + size);

	while (pfn < end) {
		unsigned int order = piece_order(pfn, end);

		put_online(pfn_to_page(pfn), order);
		pfn += 1ul << order;
		cond_resched();
	}
	count_added(mem, PHYS_PFN(size));
}

/*
 * What lies in a memory block that is offline, of a unit of several, is left: it is given when that
 * block goes online.
 */
void ebb_mem_give(void *os, uint64_t addr, uint64_t size)
{
	struct ebb_mem *mem = os;
	u64 end = addr + size;

	while (addr < end) {
		u64 block_end = ALIGN_DOWN(addr, mem->memory_block_bytes) + mem->memory_block_bytes;
		u64 piece = min(end, block_end) - addr;

		if (pfn_to_online_page(PHYS_PFN(addr)))
			give_pages(mem, addr, piece);
		addr += piece;
	}
}

void ebb_mem_pages_online(struct ebb_mem *mem, struct page *page, unsigned int order)
{
	u64 addr = page_to_phys(page), end = addr + (PAGE_SIZE << order);

	if (vmem_driver_usable(mem->drv, addr, end - addr)) {
		generic_online_page(page, order);
		count_added(mem, 1ul << order);
		return;
	}
	while (addr < end) {
		u64 size = min(end, ALIGN_DOWN(addr, mem->chunk_bytes) + mem->chunk_bytes) - addr;

		if (vmem_driver_usable(mem->drv, addr, size))
			give_pages(mem, addr, size);
		else if (!EBB_MEM_BORN_OFFLINE)
			mark_kept(PHYS_PFN(addr), PHYS_PFN(size));
		addr += size;
	}
}

/* A chunk, or what of it lies in one memory block. */
static u64 piece_bytes(const struct ebb_mem *mem)
{
	return min(mem->chunk_bytes, mem->memory_block_bytes);
}

void ebb_mem_pages_release(struct ebb_mem *mem, u64 addr, u64 size)
{
	u64 piece = ALIGN(addr, piece_bytes(mem)), end = addr + size;

	for (; piece < end; piece += piece_bytes(mem)) {
		unsigned long i, nr_pages = PHYS_PFN(piece_bytes(mem));
		struct page *page = pfn_to_page(PHYS_PFN(piece));

		if (vmem_driver_usable(mem->drv, piece, piece_bytes(mem)))
			continue;
		if (!EBB_MEM_BORN_OFFLINE)
			adjust_managed_page_count(page, nr_pages); /* offlining subtracts all */
		for (i = 0; i < nr_pages; i++) {
			if (WARN_ON_ONCE(!page_ref_dec_and_test(page + i)))
				dump_page(page + i, "a page that is kept from use has users");
		}
	}
}

void ebb_mem_pages_retain(struct ebb_mem *mem, u64 addr, u64 size)
{
	u64 piece = ALIGN(addr, piece_bytes(mem)), end = addr + size;

	for (; piece < end; piece += piece_bytes(mem)) {
		unsigned long i, nr_pages = PHYS_PFN(piece_bytes(mem));
		struct page *page = pfn_to_page(PHYS_PFN(piece));

		if (vmem_driver_usable(mem->drv, piece, piece_bytes(mem)))
			continue;
		if (!EBB_MEM_BORN_OFFLINE)
			adjust_managed_page_count(page, -(long)nr_pages);
		for (i = 0; i < nr_pages; i++)
			page_ref_inc(page + i);
	}
}

/* All of the range is online, and in one zone: *ret_zone. */
static bool find_zone(const struct ebb_mem *mem, u64 addr, u64 size, struct zone **ret_zone)
{
	u64 block = ALIGN_DOWN(addr, mem->memory_block_bytes);
	struct zone *zone = NULL;

	for (; block < addr + size; block += mem->memory_block_bytes) {
		u64 inside = max(block, addr);
		struct page *page = pfn_to_online_page(PHYS_PFN(inside));

		if (!page || (zone && page_zone(page) != zone))
			return false;
		zone = page_zone(page);
	}
	*ret_zone = zone;
	return zone != NULL;
}

bool ebb_mem_can_spare(u64 bytes)
{
	u64 left_pages = max(si_mem_available(), 0l) + max(get_nr_swap_pages(), 0l);

	return PFN_PHYS(left_pages) >= bytes;
}

int ebb_mem_take(void *os, uint64_t addr, uint64_t size)
{
	struct ebb_mem *mem = os;
	unsigned long pfn = PHYS_PFN(addr), nr_pages = PHYS_PFN(size);
	int tries, error = -EBUSY;
	struct zone *zone;

	if (ebb_mem_holds_memmap(mem, addr, size))
		return VMEM_DRIVER_NEVER;
	if (!READ_ONCE(ebb_mem_unplug_online) || !find_zone(mem, addr, size, &zone))
		return VMEM_DRIVER_BUSY;
	if (!ebb_mem_can_spare(size))
		return VMEM_DRIVER_NOMEM;
	tries = zone_idx(zone) == ZONE_MOVABLE ? EBB_MEM_TAKE_TRIES : 1;
	ebb_mem_watch_begin(mem);
	for (; tries > 0 && error && error != -ENOMEM && error != -EINTR; tries--)
		error = alloc_contig_range(pfn, pfn + nr_pages, MIGRATE_MOVABLE, GFP_KERNEL);
	ebb_mem_watch_end(mem);
	if (error)
		return error == -ENOMEM ? VMEM_DRIVER_NOMEM : VMEM_DRIVER_BUSY;
	mark_kept(pfn, nr_pages);
	adjust_managed_page_count(pfn_to_page(pfn), -(long)nr_pages);
	return VMEM_DRIVER_OK;
}

/*
 * How many pages from @page on are the same as it: free, *ret_free, or in use. The allocator's lock is
 * not held: whatever is read may be old, and is bounded by the caller.
 */
static unsigned long look_at(struct page *page, bool *ret_free)
{
	unsigned long order;

	*ret_free = false;
	if (PageBuddy(page)) {
		*ret_free = true;
		order = READ_ONCE(page_private(page));
		return order <= EBB_MEM_ORDER_MAX ? 1ul << order : 1;
	}
	if (PageHead(page)) {
		order = compound_order(page);
		return order <= EBB_MEM_HUGE_ORDER_MAX ? 1ul << order : 1;
	}
	/* In a processor's own list of free pages: no reference, and nothing to move. */
	*ret_free = !PageTail(page) && page_ref_count(page) == 0;
	return 1;
}

uint64_t ebb_mem_used(void *os, uint64_t addr, uint64_t size)
{
	struct ebb_mem *mem = os;
	u64 used_pages = 0, piece, end = addr + size;

	for (piece = addr; piece < end; piece += piece_bytes(mem)) {
		unsigned long pfn = PHYS_PFN(piece), nr_pages = PHYS_PFN(piece_bytes(mem));
		unsigned long done = PHYS_PFN(ebb_mem_memmap_in(mem, piece, piece_bytes(mem)));

		if (!vmem_driver_usable(mem->drv, piece, piece_bytes(mem)) ||
		    !pfn_to_online_page(pfn))
			continue;
		while (done < nr_pages) {
			bool is_free;
			unsigned long nr = look_at(pfn_to_page(pfn + done), &is_free);

			nr = min(nr, nr_pages - done);
			used_pages += is_free ? 0 : nr;
			done += nr;
		}
	}
	return PFN_PHYS(used_pages);
}
