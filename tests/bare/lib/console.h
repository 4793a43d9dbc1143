/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The console: the 16550 at COM1. Output is polled and goes out in bursts of the transmit FIFO;
 * input is taken by console_read(), with or without the receive interrupt.
 *
 * I1  A call of console_printf() appears as one piece whichever processors print at once.
 */
#ifndef BARE_CONSOLE_H
#define BARE_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONSOLE_PORT 0x3f8u
#define CONSOLE_GSI  4u

/* 115200 baud, 8N1, FIFOs on, no interrupts. Also after a test that used the port for itself. */
void console_init(void);
/* Ask for an interrupt when a byte came in. */
void console_interrupt_on_input(void);

/* Next byte of input, or -1 when there is none. */
int console_read(void);

/* %s %c %d %u %x with l, width and 0; %% */
void console_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
/*
 * The last words of a processor come next: an exception or an NMI may have met it while it was writing.
 * Whoever else writes has time enough to end.
 */
void console_seize(void);

#endif
