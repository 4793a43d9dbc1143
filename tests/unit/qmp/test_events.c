/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Events: to whom, in which order, at which rate, with the time of when they happened. The loop's
 * timers are real, so times are bounds: never too early, and the latest is never lost.
 */
#include "tests/unit/qmp/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Events of this name that a client has, and the last one's n. */
static unsigned int count_events(const struct client *c, const char *name, json_int_t *ret_n)
{
	const char *at = c->out, *end;
	unsigned int count = 0;
	json_t *message;

	for (; at && *at; at = end + 2) {
		end = strstr(at, "\r\n");
		message = json_loadb(at, (size_t)(end - at), 0, NULL);
		assert_non_null(message);
		if (json_object_get(message, "event") &&
		    !strcmp(json_string_value(json_object_get(message, "event")), name)) {
			count++;
			if (ret_n)
				*ret_n = json_integer_value(
					json_object_get(json_object_get(message, "data"), "n"));
		}
		json_decref(message);
	}
	return count;
}

static void emit(struct rig *rig, const char *name, const char *key, json_int_t n)
{
	json_t *data = json_pack("{s:I}", "n", n);

	if (key)
		json_object_set_new(data, "id", json_string(key));
	qmp_emit(rig->qmp, name, data);
}

static void events_go_to_all_that_negotiated(void **state)
{
	struct rig *rig = *state;
	struct client a = {0}, b = {0}, shy = {0}, person = {0};
	const json_t *time;
	struct timespec now;
	json_t *message;

	client_open_ready(&a, rig, false);
	client_open(&shy, rig, false);
	client_open_human(&person, rig);
	client_open_ready(&b, rig, true);
	client_clear(&shy);
	client_clear(&person);
	qmp_emit(rig->qmp, "PLAIN", json_pack("{s:s}", "text", "t"));
	clock_gettime(CLOCK_REALTIME, &now);
	assert_string_equal(a.out, b.out);
	assert_int_equal(shy.count, 0);
	assert_int_equal(person.count, 0);
	assert_string_equal(a.out + a.count - 2, "\r\n");
	message = json_loads(a.out, 0, NULL);
	assert_int_equal(json_object_size(message), 3);
	assert_string_equal(json_string_value(json_object_get(message, "event")), "PLAIN");
	time = json_object_get(message, "timestamp");
	assert_in_range(json_integer_value(json_object_get(time, "seconds")), now.tv_sec - 5,
			now.tv_sec);
	assert_in_range(json_integer_value(json_object_get(time, "microseconds")), 0, 999999);
	json_decref(message);
	client_clear(&a);
	/* Without data there is no member of that name. */
	qmp_emit(rig->qmp, "EMPTY", NULL);
	message = json_loads(a.out, 0, NULL);
	assert_int_equal(json_object_size(message), 2);
	json_decref(message);
	client_close(&a);
	client_close(&b);
	client_close(&shy);
	client_close(&person);
	/* To nobody. */
	qmp_emit(rig->qmp, "EMPTY", NULL);
}

static void events_of_a_command_come_before_its_answer(void **state)
{
	struct client c = {0};
	const char *out, *event, *answer;

	client_open_ready(&c, *state, false);
	out = client_ask(&c, "{\"execute\": \"emit\", \"arguments\": {\"name\": \"PLAIN\"}}");
	event = strstr(out, "PLAIN");
	answer = strstr(out, "return");
	assert_true(event && answer && event < answer);
	client_close(&c);
}

static void run_for(struct rig *rig, unsigned int ms)
{
	uint64_t until_ns = uv_hrtime() + (uint64_t)ms * 1000000;

	uv_update_time(&rig->uv);
	while (uv_hrtime() < until_ns)
		uv_run(&rig->uv, UV_RUN_NOWAIT);
}

/* Run the loop until a client has so many events of a name. */
static void run_until(struct rig *rig, const struct client *c, const char *name, unsigned int count)
{
	uint64_t until_ns = uv_hrtime() + UINT64_C(10000000000);

	while (count_events(c, name, NULL) < count) {
		assert_true(uv_hrtime() < until_ns);
		uv_run(&rig->uv, UV_RUN_NOWAIT);
	}
}

