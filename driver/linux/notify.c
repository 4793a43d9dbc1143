// SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause
/*
 * Memory blocks that go online and offline: by the worker, by the system's policy, by hand.
 *
 * I1  From MEM_GOING_... to what ends it, ebb_mem.lock is held for whoever changes the memory block;
 *     the core's map and the pages that are kept stand still meanwhile.
 * I2  While a device's driver starts or leaves, only its worker may online and offline its memory.
 * I3  A device is on the list while its notifier may be called, and only then: whoever finds it there
 *     in online_page() has been let pass by its notifier, and its removal waits for him.
 *
 * Linux allows one function for pages that go online: it is the module's while it has any device.
 */
#include <linux/lockdep.h>
#include <linux/memory.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/rculist.h>

#include "driver/linux/compat.h"
#include "driver/linux/ebb_mem.h"

static struct {
	struct mutex lock; /* guards changes of the list */
	struct list_head list;
} devices = {
	.lock = __MUTEX_INITIALIZER(devices.lock),
	.list = LIST_HEAD_INIT(devices.list),
};

static void online_page(struct page *page, unsigned int order)
{
	u64 addr = page_to_phys(page), size = PAGE_SIZE << order;
	struct ebb_mem *mem;

	rcu_read_lock();
	list_for_each_entry_rcu(mem, &devices.list, next)
	{
		if (ebb_mem_contains(mem, addr, size)) {
			rcu_read_unlock(); /* I3 */
			ebb_mem_pages_online(mem, page, order);
			return;
		}
	}
	rcu_read_unlock();
	generic_online_page(page, order); /* no device's: a DIMM's */
}

/* I2 */
static bool is_refused(struct ebb_mem *mem)
{
	struct vmem_driver_info info;

	if (current == mem->worker)
		return false;
	vmem_driver_info(mem->drv, &info);
	return test_bit(EBB_MEM_OPENING, &mem->flags) || test_bit(EBB_MEM_LEAVING, &mem->flags) ||
	       info.status == VMEM_DRIVER_STARTING;
}

static int change_begin(struct ebb_mem *mem)
{
	mutex_lock(&mem->lock);
	if (is_refused(mem)) {
		mutex_unlock(&mem->lock);
		return -EBUSY;
	}
	mem->changing = true;
	return 0;
}

static void change_end(struct ebb_mem *mem)
{
	mem->changing = false;
	ebb_mem_publish(mem);
	mutex_unlock(&mem->lock);
	ebb_mem_kick(mem);
}

/* A unit of several memory blocks is online while any of them is. */
static void tell_units(struct ebb_mem *mem, u64 addr, u64 size)
{
	u64 unit = ALIGN_DOWN(addr, mem->unit_bytes);

	for (; unit < addr + size; unit += mem->unit_bytes)
		ebb_mem_tell_unit(mem, unit);
}

static int change_memory(struct ebb_mem *mem, unsigned long action, u64 addr, u64 size)
{
	int error = 0;

	switch (action) {
	case MEM_GOING_OFFLINE:
		error = change_begin(mem);
		if (!error)
			ebb_mem_pages_release(mem, addr, size);
		break;
	case MEM_GOING_ONLINE:
		error = change_begin(mem);
		break;
	case MEM_OFFLINE:
	case MEM_ONLINE:
		/* It began before the notifier was there. */
		if (!mem->changing)
			mutex_lock(&mem->lock);
		tell_units(mem, addr, size);
		if (current != mem->worker)
			vmem_driver_retry(mem->drv);
		change_end(mem);
		break;
	case MEM_CANCEL_OFFLINE:
		/* Without the beginning, another notifier was asked first and refused. */
		if (mem->changing) {
			ebb_mem_pages_retain(mem, addr, size);
			change_end(mem);
		}
		break;
	case MEM_CANCEL_ONLINE:
		if (mem->changing)
			change_end(mem);
		break;
	default:
		break;
	}
	return notifier_from_errno(error);
}

static int on_memory(struct notifier_block *nb, unsigned long action, void *data)
{
	struct ebb_mem *mem = container_of(nb, struct ebb_mem, memory_nb);
	const struct memory_notify *what = data;
	u64 addr = PFN_PHYS(what->start_pfn), size = PFN_PHYS(what->nr_pages);
	int answer;

	if (addr >= mem->addr + mem->region_size || addr + size <= mem->addr)
		return NOTIFY_DONE;
	if (!ebb_mem_contains(mem, addr, size)) {
		dev_warn_once(&mem->vdev->dev, "memory beyond the device's region\n");
		return action == MEM_GOING_ONLINE || action == MEM_GOING_OFFLINE ? NOTIFY_BAD
										 : NOTIFY_DONE;
	}
	/*
	 * The lock is taken within the notifiers' lock, and kept when that is given up; the next call
	 * takes the notifiers' lock within ours. No deadlock can come of it: both are taken by one
	 * who holds mem_hotplug_lock.
	 */
	lockdep_off();
	answer = change_memory(mem, action, addr, size);
	lockdep_on();
	return answer;
}

int ebb_mem_notify_open(struct ebb_mem *mem)
{
	int error = 0;

	mem->memory_nb.notifier_call = on_memory;
	error = register_memory_notifier(&mem->memory_nb);
	if (error)
		return error;
	mutex_lock(&devices.lock);
	if (list_empty(&devices.list))
		error = set_online_page_callback(online_page);
	if (!error)
		list_add_tail_rcu(&mem->next, &devices.list);
	mutex_unlock(&devices.lock);
	if (error) {
		unregister_memory_notifier(&mem->memory_nb);
		dev_err(&mem->vdev->dev, "another driver (virtio_mem, hv_balloon) is told of pages "
					 "that go online: unload it first\n");
		return -EBUSY;
	}
	return 0;
}

void ebb_mem_notify_close(struct ebb_mem *mem)
{
	mutex_lock(&devices.lock);
	list_del_rcu(&mem->next);
	if (list_empty(&devices.list))
		restore_online_page_callback(online_page);
	mutex_unlock(&devices.lock);
	synchronize_rcu();
	unregister_memory_notifier(&mem->memory_nb);
}
