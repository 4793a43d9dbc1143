/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The monitors of a machine: what -mon and -monitor ask for, and the commands that they offer.
 *
 * Threads: the main loop's only.
 */
#ifndef VMM_CONTROL_CONTROL_H
#define VMM_CONTROL_CONTROL_H

struct control;
struct err;
struct vm;

/* Opens a monitor for each of the configuration's. @vm outlives it. NULL and *err on failure. */
struct control *control_new(struct vm *vm, struct err **err);
/* Ends all sessions. NULL is allowed. */
void control_free(struct control *control);

#endif
