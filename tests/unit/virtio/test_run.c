/* SPDX-License-Identifier: BSD-3-Clause */
/* The virtio device core at work: queues and their registers, bounds, pausing, resets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/virtio/echo.h"

#define V1 VIRTIO_FEATURE(VIRTIO_F_VERSION_1)

static int setup(void **state)
{
	struct echo *e = malloc(sizeof(*e));

	assert_non_null(e);
	echo_init(e, true);
	*state = e;
	return 0;
}

static int teardown(void **state)
{
	echo_done(*state);
	free(*state);
	return 0;
}

/* ---- queues ---- */

static void test_queue_registers(void **state)
{
	struct echo *e = *state;

	echo_negotiate(e, V1);
	virtio_lock(e->vdev);
	for (unsigned int i = 0; i < ECHO_QUEUES; i++) {
		assert_int_equal(virtio_queue_size(e->vdev, i), ECHO_QUEUE_SIZE);
		assert_false(virtio_queue_enabled(e->vdev, i));
		assert_true(virtio_queue_address(e->vdev, i, VIRTIO_AREA_DESC) == 0);
	}
	/* sizes that a queue cannot have */
	virtio_queue_set_size(e->vdev, 1, 0);
	virtio_queue_set_size(e->vdev, 1, 3);
	virtio_queue_set_size(e->vdev, 1, 2 * ECHO_QUEUE_SIZE);
	virtio_queue_set_size(e->vdev, 1, 0xffff);
	assert_int_equal(virtio_queue_size(e->vdev, 1), ECHO_QUEUE_SIZE);
	virtio_queue_set_size(e->vdev, 1, 4);
	assert_int_equal(virtio_queue_size(e->vdev, 1), 4);
	/* fixed while enabled */
	virtio_queue_set_address(e->vdev, 1, VIRTIO_AREA_DEVICE, 0x1234);
	virtio_queue_enable(e->vdev, 1);
	virtio_queue_set_size(e->vdev, 1, 8);
	virtio_queue_set_address(e->vdev, 1, VIRTIO_AREA_DEVICE, 0x5678);
	assert_int_equal(virtio_queue_size(e->vdev, 1), 4);
	assert_true(virtio_queue_address(e->vdev, 1, VIRTIO_AREA_DEVICE) == 0x1234);
	assert_true(virtio_queue_enabled(e->vdev, 1));
	assert_false(virtio_queue_enabled(e->vdev, 0));
	/* queues that are not there */
	for (unsigned int i = ECHO_QUEUES; i < 0x20000; i += 0x7fff) {
		virtio_queue_set_size(e->vdev, i, 4);
		virtio_queue_set_address(e->vdev, i, VIRTIO_AREA_DESC, 1);
		virtio_queue_enable(e->vdev, i);
		assert_false(virtio_queue_reset(e->vdev, i));
		assert_int_equal(virtio_queue_size(e->vdev, i), 0);
		assert_false(virtio_queue_enabled(e->vdev, i));
		assert_true(virtio_queue_address(e->vdev, i, VIRTIO_AREA_DESC) == 0);
	}
	virtio_unlock(e->vdev);
}

static void test_packed_size_need_not_be_a_power_of_two(void **state)
{
	struct echo *e = *state;

	echo_negotiate(e, V1 | VIRTIO_FEATURE(VIRTIO_F_RING_PACKED));
	virtio_lock(e->vdev);
	virtio_queue_set_size(e->vdev, 0, 3);
	assert_int_equal(virtio_queue_size(e->vdev, 0), 3);
	virtio_queue_set_size(e->vdev, 0, 0);
	assert_int_equal(virtio_queue_size(e->vdev, 0), 3);
	virtio_unlock(e->vdev);
}

static void test_works_with_every_ring_feature(void **state)
{
	const unsigned int bits[] = {VIRTIO_F_RING_PACKED, VIRTIO_F_EVENT_IDX,
				     VIRTIO_F_INDIRECT_DESC, VIRTIO_F_RING_RESET};
	struct echo *e = *state;

	for (unsigned int set = 0; set < 16; set++) {
		uint64_t features = V1;

		for (unsigned int i = 0; i < 4; i++)
			if (set & 1u << i)
				features |= VIRTIO_FEATURE(bits[i]);
		echo_start(e, features);
		e->queue_irqs = 0;
		driver_interrupts(&e->d, true, 0);
		for (unsigned int i = 0; i < 40; i++) {
			echo_check_works(e);
			driver_interrupts(&e->d, true, 0);
		}
		assert_int_equal(e->queue_irqs, 40);
		driver_interrupts(&e->d, false, 0);
		echo_check_works(e);
		assert_int_equal(e->queue_irqs, 40);
	}
}

