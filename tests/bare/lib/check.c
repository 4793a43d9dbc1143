/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Results: two counters, changed by the boot processor only.
 */
#include "check.h"

static unsigned int check_passed, check_failed;

void check_result(bool ok, const char *name)
{
	if (ok) {
		check_passed++;
		console_printf("PASS %s\n", name);
	} else {
		check_failed++;
		console_printf("FAIL %s: ", name);
	}
}

void check_done(void)
{
	console_printf("DONE passed=%u failed=%u\n", check_passed, check_failed);
}
