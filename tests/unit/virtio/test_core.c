/* SPDX-License-Identifier: BSD-3-Clause */
/* The virtio device core, what the driver negotiates: status, features, configuration. */
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

/* ---- status and features ---- */

static void test_offered_features(void **state)
{
	struct echo *e = *state;
	struct echo plain;

	assert_int_equal(virtio_offered_features(e->vdev, 0), 3u | 1u << 28 | 1u << 29);
	assert_int_equal(virtio_offered_features(e->vdev, 1), 1u | 1u << 2 | 1u << 8);
	assert_int_equal(virtio_offered_features(e->vdev, 2), 0);
	assert_int_equal(virtio_offered_features(e->vdev, UINT32_MAX), 0);
	echo_init(&plain, false);
	assert_int_equal(virtio_offered_features(plain.vdev, 1), 1u | 1u << 8);
	echo_done(&plain);
}

static void test_features_ok_accepts(void **state)
{
	struct echo *e = *state;

	echo_negotiate(e, V1);
	assert_int_equal(echo_get_status(e), 11);
	assert_true(virtio_features(e->vdev) == V1);
	echo_negotiate(e, echo_features(e));
	assert_int_equal(echo_get_status(e), 11);
	assert_true(virtio_has_feature(e->vdev, ECHO_F_TASTE));
}

static void test_features_ok_refuses(void **state)
{
	const uint64_t bad[] = {
		0,                                      /* no VERSION_1 */
		VIRTIO_FEATURE(ECHO_F_TASTE),           /* no VERSION_1 */
		V1 | VIRTIO_FEATURE(2),                 /* not offered */
		V1 | VIRTIO_FEATURE(VIRTIO_F_IN_ORDER), /* not offered */
		V1 | VIRTIO_FEATURE(VIRTIO_F_ACCESS_PLATFORM),
		V1 | VIRTIO_FEATURE(VIRTIO_F_NOTIFICATION_DATA),
		V1 | VIRTIO_FEATURE(63),
		V1 | VIRTIO_FEATURE(ECHO_F_VETO), /* the device says no */
	};
	struct echo *e = *state;

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		echo_negotiate(e, bad[i]);
		assert_int_equal(echo_get_status(e), 3);
		assert_true(virtio_features(e->vdev) == 0);
		/* DRIVER_OK needs FEATURES_OK, and the driver gives up with FAILED */
		echo_status(e, 15);
		assert_int_equal(echo_get_status(e), 3);
		echo_status(e, 3 | VIRTIO_STATUS_FAILED);
		assert_int_equal(echo_get_status(e), 3 | VIRTIO_STATUS_FAILED);
	}
	/* a second attempt with other features is fine */
	echo_negotiate(e, bad[0]);
	virtio_lock(e->vdev);
	virtio_set_driver_features(e->vdev, 1, 1);
	virtio_unlock(e->vdev);
	echo_status(e, 11);
	assert_int_equal(echo_get_status(e), 11);
}

static void test_features_are_frozen(void **state)
{
	struct echo *e = *state;

	echo_negotiate(e, V1);
	virtio_lock(e->vdev);
	virtio_set_driver_features(e->vdev, 0, 1);
	virtio_set_driver_features(e->vdev, 1, 0);
	assert_int_equal(virtio_driver_features(e->vdev, 0), 0);
	assert_int_equal(virtio_driver_features(e->vdev, 1), 1);
	virtio_set_driver_features(e->vdev, 2, 1);
	assert_int_equal(virtio_driver_features(e->vdev, 2), 0);
	virtio_unlock(e->vdev);
	echo_status(e, 0);
	assert_int_equal(virtio_driver_features(e->vdev, 1), 0);
}

static void test_status_only_grows(void **state)
{
	struct echo *e = *state;

	echo_start(e, V1);
	for (unsigned int value = 1; value < 256; value++) {
		if ((value & 15) == 15 && (value & VIRTIO_STATUS_FAILED))
			continue;
		echo_status(e, (uint8_t)value);
		assert_int_equal(echo_get_status(e), 15);
	}
	echo_status(e, 15 | VIRTIO_STATUS_FAILED);
	echo_status(e, 15);
	assert_int_equal(echo_get_status(e), 15 | VIRTIO_STATUS_FAILED);
	echo_status(e, 0);
	assert_int_equal(echo_get_status(e), 0);
}

static void test_status_needs_its_order(void **state)
{
	struct echo *e = *state;

	virtio_lock(e->vdev);
	virtio_set_driver_features(e->vdev, 1, 1);
	virtio_unlock(e->vdev);
	echo_status(e, VIRTIO_STATUS_FEATURES_OK);
	assert_int_equal(echo_get_status(e), 0);
	echo_status(e, VIRTIO_STATUS_DRIVER_OK);
	assert_int_equal(echo_get_status(e), 0);
	echo_status(e, 3 | VIRTIO_STATUS_DRIVER_OK);
	assert_int_equal(echo_get_status(e), 3);
	assert_int_equal(e->driver_oks, 0);
	/* a driver cannot set what is the device's */
	echo_status(e, 3 | VIRTIO_STATUS_NEEDS_RESET | 0x30);
	assert_int_equal(echo_get_status(e), 3);
}

