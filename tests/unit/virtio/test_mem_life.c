/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The virtio-mem device over time: features, configuration space, resizing from other threads,
 * and what the two kinds of reset leave. mem.h, I4.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/err.h"
#include "tests/unit/virtio/mem_rig.h"

static void with_four_blocks(struct virtio_mem_config *config)
{
	config->device.requested_size = 4 * RIG_BLOCK;
}

static int setup(void **state)
{
	return rig_setup(state, with_four_blocks);
}

/* ---- features ---- */

static void without_unplugged_inaccessible(struct virtio_mem_config *config)
{
	config->device.unplugged_inaccessible = false;
}

static void with_everything(struct virtio_mem_config *config)
{
	config->device.has_node = true;
	config->device.node_id = 3;
	config->require_inaccessible = true;
}

static void test_features(void **state)
{
	const uint64_t v1 = VIRTIO_FEATURE(VIRTIO_F_VERSION_1);
	struct vmem_config config;
	struct rig r;

	(void)state;
	rig_init(&r, without_unplugged_inaccessible);
	assert_int_equal(virtio_device_type(r.vdev), VIRTIO_ID_MEM);
	assert_int_equal(virtio_nr_queues(r.vdev), 1);
	assert_int_equal(virtio_config_size(r.vdev), 56);
	assert_int_equal(virtio_offered_features(r.vdev, 0) & 3, 0);
	rig_negotiate(&r, v1);
	assert_int_equal(rig_get_status(&r), 11);
	rig_done(&r);

	rig_init(&r, with_everything);
	assert_int_equal(virtio_offered_features(r.vdev, 0) & 3, 3);
	/* Without the promise not to touch unplugged memory this device is not for it. */
	rig_negotiate(&r, v1);
	assert_int_equal(rig_get_status(&r), 3);
	rig_negotiate(&r, v1 | VIRTIO_FEATURE(VMEM_F_ACPI_PXM));
	assert_int_equal(rig_get_status(&r), 3);
	rig_negotiate(&r, RIG_FEATURES);
	assert_int_equal(rig_get_status(&r), 11);
	rig_config(&r, &config);
	assert_int_equal(le16toh(config.node_id), 3);
	rig_done(&r);

	/* Offered, but not insisted on. */
	rig_init(&r, NULL);
	rig_negotiate(&r, v1);
	assert_int_equal(rig_get_status(&r), 11);
	rig_done(&r);
}

static void no_tweak_fits(struct virtio_mem_config *config, unsigned int which)
{
	switch (which) {
	case 0:
		config->device.block_size = 3 * 4096;
		break;
	case 1:
		config->memslot_size = RIG_BLOCK / 2;
		break;
	case 2: /* where RAM is */
		config->device.addr = GUEST_BASE;
		break;
	default:
		config->device.requested_size = RIG_SIZE + RIG_BLOCK;
		break;
	}
}

/* What cannot be made says why, and leaves nothing. */
static void test_what_cannot_be_made(void **state)
{
	struct rig *r = *state;

	for (unsigned int i = 0; i < 4; i++) {
		struct virtio_mem_config config = r->config;
		struct err *err = NULL;

		config.device.addr = RIG_ADDR + GIB;
		no_tweak_fits(&config, i);
		assert_null(virtio_mem_new(&config, &err));
		assert_non_null(err);
		err_free(err);
	}
	virtio_mem_free(NULL);
}

/* ---- configuration space ---- */

