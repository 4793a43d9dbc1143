/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Errors that a person reads.
 *
 * A call that a person triggers (an option, a command, a file) takes `struct err **err` as its last
 * argument and, on failure, stores one sentence there: the thing, what is wrong with it, what is
 * allowed. The function's own result stays 0 or -errno, so that code can decide and people can read.
 *
 * I1  A callee stores into *err only when it fails, and exactly once.
 * I2  A caller that passes NULL wants no sentence; nothing is allocated then.
 * I3  Nothing here fails: when memory is out, *err becomes a static "out of memory" object.
 *
 * Ownership: the caller owns *err and ends it with err_free().
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdarg.h>

struct err;

/*
 * Store a sentence (no trailing newline, no "Error:") and return -code, so that callers may write
 * `return err_set(err, EINVAL, "...")`. @code is a positive errno value.
 */
__attribute__((format(printf, 3, 4))) int err_set(struct err **err, int code, const char *fmt, ...);
__attribute__((format(printf, 3, 0))) int err_vset(struct err **err, int code, const char *fmt,
						   va_list ap);

/* Put "<fmt>: " in front of the sentence in *err (no-op without one). Returns -code of *err. */
__attribute__((format(printf, 2, 3))) int err_prefix(struct err **err, const char *fmt, ...);

/* The sentence; valid until err_free(). Never NULL. */
const char *err_message(const struct err *err);

/* The positive errno value given to err_set(). */
int err_code(const struct err *err);

/* Accepts NULL. */
void err_free(struct err *err);

#endif
