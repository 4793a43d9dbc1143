/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Clients of the monitor for programs: see qmp.h.
 *
 * Input goes held bytes -> stream -> queue -> command, and qmp_session_pump() is the one place
 * that moves it on; it does not enter itself. A session is freed at once, or, from inside one of
 * its own functions (`depth`), when that returns.
 *
 * I7  A descriptor belongs to the bytes that it came with. A command may take one that came no
 *     later than its own last byte; what it leaves is closed when a command ends that is behind
 *     those bytes.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "qmp/qmp_internal.h"
#include "qmp/stream.h"

/* Bytes taken at once. */
#define SESSION_HELD_BYTES 16384
#define SESSION_FDS        16
/* What a session may do in one turn: messages read and commands run, and bytes of answers. */
#define SESSION_TURN_STEPS 64
#define SESSION_TURN_BYTES 65536

/* A message that waits: what was understood of it. */
struct session_request {
	const struct schema_command *command;
	json_t *args; /* NULL: none */
	json_t *id;   /* NULL: none */
	bool oob;
	uint64_t end;
	struct err *err; /* it is to be answered with this */
};

struct session_fd {
	int fd;
	uint64_t start, end; /* the bytes that it came with */
};

struct qmp_session {
	struct qmp *qmp;
	struct qmp_session *next;
	const struct qmp_session_ops *ops;
	void *opaque;
	struct qmp_stream *stream;
	struct command_call *call; /* in-band, has not ended */
	struct command_call *oob;  /* out-of-band, its handler runs */
	struct session_request queue[QMP_QUEUE_MAX];
	unsigned int queue_count;
	char held[SESSION_HELD_BYTES];
	size_t held_size, held_used;
	uint64_t received, parsed; /* bytes */
	struct session_fd fds[SESSION_FDS];
	unsigned int nr_fds;
	unsigned int depth;
	unsigned int turn_steps; /* of this turn */
	size_t turn_bytes;
	bool pretty, negotiated, oob_enabled;
	bool ready;   /* qmp_session_new() is through */
	bool pumping; /* qmp_session_pump() runs */
	bool more;    /* its turn was over before its work */
	bool dead;    /* the client did not take its output */
	bool freed;   /* by its owner, while depth > 0 */
};

static bool session_is_over(const struct qmp_session *session)
{
	return session->dead || session->freed;
}

static void session_request_done(struct session_request *request)
{
	json_decref(request->args);
	json_decref(request->id);
	err_free(request->err);
}

static void session_destroy(struct qmp_session *session)
{
	struct qmp_session **at = &session->qmp->sessions;

	while (*at && *at != session)
		at = &(*at)->next;
	if (*at)
		*at = session->next;
	if (session->call)
		command_call_abandon(session->call);
	for (unsigned int i = 0; i < session->queue_count; i++)
		session_request_done(&session->queue[i]);
	for (unsigned int i = 0; i < session->nr_fds; i++)
		close(session->fds[i].fd);
	qmp_stream_free(session->stream);
	free(session);
}

static void session_enter(struct qmp_session *session)
{
	session->depth++;
}

/* The session may be gone after this. */
static void session_leave(struct qmp_session *session)
{
	if (!--session->depth && session->freed)
		session_destroy(session);
}

static void session_drop(struct qmp_session *session)
{
	if (session_is_over(session))
		return;
	session->dead = true;
	if (session->ready)
		session->ops->drop(session->opaque);
}

/* The text with CR LF for each LF, and at its end. NULL when memory is out. */
static char *session_lines(const char *text, size_t *ret_size)
{
	size_t size = 2;
	char *lines, *to;

	for (const char *p = text; *p; p++)
		size += 1 + (*p == '\n');
	lines = to = malloc(size);
	if (!lines)
		return NULL;
	for (; *text; text++) {
		if (*text == '\n')
			*to++ = '\r';
		*to++ = *text;
	}
	memcpy(to, "\r\n", 2);
	*ret_size = size;
	return lines;
}

