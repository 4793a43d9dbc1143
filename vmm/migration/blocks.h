/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The blocks of memory that a migration carries, in the machine's order: the stream addresses a
 * page by the index of its block and its number in it, in pages of PAGE_BYTES from the block's
 * start.
 *
 * Threads: never changed after they were made.
 */
#ifndef VMM_MIGRATION_BLOCKS_H
#define VMM_MIGRATION_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/vm/vm_ram.h"

struct err;
struct vm;

#define PAGE_BYTES 4096u

struct block {
	struct vm_ram_block ram;
	uint64_t nr_pages;
	uint64_t unit_bytes; /* what is plugged at a time; 0: boot memory, which is always there */
};

/* The machine's, for the caller to free(). NULL and *err when memory is out. */
struct block *blocks_of_vm(const struct vm *vm, size_t *ret_nr, struct err **err);

#endif
