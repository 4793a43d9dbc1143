/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Each system call of the guard fails in turn, at once or when it has done half of its range, in
 * plain segments, in armed ones, and while one becomes the other. Closed blocks stay closed, open
 * ones keep their content, what is beside the run does not change, and the call that undoes the
 * failed one, or the same again, brings everything in order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "anon_rig.h"
#include "base/num.h"

enum { BLOCKS = 64, SEGMENT = 16 };
#define BLOCK (64 * KIB)

/* Before the call. */
enum scene_state {
	SCENE_PLAIN,
	SCENE_ARMED,     /* the segments that the run begins and ends in */
	SCENE_LEAVING,   /* the same, and nothing of them is open */
	SCENE_SCATTERED, /* one more fence makes a segment armed */
};

enum scene_call { SCENE_OPEN, SCENE_CLOSE, SCENE_DISCARD };

struct scene {
	struct anon_rig rig;
	/* Of block i: is it open; does it hold i + 1 in its first byte and its last? */
	bool open[BLOCKS], content[BLOCKS];
	uint64_t first, count;
};

static void scene_fill(struct scene *s, uint64_t first, uint64_t count)
{
	assert_int_equal(rig_open(&s->rig, first * BLOCK, count * BLOCK), 0);
	for (uint64_t i = first; i < first + count; i++) {
		s->open[i] = s->content[i] = true;
		s->rig.memory[i * BLOCK] = s->rig.memory[(i + 1) * BLOCK - 1] = (char)(i + 1);
	}
}

static void scene_close(struct scene *s, uint64_t first, uint64_t count, bool discard)
{
	assert_int_equal(rig_close(&s->rig, first * BLOCK, count * BLOCK), 0);
	memset(s->open + first, 0, count);
	if (!discard)
		return;
	assert_int_equal(rig_discard(&s->rig, first * BLOCK, count * BLOCK), 0);
	memset(s->content + first, 0, count);
}

/* Blocks of all kinds; the run of each call has some, and crosses from one segment to the next. */
static void scene_start(struct scene *s, enum scene_state state, enum scene_call call)
{
	memset(s, 0, sizeof(*s));
	rig_start(&s->rig, BLOCKS * BLOCK, BLOCK, SEGMENT * BLOCK, state == SCENE_PLAIN ? 100 : 4);
	scene_fill(s, 2, 8);
	if (state == SCENE_ARMED || state == SCENE_LEAVING)
		for (uint64_t i = 0; i < 8; i += 2) {
			scene_fill(s, 3 + i, 1);
			scene_close(s, 4 + i, 1, true);
			scene_fill(s, 19 + i, 1);
		}
	else
		scene_close(s, 5, 1, true);
	assert_int_equal(s->rig.pages->armed_segments,
			 state == SCENE_ARMED || state == SCENE_LEAVING ? 2 : 0);
	scene_fill(s, 28, 1);
	scene_close(s, 28, 1, false);
	if (call == SCENE_DISCARD) {
		scene_fill(s, 12, 8);
		scene_close(s, 11, 10, false);
	}
	s->first = call == SCENE_CLOSE ? 3 : 11;
	s->count = call == SCENE_CLOSE ? 20 : 10;
	if (call == SCENE_OPEN)
		s->count = 18;
	if (state == SCENE_LEAVING) {
		s->first = 0;
		s->count = 2 * SEGMENT;
		if (call == SCENE_DISCARD)
			scene_close(s, s->first, s->count, false);
	}
	if (state == SCENE_SCATTERED && call == SCENE_CLOSE) {
		s->first = 7;
		s->count = 1;
	}
	if (state == SCENE_SCATTERED && call == SCENE_OPEN) {
		s->first = 24;
		s->count = 2;
	}
}

static int scene_do(struct scene *s, enum scene_call call)
{
	struct anon_rig *r = &s->rig;

	if (call == SCENE_OPEN)
		return rig_open(r, s->first * BLOCK, s->count * BLOCK);
	if (call == SCENE_CLOSE)
		return rig_close(r, s->first * BLOCK, s->count * BLOCK);
	return rig_discard(r, s->first * BLOCK, s->count * BLOCK);
}

static bool scene_in_run(const struct scene *s, uint64_t block)
{
	return block >= s->first && block < s->first + s->count;
}

/* A block is as it is written down: in its protection, in its content and in the host's memory. */
static void scene_check_block(const struct scene *s, uint64_t i)
{
	const struct anon_rig *r = &s->rig;
	char value = (char)(s->content[i] ? i + 1 : 0);

	if (s->open[i]) {
		assert_int_equal(rig_poke(r, i * BLOCK, (uint8_t)value), 0);
		assert_int_equal(rig_poke(r, i * BLOCK + BLOCK - 1, (uint8_t)value), 0);
	} else {
		assert_true(rig_is_closed(r, i * BLOCK, BLOCK));
	}
	assert_int_equal(r->memory[i * BLOCK], value);
	assert_int_equal(r->memory[i * BLOCK + BLOCK - 1], value);
	if (!s->open[i] && !s->content[i])
		assert_int_equal(rig_pages(r, i * BLOCK, BLOCK), 0);
}

