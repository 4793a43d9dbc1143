/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pci: configuration space by both ways, BARs, capabilities, MSI-X. Expects a virtio device; where there
 * is a USB controller (8086:7020), also what is behind its BAR of ports.
 */
#include "lib/check.h"
#include "lib/cpu.h"
#include "lib/mem.h"
#include "lib/pci.h"
#include "lib/virtio.h"
#include "tests.h"

#define CONFIG_BYTES 256u
#define BAR_COMMON   4u /* where the virtio registers are looked for in a BAR that was moved */

static void pci_check_both_ways(void)
{
	struct pci_dev dev;
	unsigned int functions = 0, different = 0, narrow = 0;

	for (unsigned int n = 0; pci_find(0xffff, 0, n, &dev); n++) {
		functions++;
		console_printf("pci %x:%x.%u id 0x%x class 0x%x\n", dev.bus, dev.slot, dev.function,
			       pci_read(dev, PCI_VENDOR_ID, 4), pci_read(dev, PCI_CLASS, 4) >> 8);
		for (unsigned int i = 0; i < CONFIG_BYTES; i += 4) {
			uint32_t value = pci_ecam_read(dev, i, 4);

			if (pci_port_read(dev, i, 4) != value)
				different++;
			if (pci_ecam_read(dev, i + 2, 2) != value >> 16 ||
			    pci_port_read(dev, i + 2, 2) != value >> 16 ||
			    pci_ecam_read(dev, i + 1, 1) != (value >> 8 & 0xff) ||
			    pci_port_read(dev, i + 3, 1) != value >> 24)
				narrow++;
		}
	}
	check(functions > 1, "pci-enumerate", "%u functions", functions);
	check_equal(different, 0, "pci-both-ways");
	check_equal(narrow, 0, "pci-narrow-reads");
}

static void pci_check_absent(void)
{
	struct pci_dev none = {0, 0, 0};

	for (uint8_t slot = 31; slot > 0; slot--) {
		none.slot = slot;
		if (pci_read(none, PCI_VENDOR_ID, 2) == 0xffff)
			break;
	}
	check_equal(pci_ecam_read(none, 0, 4), 0xffffffffu, "pci-absent-ecam");
	check_equal(pci_port_read(none, 0, 4), 0xffffffffu, "pci-absent-ports");
}

static void pci_check_bars(void)
{
	struct pci_dev dev;
	bool sizes = true, places = true;

	for (unsigned int n = 0; pci_find(0xffff, 0, n, &dev); n++) {
		if ((pci_read(dev, PCI_HEADER_TYPE, 1) & 0x7f) != 0)
			continue;
		for (unsigned int i = 0; i < PCI_BARS; i++) {
			struct pci_bar bar = pci_bar(dev, i);

			if (bar.size == 0)
				continue;
			console_printf("bar %x.%u %u at 0x%lx size 0x%lx\n", dev.slot, dev.function,
				       i, bar.gpa, bar.size);
			sizes = sizes && (bar.size & (bar.size - 1)) == 0;
			places = places && bar.gpa != 0 && (bar.gpa & (bar.size - 1)) == 0;
			i += bar.is_64bit;
		}
	}
	check(sizes, "pci-bar-sizes", "a size is not a power of two");
	check(places, "pci-bar-places", "a BAR has no address, or is not aligned to its size");
}

/* UHCI 1.1, from the start of BAR 4. */
#define USB_VENDOR   0x8086u
#define USB_DEVICE   0x7020u
#define USB_BAR      4u
#define USB_COMMAND  0x00u
#define USB_STATUS   0x02u
#define USB_FRAME    0x06u
#define USB_PORTSC   0x10u
#define USB_RUN      0x0001u
#define USB_HCRESET  0x0002u
#define USB_HALTED   0x0020u
#define USB_PORTS    2u
#define USB_EMPTY    0x0080u
#define USB_SPINS    100000000u
#define PCI_IO_FLAGS 0x3u

/* Found beside a bridge to ISA; its frames run, and its ports are empty whatever is written. */
static void pci_check_usb(void)
{
	struct pci_dev dev, bridge;
	unsigned int offset = PCI_BAR0 + 4 * USB_BAR, spins = 0;
	uint16_t base, first;
	uint32_t size;

	if (!pci_find(USB_VENDOR, USB_DEVICE, 0, &dev))
		return;
	bridge = dev;
	bridge.function = 0;
	check_equal(pci_read(bridge, PCI_HEADER_TYPE, 1), 0x80, "pci-usb-function-0");
	base = (uint16_t)(pci_read(dev, offset, 2) & ~PCI_IO_FLAGS);
	pci_write(dev, offset, 4, 0xffffffffu);
	size = 0 - (pci_read(dev, offset, 4) & ~PCI_IO_FLAGS);
	pci_write(dev, offset, 4, base | 1u);
	check_equal(size, 32, "pci-usb-size");
	check_equal(cpu_inw(base + USB_STATUS), 0xffff, "pci-usb-not-decoded");
	pci_write(dev, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MASTER);

	cpu_outw(base + USB_COMMAND, USB_HCRESET);
	check_equal(cpu_inl(base + USB_COMMAND), USB_HALTED << 16, "pci-usb-reset");
	cpu_outw(base + USB_COMMAND, USB_RUN);
	check_equal(cpu_inl(base + USB_COMMAND), USB_RUN, "pci-usb-runs");
	first = cpu_inw(base + USB_FRAME);
	while (cpu_inw(base + USB_FRAME) == first && ++spins < USB_SPINS)
		cpu_relax();
	check(spins < USB_SPINS, "pci-usb-frames", "the frame number stays");
	for (unsigned int i = 0; i < USB_PORTS; i++) {
		cpu_outw((uint16_t)(base + USB_PORTSC + 2 * i), 0x0004);
		check_equal(cpu_inw((uint16_t)(base + USB_PORTSC + 2 * i)), USB_EMPTY,
			    "pci-usb-port");
	}
	check_equal(cpu_inw((uint16_t)(base + USB_PORTSC + 2 * USB_PORTS)), 0, "pci-usb-ports");
	cpu_outw(base + USB_COMMAND, 0);
	check_equal(cpu_inw(base + USB_STATUS), USB_HALTED, "pci-usb-halts");
	pci_write(dev, PCI_COMMAND, 2, 0);
	check_equal(cpu_inw(base + USB_STATUS), 0xffff, "pci-usb-off");
}

