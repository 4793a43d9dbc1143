/* SPDX-License-Identifier: BSD-3-Clause */
/* The balloon on its way to another process: balloon_save.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/num.h"
#include "tests/unit/saved_test.h"
#include "tests/unit/virtio/balloon_rig.h"

#define ENTRY 10

/* @to goes on where @from stands, once it runs. */
static void move(struct rig *to, struct rig *from)
{
	struct pack saved = {.failed = false}, again = {.failed = false};
	struct err *err = NULL;
	struct unpack in;
	int ret;

	rig_init(to, NULL);
	rig_turn(from);
	virtio_pause(from->vdev);
	virtio_device_save(from->vdev, &saved);
	memcpy(to->g.ram, from->g.ram, GUEST_SIZE);
	to->g.used = from->g.used;
	for (unsigned int i = 0; i < QUEUES; i++) {
		to->d[i] = from->d[i];
		to->d[i].g = &to->g;
	}
	in = unpack_begin(saved.bytes, saved.size);
	ret = virtio_device_load(to->vdev, &in, &err);
	assert_loaded(ret, err);
	assert_true(unpack_ended(&in));
	virtio_device_save(to->vdev, &again);
	assert_same_bytes(&saved, &again);
	pack_done(&again);
	pack_done(&saved);
}

static void go_on(struct rig *r)
{
	virtio_resume(r->vdev);
	rig_turn(r);
}

static void ignore(void *opaque, uint64_t gpa, uint64_t size)
{
	(void)opaque;
	(void)gpa;
	(void)size;
}

static void test_what_moves(void **state)
{
	struct rig *from = *state, to;
	struct balloon_info info;

	balloon_set_target(from->balloon, RIG_BOOT / 4);
	rig_set_config(from, 4, 12345);
	rig_set_config(from, 12, 0xdeadbeef);
	balloon_set_stats_interval(from->balloon, 77);
	move(&to, from);
	assert_true(to.changes > 0);
	go_on(&to);
	info = rig_info(&to);
	assert_int_equal(info.target_bytes, RIG_BOOT / 4);
	assert_int_equal(info.num_pages, RIG_BOOT / 4 * 3 / RIG_PAGE);
	assert_int_equal(info.actual, 12345);
	assert_int_equal(info.poison_val, 0xdeadbeef);
	assert_true(info.driven);
	assert_int_equal(info.features & RIG_ALL, RIG_ALL);
	{
		struct balloon_stats stats;

		balloon_stats(to.balloon, &stats);
		assert_int_equal(stats.interval_s, 77);
		assert_true(stats.supported);
	}
	/* And it works. */
	rig_range(&to, INFLATE, RIG_RAM, RIG_PAGE);
	assert_int_equal(to.calls, 1);
	rig_done(&to);
}

/* A question under way is answered there; figures that were had are had again. */
static void test_statistics_move(void **state)
{
	struct rig *from = *state, to, third;
	uint64_t gpa = guest_alloc(&from->g, ENTRY, 1);
	struct driver_buffer b = {gpa, ENTRY, false};
	struct balloon_stats stats;

	bytes_put_le(guest_ptr(&from->g, gpa), 2, BALLOON_STAT_AVAIL);
	bytes_put_le(guest_ptr(&from->g, gpa + 2), 8, 99);
	rig_add(from, STATS, &b, 1);
	move(&to, from);
	balloon_stats(to.balloon, &stats);
	assert_int_equal(stats.updates, 0);
	go_on(&to);
	balloon_stats(to.balloon, &stats);
	assert_int_equal(stats.values[BALLOON_STAT_AVAIL], 99);
	balloon_set_stats_interval(to.balloon, 3600);
	rig_turn(&to);
	assert_int_equal(rig_used(&to, STATS), 1);
	move(&third, &to);
	go_on(&third);
	rig_add(&third, STATS, &b, 1);
	rig_turn(&third);
	balloon_stats(third.balloon, &stats);
	assert_int_equal(stats.updates, 1);
	assert_int_equal(rig_used(&third, STATS), 0);
	rig_done(&third);
	rig_done(&to);
}

