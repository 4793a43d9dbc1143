/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * PCI configuration space, by ports 0xCF8/0xCFC and through ECAM; BARs; capabilities; MSI-X.
 */
#ifndef BARE_PCI_H
#define BARE_PCI_H

#include <stdbool.h>
#include <stdint.h>

#define PCI_VENDOR_ID     0x00u
#define PCI_DEVICE_ID     0x02u
#define PCI_COMMAND       0x04u
#define PCI_STATUS        0x06u
#define PCI_CLASS         0x08u
#define PCI_HEADER_TYPE   0x0eu
#define PCI_BAR0          0x10u
#define PCI_SECONDARY_BUS 0x19u
#define PCI_MEMORY_BASE   0x20u
#define PCI_PREFETCH_BASE 0x24u
#define PCI_PREFETCH_HIGH 0x28u
#define PCI_CAPABILITIES  0x34u
#define PCI_INTERRUPT_PIN 0x3du

#define PCI_COMMAND_IO     0x1u
#define PCI_COMMAND_MEMORY 0x2u
#define PCI_COMMAND_MASTER 0x4u
#define PCI_COMMAND_NOINTX 0x400u
#define PCI_STATUS_CAPS    0x10u
#define PCI_CAP_VENDOR     0x09u
#define PCI_CAP_EXPRESS    0x10u
#define PCI_CAP_MSIX       0x11u
#define PCI_BARS           6u

struct pci_dev {
	uint8_t bus, slot, function;
};

struct pci_bar {
	uint64_t gpa, size; /* size 0: none */
	bool is_64bit, prefetchable;
};

struct pci_msix {
	unsigned int cap; /* 0: the device has none */
	unsigned int vectors;
	uint64_t table_gpa, pba_gpa;
};

/* True when the MCFG names a window; configuration accesses then go through it. */
bool pci_init(void);
uint64_t pci_ecam_gpa(void);

uint32_t pci_read(struct pci_dev dev, unsigned int offset, unsigned int size);
void pci_write(struct pci_dev dev, unsigned int offset, unsigned int size, uint32_t value);
/* By one way only, to compare. */
uint32_t pci_port_read(struct pci_dev dev, unsigned int offset, unsigned int size);
uint32_t pci_ecam_read(struct pci_dev dev, unsigned int offset, unsigned int size);

/*
 * The @nth function with this vendor and device, of bus 0, then of the buses behind it; vendor 0xffff
 * is any.
 */
bool pci_find(uint16_t vendor, uint16_t device, unsigned int nth, struct pci_dev *ret_dev);
/* Next capability with @id behind @after (0: from the start); 0 when there is none. */
unsigned int pci_capability(struct pci_dev dev, uint8_t id, unsigned int after);

/* Sizes a BAR (decoding is off meanwhile) and leaves it as it was. */
struct pci_bar pci_bar(struct pci_dev dev, unsigned int index);
void pci_bar_move(struct pci_dev dev, unsigned int index, uint64_t gpa);
/* Memory decoding and bus mastering on, also in the port above. */
void pci_enable(struct pci_dev dev);
/* The port above; false: on bus 0 there is none. */
bool pci_port_above(struct pci_dev dev, struct pci_dev *ret_port);
/* Give the BARs of a device that came later addresses: from the start of the port's windows on. */
void pci_assign(struct pci_dev dev);
/* The same on the root bus: from @gpa on, which is below 4 GiB. */
void pci_assign_from(struct pci_dev dev, uint64_t gpa);
/* Input of the I/O APIC that pin A drives. */
unsigned int pci_intx_gsi(struct pci_dev dev);

/* Finds and maps the table; all vectors stay masked and MSI-X off. */
struct pci_msix pci_msix_find(struct pci_dev dev);
/* Route an entry to a vector of this processor and unmask it. */
void pci_msix_route(const struct pci_msix *msix, unsigned int entry, unsigned int vector);
void pci_msix_mask(const struct pci_msix *msix, unsigned int entry, bool masked);
bool pci_msix_pending(const struct pci_msix *msix, unsigned int entry);
void pci_msix_enable(struct pci_dev dev, const struct pci_msix *msix, bool on);

#endif
