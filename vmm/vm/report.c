/* SPDX-License-Identifier: BSD-3-Clause */
/* Messages to whoever started the program: see report.h. */
#include "vmm/vm/report.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "vmm/cmdline/config.h"

/* Long enough for any sentence with a path in it; a longer one is cut. */
#define REPORT_BYTES 8192
/* A pipe that is writable at all takes as much without waiting. */
#define REPORT_GUEST_BYTES PIPE_BUF

/* The whole line to @line; returns its length. */
__attribute__((format(printf, 4, 0))) static size_t
report_line(const struct vm_config *config, char *line, size_t size, const char *fmt, va_list ap)
{
	const char *name = "";
	struct timespec now;
	size_t len = 0;
	struct tm tm;

	if (config && config->msg_timestamp && !clock_gettime(CLOCK_REALTIME, &now) &&
	    gmtime_r(&now.tv_sec, &tm)) {
		len = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &tm);
		len += (size_t)snprintf(line + len, size - len, ".%06ldZ ", now.tv_nsec / 1000);
	}
	if (config && config->msg_guest_name && config->name)
		name = config->name;
	/* Half of the line for a name, however long it is. */
	len += (size_t)snprintf(line + len, size - len, "%.*s%sebb: ", (int)(size / 2), name,
				*name ? " " : "");
	vsnprintf(line + len, size - len - 1, fmt, ap);
	len = strlen(line);
	line[len++] = '\n';
	return len;
}

static void report_write(const char *line, size_t len)
{
	while (len) {
		ssize_t n = write(STDERR_FILENO, line, len);

		if (n < 0 && errno != EINTR)
			return;
		line += n < 0 ? 0 : n;
		len -= n < 0 ? 0 : (size_t)n;
	}
}

void report(const struct vm_config *config, const char *fmt, ...)
{
	char line[REPORT_BYTES];
	size_t len;
	va_list ap;

	va_start(ap, fmt);
	len = report_line(config, line, sizeof(line), fmt, ap);
	va_end(ap);
	report_write(line, len);
}

bool report_guest(const struct vm_config *config, const char *fmt, ...)
{
	struct pollfd errors = {.fd = STDERR_FILENO, .events = POLLOUT};
	char line[REPORT_GUEST_BYTES];
	size_t len;
	va_list ap;

	if (poll(&errors, 1, 0) != 1 || !(errors.revents & POLLOUT))
		return false;
	va_start(ap, fmt);
	len = report_line(config, line, sizeof(line), fmt, ap);
	va_end(ap);
	report_write(line, len);
	return true;
}
