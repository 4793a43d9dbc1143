/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The balloon: what goes in, comes out, is reported, and what the host gets of it. balloon.h, I1 to
 * I4, I6 and I7.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "tests/unit/virtio/balloon_rig.h"

static uint32_t page_of(uint64_t gpa)
{
	return (uint32_t)(gpa / RIG_PAGE);
}

static void check_call(const struct rig *r, unsigned int call, uint64_t gpa, uint64_t size)
{
	assert_true(call < r->calls);
	assert_int_equal(r->call[call].start, gpa);
	assert_int_equal(r->call[call].size, size);
}

/* ---- what a person asks for ---- */

static void test_targets(void **state)
{
	struct rig *r = *state;

	assert_int_equal(rig_config(r).num_pages, 0);
	assert_int_equal(rig_info(r).target_bytes, RIG_BOOT);
	r->config_irqs = 0;
	balloon_set_target(r->balloon, RIG_BOOT / 2);
	assert_int_equal(rig_info(r).target_bytes, RIG_BOOT / 2);
	rig_turn(r);
	assert_int_equal(r->config_irqs, 1);
	assert_int_equal(rig_config(r).num_pages, RIG_BOOT / 2 / RIG_PAGE);
	/* A page in parts is not the guest's. */
	balloon_set_target(r->balloon, RIG_BOOT - 1);
	rig_turn(r);
	assert_int_equal(rig_config(r).num_pages, 1);
	assert_int_equal(rig_info(r).target_bytes, RIG_BOOT - RIG_PAGE);
	/* More than there is is all. */
	balloon_set_target(r->balloon, UINT64_MAX);
	rig_turn(r);
	assert_int_equal(rig_config(r).num_pages, 0);
	balloon_set_target(r->balloon, 0);
	rig_turn(r);
	assert_int_equal(rig_config(r).num_pages, RIG_BOOT / RIG_PAGE);
	assert_int_equal(rig_info(r).target_bytes, 0);
	/* The same again: a driver that has not got there is asked once more. */
	r->config_irqs = 0;
	balloon_set_target(r->balloon, 0);
	rig_turn(r);
	assert_int_equal(r->config_irqs, 1);
	rig_set_config(r, 4, (uint32_t)(RIG_BOOT / RIG_PAGE));
	balloon_set_target(r->balloon, 0);
	rig_turn(r);
	assert_int_equal(r->config_irqs, 1);
}

static void test_actual_is_the_drivers_word(void **state)
{
	struct rig *r = *state;

	rig_set_config(r, 4, 256);
	assert_int_equal(r->changes, 1);
	assert_int_equal(rig_info(r).actual_bytes, RIG_BOOT - 256 * RIG_PAGE);
	rig_set_config(r, 4, 256);
	assert_int_equal(r->changes, 1);
	/* More than there is. */
	rig_set_config(r, 4, UINT32_MAX);
	assert_int_equal(r->changes, 2);
	assert_int_equal(rig_info(r).actual_bytes, 0);
	assert_int_equal(rig_info(r).actual, UINT32_MAX);
	/* What is not the driver's stays. */
	rig_set_config(r, 0, 77);
	rig_set_config(r, 8, 77);
	assert_int_equal(rig_config(r).num_pages, 0);
	assert_int_equal(rig_config(r).free_page_hint_cmd_id, 0);
	assert_int_equal(r->changes, 2);
	rig_set_config(r, 12, 0xaaaaaaaa);
	assert_int_equal(rig_info(r).poison_val, 0xaaaaaaaa);
}

static void test_resets_empty_it(void **state)
{
	struct rig *r = *state;

	balloon_set_target(r->balloon, RIG_BOOT / 2);
	rig_turn(r);
	rig_set_config(r, 4, 100);
	rig_set_config(r, 12, 5);
	r->changes = 0;
	rig_reset(r);
	assert_int_equal(r->changes, 1);
	assert_int_equal(rig_info(r).actual, 0);
	assert_int_equal(rig_info(r).poison_val, 0);
	assert_int_equal(rig_info(r).features, 0);
	assert_false(rig_info(r).driven);
	assert_int_equal(rig_config(r).num_pages, RIG_BOOT / 2 / RIG_PAGE);
	rig_start(r, RIG_ALL);
	rig_set_config(r, 4, 100);
	virtio_system_reset(r->vdev);
	assert_int_equal(rig_info(r).actual_bytes, RIG_BOOT);
	assert_int_equal(rig_info(r).target_bytes, RIG_BOOT / 2);
}

