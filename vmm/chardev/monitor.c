/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Monitors on a chardev, for people and for programs: see monitor.h for the contract.
 *
 * On a listening socket every client has a port and a client struct of its own; on anything else
 * there is one of each, and the session begins and ends as somebody comes and goes.
 */
#include "vmm/chardev/monitor.h"

#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "qmp/monitor/hmp.h"
#include "qmp/qmp.h"
#include "vmm/chardev/chardev.h"

#define CHR_MONITOR_OUT_BYTES (4 * 1024 * 1024)
/* Output that may wait while a program's next command is begun. */
#define CHR_MONITOR_AHEAD_BYTES (256 * 1024)

struct chr_monitor;
struct chr_monitor_client;

/* What the two kinds of sessions have in common. */
struct chr_monitor_kind {
	void *(*session_new)(struct chr_monitor_client *client);
	void (*session_free)(void *session);
	size_t (*room)(const void *session);
	void (*input)(void *session, const char *buf, size_t size);
	bool (*busy)(const void *session);
	void (*writable)(void *session); /* NULL: nothing waits for that */
	void (*refresh)(void *session);  /* NULL: nothing is shown anew */
};

struct chr_monitor_client {
	struct chr_monitor *monitor;
	struct chr_monitor_client *next;
	struct chr_port *port;
	void *session; /* of the monitor's kind; NULL: nobody is there */
	bool served;
};

struct chr_monitor {
	struct chardev *chr;
	const struct chr_monitor_kind *kind;
	struct hmp *hmp; /* for people */
	struct qmp *qmp; /* for programs */
	bool pretty;
	struct chr_monitor_client *clients;
};

/* @client is gone after this if it was served. */
static void chr_monitor_client_end(struct chr_monitor_client *client)
{
	struct chr_monitor_client **at = &client->monitor->clients;

	if (client->session)
		client->monitor->kind->session_free(client->session);
	client->session = NULL;
	if (!client->served)
		return;
	while (*at != client)
		at = &(*at)->next;
	*at = client->next;
	chr_port_close(client->port);
	free(client);
}

static size_t chr_monitor_write(void *opaque, const char *buf, size_t size)
{
	struct chr_monitor_client *client = opaque;

	return chr_port_write(client->port, buf, size);
}

static void chr_monitor_drop(void *opaque)
{
	chr_monitor_client_end(opaque);
}

static void chr_monitor_resume(void *opaque)
{
	struct chr_monitor_client *client = opaque;

	chr_port_resume(client->port);
}

static int chr_monitor_take_fd(void *opaque)
{
	struct chr_monitor_client *client = opaque;

	return chr_port_take_fd(client->port);
}

static bool chr_monitor_ready(void *opaque)
{
	struct chr_monitor_client *client = opaque;

	return chr_port_drained(client->port, CHR_MONITOR_AHEAD_BYTES);
}

static const struct hmp_session_ops chr_monitor_human_ops = {
	.write = chr_monitor_write,
	.drop = chr_monitor_drop,
	.resume = chr_monitor_resume,
	.take_fd = chr_monitor_take_fd,
};

static const struct qmp_session_ops chr_monitor_control_ops = {
	.write = chr_monitor_write,
	.drop = chr_monitor_drop,
	.resume = chr_monitor_resume,
	.take_fd = chr_monitor_take_fd,
	.ready = chr_monitor_ready,
};

static void *chr_monitor_human_new(struct chr_monitor_client *client)
{
	return hmp_session_new(client->monitor->hmp, &chr_monitor_human_ops, client);
}

static void chr_monitor_human_free(void *session)
{
	hmp_session_free(session);
}

static size_t chr_monitor_human_room(const void *session)
{
	return hmp_session_room(session);
}

static void chr_monitor_human_input(void *session, const char *buf, size_t size)
{
	hmp_session_input(session, buf, size);
}

static bool chr_monitor_human_busy(const void *session)
{
	return hmp_session_busy(session);
}

static void chr_monitor_human_refresh(void *session)
{
	hmp_session_refresh(session);
}

static const struct chr_monitor_kind chr_monitor_human = {
	.session_new = chr_monitor_human_new,
	.session_free = chr_monitor_human_free,
	.room = chr_monitor_human_room,
	.input = chr_monitor_human_input,
	.busy = chr_monitor_human_busy,
	.refresh = chr_monitor_human_refresh,
};

static void *chr_monitor_control_new(struct chr_monitor_client *client)
{
	const struct chr_monitor *monitor = client->monitor;

	return qmp_session_new(monitor->qmp, &chr_monitor_control_ops, client, monitor->pretty);
}

static void chr_monitor_control_free(void *session)
{
	qmp_session_free(session);
}

static size_t chr_monitor_control_room(const void *session)
{
	return qmp_session_room(session);
}

static void chr_monitor_control_input(void *session, const char *buf, size_t size)
{
	qmp_session_input(session, buf, size);
}

static bool chr_monitor_control_busy(const void *session)
{
	return qmp_session_busy(session);
}

static void chr_monitor_control_writable(void *session)
{
	qmp_session_writable(session);
}

