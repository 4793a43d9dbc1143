/* SPDX-License-Identifier: BSD-3-Clause */
/* Configuration space: header, masks, capabilities, ECAM and ports. See vmm/pci/pci.h. */
#include "fixture.h"

#include <stdlib.h>
#include <string.h>

#define ALL_ONES 0xffffffffu

/* A device with everything: 64-bit BAR 0, 32-bit BAR 2, MSI-X, a handled capability. */
struct subject {
	struct pci_fixture f;
	struct pci_device *dev;
	unsigned int cap; /* number of the handled one */
	unsigned int resets;
	uint8_t cap_bytes[18];
	unsigned int cap_reads, cap_writes;
};

static uint32_t subject_cap_read(void *opaque, unsigned int cap, unsigned int offset,
				 unsigned int size)
{
	struct subject *s = opaque;
	uint32_t value = 0;

	assert_int_equal(cap, s->cap);
	assert_true(offset >= 2 && size >= 1 && offset + size <= sizeof(s->cap_bytes));
	memcpy(&value, s->cap_bytes + offset, size);
	s->cap_reads++;
	/* Whatever a device waits for, monitors do not wait for it. */
	assert_int_equal(pci_device_config(s->dev, PCI_VENDOR_ID, 2), 0x1af4);
	/* Bits above the size must not reach the guest. */
	return size < 4 ? value | ALL_ONES << (8 * size) : value;
}

static void subject_cap_write(void *opaque, unsigned int cap, unsigned int offset,
			      unsigned int size, uint32_t value)
{
	struct subject *s = opaque;

	assert_int_equal(cap, s->cap);
	assert_true(offset >= 2 && size >= 1 && offset + size <= sizeof(s->cap_bytes));
	assert_true(size == 4 || value >> (8 * size) == 0);
	memcpy(s->cap_bytes + offset, &value, size);
	s->cap_writes++;
	assert_int_equal(pci_device_config(s->dev, PCI_VENDOR_ID, 2), 0x1af4);
}

static void subject_reset(void *opaque)
{
	struct subject *s = opaque;

	s->resets++;
}

static const struct pci_device_ops subject_ops = {
	.cap_read = subject_cap_read,
	.cap_write = subject_cap_write,
	.reset = subject_reset,
};

static const struct pci_identity subject_identity = {
	.vendor_id = 0x1af4,
	.device_id = 0x1058,
	.subsystem_vendor_id = 0x1af4,
	.subsystem_id = 0x1100,
	.revision_id = 1,
	.class_code = 0x058001,
	.express = true,
	.intx = true,
};

static int setup(void **state)
{
	static const uint8_t handled[18] = {0};
	struct subject *s = calloc(1, sizeof(*s));

	fixture_init(&s->f);
	s->dev = pci_device_new(AT(s->f.host, 3), "subject", &subject_identity, &subject_ops, s,
				NULL);
	assert_non_null(s->dev);
	assert_int_equal(pci_add_bar(s->dev, 0, 16 * GIB, true, true, "big", NULL, NULL, NULL), 0);
	assert_int_equal(pci_add_bar(s->dev, 2, 16 * KIB, false, false, "small", NULL, NULL, NULL),
			 0);
	assert_int_equal(pci_add_msix(s->dev, 3, 2, 0, 0x800, NULL), 0);
	assert_int_equal(pci_add_capability(s->dev, 0x09, handled, sizeof(handled), NULL, true,
					    &s->cap, NULL),
			 0);
	assert_int_equal(pci_host_assign(s->f.host, NULL), 0);
	pci_host_reset(s->f.host);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct subject *s = *state;

	pci_device_free(s->dev);
	fixture_done(&s->f);
	free(s);
	return 0;
}

