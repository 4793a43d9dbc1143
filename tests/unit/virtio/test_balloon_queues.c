/* SPDX-License-Identifier: BSD-3-Clause */
/* The balloon: statistics, hints, and drivers that mean no good. balloon.h, I3 and I5. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/num.h"
#include "tests/unit/virtio/balloon_rig.h"

#define ENTRY 10 /* bytes of a figure */

/* ---- statistics ---- */

/* Entry @i of the buffer at @gpa. */
static void put_stat(struct rig *r, uint64_t gpa, unsigned int i, uint16_t tag, uint64_t value)
{
	uint8_t *at = guest_ptr(&r->g, gpa + (uint64_t)i * ENTRY);

	bytes_put_le(at, 2, tag);
	bytes_put_le(at + 2, 8, value);
}

static void offer_stats(struct rig *r, uint64_t gpa, uint32_t len)
{
	struct driver_buffer b = {gpa, len, false};

	rig_add(r, STATS, &b, 1);
	rig_turn(r);
}

static struct balloon_stats stats_of(struct rig *r)
{
	struct balloon_stats stats;

	balloon_stats(r->balloon, &stats);
	return stats;
}

static void test_the_first_figures_come_unasked(void **state)
{
	struct rig *r = *state;
	uint64_t gpa = guest_alloc(&r->g, 200 * ENTRY, 1);
	struct balloon_stats stats = stats_of(r);

	assert_true(stats.supported);
	assert_int_equal(stats.updates, 0);
	assert_int_equal(stats.last_update_s, 0);
	assert_int_equal(stats.values[BALLOON_STAT_MEMFREE], BALLOON_STAT_UNKNOWN);
	put_stat(r, gpa, 0, BALLOON_STAT_MEMTOT, 1000);
	put_stat(r, gpa, 1, 4711, 1);
	put_stat(r, gpa, 2, BALLOON_STATS, 1);
	put_stat(r, gpa, 3, BALLOON_STAT_DIRECT_RECLAIM, UINT64_MAX - 1);
	put_stat(r, gpa, 4, BALLOON_STAT_SWAP_IN, 3);
	put_stat(r, gpa, 5, BALLOON_STAT_SWAP_IN, 4);
	put_stat(r, gpa, 6, BALLOON_STAT_MINFLT, 5);
	/* The last one is cut short. */
	offer_stats(r, gpa, 7 * ENTRY - 1);
	stats = stats_of(r);
	assert_int_equal(stats.updates, 1);
	assert_true(stats.last_update_s > 1500000000);
	assert_int_equal(stats.values[BALLOON_STAT_MEMTOT], 1000);
	assert_int_equal(stats.values[BALLOON_STAT_DIRECT_RECLAIM], UINT64_MAX - 1);
	assert_int_equal(stats.values[BALLOON_STAT_SWAP_IN], 4);
	assert_int_equal(stats.values[BALLOON_STAT_MINFLT], BALLOON_STAT_UNKNOWN);
	/* Nobody asks for more. */
	assert_int_equal(rig_used(r, STATS), 0);
}

/* Of a large buffer the beginning counts; of one without a figure nothing, and it is an update. */
static void test_buffers_of_any_size(void **state)
{
	struct rig *r = *state;
	uint64_t gpa = guest_alloc(&r->g, 200 * ENTRY, 1);

	for (unsigned int i = 0; i < 200; i++)
		put_stat(r, gpa, i, BALLOON_STAT_CACHES, i);
	offer_stats(r, gpa, 200 * ENTRY);
	assert_int_equal(stats_of(r).values[BALLOON_STAT_CACHES], BALLOON_STATS_ENTRIES_MAX - 1);
	balloon_set_stats_interval(r->balloon, 3600);
	rig_turn(r);
	assert_int_equal(rig_used(r, STATS), 1);
	offer_stats(r, gpa, 3);
	assert_int_equal(stats_of(r).updates, 2);
	assert_int_equal(stats_of(r).values[BALLOON_STAT_CACHES], BALLOON_STAT_UNKNOWN);
	assert_false(rig_broken(r));
}

