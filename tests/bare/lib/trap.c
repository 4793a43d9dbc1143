/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Exceptions and interrupts: one table for all processors.
 */
#include <stddef.h>

#include "apic.h"
#include "console.h"
#include "cpu.h"
#include "power.h"
#include "trap.h"

#define TRAP_VECTORS    256u
#define TRAP_ENTRY_SIZE 16u
#define GATE_INTERRUPT  0x8e00u
#define SEL_CODE64      8u

struct gate {
	uint16_t offset_low, selector, type, offset_mid;
	uint32_t offset_high, reserved;
};

struct idt_pointer {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

struct trap_handler {
	void (*fn)(void *arg);
	void *arg;
	uint64_t count;
};

/* Where trap_try() goes on; __builtin_setjmp() wants five words. */
struct trap_recovery {
	void *context[5];
	uint32_t apic_id;
	struct trap_fault *fault;
};

extern uint8_t trap_entries[];

static struct gate trap_gates[TRAP_VECTORS] __attribute__((aligned(16)));
static struct trap_handler trap_handlers[TRAP_VECTORS];
static struct trap_recovery *volatile trap_recovery;

void trap_init(void)
{
	struct idt_pointer pointer = {sizeof(trap_gates) - 1, (uint64_t)trap_gates};

	for (unsigned int i = 0; trap_gates[TRAP_VECTORS - 1].type == 0 && i < TRAP_VECTORS; i++) {
		uint64_t entry = (uint64_t)trap_entries + i * TRAP_ENTRY_SIZE;

		trap_gates[i] = (struct gate){
			.offset_low = (uint16_t)entry,
			.selector = SEL_CODE64,
			.type = GATE_INTERRUPT,
			.offset_mid = (uint16_t)(entry >> 16),
			.offset_high = (uint32_t)(entry >> 32),
		};
	}
	__asm__ volatile("lidt %0" : : "m"(pointer));
}

void trap_set_handler(unsigned int vector, void (*fn)(void *arg), void *arg)
{
	trap_handlers[vector].arg = arg;
	trap_handlers[vector].fn = fn;
}

uint64_t trap_count(unsigned int vector)
{
	return __atomic_load_n(&trap_handlers[vector].count, __ATOMIC_ACQUIRE);
}

bool trap_try(void (*fn)(void *arg), void *arg, struct trap_fault *ret_fault)
{
	struct trap_recovery recovery = {.apic_id = apic_id(), .fault = ret_fault};
	uint64_t flags = cpu_flags();

	if (__builtin_setjmp(recovery.context) != 0) {
		trap_recovery = NULL;
		cpu_set_flags(flags);
		return false;
	}
	trap_recovery = &recovery;
	fn(arg);
	trap_recovery = NULL;
	return true;
}

/* One segment and one privilege level: leaving an exception is a jump, as in start.S. */
static void trap_recover(const struct trap_frame *frame)
{
	struct trap_recovery *recovery = trap_recovery;

	if (recovery == NULL || recovery->apic_id != apic_id())
		return;
	*recovery->fault = (struct trap_fault){frame->vector, frame->error, cpu_cr2()};
	__builtin_longjmp(recovery->context, 1);
}

void trap_dispatch(struct trap_frame *frame)
{
	struct trap_handler *handler = &trap_handlers[frame->vector];

	if (frame->vector < TRAP_FIRST_IRQ) {
		trap_recover(frame);
		console_seize();
		console_printf("TRAP vector=%lu error=0x%lx rip=0x%lx cr2=0x%lx rsp=0x%lx\n",
			       frame->vector, frame->error, frame->rip, cpu_cr2(), frame->rsp);
		power_die("trap: unexpected exception");
	}
	__atomic_add_fetch(&handler->count, 1, __ATOMIC_RELEASE);
	if (handler->fn != NULL)
		handler->fn(handler->arg);
	if (frame->vector != APIC_SPURIOUS_VECTOR)
		apic_eoi();
}
