/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the parts of a chardev share: chardev.c (opening, closing), service.c (connections, the
 * service round), port.c (front-ends' ends), mux.c (Ctrl-A).
 *
 * I6  The list of ports changes at its tail (chr_port_new()) and in chr_ports_sweep(), which only
 *     the service round and chardev_free() call: no callback sees a port vanish under it.
 * I7  A port's `out`, `connected`, `refused`, `awaited` and `await_bytes` are guarded by its lock, which is a leaf: nothing
 *     is called with it held but the log, whose lock is within it.
 * I8  The list's links and `focus` are changed on the loop's thread with ports_lock held, so that a
 *     file's writing thread may walk them under it; the loop's thread reads them without.
 */
#ifndef VMM_CHARDEV_INTERNAL_H
#define VMM_CHARDEV_INTERNAL_H

#include <pthread.h>
#include <uv.h>

#include "vmm/chardev/chardev.h"
#include "vmm/chardev/log.h"
#include "vmm/chardev/open.h"
#include "vmm/chardev/ring.h"
#include "vmm/chardev/stream.h"
#include "vmm/chardev/term.h"

#define CHR_PORT_FDS 16
/* Typed ahead on a mux while the front-end takes nothing. */
#define CHR_MUX_BYTES 1024
/* How often a background process looks whether it has the terminal now; no signal tells. */
#define CHR_FOREGROUND_MS 1000
/* Until a client that could not be taken is tried again. */
#define CHR_ACCEPT_MS     100
#define CHR_LINGER_MS     1000
#define CHR_FREE_DRAIN_MS 500

struct chr_port {
	struct chardev *chr;
	struct chr_port *next;
	const struct chr_ops *ops;
	void *opaque;
	struct chr_stream *stream; /* a served client's own; else NULL */
	bool served;
	bool given_up; /* by the front-end: no callbacks any more */
	bool opened;   /* CHR_OPENED was delivered, and no CHR_CLOSED since */
	uint64_t linger_until_ms;
	int fds[CHR_PORT_FDS];
	unsigned int fd_count;
	uint8_t in[CHR_MUX_BYTES];
	size_t in_count;

	pthread_mutex_t lock;
	struct chr_ring out;
	bool connected;
	bool refused; /* a write was cut short: writable() is due */
	bool awaited; /* writable() is due when no more than this waits: */
	size_t await_bytes;
};

struct chardev {
	struct loop *loop;
	enum chr_backend backend;
	char *id;
	bool mux, signal;
	unsigned int reconnect_s;
	void (*note)(void *opaque, const char *line);
	void (*quit)(void *opaque);
	void *opaque;

	/* libuv's handles; the chardev goes when all are closed */
	uv_async_t wake;
	uv_timer_t timer; /* reconnecting, lingering */
	uv_signal_t stop_signal, cont_signal;
	uv_poll_t listen_poll, connect_poll, watch_poll;
	int handles;
	bool listening; /* listen_poll is armed */
	uint64_t accept_after_ms;
	bool has_signals;
	bool freed;

	bool started; /* a front-end came: the stream exists or is waited for */
	bool open;    /* somebody is at the stream's other end */
	struct chr_stream *stream;
	struct chr_socket socket;
	struct chr_term *term; /* stdio */
	bool raw;              /* the terminal is in raw mode, as far as we know */
	int in_fd, out_fd;     /* stdio, file, pty: before they become the stream */
	int connect_fd;        /* a connection in progress */
	int watch_fd;          /* pty: inotify */
	char *pty_path;
	struct chr_log *log; /* NULL: none; the same from chardev_new() to chardev_free() */

	const struct chr_server_ops *server;
	void *server_opaque;
	pthread_mutex_t ports_lock;
	struct chr_port *ports;
	struct chr_port *focus; /* mux */
	bool escape;            /* mux: Ctrl-A was typed */
};

/* chardev.c: one of libuv's handles is closed; the last one frees the chardev. */
void chr_handle_closed(struct chardev *chr);

/* service.c */
uint64_t chr_now_ms(void);
/* Have a service round run soon. Any thread. */
void chr_wake(struct chardev *chr);
/* A connection for a single front-end (or mux), for a serving one. The descriptors are taken. */
int chr_stream_add(struct chardev *chr, int in_fd, int out_fd, struct err **err);
void chr_client_add(struct chardev *chr, int in_fd, int out_fd);
/* End a reconnection that is under way. */
void chr_close_connect(struct chardev *chr);
/* Free the ports that are finished with, or all. */
void chr_ports_sweep(struct chardev *chr, bool all);
/* Callbacks of the handles that chardev.c opens. */
void chr_woken(uv_async_t *wake);
void chr_watch_ready(uv_poll_t *poll, int status, int events);
void chr_stop_signal(uv_signal_t *handle, int signum);
void chr_cont_signal(uv_signal_t *handle, int signum);

/* port.c */
struct chr_port *chr_port_new(struct chardev *chr, const struct chr_ops *ops, void *opaque);
void chr_port_destroy(struct chr_port *port);
/* Tell the front-end, if there is one. */
void chr_port_event(struct chr_port *port, enum chr_event event);
/* Somebody is (nobody is) at the other end: lets output in (drops it), tells the front-end. */
void chr_port_set_open(struct chr_port *port, bool open);
/* The other end exists: take output, without telling the front-end yet. */
void chr_port_connect(struct chr_port *port);
size_t chr_port_room(struct chr_port *port);
size_t chr_port_pull(struct chr_port *port, uint8_t *buf, size_t size);
bool chr_port_empty(struct chr_port *port);
/* writable(), if it is due. */
void chr_port_service(struct chr_port *port);

/* mux.c */
void chr_mux_set_focus(struct chardev *chr, struct chr_port *port);
size_t chr_mux_room(struct chardev *chr);
void chr_mux_input(struct chardev *chr, const uint8_t *buf, size_t size);
/* Hand over what was typed ahead. */
void chr_mux_deliver(struct chr_port *port);

#endif
