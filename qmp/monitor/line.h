/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A line editor for one client: bytes in, echo out, lines to its owner.
 *
 * The keys are those of emacs and of a terminal's arrows. Text typed at the end of the line is
 * echoed as it is, so that a program which sends plain lines reads plain lines back; escape
 * sequences are written only for what such a program does not do.
 *
 * I1  The buffer always holds len < HMP_LINE_BYTES bytes, none of them a control character, and
 *     cursor <= len stands on the first byte of a character.
 * I2  A line that grew too long is handed over as NULL.
 *
 * Threads: none; the owner's.
 */
#ifndef QMP_MONITOR_LINE_H
#define QMP_MONITOR_LINE_H

#include <stdbool.h>
#include <stddef.h>

struct hmp_line;

struct hmp_line_ops {
	void (*write)(void *opaque, const char *buf, size_t size);
	/* Enter. The text may be used during the call. NULL: too long (I2). */
	void (*enter)(void *opaque, const char *text);
	/* Tab: @text up to the cursor. May call hmp_line_insert() and hmp_line_show(). */
	void (*complete)(void *opaque, const char *text);
};

/* NULL when memory is out. @prompt is copied. */
struct hmp_line *hmp_line_new(const char *prompt, const struct hmp_line_ops *ops, void *opaque);
void hmp_line_free(struct hmp_line *line);
void hmp_line_byte(struct hmp_line *line, unsigned char byte);
/* Start with an empty line: the prompt. */
void hmp_line_begin(struct hmp_line *line);
/* Prompt and line again, on the terminal's current row. */
void hmp_line_show(struct hmp_line *line);
/* Is nothing typed? */
bool hmp_line_is_empty(const struct hmp_line *line);
/* Type @text at the cursor. */
void hmp_line_insert(struct hmp_line *line, const char *text, size_t size);

#endif
