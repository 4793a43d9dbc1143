/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Root ports: places of functions, power-on state, what reaches the bus behind one, whatever bus
 * numbers and windows a guest programs. See vmm/pci/pci.h I2, I4 to I6.
 */
#include "fixture.h"

#include <stdlib.h>
#include <string.h>

#define ALL_ONES 0xffffffffu
#define PORTS    3

/* Ports in 1.0, 1.1 and 4.0; a device behind the first and the last. */
struct behind {
	struct pci_device *dev;
	bool mapped[PCI_BARS];
	uint64_t gpa[PCI_BARS];
	unsigned int resets, downs;
};

struct subject {
	struct pci_fixture f;
	struct pci_port *ports[PORTS];
	struct behind behind[2];
};

static const unsigned int port_at[PORTS] = {BDF(0, 1, 0), BDF(0, 1, 1), BDF(0, 4, 0)};

static void behind_bar_mapped(void *opaque, unsigned int bar, bool mapped, uint64_t gpa)
{
	struct behind *b = opaque;

	assert_int_not_equal(b->mapped[bar], mapped);
	b->mapped[bar] = mapped;
	b->gpa[bar] = gpa;
}

static void behind_reset(void *opaque)
{
	struct behind *b = opaque;

	b->resets++;
}

static void behind_link_down(void *opaque)
{
	struct behind *b = opaque;

	/* It is off the bus already. */
	assert_false(b->mapped[0] || b->mapped[2]);
	b->downs++;
}

static uint64_t behind_read(void *opaque, uint64_t offset, unsigned int size)
{
	(void)opaque;
	(void)size;
	return 0x5a000000 | offset;
}

static void behind_write(void *opaque, uint64_t offset, unsigned int size, uint64_t value)
{
	(void)opaque;
	(void)offset;
	(void)size;
	(void)value;
}

static const struct bus_ops behind_bar_ops = {.read = behind_read, .write = behind_write};
static const struct pci_device_ops behind_ops = {
	.bar_mapped = behind_bar_mapped,
	.reset = behind_reset,
	.link_down = behind_link_down,
};
static const struct pci_device_ops plain_ops;
static const struct pci_identity identity = {
	.vendor_id = 0x1af4, .device_id = 0x1058, .express = true, .intx = true};

static struct pci_port *port_new(struct pci_fixture *f, const char *id, int slot,
				 unsigned int function, bool multifunction, struct err **err)
{
	const struct pci_port_config config = {
		.id = id,
		.place = {pci_host_root(f->host), slot, function, multifunction},
		.number = 7,
		.slot = 5,
		.hotplug = true,
		.memory_reserve = UINT64_MAX,
		.prefetch_reserve = UINT64_MAX,
	};

	return pci_port_new(&config, err);
}

static void behind_new(struct subject *s, struct behind *b, struct pci_port *port)
{
	const struct pci_place place = {.bus = pci_port_bus(port), .slot = -1};

	b->dev = pci_device_new(&place, "behind", &identity, &behind_ops, b, NULL);
	assert_non_null(b->dev);
	assert_int_equal(
		pci_add_bar(b->dev, 0, 16 * KIB, true, true, "high", &behind_bar_ops, s, NULL), 0);
	assert_int_equal(
		pci_add_bar(b->dev, 2, 4 * KIB, false, false, "low", &behind_bar_ops, s, NULL), 0);
	assert_int_equal(pci_add_msix(b->dev, 1, 2, 0, 0x800, NULL), 0);
}

static int setup(void **state)
{
	struct subject *s = test_calloc(1, sizeof(*s));

	fixture_init(&s->f);
	s->ports[0] = port_new(&s->f, "rp0", 1, 0, true, NULL);
	s->ports[1] = port_new(&s->f, "rp1", 1, 1, false, NULL);
	s->ports[2] = port_new(&s->f, "rp2", 4, 0, false, NULL);
	assert_true(s->ports[0] && s->ports[1] && s->ports[2]);
	behind_new(s, &s->behind[0], s->ports[0]);
	behind_new(s, &s->behind[1], s->ports[2]);
	assert_int_equal(pci_host_assign(s->f.host, NULL), 0);
	pci_host_reset(s->f.host);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct subject *s = *state;
	unsigned int i;

	for (i = 0; i < 2; i++) {
		pci_device_free(s->behind[i].dev);
		assert_false(s->behind[i].mapped[0] || s->behind[i].mapped[2]);
	}
	for (i = 0; i < PORTS; i++)
		pci_port_free(s->ports[i]);
	fixture_done(&s->f);
	test_free(s);
	return 0;
}

