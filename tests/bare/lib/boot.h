/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the loader left: struct hvm_start_info (Xen docs/misc/pvh.pandoc), and the words of the
 * command line.
 */
#ifndef BARE_BOOT_H
#define BARE_BOOT_H

#include <stdbool.h>
#include <stdint.h>

#define BOOT_MAGIC      0x336ec578u
#define BOOT_MEMORY_RAM 1u

struct boot_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist_paddr, cmdline_paddr, rsdp_paddr;
	/* version 1 and later */
	uint64_t memmap_paddr;
	uint32_t memmap_entries, reserved;
};

struct boot_module {
	uint64_t paddr, size, cmdline_paddr, reserved;
};

struct boot_memory {
	uint64_t addr, size;
	uint32_t type, reserved;
};

const struct boot_info *boot_info(void);
const char *boot_cmdline(void);
const struct boot_memory *boot_memory(uint32_t *ret_count);
/* True when [gpa, gpa + size) lies in one entry of RAM. */
bool boot_is_ram(uint64_t gpa, uint64_t size);

/* Value of the word KEY=VALUE (up to the next space), NULL without; and forms of it. */
const char *arg_text(const char *key);
bool arg_is(const char *key, const char *value);
uint64_t arg_number(const char *key, uint64_t otherwise);

#endif
