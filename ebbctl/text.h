/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Text from the other end of a connection, made fit for a terminal; sizes and times for people.
 *
 * I1  What text_clean() gives holds no control character, no invalid UTF-8, nothing that changes
 *     the direction of writing; line feeds and tabs only with TEXT_LINES. So no byte that somebody
 *     else chose does anything to a terminal but be shown. What is left out is shown as \xNN or
 *     \uNNNN.
 * I2  Without utf8 it is plain ASCII.
 *
 * Threads: any, but the locale must have been set.
 */
#ifndef EBBCTL_TEXT_H
#define EBBCTL_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TEXT_LINES 1u /* keep line feeds and tabs; a CR before a line feed is dropped */

#define TEXT_SIZE_MAX 32

/* Does the terminal of this locale take UTF-8? */
bool text_locale_utf8(void);

/*
 * The character at @text, of which @size > 0 bytes are there: how many bytes it takes. 1 and
 * *ret_char = UINT32_MAX where no valid UTF-8 begins.
 */
size_t text_next(const char *text, size_t size, uint32_t *ret_char);
/* May this character be given to a terminal as it is? */
bool text_is_plain(uint32_t c);

/* A new string (I1, I2); NULL when memory is out. */
char *text_clean(const char *text, size_t size, bool utf8, unsigned int flags);
/* The same for a JSON text: what is not plain becomes the escape that JSON has for it. */
char *text_clean_json(const char *json, size_t size);

/* Take a terminal's escape sequences out of @text, in place; the new size. */
size_t text_strip_escapes(char *text, size_t size);

/* Columns that a clean text takes; and as much of it as fits: how many bytes. */
size_t text_columns(const char *clean);
size_t text_fit(const char *clean, size_t columns);

/* "1.5 GiB": two digits after the point at most, cut. Returns @buf. */
const char *text_size(uint64_t bytes, char buf[TEXT_SIZE_MAX]);
/* "45 s", "2 min 5 s", "3 h 20 min". Returns @buf. */
const char *text_seconds(uint64_t seconds, char buf[TEXT_SIZE_MAX]);

#endif
