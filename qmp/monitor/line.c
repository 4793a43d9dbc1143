/* SPDX-License-Identifier: BSD-3-Clause */
/* Line editing: see line.h for the contract. */
#include "qmp/monitor/line.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qmp/monitor/hmp.h"

#define HMP_HISTORY_LINES 64

#define CTRL(c) ((c)&0x1F)

enum hmp_line_state { LINE_TEXT, LINE_ESCAPE, LINE_CSI, LINE_SS3 };

struct hmp_line {
	const struct hmp_line_ops *ops;
	void *opaque;
	char *prompt;
	char buf[HMP_LINE_BYTES];
	size_t len, cursor;
	bool too_long;
	bool after_cr; /* a line feed that follows belongs to it */
	enum hmp_line_state state;
	unsigned int csi; /* first parameter */
	bool csi_more;    /* a second one began */
	char *killed;
	char *history[HMP_HISTORY_LINES]; /* oldest first */
	size_t history_count, history_at; /* at == count: the line being typed */
	char *typed;                      /* that line, while another is shown */
};

struct hmp_line *hmp_line_new(const char *prompt, const struct hmp_line_ops *ops, void *opaque)
{
	struct hmp_line *line = calloc(1, sizeof(*line));

	if (!line)
		return NULL;
	line->prompt = strdup(prompt);
	if (!line->prompt) {
		free(line);
		return NULL;
	}
	line->ops = ops;
	line->opaque = opaque;
	return line;
}

void hmp_line_free(struct hmp_line *line)
{
	size_t i;

	if (!line)
		return;
	for (i = 0; i < line->history_count; i++)
		free(line->history[i]);
	free(line->killed);
	free(line->typed);
	free(line->prompt);
	free(line);
}

static void line_write(struct hmp_line *line, const char *buf, size_t size)
{
	if (size)
		line->ops->write(line->opaque, buf, size);
}

static void line_puts(struct hmp_line *line, const char *text)
{
	line_write(line, text, strlen(text));
}

static bool line_is_continuation(char c)
{
	return ((unsigned char)c & 0xC0) == 0x80;
}

/* Columns that the bytes take: one a character. */
static size_t line_columns(const char *text, size_t size)
{
	size_t columns = 0, i;

	for (i = 0; i < size; i++)
		columns += !line_is_continuation(text[i]);
	return columns;
}

/* Move the terminal's cursor over the given text, to the left. */
static void line_left_over(struct hmp_line *line, const char *text, size_t size)
{
	size_t columns = line_columns(text, size);
	char move[32];

	if (!columns)
		return;
	snprintf(move, sizeof(move), "\033[%zuD", columns);
	line_puts(line, move);
}

static size_t line_prev(const struct hmp_line *line, size_t at)
{
	while (at && line_is_continuation(line->buf[--at]))
		;
	return at;
}

static size_t line_next(const struct hmp_line *line, size_t at)
{
	if (at < line->len)
		at++;
	while (at < line->len && line_is_continuation(line->buf[at]))
		at++;
	return at;
}

static size_t line_prev_word(const struct hmp_line *line, size_t at)
{
	while (at && isspace((unsigned char)line->buf[at - 1]))
		at--;
	while (at && !isspace((unsigned char)line->buf[at - 1]))
		at--;
	return at;
}

static size_t line_next_word(const struct hmp_line *line, size_t at)
{
	while (at < line->len && isspace((unsigned char)line->buf[at]))
		at++;
	while (at < line->len && !isspace((unsigned char)line->buf[at]))
		at++;
	return at;
}

static void line_move(struct hmp_line *line, size_t to)
{
	if (to < line->cursor)
		line_left_over(line, line->buf + to, line->cursor - to);
	else
		line_write(line, line->buf + line->cursor, to - line->cursor);
	line->cursor = to;
}

void hmp_line_insert(struct hmp_line *line, const char *text, size_t size)
{
	size_t tail = line->len - line->cursor;

	if (size >= HMP_LINE_BYTES - line->len) {
		if (!line->too_long)
			line_puts(line, "\a");
		line->too_long = true;
		return;
	}
	memmove(line->buf + line->cursor + size, line->buf + line->cursor, tail);
	memcpy(line->buf + line->cursor, text, size);
	line->len += size;
	line->cursor += size;
	line_write(line, text, size);
	if (tail) {
		line_write(line, line->buf + line->cursor, tail);
		line_left_over(line, line->buf + line->cursor, tail);
	}
}

