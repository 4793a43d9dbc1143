/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Virtqueues with a driver that keeps the rules: both formats, with and without event indices,
 * direct and indirect chains, across many laps of the ring.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/virtio/driver.h"

struct fixture {
	struct guest g;
	struct driver d;
	struct vq *vq;
	struct vq_chain *chain;
};

static void fixture_init(struct fixture *f, bool packed, bool event_idx, uint16_t size)
{
	struct vq_layout layout = {
		.packed = packed, .event_idx = event_idx, .indirect_desc = true, .size = size};

	guest_init(&f->g);
	driver_init(&f->d, &f->g, &layout);
	f->vq = vq_new(f->g.gm, VQ_SIZE_MAX);
	assert_non_null(f->vq);
	f->chain = vq_chain_new(f->vq);
	assert_non_null(f->chain);
	assert_int_equal(vq_start(f->vq, &f->d.layout), 0);
}

static void fixture_done(struct fixture *f)
{
	vq_chain_free(f->chain);
	vq_free(f->vq);
	guest_done(&f->g);
}

/* Run @body for each format and each kind of event suppression. */
static void for_all(void (*body)(struct fixture *f), uint16_t size)
{
	for (int i = 0; i < 4; i++) {
		struct fixture f;

		fixture_init(&f, i & 1, i & 2, size);
		body(&f);
		fixture_done(&f);
	}
}

static unsigned int rand_next(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 16;
}

/* One request: the readable part is echoed into the writable one, then compared. */
static void echo_once(struct fixture *f, unsigned int nr_read, unsigned int nr_write, bool indirect)
{
	struct driver_buffer buffers[16];
	uint8_t request[16 * 7], reply[16 * 7];
	uint64_t bytes = 0, mark = f->g.used;
	uint32_t len;
	uint16_t used_id;
	int id;

	for (unsigned int i = 0; i < nr_read + nr_write; i++) {
		buffers[i] = (struct driver_buffer){guest_alloc(&f->g, 7, 1), 7, i >= nr_read};
		if (i < nr_read)
			for (unsigned int j = 0; j < 7; j++, bytes++)
				((uint8_t *)guest_ptr(&f->g, buffers[i].gpa))[j] = request[bytes] =
					(uint8_t)(rand() >> 4);
	}
	id = driver_add(&f->d, buffers, nr_read + nr_write, indirect);
	assert_true(id >= 0);

	assert_int_equal(vq_pop(f->vq, f->chain), 1);
	assert_int_equal(f->chain->nr_readable, nr_read);
	assert_int_equal(f->chain->nr_writable, nr_write);
	assert_int_equal(f->chain->readable_bytes, 7 * nr_read);
	assert_int_equal(f->chain->writable_bytes, 7 * nr_write);
	assert_int_equal(vq_chain_read(f->vq, f->chain, 0, reply, bytes), 0);
	assert_memory_equal(reply, request, bytes);
	bytes = 7 * (nr_read < nr_write ? nr_read : nr_write);
	assert_int_equal(vq_chain_write(f->vq, f->chain, 0, request, bytes), 0);
	assert_int_equal(vq_push(f->vq, f->chain, (uint32_t)bytes), 0);
	assert_int_equal(vq_pop(f->vq, f->chain), 0);

	assert_true(driver_get_used(&f->d, &used_id, &len));
	assert_int_equal(used_id, id);
	assert_int_equal(len, bytes);
	for (unsigned int i = 0; i < nr_write && i < nr_read; i++)
		assert_memory_equal(guest_ptr(&f->g, buffers[nr_read + i].gpa), request + 7 * i, 7);
	assert_false(driver_get_used(&f->d, &used_id, &len));
	f->g.used = mark;
}

static void echo_body(struct fixture *f)
{
	for (unsigned int i = 0; i < 700; i++)
		echo_once(f, i % 4, (i + 1) % 5 + (i % 4 == 0), i % 3 == 0);
}