static void test_config_space(void **state)
{
	struct rig *r = *state;
	struct vmem_config config;
	uint64_t part = 0;

	rig_config(r, &config);
	assert_int_equal(le64toh(config.block_size), RIG_BLOCK);
	assert_int_equal(le64toh(config.addr), RIG_ADDR);
	assert_int_equal(le64toh(config.region_size), RIG_SIZE);
	assert_int_equal(le64toh(config.usable_region_size), 4 * RIG_BLOCK + RIG_EXTRA);
	assert_int_equal(le64toh(config.plugged_size), 0);
	assert_int_equal(le64toh(config.requested_size), 4 * RIG_BLOCK);
	virtio_lock(r->vdev);
	virtio_config_read(r->vdev, offsetof(struct vmem_config, addr) + 4, &part, 4);
	assert_int_equal(part, RIG_ADDR >> 32);
	/* Nothing in it can be written. */
	part = UINT64_MAX;
	virtio_config_write(r->vdev, offsetof(struct vmem_config, requested_size), &part, 8);
	virtio_unlock(r->vdev);
	rig_config(r, &config);
	assert_int_equal(le64toh(config.requested_size), 4 * RIG_BLOCK);
}

/* Whatever changes is a new generation; an interrupt comes for the driver's business only. */
static void test_generations(void **state)
{
	struct rig *r = *state;
	struct vmem_config config;
	uint8_t before, now;

	rig_start(r);
	before = rig_config(r, &config);
	assert_int_equal(rig_config(r, &config), before);

	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 2), VMEM_RESP_ACK);
	now = rig_config(r, &config);
	assert_int_not_equal(now, before);
	assert_int_equal(le64toh(config.plugged_size), 2 * RIG_BLOCK);
	before = now;
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 1, 1), VMEM_RESP_ACK);
	now = rig_config(r, &config);
	assert_int_not_equal(now, before);
	/* Nothing changed. */
	before = now;
	assert_int_equal(rig_request(r, VMEM_REQ_STATE, 0, 1), VMEM_RESP_ACK);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_ERROR);
	assert_int_equal(rig_config(r, &config), before);
	assert_int_equal(atomic_load(&r->config_irqs), 0);

	assert_int_equal(virtio_mem_resize(r->mem, 0, NULL), 0);
	rig_turn(r);
	assert_int_equal(atomic_load(&r->config_irqs), 1);
	now = rig_config(r, &config);
	assert_int_not_equal(now, before);
	assert_int_equal(le64toh(config.usable_region_size), 4 * RIG_BLOCK + RIG_EXTRA);
	before = now;
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 0, 1), VMEM_RESP_ACK);
	before = rig_config(r, &config);
	/* With nothing plugged it changes usable_region_size alone. */
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_ACK);
	now = rig_config(r, &config);
	assert_int_not_equal(now, before);
	assert_int_equal(le64toh(config.usable_region_size), 0);
	assert_int_equal(atomic_load(&r->config_irqs), 1);
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_ACK);
	assert_int_equal(rig_config(r, &config), now);
}

/* ---- resizing ---- */

static void test_resize_refuses(void **state)
{
	struct rig *r = *state;
	const uint64_t bad[] = {1,
				RIG_BLOCK + 1,
				RIG_BLOCK / 2,
				RIG_SIZE + RIG_BLOCK,
				UINT64_MAX,
				UINT64_MAX - RIG_BLOCK + 1};
	struct vmem_device_info info;

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err *err = NULL;

		assert_int_equal(virtio_mem_resize(r->mem, bad[i], &err), -EINVAL);
		assert_non_null(strstr(err_message(err), "'vmem0'"));
		err_free(err);
	}
	rig_turn(r);
	virtio_mem_info(r->mem, &info);
	assert_int_equal(info.requested_size, 4 * RIG_BLOCK);
}