/* ---- in and out ---- */

static void test_neighbours_go_together(void **state)
{
	struct rig *r = *state;
	const uint32_t base = page_of(RIG_RAM);
	/* Backwards, with a gap, and twice. */
	const uint32_t pages[] = {base + 9, base + 3,  base + 2, base + 1,
				  base + 2, base + 10, base + 1};

	rig_fill(r, 7);
	rig_pages(r, INFLATE, pages, ARRAY_SIZE(pages));
	assert_int_equal(r->calls, 2);
	check_call(r, 0, RIG_RAM + RIG_PAGE, 3 * RIG_PAGE);
	check_call(r, 1, RIG_RAM + 9 * RIG_PAGE, 2 * RIG_PAGE);
	assert_true(rig_holds(r, RIG_RAM, RIG_PAGE, 7));
	assert_true(rig_holds(r, RIG_RAM + RIG_PAGE, 3 * RIG_PAGE, 0));
	assert_true(rig_holds(r, RIG_RAM + 4 * RIG_PAGE, 5 * RIG_PAGE, 7));
	assert_true(rig_holds(r, RIG_RAM + 9 * RIG_PAGE, 2 * RIG_PAGE, 0));
	assert_int_equal(rig_info(r).inflated_bytes, 5 * RIG_PAGE);
	assert_int_equal(rig_info(r).discarded_bytes, 5 * RIG_PAGE);
	rig_pages(r, DEFLATE, pages, 3);
	assert_int_equal(r->calls, 2);
	assert_int_equal(rig_info(r).deflated_bytes, 3 * RIG_PAGE);
	assert_int_equal(rig_info(r).ignored_pages, 0);
}

static void test_what_is_no_memory_is_passed_over(void **state)
{
	struct rig *r = *state;
	const uint32_t pages[] = {
		0,
		UINT32_MAX,
		UINT32_MAX - 1,
		page_of(RIG_RAM),
		page_of(RIG_RAM) - 1,
		page_of(RIG_RAM + RIG_RAM_SIZE),
		page_of(RIG_DEVICE),
	};

	rig_fill(r, 7);
	rig_pages(r, INFLATE, pages, ARRAY_SIZE(pages));
	assert_int_equal(r->calls, 1);
	check_call(r, 0, RIG_RAM, RIG_PAGE);
	assert_int_equal(rig_info(r).ignored_pages, ARRAY_SIZE(pages) - 1);
	assert_int_equal(rig_info(r).inflated_bytes, RIG_PAGE);
	rig_pages(r, DEFLATE, pages, ARRAY_SIZE(pages));
	assert_int_equal(rig_info(r).deflated_bytes, RIG_PAGE);
	assert_int_equal(rig_info(r).ignored_pages, 2 * (ARRAY_SIZE(pages) - 1));
	/* Memory of which nothing can be given back is in the balloon all the same. */
	rig_range(r, INFLATE, RIG_FIXED, 2 * RIG_PAGE);
	assert_int_equal(r->calls, 1);
	assert_int_equal(rig_info(r).inflated_bytes, 3 * RIG_PAGE);
	assert_true(rig_holds(r, RIG_FIXED, RIG_FIXED_SIZE, 7));
	/* No page at all, and half a number behind one. */
	rig_pages(r, INFLATE, pages, 0);
}

static void test_only_plugged_blocks_count(void **state)
{
	struct rig *r = *state;

	gm_grant(r->region, RIG_BLOCK, RIG_BLOCK);
	rig_fill(r, 7);
	rig_range(r, INFLATE, RIG_DEVICE + RIG_BLOCK - RIG_PAGE, RIG_BLOCK + 2 * RIG_PAGE);
	assert_int_equal(rig_info(r).inflated_bytes, RIG_BLOCK);
	assert_int_equal(rig_info(r).ignored_pages, 2);
	for (unsigned int i = 0; i < r->calls; i++)
		assert_in_range(r->call[i].start, RIG_DEVICE + RIG_BLOCK,
				RIG_DEVICE + 2 * RIG_BLOCK - 1);
	assert_true(rig_holds(r, RIG_DEVICE + RIG_BLOCK, RIG_BLOCK, 0));
	assert_int_equal(r->device.host[RIG_BLOCK - 1], 7);
	assert_int_equal(r->device.host[2 * RIG_BLOCK], 7);
}

