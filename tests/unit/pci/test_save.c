/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * PCI state that moves to another machine: registers, message tables, pending messages, wired
 * levels, and slots in the middle of a hot-plug. A guest does whatever it can; then the same steps
 * on both machines must have the same effects. And what a target says that is not the same.
 */
#include "fixture.h"
#include "tests/unit/saved_test.h"

#include <errno.h>

#define PLAIN   1 /* slots on the root bus */
#define HOT     3
#define COLD    5
#define VECTORS 5
#define CAP     20 /* bytes of a capability that the device handles */

/* A root port and what is behind it. */
struct behind {
	struct pci_port *port;
	struct pci_device *dev;
	unsigned int ejected, kept, downs, mapped;
};

struct box {
	struct pci_fixture f;
	struct pci_device *plain;
	unsigned int mapped; /* BARs of the plain device, as bits */
	struct behind hot, cold;
};

/* ---- devices ---- */

static void note_mapped(unsigned int *bits, unsigned int bar, bool mapped)
{
	assert_int_equal(*bits >> bar & 1, !mapped);
	*bits ^= 1u << bar;
}

static void plain_bar_mapped(void *opaque, unsigned int bar, bool mapped, uint64_t gpa)
{
	(void)gpa;
	note_mapped(&((struct box *)opaque)->mapped, bar, mapped);
}

static void behind_bar_mapped(void *opaque, unsigned int bar, bool mapped, uint64_t gpa)
{
	(void)gpa;
	note_mapped(&((struct behind *)opaque)->mapped, bar, mapped);
}

static void behind_link_down(void *opaque)
{
	((struct behind *)opaque)->downs++;
}

static void behind_ejected(void *opaque)
{
	((struct behind *)opaque)->ejected++;
}

static void behind_kept(void *opaque)
{
	((struct behind *)opaque)->kept++;
}

static const struct pci_device_ops plain_ops = {.bar_mapped = plain_bar_mapped};
static const struct pci_device_ops behind_ops = {.bar_mapped = behind_bar_mapped,
						 .link_down = behind_link_down};

static struct pci_device *device_new(const struct pci_place *place, const char *id,
				     uint16_t device_id, unsigned int vectors,
				     const struct pci_device_ops *ops, void *opaque)
{
	const struct pci_identity identity = {
		.vendor_id = 0x1af4, .device_id = device_id, .express = true, .intx = true};
	struct pci_device *dev = pci_device_new(place, id, &identity, ops, opaque, NULL);

	assert_non_null(dev);
	assert_int_equal(pci_add_bar(dev, 0, 64 * KIB, true, true, "a", NULL, NULL, NULL), 0);
	assert_int_equal(pci_add_bar(dev, 2, 4 * KIB, false, false, "b", NULL, NULL, NULL), 0);
	assert_int_equal(pci_add_msix(dev, vectors, 2, 0, 0x800, NULL), 0);
	return dev;
}

static void plain_add(struct box *b, unsigned int slot, const char *id, uint16_t device_id,
		      unsigned int vectors)
{
	static const uint8_t bytes[CAP];

	b->plain = device_new(AT(b->f.host, (int)slot), id, device_id, vectors, &plain_ops, b);
	assert_int_equal(pci_add_capability(b->plain, 9, bytes, CAP, NULL, true, NULL, NULL), 0);
}

static void behind_add(struct behind *b, const char *id)
{
	const struct pci_place place = {.bus = pci_port_bus(b->port), .slot = -1};

	b->dev = device_new(&place, id, 0x1058, VECTORS, &behind_ops, b);
}

static void port_add(struct box *b, struct behind *behind, const char *id, int slot, bool hotplug)
{
	const struct pci_port_config config = {
		.id = id,
		.place = {pci_host_root(b->f.host), slot, 0, false},
		.number = (uint8_t)slot,
		.slot = (uint16_t)slot,
		.hotplug = hotplug,
		.memory_reserve = UINT64_MAX,
		.prefetch_reserve = UINT64_MAX,
		.ejected = behind_ejected,
		.kept = behind_kept,
		.opaque = behind,
	};

	behind->port = pci_port_new(&config, NULL);
	assert_non_null(behind->port);
}

