/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Lines of input. The interrupt only wakes the processor up; bytes are taken by lines_get(), until
 * the receiver is empty, so that the edge-triggered input fires again for the next one. A line ends as
 * programs end one, as the key of a terminal does, or with both.
 */
#include <stddef.h>

#include "acpi.h"
#include "apic.h"
#include "console.h"
#include "lines.h"
#include "text.h"
#include "trap.h"

static char lines_text[LINES_MAX];
static unsigned int lines_size;
static bool lines_after_return;

void lines_init(unsigned int vector)
{
	trap_set_handler(vector, NULL, NULL);
	apic_route_gsi(acpi_ioapic_gpa(), CONSOLE_GSI, vector, false);
	console_interrupt_on_input();
}

bool lines_get(char line[LINES_MAX])
{
	bool after_return;
	int c;

	while ((c = console_read()) >= 0) {
		after_return = lines_after_return;
		lines_after_return = c == '\r';
		if (c == '\n' && after_return)
			continue;
		if (c == '\n' || c == '\r') {
			lines_text[lines_size] = '\0';
			memcpy(line, lines_text, lines_size + 1);
			lines_size = 0;
			return true;
		}
		if (lines_size < LINES_MAX - 1)
			lines_text[lines_size++] = (char)c;
	}
	return false;
}
