/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Local APIC (x2APIC where the processor has it, else the memory-mapped one) and the I/O APIC.
 * Intel SDM volume 3, chapter 11.
 */
#ifndef BARE_APIC_H
#define BARE_APIC_H

#include <stdbool.h>
#include <stdint.h>

#define APIC_SPURIOUS_VECTOR 0xffu
#define APIC_TICK_VECTOR     0x20u
#define APIC_IPI_VECTOR      0x21u

/* ICR bits for apic_ipi() */
#define APIC_IPI_FIXED   0x00000000u
#define APIC_IPI_INIT    0x00004500u
#define APIC_IPI_STARTUP 0x00004600u

/* On each processor, after trap_init(). */
void apic_init(void);
uint32_t apic_id(void);
bool apic_is_x2(void);
void apic_eoi(void);
void apic_ipi(uint32_t to_apic_id, uint32_t command);

/* Timer of this processor: @count bus ticks from now, or every @count with @periodic; 0 stops it. */
void apic_timer(uint32_t count, bool periodic, unsigned int vector);
void apic_timer_deadline_mode(unsigned int vector);
uint32_t apic_timer_left(void);

/* Let input @gsi deliver @vector to this processor. Levels are active high. */
void apic_route_gsi(uint32_t ioapic_gpa, unsigned int gsi, unsigned int vector, bool level);
unsigned int apic_ioapic_inputs(uint32_t ioapic_gpa);

#endif