static void test_header(void **state)
{
	struct subject *s = *state;
	struct pci_fixture *f = &s->f;

	assert_int_equal(s->resets, 1);
	assert_int_equal(pci_device_slot(s->dev), 3);
	assert_int_equal(ecam_read(f, 3, 0x00, 4), 0x10581af4);
	assert_int_equal(ecam_read(f, 3, 0x04, 4), 0x00100000);
	assert_int_equal(ecam_read(f, 3, 0x08, 4), 0x05800101);
	assert_int_equal(ecam_read(f, 3, 0x0c, 4), 0);
	assert_int_equal(ecam_read(f, 3, 0x2c, 4), 0x11001af4);
	assert_int_equal(ecam_read(f, 3, 0x30, 4), 0);
	/* Pin A; slot 3 swizzles to the fourth input, which firmware notes in Interrupt Line. */
	assert_int_equal(ecam_read(f, 3, 0x3c, 4), 0x0100 | (FAKE_GSI + 3));
	/* The bridge itself. */
	assert_int_equal(ecam_read(f, 0, 0x00, 4), 0x00081b36);
	assert_int_equal(ecam_read(f, 0, 0x08, 4) >> 8, 0x060000);
	/* The extended space of both is empty. */
	assert_int_equal(ecam_read(f, 3, 0x100, 4), 0);
	assert_int_equal(ecam_read(f, 3, 0xffc, 4), 0);
	ecam_write(f, 3, 0x100, 4, ALL_ONES);
	assert_int_equal(ecam_read(f, 3, 0x100, 4), 0);
}

static void test_absent_functions(void **state)
{
	struct subject *s = *state;
	uint64_t v = 0;

	assert_int_equal(ecam_read(&s->f, 4, 0, 4), ALL_ONES);
	assert_int_equal(ecam_read(&s->f, 31, 0, 2), 0xffff);
	assert_int_equal(port_read(&s->f, 4, 0, 4), ALL_ONES);
	ecam_write(&s->f, 4, 4, 2, 7);
	/* Function 1 of an existing slot, and another bus. */
	assert_true(bus_read(s->f.mmio, ECAM_BASE + (3 << 15) + (1 << 12), 4, &v));
	assert_int_equal(v, ALL_ONES);
	assert_true(bus_read(s->f.mmio, ECAM_BASE + MIB + (3 << 15), 4, &v));
	assert_int_equal(v, ALL_ONES);
	assert_true(bus_write(s->f.pio, 0xcf8, 4, 0x80011800));
	assert_true(bus_read(s->f.pio, 0xcfc, 4, &v));
	assert_int_equal(v, ALL_ONES);
	/* Enable clear: no cycle. */
	assert_true(bus_write(s->f.pio, 0xcf8, 4, 0x1800));
	assert_true(bus_read(s->f.pio, 0xcfc, 4, &v));
	assert_int_equal(v, ALL_ONES);
	assert_true(bus_write(s->f.pio, 0xcfc, 4, 0));
}

static void test_command_mask(void **state)
{
	struct subject *s = *state;

	assert_false(pci_bus_master(s->dev));
	ecam_write(&s->f, 3, 0x04, 4, ALL_ONES);
	assert_int_equal(ecam_read(&s->f, 3, 0x04, 4), 0x00100546);
	assert_true(pci_bus_master(s->dev));
	ecam_write(&s->f, 3, 0x04, 2, 0);
	assert_int_equal(ecam_read(&s->f, 3, 0x04, 4), 0x00100000);
	assert_false(pci_bus_master(s->dev));
	pci_intx_set(s->dev, true);
	assert_int_equal(ecam_read(&s->f, 3, 0x06, 1), 0x18);
	pci_intx_set(s->dev, false);
	assert_int_equal(ecam_read(&s->f, 3, 0x06, 1), 0x10);
}

