/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A monitor over a made-up machine, and clients made of buffers.
 *
 * What the rig's commands do is told in rig.c; a handler's ctx is the struct rig.
 */
#ifndef TESTS_UNIT_QMP_RIG_H
#define TESTS_UNIT_QMP_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "qmp/command.h"
#include "qmp/qmp.h"
#include "qmp/stream.h"

#define RIG_PENDING_MAX  64
#define RIG_SESSIONS_MAX 16

struct client;

struct rig {
	uv_loop_t uv;
	struct qmp *qmp;
	struct command_call *pending[RIG_PENDING_MAX]; /* oldest first */
	unsigned int nr_pending;
	unsigned int runs;     /* of any command */
	unsigned int unwanted; /* pending calls that were told so */
	bool end_unwanted;     /* end them then */
	struct client *leaver; /* "leave" frees its session */
	/* What a test that failed left open. */
	struct qmp_session *sessions[RIG_SESSIONS_MAX];
};

struct client {
	struct rig *rig;
	struct qmp_session *session;
	struct hmp_session *human;
	char *out; /* what was written, ends with NUL */
	size_t count;
	size_t limit; /* bytes that are taken in all */
	unsigned int drops, resumes;
	bool free_on_drop;
	bool stalled; /* ready() says no */
	int fds[64];  /* that were sent along, oldest first */
	unsigned int nr_fds;
};

extern const struct qmp_module rig_module;

/* Setup and teardown of cmocka; *state is the rig. */
int rig_setup(void **state);
/* The same without a machine (qmp_config.bare). */
int rig_setup_bare(void **state);
int rig_teardown(void **state);

/* End the oldest pending call. */
void rig_end(struct rig *rig, json_t *value, struct err *err);

/* The session exists after this, with the greeting written; NULL if it was not taken. */
void client_open(struct client *client, struct rig *rig, bool pretty);
/* The same, capabilities are negotiated, and nothing has been written. */
void client_open_ready(struct client *client, struct rig *rig, bool oob);
void client_open_human(struct client *client, struct rig *rig);
void client_close(struct client *client);
void client_clear(struct client *client);
/* Send bytes, as many at a time as are taken. What is not taken is not sent: returns how many were. */
size_t client_send(struct client *client, const void *buf, size_t size);
/* Send a text, and give what was written since, until the next call. */
const char *client_ask(struct client *client, const char *text);

#define ASK(client, text, answer) assert_string_equal(client_ask(client, text), answer)

#endif
