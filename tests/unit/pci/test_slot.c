/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Hot-plug: what a guest sees of a device that comes and goes, its interrupts, and what it can do
 * to the slot. See vmm/pci/slot.c.
 */
#include "fixture.h"

#include <errno.h>
#include <string.h>

#define ALL_ONES 0xffffffffu
#define PORT     3 /* its slot on the root bus; its bus is 1 */
#define CONTROL  0x58
#define STATUS   0x5a
#define LINK     0x52

#define ENABLE_ALL                                                                  \
	(PCI_SLOT_ENABLE_BUTTON | PCI_SLOT_ENABLE_PRESENCE | PCI_SLOT_ENABLE_LINK | \
	 PCI_SLOT_ENABLE_INTERRUPT)
#define POWERED (PCI_SLOT_ATTENTION_OFF | PCI_SLOT_INDICATOR_ON)
#define OFF     (PCI_SLOT_ATTENTION_OFF | PCI_SLOT_INDICATOR_OFF | PCI_SLOT_POWER_OFF)
#define ADDRESS 0xfee01000u
#define DATA    0x55u

struct subject {
	struct pci_fixture f;
	struct pci_port *port;
	struct pci_device *dev;
	unsigned int ejected, kept, downs;
};

static void subject_ejected(void *opaque)
{
	struct subject *s = opaque;

	s->ejected++;
}

static void subject_kept(void *opaque)
{
	struct subject *s = opaque;

	s->kept++;
}

static void subject_link_down(void *opaque)
{
	struct subject *s = opaque;

	s->downs++;
	/* Whatever a device waits for, monitors do not wait for it. */
	assert_int_equal(pci_device_config(s->dev, PCI_VENDOR_ID, 2), 0x1af4);
}

static const struct pci_device_ops ops = {.link_down = subject_link_down};
static const struct pci_identity identity = {
	.vendor_id = 0x1af4, .device_id = 0x1058, .express = true, .intx = true};

static void device_add(struct subject *s)
{
	const struct pci_place place = {.bus = pci_port_bus(s->port), .slot = -1};

	assert_true(pci_port_is_empty(s->port));
	s->dev = pci_device_new(&place, "d", &identity, &ops, s, NULL);
	assert_non_null(s->dev);
	assert_int_equal(pci_add_bar(s->dev, 0, 4 * KIB, false, false, "b", NULL, NULL, NULL), 0);
	assert_false(pci_port_is_empty(s->port));
}

static void device_remove(struct subject *s)
{
	pci_device_free(s->dev);
	s->dev = NULL;
}

static int setup(void **state)
{
	struct subject *s = test_calloc(1, sizeof(*s));

	fixture_init(&s->f);
	s->port = pci_port_new(
		&(const struct pci_port_config){
			.id = "rp",
			.place = {pci_host_root(s->f.host), PORT, 0, false},
			.hotplug = true,
			.memory_reserve = UINT64_MAX,
			.prefetch_reserve = UINT64_MAX,
			.ejected = subject_ejected,
			.kept = subject_kept,
			.opaque = s,
		},
		NULL);
	assert_non_null(s->port);
	assert_true(pci_port_can_hotplug(s->port));
	assert_int_equal(pci_host_assign(s->f.host, NULL), 0);
	pci_host_reset(s->f.host);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct subject *s = *state;

	pci_device_free(s->dev);
	pci_port_free(s->port);
	fixture_done(&s->f);
	test_free(s);
	return 0;
}

static void control_set(struct subject *s, uint16_t value)
{
	ecam_write(&s->f, PORT, CONTROL, 2, value);
}

static uint16_t status(struct subject *s)
{
	return (uint16_t)ecam_read(&s->f, PORT, STATUS, 2);
}

static void status_clear(struct subject *s, uint16_t events)
{
	ecam_write(&s->f, PORT, STATUS, 2, events);
}

