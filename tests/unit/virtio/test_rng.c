/* SPDX-License-Identifier: BSD-3-Clause */
/* The entropy device: what it gives, how much, and how often. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/pack.h"
#include "tests/unit/saved_test.h"
#include "tests/unit/virtio/driver.h"
#include "tests/unit/virtio/start.h"
#include "vmm/core/loop.h"
#include "vmm/virtio/rng.h"
#include "vmm/virtio/virtio_transport.h"

struct fixture {
	struct guest g;
	struct loop *loop;
	struct rng *rng;
	struct virtio_device *vdev;
	struct driver d;
	unsigned int irqs, config_irqs;
};

static void count_queue(void *opaque, unsigned int index)
{
	(void)index;
	((struct fixture *)opaque)->irqs++;
}

static void count_config(void *opaque)
{
	((struct fixture *)opaque)->config_irqs++;
}

static bool allow(void *opaque)
{
	(void)opaque;
	return true;
}

static void ignore(void *opaque)
{
	(void)opaque;
}

static const struct virtio_transport_ops transport = {
	.queue_interrupt = count_queue,
	.config_interrupt = count_config,
	.dma_allowed = allow,
	.reset = ignore,
};

static void start_driver(struct fixture *f)
{
	struct vq_layout layout = {.size = 8};

	virtio_lock(f->vdev);
	virtio_set_status(f->vdev, 0);
	start_features(f->vdev, VIRTIO_FEATURE(VIRTIO_F_VERSION_1));
	f->g.used = 0;
	driver_init(&f->d, &f->g, &layout);
	start_queue(f->vdev, 0, &f->d.layout);
	virtio_set_status(f->vdev, START_DONE);
	virtio_unlock(f->vdev);
}

static void init(struct fixture *f, uint64_t max_bytes, uint32_t period_ms)
{
	struct rng_config config = {
		.id = "rng0", .max_bytes = max_bytes, .period_ms = period_ms, VIRTIO_RING_DEFAULTS};

	memset(f, 0, sizeof(*f));
	guest_init(&f->g);
	f->loop = loop_new_main(NULL);
	config.gm = f->g.gm;
	config.loop = f->loop;
	f->rng = rng_new(&config, NULL);
	assert_non_null(f->rng);
	f->vdev = rng_device(f->rng);
	assert_int_equal(virtio_device_type(f->vdev), 4);
	assert_int_equal(virtio_nr_queues(f->vdev), 1);
	assert_int_equal(virtio_config_size(f->vdev), 0);
	virtio_attach(f->vdev, &transport, f);
	start_driver(f);
}

static void done(struct fixture *f)
{
	virtio_attach(f->vdev, NULL, NULL);
	rng_free(f->rng);
	loop_free(f->loop);
	guest_done(&f->g);
}

static void turn(struct fixture *f)
{
	for (int i = 0; i < 3; i++)
		uv_run(loop_uv(f->loop), UV_RUN_NOWAIT);
}

static void ask(struct fixture *f, uint64_t gpa, uint32_t len)
{
	struct driver_buffer b = {gpa, len, true};

	assert_true(driver_add(&f->d, &b, 1, false) >= 0);
	virtio_queue_kick(f->vdev, 0);
}

/* The length of the next answer, or -1. */
static int64_t answer(struct fixture *f)
{
	uint32_t len;
	uint16_t id;

	return driver_get_used(&f->d, &id, &len) ? (int64_t)len : -1;
}

static void test_fills_buffers(void **state)
{
	static const uint8_t zeros[64];
	struct fixture f;
	uint64_t gpa;

	(void)state;
	init(&f, RNG_MAX_BYTES_DEFAULT, RNG_PERIOD_MS_DEFAULT);
	gpa = guest_alloc(&f.g, 3 * 64, 1);
	ask(&f, gpa, 64);
	ask(&f, gpa + 64, 64);
	turn(&f);
	assert_int_equal(answer(&f), 64);
	assert_int_equal(answer(&f), 64);
	assert_int_equal(answer(&f), -1);
	/* 64 random bytes are neither zero nor the next 64; nothing beyond them was touched */
	assert_memory_not_equal(guest_ptr(&f.g, gpa), zeros, 64);
	assert_memory_not_equal(guest_ptr(&f.g, gpa), guest_ptr(&f.g, gpa + 64), 64);
	assert_memory_equal(guest_ptr(&f.g, gpa + 128), zeros, 64);
	assert_int_equal(f.irqs, 1);
	done(&f);
}