static void rates_are_kept(void **state)
{
	struct rig *rig = *state;
	struct client c = {0};
	json_int_t n = 0;
	uint64_t start_ns;

	client_open_ready(&c, rig, false);
	uv_update_time(&rig->uv);
	start_ns = uv_hrtime();
	for (int i = 1; i <= 100; i++)
		emit(rig, "SLOW", NULL, i);
	/* The first at once, of the others the last one, when the time is over. */
	assert_int_equal(count_events(&c, "SLOW", &n), 1);
	assert_int_equal(n, 1);
	run_until(rig, &c, "SLOW", 2);
	assert_true(uv_hrtime() - start_ns >= 49 * 1000000);
	count_events(&c, "SLOW", &n);
	assert_int_equal(n, 100);
	/* The time runs again after that. */
	emit(rig, "SLOW", NULL, 101);
	assert_int_equal(count_events(&c, "SLOW", NULL), 2);
	run_until(rig, &c, "SLOW", 3);
	/* After a quiet time one goes at once again. */
	run_for(rig, 120);
	assert_int_equal(count_events(&c, "SLOW", &n), 3);
	assert_int_equal(n, 101);
	emit(rig, "SLOW", NULL, 102);
	assert_int_equal(count_events(&c, "SLOW", NULL), 4);
	client_close(&c);
}

static void what_is_sent_now_replaces_what_was_kept(void **state)
{
	struct rig *rig = *state;
	struct client c = {0};
	json_int_t n = 0;

	client_open_ready(&c, rig, false);
	emit(rig, "KEYED", "other", 1);
	emit(rig, "SLOW", NULL, 1);
	emit(rig, "SLOW", NULL, 2);
	qmp_emit_now(rig->qmp, "SLOW", json_pack("{s:i}", "n", 3));
	assert_int_equal(count_events(&c, "SLOW", &n), 2);
	assert_int_equal(n, 3);
	/* Its time began anew: the next one is kept, and no older one comes. */
	emit(rig, "SLOW", NULL, 4);
	assert_int_equal(count_events(&c, "SLOW", NULL), 2);
	run_until(rig, &c, "SLOW", 3);
	count_events(&c, "SLOW", &n);
	assert_int_equal(n, 4);
	run_for(rig, 120);
	assert_int_equal(count_events(&c, "SLOW", NULL), 3);
	/* The first of a key as well. */
	qmp_emit_now(rig->qmp, "SLOW", json_pack("{s:i}", "n", 5));
	assert_int_equal(count_events(&c, "SLOW", NULL), 4);
	emit(rig, "SLOW", NULL, 6);
	assert_int_equal(count_events(&c, "SLOW", NULL), 4);
	client_close(&c);
}

static void each_key_has_a_time_of_its_own(void **state)
{
	struct rig *rig = *state;
	struct client c = {0};
	char key[16];

	client_open_ready(&c, rig, false);
	for (int i = 0; i < 300; i++) {
		snprintf(key, sizeof(key), "k%d", i % 3);
		emit(rig, "KEYED", key, i);
		emit(rig, "PLAIN", NULL, i);
	}
	assert_int_equal(count_events(&c, "KEYED", NULL), 3);
	assert_int_equal(count_events(&c, "PLAIN", NULL), 300);
	/* A number is not the string of its digits. */
	qmp_emit(rig->qmp, "KEYED", json_pack("{s:i}", "id", 0));
	qmp_emit(rig->qmp, "KEYED", json_pack("{s:s}", "id", "0"));
	assert_int_equal(count_events(&c, "KEYED", NULL), 5);
	run_until(rig, &c, "KEYED", 8);
	assert_non_null(strstr(c.out, "{\"n\": 297, \"id\": \"k0\"}"));
	assert_non_null(strstr(c.out, "{\"n\": 298, \"id\": \"k1\"}"));
	assert_non_null(strstr(c.out, "{\"n\": 299, \"id\": \"k2\"}"));
	client_close(&c);
}