/* A machine that was switched on and never ran. */
static struct box *box_new(bool hot, bool cold)
{
	struct box *b = calloc(1, sizeof(*b));

	fixture_init(&b->f);
	plain_add(b, PLAIN, "plain", 0x1041, VECTORS);
	port_add(b, &b->hot, "hot", HOT, true);
	port_add(b, &b->cold, "cold", COLD, false);
	if (hot)
		behind_add(&b->hot, "hotdev");
	if (cold)
		behind_add(&b->cold, "colddev");
	pci_host_reset(b->f.host);
	return b;
}

static void box_free(struct box *b)
{
	pci_device_free(b->plain);
	pci_device_free(b->hot.dev);
	pci_device_free(b->cold.dev);
	pci_port_free(b->hot.port);
	pci_port_free(b->cold.port);
	fixture_done(&b->f);
	free(b);
}

/* ---- what a guest and the owner do ---- */

static bool is_plugged(struct box *b)
{
	return ecam_read(&b->f, HOT, 0x5a, 2) & PCI_SLOT_STATUS_PRESENT;
}

/* The owner: puts something into the slot, asks for it back, or takes out what was given up. */
static void owner_step(struct box *b, struct dice *dice)
{
	if (b->hot.dev && !is_plugged(b)) {
		pci_device_free(b->hot.dev);
		b->hot.dev = NULL;
	} else if (!b->hot.dev) {
		behind_add(&b->hot, "hotdev");
		assert_int_equal(pci_port_plug(b->hot.port, NULL), 0);
	} else if (dice_below(dice, 8) == 0) {
		pci_device_free(b->hot.dev);
		b->hot.dev = NULL;
	} else {
		struct err *err = NULL;

		if (pci_port_request_unplug(b->hot.port, &err))
			err_free(err);
	}
}

static void slot_write(struct box *b, struct dice *dice)
{
	static const uint16_t controls[] = {0x01c0, 0x02c0, 0x07c0, 0x06c0, 0x03c0, 0x05c0};
	uint16_t value = controls[dice_below(dice, ARRAY_SIZE(controls))];

	if (dice_below(dice, 2))
		value |= PCI_SLOT_ENABLE_INTERRUPT | PCI_SLOT_ENABLE_BUTTON |
			 PCI_SLOT_ENABLE_PRESENCE | PCI_SLOT_ENABLE_LINK;
	ecam_write(&b->f, HOT, 0x58, 2, value);
}

/* Vector tables; the addresses are interrupt controllers', whose messages are counted. */
static void table_write(struct box *b, struct dice *dice, unsigned int slot, unsigned int bar)
{
	uint64_t table = ecam_read(&b->f, slot, bar, 4) & ~15u;
	unsigned int field = dice_below(dice, 4);
	uint32_t value = field == 0   ? 0xfee00000 | dice_below(dice, 16) << 12
			 : field == 3 ? dice_below(dice, 2)
				      : 0;

	mmio_write32(&b->f, table + 16 * dice_below(dice, VECTORS) + 4 * field, value);
}

static unsigned int any_function(struct dice *dice)
{
	static const unsigned int at[] = {BDF(0, 0, 0),    BDF(0, PLAIN, 0), BDF(0, HOT, 0),
					  BDF(0, COLD, 0), BDF(1, 0, 0),     BDF(2, 0, 0)};

	return at[dice_below(dice, ARRAY_SIZE(at))];
}

/* A register of any function: those that matter more often. */
static void config_write(struct box *b, struct dice *dice)
{
	static const uint16_t commands[] = {6, 6, 6, 2, 4, 0, 0x406};
	unsigned int at = any_function(dice), reg = dice_below(dice, 256) & ~3u;

	switch (dice_below(dice, 4)) {
	case 0:
		bdf_write(&b->f, at, PCI_COMMAND, 2,
			  commands[dice_below(dice, ARRAY_SIZE(commands))]);
		break;
	case 1:
		/* Message Control, behind the PCI Express capability. */
		bdf_write(&b->f, at, PCI_HEADER_SIZE + PCI_EXPRESS_SIZE + 2, 2,
			  dice_below(dice, 4) << 14);
		break;
	case 2:
		bdf_write(&b->f, at, PCI_BRIDGE_CONTROL, 2, dice_below(dice, 4) ? 0 : 0x40);
		break;
	default:
		/* Bus numbers stay what they are, for the test's own sake. */
		if (reg != PCI_PRIMARY_BUS)
			bdf_write(&b->f, at, reg, 4, (uint32_t)dice_u64(dice));
	}
}

