/* SPDX-License-Identifier: BSD-3-Clause */
/* What the ISA tests share: a hypervisor that is an array of lines, and port accesses. */
#ifndef TESTS_ISA_TEST_H
#define TESTS_ISA_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "vmm/core/bus.h"
#include "vmm/core/hv.h"

#define TEST_LINES 32

struct test_hv {
	struct hv hv;
	bool level[TEST_LINES];
	int edges[TEST_LINES]; /* rising */
};

static inline void test_line_set(struct hv *hv, uint32_t gsi, bool level)
{
	struct test_hv *t = (struct test_hv *)hv;

	assert_true(gsi < TEST_LINES);
	if (level && !t->level[gsi])
		__atomic_add_fetch(&t->edges[gsi], 1, __ATOMIC_RELAXED);
	__atomic_store_n(&t->level[gsi], level, __ATOMIC_RELAXED);
}

static const struct hv_ops test_hv_ops = {.line_set = test_line_set};

static inline uint8_t in8(struct bus *pio, uint64_t port)
{
	uint64_t value;

	bus_read(pio, port, 1, &value);
	return (uint8_t)value;
}

static inline void out8(struct bus *pio, uint64_t port, uint8_t value)
{
	bus_write(pio, port, 1, value);
}

#endif
