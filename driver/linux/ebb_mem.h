/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * The Linux module ebb_mem: drives virtio-mem devices (VIRTIO 1.3, 5.15) by the portable core,
 * <vmem/driver.h>, and takes the place of the kernel's own virtio_mem.
 *
 *     main.c      the module, its devices: probe, remove, suspend
 *     worker.c    the thread that runs the core
 *     queue.c     configuration space and virtqueues
 *     memory.c    ops add() and remove(): memory blocks of Linux
 *     pages.c     ops take(), give() and used(): pages of a unit that is online
 *     notify.c    memory blocks that go online and offline, whoever asked for it
 *     dump.c      in a kdump kernel: which pages of the crashed kernel can be read
 *     pressure.c  asking the device for memory, and offering it
 *     sysfs.c     attributes; docs/linux-driver.md lists them
 *     compat.h    what differs between kernels
 *
 * A unit of the core is a memory block of Linux, or the device's block where that is larger. A chunk
 * is a page block, or the device's block where that is larger.
 *
 * I1  Each page of an online unit whose chunk vmem_driver_usable() does not name is kept from the page
 *     allocator: it is PageOffline(), with one reference, and counts as not managed. A unit with such
 *     pages goes offline only with our notifier's consent, which drops those references meanwhile.
 * I2  Where a unit holds its own struct pages (memmap_on_memory), the chunks at the beginning of its
 *     memory blocks which hold them were plugged before it was added, and are unplugged only after it
 *     was removed.
 * I3  No call into memory management lasts without end: a call that moves pages is ended by a signal
 *     to the worker when its time is over, or when another size is asked for.
 * I4  A module that is unloaded leaves no unit offline which is plugged in part: without our notifier
 *     such a unit could come into use as a whole. A unit that stays online with unplugged chunks
 *     cannot go offline any more, because of I1's references, until the module is loaded again.
 * I5  Nothing is taken from a system that would have to end programs then: it keeps what it has until
 *     there is more to spare.
 * I6  What the device says passes through the core; the glue itself takes from it the node alone, as
 *     a number to look up.
 *
 * Threads and locks. The order, outermost first:
 *
 *     device_hotplug_lock, mem_hotplug_lock     of Linux: taken by whoever adds, removes, onlines or
 *                                               offlines memory
 *     ebb_mem.lock                              a mutex: the caller's lock of <vmem/driver.h>
 *     locks of the page allocator, of reclaim   inside take() and give()
 *
 * Whoever only wants to know how things are waits for none of these: ebb_mem.info is a copy, made after
 * each step of the core.
 *
 * The worker alone runs the core. It holds ebb_mem.lock over vmem_driver_run(); add() and remove()
 * give it up before they call Linux, which takes device_hotplug_lock. The notifier takes ebb_mem.lock
 * when memory of the device begins to go online or offline and gives it up when that is over, so the
 * core's map stands still meanwhile: whoever else onlines or offlines memory waits for one step of
 * the core at most, and the worker waits for him. Nothing is waited for in memory reclaim or in a
 * shrinker; the notifier of the OOM killer waits for a bounded time, takes no lock, and not in the
 * worker.
 *
 * Owner: one struct ebb_mem per device, from probe to remove, on the list of all devices.
 */
#ifndef EBB_MEM_H
#define EBB_MEM_H

#include <linux/atomic.h>
#include <linux/cache.h>
#include <linux/completion.h>
#include <linux/crash_dump.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/timer.h>
#include <linux/types.h>
#include <linux/virtio.h>
#include <linux/wait.h>

#include <vmem/driver.h>

/* Bits of ebb_mem.flags, set and cleared in any context. */
enum ebb_mem_flag {
	EBB_MEM_KICKED,   /* the worker has something to look at */
	EBB_MEM_LEAVING,  /* the worker is to give everything back and end */
	EBB_MEM_OPENING,  /* the device is being taken over: its memory stays as it is */
	EBB_MEM_SHORT,    /* reclaim is at work: the worker is to look how much is left */
	EBB_MEM_STALLED,  /* somebody who needs memory reclaims it himself */
	EBB_MEM_CRITICAL, /* the OOM killer is about to be used */
	EBB_MEM_GONE,     /* the device does not answer any more */
};

