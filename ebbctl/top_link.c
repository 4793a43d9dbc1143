/* SPDX-License-Identifier: BSD-3-Clause */
/* A machine that top looks at: see top_link.h for the contract. */
#include "ebbctl/top_link.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/num.h"
#include "ebbctl/address.h"
#include "ebbctl/client.h"
#include "ebbctl/print.h"
#include "ebbctl/top_model.h"

/* Questions that not every monitor knows. */
enum top_question { TOP_VIRTIO_MEM, TOP_BLOCKS, TOP_STATS, TOP_MIGRATE, TOP_QUESTIONS };

struct top_link {
	struct top_machine machine;
	struct address *address;
	struct client *client; /* NULL: no connection */
	const struct top_link_ops *ops;
	void *opaque;
	uint64_t now_ms;   /* of the last call */
	uint64_t since_ms; /* of the connection, or when it ended */
	unsigned int attempt;
	bool guess, was_ready, other;
	bool unknown[TOP_QUESTIONS];
	size_t cells;
};

/* A question about one device. */
struct top_about {
	struct top_link *link;
	char *id;
	uint64_t bytes;
};

static void top_link_event(void *opaque, const char *name, const json_t *event);

static const struct client_ops top_link_client_ops = {.event = top_link_event};

int top_link_new(const char *where, const char *label, bool guess, const struct top_link_ops *ops,
		 void *opaque, struct top_link **ret_link, struct err **err)
{
	struct top_link *link = calloc(1, sizeof(*link));
	int ret;

	if (!link || top_machine_init(&link->machine, label)) {
		free(link);
		return err_set(err, ENOMEM, "out of memory");
	}
	link->guess = guess;
	link->ops = ops;
	link->opaque = opaque;
	ret = address_new(where, &link->address, err);
	if (ret) {
		top_link_free(link);
		return ret;
	}
	*ret_link = link;
	return 0;
}

void top_link_free(struct top_link *link)
{
	if (!link)
		return;
	client_free(link->client);
	address_free(link->address);
	top_machine_done(&link->machine);
	free(link);
}

struct top_machine *top_link_machine(const struct top_link *link)
{
	return (struct top_machine *)&link->machine;
}

const char *top_link_where(const struct top_link *link)
{
	return address_name(link->address);
}

bool top_link_was_ready(const struct top_link *link)
{
	return link->was_ready;
}

bool top_link_is_other(const struct top_link *link)
{
	return link->other;
}

bool top_link_is_down(const struct top_link *link)
{
	return !link->client;
}

bool top_link_is_idle(const struct top_link *link)
{
	return !link->client || (link->guess && !link->was_ready) ||
	       (client_state(link->client) == CLIENT_READY && !client_pending(link->client));
}

void top_link_poll(const struct top_link *link, struct pollfd *ret_pfd)
{
	*ret_pfd = (struct pollfd){.fd = -1};
	if (!link->client)
		return;
	ret_pfd->fd = client_fd(link->client);
	ret_pfd->events = client_poll_events(link->client);
}

static void top_link_connect(struct top_link *link);

/*
 * There is no connection any more, because of @err, which is taken over. As long as there was none,
 * all addresses of the name are tried in turn.
 */
static void top_link_down(struct top_link *link, struct err *err)
{
	const char *name = address_name(link->address), *why = err_message(err);
	size_t size = strlen(name);

	/* The machine's own row says where. */
	if (!strncmp(why, name, size) && !strncmp(why + size, ": ", 2))
		why += size + 2;
	client_free(link->client);
	link->client = NULL;
	link->since_ms = link->now_ms;
	top_machine_set_problem(&link->machine, why);
	err_free(err);
	if (!link->was_ready && !link->other && link->attempt < address_nr(link->address))
		top_link_connect(link);
}

static void top_link_connect(struct top_link *link)
{
	struct err *err = NULL;
	int fd;

	link->since_ms = link->now_ms;
	fd = address_connect(link->address, 0, link->attempt++, &err);
	if (fd >= 0) {
		link->client = client_new(fd, address_name(link->address));
		if (!link->client)
			err_set(&err, ENOMEM, "out of memory");
	}
	if (link->client)
		client_set_ops(link->client, &top_link_client_ops, link);
	else
		top_link_down(link, err);
}

void top_link_tick(struct top_link *link, uint64_t now_ms)
{
	bool guessing = link->guess && !link->was_ready;
	unsigned int limit_ms = guessing ? TOP_GUESS_MS : CLIENT_GREETING_MS;
	struct err *err = NULL;

	link->now_ms = now_ms;
	if (!link->client && !link->other &&
	    (!link->attempt || now_ms - link->since_ms >= TOP_RETRY_MS)) {
		top_link_connect(link);
	} else if (link->client && client_state(link->client) == CLIENT_GREETING &&
		   now_ms - link->since_ms >= limit_ms) {
		err_set(&err, ETIMEDOUT, "no monitor's greeting in %u s", limit_ms / 1000);
		link->other = guessing;
		top_link_down(link, err);
	}
}

void top_link_work(struct top_link *link, uint64_t now_ms)
{
	struct err *err = NULL;
	int ret;

	link->now_ms = now_ms;
	if (!link->client)
		return;
	ret = client_work(link->client, &err);
	if (!ret && client_state(link->client) == CLIENT_HUMAN)
		ret = err_set(&err, EPROTO,
			      "%s: a monitor for people listens there; top needs one for programs "
			      "(-qmp)",
			      address_name(link->address));
	if (ret) {
		link->other = ret == -EPROTO;
		top_link_down(link, err);
	} else if (client_state(link->client) == CLIENT_READY && link->machine.problem) {
		top_machine_set_problem(&link->machine, NULL);
	}
	if (link->client && client_state(link->client) == CLIENT_READY)
		link->was_ready = true;
}

