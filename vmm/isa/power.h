/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reset, power and the power button of a hardware-reduced ACPI machine, and the one command of the
 * keyboard controller that resets a PC.
 *   reset register    a write with bit 2 set resets; reads as 0.
 *   sleep control     SLP_EN with SLP_TYP 5 powers off (ACPI 6.5, 4.8.3.7); reads as 0.
 *   sleep status      WAK_STS is never set: nothing but power-off is offered.
 *   GED status        pending events, one bit each; reading gives and clears them.
 *   0x60, 0x64        no keyboard controller, but its reset command 0xFE. Its status says "output
 *                     full, input empty" for ever: a driver that flushes it gives up at once, and
 *                     one that wants to reset need not wait.
 * Ports and the interrupt are those of machine/platform.h.
 *
 * I1  The GED's interrupt is pulsed after each event was noted, also when one was pending: an edge
 *     that the guest lost while it booted does not block later ones.
 *
 * Threads: a mutex of its own; power_button() from any thread.
 * The guest controls every register.
 */
#ifndef VMM_POWER_H
#define VMM_POWER_H

#include <stdint.h>

#include "vmm/isa/isa.h"

struct bus;
struct err;
struct hv;
struct pack;
struct power;
struct unpack;

struct power *power_new(struct hv *hv, struct bus *pio, const struct isa_ops *ops, void *opaque,
			struct err **err);
/* NULL is allowed. */
void power_free(struct power *power);
void power_reset(struct power *power);
/* Tell the guest: PLATFORM_GED_EVENT_* bits. */
void power_notify(struct power *power, uint8_t bits);

/*
 * The events that the guest was told of and has not read yet. The interrupt's pulse is the
 * interrupt controller's to keep. -EINVAL and a sentence for events that there are none of.
 */
#define POWER_STATE_VERSION 1u
void power_save(struct power *power, struct pack *out);
int power_load(struct power *power, uint32_t version, struct unpack *in, struct err **err);

#endif
