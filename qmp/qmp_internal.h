/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the parts of the monitor for programs share: qmp.c (the whole), session.c (clients), call.c
 * (commands that run), events.c, human.c (the human monitor of the same table), self.c (the commands
 * that answer for the monitor itself), turns.c (sessions that ask much).
 *
 * A call belongs to the engine until its handler returns; while it is pending until command_done().
 * It has either a session (NULL once that is gone) or a human monitor's call.
 */
#ifndef QMP_QMP_INTERNAL_H
#define QMP_QMP_INTERNAL_H

#include "qmp/command.h"
#include "qmp/qmp.h"
#include "qmp/schema_internal.h"

struct human;
struct qmp_events;
struct qmp_turns;

struct qmp {
	struct schema *schema;
	struct human *human;
	struct qmp_events *events;
	struct qmp_turns *turns;
	struct qmp_session *sessions; /* oldest first */
	void *ctx;
	int major, minor, micro;
	char *package;
	const char *bare;                         /* qmp_config.bare; static */
	const char *(*missing)(const char *name); /* qmp_config.missing */
};

struct command_call {
	struct qmp *qmp;
	const struct command *def;
	struct qmp_session *session; /* a program's */
	struct hmp_call *human;      /* a person's */
	struct hmp_call *inner;      /* human-monitor-command: the line that is running */
	json_t *id;                  /* a program's; NULL: none */
	uint64_t end;                /* where in the session's input the command ended */
	bool oob;
	bool running;   /* the handler has not returned */
	bool finished;  /* command_done() came before that: value, err */
	bool abandoned; /* the client does not wait any more */
	json_t *value;
	struct err *err;
	void (*unwanted)(struct command_call *call, void *opaque);
	void *unwanted_opaque;
};

/* call.c */

/* NULL when memory is out. @id (may be NULL): a new reference is taken. */
struct command_call *command_call_new(struct qmp *qmp, const struct command *def, json_t *id);
/*
 * Run it with @run, a row's run() or human_run(). True: it has ended, with value and err in the
 * call; false: it is pending.
 */
bool command_call_run(struct command_call *call,
		      int (*run)(struct command_call *call, const json_t *args, json_t **ret_value,
				 struct err **err),
		      const json_t *args);
void command_call_free(struct command_call *call);
/* The client does not wait any more. The call may be gone after this. */
void command_call_abandon(struct command_call *call);

/* session.c */

/* A pending call of the session has ended. Frees it. */
void qmp_session_call_done(struct qmp_session *session, struct command_call *call);
int qmp_session_take_fd(struct qmp_session *session, const struct command_call *call);
/* qmp_capabilities. */
void qmp_session_negotiate(struct qmp_session *session, bool oob);
/* Send @message to all sessions that may see events. */
void qmp_sessions_tell(struct qmp *qmp, const json_t *message);
/* Give a turn to each that has more to do than one. */
void qmp_sessions_go_on(struct qmp *qmp);

/* turns.c */
struct qmp_turns *qmp_turns_new(struct qmp *qmp, uv_loop_t *uv);
void qmp_turns_free(struct qmp_turns *turns);
/* Have qmp_sessions_go_on() called soon. */
void qmp_turns_wake(struct qmp_turns *turns);

/* events.c */
struct qmp_events *qmp_events_new(struct qmp *qmp, uv_loop_t *uv);
void qmp_events_free(struct qmp_events *events);

/* human.c */

struct human *human_new(struct qmp *qmp, const struct qmp_module *const *modules,
			const struct qmp_config *config, struct err **err);
void human_free(struct human *human);
struct hmp *human_hmp(struct human *human);
/* A pending call of a person has ended. Frees it. */
void human_call_done(struct command_call *call);

/* self.c */
extern const struct qmp_module qmp_self_module;
/* VersionInfo; NULL when memory is out. */
json_t *qmp_version(const struct qmp *qmp);

#endif
