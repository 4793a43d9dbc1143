/* SPDX-License-Identifier: BSD-3-Clause */
/* Output: see print.h for the contract. */
#include "ebbctl/print.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/num.h"
#include "ebbctl/text.h"

int print_err(struct err *err)
{
	const char *text = err ? err_message(err) : "it failed";
	char *clean = text_clean(text, strlen(text), text_locale_utf8(), 0);

	fflush(stdout);
	fprintf(stderr, "ebbctl: %s\n", clean ? clean : "out of memory");
	free(clean);
	err_free(err);
	return 1;
}

int print_flush(void)
{
	struct err *err = NULL;

	errno = 0;
	if (!fflush(stdout) && !ferror(stdout))
		return 0;
	err_set(&err, EIO, "the output cannot be written: %s", strerror(errno ? errno : EIO));
	return print_err(err);
}

int print_json(const json_t *value)
{
	char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY);
	char *clean = text ? text_clean_json(text, strlen(text)) : NULL;
	struct err *err = NULL;

	free(text);
	if (!clean) {
		err_set(&err, ENOMEM, "out of memory");
		return print_err(err);
	}
	puts(clean);
	free(clean);
	return print_flush();
}

static bool print_begins(const char *line, const char *with)
{
	return !strncmp(line, with, strlen(with));
}

/* Is this line, of a whole clean @text, one that tells of an error? */
static bool print_is_error(const char *line, const char *next)
{
	return print_begins(line, "Error: ") || print_begins(line, "unknown command: ") ||
	       print_begins(line, "the line is ") || (next && print_begins(next, "Try \"help "));
}

int print_human(const char *text, size_t size)
{
	char *clean = text_clean(text, size, text_locale_utf8(), TEXT_LINES), *line = clean, *next;
	struct err *err = NULL;
	int status = 0;

	if (!clean) {
		err_set(&err, ENOMEM, "out of memory");
		return print_err(err);
	}
	for (; line && *line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (print_begins(line, "Try \"help ")) {
			fprintf(stderr, "%s\n", line);
		} else if (print_is_error(line, next)) {
			status = 1;
			err_set(&err, EREMOTEIO, "%s",
				print_begins(line, "Error: ") ? line + strlen("Error: ") : line);
			print_err(err);
			err = NULL;
		} else {
			printf("%s\n", line);
		}
	}
	free(clean);
	return print_flush() ? 1 : status;
}

/* A value behind "key=": plain words as they are, everything else as JSON. */
static void print_event_value(FILE *out, const json_t *value)
{
	const char *text = json_string_value(value);
	char *json, *clean = NULL;

	if (text && *text && !strpbrk(text, " \"=\\{}[],")) {
		clean = text_clean(text, strlen(text), text_locale_utf8(), 0);
	} else {
		json = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT |
						 (text_locale_utf8() ? 0 : JSON_ENSURE_ASCII));
		clean = json ? text_clean_json(json, strlen(json)) : NULL;
		free(json);
	}
	fputs(clean ? clean : "?", out);
	free(clean);
}

static void print_event_time(FILE *out, const json_t *event)
{
	const json_t *stamp = json_object_get(event, "timestamp");
	json_int_t us = json_integer_value(json_object_get(stamp, "microseconds"));
	time_t seconds = json_integer_value(json_object_get(stamp, "seconds"));
	char text[64];
	struct tm tm;

	if (seconds > 0 && us >= 0 && us < 1000000 && localtime_r(&seconds, &tm) &&
	    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm))
		fprintf(out, "%s.%06u ", text, (unsigned int)us);
	else
		fputs("(at no time) ", out);
}

char *print_event_line(const char *name, const json_t *event)
{
	char *clean = text_clean(name, strlen(name), text_locale_utf8(), 0), *line = NULL;
	const json_t *value;
	const char *key;
	size_t size;
	FILE *out = open_memstream(&line, &size);

	if (!out || !clean) {
		free(clean);
		if (out)
			fclose(out);
		free(line);
		return NULL;
	}
	print_event_time(out, event);
	fputs(clean, out);
	free(clean);
	json_object_foreach (json_object_get(event, "data"), key, value) {
		clean = text_clean(key, strlen(key), text_locale_utf8(), 0);
		fprintf(out, " %s=", clean ? clean : "?");
		free(clean);
		print_event_value(out, value);
	}
	if (fclose(out)) {
		free(line);
		return NULL;
	}
	return line;
}
