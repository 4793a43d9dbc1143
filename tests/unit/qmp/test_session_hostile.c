/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sessions of the monitor for programs under attack: clients that ask thousands of things at once,
 * send huge messages or nonsense, do not read, leave at any moment; and no memory for JSON.
 */
#include "tests/unit/qmp/rig.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

#define EMPTY "{\"return\": {}}\r\n"

static void thousands_of_commands_at_once(void **state)
{
	struct client c = {0};
	struct rig *rig = *state;
	const unsigned int count = 20000;
	char *text = malloc(64 * (size_t)count), *at = text;
	unsigned int laters = 0;
	const char *line;

	client_open_ready(&c, rig, false);
	client_clear(&c);
	for (unsigned int i = 0; i < count; i++)
		at += sprintf(at, "{\"execute\": \"%s\", \"id\": %u}\r\n",
			      i % 1000 == 999 ? "later" : "nothing", i);
	for (char *from = text; from < at;) {
		from += client_send(&c, from, (size_t)(at - from));
		if (rig->nr_pending) {
			rig_end(rig, NULL, NULL);
			laters++;
		}
	}
	while (rig->nr_pending) {
		rig_end(rig, NULL, NULL);
		laters++;
	}
	assert_int_equal(laters, count / 1000);
	line = c.out;
	for (unsigned int i = 0; i < count; i++) {
		at = text + sprintf(text, "{\"return\": {}, \"id\": %u}\r\n", i);
		assert_memory_equal(line, text, (size_t)(at - text));
		line += at - text;
	}
	assert_int_equal(*line, '\0');
	free(text);
	client_close(&c);
}

/* A session's life, into a client that takes @limit bytes. Returns whether it took all. */
static bool limited_life(struct rig *rig, size_t limit, bool free_on_drop)
{
	static const char text[] =
		"{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"oob\"]}}"
		"{\"execute\": \"echo\", \"arguments\": {\"text\": \"some text\"}, \"id\": 1}{]\n"
		"{\"execute\": \"emit\", \"arguments\": {\"name\": \"PLAIN\"}}"
		"{\"execute\": \"later\"}{\"execute\": \"nothing\"}{\"exec-oob\": \"urgent\"}";
	struct client c = {.limit = limit, .free_on_drop = free_on_drop};
	bool dropped;

	client_open(&c, rig, false);
	if (!c.session) {
		assert_int_equal(c.drops, 0);
		client_close(&c);
		return false;
	}
	client_send(&c, text, sizeof(text) - 1);
	qmp_emit(rig->qmp, "PLAIN", json_pack("{s:i}", "n", 2));
	if (rig->nr_pending)
		rig_end(rig, NULL, NULL);
	dropped = c.drops > 0;
	assert_true(c.drops <= 1);
	if (dropped && !free_on_drop) {
		assert_int_equal(qmp_session_room(c.session), 0);
		assert_false(qmp_session_busy(c.session));
	}
	client_close(&c);
	return !dropped;
}

static void output_may_end_at_any_byte(void **state)
{
	struct rig *rig = *state;
	unsigned int lives = 0;

	for (int free_on_drop = 0; free_on_drop < 2; free_on_drop++)
		for (size_t limit = 1; !limited_life(rig, limit, free_on_drop); limit++)
			lives++;
	assert_true(lives > 800);
	assert_int_equal(rig->nr_pending, 0);
}

static void sessions_are_freed_from_inside(void **state)
{
	struct rig *rig = *state;
	struct client a = {0}, b = {0};

	client_open_ready(&a, rig, true);
	client_open_ready(&b, rig, true);
	rig->leaver = &a;
	client_ask(&a, "{\"execute\": \"leave\"}{\"execute\": \"nothing\"}");
	assert_null(a.session);
	assert_int_equal(a.count, 0);
	assert_int_equal(rig->runs, 0);

	/* Another's, while a command of it is pending and more wait. */
	client_open_ready(&a, rig, true);
	client_ask(&a, "{\"execute\": \"later\"}{\"execute\": \"nothing\"}");
	rig->leaver = &a;
	ASK(&b, "{\"execute\": \"leave\"}", EMPTY);
	assert_int_equal(rig->unwanted, 1);
	rig_end(rig, NULL, NULL);

	/* Out-of-band, over a pending one of the same session. */
	client_open_ready(&a, rig, true);
	client_ask(&a, "{\"execute\": \"later\"}");
	rig->leaver = &a;
	client_ask(&a, "{\"exec-oob\": \"leave\"}{\"execute\": \"nothing\"}");
	assert_null(a.session);
	rig_end(rig, NULL, NULL);
	client_close(&b);
	qmp_session_free(NULL);
	qmp_free(NULL);
}

