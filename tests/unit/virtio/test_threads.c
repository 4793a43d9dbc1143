/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A driver on one thread, the device's queue on its I/O thread, a monitor on a third. No interrupt
 * and no kick may be lost: the driver sleeps in read(2) on the interrupt's eventfd without a
 * timeout, so a lost one hangs the test. Under the thread sanitizer this also checks the locking
 * and the ring's memory ordering.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/virtio/driver.h"
#include "tests/unit/virtio/start.h"
#include "vmm/core/loop.h"
#include "vmm/virtio/virtio_transport.h"

#define REQUESTS 20000

struct rig {
	struct guest g;
	struct driver d;
	struct loop *loop;
	struct virtio_device *vdev;
	struct vq_chain *chain;
	int irq;
	bool stop;       /* atomic */
	uint32_t config; /* guarded by the device lock */
};

static void rig_config_read(void *opaque, uint32_t offset, void *buf, uint32_t size)
{
	struct rig *r = opaque;

	memcpy(buf, (uint8_t *)&r->config + offset, size);
}

/* Adds one to a counter in the buffer. */
static void rig_queue_kick(void *opaque, unsigned int index)
{
	struct rig *r = opaque;
	struct vq *vq = virtio_queue(r->vdev, index);
	uint64_t value;

	while (virtio_queue_pop(r->vdev, index, r->chain)) {
		if (vq_chain_read(vq, r->chain, 0, &value, 8))
			continue;
		value++;
		vq_chain_write(vq, r->chain, 0, &value, 8);
		virtio_queue_push(r->vdev, index, r->chain, 8);
	}
}

static const struct virtio_device_ops rig_ops = {
	.config_read = rig_config_read,
	.queue_kick = rig_queue_kick,
};

static void rig_interrupt(void *opaque, unsigned int index)
{
	struct rig *r = opaque;
	uint64_t one = 1;
	ssize_t ret;

	(void)index;
	ret = write(r->irq, &one, sizeof(one));
	(void)ret;
}

static void rig_ignore(void *opaque)
{
	(void)opaque;
}

static bool rig_allow(void *opaque)
{
	(void)opaque;
	return true;
}

static const struct virtio_transport_ops rig_transport = {
	.queue_interrupt = rig_interrupt,
	.config_interrupt = rig_ignore,
	.dma_allowed = rig_allow,
	.reset = rig_ignore,
};

static void rig_init(struct rig *r, bool packed)
{
	const uint16_t sizes[] = {16};
	struct virtio_device_config config = {
		.id = "rig",
		.device_id = 42,
		.config_size = 4,
		.nr_queues = 1,
		.queue_sizes = sizes,
		.packed = packed,
		VIRTIO_RING_DEFAULTS,
	};

	memset(r, 0, sizeof(*r));
	guest_init(&r->g);
	r->loop = loop_new_thread("test-io", NULL);
	assert_non_null(r->loop);
	r->irq = eventfd(0, EFD_CLOEXEC);
	assert_true(r->irq >= 0);
	config.gm = r->g.gm;
	config.loop = r->loop;
	r->vdev = virtio_device_new(&config, &rig_ops, r, NULL);
	assert_non_null(r->vdev);
	r->chain = vq_chain_new(virtio_queue(r->vdev, 0));
	virtio_attach(r->vdev, &rig_transport, r);
}

static void rig_done(struct rig *r)
{
	virtio_attach(r->vdev, NULL, NULL);
	virtio_device_free(r->vdev);
	vq_chain_free(r->chain);
	loop_free(r->loop);
	close(r->irq);
	guest_done(&r->g);
}

static void rig_start(struct rig *r, const struct vq_layout *layout)
{
	uint64_t features = VIRTIO_FEATURE(VIRTIO_F_VERSION_1);

	if (layout->packed)
		features |= VIRTIO_FEATURE(VIRTIO_F_RING_PACKED);
	if (layout->event_idx)
		features |= VIRTIO_FEATURE(VIRTIO_F_EVENT_IDX);
	if (layout->indirect_desc)
		features |= VIRTIO_FEATURE(VIRTIO_F_INDIRECT_DESC);
	virtio_lock(r->vdev);
	virtio_set_status(r->vdev, 0);
	start_features(r->vdev, features);
	virtio_unlock(r->vdev);
	r->g.used = 0;
	driver_init(&r->d, &r->g, layout);
	virtio_lock(r->vdev);
	start_queue(r->vdev, 0, &r->d.layout);
	virtio_set_status(r->vdev, START_DONE);
	assert_int_equal(virtio_status(r->vdev), START_DONE);
	virtio_unlock(r->vdev);
}