static void test_header(void **state)
{
	struct subject *s = *state;
	struct pci_fixture *f = &s->f;
	unsigned int i;

	for (i = 0; i < PORTS; i++) {
		assert_int_equal(bdf_read(f, port_at[i], 0x00, 4), 0x000c1b36);
		assert_int_equal(bdf_read(f, port_at[i], 0x04, 4), 0x00100000);
		assert_int_equal(bdf_read(f, port_at[i], 0x08, 4), 0x06040000);
		/* Primary 0, secondary and subordinate in the order of the places. */
		assert_int_equal(bdf_read(f, port_at[i], 0x18, 4), (i + 1) * 0x010100);
		/* No I/O window, and nobody can make one. */
		bdf_write(f, port_at[i], 0x1c, 4, ALL_ONES);
		assert_int_equal(bdf_read(f, port_at[i], 0x1c, 4), 0);
		bdf_write(f, port_at[i], 0x30, 4, ALL_ONES);
		assert_int_equal(bdf_read(f, port_at[i], 0x30, 4), 0);
		assert_int_equal(bdf_read(f, port_at[i], 0x3d, 1), 1);
		bdf_write(f, port_at[i], 0x04, 2, 0xffff);
		assert_int_equal(bdf_read(f, port_at[i], 0x04, 2), 0x0546);
		bdf_write(f, port_at[i], 0x3e, 2, 0xffbf);
		assert_int_equal(bdf_read(f, port_at[i], 0x3e, 2), 0x0003);
	}
	/* Several functions, several functions, one. */
	assert_int_equal(bdf_read(f, port_at[0], 0x0e, 1), 0x81);
	assert_int_equal(bdf_read(f, port_at[1], 0x0e, 1), 0x81);
	assert_int_equal(bdf_read(f, port_at[2], 0x0e, 1), 0x01);
	assert_int_equal(bdf_read(f, BDF(0, 1, 2), 0, 4), ALL_ONES);
}

static void test_express(void **state)
{
	struct subject *s = *state;
	struct pci_fixture *f = &s->f;
	unsigned int at = capability_find(f, 4, PCI_CAP_ID_EXPRESS);

	assert_int_equal(at, 0x40);
	/* Version 2, root port, slot; interrupt message 0. */
	assert_int_equal(ecam_read(f, 4, at + 0x02, 2), 0x0142);
	/* x1, 2.5 GT/s, link active reporting; the number. */
	assert_int_equal(ecam_read(f, 4, at + 0x0c, 4), 0x07100011);
	assert_int_equal(ecam_read(f, 4, at + 0x12, 2), 0x2011);
	/* Button, power controller, both indicators, hot-plug capable, slot 5; no surprise. */
	assert_int_equal(ecam_read(f, 4, at + 0x14, 4), 5 << 19 | 0x5b);
	/* Power on, power indicator on, attention indicator off; present. */
	assert_int_equal(ecam_read(f, 4, at + 0x18, 4), 0x004001c0);
	/* The second port is empty: power and indicators off, no link. */
	assert_int_equal(bdf_read(f, port_at[1], at + 0x18, 4), 0x000007c0);
	assert_int_equal(bdf_read(f, port_at[1], at + 0x12, 2), 0);
	assert_int_equal(capability_find(f, 4, PCI_CAP_ID_MSIX), 0x7c);
	/* What is behind is an endpoint with a link of its own. */
	assert_int_equal(bdf_read(f, BDF(1, 0, 0), 0x40 + 0x02, 2), 0x0002);
	assert_int_equal(bdf_read(f, BDF(1, 0, 0), 0x40 + 0x12, 2), 0x0011);
}

static uint64_t window_start(struct pci_fixture *f, unsigned int at, bool prefetch)
{
	uint64_t base = bdf_read(f, at, prefetch ? 0x24 : 0x20, 2) & 0xfff0;

	return base << 16 | (prefetch ? (uint64_t)bdf_read(f, at, 0x28, 4) << 32 : 0);
}

static uint64_t window_size(struct pci_fixture *f, unsigned int at, bool prefetch)
{
	uint64_t limit = bdf_read(f, at, prefetch ? 0x26 : 0x22, 2) & 0xfff0;

	limit = limit << 16 | (prefetch ? (uint64_t)bdf_read(f, at, 0x2c, 4) << 32 : 0);
	return limit + MIB - window_start(f, at, prefetch);
}

