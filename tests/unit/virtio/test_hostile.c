/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rings that break the rules, one class of malformation a case: each must end in DEVICE_NEEDS_RESET
 * with one configuration interrupt and a stopped queue, and a reset must bring the device back.
 *
 * The file is long because each case is a function of its own, named after what it breaks.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "tests/unit/virtio/echo.h"

enum { NEXT = 1, WRITE = 2, INDIRECT = 4, AVAIL = 1 << 7, USED = 1 << 15 };

#define SIZE      ECHO_QUEUE_SIZE
#define GUEST_END (GUEST_BASE + GUEST_SIZE)

/* ---- writing to the rings by hand ---- */

static void put16(struct echo *e, uint64_t gpa, uint16_t v)
{
	bytes_put_le(guest_ptr(&e->g, gpa), 2, v);
}

/* A split descriptor anywhere. */
static void put_split(struct echo *e, uint64_t gpa, uint64_t addr, uint32_t len, uint16_t flags,
		      uint16_t next)
{
	uint8_t *desc = guest_ptr(&e->g, gpa);

	bytes_put_le(desc, 8, addr);
	bytes_put_le(desc + 8, 4, len);
	bytes_put_le(desc + 12, 2, flags);
	bytes_put_le(desc + 14, 2, next);
}

static void split_desc(struct echo *e, unsigned int i, uint64_t addr, uint32_t len, uint16_t flags,
		       uint16_t next)
{
	put_split(e, e->d.layout.desc_gpa + 16 * (uint64_t)i, addr, len, flags, next);
}

static void split_idx(struct echo *e, uint16_t idx)
{
	put16(e, e->d.layout.driver_gpa + 2, idx);
}

static void split_head(struct echo *e, uint16_t head)
{
	put16(e, e->d.layout.driver_gpa + 4 + 2 * (uint64_t)(e->d.avail % SIZE), head);
	split_idx(e, (uint16_t)(e->d.avail + 1));
}

/* A packed descriptor @i places after the next one, available in the first lap. */
static void packed_desc(struct echo *e, unsigned int i, uint64_t addr, uint32_t len, uint16_t flags)
{
	uint8_t *desc = guest_ptr(&e->g, e->d.layout.desc_gpa + 16 * (uint64_t)(e->d.avail + i));

	bytes_put_le(desc, 8, addr);
	bytes_put_le(desc + 8, 4, len);
	bytes_put_le(desc + 12, 2, i);
	bytes_put_le(desc + 14, 2, flags | AVAIL);
}

/* ---- the split ring ---- */

static void idx_beyond_size(struct echo *e)
{
	split_idx(e, (uint16_t)(e->d.avail + SIZE + 1));
}
static void idx_backwards(struct echo *e)
{
	split_idx(e, (uint16_t)(e->d.avail - 1));
}
static void idx_far_away(struct echo *e)
{
	split_idx(e, (uint16_t)(e->d.avail + 0x8000));
}
static void head_is_size(struct echo *e)
{
	split_head(e, SIZE);
}
static void head_is_max(struct echo *e)
{
	split_head(e, 0xffff);
}
static void next_is_itself(struct echo *e)
{
	split_desc(e, 3, GUEST_BASE, 1, NEXT, 3);
	split_head(e, 3);
}
static void next_is_empty_itself(struct echo *e)
{
	split_desc(e, 3, GUEST_BASE, 0, NEXT, 3);
	split_head(e, 3);
}
static void next_in_circle(struct echo *e)
{
	for (uint16_t i = 0; i < SIZE; i++)
		split_desc(e, i, GUEST_BASE, 1, NEXT, (uint16_t)((i + 5) % SIZE));
	split_head(e, 2);
}
static void next_is_size(struct echo *e)
{
	split_desc(e, 0, GUEST_BASE, 1, NEXT, SIZE);
	split_head(e, 0);
}
static void next_is_max(struct echo *e)
{
	split_desc(e, 0, GUEST_BASE, 1, NEXT, 0xffff);
	split_head(e, 0);
}
static void split_address_wraps(struct echo *e)
{
	split_desc(e, 0, UINT64_MAX, 2, 0, 0);
	split_head(e, 0);
}
static void split_too_many_bytes(struct echo *e)
{
	split_desc(e, 0, 0, UINT32_MAX, NEXT, 1);
	split_desc(e, 1, 0, 2, 0, 0);
	split_head(e, 0);
}
static void split_readable_after_writable(struct echo *e)
{
	split_desc(e, 0, GUEST_BASE, 4, WRITE | NEXT, 1);
	split_desc(e, 1, GUEST_BASE, 4, 0, 0);
	split_head(e, 0);
}
static void split_buffer_outside(struct echo *e)
{
	split_desc(e, 0, GUEST_END - 2, 4, WRITE, 0);
	split_head(e, 0);
}

