/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * For the tests of private anonymous memory: real memory behind a struct pages, and what the kernel
 * says of it. The programs are linked so that the guard's system calls come through here, to fail
 * when a test wants them to.
 */
#ifndef TESTS_ANON_RIG_H
#define TESTS_ANON_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "guard/pages.h"

#define PAGE 4096

struct anon_rig {
	struct pages_config config;
	struct pages *pages;
	char *memory;
	unsigned int mappings; /* of the region, when all of it was closed */
};

/* What the kernel cannot do, until it is reset. */
struct anon_kernel {
	bool no_userfaultfd;
	bool no_table_reclaim; /* page tables have to be moved away, as before Linux 6.14 */
	bool no_huge_zero_page;
	bool mergeable; /* not the kernel, but its owner: the memory may be merged */
};

/*
 * System calls of the guard that fail: number @at, from 1, and @times in all. With @partly what it
 * is about is done for the first half of its range.
 */
struct anon_faults {
	unsigned int at, times;
	int error;
	bool partly;
	unsigned int calls; /* so far, failed ones included */
};

void anon_kernel_set(struct anon_kernel kernel);
struct anon_kernel anon_kernel_get(void);
void anon_faults_set(const struct anon_faults *faults);
/* Faults end; how many calls there were. */
unsigned int anon_faults_end(void);
/* How much memory the guard had page tables moved of, since this was asked. */
uint64_t anon_moved_bytes(void);

/* Memory at a multiple of 2 MiB, mapped with PROT_READ; @max_fences as in pages.h. */
void rig_start(struct anon_rig *r, uint64_t size, uint64_t block, uint64_t segment,
	       uint32_t max_fences);
/* Closes and discards all, and checks that it is one mapping without a page again. */
void rig_end(struct anon_rig *r);

/*
 * Are mappings what the guard counts? Not with vm.overcommit_memory=2, where those that count as
 * committed differ from the others: a program then says so and ends with status 77.
 */
bool rig_can_count(void);
/* Can segments be armed here? Says so if not. */
bool rig_can_arm(void);

int rig_open(struct anon_rig *r, uint64_t offset, uint64_t size);
int rig_close(struct anon_rig *r, uint64_t offset, uint64_t size);
int rig_discard(struct anon_rig *r, uint64_t offset, uint64_t size);
/* Each second block, of @nr from block @first on, closed, discarded and all others left open. */
void rig_checkerboard(struct anon_rig *r, uint64_t first, uint64_t nr);
/* A system call writes @value there: 0 or -errno. Any thread. */
int rig_poke(const struct anon_rig *r, uint64_t offset, uint8_t value);
/* Is every page of the run zeros, read page by page? */
bool rig_is_zero(const struct anon_rig *r, uint64_t offset, uint64_t size);
/* Does no page of the run take a write? */
bool rig_is_closed(const struct anon_rig *r, uint64_t offset, uint64_t size);
/* Pages of the host's that the run holds, in memory or swapped out; the zero page is none. */
uint64_t rig_pages(const struct anon_rig *r, uint64_t offset, uint64_t size);
/* Mappings of the region. */
unsigned int rig_mappings(const struct anon_rig *r);
/* A figure of /proc/self/status in bytes. */
uint64_t rig_status_bytes(const char *name);
/* Bytes of the region in huge pages. */
uint64_t rig_huge_bytes(const struct anon_rig *r);

#endif