static bool answers(struct subject *s)
{
	uint32_t id = bdf_read(&s->f, BDF(1, 0, 0), 0, 4);

	assert_true(id == 0x10581af4 || id == ALL_ONES);
	return id != ALL_ONES;
}

/* As a driver does: MSI-X on, events on. */
static void driver_start(struct subject *s, uint16_t slot)
{
	uint64_t table = ecam_read(&s->f, PORT, PCI_BAR0, 4);

	ecam_write(&s->f, PORT, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_BUS_MASTER);
	mmio_write32(&s->f, table, ADDRESS);
	mmio_write32(&s->f, table + 8, DATA);
	mmio_write32(&s->f, table + 12, 0);
	ecam_write(&s->f, PORT, capability_find(&s->f, PORT, PCI_CAP_ID_MSIX) + 2, 2,
		   PCI_MSIX_CONTROL_ENABLE);
	control_set(s, slot | ENABLE_ALL);
	status_clear(s, PCI_SLOT_STATUS_COMMAND);
}

static uint64_t messages(struct subject *s)
{
	return fake_delivered(&s->f.hv, ADDRESS, DATA);
}

/* The whole way of a device: in, powered, asked to go, out. */
static void test_plug_and_unplug(void **state)
{
	struct subject *s = *state;

	driver_start(s, OFF);
	assert_int_equal(status(s), 0);
	device_add(s);
	assert_int_equal(status(s), 0);
	assert_int_equal(pci_port_plug(s->port, NULL), 0);
	assert_int_equal(status(s), PCI_SLOT_STATUS_PRESENT | PCI_SLOT_STATUS_PRESENCE |
					    PCI_SLOT_STATUS_BUTTON);
	assert_int_equal(messages(s), 1);
	assert_false(answers(s));
	status_clear(s, PCI_SLOT_STATUS_PRESENCE | PCI_SLOT_STATUS_BUTTON);
	assert_int_equal(status(s), PCI_SLOT_STATUS_PRESENT);
	/* Power on: the link comes up, which is an event, and the command completed. */
	control_set(s, POWERED | ENABLE_ALL);
	assert_int_equal(status(s),
			 PCI_SLOT_STATUS_PRESENT | PCI_SLOT_STATUS_COMMAND | PCI_SLOT_STATUS_LINK);
	assert_int_equal(messages(s), 2);
	assert_int_equal(ecam_read(&s->f, PORT, LINK, 2), 0x2011);
	assert_true(answers(s));
	status_clear(s, ALL_ONES & 0xffff);
	assert_int_equal(status(s), PCI_SLOT_STATUS_PRESENT);

	assert_int_equal(pci_port_request_unplug(s->port, NULL), 0);
	assert_int_equal(status(s), PCI_SLOT_STATUS_PRESENT | PCI_SLOT_STATUS_BUTTON);
	assert_int_equal(messages(s), 3);
	status_clear(s, PCI_SLOT_STATUS_BUTTON);
	/* It blinks; then power off: silence at once, and out with the indicator. */
	control_set(s, (POWERED & ~PCI_SLOT_INDICATOR) | PCI_SLOT_INDICATOR_BLINK | ENABLE_ALL);
	assert_true(answers(s));
	control_set(s, (OFF & ~PCI_SLOT_INDICATOR) | PCI_SLOT_INDICATOR_BLINK | ENABLE_ALL);
	assert_false(answers(s));
	assert_int_equal(s->downs, 1);
	assert_int_equal(s->ejected, 0);
	control_set(s, OFF | ENABLE_ALL);
	assert_int_equal(s->ejected, 1);
	assert_int_equal(status(s),
			 PCI_SLOT_STATUS_PRESENCE | PCI_SLOT_STATUS_LINK | PCI_SLOT_STATUS_COMMAND);
	/* It is gone for the guest before it is for the owner. */
	control_set(s, POWERED | ENABLE_ALL);
	assert_false(answers(s));
	control_set(s, OFF | ENABLE_ALL);
	device_remove(s);
	assert_int_equal(s->ejected, 1);
	/* And there is room for the next. */
	status_clear(s, 0xffff);
	device_add(s);
	assert_int_equal(pci_port_plug(s->port, NULL), 0);
	control_set(s, POWERED | ENABLE_ALL);
	assert_true(answers(s));
}

