/* SPDX-License-Identifier: BSD-3-Clause */
/* Commands for people: see human.h for the contract. */
#include "ebbctl/human.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "ebbctl/client.h"
#include "ebbctl/print.h"
#include "ebbctl/terminal.h"
#include "qmp/monitor/hmp.h"

#define HUMAN_COPY_BYTES 4096
#define HUMAN_LEAVE      0x1D /* Ctrl-] */

static bool human_wants_quotes(const char *word)
{
	if (!*word)
		return true;
	for (; *word; word++)
		if (isspace((unsigned char)*word) || *word == '"')
			return true;
	return false;
}

static void human_quote(FILE *out, const char *word)
{
	fputc('"', out);
	for (; *word; word++) {
		if (*word == '\n' || *word == '\r') {
			fputs(*word == '\n' ? "\\n" : "\\r", out);
			continue;
		}
		if (*word == '"' || *word == '\\')
			fputc('\\', out);
		fputc(*word, out);
	}
	fputc('"', out);
}

char *human_line(char *const *words, size_t nr)
{
	char *line = NULL;
	size_t size;
	FILE *out;

	if (nr == 1)
		return strdup(words[0]);
	out = open_memstream(&line, &size);
	if (!out)
		return NULL;
	for (size_t i = 0; i < nr; i++) {
		if (i)
			fputc(' ', out);
		if (i && human_wants_quotes(words[i]))
			human_quote(out, words[i]);
		else
			fputs(words[i], out);
	}
	if (fclose(out)) {
		free(line);
		return NULL;
	}
	return line;
}

bool human_is_quit(const char *line)
{
	size_t size;

	while (isspace((unsigned char)*line))
		line++;
	size = strlen(line);
	while (size && isspace((unsigned char)line[size - 1]))
		size--;
	return (size == 1 && *line == 'q') || (size == 4 && !strncmp(line, "quit", 4));
}

static int human_call_qmp(struct client *client, const char *line, char **ret_text,
			  size_t *ret_size, struct err **err)
{
	json_t *args = json_pack("{s:s}", "command-line", line), *value = NULL;
	const char *text;
	int ret;

	if (!args)
		return err_set(err, EINVAL, "the line is not UTF-8 text");
	ret = client_call(client, "human-monitor-command", args, &value, err);
	if (ret)
		return ret;
	text = json_string_value(value);
	*ret_size = text ? strlen(text) : 0;
	*ret_text = strdup(text ? text : "");
	json_decref(value);
	return *ret_text ? 0 : err_set(err, ENOMEM, "out of memory");
}

/* What stands between the end of the echoed line and the prompt. False: it is not all there. */
static bool human_cut(char *text, size_t size, char **ret_text, size_t *ret_size)
{
	size_t prompt = strlen(CLIENT_PROMPT);
	char *echo = memchr(text, '\n', size);

	if (!echo || size < prompt || memcmp(text + size - prompt, CLIENT_PROMPT, prompt))
		return false;
	*ret_text = echo + 1;
	*ret_size = size - prompt - (size_t)(echo + 1 - text);
	return true;
}

static int human_call_text(struct client *client, const char *line, char **ret_text,
			   size_t *ret_size, struct err **err)
{
	char *text, *answer;
	size_t size;
	int ret;

	if (strpbrk(line, "\r\n"))
		return err_set(err, EINVAL, "a command is one line");
	ret = client_text_send(client, line, err);
	while (!ret) {
		ret = client_text_get(client, &text, &size, err);
		if (!ret && human_cut(text, size, &answer, ret_size)) {
			memmove(text, answer, *ret_size);
			*ret_text = text;
			return 0;
		}
		if (!ret) {
			free(text);
			ret = client_wait(client, -1, err);
		}
	}
	return ret;
}

int human_call(struct client *client, const char *line, char **ret_text, size_t *ret_size,
	       struct err **err)
{
	if (strlen(line) >= HMP_LINE_BYTES)
		return err_set(err, EINVAL, "the line is too long; at most %d bytes are allowed",
			       HMP_LINE_BYTES - 1);
	if (client_state(client) == CLIENT_HUMAN)
		return human_call_text(client, line, ret_text, ret_size, err);
	return human_call_qmp(client, line, ret_text, ret_size, err);
}

