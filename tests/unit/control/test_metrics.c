/* SPDX-License-Identifier: BSD-3-Clause */
/* What the endpoint for scrapers is made of: requests, text, and counting of host memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/num.h"
#include "vmm/control/held.h"
#include "vmm/control/metrics_http.h"
#include "vmm/control/metrics_text.h"

/* ---- requests ---- */

static int parse(const char *text, bool *head_only)
{
	return metrics_http_parse(text, strlen(text), head_only);
}

static void test_requests(void **state)
{
	static const struct {
		const char *text;
		int status;
	} requests[] = {
		{"GET /metrics HTTP/1.1\r\n\r\n", 200},
		{"GET /metrics?a=b HTTP/1.0\n\n", 200},
		{"HEAD /metrics HTTP/1.1\r\nA: b\r\n\r\n", 200},
		{"PUT /metrics HTTP/1.1\r\n\r\n", 405},
		{"get /metrics HTTP/1.1\r\n\r\n", 405},
		{"GET metrics HTTP/1.1\r\n\r\n", 404},
		{"GET /metrics/ HTTP/1.1\r\n\r\n", 404},
		{"GET ?/metrics HTTP/1.1\r\n\r\n", 404},
		{"GET /metrics HTTP/1.2\r\n\r\n", 505},
		{"GET /metrics HTTP/1.1x\r\n\r\n", 505},
		{"GET /metrics \r\n\r\n", 400},
		{" GET /metrics HTTP/1.1\r\n\r\n", 400},
		{"GET\r\n\r\n", 400},
		{"\n\n", 400},
		{"\n\r\n", 400},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		size_t size = strlen(requests[i].text);
		/* Of just this size, for whatever finds reads beyond it. */
		char *copy = malloc(size);
		bool head_only = false;

		assert_non_null(copy);
		memcpy(copy, requests[i].text, size);
		/* Not before the whole head is there. */
		for (size_t part = 0; part < size; part++)
			assert_int_equal(metrics_http_parse(copy, part, &head_only), 0);
		assert_int_equal(metrics_http_parse(copy, size, &head_only), requests[i].status);
		assert_int_equal(head_only, copy[0] == 'H');
		free(copy);
	}
	assert_int_equal(parse("GET /metrics HTTP/1.1\r\n\r\n", &(bool){false}), 200);
}

static void test_random_requests(void **state)
{
	static const char *const parts[] = {"GET",  "HEAD",     " ",        "/metrics",
					    "?",    "HTTP/1.1", "HTTP/1.0", "\r\n",
					    "\r\n", "\n",       "\r",       "x"};
	unsigned int seed = 7, complete = 0;

	(void)state;
	for (unsigned int round = 0; round < 100000; round++) {
		char text[256] = "";
		bool head_only = false;
		int status;

		for (int n = rand_r(&seed) % 10; n >= 0; n--)
			strcat(text, parts[(size_t)rand_r(&seed) % ARRAY_SIZE(parts)]);
		status = parse(text, &head_only);
		assert_int_equal(status != 0, strstr(text, "\n\n") || strstr(text, "\n\r\n"));
		complete += status != 0;
		if (status == 200)
			assert_true(!strncmp(text, "GET /metrics", 12) ||
				    (!strncmp(text, "HEAD /metrics", 13) && head_only));
	}
	assert_true(complete > 1000);
}

static void test_heads(void **state)
{
	static const int statuses[] = {200, 400, 404, 405, 431, 503, 505};
	char head[METRICS_HEAD_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
		metrics_http_head(head, statuses[i], METRICS_CONTENT_TYPE, SIZE_MAX);
		/* Nothing was cut. */
		assert_string_equal(head + strlen(head) - 4, "\r\n\r\n");
		assert_int_equal(strtol(head + strlen("HTTP/1.1 "), NULL, 10), statuses[i]);
		assert_non_null(strstr(head, "\r\nContent-Type: text/plain; version=0.0.4"));
		assert_int_equal(strstr(head, "\r\nAllow: ") != NULL, statuses[i] == 405);
	}
	metrics_http_head(head, 404, NULL, 0);
	assert_null(strstr(head, "Content-Type"));
	assert_non_null(strstr(head, "\r\nContent-Length: 0\r\n"));
}

