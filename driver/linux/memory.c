// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * Memory blocks of Linux: ops add() and remove(), and what they need: the node, the memory group for
 * the auto-movable policy, the device's region among the system's resources.
 *
 * I1  Linux keeps the name of a memory block's resource, and the memory group: both outlive the module
 *     where memory of the device does. So does the region, which keeps others away from it.
 * I2  Struct pages are put into the unit itself only where all that holds them is plugged (header, I2).
 * I3  Where the kernel takes no run of such units at once, each is added by itself, and when one cannot
 *     be, the core is told of those that are there; a run of them is not removed at all, each one is.
 */
#include <linux/ioport.h>
#include <linux/memory.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/nodemask.h>
#include <linux/pgtable.h>
#include <linux/slab.h>

#if IS_ENABLED(CONFIG_ACPI_NUMA)
#include <acpi/acpi_numa.h>
#endif

#include "driver/linux/compat.h"
#include "driver/linux/ebb_mem.h"

/* kexec-tools and others know memory of this kind by this name. */
#define EBB_MEM_RESOURCE "System RAM (virtio_mem)"
/*
 * What is added in one call may be mapped by one entry of the page tables, and x86 does not split such
 * an entry when a part of it is removed: it takes the memory below it for a page table, and frees it. So
 * a run of units is smaller than what the largest entry maps, unless each unit is at least as large.
 */
#define EBB_MEM_RUN_MAX_BYTES (PUD_SIZE / 2)

static int result_of(int error)
{
	switch (error) {
	case 0:
		return VMEM_DRIVER_OK;
	case -ENOMEM:
		return VMEM_DRIVER_NOMEM;
	case -EBUSY:
	case -EAGAIN:
	case -EINTR:
		return VMEM_DRIVER_BUSY;
	default:
		return VMEM_DRIVER_NEVER;
	}
}

u64 ebb_mem_run_max_bytes(const struct ebb_mem *mem)
{
	return max_t(u64, mem->unit_bytes, EBB_MEM_RUN_MAX_BYTES);
}

/* Of a memory block that holds its own struct pages, what they take. */
static u64 memmap_bytes(const struct ebb_mem *mem)
{
	return ALIGN(PHYS_PFN(mem->memory_block_bytes) * sizeof(struct page),
		     PFN_PHYS(pageblock_nr_pages));
}

#ifdef CONFIG_X86_64
/* The struct pages of the memory block at @block lie in it. */
static bool is_self_hosted(const struct ebb_mem *mem, u64 block)
{
	unsigned long pfn = PHYS_PFN(block);
	u64 where;

	if (!pfn_valid(pfn))
		return false;
	where = slow_virt_to_phys(pfn_to_page(pfn));
	return where >= block && where - block < mem->memory_block_bytes;
}
#else
static bool is_self_hosted(const struct ebb_mem *mem, u64 block)
{
	return false;
}
#endif

u64 ebb_mem_memmap_in(const struct ebb_mem *mem, u64 addr, u64 size)
{
	u64 block = ALIGN_DOWN(addr, mem->memory_block_bytes);
	u64 end = block + memmap_bytes(mem);

	return addr < end && is_self_hosted(mem, block) ? min(end - addr, size) : 0;
}

bool ebb_mem_holds_memmap(const struct ebb_mem *mem, u64 addr, u64 size)
{
	u64 block;

	for (block = ALIGN_DOWN(addr, mem->memory_block_bytes); block < addr + size;
	     block += mem->memory_block_bytes) {
		if (addr < block + memmap_bytes(mem) && is_self_hosted(mem, block))
			return true;
	}
	return false;
}

void ebb_mem_tell_unit(struct ebb_mem *mem, u64 addr)
{
	bool there = false;
	u64 block;

	for (block = addr; block < addr + mem->unit_bytes; block += mem->memory_block_bytes) {
		struct page *page = pfn_to_online_page(PHYS_PFN(block));

		if (page) {
			vmem_driver_onlined(mem->drv, addr, mem->unit_bytes,
					    page_zonenum(page) == ZONE_MOVABLE
						    ? VMEM_DRIVER_MOVABLE
						    : VMEM_DRIVER_IMMOVABLE);
			return;
		}
		there = there || pfn_valid(PHYS_PFN(block));
	}
	if (there)
		vmem_driver_offlined(mem->drv, addr, mem->unit_bytes);
}

