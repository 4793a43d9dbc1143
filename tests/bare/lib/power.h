/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The ways to end or restart the machine. None of them returns: where the machine does not react,
 * the guest says so and stops. And the button by which its owner asks for the end.
 */
#ifndef BARE_POWER_H
#define BARE_POWER_H

#include <stdbool.h>

#define POWER_PVPANIC_PORT 0x505u

/* Soft-off through the FADT's sleep registers, or PM1a control where the FADT has none. */
void power_off(void) __attribute__((noreturn));
/* The FADT's reset register. */
void power_reset_acpi(void) __attribute__((noreturn));
/* Port 0xCF9. */
void power_reset_port(void) __attribute__((noreturn));
/* An exception without a descriptor table. */
void power_triple_fault(void) __attribute__((noreturn));
/* Tell the monitor through pvpanic, then halt. */
void power_panic(void) __attribute__((noreturn));
/* The same of a guest that goes on in its crash kernel. */
void power_crash_loaded(void) __attribute__((noreturn));
/* Tell of either, and go on. */
void power_tell_panic(void);
void power_tell_crash_loaded(void);
/* Report a failed test named @why and power off. */
void power_die(const char *why) __attribute__((noreturn));


/* Have the power button interrupt this processor by @vector; presses so far are forgotten. */
void power_button_init(unsigned int vector);
/* Whether it was pressed since the last look; with interrupts off, in turn with cpu_sleep(). */
bool power_button_pressed(unsigned int vector);

#endif
