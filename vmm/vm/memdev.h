/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Host memory for guests: what the memory backends of the command line make.
 *
 *     ram, share=off            private anonymous memory
 *     ram, share=on             a memfd
 *     memfd                     a memfd; but private anonymous memory with share=off and without
 *                               hugetlb, since nobody could see the file
 *     file, a folder            a file without a name in it
 *     file, share=on            the file itself: made, and grown, where that is needed
 *     file, share=off           a file without content: one without a name next to it. With content:
 *                               a private copy for boot memory; no memory for a device
 *
 * I1  Memory is reserved address space until it is touched, unless prealloc or reserve say more.
 *     That of a device always is, as is what nothing uses yet, which can only become a device's:
 *     prealloc and reserve act when blocks are plugged. Where the host accounts for all writable
 *     memory it is mapped PROT_READ, and becomes writable, and accounted for, block by block.
 * I2  Each mapping is aligned to its pages, to 2 MiB, and if it is that large to 1 GiB, so that huge
 *     pages of any size fit the guest's.
 * I3  All attributes (NUMA policy, huge pages, core dumps, merging, fork) are there before a page is.
 * I4  Boot memory of huge pages is set aside in the host's pool when memdev_map() returns: using it
 *     cannot fail later.
 * I5  A file that somebody named is never made shorter, and with share=off never changed.
 *
 * Ownership: a memdev owns its mapping and file; the configuration outlives it.
 * Threads: only where nothing else uses the memdev.
 */
#ifndef VMM_VM_MEMDEV_H
#define VMM_VM_MEMDEV_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/cmdline/config.h"

struct err;

struct memdev {
	const char *id;                        /* for messages */
	const struct vm_memdev_config *config; /* NULL: plain memory */
	void *memory;
	uint64_t size;
	uint64_t page_bytes;
	int fd; /* -1: private memory; else @memory is a shared mapping of this file */
	uint64_t fd_offset;
	bool merge, dump;
	bool copy; /* private, of a file: a page that is dropped is the file's again, not zeros */
};

/*
 * Map memory. @config NULL: plain memory of @size for @id; else the config's own size and
 * attributes. @dump off leaves it out of core dumps. Waits until the host has allocated it where
 * the config has prealloc, and reports on the way if that takes long.
 */
int memdev_map(struct memdev *memdev, const char *id, uint64_t size,
	       const struct vm_memdev_config *config, bool merge, bool dump, struct err **err);
/* No-op for one that was never mapped (all zeros). */
void memdev_unmap(struct memdev *memdev);

/* Nodes of the host: "0-1,3"; returns @buf. */
#define MEMDEV_NODES_TEXT_MAX 512
const char *memdev_nodes_text(const uint64_t nodes[VM_HOST_NODES_MAX / 64],
			      char buf[MEMDEV_NODES_TEXT_MAX]);

#endif
