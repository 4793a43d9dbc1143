/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Queues that move: a driver that obeys the rules and a device that answers in order and holds
 * chains, while the queue is saved and loaded between any two steps. Whatever the ring's format,
 * each chain is answered once and in its turn, and nobody who waits is forgotten.
 */
#include "tests/unit/saved_test.h"
#include "tests/unit/virtio/driver.h"

#include <errno.h>

#define SIZE_MAX_HERE 16
#define HELD          4

struct world {
	struct dice dice;
	struct guest g;
	struct driver d;
	struct vq *vq;
	struct vq_chain *held[HELD];
	unsigned int nr_held;
	bool kicked, interrupted; /* who is to look */
	uint16_t added[SIZE_MAX_HERE];
	unsigned int nr_added; /* ids in the order in which they were made available */
	unsigned int answered, moves;
};

static void world_init(struct world *w, const struct vq_layout *layout)
{
	guest_init(&w->g);
	driver_init(&w->d, &w->g, layout);
	w->vq = vq_new(w->g.gm, SIZE_MAX_HERE);
	assert_int_equal(vq_start(w->vq, &w->d.layout), 0);
	for (unsigned int i = 0; i < HELD; i++)
		w->held[i] = vq_chain_new(w->vq);
}

static void world_done(struct world *w)
{
	for (unsigned int i = 0; i < HELD; i++)
		vq_chain_free(w->held[i]);
	vq_free(w->vq);
	guest_done(&w->g);
}

/* The driver adds what there is room for, and kicks if it is asked to. */
static void world_add(struct world *w)
{
	struct driver_buffer b[3];
	unsigned int n = 1 + dice_below(&w->dice, (unsigned int)num_min(3, w->d.layout.size));
	int id;

	for (unsigned int i = 0; i < n; i++)
		b[i] = (struct driver_buffer){GUEST_BASE + 64 * i, 16, i + 1 == n};
	id = driver_add(&w->d, b, n, w->d.layout.indirect_desc && dice_below(&w->dice, 2));
	if (id < 0)
		return;
	w->added[w->nr_added++] = (uint16_t)id;
	if (driver_kick_needed(&w->d))
		w->kicked = true;
}

/* The device gives the oldest chain in its hands back. */
static void world_push(struct world *w)
{
	struct vq_chain *chain = w->held[0];

	if (!w->nr_held)
		return;
	assert_int_equal(vq_push(w->vq, chain, dice_below(&w->dice, 2) ? 8 : 0), 0);
	memmove(w->held, w->held + 1, (HELD - 1) * sizeof(w->held[0]));
	w->held[HELD - 1] = chain;
	w->nr_held--;
}

static void world_notify(struct world *w)
{
	int ret = vq_notify_needed(w->vq);

	assert_in_range(ret, 0, 1);
	w->interrupted |= ret;
}

/*
 * The device was kicked: it takes chains until there are none, or it has its hands full and leaves
 * the rest, as one that waits for something does.
 */
static void world_look(struct world *w)
{
	bool full;
	int ret;

	w->kicked = false;
	assert_int_equal(vq_kick_disable(w->vq), 0);
	while (w->nr_held < HELD) {
		ret = vq_pop(w->vq, w->held[w->nr_held]);
		assert_in_range(ret, 0, 1);
		if (!ret && !vq_kick_enable(w->vq))
			break;
		if (ret)
			w->nr_held++;
	}
	full = w->nr_held == HELD;
	for (unsigned int n = dice_below(&w->dice, HELD + 1); n; n--)
		world_push(w);
	world_notify(w);
	/* What it left in the ring or in its hands it comes back to by itself. */
	w->kicked |= full || w->nr_held > 0;
}

/* The driver was interrupted: it takes what is used, in the order in which it made it available. */
static void world_harvest(struct world *w)
{
	uint32_t len;
	uint16_t id;

	w->interrupted = false;
	while (driver_get_used(&w->d, &id, &len)) {
		assert_true(w->nr_added > 0);
		assert_int_equal(id, w->added[0]);
		memmove(w->added, w->added + 1, --w->nr_added * sizeof(w->added[0]));
		w->answered++;
	}
	driver_interrupts(&w->d, true, 0);
}

