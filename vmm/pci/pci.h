/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * PCI Express for emulated devices: configuration space, BARs, capabilities, MSI-X, INTx, the host
 * bridge (ECAM and ports 0xCF8/0xCFC), and root ports with slots that devices come to and go from
 * while the guest runs. PCI Express Base Specification 5.0 chapters 6.7 and 7, PCI Local Bus 3.0
 * chapter 6.
 *
 * I1  A device's read-only configuration bits never change by a guest's write (write masks).
 * I2  A BAR is on the MMIO bus exactly while memory decoding is enabled in COMMAND and its address
 *     is inside the host bridge's windows and, behind a port, in what the port forwards; one of
 *     ports, on the port bus, while I/O decoding is enabled, in the same way. Everything
 *     that depends on its address (doorbells) learns of each change through bar_mapped().
 * I3  An MSI-X message is delivered when the vector is triggered while MSI-X is enabled, the vector
 *     unmasked and COMMAND.Bus Master set; one that is triggered while masked (vector, function or
 *     bus mastering off) or that the host could not route stays pending (PBA) and is delivered when
 *     the last obstacle goes, unless its device takes it back (pci_msix_clear()). Nothing is lost or delivered to an address that the table never held.
 *     A trigger while MSI-X is disabled is no message at all: the device uses INTx then.
 * I4  After pci_host_reset() every device is as at power-on with its BARs assigned, as firmware
 *     would leave them, memory decoding and bus mastering off. Ports have their bus numbers (1 and
 *     up, in the order of their places) and windows, with room for devices that come later; what is
 *     on their buses is plugged. I/O decoding is off as well.
 * I5  A function behind a port answers only while it is plugged, the slot powered and the link up.
 *     Whatever makes that end (power off, link disabled, a reset of the bus) resets it before the
 *     guest's access is over: its BARs are off the bus, it sends nothing and does no DMA.
 *     What is on the root bus answers from its making on, until the guest ejects it by ACPI
 *     (root.c): then it is silent in the same way.
 * I6  Bus numbers are whatever the guest writes: a request goes to the root bus for number 0, else
 *     to the first port whose secondary bus it is. Nothing is behind that bus, so there are no
 *     loops.
 *
 * Threads: configuration accesses come from vCPU threads and are serialised by the host's lock, but
 * for what a device's own handlers do; bar_mapped() and reset() are called with it held. BAR handlers
 * (bus_ops) and the other pci_device_ops run without it, and must not call
 * what takes it or wait for somebody who does (the deadlock rule of bus.h): pci_msix_trigger(),
 * pci_msix_enabled(), pci_intx_set() and pci_bus_master() come from any thread, with any lock of
 * the device held, and take leaf locks of their own only. Devices are added and removed by one
 * thread, the main one, while no vCPU runs.
 *
 * The guest controls: every configuration access and every access to the MSI-X structures; when a
 * slot's power goes off.
 */
#ifndef VMM_PCI_PCI_H
#define VMM_PCI_PCI_H

#include <stdbool.h>
#include <stdint.h>

#include "base/num.h"
#include "vmm/core/bus.h"
#include "vmm/core/hv.h"

struct err;
struct pack;
struct pci_host;
struct pci_bus;
struct pci_port;
struct pci_device;
struct unpack;

#define PCI_BARS 6

struct pci_device_ops {
	/*
	 * BAR @bar is now at @gpa, or no longer at @gpa (@mapped false). May be NULL. Called with
	 * the host's lock held, before (unmap) or after (map) the bus region changed. A move is an
	 * unmap and a map.
	 */
	void (*bar_mapped)(void *opaque, unsigned int bar, bool mapped, uint64_t gpa);
	/*
	 * An access to the device's own capability bytes (pci_add_capability with @handled). May be
	 * NULL: plain storage then. Offsets are relative to the capability's start and at least 2;
	 * an access lies in one aligned doubleword, so @size is 1 to 4. On the vCPU's thread, of
	 * which there may be several at a time; no lock is held, and it may wait.
	 */
	uint32_t (*cap_read)(void *opaque, unsigned int cap, unsigned int offset,
			     unsigned int size);
	void (*cap_write)(void *opaque, unsigned int cap, unsigned int offset, unsigned int size,
			  uint32_t value);
	/* Power-on state (I4); configuration space has been reset already. May be NULL. */
	void (*reset)(void *opaque);
	/*
	 * The link went down (I5): as a reset by the driver, and what the windows of configuration
	 * space into the device hold is forgotten. As cap_read() otherwise. May be NULL.
	 */
	void (*link_down)(void *opaque);
};