static void trigger(struct box *b, struct dice *dice)
{
	struct pci_device *devs[] = {b->plain, b->hot.dev, b->cold.dev};
	struct pci_device *dev = devs[dice_below(dice, 3)];
	unsigned int vector = dice_below(dice, VECTORS);
	bool level = dice_below(dice, 2);

	if (!dev)
		return;
	if (dice_below(dice, 2))
		pci_msix_trigger(dev, vector);
	else
		pci_intx_set(dev, level);
}

static uint64_t step(struct box *b, struct dice *dice)
{
	uint64_t seen = 0;

	switch (dice_below(dice, 12)) {
	case 0:
		owner_step(b, dice);
		break;
	case 1:
	case 2:
		slot_write(b, dice);
		break;
	case 3:
		ecam_write(&b->f, HOT, 0x5a, 2, dice_below(dice, 0x200));
		break;
	case 4:
		table_write(b, dice, PLAIN, PCI_BAR0 + 8);
		break;
	case 5:
		table_write(b, dice, HOT, PCI_BAR0);
		break;
	case 6:
		bus_write(b->f.pio, 0xcf8, 4, dice_u64(dice));
		break;
	case 7:
		seen = bdf_read(&b->f, any_function(dice), dice_below(dice, 256) & ~3u, 4);
		break;
	case 8:
	case 9:
		trigger(b, dice);
		break;
	default:
		config_write(b, dice);
	}
	for (unsigned int i = 0; i < PCI_BARS; i++)
		seen = seen * 3 + b->f.hv.line[FAKE_GSI + i % 4];
	return seen * 31 + b->mapped + 64 * b->hot.mapped + 4096 * b->cold.mapped;
}

/* ---- moving ---- */

enum part { HOST, HOT_PORT, COLD_PORT, PLAIN_DEV, HOT_DEV, COLD_DEV, PARTS };

/* False when there is no such part. */
static bool part_save(struct box *b, enum part part, struct pack *out)
{
	*out = (struct pack){.failed = false};
	switch (part) {
	case HOST:
		pci_host_save(b->f.host, out);
		break;
	case HOT_PORT:
		pci_port_save(b->hot.port, out);
		break;
	case COLD_PORT:
		pci_port_save(b->cold.port, out);
		break;
	case PLAIN_DEV:
		pci_device_save(b->plain, out);
		break;
	case HOT_DEV:
		if (!b->hot.dev)
			return false;
		pci_device_save(b->hot.dev, out);
		break;
	default:
		if (!b->cold.dev)
			return false;
		pci_device_save(b->cold.dev, out);
	}
	assert_false(pack_failed(out));
	return true;
}

static int part_load(struct box *b, enum part part, const void *bytes, size_t size,
		     struct err **err)
{
	struct unpack in = unpack_begin(bytes, size);

	switch (part) {
	case HOST:
		return pci_host_load(b->f.host, PCI_HOST_STATE_VERSION, &in, err);
	case HOT_PORT:
		return pci_port_load(b->hot.port, PCI_PORT_STATE_VERSION, &in, err);
	case COLD_PORT:
		return pci_port_load(b->cold.port, PCI_PORT_STATE_VERSION, &in, err);
	case PLAIN_DEV:
		return pci_device_load(b->plain, &in, err);
	case HOT_DEV:
		return pci_device_load(b->hot.dev, &in, err);
	default:
		return pci_device_load(b->cold.dev, &in, err);
	}
}

static void must_load(struct box *b, enum part part, const struct pack *state)
{
	struct err *err = NULL;
	int ret = part_load(b, part, state->bytes, state->size, &err);

	assert_loaded(ret, err);
}