/* Another machine goes on with the queue. It looks at all queues when it starts. */
static void world_move(struct world *w)
{
	struct pack state = {.failed = false}, again = {.failed = false};
	struct vq *vq = vq_new(w->g.gm, SIZE_MAX_HERE);
	struct unpack in;

	vq_save(w->vq, &state);
	assert_false(pack_failed(&state));
	in = unpack_begin(state.bytes, state.size);
	assert_int_equal(vq_load(vq, &w->d.layout, &in), 0);
	assert_true(unpack_ended(&in));
	vq_save(vq, &again);
	assert_same_bytes(&state, &again);
	pack_done(&state);
	pack_done(&again);
	vq_free(w->vq);
	w->vq = vq;
	w->nr_held = 0;
	w->kicked = true;
	w->moves++;
}

static void world_step(struct world *w)
{
	switch (dice_below(&w->dice, 8)) {
	case 0:
	case 1:
	case 2:
		world_add(w);
		break;
	case 3:
	case 4:
		if (w->kicked)
			world_look(w);
		break;
	case 5:
		world_push(w);
		if (dice_below(&w->dice, 2))
			world_move(w);
		world_notify(w);
		break;
	case 6:
		if (w->interrupted)
			world_harvest(w);
		break;
	default:
		world_move(w);
	}
}

/* No more is added: with kicks and interrupts alone, everything must come to its end. */
static void world_drain(struct world *w)
{
	while (w->kicked || w->interrupted) {
		if (w->kicked)
			world_look(w);
		if (w->interrupted)
			world_harvest(w);
	}
	if (w->nr_added)
		fail_msg("%u chains wait for ever", w->nr_added);
}

static void moves(struct dice *dice, struct vq_layout layout)
{
	struct world w = {.dice = *dice};

	world_init(&w, &layout);
	driver_interrupts(&w.d, true, 0);
	for (unsigned int round = 0; round < 200; round++) {
		for (unsigned int step = 0; step < 60; step++)
			world_step(&w);
		world_drain(&w);
	}
	assert_true(w.answered > 200 && w.moves > 1000);
	*dice = w.dice;
	world_done(&w);
}

static void test_moves(void **state)
{
	static const uint16_t sizes[] = {1, 4, 16, 3, 7};
	struct dice dice = dice_new();

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (unsigned int format = 0; format < 8; format++) {
			struct vq_layout layout = {
				.packed = format & 1,
				.event_idx = format & 2,
				.indirect_desc = format & 4,
				.size = sizes[i],
			};

			if (layout.packed || num_is_pow2(layout.size))
				moves(&dice, layout);
		}
	}
}

/* ---- states that cannot be ---- */

struct target {
	struct guest g;
	struct vq_layout layout;
};

static int load(struct target *t, const void *bytes, size_t size)
{
	struct unpack in = unpack_begin(bytes, size);
	struct vq *vq = vq_new(t->g.gm, SIZE_MAX_HERE);
	struct vq_chain *chain = vq_chain_new(vq);
	int ret = vq_load(vq, &t->layout, &in), popped = 0;

	assert_true(ret == 0 || ret == -EINVAL);
	assert_int_equal(vq_started(vq), !ret);
	if (!ret)
		popped = vq_pop(vq, chain);
	if (popped == 1)
		vq_push(vq, chain, 0);
	vq_notify_needed(vq);
	vq_kick_enable(vq);
	vq_chain_free(chain);
	vq_free(vq);
	return ret ? ret : popped;
}

static void load_damaged(void *opaque, const void *bytes, size_t size)
{
	load(opaque, bytes, size);
}

