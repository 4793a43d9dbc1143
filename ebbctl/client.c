/* SPDX-License-Identifier: BSD-3-Clause */
/* A connection to a monitor: see client.h for the contract. */
#include "ebbctl/client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "ebbctl/frame.h"
#include "ebbctl/text.h"

#define CLIENT_READ_BYTES 65536
/* Of somebody else's text in a sentence. */
#define CLIENT_QUOTE_BYTES 60

struct client_request {
	json_int_t id;
	client_reply_fn reply;
	void *opaque;
};

struct client {
	int fd;
	char *name;
	enum client_state state;
	const struct client_ops *ops;
	void *opaque;
	char *in;
	size_t in_size, in_room;
	struct frame frame;
	char *out;
	size_t out_size;
	struct client_request *requests; /* oldest first */
	size_t nr_requests;
	json_int_t next_id;
	struct err *refused; /* why the capabilities were not given */
};

struct client *client_new(int fd, const char *name)
{
	struct client *client = calloc(1, sizeof(*client));

	if (client)
		client->name = text_clean(name, strlen(name), text_locale_utf8(), 0);
	if (!client || !client->name) {
		free(client);
		close(fd);
		return NULL;
	}
	client->fd = fd;
	return client;
}

void client_set_ops(struct client *client, const struct client_ops *ops, void *opaque)
{
	client->ops = ops;
	client->opaque = opaque;
}

enum client_state client_state(const struct client *client)
{
	return client->state;
}

const char *client_name(const struct client *client)
{
	return client->name;
}

int client_fd(const struct client *client)
{
	return client->fd;
}

short client_poll_events(const struct client *client)
{
	return (short)(POLLIN | (client->out_size ? POLLOUT : 0));
}

size_t client_pending(const struct client *client)
{
	return client->nr_requests;
}

const char *client_text(const struct client *client, size_t *ret_size)
{
	*ret_size = client->in_size;
	return client->in;
}

/* A line to send. */
static int client_append(struct client *client, const char *text, size_t size)
{
	char *grown = realloc(client->out, client->out_size + size + 1);

	if (!grown)
		return -ENOMEM;
	memcpy(grown + client->out_size, text, size);
	grown[client->out_size + size] = '\n';
	client->out = grown;
	client->out_size += size + 1;
	return 0;
}

int client_text_send(struct client *client, const char *line, struct err **err)
{
	client->in_size = 0;
	if (client_append(client, line, strlen(line)))
		return err_set(err, ENOMEM, "out of memory");
	return 0;
}

int client_text_get(const struct client *client, char **ret_text, size_t *ret_size,
		    struct err **err)
{
	char *text = malloc(client->in_size + 1);

	if (!text)
		return err_set(err, ENOMEM, "out of memory");
	memcpy(text, client->in, client->in_size);
	*ret_size = text_strip_escapes(text, client->in_size);
	text[*ret_size] = '\0';
	*ret_text = text;
	return 0;
}

/* A sentence with some of the other end's words. */
static int client_odd(struct client *client, const char *what, const char *text, size_t size,
		      struct err **err)
{
	bool cut = size > CLIENT_QUOTE_BYTES;
	char *clean = text_clean(text, cut ? CLIENT_QUOTE_BYTES : size, text_locale_utf8(), 0);
	int ret = err_set(err, EPROTO, "%s: %s: '%s%s'", client->name, what, clean ? clean : "",
			  cut ? "..." : "");

	free(clean);
	return ret;
}

/* The request is ended here. */
static void client_answer(struct client *client, size_t index, const json_t *value,
			  const struct err *err)
{
	struct client_request request = client->requests[index];

	client->nr_requests--;
	memmove(client->requests + index, client->requests + index + 1,
		(client->nr_requests - index) * sizeof(request));
	if (request.reply)
		request.reply(request.opaque, value, err);
}

/* End all requests (I2). Those made meanwhile are ended as they are made. */
static void client_over(struct client *client, const struct err *err)
{
	client->state = CLIENT_OVER;
	while (client->nr_requests)
		client_answer(client, 0, NULL, err);
}

static int client_ended(const struct client *client, struct err **err)
{
	return err_set(err, ECONNRESET, "%s: the connection ended", client->name);
}

void client_free(struct client *client)
{
	struct err *err = NULL;

	if (!client)
		return;
	client_ended(client, &err);
	client_over(client, err);
	err_free(err);
	err_free(client->refused);
	close(client->fd);
	free(client->requests);
	free(client->in);
	free(client->out);
	free(client->name);
	free(client);
}

