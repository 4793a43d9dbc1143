/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Slots of the root bus: what ACPI's methods read of what came and is asked for, what ejecting does and
 * to what it does nothing, and the same after saving and loading. See vmm/pci/root.c.
 */
#include "fixture.h"

#include <errno.h>
#include <string.h>

#include "base/pack.h"

#define ALL_ONES 0xffffffffu
#define PORT_IO  0x610
#define CAME     (PORT_IO + 0x0)
#define ASKED    (PORT_IO + 0x4)
#define EJECT    (PORT_IO + 0x8)
#define ANSWER   (PORT_IO + 0xc)
#define KEPT     0x100u

#define SLOT 5
#define PORT 3 /* slot of a root port */

struct subject {
	struct pci_fixture f;
	struct pci_port *port;
	struct pci_device *dev, *second; /* functions 0 and 6 of SLOT */
	unsigned int notified, downs;
	uint32_t ejected, kept;
};

static void subject_notify(void *opaque)
{
	struct subject *s = opaque;

	s->notified++;
}

static void subject_ejected(void *opaque, uint32_t slots)
{
	struct subject *s = opaque;

	assert_int_equal(s->ejected & slots, 0);
	s->ejected |= slots;
}

static void subject_kept(void *opaque, uint32_t slots)
{
	struct subject *s = opaque;

	s->kept |= slots;
}

static void subject_down(void *opaque)
{
	struct subject *s = opaque;

	s->downs++;
	/* The host's lock is free. */
	assert_int_equal(pci_device_config(s->dev, PCI_VENDOR_ID, 2), 0x1af4);
}

static const struct pci_device_ops ops = {.link_down = subject_down};

static struct pci_device *function_new(struct subject *s, unsigned int function)
{
	static const struct pci_identity identity = {
		.vendor_id = 0x1af4, .device_id = 0x1058, .intx = true};
	const struct pci_place place = {pci_host_root(s->f.host), SLOT, function, true};
	struct pci_device *dev = pci_device_new(&place, "d", &identity, &ops, s, NULL);

	assert_non_null(dev);
	assert_int_equal(pci_add_bar(dev, 0, 4 * KIB, false, false, "b", NULL, NULL, NULL), 0);
	return dev;
}

static void subject_init(struct subject *s)
{
	const struct pci_port_config port = {.id = "rp",
					     .place = {NULL, PORT, 0, false},
					     .memory_reserve = UINT64_MAX,
					     .prefetch_reserve = UINT64_MAX};
	struct pci_port_config placed = port;

	fixture_init(&s->f);
	pci_host_free(s->f.host);
	s->f.config.slots_port = PORT_IO;
	s->f.config.notify = subject_notify;
	s->f.config.ejected = subject_ejected;
	s->f.config.kept = subject_kept;
	s->f.config.opaque = s;
	s->f.host = pci_host_new(&s->f.config, NULL);
	assert_non_null(s->f.host);
	placed.place.bus = pci_host_root(s->f.host);
	s->port = pci_port_new(&placed, NULL);
	assert_non_null(s->port);
	s->dev = function_new(s, 0);
	s->second = function_new(s, 6);
	assert_int_equal(pci_host_assign(s->f.host, NULL), 0);
	pci_host_reset(s->f.host);
}

static void subject_done(struct subject *s)
{
	pci_device_free(s->second);
	pci_device_free(s->dev);
	pci_port_free(s->port);
	fixture_done(&s->f);
}

static int setup(void **state)
{
	struct subject *s = test_calloc(1, sizeof(*s));

	subject_init(s);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	subject_done(*state);
	test_free(*state);
	return 0;
}

static uint32_t in32(struct subject *s, uint64_t port)
{
	uint64_t value;

	bus_read(s->f.pio, port, 4, &value);
	return (uint32_t)value;
}

static void out32(struct subject *s, uint64_t port, uint32_t value)
{
	bus_write(s->f.pio, port, 4, value);
}

static bool answers(struct subject *s, unsigned int function)
{
	return bdf_read(&s->f, BDF(0, SLOT, function), 0, 4) != ALL_ONES;
}