static void huge_messages(void **state)
{
	struct client c = {0};
	size_t size = 4 * 1024 * 1024;
	char *text = malloc(size + 64);

	client_open_ready(&c, *state, false);
	memset(text, 'x', size + 64);
	memcpy(text, "{\"execute\": \"", 13);
	memcpy(text + size, "\"}", 2);
	assert_int_equal(client_send(&c, text, size + 2), size + 2);
	assert_non_null(strstr(c.out, "CommandNotFound"));
	assert_true(c.count < 500);
	client_clear(&c);
	/* An id of that size comes back. */
	memset(text, 'x', size + 64);
	memcpy(text, "{\"execute\": \"nothing\", \"id\": \"", 30);
	memcpy(text + size, "\"}", 2);
	client_send(&c, text, size + 2);
	assert_true(c.count > size - 64);
	client_clear(&c);
	/* So does one as deep as is allowed. */
	memcpy(text, "{\"execute\": \"nothing\", \"id\": ", 29);
	memset(text + 29, '[', QMP_DEPTH_MAX - 1);
	memset(text + 29 + QMP_DEPTH_MAX - 1, ']', QMP_DEPTH_MAX - 1);
	text[29 + 2 * (QMP_DEPTH_MAX - 1)] = '}';
	client_send(&c, text, 30 + 2 * (QMP_DEPTH_MAX - 1));
	assert_int_equal(c.count,
			 strlen("{\"return\": {}, \"id\": }\r\n") + 2 * (QMP_DEPTH_MAX - 1));
	free(text);
	client_close(&c);
}

/* JSON's memory: fails after so many allocations, once or from then on; -1: never. */
static long allocations_left = -1;
static bool allocations_fail_once;
static unsigned int allocations_failed;

static void *failing_malloc(size_t size)
{
	if (allocations_left > 0) {
		allocations_left--;
	} else if (!allocations_left) {
		allocations_failed++;
		if (allocations_fail_once)
			allocations_left = -1;
		return NULL;
	}
	return malloc(size);
}

json_t *__real_json_loadb(const char *buffer, size_t size, size_t flags, json_error_t *error);
json_t *__wrap_json_loadb(const char *buffer, size_t size, size_t flags, json_error_t *error);

/*
 * The library's own parser does not survive a failing allocation (2.14 crashes): it fails as a whole
 * here.
 */
json_t *__wrap_json_loadb(const char *buffer, size_t size, size_t flags, json_error_t *error)
{
	long left = allocations_left;
	json_t *value = failing_malloc(1);

	if (!value) {
		*error = (json_error_t){.position = 0};
		error->text[JSON_ERROR_TEXT_LENGTH - 1] = json_error_out_of_memory;
		return NULL;
	}
	free(value);
	allocations_left = -1;
	value = __real_json_loadb(buffer, size, flags, error);
	allocations_left = left > 0 ? left - 1 : left;
	return value;
}

/*
 * Who uses it once more shall not get away with it: it is nobody else's for a while, and zeros, which
 * are an object's type and no object.
 */
static void *spoiled[256];

static void spoiling_free(void *memory)
{
	static size_t next;

	if (memory)
		explicit_bzero(memory, malloc_usable_size(memory));
	free(spoiled[next]);
	spoiled[next] = memory;
	next = (next + 1) % ARRAY_SIZE(spoiled);
}

static void spoiling_end(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(spoiled); i++)
		spoiling_free(NULL);
}

