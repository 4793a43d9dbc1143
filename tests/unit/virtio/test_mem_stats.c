/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The virtio-mem device's figures: requests by kind and answer, latencies, why the host refused,
 * where memory is plugged, when changes are told, readers on other threads; and a resize to what is
 * plugged. mem.h.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/virtio/mem_rig.h"
#include "vmm/virtio/mem_cells.h"
#include "vmm/virtio/mem_stats.h"

static void with_clock(struct virtio_mem_config *config)
{
	config->now_ms = rig_clock_ms;
	config->device.requested_size = 8 * RIG_BLOCK;
}

static int setup(void **state)
{
	return rig_setup(state, with_clock);
}

static struct virtio_mem_stats stats_of(const struct rig *r)
{
	struct virtio_mem_stats stats;

	virtio_mem_stats(r->mem, &stats);
	return stats;
}

static struct vmem_device_info info_of(const struct rig *r)
{
	struct vmem_device_info info;

	virtio_mem_info(r->mem, &info);
	return info;
}

/* ---- histograms ---- */

static void test_buckets(void **state)
{
	(void)state;
	assert_int_equal(mem_stats_bucket(0), 0);
	assert_int_equal(mem_stats_bucket(1), 0);
	assert_int_equal(mem_stats_bucket(1000), 0);
	assert_int_equal(mem_stats_bucket(1001), 1);
	assert_int_equal(mem_stats_bucket(2000), 1);
	for (unsigned int i = 1; i < VIRTIO_MEM_BUCKETS - 1; i++) {
		uint64_t bound_ns = (UINT64_C(1) << i) * 1000;

		assert_int_equal(mem_stats_bucket(bound_ns), i);
		assert_int_equal(mem_stats_bucket(bound_ns + 1), i + 1);
	}
	assert_int_equal(mem_stats_bucket(UINT64_MAX), VIRTIO_MEM_BUCKETS - 1);
}

/* As many latencies as answers, and their sum is what was measured. */
static void check_histograms(const struct virtio_mem_stats *stats)
{
	for (unsigned int k = 0; k < VIRTIO_MEM_KINDS; k++) {
		uint64_t answers = 0, latencies = 0;

		for (unsigned int a = 0; a < VIRTIO_MEM_ANSWERS; a++)
			answers += stats->requests[k].answers[a];
		for (unsigned int b = 0; b < VIRTIO_MEM_BUCKETS; b++)
			latencies += stats->requests[k].latency[b];
		assert_int_equal(latencies, answers);
		assert_int_equal(stats->requests[k].latency_ns > 0, answers > 0);
		assert_int_equal(stats->requests[k].last_ms > 0, answers > 0);
	}
}

/* ---- requests ---- */

static void check_answer(const struct rig *r, enum virtio_mem_kind kind,
			 enum virtio_mem_answer answer, uint64_t count)
{
	struct virtio_mem_stats stats = stats_of(r);

	assert_int_equal(stats.requests[kind].answers[answer], count);
	check_histograms(&stats);
}

