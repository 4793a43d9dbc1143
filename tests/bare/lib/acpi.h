/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ACPI tables, found through the RSDP that the loader names (ACPI 6.4, chapter 5).
 *
 * I1  acpi_find() gives only tables whose length and checksum are right.
 */
#ifndef BARE_ACPI_H
#define BARE_ACPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct acpi_header {
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem_id[6], oem_table_id[8];
	uint32_t oem_revision, creator_id, creator_revision;
} __attribute__((packed));

struct acpi_rsdp {
	char signature[8];
	uint8_t checksum;
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum, reserved[3];
} __attribute__((packed));

struct acpi_gas {
	uint8_t space, bit_width, bit_offset, access_size;
	uint64_t address;
} __attribute__((packed));

#define ACPI_FADT_RESET      (1u << 10)
#define ACPI_FADT_HW_REDUCED (1u << 20)
#define ACPI_SPACE_MEMORY    0u
#define ACPI_SPACE_IO        1u
#define ACPI_MADT_LAPIC      0u
#define ACPI_MADT_IOAPIC     1u
#define ACPI_MADT_OVERRIDE   2u
#define ACPI_MADT_X2APIC     9u
#define ACPI_SRAT_CPU        0u
#define ACPI_SRAT_MEMORY     1u
#define ACPI_SRAT_X2APIC     2u
#define ACPI_SRAT_ENABLED    1u
#define ACPI_SRAT_HOTPLUG    2u

struct acpi_fadt {
	struct acpi_header header;
	uint32_t facs, dsdt;
	uint8_t skipped1[64 - 44];
	uint32_t pm1a_control;
	uint8_t skipped2[112 - 68];
	uint32_t flags;
	struct acpi_gas reset_register;
	uint8_t reset_value;
	uint16_t arm_boot;
	uint8_t minor;
	uint64_t x_facs, x_dsdt;
	uint8_t skipped3[244 - 148];
	struct acpi_gas sleep_control, sleep_status;
} __attribute__((packed));

struct acpi_madt {
	struct acpi_header header;
	uint32_t lapic_gpa, flags;
	uint8_t entries[];
} __attribute__((packed));

struct acpi_mcfg {
	struct acpi_header header;
	uint64_t reserved;
	struct {
		uint64_t base;
		uint16_t segment;
		uint8_t first_bus, last_bus;
		uint32_t reserved;
	} __attribute__((packed)) entry[];
} __attribute__((packed));

struct acpi_srat {
	struct acpi_header header;
	uint32_t reserved1;
	uint64_t reserved2;
	uint8_t entries[];
} __attribute__((packed));

struct acpi_srat_memory {
	uint8_t type, length;
	uint32_t proximity;
	uint16_t reserved1;
	uint64_t base, size;
	uint32_t reserved2, flags;
	uint64_t reserved3;
} __attribute__((packed));

struct acpi_slit {
	struct acpi_header header;
	uint64_t nr_localities;
	uint8_t distance[];
} __attribute__((packed));

/* An entry of MADT or SRAT: type, length, then what the type says. */
struct acpi_entry {
	uint8_t type, length;
	uint8_t bytes[];
};

bool acpi_checksum_ok(const void *table, size_t size);
/* NULL when there is none, or it is not valid. */
const struct acpi_rsdp *acpi_rsdp(void);
/* How many tables the XSDT names, and one of them, unchecked. */
unsigned int acpi_count(void);
const struct acpi_header *acpi_table(unsigned int index);
/* The @nth table with this signature (the DSDT too); NULL when there is none. */
const void *acpi_find(const char *signature, unsigned int nth);

/* Next entry after @entry (NULL: the first) of a table whose entries begin at @first; NULL at end. */
const struct acpi_entry *acpi_next(const struct acpi_header *table, const void *first,
				   const struct acpi_entry *entry);

/* SLP_TYP of soft-off, from the DSDT's or an SSDT's _S5_. */
bool acpi_sleep_type(uint32_t *ret_type);
void acpi_gas_write(const struct acpi_gas *reg, uint8_t value);

/* From the MADT: ids of usable processors (at most @max), and the I/O APIC's address or 0. */
unsigned int acpi_cpus(uint32_t *apic_ids, unsigned int max);
uint32_t acpi_ioapic_gpa(void);

#endif
