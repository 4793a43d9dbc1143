/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Resizing: one memory device, or the whole machine (a node), as a job of the monitor.
 *
 * Threads: one. Exit statuses as main.c has them.
 */
#ifndef EBBCTL_RESIZE_H
#define EBBCTL_RESIZE_H

struct args;
struct client;

int resize_device(struct client *client, const struct args *args);
int resize_all(struct client *client, const struct args *args);

#endif