/* Buffers that were there before DRIVER_OK are found without a kick; none is touched earlier. */
static void test_buffers_before_driver_ok(void **state)
{
	struct driver_buffer b = {GUEST_BASE + MIB, 8, true};
	struct vq_layout layout = {.size = ECHO_QUEUE_SIZE};
	struct echo *e = *state;

	echo_negotiate(e, V1);
	driver_init(&e->d, &e->g, &layout);
	echo_set_queue(e);
	driver_add(&e->d, &b, 1, false);
	echo_kick(e);
	echo_turn(e, 3);
	assert_int_equal(e->handled, 0);
	echo_status(e, 15);
	echo_turn(e, 3);
	assert_int_equal(e->handled, 1);
	assert_int_equal(e->queue_irqs, 1);
}

static void test_no_dma_no_work(void **state)
{
	struct driver_buffer b = {GUEST_BASE + MIB, 8, true};
	struct echo *e = *state;

	echo_start(e, V1);
	driver_add(&e->d, &b, 1, false);
	e->dma = false;
	echo_kick(e);
	echo_turn(e, 3);
	assert_int_equal(e->handled, 0);
	e->dma = true;
	echo_kick(e);
	echo_turn(e, 3);
	assert_int_equal(e->handled, 1);
}

static void test_pause_and_resume(void **state)
{
	struct driver_buffer b = {GUEST_BASE + MIB, 8, true};
	struct echo *e = *state;
	uint32_t len;
	uint16_t id;

	echo_start(e, V1);
	virtio_pause(e->vdev);
	driver_add(&e->d, &b, 1, false);
	echo_kick(e);
	echo_turn(e, 3);
	assert_int_equal(e->handled, 0);
	/* the kick came while it was paused, and is not lost */
	virtio_resume(e->vdev);
	echo_turn(e, 3);
	assert_int_equal(e->handled, 1);
	assert_true(driver_get_used(&e->d, &id, &len));
	echo_check_works(e);
}

/* A driver that makes a chain available for each that is used cannot keep the loop. */
static void refill(struct echo *e)
{
	struct driver_buffer b = {GUEST_BASE + MIB, 8, true};
	uint32_t len;
	uint16_t id;

	while (driver_get_used(&e->d, &id, &len))
		;
	driver_add(&e->d, &b, 1, false);
}

static void test_work_is_bounded(void **state)
{
	struct driver_buffer b = {GUEST_BASE + MIB, 8, true};
	struct echo *e = *state;

	for (int event_idx = 0; event_idx < 2; event_idx++) {
		echo_start(e, V1 | (event_idx ? VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX) : 0));
		e->in_kick = refill;
		e->handled = 0;
		e->kicks = 0;
		driver_add(&e->d, &b, 1, false);
		driver_add(&e->d, &b, 1, false);
		echo_kick(e);
		echo_turn(e, 5);
		/* it goes on, a ring's worth at a time */
		assert_true(e->kicks >= 4 && e->kicks <= 5);
		assert_int_equal(e->handled, e->kicks * ECHO_QUEUE_SIZE);
		/* and ends when the driver does, without another kick */
		e->in_kick = NULL;
		echo_turn(e, 5);
		e->kicks = 0;
		echo_turn(e, 5);
		assert_int_equal(e->kicks, 0);
		refill(e);
		assert_true(driver_kick_needed(&e->d));
	}
}

/* A device that stops early is left alone until it asks to go on. */
static void test_device_stops_early(void **state)
{
	struct driver_buffer b = {GUEST_BASE + MIB, 8, true};
	struct echo *e = *state;

	echo_start(e, V1);
	e->stop_after = 2;
	for (int i = 0; i < 5; i++)
		driver_add(&e->d, &b, 1, false);
	e->kicks = 0;
	echo_kick(e);
	echo_turn(e, 5);
	assert_int_equal(e->kicks, 1);
	assert_int_equal(e->handled, 2);
	virtio_queue_kick(e->vdev, 0);
	echo_turn(e, 5);
	assert_int_equal(e->handled, 4);
	virtio_queue_kick(e->vdev, 0);
	echo_turn(e, 5);
	assert_int_equal(e->handled, 5);
}

/* The driver resets the device, or the queue, while a handler has let go of the lock. */
static void reset_behind(struct echo *e)
{
	virtio_unlock(e->vdev);
	echo_status(e, 0);
	virtio_lock(e->vdev);
}