static void scene_check(const struct scene *s, bool with_run)
{
	for (uint64_t i = 0; i < BLOCKS; i++)
		if (with_run || !scene_in_run(s, i))
			scene_check_block(s, i);
}

/* Without armed segments there is a mapping for each run of open or of closed blocks. */
static void scene_check_mappings(const struct scene *s)
{
	unsigned int runs = 1;

	for (uint64_t i = 1; i < BLOCKS; i++)
		runs += s->open[i] != s->open[i - 1];
	if (!s->rig.pages->armed_segments)
		assert_int_equal(rig_mappings(&s->rig), runs);
}

/* What the call makes of the run. */
static void scene_commit(struct scene *s, enum scene_call call)
{
	for (uint64_t i = s->first; i < s->first + s->count; i++) {
		if (call == SCENE_DISCARD)
			s->content[i] = s->content[i] && s->open[i];
		else
			s->open[i] = call == SCENE_OPEN;
	}
}

/* After the failed call: what has to hold at once, and what sets it right. */
static void scene_check_failure(struct scene *s, enum scene_call call)
{
	struct anon_rig *r = &s->rig;

	scene_check(s, false);
	switch (call) {
	case SCENE_OPEN:
		/* All is as before, and after a revoke and discard what was closed is empty. */
		scene_check(s, true);
		scene_check_mappings(s);
		for (uint64_t i = s->first; i < s->first + s->count; i++)
			if (!s->open[i])
				scene_close(s, i, 1, true);
		scene_check(s, true);
		break;
	case SCENE_CLOSE:
		/* Blocks were open or closed, as before or not; those that were open are opened. */
		for (uint64_t i = s->first; i < s->first + s->count; i++) {
			if (!s->open[i])
				scene_check_block(s, i);
			else
				assert_int_equal(rig_open(r, i * BLOCK, BLOCK), 0);
		}
		scene_check(s, true);
		break;
	case SCENE_DISCARD:
		for (uint64_t i = s->first; i < s->first + s->count; i++) {
			if (s->open[i])
				scene_check_block(s, i);
			else
				assert_true(rig_is_closed(r, i * BLOCK, BLOCK));
		}
		break;
	}
	assert_int_equal(scene_do(s, call), 0);
	scene_commit(s, call);
	scene_check(s, true);
	scene_check_mappings(s);
}

/* Number @at of the calls fails. False when there were not so many. */
static bool check_fault(enum scene_state state, enum scene_call call, unsigned int at, bool partly)
{
	struct scene s;
	unsigned int calls;
	int ret;

	scene_start(&s, state, call);
	anon_faults_set(
		&(struct anon_faults){.at = at, .times = 1, .error = ENOMEM, .partly = partly});
	ret = scene_do(&s, call);
	calls = anon_faults_end();
	if (ret == 0) {
		/* It went another way, or had done what counts. */
		scene_commit(&s, call);
		scene_check(&s, true);
		scene_check_mappings(&s);
	} else {
		assert_int_equal(ret, -ENOMEM);
		assert_true(calls >= at);
		scene_check_failure(&s, call);
	}
	rig_end(&s.rig);
	return calls >= at;
}

/* A failed open of armed blocks costs no mappings for good. */
static void test_armed_again(void **state)
{
	unsigned int calls, at = 0;
	struct scene s;
	int ret;

	(void)state;
	if (!rig_can_arm())
		skip();
	anon_kernel_set((struct anon_kernel){.no_table_reclaim = true});
	do {
		uint32_t fences;

		scene_start(&s, SCENE_ARMED, SCENE_OPEN);
		fences = s.rig.pages->fences;
		anon_faults_set(&(struct anon_faults){.at = ++at, .times = 1, .error = ENOMEM});
		ret = rig_open(&s.rig, 12 * BLOCK, 2 * BLOCK);
		calls = anon_faults_end();
		if (ret || calls >= at) {
			scene_close(&s, 12, 2, true);
			assert_int_equal(s.rig.pages->fences, fences);
			scene_check(&s, true);
		}
		rig_end(&s.rig);
	} while (calls >= at);
	anon_kernel_set((struct anon_kernel){0});
}

/* All calls from number @at on fail, those that would undo as well. */
static void check_faults(enum scene_state state, enum scene_call call, unsigned int at)
{
	struct scene s;
	int ret;

	scene_start(&s, state, call);
	anon_faults_set(&(struct anon_faults){.at = at, .times = UINT32_MAX, .error = ENOMEM});
	ret = scene_do(&s, call);
	anon_faults_end();
	for (uint64_t i = 0; i < BLOCKS; i++)
		if (!s.open[i] && (ret || call != SCENE_OPEN))
			assert_true(rig_is_closed(&s.rig, i * BLOCK, BLOCK));
	scene_check(&s, false);
	assert_int_equal(scene_do(&s, call), 0);
	scene_commit(&s, call);
	scene_check(&s, true);
	rig_end(&s.rig);
}

