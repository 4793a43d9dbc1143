/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The PIIX3's ISA bridge and USB host controller, by what guests read and write: see piix3.h. The
 * clock is the test's own.
 */
#include "tests/unit/pci/fixture.h"

#include <errno.h>
#include <string.h>

#include "base/pack.h"
#include "tests/unit/saved_test.h"
#include "vmm/piix3/piix3.h"

#define MS UINT64_C(1000000)

#define UHCI   BDF(0, PIIX3_SLOT, PIIX3_UHCI_FUNCTION)
#define BRIDGE BDF(0, PIIX3_SLOT, 0)
#define LEGSUP 0xc0
#define SLOTS  0x610 /* registers of the root bus's slots */
#define EJECT  0x8

/* Registers, from the BAR's start. */
enum {
	USBCMD = 0x00,
	USBSTS = 0x02,
	USBINTR = 0x04,
	FRNUM = 0x06,
	FRBASEADD = 0x08,
	SOFMOD = 0x0c,
	PORTSC1 = 0x10,
	PORTSC2 = 0x12,
	HALTED = 0x20,
};

struct world {
	struct pci_fixture f;
	struct piix3_bridge *bridge;
	struct piix3_uhci *uhci;
	uint64_t now_ns;
};

static uint64_t world_now(void *opaque)
{
	return ((const struct world *)opaque)->now_ns;
}

static void world_notify(void *opaque)
{
	(void)opaque;
}

static int setup(void **state)
{
	struct world *w = test_calloc(1, sizeof(*w));
	struct pci_place place = {.slot = PIIX3_SLOT, .function = PIIX3_UHCI_FUNCTION};

	w->now_ns = 12345678;
	fixture_init(&w->f);
	pci_host_free(w->f.host);
	w->f.config.slots_port = SLOTS;
	w->f.config.notify = world_notify;
	w->f.host = pci_host_new(&w->f.config, NULL);
	assert_non_null(w->f.host);
	place.bus = pci_host_root(w->f.host);
	w->bridge = piix3_bridge_new(w->f.host, NULL);
	w->uhci = piix3_uhci_new(&place, "usb", world_now, w, NULL);
	assert_true(w->bridge && w->uhci);
	assert_int_equal(pci_host_assign(w->f.host, NULL), 0);
	pci_host_reset(w->f.host);
	bdf_write(&w->f, UHCI, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_BUS_MASTER);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	/* Nothing interrupts, whatever was done. */
	for (unsigned int i = 0; i < FAKE_LINES; i++)
		assert_false(w->f.hv.line[i]);
	piix3_uhci_free(w->uhci);
	piix3_bridge_free(w->bridge);
	fixture_done(&w->f);
	test_free(w);
	return 0;
}

static uint32_t in(struct world *w, unsigned int reg, unsigned int size)
{
	uint64_t value;

	assert_true(bus_read(w->f.pio, PCI_IO_FIRST + reg, size, &value));
	return (uint32_t)value;
}

static void out(struct world *w, unsigned int reg, unsigned int size, uint32_t value)
{
	assert_true(bus_write(w->f.pio, PCI_IO_FIRST + reg, size, value));
}

static void assert_power_on(struct world *w)
{
	assert_int_equal(in(w, USBCMD, 2), 0);
	assert_int_equal(in(w, USBSTS, 2), HALTED);
	assert_int_equal(in(w, USBINTR, 2), 0);
	assert_int_equal(in(w, FRNUM, 2), 0);
	assert_int_equal(in(w, FRBASEADD, 4), 0);
	assert_int_equal(in(w, SOFMOD, 1), 0x40);
	assert_int_equal(in(w, PORTSC1, 2), 0x80);
	assert_int_equal(in(w, PORTSC2, 2), 0x80);
}

static void fill(struct world *w)
{
	out(w, FRBASEADD, 4, 0x12345000);
	out(w, SOFMOD, 1, 0x41);
	out(w, USBINTR, 2, 0xf);
	out(w, FRNUM, 2, 0x123);
	out(w, PORTSC2, 2, 0x1200);
	out(w, USBCMD, 2, 0xc1);
}