/* Microseconds of the event's timestamp. */
static json_int_t time_of(const char *line)
{
	json_t *message = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);
	const json_t *time = json_object_get(message, "timestamp");
	json_int_t us = json_integer_value(json_object_get(time, "seconds")) * 1000000 +
			json_integer_value(json_object_get(time, "microseconds"));

	json_decref(message);
	return us;
}

static void time_is_that_of_the_event(void **state)
{
	struct rig *rig = *state;
	struct client c = {0};
	json_int_t first_us;

	client_open_ready(&c, rig, false);
	emit(rig, "SLOW", NULL, 1);
	first_us = time_of(c.out);
	emit(rig, "SLOW", NULL, 2);
	client_clear(&c);
	run_until(rig, &c, "SLOW", 1);
	/* It was sent 50 ms later, and says when it happened. */
	assert_in_range(time_of(c.out) - first_us, 0, 45000);
	client_close(&c);
}

static void kept_events_end_with_the_monitor(void **state)
{
	struct rig *rig = *state;

	/* rig_teardown() comes while these are kept. */
	for (int i = 0; i < 3; i++)
		emit(rig, "SLOW", NULL, i);
}

/* The session that fails, and another one, are freed while an event goes round. */
static void sessions_that_end_while_an_event_goes_round(void **state)
{
	struct rig *rig = *state;
	struct client c[4] = {{0}};

	for (unsigned int dead = 0; dead < 4; dead++) {
		for (unsigned int i = 0; i < 4; i++) {
			c[i] = (struct client){.free_on_drop = i % 2};
			client_open_ready(&c[i], rig, false);
		}
		c[dead].limit = 10;
		emit(rig, "PLAIN", NULL, 5);
		emit(rig, "PLAIN", NULL, 6);
		for (unsigned int i = 0; i < 4; i++) {
			if (i == dead)
				assert_int_equal(c[i].drops, 1);
			else
				assert_int_equal(count_events(&c[i], "PLAIN", NULL), 2);
			client_close(&c[i]);
		}
	}
}

struct gossip {
	struct client client;
	bool talked;
};

/* A client whose leaving is an event itself. */
static size_t gossip_write(void *opaque, const char *buf, size_t size)
{
	(void)opaque;
	return memmem(buf, size, "PLAIN", 5) ? 0 : size;
}

static void gossip_drop(void *opaque)
{
	struct gossip *gossip = opaque;

	gossip->talked = true;
	qmp_emit(gossip->client.rig->qmp, "EMPTY", NULL);
}

static void gossip_resume(void *opaque)
{
	(void)opaque;
}

static void events_in_events_come_after_them(void **state)
{
	static const struct qmp_session_ops ops = {
		.write = gossip_write, .drop = gossip_drop, .resume = gossip_resume};
	static const char hello[] = "{\"execute\": \"qmp_capabilities\"}";
	struct rig *rig = *state;
	struct gossip gossip = {.client = {.rig = rig}};
	struct qmp_session *first = qmp_session_new(rig->qmp, &ops, &gossip, false);
	struct client c = {0};
	const char *plain, *empty;

	qmp_session_input(first, hello, sizeof(hello) - 1);
	client_open_ready(&c, rig, false);
	emit(rig, "PLAIN", NULL, 1);
	assert_true(gossip.talked);
	plain = strstr(c.out, "PLAIN");
	empty = strstr(c.out, "EMPTY");
	assert_true(plain && empty && plain < empty);
	qmp_session_free(first);
	client_close(&c);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(events_go_to_all_that_negotiated),
		T(events_of_a_command_come_before_its_answer),
		T(rates_are_kept),
		T(what_is_sent_now_replaces_what_was_kept),
		T(each_key_has_a_time_of_its_own),
		T(time_is_that_of_the_event),
		T(kept_events_end_with_the_monitor),
		T(sessions_that_end_while_an_event_goes_round),
		T(events_in_events_come_after_them),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