static void test_kinds_and_answers(void **state)
{
	struct rig *r = *state;
	struct virtio_mem_stats stats;

	rig_start(r);
	stats = stats_of(r);
	check_histograms(&stats);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 4), VMEM_RESP_ACK);
	rig_now_ms += 10;
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 4, 4), VMEM_RESP_ACK);
	check_answer(r, VIRTIO_MEM_PLUG, VIRTIO_MEM_ACK, 2);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 8, 1), VMEM_RESP_NACK);
	check_answer(r, VIRTIO_MEM_PLUG, VIRTIO_MEM_NACK, 1);
	/* Beyond what was asked for: that is nothing the host could not do. */
	assert_int_equal(stats_of(r).refusals, 0);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_ERROR);
	check_answer(r, VIRTIO_MEM_PLUG, VIRTIO_MEM_ERROR, 1);
	rig_now_ms += 10;
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 7, 1), VMEM_RESP_ACK);
	check_answer(r, VIRTIO_MEM_UNPLUG, VIRTIO_MEM_ACK, 1);
	assert_int_equal(rig_request(r, VMEM_REQ_STATE, 0, 1), VMEM_RESP_ACK);
	check_answer(r, VIRTIO_MEM_STATE, VIRTIO_MEM_ACK, 1);
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_ACK);
	check_answer(r, VIRTIO_MEM_UNPLUG_ALL, VIRTIO_MEM_ACK, 1);
	assert_int_equal(rig_request(r, 77, 0, 0), VMEM_RESP_ERROR);
	check_answer(r, VIRTIO_MEM_OTHER, VIRTIO_MEM_ERROR, 1);
	stats = stats_of(r);
	assert_int_equal(stats.plugged_bytes, 8 * RIG_BLOCK);
	assert_int_equal(stats.unplugged_bytes, 8 * RIG_BLOCK);
	assert_int_equal(stats.reset_bytes, 0);
	assert_int_equal(stats.requests[VIRTIO_MEM_PLUG].last_ms, 1000010);
	assert_int_equal(stats.requests[VIRTIO_MEM_UNPLUG].last_ms, 1000020);
	assert_int_equal(stats.now_ms, 1000020);
}

/* A request without an answer counts as one, too. */
static void test_broken(void **state)
{
	struct rig *r = *state;
	struct driver_buffer split[2];
	uint32_t len;

	rig_start(r);
	split[0] = (struct driver_buffer){r->request_gpa, 8, false};
	split[1] = (struct driver_buffer){r->answer_gpa, sizeof(struct vmem_resp), true};
	assert_false(rig_offer(r, split, 2, &len));
	check_answer(r, VIRTIO_MEM_OTHER, VIRTIO_MEM_BROKEN, 1);
	/* The answer belongs into memory that the request itself unplugs. */
	rig_start(r);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 2, 1), VMEM_RESP_ACK);
	rig_put_request(r, r->request_gpa, VMEM_REQ_UNPLUG, 2, 1);
	split[0].len = sizeof(struct vmem_req);
	split[1].gpa = RIG_ADDR + 2 * RIG_BLOCK;
	assert_false(rig_offer(r, split, 2, &len));
	check_answer(r, VIRTIO_MEM_UNPLUG, VIRTIO_MEM_BROKEN, 1);
	check_answer(r, VIRTIO_MEM_UNPLUG, VIRTIO_MEM_ACK, 0);
	assert_int_equal(stats_of(r).unplugged_bytes, RIG_BLOCK);
}

/* What came since the last size was asked for is told apart from what came before. */
static void test_since_the_last_size(void **state)
{
	struct rig *r = *state;
	const struct virtio_mem_requests *plug;
	struct virtio_mem_stats stats;
	struct vmem_config config;

	rig_start(r);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 2), VMEM_RESP_ACK);
	rig_config(r, &config);
	assert_int_equal(stats_of(r).size_reads, 1);
	rig_now_ms += 70;
	assert_int_equal(virtio_mem_resize(r->mem, 4 * RIG_BLOCK, NULL), 0);
	rig_turn(r);
	stats = stats_of(r);
	plug = &stats.requests[VIRTIO_MEM_PLUG];
	assert_int_equal(stats.resize_ms, rig_now_ms);
	assert_int_equal(stats.resize_plugged_size, 2 * RIG_BLOCK);
	assert_int_equal(stats.resize_size_reads, 0);
	assert_int_equal(plug->answers[VIRTIO_MEM_ACK], 1);
	assert_int_equal(plug->resize_answers[VIRTIO_MEM_ACK], 0);
	rig_now_ms += 30;
	assert_int_equal(stats_of(r).idle_ms, 30);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 2, 1), VMEM_RESP_ACK);
	assert_int_equal(stats_of(r).idle_ms, 0);
	/* The size is the last field; the one before it is none. */
	virtio_lock(r->vdev);
	virtio_config_read(r->vdev, offsetof(struct vmem_config, plugged_size), &config, 8);
	virtio_unlock(r->vdev);
	assert_int_equal(stats_of(r).resize_size_reads, 0);
	virtio_lock(r->vdev);
	virtio_config_read(r->vdev, offsetof(struct vmem_config, requested_size), &config, 4);
	virtio_unlock(r->vdev);
	stats = stats_of(r);
	assert_int_equal(stats.resize_size_reads, 1);
	assert_int_equal(plug->resize_answers[VIRTIO_MEM_ACK], 1);
	/* Time stands still while the machine is stopped. */
	virtio_mem_stop(r->mem);
	rig_now_ms += 5000;
	assert_int_equal(stats_of(r).idle_ms, 0);
	assert_int_equal(stats_of(r).now_ms, stats.now_ms);
	virtio_mem_cont(r->mem);
	assert_int_equal(stats_of(r).now_ms, stats.now_ms);
}

