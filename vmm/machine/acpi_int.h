/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Between acpi.c, which lays out the image, and the makers of the tables' contents. Each appends
 * the body of one table, what follows the 36 bytes of the common header, to the image.
 */
#ifndef VMM_MACHINE_ACPI_INT_H
#define VMM_MACHINE_ACPI_INT_H

#include <stdint.h>

#include "vmm/machine/acpi.h"
#include "vmm/machine/acpi_aml.h"

void acpi_put_fadt(struct aml *image, uint64_t dsdt_gpa);
void acpi_put_madt(struct aml *image, const struct acpi_config *config);
void acpi_put_srat(struct aml *image, const struct acpi_config *config);
void acpi_put_slit(struct aml *image, const struct acpi_config *config);
void acpi_put_mcfg(struct aml *image, const struct acpi_config *config);
void acpi_put_ssdt(struct aml *image, const struct acpi_config *config);

#endif
