/* SPDX-License-Identifier: BSD-3-Clause */
/* See fixture.h. */
#include "fixture.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct fake_hv *fake_of(struct hv *hv)
{
	return container_of(hv, struct fake_hv, hv);
}

static void fake_count(struct fake_hv *hv, uint64_t address, uint32_t data, uint64_t count)
{
	unsigned int i;

	for (i = 0; i < hv->delivery_kinds; i++)
		if (hv->deliveries[i].address == address && hv->deliveries[i].data == data)
			break;
	if (i == ARRAY_SIZE(hv->deliveries))
		i--;
	else if (i == hv->delivery_kinds)
		hv->deliveries[hv->delivery_kinds++] = (struct fake_delivery){address, data, 0};
	hv->deliveries[i].count += count;
}

/* Lock held. */
static void fake_collect(struct fake_hv *hv, struct fake_msi *msi)
{
	uint64_t count;

	if (msi->fd < 0 || read(msi->fd, &count, sizeof(count)) != sizeof(count))
		return;
	if (msi->routed)
		fake_count(hv, msi->address, msi->data, count);
	else
		hv->strays++;
}

static void fake_line_set(struct hv *base, uint32_t gsi, bool level)
{
	struct fake_hv *hv = fake_of(base);

	pthread_mutex_lock(&hv->lock);
	hv->line[gsi] = level;
	hv->line_changes++;
	pthread_mutex_unlock(&hv->lock);
}

static int fake_msi_new(struct hv *base, struct hv_msi *ret_msi)
{
	struct fake_hv *hv = fake_of(base);
	unsigned int i = 0;
	int fd = -ENOSPC;

	pthread_mutex_lock(&hv->lock);
	while (i < FAKE_MSIS && hv->msis[i].fd >= 0)
		i++;
	if (i < FAKE_MSIS && !hv->fail_new) {
		fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		hv->msis[i] = (struct fake_msi){.fd = fd};
		*ret_msi = (struct hv_msi){.fd = fd, .gsi = i};
		hv->live++;
		hv->created++;
	}
	pthread_mutex_unlock(&hv->lock);
	return fd < 0 ? fd : 0;
}

static int fake_msi_route(struct hv *base, struct hv_msi *msi, bool enable, uint64_t address,
			  uint32_t data)
{
	struct fake_hv *hv = fake_of(base);
	struct fake_msi *m = &hv->msis[msi->gsi];
	int rc = 0;

	pthread_mutex_lock(&hv->lock);
	fake_collect(hv, m);
	if (hv->fail_route) {
		rc = -EINVAL;
	} else {
		m->routed = enable;
		m->address = address;
		m->data = data;
		hv->routes++;
	}
	pthread_mutex_unlock(&hv->lock);
	return rc;
}

static void fake_msi_free(struct hv *base, struct hv_msi *msi)
{
	struct fake_hv *hv = fake_of(base);
	struct fake_msi *m = &hv->msis[msi->gsi];

	pthread_mutex_lock(&hv->lock);
	fake_collect(hv, m);
	close(m->fd);
	m->fd = -1;
	hv->live--;
	pthread_mutex_unlock(&hv->lock);
	msi->fd = -1;
}

static const struct hv_ops fake_ops = {
	.line_set = fake_line_set,
	.msi_new = fake_msi_new,
	.msi_route = fake_msi_route,
	.msi_free = fake_msi_free,
};

static void fake_collect_all(struct fake_hv *hv)
{
	unsigned int i;

	for (i = 0; i < FAKE_MSIS; i++)
		fake_collect(hv, &hv->msis[i]);
}

uint64_t fake_delivered(struct fake_hv *hv, uint64_t address, uint32_t data)
{
	uint64_t count = 0;
	unsigned int i;

	pthread_mutex_lock(&hv->lock);
	fake_collect_all(hv);
	for (i = 0; i < hv->delivery_kinds; i++)
		if (hv->deliveries[i].address == address && hv->deliveries[i].data == data)
			count = hv->deliveries[i].count;
	pthread_mutex_unlock(&hv->lock);
	return count;
}

uint64_t fake_delivered_all(struct fake_hv *hv)
{
	uint64_t count = 0;
	unsigned int i;

	pthread_mutex_lock(&hv->lock);
	fake_collect_all(hv);
	for (i = 0; i < hv->delivery_kinds; i++)
		count += hv->deliveries[i].count;
	pthread_mutex_unlock(&hv->lock);
	return count;
}