static void test_echo_over_many_laps(void **state)
{
	(void)state;
	for_all(echo_body, 8);
	for_all(echo_body, 256);
}

/* Free-running 16-bit indices wrap around; so do wrap counters. */
static void wrap_body(struct fixture *f)
{
	for (unsigned int i = 0; i < 70000; i++)
		echo_once(f, 1, 1, false);
}

static void test_index_wraps_at_16_bits(void **state)
{
	(void)state;
	for_all(wrap_body, 4);
}

/* A packed ring need not have a power of two descriptors; chains then straddle its end. */
static void test_packed_odd_sizes(void **state)
{
	(void)state;
	for (uint16_t size = 5; size < 40; size = (uint16_t)(size + 7)) {
		struct fixture f;

		fixture_init(&f, true, true, size);
		for (unsigned int i = 0; i < 500; i++)
			echo_once(&f, 1 + i % 3, 2, i % 5 == 0);
		fixture_done(&f);
	}
}

/* Several chains with the device at once, given back in another order. */
static void order_body(struct fixture *f)
{
	struct vq_chain *chains[8];
	uint32_t seed = 7, len;
	uint16_t id;

	for (int i = 0; i < 8; i++)
		chains[i] = vq_chain_new(f->vq);
	for (unsigned int round = 0; round < 300; round++) {
		unsigned int n = 0, given = 0;

		while (n < 8) {
			struct driver_buffer b[3] = {{GUEST_BASE, n + 1, false},
						     {GUEST_BASE, n + 1, true},
						     {GUEST_BASE, n + 1, true}};

			if (driver_add(&f->d, b, 1 + rand_next(&seed) % 3, n % 4 == 3) < 0)
				break;
			assert_int_equal(vq_pop(f->vq, chains[n]), 1);
			n++;
		}
		for (unsigned int left = n; left; left--) {
			unsigned int pick = rand_next(&seed) % left;
			struct vq_chain *chain = chains[pick];

			assert_int_equal(vq_push(f->vq, chain, (uint32_t)chain->writable_bytes), 0);
			assert_true(driver_get_used(&f->d, &id, &len));
			assert_int_equal(id, chain->id);
			assert_int_equal(len, chain->writable_bytes);
			chains[pick] = chains[left - 1];
			chains[left - 1] = chain;
			given++;
		}
		assert_int_equal(given, n);
		assert_int_equal(f->d.free, f->d.layout.size);
	}
	for (int i = 0; i < 8; i++)
		vq_chain_free(chains[i]);
}

static void test_out_of_order(void **state)
{
	(void)state;
	for_all(order_body, 16);
}

/* A ring that is full of direct chains is no breach of rules. */
static void full_body(struct fixture *f)
{
	struct driver_buffer b = {GUEST_BASE, 8, true};
	struct vq_chain *chains[16];
	uint32_t len;
	uint16_t id;

	for (unsigned int lap = 0; lap < 5; lap++) {
		for (unsigned int i = 0; i < 16; i++)
			assert_true(driver_add(&f->d, &b, 1, false) >= 0);
		assert_int_equal(driver_add(&f->d, &b, 1, false), -1);
		for (unsigned int i = 0; i < 16; i++) {
			chains[i] = vq_chain_new(f->vq);
			assert_int_equal(vq_pop(f->vq, chains[i]), 1);
		}
		assert_int_equal(vq_pop(f->vq, f->chain), 0);
		for (unsigned int i = 0; i < 16; i++) {
			assert_int_equal(vq_push(f->vq, chains[i], 8), 0);
			vq_chain_free(chains[i]);
			assert_true(driver_get_used(&f->d, &id, &len));
		}
	}
}

static void test_full_ring(void **state)
{
	(void)state;
	for_all(full_body, 16);
}