/* ---- text ---- */

static void test_text(void **state)
{
	static struct metrics_device device;
	struct migration_info migration = {
		.status = MIGRATION_ACTIVE,
		.ram = {.transferred = 1000,
			.remaining = 4096,
			.total = 8192,
			.dirty_sync_count = 3,
			.dirty_pages_rate = 5,
			.page_size = 4096,
			.hinted = 6},
		.total_time_ms = 1234,
		.cpu_throttle_percentage = 20,
	};
	struct metrics_world world = {
		.version = "1",
		.guest_name = "a\"b\\c\nd",
		.state = VM_POSTMIGRATE,
		.nr_nodes = 1,
		.migration = &migration,
		.devices = &device,
		.nr_devices = 1,
	};
	char *text;
	size_t size;

	(void)state;
	device.name = "q\"";
	device.sample.stats.requests[VIRTIO_MEM_PLUG].latency[0] = 3;
	device.sample.stats.requests[VIRTIO_MEM_PLUG].latency[20] = 4;
	device.sample.stats.requests[VIRTIO_MEM_PLUG].latency[VIRTIO_MEM_BUCKETS - 1] = 5;
	device.sample.stats.requests[VIRTIO_MEM_PLUG].latency_ns = 12000000034;
	assert_int_equal(metrics_text(&world, &text, &size), 0);
	assert_int_equal(strlen(text), size);
#define DURATION "\nebb_memory_device_request_duration_seconds_"
	assert_non_null(strstr(text, "\nebb_guest_info{name=\"a\\\"b\\\\c\\nd\"} 1\n"));
	assert_non_null(strstr(text, "\nebb_vm_state{state=\"postmigrate\"} 1\n"));
	assert_non_null(strstr(text, "\nebb_vm_state{state=\"inmigrate\"} 0\n"));
	assert_non_null(strstr(text, "\nebb_migration_status{status=\"none\"} 0\n"));
	assert_non_null(strstr(text, "\nebb_migration_status{status=\"active\"} 1\n"));
	assert_non_null(strstr(text, "\nebb_migration_transferred_bytes 1000\n"));
	assert_non_null(strstr(text, "\nebb_migration_remaining_bytes 4096\n"));
	assert_non_null(strstr(text, "\nebb_migration_memory_bytes 8192\n"));
	assert_non_null(strstr(text, "\nebb_migration_passes 3\n"));
	assert_non_null(strstr(text, "\nebb_migration_dirty_bytes_per_second 20480\n"));
	assert_non_null(strstr(text, "\nebb_migration_hinted_bytes 24576\n"));
	assert_non_null(strstr(text, "\nebb_migration_throttle_percent 20\n"));
	assert_non_null(strstr(text, "\nebb_migration_incoming 0\n"));
	assert_non_null(strstr(text, "\nebb_migration_duration_seconds 1.234\n"));
	assert_null(strstr(text, "ebb_migration_downtime_seconds"));
	assert_non_null(strstr(text, DURATION "bucket{device=\"q\\\"\",node=\"0\",request=\"plug\","
					      "le=\"0.000001\"} 3\n"));
	assert_non_null(strstr(text, DURATION "bucket{device=\"q\\\"\",node=\"0\",request=\"plug\","
					      "le=\"0.524288\"} 3\n"));
	assert_non_null(strstr(text, DURATION "bucket{device=\"q\\\"\",node=\"0\",request=\"plug\","
					      "le=\"1.048576\"} 7\n"));
	assert_non_null(strstr(text, DURATION "bucket{device=\"q\\\"\",node=\"0\",request=\"plug\","
					      "le=\"+Inf\"} 12\n"));
	assert_non_null(strstr(text, DURATION "sum{device=\"q\\\"\",node=\"0\",request=\"plug\"} "
					      "12.000000034\n"));
	/* Nor is what the device does not do. */
	assert_null(strstr(text, "size_requests"));
	assert_null(strstr(text, "ebb_memory_device_owner_bytes"));
	/* What was not counted is not told. */
	assert_null(strstr(text, "\nebb_memory_device_resident_bytes{"));
	free(text);
	device.sample.size.on = true;
	device.sample.size.granted_bytes = 77;
	device.sample.size.errors = 6;
	device.sample.size
		.requests[VIRTIO_MEM_SIZE_LATER][VMEM_SIZE_URGENCY_CRITICAL][VMEM_SIZE_REASON_OOM] =
		5;
	device.sample.info.owner_size = 9;
	device.held_known = true;
	device.held_bytes = 4096;
	device.held_age_ms = 1002;
	migration = (struct migration_info){
		.status = MIGRATION_COMPLETED, .has_downtime = true, .downtime_ms = 7};
	assert_int_equal(metrics_text(&world, &text, &size), 0);
	assert_non_null(strstr(text, "\nebb_migration_downtime_seconds 0.007\n"));
#define SIZES "\nebb_memory_device_size_requests_total{device=\"q\\\"\",node=\"0\","
	assert_non_null(
		strstr(text, SIZES "answer=\"later\",urgency=\"critical\",reason=\"oom\"} 5\n"));
	assert_non_null(strstr(text, SIZES "answer=\"error\"} 6\n"));
	assert_non_null(strstr(text, SIZES "answer=\"broken\"} 0\n"));
	/* Of what never occurred there is no sample. */
	assert_null(strstr(text, "answer=\"granted\""));
	assert_non_null(strstr(text, "\nebb_memory_device_granted_bytes_total{device=\"q\\\"\","
				     "node=\"0\"} 77\n"));
	assert_non_null(
		strstr(text, "\nebb_memory_device_owner_bytes{device=\"q\\\"\",node=\"0\"} 9\n"));
	assert_non_null(strstr(text, "\nebb_memory_device_resident_bytes{device=\"q\\\"\","
				     "node=\"0\"} 4096\n"));
	assert_non_null(strstr(text, "\nebb_memory_device_resident_age_seconds{device=\"q\\\"\","
				     "node=\"0\"} 1.002\n"));
	free(text);
	/* Of no migration there are no figures. */
	migration.status = MIGRATION_NONE;
	assert_int_equal(metrics_text(&world, &text, &size), 0);
	assert_non_null(strstr(text, "\nebb_migration_status{status=\"none\"} 1\n"));
	assert_null(strstr(text, "\nebb_migration_transferred_bytes"));
	free(text);
}

