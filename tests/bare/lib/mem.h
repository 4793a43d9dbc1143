/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guest memory: what is mapped, and pages to build rings and tables in.
 *
 * I1  Every mapping is one to one, 2 MiB pages, writable. Below 4 GiB all is mapped from the start.
 * I2  Pages from mem_pages() lie in RAM between the image's end and MEM_POOL_END, are zero and are
 *     never given back.
 */
#ifndef BARE_MEM_H
#define BARE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEM_PAGE_BYTES   4096u
#define MEM_LARGE_BYTES  0x200000ull
#define MEM_POOL_END     0x1000000ull /* a guest of 16 MiB has room */
#define MEM_ALIGN(x, to) (((x) + (to)-1) & ~((uint64_t)(to)-1))

/* Map [gpa, gpa + size). Stops the guest when the tables are full (MEM_TABLES). */
void mem_map(uint64_t gpa, uint64_t size);

/*
 * The opposite, for whole 2 MiB pages of what was mapped; on this processor, the others may still have
 * them.
 */
void mem_unmap(uint64_t gpa, uint64_t size);

/* @count pages in a row. Stops the guest when there are none left. */
void *mem_pages(size_t count);

#endif