static void long_body(struct fixture *f)
{
	struct driver_buffer b[64];

	for (unsigned int i = 0; i < 64; i++)
		b[i] = (struct driver_buffer){GUEST_BASE + i, 1, i >= 32};
	for (unsigned int i = 0; i < 4; i++) {
		uint32_t len;
		uint16_t id;

		assert_true(driver_add(&f->d, b, 64, i & 1) >= 0);
		assert_int_equal(vq_pop(f->vq, f->chain), 1);
		assert_int_equal(f->chain->nr_readable, 32);
		assert_int_equal(f->chain->nr_writable, 32);
		for (unsigned int j = 0; j < 64; j++)
			assert_int_equal(f->chain->segments[j].gpa, GUEST_BASE + j);
		assert_int_equal(vq_push(f->vq, f->chain, 32), 0);
		assert_true(driver_get_used(&f->d, &id, &len));
	}
}

static void test_chain_of_queue_size(void **state)
{
	(void)state;
	for_all(long_body, 64);
}

/* Direct descriptors followed by an indirect one (2.7.5.3.2), which drivers hardly ever make. */
static void test_split_direct_then_indirect(void **state)
{
	struct driver_buffer b[2] = {{GUEST_BASE, 4, false}, {0, 32, false}};
	struct driver_buffer inner[2] = {{GUEST_BASE + 8, 4, false}, {GUEST_BASE + 16, 4, true}};
	struct fixture f;
	uint8_t *desc, *table;

	(void)state;
	fixture_init(&f, false, false, 8);
	b[1].gpa = guest_alloc(&f.g, 32, 16);
	table = guest_ptr(&f.g, b[1].gpa);
	for (int i = 0; i < 2; i++) {
		memcpy(table + 16 * i, &inner[i].gpa, 8);
		memcpy(table + 16 * i + 8, &inner[i].len, 4);
		table[16 * i + 12] = i ? 2 : 1;
		table[16 * i + 14] = i ? 0 : 1;
	}
	/* WRITE on the descriptor of the table itself is to be ignored. */
	driver_add(&f.d, b, 2, false);
	desc = guest_ptr(&f.g, f.d.layout.desc_gpa);
	desc[16 + 12] = 4 | 2;
	assert_int_equal(vq_pop(f.vq, f.chain), 1);
	assert_int_equal(f.chain->nr_readable, 2);
	assert_int_equal(f.chain->nr_writable, 1);
	assert_int_equal(f.chain->segments[2].gpa, GUEST_BASE + 16);
	fixture_done(&f);
}

/* Reads and writes at offsets, across segments, and past the ends. */
static void offset_body(struct fixture *f)
{
	uint64_t gpa = guest_alloc(&f->g, 64, 1);
	struct driver_buffer b[5] = {{gpa, 3, false},
				     {gpa + 10, 0, false},
				     {gpa + 20, 5, false},
				     {gpa + 30, 2, true},
				     {gpa + 40, 6, true}};
	char buf[8] = {0};

	memcpy(guest_ptr(&f->g, gpa), "abc", 3);
	memcpy(guest_ptr(&f->g, gpa + 20), "defgh", 5);
	assert_true(driver_add(&f->d, b, 5, false) >= 0);
	assert_int_equal(vq_pop(f->vq, f->chain), 1);
	/* the empty segment is gone */
	assert_int_equal(f->chain->nr_readable, 2);
	assert_int_equal(vq_chain_read(f->vq, f->chain, 1, buf, 4), 0);
	assert_memory_equal(buf, "bcde", 4);
	assert_int_equal(vq_chain_read(f->vq, f->chain, 7, buf, 1), 0);
	assert_int_equal(buf[0], 'h');
	assert_int_equal(vq_chain_read(f->vq, f->chain, 8, buf, 0), 0);
	assert_int_equal(vq_chain_read(f->vq, f->chain, 8, buf, 1), -EINVAL);
	assert_int_equal(vq_chain_read(f->vq, f->chain, 1, buf, 8), -EINVAL);
	assert_int_equal(vq_chain_read(f->vq, f->chain, UINT64_MAX, buf, 8), -EINVAL);
	assert_int_equal(vq_chain_write(f->vq, f->chain, 1, "XYZ", 3), 0);
	assert_memory_equal(guest_ptr(&f->g, gpa + 30), "\0X", 2);
	assert_memory_equal(guest_ptr(&f->g, gpa + 40), "YZ\0", 3);
	assert_int_equal(vq_chain_write(f->vq, f->chain, 6, "XYZ", 3), -EINVAL);
}