static void test_one_question_at_a_time(void **state)
{
	struct rig *r = *state;
	uint64_t gpa = guest_alloc(&r->g, ENTRY, 1);

	/* There is nothing that could be answered yet; then it is the answer itself. */
	balloon_set_stats_interval(r->balloon, 3600);
	rig_turn(r);
	put_stat(r, gpa, 0, BALLOON_STAT_MEMFREE, 1);
	offer_stats(r, gpa, ENTRY);
	assert_int_equal(rig_used(r, STATS), 0);
	assert_int_equal(stats_of(r).updates, 1);
	assert_int_equal(stats_of(r).interval_s, 3600);
	/* Anew: at once, and only once. */
	balloon_set_stats_interval(r->balloon, 0);
	rig_turn(r);
	balloon_set_stats_interval(r->balloon, 1);
	rig_turn(r);
	balloon_set_stats_interval(r->balloon, 0);
	rig_turn(r);
	balloon_set_stats_interval(r->balloon, 1);
	rig_turn(r);
	assert_int_equal(rig_used(r, STATS), 1);
	put_stat(r, gpa, 0, BALLOON_STAT_MEMFREE, 2);
	offer_stats(r, gpa, ENTRY);
	assert_int_equal(stats_of(r).values[BALLOON_STAT_MEMFREE], 2);
	assert_int_equal(rig_used(r, STATS), 0);
	/* And when it is time. */
	rig_wait(r, STATS);
	/* A driver that has two buffers there is asked by one after the other. */
	offer_stats(r, gpa, ENTRY);
	offer_stats(r, gpa, ENTRY);
	assert_int_equal(stats_of(r).updates, 3);
	assert_int_equal(rig_used(r, STATS), 0);
	rig_wait(r, STATS);
	rig_turn(r);
	assert_int_equal(stats_of(r).updates, 4);
	assert_int_equal(rig_used(r, STATS), 0);
}

/* While the machine stands still nothing of the guest's changes. */
static void test_no_question_while_it_stands_still(void **state)
{
	struct rig *r = *state;
	uint64_t gpa = guest_alloc(&r->g, ENTRY, 1);

	offer_stats(r, gpa, ENTRY);
	virtio_pause(r->vdev);
	balloon_set_stats_interval(r->balloon, 3600);
	rig_turn(r);
	assert_int_equal(rig_used(r, STATS), 0);
	virtio_resume(r->vdev);
	rig_turn(r);
	assert_int_equal(rig_used(r, STATS), 1);
}

static void test_names_of_figures(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < BALLOON_STATS; i++)
		assert_int_equal(strncmp(balloon_stat_name((enum balloon_stat)i), "stat-", 5), 0);
	assert_string_equal(balloon_stat_name(BALLOON_STAT_HTLB_PGFAIL), "stat-htlb-pgfail");
}

/* ---- hints ---- */

struct hints {
	unsigned int nr;
	struct range at[8];
	uint64_t bytes;
};

static void hint(void *opaque, uint64_t gpa, uint64_t size)
{
	struct hints *h = opaque;

	if (h->nr < ARRAY_SIZE(h->at))
		h->at[h->nr] = (struct range){gpa, size};
	h->nr++;
	h->bytes += size;
}

static void send_number(struct rig *r, uint32_t number)
{
	struct driver_buffer b = {rig_put(r, &number, 1), 4, false};

	rig_add(r, HINTS, &b, 1);
	rig_wait(r, HINTS);
}

static void send_hint(struct rig *r, uint64_t gpa, uint32_t size)
{
	struct driver_buffer b = {gpa, size, true};

	rig_add(r, HINTS, &b, 1);
	rig_wait(r, HINTS);
}