/* A slot that the guest keeps powered: the device is there at once. */
static void test_plug_into_power(void **state)
{
	struct subject *s = *state;

	driver_start(s, POWERED);
	assert_int_equal(ecam_read(&s->f, PORT, LINK, 2), 0);
	device_add(s);
	assert_int_equal(pci_port_plug(s->port, NULL), 0);
	assert_int_equal(status(s), PCI_SLOT_STATUS_PRESENT | PCI_SLOT_STATUS_PRESENCE |
					    PCI_SLOT_STATUS_BUTTON | PCI_SLOT_STATUS_LINK);
	assert_int_equal(messages(s), 1);
	assert_true(answers(s));
	/* Vanishes under the guest's hands: nothing but events. */
	status_clear(s, 0xffff);
	device_remove(s);
	assert_int_equal(status(s), PCI_SLOT_STATUS_PRESENCE | PCI_SLOT_STATUS_LINK);
	assert_int_equal(messages(s), 2);
	assert_int_equal(s->ejected, 0);
	assert_false(answers(s));
}

/* Power alone may come back; the device behind it was reset. */
static void test_power_cycle(void **state)
{
	struct subject *s = *state;

	driver_start(s, POWERED);
	device_add(s);
	assert_int_equal(pci_port_plug(s->port, NULL), 0);
	bdf_write(&s->f, BDF(1, 0, 0), 0x0c, 1, 0x11);
	control_set(s, POWERED | PCI_SLOT_POWER_OFF);
	assert_false(answers(s));
	control_set(s, POWERED);
	assert_true(answers(s));
	assert_int_equal(bdf_read(&s->f, BDF(1, 0, 0), 0x0c, 1), 0);
	assert_int_equal(s->downs, 1);
	assert_int_equal(s->ejected, 0);
	/* The indicator first, then the power, is the same. */
	control_set(s, PCI_SLOT_INDICATOR_OFF);
	assert_true(answers(s));
	control_set(s, PCI_SLOT_INDICATOR_OFF | PCI_SLOT_POWER_OFF);
	assert_int_equal(s->ejected, 1);
}

/* A driver that writes the state of an unpowered slot again takes nothing out of it. */
static void test_off_again_ejects_nothing(void **state)
{
	struct subject *s = *state;

	driver_start(s, OFF);
	device_add(s);
	assert_int_equal(pci_port_plug(s->port, NULL), 0);
	control_set(s, OFF | ENABLE_ALL);
	ecam_write(&s->f, PORT, CONTROL + 1, 1, OFF >> 8);
	assert_int_equal(s->ejected, 0);
	assert_true(status(s) & PCI_SLOT_STATUS_PRESENT);
	/* But whoever asks for it back gets it without the guest. */
	assert_int_equal(pci_port_request_unplug(s->port, NULL), 0);
	assert_int_equal(s->ejected, 1);
	assert_int_equal(status(s) & PCI_SLOT_STATUS_PRESENT, 0);
	assert_int_equal(pci_port_request_unplug(s->port, NULL), 0);
	assert_int_equal(s->ejected, 1);
}

static void test_busy(void **state)
{
	struct subject *s = *state;
	struct err *err = NULL;

	driver_start(s, POWERED);
	device_add(s);
	assert_int_equal(pci_port_plug(s->port, NULL), 0);
	control_set(s, PCI_SLOT_INDICATOR_BLINK);
	status_clear(s, 0xffff);
	assert_int_equal(pci_port_request_unplug(s->port, &err), -EBUSY);
	assert_non_null(strstr(err_message(err), "'rp'"));
	err_free(err);
	assert_int_equal(status(s), PCI_SLOT_STATUS_PRESENT);
}