struct pci_identity {
	uint16_t vendor_id, device_id, subsystem_vendor_id, subsystem_id;
	uint8_t revision_id;
	uint32_t class_code; /* 24 bits: class, subclass, interface */
	bool express;        /* give it a PCI Express capability, of an endpoint */
	bool intx;           /* it has an interrupt pin: */
	uint8_t intx_pin;    /* 0 to 3: INTA to INTD */
	/* It is there for good: what is in its slot of the root bus does not come and go. */
	bool fixed;
};

/* Where a function is to be. */
struct pci_place {
	struct pci_bus *bus;
	int slot;              /* 0..31, on a port's bus 0; or -1 for the first that is empty */
	unsigned int function; /* 0..7; other than 0 needs a slot */
	bool multifunction;    /* of function 0: the slot may have others */
};

/*
 * The bridge's windows and where it is reached. ecam.size is a multiple of 1 MiB (1 bus), at most
 * 256 MiB. A window may be empty. intx_gsi is the first of four consecutive inputs: pin INTA..INTD
 * (0..3) of a slot on bus 0 drives intx_gsi + (slot + pin) % 4, active high, level-triggered; the
 * pins of slot 0 behind a port are the port's.
 */
struct pci_host_config {
	const char *id; /* of the root bus; outlives the host. NULL: it has none */
	struct bus *mmio, *pio;
	struct hv *hv;
	struct range ecam;
	struct range window32, window64;
	struct range window_io; /* of ports; for BARs on the root bus */
	uint32_t intx_gsi;
	/*
	 * I/O port of PCI_ROOT_SIZE bytes of registers by which devices come to and go from the
	 * root bus, through ACPI. 0: they do not. notify() has the guest look at them; it is called
	 * by pci_root_plug() and pci_root_request_unplug(), with no lock held.
	 */
	uint16_t slots_port;
	void (*notify)(void *opaque);
	/*
	 * The guest gave up what is in @slots (a bit for each), asked or not; the owner frees it,
	 * later and on the main thread. Or it was asked for what is in them, and it stays. Called
	 * with the host's lock held, on a vCPU's thread or by pci_host_load(); must not wait. May
	 * be NULL.
	 */
	void (*ejected)(void *opaque, uint32_t slots);
	void (*kept)(void *opaque, uint32_t slots);
	void *opaque; /* of the three */
};

#define PCI_ROOT_SIZE 16u

struct pci_host *pci_host_new(const struct pci_host_config *config, struct err **err);
/* All devices are gone. Accepts NULL. */
void pci_host_free(struct pci_host *host);
/*
 * Give every BAR and every port's windows without a power-on address one: ascending by slot,
 * naturally aligned, first fit; 64-bit BARs in window64 or, where that is full, in window32. BARs
 * behind a port are in its windows: 64-bit prefetchable ones in the prefetchable window, all others
 * in the one below 4 GiB. Call it once the devices are there. -ENOSPC names what does not fit; what
 * fits gets its place all the same.
 */
int pci_host_assign(struct pci_host *host, struct err **err);
/*
 * Makes I4 true. All vCPUs are stopped. Includes pci_host_assign(); a BAR that does not fit reads
 * as address 0 and is not mapped.
 */
void pci_host_reset(struct pci_host *host);

struct pci_bus *pci_host_root(struct pci_host *host);
/* By the root bus's id or a port's; NULL when there is no such bus. */
struct pci_bus *pci_bus_find(struct pci_host *host, const char *id);

/*
 * The id is for messages. Errors: the slot or function is in use, none is left, or the functions of
 * a slot do not agree on whether there may be others. On a port's bus the guest sees nothing of the
 * device before pci_port_plug() or pci_host_reset().
 */
struct pci_device *pci_device_new(const struct pci_place *place, const char *id,
				  const struct pci_identity *identity,
				  const struct pci_device_ops *ops, void *opaque, struct err **err);
/*
 * Takes it off the bus (bar_mapped() for each mapped BAR). A guest that still had it in a slot sees
 * it vanish. Accepts NULL.
 */
void pci_device_free(struct pci_device *dev);

