/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A virtio device on PCI that moves to another machine with its guest's memory. A driver does
 * whatever a driver can do; then the same accesses on both machines must give the same answers,
 * messages and levels. And what a target says when it is not the same device, or the state none.
 */
#include "tests/unit/saved_test.h"
#include "tests/unit/virtio/pci_machine.h"

#include <unistd.h>

#include "base/bytes.h"

#define ISR    0x1000
#define CONFIG 0x2000
#define NOTIFY 0x3000

/* ---- one machine under a driver that does anything ---- */

struct side {
	struct machine m;
	bool ring; /* e.d is a ring that the device knows, as far as the driver can tell */
};

/* An access to BAR 4, wherever it is; what it gave. */
static uint64_t peek(struct machine *m, uint64_t offset, unsigned int size)
{
	uint64_t value = 0;
	bool answered = bus_read(m->mmio, m->bar4 + offset, size, &value);

	return value ^ (answered ? 0 : UINT64_C(0x5555));
}

static void poke(struct machine *m, uint64_t offset, unsigned int size, uint64_t value)
{
	bus_write(m->mmio, m->bar4 + offset, size, value);
}

/* Messages since the last question, whichever address they went to. */
static uint64_t messages(struct machine *m)
{
	uint64_t digest = 0, count;

	for (unsigned int i = 0; i < m->hv.nr_msis; i++)
		if (m->hv.msi_fds[i] >= 0 && read(m->hv.msi_fds[i], &count, 8) == 8)
			digest += count * (m->hv.msi_address[i] | 1) * UINT64_C(0x9e3779b97f4a7c15);
	return digest;
}

static void common_write(struct side *s, struct dice *dice)
{
	static const struct {
		uint8_t offset, size;
	} fields[] = {{0, 4},  {8, 4},  {12, 4}, {16, 2}, {20, 1}, {22, 2}, {24, 2},
		      {26, 2}, {28, 2}, {32, 8}, {36, 4}, {40, 8}, {48, 8}, {58, 2}};
	static const uint8_t statuses[] = {0, 1, 3, 11, 15, 15, 0x8f, 0x4f};
	unsigned int f = dice_below(dice, ARRAY_SIZE(fields));
	uint64_t value = dice_below(dice, 4);

	if (fields[f].size == 8)
		value = GUEST_BASE + 16 * (uint64_t)dice_below(dice, 4096);
	if (fields[f].offset == 20)
		value = statuses[dice_below(dice, ARRAY_SIZE(statuses))];
	if (fields[f].offset == 12)
		value = dice_u64(dice);
	if (fields[f].offset >= 20)
		s->ring = false;
	poke(&s->m, fields[f].offset, fields[f].size, value);
}

static void command_write(struct side *s, struct dice *dice)
{
	static const uint16_t commands[] = {6, 6, 6, 2, 4, 0, 0x406, 0x546};

	cfg_write(&s->m, 4, 2, commands[dice_below(dice, ARRAY_SIZE(commands))]);
}

static void bar_move(struct side *s, struct dice *dice)
{
	cfg_write(&s->m, 0x20, 4, (uint32_t)dice_below(dice, 64) << 14);
	cfg_write(&s->m, 0x24, 4, dice_below(dice, 4) ? 8 : 0);
	find_bars(&s->m);
}

static void msix_write(struct side *s, struct dice *dice)
{
	unsigned int vector = dice_below(dice, VECTORS), field = dice_below(dice, 4);
	uint32_t value = field == 0   ? (uint32_t)msi_address(dice_below(dice, 8))
			 : field == 3 ? dice_below(dice, 2)
				      : dice_below(dice, 3);

	if (dice_below(dice, 4) == 0)
		cfg_write(&s->m, msix_cap(&s->m) + 2, 2, dice_below(dice, 4) << 14);
	else
		bus_write(s->m.mmio, s->m.bar1 + 16 * vector + 4 * field, 4, value);
}

static uint64_t window_access(struct side *s, struct dice *dice)
{
	unsigned int at = s->m.caps[5];

	cfg_write(&s->m, at + 4, 1, 4);
	cfg_write(&s->m, at + 8, 4, dice_below(dice, 4) << 12 | dice_below(dice, 64));
	cfg_write(&s->m, at + 12, 4, 1u << dice_below(dice, 3));
	if (dice_below(dice, 2)) {
		s->ring = false;
		cfg_write(&s->m, at + 16, 4, dice_below(dice, 16));
	}
	return cfg_read(&s->m, at + 16, 4);
}