static void test_reset_takes_all(void **state)
{
	struct rig *r = *state;
	struct virtio_mem_stats stats;

	rig_start(r);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 1, 5), VMEM_RESP_ACK);
	virtio_system_reset(r->vdev);
	stats = stats_of(r);
	assert_int_equal(stats.plugged_bytes, 5 * RIG_BLOCK);
	assert_int_equal(stats.unplugged_bytes, 0);
	assert_int_equal(stats.reset_bytes, 5 * RIG_BLOCK);
}

/* ---- what the host could not do ---- */

static void check_refusal(struct rig *r, enum virtio_mem_kind kind, enum virtio_mem_answer answer,
			  enum virtio_mem_step step, int error, uint64_t count)
{
	struct virtio_mem_stats stats = stats_of(r);

	assert_int_equal(stats.refusals, count);
	assert_int_equal(stats.refusal.kind, kind);
	assert_int_equal(stats.refusal.answer, answer);
	assert_int_equal(stats.refusal.step, step);
	assert_int_equal(stats.refusal.error, error);
	assert_int_equal(stats.refusal.at_ms, rig_now_ms);
}

static void test_refusals(void **state)
{
	struct rig *r = *state;

	rig_start(r);
	r->add_error = -ENOMEM;
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_NACK);
	check_refusal(r, VIRTIO_MEM_PLUG, VIRTIO_MEM_NACK, VIRTIO_MEM_GRANT, ENOMEM, 1);
	r->add_error = -EIO;
	rig_now_ms += 5;
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 1), VMEM_RESP_BUSY);
	check_refusal(r, VIRTIO_MEM_PLUG, VIRTIO_MEM_BUSY, VIRTIO_MEM_GRANT, EIO, 2);
	r->add_error = 0;
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 2), VMEM_RESP_ACK);
	check_refusal(r, VIRTIO_MEM_PLUG, VIRTIO_MEM_BUSY, VIRTIO_MEM_GRANT, EIO, 2);
	assert_int_equal(virtio_mem_resize(r->mem, 0, NULL), 0);
	rig_turn(r);
	assert_int_equal(stats_of(r).resize_refusals, 0);
	r->remove_error = -EPERM;
	rig_now_ms += 5;
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 0, 2), VMEM_RESP_BUSY);
	check_refusal(r, VIRTIO_MEM_UNPLUG, VIRTIO_MEM_BUSY, VIRTIO_MEM_REVOKE, EPERM, 3);
	r->remove_error = 0;
	rig_lock_block(r, 0);
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 0, 2), VMEM_RESP_BUSY);
	assert_int_equal(stats_of(r).refusal.step, VIRTIO_MEM_DISCARD);
	assert_int_equal(stats_of(r).resize_refusals, 2);
	rig_unlock_block(r, 0);
}

/* ---- where memory is ---- */

