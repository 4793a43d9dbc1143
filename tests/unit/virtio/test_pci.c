/* SPDX-License-Identifier: BSD-3-Clause */
/* The PCI transport, as a driver finds it: through the bridge's ECAM window and the BARs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/err.h"
#include "tests/unit/virtio/pci_machine.h"

static int setup(void **state)
{
	struct machine *m = malloc(sizeof(*m));

	assert_non_null(m);
	machine_init(m, VIRTIO_PCI_VECTORS_AUTO);
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	machine_done(*state);
	free(*state);
	return 0;
}

/* ---- what configuration space says ---- */

static void test_identity(void **state)
{
	struct machine *m = *state;

	assert_int_equal(cfg_read(m, 0, 4), 0x1af4 | (0x1040 + 42) << 16);
	assert_int_equal(cfg_read(m, 8, 1), 1);
	assert_int_equal(cfg_read(m, 8, 4) >> 8, VIRTIO_PCI_CLASS_OTHER);
	assert_int_equal(cfg_read(m, 0x2c, 2), 0x1af4);
	assert_true(cfg_read(m, 0x2e, 2) >= 0x40);
	assert_int_equal(cfg_read(m, 0x3d, 1), 1);
	assert_int_equal(cfg_read(m, 0x20, 1) & 15, 12); /* 64-bit, prefetchable */
	assert_int_equal(cfg_read(m, 0x14, 1) & 15, 0);
	assert_int_equal(pci_device_slot(virtio_pci_device(m->vp)), SLOT);
}

static void test_capabilities(void **state)
{
	struct machine *m = *state;
	uint64_t end = 0;

	for (unsigned int type = 1; type <= 4; type++) {
		unsigned int at = m->caps[type];
		uint64_t offset, length;

		assert_int_not_equal(at, 0);
		assert_true(cfg_read(m, at + 2, 1) >= 16);
		assert_int_equal(cfg_read(m, at + 4, 1), 4);
		offset = cfg_read(m, at + 8, 4);
		length = cfg_read(m, at + 12, 4);
		assert_int_equal(offset % 4, 0);
		assert_true(length && offset + length <= 16 * KIB);
		end = num_max(end, offset + length);
		/* read-only */
		cfg_write(m, at + 8, 4, 0xffffffff);
		assert_int_equal(cfg_read(m, at + 8, 4), offset);
	}
	assert_true(cfg_read(m, m->caps[1] + 12, 4) >= 60);
	assert_int_equal(cfg_read(m, m->caps[4] + 12, 4), ECHO_CONFIG);
	assert_int_equal(cfg_read(m, m->caps[2] + 16, 4), 4);
	assert_true(cfg_read(m, m->caps[2] + 12, 4) >= 4 * (ECHO_QUEUES - 1) + 2);
	assert_int_not_equal(m->caps[5], 0);
	assert_int_equal(cfg_read(m, m->caps[5] + 2, 1), 20);
}

/* ---- common configuration ---- */

