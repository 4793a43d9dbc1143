/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Host pages of one region: which blocks are open, and what closed ones cost. The lower half of
 * the guard; it knows nothing of memory slots. <vmem/guard.h>, I2 to I8, are its contract.
 *
 * Kinds, each in a file of its own:
 *
 *     pages_anon.c   private anonymous memory. Closed runs are fences: mprotect(PROT_READ), so
 *                    that a read maps the shared zero page and a write fails. A segment with too
 *                    many fences is armed instead: its closed blocks are write-protected by
 *                    userfaultfd (WP, SIGBUS) inside one writable mapping.
 *     pages_file.c   a shared mapping of a file: committed with fallocate() when opened, a hole
 *                    when closed. Where userfaultfd takes the mapping (shmem, hugetlb), the whole
 *                    region is registered MISSING with SIGBUS: a hole cannot be filled by a fault.
 *                    Elsewhere closed runs are fences: mprotect(PROT_NONE).
 *     pages_plain.c  no protection (vmem_guard_config.unprotected), for both backings.
 *
 * I1  Per block two bits: open (granted), and dirty (it may hold content: it was opened since it was
 *     discarded). Closed and not dirty is what a block is at the start; closed and dirty is a block
 *     between revoke and discard; it is always fenced, never armed.
 * I2  Segments are of one size, a power of two; armed or not as a whole; an armed one goes back
 *     when none of its blocks is open or dirty.
 *
 * Threads: the caller serialises; the counters may be read at any time.
 */
#ifndef GUARD_PAGES_H
#define GUARD_PAGES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <vmem/guard.h>

struct pages;

struct pages_config {
	char *memory;
	uint64_t size, block_size, segment_size;
	int fd;
	uint64_t fd_offset;
	unsigned int populate_threads;
	uint32_t max_fences; /* 0: a quarter of vm.max_map_count, divided by nr_guards */
	uint32_t nr_guards;  /* 0 is 1 */
	bool mergeable;      /* MADV_MERGEABLE was given */
};

/* What each kind has. Runs as in <vmem/guard.h>, also where they are done before or were never. */
struct pages_ops {
	void (*free)(struct pages *pages);
	int (*open)(struct pages *pages, uint64_t offset, uint64_t size);
	int (*populate)(struct pages *pages, uint64_t offset, uint64_t size);
	int (*close)(struct pages *pages, uint64_t offset, uint64_t size);
	int (*discard)(struct pages *pages, uint64_t offset, uint64_t size);
	/* Multiples of `page` inside open blocks: free the pages, and change nothing else. */
	int (*reclaim)(struct pages *pages, uint64_t offset, uint64_t size);
	/*
	 * lend.h; open runs. -EOPNOTSUPP: not this one. The kernel knows of no userfaultfd there when
	 * it is lent, nor when it is taken back. NULL: there is nothing to do.
	 */
	int (*lend)(struct pages *pages, uint64_t offset, uint64_t size);
	int (*take_back)(struct pages *pages, uint64_t offset, uint64_t size);
};

/* The first member of each kind's own structure. */
struct pages {
	const struct pages_ops *ops;
	struct pages_config config;
	const char *mechanism;
	uint64_t page; /* bytes of a page of the memory, as the host frees them */
	_Atomic uint32_t fences, armed_segments;
	_Atomic uint64_t lent_bytes;
};

int pages_anon_new(const struct pages_config *config, struct pages **ret_pages,
		   struct vmem_error *ret_error);
int pages_file_new(const struct pages_config *config, struct pages **ret_pages,
		   struct vmem_error *ret_error);
int pages_plain_new(const struct pages_config *config, struct pages **ret_pages,
		    struct vmem_error *ret_error);

/* Fill in *error, which may be NULL; returns -code. */
int pages_error(struct vmem_error *error, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- shared by the kinds (pages.c) ---- */

/* Bytes of a page of the memory: of the file @fd, or (-1) of this machine. */
uint64_t pages_page_size(int fd);

/* How many fences the region may have: max_fences, or what stands for 0 there. */
uint32_t pages_fence_budget(const struct pages_config *config);

/* The populate op of those kinds whose memory is not there when it is open. */
int pages_populate(struct pages *pages, uint64_t offset, uint64_t size);

/*
 * Fault in a run that is open, writable, by @threads threads. -ENOMEM when the host has not the
 * memory; then a part may be there. Limits are looked at before each piece of the run.
 */
int pages_populate_run(char *memory, uint64_t size, unsigned int threads);
/* The same where the memory is there already, and only not mapped yet: takes page tables alone. */
int pages_map_run(char *memory, uint64_t size, unsigned int threads);
/* Can this kernel do either (Linux 5.14)? */
bool pages_populate_supported(void);

/* ---- how much memory the host can give without killing somebody (headroom.c) ---- */

/*
 * Bytes that this process may still take: the smallest of what its memory control groups (v1 and
 * v2, up to the root) leave below their limits and what the host has available, swap included.
 * UINT64_MAX when nothing can be found out.
 */
uint64_t headroom_bytes(void);
/* 0, or -ENOMEM when @size and its page tables are more than that. */
int headroom_check(uint64_t size);

#endif