static void queue_reset_behind(struct echo *e)
{
	virtio_unlock(e->vdev);
	virtio_lock(e->vdev);
	assert_true(virtio_queue_reset(e->vdev, 0));
}

static void test_reset_while_a_chain_is_out(void **state)
{
	struct driver_buffer b = {GUEST_BASE + MIB, 8, true};
	struct echo *e = *state;
	uint32_t len;
	uint16_t id;

	for (int i = 0; i < 2; i++) {
		echo_start(e, V1 | VIRTIO_FEATURE(VIRTIO_F_RING_RESET));
		e->queue_irqs = 0;
		e->in_kick = i ? queue_reset_behind : reset_behind;
		memset(guest_ptr(&e->g, b.gpa), 0x55, 8);
		driver_add(&e->d, &b, 1, false);
		driver_add(&e->d, &b, 1, false);
		e->handled = 0;
		echo_kick(e);
		echo_turn(e, 3);
		assert_int_equal(e->handled, 1);
		assert_int_equal(*(uint8_t *)guest_ptr(&e->g, b.gpa), 0x55);
		assert_false(driver_get_used(&e->d, &id, &len));
		assert_int_equal(e->queue_irqs, 0);
		assert_int_equal(echo_get_status(e), i ? 15 : 0);
		e->in_kick = NULL;
	}
}

/* ---- resets ---- */

static void test_device_reset(void **state)
{
	struct echo *e = *state;
	unsigned int resets;

	echo_start(e, V1);
	echo_check_works(e);
	resets = e->resets;
	e->transport_resets = 0;
	echo_status(e, 0);
	assert_int_equal(e->resets, resets + 1);
	assert_int_equal(e->transport_resets, 1);
	assert_int_equal(e->system_resets, 0);
	assert_false(virtio_queue_enabled(e->vdev, 0));
	assert_true(virtio_queue_address(e->vdev, 0, VIRTIO_AREA_DESC) == 0);
	assert_int_equal(virtio_driver_features(e->vdev, 1), 0);
	e->handled = 0;
	driver_add(&e->d, &(struct driver_buffer){GUEST_BASE, 1, true}, 1, false);
	echo_kick(e);
	echo_turn(e, 3);
	assert_int_equal(e->handled, 0);
}

static void test_system_reset(void **state)
{
	struct echo *e = *state;
	unsigned int resets;

	echo_start(e, V1);
	resets = e->resets;
	virtio_system_reset(e->vdev);
	assert_int_equal(e->resets, resets + 1);
	assert_int_equal(e->system_resets, 1);
	assert_int_equal(echo_get_status(e), 0);
	echo_start(e, V1);
	echo_check_works(e);
}

static void test_queue_reset(void **state)
{
	struct vq_layout layout = {.size = 8};
	struct echo *e = *state;

	/* not negotiated: nothing happens */
	echo_start(e, V1);
	virtio_lock(e->vdev);
	assert_false(virtio_queue_reset(e->vdev, 0));
	assert_true(virtio_queue_enabled(e->vdev, 0));
	virtio_unlock(e->vdev);

	echo_start(e, V1 | VIRTIO_FEATURE(VIRTIO_F_RING_RESET));
	echo_check_works(e);
	virtio_lock(e->vdev);
	assert_true(virtio_queue_reset(e->vdev, 0));
	assert_false(virtio_queue_enabled(e->vdev, 0));
	assert_int_equal(virtio_queue_size(e->vdev, 0), ECHO_QUEUE_SIZE);
	virtio_unlock(e->vdev);
	assert_int_equal(e->queue_resets, 1);
	/* another ring, of another size, takes its place */
	driver_init(&e->d, &e->g, &layout);
	echo_set_queue(e);
	echo_check_works(e);
	assert_int_equal(echo_get_status(e), 15);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_queue_registers),
		TEST(test_packed_size_need_not_be_a_power_of_two),
		TEST(test_works_with_every_ring_feature),
		TEST(test_buffers_before_driver_ok),
		TEST(test_no_dma_no_work),
		TEST(test_pause_and_resume),
		TEST(test_work_is_bounded),
		TEST(test_device_stops_early),
		TEST(test_reset_while_a_chain_is_out),
		TEST(test_device_reset),
		TEST(test_system_reset),
		TEST(test_queue_reset),
	};

	return cmocka_run_group_tests_name("virtio core at work", tests, NULL, NULL);
}