static void test_common_registers(void **state)
{
	struct machine *m = *state;

	assert_int_equal(bar_read(m, 18, 2), ECHO_QUEUES);
	assert_int_equal(bar_read(m, 16, 2), 0xffff);
	for (unsigned int q = 0; q < 4; q++) {
		bar_write(m, 22, 2, q);
		assert_int_equal(bar_read(m, 22, 2), q);
		assert_int_equal(bar_read(m, 24, 2), q < ECHO_QUEUES ? ECHO_QUEUE_SIZE : 0);
		assert_int_equal(bar_read(m, 26, 2), 0xffff);
		assert_int_equal(bar_read(m, 28, 2), 0);
		assert_int_equal(bar_read(m, 30, 2), q < ECHO_QUEUES ? q : 0);
		assert_int_equal(bar_read(m, 58, 2), 0);
	}
	bar_write(m, 22, 2, 1);
	/* halves of a 64-bit field, and all of it */
	bar_write(m, 32, 4, 0x11223344);
	bar_write(m, 36, 4, 0x55667788);
	assert_int_equal(bar_read(m, 32, 4), 0x11223344);
	assert_int_equal(bar_read(m, 36, 4), 0x55667788);
	assert_true(bar_read(m, 32, 8) == UINT64_C(0x5566778811223344));
	bar_write(m, 40, 8, UINT64_C(0x0102030405060708));
	assert_int_equal(bar_read(m, 44, 4), 0x01020304);
	bar_write(m, 36, 4, 1);
	assert_true(bar_read(m, 32, 8) == UINT64_C(0x111223344));
	/* a wide read is the fields that it covers; a wide write is nothing */
	assert_int_equal(bar_read(m, 16, 4), 0xffff | ECHO_QUEUES << 16);
	assert_int_equal(bar_read(m, 17, 1), 0xff);
	bar_write(m, 24, 4, 0x00020004);
	bar_write(m, 24, 1, 4);
	assert_int_equal(bar_read(m, 24, 2), ECHO_QUEUE_SIZE);
	/* read-only fields, and the space behind the structure */
	bar_write(m, 18, 2, 9);
	assert_int_equal(bar_read(m, 18, 2), ECHO_QUEUES);
	bar_write(m, 60, 4, 0xffffffff);
	assert_int_equal(bar_read(m, 60, 4), 0);
	assert_int_equal(bar_read(m, 0xffc, 4), 0);
	/* queue_enable is no switch */
	bar_write(m, 28, 2, 2);
	assert_int_equal(bar_read(m, 28, 2), 0);
	bar_write(m, 28, 2, 1);
	bar_write(m, 28, 2, 0);
	assert_int_equal(bar_read(m, 28, 2), 1);
	/* a reset of the device undoes all of it */
	bar_write(m, 20, 1, 0);
	assert_int_equal(bar_read(m, 22, 2), 0);
	bar_write(m, 22, 2, 1);
	assert_int_equal(bar_read(m, 28, 2), 0);
	assert_true(bar_read(m, 32, 8) == 0);
}

