/* SPDX-License-Identifier: BSD-3-Clause */
/* Notes of what is plugged (notes.h): what is told, in which order, and what the told map says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/migration/blocks.h"
#include "vmm/migration/notes.h"

#define UNIT  (2 * MIB)
#define UNITS 64u

static const struct block blocks[] = {
	{.ram = {.name = "ram.0", .gpa = {0, 16 * MIB}, .fd = -1},
	 .nr_pages = 16 * MIB / PAGE_BYTES},
	{.ram = {.name = "mem0", .gpa = {4 * GIB, UNITS *UNIT}, .fd = -1},
	 .nr_pages = UNITS * UNIT / PAGE_BYTES,
	 .unit_bytes = UNIT},
};

/* What was told, as text: "+0:2" for two units that came from 0 on; and the target's state. */
struct told {
	char text[1024];
	bool plugged[UNITS];
	int fail; /* at that many notes from now */
};

static int tell(void *opaque, size_t block, struct range run, bool plugged)
{
	struct told *t = opaque;
	char *end = t->text + strlen(t->text);

	assert_int_equal(block, 1);
	snprintf(end, (size_t)(t->text + sizeof(t->text) - end), "%c%d:%d ", plugged ? '+' : '-',
		 (int)(run.start / UNIT), (int)(run.size / UNIT));
	for (uint64_t u = run.start / UNIT; u < range_end(run) / UNIT; u++) {
		assert_true(t->plugged[u] != plugged);
		t->plugged[u] = plugged;
	}
	return t->fail && !--t->fail ? -EIO : 0;
}

static int setup(void **state)
{
	*state = notes_new(blocks, ARRAY_SIZE(blocks), NULL);
	assert_non_null(*state);
	return 0;
}

static int teardown(void **state)
{
	notes_free(*state);
	return 0;
}

static void change(struct notes *n, uint64_t unit, uint64_t count, bool plugged)
{
	notes_changed(n, 1, unit * UNIT, count * UNIT, plugged);
}

static void check_take(struct notes *n, struct told *t, const char *text)
{
	t->text[0] = '\0';
	assert_int_equal(notes_take(n, tell, t), 0);
	assert_string_equal(t->text, text);
	assert_false(notes_pending(n));
}

static void test_runs_are_merged(void **state)
{
	struct notes *n = *state;
	struct told t = {0};

	assert_false(notes_pending(n));
	check_take(n, &t, "");
	change(n, 4, 1, true);
	assert_true(notes_pending(n));
	change(n, 6, 2, true);
	change(n, 5, 1, true);
	change(n, 40, 3, true);
	check_take(n, &t, "+4:4 +40:3 ");
	check_take(n, &t, "");
	change(n, 5, 1, false);
	change(n, 6, 1, false);
	check_take(n, &t, "-5:2 ");
}

static void test_what_comes_back_is_told_as_both(void **state)
{
	struct notes *n = *state;
	struct told t = {0};

	change(n, 0, 4, true);
	check_take(n, &t, "+0:4 ");
	change(n, 1, 1, false);
	change(n, 1, 1, true);
	check_take(n, &t, "-1:1 +1:1 ");
	/* However often. */
	for (int i = 0; i < 5; i++) {
		change(n, 2, 2, false);
		change(n, 2, 2, true);
	}
	change(n, 3, 1, false);
	check_take(n, &t, "-2:1 +2:1 -3:1 ");
	check_take(n, &t, "");
}

static void test_what_was_never_told_is_not_told_as_gone(void **state)
{
	struct notes *n = *state;
	struct told t = {0};

	change(n, 0, 4, true);
	change(n, 0, 4, false);
	check_take(n, &t, "");
	change(n, 1, 1, true);
	change(n, 0, UNITS, false);
	change(n, 1, 1, true);
	check_take(n, &t, "+1:1 ");
	/* A run that holds more than what is there. */
	change(n, 0, UNITS, false);
	check_take(n, &t, "-1:1 ");
}