/* A request that is not answered is done at the other side, all of it. */
static void test_half_a_request_moves(void **state)
{
	enum { PAGES = 2000 };
	struct rig *from = *state, to;
	uint64_t gpa = guest_alloc(&from->g, PAGES * 4, 4);
	struct driver_buffer b = {gpa, PAGES * 4, false};

	for (unsigned int i = 0; i < PAGES; i++)
		bytes_put_le(guest_ptr(&from->g, gpa + (uint64_t)i * 4), 4, RIG_RAM / RIG_PAGE + i);
	rig_add(from, INFLATE, &b, 1);
	uv_run(loop_uv(from->loop), UV_RUN_NOWAIT);
	assert_int_equal(from->bytes, BALLOON_TURN_PAGES * RIG_PAGE);
	virtio_pause(from->vdev);
	move(&to, from);
	go_on(&to);
	assert_int_equal(to.bytes, PAGES * RIG_PAGE);
	assert_int_equal(rig_used(&to, INFLATE), 1);
	rig_done(&to);
}

/* A command for hints ends with the move, and the driver is told that it may use its pages. */
static void test_hints_end(void **state)
{
	struct rig *from = *state, to, third;
	uint32_t id;

	assert_int_equal(balloon_hint_start(from->balloon, ignore, NULL), 0);
	id = rig_config(from).free_page_hint_cmd_id;
	balloon_hint_stop(from->balloon);
	move(&to, from);
	to.config_irqs = 0;
	go_on(&to);
	assert_int_equal(rig_config(&to).free_page_hint_cmd_id, 1);
	assert_true(to.config_irqs > 0);
	/* The next command has a number of its own. */
	assert_int_equal(balloon_hint_start(to.balloon, ignore, NULL), 0);
	assert_int_not_equal(rig_config(&to).free_page_hint_cmd_id, id);
	/* In the middle of one as well. */
	move(&third, &to);
	assert_true(balloon_hint_ended(third.balloon));
	go_on(&third);
	assert_int_equal(rig_config(&third).free_page_hint_cmd_id, 1);
	rig_done(&third);
	rig_done(&to);
}

static void smaller(struct balloon_config *config)
{
	config->ram_bytes /= 2;
}

static void test_another_size_is_refused(void **state)
{
	struct rig *from = *state, to;
	struct pack saved = {.failed = false};
	struct err *err = NULL;
	struct unpack in;
	int ret;

	rig_init(&to, smaller);
	virtio_pause(from->vdev);
	virtio_device_save(from->vdev, &saved);
	in = unpack_begin(saved.bytes, saved.size);
	ret = virtio_device_load(to.vdev, &in, &err);
	assert_refused(ret, err, "bytes of boot memory");
	pack_done(&saved);
	rig_done(&to);
}

static void load_damaged(void *opaque, const void *bytes, size_t size)
{
	struct rig *r = opaque;
	struct unpack in = unpack_begin(bytes, size);
	struct err *err = NULL;
	int ret = virtio_device_load(r->vdev, &in, &err);

	assert_true(!ret == !err);
	err_free(err);
	if (!ret)
		virtio_resume(r->vdev);
	rig_turn(r);
	rig_reset(r);
	assert_int_equal(rig_info(r).actual, 0);
	assert_true(rig_info(r).target_bytes <= RIG_BOOT);
}

static void test_damaged_states(void **state)
{
	struct rig *from = *state, to;
	struct pack saved = {.failed = false};
	const uint32_t page = RIG_RAM / RIG_PAGE;
	struct driver_buffer b = {rig_put(from, &page, 1), 4, false};

	balloon_set_target(from->balloon, RIG_BOOT / 4);
	from->busy = 1000;
	rig_add(from, INFLATE, &b, 1);
	rig_turn(from);
	virtio_pause(from->vdev);
	virtio_device_save(from->vdev, &saved);
	rig_init(&to, NULL);
	memcpy(to.g.ram, from->g.ram, GUEST_SIZE);
	each_damage(&saved, load_damaged, &to);
	pack_done(&saved);
	rig_done(&to);
}

#define TEST(fn)        cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)
#define TEST_PACKED(fn) cmocka_unit_test_setup_teardown(fn, rig_setup_packed, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_what_moves),
		TEST_PACKED(test_what_moves),
		TEST(test_statistics_move),
		TEST(test_half_a_request_moves),
		TEST_PACKED(test_half_a_request_moves),
		TEST(test_hints_end),
		TEST(test_another_size_is_refused),
		TEST(test_damaged_states),
	};

	return cmocka_run_group_tests_name("virtio-balloon-save", tests, NULL, NULL);
}
