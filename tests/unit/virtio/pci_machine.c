/* SPDX-License-Identifier: BSD-3-Clause */
/* The machine of the PCI transport's tests: see pci_machine.h. */
#include "tests/unit/virtio/pci_machine.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- a hypervisor of arrays ---- */

static struct fake_hv *fake(struct hv *hv)
{
	return container_of(hv, struct fake_hv, hv);
}

static void fake_line_set(struct hv *hv, uint32_t gsi, bool level)
{
	(void)gsi;
	fake(hv)->line = level;
}

static int fake_msi_new(struct hv *hv, struct hv_msi *ret_msi)
{
	struct fake_hv *f = fake(hv);

	ret_msi->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	assert_true(ret_msi->fd >= 0);
	ret_msi->gsi = 0;
	while (ret_msi->gsi < f->nr_msis && f->msi_fds[ret_msi->gsi] >= 0)
		ret_msi->gsi++;
	assert_true(ret_msi->gsi < ARRAY_SIZE(f->msi_fds));
	if (ret_msi->gsi == f->nr_msis)
		f->nr_msis++;
	f->msi_fds[ret_msi->gsi] = ret_msi->fd;
	return 0;
}

static int fake_msi_route(struct hv *hv, struct hv_msi *msi, bool enable, uint64_t address,
			  uint32_t data)
{
	(void)data;
	fake(hv)->msi_address[msi->gsi] = enable ? address : 0;
	return 0;
}

static void fake_msi_free(struct hv *hv, struct hv_msi *msi)
{
	fake(hv)->msi_address[msi->gsi] = 0;
	fake(hv)->msi_fds[msi->gsi] = -1;
	close(msi->fd);
	msi->fd = -1;
}

/* How often was the message to @address sent since the last question? */
unsigned int fake_msi_count(struct fake_hv *f, uint64_t address)
{
	for (unsigned int i = 0; i < f->nr_msis; i++) {
		uint64_t count = 0;

		if (f->msi_address[i] != address)
			continue;
		return read(f->msi_fds[i], &count, 8) == 8 ? (unsigned int)count : 0;
	}
	return 0;
}

static int fake_doorbell_add(struct hv *hv, uint64_t gpa, unsigned int size, int fd)
{
	struct fake_hv *f = fake(hv);

	assert_int_equal(size, 0);
	if (f->refuse_doorbells)
		return -ENOSPC;
	assert_true(f->nr_doorbells < ARRAY_SIZE(f->doorbells));
	f->doorbells[f->nr_doorbells].gpa = gpa;
	f->doorbells[f->nr_doorbells++].fd = fd;
	return 0;
}

static int fake_doorbell_remove(struct hv *hv, uint64_t gpa, unsigned int size, int fd)
{
	struct fake_hv *f = fake(hv);

	assert_int_equal(size, 0);
	for (unsigned int i = 0; i < f->nr_doorbells; i++) {
		if (f->doorbells[i].gpa != gpa || f->doorbells[i].fd != fd)
			continue;
		f->doorbells[i] = f->doorbells[--f->nr_doorbells];
		return 0;
	}
	fail_msg("a doorbell that is not there was removed");
	return -ENOENT;
}

static const struct hv_ops fake_ops = {
	.line_set = fake_line_set,
	.msi_new = fake_msi_new,
	.msi_route = fake_msi_route,
	.msi_free = fake_msi_free,
	.doorbell_add = fake_doorbell_add,
	.doorbell_remove = fake_doorbell_remove,
};

/* ---- the machine ---- */

uint32_t cfg_read(struct machine *m, unsigned int reg, unsigned int size)
{
	uint64_t v;

	assert_true(bus_read(m->mmio, ECAM + (SLOT << 15) + reg, size, &v));
	return (uint32_t)v;
}

void cfg_write(struct machine *m, unsigned int reg, unsigned int size, uint32_t value)
{
	assert_true(bus_write(m->mmio, ECAM + (SLOT << 15) + reg, size, value));
}

uint64_t bar_read(struct machine *m, uint64_t offset, unsigned int size)
{
	uint64_t v;

	assert_true(bus_read(m->mmio, m->bar4 + offset, size, &v));
	return v;
}

void bar_write(struct machine *m, uint64_t offset, unsigned int size, uint64_t value)
{
	assert_true(bus_write(m->mmio, m->bar4 + offset, size, value));
}

void find_bars(struct machine *m)
{
	m->bar1 = cfg_read(m, 0x14, 4) & ~UINT32_C(15);
	m->bar4 = (cfg_read(m, 0x20, 4) & ~UINT32_C(15)) | (uint64_t)cfg_read(m, 0x24, 4) << 32;
}

static void find_caps(struct machine *m)
{
	memset(m->caps, 0, sizeof(m->caps));
	for (unsigned int at = cfg_read(m, 0x34, 1), n = 0; at; at = cfg_read(m, at + 1, 1), n++) {
		unsigned int type = cfg_read(m, at + 3, 1);

		assert_true(n < 20);
		if (cfg_read(m, at, 1) != 9)
			continue;
		assert_in_range(type, 1, 5);
		assert_int_equal(m->caps[type], 0);
		m->caps[type] = at;
	}
}