static void test_bar_sizing(void **state)
{
	struct subject *s = *state;
	struct pci_fixture *f = &s->f;

	/* 16 GiB, 64-bit, prefetchable: the low half has no writable address bit. */
	ecam_write(f, 3, 0x10, 4, ALL_ONES);
	ecam_write(f, 3, 0x14, 4, ALL_ONES);
	assert_int_equal(ecam_read(f, 3, 0x10, 4), 0x0000000c);
	assert_int_equal(ecam_read(f, 3, 0x14, 4), 0xfffffffc);
	/* 16 KiB, 32-bit. */
	ecam_write(f, 3, 0x18, 4, ALL_ONES);
	assert_int_equal(ecam_read(f, 3, 0x18, 4), 0xffffc000);
	/* Not implemented. */
	ecam_write(f, 3, 0x1c, 4, ALL_ONES);
	assert_int_equal(ecam_read(f, 3, 0x1c, 4), 0);
	/* By bytes. */
	ecam_write(f, 3, 0x1b, 1, 0xc1);
	assert_int_equal(ecam_read(f, 3, 0x18, 4), 0xc1ffc000);
	/* Power-on addresses come back. */
	pci_host_reset(f->host);
	assert_int_equal(ecam_read(f, 3, 0x10, 4), 0x0000000c);
	assert_int_equal(ecam_read(f, 3, 0x14, 4), WINDOW64_BASE >> 32);
	assert_int_equal(ecam_read(f, 3, 0x18, 4), WINDOW32_BASE);
}

static void test_capability_list(void **state)
{
	struct subject *s = *state;
	struct pci_fixture *f = &s->f;
	unsigned int express = capability_find(f, 3, PCI_CAP_ID_EXPRESS);
	unsigned int msix = capability_find(f, 3, PCI_CAP_ID_MSIX);

	assert_int_equal(express, 0x40);
	assert_int_equal(ecam_read(f, 3, express + 2, 2), 0x0092);
	ecam_write(f, 3, express + 8, 4, ALL_ONES);
	assert_int_equal(ecam_read(f, 3, express + 8, 4), 0x0000781f);
	assert_int_equal(msix, 0x7c);
	assert_int_equal(ecam_read(f, 3, msix + 2, 2), 2);
	assert_int_equal(ecam_read(f, 3, msix + 4, 4), 0 | 2);
	assert_int_equal(ecam_read(f, 3, msix + 8, 4), 0x800 | 2);
	ecam_write(f, 3, msix, 4, ALL_ONES);
	assert_int_equal(ecam_read(f, 3, msix + 2, 2), 0xc002);
	assert_int_equal(capability_find(f, 3, 0x55), 0);
}

static void test_handled_capability(void **state)
{
	struct subject *s = *state;
	struct pci_fixture *f = &s->f;
	unsigned int at = capability_find(f, 3, 0x09);
	unsigned int i;

	for (i = 2; i < sizeof(s->cap_bytes); i++)
		s->cap_bytes[i] = (uint8_t)(0xa0 + i);
	/* Across the header: its two bytes are ours, the others the handler's. */
	assert_int_equal(ecam_read(f, 3, at, 4), 0xa3a20009);
	assert_int_equal(s->cap_reads, 1);
	ecam_write(f, 3, at, 4, 0x11223344);
	assert_int_equal(ecam_read(f, 3, at, 4), 0x11220009);
	ecam_write(f, 3, at, 2, 0xffff);
	assert_int_equal(s->cap_writes, 1);
	assert_int_equal(ecam_read(f, 3, at + 1, 2), 0x2200);
	/* Across the end: the padding reads as 0. */
	assert_int_equal(ecam_read(f, 3, at + 16, 4), 0x0000b1b0);
	ecam_write(f, 3, at + 16, 4, 0x55667788);
	assert_int_equal(ecam_read(f, 3, at + 16, 4), 0x00007788);
	ecam_write(f, 3, at + 5, 2, 0xbeef);
	assert_int_equal(ecam_read(f, 3, at + 4, 4), 0xa7beefa4);
	assert_int_equal(s->cap_writes, 3);
}

