/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Turns: a session that has had its share (session.c) goes on in the loop's next round, after what
 * everybody else wants in this one.
 *
 * Threads: that of the loop.
 */
#include <stdlib.h>

#include "qmp/qmp_internal.h"

struct qmp_turns {
	struct qmp *qmp;
	uv_idle_t idle; /* runs while a session has more to do: the loop does not sleep then */
};

struct qmp_turns *qmp_turns_new(struct qmp *qmp, uv_loop_t *uv)
{
	struct qmp_turns *turns = calloc(1, sizeof(*turns));

	if (!turns)
		return NULL;
	turns->qmp = qmp;
	uv_idle_init(uv, &turns->idle);
	turns->idle.data = turns;
	return turns;
}

static void turns_closed(uv_handle_t *handle)
{
	free(handle->data);
}

/* The handle's memory goes when the loop has run once more. */
void qmp_turns_free(struct qmp_turns *turns)
{
	if (turns)
		uv_close((uv_handle_t *)&turns->idle, turns_closed);
}

static void turns_round(uv_idle_t *idle)
{
	struct qmp_turns *turns = idle->data;

	/* Who has more to do then starts it again. */
	uv_idle_stop(idle);
	qmp_sessions_go_on(turns->qmp);
}

void qmp_turns_wake(struct qmp_turns *turns)
{
	uv_idle_start(&turns->idle, turns_round);
}
