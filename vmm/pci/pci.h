/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * PCI Express for emulated devices: configuration space, BARs, capabilities, MSI-X, INTx, and the
 * host bridge (ECAM and ports 0xCF8/0xCFC). PCI Express Base Specification 5.0 chapter 7, PCI Local
 * Bus 3.0 chapter 6.
 *
 * I1  A device's read-only configuration bits never change by a guest's write (write masks).
 * I2  A BAR is on the MMIO bus exactly while memory decoding is enabled in COMMAND and its address
 *     is inside the host bridge's windows; everything that depends on its address (doorbells)
 *     learns of each change through bar_mapped().
 * I3  An MSI-X message is delivered when the vector is triggered while MSI-X is enabled, the vector
 *     unmasked and COMMAND.Bus Master set; one that is triggered while masked (vector, function or
 *     bus mastering off) or that the host could not route stays pending (PBA) and is delivered when
 *     the last obstacle goes. Nothing is lost or delivered to an address that the table never held.
 *     A trigger while MSI-X is disabled is no message at all: the device uses INTx then.
 * I4  After pci_host_reset() every device is as at power-on with its BARs assigned, as firmware
 *     would leave them, memory decoding and bus mastering off.
 *
 * Threads: configuration accesses come from vCPU threads and are serialised by the host's lock;
 * pci_device_ops are called with it held. BAR handlers (bus_ops) run without it, and must not call
 * what takes it or wait for somebody who does (the deadlock rule of bus.h): pci_msix_trigger(),
 * pci_msix_enabled(), pci_intx_set() and pci_bus_master() come from any thread, with any lock of
 * the device held, and take leaf locks of their own only. Devices are added before the vCPUs run.
 *
 * The guest controls: every configuration access and every access to the MSI-X structures.
 */
#ifndef VMM_PCI_PCI_H
#define VMM_PCI_PCI_H

#include <stdbool.h>
#include <stdint.h>

#include "base/num.h"
#include "vmm/core/bus.h"
#include "vmm/core/hv.h"

struct err;
struct pci_host;
struct pci_device;

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
	 * an access lies in one aligned doubleword, so @size is 1 to 4.
	 */
	uint32_t (*cap_read)(void *opaque, unsigned int cap, unsigned int offset,
			     unsigned int size);
	void (*cap_write)(void *opaque, unsigned int cap, unsigned int offset, unsigned int size,
			  uint32_t value);
	/* Power-on state (I4); configuration space has been reset already. May be NULL. */
	void (*reset)(void *opaque);
};

struct pci_identity {
	uint16_t vendor_id, device_id, subsystem_vendor_id, subsystem_id;
	uint8_t revision_id;
	uint32_t class_code; /* 24 bits: class, subclass, interface */
	bool express;        /* give it a PCI Express capability (integrated endpoint) */
	bool intx;           /* interrupt pin A */
};

/*
 * The bridge's windows and where it is reached. ecam.size is a multiple of 1 MiB (1 bus), at most
 * 256 MiB. A window may be empty. intx_gsi is the first of four consecutive inputs: pin INTA..INTD
 * (0..3) of a slot on bus 0 drives intx_gsi + (slot + pin) % 4, active high, level-triggered.
 */
struct pci_host_config {
	struct bus *mmio, *pio;
	struct hv *hv;
	struct range ecam;
	struct range window32, window64;
	uint32_t intx_gsi;
};

struct pci_host *pci_host_new(const struct pci_host_config *config, struct err **err);
/* All devices are gone. Accepts NULL. */
void pci_host_free(struct pci_host *host);
/*
 * Give every BAR without a power-on address one: ascending by slot, naturally aligned, first fit;
 * 64-bit BARs in window64 or, where that is full, in window32. Call it once the devices are there.
 * -ENOSPC names the BAR that does not fit; those before it keep what they got.
 */
int pci_host_assign(struct pci_host *host, struct err **err);
/*
 * Makes I4 true. All vCPUs are stopped. Includes pci_host_assign(); a BAR that does not fit reads
 * as address 0 and is not mapped.
 */
void pci_host_reset(struct pci_host *host);

/*
 * @slot 0..31, or -1 for the first free one. @function 0. The id is for messages. Errors: slot in
 * use or none left.
 */
struct pci_device *pci_device_new(struct pci_host *host, const char *id, int slot,
				  const struct pci_identity *identity,
				  const struct pci_device_ops *ops, void *opaque, struct err **err);
/* Takes it off the bus (bar_mapped() for each mapped BAR). Accepts NULL. */
void pci_device_free(struct pci_device *dev);
unsigned int pci_device_slot(const struct pci_device *dev);

/*
 * A memory BAR, power-of-two @size of at least 4 KiB, 64-bit (takes @bar and @bar + 1) or 32-bit
 * (at most 2 GiB). Before the first reset only. The ops get offsets within the BAR, but never
 * accesses to MSI-X structures in it; NULL ops: the rest reads as 0.
 */
int pci_add_bar(struct pci_device *dev, unsigned int bar, uint64_t size, bool is_64bit,
		bool prefetchable, const char *name, const struct bus_ops *ops, void *opaque,
		struct err **err);

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
/* Interrupt pin A; shared inputs are ORed. No-op for a device without a pin. */
void pci_intx_set(struct pci_device *dev, bool level);
/* COMMAND.Bus Master: a device does no DMA while it is clear. */
bool pci_bus_master(const struct pci_device *dev);

#endif