static void test_offsets(void **state)
{
	(void)state;
	for_all(offset_body, 8);
}

static void fault_body(struct fixture *f)
{
	struct driver_buffer b[2] = {{GUEST_BASE - 2, 4, false},
				     {GUEST_BASE + GUEST_SIZE, 4, true}};
	char buf[4];

	assert_true(driver_add(&f->d, b, 2, false) >= 0);
	assert_int_equal(vq_pop(f->vq, f->chain), 1);
	assert_int_equal(vq_chain_read(f->vq, f->chain, 0, buf, 4), -EFAULT);
	assert_int_equal(vq_chain_write(f->vq, f->chain, 0, buf, 4), -EFAULT);
	/* not the ring's fault: the chain can be given back */
	assert_int_equal(vq_push(f->vq, f->chain, 0), 0);
}

static void test_buffers_outside_of_memory(void **state)
{
	(void)state;
	for_all(fault_body, 8);
}

/* A stop voids what was popped, also when the same ring starts again. */
static void stale_body(struct fixture *f)
{
	struct driver_buffer b = {GUEST_BASE, 4, true};
	uint32_t len;
	uint16_t id;

	assert_true(driver_add(&f->d, &b, 1, false) >= 0);
	assert_int_equal(vq_pop(f->vq, f->chain), 1);
	vq_stop(f->vq);
	assert_int_equal(vq_chain_write(f->vq, f->chain, 0, "x", 1), -ESTALE);
	assert_int_equal(vq_push(f->vq, f->chain, 1), 0);
	assert_false(driver_get_used(&f->d, &id, &len));
	assert_int_equal(vq_start(f->vq, &f->d.layout), 0);
	assert_int_equal(vq_push(f->vq, f->chain, 1), 0);
	assert_int_equal(vq_chain_write(f->vq, f->chain, 0, "x", 1), -ESTALE);
	assert_int_equal(vq_notify_needed(f->vq), 0);
	assert_false(driver_get_used(&f->d, &id, &len));
}

static void test_stopped_queue(void **state)
{
	(void)state;
	for_all(stale_body, 8);
}

/* Interrupts: wanted, not wanted, and at the named chain only. */
static void interrupt_body(struct fixture *f)
{
	struct driver_buffer b = {GUEST_BASE, 4, true};
	uint32_t len;
	uint16_t id;

	for (unsigned int i = 0; i < 1000; i++) {
		bool want = i % 3, later = i % 5 == 0 && f->d.layout.event_idx;

		driver_interrupts(&f->d, want, later);
		assert_true(driver_add(&f->d, &b, 1, false) >= 0);
		assert_int_equal(vq_pop(f->vq, f->chain), 1);
		assert_int_equal(vq_push(f->vq, f->chain, 1), 0);
		assert_int_equal(vq_notify_needed(f->vq), want && !later);
		/* nothing new: nothing to tell */
		assert_int_equal(vq_notify_needed(f->vq), 0);
		if (later) {
			assert_true(driver_add(&f->d, &b, 1, false) >= 0);
			assert_int_equal(vq_pop(f->vq, f->chain), 1);
			assert_int_equal(vq_push(f->vq, f->chain, 1), 0);
			assert_int_equal(vq_notify_needed(f->vq), want);
			assert_true(driver_get_used(&f->d, &id, &len));
		}
		assert_true(driver_get_used(&f->d, &id, &len));
	}
}

static void test_interrupt_suppression(void **state)
{
	(void)state;
	for_all(interrupt_body, 4);
	for_all(interrupt_body, 64);
}