/* All that would hold struct pages in [addr, addr + size) is plugged. */
static bool is_memmap_plugged(struct ebb_mem *mem, u64 addr, u64 size)
{
	u64 block;

	for (block = addr; block < addr + size; block += mem->memory_block_bytes) {
		if (!vmem_driver_plugged(mem->drv, block, memmap_bytes(mem)))
			return false;
	}
	return true;
}

static int add_blocks(struct ebb_mem *mem, u64 addr, u64 size, bool memmap)
{
	mhp_t flags = MHP_MERGE_RESOURCE | MHP_NID_IS_MGID;

	if (memmap)
		flags |= MHP_MEMMAP_ON_MEMORY;
	return add_memory_driver_managed(mem->mgid, addr, size, mem->resource_name, flags);
}

/* I3; *ret_done is what was added, also when that failed. */
static int add_each(struct ebb_mem *mem, u64 addr, u64 size, u64 *ret_done)
{
	int error = 0;

	for (*ret_done = 0; *ret_done < size; *ret_done += mem->unit_bytes) {
		error = add_blocks(mem, addr + *ret_done, mem->unit_bytes, true);
		if (error == -EINVAL && mem->memmap == EBB_MEM_MEMMAP_TRY) {
			mem->memmap = EBB_MEM_MEMMAP_OFF; /* this kernel does not do it */
			error = add_blocks(mem, addr, size, false);
			*ret_done = error ? 0 : size;
			break;
		}
		if (error)
			break;
		mem->memmap = EBB_MEM_MEMMAP_ON;
	}
	return error;
}

int ebb_mem_add(void *os, uint64_t addr, uint64_t size)
{
	struct ebb_mem *mem = os;
	bool memmap = mem->memmap != EBB_MEM_MEMMAP_OFF && is_memmap_plugged(mem, addr, size);
	u64 done = 0, unit;
	int error;

	mutex_unlock(&mem->lock);
	if (memmap && !EBB_MEM_MEMMAP_RUNS)
		error = add_each(mem, addr, size, &done);
	else
		error = add_blocks(mem, addr, size, memmap);
	mutex_lock(&mem->lock);
	if (error) {
		for (unit = addr; unit < addr + done; unit += mem->unit_bytes)
			ebb_mem_tell_unit(mem, unit);
	}
	return result_of(error);
}

static bool is_any_online(const struct ebb_mem *mem, u64 addr, u64 size)
{
	u64 block;

	for (block = addr; block < addr + size; block += mem->memory_block_bytes) {
		if (pfn_to_online_page(PHYS_PFN(block)))
			return true;
	}
	return false;
}

/* Of [addr, addr + size), what Linux uses: plugged chunks of memory blocks that are online. */
static u64 online_bytes(const struct ebb_mem *mem, u64 addr, u64 size)
{
	u64 step = min(mem->chunk_bytes, mem->memory_block_bytes), sum = 0, piece;

	for (piece = addr; piece < addr + size; piece += step) {
		if (pfn_to_online_page(PHYS_PFN(piece)) &&
		    vmem_driver_usable(mem->drv, piece, step))
			sum += step;
	}
	return sum;
}

int ebb_mem_remove(void *os, uint64_t addr, uint64_t size)
{
	struct ebb_mem *mem = os;
	int error;

	if (!READ_ONCE(ebb_mem_unplug_online) && is_any_online(mem, addr, size))
		return VMEM_DRIVER_BUSY;
	if (!ebb_mem_can_spare(online_bytes(mem, addr, size)))
		return VMEM_DRIVER_NOMEM;
	if (!EBB_MEM_MEMMAP_RUNS && size > mem->unit_bytes && ebb_mem_holds_memmap(mem, addr, size))
		return VMEM_DRIVER_BUSY; /* I3: also what an earlier load added */
	mutex_unlock(&mem->lock);
	ebb_mem_watch_begin(mem);
	error = offline_and_remove_memory(addr, size);
	ebb_mem_watch_end(mem);
	mutex_lock(&mem->lock);
	return result_of(error);
}

void ebb_mem_drop_offline(struct ebb_mem *mem)
{
	u64 unit = ALIGN(mem->addr, mem->unit_bytes);

	for (; unit + mem->unit_bytes <= mem->end; unit += mem->unit_bytes) {
		if (pfn_valid(PHYS_PFN(unit)) && !is_any_online(mem, unit, mem->unit_bytes) &&
		    !vmem_driver_usable(mem->drv, unit, mem->unit_bytes))
			ebb_mem_remove(mem, unit, mem->unit_bytes);
	}
}