/* Whatever is written one way is read the other way, byte, word and doubleword. */
static void test_ecam_and_ports_agree(void **state)
{
	struct subject *s = *state;
	unsigned int reg, size;

	port_write(&s->f, 3, 0x18, 4, 0xdeadbeef);
	ecam_write(&s->f, 3, 0x0c, 1, 0x5a);
	for (size = 1; size <= 4; size *= 2)
		for (reg = 0; reg < 256; reg++)
			assert_int_equal(port_read(&s->f, 3, reg, size),
					 ecam_read(&s->f, 3, reg, size));
	assert_int_equal(ecam_read(&s->f, 3, 0x18, 4), 0xdeadbeef & 0xffffc000);
	/* Across a doubleword, and 8 bytes: no request is made. */
	assert_int_equal(ecam_read(&s->f, 3, 0x02, 4), ALL_ONES);
	assert_int_equal(ecam_read(&s->f, 3, 0x03, 2), 0xffff);
	ecam_write(&s->f, 3, 0x1a, 4, 0);
	assert_int_equal(ecam_read(&s->f, 3, 0x18, 4), 0xdeadbeef & 0xffffc000);
	assert_true(bus_write(s->f.mmio, ECAM_BASE + (3 << 15) + 0x18, 8, 0));
	assert_int_equal(ecam_read(&s->f, 3, 0x18, 4), 0xdeadbeef & 0xffffc000);
}

static void test_address_port(void **state)
{
	struct subject *s = *state;
	struct bus *pio = s->f.pio;
	uint64_t v;

	assert_true(bus_write(pio, 0xcf8, 4, ALL_ONES));
	assert_true(bus_read(pio, 0xcf8, 4, &v));
	assert_int_equal(v, 0x80fffffc);
	/* Narrower accesses are not the bridge's: nothing changes, all ones. */
	assert_true(bus_write(pio, 0xcf9, 1, 6));
	assert_true(bus_write(pio, 0xcf8, 2, 0));
	assert_true(bus_read(pio, 0xcf9, 1, &v));
	assert_int_equal(v, 0xff);
	assert_true(bus_read(pio, 0xcf8, 4, &v));
	assert_int_equal(v, 0x80fffffc);
	assert_false(bus_read(pio, 0xcfe, 4, &v));
	pci_host_reset(s->f.host);
	assert_true(bus_read(pio, 0xcf8, 4, &v));
	assert_int_equal(v, 0);
}

/* The bits that a guest may write, from the specifications and not from the code under test. */
static void model_masks(uint8_t mask[256])
{
	static const struct {
		unsigned int reg;
		uint32_t mask;
	} known[] = {
		{0x04, 0x0546},     {0x0c, 0xff}, {0x10, 0},      {0x14, 0xfffffffc},
		{0x18, 0xffffc000}, {0x3c, 0xff}, {0x48, 0x781f}, {0x7c, 0xc0000000},
	};
	unsigned int i;

	memset(mask, 0, 256);
	for (i = 0; i < ARRAY_SIZE(known); i++)
		memcpy(mask + known[i].reg, &known[i].mask, 4);
}

static void test_random_writes_against_model(void **state)
{
	struct subject *s = *state;
	struct pci_fixture *f = &s->f;
	unsigned int handled = capability_find(f, 3, 0x09);
	uint64_t seed = 0x9e3779b97f4a7c15;
	uint8_t model[256], mask[256];
	unsigned int round, reg, i;

	model_masks(mask);
	for (reg = 0; reg < 256; reg++)
		model[reg] = (uint8_t)ecam_read(f, 3, reg, 1);
	for (round = 0; round < 100000; round++) {
		uint64_t r = test_random(&seed);
		unsigned int size = 1u << (r & 3);
		uint64_t value = test_random(&seed);

		reg = (unsigned int)(r >> 8) & (r & 0x40 ? 0xfff : 0xff);
		if (r & 0x10 && size <= 4 && reg < 256)
			port_write(f, 3, reg, size, (uint32_t)value);
		else
			bus_write(f->mmio, ECAM_BASE + (3 << 15) + reg, size, value);
		if (reg < 256 && (reg & 3) + size <= 4)
			for (i = 0; i < size; i++)
				model[reg + i] = (uint8_t)((model[reg + i] & ~mask[reg + i]) |
							   (value >> (8 * i) & mask[reg + i]));
		memcpy(model + handled + 2, s->cap_bytes + 2, sizeof(s->cap_bytes) - 2);
		if (round % 64 == 0)
			for (reg = 0; reg < 256; reg += 4) {
				uint32_t expected;

				memcpy(&expected, model + reg, 4);
				assert_int_equal(ecam_read(f, 3, reg, 4), expected);
			}
	}
}