/* Moves the BAR with the common registers and looks for the same bytes there. */
static void pci_check_move(struct virtio *v)
{
	struct pci_bar bar = pci_bar(v->pci, BAR_COMMON);
	uint64_t offset = v->common - bar.gpa, to;
	uint16_t queues;

	if (!check(bar.size != 0 && offset < bar.size, "pci-move-bar", "no registers in BAR 4"))
		return;
	to = bar.gpa + 16 * bar.size;
	mem_map(to, bar.size);
	queues = mmio_read16(v->common + VIRTIO_C_NUM_QUEUES);
	check(queues != 0 && queues != 0xffff, "pci-move-before", "%u queues", queues);
	pci_bar_move(v->pci, BAR_COMMON, to);
	check_equal(mmio_read16(to + offset + VIRTIO_C_NUM_QUEUES), queues, "pci-move-after");
	check_equal(mmio_read16(v->common + VIRTIO_C_NUM_QUEUES), 0xffff, "pci-move-old-place");
	pci_write(v->pci, PCI_COMMAND, 2, pci_read(v->pci, PCI_COMMAND, 2) & ~PCI_COMMAND_MEMORY);
	check_equal(mmio_read16(to + offset + VIRTIO_C_NUM_QUEUES), 0xffff, "pci-decoding-off");
	pci_enable(v->pci);
	pci_bar_move(v->pci, BAR_COMMON, bar.gpa);
	check_equal(mmio_read16(v->common + VIRTIO_C_NUM_QUEUES), queues, "pci-move-back");
}

static void pci_check_readonly(const struct virtio *v)
{
	uint32_t id = pci_read(v->pci, PCI_VENDOR_ID, 4), class = pci_read(v->pci, PCI_CLASS, 4);

	pci_write(v->pci, PCI_VENDOR_ID, 4, ~id);
	pci_write(v->pci, PCI_CLASS, 4, ~class);
	check(pci_read(v->pci, PCI_VENDOR_ID, 4) == id && pci_read(v->pci, PCI_CLASS, 4) == class,
	      "pci-read-only", "ids changed");
}

/* Every field of a table entry reads back what was written, and the masked bit is set at first. */
static void pci_check_msix(const struct virtio *v)
{
	const struct pci_msix *msix = &v->msix;
	bool masked = true, stored = true;

	if (!check(msix->cap != 0 && msix->vectors >= 2, "pci-msix", "%u vectors", msix->vectors))
		return;
	for (unsigned int i = 0; i < msix->vectors; i++) {
		uint64_t gpa = msix->table_gpa + i * 16;

		masked = masked && (mmio_read32(gpa + 12) & 1) != 0;
		mmio_write32(gpa, 0xfee01000u);
		mmio_write32(gpa + 8, 0x4000u + i);
		stored = stored && mmio_read32(gpa) == 0xfee01000u &&
			 mmio_read32(gpa + 8) == 0x4000u + i;
	}
	check(masked, "pci-msix-masked", "a vector is not masked before its first use");
	check(stored, "pci-msix-table", "an entry does not hold what was written");
	check(!pci_msix_pending(msix, 0), "pci-msix-pending", "a vector is pending");
}

void test_pci(void)
{
	static struct virtio v;
	struct pci_dev dev;

	if (!check(pci_ecam_gpa() != 0, "pci-ecam", "no MCFG"))
		return;
	pci_check_both_ways();
	pci_check_absent();
	pci_check_bars();
	pci_check_usb();
	if (!check(pci_find(VIRTIO_VENDOR, VIRTIO_DEVICE_0 + VIRTIO_ID_ENTROPY, 0, &dev),
		   "pci-virtio", "no virtio-rng device"))
		return;
	v.pci = dev;
	pci_enable(dev);
	v.msix = pci_msix_find(dev);
	pci_check_msix(&v);
	if (!check(virtio_open(&v, VIRTIO_ID_ENTROPY, 0), "pci-virtio-registers", "not found"))
		return;
	pci_check_readonly(&v);
	pci_check_move(&v);
}
