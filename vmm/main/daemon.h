/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Going into the background, and the file with the process id.
 *
 * Threads: none; daemon_start() is called before the first thread is made.
 */
#ifndef VMM_MAIN_DAEMON_H
#define VMM_MAIN_DAEMON_H

struct err;

/*
 * Fork; the child goes on in its own session, the parent waits for daemon_ready() and exits with
 * status 0, or with 1 when the child ended before. *ret_fd is for daemon_ready().
 */
int daemon_start(int *ret_fd, struct err **err);
/* Everything is set up: let go of the terminal and let the parent exit. */
int daemon_ready(int fd, struct err **err);

/*
 * Write the process id into @path and keep the file locked as long as the process lives; a file
 * that another living process holds is an error.
 */
int daemon_pidfile(const char *path, struct err **err);

#endif
