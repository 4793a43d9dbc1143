/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory whose content comes later: whoever touches a page of it waits until it is there. On
 * userfaultfd(2), in the form that also makes the kernel (KVM, system calls) wait.
 *
 * Areas are mappings, also of memory devices that a guard watches over; runs of an area are expected:
 * they are registered, and from then on a page is either there or waited for. How a page comes:
 *
 *     private memory   missing pages; UFFDIO_COPY puts content and page in one step.
 *     shared memory    (memfd, tmpfs, hugetlb) missing pages and those that are in the file but in no
 *                      page table: so what the guard has committed stays committed. Content is
 *                      written through a second mapping, and then shown (UFFDIO_CONTINUE).
 *     all else         cannot be done: files on disks, private mappings of files, runs in which the
 *                      guard protects memory page by page. Expecting these is -EOPNOTSUPP; their
 *                      content has to be there before anybody may touch them.
 *
 * A range of addresses belongs to one userfaultfd. A run of a guard's memory is lent by it as long as it
 * is expected (lend.h): open blocks alone are, so closed ones stay as the guard has them.
 *
 * I1  Nobody ever sees a page that is not whole, nor one that has not come.
 * I2  When a guard discards a run, the run's pages do not come any more, whatever is under way, and
 *     those who waited for them go on. The guard has the run back before it makes it empty; nothing
 *     that was put or shown is left there, and nothing comes afterwards. Blocks that are opened later
 *     are ordinary memory at once.
 * I3  No call waits for somebody who waits for a page. Locks are held over system calls that end by
 *     themselves only.
 * I4  After missing_fail() whoever touches a page that has not come fails (EFAULT, SIGSEGV), instead of
 *     seeing something else.
 *
 * Ownership: memory, file and guard are the caller's; memory and file outlive the area, a guard may be
 * freed when none of its blocks is open.
 * Threads: missing_new(), missing_add(), missing_expect() and missing_free() are serialised by the
 * caller with each other and with everything that is done to the guards of the areas; nobody touches
 * a run while it is being expected. The rest from any thread.
 */
#ifndef GUARD_MISSING_H
#define GUARD_MISSING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct missing;
struct vmem_error;
struct vmem_guard;

/*
 * -EPERM when this process may not have what it takes, -EOPNOTSUPP when the kernel has it not;
 * *ret_error says so (NULL allowed).
 */
int missing_new(struct missing **ret_missing, struct vmem_error *ret_error);
/*
 * Whatever is still expected becomes ordinary memory, in which a page that has not come is zeros: so
 * nobody who would care may run any more. NULL is allowed.
 */
void missing_free(struct missing *missing);

struct missing_area {
	char *memory;
	uint64_t size;
	uint64_t page_bytes; /* of the memory: 4096, or of its huge pages */
	uint64_t unit_bytes; /* runs that are expected, and dropped, are multiples of it */
	int fd;              /* -1: private memory; else a shared mapping of this file */
	uint64_t fd_offset;
	struct vmem_guard *guard; /* of exactly this memory, or NULL */
};

/* -EOPNOTSUPP: nothing of it can be expected. -ENOMEM. Areas are numbered from 0. */
int missing_add(struct missing *missing, const struct missing_area *area, size_t *ret_index);

/*
 * From now on pages of the run that are not there are waited for. What private memory holds is
 * there; what shared memory holds is there only when it is shown. Guarded memory has to be open.
 * -EOPNOTSUPP: not this one, now or ever; other -errno; all as before then.
 */
int missing_expect(struct missing *missing, size_t area, uint64_t offset, uint64_t size);
/* Is all of it expected? */
bool missing_is_expected(struct missing *missing, size_t area, uint64_t offset, uint64_t size);
/* Pages of an expected run are not there any more. Multiples of page_bytes. */
int missing_forget(struct missing *missing, size_t area, uint64_t offset, uint64_t size);

/* ---- faults ---- */

/* Readable when somebody began to wait. */
int missing_fd(const struct missing *missing);

struct missing_fault {
	size_t area;
	uint64_t offset; /* of the page, a multiple of page_bytes */
};

/* The next one that began to wait, or -EAGAIN: nobody. One page may be told more than once. */
int missing_next(struct missing *missing, struct missing_fault *ret_fault);

/* ---- content: multiples of page_bytes; who waits for such a page goes on ---- */

/*
 * Private pages that are there already stay as they are. Of shared memory the caller puts each page
 * once: what is there already is written over. -ENOENT: a part of the run is not expected any more,
 * that part is left alone and the rest was done. -ENOMEM: the host has no memory.
 */
int missing_put(struct missing *missing, size_t area, uint64_t offset, uint64_t size,
		const void *content);
/*
 * The same, for more at a time: what is in @stage becomes the memory's, without a copy where the kernel
 * can move it (Linux 6.17); @stage is empty then, in any case, and content may be put there again.
 */
int missing_move(struct missing *missing, size_t area, uint64_t offset, uint64_t size, void *stage);
/* Room for that, @size a multiple of a huge page; munmap() ends it. NULL when there is none. */
void *missing_stage_new(const struct missing *missing, size_t size);
/* Have what is put there be of the NUMA nodes that the area's memory is to be of. Advice only. */
void missing_stage_place(const struct missing *missing, size_t area, uint64_t offset, void *stage,
			 size_t size);
int missing_put_zeros(struct missing *missing, size_t area, uint64_t offset, uint64_t size);
/*
 * Shared memory: what will be seen when the page is shown. Any offset and size, inside pages that were
 * not shown. -ENOENT as above.
 */
int missing_write(struct missing *missing, size_t area, uint64_t offset, uint64_t size,
		  const void *content);
int missing_show(struct missing *missing, size_t area, uint64_t offset, uint64_t size);
/* Have a whole huge page's worth of private memory, all of it there, become one. Nothing is promised. */
void missing_merge(struct missing *missing, size_t area, uint64_t offset);

/* ---- the end ---- */

/*
 * The run is ordinary memory: what did not come is zeros, or what the file holds. Who waits goes on.
 * On failure some of it stays expected, or the guard has not got it back: to be tried again.
 */
int missing_settle(struct missing *missing, size_t area, uint64_t offset, uint64_t size);
/* I4, all of it. -errno when some are left waiting: the kernel had no memory. */
int missing_fail(struct missing *missing);

#endif