/* One question for a batch of pushes: yes if any chain of the batch was the named one. */
static void batch_body(struct fixture *f)
{
	struct driver_buffer b = {GUEST_BASE, 4, true};
	struct vq_chain *chains[8];
	uint32_t len;
	uint16_t id;

	for (unsigned int i = 0; i < 8; i++)
		chains[i] = vq_chain_new(f->vq);
	for (unsigned int round = 0; round < 200; round++) {
		unsigned int n = 1 + round % 8, later = round % 11;
		bool expect = !f->d.layout.event_idx || later < n;

		driver_interrupts(&f->d, true, (uint16_t)later);
		for (unsigned int i = 0; i < n; i++) {
			assert_true(driver_add(&f->d, &b, 1, false) >= 0);
			assert_int_equal(vq_pop(f->vq, chains[i]), 1);
		}
		for (unsigned int i = 0; i < n; i++)
			assert_int_equal(vq_push(f->vq, chains[i], 1), 0);
		assert_int_equal(vq_notify_needed(f->vq), expect);
		for (unsigned int i = 0; i < n; i++)
			assert_true(driver_get_used(&f->d, &id, &len));
	}
	for (unsigned int i = 0; i < 8; i++)
		vq_chain_free(chains[i]);
}

static void test_interrupt_batches(void **state)
{
	(void)state;
	for_all(batch_body, 16);
}

/* Kicks: asked for, not asked for, and the race between emptying and asking. */
static void kick_body(struct fixture *f)
{
	struct driver_buffer b = {GUEST_BASE, 4, true};
	uint32_t len;
	uint16_t id;

	for (unsigned int i = 0; i < 1000; i++) {
		/* asleep: the next chain kicks, the one after it does not need to (event_idx) */
		assert_int_equal(vq_kick_enable(f->vq), 0);
		assert_true(driver_add(&f->d, &b, 1, false) >= 0);
		assert_true(driver_kick_needed(&f->d));
		assert_int_equal(vq_kick_disable(f->vq), 0);
		assert_true(driver_add(&f->d, &b, 1, false) >= 0);
		assert_false(driver_kick_needed(&f->d));
		for (unsigned int j = 0; j < 2; j++) {
			assert_int_equal(vq_pop(f->vq, f->chain), 1);
			assert_int_equal(vq_push(f->vq, f->chain, 1), 0);
			assert_true(driver_get_used(&f->d, &id, &len));
		}
		/* a chain that slips in before the asking is reported by it */
		assert_int_equal(vq_pop(f->vq, f->chain), 0);
		assert_true(driver_add(&f->d, &b, 1, false) >= 0);
		assert_false(driver_kick_needed(&f->d));
		assert_int_equal(vq_kick_enable(f->vq), 1);
		assert_int_equal(vq_kick_disable(f->vq), 0);
		assert_int_equal(vq_pop(f->vq, f->chain), 1);
		assert_int_equal(vq_push(f->vq, f->chain, 1), 0);
		assert_true(driver_get_used(&f->d, &id, &len));
	}
}

static void test_kick_suppression(void **state)
{
	(void)state;
	for_all(kick_body, 4);
	for_all(kick_body, 64);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_echo_over_many_laps),
		cmocka_unit_test(test_index_wraps_at_16_bits),
		cmocka_unit_test(test_packed_odd_sizes),
		cmocka_unit_test(test_out_of_order),
		cmocka_unit_test(test_full_ring),
		cmocka_unit_test(test_chain_of_queue_size),
		cmocka_unit_test(test_split_direct_then_indirect),
		cmocka_unit_test(test_offsets),
		cmocka_unit_test(test_buffers_outside_of_memory),
		cmocka_unit_test(test_stopped_queue),
		cmocka_unit_test(test_interrupt_suppression),
		cmocka_unit_test(test_interrupt_batches),
		cmocka_unit_test(test_kick_suppression),
	};

	return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