/* One hex digit a cell: its plugged blocks. */
static void check_cells(const struct rig *r, size_t max, const char *want)
{
	uint64_t bytes[RIG_BLOCKS], cell_size;
	size_t nr = virtio_mem_cells(r->mem, bytes, max, &cell_size);
	char text[RIG_BLOCKS + 1];

	assert_true(nr <= max && nr <= RIG_BLOCKS);
	assert_true(nr * cell_size >= RIG_SIZE && (nr - 1) * cell_size < RIG_SIZE);
	for (size_t i = 0; i < nr; i++) {
		assert_int_equal(bytes[i] % RIG_BLOCK, 0);
		text[i] = "0123456789abcdefg"[bytes[i] / RIG_BLOCK];
	}
	text[nr] = '\0';
	assert_string_equal(text, want);
}

static void test_cells(void **state)
{
	struct rig *r = *state;

	rig_start(r);
	check_cells(r, 16, "0000000000000000");
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 1, 4), VMEM_RESP_ACK);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 9, 1), VMEM_RESP_ACK);
	check_cells(r, 100, "0111100001000000");
	check_cells(r, 15, "12101000");
	check_cells(r, 4, "3110");
	check_cells(r, 1, "5");
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 2, 2), VMEM_RESP_ACK);
	check_cells(r, 16, "0100100001000000");
	/* What is refused changes nothing. */
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 2, 2), VMEM_RESP_ERROR);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 4, 1), VMEM_RESP_ERROR);
	assert_int_equal(rig_request(r, VMEM_REQ_STATE, 0, 4), VMEM_RESP_ACK);
	check_cells(r, 16, "0100100001000000");
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_ACK);
	check_cells(r, 16, "0000000000000000");
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 5, 3), VMEM_RESP_ACK);
	check_cells(r, 8, "00120000");
	virtio_system_reset(r->vdev);
	check_cells(r, 8, "00000000");
}

/* Blocks that are plugged but out of reach are left out, and found again by whatever ends that. */
static void test_cells_with_faulted_blocks(void **state)
{
	struct rig *r = *state;

	rig_start(r);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 6), VMEM_RESP_ACK);
	/* Block 4 and 5 lie in a slot of their own; it goes, and does not come back. */
	rig_break_block(r, 4);
	r->add_error = -EIO;
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 4, 2), VMEM_RESP_BUSY);
	assert_int_equal(info_of(r).faulted_size, 2 * RIG_BLOCK);
	assert_int_equal(info_of(r).plugged_size, 6 * RIG_BLOCK);
	check_cells(r, 16, "1111000000000000");
	r->add_error = 0;
	rig_mend_block(r, 4);
	assert_int_equal(rig_request(r, VMEM_REQ_UNPLUG, 3, 3), VMEM_RESP_ACK);
	check_cells(r, 16, "1110000000000000");
	assert_int_equal(info_of(r).faulted_size, 0);
}

/* A region that is not a power of two, and more blocks than cells. */
static void test_cells_of_a_large_region(void **state)
{
	uint64_t region_size = UINT64_C(3) << 40, block_size = 4096, cell_size, bytes[4];
	struct mem_cells cells;

	(void)state;
	assert_int_equal(mem_cells_init(&cells, region_size, block_size), 0);
	assert_true(cells.nr <= MEM_CELLS_MAX && cells.nr > MEM_CELLS_MAX / 2);
	mem_cells_add(&cells, 0, region_size);
	assert_int_equal(mem_cells_get(&cells, bytes, 4, &cell_size), 3);
	assert_int_equal(cell_size, TIB);
	assert_int_equal(bytes[0], TIB);
	assert_int_equal(bytes[2], TIB);
	mem_cells_sub(&cells, TIB - block_size, 2 * block_size);
	assert_int_equal(mem_cells_get(&cells, bytes, 4, &cell_size), 3);
	assert_int_equal(bytes[0], TIB - block_size);
	assert_int_equal(bytes[1], TIB - block_size);
	assert_int_equal(mem_cells_get(&cells, bytes, 1, &cell_size), 1);
	assert_int_equal(cell_size, 4 * TIB);
	assert_int_equal(bytes[0], 3 * TIB - 2 * block_size);
	mem_cells_clear(&cells);
	assert_int_equal(mem_cells_get(&cells, bytes, 1, &cell_size), 1);
	assert_int_equal(bytes[0], 0);
	mem_cells_done(&cells);
	assert_int_equal(mem_cells_init(&cells, 0, block_size), 0);
	assert_int_equal(mem_cells_get(&cells, bytes, 4, &cell_size), 0);
	mem_cells_done(&cells);
}

