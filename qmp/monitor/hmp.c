/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Human monitor: sessions and calls. See hmp.h for the contract.
 *
 * A call prints either into a session (`session`, NULL once that is gone) or into a buffer
 * (`done` set). A session is freed at once, or, from inside one of its own functions (`depth`),
 * when that returns.
 */
#include "qmp/monitor/hmp.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "qmp/monitor/internal.h"
#include "qmp/monitor/line.h"

/* Bytes taken at once; what follows a command that has not finished waits here. */
#define HMP_TYPED_BYTES 1024
/* Ctrl-C */
#define HMP_INTERRUPT 0x03
/* Completions are listed for a terminal of this width. */
#define HMP_COLUMNS 80

struct hmp_session {
	struct hmp *hmp;
	const struct hmp_session_ops *ops;
	void *opaque;
	struct hmp_line *line;
	struct hmp_call *call; /* the command that has not finished */
	char typed[HMP_TYPED_BYTES];
	size_t typed_count;
	unsigned int depth;
	bool ready; /* hmp_session_new() is through */
	bool dead;  /* the client did not take its output */
	bool freed; /* by its owner, while depth > 0 */
};

struct hmp_call {
	struct hmp *hmp;
	const struct hmp_command *command;
	struct hmp_session *session;
	void (*done)(void *opaque, const char *output, size_t size);
	void *opaque;
	char *output;
	size_t size;
	bool running;   /* the handler has not returned */
	bool finished;  /* hmp_done() came before that */
	bool abandoned; /* nobody waits for it */
	void (*unwanted)(struct hmp_call *call, void *opaque);
	void *unwanted_opaque;
};

/* The call may be gone after this. */
void hmp_call_abandon(struct hmp_call *call)
{
	if (call->session)
		call->session->call = NULL;
	call->session = NULL;
	if (call->abandoned)
		return;
	call->abandoned = true;
	if (call->unwanted)
		call->unwanted(call, call->unwanted_opaque);
}

bool hmp_call_is_wanted(const struct hmp_call *call)
{
	return !call->abandoned;
}

bool hmp_call_is_interactive(const struct hmp_call *call)
{
	return call->session != NULL;
}

void hmp_call_on_unwanted(struct hmp_call *call,
			  void (*unwanted)(struct hmp_call *call, void *opaque), void *opaque)
{
	call->unwanted = unwanted;
	call->unwanted_opaque = opaque;
}

static void hmp_session_destroy(struct hmp_session *session)
{
	if (session->call)
		hmp_call_abandon(session->call);
	hmp_line_free(session->line);
	free(session);
}

static void hmp_session_enter(struct hmp_session *session)
{
	session->depth++;
}

/* The session may be gone after this. */
static void hmp_session_leave(struct hmp_session *session)
{
	if (!--session->depth && session->freed)
		hmp_session_destroy(session);
}

static void hmp_session_write(void *opaque, const char *buf, size_t size)
{
	struct hmp_session *session = opaque;

	if (session->dead || session->freed)
		return;
	if (session->ops->write(session->opaque, buf, size) == size)
		return;
	session->dead = true;
	if (session->ready)
		session->ops->drop(session->opaque);
}

/* Text for a terminal: a line feed alone would not return to the first column. */
static void hmp_session_puts(struct hmp_session *session, const char *text, size_t size)
{
	const char *end = text + size, *lf;

	while (text < end) {
		lf = memchr(text, '\n', (size_t)(end - text));
		if (!lf) {
			hmp_session_write(session, text, (size_t)(end - text));
			return;
		}
		hmp_session_write(session, text, (size_t)(lf - text));
		hmp_session_write(session, "\r\n", 2);
		text = lf + 1;
	}
}

static void hmp_call_append(struct hmp_call *call, const char *text, size_t size)
{
	char *grown = realloc(call->output, call->size + size + 1);

	if (!grown)
		return;
	memcpy(grown + call->size, text, size);
	call->output = grown;
	call->size += size;
	grown[call->size] = '\0';
}

void *hmp_call_ctx(const struct hmp_call *call)
{
	return call->hmp->ctx;
}

const struct hmp_command *hmp_call_command(const struct hmp_call *call)
{
	return call->command;
}

static int hmp_session_take_fd(struct hmp_session *session)
{
	return session->ops->take_fd ? session->ops->take_fd(session->opaque) : -1;
}

int hmp_call_take_fd(struct hmp_call *call)
{
	return call->session ? hmp_session_take_fd(call->session) : -1;
}

void hmp_printf(struct hmp_call *call, const char *fmt, ...)
{
	struct hmp_session *session = call->session;
	va_list ap;
	char *text;
	int size;

	va_start(ap, fmt);
	size = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (size < 0)
		return;
	if (session) {
		hmp_session_enter(session);
		hmp_session_puts(session, text, (size_t)size);
		hmp_session_leave(session);
	} else if (call->done) {
		hmp_call_append(call, text, (size_t)size);
	}
	free(text);
}

static struct hmp_call *hmp_call_new(struct hmp *hmp)
{
	struct hmp_call *call = calloc(1, sizeof(*call));

