/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The contents of the ACPI tables, and of the SSDT, from the machine's configuration: ACPI 6.4
 * chapter 5.2; PCI Firmware Specification 3.3 section 4.1 for MCFG.
 *
 * Processors are numbered by their index in both MADT and SSDT (_UID).
 */
#include <stdio.h>

#include "base/bytes.h"
#include "base/num.h"
#include "vmm/machine/acpi_int.h"
#include "vmm/machine/layout.h"
#include "vmm/machine/platform.h"

/* FADT: sizes and offsets from the start of the table; the body starts after the header. */
#define FADT_SIZE          276
#define FADT_BODY          36
#define FADT_DSDT          40
#define FADT_PM_PROFILE    45
#define FADT_BOOT_ARCH     109
#define FADT_FLAGS         112
#define FADT_RESET_REG     116
#define FADT_RESET_VALUE   128
#define FADT_MINOR_VERSION 131
#define FADT_X_DSDT        140
#define FADT_SLEEP_CONTROL 244
#define FADT_SLEEP_STATUS  256

#define FADT_PROFILE_SERVER 4
#define FADT_MINOR          4 /* ACPI 6.4 */

#define FADT_ARCH_LEGACY_DEVICES (1u << 0)
#define FADT_ARCH_NO_VGA         (1u << 2)
#define FADT_ARCH_NO_ASPM        (1u << 4)

#define FADT_WBINVD     (1u << 0)
#define FADT_PWR_BUTTON (1u << 4) /* no fixed power button: the namespace has one */
#define FADT_SLP_BUTTON (1u << 5) /* no fixed sleep button */
#define FADT_FIX_RTC    (1u << 6) /* no wake status for the clock in fixed registers */
#define FADT_RESET_SUP  (1u << 10)
#define FADT_HW_REDUCED (1u << 20)

#define GAS_SYSTEM_IO   1
#define GAS_ACCESS_BYTE 1

#define MADT_LAPIC      0
#define MADT_IOAPIC     1
#define MADT_LAPIC_NMI  4
#define MADT_X2APIC     9
#define MADT_X2APIC_NMI 10
#define MADT_ENABLED    1
#define MADT_UID_ALL    0xFF
#define MADT_X2_UID_ALL 0xFFFFFFFF
#define APIC_ID_ALL     0xFF /* not usable as an id in the short forms */
#define LINT1           1

#define SRAT_LAPIC        0
#define SRAT_MEMORY       1
#define SRAT_X2APIC       2
#define SRAT_ENABLED      1u
#define SRAT_HOTPLUGGABLE 2u

#define SLIT_LOCAL  10
#define SLIT_REMOTE 20

#define PCI_SLOTS 32
#define PCI_PINS  4

/* One byte wide register in I/O space, as a generic address structure. */
static void acpi_set_gas_io(uint8_t *gas, uint16_t port)
{
	gas[0] = GAS_SYSTEM_IO;
	gas[1] = 8; /* bit width */
	gas[2] = 0; /* bit offset */
	gas[3] = GAS_ACCESS_BYTE;
	bytes_put_le(gas + 4, 8, port);
}

void acpi_put_fadt(struct aml *image, uint64_t dsdt_gpa)
{
	uint8_t fadt[FADT_SIZE] = {0};

	bytes_put_le(fadt + FADT_DSDT, 4, dsdt_gpa);
	bytes_put_le(fadt + FADT_X_DSDT, 8, dsdt_gpa);
	fadt[FADT_PM_PROFILE] = FADT_PROFILE_SERVER;
	fadt[FADT_MINOR_VERSION] = FADT_MINOR;
	bytes_put_le(fadt + FADT_BOOT_ARCH, 2,
		     FADT_ARCH_LEGACY_DEVICES | FADT_ARCH_NO_VGA | FADT_ARCH_NO_ASPM);
	bytes_put_le(fadt + FADT_FLAGS, 4,
		     FADT_WBINVD | FADT_PWR_BUTTON | FADT_SLP_BUTTON | FADT_FIX_RTC |
			     FADT_RESET_SUP | FADT_HW_REDUCED);
	acpi_set_gas_io(fadt + FADT_RESET_REG, PLATFORM_RESET_PORT);
	fadt[FADT_RESET_VALUE] = PLATFORM_RESET_VALUE;
	acpi_set_gas_io(fadt + FADT_SLEEP_CONTROL, PLATFORM_SLEEP_CONTROL_PORT);
	acpi_set_gas_io(fadt + FADT_SLEEP_STATUS, PLATFORM_SLEEP_STATUS_PORT);
	aml_put_bytes(image, fadt + FADT_BODY, FADT_SIZE - FADT_BODY);
}

