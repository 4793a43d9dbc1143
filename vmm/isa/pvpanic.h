/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pvpanic: one port by which a guest says that it panicked. A read gives the events that are
 * understood; a write reports them.
 *
 * Threads: no state; handlers on vCPU threads.
 */
#ifndef VMM_PVPANIC_H
#define VMM_PVPANIC_H

#include "vmm/isa/isa.h"

#define PVPANIC_PANICKED     0x01 /* the guest stopped */
#define PVPANIC_CRASH_LOADED 0x02 /* it goes on in its crash kernel */

struct bus;
struct err;
struct pack;
struct pvpanic;
struct unpack;

struct pvpanic *pvpanic_new(struct bus *pio, const struct isa_ops *ops, void *opaque,
			    struct err **err);
/* NULL is allowed. */
void pvpanic_free(struct pvpanic *pvpanic);

/* It keeps nothing: an empty state, so that a machine with one is loaded into a machine with one. */
#define PVPANIC_STATE_VERSION 1u
void pvpanic_save(struct pvpanic *pvpanic, struct pack *out);
int pvpanic_load(struct pvpanic *pvpanic, uint32_t version, struct unpack *in, struct err **err);

#endif