/* The host first, the others in any order. */
static void move(struct box *to, struct box *from, struct dice *dice)
{
	unsigned int first = dice_below(dice, PARTS - 1);
	struct pack state;

	for (unsigned int i = 0; i < PARTS; i++) {
		enum part part = i ? 1 + (first + i) % (PARTS - 1) : HOST;

		if (!part_save(from, part, &state))
			continue;
		must_load(to, part, &state);
		pack_done(&state);
	}
}

static void same_all(struct box *a, struct box *b)
{
	struct pack x, y;

	for (enum part part = HOST; part < PARTS; part++) {
		bool there = part_save(a, part, &x);

		assert_int_equal(part_save(b, part, &y), there);
		if (there)
			assert_same_bytes(&x, &y);
		pack_done(&x);
		pack_done(&y);
	}
	for (unsigned int i = 0; i < FAKE_LINES; i++)
		assert_int_equal(a->f.hv.line[i], b->f.hv.line[i]);
	assert_int_equal(a->mapped, b->mapped);
	assert_int_equal(a->hot.mapped, b->hot.mapped);
	assert_int_equal(a->cold.mapped, b->cold.mapped);
}

static void test_moves(void **state)
{
	struct dice dice = dice_new();

	(void)state;
	for (unsigned int round = 0; round < 300; round++) {
		struct box *from = box_new(dice_below(&dice, 2), true), *to;
		uint64_t sent, arrived;
		bool given_up;

		for (unsigned int n = dice_below(&dice, 150); n; n--)
			step(from, &dice);
		to = box_new(from->hot.dev, true);
		given_up = from->hot.dev && !is_plugged(from);
		move(to, from, &dice);
		assert_int_equal(to->hot.ejected, given_up);
		assert_int_equal(to->hot.downs + to->cold.downs + to->hot.kept, 0);
		same_all(from, to);
		from->hot.ejected = given_up;
		from->hot.downs = from->cold.downs = from->hot.kept = 0;
		sent = fake_delivered_all(&from->f.hv);
		arrived = fake_delivered_all(&to->f.hv);
		assert_int_equal(arrived, 0);
		for (unsigned int n = 0; n < 100; n++) {
			struct dice same = dice;
			uint64_t one = step(from, &dice), other = step(to, &same);

			if (one != other)
				fail_msg("round %u: step %u differs", round, n);
		}
		same_all(from, to);
		assert_int_equal(fake_delivered_all(&from->f.hv) - sent,
				 fake_delivered_all(&to->f.hv));
		assert_int_equal(from->hot.ejected, to->hot.ejected);
		assert_int_equal(from->hot.kept, to->hot.kept);
		assert_int_equal(from->hot.downs, to->hot.downs);
		assert_int_equal(from->cold.downs, to->cold.downs);
		box_free(from);
		box_free(to);
	}
}

/* A message that the host of the source had no place for is sent when that of the target has one. */
static void test_message_without_a_route(void **state)
{
	struct box *from = box_new(false, false), *to = box_new(false, false);
	struct dice dice = {1};
	uint64_t table;

	(void)state;
	ecam_write(&from->f, PLAIN, PCI_COMMAND, 2, 6);
	ecam_write(&from->f, PLAIN, capability_find(&from->f, PLAIN, PCI_CAP_ID_MSIX) + 2, 2,
		   PCI_MSIX_CONTROL_ENABLE);
	table = ecam_read(&from->f, PLAIN, PCI_BAR0 + 8, 4);
	from->f.hv.fail_route = true;
	mmio_write32(&from->f, table, 0xfee01000);
	mmio_write32(&from->f, table + 12, 0);
	pci_msix_trigger(from->plain, 0);
	move(to, from, &dice);
	assert_int_equal(fake_delivered_all(&from->f.hv), 0);
	assert_int_equal(fake_delivered(&to->f.hv, 0xfee01000, 0), 1);
	from->f.hv.fail_route = false;
	box_free(from);
	box_free(to);
}

/* ---- targets that are not the same ---- */

static void refused_by(struct box *to, struct box *from, enum part part, const char *words)
{
	struct err *err = NULL;
	struct pack state;
	int ret;

	assert_true(part_save(from, part, &state));
	ret = part_load(to, part, state.bytes, state.size, &err);
	assert_refused(ret, err, words);
	pack_done(&state);
}