/* Take a used chain, if there is one, and look at what the device made of it. */
static bool take_one(struct rig *r, const uint64_t *cells, const uint64_t *expect)
{
	const uint64_t *cell;
	uint32_t len;
	uint16_t id;

	if (!driver_get_used(&r->d, &id, &len))
		return false;
	cell = guest_ptr(&r->g, cells[id]);
	assert_int_equal(len, 8);
	assert_true(cell[1] == expect[id] + 1);
	return true;
}

/* Sleep until something is used: take all, ask for an interrupt, look again, sleep. */
static unsigned int take_used(struct rig *r, const uint64_t *cells, const uint64_t *expect)
{
	unsigned int taken = 0;
	uint64_t count;

	for (;;) {
		while (take_one(r, cells, expect))
			taken++;
		if (taken)
			return taken;
		driver_interrupts(&r->d, true, 0);
		if (take_one(r, cells, expect))
			return 1;
		assert_int_equal(read(r->irq, &count, sizeof(count)), sizeof(count));
	}
}

static void run_requests(struct rig *r, unsigned int depth)
{
	uint64_t cells[16], expect[16] = {0};
	unsigned int out = 0, sent = 0;

	for (unsigned int i = 0; i < 16; i++)
		cells[i] = guest_alloc(&r->g, 16, 16);
	while (sent < REQUESTS || out) {
		while (sent < REQUESTS && out < depth) {
			/* The ids that the driver will give out: find a free one's cell first. */
			uint16_t next = r->d.first_free;
			struct driver_buffer b[2];
			int id;

			if (r->d.layout.packed)
				for (next = 0; r->d.slots[next]; next++)
					;
			b[0] = (struct driver_buffer){cells[next], 8, false};
			b[1] = (struct driver_buffer){cells[next] + 8, 8, true};
			*(uint64_t *)guest_ptr(&r->g, cells[next]) = sent;
			expect[next] = sent;
			id = driver_add(&r->d, b, 2, r->d.layout.indirect_desc);
			if (id < 0)
				break;
			assert_int_equal(id, next);
			sent++;
			out++;
			if (driver_kick_needed(&r->d))
				virtio_queue_kick(r->vdev, 0);
		}
		out -= take_used(r, cells, expect);
	}
}

static void test_no_lost_wake_ups(void **state)
{
	(void)state;
	for (int packed = 0; packed < 2; packed++) {
		struct rig r;

		rig_init(&r, packed);
		for (unsigned int i = 0; i < 8; i++) {
			struct vq_layout layout = {.packed = packed,
						   .event_idx = i & 1,
						   .indirect_desc = i & 2,
						   .size = 16};

			rig_start(&r, &layout);
			run_requests(&r, i & 4 ? 1 : 7);
		}
		rig_done(&r);
	}
}

/* Pauses, resumes, and changes the configuration until told to stop. */
static void *monitor(void *arg)
{
	struct rig *r = arg;

	while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) {
		virtio_pause(r->vdev);
		virtio_config_changed(r->vdev);
		virtio_resume(r->vdev);
		virtio_lock(r->vdev);
		r->config++;
		virtio_config_changed_locked(r->vdev);
		virtio_unlock(r->vdev);
	}
	return NULL;
}

static void test_pauses_lose_nothing(void **state)
{
	(void)state;
	for (int packed = 0; packed < 2; packed++) {
		struct vq_layout layout = {.packed = packed, .event_idx = true, .size = 16};
		pthread_t thread;
		struct rig r;

		rig_init(&r, packed);
		rig_start(&r, &layout);
		assert_int_equal(pthread_create(&thread, NULL, monitor, &r), 0);
		run_requests(&r, 5);
		__atomic_store_n(&r.stop, true, __ATOMIC_RELEASE);
		pthread_join(thread, NULL);
		rig_done(&r);
	}
}

/* A driver that resets the device with requests out and starts over, again and again. */
static void test_resets_race_with_work(void **state)
{
	struct driver_buffer b[2];
	struct rig r;

	(void)state;
	rig_init(&r, true);
	for (unsigned int round = 0; round < 2000; round++) {
		struct vq_layout layout = {.packed = round & 1, .event_idx = round & 2, .size = 16};

		rig_start(&r, &layout);
		b[0] = (struct driver_buffer){guest_alloc(&r.g, 8, 8), 8, false};
		b[1] = (struct driver_buffer){guest_alloc(&r.g, 8, 8), 8, true};
		for (int i = 0; i < 8; i++)
			assert_true(driver_add(&r.d, b, 2, false) >= 0);
		virtio_queue_kick(r.vdev, 0);
	}
	rig_done(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_lost_wake_ups),
		cmocka_unit_test(test_pauses_lose_nothing),
		cmocka_unit_test(test_resets_race_with_work),
	};

	return cmocka_run_group_tests_name("virtio threads", tests, NULL, NULL);
}
