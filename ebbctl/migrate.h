/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Moving a machine to another process, or saving it, and showing how it gets on.
 *
 * I1  The first interrupt (SIGINT) cancels the migration, whose end is waited for; the second leaves
 *     it.
 *
 * Threads: one. Exit statuses as main.c has them.
 */
#ifndef EBBCTL_MIGRATE_H
#define EBBCTL_MIGRATE_H

struct args;
struct client;

int migrate_run(struct client *client, const struct args *args);
/* To a file, named from the folder that we are in. */
int migrate_save(struct client *client, const struct args *args);

#endif
