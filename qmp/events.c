/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Events: in one order for all sessions, each kind (and key) at its rate.
 *
 * The first of a key is sent at once. For rate_ms after that the latest further one is kept, and
 * sent when the time is over, which then runs again; a key with nothing kept is forgotten. One
 * timer serves the key that is due first. One that is sent now takes the place of what was kept.
 *
 * Threads: that of the loop.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/num.h"
#include "qmp/qmp_internal.h"

/* A key whose time runs. */
struct event_key {
	struct event_key *next; /* sorted by when it is due */
	const struct qmp_event *event;
	char *key; /* text of its value; "": the event has none */
	uint64_t due_ms;
	json_t *kept; /* the whole message; NULL: nothing */
};

struct qmp_events {
	struct qmp *qmp;
	uv_loop_t *uv;
	uv_timer_t timer;
	struct event_key *keys;
	json_t *outbox; /* messages in order */
	bool sending;
};

struct qmp_events *qmp_events_new(struct qmp *qmp, uv_loop_t *uv)
{
	struct qmp_events *events = calloc(1, sizeof(*events));

	if (!events)
		return NULL;
	events->outbox = json_array();
	if (!events->outbox) {
		free(events);
		return NULL;
	}
	events->qmp = qmp;
	events->uv = uv;
	uv_timer_init(uv, &events->timer);
	events->timer.data = events;
	return events;
}

static void event_key_free(struct event_key *key)
{
	json_decref(key->kept);
	free(key->key);
	free(key);
}

static void events_closed(uv_handle_t *handle)
{
	free(handle->data);
}

/* The timer's memory goes when the loop has run once more. */
void qmp_events_free(struct qmp_events *events)
{
	struct event_key *key;

	if (!events)
		return;
	while ((key = events->keys)) {
		events->keys = key->next;
		event_key_free(key);
	}
	json_decref(events->outbox);
	uv_close((uv_handle_t *)&events->timer, events_closed);
}

/* Takes @message over. An event that comes while one is being sent follows it. */
static void events_send(struct qmp_events *events, json_t *message)
{
	json_t *next;

	if (!message || json_array_append_new(events->outbox, message) || events->sending)
		return;
	events->sending = true;
	while ((next = json_incref(json_array_get(events->outbox, 0)))) {
		json_array_remove(events->outbox, 0);
		qmp_sessions_tell(events->qmp, next);
		json_decref(next);
	}
	events->sending = false;
}

static void events_timer(uv_timer_t *timer);

static void events_arm(struct qmp_events *events)
{
	uint64_t now_ms = uv_now(events->uv), due_ms;

	if (!events->keys) {
		uv_timer_stop(&events->timer);
		return;
	}
	due_ms = events->keys->due_ms;
	uv_timer_start(&events->timer, events_timer, due_ms > now_ms ? due_ms - now_ms : 0, 0);
}

/* Begin (again) to count the time of a key. */
static void events_insert(struct qmp_events *events, struct event_key *key)
{
	struct event_key **at = &events->keys;

	key->due_ms = uv_now(events->uv) + key->event->rate_ms;
	while (*at && (*at)->due_ms <= key->due_ms)
		at = &(*at)->next;
	key->next = *at;
	*at = key;
}

static void events_timer(uv_timer_t *timer)
{
	struct qmp_events *events = timer->data;
	uint64_t now_ms = uv_now(events->uv);
	struct event_key *key;
	json_t *kept;

	while ((key = events->keys) && key->due_ms <= now_ms) {
		events->keys = key->next;
		kept = key->kept;
		key->kept = NULL;
		if (kept) {
			events_insert(events, key);
			events_send(events, kept);
		} else {
			event_key_free(key);
		}
	}
	events_arm(events);
}

static struct event_key *events_find(struct qmp_events *events, const struct qmp_event *event,
				     const char *text)
{
	struct event_key *key;

	for (key = events->keys; key; key = key->next)
		if (key->event == event && !strcmp(key->key, text))
			break;
	return key;
}

/* Forget a key, with what was kept. */
static void events_forget(struct qmp_events *events, struct event_key *key)
{
	struct event_key **at = &events->keys;

	while (*at != key)
		at = &(*at)->next;
	*at = key->next;
	event_key_free(key);
}

/* Keep the message back if its time has not come, unless @now; else send it. Takes both over. */
static void events_pace(struct qmp_events *events, const struct qmp_event *event, char *text,
			json_t *message, bool now)
{
	struct event_key *key = events_find(events, event, text);

	if (key && now) {
		events_forget(events, key);
		key = NULL;
	}
	if (key) {
		json_decref(key->kept);
		key->kept = message;
		free(text);
		return;
	}
	key = calloc(1, sizeof(*key));
	if (key) {
		key->event = event;
		key->key = text;
		events_insert(events, key);
		events_arm(events);
	} else {
		free(text);
	}
	events_send(events, message);
}

static json_t *event_message(const char *name, json_t *data)
{
	json_t *message;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	message = json_pack("{s:{s:I, s:I}, s:s}", "timestamp", "seconds", (json_int_t)now.tv_sec,
			    "microseconds", (json_int_t)now.tv_nsec / 1000, "event", name);
	if (message && data && json_object_set(message, "data", data)) {
		json_decref(message);
		message = NULL;
	}
	return message;
}

static void events_emit(struct qmp *qmp, const char *name, json_t *data, bool now)
{
	const struct qmp_event *event = schema_event(qmp->schema, name);
	json_t *message, *value;
	char *text = NULL;

	assert(event);
	message = event_message(name, data);
	if (event->rate_ms) {
		value = event->key ? json_object_get(data, event->key) : NULL;
		text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_SORT_KEYS) : strdup("");
	}
	json_decref(data);
	if (message && text)
		events_pace(qmp->events, event, text, message, now);
	else
		events_send(qmp->events, message);
	if (!message)
		free(text);
}

void qmp_emit(struct qmp *qmp, const char *name, json_t *data)
{
	events_emit(qmp, name, data, false);
}

void qmp_emit_now(struct qmp *qmp, const char *name, json_t *data)
{
	events_emit(qmp, name, data, true);
}