static void test_failed_stops_the_device(void **state)
{
	struct echo *e = *state;

	echo_start(e, V1);
	echo_check_works(e);
	echo_status(e, 15 | VIRTIO_STATUS_FAILED);
	e->handled = 0;
	assert_true(driver_add(&e->d, &(struct driver_buffer){GUEST_BASE, 1, true}, 1, false) >= 0);
	echo_kick(e);
	echo_turn(e, 3);
	assert_int_equal(e->handled, 0);
}

/* ---- needing a reset ---- */

static void test_needs_reset(void **state)
{
	struct echo *e = *state;

	echo_start(e, V1);
	virtio_lock(e->vdev);
	virtio_set_needs_reset(e->vdev, "first");
	virtio_set_needs_reset(e->vdev, "second");
	assert_string_equal(virtio_broken_reason(e->vdev), "first");
	assert_false(virtio_driver_ready(e->vdev));
	virtio_unlock(e->vdev);
	assert_int_equal(e->config_irqs, 1);
	/* a driver that adds bits without having seen the new one */
	echo_status(e, 15);
	assert_int_equal(echo_get_status(e), 15 | VIRTIO_STATUS_NEEDS_RESET);
	echo_status(e, 0);
	assert_int_equal(echo_get_status(e), 0);
	virtio_lock(e->vdev);
	assert_null(virtio_broken_reason(e->vdev));
	virtio_unlock(e->vdev);
	echo_start(e, V1);
	echo_check_works(e);
}

static void test_needs_reset_before_driver_ok(void **state)
{
	struct echo *e = *state;

	echo_negotiate(e, V1);
	virtio_lock(e->vdev);
	virtio_set_needs_reset(e->vdev, "early");
	virtio_unlock(e->vdev);
	assert_int_equal(echo_get_status(e), 11 | VIRTIO_STATUS_NEEDS_RESET);
	assert_int_equal(e->config_irqs, 0);
}

/* ---- configuration space ---- */

static void test_config_access_is_clipped(void **state)
{
	struct echo *e = *state;
	uint8_t buf[8];

	memcpy(e->config, "configurator", ECHO_CONFIG);
	virtio_lock(e->vdev);
	virtio_config_read(e->vdev, 4, buf, 8);
	assert_memory_equal(buf, "igurator", 8);
	virtio_config_read(e->vdev, 8, buf, 8);
	assert_memory_equal(buf, "ator\0\0\0\0", 8);
	virtio_config_read(e->vdev, ECHO_CONFIG, buf, 8);
	assert_memory_equal(buf, "\0\0\0\0\0\0\0\0", 8);
	virtio_config_read(e->vdev, UINT32_MAX, buf, 8);
	assert_memory_equal(buf, "\0\0\0\0\0\0\0\0", 8);
	virtio_config_write(e->vdev, 10, "ABCDEFGH", 8);
	virtio_config_write(e->vdev, ECHO_CONFIG, "ABCDEFGH", 8);
	virtio_config_write(e->vdev, UINT32_MAX - 3, "ABCDEFGH", 8);
	virtio_unlock(e->vdev);
	assert_memory_equal(e->config, "configuratAB", ECHO_CONFIG);
}

static void test_config_generation(void **state)
{
	struct echo *e = *state;
	uint8_t before, buf[4];

	virtio_lock(e->vdev);
	virtio_config_read(e->vdev, 0, buf, 4);
	before = virtio_config_generation(e->vdev);
	virtio_config_read(e->vdev, 0, buf, 4);
	assert_int_equal(virtio_config_generation(e->vdev), before);
	/* 256 changes are not none: what a driver reads across them is told apart */
	for (int i = 0; i < 256; i++) {
		e->config[0]++;
		virtio_config_changed_locked(e->vdev);
	}
	virtio_config_read(e->vdev, 0, buf, 4);
	assert_int_not_equal(virtio_config_generation(e->vdev), before);
	virtio_unlock(e->vdev);
}

static void test_config_interrupts(void **state)
{
	struct echo *e = *state;

	/* without a driver: none; one when it is ready, however often it changed */
	virtio_config_changed(e->vdev);
	virtio_config_changed(e->vdev);
	assert_int_equal(e->config_irqs, 0);
	echo_negotiate(e, V1);
	virtio_config_changed(e->vdev);
	assert_int_equal(e->config_irqs, 0);
	echo_status(e, 15);
	assert_int_equal(e->config_irqs, 1);
	virtio_config_changed(e->vdev);
	assert_int_equal(e->config_irqs, 2);
	/* a reset takes what is pending with it */
	echo_status(e, 0);
	virtio_config_changed(e->vdev);
	echo_negotiate(e, V1);
	echo_status(e, 15);
	assert_int_equal(e->config_irqs, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_offered_features),
		TEST(test_features_ok_accepts),
		TEST(test_features_ok_refuses),
		TEST(test_features_are_frozen),
		TEST(test_status_only_grows),
		TEST(test_status_needs_its_order),
		TEST(test_failed_stops_the_device),
		TEST(test_needs_reset),
		TEST(test_needs_reset_before_driver_ok),
		TEST(test_config_access_is_clipped),
		TEST(test_config_generation),
		TEST(test_config_interrupts),
	};

	return cmocka_run_group_tests_name("virtio core", tests, NULL, NULL);
}