static void test_hints_of_a_command(void **state)
{
	struct rig *r = *state;
	struct hints h = {0};
	uint32_t first, second;

	assert_true(balloon_hint_ended(r->balloon));
	r->config_irqs = 0;
	assert_int_equal(balloon_hint_start(r->balloon, hint, &h), 0);
	assert_int_equal(balloon_hint_start(r->balloon, hint, &h), -EBUSY);
	assert_false(balloon_hint_ended(r->balloon));
	assert_int_equal(r->config_irqs, 1);
	first = rig_config(r).free_page_hint_cmd_id;
	assert_true(first >= 2);
	/* Of no command, and of another one. */
	send_hint(r, RIG_RAM, 4096);
	send_number(r, first + 1);
	send_hint(r, RIG_RAM, 4096);
	assert_int_equal(h.nr, 0);
	send_number(r, first);
	send_hint(r, RIG_RAM + RIG_PAGE, 8192);
	assert_int_equal(h.nr, 1);
	assert_int_equal(h.at[0].start, RIG_RAM + RIG_PAGE);
	assert_int_equal(h.at[0].size, 8192);
	/* The driver has no more. */
	send_number(r, 0);
	assert_true(balloon_hint_ended(r->balloon));
	send_hint(r, RIG_RAM, 4096);
	send_number(r, first);
	send_hint(r, RIG_RAM, 4096);
	assert_int_equal(h.nr, 1);
	balloon_hint_stop(r->balloon);
	assert_int_equal(rig_config(r).free_page_hint_cmd_id, 0);
	assert_int_equal(balloon_hint_start(r->balloon, hint, &h), 0);
	second = rig_config(r).free_page_hint_cmd_id;
	assert_int_not_equal(first, second);
	send_number(r, first);
	send_hint(r, RIG_RAM, 4096);
	assert_int_equal(h.nr, 1);
	send_number(r, second);
	balloon_hint_done(r->balloon);
	assert_int_equal(rig_config(r).free_page_hint_cmd_id, 1);
	send_hint(r, RIG_RAM, 4096);
	assert_int_equal(h.nr, 1);
	assert_int_equal(rig_info(r).hinted_bytes, 8192);
	assert_int_equal(r->calls, 0);
}

/* Pieces are whole pages of one region, which can be reached. */
static void test_pieces_of_hints(void **state)
{
	struct rig *r = *state;
	struct hints h = {0};
	uint64_t end = RIG_RAM + RIG_RAM_SIZE;

	gm_grant(r->region, 0, RIG_BLOCK);
	assert_int_equal(balloon_hint_start(r->balloon, hint, &h), 0);
	send_number(r, rig_config(r).free_page_hint_cmd_id);
	send_hint(r, end - 2 * RIG_PAGE + 1, 0x10000000);
	assert_int_equal(h.nr, 2);
	assert_int_equal(h.at[0].start, end - RIG_PAGE);
	assert_int_equal(h.at[0].size, RIG_PAGE);
	assert_int_equal(h.at[1].start, RIG_HUGE);
	assert_int_equal(h.at[1].size, RIG_HUGE_SIZE);
	send_hint(r, RIG_RAM + 1, 4096);
	send_hint(r, UINT64_MAX - 8192, 8192);
	send_hint(r, RIG_DEVICE + RIG_BLOCK - RIG_PAGE, 8192);
	assert_int_equal(h.nr, 2);
	send_hint(r, RIG_DEVICE, (uint32_t)RIG_BLOCK);
	assert_int_equal(h.nr, 3);
	/* A number and pages in one buffer. */
	balloon_hint_stop(r->balloon);
	assert_int_equal(balloon_hint_start(r->balloon, hint, &h), 0);
	{
		uint32_t id = rig_config(r).free_page_hint_cmd_id;
		struct driver_buffer b[] = {{rig_put(r, &id, 1), 4, false}, {RIG_RAM, 4096, true}};

		rig_add(r, HINTS, b, 2);
		rig_wait(r, HINTS);
	}
	assert_int_equal(h.nr, 4);
}