static void test_told_runs_are_pages(void **state)
{
	struct notes *n = *state;
	const uint64_t per_unit = UNIT / PAGE_BYTES;
	struct told t = {0};
	struct range run;

	assert_true(notes_told_run(n, 0, 5, &run));
	assert_int_equal(run.start, 5);
	assert_int_equal(run.size, blocks[0].nr_pages - 5);
	assert_false(notes_told_run(n, 0, blocks[0].nr_pages, &run));
	assert_int_equal(notes_told_pages(n), blocks[0].nr_pages);

	change(n, 2, 3, true);
	change(n, 63, 1, true);
	assert_false(notes_told_run(n, 1, 0, &run));
	check_take(n, &t, "+2:3 +63:1 ");
	assert_int_equal(notes_told_pages(n), blocks[0].nr_pages + 4 * per_unit);
	assert_true(notes_told_run(n, 1, 0, &run));
	assert_int_equal(run.start, 2 * per_unit);
	assert_int_equal(run.size, 3 * per_unit);
	assert_true(notes_told_run(n, 1, 2 * per_unit + 7, &run));
	assert_int_equal(run.start, 2 * per_unit + 7);
	assert_int_equal(run.size, 3 * per_unit - 7);
	assert_true(notes_told_run(n, 1, 5 * per_unit, &run));
	assert_int_equal(run.start, 63 * per_unit);
	assert_int_equal(range_end(run), blocks[1].nr_pages);
	/* Not before it is told. */
	change(n, 2, 3, false);
	assert_true(notes_told_run(n, 1, 0, &run));
	assert_int_equal(run.start, 2 * per_unit);
	check_take(n, &t, "-2:3 ");
	assert_true(notes_told_run(n, 1, 0, &run));
	assert_int_equal(run.start, 63 * per_unit);
	assert_int_equal(notes_told_pages(n), blocks[0].nr_pages + per_unit);
}

static void test_a_failure_ends_the_take(void **state)
{
	struct notes *n = *state;
	struct told t = {.fail = 1};

	change(n, 1, 1, true);
	change(n, 3, 1, true);
	assert_int_equal(notes_take(n, tell, &t), -EIO);
	assert_true(notes_pending(n));
	check_take(n, &t, "+3:1 ");
}

struct plugger {
	struct notes *notes;
	pthread_t thread;
	uint64_t first; /* its units: the quarter from here on */
	bool plugged[UNITS / 4];
	atomic_bool *stop;
	unsigned int changes;
};

static void *plug_at_random(void *opaque)
{
	struct plugger *p = opaque;
	unsigned int random = (unsigned int)p->first + 1;

	while (!atomic_load(p->stop) || p->changes < 1000) {
		unsigned int unit = (unsigned int)rand_r(&random) % (UNITS / 4);

		p->plugged[unit] = !p->plugged[unit];
		change(p->notes, p->first + unit, 1, p->plugged[unit]);
		p->changes++;
	}
	return NULL;
}

/*
 * Devices change and change; whoever takes sees each unit come and go in turn (tell() checks that),
 * and in the end what is.
 */
static void test_taken_while_noted(void **state)
{
	struct notes *n = *state;
	struct plugger p[4];
	struct told t = {0};
	atomic_bool stop = false;

	for (unsigned int i = 0; i < 4; i++) {
		p[i] = (struct plugger){.notes = n, .first = i * UNITS / 4, .stop = &stop};
		assert_int_equal(pthread_create(&p[i].thread, NULL, plug_at_random, &p[i]), 0);
	}
	for (unsigned int takes = 0; takes < 3000; takes++) {
		t.text[0] = '\0';
		assert_int_equal(notes_take(n, tell, &t), 0);
	}
	atomic_store(&stop, true);
	for (unsigned int i = 0; i < 4; i++)
		pthread_join(p[i].thread, NULL);
	t.text[0] = '\0';
	assert_int_equal(notes_take(n, tell, &t), 0);
	for (unsigned int u = 0; u < UNITS; u++)
		assert_int_equal(t.plugged[u], p[u / (UNITS / 4)].plugged[u % (UNITS / 4)]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_runs_are_merged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_comes_back_is_told_as_both, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_what_was_never_told_is_not_told_as_gone, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_told_runs_are_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_failure_ends_the_take, setup, teardown),
		cmocka_unit_test_setup_teardown(test_taken_while_noted, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
