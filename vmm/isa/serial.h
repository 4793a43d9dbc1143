/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * 16550A serial port (National Semiconductor PC16550D) on the port I/O bus.
 *
 * I1  The interrupt line is high exactly while an enabled interrupt condition is pending.
 * I2  A byte that the guest wrote to THR while LSR.THRE was set is never lost: with the chardev's
 *     buffer full it waits in the 16-byte transmit FIFO, and THRE stays clear until there is room.
 * I3  No input is read from the chardev that the receive FIFO has no room for; an overrun can only
 *     come from loopback or from a guest that writes on while THRE is clear.
 *
 * I4  While it is paused nothing goes in or out at the chardev.
 *
 * Timing: bytes leave at once; the receiver's time-out interrupt, which gathers characters on a
 * real line, is raised at once when the FIFO holds less than its trigger level.
 * Threads: a mutex of its own; bus handlers on vCPU threads, chardev callbacks on the main loop.
 * The guest controls every register.
 */
#ifndef VMM_SERIAL_H
#define VMM_SERIAL_H

#include <stdint.h>

struct bus;
struct chardev;
struct err;
struct hv;
struct pack;
struct serial;
struct unpack;

/*
 * Registers at [port, port + 8). @chr NULL is a port with nothing plugged in: output is dropped.
 * It is paused until serial_resume().
 */
struct serial *serial_new(struct hv *hv, struct bus *pio, uint16_t port, uint32_t gsi,
			  struct chardev *chr, struct err **err);
/* On the main loop's thread. NULL is allowed. */
void serial_free(struct serial *serial);
/* Power-on state. Bytes not yet sent go out if the chardev has room, else they are lost. */
void serial_reset(struct serial *serial);
/* Give this port the keyboard of a muxed chardev. */
void serial_focus(struct serial *serial);

/*
 * The machine stops: no byte goes in or out until serial_resume(), so that what is saved is sent by
 * one machine and read by one. A port starts paused.
 */
void serial_pause(struct serial *serial);
void serial_resume(struct serial *serial);

/*
 * Registers and both FIFOs, while paused. Loading is for a port that no guest has used: -EINVAL and
 * a sentence for what cannot be. An interrupt condition drives the line at once.
 */
#define SERIAL_STATE_VERSION 1u
void serial_save(struct serial *serial, struct pack *out);
int serial_load(struct serial *serial, uint32_t version, struct unpack *in, struct err **err);

#endif