static void start(struct side *s, struct dice *dice)
{
	uint64_t features = VIRTIO_FEATURE(VIRTIO_F_VERSION_1) |
			    VIRTIO_FEATURE(VIRTIO_F_INDIRECT_DESC) |
			    VIRTIO_FEATURE(VIRTIO_F_RING_RESET);
	bool msix = dice_below(dice, 4);

	if (dice_below(dice, 2))
		features |= VIRTIO_FEATURE(VIRTIO_F_RING_PACKED);
	if (dice_below(dice, 2))
		features |= VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX);
	cfg_write(&s->m, 0x24, 4, 8);
	cfg_write(&s->m, 4, 2, 6);
	find_bars(&s->m);
	if (msix)
		enable_msix(&s->m);
	driver_start(&s->m, features, msix);
	s->ring = true;
}

static void request(struct side *s, struct dice *dice)
{
	uint64_t gpa = GUEST_BASE + GUEST_SIZE / 2 + 64 * (uint64_t)dice_below(dice, 64);
	struct driver_buffer b[2] = {{gpa, 8, false}, {gpa + 8, 8, true}};
	uint64_t text = dice_u64(dice);
	bool indirect = dice_below(dice, 2);

	if (!s->ring)
		return;
	memcpy(guest_ptr(&s->m.e.g, gpa), &text, 8);
	if (driver_add(&s->m.e.d, b, 2, indirect) >= 0 && driver_kick_needed(&s->m.e.d))
		poke(&s->m, NOTIFY, 2, 0);
}

static uint64_t harvest(struct side *s)
{
	uint64_t digest = 0;
	uint32_t len;
	uint16_t id;

	while (s->ring && driver_get_used(&s->m.e.d, &id, &len))
		digest = digest * 31 + id * UINT64_C(1000) + len + 1;
	if (s->ring)
		driver_interrupts(&s->m.e.d, true, 0);
	return digest;
}

/* Something that a guest or the world does; what was to be seen of it. */
static uint64_t step(struct side *s, struct dice *dice)
{
	uint64_t seen = 0;

	switch (dice_below(dice, 20)) {
	case 0:
		common_write(s, dice);
		break;
	case 1:
		command_write(s, dice);
		break;
	case 2:
		bar_move(s, dice);
		break;
	case 3:
	case 4:
	case 5:
		msix_write(s, dice);
		break;
	case 6:
		seen = window_access(s, dice);
		break;
	case 7:
	case 8:
		start(s, dice);
		break;
	case 9:
		s->m.e.config[dice_below(dice, ECHO_CONFIG)]++;
		virtio_config_changed(s->m.e.vdev);
		break;
	case 10:
		seen = peek(&s->m, ISR, 1);
		break;
	case 11:
		seen = peek(&s->m, dice_below(dice, 64), 1u << dice_below(dice, 4));
		break;
	case 12:
		seen = peek(&s->m, CONFIG + dice_below(dice, ECHO_CONFIG), 1);
		break;
	case 13:
		poke(&s->m, CONFIG + dice_below(dice, ECHO_CONFIG), 1, dice_u64(dice));
		break;
	case 14:
		seen = harvest(s);
		break;
	default:
		request(s, dice);
	}
	if (dice_below(dice, 2))
		echo_turn(&s->m.e, 3);
	return seen * 31 + messages(&s->m) + s->m.hv.line;
}

/* ---- moving ---- */

static void save(struct machine *m, struct pack *out)
{
	*out = (struct pack){.failed = false};
	virtio_pause(m->e.vdev);
	virtio_pci_save(m->vp, out);
	assert_false(pack_failed(out));
}

static int load(struct machine *m, const void *bytes, size_t size, struct err **err)
{
	struct unpack in = unpack_begin(bytes, size);

	return virtio_pci_load(m->vp, VIRTIO_PCI_STATE_VERSION, &in, err);
}

static void must_load(struct machine *m, const struct pack *state)
{
	struct err *err = NULL;
	int ret = load(m, state->bytes, state->size, &err);

	assert_loaded(ret, err);
}

