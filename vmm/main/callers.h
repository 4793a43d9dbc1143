/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who started the process with a listening socket (-chardev socket,fd=N,server=on) means to connect to
 * it. If the process ends before that, the connection is refused, which tells nothing; if it is
 * connected first, it meets an end, and looks at what was said on standard error. So a start that
 * fails waits for it, for a moment.
 *
 * Threads: none; used before the first is made, and when a start failed.
 */
#ifndef VMM_MAIN_CALLERS_H
#define VMM_MAIN_CALLERS_H

#include <stddef.h>

#define CALLERS_MAX 8

struct callers {
	int fds[CALLERS_MAX]; /* of our own, for the same sockets */
	size_t nr;
};

/* Find the listening sockets that the process was started with. Cannot fail: what is not found is not
 * waited for. */
void callers_find(struct callers *callers);
/* Wait until there is a connection at each, a second at most, and forget them. */
void callers_wait(struct callers *callers);
/* Forget them: who holds the sockets otherwise decides how long they are there. */
void callers_forget(struct callers *callers);

#endif