/* Noted at once, done by the loop; the last one counts, however many there were. */
static void test_resize(void **state)
{
	struct rig *r = *state;
	struct vmem_device_info info;
	struct vmem_config config;

	rig_start(r);
	rig_turn(r);
	for (unsigned int i = 0; i < 10000; i++)
		assert_int_equal(virtio_mem_resize(r->mem, i % 9 * RIG_BLOCK, NULL), 0);
	assert_int_equal(virtio_mem_resize(r->mem, 9 * RIG_BLOCK, NULL), 0);
	virtio_mem_info(r->mem, &info);
	assert_int_equal(info.requested_size, 9 * RIG_BLOCK);
	rig_config(r, &config);
	assert_int_equal(le64toh(config.requested_size), 4 * RIG_BLOCK);
	assert_int_equal(atomic_load(&r->config_irqs), 0);
	rig_turn(r);
	rig_config(r, &config);
	assert_int_equal(le64toh(config.requested_size), 9 * RIG_BLOCK);
	assert_int_equal(le64toh(config.usable_region_size), 11 * RIG_BLOCK);
	assert_int_equal(atomic_load(&r->config_irqs), 1);
	/* The engine obeys it: beyond it is NACK. */
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 9), VMEM_RESP_ACK);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 9, 1), VMEM_RESP_NACK);
}

/* The same size again: a driver that is there already is left alone, any other one is told. */
static void test_resize_again(void **state)
{
	struct rig *r = *state;
	struct vmem_config config;

	rig_start(r);
	rig_turn(r);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 3), VMEM_RESP_ACK);
	assert_int_equal(virtio_mem_resize(r->mem, 4 * RIG_BLOCK, NULL), 0);
	rig_turn(r);
	assert_int_equal(atomic_load(&r->config_irqs), 1);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 3, 1), VMEM_RESP_ACK);
	assert_int_equal(virtio_mem_resize(r->mem, 4 * RIG_BLOCK, NULL), 0);
	rig_turn(r);
	assert_int_equal(atomic_load(&r->config_irqs), 1);
	/* Neither is one that shall stay where it is. */
	virtio_mem_resize_here(r->mem);
	rig_turn(r);
	assert_int_equal(atomic_load(&r->config_irqs), 1);
	rig_config(r, &config);
	assert_int_equal(le64toh(config.requested_size), 4 * RIG_BLOCK);
}

/* One that the loop did not come to before the device went. */
static void test_resize_then_free(void **state)
{
	struct rig r;

	(void)state;
	rig_init(&r, NULL);
	assert_int_equal(virtio_mem_resize(r.mem, 0, NULL), 0);
	rig_done(&r);
	rig_init_thread(&r, NULL);
	assert_int_equal(virtio_mem_resize(r.mem, 0, NULL), 0);
	rig_done(&r);
}

/* ---- resets ---- */

static void test_device_reset_keeps_blocks(void **state)
{
	struct rig *r = *state;

	rig_start(r);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 1, 2), VMEM_RESP_ACK);
	r->memory[RIG_BLOCK] = 0x5a;
	rig_status(r, 0);
	assert_int_equal(rig_reachable(r), 3u << 1);
	assert_int_equal(rig_plugged_bytes(r), 2 * RIG_BLOCK);
	assert_int_equal(r->memory[RIG_BLOCK], 0x5a);
	rig_start(r);
	assert_int_equal(rig_request(r, VMEM_REQ_STATE, 1, 2), VMEM_RESP_ACK);
	assert_int_equal(rig_state_type(r), VMEM_STATE_PLUGGED);
}

static void test_system_reset_unplugs_all(void **state)
{
	struct rig *r = *state;
	struct vmem_config config;

	rig_start(r);
	assert_int_equal(virtio_mem_resize(r->mem, 6 * RIG_BLOCK, NULL), 0);
	rig_turn(r);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 2), VMEM_RESP_ACK);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 4, 3), VMEM_RESP_ACK);
	memset(r->memory, 0x5a, 2 * RIG_BLOCK);
	memset(r->memory + 4 * RIG_BLOCK, 0x5a, 3 * RIG_BLOCK);
	virtio_system_reset(r->vdev);
	assert_int_equal(rig_get_status(r), 0);
	assert_int_equal(rig_reachable(r), 0);
	assert_int_equal(rig_mapped(r), 0);
	assert_int_equal(rig_plugged_bytes(r), 0);
	assert_int_equal(rig_pages(r, 0, 8), 0);
	rig_config(r, &config);
	assert_int_equal(le64toh(config.requested_size), 6 * RIG_BLOCK);
	assert_int_equal(le64toh(config.usable_region_size), 8 * RIG_BLOCK);
	rig_start(r);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 6), VMEM_RESP_ACK);
}