static void test_identity(void **state)
{
	struct world *w = *state;

	assert_int_equal(bdf_read(&w->f, BRIDGE, PCI_VENDOR_ID, 4), 0x70008086);
	assert_int_equal(bdf_read(&w->f, BRIDGE, PCI_REVISION_ID, 4), 0x06010000);
	assert_int_equal(bdf_read(&w->f, BRIDGE, PCI_HEADER_TYPE, 1), PCI_HEADER_MULTIFUNCTION);
	assert_int_equal(bdf_read(&w->f, UHCI, PCI_VENDOR_ID, 4), 0x70208086);
	assert_int_equal(bdf_read(&w->f, UHCI, PCI_REVISION_ID, 4), 0x0c030001);
	assert_int_equal(bdf_read(&w->f, UHCI, PCI_BAR0 + 16, 4), PCI_IO_FIRST | PCI_BAR_IO);
	assert_int_equal(bdf_read(&w->f, UHCI, PCI_INTERRUPT_PIN, 1), 4);
	/* Pin D of slot 1 goes where pin A of slot 4 does. */
	assert_int_equal(bdf_read(&w->f, UHCI, PCI_INTERRUPT_LINE, 1), FAKE_GSI);
	assert_int_equal(bdf_read(&w->f, UHCI, 0x60, 1), 0x10);
	assert_int_equal(bdf_read(&w->f, UHCI, PCI_CAPABILITIES, 1), 0);
}

static void test_bridge(void **state)
{
	struct world *w = *state;

	assert_int_equal(bdf_read(&w->f, BRIDGE, PCI_COMMAND, 2), 7);
	bdf_write(&w->f, BRIDGE, PCI_COMMAND, 2, 0);
	assert_int_equal(bdf_read(&w->f, BRIDGE, PCI_COMMAND, 2), 7);
	assert_int_equal(bdf_read(&w->f, BRIDGE, 0x60, 4), 0x80808080);
	bdf_write(&w->f, BRIDGE, 0x61, 1, 0x7b);
	assert_int_equal(bdf_read(&w->f, BRIDGE, 0x60, 4), 0x80800b80);
	pci_host_reset(w->f.host);
	assert_int_equal(bdf_read(&w->f, BRIDGE, 0x60, 4), 0x80808080);
}

static void test_legacy_support(void **state)
{
	struct world *w = *state;

	assert_int_equal(bdf_read(&w->f, UHCI, LEGSUP, 2), 0x2000);
	bdf_write(&w->f, UHCI, LEGSUP, 2, 0xffff);
	assert_int_equal(bdf_read(&w->f, UHCI, LEGSUP, 2), 0x20bf);
	/* What Linux writes when it takes the controller over, and then. */
	bdf_write(&w->f, UHCI, LEGSUP, 2, 0x8f00);
	assert_int_equal(bdf_read(&w->f, UHCI, LEGSUP, 2), 0);
	bdf_write(&w->f, UHCI, LEGSUP, 2, 0x2000);
	assert_int_equal(bdf_read(&w->f, UHCI, LEGSUP, 2), 0x2000);
}

static void test_masks(void **state)
{
	struct world *w = *state;

	assert_power_on(w);
	out(w, USBINTR, 2, 0xffff);
	assert_int_equal(in(w, USBINTR, 2), 0xf);
	out(w, FRNUM, 2, 0xffff);
	assert_int_equal(in(w, FRNUM, 2), 0x7ff);
	out(w, FRBASEADD, 4, 0xffffffff);
	assert_int_equal(in(w, FRBASEADD, 4), 0xfffff000);
	out(w, SOFMOD, 1, 0xff);
	assert_int_equal(in(w, SOFMOD, 1), 0x7f);
	out(w, USBCMD, 2, 0xfff8);
	assert_int_equal(in(w, USBCMD, 2), 0xf8);
	out(w, USBSTS, 2, 0xffff);
	assert_int_equal(in(w, USBSTS, 2), HALTED);
	for (unsigned int reg = 0x14; reg < 0x20; reg += 4) {
		out(w, reg, 4, UINT32_MAX);
		assert_int_equal(in(w, reg, 4), 0); /* a third port would have bit 7 */
	}
}

static void test_sizes(void **state)
{
	struct world *w = *state;

	/* One byte of a register of 16 bits changes nothing. */
	out(w, USBINTR, 1, 0xf);
	out(w, USBCMD, 1, 1);
	assert_int_equal(in(w, USBINTR, 2), 0);
	assert_int_equal(in(w, USBSTS, 1), HALTED);
	out(w, FRBASEADD + 2, 2, 0x1234);
	out(w, FRBASEADD + 1, 1, 0x56);
	assert_int_equal(in(w, FRBASEADD, 4), 0x12345000);
	assert_int_equal(in(w, FRBASEADD + 2, 1), 0x34);
	out(w, USBINTR, 4, 0x02340005);
	assert_int_equal(in(w, USBINTR, 4), 0x02340005);
	/* At an odd place there is a whole register, and halves that stay. */
	out(w, USBINTR + 1, 4, 0xff077777);
	assert_int_equal(in(w, USBINTR, 4), 0x07770005);
	assert_int_equal(in(w, FRBASEADD, 1), 0);
	assert_int_equal(in(w, PORTSC1, 4), 0x00800080);
}

