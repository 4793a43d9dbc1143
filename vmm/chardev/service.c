/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Connections of a chardev and the service round: see internal.h for how the work is divided.
 *
 * The heart is the service round (chr_service()): it runs on the loop after anything changed (a
 * write from any thread, room in a front-end, a port given up, a client gone) and looks at every
 * port and stream. Whoever changes something just wakes it.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/num.h"
#include "vmm/chardev/internal.h"
#include "vmm/core/loop.h"

uint64_t chr_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void chr_wake(struct chardev *chr)
{
	uv_async_send(&chr->wake);
}

/* The chardev's own stream: one front-end at a time, or a mux. */

static struct chr_port *chr_only_port(const struct chardev *chr)
{
	struct chr_port *port = chr->ports;

	while (port && (port->given_up || port->served))
		port = port->next;
	return port;
}

/* A background process that reads the terminal is stopped, and its machine with it. */
static bool chr_may_read(const struct chardev *chr)
{
	return !chr->term || chr_term_foreground(chr->term);
}

static size_t chr_stream_room(void *opaque)
{
	struct chardev *chr = opaque;
	struct chr_port *port = chr_only_port(chr);

	if (!chr_may_read(chr))
		return 0;
	if (chr->mux)
		return chr_mux_room(chr);
	return port ? chr_port_room(port) : 0;
}

static void chr_stream_input(void *opaque, const uint8_t *buf, size_t size)
{
	struct chardev *chr = opaque;
	struct chr_port *port = chr_only_port(chr);

	if (chr->mux)
		chr_mux_input(chr, buf, size);
	else if (port)
		port->ops->receive(port->opaque, buf, size);
}

/* Also on a file's writing thread. */
static size_t chr_stream_output(void *opaque, uint8_t *buf, size_t size)
{
	struct chardev *chr = opaque;
	struct chr_port *port;
	size_t filled = 0;

	pthread_mutex_lock(&chr->ports_lock);
	for (port = chr->ports; port && filled < size; port = port->next) {
		if (port->served || (port->ops->hold_unfocused && chr->mux && chr->focus != port))
			continue;
		filled += chr_port_pull(port, buf + filled, size - filled);
	}
	pthread_mutex_unlock(&chr->ports_lock);
	return filled;
}

static void chr_set_open(struct chardev *chr, bool open)
{
	struct chr_port *port;

	chr->open = open;
	for (port = chr->ports; port; port = port->next)
		if (!port->served)
			chr_port_set_open(port, open);
}

static void chr_stream_closed(void *opaque)
{
	struct chardev *chr = opaque;

	chr_stream_free(chr->stream);
	chr->stream = NULL;
	chr_set_open(chr, false);
	chr_wake(chr);
}

static void chr_stream_attended(void *opaque, bool attended)
{
	chr_set_open(opaque, attended);
	chr_wake(opaque);
}

static bool chr_port_busy(const struct chr_port *port)
{
	return !port->given_up && port->opened && port->ops->busy && port->ops->busy(port->opaque);
}

/* The port's from now on, or closed. */
static void chr_port_give_fd(struct chr_port *port, int fd)
{
	if (port->given_up || port->fd_count == CHR_PORT_FDS)
		close(fd);
	else
		port->fds[port->fd_count++] = fd;
}

static void chr_stream_descriptor(void *opaque, int fd)
{
	struct chardev *chr = opaque;
	struct chr_port *port = chr->mux ? NULL : chr_only_port(chr);

	if (port)
		chr_port_give_fd(port, fd);
	else
		close(fd);
}

static bool chr_stream_busy(void *opaque)
{
	const struct chardev *chr = opaque;
	const struct chr_port *port = chr->ports;

	while (port && (port->served || !chr_port_busy(port)))
		port = port->next;
	return port != NULL;
}

static const struct chr_stream_ops chr_own_ops = {
	.room = chr_stream_room,
	.busy = chr_stream_busy,
	.input = chr_stream_input,
	.output = chr_stream_output,
	.closed = chr_stream_closed,
	.attended = chr_stream_attended,
	.descriptor = chr_stream_descriptor,
};

/* A served client's stream. */

static size_t chr_client_room(void *opaque)
{
	struct chr_port *port = opaque;

	return chr_may_read(port->chr) ? chr_port_room(port) : 0;
}

static void chr_client_input(void *opaque, const uint8_t *buf, size_t size)
{
	struct chr_port *port = opaque;

	port->ops->receive(port->opaque, buf, size);
}

static size_t chr_client_output(void *opaque, uint8_t *buf, size_t size)
{
	return chr_port_pull(opaque, buf, size);
}

static bool chr_client_busy(void *opaque)
{
	return chr_port_busy(opaque);
}

static void chr_client_closed(void *opaque)
{
	struct chr_port *port = opaque;

	chr_stream_free(port->stream);
	port->stream = NULL;
	chr_port_set_open(port, false);
	chr_wake(port->chr);
}

static void chr_client_descriptor(void *opaque, int fd)
{
	chr_port_give_fd(opaque, fd);
}

static void chr_client_attended(void *opaque, bool attended)
{
	chr_port_set_open(opaque, attended);
	chr_wake(((struct chr_port *)opaque)->chr);
}