static void line_remember(char **where, const char *text, size_t size)
{
	free(*where);
	*where = strndup(text, size);
}

/* Remove [from, to), which the cursor is in or next to, and leave the cursor there. */
static void line_remove(struct hmp_line *line, size_t from, size_t to, bool kill)
{
	size_t tail = line->len - to;

	if (from == to)
		return;
	if (kill)
		line_remember(&line->killed, line->buf + from, to - from);
	line_move(line, from);
	memmove(line->buf + from, line->buf + to, tail);
	line->len = from + tail;
	line_write(line, line->buf + from, tail);
	line_puts(line, "\033[K");
	line_left_over(line, line->buf + from, tail);
}

static void line_replace(struct hmp_line *line, const char *text)
{
	line_remove(line, 0, line->len, false);
	hmp_line_insert(line, text, strlen(text));
}

/* Show history line @at; the line being typed is kept for the way back. */
static void line_recall(struct hmp_line *line, size_t at)
{
	if (at > line->history_count || at == line->history_at)
		return;
	if (line->history_at == line->history_count)
		line_remember(&line->typed, line->buf, line->len);
	line->history_at = at;
	if (at < line->history_count)
		line_replace(line, line->history[at]);
	else
		line_replace(line, line->typed ? line->typed : "");
}

static void line_add_history(struct hmp_line *line)
{
	size_t count = line->history_count;
	char *copy;

	if (!line->len || (count && !strcmp(line->history[count - 1], line->buf)))
		return;
	copy = strdup(line->buf);
	if (!copy)
		return;
	if (count == HMP_HISTORY_LINES) {
		free(line->history[0]);
		memmove(line->history, line->history + 1, (count - 1) * sizeof(copy));
		count--;
	}
	line->history[count] = copy;
	line->history_count = count + 1;
}

void hmp_line_begin(struct hmp_line *line)
{
	line->len = 0;
	line->cursor = 0;
	line->too_long = false;
	line->history_at = line->history_count;
	line_puts(line, line->prompt);
}

void hmp_line_show(struct hmp_line *line)
{
	line_puts(line, line->prompt);
	line_write(line, line->buf, line->len);
	line_left_over(line, line->buf + line->cursor, line->len - line->cursor);
}

bool hmp_line_is_empty(const struct hmp_line *line)
{
	return !line->len;
}

static void line_enter(struct hmp_line *line)
{
	line_move(line, line->len);
	line_puts(line, "\r\n");
	line->buf[line->len] = '\0';
	if (line->too_long) {
		line->ops->enter(line->opaque, NULL);
		return;
	}
	line_add_history(line);
	line->ops->enter(line->opaque, line->buf);
}

static void line_complete(struct hmp_line *line)
{
	char text[HMP_LINE_BYTES];

	memcpy(text, line->buf, line->cursor);
	text[line->cursor] = '\0';
	line->ops->complete(line->opaque, text);
}

static void line_control(struct hmp_line *line, unsigned char byte)
{
	switch (byte) {
	case CTRL('a'):
		line_move(line, 0);
		break;
	case CTRL('b'):
		line_move(line, line_prev(line, line->cursor));
		break;
	case CTRL('c'):
		line_puts(line, "^C\r\n");
		hmp_line_begin(line);
		break;
	case CTRL('d'):
		line_remove(line, line->cursor, line_next(line, line->cursor), false);
		break;
	case CTRL('e'):
		line_move(line, line->len);
		break;
	case CTRL('f'):
		line_move(line, line_next(line, line->cursor));
		break;
	case CTRL('h'):
	case 0x7F:
		line_remove(line, line_prev(line, line->cursor), line->cursor, false);
		break;
	case '\t':
		line_complete(line);
		break;
	case CTRL('k'):
		line_remove(line, line->cursor, line->len, true);
		break;
	case CTRL('l'):
		line_puts(line, "\033[2J\033[H");
		hmp_line_show(line);
		break;
	case CTRL('n'):
		line_recall(line, line->history_at + 1);
		break;
	case CTRL('p'):
		line_recall(line, line->history_at - 1);
		break;
	case CTRL('u'):
		line_remove(line, 0, line->cursor, true);
		break;
	case CTRL('w'):
		line_remove(line, line_prev_word(line, line->cursor), line->cursor, true);
		break;
	case CTRL('y'):
		if (line->killed)
			hmp_line_insert(line, line->killed, strlen(line->killed));
		break;
	case 0x1B:
		line->state = LINE_ESCAPE;
		break;
	default:
		break;
	}
}