static void test_told(void **state)
{
	struct subject *s = *state;
	uint64_t value;

	assert_int_equal(pci_root_slots(s->f.host), ~1u & ~(1u << PORT));
	assert_int_equal(in32(s, CAME), 0);
	assert_int_equal(pci_root_plug(s->dev, NULL), 0);
	assert_int_equal(pci_root_request_unplug(s->dev, NULL), 0);
	assert_int_equal(s->notified, 2);
	/* Nothing else reads or takes them. */
	assert_true(bus_read(s->f.pio, CAME, 1, &value));
	assert_int_equal(value, 0xff);
	out32(s, CAME, 0);
	assert_int_equal(in32(s, EJECT), 0);
	assert_int_equal(in32(s, ANSWER), 0);
	assert_int_equal(in32(s, CAME), 1u << SLOT);
	assert_int_equal(in32(s, CAME), 0);
	assert_int_equal(in32(s, ASKED), 1u << SLOT);
	assert_int_equal(in32(s, ASKED), 0);
	/* A reset forgets what was not read. */
	assert_int_equal(pci_root_plug(s->dev, NULL), 0);
	assert_int_equal(pci_root_request_unplug(s->dev, NULL), 0);
	pci_host_reset(s->f.host);
	assert_int_equal(in32(s, CAME) | in32(s, ASKED), 0);
}