static void test_feature_windows(void **state)
{
	struct machine *m = *state;

	assert_true(all_features(m) & VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
	bar_write(m, 0, 4, 2);
	assert_int_equal(bar_read(m, 4, 4), 0);
	bar_write(m, 0, 4, 0xffffffff);
	assert_int_equal(bar_read(m, 4, 4), 0);
	bar_write(m, 8, 4, 1);
	bar_write(m, 12, 4, 0x101);
	assert_int_equal(bar_read(m, 12, 4), 0x101);
	bar_write(m, 8, 4, 0);
	assert_int_equal(bar_read(m, 12, 4), 0);
}

static void test_vectors(void **state)
{
	const uint32_t fields[] = {16, 26};
	struct machine *m = *state;
	struct machine without;

	for (unsigned int i = 0; i < 2; i++) {
		for (uint32_t v = 0; v < VECTORS; v++) {
			bar_write(m, fields[i], 2, v);
			assert_int_equal(bar_read(m, fields[i], 2), v);
		}
		bar_write(m, fields[i], 2, 0xffff);
		assert_int_equal(bar_read(m, fields[i], 2), 0xffff);
		/* vectors that it does not have */
		bar_write(m, fields[i], 2, 1);
		bar_write(m, fields[i], 2, VECTORS);
		assert_int_equal(bar_read(m, fields[i], 2), 0xffff);
		bar_write(m, fields[i], 2, 0x7ff);
		assert_int_equal(bar_read(m, fields[i], 2), 0xffff);
	}
	bar_write(m, 16, 2, 1);
	bar_write(m, 26, 2, 2);
	bar_write(m, 22, 2, 1);
	assert_int_equal(bar_read(m, 26, 2), 0xffff);
	bar_write(m, 20, 1, 0);
	assert_int_equal(bar_read(m, 16, 2), 0xffff);
	assert_int_equal(bar_read(m, 26, 2), 0xffff);

	machine_init(&without, 0);
	bar_write(&without, 16, 2, 0);
	assert_int_equal(bar_read(&without, 16, 2), 0xffff);
	machine_done(&without);
}

static void test_device_config(void **state)
{
	struct machine *m = *state;
	uint8_t generation = (uint8_t)bar_read(m, 21, 1);

	memcpy(m->e.config, "0123456789ab", 12);
	virtio_config_changed(m->e.vdev);
	assert_int_equal(bar_read(m, 0x2004, 4), 0x37363534);
	assert_int_equal(bar_read(m, 0x200b, 1), 'b');
	assert_int_equal(bar_read(m, 0x200a, 4), 'a' | 'b' << 8);
	assert_int_equal(bar_read(m, 0x2100, 4), 0);
	assert_int_not_equal(bar_read(m, 21, 1), generation);
	bar_write(m, 0x2002, 2, 0x4142);
	assert_memory_equal(m->e.config, "01BA456789ab", 12);
}

/* ---- doorbells ---- */

static bool has_doorbells(struct machine *m, uint64_t bar4)
{
	if (m->hv.nr_doorbells != ECHO_QUEUES)
		return false;
	for (unsigned int i = 0; i < ECHO_QUEUES; i++) {
		unsigned int found = 0;

		for (unsigned int j = 0; j < ECHO_QUEUES; j++)
			if (m->hv.doorbells[j].gpa == bar4 + 0x3000 + 4 * i &&
			    m->hv.doorbells[j].fd == virtio_queue_doorbell(m->e.vdev, i))
				found++;
		if (found != 1)
			return false;
	}
	return true;
}

static void test_doorbells_follow_the_bar(void **state)
{
	const uint64_t other = WINDOW64 + 512 * MIB;
	struct machine *m = *state;

	assert_true(has_doorbells(m, m->bar4));
	cfg_write(m, 4, 2, 4); /* decoding off */
	assert_int_equal(m->hv.nr_doorbells, 0);
	cfg_write(m, 0x20, 4, (uint32_t)other);
	cfg_write(m, 0x24, 4, (uint32_t)(other >> 32));
	assert_int_equal(m->hv.nr_doorbells, 0);
	cfg_write(m, 4, 2, 6);
	assert_true(has_doorbells(m, other));
	/* moved while decoding, half by half */
	cfg_write(m, 0x20, 4, (uint32_t)m->bar4);
	cfg_write(m, 0x24, 4, (uint32_t)(m->bar4 >> 32));
	assert_true(has_doorbells(m, m->bar4));
	/* outside of the bridge's windows: nowhere */
	cfg_write(m, 0x24, 4, 0);
	assert_int_equal(m->hv.nr_doorbells, 0);
	pci_host_reset(m->host);
	assert_int_equal(m->hv.nr_doorbells, 0);
	cfg_write(m, 4, 2, 2);
	assert_true(has_doorbells(m, m->bar4));
}

/* A request and its interrupt, with the kick sent as given. */
static void round_trip(struct machine *m, unsigned int kick_size)
{
	uint64_t gpa = guest_alloc(&m->e.g, 16, 1);
	struct driver_buffer b[2] = {{gpa, 8, false}, {gpa + 8, 8, true}};
	uint64_t one = 1;
	uint32_t len;
	uint16_t id;

	memcpy(guest_ptr(&m->e.g, gpa), "question", 8);
	driver_interrupts(&m->e.d, true, 0);
	assert_true(driver_add(&m->e.d, b, 2, false) >= 0);
	if (driver_kick_needed(&m->e.d)) {
		if (kick_size)
			bar_write(m, 0x3000, kick_size, 0);
		else
			assert_int_equal(write(m->hv.doorbells[0].fd, &one, 8), 8);
	}
	echo_turn(&m->e, 3);
	assert_true(driver_get_used(&m->e.d, &id, &len));
	assert_memory_equal(guest_ptr(&m->e.g, gpa + 8), "question", 8);
}

static void test_kicks(void **state)
{
	struct machine *m = *state;

	driver_start(m, all_features(m), false);
	for (unsigned int i = 0; i < 100; i++)
		round_trip(m, i % 4 == 3 ? 0 : 1u << i % 4);
	/* doorbells of queues that do not exist, or are not enabled */
	m->e.kicks = 0;
	for (unsigned int at = 4; at < 0x1000; at += 4)
		bar_write(m, 0x3000 + at, 2, 0);
	echo_turn(&m->e, 3);
	assert_int_equal(m->e.kicks, 0);
	assert_int_equal(bar_read(m, 0x3000, 4), 0);
}

static void test_kicks_without_doorbells(void **state)
{
	struct machine *m = *state;

	m->hv.refuse_doorbells = true;
	pci_host_reset(m->host);
	cfg_write(m, 4, 2, 6);
	assert_int_equal(m->hv.nr_doorbells, 0);
	driver_start(m, all_features(m), false);
	round_trip(m, 2);
}

static void test_bus_master(void **state)
{
	struct machine *m = *state;
	struct driver_buffer b = {GUEST_BASE + MIB, 1, true};

	driver_start(m, VIRTIO_FEATURE(VIRTIO_F_VERSION_1), false);
	driver_add(&m->e.d, &b, 1, false);
	cfg_write(m, 4, 2, 2);
	bar_write(m, 0x3000, 2, 0);
	echo_turn(&m->e, 3);
	assert_int_equal(m->e.handled, 0);
	cfg_write(m, 4, 2, 6);
	bar_write(m, 0x3000, 2, 0);
	echo_turn(&m->e, 3);
	assert_int_equal(m->e.handled, 1);
}

/* ---- interrupts ---- */

static void test_intx(void **state)
{
	struct machine *m = *state;

	driver_start(m, all_features(m), false);
	assert_false(m->hv.line);
	round_trip(m, 2);
	assert_true(m->hv.line);
	assert_int_equal(cfg_read(m, 6, 2) & 8, 8);
	assert_int_equal(bar_read(m, 0x1000, 1), 1);
	assert_false(m->hv.line);
	assert_int_equal(bar_read(m, 0x1000, 1), 0);
	virtio_config_changed(m->e.vdev);
	assert_true(m->hv.line);
	round_trip(m, 2);
	assert_int_equal(bar_read(m, 0x1001, 1), 0);
	assert_int_equal(bar_read(m, 0x1000, 1), 3);
	assert_false(m->hv.line);
	/* a device reset takes the line back */
	virtio_config_changed(m->e.vdev);
	assert_true(m->hv.line);
	bar_write(m, 20, 1, 0);
	assert_false(m->hv.line);
	assert_int_equal(bar_read(m, 0x1000, 1), 0);
}

static void test_msix(void **state)
{
	struct machine *m = *state;

	enable_msix(m);
	driver_start(m, all_features(m), true);
	round_trip(m, 2);
	assert_int_equal(fake_msi_count(&m->hv, msi_address(1)), 1);
	assert_int_equal(fake_msi_count(&m->hv, msi_address(0)), 0);
	assert_int_equal(bar_read(m, 0x1000, 1), 0);
	virtio_config_changed(m->e.vdev);
	assert_int_equal(fake_msi_count(&m->hv, msi_address(0)), 1);
	assert_int_equal(bar_read(m, 0x1000, 1), 2);
	assert_false(m->hv.line);
	/* no vector: nothing is sent, by no way */
	bar_write(m, 26, 2, 0xffff);
	bar_write(m, 16, 2, 0xffff);
	round_trip(m, 2);
	virtio_config_changed(m->e.vdev);
	for (unsigned int i = 0; i < VECTORS; i++)
		assert_int_equal(fake_msi_count(&m->hv, msi_address(i)), 0);
	assert_false(m->hv.line);
	/* both on one vector */
	bar_write(m, 26, 2, 2);
	bar_write(m, 16, 2, 2);
	round_trip(m, 2);
	virtio_config_changed(m->e.vdev);
	assert_int_equal(fake_msi_count(&m->hv, msi_address(2)), 2);
}

static void test_needs_reset_interrupts(void **state)
{
	struct machine *m = *state;

	enable_msix(m);
	driver_start(m, VIRTIO_FEATURE(VIRTIO_F_VERSION_1), true);
	bytes_put_le(guest_ptr(&m->e.g, m->e.d.layout.driver_gpa + 2), 2, 1000);
	bar_write(m, 0x3000, 2, 0);
	echo_turn(&m->e, 3);
	assert_int_equal(bar_read(m, 20, 1), 0x4f);
	assert_int_equal(fake_msi_count(&m->hv, msi_address(0)), 1);
	driver_start(m, VIRTIO_FEATURE(VIRTIO_F_VERSION_1), true);
	round_trip(m, 2);
}

static void test_queue_reset_register(void **state)
{
	struct machine *m = *state;

	driver_start(m, all_features(m), false);
	bar_write(m, 26, 2, 1);
	bar_write(m, 58, 2, 2);
	assert_int_equal(bar_read(m, 28, 2), 1);
	bar_write(m, 58, 2, 1);
	assert_int_equal(bar_read(m, 58, 2), 0);
	assert_int_equal(bar_read(m, 28, 2), 0);
	assert_int_equal(bar_read(m, 24, 2), ECHO_QUEUE_SIZE);
	assert_int_equal(bar_read(m, 26, 2), 0xffff);
	assert_int_equal(m->e.queue_resets, 1);
}

/* ---- the window in configuration space ---- */

static void window_point(struct machine *m, uint32_t offset, uint32_t length)
{
	cfg_write(m, m->caps[5] + 4, 1, 4);
	cfg_write(m, m->caps[5] + 8, 4, offset);
	cfg_write(m, m->caps[5] + 12, 4, length);
}

static void test_window(void **state)
{
	struct machine *m = *state;
	unsigned int data = m->caps[5] + 16;

	cfg_write(m, 4, 2, 0); /* works without the BAR */
	window_point(m, 18, 2);
	assert_int_equal(cfg_read(m, data, 4), ECHO_QUEUES);
	assert_int_equal(cfg_read(m, m->caps[5] + 8, 4), 18);
	window_point(m, 20, 1);
	cfg_write(m, data, 1, 1);
	cfg_write(m, data, 1, 3);
	assert_int_equal(cfg_read(m, data, 1), 3);
	window_point(m, 0x2004, 4);
	memcpy(m->e.config, "0123456789ab", 12);
	assert_int_equal(cfg_read(m, data, 4), 0x37363534);
	cfg_write(m, data, 4, 0x41424344);
	assert_memory_equal(m->e.config, "0123DCBA89ab", 12);
}

static void test_window_refuses(void **state)
{
	static const uint32_t bad[][2] = {{18, 0},         {18, 3},          {18, 8},
					  {19, 2},         {0x4000, 1},      {0x3fff, 4},
					  {0xfffffffc, 4}, {18, 0xffffffff}, {0xfffffffe, 2}};
	struct machine *m = *state;
	unsigned int data = m->caps[5] + 16;

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		window_point(m, bad[i][0], bad[i][1]);
		assert_int_equal(cfg_read(m, data, 4), 0);
		cfg_write(m, data, 4, 0xffffffff);
	}
	window_point(m, 20, 1);
	for (uint32_t bar = 0; bar < 256; bar++) {
		if (bar == 4)
			continue;
		cfg_write(m, m->caps[5] + 4, 1, bar);
		assert_int_equal(cfg_read(m, data, 4), 0);
		cfg_write(m, data, 4, 1);
	}
	assert_int_equal(bar_read(m, 20, 1), 0);
	/* the header of the capability stays what it is */
	cfg_write(m, m->caps[5], 4, 0xffffffff);
	assert_int_equal(cfg_read(m, m->caps[5], 1), 9);
	assert_int_equal(cfg_read(m, m->caps[5] + 2, 2), 20 | 5 << 8);
}

