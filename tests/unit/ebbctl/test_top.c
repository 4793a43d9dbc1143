/* SPDX-License-Identifier: BSD-3-Clause */
/* The live view without a terminal: what is made of answers, of any answers, and where it stands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "ebbctl/top_draw.h"
#include "ebbctl/top_model.h"
#include "ebbctl/top_text.h"

static int setup(void **state)
{
	struct top_machine *machine = calloc(1, sizeof(*machine));

	assert_non_null(machine);
	assert_int_equal(top_machine_init(machine, "vm1 \033.sock"), 0);
	*state = machine;
	return 0;
}

static int teardown(void **state)
{
	top_machine_done(*state);
	free(*state);
	return 0;
}

static json_t *device_json(const char *id, uint64_t size, uint64_t requested, uint64_t max)
{
	return json_pack("{s:s,s:{s:s,s:I,s:I,s:I,s:I,s:I,s:i}}", "type", "virtio-mem", "data",
			 "id", id, "size", (json_int_t)size, "requested-size",
			 (json_int_t)requested, "max-size", (json_int_t)max, "block-size",
			 (json_int_t)(2 * MIB), "memaddr", (json_int_t)(4 * GIB), "node", 1);
}

/* The devices a, b, ... of these sizes. */
static void take(struct top_machine *machine, uint64_t now_ms, size_t nr, uint64_t size,
		 uint64_t requested)
{
	json_t *list = json_array();
	char id[16];

	for (size_t i = 0; i < nr; i++) {
		snprintf(id, sizeof(id), "%c", (char)('a' + i));
		json_array_append_new(list, device_json(id, size, requested, 4 * GIB));
	}
	top_machine_take_devices(machine, list, now_ms);
	json_decref(list);
}

static void take_text(struct top_machine *machine,
		      void (*fn)(struct top_machine *machine, const json_t *value),
		      const char *text)
{
	json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);

	assert_non_null(value);
	fn(machine, value);
	json_decref(value);
}

static void check_state(const struct top_device *device, uint64_t now_ms, const char *wanted)
{
	char buf[TOP_TEXT_MAX];

	assert_string_equal(top_state_text(device, now_ms, buf), wanted);
}

static void test_states(void **state)
{
	struct top_machine *machine = *state;
	struct top_device *a;

	assert_string_equal(machine->label, "vm1 \\x1b.sock");
	take(machine, 1000, 1, GIB, GIB);
	assert_int_equal(machine->nr_devices, 1);
	a = top_machine_device(machine, "a");
	assert_non_null(a);
	assert_int_equal(a->node, 1);
	check_state(a, 1000, "steady");
	take(machine, 2000, 1, GIB, 3 * GIB);
	assert_ptr_equal(top_machine_device(machine, "a"), a);
	check_state(a, 2000, "stuck 0 %");
	take(machine, 3000, 1, GIB + 512 * MIB, 3 * GIB);
	check_state(a, 3000, "growing 25 %");
	assert_int_equal(top_device_rate(a, 3000), 256 * MIB);
	take(machine, 4000, 1, 3 * GIB, 3 * GIB);
	check_state(a, 4000, "steady");
	take(machine, 5000, 1, 3 * GIB, 0);
	take(machine, 6000, 1, 2 * GIB, 0);
	check_state(a, 6000, "shrinking 33 %");
	/* no step for as long as the rate remembers */
	take(machine, 9000, 1, 2 * GIB, 0);
	take(machine, 12000, 1, 2 * GIB, 0);
	check_state(a, 12000, "stuck 33 %");
	/* a guest that goes the wrong way has not got anywhere */
	take(machine, 13000, 1, 4 * GIB, 0);
	assert_int_equal(top_device_percent(a), 0);
	assert_null(top_machine_device(machine, "b"));
	assert_null(top_machine_device(machine, ""));
}

static void test_come_and_go(void **state)
{
	struct top_machine *machine = *state;
	const struct top_device *b;

	take(machine, 1000, 3, GIB, GIB);
	b = machine->devices[1];
	take(machine, 2000, 2, GIB, GIB);
	assert_int_equal(machine->nr_devices, 2);
	assert_ptr_equal(machine->devices[1], b);
	take(machine, 3000, 0, 0, 0);
	assert_int_equal(machine->nr_devices, 0);
	take(machine, 4000, 1, GIB, GIB);
	top_machine_set_problem(machine, "it \033 ended");
	assert_int_equal(machine->nr_devices, 0);
	assert_string_equal(machine->problem, "it \\x1b ended");
	top_machine_set_problem(machine, NULL);
	assert_null(machine->problem);
}