/* ---- large host pages ---- */

static void test_large_pages_go_when_they_are_whole(void **state)
{
	struct rig *r = *state;

	rig_fill(r, 7);
	/* The first but for its last page, which comes with the whole second one. */
	rig_range(r, INFLATE, RIG_HUGE, RIG_LARGE - RIG_PAGE);
	assert_int_equal(r->calls, 0);
	rig_range(r, INFLATE, RIG_HUGE + RIG_LARGE - RIG_PAGE, RIG_LARGE + RIG_PAGE);
	assert_int_equal(r->calls, 2);
	check_call(r, 0, RIG_HUGE, RIG_LARGE);
	check_call(r, 1, RIG_HUGE + RIG_LARGE, RIG_LARGE);
	assert_int_equal(rig_info(r).discarded_bytes, 2 * RIG_LARGE);
	assert_true(rig_holds(r, RIG_HUGE + 2 * RIG_LARGE, RIG_LARGE, 7));
	/* What came out is not in. */
	rig_range(r, INFLATE, RIG_HUGE + 2 * RIG_LARGE, RIG_LARGE - RIG_PAGE);
	rig_range(r, DEFLATE, RIG_HUGE + 2 * RIG_LARGE, RIG_PAGE);
	rig_range(r, INFLATE, RIG_HUGE + 3 * RIG_LARGE - RIG_PAGE, RIG_PAGE);
	assert_int_equal(r->calls, 2);
	assert_true(rig_holds(r, RIG_HUGE + 2 * RIG_LARGE, RIG_LARGE, 7));
	rig_range(r, INFLATE, RIG_HUGE + 2 * RIG_LARGE, RIG_PAGE);
	assert_int_equal(r->calls, 3);
}

static void test_a_reset_forgets_parts_of_large_pages(void **state)
{
	struct rig *r = *state;

	rig_fill(r, 7);
	rig_range(r, INFLATE, RIG_HUGE, RIG_LARGE - RIG_PAGE);
	rig_reset(r);
	rig_start(r, RIG_ALL);
	rig_range(r, INFLATE, RIG_HUGE + RIG_LARGE - RIG_PAGE, RIG_PAGE);
	assert_int_equal(r->calls, 0);
	assert_true(rig_holds(r, RIG_HUGE, RIG_LARGE, 7));
}

/* A driver that uses pages before it says so: what earlier requests named may be in use. */
static void test_large_pages_without_a_promise(void **state)
{
	struct rig *r = *state;

	rig_start(r, RIG_ALL & ~VIRTIO_FEATURE(BALLOON_F_MUST_TELL_HOST));
	rig_fill(r, 7);
	rig_range(r, INFLATE, RIG_HUGE, RIG_LARGE - RIG_PAGE);
	rig_range(r, INFLATE, RIG_HUGE + RIG_LARGE - RIG_PAGE, RIG_PAGE);
	assert_int_equal(r->calls, 0);
	rig_range(r, INFLATE, RIG_HUGE, 2 * RIG_LARGE);
	assert_int_equal(r->calls, 2);
}

/* ---- reports ---- */

static void test_reports_give_whole_pages(void **state)
{
	struct rig *r = *state;

	rig_fill(r, 7);
	rig_report(r, RIG_RAM + 100, 3 * RIG_PAGE);
	assert_int_equal(r->calls, 1);
	check_call(r, 0, RIG_RAM + RIG_PAGE, 2 * RIG_PAGE);
	rig_report(r, RIG_HUGE + RIG_PAGE, 3 * RIG_LARGE);
	assert_int_equal(r->calls, 2);
	check_call(r, 1, RIG_HUGE + RIG_LARGE, 2 * RIG_LARGE);
	rig_report(r, RIG_HUGE + RIG_PAGE, RIG_LARGE);
	rig_report(r, RIG_RAM + 1, RIG_PAGE);
	assert_int_equal(r->calls, 2);
	assert_int_equal(rig_info(r).discarded_bytes, 2 * RIG_PAGE + 2 * RIG_LARGE);
	assert_int_equal(rig_info(r).reported_bytes, 4 * RIG_PAGE + 4 * RIG_LARGE);
}

