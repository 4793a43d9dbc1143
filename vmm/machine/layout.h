/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The guest's physical address map: boot RAM and its NUMA nodes, device memory, PCI windows.
 *
 *	0                RAM, up to 3 GiB
 *	0xC0000000       32-bit PCI window, ECAM, I/O APIC, local APIC (platform.h)
 *	4 GiB            the rest of RAM
 *	next GiB         device memory: room for maxmem - ram bytes of memory devices
 *	above            64-bit PCI window, aligned to its own size
 *
 * I1  No two of these overlap, and all end below 2^phys_bits.
 * I2  ram[] is in ascending order of address, ram_offset and node, and covers exactly ram_bytes.
 * I3  Every device lies inside device_memory, aligned to its block size, and to LAYOUT_DEVICE_ALIGN
 *     unless its address was given; devices do not overlap; their sizes sum to at most maxmem -
 *ram.
 *
 * Devices with an address are placed first, the others in their order at the lowest address that
 * is free. The sizes are what counts against maxmem; the region has slack for alignment.
 *
 * Ownership: a layout owns its arrays and strings. Threads: none; immutable between the calls that
 * change it. Nothing in here comes from the guest.
 */
#ifndef VMM_MACHINE_LAYOUT_H
#define VMM_MACHINE_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include "base/num.h"

struct err;

/* Linux adds and removes memory in blocks of this size at least; anything less aligned wastes some.
 */
#define LAYOUT_DEVICE_ALIGN (128 * MIB)

#define LAYOUT_NODES_MAX     64u
#define LAYOUT_PHYS_BITS_MIN 36u
#define LAYOUT_PHYS_BITS_MAX 52u

/* A memory device as it was asked for. */
struct layout_device_config {
	const char *id;            /* for messages; NULL for an anonymous device */
	uint64_t size_bytes;       /* of its whole region; multiple of block_size_bytes, not 0 */
	uint64_t block_size_bytes; /* power of two */
	uint64_t memaddr_gpa;      /* 0: the lowest free address */
	unsigned int node;
};

struct layout_config {
	uint64_t ram_bytes;         /* multiple of 4 KiB, 2 MiB at least */
	uint64_t maxmem_bytes;      /* boot and device memory together; ram_bytes without maxmem */
	unsigned int phys_bits;     /* width of the guest's physical addresses (CPUID) */
	unsigned int nr_nodes;      /* 1 or more */
	const uint64_t *node_bytes; /* boot RAM of each node; the sum is ram_bytes */
	unsigned int nr_pci_ports;  /* root ports: so many PCI buses besides the root bus */
	const struct layout_device_config *devices;
	size_t nr_devices;
};

/* A piece of boot RAM: of one node, on one side of the hole below 4 GiB. */
struct layout_ram {
	struct range gpa;
	uint64_t ram_offset;  /* of its first byte in all of boot RAM */
	uint64_t node_offset; /* of its first byte in its node's boot RAM */
	unsigned int node;
};

struct layout_device {
	char *id; /* never NULL */
	struct range gpa;
	unsigned int node;
};

struct machine_layout {
	uint64_t ram_bytes, maxmem_bytes;
	unsigned int phys_bits, nr_nodes;

	struct layout_ram *ram;
	size_t nr_ram;
	struct range low_ram, high_ram; /* below and above 4 GiB; high_ram may be empty */

	struct range device_memory;    /* empty when maxmem is ram */
	struct layout_device *devices; /* those given in the config come first, in its order */
	size_t nr_devices;

	struct range ecam; /* of the buses that there are */
	struct range window32, window64;
};

/* *ret_layout is written on success only. -EINVAL (the person's), -ENOMEM. */
int layout_new(const struct layout_config *config, struct machine_layout **ret_layout,
	       struct err **err);
/* Accepts NULL. */
void layout_free(struct machine_layout *layout);

/* Place one more device, as the last of devices[]; earlier pointers into it are void. */
int layout_device_add(struct machine_layout *layout, const struct layout_device_config *device,
		      struct err **err);
/* Take devices[index] out; those behind it move up. */
void layout_device_remove(struct machine_layout *layout, size_t index);

#endif