void fixture_init(struct pci_fixture *f)
{
	struct err *err = NULL;
	unsigned int i;

	memset(f, 0, sizeof(*f));
	f->hv.hv.ops = &fake_ops;
	pthread_mutex_init(&f->hv.lock, NULL);
	for (i = 0; i < FAKE_MSIS; i++)
		f->hv.msis[i].fd = -1;
	f->mmio = bus_new();
	f->pio = bus_new();
	assert_non_null(f->mmio);
	assert_non_null(f->pio);
	f->config = (struct pci_host_config){
		.id = "pcie.0",
		.mmio = f->mmio,
		.pio = f->pio,
		.hv = &f->hv.hv,
		.ecam = {ECAM_BASE, ECAM_BUSES * MIB},
		.window32 = {WINDOW32_BASE, WINDOW32_SIZE},
		.window64 = {WINDOW64_BASE, WINDOW64_SIZE},
		.window_io = {WINDOW_IO_BASE, WINDOW_IO_SIZE},
		.intx_gsi = FAKE_GSI,
	};
	f->host = pci_host_new(&f->config, &err);
	assert_non_null(f->host);
	assert_null(err);
}

/* Devices are gone already: no message source and no level may be left. */
void fixture_done(struct pci_fixture *f)
{
	unsigned int i;
	uint64_t value;

	pci_host_free(f->host);
	assert_false(bus_read(f->mmio, ECAM_BASE, 4, &value));
	assert_false(bus_read(f->pio, 0xcf8, 4, &value));
	assert_int_equal(f->hv.live, 0);
	assert_int_equal(f->hv.strays, 0);
	for (i = 0; i < FAKE_LINES; i++)
		assert_false(f->hv.line[i]);
	bus_free(f->mmio);
	bus_free(f->pio);
	pthread_mutex_destroy(&f->hv.lock);
}

uint32_t bdf_read(struct pci_fixture *f, unsigned int at, unsigned int reg, unsigned int size)
{
	uint64_t value = 0;

	assert_true(bus_read(f->mmio, ECAM_BASE + ((uint64_t)at << 12) + reg, size, &value));
	return (uint32_t)value;
}

void bdf_write(struct pci_fixture *f, unsigned int at, unsigned int reg, unsigned int size,
	       uint32_t value)
{
	assert_true(bus_write(f->mmio, ECAM_BASE + ((uint64_t)at << 12) + reg, size, value));
}

uint32_t ecam_read(struct pci_fixture *f, unsigned int slot, unsigned int reg, unsigned int size)
{
	return bdf_read(f, BDF(0, slot, 0), reg, size);
}

void ecam_write(struct pci_fixture *f, unsigned int slot, unsigned int reg, unsigned int size,
		uint32_t value)
{
	bdf_write(f, BDF(0, slot, 0), reg, size, value);
}

static void port_select(struct pci_fixture *f, unsigned int slot, unsigned int reg)
{
	assert_true(bus_write(f->pio, 0xcf8, 4, 0x80000000u | slot << 11 | (reg & 0xfc)));
}

uint32_t port_read(struct pci_fixture *f, unsigned int slot, unsigned int reg, unsigned int size)
{
	uint64_t value = 0;

	port_select(f, slot, reg);
	/* An access past 0xCFF leaves the register: nobody answers, all ones. */
	bus_read(f->pio, 0xcfc + (reg & 3), size, &value);
	return (uint32_t)value;
}

void port_write(struct pci_fixture *f, unsigned int slot, unsigned int reg, unsigned int size,
		uint32_t value)
{
	port_select(f, slot, reg);
	bus_write(f->pio, 0xcfc + (reg & 3), size, value);
}

unsigned int capability_find(struct pci_fixture *f, unsigned int slot, uint8_t id)
{
	unsigned int at = ecam_read(f, slot, PCI_CAPABILITIES, 1);
	unsigned int hops;

	assert_true(ecam_read(f, slot, PCI_STATUS, 2) & PCI_STATUS_CAPABILITIES);
	for (hops = 0; at && hops < 48; hops++) {
		assert_true(at >= 0x40 && !(at & 3));
		if (ecam_read(f, slot, at, 1) == id)
			return at;
		at = ecam_read(f, slot, at + 1, 1);
	}
	return 0;
}

uint32_t mmio_read32(struct pci_fixture *f, uint64_t gpa)
{
	uint64_t value = 0;

	bus_read(f->mmio, gpa, 4, &value);
	return (uint32_t)value;
}

void mmio_write32(struct pci_fixture *f, uint64_t gpa, uint32_t value)
{
	bus_write(f->mmio, gpa, 4, value);
}

uint64_t test_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * UINT64_C(0x2545f4914f6cdd1d);
}
