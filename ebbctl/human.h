/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Commands as people type them: through human-monitor-command of the monitor for programs, or to a
 * monitor for people, whose terminal one can also be.
 *
 * I1  Only human_terminal() gives bytes of the other end to the terminal as they are: that
 *     protocol's line editing is the server's.
 * I2  An answer is at most CLIENT_MESSAGE_BYTES.
 */
#ifndef EBBCTL_HUMAN_H
#define EBBCTL_HUMAN_H

#include <stdbool.h>
#include <stddef.h>

struct client;
struct err;

/*
 * The words as one line; each of several words stays one for the monitor. A new string, NULL when
 * memory is out.
 */
char *human_line(char *const *words, size_t nr);

/* Does this line end the machine, and with it the connection? */
bool human_is_quit(const char *line);

/* Run a line: what it printed, a new string of *ret_size bytes. */
int human_call(struct client *client, const char *line, char **ret_text, size_t *ret_size,
	       struct err **err);
/* Run a line and print its answer. Exit status. */
int human_run(struct client *client, const char *line);
/* Run the lines of stdin, to its end. Exit status: 1 when one of them failed. */
int human_script(struct client *client);

/* Be the terminal of a monitor for people, until it ends or Ctrl-] is typed. Exit status. */
int human_terminal(struct client *client);

#endif
