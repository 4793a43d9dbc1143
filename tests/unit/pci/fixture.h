/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A host bridge on two buses with a hypervisor made of arrays, for the tests of vmm/pci.
 *
 * The fake hypervisor's message sources are eventfds that nobody but the fixture reads; a signal
 * counts for the route that the source has when the fixture looks, which it does before every
 * change of a route. A signal without a route is `stray`: a test fails on it.
 */
#ifndef TESTS_UNIT_PCI_FIXTURE_H
#define TESTS_UNIT_PCI_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "base/err.h"
#include "vmm/pci/pci.h"
#include "vmm/pci/regs.h"

#define FAKE_MSIS  2100
#define FAKE_LINES 24
#define FAKE_GSI   16

#define ECAM_BASE     UINT64_C(0xb0000000)
#define ECAM_BUSES    8
#define WINDOW32_BASE UINT64_C(0xc0000000)
#define WINDOW32_SIZE (256 * MIB)
#define WINDOW64_BASE UINT64_C(0x8000000000)
#define WINDOW64_SIZE (64 * GIB)
/* Room for four BARs of 256 above PCI_IO_FIRST. */
#define WINDOW_IO_BASE UINT64_C(0xd00)
#define WINDOW_IO_SIZE (PCI_IO_FIRST + 4 * 256 - WINDOW_IO_BASE)

struct fake_msi {
	int fd; /* -1: free */
	bool routed;
	uint64_t address;
	uint32_t data;
};

struct fake_delivery {
	uint64_t address;
	uint32_t data;
	uint64_t count;
};

struct fake_hv {
	struct hv hv;
	pthread_mutex_t lock; /* guards what follows */
	struct fake_msi msis[FAKE_MSIS];
	struct fake_delivery deliveries[64];
	unsigned int delivery_kinds;
	unsigned int live, created, routes, strays;
	bool fail_new, fail_route;
	bool line[FAKE_LINES];
	unsigned int line_changes;
};

struct pci_fixture {
	struct fake_hv hv;
	struct bus *mmio, *pio;
	struct pci_host *host;
	struct pci_host_config config;
};

/* A place on the root bus, for pci_device_new(). */
#define AT(host, number) (&(const struct pci_place){.bus = pci_host_root(host), .slot = (number)})

void fixture_init(struct pci_fixture *f);
void fixture_done(struct pci_fixture *f);

/* Messages that arrived at (address, data); and all of them. */
uint64_t fake_delivered(struct fake_hv *hv, uint64_t address, uint32_t data);
uint64_t fake_delivered_all(struct fake_hv *hv);

/* Configuration accesses of 00:@slot.0 by ECAM and by ports. */
uint32_t ecam_read(struct pci_fixture *f, unsigned int slot, unsigned int reg, unsigned int size);
void ecam_write(struct pci_fixture *f, unsigned int slot, unsigned int reg, unsigned int size,
		uint32_t value);
uint32_t port_read(struct pci_fixture *f, unsigned int slot, unsigned int reg, unsigned int size);
void port_write(struct pci_fixture *f, unsigned int slot, unsigned int reg, unsigned int size,
		uint32_t value);
/* Configuration accesses by ECAM of any function: @at is a BDF(). */
#define BDF(bus, slot, function) ((unsigned int)(bus) << 8 | (slot) << 3 | (function))
uint32_t bdf_read(struct pci_fixture *f, unsigned int at, unsigned int reg, unsigned int size);
void bdf_write(struct pci_fixture *f, unsigned int at, unsigned int reg, unsigned int size,
	       uint32_t value);
/* Offset of the first capability @id, found as a driver finds it; 0 when there is none. */
unsigned int capability_find(struct pci_fixture *f, unsigned int slot, uint8_t id);

uint32_t mmio_read32(struct pci_fixture *f, uint64_t gpa);
void mmio_write32(struct pci_fixture *f, uint64_t gpa, uint32_t value);

/* xorshift64*: the same numbers on every run. */
uint64_t test_random(uint64_t *state);

#endif
