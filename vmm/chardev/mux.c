/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Several front-ends on one terminal: Ctrl-A and a letter switch and command.
 *
 * What is typed goes into the focused port's `in` first and from there to the front-end as it takes
 * it, so that Ctrl-A works while a guest does not read.
 */
#include <string.h>

#include "base/num.h"
#include "vmm/chardev/internal.h"

#define CHR_ESCAPE 0x01 /* Ctrl-A */

static const char chr_mux_help[] = "\r\n"
				   "Ctrl-A h  print this help\r\n"
				   "Ctrl-A c  switch between console and monitor\r\n"
				   "Ctrl-A x  quit\r\n"
				   "Ctrl-A b  send a break\r\n"
				   "Ctrl-A Ctrl-A  send Ctrl-A\r\n";

void chr_mux_set_focus(struct chardev *chr, struct chr_port *port)
{
	struct chr_port *old = chr->focus;

	if (old == port)
		return;
	pthread_mutex_lock(&chr->ports_lock);
	chr->focus = port;
	pthread_mutex_unlock(&chr->ports_lock);
	if (old)
		chr_port_event(old, CHR_FOCUS_OUT);
	if (port)
		chr_port_event(port, CHR_FOCUS_IN);
	chr_wake(chr);
}

size_t chr_mux_room(struct chardev *chr)
{
	return chr->focus ? CHR_MUX_BYTES - chr->focus->in_count : 0;
}

static void chr_mux_next(struct chardev *chr)
{
	struct chr_port *port = chr->focus;

	do {
		port = port->next ? port->next : chr->ports;
	} while (port->given_up);
	chr_mux_set_focus(chr, port);
}

/* The focused port has room: at most one byte comes out of each that went in. */
static void chr_mux_put(struct chardev *chr, uint8_t byte)
{
	struct chr_port *port = chr->focus;

	if (port && port->in_count < CHR_MUX_BYTES)
		port->in[port->in_count++] = byte;
}

static void chr_mux_command(struct chardev *chr, uint8_t byte)
{
	static const char bye[] = "\r\nebb: terminated\r\n";

	switch (byte) {
	case 'h':
	case '?':
		chr_port_write(chr->focus, chr_mux_help, sizeof(chr_mux_help) - 1);
		break;
	case 'c':
		chr_mux_next(chr);
		break;
	case 'x':
		chr_port_write(chr->focus, bye, sizeof(bye) - 1);
		if (chr->quit)
			chr->quit(chr->opaque);
		break;
	case 'b':
		chr_port_event(chr->focus, CHR_BREAK);
		break;
	case CHR_ESCAPE:
		chr_mux_put(chr, byte);
		break;
	default:
		break;
	}
}

void chr_mux_input(struct chardev *chr, const uint8_t *buf, size_t size)
{
	size_t i;

	for (i = 0; i < size && chr->focus; i++) {
		if (chr->escape) {
			chr->escape = false;
			chr_mux_command(chr, buf[i]);
		} else if (buf[i] == CHR_ESCAPE) {
			chr->escape = true;
		} else {
			chr_mux_put(chr, buf[i]);
		}
	}
	if (chr->focus)
		chr_mux_deliver(chr->focus);
}

void chr_mux_deliver(struct chr_port *port)
{
	uint8_t chunk[CHR_MUX_BYTES];
	size_t room;

	while (port->in_count && (room = chr_port_room(port)) > 0) {
		room = num_min(room, port->in_count);
		memcpy(chunk, port->in, room);
		port->in_count -= room;
		memmove(port->in, port->in + room, port->in_count);
		port->ops->receive(port->opaque, chunk, room);
	}
}