/* ---- indirect tables of the split ring ---- */

static void split_table(struct echo *e, uint64_t gpa, uint32_t len, uint16_t flags)
{
	split_desc(e, 0, gpa, len, flags | INDIRECT, 1);
	split_desc(e, 1, GUEST_BASE, 4, 0, 0);
	split_head(e, 0);
}
static uint64_t table_gpa(struct echo *e)
{
	return guest_alloc(&e->g, 4096, 16);
}
/* @n descriptors of one byte in a row at @gpa, the first linked in a list when @links. */
static void fill_table(struct echo *e, uint64_t gpa, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		put_split(e, gpa + 16 * (uint64_t)i, GUEST_BASE, 1, i + 1 < n ? NEXT : 0,
			  (uint16_t)(i + 1));
}
static void split_table_empty(struct echo *e)
{
	split_table(e, table_gpa(e), 0, 0);
}
static void split_table_odd(struct echo *e)
{
	uint64_t gpa = table_gpa(e);

	fill_table(e, gpa, 1);
	split_table(e, gpa, 17, 0);
}
static void split_table_short(struct echo *e)
{
	split_table(e, table_gpa(e), 8, 0);
}
static void split_table_and_next(struct echo *e)
{
	uint64_t gpa = table_gpa(e);

	fill_table(e, gpa, 1);
	split_table(e, gpa, 16, NEXT);
}
static void split_table_nested(struct echo *e)
{
	uint64_t gpa = table_gpa(e);

	put_split(e, gpa, gpa, 16, INDIRECT, 0);
	split_table(e, gpa, 16, 0);
}
static void split_table_outside(struct echo *e)
{
	split_table(e, GUEST_END, 16, 0);
}
static void split_table_across_end(struct echo *e)
{
	fill_table(e, GUEST_END - 32, 2);
	put16(e, GUEST_END - 16 + 12, NEXT);
	split_table(e, GUEST_END - 32, 64, 0);
}
static void split_table_wraps(struct echo *e)
{
	split_table(e, UINT64_MAX - 15, 32, 0);
}
static void split_table_huge(struct echo *e)
{
	split_table(e, GUEST_BASE, 0xfffffff0, 0);
	/* descriptor 0 of that table is made to loop */
	put_split(e, GUEST_BASE, GUEST_BASE, 1, NEXT, 0);
}
static void split_table_next_outside(struct echo *e)
{
	uint64_t gpa = table_gpa(e);

	put_split(e, gpa, GUEST_BASE, 1, NEXT, 1);
	split_table(e, gpa, 16, 0);
}
static void split_table_loops(struct echo *e)
{
	uint64_t gpa = table_gpa(e);

	fill_table(e, gpa, 4);
	put_split(e, gpa + 48, GUEST_BASE, 1, NEXT, 0);
	split_table(e, gpa, 64, 0);
}
static void split_table_too_long(struct echo *e)
{
	uint64_t gpa = table_gpa(e);

	fill_table(e, gpa, SIZE + 1);
	split_table(e, gpa, 16 * (SIZE + 1), 0);
}
static void split_list_and_table_too_long(struct echo *e)
{
	uint64_t gpa = table_gpa(e);

	fill_table(e, gpa, SIZE);
	split_desc(e, 0, GUEST_BASE, 1, NEXT, 1);
	split_desc(e, 1, gpa, 16 * SIZE, INDIRECT, 0);
	split_head(e, 0);
}
static void split_table_order(struct echo *e)
{
	uint64_t gpa = table_gpa(e);

	put_split(e, gpa, GUEST_BASE, 4, WRITE | NEXT, 1);
	put_split(e, gpa + 16, GUEST_BASE, 4, 0, 0);
	split_table(e, gpa, 32, 0);
}