/* @to, which is new, becomes @from. */
static void move(struct side *to, struct side *from)
{
	struct pack state, again;

	save(&from->m, &state);
	memcpy(to->m.e.g.ram, from->m.e.g.ram, GUEST_SIZE);
	to->m.e.g.used = from->m.e.g.used;
	to->m.e.d = from->m.e.d;
	to->m.e.d.g = &to->m.e.g;
	to->ring = from->ring;
	must_load(&to->m, &state);
	find_bars(&to->m);
	save(&to->m, &again);
	assert_same_bytes(&state, &again);
	pack_done(&state);
	pack_done(&again);
}

static void same_all(struct side *a, struct side *b)
{
	struct pack x, y;

	save(&a->m, &x);
	save(&b->m, &y);
	assert_same_bytes(&x, &y);
	assert_int_equal(a->m.hv.nr_doorbells, b->m.hv.nr_doorbells);
	assert_memory_equal(a->m.e.g.ram, b->m.e.g.ram, GUEST_SIZE);
	pack_done(&x);
	pack_done(&y);
}

static void test_moves(void **state)
{
	struct dice dice = dice_new();

	(void)state;
	for (unsigned int round = 0; round < 150; round++) {
		struct side *s = calloc(2, sizeof(*s));

		machine_init(&s[0].m, VIRTIO_PCI_VECTORS_AUTO);
		machine_init(&s[1].m, VIRTIO_PCI_VECTORS_AUTO);
		for (unsigned int n = dice_below(&dice, 120); n; n--)
			step(&s[0], &dice);
		messages(&s[0].m);
		move(&s[1], &s[0]);
		messages(&s[1].m);
		assert_int_equal(s[0].m.hv.line, s[1].m.hv.line);
		virtio_resume(s[0].m.e.vdev);
		virtio_resume(s[1].m.e.vdev);
		for (unsigned int n = 0; n < 60; n++) {
			struct dice same = dice;
			uint64_t one = step(&s[0], &dice), other = step(&s[1], &same);

			if (one != other)
				fail_msg("round %u: step %u differs", round, n);
		}
		same_all(&s[0], &s[1]);
		machine_done(&s[0].m);
		machine_done(&s[1].m);
		free(s);
	}
}

/* ---- one thing at a time ---- */

static uint64_t features_for(bool packed)
{
	return VIRTIO_FEATURE(VIRTIO_F_VERSION_1) | VIRTIO_FEATURE(VIRTIO_F_INDIRECT_DESC) |
	       (packed ? VIRTIO_FEATURE(VIRTIO_F_RING_PACKED) : 0);
}

static struct side *sides(void)
{
	struct side *s = calloc(2, sizeof(*s));

	machine_init(&s[0].m, VIRTIO_PCI_VECTORS_AUTO);
	machine_init(&s[1].m, VIRTIO_PCI_VECTORS_AUTO);
	return s;
}

static void sides_done(struct side *s)
{
	machine_done(&s[0].m);
	machine_done(&s[1].m);
	free(s);
}

/* Requests that nobody looked at before the machine stopped are answered by the other. */
static void test_requests_in_the_ring(void **state)
{
	(void)state;
	for (unsigned int packed = 0; packed < 2; packed++) {
		struct side *s = sides();
		struct dice dice = {1};
		uint32_t len;
		uint16_t id;

		enable_msix(&s[0].m);
		driver_start(&s[0].m, features_for(packed), true);
		s[0].ring = true;
		for (unsigned int i = 0; i < 3; i++)
			request(&s[0], &dice);
		virtio_pause(s[0].m.e.vdev);
		echo_turn(&s[0].m.e, 3);
		assert_int_equal(s[0].m.e.handled, 0);
		move(&s[1], &s[0]);
		echo_turn(&s[1].m.e, 3);
		assert_int_equal(s[1].m.e.handled, 0);
		virtio_resume(s[1].m.e.vdev);
		echo_turn(&s[1].m.e, 3);
		assert_int_equal(s[1].m.e.handled, 3);
		assert_int_equal(fake_msi_count(&s[1].m.hv, msi_address(1)), 1);
		for (unsigned int i = 0; i < 3; i++)
			assert_true(driver_get_used(&s[1].m.e.d, &id, &len));
		assert_false(driver_get_used(&s[1].m.e.d, &id, &len));
		sides_done(s);
	}
}

