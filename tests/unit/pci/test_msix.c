/* SPDX-License-Identifier: BSD-3-Clause */
/* MSI-X: table, masks, pending bits, routes, and races with triggers. See vmm/pci/pci.h I3. */
#include "fixture.h"

#include <stdatomic.h>
#include <string.h>

#define SLOT    2
#define VECTORS 70
#define TABLE   0x1000
#define PBA     0x3000
#define BAR     WINDOW32_BASE

#define ADDRESS UINT64_C(0xfee01000)
#define DATA    0x4021u

struct subject {
	struct pci_fixture f;
	struct pci_device *dev;
	unsigned int cap;
};

static const struct pci_device_ops subject_ops;
static const struct pci_identity subject_identity = {.vendor_id = 1, .intx = true};

static int setup(void **state)
{
	struct subject *s = test_calloc(1, sizeof(*s));

	fixture_init(&s->f);
	s->dev = pci_device_new(AT(s->f.host, SLOT), "subject", &subject_identity, &subject_ops, s,
				NULL);
	assert_int_equal(pci_add_bar(s->dev, 1, 16 * KIB, false, false, "msix", NULL, NULL, NULL),
			 0);
	assert_int_equal(pci_add_msix(s->dev, VECTORS, 1, TABLE, PBA, NULL), 0);
	pci_host_reset(s->f.host);
	ecam_write(&s->f, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_BUS_MASTER);
	s->cap = capability_find(&s->f, SLOT, PCI_CAP_ID_MSIX);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct subject *s = *state;

	pci_device_free(s->dev);
	fixture_done(&s->f);
	test_free(s);
	return 0;
}

static void control_set(struct subject *s, uint32_t control)
{
	ecam_write(&s->f, SLOT, s->cap + PCI_MSIX_CONTROL, 2, control);
}

static uint64_t entry(unsigned int vector, unsigned int field)
{
	return BAR + TABLE + (uint64_t)vector * PCI_MSIX_ENTRY_SIZE + field;
}

static void mask_set(struct subject *s, unsigned int vector, bool masked)
{
	mmio_write32(&s->f, entry(vector, PCI_MSIX_ENTRY_CONTROL), masked);
}

static void entry_set(struct subject *s, unsigned int vector, uint64_t address, uint32_t data)
{
	mmio_write32(&s->f, entry(vector, PCI_MSIX_ENTRY_ADDRESS_LOW), (uint32_t)address);
	mmio_write32(&s->f, entry(vector, PCI_MSIX_ENTRY_ADDRESS_HIGH), (uint32_t)(address >> 32));
	mmio_write32(&s->f, entry(vector, PCI_MSIX_ENTRY_DATA), data);
}

static bool pending(struct subject *s, unsigned int vector)
{
	return mmio_read32(&s->f, BAR + PBA + vector / 32 * 4) >> vector % 32 & 1;
}

/* MSI-X on, vector @vector at (ADDRESS, DATA + vector), unmasked. */
static void vector_start(struct subject *s, unsigned int vector)
{
	entry_set(s, vector, ADDRESS, DATA + vector);
	mask_set(s, vector, false);
	control_set(s, PCI_MSIX_CONTROL_ENABLE);
}