/* ---- a resize to what is plugged ---- */

static void test_resize_here(void **state)
{
	struct rig *r = *state;
	struct vmem_config config;

	rig_start(r);
	assert_true(virtio_mem_resized(r->mem));
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 3), VMEM_RESP_ACK);
	virtio_mem_resize_here(r->mem);
	assert_false(virtio_mem_resized(r->mem));
	assert_int_equal(info_of(r).requested_size, 3 * RIG_BLOCK);
	rig_turn(r);
	assert_true(virtio_mem_resized(r->mem));
	rig_config(r, &config);
	assert_int_equal(le64toh(config.requested_size), 3 * RIG_BLOCK);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 3, 1), VMEM_RESP_NACK);
	assert_string_equal(virtio_mem_progress_name(virtio_mem_progress(r->mem)), "done");
	/* The last one counts. */
	virtio_mem_resize_here(r->mem);
	assert_int_equal(virtio_mem_resize(r->mem, 5 * RIG_BLOCK, NULL), 0);
	rig_turn(r);
	assert_int_equal(info_of(r).requested_size, 5 * RIG_BLOCK);
	assert_true(virtio_mem_resized(r->mem));
	assert_int_equal(virtio_mem_resize(r->mem, 7 * RIG_BLOCK, NULL), 0);
	virtio_mem_resize_here(r->mem);
	rig_turn(r);
	assert_int_equal(info_of(r).requested_size, 3 * RIG_BLOCK);
}

/* A request that is under way when it comes belongs to what stays. */
static void here_during_plug(struct rig *r)
{
	virtio_mem_resize_here(r->mem);
	assert_int_equal(info_of(r).plugged_size, 2 * RIG_BLOCK);
}

static void test_resize_here_during_a_plug(void **state)
{
	struct rig *r = *state;

	rig_start(r);
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 2), VMEM_RESP_ACK);
	r->on_add = here_during_plug;
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 4, 4), VMEM_RESP_ACK);
	r->on_add = NULL;
	rig_turn(r);
	assert_true(virtio_mem_resized(r->mem));
	assert_int_equal(info_of(r).plugged_size, 6 * RIG_BLOCK);
	assert_int_equal(info_of(r).requested_size, 6 * RIG_BLOCK);
}

/* ---- what is told ---- */

static bool told(struct rig *r)
{
	return atomic_exchange(&r->changes, 0) > 0;
}

static void test_changes_are_told(void **state)
{
	struct rig *r = *state;
	struct vmem_config config;

	assert_false(told(r));
	rig_negotiate(r, RIG_FEATURES);
	assert_false(told(r));
	rig_start(r);
	assert_true(told(r));
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 2), VMEM_RESP_ACK);
	assert_true(told(r));
	assert_int_equal(rig_request(r, VMEM_REQ_PLUG, 0, 2), VMEM_RESP_ERROR);
	assert_true(told(r));
	assert_int_equal(rig_request(r, VMEM_REQ_STATE, 0, 2), VMEM_RESP_ACK);
	rig_config(r, &config);
	assert_false(told(r));
	assert_int_equal(virtio_mem_resize(r->mem, RIG_BLOCK, NULL), 0);
	rig_turn(r);
	assert_true(told(r));
	virtio_lock(r->vdev);
	virtio_set_needs_reset(r->vdev, "test");
	assert_true(told(r));
	virtio_set_needs_reset(r->vdev, "test");
	assert_false(told(r));
	virtio_unlock(r->vdev);
	/* It does not work already. */
	rig_status(r, 0);
	assert_false(told(r));
	rig_start(r);
	assert_true(told(r));
	rig_status(r, 15 | VIRTIO_STATUS_FAILED);
	assert_true(told(r));
	virtio_system_reset(r->vdev);
	assert_true(told(r));
}