static void test_damage(void **state)
{
	(void)state;
	for (unsigned int packed = 0; packed < 2; packed++) {
		struct driver_buffer b = {GUEST_BASE, 16, true};
		struct pack saved = {.failed = false};
		struct target t = {.layout = {.packed = packed, .size = 8}};
		struct driver d;
		struct vq *vq;

		guest_init(&t.g);
		driver_init(&d, &t.g, &t.layout);
		t.layout = d.layout;
		vq = vq_new(t.g.gm, SIZE_MAX_HERE);
		assert_int_equal(vq_start(vq, &t.layout), 0);
		assert_true(driver_add(&d, &b, 1, false) >= 0);
		vq_save(vq, &saved);
		assert_int_equal(load(&t, saved.bytes, saved.size), 1);
		each_damage(&saved, load_damaged, &t);
		pack_done(&saved);
		vq_free(vq);
		guest_done(&t.g);
	}
}

/* A driver may have given the ring's memory away: that keeps no machine where it is. */
static void test_ring_is_gone(void **state)
{
	static uint8_t memory[2 * 4096] __attribute__((aligned(4096)));
	struct gm *gm = gm_new();
	struct gm_region *region;
	struct vq_layout layout = {
		.size = 8, .desc_gpa = 0, .driver_gpa = 4096, .device_gpa = 6144};
	struct vq *vq = vq_new(gm, 8), *other = vq_new(gm, 8);
	struct pack saved = {.failed = false};
	struct vq_chain *chain = vq_chain_new(other);
	struct unpack in;

	(void)state;
	assert_int_equal(
		gm_add_device_memory(gm, (struct range){0, sizeof(memory)}, memory, 4096, &region),
		0);
	gm_grant(region, 0, sizeof(memory));
	assert_int_equal(vq_start(vq, &layout), 0);
	gm_revoke(region, 4096, 4096);
	vq_save(vq, &saved);
	in = unpack_begin(saved.bytes, saved.size);
	assert_int_equal(vq_load(other, &layout, &in), 0);
	assert_true(vq_started(other));
	assert_int_equal(vq_pop(vq, chain), -EFAULT);
	assert_int_equal(vq_pop(other, chain), -EFAULT);
	/* and one that is known to be bad stays so */
	vq_stop(other);
	pack_done(&saved);
	gm_grant(region, 4096, 4096);
	vq_save(vq, &saved);
	in = unpack_begin(saved.bytes, saved.size);
	assert_int_equal(vq_load(other, &layout, &in), 0);
	assert_true(vq_pop(other, chain) < 0);
	pack_done(&saved);
	vq_chain_free(chain);
	vq_free(vq);
	vq_free(other);
	gm_free(gm);
}

static void test_layouts_that_cannot_be(void **state)
{
	struct vq_layout layout = {.size = 8};
	struct pack saved = {.failed = false};
	struct guest g;
	struct driver d;
	struct vq *vq, *other;

	(void)state;
	guest_init(&g);
	driver_init(&d, &g, &layout);
	vq = vq_new(g.gm, 8);
	other = vq_new(g.gm, 8);
	assert_int_equal(vq_start(vq, &d.layout), 0);
	vq_save(vq, &saved);
	for (unsigned int i = 0; i < 7; i++) {
		struct unpack in = unpack_begin(saved.bytes, saved.size);

		layout = d.layout;
		layout.size = i == 0 ? 0 : i == 1 ? 6 : i == 2 ? 16 : 8;
		layout.desc_gpa += i == 3 ? 8 : 0;
		layout.driver_gpa += i == 4;
		layout.device_gpa += i == 5 ? 2 : 0;
		layout.desc_gpa = i == 6 ? UINT64_MAX - 15 : layout.desc_gpa;
		assert_int_equal(vq_load(other, &layout, &in), -EINVAL);
		assert_false(vq_started(other));
	}
	pack_done(&saved);
	vq_free(vq);
	vq_free(other);
	guest_done(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_moves),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_ring_is_gone),
		cmocka_unit_test(test_layouts_that_cannot_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