static const struct chr_stream_ops chr_client_ops = {
	.room = chr_client_room,
	.busy = chr_client_busy,
	.input = chr_client_input,
	.output = chr_client_output,
	.closed = chr_client_closed,
	.attended = chr_client_attended,
	.descriptor = chr_client_descriptor,
};

/* A new client of a serving front-end. On failure the descriptors are closed. */
void chr_client_add(struct chardev *chr, int in_fd, int out_fd)
{
	struct chr_port *port = chr_port_new(chr, chr->server->client, NULL);
	struct chr_stream_config config = {
		.in_fd = in_fd,
		.out_fd = out_fd,
		.half_close = chr->backend == CHR_STDIO,
		.hang_up = chr->backend == CHR_PTY,
		.ops = &chr_client_ops,
		.opaque = port,
	};

	if (!port) {
		close(in_fd);
		if (out_fd != in_fd)
			close(out_fd);
		return;
	}
	port->served = true;
	port->stream = chr_stream_new(chr->loop, &config, NULL);
	if (port->stream) {
		chr_port_connect(port);
		port->opaque = chr->server->client_new(chr->server_opaque, port);
	}
	if (!port->opaque)
		port->given_up = true;
	chr_wake(chr);
}

/* A connection for a single front-end. */
int chr_stream_add(struct chardev *chr, int in_fd, int out_fd, struct err **err)
{
	struct chr_stream_config config = {
		.in_fd = in_fd,
		.out_fd = out_fd,
		.half_close = chr->backend == CHR_STDIO || chr->backend == CHR_FILE,
		.hang_up = chr->backend == CHR_PTY,
		.ops = &chr_own_ops,
		.opaque = chr,
	};
	struct chr_port *port;

	chr->stream = chr_stream_new(chr->loop, &config, err);
	if (!chr->stream)
		return -EIO;
	chr->open = true;
	for (port = chr->ports; port; port = port->next)
		chr_port_connect(port);
	chr_wake(chr);
	return 0;
}

static void chr_connection(struct chardev *chr, int in_fd, int out_fd)
{
	if (chr->server)
		chr_client_add(chr, in_fd, out_fd);
	else
		chr_stream_add(chr, in_fd, out_fd, NULL);
}

static unsigned int chr_client_count(const struct chardev *chr)
{
	const struct chr_port *port;
	unsigned int count = 0;

	for (port = chr->ports; port; port = port->next)
		count += port->served;
	return count;
}

/* Whether a further connection would be taken. */
static bool chr_wants_client(const struct chardev *chr)
{
	if (!chr->started || chr_now_ms() < chr->accept_after_ms)
		return false;
	return chr->server ? chr_client_count(chr) < CHR_CLIENTS_MAX : !chr->stream;
}

/* A client that cannot be taken (there are no descriptors left) is asked for again a little later. */
static void chr_listen_ready(uv_poll_t *poll, int status, int events)
{
	struct chardev *chr = poll->data;
	int fd;

	(void)status;
	(void)events;
	if (!chr_wants_client(chr))
		return;
	fd = chr_socket_accept(&chr->socket);
	if (fd >= 0)
		chr_connection(chr, fd, fd);
	else if (fd != -EAGAIN)
		chr->accept_after_ms = chr_now_ms() + CHR_ACCEPT_MS;
	chr_wake(chr);
}

static void chr_listen_arm(struct chardev *chr)
{
	bool wanted;

	if (chr->backend != CHR_SOCKET || !chr->socket.server)
		return;
	wanted = chr_wants_client(chr);
	if (wanted == chr->listening)
		return;
	chr->listening = wanted;
	if (wanted)
		uv_poll_start(&chr->listen_poll, UV_READABLE, chr_listen_ready);
	else
		uv_poll_stop(&chr->listen_poll);
}

static void chr_timer_fired(uv_timer_t *timer);

static void chr_timer_arm(struct chardev *chr, uint64_t delay_ms)
{
	if (!uv_is_active((uv_handle_t *)&chr->timer) ||
	    uv_timer_get_due_in(&chr->timer) > delay_ms)
		uv_timer_start(&chr->timer, chr_timer_fired, delay_ms, 0);
}

static void chr_connect_closed(uv_handle_t *handle)
{
	struct chardev *chr = handle->data;
	int fd = chr->connect_fd;

	chr->connect_poll.data = NULL;
	chr->connect_fd = -1;
	if (fd >= 0 && (chr->freed || !chr->started)) {
		close(fd);
	} else if (fd >= 0) {
		chr_connection(chr, fd, fd);
	}
	chr_handle_closed(chr);
}

void chr_close_connect(struct chardev *chr)
{
	if (chr->connect_poll.data && !uv_is_closing((uv_handle_t *)&chr->connect_poll))
		uv_close((uv_handle_t *)&chr->connect_poll, chr_connect_closed);
}

/*
 * A reconnection succeeded or failed: the handle goes, the descriptor goes on if it is connected.
 */
