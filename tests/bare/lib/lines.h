/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Lines of input from the console, through its receive interrupt.
 */
#ifndef BARE_LINES_H
#define BARE_LINES_H

#include <stdbool.h>

#define LINES_MAX 128u

/* Route the console's interrupt to @vector of this processor. */
void lines_init(unsigned int vector);
/*
 * A whole line without its end, if there is one. Takes what came in so far; to be called with
 * interrupts off, in turn with cpu_sleep().
 */
bool lines_get(char line[LINES_MAX]);

#endif
