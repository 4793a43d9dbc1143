/* SPDX-License-Identifier: BSD-3-Clause */
/* Messages to whoever started the program: see report.h. */
#include "vmm/vm/report.h"

#include <stdio.h>
#include <time.h>

#include "vmm/cmdline/config.h"

/* Long enough for any sentence with a path in it; a longer one is cut. */
#define REPORT_BYTES 8192

void report(const struct vm_config *config, const char *fmt, ...)
{
	char when[64] = "", text[REPORT_BYTES];
	const char *name = "";
	struct timespec now;
	struct tm tm;
	va_list ap;

	if (config && config->msg_timestamp && !clock_gettime(CLOCK_REALTIME, &now) &&
	    gmtime_r(&now.tv_sec, &tm)) {
		size_t len = strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);

		snprintf(when + len, sizeof(when) - len, ".%06ldZ ", now.tv_nsec / 1000);
	}
	if (config && config->msg_guest_name && config->name)
		name = config->name;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "%s%s%sebb: %s\n", when, name, *name ? " " : "", text);
}
