/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One command of the monitor for programs, from words: a whole request as JSON, or a name with
 * KEY=VALUE pairs. A value that is JSON is taken as that, anything else is a string.
 */
#ifndef EBBCTL_REQUEST_H
#define EBBCTL_REQUEST_H

#include <jansson.h>
#include <stddef.h>

struct client;
struct err;

/* *ret_request is a new reference. */
int request_parse(char *const *words, size_t nr, json_t **ret_request, struct err **err);
/* Run it and print what it gives. Exit status. */
int request_run(struct client *client, json_t *request);

#endif
