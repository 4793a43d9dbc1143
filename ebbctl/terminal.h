/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The terminal in raw mode, for as long as keys are read one by one.
 *
 * I1  Whatever ends the program in between by SIGINT, SIGTERM or SIGHUP is a readable descriptor
 *     instead, so that terminal_close() is reached.
 */
#ifndef EBBCTL_TERMINAL_H
#define EBBCTL_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>

struct err;
struct terminal;

/* Input becomes raw; so does output with @all, else it keeps its line ends. */
int terminal_open(bool all, struct terminal **ret_term, struct err **err);
/* As before. NULL is allowed. */
void terminal_close(struct terminal *term);
/* Readable: a signal asks for the end. */
int terminal_signal_fd(const struct terminal *term);
/* Columns of the terminal at stdout; 80 when it does not tell. */
size_t terminal_columns(void);

#endif
