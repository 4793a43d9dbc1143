/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Between boot.c and the two kernel formats: files, placement, the memory map. See boot.h for what
 * all of it promises.
 *
 * I1  A format writes at and above BOOT_KERNEL_MIN only inside the ranges that it placed in low_ram
 *     or high_ram, and below it only at the addresses named here.
 */
#ifndef VMM_MACHINE_BOOT_INT_H
#define VMM_MACHINE_BOOT_INT_H

#include <stddef.h>
#include <stdint.h>

#include "base/num.h"
#include "vmm/machine/boot.h"

#define BOOT_GDT_GPA         0x1000
#define BOOT_PVH_INFO_GPA    0x2000
#define BOOT_PVH_MODULES_GPA 0x2080
#define BOOT_PVH_MEMMAP_GPA  0x2100
#define BOOT_ZERO_PAGE_GPA   0x7000
#define BOOT_STACK_GPA       0x9000 /* its end; the page below is the stack */
#define BOOT_PML4_GPA        0x9000 /* then one PDPT and four page directories */
#define BOOT_PAGE_TABLES_END 0xF000
#define BOOT_CMDLINE_GPA     0x20000
#define BOOT_CMDLINE_MAX     0xFFFF /* without the terminating zero */
#define BOOT_EBDA_GPA        0x9FC00
#define BOOT_VGA_GPA         0xA0000
#define BOOT_KERNEL_MIN      0x100000

/* As both protocols number them. */
enum boot_map_type { BOOT_MAP_RAM = 1, BOOT_MAP_RESERVED = 2 };

struct boot_map_entry {
	struct range gpa;
	enum boot_map_type type;
};

#define BOOT_MAP_MAX 8u

/* A file as it was when boot_load() began. */
struct boot_file {
	int fd;
	const char *option, *path; /* for messages: -kernel 'path' */
	uint64_t size;
};

/* Everything that a format needs. initrd.fd is -1 without one. */
struct boot_job {
	struct gm *gm;
	const struct boot_config *config;
	struct boot_file kernel, initrd;
};

/* Read exactly @size bytes at @offset into @buf, or load them into the guest. With a sentence. */
int boot_file_read(const struct boot_file *file, uint64_t offset, void *buf, size_t size,
		   struct err **err);
int boot_file_load(const struct boot_file *file, struct gm *gm, uint64_t offset, uint64_t size,
		   uint64_t gpa, struct err **err);

/* Write to guest RAM; a sentence if it is not there. */
int boot_write(const struct boot_job *job, uint64_t gpa, const void *buf, size_t size,
	       struct err **err);
int boot_write_cmdline(const struct boot_job *job, uint64_t max_chars, struct err **err);

/*
 * Place and load the initrd: page-aligned, outside @kernel, as high as possible with its last byte
 * at or below @max_gpa; if there is no room, anywhere in low RAM; then, if @above_4g, at the end of
 * high RAM. *ret_gpa is empty without an initrd.
 */
int boot_load_initrd(const struct boot_job *job, struct range kernel, uint64_t max_gpa,
		     bool above_4g, struct range *ret_gpa, struct err **err);

/* The memory map in ascending order; returns the number of entries. Device memory is not in it. */
size_t boot_map_build(const struct machine_layout *layout, struct boot_map_entry *ret_entries);

/* The formats. Each fills in entry_gpa, info_gpa and long_mode. */
int boot_load_bzimage(const struct boot_job *job, struct boot_cpu_state *ret_state,
		      struct err **err);
int boot_load_pvh(const struct boot_job *job, struct boot_cpu_state *ret_state, struct err **err);

#endif