/* ---- readers ---- */

struct reader {
	struct rig *r;
	atomic_bool stop;
	_Atomic uint64_t reads;
	uint64_t bad;
};

/* An answer is never there without its latency; figures only grow; a cell is never overfull. */
static void *reader_run(void *opaque)
{
	struct reader *reader = opaque;
	uint64_t last = 0;

	while (!reader->stop) {
		uint64_t bytes[RIG_BLOCKS], cell_size, answers = 0, latencies = 0;
		const struct virtio_mem_requests *plug;
		struct virtio_mem_stats stats;
		size_t nr;

		virtio_mem_stats(reader->r->mem, &stats);
		plug = &stats.requests[VIRTIO_MEM_PLUG];
		for (unsigned int a = 0; a < VIRTIO_MEM_ANSWERS; a++)
			answers += plug->answers[a];
		for (unsigned int b = 0; b < VIRTIO_MEM_BUCKETS; b++)
			latencies += plug->latency[b];
		reader->bad += latencies < answers || answers < last;
		last = answers;
		nr = virtio_mem_cells(reader->r->mem, bytes, RIG_BLOCKS, &cell_size);
		for (size_t i = 0; i < nr; i++)
			reader->bad += bytes[i] > cell_size;
		reader->reads++;
	}
	return NULL;
}

static void test_readers_do_not_wait(void **state)
{
	struct reader reader = {.reads = 0};
	pthread_t thread;
	struct rig r;

	(void)state;
	rig_init_thread(&r, NULL);
	rig_start(&r);
	reader.r = &r;
	assert_int_equal(pthread_create(&thread, NULL, reader_run, &reader), 0);
	while (!reader.reads)
		sched_yield();
	for (unsigned int i = 0; i < 2000; i++) {
		assert_int_equal(rig_request(&r, VMEM_REQ_PLUG, i % 12, 4), VMEM_RESP_ACK);
		assert_int_equal(rig_request(&r, VMEM_REQ_UNPLUG_ALL, 0, 0), VMEM_RESP_ACK);
	}
	/* Also while the device is busy for long: it is the lock that would be waited for. */
	virtio_lock(r.vdev);
	assert_int_equal(stats_of(&r).requests[VIRTIO_MEM_PLUG].answers[VIRTIO_MEM_ACK], 2000);
	check_cells(&r, 4, "0000");
	virtio_mem_resize_here(r.mem);
	assert_false(virtio_mem_resized(r.mem));
	virtio_unlock(r.vdev);
	reader.stop = true;
	pthread_join(thread, NULL);
	assert_int_equal(reader.bad, 0);
	rig_done(&r);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_buckets),
		TEST(test_kinds_and_answers),
		TEST(test_broken),
		TEST(test_since_the_last_size),
		TEST(test_reset_takes_all),
		TEST(test_refusals),
		TEST(test_cells),
		TEST(test_cells_with_faulted_blocks),
		cmocka_unit_test(test_cells_of_a_large_region),
		TEST(test_resize_here),
		TEST(test_resize_here_during_a_plug),
		TEST(test_changes_are_told),
		cmocka_unit_test(test_readers_do_not_wait),
	};

	return cmocka_run_group_tests_name("virtio-mem stats", tests, NULL, NULL);
}
