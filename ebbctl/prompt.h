/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A prompt of one's own on the monitor for programs: lines are edited here and run there as
 * people's commands, Tab offers what there is, events are shown between lines.
 *
 * I1  One command runs at a time; what is typed meanwhile waits, at most PROMPT_AHEAD_BYTES.
 * I2  What comes from the monitor is shown clean (text.h).
 */
#ifndef EBBCTL_PROMPT_H
#define EBBCTL_PROMPT_H

struct client;

#define PROMPT_AHEAD_BYTES 4096

/* Until Ctrl-D, "exit", or the end of the connection. Exit status. */
int prompt_run(struct client *client);

#endif