static void test_reasons(void **state)
{
	struct top_machine *machine = *state;
	struct top_device *a;

	take(machine, 1000, 2, GIB, 2 * GIB);
	a = machine->devices[0];
	take_text(machine, top_machine_take_virtio_mem,
		  "[{\"id\": \"a\", \"request-status\": \"host-oom\", \"violations\": {\"writes\": "
		  "3, "
		  "\"reads\": 4}}, {\"id\": \"zz\"}, {\"id\": 1}, 2]");
	assert_string_equal(a->reason, "the host has not the memory for it");
	assert_true(a->violations_known);
	assert_int_equal(a->violations, 7);
	assert_false(machine->devices[1]->violations_known);
	take_text(machine, top_machine_take_virtio_mem,
		  "[{\"id\": \"a\", \"request-status\": \"vm-oom\", \"explanation\": \"it \\u001b "
		  "sleeps\"}]");
	assert_string_equal(a->reason, "it \\x1b sleeps");
	take_text(machine, top_machine_take_virtio_mem,
		  "[{\"id\": \"a\", \"request-status\": \"done\"}]");
	assert_null(a->reason);
	top_device_ask(a, 3 * GIB);
	assert_int_equal(a->requested_bytes, 3 * GIB);
}

static void take_stats(struct top_machine *machine, uint64_t now_ms, const char *text)
{
	json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);

	assert_non_null(value);
	top_machine_take_stats(machine, value, now_ms);
	json_decref(value);
}

#define STATS(ack, nack)                                                                           \
	"[{\"provider\": \"virtio-mem\", \"qom-path\": \"/machine/peripheral/a/virtio-backend\", " \
	"\"stats\": [{\"name\": \"plug-ack\", \"value\": " #ack "}, {\"name\": \"unplug-nack\", "  \
	"\"value\": " #nack "}, {\"name\": \"plug-latency\", \"value\": [1, 2]}, "                 \
	"{\"name\": \"plug-bytes\", \"value\": 77}, {\"name\": 1}, 2]}, {\"qom-path\": \"/x\"}, "  \
	"{\"qom-path\": \"/machine/peripheral/\"}, {\"qom-path\": 1}, 3]"

static void test_stats(void **state)
{
	struct top_machine *machine = *state;
	const struct top_device *a;

	take(machine, 1000, 2, GIB, GIB);
	a = machine->devices[0];
	assert_false(a->requests_known);
	take_stats(machine, 1000, STATS(10, 5));
	assert_true(a->requests_known);
	assert_int_equal(a->requests, 15);
	take_stats(machine, 2000, STATS(110, 5));
	assert_int_equal(progress_rate_get(&a->requests_rate, 2000), 100);
	assert_false(machine->devices[1]->requests_known);
}

static void take_blocks(struct top_machine *machine, const char *id, const char *text)
{
	json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);

	assert_non_null(value);
	top_machine_take_blocks(machine, id, value);
	json_decref(value);
}

static void test_map(void **state)
{
	struct top_machine *machine = *state;
	const struct top_device *a;

	take(machine, 1000, 1, 3 * GIB, 3 * GIB);
	a = machine->devices[0];
	/* not known: from the bottom up */
	assert_int_equal(top_device_fill(a, 0, 4), TOP_FILL_FULL);
	assert_int_equal(top_device_fill(a, 2, 4), TOP_FILL_FULL);
	assert_int_equal(top_device_fill(a, 3, 4), 0);
	/* the last cell is a part of one, and full */
	take_blocks(
		machine, "a",
		"{\"cells\": [100, 0, 50, 1, 99, 30], \"cell-size\": 100, \"region-size\": 530}");
	assert_int_equal(a->nr_cells, 6);
	assert_int_equal(a->cells[0], TOP_FILL_FULL);
	assert_int_equal(a->cells[1], 0);
	assert_int_equal(a->cells[2], 127);
	assert_int_equal(a->cells[3], 2);
	assert_int_equal(a->cells[4], 252);
	assert_int_equal(a->cells[5], TOP_FILL_FULL);
	assert_int_equal(top_device_fill(a, 0, 3), 127);
	assert_int_equal(top_device_fill(a, 11, 12), TOP_FILL_FULL);
	for (size_t parts = 1; parts < 50; parts++)
		for (size_t at = 0; at < parts; at++)
			assert_true(top_device_fill(a, at, parts) <= TOP_FILL_FULL);
	assert_int_equal(top_shade(0), 0);
	assert_int_equal(top_shade(1), 1);
	assert_int_equal(top_shade(127), 2);
	assert_int_equal(top_shade(254), 3);
	assert_int_equal(top_shade(255), 4);
}