/* The balloon's, where there is one; of the guest's figures what it said. */
static void test_balloon(void **state)
{
	struct migration_info migration = {.status = MIGRATION_NONE};
	struct metrics_balloon balloon = {
		.info = {.target_bytes = 3 * MIB, .actual_bytes = 4 * MIB, .reported_bytes = 5},
	};
	struct metrics_world world = {.version = "1", .migration = &migration};
	char *text;
	size_t size;

	(void)state;
	assert_int_equal(metrics_text(&world, &text, &size), 0);
	assert_null(strstr(text, "balloon"));
	free(text);
	world.balloon = &balloon;
	for (enum balloon_stat s = 0; s < BALLOON_STATS; s++)
		balloon.stats.values[s] = BALLOON_STAT_UNKNOWN;
	balloon.stats.values[BALLOON_STAT_MEMFREE] = 6;
	assert_int_equal(metrics_text(&world, &text, &size), 0);
	assert_non_null(strstr(text, "\nebb_balloon_target_bytes 3145728\n"));
	assert_non_null(strstr(text, "\nebb_balloon_actual_bytes 4194304\n"));
	assert_non_null(strstr(text, "\nebb_balloon_reported_bytes_total 5\n"));
	assert_null(strstr(text, "ebb_guest_free_bytes"));
	free(text);
	balloon.stats.last_update_s = 7;
	assert_int_equal(metrics_text(&world, &text, &size), 0);
	assert_non_null(strstr(text, "\nebb_guest_stats_timestamp_seconds 7\n"));
	assert_non_null(strstr(text, "\nebb_guest_free_bytes 6\n"));
	assert_null(strstr(text, "ebb_guest_total_bytes"));
	free(text);
	/* Each figure has a name of its own. */
	for (enum balloon_stat s = 0; s < BALLOON_STATS; s++)
		balloon.stats.values[s] = 1000 + s;
	assert_int_equal(metrics_text(&world, &text, &size), 0);
	for (enum balloon_stat s = 0; s < BALLOON_STATS; s++) {
		char value[16];

		snprintf(value, sizeof(value), " %u\n", 1000 + s);
		assert_non_null(strstr(text, value));
	}
	free(text);
}

