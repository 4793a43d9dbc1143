/* SPDX-License-Identifier: BSD-3-Clause */
/* Wired interrupts: swizzle, sharing, the bits that gate them. See vmm/pci/intx.c. */
#include "fixture.h"

struct subject {
	struct pci_fixture f;
	struct pci_device *a, *b, *other; /* slots 1, 5 (one input) and 6 (the next) */
};

static const struct pci_device_ops subject_ops;

static struct pci_device *device_new(struct subject *s, int slot, bool intx)
{
	struct pci_identity identity = {.vendor_id = 1, .intx = intx};
	struct pci_device *dev;

	dev = pci_device_new(AT(s->f.host, slot), "d", &identity, &subject_ops, s, NULL);
	assert_non_null(dev);
	assert_int_equal(pci_add_bar(dev, 0, 4 * KIB, false, false, "b", NULL, NULL, NULL), 0);
	assert_int_equal(pci_add_msix(dev, 1, 0, 0, 0x800, NULL), 0);
	return dev;
}

static int setup(void **state)
{
	struct subject *s = test_calloc(1, sizeof(*s));

	fixture_init(&s->f);
	s->a = device_new(s, 1, true);
	s->b = device_new(s, 5, true);
	s->other = device_new(s, 6, true);
	pci_host_reset(s->f.host);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct subject *s = *state;

	pci_device_free(s->a);
	pci_device_free(s->b);
	pci_device_free(s->other);
	fixture_done(&s->f);
	test_free(s);
	return 0;
}

static void test_swizzle(void **state)
{
	struct subject *s = *state;

	pci_intx_set(s->a, true);
	assert_true(s->f.hv.line[FAKE_GSI + 1]);
	pci_intx_set(s->other, true);
	assert_true(s->f.hv.line[FAKE_GSI + 2]);
	pci_intx_set(s->a, false);
	pci_intx_set(s->other, false);
	assert_false(s->f.hv.line[FAKE_GSI + 1]);
	assert_int_equal(ecam_read(&s->f, 1, PCI_INTERRUPT_LINE, 1), FAKE_GSI + 1);
	assert_int_equal(ecam_read(&s->f, 6, PCI_INTERRUPT_LINE, 1), FAKE_GSI + 2);
}

static void test_sharing(void **state)
{
	struct subject *s = *state;
	const bool *line = &s->f.hv.line[FAKE_GSI + 1];

	pci_intx_set(s->a, true);
	pci_intx_set(s->a, true);
	pci_intx_set(s->b, true);
	assert_int_equal(s->f.hv.line_changes, 1);
	pci_intx_set(s->a, false);
	assert_true(*line);
	assert_int_equal(ecam_read(&s->f, 1, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, 0);
	assert_int_equal(ecam_read(&s->f, 5, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT,
			 PCI_STATUS_INTERRUPT);
	pci_intx_set(s->b, false);
	assert_false(*line);
	assert_int_equal(s->f.hv.line_changes, 2);
	/* A device that goes while it asserts lets go. */
	pci_intx_set(s->b, true);
	pci_device_free(s->b);
	s->b = NULL;
	assert_false(*line);
}

static void test_disable_bit(void **state)
{
	struct subject *s = *state;
	const bool *line = &s->f.hv.line[FAKE_GSI + 1];

	pci_intx_set(s->a, true);
	ecam_write(&s->f, 1, PCI_COMMAND, 2, PCI_COMMAND_INTX_DISABLE);
	assert_false(*line);
	/* Status still shows what the device wants. */
	assert_int_equal(ecam_read(&s->f, 1, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT,
			 PCI_STATUS_INTERRUPT);
	/* The neighbour is not concerned. */
	pci_intx_set(s->b, true);
	assert_true(*line);
	pci_intx_set(s->b, false);
	pci_intx_set(s->a, false);
	pci_intx_set(s->a, true);
	assert_false(*line);
	ecam_write(&s->f, 1, PCI_COMMAND, 2, 0);
	assert_true(*line);
	pci_host_reset(s->f.host);
	assert_false(*line);
	assert_int_equal(ecam_read(&s->f, 1, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, 0);
}

static void test_msix_takes_over(void **state)
{
	struct subject *s = *state;
	const bool *line = &s->f.hv.line[FAKE_GSI + 1];
	unsigned int cap = capability_find(&s->f, 1, PCI_CAP_ID_MSIX);

	pci_intx_set(s->a, true);
	assert_true(*line);
	ecam_write(&s->f, 1, cap + PCI_MSIX_CONTROL, 2, PCI_MSIX_CONTROL_ENABLE);
	assert_false(*line);
	ecam_write(&s->f, 1, cap + PCI_MSIX_CONTROL, 2, 0);
	assert_true(*line);
	pci_intx_set(s->a, false);
}

static void test_no_pin(void **state)
{
	struct subject *s = *state;
	struct pci_device *dev = device_new(s, 9, false);

	pci_intx_set(dev, true);
	assert_false(s->f.hv.line[FAKE_GSI + 1]);
	assert_int_equal(ecam_read(&s->f, 9, PCI_INTERRUPT_PIN, 1), 0);
	assert_int_equal(ecam_read(&s->f, 9, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT, 0);
	pci_device_free(dev);
}

struct race {
	struct pci_device *dev;
};

static void *race_toggle(void *opaque)
{
	struct race *r = opaque;
	unsigned int i;

	for (i = 0; i < 2000; i++) {
		pci_intx_set(r->dev, true);
		pci_intx_set(r->dev, false);
	}
	return NULL;
}

/* Two devices on one input from two threads while the guest toggles INTx Disable of one. */
static void test_concurrent_levels(void **state)
{
	struct subject *s = *state;
	struct race a = {s->a}, b = {s->b};
	pthread_t thread_a, thread_b;
	unsigned int i;

	pthread_create(&thread_a, NULL, race_toggle, &a);
	pthread_create(&thread_b, NULL, race_toggle, &b);
	for (i = 0; i < 2000; i++) {
		ecam_write(&s->f, 1, PCI_COMMAND, 2, i & 1 ? 0 : PCI_COMMAND_INTX_DISABLE);
		ecam_read(&s->f, 1, PCI_STATUS, 2);
	}
	pthread_join(thread_a, NULL);
	pthread_join(thread_b, NULL);
	assert_false(s->f.hv.line[FAKE_GSI + 1]);
	pci_intx_set(s->a, true);
	assert_true(s->f.hv.line[FAKE_GSI + 1]);
	pci_intx_set(s->a, false);
	assert_false(s->f.hv.line[FAKE_GSI + 1]);
	assert_int_equal(s->f.hv.line_changes % 2, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_swizzle),         T(test_sharing), T(test_disable_bit),
		T(test_msix_takes_over), T(test_no_pin),  T(test_concurrent_levels),
	};
#undef T
	return cmocka_run_group_tests(tests, NULL, NULL);
}
