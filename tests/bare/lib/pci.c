/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * PCI: PCI Local Bus 3.0, 3.2.2.3.2 (ports), 6.2.5 (BARs), 6.8.2 (MSI-X); PCI Express 5.0, 7.2.2
 * (ECAM). Behind bus 0 there are root ports, behind those devices: no deeper.
 */
#include "acpi.h"
#include "apic.h"
#include "cpu.h"
#include "mem.h"
#include "pci.h"

#define PORT_ADDRESS  0xcf8u
#define PORT_DATA     0xcfcu
#define ADDRESS_ON    0x80000000u
#define BAR_IO        0x1u
#define BAR_64BIT     0x4u
#define BAR_PREFETCH  0x8u
#define MSIX_CONTROL  2u
#define MSIX_TABLE    4u
#define MSIX_PBA      8u
#define MSIX_ON       0x8000u
#define MSIX_ENTRY    16u
#define MSIX_MASKED   1u
#define MSI_GPA       0xfee00000u
#define MULTIFUNCTION 0x80u
#define BRIDGE        0x01u
#define INTX_GSI      16u /* pin A of slot s of bus 0 is input 16 + s % 4 of this machine's I/O APIC */

static uint64_t pci_ecam;
static unsigned int pci_last_bus;

static void pci_port_select(struct pci_dev dev, unsigned int offset)
{
	cpu_outl(PORT_ADDRESS, ADDRESS_ON | (uint32_t)dev.bus << 16 | (uint32_t)dev.slot << 11 |
				       (uint32_t)dev.function << 8 | (offset & 0xfc));
}

uint32_t pci_port_read(struct pci_dev dev, unsigned int offset, unsigned int size)
{
	uint16_t port = (uint16_t)(PORT_DATA + (offset & 3));

	pci_port_select(dev, offset);
	return size == 1 ? cpu_inb(port) : size == 2 ? cpu_inw(port) : cpu_inl(port);
}

static void pci_port_write(struct pci_dev dev, unsigned int offset, unsigned int size,
			   uint32_t value)
{
	uint16_t port = (uint16_t)(PORT_DATA + (offset & 3));

	pci_port_select(dev, offset);
	if (size == 1)
		cpu_outb(port, (uint8_t)value);
	else if (size == 2)
		cpu_outw(port, (uint16_t)value);
	else
		cpu_outl(port, value);
}

static uint64_t pci_ecam_at(struct pci_dev dev, unsigned int offset)
{
	return pci_ecam + ((uint64_t)dev.bus << 20 | (uint64_t)dev.slot << 15 |
			   (uint64_t)dev.function << 12 | offset);
}

uint32_t pci_ecam_read(struct pci_dev dev, unsigned int offset, unsigned int size)
{
	uint64_t gpa = pci_ecam_at(dev, offset);

	return size == 1 ? mmio_read8(gpa) : size == 2 ? mmio_read16(gpa) : mmio_read32(gpa);
}

static void pci_ecam_write(struct pci_dev dev, unsigned int offset, unsigned int size,
			   uint32_t value)
{
	uint64_t gpa = pci_ecam_at(dev, offset);

	if (size == 1)
		mmio_write8(gpa, (uint8_t)value);
	else if (size == 2)
		mmio_write16(gpa, (uint16_t)value);
	else
		mmio_write32(gpa, value);
}

bool pci_init(void)
{
	const struct acpi_mcfg *mcfg = acpi_find("MCFG", 0);

	if (mcfg == NULL || mcfg->header.length < sizeof(*mcfg) + sizeof(mcfg->entry[0]))
		return false;
	pci_ecam = mcfg->entry[0].base;
	pci_last_bus = mcfg->entry[0].last_bus;
	mem_map(pci_ecam, (pci_last_bus + 1ull) << 20);
	return true;
}

uint64_t pci_ecam_gpa(void)
{
	return pci_ecam;
}

uint32_t pci_read(struct pci_dev dev, unsigned int offset, unsigned int size)
{
	return pci_ecam != 0 ? pci_ecam_read(dev, offset, size) : pci_port_read(dev, offset, size);
}

void pci_write(struct pci_dev dev, unsigned int offset, unsigned int size, uint32_t value)
{
	if (pci_ecam != 0)
		pci_ecam_write(dev, offset, size, value);
	else
		pci_port_write(dev, offset, size, value);
}

