/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A freestanding guest that tests the machine that it runs on. The command line chooses:
 *
 *	test=NAME	one of the table below
 *	end=HOW		what to do afterwards: off (default), reset, reset-acpi, triple, panic, crash,
 *			halt, spin; panics, crashes: tell of it without end
 *
 * It needs nothing of a processor but integer instructions, so that it also runs where they are
 * interpreted one by one.
 */
#include "lib/apic.h"
#include "lib/boot.h"
#include "lib/check.h"
#include "lib/cpu.h"
#include "lib/pci.h"
#include "lib/power.h"
#include "lib/trap.h"
#include "tests.h"

int main(void);

static void test_none(void)
{
}

static void test_trap(void)
{
	__asm__ volatile("ud2");
}

static const struct {
	const char *name;
	void (*fn)(void);
} tests[] = {
	{"none", test_none},
	{"trap", test_trap},
	{"boot", test_boot},
	{"cpus", test_cpus},
	{"acpi", test_acpi},
	{"smbios", test_smbios},
	{"pci", test_pci},
	{"serial", test_serial},
	{"rtc", test_rtc},
	{"timer", test_timer},
	{"rng", test_rng},
	{"balloon", test_balloon},
	{"count", test_count},
	{"echo", test_echo},
	{"powerbutton", test_powerbutton},
	{"vmem-config", test_vmem_config},
	{"vmem-requests", test_vmem_requests},
	{"vmem-memory", test_vmem_memory},
	{"vmem-dma", test_vmem_dma},
	{"vmem-follow", test_vmem_follow},
	{"vmem-storm", test_vmem_storm},
	{"vmem-size", test_vmem_size},
	{"rings", test_rings},
	{"attack", test_attack},
	{"hotplug", test_hotplug},
	{"pattern", test_pattern},
	{"driver", test_driver},
};

static void __attribute__((noreturn)) end(void)
{
	console_printf("END\n");
	if (arg_is("end", "reset"))
		power_reset_port();
	if (arg_is("end", "reset-acpi"))
		power_reset_acpi();
	if (arg_is("end", "triple"))
		power_triple_fault();
	if (arg_is("end", "panic"))
		power_panic();
	if (arg_is("end", "crash"))
		power_crash_loaded();
	if (arg_is("end", "halt"))
		cpu_stop();
	while (arg_is("end", "panics"))
		power_tell_panic();
	while (arg_is("end", "crashes"))
		power_tell_crash_loaded();
	while (arg_is("end", "spin"))
		cpu_relax();
	power_off();
}

int main(void)
{
	unsigned int i;

	console_init();
	trap_init();
	apic_init();
	pci_init();
	console_printf("BARE %s\n", boot_cmdline());
	for (i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		if (arg_is("test", tests[i].name)) {
			tests[i].fn();
			break;
		}
	}
	if (i == sizeof(tests) / sizeof(tests[0]))
		check(false, "main", "test= names no test");
	check_done();
	end();
}