static void test_hints_need_a_driver(void **state)
{
	struct rig *r = *state;
	struct hints h = {0};

	assert_int_equal(balloon_hint_start(r->balloon, hint, &h), 0);
	send_number(r, rig_config(r).free_page_hint_cmd_id);
	rig_reset(r);
	assert_true(balloon_hint_ended(r->balloon));
	assert_int_equal(rig_config(r).free_page_hint_cmd_id, 0);
	assert_int_equal(balloon_hint_start(r->balloon, hint, &h), -EOPNOTSUPP);
	balloon_hint_stop(r->balloon);
	rig_start(r, RIG_ALL & ~VIRTIO_FEATURE(BALLOON_F_FREE_PAGE_HINT));
	assert_int_equal(balloon_hint_start(r->balloon, hint, &h), -EOPNOTSUPP);
	rig_start(r, RIG_ALL);
	send_hint(r, RIG_RAM, 4096);
	assert_int_equal(h.nr, 0);
}

static void test_done_without_a_command_is_not_told(void **state)
{
	struct rig *r = *state;

	r->config_irqs = 0;
	balloon_hint_done(r->balloon);
	balloon_hint_stop(r->balloon);
	assert_int_equal(r->config_irqs, 0);
	assert_int_equal(rig_config(r).free_page_hint_cmd_id, 0);
}

/* ---- drivers that mean no good ---- */

/* Bytes come in pieces that cut numbers in two, and in more than fit a turn. */
static void test_numbers_in_pieces(void **state)
{
	enum { PAGES = 3000 };
	struct rig *r = *state;
	uint64_t gpa = guest_alloc(&r->g, PAGES * 4, 1);
	const struct driver_buffer b[] = {
		{gpa, 6, false},
		{gpa + 6, 1, false},
		{gpa + 7, 4001, false},
		{gpa + 4008, PAGES * 4 - 4008, false},
	};

	for (unsigned int i = 0; i < PAGES; i++)
		bytes_put_le(guest_ptr(&r->g, gpa + (uint64_t)i * 4), 4, RIG_RAM / RIG_PAGE + i);
	rig_fill(r, 7);
	rig_add(r, INFLATE, b, ARRAY_SIZE(b));
	uv_run(loop_uv(r->loop), UV_RUN_NOWAIT);
	assert_int_equal(r->bytes, BALLOON_TURN_PAGES * RIG_PAGE);
	assert_int_equal(rig_used(r, INFLATE), 0);
	rig_wait(r, INFLATE);
	assert_int_equal(r->bytes, PAGES * RIG_PAGE);
	assert_int_equal(r->calls, 3);
}

/* A request without end: everybody else has their turn, and a reset ends it. */
static void test_endless_requests(void **state)
{
	struct rig *r = *state;
	const struct driver_buffer all = {RIG_RAM, RIG_RAM_SIZE, false};
	struct driver_buffer b[8];
	uint64_t turns = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(b); i++)
		b[i] = all;
	rig_add(r, INFLATE, b, ARRAY_SIZE(b));
	rig_add(r, DEFLATE, b, ARRAY_SIZE(b));
	rig_turn(r);
	rig_report(r, RIG_HUGE, (uint32_t)RIG_LARGE);
	assert_int_equal(r->calls, 1);
	for (; turns < 50; turns++)
		uv_run(loop_uv(r->loop), UV_RUN_NOWAIT);
	assert_int_equal(rig_used(r, INFLATE), 0);
	assert_int_equal(rig_used(r, DEFLATE), 0);
	/* Zeros all of them: pages that are no memory. */
	assert_in_range(rig_info(r).ignored_pages, turns * BALLOON_TURN_PAGES,
			3 * (turns + 20) * BALLOON_TURN_PAGES);
	rig_reset(r);
	rig_start(r, RIG_ALL);
	rig_range(r, INFLATE, RIG_RAM, RIG_PAGE);
}

