/* SPDX-License-Identifier: BSD-3-Clause */
/* The prompt: see prompt.h for the contract. */
#include "ebbctl/prompt.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/num.h"
#include "ebbctl/client.h"
#include "ebbctl/human.h"
#include "ebbctl/print.h"
#include "ebbctl/prompt_words.h"
#include "ebbctl/terminal.h"
#include "ebbctl/text.h"
#include "qmp/monitor/line.h"

#define CTRL(c) ((c)&0x1F)

struct prompt {
	struct client *client;
	struct hmp_line *line;
	struct prompt_words *words;
	struct prompt_words *fresh; /* ids that are being told anew */
	bool busy;                  /* a command runs */
	bool quit;                  /* that command ends the machine */
	bool leave;
	unsigned int interrupts; /* since the command began */
	unsigned char ahead[PROMPT_AHEAD_BYTES];
	size_t nr_ahead;
};

static void prompt_write(void *opaque, const char *buf, size_t size)
{
	(void)opaque;
	fwrite(buf, 1, size, stdout);
}

static void prompt_show(const char *text)
{
	char *clean = text_clean(text, strlen(text), text_locale_utf8(), TEXT_LINES);
	size_t size = clean ? strlen(clean) : 0;

	if (size)
		printf("%s%s", clean, clean[size - 1] == '\n' ? "" : "\n");
	free(clean);
}

/* Ids come and go: asked for anew after each command. Till all are told Tab offers those before. */
static void prompt_ids_told(void *opaque, const json_t *value, const struct err *err)
{
	struct prompt *prompt = opaque;

	(void)err;
	prompt_words_take_ids(prompt->fresh, PROMPT_IDS, value, "id");
	prompt_words_take_ids(prompt->fresh, PROMPT_IDS, value, "label");
}

static void prompt_jobs_told(void *opaque, const json_t *value, const struct err *err)
{
	struct prompt *prompt = opaque;

	(void)err;
	prompt_words_take_ids(prompt->fresh, PROMPT_JOBS, value, "id");
	prompt_words_replace(prompt->words, PROMPT_IDS, prompt->fresh);
	prompt_words_replace(prompt->words, PROMPT_JOBS, prompt->fresh);
}

static void prompt_ask_ids(struct prompt *prompt)
{
	static const char *const lists[] = {"query-memory-devices", "query-memdev",
					    "query-chardev"};

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		client_send(prompt->client, lists[i], NULL, prompt_ids_told, prompt);
	client_send(prompt->client, "query-jobs", NULL, prompt_jobs_told, prompt);
}

static void prompt_help_told(void *opaque, const json_t *value, const struct err *err)
{
	struct prompt *prompt = opaque;

	(void)err;
	if (json_string_value(value))
		prompt_words_take_help(prompt->words, PROMPT_COMMANDS, json_string_value(value));
}

static void prompt_info_told(void *opaque, const json_t *value, const struct err *err)
{
	struct prompt *prompt = opaque;

	(void)err;
	if (json_string_value(value))
		prompt_words_take_help(prompt->words, PROMPT_INFO, json_string_value(value));
}

static void prompt_told(void *opaque, const json_t *value, const struct err *err)
{
	struct prompt *prompt = opaque;

	prompt->busy = false;
	/* The end of the connection is told when the prompt is left. */
	if (client_state(prompt->client) == CLIENT_OVER)
		return;
	if (err)
		prompt_show(err_message(err));
	else if (json_string_value(value))
		prompt_show(json_string_value(value));
	prompt_ask_ids(prompt);
	hmp_line_begin(prompt->line);
}

static void prompt_enter(void *opaque, const char *text)
{
	struct prompt *prompt = opaque;
	json_t *args = text ? json_pack("{s:s}", "command-line", text) : NULL;
	size_t blank = text ? strspn(text, " \t") : 0;

	if (!args) {
		printf("%s\n", text ? "The line is not UTF-8 text." : "The line is too long.");
		hmp_line_begin(prompt->line);
	} else if (!text[blank]) {
		hmp_line_begin(prompt->line);
	} else if (!strcmp(text + blank, "exit")) {
		prompt->leave = true;
	} else {
		prompt->busy = true;
		prompt->interrupts = 0;
		prompt->quit = human_is_quit(text);
		client_send(prompt->client, "human-monitor-command", args, prompt_told, prompt);
		return;
	}
	json_decref(args);
}

static void prompt_list(struct prompt *prompt, const struct prompt_matches *m)
{
	size_t width = 0, columns, i;

	for (i = 0; i < m->nr; i++)
		width = num_max(width, strlen(m->words[i]) + 2);
	columns = num_max(terminal_columns() / width, 1);
	for (i = 0; i < m->nr; i++)
		printf("%s%-*s", i % columns ? "" : "\n", (int)width, m->words[i]);
	printf("\n");
	hmp_line_show(prompt->line);
}

static void prompt_complete(void *opaque, const char *text)
{
	struct prompt *prompt = opaque;
	struct prompt_matches m;

	if (prompt_words_match(prompt->words, text, &m))
		return;
	if (m.nr && m.common > m.typed)
		hmp_line_insert(prompt->line, m.words[0] + m.typed, m.common - m.typed);
	else if (m.nr > 1)
		prompt_list(prompt, &m);
	if (m.nr == 1)
		hmp_line_insert(prompt->line, " ", 1);
	free(m.words);
}

