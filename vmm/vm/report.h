/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Messages to whoever started the program, on standard error: one line each, "ebb: ..." with the
 * time (ISO 8601, UTC) and the guest's name in front where -msg asks for them.
 *
 * I1  What a guest can cause to be said goes through report_guest(), which never waits: a reader that
 *     does not read (a pipe that is full, a stopped terminal) makes no guest stop the monitor.
 *
 * Threads: any; a line is written at once.
 */
#ifndef VMM_VM_REPORT_H
#define VMM_VM_REPORT_H

#include <stdarg.h>
#include <stdbool.h>

struct vm_config;

/* No newline in @fmt. @config may be NULL: neither time nor name then. */
__attribute__((format(printf, 2, 3))) void report(const struct vm_config *config, const char *fmt,
						  ...);

/* The same, but the line is dropped, with false, where it cannot be written at once. */
__attribute__((format(printf, 2, 3))) bool report_guest(const struct vm_config *config,
							const char *fmt, ...);

#endif
