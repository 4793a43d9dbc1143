/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The monitors without memory: each allocation of theirs fails once, and from then on. (That of
 * JSON values is in test_session_hostile.c.) Whatever cannot be done is refused, answered with an
 * error or ends the session; nothing is lost, which the sanitizers see to.
 */
#include "tests/unit/qmp/rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Allocations until they fail; -1: never. */
static long left = -1;
static bool once;
static unsigned int failures;

static bool fails(void)
{
	if (left > 0)
		left--;
	else if (!left) {
		failures++;
		if (once)
			left = -1;
		return true;
	}
	return false;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_reallocarray(void *old, size_t count, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_reallocarray(void *old, size_t count, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t size);

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return fails() ? NULL : __real_realloc(old, size);
}

void *__wrap_reallocarray(void *old, size_t count, size_t size)
{
	return fails() ? NULL : __real_reallocarray(old, count, size);
}

char *__wrap_strdup(const char *text)
{
	return fails() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t size)
{
	return fails() ? NULL : __real_strndup(text, size);
}

/* Repeats @life with every allocation failing in turn; it is told when none did any more. */
static void starve(struct rig *rig, void (*life)(struct rig *rig, bool starved))
{
	unsigned int before;

	for (int how = 0; how < 2; how++) {
		for (long count = 0;; count++) {
			before = failures;
			once = how;
			left = count;
			life(rig, true);
			left = -1;
			if (failures == before)
				break;
		}
	}
	life(rig, false);
	assert_true(failures > 2);
	failures = 0;
}

static void making_life(struct rig *rig, bool starved)
{
	static const struct qmp_module *const modules[] = {&rig_module, NULL};
	struct qmp_config config = {
		.modules = modules,
		.uv = &rig->uv,
		.ctx = rig,
		.package = "rig",
		.banner = "rig",
		.prompt = "(rig) ",
	};
	unsigned int before = failures;
	struct err *err = NULL;
	struct qmp *qmp = qmp_new(&config, &err);

	assert_int_equal(qmp == NULL, failures > before);
	if (!qmp)
		assert_string_equal(err_message(err) + strlen(err_message(err)) - 13,
				    "out of memory");
	assert_true(qmp || starved);
	err_free(err);
	qmp_free(qmp);
	uv_run(&rig->uv, UV_RUN_NOWAIT);
}

static void a_monitor_is_made_whole_or_not_at_all(void **state)
{
	starve(*state, making_life);
}

/* A client that needs no memory. */
struct thin {
	unsigned int drops;
	size_t count;
	char last[64]; /* the end of what was written last */
};

static size_t thin_write(void *opaque, const char *buf, size_t size)
{
	struct thin *thin = opaque;
	size_t keep = size < sizeof(thin->last) ? size : sizeof(thin->last) - 1;

	assert_int_equal(thin->drops, 0);
	thin->count += size;
	memcpy(thin->last, buf + size - keep, keep);
	thin->last[keep] = '\0';
	return size;
}

static void thin_drop(void *opaque)
{
	struct thin *thin = opaque;

	thin->drops++;
}

static void thin_resume(void *opaque)
{
	(void)opaque;
}

static const struct qmp_session_ops thin_ops = {
	.write = thin_write,
	.drop = thin_drop,
	.resume = thin_resume,
};

static const struct hmp_session_ops thin_human_ops = {
	.write = thin_write,
	.drop = thin_drop,
	.resume = thin_resume,
};

static void program_life(struct rig *rig, bool starved)
{
	static const char *const texts[] = {
		"{\"execute\": \"qmp_capabilities\"}",
		"{\"execute\": \"echo\", \"arguments\": {\"text\": \"t\"}, \"id\": {}}{]\n",
		"{\"execute\": \"emit\", \"arguments\": {\"name\": \"KEYED\", \"data\": {\"id\": "
		"1}}}",
		"{\"execute\": \"fail\", \"arguments\": {\"how\": \"binary\"}}",
		"{\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": "
		"\"help\"}}",
		"{\"execute\": \"later\"}",
		"{\"execute\": \"nothing\", \"id\": 7}",
	};
	struct thin thin = {0};
	struct qmp_session *session = qmp_session_new(rig->qmp, &thin_ops, &thin, true);

	assert_true(session || starved);
	for (size_t i = 0; session && i < sizeof(texts) / sizeof(*texts); i++)
		if (strlen(texts[i]) <= qmp_session_room(session))
			qmp_session_input(session, texts[i], strlen(texts[i]));
	while (rig->nr_pending)
		rig_end(rig, NULL, NULL);
	if (!starved) {
		assert_int_equal(thin.drops, 0);
		assert_string_equal(thin.last,
				    "{\r\n    \"return\": {},\r\n    \"id\": 7\r\n}\r\n");
	}
	qmp_session_free(session);
}

static void programs_are_answered_or_dropped(void **state)
{
	starve(*state, program_life);
}

static void person_life(struct rig *rig, bool starved)
{
	static const char *const texts[] = {
		"echo -f a 1\n", "help\n", "info reverse abc\n", "e\t x\n", "\033[A\027\031\n",
		"info later\n",  "\003",   "nothing\n",
	};
	struct thin thin = {0};
	struct hmp_session *session = hmp_session_new(qmp_human(rig->qmp), &thin_human_ops, &thin);

	assert_true(session || starved);
	for (size_t i = 0; session && i < sizeof(texts) / sizeof(*texts); i++)
		if (strlen(texts[i]) <= hmp_session_room(session))
			hmp_session_input(session, texts[i], strlen(texts[i]));
	while (rig->nr_pending)
		rig_end(rig, NULL, NULL);
	if (!starved)
		assert_string_equal(thin.last, "(rig) ");
	hmp_session_free(session);
}

static void people_are_told(void **state)
{
	starve(*state, person_life);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_monitor_is_made_whole_or_not_at_all),
		T(programs_are_answered_or_dropped),
		T(people_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
