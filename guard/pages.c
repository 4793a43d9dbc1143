/* SPDX-License-Identifier: BSD-3-Clause */
/* What the kinds of pages share: see pages.h. */
#include "guard/pages.h"

#include <stdarg.h>
#include <stdio.h>

int pages_error(struct vmem_error *error, int code, const char *format, ...)
{
	va_list args;

	if (error) {
		va_start(args, format);
		vsnprintf(error->text, sizeof(error->text), format, args);
		va_end(args);
	}
	return -code;
}