static void check_call(enum scene_call call)
{
	enum scene_state last = rig_can_arm() ? SCENE_SCATTERED : SCENE_PLAIN;

	for (enum scene_state state = SCENE_PLAIN; state <= last; state++) {
		unsigned int at = 1;

		while (check_fault(state, call, at, false)) {
			check_fault(state, call, at, true);
			check_faults(state, call, at);
			at++;
		}
		assert_true(at > 1);
	}
}

static void check_call_on_both(enum scene_call call)
{
	check_call(call);
	anon_kernel_set((struct anon_kernel){.no_table_reclaim = true});
	check_call(call);
	anon_kernel_set((struct anon_kernel){.no_table_reclaim = true, .mergeable = true});
	check_call(call);
	anon_kernel_set((struct anon_kernel){.no_userfaultfd = true});
	for (unsigned int at = 1; check_fault(SCENE_PLAIN, call, at, false); at++)
		check_fault(SCENE_PLAIN, call, at, true);
	anon_kernel_set((struct anon_kernel){0});
}

static void test_open(void **state)
{
	(void)state;
	check_call_on_both(SCENE_OPEN);
}

static void test_close(void **state)
{
	(void)state;
	check_call_on_both(SCENE_CLOSE);
}

/* What a failed close left closed can be discarded; what it left open is not touched by that. */
static void test_discard_after_failed_close(void **state)
{
	unsigned int calls, at = 0;
	struct scene s;

	(void)state;
	do {
		scene_start(&s, SCENE_PLAIN, SCENE_CLOSE);
		anon_faults_set(&(struct anon_faults){
			.at = ++at, .times = 1, .error = ENOMEM, .partly = true});
		(void)scene_do(&s, SCENE_CLOSE);
		calls = anon_faults_end();
		assert_int_equal(scene_do(&s, SCENE_DISCARD), 0);
		for (uint64_t i = s.first; i < s.first + s.count; i++) {
			if (s.open[i] && rig_poke(&s.rig, i * BLOCK, (uint8_t)(i + 1)) < 0)
				s.open[i] = s.content[i] = false;
			scene_check_block(&s, i);
		}
		rig_end(&s.rig);
	} while (calls >= at);
	assert_true(at > 1);
}

static void test_discard(void **state)
{
	(void)state;
	check_call_on_both(SCENE_DISCARD);
}

/* Undoing fails as well, when half of the run is writable: the next close makes it closed. */
static void test_undo_of_open(void **state)
{
	unsigned int at = 0, calls;
	struct scene s;
	int ret;

	(void)state;
	do {
		scene_start(&s, SCENE_PLAIN, SCENE_OPEN);
		anon_faults_set(&(struct anon_faults){
			.at = ++at, .times = UINT32_MAX, .error = ENOMEM, .partly = true});
		ret = scene_do(&s, SCENE_OPEN);
		calls = anon_faults_end();
		assert_int_equal(ret, calls < at ? 0 : -ENOMEM);
		assert_int_equal(rig_close(&s.rig, s.first * BLOCK, s.count * BLOCK), 0);
		assert_int_equal(rig_discard(&s.rig, s.first * BLOCK, s.count * BLOCK), 0);
		for (uint64_t i = s.first; i < s.first + s.count; i++)
			s.open[i] = s.content[i] = false;
		scene_check(&s, true);
		rig_end(&s.rig);
	} while (calls >= at);
	assert_true(at > 1);
}

/* Memory that cannot be closed to begin with is refused in words. */
static void test_new(void **state)
{
	struct anon_rig r;
	struct vmem_error error;
	unsigned int failed = 0, at = 1;
	int ret;

	(void)state;
	rig_start(&r, 4 * BLOCK, BLOCK, BLOCK, 0);
	do {
		struct pages *pages = NULL;

		error.text[0] = 0;
		anon_faults_set(&(struct anon_faults){.at = at, .times = 1, .error = EACCES});
		ret = pages_anon_new(&r.config, &pages, &error);
		if (ret) {
			assert_int_equal(ret, -EACCES);
			assert_null(pages);
			assert_non_null(strstr(error.text, "cannot be closed"));
			failed++;
		} else {
			pages->ops->free(pages);
		}
	} while (anon_faults_end() >= at++);
	/* Of all that is tried only these two are needed: to protect, and to discard. */
	assert_int_equal(failed, 2);
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_close),
		cmocka_unit_test(test_discard_after_failed_close),
		cmocka_unit_test(test_discard),
		cmocka_unit_test(test_undo_of_open),
		cmocka_unit_test(test_armed_again),
		cmocka_unit_test(test_new),
	};

	if (!rig_can_count())
		return 77;
	return cmocka_run_group_tests_name("pages_anon_faults", tests, NULL, NULL);
}