static void test_other_buses(void **state)
{
	struct box *with = box_new(true, true), *without = box_new(false, true);

	(void)state;
	refused_by(without, with, HOST,
		   "function 0 of slot 0 on bus 'hot' is 'hotdev' (1af4:1058) at the source, and "
		   "nothing here");
	refused_by(with, without, HOST,
		   "function 0 of slot 0 on bus 'hot' is 'hotdev' here, and nothing at the source");
	refused_by(without, with, HOT_PORT, "a device in its slot at the source, and none here");
	box_free(without);
	without = box_new(true, false);
	refused_by(with, without, COLD_PORT, "its slot is empty at the source, and here");
	box_free(without);

	without = box_new(true, true);
	pci_device_free(without->plain);
	plain_add(without, PLAIN + 1, "plain", 0x1041, VECTORS);
	refused_by(without, with, HOST,
		   "function 0 of slot 1 on bus 'pcie.0' is 'plain' (1af4:1041) at the source, and "
		   "nothing here");
	refused_by(without, with, PLAIN_DEV,
		   "function 0 of slot 1 on bus 'pcie.0' at the source, and function 0 of slot 2");
	pci_device_free(without->plain);
	plain_add(without, PLAIN, "other", 0x1044, VECTORS);
	refused_by(without, with, HOST,
		   "is 'plain' (1af4:1041) at the source, and 'other' (1af4:1044) here");
	refused_by(without, with, PLAIN_DEV, "configuration register 0x2 holds 0x41 at the source");
	pci_device_free(without->plain);
	plain_add(without, PLAIN, "plain", 0x1041, VECTORS - 1);
	refused_by(without, with, PLAIN_DEV,
		   "it is another kind of device, or has other properties");
	box_free(with);
	box_free(without);
}

static void test_other_windows(void **state)
{
	struct box *b = box_new(false, false);
	struct pci_host_config config = b->f.config;
	struct pack saved = {.failed = false};
	struct err *err = NULL;
	struct pci_host *host;
	struct unpack in;
	int ret;

	(void)state;
	pci_host_save(b->f.host, &saved);
	config.mmio = bus_new();
	config.pio = bus_new();
	config.window64.size /= 2;
	host = pci_host_new(&config, NULL);
	in = unpack_begin(saved.bytes, saved.size);
	ret = pci_host_load(host, PCI_HOST_STATE_VERSION, &in, &err);
	assert_refused(ret, err, "the PCI window above 4 GiB has 0x1000000000 bytes");
	err = NULL;
	ret = pci_host_load(host, PCI_HOST_STATE_VERSION + 1, &in, &err);
	assert_refused(ret, err, "version 3, and 2 is known here");
	pci_host_free(host);
	bus_free(config.mmio);
	bus_free(config.pio);
	pack_done(&saved);
	box_free(b);
}

/* ---- damage ---- */

struct damaged {
	struct box *b;
	enum part part;
};

static void load_damaged(void *opaque, const void *bytes, size_t size)
{
	struct damaged *d = opaque;
	struct err *err = NULL;

	if (part_load(d->b, d->part, bytes, size, &err)) {
		assert_non_null(err);
		err_free(err);
	}
	pci_msix_trigger(d->b->plain, 1);
	ecam_write(&d->b->f, HOT, 0x58, 2, 0x01c0);
	bdf_read(&d->b->f, BDF(1, 0, 0), 0, 4);
	pci_host_reset(d->b->f.host);
}

static void test_damage(void **state)
{
	struct damaged d = {.b = box_new(true, true)};
	struct box *from = box_new(true, true);
	struct dice dice = {12345};
	struct pack saved;

	(void)state;
	for (unsigned int n = 0; n < 100; n++)
		step(from, &dice);
	while (!from->hot.dev)
		owner_step(from, &dice);
	for (d.part = HOST; d.part < PARTS; d.part++) {
		assert_true(part_save(from, d.part, &saved));
		each_damage(&saved, load_damaged, &d);
		pack_done(&saved);
	}
	move(d.b, from, &dice);
	same_all(d.b, from);
	box_free(from);
	box_free(d.b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_moves),       cmocka_unit_test(test_message_without_a_route),
		cmocka_unit_test(test_other_buses), cmocka_unit_test(test_other_windows),
		cmocka_unit_test(test_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