/* Windows are apart from each other and hold the BARs behind them, as firmware leaves them. */
static void test_power_on_windows(void **state)
{
	struct subject *s = *state;
	struct pci_fixture *f = &s->f;
	struct range windows[2 * PORTS];
	unsigned int i, j;

	for (i = 0; i < PORTS; i++) {
		windows[2 * i] = (struct range){window_start(f, port_at[i], false),
						window_size(f, port_at[i], false)};
		windows[2 * i + 1] = (struct range){window_start(f, port_at[i], true),
						    window_size(f, port_at[i], true)};
		assert_int_equal(windows[2 * i].size, 2 * MIB);
		assert_int_equal(windows[2 * i + 1].size, 32 * MIB);
		assert_true(range_contains(f->config.window32, windows[2 * i]));
		assert_true(range_contains(f->config.window64, windows[2 * i + 1]));
	}
	for (i = 0; i < 2 * PORTS; i++)
		for (j = 0; j < i; j++)
			assert_false(range_overlaps(windows[i], windows[j]));
	for (i = 0; i < 2; i++) {
		unsigned int at = BDF(i ? 3 : 1, 0, 0);
		struct pci_bar_info high, low;

		assert_int_equal(s->behind[i].resets, 1);
		assert_true(pci_device_bar(s->behind[i].dev, 0, &high));
		assert_true(pci_device_bar(s->behind[i].dev, 2, &low));
		assert_false(pci_device_bar(s->behind[i].dev, 1, &high));
		assert_true(range_contains(windows[i ? 5 : 1], high.gpa));
		assert_true(range_contains(windows[i ? 4 : 0], low.gpa));
		assert_int_equal(bdf_read(f, at, 0x10, 4), (high.gpa.start & ALL_ONES) | 0xc);
		assert_int_equal(bdf_read(f, at, 0x18, 4), low.gpa.start);
	}
}

/* The device decodes while memory decoding is on in both, and its BAR is in one of the windows. */
static void test_forwarding(void **state)
{
	struct subject *s = *state;
	struct pci_fixture *f = &s->f;
	struct behind *b = &s->behind[1];
	struct pci_bar_info high, low;
	uint32_t window;

	pci_device_bar(b->dev, 0, &high);
	pci_device_bar(b->dev, 2, &low);
	bdf_write(f, BDF(3, 0, 0), 0x04, 2, 2);
	assert_false(b->mapped[0] || b->mapped[2]);
	bdf_write(f, port_at[2], 0x04, 2, 2);
	assert_true(b->mapped[0] && b->mapped[2]);
	assert_int_equal(b->gpa[0], high.gpa.start);
	assert_int_equal(mmio_read32(f, high.gpa.start + 4), 0x5a000004);
	/* Either window forwards either BAR; a closed one nothing. */
	window = bdf_read(f, port_at[2], 0x20, 4);
	bdf_write(f, port_at[2], 0x20, 4, 0x0000fff0);
	assert_false(b->mapped[2]);
	assert_true(b->mapped[0]);
	assert_int_equal(mmio_read32(f, low.gpa.start + 4), ALL_ONES);
	bdf_write(f, BDF(3, 0, 0), 0x18, 4, (uint32_t)(WINDOW32_BASE + 128 * MIB));
	assert_false(b->mapped[2]);
	bdf_write(f, port_at[2], 0x20, 4, window);
	assert_false(b->mapped[2]);
	bdf_write(f, port_at[2], 0x20, 4, 0xc800c800);
	assert_true(b->mapped[2]);
	assert_int_equal(b->gpa[2], WINDOW32_BASE + 128 * MIB);
	/* All of the address space, and more than the host bridge forwards. */
	bdf_write(f, port_at[2], 0x20, 4, 0xfff00000);
	assert_true(b->mapped[2]);
	bdf_write(f, BDF(3, 0, 0), 0x18, 4, 0x1000);
	assert_false(b->mapped[2]);
	bdf_write(f, port_at[2], 0x24, 4, 0xfff00000);
	bdf_write(f, port_at[2], 0x28, 4, 0);
	bdf_write(f, port_at[2], 0x2c, 4, ALL_ONES);
	assert_false(b->mapped[2]);
	assert_true(b->mapped[0]);
	bdf_write(f, BDF(3, 0, 0), 0x10, 4, 0xffffc000);
	bdf_write(f, BDF(3, 0, 0), 0x14, 4, ALL_ONES);
	assert_false(b->mapped[0]);
	bdf_write(f, BDF(3, 0, 0), 0x14, 4, (uint32_t)(WINDOW64_BASE >> 32));
	assert_true(b->mapped[0]);
	bdf_write(f, port_at[2], 0x04, 2, 0);
	assert_false(b->mapped[0] || b->mapped[2]);
}

