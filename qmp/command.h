/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Monitor commands: one table for programs (QMP) and people (HMP).
 *
 * A row says what a command is called on both sides, what it takes and gives (schema.h), what to
 * tell who asks for help, and what does it. A program's arguments are an object, checked against
 * @args before @run sees them; a person's line is read by @human_args into an object of the same
 * kind. What @run gives is the program's answer; a person sees what @print makes of it.
 *
 * I1  run() gets an object of @args' members, each of its type; nothing else about it is checked.
 * I2  A failing run() changed nothing, and says why in one sentence.
 * I3  A call ends exactly once: by run()'s result, or when that is COMMAND_PENDING by
 *     command_done(), whatever became of the client meanwhile.
 *
 * Threads: all calls on the main loop's thread.
 */
#ifndef QMP_COMMAND_H
#define QMP_COMMAND_H

#include <jansson.h>
#include <stdbool.h>

#include "qmp/monitor/hmp.h"

struct command_call;
struct err;

/* run(): command_done() will be called. */
#define COMMAND_PENDING 1

#define COMMAND_OOB      1u /* may be sent with exec-oob; never pending */
#define COMMAND_NO_REPLY 2u /* for programs: what follows is the answer (quit has one: not this) */
#define COMMAND_ANY_ARGS 4u /* members beyond @args are allowed, of any type (device_add) */
#define COMMAND_BARE     8u /* also where there is no machine: qmp_config.bare */

struct command {
	const char *name;    /* for programs; NULL: people only */
	const char *human;   /* for people: "quit|q", "info memory-devices"; NULL: programs only */
	const char *args;    /* members; "Type" without a colon: those of this type; NULL: none */
	const char *returns; /* type; NULL: an empty object */
	/*
	 * People's arguments as hmp.h writes them ("id:s,size:M"); names are those of @args, where
	 * they differ @human_run is there. NULL: none.
	 */
	const char *human_args;
	const char *params;   /* people's help: "id size"; NULL: none */
	const char *help;     /* one line: what it does */
	const char *features; /* in the schema: "json-cli-hotplug"; NULL: none */
	unsigned int flags;
	/*
	 * 0 and *ret_value (a new reference; untouched for an empty object), COMMAND_PENDING, or
	 * -errno and *err (its class: qmp.h).
	 */
	int (*run)(struct command_call *call, const json_t *args, json_t **ret_value,
		   struct err **err);
	/* People: tell @value. NULL: nothing is told of success. */
	void (*print)(struct command_call *call, const json_t *value);
	/* People: instead of @run, with the arguments of @human_args. May be pending, too. */
	int (*human_run)(struct command_call *call, const json_t *args, json_t **ret_value,
			 struct err **err);
	/* People: completions of argument @index (from 0, flags not counted). */
	void (*complete)(void *ctx, unsigned int index, struct hmp_words *words);
};

/* The ctx that the monitor was made with. */
void *command_ctx(const struct command_call *call);
/* Does a person ask? */
bool command_is_human(const struct command_call *call);
/* Does a person ask who sees at once what is printed, and may type Ctrl-C? */
bool command_is_interactive(const struct command_call *call);
/* To a person; for programs and after the client is gone it goes nowhere. */
__attribute__((format(printf, 2, 3))) void command_printf(struct command_call *call,
							  const char *fmt, ...);
/* A descriptor that came with the command (SCM_RIGHTS), the caller's now; -1: none. */
int command_take_fd(struct command_call *call);
/*
 * Does the client that asked still wait? One that left does not, nor a person who typed Ctrl-C. The
 * call must still end; it may end early.
 */
bool command_is_wanted(const struct command_call *call);
/*
 * For a pending call: @unwanted is called, once, when command_is_wanted() becomes false. It may
 * finish the call, and must not take what it does for the client's doing: nothing is undone.
 */
void command_on_unwanted(struct command_call *call,
			 void (*unwanted)(struct command_call *call, void *opaque), void *opaque);
/* Finish a pending call. @value (may be NULL) and @err (NULL: success) are taken over. */
void command_done(struct command_call *call, json_t *value, struct err *err);

/*
 * For human-monitor-command: run a line of the human monitor of the same table and finish @call with
 * what it printed, a JSON string. Returns COMMAND_PENDING; the call may be finished already.
 */
int command_run_human(struct command_call *call, const char *line);

#endif