/* @message may be NULL: memory is out. What cannot be said ends the session. */
static void session_send(struct qmp_session *session, const json_t *message)
{
	size_t flags = JSON_ENSURE_ASCII | (session->pretty ? JSON_INDENT(4) : 0), size = 0;
	char *text, *lines;

	if (session_is_over(session))
		return;
	text = message ? json_dumps(message, flags) : NULL;
	lines = text ? session_lines(text, &size) : NULL;
	session->turn_bytes += size;
	if (!lines || session->ops->write(session->opaque, lines, size) != size)
		session_drop(session);
	free(lines);
	free(text);
}

static const char *session_error_class(const struct err *err)
{
	switch (err_code(err)) {
	case ENODEV:
		return "DeviceNotFound";
	case ENXIO:
		return "DeviceNotActive";
	case ENOSYS:
		return "CommandNotFound";
	default:
		return "GenericError";
	}
}

/* Puts the id behind it, sends and ends @message. */
static void session_answer(struct qmp_session *session, json_t *message, json_t *id)
{
	if (message && id && json_object_set(message, "id", id)) {
		json_decref(message);
		message = NULL;
	}
	session_send(session, message);
	json_decref(message);
}

/* A sentence may quote what is no UTF-8, or half a character. */
static json_t *session_sentence(const char *text)
{
	json_t *sentence = json_string(text);
	char *plain;

	if (sentence)
		return sentence;
	plain = strdup(text);
	for (char *p = plain; p && *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	sentence = plain ? json_string(plain) : NULL;
	free(plain);
	return sentence;
}

static void session_answer_error(struct qmp_session *session, const struct err *err, json_t *id)
{
	session_answer(session,
		       json_pack("{s:{s:s, s:o}}", "error", "class", session_error_class(err),
				 "desc", session_sentence(err_message(err))),
		       id);
}

static void session_close_fds(struct qmp_session *session, uint64_t end)
{
	while (session->nr_fds && session->fds[0].end <= end) {
		close(session->fds[0].fd);
		session->nr_fds--;
		memmove(session->fds, session->fds + 1, session->nr_fds * sizeof(*session->fds));
	}
}

int qmp_session_take_fd(struct qmp_session *session, const struct command_call *call)
{
	int fd;

	if (!session->nr_fds || session->fds[0].start >= call->end)
		return -1;
	fd = session->fds[0].fd;
	session->nr_fds--;
	memmove(session->fds, session->fds + 1, session->nr_fds * sizeof(*session->fds));
	return fd;
}

/* Answer a call that has ended, and free it. */
static void session_conclude(struct qmp_session *session, struct command_call *call)
{
	if (call->err)
		session_answer_error(session, call->err, call->id);
	else if (!(call->def->flags & COMMAND_NO_REPLY))
		session_answer(session, json_pack("{s:O}", "return", call->value), call->id);
	session_close_fds(session, call->end);
	command_call_free(call);
}

void qmp_session_negotiate(struct qmp_session *session, bool oob)
{
	session->negotiated = true;
	session->oob_enabled = oob;
}

/* Is the command to be had now? */
static int session_check_allowed(const struct qmp_session *session,
				 const struct schema_command *command, const char *name, bool oob,
				 struct err **err)
{
	bool is_capabilities = !strcmp(name, "qmp_capabilities");
	const char *reason;

	if (!session->negotiated && !is_capabilities)
		return err_set(err, ENOSYS,
			       "Expecting capabilities negotiation with 'qmp_capabilities'");
	if (session->negotiated && is_capabilities)
		return err_set(err, ENOSYS,
			       "Capabilities negotiation is already complete, command ignored");
	if (!command) {
		reason = session->qmp->missing ? session->qmp->missing(name) : NULL;
		return err_set(err, ENOSYS, "The command %.200s has not been found%s%s", name,
			       reason ? ": " : "", reason ? reason : "");
	}
	if (oob && !(command->def->flags & COMMAND_OOB))
		return err_set(err, EINVAL, "The command %s does not support OOB", name);
	return 0;
}

/*
 * Run a request and end it. An in-band call may stay pending (session->call); an out-of-band one
 * never does.
 */
static void session_run(struct qmp_session *session, struct session_request *request)
{
	const struct schema_command *row = request->command;
	struct command_call *call = NULL, **place = request->oob ? &session->oob : &session->call;
	bool ended;

	if (!request->err)
		session_check_allowed(session, row, row->def->name, request->oob, &request->err);
	if (!request->args)
		request->args = json_object();
	if (!request->err && !request->args)
		err_set(&request->err, ENOMEM, "out of memory");
	if (!request->err)
		schema_check_data(session->qmp->schema, NULL, &row->args, request->args,
				  &request->err);
	if (!request->err) {
		call = command_call_new(session->qmp, row->def, request->id);
		if (!call)
			err_set(&request->err, ENOMEM, "out of memory");
	}
	if (!call) {
		session_answer_error(session, request->err, request->id);
		session_close_fds(session, request->end);
		session_request_done(request);
		return;
	}
	call->session = session;
	call->end = request->end;
	call->oob = request->oob;
	*place = call;
	ended = command_call_run(call, row->def->run, request->args);
	assert(ended || !call->oob);
	session_request_done(request);
	if (ended) {
		*place = NULL;
		session_conclude(session, call);
	}
}

static int session_request_command(struct qmp_session *session, struct session_request *request,
				   const char *key, const json_t *name, struct err **err)
{
	const char *text = json_string_value(name);

	if (!text)
		return err_set(err, EINVAL, "QMP input member '%s' must be a string", key);
	request->oob = !strcmp(key, "exec-oob");
	request->command = schema_command_find(session->qmp->schema, text);
	/* What a queued qmp_capabilities may still change is looked at when its turn has come. */
	if (request->command)
		return 0;
	return session_check_allowed(session, NULL, text, request->oob, err);
}

/* Take a message apart. It has been read when this fails: the id is known. */
static int session_understand(struct qmp_session *session, const json_t *message,
			      struct session_request *request, struct err **err)
{
	const char *key, *command_key = NULL;
	json_t *value, *name = NULL;

	if (!json_is_object(message))
		return err_set(err, EINVAL, "QMP input must be a JSON object");
	request->id = json_incref(json_object_get(message, "id"));
	json_object_foreach ((json_t *)message, key, value) {
		if (!strcmp(key, "execute") || (!strcmp(key, "exec-oob") && session->oob_enabled)) {
			if (command_key)
				return err_set(err, EINVAL,
					       "QMP input member '%s' clashes with '%s'", key,
					       command_key);
			command_key = key;
			name = value;
		} else if (!strcmp(key, "arguments")) {
			if (!json_is_object(value))
				return err_set(err, EINVAL,
					       "QMP input member 'arguments' must be an object");
			request->args = json_incref(value);
		} else if (strcmp(key, "id")) {
			return err_set(err, EINVAL, "QMP input member '%.200s' is unexpected", key);
		}
	}
	if (!command_key)
		return err_set(err, EINVAL, "QMP input lacks member 'execute'");
	return session_request_command(session, request, command_key, name, err);
}

/* Read one message from what is held: run it when it is out-of-band, else put it to the queue. */
static void session_read(struct qmp_session *session)
{
	struct session_request request = {0};
	json_t *message = NULL;
	size_t used;
	int ret;

	ret = qmp_stream_next(session->stream, session->held + session->held_used,
			      session->held_size - session->held_used, &used, &message,
			      &request.err);
	session->held_used += used;
	session->parsed += used;
	request.end = session->parsed;
	if (!ret)
		return;
	if (ret > 0)
		session_understand(session, message, &request, &request.err);
	json_decref(message);
	if (request.oob)
		session_run(session, &request);
	else
		session->queue[session->queue_count++] = request;
}

/* Is the turn over? Then there will be another one. */
static bool session_yields(struct qmp_session *session)
{
	if (session->turn_steps++ < SESSION_TURN_STEPS && session->turn_bytes < SESSION_TURN_BYTES)
		return false;
	session->more = true;
	qmp_turns_wake(session->qmp->turns);
	return true;
}

static bool session_is_ready(const struct qmp_session *session)
{
	return !session->ops->ready || session->ops->ready(session->opaque);
}

/* Is there something to be moved on, if the client takes what it gives? */
static bool session_has_work(const struct qmp_session *session)
{
	if (!session->call && session->queue_count)
		return true;
	return session->held_used < session->held_size && session->queue_count < QMP_QUEUE_MAX;
}

/* A turn: move on what can be moved on. */
static void qmp_session_pump(struct qmp_session *session)
{
	struct session_request request;

	if (session->pumping)
		return;
	session->pumping = true;
	session->more = false;
	session->turn_steps = 0;
	session->turn_bytes = 0;
	while (!session_is_over(session) && session_has_work(session) &&
	       session_is_ready(session) && !session_yields(session)) {
		if (!session->call && session->queue_count) {
			request = session->queue[0];
			session->queue_count--;
			memmove(session->queue, session->queue + 1,
				session->queue_count * sizeof(*session->queue));
			session_run(session, &request);
		} else {
			session_read(session);
		}
	}
	session->pumping = false;
	if (session->held_used == session->held_size)
		session->held_used = session->held_size = 0;
}

static void session_go_on(struct qmp_session *session)
{
	qmp_session_pump(session);
	if (qmp_session_room(session))
		session->ops->resume(session->opaque);
}

void qmp_session_call_done(struct qmp_session *session, struct command_call *call)
{
	session_enter(session);
	session->call = NULL;
	session_conclude(session, call);
	session_go_on(session);
	session_leave(session);
}

void qmp_session_writable(struct qmp_session *session)
{
	session_enter(session);
	session_go_on(session);
	session_leave(session);
}

struct qmp_session *qmp_session_new(struct qmp *qmp, const struct qmp_session_ops *ops,
				    void *opaque, bool pretty)
{
	struct qmp_session *session = calloc(1, sizeof(*session)), **at = &qmp->sessions;
	json_t *greeting;

	if (!session)
		return NULL;
	session->qmp = qmp;
	session->ops = ops;
	session->opaque = opaque;
	session->pretty = pretty;
	session->stream = qmp_stream_new();
	while (*at)
		at = &(*at)->next;
	*at = session;
	greeting = json_pack("{s:{s:o, s:[s]}}", "QMP", "version", qmp_version(qmp), "capabilities",
			     "oob");
	session_send(session, greeting);
	json_decref(greeting);
	if (session->dead || !session->stream) {
		session_destroy(session);
		return NULL;
	}
	session->ready = true;
	return session;
}

void qmp_session_free(struct qmp_session *session)
{
	if (!session)
		return;
	session->freed = true;
	if (!session->depth)
		session_destroy(session);
}

size_t qmp_session_room(const struct qmp_session *session)
{
	if (session_is_over(session) || session->held_size || session->queue_count == QMP_QUEUE_MAX)
		return 0;
	return SESSION_HELD_BYTES;
}

bool qmp_session_busy(const struct qmp_session *session)
{
	return !session_is_over(session) &&
	       (session->call || session->queue_count || session->held_size);
}

/* Descriptors that came with the bytes from received - size on. */
static void session_collect_fds(struct qmp_session *session, size_t size)
{
	int fd;

	while ((fd = session->ops->take_fd ? session->ops->take_fd(session->opaque) : -1) >= 0) {
		if (session->nr_fds == SESSION_FDS) {
			close(fd);
			continue;
		}
		session->fds[session->nr_fds++] = (struct session_fd){
			.fd = fd,
			.start = session->received - size,
			.end = session->received,
		};
	}
}

void qmp_session_input(struct qmp_session *session, const char *buf, size_t size)
{
	assert(size <= qmp_session_room(session));
	session_enter(session);
	memcpy(session->held, buf, size);
	session->held_size = size;
	session->received += size;
	session_collect_fds(session, size);
	qmp_session_pump(session);
	session_leave(session);
}

void qmp_sessions_go_on(struct qmp *qmp)
{
	struct qmp_session *session = qmp->sessions, *next;

	while (session) {
		session_enter(session);
		if (session->more)
			session_go_on(session);
		next = session->next;
		session_leave(session);
		session = next;
	}
}

void qmp_sessions_tell(struct qmp *qmp, const json_t *message)
{
	struct qmp_session *session = qmp->sessions, *next;

	while (session) {
		session_enter(session);
		if (session->negotiated)
			session_send(session, message);
		next = session->next;
		session_leave(session);
		session = next;
	}
}