static void test_table(void **state)
{
	struct subject *s = *state;
	uint64_t v;

	/* Power-on: masked, 0, nothing pending. Reserved bits are 0 whatever is written. */
	assert_int_equal(mmio_read32(&s->f, entry(0, 12)), 1);
	assert_int_equal(mmio_read32(&s->f, entry(VECTORS - 1, 12)), 1);
	entry_set(s, 1, UINT64_MAX, UINT32_MAX);
	mmio_write32(&s->f, entry(1, 12), UINT32_MAX);
	assert_int_equal(mmio_read32(&s->f, entry(1, 0)), 0xfffffffc);
	assert_int_equal(mmio_read32(&s->f, entry(1, 4)), UINT32_MAX);
	assert_int_equal(mmio_read32(&s->f, entry(1, 8)), UINT32_MAX);
	assert_int_equal(mmio_read32(&s->f, entry(1, 12)), 1);
	/* By 8 bytes. */
	assert_true(bus_write(s->f.mmio, entry(2, 0), 8, 0x1122334455667788));
	assert_true(bus_write(s->f.mmio, entry(2, 8), 8, 0xfffffffe99aabbcc));
	assert_true(bus_read(s->f.mmio, entry(2, 0), 8, &v));
	assert_int_equal(v, 0x1122334455667788);
	assert_true(bus_read(s->f.mmio, entry(2, 8), 8, &v));
	assert_int_equal(v, 0x99aabbcc);
	/* Other sizes and alignments of writes are dropped; reads work. */
	assert_true(bus_write(s->f.mmio, entry(2, 0), 2, 0));
	assert_true(bus_write(s->f.mmio, entry(2, 1), 1, 0));
	assert_true(bus_write(s->f.mmio, entry(2, 2), 4, 0));
	assert_true(bus_write(s->f.mmio, entry(2, 4), 8, 0));
	assert_true(bus_read(s->f.mmio, entry(2, 2), 4, &v));
	assert_int_equal(v, 0x33445566);
	/* The PBA is read-only, and 0 behind the last vector. */
	mmio_write32(&s->f, BAR + PBA, UINT32_MAX);
	assert_int_equal(mmio_read32(&s->f, BAR + PBA), 0);
	assert_int_equal(mmio_read32(&s->f, BAR + PBA + 12), 0);
	/* Around the structures the BAR is the device's, which has nothing there. */
	assert_int_equal(mmio_read32(&s->f, BAR + TABLE - 4), 0);
	mmio_write32(&s->f, entry(VECTORS, 0), 5);
	assert_int_equal(mmio_read32(&s->f, entry(VECTORS, 0)), 0);
	/* Across the end of the table. */
	assert_true(bus_write(s->f.mmio, entry(VECTORS, 0) - 4, 8, UINT64_MAX));
	assert_int_equal(mmio_read32(&s->f, entry(VECTORS - 1, 8)), 0);
}

static void test_delivery(void **state)
{
	struct subject *s = *state;

	assert_false(pci_msix_enabled(s->dev));
	/* Disabled: not a message, and not one later either. */
	pci_msix_trigger(s->dev, 4);
	vector_start(s, 4);
	assert_true(pci_msix_enabled(s->dev));
	assert_int_equal(fake_delivered_all(&s->f.hv), 0);
	assert_false(pending(s, 4));

	pci_msix_trigger(s->dev, 4);
	assert_int_equal(fake_delivered(&s->f.hv, ADDRESS, DATA + 4), 1);
	pci_msix_trigger(s->dev, 4);
	pci_msix_trigger(s->dev, VECTORS);
	pci_msix_trigger(s->dev, UINT32_MAX);
	assert_int_equal(fake_delivered(&s->f.hv, ADDRESS, DATA + 4), 2);
	assert_int_equal(fake_delivered_all(&s->f.hv), 2);
	/* One source for the one vector in use, one route. */
	assert_int_equal(s->f.hv.created, 1);
	assert_int_equal(s->f.hv.routes, 1);
}

static void test_vector_mask(void **state)
{
	struct subject *s = *state;

	vector_start(s, 33);
	mask_set(s, 33, true);
	pci_msix_trigger(s->dev, 33);
	pci_msix_trigger(s->dev, 33);
	assert_true(pending(s, 33));
	assert_int_equal(mmio_read32(&s->f, BAR + PBA), 0);
	assert_int_equal(fake_delivered_all(&s->f.hv), 0);
	/* Once, at unmask. */
	mask_set(s, 33, false);
	assert_false(pending(s, 33));
	assert_int_equal(fake_delivered(&s->f.hv, ADDRESS, DATA + 33), 1);
	mask_set(s, 33, true);
	mask_set(s, 33, false);
	assert_int_equal(fake_delivered_all(&s->f.hv), 1);
	/* Masking and unmasking an unchanged entry costs no routing. */
	assert_int_equal(s->f.hv.routes, 1);
}

static void test_function_mask(void **state)
{
	struct subject *s = *state;

	vector_start(s, 0);
	vector_start(s, 64);
	mask_set(s, 1, true);
	control_set(s, PCI_MSIX_CONTROL_ENABLE | PCI_MSIX_CONTROL_FUNCTION_MASK);
	pci_msix_trigger(s->dev, 0);
	pci_msix_trigger(s->dev, 1);
	pci_msix_trigger(s->dev, 64);
	assert_int_equal(mmio_read32(&s->f, BAR + PBA), 3);
	assert_true(pending(s, 64));
	/* Unmasking a vector alone does not help. */
	mask_set(s, 0, false);
	assert_int_equal(fake_delivered_all(&s->f.hv), 0);
	control_set(s, PCI_MSIX_CONTROL_ENABLE);
	assert_int_equal(fake_delivered(&s->f.hv, ADDRESS, DATA), 1);
	assert_int_equal(fake_delivered(&s->f.hv, ADDRESS, DATA + 64), 1);
	assert_int_equal(fake_delivered_all(&s->f.hv), 2);
	assert_int_equal(mmio_read32(&s->f, BAR + PBA), 2);
}

