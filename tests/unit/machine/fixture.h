/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A machine without a VM: a layout and guest memory for it, files made from bytes, and a check of
 * error sentences.
 */
#ifndef TESTS_UNIT_MACHINE_FIXTURE_H
#define TESTS_UNIT_MACHINE_FIXTURE_H

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include "base/num.h"
#include "vmm/core/gm.h"
#include "vmm/machine/layout.h"

struct fixture {
	struct machine_layout *layout;
	struct gm *gm;
	void *low, *high; /* host memory of the RAM below and above 4 GiB */
};

/* One node, no device memory, 40 bits. The memory is not backed before it is used. */
struct fixture *fixture_new(uint64_t ram_bytes);
struct fixture *fixture_new_layout(struct machine_layout *layout);
void fixture_free(struct fixture *fixture);

uint64_t fixture_read(const struct fixture *fixture, uint64_t gpa, unsigned int size);

/* A file without a name, with these bytes; the caller closes it. */
int file_new(const void *bytes, size_t size);

/* The call failed with this code, and its sentence has both parts in it. Frees the error. */
void assert_refused(int ret, int code, struct err *err, const char *part, const char *other_part);

#endif
