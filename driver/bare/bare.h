/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The driver core's port to a kernel that has little: a unikernel, firmware, a test. One struct
 * vmem_bare is one memory device. It hands out runs of pages of what is plugged, and gives back what
 * nobody uses when the device asks for less. Nothing is ever moved: a page in use stays where it is, and
 * a shrink is completed when it is freed.
 *
 * The kernel brings its virtio code (VIRTIO 1.3, 3.1 and 5.15.5: it finds the device, negotiates, lays
 * out the queues) and, where addresses are mapped before they are used, its page tables. Requests are put
 * into the queue and not waited for; an interrupt only has to lead to vmem_bare_turn():
 *
 *     for (;;) {
 *             uint64_t wait_ms = vmem_bare_turn(bare, now_ms());
 *
 *             if (wait_ms != VMEM_DRIVER_NOW)
 *                     sleep_until_interrupt_or(wait_ms);
 *     }
 *
 * I1  Pages are handed out only of chunks that the core says may be used, and such chunks are given up
 *     only when none of their pages is in use: what vmem_bare_alloc() returned is plugged until
 *     vmem_bare_free().
 * I2  All memory is the caller's: one piece of vmem_bare_bytes().
 * I3  What the device writes is copied once, when the transport says that the answer is there.
 *
 * Threads: the caller serialises all calls, but vmem_bare_config_changed() may be called anywhere, in
 * interrupts too. Ops of the kernel are called inside the calls here and must not call back.
 */
#ifndef DRIVER_BARE_BARE_H
#define DRIVER_BARE_BARE_H

#include <vmem/driver.h>

struct vmem_bare;

/* The kernel, and the device as it reaches it. */
struct vmem_bare_ops {
	/*
	 * Copy the device's configuration space, once more when config_generation changed meanwhile.
	 * False: the device does not answer.
	 */
	bool (*config_read)(void *kernel, struct vmem_config *ret_config);
	/*
	 * Put one chain into virtqueue @queue: @req for the device to read, then @answer_bytes for it
	 * to write, and notify it. @req may be changed once this returned. False: the device does not
	 * answer. Never called for a queue whose answer is still due.
	 */
	bool (*send)(void *kernel, unsigned int queue, const void *req, uint32_t req_bytes,
		     uint32_t answer_bytes);
	/*
	 * The answer to what was sent, if it is there: true, with at most @answer_bytes of it copied
	 * to @answer, and how many the device says that it wrote.
	 */
	bool (*receive)(void *kernel, unsigned int queue, void *answer, uint32_t answer_bytes,
			uint32_t *ret_bytes);
	/*
	 * Make addresses usable (page tables) and take that back. NULL both where all addresses are
	 * usable at any time. False: no memory for that now.
	 */
	bool (*map)(void *kernel, uint64_t addr, uint64_t size);
	void (*unmap)(void *kernel, uint64_t addr, uint64_t size);
	/* Pages were plugged and are free, or are to be unplugged; content is lost. May be NULL. */
	void (*came)(void *kernel, uint64_t addr, uint64_t size);
	void (*goes)(void *kernel, uint64_t addr, uint64_t size);
	/* Something to tell people. May be NULL. */
	void (*note)(void *kernel, const struct vmem_driver_note *note);
};

struct vmem_bare_config {
	uint64_t page_bytes; /* what is handed out at a time: a power of two, a block or less */
	/*
	 * What map() and unmap() are called for, a power of two; a block, if that is more. 0: they are never
	 * called, and the device's region is used as plugged chunks come and go ("accounting").
	 */
	uint64_t unit_bytes;
	uint64_t run_max_bytes;      /* of one map() or unmap(); 0: one unit */
	uint64_t addr_min, addr_max; /* what the kernel can use */
	/* Keep what is plugged at the start instead of unplugging it. Its pages are free then. */
	bool resume;
	uint32_t retry_min_ms, retry_max_ms;
	/* .on only where VMEM_F_SIZE_REQUEST was negotiated. */
	struct vmem_driver_size_policy size_policy;
};

/*
 * How many bytes a struct vmem_bare for this device needs, aligned to 16; 0 when configuration or device
 * break a rule. @device as config_read() gives it.
 */
size_t vmem_bare_bytes(const struct vmem_bare_config *config, const struct vmem_config *device);
/*
 * Begin with a device that is in operation (DRIVER_OK). An enum vmem_driver_result; *ret_bare is written
 * on OK only. @memory, @ops and @kernel must outlive it.
 */
int vmem_bare_init(void *memory, size_t bytes, const struct vmem_bare_config *config,
		   const struct vmem_bare_ops *ops, void *kernel, struct vmem_bare **ret_bare);

/*
 * Take what the device answered and do the next piece of work: one request, or one map() or unmap() at
 * most. Returns when to call again, whatever happens: VMEM_DRIVER_NOW, a number of milliseconds, or
 * VMEM_DRIVER_IDLE. And sooner: after an interrupt of the device, and after vmem_bare_free() returned
 * true. Calls that come earlier do no harm.
 */
uint64_t vmem_bare_turn(struct vmem_bare *bare, uint64_t now_ms);
/* A configuration interrupt: call vmem_bare_turn() then. Any context. */
void vmem_bare_config_changed(struct vmem_bare *bare);
/* Is an answer of the device due? */
bool vmem_bare_waits(const struct vmem_bare *bare);
/* The device was reset and is in operation again, its queues empty; blocks as they were. */
void vmem_bare_restarted(struct vmem_bare *bare);

/* The lowest run of free pages of at least @size bytes; 0 when there is none. Content is undefined. */
uint64_t vmem_bare_alloc(struct vmem_bare *bare, uint64_t size);
/* Pages as allocated, or a part of them. True when vmem_bare_turn() has something to do now. */
bool vmem_bare_free(struct vmem_bare *bare, uint64_t addr, uint64_t size);
/*
 * An allocation of @size failed for want of memory: ask the device for more, if the size policy is on.
 * True when vmem_bare_turn() has something to do now.
 */
bool vmem_bare_need(struct vmem_bare *bare, uint64_t now_ms, uint64_t size, uint16_t urgency);

uint64_t vmem_bare_free_bytes(const struct vmem_bare *bare);
uint64_t vmem_bare_used_bytes(const struct vmem_bare *bare);
/* The core: to read (vmem_driver_info(), vmem_driver_usable()), to leave, to set a size policy. */
struct vmem_driver *vmem_bare_driver(struct vmem_bare *bare);

#endif
