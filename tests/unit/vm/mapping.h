/* SPDX-License-Identifier: BSD-3-Clause */
/* What the kernel says of a mapping of this process: /proc/self/smaps and numa_maps. */
#ifndef TESTS_UNIT_VM_MAPPING_H
#define TESTS_UNIT_VM_MAPPING_H

#include <stdbool.h>
#include <stdint.h>

struct mapping {
	uint64_t start, end;
	char perms[8];   /* "rw-s" */
	char name[256];  /* "" for anonymous memory */
	char flags[256]; /* VmFlags, with a space before and behind each */
	uint64_t page_bytes, resident_bytes;
};

/* The one that holds @address; false when there is none. */
bool mapping_find(const void *address, struct mapping *ret_mapping);
/* "hg" and so on. */
bool mapping_has_flag(const void *address, const char *flag);
/* The NUMA policy: "default", "bind:0". */
void mapping_policy(const void *address, char *buf, uint64_t size);

#endif