/* Bus mastering and messages need both as well. */
static void test_bus_master(void **state)
{
	struct subject *s = *state;
	struct pci_fixture *f = &s->f;
	struct pci_bar_info low;

	pci_device_bar(s->behind[1].dev, 2, &low);
	bdf_write(f, BDF(3, 0, 0), 0x04, 2, 6);
	bdf_write(f, port_at[2], 0x04, 2, 2);
	assert_false(pci_bus_master(s->behind[1].dev));
	mmio_write32(f, low.gpa.start, 0xfee00000);
	mmio_write32(f, low.gpa.start + 8, 0x31);
	mmio_write32(f, low.gpa.start + 12, 0);
	bdf_write(f, BDF(3, 0, 0), 0x7e, 2, PCI_MSIX_CONTROL_ENABLE);
	pci_msix_trigger(s->behind[1].dev, 0);
	assert_int_equal(fake_delivered_all(&f->hv), 0);
	bdf_write(f, port_at[2], 0x04, 2, 6);
	assert_true(pci_bus_master(s->behind[1].dev));
	assert_int_equal(fake_delivered(&f->hv, 0xfee00000, 0x31), 1);
	bdf_write(f, port_at[2], 0x04, 2, 2);
	assert_false(pci_bus_master(s->behind[1].dev));
}

static bool answers(struct pci_fixture *f, unsigned int bus)
{
	return bdf_read(f, BDF(bus, 0, 0), 0, 4) == 0x10581af4;
}

/* I6: numbers may be anything; each request goes to one place, and comes to an end. */
static void test_bus_numbers(void **state)
{
	struct subject *s = *state;
	struct pci_fixture *f = &s->f;
	uint64_t seed = 0x2545f4914f6cdd1d;
	unsigned int i, bus;

	assert_true(answers(f, 1) && answers(f, 3));
	assert_false(answers(f, 2) || answers(f, 4));
	/* Other slots and functions of the link do not exist. */
	assert_int_equal(bdf_read(f, BDF(1, 1, 0), 0, 4), ALL_ONES);
	assert_int_equal(bdf_read(f, BDF(1, 0, 1), 0, 4), ALL_ONES);
	/* The same number twice: the first port has it. */
	bdf_write(f, port_at[2], 0x18, 4, 0x010100);
	assert_true(answers(f, 1));
	assert_false(answers(f, 3));
	bdf_write(f, BDF(1, 0, 0), 0x0c, 1, 0x77);
	assert_int_equal(pci_device_config(s->behind[0].dev, 0x0c, 1), 0x77);
	assert_int_equal(pci_device_config(s->behind[1].dev, 0x0c, 1), 0);
	/* One that claims all buses, and one whose range is upside down. */
	bdf_write(f, port_at[0], 0x18, 4, 0xff0500);
	bdf_write(f, port_at[2], 0x18, 4, 0x050600);
	for (bus = 0; bus < ECAM_BUSES; bus++)
		assert_int_equal(answers(f, bus), bus == 5);
	/* 0 is the root bus's, whoever says it is theirs. */
	bdf_write(f, port_at[0], 0x18, 4, 0xff0000);
	bdf_write(f, port_at[2], 0x18, 4, 0);
	for (bus = 1; bus < ECAM_BUSES; bus++)
		assert_false(answers(f, bus));
	assert_int_equal(bdf_read(f, port_at[0], 0, 4), 0x000c1b36);
	for (i = 0; i < 20000; i++) {
		uint64_t r = test_random(&seed);

		bdf_write(f, port_at[r % PORTS], 0x18, 4, (uint32_t)(r >> 8) & 0x0f0f0f);
		bus = r >> 40 & 7;
		if (bus)
			assert_true(answers(f, bus) ||
				    bdf_read(f, BDF(bus, 0, 0), 0, 4) == ALL_ONES);
	}
	pci_host_reset(f->host);
	assert_true(answers(f, 1) && answers(f, 3));
}

/* Beyond the ECAM window the ports still reach 256 buses. */
static void test_ports_reach(void **state)
{
	struct subject *s = *state;
	uint64_t value = 0;

	bdf_write(&s->f, port_at[2], 0x18, 4, 0xc8c800);
	assert_true(bus_write(s->f.pio, 0xcf8, 4, 0x80c80000));
	assert_true(bus_read(s->f.pio, 0xcfc, 4, &value));
	assert_int_equal(value, 0x10581af4);
}

