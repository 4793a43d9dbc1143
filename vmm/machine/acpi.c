/* SPDX-License-Identifier: BSD-3-Clause */
/* The ACPI image: tables one after another, headers, checksums. See acpi.h for the contract. */
#include "vmm/machine/acpi.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "vmm/core/gm.h"
#include "vmm/machine/acpi_int.h"
#include "vmm/machine/boot.h"
#include "vmm/machine/layout.h"

/* Made by iasl: unsigned char dsdt_aml_code[], slots_aml_code[]. */
static const
#include "dsdt.hex"
	static const
#include "slots.hex"

#define TABLE_ALIGN     16
#define HEADER_SIZE     36
#define HEADER_LENGTH   4 /* offsets */
#define HEADER_CHECKSUM 9
#define TABLES_MAX      8

#define OEM_ID       "EBB\0\0" /* 6 bytes with the last zero */
#define CREATOR_ID   "EBB"
#define REVISION_OEM 1

#define RSDP_SIZE          36
#define RSDP_V1_SIZE       20
#define RSDP_CHECKSUM      8 /* offsets */
#define RSDP_OEM_ID        9
#define RSDP_REVISION      15
#define RSDP_LENGTH        20
#define RSDP_XSDT          24
#define RSDP_EXT_CHECKSUM  32
#define RSDP_SIGNATURE     "RSD PTR "
#define RSDP_SIGNATURE_LEN 8

	/* An image under construction; offsets of the tables that the XSDT lists. */
	struct acpi_builder {
	struct aml image;
	size_t tables[TABLES_MAX];
	size_t nr_tables;
};

/* The byte that makes all of them sum to 0 when it takes the place of a zero. */
static uint8_t acpi_checksum(const uint8_t *bytes, size_t size)
{
	uint8_t sum = 0;

	while (size--)
		sum = (uint8_t)(sum + *bytes++);
	return (uint8_t)-sum;
}

static size_t acpi_align(struct aml *image)
{
	aml_put_zeros(image, -image->size % TABLE_ALIGN);
	return image->size;
}

/* Append a header; returns the table's offset. */
static size_t acpi_table_open(struct aml *image, const char *signature, uint8_t revision)
{
	size_t start = acpi_align(image);

	aml_put_bytes(image, signature, 4);
	aml_put(image, 4, 0); /* length */
	aml_put(image, 1, revision);
	aml_put(image, 1, 0); /* checksum */
	aml_put_bytes(image, OEM_ID, 6);
	aml_put_bytes(image, "EBB", 4);
	aml_put_bytes(image, signature, 4);
	aml_put(image, 4, REVISION_OEM);
	aml_put_bytes(image, CREATOR_ID, 4);
	aml_put(image, 4, REVISION_OEM);
	return start;
}

/* Fill in what could not be known before. */
static void acpi_table_close(struct aml *image, size_t start)
{
	uint8_t *table;
	size_t size;

	if (aml_failed(image))
		return;
	table = image->bytes + start;
	size = image->size - start;
	bytes_put_le(table + HEADER_LENGTH, 4, size);
	table[HEADER_CHECKSUM] = acpi_checksum(table, size);
}

static void acpi_add_table(struct acpi_builder *builder, const char *signature, uint8_t revision,
			   void (*put)(struct aml *image, const struct acpi_config *config),
			   const struct acpi_config *config)
{
	size_t start = acpi_table_open(&builder->image, signature, revision);

	put(&builder->image, config);
	acpi_table_close(&builder->image, start);
	builder->tables[builder->nr_tables++] = start;
}

static void acpi_add_fadt(struct acpi_builder *builder)
{
	size_t dsdt = acpi_align(&builder->image), start;

	aml_put_bytes(&builder->image, dsdt_aml_code, sizeof(dsdt_aml_code));
	start = acpi_table_open(&builder->image, "FACP", 6);
	acpi_put_fadt(&builder->image, BOOT_ACPI_BASE + dsdt);
	acpi_table_close(&builder->image, start);
	builder->tables[builder->nr_tables++] = start;
}

/* A table with its header. */
static void acpi_add_compiled(struct acpi_builder *builder, const void *bytes, size_t size)
{
	builder->tables[builder->nr_tables++] = acpi_align(&builder->image);
	aml_put_bytes(&builder->image, bytes, size);
}

static size_t acpi_put_xsdt(struct acpi_builder *builder)
{
	size_t i, start = acpi_table_open(&builder->image, "XSDT", 1);

	for (i = 0; i < builder->nr_tables; i++)
		aml_put(&builder->image, 8, BOOT_ACPI_BASE + builder->tables[i]);
	acpi_table_close(&builder->image, start);
	return start;
}

static void acpi_fill_rsdp(uint8_t *rsdp, uint64_t xsdt_gpa)
{
	memset(rsdp, 0, RSDP_SIZE);
	memcpy(rsdp, RSDP_SIGNATURE, RSDP_SIGNATURE_LEN);
	memcpy(rsdp + RSDP_OEM_ID, OEM_ID, 6);
	rsdp[RSDP_REVISION] = 2;
	bytes_put_le(rsdp + RSDP_LENGTH, 4, RSDP_SIZE);
	bytes_put_le(rsdp + RSDP_XSDT, 8, xsdt_gpa);
	rsdp[RSDP_CHECKSUM] = acpi_checksum(rsdp, RSDP_V1_SIZE);
	rsdp[RSDP_EXT_CHECKSUM] = acpi_checksum(rsdp, RSDP_SIZE);
}

int acpi_image_build(const struct acpi_config *config, struct acpi_image *ret_image,
		     struct err **err)
{
	struct acpi_builder builder = {0};
	struct aml *image = &builder.image;
	size_t xsdt;

	aml_put_zeros(image, RSDP_SIZE);
	acpi_add_fadt(&builder);
	acpi_add_table(&builder, "SSDT", 2, acpi_put_ssdt, config);
	if (config->pci_slots)
		acpi_add_compiled(&builder, slots_aml_code, sizeof(slots_aml_code));
	acpi_add_table(&builder, "APIC", 5, acpi_put_madt, config);
	acpi_add_table(&builder, "SRAT", 3, acpi_put_srat, config);
	if (config->distances || config->layout->nr_nodes > 1)
		acpi_add_table(&builder, "SLIT", 1, acpi_put_slit, config);
	acpi_add_table(&builder, "MCFG", 1, acpi_put_mcfg, config);
	xsdt = acpi_put_xsdt(&builder);
	if (aml_failed(image)) {
		aml_done(image);
		return err_set(err, ENOMEM, "out of memory");
	}
	if (image->size > BOOT_ACPI_SIZE) {
		aml_done(image);
		return err_set(err, EFBIG,
			       "-smp, -numa: %zu CPUs and %u nodes need more than the %u KiB there "
			       "are for ACPI tables",
			       config->nr_cpus, config->layout->nr_nodes, BOOT_ACPI_SIZE / 1024);
	}
	acpi_fill_rsdp(image->bytes, BOOT_ACPI_BASE + xsdt);
	*ret_image = (struct acpi_image){image->bytes, image->size, BOOT_ACPI_BASE};
	return 0;
}

void acpi_image_done(struct acpi_image *image)
{
	struct aml bytes = {.bytes = image->bytes};

	aml_done(&bytes);
	*image = (struct acpi_image){0};
}

int acpi_image_write(const struct acpi_image *image, struct gm *gm)
{
	int ret = gm_write(gm, image->gpa, image->bytes, image->size);

	if (!ret)
		ret = gm_fill(gm, image->gpa + image->size, 0, BOOT_ACPI_SIZE - image->size);
	return ret;
}