static void life_without_memory(struct rig *rig)
{
	static const char text[] =
		"{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"oob\"]}}"
		"{\"execute\": \"echo\", \"arguments\": {\"text\": \"t\", \"any\": [1]}, \"id\": "
		"{}}"
		"{]\n{\"execute\": \"emit\", \"arguments\": {\"name\": \"KEYED\", \"data\": "
		"{\"id\": 1}}}{\"execute\": \"query-commands\"}{\"execute\": \"query-version\"}"
		"{\"execute\": \"query-qmp-schema\"}{\"execute\": \"at-once\"}"
		"{\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": "
		"\"echo -f a 1 2\"}}{\"execute\": \"fail\", \"arguments\": {\"how\": \"device\"}}"
		"{\"execute\": \"later\", \"id\": 1}{\"execute\": \"nothing\"}"
		"{\"exec-oob\": \"urgent\", \"id\": 1}";
	struct client c = {.free_on_drop = true}, person = {.free_on_drop = true};

	client_open(&c, rig, false);
	if (c.session)
		client_send(&c, text, sizeof(text) - 1);
	qmp_emit(rig->qmp, "KEYED", json_pack("{s:i}", "id", 1));
	qmp_emit(rig->qmp, "PLAIN", NULL);
	while (rig->nr_pending)
		rig_end(rig, json_pack("{s:i}", "n", 1), NULL);
	client_close(&c);
	client_open_human(&person, rig);
	if (person.human)
		client_send(&person, "echo a 1\ninfo reverse x\nhelp\nfail x\n", 36);
	client_close(&person);
}

static void json_runs_out_of_memory(void **state)
{
	struct rig *rig = *state;
	unsigned int failed;

	json_set_alloc_funcs(failing_malloc, spoiling_free);
	for (int once = 0; once < 2; once++) {
		for (long left = 0;; left += once ? 1 : 1 + left / 50) {
			failed = allocations_failed;
			allocations_left = left;
			allocations_fail_once = once;
			life_without_memory(rig);
			allocations_left = -1;
			if (allocations_failed == failed)
				break;
		}
	}
	assert_true(allocations_failed > 1000);
	json_set_alloc_funcs(malloc, free);
	spoiling_end();
}

static void random_commands_and_rubbish(void **state)
{
	static const char *const pieces[] = {
		"{\"execute\": \"later\", \"id\": 1}",
		"{\"execute\": \"nothing\"}",
		"{\"execute\":",
		"\"echo\"",
		"}",
		"{\"exec-oob\": \"finish\"}",
		"{\"exec-oob\": \"urgent\"}",
		"\n",
		"\xff",
		"{\"execute\": \"emit\", \"arguments\": {\"name\": \"SLOW\"}}",
		"[[",
		"\"",
		"'",
		"\\",
		"{\"execute\": \"leave\"}",
		"{\"exec-oob\": \"leave\"}",
		" , \"arguments\": {}",
	};
	struct rig *rig = *state;
	struct client c[3] = {{0}};
	unsigned int seed = 7;

	for (int round = 0; round < 50000; round++) {
		struct client *one = &c[rand_r(&seed) % 3];
		const char *piece = pieces[(size_t)rand_r(&seed) % ARRAY_SIZE(pieces)];

		if (!one->session) {
			*one = (struct client){.stalled = false};
			client_open_ready(one, rig, rand_r(&seed) % 2);
		}
		rig->leaver = rand_r(&seed) % 8 ? NULL : &c[rand_r(&seed) % 3];
		rig->end_unwanted = rand_r(&seed) % 2;
		client_send(one, piece, strlen(piece));
		if (rig->nr_pending && rand_r(&seed) % 4 == 0)
			rig_end(rig, NULL, NULL);
		if (one->session && rand_r(&seed) % 64 == 0)
			client_close(one);
		client_clear(one);
	}
	for (int i = 0; i < 3; i++)
		client_close(&c[i]);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(thousands_of_commands_at_once),  T(output_may_end_at_any_byte),
		T(sessions_are_freed_from_inside), T(huge_messages),
		T(json_runs_out_of_memory),        T(random_commands_and_rubbish),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
