/* SPDX-License-Identifier: BSD-3-Clause */
/* The device of the virtio tests: see echo.h. */
#include "tests/unit/virtio/echo.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/pack.h"
#include "tests/unit/virtio/start.h"

static void echo_config_read(void *opaque, uint32_t offset, void *buf, uint32_t size)
{
	struct echo *e = opaque;

	assert_true(offset + size <= ECHO_CONFIG);
	memcpy(buf, e->config + offset, size);
}

static void echo_config_write(void *opaque, uint32_t offset, const void *buf, uint32_t size)
{
	struct echo *e = opaque;

	assert_true(offset + size <= ECHO_CONFIG);
	memcpy(e->config + offset, buf, size);
}

static bool echo_features_ok(void *opaque, uint64_t features)
{
	(void)opaque;
	return !(features & VIRTIO_FEATURE(ECHO_F_VETO));
}

static void echo_driver_ok(void *opaque)
{
	((struct echo *)opaque)->driver_oks++;
}

/* Copies at most 64 bytes each way. */
static bool echo_answer(struct echo *e, struct vq *vq, uint32_t *ret_written)
{
	char buf[64] = {0};
	size_t in = (size_t)num_min(e->chain->readable_bytes, sizeof(buf));
	size_t out = (size_t)num_min(e->chain->writable_bytes, sizeof(buf));

	if (vq_chain_read(vq, e->chain, 0, buf, in) || vq_chain_write(vq, e->chain, 0, buf, out))
		return false;
	*ret_written = (uint32_t)out;
	return true;
}

static void echo_queue_kick(void *opaque, unsigned int index)
{
	struct echo *e = opaque;
	unsigned int n = 0;
	uint32_t written;

	e->kicks++;
	while ((!e->stop_after || n < e->stop_after) &&
	       virtio_queue_pop(e->vdev, index, e->chain)) {
		e->handled++;
		n++;
		if (e->in_kick)
			e->in_kick(e);
		if (echo_answer(e, virtio_queue(e->vdev, index), &written))
			virtio_queue_push(e->vdev, index, e->chain, written);
		else if (!e->in_kick)
			virtio_set_needs_reset(e->vdev, "a buffer is not in guest memory");
	}
}

static void echo_queue_reset(void *opaque, unsigned int index)
{
	assert_true(index < ECHO_QUEUES);
	((struct echo *)opaque)->queue_resets++;
}

static void echo_reset(void *opaque)
{
	((struct echo *)opaque)->resets++;
}

static void echo_system_reset(void *opaque)
{
	((struct echo *)opaque)->system_resets++;
}

static void echo_save(void *opaque, struct pack *out)
{
	pack_bytes(out, ((struct echo *)opaque)->config, ECHO_CONFIG);
}

static int echo_load(void *opaque, uint32_t version, struct unpack *in, struct err **err)
{
	assert_int_equal(version, 1);
	unpack_bytes(in, ((struct echo *)opaque)->config, ECHO_CONFIG);
	return unpack_failed(in) ? err_set(err, EINVAL, "an echo that is cut short") : 0;
}

static const struct virtio_device_ops echo_ops = {
	.config_read = echo_config_read,
	.config_write = echo_config_write,
	.features_ok = echo_features_ok,
	.driver_ok = echo_driver_ok,
	.queue_kick = echo_queue_kick,
	.queue_reset = echo_queue_reset,
	.reset = echo_reset,
	.system_reset = echo_system_reset,
	.state_version = 1,
	.save = echo_save,
	.load = echo_load,
};

static void echo_queue_interrupt(void *opaque, unsigned int index)
{
	assert_true(index < ECHO_QUEUES);
	((struct echo *)opaque)->queue_irqs++;
}

static void echo_config_interrupt(void *opaque)
{
	((struct echo *)opaque)->config_irqs++;
}

static bool echo_dma_allowed(void *opaque)
{
	return ((struct echo *)opaque)->dma;
}

static void echo_transport_reset(void *opaque)
{
	((struct echo *)opaque)->transport_resets++;
}

static const struct virtio_transport_ops echo_transport_ops = {
	.queue_interrupt = echo_queue_interrupt,
	.config_interrupt = echo_config_interrupt,
	.dma_allowed = echo_dma_allowed,
	.reset = echo_transport_reset,
};