/* Blinking ends with the device still there: on its arrival, and when the guest says no. */
static void test_kept(void **state)
{
	struct subject *s = *state;

	driver_start(s, OFF);
	control_set(s, PCI_SLOT_INDICATOR_BLINK | PCI_SLOT_POWER_OFF);
	control_set(s, OFF);
	assert_int_equal(s->kept, 0);
	device_add(s);
	assert_int_equal(pci_port_plug(s->port, NULL), 0);
	control_set(s, PCI_SLOT_INDICATOR_BLINK);
	control_set(s, POWERED);
	assert_int_equal(s->kept, 1);
	assert_int_equal(pci_port_request_unplug(s->port, NULL), 0);
	control_set(s, PCI_SLOT_INDICATOR_BLINK);
	control_set(s, PCI_SLOT_INDICATOR_BLINK);
	assert_int_equal(s->kept, 1);
	control_set(s, POWERED);
	assert_int_equal(s->kept, 2);
	assert_true(answers(s));
	control_set(s, POWERED);
	control_set(s, PCI_SLOT_INDICATOR_BLINK | PCI_SLOT_POWER_OFF);
	control_set(s, OFF);
	assert_int_equal(s->kept, 2);
	assert_int_equal(s->ejected, 1);
}

static void test_no_hotplug(void **state)
{
	struct subject *s = *state;
	const struct pci_port_config config = {.id = "fixed",
					       .place = {pci_host_root(s->f.host), 9, 0, false}};
	struct pci_port *port = pci_port_new(&config, NULL);
	struct err *err = NULL;

	assert_false(pci_port_can_hotplug(port));
	assert_int_equal(pci_port_plug(port, &err), -ENOTSUP);
	assert_string_equal(err_message(err), "Bus 'fixed' does not support hotplugging");
	err_free(err);
	err = NULL;
	assert_int_equal(pci_port_request_unplug(port, &err), -ENOTSUP);
	err_free(err);
	pci_port_free(port);
}

/* Each event needs its enable and the common one; masked ones are told when they are enabled. */
static void test_enables(void **state)
{
	static const struct {
		uint16_t enable, event;
	} events[] = {
		{PCI_SLOT_ENABLE_BUTTON, PCI_SLOT_STATUS_BUTTON},
		{PCI_SLOT_ENABLE_PRESENCE, PCI_SLOT_STATUS_PRESENCE},
		{PCI_SLOT_ENABLE_LINK, PCI_SLOT_STATUS_LINK},
		{PCI_SLOT_ENABLE_COMMAND, PCI_SLOT_STATUS_COMMAND},
	};
	struct subject *s = *state;
	unsigned int i;
	uint64_t before;

	driver_start(s, POWERED);
	control_set(s, POWERED);
	device_add(s);
	assert_int_equal(pci_port_plug(s->port, NULL), 0);
	assert_int_equal(messages(s), 0);
	for (i = 0; i < ARRAY_SIZE(events); i++) {
		before = messages(s);
		/* Only what is set here is. */
		status_clear(s, (uint16_t)~events[i].event);
		control_set(s, POWERED | events[i].enable);
		assert_int_equal(messages(s), before);
		control_set(s, POWERED | events[i].enable | PCI_SLOT_ENABLE_INTERRUPT);
		assert_int_equal(messages(s), before + 1);
		/* Once: it is a level that became high. */
		control_set(s, POWERED | events[i].enable | PCI_SLOT_ENABLE_INTERRUPT);
		assert_int_equal(messages(s), before + 1);
		status_clear(s, events[i].event);
		control_set(s, POWERED);
		status_clear(s, 0xffff);
		/* For the next round. */
		pci_device_free(s->dev);
		s->dev = NULL;
		device_add(s);
		assert_int_equal(pci_port_plug(s->port, NULL), 0);
	}
}