/* ---- the packed ring; echo_check_works() used the first two descriptors ---- */

static void packed_list_never_ends(struct echo *e)
{
	uint16_t avail = e->d.avail;

	for (unsigned int i = 0; i < SIZE; i++) {
		e->d.avail = (uint16_t)((avail + i) % SIZE);
		packed_desc(e, 0, GUEST_BASE, 1, NEXT);
	}
	e->d.avail = avail;
}
static void packed_list_of_empty_never_ends(struct echo *e)
{
	uint16_t avail = e->d.avail;

	for (unsigned int i = 0; i < SIZE; i++) {
		e->d.avail = (uint16_t)((avail + i) % SIZE);
		packed_desc(e, 0, GUEST_BASE, 0, NEXT);
	}
	e->d.avail = avail;
}
static void packed_readable_after_writable(struct echo *e)
{
	packed_desc(e, 1, GUEST_BASE, 4, 0);
	packed_desc(e, 0, GUEST_BASE, 4, WRITE | NEXT);
}
static void packed_address_wraps(struct echo *e)
{
	packed_desc(e, 0, UINT64_MAX - 2, 4, WRITE);
}
static void packed_too_many_bytes(struct echo *e)
{
	packed_desc(e, 1, 0, 2, 0);
	packed_desc(e, 0, 0, UINT32_MAX, NEXT);
}
static void packed_buffer_outside(struct echo *e)
{
	packed_desc(e, 0, GUEST_END, 4, WRITE);
}
static void packed_table_empty(struct echo *e)
{
	packed_desc(e, 0, table_gpa(e), 0, INDIRECT);
}
static void packed_table_short(struct echo *e)
{
	packed_desc(e, 0, table_gpa(e), 15, INDIRECT);
}
static void packed_table_odd(struct echo *e)
{
	packed_desc(e, 0, table_gpa(e), 33, INDIRECT);
}
static void packed_table_and_next(struct echo *e)
{
	packed_desc(e, 1, GUEST_BASE, 4, 0);
	packed_desc(e, 0, table_gpa(e), 16, INDIRECT | NEXT);
}
static void packed_table_in_list(struct echo *e)
{
	packed_desc(e, 1, table_gpa(e), 16, INDIRECT);
	packed_desc(e, 0, GUEST_BASE, 4, NEXT);
}
static void packed_table_outside(struct echo *e)
{
	packed_desc(e, 0, GUEST_BASE - 16, 32, INDIRECT);
}
static void packed_table_wraps(struct echo *e)
{
	packed_desc(e, 0, UINT64_MAX - 15, 32, INDIRECT);
}
static void packed_table_too_long(struct echo *e)
{
	packed_desc(e, 0, table_gpa(e), 16 * (SIZE + 1), INDIRECT);
}
static void packed_table_huge(struct echo *e)
{
	packed_desc(e, 0, GUEST_BASE, 0xfffffff0, INDIRECT);
}
static void packed_table_order(struct echo *e)
{
	uint64_t gpa = table_gpa(e);

	put_split(e, gpa, GUEST_BASE, 4, 0, WRITE);
	put_split(e, gpa + 16, GUEST_BASE, 4, 0, 0);
	packed_desc(e, 0, gpa, 32, INDIRECT);
}

