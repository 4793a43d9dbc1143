/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A PCI bridge with one virtio device for tests, and a hypervisor that records doorbells and
 * interrupts in arrays.
 */
#ifndef TESTS_UNIT_VIRTIO_PCI_MACHINE_H
#define TESTS_UNIT_VIRTIO_PCI_MACHINE_H

#include "tests/unit/virtio/echo.h"
#include "vmm/pci/pci.h"
#include "vmm/virtio/virtio_pci.h"

#define ECAM     UINT64_C(0xe0000000)
#define WINDOW32 UINT64_C(0xc0000000)
#define WINDOW64 UINT64_C(0x800000000)
#define SLOT     3
#define VECTORS  (ECHO_QUEUES + 1)

struct fake_hv {
	struct hv hv;
	struct {
		uint64_t gpa;
		int fd;
	} doorbells[8];
	unsigned int nr_doorbells;
	bool refuse_doorbells;
	int msi_fds[8];
	uint64_t msi_address[8];
	unsigned int nr_msis;
	bool line;
};

struct machine {
	struct fake_hv hv;
	struct bus *mmio, *pio;
	struct pci_host *host;
	struct echo e;
	struct virtio_pci *vp;
	uint64_t bar1, bar4;
	unsigned int caps[6]; /* by cfg_type: offset in configuration space */
};

/* How often was the message to @address sent since the last question? */
unsigned int fake_msi_count(struct fake_hv *f, uint64_t address);

/* The device's configuration space, through ECAM. */
uint32_t cfg_read(struct machine *m, unsigned int reg, unsigned int size);
void cfg_write(struct machine *m, unsigned int reg, unsigned int size, uint32_t value);

/* BAR 4, on the MMIO bus. */
uint64_t bar_read(struct machine *m, uint64_t offset, unsigned int size);
void bar_write(struct machine *m, uint64_t offset, unsigned int size, uint64_t value);

/* bar1 and bar4 as the registers have them now. */
void find_bars(struct machine *m);

/* A machine reset; then memory decoding and bus mastering on, BARs and capabilities found. */
void power_up(struct machine *m);

/* A bridge with the echo device in slot SLOT. */
void machine_init(struct machine *m, uint32_t vectors);
void machine_done(struct machine *m);

/* Where vector @vector sends after enable_msix(). */
uint64_t msi_address(unsigned int vector);
void enable_msix(struct machine *m);
/* Its capability's offset. */
unsigned int msix_cap(struct machine *m);

/* What a driver does, register by register, with a ring in m->e.d. */
void driver_start(struct machine *m, uint64_t features, bool msix);

/* What the device offers, but ECHO_F_VETO. */
uint64_t all_features(struct machine *m);

#endif
