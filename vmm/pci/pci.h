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
 * I3  An MSI-X message is delivered when the vector is triggered, enabled and unmasked; one that is
 *     triggered while masked stays pending (PBA) and is delivered at unmask. Nothing is lost or
 *     delivered to an address that the table never held.
 * I4  After pci_host_reset() every device is as at power-on with its BARs assigned, as firmware
 *     would leave them, memory decoding and bus mastering off.
 *
 * Threads: configuration accesses come from vCPU threads and are serialised by the host's lock;
 * ops are called with it held. pci_msix_trigger() and pci_intx_set() come from any thread and take
 * their own locks only. Devices are added before the vCPUs run.
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
	 * BAR @bar is now at @gpa, or nowhere (@mapped false). May be NULL. Called with the host's
	 * lock held, before (unmap) or after (map) the bus region changed.
	 */
	void (*bar_mapped)(void *opaque, unsigned int bar, bool mapped, uint64_t gpa);
	/* An access to the device's own capability bytes (pci_add_capability with handler). May be NULL:
	 * plain storage then. Offsets are relative to the capability's start. */
	uint32_t (*cap_read)(void *opaque, unsigned int cap, unsigned int offset, unsigned int size);
	void (*cap_write)(void *opaque, unsigned int cap, unsigned int offset, unsigned int size,
			  uint32_t value);
	/* Power-on state (I4); configuration space has been reset already. May be NULL. */
	void (*reset)(void *opaque);
};

struct pci_identity {
	uint16_t vendor_id, device_id, subsystem_vendor_id, subsystem_id;
	uint8_t revision_id;
	uint32_t class_code; /* 24 bits: class, subclass, interface */
	bool express;	     /* give it a PCI Express capability (integrated endpoint) */
	bool intx;	     /* interrupt pin A */
};

/*
 * The bridge's windows and where it is reached. ecam.size is a multiple of 1 MiB (1 bus). intx_gsi
 * is the first of four consecutive inputs for swizzled INTA..INTD.
 */
struct pci_host_config {
	struct bus *mmio, *pio;
	struct hv *hv;
	struct range ecam;
	struct range window32, window64;
	uint32_t intx_gsi;
};

struct pci_host *pci_host_new(const struct pci_host_config *config, struct err **err);
void pci_host_free(struct pci_host *host);
/* Assigns BARs that have no address yet and makes I4 true. All vCPUs are stopped. */
void pci_host_reset(struct pci_host *host);

/*
 * @slot 0..31, or -1 for the first free one. @function 0. The id is for messages. Errors: slot in
 * use or none left.
 */
struct pci_device *pci_device_new(struct pci_host *host, const char *id, int slot,
				  const struct pci_identity *identity,
				  const struct pci_device_ops *ops, void *opaque, struct err **err);
void pci_device_free(struct pci_device *dev);
unsigned int pci_device_slot(const struct pci_device *dev);

/*
 * A memory BAR, power-of-two @size of at least 4 KiB, 64-bit (takes @bar and @bar + 1) or 32-bit.
 * Before the first reset only. The ops get offsets within the BAR.
 */
int pci_add_bar(struct pci_device *dev, unsigned int bar, uint64_t size, bool is_64bit,
		bool prefetchable, const char *name, const struct bus_ops *ops, void *opaque,
		struct err **err);

/*
 * Append a capability of @size bytes (the two header bytes included) with initial @bytes and a
 * mask of guest-writable bits (NULL: none). With @handled, accesses beyond the header go to
 * cap_read()/cap_write() with the returned number. *ret_cap may be NULL.
 */
int pci_add_capability(struct pci_device *dev, uint8_t id, const void *bytes, unsigned int size,
		       const void *write_mask, bool handled, unsigned int *ret_cap,
		       struct err **err);

/* MSI-X with @vectors (1..2048), table and PBA in BAR @bar at the given offsets (they must be free). */
int pci_add_msix(struct pci_device *dev, unsigned int vectors, unsigned int bar,
		 uint32_t table_offset, uint32_t pba_offset, struct err **err);
bool pci_msix_enabled(struct pci_device *dev);
/* Vectors out of range are ignored. */
void pci_msix_trigger(struct pci_device *dev, unsigned int vector);
void pci_intx_set(struct pci_device *dev, bool level);
/* COMMAND.Bus Master: a device does no DMA while it is clear. */
bool pci_bus_master(const struct pci_device *dev);

#endif