static const struct {
	const char *name;
	void (*spoil)(struct echo *e);
	bool packed;
	bool no_indirect; /* without VIRTIO_F_INDIRECT_DESC */
} cases[] = {
	{"idx beyond size", idx_beyond_size},
	{"idx backwards", idx_backwards},
	{"idx far away", idx_far_away},
	{"head is size", head_is_size},
	{"head is 0xffff", head_is_max},
	{"next is itself", next_is_itself},
	{"next is itself, empty", next_is_empty_itself},
	{"next in a circle", next_in_circle},
	{"next is size", next_is_size},
	{"next is 0xffff", next_is_max},
	{"address wraps", split_address_wraps},
	{"more than 2^32 bytes", split_too_many_bytes},
	{"readable after writable", split_readable_after_writable},
	{"buffer outside", split_buffer_outside},
	{"table not negotiated", split_table_too_long, false, true},
	{"table empty", split_table_empty},
	{"table of 17 bytes", split_table_odd},
	{"table of 8 bytes", split_table_short},
	{"table and next", split_table_and_next},
	{"table nested", split_table_nested},
	{"table outside", split_table_outside},
	{"table across the end", split_table_across_end},
	{"table wraps", split_table_wraps},
	{"table huge", split_table_huge},
	{"table next outside", split_table_next_outside},
	{"table loops", split_table_loops},
	{"table too long", split_table_too_long},
	{"list and table too long", split_list_and_table_too_long},
	{"table order", split_table_order},
	{"packed list never ends", packed_list_never_ends, true},
	{"packed list of empty never ends", packed_list_of_empty_never_ends, true},
	{"packed readable after writable", packed_readable_after_writable, true},
	{"packed address wraps", packed_address_wraps, true},
	{"packed more than 2^32 bytes", packed_too_many_bytes, true},
	{"packed buffer outside", packed_buffer_outside, true},
	{"packed table not negotiated", packed_table_too_long, true, true},
	{"packed table empty", packed_table_empty, true},
	{"packed table of 15 bytes", packed_table_short, true},
	{"packed table of 33 bytes", packed_table_odd, true},
	{"packed table and next", packed_table_and_next, true},
	{"packed table in a list", packed_table_in_list, true},
	{"packed table outside", packed_table_outside, true},
	{"packed table wraps", packed_table_wraps, true},
	{"packed table too long", packed_table_too_long, true},
	{"packed table huge", packed_table_huge, true},
	{"packed table order", packed_table_order, true},
};

/* The device said that it needs a reset, once, does nothing more, and works after a reset. */
static void check_needs_reset(struct echo *e, uint64_t features)
{
	unsigned int handled = e->handled, irqs = e->queue_irqs;

	assert_int_equal(echo_get_status(e), 15 | VIRTIO_STATUS_NEEDS_RESET);
	assert_int_equal(e->config_irqs, 1);
	virtio_lock(e->vdev);
	assert_non_null(virtio_broken_reason(e->vdev));
	virtio_unlock(e->vdev);
	for (unsigned int i = 0; i < 3; i++) {
		echo_kick(e);
		echo_turn(e, 3);
	}
	assert_int_equal(e->handled, handled);
	assert_int_equal(e->queue_irqs, irqs);
	assert_int_equal(e->config_irqs, 1);
	echo_start(e, features);
	echo_check_works(e);
}

static void test_malformed_rings(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		for (int event_idx = 0; event_idx < 2; event_idx++) {
			uint64_t features;
			struct echo e;

			print_message("  %s\n", cases[i].name);
			echo_init(&e, cases[i].packed);
			features = echo_features(&e);
			if (!event_idx)
				features &= ~VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX);
			if (cases[i].no_indirect)
				features &= ~VIRTIO_FEATURE(VIRTIO_F_INDIRECT_DESC);
			echo_start(&e, features);
			echo_check_works(&e);
			cases[i].spoil(&e);
			echo_kick(&e);
			echo_turn(&e, 3);
			check_needs_reset(&e, features);
			echo_done(&e);
		}
	}
}

