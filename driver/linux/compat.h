/* SPDX-License-Identifier: GPL-2.0 OR BSD-3-Clause */
/*
 * What differs between kernels, 6.1 and later.
 */
#ifndef EBB_MEM_COMPAT_H
#define EBB_MEM_COMPAT_H

#include <linux/memory_hotplug.h>
#include <linux/mmzone.h>
#include <linux/version.h>
#include <linux/virtio_config.h>

#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
#define EBB_MEM_ORDER_MAX MAX_PAGE_ORDER
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
#define EBB_MEM_ORDER_MAX MAX_ORDER
#else
#define EBB_MEM_ORDER_MAX (MAX_ORDER - 1)
#endif

/*
 * Since 6.11, pages are PageOffline() until generic_online_page() has them, and offlining leaves those
 * that still are out of the managed pages. Before, they were PageReserved(), and all were subtracted.
 */
#define EBB_MEM_BORN_OFFLINE (LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0))

/*
 * Since 6.8, one call may add or remove several memory blocks that hold their own struct pages, and a
 * module may ask whether that is on. Before, a call that is for more than one, or while it is off,
 * fails with -EINVAL.
 */
#define EBB_MEM_MEMMAP_RUNS (LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0))

#if EBB_MEM_MEMMAP_RUNS
static inline bool ebb_mem_memmap_is_on(void)
{
	return mhp_supports_memmap_on_memory();
}
#else
static inline bool ebb_mem_memmap_is_on(void)
{
	return false;
}
#endif

/* Since 6.7, shrinkers are allocated, and carry a pointer of their owner's. */
#define EBB_MEM_SHRINKER_ALLOC (LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0))

/* Without an own context; a queue without a callback is polled. */
static inline int ebb_mem_find_queues(struct virtio_device *vdev, unsigned int nr,
				      struct virtqueue **queues, vq_callback_t *callback,
				      const char *const *names)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
	struct virtqueue_info infos[4] = {};
	unsigned int i;

	for (i = 0; i < nr; i++)
		infos[i] = (struct virtqueue_info){.name = names[i], .callback = callback};
	return virtio_find_vqs(vdev, nr, queues, infos, NULL);
#else
	vq_callback_t *callbacks[4] = {callback, callback, callback, callback};

	return virtio_find_vqs(vdev, nr, queues, callbacks, names, NULL);
#endif
}

#endif
