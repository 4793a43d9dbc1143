/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ACPI tables. Nothing is kept: each call walks from the RSDP, which costs little in tables of this
 * size.
 */
#include "acpi.h"
#include "boot.h"
#include "cpu.h"
#include "mem.h"
#include "text.h"

#define MADT_ENABLED 1u
#define AML_NAME     0x08u
#define AML_PACKAGE  0x12u
#define AML_ZERO     0x00u
#define AML_ONE      0x01u
#define AML_BYTE     0x0au

bool acpi_checksum_ok(const void *table, size_t size)
{
	const uint8_t *bytes = table;
	uint8_t sum = 0;

	for (size_t i = 0; i < size; i++)
		sum = (uint8_t)(sum + bytes[i]);
	return sum == 0;
}

const struct acpi_rsdp *acpi_rsdp(void)
{
	uint64_t gpa = boot_info()->rsdp_paddr;
	const struct acpi_rsdp *rsdp = (const struct acpi_rsdp *)gpa;

	if (gpa == 0)
		return NULL;
	mem_map(gpa, MEM_PAGE_BYTES);
	if (memcmp(rsdp->signature, "RSD PTR ", 8) != 0 || !acpi_checksum_ok(rsdp, 20))
		return NULL;
	if (rsdp->revision >= 2 && !acpi_checksum_ok(rsdp, rsdp->length))
		return NULL;
	return rsdp;
}

static const struct acpi_header *acpi_at(uint64_t gpa)
{
	const struct acpi_header *header = (const struct acpi_header *)gpa;

	mem_map(gpa, MEM_PAGE_BYTES);
	mem_map(gpa, header->length);
	return header;
}

/* XSDT if there is one, else the RSDT; *ret_width is the size of its entries. */
static const struct acpi_header *acpi_root(unsigned int *ret_width)
{
	const struct acpi_rsdp *rsdp = acpi_rsdp();
	bool extended = rsdp != NULL && rsdp->revision >= 2 && rsdp->xsdt != 0;

	if (rsdp == NULL)
		return NULL;
	*ret_width = extended ? 8 : 4;
	return acpi_at(extended ? rsdp->xsdt : rsdp->rsdt);
}

unsigned int acpi_count(void)
{
	unsigned int width;
	const struct acpi_header *root = acpi_root(&width);

	if (root == NULL || !acpi_checksum_ok(root, root->length))
		return 0;
	return (unsigned int)(root->length - sizeof(*root)) / width;
}

const struct acpi_header *acpi_table(unsigned int index)
{
	unsigned int width;
	const struct acpi_header *root = acpi_root(&width);
	uint64_t gpa = 0;

	memcpy(&gpa, (const uint8_t *)(root + 1) + index * width, width);
	return acpi_at(gpa);
}

static const struct acpi_header *acpi_dsdt(void)
{
	const struct acpi_fadt *fadt = acpi_find("FACP", 0);

	if (fadt == NULL)
		return NULL;
	if (fadt->header.length >= 148 && fadt->x_dsdt != 0)
		return acpi_at(fadt->x_dsdt);
	return fadt->dsdt == 0 ? NULL : acpi_at(fadt->dsdt);
}

const void *acpi_find(const char *signature, unsigned int nth)
{
	unsigned int count = acpi_count();
	const struct acpi_header *table = NULL;

	if (memcmp(signature, "DSDT", 4) == 0) {
		table = acpi_dsdt();
	} else {
		for (unsigned int i = 0; i < count; i++) {
			const struct acpi_header *candidate = acpi_table(i);

			if (memcmp(candidate->signature, signature, 4) == 0 && nth-- == 0) {
				table = candidate;
				break;
			}
		}
	}
	if (table == NULL || table->length < sizeof(*table) ||
	    !acpi_checksum_ok(table, table->length))
		return NULL;
	return table;
}

const struct acpi_entry *acpi_next(const struct acpi_header *table, const void *first,
				   const struct acpi_entry *entry)
{
	const uint8_t *end = (const uint8_t *)table + table->length;
	const uint8_t *next = first;

	if (entry != NULL)
		next = (const uint8_t *)entry + entry->length;
	entry = (const struct acpi_entry *)next;
	if (end - next < 2 || entry->length < 2 || end - next < entry->length)
		return NULL;
	return entry;
}

/* The first element of the package behind _S5_ in @table. */
static bool acpi_find_s5(const struct acpi_header *table, uint32_t *ret_type)
{
	const uint8_t *p = (const uint8_t *)(table + 1);
	const uint8_t *end = (const uint8_t *)table + table->length;

	for (; end - p > 12; p++) {
		const uint8_t *q = p + 4;

		if (memcmp(p, "_S5_", 4) != 0 || *q++ != AML_PACKAGE)
			continue;
		q += (*q >> 6) + 1; /* package length: its top bits tell how many bytes follow */
		q++;                /* number of elements */
		if (*q == AML_BYTE)
			q++;
		*ret_type = *q;
		return true;
	}
	return false;
}

bool acpi_sleep_type(uint32_t *ret_type)
{
	const struct acpi_header *table = acpi_find("DSDT", 0);

	for (unsigned int i = 0; table != NULL; i++) {
		if (acpi_find_s5(table, ret_type))
			return true;
		table = acpi_find("SSDT", i);
	}
	return false;
}

void acpi_gas_write(const struct acpi_gas *reg, uint8_t value)
{
	if (reg->space == ACPI_SPACE_IO) {
		cpu_outb((uint16_t)reg->address, value);
	} else {
		mem_map(reg->address, 1);
		mmio_write8(reg->address, value);
	}
}

static uint32_t acpi_le32(const uint8_t *bytes)
{
	uint32_t value;

	memcpy(&value, bytes, 4);
	return value;
}

unsigned int acpi_cpus(uint32_t *apic_ids, unsigned int max)
{
	const struct acpi_madt *madt = acpi_find("APIC", 0);
	const struct acpi_entry *e = NULL;
	unsigned int n = 0;

	if (madt == NULL)
		return 0;
	while ((e = acpi_next(&madt->header, madt->entries, e)) != NULL && n < max) {
		if (e->type == ACPI_MADT_LAPIC && (acpi_le32(e->bytes + 2) & MADT_ENABLED) != 0)
			apic_ids[n++] = e->bytes[1];
		if (e->type == ACPI_MADT_X2APIC && (acpi_le32(e->bytes + 6) & MADT_ENABLED) != 0)
			apic_ids[n++] = acpi_le32(e->bytes + 2);
	}
	return n;
}

uint32_t acpi_ioapic_gpa(void)
{
	const struct acpi_madt *madt = acpi_find("APIC", 0);
	const struct acpi_entry *e = NULL;

	if (madt == NULL)
		return 0;
	while ((e = acpi_next(&madt->header, madt->entries, e)) != NULL)
		if (e->type == ACPI_MADT_IOAPIC)
			return acpi_le32(e->bytes + 2);
	return 0;
}