/* ---- layouts ---- */

static const struct {
	const char *name;
	int area; /* of enum virtio_queue_area */
	uint64_t gpa;
} layouts[] = {
	{"desc misaligned", VIRTIO_AREA_DESC, GUEST_BASE + 8},
	{"driver misaligned", VIRTIO_AREA_DRIVER, GUEST_BASE + 4096 + 1},
	{"device misaligned", VIRTIO_AREA_DEVICE, GUEST_BASE + 8192 + 2},
	{"desc outside", VIRTIO_AREA_DESC, GUEST_END},
	{"driver outside", VIRTIO_AREA_DRIVER, 0},
	{"device outside", VIRTIO_AREA_DEVICE, UINT64_C(1) << 52},
	{"desc across the end", VIRTIO_AREA_DESC, GUEST_END - 16},
	{"driver across the end", VIRTIO_AREA_DRIVER, GUEST_END - 2},
	{"device across the start", VIRTIO_AREA_DEVICE, GUEST_BASE - 4},
	{"desc wraps", VIRTIO_AREA_DESC, UINT64_MAX - 15},
	{"driver wraps", VIRTIO_AREA_DRIVER, UINT64_MAX - 3},
	{"device wraps", VIRTIO_AREA_DEVICE, UINT64_MAX - 3},
};

static void test_bad_layouts(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 2 * ARRAY_SIZE(layouts); i++) {
		unsigned int c = i / 2;
		struct echo e;
		uint64_t features;

		print_message("  %s%s\n", layouts[c].name, i & 1 ? ", packed" : "");
		echo_init(&e, i & 1);
		features = echo_features(&e);
		echo_negotiate(&e, features);
		e.d.layout = (struct vq_layout){.size = SIZE,
						.desc_gpa = GUEST_BASE,
						.driver_gpa = GUEST_BASE + 4096,
						.device_gpa = GUEST_BASE + 8192};
		if (layouts[c].area == VIRTIO_AREA_DESC)
			e.d.layout.desc_gpa = layouts[c].gpa;
		if (layouts[c].area == VIRTIO_AREA_DRIVER)
			e.d.layout.driver_gpa = layouts[c].gpa;
		if (layouts[c].area == VIRTIO_AREA_DEVICE)
			e.d.layout.device_gpa = layouts[c].gpa;
		echo_set_queue(&e);
		assert_int_equal(echo_get_status(&e), 11);
		echo_status(&e, 15);
		echo_turn(&e, 3);
		assert_int_equal(e.driver_oks, 0);
		check_needs_reset(&e, features);
		echo_done(&e);
	}
}

/* ---- rings in memory that goes away ---- */

static void test_ring_memory_is_revoked(void **state)
{
	const uint64_t block = 64 * KIB, gpa = UINT64_C(1) << 32;
	struct gm_region *region;

	(void)state;
	for (int i = 0; i < 6; i++) {
		bool packed = i & 1;
		uint8_t *host = aligned_alloc(4096, 3 * block);
		struct echo e;
		uint64_t features;

		assert_non_null(host);
		memset(host, 0, 3 * block);
		echo_init(&e, packed);
		features = echo_features(&e);
		assert_int_equal(gm_add_device_memory(e.g.gm, (struct range){gpa, 3 * block}, host,
						      block, &region),
				 0);
		echo_negotiate(&e, features);
		e.d.layout = (struct vq_layout){.size = SIZE,
						.desc_gpa = gpa,
						.driver_gpa = gpa + block,
						.device_gpa = gpa + 2 * block};
		gm_grant(region, 0, 3 * block);
		echo_set_queue(&e);
		echo_status(&e, 15);
		echo_turn(&e, 3);
		assert_int_equal(echo_get_status(&e), 15);

		gm_revoke(region, (uint64_t)(i / 2) * block, block);
		/* Give it something to do: the first thing it touches may be any of the three. */
		if (packed)
			host[14] = AVAIL;
		else
			host[block + 2] = 1;
		echo_kick(&e);
		echo_turn(&e, 3);
		check_needs_reset(&e, features);
		echo_done(&e);
		free(host);
	}
}

