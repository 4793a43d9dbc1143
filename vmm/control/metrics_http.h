/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * As much of HTTP as the endpoint for scrapers speaks (RFC 9112): the request line decides, header
 * fields are skipped, a body is not waited for.
 *
 * Threads: none. Clients control the bytes of a request.
 */
#ifndef VMM_CONTROL_METRICS_HTTP_H
#define VMM_CONTROL_METRICS_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#define METRICS_HEAD_MAX 256

/*
 * Look at what came so far. 0: the request's head is not complete; else the status of the answer:
 * 200 is for GET and HEAD (*ret_head_only) of /metrics, with or without a query.
 */
int metrics_http_parse(const char *request, size_t size, bool *ret_head_only);

/* The answer's head: @type NULL and @size 0 for answers without content. */
void metrics_http_head(char head[METRICS_HEAD_MAX], int status, const char *type, size_t size);

#endif
