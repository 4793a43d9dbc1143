/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Human monitor on a chardev: one session per client.
 *
 * I1  A client that leaves more than 1 MiB of output unread is disconnected.
 *
 * Threads: the main loop's only.
 */
#ifndef VMM_CHARDEV_MONITOR_H
#define VMM_CHARDEV_MONITOR_H

struct chardev;
struct chr_monitor;
struct err;
struct hmp;

/* @hmp and @chr outlive it. On a mux the monitor is one of its front-ends. */
struct chr_monitor *chr_monitor_new(struct chardev *chr, struct hmp *hmp, struct err **err);
/* Ends all sessions. NULL is allowed. */
void chr_monitor_free(struct chr_monitor *monitor);

#endif
