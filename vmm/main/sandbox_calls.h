/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The lists of -sandbox: names of system calls in groups, and rules about arguments. Between
 * sandbox.c, which makes a filter of them, and sandbox_calls.c, which has them.
 *
 * I1  A name that the library does not know (a newer call, another processor's) is left out.
 * I2  A call is in several groups only where they want the same of it, or where one is about some
 *     arguments and the other about different ones.
 */
#ifndef VMM_MAIN_SANDBOX_CALLS_H
#define VMM_MAIN_SANDBOX_CALLS_H

#include <stdint.h>

/* Lists of names end with NULL. "NAME:NUMBER" is a call that libraries of today do not all know. */
extern const char *const sandbox_calls_own[];      /* what ebb and its libraries call */
extern const char *const sandbox_calls_programs[]; /* what commands of a migration call besides */
extern const char *const sandbox_calls_absent[];   /* answered as by a kernel without them */
extern const char *const sandbox_calls_never[];    /* end the process in any case */
/* What the words of the option are about. */
extern const char *const sandbox_calls_obsolete[];
extern const char *const sandbox_calls_elevate[];
extern const char *const sandbox_calls_spawn[];
extern const char *const sandbox_calls_resource[];
/* Of a build with sanitizers; empty otherwise. */
extern const char *const sandbox_calls_sanitizer[];

/* @call is let through when its argument @arg, masked, is @value. */
struct sandbox_rule {
	const char *call; /* NULL at the end of a list */
	unsigned int arg;
	uint64_t mask, value;
};

extern const struct sandbox_rule sandbox_rules[];
/* A clone that makes a thread; one that makes a thread or a process. */
extern const struct sandbox_rule sandbox_rule_thread, sandbox_rule_process;
/* In place of rules for programs: any argument is let through. */
extern const char *const sandbox_calls_program_args[];

#define SANDBOX_ANY (-1)

/* A socket is let through with this family, type and protocol. */
struct sandbox_socket {
	int family, type, protocol;
};

extern const struct sandbox_socket sandbox_sockets[];
extern const unsigned int sandbox_nr_sockets;

#endif