/* The same on one bus; counts *nth down by those that it passes. */
static bool pci_find_on(unsigned int bus, uint16_t vendor, uint16_t device, unsigned int *nth,
			struct pci_dev *ret_dev)
{
	for (unsigned int i = 0; i < 32 * 8; i++) {
		struct pci_dev dev = {(uint8_t)bus, (uint8_t)(i / 8), (uint8_t)(i % 8)};
		struct pci_dev first = {(uint8_t)bus, dev.slot, 0};
		uint32_t id;

		/* A link has slot 0 only. */
		if (bus != 0 && dev.slot != 0)
			break;
		if (dev.function != 0 && (pci_read(first, PCI_HEADER_TYPE, 1) & MULTIFUNCTION) == 0)
			continue;
		id = pci_read(dev, PCI_VENDOR_ID, 4);
		if ((id & 0xffff) == 0xffff) {
			if (dev.function == 0)
				i += 7;
			continue;
		}
		if (vendor != 0xffff && id != ((uint32_t)device << 16 | vendor))
			continue;
		if ((*nth)-- == 0) {
			*ret_dev = dev;
			return true;
		}
	}
	return false;
}

bool pci_find(uint16_t vendor, uint16_t device, unsigned int nth, struct pci_dev *ret_dev)
{
	for (unsigned int bus = 0; bus <= pci_last_bus; bus++)
		if (pci_find_on(bus, vendor, device, &nth, ret_dev))
			return true;
	return false;
}

bool pci_port_above(struct pci_dev dev, struct pci_dev *ret_port)
{
	unsigned int nth = 0;

	while (dev.bus != 0) {
		unsigned int passed = nth++;

		if (!pci_find_on(0, 0xffff, 0, &passed, ret_port))
			return false;
		if ((pci_read(*ret_port, PCI_HEADER_TYPE, 1) & ~MULTIFUNCTION) == BRIDGE &&
		    pci_read(*ret_port, PCI_SECONDARY_BUS, 1) == dev.bus)
			return true;
	}
	return false;
}

unsigned int pci_intx_gsi(struct pci_dev dev)
{
	struct pci_dev port;

	return INTX_GSI + (pci_port_above(dev, &port) ? dev.slot + port.slot : dev.slot) % 4u;
}

unsigned int pci_capability(struct pci_dev dev, uint8_t id, unsigned int after)
{
	unsigned int turns = 0;
	unsigned int cap;

	if ((pci_read(dev, PCI_STATUS, 2) & PCI_STATUS_CAPS) == 0)
		return 0;
	cap = pci_read(dev, after != 0 ? after + 1 : PCI_CAPABILITIES, 1);
	while (cap >= 0x40 && cap <= 0xfc && turns++ < 64) {
		if (pci_read(dev, cap, 1) == id)
			return cap;
		cap = pci_read(dev, cap + 1, 1);
	}
	return 0;
}

struct pci_bar pci_bar(struct pci_dev dev, unsigned int index)
{
	unsigned int offset = PCI_BAR0 + 4 * index;
	uint32_t command = pci_read(dev, PCI_COMMAND, 2);
	uint32_t low = pci_read(dev, offset, 4), high = 0;
	uint64_t mask;
	struct pci_bar bar = {0};

	if ((low & BAR_IO) != 0)
		return bar;
	bar.is_64bit = (low & BAR_64BIT) != 0;
	bar.prefetchable = (low & BAR_PREFETCH) != 0;
	if (bar.is_64bit)
		high = pci_read(dev, offset + 4, 4);
	pci_write(dev, PCI_COMMAND, 2, command & ~(PCI_COMMAND_IO | PCI_COMMAND_MEMORY));
	pci_write(dev, offset, 4, 0xffffffffu);
	mask = pci_read(dev, offset, 4) & ~0xfu;
	pci_write(dev, offset, 4, low);
	if (bar.is_64bit) {
		pci_write(dev, offset + 4, 4, 0xffffffffu);
		mask |= (uint64_t)pci_read(dev, offset + 4, 4) << 32;
		pci_write(dev, offset + 4, 4, high);
	} else if (mask != 0) {
		mask |= 0xffffffff00000000ull;
	}
	pci_write(dev, PCI_COMMAND, 2, command);
	bar.gpa = (uint64_t)high << 32 | (low & ~0xfu);
	bar.size = 0 - mask;
	return bar;
}