/*
 * A memory BAR, power-of-two @size of at least 4 KiB, 64-bit (takes @bar and @bar + 1) or 32-bit
 * (at most 2 GiB). Before the first reset only. The ops get offsets within the BAR, but never
 * accesses to MSI-X structures in it; NULL ops: the rest reads as 0.
 */
int pci_add_bar(struct pci_device *dev, unsigned int bar, uint64_t size, bool is_64bit,
		bool prefetchable, const char *name, const struct bus_ops *ops, void *opaque,
		struct err **err);

/*
 * The same of ports: power-of-two @size from 4 to 256, on the root bus (ports forward none). Power-on
 * addresses are from PCI_IO_FIRST up. The ops may be called by several vCPUs at a time.
 */
#define PCI_IO_FIRST 0xc000u
int pci_add_io_bar(struct pci_device *dev, unsigned int bar, uint64_t size, const char *name,
		   const struct bus_ops *ops, void *opaque, struct err **err);

/*
 * A register of the device's own that is storage, or has another value at power-on than every
 * function's: up to 4 bytes at @reg, which is none of a BAR or of a capability. The guest may write
 * the bits of @write_mask, and makes those of @clear_mask 0 by writing 1. Before the first reset only.
 */
void pci_add_register(struct pci_device *dev, unsigned int reg, unsigned int size, uint32_t value,
		      uint32_t write_mask, uint32_t clear_mask);

/*
 * Append a capability of @size bytes (the two header bytes included, which are filled in here) with
 * initial @bytes and a mask of guest-writable bits (NULL: none). With @handled, accesses beyond the
 * header go to cap_read()/cap_write() with the returned number. *ret_cap may be NULL.
 */
int pci_add_capability(struct pci_device *dev, uint8_t id, const void *bytes, unsigned int size,
		       const void *write_mask, bool handled, unsigned int *ret_cap,
		       struct err **err);

/*
 * MSI-X with @vectors (1..2048), table and PBA in BAR @bar, which was added before, at the given
 * offsets (multiples of 8; nothing of the device's own may be there).
 */
int pci_add_msix(struct pci_device *dev, unsigned int vectors, unsigned int bar,
		 uint32_t table_offset, uint32_t pba_offset, struct err **err);
bool pci_msix_enabled(struct pci_device *dev);
/* Vectors out of range are ignored. */
void pci_msix_trigger(struct pci_device *dev, unsigned int vector);
/*
 * What the pending vectors were to tell is no longer so (a driver reset the device): none is
 * pending any more. From any thread, as pci_msix_trigger().
 */
void pci_msix_clear(struct pci_device *dev);
/* Its interrupt pin; shared inputs are ORed. No-op for a device without a pin. */
void pci_intx_set(struct pci_device *dev, bool level);
/* COMMAND.Bus Master: a device does no DMA while it is clear. */
bool pci_bus_master(const struct pci_device *dev);

/* ---- slots of the root bus ---- */

/* Those that devices may come to and go from, a bit each: not the bridge's, a port's, a fixed one's. */
uint32_t pci_root_slots(struct pci_host *host);
/*
 * The device on the root bus is complete: the guest is told that it is there. While no vCPU runs.
 * -ENOTSUP when there is no hot-plug, and nothing has changed.
 */
int pci_root_plug(struct pci_device *dev, struct err **err);
/* Ask the guest for all that is in the device's slot. -ENOTSUP as above. */
int pci_root_request_unplug(struct pci_device *dev, struct err **err);

/* ---- root ports ---- */

#define PCI_PORT_SLOT_MAX 8191u /* 13 bits */

struct pci_port_config {
	const char *id;         /* of the port and of its bus */
	struct pci_place place; /* on the root bus */
	uint8_t number;         /* of the port, for the guest's eyes */
	uint16_t slot;          /* physical slot number, the same; up to PCI_PORT_SLOT_MAX */
	bool hotplug;           /* what is in the slot may change while the guest runs */
	/* At least so large are its windows, in bytes; UINT64_MAX: a size that suits hot-plug. */
	uint64_t memory_reserve, prefetch_reserve;
	/*
	 * The guest gave the device in the slot up: it is no longer plugged. The owner frees it,
	 * later and on the main thread. Called with the host's lock held, on a vCPU's thread or by
	 * pci_port_request_unplug(); must not wait. May be NULL.
	 */
	void (*ejected)(void *opaque);
	/*
	 * The guest was busy with the slot (its power indicator blinked), and what is in it stays.
	 * That is its answer to a request, if there was one. Called as the other. May be NULL.
	 */
	void (*kept)(void *opaque);
	void *opaque;
};

