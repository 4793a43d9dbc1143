/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The monitor for programs: the QEMU Machine Protocol, as its specification describes it, on byte
 * streams.
 *
 * Nothing here knows a virtual machine or a socket. A `struct qmp` is the modules' commands and
 * events with what answers for itself (qmp_capabilities, query-commands, query-qmp-schema,
 * query-version); a session is one client of it.
 *
 *   server  {"QMP": {"version": {...}, "capabilities": ["oob"]}}
 *   client  {"execute": NAME, "arguments": {...}, "id": ANY}      or "exec-oob"
 *   server  {"return": VALUE, "id": ANY}    {"error": {"class": C, "desc": TEXT}, "id": ANY}
 *   server  {"event": NAME, "data": {...}, "timestamp": {"seconds": S, "microseconds": U}}
 *
 * Every message of the server is one line that ends in CR LF (several lines with pretty).
 *
 * I1  Before qmp_capabilities only that command is taken, and no event is sent.
 * I2  In-band commands of a session are answered in their order, one runs at a time; while one is
 *     pending QMP_QUEUE_MAX more are kept, then the session takes no input (room() is 0). With oob
 *     enabled exec-oob commands run at once; they pass what waits.
 * I3  Input is read as a stream of JSON values, at most QMP_INPUT_BYTES each, QMP_DEPTH_MAX deep.
 *     What is no JSON is answered with an error, and reading goes on at the next value (a byte 0xff
 *     or a newline resynchronises); no input does anything but run commands and be answered.
 * I4  A session whose client does not take its output is dropped (its drop op, once).
 * I5  Events go to all sessions past I1, in their order, each at its rate (schema.h); the timestamp
 *     is that of when it happened. What is kept back for its rate is one per key.
 * I6  A session that asks much at once (many commands, or few with long answers) is served a part in
 *     each round of the loop, and takes no input meanwhile.
 *
 * Error classes follow the errno of *err: ENODEV DeviceNotFound, ENXIO DeviceNotActive, ENOSYS
 * CommandNotFound, all else GenericError.
 *
 * Threads: all calls on one thread, that of @uv.
 */
#ifndef QMP_QMP_H
#define QMP_QMP_H

#include <jansson.h>
#include <stddef.h>
#include <uv.h>

#include "qmp/schema.h"

struct err;
struct hmp;
struct qmp;
struct qmp_session;

#define QMP_QUEUE_MAX   8
#define QMP_INPUT_BYTES (16 * 1024 * 1024)
#define QMP_DEPTH_MAX   1024

struct qmp_config {
	const struct qmp_module *const *modules; /* ends with NULL */
	uv_loop_t *uv;                           /* for events that are kept back */
	void *ctx;                               /* command_ctx() */
	/* of the QEMU whose commands are spoken: greeting and query-version */
	int major, minor, micro;
	const char *package;         /* what we are: "ebb 0.1.0" */
	const char *banner, *prompt; /* the human monitor's (hmp.h) */
	/* There is no machine: rows without COMMAND_BARE answer with this sentence. NULL: there is. */
	const char *bare;
	/*
	 * Why a command that is known elsewhere is not there, to stand behind "has not been found: ";
	 * NULL: that is all to be said. May be NULL.
	 */
	const char *(*missing)(const char *name);
};

/* The sentence names the row of a table that is wrong. */
struct qmp *qmp_new(const struct qmp_config *config, struct err **err);
/* Sessions are freed before, no call is pending. NULL is allowed. */
void qmp_free(struct qmp *qmp);

/* The human monitor of the same table; the qmp's own. */
struct hmp *qmp_human(struct qmp *qmp);
const struct schema *qmp_schema(const struct qmp *qmp);

/* Send an event; @data (may be NULL) is taken over. Unknown names are a programmer's error. */
void qmp_emit(struct qmp *qmp, const char *name, json_t *data);
/*
 * The same without waiting for its time, which begins anew; what was kept is out of date and dropped.
 * For what a person waits for: nobody else may be able to cause it again and again.
 */
void qmp_emit_now(struct qmp *qmp, const char *name, json_t *data);

struct qmp_session_ops {
	/* Returns how many bytes were taken; fewer than @size ends the session (I4). */
	size_t (*write)(void *opaque, const char *buf, size_t size);
	/* The client is to be disconnected. The session may be freed here. */
	void (*drop)(void *opaque);
	/* qmp_session_room() is no longer 0. */
	void (*resume)(void *opaque);
	/* A descriptor that the client sent along, the caller's from now on; -1: none. May be NULL. */
	int (*take_fd)(void *opaque);
	/*
	 * Has the client taken what it was sent, but for a little? If not, no further command is begun
	 * until qmp_session_writable(): who asks much at once is answered as fast as it reads. NULL:
	 * always.
	 */
	bool (*ready)(void *opaque);
};

/* Sends the greeting. NULL when memory is out or the client does not take it. */
struct qmp_session *qmp_session_new(struct qmp *qmp, const struct qmp_session_ops *ops,
				    void *opaque, bool pretty);
/* A pending call outlives the session. May be called from its own handlers and ops. */
void qmp_session_free(struct qmp_session *session);
size_t qmp_session_room(const struct qmp_session *session);
/* At most room() bytes. */
void qmp_session_input(struct qmp_session *session, const char *buf, size_t size);
/* ready() is true again. */
void qmp_session_writable(struct qmp_session *session);
/* Is there a command that has not ended, or input that waits for one? */
bool qmp_session_busy(const struct qmp_session *session);

#endif