/* A reset of the bus, and a link that is switched off: silence, then a device without addresses. */
static void test_link_down(void **state)
{
	struct subject *s = *state;
	struct pci_fixture *f = &s->f;
	static const struct {
		unsigned int reg;
		uint32_t set, clear;
	} ways[] = {{0x3e, PCI_BRIDGE_RESET, 0}, {0x50, PCI_LINK_DISABLE, 0}};
	struct behind *b = &s->behind[0];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ways); i++) {
		bdf_write(f, port_at[0], 0x04, 2, 6);
		bdf_write(f, BDF(1, 0, 0), 0x04, 2, 6);
		bdf_write(f, BDF(1, 0, 0), 0x18, 4, (uint32_t)window_start(f, port_at[0], false));
		assert_true(b->mapped[2]);
		pci_intx_set(b->dev, true);
		assert_true(f->hv.line[FAKE_GSI + 1]);
		bdf_write(f, port_at[0], ways[i].reg, 2, ways[i].set);
		assert_int_equal(b->downs, i + 1);
		assert_false(b->mapped[0] || b->mapped[2] || pci_bus_master(b->dev));
		assert_false(f->hv.line[FAKE_GSI + 1]);
		assert_int_equal(bdf_read(f, port_at[0], 0x52, 2) & PCI_LINK_ACTIVE, 0);
		assert_false(answers(f, 1));
		bdf_write(f, BDF(1, 0, 0), 0x0c, 1, 0x55);
		bdf_write(f, port_at[0], ways[i].reg, 2, ways[i].clear);
		assert_true(answers(f, 1));
		assert_int_equal(bdf_read(f, BDF(1, 0, 0), 0x0c, 1), 0);
		assert_int_equal(bdf_read(f, BDF(1, 0, 0), 0x10, 4), 0xc);
		assert_int_equal(bdf_read(f, BDF(1, 0, 0), 0x18, 4), 0);
		assert_int_equal(bdf_read(f, BDF(1, 0, 0), 0x04, 2), 0);
		assert_int_equal(b->downs, i + 1);
	}
	assert_int_equal(b->resets, 1);
}

/* Slot 0 behind 4.0 drives what slot 4 drives. */
static void test_swizzle(void **state)
{
	struct subject *s = *state;

	pci_intx_set(s->behind[1].dev, true);
	assert_true(s->f.hv.line[FAKE_GSI + 0]);
	assert_int_equal(bdf_read(&s->f, BDF(3, 0, 0), 0x3c, 2), 0x0100 | FAKE_GSI);
	pci_intx_set(s->behind[1].dev, false);
	assert_false(s->f.hv.line[FAKE_GSI + 0]);
}

static void expect_refused(struct pci_port *port, struct err **err, const char *part)
{
	assert_null(port);
	assert_non_null(strstr(err_message(*err), part));
	err_free(*err);
	*err = NULL;
}

static void test_places(void **state)
{
	struct subject *s = *state;
	struct pci_fixture *f = &s->f;
	struct pci_port_config on_port = {.id = "p",
					  .place = {pci_port_bus(s->ports[1]), -1, 0, 0}};
	struct pci_place place = {.bus = pci_port_bus(s->ports[0]), .slot = 1};
	struct pci_port *extra[ECAM_BUSES];
	struct err *err = NULL;
	unsigned int i;

	expect_refused(port_new(f, "p", 1, 1, false, &err), &err,
		       "function 1 of PCI slot 1 is in use by 'rp1'");
	expect_refused(port_new(f, "p", 4, 1, false, &err), &err, "would need multifunction=on");
	expect_refused(port_new(f, "p", 4, 8, false, &err), &err, "function 8 does not exist");
	expect_refused(pci_port_new(&on_port, &err), &err, "must be on the root bus, pcie.0");
	err = NULL;
	assert_null(pci_device_new(&place, "d", &identity, &plain_ops, NULL, &err));
	assert_non_null(strstr(err_message(err), "PCI slot 1 does not exist on bus 'rp0', 0 does"));
	err_free(err);
	err = NULL;
	place.slot = -1;
	assert_null(pci_device_new(&place, "d", &identity, &plain_ops, NULL, &err));
	assert_non_null(strstr(err_message(err), "'rp0' has one slot, and it is in use"));
	err_free(err);
	/* Functions first, the function 0 that admits them later. */
	extra[0] = port_new(f, "x", 6, 3, false, NULL);
	assert_non_null(extra[0]);
	expect_refused(port_new(f, "p", 6, 0, false, &err), &err, "needs multifunction=on");
	extra[1] = port_new(f, "y", 6, 0, true, NULL);
	assert_non_null(extra[1]);
	/* As many buses as the configuration window holds: 8, of which the root bus is one. */
	for (i = 2; i < ECAM_BUSES - 1 - PORTS; i++) {
		extra[i] = port_new(f, "z", -1, 0, false, NULL);
		assert_non_null(extra[i]);
	}
	expect_refused(port_new(f, "p", -1, 0, false, &err), &err, "room for 8 buses");
	assert_ptr_equal(pci_bus_find(f->host, "rp2"), pci_port_bus(s->ports[2]));
	assert_ptr_equal(pci_bus_find(f->host, "pcie.0"), pci_host_root(f->host));
	assert_null(pci_bus_find(f->host, "nowhere"));
	while (i--)
		pci_port_free(extra[i]);
	pci_port_free(NULL);
}