static void test_capability_room(void **state)
{
	static const uint8_t bytes[64] = {0};
	static const struct pci_identity identity = {.vendor_id = 1};
	static const struct pci_device_ops ops;
	struct subject *s = *state;
	struct err *err = NULL;
	struct pci_device *dev =
		pci_device_new(AT(s->f.host, -1), "full", &identity, &ops, NULL, NULL);
	unsigned int i;

	for (i = 0; i < 3; i++)
		assert_int_equal(pci_add_capability(dev, 9, bytes, 64, NULL, false, NULL, NULL), 0);
	assert_true(pci_add_capability(dev, 9, bytes, 4, NULL, false, NULL, &err) < 0);
	assert_non_null(strstr(err_message(err), "'full'"));
	err_free(err);
	pci_device_free(dev);
}

static void test_slots(void **state)
{
	static const struct pci_identity identity = {.vendor_id = 1};
	static const struct pci_device_ops ops;
	struct subject *s = *state;
	struct pci_device *devs[32] = {NULL};
	struct err *err = NULL;
	unsigned int i;

	assert_null(pci_device_new(AT(s->f.host, 3), "a", &identity, &ops, NULL, &err));
	assert_string_equal(err_message(err), "device 'a': PCI slot 3 is in use by 'subject'");
	err_free(err);
	err = NULL;
	assert_null(pci_device_new(AT(s->f.host, 32), "a", &identity, &ops, NULL, &err));
	err_free(err);
	err = NULL;
	/* 0 and 3 are taken: thirty are left. */
	for (i = 0; i < 30; i++) {
		devs[i] = pci_device_new(AT(s->f.host, -1), "a", &identity, &ops, NULL, &err);
		assert_non_null(devs[i]);
		assert_int_equal(pci_device_slot(devs[i]), i < 2 ? i + 1 : i + 2);
	}
	assert_null(pci_device_new(AT(s->f.host, -1), "a", &identity, &ops, NULL, &err));
	assert_non_null(strstr(err_message(err), "all 32 PCI slots"));
	err_free(err);
	for (i = 0; i < 30; i++)
		pci_device_free(devs[i]);
	assert_int_equal(ecam_read(&s->f, 1, 0, 4), ALL_ONES);
	pci_device_free(NULL);
}

static void test_bad_host_configurations(void **state)
{
	struct subject *s = *state;
	struct pci_host_config bad;
	struct err *err = NULL;
	unsigned int i;

	for (i = 0; i < 6; i++) {
		bad = s->f.config;
		if (i == 0)
			bad.ecam.size = 0;
		if (i == 1)
			bad.ecam.size = 512 * MIB;
		if (i == 2)
			bad.ecam.start += 4096;
		if (i == 3)
			bad.window32.size = 2 * GIB;
		if (i == 4)
			bad.window64.start = UINT64_MAX - GIB;
		if (i == 5)
			bad.window64 = (struct range){WINDOW32_BASE + MIB, MIB};
		assert_null(pci_host_new(&bad, &err));
		assert_non_null(err);
		err_free(err);
		err = NULL;
	}
	pci_host_free(NULL);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_header),
		T(test_absent_functions),
		T(test_command_mask),
		T(test_bar_sizing),
		T(test_capability_list),
		T(test_handled_capability),
		T(test_ecam_and_ports_agree),
		T(test_address_port),
		T(test_random_writes_against_model),
		T(test_capability_room),
		T(test_slots),
		T(test_bad_host_configurations),
	};
#undef T
	return cmocka_run_group_tests(tests, NULL, NULL);
}