/* Whether units hold their own struct pages. */
enum ebb_mem_memmap {
	EBB_MEM_MEMMAP_OFF,
	EBB_MEM_MEMMAP_TRY, /* not known before the first unit was added */
	EBB_MEM_MEMMAP_ON,
};

/* What memory is asked for and offered by; see struct vmem_driver_size_policy. */
struct ebb_mem_pressure {
	struct vmem_driver_size_policy policy;
	unsigned int look_ms; /* between two looks at how much memory is left */
	unsigned int oom_ms;  /* the OOM killer waits no longer than that */
	bool automatic;       /* the watermarks follow the size of the memory */
	u64 last_look_ms;
	u64 available_bytes; /* at the last look */
	u16 urgency;
	bool critical_seen;                    /* the core knows of EBB_MEM_CRITICAL */
	bool refused;                          /* the last request that was answered */
	u64 answers, refusals, answers_before; /* counted: all, and when it got critical */

	/* without the lock */
	bool opened;
	struct notifier_block oom_nb;
	struct shrinker *shrinker;
	wait_queue_head_t added;   /* memory came, or will not come */
	atomic_long_t added_pages; /* in all */
	atomic_long_t oom_looks, oom_helped;
};

/* Of units [0, nr): what was found out about a crashed kernel's memory. */
struct ebb_mem_dump {
	struct vmcore_cb cb;
	struct mutex lock; /* guards the rest, and the core */
	bool registered;
	u64 unit, block; /* addresses of what was asked about last; U64_MAX: nothing */
	int unit_state, block_state;
};

struct ebb_mem {
	struct list_head next; /* of all devices; RCU */
	struct virtio_device *vdev;
	struct virtqueue *queues[VMEM_QUEUE_COUNT];
	wait_queue_head_t answered; /* a queue has an answer */

	struct mutex lock; /* guards the core, and what says so */
	struct vmem_driver *drv;
	void *arena;
	spinlock_t info_lock;         /* innermost; guards info */
	struct vmem_driver_info info; /* the core's, as of its last step */
	struct vmem_driver_ops ops;

	/* never change while the worker runs */
	u64 addr, region_size, block_size, unit_bytes, chunk_bytes;
	u64 memory_block_bytes;
	u64 end; /* of the region, or of the addresses that Linux has, if that is less */
	int nid, mgid;
	const char *resource_name;
	struct resource *region;

	unsigned long flags; /* enum ebb_mem_flag */
	struct task_struct *worker;
	struct completion left; /* the worker has nothing more to do */
	wait_queue_head_t wake;
	struct timer_list watchdog; /* I3 */
	atomic_long_t interrupted;  /* how often it, or another size, ended a call */

	struct notifier_block memory_nb;
	bool changing; /* memory goes online or offline; written with lock and mem_hotplug_lock held */

	enum ebb_mem_memmap memmap;       /* the worker's */
	struct ebb_mem_pressure pressure; /* guarded by lock */
	struct ebb_mem_dump dump;
	struct notifier_block pm_nb;

	/* what the device reads and writes, each on lines of its own */
	struct vmem_req req ____cacheline_aligned;
	struct vmem_resp resp ____cacheline_aligned;
	struct vmem_size_req size_req ____cacheline_aligned;
	struct vmem_size_resp size_resp ____cacheline_aligned;
};

/* Monotonic milliseconds, as the core counts time. */
u64 ebb_mem_now_ms(void);
static inline bool ebb_mem_contains(const struct ebb_mem *mem, u64 addr, u64 size)
{
	return addr >= mem->addr && addr - mem->addr <= mem->region_size &&
	       size <= mem->region_size - (addr - mem->addr);
}

/* worker.c */
void ebb_mem_worker_init(struct ebb_mem *mem);
int ebb_mem_worker_start(struct ebb_mem *mem);
/* Gives everything back that can be given back, then ends the worker. */
void ebb_mem_worker_stop(struct ebb_mem *mem);
/* Any context. */
void ebb_mem_kick(struct ebb_mem *mem);
/* Let others see how the core is; with the lock held. */
void ebb_mem_publish(struct ebb_mem *mem);
/* How the core was after its last step. Never waits for one. */
void ebb_mem_info(struct ebb_mem *mem, struct vmem_driver_info *ret_info);
/* I3: between begin and end, a signal comes when time is over. The worker alone. */
void ebb_mem_watch_begin(struct ebb_mem *mem);
void ebb_mem_watch_end(struct ebb_mem *mem);