/* All functions are silent at once; the owner frees them, and the slot is as new. */
static void test_eject(void **state)
{
	struct subject *s = *state;
	uint64_t gpa = bdf_read(&s->f, BDF(0, SLOT, 0), PCI_BAR0, 4);

	bdf_write(&s->f, BDF(0, SLOT, 0), PCI_COMMAND, 2,
		  PCI_COMMAND_MEMORY | PCI_COMMAND_BUS_MASTER);
	pci_intx_set(s->dev, true);
	assert_true(s->f.hv.line[FAKE_GSI + SLOT % 4]);
	assert_int_equal(mmio_read32(&s->f, gpa), 0);
	assert_true(pci_bus_master(s->dev));
	assert_int_equal(pci_root_request_unplug(s->dev, NULL), 0);
	out32(s, EJECT, 1u << SLOT);
	assert_int_equal(s->ejected, 1u << SLOT);
	assert_int_equal(s->downs, 2);
	assert_false(answers(s, 0) || answers(s, 6));
	assert_false(pci_bus_master(s->dev));
	assert_false(s->f.hv.line[FAKE_GSI + SLOT % 4]);
	assert_int_equal(mmio_read32(&s->f, gpa), ALL_ONES);
	assert_int_equal(in32(s, ASKED), 0);
	/* Once more, and writing to what is not there, does nothing. */
	out32(s, EJECT, 1u << SLOT);
	out32(s, ANSWER, SLOT | KEPT);
	bdf_write(&s->f, BDF(0, SLOT, 0), PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(mmio_read32(&s->f, gpa), ALL_ONES);
	assert_int_equal(s->kept, 0);
	assert_int_equal(s->downs, 2);

	pci_device_free(s->second);
	s->second = NULL;
	assert_false(answers(s, 0));
	pci_device_free(s->dev);
	s->dev = function_new(s, 0);
	assert_true(answers(s, 0));
	/* Addresses are the guest's to give. */
	assert_int_equal(bdf_read(&s->f, BDF(0, SLOT, 0), PCI_BAR0, 4), 0);
	assert_int_equal(pci_root_plug(s->dev, NULL), 0);
	assert_int_equal(in32(s, CAME), 1u << SLOT);
}

static void test_nothing_to_eject(void **state)
{
	struct subject *s = *state;

	out32(s, EJECT, ~(1u << SLOT));
	assert_int_equal(s->ejected, 0);
	assert_true(bdf_read(&s->f, BDF(0, 0, 0), 0, 4) != ALL_ONES);
	assert_true(bdf_read(&s->f, BDF(0, PORT, 0), 0, 4) != ALL_ONES);
	bus_write(s->f.pio, EJECT, 2, 1u << SLOT);
	bus_write(s->f.pio, EJECT + 1, 1, 0xff);
	assert_int_equal(s->ejected, 0);
	assert_true(answers(s, 0));
}

static void test_kept(void **state)
{
	struct subject *s = *state;

	out32(s, ANSWER, SLOT);
	out32(s, ANSWER, (SLOT + 1) | KEPT);
	assert_int_equal(s->kept, 0);
	out32(s, ANSWER, SLOT | KEPT);
	assert_int_equal(s->kept, 1u << SLOT);
	assert_true(answers(s, 0));
}

/* A reset brings back what was ejected and not yet freed. */
static void test_reset(void **state)
{
	struct subject *s = *state;

	out32(s, EJECT, 1u << SLOT);
	assert_false(answers(s, 0));
	pci_host_reset(s->f.host);
	assert_true(answers(s, 0) && answers(s, 6));
	assert_true(bdf_read(&s->f, BDF(0, SLOT, 0), PCI_BAR0, 4) != 0);
}

static void test_none(void **state)
{
	struct pci_fixture f;
	struct pci_device *dev;
	struct err *err = NULL;
	uint64_t value;

	(void)state;
	fixture_init(&f);
	dev = pci_device_new(AT(f.host, 1), "d", &(const struct pci_identity){.vendor_id = 0x1af4},
			     &ops, NULL, NULL);
	assert_non_null(dev);
	assert_int_equal(pci_root_slots(f.host), 0);
	assert_false(bus_read(f.pio, CAME, 4, &value));
	assert_int_equal(pci_root_plug(dev, &err), -ENOTSUP);
	assert_non_null(strstr(err_message(err), "does not support hotplugging"));
	err_free(err);
	assert_int_equal(pci_root_request_unplug(dev, NULL), -ENOTSUP);
	pci_device_free(dev);
	fixture_done(&f);
}

/* ---- saved ---- */

static int load(struct subject *to, const struct pack *saved, uint32_t version, size_t size,
		struct err **err)
{
	struct unpack in = unpack_begin(saved->bytes, size);

	return pci_host_load(to->f.host, version, &in, err);
}

static void test_save(void **state)
{
	struct subject *s = *state, *to = test_calloc(1, sizeof(*to));
	struct pack saved = {0};
	struct err *err = NULL;

	subject_init(to);
	assert_int_equal(pci_root_plug(s->dev, NULL), 0);
	pci_host_save(s->f.host, &saved);
	assert_false(pack_failed(&saved));
	assert_int_equal(load(to, &saved, PCI_HOST_STATE_VERSION, saved.size, NULL), 0);
	assert_int_equal(in32(to, CAME), 1u << SLOT);
	assert_int_equal(in32(to, ASKED), 0);
	/* Version 1 ends before. */
	assert_int_equal(load(to, &saved, 1, saved.size - 12, NULL), 0);
	assert_int_equal(load(to, &saved, 1, saved.size, NULL), -EINVAL);

	/* Ejected there: silent here, and told. */
	pack_done(&saved);
	saved = (struct pack){0};
	out32(s, EJECT, 1u << SLOT);
	pci_host_save(s->f.host, &saved);
	assert_int_equal(load(to, &saved, PCI_HOST_STATE_VERSION, saved.size, NULL), 0);
	assert_int_equal(to->ejected, 1u << SLOT);
	assert_false(answers(to, 0) || answers(to, 6));

	/* Of slots that have no part in this. */
	for (unsigned int field = 1; field <= 3; field++) {
		uint8_t *at = saved.bytes + saved.size - field * 4;
		uint8_t before = *at;

		*at |= 1 << PORT;
		assert_int_equal(load(to, &saved, PCI_HOST_STATE_VERSION, saved.size, &err),
				 -EINVAL);
		assert_non_null(strstr(err_message(err), "slots of the root bus"));
		err_free(err);
		err = NULL;
		*at = before;
	}
	/* Ejected where nothing is. */
	saved.bytes[saved.size - 4] |= 1 << (SLOT + 1);
	assert_int_equal(load(to, &saved, PCI_HOST_STATE_VERSION, saved.size, NULL), -EINVAL);
	pack_done(&saved);
	subject_done(to);
	test_free(to);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_told),  T(test_eject), T(test_nothing_to_eject),    T(test_kept),
		T(test_reset), T(test_save),  cmocka_unit_test(test_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