static void test_a_report_may_cross_regions(void **state)
{
	struct rig *r = *state;
	uint64_t end = RIG_RAM + RIG_RAM_SIZE;
	struct driver_buffer b[] = {
		{end - RIG_PAGE, 0x10000000u, true}, /* over a hole, RIG_HUGE and another hole */
		{UINT64_MAX - 4096, 4096, true},     /* at the end of all addresses */
		{RIG_RAM, (uint32_t)RIG_PAGE, true},
	};

	rig_fill(r, 7);
	rig_add(r, REPORTS, b, ARRAY_SIZE(b));
	rig_wait(r, REPORTS);
	assert_int_equal(r->calls, 3);
	check_call(r, 0, end - RIG_PAGE, RIG_PAGE);
	check_call(r, 1, RIG_HUGE, RIG_HUGE_SIZE);
	check_call(r, 2, RIG_RAM, RIG_PAGE);
	assert_true(rig_holds(r, RIG_HUGE, RIG_HUGE_SIZE, 0));
}

/* Pages keep what they are filled with, if that is not what pages from the host have. */
static void test_poison(void **state)
{
	struct rig *r = *state;

	rig_set_config(r, 12, 0xaaaaaaaa);
	rig_fill(r, 0xaa);
	rig_report(r, RIG_RAM, 16 * RIG_PAGE);
	assert_int_equal(r->calls, 0);
	assert_true(rig_holds(r, RIG_RAM, 16 * RIG_PAGE, 0xaa));
	assert_int_equal(rig_info(r).reported_bytes, 16 * RIG_PAGE);
	/* In the balloon they have no content. */
	rig_range(r, INFLATE, RIG_RAM, RIG_PAGE);
	assert_int_equal(r->calls, 1);
	rig_set_config(r, 12, 0);
	rig_report(r, RIG_RAM, 16 * RIG_PAGE);
	assert_int_equal(r->calls, 2);
	/* A driver that does not promise to use it has no such value. */
	rig_start(r, RIG_ALL & ~VIRTIO_FEATURE(BALLOON_F_PAGE_POISON));
	rig_set_config(r, 12, 0xaaaaaaaa);
	rig_report(r, RIG_RAM, 16 * RIG_PAGE);
	assert_int_equal(r->calls, 3);
}

/* A driver that knows of no hints may have its reports where the hints would be. */
static void test_reports_at_both_queues(void **state)
{
	struct rig *r = *state;
	struct driver_buffer b = {RIG_RAM, (uint32_t)RIG_PAGE, true};

	rig_start(r, VIRTIO_FEATURE(BALLOON_F_REPORTING) | VIRTIO_FEATURE(BALLOON_F_STATS_VQ));
	rig_fill(r, 7);
	rig_add(r, HINTS, &b, 1);
	rig_wait(r, HINTS);
	assert_int_equal(r->calls, 1);
	rig_report(r, RIG_RAM, 4096);
	assert_int_equal(r->calls, 2);
}

static void only_reports(struct balloon_config *config)
{
	config->free_page_hint = false;
}

static void only_hints(struct balloon_config *config)
{
	config->free_page_reporting = false;
}

static void neither(struct balloon_config *config)
{
	config->free_page_reporting = config->free_page_hint = false;
	config->page_poison = config->deflate_on_oom = false;
}

static void check_offer(void (*tweak)(struct balloon_config *config), unsigned int queues,
			uint64_t features)
{
	struct rig r;

	rig_init(&r, tweak);
	assert_int_equal(virtio_device_type(r.vdev), 5);
	assert_int_equal(virtio_config_size(r.vdev), 16);
	assert_int_equal(virtio_nr_queues(r.vdev), queues);
	assert_int_equal(virtio_offered_features(r.vdev, 0) & 0xffffff, features);
	rig_done(&r);
}

static void test_what_is_offered(void **state)
{
	(void)state;
	check_offer(NULL, 5, 63);
	check_offer(only_reports, 5, 63 - 8);
	check_offer(only_hints, 4, 63 - 32);
	check_offer(neither, 3, 3);
}

