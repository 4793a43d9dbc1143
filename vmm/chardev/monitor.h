/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Monitors on a chardev, for people (qmp/monitor/hmp.h) and for programs (qmp/qmp.h): one session
 * per client.
 *
 * I1  A client that leaves more than 4 MiB of output unread is disconnected. A program that asks
 *     faster than it reads does not come to that: its commands wait.
 *
 * Threads: the main loop's only.
 */
#ifndef VMM_CHARDEV_MONITOR_H
#define VMM_CHARDEV_MONITOR_H

#include <stdbool.h>

struct chardev;
struct chr_monitor;
struct err;
struct hmp;
struct qmp;

/* @hmp and @chr outlive it. On a mux the monitor is one of its front-ends. */
struct chr_monitor *chr_monitor_new(struct chardev *chr, struct hmp *hmp, struct err **err);
/* The same for programs. @pretty: messages are laid out over several lines. */
struct chr_monitor *chr_monitor_new_control(struct chardev *chr, struct qmp *qmp, bool pretty,
					    struct err **err);
/* Ends all sessions. NULL is allowed. */
void chr_monitor_free(struct chr_monitor *monitor);

#endif