void echo_init(struct echo *e, bool packed)
{
	const uint16_t sizes[ECHO_QUEUES] = {ECHO_QUEUE_SIZE, ECHO_QUEUE_SIZE};
	struct virtio_device_config config = {
		.id = "echo",
		.device_id = 42,
		.features = VIRTIO_FEATURE(ECHO_F_TASTE) | VIRTIO_FEATURE(ECHO_F_VETO),
		.config_size = ECHO_CONFIG,
		.nr_queues = ECHO_QUEUES,
		.queue_sizes = sizes,
		.packed = packed,
		VIRTIO_RING_DEFAULTS,
	};

	memset(e, 0, sizeof(*e));
	guest_init(&e->g);
	e->loop = loop_new_main(NULL);
	assert_non_null(e->loop);
	config.gm = e->g.gm;
	config.loop = e->loop;
	e->vdev = virtio_device_new(&config, &echo_ops, e, NULL);
	assert_non_null(e->vdev);
	e->chain = vq_chain_new(virtio_queue(e->vdev, 0));
	assert_non_null(e->chain);
	e->dma = true;
	virtio_attach(e->vdev, &echo_transport_ops, e);
}

void echo_done(struct echo *e)
{
	virtio_attach(e->vdev, NULL, NULL);
	virtio_device_free(e->vdev);
	vq_chain_free(e->chain);
	loop_free(e->loop);
	guest_done(&e->g);
}

uint64_t echo_features(const struct echo *e)
{
	uint64_t offered = virtio_offered_features(e->vdev, 0) |
			   (uint64_t)virtio_offered_features(e->vdev, 1) << 32;

	return offered & ~VIRTIO_FEATURE(ECHO_F_VETO);
}

void echo_status(struct echo *e, uint8_t value)
{
	virtio_lock(e->vdev);
	virtio_set_status(e->vdev, value);
	virtio_unlock(e->vdev);
}

uint8_t echo_get_status(struct echo *e)
{
	uint8_t status;

	virtio_lock(e->vdev);
	status = virtio_status(e->vdev);
	virtio_unlock(e->vdev);
	return status;
}

void echo_negotiate(struct echo *e, uint64_t features)
{
	echo_status(e, 0);
	echo_status(e, VIRTIO_STATUS_ACKNOWLEDGE);
	echo_status(e, VIRTIO_STATUS_ACKNOWLEDGE | VIRTIO_STATUS_DRIVER);
	virtio_lock(e->vdev);
	virtio_set_driver_features(e->vdev, 0, (uint32_t)features);
	virtio_set_driver_features(e->vdev, 1, (uint32_t)(features >> 32));
	virtio_unlock(e->vdev);
	echo_status(e, 11);
}

void echo_set_queue(struct echo *e)
{
	virtio_lock(e->vdev);
	start_queue(e->vdev, 0, &e->d.layout);
	virtio_unlock(e->vdev);
}

void echo_start(struct echo *e, uint64_t features)
{
	struct vq_layout layout = {
		.packed = features & VIRTIO_FEATURE(VIRTIO_F_RING_PACKED),
		.event_idx = features & VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX),
		.indirect_desc = features & VIRTIO_FEATURE(VIRTIO_F_INDIRECT_DESC),
		.size = ECHO_QUEUE_SIZE,
	};

	echo_negotiate(e, features);
	assert_int_equal(echo_get_status(e), 11);
	e->g.used = 0;
	driver_init(&e->d, &e->g, &layout);
	echo_set_queue(e);
	echo_status(e, 15);
	assert_int_equal(echo_get_status(e), 15);
	echo_turn(e, 10);
}

void echo_kick(struct echo *e)
{
	virtio_queue_kick(e->vdev, 0);
}

void echo_turn(struct echo *e, unsigned int rounds)
{
	for (unsigned int i = 0; i < rounds; i++)
		uv_run(loop_uv(e->loop), UV_RUN_NOWAIT);
}

void echo_check_works(struct echo *e)
{
	uint64_t gpa = guest_alloc(&e->g, 16, 1);
	struct driver_buffer b[2] = {{gpa, 8, false}, {gpa + 8, 8, true}};
	uint32_t len;
	uint16_t id;
	int added;

	memcpy(guest_ptr(&e->g, gpa), "question", 8);
	added = driver_add(&e->d, b, 2, false);
	assert_true(added >= 0);
	echo_kick(e);
	echo_turn(e, 2);
	assert_true(driver_get_used(&e->d, &id, &len));
	assert_int_equal(id, added);
	assert_int_equal(len, 8);
	assert_memory_equal(guest_ptr(&e->g, gpa + 8), "question", 8);
}
