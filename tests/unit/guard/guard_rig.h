/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * For the tests of the whole guard: real memory, and a hypervisor that is a list of memory slots,
 * which checks what it is asked for and fails when a test wants it to.
 */
#ifndef TESTS_UNIT_GUARD_GUARD_RIG_H
#define TESTS_UNIT_GUARD_GUARD_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include <vmem/guard.h>

#include "base/num.h"

#define PAGE  4096
#define SLOTS 64

/* The hypervisor: which slots there are, and when it fails. */
struct host {
	struct vmem_guard *guard;
	struct vmem_guard_config config;
	char *memory;
	struct range slot[SLOTS]; /* by number; size 0: free */
	unsigned int adds, removes, replaces, calls;
	bool lose_slots;        /* the next replacement leaves nothing */
	unsigned int fail_at;   /* the call that fails, from 1; 0: none */
	unsigned int fail_more; /* calls after it that fail as well */
	int error;
	int pipe[2]; /* empty; for host_poke() and host_peek() */
};

/* Add and remove; and all, with replace. */
extern const struct vmem_guard_ops host_ops_without_replace, host_ops;

/* A guard over private anonymous memory. */
void host_start(struct host *h, uint64_t size, uint64_t block, uint64_t memslot);
/*
 * A guard over @config's memory, file and sizes; ops are the host's. host_end() unmaps the memory.
 * 0, or why there is no guard.
 */
int host_start_on(struct host *h, const struct vmem_guard_config *config);
/* Frees the guard; checks that no slot is left. */
void host_end(struct host *h);

/* Memory of a file (or -1) at a multiple of 2 MiB, in huge pages where there are any. */
void *host_map(uint64_t size, int fd, uint64_t fd_offset);

/* Is there a slot that is exactly this range? */
bool host_has(const struct host *h, uint64_t offset, uint64_t size);
/* Bytes of the range that are in slots. */
uint64_t host_covered(const struct host *h, uint64_t offset, uint64_t size);
unsigned int host_slots(const struct host *h);
/* What the guard says of itself is what the hypervisor has. */
void check_memslots(const struct host *h);
void check_count(const struct host *h, unsigned int present);
/* Pages of the host's that the run maps, present or swapped out; the zero page is none. */
uint64_t host_pages(const struct host *h, uint64_t offset, uint64_t size);
/* A system call, read(2) or write(2), has to write or read there: 0 (poke), the byte (peek), or -errno. */
int host_poke(const struct host *h, uint64_t offset);
int host_peek(const struct host *h, uint64_t offset);

#endif