/* What is worth a line: not what is seen anyway. */
static void top_link_event(void *opaque, const char *name, const json_t *event)
{
	static const char *const seen[] = {"MEMORY_DEVICE_SIZE_CHANGE", "JOB_STATUS_CHANGE",
					   "RTC_CHANGE"};
	struct top_link *link = opaque;
	char *line;

	for (size_t i = 0; i < ARRAY_SIZE(seen); i++)
		if (!strcmp(name, seen[i]))
			return;
	line = print_event_line(name, event);
	if (line)
		link->ops->say(link->opaque, line);
	free(line);
}

/* ---- a round ---- */

static void top_link_status_told(void *opaque, const json_t *value, const struct err *err)
{
	struct top_link *link = opaque;

	(void)err;
	top_machine_take_status(&link->machine, value);
}

static void top_link_summary_told(void *opaque, const json_t *value, const struct err *err)
{
	struct top_link *link = opaque;

	(void)err;
	top_machine_take_summary(&link->machine, value);
}

/* Does the monitor know the question? What fails for another reason is asked again. */
static void top_link_known(struct top_link *link, enum top_question question, const struct err *err)
{
	if (err && err_code(err) == ENOSYS)
		link->unknown[question] = true;
}

static void top_link_virtio_mem_told(void *opaque, const json_t *value, const struct err *err)
{
	struct top_link *link = opaque;

	top_link_known(link, TOP_VIRTIO_MEM, err);
	top_machine_take_virtio_mem(&link->machine, value);
}

static void top_link_stats_told(void *opaque, const json_t *value, const struct err *err)
{
	struct top_link *link = opaque;

	top_link_known(link, TOP_STATS, err);
	top_machine_take_stats(&link->machine, value, link->now_ms);
}

static void top_link_migrate_told(void *opaque, const json_t *value, const struct err *err)
{
	struct top_link *link = opaque;

	top_link_known(link, TOP_MIGRATE, err);
	top_machine_take_migration(&link->machine, value, link->now_ms);
}

static void top_about_free(struct top_about *about)
{
	if (about)
		free(about->id);
	free(about);
}

static struct top_about *top_about_new(struct top_link *link, const char *id)
{
	struct top_about *about = calloc(1, sizeof(*about));

	if (about)
		about->id = strdup(id);
	if (!about || !about->id) {
		top_about_free(about);
		return NULL;
	}
	about->link = link;
	return about;
}

static void top_link_blocks_told(void *opaque, const json_t *value, const struct err *err)
{
	struct top_about *about = opaque;

	top_link_known(about->link, TOP_BLOCKS, err);
	top_machine_take_blocks(&about->link->machine, about->id, value);
	top_about_free(about);
}

static void top_link_ask_blocks(struct top_link *link, const struct top_device *device)
{
	size_t cells = num_min(num_max(link->cells, 1), TOP_CELLS_MAX);
	struct top_about *about;

	if (link->unknown[TOP_BLOCKS] || !*device->id)
		return;
	about = top_about_new(link, device->id);
	if (about)
		client_send(
			link->client, "query-virtio-mem-blocks",
			json_pack("{s:s,s:I}", "device", device->id, "cells", (json_int_t)cells),
			top_link_blocks_told, about);
}

/* The rest is about the devices that there are. */
static void top_link_devices_told(void *opaque, const json_t *value, const struct err *err)
{
	struct top_link *link = opaque;

	if (err)
		return;
	top_machine_take_devices(&link->machine, value, link->now_ms);
	for (size_t i = 0; i < link->machine.nr_devices; i++)
		top_link_ask_blocks(link, link->machine.devices[i]);
	if (!link->unknown[TOP_VIRTIO_MEM])
		client_send(link->client, "query-virtio-mem", NULL, top_link_virtio_mem_told, link);
	if (!link->unknown[TOP_STATS])
		client_send(link->client, "query-stats", json_pack("{s:s}", "target", "virtio-mem"),
			    top_link_stats_told, link);
}

void top_link_ask(struct top_link *link, size_t cells)
{
	if (!link->client || client_state(link->client) != CLIENT_READY ||
	    client_pending(link->client))
		return;
	link->cells = cells;
	client_send(link->client, "query-status", NULL, top_link_status_told, link);
	if (!link->machine.base_known)
		client_send(link->client, "query-memory-size-summary", NULL, top_link_summary_told,
			    link);
	if (!link->unknown[TOP_MIGRATE])
		client_send(link->client, "query-migrate", NULL, top_link_migrate_told, link);
	client_send(link->client, "query-memory-devices", NULL, top_link_devices_told, link);
}

/* ---- resizing ---- */

static void top_link_resized(void *opaque, const json_t *value, const struct err *err)
{
	struct top_about *about = opaque;

	(void)value;
	if (err)
		about->link->ops->say(about->link->opaque, err_message(err));
	top_about_free(about);
}

void top_link_resize(struct top_link *link, const char *id, uint64_t bytes)
{
	struct top_about *about;
	char path[512];

	if (!link->client || client_state(link->client) != CLIENT_READY || !*id)
		return;
	if (snprintf(path, sizeof(path), "/machine/peripheral/%s", id) >= (int)sizeof(path))
		return;
	about = top_about_new(link, id);
	if (about)
		client_send(link->client, "qom-set",
			    json_pack("{s:s,s:s,s:I}", "path", path, "property", "requested-size",
				      "value", (json_int_t)bytes),
			    top_link_resized, about);
}
