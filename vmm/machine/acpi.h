/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ACPI tables for a hardware-reduced PC (ACPI 6.4): RSDP, XSDT, FADT, DSDT, SSDT, MADT, SRAT, SLIT,
 * MCFG.
 *
 * The DSDT (dsdt.asl, compiled by iasl when the monitor is built) holds all that is the same in
 * every machine; an SSDT (slots.asl) is added to it where devices come to and go from the PCI root
 * bus. What varies (PCI windows, interrupt routing, slots, serial ports, processors) is in an SSDT
 * that acpi_aml.c encodes. So nothing compiled is patched, and all disassemble.
 *
 * I1  The image is one block; every table in it starts at a multiple of 16 bytes, has a right
 * length and checksum, and is reached from the RSDP, which is the image's first byte. I2  SRAT
 * names every byte of boot RAM and every memory device's region with its node; the rest of the
 * device memory belongs to the last node. Both kinds of device memory are hot-pluggable. I3  Equal
 * configurations give equal images.
 *
 * Ownership: the caller owns the image. Threads: none. Nothing in here comes from the guest.
 */
#ifndef VMM_MACHINE_ACPI_H
#define VMM_MACHINE_ACPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct gm;
struct machine_layout;

#define ACPI_SERIAL_MAX 4u

struct acpi_cpu {
	uint32_t apic_id;
	unsigned int node;
};

struct acpi_serial {
	bool present;
	uint16_t port;
	uint8_t gsi;
};

struct acpi_config {
	const struct machine_layout *layout;
	const struct acpi_cpu *cpus; /* in the order of their index */
	size_t nr_cpus;
	/* [from * layout->nr_nodes + to], 10 local, 255 unreachable; NULL: 10 and 20 */
	const uint8_t *distances;
	struct acpi_serial serial[ACPI_SERIAL_MAX];
	uint16_t pvpanic_port; /* 0: none */
	/* Slots of the PCI root bus that devices may come to and go from, a bit each. */
	uint32_t pci_slots;
};

struct acpi_image {
	uint8_t *bytes;
	size_t size;
	uint64_t gpa; /* of its first byte, the RSDP */
};

/* -EFBIG when there is not room for so many CPUs and nodes, -ENOMEM. */
int acpi_image_build(const struct acpi_config *config, struct acpi_image *ret_image,
		     struct err **err);
/* Frees the bytes; the struct is the caller's. */
void acpi_image_done(struct acpi_image *image);

/* Copy the image into the guest and clear the rest of the ACPI area. 0 or -EFAULT. */
int acpi_image_write(const struct acpi_image *image, struct gm *gm);

#endif
