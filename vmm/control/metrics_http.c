/* SPDX-License-Identifier: BSD-3-Clause */
/* Requests and answers of the endpoint for scrapers: see metrics_http.h for the contract. */
#include "vmm/control/metrics_http.h"

#include <stdio.h>
#include <string.h>

/* Is the head complete, that is, is there an empty line? Lines may end in LF alone. */
static bool http_is_complete(const char *request, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (request[i] != '\n')
			continue;
		if (i + 1 < size && request[i + 1] == '\n')
			return true;
		if (i + 2 < size && request[i + 1] == '\r' && request[i + 2] == '\n')
			return true;
	}
	return false;
}

struct http_word {
	const char *at;
	size_t size;
};

/* The next word of [*at, end), which a blank or the end follows. */
static struct http_word http_next(const char **at, const char *end)
{
	struct http_word word = {*at, 0};

	while (word.at + word.size < end && word.at[word.size] != ' ')
		word.size++;
	*at = word.at + word.size + (word.at + word.size < end);
	return word;
}

static bool http_is(struct http_word word, const char *text)
{
	return word.size == strlen(text) && !memcmp(word.at, text, word.size);
}

int metrics_http_parse(const char *request, size_t size, bool *ret_head_only)
{
	const char *at = request, *end = memchr(request, '\n', size), *query;
	struct http_word method, target, version;

	if (!end || !http_is_complete(request, size))
		return 0;
	if (end > request && end[-1] == '\r')
		end--;
	method = http_next(&at, end);
	target = http_next(&at, end);
	version = http_next(&at, end);
	if (at != end || !method.size || !target.size ||
	    memchr(request, 0, (size_t)(end - request)))
		return 400;
	if (!http_is(version, "HTTP/1.1") && !http_is(version, "HTTP/1.0"))
		return version.size ? 505 : 400;
	*ret_head_only = http_is(method, "HEAD");
	if (!*ret_head_only && !http_is(method, "GET"))
		return 405;
	query = memchr(target.at, '?', target.size);
	if (query)
		target.size = (size_t)(query - target.at);
	return http_is(target, "/metrics") ? 200 : 404;
}

static const char *http_reason(int status)
{
	switch (status) {
	case 200:
		return "OK";
	case 400:
		return "Bad Request";
	case 404:
		return "Not Found";
	case 405:
		return "Method Not Allowed";
	case 431:
		return "Request Header Fields Too Large";
	case 503:
		return "Service Unavailable";
	default:
		return "HTTP Version Not Supported";
	}
}

void metrics_http_head(char head[METRICS_HEAD_MAX], int status, const char *type, size_t size)
{
	snprintf(head, METRICS_HEAD_MAX,
		 "HTTP/1.1 %d %s\r\n%s%s%s%sContent-Length: %zu\r\nConnection: close\r\n\r\n",
		 status, http_reason(status), type ? "Content-Type: " : "", type ? type : "",
		 type ? "\r\n" : "", status == 405 ? "Allow: GET, HEAD\r\n" : "", size);
}
