/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reset, power and the power button of a hardware-reduced ACPI machine, and the one command of the
 * keyboard controller that resets a PC.
 *   0xCF9         reset control: a write with bit 2 set resets; bit 1 is kept and read back.
 *   sleep control SLP_EN with SLP_TYP 5 powers off (ACPI 6.5, 4.8.3.7).
 *   sleep status  WAK_STS is never set: nothing but power-off is offered.
 *   GED status    pending events, one bit each; reading acknowledges and lowers the interrupt.
 *   0x60, 0x64    keyboard controller without a keyboard: command 0xFE resets; status reads 0
 *                 buffers full, so that a driver's probe gives up at its first answer.
 *
 * I1  The GED interrupt line is high exactly while the status register is not 0.
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
struct power;

/* SLP_TYP that the DSDT's _S5 names. */
#define POWER_SLP_TYP_S5 5
/* GED status bits. */
#define POWER_GED_BUTTON 0x01
#define POWER_GED_MEMORY 0x02

struct power_config {
	uint16_t sleep_control_port; /* one byte */
	uint16_t sleep_status_port;  /* one byte */
	uint16_t ged_port;           /* one byte of status */
	uint32_t ged_gsi;
};

struct power *power_new(struct hv *hv, struct bus *pio, const struct power_config *config,
			const struct isa_ops *ops, void *opaque, struct err **err);
/* NULL is allowed. */
void power_free(struct power *power);
void power_reset(struct power *power);
/* Tell the guest's GED: POWER_GED_* bits. */
void power_notify(struct power *power, uint8_t bits);

#endif
