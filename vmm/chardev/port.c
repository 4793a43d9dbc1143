/* SPDX-License-Identifier: BSD-3-Clause */
/* Front-ends' ends of chardevs: see chardev.h and internal.h for the contract. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "vmm/chardev/internal.h"

struct chr_port *chr_port_new(struct chardev *chr, const struct chr_ops *ops, void *opaque)
{
	struct chr_port *port = calloc(1, sizeof(*port)), **at = &chr->ports;

	if (!port)
		return NULL;
	port->chr = chr;
	port->ops = ops;
	port->opaque = opaque;
	pthread_mutex_init(&port->lock, NULL);
	chr_ring_init(&port->out,
		      ops->out_limit_bytes ? ops->out_limit_bytes : CHR_OUT_LIMIT_BYTES);
	while (*at)
		at = &(*at)->next;
	pthread_mutex_lock(&chr->ports_lock);
	*at = port;
	pthread_mutex_unlock(&chr->ports_lock);
	return port;
}

/* What nobody took. */
static void chr_port_close_fds(struct chr_port *port)
{
	while (port->fd_count)
		close(port->fds[--port->fd_count]);
}

/* The port is off the list. */
void chr_port_destroy(struct chr_port *port)
{
	chr_stream_free(port->stream);
	chr_port_close_fds(port);
	chr_ring_done(&port->out);
	pthread_mutex_destroy(&port->lock);
	free(port);
}

void chr_port_event(struct chr_port *port, enum chr_event event)
{
	if (!port->given_up && port->ops->event)
		port->ops->event(port->opaque, event);
}

void chr_port_connect(struct chr_port *port)
{
	pthread_mutex_lock(&port->lock);
	port->connected = true;
	pthread_mutex_unlock(&port->lock);
}

void chr_port_set_open(struct chr_port *port, bool open)
{
	pthread_mutex_lock(&port->lock);
	port->connected = open;
	if (!open)
		chr_ring_clear(&port->out);
	pthread_mutex_unlock(&port->lock);
	if (!open)
		chr_port_close_fds(port);
	if (port->opened == open)
		return;
	port->opened = open;
	chr_port_event(port, open ? CHR_OPENED : CHR_CLOSED);
	/* A write that was refused succeeds now that its bytes are dropped. */
	chr_wake(port->chr);
}

/* What the front-end takes; nothing before it knows that the other end is open. */
size_t chr_port_room(struct chr_port *port)
{
	return port->given_up || !port->opened ? 0 : port->ops->can_receive(port->opaque);
}

/* With the lock held. */
static bool chr_port_writable_due(const struct chr_port *port)
{
	if (chr_log_is_full(port->chr->log))
		return false;
	return (port->refused && (!port->connected || port->out.count < port->out.limit)) ||
	       (port->awaited && (!port->connected || port->out.count <= port->await_bytes));
}

size_t chr_port_pull(struct chr_port *port, uint8_t *buf, size_t size)
{
	bool due;
	size_t n;

	pthread_mutex_lock(&port->lock);
	n = chr_ring_pull(&port->out, buf, size);
	due = n && chr_port_writable_due(port);
	pthread_mutex_unlock(&port->lock);
	if (due)
		chr_wake(port->chr);
	return n;
}

bool chr_port_empty(struct chr_port *port)
{
	bool empty;

	pthread_mutex_lock(&port->lock);
	empty = !port->out.count;
	pthread_mutex_unlock(&port->lock);
	return empty;
}

void chr_port_service(struct chr_port *port)
{
	bool due;

	pthread_mutex_lock(&port->lock);
	due = chr_port_writable_due(port);
	if (due)
		port->refused = port->awaited = false;
	pthread_mutex_unlock(&port->lock);
	if (due && !port->given_up && port->ops->writable)
		port->ops->writable(port->opaque);
}

size_t chr_port_write(struct chr_port *port, const void *buf, size_t size)
{
	size_t taken = size;
	bool connected;

	if (!size)
		return 0;
	pthread_mutex_lock(&port->lock);
	connected = port->connected;
	if (connected)
		taken = num_min(size, port->out.limit - port->out.count);
	taken = chr_log_put(port->chr->log, buf, taken);
	if (connected)
		taken = chr_ring_push(&port->out, buf, taken);
	port->refused |= taken < size;
	pthread_mutex_unlock(&port->lock);
	if (connected || port->chr->log)
		chr_wake(port->chr);
	return taken;
}

bool chr_port_drained(struct chr_port *port, size_t size)
{
	bool drained;

	pthread_mutex_lock(&port->lock);
	drained = !port->connected || port->out.count <= size;
	port->awaited = !drained;
	port->await_bytes = size;
	pthread_mutex_unlock(&port->lock);
	return drained;
}

void chr_port_resume(struct chr_port *port)
{
	chr_wake(port->chr);
}

int chr_port_take_fd(struct chr_port *port)
{
	int fd;

	if (!port->fd_count)
		return -1;
	fd = port->fds[0];
	port->fd_count--;
	memmove(port->fds, port->fds + 1, port->fd_count * sizeof(fd));
	return fd;
}

void chr_port_focus(struct chr_port *port)
{
	if (port->chr->mux)
		chr_mux_set_focus(port->chr, port);
}

/* The rest, sending what is left and freeing, is the service round's. */
void chr_port_close(struct chr_port *port)
{
	struct chardev *chr;
	struct chr_port *other;

	if (!port || port->given_up)
		return;
	chr = port->chr;
	port->given_up = true;
	port->linger_until_ms = chr_now_ms() + CHR_LINGER_MS;
	if (chr->focus == port) {
		chr_mux_set_focus(chr, NULL);
		for (other = chr->ports; other && other->given_up; other = other->next)
			;
		if (other)
			chr_mux_set_focus(chr, other);
	}
	chr_wake(chr);
}
