/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The monitors of a machine: what -mon, -monitor and -qmp ask for, and the commands that they offer.
 *
 * I1  Whatever the machine tells of itself (vm_set_event_hook()) is told to all programs.
 *
 * Threads: the main loop's only.
 */
#ifndef VMM_CONTROL_CONTROL_H
#define VMM_CONTROL_CONTROL_H

struct control;
struct err;
struct loop;
struct migration;
struct vm;

/*
 * Opens a monitor for each of the configuration's. @vm, its @migration and @main, its loop, outlive it.
 * NULL and *err on failure.
 */
struct control *control_new(struct vm *vm, struct migration *migration, struct loop *main,
			    struct err **err);
/* Ends all sessions. NULL is allowed. */
void control_free(struct control *control);

#endif