static const struct chr_monitor_kind chr_monitor_control = {
	.session_new = chr_monitor_control_new,
	.session_free = chr_monitor_control_free,
	.room = chr_monitor_control_room,
	.input = chr_monitor_control_input,
	.busy = chr_monitor_control_busy,
	.writable = chr_monitor_control_writable,
};

static size_t chr_monitor_can_receive(void *opaque)
{
	struct chr_monitor_client *client = opaque;

	return client->session ? client->monitor->kind->room(client->session) : 0;
}

static bool chr_monitor_busy(void *opaque)
{
	struct chr_monitor_client *client = opaque;

	return client->session && client->monitor->kind->busy(client->session);
}

static void chr_monitor_receive(void *opaque, const uint8_t *buf, size_t size)
{
	struct chr_monitor_client *client = opaque;

	client->monitor->kind->input(client->session, (const char *)buf, size);
}

static void chr_monitor_open(struct chr_monitor_client *client)
{
	if (client->session)
		return;
	client->session = client->monitor->kind->session_new(client);
	if (client->session)
		chr_port_resume(client->port);
	else
		chr_monitor_client_end(client);
}

static void chr_monitor_event(void *opaque, enum chr_event event)
{
	struct chr_monitor_client *client = opaque;

	switch (event) {
	case CHR_OPENED:
		chr_monitor_open(client);
		break;
	case CHR_CLOSED:
		chr_monitor_client_end(client);
		break;
	case CHR_FOCUS_IN:
		if (client->session && client->monitor->kind->refresh)
			client->monitor->kind->refresh(client->session);
		break;
	case CHR_BREAK:
	case CHR_FOCUS_OUT:
		break;
	}
}

/*
 * A program's session goes on with what it was asked. A dropped session on something that cannot be
 * disconnected begins anew once it is read again.
 */
static void chr_monitor_writable(void *opaque)
{
	struct chr_monitor_client *client = opaque;

	if (client->session && client->monitor->kind->writable)
		client->monitor->kind->writable(client->session);
	else if (!client->session && !client->served)
		chr_monitor_open(client);
}

static const struct chr_ops chr_monitor_ops = {
	.can_receive = chr_monitor_can_receive,
	.receive = chr_monitor_receive,
	.busy = chr_monitor_busy,
	.event = chr_monitor_event,
	.writable = chr_monitor_writable,
	.out_limit_bytes = CHR_MONITOR_OUT_BYTES,
	.hold_unfocused = true,
};

static struct chr_monitor_client *chr_monitor_client_add(struct chr_monitor *monitor,
							 struct chr_port *port)
{
	struct chr_monitor_client *client = calloc(1, sizeof(*client));

	if (!client)
		return NULL;
	client->monitor = monitor;
	client->port = port;
	client->served = port != NULL;
	client->next = monitor->clients;
	monitor->clients = client;
	return client;
}

static void *chr_monitor_client_new(void *opaque, struct chr_port *port)
{
	return chr_monitor_client_add(opaque, port);
}

static const struct chr_server_ops chr_monitor_server_ops = {
	.client = &chr_monitor_ops,
	.client_new = chr_monitor_client_new,
};

/* Frees @monitor on failure. */
static struct chr_monitor *chr_monitor_open_on(struct chr_monitor *monitor, struct err **err)
{
	struct chr_monitor_client *client;
	int ret;

	if (chardev_listens(monitor->chr)) {
		ret = chardev_serve(monitor->chr, &chr_monitor_server_ops, monitor, err);
	} else {
		client = chr_monitor_client_add(monitor, NULL);
		ret = client ? chardev_attach(monitor->chr, &chr_monitor_ops, client, &client->port,
					      err)
			     : err_set(err, ENOMEM, "out of memory");
	}
	if (ret) {
		free(monitor->clients);
		free(monitor);
		return NULL;
	}
	return monitor;
}

struct chr_monitor *chr_monitor_new(struct chardev *chr, struct hmp *hmp, struct err **err)
{
	struct chr_monitor *monitor = calloc(1, sizeof(*monitor));

	if (!monitor) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	monitor->chr = chr;
	monitor->kind = &chr_monitor_human;
	monitor->hmp = hmp;
	return chr_monitor_open_on(monitor, err);
}

struct chr_monitor *chr_monitor_new_control(struct chardev *chr, struct qmp *qmp, bool pretty,
					    struct err **err)
{
	struct chr_monitor *monitor = calloc(1, sizeof(*monitor));

	if (!monitor) {
		err_set(err, ENOMEM, "out of memory");
		return NULL;
	}
	monitor->chr = chr;
	monitor->kind = &chr_monitor_control;
	monitor->qmp = qmp;
	monitor->pretty = pretty;
	return chr_monitor_open_on(monitor, err);
}

void chr_monitor_free(struct chr_monitor *monitor)
{
	struct chr_monitor_client *client;

	if (!monitor)
		return;
	if (chardev_listens(monitor->chr))
		chardev_unserve(monitor->chr);
	while ((client = monitor->clients)) {
		monitor->clients = client->next;
		if (client->session)
			monitor->kind->session_free(client->session);
		chr_port_close(client->port);
		free(client);
	}
	free(monitor);
}