static void test_machine_reset(void **state)
{
	struct machine *m = *state;

	driver_start(m, all_features(m), false);
	window_point(m, 20, 1);
	virtio_config_changed(m->e.vdev);
	assert_true(m->hv.line);
	power_up(m);
	assert_false(m->hv.line);
	assert_int_equal(m->e.system_resets, 2);
	assert_int_equal(bar_read(m, 20, 1), 0);
	assert_int_equal(cfg_read(m, m->caps[5] + 8, 4), 0);
	assert_true(has_doorbells(m, m->bar4));
	driver_start(m, all_features(m), false);
	round_trip(m, 2);
}

static void test_wrong_options(void **state)
{
	struct machine *m = *state;
	struct virtio_pci_config config = {
		.place = {.bus = pci_host_root(m->host), .slot = SLOT + 1},
		.hv = &m->hv.hv,
		.vectors = 129,
	};
	struct err *err = NULL;
	struct echo e;

	echo_init(&e, false);
	virtio_attach(e.vdev, NULL, NULL);
	assert_null(virtio_pci_new(&config, e.vdev, &err));
	assert_non_null(strstr(err_message(err), "'echo'"));
	assert_non_null(strstr(err_message(err), "vectors=129"));
	assert_non_null(strstr(err_message(err), "0 to 128"));
	err_free(err);
	/* a slot that is taken */
	config.vectors = 1;
	config.place.slot = SLOT;
	err = NULL;
	assert_null(virtio_pci_new(&config, e.vdev, &err));
	assert_non_null(err);
	err_free(err);
	virtio_pci_free(NULL);
	echo_done(&e);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_identity),
		TEST(test_capabilities),
		TEST(test_common_registers),
		TEST(test_feature_windows),
		TEST(test_vectors),
		TEST(test_device_config),
		TEST(test_doorbells_follow_the_bar),
		TEST(test_kicks),
		TEST(test_kicks_without_doorbells),
		TEST(test_bus_master),
		TEST(test_intx),
		TEST(test_msix),
		TEST(test_needs_reset_interrupts),
		TEST(test_queue_reset_register),
		TEST(test_window),
		TEST(test_window_refuses),
		TEST(test_machine_reset),
		TEST(test_wrong_options),
	};

	return cmocka_run_group_tests_name("virtio-pci", tests, NULL, NULL);
}