/* The node that the device names, if this system knows it; else the one that the address belongs to. */
static int find_node(struct ebb_mem *mem, u16 node_id)
{
	int nid = NUMA_NO_NODE;

#if IS_ENABLED(CONFIG_ACPI_NUMA)
	if (virtio_has_feature(mem->vdev, VMEM_F_ACPI_PXM))
		nid = pxm_to_node(node_id);
#endif
	if (nid == NUMA_NO_NODE)
		nid = memory_add_physaddr_to_nid(mem->addr);
	return nid;
}

bool ebb_mem_is_any_there(const struct ebb_mem *mem)
{
	u64 block = ALIGN(mem->addr, mem->memory_block_bytes);

	for (; block < mem->end; block += mem->memory_block_bytes) {
		if (pfn_valid(PHYS_PFN(block)))
			return true;
	}
	return false;
}

static int is_foreign(struct resource *ram, void *unused)
{
	return !(ram->flags & IORESOURCE_SYSRAM_DRIVER_MANAGED);
}

/*
 * Memory that no driver has added lies in the region: it would be taken for what an earlier load left,
 * and be given away.
 */
static bool is_any_foreign(const struct ebb_mem *mem)
{
	return walk_iomem_res_desc(IORES_DESC_NONE, IORESOURCE_SYSTEM_RAM | IORESOURCE_BUSY,
				   mem->addr, mem->addr + mem->region_size - 1, NULL,
				   is_foreign) > 0;
}

/* The region is the device's, and memory may be added in it. */
static int claim_region(struct ebb_mem *mem)
{
	char *name = kstrdup(dev_name(&mem->vdev->dev), GFP_KERNEL);

	if (!name)
		return -ENOMEM;
	mem->region = __request_region(&iomem_resource, mem->addr, mem->region_size, name,
				       IORESOURCE_SYSTEM_RAM);
	if (mem->region) {
		mem->region->flags &= ~IORESOURCE_BUSY;
		return 0;
	}
	kfree(name);
	if (ebb_mem_is_any_there(mem) && !is_any_foreign(mem))
		return 0; /* I1: it is claimed since an earlier load */
	dev_err(&mem->vdev->dev, "the device's region, %#llx to %#llx, is in use by others\n",
		mem->addr, mem->addr + mem->region_size - 1);
	return -EBUSY;
}

static void choose_memmap(struct ebb_mem *mem)
{
	mem->memmap = EBB_MEM_MEMMAP_OFF;
	if (!IS_ENABLED(CONFIG_X86_64) || !ebb_mem_memmap_on_memory)
		return;
	if (EBB_MEM_MEMMAP_RUNS)
		mem->memmap = ebb_mem_memmap_is_on() ? EBB_MEM_MEMMAP_ON : EBB_MEM_MEMMAP_OFF;
	else if (mem->unit_bytes == mem->memory_block_bytes)
		mem->memmap = EBB_MEM_MEMMAP_TRY;
}

int ebb_mem_memory_open(struct ebb_mem *mem, u16 node_id)
{
	int error;

	mem->nid = find_node(mem, node_id);
	mem->resource_name = kstrdup(EBB_MEM_RESOURCE, GFP_KERNEL);
	if (!mem->resource_name)
		return -ENOMEM;
	mem->mgid = memory_group_register_dynamic(mem->nid, PHYS_PFN(mem->unit_bytes));
	if (mem->mgid < 0) {
		error = mem->mgid;
		goto free_name;
	}
	error = claim_region(mem);
	if (error)
		goto leave_group;
	choose_memmap(mem);
	return 0;
leave_group:
	memory_group_unregister(mem->mgid);
free_name:
	kfree(mem->resource_name);
	return error;
}

void ebb_mem_memory_close(struct ebb_mem *mem)
{
	if (ebb_mem_is_any_there(mem)) {
		dev_info(&mem->vdev->dev, "memory that is in use stays so\n");
		return;
	}
	if (mem->region) {
		const char *name = mem->region->name;

		release_resource(mem->region);
		kfree(mem->region);
		kfree(name);
	}
	memory_group_unregister(mem->mgid);
	kfree(mem->resource_name);
}