static void test_large_reports_take_turns(void **state)
{
	struct rig *r = *state;
	struct driver_buffer b = {RIG_RAM, RIG_RAM_SIZE, true};

	rig_add(r, REPORTS, &b, 1);
	uv_run(loop_uv(r->loop), UV_RUN_NOWAIT);
	assert_int_equal(r->bytes, BALLOON_TURN_BYTES);
	rig_wait(r, REPORTS);
	assert_int_equal(r->bytes, RIG_RAM_SIZE);
	assert_int_equal(r->calls, RIG_RAM_SIZE / BALLOON_TURN_BYTES);
}

static void test_wrong_kinds_of_buffers(void **state)
{
	struct rig *r = *state;
	const uint32_t page = RIG_RAM / RIG_PAGE;
	uint64_t gpa = rig_put(r, &page, 1);
	const struct driver_buffer odd = {gpa, 3, false}, writable = {gpa, 4, true};
	const struct driver_buffer readable = {RIG_RAM, 4096, false};

	rig_add(r, INFLATE, &odd, 1);
	rig_wait(r, INFLATE);
	rig_add(r, INFLATE, &writable, 1);
	rig_wait(r, INFLATE);
	rig_add(r, DEFLATE, &writable, 1);
	rig_wait(r, DEFLATE);
	rig_add(r, REPORTS, &readable, 1);
	rig_wait(r, REPORTS);
	rig_add(r, HINTS, &odd, 1);
	rig_wait(r, HINTS);
	assert_int_equal(r->calls, 0);
	assert_int_equal(rig_info(r).inflated_bytes, 0);
	assert_false(rig_broken(r));
}

static void test_buffers_outside_of_memory(void **state)
{
	struct rig *r = *state;
	const struct driver_buffer nowhere = {RIG_DEVICE, 4096, false};
	const unsigned int queues[] = {INFLATE, DEFLATE, STATS, HINTS};

	for (unsigned int i = 0; i < ARRAY_SIZE(queues); i++) {
		rig_add(r, queues[i], &nowhere, 1);
		rig_turn(r);
		assert_true(rig_broken(r));
		assert_int_equal(rig_used(r, queues[i]), 0);
		rig_start(r, RIG_ALL);
		assert_false(rig_broken(r));
	}
	rig_range(r, INFLATE, RIG_RAM, RIG_PAGE);
	assert_int_equal(r->calls, 1);
}

/* A queue alone is reset while a request of it waits for somebody. */
static void test_a_queue_is_reset(void **state)
{
	struct rig *r = *state;
	struct driver_buffer b = {RIG_RAM, 4096, true};

	r->busy = 1;
	rig_add(r, REPORTS, &b, 1);
	while (r->busy)
		uv_run(loop_uv(r->loop), UV_RUN_ONCE);
	virtio_lock(r->vdev);
	virtio_queue_reset(r->vdev, REPORTS);
	virtio_unlock(r->vdev);
	rig_turn(r);
	rig_range(r, INFLATE, RIG_RAM + RIG_PAGE, RIG_PAGE);
	assert_int_equal(r->calls, 1);
	assert_int_equal(r->call[0].start, RIG_RAM + RIG_PAGE);
}

#define TEST(fn)        cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)
#define TEST_PACKED(fn) cmocka_unit_test_setup_teardown(fn, rig_setup_packed, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_the_first_figures_come_unasked),
		TEST(test_buffers_of_any_size),
		TEST(test_one_question_at_a_time),
		TEST(test_no_question_while_it_stands_still),
		cmocka_unit_test(test_names_of_figures),
		TEST(test_hints_of_a_command),
		TEST_PACKED(test_hints_of_a_command),
		TEST(test_pieces_of_hints),
		TEST(test_hints_need_a_driver),
		TEST(test_done_without_a_command_is_not_told),
		TEST(test_numbers_in_pieces),
		TEST_PACKED(test_numbers_in_pieces),
		TEST(test_endless_requests),
		TEST(test_large_reports_take_turns),
		TEST(test_wrong_kinds_of_buffers),
		TEST(test_buffers_outside_of_memory),
		TEST(test_a_queue_is_reset),
	};

	return cmocka_run_group_tests_name("virtio-balloon-queues", tests, NULL, NULL);
}
