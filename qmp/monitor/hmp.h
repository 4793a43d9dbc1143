/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The human monitor: tables of commands, and sessions in which people (and old scripts) type them.
 *
 * Nothing here knows a virtual machine or a socket. A `struct hmp` is a command table with a
 * prompt; a session is one client of it: bytes go in by hmp_session_input(), bytes come out by the
 * session's write op. A session edits lines (line.h): it echoes, keeps a history, completes from
 * the table.
 *
 * I1  A line is at most HMP_LINE_BYTES - 1 bytes; a longer one is refused as a whole.
 * I2  One command runs at a time in a session; while it has not finished, what is typed waits, and
 *     the prompt is printed only after it. Ctrl-C ends the waiting: what was typed before it is
 *     forgotten, the prompt comes, and the call goes on without the session, unwanted.
 * I3  No byte sequence from a client does anything but edit, run or refuse a line.
 * I4  A session whose client does not take its output is dead: the drop op is called once, and
 *     nothing is written after it.
 *
 * Ownership: tables are static data of the caller. A call belongs to the engine until its handler
 * returns HMP_PENDING; then hmp_done() must be called exactly once, whatever became of the session.
 * Threads: all calls on one thread, the main loop's.
 */
#ifndef QMP_MONITOR_HMP_H
#define QMP_MONITOR_HMP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct err;
struct hmp;
struct hmp_call;
struct hmp_session;
struct hmp_words;

#define HMP_LINE_BYTES 4096
/* A handler's result: it will call hmp_done(). */
#define HMP_PENDING 1

/*
 * One command. @args lists its arguments, "name:type" separated by commas; a type is
 *   s  a word or a "quoted string" (F, B: the same, for file and device names)
 *   S  the rest of the line
 *   i  integer of 32 bits    l  integer of 64 bits (decimal, 0x, 0 octal; sign allowed)
 *   M  size in bytes; a bare number counts MiB; B K M G T P E are units, fractions allowed
 *   o  the same, a bare number counts bytes
 *   T  seconds, a real number, with ns, us or ms allowed
 *   b  on or off
 *   -x a flag: true when -x is given, before, between or after the other arguments
 * and a trailing ? makes it optional. A word that is one of the command's flags is that flag, also
 * where an argument is due, except inside quotes and in the rest of a line (S) that has begun. The handler gets them as an object: strings, integers,
 * reals (T) and booleans; what was not given is absent (a flag: false).
 * A table is ended by an entry without a name.
 */
struct hmp_command {
	const char *name;   /* with aliases: "quit|q" */
	const char *args;   /* NULL is none */
	const char *params; /* for help: "id size" */
	const char *help;   /* one line */
	/* 0, HMP_PENDING, or -errno with *err set. */
	int (*run)(struct hmp_call *call, const json_t *args, struct err **err);
	/* Sub-commands; without any word the command runs @run, or lists them if that is NULL. */
	const struct hmp_command *sub;
	/* Completions of argument @index (from 0, flags not counted); may be NULL. */
	void (*complete)(void *ctx, unsigned int index, struct hmp_words *words);
	const void *opaque; /* the table's owner's */
};

/* Offer a completion; words that do not begin with what was typed are left out. */
void hmp_words_add(struct hmp_words *words, const char *word);
/* What was typed of it so far: for completions that have levels. */
const char *hmp_words_typed(const struct hmp_words *words);
/* The word before it: for arguments that depend on the one before. */
const char *hmp_words_previous(const struct hmp_words *words);

struct hmp_config {
	const struct hmp_command *commands;
	const char *banner; /* first line of a session, without newline; NULL is none */
	const char *prompt; /* "(qemu) " */
	void *ctx;          /* for handlers */
};

/* Strings are copied. NULL when memory is out. */
struct hmp *hmp_new(const struct hmp_config *config);
/* Sessions are freed before. NULL is allowed. */
void hmp_free(struct hmp *hmp);

/*
 * Run one line and collect what it prints (QMP's human-monitor-command). @done is called once,
 * perhaps before this returns; the text is valid during the call. Returns the call if it is pending,
 * valid until @done; NULL: done.
 */
struct hmp_call *hmp_execute(struct hmp *hmp, const char *line,
			     void (*done)(void *opaque, const char *output, size_t size),
			     void *opaque);
/* Nobody waits for @done any more; it will be called nevertheless, perhaps from inside here. */
void hmp_call_abandon(struct hmp_call *call);

/* In handlers. After the session is gone, output goes nowhere. */
void *hmp_call_ctx(const struct hmp_call *call);
/* The row of the table that runs. */
const struct hmp_command *hmp_call_command(const struct hmp_call *call);
/* A descriptor that the client sent along, the caller's now; -1: none. */
int hmp_call_take_fd(struct hmp_call *call);
/* Does somebody wait for it? Not when the session is gone, or its person typed Ctrl-C. */
bool hmp_call_is_wanted(const struct hmp_call *call);
/* Is it a session's, whose person sees at once what is printed and may type Ctrl-C? */
bool hmp_call_is_interactive(const struct hmp_call *call);
/* @unwanted is called, once, when that becomes false; hmp_done() may be called from it. */
void hmp_call_on_unwanted(struct hmp_call *call,
			  void (*unwanted)(struct hmp_call *call, void *opaque), void *opaque);
__attribute__((format(printf, 2, 3))) void hmp_printf(struct hmp_call *call, const char *fmt, ...);
/* Finish a pending call; @err (may be NULL) is printed and freed. Frees the call. */
void hmp_done(struct hmp_call *call, struct err *err);

struct hmp_session_ops {
	/* Returns how many bytes were taken; fewer than @size ends the session (I4). */
	size_t (*write)(void *opaque, const char *buf, size_t size);
	/* The client is to be disconnected. The session may be freed here. */
	void (*drop)(void *opaque);
	/* hmp_session_room() is no longer 0. */
	void (*resume)(void *opaque);
	/*
	 * A descriptor that the client sent along, the caller's from now on; -1: none. What no
	 * command took is closed when one has ended. May be NULL.
	 */
	int (*take_fd)(void *opaque);
};

/* Prints banner and prompt. NULL when memory is out or the client does not take them. */
struct hmp_session *hmp_session_new(struct hmp *hmp, const struct hmp_session_ops *ops,
				    void *opaque);
/*
 * A pending call outlives the session. May be called from its own handlers and ops; nothing
 * follows.
 */
void hmp_session_free(struct hmp_session *session);
/* How many bytes hmp_session_input() takes now. */
size_t hmp_session_room(const struct hmp_session *session);
void hmp_session_input(struct hmp_session *session, const char *buf, size_t size);
/* Is there a command that has not finished, or input that waits for one? */
bool hmp_session_busy(const struct hmp_session *session);
/* Begin a new line and show the prompt again (a mux gave the session the keyboard back). */
void hmp_session_refresh(struct hmp_session *session);

#endif