void pci_bar_move(struct pci_dev dev, unsigned int index, uint64_t gpa)
{
	unsigned int offset = PCI_BAR0 + 4 * index;
	uint32_t command = pci_read(dev, PCI_COMMAND, 2);
	bool is_64bit = (pci_read(dev, offset, 4) & BAR_64BIT) != 0;

	pci_write(dev, PCI_COMMAND, 2, command & ~PCI_COMMAND_MEMORY);
	pci_write(dev, offset, 4, (uint32_t)gpa);
	if (is_64bit)
		pci_write(dev, offset + 4, 4, (uint32_t)(gpa >> 32));
	pci_write(dev, PCI_COMMAND, 2, command);
}

static void pci_enable_one(struct pci_dev dev)
{
	uint32_t command = pci_read(dev, PCI_COMMAND, 2);

	pci_write(dev, PCI_COMMAND, 2, command | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

void pci_enable(struct pci_dev dev)
{
	struct pci_dev port;

	if (pci_port_above(dev, &port))
		pci_enable_one(port);
	pci_enable_one(dev);
}

/* From *low on, those that may lie above 4 GiB behind a port from *high on. */
static void pci_assign_in(struct pci_dev dev, uint64_t *low, uint64_t *high)
{
	for (unsigned int i = 0; i < PCI_BARS; i++) {
		struct pci_bar bar = pci_bar(dev, i);
		uint64_t *next = bar.is_64bit && bar.prefetchable ? high : low;

		if (bar.size == 0)
			continue;
		*next = (*next + bar.size - 1) & ~(bar.size - 1);
		pci_bar_move(dev, i, *next);
		*next += bar.size;
		i += bar.is_64bit;
	}
}

void pci_assign(struct pci_dev dev)
{
	struct pci_dev port;
	uint64_t low, high;

	if (!pci_port_above(dev, &port))
		return;
	low = (uint64_t)(pci_read(port, PCI_MEMORY_BASE, 2) & 0xfff0) << 16;
	high = (uint64_t)(pci_read(port, PCI_PREFETCH_BASE, 2) & 0xfff0) << 16 |
	       (uint64_t)pci_read(port, PCI_PREFETCH_HIGH, 4) << 32;
	pci_assign_in(dev, &low, &high);
}

void pci_assign_from(struct pci_dev dev, uint64_t gpa)
{
	pci_assign_in(dev, &gpa, &gpa);
}

struct pci_msix pci_msix_find(struct pci_dev dev)
{
	struct pci_msix msix = {0};
	uint32_t table, pba;

	msix.cap = pci_capability(dev, PCI_CAP_MSIX, 0);
	if (msix.cap == 0)
		return msix;
	msix.vectors = (pci_read(dev, msix.cap + MSIX_CONTROL, 2) & 0x7ff) + 1;
	table = pci_read(dev, msix.cap + MSIX_TABLE, 4);
	pba = pci_read(dev, msix.cap + MSIX_PBA, 4);
	msix.table_gpa = pci_bar(dev, table & 7).gpa + (table & ~7u);
	msix.pba_gpa = pci_bar(dev, pba & 7).gpa + (pba & ~7u);
	mem_map(msix.table_gpa, msix.vectors * MSIX_ENTRY);
	mem_map(msix.pba_gpa, msix.vectors / 8 + 8);
	return msix;
}

void pci_msix_route(const struct pci_msix *msix, unsigned int entry, unsigned int vector)
{
	uint64_t gpa = msix->table_gpa + entry * MSIX_ENTRY;

	mmio_write32(gpa, MSI_GPA | apic_id() << 12);
	mmio_write32(gpa + 4, 0);
	mmio_write32(gpa + 8, vector);
	mmio_write32(gpa + 12, 0);
}

void pci_msix_mask(const struct pci_msix *msix, unsigned int entry, bool masked)
{
	mmio_write32(msix->table_gpa + entry * MSIX_ENTRY + 12, masked ? MSIX_MASKED : 0);
}

bool pci_msix_pending(const struct pci_msix *msix, unsigned int entry)
{
	return (mmio_read32(msix->pba_gpa + entry / 32 * 4) >> entry % 32 & 1) != 0;
}

void pci_msix_enable(struct pci_dev dev, const struct pci_msix *msix, bool on)
{
	pci_write(dev, msix->cap + MSIX_CONTROL, 2, on ? MSIX_ON : 0);
}
