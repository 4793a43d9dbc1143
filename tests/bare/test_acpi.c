/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * acpi: every table is well-formed, and what the tables say fits together. SRAT is printed, one line
 * a range, for whoever runs the test:
 *
 *	srat 0xBASE size 0xSIZE node N hotplug 0|1
 *
 *	nodes=N		SLIT's size and the number of nodes with processors or memory
 *	cpus=N		processors in the MADT
 */
#include "lib/acpi.h"
#include "lib/apic.h"
#include "lib/boot.h"
#include "lib/check.h"
#include "lib/smp.h"
#include "lib/text.h"
#include "tests.h"

static void acpi_check_tables(void)
{
	bool ok = true;

	for (unsigned int i = 0; i < acpi_count(); i++) {
		const struct acpi_header *table = acpi_table(i);

		console_printf("table %c%c%c%c at 0x%lx size %u\n", table->signature[0],
			       table->signature[1], table->signature[2], table->signature[3],
			       (uint64_t)table, table->length);
		if (table->length < sizeof(*table) || !acpi_checksum_ok(table, table->length))
			ok = false;
	}
	check(acpi_count() > 0, "acpi-root", "no valid XSDT");
	check(ok, "acpi-checksums", "a table's length or checksum is wrong");
	check(acpi_find("DSDT", 0) != NULL, "acpi-dsdt", "no valid DSDT");
}

static void acpi_check_fadt(void)
{
	const struct acpi_fadt *fadt = acpi_find("FACP", 0);
	uint32_t type;

	if (!check(fadt != NULL, "acpi-fadt", "no FADT"))
		return;
	check((fadt->flags & ACPI_FADT_RESET) != 0 && fadt->reset_register.address != 0,
	      "acpi-reset-register", "flags 0x%x", fadt->flags);
	if ((fadt->flags & ACPI_FADT_HW_REDUCED) != 0)
		check(fadt->sleep_control.address != 0 && fadt->sleep_status.address != 0,
		      "acpi-sleep-registers", "hardware-reduced, but without them");
	check(acpi_sleep_type(&type) && type <= 7, "acpi-s5", "no _S5_");
}

static void acpi_check_madt(void)
{
	uint32_t ids[SMP_MAX], ioapic = acpi_ioapic_gpa();
	unsigned int count = acpi_cpus(ids, SMP_MAX);

	check_equal(count, arg_number("cpus", 1), "acpi-cpus");
	check(count > 0 && ids[0] == apic_id(), "acpi-boot-cpu", "the first is not this one");
	check(ioapic != 0 && apic_ioapic_inputs(ioapic) >= 24, "acpi-ioapic", "at 0x%x", ioapic);
}

static bool acpi_ranges_apart(const struct acpi_srat *srat, const struct acpi_srat_memory *m)
{
	const struct acpi_entry *e = NULL;

	while ((e = acpi_next(&srat->header, srat->entries, e)) != NULL) {
		const struct acpi_srat_memory *other = (const struct acpi_srat_memory *)e;

		if (e->type != ACPI_SRAT_MEMORY || other == m ||
		    (other->flags & ACPI_SRAT_ENABLED) == 0)
			continue;
		if (other->base < m->base + m->size && m->base < other->base + other->size)
			return false;
	}
	return true;
}

static void acpi_check_srat(void)
{
	const struct acpi_srat *srat = acpi_find("SRAT", 0);
	const struct acpi_entry *e = NULL;
	uint64_t nodes = 0, ram = 0;
	bool apart = true;
	unsigned int cpus = 0, count = 0;

	if (!check(srat != NULL, "acpi-srat", "no SRAT"))
		return;
	while ((e = acpi_next(&srat->header, srat->entries, e)) != NULL) {
		const struct acpi_srat_memory *m = (const struct acpi_srat_memory *)e;

		cpus += e->type == ACPI_SRAT_CPU || e->type == ACPI_SRAT_X2APIC;
		if (e->type != ACPI_SRAT_MEMORY || (m->flags & ACPI_SRAT_ENABLED) == 0)
			continue;
		console_printf("srat 0x%lx size 0x%lx node %u hotplug %u\n", m->base, m->size,
			       m->proximity, (m->flags & ACPI_SRAT_HOTPLUG) != 0);
		apart = apart && acpi_ranges_apart(srat, m);
		nodes |= 1ull << (m->proximity & 63);
		if ((m->flags & ACPI_SRAT_HOTPLUG) == 0)
			ram += m->size;
	}
	for (; nodes != 0; nodes &= nodes - 1)
		count++;
	check(apart, "acpi-srat-apart", "memory ranges overlap");
	check_equal(cpus, arg_number("cpus", 1), "acpi-srat-cpus");
	check(count <= arg_number("nodes", 1), "acpi-srat-nodes", "%u nodes have memory", count);
	if (arg_number("ram", 0) != 0)
		check_equal(ram, arg_number("ram", 0), "acpi-srat-ram");
}

static void acpi_check_slit(void)
{
	const struct acpi_slit *slit = acpi_find("SLIT", 0);
	uint64_t nodes = arg_number("nodes", 1);
	bool ok = true;

	if (slit == NULL) {
		check(nodes == 1, "acpi-slit", "%lu nodes without distances", nodes);
		return;
	}
	if (!check_equal(slit->nr_localities, nodes, "acpi-slit-size"))
		return;
	for (uint64_t i = 0; i < nodes; i++)
		for (uint64_t j = 0; j < nodes; j++)
			ok = ok && (slit->distance[i * nodes + j] == 10) == (i == j) &&
			     slit->distance[i * nodes + j] >= 10;
	check(ok, "acpi-slit-distances", "10 must be on the diagonal, and only there");
}

void test_acpi(void)
{
	const struct acpi_rsdp *rsdp = acpi_rsdp();

	if (!check(rsdp != NULL && rsdp->revision >= 2, "acpi-rsdp", "none that is valid"))
		return;
	acpi_check_tables();
	acpi_check_fadt();
	acpi_check_madt();
	acpi_check_srat();
	acpi_check_slit();
	check(acpi_find("MCFG", 0) != NULL, "acpi-mcfg", "no MCFG");
}