/* ---- host memory ---- */

#define CELLS     4
#define CELL_SIZE (128 * MIB) /* two chunks */
#define REGION    (CELLS * CELL_SIZE - MIB)

static _Thread_local uint64_t clock_now_ms;

static uint64_t clock_ms(void)
{
	return clock_now_ms++;
}

static uint8_t *region_new(void)
{
	uint8_t *memory = mmap(NULL, REGION, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert_true(memory != MAP_FAILED);
	madvise(memory, REGION, MADV_NOHUGEPAGE);
	return memory;
}

static void test_held(void **state)
{
	uint64_t plugged[CELLS] = {CELL_SIZE, 0, CELL_SIZE, CELL_SIZE - MIB};
	uint8_t *memory = region_new();
	struct held *held = held_new(memory, REGION);

	(void)state;
	assert_non_null(held);
	clock_now_ms = 1000;
	held_set_plugged(held, plugged, CELLS, CELL_SIZE);
	assert_int_equal(held_age_ms(held, 1000), UINT64_MAX);
	memset(memory, 1, MIB);
	/* Not plugged: that is a page that was there before, and will be gone. */
	memory[CELL_SIZE] = 1;
	memory[REGION - 1] = 1;
	/* Read, not written: the page of zeros, which is nobody's. */
	assert_int_equal(((volatile uint8_t *)memory)[3 * CELL_SIZE], 0);
	held_count(held, clock_ms, UINT64_MAX);
	assert_int_equal(held_bytes(held), MIB + 4096);
	/* Each step asked for the time once: two, one, two and two. */
	assert_int_equal(clock_now_ms, 1007);
	assert_int_equal(held_age_ms(held, 1007), 6);
	/* Gone with what was plugged, before it is counted again. */
	plugged[0] = 4096;
	held_set_plugged(held, plugged, CELLS, CELL_SIZE);
	assert_int_equal(held_bytes(held), 2 * 4096);
	held_count(held, clock_ms, UINT64_MAX);
	assert_int_equal(held_bytes(held), 2 * 4096);
	/* Another map is another count. */
	held_set_plugged(held, plugged, 1, CELLS * CELL_SIZE);
	assert_int_equal(held_bytes(held), 0);
	assert_int_equal(held_age_ms(held, 2000), UINT64_MAX);
	held_free(held);
	munmap(memory, REGION);
}

/* One step at a time comes around in the end, and goes on where it stopped. */
static void test_held_in_steps(void **state)
{
	uint64_t plugged[CELLS] = {CELL_SIZE, CELL_SIZE, CELL_SIZE, CELL_SIZE - MIB};
	uint8_t *memory = region_new();
	struct held *held = held_new(memory, REGION);
	unsigned int steps = 0;

	(void)state;
	assert_non_null(held);
	for (unsigned int i = 0; i < CELLS; i++)
		memset(memory + i * CELL_SIZE + 100 * MIB, 1, 4096 * (i + 1));
	clock_now_ms = 1000;
	held_set_plugged(held, plugged, CELLS, CELL_SIZE);
	for (; held_age_ms(held, clock_now_ms) == UINT64_MAX; steps++)
		held_count(held, clock_ms, 0);
	assert_int_equal(steps, 2 * CELLS);
	assert_int_equal(held_bytes(held), 10 * 4096);
	/* The region may go at any time. */
	munmap(memory, REGION);
	held_count(held, clock_ms, UINT64_MAX);
	assert_int_equal(held_bytes(held), 0);
	held_free(held);
	held = held_new(NULL, 0);
	assert_non_null(held);
	held_set_plugged(held, plugged, 0, CELL_SIZE);
	held_count(held, clock_ms, UINT64_MAX);
	assert_int_equal(held_bytes(held), 0);
	held_free(held);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),      cmocka_unit_test(test_random_requests),
		cmocka_unit_test(test_heads),         cmocka_unit_test(test_text),
		cmocka_unit_test(test_balloon),       cmocka_unit_test(test_held),
		cmocka_unit_test(test_held_in_steps),
	};

	return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
