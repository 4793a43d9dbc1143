/* SPDX-License-Identifier: BSD-3-Clause */
/* Following events: see follow.h. */
#include "ebbctl/follow.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/num.h"
#include "ebbctl/client.h"
#include "ebbctl/print.h"
#include "ebbctl/text.h"

struct follow {
	char *name; /* NULL: all */
	bool seen;
	bool lost; /* stdout takes no more */
};

static uint64_t follow_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void follow_event(void *opaque, const char *name, const json_t *event)
{
	struct follow *follow = opaque;
	char *line;

	if (follow->seen || (follow->name && strcmp(follow->name, name)))
		return;
	follow->seen = follow->name != NULL;
	line = print_event_line(name, event);
	if (line)
		puts(line);
	free(line);
	follow->lost = follow->lost || print_flush();
}

static const struct client_ops follow_ops = {.event = follow_event};

int follow_events(struct client *client)
{
	struct follow follow = {0};
	struct err *err = NULL;
	int ret = 0;

	client_set_ops(client, &follow_ops, &follow);
	while (!ret && !follow.lost)
		ret = client_wait(client, -1, &err);
	return ret ? print_err(err) : 1;
}

static bool follow_is_event(const json_t *entry)
{
	const char *kind = json_string_value(json_object_get(entry, "meta-type"));

	return kind && !strcmp(kind, "event") && json_string_value(json_object_get(entry, "name"));
}

/* Waiting for what never comes helps nobody. A monitor without a schema is not asked. */
static int follow_check(struct client *client, const char *name, struct err **err)
{
	char *names = NULL, *clean;
	json_t *schema = NULL;
	bool found = false;
	struct err *why = NULL;
	size_t size;
	FILE *out;
	int ret;

	ret = client_call(client, "query-qmp-schema", NULL, &schema, &why);
	if (ret) {
		err_free(why);
		return client_state(client) == CLIENT_READY
			       ? 0
			       : err_set(err, ECONNRESET, "%s: the connection ended",
					 client_name(client));
	}
	out = open_memstream(&names, &size);
	for (size_t i = 0; out && i < json_array_size(schema); i++) {
		const json_t *entry = json_array_get(schema, i);
		const char *event = json_string_value(json_object_get(entry, "name"));

		if (!follow_is_event(entry))
			continue;
		found = found || !strcmp(event, name);
		clean = text_clean(event, strlen(event), text_locale_utf8(), 0);
		fprintf(out, " %s", clean ? clean : "");
		free(clean);
	}
	if (out)
		fclose(out);
	if (!found && names && *names)
		ret = err_set(err, EINVAL, "there is no event '%s'; there are:%s", name, names);
	free(names);
	json_decref(schema);
	return ret;
}

static char *follow_name(const char *name)
{
	char *copy = strdup(name);

	for (char *c = copy; c && *c; c++)
		*c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
	return copy;
}

int follow_wait(struct client *client, const char *name, uint64_t timeout_ms)
{
	struct follow follow = {.name = follow_name(name)};
	uint64_t end = follow_now_ms() + timeout_ms, now;
	struct err *err = NULL;
	int ret;

	client_set_ops(client, &follow_ops, &follow);
	ret = follow.name ? follow_check(client, follow.name, &err)
			  : err_set(&err, ENOMEM, "out of memory");
	while (!ret && !follow.seen) {
		now = follow_now_ms();
		if (timeout_ms && now >= end)
			ret = err_set(&err, ETIMEDOUT, "no event %s in %g s", follow.name,
				      (double)timeout_ms / 1000);
		else
			ret = client_wait(
				client, timeout_ms ? (int)num_min(end - now, INT32_MAX) : -1, &err);
	}
	/* It may have come together with the end of the connection. */
	if (follow.seen && ret) {
		err_free(err);
		ret = 0;
	}
	client_set_ops(client, NULL, NULL);
	free(follow.name);
	return ret ? print_err(err) : follow.lost;
}