static void acpi_put_madt_cpu(struct aml *image, uint32_t uid, uint32_t apic_id)
{
	if (apic_id < APIC_ID_ALL && uid < MADT_UID_ALL) {
		aml_put(image, 1, MADT_LAPIC);
		aml_put(image, 1, 8);
		aml_put(image, 1, uid);
		aml_put(image, 1, apic_id);
		aml_put(image, 4, MADT_ENABLED);
		return;
	}
	aml_put(image, 1, MADT_X2APIC);
	aml_put(image, 1, 16);
	aml_put(image, 2, 0);
	aml_put(image, 4, apic_id);
	aml_put(image, 4, MADT_ENABLED);
	aml_put(image, 4, uid);
}

void acpi_put_madt(struct aml *image, const struct acpi_config *config)
{
	bool x2apic = false;
	uint32_t i;

	aml_put(image, 4, PLATFORM_LAPIC_BASE);
	aml_put(image, 4, 0); /* no 8259 pair */
	for (i = 0; i < config->nr_cpus; i++) {
		acpi_put_madt_cpu(image, i, config->cpus[i].apic_id);
		x2apic = x2apic || config->cpus[i].apic_id >= APIC_ID_ALL || i >= MADT_UID_ALL;
	}

	aml_put(image, 1, MADT_IOAPIC);
	aml_put(image, 1, 12);
	aml_put(image, 1, 0); /* its id */
	aml_put(image, 1, 0);
	aml_put(image, 4, PLATFORM_IOAPIC_BASE);
	aml_put(image, 4, 0); /* its first GSI */

	/* NMI is wired to LINT1 of all processors; flags 0: as the bus has it. */
	aml_put(image, 1, MADT_LAPIC_NMI);
	aml_put(image, 1, 6);
	aml_put(image, 1, MADT_UID_ALL);
	aml_put(image, 2, 0);
	aml_put(image, 1, LINT1);
	if (x2apic) {
		aml_put(image, 1, MADT_X2APIC_NMI);
		aml_put(image, 1, 12);
		aml_put(image, 2, 0);
		aml_put(image, 4, MADT_X2_UID_ALL);
		aml_put(image, 1, LINT1);
		aml_put(image, 3, 0);
	}
}

static void acpi_put_srat_cpu(struct aml *image, const struct acpi_cpu *cpu)
{
	if (cpu->apic_id < APIC_ID_ALL) {
		aml_put(image, 1, SRAT_LAPIC);
		aml_put(image, 1, 16);
		aml_put(image, 1, cpu->node);
		aml_put(image, 1, cpu->apic_id);
		aml_put(image, 4, SRAT_ENABLED);
		aml_put(image, 1, 0);
		aml_put(image, 3, cpu->node >> 8);
		aml_put(image, 4, 0);
		return;
	}
	aml_put(image, 1, SRAT_X2APIC);
	aml_put(image, 1, 24);
	aml_put(image, 2, 0);
	aml_put(image, 4, cpu->node);
	aml_put(image, 4, cpu->apic_id);
	aml_put(image, 4, SRAT_ENABLED);
	aml_put(image, 4, 0);
	aml_put(image, 4, 0);
}

static void acpi_put_srat_memory(struct aml *image, struct range gpa, unsigned int node,
				 uint32_t flags)
{
	aml_put(image, 1, SRAT_MEMORY);
	aml_put(image, 1, 40);
	aml_put(image, 4, node);
	aml_put(image, 2, 0);
	aml_put(image, 8, gpa.start);
	aml_put(image, 8, gpa.size);
	aml_put(image, 4, 0);
	aml_put(image, 4, flags);
	aml_put(image, 8, 0);
}

/* The device whose region starts first at or after @gpa, or NULL. */
static const struct layout_device *acpi_next_device(const struct machine_layout *layout,
						    uint64_t gpa)
{
	const struct layout_device *next = NULL;
	size_t i;

	for (i = 0; i < layout->nr_devices; i++) {
		const struct layout_device *device = &layout->devices[i];

		if (device->gpa.start >= gpa && (!next || device->gpa.start < next->gpa.start))
			next = device;
	}
	return next;
}