/* Puts the port on its bus. Before the first pci_host_reset(). */
struct pci_port *pci_port_new(const struct pci_port_config *config, struct err **err);
/* The devices on its bus are gone. Accepts NULL. */
void pci_port_free(struct pci_port *port);
struct pci_bus *pci_port_bus(struct pci_port *port);
bool pci_port_can_hotplug(const struct pci_port *port);
/* Is anything on its bus, plugged or not? */
bool pci_port_is_empty(const struct pci_port *port);

/*
 * The device on the port's bus is complete: the guest is told that it is there. While no vCPU runs.
 * -ENOTSUP when the port has no hot-plug, and nothing has changed.
 */
int pci_port_plug(struct pci_port *port, struct err **err);
/*
 * Press the slot's attention button, which asks the guest to give the device up; or, where the slot
 * is without power, have it ejected at once. -EBUSY while the power indicator blinks: the guest is
 * busy with the slot, and one more press would call off what the last one asked for.
 */
int pci_port_request_unplug(struct pci_port *port, struct err **err);

/* ---- saved state: on that thread too, while the machine is stopped ---- */

/*
 * Saved is what a guest can see or has set: registers, message tables, pending messages, levels of
 * wired interrupts, what is in a slot. Not saved: power-on addresses, which the next reset gives
 * anew.
 *
 * All loads are for a machine that never ran. vCPUs, with what takes messages, are loaded before,
 * for a message that is due is sent at once; the controllers of wired inputs best after, for the
 * inputs that were high are driven high again, which an edge-triggered one would take for news.
 * First comes pci_host_load(), which compares what there is on the buses, then the others in any
 * order. Errors: -EINVAL and a sentence without the name of the part that is loaded.
 */
#define PCI_HOST_STATE_VERSION 2u
void pci_host_save(struct pci_host *host, struct pack *out);
/*
 * Names the first function that is not the same on both sides. Version 1 has nothing of the slots of
 * the root bus.
 */
int pci_host_load(struct pci_host *host, uint32_t version, struct unpack *in, struct err **err);

#define PCI_PORT_STATE_VERSION 1u
void pci_port_save(struct pci_port *port, struct pack *out);
/* Calls config.ejected() when what is behind the port was given up and not yet taken away. */
int pci_port_load(struct pci_port *port, uint32_t version, struct unpack *in, struct err **err);

/*
 * A function's part in the state of whoever made it, who saves what cap_read() and cap_write() are
 * about. Its version is theirs. Loading calls bar_mapped() for each BAR that is decoded.
 */
void pci_device_save(struct pci_device *dev, struct pack *out);
int pci_device_load(struct pci_device *dev, struct unpack *in, struct err **err);

/* ---- for listings: on the thread that adds and removes devices ---- */

/* The function at @devfn (slot << 3 | function), or NULL. */
struct pci_device *pci_bus_device(const struct pci_bus *bus, unsigned int devfn);
/* The port above it; NULL for the root bus. */
struct pci_port *pci_bus_port(const struct pci_bus *bus);
const char *pci_bus_id(const struct pci_bus *bus);
/* As the guest numbered it, for now. */
unsigned int pci_bus_number(const struct pci_bus *bus);

const char *pci_device_id(const struct pci_device *dev);
struct pci_bus *pci_device_bus(const struct pci_device *dev);
unsigned int pci_device_slot(const struct pci_device *dev);
unsigned int pci_device_function(const struct pci_device *dev);
/* The root port that it is, or NULL; and the reverse. */
struct pci_port *pci_device_port(const struct pci_device *dev);
struct pci_device *pci_port_device(const struct pci_port *port);
/* @size bytes of configuration space within a doubleword, as the guest would read them. */
uint32_t pci_device_config(struct pci_device *dev, unsigned int reg, unsigned int size);

struct pci_bar_info {
	struct range gpa; /* as programmed */
	bool mapped;      /* and decoded */
	bool is_64bit, prefetchable;
	bool is_io; /* gpa is one of ports */
};

/* False where there is no such BAR. */
bool pci_device_bar(struct pci_device *dev, unsigned int bar, struct pci_bar_info *ret_info);

#endif