static int client_error_code(const char *class)
{
	static const struct {
		const char *name;
		int code;
	} classes[] = {{"CommandNotFound", ENOSYS},
		       {"DeviceNotFound", ENODEV},
		       {"DeviceNotActive", ENXIO}};

	for (size_t i = 0; class && i < ARRAY_SIZE(classes); i++)
		if (!strcmp(class, classes[i].name))
			return classes[i].code;
	return EREMOTEIO;
}

/* An error reply as a sentence. */
static void client_error(const json_t *error, struct err **err)
{
	const char *desc = json_string_value(json_object_get(error, "desc"));
	const char *class = json_string_value(json_object_get(error, "class"));
	const char *text = desc && *desc ? desc : "it failed, and no reason was given";
	char *clean = text_clean(text, strlen(text), text_locale_utf8(), 0);

	err_set(err, client_error_code(class), "%s", clean ? clean : "out of memory");
	free(clean);
}

static void client_reply(struct client *client, const json_t *message)
{
	const json_t *id = json_object_get(message, "id");
	const json_t *value = json_object_get(message, "return");
	struct err *err = NULL;
	size_t i;

	/* Without an id it can only be the oldest one's. */
	for (i = 0; i < client->nr_requests; i++)
		if (!id || json_integer_value(id) == client->requests[i].id)
			break;
	if (i == client->nr_requests)
		return;
	if (!value)
		client_error(json_object_get(message, "error"), &err);
	client_answer(client, i, value, err);
	err_free(err);
}

static void client_capable(void *opaque, const json_t *value, const struct err *err)
{
	struct client *client = opaque;

	(void)value;
	if (client->state != CLIENT_GREETING)
		return;
	if (err)
		err_set(&client->refused, EPROTO, "%s: the monitor takes no commands: %s",
			client->name, err_message(err));
	else
		client->state = CLIENT_READY;
}

static int client_message(struct client *client, const json_t *message, const char *text,
			  size_t size, struct err **err)
{
	const char *event = json_string_value(json_object_get(message, "event"));

	if (client->state == CLIENT_GREETING && !client->nr_requests) {
		if (!json_is_object(json_object_get(message, "QMP")))
			return client_odd(client, "what listens there is not a monitor; it says",
					  text, size, err);
		client_send(client, "qmp_capabilities", NULL, client_capable, client);
		return 0;
	}
	if (event) {
		if (client->ops && client->ops->event)
			client->ops->event(client->opaque, event, message);
		return 0;
	}
	if (json_object_get(message, "return") || json_object_get(message, "error")) {
		client_reply(client, message);
		if (client->refused) {
			*err = client->refused;
			client->refused = NULL;
			return -EPROTO;
		}
		return 0;
	}
	return client_odd(client, "the monitor sent what is neither answer nor event", text, size,
			  err);
}

/* The first bytes of something that does not speak JSON. */
static int client_banner(struct client *client, bool ended, struct err **err)
{
	size_t prompt = strlen(CLIENT_PROMPT);

	if (client->in_size >= prompt &&
	    memmem(client->in, client->in_size, CLIENT_PROMPT, prompt)) {
		client->state = CLIENT_HUMAN;
		return 0;
	}
	if (ended || client->in_size > CLIENT_BANNER_BYTES)
		return client_odd(client, "what listens there is not a monitor; it says",
				  client->in, client->in_size, err);
	return 0;
}

/* The object that the frame has found. */
static int client_object(struct client *client, struct err **err)
{
	const char *text = client->in + client->frame.start;
	size_t end = client->frame.at, size = end - client->frame.start;
	json_error_t where;
	json_t *message = json_loadb(text, size, 0, &where);
	int ret;

	if (message)
		ret = client_message(client, message, text, size, err);
	else
		ret = client_odd(client, "the monitor sent what is no JSON", text, size, err);
	json_decref(message);
	client->in_size -= end;
	memmove(client->in, client->in + end, client->in_size);
	client->frame = (struct frame){0};
	return ret;
}

/* Take the messages that have come. */
static int client_take(struct client *client, struct err **err)
{
	int ret = 0;

	while (!ret && client->state != CLIENT_HUMAN && client->in_size) {
		int found = frame_scan(&client->frame, client->in, client->in_size);

		if (found < 0 && client->state == CLIENT_GREETING && !client->nr_requests)
			return client_banner(client, false, err);
		if (found < 0)
			return client_odd(client, "the monitor sent what is no JSON",
					  client->in + client->frame.at - 1,
					  client->in_size - client->frame.at + 1, err);
		if (!found)
			break;
		ret = client_object(client, err);
	}
	if (!ret && client->in_size > CLIENT_MESSAGE_BYTES)
		ret = err_set(err, EPROTO,
			      "%s: the monitor sent a message of more than the %d MiB allowed",
			      client->name, CLIENT_MESSAGE_BYTES >> 20);
	return ret;
}

