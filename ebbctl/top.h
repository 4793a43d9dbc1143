/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A live view of the memory devices of machines: a screen on a terminal, lines for logs elsewhere.
 *
 * I1  The terminal is as before when this returns, whatever ended it.
 */
#ifndef EBBCTL_TOP_H
#define EBBCTL_TOP_H

struct args;

/* Exit status. */
int top_run(const struct args *args);

#endif