static const struct hmp_line_ops prompt_line_ops = {
	.write = prompt_write,
	.enter = prompt_enter,
	.complete = prompt_complete,
};

static void prompt_event(void *opaque, const char *name, const json_t *event)
{
	struct prompt *prompt = opaque;
	char *line = print_event_line(name, event);

	if (line)
		printf("%s%s\n", prompt->busy ? "" : "\r\033[K", line);
	if (!prompt->busy)
		hmp_line_show(prompt->line);
	free(line);
}

static const struct client_ops prompt_ops = {.event = prompt_event};

/* A key while a command runs. */
static void prompt_wait_key(struct prompt *prompt, unsigned char key)
{
	if (key == CTRL('c') && prompt->interrupts++) {
		prompt->leave = true;
	} else if (key == CTRL('c')) {
		printf("^C (the command still runs; Ctrl-C once more leaves)\n");
		prompt->nr_ahead = 0;
	} else if (prompt->nr_ahead < PROMPT_AHEAD_BYTES) {
		prompt->ahead[prompt->nr_ahead++] = key;
	}
}

static void prompt_key(struct prompt *prompt, unsigned char key)
{
	if (prompt->busy)
		prompt_wait_key(prompt, key);
	else if (key == CTRL('d') && hmp_line_is_empty(prompt->line))
		prompt->leave = true;
	else if (!prompt->leave)
		hmp_line_byte(prompt->line, key);
}

/* What was typed ahead, until a command runs again. */
static void prompt_catch_up(struct prompt *prompt)
{
	while (!prompt->busy && !prompt->leave && prompt->nr_ahead) {
		unsigned char key = prompt->ahead[0];

		memmove(prompt->ahead, prompt->ahead + 1, --prompt->nr_ahead);
		prompt_key(prompt, key);
	}
}

static void prompt_read(struct prompt *prompt)
{
	unsigned char keys[256];
	ssize_t got = read(STDIN_FILENO, keys, sizeof(keys));

	if (got <= 0 && errno != EINTR && errno != EAGAIN)
		prompt->leave = true;
	for (ssize_t i = 0; i < got; i++)
		prompt_key(prompt, keys[i]);
}

static int prompt_loop(struct prompt *prompt, const struct terminal *term, struct err **err)
{
	struct pollfd fds[3] = {{.fd = STDIN_FILENO, .events = POLLIN},
				{.fd = terminal_signal_fd(term), .events = POLLIN}};
	int ret = 0;

	while (!ret && !prompt->leave) {
		fflush(stdout);
		fds[2] = (struct pollfd){.fd = client_fd(prompt->client),
					 .events = client_poll_events(prompt->client)};
		if (poll(fds, 3, -1) < 0)
			continue;
		if (fds[1].revents)
			prompt->leave = true;
		if (fds[2].revents)
			ret = client_work(prompt->client, err);
		if (!ret && fds[0].revents)
			prompt_read(prompt);
		if (!ret)
			prompt_catch_up(prompt);
	}
	return ret;
}

static int prompt_talk(struct prompt *prompt, struct err **err)
{
	struct terminal *term;
	int ret = terminal_open(false, &term, err);

	if (ret)
		return ret;
	printf("ebbctl %s on %s: Ctrl-D leaves, quit ends the machine, help lists the commands.\n",
	       EBB_VERSION, client_name(prompt->client));
	client_set_ops(prompt->client, &prompt_ops, prompt);
	client_send(prompt->client, "human-monitor-command",
		    json_pack("{s:s}", "command-line", "help"), prompt_help_told, prompt);
	client_send(prompt->client, "human-monitor-command",
		    json_pack("{s:s}", "command-line", "help info"), prompt_info_told, prompt);
	prompt_ask_ids(prompt);
	hmp_line_begin(prompt->line);
	ret = prompt_loop(prompt, term, err);
	printf("\n");
	fflush(stdout);
	client_set_ops(prompt->client, NULL, NULL);
	client_forget(prompt->client, prompt);
	terminal_close(term);
	return ret;
}

int prompt_run(struct client *client)
{
	struct prompt *prompt = calloc(1, sizeof(*prompt));
	struct err *err = NULL;
	int ret = 0;

	if (prompt) {
		prompt->client = client;
		prompt->words = prompt_words_new();
		prompt->fresh = prompt_words_new();
		prompt->line = hmp_line_new(CLIENT_PROMPT, &prompt_line_ops, prompt);
	}
	if (!prompt || !prompt->words || !prompt->fresh || !prompt->line)
		ret = err_set(&err, ENOMEM, "out of memory");
	else
		ret = prompt_talk(prompt, &err);
	if (ret && prompt && prompt->quit) {
		/* The end of the connection is what was asked for. */
		err_free(err);
		ret = 0;
	}
	if (prompt) {
		prompt_words_free(prompt->words);
		prompt_words_free(prompt->fresh);
		hmp_line_free(prompt->line);
	}
	free(prompt);
	return ret ? print_err(err) : 0;
}
