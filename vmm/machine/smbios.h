/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SMBIOS tables (DMTF DSP0134, version 3.0): what a guest's system reads of the machine it runs on,
 * beside ACPI: manufacturer, serial number, UUID, OEM strings. The image is in guest memory from the
 * start, at BOOT_SMBIOS_BASE, where Linux and others look for an entry point at each 16 bytes:
 *
 *	+0x00  64-bit entry point "_SM3_" (5.2.2), version 3.0
 *	+0x20  32-bit entry point "_SM_" (5.2.1), version 2.8
 *	+0x40  the structures (6)
 *
 * -machine smbios-entry-point-type leaves one of the two away. Structures:
 *
 *	0    firmware              only if given: there is none
 *	1    system                with the machine's UUID
 *	2    baseboard             only if given
 *	3    chassis
 *	4    processor             one per socket
 *	11   OEM strings           only if given
 *	16   memory array          its maximum capacity is all memory that there may be (maxmem)
 *	17   memory device         boot memory, one per NUMA node
 *	19   memory array address  boot memory below and above 4 GiB
 *	32   boot status
 *	127  end
 *
 * What memory devices plug is in none of them: tables are of the start, and it comes and goes.
 *
 * I1  Both entry points describe the same structures, and have right checksums; the structures end
 *     with type 127, and each has a handle of its own.
 * I2  Everything is inside [BOOT_SMBIOS_BASE, + BOOT_SMBIOS_SIZE), which every memory map given to a
 *     guest reserves.
 * I3  Equal configurations give equal images; nothing in one changes while the machine runs.
 * I4  A structure out of a file takes the place of all of its type that the machine has by itself.
 *
 * Ownership: the caller owns the image. Threads: none. Nothing in here comes from the guest; texts
 * and files are a person's, and were checked by the command line (config.h).
 */
#ifndef VMM_MACHINE_SMBIOS_H
#define VMM_MACHINE_SMBIOS_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/cmdline/config.h"

struct err;
struct gm;
struct machine_layout;

/* Offsets in the image. */
#define SMBIOS_ENTRY64    0x00u
#define SMBIOS_ENTRY32    0x20u
#define SMBIOS_STRUCTURES 0x40u

/* Types (DSP0134, 6.2), and what is first in each structure (6.1.2). */
#define SMBIOS_BIOS         0u
#define SMBIOS_SYSTEM       1u
#define SMBIOS_BOARD        2u
#define SMBIOS_CHASSIS      3u
#define SMBIOS_PROCESSOR    4u
#define SMBIOS_OEM_STRINGS  11u
#define SMBIOS_MEMORY_ARRAY 16u
#define SMBIOS_MEMORY       17u
#define SMBIOS_MEMORY_RANGE 19u
#define SMBIOS_BOOT_STATUS  32u
#define SMBIOS_END          127u
#define SMBIOS_HEADER_SIZE  4u
#define SMBIOS_LENGTH       1u /* offsets */
#define SMBIOS_HANDLE       2u

struct smbios_config {
	const struct vm_config *config;
	const struct machine_layout *layout;
};

struct smbios_image {
	uint8_t *bytes;
	size_t size;
};

/* -EFBIG when there is not room for all, -EEXIST for a file's handle that is taken, -ENOMEM. */
int smbios_image_build(const struct smbios_config *config, struct smbios_image *ret_image,
		       struct err **err);
/* Frees the bytes; the struct is the caller's. */
void smbios_image_done(struct smbios_image *image);

/* Copy the image into the guest and clear the rest of the area. 0 or -EFAULT. */
int smbios_image_write(const struct smbios_image *image, struct gm *gm);

/*
 * Bytes of the structure that starts at @bytes, with its texts and what ends them; 0 when it is not
 * whole within @size. smbios_walk.c
 */
size_t smbios_structure_size(const uint8_t *bytes, size_t size);

#endif
