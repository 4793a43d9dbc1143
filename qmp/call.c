/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands that run, of programs and of people: see command.h. */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "qmp/qmp_internal.h"

struct command_call *command_call_new(struct qmp *qmp, const struct command *def, json_t *id)
{
	struct command_call *call = calloc(1, sizeof(*call));

	if (!call)
		return NULL;
	call->qmp = qmp;
	call->def = def;
	call->id = json_incref(id);
	return call;
}

void command_call_free(struct command_call *call)
{
	json_decref(call->id);
	json_decref(call->value);
	err_free(call->err);
	free(call);
}

/* Exactly one of value and err stands after this. */
static void command_call_conclude(struct command_call *call, int ret)
{
	if (ret < 0 && !call->err)
		err_set(&call->err, -ret, "%s", strerror(-ret));
	if (!call->err && !call->value)
		call->value = json_object();
	if (!call->err && !call->value)
		err_set(&call->err, ENOMEM, "out of memory");
	if (call->err) {
		json_decref(call->value);
		call->value = NULL;
	}
}

bool command_call_run(struct command_call *call,
		      int (*run)(struct command_call *call, const json_t *args, json_t **ret_value,
				 struct err **err),
		      const json_t *args)
{
	struct err *err = NULL;
	json_t *value = NULL;
	int ret;

	if (call->qmp->bare && !(call->def->flags & COMMAND_BARE)) {
		err_set(&call->err, ENOTSUP, "%s", call->qmp->bare);
		return true;
	}
	call->running = true;
	ret = run(call, args, &value, &err);
	call->running = false;
	if (ret == COMMAND_PENDING)
		return call->finished;
	assert(!call->finished);
	call->value = value;
	call->err = err;
	command_call_conclude(call, ret);
	return true;
}

void command_done(struct command_call *call, json_t *value, struct err *err)
{
	assert(!call->finished);
	call->value = value;
	call->err = err;
	call->finished = true;
	call->inner = NULL;
	command_call_conclude(call, 0);
	if (call->running)
		return;
	if (call->human)
		human_call_done(call);
	else if (call->session)
		qmp_session_call_done(call->session, call);
	else
		command_call_free(call);
}

void command_call_abandon(struct command_call *call)
{
	struct hmp_call *inner = call->inner;

	call->session = NULL;
	if (call->abandoned)
		return;
	call->abandoned = true;
	if (inner)
		hmp_call_abandon(inner);
	else if (call->unwanted)
		call->unwanted(call, call->unwanted_opaque);
}

void *command_ctx(const struct command_call *call)
{
	return call->qmp->ctx;
}

bool command_is_human(const struct command_call *call)
{
	return call->human != NULL;
}

bool command_is_interactive(const struct command_call *call)
{
	return call->human && hmp_call_is_interactive(call->human);
}

void command_printf(struct command_call *call, const char *fmt, ...)
{
	va_list ap;
	char *text;
	int size;

	if (!call->human)
		return;
	va_start(ap, fmt);
	size = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (size < 0)
		return;
	hmp_printf(call->human, "%s", text);
	free(text);
}

int command_take_fd(struct command_call *call)
{
	if (call->human)
		return hmp_call_take_fd(call->human);
	return call->session ? qmp_session_take_fd(call->session, call) : -1;
}

bool command_is_wanted(const struct command_call *call)
{
	return !call->abandoned;
}

void command_on_unwanted(struct command_call *call,
			 void (*unwanted)(struct command_call *call, void *opaque), void *opaque)
{
	call->unwanted = unwanted;
	call->unwanted_opaque = opaque;
}

static void command_human_printed(void *opaque, const char *output, size_t size)
{
	struct command_call *call = opaque;
	json_t *text = json_stringn(output, size);
	struct err *err = NULL;

	if (!text)
		err_set(&err, EINVAL, "what was printed is not UTF-8 text");
	command_done(call, text, err);
}

int command_run_human(struct command_call *call, const char *line)
{
	struct hmp_call *inner =
		hmp_execute(qmp_human(call->qmp), line, command_human_printed, call);

	/* Without one the call may be gone already. */
	if (inner)
		call->inner = inner;
	return COMMAND_PENDING;
}