/* ---- who is busy, and what fails ---- */

static void test_busy_regions_are_tried_again(void **state)
{
	struct rig *r = *state;

	rig_fill(r, 7);
	r->busy = 3;
	rig_range(r, INFLATE, RIG_RAM, 2 * RIG_PAGE);
	assert_int_equal(r->calls, 1);
	assert_int_equal(rig_info(r).inflated_bytes, 2 * RIG_PAGE);
	assert_int_equal(rig_info(r).discarded_bytes, 2 * RIG_PAGE);
	r->busy = 3;
	rig_report(r, RIG_RAM, 4096);
	assert_int_equal(r->calls, 2);
	assert_int_equal(rig_info(r).discards_failed, 0);
	/* For ever. */
	r->busy = 1000000;
	rig_range(r, INFLATE, RIG_RAM, RIG_PAGE);
	rig_report(r, RIG_RAM, 4096);
	assert_int_equal(r->calls, 2);
	assert_int_equal(rig_info(r).discards_failed, 2);
	r->busy = 0;
}

/*
 * What waits for somebody is forgotten with the device, and not done behind the next driver's back.
 */
static void test_a_reset_ends_waiting(void **state)
{
	struct rig *r = *state;
	const uint32_t page = page_of(RIG_RAM);
	struct driver_buffer b = {rig_put(r, &page, 1), 4, false};

	rig_fill(r, 7);
	r->busy = 1;
	rig_add(r, INFLATE, &b, 1);
	while (r->busy)
		uv_run(loop_uv(r->loop), UV_RUN_ONCE);
	rig_reset(r);
	rig_start(r, RIG_ALL);
	/* Somebody else's request waits as long. */
	r->busy = 1;
	rig_report(r, RIG_RAM + RIG_PAGE, 4096);
	assert_int_equal(r->calls, 1);
	assert_true(rig_holds(r, RIG_RAM, RIG_PAGE, 7));
}

static void test_failures_are_counted(void **state)
{
	struct rig *r = *state;

	rig_fill(r, 7);
	r->ret = -EINVAL;
	rig_range(r, INFLATE, RIG_RAM, 2 * RIG_PAGE);
	rig_report(r, RIG_RAM, 4096);
	assert_int_equal(rig_info(r).discards_failed, 2);
	assert_int_equal(rig_info(r).discarded_bytes, 0);
	assert_int_equal(rig_info(r).inflated_bytes, 2 * RIG_PAGE);
	/* While memory is on its way nothing is given back, and that is no failure. */
	r->ret = 0;
	gm_discard_hold(r->g.gm);
	r->calls = 0;
	rig_range(r, INFLATE, RIG_RAM, 2 * RIG_PAGE);
	rig_report(r, RIG_RAM, 4096);
	gm_discard_release(r->g.gm);
	assert_int_equal(r->calls, 0);
	assert_int_equal(rig_info(r).discards_failed, 2);
	assert_false(rig_broken(r));
}

#define TEST(fn)        cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)
#define TEST_PACKED(fn) cmocka_unit_test_setup_teardown(fn, rig_setup_packed, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_targets),
		TEST(test_actual_is_the_drivers_word),
		TEST(test_resets_empty_it),
		TEST(test_neighbours_go_together),
		TEST_PACKED(test_neighbours_go_together),
		TEST(test_what_is_no_memory_is_passed_over),
		TEST(test_only_plugged_blocks_count),
		TEST(test_large_pages_go_when_they_are_whole),
		TEST(test_a_reset_forgets_parts_of_large_pages),
		TEST(test_large_pages_without_a_promise),
		TEST(test_reports_give_whole_pages),
		TEST_PACKED(test_reports_give_whole_pages),
		TEST(test_a_report_may_cross_regions),
		TEST(test_poison),
		TEST(test_reports_at_both_queues),
		cmocka_unit_test(test_what_is_offered),
		TEST(test_busy_regions_are_tried_again),
		TEST(test_a_reset_ends_waiting),
		TEST(test_failures_are_counted),
	};

	return cmocka_run_group_tests_name("virtio-balloon", tests, NULL, NULL);
}