/* Devices and the gaps between them, in ascending order (acpi.h, I2). */
static void acpi_put_srat_device_memory(struct aml *image, const struct machine_layout *layout)
{
	const uint32_t flags = SRAT_ENABLED | SRAT_HOTPLUGGABLE;
	uint64_t pos = layout->device_memory.start, end = range_end(layout->device_memory);
	const struct layout_device *device;

	while (pos < end) {
		uint64_t next;

		device = acpi_next_device(layout, pos);
		next = device ? device->gpa.start : end;
		if (next > pos)
			acpi_put_srat_memory(image, (struct range){pos, next - pos},
					     layout->nr_nodes - 1, flags);
		pos = next;
		if (device) {
			acpi_put_srat_memory(image, device->gpa, device->node, flags);
			pos = range_end(device->gpa);
		}
	}
}

void acpi_put_srat(struct aml *image, const struct acpi_config *config)
{
	const struct machine_layout *layout = config->layout;
	size_t i;

	aml_put(image, 4, 1); /* reserved, must be 1 */
	aml_put(image, 8, 0);
	for (i = 0; i < config->nr_cpus; i++)
		acpi_put_srat_cpu(image, &config->cpus[i]);
	for (i = 0; i < layout->nr_ram; i++)
		acpi_put_srat_memory(image, layout->ram[i].gpa, layout->ram[i].node, SRAT_ENABLED);
	acpi_put_srat_device_memory(image, layout);
}

void acpi_put_slit(struct aml *image, const struct acpi_config *config)
{
	unsigned int nr = config->layout->nr_nodes, from, to;

	aml_put(image, 8, nr);
	for (from = 0; from < nr; from++) {
		for (to = 0; to < nr; to++) {
			if (config->distances)
				aml_put(image, 1, config->distances[from * nr + to]);
			else
				aml_put(image, 1, from == to ? SLIT_LOCAL : SLIT_REMOTE);
		}
	}
}

static uint8_t acpi_last_bus(const struct machine_layout *layout)
{
	return (uint8_t)(layout->ecam.size / MIB - 1);
}

void acpi_put_mcfg(struct aml *image, const struct acpi_config *config)
{
	aml_put(image, 8, 0);
	aml_put(image, 8, config->layout->ecam.start);
	aml_put(image, 2, 0); /* segment */
	aml_put(image, 1, 0); /* first bus */
	aml_put(image, 1, acpi_last_bus(config->layout));
	aml_put(image, 4, 0);
}

static void acpi_put_pci_crs(struct aml *image, const struct machine_layout *layout)
{
	struct aml resources = {0};

	aml_res_bus_window(&resources, 0, acpi_last_bus(layout));
	/* The bridge's own ports lie between the two windows. */
	aml_res_io_window(&resources, 0, PLATFORM_PCI_ADDRESS_PORT - 1);
	aml_res_io_window(&resources, PLATFORM_PCI_DATA_PORT + 4, UINT16_MAX);
	aml_res_memory_window(&resources, layout->window32);
	aml_res_memory_window(&resources, layout->window64);
	aml_put_name(image, "_CRS");
	aml_put_resources(image, &resources);
	aml_done(&resources);
}

/* Every pin of every slot, wired straight to the I/O APIC with the usual rotation. */
static void acpi_put_pci_prt(struct aml *image)
{
	unsigned int slot, pin;
	size_t table, entry;

	aml_put_name(image, "_PRT");
	table = aml_open_package(image, PCI_SLOTS * PCI_PINS);
	for (slot = 0; slot < PCI_SLOTS; slot++) {
		for (pin = 0; pin < PCI_PINS; pin++) {
			entry = aml_open_package(image, 4);
			aml_put_integer(image, slot << 16 | 0xFFFF);
			aml_put_integer(image, pin);
			aml_put_integer(image, 0);
			aml_put_integer(image, PLATFORM_PCI_INTX_GSI +
						       (slot + pin) % PLATFORM_PCI_INTX_COUNT);
			aml_close(image, entry);
		}
	}
	aml_close(image, table);
}