/* Answers of any shape change nothing, and break nothing. */
static void take_migration(struct top_machine *machine, uint64_t now_ms, const char *text)
{
	json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);

	assert_non_null(value);
	top_machine_take_migration(machine, value, now_ms);
	json_decref(value);
}

static void test_hostile(void **state)
{
	static const char *const texts[] = {
		"null",
		"1",
		"\"x\"",
		"[]",
		"{}",
		"[null]",
		"[[[]]]",
		"[{\"data\": 1}]",
		"{\"cells\": []}",
		"{\"cells\": 1, \"cell-size\": 1, \"region-size\": 1}",
		"{\"cells\": [-1, [], 4611686018427387904], \"cell-size\": 0, \"region-size\": 7}",
		"{\"cells\": [1, 1, 1], \"cell-size\": 9223372036854775807, \"region-size\": 5}",
		"{\"cells\": [1], \"cell-size\": -1, \"region-size\": -1}",
		"{\"base-memory\": -5}",
		"{\"status\": 7}",
		"[{\"type\": \"virtio-mem\", \"data\": {\"id\": \"x\", \"size\": -1}}]",
		"[{\"type\": \"virtio-mem\", \"data\": {\"id\": 7, \"size\": 1.5}}]",
		"[{\"id\": \"a\", \"violations\": {\"writes\": -1, \"reads\": \"x\"}}]",
		"[{\"qom-path\": \"/machine/peripheral/a/x\", \"stats\": {\"name\": 1}}]",
	};
	struct top_machine *machine = *state;
	char *line;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		take(machine, 1000 + i, 1, 9223372036854775807, 3);
		take_text(machine, top_machine_take_status, texts[i]);
		take_text(machine, top_machine_take_summary, texts[i]);
		take_text(machine, top_machine_take_virtio_mem, texts[i]);
		take_stats(machine, 1000, texts[i]);
		take_migration(machine, 1000 + i, texts[i]);
		assert_false(machine->moving);
		take_blocks(machine, "a", texts[i]);
		take_blocks(machine, "none", texts[i]);
		assert_false(machine->base_known);
		assert_null(machine->status);
		assert_int_equal(machine->nr_devices, 1);
		assert_false(machine->devices[0]->requests_known);
		assert_false(machine->devices[0]->violations_known);
		for (size_t at = 0; at < 7; at++)
			top_device_fill(machine->devices[0], at, 7);
		line = top_line(machine, machine->devices[0], 1000 + i);
		assert_non_null(line);
		free(line);
	}
}

static void test_bounds(void **state)
{
	struct top_machine *machine = *state;
	json_t *list = json_array(), *cells = json_array(), *blocks;

	for (unsigned int i = 0; i < TOP_DEVICES_MAX + 50; i++) {
		char id[16];

		snprintf(id, sizeof(id), "d%u", i);
		json_array_append_new(list, device_json(id, 0, 0, GIB));
	}
	top_machine_take_devices(machine, list, 1);
	assert_int_equal(machine->nr_devices, TOP_DEVICES_MAX);
	for (unsigned int i = 0; i < TOP_CELLS_MAX + 50; i++)
		json_array_append_new(cells, json_integer(1));
	blocks = json_pack("{s:o,s:i,s:i}", "cells", cells, "cell-size", 1, "region-size", 99999);
	top_machine_take_blocks(machine, "d0", blocks);
	assert_int_equal(machine->devices[0]->nr_cells, TOP_CELLS_MAX);
	json_decref(blocks);
	json_decref(list);
	/* the same id twice is two devices, and stays so */
	list = json_array();
	json_array_append_new(list, device_json("x", 0, 0, GIB));
	json_array_append_new(list, device_json("x", 1, 1, GIB));
	for (uint64_t now = 2; now < 5; now++) {
		top_machine_take_devices(machine, list, now);
		assert_int_equal(machine->nr_devices, 2);
		assert_ptr_not_equal(machine->devices[0], machine->devices[1]);
	}
	json_decref(list);
}