static void chr_connect_ready(uv_poll_t *poll, int status, int events)
{
	struct chardev *chr = poll->data;
	int fd = chr->connect_fd, error = 0;
	socklen_t size = sizeof(error);

	(void)status;
	(void)events;
	uv_close((uv_handle_t *)poll, chr_connect_closed);
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) || error) {
		close(fd);
		chr->connect_fd = -1;
		chr_timer_arm(chr, (uint64_t)chr->reconnect_s * 1000);
	}
}

static void chr_reconnect(struct chardev *chr)
{
	int fd = chr_socket_connect(&chr->socket);

	if (fd >= 0 && uv_poll_init(loop_uv(chr->loop), &chr->connect_poll, fd)) {
		close(fd);
		fd = -1;
	}
	if (fd < 0) {
		chr_timer_arm(chr, (uint64_t)chr->reconnect_s * 1000);
		return;
	}
	chr->connect_fd = fd;
	chr->connect_poll.data = chr;
	chr->handles++;
	uv_poll_start(&chr->connect_poll, UV_WRITABLE, chr_connect_ready);
}

static bool chr_wants_connection(const struct chardev *chr)
{
	return chr->backend == CHR_SOCKET && !chr->socket.server && chr->reconnect_s &&
	       chr->started && !chr->stream && !chr_client_count(chr) && chr->connect_fd < 0;
}

static void chr_service(struct chardev *chr);

static void chr_timer_fired(uv_timer_t *timer)
{
	struct chardev *chr = timer->data;

	if (chr_wants_connection(chr) && chr->connect_poll.data == NULL)
		chr_reconnect(chr);
	chr_service(chr);
}

/* Whether a port that was given up has nothing more to send, or no time left for it. */
static bool chr_port_finished(struct chr_port *port)
{
	struct chr_stream *stream = port->served ? port->stream : port->chr->stream;

	if (!port->given_up)
		return false;
	if (!stream || (port->served && chr_now_ms() >= port->linger_until_ms))
		return true;
	return chr_port_empty(port) && (!port->served || chr_stream_idle(stream));
}

void chr_ports_sweep(struct chardev *chr, bool all)
{
	struct chr_port **at = &chr->ports, *port;

	while ((port = *at)) {
		if (all || chr_port_finished(port)) {
			pthread_mutex_lock(&chr->ports_lock);
			*at = port->next;
			pthread_mutex_unlock(&chr->ports_lock);
			chr_port_destroy(port);
		} else {
			at = &port->next;
		}
	}
}

static void chr_service_port(struct chr_port *port)
{
	struct chardev *chr = port->chr;

	if (!port->given_up && (port->served ? port->stream != NULL : chr->open))
		if (!port->opened)
			chr_port_set_open(port, true);
	if (port->stream)
		chr_stream_kick(port->stream);
	if (chr->mux)
		chr_mux_deliver(port);
	chr_port_service(port);
}

/* Started in the background, or brought back to the foreground by a shell that told nobody. */
static void chr_service_terminal(struct chardev *chr)
{
	if (!chr->term)
		return;
	if (!chr_term_foreground(chr->term)) {
		chr->raw = false;
		chr_timer_arm(chr, CHR_FOREGROUND_MS);
	} else if (!chr->raw) {
		chr->raw = chr_term_raw(chr->term);
	}
}

static void chr_service(struct chardev *chr)
{
	struct chr_port *port;
	uint64_t now_ms;

	chr_service_terminal(chr);
	for (port = chr->ports; port; port = port->next)
		chr_service_port(port);
	if (chr->stream)
		chr_stream_kick(chr->stream);
	chr_log_service(chr->log);
	chr_ports_sweep(chr, false);
	for (port = chr->ports; port; port = port->next)
		if (port->given_up && port->served)
			chr_timer_arm(chr, CHR_LINGER_MS);
	/* Before the look at the listener: one of the two sees that the time has come. */
	now_ms = chr_now_ms();
	chr_listen_arm(chr);
	if (chr->accept_after_ms > now_ms)
		chr_timer_arm(chr, chr->accept_after_ms - now_ms);
	if (chr_wants_connection(chr))
		chr_timer_arm(chr, (uint64_t)chr->reconnect_s * 1000);
}

/* The wake handle's callback. */
void chr_woken(uv_async_t *wake)
{
	chr_service(wake->data);
}

/* pty: the slave was opened or closed. */
void chr_watch_ready(uv_poll_t *poll, int status, int events)
{
	struct chardev *chr = poll->data;
	char buf[4096];

	(void)status;
	(void)events;
	while (read(chr->watch_fd, buf, sizeof(buf)) > 0)
		;
	chr_service(chr);
}

/* Ctrl-Z: leave the terminal as it was found, stop, come back. */
void chr_stop_signal(uv_signal_t *handle, int signum)
{
	struct chardev *chr = handle->data;

	(void)signum;
	chr_term_restore(chr->term);
	raise(SIGSTOP);
	chr->raw = chr_term_raw(chr->term);
	chr_wake(chr);
}

void chr_cont_signal(uv_signal_t *handle, int signum)
{
	struct chardev *chr = handle->data;

	(void)signum;
	chr->raw = chr_term_raw(chr->term);
	chr_wake(chr);
}