static void mask(struct machine *m, unsigned int vector, bool masked)
{
	bus_write(m->mmio, m->bar1 + 16 * vector + 12, 4, masked);
}

static uint32_t pending(struct machine *m)
{
	uint64_t value = 0;

	assert_true(bus_read(m->mmio, m->bar1 + 0x800, 4, &value));
	return (uint32_t)value;
}

/* A message that waits for its vector's mask to go waits on in the other machine. */
static void test_pending_message(void **state)
{
	struct side *s = sides();

	(void)state;
	enable_msix(&s[0].m);
	driver_start(&s[0].m, features_for(false), true);
	mask(&s[0].m, 0, true);
	virtio_config_changed(s[0].m.e.vdev);
	assert_int_equal(pending(&s[0].m), 1);
	move(&s[1], &s[0]);
	virtio_resume(s[1].m.e.vdev);
	assert_int_equal(pending(&s[1].m), 1);
	assert_int_equal(fake_msi_count(&s[1].m.hv, msi_address(0)), 0);
	mask(&s[1].m, 0, false);
	assert_int_equal(fake_msi_count(&s[1].m.hv, msi_address(0)), 1);
	assert_int_equal(pending(&s[1].m), 0);
	/* and the source, which still has it, would have done the same */
	mask(&s[0].m, 0, false);
	assert_int_equal(fake_msi_count(&s[0].m.hv, msi_address(0)), 1);
	sides_done(s);
}

static void test_wired_interrupt(void **state)
{
	struct side *s = sides();

	(void)state;
	driver_start(&s[0].m, features_for(false), false);
	virtio_config_changed(s[0].m.e.vdev);
	assert_true(s[0].m.hv.line);
	move(&s[1], &s[0]);
	assert_true(s[1].m.hv.line);
	assert_int_equal(cfg_read(&s[1].m, 6, 2) & 8, 8);
	assert_int_equal(bar_read(&s[1].m, ISR, 1), 2);
	assert_false(s[1].m.hv.line);
	sides_done(s);
}

/* The configuration changed before there was a driver that could be told. */
static void test_news_for_a_driver_to_come(void **state)
{
	struct side *s = sides();

	(void)state;
	virtio_config_changed(s[0].m.e.vdev);
	move(&s[1], &s[0]);
	virtio_resume(s[1].m.e.vdev);
	driver_start(&s[0].m, features_for(false), false);
	assert_true(bar_read(&s[0].m, ISR, 1) == 0);
	/* driver_start() begins with a reset, which ends it; by hand, without one: */
	bar_write(&s[1].m, 20, 1, 3);
	bar_write(&s[1].m, 8, 4, 1);
	bar_write(&s[1].m, 12, 4, 1);
	bar_write(&s[1].m, 20, 1, 11);
	bar_write(&s[1].m, 20, 1, 15);
	assert_int_equal(bar_read(&s[1].m, ISR, 1), 2);
	sides_done(s);
}

static void test_broken_device(void **state)
{
	struct side *s = sides();

	(void)state;
	driver_start(&s[0].m, features_for(false), false);
	virtio_lock(s[0].m.e.vdev);
	virtio_set_needs_reset(s[0].m.e.vdev, "a reason of its own");
	virtio_unlock(s[0].m.e.vdev);
	move(&s[1], &s[0]);
	virtio_resume(s[1].m.e.vdev);
	assert_int_equal(bar_read(&s[1].m, 20, 1), 0x4f);
	assert_string_equal(virtio_broken_reason(s[1].m.e.vdev), "a reason of its own");
	driver_start(&s[1].m, features_for(true), false);
	assert_null(virtio_broken_reason(s[1].m.e.vdev));
	echo_check_works(&s[1].m.e);
	sides_done(s);
}

/*
 * A driver that goes and one that comes (unbind, bind): what was to be told to the first one is not
 * told to the second.
 */
static void test_reset_takes_messages_back(void **state)
{
	struct side *s = sides();
	struct machine *m = &s[0].m;

	(void)state;
	enable_msix(m);
	driver_start(m, features_for(false), true);
	mask(m, 0, true);
	virtio_config_changed(m->e.vdev);
	assert_int_equal(pending(m), 1);
	bar_write(m, 20, 1, 0);
	assert_int_equal(pending(m), 0);
	cfg_write(m, msix_cap(m) + 2, 2, 0);
	enable_msix(m);
	driver_start(m, features_for(true), true);
	assert_int_equal(fake_msi_count(&m->hv, msi_address(0)), 0);
	echo_check_works(&m->e);
	sides_done(s);
}