/* Without MSI-X: the pin, until the event is cleared. */
static void test_wired(void **state)
{
	struct subject *s = *state;
	const bool *line = &s->f.hv.line[FAKE_GSI + PORT];

	control_set(s, OFF | ENABLE_ALL);
	device_add(s);
	assert_int_equal(pci_port_plug(s->port, NULL), 0);
	assert_true(*line);
	status_clear(s, PCI_SLOT_STATUS_BUTTON);
	assert_true(*line);
	status_clear(s, PCI_SLOT_STATUS_PRESENCE);
	assert_false(*line);
	pci_port_request_unplug(s->port, NULL);
	assert_true(*line);
	pci_host_reset(s->f.host);
	assert_false(*line);
}

/* Power-on state again: nothing pending, what is on the bus is plugged, powered, and answers. */
static void test_reset(void **state)
{
	struct subject *s = *state;

	driver_start(s, OFF);
	device_add(s);
	assert_int_equal(pci_port_plug(s->port, NULL), 0);
	pci_host_reset(s->f.host);
	assert_int_equal(status(s), PCI_SLOT_STATUS_PRESENT);
	assert_int_equal(ecam_read(&s->f, PORT, CONTROL, 2), POWERED);
	assert_true(answers(s));
	/* Its BAR has an address now, inside the window. */
	assert_int_equal(bdf_read(&s->f, BDF(1, 0, 0), PCI_BAR0, 4) >> 20,
			 ecam_read(&s->f, PORT, PCI_MEMORY_BASE, 2) >> 4);
	device_remove(s);
	pci_host_reset(s->f.host);
	assert_int_equal(status(s), 0);
	assert_int_equal(ecam_read(&s->f, PORT, CONTROL, 2), OFF);
}

/*
 * Whatever is written to the port, in whatever sizes: the rules of slot.c hold, and the owner is
 * told of each device once at most.
 */
static void test_random_writes(void **state)
{
	struct subject *s = *state;
	uint64_t seed = 88172645463325252;
	unsigned int round, ejected = 0;

	driver_start(s, OFF);
	for (round = 0; round < 200000; round++) {
		uint64_t r = test_random(&seed);
		unsigned int size = 1u << (r & 3);
		unsigned int reg = r & 0x10 ? CONTROL & ~3u : (unsigned int)(r >> 8) & 0xfc;

		if (r % 101 == 0 && s->dev)
			pci_port_request_unplug(s->port, NULL);
		if (s->ejected != ejected) {
			assert_int_equal(s->ejected, ejected + 1);
			assert_non_null(s->dev);
			device_remove(s);
			ejected = s->ejected;
		}
		if (!s->dev && r % 13 == 0) {
			device_add(s);
			assert_int_equal(pci_port_plug(s->port, NULL), 0);
		}
		bus_write(s->f.mmio, ECAM_BASE + (PORT << 15) + reg + (r >> 16 & 3), size, r >> 20);
		/* The bus keeps its number, or it could not be looked at. */
		ecam_write(&s->f, PORT, PCI_SECONDARY_BUS, 2, 0x0101);
		if (answers(s)) {
			uint16_t control = (uint16_t)ecam_read(&s->f, PORT, CONTROL, 2);

			assert_true(s->dev && s->ejected == ejected);
			assert_false(control & PCI_SLOT_POWER_OFF);
			assert_true(status(s) & PCI_SLOT_STATUS_PRESENT);
		}
	}
	/* It took part. */
	assert_true(ejected > 100);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_plug_and_unplug),
		T(test_plug_into_power),
		T(test_power_cycle),
		T(test_off_again_ejects_nothing),
		T(test_busy),
		T(test_kept),
		T(test_no_hotplug),
		T(test_enables),
		T(test_wired),
		T(test_reset),
		T(test_random_writes),
	};
#undef T
	return cmocka_run_group_tests(tests, NULL, NULL);
}