static void test_every_page_of_a_large_buffer(void **state)
{
	static const uint8_t zeros[32];
	struct fixture f;
	uint64_t gpa;

	(void)state;
	init(&f, RNG_MAX_BYTES_DEFAULT, RNG_PERIOD_MS_DEFAULT);
	gpa = guest_alloc(&f.g, MIB, 4096);
	ask(&f, gpa, MIB);
	turn(&f);
	/* less than was asked for, and exactly that */
	assert_int_equal(answer(&f), RNG_REQUEST_BYTES_MAX);
	for (unsigned int at = 0; at < RNG_REQUEST_BYTES_MAX; at += 32)
		assert_memory_not_equal(guest_ptr(&f.g, gpa + at), zeros, 32);
	for (unsigned int at = RNG_REQUEST_BYTES_MAX; at < MIB; at += 32)
		assert_memory_equal(guest_ptr(&f.g, gpa + at), zeros, 32);
	done(&f);
}

static void test_nothing_to_write(void **state)
{
	struct driver_buffer b = {GUEST_BASE, 16, false};
	struct fixture f;

	(void)state;
	init(&f, RNG_MAX_BYTES_DEFAULT, RNG_PERIOD_MS_DEFAULT);
	assert_true(driver_add(&f.d, &b, 1, false) >= 0);
	ask(&f, GUEST_BASE + MIB, 0);
	turn(&f);
	assert_int_equal(answer(&f), 0);
	assert_int_equal(answer(&f), 0);
	assert_int_equal(f.config_irqs, 0);
	done(&f);
}

static void test_buffer_outside_of_memory(void **state)
{
	struct fixture f;

	(void)state;
	init(&f, RNG_MAX_BYTES_DEFAULT, RNG_PERIOD_MS_DEFAULT);
	ask(&f, GUEST_BASE + GUEST_SIZE - 8, 16);
	turn(&f);
	assert_int_equal(answer(&f), -1);
	assert_int_equal(f.config_irqs, 1);
	start_driver(&f);
	ask(&f, GUEST_BASE + MIB, 16);
	turn(&f);
	assert_int_equal(answer(&f), 16);
	done(&f);
}

static void test_limit(void **state)
{
	struct fixture f;

	(void)state;
	init(&f, 24, 1);
	for (int i = 0; i < 4; i++)
		ask(&f, GUEST_BASE + MIB, 16);
	turn(&f);
	assert_int_equal(answer(&f), 16);
	assert_int_equal(answer(&f), 8);
	/* later periods answer the rest; the loop sleeps until each begins */
	while (answer(&f) != 16)
		uv_run(loop_uv(f.loop), UV_RUN_ONCE);
	while (answer(&f) != 8)
		uv_run(loop_uv(f.loop), UV_RUN_ONCE);
	assert_int_equal(answer(&f), -1);
	done(&f);
}

/* An hour is longer than the test: what happens here happens within one period. */
static void test_reset_does_not_refill(void **state)
{
	struct fixture f;

	(void)state;
	init(&f, 24, 3600 * 1000);
	ask(&f, GUEST_BASE + MIB, 24);
	turn(&f);
	assert_int_equal(answer(&f), 24);
	ask(&f, GUEST_BASE + MIB, 24);
	turn(&f);
	assert_int_equal(answer(&f), -1);
	start_driver(&f);
	ask(&f, GUEST_BASE + MIB, 1);
	turn(&f);
	assert_int_equal(answer(&f), -1);
	done(&f);
}

/* Every wrong value is named, with what is allowed. */
static void test_wrong_limits(void **state)
{
	struct rng_config config = {.id = "rng0", .period_ms = 1};
	struct err *err = NULL;

	(void)state;
	assert_null(rng_new(&config, &err));
	assert_non_null(strstr(err_message(err), "'rng0'"));
	assert_non_null(strstr(err_message(err), "max-bytes=0"));
	err_free(err);
	err = NULL;
	config.max_bytes = UINT64_C(1) << 63;
	assert_null(rng_new(&config, &err));
	assert_non_null(strstr(err_message(err), "max-bytes=9223372036854775808"));
	err_free(err);
	err = NULL;
	config.max_bytes = 1;
	config.period_ms = 0;
	assert_null(rng_new(&config, &err));
	assert_non_null(strstr(err_message(err), "period=0"));
	err_free(err);
	assert_null(rng_new(&config, NULL));
	rng_free(NULL);
}