/* ---- targets that are not the same ---- */

static void refused(struct machine *m, const struct pack *state, uint32_t version,
		    const char *words)
{
	struct unpack in = unpack_begin(state->bytes, state->size);
	struct err *err = NULL;
	int ret = virtio_pci_load(m->vp, version, &in, &err);

	assert_refused(ret, err, words);
}

static void test_other_devices(void **state)
{
	struct machine m, fewer;
	struct pack saved;

	(void)state;
	machine_init(&m, VIRTIO_PCI_VECTORS_AUTO);
	enable_msix(&m);
	driver_start(&m, features_for(true), true);
	save(&m, &saved);
	/* two vectors: the table's size is a register */
	machine_init(&fewer, 2);
	refused(&fewer, &saved, VIRTIO_PCI_STATE_VERSION, "configuration register 0x42");
	machine_done(&fewer);
	machine_init(&fewer, VIRTIO_PCI_VECTORS_AUTO);
	refused(&fewer, &saved, VIRTIO_PCI_STATE_VERSION + 1, "version 2, and 1 is known");
	machine_done(&fewer);
	pack_done(&saved);
	machine_done(&m);
}

static void test_features_that_are_not_offered(void **state)
{
	struct pack saved = {.failed = false};
	struct err *err = NULL;
	struct echo from, to;
	struct unpack in;
	int ret;

	(void)state;
	echo_init(&from, true);
	echo_init(&to, false);
	echo_start(&from, echo_features(&from));
	virtio_device_save(from.vdev, &saved);
	in = unpack_begin(saved.bytes, saved.size);
	ret = virtio_device_load(to.vdev, &in, &err);
	assert_refused(ret, err, "feature bit 34, which the device does not offer here");
	/* nor twice */
	in = unpack_begin(saved.bytes, saved.size);
	err = NULL;
	ret = virtio_device_load(from.vdev, &in, &err);
	assert_refused(ret, err, "has a driver here already");
	pack_done(&saved);
	echo_done(&from);
	echo_done(&to);
}

/* ---- damage ---- */

/* Whatever was loaded: a guest can use it, and a reset brings it back. */
static void load_damaged(void *opaque, const void *bytes, size_t size)
{
	struct machine *m = opaque;
	struct err *err = NULL;

	if (load(m, bytes, size, &err)) {
		assert_non_null(err);
		err_free(err);
	} else {
		find_bars(m);
		virtio_resume(m->e.vdev);
		echo_turn(&m->e, 2);
		for (unsigned int at = 0; at < 64; at += 4)
			peek(m, at, 4);
		peek(m, CONFIG, 8);
		virtio_config_changed(m->e.vdev);
		virtio_pause(m->e.vdev);
	}
	pci_host_reset(m->host);
}

static void test_damage(void **state)
{
	struct side *s = sides();
	struct dice dice = {1};
	struct pack saved;

	(void)state;
	enable_msix(&s[0].m);
	driver_start(&s[0].m, features_for(false), true);
	s[0].ring = true;
	request(&s[0], &dice);
	echo_turn(&s[0].m.e, 3);
	mask(&s[0].m, 0, true);
	virtio_config_changed(s[0].m.e.vdev);
	request(&s[0], &dice);
	save(&s[0].m, &saved);
	memcpy(s[1].m.e.g.ram, s[0].m.e.g.ram, GUEST_SIZE);
	each_damage(&saved, load_damaged, &s[1].m);
	/* after all of that */
	must_load(&s[1].m, &saved);
	pack_done(&saved);
	sides_done(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_moves),
		cmocka_unit_test(test_requests_in_the_ring),
		cmocka_unit_test(test_pending_message),
		cmocka_unit_test(test_wired_interrupt),
		cmocka_unit_test(test_news_for_a_driver_to_come),
		cmocka_unit_test(test_broken_device),
		cmocka_unit_test(test_reset_takes_messages_back),
		cmocka_unit_test(test_other_devices),
		cmocka_unit_test(test_features_that_are_not_offered),
		cmocka_unit_test(test_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