static void test_steps(void **state)
{
	struct top_machine *machine = *state;
	struct top_device *a;

	take(machine, 1, 1, GIB, GIB);
	a = machine->devices[0];
	assert_int_equal(top_device_step(a), 64 * MIB);
	assert_int_equal(top_device_stepped(a, true), GIB + 64 * MIB);
	assert_int_equal(top_device_stepped(a, false), GIB - 64 * MIB);
	a->requested_bytes = 2 * MIB;
	assert_int_equal(top_device_stepped(a, false), 0);
	a->requested_bytes = 4 * GIB - 2 * MIB;
	assert_int_equal(top_device_stepped(a, true), 4 * GIB);
	a->requested_bytes = 5 * GIB;
	assert_int_equal(top_device_stepped(a, true), 4 * GIB);
	a->max_bytes = 6 * MIB;
	a->block_bytes = 2 * MIB;
	assert_int_equal(top_device_step(a), 2 * MIB);
	a->block_bytes = 0;
	a->max_bytes = 0;
	assert_int_equal(top_device_step(a), 1);
}

static void test_texts(void **state)
{
	struct top_machine *machine = *state;
	char buf[TOP_TEXT_MAX], *line;

	assert_string_equal(top_size_text(0, buf), "0");
	assert_string_equal(top_size_text(512 * MIB, buf), "512M");
	assert_string_equal(top_size_text(1536 * MIB, buf), "1.5G");
	assert_string_equal(top_size_text(2 * GIB - 1, buf), "1.99G");
	assert_string_equal(top_size_text(20 * GIB - 1, buf), "19.9G");
	assert_string_equal(top_size_text(20 * GIB + 1 * MIB, buf), "20G");
	assert_string_equal(top_size_text(200 * GIB - 1, buf), "199G");
	assert_string_equal(top_size_text(UINT64_MAX, buf), "15.9E");
	assert_string_equal(top_rate_text(0, buf), "0");
	assert_string_equal(top_rate_text(-(int64_t)MIB, buf), "-1M/s");
	assert_string_equal(top_rate_text(INT64_MIN, buf), "-8E/s");
	assert_string_equal(top_count_text(7, true, buf), "7");
	assert_string_equal(top_count_text(7, false, buf), "-");
	take(machine, 1000, 1, GIB, 2 * GIB);
	take(machine, 2000, 1, GIB + MIB, 2 * GIB + 1);
	take_text(
		machine, top_machine_take_virtio_mem,
		"[{\"id\": \"a\", \"request-status\": \"no-driver\", \"violations\": {\"writes\": "
		"1, \"reads\": 0}}]");
	line = top_line(machine, machine->devices[0], 2000);
	assert_string_equal(line,
			    "machine=vm1_\\x1b.sock device=a node=1 plugged=1025M "
			    "requested=2147483649 max=4096M rate=+1M/s violations=1 "
			    "state=growing progress=0% reason=\"the guest has no driver for it\"");
	free(line);
	/* What the guest asked for by itself, as long as it is so. */
	take_text(machine, top_machine_take_virtio_mem,
		  "[{\"id\": \"a\", \"guest-requests\": {\"granted-size\": 1048576}}]");
	line = top_line(machine, machine->devices[0], 2000);
	assert_non_null(strstr(line, " requested=2147483649 granted=1M max=4096M "));
	free(line);
	assert_string_equal(top_state_text(machine->devices[0], 2000, buf),
			    "growing 0 %, 1M granted");
	take_text(machine, top_machine_take_virtio_mem, "[{\"id\": \"a\"}]");
	assert_string_equal(top_state_text(machine->devices[0], 2000, buf), "growing 0 %");
	top_machine_set_problem(machine, "say \"no\"");
	line = top_problem_line(machine);
	assert_string_equal(line, "machine=vm1_\\x1b.sock problem=\"say 'no'\"");
	free(line);
}

/* ---- a migration ---- */

#define MOVING(status, remaining, normal)                                     \
	"{\"status\": \"" status                                              \
	"\", \"cpu-throttle-percentage\": 20, \"ram\": {\"total\": 1048576, " \
	"\"remaining\": " remaining                                           \
	", \"transferred\": 4096, \"duplicate\": 0, \"normal\": " normal      \
	", \"page-size\": 4096, \"dirty-sync-count\": 3}}"