/* ---- descriptors that are with the device already ---- */

static void test_more_than_the_ring_in_flight(void **state)
{
	(void)state;
	for (int packed = 0; packed < 2; packed++) {
		struct vq_layout layout = {.packed = packed, .size = 4};
		struct vq_chain *chains[5];
		struct driver d;
		struct guest g;
		struct vq *vq;

		guest_init(&g);
		driver_init(&d, &g, &layout);
		vq = vq_new(g.gm, 4);
		assert_int_equal(vq_start(vq, &d.layout), 0);
		for (int i = 0; i < 5; i++) {
			struct driver_buffer b = {GUEST_BASE, 1, true};

			chains[i] = vq_chain_new(vq);
			if (i == 4) {
				/* as if it had seen them used */
				memset(d.slots, 0, sizeof(d.slots));
				d.free = 4;
				d.first_free = 0;
			}
			assert_true(driver_add(&d, &b, 1, false) >= 0);
			assert_int_equal(vq_pop(vq, chains[i]), i < 4 ? 1 : -EOVERFLOW);
		}
		/* the ring is bad for good, until it is stopped */
		assert_int_equal(vq_push(vq, chains[0], 1), -EOVERFLOW);
		assert_int_equal(vq_kick_enable(vq), -EOVERFLOW);
		assert_int_equal(vq_notify_needed(vq), -EOVERFLOW);
		vq_stop(vq);
		assert_int_equal(vq_pop(vq, chains[0]), 0);
		for (int i = 0; i < 5; i++)
			vq_chain_free(chains[i]);
		vq_free(vq);
		guest_done(&g);
	}
}

/* ---- anything at all ---- */

static void test_random_rings(void **state)
{
	struct guest g;

	(void)state;
	srand(20);
	guest_init(&g);
	for (unsigned int round = 0; round < 4000; round++) {
		struct vq_layout layout = {.packed = round & 1,
					   .event_idx = round & 2,
					   .indirect_desc = round & 4,
					   .size = 8};
		struct vq_chain *chain;
		struct driver d;
		struct vq *vq;

		g.used = 0;
		driver_init(&d, &g, &layout);
		vq = vq_new(g.gm, 8);
		chain = vq_chain_new(vq);
		assert_int_equal(vq_start(vq, &d.layout), 0);
		for (unsigned int step = 0; step < 40; step++) {
			for (int i = rand() % 12; i > 0; i--) {
				/* small values make chains that get further */
				uint8_t byte = (uint8_t)(rand() % 3 ? rand() % 9 : rand());

				g.ram[(size_t)rand() % g.used] = byte;
			}
			if (vq_pop(vq, chain) == 1) {
				uint8_t buf[32];
				size_t n = (size_t)num_min(chain->writable_bytes, sizeof(buf));

				assert_true(chain->nr_readable + chain->nr_writable <= 8);
				assert_true(chain->readable_bytes + chain->writable_bytes <=
					    UINT64_C(1) << 32);
				memset(buf, 0x81, n);
				vq_chain_write(vq, chain, 0, buf, n);
				if (rand() % 4)
					vq_push(vq, chain, (uint32_t)n);
			}
			vq_notify_needed(vq);
			if (rand() % 2)
				vq_kick_disable(vq);
			else
				vq_kick_enable(vq);
		}
		vq_chain_free(chain);
		vq_free(vq);
	}
	guest_done(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_malformed_rings),
		cmocka_unit_test(test_bad_layouts),
		cmocka_unit_test(test_ring_memory_is_revoked),
		cmocka_unit_test(test_more_than_the_ring_in_flight),
		cmocka_unit_test(test_random_rings),
	};

	return cmocka_run_group_tests_name("hostile rings", tests, NULL, NULL);
}