/* queue.c */
int ebb_mem_queues_open(struct ebb_mem *mem);
int ebb_mem_config_read(void *os, struct vmem_config *ret_config);
int ebb_mem_submit(void *os, const struct vmem_req *req, struct vmem_resp *ret_resp);
int ebb_mem_submit_size(void *os, const struct vmem_size_req *req, struct vmem_size_resp *ret_resp);

/* memory.c */
int ebb_mem_memory_open(struct ebb_mem *mem, u16 node_id);
/* Units that are still there keep what they need. */
void ebb_mem_memory_close(struct ebb_mem *mem);
/*
 * The core is done, or the device is gone: units that are still offline and not plugged as a whole are
 * removed without them, by the worker with the lock held; see I4.
 */
void ebb_mem_drop_offline(struct ebb_mem *mem);
/* How many units one add() or remove() should be for, in bytes. */
u64 ebb_mem_run_max_bytes(const struct ebb_mem *mem);
int ebb_mem_add(void *os, uint64_t addr, uint64_t size);
int ebb_mem_remove(void *os, uint64_t addr, uint64_t size);
/* Whether any of [addr, addr + size) holds struct pages of the memory block it lies in. */
bool ebb_mem_holds_memmap(const struct ebb_mem *mem, u64 addr, u64 size);
/* How much of [addr, addr + size), in one memory block, its own struct pages take; at @addr. */
u64 ebb_mem_memmap_in(const struct ebb_mem *mem, u64 addr, u64 size);
/* Tell the core about the memory blocks of a unit that Linux has: online, or offline. */
void ebb_mem_tell_unit(struct ebb_mem *mem, u64 addr);
/* Linux has memory of the device's region. */
bool ebb_mem_is_any_there(const struct ebb_mem *mem);

/* pages.c */
int ebb_mem_take(void *os, uint64_t addr, uint64_t size);
void ebb_mem_give(void *os, uint64_t addr, uint64_t size);
uint64_t ebb_mem_used(void *os, uint64_t addr, uint64_t size);
/*
 * Whether the system goes on with so much less, free or in use: what is left beyond that can be had
 * without ending programs.
 */
bool ebb_mem_can_spare(u64 bytes);
/* Pages that Linux is about to use for the first time: all of them, or those of usable chunks. */
void ebb_mem_pages_online(struct ebb_mem *mem, struct page *page, unsigned int order);
/* I1: pages that are kept leave their references to Linux, and get them back. */
void ebb_mem_pages_release(struct ebb_mem *mem, u64 addr, u64 size);
void ebb_mem_pages_retain(struct ebb_mem *mem, u64 addr, u64 size);

/* notify.c */
int ebb_mem_notify_open(struct ebb_mem *mem);
void ebb_mem_notify_close(struct ebb_mem *mem);

/* dump.c */
int ebb_mem_dump_open(struct ebb_mem *mem);
void ebb_mem_dump_close(struct ebb_mem *mem);

/* pressure.c */
int ebb_mem_pressure_open(struct ebb_mem *mem);
void ebb_mem_pressure_close(struct ebb_mem *mem);
/*
 * Look how much memory is left, if it is time to; with the lock held. Returns in how many milliseconds
 * to look again.
 */
u64 ebb_mem_pressure_look(struct ebb_mem *mem, u64 now_ms);
/* Work is held up for want of memory, or about to fail; with the lock held. */
bool ebb_mem_pressure_is_high(struct ebb_mem *mem);
/* The core has nothing to do just now; with the lock held. */
void ebb_mem_pressure_rest(struct ebb_mem *mem);
/* The watermarks are in order: they are used from now on. With the lock held. */
int ebb_mem_pressure_set(struct ebb_mem *mem, const struct vmem_driver_size_policy *policy);
void ebb_mem_pressure_defaults(struct ebb_mem *mem);

/* sysfs.c */
extern const struct attribute_group *ebb_mem_groups[];

/* parameters */
extern bool ebb_mem_unplug_online, ebb_mem_memmap_on_memory, ebb_mem_size_requests;
extern unsigned int ebb_mem_move_ms;

#endif