/* The slot with this number, as its object is named. */
static const char *acpi_slot_name(unsigned int slot, char name[16])
{
	(void)snprintf(name, 16, "S%03u", slot & 0x1F);
	return name;
}

static void acpi_put_slot(struct aml *image, unsigned int slot)
{
	char name[16];
	size_t device = aml_open_device(image, acpi_slot_name(slot, name)), method;

	aml_put_name(image, "_ADR");
	aml_put_integer(image, slot << 16);
	aml_put_name(image, "_SUN");
	aml_put_integer(image, slot);
	method = aml_open_method(image, "_EJ0", 1, true);
	aml_put_call(image, "SLEJ");
	aml_put_integer(image, 1u << slot);
	aml_close(image, method);
	method = aml_open_method(image, "_OST", 3, true);
	aml_put_call(image, "SLOS");
	aml_put_integer(image, slot);
	aml_put_arg(image, 0);
	aml_put_arg(image, 1);
	aml_close(image, method);
	aml_close(image, device);
}

/* What slots.asl wants: an object for each slot, and SLNT, which notifies those in a set. */
static void acpi_put_slots(struct aml *image, uint32_t slots)
{
	size_t method, branch;
	unsigned int slot;
	char name[16];

	for (slot = 0; slot < PCI_SLOTS; slot++)
		if (slots >> slot & 1)
			acpi_put_slot(image, slot);
	method = aml_open_method(image, "SLNT", 2, true);
	for (slot = 0; slot < PCI_SLOTS; slot++) {
		if (!(slots >> slot & 1))
			continue;
		branch = aml_open_if_bits(image, 0, 1u << slot);
		aml_put_notify(image, acpi_slot_name(slot, name), 1);
		aml_close(image, branch);
	}
	aml_close(image, method);
}

static void acpi_put_serial(struct aml *image, unsigned int index, const struct acpi_serial *serial)
{
	const char name[] = {'C', 'O', 'M', (char)('1' + index), 0};
	struct aml resources = {0};
	size_t device;

	aml_res_io(&resources, serial->port, PLATFORM_COM_SIZE);
	aml_res_interrupt(&resources, serial->gsi);
	device = aml_open_device(image, name);
	aml_put_name(image, "_HID");
	aml_put_eisa_id(image, "PNP0501");
	aml_put_name(image, "_UID");
	aml_put_integer(image, index + 1);
	aml_put_name(image, "_CRS");
	aml_put_resources(image, &resources);
	aml_close(image, device);
	aml_done(&resources);
}

static void acpi_put_pvpanic(struct aml *image, uint16_t port)
{
	struct aml resources = {0};
	size_t device;

	aml_res_io(&resources, port, 1);
	device = aml_open_device(image, "PEVT");
	aml_put_name(image, "_HID");
	aml_put_string(image, "QEMU0001");
	aml_put_name(image, "_CRS");
	aml_put_resources(image, &resources);
	aml_close(image, device);
	aml_done(&resources);
}

static void acpi_put_processor(struct aml *image, unsigned int index, unsigned int node)
{
	char name[16];
	size_t device;

	(void)snprintf(name, sizeof(name), "C%03X", index & 0xFFF);
	device = aml_open_device(image, name);
	aml_put_name(image, "_HID");
	aml_put_string(image, "ACPI0007");
	aml_put_name(image, "_UID");
	aml_put_integer(image, index);
	aml_put_name(image, "_PXM");
	aml_put_integer(image, node);
	aml_close(image, device);
}

void acpi_put_ssdt(struct aml *image, const struct acpi_config *config)
{
	size_t scope = aml_open_scope(image, "\\_SB_.PCI0");
	unsigned int i;

	acpi_put_pci_crs(image, config->layout);
	acpi_put_pci_prt(image);
	if (config->pci_slots)
		acpi_put_slots(image, config->pci_slots);
	aml_close(image, scope);

	scope = aml_open_scope(image, "\\_SB_");
	for (i = 0; i < ACPI_SERIAL_MAX; i++) {
		if (config->serial[i].present)
			acpi_put_serial(image, i, &config->serial[i]);
	}
	if (config->pvpanic_port)
		acpi_put_pvpanic(image, config->pvpanic_port);
	for (i = 0; i < config->nr_cpus; i++)
		acpi_put_processor(image, i, config->cpus[i].node);
	aml_close(image, scope);
}