static void test_migration(void **state)
{
	struct top_machine *machine = *state;
	char text[TOP_MOVE_TEXT_MAX];
	char *line;

	take_migration(machine, 1000, "{}");
	assert_false(machine->moving);
	take_migration(machine, 1000, "{\"status\": \"setup\"}");
	assert_false(machine->moving);
	take_migration(machine, 1000, MOVING("active", "1048576", "0"));
	assert_true(machine->moving);
	assert_string_equal(top_move_text(machine, 1000, text),
			    "moving 0 %, 0, pass 3, slowed by 20 %");
	take_migration(machine, 2000, MOVING("active", "524288", "128"));
	assert_string_equal(top_move_text(machine, 2000, text),
			    "moving 50 %, +512K/s, pass 3, slowed by 20 %");
	line = top_move_line(machine, 2000);
	assert_string_equal(line, "machine=vm1_\\x1b.sock migration=active progress=50% "
				  "memory=1048576 sent=4096 rate=+512K/s pass=3 throttle=20%");
	free(line);
	take_migration(machine, 3000, MOVING("completed", "0", "256"));
	assert_false(machine->moving);
	/* The rate of the next one is its own. */
	take_migration(machine, 9000, MOVING("a b\\u001b", "4194304", "1"));
	assert_string_equal(top_move_text(machine, 9000, text),
			    "moving 0 %, 0, pass 3, slowed by 20 %");
	line = top_move_line(machine, 9000);
	assert_non_null(strstr(line, " migration=a_b\\x1b progress=0%"));
	free(line);
	top_machine_set_problem(machine, "gone");
	assert_false(machine->moving);
}

/* ---- the layout ---- */

static void test_layout(void **state)
{
	struct top_machine *machine = *state, *machines[] = {machine, NULL, NULL};
	struct top_view view = {.machines = machines, .nr_machines = 1};
	struct top_machine none, other;
	struct top_row *list;
	size_t nr;

	assert_int_equal(top_machine_init(&none, "none"), 0);
	assert_int_equal(top_machine_init(&other, "other"), 0);
	machines[1] = &none;
	machines[2] = &other;
	assert_int_equal(top_map_rows(&view, 20), 1);
	assert_null(top_selected(&view));
	top_select(&view, 1);
	assert_null(top_selected(&view));
	take(machine, 1, 2, 0, 0);
	take(&other, 1, 1, 0, 0);
	view.nr_machines = 3;
	assert_int_equal(top_map_rows(&view, 20), 4);
	assert_int_equal(top_map_rows(&view, 200), TOP_MAP_ROWS_MAX);
	assert_int_equal(top_map_rows(&view, 0), 1);
	list = top_rows(&view, 2, &nr);
	assert_int_equal(nr, 3 + 3 * 3);
	assert_int_equal(list[0].kind, TOP_ROW_MACHINE);
	assert_int_equal(list[1].kind, TOP_ROW_DEVICE);
	assert_int_equal(list[3].kind, TOP_ROW_MAP);
	assert_int_equal(list[3].part, 1);
	assert_int_equal(list[7].machine, 1);
	assert_int_equal(list[11].machine, 2);
	/* from one machine to the next over one without devices, and not beyond */
	top_select(&view, 0);
	assert_ptr_equal(top_selected(&view), machine->devices[0]);
	assert_int_equal(top_scroll(&view, list, nr, 4), 0);
	top_select(&view, 1);
	assert_ptr_equal(top_selected(&view), machine->devices[1]);
	view.scroll = top_scroll(&view, list, nr, 4);
	assert_int_equal(view.scroll, 3);
	top_select(&view, 1);
	assert_ptr_equal(top_selected(&view), other.devices[0]);
	top_select(&view, 1);
	assert_ptr_equal(top_selected(&view), other.devices[0]);
	view.scroll = top_scroll(&view, list, nr, 4);
	assert_int_equal(view.scroll, 8);
	top_select(&view, -1);
	top_select(&view, -1);
	top_select(&view, -1);
	assert_ptr_equal(top_selected(&view), machine->devices[0]);
	assert_int_equal(top_scroll(&view, list, nr, 4), 0);
	assert_int_equal(top_scroll(&view, list, nr, 0), 0);
	view.scroll = 999;
	assert_int_equal(top_scroll(&view, list, nr, 100), 0);
	/* the selected one is gone */
	top_select(&view, 2);
	assert_ptr_equal(top_selected(&view), other.devices[0]);
	take(&other, 2, 0, 0, 0);
	top_select(&view, 0);
	assert_ptr_equal(top_selected(&view), machine->devices[1]);
	free(list);
	top_machine_done(&none);
	top_machine_done(&other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_states, setup, teardown),
		cmocka_unit_test_setup_teardown(test_come_and_go, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reasons, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stats, setup, teardown),
		cmocka_unit_test_setup_teardown(test_map, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_steps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_texts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_migration, setup, teardown),
		cmocka_unit_test_setup_teardown(test_layout, setup, teardown),
	};

	setlocale(LC_CTYPE, "C.UTF-8");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
