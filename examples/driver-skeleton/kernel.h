/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the skeleton port needs of a kernel, in the order of a port's life: replace each by what your
 * kernel has. All addresses are guest physical, all sizes in bytes. docs/driver.md says what each has to
 * do, and when it is called.
 */
#ifndef KERNEL_H
#define KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kernel_virtio; /* a device that the kernel's virtio code has brought to DRIVER_OK */
struct kernel_mutex;
struct kernel_event; /* one bit to wait for; setting it is allowed in interrupts */

void *kernel_alloc(size_t bytes); /* NULL: there is no memory; aligned to 16 */
void kernel_free(void *memory);   /* NULL is allowed */
struct kernel_mutex *kernel_mutex_new(void);
void kernel_mutex_free(struct kernel_mutex *mutex);
void kernel_mutex_lock(struct kernel_mutex *mutex);
void kernel_mutex_unlock(struct kernel_mutex *mutex);
struct kernel_event *kernel_event_new(void);
void kernel_event_free(struct kernel_event *event);
void kernel_event_set(struct kernel_event *event);
/* Wait until it is set, and clear it; or until @ms are over. UINT64_MAX: however long it takes. */
void kernel_event_wait(struct kernel_event *event, uint64_t ms);
uint64_t kernel_clock_ms(void);
void kernel_log(const char *what, uint64_t addr, uint64_t size, int result);

/* The first @bytes of configuration space, as they were at one time. False: no device there any more. */
bool kernel_virtio_config(struct kernel_virtio *virtio, void *to, size_t bytes);
/*
 * Put @req and room for an answer into a virtqueue, and wait until the device wrote all of the answer.
 * False: the device is gone, needs a reset, or wrote less.
 */
bool kernel_virtio_exchange(struct kernel_virtio *virtio, unsigned int queue, const void *req,
			    size_t req_bytes, void *answer, size_t answer_bytes);
bool kernel_virtio_has_feature(struct kernel_virtio *virtio, unsigned int bit);

/*
 * Memory sections. Adding makes page structures and mappings, and brings the section into use: it calls
 * port_onlined(), and port_usable() for each run of pages that it would put on a free list. 0, or a
 * negative number of the kernel's own.
 */
#define KERNEL_SECTION_BYTES (UINT64_C(128) << 20)
#define KERNEL_PAGE_RUN      (UINT64_C(2) << 20) /* the least that can be isolated */
#define KERNEL_ADDR_MAX      ((UINT64_C(1) << 46) - 1)
#define KERNEL_ENOMEM        (-12)
#define KERNEL_ERANGE        (-34)
int kernel_section_add(uint64_t addr, uint64_t size, void *owner);
/* All or nothing; moves pages in use elsewhere. */
int kernel_section_remove(uint64_t addr, uint64_t size);
/* Take pages from whoever has them, and give them back to the free lists. */
int kernel_pages_isolate(uint64_t addr, uint64_t size);
void kernel_pages_release(uint64_t addr, uint64_t size);
uint64_t kernel_pages_in_use(uint64_t addr, uint64_t size);
/* How much can still be allocated, and whether somebody waits for memory. */
uint64_t kernel_memory_available(bool *ret_waiting);

#endif