static void test_bus_master_gates(void **state)
{
	struct subject *s = *state;

	vector_start(s, 0);
	ecam_write(&s->f, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	pci_msix_trigger(s->dev, 0);
	assert_true(pending(s, 0));
	assert_int_equal(fake_delivered_all(&s->f.hv), 0);
	ecam_write(&s->f, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_BUS_MASTER);
	assert_int_equal(fake_delivered(&s->f.hv, ADDRESS, DATA), 1);
	assert_false(pending(s, 0));
}

static void test_disable_keeps_pending(void **state)
{
	struct subject *s = *state;

	vector_start(s, 7);
	mask_set(s, 7, true);
	pci_msix_trigger(s->dev, 7);
	control_set(s, 0);
	assert_false(pci_msix_enabled(s->dev));
	mask_set(s, 7, false);
	assert_int_equal(fake_delivered_all(&s->f.hv), 0);
	assert_true(pending(s, 7));
	control_set(s, PCI_MSIX_CONTROL_ENABLE);
	assert_int_equal(fake_delivered(&s->f.hv, ADDRESS, DATA + 7), 1);
}

static void test_entry_change(void **state)
{
	struct subject *s = *state;
	uint64_t other = ADDRESS + 0x2000;

	/* While masked: the route follows at unmask, and what is pending goes to the new place. */
	vector_start(s, 0);
	pci_msix_trigger(s->dev, 0);
	mask_set(s, 0, true);
	pci_msix_trigger(s->dev, 0);
	entry_set(s, 0, other, 0x55);
	mask_set(s, 0, false);
	assert_int_equal(fake_delivered(&s->f.hv, ADDRESS, DATA), 1);
	assert_int_equal(fake_delivered(&s->f.hv, other, 0x55), 1);
	assert_int_equal(s->f.hv.routes, 2);
	/* While unmasked: every step is routed, the last one stays. */
	entry_set(s, 0, ADDRESS, 0x66);
	pci_msix_trigger(s->dev, 0);
	assert_int_equal(fake_delivered(&s->f.hv, ADDRESS, 0x66), 1);
	assert_int_equal(fake_delivered_all(&s->f.hv), 3);
	assert_int_equal(s->f.hv.created, 1);
}

static void test_host_failures(void **state)
{
	struct subject *s = *state;

	/* No source, then no route: pending, and delivered when it works again. */
	s->f.hv.fail_new = true;
	vector_start(s, 0);
	pci_msix_trigger(s->dev, 0);
	assert_true(pending(s, 0));
	s->f.hv.fail_new = false;
	s->f.hv.fail_route = true;
	mask_set(s, 0, false);
	assert_true(pending(s, 0));
	assert_int_equal(s->f.hv.created, 1);
	s->f.hv.fail_route = false;
	mask_set(s, 0, false);
	assert_int_equal(fake_delivered(&s->f.hv, ADDRESS, DATA), 1);
	/* A change that cannot be routed: nothing goes to the old place. */
	s->f.hv.fail_route = true;
	entry_set(s, 0, ADDRESS, 0x77);
	pci_msix_trigger(s->dev, 0);
	assert_int_equal(fake_delivered_all(&s->f.hv), 1);
	s->f.hv.fail_route = false;
	pci_msix_trigger(s->dev, 0);
	assert_int_equal(fake_delivered(&s->f.hv, ADDRESS, 0x77), 1);
	assert_int_equal(fake_delivered_all(&s->f.hv), 2);
	/* After a failure nothing is known of the route: the old entry is routed anew, too. */
	s->f.hv.fail_route = true;
	mmio_write32(&s->f, entry(0, PCI_MSIX_ENTRY_DATA), 0x88);
	mmio_write32(&s->f, entry(0, PCI_MSIX_ENTRY_DATA), 0x77);
	pci_msix_trigger(s->dev, 0);
	assert_true(pending(s, 0));
	s->f.hv.fail_route = false;
	mask_set(s, 0, false);
	assert_int_equal(fake_delivered(&s->f.hv, ADDRESS, 0x77), 2);
}

static void test_reset(void **state)
{
	struct subject *s = *state;

	vector_start(s, 0);
	pci_msix_trigger(s->dev, 0);
	mask_set(s, 1, true);
	pci_msix_trigger(s->dev, 1);
	pci_host_reset(s->f.host);
	assert_int_equal(s->f.hv.live, 0);
	assert_false(pci_msix_enabled(s->dev));
	ecam_write(&s->f, SLOT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(mmio_read32(&s->f, entry(0, 0)), 0);
	assert_int_equal(mmio_read32(&s->f, entry(0, 12)), 1);
	assert_false(pending(s, 1));
	assert_int_equal(fake_delivered_all(&s->f.hv), 1);
}

static void test_bad_geometry(void **state)
{
	static const struct {
		unsigned int vectors, bar, table, pba;
	} bad[] = {
		{0, 0, 0, 0x800},   {2049, 0, 0, 0xc000}, {1, 1, 0, 0x800},      {1, 6, 0, 0x800},
		{1, 0, 4, 0x800},   {1, 0, 0, 0x802},     {2, 0, 0, 0x18},       {1, 0, 0xfff8, 0},
		{1, 0, 0, 0x10000}, {2048, 0, 0x8008, 0}, {1, 0, 0xfffffff0, 0},
	};
	struct subject *s = *state;
	struct pci_device *dev;
	struct err *err = NULL;
	unsigned int i;

	dev = pci_device_new(AT(s->f.host, -1), "d", &subject_identity, &subject_ops, s, NULL);
	assert_int_equal(pci_add_bar(dev, 0, 64 * KIB, true, false, "b", NULL, NULL, NULL), 0);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_true(pci_add_msix(dev, bad[i].vectors, bad[i].bar, bad[i].table, bad[i].pba,
					 &err) < 0);
		assert_non_null(strstr(err_message(err), "device 'd'"));
		err_free(err);
		err = NULL;
	}
	assert_int_equal(pci_add_msix(dev, 2048, 0, 0, 0x8000, NULL), 0);
	assert_true(pci_add_msix(dev, 1, 0, 0x9000, 0xa000, &err) < 0);
	err_free(err);
	pci_device_free(dev);
}

/*
 * Triggers from two threads while the guest masks, moves and disables: every trigger that found
 * MSI-X enabled leads to a message or is merged with one pending, none goes astray, and none to a
 * place that the table did not name.
 */
struct race {
	struct subject *s;
	atomic_bool *stop;
	unsigned int triggers;
};

static void *race_trigger(void *opaque)
{
	struct race *r = opaque;

	while (!atomic_load(r->stop) || r->triggers < 100) {
		pci_msix_trigger(r->s->dev, 3);
		r->triggers++;
	}
	return NULL;
}

static void test_concurrent_triggers(void **state)
{
	struct subject *s = *state;
	struct fake_hv *hv = &s->f.hv;
	atomic_bool stop = false;
	struct race races[2] = {{s, &stop, 0}, {s, &stop, 0}};
	uint64_t delivered, before, seed = 7;
	pthread_t threads[2];
	unsigned int i;

	vector_start(s, 3);
	for (i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, race_trigger, &races[i]);
	for (i = 0; i < 3000; i++) {
		uint64_t r = test_random(&seed);

		mask_set(s, 3, true);
		before = fake_delivered_all(hv);
		if (r & 1)
			mmio_write32(&s->f, entry(3, PCI_MSIX_ENTRY_DATA), DATA + (r >> 8 & 7));
		if (r & 2)
			control_set(s, r & 4 ? 0
					     : PCI_MSIX_CONTROL_ENABLE |
						       PCI_MSIX_CONTROL_FUNCTION_MASK);
		/* Nothing arrives between mask and unmask. */
		assert_int_equal(fake_delivered_all(hv), before);
		control_set(s, PCI_MSIX_CONTROL_ENABLE);
		mask_set(s, 3, false);
	}
	atomic_store(&stop, true);
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	delivered = fake_delivered_all(hv);
	assert_false(pending(s, 3));
	assert_true(delivered > 0 && delivered <= races[0].triggers + races[1].triggers);
	assert_int_equal(hv->strays, 0);
	for (i = 0; i < hv->delivery_kinds; i++) {
		assert_int_equal(hv->deliveries[i].address, ADDRESS);
		assert_in_range(hv->deliveries[i].data, DATA, DATA + 7);
	}
	/* The last trigger of all is not lost. */
	pci_msix_trigger(s->dev, 3);
	assert_int_equal(fake_delivered_all(hv), delivered + 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_table),
		T(test_delivery),
		T(test_vector_mask),
		T(test_function_mask),
		T(test_bus_master_gates),
		T(test_disable_keeps_pending),
		T(test_entry_change),
		T(test_host_failures),
		T(test_reset),
		T(test_bad_geometry),
		T(test_concurrent_triggers),
	};
#undef T
	return cmocka_run_group_tests(tests, NULL, NULL);
}