static void test_frames(void **state)
{
	struct world *w = *state;

	w->now_ns += 100 * MS;
	assert_int_equal(in(w, FRNUM, 2), 0);
	out(w, USBCMD, 2, 0x81);
	assert_int_equal(in(w, USBSTS, 2), 0);
	w->now_ns += MS - 1;
	assert_int_equal(in(w, FRNUM, 2), 0);
	w->now_ns += 1;
	assert_int_equal(in(w, FRNUM, 2), 1);
	w->now_ns += 2046 * MS;
	assert_int_equal(in(w, FRNUM, 2), 2047);
	w->now_ns += MS;
	assert_int_equal(in(w, FRNUM, 2), 0);
	/* Written only while it is halted; and what is written besides Run/Stop costs no time. */
	out(w, FRNUM, 2, 55);
	assert_int_equal(in(w, FRNUM, 2), 0);
	w->now_ns += MS / 2;
	out(w, USBCMD, 2, 0xc1);
	w->now_ns += MS / 2;
	assert_int_equal(in(w, FRNUM, 2), 1);
	out(w, USBCMD, 2, 0xc0);
	assert_int_equal(in(w, USBSTS, 2), HALTED);
	w->now_ns += 1000 * MS;
	assert_int_equal(in(w, FRNUM, 2), 1);
	out(w, FRNUM, 2, 55);
	out(w, USBCMD, 2, 0xc1);
	w->now_ns += 2 * MS;
	assert_int_equal(in(w, FRNUM, 2), 57);
	/* Years later. */
	w->now_ns += UINT64_C(365) * 24 * 3600 * 1000 * MS;
	assert_int_equal(in(w, FRNUM, 2), (57 + UINT64_C(365) * 24 * 3600 * 1000) % 2048);
}

static void test_frame_length(void **state)
{
	struct world *w = *state;

	out(w, USBCMD, 2, 1);
	w->now_ns += 10 * MS;
	out(w, SOFMOD, 1, 0); /* frames of 11936 bit times */
	assert_int_equal(in(w, FRNUM, 2), 10);
	w->now_ns += 1000 * MS;
	assert_int_equal(in(w, FRNUM, 2), 10 + 12000000 / 11936);
	out(w, SOFMOD, 1, 0x7f);
	w->now_ns += 1000 * MS;
	assert_int_equal(in(w, FRNUM, 2), (10 + 12000000 / 11936 + 12000000 / 12063) % 2048);
}

static void test_resets(void **state)
{
	struct world *w = *state;

	fill(w);
	assert_int_equal(in(w, USBCMD, 2), 0xc1);
	out(w, USBCMD, 2, 2);
	assert_int_equal(in(w, PORTSC2, 2), 0x1280); /* not the ports', but for a device's part */
	out(w, PORTSC2, 2, 0);
	assert_power_on(w);
	fill(w);
	out(w, USBCMD, 2, 0xff);
	assert_int_equal(in(w, USBCMD, 2), 4); /* as long as it is kept */
	assert_int_equal(in(w, USBSTS, 2), HALTED);
	out(w, USBCMD, 2, 0);
	assert_power_on(w);
	fill(w);
	pci_host_reset(w->f.host);
	bdf_write(&w->f, UHCI, PCI_COMMAND, 2, PCI_COMMAND_IO);
	assert_power_on(w);
}

static void test_global_suspend(void **state)
{
	struct world *w = *state;

	/* As drivers put a bus to sleep on which there is nobody, and wake it. */
	out(w, USBCMD, 2, 0x48);
	assert_int_equal(in(w, USBCMD, 2), 0x48);
	assert_int_equal(in(w, USBSTS, 2), HALTED);
	out(w, USBCMD, 2, 0x58);
	assert_int_equal(in(w, USBCMD, 2), 0x58);
	out(w, USBCMD, 2, 0x40);
	assert_int_equal(in(w, USBCMD, 2), 0x40);
	assert_int_equal(in(w, USBSTS, 2), HALTED);
}

static void test_ports(void **state)
{
	struct world *w = *state;

	out(w, PORTSC1, 2, 0xffff);
	assert_int_equal(in(w, PORTSC1, 2), 0x12c0); /* neither connected nor enabled, no change */
	assert_int_equal(in(w, PORTSC2, 2), 0x80);
	out(w, PORTSC1, 2, 0x0200);
	assert_int_equal(in(w, PORTSC1, 2), 0x0280);
	out(w, PORTSC1, 2, 0x0004);
	assert_int_equal(in(w, PORTSC1, 2), 0x0080);
}