static void test_system_reset_that_fails(void **state)
{
	struct rig *r = *state;

	rig_start(r);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 2, 4), VMEM_RESP_ACK);
	r->remove_error = -EIO;
	virtio_system_reset(r->vdev);
	/* What the host could not take back is still plugged, in every respect. */
	assert_int_equal(rig_plugged_bytes(r), 4 * RIG_BLOCK);
	assert_int_equal(rig_reachable(r), 0xfu << 2);
	r->remove_error = 0;
	rig_start(r);
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_ACK);
	assert_int_equal(rig_mapped(r), 0);
}

/* ---- threads ---- */

struct monitor {
	struct rig *r;
	atomic_bool stop;
	unsigned int resizes;
};

static void *monitor_run(void *arg)
{
	struct monitor *m = arg;
	struct vmem_device_info info;

	while (!atomic_load(&m->stop)) {
		uint64_t want = m->resizes++ % (RIG_BLOCKS + 1) * RIG_BLOCK;

		assert_int_equal(virtio_mem_resize(m->r->mem, want, NULL), 0);
		virtio_mem_info(m->r->mem, &info);
		assert_int_equal(info.requested_size, want);
		assert_true(info.plugged_size <= RIG_SIZE);
		assert_true(virtio_mem_progress(m->r->mem) <= VIRTIO_MEM_NO_DRIVER);
	}
	return NULL;
}

/* A monitor resizes as fast as it can while the driver plugs and unplugs and the loop works. */
static void test_resize_while_requests_run(void **state)
{
	uint32_t plugged = 0;
	struct monitor m;
	pthread_t thread;
	struct rig r;

	(void)state;
	rig_init_thread(&r, NULL);
	rig_start(&r);
	m = (struct monitor){.r = &r};
	pthread_create(&thread, NULL, monitor_run, &m);
	for (unsigned int i = 0; i < 2000; i++) {
		unsigned int block = i * 7 % RIG_BLOCKS;
		bool plug = !(plugged >> block & 1);
		uint16_t answer = rig_request(&r, plug ? VMEM_REQ_PLUG : VMEM_REQ_UNPLUG, block, 1);

		/* Beyond the size or the usable region of the moment; an unplug always works. */
		if (answer == VMEM_RESP_ACK)
			plugged ^= 1u << block;
		else
			assert_true(plug &&
				    (answer == VMEM_RESP_NACK || answer == VMEM_RESP_ERROR));
	}
	atomic_store(&m.stop, true);
	pthread_join(thread, NULL);
	assert_true(m.resizes > 0);
	assert_int_equal(rig_reachable(&r), plugged);
	assert_int_equal(rig_plugged_bytes(&r), (uint64_t)__builtin_popcount(plugged) * RIG_BLOCK);
	/* The last size wins. */
	assert_int_equal(virtio_mem_resize(r.mem, RIG_SIZE, NULL), 0);
	assert_int_equal(rig_request(&r, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_ACK);
	assert_int_equal(rig_request(&r, VMEM_REQ_PLUG, 0, RIG_BLOCKS), VMEM_RESP_ACK);
	rig_done(&r);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_features),
		TEST(test_what_cannot_be_made),
		TEST(test_config_space),
		TEST(test_generations),
		TEST(test_resize_refuses),
		TEST(test_resize),
		TEST(test_resize_again),
		cmocka_unit_test(test_resize_then_free),
		TEST(test_device_reset_keeps_blocks),
		TEST(test_system_reset_unplugs_all),
		TEST(test_system_reset_that_fails),
		cmocka_unit_test(test_resize_while_requests_run),
	};

	return cmocka_run_group_tests_name("virtio-mem life", tests, NULL, NULL);
}
