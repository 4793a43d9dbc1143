/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Results. Each check prints one line, "PASS name" or "FAIL name: why"; the guest ends with
 * "DONE passed=N failed=N". A test prints nothing else that starts with these words.
 */
#ifndef BARE_CHECK_H
#define BARE_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "console.h"

/* Like console_printf() of the reason, when @ok is false. Gives @ok. */
#define check(ok, name, ...)                         \
	({                                           \
		bool check_ok = (ok);                \
		check_result(check_ok, name);        \
		if (!check_ok) {                     \
			console_printf(__VA_ARGS__); \
			console_printf("\n");        \
		}                                    \
		check_ok;                            \
	})

/* Equality of two numbers; on failure both are printed. */
#define check_equal(is, should, name)                                                        \
	({                                                                                   \
		uint64_t check_is = (is), check_should = (should);                           \
		check(check_is == check_should, name, "is 0x%lx, should be 0x%lx", check_is, \
		      check_should);                                                         \
	})

/* Prints "PASS name\n", or "FAIL name: " and leaves the rest of the line to the caller. */
void check_result(bool ok, const char *name);
void check_done(void);

#endif
