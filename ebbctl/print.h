/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What people and scripts read: answers on stdout, errors on stderr, clean (text.h).
 *
 * I1  A line is written in one piece.
 * I2  Where stdout does not take what is written, print_flush() tells, once for all before.
 */
#ifndef EBBCTL_PRINT_H
#define EBBCTL_PRINT_H

#include <jansson.h>

struct err;

/* "ebbctl: sentence". Frees @err. Returns 1, an exit status. */
int print_err(struct err *err);
/* 0, or 1 after an error of stdout's was told. */
int print_flush(void);

/* In several lines, as people read it. 0 or 1. */
int print_json(const json_t *value);

/*
 * What the monitor for people printed: to stdout, but for lines that are errors, which go to stderr
 * and make the status 1.
 */
int print_human(const char *text, size_t size);

/* An event in one line, "2026-11-23 05:31:02.123456 NAME key=value ...", a new string; or NULL. */
char *print_event_line(const char *name, const json_t *event);

#endif