static int client_closed(struct client *client, int code, struct err **err)
{
	if (code && code != ECONNRESET && code != EPIPE)
		return err_set(err, code, "%s: %s", client->name,
			       code == ECONNREFUSED ? "nobody listens there" : strerror(code));
	if (client->state == CLIENT_GREETING && client->in_size &&
	    client->in[strspn(client->in, " \t\r\n")] != '{')
		return client_banner(client, true, err);
	if (client->state == CLIENT_GREETING)
		return err_set(err, ECONNRESET,
			       "%s: what listens there is not a monitor: it ended the connection "
			       "without a greeting",
			       client->name);
	return client_ended(client, err);
}

/* 1: something was read, 0: there is nothing. */
static int client_read(struct client *client, struct err **err)
{
	ssize_t got;

	if (client->in_room - client->in_size < CLIENT_READ_BYTES) {
		size_t room = 2 * client->in_size + CLIENT_READ_BYTES + 1;
		char *grown = realloc(client->in, room);

		if (!grown)
			return err_set(err, ENOMEM, "out of memory");
		client->in = grown;
		client->in_room = room;
	}
	got = recv(client->fd, client->in + client->in_size, CLIENT_READ_BYTES - 1, MSG_DONTWAIT);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got <= 0)
		return client_closed(client, got ? errno : 0, err);
	client->in_size += (size_t)got;
	client->in[client->in_size] = '\0';
	return 1;
}

static int client_write(struct client *client, struct err **err)
{
	ssize_t put;

	while (client->out_size) {
		put = send(client->fd, client->out, client->out_size, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (put < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOTCONN))
			return 0;
		/* What it still said before it closed is read first. */
		if (put < 0 && (errno == EPIPE || errno == ECONNRESET)) {
			client->out_size = 0;
			return 0;
		}
		if (put < 0)
			return client_closed(client, errno, err);
		client->out_size -= (size_t)put;
		memmove(client->out, client->out + put, client->out_size);
	}
	return 0;
}

int client_work(struct client *client, struct err **err)
{
	struct err *why = NULL;
	int ret;

	if (client->state == CLIENT_OVER)
		return client_ended(client, err);
	ret = client_write(client, &why);
	if (!ret)
		ret = client_read(client, &why);
	if (ret > 0)
		ret = client_take(client, &why);
	if (!ret)
		ret = client_write(client, &why);
	if (ret >= 0)
		return 0;
	client_over(client, why);
	if (err)
		*err = why;
	else
		err_free(why);
	return ret;
}

/* Remember who waits. */
static int client_note(struct client *client, client_reply_fn reply, void *opaque)
{
	struct client_request *grown =
		reallocarray(client->requests, client->nr_requests + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	client->requests = grown;
	grown[client->nr_requests++] = (struct client_request){
		.id = client->next_id++,
		.reply = reply,
		.opaque = opaque,
	};
	return 0;
}

static int client_queue(struct client *client, const json_t *request)
{
	char *text = json_dumps(request, JSON_COMPACT);
	int ret = text ? client_append(client, text, strlen(text)) : -ENOMEM;

	free(text);
	return ret;
}

void client_send_request(struct client *client, json_t *request, client_reply_fn reply,
			 void *opaque)
{
	struct err *err = NULL;
	int ret = 0;

	if (client->state == CLIENT_OVER || client->state == CLIENT_HUMAN)
		ret = client_ended(client, &err);
	else if (!request || json_object_set_new(request, "id", json_integer(client->next_id)) ||
		 client_queue(client, request) || client_note(client, reply, opaque))
		ret = err_set(&err, ENOMEM, "out of memory");
	json_decref(request);
	if (ret && reply)
		reply(opaque, NULL, err);
	err_free(err);
}

void client_send(struct client *client, const char *name, json_t *args, client_reply_fn reply,
		 void *opaque)
{
	json_t *request = json_pack("{s:s}", "execute", name);

	if (args && (!request || json_object_set(request, "arguments", args))) {
		json_decref(request);
		request = NULL;
	}
	json_decref(args);
	client_send_request(client, request, reply, opaque);
}

void client_forget(struct client *client, const void *opaque)
{
	for (size_t i = 0; i < client->nr_requests; i++)
		if (client->requests[i].opaque == opaque)
			client->requests[i].reply = NULL;
}

int client_wait(struct client *client, int timeout_ms, struct err **err)
{
	struct pollfd pfd = {.fd = client->fd, .events = client_poll_events(client)};

	if (client->state != CLIENT_OVER && poll(&pfd, 1, timeout_ms) <= 0)
		return 0;
	return client_work(client, err);
}