/* What a window must hold that is asked for, or that the BARs behind need. */
static void test_window_sizes(void **state)
{
	struct subject *s = *state;
	struct pci_fixture *f = &s->f;
	struct pci_port_config config = {
		.id = "big",
		.place = {pci_host_root(f->host), 9, 0, false},
		.memory_reserve = 3 * MIB + 1,
		.prefetch_reserve = 0,
	};
	struct pci_port *port = pci_port_new(&config, NULL), *closed;
	struct pci_place place = {.bus = pci_port_bus(port), .slot = 0};
	struct pci_device *dev;
	struct pci_bar_info info;
	struct err *err = NULL;

	assert_non_null(port);
	dev = pci_device_new(&place, "d", &identity, &plain_ops, NULL, NULL);
	assert_int_equal(pci_add_bar(dev, 0, 64 * KIB, true, true, "a", NULL, NULL, NULL), 0);
	assert_int_equal(pci_add_bar(dev, 2, 4 * GIB, true, true, "b", NULL, NULL, NULL), 0);
	config.id = "closed";
	config.place.slot = 10;
	config.memory_reserve = config.prefetch_reserve = UINT64_MAX;
	closed = pci_port_new(&config, NULL);
	assert_int_equal(pci_host_assign(f->host, NULL), 0);
	pci_host_reset(f->host);
	assert_int_equal(window_size(f, BDF(0, 9, 0), false), 4 * MIB);
	assert_int_equal(window_size(f, BDF(0, 9, 0), true), 4 * GIB + MIB);
	assert_true(pci_device_bar(dev, 2, &info));
	assert_int_equal(info.gpa.start % (4 * GIB), 0);
	assert_int_equal(info.gpa.start, window_start(f, BDF(0, 9, 0), true));
	/* No hot-plug, nothing behind it: no window. No slot capabilities but the number. */
	assert_int_equal(bdf_read(f, BDF(0, 10, 0), 0x20, 4), 0x0000fff0);
	assert_int_equal(bdf_read(f, BDF(0, 10, 0), 0x24, 4), 0x0001fff1);
	assert_int_equal(bdf_read(f, BDF(0, 10, 0), 0x54, 4), 0);
	bdf_write(f, BDF(0, 10, 0), 0x58, 4, ALL_ONES);
	assert_int_equal(bdf_read(f, BDF(0, 10, 0), 0x58, 4), 0);
	pci_device_free(dev);
	pci_port_free(closed);
	pci_port_free(port);
	/* More than there is. */
	config.memory_reserve = WINDOW32_SIZE;
	port = pci_port_new(&config, NULL);
	assert_true(pci_host_assign(f->host, &err) < 0);
	assert_non_null(strstr(err_message(err), "'closed'"));
	assert_non_null(strstr(err_message(err), "256 MiB are left for its window below 4 GiB"));
	err_free(err);
	pci_host_reset(f->host);
	assert_int_equal(bdf_read(f, BDF(0, 10, 0), 0x20, 4), 0x0000fff0);
	pci_port_free(port);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_header),      T(test_express),      T(test_power_on_windows),
		T(test_forwarding),  T(test_bus_master),   T(test_bus_numbers),
		T(test_ports_reach), T(test_link_down),    T(test_swizzle),
		T(test_places),      T(test_window_sizes),
	};
#undef T
	return cmocka_run_group_tests(tests, NULL, NULL);
}
