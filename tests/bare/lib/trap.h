/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Exceptions and interrupts.
 *
 * I1  An exception that nobody asked for (trap_try()) is printed as "TRAP ..." and a failed test, and
 *     ends the guest.
 * I2  Interrupt handlers run with interrupts off and end with the local APIC's end of interrupt.
 */
#ifndef BARE_TRAP_H
#define BARE_TRAP_H

#include <stdbool.h>
#include <stdint.h>

#define TRAP_FIRST_IRQ 32u
#define TRAP_GP        13u
#define TRAP_PF        14u

/* As start.S pushes it. */
struct trap_frame {
	uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	uint64_t vector, error;
	uint64_t rip, cs, rflags, rsp, ss;
};

/* Load the table on this processor. The first call, on the boot processor, fills it. */
void trap_init(void);
/* @vector at least TRAP_FIRST_IRQ. */
void trap_set_handler(unsigned int vector, void (*fn)(void *arg), void *arg);
/* Interrupts taken since the start, spurious ones included. */
uint64_t trap_count(unsigned int vector);

struct trap_fault {
	uint64_t vector, error, cr2;
};

/*
 * Run @fn(@arg). False when an exception ended it: what @fn did until then stays done. On one
 * processor at a time.
 */
bool trap_try(void (*fn)(void *arg), void *arg, struct trap_fault *ret_fault);

/* Called by start.S. */
void trap_dispatch(struct trap_frame *frame);

#endif
