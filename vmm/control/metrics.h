/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The endpoint for scrapers (-metrics PATH): HTTP on a Unix socket, GET /metrics, the answer in the
 * text format of metrics_text.h. As much of HTTP/1.0 and 1.1 as curl and collectors use: one
 * request a connection, which is closed behind the answer.
 *
 *	scraper --request--> metrics.c --held.h, on a thread of its own--> answer
 *
 * I1  Clients are bounded: METRICS_CLIENTS_MAX at a time, others wait in the socket's queue; a
 *     request of METRICS_REQUEST_BYTES at most; METRICS_CLIENT_MS from being taken out of the queue
 *     to having read the answer. Whoever is slower is dropped.
 * I2  The main loop never waits: not for clients, nor for counting memory. One count is under way
 *     at a time, whoever asks meanwhile shares its result; it takes little time (held.h, I1).
 * I3  Nothing a client sends changes anything, and what it sends beyond its request is not looked
 *     at.
 *
 * The socket is made with the rights of umask(2); a socket that nobody listens on any more is
 * replaced. Threads: the main loop's; counting on libuv's. Clients control: every byte of a
 * request, its pace, and when they read.
 */
#ifndef VMM_CONTROL_METRICS_H
#define VMM_CONTROL_METRICS_H

struct control;
struct err;

#define METRICS_CLIENTS_MAX   8u
#define METRICS_REQUEST_BYTES 8192u
#define METRICS_CLIENT_MS     5000u

/* No-op without -metrics. _done() also after a failure. */
int control_metrics_init(struct control *control, struct err **err);
/* Drops all clients and removes the socket. */
void control_metrics_done(struct control *control);

#endif
