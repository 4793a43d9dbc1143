/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Ends of the machine: ACPI 6.4, 4.8.3.6 (reset register), 4.8.3.7 (sleep control register), 4.8.3.2
 * (PM1 control), 7.4.2 (the _S5_ object, read from the DSDT's bytes).
 */
#include "acpi.h"
#include "apic.h"
#include "check.h"
#include "console.h"
#include "cpu.h"
#include "power.h"
#include "trap.h"
#include "vmm/machine/platform.h"

#define RESET_PORT      0xcf9u
#define RESET_HARD      0x06u
#define SLEEP_ENABLE    0x20u
#define SLEEP_SHIFT     2u
#define PM1_ENABLE      0x2000u
#define PM1_SHIFT       10u
#define PVPANIC_PANICED 0x01u
#define PVPANIC_CRASHED 0x02u

static void __attribute__((noreturn)) power_unanswered(const char *what)
{
	/* the access has been made: whatever follows is late, so give it time before the verdict */
	uint64_t start = cpu_ticks();

	while (cpu_ticks() - start < CPU_PATIENCE / 4)
		cpu_relax();
	check(false, "power", "%s had no effect", what);
	check_done();
	cpu_stop();
}

void power_off(void)
{
	const struct acpi_fadt *fadt = acpi_find("FACP", 0);
	uint32_t type;

	if (fadt == NULL || !acpi_sleep_type(&type))
		power_unanswered("power-off (no FADT or no _S5_)");
	if (fadt->header.length >= sizeof(*fadt) && fadt->sleep_control.address != 0)
		acpi_gas_write(&fadt->sleep_control, (uint8_t)(SLEEP_ENABLE | type << SLEEP_SHIFT));
	else
		cpu_outw((uint16_t)fadt->pm1a_control, (uint16_t)(PM1_ENABLE | type << PM1_SHIFT));
	power_unanswered("power-off");
}

void power_reset_acpi(void)
{
	const struct acpi_fadt *fadt = acpi_find("FACP", 0);

	if (fadt != NULL && (fadt->flags & ACPI_FADT_RESET) != 0)
		acpi_gas_write(&fadt->reset_register, fadt->reset_value);
	power_unanswered("reset register");
}

void power_reset_port(void)
{
	cpu_outb(RESET_PORT, RESET_HARD);
	power_unanswered("port 0xcf9");
}

void power_triple_fault(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) none = {0, 0};

	__asm__ volatile("lidt %0; ud2" : : "m"(none));
	power_unanswered("triple fault");
}

void power_tell_panic(void)
{
	cpu_outb(POWER_PVPANIC_PORT, PVPANIC_PANICED);
}

void power_tell_crash_loaded(void)
{
	cpu_outb(POWER_PVPANIC_PORT, PVPANIC_CRASHED);
}

void power_panic(void)
{
	power_tell_panic();
	cpu_stop();
}

void power_crash_loaded(void)
{
	power_tell_crash_loaded();
	cpu_stop();
}

void power_die(const char *why)
{
	static bool dying;

	if (dying)
		cpu_stop();
	dying = true;
	check(false, why, "the guest cannot go on");
	check_done();
	power_off();
}

void power_button_init(unsigned int vector)
{
	cpu_inb(PLATFORM_GED_PORT);
	apic_route_gsi(acpi_ioapic_gpa(), PLATFORM_GED_GSI, vector, false);
}

bool power_button_pressed(unsigned int vector)
{
	static uint64_t seen;

	if (trap_count(vector) == seen)
		return false;
	seen = trap_count(vector);
	return (cpu_inb(PLATFORM_GED_PORT) & PLATFORM_GED_EVENT_POWER_BUTTON) != 0;
}
