/* SPDX-License-Identifier: BSD-3-Clause */
/* Calls of a client that wait: see client.h for the contract. */
#include <errno.h>
#include <stdbool.h>
#include <time.h>

#include "base/err.h"
#include "ebbctl/address.h"
#include "ebbctl/client.h"

static int64_t client_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int client_greet(struct client *client, struct err **err)
{
	int64_t end = client_now_ms() + CLIENT_GREETING_MS, left;
	int ret = 0;

	while (!ret && client_state(client) == CLIENT_GREETING) {
		left = end - client_now_ms();
		if (left > 0)
			ret = client_wait(client, (int)left, err);
		else
			ret = err_set(
				err, ETIMEDOUT,
				"%s: no monitor's greeting in %d s: it serves another client, "
				"or is not a monitor",
				client_name(client), CLIENT_GREETING_MS / 1000);
	}
	return ret;
}

int client_open(const char *where, struct client **ret_client, struct err **err)
{
	struct address *address;
	struct client *client;
	int fd, ret;

	ret = address_new(where, &address, err);
	if (ret)
		return ret;
	fd = address_connect(address, CLIENT_GREETING_MS, 0, err);
	address_free(address);
	if (fd < 0)
		return fd;
	client = client_new(fd, where);
	if (!client)
		return err_set(err, ENOMEM, "out of memory");
	ret = client_greet(client, err);
	if (ret) {
		client_free(client);
		return ret;
	}
	*ret_client = client;
	return 0;
}

int client_open_qmp(const char *where, const char *what, struct client **ret_client,
		    struct err **err)
{
	int ret = client_open(where, ret_client, err);

	if (ret || client_state(*ret_client) == CLIENT_READY)
		return ret;
	client_free(*ret_client);
	*ret_client = NULL;
	return err_set(err, EPROTO,
		       "%s: a monitor for people listens there; %s needs one for programs (-qmp)",
		       where, what);
}

struct client_answered {
	bool done;
	json_t *value;
	int code;
	struct err **err;
};

static void client_call_reply(void *opaque, const json_t *value, const struct err *err)
{
	struct client_answered *answered = opaque;

	answered->done = true;
	if (value)
		answered->value = json_incref((json_t *)value);
	else
		answered->code = err_set(answered->err, err_code(err), "%s", err_message(err));
}

static int client_call_wait(struct client *client, struct client_answered *answered,
			    json_t **ret_value)
{
	/* When the connection is over, the request is ended with the sentence. */
	while (!answered->done)
		client_wait(client, -1, NULL);
	if (ret_value && answered->value)
		*ret_value = answered->value;
	else
		json_decref(answered->value);
	return answered->code;
}

int client_call(struct client *client, const char *name, json_t *args, json_t **ret_value,
		struct err **err)
{
	struct client_answered answered = {.err = err};

	client_send(client, name, args, client_call_reply, &answered);
	return client_call_wait(client, &answered, ret_value);
}

int client_call_request(struct client *client, json_t *request, json_t **ret_value,
			struct err **err)
{
	struct client_answered answered = {.err = err};

	client_send_request(client, request, client_call_reply, &answered);
	return client_call_wait(client, &answered, ret_value);
}
