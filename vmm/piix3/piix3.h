/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Two functions of the Intel 82371SB "PIIX3": the bridge to ISA (function 0), and the USB host
 * controller (function 2) with two ports to which nothing is connected. Intel 290550-002 (82371FB and
 * 82371SB), Universal Host Controller Interface Design Guide 1.1.
 *
 * Guests look for function 2 of a slot only where there is a function 0 that says so; that is what
 * the bridge is for. Its ISA devices are the machine's own, and its steering of PCI interrupts to
 * inputs of an 8259 pair is storage: there is no such pair, ACPI tells guests of the inputs of the I/O
 * APIC that the four lines are wired to, and at power-on all four routes are off, as the chip has
 * them.
 *
 * I1  A port is never connected and never enabled; the controller's status has no event, ever, and
 *     its interrupt line stays low. What raises one in a real controller is a transfer that ended, or
 *     a device that wakes the host.
 * I2  The controller reads no guest memory. A real one walks the frame list while it runs, and gives
 *     up a transfer to nobody after three time-outs; drivers queue transfers for devices on enabled
 *     ports, of which there are none, and what a guest queues all the same stays as it is. So no
 *     schedule, however long or circular, costs the host anything.
 * I3  The frame number is computed from the clock when it is read: there is no timer. It advances
 *     exactly while HCHalted is 0, by one each (11936 + SOFMOD) bit times of 12 MHz, 1 ms at power-on.
 * I4  HCHalted is the reverse of Run/Stop, within the access that changes that.
 *
 * Threads: accesses come from vCPU threads, several at a time; a lock of the device's own guards its
 * registers. It is a leaf: nothing is called with it held. All else is for the thread that adds and
 * removes devices, while no vCPU runs.
 * The guest controls: every register.
 */
#ifndef VMM_PIIX3_PIIX3_H
#define VMM_PIIX3_PIIX3_H

#include <stdint.h>

struct err;
struct pack;
struct pci_device;
struct pci_host;
struct pci_place;
struct piix3_bridge;
struct piix3_uhci;
struct unpack;

/* Where the bridge is, and which of its slot's functions is the controller's on the machine "pc". */
#define PIIX3_SLOT          1
#define PIIX3_UHCI_FUNCTION 2

/* Function 0 of PIIX3_SLOT of the root bus; there may be others. */
struct piix3_bridge *piix3_bridge_new(struct pci_host *host, struct err **err);
/* Accepts NULL. */
void piix3_bridge_free(struct piix3_bridge *bridge);

#define PIIX3_BRIDGE_STATE_VERSION 1u
void piix3_bridge_save(struct piix3_bridge *bridge, struct pack *out);
int piix3_bridge_load(struct piix3_bridge *bridge, uint32_t version, struct unpack *in,
		      struct err **err);

/* Anywhere on the root bus. @now_ns: a clock that never goes back; NULL: the host's. */
struct piix3_uhci *piix3_uhci_new(const struct pci_place *place, const char *id,
				  uint64_t (*now_ns)(void *opaque), void *opaque, struct err **err);
/* Accepts NULL. */
void piix3_uhci_free(struct piix3_uhci *uhci);
struct pci_device *piix3_uhci_device(struct piix3_uhci *uhci);

/* The frame number goes on from where it was. */
#define PIIX3_UHCI_STATE_VERSION 1u
void piix3_uhci_save(struct piix3_uhci *uhci, struct pack *out);
/* -EINVAL and a sentence without the device's name: registers that no guest can have set. */
int piix3_uhci_load(struct piix3_uhci *uhci, uint32_t version, struct unpack *in, struct err **err);

#endif