static void test_stays_in_its_slot(void **state)
{
	struct world *w = *state;

	/* Function 0 is not made twice, nor is there a slot for it. */
	assert_null(piix3_bridge_new(w->f.host, NULL));
	assert_int_equal(pci_root_slots(w->f.host), ~(1u | 1u << PIIX3_SLOT));
	bus_write(w->f.pio, SLOTS + EJECT, 4, UINT32_MAX);
	assert_int_equal(bdf_read(&w->f, UHCI, PCI_VENDOR_ID, 4), 0x70208086);
	assert_int_equal(bdf_read(&w->f, BRIDGE, PCI_VENDOR_ID, 4), 0x70008086);
	assert_int_equal(bdf_read(&w->f, BDF(0, PIIX3_SLOT, 1), PCI_VENDOR_ID, 4), UINT32_MAX);
}

/* ---- saved state ---- */

static struct pack saved(struct world *w)
{
	struct pack out = {0};

	piix3_bridge_save(w->bridge, &out);
	piix3_uhci_save(w->uhci, &out);
	assert_false(pack_failed(&out));
	return out;
}

static int load(struct world *w, const void *bytes, size_t size, struct err **err)
{
	struct unpack in = unpack_begin(bytes, size);
	int ret = piix3_bridge_load(w->bridge, PIIX3_BRIDGE_STATE_VERSION, &in, err);

	return ret ? ret : piix3_uhci_load(w->uhci, PIIX3_UHCI_STATE_VERSION, &in, err);
}

static void test_state(void **state)
{
	struct world *w = *state;
	struct err *err = NULL;
	struct pack first, second;
	int ret;

	fill(w);
	w->now_ns += 5 * MS;
	bdf_write(&w->f, BRIDGE, 0x60, 4, 0x0a0b0c05);
	first = saved(w);
	pci_host_reset(w->f.host);
	w->now_ns += 12345 * MS; /* nobody sees how long it took */
	ret = load(w, first.bytes, first.size, &err);
	assert_loaded(ret, err);
	assert_int_equal(in(w, USBCMD, 2), 0xc1);
	assert_int_equal(in(w, USBSTS, 2), 0);
	assert_int_equal(in(w, FRNUM, 2), 0x123 + 4); /* of 12001 bit times */
	assert_int_equal(in(w, FRBASEADD, 4), 0x12345000);
	assert_int_equal(in(w, PORTSC2, 2), 0x1280);
	assert_int_equal(bdf_read(&w->f, BRIDGE, 0x60, 4), 0x0a0b0c05);
	second = saved(w);
	assert_same_bytes(&first, &second);
	w->now_ns += 2 * MS;
	assert_int_equal(in(w, FRNUM, 2), 0x123 + 5);
	pack_done(&first);
	pack_done(&second);
}

static void test_state_version(void **state)
{
	struct world *w = *state;
	struct unpack in = unpack_begin("", 0);
	struct err *err = NULL;
	int ret = piix3_uhci_load(w->uhci, 2, &in, &err);

	assert_refused(ret, err, "version 2");
	err = NULL;
	ret = piix3_bridge_load(w->bridge, 2, &in, &err);
	assert_refused(ret, err, "version 2");
}

/* What was loaded all the same is what a guest could have made. */
static void load_damaged(void *opaque, const void *bytes, size_t size)
{
	struct world *w = opaque;
	struct err *err = NULL;

	if (load(w, bytes, size, &err)) {
		assert_non_null(err);
		err_free(err);
		return;
	}
	bdf_write(&w->f, UHCI, PCI_BAR0 + 16, 4, PCI_IO_FIRST);
	bdf_write(&w->f, UHCI, PCI_COMMAND, 2, PCI_COMMAND_IO);
	assert_false(w->f.hv.line[FAKE_GSI]);
	assert_int_equal(in(w, USBCMD, 2) & ~0xfdu, 0);
	assert_int_equal(in(w, FRNUM, 2) & ~0x7ffu, 0);
	assert_int_equal(in(w, FRBASEADD, 4) & 0xfff, 0);
	assert_int_equal(in(w, PORTSC1, 4) & ~0x12401240u, 0x00800080);
}

static void test_state_damaged(void **state)
{
	struct world *w = *state;
	struct pack good;

	fill(w);
	good = saved(w);
	each_damage(&good, load_damaged, w);
	pack_done(&good);
	pci_host_reset(w->f.host);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_identity),
		T(test_bridge),
		T(test_legacy_support),
		T(test_masks),
		T(test_sizes),
		T(test_frames),
		T(test_frame_length),
		T(test_resets),
		T(test_global_suspend),
		T(test_ports),
		T(test_stays_in_its_slot),
		T(test_state),
		T(test_state_version),
		T(test_state_damaged),
	};
#undef T
	return cmocka_run_group_tests(tests, NULL, NULL);
}