static void line_escape(struct hmp_line *line, unsigned char byte)
{
	line->state = LINE_TEXT;
	switch (byte) {
	case '[':
		line->state = LINE_CSI;
		line->csi = 0;
		line->csi_more = false;
		break;
	case 'O':
		line->state = LINE_SS3;
		break;
	case 0x1B:
		line->state = LINE_ESCAPE;
		break;
	case 'b':
		line_move(line, line_prev_word(line, line->cursor));
		break;
	case 'f':
		line_move(line, line_next_word(line, line->cursor));
		break;
	case 'd':
		line_remove(line, line->cursor, line_next_word(line, line->cursor), true);
		break;
	case CTRL('h'):
	case 0x7F:
		line_remove(line, line_prev_word(line, line->cursor), line->cursor, true);
		break;
	default:
		break;
	}
}

/* The final byte of an arrow or editing key. */
static void line_key(struct hmp_line *line, unsigned char byte)
{
	bool word = line->state == LINE_CSI && line->csi_more;

	switch (byte) {
	case 'A':
		line_control(line, CTRL('p'));
		break;
	case 'B':
		line_control(line, CTRL('n'));
		break;
	case 'C':
		line_move(line, word ? line_next_word(line, line->cursor)
				     : line_next(line, line->cursor));
		break;
	case 'D':
		line_move(line, word ? line_prev_word(line, line->cursor)
				     : line_prev(line, line->cursor));
		break;
	case 'H':
		line_move(line, 0);
		break;
	case 'F':
		line_move(line, line->len);
		break;
	case '~':
		if (line->csi == 1 || line->csi == 7)
			line_move(line, 0);
		else if (line->csi == 4 || line->csi == 8)
			line_move(line, line->len);
		else if (line->csi == 3)
			line_control(line, CTRL('d'));
		break;
	default:
		break;
	}
}

/* A control sequence: parameters, then one final byte. Anything else ends it. */
static void line_csi(struct hmp_line *line, unsigned char byte)
{
	if (byte >= '0' && byte <= '9') {
		if (!line->csi_more && line->csi < 1000)
			line->csi = line->csi * 10 + (byte - '0');
	} else if (byte == ';') {
		line->csi_more = true;
	} else if (byte < 0x20 || byte >= 0x40) {
		line_key(line, byte);
		line->state = LINE_TEXT;
	}
}

/* Bytes that no UTF-8 text holds are noise (telnet negotiation, a wrong line speed). */
static bool line_is_text(unsigned char byte)
{
	return byte >= 0x20 && byte != 0x7F && byte != 0xC0 && byte != 0xC1 && byte < 0xF5;
}

static void line_text(struct hmp_line *line, unsigned char byte)
{
	bool after_cr = line->after_cr;
	char c = (char)byte;

	line->after_cr = byte == '\r';
	if (byte == '\r' || (byte == '\n' && !after_cr))
		line_enter(line);
	else if (byte < 0x20 || byte == 0x7F)
		line_control(line, byte);
	else if (line_is_text(byte))
		hmp_line_insert(line, &c, 1);
}

void hmp_line_byte(struct hmp_line *line, unsigned char byte)
{
	/* Nothing may hold a line's end back, not even half an escape sequence. */
	if (byte == '\r' || byte == '\n')
		line->state = LINE_TEXT;
	switch (line->state) {
	case LINE_TEXT:
		line_text(line, byte);
		break;
	case LINE_ESCAPE:
		line_escape(line, byte);
		break;
	case LINE_CSI:
		line_csi(line, byte);
		break;
	case LINE_SS3:
		line_key(line, byte);
		line->state = LINE_TEXT;
		break;
	}
}
