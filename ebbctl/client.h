/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One connection to a monitor, from the client's side.
 *
 * The first bytes tell what listens: a JSON object with "QMP" is the monitor for programs, which is
 * then asked for its capabilities; a text that comes to the prompt "(qemu) " is the monitor for
 * people, and the connection is handed over as it is. Anything else is not a monitor.
 *
 * I1  A message is at most CLIENT_MESSAGE_BYTES, JSON of at most the depth that jansson takes. What
 *     breaks this, or is no object, ends the connection with a sentence.
 * I2  Each request is ended exactly once: by its reply, or with the sentence that the connection is
 *     over; or it is forgotten. Replies that nobody asked for are dropped.
 * I3  Sentences made of the other end's text are clean (text.h).
 *
 * Ownership: a client owns its socket. It must not be freed in its own callbacks.
 * Threads: one. Nothing waits but client_wait() and what calls it.
 */
#ifndef EBBCTL_CLIENT_H
#define EBBCTL_CLIENT_H

#include <jansson.h>
#include <stddef.h>

struct address;
struct client;
struct err;

#define CLIENT_MESSAGE_BYTES (16 * 1024 * 1024)
#define CLIENT_BANNER_BYTES  4096
/* For the connection and the greeting. */
#define CLIENT_GREETING_MS 10000

#define CLIENT_PROMPT "(qemu) "

enum client_state {
	CLIENT_GREETING, /* it has not said yet what it is */
	CLIENT_READY,    /* QMP */
	CLIENT_HUMAN,
	CLIENT_OVER,
};

struct client_ops {
	/* @event: the whole message. */
	void (*event)(void *opaque, const char *name, const json_t *event);
};

/* Exactly one of @value and @err is there; both the client's. */
typedef void (*client_reply_fn)(void *opaque, const json_t *value, const struct err *err);

/* @fd is taken over, and non-blocking; @name starts sentences. NULL when memory is out. */
struct client *client_new(int fd, const char *name);
/* NULL is allowed. Requests that are pending end first (I2). */
void client_free(struct client *client);
/* NULL: events are dropped. */
void client_set_ops(struct client *client, const struct client_ops *ops, void *opaque);

enum client_state client_state(const struct client *client);
const char *client_name(const struct client *client);
/* For poll(): what to wait for. */
int client_fd(const struct client *client);
short client_poll_events(const struct client *client);
/* Read and write what is possible. -errno and *err, once, when the connection is over. */
int client_work(struct client *client, struct err **err);

/*
 * Ask. @args (may be NULL) is taken over. @reply may be called before this returns, when the
 * connection is over.
 */
void client_send(struct client *client, const char *name, json_t *args, client_reply_fn reply,
		 void *opaque);
/* The same with a whole request, whose "id" is replaced. */
void client_send_request(struct client *client, json_t *request, client_reply_fn reply,
			 void *opaque);
/* Replies to requests with this @opaque are dropped from now on. */
void client_forget(struct client *client, const void *opaque);
/* How many requests have no reply yet. */
size_t client_pending(const struct client *client);

/* Wait until poll() says something, at most @timeout_ms (-1: no limit), and work. */
int client_wait(struct client *client, int timeout_ms, struct err **err);

/* Connect and wait for the greeting: ready or human. */
int client_open(const char *where, struct client **ret_client, struct err **err);
/* The same, but only QMP will do; @what for needs it in the sentence. */
int client_open_qmp(const char *where, const char *what, struct client **ret_client,
		    struct err **err);
/*
 * Ask and wait. *ret_value (may be NULL) is a new reference. The errno of *err tells the class:
 * ENOSYS CommandNotFound, ENODEV DeviceNotFound, ENXIO DeviceNotActive, EREMOTEIO the rest of them;
 * others are the connection's.
 */
int client_call(struct client *client, const char *name, json_t *args, json_t **ret_value,
		struct err **err);
int client_call_request(struct client *client, json_t *request, json_t **ret_value,
			struct err **err);

/* CLIENT_HUMAN: what was read and not forgotten, still the client's. */
const char *client_text(const struct client *client, size_t *ret_size);
/* CLIENT_HUMAN: forget what was read, and send a line. */
int client_text_send(struct client *client, const char *line, struct err **err);
/* CLIENT_HUMAN: what was read since, a new string without escape sequences. */
int client_text_get(const struct client *client, char **ret_text, size_t *ret_size,
		    struct err **err);

#endif