	if (call)
		call->hmp = hmp;
	return call;
}

static void hmp_call_end(struct hmp_call *call)
{
	if (call->done)
		call->done(call->opaque, call->output ? call->output : "", call->size);
	free(call->output);
	free(call);
}

static void hmp_call_report(struct hmp_call *call, struct err *err)
{
	if (err)
		hmp_printf(call, "Error: %s\n", err_message(err));
	err_free(err);
}

static int hmp_help_run(struct hmp_call *call, const json_t *args, struct err **err)
{
	const char *words = json_string_value(json_object_get(args, "command"));

	(void)err;
	hmp_table_help_words(call, call->hmp->commands, words ? words : "");
	return 0;
}

const struct hmp_command hmp_help_command = {
	.name = "help|?",
	.args = "command:S?",
	.params = "[cmd]",
	.help = "show the help",
	.run = hmp_help_run,
};

/* Run a command that was found. Returns whether it has finished. */
static bool hmp_run(struct hmp_call *call, const struct hmp_command *cmd, const char *called,
		    const char *rest)
{
	struct err *err = NULL;
	json_t *args;
	int ret;

	if (hmp_args_parse(cmd, rest, &args, &err)) {
		hmp_printf(call, "%s: %s\nTry \"help %s\" for more information\n", called,
			   err_message(err), called);
		err_free(err);
		return true;
	}
	call->command = cmd;
	call->running = true;
	ret = cmd->run(call, args, &err);
	call->running = false;
	json_decref(args);
	if (ret == HMP_PENDING)
		return call->finished;
	if (ret < 0 && !err)
		err_set(&err, -ret, "%s", strerror(-ret));
	hmp_call_report(call, err);
	return true;
}

/* Find the command of a line and run it. Returns whether it has finished. */
static bool hmp_dispatch(struct hmp_call *call, const char *line)
{
	const struct hmp_command *table = call->hmp->commands, *cmd = NULL;
	char word[HMP_LINE_BYTES], called[256] = "";
	json_t *text = json_string(line);
	size_t used;

	/* Arguments become JSON strings. */
	json_decref(text);
	if (!text) {
		hmp_printf(call, "the line is not UTF-8 text\n");
		return true;
	}
	while (table && hmp_word_next(&line, word, NULL) == 0) {
		used = strlen(called);
		cmd = hmp_table_find(table, word);
		if (!cmd && !used)
			cmd = hmp_table_find((const struct hmp_command[]){hmp_help_command, {0}},
					     word)
				      ? &hmp_help_command
				      : NULL;
		if (!cmd) {
			hmp_printf(call, "unknown command: '%s%s%s'\n", called, used ? " " : "",
				   word);
			return true;
		}
		snprintf(called + used, sizeof(called) - used, "%s%.63s", used ? " " : "", word);
		table = cmd->sub;
	}
	if (!cmd)
		return true;
	if (cmd->run)
		return hmp_run(call, cmd, called, line);
	hmp_table_help_words(call, call->hmp->commands, called);
	return true;
}

struct hmp_call *hmp_execute(struct hmp *hmp, const char *line,
			     void (*done)(void *opaque, const char *output, size_t size),
			     void *opaque)
{
	struct hmp_call *call = hmp_call_new(hmp);

	if (!call) {
		done(opaque, "", 0);
		return NULL;
	}
	call->done = done;
	call->opaque = opaque;
	if (strlen(line) >= HMP_LINE_BYTES)
		hmp_printf(call, "the line is too long; at most %d bytes are allowed\n",
			   HMP_LINE_BYTES - 1);
	else if (!hmp_dispatch(call, line))
		return call;
	hmp_call_end(call);
	return NULL;
}

struct hmp *hmp_new(const struct hmp_config *config)
{
	struct hmp *hmp = calloc(1, sizeof(*hmp));

	if (!hmp)
		return NULL;
	hmp->commands = config->commands;
	hmp->ctx = config->ctx;
	hmp->banner = config->banner ? strdup(config->banner) : NULL;
	hmp->prompt = strdup(config->prompt);
	if (!hmp->prompt || (config->banner && !hmp->banner)) {
		hmp_free(hmp);
		return NULL;
	}
	return hmp;
}

void hmp_free(struct hmp *hmp)
{
	if (!hmp)
		return;
	free(hmp->banner);
	free(hmp->prompt);
	free(hmp);
}

/* A command has ended: close descriptors that none took, show the prompt. */
static void hmp_session_next(struct hmp_session *session)
{
	int fd;

	while (!session->dead && !session->freed && (fd = hmp_session_take_fd(session)) >= 0)
		close(fd);
	hmp_line_begin(session->line);
}

static void hmp_session_line(void *opaque, const char *text)
{
	struct hmp_session *session = opaque;
	struct hmp_call *call;

	if (session->dead || session->freed)
		return;
	call = hmp_call_new(session->hmp);
	if (!call) {
		hmp_session_puts(session, "out of memory\n", 14);
		hmp_line_begin(session->line);
		return;
	}
	call->session = session;
	session->call = call;
	if (!text) {
		hmp_printf(call, "the line is too long; at most %d bytes are allowed\n",
			   HMP_LINE_BYTES - 1);
	} else if (!hmp_dispatch(call, text)) {
		return;
	}
	session->call = NULL;
	hmp_call_end(call);
	hmp_session_next(session);
}