int human_run(struct client *client, const char *line)
{
	struct err *err = NULL;
	char *text = NULL;
	size_t size = 0;
	int ret, status;

	ret = human_call(client, line, &text, &size, &err);
	if (ret && human_is_quit(line) && client_state(client) == CLIENT_OVER) {
		err_free(err);
		return 0;
	}
	if (ret)
		return print_err(err);
	status = print_human(text, size);
	free(text);
	return status;
}

int human_script(struct client *client)
{
	size_t room = 0;
	char *line = NULL;
	int status = 0;
	ssize_t size;

	while (client_state(client) != CLIENT_OVER && (size = getline(&line, &room, stdin)) >= 0) {
		while (size && (line[size - 1] == '\n' || line[size - 1] == '\r'))
			line[--size] = '\0';
		if (line[strspn(line, " \t")] && human_run(client, line))
			status = 1;
	}
	free(line);
	return status;
}

/* All of it, to a descriptor that may not take it at once. */
static int human_put(int fd, ssize_t (*some)(int fd, const void *buf, size_t size), const char *buf,
		     size_t size)
{
	struct pollfd pfd = {.fd = fd, .events = POLLOUT};
	ssize_t put;

	while (size) {
		put = some(fd, buf, size);
		if (put < 0 && errno == EAGAIN) {
			poll(&pfd, 1, -1);
			continue;
		}
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		buf += put;
		size -= (size_t)put;
	}
	return 0;
}

static ssize_t human_send_some(int fd, const void *buf, size_t size)
{
	return send(fd, buf, size, MSG_NOSIGNAL);
}

/* The same to the monitor, whose end is no signal. */
static int human_send(const struct client *client, const char *buf, size_t size, struct err **err)
{
	int ret = human_put(client_fd(client), human_send_some, buf, size);

	return ret ? err_set(err, -ret, "%s: the connection ended", client_name(client)) : 0;
}

/* One turn of copying. 1: it is over, -errno with *err: it ended badly. */
static int human_copy(struct client *client, struct pollfd fds[2], struct err **err)
{
	char buf[HUMAN_COPY_BYTES], *leave;
	ssize_t got;

	if (fds[0].revents) {
		got = read(STDIN_FILENO, buf, sizeof(buf));
		leave = got > 0 ? memchr(buf, HUMAN_LEAVE, (size_t)got) : NULL;
		if (leave)
			got = leave - buf;
		if (got > 0 && human_send(client, buf, (size_t)got, err))
			return -ECONNRESET;
		if (leave || got <= 0)
			return 1;
	}
	if (!fds[1].revents)
		return 0;
	got = recv(client_fd(client), buf, sizeof(buf), MSG_DONTWAIT);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got <= 0)
		return err_set(err, ECONNRESET, "%s: the connection ended", client_name(client));
	return human_put(STDOUT_FILENO, write, buf, (size_t)got) ? 1 : 0;
}

int human_terminal(struct client *client)
{
	struct pollfd fds[3] = {{.fd = STDIN_FILENO, .events = POLLIN},
				{.fd = client_fd(client), .events = POLLIN}};
	struct err *err = NULL;
	struct terminal *term;
	const char *text;
	size_t size;
	int ret;

	fprintf(stderr, "The monitor for people on %s: Ctrl-] leaves, quit ends the machine.\n",
		client_name(client));
	ret = terminal_open(true, &term, &err);
	if (ret)
		return print_err(err);
	text = client_text(client, &size);
	ret = human_put(STDOUT_FILENO, write, text, size) ? 1 : 0;
	fds[2] = (struct pollfd){.fd = terminal_signal_fd(term), .events = POLLIN};
	while (!ret) {
		if (poll(fds, 3, -1) < 0)
			continue;
		ret = fds[2].revents ? 1 : human_copy(client, fds, &err);
	}
	terminal_close(term);
	fputc('\n', stderr);
	return ret < 0 ? print_err(err) : 0;
}
