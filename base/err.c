/* SPDX-License-Identifier: BSD-3-Clause */
/* Errors that a person reads: see err.h for the contract. */
#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct err {
	int code;
	char *message;
};

static const struct err err_out_of_memory = {ENOMEM, (char *)"out of memory"};

static char *err_format(const char *fmt, va_list ap)
{
	va_list again;
	char *text;
	int len;

	va_copy(again, ap);
	len = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (len < 0)
		return NULL;
	text = malloc((size_t)len + 1);
	if (text)
		vsnprintf(text, (size_t)len + 1, fmt, ap);
	return text;
}

int err_vset(struct err **err, int code, const char *fmt, va_list ap)
{
	struct err *e;

	if (!err)
		return -code;
	e = malloc(sizeof(*e));
	if (e) {
		e->code = code;
		e->message = err_format(fmt, ap);
		if (!e->message) {
			free(e);
			e = NULL;
		}
	}
	*err = e ? e : (struct err *)&err_out_of_memory;
	return -code;
}

int err_set(struct err **err, int code, const char *fmt, ...)
{
	va_list ap;
	int ret;

	va_start(ap, fmt);
	ret = err_vset(err, code, fmt, ap);
	va_end(ap);
	return ret;
}

int err_prefix(struct err **err, const char *fmt, ...)
{
	struct err *e;
	char *prefix, *joined;
	size_t size;
	va_list ap;

	if (!err || !*err)
		return -EINVAL;
	e = *err;
	if (e == &err_out_of_memory)
		return -ENOMEM;
	va_start(ap, fmt);
	prefix = err_format(fmt, ap);
	va_end(ap);
	if (!prefix)
		return -e->code;
	size = strlen(prefix) + 2 + strlen(e->message) + 1;
	joined = malloc(size);
	if (joined) {
		snprintf(joined, size, "%s: %s", prefix, e->message);
		free(e->message);
		e->message = joined;
	}
	free(prefix);
	return -e->code;
}

const char *err_message(const struct err *err)
{
	return err ? err->message : "no error";
}

int err_code(const struct err *err)
{
	return err ? err->code : 0;
}

void err_free(struct err *err)
{
	if (!err || err == &err_out_of_memory)
		return;
	free(err->message);
	free(err);
}