/* ---- moving ---- */

/* A device that no driver has found yet becomes @from, with its memory and its driver. */
static void move(struct fixture *to, struct fixture *from, uint64_t max_bytes, uint32_t period_ms)
{
	struct pack saved = {.failed = false};
	struct err *err = NULL;
	struct unpack in;
	int ret;

	init(to, max_bytes, period_ms);
	virtio_lock(to->vdev);
	virtio_set_status(to->vdev, 0);
	virtio_unlock(to->vdev);
	virtio_pause(from->vdev);
	virtio_device_save(from->vdev, &saved);
	memcpy(to->g.ram, from->g.ram, GUEST_SIZE);
	to->g.used = from->g.used;
	to->d = from->d;
	to->d.g = &to->g;
	in = unpack_begin(saved.bytes, saved.size);
	ret = virtio_device_load(to->vdev, &in, &err);
	assert_loaded(ret, err);
	assert_true(unpack_ended(&in));
	pack_done(&saved);
	virtio_resume(to->vdev);
	turn(to);
}

/* The limit is used up, and a request waits for the next period: one machine answers it, once. */
static void test_moves_with_a_request_that_waits(void **state)
{
	struct fixture from, to;

	(void)state;
	init(&from, 24, 50);
	ask(&from, GUEST_BASE + MIB, 24);
	turn(&from);
	assert_int_equal(answer(&from), 24);
	ask(&from, GUEST_BASE + MIB, 16);
	ask(&from, GUEST_BASE + MIB, 8);
	turn(&from);
	move(&to, &from, 24, 50);
	while (answer(&to) != 16)
		uv_run(loop_uv(to.loop), UV_RUN_ONCE);
	turn(&to);
	assert_int_equal(answer(&to), 8);
	assert_int_equal(answer(&to), -1);
	/* the period is over, and the one that is stopped answers nothing */
	turn(&from);
	assert_int_equal(answer(&from), -1);
	/* until it goes on, because nothing came of the move: then with what it has */
	virtio_resume(from.vdev);
	while (answer(&from) != 16)
		uv_run(loop_uv(from.loop), UV_RUN_ONCE);
	done(&from);
	done(&to);
}

/* An hour is longer than the test. */
static void test_moving_does_not_refill(void **state)
{
	struct fixture from, to;

	(void)state;
	init(&from, 24, 3600 * 1000);
	ask(&from, GUEST_BASE + MIB, 20);
	turn(&from);
	assert_int_equal(answer(&from), 20);
	move(&to, &from, 24, 3600 * 1000);
	ask(&to, GUEST_BASE + MIB, 24);
	ask(&to, GUEST_BASE + MIB, 24);
	turn(&to);
	assert_int_equal(answer(&to), 4);
	assert_int_equal(answer(&to), -1);
	done(&from);
	done(&to);
}

/* The limit is the host's: what is set where the machine goes on counts. */
static void test_moves_to_another_limit(void **state)
{
	struct fixture from, to;

	(void)state;
	init(&from, 24, 3600 * 1000);
	ask(&from, GUEST_BASE + MIB, 24);
	turn(&from);
	assert_int_equal(answer(&from), 24);
	ask(&from, GUEST_BASE + MIB, 24);
	turn(&from);
	move(&to, &from, RNG_MAX_BYTES_DEFAULT, RNG_PERIOD_MS_DEFAULT);
	assert_int_equal(answer(&to), 24);
	done(&from);
	move(&from, &to, 16, 3600 * 1000);
	ask(&from, GUEST_BASE + MIB, 24);
	turn(&from);
	assert_int_equal(answer(&from), 16);
	done(&from);
	done(&to);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fills_buffers),
		cmocka_unit_test(test_every_page_of_a_large_buffer),
		cmocka_unit_test(test_nothing_to_write),
		cmocka_unit_test(test_buffer_outside_of_memory),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_reset_does_not_refill),
		cmocka_unit_test(test_wrong_limits),
		cmocka_unit_test(test_moves_with_a_request_that_waits),
		cmocka_unit_test(test_moving_does_not_refill),
		cmocka_unit_test(test_moves_to_another_limit),
	};

	return cmocka_run_group_tests_name("virtio-rng", tests, NULL, NULL);
}
