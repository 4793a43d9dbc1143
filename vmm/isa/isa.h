/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the platform devices (clock, panic port, reset and power registers) have in common: the
 * requests that a guest makes of the machine as a whole.
 *
 * Threads: the ops are called on a vCPU's thread with no device lock held. They note the request
 * and return; they must not wait for vCPUs.
 */
#ifndef VMM_ISA_H
#define VMM_ISA_H

#include <stdint.h>

enum isa_reset_cause {
	ISA_RESET_CF9,  /* the PCI reset register, also the FADT's RESET_REG */
	ISA_RESET_I8042 /* the keyboard controller's pulse command */
};

struct isa_ops {
	void (*request_reset)(void *opaque, enum isa_reset_cause cause);
	void (*request_shutdown)(void *opaque);
	/* @bits: PVPANIC_* of pvpanic.h. */
	void (*guest_panicked)(void *opaque, uint8_t bits);
};

#endif