static void hmp_session_list(struct hmp_session *session, const struct hmp_words *words)
{
	size_t width = 0, columns, i, pad;

	for (i = 0; i < words->count; i++)
		width = num_max(width, strlen(words->words[i]) + 2);
	columns = num_max(HMP_COLUMNS / width, 1);
	hmp_session_puts(session, "\n", 1);
	for (i = 0; i < words->count; i++) {
		const char *word = words->words[i];
		bool last = i + 1 == words->count || (i + 1) % columns == 0;

		hmp_session_puts(session, word, strlen(word));
		for (pad = strlen(word); !last && pad < width; pad++)
			hmp_session_write(session, " ", 1);
		if (last)
			hmp_session_puts(session, "\n", 1);
	}
	hmp_line_show(session->line);
}

static void hmp_session_complete(void *opaque, const char *text)
{
	struct hmp_session *session = opaque;
	struct hmp_words words;
	size_t common;

	hmp_complete(session->hmp, text, &words);
	common = hmp_words_common(&words);
	if (common > words.typed_size)
		hmp_line_insert(session->line, words.words[0] + words.typed_size,
				common - words.typed_size);
	else if (words.count > 1)
		hmp_session_list(session, &words);
	if (words.count == 1)
		hmp_line_insert(session->line, " ", 1);
	hmp_words_done(&words);
}

static const struct hmp_line_ops hmp_session_line_ops = {
	.write = hmp_session_write,
	.enter = hmp_session_line,
	.complete = hmp_session_complete,
};

struct hmp_session *hmp_session_new(struct hmp *hmp, const struct hmp_session_ops *ops,
				    void *opaque)
{
	struct hmp_session *session = calloc(1, sizeof(*session));

	if (!session)
		return NULL;
	session->hmp = hmp;
	session->ops = ops;
	session->opaque = opaque;
	session->line = hmp_line_new(hmp->prompt, &hmp_session_line_ops, session);
	if (!session->line) {
		free(session);
		return NULL;
	}
	if (hmp->banner) {
		hmp_session_puts(session, hmp->banner, strlen(hmp->banner));
		hmp_session_puts(session, "\n", 1);
	}
	hmp_line_begin(session->line);
	if (session->dead) {
		hmp_session_destroy(session);
		return NULL;
	}
	session->ready = true;
	return session;
}

void hmp_session_free(struct hmp_session *session)
{
	if (!session)
		return;
	session->freed = true;
	if (!session->depth)
		hmp_session_destroy(session);
}

size_t hmp_session_room(const struct hmp_session *session)
{
	if (session->dead || session->freed)
		return 0;
	return HMP_TYPED_BYTES - session->typed_count;
}

bool hmp_session_busy(const struct hmp_session *session)
{
	return !session->dead && !session->freed && (session->call || session->typed_count);
}

/* Edit with what waits, until a command does not finish at once. */
static void hmp_session_run(struct hmp_session *session)
{
	size_t used = 0;

	while (used < session->typed_count && !session->call && !session->dead && !session->freed)
		hmp_line_byte(session->line, (unsigned char)session->typed[used++]);
	session->typed_count -= used;
	memmove(session->typed, session->typed + used, session->typed_count);
}

/* Ctrl-C among what waits: end the waiting for the command that has not finished. */
static void hmp_session_interrupt(struct hmp_session *session)
{
	const char *at = memrchr(session->typed, HMP_INTERRUPT, session->typed_count);

	if (!at || !session->call)
		return;
	session->typed_count -= (size_t)(at + 1 - session->typed);
	memmove(session->typed, at + 1, session->typed_count);
	hmp_call_abandon(session->call);
	hmp_session_puts(session, "^C\n", 3);
	hmp_session_next(session);
}

void hmp_session_input(struct hmp_session *session, const char *buf, size_t size)
{
	assert(size <= HMP_TYPED_BYTES - session->typed_count);
	hmp_session_enter(session);
	memcpy(session->typed + session->typed_count, buf, size);
	session->typed_count += size;
	hmp_session_interrupt(session);
	hmp_session_run(session);
	hmp_session_leave(session);
}

void hmp_session_refresh(struct hmp_session *session)
{
	hmp_session_enter(session);
	hmp_session_puts(session, "\n", 1);
	if (!session->call)
		hmp_line_show(session->line);
	hmp_session_leave(session);
}

void hmp_done(struct hmp_call *call, struct err *err)
{
	struct hmp_session *session = call->session;

	if (session)
		hmp_session_enter(session);
	hmp_call_report(call, err);
	if (call->running) {
		call->finished = true;
		if (session)
			hmp_session_leave(session);
		return;
	}
	if (session)
		session->call = NULL;
	hmp_call_end(call);
	if (!session)
		return;
	hmp_session_next(session);
	hmp_session_run(session);
	if (hmp_session_room(session))
		session->ops->resume(session->opaque);
	hmp_session_leave(session);
}