/* Memory decoding and bus mastering on. */
void power_up(struct machine *m)
{
	pci_host_reset(m->host);
	cfg_write(m, 4, 2, 6);
	find_bars(m);
	find_caps(m);
}

void machine_init(struct machine *m, uint32_t vectors)
{
	struct virtio_pci_config config = {.class_code = VIRTIO_PCI_CLASS_OTHER,
					   .vectors = vectors};
	struct pci_host_config host = {
		.ecam = {ECAM, MIB},
		.window32 = {WINDOW32, 256 * MIB},
		.window64 = {WINDOW64, GIB},
		.intx_gsi = 16,
	};

	memset(m, 0, sizeof(*m));
	m->hv.hv.ops = &fake_ops;
	m->mmio = bus_new();
	m->pio = bus_new();
	host.mmio = m->mmio;
	host.pio = m->pio;
	host.hv = &m->hv.hv;
	m->host = pci_host_new(&host, NULL);
	assert_non_null(m->host);
	echo_init(&m->e, true);
	virtio_attach(m->e.vdev, NULL, NULL);
	config.place = (struct pci_place){.bus = pci_host_root(m->host), .slot = SLOT};
	config.hv = &m->hv.hv;
	m->vp = virtio_pci_new(&config, m->e.vdev, NULL);
	assert_non_null(m->vp);
	power_up(m);
}

void machine_done(struct machine *m)
{
	virtio_pci_free(m->vp);
	assert_int_equal(m->hv.nr_doorbells, 0);
	echo_done(&m->e);
	pci_host_free(m->host);
	bus_free(m->mmio);
	bus_free(m->pio);
}

/* MSI-X on, vector @i sends to address 0xfee00000 + 0x1000 * (i + 1). */
uint64_t msi_address(unsigned int vector)
{
	return 0xfee00000 + 0x1000 * (vector + 1);
}

unsigned int msix_cap(struct machine *m)
{
	unsigned int at = cfg_read(m, 0x34, 1);

	while (cfg_read(m, at, 1) != 0x11)
		at = cfg_read(m, at + 1, 1);
	return at;
}

void enable_msix(struct machine *m)
{
	cfg_write(m, msix_cap(m) + 2, 2, 0x8000);
	for (unsigned int i = 0; i < VECTORS; i++) {
		bus_write(m->mmio, m->bar1 + 16 * i, 4, msi_address(i));
		bus_write(m->mmio, m->bar1 + 16 * i + 8, 4, i);
		bus_write(m->mmio, m->bar1 + 16 * i + 12, 4, 0);
	}
}

/* What a driver does, register by register, with a ring in m->e.d. */
void driver_start(struct machine *m, uint64_t features, bool msix)
{
	struct vq_layout layout = {.packed = features & VIRTIO_FEATURE(VIRTIO_F_RING_PACKED),
				   .event_idx = features & VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX),
				   .indirect_desc = true,
				   .size = 8};

	bar_write(m, 20, 1, 0);
	assert_int_equal(bar_read(m, 20, 1), 0);
	bar_write(m, 20, 1, 1);
	bar_write(m, 20, 1, 3);
	for (uint32_t i = 0; i < 2; i++) {
		bar_write(m, 8, 4, i);
		bar_write(m, 12, 4, (uint32_t)(features >> (32 * i)));
	}
	bar_write(m, 20, 1, 11);
	assert_int_equal(bar_read(m, 20, 1), 11);
	m->e.g.used = 0;
	driver_init(&m->e.d, &m->e.g, &layout);
	bar_write(m, 16, 2, msix ? 0 : 0xffff);
	bar_write(m, 22, 2, 0);
	bar_write(m, 24, 2, 8);
	bar_write(m, 26, 2, msix ? 1 : 0xffff);
	for (unsigned int i = 0; i < 3; i++) {
		uint64_t gpa = i == 0   ? m->e.d.layout.desc_gpa
			       : i == 1 ? m->e.d.layout.driver_gpa
					: m->e.d.layout.device_gpa;

		bar_write(m, 32 + 8 * i, 4, (uint32_t)gpa);
		bar_write(m, 36 + 8 * i, 4, gpa >> 32);
	}
	bar_write(m, 28, 2, 1);
	assert_int_equal(bar_read(m, 28, 2), 1);
	bar_write(m, 20, 1, 15);
	assert_int_equal(bar_read(m, 20, 1), 15);
}

uint64_t all_features(struct machine *m)
{
	uint64_t features = 0;

	for (uint32_t i = 0; i < 2; i++) {
		bar_write(m, 0, 4, i);
		features |= bar_read(m, 4, 4) << (32 * i);
	}
	return features & ~VIRTIO_FEATURE(ECHO_F_VETO);
}
