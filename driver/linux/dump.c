// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * In a kdump kernel: which pages of the crashed kernel can be read (VIRTIO 1.3, 5.15.6.3: unplugged
 * memory must not be touched where the device says so). Nothing is plugged or unplugged then.
 *
 * The device is asked by STATE requests. A dump is read from one end to the other, so two answers are
 * remembered: of the unit that was asked about last, and of the block in it if the unit is mixed.
 *
 * I1  A page is read only if the device says that its block is plugged; none, when it does not answer.
 *
 * Threads: readers of /proc/vmcore, one at a time by dump.lock.
 */
#include <linux/crash_dump.h>
#include <linux/limits.h>
#include <linux/mm.h>

#include "driver/linux/ebb_mem.h"

#if IS_ENABLED(CONFIG_PROC_VMCORE)

/* The state of what begins at @addr, asked for unless *last tells where it was asked for before. */
static int ask(struct ebb_mem *mem, u64 addr, u64 size, u64 *last, int *ret_state)
{
	if (*last != addr) {
		*ret_state = vmem_driver_state(mem->drv, addr, size);
		*last = *ret_state < 0 ? U64_MAX : addr;
	}
	return *ret_state;
}

static bool is_plugged(struct ebb_mem *mem, u64 addr)
{
	struct ebb_mem_dump *dump = &mem->dump;
	u64 first = ALIGN_DOWN(addr, mem->unit_bytes), end = first + mem->unit_bytes;
	struct vmem_driver_info info;
	int state;

	/* The unit at the end of what can be plugged may be cut short. */
	vmem_driver_info(mem->drv, &info);
	first = max(first, mem->addr);
	end = min(end, mem->addr + info.usable_region_size);
	if (addr >= end)
		return false;
	state = ask(mem, first, end - first, &dump->unit, &dump->unit_state);
	if (state == VMEM_STATE_MIXED)
		state = ask(mem, ALIGN_DOWN(addr, mem->block_size), mem->block_size, &dump->block,
			    &dump->block_state);
	return state == VMEM_STATE_PLUGGED;
}

static bool pfn_is_ram(struct vmcore_cb *cb, unsigned long pfn)
{
	struct ebb_mem *mem = container_of(cb, struct ebb_mem, dump.cb);
	u64 addr = PFN_PHYS(pfn);
	bool plugged;

	if (!ebb_mem_contains(mem, addr, PAGE_SIZE))
		return true; /* not ours to tell */
	mutex_lock(&mem->dump.lock);
	plugged = is_plugged(mem, addr);
	mutex_unlock(&mem->dump.lock);
	return plugged;
}

int ebb_mem_dump_open(struct ebb_mem *mem)
{
	mutex_init(&mem->dump.lock);
	mem->dump.unit = U64_MAX;
	mem->dump.block = U64_MAX;
	mem->dump.cb.pfn_is_ram = pfn_is_ram;
	register_vmcore_cb(&mem->dump.cb);
	mem->dump.registered = true;
	dev_info(&mem->vdev->dev, "tells which memory of the crashed kernel is plugged\n");
	return 0;
}

void ebb_mem_dump_close(struct ebb_mem *mem)
{
	if (mem->dump.registered)
		unregister_vmcore_cb(&mem->dump.cb);
}

#else

int ebb_mem_dump_open(struct ebb_mem *mem)
{
	dev_warn(&mem->vdev->dev, "this kernel makes no dumps: the device is left alone\n");
	return -ENODEV;
}

void ebb_mem_dump_close(struct ebb_mem *mem)
{
}

#endif
